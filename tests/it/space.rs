//! Giving space back from the outside: `prune`, `vacuum`, and limits while traffic goes on.

use std::time::Duration;

use manent::record::RecorderOptions;
use manent::store::{Reader, StoreError};

use crate::cli::{Home, flow, parse, text};
use crate::harness::{GET, OK, Origin, Setup, soon};

/// Ten flows with bodies that lie in segments.
fn home() -> Home {
    Home::with((1..=10).map(|n| flow(&format!("/{n}"), &vec![n; 50_000])))
}

fn mids(home: &Home) -> Vec<u64> {
    let lines = text(&home.run(&["ls", "--json"]).stdout);
    lines.lines().map(|line| parse(line.as_bytes())["mid"].as_u64().unwrap()).collect()
}

#[test]
fn prune_deletes_what_is_named_after_it_was_confirmed() {
    let home = home();
    let told = home.refuses(&["prune", "1-3,5"], 1, "error[E210]: nothing was deleted");
    assert!(told.contains("4 flows would be deleted") && told.contains("--yes"), "{told}");
    let plan = home.run(&["prune", "--dry-run", "--json", "1-3,5"]);
    let plan = parse(&plan.stdout);
    assert_eq!(plan["flows"], 4);
    assert!(plan["bytes"].as_u64().unwrap() > 200_000, "{plan}");
    assert_eq!(mids(&home).len(), 10);
    let done = home.run(&["prune", "--yes", "--json", "1-3,5"]);
    assert_eq!((done.status.code(), &parse(&done.stdout)), (Some(0), &plan));
    assert_eq!(mids(&home), [4, 6, 7, 8, 9, 10]);
    assert_eq!(home.run(&["prune", "--yes", "1-3,5"]).status.code(), Some(1));
    let done = home.run(&["prune", "--yes", "path:/7"]);
    assert!(text(&done.stderr).starts_with("1 flow deleted, "), "{}", text(&done.stderr));
    home.run(&["prune", "--yes", "--max-flows", "3"]);
    assert_eq!(mids(&home), [8, 9, 10]);
    home.run(&["prune", "--yes", "--max-age", "1s"]);
    assert_eq!(mids(&home), [0; 0], "their clock began in 1970");
    home.refuses(&["prune"], 2, "required");
    home.refuses(&["prune", "--yes", "~nonsense"], 2, "~nonsense");
}

#[test]
fn prune_works_beside_a_recorder_and_vacuum_is_refused_until_it_has_ended() {
    let home = home();
    let recorder = home.recorder();
    let done = home.run(&["prune", "--yes", "1-8"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("The running capture gives the space back."));
    let told = home.refuses(&["vacuum"], 4, "error[E401]");
    assert!(told.contains(&format!("pid {}", std::process::id())), "{told}");
    home.runtime.block_on(async {
        // Its connections are as it left them.
        let mid = recorder.store(flow("/11", &[11; 50_000])).await.unwrap();
        assert_eq!(mid.0, 11);
        recorder.close().await.unwrap();
    });
    let estimate = parse(&home.run(&["vacuum", "--dry-run", "--json"]).stdout);
    assert!(estimate["dead_bytes"].as_u64().unwrap() > 400_000, "{estimate}");
    let done = parse(&home.run(&["vacuum", "--json"]).stdout);
    let (before, after) = (done["bytes_before"].as_u64().unwrap(), done["bytes"].as_u64().unwrap());
    assert!(after + 400_000 < before, "{done}");
    assert_eq!(mids(&home), [9, 10, 11]);
    for mid in ["9", "10", "11"] {
        let body = home.run(&["cat", mid]).stdout;
        assert_eq!(body, vec![mid.parse::<u8>().unwrap(); 50_000]);
    }
}

#[test]
fn there_is_no_store_to_prune_or_vacuum() {
    let home = Home::new();
    home.refuses(&["prune", "--yes", "1"], 3, "error[E407]");
    home.refuses(&["vacuum"], 3, "error[E407]");
    home.refuses(&["--max-size", "1M"], 2, "it must be at least 64MiB");
    home.refuses(&["--max-flows", "0"], 2, "more than zero");
}

/// The oldest go while requests pass, and a reader that pages through meets nothing but whole flows.
#[tokio::test]
async fn a_capture_keeps_to_its_number_of_flows_while_traffic_goes_on() {
    let mut setup = Setup::with(|config| config.keep.max_flows = Some(3)).await;
    let origin = Origin::listen().await;
    let reader = Reader::open(&setup.config.store).unwrap();
    for _ in 0..12 {
        let (mut client, mut server) = setup.begin(&origin, GET).await;
        server.send(OK).await;
        client.head().await;
        setup.ended().await;
    }
    soon("the oldest to go", async {
        while reader.bounds().unwrap().is_some_and(|(_, _, count)| count > 3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (low, high, count) = reader.bounds().unwrap().unwrap();
    assert_eq!((low.0, high.0, count), (high.0 - 2, 12, 3));
    for mid in low.0..=high.0 {
        let mid = manent::flow::Mid(mid);
        let found: Result<_, StoreError> = reader.load(mid, 1 << 20);
        assert_eq!(found.unwrap().unwrap().response.unwrap().status, 200);
    }
    let (_dir, _, summary) = setup.stop().await;
    assert_eq!((summary.stored, summary.lost), (12, 0));
}

/// What a caller waits for its commit while the oldest go and segments are copied, beside the limit that is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn commits_are_not_held_up_by_deleting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let limits = manent::store::Limits { max_flows: Some(500), ..Default::default() };
    let options = RecorderOptions { limits, ..RecorderOptions::default() };
    let recorder = manent::record::Recorder::open(&path, options).await.unwrap();
    let mut times = Vec::new();
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        let all = (0..50).map(|n| recorder.store(flow("/", &vec![n; 4000])));
        let before = std::time::Instant::now();
        crate::harness::all(all).await.into_iter().for_each(|mid| assert!(mid.is_ok(), "{mid:?}"));
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let stored = recorder.close().await.unwrap().stored;
    let (_, _, left) = Reader::open(&path).unwrap().bounds().unwrap().unwrap();
    assert!(left < stored, "{left} of {stored} flows are left");
    // Generous, for other tests run beside it and the disk is theirs too.
    assert!(p99 < Duration::from_secs(1), "p50 {p50:?}, p99 {p99:?}, {stored} flows, {left} left");
}
