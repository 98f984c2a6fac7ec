//! A recorded request as a curl command for any POSIX shell.
//!
//! What it sends is what the client sent, but for fields that were meant for the proxy: method, target, the fields in their
//! order and case, and the body to the byte. So curl's own fields are taken off, and where curl would put one elsewhere
//! than it stood (`Host`, `Content-Length`), the place is forced. A redirect is not followed and nothing is decoded.
//! HTTP/2 has no `Host` field: there curl makes `:authority` of it.

use std::io::Write;

use super::super::ask::{Ask, AskBody, unsuitable};
use super::super::shell;
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item};
use crate::flow::{Scheme, Version};

/// Makes the encoder.
pub(super) fn make(options: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Curl { options: options.clone() })
}

struct Curl {
    options: EncodeOptions,
}

impl Encoder for Curl {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let ask = Ask::of(item)?;
        let mut command = Command::new(&ask)?;
        command.method(&ask)?;
        command.version(&ask);
        if self.options.keep_address {
            command.address(&ask, item);
        }
        command.fields(&ask)?;
        let before = command.body(&ask);
        let is_document = before == shell::HEREDOC;
        let body = if is_document { Some(Ask::open(item)?) } else { None };
        writeln!(out, "{before}{}", command.parts.join(" \\\n  "))?;
        if let Some(mut body) = body {
            shell::heredoc(&mut body, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}

/// A command as it grows: `curl URL`, and options, a line each.
struct Command {
    parts: Vec<String>,
}

impl Command {
    fn new(ask: &Ask<'_>) -> Result<Self, EncodeError> {
        let origin = ask.origin();
        let in_url = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]{}|".contains(&byte);
        if !ask.path.starts_with(b"/") || !ask.path.iter().all(|&byte| in_url(byte)) {
            let mut parts = vec![format!("curl {}", quoted(format!("{origin}/").as_bytes())?)];
            parts.push(format!("--request-target {}", quoted(&ask.path)?));
            return Ok(Self { parts });
        }
        let mut parts = vec![format!("curl {}", quoted(&[origin.as_bytes(), &ask.path].concat())?)];
        if ask.path.iter().any(|byte| b"[]{}".contains(byte)) {
            parts.push("--globoff".to_owned());
        }
        if ask.has_dot_segment() {
            parts.push("--path-as-is".to_owned());
        }
        Ok(Self { parts })
    }

    fn method(&mut self, ask: &Ask<'_>) -> Result<(), EncodeError> {
        match (&ask.body, ask.method) {
            (AskBody::None, "GET") | (AskBody::Bytes(_) | AskBody::Long, "POST") => {}
            (AskBody::None, "HEAD") => self.parts.push("--head".to_owned()),
            (_, "HEAD") => return Err(unsuitable("curl waits for a body when a HEAD request has one")),
            (_, method) => self.parts.push(format!("-X {}", quoted(method.as_bytes())?)),
        }
        Ok(())
    }

    /// Over TLS curl would offer HTTP/2 unless told otherwise.
    fn version(&mut self, ask: &Ask<'_>) {
        let option = match (ask.version, ask.target.scheme) {
            (Version::Http10, _) => "--http1.0",
            (Version::Http11, Scheme::Https) => "--http1.1",
            (Version::Http11, _) => return,
            (Version::Http2, Scheme::Https) => "--http2",
            (Version::Http2, _) => "--http2-prior-knowledge",
            (Version::Http3, _) => "--http3",
        };
        self.parts.push(option.to_owned());
    }

    fn address(&mut self, ask: &Ask<'_>, item: &dyn Item) {
        let peer = item.flow().server.as_ref().and_then(|server| server.peer.as_ref());
        let address = peer.and_then(|peer| peer.host.parse::<std::net::IpAddr>().ok());
        // The name of a literal is itself.
        let (Some(address), Err(_)) = (address, ask.target.host.parse::<std::net::IpAddr>()) else { return };
        let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        self.parts.push(format!("--resolve '{}:{}:{address}'", ask.target.host, ask.target.port));
    }

    fn fields(&mut self, ask: &Ask<'_>) -> Result<(), EncodeError> {
        let is_http2 = ask.version >= Version::Http2;
        let authority = ask.target.authority();
        let mut fields = &ask.fields[..];
        match fields.first() {
            // It is where curl has its own, and says the same.
            Some(("Host", value)) if **value == *authority.as_bytes() => fields = &fields[1..],
            // curl writes a first `Host` before all else; one behind an empty one stays where and as it is.
            _ if !is_http2 => self.header("Host:")?,
            _ => {}
        }
        let has_body = !matches!(ask.body, AskBody::None);
        for (name, matters) in
            [("User-Agent", true), ("Accept", true), ("Content-Type", has_body), ("Expect", has_body)]
        {
            if matters && ask.field(name).is_none() {
                self.header(format!("{name}:"))?;
            }
        }
        if has_body && !ask.is_chunked {
            match fields.last() {
                // Where curl has its own.
                Some(("Content-Length", _)) => fields = &fields[..fields.len() - 1],
                // HTTP/2 needs none.
                _ if is_http2 && ask.field("content-length").is_none() => self.header("Content-Length:")?,
                _ => {}
            }
        }
        for (name, value) in fields {
            let field = if value.is_empty() {
                format!("{name};").into_bytes()
            } else {
                [name.as_bytes(), b": ", value].concat()
            };
            self.header(field)?;
        }
        Ok(())
    }

    fn header(&mut self, field: impl AsRef<[u8]>) -> Result<(), EncodeError> {
        self.parts.push(format!("-H {}", quoted(field.as_ref())?));
        Ok(())
    }

    /// Adds the body; what goes before the command, if it is on standard input.
    fn body(&mut self, ask: &Ask<'_>) -> String {
        let (before, option) = match &ask.body {
            AskBody::None => return String::new(),
            AskBody::Long => (shell::HEREDOC.to_owned(), "--data-binary @-".to_owned()),
            AskBody::Bytes(bytes) => {
                let word = if bytes.len() <= MAX_ARGUMENT { shell::single_quoted(bytes) } else { None };
                match word {
                    // What begins with @ is a file to the others.
                    Some(word) => (String::new(), format!("--data-raw {word}")),
                    None => (shell::piped(bytes), "--data-binary @-".to_owned()),
                }
            }
        };
        self.parts.push(option);
        before
    }
}

/// As one word.
fn quoted(bytes: &[u8]) -> Result<String, EncodeError> {
    if bytes.len() > MAX_WORD {
        return Err(unsuitable("its head does not fit into a command line"));
    }
    shell::word(bytes).ok_or_else(|| unsuitable("no shell can pass on such bytes"))
}

/// Linux takes 128 KiB in one argument, Windows' shells 32,767 characters in all; what is longer nobody reads.
const MAX_ARGUMENT: usize = 32 << 10;

/// Linux, `MAX_ARG_STRLEN`: 128 KiB with the NUL.
const MAX_WORD: usize = (128 << 10) - 1;
