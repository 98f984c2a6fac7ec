//! Searching a store: which flows match a filter, in constant memory, newest or oldest first.
//!
//! A filter is answered in four steps, each on what the one before left: blocks of mids in which nothing can match, and the
//! mids of others that may, by their URLs and by the index of bodies (`zones`); a condition in SQL, necessary and not always
//! sufficient (`sql`); the tests that a row's columns, or the index, can answer, before anything is copied (`row`); the record
//! and the bodies (`body`). Only SQLite's columns, records that may match and bodies that must be looked into are read.
//!
//! The walk goes over ranges of mids, in steps that each read one snapshot of the store and end soon: so a long search
//! keeps no old state of the database alive, however slow its bodies or its reader are, and can be stopped at any step.

mod body;
mod row;
mod sql;
mod zones;

use std::cell::Cell;
use std::ops::ControlFlow;

use super::index::Ask;
use super::row::{Row, sqlite_int};
use super::{Order, Reader, StoreError};
use crate::filter::{Filter, FlowSubject, Required, Subject, Test, Text};
use crate::flow::{Flow, Mid};

use body::Bodies;
use row::{Lookups, RowSubject};
use sql::{Condition, Schema};
use zones::Candidates;

/// What is searched for, and where.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// What matches.
    pub filter: &'a Filter,
    /// Only mids below this one.
    pub before: Option<Mid>,
    /// Only mids above this one.
    pub after: Option<Mid>,
    /// From which end.
    pub order: Order,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// How many decoded bytes of each body are searched.
    pub max_body: u64,
}

/// How far a search has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last mid that was dealt with; all on this side of it are.
    pub reached: Option<Mid>,
    /// Flows that matched.
    pub found: u64,
    /// Rows that SQL let through.
    pub rows: u64,
    /// Records that had to be read.
    pub records: u64,
    /// Flows that could not be read whole, and may have matched: their record or a body is damaged.
    pub unreadable: u64,
    /// Whether everything was searched; `false` where it was stopped, or the limit was reached.
    pub complete: bool,
}

/// Which part of a filter is answered how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The condition in SQL; `None` if every row is looked at.
    pub sql: Option<String>,
    /// Asked of a row's columns, and of what is looked up beside it.
    pub row: Vec<String>,
    /// Needs the record.
    pub record: Vec<String>,
    /// Needs bodies.
    pub bodies: Vec<String>,
    /// For each of `bodies`, what a body must have for it that an index of bodies can be asked for; `None` if there is no such.
    pub index: Vec<Option<String>>,
}

/// Tells which part of `filter` a search answers how.
#[must_use]
pub fn explain(filter: &Filter) -> Explanation {
    let condition = Condition::of(filter.expr(), &Schema::newest());
    let mut explanation = Explanation { sql: condition.readable(), ..Explanation::default() };
    for test in &condition.open {
        let list = match test.needs() {
            crate::filter::Needs::Row => &mut explanation.row,
            crate::filter::Needs::Record => &mut explanation.record,
            crate::filter::Needs::Bodies => &mut explanation.bodies,
        };
        list.push(test.in_words());
        if let Test::Text(Text::Body(_), pattern) = test {
            let required = Some(pattern.required()).filter(|required| *required != Required::Nothing);
            explanation.index.push(required.map(|required| required.to_string()));
        }
    }
    explanation
}

impl<'a> Search<'a> {
    /// Everything that matches, newest first.
    #[must_use]
    pub fn new(filter: &'a Filter) -> Self {
        Self { filter, before: None, after: None, order: Order::NewestFirst, limit: None, max_body: MAX_BODY }
    }
}

impl Reader {
    /// Gives every flow that matches to `found`, in order; tells `progress` after each step. Either may stop the search.
    ///
    /// Flows that are recorded while it runs are found if it has not passed their mid. A flow that cannot be read does not
    /// match; how many there were is in the [`Progress`].
    ///
    /// # Errors
    /// What SQLite said.
    pub fn search(
        &self,
        search: &Search<'_>,
        found: &mut dyn FnMut(Row) -> ControlFlow<()>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Progress, StoreError> {
        let mut candidates = Candidates::new(self, search, bounds(search))?;
        let done = self.search_in(search, &mut candidates, found, progress)?;
        match candidates.error {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    /// As [`Reader::search`], of nothing but the mids in `ranges`, both ends within, which come in the order of the search
    /// and do not overlap. Whatever knows that nothing between them matches may leave it out.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn search_in(
        &self,
        search: &Search<'_>,
        ranges: &mut dyn Iterator<Item = (Mid, Mid)>,
        found: &mut dyn FnMut(Row) -> ControlFlow<()>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Progress, StoreError> {
        let (low, high) = bounds(search);
        let mut walk = Walk::new(self, search)?;
        for (first, last) in ranges {
            let mut range = (sqlite_int(first.0).max(low), sqlite_int(last.0).min(high));
            while let Some(step) = walk.next_step(range)? {
                let (hits, passed) = walk.step(step)?;
                for row in hits {
                    walk.progress.found += 1;
                    let full = search.limit.is_some_and(|limit| walk.progress.found >= limit as u64);
                    if found(row).is_break() || full {
                        return Ok(walk.progress);
                    }
                }
                walk.progress.reached = Some(Mid(passed.cast_unsigned()));
                if progress(&walk.progress).is_break() {
                    return Ok(walk.progress);
                }
                match search.order {
                    Order::NewestFirst => range.1 = passed - 1,
                    Order::OldestFirst => range.0 = passed.saturating_add(1),
                }
            }
        }
        Ok(Progress { complete: true, ..walk.progress })
    }

    /// The row of a flow; `None` if there is no such flow.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn row(&self, mid: Mid) -> Result<Option<Row>, StoreError> {
        use rusqlite::OptionalExtension as _;
        let fail = |e| StoreError::sqlite(&self.paths.db, "reading a row", e);
        let columns = super::row::columns(self.version()?);
        let sql =
            format!("SELECT {columns} FROM flow LEFT JOIN host ON host.id = flow.host WHERE flow.mid = ?1");
        let mut statement = self.conn.prepare_cached(&sql).map_err(fail)?;
        statement.query_row([sqlite_int(mid.0)], Row::read).optional().map_err(fail)
    }
}

/// The index of bodies, with the questions of a filter.
fn ask<'a>(reader: &'a Reader, filter: &Filter) -> Result<Ask<'a>, StoreError> {
    let mut tests = Vec::new();
    filter.expr().each_test(&mut |test| tests.push(test));
    Ask::new(reader, tests.into_iter())
}

/// The mids outside of which nothing can match.
fn bounds(search: &Search<'_>) -> (i64, i64) {
    let (low, high) = sql::mid_bounds(search.filter.expr());
    let after = search.after.map_or(0, |mid| sqlite_int(mid.0).saturating_add(1));
    let before = search.before.map_or(i64::MAX, |mid| sqlite_int(mid.0) - 1);
    (low.max(after), high.min(before))
}

/// A search under way.
struct Walk<'a> {
    reader: &'a Reader,
    search: &'a Search<'a>,
    scan: rusqlite::Statement<'a>,
    edge: rusqlite::Statement<'a>,
    columns: row::Columns,
    lookups: Lookups<'a>,
    bodies: Bodies<'a>,
    progress: Progress,
}

impl<'a> Walk<'a> {
    fn new(reader: &'a Reader, search: &'a Search<'a>) -> Result<Self, StoreError> {
        let fail = |e| StoreError::sqlite(&reader.paths.db, "searching", e);
        let version = reader.version()?;
        let schema = Schema::of(reader, version).map_err(fail)?;
        let condition = Condition::of(search.filter.expr(), &schema);
        let columns = row::Columns::of(search.filter.expr(), version);
        let direction = match search.order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let mut scan = reader
            .conn
            .prepare(&format!(
                "SELECT {} FROM flow WHERE flow.mid BETWEEN ?1 AND ?2{} ORDER BY flow.mid {direction}",
                columns.list(),
                condition.clause()
            ))
            .map_err(fail)?;
        // A value whose test fell away has no place in the statement, if it is behind all that have one.
        for (at, value) in (3..=scan.parameter_count()).zip(&condition.values) {
            scan.raw_bind_parameter(at, value).map_err(fail)?;
        }
        let edge =
            format!("SELECT mid FROM flow WHERE mid BETWEEN ?1 AND ?2 ORDER BY mid {direction} LIMIT 1");
        let edge = reader.conn.prepare(&edge).map_err(fail)?;
        Ok(Self {
            reader,
            search,
            scan,
            edge,
            columns,
            lookups: Lookups::new(reader, schema.has_notes, schema.has_tags, ask(reader, search.filter)?),
            bodies: Bodies::new(reader, search.max_body),
            progress: Progress::default(),
        })
    }

    /// What of `range` is to be searched next: it begins at a flow, so that gaps cost nothing. `None` if none is left.
    fn next_step(&mut self, (low, high): (i64, i64)) -> Result<Option<(i64, i64)>, StoreError> {
        use rusqlite::OptionalExtension as _;
        if low > high {
            return Ok(None);
        }
        let edge = self.edge.query_row([low, high], |row| row.get::<_, i64>(0)).optional();
        let edge = edge.map_err(|e| StoreError::sqlite(&self.reader.paths.db, "searching", e))?;
        Ok(edge.map(|edge| match self.search.order {
            Order::NewestFirst => (edge.saturating_sub(STEP_MIDS - 1).max(low), edge),
            Order::OldestFirst => (edge, edge.saturating_add(STEP_MIDS - 1).min(high)),
        }))
    }

    /// Searches a step: what matches, and the last mid that is dealt with, which may be before the step's end.
    fn step(&mut self, (low, high): (i64, i64)) -> Result<(Vec<Row>, i64), StoreError> {
        let fail = |e| StoreError::sqlite(&self.reader.paths.db, "searching", e);
        let mut hits = Vec::new();
        let room = self.search.limit.map_or(u64::MAX, |limit| limit as u64 - self.progress.found);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(STEP_HITS);
        let last_record = self.progress.records + STEP_RECORDS;
        self.scan.raw_bind_parameter(1, low).map_err(fail)?;
        self.scan.raw_bind_parameter(2, high).map_err(fail)?;
        let mut rows = self.scan.raw_query();
        while let Some(row) = rows.next().map_err(fail)? {
            self.progress.rows += 1;
            let mut subject = RowSubject::new(row, &self.columns, &mut self.lookups);
            let mid = subject.mid();
            let matches = match self.search.filter.judge(&mut subject)? {
                Some(answer) => answer,
                None => {
                    self.progress.records += 1;
                    let outcome = judge_record(self.search.filter, subject, self.reader, &mut self.bodies)?;
                    self.progress.unreadable += u64::from(outcome.unreadable && !outcome.matches);
                    outcome.matches
                }
            };
            if matches {
                hits.extend(self.reader.row(Mid(mid.cast_unsigned()))?);
            }
            if hits.len() >= room || self.progress.records >= last_record {
                return Ok((hits, mid));
            }
        }
        Ok((hits, if self.search.order == Order::NewestFirst { low } else { high }))
    }
}

/// What came of looking into a record.
struct Outcome {
    matches: bool,
    /// Something of it could not be read.
    unreadable: bool,
}

/// Asks the record what the row could not answer, and the bodies what the record could not.
fn judge_record(
    filter: &Filter,
    row: RowSubject<'_, '_>,
    reader: &Reader,
    bodies: &mut Bodies<'_>,
) -> Result<Outcome, StoreError> {
    let mid = row.mid();
    let flow = match reader.flow(Mid(mid.cast_unsigned())) {
        Ok(Some(flow)) => flow,
        Ok(None) | Err(StoreError::Damaged { .. }) => {
            return Ok(Outcome { matches: false, unreadable: true });
        }
        Err(error) => return Err(error),
    };
    let damaged = Cell::new(false);
    let mut subject = RecordSubject { row, flow: &flow, mid, bodies, damaged: &damaged };
    let matches = filter.judge(&mut subject)? == Some(true);
    Ok(Outcome { matches, unreadable: damaged.get() })
}

/// A row with its record and its bodies.
struct RecordSubject<'a, 'b, 'c> {
    row: RowSubject<'a, 'b>,
    flow: &'a Flow,
    mid: i64,
    bodies: &'a mut Bodies<'c>,
    damaged: &'a Cell<bool>,
}

impl Subject for RecordSubject<'_, '_, '_> {
    type Error = StoreError;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, StoreError> {
        if let Some(answer) = self.row.test(test)? {
            return Ok(Some(answer));
        }
        if let Test::Text(Text::Body(part), pattern) = test {
            let mid = Mid(self.mid.cast_unsigned());
            return self.bodies.contain(self.flow, mid, *part, pattern, self.damaged).map(Some);
        }
        let mut subject = FlowSubject { flow: self.flow, mid: self.mid, notes: None };
        Ok(subject.test(test).unwrap_or_default())
    }
}

/// What is searched of a body if nothing else is said.
pub const MAX_BODY: u64 = 16 << 20;

/// Mids of a step: some ten milliseconds of SQLite's time at most, and few enough steps that beginning them costs nothing.
const STEP_MIDS: i64 = 16_384;

/// Rows that wait to be given out: each may have a path of 8 KiB.
const STEP_HITS: usize = 256;

/// Records, perhaps with bodies, that are read in one step.
const STEP_RECORDS: u64 = 64;
