//! TLS interception: who is trusted, what the two handshakes have to do with each other, and what becomes of a bad one.

mod client;
mod client_cert;
mod constraints;
mod given;
mod hello;
mod identity;
mod key_log;
mod passthrough;
mod proxy_tls;
mod revocation;
mod upstream;
