//! Stores that follow the clock: `--store 'flows-%Y%m%d.db'`.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Zoned;
use manent::flow::{ClientConn, Mid, State};
use manent::record::{Recorder, RecorderOptions, Rotating};
use manent::store::{BodyIndexer, ListQuery, Order, Reader};

use crate::cli::{Home, flow, parse};
use crate::harness::{GET, OK, Origin, PATIENCE, Setup, soon};
use crate::tail::Running;

/// A recorder in a folder of its own, and a clock that is set by hand.
struct Days {
    dir: tempfile::TempDir,
    now: Arc<Mutex<Zoned>>,
    recorder: Rotating,
}

impl Days {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(Mutex::new(day(22)));
        let clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.lock().unwrap().clone())
        };
        let path = dir.path().join("flows-%Y%m%d.db");
        let recorder = Rotating::open_by(clock, &path, RecorderOptions::default()).await.unwrap();
        Self { dir, now, recorder }
    }

    /// Makes it this day, and lets the recorder see.
    async fn turn_to(&self, number: i8) {
        *self.now.lock().unwrap() = day(number);
        self.recorder.turn().await;
    }

    fn path(&self, number: i8) -> PathBuf {
        self.dir.path().join(format!("flows-202611{number}.db"))
    }

    /// Records a flow that begins and ends now.
    async fn record(&self, target: &str) -> Mid {
        let ticket = self.recorder.admit().await;
        let mid = ticket.mid();
        ticket.finish(&flow(target, b""));
        mid
    }

    /// Waits until nobody writes to the store of this day any more.
    async fn closed(&self, number: i8) {
        soon("the store to be closed", async {
            while Recorder::open(&self.path(number), RecorderOptions::default()).await.is_err() {
                self.recorder.turn().await;
            }
        })
        .await;
    }
}

fn day(number: i8) -> Zoned {
    format!("2026-11-{number}T12:00:00Z[UTC]").parse().unwrap()
}

fn stored(path: &Path) -> Vec<(u64, String)> {
    let query = ListQuery { order: Order::OldestFirst, ..ListQuery::default() };
    let rows = Reader::open(path).unwrap().list(&query).unwrap();
    rows.into_iter().map(|row| (row.mid.0, row.path)).collect()
}

fn row(mid: u64, path: &str) -> (u64, String) {
    (mid, path.to_owned())
}

#[tokio::test]
async fn a_flow_ends_in_the_store_in_which_it_began() {
    let days = Days::start().await;
    let mut commits = days.recorder.commits();
    days.record("/a").await;
    let slow = days.recorder.admit().await;
    days.turn_to(23).await;
    assert_eq!(days.recorder.path(), days.path(23));
    assert_eq!(days.record("/b").await, Mid(1), "each store has mids of its own");
    slow.finish(&flow("/slow", b""));
    days.closed(22).await;
    assert_eq!(stored(&days.path(22)), [row(1, "/a"), row(2, "/slow")]);
    days.record("/c").await;
    let stats = days.recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.lost, stats.queued), (4, 0, 0));
    assert_eq!(stored(&days.path(23)), [row(1, "/b"), row(2, "/c")]);
    assert_eq!(days.recorder.close().await.unwrap(), stats);
    // One feed tells of all.
    let mut told = 0;
    while let Ok(group) = commits.try_recv() {
        told += group.len();
    }
    assert_eq!(told, 4);
}

/// Who waits for a place when the store changes gets it in the old one, which is there until then.
#[tokio::test]
async fn no_flow_is_lost_while_stores_change() {
    let days = Days::start().await;
    let recorders: Vec<_> = (0..4)
        .map(|_| {
            let recorder = days.recorder.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    recorder.admit().await.finish(&flow("/a", b""));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for number in 23..=28 {
        days.turn_to(number).await;
        tokio::task::yield_now().await;
    }
    for recorder in recorders {
        recorder.await.unwrap();
    }
    let stats = days.recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.lost), (2000, 0));
    let all: usize = (22..=28).map(|number| stored(&days.path(number)).len()).sum();
    assert_eq!(all, 2000);
}

/// A connection outlives the store in which it began. In a store that was there before, its id may be another one's.
#[tokio::test]
async fn a_connection_that_goes_on_in_the_next_store_takes_no_other_ones_place() {
    let days = Days::start().await;
    let of = |id, mode: &str| {
        let conn = ClientConn { id, mode: mode.to_owned(), ..ClientConn::default() };
        let mut flow = flow("/a", b"");
        flow.client = Arc::new(conn);
        flow
    };
    // The next day's store is there, with connections of its own.
    let earlier = Recorder::open(&days.path(23), RecorderOptions::default()).await.unwrap();
    for _ in 0..3 {
        earlier.admit().await.finish(&of(earlier.next_conn_id(), "earlier"));
    }
    earlier.close().await.unwrap();
    let long = days.recorder.next_conn_id();
    days.recorder.admit().await.finish(&of(long, "long"));
    days.turn_to(23).await;
    for _ in 0..2 {
        days.recorder.admit().await.finish(&of(long, "long"));
    }
    let new = days.recorder.next_conn_id();
    days.recorder.admit().await.finish(&of(new, "new"));
    days.recorder.client_conn_changed(Arc::new(ClientConn {
        id: long,
        mode: "long, ended".into(),
        revision: 1,
        ..ClientConn::default()
    }));
    days.recorder.close().await.unwrap();
    let reader = Reader::open(&days.path(23)).unwrap();
    let conn = |mid| reader.flow(Mid(mid)).unwrap().unwrap().client;
    let modes: Vec<_> = (1..=6).map(|mid| conn(mid).mode.clone()).collect();
    assert_eq!(modes, ["earlier", "earlier", "earlier", "long, ended", "long, ended", "new"]);
    assert_eq!(conn(4).id, conn(5).id);
    let reader = Reader::open(&days.path(22)).unwrap();
    let first = reader.flow(Mid(1)).unwrap().unwrap().client;
    assert_eq!((first.id, first.mode.as_str()), (long, "long, ended"));
}

#[tokio::test]
async fn a_next_store_that_cannot_be_opened_leaves_things_as_they_are() {
    let days = Days::start().await;
    std::fs::write(days.path(23), "this is somebody else's file").unwrap();
    days.turn_to(23).await;
    days.record("/a").await;
    assert_eq!(days.recorder.path(), days.path(22));
    days.turn_to(24).await;
    days.record("/b").await;
    days.recorder.close().await.unwrap();
    assert_eq!(stored(&days.path(22)), [row(1, "/a")]);
    assert_eq!(stored(&days.path(24)), [row(1, "/b")]);
    assert_eq!(std::fs::read(days.path(23)).unwrap(), b"this is somebody else's file");
}

/// Back over midnight while a flow of the day before is open: its store is still there, and is written on.
#[tokio::test]
async fn a_clock_that_goes_back_leads_back() {
    let days = Days::start().await;
    let slow = days.recorder.admit().await;
    days.turn_to(23).await;
    days.record("/b").await;
    days.turn_to(22).await;
    days.record("/a").await;
    slow.finish(&flow("/slow", b""));
    days.closed(23).await;
    let stats = days.recorder.close().await.unwrap();
    assert_eq!((stats.stored, stats.lost), (3, 0));
    assert_eq!(stored(&days.path(22)), [row(1, "/slow"), row(2, "/a")]);
    assert_eq!(stored(&days.path(23)), [row(1, "/b")]);
}

/// The whole proxy, on the real clock, with a store a second.
#[tokio::test]
async fn a_proxy_goes_on_in_the_next_store() {
    let setup = Setup::with(|config| config.store.set_file_name("flows-%H%M%S.db")).await;
    let first = setup.recorder().path();
    let (mut setup, origin) = (setup, Origin::listen().await);
    let mut count = 0;
    tokio::time::timeout(PATIENCE, async {
        while setup.recorder().path() == first || count < 2 {
            let (mut client, mut server) = setup.asked(&origin, GET).await;
            server.send(OK).await;
            client.expect(OK).await;
            setup.ended().await;
            count += 1;
        }
    })
    .await
    .unwrap();
    let (dir, _, summary) = setup.stop().await;
    assert_eq!((summary.stored, summary.lost), (count, 0));
    let files = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let stores: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "db")).collect();
    assert!(stores.len() >= 2, "{stores:?}");
    let states =
        stores.iter().flat_map(|path| Reader::open(path).unwrap().list(&ListQuery::default()).unwrap());
    let states: Vec<State> = states.map(|row| row.state).collect();
    assert_eq!(states, vec![State::Complete; usize::try_from(count).unwrap()]);
}

#[test]
fn a_name_that_no_clock_can_make_is_refused_at_the_start() {
    let home = Home::new();
    let at = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let told = home.refuses(&["-p", "0", "-s", &at("flows-%Q.db")], 2, "error[E412]");
    assert!(told.contains("it has %Q; known are %Y"), "{told}");
    home.refuses(&["-p", "0", "-s", &at("flows-%.db")], 2, "it has %.;");
    home.refuses(&["-p", "0", "-s", &at("nowhere/flows-%Y.db")], 4, "error[E402]: there is no folder ");
}

/// A mid is of one store, so each object tells which.
#[test]
fn the_feed_of_a_capture_names_the_store_of_each_flow() {
    let home = Home::new();
    let format = home.path("flows-%Y.db");
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    let args = ["capture", "--json", "-p", "0", "-s", format.to_str().unwrap()];
    let mut capture = Running::start(&home, &args);
    let said = capture.said().recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    let address = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
    let request = format!("GET http://127.0.0.1:{port}/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let (mut server, _) = origin.accept().unwrap();
    assert!(server.read(&mut [0; 4096]).unwrap() > 0);
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let line = parse(capture.line().as_bytes());
    let name = line["store"].as_str().unwrap();
    assert!(home.path(name).exists() && name.starts_with("flows-20"), "{line}");
    capture.signal(rustix::process::Signal::INT);
    assert_eq!(capture.end().0, Some(0));
}

/// Who wants an index of bodies does not ask for it again each day, nor after a night without a capture.
#[tokio::test]
async fn the_next_store_has_an_index_if_the_one_before_has() {
    let days = Days::start().await;
    let wanted = |number| Reader::open(&days.path(number)).unwrap().index_state().unwrap().is_on;
    days.record("/a").await;
    days.turn_to(23).await;
    assert!(!wanted(23));
    BodyIndexer::open(&days.path(23), true).unwrap().close().unwrap();
    days.turn_to(24).await;
    assert!(wanted(24) && !wanted(22));
    // What people said of a store holds, whatever came before it.
    BodyIndexer::open(&days.path(24), false).unwrap().close().unwrap();
    days.record("/b").await;
    days.turn_to(23).await;
    days.turn_to(24).await;
    assert!(!wanted(24));
    BodyIndexer::open(&days.path(24), true).unwrap().close().unwrap();
    days.recorder.close().await.unwrap();
    let clock = Arc::new(|| day(26));
    let format = days.dir.path().join("flows-%Y%m%d.db");
    let later = Rotating::open_by(clock, &format, RecorderOptions::default()).await.unwrap();
    assert!(wanted(26));
    later.close().await.unwrap();
}
