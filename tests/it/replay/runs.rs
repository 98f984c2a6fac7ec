//! Many requests: which, in what order, how many at a time, how fast, and what is told of them.

use std::path::PathBuf;
use std::time::Instant;

use super::{answer, captured, done};
use crate::harness::{OK, Origin, soon};

const A: &str = "GET http://{addr}/a HTTP/1.1\r\nHost: {addr}\r\n\r\n";
const B: &str = "GET http://{addr}/b HTTP/1.1\r\nHost: {addr}\r\n\r\n";

/// Answers so many requests on one connection; gives their paths.
async fn answer_all(origin: &Origin, count: usize) -> Vec<String> {
    let mut server = origin.accept().await;
    let mut paths = Vec::new();
    for _ in 0..count {
        let head = server.head().await;
        paths.push(head.split(' ').nth(1).unwrap().to_owned());
        server.send(OK).await;
    }
    paths
}

#[tokio::test]
async fn flows_go_out_in_the_order_in_which_they_are_named_and_so_often() {
    let (scene, origin) = captured(&[A, B, A], OK).await;
    let replay = scene.start(&["replay", "2", "1,3", "--repeat", "2", "--json"]);
    assert_eq!(answer_all(&origin, 6).await, ["/b", "/a", "/a", "/b", "/a", "/a"]);
    let done = done(replay).await;
    done.expect(0);
    let told = done.json();
    let pairs: Vec<_> =
        told.iter().map(|o| (o["mid"].as_u64().unwrap(), o["replay_of"].as_u64().unwrap())).collect();
    assert_eq!(pairs, [(4, 2), (5, 1), (6, 3), (7, 2), (8, 1), (9, 3)]);
    assert!(done.out.lines().all(|line| line.starts_with("{\"mid\":")));
    assert_eq!(
        (&told[0]["status"], &told[0]["was_status"], &told[0]["same"]),
        (&200.into(), &200.into(), &true.into())
    );
}

/// A filter is asked before the first answer comes, which would match, too.
#[tokio::test]
async fn a_filter_does_not_find_its_own_answers() {
    let (scene, origin) = captured(&[A, B, A], OK).await;
    let replay = scene.start(&["replay", "path:/a", "status=200"]);
    assert_eq!(answer_all(&origin, 2).await, ["/a", "/a"]);
    let done = done(replay).await;
    assert_eq!(done.expect(0).lines().count(), 2);
    assert!(done.err.contains("2 requests sent, 2 same status and body"), "{}", done.err);
    scene.run(&["replay", "path:/nowhere"]).await.expect(1);
}

/// All places are used, and no more.
#[tokio::test]
async fn so_many_go_out_at_a_time() {
    let (scene, origin) = captured(&[A, A, A, A], OK).await;
    let replay = scene.start(&["replay", "1-4", "-j", "3"]);
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut server = origin.accept().await;
        server.head().await;
        servers.push(server);
    }
    origin.expect_nobody();
    servers[1].send(OK).await;
    servers[1].head().await;
    for server in &mut servers {
        server.send(OK).await;
    }
    assert_eq!(done(replay).await.expect(0).lines().count(), 4);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (scene, origin) = captured(&[A, A, A, A], OK).await;
    let began = Instant::now();
    let replay = scene.start(&["replay", "1-4", "-j", "4", "--rate", "20/s"]);
    answer_all(&origin, 4).await;
    done(replay).await.expect(0);
    assert!(began.elapsed().as_millis() >= 150, "{:?}", began.elapsed());
}

/// The pauses are those between the recorded requests, shortened by the speed.
#[tokio::test]
async fn recorded_pauses_are_kept() {
    let (scene, origin) = captured(&[A, A], OK).await;
    // Recorded pauses are made long by hand: tests do not sleep.
    let recorder = manent::record::Recorder::open(&scene.store, manent::record::RecorderOptions::default());
    let recorder = recorder.await.unwrap();
    for (mid, at_ms) in [(1, 0), (2, 800)] {
        let mut flow = scene.flow(mid);
        flow.timing.started_unix_ns = 1_795_341_604_000_000_000 + at_ms * 1_000_000;
        recorder.store(flow).await.unwrap();
    }
    recorder.close().await.unwrap();
    let replay = scene.start(&["replay", "3,4", "--as-recorded", "--speed", "4x"]);
    let mut server = origin.accept().await;
    server.head().await;
    let first = Instant::now();
    server.send(OK).await;
    soon("the second request", server.head()).await;
    let pause = first.elapsed().as_millis();
    server.send(OK).await;
    done(replay).await.expect(0);
    assert!((150..800).contains(&pause), "{pause} ms");
}

/// `--into`: the answers go elsewhere, and say where their requests came from.
#[tokio::test]
async fn answers_go_into_another_store() {
    let (scene, origin) = captured(&[A, B], OK).await;
    let into = scene.path("answers.db");
    let replay = scene.start(&["replay", "2", "--into", &into]);
    answer(&origin, OK).await;
    done(replay).await.expect(0);
    let reader = manent::store::Reader::open(into.as_ref()).unwrap();
    let flow = reader.flow(manent::flow::Mid(1)).unwrap().unwrap();
    assert_eq!(flow.replay_of, Some(manent::flow::Mid(2)));
    assert!(flow.imported.unwrap().id.ends_with("flows.db:2"));
    assert_eq!(scene.run(&["ls"]).await.expect(0).lines().count(), 2);
    let across = scene.run(&["diff", "2", &format!("{into}:1"), "-s", &scene.path("flows.db")]).await;
    across.expect(0);
}

/// A store a second: the one answer ends in the store in which its flow began, the other is in a later one, and both are flow 1
/// there. Each is told once, and compared with what its own store has of it.
#[tokio::test]
async fn answers_go_into_stores_that_follow_each_other() {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let (scene, origin) = captured(&[A, B], &answer).await;
    let (folder, into) = (PathBuf::from(scene.path("")), scene.path("answers-%H%M%S.db"));
    let replay = scene.start(&["replay", "1,2", "--into", &into, "--diff", "--json"]);
    let mut server = origin.accept().await;
    server.head().await;
    let stores = || {
        let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("answers-") && name.ends_with(".db")).count()
    };
    // Of the third, the file is there before flows go to it; to the second, they go then.
    soon("the next stores", async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while stores() < 3 {
            ticks.tick().await;
        }
    })
    .await;
    server.send(&answer).await;
    server.head().await;
    server.send(&answer).await;
    let done = done(replay).await;
    done.expect(0);
    let mut told = done.json();
    // Each store commits for itself.
    told.sort_by_key(|reply| reply["replay_of"].as_u64());
    let all: Vec<_> = told.iter().map(|reply| (&reply["replay_of"], &reply["mid"], &reply["same"])).collect();
    let (one, two) = (&1.into(), &2.into());
    assert_eq!(all, [(one, one, &true.into()), (two, one, &true.into())]);
    assert_ne!(told[0]["store"], told[1]["store"]);
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let (scene, origin) = captured(&[A, B], OK).await;
    let dry =
        scene.run(&["replay", "1-2", "--dry-run", "--to", "http://127.0.0.1:1", "-H", "Cookie: x=1"]).await;
    let lines: Vec<&str> = dry.expect(0).lines().collect();
    assert_eq!(lines[0], "1\tGET http://127.0.0.1:1/a\tHTTP/1.1 to 127.0.0.1:1, 0 bytes of body");
    assert!(dry.err.contains("Cookie") && dry.err.contains("2 requests would be sent"), "{}", dry.err);
    let json = scene.run(&["replay", "2", "--dry-run", "--json", "--remove-header", "x"]).await;
    assert_eq!(json.json()[0]["headers"][0]["name"], "Host");
    origin.expect_nobody();
    assert_eq!(scene.run(&["ls"]).await.expect(0).lines().count(), 2);
}

/// `--diff` is a regression test: 0 while nothing differs, 1 then, with what does; `--stop-on-diff` goes no further.
#[tokio::test]
async fn differences_are_told_and_stop_the_run() {
    let (scene, origin) = captured(&[A, B, A], OK).await;
    let replay = scene.start(&["replay", "1-3", "--diff"]);
    answer_all(&origin, 3).await;
    done(replay).await.expect(0);

    let replay = scene.start(&["replay", "1-3", "--stop-on-diff"]);
    answer(&origin, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX: y\r\n\r\nno").await;
    let done = done(replay).await;
    let told = done.expect(1);
    assert!(
        told.starts_with("1\t7\t200\t404\t") && told.contains("\tdifferent: status, header x, body\n"),
        "{told}"
    );
    assert!(told.contains("    status   200 → 404\n") && told.contains("      -ok\n"), "{told}");
    assert_eq!(scene.run(&["ls"]).await.expect(0).lines().count(), 7);
}

/// An origin that is down does not hold up the rest; a flow of each attempt is recorded.
#[tokio::test]
async fn an_origin_that_is_down_is_told() {
    let (scene, origin) = captured(&[A, B], OK).await;
    drop(origin);
    let failed = scene.run(&["replay", "1-2"]).await;
    let told = failed.expect(5);
    assert_eq!(told.matches("failed: upstream connect: connection refused").count(), 2, "{told}");
    assert!(failed.err.contains("2 requests sent, 2 failed"), "{}", failed.err);
    assert_eq!(scene.flow(4).replay_of, Some(manent::flow::Mid(2)));
}

/// A thousand flows, many at a time: each is told once, after it was stored, and each place has a connection at most.
#[tokio::test]
async fn many_flows_are_each_told_once() {
    let (scene, origin) = captured(&[A], OK).await;
    let replay = scene.start(&["replay", "1", "--repeat", "1000", "-j", "8", "--json"]);
    let mut connections = 0;
    let serve = async {
        loop {
            let mut server = origin.accept().await;
            connections += 1;
            tokio::spawn(async move {
                loop {
                    server.head().await;
                    if server.try_send(OK).await.is_err() {
                        return;
                    }
                }
            });
        }
    };
    let done = tokio::select! {
        done = done(replay) => done,
        () = serve => unreachable!("it does not end"),
    };
    done.expect(0);
    let mut mids: Vec<u64> = done.json().iter().map(|told| told["mid"].as_u64().unwrap()).collect();
    mids.sort_unstable();
    assert!(mids.iter().copied().eq(2..=1001));
    assert!((1..=8).contains(&connections), "{connections} connections");
}

/// The kernel's table of descriptors has room before there are threads, which would wait for it to grow.
#[tokio::test]
async fn room_for_descriptors_is_made_at_once() {
    let (scene, origin) = captured(&[A], OK).await;
    let replay = scene.start(&["replay", "1"]);
    let mut server = origin.accept().await;
    server.head().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", replay.id().unwrap())).unwrap();
    let room = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
    server.send(OK).await;
    done(replay).await.expect(0);
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(room.trim().parse::<u64>().unwrap() >= allowed.min(4096), "{room}");
}
