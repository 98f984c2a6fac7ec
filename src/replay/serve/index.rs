//! Entering flows into the index of answers: from their rows alone where these say enough, else from their records.

use std::cell::RefCell;
use std::io::Read;
use std::ops::ControlFlow;

use super::ServeOptions;
use super::key::{BodySum, Field, Parts};
use super::payload::{Kind as Payload, MAX_VALUE, value_sum};
use super::recorded::{Unfit, fitness, is_recorded};
use crate::filter::Filter;
use crate::flow::{Body, Flow, Kind, Mid, Request, State};
use crate::store::{AnswerEntry, AnswerIndex, ListQuery, Order, Reader, Row, Search, StoreError};

/// How far the index has come, or what it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indexed {
    /// Flows in the store.
    pub total: u64,
    /// Flows that were looked at: those that match the filter.
    pub seen: u64,
    /// Flows that can answer.
    pub answers: u64,
    /// Flows that could, were they whole on record.
    pub truncated: u64,
    /// Flows that could not be read.
    pub unreadable: u64,
}

/// Enters flows.
pub(super) struct Indexer<'a> {
    pub(super) reader: &'a Reader,
    pub(super) index: &'a AnswerIndex,
    pub(super) options: &'a ServeOptions,
    pub(super) done: Indexed,
}

impl Indexer<'_> {
    /// Enters what matches, all flows without a filter; tells `progress` as it goes on.
    pub(super) fn all(
        &mut self,
        filter: Option<&Filter>,
        after: Option<Mid>,
        progress: &mut dyn FnMut(&Indexed),
    ) -> Result<(), StoreError> {
        self.done.total = self.reader.bounds()?.map_or(0, |(_, _, count)| count);
        match filter {
            Some(filter) => self.matching(filter, after, progress),
            None => self.every(after, progress),
        }
    }

    fn every(
        &mut self,
        mut after: Option<Mid>,
        progress: &mut dyn FnMut(&Indexed),
    ) -> Result<(), StoreError> {
        loop {
            let query =
                ListQuery { limit: Some(PAGE), after, order: Order::OldestFirst, ..ListQuery::default() };
            let rows = self.reader.list(&query)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.mid);
            self.rows(&rows)?;
            progress(&self.done);
        }
    }

    fn matching(
        &mut self,
        filter: &Filter,
        after: Option<Mid>,
        progress: &mut dyn FnMut(&Indexed),
    ) -> Result<(), StoreError> {
        let search = Search { order: Order::OldestFirst, after, ..Search::new(filter) };
        let page = RefCell::new(Vec::new());
        let mut failed = None;
        let mut found = |row| {
            page.borrow_mut().push(row);
            ControlFlow::Continue(())
        };
        let reader = self.reader;
        // A step finds no more than a few hundred.
        let mut step_is_over = |_: &crate::store::Progress| {
            let rows = std::mem::take(&mut *page.borrow_mut());
            match self.rows(&rows) {
                Ok(()) => {
                    progress(&self.done);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let searched = reader.search(&search, &mut found, &mut step_is_over)?;
        match failed {
            Some(error) => Err(error),
            None => {
                self.done.unreadable += searched.unreadable;
                // What the last step found, if it ended the search.
                let rows = page.take();
                self.rows(&rows)
            }
        }
    }

    /// Enters those of these flows that can answer.
    pub(super) fn rows(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            self.done.seen += 1;
            match self.entry(row) {
                Ok(Ok(entry)) => entries.push(entry),
                Ok(Err(Unfit::Truncated)) => self.done.truncated += 1,
                Ok(Err(Unfit::NoAnswer | Unfit::Unread)) => {}
                Err(StoreError::Damaged { .. }) => self.done.unreadable += 1,
                Err(error) => return Err(error),
            }
        }
        self.done.answers += entries.len() as u64;
        self.index.add(&entries)
    }

    fn entry(&self, row: &Row) -> Result<Result<AnswerEntry, Unfit>, StoreError> {
        if row.kind != Kind::Http || row.state == State::Open || row.status.is_none() {
            return Ok(Err(Unfit::NoAnswer));
        }
        let truncated = row.response_truncated && row.error.is_none();
        if truncated && !self.options.allow_truncated {
            return Ok(Err(Unfit::Truncated));
        }
        let matching = &self.options.matching;
        let (sums, body) = if self.is_told_by(row) {
            let parts = Parts {
                method: row.method.as_bytes(),
                websocket: false,
                scheme: row.scheme,
                host: &row.host,
                port: row.port,
                target: row.path.as_bytes(),
                headers: None,
            };
            (parts.sum(matching), BodySum::NONE)
        } else {
            let Some(flow) = self.reader.flow_alone(row.mid)? else { return Ok(Err(Unfit::NoAnswer)) };
            if let Err(unfit) = fitness(&flow, self.options.allow_truncated) {
                return Ok(Err(unfit));
            }
            let Some(request) = &flow.request else { return Ok(Err(Unfit::NoAnswer)) };
            let Some(body) = self.body(&flow, request)? else { return Ok(Err(Unfit::Truncated)) };
            (Parts::of(&flow, request).sum(matching), body)
        };
        let key = sums.key(body);
        let (mid, at_unix_ns) = (row.mid, row.started_unix_ns);
        Ok(Ok(AnswerEntry { mid, at_unix_ns, key, head: sums.head, path: sums.path, host: sums.host }))
    }

    /// Whether a row says all that is needed: of a plain request without a body that was answered as it should be. Its text
    /// is that of the request, but for bytes that are not UTF-8 and the end of a long path.
    fn is_told_by(&self, row: &Row) -> bool {
        let matching = &self.options.matching;
        let replaced = |text: &str| text.contains('\u{fffd}');
        row.state == State::Complete
            && row.error.is_none()
            && row.status != Some(101)
            && (row.request_len == 0 || !matching.has(&Field::Body))
            && matching.headers().next().is_none()
            && row.method != "CONNECT"
            && row.path.len() < WHOLE_PATH
            && !(replaced(&row.path) || replaced(&row.method) || replaced(&row.host))
    }

    /// The sum of a request's body; `None` where it counts and is not whole on record.
    fn body(&self, flow: &Flow, request: &Request) -> Result<Option<BodySum>, StoreError> {
        let matching = &self.options.matching;
        let body = &request.body;
        // What a WebSocket's client says comes after the handshake.
        if !matching.has(&Field::Body) || flow.websocket.is_some() || body.len == 0 {
            return Ok(Some(BodySum::NONE));
        }
        if !is_recorded(body) {
            return Ok(None);
        }
        let ignored = matching.payload_params();
        let kind = Payload::of(&request.headers, !ignored.is_empty());
        if kind != Payload::Bytes
            && body.len <= MAX_VALUE as u64
            && let Some(sum) = value_sum(&kind, &self.bytes(flow, body)?, &ignored)
        {
            return Ok(Some(BodySum::of_value(sum)));
        }
        let mut hasher = BodySum::hasher();
        let mut reader = self.reader.body(body)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Some(BodySum::of_bytes(&hasher))),
                Ok(len) => hasher.update(&buffer[..len]),
                Err(_) => return Ok(None),
            };
        }
    }

    fn bytes(&self, flow: &Flow, body: &Body) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = self.reader.body(body)?.take(MAX_VALUE as u64).read_to_end(&mut bytes);
        if let Err(error) = read {
            let mid = flow.mid.unwrap_or(Mid(0));
            tracing::debug!(%mid, %error, "a request's body cannot be read");
            bytes.clear();
        }
        Ok(bytes)
    }
}

/// Rows in memory at a time.
const PAGE: usize = 1000;

/// A row holds so much of a path (`Row::path`).
const WHOLE_PATH: usize = 8 << 10;

/// Arbitrary: large enough that system calls do not count.
const BUFFER: usize = 64 << 10;
