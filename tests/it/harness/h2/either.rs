//! An end that speaks either protocol, for tests of what must come out the same whatever stands on both sides.

use super::conn::{Event, H2, Head};
use super::frame::{END_STREAM, MORE};
use super::hpack::Field;
use super::legs::NAME;
use crate::harness::Peer;

/// A client or an origin.
#[expect(clippy::large_enum_variant, reason = "a test has two of them")]
pub(crate) enum End {
    H1(Peer),
    H2(H2),
}

/// What is to be said beside the first line: fields, body, trailers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Say<'a> {
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// `None`: there is none, and HTTP/1 says nothing of its length. With one and no `content-length`, it is chunked.
    pub(crate) body: Option<&'a str>,
    pub(crate) trailers: &'a [(&'a str, &'a str)],
}

/// What came. Names of fields are in lower case, and pseudo-header fields have places of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Got {
    /// 0 in HTTP/1.
    pub(crate) stream: u32,
    /// Method and target, or the status alone.
    pub(crate) line: String,
    /// `:authority`, or `Host`.
    pub(crate) authority: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<Field>,
}

impl Got {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| &value[..]).collect()
    }

    pub(crate) fn trailers(&self) -> Vec<(&str, &str)> {
        self.trailers.iter().map(|(name, value)| (&name[..], &value[..])).collect()
    }
}

impl End {
    /// Sends a request to [`NAME`], on stream 1 of HTTP/2.
    pub(crate) async fn ask(&mut self, line: (&str, &str), say: Say<'_>) {
        match self {
            End::H1(peer) => {
                let first = format!("{} {} HTTP/1.1\r\nHost: {NAME}\r\n", line.0, line.1);
                peer.send(h1_text(&first, say)).await;
            }
            End::H2(peer) => {
                let whole = say.body.is_none() && say.trailers.is_empty();
                peer.ask(1, if whole { END_STREAM } else { MORE }, line, say.fields).await;
                h2_rest(peer, 1, say).await;
            }
        }
    }

    /// Reads a request to its end.
    pub(crate) async fn asked(&mut self) -> Got {
        match self {
            End::H1(peer) => h1_message(peer, true).await,
            End::H2(peer) => {
                let head = peer.request().await;
                h2_message(peer, head).await
            }
        }
    }

    /// Sends a response, final or not.
    pub(crate) async fn answer(&mut self, asked: &Got, status: &str, say: Say<'_>) {
        let interim = status.starts_with('1');
        match self {
            End::H1(peer) => {
                peer.send(h1_text(&format!("HTTP/1.1 {status} Reason\r\n"), say)).await;
            }
            End::H2(peer) => {
                let whole = say.body.is_none() && say.trailers.is_empty() && !interim;
                let fields = [&[(":status", status)][..], say.fields].concat();
                peer.head(asked.stream, if whole { END_STREAM } else { MORE }, &fields).await;
                if !interim {
                    h2_rest(peer, asked.stream, say).await;
                }
            }
        }
    }

    /// Reads a response to its end, `bodiless` where the request or the status says so; an interim one is read alone.
    pub(crate) async fn answered(&mut self, bodiless: bool) -> Got {
        match self {
            End::H1(peer) => h1_message(peer, !bodiless).await,
            End::H2(peer) => {
                let head = peer.expect_head(1).await;
                if head.status().starts_with('1') {
                    return h2_got(&head);
                }
                h2_message(peer, head).await
            }
        }
    }

    /// The next head of a request with a body that is still to come.
    pub(crate) async fn asked_head(&mut self) -> Got {
        match self {
            End::H1(peer) => h1_got(&peer.head().await),
            End::H2(peer) => h2_got(&peer.request().await),
        }
    }

    /// Sends the body of a request whose head said that there will be one of this length.
    pub(crate) async fn send_body(&mut self, body: &str) {
        match self {
            End::H1(peer) => peer.send(body).await,
            End::H2(peer) => peer.data(1, END_STREAM, body).await,
        }
    }

    /// Reads this body, and no more of it.
    pub(crate) async fn expect_body(&mut self, stream: u32, body: &str) {
        match self {
            End::H1(peer) => peer.expect(body).await,
            End::H2(peer) => drop(peer.expect_data(stream, body).await),
        }
    }
}

fn h1_text(first: &str, say: Say<'_>) -> String {
    let mut text = first.to_owned();
    for (name, value) in say.fields {
        text += &format!("{name}: {value}\r\n");
    }
    let Some(body) = say.body else { return text + "\r\n" };
    if say.fields.iter().any(|(name, _)| *name == "content-length") {
        return text + "\r\n" + body;
    }
    text += "transfer-encoding: chunked\r\n\r\n";
    if !body.is_empty() {
        text += &format!("{:x}\r\n{body}\r\n", body.len());
    }
    text += "0\r\n";
    for (name, value) in say.trailers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

async fn h2_rest(peer: &mut H2, stream: u32, say: Say<'_>) {
    let last = say.trailers.is_empty();
    if let Some(body) = say.body {
        let flags = if last { END_STREAM } else { MORE };
        match body.is_empty() {
            true => peer.data(stream, flags, "").await,
            false => peer.body(stream, flags, body.as_bytes()).await,
        }
    }
    if !last {
        peer.head(stream, END_STREAM, say.trailers).await;
    }
}

fn h1_got(head: &str) -> Got {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap();
    let line = match first.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest[..3].to_owned(),
        None => first.strip_suffix(" HTTP/1.1").unwrap().to_owned(),
    };
    let split = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let fields: Vec<Field> = lines.map(split).collect();
    let authority = fields.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    Got { line, authority: authority.unwrap_or_default(), fields, ..Got::default() }
}

async fn h1_message(peer: &mut Peer, may_have_body: bool) -> Got {
    let mut got = h1_got(&peer.head().await);
    let length = got.all("content-length").first().map(|length| length.parse::<usize>().unwrap());
    let chunked = got.all("transfer-encoding") == ["chunked"];
    match length {
        _ if !may_have_body || got.line.starts_with('1') => {}
        _ if chunked => h1_chunks(peer, &mut got).await,
        Some(length) => got.body = String::from_utf8(peer.read(length).await).unwrap(),
        None => {}
    }
    got
}

async fn h1_chunks(peer: &mut Peer, got: &mut Got) {
    let line = async |peer: &mut Peer| {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(peer.read(1).await);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    };
    loop {
        let size = usize::from_str_radix(&line(peer).await, 16).unwrap();
        if size == 0 {
            break;
        }
        got.body += &String::from_utf8(peer.read(size).await).unwrap();
        peer.expect("\r\n").await;
    }
    loop {
        let field = line(peer).await;
        let Some((name, value)) = field.split_once(": ") else { return };
        got.trailers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

fn h2_got(head: &Head) -> Got {
    let line = match head.has(":status") {
        true => head.status().to_owned(),
        false => format!("{} {}", head.get(":method"), head.get(":path")),
    };
    let fields = head.fields.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect();
    Got { stream: head.stream, line, authority: head.get(":authority").to_owned(), fields, ..Got::default() }
}

async fn h2_message(peer: &mut H2, head: Head) -> Got {
    let mut got = h2_got(&head);
    let mut ended = head.end;
    while !ended {
        ended = match peer.on(head.stream).await {
            Event::Data { data, end, .. } => {
                got.body += &String::from_utf8(data).unwrap();
                end
            }
            Event::Head(trailers) => {
                got.trailers = trailers.fields;
                trailers.end
            }
            other => panic!("wanted the rest of a message, got {other:?}"),
        };
    }
    got
}
