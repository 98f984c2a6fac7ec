//! The SOCKS5 listener (RFC 1928, with user and password of RFC 1929): what it asks us to connect to is then treated as
//! after a `CONNECT`.
//!
//! `BIND` and `UDP ASSOCIATE` are refused. The address in a reply is always 0.0.0.0:0: which of ours connects is no business
//! of the client, and none has been found that looks. What a client sends ahead stays unread until it is its turn.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use bytes::Bytes;

use super::explicit;
use crate::exchange::Live;
use crate::flow::{Kind as FlowKind, Request, Scheme, Side, Stage, Target};
use crate::http1::BodyLength;
use crate::proxy::client::{Client, Stream};
use crate::proxy::error::{Error, Kind};
use crate::proxy::intercept::{self, Opened, Opener};
use crate::proxy::judge::recording_works;
use crate::proxy::limits::{LINGER_TIME, MAX_BAD_HEAD};
use crate::proxy::redact::recorded;
use crate::proxy::serve;
use crate::proxy::shared::Shared;

/// Greets a client, and connects to what it asks for. `None`: it came to nothing, which is recorded where anything was
/// said.
pub(in crate::proxy) async fn accept(client: &mut Client, stream: &mut Stream) -> Option<Opened> {
    let limits = client.shared.limits;
    let stop = client.entry.token();
    let arrived = tokio::select! {
        biased;
        arrived = client.ticker.within(limits.idle_timeout, need(stream, 1)) => arrived,
        () = stop.cancelled() => return None,
    };
    if !matches!(arrived, Ok(Ok(()))) {
        return None;
    }
    let started = Instant::now();
    client.entry.busy();
    let shared = std::sync::Arc::clone(&client.shared);
    let asked = match client.ticker.within(limits.head_timeout, negotiate(&shared, stream)).await {
        Ok(asked) => asked,
        Err(_) => {
            let message = format!("no whole SOCKS5 request within {:?}", limits.head_timeout);
            Err(Refused::silently(Error::new(Kind::ClientTimeout, Side::Client, Stage::RequestHead, message)))
        }
    };
    let target = match asked {
        Ok(target) => target,
        Err(refused) => {
            refuse(client, stream, started, refused).await;
            return None;
        }
    };
    let opener = Opener { request: None, started, target };
    match intercept::reach_ahead(client, stream, &opener.target).await {
        Ok(origin) => {
            let sent = client.ticker.within(limits.relay_timeout, send(stream, &reply(SUCCEEDED))).await;
            matches!(sent, Ok(Ok(()))).then_some(Opened { opener, origin })
        }
        Err(error) => {
            let refused = Refused { reply: reply(code_for(&error)).to_vec(), target: opener.target, error };
            refuse(client, stream, started, refused).await;
            None
        }
    }
}

/// Why a client gets no connection, and what it is told.
struct Refused {
    /// May be empty.
    reply: Vec<u8>,
    /// As far as it is known.
    target: Target,
    error: Error,
}

impl Refused {
    fn silently(error: Error) -> Self {
        Self { reply: Vec::new(), target: Target::default(), error }
    }

    fn with(reply: &[u8], error: Error) -> Self {
        Self { reply: reply.to_vec(), ..Self::silently(error) }
    }
}

/// Everything up to what the client wants to be connected to.
async fn negotiate(shared: &Shared, stream: &mut Stream) -> Result<Target, Refused> {
    let bad = |message: String| Error::bad_request(Stage::RequestHead, message);
    if stream.reader.buffer().first() != Some(&VERSION) {
        return Err(Refused::silently(bad(not_socks5(stream.reader.buffer()))));
    }
    let [_, count] = take::<2>(stream).await?;
    let methods = take_some(stream, usize::from(count)).await?;
    let asks = shared.access.asks();
    let method = match methods.contains(&NO_AUTH) {
        true if !asks => NO_AUTH,
        // A client that has only this to offer may say what it likes where nobody is asked.
        _ if methods.contains(&USER_PASSWORD) => USER_PASSWORD,
        _ => {
            let message = if asks {
                "this proxy wants user and password, which the client did not offer".to_owned()
            } else {
                format!("the client offers no way to authenticate that is known: {methods:?}")
            };
            let kind = if asks { Kind::Unauthorized } else { Kind::BadRequest };
            let error = Error::new(kind, Side::Client, Stage::RequestHead, message);
            return Err(Refused::with(&[VERSION, NOT_ACCEPTABLE], error));
        }
    };
    send(stream, &[VERSION, method]).await.map_err(gone)?;
    if method == USER_PASSWORD {
        authenticate(shared, stream).await?;
    }
    let [version, command, _, kind] = take::<4>(stream).await?;
    if version != VERSION {
        let message = format!("the SOCKS5 request begins with the byte {version:#04x}");
        return Err(Refused::with(&reply(FAILURE), bad(message)));
    }
    let host = match kind {
        IPV4 => Ok(Ipv4Addr::from(take::<4>(stream).await?).to_string()),
        IPV6 => Ok(Ipv6Addr::from(take::<16>(stream).await?).to_string()),
        NAME => {
            let [length] = take::<1>(stream).await?;
            Err(take_some(stream, usize::from(length)).await?)
        }
        other => {
            let message = format!("SOCKS5 knows no address of kind {other}");
            return Err(Refused::with(&reply(ADDRESS_KIND), bad(message)));
        }
    };
    let port = u16::from_be_bytes(take::<2>(stream).await?);
    let host = match host {
        Ok(host) => Ok(host),
        // A name, with the port as it would stand behind it.
        Err(name) => explicit::authority(&name, Some(1)).and_then(|(host, extra)| match extra {
            1 => Ok(host),
            _ => Err(bad("a port within the host name".into())),
        }),
    };
    let target = match host {
        Ok(host) if port > 0 => Target { scheme: Scheme::Tcp, host, port },
        Ok(_) => return Err(Refused::with(&reply(FAILURE), bad("port 0".into()))),
        Err(error) => return Err(Refused::with(&reply(FAILURE), error)),
    };
    let refused = |code, error| Refused { target: target.clone(), ..Refused::with(&reply(code), error) };
    if command != CONNECT {
        let name = match command {
            2 => "BIND".to_owned(),
            3 => "UDP ASSOCIATE".to_owned(),
            other => format!("command {other}"),
        };
        let message = format!("{name} of SOCKS5 is not served, CONNECT alone");
        return Err(refused(COMMAND, Error::bad_request(Stage::Target, message)));
    }
    recording_works(shared).map_err(|error| refused(FAILURE, error))?;
    Ok(target)
}

/// User and password (RFC 1929). They are looked at and forgotten.
async fn authenticate(shared: &Shared, stream: &mut Stream) -> Result<(), Refused> {
    let [version, length] = take::<2>(stream).await?;
    let user = take_some(stream, usize::from(length)).await?;
    let [length] = take::<1>(stream).await?;
    let password = take_some(stream, usize::from(length)).await?;
    if version == SUBNEGOTIATION && shared.access.knows(&user, &password).await {
        return send(stream, &[SUBNEGOTIATION, 0]).await.map_err(gone);
    }
    let message = "this proxy does not know that user with that password";
    let error = Error::new(Kind::Unauthorized, Side::Client, Stage::RequestHead, message);
    Err(Refused::with(&[SUBNEGOTIATION, 1], error))
}

/// Tells the client, if there is anything to be told, and records it.
async fn refuse(client: &mut Client, stream: &mut Stream, started: Instant, refused: Refused) {
    let Refused { reply, target, error } = refused;
    tracing::debug!(peer = %client.peer, error = %error, "SOCKS5 request refused");
    let opener = Opener { request: unread(stream, &error), started, target };
    let live: Live = intercept::begin(client, FlowKind::Connect, opener).await;
    error.record(&live);
    drop(live);
    if error.kind == Kind::ClientGone {
        return;
    }
    if client.ticker.within(LINGER_TIME, send(stream, &reply)).await.is_ok_and(|sent| sent.is_ok()) {
        serve::linger(client, stream).await;
    }
}

/// What could not be taken for SOCKS5 at all, as it came: a head that is none.
fn unread(stream: &Stream, error: &Error) -> Option<Request> {
    let seen = stream.reader.buffer();
    (error.kind == Kind::BadRequest && seen.first().is_some_and(|first| *first != VERSION)).then(|| {
        let kept = Bytes::copy_from_slice(&seen[..seen.len().min(MAX_BAD_HEAD)]);
        let request = Request { head_len: seen.len() as u64, raw_head: Some(kept), ..Request::default() };
        recorded(&request, Some(BodyLength::None))
    })
}

/// What a client that speaks something else meant, perhaps.
fn not_socks5(seen: &[u8]) -> String {
    let first = seen.first().copied().unwrap_or_default();
    match first {
        4 => "SOCKS version 4, where 5 was expected".to_owned(),
        0x16 => "TLS on a SOCKS5 port".to_owned(),
        b'A'..=b'Z' => "HTTP, probably, on a SOCKS5 port: the client must be told that it is one".to_owned(),
        other => format!("no SOCKS5: the first byte is {other:#04x}"),
    }
}

/// The code that says why (RFC 1928 §6).
fn code_for(error: &Error) -> u8 {
    match (error.kind, error.io) {
        (Kind::Loop, _) => NOT_ALLOWED,
        (_, Some(io::ErrorKind::ConnectionRefused)) => CONNECTION_REFUSED,
        (_, Some(io::ErrorKind::NetworkUnreachable)) => NETWORK_UNREACHABLE,
        _ => HOST_UNREACHABLE,
    }
}

fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// Waits for so many bytes; they stay in the buffer.
async fn need(stream: &mut Stream, count: usize) -> Result<(), Refused> {
    while stream.reader.buffer().len() < count {
        match stream.reader.fill().await {
            Ok(0) => {
                let message = "closed in the middle of a SOCKS5 request";
                return Err(Refused::silently(Error::client_gone(Stage::RequestHead, message)));
            }
            Ok(_) => {}
            Err(error) => return Err(gone(error)),
        }
    }
    Ok(())
}

async fn take<const LEN: usize>(stream: &mut Stream) -> Result<[u8; LEN], Refused> {
    need(stream, LEN).await?;
    let mut bytes = [0; LEN];
    bytes.copy_from_slice(&stream.reader.buffer()[..LEN]);
    stream.reader.skip(LEN);
    Ok(bytes)
}

/// At most 255, as all that is counted in a byte.
async fn take_some(stream: &mut Stream, count: usize) -> Result<Vec<u8>, Refused> {
    need(stream, count).await?;
    let bytes = stream.reader.buffer()[..count].to_vec();
    stream.reader.skip(count);
    Ok(bytes)
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.writer.out().extend_from_slice(bytes);
    stream.writer.flush().await
}

fn gone(error: io::Error) -> Refused {
    Refused::silently(Error::client_gone(Stage::RequestHead, error.to_string()))
}

const VERSION: u8 = 5;
/// Of the exchange of RFC 1929.
const SUBNEGOTIATION: u8 = 1;
const NO_AUTH: u8 = 0;
const USER_PASSWORD: u8 = 2;
const NOT_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// RFC 1928 §6.
const SUCCEEDED: u8 = 0;
const FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const CONNECTION_REFUSED: u8 = 5;
const COMMAND: u8 = 7;
const ADDRESS_KIND: u8 = 8;
