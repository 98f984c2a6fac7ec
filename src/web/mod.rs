//! What manent itself shows in a browser.
//!
//! So far that is [`setup`](SetupPage), which helps a client to use the proxy and to trust it. It holds nothing of what was
//! captured, and so needs no key to it.

mod setup;

pub use setup::{BadHost, DEFAULT_HOST, SetupPage, parse_host};
