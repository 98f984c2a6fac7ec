//! The index of bodies: never does it leave out a flow that matches, whatever is written, deleted or damaged when.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::filter::Filter;
use crate::flow::{Headers, Message, Opcode, WebSocket};
use crate::store::index::{Pace, Patience, want};
use crate::store::space::delete as deleting;

/// Makes the index of everything.
pub(super) fn make(writer: &mut Writer) {
    want(&writer.conn, true).unwrap();
    writer.keeper.book.index.begin(Pace::AT_ONCE);
    while step(writer) != Step::Idle {}
}

fn step(writer: &mut Writer) -> Step {
    writer.keeper.index_step(&mut writer.conn, Patience::Wait).unwrap()
}

fn open_quick(path: &Path) -> Writer {
    Writer::open(path, &WriterOptions { durability: Durability::Normal, ..options() }).unwrap()
}

/// A flow of which both bodies are these.
fn with_bodies(mid: Mid, request: &[u8], response: &[u8], headers: &[(&str, &str)]) -> Flow {
    let body = |bytes: &[u8]| Body {
        content: Content::Inline(Bytes::copy_from_slice(bytes)),
        len: bytes.len() as u64,
        wire_len: bytes.len() as u64,
        end: BodyEnd::Whole,
        ..Body::default()
    };
    let mut flow = flow(mid, State::Complete, Content::Absent);
    if let (Some(req), Some(res)) = (&mut flow.request, &mut flow.response) {
        (req.body, res.body) = (body(request), body(response));
        res.headers = headers.iter().copied().collect::<Headers>();
    }
    flow
}

/// Stores these, in the place of what is there.
fn store(writer: &mut Writer, flows: &[Flow]) {
    let mut group = Group::default();
    group.next_conn = 2;
    for flow in flows {
        let (mid, mut bytes) = (flow.mid.unwrap(), Vec::new());
        group.next_mid = group.next_mid.max(mid.0 + 1);
        let draft = Draft::new(mid, flow, true, &mut bytes);
        group.push(draft, &bytes);
    }
    writer.commit(&mut group).unwrap();
}

fn delete(writer: &mut Writer, mids: &[Mid]) {
    let files = record::RecordFiles::new(Arc::new(source::Source::new(writer.keeper.paths.clone(), None)));
    let plan = deleting::plan(&writer.conn, &files, mids, Marked::Keep, Duration::MAX).unwrap();
    deleting::delete(&mut writer.conn, &plan.doomed, Marked::Keep).unwrap();
}

/// The mids that a filter finds, and how many records were read for them.
fn found(path: &Path, filter: &str) -> (Vec<u64>, u64) {
    let filter = Filter::parse(filter).unwrap();
    let mut mids = Vec::new();
    let mut see = |row: Row| {
        mids.push(row.mid.0);
        ControlFlow::Continue(())
    };
    let search = Search { order: Order::OldestFirst, ..Search::new(&filter) };
    let reader = Reader::open(path).unwrap();
    let progress = reader.search(&search, &mut see, &mut |_| ControlFlow::Continue(())).unwrap();
    (mids, progress.records)
}

fn state(path: &Path) -> IndexState {
    Reader::open(path).unwrap().index_state().unwrap()
}

fn chunks(writer: &Writer) -> i64 {
    writer.conn.query_row("SELECT count(*) FROM index_chunk", [], |row| row.get(0)).unwrap()
}

#[test]
fn bodies_that_cannot_match_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    let noise =
        |n: u64| (0..3000_u64).map(|i| ((i * 31 + n) * (i + 77)).to_le_bytes()[1]).collect::<Vec<u8>>();
    let flows: Vec<_> = (1..=300)
        .map(|n| match n {
            7 => with_bodies(Mid(n), b"", b"the Needle, in text", &[]),
            8 => with_bodies(Mid(n), b"a needle that was sent", b"", &[]),
            9 => with_bodies(Mid(n), b"", &[noise(9), b"needle\0in noise".to_vec()].concat(), &[]),
            n if n % 3 == 0 => with_bodies(Mid(n), b"", &noise(n), &[]),
            n => with_bodies(Mid(n), b"name=value", format!("{{\"n\": {n}}}").as_bytes(), &[]),
        })
        .collect();
    store(&mut writer, &flows);
    assert_eq!(found(&path, "~b needle"), (vec![7, 8, 9], 300));
    assert_eq!(state(&path), IndexState { flows: 300, blocks: 1, ..IndexState::default() });
    make(&mut writer);
    let state = state(&path);
    assert_eq!((state.is_on, state.covered, state.indexed_blocks), (true, 300, 1), "{state:?}");
    for (filter, mids, read) in [
        ("~b NEEDLE", vec![7, 8, 9], 3),
        ("~bq needle", vec![8], 1),
        ("~bs needle", vec![7, 9], 2),
        ("~b 'needle.*noise' | ~b 'needle that'", vec![8, 9], 2),
        ("~b nosuch", vec![], 0),
        ("~b '(nosuch|needle).in'", vec![9], 3),
        ("~bs \"n\\\": 100}\"", vec![100], 1),
    ] {
        assert_eq!(found(&path, filter), (mids, read), "{filter}");
    }
    // In what is no text, runs of five are noted, so that these 100 are read for one of four, and two others.
    assert_eq!(found(&path, "~b need"), (vec![7, 8, 9], 102));
    assert_eq!(found(&path, "!~b needle").0.len(), 297);
}

#[test]
fn what_is_written_again_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    let flows: Vec<_> = (1..=20).map(|n| with_bodies(Mid(n), b"", b"something", &[])).collect();
    store(&mut writer, &flows);
    make(&mut writer);
    store(
        &mut writer,
        &[with_bodies(Mid(5), b"", b"news of it", &[]), with_bodies(Mid(21), b"", b"news", &[])],
    );
    assert_eq!(found(&path, "~b news"), (vec![5, 21], 2));
    assert_eq!(state(&path).covered, 19);
    make(&mut writer);
    assert_eq!((state(&path).covered, found(&path, "~b something").0.len()), (21, 19));
    // While it is being made, too: read before, written after.
    writer.conn.execute_batch("UPDATE index_block SET stale = 99").unwrap();
    writer.keeper.book.index.begin(Pace::AT_ONCE);
    assert_eq!((step(&mut writer), step(&mut writer)), (Step::Later, Step::More { rest: 4 }));
    store(&mut writer, &[with_bodies(Mid(6), b"", b"news again", &[])]);
    while step(&mut writer) != Step::Idle {}
    assert_eq!(found(&path, "~b news"), (vec![5, 6, 21], 3));
}

#[test]
fn of_what_is_deleted_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    let flows: Vec<_> = (1..=2000).map(|n| with_bodies(Mid(n), b"", b"something", &[])).collect();
    store(&mut writer, &flows);
    make(&mut writer);
    let before = chunks(&writer);
    delete(&mut writer, &[Mid(3)]);
    assert_eq!((state(&path).indexed_blocks, chunks(&writer)), (1, before / 2));
    assert_eq!(found(&path, "~b something").0.len(), 1999);
    // Deleted after it was read, before it is written.
    writer.keeper.book.index.begin(Pace::AT_ONCE);
    while step(&mut writer) != Step::Later {}
    assert_eq!(step(&mut writer), Step::More { rest: 4 });
    delete(&mut writer, &[Mid(4)]);
    assert_eq!(step(&mut writer), Step::More { rest: 4 });
    assert_eq!((state(&path).indexed_blocks, chunks(&writer)), (1, before / 2));
    make(&mut writer);
    assert_eq!((state(&path).covered, state(&path).indexed_blocks), (1998, 2));
    want(&writer.conn, false).unwrap();
    writer.keeper.book.index.begin(Pace::AT_ONCE);
    while step(&mut writer) != Step::Idle {}
    assert_eq!((chunks(&writer), state(&path).indexed_blocks, state(&path).is_on), (0, 0, false));
    assert_eq!(found(&path, "~b something").0.len(), 1998);
}

#[test]
fn a_killed_writer_leaves_what_is_whole_and_the_next_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    // So varied that a block takes more than one step.
    let text = |n: u64| (0..60).map(|i| format!("{:x} ", (n * 7919 + i) * 2_654_435_761)).collect::<String>();
    let flows: Vec<_> = (1..=1500).map(|n| with_bodies(Mid(n), b"", text(n).as_bytes(), &[])).collect();
    store(&mut writer, &flows);
    want(&writer.conn, true).unwrap();
    writer.keeper.book.index.begin(Pace::AT_ONCE);
    while chunks(&writer) == 0 {
        step(&mut writer);
    }
    assert_eq!(state(&path).indexed_blocks, 0, "the row by which they count comes last");
    let wanted = text(1400).split_whitespace().nth(9).unwrap().to_owned();
    assert_eq!(found(&path, &format!("~b {wanted}")), (vec![1400], 1500));
    drop(writer);
    let mut writer = open_quick(&path);
    make(&mut writer);
    assert_eq!((state(&path).indexed_blocks, state(&path).covered), (2, 1500));
    let (mids, read) = found(&path, &format!("~b {wanted}"));
    assert!(mids == [1400] && read < 30, "{mids:?} {read}");
}

#[test]
fn a_damaged_index_is_told_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    let flows: Vec<_> = (1..=20).map(|n| with_bodies(Mid(n), b"", b"something", &[])).collect();
    store(&mut writer, &flows);
    make(&mut writer);
    let damages = || {
        let mut parts = Vec::new();
        let mut found = |damage: &Damage| {
            parts.push(format!("{}: {}", damage.part, damage.detail));
            Ok::<_, StoreError>(())
        };
        Reader::open(&path).unwrap().check(&mut found, |_, _| {}).unwrap();
        parts
    };
    assert_eq!(damages(), [""; 0]);
    let flip = "UPDATE index_chunk SET data = CAST(substr(data, 1, 9) || x'ff' || substr(data, 11) AS BLOB)";
    writer.conn.execute_batch(flip).unwrap();
    assert_eq!(found(&path, "~b something").0.len(), 20);
    assert!(damages()[0].starts_with("index of bodies: chunk "), "{:?}", damages());
    writer.conn.execute_batch("UPDATE index_block SET classes = x'00'").unwrap();
    assert_eq!(found(&path, "~b something").0.len(), 20);
    assert_eq!(damages()[0], "index of bodies: what block 0 covers");
}

#[test]
fn texts_of_all_kinds_are_covered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    let long = [&b"x ".repeat(3 << 20)[..], b"the end"].concat();
    // More trigrams than are noted.
    let scattered = |i: u64| {
        let mixed =
            (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i << 40 ^ 0x5bd1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        b'!' + u8::try_from((mixed ^ mixed >> 29) % 8191 % 90).unwrap()
    };
    let varied: Vec<u8> = (0..300_000).map(scattered).collect();
    let mut open = with_bodies(Mid(5), b"", b"beginning", &[]);
    open.state = State::Open;
    let mut socket = with_bodies(Mid(6), b"", b"", &[]);
    socket.websocket = Some(Box::new(WebSocket { len_from_client: 11, ..WebSocket::default() }));
    let all = [
        with_bodies(Mid(1), b"", b"caf\xe9 noir", &[("content-type", "text/plain; charset=latin1")]),
        with_bodies(Mid(2), b"", b"\0t\0e\0a\0s", &[("content-type", "text/plain; charset=utf-16be")]),
        with_bodies(Mid(3), b"", &long, &[]),
        with_bodies(Mid(4), b"", &varied, &[]),
        open,
        socket,
    ];
    let message = |seq, text: &'static [u8]| Message {
        seq,
        from_client: true,
        opcode: Opcode::Text,
        len: text.len() as u64,
        content: Content::Inline(Bytes::from_static(text)),
        ..Message::default()
    };
    let mut group = Group::default();
    group.push_message(Mid(6), &message(1, b"hello world"));
    writer.commit(&mut group).unwrap();
    store(&mut writer, &all);
    make(&mut writer);
    // Not those that are too long and too varied, and the one that has not ended.
    assert_eq!(state(&path).covered, 3);
    for (filter, mids, read) in [
        ("~b CAFÉ", vec![1], 4),
        ("~b teas", vec![2], 4),
        ("~b 'the end'", vec![3], 3),
        ("~b beginning", vec![5], 3),
        ("~bq 'Hello W'", vec![6], 2),
        ("~b 'hello!'", vec![], 3),
    ] {
        assert_eq!(found(&path, filter), (mids, read), "{filter}");
    }
    let mut group = Group::default();
    group.push_message(Mid(6), &message(2, b"one more"));
    writer.commit(&mut group).unwrap();
    assert_eq!(found(&path, "~b 'one more'").0, [6]);
}

#[test]
fn a_copy_has_no_index_and_a_store_of_an_older_version_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open_quick(&path);
    store(&mut writer, &[with_bodies(Mid(1), b"", b"something", &[])]);
    make(&mut writer);
    let (packed, again) = (dir.path().join("p.db"), dir.path().join("again.db"));
    pack(&path, &packed, PackOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    unpack(&packed, &again, PackOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    for copy in [&packed, &again] {
        assert_eq!(state(copy), IndexState { flows: 1, blocks: 1, ..IndexState::default() });
        assert_eq!(found(copy, "~b something").0, [1]);
    }
    let old = tempfile::tempdir().unwrap();
    let path = of_version(old.path(), 3);
    assert_eq!(state(&path).indexed_blocks, 0);
    let before = found(&path, "~b '[a-z][a-z][a-z]'").0;
    let mut indexer = BodyIndexer::open(&path, true).unwrap();
    while indexer.step().unwrap() != Indexing::Done {}
    assert_eq!(indexer.progress().unwrap(), IndexProgress { done: 1, total: 1 });
    indexer.close().unwrap();
    assert_eq!(state(&path).indexed_blocks, 1);
    assert_eq!(found(&path, "~b '[a-z][a-z][a-z]'").0, before);
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Act {
    /// A flow is stored, perhaps again, with bodies of these pieces.
    Store(u64, Vec<usize>, Vec<usize>, usize),
    Delete(u64),
    /// So many steps of making the index.
    Steps(usize),
    Reopen,
}

const PIECES: &[&[u8]] = &[
    b"token",
    b"TOKEN=abc",
    b"\0\x01\xff\xfe\x80",
    b" ",
    b"session",
    b"\xe9t\xe9",
    "été".as_bytes(),
    b"k",
    b"K",
    "\u{212a}elvin".as_bytes(),
    b"{\"id\": 12345}",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"long run of printable text\n",
];

fn any_act() -> impl Strategy<Value = Act> {
    let mid = prop::sample::select(&[1_u64, 2, 3, 900, 1023, 1024, 1025, 5000][..]);
    let pieces = || prop::collection::vec(0..PIECES.len(), 0..8);
    prop_oneof![
        6 => (mid.clone(), pieces(), pieces(), 0_usize..6).prop_map(|(m, a, b, h)| Act::Store(m, a, b, h)),
        1 => mid.prop_map(Act::Delete),
        6 => (1_usize..12).prop_map(Act::Steps),
        1 => Just(Act::Reopen),
    ]
}

fn joined(pieces: &[usize]) -> Vec<u8> {
    pieces.iter().flat_map(|&at| PIECES[at]).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_the_same_with_an_index_and_without(
        acts in prop::collection::vec(any_act(), 1..40),
        parts in prop::collection::vec((0..PIECES.len(), 0_usize..4, 1_usize..9), 12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.db");
        let mut writer = open_quick(&path);
        want(&writer.conn, true).unwrap();
        writer.keeper.book.index.begin(Pace::AT_ONCE);
        let mut there = BTreeMap::new();
        for act in acts {
            match act {
                Act::Store(mid, request, response, kind) => {
                    let headers: &[_] = match kind {
                        0 => &[("content-type", "text/plain; charset=latin1")],
                        1 => &[("content-type", "application/octet-stream")],
                        _ => &[],
                    };
                    let mut flow = with_bodies(Mid(mid), &joined(&request), &joined(&response), headers);
                    flow.state = if kind == 5 { State::Open } else { State::Complete };
                    store(&mut writer, &[flow]);
                    there.insert(mid, kind == 5);
                }
                Act::Delete(mid) => {
                    // One that is under way stays.
                    if there.get(&mid) == Some(&false) {
                        delete(&mut writer, &[Mid(mid)]);
                        there.remove(&mid);
                    }
                }
                Act::Steps(count) => for _ in 0..count {
                    if step(&mut writer) == Step::Idle {
                        writer.keeper.book.index.begin(Pace::AT_ONCE);
                    }
                },
                Act::Reopen => {
                    drop(writer);
                    writer = open_quick(&path);
                    writer.keeper.book.index.begin(Pace::AT_ONCE);
                }
            }
        }
        let mut filters = vec!["~b 'tok.n' | ~bq id".to_owned(), "!~bs session".to_owned(), "~b 'ÉTÉ'".to_owned()];
        filters.extend(["~b kelvin", "~b 'K|token'", "~bq 'run of.*text'", "~b '\\xff\\xff\\xff'"].map(str::to_owned));
        for (piece, from, len) in parts {
            let text = String::from_utf8_lossy(PIECES[piece]).into_owned();
            let part: String = text.chars().skip(from).take(len).filter(|c| !"\"\\\0".contains(*c)).collect();
            if !part.is_empty() {
                filters.push(format!("body:\"{part}\""));
            }
        }
        let with: Vec<_> = filters.iter().map(|filter| found(&path, filter).0).collect();
        writer.conn.execute_batch("DELETE FROM index_block").unwrap();
        let without: Vec<_> = filters.iter().map(|filter| found(&path, filter).0).collect();
        for ((filter, with), without) in filters.iter().zip(with).zip(without) {
            prop_assert_eq!(with, without, "{}", filter);
        }
    }
}
