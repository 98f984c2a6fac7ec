//! Serving clients: from an accepted connection to the end of its last exchange.
//!
//! The path of a request: `server` accepts; `client` reads what the connection is (`proxy_tls`, if it begins with TLS); `mode` finds the target of each
//! request; after a `CONNECT`, `detect` looks at the tunnel's first bytes, `passthrough` says whether it is left unread,
//! and `intercept` or `tunnel` takes it on; `serve` reads requests of HTTP/1 in their order, `serve_h2` those of HTTP/2
//! as they come, and `judge` says whether and where each may go; `forward` finds a connection, and `relay` sends the
//! request on and relays its answer, on `ends` of either protocol. Each stage returns an `error::Error` that names side
//! and stage; `answer` is the one table that makes of it a status for the client.
//!
//! Where the user has rules, `ruled` lets them look at each request first. A WebSocket is two `lane`s; `sockets` knows those
//! that are open.
//!
//! Where requests are answered in the place of their origins, `answered` asks an [`Answers`] before `forward` looks for a
//! connection. What is for the proxy itself is answered by a [`Site`], of which `site` tells.

mod access;
mod answer;
mod answered;
mod answers;
mod bridge;
mod bypass;
mod client;
mod context;
mod detect;
mod ends;
mod error;
mod forward;
mod intercept;
mod judge;
mod lane;
mod limits;
mod mode;
mod onward;
mod origins;
mod outbound;
mod passthrough;
mod proxy_tls;
mod redact;
mod relay;
mod ruled;
mod serve;
mod serve_h2;
mod server;
mod shared;
mod site;
mod sockets;
mod tunnel;

pub use access::{AccessOptions, HtpasswdError, ProxyAuth, ProxyAuthError};
pub use answers::{Answer, AnswerBody, Answers, Asked, Asking, BodyStream, Question, Reply, Talk};
pub use limits::Limits;
pub use mode::{Listen, ListenError, Mode, Reverse};
pub use onward::{Onward, Unsendable, onward};
pub use outbound::{Errand, Outbound, Payload, Script, Sent};
pub use passthrough::{HostPattern, HostPatternError, PassthroughOptions};
pub use server::{Listening, Server, ServerError, ServerOptions};
pub use site::{Site, Visit, Way};
pub use sockets::{InjectError, Injector};
