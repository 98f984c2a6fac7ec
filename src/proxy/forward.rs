//! One request to its origin, and the answer back.
//!
//! A request that went out on a used connection and met its end there is sent once more on a new one, if it is safe to
//! repeat and not a byte of an answer was seen (RFC 9112 §9.3.1).

use std::time::Instant;

use bytes::Bytes;

use super::client::{Client, Stream};
use super::error::Error;
use super::intercept;
use super::judge::Plan;
use super::relay::{self, Ends, Message};
use super::serve::Scope;
use super::tunnel;
use crate::exchange::Live;
use crate::flow::{Request, Scheme, Version};
use crate::http1::{BodyLength, RequestLine, keeps_alive, upgrade_tokens};
use crate::upstream::{Dialed, Key, Origin};

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It can carry the next request.
    Keep,
    /// It ends cleanly.
    Close,
    /// It ends, though the client is still sending.
    CloseUnread,
}

/// Sends a request and relays what comes back.
pub(super) async fn forward(
    client: &mut Client,
    stream: &mut Stream,
    scope: &mut Scope,
    live: &Live,
    request: &Request,
    plan: &Plan,
) -> Result<After, Error> {
    let may_repeat = plan.length == BodyLength::None && is_idempotent(&request.method);
    let mut fresh = false;
    loop {
        let mut origin = acquire(client, scope, live, plan, fresh).await?;
        let upgrade = upgrade_tokens(request);
        let message = Message {
            request,
            line: RequestLine {
                target: &plan.route.origin_form,
                host: plan.host.as_deref(),
                upgrade: upgrade.is_some(),
                max_forwards: plan.max_forwards,
            },
            length: plan.length,
            client_keeps: keeps_alive(request.version, &request.headers)
                && !client.entry.token().is_cancelled(),
            // A TLS client that closes its direction is gone; on TCP it may only have nothing more to say.
            eof_is_gone: client.facts.tls.is_some(),
            reused: origin.used > 0,
        };
        origin.tied |= authenticates_connection(request);
        let ends = Ends { reader: &mut stream.reader, writer: &mut stream.writer, origin: &mut origin };
        let limits = client.shared.limits;
        match relay::exchange(&mut client.ticker, &limits, live, ends, &message).await {
            Ok(relayed) if relayed.switched => {
                let upgrade = upgrade.unwrap_or_default();
                return Box::pin(tunnel::upgraded(client, stream, origin, live, upgrade)).await;
            }
            Ok(relayed) => {
                // An exchange may have made the connection one client's own.
                origin.used += 1;
                if !relayed.client_keeps {
                    client.close_origins = true;
                } else if relayed.origin_keeps {
                    client.keep_origin(origin);
                }
                live.complete();
                return Ok(match (relayed.client_keeps, relayed.unread) {
                    (true, _) => After::Keep,
                    (false, true) => After::CloseUnread,
                    (false, false) => After::Close,
                });
            }
            Err(error) if error.stale && may_repeat && !fresh => {
                tracing::debug!(error = %error, "sent again on a new connection");
                fresh = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether an answer has begun to go to the client.
pub(super) fn answered(live: &Live) -> bool {
    live.with(|flow| flow.timing.response_head_us.is_some())
}

/// A connection for the request: one at hand, unless it must be `fresh`, else a new one.
async fn acquire(
    client: &mut Client,
    scope: &mut Scope,
    live: &Live,
    plan: &Plan,
    fresh: bool,
) -> Result<Origin, Error> {
    let target = &plan.route.target;
    let (key, offers) = match scope {
        Scope::Explicit => {
            let name = if target.scheme == Scheme::Https { target.host.clone() } else { String::new() };
            (Key { target: target.clone(), name }, Vec::new())
        }
        Scope::Tunnel(tunneled) => {
            if let Some(error) = tunneled.broken.take() {
                return Err(error);
            }
            let name = tunneled.identity.clone().unwrap_or_default();
            (Key { target: tunneled.target.clone(), name }, tunneled.offers.clone())
        }
    };
    if !fresh && let Some(origin) = client.idle_origin(&key) {
        live.connected(std::sync::Arc::clone(&origin.facts), origin.used > 0);
        return Ok(origin);
    }
    let first = match scope {
        Scope::Tunnel(tunneled) => tunneled.first.take(),
        Scope::Explicit => None,
    };
    let origin = Box::pin(open(client, key, first, &offers)).await?;
    live.connected(std::sync::Arc::clone(&origin.facts), false);
    Ok(origin)
}

/// A new connection, on a socket that was dialled before if there is one.
async fn open(
    client: &Client,
    key: Key,
    first: Option<(Dialed, Instant)>,
    offers: &[Bytes],
) -> Result<Origin, Error> {
    let (dialed, since) = match first {
        Some(first) => first,
        None => intercept::dial(&client.shared, client.local.ip(), &key.target).await?,
    };
    intercept::handshake(&client.shared, key, dialed, since, offers).await
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    [&b"GET"[..], b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"].contains(&method)
}

/// Whether a request takes part in an authentication that holds for its connection (RFC 4559 §6 on NTLM and Negotiate).
fn authenticates_connection(request: &Request) -> bool {
    request.version != Version::Http2
        && request.headers.get_all("authorization").any(|value| {
            let scheme = value.split(|&b| b == b' ').next().unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
        })
}
