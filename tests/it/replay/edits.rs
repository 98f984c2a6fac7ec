//! What is changed before it goes out: nothing else is.

use super::{Scene, answer, captured, done, read_until};
use crate::harness::{OK, Origin, Setup, TestCa, TlsOrigin};

const POST: &str = "POST http://{addr}/p HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer x\r\nX-A: 1\r\nx-a: 2\r\n\
                    Content-Length: 3\r\nB: c\r\n\r\nabc";

/// A capture of [`POST`].
async fn posted() -> (Scene, Origin) {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.begin(&origin, POST).await;
    read_until(&mut server, b"abc").await;
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    (Scene::of(setup).await, origin)
}

#[tokio::test]
async fn fields_and_the_body_are_changed_in_their_places() {
    let (scene, origin) = posted().await;
    std::fs::write(scene.path("new.bin"), "hello").unwrap();
    let body = scene.path("new.bin");
    let replay = scene.start(&[
        "replay",
        "1",
        "-H",
        "X-A: new",
        "--set-header",
        "X-End:  y ",
        "--remove-header",
        "authorization",
        "--body",
        &body,
    ]);
    let mut server = origin.accept().await;
    let expected =
        "POST /p HTTP/1.1\r\nHost: {addr}\r\nX-A: new\r\nContent-Length: 5\r\nB: c\r\nX-End: y\r\n\r\nhello";
    server.expect(origin.fill(expected)).await;
    server.send(OK).await;
    done(replay).await.expect(0);
}

/// A large file goes out as it is read; the record has all of it.
#[tokio::test]
async fn a_large_file_is_streamed() {
    let (scene, origin) = posted().await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(scene.path("large.bin"), &large).unwrap();
    let replay = scene.start(&["replay", "1", "--body", &scene.path("large.bin")]);
    let mut server = origin.accept().await;
    assert!(server.head().await.contains("Content-Length: 3000000\r\n"));
    assert!(server.read(large.len()).await == large);
    server.send(OK).await;
    done(replay).await.expect(0);
    assert!(scene.flow(2).request.unwrap().body.as_inline().unwrap() == &large);
}

/// However large it is: memory does not grow with it.
#[tokio::test]
async fn memory_does_not_grow_with_a_body() {
    const LEN: u64 = 160 << 20;
    let (scene, origin) = posted().await;
    let zeros = scene.path("zeros.bin");
    std::fs::File::create(&zeros).unwrap().set_len(LEN).unwrap();
    let replay = scene.start(&["replay", "1", "--body", &zeros]);
    let mut server = origin.accept().await;
    server.head().await;
    let mut len = 0;
    while len < LEN {
        len += server.some().await.len() as u64;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", replay.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    server.send(OK).await;
    done(replay).await.expect(0);
    assert_eq!((len, scene.row(2).request_len), (LEN, LEN));
    assert!(peak_kib < 96 << 10, "{peak_kib} KiB");
}

/// A stored body beyond what is kept in the record goes out from its segment, and comes back into one.
#[tokio::test]
async fn a_large_stored_body_is_streamed() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let large: Vec<u8> = (0..1_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let head =
        format!("PUT http://{{addr}}/ HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {}\r\n\r\n", large.len());
    let (mut client, mut server) = setup.asked(&origin, head).await;
    let (_, seen) = tokio::join!(client.send(&large), server.read(large.len()));
    assert!(seen == large);
    server.send(OK).await;
    client.expect(OK).await;
    setup.flow().await;
    drop((client, server));
    let scene = Scene::of(setup).await;
    let replay = scene.start(&["replay", "1"]);
    let mut server = origin.accept().await;
    server.head().await;
    assert!(server.read(large.len()).await == large);
    server.send(OK).await;
    done(replay).await.expect(0);
    assert!(scene.flow(2).request.unwrap().body.as_inline().unwrap() == &large);
}

/// `--to`: another origin, with its name; credentials that go there are told.
#[tokio::test]
async fn requests_go_to_another_origin() {
    let (scene, origin) = posted().await;
    let other = Origin::listen().await;
    let to = format!("http://{}", other.addr());
    let replay = scene.start(&["replay", "1", "--to", &to]);
    let head = answer(&other, OK).await;
    assert!(head.contains(&format!("\r\nHost: {}\r\n", other.addr())), "{head}");
    let told = done(replay).await;
    told.expect(0);
    assert!(told.err.contains("credentials go to another origin: Authorization"), "{}", told.err);
    let flow = scene.flow(2);
    assert_eq!(flow.url(), format!("http://{}/p", other.addr()));

    let replay = scene.start(&["replay", "1", "--to", &to, "--keep-host"]);
    let head = answer(&other, OK).await;
    assert!(head.contains(&format!("\r\nHost: {}\r\n", origin.addr())), "{head}");
    done(replay).await.expect(0);
    origin.expect_nobody();
}

/// What was in clear goes into TLS, by the new origin's name, and as it was: no protocol is changed without need.
#[tokio::test]
async fn a_request_in_clear_goes_to_an_https_origin() {
    let (scene, _) = captured(&["GET http://{addr}/x HTTP/1.1\r\nHost: {addr}\r\n\r\n"], OK).await;
    let ca = TestCa::new();
    let pem = ca.write(scene.dir.path()).to_str().unwrap().to_owned();
    let origin = TlsOrigin::listen(ca.server_config(&["localhost"], &["h2", "http/1.1"])).await;
    let to = format!("https://localhost:{}", origin.addr().port());
    let replay = scene.start(&["replay", "1", "--to", &to, "--upstream-ca", &pem]);
    let mut server = origin.accept().await;
    let host = format!("localhost:{}", origin.addr().port());
    server.expect(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    server.send(OK).await;
    done(replay).await.expect(0);
}

/// `--via`: as the proxy itself goes through another one.
#[tokio::test]
async fn requests_go_through_another_proxy() {
    let (scene, origin) = captured(&["GET http://{addr}/x HTTP/1.1\r\nHost: {addr}\r\n\r\n"], OK).await;
    let parent = Origin::listen().await;
    let via = format!("http://{}", parent.addr());
    let replay = scene.start(&["replay", "1", "--via", &via, "--no-via", ""]);
    let head = answer(&parent, OK).await;
    assert!(head.starts_with(&format!("GET http://{}/x HTTP/1.1\r\n", origin.addr())), "{head}");
    done(replay).await.expect(0);
    origin.expect_nobody();
}

/// A redirect is an answer like any other.
#[tokio::test]
async fn redirects_are_not_followed() {
    let (scene, origin) = captured(&["GET http://{addr}/x HTTP/1.1\r\nHost: {addr}\r\n\r\n"], OK).await;
    let other = Origin::listen().await;
    let replay = scene.start(&["replay", "1"]);
    let moved =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", other.addr());
    answer(&origin, &moved).await;
    done(replay).await.expect(0);
    other.expect_nobody();
    assert_eq!(scene.flow(2).response.unwrap().status, 302);
}
