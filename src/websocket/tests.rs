//! The tap against frames of all kinds in all cuts, the examples of RFC 6455 §5.7 and RFC 7692 §7.2.3, and noise.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::flow::{MessageCoding, Opcode};

const DEFLATE: Extensions = Extensions {
    deflate: Some(Deflate {
        client_starts_anew: false,
        server_starts_anew: false,
        client_window_is_small: false,
    }),
    unknown: false,
};
const ANEW: Extensions = Extensions {
    deflate: Some(Deflate {
        client_starts_anew: true,
        server_starts_anew: true,
        client_window_is_small: false,
    }),
    unknown: false,
};
const UNKNOWN: Extensions = Extensions { deflate: None, unknown: true };

/// What a tap said, with payload joined to its message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Message(Opcode, Vec<u8>, Ended),
    Control(Opcode, Vec<u8>),
    Broken(Violation),
}

/// Feeds pieces, and checks what holds for every tap.
fn listen(tap: &mut Tap, pieces: &[&[u8]]) -> Vec<Said> {
    let mut said = Vec::new();
    let mut open: Option<(Opcode, Vec<u8>)> = None;
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match tap.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Begun(opcode))) => {
                    assert!(opcode.is_data() && open.replace((opcode, Vec::new())).is_none());
                }
                Ok(Some(Event::Payload(data))) => {
                    assert!(!data.is_empty());
                    open.as_mut().unwrap().1.extend_from_slice(&data);
                }
                Ok(Some(Event::Ended(ended))) => {
                    let (opcode, data) = open.take().unwrap();
                    assert!(ended.truncated || ended.len == data.len() as u64);
                    said.push(Said::Message(opcode, data, ended));
                }
                Ok(Some(Event::Control { opcode, payload })) => {
                    assert!(payload.len() <= 125 && !opcode.is_data());
                    said.push(Said::Control(opcode, payload.to_vec()));
                }
                Err(violation) => said.push(Said::Broken(violation)),
            }
        }
        assert!(input.is_empty());
    }
    said
}

fn server(extensions: Extensions, bytes: &[u8]) -> Vec<Said> {
    listen(&mut Tap::of_server(extensions), &[bytes])
}

fn message(opcode: Opcode, data: &[u8], wire_len: u64, fragments: u32, coding: MessageCoding) -> Said {
    let not_utf8 =
        opcode == Opcode::Text && coding != MessageCoding::Unknown && std::str::from_utf8(data).is_err();
    let ended = Ended { len: data.len() as u64, wire_len, fragments, coding, truncated: false, not_utf8 };
    Said::Message(opcode, data.to_vec(), ended)
}

/// A frame: its first byte, a masking key if it has one, its payload.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(bit | u8::try_from(len).unwrap()),
        len @ 126..0x1_0000 => {
            out.push(bit | 126);
            out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
    let keys = mask.unwrap_or_default().into_iter().cycle();
    out.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
    out
}

/// A payload as permessage-deflate makes it.
fn deflate(compress: &mut Compress, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 1024);
    compress.compress_vec(data, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.len() < out.capacity());
    assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
    out
}

/// RFC 6455 §5.7, and frames whose lengths take each of the three forms.
#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = |coding| message(Opcode::Text, b"Hello", 5, 1, coding);
    let plain = MessageCoding::Plain;
    assert_eq!(server(Extensions::default(), b"\x81\x05Hello"), [hello(plain)]);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(listen(&mut Tap::of_client(Extensions::default()), &[masked]), [hello(plain)]);
    let fragments = b"\x01\x03Hel\x89\x05Hello\x80\x02lo";
    let expected =
        [Said::Control(Opcode::Ping, b"Hello".to_vec()), message(Opcode::Text, b"Hello", 5, 2, plain)];
    assert_eq!(server(Extensions::default(), fragments), expected);
    for len in [0, 125, 126, 256, 0xffff, 0x1_0000] {
        let data = vec![7; len];
        let expected = [message(Opcode::Binary, &data, len as u64, 1, plain)];
        assert_eq!(server(Extensions::default(), &frame(0x82, None, &data)), expected);
    }
}

/// RFC 7692 §7.2.3: one and two fragments, a window that is kept, a block without compression, a final block, two blocks.
#[test]
fn the_examples_of_compression_are_read() {
    let hello =
        |wire_len, fragments| message(Opcode::Text, b"Hello", wire_len, fragments, MessageCoding::Deflate);
    let one = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";
    assert_eq!(server(DEFLATE, one), [hello(7, 1)]);
    assert_eq!(server(ANEW, &one.repeat(2)), [hello(7, 1), hello(7, 1)]);
    assert_eq!(server(DEFLATE, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"), [hello(7, 2)]);
    let kept = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    assert_eq!(server(DEFLATE, kept), [hello(7, 1), hello(5, 1)]);
    let stored = b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
    assert_eq!(server(DEFLATE, stored), [hello(11, 1)]);
    let two_blocks = b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    assert_eq!(server(DEFLATE, two_blocks), [hello(13, 1)]);
    let last_block = b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
    assert_eq!(server(ANEW, &last_block.repeat(2)), [hello(8, 1), hello(8, 1)]);
    // What comes after it may refer to a window that is gone, and is left as it was.
    let as_it_was = message(Opcode::Text, &last_block[2..], 8, 1, MessageCoding::Unknown);
    assert_eq!(server(DEFLATE, &last_block.repeat(2)), [hello(8, 1), as_it_was]);
}

/// An extension that we do not know: nothing is inflated, and messages that it touched are told.
#[test]
fn messages_of_unknown_extensions_are_as_they_were() {
    let said = server(UNKNOWN, b"\xa1\x01x\x82\x01y\x01\x01z\xc0\x01z\xd9\x00");
    let expected = [
        message(Opcode::Text, b"x", 1, 1, MessageCoding::Unknown),
        message(Opcode::Binary, b"y", 1, 1, MessageCoding::Plain),
        message(Opcode::Text, b"zz", 2, 2, MessageCoding::Unknown),
        Said::Control(Opcode::Ping, Vec::new()),
    ];
    assert_eq!(said, expected);
}

/// RFC 6455 §8.1: a character may be cut by a frame, and not by the end of its message; what is not text may be anything.
#[test]
fn text_that_is_not_utf8_is_told() {
    let judged = |bytes: &[u8]| match &server(DEFLATE, bytes)[..] {
        [Said::Message(_, _, ended)] => ended.not_utf8,
        other => panic!("{other:?}"),
    };
    assert!(!judged(b"\x01\x02a\xc3\x80\x01\xbc"), "one character in two frames");
    assert!(judged(b"\x01\x02a\xc3\x80\x00"), "half a character");
    assert!(judged(b"\x81\x02\xc0\xaf"), "overlong");
    assert!(!judged(b"\x82\x02\xc0\xaf"), "binary");
    let mut deflate = Compress::new(Compression::default(), false);
    let mut coded = Vec::with_capacity(100);
    deflate.compress_vec(b"a\xff", &mut coded, FlushCompress::Sync).unwrap();
    coded.truncate(coded.len() - 4);
    assert!(judged(&frame(0xc1, None, &coded)));
}

#[test]
fn codes_that_are_not_for_the_wire_are_known() {
    for code in [1000, 1003, 1007, 1011, 1014, 3000, 4999] {
        assert_eq!(close_code_fault(code), None, "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        assert!(close_code_fault(code).is_some(), "{code}");
    }
}

/// Every rule is told once, by its name; what follows is passed over.
#[test]
fn every_rule_is_told_once() {
    let long = frame(0x89, None, &[0; 126]);
    let cases: [(&[u8], Violation); 16] = [
        (b"\x83\x00", Violation::ReservedOpcode(3)),
        (b"\x8b\x00", Violation::ReservedOpcode(11)),
        (b"\xc1\x00", Violation::ReservedBit),
        (b"\x91\x00", Violation::ReservedBit),
        (b"\xc9\x00", Violation::ReservedBit),
        (b"\x01\x01a\x82\x01b", Violation::Interleaved),
        (b"\x80\x01b", Violation::NothingToContinue),
        (b"\x09\x00", Violation::FragmentedControl),
        (&long, Violation::LongControl),
        (b"\x88\x01\x03", Violation::HalfCloseCode),
        (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Violation::Masked),
        (b"\x81\x7e\x00\x7d", Violation::BadLength),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", Violation::BadLength),
        (b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", Violation::BadLength),
        (b"\x88\x7e\x00\x7d", Violation::BadLength),
        (b"\x81\x7e\x00\x00", Violation::BadLength),
    ];
    for (bytes, violation) in cases {
        let mut tap = Tap::of_server(Extensions::default());
        let said = listen(&mut tap, &[bytes, b"\x81\x01a\x83\x00"]);
        assert_eq!(said, [Said::Broken(violation)], "{}", bytes.escape_ascii());
        assert!(tap.is_silent() && !tap.is_inside());
    }
    let mut client = Tap::of_client(Extensions::default());
    assert_eq!(listen(&mut client, &[b"\x81\x05Hello"]), [Said::Broken(Violation::NotMasked)]);
    assert_eq!(server(DEFLATE, b"\x41\x00\xc0\x00"), [Said::Broken(Violation::CompressedBit)]);
    assert_eq!(server(DEFLATE, b"\xc1\x03\xff\xff\xff"), [Said::Broken(Violation::Corrupt)]);
}

/// A small message that inflates to far more than is kept: what is given out ends, what follows is still right.
#[test]
fn a_bomb_is_truncated_and_the_window_kept() {
    let mut compress = Compress::new(Compression::fast(), false);
    let zeros = vec![0; 1 << 20];
    let mut tap = Tap::of_server(DEFLATE);
    let mut given = 0;
    for n in 0..65 {
        let first = if n == 0 { 0x42 } else { 0x00 };
        let mut payload = deflate(&mut compress, &zeros);
        // Sync flushes in the middle of a message stand as they are.
        payload.extend_from_slice(&[0, 0, 0xff, 0xff]);
        let mut input = Bytes::from(frame(first, None, &payload));
        while let Some(event) = tap.next(&mut input).unwrap() {
            given += if let Event::Payload(data) = event { data.len() } else { 0 };
        }
    }
    assert_eq!(given, 64 << 20);
    let mut input = Bytes::from(frame(0x80, None, &deflate(&mut compress, b"end")));
    let ended = tap.next(&mut input).unwrap();
    let Some(Event::Ended(ended)) = ended else { panic!("{ended:?}") };
    assert_eq!((ended.len, ended.truncated, ended.fragments), ((65 << 20) + 3, true, 66));
    let next = frame(0xc1, None, &deflate(&mut compress, b"the end"));
    let said = listen(&mut tap, &[&next]);
    assert_eq!(said, [message(Opcode::Text, b"the end", next.len() as u64 - 2, 1, MessageCoding::Deflate)]);
}

#[test]
fn close_frames_have_a_code_and_a_reason() {
    assert_eq!(close_status(b""), (1005, &b""[..]));
    assert_eq!(close_status(b"\x03\xe8"), (1000, &b""[..]));
    assert_eq!(close_status(b"\x0f\xa0bye"), (4000, &b"bye"[..]));
}

/// What one message is made of: text or not, compressed or not, its fragments, and a control frame after each.
type Made = (bool, bool, Vec<(Vec<u8>, Option<(u8, Vec<u8>)>)>);

fn made() -> impl Strategy<Value = Made> {
    let payload = prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        2 => vec(0_u8..3, 100..300),
        1 => vec(0_u8..3, 65_000..70_000),
    ];
    let control = proptest::option::weighted(0.3, (8_u8..11, vec(any::<u8>(), 2..125)));
    (any::<bool>(), any::<bool>(), vec((payload, control), 1..4))
}

/// The wire of the messages, and what is to be heard of it.
fn wire(messages: &[Made], extensions: Extensions, mask: Option<[u8; 4]>) -> (Vec<u8>, Vec<Said>) {
    let mut compress = Compress::new(Compression::default(), false);
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for (is_text, compressed, parts) in messages {
        let opcode = if *is_text { Opcode::Text } else { Opcode::Binary };
        let data: Vec<u8> = parts.iter().flat_map(|(part, _)| part.clone()).collect();
        let coded = extensions.deflate.is_some() && *compressed;
        let payload = if coded { deflate(&mut compress, &data) } else { data.clone() };
        if extensions == ANEW {
            compress.reset();
        }
        let (count, size) = (parts.len(), payload.len().div_ceil(parts.len()).max(1));
        for (n, (_, control)) in parts.iter().enumerate() {
            let (from, to) = ((n * size).min(payload.len()), ((n + 1) * size).min(payload.len()));
            let begins = opcode.number() | if coded { 0x40 } else { 0 };
            let first = if n == 0 { begins } else { 0 } | if n + 1 == count { 0x80 } else { 0 };
            bytes.extend(frame(first, mask, &payload[from..to]));
            if n + 1 == count {
                let coding = if coded { MessageCoding::Deflate } else { MessageCoding::Plain };
                let wire_len = payload.len() as u64;
                expected.push(message(opcode, &data, wire_len, u32::try_from(count).unwrap(), coding));
            }
            if let Some((number, control)) = control {
                bytes.extend(frame(0x80 | number, mask, control));
                expected.push(Said::Control(Opcode::from_number(*number).unwrap(), control.clone()));
            }
        }
    }
    (bytes, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_in_any_cut_are_heard(
        messages in vec(made(), 0..5),
        extensions in prop_oneof![Just(Extensions::default()), Just(DEFLATE), Just(ANEW)],
        mask: Option<[u8; 4]>,
        cuts in vec(1_usize..5000, 1..20),
    ) {
        let (bytes, expected) = wire(&messages, extensions, mask);
        let mut tap = if mask.is_some() { Tap::of_client(extensions) } else { Tap::of_server(extensions) };
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(listen(&mut tap, &pieces), expected);
        prop_assert!(!tap.is_inside() && !tap.is_silent());
    }

    #[test]
    fn noise_is_never_fatal_and_heard_alike_in_every_cut(
        bytes in vec(prop_oneof![any::<u8>(), Just(0x81), Just(0xc1), Just(0x02), Just(0)], 0..600),
        from_client: bool,
        extensions in prop_oneof![Just(Extensions::default()), Just(DEFLATE), Just(ANEW), Just(UNKNOWN)],
    ) {
        let tap = || if from_client { Tap::of_client(extensions) } else { Tap::of_server(extensions) };
        let whole = listen(&mut tap(), &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(whole, listen(&mut tap(), &single));
    }
}
