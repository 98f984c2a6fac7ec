//! RFC 6455 §7: who closed, with which code and reason, and connections that end without a word (wire cases WS-10 to WS-12).

use manent::flow::{BodyEnd, Content, Side, Stage, State};

use crate::harness::{Origin, Setup, ending, frame, masked};

/// WS-12, §7.1.5: the code of the first close frame, and the side that sent it; both pass as they are.
#[tokio::test]
async fn section_7_1_5_code_reason_and_side_of_a_close_are_recorded() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for by_client in [true, false] {
        let (mut client, mut server) = setup.websocket(&origin, "").await;
        let (up, down) = (masked(0x88, b"\x0f\xa0bye"), frame(0x88, b"\x0f\xa0bye"));
        if by_client {
            client.send(&up).await;
            server.expect(&up).await;
            server.send(&down).await;
            client.expect(&down).await;
        } else {
            server.send(&down).await;
            client.expect(&down).await;
            client.send(&up).await;
            server.expect(&up).await;
        }
        drop(server);
        client.expect_end().await;
        drop(client);
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None));
        let websocket = flow.websocket.unwrap();
        assert_eq!((websocket.closed_by_client, websocket.close_code), (Some(by_client), Some(4000)));
        assert_eq!(websocket.close_reason.as_deref(), Some("bye"));
    }
}

/// WS-10, §7.1.5: a close frame without a code is 1005.
#[tokio::test]
async fn section_7_1_5_a_close_without_a_code_is_1005() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    client.send(masked(0x88, "")).await;
    server.expect(masked(0x88, "")).await;
    server.send(frame(0x88, "")).await;
    client.expect(frame(0x88, "")).await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let websocket = flow.websocket.unwrap();
    assert_eq!((websocket.closed_by_client, websocket.close_code), (Some(true), Some(1005)));
    assert_eq!(websocket.close_reason, None);
}

/// WS-11, §7.1.5: a connection that ends without a close frame is 1006. Cleanly, the other side sees a clean end; cut, it
/// sees a cut, and the flow says who was gone.
#[tokio::test]
async fn section_7_1_5_an_end_without_a_close_is_1006() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    for (by_client, cut) in [(true, false), (false, false), (true, true), (false, true)] {
        let (client, server) = setup.websocket(&origin, "").await;
        let (gone, mut left) = if by_client { (client, server) } else { (server, client) };
        if cut {
            gone.reset();
            left.expect_break().await;
        } else {
            drop(gone);
            left.expect_end().await;
        }
        drop(left);
        let flow = setup.flow().await;
        let expected = match (cut, by_client) {
            (false, _) => (State::Complete, None),
            (true, true) => (State::ClientAborted, Some((Side::Client, Stage::Tunnel))),
            (true, false) => (State::ServerAborted, Some((Side::Server, Stage::Tunnel))),
        };
        assert_eq!(ending(&flow), expected);
        let websocket = flow.websocket.unwrap();
        assert_eq!((websocket.closed_by_client, websocket.close_code), (None, Some(1006)));
    }
}

/// §7.1.7: an end in the middle of a message is no clean one, and what came of the message is kept.
#[tokio::test]
async fn section_7_1_7_a_message_that_was_cut_off_is_recorded_as_such() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let half = &masked(0x81, "hello world")[..11];
    client.send(half).await;
    server.expect(half).await;
    drop(client);
    server.expect_end().await;
    drop(server);
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ClientAborted, Some((Side::Client, Stage::Tunnel))));
    let messages = setup.messages(&flow);
    assert_eq!((messages.len(), messages[0].end), (1, BodyEnd::CutOff));
    assert_eq!((&messages[0].content, messages[0].len), (&Content::Inline("hello".into()), 5));
}
