//! HTTP/2 (RFC 9113), frame by frame on both sides of the proxy: what each peer sees on the wire, and the flow that is kept.

mod connect;
mod connection;
mod errors;
mod floods;
mod flow_control;
mod goaway;
mod mapping;
mod messages;
mod origin_errors;
mod random_frames;
mod streams;
