//! Fields that a user may set or remove: those that neither frame a message nor belong to one hop.

use thiserror::Error;

use super::hop::is_hop_by_hop;
use crate::flow::Headers;

/// Why a field cannot be set or removed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadField {
    /// It is not `Name: value`.
    #[error("{0:?} is no header field: `Name: value` is one")]
    NotAField(String),
    /// The name is no token (RFC 9110 §5.6.2), or the value has a line end or NUL in it.
    #[error("a header field cannot be called so, or have this value: {0:?}")]
    Malformed(String),
    /// It frames the message, which follows from the body.
    #[error("{0} follows from the body, and cannot be set or removed")]
    Framing(String),
    /// It belongs to the connection.
    #[error("{0} belongs to the connection, and cannot be set")]
    Hop(String),
}

/// The name and the value of a field that may be set, written as `Name: value`.
///
/// # Errors
/// If it is no field, or one that cannot be set.
pub fn settable_field(field: &str) -> Result<(&str, &str), BadField> {
    let (name, value) = field.split_once(':').ok_or_else(|| BadField::NotAField(field.to_owned()))?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) || value.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        return Err(BadField::Malformed(field.to_owned()));
    }
    if frames(name) {
        return Err(BadField::Framing(name.to_owned()));
    }
    if is_hop_by_hop(name.as_bytes()) {
        return Err(BadField::Hop(name.to_owned()));
    }
    Ok((name, value))
}

/// Whether all fields of this name may be removed.
///
/// # Errors
/// If the name is none, or of a field that has to be there.
pub fn removable_field(name: &str) -> Result<(), BadField> {
    if !is_token(name) {
        return Err(BadField::Malformed(name.to_owned()));
    }
    if frames(name) || name.eq_ignore_ascii_case("host") {
        return Err(BadField::Framing(name.to_owned()));
    }
    Ok(())
}

/// Puts a field in the place of those of its name, or at the end.
pub fn set_field(headers: &mut Headers, name: &[u8], value: &[u8]) {
    let mut new = Some((name, value));
    let mut fields: Vec<(&[u8], &[u8])> = Vec::with_capacity(headers.len() + 1);
    for field in headers.iter() {
        if field.0.eq_ignore_ascii_case(name) {
            fields.extend(new.take());
        } else {
            fields.push(field);
        }
    }
    fields.extend(new);
    *headers = fields.into_iter().collect();
}

/// Takes away all fields of a name.
pub fn remove_field(headers: &mut Headers, name: &[u8]) {
    *headers = headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case(name)).collect();
}

fn frames(name: &str) -> bool {
    ["content-length", "transfer-encoding"].iter().any(|frame| name.eq_ignore_ascii_case(frame))
}

/// RFC 9110 §5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_would_break_a_message_are_refused() {
        assert_eq!(settable_field("X-A: b: c "), Ok(("X-A", "b: c")));
        assert_eq!(settable_field("X-A:"), Ok(("X-A", "")));
        for bad in [
            "X-A",
            "X A: b",
            ": b",
            "X-A: b\r\nC: d",
            "X-A: \0",
            "Content-Length: 1",
            "transfer-encoding: x",
            "Connection: close",
        ] {
            assert!(settable_field(bad).is_err(), "{bad}");
        }
        assert!(removable_field("Cookie").is_ok() && removable_field("Connection").is_ok());
        assert!(removable_field("Host").is_err() && removable_field("content-length").is_err());
        assert!(removable_field("a b").is_err());
    }

    #[test]
    fn a_field_takes_the_place_of_those_of_its_name() {
        let mut headers: Headers = [("A", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        set_field(&mut headers, b"a", b"4");
        set_field(&mut headers, b"C", b"5");
        let expected: Headers = [("a", "4"), ("b", "2"), ("C", "5")].into_iter().collect();
        assert_eq!(headers, expected);
        remove_field(&mut headers, b"B");
        assert_eq!(headers.len(), 2);
    }
}
