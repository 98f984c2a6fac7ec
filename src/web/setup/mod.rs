//! The page that helps a client to use the proxy and to trust it, with all that it links to.
//!
//! It works without JavaScript and loads nothing from elsewhere. There is no secret in it: the certificate is in every
//! handshake of ours, the address is the one that the client came to. So it asks nobody who he is, and a name that was
//! rebound to us (which `proxy` refuses anyway) would learn nothing.
//! What a page on the web can find out, by asking for a picture of ours, is that there is a manent.

mod host;
mod lan;
mod pac;
mod page;
mod qr;
mod steps;
mod template;

pub use host::{BadHost, DEFAULT_HOST, parse_host};

use std::sync::Arc;

use bytes::Bytes;

use self::page::Facts;
use crate::flow::{Body, Headers, Response};
use crate::proxy::{Site, Visit};
use crate::tls::{Ca, JKS_PASSWORD};

/// The setup page of a proxy whose leaves this authority signs.
#[derive(Debug)]
pub struct SetupPage {
    host: String,
    ca: Arc<Ca>,
}

impl SetupPage {
    /// The page, under this name; see [`parse_host`].
    #[must_use]
    pub fn new(host: String, ca: Arc<Ca>) -> Self {
        Self { host, ca }
    }

    /// What is under a path, if there is something.
    fn find(&self, path: &[u8], visit: &Visit<'_>) -> Option<Found> {
        let found = |kind: &'static str, body: String| Some(Found::new(kind, body));
        match path {
            b"/" => {
                let facts = Facts::of(&self.host, &self.ca, visit);
                Some(Found { policy: facts.policy(), ..Found::new(HTML, facts.page(visit)) })
            }
            b"/style.css" => found("text/css; charset=utf-8", STYLE.to_owned()),
            b"/trusted.svg" => {
                // It stands in the page, which is of another origin: that is in clear.
                let policy = "default-src 'none'; style-src 'unsafe-inline'".to_owned();
                Some(Found { policy, embedded: true, ..Found::new("image/svg+xml", TRUSTED.to_owned()) })
            }
            b"/proxy.pac" => {
                let facts = Facts::of(&self.host, &self.ca, visit);
                found("application/x-ns-proxy-autoconfig", pac::file(&facts.via))
            }
            b"/manent-ca.pem" => Some(Found {
                attached: Some("manent-ca.pem"),
                ..Found::new("application/x-pem-file", self.ca.cert_pem())
            }),
            // Not attached: Firefox and Android ask at once whether to trust it.
            b"/manent-ca.crt" => Some(Found::new("application/x-x509-ca-cert", self.ca.cert_der().to_vec())),
            b"/manent-ca.mobileconfig" => {
                found("application/x-apple-aspen-config", self.ca.certificate().ok()?.mobileconfig())
            }
            b"/manent-ca.p12" => Some(Found {
                attached: Some("manent-ca.p12"),
                ..Found::new("application/x-pkcs12", self.ca.certificate().ok()?.p12(JKS_PASSWORD))
            }),
            _ => None,
        }
    }
}

impl Site for SetupPage {
    fn host(&self) -> &str {
        &self.host
    }

    fn answer(&self, visit: &Visit<'_>) -> Response {
        if visit.request.method != b"GET"[..] && visit.request.method != b"HEAD"[..] {
            let found =
                Found::new("text/plain; charset=utf-8", "manent: this page is only read: GET or HEAD\n");
            let mut response = found.response(405, "Method Not Allowed");
            response.headers.push("Allow", "GET, HEAD");
            return response;
        }
        let path = visit.path.split(|&byte| byte == b'?').next().unwrap_or_default();
        match self.find(path, visit) {
            Some(found) => found.response(200, "OK"),
            None => {
                let policy = STYLED.to_owned();
                Found { policy, ..Found::new(HTML, page::not_found()) }.response(404, "Not Found")
            }
        }
    }
}

/// What is answered, but for its status.
struct Found {
    kind: &'static str,
    body: Bytes,
    /// `Content-Security-Policy`.
    policy: String,
    /// Whether pages of another origin may show it.
    embedded: bool,
    /// The name to store it under, where it is to be stored.
    attached: Option<&'static str>,
}

impl Found {
    fn new(kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { kind, body: body.into(), policy: NOTHING.to_owned(), embedded: false, attached: None }
    }

    fn response(self, status: u16, reason: &'static str) -> Response {
        let length = self.body.len().to_string();
        let mut headers: Headers = [
            ("Content-Type", self.kind),
            ("Content-Length", &length),
            ("Content-Security-Policy", &self.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ]
        .into_iter()
        .collect();
        if !self.embedded {
            headers.push("Cross-Origin-Resource-Policy", "same-origin");
            headers.push("X-Frame-Options", "DENY");
        }
        if let Some(name) = self.attached {
            headers.push("Content-Disposition", format!("attachment; filename=\"{name}\""));
        }
        Response {
            status,
            reason: Bytes::from_static(reason.as_bytes()),
            headers,
            body: Body::inline(self.body),
            by_proxy: true,
            ..Response::default()
        }
    }
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("style.css");
/// Seen only by who trusts the certificate of the connection that it comes on.
const TRUSTED: &str = include_str!("trusted.svg");

const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLED: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests;
