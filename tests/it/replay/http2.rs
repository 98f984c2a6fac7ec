//! HTTP/2: the same fields in the same protocol, whatever the client had spoken.

use manent::flow::{State, Version};

use super::{Scene, done};
use crate::harness::h2::{COMBINATIONS, H2, NAME, Say, Speaks};
use crate::harness::{Setup, TestCa, TlsOrigin, ending};

/// For each combination of what client and origin spoke, the origin sees twice the same.
#[tokio::test]
async fn the_origin_sees_the_same_in_each_combination() {
    for (client_speaks, server_speaks) in COMBINATIONS {
        let what = format!("{client_speaks:?} to {server_speaks:?}");
        let ca = TestCa::new();
        let mut setup = Setup::trusting(&ca).await;
        let origin = TlsOrigin::speaking(&ca, server_speaks).await;
        let authority = format!("127.0.0.1:{}", origin.addr().port());
        let alpn = [if client_speaks == Speaks::Http2 { "h2" } else { "http/1.1" }];
        let (ours, theirs) = tokio::join!(setup.tls_client(&authority, NAME, &alpn), origin.settle());
        let mut client = end(client_speaks, ours.unwrap(), true).await;
        let mut server = end(server_speaks, theirs, false).await;
        let fields = [("x-b", "1"), ("cookie", "a=1"), ("x-a", "2"), ("x-b", "3"), ("te", "trailers")];
        let say = Say { fields: &fields, body: Some("hello"), trailers: &[("x-sum", "1")] };
        client.ask(("POST", "/p?q"), say).await;
        let first = server.asked().await;
        server.answer(&first, "200", Say { fields: &[("x", "y")], body: Some("ok"), trailers: &[] }).await;
        client.answered(false).await;
        setup.flow().await;
        drop((client, server));
        let scene = Scene::of(setup).await;
        let pem = ca.write(scene.dir.path()).to_str().unwrap().to_owned();

        let replay = scene.start(&["replay", "1", "--diff", "--upstream-ca", &pem]);
        let mut server = end(server_speaks, origin.settle().await, false).await;
        let again = server.asked().await;
        server.answer(&again, "200", Say { fields: &[("x", "y")], body: Some("ok"), trailers: &[] }).await;
        assert_eq!(done(replay).await.expect(0).split('\t').nth(6), Some("same\n"), "{what}");
        let all = |got: &crate::harness::h2::Got| {
            (
                got.line.clone(),
                got.authority.clone(),
                got.fields.clone(),
                got.body.clone(),
                got.trailers.clone(),
            )
        };
        assert_eq!(all(&again), all(&first), "{what}");
        let flow = scene.flow(2);
        assert_eq!(
            (ending(&flow), flow.request.unwrap().version >= Version::Http2),
            ((State::Complete, None), server_speaks == Speaks::Http2),
            "{what}"
        );
    }
}

async fn end(speaks: Speaks, peer: crate::harness::Peer, is_client: bool) -> crate::harness::h2::End {
    use crate::harness::h2::End;
    match speaks {
        Speaks::Http1 => End::H1(peer),
        Speaks::Http2 if is_client => {
            let mut client = H2::client(peer).await;
            client.origin = ("https", NAME.into());
            End::H2(client)
        }
        Speaks::Http2 => End::H2(H2::server(peer).await),
    }
}

/// Requests side by side are streams of one connection.
#[tokio::test]
async fn requests_side_by_side_share_a_connection() {
    let (mut setup, origin) = Setup::h2_origin().await;
    let ca = setup.config.upstream_ca[0].to_str().unwrap().to_owned();
    let (mut client, mut server) = setup.h2(&origin).await;
    for stream in [1, 3, 5] {
        client.get(stream, "/").await;
        let asked = server.request().await;
        server.ok(asked.stream).await;
        client.expect_ok(stream).await;
        setup.flow().await;
    }
    drop((client, server));
    let scene = Scene::of(setup).await;
    let replay = scene.start(&["replay", "1-3", "-j", "3", "--upstream-ca", &ca]);
    let mut server = origin.h2().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(server.request().await.stream);
    }
    for stream in streams {
        server.ok(stream).await;
    }
    assert_eq!(done(replay).await.expect(0).lines().count(), 3);
}
