//! HTTP/2 (RFC 9113), frame by frame on both sides of the proxy: what each peer sees on the wire, and the flow that is kept.

mod bridge;
mod capitals;
mod concurrency;
mod connect;
mod connection;
mod errors;
mod floods;
mod flow_control;
mod goaway;
mod http1_origins;
mod mapping;
mod messages;
mod origin_errors;
mod patience;
mod ping;
mod proxying;
mod random_frames;
mod rules;
mod streams;

use crate::harness::{GET, OK, Origin, Setup};

/// Fails unless a new client is served as ever. For tests that leave flows unread: its flow is one of them.
async fn expect_served(setup: &Setup) {
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send(OK).await;
    client.expect(OK).await;
}
