//! Rules of the command line: what they do to traffic, what the record and `show` say of it, and how a bad one is told.

use manent::flow::{BodyEnd, Flow, Mid, Side, Stage, State};
use manent::rules::RuleKind;
use manent::store::{ListQuery, Reader};
use serde_json::Value;

use crate::cli::{Home, parse, text};
use crate::harness::h2::{END_STREAM, H2, MORE};
use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, ending, expect_cut, rules, soon};
use crate::websocket::start_binary;

fn get(path: &str) -> String {
    format!("GET http://{{addr}}{path} HTTP/1.1\r\nHost: {{addr}}\r\nCookie: a=b\r\n\r\n")
}

/// A capture with these flags; what `with` does with a way to reach it; and what `show --json` says of each flow then.
async fn captured(flags: &[&str], with: impl AsyncFnOnce(std::net::SocketAddr)) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let (mut proxy, addr) = start_binary(dir.path(), flags).await;
    with(addr.parse().unwrap()).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(proxy.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(soon("the end of the capture", proxy.wait()).await.unwrap().success());
    let mut show = tokio::process::Command::new(env!("CARGO_BIN_EXE_manent"));
    show.args(["show", "--json", "1-", "-s"]).arg(dir.path().join("flows.db"));
    let output = soon("the flows", show.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| parse(line.as_bytes())).collect()
}

const FLAGS: &[&str] = &[
    "--block",
    "~u /ads",
    "--block",
    "|~u /teapot|418",
    "--block",
    "|~u /cut|kill",
    "--delay",
    "|~u /slow|300ms",
    "--set-header",
    "X-Rule: one two",
    "--remove-header",
    "|~u /bare|cookie",
];

/// Each rule on requests over HTTP/1, by the binary: what the origin saw and what was blocked is what is recorded.
#[tokio::test]
async fn each_rule_acts_over_http1() {
    let origin = Origin::listen().await;
    let shown = captured(FLAGS, async |addr| {
        let mut client = Peer::connect(addr).await;
        for (path, status) in [("/ads", "403 Forbidden"), ("/teapot", "418 I'm a teapot")] {
            client.send(origin.fill(get(path))).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            let length =
                head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
            client.read(length.parse().unwrap()).await;
        }
        origin.expect_nobody();
        // On the same connection.
        client.send(origin.fill(get("/slow"))).await;
        let mut server = origin.accept().await;
        assert!(server.head().await.ends_with("\r\nCookie: a=b\r\nX-Rule: one two\r\n\r\n"));
        server.send(OK).await;
        client.expect(OK).await;
        client.send(origin.fill(get("/bare"))).await;
        let head = server.head().await;
        assert!(head.contains("\r\nX-Rule: one two\r\n") && !head.contains("Cookie"), "{head}");
        server.send(OK).await;
        client.expect(OK).await;
        let mut other = Peer::connect(addr).await;
        other.send(origin.fill(get("/cut"))).await;
        expect_cut(&mut other).await;
    })
    .await;
    expect_recorded(&shown);
    assert_eq!(shown[2]["request"]["headers"].as_array().unwrap().len(), 2);
    assert_eq!(shown[2]["request"]["changed"][2]["name"], "X-Rule");
}

/// The same over HTTP/2.
#[tokio::test]
async fn each_rule_acts_over_http2() {
    let origin = Origin::listen().await;
    let shown = captured(FLAGS, async |addr| {
        let mut client = H2::client(Peer::connect(addr).await).await;
        client.origin = ("http", origin.addr().to_string());
        let cookie = [("cookie", "a=b")];
        for (stream, path, status) in [(1, "/ads", "403"), (3, "/teapot", "418")] {
            client.ask(stream, END_STREAM, ("GET", path), &cookie).await;
            client.expect_status(stream, status).await;
            client.rest_of(stream).await;
        }
        origin.expect_nobody();
        client.ask(5, END_STREAM, ("GET", "/slow"), &cookie).await;
        let mut server = origin.accept().await;
        let head = server.head().await;
        assert!(head.contains("\r\nx-rule: one two\r\n") && head.contains("\r\ncookie: a=b\r\n"), "{head}");
        server.send(OK).await;
        client.expect_ok(5).await;
        client.ask(7, END_STREAM, ("GET", "/bare"), &cookie).await;
        assert!(!server.head().await.contains("cookie"));
        server.send(OK).await;
        client.expect_ok(7).await;
        client.ask(9, MORE, ("POST", "/cut"), &cookie).await;
        client.expect_rst(9, &[crate::harness::h2::code::INTERNAL_ERROR]).await;
    })
    .await;
    expect_recorded(&shown);
    assert_eq!(shown[2]["request"]["changed"][1]["name"], "x-rule");
}

/// What both leave behind.
fn expect_recorded(shown: &[Value]) {
    let rules = |flow: &Value| -> Vec<String> {
        let rules = flow["rules"].as_array().unwrap().iter();
        rules.map(|applied| applied["rule"].as_str().unwrap().to_owned()).collect()
    };
    let told: Vec<_> = shown.iter().map(|flow| (flow["state"].as_str().unwrap(), rules(flow))).collect();
    let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let expected = [
        ("refused", strings(&["block ~u /ads"])),
        ("refused", strings(&["block |~u /teapot|418"])),
        ("complete", strings(&["delay |~u /slow|300ms", "set-header X-Rule"])),
        ("complete", strings(&["remove-header |~u /bare|cookie", "set-header X-Rule"])),
        ("refused", strings(&["block |~u /cut|kill"])),
    ];
    assert_eq!(told, expected);
    for (flow, status) in [(&shown[0], 403), (&shown[1], 418)] {
        assert_eq!(
            (&flow["response"]["status"], &flow["response"]["by_proxy"]),
            (&status.into(), &true.into())
        );
        assert_eq!(flow["error"]["side"], "proxy");
        assert!(flow["error"]["message"].as_str().unwrap().starts_with("by the rule: block "));
        assert!(flow["server"].is_null());
    }
    assert!(shown[4]["response"].is_null());
    assert!(shown[2]["timing"]["send_start_us"].as_u64().unwrap() >= 300_000);
    assert!(shown[0]["request"]["changed"].is_null());
}

/// A person sees what was done, and no value that a rule has set beside its field.
#[test]
fn show_tells_what_rules_did() {
    let home = Home::new();
    let recorder = home.recorder();
    let mut flow = crate::cli::flow("/a", b"ok");
    flow.rules = vec![manent::flow::Applied { rule: "set-header X\u{7}".into(), at_us: 5, times: 2 }];
    flow.request.as_mut().unwrap().changed =
        Some(Box::new([("Host", "origin.test"), ("X", "secret")].into_iter().collect()));
    home.runtime.block_on(async {
        recorder.admit().await.finish(&flow);
        recorder.close().await.unwrap();
    });
    let told = text(&home.run(&["show", "1"]).stdout);
    assert!(told.contains("\n  rule    set-header X\\x07 (2 times)\n"), "{told}");
    assert!(
        told.contains("\n(sent on with these fields, changed by rules)\nHost: origin.test\nX: secret\n"),
        "{told}"
    );
    // What is exported for others to see has no secret in it.
    flow.request.as_mut().unwrap().changed =
        Some(Box::new([("Authorization", "Bearer secret")].into_iter().collect()));
    home.fill("flows.db", [flow]);
    let masked = text(&home.run(&["export", "2", "--format", "har"]).stdout);
    assert!(masked.contains("\"changed\"") && !masked.contains("Bearer secret"), "{masked}");
}

#[test]
fn bad_rules_are_told_with_their_place() {
    let home = Home::new();
    let told = home.refuses(
        &["--block", "hots:ads.test"],
        2,
        "error[E003]: in the filter of --block, there is no field `hots`",
    );
    assert!(told.contains("    hots:ads.test\n    ^^^^"), "{told}");
    let told =
        home.refuses(&["run", "--block", "/ads", "--", "true"], 2, "error[E005]: --block: its form is");
    assert!(told.contains("hint: the first sign separates the parts"), "{told}");
    home.refuses(&["--delay", "/~s/1s"], 2, "cannot depend on `~s`: there is no response yet");
    home.refuses(&["--delay", "soon"], 2, "no duration");
    home.refuses(&["--set-header", "Host: a.test"], 2, "Host names the origin");
    for rule in ["Authorization=Bearer s3cret", "X Key: s3cret", "Connection: s3cret"] {
        let told = home.refuses(&["--set-header", rule], 2, "error[E005]: --set-header: ");
        assert!(!told.contains("s3cret"), "{told}");
    }
    home.refuses(&["--ws-replace", "//any/(/x"], 2, "unclosed group");
    home.refuses(&["--ws-inject", "/client/hello"], 2, "its form is /FILTER/client|server/REGEX/TEXT");
    assert!(!home.store.exists());
}

/// A field that the client calls one of its connection is taken away before a request is sent on: so it could take away what a
/// rule had set, and the record said that it went.
#[tokio::test]
async fn a_client_cannot_cancel_a_field_that_is_set() {
    let mut setup = Setup::ruled(&[(RuleKind::SetHeader, "X-Env: test")]).await;
    let origin = Origin::listen().await;
    let request = "GET http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nConnection: X-Env, close\r\n\r\n";
    let (mut client, mut server) = setup.begin(&origin, request).await;
    let head = server.head().await;
    assert!(head.contains("\r\nX-Env: test\r\n"), "{head}");
    server.send(OK).await;
    // The other word still counts.
    client.drain().await;
    let changed = setup.flow().await.request.unwrap().changed.unwrap();
    assert_eq!(changed.get("connection"), Some(&b"close"[..]));
    assert_eq!(changed.get("x-env"), Some(&b"test"[..]));
}

/// A request that is held and whose client breaks off is not sent; with a body too.
#[tokio::test]
async fn a_held_request_whose_client_is_gone_is_never_sent() {
    let mut setup = Setup::ruled(&[(RuleKind::Delay, "1h")]).await;
    let origin = Origin::listen().await;
    for request in
        [get("/"), "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 9\r\n\r\nabc".into()]
    {
        let mut client = setup.client().await;
        client.send(origin.fill(request)).await;
        // It is written as open while it is held.
        assert_eq!(setup.open_flow().await.rules.len(), 1);
        client.reset();
        let flow = setup.flow().await;
        assert_eq!((flow.state, flow.error.unwrap().side), (State::ClientAborted, Side::Client));
        assert!(flow.server.is_none());
    }
    origin.expect_nobody();
}

/// A body that came while the request was held is sent whole.
#[tokio::test]
async fn a_held_request_goes_on_with_its_body() {
    let mut setup = Setup::ruled(&[(RuleKind::Delay, "50ms"), (RuleKind::SetHeader, "X: y")]).await;
    let origin = Origin::listen().await;
    let post = "POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 6\r\n\r\nabc";
    let (mut client, mut server) = setup.begin(&origin, post).await;
    assert!(server.head().await.ends_with("\r\nContent-Length: 6\r\nX: y\r\n\r\n"));
    server.expect("abc").await;
    client.send("def").await;
    server.expect("def").await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    assert_eq!(flow.request.unwrap().body.as_inline().unwrap(), "abcdef");
}

/// A body that is not read ends the connection of a blocked request: what follows is not known to be another one.
#[tokio::test]
async fn a_blocked_request_with_a_body_ends_its_connection() {
    let mut setup = Setup::ruled(&[(RuleKind::Block, "//204")]).await;
    let origin = Origin::listen().await;
    let mut client = setup.client().await;
    client.send(origin.fill(GET)).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && !head.contains("\r\nContent-"), "{head}");
    client
        .send(origin.fill("POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 2\r\n\r\nGE"))
        .await;
    client.expect_error("204").await;
    origin.expect_nobody();
    for _ in 0..2 {
        assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Proxy, Stage::RequestHead))));
    }
    setup.expect_flows(2).await;
}

/// A tunnel that is left unread is a way around rules, and is cut; others pass.
#[tokio::test]
async fn a_blocked_host_has_no_tunnel() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.passthrough.ignore = vec![".".parse().unwrap()];
        config.rules = rules(&[(RuleKind::Block, "host:localhost")]);
    })
    .await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &[])).await;
    let mut client = setup.tunnel(&format!("localhost:{}", origin.addr().port())).await;
    client.send(crate::harness::hello("origin.test", 0)).await;
    client.expect_break().await;
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Proxy, Stage::Tunnel))));
    let tunnel = flow.tunnel.unwrap();
    assert_eq!((flow.rules.len(), tunnel.from_client.len), (1, 0));
    assert_eq!((tunnel.from_client.end, tunnel.from_server.end), (BodyEnd::CutOff, BodyEnd::CutOff));
    let passing = setup.tunnel(&origin.addr().to_string()).await;
    let (client, _server) = tokio::join!(
        crate::harness::handshake(passing.into_io(), ca.client_config().into(), "origin.test"),
        async {
            loop {
                if let Ok(server) = origin.try_accept().await {
                    return server;
                }
            }
        }
    );
    client.unwrap();
}

/// A host of which everything is blocked is not even dialled for its certificate; nor is its name looked up, which would fail.
#[tokio::test]
async fn a_host_that_is_blocked_whole_is_not_dialled() {
    let mut setup =
        Setup::ruled(&[(RuleKind::Block, "host:blocked.test"), (RuleKind::Block, "|port:7|kill")]).await;
    for alpn in [&[][..], &["http/1.1"]] {
        let mut client = setup.tls_client("blocked.test:443", "blocked.test", alpn).await.unwrap();
        client.send("GET / HTTP/1.1\r\nHost: blocked.test\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Proxy, Stage::RequestHead))));
        assert!(flow.server.is_none() && flow.rules.len() == 1);
    }
    let peer = setup.tls_client("blocked.test:443", "blocked.test", &["h2"]).await.unwrap();
    let mut client = H2::client(peer).await;
    client.origin = ("https", "blocked.test".into());
    client.get(1, "/").await;
    client.expect_status(1, "403").await;
    assert!(setup.flow().await.server.is_none());
    // One that is killed is cut inside of its TLS.
    let mut client = setup.tls_client("any.test:7", "any.test", &[]).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: any.test\r\n\r\n").await;
    client.expect_break().await;
    assert!(setup.flow().await.server.is_none());
}

/// What a filter asks besides is known when a request has come, and another name in TLS is another host: these are reached.
#[tokio::test]
async fn a_host_that_may_not_be_blocked_is_reached() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.rules =
            rules(&[(RuleKind::Block, "host:localhost"), (RuleKind::Block, "host:origin.test ~u /ads")]);
    })
    .await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &[])).await;
    let authority = format!("localhost:{}", origin.addr().port());
    let mut client = setup.tls_client(&authority, "origin.test", &[]).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.state, State::Complete);
    // The handshake of the other one cannot end without the origin's.
    let (mut client, _server) = setup.https(&origin, "origin.test").await;
    client.send("GET /ads HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    assert_eq!(setup.flow().await.state, State::Refused);
}

/// What was sent on is what is sent again.
#[tokio::test]
async fn a_replay_sends_the_changed_fields() {
    let mut setup =
        Setup::ruled(&[(RuleKind::SetHeader, "X-Rule: y"), (RuleKind::RemoveHeader, "cookie")]).await;
    let origin = Origin::listen().await;
    let (mut client, mut server) = setup.begin(&origin, get("/")).await;
    let sent = server.head().await;
    assert!(sent.contains("X-Rule: y") && !sent.contains("Cookie"), "{sent}");
    server.send(OK).await;
    client.expect(OK).await;
    drop((client, server));
    let flow: Flow = setup.flow().await;
    assert_eq!(flow.request.as_ref().unwrap().headers.get("cookie"), Some(&b"a=b"[..]));
    let (dir, config, _) = setup.stop().await;
    let (store, kept) = (config.store.clone(), std::sync::Arc::clone(&dir));
    let replayed = tokio::task::spawn_blocking(move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_manent"))
            .args(["replay", "1", "-q", "-s"])
            .arg(&store)
            .arg("--ca-dir")
            .arg(dir.path().join("ca"))
            .output()
    });
    let mut server = origin.accept().await;
    assert_eq!(server.head().await, sent);
    server.send(OK).await;
    assert!(soon("the replay", replayed).await.unwrap().unwrap().status.success());
    let rows = Reader::open(&config.store).unwrap().list(&ListQuery::default()).unwrap();
    assert_eq!(rows.iter().map(|row| row.mid).max(), Some(Mid(2)));
    drop(kept);
}
