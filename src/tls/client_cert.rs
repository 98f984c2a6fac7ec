//! What becomes of an origin's wish for a certificate of ours.
//!
//! The certificates are the proxy's own, one for a host, whoever the proxy's client is. So a connection on which one was
//! presented may serve every client, as any other does.

use std::cell::Cell;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::flow::ClientAuth;

tokio::task_local! {
    /// What became of the origin's wish for a certificate in the handshake that this task polls.
    pub(super) static CLIENT_AUTH: Cell<ClientAuth>;
}

/// Gives an origin that asks our certificate for it, and keeps that it asked.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The authorities are only hints (RFC 8446 §4.2.4): the user has said whom the certificate is for.
        let fits = self.0.as_ref().filter(|certified| certified.key.choose_scheme(schemes).is_some());
        let outcome = if fits.is_some() { ClientAuth::Presented } else { ClientAuth::Withheld };
        // Outside of `connect` there is nobody to keep it for.
        let _ = CLIENT_AUTH.try_with(|kept| kept.set(outcome));
        fits.map(Arc::clone)
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
