//! What RFCs and the record demand, by section: bytes in on one side, bytes out on the other, and the flow that is kept.
//!
//! Each test names the cases that it covers: H1 forwarding, CN tunnels and upgrades, SM framing and smuggling, H2 HTTP/2,
//! ST streaming, TL TLS, WS WebSocket, pitfalls that other proxies fell into, and `group.case` for what an advisory of
//! another product was about. The
//! numbers are for finding a case again; what it asks is said beside them.

mod connect;
mod http1_connection;
mod http1_forwarding;
mod http1_limits;
mod http1_over_tls;
mod http1_refusals;
mod http1_responses;
mod http2;
mod lifecycle;
mod live;
mod random_messages;
mod smuggling;
mod streaming;
mod upgrade;
mod websocket_close;
mod websocket_compression;
mod websocket_framing;
mod websocket_rules;
