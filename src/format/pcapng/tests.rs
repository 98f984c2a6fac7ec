//! The file's structure; that Wireshark reads it is seen with tshark, in `tests/clients`.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::sample::{Sample, asking, encoded, request};
use super::super::transfer::{EncodeError, EncodeOptions};
use super::FORMAT;
use crate::flow::*;

/// The packets of a file. It fails on what is no block.
fn packets(file: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut at, mut packets) = (0, Vec::new());
    while at < file.len() {
        let len = number(at + 4) as usize;
        assert!(len.is_multiple_of(4) && number(at + len - 4) as usize == len);
        if number(at) == 6 {
            packets.push(file[at + 28..at + 28 + number(at + 20) as usize].to_vec());
        }
        at += len;
    }
    packets
}

/// What each end sent, put together by sequence numbers, which have no gap; and a check of each checksum.
fn streams(file: &[u8]) -> [Vec<u8>; 2] {
    let mut sent = [Vec::new(), Vec::new()];
    for packet in packets(file) {
        let ip = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let addresses = if ip == 20 { &packet[12..20] } else { &packet[8..40] };
        let segment = &packet[ip..];
        let mut pseudo =
            [addresses, &u32::try_from(segment.len()).unwrap().to_be_bytes(), &[0, 0, 0, 6], segment]
                .concat();
        if pseudo.len() % 2 == 1 {
            pseudo.push(0);
        }
        let sum: u64 = pseudo.chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!(sum % 0xffff, 0, "the checksum is right");
        let from_client = usize::from(segment[0..2] == 80_u16.to_be_bytes());
        let sequence = u32::from_be_bytes(segment[4..8].try_into().unwrap()) as usize;
        let payload = &segment[usize::from(segment[12] >> 4) * 4..];
        if !payload.is_empty() {
            assert_eq!(sequence, sent[from_client].len() + 1, "no gap, from 0");
        }
        sent[from_client].extend_from_slice(payload);
    }
    sent
}

fn file(sample: &Sample) -> Vec<u8> {
    encoded(&FORMAT, std::slice::from_ref(sample), &EncodeOptions::default()).unwrap()
}

#[test]
fn messages_pass_over_a_connection_that_is_opened_and_closed() {
    let mut sample = asking(
        "POST",
        "https://a.test:443/x",
        &[("Host", "a.test"), ("Content-Length", "100000")],
        &[b'x'; 100_000],
    );
    let address = |host: &str, port| Some(Addr { host: host.to_owned(), port, ..Addr::default() });
    sample.flow.client = Arc::new(ClientConn { peer: address("::1", 5000), ..ClientConn::default() });
    sample.flow.server =
        Some(Arc::new(ServerConn { peer: address("2001:db8::1", 443), ..ServerConn::default() }));
    sample.flow.response = Some(Response { status: 204, ..Response::default() });
    let file = file(&sample);
    let [client, server] = streams(&file);
    assert!(client.starts_with(b"POST /x HTTP/1.1\r\nHost: a.test\r\n") && client.len() > 100_000);
    assert_eq!(String::from_utf8(server).unwrap(), "HTTP/1.1 204 \r\n\r\n");
    let first = &packets(&file)[0];
    assert_eq!((first[0] >> 4, &first[42..44], first[53]), (6, &80_u16.to_be_bytes()[..], 2));
    assert!(String::from_utf8_lossy(&file).contains(
        "https://a.test/x; made of the record, the client's port was 5000; the origin's port was 443"
    ));
}

#[test]
fn http2_is_frames_and_a_websocket_is_frames_behind_its_answer() {
    let mut sample = asking("GET", "http://a.test:80/x", &[("X", "1")], b"");
    let request = sample.flow.request.as_mut().unwrap();
    (request.version, request.scheme, request.authority) =
        (Version::Http2, Some("http".into()), Some("a.test".into()));
    let [client, _] = streams(&file(&sample));
    let head =
        b"\0\x07:method\x03GET\0\x07:scheme\x04http\0\x0a:authority\x06a.test\0\x05:path\x02/x\0\x01x\x011";
    assert!(client.starts_with(b"PRI * HTTP/2.0") && client.ends_with(head), "{}", client.escape_ascii());
    let mut sample = asking("GET", "http://a.test:80/x", &[], b"");
    sample.flow.websocket = Some(Box::default());
    let message = |from_client, bytes: &'static [u8]| Message {
        from_client,
        opcode: Opcode::Text,
        content: Content::Inline(bytes.into()),
        ..Message::default()
    };
    sample.messages = vec![message(true, b"hi"), message(false, &[b'x'; 300])];
    let [client, server] = streams(&file(&sample));
    assert!(client.ends_with(b"\x81\x82\0\0\0\0hi") && server.starts_with(b"\x81\x7e\x01\x2cx"));
}

#[test]
fn a_file_without_flows_is_a_file_and_empty_flows_are_refused() {
    let none = encoded(&FORMAT, &[], &EncodeOptions::default()).unwrap();
    assert!(packets(&none).is_empty() && none.starts_with(&0x0a0d_0d0a_u32.to_le_bytes()));
    let empty = encoded(&FORMAT, &[Sample::default()], &EncodeOptions::default());
    assert!(matches!(empty, Err(EncodeError::Unsuitable(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_is_in_the_segments(sample in request()) {
        let raw = encoded(&super::super::raw::FORMAT, std::slice::from_ref(&sample), &EncodeOptions::default()).unwrap();
        let [client, server] = streams(&file(&sample));
        prop_assert_eq!((client, server), (raw, Vec::new()));
    }

    #[test]
    fn any_flow_is_written(flow in arbitrary::flow()) {
        let _ = encoded(&FORMAT, &[Sample { flow, ..Sample::default() }], &EncodeOptions::default());
    }
}
