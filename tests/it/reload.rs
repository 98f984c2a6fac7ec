//! SIGHUP on a capture: what is read again, what is not, and that a mistake changes nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::process::Signal;

use crate::cli::{Home, parse};
use crate::harness::PATIENCE;
use crate::tail::Running;

/// A capture with a file of settings, and an origin.
struct Capture {
    home: Home,
    running: Running,
    said: Receiver<String>,
    addr: String,
    origin: TcpListener,
}

impl Capture {
    fn start(file: &str) -> Self {
        let home = Home::new();
        home.write_config(file);
        let mut running = Running::start(&home, &["--json", "-p", "0"]);
        let said = running.said();
        let line = said.recv_timeout(PATIENCE).unwrap();
        let addr = line.split_once("listening on ").unwrap_or_else(|| panic!("{line}")).1;
        let addr = addr.split_whitespace().next().unwrap().to_owned();
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { home, running, said, addr, origin }
    }

    /// What is said of a reload with this file; the line that ends it begins with `end`.
    fn reload(&self, file: &str, end: &str) -> String {
        self.home.write_config(file);
        self.running.signal(Signal::HUP);
        let mut told = String::new();
        loop {
            let line =
                self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{end} is missing in {told}"));
            told += &line;
            told.push('\n');
            if line.starts_with(end) {
                return told;
            }
        }
    }

    /// Sends a request, which the origin answers if it gets there; gives the answer's first line.
    fn ask(&self, path: &str, fields: &str) -> String {
        let mut client = self.send(path, fields);
        if fields != REFUSED {
            self.answer();
        }
        first_line(&mut client)
    }

    fn send(&self, path: &str, fields: &str) -> TcpStream {
        let mut client = TcpStream::connect(&self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = self.origin.local_addr().unwrap();
        let head =
            format!("GET http://{to}{path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{fields}\r\n");
        client.write_all(head.as_bytes()).unwrap();
        client
    }

    fn answer(&self) {
        let (mut server, _) = self.origin.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut head, mut piece) = (Vec::new(), [0; 1024]);
        while !head.ends_with(b"\r\n\r\n") {
            let len = server.read(&mut piece).unwrap();
            assert!(len > 0, "the request ends early");
            head.extend_from_slice(&piece[..len]);
        }
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    }

    /// The path of the next flow that is stored.
    fn stored(&self) -> String {
        let url = parse(self.running.line().as_bytes())["url"].as_str().unwrap().to_owned();
        url[url.rfind('/').unwrap()..].to_owned()
    }
}

/// A request that the proxy itself will answer.
const REFUSED: &str = "X-Refused: yes\r\n";

fn first_line(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_recorded_and_who_may_come_in_change_at_once() {
    let capture = Capture::start("");
    capture.ask("/first", "");
    assert_eq!(capture.stored(), "/first");
    // A request that is under way is asked by what holds when it ends, and is not disturbed.
    let mut open = capture.send("/open", "");
    let told = capture
        .reload("record = \"!path:/not\"\nbody-limit = \"2\"\nlog = \"debug\"\n", "settings read again");
    assert_eq!(
        told.lines().find(|line| line.starts_with("settings")).unwrap(),
        "settings read again: record !path:/not; body-limit 2; log debug"
    );
    capture.answer();
    assert_eq!(first_line(&mut open), "HTTP/1.1 200 OK");
    assert_eq!(capture.stored(), "/open");
    assert_eq!(capture.ask("/not", ""), "HTTP/1.1 200 OK");
    capture.ask("/second", "");
    assert_eq!(capture.stored(), "/second");
    assert_eq!(capture.home.run(&["cat", "last"]).stdout, b"he", "the limit of bodies holds as well");

    capture.reload("proxy-auth = \"me:secret\"\n", "settings read again: proxy-auth me:***; record none");
    assert_eq!(capture.ask("/refused", REFUSED), "HTTP/1.1 407 Proxy Authentication Required");
    let auth = "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n";
    assert_eq!(capture.ask("/known", auth), "HTTP/1.1 200 OK");
}

/// Also what a file beside the settings says, though its name stays the same.
#[test]
fn a_file_of_passwords_is_read_again() {
    let sum = |text: &str| format!("me:{{SHA}}{}\n", sha1_base64(text));
    let capture = Capture::start("");
    let who = capture.home.path("config/manent/who");
    std::fs::write(&who, sum("one")).unwrap();
    capture.reload("proxy-auth = \"@who\"\n", "settings read again: proxy-auth @");
    let auth = |pair: &str| format!("Proxy-Authorization: Basic {pair}\r\n");
    let (one, two) = (auth("bWU6b25l"), auth("bWU6dHdv"));
    assert_eq!(capture.ask("/", &one), "HTTP/1.1 200 OK");
    std::fs::write(&who, sum("two")).unwrap();
    capture.reload("proxy-auth = \"@who\"\n", "settings read again: nothing new");
    assert_eq!(capture.ask("/", &two), "HTTP/1.1 200 OK");
    let mut refused = capture.send("/", &one);
    assert_eq!(first_line(&mut refused), "HTTP/1.1 407 Proxy Authentication Required");
}

#[test]
fn a_broken_file_keeps_what_held_before() {
    let capture = Capture::start("record = \"!path:/not\"\n");
    for (file, why) in [
        ("recrod = \"~all\"\n", "unknown key `recrod`"),
        ("record = \"~~\"\n", "config.toml:1: `record`: there is no operator"),
        ("record = \"~bs x\"\n", "config.toml:1: `record`: what is recorded cannot depend on"),
        ("proxy-auth = \"@/nowhere/who\"\n", "--proxy-auth: /nowhere/who"),
    ] {
        let told = capture.reload(file, "warning: the settings could not be read again");
        assert!(told.contains(why) && told.contains("they stay as they were"), "{file}: {told}");
    }
    capture.ask("/not", "");
    capture.ask("/kept", "");
    assert_eq!(capture.stored(), "/kept");
    let told = capture
        .reload("max-flows = 1\ngrace = \"1s\"\nvia = \"http://proxy.test:1\"\n", "warning: changed, but");
    assert!(told.contains("settings read again: record none; max-flows 1\n"), "{told}");
    assert!(told.contains("warning: changed, but needs a restart: via, grace\n"), "{told}");
    // Which is said again until there is one.
    let told = capture.reload("max-flows = 1\ngrace = \"1s\"\n", "warning: changed, but");
    assert!(told.contains("nothing new") && told.contains("needs a restart: grace\n"), "{told}");
    capture.running.signal(Signal::TERM);
    assert_eq!(capture.running.end().0, Some(0));
}

/// An editor that writes a new file in the place of the old one takes that away first: what it guarded stays guarded.
#[test]
fn a_file_that_is_gone_keeps_what_held_before() {
    let capture = Capture::start("proxy-auth = \"me:secret\"\n");
    std::fs::remove_file(capture.home.config()).unwrap();
    capture.running.signal(Signal::HUP);
    let next = || capture.said.recv_timeout(PATIENCE).unwrap();
    while !next().contains("they stay as they were") {}
    assert_eq!(capture.ask("/", REFUSED), "HTTP/1.1 407 Proxy Authentication Required");
    capture.reload("", "settings read again: proxy-auth none");
}

/// The addresses that count are those that are listened on, whatever the file has come to say.
#[test]
fn a_listener_is_not_laid_open_by_a_reload() {
    let home = Home::new();
    home.write_config("allow = [\"10.0.0.0/8\"]\n");
    let mut running = Running::start(&home, &["-l", "0.0.0.0:0"]);
    let said = running.said();
    let next = || said.recv_timeout(PATIENCE).unwrap();
    while !next().contains("in another terminal") {}
    home.write_config("");
    running.signal(Signal::HUP);
    assert!(next().starts_with("error[E102]: refusing to listen on 0.0.0.0:0"));
    while !next().contains("they stay as they were") {}
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
}

/// A limit that is set while it runs takes effect without a flow to set it off.
#[tokio::test]
async fn limits_of_the_store_change_while_it_is_written() {
    use crate::harness::{GET, OK, Origin, Setup};

    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for _ in 0..5 {
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        server.send(OK).await;
        client.expect(OK).await;
        setup.ended().await;
    }
    let mut config = setup.config.clone();
    config.keep.max_flows = Some(2);
    setup.proxy.change(&setup.config.changed(config));
    let reader = manent::store::Reader::open(&setup.config.store).unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        let count = reader.list(&manent::store::ListQuery::default()).unwrap().len();
        if count == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{count} flows are left");
        ticks.tick().await;
    }
    setup.expect_alive().await;
}

/// What is passed through unread follows as well.
#[tokio::test]
async fn tunnels_that_are_left_unread_change_while_it_runs() {
    use crate::harness::{Origin, Setup};
    use manent::flow::Kind;

    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let mut config = setup.config.clone();
    config.passthrough.ignore = vec![".".parse().unwrap()];
    setup.proxy.change(&setup.config.changed(config));
    let mut tunnel = setup.tunnel(&origin.addr().to_string()).await;
    tunnel.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    drop((tunnel, server));
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.tunnel.is_some()), (Kind::Tunnel, true));
}

/// The terminal of a capture in the foreground goes away with a hangup: that ends it, as it always has.
#[test]
fn a_hangup_of_the_terminal_ends_the_capture() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let home = Home::new();
    // Its own session, with this terminal as the one that controls it.
    let manent = home.command(&["-p", "0"]);
    let mut command = std::process::Command::new("setsid");
    command.arg("--ctty").arg(manent.get_program()).args(manent.get_args());
    for (name, value) in manent.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut running = Running::of(command, slave.into());
    let said = running.said();
    while !said.recv_timeout(PATIENCE).unwrap().contains("in another terminal") {}
    drop(terminal);
    assert!(said.recv_timeout(PATIENCE).unwrap().starts_with("stopping"));
    assert_eq!(running.end().0, Some(0));
}

fn sha1_base64(text: &str) -> String {
    use base64::Engine as _;

    let sum = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(sum)
}
