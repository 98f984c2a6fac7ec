//! Records that are none: whoever made the file, a bad row is told, alone, and never ends the process.

use std::path::Path;

use manent::flow::{Flow, Mid, Value};
use manent::record::{Recorder, RecorderOptions};
use manent::store::{ListQuery, Reader, StoreError};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::capture::{Chance, ended, manent};
use crate::cli::flow;

/// A store of three flows.
fn store(path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let recorder = Recorder::open(path, RecorderOptions::default()).await.unwrap();
        for target in ["/one", "/two", "/three"] {
            recorder.store(Flow { imported: imported(), ..flow(target, b"some body") }).await.unwrap();
        }
        recorder.close().await.unwrap();
    });
}

/// What the deepest nesting of a record is made of.
fn imported() -> Option<Box<manent::flow::Imported>> {
    let metadata = Some(Value::List(vec![Value::List(vec![Value::Int("1".into())])]));
    Some(Box::new(manent::flow::Imported { format: "flows".into(), metadata, ..Default::default() }))
}

/// The record of a flow, as its row has it; a store of this version keeps it in a segment, an older one in the row.
fn poison(db: &rusqlite::Connection, mid: i64, record: &[u8]) {
    let columns = "SELECT count(*) FROM pragma_table_info('flow') WHERE name = 'record_segment'";
    if db.query_row(columns, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        db.execute("UPDATE flow SET record_segment = NULL WHERE mid = ?1", [mid]).unwrap();
    }
    db.execute("INSERT OR REPLACE INTO record (mid, pbuf) VALUES (?1, ?2)", (mid, record)).unwrap();
}

/// A field of a message: its number, the length that it claims, and what it has.
fn field(number: u64, claimed: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut varint in [number << 3 | 2, claimed] {
        while varint >= 0x80 {
            bytes.push(varint.to_le_bytes()[0] | 0x80);
            varint >>= 7;
        }
        bytes.push(varint.to_le_bytes()[0]);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// Messages within messages, through fields of these numbers by turns.
fn nested(numbers: &[u64], depth: usize) -> Vec<u8> {
    // From the inside to the outside, and each part backwards, so that depth costs no more than length.
    let mut backwards = Vec::new();
    for number in numbers.iter().cycle().take(depth * numbers.len()).collect::<Vec<_>>().into_iter().rev() {
        let head = field(*number, backwards.len() as u64, &[]);
        backwards.extend(head.iter().rev());
    }
    backwards.reverse();
    backwards
}

/// Records that a stranger might make. The numbers are those of proto/flow.proto.
fn poisons() -> Vec<(String, Vec<u8>)> {
    let mut poisons = vec![("nothing".to_owned(), Vec::new()), ("not a message".to_owned(), vec![0xff; 64])];
    for number in 1..=31 {
        poisons.push((format!("field {number} of 2 GiB"), field(number, 2 << 30, b"short")));
        poisons.push((format!("field {number} of 2^64 - 1"), field(number, u64::MAX, b"short")));
        poisons.push((format!("field {number} in itself"), nested(&[number], 3_000)));
    }
    for depth in [10, 40, 60, 90, 95, 100, 110, 3_000, 300_000] {
        let lists = nested(&[VALUE_ITEMS], depth);
        let metadata = field(IMPORTED_METADATA, lists.len() as u64, &lists);
        let record = field(FLOW_IMPORTED, metadata.len() as u64, &metadata);
        poisons.push((format!("{depth} lists within lists"), record));
        poisons
            .push((format!("{depth} backups of backups"), nested(&[FLOW_IMPORTED, IMPORTED_BACKUP], depth)));
    }
    poisons
}

const FLOW_IMPORTED: u64 = 18;
const IMPORTED_METADATA: u64 = 3;
const IMPORTED_BACKUP: u64 = 6;
const VALUE_ITEMS: u64 = 7;

/// A poisoned row is told as damaged, or read as what it says; the others are as they were.
fn survives(reader: &Reader, name: &str) {
    match reader.load(Mid(2), 1 << 20) {
        Ok(Some(flow)) => assert_eq!(flow.mid, Some(Mid(2)), "{name}"),
        Ok(None) => panic!("{name}: a row that is there is told as not there"),
        Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}"),
    }
    for good in [1, 3] {
        assert!(reader.load(Mid(good), 1 << 20).unwrap().is_some(), "{name}");
    }
    assert_eq!(reader.list(&ListQuery::default()).unwrap().len(), 3, "{name}");
}

#[test]
fn poisoned_records_are_told_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    store(&path);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    let reader = Reader::open(&path).unwrap();
    // A test's thread has 2 MiB of stack, as little as any that reads a store.
    for (name, record) in poisons() {
        poison(&db, 2, &record);
        survives(&reader, &name);
    }
}

/// Bytes by chance, and good records with some bytes changed.
#[test]
fn no_record_is_the_end_of_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    store(&path);
    let good = manent::codec::encode_flow(&Flow { imported: imported(), ..flow("/two", b"some body") });
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    let reader = Reader::open(&path).unwrap();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    let records = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        changes.prop_map(move |changes| {
            let mut record = good.clone();
            for (at, byte) in changes {
                let at = at.index(record.len());
                record[at] = byte;
            }
            record
        }),
    ];
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) });
    runner
        .run(&records, |record| {
            poison(&db, 2, &record);
            survives(&reader, "by chance");
            Ok(())
        })
        .unwrap();
}

/// The command line: rows are listed, the bad one is told by its mid with exit code 4, the next is shown.
#[test]
fn the_command_line_tells_of_a_poisoned_record_by_its_mid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    store(&path);
    let db = rusqlite::Connection::open(&path).unwrap();
    let ask = |args: &[&str]| {
        let mut command = manent(&path);
        command.args(args);
        ended(command)
    };
    for record in
        [nested(&[FLOW_IMPORTED, IMPORTED_BACKUP], 100_000), field(6, 2 << 30, b"short"), vec![0xff; 1000]]
    {
        poison(&db, 2, &record);
        assert_eq!(ask(&["ls"]).1.lines().count(), 3);
        for args in [&["show", "2"][..], &["show", "2", "--json"], &["cat", "2"]] {
            let (code, printed, said) = ask(args);
            // What is no damage by protobuf's rules, such as a field that is not known, is read.
            assert!(
                (code == 4 && said.contains("low 2") && said.len() < 500) || code <= 1,
                "{args:?}: {code} {printed} {said}"
            );
        }
        assert_eq!(ask(&["show", "3"]).0, 0);
    }
    poison(&db, 2, &[0xff; 1000]);
    let (code, _, said) = ask(&["show", "2"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("error[E405]") && said.contains("low 2"), "{said}");
}

/// A store whose pages were changed at random: whatever is left of it is read or told, and nothing is run or waited for.
#[test]
fn mutated_stores_are_read_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    store(&path);
    let good = std::fs::read(&path).unwrap();
    let mut chance = Chance::new(9);
    let mut damaged = 0;
    for round in 0..150 {
        let mut bytes = good.clone();
        for _ in 0..1 + chance.below(30) {
            let at = 100 + chance.below(bytes.len() - 100);
            bytes[at] = [0, 0xff, 0x7f, chance.byte()][chance.below(4)];
        }
        if round % 10 == 0 {
            bytes.truncate(100 + chance.below(bytes.len() - 100));
        }
        std::fs::write(&path, bytes).unwrap();
        let told = read_all(&path);
        damaged += usize::from(told.is_err());
    }
    assert!(
        damaged > 20,
        "only {damaged} stores were found to be damaged: the test changes nothing that counts"
    );
}

fn read_all(path: &Path) -> Result<(), StoreError> {
    let reader = Reader::open(path)?;
    reader.bounds()?;
    for row in reader.list(&ListQuery { limit: Some(100), ..ListQuery::default() })? {
        reader.load(row.mid, 1 << 20)?;
        reader.messages(row.mid, 0, 10)?;
    }
    Ok(())
}
