//! Differences between flows as people and programs read them, and the flags that say what counts as one.

use clap::Args;
use serde_json::{Value, json};

use super::escape;
use super::json::bytes;
use super::output::Paint;
use crate::replay::compare::{BodyDifference, Comparison, Difference, JsonPath, Rules, Which};

/// Flags of `diff` and `replay --diff`.
#[derive(Debug, Args)]
#[command(next_help_heading = "What counts as a difference")]
pub(super) struct RuleFlags {
    /// Leave this header or trailer field out. Repeatable
    #[arg(long, value_name = "NAME")]
    ignore_header: Vec<String>,
    /// Leave this part of JSON bodies out: $.updated_at, items[*].id, ..etag (at any depth). Repeatable
    #[arg(long, value_name = "PATH")]
    ignore_json: Vec<JsonPath>,
    /// Let the order of header fields count, and the case of their names
    #[arg(long)]
    header_order: bool,
    /// Let all fields count, also Date, Age and those of the connection
    #[arg(long)]
    strict: bool,
}

impl RuleFlags {
    /// The rules that they come to, for responses.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            ignored_headers: self.ignore_header.clone(),
            header_order: self.header_order,
            strict: self.strict,
            ignored_json: self.ignore_json.clone(),
            ..Rules::default()
        }
    }

    /// Whether any of them was given.
    pub(super) fn any(&self) -> bool {
        !self.ignore_header.is_empty() || !self.ignore_json.is_empty() || self.header_order || self.strict
    }
}

/// What differs, in a few words: `status, header etag, body`.
pub(super) fn brief(comparison: &Comparison) -> String {
    let mut words: Vec<String> = comparison.differences.iter().map(Difference::what).collect();
    let more = words.len().saturating_sub(BRIEF);
    words.truncate(BRIEF);
    if more > 0 {
        words.push(format!("{more} more"));
    }
    escape::line(words.join(", "))
}

/// Each difference on lines of its own, escaped.
pub(super) fn lines(comparison: &Comparison, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let (minus, plus) =
        (|text: &str| paint.red(&format!("- {text}")), |text: &str| paint.green(&format!("+ {text}")));
    for difference in &comparison.differences {
        match difference {
            Difference::Missing { which, why } => {
                lines.push(format!("message  {} has none: {}", ordinal(*which), escape::line(why)));
            }
            Difference::Status { was, is } => {
                lines.push(format!(
                    "status   {} → {}",
                    paint.red(&was.to_string()),
                    paint.green(&is.to_string())
                ));
            }
            Difference::Line { was, is } => {
                lines.push("request line".to_owned());
                lines.push(format!("  {}", minus(&escape::line(was))));
                lines.push(format!("  {}", plus(&escape::line(is))));
            }
            Difference::Header { name, was, is } | Difference::Trailer { name, was, is } => {
                let kind =
                    if matches!(difference, Difference::Trailer { .. }) { "trailer" } else { "header" };
                let name = escape::line(name);
                lines.push(format!("{kind:<7}  {name}"));
                lines.extend(was.iter().map(|value| format!("  {}", minus(&escape::line(value)))));
                lines.extend(is.iter().map(|value| format!("  {}", plus(&escape::line(value)))));
            }
            Difference::HeaderOrder { was, is } => {
                let names = |names: &[bytes::Bytes]| escape::line(names.join(&b", "[..]));
                lines.push("header order".to_owned());
                lines.push(format!("  {}", minus(&names(was))));
                lines.push(format!("  {}", plus(&names(is))));
            }
            Difference::Body(body) => body_lines(body, paint, &mut lines),
        }
    }
    lines
}

fn body_lines(body: &BodyDifference, paint: Paint, lines: &mut Vec<String>) {
    match body {
        BodyDifference::Json { changes, more } => {
            lines.push("body     JSON".to_owned());
            for change in changes {
                let side = |side: &Option<String>| side.as_ref().map(escape::line);
                let (was, is) = (side(&change.was), side(&change.is));
                let path = escape::line(&change.path);
                lines.push(match (was, is) {
                    (Some(was), Some(is)) => format!("  {path}  {} → {}", paint.red(&was), paint.green(&is)),
                    (Some(was), None) => format!("  {path}  {}", paint.red(&format!("- {was}"))),
                    (None, is) => {
                        format!("  {path}  {}", paint.green(&format!("+ {}", is.unwrap_or_default())))
                    }
                });
            }
            if *more > 0 {
                lines.push(format!("  … and {more} more"));
            }
        }
        BodyDifference::Text { lines: diff } => {
            lines.push("body     text".to_owned());
            lines.extend(diff.iter().map(|line| {
                let shown = escape::line(line);
                let painted = match line.as_bytes().first() {
                    Some(b'-') => paint.red(&shown),
                    Some(b'+') => paint.green(&shown),
                    Some(b'@') => paint.cyan(&shown),
                    _ => shown,
                };
                format!("  {painted}")
            }));
        }
        BodyDifference::Bytes { at, was_len, is_len } => {
            let len =
                |len: &Option<u64>| len.map_or_else(|| "longer".to_owned(), |len| format!("{len} bytes"));
            lines.push(format!("body     differs from byte {at} on ({} → {})", len(was_len), len(is_len)));
        }
        BodyDifference::Unknown { which, why } => {
            lines.push(format!("body     cannot be compared: {} {}", ordinal(*which), escape::line(why)));
        }
    }
}

/// What was left out, where that changed the outcome or might have.
pub(super) fn left_out(comparison: &Comparison) -> Option<String> {
    (!comparison.left_out.is_empty()).then(|| {
        format!("left out: {} (--strict lets them count)", escape::line(comparison.left_out.join(", ")))
    })
}

/// An array of objects, one a difference.
pub(super) fn to_json(comparison: &Comparison) -> Value {
    comparison.differences.iter().map(one_to_json).collect()
}

fn one_to_json(difference: &Difference) -> Value {
    let list = |values: &[bytes::Bytes]| values.iter().map(|value| bytes(value)).collect::<Value>();
    match difference {
        Difference::Missing { which, why } => {
            json!({"what": "message", "missing_in": ordinal(*which), "why": why})
        }
        Difference::Status { was, is } => json!({"what": "status", "was": was, "is": is}),
        Difference::Line { was, is } => json!({"what": "request_line", "was": bytes(was), "is": bytes(is)}),
        Difference::Header { name, was, is } => {
            json!({"what": "header", "name": bytes(name), "was": list(was), "is": list(is)})
        }
        Difference::Trailer { name, was, is } => {
            json!({"what": "trailer", "name": bytes(name), "was": list(was), "is": list(is)})
        }
        Difference::HeaderOrder { was, is } => {
            json!({"what": "header_order", "was": list(was), "is": list(is)})
        }
        Difference::Body(BodyDifference::Json { changes, more }) => {
            let changes = changes.iter().map(|c| json!({"path": c.path, "was": c.was, "is": c.is}));
            json!({"what": "body", "as": "json", "changes": changes.collect::<Value>(), "more": more})
        }
        Difference::Body(BodyDifference::Text { lines }) => {
            json!({"what": "body", "as": "text", "diff": lines})
        }
        Difference::Body(BodyDifference::Bytes { at, was_len, is_len }) => {
            json!({"what": "body", "as": "bytes", "at": at, "was_len": was_len, "is_len": is_len})
        }
        Difference::Body(BodyDifference::Unknown { which, why }) => {
            json!({"what": "body", "unknown_in": ordinal(*which), "why": why})
        }
    }
}

fn ordinal(which: Which) -> &'static str {
    match which {
        Which::First => "the first",
        Which::Second => "the second",
    }
}

/// Differences named on one line.
const BRIEF: usize = 4;
