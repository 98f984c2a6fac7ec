//! The condition in SQL that a row must fulfil for its flow to match.
//!
//! It is *necessary*: no flow that matches is left out. Where a test cannot be put exactly, what it implies stands in
//! its place, or nothing; such tests are asked again of what SQL lets through. Values are bound, never pasted.

use rusqlite::types::Value;

use super::super::Reader;
use crate::filter::{Expr, Flag, How, Number, Part, Pattern, Test, Text};

/// What the tables of a store have, and which hosts there are.
pub(super) struct Schema<'a> {
    version: u32,
    /// Whether there is a table `note`.
    pub(super) has_notes: bool,
    /// Whether there is a table `tag`.
    pub(super) has_tags: bool,
    /// `None` where the condition is only to be read.
    reader: Option<&'a Reader>,
}

impl<'a> Schema<'a> {
    pub(super) fn of(reader: &'a Reader, version: u32) -> rusqlite::Result<Self> {
        let mut statement = reader.conn.prepare_cached(HAS_TABLE)?;
        let has_notes = statement.exists(["note"])?;
        let has_tags = statement.exists(["tag"])?;
        Ok(Self { version, has_notes, has_tags, reader: Some(reader) })
    }

    /// A store of the newest version, with nothing known of its hosts.
    pub(super) fn newest() -> Self {
        Self { version: u32::MAX, has_notes: true, has_tags: true, reader: None }
    }

    /// The hosts that match, by id, and the highest id that was looked at. `None` if there are too many to list.
    fn hosts(&self, pattern: &Pattern) -> Option<(Vec<i64>, i64)> {
        let reader = self.reader?;
        let highest = reader.conn.query_row(HIGHEST_HOST, [], |row| row.get::<_, Option<i64>>(0)).ok()??;
        if highest > MAX_HOSTS {
            return None;
        }
        let mut statement = reader.conn.prepare_cached(HOSTS).ok()?;
        let mut rows = statement.query([highest]).ok()?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next().ok()? {
            let name = row.get_ref(1).ok()?;
            if pattern.is_match(name.as_bytes().unwrap_or_default()) {
                ids.push(row.get(0).ok()?);
            }
            if ids.len() > MAX_LISTED {
                return None;
            }
        }
        Some((ids, highest))
    }
}

/// A condition on a row of `flow`. `?1` and `?2` are the range of mids that is being searched.
#[derive(Debug, Default)]
pub(super) struct Condition<'a> {
    term: Term,
    /// What `?3` and so on stand for.
    pub(super) values: Vec<Value>,
    /// The tests that it does not answer exactly.
    pub(super) open: Vec<&'a Test>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Term {
    /// Every row may match.
    #[default]
    Always,
    /// None can.
    Never,
    Sql(String),
}

impl<'a> Condition<'a> {
    pub(super) fn of(expr: &'a Expr, schema: &Schema<'_>) -> Self {
        let mut condition = Self::default();
        condition.term = condition.necessary(expr, Sense::Plain, schema);
        condition
    }

    /// What follows the range of mids in a WHERE.
    pub(super) fn clause(&self) -> String {
        match &self.term {
            Term::Always => String::new(),
            Term::Never => " AND 0".to_owned(),
            Term::Sql(sql) => format!(" AND {sql}"),
        }
    }

    /// The condition with its values in it, for people.
    pub(super) fn readable(&self) -> Option<String> {
        let sql = match &self.term {
            Term::Always => return None,
            Term::Never => return Some("nothing can match".to_owned()),
            Term::Sql(sql) => sql,
        };
        let mut out = sql.replace(" AND mid BETWEEN ?1 AND ?2", "");
        for (at, value) in (3..).zip(&self.values).collect::<Vec<_>>().into_iter().rev() {
            let shown = match value {
                Value::Integer(n) => n.to_string(),
                Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
                _ => continue,
            };
            out = out.replace(&format!("?{at}"), &shown);
        }
        Some(out)
    }

    fn necessary(&mut self, expr: &'a Expr, sense: Sense, schema: &Schema<'_>) -> Term {
        match (expr, sense) {
            (Expr::All(parts), Sense::Plain) | (Expr::Any(parts), Sense::Negated) => {
                let parts = parts.iter().map(|part| self.necessary(part, sense, schema)).collect();
                joined(parts, " AND ", &Term::Never, &Term::Always)
            }
            (Expr::Any(parts), Sense::Plain) | (Expr::All(parts), Sense::Negated) => {
                let parts = parts.iter().map(|part| self.necessary(part, sense, schema)).collect();
                joined(parts, " OR ", &Term::Always, &Term::Never)
            }
            (Expr::Not(inner), _) => self.necessary(inner, sense.other(), schema),
            (Expr::Test(test), _) => {
                let (term, exact) = self.test(test, schema);
                if !exact {
                    self.open.push(test);
                }
                match (term, sense) {
                    (term, Sense::Plain) => term,
                    (_, Sense::Negated) if !exact => Term::Always,
                    (Term::Always, _) => Term::Never,
                    (Term::Never, _) => Term::Always,
                    // `NOT` of NULL is NULL; a row without the number does not fulfil it, so it fulfils its opposite.
                    (Term::Sql(sql), _) => Term::Sql(format!("({sql} IS NOT TRUE)")),
                }
            }
        }
    }

    /// What a test implies of a row, and whether it implies the test.
    fn test(&mut self, test: &Test, schema: &Schema<'_>) -> (Term, bool) {
        let sql = |sql: &str| Term::Sql(sql.to_owned());
        match test {
            Test::Everything => (Term::Always, true),
            Test::Nothing(_) => (Term::Never, true),
            Test::Flag(flag) => match flag {
                Flag::Http => (sql("(kind NOT IN (2, 3))"), true),
                Flag::Tunnel => (sql("(kind = 2)"), true),
                Flag::WebSocket => {
                    (sql("(kind NOT IN (1, 2, 3) AND (status = 101 OR method = 'CONNECT'))"), false)
                }
                Flag::Pending => (sql("(kind NOT IN (2, 3) AND status IS NULL)"), true),
                Flag::Answered => (sql("(kind NOT IN (2, 3) AND status IS NOT NULL)"), true),
                Flag::Error => (sql("(error IS NOT NULL)"), true),
                Flag::Marked if schema.has_notes => (Term::Sql(noted("marker")), true),
                Flag::Marked => (Term::Never, true),
                Flag::Replay => (sql("(replay_of IS NOT NULL)"), true),
                Flag::Asset => (sql("(response_type IS NOT NULL)"), false),
                Flag::Truncated if schema.version >= 3 => (sql("(truncated <> 0)"), true),
                Flag::Truncated => (Term::Never, true),
                Flag::TlsFailed => (sql("(kind = 3 OR error IS NOT NULL)"), false),
                Flag::Open => (sql("(state = 0)"), true),
            },
            Test::Number(number, ranges) => {
                let column = match number {
                    Number::Status => "status",
                    Number::Size(Part::Either) => "request_len + response_len",
                    Number::Size(Part::Request) => "request_len",
                    Number::Size(Part::Response) => "response_len",
                    Number::Duration => "duration_us",
                    Number::Started => "flow.started_unix_ns",
                    Number::Mid => "flow.mid",
                    Number::Port => "port",
                };
                let ranges = ranges.as_slice().iter();
                let parts = ranges.map(|&(low, high)| self.range(column, low, high)).collect();
                (joined(parts, " OR ", &Term::Always, &Term::Never), true)
            }
            Test::Text(text, pattern) => self.text(*text, pattern, schema),
        }
    }

    fn range(&mut self, column: &str, low: i64, high: i64) -> Term {
        Term::Sql(match (low, high) {
            _ if low == high => format!("({column} = {})", self.bind(low)),
            (low, i64::MAX) => format!("({column} >= {})", self.bind(low)),
            (i64::MIN, high) => format!("({column} <= {})", self.bind(high)),
            _ => format!("({column} BETWEEN {} AND {})", self.bind(low), self.bind(high)),
        })
    }

    fn text(&mut self, text: Text, pattern: &Pattern, schema: &Schema<'_>) -> (Term, bool) {
        let sql = |sql: &str| Term::Sql(sql.to_owned());
        let empty = pattern.matches_empty();
        match text {
            // SQLite folds the case of ASCII alone, as a pattern of ASCII alone does.
            Text::Method if pattern.how() == How::Equals && is_short_ascii(pattern) => {
                let name = self.bind(pattern.text().to_owned());
                (Term::Sql(format!("(method = {name} COLLATE NOCASE)")), true)
            }
            Text::Scheme => {
                let [http, https, tcp] =
                    ["http", "https", "tcp"].map(|name| pattern.is_match(name.as_bytes()));
                let term = match (http, https, tcp) {
                    (true, true, true) => Term::Always,
                    (false, false, false) => Term::Never,
                    (true, true, false) => sql("(scheme IN (0, 1))"),
                    (true, false, false) => sql("(scheme = 0)"),
                    (false, true, false) => sql("(scheme = 1)"),
                    (true, false, true) => sql("(scheme <> 1)"),
                    (false, true, true) => sql("(scheme <> 0)"),
                    (false, false, true) => sql("(scheme NOT IN (0, 1))"),
                };
                (term, true)
            }
            Text::Host => (self.host(pattern, schema), false),
            Text::Type(part) => match part {
                Part::Request => (sql("(request_type IS NOT NULL)"), false),
                Part::Response => (sql("(response_type IS NOT NULL)"), false),
                Part::Either => (sql("(request_type IS NOT NULL OR response_type IS NOT NULL)"), false),
            },
            Text::Header(Part::Response) => (sql("(status IS NOT NULL)"), false),
            Text::Server => (sql("(server_conn IS NOT NULL)"), false),
            // The lengths of a flow that was not seen to end may be those of its beginning.
            Text::Body(part) if !empty => match part {
                Part::Request => (sql("(request_len > 0 OR state IN (0, 6))"), false),
                Part::Response => (sql("(response_len > 0 OR state IN (0, 6))"), false),
                Part::Either => (sql("(request_len > 0 OR response_len > 0 OR state IN (0, 6))"), false),
            },
            Text::Marker | Text::Comment if !schema.has_notes => {
                (if empty { Term::Always } else { Term::Never }, true)
            }
            Text::Marker if !empty => (Term::Sql(noted("marker")), false),
            Text::Comment if !empty => (Term::Sql(noted("comment")), false),
            Text::Tag if !schema.has_tags => (Term::Never, true),
            Text::Tag if pattern.how() == How::Equals && is_plain(pattern.text()) => {
                let name = self.bind(pattern.text().to_owned());
                let named = format!("name = {name} COLLATE NOCASE AND mid BETWEEN ?1 AND ?2");
                (Term::Sql(format!("(flow.mid IN (SELECT mid FROM tag WHERE {named}))")), false)
            }
            Text::Tag => (tagged(), false),
            _ => (Term::Always, false),
        }
    }

    /// Hosts are rows of a small table of their own: the pattern is tried on each of them once.
    fn host(&mut self, pattern: &Pattern, schema: &Schema<'_>) -> Term {
        if schema.reader.is_none() {
            return Term::Sql("(flow.host IN (ids of the hosts that match))".to_owned());
        }
        let Some((ids, highest)) = schema.hosts(pattern) else { return Term::Always };
        let listed: Vec<_> = ids.into_iter().map(|id| self.bind(id)).collect();
        // Those that are recorded from now on have higher ids.
        Term::Sql(format!("(flow.host IN ({}) OR flow.host > {})", listed.join(", "), self.bind(highest)))
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len() + 2)
    }
}

/// Whether a condition, or its opposite, is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Plain,
    Negated,
}

impl Sense {
    fn other(self) -> Self {
        match self {
            Sense::Plain => Sense::Negated,
            Sense::Negated => Sense::Plain,
        }
    }
}

/// `parts` with `between` between them: one that is `decisive` decides, those that are `idle` are left out.
fn joined(parts: Vec<Term>, between: &str, decisive: &Term, idle: &Term) -> Term {
    if parts.contains(decisive) {
        return decisive.clone();
    }
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|part| match part {
            Term::Sql(sql) => Some(sql),
            Term::Always | Term::Never => None,
        })
        .collect();
    match &parts[..] {
        [] => idle.clone(),
        [one] => Term::Sql(one.clone()),
        _ => Term::Sql(format!("({})", parts.join(between))),
    }
}

/// The mids outside of which nothing can match, by what a filter says of mids.
pub(super) fn mid_bounds(expr: &Expr) -> (i64, i64) {
    match expr {
        Expr::Test(Test::Number(Number::Mid, ranges)) => {
            let ends = ranges.as_slice().iter();
            ends.fold((i64::MAX, i64::MIN), |(low, high), range| (low.min(range.0), high.max(range.1)))
        }
        Expr::All(parts) => parts.iter().map(mid_bounds).fold(ANY_MID, |a, b| (a.0.max(b.0), a.1.min(b.1))),
        Expr::Any(parts) => {
            parts.iter().map(mid_bounds).fold((i64::MAX, i64::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)))
        }
        Expr::Not(_) | Expr::Test(_) => ANY_MID,
    }
}

fn noted(column: &str) -> String {
    format!("(flow.mid IN (SELECT mid FROM note WHERE {column} <> '' AND mid BETWEEN ?1 AND ?2))")
}

fn tagged() -> Term {
    Term::Sql("(flow.mid IN (SELECT mid FROM tag WHERE mid BETWEEN ?1 AND ?2))".to_owned())
}

/// Whether a text equals, case ignored, nothing but what SQLite's NOCASE finds equal: `k` and `s` have a third form each,
/// the Kelvin sign and the long s.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.bytes().any(|b| matches!(b, b'k' | b'K' | b's' | b'S'))
}

/// A longer method is cut in its row.
fn is_short_ascii(pattern: &Pattern) -> bool {
    pattern.text().is_ascii() && pattern.text().len() < super::row::TYPE_BYTES
}

const ANY_MID: (i64, i64) = (i64::MIN, i64::MAX);

/// Hosts that are looked through before a search: some ten milliseconds.
const MAX_HOSTS: i64 = 20_000;

/// Hosts that are listed for one test; SQLite allows 32,766 values in all, and a filter has up to 128 tests.
const MAX_LISTED: usize = 200;

const HAS_TABLE: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
const HIGHEST_HOST: &str = "SELECT max(id) FROM host";
const HOSTS: &str = "SELECT id, name FROM host WHERE id <= ?1";
