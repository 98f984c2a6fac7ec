//! What a service manager and a collector of logs see: sd_notify(3), the log as JSON, and the files of `examples/deploy`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::cli::{Home, flow, parse, text};
use crate::harness::PATIENCE;
use crate::tail::Running;

/// The place of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(addr: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn told(&self) -> String {
        let mut message = [0; 4096];
        let len = self.0.recv(&mut message).unwrap();
        text(&message[..len])
    }
}

/// A `manent` that some manager starts.
fn start(home: &Home, args: &[&str], socket: &str, variables: &[(&str, &str)]) -> Running {
    let mut command = home.command(args);
    command.env("NOTIFY_SOCKET", socket).envs(variables.iter().copied());
    Running::of(command, Stdio::null())
}

#[test]
fn a_service_manager_is_told_of_beginning_reload_and_end() {
    let home = Home::new();
    let socket = home.path("notify");
    let manager = Manager::listen(&SocketAddr::from_pathname(&socket).unwrap());
    let running = start(&home, &["-p", "0"], socket.to_str().unwrap(), &[]);
    let ready = manager.told();
    assert!(ready.starts_with("READY=1\nSTATUS=listening on 127.0.0.1:"), "{ready}");
    // It listens when it says so.
    let addr = ready.rsplit(' ').next().unwrap();
    assert!(std::net::TcpStream::connect(addr).is_ok(), "{addr}");
    running.signal(Signal::HUP);
    let reloading = manager.told();
    let usec =
        reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split('\n').next());
    assert!(usec.is_some_and(|usec| usec.parse::<u64>().is_ok_and(|usec| usec > 0)), "{reloading}");
    assert_eq!(manager.told(), ready);
    running.signal(Signal::TERM);
    assert!(manager.told().starts_with("STOPPING=1\n"));
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn the_watchdog_is_fed_and_abstract_sockets_are_understood() {
    let home = Home::with([flow("/a", b"a")]);
    let name = format!("manent-test-{}", std::process::id());
    let manager = Manager::listen(&SocketAddr::from_abstract_name(&name).unwrap());
    let variables = [("WATCHDOG_USEC", "40000")];
    let running = start(&home, &["serve", "-p", "0"], &format!("@{name}"), &variables);
    assert!(manager.told().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1");
    }
    running.signal(Signal::TERM);
    while !manager.told().starts_with("STOPPING=1") {}
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn a_manager_that_is_not_there_holds_nothing_up() {
    let home = Home::new();
    for socket in ["/nowhere/notify", "@manent-nobody", "vsock:2:1"] {
        let mut running = start(&home, &["-p", "0"], socket, &[]);
        let said = running.said();
        while !said.recv_timeout(PATIENCE).unwrap().contains("listening on") {}
        running.signal(Signal::TERM);
        assert_eq!(running.end().0, Some(0));
    }
}

/// Every line on standard error, whatever it is about.
#[test]
fn the_log_as_json_is_json_line_by_line() {
    let home = Home::new();
    let args = ["--log-format", "json", "--log", "debug", "-p", "0", "--insecure"];
    let mut running = Running::start(&home, &args);
    let said = running.said();
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("in another terminal")) {
        lines.push(said.recv_timeout(PATIENCE).unwrap());
    }
    home.write_config("nonsense = 1");
    running.signal(Signal::HUP);
    while !lines.iter().any(|line: &String| line.contains("stay as they were")) {
        lines.push(said.recv_timeout(PATIENCE).unwrap());
    }
    running.signal(Signal::TERM);
    lines.extend(said.iter());
    let rows: Vec<_> = lines.iter().map(|line| parse(line.as_bytes())).collect();
    for row in &rows {
        let time: jiff::Timestamp = row["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time > jiff::Timestamp::UNIX_EPOCH, "{row}");
        assert!(row["level"].is_string() && row["target"].is_string(), "{row}");
    }
    let level = |words: &str| {
        let row = rows.iter().find(|row| row["message"].as_str().is_some_and(|text| text.contains(words)));
        row.unwrap_or_else(|| panic!("{words} in {rows:#?}"))["level"].as_str().unwrap().to_owned()
    };
    assert_eq!(level("listening on 127.0.0.1:"), "INFO");
    assert_eq!(level("upstream certificates are NOT verified"), "WARN");
    assert_eq!(level("unknown key `nonsense`"), "ERROR");
    let error = rows.iter().find(|row| row["level"] == "ERROR").unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"E002".into(), &2.into()));
    assert_eq!(running.end().0, Some(0));

    home.write_config("");
    for args in [&["show", "99"][..], &["ls", "--nosuch"]] {
        let output = home.command(args).env("MANENT_LOG_FORMAT", "json").output().unwrap();
        assert_eq!(parse(&output.stderr)["level"], "ERROR", "{}", text(&output.stderr));
    }
}

#[test]
fn the_log_has_the_level_that_is_asked_for() {
    let home = Home::new();
    let debug = |args: &[&str], variable: Option<&str>| {
        let mut command = home.command(args);
        if let Some(level) = variable {
            command.env("MANENT_LOG", level);
        }
        // What `ls` finds no store to be is logged at `debug`, beside the message.
        text(&command.output().unwrap().stderr).contains("DEBUG")
    };
    assert!(!debug(&["ls"], None) && !debug(&["ls", "-v"], None));
    assert!(
        debug(&["ls", "-vv"], None)
            && debug(&["ls", "--log", "debug"], None)
            && debug(&["ls"], Some("debug"))
    );
    // The flag goes before the variable, whichever of the two flags it is.
    assert!(!debug(&["ls", "-v"], Some("debug")) && !debug(&["ls", "--log", "info"], Some("debug")));
    assert!(debug(&["ls"], Some("manent::cli=debug")) && !debug(&["ls"], Some("manent::proxy=debug")));
    home.refuses(&["ls", "--log", "loud"], 2, "off, error, warn, info, debug or trace was expected");
    home.refuses(&["ls", "--log", "info", "-v"], 2, "cannot be used with");
}

/// The unit's command, started as systemd would start it, does what the unit counts on.
#[test]
fn the_unit_starts_what_it_says() {
    let home = Home::new();
    let unit = deploy("manent.service");
    let value = |key: &str| unit.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    let [exec] = value("ExecStart=")[..] else { panic!("{unit}") };
    let args: Vec<_> = exec.strip_prefix("/usr/local/bin/manent ").unwrap().split(' ').collect();
    assert_eq!((value("Type="), value("ExecReload=")), (vec!["notify"], vec!["/bin/kill -HUP $MAINPID"]));
    let socket = home.path("notify");
    let manager = Manager::listen(&SocketAddr::from_pathname(&socket).unwrap());
    let mut command = bare(&home, &args);
    // What the unit sets, with its directories in ours, and a port that is free.
    for pair in value("Environment=").into_iter().flat_map(|line| line.split(' ')) {
        set(&mut command, &home, pair);
    }
    command.env("NOTIFY_SOCKET", &socket).env("MANENT_PORT", "0");
    let running = Running::of(command, Stdio::null());
    assert!(manager.told().starts_with("READY=1\nSTATUS=listening on 127.0.0.1:"));
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    assert!(
        home.path("var/lib/manent/flows.db").exists()
            && home.path("var/lib/manent/ca/manent-ca.pem").exists()
    );
}

/// The container's variables and command start a proxy, and what it is asked for its health is true.
#[test]
fn the_container_starts_what_it_says() {
    let home = Home::new();
    let file = deploy("Dockerfile");
    let lines = |key: &str| file.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    assert_eq!(lines("ENTRYPOINT "), ["[\"manent\"]"]);
    let args: Vec<String> = serde_json::from_str(lines("CMD ")[0]).unwrap();
    let mut command = bare(&home, &args.iter().map(String::as_str).collect::<Vec<_>>());
    for pair in lines("ENV ").into_iter().flat_map(|line| line.split(' ')) {
        set(&mut command, &home, &pair.replace("0.0.0.0:8080", "127.0.0.1:0"));
    }
    let mut running = Running::of(command, Stdio::null());
    let said = running.said();
    let line = said.recv_timeout(PATIENCE).unwrap();
    let port = line.split_once("listening on 127.0.0.1:").unwrap_or_else(|| panic!("{line}")).1;
    let port = port.split_whitespace().next().unwrap();
    let (_, health) = file.split_once("HEALTHCHECK").unwrap().1.split_once("CMD ").unwrap();
    let health: Vec<String> = serde_json::from_str(health.lines().next().unwrap()).unwrap();
    let healthy = |port: &str| {
        let script = health[2].replace("8080", port);
        Command::new(&health[0]).args([&health[1], &script]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(healthy(port));
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, Some(0));
    assert!(!healthy(port));
    assert!(home.path("data/manent/flows.db").exists());
    let kept = home.run(&["ls", "-s", home.path("data/manent/flows.db").to_str().unwrap()]);
    assert_eq!(kept.status.code(), Some(1), "being asked for its health is no flow: {}", text(&kept.stdout));
}

fn deploy(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The command without the variables by which tests point it to their directory.
fn bare(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(args);
    command.env_remove("MANENT_STORE").env_remove("MANENT_CA_DIR").env_remove("XDG_CONFIG_HOME");
    command
}

/// Sets `NAME=VALUE`; a path is one below our directory.
fn set(command: &mut Command, home: &Home, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap();
    match value.strip_prefix('/') {
        Some(path) => command.env(name, home.path(path)),
        None => command.env(name, value),
    };
}
