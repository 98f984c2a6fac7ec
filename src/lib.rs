//! manent: an intercepting HTTP(S) proxy with a built-in flow recorder.

pub mod codec;
pub mod flow;
pub mod record;
pub mod store;
