//! Messages of WebSockets: there and back, in pages; and a store of before there were any.

use std::io::Read;

use super::*;
use crate::flow::{BodyEnd, Message, MessageCoding, Opcode};

fn message(number: u32, content: Content) -> Message {
    let (seq, at) = (u64::from(number), number as usize);
    Message {
        seq,
        from_client: seq.is_multiple_of(2),
        opcode: [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close][at % 5],
        at_us: seq * 1000,
        len: seq,
        wire_len: seq + 1,
        coding: [MessageCoding::Plain, MessageCoding::Deflate, MessageCoding::Unknown][at % 3],
        fragments: u32::MAX,
        injected: seq.is_multiple_of(7),
        dropped: seq.is_multiple_of(5),
        end: [BodyEnd::Whole, BodyEnd::CutOff, BodyEnd::Capped, BodyEnd::Open, BodyEnd::Lost][at % 5],
        content,
    }
}

#[test]
fn messages_come_back_as_they_were_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let large = append(writer.segments(), Mid(5), &body_bytes(Mid(5), 20_000));
    let contents = [
        Content::Absent,
        Content::Inline(Bytes::new()),
        Content::Inline("abc".into()),
        Content::Extents(large),
    ];
    let all: Vec<_> = (1..=40).map(|n| message(n, contents[n as usize % 4].clone())).collect();
    let mut group = Group::default();
    for message in &all {
        group.push_message(Mid(5), message);
        group.push_message(Mid(4), &Message { seq: message.seq + 100, ..Message::default() });
    }
    assert_eq!((group.len(), group.messages(), group.is_empty()), (80, 80, false));
    writer.commit(&mut group).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.messages(Mid(5), 0, 100).unwrap(), all);
    assert_eq!(reader.messages(Mid(5), 38, 100).unwrap(), all[38..]);
    assert_eq!(reader.messages(Mid(5), 3, 2).unwrap(), all[3..5]);
    assert!(reader.messages(Mid(5), 40, 2).unwrap().is_empty());
    assert!(reader.messages(Mid(6), 0, 2).unwrap().is_empty());
    assert_eq!([4, 5, 6].map(|mid| reader.last_message(Mid(mid)).unwrap()), [140, 40, 0]);
    let mut payload = Vec::new();
    reader.content(&all[2].content).unwrap().read_to_end(&mut payload).unwrap();
    assert_eq!(payload, body_bytes(Mid(5), 20_000));
    writer.close().unwrap();
}

fn expect_old_flows(reader: &Reader) {
    let states = [State::Complete, State::Failed, State::Complete];
    for (n, state) in (1..).zip(states) {
        assert_eq!(reader.flow(Mid(n)).unwrap().unwrap().state, state);
        assert!(reader.messages(Mid(n), 0, 10).unwrap().is_empty());
        assert_eq!(reader.last_message(Mid(n)).unwrap(), 0);
    }
    assert!(reader.list(&ListQuery::default()).unwrap().len() >= 3);
    let upload = reader.load(Mid(3), 1 << 20).unwrap().unwrap().request.unwrap().body;
    assert_eq!(upload.as_inline().unwrap(), &vec![0; 5000]);
}

#[test]
fn older_stores_are_read_as_they_are_and_upgraded_by_a_writer() {
    for old_version in [1, 2, 3] {
        expect_upgrade(old_version);
    }
}

fn expect_upgrade(old_version: u32) {
    let dir = tempfile::tempdir().unwrap();
    let path = of_version(dir.path(), old_version);
    let version = || {
        let header = std::fs::read(&path).unwrap();
        u32::from_be_bytes(header[60..64].try_into().unwrap())
    };
    // A reader changes nothing, and goes on reading when a writer has upgraded the store under it.
    let early = Reader::open(&path).unwrap();
    expect_old_flows(&early);
    assert_eq!(version(), old_version);
    let mut writer = open(&path);
    assert_eq!(writer.next_ids(), (4, 7));
    expect_old_flows(&early);
    let mut group = Group::default();
    let mut bytes = Vec::new();
    let draft = Draft::new(Mid(4), &flow(Mid(4), State::Complete, Content::Absent), false, &mut bytes);
    group.push(draft, &bytes);
    group.push_message(Mid(4), &message(1, Content::Inline("new".into())));
    writer.commit(&mut group).unwrap();
    assert_eq!(early.messages(Mid(4), 0, 10).unwrap().len(), 1);
    assert_eq!(early.flow(Mid(4)).unwrap().unwrap().response.unwrap().status, 200);
    writer.close().unwrap();
    assert_eq!(version(), schema::VERSION);
    drop(early);
    // Once is enough.
    open(&path).close().unwrap();
    let reader = Reader::open(&path).unwrap();
    expect_old_flows(&reader);
    assert_eq!(reader.messages(Mid(4), 0, 10).unwrap(), [message(1, Content::Inline("new".into()))]);
}
