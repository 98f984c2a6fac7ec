//! One flow on one line: for `ls`, and for the feed while capturing.

use serde_json::{Map, Value, json};

use super::output::Paint;
use super::{escape, note, text};
use crate::flow::{Kind, Mid, Scheme, State, Target};
use crate::record::Committed;
use crate::store::{Note, Row};

/// What a line shows of a flow.
#[derive(Debug, Clone)]
pub(super) struct Line {
    mid: Mid,
    kind: Kind,
    state: State,
    started_unix_ns: Option<i64>,
    method: String,
    url: String,
    status: Option<u16>,
    media_type: Option<String>,
    response_len: u64,
    /// Of a WebSocket, where they were counted.
    messages: Option<u64>,
    duration_us: Option<u64>,
    error: Option<String>,
    /// What people wrote beside it.
    note: Option<Note>,
}

impl From<&Row> for Line {
    fn from(row: &Row) -> Self {
        Self {
            mid: row.mid,
            kind: row.kind,
            state: row.state,
            started_unix_ns: Some(row.started_unix_ns),
            method: row.method.clone(),
            url: url(row),
            status: row.status,
            media_type: row.response_type.clone(),
            response_len: row.response_len,
            messages: None,
            duration_us: row.duration_us,
            error: row.error.clone(),
            note: None,
        }
    }
}

impl From<&Committed> for Line {
    fn from(flow: &Committed) -> Self {
        let error = flow.error.as_ref();
        Self {
            mid: flow.mid,
            kind: flow.kind,
            state: flow.state,
            started_unix_ns: None,
            method: String::from_utf8_lossy(&flow.method).into_owned(),
            url: flow.url.clone(),
            status: flow.status,
            media_type: None,
            response_len: flow.response_len,
            messages: None,
            duration_us: flow.duration_us,
            error: error.map(|e| format!("{} {}: {}", e.side.as_str(), e.stage.as_str(), e.message)),
            note: None,
        }
    }
}

impl Line {
    /// With the number of its messages, of a WebSocket that has any.
    pub(super) fn with_messages(mut self, count: Option<u64>) -> Self {
        self.messages = count;
        self
    }

    /// With what people wrote beside it.
    pub(super) fn with_note(mut self, note: Option<&Note>) -> Self {
        self.note = note.cloned();
        self
    }

    /// For a terminal of `width` columns, cut to fit.
    pub(super) fn for_terminal(&self, width: usize, mid_width: usize, paint: Paint) -> String {
        let time = self.started_unix_ns.map(|at| text::local_short(at) + "  ").unwrap_or_default();
        // In the place of a blank, so that columns stay where they are.
        let mark = if self.note.as_ref().is_some_and(|note| note.marker.is_some()) { '*' } else { ' ' };
        let head = format!("{:>mid_width$}{mark} {time}", self.mid.0);
        let method = text::truncate(&escape::line(self.method()), METHOD_WIDTH);
        let media_type = match (self.messages, &self.media_type) {
            (Some(count), _) => format!("{} msgs", text::size(count)),
            (None, media_type) => {
                escape::line(media_type.as_deref().map(text::short_type).unwrap_or_default())
            }
        };
        let media_type = text::truncate(&media_type, TYPE_WIDTH);
        let media_type = if self.started_unix_ns.is_some() {
            format!("  {media_type:<TYPE_WIDTH$}")
        } else {
            String::new()
        };
        let took = self.duration_us.map(text::duration_us).unwrap_or_default();
        let tail = format!("{media_type}  {:>5}  {took:>7}", text::size(self.response_len));
        // Two blanks stand on either side of the status (3) and after the method.
        let fixed = head.chars().count() + 3 + 2 + METHOD_WIDTH + 2 + tail.chars().count();
        let room = width.saturating_sub(fixed).max(MIN_URL_WIDTH);
        let mut what = escape::line(&self.url);
        if let Some(error) = &self.error {
            what = format!("{what}  {}", escape::line(error));
        }
        let tags = text::truncate(&self.tags(), room / 3);
        // Two blanks between the two.
        let taken = if tags.is_empty() { 0 } else { tags.chars().count() + 2 };
        let (what, room) = (text::truncate(&what, room - taken), room - taken);
        let tags = if tags.is_empty() { tags } else { format!("  {}", paint.cyan(&tags)) };
        format!("{head}{}  {method:<METHOD_WIDTH$}  {what:<room$}{tags}{tail}", self.painted_status(paint))
    }

    /// Tab-separated and whole, for programs: mid, start, status, method, URL, type, response bytes, microseconds,
    /// state, error.
    pub(super) fn for_pipe(&self) -> String {
        [
            self.mid.to_string(),
            self.started_unix_ns.map(text::utc).unwrap_or_default(),
            self.status_text(),
            escape::line(self.method()),
            escape::line(&self.url),
            escape::line(self.media_type.as_deref().unwrap_or_default()),
            self.response_len.to_string(),
            self.duration_us.map(|us| us.to_string()).unwrap_or_default(),
            self.state.as_str().to_owned(),
            escape::line(self.error.as_deref().unwrap_or_default()),
        ]
        .join("\t")
    }

    /// One JSON object with what the line knows.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("mid".into(), self.mid.0.into());
        object.insert("kind".into(), self.kind.as_str().into());
        object.insert("state".into(), self.state.as_str().into());
        if let Some(at) = self.started_unix_ns {
            object.insert("started".into(), text::utc(at).into());
            object.insert("started_unix_ns".into(), at.into());
        }
        object.insert("method".into(), self.method.as_str().into());
        object.insert("url".into(), self.url.as_str().into());
        object.insert("status".into(), json!(self.status));
        object.insert("response_len".into(), self.response_len.into());
        object.insert("duration_us".into(), json!(self.duration_us));
        object.insert("error".into(), json!(self.error));
        object
    }

    /// `+login +cart`
    fn tags(&self) -> String {
        let tags = self.note.iter().flat_map(|note| &note.tags);
        tags.map(|tag| format!("+{}", escape::line(tag))).collect::<Vec<_>>().join(" ")
    }

    /// `CONN`, `TUN` and `TLS` stand where there was no request of HTTP.
    pub(super) fn method(&self) -> &str {
        match self.kind {
            Kind::Connect => "CONN",
            Kind::Tunnel => "TUN",
            Kind::Tls => "TLS",
            Kind::Http if self.method.is_empty() => "?",
            Kind::Http => &self.method,
        }
    }

    pub(super) fn status_text(&self) -> String {
        match (self.state, self.status) {
            (State::Open, None) => "...".to_owned(),
            (State::Open | State::Complete, Some(status)) => status.to_string(),
            (State::Complete, None) => "-".to_owned(),
            _ => "ERR".to_owned(),
        }
    }

    fn painted_status(&self, paint: Paint) -> String {
        let shown = format!("{:>3}", self.status_text());
        match (shown.as_str(), self.status) {
            ("ERR", _) => paint.red(&shown),
            (_, Some(500..)) => paint.red(&shown),
            (_, Some(400..)) => paint.yellow(&shown),
            (_, Some(300..)) => paint.cyan(&shown),
            (_, Some(_)) => paint.green(&shown),
            _ => paint.dim(&shown),
        }
    }
}

/// The JSON object of `ls`: what the line knows, then the row's other columns.
pub(super) fn row_json(row: &Row, messages: Option<u64>, note: Option<&Note>) -> Value {
    let mut object = Line::from(row).to_json();
    object.insert("scheme".into(), row.scheme.as_str().into());
    object.insert("host".into(), row.host.as_str().into());
    object.insert("port".into(), row.port.into());
    object.insert("path".into(), row.path.as_str().into());
    object.insert("request_type".into(), json!(row.request_type));
    object.insert("response_type".into(), json!(row.response_type));
    object.insert("request_len".into(), row.request_len.into());
    object.insert("request_truncated".into(), row.request_truncated.into());
    object.insert("response_truncated".into(), row.response_truncated.into());
    object.insert("messages".into(), json!(messages));
    object.insert("client_conn".into(), row.client_conn.0.into());
    object.insert("server_conn".into(), json!(row.server_conn.map(|id| id.0)));
    object.insert("replay_of".into(), json!(row.replay_of.map(|mid| mid.0)));
    note::put_json(&mut object, note);
    Value::Object(object)
}

/// Whether a row may be that of a WebSocket: a 101, or what an extended `CONNECT` opened (RFC 8441).
pub(super) fn may_have_messages(row: &Row) -> bool {
    row.kind == Kind::Http && (row.status == Some(101) || row.method == "CONNECT")
}

/// As [`crate::flow::Flow::url`] gives it, from a row's columns.
fn url(row: &Row) -> String {
    let target = Target { scheme: row.scheme, host: row.host.clone(), port: row.port };
    match row.kind {
        Kind::Http if row.host.is_empty() => row.path.clone(),
        Kind::Http => {
            let separator = if row.path.starts_with('/') || row.path.is_empty() { "" } else { "/" };
            format!("{}://{}{separator}{}", row.scheme.as_str(), target.authority(), row.path)
        }
        _ if row.scheme == Scheme::Tcp && row.host.is_empty() => String::new(),
        _ => target.host_port(),
    }
}

/// `OPTIONS` and `CONNECT` fit; longer ones are rare.
const METHOD_WIDTH: usize = 7;

/// `javascript` is the longest of the frequent ones.
const TYPE_WIDTH: usize = 10;

/// On a very narrow terminal lines wrap rather than lose the URL.
const MIN_URL_WIDTH: usize = 20;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::flow::ConnId;

    /// A row as a store gives it.
    pub(in crate::cli) fn row() -> Row {
        Row {
            mid: Mid(12),
            kind: Kind::Http,
            state: State::Complete,
            method: "GET".into(),
            scheme: Scheme::Http,
            host: "origin.test".into(),
            port: 80,
            path: "/a".into(),
            status: Some(404),
            started_unix_ns: 0,
            duration_us: Some(54_000),
            request_type: None,
            response_type: Some("text/html".into()),
            request_len: 0,
            response_len: 2200,
            error: None,
            client_conn: ConnId(1),
            server_conn: None,
            replay_of: None,
            request_truncated: false,
            response_truncated: false,
        }
    }

    fn line() -> Line {
        Line {
            mid: Mid(1041),
            kind: Kind::Http,
            state: State::Complete,
            started_unix_ns: Some(0),
            method: "GET".into(),
            url: "https://example.test/a?\x1b]0;x\x07".into(),
            status: Some(200),
            media_type: Some("application/json".into()),
            response_len: 2200,
            messages: None,
            duration_us: Some(54_000),
            error: None,
            note: None,
        }
    }

    #[test]
    fn a_terminal_line_fits_and_is_escaped() {
        let shown = line().for_terminal(100, 5, Paint::Plain);
        assert_eq!(shown.chars().count(), 100);
        assert!(shown.starts_with(" 1041  ") && shown.ends_with("json         2.2k     54ms"), "{shown}");
        assert!(shown.contains("https://example.test/a?\\x1b]0;x\\x07"), "{shown}");
        let failed = Line { state: State::Failed, error: Some("upstream connect: refused".into()), ..line() };
        let shown = failed.for_terminal(140, 5, Paint::Plain);
        assert!(shown.contains("  ERR  GET  ") && shown.contains("connect: refused"), "{shown}");
    }

    #[test]
    fn marks_and_tags_take_their_room_from_the_url() {
        let note =
            Note { marker: Some("x".into()), comment: None, tags: vec!["login".into(), "a\u{1b}b".into()] };
        let shown = line().with_note(Some(&note)).for_terminal(110, 5, Paint::Plain);
        assert_eq!(shown.chars().count(), 110);
        assert!(shown.starts_with(" 1041* ") && shown.contains("  +login +a\\x1bb  json"), "{shown}");
        let many = Note { tags: (0..100).map(|n| format!("tag-{n}")).collect(), ..note };
        let shown = line().with_note(Some(&many)).for_terminal(110, 5, Paint::Plain);
        assert_eq!(shown.chars().count(), 110);
        assert!(shown.contains("https://example.te") && shown.contains("…  json"), "{shown}");
    }

    #[test]
    fn a_pipe_line_has_ten_fields_whatever_a_peer_sent() {
        let shown = Line { url: "http://h/\ta\nb".into(), ..line() }.for_pipe();
        let fields: Vec<_> = shown.split('\t').collect();
        assert_eq!(fields.len(), 10);
        assert_eq!(fields[..5], ["1041", "1970-01-01T00:00:00.000000Z", "200", "GET", "http://h/\\ta\\nb"]);
    }

    #[test]
    fn json_begins_with_the_mid() {
        let object = line().to_json();
        assert_eq!(object.keys().next().map(String::as_str), Some("mid"));
        assert_eq!(object["url"], "https://example.test/a?\u{1b}]0;x\u{7}");
    }
}
