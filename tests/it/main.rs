//! Behaviour of the whole, through the front door: real sockets on loopback, one harness, one binary.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with its line is the message")]

mod access;
mod body_limit;
mod check;
mod cli;
mod cli_messages;
mod conformance;
mod examples;
mod failures;
mod faults;
mod filter;
mod fixtures;
mod grpc;
mod har;
mod harness;
mod index;
mod large_bodies;
mod limits;
mod lists;
mod many_stores;
mod messages;
mod mitmproxy;
mod modes;
mod notes;
mod pack;
mod replay;
mod rotation;
mod serve;
mod setup;
mod shutdown;
mod space;
mod stats;
mod store;
mod tail;
mod tls;
mod transfer;
mod tunnels;
mod via;
mod websocket;
