//! The power is cut at some moment: every announced mid is there afterwards, with its body.
//!
//! What is simulated: the segment files wholly, by a file layer that keeps a journal of writes and syncs; a write that
//! was not synced may be there, missing, or torn at any 512 bytes. SQLite's files as it promises them: after a commit
//! with synchronous=FULL, database and WAL are as they are on disk then; of the commit in flight any 512-byte block of
//! the WAL may be new or old; of a checkpoint in flight any block of the database.
//!
//! What is not: SQLite's own syncs are taken on trust (its VFS cannot be replaced without unsafe code), and that the
//! names of files are on disk (folders are synced when files are made).

use std::io::{self, IoSlice};
use std::sync::Mutex;

use super::*;
use crate::store::checkpoint::WAL_BYTES;
use crate::store::paths::Paths;
use crate::store::segment::{DiskFiles, SegmentFile, SegmentFiles};

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
    /// The mids are announced. The files are as they are then.
    Commit {
        mids: Vec<Mid>,
        db: Vec<u8>,
        wal: Vec<u8>,
    },
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
        Ok(())
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        self.0.remove(number)
    }

    fn sync_names(&self) -> io::Result<()> {
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

/// Records a run: 40 groups with bodies, some bodies still passing while others are committed, and checkpoints.
fn record_run(folder: &Path) -> Vec<Event> {
    let path = folder.join("f.db");
    let journal = Journal::default();
    let files = |paths: Paths| -> Box<dyn SegmentFiles> {
        Box::new(JournalFiles(DiskFiles { paths }, Arc::clone(&journal)))
    };
    let mut writer = Writer::open_with(&path, &options(), files).unwrap();
    let snapshot = |mids| {
        let read = |suffix: &str| std::fs::read(format!("{}{suffix}", path.display())).unwrap_or_default();
        let event = Event::Commit { mids, db: read(""), wal: read("-wal") };
        journal.lock().unwrap().push(event);
    };
    snapshot(vec![]);
    let mut chance = Chance(42);
    let mut mid = 0;
    for group in 0..40 {
        let mut flows = Vec::new();
        for _ in 0..=chance.below(4) {
            mid += 1;
            let bytes = body_bytes(Mid(mid), 3_000 + chance.below(30_000));
            let extents = append(writer.segments(), Mid(mid), &bytes);
            flows.push(flow(Mid(mid), State::Complete, Content::Extents(extents)));
            // A body of a flow that never ends.
            append(writer.segments(), Mid(10_000), &[1; 2000]);
        }
        if group % 7 == 6 {
            writer.keeper.checkpoints.wal_bytes = WAL_BYTES;
        }
        let mids = flows.iter().map(|f| f.mid.unwrap()).collect();
        commit(&mut writer, flows).unwrap();
        // The next commit may begin the WAL anew, since the database is on disk by then: so it is in the snapshot.
        writer.keeper.checkpoints.join();
        snapshot(mids);
    }
    drop(writer);
    journal.lock().unwrap().clone()
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
            Event::Write { .. } => wrong.push(event.clone()),
        }
    }
    wrong
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

const BLOCK: usize = 512;

/// Writes the files as a cut after `cut` events leaves them; the mids that were announced by then.
fn cut_power(events: &[Event], cut: usize, folder: &Path, chance: &mut Chance) -> Vec<Mid> {
    let (past, future) = events.split_at(cut);
    let mut announced = Vec::new();
    let mut files = (&[][..], &[][..]);
    let mut before = files;
    for event in past {
        if let Event::Commit { mids, db, wal } = event {
            announced.extend(mids);
            before = std::mem::replace(&mut files, (db, wal));
        }
    }
    // The next commit's WAL is written only after the sync that goes before it. Its WAL may differ in a few blocks from
    // what an older one left there, so that by chance all of it would be in place before that sync.
    let in_flight = future.iter().take_while(|e| !matches!(e, Event::Sync { .. }));
    let next =
        in_flight.filter_map(|e| if let Event::Commit { wal, .. } = e { Some(wal) } else { None }).next();
    let (db, wal) = match (chance.below(3), next) {
        (0, Some(next)) => (files.0.to_vec(), torn(files.1, next, chance)),
        // The last commit's checkpoint was still going on; its WAL is whole.
        (1, _) if before.0.len() <= files.0.len() && !before.0.is_empty() => {
            let mut db = torn(before.0, files.0, chance);
            db.resize(db.len().next_multiple_of(8192), 0);
            (db, files.1.to_vec())
        }
        _ => (files.0.to_vec(), files.1.to_vec()),
    };
    std::fs::write(folder.join("f.db"), db).unwrap();
    std::fs::write(folder.join("f.db-wal"), wal).unwrap();
    std::fs::create_dir(folder.join("f.db-bodies")).unwrap();
    std::fs::write(folder.join("f.db-bodies/000001.seg"), cut_segment(past, chance)).unwrap();
    announced
}

fn cut_segment(past: &[Event], chance: &mut Chance) -> Vec<u8> {
    let synced =
        past.iter().filter_map(|e| if let Event::Sync { upto, segment: 1 } = e { Some(*upto) } else { None });
    let synced = synced.max().unwrap_or(0);
    let mut file = Vec::new();
    for (number, event) in past.iter().enumerate() {
        let Event::Write { segment: 1, offset, data } = event else { continue };
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
fn check(folder: &Path, announced: &[Mid]) -> Vec<String> {
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
