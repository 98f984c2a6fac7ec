//! What the binary says when something goes wrong: what happened, where, what to do. One test a kind of trouble, on the whole
//! text, so that a change to it is seen for what it is.
//!
//! Stores that may only be read are in `faults::read_only`, disks that are full in `faults::full_disk`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::cli::{Home, flow, text};
use crate::harness::{Peer, TestCa, TlsOrigin, handshake};

/// The binary, capturing into the store of a home.
struct Capture {
    child: Child,
    addr: SocketAddr,
}

impl Capture {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut child = home.command(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("listening on ")).unwrap();
        let addr = line.split_once("listening on ").unwrap().1;
        Self { child, addr: addr.split(' ').next().unwrap().parse().unwrap() }
    }

    /// A client with a tunnel to an origin.
    async fn tunnel(&self, origin: &TlsOrigin) -> Peer {
        let authority = origin.addr();
        let mut client = Peer::connect(self.addr).await;
        client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        client.expect("HTTP/1.1 200 Connection established\r\n\r\n").await;
        client
    }

    /// Ends it as Ctrl-C does.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// What a client has that trusts the CA of a home.
fn trusting(home: &Home) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(home.path("ca/manent-ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    config.with_root_certificates(roots).with_no_client_auth().into()
}

#[test]
fn a_port_in_use() {
    let home = Home::new();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let told = home.refuses(&["-p", &port.to_string()], 5, "");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], format!("error[E101]: port {port} on 127.0.0.1 is already in use"));
    let by = lines[1].strip_prefix("  by: ").unwrap_or_else(|| panic!("{told}"));
    let (process, by) = by.split_once(&format!(" (pid {}), started ", std::process::id())).unwrap();
    let (started, user) = by.split_once(" by ").unwrap_or_else(|| panic!("{told}"));
    assert!(!process.is_empty() && !user.is_empty(), "{told}");
    assert!(jiff::fmt::strtime::parse("%m-%d %H:%M:%S", started).is_ok(), "{started}");
    assert_eq!(
        lines[2],
        format!("  hint: manent -p {}     or let it choose: manent -p 0", port.wrapping_add(2))
    );
    assert_eq!(lines.len(), 3, "{told}");
}

#[test]
fn a_client_that_does_not_trust_us() {
    let (home, ca) = (Home::new(), TestCa::new());
    let capture = Capture::start(&home, &["-p", "0", "--insecure", "-q"]);
    let port = home.runtime.block_on(async {
        let origin = TlsOrigin::listen(ca.server_config(&["localhost"], &[])).await;
        let client = capture.tunnel(&origin).await;
        let distrusting: Arc<ClientConfig> = TestCa::new().client_config().into();
        let (refused, _origin) =
            tokio::join!(handshake(client.into_io(), distrusting, "localhost"), origin.accept());
        assert!(refused.is_err());
        origin.addr().port()
    });
    capture.stop();
    let row = text(&home.run(&["ls"]).stdout);
    assert!(row.ends_with("client TLS handshake: client refused our certificate (unknown_ca)\n"), "{row}");
    let shown = text(&home.run(&["show", "1"]).stdout);
    let told = format!(
        " does not trust our certificate for localhost (TLS alert: unknown_ca)
  The request never reached us, so there is nothing to show but this row (mid 1).
  hint: manent run -- curl https://localhost:{port}/     (no installation)
        manent ca install     (this machine)
        http://manent/ through the proxy tells how to trust it elsewhere\n"
    );
    assert!(shown.contains("\n  error[E301]: 127.0.0.1:") && shown.contains(&told), "{shown}");
}

#[test]
fn an_origin_whose_certificate_is_refused() {
    let (home, ca) = (Home::new(), TestCa::new());
    let upstream_ca = ca.write(home.dir.path());
    let capture = Capture::start(&home, &["-p", "0", "-q", "--upstream-ca", upstream_ca.to_str().unwrap()]);
    let trusting = trusting(&home);
    for (name, until, why) in [
        ("api.test", 2020, "expired on 2020-01-01 ("),
        ("other.test", 2090, "it is not for api.test, but for other.test\n"),
    ] {
        let config =
            ca.server_config_of(&[name], &[], |params| params.not_after = date_time_ymd(until, 1, 1));
        let (answer, addr) = home.runtime.block_on(async {
            let origin = TlsOrigin::listen(config).await;
            let client = capture.tunnel(&origin).await;
            let (client, _refused) = tokio::join!(
                handshake(client.into_io(), Arc::clone(&trusting), "api.test"),
                origin.try_accept()
            );
            let mut client = client.unwrap();
            client.send("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
            (client.expect_error("502 Bad Gateway").await, origin.addr())
        });
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let told = format!("manent: upstream TLS handshake: the server's certificate was refused: {why}");
        assert!(body.starts_with(&told), "{body}");
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(
            lines[1..],
            [
                &*format!("origin: {addr}    issuer: CN=test origins CA    presented for: {name}"),
                "hint: --upstream-ca FILE trusts the issuer in FILE as well; --insecure checks no certificate"
            ]
        );
    }
    capture.stop();
}

#[test]
fn a_store_that_another_recorder_has() {
    let home = Home::new();
    let first = home.recorder();
    let told = home.refuses(&["-p", "0"], 4, "");
    let lines: Vec<&str> = told.lines().collect();
    let who = lines[0].strip_prefix("error[E401]: the store is in use by another recorder (");
    assert!(who.unwrap().ends_with(&format!("pid {})", std::process::id())), "{told}");
    assert!(lines[1].starts_with(&format!("  {}, since 20", home.store.display())), "{told}");
    assert_eq!(
        lines[2..],
        [
            "  hint: reading works at the same time: manent ls     second recording: manent -s other.db",
            "  hint: manent replay MIDS --into other.db   records the answers elsewhere"
        ]
    );
    home.runtime.block_on(first.close()).unwrap();
}

#[test]
fn a_store_of_a_newer_version() {
    let home = Home::with([flow("/", b"")]);
    let db = rusqlite::Connection::open(&home.store).unwrap();
    let known: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    db.pragma_update(None, "user_version", known + 2).unwrap();
    drop(db);
    for args in [&["ls"][..], &["-p", "0"]] {
        let told = home.refuses(args, 4, "");
        assert_eq!(
            told,
            format!(
                "error[E403]: {} was written by a newer manent
  Its schema is {}; this is {} and knows up to {known}.
  Nothing was changed.
  hint: cargo install manent     or record elsewhere: manent -s other.db\n",
                home.store.display(),
                known + 2,
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[test]
fn a_store_that_is_damaged() {
    let home = Home::with((0..50).map(|i| flow(&format!("/{i}"), b"x")));
    let mut db = std::fs::read(&home.store).unwrap();
    db[8192..].fill(0xa5);
    std::fs::write(&home.store, db).unwrap();
    let told = home.refuses(&["ls"], 4, "");
    let store = home.store.display();
    assert!(told.starts_with(&format!("error[E405]: {store} is damaged\n  ")), "{told}");
    assert!(
        told.ends_with(&format!("\n  hint: manent check -s {store}   tells by mid what is damaged\n")),
        "{told}"
    );
    // Which has more to say than that it should be asked.
    let told = home.refuses(&["check"], 4, "");
    assert!(told.starts_with(&format!("error[E405]: {store} is damaged\n  ")), "{told}");
    assert!(
        told.ends_with(&format!(
            "  It is the database itself, so that nothing can be told of single flows. Nothing was changed.
  hint: sqlite3 {store} .recover | sqlite3 recovered.db   saves the rows that can still be read\n"
        )),
        "{told}"
    );
}

#[test]
fn a_mid_that_is_not_there() {
    let home = Home::with([flow("/a", b""), flow("/b", b"")]);
    assert_eq!(
        home.refuses(&["show", "1200"], 3, ""),
        "error[E201]: no flow with mid 1200
  The store holds 1–2.
  hint: manent show last   shows the newest; manent ls   lists them\n"
    );
}

#[test]
fn a_filter_that_cannot_be_read() {
    let home = Home::with([flow("/a", b"")]);
    for (filter, told) in [
        (
            "~m POST & status:4x",
            "error[E003]: in the filter, `4x` is no status: write 404, 4xx or 400-499
    ~m POST & status:4x
                     ^^
  hint: manent filter   tells the language\n",
        ),
        (
            r#"~u "items/(?!42)""#,
            r#"error[E003]: in the filter, look-around and back-references are not supported: a search must take linear time, whatever the pattern
    ~u "items/(?!42)"
              ^^^
  hint: write it as two terms: ~u items/ & !~u items/42
"#,
        ),
    ] {
        let said = home.refuses(&["ls", filter], 2, "");
        assert!(said.starts_with(told), "{said}\n{told}");
    }
}

#[test]
fn a_replay_to_where_nobody_listens() {
    let home = Home::with([flow("/a", b"")]);
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = home.run(&["replay", "1", "--to", &format!("http://{nowhere}")]);
    assert_eq!(output.status.code(), Some(5));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let why = format!("failed: upstream connect: connection refused by {nowhere} (nothing listens there)\n");
    assert!(out.ends_with(&why), "{out}");
    assert_eq!(
        err,
        format!(
            "1 request sent, 1 failed
error[E501]: replay of 1 failed: connection refused by {nowhere} (nothing listens there)
  --to http://{nowhere} replaced the recorded origin http://origin.test
  answered: 0 of 1\n"
        )
    );
}

#[test]
fn a_file_that_is_no_archive() {
    let home = Home::new();
    let page = home.path("capture.har");
    std::fs::write(&page, "<!doctype html><title>Sign in</title>").unwrap();
    let name = page.display();
    assert_eq!(
        home.refuses(&["import", page.to_str().unwrap()], 7, ""),
        format!(
            "error[E701]: {name} is in no format that manent reads
  It looks like HTML or XML: the page of a login, perhaps.
  It reads: mitmproxy, har, jsonl, curl, httpie, raw, db.
  hint: --format NAME   says what it is\n"
        )
    );
    assert_eq!(
        home.refuses(&["import", "--format", "har", page.to_str().unwrap()], 7, ""),
        format!(
            "error[E706]: {name} cannot be read on: at byte 0: expected a value, found `<`
  No flow before that was imported.\n"
        )
    );
}

#[test]
fn a_command_that_there_is_not() {
    let home = Home::new();
    assert_eq!(
        home.refuses(&["exprot"], 2, ""),
        "error[E001]: `exprot` is not a command. Did you mean `export`?
  hint: manent --help   lists them\n"
    );
    assert_eq!(
        home.refuses(&["ca", "xyz"], 2, ""),
        "error[E001]: `xyz` is not a command
  hint: manent ca --help   lists them\n"
    );
}

#[test]
fn a_listener_that_everybody_reaches() {
    let home = Home::new();
    assert_eq!(
        home.refuses(&["-l", "0.0.0.0:8080"], 2, ""),
        "error[E102]: refusing to listen on 0.0.0.0:8080 without a password: anyone on the network could use your network identity
  hint: --proxy-auth me:secret     or --allow 192.168.0.0/16     or, on a trusted network: --open\n"
    );
}

#[test]
fn a_ca_whose_time_is_over() {
    let home = Home::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_after = date_time_ymd(2020, 10, 1);
    let path = home.path("old.pem");
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    std::fs::write(&path, pem).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        home.refuses(&["-p", "0", "--ca-cert", path.to_str().unwrap()], 6, ""),
        format!(
            "error[E601]: the CA in {} expired on 2020-10-01; clients will refuse everything
  hint: --ca-cert FILE   takes another one; without it: manent ca rotate && manent ca install\n",
            path.display()
        )
    );
    std::fs::create_dir(home.path("ca")).unwrap();
    let (cert, of_key) = (home.path("ca/manent-ca.pem"), home.path("ca/manent-ca.key"));
    std::fs::rename(&path, &cert).unwrap();
    std::fs::write(&of_key, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&of_key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        home.refuses(&["-p", "0"], 6, ""),
        format!(
            "error[E601]: the CA in {} expired on 2020-10-01; clients will refuse everything
  hint: manent ca rotate && manent ca install\n",
            cert.display()
        )
    );
}
