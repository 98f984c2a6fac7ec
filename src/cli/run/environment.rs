//! The variables that lead programs through the proxy, and let them trust it.
//!
//! All of them are set, over what is there: one variable that was preset and is left as it was is enough to keep a
//! program away from the proxy or to make it refuse our certificates.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::files::Files;
use super::truststore;

/// Whether Node.js is given a file to load first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preload {
    /// Through `NODE_OPTIONS`.
    Node,
    /// Nothing is loaded.
    Nothing,
}

/// A variable and its value; `None` takes it away.
pub(super) type Variable = (&'static str, Option<OsString>);

/// The variables for a proxy at `addr`, which asks for `credentials`: `user:pass@` or nothing. `present` gives those of our own environment.
pub(super) fn variables(
    addr: SocketAddr,
    credentials: &str,
    files: &Files,
    preload: Preload,
    present: impl Fn(&str) -> Option<OsString>,
) -> Vec<Variable> {
    let addr = reachable(addr);
    let url = OsString::from(format!("http://{credentials}{addr}"));
    let mut variables: Vec<Variable> = Vec::new();
    variables.extend(PROXY.iter().map(|name| (*name, Some(url.clone()))));
    variables.extend(NO_PROXY.iter().map(|name| (*name, None)));
    variables.extend(REPLACES_ROOTS.iter().map(|name| (*name, Some(files.bundle.clone().into()))));
    variables.extend(ADDS_ROOTS.iter().map(|name| (*name, Some(files.ca.clone().into()))));
    variables.push(("WGETRC", Some(files.wgetrc.clone().into())));
    variables.push(("NODE_USE_ENV_PROXY", Some("1".into())));
    if preload == Preload::Node {
        let option = joined("--require=", &node_quoted(files.preload.as_os_str()));
        variables.push(("NODE_OPTIONS", Some(appended(present("NODE_OPTIONS"), &option))));
    }
    let java = java_options(addr, files);
    variables.push(("JAVA_TOOL_OPTIONS", Some(appended(present("JAVA_TOOL_OPTIONS"), &java))));
    variables
}

/// Where a program on this machine finds a listener at `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Java has no variable for a proxy, but takes options from one. It tells so on standard error at each start.
/// An empty `nonProxyHosts` undoes the built-in exception for this machine's own names.
fn java_options(addr: SocketAddr, files: &Files) -> OsString {
    let (host, port) = (addr.ip(), addr.port());
    let options = format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts= -Djavax.net.ssl.trustStoreType=jks -Djavax.net.ssl.trustStorePassword={} \
         -Djavax.net.ssl.trustStore=",
        truststore::PASSWORD
    );
    joined(&options, &quoted_if_blank(files.truststore.as_os_str()))
}

fn appended(present: Option<OsString>, more: &OsStr) -> OsString {
    match present.filter(|present| !present.is_empty()) {
        Some(mut present) => {
            present.push(" ");
            present.push(more);
            present
        }
        None => more.to_owned(),
    }
}

fn joined(prefix: &str, path: &OsStr) -> OsString {
    let mut out = OsString::from(prefix);
    out.push(path);
    out
}

/// In double quotes if it has blanks in it: the JVM cuts at them otherwise, and knows no escapes.
fn quoted_if_blank(path: &OsStr) -> OsString {
    if !path.as_encoded_bytes().iter().any(u8::is_ascii_whitespace) {
        return path.to_owned();
    }
    let mut out = OsString::from("\"");
    out.push(path);
    out.push("\"");
    out
}

/// In double quotes with backslashes before what is special in them, as Node.js reads `NODE_OPTIONS`.
fn node_quoted(path: &OsStr) -> OsString {
    match path.to_str() {
        Some(path) => format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"")).into(),
        None => quoted_if_blank(path),
    }
}

/// Proxies by scheme, in both spellings: curl reads only the small `http_proxy`, others only the capitals.
const PROXY: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "WS_PROXY",
    "ws_proxy",
    "WSS_PROXY",
    "wss_proxy",
    "grpc_proxy",
    "CGI_HTTP_PROXY",
    "GLOBAL_AGENT_HTTP_PROXY",
    "GLOBAL_AGENT_HTTPS_PROXY",
    "npm_config_proxy",
    "npm_config_https_proxy",
];

/// Exceptions would hide traffic.
const NO_PROXY: &[&str] = &[
    "NO_PROXY",
    "no_proxy",
    "no_grpc_proxy",
    "GLOBAL_AGENT_NO_PROXY",
    "npm_config_noproxy",
    "npm_config_no_proxy",
];

/// Programs that trust only what the file holds: OpenSSL and what is built on it, curl, Python, git, npm, cargo, ….
pub(in crate::cli) const REPLACES_ROOTS: &[&str] = &[
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PERL_LWP_SSL_CA_FILE",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH",
    "HTTPLIB2_CA_CERTS",
];

/// Programs that trust what the file holds besides their own roots.
pub(in crate::cli) const ADDS_ROOTS: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn made(addr: &str, preload: Preload, present: &[(&str, &str)]) -> HashMap<&'static str, Option<String>> {
        let files = Files::make("PEM", b"DER", None).expect("a writable temporary directory");
        let present: HashMap<_, _> = present.iter().copied().collect();
        variables(addr.parse().expect("an address"), "", &files, preload, |name| {
            present.get(name).map(OsString::from)
        })
        .into_iter()
        .map(|(name, value)| (name, value.map(|value| value.to_string_lossy().into_owned())))
        .collect()
    }

    #[test]
    fn every_variable_is_set_once_and_exceptions_go() {
        let files = Files::make("PEM", b"DER", None).expect("a writable temporary directory");
        let addr = "127.0.0.1:4000".parse().expect("an address");
        let list = variables(addr, "", &files, Preload::Node, |_| None);
        let names: std::collections::HashSet<_> = list.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), list.len());
        let variables = made("127.0.0.1:4000", Preload::Node, &[]);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            assert_eq!(variables[name].as_deref(), Some("http://127.0.0.1:4000"));
        }
        assert_eq!((&variables["NO_PROXY"], &variables["no_proxy"]), (&None, &None));
        assert!(variables["SSL_CERT_FILE"].as_ref().is_some_and(|path| path.ends_with("/bundle.pem")));
        assert!(
            variables["NODE_EXTRA_CA_CERTS"].as_ref().is_some_and(|path| path.ends_with("/manent-ca.pem"))
        );
    }

    #[test]
    fn options_that_are_there_stay() {
        let present = [("NODE_OPTIONS", "--max-old-space-size=99"), ("JAVA_TOOL_OPTIONS", "-Dx=y")];
        let variables = made("0.0.0.0:4000", Preload::Node, &present);
        let node = variables["NODE_OPTIONS"].as_deref().expect("set");
        assert!(
            node.starts_with("--max-old-space-size=99 --require=\"/") && node.ends_with("/preload.cjs\"")
        );
        let java = variables["JAVA_TOOL_OPTIONS"].as_deref().expect("set");
        assert!(java.starts_with("-Dx=y -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4000 "), "{java}");
        assert!(!made("[::1]:1", Preload::Nothing, &[]).contains_key("NODE_OPTIONS"));
    }

    #[test]
    fn paths_with_blanks_are_quoted() {
        assert_eq!(quoted_if_blank(OsStr::new("/a b")), "\"/a b\"");
        assert_eq!(node_quoted(OsStr::new("/a \"b\\")), "\"/a \\\"b\\\\\"");
    }
}
