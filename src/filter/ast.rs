//! What a filter says, as a tree; and its canonical text, which reads back as the same tree.

use std::fmt;

use super::{Pattern, atoms, units};

/// A filter as a tree. [`Expr::all`] and [`Expr::any`] make its inner nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// All of them. Two at least; none is itself an `All`.
    All(Vec<Expr>),
    /// At least one of them. Two at least; none is itself an `Any`.
    Any(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// A single question about a flow.
    Test(Test),
}

/// A single question about a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Every flow: `~all`.
    Everything,
    /// No flow: of a kind that is never recorded.
    Nothing(NoSuch),
    /// A property that a flow has or has not.
    Flag(Flag),
    /// Whether one of the texts of this kind that the flow has matches.
    Text(Text, Pattern),
    /// Whether the number is in one of the ranges. A flow without it does not match.
    Number(Number, Ranges),
}

/// Kinds of flows that mitmproxy knows and that are not recorded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSuch {
    /// Datagrams.
    Udp,
    /// Name look-ups.
    Dns,
    /// Responses that the proxy gave out of its record.
    ReplayedResponse,
}

/// Properties that a flow has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// It is HTTP: [`crate::flow::Kind::Http`], or a `CONNECT` that led to nothing.
    Http,
    /// Bytes that were relayed unread: [`crate::flow::Kind::Tunnel`].
    Tunnel,
    /// It is a WebSocket.
    WebSocket,
    /// It is HTTP and has no response.
    Pending,
    /// It is HTTP and has a response, also one of our own.
    Answered,
    /// Something went wrong.
    Error,
    /// It has a marker that is not empty.
    Marked,
    /// It is a replay of another.
    Replay,
    /// Its response is a style sheet, a script, an image or a font, by its `Content-Type`.
    Asset,
    /// A cap kept some of a body out of the record.
    Truncated,
    /// A TLS handshake failed.
    TlsFailed,
    /// It has not ended, or had not when it was last written.
    Open,
}

/// Texts of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Scheme, host, port where it is not the scheme's own, path and query; of a `CONNECT` host and port.
    Url,
    /// Host of the target.
    Host,
    /// Path and query.
    Path,
    /// Method.
    Method,
    /// `http`, `https` or `tcp`.
    Scheme,
    /// The first `Content-Type`.
    Type(Part),
    /// The fields of a head, as `Name: value` lines.
    Header(Part),
    /// A body with its content-codings undone, the payload of a tunnel or of a WebSocket's message.
    Body(Part),
    /// The client's address, `host:port`.
    Client,
    /// The name and the address that the connection to the origin was made to, each as `host:port`.
    Server,
    /// The marker; empty where there is none.
    Marker,
    /// The comment; empty where there is none.
    Comment,
    /// The tags, each for itself.
    Tag,
}

/// Which of the two messages of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of them, or both together.
    Either,
    /// The request; what came from the client.
    Request,
    /// The response; what came from the origin.
    Response,
}

/// Numbers of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Status of the final response.
    Status,
    /// Payload bytes that passed, those of a tunnel and of a WebSocket's messages among them.
    Size(Part),
    /// Microseconds from its first byte to its end. None while it is open.
    Duration,
    /// When it began: nanoseconds since 1970, UTC.
    Started,
    /// Its mid.
    Mid,
    /// Port of the target.
    Port,
}

/// Ranges of numbers, both ends within. Never empty, each `(low, high)` with `low <= high`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(pub(super) Vec<(i64, i64)>);

impl Ranges {
    /// One range; `None` if it holds no number.
    #[must_use]
    pub fn one(low: i64, high: i64) -> Option<Self> {
        (low <= high).then(|| Self(vec![(low, high)]))
    }

    /// Whether `number` is in one of them.
    #[must_use]
    pub fn contains(&self, number: i64) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&number))
    }

    /// The ranges as `(low, high)`.
    #[must_use]
    pub fn as_slice(&self) -> &[(i64, i64)] {
        &self.0
    }
}

impl Expr {
    /// All of `parts`: what stands in an `All` among them joins them. Everything, if there is none.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Expr>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Expr::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Expr::Test(Test::Everything),
            1 => flat.remove(0),
            _ => Expr::All(flat),
        }
    }

    /// At least one of `parts`: what stands in an `Any` among them joins them. `!~all`, if there is none.
    #[must_use]
    pub fn any(parts: impl IntoIterator<Item = Expr>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Expr::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Expr::negated(Expr::Test(Test::Everything)),
            1 => flat.remove(0),
            _ => Expr::Any(flat),
        }
    }

    /// Not `inner`.
    #[must_use]
    pub fn negated(inner: Expr) -> Self {
        Expr::Not(Box::new(inner))
    }

    /// Calls `see` with every test.
    pub fn each_test<'a>(&'a self, see: &mut dyn FnMut(&'a Test)) {
        match self {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| part.each_test(see)),
            Expr::Not(inner) => inner.each_test(see),
            Expr::Test(test) => see(test),
        }
    }
}

/// The canonical text: it reads back as the same tree.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str| {
            for (i, part) in parts.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { between })?;
                match part {
                    Expr::All(_) | Expr::Any(_) => write!(f, "({part})")?,
                    Expr::Not(_) | Expr::Test(_) => part.fmt(f)?,
                }
            }
            Ok(())
        };
        match self {
            Expr::All(parts) => joined(f, parts, " & "),
            Expr::Any(parts) => joined(f, parts, " | "),
            Expr::Not(inner) if matches!(**inner, Expr::All(_) | Expr::Any(_)) => write!(f, "!({inner})"),
            Expr::Not(inner) => write!(f, "!{inner}"),
            Expr::Test(test) => test.fmt(f),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The parser makes one range of times, open at one end.
            Test::Number(Number::Started, ranges) => match ranges.0[..] {
                [(low, i64::MAX), ..] => write!(f, "after:{}", units::timestamp(low)),
                [(_, high), ..] => write!(f, "before:{}", units::timestamp(high.saturating_add(1))),
                [] => Ok(()),
            },
            Test::Number(number, ranges) => {
                write!(f, "{}:", atoms::field_of(self))?;
                for (i, &(low, high)) in ranges.0.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    let unit = if *number == Number::Duration { "us" } else { "" };
                    match high {
                        _ if low == high => write!(f, "{low}{unit}")?,
                        i64::MAX => write!(f, "{low}{unit}..")?,
                        _ => write!(f, "{low}{unit}..{high}{unit}")?,
                    }
                }
                Ok(())
            }
            Test::Text(_, pattern) => pattern.write(f, atoms::tilde_of(self), atoms::field_of(self)),
            _ => match atoms::tilde_of(self) {
                "" => write!(f, "is:{}", atoms::is_of(self)),
                tilde => write!(f, "~{tilde}"),
            },
        }
    }
}
