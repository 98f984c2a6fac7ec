//! What went wrong in a flow: whose side, at which stage, and in words.

/// Which side of the proxy it happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Between the client and us.
    #[default]
    Client,
    /// Between us and the origin.
    Server,
    /// In the proxy itself.
    Proxy,
}

impl Side {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [Side; 3] = [Side::Client, Side::Server, Side::Proxy];

    /// `client`, `upstream` or `proxy`, as people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "upstream",
            Side::Proxy => "proxy",
        }
    }
}

/// How far things had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Reading or judging a request head.
    #[default]
    RequestHead,
    /// Relaying the request body.
    RequestBody,
    /// Finding out where to send it: `CONNECT`, absolute-form, `Host`.
    Target,
    /// Looking up a name.
    Dns,
    /// Opening the TCP connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for, reading or judging a response head.
    ResponseHead,
    /// Relaying the response body.
    ResponseBody,
    /// Relaying an opaque tunnel or an upgraded connection.
    Tunnel,
    /// The proxy was shut down.
    Shutdown,
}

impl Stage {
    /// Each of them, for whoever reads the word again.
    pub const ALL: [Stage; 10] = [
        Stage::RequestHead,
        Stage::RequestBody,
        Stage::Target,
        Stage::Dns,
        Stage::Connect,
        Stage::Tls,
        Stage::ResponseHead,
        Stage::ResponseBody,
        Stage::Tunnel,
        Stage::Shutdown,
    ];

    /// As people read it: `request head`, `TLS handshake`, ….
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestHead => "request head",
            Stage::RequestBody => "request body",
            Stage::Target => "request target",
            Stage::Dns => "name look-up",
            Stage::Connect => "connect",
            Stage::Tls => "TLS handshake",
            Stage::ResponseHead => "response head",
            Stage::ResponseBody => "response body",
            Stage::Tunnel => "tunnel",
            Stage::Shutdown => "shutdown",
        }
    }
}

/// Why a flow did not come to a good end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowError {
    /// Whose side.
    pub side: Side,
    /// How far it had come.
    pub stage: Stage,
    /// In words: lower case, no full stop. May quote a peer; escape it before a terminal sees it.
    pub message: String,
    /// Microseconds after the flow's start.
    pub at_us: u64,
}
