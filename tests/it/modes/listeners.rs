//! Several listeners at once, each in its mode.

use crate::harness::{GET, Origin, Peer, Setup};

/// Each serves its own way, and none is reached through another.
#[tokio::test]
async fn listeners_of_several_modes_serve_at_once() {
    let origin = Origin::listen().await;
    let reverse = format!("reverse:http://{}@127.0.0.1:0", origin.addr());
    let mut setup = Setup::with(|config| {
        config.listen =
            ["127.0.0.1:0", "explicit@[::1]:0", &reverse].map(|text| text.parse().unwrap()).into();
    })
    .await;
    let [first, second, third] = setup.proxy.addrs()[..] else { panic!("three listeners") };
    for (addr, request, mode) in [
        (first, GET, "explicit"),
        (second, GET, "explicit"),
        (third, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "reverse"),
    ] {
        let mut client = Peer::connect(addr).await;
        client.send(origin.fill(request)).await;
        // A kept connection of an earlier client may carry it, or a new one.
        let mut server = origin.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        client.head().await;
        client.expect("ok").await;
        drop(server);
        assert_eq!(setup.flow().await.client.mode, mode);
    }
    for own in [second, third] {
        let mut client = Peer::connect(first).await;
        client.send(format!("GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\n\r\n")).await;
        assert!(client.expect_error("400").await.contains("is this proxy itself"));
        setup.flow().await;
    }
    setup.expect_alive().await;
}
