//! Recorded messages in the shapes of other tools and for people's eyes.

pub mod charset;
pub mod coding;
pub mod grpc;
