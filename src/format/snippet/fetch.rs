//! JavaScript with fetch.

use std::fmt::Write as _;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::ask::{Ask, AskBody, unsuitable};
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item};
use super::super::visible::is_hidden;

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Fetch)
}

struct Fetch;

impl Encoder for Fetch {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let ask = Ask::of(item)?;
        let path = ask.plain_path().ok_or_else(|| unsuitable("fetch would change its URL"))?;
        check_method(&ask)?;
        let (fields, is_joined) = ask.joined_fields();
        let mut text = "{\n".to_owned();
        if is_joined {
            text += "  // Fields of one name are joined: they mean the same.\n";
        }
        let url = format!("{}{path}", ask.origin());
        push(&mut text, format_args!("  const response = await fetch({}, {{\n", latin1(url.as_bytes())));
        push(&mut text, format_args!("    method: {},\n    headers: [\n", latin1(ask.method.as_bytes())));
        for (name, value) in &fields {
            if !is_its_own(name) {
                push(&mut text, format_args!("      [{}, {}],\n", latin1(name.as_bytes()), latin1(value)));
            }
        }
        text += "    ],\n";
        let long = if matches!(ask.body, AskBody::Long) { Some(Ask::open(item)?) } else { None };
        match &ask.body {
            AskBody::None => {}
            AskBody::Bytes(bytes) => match std::str::from_utf8(bytes) {
                // Without a type, fetch gives a text one of its own.
                Ok(body) if ask.field("content-type").is_some() => {
                    push(&mut text, format_args!("    body: {},\n", string(body)));
                }
                _ => push(&mut text, format_args!("    body: {BYTES}\"{}\"{BEHIND}", STANDARD.encode(bytes))),
            },
            AskBody::Long => push(&mut text, format_args!("    body: {BYTES}`\n")),
        }
        out.write_all(text.as_bytes())?;
        if let Some(mut body) = long {
            super::base64_lines(&mut body, out)?;
            write!(out, "`{BEHIND}")?;
        }
        out.write_all(END.as_bytes())?;
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Fetch standard, "Methods" and "Request class".
fn check_method(ask: &Ask<'_>) -> Result<(), EncodeError> {
    let upper = ask.method.to_ascii_uppercase();
    let is_normalised = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"].contains(&upper.as_str());
    if ["CONNECT", "TRACE", "TRACK"].contains(&upper.as_str()) || is_normalised && upper != ask.method {
        return Err(unsuitable("fetch does not send this method"));
    }
    if matches!(ask.method, "GET" | "HEAD") && !matches!(ask.body, AskBody::None) {
        return Err(unsuitable("fetch sends no body with GET and HEAD"));
    }
    Ok(())
}

/// Whether fetch makes the field, and refuses to be given it (Fetch standard, "forbidden request-header"; Node.js for the rest).
fn is_its_own(name: &str) -> bool {
    let own = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// A literal whose characters are these bytes, as field values are given.
fn latin1(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            ' '..='~' if !matches!(c, '"' | '\\' | '<') => out.push(c),
            c => push(&mut out, format_args!("\\x{:02x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// A literal that is this text. It may stand inside of a page: `</script>` does not end it there.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' if matches!(rest.peek(), Some('/' | '!')) => out.push_str("\\x3c"),
            c if c.is_control() || is_hidden(c) => push(&mut out, format_args!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments); // a String takes everything
}

const BYTES: &str = "Uint8Array.from(atob(";

const BEHIND: &str = "), (c) => c.charCodeAt(0)),\n";

const END: &str = "    redirect: \"manual\",\n  });\n  console.log(response.status, response.statusText);\n  \
                   console.log(await response.text());\n}\n";
