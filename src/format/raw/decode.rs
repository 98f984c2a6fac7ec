//! Reading messages one behind the other: a request, and the responses behind it.

use std::io::{self, BufRead};

use bytes::Bytes;

use super::super::asked::{imported, now, request_only};
use super::super::transfer::{DecodeError, Decoded, Decoder, Part, Sink};
use super::parse;
use crate::flow::{Body, BodyEnd, Flow, Framing, Headers, Interim, Kind, Request, State, Version};

/// Makes the decoder.
pub(super) fn make(reader: Box<dyn BufRead + Send>) -> Box<dyn Decoder> {
    Box::new(Raw { reader, position: 0, next: None, is_over: false })
}

struct Raw {
    reader: Box<dyn BufRead + Send>,
    position: u64,
    /// A line that was read ahead.
    next: Option<Vec<u8>>,
    is_over: bool,
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    None,
    Bytes(u64),
    Chunked,
    /// Up to the end of the file.
    Rest,
}

impl Decoder for Raw {
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError> {
        if self.is_over {
            return Ok(None);
        }
        let read = self.flow(sink);
        self.is_over = !matches!(read, Ok(Some(_)));
        Ok(read?.map(|flow| Decoded { flow, ..Decoded::default() }))
    }
}

impl Raw {
    fn flow(&mut self, sink: &mut dyn Sink) -> Result<Option<Flow>, DecodeError> {
        let Some(position) = self.skip_empty_lines()? else { return Ok(None) };
        let wrong = |what| DecodeError::File { position, what };
        let mut flow =
            Flow { timing: now(), imported: imported("raw"), state: State::Complete, ..Flow::default() };
        if !self.is_response()? {
            let head = self.head()?;
            let mut request = parse::request(&head).map_err(wrong)?;
            let length = request_length(&request).map_err(wrong)?;
            (request.body, request.trailers) = self.body(length, Part::Request, sink)?;
            let target = parse::target(&request);
            if request.body.end == BodyEnd::CutOff {
                flow.state = State::ClientAborted;
            }
            if self.skip_empty_lines()?.is_none() || !self.is_response()? {
                let state = flow.state;
                flow = request_only(target, request, "raw");
                if state != State::Complete {
                    flow.state = state;
                }
                return Ok(Some(flow));
            }
            if &request.method[..] == b"CONNECT" {
                flow.kind = Kind::Connect;
            }
            flow.target = target;
            flow.request = Some(request);
        }
        self.responses(&mut flow, sink)?;
        Ok(Some(flow))
    }

    /// The 1xx responses and the final one.
    fn responses(&mut self, flow: &mut Flow, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        loop {
            let Some(position) = self.skip_empty_lines()?.filter(|_| flow.interim.len() < MAX_INTERIM) else {
                return Ok(());
            };
            let wrong = |what| DecodeError::File { position, what };
            if !self.is_response()? {
                return Ok(());
            }
            let mut response = parse::response(&self.head()?).map_err(wrong)?;
            if response.status < 200 && response.status != 101 {
                let (status, reason, headers) = (response.status, response.reason, response.headers);
                flow.interim.push(Interim { status, reason, headers, at_us: 0 });
                continue;
            }
            let method = flow.request.as_ref().map_or(&b""[..], |request| &request.method);
            let length = response_length(&response.headers, response.status, method).map_err(wrong)?;
            (response.body, response.trailers) = self.body(length, Part::Response, sink)?;
            if response.body.end == BodyEnd::CutOff {
                flow.state = State::ServerAborted;
            }
            flow.response = Some(response);
            return Ok(());
        }
    }

    fn body(
        &mut self,
        length: Length,
        part: Part,
        sink: &mut dyn Sink,
    ) -> Result<(Body, Option<Box<Headers>>), DecodeError> {
        let mut body = Body {
            end: BodyEnd::Whole,
            content: crate::flow::Content::Inline(Bytes::new()),
            ..Body::default()
        };
        let mut trailers = None;
        let begin = self.position;
        body.framing = match length {
            Length::None => return Ok((body, None)),
            Length::Bytes(_) => Framing::Length,
            Length::Chunked => Framing::Chunked,
            Length::Rest => Framing::Close,
        };
        sink.begin(part);
        match length {
            Length::None => {}
            Length::Bytes(len) => {
                body.len = self.pass(len, sink)?;
                if body.len < len {
                    body.end = BodyEnd::CutOff;
                }
            }
            Length::Rest => body.len = self.pass(u64::MAX, sink)?,
            Length::Chunked => trailers = self.chunks(&mut body, sink)?.map(Box::new),
        }
        body.content = sink.end()?;
        body.wire_len = self.position - begin;
        Ok((body, trailers))
    }

    /// Chunks and the trailers behind them; `None` where there are none.
    fn chunks(&mut self, body: &mut Body, sink: &mut dyn Sink) -> Result<Option<Headers>, DecodeError> {
        loop {
            let position = self.position;
            let wrong = |what: &str| DecodeError::File { position, what: what.to_owned() };
            let Some(line) = self.line()? else { break };
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            let len =
                std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let len =
                len.ok_or_else(|| wrong("a chunk does not begin with its length in hexadecimal digits"))?;
            if len == 0 {
                let mut section = Vec::new();
                while let Some(line) = self.line()? {
                    if line.trim_ascii().is_empty() {
                        let trailers = parse::fields(&section).map_err(|what| wrong(&what))?;
                        return Ok((!section.is_empty()).then_some(trailers));
                    }
                    section.extend_from_slice(&line);
                    if section.len() > MAX_HEAD {
                        return Err(wrong("trailers longer than any head"));
                    }
                }
                break;
            }
            let passed = self.pass(len, sink)?;
            body.len += passed;
            let is_ended = self.line()?.is_none_or(|line| line.trim_ascii().is_empty());
            if !is_ended {
                return Err(wrong("this chunk is longer than it says"));
            }
            if passed < len {
                break;
            }
        }
        body.end = BodyEnd::CutOff;
        Ok(None)
    }

    /// Up to `len` bytes into the sink; how many there were.
    fn pass(&mut self, len: u64, sink: &mut dyn Sink) -> io::Result<u64> {
        let mut passed = 0;
        while passed < len {
            let bytes = fill(&mut self.reader)?;
            let n = usize::try_from(len - passed).unwrap_or(usize::MAX).min(bytes.len());
            if n == 0 {
                break;
            }
            sink.write(&bytes[..n])?;
            self.reader.consume(n);
            passed += n as u64;
        }
        self.position += passed;
        Ok(passed)
    }

    /// Where the next line that is not empty begins; `None` at the end.
    fn skip_empty_lines(&mut self) -> Result<Option<u64>, DecodeError> {
        loop {
            let position = self.position - self.next.as_ref().map_or(0, |line| line.len() as u64);
            let Some(line) = self.line()? else { return Ok(None) };
            if !line.trim_ascii().is_empty() {
                self.next = Some(line);
                return Ok(Some(position));
            }
        }
    }

    /// Whether the next line is a status line.
    fn is_response(&mut self) -> Result<bool, DecodeError> {
        if self.next.is_none() {
            self.next = self.line()?;
        }
        Ok(self.next.as_ref().is_some_and(|line| line.starts_with(b"HTTP/")))
    }

    /// Up to and with the empty line, or to the end of the file.
    fn head(&mut self) -> Result<Vec<u8>, DecodeError> {
        let mut head = Vec::new();
        while let Some(line) = self.line()? {
            head.extend_from_slice(&line);
            if head.len() > MAX_HEAD {
                let what = format!("a head of more than {MAX_HEAD} bytes");
                return Err(DecodeError::File { position: self.position, what });
            }
            if matches!(&line[..], b"\n" | b"\r\n") {
                break;
            }
        }
        Ok(head)
    }

    /// The next line with its end; `None` at the end of the file. One that is too long is cut, and refused by whoever reads it.
    fn line(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        if let Some(line) = self.next.take() {
            return Ok(Some(line));
        }
        let mut line = Vec::new();
        while line.len() <= MAX_HEAD {
            let bytes = fill(&mut self.reader)?;
            let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
            let n = end.unwrap_or(bytes.len());
            line.extend_from_slice(&bytes[..n]);
            self.reader.consume(n);
            self.position += n as u64;
            if end.is_some() || n == 0 {
                break;
            }
        }
        Ok((!line.is_empty()).then_some(line))
    }
}

fn fill(reader: &mut dyn BufRead) -> io::Result<&[u8]> {
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    reader.fill_buf()
}

fn request_length(request: &Request) -> Result<Length, String> {
    if request.version >= Version::Http2 && request.headers.get("content-length").is_none() {
        return Ok(Length::None);
    }
    Ok(told_length(&request.headers)?.unwrap_or(Length::None))
}

fn response_length(headers: &Headers, status: u16, method: &[u8]) -> Result<Length, String> {
    let is_tunnel = method == b"CONNECT" && (200..300).contains(&status);
    if matches!(status, 101 | 204 | 304) || method == b"HEAD" || is_tunnel {
        return Ok(Length::None);
    }
    Ok(told_length(headers)?.unwrap_or(Length::Rest))
}

/// What the fields tell (RFC 9112 §6.3).
fn told_length(headers: &Headers) -> Result<Option<Length>, String> {
    if headers.has_token("transfer-encoding", "chunked") {
        return Ok(Some(Length::Chunked));
    }
    let Some(length) = headers.get("content-length") else { return Ok(None) };
    let digits =
        std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let len = digits.and_then(|digits| digits.parse().ok());
    len.map(|len| Some(Length::Bytes(len))).ok_or_else(|| "its Content-Length is no number".to_owned())
}

/// Twice what the wire allows by default: text of other tools may hold more.
const MAX_HEAD: usize = 512 << 10;

/// Arbitrary: servers send one or two.
const MAX_INTERIM: usize = 100;
