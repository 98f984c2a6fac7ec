//! Serving clients: from an accepted connection to the end of its last exchange.
//!
//! The path of a request: `server` accepts; `client` reads what the connection is; `mode` finds the target of each
//! request; after a `CONNECT`, `detect` looks at the tunnel's first bytes, and `intercept` or `tunnel` takes it on;
//! `serve` reads requests in their order and `judge` says whether and where each may go; `forward` sends one on and
//! relays its answer. Each stage returns an `error::Error` that names side and stage; `answer` is the one table that makes
//! of it a status for the client.

mod answer;
mod client;
mod context;
mod detect;
mod ends;
mod error;
mod forward;
mod intercept;
mod judge;
mod limits;
mod mode;
mod origins;
mod redact;
mod relay;
mod serve;
mod serve_h2;
mod server;
mod shared;
mod tunnel;

pub use limits::Limits;
pub use server::{Listening, Server, ServerError, ServerOptions};
