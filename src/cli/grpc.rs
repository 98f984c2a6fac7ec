//! What `show` says of a gRPC call: its messages instead of their bytes, and how it ended.

use std::io;

use serde_json::{Value, json};

use super::content::{self, Message, Part};
use super::{escape, json as flow_json};
use crate::flow::{Flow, Headers};
use crate::format::coding::Caps;
use crate::format::grpc::{self, Messages, Status};
use crate::store::Reader;

/// The messages of one body.
#[derive(Debug)]
pub(super) struct List {
    /// The first ones.
    messages: Vec<grpc::Message>,
    /// How many there are.
    count: u64,
    /// Trailers of gRPC-Web, if they could be read.
    trailers: Option<Headers>,
    /// What ended the reading early.
    error: Option<io::Error>,
}

/// Finds the messages of a body, and keeps the first `keep`. The body is read once, in constant memory.
///
/// # Errors
/// If the body cannot be opened, or its content-coding is not known.
pub(super) fn list(store: &Reader, message: Message<'_>, keep: usize) -> anyhow::Result<List> {
    let mut list = List { messages: Vec::new(), count: 0, trailers: None, error: None };
    for found in Messages::new(content::decoded(store, message, Caps::default())?) {
        match found {
            Ok(found) if found.is_trailers() => list.trailers = found.trailers.or(list.trailers),
            Ok(found) => {
                list.count += 1;
                if list.messages.len() < keep {
                    list.messages.push(found);
                }
            }
            Err(error) => list.error = Some(error),
        }
    }
    Ok(list)
}

impl List {
    /// One line a message, and what else there is to say, ready for a terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let noun = if self.count == 1 { "message" } else { "messages" };
        let mut lines = vec![format!("({} {noun})", self.count)];
        for (at, message) in self.messages.iter().enumerate() {
            let len = message.len.map_or("?".to_owned(), |len| len.to_string());
            let compressed = if message.is_compressed() { ", compressed" } else { "" };
            let cut = match message.is_cut() {
                true => format!(", cut off after {} of them", message.here),
                false => String::new(),
            };
            let offset = message.offset;
            lines.push(format!("{:>6}  offset {offset:<10}  {len} bytes{compressed}{cut}", at + 1));
        }
        let more = self.count - self.messages.len() as u64;
        if more > 0 {
            lines.push(format!("        and {more} more"));
        }
        if let Some(error) = &self.error {
            lines.push(format!("        then {}", escape::line(error.to_string())));
        }
        for (name, value) in self.trailers.iter().flat_map(Headers::iter) {
            lines.push(format!("{}: {}", escape::line(name), escape::line(value)));
        }
        lines
    }

    /// The trailers of gRPC-Web that stand behind the messages.
    pub(super) fn into_trailers(self) -> Option<Headers> {
        self.trailers
    }

    fn json(&self) -> Value {
        let message = |m: &grpc::Message| json!({"offset": m.offset, "len": m.len, "compressed": m.is_compressed(), "cut": m.is_cut()});
        self.messages.iter().map(message).collect()
    }
}

/// Whether the body of this message consists of gRPC's messages.
pub(super) fn is_framed(message: Message<'_>) -> bool {
    message.headers.is_some_and(grpc::is_framed)
}

/// How the call ended, in a line; `None` where nothing says so, or there was no call. `web` are the trailers of gRPC-Web.
pub(super) fn status_line(flow: &Flow, web: Option<&Headers>) -> Option<String> {
    let parts = [content::message(flow, Part::Request), content::message(flow, Part::Response)];
    let status = status(flow, web).filter(|_| parts.into_iter().flatten().any(is_framed))?;
    let code = status.code.map_or("?".to_owned(), |code| code.to_string());
    let name = status.name().unwrap_or("unknown code");
    let message = status.message.map(|text| format!(": {}", escape::line(text))).unwrap_or_default();
    Some(format!("gRPC status {code} {name}{message}"))
}

/// The call for `show --json`; `null` for a flow that is none. Of each direction the first [`LISTED`] are listed.
pub(super) fn json(flow: &Flow, store: &Reader) -> Value {
    let lists = [Part::Request, Part::Response].map(|part| {
        let message = content::message(flow, part).filter(|&message| is_framed(message))?;
        Some(list(store, message, LISTED))
    });
    if lists.iter().all(Option::is_none) {
        return Value::Null;
    }
    let mut object = json!({});
    let mut web = None;
    for (part, list) in ["request", "response"].into_iter().zip(&lists) {
        let (messages, count, error) = match list {
            None => (Value::Null, Value::Null, None),
            Some(Err(error)) => (Value::Null, Value::Null, Some(error.to_string())),
            Some(Ok(list)) => {
                web = list.trailers.as_ref().or(web);
                (list.json(), list.count.into(), list.error.as_ref().map(ToString::to_string))
            }
        };
        object[format!("{part}_messages")] = messages;
        object[format!("{part}_message_count")] = count;
        object[format!("{part}_messages_error")] = error.into();
    }
    let status = status(flow, web);
    object["status"] = status.as_ref().and_then(|status| status.code).into();
    object["status_name"] = status.as_ref().and_then(Status::name).into();
    object["status_message"] =
        status.and_then(|status| status.message).map(|text| flow_json::bytes(&text)).into();
    object["web_trailers"] = web.map(flow_json::headers).into();
    object
}

/// From the trailers, from those of gRPC-Web, or from the head of a response that has neither.
fn status(flow: &Flow, web: Option<&Headers>) -> Option<Status> {
    let response = flow.response.as_ref()?;
    let places = [response.trailers.as_deref(), web, Some(&response.headers)];
    places.into_iter().flatten().find_map(Status::of)
}

/// What is listed without becoming a burden to whoever reads it; the count is there in any case.
pub(super) const LISTED: usize = 10_000;
