//! The sum of a JSON text's value (RFC 8259): white space, the order of an object's members, the spelling of strings and of
//! numbers make no difference.
//!
//! No tree is built. Each value is a sum; an object's is made of the sorted sums of its members, which are all that is held
//! of a text while it is read.

/// The sum of a text; `None` if it is not JSON, is nested deeper than [`MAX_DEPTH`], or holds a string that is not Unicode.
pub(super) fn sum(text: &[u8]) -> Option<[u8; 16]> {
    let mut reader = Reader { text, at: 0 };
    let sum = reader.value(0)?;
    reader.blanks();
    (reader.at == text.len()).then_some(sum)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<[u8; 16]> {
        self.blanks();
        match *self.text.get(self.at)? {
            b'{' if depth < MAX_DEPTH => self.object(depth),
            b'[' if depth < MAX_DEPTH => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<[u8; 16]> {
        self.at += 1;
        let mut members: Vec<([u8; 16], [u8; 16])> = Vec::new();
        if !self.takes(b'}') {
            loop {
                self.blanks();
                let name = self.string()?;
                if !self.takes(b':') {
                    return None;
                }
                members.push((name, self.value(depth + 1)?));
                if self.takes(b'}') {
                    break;
                }
                if !self.takes(b',') {
                    return None;
                }
            }
        }
        // Stable: of members with one name, the order tells which one counts.
        members.sort_by_key(|member| member.0);
        let mut hasher = begin(b'{');
        for (name, value) in &members {
            hasher.update(name).update(value);
        }
        Some(end(&hasher))
    }

    fn array(&mut self, depth: usize) -> Option<[u8; 16]> {
        self.at += 1;
        let mut hasher = begin(b'[');
        if !self.takes(b']') {
            loop {
                hasher.update(&self.value(depth + 1)?);
                if self.takes(b']') {
                    break;
                }
                if !self.takes(b',') {
                    return None;
                }
            }
        }
        Some(end(&hasher))
    }

    fn string(&mut self) -> Option<[u8; 16]> {
        let begin_at = self.at;
        if self.text.get(self.at) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        loop {
            match *self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let token = self.text.get(begin_at..self.at)?;
        let mut hasher = begin(b'"');
        if memchr::memchr(b'\\', token).is_none() {
            let plain = token.get(1..token.len() - 1)?;
            if plain.iter().any(|&byte| byte < 0x20) || std::str::from_utf8(plain).is_err() {
                return None;
            }
            hasher.update(plain);
        } else {
            let text: String = serde_json::from_slice(token).ok()?;
            hasher.update(text.as_bytes());
        }
        Some(end(&hasher))
    }

    fn number(&mut self) -> Option<[u8; 16]> {
        let begin_at = self.at;
        let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.at += self.text[begin_at..].iter().take_while(|byte| in_number(byte)).count();
        let token = std::str::from_utf8(&self.text[begin_at..self.at]).ok()?;
        // Its grammar is the library's to judge.
        let number: serde_json::Number = serde_json::from_str(token).ok()?;
        let mut hasher = begin(b'0');
        hasher.update(spelled(token, &number).as_bytes());
        Some(end(&hasher))
    }

    fn word(&mut self) -> Option<[u8; 16]> {
        let rest = &self.text[self.at..];
        let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word))?;
        self.at += word.len();
        Some(end(begin(b'w').update(word)))
    }

    fn blanks(&mut self) {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.text[self.at.min(self.text.len())..].iter().take_while(|b| is_blank(b)).count();
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let takes = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(takes);
        takes
    }
}

/// One spelling for numbers that are equal, as far as a float can tell them apart; else their own.
fn spelled(token: &str, number: &serde_json::Number) -> String {
    let digits = token.bytes().take_while(|b| !matches!(b, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    match number.as_f64() {
        Some(float) if digits <= EXACT_DIGITS && float == 0.0 => "0".to_owned(),
        Some(float) if digits <= EXACT_DIGITS => float.to_string(),
        _ => token.to_owned(),
    }
}

fn begin(tag: u8) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[tag]);
    hasher
}

fn end(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut sum = [0; 16];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// As serde_json's own.
const MAX_DEPTH: usize = 128;

/// Decimal digits that a float always keeps apart (IEEE 754, binary64).
const EXACT_DIGITS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let sums = (sum(one.as_bytes()), sum(other.as_bytes()));
        assert!(sums.0.is_some() && sums.1.is_some(), "{one} {other}");
        sums.0 == sums.1
    }

    #[test]
    fn what_means_the_same_has_one_sum() {
        assert!(same(r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ],\r\n\t\"a\": 1 }"));
        assert!(same(r#""h\u00e9\/""#, r#""hé/""#));
        assert!(same("[1.0, 1e2, -0.0, 0.5]", "[1, 100, 0, 5e-1]"));
        assert!(same("{}", " { } ") && same("[]", "[\n]"));
    }

    #[test]
    fn what_differs_has_another() {
        for (one, other) in [
            ("[1,2]", "[2,1]"),
            ("[[1],2]", "[1,[2]]"),
            ("\"1\"", "1"),
            ("{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}"),
            ("{\"a\":\"b\"}", "{\"b\":\"a\"}"),
            ("18446744073709551616", "18446744073709551617"),
            ("[]", "{}"),
            ("null", "false"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_json_has_none() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "01",
            "1.",
            "tru",
            "\"\\",
            "\"\u{1}\"",
            "1 2",
            "{a:1}",
            "\"\\ud800\"",
        ] {
            assert_eq!(sum(bad.as_bytes()), None, "{bad}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(sum(deep(MAX_DEPTH).as_bytes()).is_some() && sum(deep(MAX_DEPTH + 1).as_bytes()).is_none());
        assert_eq!(sum(&b"[".repeat(1 << 20)), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_summed_or_not(text in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let parsed = serde_json::from_slice::<serde_json::Value>(&text);
            // Where the library reads a value, so do we, and the other way round.
            proptest::prop_assert_eq!(sum(&text).is_some(), parsed.is_ok());
        }

        #[test]
        fn a_value_printed_in_two_ways_has_one_sum(numbers in proptest::collection::vec(-9_999_i64..9_999, 0..9), text in ".{0,9}") {
            let value = serde_json::json!({ "z": numbers, "a": { "text": text, "none": null } });
            let (tight, wide) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
            proptest::prop_assert_eq!(sum(tight.as_bytes()), sum(wide.as_bytes()));
        }
    }
}
