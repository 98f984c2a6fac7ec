//! From a recorded flow to a request that can be sent: what the origin saw the first time, and the user's changes.

use bytes::Bytes;
use thiserror::Error;

use super::edit::{Edits, NewBody};
use crate::flow::{BodyEnd, Content, Flow, Headers, Kind, Request, Scheme, State, Target, Version};
use crate::http1::{BodyLength, remove_field, request_length, set_field};
use crate::proxy::{Onward, Outbound, Unsendable, onward};

/// A request that is ready to go, but for the bytes of its body.
#[derive(Debug)]
pub struct Prepared {
    /// As it goes out.
    pub request: Request,
    /// The origin that it names.
    pub target: Target,
    /// Where it goes.
    pub dial: Target,
    /// The origin's name in TLS.
    pub name: String,
    /// The protocols that the origin is offered.
    pub offers: Vec<Bytes>,
    /// Its trailers.
    pub trailers: Option<Headers>,
    /// Its body.
    pub body: BodySource,
    /// Whether messages follow.
    pub is_websocket: bool,
    /// The fields with credentials that go to another origin than the recorded one.
    pub credentials: Vec<&'static str>,
}

/// Where the bytes of a body come from.
#[derive(Debug, Clone)]
pub enum BodySource {
    /// There are none.
    Empty,
    /// From the store, so many.
    Stored(Content, u64),
    /// From the user.
    New(NewBody),
}

/// Why a flow is not sent again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no request for an origin.
    #[error("it is {what}, not a request that can be sent again")]
    NotARequest {
        /// What it is.
        what: &'static str,
    },
    /// It was refused, so no origin has ever seen it.
    #[error("it was refused and never sent to an origin")]
    NeverSent,
    /// It has not ended.
    #[error("it is still going on")]
    Open,
    /// Not all of its body is on record.
    #[error("its request body is not whole: {kept} of {len} bytes are recorded")]
    Truncated {
        /// Bytes that are.
        kept: u64,
        /// Bytes that passed.
        len: u64,
    },
    /// Not all of what its client said is on record.
    #[error("message {seq} of its client is not on record as it was sent")]
    Message {
        /// The message's number.
        seq: u64,
    },
    /// The record makes no request.
    #[error("it cannot be sent: {0}")]
    Unsendable(#[from] Unsendable),
}

impl Refusal {
    /// Whether [`Edits::allow_truncated`] would let it pass.
    #[must_use]
    pub fn is_truncation(&self) -> bool {
        matches!(self, Refusal::Truncated { .. } | Refusal::Message { .. })
    }
}

/// Makes a request of a recorded flow.
///
/// # Errors
/// If it cannot be sent again, or not as a whole.
pub fn prepare(flow: &Flow, edits: &Edits) -> Result<Prepared, Refusal> {
    let recorded = request(flow)?;
    let body = body(flow, recorded, edits)?;
    let (len, same_body) = match &body {
        BodySource::Empty => (0, edits.body.is_none()),
        BodySource::Stored(_, len) => (*len, true),
        BodySource::New(new) => (new.len(), false),
    };
    let spoken = spoken(flow, recorded, edits);
    let to = edits.to.as_ref().map(|to| &to.0);
    let target = to.unwrap_or(&flow.target);
    let host = match (&edits.host, to) {
        (Some(host), _) => Some(host.to_vec()),
        (None, Some(to)) if !edits.keep_host => Some(to.authority().into_bytes()),
        // What an HTTP/1.0 request or a name in TLS told, and no field does.
        (None, Some(_)) if !names_host(recorded) => Some(flow.target.authority().into_bytes()),
        _ => None,
    };
    let trailers = recorded.trailers.as_deref().filter(|_| same_body).cloned();
    let mut request = onward(
        recorded,
        &Onward {
            target,
            spoken,
            host: host.as_deref(),
            is_our_own: flow.client.mode == Outbound::MODE,
            has_body: recorded.body.len > 0 || recorded.trailers.is_some(),
        },
    )?;
    change(&mut request, edits);
    fit_length(&mut request, len, trailers.is_some());
    let elsewhere = *target != flow.target;
    Ok(Prepared {
        name: if edits.keep_host || to.is_none() { flow.target.host.clone() } else { target.host.clone() },
        dial: to.cloned().unwrap_or_else(|| dialled(flow)),
        offers: offers(flow, spoken, target.scheme, to.is_some()),
        credentials: if elsewhere { credentials(&request.headers) } else { Vec::new() },
        target: target.clone(),
        is_websocket: flow.websocket.is_some(),
        request,
        trailers,
        body,
    })
}

/// The request of a flow that has one.
fn request(flow: &Flow) -> Result<&Request, Refusal> {
    let what = match flow.kind {
        Kind::Http if flow.tunnel.is_some() => "a connection that became something else than HTTP",
        Kind::Http => "",
        Kind::Connect | Kind::Tunnel => "a tunnel",
        Kind::Tls => "a failed TLS handshake",
    };
    if !what.is_empty() {
        return Err(Refusal::NotARequest { what });
    }
    if flow.state == State::Open {
        return Err(Refusal::Open);
    }
    match &flow.request {
        Some(request) if !request.method.is_empty() => match flow.state {
            State::Refused => Err(Refusal::NeverSent),
            _ if flow.target.host.is_empty() || flow.target.scheme == Scheme::Tcp => Err(Refusal::NeverSent),
            _ => Ok(request),
        },
        _ => Err(Refusal::NotARequest { what: "a head that could not be read" }),
    }
}

fn body(flow: &Flow, request: &Request, edits: &Edits) -> Result<BodySource, Refusal> {
    if let Some(new) = &edits.body {
        return Ok(BodySource::New(new.clone()));
    }
    if flow.websocket.is_some() {
        return Ok(BodySource::Empty);
    }
    let body = &request.body;
    let kept = body.recorded_len();
    if !edits.allow_truncated && (body.end != BodyEnd::Whole || kept != body.len) {
        return Err(Refusal::Truncated { kept, len: body.len });
    }
    Ok(if kept == 0 { BodySource::Empty } else { BodySource::Stored(body.content.clone(), kept) })
}

fn names_host(request: &Request) -> bool {
    request.headers.get("host").is_some() || request.authority.is_some() || !request.target.starts_with(b"/")
}

/// What the origin was spoken to in. Its answer tells; without one, what was agreed on in TLS, or what its client spoke.
fn spoken(flow: &Flow, request: &Request, edits: &Edits) -> Version {
    let answered = flow.response.as_ref().filter(|response| !response.by_proxy).map(|r| r.version);
    let agreed =
        flow.server.as_ref().and_then(|server| server.tls.as_ref()).and_then(|tls| tls.alpn.as_deref());
    let is_http2 = match (answered, agreed) {
        (Some(version), _) => version >= Version::Http2,
        (None, Some(alpn)) => alpn == HTTP2,
        (None, None) => request.version >= Version::Http2 && flow.target.scheme == Scheme::Https,
    };
    // Nearly nothing speaks HTTP/2 in clear; what did, did so when it was recorded.
    let in_clear = edits.to.as_ref().is_some_and(|to| to.0.scheme == Scheme::Http);
    if is_http2 && !(in_clear && flow.target.scheme == Scheme::Https) {
        Version::Http2
    } else {
        Version::Http11
    }
}

fn offers(flow: &Flow, spoken: Version, scheme: Scheme, elsewhere: bool) -> Vec<Bytes> {
    let http1 = Bytes::from_static(b"http/1.1");
    let http2 = Bytes::from_static(HTTP2);
    let tls = flow.server.as_ref().and_then(|server| server.tls.as_ref());
    // An origin that had no ALPN may be one that breaks off when it is offered something.
    let had_none = tls.is_some_and(|tls| tls.error.is_none() && tls.alpn.is_none());
    match (spoken, scheme) {
        (Version::Http2, Scheme::Https) if elsewhere => vec![http2, http1],
        (Version::Http2, _) => vec![http2],
        (_, Scheme::Https) if elsewhere || !had_none => vec![http1],
        _ => Vec::new(),
    }
}

/// What was dialled for the flow: behind a `CONNECT` to an address, that is not the host that the request names.
fn dialled(flow: &Flow) -> Target {
    let address = flow.server.as_ref().map(|server| &server.address);
    match address.filter(|address| !address.host.is_empty() && address.port != 0) {
        Some(address) => {
            Target { scheme: flow.target.scheme, host: address.host.clone(), port: address.port }
        }
        None => flow.target.clone(),
    }
}

/// Sets and removes fields.
fn change(request: &mut Request, edits: &Edits) {
    let headers = &mut request.headers;
    for name in &edits.removed {
        remove_field(headers, name);
    }
    for (name, value) in &edits.set {
        match request.version {
            // RFC 9113 §8.2.1.
            Version::Http2 => set_field(headers, &name.to_ascii_lowercase(), value),
            _ => set_field(headers, name, value),
        }
    }
}

/// Makes the head fit a body of this length: nothing changes where it does.
fn fit_length(request: &mut Request, len: u64, trailers: bool) {
    let told = request.headers.get("content-length").is_some();
    let text = len.to_string();
    let fits = match (request.version, request_length(request)) {
        (Version::Http2, _) if !told => true,
        (_, Ok(BodyLength::Length(told))) => told == len,
        (_, Ok(BodyLength::None)) => len == 0 && !trailers,
        (_, Ok(BodyLength::Chunked)) => true,
        _ => false,
    };
    if !fits {
        let name: &[u8] = match (told, request.version) {
            (true, _) => {
                let own = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(b"content-length"));
                &own.map_or_else(|| b"Content-Length".to_vec(), |(name, _)| name.to_vec())
            }
            (false, Version::Http2) => b"content-length",
            (false, _) => b"Content-Length",
        };
        set_field(&mut request.headers, name, text.as_bytes());
    }
}

/// The fields that may let somebody act as the user.
fn credentials(headers: &Headers) -> Vec<&'static str> {
    let known =
        ["Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "X-Amz-Security-Token", "X-Csrf-Token"];
    known.into_iter().filter(|name| headers.get(name).is_some()).collect()
}

const HTTP2: &[u8] = b"h2";
