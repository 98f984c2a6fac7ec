//! Requests as commands and programs (`manent export`), run for real: the origin gets the recorded bytes, and nothing else happens.
//!
//! The requests are hostile in all that HTTP allows: were one byte of them taken for syntax by a shell or a language, a file
//! would appear in the empty directory that they run in, or the bytes would differ.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{Program, Seen, Stage, binary, clean, finish, manent, python, succeed, text};

/// A request as a client sends it. `{host}` in a value is the origin's.
struct Case {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Case {
    fn new(method: &'static str, path: &'static str, headers: &[(&'static str, &[u8])], body: &[u8]) -> Case {
        let headers = headers.iter().map(|(name, value)| (*name, value.to_vec())).collect();
        Case { method, path, headers, body: body.to_vec() }
    }

    fn is_chunked(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"))
    }

    /// Its fields as the origin's log has them.
    fn fields(&self, host: &str) -> Vec<(String, String)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).replace("{host}", host);
        self.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
    }

    /// Sends it through the proxy, and waits for the answer.
    async fn send(&self, stage: &Stage) {
        let host = format!("localhost:{}", stage.http.port);
        let mut wire = format!("{} http://{host}{} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(name.as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(if value == b"{host}" { host.as_bytes() } else { value });
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        if self.is_chunked() {
            wire.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
        }
        wire.extend_from_slice(&self.body);
        if self.is_chunked() {
            wire.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", stage.proxy.port)).await.expect("it listens");
        stream.write_all(&wire).await.expect("it reads");
        let mut head = Vec::new();
        while !head.windows(4).any(|at| at == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("it answers") > 0, "{}", text(&head));
        }
        assert!(head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.1 404"), "{}", text(&head));
    }
}

/// Requests that a shell could stumble over.
fn hostile() -> Vec<Case> {
    let host = ("Host", &b"{host}"[..]);
    let upper: Vec<u8> = (0x80..=0xff).collect();
    let visible: Vec<u8> = (0x20..0x7f).collect();
    let evil = b"'; touch canary; '$(touch canary)`touch canary`\" & touch canary | touch canary > canary \\";
    let len = |body: &[u8]| body.len().to_string().into_bytes();
    let mut cases = vec![
        Case::new("GET", "/hello", &[host, ("User-Agent", b"me"), ("Accept", b"*/*")], b""),
        Case::new(
            "GET",
            "/'$(touch${IFS}canary)`touch%20canary`;touch&canary|[1-3]{a,b}*?!#~\\\"<>^",
            &[host],
            b"",
        ),
        Case::new(
            "GET",
            "/a/../b/./%2e%2e/c?q=%41%c3%a9&x[]={y}",
            &[("accept", b"a"), ("hOST", b"{host}")],
            b"",
        ),
        Case::new("GET", "/x", &[host, ("X-Empty", b""), ("x-dup", b"1"), ("X-DUP", b"2")], b""),
        Case::new("GET", "/x", &[host, ("evil'$`touch`", evil)], b""),
        Case::new(
            "GET",
            "/x",
            &[
                ("X-Upper", &upper),
                host,
                ("X-All", &visible[1..]),
                ("X-Tab", b"a\tb"),
                ("X-At", b"@/etc/passwd"),
            ],
            b"",
        ),
        Case::new("TOUCH", "/x", &[host, ("Content-Length", b"0"), ("X", b"1")], b""),
        Case::new("HEAD", "/hello", &[host, ("Accept", b"x")], b""),
        Case::new("DELETE", "/x", &[host, ("Content-Type", b"a/b"), ("Content-Length", b"1")], b"x"),
        Case::new("POST", "/x", &[host, ("Transfer-Encoding", b"chunked"), ("X", b"1")], b"in chunks"),
    ];
    let bodies = [
        evil.to_vec(),
        b"@/etc/passwd".to_vec(),
        b"-d x\n'EOF'\nEOF\n$(touch canary)!!\n".to_vec(),
        b"{\n  \"a\": \"gr\xc3\xbcn '\\\\ \\n\"\n}\n".to_vec(),
        b"\t\x1b[201~\rtouch canary\r".to_vec(),
        b"100%s %d \\101\\n".to_vec(),
        binary(1000),
        visible.repeat(500),
        binary(70_001),
        binary(1_500_000),
    ];
    for body in bodies {
        let length = len(&body);
        cases.push(Case::new(
            "POST",
            "/x",
            &[host, ("content-length", &length), ("Content-Type", b"a/b")],
            &body,
        ));
    }
    cases
}

/// Records the cases, and writes each as a file in `format`. `None`: the format cannot say it.
async fn exported(stage: &mut Stage, cases: &[Case], format: &str) -> Vec<Option<PathBuf>> {
    for case in cases {
        case.send(stage).await;
    }
    stage.proxy.stop().await;
    let mut files = Vec::new();
    for mid in 1..=cases.len() {
        let file = stage.dir.path().join(format!("{mid}.{format}"));
        let mut export = manent(stage.dir.path());
        export.args(["export", "--format", format, "--store"]).arg(&stage.proxy.store.path);
        let output = finish(export.arg("-o").arg(&file).arg(mid.to_string())).await;
        files.push(match output.status.code() {
            Some(0) => Some(file),
            Some(7) if text(&output.stderr).contains("cannot be written in this format") => None,
            _ => panic!("{}", text(&output.stderr)),
        });
    }
    files
}

/// An empty directory to run things in, and afterwards the proof that it still is.
struct Empty(PathBuf);

impl Empty {
    fn new(stage: &Stage) -> Empty {
        let dir = stage.dir.path().join("empty");
        std::fs::create_dir(&dir).expect("a new directory");
        Empty(dir)
    }

    fn assert_empty(&self) {
        let found: Vec<_> = std::fs::read_dir(&self.0).expect("readable").collect();
        assert!(found.is_empty(), "something was run: {found:?}");
    }
}

fn last(stage: &Stage) -> Seen {
    stage.http.seen().pop().expect("something came")
}

#[tokio::test]
async fn curl_commands_send_the_same_bytes_from_sh_and_from_bash() {
    let mut stage = Stage::new().await;
    let cases = hostile();
    let files = exported(&mut stage, &cases, "curl").await;
    let empty = Empty::new(&stage);
    for (case, file) in cases.iter().zip(&files) {
        let file = file.as_ref().unwrap_or_else(|| panic!("{} {} was not written", case.method, case.path));
        for shell in [Program::SH, Program::BASH] {
            let count = stage.http.seen().len();
            succeed(shell.command(stage.dir.path()).current_dir(&empty.0).arg(file)).await;
            let command = std::fs::read(file).expect("just written");
            let shown = text(&command[..command.len().min(2000)]);
            assert_eq!(stage.http.seen().len(), count + 1, "{shown}");
            let (seen, host) = (last(&stage), format!("localhost:{}", stage.http.port));
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (case.method, case.path), "{shown}");
            assert_eq!(seen.headers, case.fields(&host), "{shown}");
            assert!(seen.body == case.body, "{shown}");
        }
    }
    empty.assert_empty();
}

#[tokio::test]
async fn a_curl_command_over_tls_speaks_the_recorded_version() {
    let mut stage = Stage::new().await;
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "--proxy", &stage.proxy.url(), "--cacert"]).arg(&stage.proxy.ca);
    succeed(curl.args(["-d", "a=b", &stage.https.url("/x")])).await;
    stage.proxy.stop().await;
    let command = stage.proxy.store.ask(&["export", "--format", "curl"]).await;
    let mut shell = Program::SH.command(stage.dir.path());
    shell.env("CURL_CA_BUNDLE", stage.dir.path().join("origin-ca.pem")).arg("-c").arg(text(&command));
    let output = finish(&mut shell).await;
    assert!(output.status.success(), "{}\n{}", text(&command), text(&output.stderr));
    let seen = stage.https.seen();
    assert_eq!(
        (&seen[0].headers, &seen[0].body, &seen[0].target),
        (&seen[1].headers, &seen[1].body, &seen[1].target)
    );
}

#[tokio::test]
async fn python_programs_send_the_same_fields_and_bytes() {
    let mut stage = Stage::new().await;
    let cases = hostile();
    let files = exported(&mut stage, &cases, "python").await;
    let empty = Empty::new(&stage);
    let mut done = 0;
    for (case, file) in cases.iter().zip(&files) {
        let Some(file) = file else { continue };
        run(&stage, &empty, file, clean(&python(), stage.dir.path())).await;
        let (seen, host) = (last(&stage), format!("localhost:{}", stage.http.port));
        let shown = format!("{} {}", case.method, case.path);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (case.method, case.path));
        assert_eq!(lower(seen.headers), joined(case.fields(&host)), "{shown}");
        assert!(seen.body == case.body, "{shown}");
        done += 1;
    }
    empty.assert_empty();
    assert!(done >= cases.len() - 2, "{done} of {}", cases.len());
}

#[tokio::test]
async fn fetch_programs_send_the_same_fields_and_bytes() {
    let mut stage = Stage::new().await;
    let cases = hostile();
    let files = exported(&mut stage, &cases, "fetch").await;
    let empty = Empty::new(&stage);
    let mut done = 0;
    for (case, file) in cases.iter().zip(&files) {
        let Some(file) = file else { continue };
        let module = file.with_extension("mjs");
        std::fs::rename(file, &module).expect("just written");
        run(&stage, &empty, &module, Program::NODE.command(stage.dir.path())).await;
        let (seen, host) = (last(&stage), format!("localhost:{}", stage.http.port));
        let shown = format!("{} {}", case.method, case.path);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (case.method, case.path));
        let came = lower(seen.headers);
        for (name, value) in joined(case.fields(&host)) {
            let is_its_own = ["transfer-encoding", "content-length"].contains(&name.as_str());
            assert!(is_its_own || came.contains(&(name.clone(), value)), "{shown}: {name} in {came:?}");
        }
        assert!(seen.body == case.body, "{shown}");
        done += 1;
    }
    empty.assert_empty();
    assert!(done >= cases.len() - 4, "{done} of {}", cases.len());
}

#[tokio::test]
async fn httpie_commands_send_the_same_fields_and_bytes() {
    let mut stage = Stage::new().await;
    let cases = hostile();
    let files = exported(&mut stage, &cases, "httpie").await;
    let empty = Empty::new(&stage);
    let bin = python().parent().expect("in a directory").to_owned();
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.expect("it was a path before");
    let mut done = 0;
    for (case, file) in cases.iter().zip(&files) {
        let Some(file) = file else { continue };
        let mut shell = Program::SH.command(stage.dir.path());
        shell.env("PATH", &path);
        run(&stage, &empty, file, shell).await;
        let (seen, host) = (last(&stage), format!("localhost:{}", stage.http.port));
        let shown = format!("{} {}", case.method, case.path);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (case.method, case.path));
        // Those that it has a default for stand before the others.
        let sorted = |mut fields: Vec<(String, String)>| {
            for (name, _) in &mut fields {
                if ["content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
                    name.make_ascii_lowercase();
                }
            }
            fields.sort();
            fields
        };
        assert_eq!(sorted(seen.headers), sorted(case.fields(&host)), "{shown}");
        assert!(seen.body == case.body, "{shown}");
        done += 1;
    }
    empty.assert_empty();
    assert!(done >= cases.len() - 4, "{done} of {}", cases.len());
}

/// Runs a program, which sends one request.
async fn run(stage: &Stage, empty: &Empty, file: &Path, mut program: Command) {
    let count = stage.http.seen().len();
    let output = finish(program.current_dir(&empty.0).arg(file)).await;
    let source = std::fs::read(file).expect("just written");
    let shown = text(&source[..source.len().min(2000)]);
    assert!(output.status.success(), "{shown}\n{}", text(&output.stderr));
    assert_eq!(stage.http.seen().len(), count + 1, "{shown}");
}

/// Names in lower case: what they mean is the same.
fn lower(fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// Those of one name in one.
fn joined(fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut joined: Vec<(String, String)> = Vec::new();
    for (name, value) in lower(fields) {
        match joined.iter_mut().find(|(have, _)| *have == name) {
            Some((_, list)) => *list = format!("{list}, {value}"),
            None => joined.push((name, value)),
        }
    }
    joined
}
