//! Disks that fill up or fail, by files that are told to.

use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::flow::{BodyEnd, Message};
use crate::store::paths::Paths;
use crate::store::segment::{DiskFiles, SegmentFile, SegmentFiles, piece};

/// What goes wrong, from now on.
#[derive(Debug, Default)]
struct Faults {
    write: AtomicBool,
    sync: AtomicBool,
    opened: Mutex<Vec<u32>>,
    /// How often a sync has ended, well or not.
    syncs: (Mutex<usize>, Condvar),
    /// How often blocks were reserved.
    reserved: AtomicUsize,
}

impl Faults {
    fn syncs(&self) -> usize {
        *self.syncs.0.lock().unwrap()
    }

    /// Waits for a sync that nobody here has asked for.
    fn wait_for_sync_after(&self, before: usize) {
        let (syncs, ended) = &self.syncs;
        let (limit, none) = (std::time::Duration::from_secs(60), |syncs: &mut usize| *syncs <= before);
        let waited = ended.wait_timeout_while(syncs.lock().unwrap(), limit, none).unwrap().1;
        assert!(!waited.timed_out(), "nothing was synced");
    }
}

#[derive(Debug)]
struct FaultyFiles(DiskFiles, Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn SegmentFile>, Arc<Faults>);

impl SegmentFiles for FaultyFiles {
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>> {
        self.1.opened.lock().unwrap().push(number);
        Ok(Arc::new(FaultyFile(self.0.open(number)?, Arc::clone(&self.1))))
    }

    fn sync_wal(&self) -> io::Result<()> {
        self.0.sync_wal()
    }

    fn remove(&self, number: u32) -> io::Result<()> {
        self.0.remove(number)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
}

impl SegmentFile for FaultyFile {
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if self.1.write.load(Ordering::SeqCst) {
            // A full disk takes what still fits.
            let half = data[0].len() / 2;
            self.0.write_at(&[IoSlice::new(&data[0][..half])], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let result = match self.1.sync.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is gone")),
            false => self.0.sync(),
        };
        *self.1.syncs.0.lock().unwrap() += 1;
        self.1.syncs.1.notify_all();
        result
    }

    fn synced(&self, from: u64, to: u64) {
        self.0.synced(from, to);
    }

    fn reserve(&self, from: u64, len: u64) {
        self.1.reserved.fetch_add(1, Ordering::SeqCst);
        self.0.reserve(from, len);
    }

    fn release(&self) {
        self.0.release();
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn is_in_place(&self) -> bool {
        self.0.is_in_place()
    }
}

fn faulty(path: &Path) -> (Writer, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let files = |paths: Paths| -> Box<dyn SegmentFiles> {
        Box::new(FaultyFiles(DiskFiles { paths, cache: PageCache::GiveBack }, Arc::clone(&faults)))
    };
    (Writer::open_with(path, &options(), files).unwrap(), faults)
}

fn store(writer: &mut Writer, mid: Mid) -> u64 {
    let extents = append(writer.segments(), mid, &body_bytes(mid, 25_000));
    commit(writer, vec![flow(mid, State::Complete, Content::Extents(extents))]).unwrap().lost_bodies
}

/// The first mid from `mid` on whose body is stored again. The pause after a failure is real time.
fn stored_again(writer: &mut Writer, mid: Mid) -> Mid {
    let mut mid = mid;
    while store(writer, mid) > 0 {
        mid = Mid(mid.0 + 1);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    mid
}

fn is_lost(reader: &Reader, mid: Mid) -> bool {
    let body = reader.flow(mid).unwrap().unwrap().response.unwrap().body;
    body.content == Content::Absent && body.end == BodyEnd::Lost
}

#[test]
fn a_full_disk_loses_bodies_visibly_and_recording_resumes_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let (mut writer, faults) = faulty(&path);
    assert_eq!(store(&mut writer, Mid(1)), 0);
    // A body that has begun on the good disk, and ends on the full one.
    let mut extents = append(writer.segments(), Mid(2), &[2; 5000]);
    writer.segments().wait_written(writer.segments().taken());
    faults.write.store(true, Ordering::SeqCst);
    extents.extend(append(writer.segments(), Mid(2), &[2; 5000]));
    let lost = commit(&mut writer, vec![flow(Mid(2), State::Complete, Content::Extents(extents))]).unwrap();
    assert_eq!(lost.lost_bodies, 1);
    assert_eq!(store(&mut writer, Mid(3)), 1);
    faults.write.store(false, Ordering::SeqCst);
    let again = stored_again(&mut writer, Mid(4));
    assert_eq!(*faults.opened.lock().unwrap(), [1, 2], "one new segment, not one for each failure");
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(loaded_body(&reader, Mid(1)), body_bytes(Mid(1), 25_000));
    assert!(is_lost(&reader, Mid(2)) && is_lost(&reader, Mid(3)));
    assert_eq!(loaded_body(&reader, again), body_bytes(again, 25_000));
    // Cut back to its last whole piece: the header of the body's second piece was half written.
    let segment = std::fs::read(dir.path().join("f.db-bodies/000001.seg")).unwrap();
    let len = segment.len() as u64;
    assert_eq!(piece::good_end(&mut &segment[..], 0).unwrap(), len);
    assert!(segment.ends_with(&[2; 5000]));
}

/// What is long under way is brought to disk before its commit. The system tells an error once, to the first who asks: a commit
/// that comes later has to know of it.
#[test]
fn a_long_body_is_synced_before_its_commit_and_lost_where_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let (mut writer, faults) = faulty(&path);
    const LONG: usize = 20 << 20;
    let long = |writer: &Writer, mid: Mid| {
        let before = faults.syncs();
        // However quick this disk is.
        writer.segments().set_flush_bytes(16 << 20);
        let extents = append(writer.segments(), mid, &vec![mid.0.to_le_bytes()[0]; LONG]);
        faults.wait_for_sync_after(before);
        flow(mid, State::Complete, Content::Extents(extents))
    };
    let first = long(&writer, Mid(1));
    assert_eq!(commit(&mut writer, vec![first]).unwrap().lost_bodies, 0);
    faults.sync.store(true, Ordering::SeqCst);
    let second = long(&writer, Mid(2));
    faults.sync.store(false, Ordering::SeqCst);
    assert_eq!(commit(&mut writer, vec![second]).unwrap().lost_bodies, 1);
    let again = stored_again(&mut writer, Mid(3));
    let last = long(&writer, Mid(again.0 + 1));
    assert_eq!(commit(&mut writer, vec![last]).unwrap().lost_bodies, 0);
    writer.close().unwrap();
    assert!(faults.reserved.load(Ordering::SeqCst) > 2, "each found blocks ahead of itself");
    for segment in std::fs::read_dir(Paths::of(&path).bodies).unwrap() {
        let metadata = segment.unwrap().metadata().unwrap();
        assert!(
            metadata.blocks() * 512 < metadata.len() + (1 << 20),
            "blocks that nobody needs are free again"
        );
    }
    let reader = Reader::open(&path).unwrap();
    for mid in [Mid(1), Mid(again.0 + 1)] {
        let body = loaded_body(&reader, mid);
        assert!(body.len() == LONG && body.iter().all(|&byte| u64::from(byte) == mid.0), "{mid}");
    }
    assert!(is_lost(&reader, Mid(2)));
}

/// A message's payload that the disk could not take is told in its row, and the others are as they were.
#[test]
fn a_full_disk_loses_payloads_of_messages_visibly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let (mut writer, faults) = faulty(&path);
    let mut group = Group::default();
    let message = |seq, extents| Message {
        seq,
        len: 5000,
        end: BodyEnd::Whole,
        content: Content::Extents(extents),
        ..Message::default()
    };
    let good = append(writer.segments(), Mid(1), &body_bytes(Mid(1), 5000));
    writer.segments().wait_written(writer.segments().taken());
    faults.write.store(true, Ordering::SeqCst);
    let bad = append(writer.segments(), Mid(1), &body_bytes(Mid(1), 5000));
    group.push_message(Mid(1), &message(1, good));
    group.push_message(Mid(1), &message(2, bad));
    assert_eq!(writer.commit(&mut group).unwrap().lost_bodies, 1);
    let reader = Reader::open(&path).unwrap();
    let rows = reader.messages(Mid(1), 0, 10).unwrap();
    let mut payload = Vec::new();
    Read::read_to_end(&mut reader.content(&rows[0].content).unwrap(), &mut payload).unwrap();
    assert_eq!((payload, rows[0].end), (body_bytes(Mid(1), 5000), BodyEnd::Whole));
    assert_eq!((&rows[1].content, rows[1].end, rows[1].len), (&Content::Absent, BodyEnd::Lost, 5000));
}

#[test]
fn a_sync_that_fails_loses_what_was_not_synced_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let (mut writer, faults) = faulty(&path);
    assert_eq!(store(&mut writer, Mid(1)), 0);
    faults.sync.store(true, Ordering::SeqCst);
    assert_eq!(store(&mut writer, Mid(2)), 1);
    faults.sync.store(false, Ordering::SeqCst);
    let again = stored_again(&mut writer, Mid(3));
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(loaded_body(&reader, Mid(1)), body_bytes(Mid(1), 25_000));
    assert!(is_lost(&reader, Mid(2)));
    assert_eq!(loaded_body(&reader, again), body_bytes(again, 25_000));
}
