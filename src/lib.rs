//! manent: an intercepting HTTP(S) proxy with a built-in flow recorder.

pub mod app;
pub mod cli;
pub mod config;
pub mod flow;
pub mod format;
pub mod record;
pub mod store;
pub mod tls;
