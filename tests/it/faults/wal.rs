//! Stores whose log (SQLite's `-wal`) is not the one that was left: cut at any place, gone, or that of another store.

use std::path::{Path, PathBuf};

use manent::flow::{Body, Flow, Mid, Request, Response, State};
use manent::record::{Recorder, RecorderOptions};
use manent::store::{ListQuery, Order, Reader, StoreError};

use super::capture::{Chance, copy};

const FLOWS: u64 = 40;

/// A store of [`FLOWS`] flows, each committed by itself, all but the first few of them in the log alone: a copy of its files
/// while the recorder is still there, which is what a crash leaves.
async fn crashed(dir: &Path, word: &str) -> PathBuf {
    let path = dir.join(format!("{word}.db"));
    let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
    for n in 1..=FLOWS {
        let len = if n % 2 == 0 { 100 } else { 5000 };
        let request =
            Request { method: "GET".into(), target: format!("/{word}/{n}").into(), ..Request::default() };
        let response = Response {
            status: 200,
            body: Body::inline(vec![n.to_le_bytes()[0]; len]),
            ..Response::default()
        };
        let flow = Flow {
            state: State::Complete,
            request: Some(request),
            response: Some(response),
            ..Flow::default()
        };
        assert_eq!(recorder.store(flow).await.unwrap(), Mid(n));
    }
    let to = dir.join(word);
    std::fs::create_dir(&to).unwrap();
    let copied = copy(&path, &to);
    recorder.close().await.unwrap();
    copied
}

fn wal(path: &Path) -> PathBuf {
    format!("{}-wal", path.display()).into()
}

/// The mids of a store that a writer has opened and closed, after a look at each flow: there, and whole.
async fn recovered(path: &Path, word: &str) -> Vec<u64> {
    let recorder = Recorder::open(path, RecorderOptions::default()).await.unwrap();
    recorder.close().await.unwrap();
    let reader = Reader::open(path).unwrap();
    let query = ListQuery { order: Order::OldestFirst, ..ListQuery::default() };
    let mids: Vec<u64> = reader.list(&query).unwrap().iter().map(|row| row.mid.0).collect();
    for &n in &mids {
        let flow = reader.load(Mid(n), 1 << 20).unwrap().unwrap();
        assert_eq!(flow.request.unwrap().target, format!("/{word}/{n}"));
        let body = flow.response.unwrap().body;
        assert!(body.as_inline().unwrap().iter().all(|&byte| byte == n.to_le_bytes()[0]));
    }
    mids
}

/// The first flows are there and whole, up to one; none that is there after one that is not.
#[tokio::test]
async fn a_log_cut_at_any_place_gives_the_flows_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = crashed(dir.path(), "cut").await;
    let log = std::fs::read(wal(&crashed)).unwrap();
    let mut chance = Chance::new(3);
    let mut counts = Vec::new();
    for place in 0..12 {
        let to = dir.path().join(format!("cut{place}"));
        std::fs::create_dir(&to).unwrap();
        let path = copy(&crashed, &to);
        let cut = match place {
            0 => 0,
            1 => 20, // in the log's header
            2 => log.len(),
            _ => chance.below(log.len()),
        };
        std::fs::write(wal(&path), &log[..cut]).unwrap();
        let mids = recovered(&path, "cut").await;
        assert_eq!(mids, (1..=mids.len() as u64).collect::<Vec<_>>(), "cut at {cut}");
        counts.push((cut, mids.len()));
    }
    counts.sort_unstable();
    assert!(counts.is_sorted_by_key(|(_, count)| *count), "{counts:?}");
    assert_eq!(counts.last().map(|(_, count)| *count), Some(40), "{counts:?}");
}

/// Garbage in the log ends it there: a frame whose sum is wrong, and all behind it, never was committed.
#[tokio::test]
async fn garbage_in_a_log_ends_it_there() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = crashed(dir.path(), "noise").await;
    let mut log = std::fs::read(wal(&crashed)).unwrap();
    let middle = log.len() / 2;
    log[middle..middle + 100].fill(0xaa);
    std::fs::write(wal(&crashed), log).unwrap();
    let mids = recovered(&crashed, "noise").await;
    assert!(!mids.is_empty() && mids.len() < 40, "{}", mids.len());
    assert_eq!(mids, (1..=mids.len() as u64).collect::<Vec<_>>());
}

/// SQLite takes any log of its format that lies beside a database for that database's own (sqlite.org/howtocorrupt.html
/// §2.4): nothing in it names the file that it belongs to. So what is read is a mixture of both, in this case, the other
/// store's rows with bodies that are not here. It must be told, flow by flow, and harm nobody.
#[tokio::test]
async fn a_log_of_another_store_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (crashed(dir.path(), "one").await, crashed(dir.path(), "other").await);
    std::fs::copy(wal(&other), wal(&one)).unwrap();
    // Logs of one length from stores of one make: it opens. What is asserted is what is read then.
    let recorder = Recorder::open(&one, RecorderOptions::default()).await.unwrap();
    let mid = recorder.store(Flow { state: State::Complete, ..Flow::default() }).await;
    recorder.close().await.unwrap();
    let reader = Reader::open(&one).unwrap();
    let (mut read, mut damaged) = (0, 0);
    for n in 1..=FLOWS {
        match reader.load(Mid(n), 1 << 20) {
            Ok(flow) => {
                let target = flow.unwrap().request.unwrap().target;
                assert!(target == format!("/one/{n}") || target == format!("/other/{n}"), "{target:?}");
                read += 1;
            }
            Err(StoreError::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert_eq!(read + damaged, FLOWS);
    assert!(mid.is_ok_and(|mid| mid.0 > FLOWS), "a mid was used twice");
}
