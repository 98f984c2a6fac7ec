//! manent: an intercepting HTTP(S) proxy with a built-in flow recorder.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may stop at its first surprise"))]

pub mod codec;
pub mod flow;
pub mod record;
pub mod store;
