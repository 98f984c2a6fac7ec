//! Commands of HTTPie and xh into flows that have a request only. Files that a command names are never read.

use std::io::BufRead;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::asked::{Asked, Url, percent_encoded, put_body};
use super::super::shell::{Command, Input, Posix, ShellError, Word};
use super::super::transfer::{DecodeError, Decoded, Decoder, Part, Sink};
use super::encode::SEPARATORS;
use crate::flow::{Content, Headers, Scheme, Version};

/// Makes the decoder.
pub(super) fn make(reader: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    Box::new(Httpie { shell: Posix::new(reader) })
}

/// A command of ours may begin with what its body comes from.
pub(super) fn sniff(beginning: &[u8]) -> bool {
    let text = beginning.trim_ascii_start();
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let piped = text.starts_with(b"printf '") || text.starts_with(b"base64 -d <<");
    NAMES.iter().any(|(name, _)| {
        let command = [name.as_bytes(), b" "].concat();
        let behind = [b"| ", &command[..]].concat();
        text.starts_with(&command) || piped && line.windows(behind.len()).any(|at| at == behind)
    })
}

struct Httpie {
    shell: Posix<Box<dyn BufRead + Send>>,
}

impl Decoder for Httpie {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        let Some(command) = self.shell.next().map_err(file_error)? else { return Ok(None) };
        let begin = command.words.first().map_or(0, |word| word.position);
        let wrong = |what| DecodeError::Flow { position: begin, what };
        let mut line = Line::default();
        line.read(&command.words)?;
        let body = line.body().map_err(wrong)?;
        let is_piped = command.input != Input::Inherited && !line.ignores_input;
        if is_piped && body.is_some() {
            return Err(wrong("a body both on standard input and in the command".to_owned()));
        }
        let (content, len) = match (&body, is_piped) {
            (Some(body), _) => (put_body(sink, Part::Request, body)?, body.len() as u64),
            (None, true) => self.input(command, sink)?,
            (None, false) => (Content::Inline(Bytes::new()), 0),
        };
        let asked = line.asked(content, len, body.is_some() || is_piped).map_err(wrong)?;
        asked.decoded("httpie").map(Some).map_err(wrong)
    }
}

impl Httpie {
    fn input(&mut self, command: Command, sink: &mut dyn Sink) -> Result<(Content, u64), DecodeError> {
        let mut len = 0;
        sink.begin(Part::Request);
        let mut put = |bytes: &[u8]| {
            len += bytes.len() as u64;
            sink.write(bytes)
        };
        match command.input {
            Input::Bytes(bytes) => put(&bytes)?,
            _ => self.shell.heredoc(&mut put).map_err(file_error)?,
        }
        Ok((sink.end()?, len))
    }
}

/// A command line, understood.
#[derive(Default)]
struct Line {
    scheme: Scheme,
    positional: Vec<Vec<u8>>,
    method: Option<Vec<u8>>,
    url: Option<Vec<u8>>,
    fields: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    query: Vec<(Vec<u8>, Vec<u8>)>,
    data: Vec<(Vec<u8>, Value)>,
    raw: Option<Vec<u8>>,
    auth: Option<Vec<u8>>,
    is_bearer: bool,
    is_form: bool,
    is_json: bool,
    is_chunked: bool,
    ignores_input: bool,
}

impl Line {
    fn read(&mut self, words: &[Word]) -> Result<(), DecodeError> {
        let mut words = words.iter();
        let Some(first) = words.next() else { return Ok(()) };
        let name = first.bytes.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let known = NAMES.iter().find(|(have, _)| have.as_bytes() == name);
        self.scheme = known.ok_or_else(|| wrong(first, "this is no HTTPie or xh command"))?.1;
        let mut only_items = false;
        while let Some(word) = words.next() {
            match &word.bytes[..] {
                b"--" => only_items = true,
                [b'-', b'-', option @ ..] if !only_items => {
                    let (name, value) = match option.iter().position(|&byte| byte == b'=') {
                        Some(at) => (&option[..at], Some(&option[at + 1..])),
                        None => (option, None),
                    };
                    let name = std::str::from_utf8(name).unwrap_or_default();
                    let value = if takes_value(name) {
                        value.or_else(|| words.next().map(|word| &word.bytes[..]))
                    } else {
                        None
                    };
                    self.option(name, value, word)?;
                }
                [b'-', letters @ ..] if !only_items && !letters.is_empty() => {
                    let mut letters = letters;
                    while let [letter, rest @ ..] = letters {
                        letters = rest;
                        let name = long_name(*letter).ok_or_else(|| unknown(word))?;
                        let mut value = None;
                        if takes_value(name) {
                            value = if rest.is_empty() {
                                words.next().map(|word| &word.bytes[..])
                            } else {
                                Some(rest)
                            };
                            letters = &[];
                        }
                        self.option(name, value, word)?;
                    }
                }
                _ => self.positional(word)?,
            }
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: Option<&[u8]>, word: &Word) -> Result<(), DecodeError> {
        if takes_value(name) && value.is_none() {
            return Err(wrong(word, "this option has no value"));
        }
        match name {
            "form" => self.is_form = true,
            "json" => self.is_json = true,
            "chunked" => self.is_chunked = true,
            "ignore-stdin" => self.ignores_input = true,
            "raw" => self.raw = value.map(<[u8]>::to_vec),
            "auth" => self.auth = value.map(<[u8]>::to_vec),
            "auth-type" => match value {
                Some(b"basic") => {}
                Some(b"bearer") => self.is_bearer = true,
                _ => return Err(wrong(word, "of kinds of authentication, basic and bearer are read")),
            },
            "multipart" => return Err(wrong(word, "forms in parts are not read: give the body with --raw")),
            _ if FLAGS.contains(&name) || SETTINGS.contains(&name) => {}
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    /// `[METHOD] URL [ITEM…]`
    fn positional(&mut self, word: &Word) -> Result<(), DecodeError> {
        if self.url.is_none() {
            let is_method = word.bytes.iter().all(u8::is_ascii_alphabetic);
            // A single word of letters is a method only if another one follows.
            if is_method && self.method.is_none() && self.positional.is_empty() {
                self.method = Some(word.bytes.to_ascii_uppercase());
            } else {
                self.url = Some(word.bytes.clone());
            }
            self.positional.push(word.bytes.clone());
            return Ok(());
        }
        self.item(word)
    }

    fn item(&mut self, word: &Word) -> Result<(), DecodeError> {
        let Some((key, separator, value)) = split(&word.bytes) else {
            return Err(wrong(
                word,
                "this is no request item: NAME:VALUE, NAME==VALUE, NAME=VALUE or NAME:=JSON",
            ));
        };
        match separator {
            ":" => self.fields.push((key, Some(value).filter(|value| !value.is_empty()))),
            ";" if value.is_empty() => self.fields.push((key, Some(Vec::new()))),
            "==" => self.query.push((key, value)),
            "=" | ":=" => {
                let text =
                    |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| wrong(word, "not UTF-8"));
                let json = match separator {
                    "=" => Value::String(text(&value)?),
                    _ => serde_json::from_slice(&value)
                        .map_err(|error| wrong(word, &format!("not JSON: {error}")))?,
                };
                if key.contains(&b'[') && !self.is_form {
                    return Err(wrong(word, "nested keys are not read: give the body with --raw"));
                }
                text(&key)?;
                self.data.push((key, json));
            }
            _ => {
                return Err(wrong(
                    word,
                    "it reads a file, which an import does not do: give the content instead",
                ));
            }
        }
        Ok(())
    }

    /// What the command itself has of a body.
    fn body(&self) -> Result<Option<Vec<u8>>, String> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        match (&self.raw, self.data.is_empty()) {
            (Some(_), false) => Err("--raw and items of data cannot be mixed".to_owned()),
            (Some(raw), true) => Ok(Some(raw.clone())),
            (None, true) => Ok(None),
            (None, false) if self.is_form => {
                let pairs = self.data.iter().map(|(key, value)| {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    format!("{}={}", form_encoded(key), form_encoded(value.as_bytes()))
                });
                Ok(Some(pairs.collect::<Vec<_>>().join("&").into_bytes()))
            }
            (None, false) => {
                let object: Map<String, Value> =
                    self.data.iter().map(|(key, value)| (text(key), value.clone())).collect();
                Ok(Some(Value::Object(object).to_string().into_bytes()))
            }
        }
    }

    /// The request that HTTPie would make of it, but for fields that tell its version.
    fn asked(mut self, content: Content, len: u64, has_body: bool) -> Result<Asked, String> {
        let url = match (self.url.take(), self.method.take()) {
            (Some(url), method) => {
                self.method = method;
                url
            }
            // What looked like a method was the host.
            (None, Some(_)) => self.positional.pop().unwrap_or_default(),
            (None, None) => return Err("there is no URL".to_owned()),
        };
        let url = match url.strip_prefix(b":") {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => [b"localhost", rest].concat(),
            Some(rest) if rest[0].is_ascii_digit() => [b"localhost:", rest].concat(),
            _ => url,
        };
        let mut url = Url::parse(url.strip_prefix(b"://").unwrap_or(&url), self.scheme)?;
        for (key, value) in &self.query {
            url.path.push(if url.path.contains(&b'?') { b'&' } else { b'?' });
            url.path.extend_from_slice(format!("{}={}", form_encoded(key), form_encoded(value)).as_bytes());
        }
        let default: &[u8] = if has_body { b"POST" } else { b"GET" };
        let method = self.method.take().unwrap_or_else(|| default.to_vec());
        let headers = self.headers(&url, has_body, len);
        let is_chunked = has_body && self.is_chunked;
        Ok(Asked { method, url, version: Version::Http11, headers, content, len, is_chunked })
    }

    fn headers(&self, url: &Url, has_body: bool, len: u64) -> Headers {
        let has = |name: &str| self.fields.iter().any(|(have, _)| have.eq_ignore_ascii_case(name.as_bytes()));
        let is_json = self.is_json || !self.data.is_empty() && !self.is_form;
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut own = |name: &str, value: &str| {
            if !has(name) {
                headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            }
        };
        own("Host", &url.target.authority());
        own("Accept-Encoding", "gzip, deflate");
        own("Accept", if is_json || self.raw.is_some() { "application/json, */*;q=0.5" } else { "*/*" });
        own("Connection", "keep-alive");
        if has_body {
            let media_type = if self.is_form {
                "application/x-www-form-urlencoded; charset=utf-8"
            } else {
                "application/json"
            };
            own("Content-Type", media_type);
            match self.is_chunked {
                true => own("Transfer-Encoding", "chunked"),
                false => own("Content-Length", &len.to_string()),
            }
        }
        if let Some(auth) = &self.auth {
            let value = match self.is_bearer {
                true => format!("Bearer {}", String::from_utf8_lossy(auth)),
                false => format!("Basic {}", STANDARD.encode(auth)),
            };
            own("Authorization", &value);
        }
        let given = self.fields.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        headers.into_iter().chain(given).collect()
    }
}

/// Key, separator and value of an item: the first separator counts, of those the longest; a backslash makes it a character.
fn split(item: &[u8]) -> Option<(Vec<u8>, &'static str, Vec<u8>)> {
    let is_special = |byte: u8| SEPARATORS.contains(&char::from(byte));
    let mut key = Vec::new();
    let mut at = 0;
    let separator = loop {
        match item.get(at..)? {
            [] => return None,
            [b'\\', escaped, ..] if is_special(*escaped) => {
                key.push(*escaped);
                at += 2;
            }
            [b'\\', other, ..] => {
                key.extend([b'\\', *other]);
                at += 2;
            }
            rest => match ITEMS.iter().find(|separator| rest.starts_with(separator.as_bytes())) {
                Some(separator) => break *separator,
                None => {
                    key.push(rest[0]);
                    at += 1;
                }
            },
        }
    };
    let mut value = Vec::new();
    let mut rest = &item[at + separator.len()..];
    loop {
        rest = match rest {
            [] => break,
            [b'\\', escaped, rest @ ..] if is_special(*escaped) => {
                value.push(*escaped);
                rest
            }
            [b'\\', other, rest @ ..] => {
                value.extend([b'\\', *other]);
                rest
            }
            [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
        };
    }
    Some((key, separator, value))
}

fn form_encoded(bytes: &[u8]) -> String {
    percent_encoded(bytes).replace("%20", "+")
}

fn takes_value(name: &str) -> bool {
    matches!(name, "raw" | "auth" | "auth-type") || SETTINGS.contains(&name)
}

fn long_name(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'f' => "form",
        b'j' => "json",
        b'a' => "auth",
        b'A' => "auth-type",
        b'I' => "ignore-stdin",
        b'p' => "print",
        b'o' => "output",
        b's' => "style",
        b'P' => "history-print",
        b'v' | b'h' | b'b' | b'm' | b'd' | b'c' | b'F' | b'q' | b'S' | b'x' | b'4' | b'6' => "verbose",
        _ => return None,
    })
}

fn wrong(word: &Word, what: &str) -> DecodeError {
    let shown: String = word.bytes.escape_ascii().to_string().chars().take(60).collect();
    DecodeError::Flow { position: word.position, what: format!("`{shown}`: {what}") }
}

fn unknown(word: &Word) -> DecodeError {
    wrong(word, "this option is not known here: take it out")
}

fn file_error(error: ShellError) -> DecodeError {
    match error {
        ShellError::Syntax { position, what } => DecodeError::File { position, what },
        ShellError::Io(error) => DecodeError::Io(error),
    }
}

const NAMES: [(&str, Scheme); 4] =
    [("http", Scheme::Http), ("https", Scheme::Https), ("xh", Scheme::Http), ("xhs", Scheme::Https)];

/// Longer ones first.
const ITEMS: [&str; 9] = [":=@", ":=", ":@", "==", "=@", "=", ":", ";", "@"];

/// Options that change nothing in the request, and have no value.
const FLAGS: &[&str] = &[
    "verbose",
    "headers",
    "body",
    "meta",
    "download",
    "continue",
    "follow",
    "quiet",
    "stream",
    "all",
    "offline",
    "check-status",
    "path-as-is",
    "unsorted",
    "sorted",
    "debug",
    "traceback",
    "no-verify",
    "ignore-netrc",
    "compress",
    "native-tls",
    "https",
    "http2-prior-knowledge",
    "ipv4",
    "ipv6",
];

/// The same with a value.
const SETTINGS: &[&str] = &[
    "print",
    "history-print",
    "output",
    "style",
    "pretty",
    "format-options",
    "response-charset",
    "response-mime",
    "session",
    "session-read-only",
    "verify",
    "ssl",
    "ciphers",
    "cert",
    "cert-key",
    "cert-key-pass",
    "timeout",
    "max-redirects",
    "max-headers",
    "proxy",
    "default-scheme",
    "http-version",
    "resolve",
    "interface",
];
