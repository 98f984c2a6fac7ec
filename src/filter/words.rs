//! What a filter says, in words.

use super::atoms;
use super::{Expr, Flag, How, NoSuch, Number, Part, Pattern, Ranges, Test, Text, units};

impl Expr {
    /// What it says, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let joined = |parts: &[Expr], between: &str| {
            let parts = parts.iter().map(|part| match part {
                Expr::All(_) | Expr::Any(_) => format!("({})", part.in_words()),
                Expr::Not(_) | Expr::Test(_) => part.in_words(),
            });
            parts.collect::<Vec<_>>().join(between)
        };
        match self {
            Expr::All(parts) => joined(parts, " and "),
            Expr::Any(parts) => joined(parts, " or "),
            Expr::Not(inner) => format!("not ({})", inner.in_words()),
            Expr::Test(test) => test.in_words(),
        }
    }
}

impl Test {
    /// What it asks, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Test::Everything => "any flow".to_owned(),
            Test::Nothing(NoSuch::Udp) => "UDP, which is never recorded".to_owned(),
            Test::Nothing(NoSuch::Dns) => "DNS, which is never recorded".to_owned(),
            Test::Nothing(NoSuch::ReplayedResponse) => {
                "a response out of the record, which is never given".to_owned()
            }
            Test::Flag(flag) => flag_words(*flag).to_owned(),
            Test::Text(text, pattern) => format!("{} {}", text_words(*text), pattern_words(pattern)),
            Test::Number(number, ranges) => {
                format!("{} {}", self.number_name(*number), range_words(*number, ranges))
            }
        }
    }

    fn number_name(&self, number: Number) -> &'static str {
        match number {
            Number::Started => "began",
            Number::Duration => "time",
            _ => atoms::field_of(self),
        }
    }
}

fn flag_words(flag: Flag) -> &'static str {
    match flag {
        Flag::Http => "HTTP",
        Flag::Tunnel => "a tunnel",
        Flag::WebSocket => "a WebSocket",
        Flag::Pending => "HTTP without a response",
        Flag::Answered => "HTTP with a response",
        Flag::Error => "an error",
        Flag::Marked => "marked",
        Flag::Replay => "a replay",
        Flag::Asset => "an asset in the response",
        Flag::Truncated => "a body is truncated in the record",
        Flag::TlsFailed => "a TLS handshake failed",
        Flag::Open => "still open",
    }
}

fn text_words(text: Text) -> String {
    let of = |what: &str, part| match part {
        Part::Either => format!("{what} of request or response"),
        Part::Request => format!("{what} of the request"),
        Part::Response => format!("{what} of the response"),
    };
    match text {
        Text::Url => "URL".to_owned(),
        Text::Host => "host".to_owned(),
        Text::Path => "path".to_owned(),
        Text::Method => "method".to_owned(),
        Text::Scheme => "scheme".to_owned(),
        Text::Type(part) => of("Content-Type", part),
        Text::Header(part) => of("a header line", part),
        Text::Body(part) => of("the body", part),
        Text::Client => "client address".to_owned(),
        Text::Server => "server address".to_owned(),
        Text::Marker => "marker".to_owned(),
        Text::Comment => "comment".to_owned(),
        Text::Tag => "a tag".to_owned(),
    }
}

fn pattern_words(pattern: &Pattern) -> String {
    let how = match pattern.how() {
        How::Regex => return format!("matches /{}/i", pattern.text()),
        How::Contains => "contains",
        How::Glob => "is like",
        How::Equals => "is",
    };
    format!("{how} \"{}\"", pattern.text())
}

fn range_words(number: Number, ranges: &Ranges) -> String {
    let shown = |value: i64| match number {
        Number::Started => units::timestamp(value),
        Number::Duration if value % 1000 == 0 => format!("{}ms", value / 1000),
        Number::Duration => format!("{value}us"),
        _ => value.to_string(),
    };
    let range = |&(low, high): &(i64, i64)| match (number, low, high) {
        (Number::Started, low, i64::MAX) => format!("at {} or later", shown(low)),
        (Number::Started, _, high) => format!("before {}", shown(high.saturating_add(1))),
        (_, low, high) if low == high => format!("is {}", shown(low)),
        (_, low, i64::MAX) => format!("is {} or more", shown(low)),
        (_, 0, high) => format!("is {} or less", shown(high)),
        (_, low, high) => format!("is from {} to {}", shown(low), shown(high)),
    };
    ranges.as_slice().iter().map(range).collect::<Vec<_>>().join(" or ")
}
