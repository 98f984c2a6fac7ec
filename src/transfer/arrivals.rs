//! Flows on their way into a store: which mids they get, what becomes of what they refer to.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::import::{ImportError, ImportEvent, Imported};
use super::known::Known;
use super::sink::StoreSink;
use crate::flow::{ConnId, Flow, Mid, Note, State};
use crate::record::{Receipt, RecordError, Recorder};
use crate::store::{Annotator, Change};

/// Takes flows that were read, and tells of each once it is stored. Its methods block.
pub(super) struct Arrivals {
    recorder: Recorder,
    runtime: Handle,
    known: Option<Known>,
    /// By id and beginning: flows of several stores may come one after the other, and each has ids of its own.
    clients: HashMap<(ConnId, i64), ConnId>,
    servers: HashMap<(ConnId, i64), ConnId>,
    mids: MidMap,
    /// Handed over, and not known to be stored.
    waiting: VecDeque<Waiting>,
    annotator: Option<Annotator>,
    pub(super) done: Imported,
}

struct Waiting {
    was: Option<Mid>,
    note: Note,
    receipt: Receipt,
}

impl Arrivals {
    pub(super) fn new(recorder: &Recorder, runtime: &Handle, known: Option<Known>) -> Self {
        Self {
            recorder: recorder.clone(),
            runtime: runtime.clone(),
            known,
            clients: HashMap::new(),
            servers: HashMap::new(),
            mids: MidMap::default(),
            waiting: VecDeque::new(),
            annotator: None,
            done: Imported::default(),
        }
    }

    /// Where the bodies of the next flow go.
    pub(super) fn sink(&self) -> StoreSink {
        StoreSink::new(&self.recorder, &self.runtime)
    }

    /// The flows that come next have mids of another store.
    pub(super) fn next_store(&mut self) {
        self.mids = MidMap::default();
    }

    /// Takes a flow. `was` is its mid where it came from.
    pub(super) fn take(
        &mut self,
        sink: StoreSink,
        mut flow: Flow,
        note: Note,
        watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ImportError> {
        let was = flow.mid.take();
        if self.known.as_mut().is_some_and(|known| known.take(&flow)) {
            sink.discard();
            self.done.known += 1;
            return Ok(watch(ImportEvent::Known(was)));
        }
        flow.replay_of = flow.replay_of.and_then(|source| self.mids.get(source));
        if flow.state == State::Open {
            // Nobody goes on with it.
            flow.state = State::Interrupted;
        }
        self.adopt_conns(&mut flow);
        let ticket = sink.into_ticket();
        let mid = ticket.mid();
        let Some(receipt) = ticket.finish_with_receipt(&flow) else {
            self.done.left_out += 1;
            return Ok(ControlFlow::Continue(()));
        };
        if let Some(was) = was {
            self.mids.add(was, mid);
        }
        self.waiting.push_back(Waiting { was, note, receipt });
        let mut flow = ControlFlow::Continue(());
        while self.waiting.len() > MOST_WAITING && flow.is_continue() {
            flow = self.tell_next(watch)?;
        }
        Ok(flow)
    }

    /// Waits for all that were handed over.
    pub(super) fn settle(
        &mut self,
        watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), ImportError> {
        while !self.waiting.is_empty() {
            // What was handed over is stored, whether somebody wants to hear of it or not.
            let _ = self.tell_next(watch)?;
        }
        Ok(())
    }

    fn tell_next(
        &mut self,
        watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ImportError> {
        let Some(Waiting { was, note, receipt }) = self.waiting.pop_front() else {
            return Ok(ControlFlow::Continue(()));
        };
        let mid = match self.runtime.block_on(receipt.committed()) {
            Ok(mid) => mid,
            Err(RecordError::BodyLost { mid }) => {
                self.done.lost_bodies += 1;
                mid
            }
            Err(error) => return Err(ImportError::Store { error, done: Box::new(self.done) }),
        };
        self.done.flows += 1;
        self.done.first.get_or_insert(mid);
        self.done.last = Some(mid);
        if !note.is_empty() {
            self.annotate(mid, &note)?;
        }
        Ok(watch(ImportEvent::Stored { was, mid }))
    }

    fn annotate(&mut self, mid: Mid, note: &Note) -> Result<(), ImportError> {
        let fail = |error| ImportError::Note { mid, error };
        let annotator = match &mut self.annotator {
            Some(annotator) => annotator,
            none => none.insert(Annotator::open(self.recorder.path()).map_err(fail)?),
        };
        // What cannot be a note here, for it is too long or has strange characters in it, is counted.
        let marker = note.marker.as_deref().map(Change::mark);
        let comment = note.comment.as_deref().map(Change::comment);
        let tags = note.tags.iter().map(|tag| Change::tags(vec![tag.clone()], Vec::new()));
        for change in marker.into_iter().chain(comment).chain(tags) {
            match change {
                Ok(change) => drop(annotator.apply(&[mid], &change).map_err(fail)?),
                Err(_) => self.done.lost_notes += 1,
            }
        }
        Ok(())
    }

    /// Gives the flow's connections ids of this store, the same to those that had the same in the file.
    fn adopt_conns(&mut self, flow: &mut Flow) {
        let recorder = &self.recorder;
        let adopt = |ids: &mut HashMap<(ConnId, i64), ConnId>, id: ConnId, started_unix_ns: i64| {
            if id.0 == 0 {
                return recorder.next_conn_id();
            }
            if ids.len() >= MOST_CONNS {
                // Those that come later are told apart again.
                ids.clear();
            }
            *ids.entry((id, started_unix_ns)).or_insert_with(|| recorder.next_conn_id())
        };
        if *flow.client != crate::flow::ClientConn::default() {
            let client = Arc::make_mut(&mut flow.client);
            client.id = adopt(&mut self.clients, client.id, client.started_unix_ns);
        }
        if let Some(server) = flow.server.as_mut().map(Arc::make_mut) {
            server.id = adopt(&mut self.servers, server.id, server.started_unix_ns);
        }
    }
}

/// Old mids and new ones. Where both rise by one, a run of them is one entry.
#[derive(Debug, Default)]
struct MidMap(Vec<Run>);

#[derive(Debug)]
struct Run {
    was: u64,
    now: u64,
    len: u64,
}

impl MidMap {
    fn add(&mut self, was: Mid, now: Mid) {
        if let Some(last) = self.0.last_mut()
            && last.was.checked_add(last.len) == Some(was.0)
            && last.now + last.len == now.0
        {
            last.len += 1;
            return;
        }
        if self.0.len() < MOST_RUNS {
            self.0.push(Run { was: was.0, now: now.0, len: 1 });
        }
    }

    fn get(&self, was: Mid) -> Option<Mid> {
        let within = |run: &&Run| (run.was..run.was.saturating_add(run.len)).contains(&was.0);
        let run = self.0.iter().rev().find(within)?;
        Some(Mid(run.now + (was.0 - run.was)))
    }
}

/// Flows that may be on their way to the disk. The recorder has a bound of its own.
const MOST_WAITING: usize = 4096;

/// Connections of a file that are remembered: 3 MiB of them.
const MOST_CONNS: usize = 1 << 16;

/// Runs of mids that are remembered, for replays that say of what: 1.5 MiB.
const MOST_RUNS: usize = 1 << 16;

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn old_mids_are_found_in_runs_and_alone() {
        let mut map = MidMap::default();
        for (was, now) in [(1, 11), (2, 12), (3, 13), (7, 14), (8, 15), (5, 16), (u64::MAX, 17)] {
            map.add(Mid(was), Mid(now));
        }
        assert_eq!(map.0.len(), 4);
        for (was, now) in [(1, Some(11)), (3, Some(13)), (4, None), (8, Some(15)), (5, Some(16)), (0, None)] {
            assert_eq!(map.get(Mid(was)), now.map(Mid));
        }
    }
}
