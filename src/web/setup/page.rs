//! The page itself, as one client is to see it.

use std::net::IpAddr;

use super::template::{Value, fill};
use super::{lan, qr, steps};
use crate::flow::Target;
use crate::proxy::{Visit, Way};
use crate::tls::Ca;

/// How the client that asks reaches the proxy, or would.
#[derive(Debug, Clone)]
pub(super) struct Via {
    /// An IP address without brackets, or `localhost`.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether SOCKS5 is spoken there.
    pub(super) socks: bool,
}

impl Via {
    fn of(visit: &Visit<'_>) -> Self {
        let (host, port) = match (visit.way, &visit.client.local) {
            (Way::Named, Some(local)) => (local.host.clone(), local.port),
            _ => (visit.target.host.clone(), visit.target.port),
        };
        // A listener on `::` takes IPv4 clients by addresses that they do not know.
        let host = host.parse::<IpAddr>().map_or(host, |ip| ip.to_canonical().to_string());
        Self { host, port, socks: visit.client.mode == "socks5" }
    }

    /// `host:port`, with brackets where they belong.
    pub(super) fn authority(&self) -> String {
        Target { host: self.host.clone(), port: self.port, ..Target::default() }.host_port()
    }
}

/// What the page tells.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    ca: &'a Ca,
    pub(super) via: Via,
    /// The page through the proxy.
    named: String,
    /// The page without it, `http://host:port`, if a listener shows it.
    opened: Option<String>,
    /// The same from another machine.
    phone: Option<String>,
    /// What shows that the certificate is trusted; `None` where the authority may sign for no host that is ours, so that
    /// whoever trusts it refuses us there all the same.
    check: Option<String>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(host: &str, ca: &'a Ca, visit: &Visit<'_>) -> Self {
        let via = Via::of(visit);
        let is_page = visit.way == Way::Opened || visit.client.mode == "explicit";
        let outside = lan::address(visit.listeners);
        let listener =
            || outside.or_else(|| visit.listeners.iter().find(|addr| addr.ip().is_loopback()).copied());
        let opened = if is_page { Some(via.authority()) } else { listener().map(|addr| addr.to_string()) };
        let is_reached = is_page && via.host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback());
        let phone = match is_reached {
            true => opened.clone(),
            false => outside.map(|addr| addr.to_string()),
        };
        let secure = match visit.way {
            Way::Named => host.to_owned(),
            Way::Opened => via.authority(),
        };
        let name = if visit.way == Way::Named { host } else { &via.host };
        let check = ca.permits(name).then(|| format!("https://{secure}/trusted.svg"));
        Self {
            ca,
            via,
            named: format!("http://{host}"),
            opened: opened.map(|authority| format!("http://{authority}")),
            phone: phone.map(|authority| format!("http://{authority}/")),
            check,
        }
    }

    /// What the page may load: its style, and what shows that the certificate is trusted.
    pub(super) fn policy(&self) -> String {
        let check = match self.check.as_deref() {
            None => "'none'",
            // The grammar of a policy has no IPv6 addresses.
            Some(check) if check.contains('[') => "https:",
            Some(check) => check,
        };
        format!(
            "default-src 'none'; style-src 'self'; object-src {check}; frame-src {check}; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        )
    }

    pub(super) fn page(&self, visit: &Visit<'_>) -> String {
        let Via { host, port, socks } = &self.via;
        let url = format!("{}://{}", if *socks { "socks5h" } else { "http" }, self.via.authority());
        let mut values: Vec<(&str, Value)> = vec![
            ("host", host.as_str().into()),
            ("port", port.to_string().into()),
            ("kind", if *socks { "SOCKS5 proxy" } else { "HTTP and HTTPS proxy" }.into()),
            ("url", url.into()),
            ("named", self.named.as_str().into()),
            ("page", self.opened.as_ref().unwrap_or(&self.named).as_str().into()),
            ("only", self.ca.constraints_text().into()),
            ("spki", self.ca.spki_sha256_base64().into()),
            ("subject", self.ca.subject().strip_prefix("CN=").unwrap_or(self.ca.subject()).into()),
            ("until", date(self.ca.not_after_unix()).into()),
            ("sum", Value::Html(fingerprint(&self.ca.cert_sha256()))),
            ("version", env!("CARGO_PKG_VERSION").into()),
        ];
        let user_agent = visit.request.headers.get("user-agent").unwrap_or_default();
        let steps = steps::html(&String::from_utf8_lossy(user_agent), &values);
        let uses = fill(if visit.way == Way::Named { NAMED } else { OPENED }, &values);
        let pac = if self.opened.is_some() { fill(PAC, &values) } else { String::new() };
        let asks = if visit.asks { ASKS } else { "" }.to_owned();
        let phone = match (&self.phone, self.phone.as_deref().and_then(qr::svg)) {
            (Some(phone), Some(code)) => {
                fill(SCAN, &[("phone", phone.as_str().into()), ("code", Value::Html(code))])
            }
            _ => fill(ALONE, &values),
        };
        let trusts = match &self.check {
            Some(check) => fill(CHECK, &[("check", check.as_str().into())]),
            None => fill(UNKNOWN, &values),
        };
        let html = [
            ("trusts", trusts),
            ("steps", steps),
            ("uses", uses),
            ("pac", pac),
            ("asks", asks),
            ("phone", phone),
        ];
        values.extend(html.map(|(name, html)| (name, Value::Html(html))));
        fill(include_str!("page.html"), &values)
    }
}

/// What is told where nothing is.
pub(super) fn not_found() -> String {
    include_str!("not_found.html").to_owned()
}

fn date(unix: i64) -> String {
    let at = jiff::Timestamp::from_second(unix).unwrap_or_default();
    at.strftime("%Y-%m-%d").to_string()
}

/// As browsers and systems write it, to be broken between bytes.
fn fingerprint(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":<wbr>")
}

const NAMED: &str = "<span class=\"yes\">Yes.</span> This page came through it.";
const OPENED: &str = "<span class=\"no\">Not for this page.</span> It was opened directly; <a href=\"{{named}}/\">{{named}}/</a> opens only \
     through the proxy.";
const CHECK: &str = "<object type=\"image/svg+xml\" data=\"{{check}}\"><span class=\"no\">Not yet.</span> Follow the steps below, then <a \
     href=\"/\">check again</a>.</object>";
const UNKNOWN: &str = "<strong>Cannot be seen from here.</strong> This certificate is good for {{only}} and nothing else, so not for this \
     page. Open one of these hosts through the proxy: it is trusted if there is no warning.";
const PAC: &str = "<div><dt>Or automatically (PAC)</dt><dd><code>{{page}}/proxy.pac</code></dd></div>";
const ASKS: &str = "<p>This proxy asks for a user and a password: those that it was started with.</p>";
const SCAN: &str = "<div class=\"scan\">{{code}}<p>Scan this with a phone in the same network. It opens this page: <a \
     href=\"{{phone}}\">{{phone}}</a></p></div>";
const ALONE: &str = "<p>Only the machine that manent runs on can reach it now. To let a phone in the same network use it, start manent so that it \
     listens for others, and says who may come in:</p><pre><code>manent -l 0.0.0.0:{{port}} --allow 192.168.0.0/16</code></pre>\
     <p>Then this page shows a code for the phone to scan.</p>";
