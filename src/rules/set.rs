//! All rules of a proxy, read once, and what they say of a request.

use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;

use super::ahead::Ahead;
use super::block::{self, Block};
use super::error::{Problem, RuleError};
use super::header::{self, Edit};
use super::inject::{self, Inject};
use super::messages::{MessageRules, Who};
use super::replace::{self, Replace};
use super::{delay, drop, spec};
use crate::filter::{Filter, FlowSubject};
use crate::flow::{ClientConn, Flow, Headers, Request, Target};
use crate::http1::{remove_field, upgrade_tokens};

/// The kinds of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// A request is not sent on.
    Block,
    /// A request is held.
    Delay,
    /// A field of a request is set.
    SetHeader,
    /// Fields of a request are removed.
    RemoveHeader,
    /// Messages of WebSockets are changed.
    WsReplace,
    /// Messages of WebSockets are dropped.
    WsDrop,
    /// Messages of WebSockets are made.
    WsInject,
}

impl RuleKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Block,
        Self::Delay,
        Self::RemoveHeader,
        Self::SetHeader,
        Self::WsReplace,
        Self::WsDrop,
        Self::WsInject,
    ];

    /// Its flag.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            RuleKind::Block => "--block",
            RuleKind::Delay => "--delay",
            RuleKind::SetHeader => "--set-header",
            RuleKind::RemoveHeader => "--remove-header",
            RuleKind::WsReplace => "--ws-replace",
            RuleKind::WsDrop => "--ws-drop",
            RuleKind::WsInject => "--ws-inject",
        }
    }

    /// How a rule of this kind begins, up to what it sends, which may be a secret; the whole rule where it sends nothing of
    /// its own.
    pub(crate) fn without_secret(self, text: &str) -> &str {
        match self {
            RuleKind::SetHeader => header::without_value(text),
            RuleKind::WsReplace | RuleKind::WsInject => match spec::parts::<4>(text, "") {
                Ok([_, _, _, sent]) => &text[..text.len() - sent.len()],
                // Nobody knows where it is.
                Err(_) => "",
            },
            RuleKind::Block | RuleKind::Delay | RuleKind::RemoveHeader | RuleKind::WsDrop => text,
        }
    }

    fn parse(self, text: &str) -> Result<(Option<Filter>, Action), Problem> {
        Ok(match self {
            RuleKind::Block => block::parse(text).map(|(filter, block)| (filter, Action::Block(block)))?,
            RuleKind::Delay => delay::parse(text).map(|(filter, time)| (filter, Action::Delay(time)))?,
            RuleKind::SetHeader => {
                header::parse_set(text).map(|(filter, edit)| (filter, Action::Edit(edit)))?
            }
            RuleKind::RemoveHeader => {
                header::parse_remove(text).map(|(filter, edit)| (filter, Action::Edit(edit)))?
            }
            RuleKind::WsReplace => {
                replace::parse(text).map(|(filter, who, it)| (filter, Action::Replace(who, it)))?
            }
            RuleKind::WsDrop => drop::parse(text).map(|(filter, who, it)| (filter, Action::Drop(who, it)))?,
            RuleKind::WsInject => inject::parse(text).map(|(filter, it)| (filter, Action::Inject(it)))?,
        })
    }
}

/// All rules of a proxy, in their order. Two are equal if they were written alike.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    list: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// As it was written.
    given: String,
    /// As it is noted in flows.
    text: String,
    /// `None`: every flow.
    filter: Option<Filter>,
    action: Action,
}

/// What a rule does.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Block(Block),
    Delay(Duration),
    Edit(Edit),
    Replace(Who, Replace),
    Drop(Who, Regex),
    Inject(Inject),
}

impl Action {
    fn is_on_messages(&self) -> bool {
        matches!(self, Action::Replace(..) | Action::Drop(..) | Action::Inject(_))
    }
}

/// What rules say of a request. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It is not sent on; then nothing else is said.
    pub block: Option<Block>,
    /// How long it is held.
    pub delay: Duration,
    /// Its fields as they are to be sent on; `None`: as they came.
    pub changed: Option<Headers>,
    /// The places of the rules that have a part in it.
    pub rules: Vec<usize>,
}

impl Rules {
    /// Reads a rule, which comes behind those that are there.
    ///
    /// # Errors
    /// If the text is no rule of this kind: what is wrong, and for a filter where.
    pub fn add(&mut self, kind: RuleKind, text: &str) -> Result<(), RuleError> {
        let wrong = |problem| {
            let text = if kind == RuleKind::SetHeader { header::told(text) } else { text.to_owned() };
            RuleError { flag: kind.flag(), text, problem }
        };
        let (filter, action) = kind.parse(text).map_err(wrong)?;
        let name = kind.flag().trim_start_matches('-');
        let told = if matches!(action, Action::Edit(_)) { header::without_value(text) } else { text };
        let noted = format!("{name} {told}");
        self.list.push(Rule { given: text.to_owned(), text: noted, filter, action });
        Ok(())
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is to be done with a request whose head has come, and which is in the flow. A WebSocket that rules on messages
    /// concern goes without extensions: so its messages can be read and written as they are, whatever was compressed before
    /// them.
    #[must_use]
    pub fn request(&self, flow: &Flow) -> Verdict {
        let Some(request) = &flow.request else { return Verdict::default() };
        if let Some((rule, block)) = self.block(flow) {
            return Verdict { block: Some(block), rules: vec![rule], ..Verdict::default() };
        }
        let mut verdict = Verdict::default();
        for (at, rule) in self.matching(flow) {
            match &rule.action {
                Action::Delay(time) => {
                    verdict.delay = verdict.delay.saturating_add(*time);
                    verdict.rules.push(at);
                }
                Action::Edit(edit) => {
                    let headers = verdict.changed.as_ref().unwrap_or(&request.headers);
                    if let Some(changed) = edit.apply(headers, request.version) {
                        verdict.changed = Some(changed);
                        verdict.rules.push(at);
                    }
                }
                _ => {}
            }
        }
        let headers = verdict.changed.as_ref().unwrap_or(&request.headers);
        if asks_for_websocket(request)
            && headers.get(EXTENSIONS).is_some()
            && self.matching(flow).any(|(_, rule)| rule.action.is_on_messages())
        {
            let mut headers = headers.clone();
            remove_field(&mut headers, EXTENSIONS.as_bytes());
            verdict.changed = Some(headers);
        }
        verdict
    }

    /// The first rule that blocks a flow of which a request has come, a `CONNECT` too; and how.
    #[must_use]
    pub fn block(&self, flow: &Flow) -> Option<(usize, Block)> {
        self.matching(flow).find_map(|(at, rule)| match rule.action {
            Action::Block(block) => Some((at, block)),
            _ => None,
        })
    }

    /// Whether each request to a target is blocked that this client may come to send, by what is known of it before the first
    /// one.
    #[must_use]
    pub fn blocks_ahead(&self, target: &Target, client: &Arc<ClientConn>) -> bool {
        if !self.list.iter().any(|rule| matches!(rule.action, Action::Block(_))) {
            return false;
        }
        let flow = Flow { target: target.clone(), ..Flow::of(Arc::clone(client)) };
        self.list.iter().any(|rule| {
            let filter = rule.filter.as_ref();
            let Ok(answer) = filter.map_or(Ok(Some(true)), |filter| filter.judge(&mut Ahead(&flow)));
            matches!(rule.action, Action::Block(_)) && answer == Some(true)
        })
    }

    /// The rules on messages that a WebSocket concerns; `None` if there are none, and it may pass untouched.
    #[must_use]
    pub fn messages(self: &Arc<Self>, flow: &Flow) -> Option<MessageRules> {
        let picked = self.matching(flow).filter(|(_, rule)| rule.action.is_on_messages());
        let picked: Vec<_> = picked.map(|(at, _)| at).collect();
        (!picked.is_empty()).then(|| MessageRules::new(Arc::clone(self), picked))
    }

    /// The rule at this place, as it is noted in flows; empty if there is none.
    #[must_use]
    pub fn text(&self, rule: usize) -> &str {
        self.list.get(rule).map_or("", |rule| &rule.text)
    }

    pub(super) fn action(&self, rule: usize) -> Option<&Action> {
        self.list.get(rule).map(|rule| &rule.action)
    }

    /// The rules that a flow concerns, with their places.
    fn matching<'a>(&'a self, flow: &'a Flow) -> impl Iterator<Item = (usize, &'a Rule)> {
        let mid = flow.mid.map_or(0, |mid| i64::try_from(mid.0).unwrap_or(i64::MAX));
        let concerns = move |rule: &Rule| match &rule.filter {
            None => true,
            Some(filter) => {
                let Ok(answer) = filter.judge(&mut FlowSubject { flow, mid, notes: None });
                answer == Some(true)
            }
        };
        self.list.iter().enumerate().filter(move |(_, rule)| concerns(rule))
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        let written = |rules: &Self| -> Vec<(String, String)> {
            rules.list.iter().map(|rule| (rule.text.clone(), rule.given.clone())).collect()
        };
        written(self) == written(other)
    }
}

impl Eq for Rules {}

/// RFC 6455 §4.1, RFC 8441 §5.
fn asks_for_websocket(request: &Request) -> bool {
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(b"websocket");
    request.protocol.as_deref().is_some_and(is_it) || upgrade_tokens(request).is_some_and(is_it)
}

const EXTENSIONS: &str = "sec-websocket-extensions";
