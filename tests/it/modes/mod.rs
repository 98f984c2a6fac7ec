//! The ways in which clients come in, besides the explicit proxy that all other tests use.

mod listeners;
mod reverse;
mod socks5;

use crate::harness::{Origin, Setup};

/// A reverse proxy for `origin`, spoken to with `scheme`.
async fn reverse_to(
    scheme: &str,
    origin: &Origin,
    change: impl FnOnce(&mut manent::config::Config),
) -> Setup {
    let listen = format!("reverse:{scheme}://localhost:{}@127.0.0.1:0", origin.addr().port());
    Setup::with(|config| {
        config.listen = vec![listen.parse().unwrap()];
        change(config);
    })
    .await
}
