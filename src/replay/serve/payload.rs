//! The sum of a request's body, by what its media type says of it.
//!
//! JSON counts by value; the parts of a form by themselves, since browsers draw a new boundary for each; fields of forms
//! that are to be ignored are left out. Everything else, what is in a content-coding, and what is larger than
//! [`MAX_VALUE`] counts byte for byte.

use memchr::memmem;

use super::json;
use super::key::{begin, put, sum_of};
use crate::flow::Headers;

/// How a body counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Json,
    /// `application/x-www-form-urlencoded`, some fields of which are ignored.
    Form,
    /// `multipart/form-data`, with its boundary.
    Multipart(Vec<u8>),
}

impl Kind {
    /// Of a body with this head.
    pub(super) fn of(headers: &Headers, ignores_fields: bool) -> Self {
        if headers.tokens("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Self::Bytes;
        }
        let Some(value) = headers.get("content-type") else { return Self::Bytes };
        let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
        let media_type = value[..end].trim_ascii().to_ascii_lowercase();
        match &media_type[..] {
            b"application/x-www-form-urlencoded" if ignores_fields => Self::Form,
            b"multipart/form-data" => parameter(&value[end..], b"boundary")
                .filter(|boundary| !boundary.is_empty() && boundary.len() <= MAX_BOUNDARY)
                .map_or(Self::Bytes, Self::Multipart),
            b"application/json" | b"text/json" => Self::Json,
            other if other.starts_with(b"application/") && other.ends_with(b"+json") => Self::Json,
            _ => Self::Bytes,
        }
    }
}

/// The sum of a whole body that counts by value; `None` where it is not what its media type says.
pub(super) fn value_sum(kind: &Kind, body: &[u8], ignored: &[Vec<u8>]) -> Option<[u8; 16]> {
    match kind {
        Kind::Bytes => None,
        Kind::Json => json::sum(body),
        Kind::Form => {
            let mut hasher = begin(b"form");
            for pair in pairs(body).filter(|pair| !is_ignored(name_of(pair).as_slice(), ignored)) {
                put(&mut hasher, pair);
            }
            Some(sum_of(&hasher))
        }
        Kind::Multipart(boundary) => multipart_sum(boundary, body, ignored),
    }
}

/// The pairs of a query or of a form (URL Standard, application/x-www-form-urlencoded), as they came; empty ones are none.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty())
}

/// The name of a pair, decoded.
pub(super) fn name_of(pair: &[u8]) -> Vec<u8> {
    let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                match after.split_first_chunk::<2>().and_then(|(hex, after)| Some((hex_byte(*hex)?, after))) {
                    Some((byte, after)) => {
                        rest = after;
                        byte
                    }
                    None => byte,
                }
            }
            byte => byte,
        });
    }
    decoded
}

pub(super) fn is_ignored(name: &[u8], ignored: &[Vec<u8>]) -> bool {
    ignored.iter().any(|one| one == name)
}

fn hex_byte(hex: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()
}

/// Of the parts of a form (RFC 7578): the head and the content of each, whatever stands between them.
fn multipart_sum(boundary: &[u8], body: &[u8], ignored: &[Vec<u8>]) -> Option<[u8; 16]> {
    let first = [b"--", boundary].concat();
    let next = [b"\r\n", &first[..]].concat();
    let finder = memmem::Finder::new(&next);
    let at = memmem::find(body, &first).filter(|&at| at == 0 || body[..at].ends_with(b"\r\n"))?;
    let mut rest = &body[at + first.len()..];
    let mut hasher = begin(b"multipart");
    while !rest.starts_with(b"--") {
        let after = rest.iter().position(|&byte| !matches!(byte, b' ' | b'\t'))?;
        let part = rest[after..].strip_prefix(b"\r\n")?;
        let end = finder.find(part)?;
        rest = &part[end + next.len()..];
        let part = &part[..end];
        let split = memmem::find(part, b"\r\n\r\n")?;
        let (head, content) = (&part[..split], &part[split + 4..]);
        if !field_name(head).is_some_and(|name| is_ignored(&name, ignored)) {
            put(&mut hasher, head);
            put(&mut hasher, content);
        }
    }
    Some(sum_of(&hasher))
}

/// The name of a form's field, by the head of its part.
fn field_name(head: &[u8]) -> Option<Vec<u8>> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let disposition = lines.find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(b"content-disposition").then(|| &line[colon + 1..])
    })?;
    let end = disposition.iter().position(|&byte| byte == b';')?;
    parameter(&disposition[end..], b"name")
}

/// The value of a parameter in `; name=value; name="value"` (RFC 9110 §5.6.6).
fn parameter(text: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start().strip_prefix(b";")?.trim_ascii_start();
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let name = rest[..equals].trim_ascii();
        rest = &rest[equals + 1..];
        let value = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let mut value = Vec::new();
                let mut bytes = quoted.iter().copied().enumerate();
                rest = loop {
                    match bytes.next()? {
                        (at, b'"') => break &quoted[at + 1..],
                        (_, b'\\') => value.push(bytes.next()?.1),
                        (_, byte) => value.push(byte),
                    }
                };
                value
            }
            None => {
                let end = rest.iter().position(|&byte| byte == b';').unwrap_or(rest.len());
                let value = rest[..end].trim_ascii().to_vec();
                rest = &rest[end..];
                value
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

/// A body that counts by value is held in memory while it is looked at.
pub(super) const MAX_VALUE: usize = 1 << 20;

/// RFC 2046 §5.1.1.
const MAX_BOUNDARY: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(content_type: &str) -> Kind {
        Kind::of(&[("Content-Type", content_type)].into_iter().collect(), true)
    }

    #[test]
    fn the_media_type_says_how_a_body_counts() {
        assert_eq!(kind("Application/JSON; charset=utf-8"), Kind::Json);
        assert_eq!(kind("application/vnd.api+json"), Kind::Json);
        assert_eq!(kind("multipart/form-data; a=b; boundary=\"x y\""), Kind::Multipart(b"x y".to_vec()));
        assert_eq!(kind("multipart/form-data; boundary=----x"), Kind::Multipart(b"----x".to_vec()));
        assert_eq!(kind("multipart/form-data"), Kind::Bytes);
        assert_eq!(kind("application/x-www-form-urlencoded"), Kind::Form);
        assert_eq!(kind("text/plain"), Kind::Bytes);
        let coded = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
        assert_eq!(Kind::of(&coded.into_iter().collect(), true), Kind::Bytes);
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(Kind::of(&form.into_iter().collect(), false), Kind::Bytes);
    }

    fn form(text: &str) -> Option<[u8; 16]> {
        value_sum(&Kind::Form, text.as_bytes(), &[b"param 1".to_vec(), b"p2".to_vec()])
    }

    #[test]
    fn ignored_fields_of_a_form_make_no_difference() {
        let same = form("a=1&b=2");
        for text in ["a=1&param+1=9&b=2", "p2&a=1&b=2&param%201=", "&a=1&&b=2"] {
            assert_eq!(form(text), same, "{text}");
        }
        for text in ["a=1", "b=2&a=1", "a=1&b=3", "a=1&b=2&p3=1"] {
            assert_ne!(form(text), same, "{text}");
        }
    }

    fn parts(boundary: &str, fields: &[(&str, &str)]) -> Option<[u8; 16]> {
        let part = |(name, content): &(&str, &str)| {
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        let body = fields.iter().map(part).collect::<String>() + &format!("--{boundary}--\r\n");
        value_sum(&Kind::Multipart(boundary.into()), body.as_bytes(), &[b"token".to_vec()])
    }

    #[test]
    fn parts_count_and_boundaries_do_not() {
        let same = parts("----one", &[("a", "1"), ("b", "2\r\n--")]);
        assert!(same.is_some());
        assert_eq!(parts("two", &[("a", "1"), ("token", "x"), ("b", "2\r\n--")]), same);
        assert_ne!(parts("two", &[("a", "1"), ("b", "2")]), same);
        assert_ne!(parts("two", &[("b", "2\r\n--"), ("a", "1")]), same);
        for bad in ["", "--x", "--x\r\n\r\n", "--x\r\na\r\n--x--", "xx--x--"] {
            assert_eq!(value_sum(&Kind::Multipart(b"x".to_vec()), bad.as_bytes(), &[]), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_summed_or_not(body in proptest::collection::vec(proptest::num::u8::ANY, 0..80), text in "[-x\r\n;=\":a]{0,60}") {
            for body in [&body[..], text.as_bytes()] {
                let _ = value_sum(&Kind::Multipart(b"x".to_vec()), body, &[]); // only that it does not panic
                let _ = value_sum(&Kind::Form, body, &[]);
                let _ = parameter(body, b"a");
            }
        }
    }
}
