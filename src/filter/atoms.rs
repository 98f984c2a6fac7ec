//! The one table of what a filter can ask: spellings, kind of argument, help.
//!
//! Parser and printer look here, and the help is made of it. A new question is a new line.

use std::fmt::Write as _;

use super::{Flag, NoSuch, Number, Part, Test, Text};

/// One question.
#[derive(Debug)]
pub(super) struct Atom {
    /// mitmproxy's spelling, without `~`; empty if it has none.
    pub(super) tilde: &'static str,
    /// Names as a field, the first being canonical.
    pub(super) fields: &'static [&'static str],
    /// Names after `is:`, the first being canonical.
    pub(super) is: &'static [&'static str],
    pub(super) meaning: Meaning,
    pub(super) help: &'static str,
}

/// What an atom asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Everything,
    Nothing(NoSuch),
    Flag(Flag),
    Text(Text),
    Number(Number),
    /// It began at this time or later.
    After,
    /// It began before this time.
    Before,
    /// It cannot be asked here: why.
    Refused(&'static str),
}

/// What stands after an operator or a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arg {
    Nothing,
    Text,
    Number,
    Time,
}

impl Meaning {
    pub(super) fn arg(self) -> Arg {
        match self {
            Meaning::Everything | Meaning::Nothing(_) | Meaning::Flag(_) => Arg::Nothing,
            Meaning::Text(_) | Meaning::Refused(_) => Arg::Text,
            Meaning::Number(_) => Arg::Number,
            Meaning::After | Meaning::Before => Arg::Time,
        }
    }
}

impl Text {
    /// Whether `:` asks for the whole text, and not for a part of it: short names, one of which may be part of another.
    pub(super) fn is_name(self) -> bool {
        matches!(self, Text::Method | Text::Scheme | Text::Marker | Text::Tag)
    }
}

/// The operator that is spelled so after `~`.
pub(super) fn by_tilde(name: &str) -> Option<&'static Atom> {
    ATOMS.iter().find(|atom| atom.tilde == name && !name.is_empty())
}

/// The field of this name, case ignored.
pub(super) fn by_field(name: &str) -> Option<&'static Atom> {
    ATOMS.iter().find(|atom| atom.fields.iter().any(|field| field.eq_ignore_ascii_case(name)))
}

/// What is called so after `is:`, case ignored.
pub(super) fn by_is(name: &str) -> Option<&'static Atom> {
    ATOMS.iter().find(|atom| atom.is.iter().any(|is| is.eq_ignore_ascii_case(name)))
}

/// All spellings after `~`.
pub(super) fn tildes() -> impl Iterator<Item = &'static str> {
    ATOMS.iter().map(|atom| atom.tilde).filter(|tilde| !tilde.is_empty())
}

/// All names of fields.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    ATOMS.iter().flat_map(|atom| atom.fields.iter().copied())
}

/// All names after `is:`.
pub(super) fn ises() -> impl Iterator<Item = &'static str> {
    ATOMS.iter().flat_map(|atom| atom.is.iter().copied())
}

fn of(test: &Test) -> Option<&'static Atom> {
    let meaning = match test {
        Test::Everything => Meaning::Everything,
        Test::Nothing(what) => Meaning::Nothing(*what),
        Test::Flag(flag) => Meaning::Flag(*flag),
        Test::Text(text, _) => Meaning::Text(*text),
        Test::Number(number, _) => Meaning::Number(*number),
    };
    ATOMS.iter().find(|atom| atom.meaning == meaning)
}

/// mitmproxy's spelling of a test, without `~`; empty if it has none.
pub(super) fn tilde_of(test: &Test) -> &'static str {
    of(test).map_or("", |atom| atom.tilde)
}

/// The canonical field of a test; empty if it is none.
pub(super) fn field_of(test: &Test) -> &'static str {
    of(test).and_then(|atom| atom.fields.first()).copied().unwrap_or_default()
}

/// The canonical name of a test after `is:`; empty if it has none.
pub(super) fn is_of(test: &Test) -> &'static str {
    of(test).and_then(|atom| atom.is.first()).copied().unwrap_or_default()
}

/// The whole language on a page, for a terminal of 100 columns.
#[must_use]
pub fn help() -> String {
    let mut out = String::from(GRAMMAR);
    let sections = [
        (
            Arg::Text,
            "Text: RE is a regular expression, TEXT is looked for as it stands, * in it stands for anything.",
        ),
        (
            Arg::Number,
            "Numbers: = != < <= > >=, or : with a list such as 200,400..499; sizes are 10k, 1.5M or 1GiB.",
        ),
        (
            Arg::Time,
            "Times: 10m and 2h are before now; today, 2026-11-22, 2026-11-22T10:00 are local; …T10:00Z is UTC.",
        ),
        (Arg::Nothing, "Properties:"),
    ];
    for (arg, title) in sections {
        out += "\n";
        out += title;
        out += "\n";
        for atom in ATOMS {
            if atom.meaning.arg() != arg || matches!(atom.meaning, Meaning::Refused(_)) {
                continue;
            }
            let tilde = match (atom.tilde, atom.meaning.arg()) {
                ("", _) => String::new(),
                (name, Arg::Text) => format!("~{name} RE"),
                (name, Arg::Number | Arg::Time) => format!("~{name} N"),
                (name, Arg::Nothing) => format!("~{name}"),
            };
            let sign = if let Meaning::Text(text) = atom.meaning
                && text.is_name()
            {
                ":NAME"
            } else if atom.meaning.arg() == Arg::Text {
                ":TEXT"
            } else {
                ":"
            };
            let fields = atom.fields.iter().map(|field| format!("{field}{sign}"));
            let names: Vec<_> = fields.chain(atom.is.iter().map(|is| format!("is:{is}"))).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {tilde:<12} {:<32} {}", names.join(" "), atom.help);
        }
    }
    out + NOTES
}

const GRAMMAR: &str = "\
A filter is made of terms:
  A B          both; binds loosest            A & B    both
  !A           not A; binds tightest          A | B    at least one; & binds tighter than |
  ( )          for grouping                   WORD     the URL matches the regular expression WORD
  \"…\" '…'      text with blanks or ( ) ~, taken as it stands but for \\\" \\' and \\\\
Case is ignored. TEXT fields also take = and != for the whole text, and ~RE: host~^api\\.
";

const NOTES: &str = "
Regular expressions are of linear time: no look-around, no back-references.
Bodies are searched with their content-coding undone, and as text of their charset; the first 16 MiB of each.

Examples:
  'status>=400 host:example.com'             errors of one site; quoted, since a shell takes > for itself
  '~m POST & ~bq password'                   what was posted with a password
  '(~c 4xx | ~c 5xx) last:1h !~a'            failures of the last hour, assets left out
  'time>2s resp.size>1M'                     slow and large
";

const fn atom(
    tilde: &'static str,
    fields: &'static [&'static str],
    is: &'static [&'static str],
    meaning: Meaning,
    help: &'static str,
) -> Atom {
    Atom { tilde, fields, is, meaning, help }
}

/// A flag's line.
const fn flag(tilde: &'static str, is: &'static [&'static str], flag: Flag, help: &'static str) -> Atom {
    atom(tilde, &[], is, Meaning::Flag(flag), help)
}

/// A text's line.
const fn text(tilde: &'static str, fields: &'static [&'static str], text: Text, help: &'static str) -> Atom {
    atom(tilde, fields, &[], Meaning::Text(text), help)
}

/// A number's line.
const fn number(
    tilde: &'static str,
    fields: &'static [&'static str],
    number: Number,
    help: &'static str,
) -> Atom {
    atom(tilde, fields, &[], Meaning::Number(number), help)
}

const ATOMS: &[Atom] = &[
    text("u", &["url"], Text::Url, "URL; host:port of a tunnel"),
    text("d", &["host"], Text::Host, "host of the target"),
    text("", &["path"], Text::Path, "path and query"),
    text("m", &["method"], Text::Method, "method"),
    text("", &["scheme"], Text::Scheme, "http, https or tcp"),
    text("h", &["header"], Text::Header(Part::Either), "header fields, as lines \"Name: value\""),
    text("hq", &["req.header"], Text::Header(Part::Request), "those of the request"),
    text("hs", &["resp.header"], Text::Header(Part::Response), "those of the response"),
    text("t", &["type"], Text::Type(Part::Either), "Content-Type"),
    text("tq", &["req.type"], Text::Type(Part::Request), "that of the request"),
    text("ts", &["resp.type"], Text::Type(Part::Response), "that of the response"),
    text("b", &["body"], Text::Body(Part::Either), "bodies, messages of WebSockets, tunnels"),
    text("bq", &["req.body"], Text::Body(Part::Request), "those from the client"),
    text("bs", &["resp.body"], Text::Body(Part::Response), "those from the origin"),
    text("src", &["client"], Text::Client, "the client's address:port"),
    text("dst", &["server"], Text::Server, "the origin's name:port and address:port"),
    text("marker", &["marker"], Text::Marker, "marker"),
    text("comment", &["comment"], Text::Comment, "comment"),
    text("", &["tag"], Text::Tag, "tag"),
    atom(
        "meta",
        &[],
        &[],
        Meaning::Refused("flows have no free metadata here; `~comment` and `tag:` are kept"),
        "",
    ),
    number("c", &["status"], Number::Status, "status: 404, 4xx, 400-499"),
    number("", &["size"], Number::Size(Part::Either), "payload bytes of request and response together"),
    number("", &["req.size"], Number::Size(Part::Request), "those of the request"),
    number("", &["resp.size"], Number::Size(Part::Response), "those of the response"),
    number("", &["time", "took"], Number::Duration, "from first byte to end: 200ms, 1.5s, 2m"),
    number("", &["mid"], Number::Mid, "mid: 12, 40-60, 100.."),
    number("", &["port"], Number::Port, "port of the target"),
    atom("", &["after", "since", "last"], &[], Meaning::After, "began then or later"),
    atom("", &["before", "until"], &[], Meaning::Before, "began before"),
    atom("all", &[], &["all"], Meaning::Everything, "every flow"),
    flag("http", &["http"], Flag::Http, "HTTP, refused CONNECTs too"),
    flag("websocket", &["websocket"], Flag::WebSocket, "WebSocket"),
    flag("tcp", &["tunnel", "tcp"], Flag::Tunnel, "relayed unread"),
    atom("udp", &[], &[], Meaning::Nothing(NoSuch::Udp), "never: UDP is not recorded"),
    atom("dns", &[], &[], Meaning::Nothing(NoSuch::Dns), "never: DNS is not recorded"),
    flag("q", &["pending"], Flag::Pending, "HTTP without a response"),
    flag("s", &["answered"], Flag::Answered, "HTTP with a response"),
    flag("e", &["error"], Flag::Error, "something went wrong"),
    flag("a", &["asset"], Flag::Asset, "the response is a script, style sheet, image or font"),
    flag("marked", &["marked"], Flag::Marked, "marked"),
    flag("replay", &["replay"], Flag::Replay, "a replay of another flow"),
    flag("replayq", &[], Flag::Replay, "the same"),
    atom(
        "replays",
        &[],
        &[],
        Meaning::Nothing(NoSuch::ReplayedResponse),
        "never: no response is given from the record",
    ),
    flag("", &["truncated"], Flag::Truncated, "--body-limit kept some of a body out of the record"),
    flag("", &["tls-failed"], Flag::TlsFailed, "a TLS handshake failed"),
    flag("", &["open"], Flag::Open, "not ended yet"),
];
