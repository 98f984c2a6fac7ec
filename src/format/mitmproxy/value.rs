//! tnetstrings: values with their length before and their type behind, as mitmproxy has them.
//!
//! `LENGTH ":" PAYLOAD TAG`; the tags are `,` bytes, `;` text, `#` whole number, `^` float, `!` truth, `~` null, `]` list
//! and `}` dict. What is read here is in memory; the reader of files keeps what is large out of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};

use bytes::Bytes;

use super::frames::Frames;
use super::number;
use crate::flow::{Headers, Value};

/// What may be read into memory, so that a file of few bytes does not become many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes }
    }

    pub(super) fn left(self) -> usize {
        self.left
    }

    /// Counts a value with a payload of `len` bytes. Whether it fits.
    pub(super) fn charge(&mut self, len: usize) -> bool {
        match self.left.checked_sub(len.saturating_add(VALUE_COST)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Why bytes are no value, and where: from the beginning of the bytes that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// The value that `payload` is, by its tag. `depth` is how many lists and dicts it stands in.
///
/// # Errors
/// If the payload is none of that type, nested too deep, or more than `budget` allows.
pub(super) fn read(tag: u8, payload: &Bytes, depth: usize, budget: &mut Budget) -> Result<Value, Bad> {
    let bad = |what| Bad { at: 0, what };
    let own_len = if matches!(tag, b']' | b'}') { 0 } else { payload.len() };
    if !budget.charge(own_len) {
        return Err(bad(TOO_MUCH));
    }
    Ok(match tag {
        b',' => Value::Bytes(payload.clone()),
        b';' => Value::Text(
            String::from_utf8(payload.to_vec())
                .map_err(|e| Bad { at: e.utf8_error().valid_up_to(), what: "text that is not UTF-8" })?,
        ),
        b'#' => Value::Int(number::int(payload).ok_or(bad("no whole number"))?),
        b'^' => Value::Float(number::float(payload).ok_or(bad("no number"))?),
        b'!' if payload == "true" => Value::Bool(true),
        b'!' if payload == "false" => Value::Bool(false),
        b'!' => return Err(bad("neither true nor false")),
        b'~' if payload.is_empty() => Value::Null,
        b'~' => return Err(bad("a null that is not empty")),
        b']' | b'}' if depth >= MAX_DEPTH => return Err(bad("lists and dicts nested too deep")),
        b']' => {
            Value::List(members(payload, depth + 1, budget)?.into_iter().map(|(_, member)| member).collect())
        }
        b'}' => Value::Dict(pairs(members(payload, depth + 1, budget)?, payload.len())?),
        _ => return Err(Bad { at: payload.len(), what: "a type that is not known" }),
    })
}

/// Values one after the other, each with where it begins.
fn members(payload: &Bytes, depth: usize, budget: &mut Budget) -> Result<Vec<(usize, Value)>, Bad> {
    let mut members = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let (begin, end) = frame(payload, at)?;
        let value = read(payload[end], &payload.slice(begin..end), depth, budget)
            .map_err(|bad| Bad { at: begin + bad.at, ..bad })?;
        members.push((at, value));
        at = end + 1;
    }
    Ok(members)
}

/// Where the payload of the value at `at` begins and ends; its tag is there.
fn frame(bytes: &[u8], at: usize) -> Result<(usize, usize), Bad> {
    let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let colon = at + digits;
    if digits == 0 || digits > 19 || bytes.get(colon) != Some(&b':') {
        return Err(Bad { at, what: "no length" });
    }
    let len = bytes[at..colon]
        .iter()
        .fold(0usize, |n, b| n.saturating_mul(10).saturating_add(usize::from(b - b'0')));
    match (colon + 1).checked_add(len) {
        Some(end) if end < bytes.len() => Ok((colon + 1, end)),
        _ => Err(Bad { at, what: "a length that goes past what it is in" }),
    }
}

/// Keys and values by turns; where a key is there twice, its first place and its last value.
fn pairs(members: Vec<(usize, Value)>, len: usize) -> Result<Vec<(Value, Value)>, Bad> {
    let mut pairs: Vec<(Value, Value)> = Vec::with_capacity(members.len() / 2);
    // Hostile files have many keys; a search through all of them for each would take for ever. Of few it is the quickest.
    let mut seen: Option<HashMap<(bool, Bytes), usize>> = (members.len() > 2 * FEW).then(HashMap::new);
    let mut members = members.into_iter();
    while let Some((at, key)) = members.next() {
        let Some((_, value)) = members.next() else {
            return Err(Bad { at: len, what: "a key without a value" });
        };
        let (is_text, name) = match &key {
            Value::Text(text) => (true, text.as_bytes()),
            Value::Bytes(bytes) => (false, &bytes[..]),
            _ => return Err(Bad { at, what: "a key that is neither text nor bytes" }),
        };
        let place = match &mut seen {
            None => pairs.iter().position(|(known, _)| *known == key),
            Some(seen) => match seen.entry((is_text, Bytes::copy_from_slice(name))) {
                Entry::Occupied(place) => Some(*place.get()),
                Entry::Vacant(place) => {
                    place.insert(pairs.len());
                    None
                }
            },
        };
        match place {
            Some(place) => pairs[place].1 = value,
            None => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

/// The header fields that a list is, if it is one of pairs of bytes and nothing else.
pub(super) fn fields(list: &Bytes, budget: &mut Budget) -> Option<Headers> {
    let member = |at: usize, tag: u8| frame(list, at).ok().filter(|&(_, end)| list[end] == tag);
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < list.len() {
        let (name_at, end) = member(at, b']')?;
        let name = member(name_at, b',')?;
        let value = member(name.1 + 1, b',')?;
        if value.1 + 1 != end {
            return None;
        }
        ranges.push((name.0..name.1, value.0..value.1));
        at = end + 1;
    }
    budget
        .charge(list.len() + ranges.len() * FIELD_COST)
        .then(|| Headers::from_ranges(list.clone(), ranges.into_iter()))
}

/// How many bytes [`write`] writes for `value`.
pub(super) fn encoded_len(value: &Value) -> u64 {
    framed_len(payload_len(value))
}

/// How many bytes a value has whose payload has `len`.
pub(super) fn framed_len(len: u64) -> u64 {
    u64::from(len.checked_ilog10().unwrap_or(0)) + 1 + 1 + len + 1
}

fn payload_len(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Int(text) | Value::Text(text) => text.len() as u64,
        Value::Float(float) => number::repr(*float).len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(members) => members.iter().map(encoded_len).sum(),
        Value::Dict(pairs) => pairs.iter().map(|(key, value)| encoded_len(key) + encoded_len(value)).sum(),
    }
}

/// Writes a value as mitmproxy does; pairs of a dict in their order.
pub(super) fn write(value: &Value, out: &mut Frames<'_>) {
    match value {
        Value::Null => out.bytes.extend_from_slice(b"0:~"),
        Value::Bool(true) => out.bytes.extend_from_slice(b"4:true!"),
        Value::Bool(false) => out.bytes.extend_from_slice(b"5:false!"),
        Value::Int(text) => out.scalar(text.as_bytes(), b'#'),
        Value::Text(text) => out.scalar(text.as_bytes(), b';'),
        Value::Float(float) => out.scalar(number::repr(*float).as_bytes(), b'^'),
        Value::Bytes(bytes) => out.scalar(bytes, b','),
        Value::List(members) => {
            out.framed(b']', |out| members.iter().for_each(|member| write(member, out)));
        }
        Value::Dict(pairs) => out.framed(b'}', |out| {
            for (key, value) in pairs {
                write(key, out);
                write(value, out);
            }
        }),
    }
}

/// Writes a value without parts to where it goes.
///
/// # Errors
/// What `out` said.
pub(super) fn write_scalar(payload: &[u8], tag: u8, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}:", payload.len())?;
    out.write_all(payload)?;
    out.write_all(&[tag])
}

/// Lists and dicts in each other. mitmproxy's own flows have five; the record of a flow holds 64 (`codec::MAX_DEPTH`), with
/// a few of them around.
pub(super) const MAX_DEPTH: usize = 40;

/// More keys than dicts of mitmproxy have, and few enough to look at each.
const FEW: usize = 24;

/// What a field costs besides its text.
const FIELD_COST: usize = 64;

/// What a value costs besides its text: room in a list or, with its key, in a dict.
const VALUE_COST: usize = 64;

pub(super) const TOO_MUCH: &str = "more fields beside the bodies than fit into memory";
