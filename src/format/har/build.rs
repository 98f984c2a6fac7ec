//! From an entry to a flow: what its members mean, and its texts handed to the sink.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;
use serde_json::Value as Json;

use crate::flow::{
    Body, BodyEnd, Content, Flow, FlowError, Imported, Kind, Note, Request, Response, Side, Stage, State,
    Value, Version,
};
use crate::format::transfer::{Decoded, Part, Sink};

use super::conns::Conns;
use super::entry::{Entry, Message};
use super::restore::Manent;
use super::seen::Seen;
use super::spool::{Run, Spool};
use super::url::Url;
use super::{build_messages, date, foreign, recode, theirs};

/// What is known of the archive besides the entry.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Name and version.
    pub(super) creator: String,
    /// The same.
    pub(super) browser: String,
    /// By their ids.
    pub(super) pages: HashMap<String, Json>,
    /// Bytes of them in the archive.
    pub(super) pages_len: u64,
    /// Whether there were more than are kept.
    pub(super) lacks_pages: bool,
    pub(super) conns: Conns,
    /// Ids for connections of others' archives, by what they are called there.
    pub(super) ids: Seen<String, u64>,
    pub(super) last_id: u64,
}

/// Why an entry cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// It says nothing that a flow could be.
    #[error("{0}")]
    Entry(String),
    /// Its bodies cannot be handed on.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The texts of an entry, and where they go.
pub(super) struct Texts<'a> {
    pub(super) spool: &'a mut Spool,
    pub(super) records: &'a mut Spool,
    pub(super) sink: &'a mut dyn Sink,
}

/// Makes the flow, and hands its bodies and messages over.
///
/// # Errors
/// If it has no request to a URL of HTTP, or its base64 is none; if a body cannot be read or taken.
pub(super) fn flow(mut entry: Entry, texts: &mut Texts<'_>, file: &mut File) -> Result<Decoded, BuildError> {
    if let Some(fault) = entry.fault.take() {
        return Err(BuildError::Entry(fault));
    }
    let Some(request) = entry.request.take() else {
        return Err(BuildError::Entry("it has no request".to_owned()));
    };
    let response = entry.response.take();
    let mut flow = Flow::default();
    flow.timing.started_unix_ns = date::unix_ns(&entry.started).unwrap_or(0);
    let mut note = Note::default();
    if !entry.comment.is_empty() {
        note.comment = Some(std::mem::take(&mut entry.comment));
    }
    match entry.manent.take() {
        Some(manent) => ours(&mut flow, &mut note, &entry, request, response, *manent, texts)?,
        None => theirs::flow(&mut flow, &mut entry, request, response, texts, file)?,
    }
    build_messages::hand_over(&mut flow, &entry, texts)?;
    Ok(Decoded { flow, note })
}

/// A flow of an archive of ours.
fn ours(
    flow: &mut Flow,
    note: &mut Note,
    entry: &Entry,
    request: Message,
    response: Option<Message>,
    manent: Manent,
    texts: &mut Texts<'_>,
) -> Result<(), BuildError> {
    let url = Url::parse(&request.url).ok();
    flow.target = url.as_ref().map(|url| url.target.clone()).unwrap_or_default();
    flow.request = Some(Request {
        method: Bytes::from(request.method.clone()),
        target: url.map(|url| Bytes::from(url.path)).unwrap_or_default(),
        version: foreign::parse_version(&request.version),
        headers: request.headers.clone(),
        ..Request::default()
    });
    flow.response = response.as_ref().and_then(|response| {
        Some(Response {
            status: status(response)?,
            reason: Bytes::from(response.reason.clone()),
            version: foreign::parse_version(&response.version),
            headers: response.headers.clone(),
            ..Response::default()
        })
    });
    manent.put_into(flow, note);
    take_unknown(flow, entry);
    let recorded = |name: &str| entry.bodies.iter().find(|(known, _)| known == name).map(|(_, run)| *run);
    if let Some(message) = &mut flow.request {
        our_body(&mut message.body, Part::Request, recorded("request"), Some(&request), texts)?;
    }
    if let Some(message) = &mut flow.response {
        our_body(&mut message.body, Part::Response, recorded("response"), response.as_ref(), texts)?;
    }
    if let Some(tunnel) = &mut flow.tunnel {
        our_body(&mut tunnel.from_client, Part::FromClient, recorded("from_client"), None, texts)?;
        our_body(&mut tunnel.from_server, Part::FromServer, recorded("from_server"), None, texts)?;
    }
    Ok(())
}

/// Puts the recorded bytes in their place: those of `bodies`, else what the archive's text is.
fn our_body(
    body: &mut Body,
    part: Part,
    recorded: Option<Run>,
    message: Option<&Message>,
    texts: &mut Texts<'_>,
) -> Result<(), BuildError> {
    if body.content == Content::Absent {
        return Ok(());
    }
    let text =
        message.and_then(|message| Some((message.text?, message.encoding.eq_ignore_ascii_case("base64"))));
    let Some((run, is_base64)) = recorded.map(|run| (run, true)).or(text) else { return Ok(()) };
    let in_memory = texts.spool.in_memory(run).and_then(|text| match is_base64 {
        true => recode::of_base64(text).map(Bytes::from),
        false => Some(Bytes::copy_from_slice(text)),
    });
    let (content, len) = match in_memory {
        Some(bytes) => {
            let len = bytes.len() as u64;
            (texts.sink.whole(part, bytes)?, len)
        }
        None => {
            let text = texts.spool.read(run)?;
            let bytes = if is_base64 { recode::from_base64(text) } else { text };
            hand_over(texts.sink, part, bytes)?
        }
    };
    body.content = content;
    // A person may have edited it.
    if len > body.len {
        body.wire_len = body.wire_len.max(len);
        body.len = len;
    }
    Ok(())
}

/// Gives `bytes` to the sink: what stands for them, and how many they are.
///
/// # Errors
/// [`BuildError::Entry`] if they were to be base64 and are none.
pub(super) fn hand_over(
    sink: &mut dyn Sink,
    part: Part,
    mut bytes: Box<dyn Read + '_>,
) -> Result<(Content, u64), BuildError> {
    sink.begin(part);
    let mut piece = vec![0; PIECE];
    let mut len = 0;
    loop {
        match bytes.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                sink.write(&piece[..n])?;
                len += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                sink.end()?;
                return Err(BuildError::Entry(format!(
                    "a body is not the base64 that it should be: {error}"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((sink.end()?, len))
}

/// The status, if there was a response: browsers write 0 where there was none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 100 and 999")]
pub(super) fn status(response: &Message) -> Option<u16> {
    response.status.filter(|status| (100.0..1000.0).contains(status)).map(|status| status as u16)
}

/// Keeps members that we have no field for.
pub(super) fn take_unknown(flow: &mut Flow, entry: &Entry) {
    // What we write into bodies ourselves, the record says again.
    let is_ours = |section: &str, name: &str| {
        flow.imported.is_none() && name == "comment" && matches!(section, "content" | "postData")
    };
    let mut sections: Vec<(Value, Value)> = Vec::new();
    for (section, name, value) in entry.unknown.iter().filter(|(section, name, _)| !is_ours(section, name)) {
        let member = (Value::Text(name.clone()), foreign::from_json(value.clone()));
        let known = sections.iter_mut().find(|(key, _)| matches!(key, Value::Text(key) if key == section));
        match known {
            Some((_, Value::Dict(members))) => members.push(member),
            _ => sections.push((Value::Text((*section).to_owned()), Value::Dict(vec![member]))),
        }
    }
    if sections.is_empty() {
        return;
    }
    let new = || Box::new(Imported { format: foreign::FORMAT_NAME.to_owned(), ..Imported::default() });
    let imported = flow.imported.get_or_insert_with(new);
    if imported.format == foreign::FORMAT_NAME {
        imported.unknown = Some(Value::Dict(sections));
    }
}

/// What went wrong, by the words of a browser such as `net::ERR_ABORTED`.
pub(super) fn error(flow: &mut Flow, words: &str) {
    let had_response = flow.response.is_some();
    let by_client =
        ["ABORTED", "aborted", "canceled", "cancelled", "BLOCKED"].iter().any(|word| words.contains(word));
    flow.state = match (by_client, had_response) {
        (true, _) => State::ClientAborted,
        (false, true) => State::ServerAborted,
        (false, false) => State::Failed,
    };
    flow.error = Some(FlowError {
        side: if by_client { Side::Client } else { Side::Server },
        stage: if had_response { Stage::ResponseBody } else { Stage::ResponseHead },
        message: if words.is_empty() { "no response in the archive".to_owned() } else { words.to_owned() },
        at_us: flow.timing.end_us.unwrap_or(0),
    });
}

/// A body whose bytes the archive has not, though so many passed.
pub(super) fn absent(len: u64) -> Body {
    Body { len, wire_len: len, end: BodyEnd::Capped, ..Body::default() }
}

/// Whether a flow of this method is a tunnel's beginning.
pub(super) fn kind(method: &str) -> Kind {
    if method == "CONNECT" { Kind::Connect } else { Kind::Http }
}

/// Whether the version has no framing fields.
pub(super) fn is_multiplexed(version: Version) -> bool {
    version >= Version::Http2
}

/// Arbitrary: a few pages.
const PIECE: usize = 32 * 1024;
