//! What rules do to the messages of one WebSocket.
//!
//! What is dropped and what is made is decided by a message as it came; the changes follow, each to what the one before has
//! left. Messages of ours are not looked at, so no rule can answer itself.

use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::Regex;

use super::error::Problem;
use super::set::{Action, Rules};
use crate::flow::Opcode;

/// An end of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The client.
    Client,
    /// The origin.
    Server,
}

/// Whose messages a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
    Any,
}

impl Who {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "client" => Ok(Who::Client),
            "server" => Ok(Who::Server),
            "any" => Ok(Who::Any),
            _ => Err(Problem::End(text.to_owned(), "client, server, any")),
        }
    }

    fn is(self, from: End) -> bool {
        match self {
            Who::Client => from == End::Client,
            Who::Server => from == End::Server,
            Who::Any => true,
        }
    }
}

/// A message of ours to one of the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// Who gets it.
    pub to: End,
    /// Its text.
    pub text: Bytes,
    /// The rule that made it.
    pub rule: usize,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it came.
    Pass,
    /// It does not go on.
    Drop {
        /// The rule that says so.
        rule: usize,
    },
    /// This goes on in its place.
    Replace {
        /// The text.
        text: Vec<u8>,
        /// The rules that made it.
        rules: Vec<usize>,
    },
}

/// What rules say of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of it.
    pub fate: Fate,
    /// What is sent after it.
    pub injections: Vec<Injection>,
}

/// The rules on messages that one WebSocket concerns.
#[derive(Debug, Clone)]
pub struct MessageRules {
    all: Arc<Rules>,
    /// Their places.
    picked: Vec<usize>,
}

impl MessageRules {
    pub(super) fn new(all: Arc<Rules>, picked: Vec<usize>) -> Self {
        Self { all, picked }
    }

    /// What is sent as soon as the WebSocket is open.
    #[must_use]
    pub fn opening(&self) -> Vec<Injection> {
        let made = self.actions().filter_map(|(rule, action)| match action {
            Action::Inject(inject) => inject.at_open(rule),
            _ => None,
        });
        made.collect()
    }

    /// What becomes of a message from this end.
    #[must_use]
    pub fn judge(&self, from: End, opcode: Opcode, payload: &[u8]) -> Judged {
        let made = self.actions().filter_map(|(rule, action)| match action {
            Action::Inject(inject) => inject.after(rule, payload),
            _ => None,
        });
        let injections = made.collect();
        let dropped = self.actions().find(|(_, action)| match action {
            Action::Drop(who, pattern) => who.is(from) && pattern.is_match(payload),
            _ => false,
        });
        if let Some((rule, _)) = dropped {
            return Judged { fate: Fate::Drop { rule }, injections };
        }
        let (mut text, mut rules) = (None, Vec::new());
        for (rule, action) in self.actions().filter(|_| opcode == Opcode::Text) {
            if let Action::Replace(who, replace) = action
                && who.is(from)
                && let Some(changed) = replace.apply(text.as_deref().unwrap_or(payload))
            {
                text = Some(changed);
                rules.push(rule);
            }
        }
        let fate = text.map_or(Fate::Pass, |text| Fate::Replace { text, rules });
        Judged { fate, injections }
    }

    /// The rule at this place, as it is noted.
    #[must_use]
    pub fn text(&self, rule: usize) -> &str {
        self.all.text(rule)
    }

    fn actions(&self) -> impl Iterator<Item = (usize, &Action)> {
        self.picked.iter().filter_map(|&rule| self.all.action(rule).map(|action| (rule, action)))
    }
}

/// A regular expression for messages. It minds case, unlike those of filters, and `.` matches any byte but a line's end.
pub(super) fn pattern(text: &str) -> Result<Regex, Problem> {
    Regex::new(text).map_err(|error| bad_pattern(text, &error))
}

pub(super) fn bad_pattern(text: &str, error: &regex::Error) -> Problem {
    // The crate's message draws its own caret; its last line says what is wrong.
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default();
    let why = last.strip_prefix("error: ").unwrap_or(last).to_owned();
    Problem::Pattern { pattern: text.to_owned(), why }
}
