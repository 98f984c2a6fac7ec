//! RFC 7692 and RFC 6455 §5.8: what extensions made of messages passes as it is, and is undone for the record alone (wire
//! cases WS-13 and WS-14, pitfall 83).

use flate2::{Compress, Compression, FlushCompress};
use manent::flow::{Content, MessageCoding, Side, Stage, State};

use crate::harness::{Origin, Setup, ending, frame, masked};

/// Compresses a message as RFC 7692 §7.2.1 has it.
fn deflate(compress: &mut Compress, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 1024);
    compress.compress_vec(data, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

/// WS-13: `Hello`, compressed, is recorded inflated; the second one refers to the window of the first.
#[tokio::test]
async fn rfc_7692_section_7_2_3_compressed_messages_are_recorded_inflated() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "permessage-deflate").await;
    let frames = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00\x81\x05Hello";
    server.send(frames).await;
    client.expect(frames).await;
    let fragments =
        [masked(0x41, b"\xf2\x48\xcd"), masked(0x8a, ""), masked(0x80, b"\xc9\xc9\x07\x00")].concat();
    client.send(&fragments).await;
    server.expect(&fragments).await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let mut messages = setup.messages(&flow);
    messages.retain(|message| message.opcode.is_data());
    assert!(messages.iter().all(|m| m.content == Content::Inline("Hello".into()) && m.len == 5));
    let facts: Vec<_> = messages.iter().map(|m| (m.from_client, m.wire_len, m.coding, m.fragments)).collect();
    let deflate = MessageCoding::Deflate;
    let expected = [
        (false, 7, deflate, 1),
        (false, 5, deflate, 1),
        (false, 5, MessageCoding::Plain, 1),
        (true, 7, deflate, 2),
    ];
    assert_eq!(facts, expected);
}

/// §7.1.1: each direction keeps its window, or does not, as was agreed.
#[tokio::test]
async fn rfc_7692_section_7_1_1_context_takeover_is_as_agreed() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let data: Vec<u8> = (0..5000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    for extension in [
        "permessage-deflate; client_max_window_bits=15",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ] {
        let (mut client, mut server) = setup.websocket(&origin, extension).await;
        let new = || Compress::new(Compression::default(), false);
        let (mut up, mut down) = (new(), new());
        for _ in 0..3 {
            let (sent, answer) =
                (masked(0xc2, deflate(&mut up, &data)), frame(0xc2, deflate(&mut down, &data)));
            client.send(&sent).await;
            server.expect(&sent).await;
            server.send(&answer).await;
            client.expect(&answer).await;
            if extension.contains("client_no") {
                up.reset();
            }
            if extension.contains("server_no") {
                down.reset();
            }
        }
        drop((client, server));
        let flow = setup.flow().await;
        assert_eq!(ending(&flow), (State::Complete, None), "{extension}: {:?}", flow.error);
        let reader = manent::store::Reader::open(&setup.config.store).unwrap();
        let messages = setup.messages(&flow);
        assert_eq!(messages.len(), 6);
        for message in messages {
            let mut payload = Vec::new();
            std::io::Read::read_to_end(&mut reader.content(&message.content).unwrap(), &mut payload).unwrap();
            assert!(payload == data && message.wire_len < 1000, "{extension}");
        }
    }
}

/// §7.2.2: what cannot be inflated is told in the flow, and passes all the same.
#[tokio::test]
async fn rfc_7692_section_7_2_2_damaged_messages_pass_and_are_told() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "permessage-deflate").await;
    for bytes in [&b"\xc1\x03\xff\xff\xff"[..], b"\x81\x01x"] {
        server.send(bytes).await;
        client.expect(bytes).await;
    }
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::ServerAborted, Some((Side::Server, Stage::Tunnel))));
    assert!(flow.error.unwrap().message.contains("cannot be inflated"));
}

/// WS-14, RFC 6455 §5.8: with an extension that we do not know, messages are recorded as they are, and say so where it
/// touched them.
#[tokio::test]
async fn section_5_8_messages_of_an_unknown_extension_are_recorded_as_they_are() {
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    let (mut client, mut server) = setup.websocket(&origin, "x-webkit-deflate-frame").await;
    let frames = [frame(0xc1, b"\xf2\x48"), frame(0x81, "plain")].concat();
    server.send(&frames).await;
    client.expect(&frames).await;
    drop((client, server));
    let flow = setup.flow().await;
    assert_eq!(ending(&flow), (State::Complete, None));
    let messages = setup.messages(&flow);
    assert_eq!(messages[0].coding, MessageCoding::Unknown);
    assert_eq!(messages[0].content, Content::Inline((&b"\xf2\x48"[..]).into()));
    assert_eq!(messages[1].coding, MessageCoding::Plain);
}
