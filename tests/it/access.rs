//! Who may use the proxy: credentials (RFC 9110 §11.7, §15.5.8; RFC 7617; wire case CN-12; pitfalls 3, 116), and requests to
//! our own listeners (CN-28, pitfall 112, `prod.api-via-proxy`).

use manent::flow::{Kind, Side, Stage, State};

use crate::harness::h2::{END_STREAM, H2};
use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, ending, fill, handshake};

/// `user:canary`
const RIGHT: &str = "Proxy-Authorization: Basic dXNlcjpjYW5hcnk=\r\n";
/// `user:other`
const WRONG: &str = "Proxy-Authorization: Basic dXNlcjpvdGhlcg==\r\n";

async fn asking() -> Setup {
    Setup::with(|config| config.access.auth = Some("user:canary".parse().unwrap())).await
}

/// Reads a 407 to its end, and fails unless it says how to answer it, and that the connection stays.
async fn expect_challenge(client: &mut Peer) {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"), "{head}");
    assert!(head.contains("\r\nProxy-Authenticate: Basic realm=\"manent\", charset=\"UTF-8\"\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("\r\nconnection: close"), "{head}");
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
    client.read(length.parse().unwrap()).await;
}

/// CN-12, pitfall 116: asked on a kept connection, which then serves; nothing is dialled before, and neither origin nor
/// record see the credentials.
#[tokio::test]
async fn client_is_asked_and_served_on_the_same_connection() {
    let (mut setup, origin) = (asking().await, Origin::listen().await);
    let mut client = setup.client().await;
    for fields in ["", WRONG, "Proxy-Authorization: Digest x\r\n", &format!("{RIGHT}{RIGHT}")] {
        client
            .send(origin.fill(format!("GET http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\n{fields}\r\n")))
            .await;
        expect_challenge(&mut client).await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Client, Stage::RequestHead))));
        assert_eq!(flow.response.as_ref().unwrap().status, 407);
        assert_eq!(flow.target.port, origin.addr().port());
        let told = format!("{flow:?}");
        assert!(!told.contains("dXNl") && !told.contains("canary"), "{told}");
    }
    origin.expect_nobody();
    client.send(origin.fill(format!("GET http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\n{RIGHT}\r\n"))).await;
    let mut server = origin.accept().await;
    assert!(!server.head().await.contains("uthorization"));
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    assert_eq!(flow.request.as_ref().unwrap().headers.get("proxy-authorization"), Some(&b"(redacted)"[..]));
    // Each request says it anew.
    client.send(origin.fill(GET)).await;
    expect_challenge(&mut client).await;
    assert_eq!(setup.flow().await.state, State::Refused);
}

/// The answer to HEAD has no body; after a request with one the connection ends, since what follows is not known to be a
/// request.
#[tokio::test]
async fn challenge_keeps_to_the_framing() {
    let (mut setup, origin) = (asking().await, Origin::listen().await);
    let mut client = setup.client().await;
    client.send(origin.fill("HEAD http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 407 "));
    client
        .send(origin.fill("POST http://{addr}/ HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 3\r\n\r\nabc"))
        .await;
    let answer = client.expect_error("407").await;
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    let mut old = setup.client().await;
    old.send(origin.fill("GET http://{addr}/ HTTP/1.0\r\n\r\n")).await;
    old.expect_error("407").await;
    for _ in 0..3 {
        assert_eq!(setup.flow().await.state, State::Refused);
    }
    origin.expect_nobody();
}

/// CN-12: a `CONNECT` is asked, too, before anything is looked up; what comes inside the tunnel is not.
#[tokio::test]
async fn connect_is_asked_and_its_tunnel_is_not() {
    let ca = TestCa::new();
    let mut setup = Setup::with(|config| {
        ca.trusted_by(config);
        config.access.auth = Some("user:canary".parse().unwrap());
    })
    .await;
    let origin = TlsOrigin::listen(ca.server_config(&["origin.test"], &["http/1.1"])).await;
    let mut client = setup.client().await;
    for fields in ["", WRONG] {
        client
            .send(format!("CONNECT nobody.invalid:443 HTTP/1.1\r\nHost: nobody.invalid:443\r\n{fields}\r\n"))
            .await;
        expect_challenge(&mut client).await;
        let flow = setup.flow().await;
        assert_eq!((flow.kind, flow.state), (Kind::Connect, State::Refused));
        assert!(flow.server.is_none() && !format!("{flow:?}").contains("dXNl"));
    }
    let authority = origin.addr().to_string();
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{RIGHT}\r\n")).await;
    client.expect("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let (client, mut server) =
        tokio::join!(setup.tls_over(client, "origin.test", &["http/1.1"]), origin.accept());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.expect("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state), (Kind::Http, State::Complete));
    assert!(!format!("{flow:?}").contains("dXNl"));
}

/// The same in HTTP/2, by prior knowledge on the proxy's own port, and in TLS with the proxy.
#[tokio::test]
async fn clients_of_http2_and_of_tls_are_asked() {
    let (mut setup, origin) = (asking().await, Origin::listen().await);
    let mut client: H2 = setup.h2_clear(&origin).await;
    client.get(1, "/").await;
    let head = client.expect_status(1, "407").await;
    assert_eq!(head.get("proxy-authenticate"), "Basic realm=\"manent\", charset=\"UTF-8\"");
    assert_eq!(setup.flow().await.state, State::Refused);
    client.ask(3, END_STREAM, ("GET", "/"), &[("proxy-authorization", "Basic dXNlcjpjYW5hcnk=")]).await;
    let mut server = origin.accept().await;
    assert!(!server.head().await.contains("uthorization"));
    server.send(OK).await;
    client.expect_ok(3).await;
    assert_eq!(setup.flow().await.state, State::Complete);

    let config = setup.client_config(&["http/1.1"]).into();
    let mut client = handshake(setup.client().await.into_io(), config, "proxy.test").await.unwrap();
    client.send(origin.fill(GET)).await;
    expect_challenge(&mut client).await;
    assert_eq!(setup.flow().await.state, State::Refused);
}

/// A file of htpasswd does as well; a bcrypt password is computed once.
#[tokio::test]
async fn users_of_a_file_are_let_in() {
    let hash = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
    let users = manent::proxy::ProxyAuth::from_htpasswd(&format!("anna:{hash}\n")).unwrap();
    let mut setup = Setup::with(|config| config.access.auth = Some(users)).await;
    let origin = Origin::listen().await;
    // `anna:password`
    let auth = "Proxy-Authorization: Basic YW5uYTpwYXNzd29yZA==\r\n";
    let request = format!("GET http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\n{auth}\r\n");
    let (mut client, mut server) = setup.asked(&origin, request).await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.state, State::Complete);
}

/// A client that `--allow` does not name gets not a byte; this machine is always let in.
#[tokio::test]
async fn this_machine_is_let_in_whatever_is_allowed() {
    let mut setup = Setup::with(|config| config.access.allow = vec!["192.0.2.0/24".parse().unwrap()]).await;
    setup.expect_alive().await;
}

/// CN-28, `prod.api-via-proxy`: listeners on every address, of either family, are recognised by whichever address leads to
/// them, in every mode; the port on another address is somebody else's.
#[tokio::test]
async fn own_listeners_are_refused_by_address() {
    let mut setup = Setup::with(|config| {
        config.access.open = true;
        config.listen =
            ["0.0.0.0:0", "[::]:0", "127.0.0.2:0", "socks5@[::1]:0"].map(|text| text.parse().unwrap()).into();
    })
    .await;
    let [every_v4, every, second, socks] = setup.proxy.addrs()[..] else { panic!("four listeners") };
    let front = std::net::SocketAddr::from(([127, 0, 0, 1], every_v4.port()));
    for (host, port) in [
        ("127.0.0.1", every_v4.port()),
        ("127.9.9.9", every_v4.port()),
        ("0.0.0.0", every_v4.port()),
        ("localhost", every_v4.port()),
        ("LOCALHOST", every_v4.port()),
        ("127.1", every_v4.port()),
        ("[::ffff:127.0.0.1]", every_v4.port()),
        ("127.0.0.1", every.port()),
        ("[::1]", every.port()),
        ("[::]", every.port()),
        ("127.0.0.2", second.port()),
        ("[::ffff:127.0.0.2]", second.port()),
        ("[::1]", socks.port()),
    ] {
        for request in [
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let mut client = Peer::connect(front).await;
            client.send(request).await;
            let answer = client.expect_error("400").await;
            assert!(answer.contains("is this proxy itself"), "{host}:{port}: {answer}");
            assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Proxy, Stage::Target))));
        }
    }
    // Nothing of ours is there.
    let mut client = Peer::connect(front).await;
    client.send(fill(GET.as_bytes(), std::net::SocketAddr::from(([127, 0, 0, 3], second.port())))).await;
    client.expect_error("502").await;
}

/// What is refused at the start is told with what to do, and no secret is quoted.
#[test]
fn refusals_at_the_start_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    for (args, told) in [
        (
            &["-l", "0.0.0.0:0"][..],
            &[
                "refusing to listen on 0.0.0.0:0 without a password: anyone on the network could use your network identity",
                "--proxy-auth me:secret     or --allow 192.168.0.0/16     or, on a trusted network: --open",
            ][..],
        ),
        (
            &["-l", "0.0.0.0:0", "--reverse", "http://a.test", "--proxy-auth", "me:canary"],
            &["where clients cannot be asked for a password", "hint: --allow 192.168.0.0/16"],
        ),
        (&["--proxy-auth", "canary"], &["--proxy-auth: user:pass was expected, or @FILE"]),
        (&["--via", "ftp://u:canary@h"], &["--via: it must begin with http://, https:// or socks5://"]),
        (&["-l", "nosuch@0"], &["is no mode: explicit, socks5, transparent or reverse:URL was expected"]),
        (
            &["run", "--reverse", "http://a.test", "--", "true"],
            &["`run` needs a listener for programs that know a proxy"],
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_manent"))
            .args(args)
            .env_clear()
            .env("HOME", home.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(told.iter().all(|told| said.contains(told)) && !said.contains("canary"), "{args:?}: {said}");
    }
}
