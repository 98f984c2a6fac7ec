//! Flows of old versions made into flows of version 21, step by step.
//!
//! A step is one function, and a row in [`STEPS`]. What a version dropped stays where it was: it goes into the record as a field
//! that is not known.

mod early;
mod handshakes;
mod late;

pub(super) use handshakes::Handshakes;

use super::node::{Dict, Node};
use super::schema;
use crate::flow::Value;

/// A version: of the program up to `(0, 18)` and `(3, 0)`, later of the format, as `(number, 0)`.
type Version = (u32, u32);

/// Brings the state of a flow from the version before to the one in the table.
type Step = fn(&mut Dict, &mut Handshakes);

/// The newest version, which is written.
pub(super) const NEWEST: u32 = 21;

/// Which step leads from which version to which.
const STEPS: &[(Version, Version, Step)] = &[
    ((0, 11), (0, 12), |_, _| {}),
    ((0, 12), (0, 13), |_, _| {}),
    ((0, 13), (0, 14), early::http_version),
    ((0, 14), (0, 15), |_, _| {}),
    ((0, 15), (0, 16), early::content_and_reason),
    ((0, 16), (0, 17), early::peer_address),
    ((0, 17), (0, 18), early::marked),
    ((0, 18), (0, 19), early::tls_names),
    ((0, 19), (1, 0), |_, _| {}),
    ((1, 0), (2, 0), early::plain_addresses),
    ((2, 0), (3, 0), early::certificate_of_ours),
    ((3, 0), (4, 0), |_, _| {}),
    ((4, 0), (5, 0), early::connection_ids),
    ((5, 0), (6, 0), early::ssl_to_tls),
    ((6, 0), (7, 0), |_, _| {}),
    ((7, 0), (8, 0), late::trailers),
    ((8, 0), (9, 0), late::authority_and_replay),
    ((9, 0), (10, 0), late::certificates_and_offers),
    ((10, 0), (11, 0), late::alpn_and_sni),
    ((11, 0), (12, 0), late::websocket_in_handshake),
    ((12, 0), (13, 0), late::marker),
    ((13, 0), (14, 0), late::comment),
    ((14, 0), (15, 0), |_, _| {}),
    ((15, 0), (16, 0), late::created),
    ((16, 0), (17, 0), |_, _| {}),
    ((17, 0), (18, 0), late::proxy_mode),
    ((18, 0), (19, 0), late::names_of_ends),
    ((19, 0), (20, 0), |_, _| {}),
    ((20, 0), (21, 0), late::quic),
];

/// Makes `state` one of version 21, with the types that it has there; the name of the version that it was of.
///
/// # Errors
/// Why it cannot be read, in words.
pub(super) fn upgrade(state: &mut Dict, handshakes: &mut Handshakes) -> Result<String, String> {
    let (mut version, name) = version(state)?;
    while version != (NEWEST, 0) {
        let Some((_, next, step)) = STEPS.iter().find(|(from, ..)| *from == version) else {
            let newer = version.0 > NEWEST;
            let why = if newer { "newer than what can be read" } else { "not one that can be read" };
            return Err(format!("a flow of version {name}, which is {why} (0.11 to {NEWEST})"));
        };
        step(state, handshakes);
        version = *next;
    }
    state.set("version", Node::int(NEWEST));
    schema::retype(state);
    Ok(name)
}

/// Whether a state needs no step.
pub(super) fn is_newest(state: &Dict) -> bool {
    version(state).is_ok_and(|(version, _)| version == (NEWEST, 0))
}

fn version(state: &Dict) -> Result<(Version, String), String> {
    let number = |value: &Value| if let Value::Int(text) = value { text.parse::<u32>().ok() } else { None };
    match state.value("version") {
        Some(Value::List(parts)) => {
            let (major, minor) = (parts.first().and_then(number), parts.get(1).and_then(number));
            if let (Some(major), Some(minor)) = (major, minor) {
                return Ok(((major, minor), format!("{major}.{minor}")));
            }
        }
        Some(value) => {
            if let Some(version) = number(value) {
                return Ok(((version, 0), version.to_string()));
            }
        }
        None => {}
    }
    Err("a value that says no version, so no flow".to_owned())
}

/// The two messages of a flow that are there.
fn messages(state: &mut Dict, mut change: impl FnMut(&mut Dict)) {
    for side in ["request", "response"] {
        state.dict_mut(side).into_iter().for_each(&mut change);
    }
}

/// The two connections.
fn conns(state: &mut Dict, mut change: impl FnMut(&mut Dict)) {
    for side in ["client_conn", "server_conn"] {
        state.dict_mut(side).into_iter().for_each(&mut change);
    }
}

/// What stands under `old` from now on under `new`; nothing if there is nothing.
fn rename(dict: &mut Dict, old: &str, new: &str) {
    if let Some(node) = dict.remove(old) {
        dict.set(new, node);
    }
}

/// What is said of a field that a version brought: where a file has it already, it is kept.
fn set_new(dict: &mut Dict, key: &str, node: Node) {
    if dict.get(key).is_none_or(Node::is_null) {
        dict.set(key, node);
    }
}
