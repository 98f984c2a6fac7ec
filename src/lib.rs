//! manent: an intercepting HTTP(S) proxy that keeps what passes through it.
//!
//! It terminates TLS with certificates it makes, builds a [`flow::Flow`] of each request and response, and hands it to a
//! recorder that writes it, protobuf-encoded, to SQLite in grouped transactions. Each stored flow has a [`flow::Mid`], the
//! ticket by which it is found again.
//!
//! # What stays true
//! 1. A mid is announced only after the transaction that stored its flow has committed; mids rise in the order in which
//!    requests arrived and are never used twice.
//! 2. Every admitted flow reaches the recorder exactly once at its end, also when it failed, was cut off or was refused.
//! 3. What the client and the origin see is never changed by recording.
//! 4. What is recorded is what was on the wire.
//! 5. Memory is bounded by settings, not by traffic.
//!
//! # The rows
//! Each uses only rows above it; `tests/tidy.rs` holds them.
//!
//! | row | module | what |
//! |---|---|---|
//! | 0 | [`flow`] | plain data in the field's words |
//! | 1 | [`codec`], [`http1`], [`http2`], [`websocket`], [`filter`], [`format`](mod@format), [`tls`] | flow and protobuf; HTTP/1 and HTTP/2 on the wire; WebSocket frames; the filter language; content codings and gRPC messages; CA and leaves |
//! | 2 | [`rules`], [`store`], [`upstream`] | block, hold, change what passes; SQLite by mid and body segments; connections to origins |
//! | 3 | [`record`] | admission, bounded queue, grouped commit, the feed of what was committed |
//! | 4 | [`exchange`], [`transfer`] | a flow while it is alive, body taps; import and export |
//! | 5 | [`proxy`] | serving clients |
//! | 6 | [`replay`], [`web`] | sending recorded requests again, recorded answers served again, telling two flows apart; the setup page |
//! | 7 | [`config`] | settings, resolved once |
//! | 8 | [`app`] | builds the parts; owns start and shutdown |
//! | 9 | [`cli`] | subcommands, printing, exit codes |
//!
//! To store and find flows of your own, begin at [`record::Recorder`]; to run a proxy inside a program, at [`app::Proxy`].
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "in a test, a panic with its line is the message"))]

pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod exchange;
pub mod filter;
pub mod flow;
pub mod format;
pub mod http1;
pub mod http2;
pub mod proxy;
pub mod record;
pub mod replay;
pub mod rules;
pub mod store;
pub mod tls;
pub mod transfer;
pub mod upstream;
pub mod web;
pub mod websocket;
