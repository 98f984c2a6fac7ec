//! The variables that lead programs through the proxy, and let them trust it.
//!
//! All of them are set, over what is there: one variable that was preset and is left as it was is enough to keep a
//! program away from the proxy or to make it refuse our certificates.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::files::{Files, Preload};
use crate::tls::JKS_PASSWORD;

/// A variable and its value; `None` takes it away.
pub(in crate::cli) type Variable = (Cow<'static, str>, Option<OsString>);

/// Where the variables lead to.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Destination<'a> {
    /// The proxy's listener.
    pub(in crate::cli) addr: SocketAddr,
    /// What it asks for, as it is: `user:pass`.
    pub(in crate::cli) credentials: Option<&'a str>,
}

/// The variables for a proxy. `present` gives those of the environment that they will be set in.
pub(in crate::cli) fn variables(
    to: Destination<'_>,
    files: &Files,
    preload: Preload,
    present: impl Fn(&str) -> Option<OsString>,
) -> Vec<Variable> {
    let to = Destination { addr: to.reachable(), ..to };
    let url = OsString::from(to.url());
    let mut list: Vec<Variable> = Vec::new();
    let mut set = |name: &'static str, value: OsString| list.push((Cow::Borrowed(name), Some(value)));
    PROXY.iter().for_each(|name| set(name, url.clone()));
    REPLACES_ROOTS.iter().for_each(|name| set(name, files.bundle.clone().into()));
    ADDS_ROOTS.iter().for_each(|name| set(name, files.ca.clone().into()));
    set("WGETRC", files.wgetrc.clone().into());
    set("NODE_USE_ENV_PROXY", "1".into());
    set("PERL_LWP_ENV_PROXY", "1".into());
    // Empty, it would be what the user's .npmrc says.
    set("npm_config_noproxy", "none.invalid".into());
    set("JAVA_TOOL_OPTIONS", appended(present("JAVA_TOOL_OPTIONS"), " ", &java_options(to.addr, files)));
    // Nothing before the colon is the directory that PHP was built with.
    let scanned = present("PHP_INI_SCAN_DIR").unwrap_or_default();
    set("PHP_INI_SCAN_DIR", joined(scanned, ":", files.php.as_os_str()));
    if preload == Preload::Runtimes {
        let require = node_require(files.node.as_os_str());
        set("NODE_OPTIONS", appended(present("NODE_OPTIONS"), " ", &require));
        let ours = files.python.clone().into_os_string();
        let python = match present("PYTHONPATH").filter(|present| !present.is_empty()) {
            Some(present) => joined(ours, ":", &present),
            None => ours,
        };
        set("PYTHONPATH", python);
    }
    list.extend(gcloud(to));
    list.extend(git(url, present("GIT_CONFIG_COUNT")));
    list.extend(TAKEN_AWAY.iter().map(|name| (Cow::Borrowed(*name), None)));
    list
}

/// A variable as it was before `manent env` set it, or as it is where that has not been.
pub(in crate::cli) fn present_before(name: &str) -> Option<OsString> {
    match std::env::var_os(SET) {
        Some(_) => std::env::var_os(format!("{SAVED}{name}")),
        None => std::env::var_os(name),
    }
}

impl Destination<'_> {
    /// Where a program on this machine finds the listener.
    pub(in crate::cli) fn reachable(&self) -> SocketAddr {
        let ip = match self.addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.addr.port())
    }

    /// The proxy's URL, with the credentials in it.
    pub(in crate::cli) fn url(&self) -> String {
        let credentials = self.credentials.map(userinfo).unwrap_or_default();
        format!("http://{credentials}{}", self.reachable())
    }
}

/// `user:pass@` as it stands in a URL.
fn userinfo(pair: &str) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
    format!("{}:{}@", escaped(user), escaped(password))
}

/// gcloud's settings go before `HTTPS_PROXY`; it takes either all three of these or none.
fn gcloud(to: Destination<'_>) -> Vec<Variable> {
    let credentials = to.credentials.map(|pair| pair.split_once(':').unwrap_or((pair, "")));
    [
        ("CLOUDSDK_PROXY_TYPE", Some("http".to_owned())),
        ("CLOUDSDK_PROXY_ADDRESS", Some(to.addr.ip().to_string())),
        ("CLOUDSDK_PROXY_PORT", Some(to.addr.port().to_string())),
        ("CLOUDSDK_PROXY_USERNAME", credentials.map(|(user, _)| user.to_owned())),
        ("CLOUDSDK_PROXY_PASSWORD", credentials.map(|(_, password)| password.to_owned())),
    ]
    .map(|(name, value)| (name.into(), value.map(OsString::from)))
    .into()
}

/// A `http.proxy` in the user's settings of git goes before the variables, but not before one that is set so (git-config(1),
/// `GIT_CONFIG_COUNT`). One for certain URLs alone goes before all.
fn git(url: OsString, count: Option<OsString>) -> [Variable; 3] {
    let count = count.and_then(|count| count.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    [
        ("GIT_CONFIG_COUNT".into(), Some(count.saturating_add(1).to_string().into())),
        (format!("GIT_CONFIG_KEY_{count}").into(), Some("http.proxy".into())),
        (format!("GIT_CONFIG_VALUE_{count}").into(), Some(url)),
    ]
}

/// Java has no variable for a proxy, but takes options from one. It tells so on standard error at each start.
/// An empty `nonProxyHosts` undoes the built-in exception for this machine's own names.
fn java_options(addr: SocketAddr, files: &Files) -> OsString {
    let (host, port) = (addr.ip(), addr.port());
    let options = format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts= -Djavax.net.ssl.trustStoreType=jks -Djavax.net.ssl.trustStorePassword={JKS_PASSWORD} \
         -Djavax.net.ssl.trustStore="
    );
    joined(options.into(), "", &quoted_if_blank(files.truststore.as_os_str()))
}

fn appended(present: Option<OsString>, between: &str, more: &OsStr) -> OsString {
    match present.filter(|present| !present.is_empty()) {
        Some(present) => joined(present, between, more),
        None => more.to_owned(),
    }
}

fn joined(mut start: OsString, between: &str, end: &OsStr) -> OsString {
    start.push(between);
    start.push(end);
    start
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

/// The file in double quotes with backslashes before what is special in them, as Node.js reads `NODE_OPTIONS`.
fn node_require(path: &OsStr) -> OsString {
    let quoted = match path.to_str() {
        Some(path) => format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"")).into(),
        None => quoted_if_blank(path),
    };
    joined("--require=".into(), "", &quoted)
}

/// Set where `manent env` has set the others.
pub(in crate::cli) const SET: &str = "_MANENT_ENV";
/// Before the name of a variable: what it was before `manent env` set it.
pub(in crate::cli) const SAVED: &str = "_MANENT_SAVED_";

/// Proxies by scheme, in both spellings: curl reads only the small `http_proxy`, others only the capitals. Those of single
/// programs go before what their own files of settings say.
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
    "CARGO_HTTP_PROXY",
    "PIP_PROXY",
];

/// Exceptions would hide traffic, and npm takes its variables in capitals as well.
const TAKEN_AWAY: &[&str] = &[
    "NO_PROXY",
    "no_proxy",
    "no_grpc_proxy",
    "GLOBAL_AGENT_NO_PROXY",
    "npm_config_no_proxy",
    "NPM_CONFIG_NOPROXY",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_CAFILE",
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
    use crate::cli::run::files::tests::authority;

    const TO: &str = "127.0.0.1:4000";

    fn list(
        to: Destination<'_>,
        preload: Preload,
        present: &[(&str, &str)],
    ) -> Vec<(String, Option<String>)> {
        let dir = tempfile::tempdir().expect("a writable temporary directory");
        let files = Files::write(dir.path(), &authority(), preload).expect("writable");
        let present: HashMap<_, _> = present.iter().copied().collect();
        variables(to, &files, preload, |name| present.get(name).map(OsString::from))
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.map(|value| value.to_string_lossy().into_owned())))
            .collect()
    }

    fn made(addr: &str, preload: Preload, present: &[(&str, &str)]) -> HashMap<String, Option<String>> {
        let to = Destination { addr: addr.parse().expect("an address"), credentials: None };
        list(to, preload, present).into_iter().collect()
    }

    #[test]
    fn every_variable_is_set_once_and_exceptions_go() {
        let to = Destination { addr: TO.parse().expect("an address"), credentials: None };
        let list = list(to, Preload::Runtimes, &[]);
        let variables: HashMap<_, _> = list.iter().cloned().collect();
        assert_eq!(variables.len(), list.len());
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            assert_eq!(variables[name].as_deref(), Some("http://127.0.0.1:4000"));
        }
        assert_eq!((&variables["NO_PROXY"], &variables["no_proxy"]), (&None, &None));
        let ends = |name: &str, end: &str| variables[name].as_ref().is_some_and(|value| value.ends_with(end));
        assert!(ends("SSL_CERT_FILE", "/bundle.pem") && ends("NODE_EXTRA_CA_CERTS", "/manent-ca.pem"));
        assert!(ends("PHP_INI_SCAN_DIR", "/php") && ends("PYTHONPATH", "/python"));
        assert_eq!(variables["GIT_CONFIG_COUNT"].as_deref(), Some("1"));
        assert_eq!(variables["CLOUDSDK_PROXY_PORT"].as_deref(), Some("4000"));
        assert_eq!(variables["CLOUDSDK_PROXY_USERNAME"], None);
    }

    #[test]
    fn what_is_there_stays_where_it_can() {
        let present = [
            ("NODE_OPTIONS", "--max-old-space-size=99"),
            ("JAVA_TOOL_OPTIONS", "-Dx=y"),
            ("PYTHONPATH", "/mine"),
            ("PHP_INI_SCAN_DIR", "/etc/php"),
            ("GIT_CONFIG_COUNT", "2"),
        ];
        let variables = made("0.0.0.0:4000", Preload::Runtimes, &present);
        let value = |name: &str| variables[name].as_deref().expect("set");
        let node = value("NODE_OPTIONS");
        assert!(
            node.starts_with("--max-old-space-size=99 --require=\"/") && node.ends_with("/preload.cjs\"")
        );
        let java = value("JAVA_TOOL_OPTIONS");
        assert!(java.starts_with("-Dx=y -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4000 "), "{java}");
        assert!(value("PYTHONPATH").ends_with("/python:/mine"));
        assert!(value("PHP_INI_SCAN_DIR").starts_with("/etc/php:/"));
        assert_eq!((value("GIT_CONFIG_COUNT"), value("GIT_CONFIG_KEY_2")), ("3", "http.proxy"));
        let without = made("[::1]:1", Preload::Nothing, &[]);
        assert!(!without.contains_key("NODE_OPTIONS") && !without.contains_key("PYTHONPATH"));
        assert_eq!(without["GIT_CONFIG_VALUE_0"].as_deref(), Some("http://[::1]:1"));
    }

    #[test]
    fn credentials_stand_in_the_url_and_beside_it() {
        let to = Destination { addr: TO.parse().expect("an address"), credentials: Some("me:p@ss:w") };
        let variables: HashMap<_, _> = list(to, Preload::Nothing, &[]).into_iter().collect();
        assert_eq!(variables["https_proxy"].as_deref(), Some("http://me:p%40ss%3Aw@127.0.0.1:4000"));
        assert_eq!(variables["CLOUDSDK_PROXY_PASSWORD"].as_deref(), Some("p@ss:w"));
    }

    #[test]
    fn paths_with_blanks_are_quoted() {
        assert_eq!(quoted_if_blank(OsStr::new("/a b")), "\"/a b\"");
        assert_eq!(node_require(OsStr::new("/a \"b\\")), "--require=\"/a \\\"b\\\\\"");
    }
}
