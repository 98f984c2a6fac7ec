//! The command line on a WebSocket: `ls`, `show` and `cat` of its messages.

use manent::flow::{
    Body, BodyEnd, Content, Flow, Framing, Message, MessageCoding, Mid, Opcode, Response, State, WebSocket,
};
use manent::record::BodySide;
use serde_json::{Value, json};

use crate::cli::{Home, flow, parse, text};

fn message(seq: u64, from_client: bool, opcode: Opcode, payload: &'static [u8]) -> Message {
    Message {
        seq,
        from_client,
        opcode,
        at_us: seq * 1000,
        len: payload.len() as u64,
        wire_len: payload.len() as u64,
        fragments: 1,
        end: BodyEnd::Whole,
        content: Content::Inline(payload.into()),
        ..Message::default()
    }
}

/// A store with one WebSocket, mid 1, of these messages.
fn home(messages: &[Message]) -> Home {
    let home = Home::new();
    let recorder = home.recorder();
    home.runtime.block_on(async {
        let body = Body { framing: Framing::None, end: BodyEnd::Whole, ..Body::default() };
        let websocket = WebSocket {
            closed_by_client: Some(false),
            close_code: Some(1000),
            close_reason: Some("bye\u{7}".into()),
            messages_from_client: messages.iter().filter(|m| m.from_client).count() as u64,
            messages_from_server: messages.iter().filter(|m| !m.from_client).count() as u64,
            ..WebSocket::default()
        };
        let flow = Flow {
            response: Some(Response { status: 101, body, ..Response::default() }),
            websocket: Some(Box::new(websocket)),
            ..flow("/chat", b"")
        };
        let mut ticket = recorder.admit().await;
        assert_eq!(ticket.mid(), Mid(1));
        ticket.write_open(&Flow { state: State::Open, ..flow.clone() });
        let writer = ticket.messages();
        for message in messages {
            let mut message = message.clone();
            if let Content::Inline(payload) = &message.content
                && payload.len() > 2048
            {
                let mut body = ticket.body(BodySide::MessageServer);
                body.write(payload.clone()).await;
                message.content = Content::Extents(body.take_extents());
            }
            writer.push(&message);
        }
        ticket.finish(&flow);
        recorder.close().await.unwrap();
    });
    home
}

fn conversation() -> Home {
    const LARGE: [u8; 5000] = [b'x'; 5000];
    let cut = Message {
        end: BodyEnd::CutOff,
        len: 20,
        coding: MessageCoding::Deflate,
        wire_len: 1500,
        ..message(5, true, Opcode::Text, b"cut")
    };
    home(&[
        message(1, true, Opcode::Text, b"hello\n\x1b[31m"),
        Message { fragments: 2, ..message(2, false, Opcode::Binary, b"\x00\x01\xff") },
        message(3, false, Opcode::Ping, b"there?"),
        message(4, false, Opcode::Text, &LARGE),
        cut,
        message(6, false, Opcode::Close, b"\x03\xe8bye\x07"),
    ])
}

#[test]
fn show_prints_a_line_a_message_escaped() {
    let home = conversation();
    let shown = text(&home.run(&["show", "1"]).stdout);
    for line in [
        "WebSocket: 6 messages, closed by the origin: 1000 bye\\x07\n",
        "     1    1.0ms → text      11  hello\\n\\x1b[31m\n",
        "     2    2.0ms ← binary     3  00 01 ff  (2 fragments)\n",
        "     3    3.0ms ← ping       6  there?\n",
        "     4    4.0ms ← text    5.0k  xxxxxxx",
        "     5    5.0ms → text      20  cut…  (1.5k deflated, cut off on the wire)\n",
        "     6    6.0ms ← close      6  1000 bye\\x07\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert!(!shown.contains('\x1b') && !shown.contains('\x07'));
    let shown = text(&home.run(&["show", "1", "--messages", "2", "--after", "1", "--max-body", "3"]).stdout);
    assert!(
        shown.contains("     3    3.0ms ← ping       6  the…\n") && !shown.contains("     4 "),
        "{shown}"
    );
    assert!(shown.contains("(3 more; manent show 1 --after 3)"), "{shown}");
}

#[test]
fn show_json_holds_the_messages_under_stable_keys() {
    let home = conversation();
    let all = parse(&home.run(&["show", "1", "--json"]).stdout);
    let messages = all["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &all["messages_left"]), (6, &json!(0)));
    let first = json!({
        "seq": 1, "from_client": true, "opcode": "text", "at_us": 1000, "len": 11, "wire_len": 11,
        "coding": "plain", "fragments": 1, "injected": false, "dropped": false, "end": "whole", "text": "hello\n\u{1b}[31m",
    });
    assert_eq!(messages[0], first);
    assert_eq!((&messages[1]["base64"], &messages[1]["text"]), (&json!("AAH/"), &Value::Null));
    assert_eq!(messages[3]["text"].as_str().map(str::len), Some(5000));
    assert_eq!((&messages[4]["coding"], &messages[4]["end"]), (&json!("deflate"), &json!("cut-off")));
    let websocket = &all["websocket"];
    assert_eq!((&websocket["messages_from_client"], &websocket["close_code"]), (&json!(2), &json!(1000)));
    let page = ["show", "1", "--json", "--messages", "1", "--after", "3", "--max-body", "10"];
    let page = parse(&home.run(&page).stdout);
    assert_eq!((&page["messages"][0]["seq"], &page["messages_left"]), (&json!(4), &json!(2)));
    assert_eq!(page["messages"][0]["left_out"], "longer than --max-body");
    // Another flow has none.
    let plain = Home::with([flow("/", b"")]);
    let plain = parse(&plain.run(&["show", "1", "--json"]).stdout);
    assert_eq!((plain.get("messages"), plain.get("messages_left")), (None, None));
}

#[test]
fn cat_writes_what_one_end_said() {
    let home = conversation();
    let output = home.run(&["cat", "1"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = [&b"\x00\x01\xff"[..], &[b'x'; 5000]].concat();
    assert!(output.stdout == expected);
    let output = home.run(&["cat", "1", "--request"]);
    assert_eq!(output.stdout, b"hello\n\x1b[31mcut");
    home.refuses(&["cat", "1", "--request"], 1, "the message of flow 1 is not whole");
}

#[test]
fn ls_counts_the_messages() {
    let home = conversation();
    let row = parse(&home.run(&["ls", "--json"]).stdout);
    assert_eq!((&row["status"], &row["messages"]), (&json!(101), &json!(6)));
}

#[test]
fn cat_writes_one_message() {
    let home = conversation();
    for (seq, payload) in [("1", &b"hello\n\x1b[31m"[..]), ("3", b"there?"), ("4", &[b'x'; 5000])] {
        let output = home.run(&["cat", "1", "--message", seq]);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), payload), "{seq}");
    }
    let cut = home.run(&["cat", "1", "--message", "5"]);
    assert_eq!((cut.status.code(), &cut.stdout[..]), (Some(1), &b"cut"[..]));
    for seq in ["0", "7", "18446744073709551615"] {
        let told = home.refuses(&["cat", "1", "--message", seq], 1, "error[E205]");
        assert!(told.contains("It has 6 messages."), "{told}");
    }
    home.refuses(&["cat", "1", "--message", "1", "--request"], 2, "cannot be used with");
    let plain = Home::with([flow("/", b"")]);
    plain.refuses(&["cat", "1", "--message", "1"], 1, "error[E205]");
}

/// RFC 6455 §8.1, §7.4: what a receiver would find wrong is told beside it.
#[test]
fn show_tells_text_that_is_none_and_codes_that_may_not_be_sent() {
    let home = home(&[
        message(1, true, Opcode::Text, b"caf\xe9"),
        message(2, true, Opcode::Text, "café".as_bytes()),
        message(3, true, Opcode::Close, b"\x03\xed"),
        message(4, false, Opcode::Close, b"\x03\xe8\xff"),
    ]);
    let shown = text(&home.run(&["show", "1", "--max-body", "4"]).stdout);
    for line in [
        "→ text       4  caf\\xe9  (not UTF-8)\n",
        "→ close      2  1005  (a code that is never to be sent)\n",
        "← close      3  1000 \\xff  (not UTF-8)\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert_eq!(shown.matches("not UTF-8").count(), 2, "{shown}");
}
