//! A recorded request as an HTTPie command for any POSIX shell.

use std::io::{self, Write};

use super::super::ask::{Ask, AskBody, unsuitable};
use super::super::shell;
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item};
use crate::flow::Version;

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Httpie)
}

struct Httpie;

impl Encoder for Httpie {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let ask = Ask::of(item)?;
        let path = ask.plain_path().ok_or_else(|| unsuitable("HTTPie would change its URL"))?;
        if !ask.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(unsuitable("HTTPie sends methods of capital letters only"));
        }
        let url = quoted(format!("{}{path}", ask.origin()).as_bytes())?;
        let (before, options) = body(&ask)?;
        let mut parts = vec![format!("http{options} {} {url}", ask.method)];
        parts.extend(items(&ask)?);
        let long = if before == shell::HEREDOC { Some(Ask::open(item)?) } else { None };
        writeln!(out, "{before}{}", parts.join(" \\\n  "))?;
        if let Some(mut body) = long {
            shell::heredoc(&mut body, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// What stands before the command, and the options about the body.
fn body(ask: &Ask<'_>) -> Result<(String, String), EncodeError> {
    let chunked = if ask.is_chunked { " --chunked" } else { "" };
    let none = String::new;
    Ok(match &ask.body {
        AskBody::Bytes(bytes) if bytes.is_empty() => {
            return Err(unsuitable("HTTPie sends no empty body in chunks"));
        }
        // Without a terminal it would wait for a body on its standard input.
        AskBody::None => (none(), " --ignore-stdin".to_owned()),
        AskBody::Long => (shell::HEREDOC.to_owned(), chunked.to_owned()),
        AskBody::Bytes(bytes) => match shell::single_quoted(bytes).filter(|_| bytes.len() <= MAX_ARGUMENT) {
            // One that begins with a hyphen would be an option.
            Some(word) if !bytes.starts_with(b"-") => {
                (none(), format!(" --ignore-stdin{chunked} --raw {word}"))
            }
            _ => (shell::piped(bytes), chunked.to_owned()),
        },
    })
}

/// Fields as request items, and its own fields taken off.
fn items(ask: &Ask<'_>) -> Result<Vec<String>, EncodeError> {
    let fields = if ask.version >= Version::Http2 { ask.joined_fields().0 } else { ask.fields.clone() };
    let mut items = Vec::new();
    let has_body = !matches!(ask.body, AskBody::None);
    for (name, matters) in [
        ("User-Agent", true),
        ("Accept-Encoding", true),
        ("Accept", true),
        ("Connection", true),
        ("Content-Type", has_body),
    ] {
        if matters && ask.field(name).is_none() {
            items.push(format!("'{name}:'"));
        }
    }
    for (name, value) in &fields {
        let is_framing =
            ["content-length", "transfer-encoding"].iter().any(|own| own.eq_ignore_ascii_case(name));
        if is_framing && has_body {
            continue;
        }
        items.push(quoted(item(name, value)?.as_bytes())?);
    }
    Ok(items)
}

/// `Name:value` (HTTPie's manual, "Request items" and "Escaping rules").
fn item(name: &str, value: &[u8]) -> Result<String, EncodeError> {
    let value = std::str::from_utf8(value).map_err(|_| unsuitable("HTTPie takes only UTF-8 in a field"))?;
    if name.starts_with('-') {
        return Err(unsuitable("HTTPie takes this field's name for an option"));
    }
    if value.is_empty() {
        return Ok(format!("{name};"));
    }
    // It takes a backslash off before these, and knows no way to write one there.
    let mut is_escape = false;
    for c in value.chars() {
        if is_escape && SEPARATORS.contains(&c) {
            return Err(unsuitable("HTTPie cannot send a backslash before `:`, `;`, `=` or `@`"));
        }
        is_escape = c == '\\' && !is_escape;
    }
    // `:=` and `:@` are other kinds of items.
    let escape = if value.starts_with(['=', '@']) { "\\" } else { "" };
    Ok(format!("{name}:{escape}{value}"))
}

fn quoted(bytes: &[u8]) -> Result<String, EncodeError> {
    if bytes.len() > MAX_WORD {
        return Err(unsuitable("its head does not fit into a command line"));
    }
    shell::word(bytes).ok_or_else(|| unsuitable("no shell can pass on such bytes"))
}

pub(super) const SEPARATORS: [char; 4] = [':', ';', '=', '@'];

/// As with curl.
const MAX_ARGUMENT: usize = 32 << 10;

/// Linux, `MAX_ARG_STRLEN`: 128 KiB with the NUL.
const MAX_WORD: usize = (128 << 10) - 1;
