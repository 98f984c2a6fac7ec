//! The rows of several stores in order of time.
//!
//! Each store's rows stay in the order of their mids; stores are merged by the times at which flows began. A store is open
//! only while its turn lasts: of a year of daily files, one or two at a time. So memory is that of a few pages.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::row;
use super::stores::Opened;
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{ListQuery, Order, Progress, Reader, Row, Search, StoreError};

/// A store, and which of its rows are wanted.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// What the store is called in a list; `None` if it needs no name.
    pub(super) name: Option<Arc<str>>,
    pub(super) after: Option<Mid>,
    pub(super) before: Option<Mid>,
}

/// A row with what lists show beside it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: Row,
    /// Of a WebSocket: how many are stored, if any.
    pub(super) messages: Option<u64>,
    pub(super) store: Option<Arc<str>>,
    /// Which of the parts it is of.
    pub(super) part: usize,
}

/// Goes through the rows of several stores.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    parts: &'a [Part],
    filter: Option<&'a Filter>,
    order: Order,
    /// Stores whose turn has not come: the last is the next. With the key of their first row.
    waiting: Vec<(i64, usize)>,
    open: Vec<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    part: usize,
    reader: Reader,
    page: VecDeque<Row>,
    query: ListQuery,
}

impl Found {
    /// With what is stored beside the row. A list is worth having without what cannot be read of that.
    pub(super) fn of(row: Row, reader: Option<&Reader>, part: usize, store: Option<Arc<str>>) -> Self {
        // A look-up a row, so only for the few that may have some.
        let reader = reader.filter(|_| row::may_have_messages(&row));
        let messages = reader.and_then(|reader| reader.last_message(row.mid).ok()).filter(|&count| count > 0);
        Self { row, messages, store, part }
    }
}

impl<'a> Merged<'a> {
    /// Begins. Stores that cannot be read are told of, unless there is only one.
    ///
    /// # Errors
    /// If the only store cannot be read.
    pub(super) fn open(
        parts: &'a [Part],
        filter: Option<&'a Filter>,
        order: Order,
        opened: &mut Opened,
    ) -> anyhow::Result<Self> {
        let mut waiting = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let first = match parts.len() {
                1 => Some(Some(0)), // no turns, and so no need to know
                _ => opened.keep(first_key(part, order))?,
            };
            waiting.extend(first.flatten().map(|key| (key, at)));
        }
        waiting.sort_unstable_by_key(|&first| std::cmp::Reverse(first));
        Ok(Self { parts, filter, order, waiting, open: Vec::new() })
    }

    /// The next row.
    ///
    /// # Errors
    /// If the only store cannot be read.
    pub(super) fn next(&mut self, opened: &mut Opened) -> anyhow::Result<Option<Found>> {
        loop {
            self.fill(opened)?;
            let heads =
                self.open.iter().map(|cursor| cursor.page.front().map_or(i64::MAX, |row| self.key(row)));
            let best = heads.enumerate().min_by_key(|&(_, key)| key);
            if let Some(&(key, part)) = self.waiting.last()
                && best.is_none_or(|(_, best)| key <= best)
            {
                self.waiting.pop();
                let cursor = Cursor::open(&self.parts[part], part, self.order, self.page());
                self.open.extend(opened.keep(cursor)?);
                continue;
            }
            return Ok(best.and_then(|(at, _)| self.open[at].pop(self.parts)));
        }
    }

    /// Whether the next row has to be searched for, which may take a while.
    pub(super) fn is_searching(&self) -> bool {
        self.filter.is_some() && self.open.iter().any(|cursor| cursor.page.is_empty())
    }

    /// Sees to it that each open store has its next row, and closes those that have none. Not before it is needed: it may
    /// never be.
    fn fill(&mut self, opened: &mut Opened) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(cursor) = self.open.get_mut(at) {
            let mut is_over = false;
            if cursor.page.is_empty() {
                let filled = match self.filter {
                    None => cursor.list(),
                    Some(filter) => cursor.search(filter),
                };
                let unreadable = opened.keep(filled)?;
                opened.unreadable += unreadable.unwrap_or(0);
                is_over = unreadable.is_none() || cursor.page.is_empty();
            }
            if is_over {
                self.open.swap_remove(at);
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    fn key(&self, row: &Row) -> i64 {
        key(row, self.order)
    }

    fn page(&self) -> usize {
        if self.parts.len() == 1 { PAGE } else { SMALL_PAGE }
    }
}

impl Cursor {
    fn open(part: &Part, at: usize, order: Order, page: usize) -> Result<Self, StoreError> {
        let query = ListQuery { limit: Some(page), before: part.before, after: part.after, order };
        let reader = Reader::open(&part.path)?;
        Ok(Self { part: at, reader, page: VecDeque::new(), query })
    }

    fn pop(&mut self, parts: &[Part]) -> Option<Found> {
        let row = self.page.pop_front()?;
        Some(Found::of(row, Some(&self.reader), self.part, parts[self.part].name.clone()))
    }

    /// Brings the next page: by key, so that it costs the same wherever it is. How many flows could not be read.
    fn list(&mut self) -> Result<u64, StoreError> {
        self.page = self.reader.list(&self.query)?.into();
        self.go_on_from(self.page.back().map(|row| row.mid));
        Ok(0)
    }

    /// Brings some of the next that match, as soon as some are found.
    fn search(&mut self, filter: &Filter) -> Result<u64, StoreError> {
        let page = RefCell::new(VecDeque::new());
        let ListQuery { limit, before, after, order } = self.query;
        let search = Search { limit, before, after, order, ..Search::new(filter) };
        let mut found = |row| {
            page.borrow_mut().push_back(row);
            ControlFlow::Continue(())
        };
        let mut step_is_over = |_: &Progress| match page.borrow().is_empty() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let progress = self.reader.search(&search, &mut found, &mut step_is_over)?;
        self.page = page.into_inner();
        let last = self.page.back().map(|row: &Row| row.mid);
        // A full page ends within a step; else the step may have gone further than to the last that matched.
        let is_full = limit.is_some_and(|limit| self.page.len() >= limit);
        self.go_on_from(if is_full { last } else { progress.reached.or(last) });
        Ok(progress.unreadable)
    }

    fn go_on_from(&mut self, mid: Option<Mid>) {
        match self.query.order {
            Order::NewestFirst => self.query.before = mid.or(self.query.before),
            Order::OldestFirst => self.query.after = mid.or(self.query.after),
        }
    }
}

/// The key of a store's first row; `None` if it has none.
fn first_key(part: &Part, order: Order) -> Result<Option<i64>, StoreError> {
    let query = ListQuery { limit: Some(1), before: part.before, after: part.after, order };
    Ok(Reader::open(&part.path)?.list(&query)?.first().map(|row| key(row, order)))
}

/// Rows come by rising keys.
fn key(row: &Row, order: Order) -> i64 {
    match order {
        Order::OldestFirst => row.started_unix_ns,
        Order::NewestFirst => row.started_unix_ns.saturating_neg(),
    }
}

/// Rows in memory at a time; a row is some hundred bytes.
pub(super) const PAGE: usize = 1000;

/// The same of each of several stores.
const SMALL_PAGE: usize = 200;
