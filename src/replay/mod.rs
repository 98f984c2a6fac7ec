//! Recorded flows put to use again.

pub mod serve;
