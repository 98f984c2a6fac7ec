//! `manent cat`: a body to standard output.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::Args;

use super::args::Global;
use super::content::{self, Message, Part, StoredBodyFailed};
use super::errors::CliError;
use super::escape::TextStream;
use super::messages::{self, Payloads};
use super::output::{Data, Output};
use super::store::{self, Flows};
use super::text;
use crate::config::units::{UnitError, parse_size_or_none, parse_whole};
use crate::flow::{Content, Flow, Mid};
use crate::format::coding::Caps;
use crate::store::Reader;

/// Write a recorded body, or the messages of a WebSocket, to standard output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CatArgs {
    /// The flows, whose bodies are written one behind the other: 12  12,15  40-60  100-  last  last:5  @FILE  -; with
    /// several stores FILE:12
    #[arg(required = true)]
    mids: Vec<Flows>,
    /// The request's body instead of the response's
    #[arg(long)]
    request: bool,
    /// Only this message of a WebSocket, by the number that `manent show` gives it
    #[arg(long, value_name = "N", value_parser = parse_whole, conflicts_with_all = ["request", "raw", "max_decoded"])]
    message: Option<u64>,
    /// As it was on the wire, its content-coding (gzip and so on) left on
    #[arg(long, conflicts_with = "max_decoded")]
    raw: bool,
    /// Write binary bytes to a terminal too
    #[arg(long)]
    force: bool,
    /// Stop decoding after this size, or never: none
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_cap)]
    max_decoded: Caps,
}

pub(super) fn run(args: &CatArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    store::each_flow(&args.mids, global, output, |reader, mid, flow| cat(args, reader, mid, flow, output))?;
    Ok(ExitCode::SUCCESS)
}

fn cat(args: &CatArgs, reader: &Reader, mid: Mid, flow: &Flow, output: &Output) -> anyhow::Result<()> {
    let part = if args.request { Part::Request } else { Part::Response };
    let escaped = output.terminal && !args.force;
    if let Some(seq) = args.message {
        return one_message(reader, mid, seq, escaped, output);
    }
    if flow.websocket.is_some() {
        return all_messages(reader, mid, part, escaped, output);
    }
    let missing = |what, why| CliError::NotRecorded { mid, what, why };
    let message =
        content::message(flow, part).ok_or_else(|| missing(part.as_str(), content::why_missing(flow)))?;
    if content::is_absent(message.body) {
        let why = format!("{} bytes passed, and none was recorded.", message.body.len);
        return Err(missing(body_of(part), why).into());
    }
    let mut body = if args.raw {
        content::wire(reader, message.body)?
    } else {
        content::decoded(reader, message, args.max_decoded)?
    };
    let end = copy(&mut body, mid, escaped, output.data())?;
    Ok(judge(end, mid, part, message)?)
}

/// The payloads of what one end of a WebSocket sent, one behind the other; control frames are left out.
fn all_messages(store: &Reader, mid: Mid, part: Part, escaped: bool, output: &Output) -> anyhow::Result<()> {
    let mut payloads = Payloads::new(store, mid, part == Part::Request);
    copy(&mut payloads, mid, escaped, output.data())?.map_err(|source| CliError::Damaged { mid, source })?;
    match payloads.not_whole {
        Some(why) => Err(CliError::NotWhole { mid, what: "message", why: why.to_owned() }.into()),
        None => Ok(()),
    }
}

/// The payload of one message, whoever sent it and whatever it is.
fn one_message(store: &Reader, mid: Mid, seq: u64, escaped: bool, output: &Output) -> anyhow::Result<()> {
    let missing = |why: String| CliError::NotRecorded { mid, what: "message", why };
    let Some(message) = messages::one(store, mid, seq)? else {
        let last = store.last_message(mid)?;
        return Err(missing(format!("It has {}.", text::count(last, "message"))).into());
    };
    let not_whole = messages::why_not_whole(&message);
    if message.content == Content::Absent && (message.len > 0 || not_whole.is_some()) {
        return Err(missing(not_whole.unwrap_or("Nothing of its payload was recorded.").to_owned()).into());
    }
    let mut payload = store.content(&message.content)?;
    copy(&mut payload, mid, escaped, output.data())?.map_err(|source| CliError::Damaged { mid, source })?;
    match not_whole {
        Some(why) => Err(CliError::NotWhole { mid, what: "message", why: why.to_owned() }.into()),
        None => Ok(()),
    }
}

/// Copies all that can be read, and gives what ended it early.
///
/// To a terminal goes text only, escaped.
fn copy(body: &mut impl Read, mid: Mid, escaped: bool, mut data: Data) -> anyhow::Result<io::Result<()>> {
    let mut buffer = vec![0; BUFFER];
    let mut text = TextStream::default();
    let mut first = true;
    let end = loop {
        let (filled, end) = content::fill(body, &mut buffer);
        let bytes = &buffer[..filled];
        if !escaped {
            data.write_all(bytes)?;
        } else if first && content::is_binary(bytes) {
            return Err(CliError::BinaryToTerminal { mid }.into());
        } else {
            data.write_all(text.piece(bytes).as_bytes())?;
        }
        first = false;
        if filled < buffer.len() {
            break end;
        }
    };
    data.write_all(text.end().as_bytes())?;
    data.flush()?;
    Ok(end)
}

/// What has to be said about a body of which everything that is there was written.
fn judge(end: io::Result<()>, mid: Mid, part: Part, message: Message<'_>) -> Result<(), CliError> {
    if let Err(source) = end {
        if source.get_ref().is_some_and(|inner| inner.is::<StoredBodyFailed>()) {
            return Err(CliError::Damaged { mid, source });
        }
        // A coding that breaks off where the body does is no second fault.
        if content::why_not_whole(message.body).is_none() {
            return Err(CliError::Undecodable { mid, source });
        }
    }
    match content::why_not_whole(message.body) {
        Some(why) => Err(CliError::NotWhole { mid, what: body_of(part), why }),
        None => Ok(()),
    }
}

fn body_of(part: Part) -> &'static str {
    match part {
        Part::Request => "request body",
        Part::Response => "response body",
    }
}

fn parse_cap(text: &str) -> Result<Caps, UnitError> {
    parse_size_or_none(text).map(|max_len| Caps { max_len })
}

/// Arbitrary: large enough that system calls do not count.
const BUFFER: usize = 64 * 1024;

const EXAMPLES: &str = "\
Examples:
  manent cat 1041 | jq .               a response, decoded
  manent cat last --request            what the client sent
  manent cat 1041 --raw > body.gz      the bytes of the wire
  manent cat 1042 --request            of a WebSocket: all that the client said
  manent cat 1042 --message 17         one message of a WebSocket

Exit code 1 if the body is not there or not whole (what is there is written), 3 if there is no such flow.";
