//! Marks, comments and tags, set and shown by the binary; beside a capture in another process, too.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::cli::{Home, flow, parse, text};
use crate::harness::PATIENCE;

/// Marker, comment and tags of each flow, as `ls` tells.
fn notes(home: &Home) -> Vec<Value> {
    let lines = text(&home.run(&["ls", "--json"]).stdout);
    let note = |row: Value| json!([row["marker"], row["comment"], row["tags"]]);
    lines.lines().map(|line| note(parse(line.as_bytes()))).collect()
}

fn home(flows: usize) -> Home {
    Home::with((1..=flows).map(|n| flow(&format!("/{n}"), b"x")))
}

fn done(home: &Home, args: &[&str], told: &str) {
    let output = home.run(args);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), format!("{told}\n")), "{args:?}");
}

/// Runs it with something to read.
fn fed(home: &Home, args: &[&str], input: &[u8]) -> Output {
    let mut command = home.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that ends early leaves its input unread.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn notes_are_set_shown_and_taken_away() {
    let home = home(3);
    let nothing = json!([null, null, []]);
    assert_eq!(notes(&home), [nothing.clone(), nothing.clone(), nothing.clone()]);
    done(&home, &["mark", "1", "3"], "2 flows marked");
    done(&home, &["mark", "last", "--marker", "todo"], "flow 3 marked");
    done(&home, &["comment", "1-2", "a \u{1b}[2Jcomment\nof two lines"], "2 flows commented on");
    done(&home, &["tag", "2,3", "+login", "+cart", "-none"], "2 flows tagged");
    done(&home, &["tag", "3", "-login", "+z"], "flow 3 tagged");
    let comment = "a \u{1b}[2Jcomment\nof two lines";
    assert_eq!(
        notes(&home),
        [
            json!([":default:", comment, []]),
            json!([null, comment, ["cart", "login"]]),
            json!(["todo", null, ["cart", "z"]]),
        ]
    );
    let page = text(&home.run(&["show", "1", "3"]).stdout);
    assert!(page.contains("  comment a \\x1b[2Jcomment\n          of two lines\n"), "{page}");
    assert!(page.contains("  marked todo\n  tags    +cart +z\n"), "{page}");
    let shown = parse(&home.run(&["show", "2", "--json"]).stdout);
    assert_eq!((&shown["comment"], &shown["tags"]), (&json!(comment), &json!(["cart", "login"])));
    done(&home, &["mark", "1-", "--off"], "3 flows unmarked");
    done(&home, &["comment", "1", "--off"], "flow 1 without comment now");
    done(&home, &["tag", "last:2", "-cart", "-login", "-z"], "2 flows tagged");
    assert_eq!(notes(&home), [nothing.clone(), json!([null, comment, []]), nothing]);
    let lines = text(&home.run(&["--json", "tag", "2", "+a"]).stdout);
    assert_eq!(parse(lines.as_bytes()), json!({"mid": 2, "marker": null, "comment": comment, "tags": ["a"]}));
}

#[test]
fn an_unknown_mid_changes_nothing() {
    let home = home(3);
    home.refuses(&["mark", "1", "9"], 3, "error[E201]: no flow with mid 9");
    home.refuses(&["tag", "1,7-9", "+a"], 3, "no flow with mid 7–9");
    home.refuses(&["comment", "4-", "x"], 3, "no flow with mid 4");
    assert_eq!(notes(&home), vec![json!([null, null, []]); 3]);
    done(&home, &["mark", "2-9"], "2 flows marked");
    Home::with([]).refuses(&["mark", "last"], 3, "error[E204]");
    Home::new().refuses(&["mark", "1"], 3, "error[E407]");
}

/// Options behind the words were once taken for tags.
#[test]
fn options_of_tag_stand_anywhere() {
    let home = home(2);
    let json = home.run(&["tag", "1", "+a", "+s", "-b", "--json", "-q"]);
    assert_eq!(parse(&json.stdout)["tags"], serde_json::json!(["a", "s"]), "{}", text(&json.stderr));
    let other = home.path("other.db");
    home.fill("other.db", [flow("/x", b"")]);
    let there = home.run(&["tag", "1", "+there", "-s", other.to_str().unwrap(), "--json"]);
    assert_eq!(parse(&there.stdout)["tags"], serde_json::json!(["there"]));
    // A tag that is called as an option is.
    let removed = home.run(&["tag", "--json", "1", "--", "-s"]);
    assert_eq!(parse(&removed.stdout)["tags"], serde_json::json!(["a"]), "{}", text(&removed.stderr));
    let help = home.run(&["tag", "1", "+a", "--help"]);
    assert!(text(&help.stdout).contains("Usage: manent tag"));
    home.refuses(&["tag", "1", "+a", "-s"], 2, "a value is required for '--store");
}

#[test]
fn what_cannot_be_a_note_is_refused_with_the_reason() {
    let home = home(1);
    home.refuses(&["mark", "one"], 2, "mids are whole numbers");
    home.refuses(&["mark", "1", "--marker", ""], 2, "a marker cannot be empty");
    home.refuses(&["mark", "1", "--marker", "a\nb"], 2, "a marker cannot have '\\n' in it");
    home.refuses(&["mark", "1", "--marker", &"x".repeat(101)], 2, "at most 100 bytes, and this has 101");
    home.refuses(&["tag", "1", "+a,b"], 2, "a tag cannot have ',' in it");
    home.refuses(&["tag", "1", "+a b"], 2, "a tag cannot have ' ' in it");
    home.refuses(&["tag", "1", "+"], 2, "a tag cannot be empty");
    home.refuses(&["tag", "1", "a"], 2, "`a` is neither +name nor -name");
    home.refuses(&["tag", "1", "+a", "--jsn"], 2, "unexpected argument '--jsn'");
    home.refuses(&["tag", "1"], 2, "required");
    home.refuses(&["comment", "1"], 2, "required");
    home.refuses(&["comment", "1", "x", "--off"], 2, "cannot be used with");
    home.refuses(&["comment", "-", "-"], 2, "standard input cannot be both");
    home.refuses(&["comment", "1", ""], 2, "a comment cannot be empty");
    let long = fed(&home, &["comment", "1", "-"], &vec![b'x'; (64 << 10) + 1]);
    assert_eq!(long.status.code(), Some(2), "{long:?}");
    assert!(text(&long.stderr).contains("at most 65536 bytes"), "{long:?}");
    let words: Vec<String> = (0..101).map(|n| format!("+t{n}")).collect();
    let words: Vec<&str> = ["tag", "1"].into_iter().chain(words.iter().map(String::as_str)).collect();
    home.refuses(&words, 2, "error[E414]: flow 1 would have more than 100 tags");
    assert_eq!(notes(&home), [json!([null, null, []])]);
    let most = fed(&home, &["comment", "1", "-"], &[&vec![b'x'; 64 << 10][..], b"\n"].concat());
    assert_eq!(most.status.code(), Some(0), "{most:?}");
    assert_eq!(notes(&home)[0][1].as_str().unwrap().len(), 64 << 10);
}

#[test]
fn mids_come_from_files_and_from_other_commands() {
    let home = home(6);
    let list = home.dir.path().join("mids, some");
    std::fs::write(&list, "1 first\n\n  3-4,6\tmore\n").unwrap();
    done(&home, &["tag", &format!("@{}", list.display()), "+file"], "4 flows tagged");
    let rows = home.run(&["ls", "--json", "-n", "2"]).stdout;
    assert_eq!(fed(&home, &["tag", "-", "+json"], &rows).status.code(), Some(0));
    let tags: Vec<Value> = notes(&home).into_iter().map(|note| note[2].clone()).collect();
    let expected = [json!(["file"]), json!([]), json!(["file"]), json!(["file"]), json!(["json"])];
    assert_eq!(tags[..5], expected);
    assert_eq!(tags[5], json!(["file", "json"]));
    let bad = fed(&home, &["mark", "-"], b"1\nhello\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("error[E210]: line 2 of standard input names no flow"), "{bad:?}");
    home.refuses(&["mark", "@/nowhere/list"], 3, "error[E212]: cannot read /nowhere/list");
    assert_eq!(notes(&home)[0][0], Value::Null);
}

#[test]
fn show_and_cat_take_several_in_the_order_given() {
    let home = Home::with([flow("/a", b"a"), flow("/b", b"b"), flow("/c", b"c")]);
    assert_eq!(home.run(&["cat", "3,1", "2-"]).stdout, b"cabc");
    let pages = text(&home.run(&["show", "last:2"]).stdout);
    assert!(pages.starts_with("2  http") && pages.contains("\n\n3  http"), "{pages}");
    assert_eq!(text(&home.run(&["show", "2,1", "--json"]).stdout).lines().count(), 2);
}

/// A recorder of an older version holds its store: notes have no place in it, and it cannot be given one.
#[test]
fn a_store_of_an_older_recorder_that_runs_is_left_alone() {
    let home = Home::new();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store_v3/flows.db.gz");
    let mut db = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(fixture).unwrap()).read_to_end(&mut db).unwrap();
    std::fs::write(&home.store, &db).unwrap();
    let lock = std::fs::File::create(home.dir.path().join("flows.db-lock")).unwrap();
    lock.lock().unwrap();
    (&lock).write_all(b"4194304\n").unwrap();
    let told = home.refuses(&["mark", "1"], 4, "error[E413]: the recorder that has the store is older");
    assert!(told.contains("(pid 4194304)") && told.contains("Nothing was changed."), "{told}");
    drop(lock);
    done(&home, &["mark", "1"], "flow 1 marked");
    assert_eq!(
        notes(&home).iter().map(|note| note[0].clone()).collect::<Vec<_>>(),
        [json!(":default:"), Value::Null, Value::Null]
    );
}

/// Two processes write to one store: no flow is lost, each announced one can be marked at once, and no mark is lost.
#[test]
fn notes_are_set_while_another_process_records_at_load() {
    let home = Home::new();
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin_addr = origin.local_addr().unwrap();
    let (stop, closed, answered) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let mut capture = home.command(&["capture", "-p", "0", "--json"]);
    let capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut capture = KilledAtEnd(capture);
    let mut talk = BufReader::new(capture.0.stderr.take().unwrap());
    let mut ready = String::new();
    talk.read_line(&mut ready).unwrap();
    let proxy = ready.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let mut announced = BufReader::new(capture.0.stdout.take().unwrap()).lines();
    let mut marked: Vec<String> = Vec::new();
    std::thread::scope(|threads| {
        threads.spawn(|| serve(&origin, &closed));
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (proxy, stop, answered) = (&proxy, &stop, &answered);
                threads.spawn(move || {
                    for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                        ask(proxy, &format!("http://{origin_addr}/{client}/{n}"));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let ends = EndsLoad { stop: &stop, closed: &closed, origin: origin_addr };
        for n in 0..MARKS {
            let line = announced.next().unwrap().unwrap();
            let mid = parse(line.as_bytes())["mid"].to_string();
            let how: &[&str] = match n % 3 {
                0 => &["mark", &mid],
                1 => &["comment", &mid, "seen"],
                _ => &["tag", &mid, "+seen"],
            };
            let output = home.run(how);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            marked.push(mid);
        }
        // All that are there by now, while more come.
        assert_eq!(home.run(&["tag", "1-", "+all"]).status.code(), Some(0));
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        drop(ends);
    });
    let rest = std::thread::spawn(move || announced.count());
    end(&capture.0);
    let status = capture.0.wait().unwrap();
    rest.join().unwrap();
    let mut said = String::new();
    talk.read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");

    let lines = text(&home.run(&["ls", "--json"]).stdout);
    let rows: Vec<Value> = lines.lines().map(|line| parse(line.as_bytes())).collect();
    assert_eq!(rows.len() as u64, answered.load(Ordering::Relaxed));
    assert!(rows.iter().all(|row| row["state"] == "complete"));
    for (n, mid) in marked.iter().enumerate() {
        let row = rows.iter().find(|row| row["mid"].as_u64() == mid.parse().ok()).unwrap();
        let set = match n % 3 {
            0 => row["marker"] == ":default:",
            1 => row["comment"] == "seen",
            _ => row["tags"] == json!(["all", "seen"]),
        };
        assert!(set, "{row}");
    }
    let check = home.run(&["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
}

const MARKS: usize = 30;

/// Ends clients and origin, also where an assertion fails.
struct EndsLoad<'a> {
    stop: &'a AtomicBool,
    closed: &'a AtomicBool,
    origin: SocketAddr,
}

impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.closed.store(true, Ordering::Relaxed);
        // The origin waits for a last client; without one the test has failed before.
        let _ = TcpStream::connect(self.origin);
    }
}

/// A process that does not outlive the test.
struct KilledAtEnd(Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        // One that was waited for is gone.
        let _ = self.0.kill();
    }
}

/// Answers each connection's one request with a body that goes into a segment, until it is closed.
fn serve(origin: &TcpListener, closed: &AtomicBool) {
    let body = vec![b'x'; 3000];
    std::thread::scope(|threads| {
        while let Ok((mut tcp, _)) = origin.accept() {
            if closed.load(Ordering::Relaxed) {
                break;
            }
            let body = &body;
            threads.spawn(move || {
                let mut head = BufReader::new(tcp.try_clone().unwrap()).lines();
                while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\nConnection: close\r\n\r\n")
                    .unwrap();
                tcp.write_all(body).unwrap();
            });
        }
    });
}

fn ask(proxy: &str, url: &str) {
    let mut tcp = TcpStream::connect(proxy).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = url.split('/').nth(2).unwrap();
    tcp.write_all(format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

/// As Ctrl-C does.
fn end(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
