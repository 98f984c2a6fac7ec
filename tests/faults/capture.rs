//! The binary at work on a store of a test's choice, an origin for it, and a client.
//!
//! Part of two test programs, as the other files here are: what needs more than cargo is among the clients' tests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use manent::flow::{BodyEnd, Content, State};
use manent::store::{ListQuery, Reader};

/// The binary, told to use the store at `path`, with its CA beside it and nothing else of the environment.
pub(super) fn manent(path: &Path) -> Command {
    with_environment(Command::new(env!("CARGO_BIN_EXE_manent")), path)
}

/// The same in a shell that first runs `preparations`, which set what the process may do.
pub(super) fn manent_after(preparations: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{preparations}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_manent")]);
    with_environment(command, path)
}

fn with_environment(mut command: Command, path: &Path) -> Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command.env("MANENT_STORE", path).env("MANENT_CA_DIR", path.with_extension("ca"));
    command
}

/// Runs it to its end; its code, what it printed, and what it said. A panic or a signal never is an answer.
pub(super) fn ended(mut command: Command) -> (i32, String, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, output) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = output.recv_timeout(PATIENCE) else {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        panic!("{command:?} does not end");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let (printed, said) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!said.contains("panicked"), "{command:?}: {said}");
    (status.code().unwrap_or_else(|| panic!("{command:?}: {status}")), printed, said)
}

/// A capture that is listening.
pub(super) struct Capture {
    child: Child,
    addr: SocketAddr,
    /// What it says, line by line.
    said: Receiver<String>,
}

impl Capture {
    /// Starts `command`, which is the binary without a subcommand.
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .args(["capture", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        let mut capture = Self { child, addr: ([127, 0, 0, 1], 0).into(), said };
        let line = capture.until_it_says("listening on ");
        let (_, rest) = line.split_once("listening on ").unwrap();
        capture.addr = rest.split(' ').next().unwrap().parse().unwrap();
        capture
    }

    /// Asks `origin` for a body of `len` bytes through the proxy, and fails unless it comes whole.
    pub(super) fn ask(&self, origin: &Origin, len: usize) {
        let mut client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let at = origin.addr;
        write!(client, "GET http://{at}/{len} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer[..head].escape_ascii());
        assert!(answer[head..] == body(len), "{} bytes instead of {len}", answer.len() - head);
    }

    /// The next line it says that has `words` in it.
    pub(super) fn until_it_says(&self, words: &str) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it never says: {words}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The line in which it has said `words` since it was last asked.
    pub(super) fn line_with(&self, words: &str) -> Option<String> {
        self.said.try_iter().find(|line| line.contains(words))
    }

    /// Ends it in order: its exit code, and what it said since it was last asked.
    pub(super) fn stop(mut self) -> (i32, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut said = String::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            said = format!("{said}{line}\n");
        }
        let status = self.child.wait().unwrap();
        assert!(!said.contains("panicked"), "{said}");
        (status.code().unwrap_or_else(|| panic!("{status}: {said}")), said)
    }

    /// Ends it as a crash does.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A test that failed; else it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers each request for `/N` with N bytes, one connection after the other.
pub(super) struct Origin {
    addr: SocketAddr,
}

impl Origin {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // It ends with the test's process.
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).all(|tcp| serve(tcp).is_ok()));
        Self { addr }
    }
}

fn serve(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(tcp.try_clone()?);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let len = head.split(' ').nth(1).and_then(|path| path.trim_start_matches('/').parse().ok()).unwrap_or(0);
    write!(tcp, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
    tcp.write_all(&body(len))
}

/// The body that a request for so many bytes gets.
pub(super) fn body(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What `ls` tells of the store at `path`, which must open: mid, state and length of each flow.
pub(super) fn rows(path: &Path) -> Vec<serde_json::Value> {
    let mut command = manent(path);
    command.args(["ls", "--json"]);
    let (code, printed, said) = ended(command);
    assert!(code <= 1, "{said}");
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails unless every flow of the store at `path` has its body, or tells that the disk could not take it; how many of either.
pub(super) fn whole_and_lost(path: &Path) -> (usize, usize) {
    let reader = Reader::open(path).unwrap();
    let (mut whole, mut lost) = (0, 0);
    for row in reader.list(&ListQuery::default()).unwrap() {
        let kept = reader.load(row.mid, 1 << 20).unwrap().unwrap().response.unwrap().body;
        assert_eq!(row.state, State::Complete);
        match (&kept.content, kept.end) {
            (Content::Absent, BodyEnd::Lost) => lost += 1,
            _ => {
                assert!(kept.as_inline().unwrap()[..] == body(usize::try_from(row.response_len).unwrap()));
                whole += 1;
            }
        }
    }
    (whole, lost)
}

/// Takes a copy of a store as its files are now, as a backup without care or a crash would.
pub(super) fn copy(path: &Path, to: &Path) -> PathBuf {
    let copied = to.join("flows.db");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        if Path::new(&name(path)).exists() {
            std::fs::copy(name(path), name(&copied)).unwrap();
        }
    }
    let bodies = PathBuf::from(format!("{}-bodies", path.display()));
    if bodies.exists() {
        let to = PathBuf::from(format!("{}-bodies", copied.display()));
        std::fs::create_dir(&to).unwrap();
        for entry in bodies.read_dir().unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    copied
}

/// Chance, the same in each run.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);
