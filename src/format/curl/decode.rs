//! Commands of curl, as browsers copy them and as we write them, into flows that have a request only.
//!
//! The request is what curl would send, its own fields (`Host`, `Accept`, `Content-Length`, `Content-Type`) in its own places,
//! but for `User-Agent`, which tells a version that no command line knows. Files that a command names are never read.

use std::io::BufRead;

use super::super::asked::{Asked, Url, percent_encoded, put_body};
use super::super::shell::{Cmd, Command, Input, Posix, ShellError, Word};
use super::super::transfer::{DecodeError, Decoded, Decoder, Part, Sink};
use super::options::{self, Meaning};
use crate::flow::{Content, Headers, Scheme, Version};

/// Makes the decoder.
pub(super) fn make(reader: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    Box::new(Curl { shell: Shell::Unknown(Some(reader)) })
}

/// A command of ours may begin with what its body comes from.
pub(super) fn sniff(beginning: &[u8]) -> bool {
    let text = beginning.trim_ascii_start();
    let ours = |prefix: &[u8]| {
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        text.starts_with(prefix) && line.windows(b"| curl ".len()).any(|at| at == b"| curl ")
    };
    text.starts_with(b"curl ") || text.starts_with(b"curl.exe ") || ours(b"printf '") || ours(b"base64 -d <<")
}

struct Curl {
    shell: Shell,
}

/// Whose quotes they are: the first command tells.
enum Shell {
    Unknown(Option<Box<dyn BufRead + Send>>),
    Posix(Posix<Box<dyn BufRead + Send>>),
    Cmd(Cmd<Box<dyn BufRead + Send>>),
}

impl Decoder for Curl {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        let command = match &mut self.shell {
            Shell::Unknown(reader) => {
                let Some(mut reader) = reader.take() else { return Ok(None) };
                let is_cmd = is_cmd(reader.fill_buf()?);
                self.shell =
                    if is_cmd { Shell::Cmd(Cmd::new(reader)) } else { Shell::Posix(Posix::new(reader)) };
                return self.next(sink);
            }
            Shell::Posix(shell) => shell.next(),
            Shell::Cmd(shell) => shell.next(),
        };
        let Some(command) = command.map_err(file_error)? else { return Ok(None) };
        let begin = command.words.first().map_or(0, |word| word.position);
        let mut line = Line::default();
        line.read(&command.words)?;
        let (content, len) = self.body(&mut line, command, sink)?;
        let wrong = |what| DecodeError::Flow { position: begin, what };
        line.asked(content, len).and_then(|asked| asked.decoded("curl")).map(Some).map_err(wrong)
    }
}

impl Curl {
    /// Hands the body over; what stands for it, and its length.
    fn body(
        &mut self,
        line: &mut Line,
        command: Command,
        sink: &mut dyn Sink,
    ) -> Result<(Content, u64), DecodeError> {
        let Some(from_input) = line.input else {
            let body = match &line.body {
                Some(body) if !line.is_get => &body[..],
                _ => return Ok((Content::Inline(bytes::Bytes::new()), 0)),
            };
            return Ok((put_body(sink, Part::Request, body)?, body.len() as u64));
        };
        let strips = from_input == Meaning::Data;
        let mut len = 0;
        sink.begin(Part::Request);
        let mut put = |bytes: &[u8]| {
            let is_kept = |byte: &u8| !strips || !matches!(byte, b'\r' | b'\n' | 0);
            let kept: Vec<u8> = bytes.iter().copied().filter(is_kept).collect();
            len += kept.len() as u64;
            sink.write(&kept)
        };
        put(line.body.as_deref().unwrap_or_default())?;
        match (command.input, &mut self.shell) {
            (Input::Bytes(bytes), _) => put(&bytes)?,
            (Input::Document, Shell::Posix(shell)) => shell.heredoc(&mut put).map_err(file_error)?,
            _ => {
                let position = command.words.first().map_or(0, |word| word.position);
                let what = "its body comes from standard input (`@-`), which is not in this file";
                return Err(DecodeError::Flow { position, what: what.to_owned() });
            }
        }
        Ok((sink.end()?, len))
    }
}

/// A command line, its options understood.
#[derive(Default)]
struct Line {
    url: Option<Vec<u8>>,
    method: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    version: Version,
    /// Fields of `-H` as they were given.
    fields: Vec<Vec<u8>>,
    agent: Option<Vec<u8>>,
    referer: Option<Vec<u8>>,
    cookie: Option<Vec<u8>>,
    range: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    bearer: Option<Vec<u8>>,
    is_get: bool,
    is_head: bool,
    is_compressed: bool,
    is_json: bool,
    body: Option<Vec<u8>>,
    /// The option by which the rest of the body comes from standard input.
    input: Option<Meaning>,
    parts: Vec<u8>,
}

impl Line {
    fn read(&mut self, words: &[Word]) -> Result<(), DecodeError> {
        let mut words = words.iter();
        match words.next() {
            Some(word) if is_curl(&word.bytes) => {}
            Some(word) => return Err(wrong(word, "this is no curl command")),
            None => return Ok(()),
        }
        let mut only_urls = false;
        while let Some(word) = words.next() {
            match &word.bytes[..] {
                b"--" => only_urls = true,
                [b'-', b'-', name @ ..] if !only_urls => {
                    let meaning = std::str::from_utf8(name).ok().and_then(options::long);
                    let meaning = meaning.ok_or_else(|| unknown(word, &word.bytes))?;
                    let value = if meaning.has_value() { words.next() } else { None };
                    self.option(meaning, word, value.map(|value| &value.bytes[..]))?;
                }
                [b'-', letters @ ..] if !only_urls && !letters.is_empty() => {
                    let mut letters = letters;
                    while let [letter, rest @ ..] = letters {
                        let meaning =
                            options::short(*letter).ok_or_else(|| unknown(word, &[b'-', *letter]))?;
                        letters = rest;
                        let mut value = None;
                        if meaning.has_value() {
                            value = if rest.is_empty() {
                                words.next().map(|word| &word.bytes[..])
                            } else {
                                Some(rest)
                            };
                            letters = &[];
                        }
                        self.option(meaning, word, value)?;
                    }
                }
                url => self.option(Meaning::Url, word, Some(url))?,
            }
        }
        Ok(())
    }

    fn option(&mut self, meaning: Meaning, word: &Word, value: Option<&[u8]>) -> Result<(), DecodeError> {
        if meaning.has_value() && value.is_none() {
            return Err(wrong(word, "this option has no value"));
        }
        let value = value.unwrap_or_default();
        let set = |slot: &mut Option<Vec<u8>>| *slot = Some(value.to_vec());
        match meaning {
            Meaning::Method => set(&mut self.method),
            Meaning::RequestTarget => set(&mut self.target),
            Meaning::User => set(&mut self.user),
            Meaning::Bearer => set(&mut self.bearer),
            Meaning::UserAgent => set(&mut self.agent),
            Meaning::Range => set(&mut self.range),
            Meaning::Referer => self.referer = Some(value.strip_suffix(b";auto").unwrap_or(value).to_vec()),
            Meaning::Header if value.starts_with(b"@") => return Err(wrong(word, FILE)),
            Meaning::Header => self.fields.push(value.to_vec()),
            // Without one it names a file of cookies.
            Meaning::Cookie if value.contains(&b'=') => {
                let cookie = self.cookie.get_or_insert_default();
                if !cookie.is_empty() {
                    cookie.extend_from_slice(b"; ");
                }
                cookie.extend_from_slice(value);
            }
            Meaning::Cookie => {}
            Meaning::Url if self.url.is_some() => {
                return Err(wrong(word, "a second URL: write each request as a command of its own"));
            }
            Meaning::Url => set(&mut self.url),
            Meaning::Get => self.is_get = true,
            Meaning::Head => self.is_head = true,
            Meaning::Compressed => self.is_compressed = true,
            Meaning::Http10 => self.version = Version::Http10,
            Meaning::Http11 => self.version = Version::Http11,
            Meaning::Http2 => self.version = Version::Http2,
            Meaning::Http3 => self.version = Version::Http3,
            Meaning::Flag | Meaning::Setting => {}
            Meaning::Refused(why) => return Err(wrong(word, why)),
            Meaning::Form | Meaning::FormString => self.form(meaning, word, value)?,
            Meaning::Data
            | Meaning::DataBinary
            | Meaning::DataRaw
            | Meaning::DataUrlencode
            | Meaning::Json => {
                self.data(meaning, word, value)?;
            }
        }
        Ok(())
    }

    fn data(&mut self, meaning: Meaning, word: &Word, value: &[u8]) -> Result<(), DecodeError> {
        if self.input.is_some() {
            return Err(wrong(word, "data behind what comes from standard input"));
        }
        self.is_json |= meaning == Meaning::Json;
        let first = self.body.is_none();
        let body = self.body.get_or_insert_default();
        if !first && meaning != Meaning::Json {
            body.push(b'&');
        }
        match (meaning, value) {
            (Meaning::DataRaw, _) => body.extend_from_slice(value),
            (Meaning::DataUrlencode, _) => {
                let at = value.iter().position(|byte| matches!(byte, b'=' | b'@')).unwrap_or(value.len());
                let (name, content) = match value.get(at) {
                    Some(b'@') => return Err(wrong(word, FILE)),
                    Some(_) => (&value[..at], &value[at + 1..]),
                    None => (&[][..], value),
                };
                body.extend_from_slice(name);
                if !name.is_empty() {
                    body.push(b'=');
                }
                body.extend_from_slice(percent_encoded(content).as_bytes());
            }
            (_, b"@-") => self.input = Some(meaning),
            (_, [b'@', ..]) => return Err(wrong(word, FILE)),
            _ => body.extend_from_slice(value),
        }
        Ok(())
    }

    /// One part of a form (RFC 7578).
    fn form(&mut self, meaning: Meaning, word: &Word, value: &[u8]) -> Result<(), DecodeError> {
        let Some(at) = value.iter().position(|&byte| byte == b'=') else {
            return Err(wrong(word, "a part of a form is NAME=CONTENT"));
        };
        let (name, mut content) = (&value[..at], &value[at + 1..]);
        let mut media_type = None;
        let mut file_name = None;
        if meaning == Meaning::Form {
            if matches!(content.first(), Some(b'@' | b'<')) {
                return Err(wrong(word, FILE));
            }
            while let Some(at) = content.windows(6).rposition(|at| at == b";type=" || at == b";filen") {
                let setting = &content[at..];
                if let Some(value) = setting.strip_prefix(b";type=") {
                    media_type = Some(value);
                } else if let Some(value) = setting.strip_prefix(b";filename=") {
                    file_name = Some(value);
                } else {
                    break;
                }
                content = &content[..at];
            }
        }
        let escape = |text: &[u8]| {
            String::from_utf8_lossy(text).replace('"', "%22").replace(['\r', '\n'], " ").into_bytes()
        };
        let parts = &mut self.parts;
        parts
            .extend_from_slice(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"").as_bytes());
        parts.extend(escape(name));
        parts.push(b'"');
        if let Some(file_name) = file_name {
            parts.extend_from_slice(b"; filename=\"");
            parts.extend(escape(file_name));
            parts.push(b'"');
        }
        if let Some(media_type) = media_type {
            parts.extend_from_slice(b"\r\nContent-Type: ");
            parts.extend(escape(media_type));
        }
        parts.extend_from_slice(b"\r\n\r\n");
        parts.extend_from_slice(content);
        parts.extend_from_slice(b"\r\n");
        let mut body = parts.clone();
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.body = Some(body);
        Ok(())
    }

    /// The request that curl would make of it.
    fn asked(mut self, content: Content, len: u64) -> Result<Asked, String> {
        let url = self.url.take().ok_or("there is no URL")?;
        let mut url = Url::parse(&url, Scheme::Http)?;
        let has_body = !self.is_get && (self.body.is_some() || self.input.is_some());
        if self.is_get && self.input.is_some() {
            return Err(
                "with --get the data is part of the URL: it cannot come from standard input".to_owned()
            );
        }
        if self.is_get
            && let Some(query) = self.body.take()
        {
            url.path.push(if url.path.contains(&b'?') { b'&' } else { b'?' });
            url.path.extend(query);
        }
        if let Some(target) = self.target.take() {
            url.path = target;
        }
        let is_chunked = self.version < Version::Http2
            && self
                .fields
                .iter()
                .any(|field| is_named(field, "transfer-encoding") && field.ends_with(b"chunked"));
        let default = match has_body {
            true => "POST",
            false if self.is_head => "HEAD",
            false => "GET",
        };
        let method = self.method.take().unwrap_or_else(|| default.as_bytes().to_vec());
        let headers = self.headers(&url, has_body, len, is_chunked);
        Ok(Asked { method, url, version: self.version, headers, content, len, is_chunked })
    }

    /// curl's own fields, those of `-H`, and those about the body, in this order (its `Curl_http`).
    fn headers(&mut self, url: &Url, has_body: bool, len: u64, is_chunked: bool) -> Headers {
        let given = std::mem::take(&mut self.fields);
        let has = |name: &str| given.iter().any(|field| is_named(field, name));
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let host = given.iter().find(|field| is_named(field, "host")).map(|field| split(field).1.to_vec());
        let is_host_first = host.as_ref().is_none_or(|host| !host.is_empty());
        if is_host_first {
            headers.push((b"Host".to_vec(), host.unwrap_or_else(|| url.target.authority().into_bytes())));
        }
        let mut own = |name: &str, value: Option<Vec<u8>>| {
            if let Some(value) = value
                && !has(name)
            {
                headers.push((name.as_bytes().to_vec(), value));
            }
        };
        let basic = self.user.take().or_else(|| url.user.clone());
        own("Authorization", basic.map(|user| authorization("Basic ", &encoded(&user))));
        own("Authorization", self.bearer.take().map(|token| authorization("Bearer ", &token)));
        own("Range", self.range.take().map(|range| [b"bytes=", &range[..]].concat()));
        own("User-Agent", self.agent.take().filter(|agent| !agent.is_empty()));
        let accept = if self.is_json { "application/json" } else { "*/*" };
        own("Accept", Some(accept.as_bytes().to_vec()));
        own("Accept-Encoding", self.is_compressed.then(|| b"deflate, gzip, br, zstd".to_vec()));
        own("Referer", self.referer.take().filter(|referer| !referer.is_empty()));
        own("Cookie", self.cookie.take());
        if self.is_json {
            own("Content-Type", Some(b"application/json".to_vec()));
        }
        for field in &given {
            let (name, value) = split(field);
            let is_removal = value.is_empty() && !field.ends_with(b";");
            let is_first_host = is_host_first && is_named(field, "host");
            if !is_removal && !is_first_host {
                headers.push((name.to_vec(), value.to_vec()));
            }
        }
        if has_body {
            let mut own = |name: &str, value: String| {
                if !has(name) {
                    headers.push((name.as_bytes().to_vec(), value.into_bytes()));
                }
            };
            if !is_chunked {
                own("Content-Length", len.to_string());
            }
            if !self.parts.is_empty() {
                own("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}"));
            } else if !self.is_json {
                own("Content-Type", "application/x-www-form-urlencoded".to_owned());
            }
        }
        headers.into_iter().collect()
    }
}

fn authorization(scheme: &str, token: &[u8]) -> Vec<u8> {
    [scheme.as_bytes(), token].concat()
}

fn encoded(user: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(user).into_bytes()
}

/// Name and value of `Name: value` or `Name;`.
fn split(field: &[u8]) -> (&[u8], &[u8]) {
    match field.iter().position(|&byte| byte == b':') {
        Some(at) => (&field[..at], field[at + 1..].trim_ascii()),
        None => (field.strip_suffix(b";").unwrap_or(field), &[]),
    }
}

fn is_named(field: &[u8], name: &str) -> bool {
    split(field).0.eq_ignore_ascii_case(name.as_bytes())
}

/// `curl`, `curl.exe`, or a path to one of them.
fn is_curl(word: &[u8]) -> bool {
    let name = word.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"curl") || name.eq_ignore_ascii_case(b"curl.exe")
}

/// Whether the quotes are those of Windows: only there carets stand before quotes and at the ends of lines.
fn is_cmd(beginning: &[u8]) -> bool {
    let text = beginning.trim_ascii_start();
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    text.starts_with(b"curl.exe ") || text.starts_with(b"curl ^\"") || line.trim_ascii_end().ends_with(b" ^")
}

fn wrong(word: &Word, what: &str) -> DecodeError {
    let shown: String = word.bytes.escape_ascii().to_string().chars().take(60).collect();
    DecodeError::Flow { position: word.position, what: format!("`{shown}`: {what}") }
}

fn unknown(word: &Word, option: &[u8]) -> DecodeError {
    let option: String = option.escape_ascii().to_string().chars().take(60).collect();
    let what = format!("`{option}` is not an option of curl that is known here: take it out");
    DecodeError::Flow { position: word.position, what }
}

fn file_error(error: ShellError) -> DecodeError {
    match error {
        ShellError::Syntax { position, what } => DecodeError::File { position, what },
        ShellError::Io(error) => DecodeError::Io(error),
    }
}

/// curl draws one by lot; nobody's content is looked at for it.
const BOUNDARY: &str = "------------------------manent0form0boundary";

const FILE: &str = "it reads a file, which an import does not do: give the content instead";
