//! manent: an intercepting HTTP(S) proxy with a built-in flow recorder.

pub mod flow;
pub mod http1;
