//! TLS with the proxy itself, around everything that the client sends then, TLS in a tunnel included: its proxy is an
//! `https://` URL.
//!
//! The leaf is for the name that the client asks for, or the address that it came to. HTTP/1.1 is all that is agreed on.

use std::time::Instant;

use bytes::BytesMut;
use tokio_rustls::LazyConfigAcceptor;

use super::client::{Client, Stream};
use super::forward::HTTP1;
use crate::exchange::Live;
use crate::flow::{Kind, Side, Stage, State, TlsInfo};
use crate::tls::{self, Alpn};
use crate::upstream::{BoxIo, ReadAhead};

/// Shakes hands; what comes then is read anew. `None`: it failed, and that is recorded.
pub(super) async fn accept(client: &mut Client, stream: Stream) -> Option<Stream> {
    let started = Instant::now();
    let limit = client.shared.limits.tls_timeout;
    let (io, prefix) = stream.into_io();
    let io = Box::new(ReadAhead::after(prefix, io)) as BoxIo;
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let hello = match client.ticker.within(limit, acceptor).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            return failed(client, started, tls::explain_client(&error), TlsInfo::default()).await;
        }
        Err(_) => return failed(client, started, "no ClientHello in time".into(), TlsInfo::default()).await,
    };
    let offered = tls::describe_hello(&hello.client_hello());
    let name = offered.sni.clone().unwrap_or_else(|| client.local.ip().to_canonical().to_string());
    let offers_http1 = offered.alpn_offers.iter().any(|offer| offer[..] == *HTTP1);
    let alpn = if offers_http1 { Alpn::Http11 } else { Alpn::None };
    let config = match client.shared.leaves.server_config(&name, alpn) {
        Ok(config) => config,
        Err(error) => return failed(client, started, error.to_string(), offered).await,
    };
    let stream = match client.ticker.within(limit, hello.into_stream(config)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(client, started, tls::explain_client(&error), offered).await,
        Err(_) => {
            let message = "the client did not finish the handshake in time".to_owned();
            return failed(client, started, message, offered).await;
        }
    };
    let chain = client.shared.leaves.chain(&name).unwrap_or_default();
    let info = tls::describe_server_side(stream.get_ref().1, offered, chain);
    client.learn(|facts| facts.proxy_tls = Some(info));
    Some(Stream::new(Box::new(stream), BytesMut::new()))
}

async fn failed(client: &mut Client, started: Instant, message: String, offered: TlsInfo) -> Option<Stream> {
    client.learn(|facts| facts.proxy_tls = Some(TlsInfo { error: Some(message.clone()), ..offered }));
    let facts = std::sync::Arc::clone(&client.facts);
    let is_flow = !client.shared.checks.are_due(client.peer.ip());
    let recorder = client.shared.recorder.as_ref().filter(|_| is_flow);
    let live = Live::begin(recorder, started, Kind::Tls, facts).await;
    live.fail(State::Failed, Side::Client, Stage::Tls, message);
    None
}
