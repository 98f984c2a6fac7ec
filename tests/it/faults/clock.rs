//! Clocks that go back, or stand anywhere.

use manent::flow::{Flow, Mid};
use manent::record::{Recorder, RecorderOptions};
use manent::store::{ListQuery, Order, Reader};

use crate::cli::{Home, flow, parse, text};

/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

fn started(at: i64) -> Flow {
    let mut flow = flow("/", b"");
    flow.timing.started_unix_ns = at;
    flow
}

/// Mids are the order; the clock is only what it said. In any year, also in those that have no name in a calendar.
#[test]
fn the_order_is_that_of_mids_whatever_the_clock_says() {
    let now = 1_795_341_604 * SECOND;
    let times = [now, now - 3600 * SECOND, now + SECOND, -SECOND, 0, i64::MIN, i64::MAX, now];
    let home = Home::with(times.map(started));
    let listed = text(&home.run(&["ls"]).stdout);
    let mids: Vec<&str> = listed.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(mids, ["1", "2", "3", "4", "5", "6", "7", "8"], "{listed}");
    let rows = text(&home.run(&["ls", "--json"]).stdout);
    assert_eq!(rows.lines().map(|row| parse(row.as_bytes())["mid"].as_u64().unwrap()).max(), Some(8));
    for mid in mids {
        for args in [&["show", mid][..], &["show", mid, "--json"], &["cat", mid]] {
            let output = home.run(args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        }
    }
}

/// A store that was written when the clock was ahead is gone on with.
#[tokio::test]
async fn a_store_from_the_future_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    for at in [4_000_000_000 * SECOND, 1_000_000_000 * SECOND] {
        let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
        recorder.store(started(at)).await.unwrap();
        recorder.close().await.unwrap();
        // What a session says of itself is not believed either.
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute("UPDATE session SET started_unix_ns = ?1, ended_unix_ns = ?1 - 1", [i64::MAX]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let query = ListQuery { order: Order::OldestFirst, ..ListQuery::default() };
    let rows = reader.list(&query).unwrap();
    assert_eq!(rows.iter().map(|row| row.mid).collect::<Vec<_>>(), [Mid(1), Mid(2)]);
    assert!(rows[0].started_unix_ns > rows[1].started_unix_ns);
}
