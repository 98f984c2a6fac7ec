//! The rows of several stores in order of time.
//!
//! Each store's rows stay in the order of their mids; stores are merged by the times at which flows began. A store is open
//! only while its turn lasts: of a year of daily files, one or two at a time. So memory is that of a few pages.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::row;
use super::stores::Opened;
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{ListQuery, Note, Order, Progress, Reader, Row, Search, StoreError};

/// A store, and which of its rows are wanted.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// What the store is called in a list; `None` if it needs no name.
    pub(super) name: Option<Arc<str>>,
    pub(super) after: Option<Mid>,
    pub(super) before: Option<Mid>,
    /// What the rows have to match.
    pub(super) filter: Option<Arc<Filter>>,
}

/// A row with what lists show beside it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: Row,
    /// Of a WebSocket: how many are stored, if any.
    pub(super) messages: Option<u64>,
    pub(super) store: Option<Arc<str>>,
    /// What people wrote beside it.
    pub(super) note: Option<Note>,
    /// Which of the parts it is of.
    pub(super) part: usize,
}

/// Goes through the rows of several stores.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    parts: &'a [Part],
    order: Order,
    /// How many rows are wanted.
    limit: usize,
    /// Stores whose turn has not come: the last is the next. With the key of their first row.
    waiting: Vec<(i64, usize)>,
    open: Vec<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    part: usize,
    reader: Reader,
    page: VecDeque<Row>,
    /// Those of the page.
    notes: BTreeMap<Mid, Note>,
    query: ListQuery,
    filter: Option<Arc<Filter>>,
    /// Whether a search has come to its end.
    searched: bool,
    /// Flows that may have matched and could not be read.
    unreadable: u64,
}

impl Found {
    /// With what is stored beside the row. A list is worth having without what cannot be read of that.
    pub(super) fn of(
        row: Row,
        reader: Option<&Reader>,
        part: usize,
        store: Option<Arc<str>>,
        note: Option<Note>,
    ) -> Self {
        // A look-up a row, so only for the few that may have some.
        let reader = reader.filter(|_| row::may_have_messages(&row));
        let messages = reader.and_then(|reader| reader.last_message(row.mid).ok()).filter(|&count| count > 0);
        Self { row, messages, store, note, part }
    }
}

impl<'a> Merged<'a> {
    /// Begins. Stores that cannot be read are told of, unless there is only one.
    ///
    /// # Errors
    /// If the only store cannot be read.
    pub(super) fn open(
        parts: &'a [Part],
        order: Order,
        limit: usize,
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
        Ok(Self { parts, order, limit, waiting, open: Vec::new() })
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

    /// Sees to it that each open store has its next row, and closes those that have none. Not before a row is asked for:
    /// the search for one that nobody wants may take long.
    fn fill(&mut self, opened: &mut Opened) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(cursor) = self.open.get_mut(at) {
            let filled = if cursor.page.is_empty() { cursor.fill() } else { Ok(()) };
            if opened.keep(filled)?.is_none() || self.open[at].page.is_empty() {
                opened.unreadable += self.open.swap_remove(at).unreadable;
            } else {
                opened.unreadable += std::mem::take(&mut self.open[at].unreadable);
                at += 1;
            }
        }
        Ok(())
    }

    fn key(&self, row: &Row) -> i64 {
        key(row, self.order)
    }

    fn page(&self) -> usize {
        self.limit.clamp(1, if self.parts.len() == 1 { PAGE } else { SMALL_PAGE })
    }

    /// Whether the next row has to be searched for.
    pub(super) fn must_search(&self) -> bool {
        self.open.iter().any(|cursor| cursor.filter.is_some() && cursor.page.is_empty())
    }
}

impl Cursor {
    fn open(part: &Part, at: usize, order: Order, page: usize) -> Result<Self, StoreError> {
        let query = ListQuery { limit: Some(page), before: part.before, after: part.after, order };
        let reader = Reader::open(&part.path)?;
        Ok(Self {
            part: at,
            reader,
            page: VecDeque::new(),
            notes: BTreeMap::new(),
            query,
            filter: part.filter.clone(),
            searched: false,
            unreadable: 0,
        })
    }

    fn pop(&mut self, parts: &[Part]) -> Option<Found> {
        let row = self.page.pop_front()?;
        let note = self.notes.remove(&row.mid);
        Some(Found::of(row, Some(&self.reader), self.part, parts[self.part].name.clone(), note))
    }

    /// Brings the next page: by key, so that it costs the same wherever it is.
    fn fill(&mut self) -> Result<(), StoreError> {
        if let Some(filter) = self.filter.clone() {
            self.search(&filter)?;
        } else {
            self.list()?;
        }
        let mids: Vec<Mid> = self.page.iter().map(|row| row.mid).collect();
        self.notes = self.reader.notes(&mids)?;
        Ok(())
    }

    fn list(&mut self) -> Result<(), StoreError> {
        self.page = self.reader.list(&self.query)?.into();
        let last = self.page.back().map(|row| row.mid);
        match self.query.order {
            Order::NewestFirst => self.query.before = last.or(self.query.before),
            Order::OldestFirst => self.query.after = last.or(self.query.after),
        }
        Ok(())
    }
}

impl Cursor {
    /// Brings the next page of what matches, as soon as a step of the search has found some.
    fn search(&mut self, filter: &Filter) -> Result<(), StoreError> {
        let ListQuery { limit, before, after, order } = self.query;
        while self.page.is_empty() && !self.searched {
            let search = Search {
                limit,
                before: self.query.before,
                after: self.query.after,
                order,
                ..Search::new(filter)
            };
            let page = RefCell::new(VecDeque::new());
            let mut found = |row| {
                page.borrow_mut().push_back(row);
                ControlFlow::Continue(())
            };
            let mut step = |_: &Progress| match page.borrow().is_empty() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
            let progress = self.reader.search(&search, &mut found, &mut step)?;
            self.unreadable += progress.unreadable;
            self.searched = progress.complete;
            self.page = page.into_inner();
            // A full page ends within a step: what was looked at behind it is looked at again.
            let last = self.page.back().map(|row| row.mid);
            let full = limit.is_some_and(|limit| self.page.len() >= limit);
            let reached = if full { last } else { progress.reached.or(last) };
            match order {
                Order::NewestFirst => self.query.before = reached.or(before),
                Order::OldestFirst => self.query.after = reached.or(after),
            }
        }
        Ok(())
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
