//! The command line: what it prints, what it refuses, and the exit codes that scripts rely on.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use manent::flow::{
    Body, BodyEnd, Flow, FlowError, Headers, Kind, Request, Response, Scheme, Side, Stage, State, Target,
};
use manent::record::{Recorder, RecorderOptions};
use serde_json::Value;

#[test]
fn help_and_version_go_to_standard_output() {
    let home = Home::new();
    for (args, word) in [
        (&["--help"][..], "manent run -- curl"),
        (&["-h"], "Commands:"),
        (&["help", "cat"], "--max-decoded"),
        (&["run", "--help"], "Limits:"),
        (&["capture", "--help"], "--head-timeout"),
        (&["ca", "--help"], "export"),
        (&["--version"], "manent 0."),
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains(word), "{args:?}: {}", text(&output.stdout));
        assert!(output.stderr.is_empty());
    }
    for command in [
        "capture", "run", "env", "ls", "tail", "show", "cat", "filter", "mark", "comment", "tag", "stats",
        "check", "prune", "vacuum", "export", "import", "index", "store", "ca", "serve", "replay", "diff",
        "doctor",
    ] {
        let help = home.run(&[command, "--help"]);
        assert!(text(&help.stdout).contains("Examples:"), "{command}");
    }
}

#[test]
fn usage_errors_end_with_2_and_say_what_was_meant() {
    let home = Home::new();
    home.refuses(&["shwo", "1"], 2, "Did you mean `show`?");
    home.refuses(&["ls", "--limt", "1"], 2, "--limit");
    home.refuses(&["show", "one"], 2, "mids are whole numbers or `last`");
    home.refuses(&["--head-timeout", "10"], 2, "unit must be one of");
    home.refuses(&["--no-record", "--require-recording"], 2, "cannot be used with");
    home.refuses(&["-l", "0.0.0.0:0"], 2, "error[E102]: refusing to listen on 0.0.0.0:0");
    let told = home.refuses(&["--ignore-host", "a(b"], 2, "--ignore-host");
    assert!(told.contains("a(b") && told.contains("unclosed group"), "{told}");
    home.refuses(&["--client-cert", "a*.test=c.pem"], 2, "HOST must be a host name");
    home.refuses(
        &["-p", "0", "--client-cert", "a.test=/nowhere/c.pem"],
        6,
        "error[E604]: cannot read /nowhere/c.pem",
    );
    home.refuses(
        &["-p", "0", "--cert", "a.test=/nowhere/c.pem"],
        6,
        "error[E605]: cannot read /nowhere/c.pem",
    );
    let json = home.refuses(&["ls", "--json", "--nosuch"], 2, "");
    assert_eq!(parse(json.as_bytes())["error"]["code"], "E001");
}

/// A value that is refused is quoted, but not the password in it.
#[test]
fn a_refused_value_keeps_its_password_to_itself() {
    let home = Home::with([flow("/a", b"")]);
    for args in [
        &["--reverse", "http://me:hunter2@api.test"][..],
        &["-l", "reverse:http://me:hunter2@api.test@127.0.0.1:0"],
        &["replay", "1", "--to", "http://me:hunter2@api.test"],
        &["replay", "1", "-H", "Authorization hunter2"],
        &["--via", "ftp://me:hunter2@proxy.test"],
        &["--proxy-auth", "hunter2"],
    ] {
        for json in [&[][..], &["--json"]] {
            let told = home.refuses(&[args, json].concat(), 2, "");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
    let told = home.refuses(&["--reverse", "http://me:hunter2@api.test"], 2, "'http://***@api.test'");
    assert!(told.contains("--reverse"), "{told}");
    for (name, value) in [
        ("MANENT_REVERSE", "http://me:hunter2@api.test"),
        ("MANENT_LISTEN", "reverse:http://me:hunter2@api.test@0"),
    ] {
        let output = home.command(&["-p", "0"]).env(name, value).output().unwrap();
        let told = text(&output.stderr);
        assert!(told.contains(&format!("error[E002]: {name} is ")) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_flag_without_its_value_is_told_so() {
    let home = Home::new();
    for args in [&["-s"][..], &["--store"], &["-q", "--ca-dir"], &["ls", "-s"], &["-p"]] {
        let flag = if args == ["-p"] { "--port" } else { "--" };
        let told = home.refuses(args, 2, "a value is required for '");
        assert!(told.contains(flag) && !told.contains("subcommand"), "{told}");
    }
}

#[test]
fn a_bad_variable_is_named() {
    let home = Home::new();
    let output = home.command(&[]).env("MANENT_LISTEN", "example.com:80").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("error[E002]: MANENT_LISTEN is"), "{}", text(&output.stderr));
}

#[test]
fn a_port_in_use_names_its_process() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let told = home.refuses(&["-p", &port], 5, "error[E101]: port ");
    assert!(told.contains(&format!("(pid {})", std::process::id())) && told.contains("hint:"), "{told}");
    assert!(!home.store.exists(), "a refused start leaves no store");
}

#[test]
fn stores_that_cannot_be_used_are_told_apart() {
    let home = Home::new();
    home.refuses(&["ls"], 3, "error[E407]: there is no store at");
    std::fs::write(&home.store, "hello, this is text and no database").unwrap();
    home.refuses(&["ls"], 4, "error[E406]");
    home.refuses(&["-p", "0"], 4, "error[E406]");
    let nowhere = home.store.join("below-a-file.db");
    home.refuses(&["-p", "0", "-s", nowhere.to_str().unwrap()], 4, "error[E402]: cannot write to");
}

/// In an empty home, the first command may be one that makes no CA on its way.
#[test]
fn the_default_folder_is_made_and_no_other() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::with([flow("/a", b"a")]);
    let data = home.path("a/new/data");
    let fresh = |args: &[&str]| {
        let mut command = home.command(args);
        command.env_remove("MANENT_STORE").env("XDG_DATA_HOME", &data).output().unwrap()
    };
    let missing = fresh(&["import", "/nowhere/x.har"]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("cannot read /nowhere/x.har") && !data.exists());
    let imported = fresh(&["import", home.store.to_str().unwrap()]);
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
    let mode = std::fs::metadata(data.join("manent")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let elsewhere = home.path("no/such");
    let store = elsewhere.join("x.db");
    for args in [&["-p", "0"][..], &["import", home.store.to_str().unwrap()]] {
        let told = home.refuses(&[args, &["-s", store.to_str().unwrap()]].concat(), 4, "");
        assert_eq!(
            told,
            format!(
                "error[E402]: there is no folder {0}, where the store is to be
  Nothing was changed.
  hint: mkdir -p {0}\n",
                elsewhere.display()
            )
        );
    }
    home.refuses(&["ls", "-s", home.dir().to_str().unwrap()], 4, "\n  It is a folder.\n");
}

#[test]
fn a_second_recorder_is_refused_with_the_first_ones_pid() {
    let home = Home::new();
    let first = home.recorder();
    let told = home.refuses(&["run", "--", "true"], 4, "error[E401]");
    assert!(told.contains(&format!("pid {})", std::process::id())), "{told}");
    assert!(told.contains("flows.db, since 20"), "{told}");
    home.runtime.block_on(first.close()).unwrap();
}

#[test]
fn an_unknown_mid_ends_with_3_and_the_range() {
    let home = Home::with([flow("/a", b"a"), flow("/b", b"b")]);
    home.refuses(&["show", "9"], 3, "The store holds 1–2.");
    let told = home.refuses(&["cat", "9", "--json"], 3, "");
    assert_eq!(parse(told.as_bytes())["error"]["message"], "no flow with mid 9");
    assert_eq!(home.run(&["cat", "last"]).stdout, b"b");
}

#[test]
fn an_empty_store_answers_no() {
    let home = Home::with([]);
    let output = home.run(&["ls"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    home.refuses(&["show", "last"], 3, "error[E204]");
}

#[test]
fn ls_in_a_pipe_is_tab_separated_and_newest_last() {
    let home = Home::with([flow("/a", b"a"), flow("/b\u{1b}[2J\t\u{202e}", b"bb"), failed("/c")]);
    let lines = text(&home.run(&["ls"]).stdout);
    let rows: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0][..5], ["1", "2026-11-22T10:00:04.123456Z", "200", "GET", "http://origin.test/a"]);
    assert_eq!(rows[1][4], "http://origin.test/b\\x1b[2J\\t\\u{202e}");
    assert_eq!((rows[2][2], rows[2][8], rows[2][9]), ("ERR", "failed", "upstream connect: refused\\x07"));
    assert!(rows.iter().all(|row| row.len() == 10));
    assert_eq!(text(&home.run(&["ls", "-n", "1"]).stdout).lines().count(), 1);
    assert!(text(&home.run(&["ls", "-n", "2"]).stdout).starts_with("2\t"));
}

#[test]
fn ls_json_is_an_object_a_line_with_the_mid_first() {
    let home = Home::with([flow("/a", b"a"), failed("/c")]);
    let lines = text(&home.run(&["--json", "ls"]).stdout);
    let rows: Vec<Value> = lines.lines().map(|line| parse(line.as_bytes())).collect();
    assert!(lines.lines().all(|line| line.starts_with("{\"mid\":")));
    assert_eq!(
        (&rows[0]["mid"], &rows[0]["status"], &rows[0]["state"]),
        (&1.into(), &200.into(), &"complete".into())
    );
    assert_eq!((&rows[1]["url"], &rows[1]["status"]), (&"http://origin.test/c".into(), &Value::Null));
}

#[test]
fn show_escapes_what_was_captured() {
    let mut hostile = flow("/a", b"line\x1b]0;x\x07\nnext\xc2\x9b31m");
    hostile.response.as_mut().unwrap().reason = "OK\u{1b}c".into();
    let home = Home::with([hostile]);
    let page = home.run(&["show", "1"]);
    let shown = text(&page.stdout);
    assert!(shown.contains("HTTP/1.1 200 OK\\x1bc\n"), "{shown}");
    assert!(shown.contains("line\\x1b]0;x\\x07\nnext\\u{9b}31m\n"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown}");
}

#[test]
fn show_json_loses_no_byte() {
    let mut odd = flow("/a", b"\xff\x00");
    odd.request.as_mut().unwrap().headers.push("X-Odd", b"caf\xe9");
    let home = Home::with([odd]);
    let shown = parse(&home.run(&["show", "last", "--json"]).stdout);
    assert_eq!(shown["mid"], 1);
    assert_eq!(shown["response"]["body"]["base64"], "/wA=");
    assert_eq!(shown["request"]["body"]["text"], "");
    let headers = shown["request"]["headers"].as_array().unwrap();
    assert_eq!(headers.last().unwrap()["value"]["base64"], "Y2Fm6Q==");
}

#[test]
fn cat_undoes_the_content_coding_unless_told_not_to() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"hello").unwrap();
    let coded = encoder.finish().unwrap();
    let mut gzipped = flow("/a", &coded);
    gzipped.response.as_mut().unwrap().headers.push("Content-Encoding", "gzip");
    let mut lying = flow("/b", b"not gzip at all");
    lying.response.as_mut().unwrap().headers.push("Content-Encoding", "gzip");
    let mut unknown = flow("/c", b"?");
    unknown.response.as_mut().unwrap().headers.push("Content-Encoding", "rot13");
    let home = Home::with([gzipped, lying, unknown]);
    assert_eq!(home.run(&["cat", "1"]).stdout, b"hello");
    assert_eq!(home.run(&["cat", "1", "--raw"]).stdout, coded);
    home.refuses(&["cat", "2"], 1, "hint: manent cat 2 --raw");
    home.refuses(&["cat", "3"], 1, "the content-coding `rot13` is not known");
    assert_eq!(home.run(&["cat", "2", "--raw"]).stdout, b"not gzip at all");
    home.refuses(&["cat", "1", "--max-decoded", "4"], 1, "--max-decoded none");
}

#[test]
fn cat_gives_a_cut_body_as_far_as_it_goes() {
    let mut cut = flow("/a", b"half a");
    cut.response.as_mut().unwrap().body.end = BodyEnd::CutOff;
    let home = Home::with([cut, failed("/b")]);
    let output = home.run(&["cat", "1"]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"half a"[..]));
    assert!(text(&output.stderr).contains("error[E206]"));
    home.refuses(&["cat", "2"], 1, "error[E205]: flow 2 has no response");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::with((0..300).map(|i| flow(&format!("/{i}/{}", "x".repeat(2000)), b"")));
    let mut child = home.command(&["ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn colour_is_for_terminals_and_for_those_who_insist() {
    let home = Home::with([flow("/a", b"a")]);
    assert!(!text(&home.run(&["show", "1"]).stdout).contains('\u{1b}'));
    assert!(text(&home.run(&["show", "1", "--color", "always"]).stdout).contains('\u{1b}'));
    let forced = home.command(&["show", "1"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(text(&forced.stdout).contains('\u{1b}'));
    let refused =
        home.command(&["show", "1"]).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output().unwrap();
    assert!(!text(&refused.stdout).contains('\u{1b}'));
}

#[test]
fn the_ca_is_made_once_and_exported_without_its_key() {
    let home = Home::new();
    let path = text(&home.run(&["ca", "path"]).stdout);
    assert_eq!(Path::new(path.trim_end()), home.dir.path().join("ca/manent-ca.pem"));
    let pem = text(&home.run(&["ca", "export"]).stdout);
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE"));
    assert_eq!(std::fs::read_to_string(path.trim_end()).unwrap(), pem);
    let file = home.dir.path().join("out.crt");
    home.run(&["ca", "export", "--format", "der", "-o", file.to_str().unwrap()]);
    assert_eq!(std::fs::read(&file).unwrap()[0], 0x30);
    home.refuses(&["ca", "export", "-o", home.dir.path().to_str().unwrap()], 1, "error[E209]: cannot write");
}

#[test]
fn run_ends_as_its_command_ends() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "-q", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(home.run(&["run", "-q", "--", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    home.refuses(&["run", "--", "/no/such/command"], 127, "error[E103]: cannot start /no/such/command");
    home.refuses(&["run", "--", home.dir.path().to_str().unwrap()], 126, "error[E103]");
    let seen = home.run(&["run", "--no-record", "--", "sh", "-c", "echo $HTTPS_PROXY ${NO_PROXY-unset}"]);
    let seen = text(&seen.stdout);
    assert!(seen.starts_with("http://127.0.0.1:") && seen.ends_with(" unset\n"), "{seen}");
}

#[test]
fn what_run_made_is_gone_when_the_command_has_ended() {
    let home = Home::new();
    let output = home.run(&["run", "-q", "--", "sh", "-c", "echo $SSL_CERT_FILE; test -s $SSL_CERT_FILE"]);
    assert_eq!(output.status.code(), Some(0));
    let bundle = PathBuf::from(text(&output.stdout).trim_end());
    assert!(bundle.is_absolute() && !bundle.parent().unwrap().exists());
}

/// A directory with a store and a CA, and the binary told to use them.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { store: dir.path().join("flows.db"), dir, runtime }
    }

    /// With a store that holds `flows`, from mid 1.
    pub(crate) fn with(flows: impl IntoIterator<Item = Flow>) -> Self {
        let home = Self::new();
        let recorder = home.recorder();
        home.runtime.block_on(async {
            for flow in flows {
                recorder.store(flow).await.unwrap();
            }
            recorder.close().await.unwrap();
        });
        home
    }

    pub(crate) fn recorder(&self) -> Recorder {
        self.recorder_in("flows.db")
    }

    /// A recorder on a store of this name.
    pub(crate) fn recorder_in(&self, name: &str) -> Recorder {
        self.runtime.block_on(Recorder::open(&self.path(name), RecorderOptions::default())).unwrap()
    }

    /// Stores flows in a store of this name, in as few groups as may be.
    pub(crate) fn fill(&self, name: &str, flows: impl IntoIterator<Item = Flow>) {
        let recorder = self.recorder_in(name);
        self.runtime.block_on(async {
            for flow in flows {
                recorder.admit().await.finish(&flow);
            }
            recorder.close().await.unwrap();
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of the file of settings.
    pub(crate) fn config(&self) -> String {
        self.path("config/manent/config.toml").to_str().unwrap().to_owned()
    }

    pub(crate) fn write_config(&self, text: &str) {
        std::fs::create_dir_all(self.path("config/manent")).unwrap();
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manent"));
        command.args(args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("MANENT_");
            if ours || name == "NO_COLOR" || name == "CLICOLOR_FORCE" {
                command.env_remove(name);
            }
        }
        command.env("MANENT_STORE", &self.store).env("MANENT_CA_DIR", self.dir.path().join("ca"));
        // Not the settings of whoever runs the tests.
        command.env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what must fail with `code` and `words`, and gives all that it said.
    pub(crate) fn refuses(&self, args: &[&str], code: i32, words: &str) -> String {
        let output = self.run(args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
        assert!(!told.contains("os error") && !told.contains("panicked"), "{told}");
        told
    }
}

pub(crate) fn flow(target: &str, body: &[u8]) -> Flow {
    let headers: Headers = [("Host", "origin.test")].into_iter().collect();
    let mut flow = Flow {
        kind: Kind::Http,
        state: State::Complete,
        target: Target { scheme: Scheme::Http, host: "origin.test".into(), port: 80 },
        request: Some(Request {
            method: "GET".into(),
            target: target.to_owned().into(),
            headers,
            body: Body::inline(Vec::new()),
            ..Request::default()
        }),
        response: Some(Response {
            status: 200,
            reason: "OK".into(),
            body: Body::inline(body.to_vec()),
            ..Response::default()
        }),
        ..Flow::default()
    };
    flow.timing.started_unix_ns = 1_795_341_604_123_456_789;
    flow.timing.end_us = Some(1500);
    flow
}

fn failed(target: &str) -> Flow {
    let error = FlowError {
        side: Side::Server,
        stage: Stage::Connect,
        message: "refused\u{7}".into(),
        ..FlowError::default()
    };
    Flow { state: State::Failed, error: Some(error), response: None, ..flow(target, b"") }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
