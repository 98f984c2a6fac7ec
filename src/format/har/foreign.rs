//! What an archive of another tool held and we have no field for: kept at import, given back at export.
//!
//! It lies in [`Imported::unknown`], a dictionary of sections (`entry`, `request`, `response`, `postData`, `content`,
//! `timings`), each a dictionary of members. Spellings and sizes that the record would not give back lie in
//! [`Imported::exact`]; the creator, the browser and the page that an entry belongs to, in [`Imported::metadata`].

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::flow::{Flow, Imported, Value, Version};
use crate::format::json::Writer;

/// What [`Imported::format`] says of a flow that came from an archive.
pub(super) const FORMAT_NAME: &str = "har 1.2";

/// What came from an archive with this flow.
fn imported(flow: &Flow) -> Option<&Imported> {
    flow.imported.as_deref().filter(|imported| imported.format == FORMAT_NAME)
}

/// A version as the archive spelled it, such as `h3`, if it is the one meant.
pub(super) fn version<'a>(flow: &'a Flow, path: &str, version: Version) -> Cow<'a, str> {
    let exact = imported(flow).and_then(|imported| imported.exact.iter().find(|(at, _)| at == path));
    match exact {
        Some((_, Value::Text(text))) if parse_version(text) == version => Cow::Borrowed(text),
        _ => Cow::Borrowed(version.as_str()),
    }
}

/// The version that tools mean by `text`; HTTP/1.1 where they do not say.
pub(super) fn parse_version(text: &str) -> Version {
    match text.trim().to_ascii_lowercase().as_str() {
        "http/1.0" => Version::Http10,
        "h2" | "h2c" | "http/2" | "http/2.0" | "http2" | "spdy" => Version::Http2,
        other if other.starts_with("h3") || other.starts_with("http/3") || other.contains("quic") => {
            Version::Http3
        }
        _ => Version::Http11,
    }
}

/// The page that the flow belongs to, with its id.
pub(super) fn page(flow: &Flow) -> Option<(String, &Value)> {
    let page = member(imported(flow)?.metadata.as_ref()?, "page")?;
    let Value::Text(id) = member(page, "id")? else { return None };
    Some((id.clone(), page))
}

/// Writes a member of the entry as the archive had it, else as `default`.
pub(super) fn write_or(json: &mut Writer<'_>, flow: &Flow, name: &str, default: &[u8]) {
    json.name(name);
    match section(flow, "entry").and_then(|section| member(section, name)) {
        Some(value) => write(json, value),
        None => {
            json.json(default);
        }
    }
}

/// Writes the members that the archive had in this section besides.
pub(super) fn write_unknown(json: &mut Writer<'_>, flow: &Flow, name: &str) {
    let Some(Value::Dict(members)) = section(flow, name) else { return };
    for (name, value) in members {
        if let Value::Text(name) = name
            && name != "cache"
        {
            json.name(name);
            write(json, value);
        }
    }
}

fn section<'a>(flow: &'a Flow, name: &str) -> Option<&'a Value> {
    member(imported(flow)?.unknown.as_ref()?, name)
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Dict(members) = value else { return None };
    members.iter().find(|(key, _)| matches!(key, Value::Text(key) if key == name)).map(|(_, value)| value)
}

/// A value that came from JSON as JSON again.
pub(super) fn write(json: &mut Writer<'_>, value: &Value) {
    match value {
        Value::Null => {
            json.null();
        }
        Value::Bool(is) => {
            json.bool(*is);
        }
        Value::Int(digits) if is_int(digits) => {
            json.json(digits.as_bytes());
        }
        Value::Int(text) => {
            json.text(text);
        }
        Value::Float(number) => {
            json.float(*number);
        }
        Value::Bytes(bytes) => {
            json.text(&STANDARD.encode(bytes));
        }
        Value::Text(text) => {
            json.text(text);
        }
        Value::List(items) => {
            json.open_array();
            items.iter().for_each(|item| write(json, item));
            json.close_array();
        }
        Value::Dict(members) => {
            json.open();
            for (name, value) in members {
                match name {
                    Value::Text(name) => json.name(name),
                    Value::Bytes(name) => json.name(&String::from_utf8_lossy(name)),
                    _ => continue,
                };
                write(json, value);
            }
            json.close();
        }
    }
}

/// The same as text of its own.
pub(super) fn to_json(value: &Value, out: &mut Vec<u8>) {
    let mut buffer = Vec::new();
    let mut json = Writer::new(out, &mut buffer);
    write(&mut json, value);
    // A Vec takes everything.
    let _ = json.flush();
}

/// Small JSON as a value.
pub(super) fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::Bool(is),
        serde_json::Value::Number(number) if number.is_f64() => {
            Value::Float(number.as_f64().unwrap_or_default())
        }
        serde_json::Value::Number(number) => Value::Int(number.to_string()),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(members) => Value::Dict(
            members.into_iter().map(|(name, value)| (Value::Text(name), from_json(value))).collect(),
        ),
    }
}

/// Whether it is a whole number as JSON has them, which a leading zero or plus is not.
pub(super) fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.is_empty()
        && (digits == "0" || !digits.starts_with('0'))
}
