//! Files that were made to do harm: memory stays bounded, and the flow behind is read.

use super::files::{http, stream, websocket};
use super::*;

/// What follows the hostile flow is read, and that one refused for what it should be.
#[track_caller]
fn assert_refused(hostile: &[u8], due: &str) {
    let (flows, errors) =
        read(&[&tnet(&http())[..], hostile, &tnet(&stream("tcp", &[(true, b"x")]))].concat());
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!((flows.len(), told.len()), (2, 1), "{told:?}");
    assert!(told[0].contains(due), "{told:?}");
}

fn with(path: &str, value: Value) -> Vec<u8> {
    let mut file = http();
    *at(&mut file, path) = value;
    tnet(&file)
}

/// The flow with a key more at its end, whose value is `spelled`.
fn with_spelled(spelled: &[u8]) -> Vec<u8> {
    let file = tnet(&http());
    let colon = file.iter().position(|&b| b == b':').unwrap();
    let payload = [&file[colon + 1..file.len() - 1], b"1:x;", spelled].concat();
    [payload.len().to_string().as_bytes(), b":", &payload, b"}"].concat()
}

#[test]
fn depth_is_bounded() {
    let mut deep = Value::Null;
    for _ in 0..super::super::value::MAX_DEPTH {
        deep = Value::List(vec![deep]);
    }
    assert_refused(&with("metadata", deep), "nested too deep");
    let mut spelled = b"0:]".to_vec();
    for _ in 0..3000 {
        spelled = [spelled.len().to_string().as_bytes(), b":", &spelled, b"]"].concat();
    }
    assert_refused(&with_spelled(&spelled), "nested too deep");
}

#[test]
fn lengths_are_not_believed() {
    for (spelled, due) in [
        (&b"999999999999:x,"[..], "a value of 999999999999 bytes, which is more than it stands in"),
        (b"1000000000000:x,", "no length of a value"),
        (b"18446744073709551615:x,", "no length of a value"),
        (b"-5:x,", "no length of a value"),
        (b":x,", "no length of a value"),
        (b"9:1:a,9:bc,]", "another type"),
    ] {
        let hostile = with_spelled(spelled);
        let (flows, errors) = read(&[&hostile[..], &tnet(&http())].concat());
        assert_eq!((flows.len(), errors.len()), (1, 1), "{errors:?}");
        if due != "another type" {
            assert!(errors[0].to_string().contains(due), "{}", errors[0]);
        }
    }
    // The flow itself says that it is longer than all files.
    let file = tnet(&http());
    let colon = file.iter().position(|&b| b == b':').unwrap();
    let hostile = [b"999999999999", &file[colon..]].concat();
    assert_refused(&hostile, "no length of a value");
}

#[test]
fn many_small_fields_are_as_bad_as_large_ones() {
    assert_refused(
        &with("metadata", Value::List(vec![Value::Null; 300_000])),
        "more fields beside the bodies",
    );
    assert_refused(&with("metadata", raw(&vec![0; 17 << 20])), "more fields beside the bodies");
    let many: Vec<_> = (0..100).map(|n| (text(&format!("k{n}")), Value::Null)).collect();
    let mut file = http();
    if let Value::Dict(pairs) = &mut file {
        pairs.extend(many);
    }
    assert_refused(&tnet(&file), "more fields than a flow has");
}

#[test]
fn messages_twice_and_of_strange_kinds_are_refused() {
    let flag = |flag| Value::Bool(flag);
    let list = |parts: Vec<Value>| tnet(&websocket(vec![Value::List(parts)]));
    for (parts, due) in [
        (vec![int(7), flag(true), raw(b""), int(1), flag(false), flag(false)], "a kind that is not known"),
        (vec![int(1), int(1), raw(b""), int(1)], "without a direction"),
        (vec![int(1), flag(true), raw(b""), text("noon")], "time is no number"),
        (vec![int(1), flag(true), Value::Null, int(1)], "without bytes"),
        (vec![text("x")], "neither a kind nor a direction"),
        (
            vec![int(1), flag(true), raw(b""), int(1), flag(false), flag(false), flag(false)],
            "more than a message has",
        ),
    ] {
        assert_refused(&list(parts), due);
    }
    let mut file = stream("tcp", &[(true, b"x")]);
    if let Value::Dict(pairs) = &mut file {
        pairs.push((text("websocket"), dict([("messages", Value::List(vec![]))])));
    }
    assert_refused(&tnet(&file), "messages, twice");
}

#[test]
fn a_large_edit_is_left_out_and_its_flow_is_kept() {
    let mut before = http();
    *at(&mut before, "request.content") = raw(&vec![b'x'; 9 << 20]);
    let flows = read_whole(&with("backup", before));
    assert_eq!(written(&flows), tnet(&http()));
}

#[test]
fn large_bodies_pass_in_pieces() {
    // 512 MiB in no memory: a flow whose body is made as it is read.
    let len = 512u64 << 20;
    let whole = tnet(&http());
    let key = whole.windows(12).position(|w| w == b"7:content;3:").expect("the response's body");
    let (before, after) = (&whole[..key + 10], &whole[key + 15..]);
    let added = format!("{len}:").len() as u64 + len - 5;
    let grown = |text: &[u8], name: &str| {
        // The lengths around it grow.
        let at = if name.is_empty() {
            0
        } else {
            text.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len()
        };
        let digits = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let old: u64 = std::str::from_utf8(&text[at..at + digits]).unwrap().parse().unwrap();
        let new = old + added;
        let more = (new.to_string().len() - digits) as u64;
        ([&text[..at], new.to_string().as_bytes(), &text[at + digits..]].concat(), more)
    };
    let (before, more) = grown(before, "8:response;");
    let (mut before, _) = grown(&before, "");
    if more > 0 {
        let digits = before.iter().take_while(|b| b.is_ascii_digit()).count();
        let total: u64 = std::str::from_utf8(&before[..digits]).unwrap().parse().unwrap();
        before = [(total + more).to_string().as_bytes(), &before[digits..]].concat();
    }
    let head = [&before[..], format!("{len}:").as_bytes()].concat();
    let file = io::Cursor::new(head).chain(io::repeat(b'z').take(len)).chain(io::Cursor::new(after.to_vec()));
    let mut decoder = decoder(Box::new(BufReader::with_capacity(1 << 16, file)));
    let mut sink = Memory { forgetful: true, ..Memory::default() };
    let flow = decoder.next(&mut sink).unwrap().unwrap().flow;
    assert_eq!(flow.response.unwrap().body.len, len);
    assert_eq!(sink.passed, len + 7);
    assert!(sink.longest <= 64 << 10);
    assert!(decoder.next(&mut sink).unwrap().is_none());
}
