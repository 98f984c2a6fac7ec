//! curl's options, as its manual has them: those that make the request, and those that do not matter for it.

/// What an option means to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Method,
    Header,
    /// `--data`, `--data-ascii`: what comes from standard input loses its line ends.
    Data,
    DataBinary,
    DataRaw,
    DataUrlencode,
    Form,
    FormString,
    Json,
    User,
    Bearer,
    Cookie,
    UserAgent,
    Referer,
    Range,
    Get,
    Head,
    Compressed,
    RequestTarget,
    Url,
    Http10,
    Http11,
    Http2,
    Http3,
    /// It changes nothing in the request, and has no value.
    Flag,
    /// The same with a value.
    Setting,
    /// It needs more than one request, or files: a reason for refusing it.
    Refused(&'static str),
}

impl Meaning {
    /// Whether a value follows.
    pub(super) fn has_value(self) -> bool {
        !matches!(
            self,
            Meaning::Get
                | Meaning::Head
                | Meaning::Compressed
                | Meaning::Http10
                | Meaning::Http11
                | Meaning::Http2
                | Meaning::Http3
                | Meaning::Flag
                | Meaning::Refused(_)
        )
    }
}

/// What `--name` means.
pub(super) fn long(name: &str) -> Option<Meaning> {
    let found = LONG.iter().find(|(have, _)| *have == name).map(|(_, meaning)| *meaning);
    found.or_else(|| {
        if SETTINGS.contains(&name) {
            return Some(Meaning::Setting);
        }
        FLAGS.contains(&name.strip_prefix("no-").unwrap_or(name)).then_some(Meaning::Flag)
    })
}

/// What `-x` means.
pub(super) fn short(letter: u8) -> Option<Meaning> {
    Some(match letter {
        b'X' => Meaning::Method,
        b'H' => Meaning::Header,
        b'd' => Meaning::Data,
        b'F' => Meaning::Form,
        b'u' => Meaning::User,
        b'b' => Meaning::Cookie,
        b'A' => Meaning::UserAgent,
        b'e' => Meaning::Referer,
        b'r' => Meaning::Range,
        b'G' => Meaning::Get,
        b'I' => Meaning::Head,
        b'0' => Meaning::Http10,
        b'T' => Meaning::Refused(UPLOAD),
        b'K' => Meaning::Refused(CONFIG),
        b':' => Meaning::Refused(NEXT),
        b'k' | b'L' | b's' | b'S' | b'i' | b'v' | b'g' | b'f' | b'N' | b'O' | b'J' | b'j' | b'l' | b'n'
        | b'p' | b'q' | b'R' | b'a' | b'B' | b'Z' | b'#' | b'4' | b'6' | b'1' | b'2' | b'3' | b'M' | b'V' => {
            Meaning::Flag
        }
        b'o' | b'x' | b'm' | b'c' | b'D' | b'E' | b'C' | b'U' | b'w' | b'y' | b'Y' | b'z' | b't' | b'P'
        | b'Q' => Meaning::Setting,
        _ => return None,
    })
}

const LONG: &[(&str, Meaning)] = &[
    ("request", Meaning::Method),
    ("header", Meaning::Header),
    ("data", Meaning::Data),
    ("data-ascii", Meaning::Data),
    ("data-binary", Meaning::DataBinary),
    ("data-raw", Meaning::DataRaw),
    ("data-urlencode", Meaning::DataUrlencode),
    ("form", Meaning::Form),
    ("form-string", Meaning::FormString),
    ("json", Meaning::Json),
    ("user", Meaning::User),
    ("oauth2-bearer", Meaning::Bearer),
    ("cookie", Meaning::Cookie),
    ("user-agent", Meaning::UserAgent),
    ("referer", Meaning::Referer),
    ("range", Meaning::Range),
    ("get", Meaning::Get),
    ("head", Meaning::Head),
    ("compressed", Meaning::Compressed),
    ("request-target", Meaning::RequestTarget),
    ("url", Meaning::Url),
    ("http1.0", Meaning::Http10),
    ("http1.1", Meaning::Http11),
    ("http2", Meaning::Http2),
    ("http2-prior-knowledge", Meaning::Http2),
    ("http3", Meaning::Http3),
    ("http3-only", Meaning::Http3),
    ("upload-file", Meaning::Refused(UPLOAD)),
    ("config", Meaning::Refused(CONFIG)),
    ("next", Meaning::Refused(NEXT)),
    ("url-query", Meaning::Refused("write the query into the URL")),
    ("aws-sigv4", Meaning::Refused("it signs the request with a key: give the fields that it makes")),
    ("variable", Meaning::Refused("write the value where it belongs")),
];

/// Switches that say how to send, what to show, where to keep it.
const FLAGS: &[&str] = &[
    "anyauth",
    "append",
    "basic",
    "buffer",
    "cert-status",
    "clobber",
    "compressed-ssh",
    "create-dirs",
    "digest",
    "disable",
    "fail",
    "fail-early",
    "fail-with-body",
    "globoff",
    "haproxy-protocol",
    "http0.9",
    "include",
    "insecure",
    "ipv4",
    "ipv6",
    "junk-session-cookies",
    "keepalive",
    "list-only",
    "location",
    "location-trusted",
    "manual",
    "negotiate",
    "netrc",
    "netrc-optional",
    "ntlm",
    "parallel",
    "path-as-is",
    "post301",
    "post302",
    "post303",
    "progress-bar",
    "progress-meter",
    "proxy-insecure",
    "proxytunnel",
    "raw",
    "remote-header-name",
    "remote-name",
    "remote-name-all",
    "remote-time",
    "remove-on-error",
    "retry-all-errors",
    "retry-connrefused",
    "sessionid",
    "show-error",
    "show-headers",
    "silent",
    "ssl",
    "ssl-allow-beast",
    "ssl-no-revoke",
    "ssl-reqd",
    "ssl-revoke-best-effort",
    "sslv2",
    "sslv3",
    "styled-output",
    "tcp-fastopen",
    "tcp-nodelay",
    "tlsv1",
    "tlsv1.0",
    "tlsv1.1",
    "tlsv1.2",
    "tlsv1.3",
    "tr-encoding",
    "trace-ids",
    "trace-time",
    "verbose",
    "version",
    "alpn",
    "npn",
    "ca-native",
    "doh-insecure",
    "ignore-content-length",
];

/// The same with a value.
const SETTINGS: &[&str] = &[
    "abstract-unix-socket",
    "alt-svc",
    "cacert",
    "capath",
    "cert",
    "cert-type",
    "ciphers",
    "connect-timeout",
    "connect-to",
    "continue-at",
    "cookie-jar",
    "crlfile",
    "curves",
    "dns-interface",
    "dns-ipv4-addr",
    "dns-ipv6-addr",
    "dns-servers",
    "doh-url",
    "dump-header",
    "ech",
    "engine",
    "etag-compare",
    "etag-save",
    "expect100-timeout",
    "happy-eyeballs-timeout-ms",
    "hsts",
    "interface",
    "keepalive-time",
    "key",
    "key-type",
    "limit-rate",
    "local-port",
    "max-filesize",
    "max-redirs",
    "max-time",
    "netrc-file",
    "noproxy",
    "output",
    "output-dir",
    "parallel-max",
    "pass",
    "pinnedpubkey",
    "postquote",
    "preproxy",
    "proto",
    "proto-default",
    "proto-redir",
    "proxy",
    "proxy-cacert",
    "proxy-header",
    "proxy-user",
    "proxy1.0",
    "quote",
    "random-file",
    "rate",
    "resolve",
    "retry",
    "retry-delay",
    "retry-max-time",
    "socks4",
    "socks4a",
    "socks5",
    "socks5-hostname",
    "speed-limit",
    "speed-time",
    "stderr",
    "time-cond",
    "tls-max",
    "tls13-ciphers",
    "trace",
    "trace-ascii",
    "unix-socket",
    "write-out",
    "ip-tos",
    "vlan-priority",
    "trace-config",
];

const UPLOAD: &str = "it sends a file, which an import does not read: give the content with --data-binary";
const CONFIG: &str = "it reads options from a file, which an import does not do";
const NEXT: &str = "write each request as a command of its own";
