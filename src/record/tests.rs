//! The recorder from the front: store and collect, tickets, bounds, failures, the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::flow::{
    Body, BodyEnd, ClientConn, Content, Flow, Kind, Message, Mid, Request, Response, ServerConn, State,
    Target, Tunnel,
};
use crate::store::{Reader, StoreError};

fn options() -> RecorderOptions {
    RecorderOptions::default()
}

fn flow(body: Vec<u8>) -> Flow {
    let request = Request { method: "POST".into(), target: "/a?b".into(), ..Request::default() };
    Flow {
        state: State::Complete,
        target: Target { host: "example.com".into(), port: 80, ..Target::default() },
        request: Some(Request { body: Body::inline(vec![1, 2, 3]), ..request }),
        response: Some(Response { status: 200, body: Body::inline(body), ..Response::default() }),
        ..Flow::default()
    }
}

fn response_body(flow: &Flow) -> &Body {
    &flow.response.as_ref().unwrap().body
}

#[tokio::test]
async fn what_is_stored_is_collected_with_bodies_and_connections() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&dir.path().join("f.db"), options()).await.unwrap();
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for body in [vec![], vec![7; 2048], vec![7; 2049], big] {
        let mut flow = flow(body);
        flow.client = Arc::new(ClientConn { mode: "explicit".into(), ..ClientConn::default() });
        flow.server = Some(Arc::new(ServerConn { dns_us: Some(5), ..ServerConn::default() }));
        flow.kind = Kind::Tunnel;
        flow.tunnel = Some(Box::new(Tunnel {
            reason: "unknown".into(),
            from_client: Body::inline(vec![4; 5000]),
            from_server: Body::default(),
        }));
        let mid = recorder.store(flow.clone()).await.unwrap();
        let back = recorder.collect(mid).await.unwrap().unwrap();
        assert_eq!(back.mid, Some(mid));
        assert_eq!(
            (&back.request, &back.response, &back.tunnel),
            (&flow.request, &flow.response, &flow.tunnel)
        );
        assert_eq!(back.client.mode, "explicit");
        assert_eq!(back.server.unwrap().dns_us, Some(5));
    }
    assert_eq!(recorder.collect(Mid(999)).await.unwrap(), None);
    assert_eq!(recorder.close().await.unwrap().stored, 4);
}

#[tokio::test]
async fn a_mid_is_never_used_twice_also_after_deletion_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let first = recorder.store(flow(vec![])).await.unwrap();
    let second = recorder.store(flow(vec![])).await.unwrap();
    assert!(first < second);
    recorder.close().await.unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("DELETE FROM flow; DELETE FROM record").unwrap();
    drop(db);
    let recorder = Recorder::open(&path, options()).await.unwrap();
    assert!(recorder.store(flow(vec![])).await.unwrap() > second);
    assert!(recorder.next_conn_id().0 >= 1);
    recorder.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_replaced_by_the_end_also_in_one_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let mut commits = recorder.commits();
    let mut ticket = recorder.admit().await;
    let mut body = ticket.body(BodySide::Response);
    body.write(Bytes::from(vec![9; 10_000])).await;
    let mut snapshot = flow(vec![]);
    snapshot.state = State::Open;
    snapshot.response.as_mut().unwrap().body.content = Content::Extents(body.extents());
    ticket.write_open(&snapshot.clone());
    let group = commits.recv().await.unwrap();
    assert_eq!((group[0].mid, group[0].state), (ticket.mid(), State::Open));
    ticket.write_open(&snapshot.clone());
    let mid = ticket.mid();
    body.write(Bytes::from(vec![8; 10_000])).await;
    let mut end = snapshot;
    end.state = State::Complete;
    end.response.as_mut().unwrap().body.content = Content::Extents(body.extents());
    ticket.finish(&end);
    let stats = recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.lost, stats.queued), (1, 0, 0));
    let back = Reader::open(&path).unwrap().load(mid, 1 << 20).unwrap().unwrap();
    assert_eq!(back.state, State::Complete);
    assert_eq!(response_body(&back).as_inline().unwrap().len(), 20_000);
}

#[tokio::test]
async fn the_newest_revision_of_a_connection_is_kept_whatever_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let id = recorder.next_conn_id();
    let revision = |revision| Arc::new(ClientConn { id, revision, ..ClientConn::default() });
    let (early, late) = (recorder.admit().await, recorder.admit().await);
    // The close is told before the flow of the connection ends, with the facts that it saw when it began.
    recorder.client_conn_changed(revision(5));
    early.finish(&Flow { client: revision(3), ..flow(vec![]) });
    recorder.store(flow(vec![])).await.unwrap();
    let conn = |mid| async move { Reader::open(mid).unwrap().flow(Mid(1)).unwrap().unwrap().client.revision };
    assert_eq!(conn(&path).await, 5);
    late.finish(&Flow { client: revision(4), ..flow(vec![]) });
    recorder.client_conn_changed(revision(6));
    // A connection without a flow is not written.
    recorder
        .client_conn_changed(Arc::new(ClientConn { id: recorder.next_conn_id(), ..ClientConn::default() }));
    recorder.close().await.unwrap();
    assert_eq!(conn(&path).await, 6);
    let db = rusqlite::Connection::open(&path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM conn", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn admission_waits_while_all_places_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { queue_places: 2, ..options() };
    let recorder = Recorder::open(&dir.path().join("f.db"), options).await.unwrap();
    let (one, two) = (recorder.admit().await, recorder.admit().await);
    let third = recorder.admit();
    let mut third = std::pin::pin!(third);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut third).await.is_err());
    // An abandoned ticket gives its place back at once, a finished one after its commit.
    drop(one);
    let third = third.await;
    assert_eq!((third.mid(), recorder.stats().queued), (Mid(3), 2));
    two.finish(&flow(vec![]));
    let fourth = recorder.admit().await;
    assert_eq!(recorder.stats().stored, 1);
    drop((third, fourth));
    recorder.close().await.unwrap();
}

#[tokio::test]
async fn admission_waits_while_the_bytes_are_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { queue_bytes: 8192, linger: Duration::from_millis(50), ..options() };
    let recorder = Recorder::open(&dir.path().join("f.db"), options).await.unwrap();
    for _ in 0..200 {
        recorder.admit().await.finish(&flow(vec![0; 1500]));
        // With two flows of 1.9 KB the 4 KB are not used up, with three they are, however fast they come.
        assert!(recorder.stats().queued <= 3);
    }
    let stats = recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.lost), (200, 0));
}

/// An import asks late. Each flow of it hurried the driver at once, so that groups were as small as commits are short.
#[tokio::test]
async fn a_group_lingers_until_somebody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { linger: Duration::from_secs(3600), ..options() };
    let recorder = Recorder::open(&dir.path().join("f.db"), options).await.unwrap();
    let mut receipts = Vec::new();
    for _ in 0..50 {
        receipts.extend(recorder.admit().await.finish_with_receipt(&flow(vec![7])));
        tokio::task::yield_now().await;
    }
    assert_eq!(recorder.stats().groups, 0);
    for (receipt, mid) in receipts.into_iter().zip(1..) {
        assert_eq!(receipt.committed().await.unwrap(), Mid(mid));
    }
    assert_eq!(recorder.stats().groups, 1);
    recorder.close().await.unwrap();
}

#[tokio::test]
async fn a_group_lingers_until_somebody_is_in_a_hurry() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { linger: Duration::from_secs(3600), ..options() };
    let recorder = Recorder::open(&dir.path().join("f.db"), options).await.unwrap();
    let mut commits = recorder.commits();
    for _ in 0..50 {
        recorder.admit().await.finish(&flow(vec![2]));
        tokio::task::yield_now().await;
    }
    assert_eq!(recorder.stats().groups, 0);
    recorder.hurry();
    assert_eq!(commits.recv().await.unwrap().len(), 50);
    recorder.close().await.unwrap();
}

fn message(seq: u64, payload: Vec<u8>) -> Message {
    let len = payload.len() as u64;
    Message { seq, len, end: BodyEnd::Whole, content: Content::Inline(payload.into()), ..Message::default() }
}

/// Messages weigh what they hold: however fast they come, no more than the bound waits for the disk.
#[tokio::test]
async fn messages_wait_while_the_bytes_are_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let options = RecorderOptions { queue_bytes: 8192, linger: Duration::from_millis(5), ..options() };
    let recorder = Recorder::open(&path, options).await.unwrap();
    let mut ticket = recorder.admit().await;
    ticket.write_open(&Flow::default());
    let messages = ticket.messages();
    for seq in 1..=500 {
        messages.room().await;
        messages.push(&message(seq, vec![7; 1000]));
        // With three of some 1.2 KB the 4 KB are not used up, with four they are.
        assert!(seq - recorder.stats().messages <= 4);
    }
    ticket.finish(&flow(vec![]));
    let stats = recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.messages, stats.lost_messages), (1, 500, 0));
    let rows = Reader::open(&path).unwrap().messages(Mid(1), 0, 1000).unwrap();
    assert!(rows.iter().map(|row| row.seq).eq(1..=500));
}

/// Messages that cannot be stored are counted, never passed over in silence.
#[tokio::test]
async fn messages_that_are_lost_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&dir.path().join("f.db"), options()).await.unwrap();
    let mut ticket = recorder.admit().await;
    ticket.write_open(&Flow::default());
    let messages = ticket.messages();
    recorder.limit_pages(10).await;
    let told = async {
        let mut pushed = 0;
        while recorder.stats().lost_messages == 0 {
            messages.room().await;
            pushed += 1;
            messages.push(&message(pushed, vec![7; 1000]));
            tokio::task::yield_now().await;
        }
        pushed
    };
    let pushed = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    recorder.limit_pages(100_000).await;
    ticket.finish(&flow(vec![]));
    let stats = recorder.close().await.unwrap();
    assert_eq!(stats.messages + stats.lost_messages, pushed);
    messages.push(&message(pushed + 1, vec![]));
    assert_eq!(recorder.stats().lost_messages, stats.lost_messages + 1);
}

#[tokio::test]
async fn closing_drains_and_may_be_done_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    for _ in 0..3000 {
        recorder.admit().await.finish(&flow(vec![5; 100]));
    }
    let late = recorder.admit().await;
    let first = recorder.close().await.unwrap();
    assert_eq!((first.stored, first.lost), (3000, 0));
    assert_eq!(recorder.clone().close().await.unwrap(), first);
    late.finish(&flow(vec![]));
    assert_eq!(recorder.stats().lost, 1);
    assert!(matches!(recorder.store(flow(vec![])).await, Err(RecordError::Closed)));
    recorder.admit().await.finish(&flow(vec![]));
    assert!(!dir.path().join("f.db-wal").exists());
    let (low, high, count) = Reader::open(&path).unwrap().bounds().unwrap().unwrap();
    assert_eq!((low, high, count), (Mid(1), Mid(3000), 3000));
}

#[tokio::test]
async fn dropping_the_last_handle_still_stores_what_was_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let mut commits = recorder.commits();
    recorder.admit().await.finish(&flow(vec![]));
    drop(recorder);
    assert_eq!(commits.recv().await.unwrap()[0].url, "http://example.com/a?b");
    // The feed ends with the driver, which then has closed the store.
    assert!(commits.recv().await.is_err());
    assert!(Reader::open(&path).unwrap().flow(Mid(1)).unwrap().is_some());
}

#[tokio::test]
async fn a_second_writer_is_refused_with_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let second = Recorder::open(&path, options()).await.unwrap_err();
    assert!(matches!(second, StoreError::Locked { pid, .. } if pid == Some(std::process::id())), "{second}");
    recorder.close().await.unwrap();
}

/// A store whose database may not grow beyond some pages: SQLite says `SQLITE_FULL`, as on a full disk.
#[tokio::test]
async fn a_full_database_costs_flows_and_not_the_recorder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    recorder.limit_pages(24).await;
    let first = recorder.store(flow(vec![])).await.unwrap();
    let mut stored = vec![first];
    let error = loop {
        match recorder.store(flow(vec![1; 2000])).await {
            Ok(mid) => stored.push(mid),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, RecordError::Commit(e) if matches!(**e, StoreError::Full { .. })), "{error}");
    // Nobody waits for this one: it is counted.
    recorder.admit().await.finish(&flow(vec![1; 2000]));
    let told = async {
        while recorder.stats().lost < 2 {
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    assert!(told.is_ok(), "{:?} after {error}, {} stored", recorder.stats(), stored.len());
    recorder.limit_pages(100_000).await;
    stored.push(recorder.store(flow(vec![2; 2000])).await.unwrap());
    for mid in stored {
        assert!(recorder.collect(mid).await.unwrap().is_some());
    }
    assert_eq!(recorder.close().await.unwrap().lost, 2);
}

#[tokio::test]
async fn a_body_that_the_disk_cannot_take_is_told_and_the_next_one_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, options()).await.unwrap();
    let segment = dir.path().join("f.db-bodies");
    // A file where the folder should be.
    std::fs::write(&segment, b"").unwrap();
    let error = recorder.store(flow(vec![6; 5000])).await.unwrap_err();
    let RecordError::BodyLost { mid } = error else { panic!("{error}") };
    let back = recorder.collect(mid).await.unwrap().unwrap();
    assert_eq!((&response_body(&back).content, response_body(&back).end), (&Content::Absent, BodyEnd::Lost));
    assert_eq!(response_body(&back).len, 5000);
    std::fs::remove_file(&segment).unwrap();
    let mid = loop {
        match recorder.store(flow(vec![6; 5000])).await {
            Ok(mid) => break mid,
            // The segment writer may not have looked again yet.
            Err(RecordError::BodyLost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let back = recorder.collect(mid).await.unwrap().unwrap();
    assert_eq!(response_body(&back).as_inline().unwrap(), &vec![6; 5000]);
    recorder.close().await.unwrap();
}

/// A flow that was stored as open and is not wanted at its end is taken out again, also when both are in one group. The
/// places of all come back.
#[tokio::test]
async fn what_the_filter_does_not_want_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let filter = Some("status<400".parse().unwrap());
    let recorder =
        Recorder::open(&path, RecorderOptions { filter, queue_places: 2, ..options() }).await.unwrap();
    let unwanted = || {
        let mut flow = flow(vec![]);
        flow.response.as_mut().unwrap().status = 500;
        flow
    };
    let mut commits = recorder.commits();
    let mut early = recorder.admit().await;
    early.write_open(&Flow { state: State::Open, ..flow(vec![]) });
    assert_eq!(commits.recv().await.unwrap()[0].mid, early.mid());
    let mut late = recorder.admit().await;
    late.write_open(&Flow { state: State::Open, ..flow(vec![]) });
    late.messages().push(&Message { seq: 1, ..Message::default() });
    assert!(late.is_wanted(&flow(vec![])) && !late.may_be_wanted(&unwanted()));
    let mids = [early.mid(), late.mid()];
    early.finish(&unwanted());
    late.finish(&unwanted());
    for _ in 0..3 {
        recorder.admit().await.finish(&unwanted());
    }
    // What is given to be stored is not asked.
    let given = recorder.store(unwanted()).await.unwrap();
    let stats = recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.left_out, stats.lost), (1, 5, 0));
    let reader = Reader::open(&path).unwrap();
    for mid in mids {
        assert_eq!((reader.flow(mid).unwrap(), reader.last_message(mid).unwrap()), (None, 0));
    }
    assert_eq!(reader.bounds().unwrap(), Some((given, given, 1)));
}

/// A vacuum, a backup, somebody at a prompt: whoever has SQLite's write lock for long costs time, and no flow.
#[tokio::test]
async fn a_database_that_another_process_has_locked_is_waited_for_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let recorder = Recorder::open(&path, RecorderOptions { queue_places: 4, ..options() }).await.unwrap();
    recorder.wait_shortly_for_locks().await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..4 {
        recorder.admit().await.finish(&flow(vec![1]));
    }
    // All places are taken, so the next one has to wait, and memory is bounded.
    let mut next = std::pin::pin!(recorder.admit());
    while recorder.times_locked_out() < 5 {
        assert!(tokio::time::timeout(Duration::from_millis(1), next.as_mut()).await.is_err());
    }
    assert_eq!((recorder.stats().stored, recorder.stats().lost), (0, 0));
    assert!(!recorder.is_failing());
    other.execute_batch("COMMIT").unwrap();
    next.await.finish(&flow(vec![2]));
    assert_eq!(recorder.close().await.map(|stats| (stats.stored, stats.lost)).unwrap(), (5, 0));
    assert_eq!(Reader::open(&path).unwrap().bounds().unwrap(), Some((Mid(1), Mid(5), 5)));
}

/// A request read from a store shares its memory with others: news that wait to be heard would keep it.
#[tokio::test]
async fn news_hold_no_memory_of_their_flows() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&dir.path().join("f.db"), RecorderOptions::default()).await.unwrap();
    let mut commits = recorder.commits();
    for method in ["GET", "PATCH"] {
        let memory = Bytes::from(format!("{method} and much else"));
        let mut flow = flow(Vec::new());
        flow.request.as_mut().unwrap().method = memory.slice(..method.len());
        recorder.store(flow).await.unwrap();
        let news = commits.recv().await.unwrap();
        assert_eq!(news[0].method, method);
        assert!(memory.is_unique(), "{method}");
    }
    recorder.close().await.unwrap();
}
