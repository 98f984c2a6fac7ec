//! There and back: nothing is lost; and nothing that comes in makes it panic.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::sample::{Sample, decoded, encoded};
use super::super::transfer::{DecodeError, EncodeOptions};
use super::{FORMAT, sniff};
use crate::flow::arbitrary;
use crate::flow::*;

fn file(samples: &[Sample]) -> String {
    String::from_utf8(encoded(&FORMAT, samples, &EncodeOptions::default()).unwrap()).unwrap()
}

fn read(file: &str) -> Vec<Sample> {
    decoded(&FORMAT, file.as_bytes()).into_iter().map(Result::unwrap).collect()
}

/// What a store gives has its bodies somewhere, and they are not in the extents of another store.
fn in_place(mut flow: Flow) -> Flow {
    let place = |body: &mut Body| {
        if let Content::Extents(extents) = &body.content {
            body.content = Content::Inline(vec![b'x'; extents.len()].into());
        }
    };
    flow.request.iter_mut().for_each(|message| place(&mut message.body));
    flow.response.iter_mut().for_each(|message| place(&mut message.body));
    if let Some(tunnel) = &mut flow.tunnel {
        place(&mut tunnel.from_client);
        place(&mut tunnel.from_server);
    }
    if let Some(imported) = &mut flow.imported {
        imported.backup = imported.backup.take().map(|backup| Box::new(in_place(*backup)));
    }
    flow
}

fn message() -> impl Strategy<Value = Message> {
    let opcode = prop_oneof![
        Just(Opcode::Text),
        Just(Opcode::Binary),
        Just(Opcode::Close),
        Just(Opcode::Ping),
        Just(Opcode::Pong)
    ];
    let coding =
        prop_oneof![Just(MessageCoding::Plain), Just(MessageCoding::Deflate), Just(MessageCoding::Unknown)];
    (any::<(u64, bool, u64, u64, u64, u32, bool, bool)>(), opcode, coding, arbitrary::body()).prop_map(
        |((seq, from_client, at_us, len, wire_len, fragments, injected, dropped), opcode, coding, body)| {
            let content = match body.content {
                Content::Extents(_) => Content::Absent,
                content => content,
            };
            let end = body.end;
            Message {
                seq,
                from_client,
                opcode,
                at_us,
                len,
                wire_len,
                coding,
                fragments,
                injected,
                dropped,
                end,
                content,
            }
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let written = || of("[a-z ü\n\"\\\\]{1,5}");
    let note = (written(), written(), proptest::collection::btree_set("[a-z]{1,4}", 0..3))
        .prop_map(|(marker, comment, tags)| Note { marker, comment, tags: tags.into_iter().collect() });
    (arbitrary::flow(), note, vec(message(), 0..3))
        .prop_map(|(flow, note, messages)| {
            let messages = if flow.websocket.is_some() { messages } else { Vec::new() };
            Sample { flow: in_place(flow), note, messages }
        })
        .boxed()
}

#[test]
fn keys_are_those_of_show_and_bodies_are_text_or_base64() {
    let body = |bytes: &'static [u8]| Body::inline(bytes);
    let request =
        Request { method: "GET".into(), body: body(b"gr\xc3\xbc\xc3\x9f \"\n"), ..Request::default() };
    let response = Response { status: 200, body: body(b"\xff\0"), ..Response::default() };
    let flow =
        Flow { mid: Some(Mid(7)), request: Some(request), response: Some(response), ..Flow::default() };
    let text = file(&[Sample { flow, ..Sample::default() }]);
    assert!(
        text.starts_with("{\"mid\":7,\"kind\":\"http\",\"state\":\"open\",") && text.ends_with("}\n"),
        "{text}"
    );
    assert!(text.contains("\"framing\":\"length\",\"end\":\"whole\",\"text\":\"grüß \\\"\\n\"}"), "{text}");
    assert!(text.contains("\"base64\":\"/wA=\"}"), "{text}");
    assert!(
        sniff(text.as_bytes())
            && sniff(b"\xef\xbb\xbf {\n \"mid\" : 1, \"kind\": \"http\"}")
            && !sniff(b"{\"log\":{}}")
    );
}

#[test]
fn long_bodies_pass_in_pieces() {
    let text: String = "grün".repeat(100_000);
    let binary: Vec<u8> =
        (0..500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let request = Request { body: Body::inline(text.into_bytes()), ..Request::default() };
    let response = Response { body: Body::inline(binary), ..Response::default() };
    let flow = Flow { request: Some(request), response: Some(response), ..Flow::default() };
    let sample = Sample { flow, ..Sample::default() };
    assert_eq!(read(&file(std::slice::from_ref(&sample))), [sample]);
}

#[test]
fn a_damaged_flow_is_told_and_the_next_is_read() {
    let sample = |mid| {
        let backup = Flow { mid: Some(Mid(99)), ..Flow::default() };
        let imported = Imported { backup: Some(Box::new(backup)), ..Imported::default() };
        let flow = Flow { mid: Some(Mid(mid)), imported: Some(Box::new(imported)), ..Flow::default() };
        Sample { flow, ..Sample::default() }
    };
    let lines = [file(&[sample(1)]), file(&[sample(2)]), file(&[sample(3)])];
    for (bad, word) in [
        (
            lines[1].replace("\"kind\":\"http\"", "\"kind\":\"web\""),
            "`kind` is none of http, connect, tunnel, tls",
        ),
        (lines[1].replace("\"port\":0", "\"port\":70000"), "`port`"),
        (lines[1].replace("\"interim\":[]", "\"interim\":[1]"), "`interim`"),
        (lines[1].replace("\"state\":", "\"state\""), "expected"),
        (lines[1][..40].to_owned() + "\n", "in the middle of a string"),
        (lines[1][..lines[1].len() - 2].to_owned() + "\n", "expected"),
    ] {
        let all = decoded(&FORMAT, [&lines[0], &bad, &lines[2]].map(String::as_str).concat().as_bytes());
        let mids: Vec<_> = all.iter().flatten().map(|sample| sample.flow.mid).collect();
        assert_eq!(mids, [Some(Mid(1)), Some(Mid(3))], "{bad}");
        let told = all.iter().find_map(|one| one.as_ref().err()).unwrap();
        assert!(matches!(told, DecodeError::Flow { what, .. } if what.contains(word)), "{told}");
    }
    let all = decoded(&FORMAT, (lines[0].clone() + &lines[1][..100]).as_bytes());
    assert!(matches!(all[..], [Ok(_), Err(DecodeError::File { .. })]));
}

#[test]
fn what_show_left_out_is_not_taken_for_recorded() {
    let line = "{\"mid\":1,\"kind\":\"http\",\"response\":{\"status\":200,\"body\":{\"len\":9,\"end\":\"whole\",\
                \"left_out\":\"longer than --max-body\",\"decoded\":{\"len\":1,\"text\":\"x\"}}}}";
    let body = read(line).remove(0).flow.response.unwrap().body;
    assert_eq!((body.end, body.len, body.content), (BodyEnd::Capped, 9, Content::Absent));
    for bad in [
        "\"base64\":\"YQ\"",
        "\"base64\":\"YQ==YQ==\"",
        "\"base64\":\"Y\\u0000==\"",
        "\"text\":\"a\",\"text\":\"b\"",
    ] {
        let line = format!("{{\"mid\":1,\"kind\":\"http\",\"request\":{{\"body\":{{{bad}}}}}}}");
        assert!(matches!(decoded(&FORMAT, line.as_bytes())[..], [Err(DecodeError::Flow { .. })]), "{bad}");
    }
}

#[test]
fn deep_values_of_other_tools_come_back() {
    let mut value = Value::Int("1".to_owned());
    for level in 0..64 {
        value = match level % 2 {
            0 => Value::List(vec![value]),
            _ => Value::Dict(vec![(Value::Bytes("k".into()), value)]),
        };
    }
    let mut flow = Flow::default();
    for _ in 0..4 {
        let imported =
            Imported { metadata: Some(value.clone()), backup: Some(Box::new(flow)), ..Imported::default() };
        flow = Flow { imported: Some(Box::new(imported)), ..Flow::default() };
    }
    let sample = Sample { flow, ..Sample::default() };
    assert_eq!(read(&file(std::slice::from_ref(&sample))), [sample]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flows_come_back_equal(samples in vec(sample(), 1..3)) {
        prop_assert_eq!(read(&file(&samples)), samples);
    }

    #[test]
    fn nothing_makes_it_panic(sample in sample(), at: proptest::sample::Index, byte: u8, bytes: Vec<u8>) {
        let mut damaged = file(&[sample]).into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let _ = (decoded(&FORMAT, &damaged), decoded(&FORMAT, &damaged[..at]), decoded(&FORMAT, &bytes));
    }
}
