//! The power is cut at some moment: every announced mid is there afterwards, with its body.
//!
//! What is simulated: the segment files wholly, by a file layer that keeps a journal of writes, syncs and removals; a write that
//! was not synced may be there, missing, or torn at any 512 bytes, and a file that was removed may be there until its folder is
//! synced. SQLite's files as it promises them: after a commit with synchronous=FULL, database and WAL are as they are on disk
//! then; of commits that were not synced, and of the one in flight, any 512-byte block of the WAL may be new or old, but a WAL
//! that begins anew has its header on disk first; of a checkpoint in flight any block of the database.
//!
//! What is not: SQLite's own syncs are taken on trust (its VFS cannot be replaced without unsafe code), and that the
//! names of files are on disk when they are made (folders are synced then).

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::store::checkpoint::WAL_BYTES;
use crate::store::paths::Paths;
use crate::store::segment::{DiskFiles, SegmentFile, SegmentFiles};
use crate::store::space::delete as deleting;

/// What happened, in order.
#[derive(Debug, Clone)]
enum Event {
    Write {
        segment: u32,
        offset: u64,
        data: Vec<u8>,
    },
    /// Everything of the segment before event number `upto` is on disk.
    Sync {
        segment: u32,
        upto: usize,
    },
    /// Something was committed, and is on disk where that is told. The files are as they are then.
    Commit {
        /// Those that are announced.
        mids: Vec<Mid>,
        /// Those that are not in the store any more.
        gone: Vec<Mid>,
        files: Database,
        on_disk: bool,
    },
    /// The WAL is on disk as it is then.
    WalSync(Database),
    /// The file of a segment was removed.
    Remove(u32),
    /// What was removed is gone.
    NamesSync,
}

/// The bytes of SQLite's files.
#[derive(Debug, Clone, Default)]
struct Database {
    db: Vec<u8>,
    wal: Vec<u8>,
}

impl Database {
    fn read(path: &Path) -> Self {
        let read = |suffix: &str| std::fs::read(format!("{}{suffix}", path.display())).unwrap_or_default();
        Self { db: read(""), wal: read("-wal") }
    }
}

type Journal = Arc<Mutex<Vec<Event>>>;

#[derive(Debug)]
struct JournalFiles(DiskFiles, Journal);

#[derive(Debug)]
struct JournalFile {
    file: Arc<dyn SegmentFile>,
    segment: u32,
    journal: Journal,
}

impl SegmentFiles for JournalFiles {
    fn open(&self, segment: u32) -> io::Result<Arc<dyn SegmentFile>> {
        let journal = Arc::clone(&self.1);
        Ok(Arc::new(JournalFile { file: self.0.open(segment)?, segment, journal }))
    }

    fn sync_wal(&self) -> io::Result<()> {
        let mut journal = self.1.lock().unwrap();
        journal.push(Event::WalSync(Database::read(&self.0.paths.db)));
        Ok(())
    }

    fn remove(&self, segment: u32) -> io::Result<()> {
        let mut journal = self.1.lock().unwrap();
        journal.push(Event::Remove(segment));
        self.0.remove(segment)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.1.lock().unwrap().push(Event::NamesSync);
        Ok(())
    }
}

impl SegmentFile for JournalFile {
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let written = self.file.write_at(data, offset)?;
        let mut data: Vec<u8> = data.iter().flat_map(|s| s.iter().copied()).collect();
        data.truncate(written);
        self.journal.lock().unwrap().push(Event::Write { segment: self.segment, offset, data });
        Ok(written)
    }

    // The file below is not really synced: the journal is what is judged.
    fn sync(&self) -> io::Result<()> {
        let mut journal = self.journal.lock().unwrap();
        let upto = journal.len();
        journal.push(Event::Sync { segment: self.segment, upto });
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn is_in_place(&self) -> bool {
        true
    }
}

/// Chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }
}

/// A store that is written, and its journal.
struct Run {
    path: PathBuf,
    journal: Journal,
    writer: Writer,
    chance: Chance,
    mid: u64,
    /// What was announced, and is not gone.
    here: BTreeSet<Mid>,
}

impl Run {
    fn start(folder: &Path, options: &WriterOptions) -> Self {
        let path = folder.join("f.db");
        let journal = Journal::default();
        let files = |paths: Paths| -> Box<dyn SegmentFiles> {
            Box::new(JournalFiles(DiskFiles { paths, cache: PageCache::GiveBack }, Arc::clone(&journal)))
        };
        let writer = Writer::open_with(&path, options, files).unwrap();
        let mut run = Self { path, journal, writer, chance: Chance(42), mid: 0, here: BTreeSet::new() };
        run.note(Vec::new(), true);
        run
    }

    /// Something was committed.
    fn note(&mut self, mids: Vec<Mid>, on_disk: bool) {
        // The next commit may begin the WAL anew, since the database is on disk by then: so it is in the snapshot.
        self.writer.keeper.checkpoints.join();
        self.here.extend(&mids);
        let rows = Reader::open(&self.path).unwrap().list(&ListQuery::default()).unwrap();
        let there: BTreeSet<Mid> = rows.iter().map(|row| row.mid).collect();
        let gone = self.here.difference(&there).copied().collect();
        self.here.retain(|mid| there.contains(mid));
        let event = Event::Commit { mids, gone, files: Database::read(&self.path), on_disk };
        self.journal.lock().unwrap().push(event);
    }

    /// Stores a group: bodies, some of them still passing while others are committed.
    fn store(&mut self, takes_wal_in: bool) {
        let mut flows = Vec::new();
        for _ in 0..=self.chance.below(4) {
            self.mid += 1;
            let mid = Mid(self.mid);
            let bytes = body_bytes(mid, 3_000 + self.chance.below(30_000));
            let extents = append(self.writer.segments(), mid, &bytes);
            flows.push(flow(mid, State::Complete, Content::Extents(extents)));
            // A body of a flow that never ends.
            append(self.writer.segments(), Mid(10_000), &[1; 2000]);
        }
        if takes_wal_in {
            self.writer.keeper.checkpoints.wal_bytes = WAL_BYTES;
        }
        let mids = flows.iter().map(|f| f.mid.unwrap()).collect();
        commit(&mut self.writer, flows).unwrap();
        self.note(mids, true);
    }

    /// Does all that there is to do to keep the store small, and none of it waits for a disk.
    fn tidy(&mut self) {
        self.writer.keeper.space.look_now();
        loop {
            // Checkpoints come with groups here.
            self.writer.keeper.checkpoints.wal_bytes = 0;
            let step = self.writer.keeper.tidy(&mut self.writer.conn).unwrap();
            self.note(Vec::new(), false);
            if step == Step::Idle {
                break;
            }
        }
        let Writer { conn, keeper } = &mut self.writer;
        keeper.space.reclaimer.finish(conn, &keeper.segments).unwrap();
        self.note(Vec::new(), false);
    }

    /// Deletes flows here and there, as people do.
    fn prune(&mut self) {
        let here: Vec<Mid> = self.here.iter().copied().collect();
        let mids: Vec<Mid> = here.into_iter().filter(|_| self.chance.below(3) == 0).collect();
        let source = source::Source::new(self.writer.keeper.paths.clone(), None);
        let files = record::RecordFiles::new(Arc::new(source));
        let conn = &mut self.writer.conn;
        let plan = deleting::plan(conn, &files, &mids, Marked::Keep, Duration::MAX).unwrap();
        deleting::delete(conn, &plan.doomed, Marked::Keep).unwrap();
        self.note(Vec::new(), true);
    }

    fn end(self) -> Vec<Event> {
        drop(self.writer);
        self.journal.lock().unwrap().clone()
    }
}

/// Records a run: 40 groups, and checkpoints.
fn record_run(folder: &Path) -> Vec<Event> {
    let mut run = Run::start(folder, &options());
    (0..40).for_each(|group| run.store(group % 7 == 6));
    run.end()
}

/// Records a run in which flows are deleted, segments are copied out and dropped.
fn record_small_run(folder: &Path) -> Vec<Event> {
    let limits = Limits { max_flows: Some(30), ..Limits::default() };
    let mut run = Run::start(folder, &WriterOptions { limits, ..options() });
    for group in 0..40 {
        run.store(group % 7 == 6);
        if group % 4 == 3 {
            run.writer.segments().roll();
        }
        if group % 5 == 4 {
            run.prune();
        }
        run.tidy();
    }
    assert!(run.writer.keeper.space.freed.flows > 10, "{:?}", run.writer.keeper.space.freed);
    run.end()
}

/// Takes the syncs that precede a commit behind it: the order that must never be.
fn commit_before_sync(events: &[Event]) -> Vec<Event> {
    let mut wrong = Vec::new();
    let mut held = Vec::new();
    for event in events {
        match event {
            Event::Sync { .. } => held.push(event.clone()),
            Event::Commit { .. } => {
                wrong.push(event.clone());
                wrong.append(&mut held);
            }
            _ => wrong.push(event.clone()),
        }
    }
    wrong
}

/// Without the syncs of the WAL by which a segment may go, and those of the copies out of it.
fn unlink_before_sync(events: &[Event]) -> Vec<Event> {
    events.iter().filter(|event| !matches!(event, Event::WalSync(_))).cloned().collect()
}

/// Blocks of `new` or `old`, as chance will have it; beyond the end of either, zeros.
fn torn(old: &[u8], new: &[u8], chance: &mut Chance) -> Vec<u8> {
    let len = [old.len(), new.len()][chance.below(2)];
    let mut mixed = Vec::with_capacity(len);
    while mixed.len() < len {
        let from = if chance.below(2) == 0 { old } else { new };
        let at = mixed.len();
        let end = (at + BLOCK).min(len);
        mixed.extend_from_slice(from.get(at..end.min(from.len())).unwrap_or_default());
        mixed.resize(end, 0);
    }
    mixed
}

/// The same of a WAL. Where it begins anew, its header is on disk before a frame of the old one is overwritten
/// (sqlite.org/fileformat2.html §4.1).
fn torn_wal(old: &[u8], new: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut wal = torn(old, new, chance);
    if old.get(..HEADER) != new.get(..HEADER) && wal.len() >= HEADER && new.len() >= HEADER {
        wal[..HEADER].copy_from_slice(&new[..HEADER]);
    }
    wal
}

const HEADER: usize = 32;

const BLOCK: usize = 512;

/// Writes the files as a cut after `cut` events leaves them; the mids that were announced by then, and are not deleted.
fn cut_power(events: &[Event], cut: usize, folder: &Path, chance: &mut Chance) -> BTreeSet<Mid> {
    let (past, future) = events.split_at(cut);
    let mut announced = BTreeSet::new();
    let none = Database::default();
    // As they are on disk for sure; as they were left, and one commit before that.
    let (mut safe, mut before, mut last) = (&none, &none, &none);
    for event in past {
        match event {
            Event::Commit { mids, gone, files, on_disk } => {
                announced.extend(mids);
                announced.retain(|mid| !gone.contains(mid));
                before = std::mem::replace(&mut last, files);
                safe = if *on_disk { files } else { safe };
            }
            Event::WalSync(files) => {
                // A thread of its own does that, perhaps before the commit that it is for is noted.
                before = std::mem::replace(&mut last, files);
                safe = files;
            }
            _ => {}
        }
    }
    // The next commit's WAL is written only after the sync that goes before it. Its WAL may differ in a few blocks from
    // what an older one left there, so that by chance all of it would be in place before that sync.
    let mut in_flight = future.iter().take_while(|e| !matches!(e, Event::Sync { .. }));
    let next = in_flight.find_map(|e| match e {
        Event::Commit { files, gone, .. } => Some((files, gone)),
        _ => None,
    });
    if let Some((_, gone)) = future.iter().find_map(|e| match e {
        Event::Commit { files, gone, .. } => Some((files, gone)),
        _ => None,
    }) {
        announced.retain(|mid| !gone.contains(mid));
    }
    let (db, wal) = match (chance.below(4), next) {
        (0, Some((next, _))) => (last.db.clone(), torn_wal(&last.wal, &next.wal, chance)),
        // The last commit's checkpoint was still going on; its WAL is whole.
        (1, _) if before.db != last.db && !before.db.is_empty() => {
            let mut db = torn(&before.db, &last.db, chance);
            db.resize(db.len().max(before.db.len()).next_multiple_of(8192), 0);
            (db, last.wal.clone())
        }
        (2, _) => (last.db.clone(), torn_wal(&safe.wal, &last.wal, chance)),
        (3, _) => (safe.db.clone(), safe.wal.clone()),
        _ => (last.db.clone(), last.wal.clone()),
    };
    std::fs::write(folder.join("f.db"), db).unwrap();
    std::fs::write(folder.join("f.db-wal"), wal).unwrap();
    std::fs::create_dir(folder.join("f.db-bodies")).unwrap();
    let written =
        past.iter().filter_map(|e| if let Event::Write { segment, .. } = e { Some(*segment) } else { None });
    for segment in written.collect::<BTreeSet<u32>>() {
        if !is_removed(past, segment, chance) {
            let file = folder.join(format!("f.db-bodies/{segment:06}.seg"));
            std::fs::write(file, cut_segment(past, segment, chance)).unwrap();
        }
    }
    announced
}

fn is_removed(past: &[Event], segment: u32, chance: &mut Chance) -> bool {
    let removed = past.iter().position(|event| matches!(event, Event::Remove(gone) if *gone == segment));
    let Some(removed) = removed else { return false };
    past[removed..].iter().any(|event| matches!(event, Event::NamesSync)) || chance.below(2) == 0
}

fn cut_segment(past: &[Event], cut: u32, chance: &mut Chance) -> Vec<u8> {
    let synced = past.iter().filter_map(|e| match e {
        Event::Sync { upto, segment } if *segment == cut => Some(*upto),
        _ => None,
    });
    let synced = synced.max().unwrap_or(0);
    let mut file = Vec::new();
    for (number, event) in past.iter().enumerate() {
        let Event::Write { segment, offset, data } = event else { continue };
        if *segment != cut {
            continue;
        }
        for (i, block) in data.chunks(BLOCK).enumerate() {
            let at = usize::try_from(*offset).unwrap() + i * BLOCK;
            if number < synced || chance.below(2) == 0 {
                file.resize(file.len().max(at + block.len()), 0);
                file[at..at + block.len()].copy_from_slice(block);
            }
        }
    }
    file
}

/// What is missing or wrong after the store was opened again.
fn check(folder: &Path, announced: &BTreeSet<Mid>) -> Vec<String> {
    let path = folder.join("f.db");
    let mut wrong = Vec::new();
    // How the store is closed afterwards is not the question, and syncs take time.
    let options = WriterOptions { durability: Durability::Normal, ..options() };
    match Writer::open(&path, &options).and_then(Writer::close) {
        Ok(()) => {}
        Err(error) => return vec![format!("does not open: {error}")],
    }
    let reader = Reader::open(&path).unwrap();
    let rows = reader.list(&ListQuery::default()).unwrap();
    wrong.extend(
        announced.iter().filter(|m| !rows.iter().any(|r| r.mid == **m)).map(|m| format!("{m} is gone")),
    );
    // Also those that were committed and not yet announced: a row that is there has its body.
    for row in rows {
        let flow = reader.load(row.mid, 1 << 20);
        let body = flow.as_ref().ok().and_then(|f| f.as_ref()).and_then(|f| f.response.as_ref());
        let body = body.and_then(|r| r.body.as_inline());
        if body.is_none_or(|b| b != &body_bytes(row.mid, b.len())) {
            wrong.push(format!("body of {}: {:?}", row.mid, flow.err()));
        }
    }
    wrong
}

/// Cuts that lost something, of `count` cuts; four at a time, for most of the time is spent in syncs.
fn cuts_that_hurt(events: &[Event], count: usize) -> Vec<String> {
    std::thread::scope(|scope| {
        let workers = [7, 11, 13, 17].map(|seed| scope.spawn(move || hurt_by(events, count / 4, seed)));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn hurt_by(events: &[Event], count: usize, seed: u64) -> Vec<String> {
    let first = events.iter().position(|e| matches!(e, Event::Commit { .. })).unwrap();
    let mut chance = Chance(seed);
    let mut hurt = Vec::new();
    for _ in 0..count {
        let cut = first + 1 + chance.below(events.len() - first);
        let folder = tempfile::tempdir().unwrap();
        let announced = cut_power(events, cut, folder.path(), &mut chance);
        let wrong = check(folder.path(), &announced);
        hurt.extend(wrong.first().map(|first| format!("cut after {cut} events: {first}")));
    }
    hurt
}

#[test]
fn after_a_power_cut_every_announced_mid_is_there_with_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let events = record_run(folder.path());
    assert_eq!(cuts_that_hurt(&events, 100), [""; 0]);
}

#[test]
fn the_power_cut_test_catches_a_commit_before_its_sync() {
    let folder = tempfile::tempdir().unwrap();
    let events = commit_before_sync(&record_run(folder.path()));
    let hurt = cuts_that_hurt(&events, 40);
    assert!(hurt.len() > 5, "the wrong order went unnoticed: {hurt:?}");
}

/// Of flows that were deleted, some may be there again, whole. Of all others nothing is missing, wherever they were moved.
#[test]
fn after_a_power_cut_while_space_is_given_back_every_flow_that_stays_has_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let events = record_small_run(folder.path());
    let removed = events.iter().filter(|event| matches!(event, Event::Remove(_))).count();
    assert!(removed > 3, "{removed}");
    assert_eq!(cuts_that_hurt(&events, 120), [""; 0]);
}

#[test]
fn the_power_cut_test_catches_a_segment_that_goes_before_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let events = record_small_run(folder.path());
    let hurt = cuts_that_hurt(&unlink_before_sync(&events), 120);
    assert!(!hurt.is_empty(), "a file went before the commit by which it may, unnoticed");
    let hurt = cuts_that_hurt(&commit_before_sync(&events), 60);
    assert!(hurt.len() > 5, "the wrong order went unnoticed: {hurt:?}");
}
