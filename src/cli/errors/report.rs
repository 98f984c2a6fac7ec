//! A message for the user, and the words that it is made of.

use std::io;

use serde_json::{Value, json};

use crate::cli::output::Output;
use crate::cli::{escape, given};

/// A message for the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) code: &'static str,
    pub(super) exit: u8,
    pub(super) message: String,
    pub(super) facts: Vec<String>,
    pub(super) hints: Vec<String>,
}

impl Report {
    pub(super) fn new(code: &'static str, exit: u8, message: impl Into<String>) -> Self {
        Self { code, exit, message: without_os_codes(&message.into()), facts: Vec::new(), hints: Vec::new() }
    }

    pub(super) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(without_os_codes(&fact.into()));
        self
    }

    /// A fact, if there is one.
    pub(super) fn facts(self, fact: Option<impl Into<String>>) -> Self {
        match fact {
            Some(fact) => self.fact(fact),
            None => self,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(given::in_full(&hint.into()));
        self
    }

    /// Escaped line by line: a message may quote a peer or the name of a file.
    pub(super) fn to_text(&self, output: &Output) -> String {
        let paint = output.talk_paint;
        let mut out = paint.red(&paint.bold(&format!("error[{}]", self.code)));
        out += ": ";
        out += &escape::line(&self.message);
        for fact in &self.facts {
            out += "\n  ";
            out += &escape::line(fact);
        }
        for hint in &self.hints {
            out += "\n  ";
            out += &paint.cyan("hint:");
            out += " ";
            out += &escape::line(hint);
        }
        out
    }

    pub(super) fn to_json(&self) -> String {
        json!({"error": self.json()}).to_string()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "code": self.code, "message": self.message, "facts": self.facts, "hints": self.hints, "exit": self.exit,
        })
    }
}

/// An error with its causes: `cannot read ca.pem: permission denied`.
pub(in crate::cli) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        // Some types repeat their cause in their own words.
        if !message.contains(&part) {
            message = format!("{message}: {}", lower_first(&part));
        }
        next = cause.source();
    }
    message
}

pub(super) fn plain_io(error: &io::Error) -> String {
    lower_first(&without_os_codes(&error.to_string()))
}

/// Without `(os error 13)`, which helps nobody; the log has it.
pub(super) fn without_os_codes(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// "Permission denied" inside a sentence; names such as "OpenSSL" or "E12" stay.
pub(super) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => message.to_owned(),
    }
}

pub(super) fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        assert_eq!(without_os_codes("a: No (os error 13): b (os error 2)"), "a: No: b");
        assert_eq!(plain_io(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(sentence("permission denied"), "Permission denied.");
    }
}
