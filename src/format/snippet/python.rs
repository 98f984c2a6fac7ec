//! Python with requests.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::super::ask::{Ask, AskBody, unsuitable};
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item};

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Python)
}

struct Python;

impl Encoder for Python {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let ask = Ask::of(item)?;
        let path = path(&ask)?;
        let is_plain = ask.plain_path().is_some();
        let keeps_method = ask.method.to_ascii_uppercase() == ask.method;
        let (fields, is_joined) = ask.joined_fields();
        let mut text = String::new();
        if matches!(ask.body, AskBody::Long) {
            text += "import base64\n";
        }
        text += "import requests\nimport urllib3\n\n";
        if !is_plain {
            text += "# The target as it was recorded: urllib3 would write its escapes anew.\n";
            text += "urllib3.connectionpool._encode_target = lambda target: target\n\n";
        }
        text += "session = requests.Session()\nsession.headers.clear()\n";
        if is_joined {
            text += "# Fields of one name are joined: they mean the same.\n";
        }
        text += "request = session.prepare_request(requests.Request(\n";
        let url = format!("{}{}", ask.origin(), if is_plain { path } else { "/" });
        push(
            &mut text,
            format_args!(
                "    {},\n    {},\n    headers={{\n",
                literal(ask.method.as_bytes()),
                literal(url.as_bytes())
            ),
        );
        for (name, value) in &fields {
            push(&mut text, format_args!("        {}: {},\n", literal(name.as_bytes()), literal(value)));
        }
        for name in ["User-Agent", "Accept-Encoding"] {
            if ask.field(name).is_none() {
                push(&mut text, format_args!("        '{name}': urllib3.util.SKIP_HEADER,\n"));
            }
        }
        text += "    },\n";
        let (before, after) = if ask.is_chunked { ("iter([", "])") } else { ("", "") };
        match &ask.body {
            AskBody::None => {}
            AskBody::Bytes(bytes) if bytes.is_empty() => text += "    data=iter([]),\n",
            AskBody::Bytes(bytes) => {
                push(&mut text, format_args!("    data={before}b{}{after},\n", literal(bytes)))
            }
            AskBody::Long => push(&mut text, format_args!("    data={before}base64.b64decode('''\n")),
        }
        let long = if matches!(ask.body, AskBody::Long) { Some(Ask::open(item)?) } else { None };
        out.write_all(text.as_bytes())?;
        if let Some(mut body) = long {
            super::base64_lines(&mut body, out)?;
            writeln!(out, "'''){after},")?;
        }
        let mut text = "))\n".to_owned();
        if !keeps_method {
            push(&mut text, format_args!("request.method = {}\n", literal(ask.method.as_bytes())));
        }
        if !is_plain {
            let url = format!("{}{path}", ask.origin());
            push(&mut text, format_args!("request.url = {}\n", literal(url.as_bytes())));
        }
        text += "response = session.send(request, allow_redirects=False)\n";
        text += "print(response.status_code, response.reason)\nprint(response.text)\n\n";
        out.write_all(text.as_bytes())?;
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// The path, if requests can be made to send it.
fn path<'a>(ask: &'a Ask<'_>) -> Result<&'a str, EncodeError> {
    let text = std::str::from_utf8(&ask.path).ok().filter(|text| text.is_ascii() && text.starts_with('/'));
    let text = text.filter(|text| !text.contains('#') && !text.starts_with("//") && !text.ends_with('?'));
    text.ok_or_else(|| unsuitable("requests would change its URL"))
}

/// A literal that means these bytes, as `bytes` behind a `b`, and else as the text that is sent as these bytes (ISO 8859-1).
fn literal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('\'');
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => push(&mut out, format_args!("\\x{byte:02x}")),
        }
    }
    out.push('\'');
    out
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments); // a String takes everything
}
