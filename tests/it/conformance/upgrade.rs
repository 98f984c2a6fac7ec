//! Upgrades (RFC 9110 §7.8; wire cases CN-21 to CN-25, CN-29): a tunnel only after the origin's 101, never before.

use manent::flow::{Side, Stage, State};

use crate::harness::{GET, OK, Origin, Setup, ending};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: foo/1, websocket\r\n\
    X-Foo: a\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo/1\r\nConnection: Upgrade\r\n\
    X-Foo: b\r\n\r\n";

/// CN-21, CN-22, pitfall 81: request and 101 pass byte for byte, then bytes both ways, unread. What is no WebSocket is not
/// taken for one.
#[tokio::test]
async fn an_upgrade_is_relayed_after_the_101() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, UPGRADE).await;
    server.expect(origin.fill(UPGRADE)).await;
    server.send(SWITCH).await;
    client.expect(SWITCH).await;
    client.send(b"\x81\x85abcdxxxxx").await;
    server.expect(b"\x81\x85abcdxxxxx").await;
    server.send(b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00").await;
    client.expect(b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00").await;
    drop(client);
    server.expect_end().await;
    drop(server);
    let flow = setup.flow().await;
    assert_eq!((ending(&flow), flow.response.unwrap().status), ((State::Complete, None), 101));
    let tunnel = flow.tunnel.unwrap();
    assert_eq!((&tunnel.reason[..], flow.websocket), ("upgrade foo/1, websocket", None));
    assert_eq!(tunnel.from_client.as_inline().unwrap(), &b"\x81\x85abcdxxxxx"[..]);
    assert_eq!(tunnel.from_server.len, 9);
}

/// CN-25, pitfall 86: what comes in one segment with the 101, or with the request, is not lost.
#[tokio::test]
async fn bytes_beside_the_101_are_not_lost() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, format!("{UPGRADE}early")).await;
    server.expect(origin.fill(UPGRADE)).await;
    server.send(format!("{SWITCH}first frames")).await;
    client.expect(format!("{SWITCH}first frames")).await;
    server.expect("early").await;
    drop((client, server));
    let tunnel = setup.flow().await.tunnel.unwrap();
    assert_eq!(tunnel.from_server.as_inline().unwrap(), "first frames");
    assert_eq!(tunnel.from_client.as_inline().unwrap(), "early");
}

/// Pitfall 4: `Connection` is a list, of any case (Firefox sends `keep-alive, Upgrade`).
#[tokio::test]
async fn an_upgrade_is_known_in_any_spelling() {
    let (setup, origin) = (Setup::start().await, Origin::listen().await);
    for connection in ["keep-alive, Upgrade", "UPGRADE", "x\r\nConnection: upgrade"] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: {{addr}}\r\nConnection: {connection}\r\nupgrade: foo/1\r\n\r\n");
        let (_client, mut server) = setup.begin(&origin, request).await;
        let wanted = "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nupgrade: foo/1\r\n\r\n";
        server.expect(origin.fill(wanted)).await;
    }
}

/// CN-24: an upgrade that is not taken stays HTTP, and the connection goes on.
#[tokio::test]
async fn a_refused_upgrade_stays_http() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.asked(&origin, UPGRADE).await;
    for status in ["200 OK", "403 Forbidden", "426 Upgrade Required"] {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        server.send(&response).await;
        client.expect(&response).await;
        let flow = setup.flow().await;
        assert_eq!((ending(&flow), flow.tunnel), ((State::Complete, None), None));
        client.send(origin.fill(GET)).await;
        server.expect(origin.fill(GET.replace("http://{addr}", ""))).await;
    }
}

/// CN-29 and RFC 9113 §3.1: the trio of an upgrade to h2c does not go on; the answer comes over HTTP/1.
#[tokio::test]
async fn upgrades_to_h2c_are_not_passed_on() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for connection in ["Upgrade, HTTP2-Settings", "Upgrade"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {{addr}}\r\nConnection: {connection}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        );
        let (mut client, mut server) = setup.begin(&origin, request).await;
        server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
        server.send(OK).await;
        client.expect(OK).await;
        let request = setup.flow().await.request.unwrap();
        assert_eq!(request.headers.get("http2-settings"), Some(&b"AAMAAABk"[..]));
    }
}

/// RFC 9110 §7.8: `Upgrade` counts only with `Connection: upgrade`, and never from HTTP/1.0; a 101 to it is a fault.
#[tokio::test]
async fn an_upgrade_without_its_option_is_none() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (version, fields) in [("1.1", ""), ("1.0", "Connection: upgrade\r\n")] {
        let request = format!("GET / HTTP/{version}\r\nHost: {{addr}}\r\n{fields}Upgrade: websocket\r\n\r\n");
        let (mut client, mut server) = setup.begin(&origin, request).await;
        server.expect(origin.fill("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await;
        server.send(format!("{SWITCH}frames")).await;
        client.expect_error("502").await;
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Failed, Some((Side::Server, Stage::ResponseHead))));
    }
}
