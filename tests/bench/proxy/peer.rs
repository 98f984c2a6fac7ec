//! The peer: hudsucker as its documentation starts it, without a handler.
//!
//! It differs from `with_rustls_connector` in two things: its upstream leg trusts the benchmark's CA in place of the web's,
//! and offers HTTP/2 only where the clients of the scenario speak it, since hudsucker does not mirror what a client negotiated.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hudsucker::Proxy;
use hudsucker::certificate_authority::RcgenAuthority;
use rustls::client::Resumption;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{process, trust};

/// Serves until standard input ends. Prints its port.
pub(crate) async fn serve(spec: &Value) -> Result<()> {
    let dir = PathBuf::from(spec["dir"].as_str().context("dir")?);
    let ca = RcgenAuthority::new(trust::issuer(&dir)?, 1_000, rustls::crypto::ring::default_provider());
    // No ALPN: hyper-rustls sets it, and refuses a config that has it already.
    let tls = (*trust::client(&dir.join(trust::CA_CERT), Resumption::default(), &[])?).clone();
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    let connector = if spec["http2"] == true { connector.enable_http2().build() } else { connector.build() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    Proxy::builder()
        .with_listener(listener)
        .with_ca(ca)
        .with_http_connector(connector)
        .with_graceful_shutdown(async {
            process::stdin_ended().await;
            // Its graceful shutdown waits for idle connections; the measurement is over, so nothing is lost.
            std::process::exit(0)
        })
        .build()?
        .start()
        .await?;
    Ok(())
}
