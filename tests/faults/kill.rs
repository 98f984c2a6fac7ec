//! A recorder that is killed while it stores flat out, again and again, and what its store holds each time.
//!
//! Part of two test programs: `cargo test` kills a few times, the clients' program a hundred times. The victim is the same
//! test in a process of its own. It says on standard output what was announced to it, and is killed after a random number
//! of these lines, or before it has opened the store at all. What it said before it died counts, too.
//!
//! A killed process loses nothing that it gave to the system, so this is about the order of writes and about recovery;
//! what a power cut takes with it is for `src/store/tests/power_cut.rs`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use manent::flow::{Body, BodyEnd, Content, Flow, Framing, Mid, Request, Response, State};
use manent::record::{BodySide, Recorder, RecorderOptions, Ticket};
use manent::store::{ListQuery, Order, Reader};

/// Kills so many recorders of one store in turn, and panics if an announced flow is gone or not whole, or if a mid was
/// given out twice. `test` is the name of the test that calls this, and does nothing else.
pub(crate) fn survive(test: &str, kills: usize) {
    if let Some(store) = std::env::var_os(VICTIM) {
        return store_flat_out(&PathBuf::from(store));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("flows.db");
    let mut chance = Chance(88_172_645_463_325_252);
    let mut announced = BTreeMap::new();
    for kill in 0..kills {
        let highest = announced.last_key_value().map_or(0, |(&mid, _)| mid);
        let run = Victim::start(test, &path).kill_after(chance.below(LINES));
        if let Some((&lowest, _)) = run.first_key_value() {
            assert!(lowest > highest, "kill {kill}: {lowest} was given out again after {highest}");
            check(&path, &run, highest);
        }
        announced.extend(run);
        // By turns the next victim finds what this one left, and a store that was opened and closed in between.
        if kill % 2 == 0 {
            close_in_order(&path);
        }
    }
    close_in_order(&path);
    let states = check(&path, &announced, 0);
    assert!(!states.contains(&State::Open), "flows of killed recorders are still open");
    assert!(announced.len() > kills * 10, "too little was stored for it to be a test: {}", announced.len());
}

/// Fails unless each announced flow above `after` is there as it was announced, and every flow that is there is whole.
/// Gives the states of the latter.
fn check(path: &Path, announced: &BTreeMap<u64, State>, after: u64) -> Vec<State> {
    let reader = Reader::open(path).expect("the store opens again");
    let query = ListQuery { after: Some(Mid(after)), order: Order::OldestFirst, ..ListQuery::default() };
    let rows: BTreeMap<u64, State> =
        reader.list(&query).expect("a list").iter().map(|row| (row.mid.0, row.state)).collect();
    for (mid, state) in announced.range(after + 1..) {
        let there = rows.get(mid).unwrap_or_else(|| panic!("mid {mid} was announced and is lost"));
        assert!(there == state || *state == State::Open, "mid {mid} was {state:?} and is {there:?}");
    }
    for (&mid, &state) in &rows {
        let flow = reader.load(Mid(mid), 1 << 20).unwrap_or_else(|error| panic!("mid {mid}: {error}"));
        let flow = flow.unwrap_or_else(|| panic!("mid {mid} has a row and no record"));
        assert_eq!(flow.request.map(|request| request.target), Some(target(mid)), "mid {mid}");
        if state == State::Complete {
            let body = flow.response.expect("a response").body;
            assert!(body.as_inline() == Some(&body_of(mid)), "mid {mid} has another body: {:?}", body.end);
        }
    }
    rows.into_values().collect()
}

fn close_in_order(path: &Path) {
    runtime().block_on(async {
        let recorder = Recorder::open(path, RecorderOptions::default()).await.expect("the store opens again");
        recorder.close().await.expect("and closes");
    });
}

/// A process that stores flat out.
struct Victim {
    child: Child,
    lines: Receiver<String>,
}

impl Victim {
    fn start(test: &str, store: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(VICTIM, store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        // A thread, so that waiting for a line has an end. It ends with the pipe.
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        Self { child, lines }
    }

    /// Kills it after so many flows that it told of; all flows that it told of, and how far they had come.
    fn kill_after(mut self, count: u64) -> BTreeMap<u64, State> {
        let mut announced = BTreeMap::new();
        let mut note = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            // The last line may be cut: it was being written when the process died.
            if let [ANNOUNCED, mid, state @ ("open" | "complete"), "."] = words.as_slice() {
                let state = if *state == "open" { State::Open } else { State::Complete };
                announced.insert(mid.parse().expect("a mid"), state);
            }
            announced.len() as u64
        };
        let mut told = 0;
        let mut opening = false;
        while told < count || !opening {
            let line = self.lines.recv_timeout(PATIENCE).expect("the victim stores");
            opening |= line.ends_with(OPENING);
            told = note(&line);
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            note(&line);
        }
        announced
    }
}

/// The victim: stores until it is killed, or nobody listens any more.
fn store_flat_out(path: &Path) {
    say(&format!("\n{OPENING}\n")).expect("somebody listens");
    runtime().block_on(async {
        let recorder = Recorder::open(path, RecorderOptions::default()).await.expect("the store opens");
        let mut commits = recorder.commits();
        let feeding = tokio::spawn(feed(recorder.clone()));
        loop {
            // Whoever lags misses some, and does not tell of them.
            let Ok(group) = commits.recv().await else { continue };
            let lines: String = group
                .iter()
                .map(|flow| format!("{ANNOUNCED} {} {} .\n", flow.mid, flow.state.as_str()))
                .collect();
            if say(&lines).is_err() {
                break;
            }
        }
        feeding.abort();
    });
}

fn say(lines: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(lines.as_bytes())?;
    output.flush()
}

/// Most flows end at once; one in eleven is stored as open, and ends when some others have.
async fn feed(recorder: Recorder) {
    let mut open: Vec<(Ticket, Flow)> = Vec::new();
    loop {
        let mut ticket = recorder.admit().await;
        let mid = ticket.mid().0;
        let mut flow = flow(mid);
        if mid.is_multiple_of(11) {
            ticket.write_open(&Flow { state: State::Open, response: None, ..flow.clone() });
        }
        let bytes = body_of(mid);
        let content = if bytes.len() <= recorder.inline_limit() {
            Content::Inline(bytes.clone())
        } else {
            let mut writer = ticket.body(BodySide::Response);
            for piece in bytes.chunks(16 << 10) {
                writer.write(bytes.slice_ref(piece)).await;
            }
            Content::Extents(writer.extents())
        };
        let len = bytes.len() as u64;
        let body = Body { content, len, wire_len: len, framing: Framing::Length, end: BodyEnd::Whole };
        flow.response = Some(Response { status: 200, body, ..Response::default() });
        if mid.is_multiple_of(11) {
            open.push((ticket, flow));
        } else {
            ticket.finish(&flow);
        }
        if open.len() > 5 {
            let (ticket, flow) = open.remove(0);
            ticket.finish(&flow);
        }
    }
}

fn flow(mid: u64) -> Flow {
    let request = Request { method: "GET".into(), target: target(mid), ..Request::default() };
    Flow { state: State::Complete, request: Some(request), ..Flow::default() }
}

fn target(mid: u64) -> Bytes {
    format!("/flow/{mid}").into()
}

/// In the record and in segments, of one piece and of several; different bytes for each mid.
fn body_of(mid: u64) -> Bytes {
    let len = [0, 100, 2000, 2049, 5_000, 20_000, 70_000][usize::try_from(mid % 7).expect("small")];
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&mid.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Chance, the same in each run: where in the work of the victim a kill falls is another matter.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Names the store, in the environment of a victim.
const VICTIM: &str = "MANENT_TEST_VICTIM";

const OPENING: &str = "opening";
const ANNOUNCED: &str = "announced";

/// A victim is killed after fewer lines than this: some hundred milliseconds of work.
const LINES: u64 = 600;

const PATIENCE: Duration = Duration::from_secs(10);
