//! Checks from below: messages, and whatever bytes a file may hold.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::flow::{Message, Opcode, WebSocket};

/// Flows whose lengths are right: an inline body, one in a segment, and a WebSocket with messages of both sorts.
fn store(dir: &Path) -> PathBuf {
    let path = dir.join("f.db");
    let mut writer = open(&path);
    let whole = |mid, content, len| {
        let mut flow = flow(mid, State::Complete, content);
        let body = &mut flow.response.as_mut().unwrap().body;
        (body.len, body.end) = (len, BodyEnd::Whole);
        flow.timing.end_us = Some(1);
        flow
    };
    let large = Content::Extents(append(writer.segments(), Mid(2), &body_bytes(Mid(2), 25_000)));
    let mut websocket = whole(Mid(3), Content::Absent, 0);
    websocket.websocket = Some(Box::new(WebSocket { messages_from_server: 3, ..WebSocket::default() }));
    let mut extents = Vec::new();
    let payload = Bytes::from(body_bytes(Mid(3), 3000));
    writer.segments().append(Mid(3), BodySide::MessageServer, 7, payload, &mut extents);
    let message = |seq, content, len| Message {
        seq,
        opcode: Opcode::Binary,
        len,
        end: BodyEnd::Whole,
        content,
        ..Message::default()
    };
    let mut group = Group::default();
    (group.next_mid, group.next_conn) = (4, 2);
    for flow in [whole(Mid(1), Content::Inline("abc".into()), 3), whole(Mid(2), large, 25_000), websocket] {
        let mut bytes = Vec::new();
        let draft = Draft::new(flow.mid.unwrap(), &flow, false, &mut bytes);
        group.push(draft, &bytes);
    }
    group.push_message(Mid(3), &message(1, Content::Inline("ab".into()), 2));
    group.push_message(Mid(3), &message(2, Content::Extents(extents), 3000));
    writer.commit(&mut group).unwrap();
    writer.close().unwrap();
    path
}

/// What is damaged, and what was looked at.
fn check(path: &Path) -> Result<(Vec<Damage>, Checked), StoreError> {
    let mut damages = Vec::new();
    let reader = Reader::open(path)?;
    let checked = reader.check(
        |damage| {
            damages.push(damage.clone());
            Ok::<_, StoreError>(())
        },
        |_, _| (),
    )?;
    assert_eq!(checked.damages, damages.len() as u64);
    Ok((damages, checked))
}

#[test]
fn messages_are_looked_at_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path());
    let (damages, checked) = check(&path).unwrap();
    assert_eq!(damages, []);
    assert_eq!((checked.flows, checked.messages, checked.missing_messages), (3, 2, 1));
    let segments = Reader::open(&path).unwrap().files().unwrap().segments;
    assert_eq!((checked.live_bytes, checked.dead_bytes), (segments, 0));
    let told = |sql: &str| {
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!("SAVEPOINT before; {sql}; RELEASE before")).unwrap();
        let told: Vec<_> =
            check(&path).unwrap().0.iter().map(|d| format!("{} {}", d.part, d.detail)).collect();
        told
    };
    let short = told("UPDATE message SET len = 5 WHERE seq = 1");
    assert_eq!(short, ["message 1 2 bytes are recorded of 5, though it says that it is whole"]);
    let long = told("UPDATE message SET len = 1 WHERE seq = 1");
    assert_eq!(long, ["message 1 2 bytes are recorded, and 1 passed"]);
    let side =
        told("UPDATE message SET len = 2; UPDATE message SET len = 3000, from_client = 1 WHERE seq = 2");
    assert!(side.len() == 1 && side[0].ends_with("a piece of something else, of flow 3"), "{side:?}");
    let poison = told("UPDATE message SET extents = x'ff' WHERE seq = 2");
    assert!(poison.len() == 1 && poison[0].starts_with("message 2 "), "{poison:?}");
    let more = told(
        "UPDATE message SET extents = NULL, payload = NULL, len = 0 WHERE seq = 2;
         INSERT INTO message SELECT mid, seq + 10, from_client, opcode, at_us, len, wire_len, coding, fragments, injected,
           body_end, payload, extents, dropped FROM message",
    );
    assert_eq!(more, ["messages 4 are there, and 3 passed"]);
}

#[test]
fn a_body_that_is_another_ones_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let extents = append(writer.segments(), Mid(1), &body_bytes(Mid(1), 25_000));
    let mut flows = Vec::new();
    // Of another flow; its middle alone, and its beginning twice; longer than it is; beyond all segments.
    let Extent { segment, offset, .. } = extents[0];
    let part = |offset, stored_len, len| Extent { segment, offset, stored_len, len };
    let (second, rest) = (offset + 10_032, part(offset + 10_032, 10_032, 10_000));
    let odd = [
        vec![Extent { len: 24_999, ..extents[0] }],
        vec![rest],
        vec![part(offset, 10_032, 10_000), part(offset, 10_032, 10_000)],
        vec![part(second + 1, 10_032, 10_000)],
        vec![Extent { segment: 99, ..extents[0] }],
        vec![Extent { offset: u64::MAX, ..extents[0] }],
    ];
    for extents in [&[extents][..], &odd].concat() {
        let mut flow = flow(Mid(1), State::Complete, Content::Extents(extents));
        flow.response.as_mut().unwrap().body.len = 30_000;
        flows.push(flow);
    }
    let mut told = Vec::new();
    for flow in &flows {
        let mut bytes = Vec::new();
        let draft = Draft::new(Mid(1), flow, true, &mut bytes);
        let mut group = Group::default();
        (group.next_mid, group.next_conn) = (2, 2);
        group.push(draft, &bytes);
        writer.commit(&mut group).unwrap();
        told.push(check(&path).unwrap().0.into_iter().map(|d| (d.part, d.detail)).collect::<Vec<_>>());
    }
    writer.close().unwrap();
    assert_eq!(told[0], []);
    let words = [
        "25000 bytes are there, and 24999 should be",
        "piece 1 is not the one that follows",
        "piece 0 is not the one that follows",
        "is damaged at offset",
        "segment 000099: ",
        "out of range",
    ];
    for (told, words) in told[1..].iter().zip(words) {
        assert!(told.len() == 1 && told[0].0 == "response body" && told[0].1.contains(words), "{told:?}");
    }
}

/// The files of [`store`], made once: database and segment.
static SOUND: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path());
    (std::fs::read(path).unwrap(), std::fs::read(dir.path().join("f.db-bodies/000001.seg")).unwrap())
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    /// Any bytes anywhere: it ends, without a panic, and a segment's are never taken for good.
    #[test]
    fn any_changed_bytes_are_survived(
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..64),
        in_segment in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (path, segment) = (dir.path().join("f.db"), dir.path().join("f.db-bodies/000001.seg"));
        std::fs::create_dir(dir.path().join("f.db-bodies")).unwrap();
        std::fs::write(&path, &SOUND.0).unwrap();
        std::fs::write(&segment, &SOUND.1).unwrap();
        let (target, mut file) = if in_segment { (&segment, SOUND.1.clone()) } else { (&path, SOUND.0.clone()) };
        let at = at.index(file.len());
        let end = file.len().min(at + bytes.len());
        let before = file[at..end].to_vec();
        file[at..end].copy_from_slice(&bytes[..end - at]);
        let changed = file[at..end] != before;
        std::fs::write(target, file).unwrap();
        match check(&path) {
            Ok((damages, _)) => prop_assert!(!(in_segment && changed && damages.is_empty())),
            Err(_) => prop_assert!(!in_segment),
        }
    }
}
