//! Which blocks of mids a search need not look at: what their zones, and the URLs of their flows, say of a filter.
//!
//! A zone answers each test for all rows of its block, none of them, or neither; only a block of which none can match is
//! left out. What zones know nothing of (notes, records, bodies) is never an answer.

use std::collections::VecDeque;

use regex::bytes::RegexBuilder;

use super::super::index::{Ask, Places};
use super::super::row::TYPE_BYTES;
use super::super::zone::{BLOCK_BITS, Blocks, HostSet, Measure, Property, UrlPattern, Urls, Zone};
use super::super::{Order, Reader, StoreError};
use super::Search;
use crate::filter::{Expr, Flag, Number, Part, Pattern, Ranges, Test, Text};
use crate::flow::{Kind, Mid, State};

/// The ranges of mids in which a filter may match, in the order of the search.
pub(super) struct Candidates<'a> {
    reader: &'a Reader,
    expr: &'a Expr,
    blocks: Blocks<'a>,
    order: Order,
    hosts: Vec<(&'a Pattern, HostSet)>,
    /// The URLs that a flow must have to match, if there is such a condition.
    url: Option<UrlPattern>,
    urls: Urls,
    bodies: Ask<'a>,
    ready: VecDeque<(Mid, Mid)>,
    /// A range that the next one may touch.
    growing: Option<(Mid, Mid)>,
    /// What ended them before their end.
    pub(super) error: Option<StoreError>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        search: &Search<'a>,
        (low, high): (i64, i64),
    ) -> Result<Self, StoreError> {
        let expr = search.filter.expr();
        let mut hosts = Vec::new();
        let mut failed = None;
        expr.each_test(&mut |test| {
            if let Test::Text(Text::Host, pattern) = test {
                match reader.hosts(|name| pattern.is_match(name)) {
                    Ok(set) => hosts.push((pattern, set)),
                    Err(error) => failed = Some(error),
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let mid = |n: i64| Mid(u64::try_from(n).unwrap_or(0));
        Ok(Self {
            reader,
            expr,
            blocks: reader.blocks(mid(low), mid(high), search.order)?,
            order: search.order,
            hosts,
            url: required_url(expr).and_then(url_pattern),
            urls: Urls::default(),
            bodies: super::ask(reader, search.filter)?,
            ready: VecDeque::new(),
            growing: None,
            error: None,
        })
    }

    /// Looks at the next block; `false` when there is none.
    fn advance(&mut self) -> Result<bool, StoreError> {
        let Some(block) = self.blocks.next()? else {
            self.ready.extend(self.growing.take());
            return Ok(false);
        };
        let Some(zone) = &block.zone else {
            self.add(block.first, block.last);
            return Ok(true);
        };
        if self.judge(self.expr, zone) == Some(false) {
            return Ok(true);
        }
        let places = places(self.expr, &mut self.bodies, block.first)?;
        let hits = match &self.url {
            Some(pattern) if self.reader.urls(block.first, &mut self.urls)? => {
                Some(self.urls.search(pattern))
            }
            _ => None,
        };
        if places.is_none() && hits.is_none() {
            self.add(block.first, block.last);
            return Ok(true);
        }
        let may = |mid: Mid| {
            let place = usize::try_from(mid.0 & ((1 << BLOCK_BITS) - 1)).unwrap_or(0);
            places.is_none_or(|places| places[place / 64] >> (place % 64) & 1 == 1)
                && hits.as_ref().is_none_or(|hits| hits.of(mid) != Some(false))
        };
        let mids = (block.first.0..=block.last.0).map(Mid).filter(|&mid| may(mid));
        match self.order {
            Order::OldestFirst => mids.for_each(|mid| self.add(mid, mid)),
            Order::NewestFirst => mids.rev().for_each(|mid| self.add(mid, mid)),
        }
        Ok(true)
    }

    /// Adds a range, to the last one if it is near: a query costs as much as looking at some dozens of rows.
    fn add(&mut self, first: Mid, last: Mid) {
        self.growing = match self.growing.take() {
            None => Some((first, last)),
            Some((low, high)) => {
                let gap = match self.order {
                    Order::OldestFirst => first.0.saturating_sub(high.0),
                    Order::NewestFirst => low.0.saturating_sub(last.0),
                };
                let joined = (low.min(first), high.max(last));
                if gap <= NEAR && joined.1.0 - joined.0.0 < LONGEST {
                    Some(joined)
                } else {
                    self.ready.push_back((low, high));
                    Some((first, last))
                }
            }
        };
    }

    /// What of the rows of `zone` matches: all, none, or neither is known.
    fn judge(&self, expr: &Expr, zone: &Zone) -> Option<bool> {
        match expr {
            Expr::All(parts) => all(parts.iter().map(|part| self.judge(part, zone))),
            Expr::Any(parts) => any(parts.iter().map(|part| self.judge(part, zone))),
            Expr::Not(inner) => self.judge(inner, zone).map(|answer| !answer),
            Expr::Test(Test::Everything) => Some(true),
            Expr::Test(Test::Nothing(_)) => Some(false),
            Expr::Test(Test::Flag(flag)) => judge_flag(*flag, zone),
            Expr::Test(Test::Number(number, ranges)) => judge_number(*number, ranges, zone),
            Expr::Test(Test::Text(text, pattern)) => self.judge_text(*text, pattern, zone),
        }
    }

    fn judge_text(&self, text: Text, pattern: &Pattern, zone: &Zone) -> Option<bool> {
        match text {
            Text::Host => {
                let (_, set) = self.hosts.iter().find(|(of, _)| std::ptr::eq(*of, pattern))?;
                only_none(zone.host(|id| set.contains(id)))
            }
            Text::Scheme => zone.scheme(|scheme| pattern.is_match(scheme.as_str().as_bytes())),
            Text::Method => whole(pattern, |test| zone.method(test)),
            Text::Type(Part::Request) => whole(pattern, |test| zone.request_type(test)),
            Text::Type(Part::Response) => whole(pattern, |test| zone.response_type(test)),
            Text::Type(Part::Either) => any([
                whole(pattern, |test| zone.request_type(test)),
                whole(pattern, |test| zone.response_type(test)),
            ]),
            Text::Header(Part::Response) => only_none(zone.has(Property::Status)),
            Text::Server => only_none(zone.has(Property::Server)),
            Text::Url
            | Text::Path
            | Text::Header(_)
            | Text::Body(_)
            | Text::Client
            | Text::Marker
            | Text::Comment
            | Text::Tag => None,
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = (Mid, Mid);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(range) = self.ready.pop_front() {
                return Some(range);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return self.ready.pop_front(),
                Err(error) => {
                    self.error = Some(error);
                    return None;
                }
            }
        }
    }
}

/// The mids of a block that may match, by the index of bodies; `None` if it leaves none of them out.
fn places(expr: &Expr, bodies: &mut Ask<'_>, block: Mid) -> Result<Option<Places>, StoreError> {
    let join = |one: Places, other: Places, with: fn(u64, u64) -> u64| {
        let mut joined = one;
        joined.iter_mut().zip(other).for_each(|(one, other)| *one = with(*one, other));
        joined
    };
    match expr {
        Expr::Test(Test::Text(Text::Body(part), pattern)) => bodies.places(block, *part, pattern),
        Expr::All(parts) => parts.iter().try_fold(None, |all: Option<Places>, part| {
            Ok(match (all, places(part, bodies, block)?) {
                (Some(all), Some(of_part)) => Some(join(all, of_part, |a, b| a & b)),
                (all, of_part) => all.or(of_part),
            })
        }),
        Expr::Any(parts) => {
            let mut any: Places = Default::default();
            for part in parts {
                let Some(of_part) = places(part, bodies, block)? else { return Ok(None) };
                any = join(any, of_part, |a, b| a | b);
            }
            Ok(Some(any))
        }
        Expr::Not(_) | Expr::Test(_) => Ok(None),
    }
}

fn judge_flag(flag: Flag, zone: &Zone) -> Option<bool> {
    let http = || zone.kind(|kind| matches!(kind, Kind::Http | Kind::Connect));
    let has = |property| zone.has(property);
    match flag {
        Flag::Http => http(),
        Flag::Tunnel => zone.kind(|kind| kind == Kind::Tunnel),
        Flag::WebSocket => only_none(all([
            zone.kind(|kind| kind == Kind::Http),
            any([zone.status(|status| status == 101), zone.method(|method| method == b"CONNECT")]),
        ])),
        Flag::Pending => all([http(), has(Property::Status).map(|has| !has)]),
        Flag::Answered => all([http(), has(Property::Status)]),
        Flag::Error => has(Property::Error),
        Flag::Marked => None,
        Flag::Replay => has(Property::ReplayOf),
        Flag::Asset => only_none(has(Property::ResponseType)),
        Flag::Truncated => any([has(Property::RequestTruncated), has(Property::ResponseTruncated)]),
        Flag::TlsFailed => only_none(any([zone.kind(|kind| kind == Kind::Tls), has(Property::Error)])),
        // One that was open may have been marked as interrupted since.
        Flag::Open => only_none(zone.state(|state| state == State::Open)),
    }
}

fn judge_number(number: Number, ranges: &Ranges, zone: &Zone) -> Option<bool> {
    let within = |measure| zone.measure(measure, ranges.as_slice());
    match number {
        Number::Status => zone.status(|status| ranges.contains(status)),
        Number::Port => zone.port(|port| ranges.contains(port)),
        Number::Size(Part::Either) => within(Measure::Len),
        Number::Size(Part::Request) => within(Measure::RequestLen),
        Number::Size(Part::Response) => within(Measure::ResponseLen),
        Number::Duration => within(Measure::Duration),
        Number::Started => within(Measure::Started),
        // The walk is within them anyway.
        Number::Mid => None,
    }
}

/// The answer of a test on texts that a row may hold cut: with one that may be, none is known.
fn whole(pattern: &Pattern, ask: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> Option<bool>) -> Option<bool> {
    let mut cut = false;
    let answer = ask(&mut |text| {
        cut |= text.len() >= TYPE_BYTES;
        cut || pattern.is_match(text)
    });
    if cut { None } else { answer }
}

/// All of `answers`. Stops at the first that decides.
fn all(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut sure = true;
    for answer in answers {
        match answer {
            Some(false) => return Some(false),
            Some(true) => {}
            None => sure = false,
        }
    }
    sure.then_some(true)
}

fn any(answers: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    all(answers.into_iter().map(|answer| answer.map(|answer| !answer))).map(|none| !none)
}

/// Of a condition that is necessary and not sufficient.
fn only_none(answer: Option<bool>) -> Option<bool> {
    answer.filter(|&all| !all)
}

/// The pattern that a flow's URL must match for the filter to match.
fn required_url(expr: &Expr) -> Option<&Pattern> {
    match expr {
        Expr::Test(Test::Text(Text::Url, pattern)) => Some(pattern),
        Expr::All(parts) => parts.iter().find_map(required_url),
        Expr::Any(_) | Expr::Not(_) | Expr::Test(_) => None,
    }
}

fn url_pattern(pattern: &Pattern) -> Option<UrlPattern> {
    let mut builder: RegexBuilder = pattern.builder();
    // One that is too large for many lines is tried row by row.
    match pattern.line_builder() {
        Some(mut lines) => UrlPattern::with_lines(&mut builder, &mut lines).ok(),
        None => UrlPattern::new(&mut builder).ok(),
    }
}

/// Ranges with fewer mids between them are searched as one.
const NEAR: u64 = 64;

/// Mids of a range at most, so that what is found first is told before all is looked at.
const LONGEST: u64 = 8192;
