//! `set-header` and `remove-header`: fields of a request on its way to the origin.

use bytes::Bytes;

use super::error::Problem;
use super::spec;
use crate::filter::Filter;
use crate::flow::{Headers, Version};
use crate::http1::{removable_field, remove_field, set_field, settable_field};

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
    let (name, value) = settable_field(field).map_err(Problem::Field)?;
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

/// A rule as it was written, without the value of its field: that may be a secret.
pub(super) fn without_value(text: &str) -> &str {
    let field = match spec::parts(text, "") {
        Ok([_, field]) if spec::is_split(text) => field,
        _ => text,
    };
    let start = text.len() - field.len();
    field.find(':').map_or(text, |at| &text[..start + at])
}
