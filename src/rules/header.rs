//! `set-header` and `remove-header`: fields of a request on its way to the origin.

use bytes::Bytes;

use super::error::Problem;
use super::spec;
use crate::filter::Filter;
use crate::flow::{Headers, Version};
use crate::http1::{BadField, removable_field, remove_field, set_field, settable_field};

/// A change to fields.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// One takes the place of all of its name.
    Set(Bytes, Bytes),
    /// All of a name go.
    Remove(Bytes),
}

/// `Name: value`, for every request, or `/FILTER/Name: value`.
pub(super) fn parse_set(text: &str) -> Result<(Option<Filter>, Edit), Problem> {
    let (filter, field) = split(text, "Name: value or /FILTER/Name: value")?;
    let (name, value) = settable_field(field).map_err(|error| {
        Problem::Field(match error {
            BadField::NotAField(field) => BadField::NotAField(told(&field)),
            BadField::Malformed(field) => BadField::Malformed(told(&field)),
            other => other,
        })
    })?;
    if name.eq_ignore_ascii_case("host") {
        return Err(Problem::Host);
    }
    let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Ok((filter, Edit::Set(copy(name), copy(value))))
}

/// `Name`, for every request, or `/FILTER/Name`.
pub(super) fn parse_remove(text: &str) -> Result<(Option<Filter>, Edit), Problem> {
    let (filter, name) = split(text, "Name or /FILTER/Name")?;
    if name.eq_ignore_ascii_case("host") {
        return Err(Problem::Host);
    }
    removable_field(name).map_err(Problem::Field)?;
    Ok((filter, Edit::Remove(Bytes::copy_from_slice(name.as_bytes()))))
}

fn split<'a>(text: &'a str, form: &'static str) -> Result<(Option<Filter>, &'a str), Problem> {
    if !spec::is_split(text) {
        return Ok((None, text));
    }
    let [filter, rest] = spec::parts(text, form)?;
    Ok((spec::filter(filter)?, rest))
}

impl Edit {
    /// The fields with the change; `None` where it changes nothing.
    pub(super) fn apply(&self, headers: &Headers, version: Version) -> Option<Headers> {
        let mut changed = headers.clone();
        if let Edit::Set(name, _) = self {
            // A client that lists the field there would have it taken away again before the request is sent on
            // (RFC 9110 §7.6.1), while the record says that it went.
            unlist(&mut changed, name);
        }
        match self {
            Edit::Set(name, value) if version == Version::Http2 => {
                // RFC 9113 §8.2.1.
                set_field(&mut changed, &name.to_ascii_lowercase(), value);
            }
            Edit::Set(name, value) => set_field(&mut changed, name, value),
            Edit::Remove(name) => remove_field(&mut changed, name),
        }
        (changed != *headers).then_some(changed)
    }
}

/// Takes a name out of the `Connection` fields, which go when nothing is left in them.
fn unlist(headers: &mut Headers, name: &[u8]) {
    let is_it = |token: &[u8]| token.eq_ignore_ascii_case(name);
    if !headers.tokens(CONNECTION).any(is_it) {
        return;
    }
    let kept = headers.iter().filter_map(|(field, value)| {
        if !field.eq_ignore_ascii_case(CONNECTION.as_bytes()) {
            return Some((field, value.to_vec()));
        }
        let tokens = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let left: Vec<&[u8]> = tokens.filter(|&token| !token.is_empty() && !is_it(token)).collect();
        (!left.is_empty()).then(|| (field, left.join(&b", "[..])))
    });
    *headers = kept.collect();
}

/// A rule that cannot be read, for the user: as [`without_value`], and that something is left out.
pub(super) fn told(text: &str) -> String {
    let shown = without_value(text);
    if shown.len() == text.len() { text.to_owned() } else { format!("{shown} …") }
}

/// A rule as it was written, without the value of its field: that may be a secret. One that is no rule ends where a name
/// would.
pub(super) fn without_value(text: &str) -> &str {
    let field = match spec::parts(text, "") {
        Ok([_, field]) if spec::is_split(text) => field,
        _ => text,
    };
    let start = text.len() - field.len();
    let in_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    // The first sign may be the one that separates the parts, in a rule that lacks some.
    let end = field.char_indices().skip(1).find(|&(_, c)| !in_name(c));
    end.map_or(text, |(at, _)| &text[..start + at])
}

const CONNECTION: &str = "connection";
