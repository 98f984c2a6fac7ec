//! Secrets in bodies that are JSON or forms. All but the values that are masked stays byte for byte.

use super::names::is_secret;
use super::{MASK, Masked, fields};

/// What kind of body it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value or many, one behind the other.
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`, with its boundary; empty, if the type names none.
    Parts(Vec<u8>),
}

impl Shape {
    /// By the `Content-Type`; `None` for those that are not looked through.
    pub(super) fn of_type(media_type: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(media_type).to_ascii_lowercase();
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence == "application/x-www-form-urlencoded" {
            return Some(Shape::Form);
        }
        if essence == "multipart/form-data" {
            // In the bytes themselves: what is no UTF-8 has another length as text.
            let lower = media_type.to_ascii_lowercase();
            let at =
                memchr::memmem::find(&lower, BOUNDARY).map_or(media_type.len(), |at| at + BOUNDARY.len());
            let rest = &media_type[at..];
            let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
            let end = rest.iter().position(|b| matches!(b, b'"' | b';')).unwrap_or(rest.len());
            return Some(Shape::Parts(rest[..end].trim_ascii().to_vec()));
        }
        let is_json =
            essence.ends_with("json") || essence.ends_with("json-patch") || essence.contains("ndjson");
        is_json.then_some(Shape::Json)
    }

    /// By itself: JSON is an object or an array, a form has a name before its first `=`, and no blanks.
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        if matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Some(Shape::Json);
        }
        let name_len = text.iter().position(|&b| b == b'=')?;
        let is_name =
            |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'%' | b'[' | b']');
        let is_form =
            name_len > 0 && text[..name_len].iter().all(is_name) && text.iter().all(u8::is_ascii_graphic);
        is_form.then_some(Shape::Form)
    }

    /// The body with its secrets masked; `None` if it has none.
    pub(super) fn redact(&self, body: &[u8], masked: &mut Masked) -> Option<Vec<u8>> {
        let redacted = match self {
            Shape::Json => json(body, masked),
            Shape::Form => fields::parameters_masked(body, is_secret, masked),
            Shape::Parts(boundary) => parts(body, boundary, masked),
        };
        (redacted != body).then_some(redacted)
    }
}

const BOUNDARY: &[u8] = b"boundary=";

/// Looks for `"name" : value` and nothing else, so that broken JSON is masked as far as can be.
fn json(text: &[u8], masked: &mut Masked) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(len) = memchr::memchr(b'"', &text[at..]) {
        let begin = at + len;
        let end = string_end(text, begin);
        let colon = blanks_end(text, end);
        out.extend_from_slice(&text[at..end]);
        at = end;
        if text.get(colon) != Some(&b':') {
            continue;
        }
        let name = unescaped(&text[begin + 1..end.saturating_sub(1).max(begin + 1)]);
        let value = blanks_end(text, colon + 1);
        let value_end = value_end(text, value);
        let says_nothing =
            matches!(&text[value..value_end], b"" | b"null" | b"\"\"" | b"true" | b"false" | b"[]" | b"{}");
        if is_secret(&name) && !says_nothing {
            masked.count(&name);
            out.extend_from_slice(&text[at..value]);
            out.extend_from_slice(format!("\"{MASK}\"").as_bytes());
            at = value_end;
        }
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// A name with its escapes undone, as far as they are right: it might hide a secret's.
fn unescaped(name: &[u8]) -> String {
    let quoted = [b"\"", name, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_else(|_| String::from_utf8_lossy(name).into_owned())
}

/// Behind the closing quote of the string that begins at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(len) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += len;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

fn blanks_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|b| !b.is_ascii_whitespace()).map_or(text.len(), |len| at + len)
}

/// Behind the value that begins at `at`, with all that is inside it.
fn value_end(text: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut at = at;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 0 { at } else { at + 1 },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Parts of a form whose name is a secret's lose their content (RFC 7578).
fn parts(body: &[u8], boundary: &[u8], masked: &mut Masked) -> Vec<u8> {
    if boundary.is_empty() {
        return body.to_vec();
    }
    let delimiter = [b"--", boundary].concat();
    let starts: Vec<usize> = memchr::memmem::find_iter(body, &delimiter).collect();
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(body.len());
        let Some(head_len) = memchr::memmem::find(&body[*start..end], b"\r\n\r\n") else { continue };
        let content = start + head_len + 4;
        let content_end = if body[content..end].ends_with(b"\r\n") { end - 2 } else { end };
        let Some(name) = part_name(&body[*start..content]) else { continue };
        if content < content_end && is_secret(&name) {
            masked.count(&name);
            out.extend_from_slice(&body[at..content]);
            out.extend_from_slice(MASK.as_bytes());
            at = content_end;
        }
    }
    out.extend_from_slice(&body[at..]);
    out
}

/// What `Content-Disposition` says of a part's name.
fn part_name(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    line.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("name").then(|| value.trim().trim_matches('"').to_owned())
    })
}
