//! Frames of HTTP/2 (RFC 9113) with fields as literals (RFC 7541 §6.2.2), which need no table.

use std::io::{self, Read};

use crate::flow::{Headers, Request, Response};

/// What a client begins with: its preface, and settings that say nothing.
pub(super) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings()[..]].concat()
}

/// What a server begins with.
pub(super) fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// The request's head, as frames.
pub(super) fn request(request: &Request, ends: bool) -> Vec<u8> {
    let mut fields = Vec::new();
    let pseudo: [(&[u8], Option<&[u8]>); 5] = [
        (b":method", Some(&request.method)),
        (b":scheme", request.scheme.as_deref()),
        (b":authority", request.authority.as_deref()),
        (b":path", Some(&request.target)),
        (b":protocol", request.protocol.as_deref()),
    ];
    for (name, value) in pseudo {
        if let Some(value) = value {
            field(&mut fields, name, value);
        }
    }
    headers(fields, &request.headers, ends)
}

/// The response's head, as frames.
pub(super) fn response(response: &Response, ends: bool) -> Vec<u8> {
    status(response.status, &response.headers, ends)
}

/// A head with a status: also that of a 1xx response.
pub(super) fn status(status: u16, fields: &Headers, ends: bool) -> Vec<u8> {
    let mut block = Vec::new();
    field(&mut block, b":status", status.to_string().as_bytes());
    headers(block, fields, ends)
}

/// Trailers, which end the stream.
pub(super) fn trailers(trailers: &Headers) -> Vec<u8> {
    headers(Vec::new(), trailers, true)
}

/// A body as frames, the last of which ends the stream if `ends`.
pub(super) fn data(
    body: &mut dyn Read,
    ends: bool,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (mut piece, mut ahead) = (vec![0; MAX_FRAME], vec![0; MAX_FRAME]);
    let (mut len, result) = super::super::json::fill(body, &mut piece);
    result?;
    loop {
        let (more, result) =
            if len < piece.len() { (0, Ok(())) } else { super::super::json::fill(body, &mut ahead) };
        result?;
        let flags = if ends && more == 0 { END_STREAM } else { 0 };
        each(&frame(DATA, flags, STREAM, &piece[..len]))?;
        if more == 0 {
            return Ok(());
        }
        std::mem::swap(&mut piece, &mut ahead);
        len = more;
    }
}

/// One HEADERS frame, and as many of CONTINUATION as are needed.
fn headers(mut block: Vec<u8>, fields: &Headers, ends: bool) -> Vec<u8> {
    for (name, value) in fields.iter() {
        field(&mut block, &name.to_ascii_lowercase(), value);
    }
    let mut frames = Vec::new();
    let count = block.len().div_ceil(MAX_FRAME).max(1);
    for at in 0..count {
        let part = &block[at * MAX_FRAME..block.len().min((at + 1) * MAX_FRAME)];
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if at + 1 == count { END_HEADERS } else { 0 };
        if at == 0 && ends {
            flags |= END_STREAM;
        }
        frames.extend(frame(kind, flags, STREAM, part));
    }
    frames
}

/// Literal, not indexed, the name as well.
fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text);
    }
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1); no Huffman code.
fn length(block: &mut Vec<u8>, len: usize) {
    let short = u8::try_from(len).ok().filter(|len| *len < 127);
    block.push(short.unwrap_or(127));
    if short.is_none() {
        let mut rest = len - 127;
        while rest >= 128 {
            block.push((rest % 128).to_le_bytes()[0] | 128);
            rest /= 128;
        }
        block.push(rest.to_le_bytes()[0]);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.extend_from_slice(&len[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client's first: each flow has a connection of its own.
const STREAM: u32 = 1;

/// Without a setting that allows more (RFC 9113 §4.2).
const MAX_FRAME: usize = 16384;
