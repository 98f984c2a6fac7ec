//! `manent tail -f`, the binary, beside somebody who records.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use manent::flow::{Flow, State};
use rustix::process::{Pid, Signal};

use crate::cli::{Home, flow, parse, text};

/// A `manent` under way, and the lines that it prints.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; its lines are those of standard output.
    pub(crate) fn start(home: &Home, args: &[&str]) -> Self {
        Self::of(home.command(args), Stdio::null())
    }

    /// Starts `command`, with this standard input.
    pub(crate) fn of(mut command: Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line; fails if none comes in good time.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// The next flow, by path and state.
    fn flow(&self) -> (String, String) {
        let row = parse(self.line().as_bytes());
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("path"), text("state"))
    }

    /// What it says on standard error, line by line.
    pub(crate) fn said(&mut self) -> Receiver<String> {
        lines(self.child.stderr.take().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its exit code, and what it printed and said that nobody has read.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>, String) {
        let rest: Vec<String> = self.lines.iter().collect();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap().code(), rest, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where a test has failed; it is an error where it has ended.
        let _ = self.child.kill();
    }
}

/// Lines as they come.
fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(1000);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}

fn seen(path: &str, state: &str) -> (String, String) {
    (path.to_owned(), state.to_owned())
}

#[test]
fn what_another_process_records_is_seen_as_it_is_stored() {
    let home = Home::with([flow("/a", b""), flow("/b", b"")]);
    let tail = Running::start(&home, &["tail", "-f", "-n", "1", "--json"]);
    assert_eq!(tail.flow(), seen("/b", "complete"));
    let recorder = home.recorder();
    home.runtime.block_on(async {
        let mut slow = recorder.admit().await;
        recorder.store(flow("/c", b"")).await.unwrap();
        assert_eq!(tail.flow(), seen("/c", "complete"));
        // A flow that began before the one that was shown, and is not over.
        let mut commits = recorder.commits();
        slow.write_open(&Flow { state: State::Open, ..flow("/slow", b"") });
        commits.recv().await.unwrap();
        assert_eq!(tail.flow(), seen("/slow", "open"));
        recorder.store(flow("/d", b"")).await.unwrap();
        assert_eq!(tail.flow(), seen("/d", "complete"));
        slow.finish(&flow("/slow", b""));
        recorder.close().await.unwrap();
        assert_eq!(tail.flow(), seen("/slow", "complete"));
    });
    // A capture that ends, and another one.
    let recorder = home.recorder();
    home.runtime.block_on(recorder.store(flow("/e", b""))).unwrap();
    assert_eq!(tail.flow(), seen("/e", "complete"));
    tail.signal(Signal::INT);
    assert_eq!(tail.end(), (Some(0), Vec::new(), String::new()));
    home.runtime.block_on(recorder.close()).unwrap();
}

#[test]
fn a_store_that_is_not_there_is_waited_for_and_the_next_one_is_found() {
    let home = Home::new();
    let format = home.path("flows-%Y%m%d.db");
    let args = ["tail", "-f", "--json", "-s", format.to_str().unwrap()];
    let mut tail = Running::start(&home, &args);
    assert!(tail.said().recv_timeout(Duration::from_secs(10)).unwrap().starts_with("waiting for "));
    for day in ["20261122", "20261123"] {
        let name = format!("flows-{day}.db");
        home.fill(&name, [flow("/a", b""), flow("/b", b"")]);
        for path in ["/a", "/b"] {
            let row = parse(tail.line().as_bytes());
            assert_eq!((row["path"].as_str(), row["store"].as_str()), (Some(path), Some(&*name)));
        }
    }
    tail.signal(Signal::TERM);
    assert_eq!(tail.end().0, Some(0));
}

#[test]
fn a_store_that_is_replaced_is_followed_on() {
    let home = Home::with([flow("/a", b"")]);
    let tail = Running::start(&home, &["tail", "-f", "--json"]);
    assert_eq!(tail.flow(), seen("/a", "complete"));
    home.fill("next.db", [flow("/b", b""), flow("/c", b"")]);
    // As one who rotates by hand does: the old store goes, with what is beside it, and another one takes its place.
    for suffix in ["-wal", "-shm", "-bodies"] {
        let path = home.path(&format!("flows.db{suffix}"));
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
    std::fs::rename(home.path("next.db-bodies"), home.path("flows.db-bodies")).unwrap();
    std::fs::rename(home.path("next.db"), home.path("flows.db")).unwrap();
    assert_eq!((tail.flow(), tail.flow()), (seen("/b", "complete"), seen("/c", "complete")));
    tail.signal(Signal::INT);
    assert_eq!(tail.end(), (Some(0), Vec::new(), String::new()));
}

#[test]
fn only_what_matches_is_shown() {
    let home = Home::with([flow("/a", b"")]);
    let tail = Running::start(&home, &["tail", "-f", "--columns", "path,status", "status>=400 | path:/a"]);
    assert_eq!(tail.line(), "/a\t200");
    let recorder = home.recorder();
    home.runtime.block_on(async {
        for (path, status) in [("/b", 200), ("/c", 404), ("/d", 302), ("/e", 500)] {
            let mut flow = flow(path, b"");
            flow.response.as_mut().unwrap().status = status;
            recorder.store(flow).await.unwrap();
        }
        recorder.close().await.unwrap();
    });
    assert_eq!((tail.line(), tail.line()), ("/c\t404".to_owned(), "/e\t500".to_owned()));
    tail.signal(Signal::INT);
    assert_eq!(tail.end().0, Some(0));
    home.refuses(&["tail", "-f", "statsu:404"], 2, "error[E003]");
}

/// `manent tail -f | head -1` ends when `head` does, whether or not anything comes.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let home = Home::with([flow("/a", b"")]);
    let mut child =
        home.command(&["tail", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("1\t"), "{line}");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn without_follow_it_ends_and_an_empty_store_answers_no() {
    let home = Home::with([flow("/a", b""), flow("/b", b"")]);
    assert_eq!(text(&home.run(&["tail", "--columns", "path"]).stdout), "/a\n/b\n");
    assert_eq!(text(&home.run(&["tail", "-n", "1", "--columns", "path"]).stdout), "/b\n");
    assert_eq!(Home::with([]).run(&["tail"]).status.code(), Some(1));
    Home::new().refuses(&["tail"], 3, "error[E407]");
}

#[test]
fn what_is_no_store_is_told() {
    let home = Home::new();
    std::fs::write(home.path("flows.db"), "no store, but more than nothing").unwrap();
    home.refuses(&["tail", "-f"], 4, "error[E406]");
    // Among several it is told, too, and the others are followed.
    home.fill("good.db", [flow("/a", b"")]);
    let pattern = home.path("*.db");
    let mut tail = Running::start(&home, &["tail", "-f", "--json", "-s", pattern.to_str().unwrap()]);
    assert_eq!(tail.flow(), seen("/a", "complete"));
    assert!(tail.said().recv_timeout(Duration::from_secs(10)).unwrap().contains("error"));
    tail.signal(Signal::INT);
    assert_eq!(tail.end().0, Some(4));
}

/// From the first byte of a request through `manent capture` to the line of `manent tail -f`.
#[test]
fn a_capture_in_one_process_is_followed_in_another() {
    let home = Home::new();
    let mut capture = Running::start(&home, &["capture", "-p", "0"]);
    let said = capture.said().recv_timeout(Duration::from_secs(10)).unwrap();
    let address = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
    let tail = Running::start(&home, &["tail", "-f", "--json"]);
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    for n in 0..3 {
        let mut client = TcpStream::connect(&address).unwrap();
        let request = format!(
            "GET http://127.0.0.1:{port}/{n} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let (mut server, _) = origin.accept().unwrap();
        let mut head = [0; 4096];
        assert!(server.read(&mut head).unwrap() > 0);
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        assert_eq!(tail.flow(), seen(&format!("/{n}"), "complete"));
    }
    capture.signal(Signal::INT);
    assert_eq!(capture.end().0, Some(0));
    tail.signal(Signal::INT);
    assert_eq!(tail.end().0, Some(0));
}
