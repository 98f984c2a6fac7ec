//! TLS and both versions of HTTP, whatever was recorded, and tunnels that carry neither.

use manent::proxy::Mode;
use manent::replay::serve::ServeOptions;

use crate::harness::h2::{COMBINATIONS, End, H2, NAME, Say, Speaks, code};
use crate::harness::{Peer, Setup, TestCa, TlsOrigin};

const SAY: Say<'static> = Say { fields: &[("x-one", "1")], body: Some("body"), trailers: &[("x-end", "2")] };

/// A client in TLS that speaks this.
async fn client(setup: &Setup, to: &str, speaks: Speaks) -> End {
    let alpn = if speaks == Speaks::Http1 { "http/1.1" } else { "h2" };
    let peer = setup.tls_client(to, NAME, &[alpn]).await.unwrap();
    match speaks {
        Speaks::Http1 => End::H1(peer),
        Speaks::Http2 => {
            let mut h2 = H2::client(peer).await;
            h2.origin = ("https", NAME.into());
            End::H2(h2)
        }
    }
}

/// Recorded in one version, asked for in the other, with trailers; nobody comes to the origin, and its name is not looked up.
#[tokio::test]
async fn an_answer_is_served_in_the_version_of_the_client() {
    for (recorded, asked) in COMBINATIONS {
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let origin = TlsOrigin::speaking(&ca, recorded).await;
        let to = format!("127.0.0.1:{}", origin.addr().port());
        let (mut ours, server) = tokio::join!(client(&setup, &to, recorded), origin.settle());
        let mut theirs = match recorded {
            Speaks::Http1 => End::H1(server),
            Speaks::Http2 => End::H2(H2::server(server).await),
        };
        ours.ask(("GET", "/a"), Say::default()).await;
        let got = theirs.asked().await;
        theirs.answer(&got, "200", SAY).await;
        ours.answered(false).await;
        drop((ours, theirs));
        setup.flow().await;
        let (serving, _) = setup.serve(ServeOptions::default()).await;
        // The port is the record's, the name need not exist.
        let to = format!("{NAME}:{}", origin.addr().port());
        let mut client = client(&serving, &to, asked).await;
        client.ask(("GET", "/a"), Say::default()).await;
        let answer = client.answered(false).await;
        assert_eq!((&answer.line[..], &answer.body[..]), ("200", "body"), "{recorded:?} {asked:?}");
        assert_eq!((answer.all("x-one"), answer.trailers()), (vec!["1"], vec![("x-end", "2")]));
        client.ask_again().await;
        origin.origin.expect_nobody();
    }
}

impl End {
    /// Asks for what is not there, on the same connection.
    async fn ask_again(&mut self) {
        match self {
            End::H1(peer) => {
                peer.send(format!("GET /b HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
                assert!(peer.head().await.starts_with("HTTP/1.1 404"));
            }
            End::H2(peer) => {
                peer.get(3, "/b").await;
                peer.expect_status(3, "404").await;
            }
        }
    }
}

/// A stream of HTTP/2 is reset where a connection of HTTP/1.1 would be cut.
#[tokio::test]
async fn a_miss_can_reset_a_stream() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http2).await;
    let (mut ours, mut theirs) = setup.h2(&origin).await;
    ours.get(1, "/").await;
    let asked = theirs.request().await;
    theirs.ok(asked.stream).await;
    ours.expect_ok(1).await;
    drop((ours, theirs));
    setup.flow().await;
    let options = super::on_miss(manent::replay::serve::OnMiss::Kill);
    let (serving, _) = setup.serve(options).await;
    let mut client = serving.h2_client(&origin, &[]).await;
    client.get(1, "/other").await;
    client.expect_rst(1, &[code::CANCEL]).await;
    client.get(3, "/").await;
    client.expect_ok(3).await;
    origin.origin.expect_nobody();
}

/// What is neither TLS nor HTTP cannot be answered, and is not passed on.
#[tokio::test]
async fn a_tunnel_of_something_else_is_cut() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    setup.expect_alive().await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let origin = crate::harness::Origin::listen().await;
    let mut client: Peer = serving.tunnel(&origin.addr().to_string()).await;
    client.send("EHLO me\r\n").await;
    crate::harness::expect_cut(&mut client).await;
    origin.expect_nobody();
}

/// HTTP in clear inside a tunnel is HTTP.
#[tokio::test]
async fn a_tunnel_in_clear_is_served() {
    let (mut setup, origin) = (Setup::start().await, crate::harness::Origin::listen().await);
    setup.record(&origin, &super::get("/"), &super::ok("one")).await;
    let (serving, _) = setup.serve(ServeOptions::default()).await;
    let mut client = serving.tunnel(&origin.addr().to_string()).await;
    client.send(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
    client.expect(super::ok("one")).await;
    origin.expect_nobody();
}

/// As the origin itself (`--reverse URL`): in clear and in TLS, in both versions, by any name that the client has for it.
#[tokio::test]
async fn it_can_be_the_origin_itself() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::speaking(&ca, Speaks::Http1).await;
    let (mut ours, mut theirs) = setup.https(&origin, NAME).await;
    ours.send(format!("GET /a HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    theirs.head().await;
    theirs.send(super::ok("one")).await;
    ours.expect(super::ok("one")).await;
    drop((ours, theirs));
    setup.flow().await;
    let target = format!("https://{NAME}:{}", origin.addr().port());
    let options = ServeOptions { reuse: true, ..ServeOptions::default() };
    let (serving, _) = setup
        .serve_with(options, "", |config| {
            config.listen[0].mode = Mode::Reverse(target.parse().unwrap());
        })
        .await;
    let asked = "GET /a HTTP/1.1\r\nHost: localhost:9000\r\n\r\n";
    let mut client = serving.client().await;
    client.send(asked).await;
    client.expect(super::ok("one")).await;
    let mut client = serving.tls_over(serving.client().await, "localhost", &["http/1.1"]).await.unwrap();
    client.send(asked).await;
    client.expect(super::ok("one")).await;
    let tls = serving.tls_over(serving.client().await, "localhost", &["h2"]).await.unwrap();
    for (peer, scheme) in [(tls, "https"), (serving.client().await, "http")] {
        let mut client = H2::client(peer).await;
        client.origin = (scheme, "localhost".into());
        client.get(1, "/a").await;
        client.expect_status(1, "200").await;
    }
    origin.origin.expect_nobody();
}
