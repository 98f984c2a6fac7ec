//! `manent serve` as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{Home, flow, parse, text};

/// A server that is running.
struct Served {
    child: Child,
    port: u16,
    said: BufReader<std::process::ChildStderr>,
}

impl Served {
    fn start(home: &Home, args: &[&str]) -> Self {
        let all = [&["serve", "-p", "0"], args].concat();
        let mut child = home.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let port = line.split_once("listening on 127.0.0.1:").unwrap_or_else(|| panic!("{line}")).1;
        let port = port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
        Self { child, port, said }
    }

    /// Sends a request and reads to the end.
    fn ask(&self, target: &str) -> String {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it: exit code, standard output, and what it said.
    fn end(mut self) -> (Option<i32>, String, String) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stdout), said)
    }
}

#[test]
fn a_store_is_served_and_the_misses_are_told() {
    let home = Home::with([flow("/a", b"aa"), flow("/b", b"bb")]);
    let served = Served::start(&home, &["--json"]);
    assert!(served.ask("http://origin.test/a").ends_with("\r\n\r\naa"));
    assert!(served.ask("http://origin.test/c").starts_with("HTTP/1.1 404"));
    let (code, out, said) = served.end();
    let counts = parse(out.as_bytes());
    assert_eq!(
        (code, &counts["answered"], &counts["missed"], &counts["unused"]),
        (Some(0), &1.into(), &1.into(), &1.into())
    );
    assert!(said.contains("no recorded answer") && said.contains("/c"), "{said}");
    assert!(said.contains("path: recorded /b, asked /c"), "{said}");
}

/// As the origin, by path alone; with `--strict`, the exit code tells whether all was as recorded.
#[test]
fn it_can_be_the_origin_and_be_strict() {
    let home = Home::with([flow("/a", b"aa")]);
    for (asked, code) in [("/a", 0), ("/b", 1)] {
        let served = Served::start(&home, &["--any-origin", "--strict", "~u /a"]);
        served.ask(asked);
        let (ended, _, said) = served.end();
        assert_eq!(ended, Some(code), "{said}");
        let counts = if code == 0 {
            "1 answered, 0 missed, 0 answers never given"
        } else {
            "0 answered, 1 missed, 1 answer never given"
        };
        assert!(said.contains(counts), "{said}");
    }
}

/// A store that is not there is made, for what will be missed.
#[test]
fn a_store_to_come_can_be_served() {
    let home = Home::new();
    let served = Served::start(&home, &["--on-miss", "record"]);
    let (code, _, said) = served.end();
    assert!(code == Some(0) && home.store.exists() && said.contains("0 answers of"), "{said}");
}

#[test]
fn what_cannot_be_served_is_told() {
    let home = Home::with([flow("/a", b"aa")]);
    home.refuses(&["serve", "-p", "0", "host:nowhere.test"], 1, "error[E502]: nothing to serve");
    home.refuses(&["serve", "-p", "0", "-s", "/nowhere/flows.db"], 3, "error[E407]");
    home.refuses(&["serve", "-p", "0", "~~"], 2, "error[E");
    home.refuses(&["serve", "--match", "colour"], 2, "none of scheme, method, host");
    home.refuses(&["serve", "--on-miss", "999"], 2, "a status from 200 to 599");
    home.refuses(&["serve", "--fail-rate", "2"], 2, "a share from 0 to 1");
    let store = home.store.to_str().unwrap();
    home.refuses(&["serve", "-p", "0", "--record", store], 2, "error[E503]");
}
