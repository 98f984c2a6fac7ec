//! What is written is what serde_json reads, and the other way round; limits; nothing makes it panic.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::{JsonError, Kind, Reader, Writer};

/// Gives one byte a call, so that every boundary is between two reads; or so many.
struct Drop<'a>(&'a [u8], usize);

impl std::io::Read for Drop<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = self.0.len().min(buf.len()).min(self.1);
        buf[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn raw(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    assert!(Reader::new(Drop(text, 1)).raw(usize::MAX, &mut out)?);
    Ok(out)
}

fn text(json: &str) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    Reader::new(Drop(json.as_bytes(), 1)).string(|piece| {
        out.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(out)
}

/// A string read so many bytes a call, and what is wrong with it.
fn text_by(len: usize, json: &[u8], of_lines: bool) -> Result<Vec<u8>, String> {
    let reader = Reader::new(Drop(json, len));
    let mut reader = if of_lines { reader.of_lines() } else { reader };
    let mut out = Vec::new();
    let read = reader.string(|piece| {
        out.extend_from_slice(piece);
        Ok(())
    });
    read.map(|()| out).map_err(|error| error.to_string())
}

/// Long enough for all ways to go through text, with escapes close together and far apart.
fn long_text() -> impl Strategy<Value = String> {
    let piece =
        prop_oneof!["[\"\\\\\n\t\u{1}\u{7f}/]{1,4}", "[ -~]{0,12}", "[a-zé€😀]{0,60}", any::<String>()];
    vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn write(json: &mut Writer<'_>, value: &Value) {
    match value {
        Value::Null => {
            json.null();
        }
        Value::Bool(is) => {
            json.bool(*is);
        }
        Value::Number(number) => {
            match number.as_i64() {
                Some(number) => json.int(number),
                None => json.float(number.as_f64().unwrap()),
            };
        }
        Value::String(text) => {
            json.text(text);
        }
        Value::Array(items) => {
            json.open_array();
            items.iter().for_each(|item| write(json, item));
            json.close_array();
        }
        Value::Object(members) => {
            json.open();
            for (name, value) in members {
                json.name(name);
                write(json, value);
            }
            json.close();
        }
    }
}

#[test]
fn escapes_are_undone() {
    assert_eq!(text(r#""a\"\\\/\b\f\n\r\t\u0041é""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tAé".as_bytes());
    assert_eq!(text(r#""\ud83d\ude00\uD83D\uDE00""#).unwrap(), "😀😀".as_bytes());
    // Halves of a pair, before and behind other things.
    assert_eq!(
        text(r#""\ud83d\ud83d\ude00\ud83d\n\ud83dx\udc00""#).unwrap(),
        "\u{fffd}😀\u{fffd}\n\u{fffd}x\u{fffd}".as_bytes()
    );
    assert_eq!(text(r#""\udc80\udcff""#).unwrap(), [0x80, 0xff]);
    assert_eq!(text("\"a\nb\"").unwrap(), b"a\nb");
    for bad in [r#""\x""#, r#""\u12g4""#, "\"abc", "\"\\", "abc"] {
        assert!(text(bad).is_err(), "{bad}");
    }
}

#[test]
fn errors_tell_the_place() {
    for (bad, place, word) in [
        ("{\"a\":1,}", 7, "a string"),
        ("[1 2]", 3, "`,` or `]`"),
        ("[tru]", 4, "no word"),
        ("[1.2.3]", 5, "no number"),
        ("{\"a\" 1}", 5, "`:`"),
        ("[1", 2, "ends"),
        ("", 0, "ends"),
        ("[}", 1, "a value"),
    ] {
        let told = raw(bad.as_bytes()).unwrap_err().to_string();
        assert!(told.starts_with(&format!("at byte {place}:")) && told.contains(word), "{bad}: {told}");
    }
    let deep = raw("[".repeat(1000).as_bytes()).unwrap_err().to_string();
    assert!(deep.contains("too deep"), "{deep}");
}

#[test]
fn what_is_too_long_is_read_and_said_to_be() {
    let mut reader = Reader::new(&br#"["abcdef",{"a":[1,2,3]},12]"#[..]);
    let (mut text, mut bytes) = (String::new(), Vec::new());
    reader.enter_array().unwrap();
    assert!(reader.next_value().unwrap() && reader.peek().unwrap() == Kind::String);
    assert!(!reader.text(3, &mut text).unwrap() && text == "abc");
    assert!(reader.next_value().unwrap() && !reader.raw(4, &mut bytes).unwrap());
    assert!(reader.next_value().unwrap());
    reader.number(&mut text).unwrap();
    assert!(text == "12" && !reader.next_value().unwrap() && reader.is_at_end().unwrap());
}

#[test]
fn an_object_is_found_behind_damage() {
    let text = br#"{"all":[{"id":1},{"id":"{\"id\":7}" x, {"other":1}, { "id" : 2},{"id":3}],"end":true}"#;
    let mut reader = Reader::new(Drop(text, 1));
    let (mut name, mut number) = (String::new(), String::new());
    reader.enter_object().unwrap();
    assert!(reader.next_member(&mut name).unwrap());
    reader.enter_array().unwrap();
    let mark = reader.mark();
    assert!(reader.next_value().unwrap());
    reader.skip().unwrap();
    assert!(reader.next_value().unwrap());
    reader.skip().unwrap_err();
    assert!(reader.find_object(&["id".to_owned()], &mark).unwrap());
    assert!(reader.next_member(&mut name).unwrap() && name == "id");
    reader.number(&mut number).unwrap();
    assert!(number == "2" && !reader.next_member(&mut name).unwrap() && reader.next_value().unwrap());
    reader.skip().unwrap();
    assert!(!reader.next_value().unwrap() && reader.next_member(&mut name).unwrap() && name == "end");
    assert_eq!(reader.literal().unwrap(), Some(true));
    assert!(!reader.next_member(&mut name).unwrap() && reader.depth() == 0);
    assert!(!reader.find_object(&["id".to_owned()], &mark).unwrap());
}

#[test]
fn text_from_a_reader_is_cut_nowhere() {
    let long = "aé€😀\"\\\n".repeat(20_000);
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    let mut json = Writer::new(&mut out, &mut buffer);
    json.open_array();
    assert_eq!(json.text_from(&mut long.as_bytes()).unwrap().0, long.len() as u64);
    json.text_from(&mut &b"a\xff\xe2\x82"[..]).unwrap().1.unwrap();
    json.base64(&mut &long.as_bytes()[..50_001]).unwrap().1.unwrap();
    json.close_array().flush().unwrap();
    let back: Vec<String> = serde_json::from_slice(&out).unwrap();
    assert!(back[0] == long && back[1] == "a\u{fffd}\u{fffd}");
    use base64::Engine as _;
    assert!(base64::engine::general_purpose::STANDARD.decode(&back[2]).unwrap() == long.as_bytes()[..50_001]);
}

proptest! {
    #[test]
    fn what_is_written_is_what_was_given(value in value()) {
        let (mut out, mut buffer) = (Vec::new(), Vec::new());
        let mut json = Writer::new(&mut out, &mut buffer);
        write(&mut json, &value);
        json.flush().unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Value>(&out).unwrap(), &value);
        prop_assert_eq!(raw(&out).unwrap(), out);
    }

    #[test]
    fn what_is_read_is_what_was_written(value in value()) {
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Value>(&raw(&pretty).unwrap()).unwrap(), &value);
        if let Value::String(string) = &value {
            prop_assert_eq!(text(&value.to_string()).unwrap(), string.as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in r#"[\[\]{}:,"\\u0-9a-f tn.-]{0,60}"#, more: Vec<u8>) {
        for bytes in [bytes.as_bytes(), &more] {
            // All that is JSON to serde_json is JSON here.
            if serde_json::from_slice::<Value>(bytes).is_ok() {
                prop_assert!(raw(bytes).is_ok());
            } else {
                let _ = raw(bytes);
            }
        }
    }

    #[test]
    fn long_strings_come_back(text in long_text(), len in 1usize..2000) {
        let (mut out, mut buffer) = (Vec::new(), Vec::new());
        Writer::new(&mut out, &mut buffer).text(&text).flush().unwrap();
        prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
        for json in [out, serde_json::to_vec(&text).unwrap()] {
            for len in [1, len, usize::MAX] {
                prop_assert_eq!(text_by(len, &json, true).unwrap(), text.as_bytes());
            }
        }
    }

    #[test]
    fn broken_strings_break_at_the_same_place_however_they_are_read(
        text in r#"([a-z]{0,20}(\\["\\/bfnrtux]|\n|\\u[0-9a-f]{3,4}|"?)){0,60}"#,
        len in 1usize..100,
        of_lines: bool,
    ) {
        let json = format!("\"{text}");
        let whole = text_by(usize::MAX, json.as_bytes(), of_lines);
        for len in [1, len] {
            prop_assert_eq!(&text_by(len, json.as_bytes(), of_lines), &whole);
        }
    }

    #[test]
    fn values_at_hand_are_those_that_raw_gives(value in value(), pretty: bool, len in 1usize..100) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let list = [b"[1,", &text[..], b" ,2]"].concat();
        for len in [len, usize::MAX] {
            let mut reader = Reader::new(Drop(&list, len));
            reader.enter_array().unwrap();
            prop_assert!(reader.next_value().unwrap());
            reader.skip().unwrap();
            prop_assert!(reader.next_value().unwrap());
            match reader.value_at_hand() {
                Some((found, found_len)) => {
                    prop_assert_eq!(&found, &value);
                    prop_assert_eq!(found_len, text.len());
                }
                None => {
                    prop_assert!(len < usize::MAX);
                    reader.skip().unwrap();
                }
            }
            prop_assert!(reader.next_value().unwrap());
            reader.skip().unwrap();
            prop_assert!(!reader.next_value().unwrap());
        }
    }
}

#[test]
fn no_value_is_at_hand_that_may_go_on_or_is_too_deep() {
    let at_hand = |text: &[u8]| {
        let mut reader = Reader::new(text);
        reader.peek().unwrap();
        reader.value_at_hand()
    };
    assert_eq!(at_hand(b"12"), None, "more digits may follow");
    assert_eq!(at_hand(b"12 "), Some((12.into(), 2)));
    assert_eq!(
        at_hand(b"[1, \"a\nb\"] "),
        None,
        "a control character, which we take and serde_json does not"
    );
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth), b" ".to_vec()].concat();
    assert!(at_hand(&nested(120)).is_some());
    assert_eq!(at_hand(&nested(121)), None);
}
