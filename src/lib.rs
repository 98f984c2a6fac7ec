//! manent: an intercepting HTTP(S) proxy with a built-in flow recorder.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "in a test, a panic with its line is the message"))]

pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod exchange;
pub mod flow;
pub mod format;
pub mod http1;
pub mod proxy;
pub mod record;
pub mod store;
pub mod tls;
pub mod upstream;
