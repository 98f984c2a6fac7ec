//! Numbers as Python reads and spells them.

/// The decimal text of a whole number that Python's `int()` would read from `text`: sign, surrounding white space and single
/// underscores between digits are allowed. Without leading zeros, `-` only before what is not zero. `None` if it is none.
pub(super) fn int(text: &[u8]) -> Option<String> {
    let (negative, digits) = match trim(text) {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some(match (digits, negative) {
        ("", _) => "0".to_owned(),
        (digits, true) => format!("-{digits}"),
        (digits, false) => digits.to_owned(),
    })
}

/// The number that Python's `float()` would read from `text`. `None` if it is none.
pub(super) fn float(text: &[u8]) -> Option<f64> {
    // Both read the same words for infinity and for what is no number, in any case.
    without_underscores(trim(text))?.parse().ok()
}

/// Python's `repr()` of a float: the fewest digits that give the same number back, an exponent of at least two digits where it
/// is below -4 or above 15, else a decimal point.
pub(super) fn repr(float: f64) -> String {
    if !float.is_finite() {
        let word = if float.is_nan() { "nan" } else { "inf" };
        return if float < 0.0 { format!("-{word}") } else { word.to_owned() };
    }
    // Nearly all are times, whose exponent need not be asked for.
    if float == 0.0 || (1e-4..1e16).contains(&float.abs()) {
        let plain = float.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Seconds since 1970 as a float; the one that is nearest.
pub(super) fn seconds(unix_ns: i64) -> f64 {
    const NS: i64 = 1_000_000_000;
    // Both parts are exact, or nearly: their sum is rounded once. Dividing all nanoseconds would round twice.
    #[expect(clippy::cast_precision_loss, reason = "seconds of 292 years around 1970 are exact")]
    let (whole, rest) = (unix_ns.div_euclid(NS) as f64, unix_ns.rem_euclid(NS) as f64);
    whole + rest / 1e9
}

/// The nearest nanosecond since 1970; the first or last that there is for a float outside, 1970 for what is no number.
pub(super) fn nanoseconds(seconds: f64) -> i64 {
    let whole = seconds.floor();
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, as it should")]
    let (whole_ns, rest) =
        ((whole as i64).saturating_mul(1_000_000_000), ((seconds - whole) * 1e9).round() as i64);
    whole_ns.saturating_add(rest)
}

/// White space of ASCII. Python takes Unicode's too, which nobody writes.
fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// `text` without single underscores between digits; `None` if one stands elsewhere, or it is not ASCII.
fn without_underscores(text: &[u8]) -> Option<String> {
    let is_digit = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_digit);
    let mut kept = String::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'_' if is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)) => {}
            b'_' | 0x80.. => return None,
            _ => kept.push(char::from(byte)),
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ints_are_read_as_python_reads_them() {
        for (text, read) in [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            (" +12 ", "12"),
            ("1_000", "1000"),
            ("-123456789012345678901234567890", "-123456789012345678901234567890"),
        ] {
            assert_eq!(int(text.as_bytes()).as_deref(), Some(read), "{text}");
        }
        for bad in ["", "-", "1__0", "_1", "1_", "1.0", "0x1", "- 1", "\u{0661}"] {
            assert_eq!(int(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn floats_are_spelled_as_python_spells_them() {
        for (float, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (946681200.5, "946681200.5"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(repr(float), text);
        }
        for bad in ["", "1e", "0x1p3", "1_.0", "one"] {
            assert_eq!(float(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(float(b" 1_0.5e1 "), Some(105.0));
    }

    proptest! {
        #[test]
        fn floats_survive(bits: u64) {
            let before = f64::from_bits(bits);
            let after = float(repr(before).as_bytes()).unwrap();
            prop_assert!(after.to_bits() == bits || (before.is_nan() && after.is_nan()));
        }

        #[test]
        fn any_text_is_read_or_not(text: Vec<u8>) {
            let _ = (int(&text), float(&text)); // only that it does not panic
        }

        #[test]
        fn clocks_survive(unix_ns in 0i64..4_000_000_000_000_000_000) {
            // What a clock gives, as a float, is found again by way of whole nanoseconds.
            let float = seconds(unix_ns);
            prop_assert_eq!(seconds(nanoseconds(float)), float);
            prop_assert!((nanoseconds(float) - unix_ns).abs() < 512);
        }

        #[test]
        fn no_float_is_too_far(bits: u64) {
            let _ = nanoseconds(f64::from_bits(bits));
        }
    }
}
