//! The setup page: where it is, who sees it, and that asking for it leaves no trace.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use manent::flow::{Kind, Side, Stage, State};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;

use crate::cli::Home;
use crate::harness::h2::{Event, H2};
use crate::harness::{GET, OK, Origin, Peer, Setup, TestCa, TlsOrigin, ending, handshake};

/// Sends a request, and gives head and body of the answer, which says its length.
async fn ask(client: &mut Peer, request: &str) -> (String, Vec<u8>) {
    client.send(request).await;
    let head = client.head().await;
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let body = match request.starts_with("HEAD ") {
        true => Vec::new(),
        false => client.read(length.unwrap().parse().unwrap()).await,
    };
    (head, body)
}

/// A request as a proxy gets it for the page's name.
fn named(path: &str) -> String {
    format!("GET http://manent{path} HTTP/1.1\r\nHost: manent\r\n\r\n")
}

/// A request as a web server at the proxy's address gets it.
fn opened(setup: &Setup, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", setup.proxy.addr())
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap()
}

/// Every answer, whatever it is.
fn expect_strict(head: &str) {
    for field in [
        "X-Content-Type-Options: nosniff\r\n",
        "Cache-Control: no-store\r\n",
        "Referrer-Policy: no-referrer\r\n",
        "Content-Security-Policy: default-src 'none'; ",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    assert!(!head.contains("unsafe-inline") || head.contains("image/svg+xml"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
}

/// By its name through the proxy, and at the proxy's own address; on one connection, which can carry other requests, too.
/// Nothing of it is recorded, and no mid is used for it.
#[tokio::test]
async fn the_page_is_shown_to_who_asks_for_the_proxy_itself() {
    let mut setup = Setup::start().await;
    let mut client = setup.client().await;
    let addr = setup.proxy.addr();
    for (request, way) in [
        (named("/"), "came through it"),
        ("GET http://MANENT:80 HTTP/1.1\r\nHost: manent\r\n\r\n".into(), "came through it"),
        ("GET http://manent./ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), "came through it"),
        (opened(&setup, "/"), "opened directly"),
        (format!("GET /?x=1 HTTP/1.1\r\nHost: LocalHost:{}\r\n\r\n", addr.port()), "opened directly"),
        ("GET / HTTP/1.1\r\nHost: manent\r\n\r\n".into(), "came through it"),
    ] {
        let (head, body) = ask(&mut client, &request).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/html"), "{request}{head}");
        expect_strict(&head);
        let page = text(body);
        assert!(page.contains(way) && page.contains("<h1>") && !page.contains("<script"), "{request}{page}");
        assert!(page.contains(&format!("port <code>{}</code>", addr.port())), "{page}");
    }
    let origin = Origin::listen().await;
    client.send(origin.fill(GET)).await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.ended().await, manent::flow::Mid(1));
    setup.expect_flows(1).await;
}

#[tokio::test]
async fn what_the_page_links_to_is_there() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    let ca = setup.proxy.ca();
    let cert = ca.certificate().unwrap();
    let (pem, profile) = (ca.cert_pem().into_bytes(), cert.mobileconfig().into_bytes());
    for (path, kind, content) in [
        ("/manent-ca.pem", "application/x-pem-file", Some(&pem[..])),
        ("/manent-ca.crt", "application/x-x509-ca-cert", Some(ca.cert_der())),
        ("/manent-ca.mobileconfig", "application/x-apple-aspen-config", Some(&profile)),
        ("/manent-ca.p12", "application/x-pkcs12", None),
        ("/style.css", "text/css; charset=utf-8", None),
        ("/trusted.svg", "image/svg+xml", None),
        ("/proxy.pac", "application/x-ns-proxy-autoconfig", None),
    ] {
        for request in [named(path), opened(&setup, path)] {
            let (head, body) = ask(&mut client, &request).await;
            assert!(head.contains(&format!("\r\nContent-Type: {kind}\r\n")), "{request}{head}");
            expect_strict(&head);
            assert!(!body.is_empty() && content.is_none_or(|content| body == content), "{request}");
            let (without, _) = ask(&mut client, &request.replacen("GET", "HEAD", 1)).await;
            assert_eq!(without, head);
        }
    }
    for (request, status) in [
        (named("/nothing"), "404 Not Found"),
        (named("/manent-ca.key"), "404 Not Found"),
        (named("/../manent-ca.key"), "404 Not Found"),
        (opened(&setup, "/favicon.ico"), "404 Not Found"),
        (named("/").replacen("GET", "OPTIONS", 1), "405 Method Not Allowed"),
        (opened(&setup, "/").replacen("GET", "DELETE", 1), "405 Method Not Allowed"),
    ] {
        let (head, _) = ask(&mut client, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}{head}");
        assert_eq!(status.starts_with("405"), head.contains("\r\nAllow: GET, HEAD\r\n"));
        expect_strict(&head);
    }
    // What follows a body that was not read is not known to be a request.
    client.send("POST http://manent/ HTTP/1.1\r\nHost: manent\r\nContent-Length: 3\r\n\r\nabc").await;
    let answer = client.expect_error("405").await;
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    setup.expect_flows(0).await;
}

/// The address in it is the one that the client came to; this machine itself is left out.
#[tokio::test]
async fn the_pac_file_leads_to_where_the_client_came() {
    let setup = Setup::start().await;
    let mut client = setup.client().await;
    let addr = setup.proxy.addr();
    let localhost = format!("GET /proxy.pac HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", addr.port());
    for (request, authority) in [
        (named("/proxy.pac"), addr.to_string()),
        (opened(&setup, "/proxy.pac?x"), addr.to_string()),
        (localhost, format!("localhost:{}", addr.port())),
    ] {
        let pac = text(ask(&mut client, &request).await.1);
        assert!(pac.contains(&format!("return \"PROXY {authority}\";")), "{pac}");
        assert!(pac.contains("function FindProxyForURL(url, host)") && pac.contains("return \"DIRECT\""));
    }
}

/// A `Host` with markup in it is refused, or overruled by the target: nothing of it comes back.
#[tokio::test]
async fn a_hostile_host_is_not_repeated() {
    const EVIL: &str = "x\"><script>alert(1)</script>";
    let setup = Setup::start().await;
    for path in ["/", "/proxy.pac", "/nothing<script>"] {
        for line in [format!("GET {path}"), format!("GET http://manent{path}")] {
            let mut client = setup.client().await;
            client
                .send(format!(
                    "{line} HTTP/1.1\r\nHost: {EVIL}\r\nUser-Agent: {EVIL}\r\nConnection: close\r\n\r\n"
                ))
                .await;
            let answer = String::from_utf8(client.rest().await.0).unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
            assert!(!answer.contains("alert(1)") && !answer.contains("<script"), "{line}: {answer}");
        }
    }
}

/// `prod.api-dns-rebinding`: only an address or `localhost` opens it; a name that leads here is refused as ever, and so is an
/// address that is asked for through the proxy. The refusal says where the page is.
#[tokio::test]
async fn names_that_lead_here_do_not_open_it() {
    let mut setup = Setup::start().await;
    let port = setup.proxy.addr().port();
    for request in [
        format!("GET / HTTP/1.1\r\nHost: 127.1:{port}\r\n\r\n"),
        format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
        format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
    ] {
        let mut client = setup.client().await;
        client.send(request).await;
        let answer = client.expect_error("400").await;
        assert!(answer.contains("is this proxy itself") && answer.contains("http://manent/"), "{answer}");
        assert_eq!(ending(&setup.flow().await), (State::Refused, Some((Side::Proxy, Stage::Target))));
    }
}

/// Switched off, or under another name, it takes nothing that is somebody's.
#[tokio::test]
async fn off_it_is_nowhere() {
    let mut setup = Setup::with(|config| {
        config.setup_host = None;
        config.timeouts.connect = Duration::from_secs(3);
    })
    .await;
    for (request, status) in [(named("/"), "50"), (opened(&setup, "/"), "400")] {
        let mut client = setup.client().await;
        client.send(request).await;
        let answer = client.expect_error(status).await;
        assert!(!answer.contains("http://manent/"), "{answer}");
        assert!(setup.flow().await.error.is_some());
    }
    let setup = Setup::with(|config| config.setup_host = Some("help.test".into())).await;
    let mut client = setup.client().await;
    let (_, page) = ask(&mut client, "GET http://help.test/ HTTP/1.1\r\nHost: help.test\r\n\r\n").await;
    assert!(text(page).contains("https://help.test/trusted.svg"));
}

/// Another port than the scheme's is another service's, and what a reverse proxy is asked for is its origin's.
#[tokio::test]
async fn other_ports_and_origins_keep_the_name() {
    let origin = Origin::listen().await;
    let target = origin.addr();
    let mut setup = Setup::with(|config| {
        config.listen = vec![format!("reverse:http://{target}@0").parse().unwrap()];
        config.timeouts.connect = Duration::from_secs(3);
    })
    .await;
    let mut client = setup.client().await;
    client.send("GET / HTTP/1.1\r\nHost: manent\r\n\r\n").await;
    let mut server = origin.accept().await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    assert_eq!(setup.flow().await.state, State::Complete);

    let mut setup = Setup::with(|config| config.timeouts.connect = Duration::from_secs(3)).await;
    for scheme in
        ["http://manent:81", "http://manent:443", "https://manent:80", "http://manent.test", "http://xmanent"]
    {
        let mut client = setup.client().await;
        client.send(format!("GET {scheme}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.expect_error("50").await;
        assert_eq!(setup.flow().await.kind, Kind::Http);
    }
}

/// What shows that the certificate is trusted comes in TLS, which fails where it is not: over HTTP/1 and HTTP/2 in a tunnel,
/// and at the proxy's own port. Nobody is dialled, whatever is to be passed through.
#[tokio::test]
async fn who_trusts_the_certificate_is_shown_so() {
    let setup = Setup::with(|config| {
        config.passthrough.ignore = vec!["manent".parse().unwrap()];
        config.passthrough.allow = vec!["nobody".parse().unwrap()];
    })
    .await;
    let request = "GET /trusted.svg HTTP/1.1\r\nHost: manent\r\n\r\n";
    let mut client = setup.tls_client("manent:443", "manent", &["http/1.1"]).await.unwrap();
    let (head, svg) = ask(&mut client, request).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && text(svg).starts_with("<svg "), "{head}");

    let peer = setup.tls_client("manent:443", "manent", &["h2"]).await.unwrap();
    let mut client = H2::client(peer).await;
    client.origin = ("https", "manent".into());
    client.get(1, "/trusted.svg").await;
    let head = client.expect_status(1, "200").await;
    assert_eq!(head.get("content-type"), "image/svg+xml");
    assert!(client.rest_of(1).await.0.starts_with(b"<svg "));
    client.ask(3, crate::harness::h2::END_STREAM, ("HEAD", "/nothing"), &[]).await;
    let Event::Head(head) = client.on(3).await else { panic!("no head") };
    assert_eq!((head.status(), head.end), ("404", true));

    let config = setup.client_config(&["h2", "http/1.1"]).into();
    let addr = setup.proxy.addr();
    let mut client = handshake(setup.client().await.into_io(), config, "127.0.0.1").await.unwrap();
    let (head, _) = ask(&mut client, &opened(&setup, "/trusted.svg")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, page) = ask(&mut client, &opened(&setup, "/")).await;
    assert!(text(page).contains(&format!("data=\"https://{addr}/trusted.svg\"")));
    setup.expect_flows(0).await;
}

/// A client that does not trust us and looks again and again is intercepted each time, and is no flow.
#[tokio::test]
async fn who_does_not_trust_it_may_look_as_often_as_he_likes() {
    let setup = Setup::start().await;
    let distrusting: Arc<ClientConfig> = TestCa::new().client_config().into();
    for _ in 0..4 {
        let refused = setup.tls_client_with(Arc::clone(&distrusting), "manent:443", "manent").await;
        assert!(refused.is_err());
    }
    setup.tls_client("manent:443", "manent", &[]).await.unwrap();
    let look = async |times: usize| {
        for _ in 0..times {
            let io = setup.client().await.into_io();
            assert!(handshake(io, Arc::clone(&distrusting), "127.0.0.1").await.is_err());
        }
    };
    // At the listener it is a flow, unless the page was shown there.
    look(1).await;
    ask(&mut setup.client().await, &opened(&setup, "/")).await;
    look(3).await;
    setup.expect_flows(1).await;
}

/// The name is asked for through the proxy, which asks who one is, and records whom it refuses. A certificate is no secret: who
/// opens the proxy as a web server, as a phone does before it knows the proxy, is not asked.
#[tokio::test]
async fn credentials_are_for_who_uses_the_proxy() {
    let mut setup = Setup::with(|config| config.access.auth = Some("user:canary".parse().unwrap())).await;
    let mut client = setup.client().await;
    let (head, _) = ask(&mut client, &named("/")).await;
    assert!(head.starts_with("HTTP/1.1 407 "), "{head}");
    let flow = setup.flow().await;
    assert_eq!((flow.state, &*flow.target.host), (State::Refused, "manent"));
    let (head, page) = ask(&mut client, &opened(&setup, "/")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let page = text(page);
    assert!(page.contains("asks for a user and a password") && !page.contains("canary"), "{page}");
    let auth = "Proxy-Authorization: Basic dXNlcjpjYW5hcnk=\r\n\r\n";
    let (head, _) = ask(&mut client, &named("/").replacen("\r\n\r\n", &format!("\r\n{auth}"), 1)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.send("CONNECT manent:443 HTTP/1.1\r\nHost: manent:443\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 407 "));
}

/// A tunnel to the proxy itself is for its page alone: for another name in TLS, nobody is looked up and dialled.
#[tokio::test]
async fn another_name_in_a_tunnel_to_the_proxy_is_refused() {
    let mut setup = Setup::start().await;
    let mut client = setup.tls_client("manent:443", "a.test", &["http/1.1"]).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
    let answer = client.expect_error("400").await;
    assert!(answer.contains("manent:443 is this proxy itself"), "{answer}");
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Refused, Some((Side::Proxy, Stage::Target))));
    assert!(flow.server.is_none());
}

/// A client of SOCKS5 that leaves names to the proxy finds it, too.
#[tokio::test]
async fn a_client_of_socks5_finds_it_by_name() {
    let setup = Setup::with(|config| config.listen = vec!["socks5@127.0.0.1:0".parse().unwrap()]).await;
    let mut client = setup.client().await;
    client.send(b"\x05\x01\x00\x05\x01\x00\x03\x06manent\x00\x50").await;
    client.expect(b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00").await;
    let (head, page) = ask(&mut client, "GET / HTTP/1.1\r\nHost: manent\r\n\r\n").await;
    let page = text(page);
    assert!(head.starts_with("HTTP/1.1 200 ") && page.contains("SOCKS5 proxy"), "{head}{page}");
    let (_, pac) = ask(&mut client, "GET /proxy.pac HTTP/1.1\r\nHost: manent\r\n\r\n").await;
    assert!(text(pac).contains(&format!("SOCKS5 {}", setup.proxy.addr())));
    setup.expect_flows(0).await;
}

/// A certificate from elsewhere is looked at as ever: the name in TLS is not what is asked for.
#[tokio::test]
async fn a_name_in_tls_alone_opens_nothing() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["manent"], &["http/1.1"])).await;
    let authority = format!("127.0.0.1:{}", origin.addr().port());
    let (client, server) =
        tokio::join!(setup.tls_client(&authority, "manent", &["http/1.1"]), origin.accept());
    let (mut client, mut server) = (client.unwrap(), server);
    client.send("GET / HTTP/1.1\r\nHost: manent\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!((flow.state, &*flow.target.host), (State::Complete, "manent"));
}

/// The profile for Apple's systems holds the certificate, which its reader finds as it was.
#[tokio::test]
async fn the_profile_holds_the_certificate() {
    let setup = Setup::start().await;
    let profile = setup.proxy.ca().certificate().unwrap().mobileconfig();
    let data = profile.split_once("<data>").unwrap().1.split_once("</data>").unwrap().0;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{data}\n-----END CERTIFICATE-----\n");
    use rustls_pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(&der[..], setup.proxy.ca().cert_der());
}

/// What the binary says of it when it is ready.
#[test]
fn the_page_is_named_when_the_proxy_is_ready() {
    let said = |args: &[&str]| {
        let home = Home::new();
        let mut child = home.command(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said: Vec<String> = vec![lines.next().unwrap()];
        // It says all before it looks for signals.
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        said.extend(lines);
        child.wait().unwrap();
        said
    };
    let lines = said(&["-p", "0"]);
    let addr = lines[0].split_once("listening on ").unwrap().1.split(' ').next().unwrap();
    let line = format!("  setup   http://{addr}/ in a browser, http://manent/ through the proxy");
    assert!(lines.contains(&line), "{lines:?}");
    let port = addr.rsplit(':').next().unwrap();
    let line = format!(
        "  try     eval \"$(manent env -p {port})\"; curl https://example.com/   (in another terminal)"
    );
    assert!(lines.contains(&line), "{lines:?}");
    let lines = said(&["-p", "0", "--proxy-auth", "me:secret"]);
    let tried = lines.iter().find(|line| line.contains("  try     ")).unwrap();
    assert!(tried.contains(" --proxy-auth USER:PASS)\"; curl "), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("secret")), "{lines:?}");
    let lines = said(&["-l", "socks5@0", "--setup-host", "manent.test"]);
    assert!(lines.contains(&"  setup   http://manent.test/ through the proxy".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("  try ")), "no client there knows a proxy: {lines:?}");
    for off in [&["-p", "0", "--no-setup-page"][..], &["--reverse", "http://a.test", "-p", "0"]] {
        assert!(!said(off).iter().any(|line| line.contains("setup")));
    }
}

/// On HTTP/2, a second request for it was once dialled: the refusal was told to the first one alone.
#[tokio::test]
async fn another_name_in_a_tunnel_to_the_proxy_is_refused_on_every_stream() {
    let mut setup = Setup::start().await;
    let peer = setup.tls_client("manent:443", "a.test", &["h2"]).await.unwrap();
    let mut client = H2::client(peer).await;
    client.origin = ("https", "a.test".into());
    for stream in [1, 3, 5] {
        client.get(stream, "/").await;
        client.expect_status(stream, "400").await;
        let told = text(client.rest_of(stream).await.0);
        assert!(told.contains("manent:443 is this proxy itself"), "{told}");
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Refused, Some((Side::Proxy, Stage::Target))));
        assert!(flow.server.is_none());
    }
}
