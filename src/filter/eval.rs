//! Asking a filter: three answers (yes, no, not known yet), cheap tests first, and what a whole flow answers.

use std::convert::Infallible;
use std::fmt::Write as _;

use super::{Expr, Flag, Number, Part, Pattern, Ranges, Test, Text};
use crate::flow::{Body, Flow, Headers, Kind, Scheme, Stage, State, Target};

/// Something that answers the tests of a filter.
pub trait Subject {
    /// Why it could not look.
    type Error;

    /// Whether this is so; `None` if it does not know enough to tell.
    ///
    /// # Errors
    /// If what it had to look at could not be read.
    fn test(&mut self, test: &Test) -> Result<Option<bool>, Self::Error>;
}

/// What has to be read of a flow to answer a test, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// What a list shows, and what is looked up beside it: notes, tags, addresses.
    Row,
    /// The whole flow, without its bodies.
    Record,
    /// Its bodies, or messages.
    Bodies,
}

impl Test {
    /// What has to be read to answer it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self {
            Test::Text(Text::Body(_), _) => Needs::Bodies,
            Test::Text(Text::Header(_), _) | Test::Flag(Flag::WebSocket) => Needs::Record,
            _ => Needs::Row,
        }
    }

    /// Whether it asks for what people note about a flow after it was recorded.
    #[must_use]
    pub fn is_note(&self) -> bool {
        matches!(self, Test::Flag(Flag::Marked) | Test::Text(Text::Marker | Text::Comment | Text::Tag, _))
    }
}

impl Expr {
    /// What has to be read to answer it in the worst case.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().map(Expr::needs).max().unwrap_or(Needs::Row),
            Expr::Not(inner) => inner.needs(),
            Expr::Test(test) => test.needs(),
        }
    }

    /// The same, with cheap tests before costly ones.
    pub(super) fn cheapest_first(&self) -> Self {
        let sorted = |parts: &[Expr]| {
            let mut parts: Vec<_> = parts.iter().map(Expr::cheapest_first).collect();
            parts.sort_by_key(Expr::needs);
            parts
        };
        match self {
            Expr::All(parts) => Expr::All(sorted(parts)),
            Expr::Any(parts) => Expr::Any(sorted(parts)),
            Expr::Not(inner) => Expr::negated(inner.cheapest_first()),
            Expr::Test(test) => Expr::Test(test.clone()),
        }
    }

    /// Whether it holds, by the answers of `ask`, which is asked no more than needed. `None` if that is not known: so one can
    /// ask a summary of many flows whether any of them, or all of them, may match.
    ///
    /// # Errors
    /// The first error of `ask`.
    pub fn judge<E>(&self, ask: &mut dyn FnMut(&Test) -> Result<Option<bool>, E>) -> Result<Option<bool>, E> {
        // One part that is `decisive` decides; if none is and some are not known, nothing is.
        let decide =
            |parts: &[Expr], decisive: bool, ask: &mut dyn FnMut(&Test) -> Result<Option<bool>, E>| {
                let mut result = Some(!decisive);
                for part in parts {
                    match part.judge(ask)? {
                        Some(answer) if answer == decisive => return Ok(Some(decisive)),
                        Some(_) => {}
                        None => result = None,
                    }
                }
                Ok(result)
            };
        match self {
            Expr::All(parts) => decide(parts, false, ask),
            Expr::Any(parts) => decide(parts, true, ask),
            Expr::Not(inner) => Ok(inner.judge(ask)?.map(|answer| !answer)),
            Expr::Test(Test::Everything) => Ok(Some(true)),
            Expr::Test(Test::Nothing(_)) => Ok(Some(false)),
            Expr::Test(test) => ask(test),
        }
    }
}

/// What people noted about a flow. It is kept beside the flow, not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Empty if the flow is not marked.
    pub marker: String,
    /// Empty if there is none.
    pub comment: String,
    /// In any order.
    pub tags: Vec<String>,
}

/// A whole flow, which answers everything but what is in its bodies.
#[derive(Debug, Clone, Copy)]
pub struct FlowSubject<'a> {
    /// The flow.
    pub flow: &'a Flow,
    /// Its mid, as SQLite has it.
    pub mid: i64,
    /// What was noted about it; `None` if that is not known.
    pub notes: Option<&'a Notes>,
}

impl Subject for FlowSubject<'_> {
    type Error = Infallible;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, Infallible> {
        Ok(match test {
            Test::Everything => Some(true),
            Test::Nothing(_) => Some(false),
            Test::Flag(Flag::Marked) => self.notes.map(|notes| !notes.marker.is_empty()),
            Test::Flag(flag) => Some(has_flag(self.flow, *flag)),
            Test::Number(number, ranges) => Some(self.number(*number, ranges)),
            Test::Text(Text::Body(_), _) => None,
            Test::Text(Text::Marker, pattern) => {
                self.notes.map(|notes| pattern.is_match(notes.marker.as_bytes()))
            }
            Test::Text(Text::Comment, pattern) => {
                self.notes.map(|notes| pattern.is_match(notes.comment.as_bytes()))
            }
            Test::Text(Text::Tag, pattern) => {
                self.notes.map(|notes| notes.tags.iter().any(|tag| pattern.is_match(tag.as_bytes())))
            }
            Test::Text(text, pattern) => Some(has_text(self.flow, *text, pattern)),
        })
    }
}

impl FlowSubject<'_> {
    fn number(&self, number: Number, ranges: &Ranges) -> bool {
        let flow = self.flow;
        let number = match number {
            Number::Mid => Some(self.mid),
            Number::Port => Some(i64::from(flow.target.port)),
            Number::Started => Some(flow.timing.started_unix_ns),
            Number::Duration => flow.timing.end_us.map(signed),
            Number::Status => flow.response.as_ref().map(|response| i64::from(response.status)),
            Number::Size(part) => {
                let len = |part| signed(payload_len(flow, part));
                Some(match part {
                    Part::Either => len(Part::Request).saturating_add(len(Part::Response)),
                    part => len(part),
                })
            }
        };
        number.is_some_and(|number| ranges.contains(number))
    }
}

/// A flow that is still going on: it answers what will not change any more, and neither bodies nor notes.
#[derive(Debug, Clone, Copy)]
pub struct OpenSubject<'a> {
    /// The flow as it is now.
    pub flow: &'a Flow,
    /// Its mid, as SQLite has it.
    pub mid: i64,
}

impl Subject for OpenSubject<'_> {
    type Error = Infallible;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, Infallible> {
        let (asked, answered) = (self.flow.request.is_some(), self.flow.response.is_some());
        let is_settled = match test {
            Test::Everything | Test::Nothing(_) => true,
            Test::Flag(flag) => match flag {
                Flag::Replay => true,
                Flag::Asset => answered,
                _ => false,
            },
            Test::Number(number, _) => match number {
                Number::Mid | Number::Started => true,
                Number::Port => asked,
                Number::Status => answered,
                Number::Size(_) | Number::Duration => false,
            },
            Test::Text(text, _) => match text {
                Text::Host | Text::Path | Text::Method | Text::Scheme => asked,
                Text::Client => true,
                Text::Type(Part::Request) | Text::Header(Part::Request) => asked,
                Text::Type(Part::Response) | Text::Header(Part::Response) => answered,
                Text::Type(Part::Either) | Text::Header(Part::Either) => asked && answered,
                // A `CONNECT` has another URL when it has become a tunnel.
                Text::Url => asked && self.flow.kind == Kind::Http,
                Text::Server | Text::Body(_) | Text::Marker | Text::Comment | Text::Tag => false,
            },
        };
        if !is_settled {
            return Ok(None);
        }
        FlowSubject { flow: self.flow, mid: self.mid, notes: None }.test(test)
    }
}

fn has_flag(flow: &Flow, flag: Flag) -> bool {
    let http = matches!(flow.kind, Kind::Http | Kind::Connect);
    match flag {
        Flag::Http => http,
        Flag::Tunnel => flow.kind == Kind::Tunnel,
        Flag::WebSocket => flow.websocket.is_some(),
        Flag::Pending => http && flow.response.is_none(),
        Flag::Answered => http && flow.response.is_some(),
        Flag::Error => flow.error.is_some(),
        Flag::Marked => false,
        Flag::Replay => flow.replay_of.is_some(),
        Flag::Asset => content_type(flow, Part::Response).is_some_and(is_asset),
        Flag::Truncated => bodies(flow, Part::Either).any(Body::is_truncated),
        Flag::TlsFailed => {
            flow.kind == Kind::Tls || flow.error.as_ref().is_some_and(|error| error.stage == Stage::Tls)
        }
        Flag::Open => flow.state == State::Open,
    }
}

fn has_text(flow: &Flow, text: Text, pattern: &Pattern) -> bool {
    let lossy = |text: &[u8]| pattern.is_match(String::from_utf8_lossy(text).as_bytes());
    match text {
        Text::Url => {
            let Target { scheme, host, port } = &flow.target;
            let path = String::from_utf8_lossy(flow.path());
            pattern.is_match(url(flow.kind, (*scheme, host, *port), &path, &mut String::new()).as_bytes())
        }
        Text::Host => pattern.is_match(flow.target.host.as_bytes()),
        Text::Path => lossy(flow.path()),
        Text::Method => lossy(flow.request.as_ref().map_or(&[], |request| &request.method)),
        Text::Scheme => pattern.is_match(flow.target.scheme.as_str().as_bytes()),
        Text::Type(Part::Either) => {
            [Part::Request, Part::Response].iter().any(|&part| content_type(flow, part).is_some_and(lossy))
        }
        Text::Type(part) => content_type(flow, part).is_some_and(lossy),
        Text::Header(part) => {
            let of = |headers: &Headers| pattern.is_match(&header_lines(headers));
            let request = flow.request.as_ref().filter(|_| part != Part::Response);
            let response = flow.response.as_ref().filter(|_| part != Part::Request);
            request.is_some_and(|r| of(&r.headers)) || response.is_some_and(|r| of(&r.headers))
        }
        Text::Client => {
            flow.client.peer.as_ref().is_some_and(|peer| pattern.is_match(peer.to_string().as_bytes()))
        }
        Text::Server => flow.server.as_ref().is_some_and(|server| {
            let peer = server.peer.as_ref().map(ToString::to_string);
            pattern.is_match(server.address.to_string().as_bytes())
                || peer.is_some_and(|peer| pattern.is_match(peer.as_bytes()))
        }),
        // The subject answers these before it comes here.
        Text::Body(_) | Text::Marker | Text::Comment | Text::Tag => false,
    }
}

/// The URL that a filter sees, made in `buffer`: scheme, authority and path, whatever the form of the request-target; host
/// and port where there was no request of HTTP.
pub fn url<'a>(
    kind: Kind,
    (scheme, host, port): (Scheme, &str, u16),
    path: &str,
    buffer: &'a mut String,
) -> &'a str {
    buffer.clear();
    if kind == Kind::Http && host.is_empty() {
        buffer.push_str(path);
        return buffer;
    }
    if kind != Kind::Http && scheme == Scheme::Tcp && host.is_empty() {
        return buffer;
    }
    if kind == Kind::Http {
        buffer.push_str(scheme.as_str());
        buffer.push_str("://");
    }
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    buffer.extend([open, host, close]);
    if kind != Kind::Http || port != scheme.default_port() {
        // Writing to a String cannot fail.
        let _ = write!(buffer, ":{port}");
    }
    if kind == Kind::Http {
        buffer.push_str(if path.starts_with('/') || path.is_empty() { "" } else { "/" });
        buffer.push_str(path);
    }
    buffer
}

/// A head's fields as a filter sees them: `Name: value` and CRLF each, in their order and case.
fn header_lines(headers: &Headers) -> Vec<u8> {
    let mut lines = Vec::with_capacity(headers.text_len() + 4 * headers.len());
    for (name, value) in headers.iter() {
        lines.extend_from_slice(name);
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn content_type(flow: &Flow, part: Part) -> Option<&[u8]> {
    let headers = match part {
        Part::Request => flow.request.as_ref().map(|request| &request.headers),
        Part::Response | Part::Either => flow.response.as_ref().map(|response| &response.headers),
    };
    headers?.get("content-type")
}

/// Whether a `Content-Type` is that of a script, a style sheet, an image or a font, as mitmproxy's `~a` has it.
#[must_use]
pub(crate) fn is_asset(media_type: &[u8]) -> bool {
    const ASSETS: [&str; 7] = [
        "text/javascript",
        "application/x-javascript",
        "application/javascript",
        "text/css",
        "image/",
        "font/",
        "application/font",
    ];
    let found = |asset: &str| {
        media_type.windows(asset.len()).any(|window| window.eq_ignore_ascii_case(asset.as_bytes()))
    };
    ASSETS.iter().any(|asset| found(asset))
}

/// The bodies of a flow, those of a tunnel among them.
fn bodies(flow: &Flow, part: Part) -> impl Iterator<Item = &Body> {
    let tunnel = flow.tunnel.as_ref();
    let from_client = [flow.request.as_ref().map(|r| &r.body), tunnel.map(|t| &t.from_client)];
    let from_server = [flow.response.as_ref().map(|r| &r.body), tunnel.map(|t| &t.from_server)];
    let from_client = if part == Part::Response { [None; 2] } else { from_client };
    let from_server = if part == Part::Request { [None; 2] } else { from_server };
    from_client.into_iter().chain(from_server).flatten()
}

fn payload_len(flow: &Flow, part: Part) -> u64 {
    let messages = flow.websocket.as_ref().map_or(0, |websocket| match part {
        Part::Request => websocket.len_from_client,
        Part::Response => websocket.len_from_server,
        Part::Either => websocket.len_from_client.saturating_add(websocket.len_from_server),
    });
    bodies(flow, part).fold(messages, |sum, body| sum.saturating_add(body.len))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
