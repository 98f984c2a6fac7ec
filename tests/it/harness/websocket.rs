//! WebSockets by hand: the handshake, frames, and what the store has of them.

use manent::flow::{BodyEnd, Flow, Message, Opcode};
use manent::store::Reader;

use super::{Origin, Peer, Setup};

/// A handshake (RFC 6455 §4.1) that goes to `path` of the origin, for [`Origin::fill`].
pub(crate) fn opening(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {{addr}}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
}

/// The origin's answer to it, with this extension.
pub(crate) fn accepting(extension: &str) -> String {
    let extension = match extension {
        "" => String::new(),
        extension => format!("Sec-WebSocket-Extensions: {extension}\r\n"),
    };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n{extension}\r\n"
    )
}

/// A frame as an origin sends it: its first byte, and its payload.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [&head(first, 0, payload.len())[..], payload].concat()
}

/// The same as a client sends it.
pub(crate) fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = head(first, 0x80, payload.as_ref().len());
    out.extend_from_slice(&MASK);
    out.extend(payload.as_ref().iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn head(first: u8, mask: u8, len: usize) -> Vec<u8> {
    match len {
        0..126 => vec![first, mask | u8::try_from(len).unwrap()],
        126..0x1_0000 => [&[first, mask | 126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

impl Peer {
    /// Reads a frame, whatever its masking key: its first byte, whether it was masked, and its payload.
    pub(crate) async fn frame(&mut self) -> (u8, bool, Vec<u8>) {
        let head = self.read(2).await;
        let len = match head[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(self.read(2).await.try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.read(8).await.try_into().unwrap())).unwrap(),
            len => usize::from(len),
        };
        let is_masked = head[1] & 0x80 != 0;
        let key = if is_masked { self.read(4).await } else { vec![0; 4] };
        let payload = self.read(len).await;
        (head[0], is_masked, payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
    }
}

/// What most tests ask of a message: who sent it, what it is, its payload.
pub(crate) type Brief = (&'static str, Opcode, Vec<u8>);

/// A message in brief; fails unless it is whole and in its row.
pub(crate) fn brief(message: &Message) -> Brief {
    assert_eq!(message.end, BodyEnd::Whole, "{message:?}");
    let manent::flow::Content::Inline(payload) = &message.content else { panic!("{message:?}") };
    assert_eq!(message.len, payload.len() as u64);
    (if message.from_client { "client" } else { "server" }, message.opcode, payload.to_vec())
}

impl Setup {
    /// A WebSocket through the proxy, with this extension agreed on: the two ends, after the 101.
    pub(crate) async fn websocket(&self, origin: &Origin, extension: &str) -> (Peer, Peer) {
        let (mut client, mut server) = self.begin(origin, opening("http://{addr}/chat")).await;
        server.expect(origin.fill(opening("/chat"))).await;
        server.send(accepting(extension)).await;
        client.expect(accepting(extension)).await;
        (client, server)
    }

    /// The same where rules concern it, so that no extension is offered.
    pub(crate) async fn ruled_websocket(&self, origin: &Origin) -> (Peer, Peer) {
        let (mut client, mut server) = self.begin(origin, opening("http://{addr}/chat")).await;
        let head = server.head().await;
        assert!(head.contains("\r\nSec-WebSocket-Protocol: ") && !head.contains("Extensions"), "{head}");
        server.send(accepting("")).await;
        client.expect(accepting("")).await;
        (client, server)
    }

    /// The messages that are stored of a flow.
    pub(crate) fn messages(&self, flow: &Flow) -> Vec<Message> {
        let reader = Reader::open(&self.config.store).unwrap();
        reader.messages(flow.mid.unwrap(), 0, usize::MAX).unwrap()
    }

    /// The same in brief.
    pub(crate) fn said(&self, flow: &Flow) -> Vec<Brief> {
        self.messages(flow).iter().map(brief).collect()
    }
}
