//! JSON by value: the order of keys, white space and the spelling of numbers do not matter; each change has its path.

use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// One change between two JSON values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonChange {
    /// Where: `$.items[3].price`.
    pub path: String,
    /// The value in the first, as JSON; `None` where it is not there. A long one is cut.
    pub was: Option<String>,
    /// The same of the second.
    pub is: Option<String>,
}

/// A place in a JSON value, or many: `$.a.b`, `a[0]`, `items[*].id`, `*.id`, `["odd key"].x`, `..id` (at any depth).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    AnyKey,
    Index(usize),
    AnyIndex,
    /// Any number of steps, none among them.
    Deep,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no path in JSON: {why}; $.items[*].id is one, ..id another")]
pub struct BadJsonPath {
    /// What was given.
    pub text: String,
    /// What is wrong.
    pub why: &'static str,
}

/// A step from a value into a part of it.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The changes between two values, at most `limit` of them, and how many more there are.
pub(super) fn changes(was: &Value, is: &Value, ignored: &[JsonPath], limit: usize) -> (Vec<JsonChange>, u64) {
    let mut walk = Walk { ignored, limit, changes: Vec::new(), more: 0, at: Vec::new() };
    walk.both(was, is);
    (walk.changes, walk.more)
}

struct Walk<'a> {
    ignored: &'a [JsonPath],
    limit: usize,
    changes: Vec<JsonChange>,
    more: u64,
    at: Vec<Step<'a>>,
}

impl<'a> Walk<'a> {
    /// No deeper than serde_json parses: 128 levels.
    fn both(&mut self, was: &'a Value, is: &'a Value) {
        match (was, is) {
            (Value::Object(was), Value::Object(is)) => self.objects(was, is),
            (Value::Array(was), Value::Array(is)) => {
                for at in 0..was.len().max(is.len()) {
                    self.member(Step::Index(at), was.get(at), is.get(at));
                }
            }
            (Value::Number(was), Value::Number(is)) if same_number(was, is) => {}
            (was, is) if was == is => {}
            (was, is) => self.change(Some(was), Some(is)),
        }
    }

    fn objects(&mut self, was: &'a Map<String, Value>, is: &'a Map<String, Value>) {
        for (key, value) in was {
            self.member(Step::Key(key), Some(value), is.get(key));
        }
        for (key, value) in is.iter().filter(|(key, _)| !was.contains_key(*key)) {
            self.member(Step::Key(key), None, Some(value));
        }
    }

    fn member(&mut self, step: Step<'a>, was: Option<&'a Value>, is: Option<&'a Value>) {
        self.at.push(step);
        if !self.ignored.iter().any(|path| matches(&path.0, &self.at)) {
            match (was, is) {
                (Some(was), Some(is)) => self.both(was, is),
                (was, is) => self.change(was, is),
            }
        }
        self.at.pop();
    }

    fn change(&mut self, was: Option<&Value>, is: Option<&Value>) {
        if self.changes.len() >= self.limit {
            self.more += 1;
            return;
        }
        let (was, is) = (was.map(shown), is.map(shown));
        self.changes.push(JsonChange { path: written(&self.at), was, is });
    }
}

/// Whole numbers exactly; others as the nearest floating-point number, which is what nearly every reader makes of them.
fn same_number(was: &Number, is: &Number) -> bool {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    match (whole(was), whole(is)) {
        (Some(was), Some(is)) => was == is,
        _ => was.as_f64() == is.as_f64(),
    }
}

fn matches(pattern: &[Part], at: &[Step<'_>]) -> bool {
    let Some((part, rest)) = pattern.split_first() else { return at.is_empty() };
    if *part == Part::Deep {
        return (0..=at.len()).any(|skipped| matches(rest, &at[skipped..]));
    }
    let Some((step, deeper)) = at.split_first() else { return false };
    let fits = match (part, step) {
        (Part::Key(wanted), Step::Key(key)) => wanted == key,
        (Part::Index(wanted), Step::Index(index)) => wanted == index,
        (Part::AnyKey, Step::Key(_)) | (Part::AnyIndex, Step::Index(_)) => true,
        _ => false,
    };
    fits && matches(rest, deeper)
}

fn written(at: &[Step<'_>]) -> String {
    let mut path = "$".to_owned();
    for step in at {
        // Writing to a String cannot fail.
        let _ = match step {
            Step::Index(index) => write!(path, "[{index}]"),
            Step::Key(key) if is_plain(key) => write!(path, ".{key}"),
            Step::Key(key) => write!(path, "[{}]", Value::from(*key)),
        };
    }
    path
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

impl FromStr for JsonPath {
    type Err = BadJsonPath;

    fn from_str(text: &str) -> Result<Self, BadJsonPath> {
        let bad = |why| BadJsonPath { text: text.to_owned(), why };
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut parts = Vec::new();
        let mut first = rest.len() == text.len();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (part, after) = bracket(inside).map_err(bad)?;
                parts.push(part);
                rest = after;
            } else {
                if let Some(after) = rest.strip_prefix("..") {
                    parts.push(Part::Deep);
                    rest = after;
                    if rest.starts_with('[') {
                        continue;
                    }
                } else if let Some(after) = rest.strip_prefix('.') {
                    rest = after;
                } else if !first {
                    return Err(bad("a dot is missing"));
                }
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                match &rest[..end] {
                    "" => return Err(bad("a key is missing")),
                    "*" => parts.push(Part::AnyKey),
                    key => parts.push(Part::Key(key.to_owned())),
                }
                rest = &rest[end..];
            }
            first = false;
        }
        match parts.len() {
            0 => Err(bad("it names all of the body")),
            1..=MAX_PARTS => Ok(Self(parts)),
            _ => Err(bad("it is too long")),
        }
    }
}

/// What stands after a `[`, and what follows the `]`.
fn bracket(inside: &str) -> Result<(Part, &str), &'static str> {
    if inside.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(inside).into_iter::<String>();
        let key = values.next().and_then(Result::ok).ok_or("a key in quotes cannot be read")?;
        let after = &inside[values.byte_offset()..];
        return Ok((Part::Key(key), after.strip_prefix(']').ok_or("a ] is missing")?));
    }
    let (index, after) = inside.split_once(']').ok_or("a ] is missing")?;
    match index {
        "*" => Ok((Part::AnyIndex, after)),
        index => Ok((Part::Index(index.parse().map_err(|_| "between [ and ] stands no index")?), after)),
    }
}

/// Characters of a value that are shown.
const SHOWN: usize = 120;

/// Parts of a path: far more than any is deep, and few enough that matching stays quick.
const MAX_PARTS: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(was: &Value, is: &Value, ignored: &[&str]) -> Vec<String> {
        let ignored: Vec<JsonPath> = ignored.iter().map(|path| path.parse().unwrap()).collect();
        let (changes, more) = changes(was, is, &ignored, 100);
        assert_eq!(more, 0);
        let side = |side: &Option<String>| side.clone().unwrap_or("-".into());
        changes.iter().map(|c| format!("{} {} {}", c.path, side(&c.was), side(&c.is))).collect()
    }

    #[test]
    fn values_are_compared_not_texts() {
        let was: Value =
            serde_json::from_str(r#"{"b": 1.0, "a": [1e2, "x"], "c": 18446744073709551615}"#).unwrap();
        let is: Value = serde_json::from_str(r#"{"a":[100,"x"],"b":1,"c":18446744073709551615}"#).unwrap();
        assert_eq!(of(&was, &is, &[]), Vec::<String>::new());
        let near = json!({"c": 18_446_744_073_709_551_614_u64, "a": [100, "x"], "b": 1});
        assert_eq!(of(&is, &near, &[]), ["$.c 18446744073709551615 18446744073709551614"]);
    }

    #[test]
    fn each_change_has_its_path() {
        let was = json!({"a": {"b": [1, {"c d": null}]}, "gone": true, "t": "x"});
        let is = json!({"a": {"b": [2, {"c d": []}, 3]}, "new": {"x": 1}, "t": 0});
        assert_eq!(
            of(&was, &is, &[]),
            [
                "$.a.b[0] 1 2",
                "$.a.b[1][\"c d\"] null []",
                "$.a.b[2] - 3",
                "$.gone true -",
                "$.t \"x\" 0",
                "$.new - {\"x\":1}",
            ]
        );
        let ignored = ["a.b[0]", "$.a.b[*][\"c d\"]", "$..b[2]", "gone", "*", "nothing.like[7].it"];
        assert_eq!(of(&was, &is, &ignored[..4]), ["$.t \"x\" 0", "$.new - {\"x\":1}"]);
        assert_eq!(of(&was, &is, &ignored), Vec::<String>::new());
        assert_eq!(of(&json!([[1]]), &json!([[2]]), &["$[*][*]"]), Vec::<String>::new());
        assert_eq!(of(&json!(1), &json!(2), &["..x"]), ["$ 1 2"]);
    }

    #[test]
    fn changes_are_counted_beyond_what_is_listed() {
        let (listed, more) = changes(&json!([1, 2, 3]), &json!([]), &[], 2);
        assert_eq!((listed.len(), more), (2, 1));
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", "$", "a..", "a.", ".", "[", "[x]", "[1", "[\"a]", "[1]a", "$a.[-1]"] {
            assert!(bad.parse::<JsonPath>().is_err(), "{bad}");
        }
        assert!("a".repeat(9).split("").collect::<Vec<_>>().join(".x").parse::<JsonPath>().is_ok());
        assert!(".x".repeat(33).parse::<JsonPath>().is_err());
    }
}
