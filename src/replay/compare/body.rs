//! Bodies, by what they are: JSON by value, text by line, all else byte by byte.

use std::io::{self, Read};

use serde_json::Value;

use super::json::{self, JsonChange};
use super::{Message, Rules, Which, lines};
use crate::flow::{Body, BodyEnd, Content, Headers};
use crate::format::charset::Charset;
use crate::format::coding::{self, Caps};
use crate::store::Reader;

/// How two bodies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyDifference {
    /// In JSON's own terms.
    Json {
        /// The first hundred changes.
        changes: Vec<JsonChange>,
        /// How many more there are.
        more: u64,
    },
    /// Line by line, as a unified diff.
    Text {
        /// Its lines, at most a thousand; a last one `…` stands for more.
        lines: Vec<String>,
    },
    /// In their bytes, content-codings undone where they can be.
    Bytes {
        /// Offset of the first byte that differs.
        at: u64,
        /// Length of the first, as far as it was read: to its end, if the other is longer.
        was_len: Option<u64>,
        /// The same of the second.
        is_len: Option<u64>,
    },
    /// What is on record of one does not tell.
    Unknown {
        /// Of which.
        which: Which,
        /// Why, in words.
        why: String,
    },
}

/// Whether two bodies are whole, and the same to the last byte, by what is in memory alone.
pub(super) fn are_equal_in_memory(was: Message<'_>, is: Message<'_>) -> bool {
    let (Content::Inline(was_bytes), Content::Inline(is_bytes)) = (&was.body.content, &is.body.content)
    else {
        return false;
    };
    was_bytes == is_bytes
        && [was.body, is.body].iter().all(|body| why_unknown(body).is_none())
        && codings(was.headers) == codings(is.headers)
}

/// `None` where they are the same.
pub(super) fn compare(
    was: (Message<'_>, &Reader),
    is: (Message<'_>, &Reader),
    rules: &Rules,
) -> Option<BodyDifference> {
    for (which, body) in [(Which::First, was.0.body), (Which::Second, is.0.body)] {
        if let Some(why) = why_unknown(body) {
            return Some(BodyDifference::Unknown { which, why });
        }
    }
    match differing(was, is, rules) {
        Ok(difference) => difference,
        Err((which, error)) => Some(BodyDifference::Unknown { which, why: error.to_string() }),
    }
}

/// `None` where they are no list.
fn codings(headers: &Headers) -> Option<Vec<coding::Coding>> {
    coding::codings(headers).ok()
}

fn why_unknown(body: &Body) -> Option<String> {
    let kept = body.recorded_len();
    match body.end {
        BodyEnd::Whole if kept == body.len => None,
        BodyEnd::Open => Some("it had not ended".to_owned()),
        BodyEnd::CutOff => Some(format!("it was cut off after {} bytes", body.len)),
        _ => Some(format!("{kept} of its {} bytes are on record", body.len)),
    }
}

type Fault = (Which, io::Error);

fn differing(
    (was, was_in): (Message<'_>, &Reader),
    (is, is_in): (Message<'_>, &Reader),
    rules: &Rules,
) -> Result<Option<BodyDifference>, Fault> {
    // A coding that cannot be undone is compared as it is.
    let first = open(was, was_in).map_err(|error| (Which::First, error))?;
    let second = open(is, is_in).map_err(|error| (Which::Second, error))?;
    let (mut first, mut second) = (Start::of(first), Start::of(second));
    if !(first.is_all && second.is_all) {
        return streams(&mut first, &mut second);
    }
    if first.bytes == second.bytes {
        return Ok(None);
    }
    if is_json(was.headers) || is_json(is.headers) {
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        if let (Some(was), Some(is)) = (parse(&first.bytes), parse(&second.bytes)) {
            let (changes, more) = json::changes(&was, &is, &rules.ignored_json, MAX_CHANGES);
            return Ok((!changes.is_empty()).then_some(BodyDifference::Json { changes, more }));
        }
    }
    if let (Some(was), Some(is)) = (text(&first.bytes, was.headers), text(&second.bytes, is.headers))
        && let Some(lines) = lines::unified(&was, &is, CONTEXT, MAX_LINES)
    {
        return Ok(Some(BodyDifference::Text { lines }));
    }
    streams(&mut first, &mut second)
}

/// A body with its codings undone; as it is where they cannot be.
fn open<'a>(message: Message<'a>, reader: &'a Reader) -> io::Result<Box<dyn Read + 'a>> {
    let stored = || reader.body(message.body).map_err(io::Error::other);
    let Ok(codings) = coding::codings(message.headers) else { return Ok(Box::new(stored()?)) };
    if codings.is_empty() {
        return Ok(Box::new(stored()?));
    }
    let mut decoded = coding::undo(stored()?, &codings, CAPS);
    // Whether they can be shows at the end alone: a second reading is cheaper than to keep the whole.
    match io::copy(&mut decoded, &mut io::sink()) {
        Ok(_) => Ok(coding::undo(stored()?, &codings, CAPS)),
        Err(_) => Ok(Box::new(stored()?)),
    }
}

/// The beginning of a body, and what follows.
struct Start<'a> {
    bytes: Vec<u8>,
    is_all: bool,
    rest: Box<dyn Read + 'a>,
    at: usize,
    /// What reading ended with; told when that is reached.
    fault: Option<io::Error>,
}

impl<'a> Start<'a> {
    fn of(mut rest: Box<dyn Read + 'a>) -> Self {
        let mut bytes = Vec::new();
        let read = rest.by_ref().take(MAX_WHOLE).read_to_end(&mut bytes);
        let is_all = read.is_ok() && (bytes.len() as u64) < MAX_WHOLE;
        Self { bytes, is_all, rest, at: 0, fault: read.err() }
    }

    /// Fills `buffer`, but at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = &self.bytes[self.at..];
            let read = if left.is_empty() {
                if let Some(fault) = self.fault.take() {
                    return Err(fault);
                }
                if self.is_all { 0 } else { self.rest.read(&mut buffer[filled..])? }
            } else {
                let n = left.len().min(buffer.len() - filled);
                buffer[filled..filled + n].copy_from_slice(&left[..n]);
                self.at += n;
                n
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }
}

/// Byte by byte, in constant memory.
fn streams(first: &mut Start<'_>, second: &mut Start<'_>) -> Result<Option<BodyDifference>, Fault> {
    let (mut was, mut is) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    loop {
        let was_len = first.fill(&mut was).map_err(|error| (Which::First, error))?;
        let is_len = second.fill(&mut is).map_err(|error| (Which::Second, error))?;
        let common = was_len.min(is_len);
        if was[..was_len] != is[..is_len] {
            let same = was[..common].iter().zip(&is[..common]).take_while(|(was, is)| was == is).count();
            let end = |len: usize| (len < BUFFER).then_some(at + len as u64);
            return Ok(Some(BodyDifference::Bytes {
                at: at + same as u64,
                was_len: end(was_len),
                is_len: end(is_len),
            }));
        }
        if was_len < BUFFER {
            return Ok(None);
        }
        at += was_len as u64;
    }
}

fn is_json(headers: &Headers) -> bool {
    let media_type = headers.get("content-type").unwrap_or_default().to_ascii_lowercase();
    let essence = media_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

/// The text that the bytes are; `None` if they are none.
fn text(bytes: &[u8], headers: &Headers) -> Option<String> {
    if let Some(charset) = Charset::of(headers) {
        let mut text = String::new();
        charset.decode(bytes, usize::MAX, &mut text);
        return (!text.contains(['\0', '\u{fffd}'])).then_some(text);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

/// Bodies up to here are compared by what they are.
const MAX_WHOLE: u64 = 16 << 20;

/// Far more than that, for the stream: what inflates to more is compared as it is.
const CAPS: Caps = Caps { max_len: Some(1 << 30) };

const MAX_CHANGES: usize = 100;

const MAX_LINES: usize = 1000;

/// As `diff -u`.
const CONTEXT: usize = 3;

const BUFFER: usize = 64 * 1024;
