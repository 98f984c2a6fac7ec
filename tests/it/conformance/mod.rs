//! What RFCs and the record demand, by section: bytes in on one side, bytes out on the other, and the flow that is kept.

mod connect;
mod http1_connection;
mod http1_forwarding;
mod http1_limits;
mod http1_over_tls;
mod http1_refusals;
mod http1_responses;
mod lifecycle;
mod random_messages;
mod smuggling;
mod streaming;
mod upgrade;
