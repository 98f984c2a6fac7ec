//! Variables that lead clients to the proxy, past it, or to roots that lack ours.

use std::net::IpAddr;
use std::path::Path;

use super::Finding;
use crate::cli::run::environment::{ADDS_ROOTS, REPLACES_ROOTS};
use crate::proxy::Listen;
use crate::tls::{self, CaCert};

/// What is found by `variable`, which gives those that are set and not empty.
pub(super) fn findings(
    variable: impl Fn(&str) -> Option<String>,
    listen: &[Listen],
    cert: Option<&CaCert>,
) -> Vec<Finding> {
    let mut findings = proxies(&variable, listen);
    // Mostly all of them name one file.
    let mut files: Vec<(String, Vec<&str>)> = Vec::new();
    for name in REPLACES_ROOTS.iter().chain(ADDS_ROOTS) {
        let Some(file) = variable(name) else { continue };
        match files.iter_mut().find(|(known, _)| *known == file) {
            Some((_, names)) => names.push(*name),
            None => files.push((file, vec![*name])),
        }
    }
    findings.extend(files.iter().filter_map(|(file, names)| roots(names, Path::new(file), cert)));
    if let Some(path) = variable("SSLKEYLOGFILE") {
        let message =
            format!("SSLKEYLOGFILE is set: whoever reads {path} can read what is recorded by others");
        findings.push(Finding::warning("env", message, "unset SSLKEYLOGFILE"));
    }
    findings
}

fn proxies(variable: &impl Fn(&str) -> Option<String>, listen: &[Listen]) -> Vec<Finding> {
    let set: Vec<(&str, Place)> =
        PROXIES.iter().filter_map(|name| Some((*name, Place::of(&variable(name)?)))).collect();
    if set.is_empty() {
        let message =
            "no proxy variables: `manent run` sets them for a command, other clients have to be told";
        return vec![Finding::good("env", message)];
    }
    let ours = listen.first().map_or("127.0.0.1:8080".to_owned(), |listen| listen.addr.to_string());
    let mend =
        |name: &str| format!("export {name}=http://{ours}     or, for one command: manent run -- COMMAND");
    let mut findings = Vec::new();
    for (name, place) in &set {
        if !listen.iter().any(|listen| place.is(listen)) {
            findings.push(Finding::warning(
                "env",
                format!("{name} leads to {place}, not to manent"),
                mend(name),
            ));
        }
    }
    let has = |names: &[&str]| set.iter().any(|(name, _)| names.contains(name));
    if findings.is_empty() {
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        findings.push(Finding::good("env", format!("{} lead to manent", names.join(", "))));
        let (all, https) = (["all_proxy", "ALL_PROXY"], ["https_proxy", "HTTPS_PROXY"]);
        if !has(&all) && !has(&https) {
            let message = "https_proxy is not set: HTTPS goes past manent";
            findings.push(Finding::warning("env", message, mend("https_proxy")));
        }
        if !has(&all) && !has(&["http_proxy"]) {
            let message =
                "http_proxy is not set in small letters: curl and others read no other for http:// URLs";
            findings.push(Finding::warning("env", message, mend("http_proxy")));
        }
    }
    for name in ["no_proxy", "NO_PROXY"] {
        if let Some(list) = variable(name) {
            let whom = if list.trim() == "*" { "all hosts".to_owned() } else { list };
            let message = format!("{name} leads clients past manent to {whom}");
            findings.push(Finding::warning("env", message, format!("unset {name}")));
        }
    }
    findings
}

/// Whether the file that these variables name for roots has ours in it.
fn roots(names: &[&str], path: &Path, cert: Option<&CaCert>) -> Option<Finding> {
    let (listed, shown) = (names.join(", "), path.display());
    let certs = match tls::certificates(path) {
        Ok(certs) => certs,
        Err(error) => {
            let message = format!("{listed}: {}", crate::cli::errors::causes(&error));
            return Some(Finding::warning("env", message, format!("unset {}", names.join(" "))));
        }
    };
    let cert = cert?;
    if certs.iter().any(|der| der == cert.der()) {
        return Some(Finding::good("env", format!("{listed}: {shown} has our certificate")));
    }
    let message = format!("{listed}: {shown} lacks our certificate, so what reads it refuses manent");
    Some(Finding::warning("env", message, "manent run -- COMMAND   sets them for one command"))
}

/// Where a proxy is, by the URL of a variable: without user and password, which nobody should see.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    port: Option<u16>,
}

impl Place {
    /// URLs of variables are read generously, as clients do: the scheme may be missing.
    fn of(url: &str) -> Self {
        let url = url.trim();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let bare = authority.rsplit_once('@').map_or(authority, |(_, bare)| bare);
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (bare, None),
        };
        Self { host: host.trim_matches(['[', ']']).to_ascii_lowercase(), port }
    }

    /// Whether a listener of ours is there, by its port and an address that leads to it from this machine.
    fn is(&self, listen: &Listen) -> bool {
        let own = listen.addr.ip().to_canonical();
        let named = match self.host.parse::<IpAddr>() {
            Ok(ip) => {
                ip.to_canonical() == own || own.is_unspecified() || (ip.is_loopback() && own.is_loopback())
            }
            Err(_) => self.host == "localhost" && (own.is_loopback() || own.is_unspecified()),
        };
        named && self.port == Some(listen.addr.port())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

const PROXIES: &[&str] =
    &["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn found(variables: &[(&str, &str)]) -> Vec<(Level, String)> {
        let listen = [Listen::from("127.0.0.1:8080".parse::<std::net::SocketAddr>().expect("an address"))];
        let variable = |name: &str| {
            variables.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        findings(variable, &listen, None).into_iter().map(|found| (found.level, found.message)).collect()
    }

    #[test]
    fn variables_that_lead_here_are_good() {
        for url in [
            "http://127.0.0.1:8080",
            "127.0.0.1:8080",
            "http://u:p@LOCALHOST:8080/",
            "https://localhost:8080",
        ] {
            let found = found(&[("http_proxy", url), ("https_proxy", url)]);
            assert_eq!(found, [(Level::Good, "http_proxy, https_proxy lead to manent".to_owned())], "{url}");
        }
        assert_eq!(found(&[])[0].0, Level::Good);
    }

    #[test]
    fn variables_that_lead_elsewhere_are_told_without_their_password() {
        let found =
            found(&[("HTTPS_PROXY", "http://me:secret@proxy.test:3128/"), ("NO_PROXY", "localhost,.corp")]);
        assert_eq!(
            found,
            [
                (Level::Warning, "HTTPS_PROXY leads to proxy.test:3128, not to manent".to_owned()),
                (Level::Warning, "NO_PROXY leads clients past manent to localhost,.corp".to_owned()),
            ]
        );
    }

    #[test]
    fn half_of_a_setup_is_told() {
        let here = "http://127.0.0.1:8080";
        let messages = |variables: &[(&str, &str)]| {
            found(variables).into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n")
        };
        assert!(messages(&[("http_proxy", here)]).contains("https_proxy is not set"));
        let capitals = messages(&[("HTTP_PROXY", here), ("HTTPS_PROXY", here), ("no_proxy", "*")]);
        assert!(
            capitals.contains("small letters") && capitals.contains("past manent to all hosts"),
            "{capitals}"
        );
        assert!(messages(&[("SSLKEYLOGFILE", "/x")]).contains("SSLKEYLOGFILE is set"));
        assert!(messages(&[("SSL_CERT_FILE", "/no/such/file")]).contains("cannot read /no/such/file"));
    }

    #[test]
    fn places_are_read_as_clients_read_them() {
        let place = |url: &str| Place::of(url).to_string();
        for (url, shown) in [
            ("http://[::1]:1/", "::1:1"),
            ("[::1]", "::1"),
            ("socks5://a@b@c.test:9", "c.test:9"),
            ("", ""),
            ("http://x:port", "x"),
        ] {
            assert_eq!(place(url), shown);
        }
    }
}
