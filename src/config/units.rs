//! Quantities as people write them: `500ms`, `10s`, `2m`; `64k`, `1MiB`; `12`. What is none is told with one that would do.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with a number.
    #[error("{what} was expected, such as {example}")]
    NoNumber {
        /// What it should be, with the article.
        what: &'static str,
        /// A text that would do.
        example: &'static str,
    },
    /// The unit is missing or unknown.
    #[error("the unit must be one of {known}, as in {example}")]
    Unit {
        /// The units that are known.
        known: &'static str,
        /// A text that would do.
        example: &'static str,
    },
    /// It is a number outside of what is possible.
    #[error("{what} from {least} to {most} was expected, such as {example}")]
    OutOfRange {
        /// What it should be, with the article.
        what: &'static str,
        /// The least that is accepted.
        least: u64,
        /// The largest.
        most: u64,
        /// A text that would do.
        example: &'static str,
    },
    /// The quantity is larger than anything sensible.
    #[error("at most {most} is possible")]
    TooLarge {
        /// The largest that is accepted.
        most: &'static str,
    },
    /// It is zero, where that would mean that nothing works.
    #[error("it must be more than zero")]
    Zero,
}

/// Reads a duration: a decimal number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// If the text has another shape, or means more than a year.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text, "a time", "10s")?;
    let second = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(UnitError::Unit { known: "ms, s, m, h, d", example: "10s" }),
    };
    // A year: far beyond use, and far below where adding to a clock could overflow.
    let seconds = number * second;
    if seconds > 366.0 * 86_400.0 {
        return Err(UnitError::TooLarge { most: "366d" });
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| UnitError::TooLarge { most: "366d" })
}

/// Reads a duration that is not zero.
///
/// # Errors
/// As [`parse_duration`], or if it is zero.
pub fn parse_positive_duration(text: &str) -> Result<Duration, UnitError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(UnitError::Zero),
        duration => Ok(duration),
    }
}

/// Reads a size in bytes: a decimal number and nothing, `B`, `k`, `M`, `G` (powers of 1000) or `Ki`, `Mi`, `Gi`
/// (powers of 1024), each with or without `B`. Letters may be of either case.
///
/// # Errors
/// If the text has another shape, or means more than a pebibyte.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text, "a size in bytes", "64k")?;
    let unit = unit.to_ascii_lowercase();
    let factor: u32 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return Err(UnitError::Unit { known: "B, k, M, G, Ki, Mi, Gi", example: "64k" }),
    };
    // Up to 2^50 a double holds each whole number, and any file that one machine can keep is smaller.
    let bytes = (number * f64::from(factor)).round();
    if bytes > PEBIBYTE {
        return Err(UnitError::TooLarge { most: "1048576Gi" });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= bytes <= 2^50, checked above"
    )]
    Ok(bytes as u64)
}

/// Reads a size, or `none` for no limit.
///
/// # Errors
/// As [`parse_size`].
pub fn parse_size_or_none(text: &str) -> Result<Option<u64>, UnitError> {
    match text.trim() {
        "none" => Ok(None),
        size => parse_size(size).map(Some),
    }
}

/// Reads a size that is not zero.
///
/// # Errors
/// As [`parse_size`], or if it is zero.
pub fn parse_positive_size(text: &str) -> Result<u64, UnitError> {
    match parse_size(text)? {
        0 => Err(UnitError::Zero),
        size => Ok(size),
    }
}

/// Reads how many there are to be of something: a whole number, at least one.
///
/// # Errors
/// If the text is none.
pub fn parse_count(text: &str) -> Result<usize, UnitError> {
    match whole(text, "a whole number", 0..=u64::MAX, "10")? {
        0 => Err(UnitError::Zero),
        count => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
    }
}

/// Reads how many there are to be at most: a whole number, which may be 0.
///
/// # Errors
/// If the text is none.
pub fn parse_limit(text: &str) -> Result<usize, UnitError> {
    parse_whole(text).map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Reads a whole number, which may be 0.
///
/// # Errors
/// If the text is none.
pub fn parse_whole(text: &str) -> Result<u64, UnitError> {
    whole(text, "a whole number", 0..=u64::MAX, "10")
}

/// Reads the number of a port to listen on; 0 is any that is free.
///
/// # Errors
/// If the text is none.
pub fn parse_port(text: &str) -> Result<u16, UnitError> {
    port(text, 0)
}

/// Reads the number of a port on which somebody listens.
///
/// # Errors
/// If the text is none.
pub fn parse_known_port(text: &str) -> Result<u16, UnitError> {
    port(text, 1)
}

fn port(text: &str, least: u16) -> Result<u16, UnitError> {
    let (what, example) = ("a port", "8080");
    let port = whole(text, what, u64::from(least)..=u64::from(u16::MAX), example)?;
    u16::try_from(port).map_err(|_| UnitError::NoNumber { what, example })
}

/// Reads a level of zstd (zstd(1), `-#`).
///
/// # Errors
/// If the text is none from 1 to 19.
pub fn parse_level(text: &str) -> Result<i32, UnitError> {
    const WHAT: &str = "a level";
    let level = whole(text, WHAT, 1..=19, "3")?;
    i32::try_from(level).map_err(|_| UnitError::NoNumber { what: WHAT, example: "3" })
}

/// Digits alone, and what they are within `range`.
fn whole(
    text: &str,
    what: &'static str,
    range: RangeInclusive<u64>,
    example: &'static str,
) -> Result<u64, UnitError> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitError::NoNumber { what, example });
    }
    let (least, most) = range.clone().into_inner();
    match digits.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(UnitError::OutOfRange { what, least, most, example }),
    }
}

fn split<'a>(text: &'a str, what: &'static str, example: &'static str) -> Result<(f64, &'a str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| UnitError::NoNumber { what, example })?;
    Ok((number, text[end..].trim_start()))
}

const PEBIBYTE: f64 = (1u64 << 50) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration(" 2 m "), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_positive_duration("0ms"), Err(UnitError::Zero));
        for bad in ["10", "10 fortnights", "s", "", "-1s", "1e9s", "1.2.3s", "999999d", "\u{664}s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_kilo() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("64k"), Ok(64_000));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1MiB"), Ok(1_048_576));
        assert_eq!(parse_size("1.5G"), Ok(1_500_000_000));
        assert_eq!(parse_positive_size("0k"), Err(UnitError::Zero));
        assert_eq!((parse_size_or_none("none"), parse_size_or_none("0")), (Ok(None), Ok(Some(0))));
        assert!(parse_size_or_none("nothing").is_err());
        for bad in ["", "k", "1x", "1kk", "-1", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_their_bounds_and_say_so() {
        assert_eq!((parse_count("12"), parse_whole("0"), parse_port("65535")), (Ok(12), Ok(0), Ok(65535)));
        assert_eq!((parse_count("0"), parse_level(" 19 ")), (Err(UnitError::Zero), Ok(19)));
        let told = |error: Option<UnitError>| error.map(|error| error.to_string()).unwrap_or_default();
        for (error, text) in [
            (parse_count("x").err(), "a whole number was expected, such as 10"),
            (parse_whole("-1").err(), "a whole number was expected, such as 10"),
            (
                parse_whole("18446744073709551616").err(),
                "a whole number from 0 to 18446744073709551615 was expected, such as 10",
            ),
            (parse_port("65536").err(), "a port from 0 to 65535 was expected, such as 8080"),
            (parse_port("http").err(), "a port was expected, such as 8080"),
            (parse_known_port("0").err(), "a port from 1 to 65535 was expected, such as 8080"),
            (parse_level("0").err(), "a level from 1 to 19 was expected, such as 3"),
            (parse_duration("soon").err(), "a time was expected, such as 10s"),
            (parse_duration("10").err(), "the unit must be one of ms, s, m, h, d, as in 10s"),
            (parse_size("big").err(), "a size in bytes was expected, such as 64k"),
        ] {
            assert_eq!(told(error), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}") {
            // Only that none panics.
            let _ = (parse_duration(&text), parse_size(&text), parse_count(&text), parse_port(&text));
        }
    }
}
