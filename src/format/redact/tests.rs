//! What is masked, what stays, and that no bytes make it panic.

use proptest::prelude::*;

use super::*;
use crate::flow::{Imported, Request, Response};

struct One(Flow, Vec<Message>, Note);

impl Item for One {
    fn flow(&self) -> &Flow {
        &self.0
    }

    fn note(&self) -> &Note {
        &self.2
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        let body = match part {
            Part::Request => self.0.request.as_ref().map(|message| &message.body),
            Part::Response => self.0.response.as_ref().map(|message| &message.body),
            _ => None,
        };
        Ok(body.and_then(Body::as_inline).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>))
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.1.iter().try_for_each(each)
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        match &message.content {
            Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            _ => Ok(Box::new(io::empty())),
        }
    }
}

fn item(request: &[(&str, &str)], body: &[u8], response: &[(&str, &str)], answer: &[u8]) -> One {
    let flow = Flow {
        request: Some(Request {
            method: "POST".into(),
            target: "/cb?state=1&access_token=SECRET&key=SECRET#code=SECRET".into(),
            headers: request.iter().copied().collect(),
            body: Body::inline(body.to_vec()),
            raw_head: Some("SECRET".into()),
            ..Request::default()
        }),
        response: Some(Response {
            status: 200,
            headers: response.iter().copied().collect(),
            body: Body::inline(answer.to_vec()),
            ..Response::default()
        }),
        ..Flow::default()
    };
    One(flow, Vec::new(), Note::default())
}

fn text(item: &dyn Item, part: Part) -> String {
    let mut bytes = Vec::new();
    if let Some(mut body) = item.body(part).unwrap() {
        body.read_to_end(&mut bytes).unwrap();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fields(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn fields_and_urls_lose_their_secrets_and_keep_their_names() {
    let one = item(
        &[
            ("Authorization", "Basic SECRET"),
            ("Cookie", "a=SECRET; b=SECRET"),
            ("X-Api-Key", "SECRET"),
            ("Referer", "https://u:SECRET@a.example/p?token=SECRET&q=1"),
            ("Accept", "*/*"),
        ],
        b"",
        &[("Set-Cookie", "sid=SECRET; Path=/; HttpOnly"), ("Location", "/y#id_token=SECRET&x=1")],
        b"",
    );
    let mut masked = Masked::default();
    let redacted = Redacted::new(&one, &mut masked).unwrap();
    let request = redacted.flow().request.as_ref().unwrap();
    assert_eq!(request.target, "/cb?state=1&access_token=(redacted)&key=(redacted)#code=(redacted)");
    let expected = [
        ("Authorization", "Basic (redacted)"),
        ("Cookie", "a=(redacted); b=(redacted)"),
        ("X-Api-Key", "(redacted)"),
        ("Referer", "https://(redacted)@a.example/p?token=(redacted)&q=1"),
        ("Accept", "*/*"),
    ];
    assert!(fields(&request.headers).iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(expected));
    let expected =
        [("Set-Cookie", "sid=(redacted); Path=/; HttpOnly"), ("Location", "/y#id_token=(redacted)&x=1")];
    let response = redacted.flow().response.as_ref().unwrap();
    assert!(fields(&response.headers).iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(expected));
    assert!(!format!("{:?}", redacted.flow()).contains("SECRET"));
    let count = |name: &str| masked.by_name[name];
    assert_eq!((count("cookie"), count("access_token"), count("url user"), masked.values()), (2, 1, 1, 11));
}

#[test]
fn of_an_imported_flow_nothing_is_given_back_but_numbers_and_its_kind() {
    let mut one = item(&[], b"", &[], b"");
    let secret = || Value::Text("SECRET".into());
    let exact = [
        ("type", Value::Text("tcp".into())),
        ("request.timestamp_start", Value::Float(1.5)),
        ("request.path", Value::Bytes("/?token=SECRET".into())),
        ("error.msg", secret()),
        ("request.headers", Value::List(vec![Value::List(vec![secret(), secret()])])),
        ("response", Value::Dict(vec![(secret(), secret())])),
    ];
    one.0.imported = Some(Box::new(Imported {
        format: "mitmproxy 21".into(),
        id: "1".into(),
        metadata: Some(secret()),
        unknown: Some(secret()),
        exact: exact.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect(),
        backup: Some(Box::new(one.0.clone())),
    }));
    let redacted = Redacted::new(&one, &mut Masked::default()).unwrap();
    assert!(!format!("{:?}", redacted.flow()).contains("SECRET"));
    let kept = &redacted.flow().imported.as_ref().unwrap().exact;
    assert!(
        kept.iter().map(|(path, value)| (path.as_str(), value)).eq(exact[..2].iter().map(|(p, v)| (*p, v)))
    );
}

#[test]
fn bodies_lose_their_secrets_and_nothing_else() {
    let json =
        br#"{"user": "x", "pass\u0077ord" : "SEC\"RET", "n":[{"token":12345},{"tokens":["SECRET",{"a":1}]}],
        "code":7, "secret": null, "last_token":"SECRET"}"#;
    let one = item(
        &[("Content-Type", "application/json")],
        json,
        &[("content-type", "application/vnd.x+json")],
        b"[1, 2]",
    );
    let mut masked = Masked::default();
    let redacted = Redacted::new(&one, &mut masked).unwrap();
    let expected = r#"{"user": "x", "pass\u0077ord" : "(redacted)", "n":[{"token":"(redacted)"},{"tokens":"(redacted)"}],
        "code":7, "secret": null, "last_token":"(redacted)"}"#;
    assert_eq!(text(&redacted, Part::Request), expected);
    assert_eq!(text(&redacted, Part::Response), "[1, 2]");
    let form = item(
        &[("Content-Type", "application/x-www-form-urlencoded")],
        b"user=x&pass%77ord=SECRET&pin=",
        &[],
        b"",
    );
    assert_eq!(
        text(&Redacted::new(&form, &mut masked).unwrap(), Part::Request),
        "user=x&pass%77ord=(redacted)&pin="
    );
    let parts = b"--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nSECRET\r\n--B\r\nContent-Disposition: form-data; \
        name=\"x\"\r\n\r\ny\r\n--B--\r\n";
    let form = item(&[("Content-Type", "multipart/form-data; boundary=B")], parts, &[], b"<p>SECRET</p>");
    let redacted = Redacted::new(&form, &mut masked).unwrap();
    assert_eq!(text(&redacted, Part::Request), String::from_utf8_lossy(parts).replace("SECRET", MASK));
    assert_eq!(text(&redacted, Part::Response), "<p>SECRET</p>", "what is not looked through stays");
    let unknown = item(&[("Content-Type", "multipart/form-data")], parts, &[], b"");
    let redacted = Redacted::new(&unknown, &mut masked).unwrap();
    assert_eq!(redacted.flow.request.unwrap().body.content, Content::Absent, "nobody can tell its parts");
}

/// A type of bytes that are no UTF-8 ended an export: their place in the text is not that in the bytes.
#[test]
fn the_boundary_of_a_type_that_is_no_text_is_found() {
    let of_type = body::Shape::of_type;
    let parts = |boundary: &[u8]| Some(body::Shape::Parts(boundary.to_vec()));
    assert_eq!(of_type(b"multipart/form-data; x=\xe9\xe9\xe9\xe9\xe9; Boundary=\"aBc\""), parts(b"aBc"));
    assert_eq!(of_type(b"Multipart/Form-Data; boundary=\xe9 ; y"), parts(b"\xe9"));
    assert_eq!(
        (of_type(b"multipart/form-data; boundary="), of_type(b"multipart/form-data")),
        (parts(b""), parts(b""))
    );
}

#[test]
fn coded_bodies_are_coded_again_and_large_ones_left_out() {
    let gzip = |plain: &[u8]| {
        let mut coded = Vec::new();
        coding::apply(Box::new(Cursor::new(plain.to_vec())), coding::Coding::Gzip)
            .unwrap()
            .read_to_end(&mut coded)
            .unwrap();
        coded
    };
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let large = format!("{{\"token\":\"SECRET\",\"x\":\"{}\"}}", "y".repeat(5 << 20));
    let one = item(&headers, &gzip(br#"{"token":"SECRET"}"#), &headers, &gzip(large.as_bytes()));
    let mut masked = Masked::default();
    let redacted = Redacted::new(&one, &mut masked).unwrap();
    let mut plain = String::new();
    let body = redacted.body(Part::Request).unwrap().unwrap();
    coding::undo(body, &[coding::Coding::Gzip], Caps::default()).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, r#"{"token":"(redacted)"}"#);
    let response = &redacted.flow().response.as_ref().unwrap().body;
    assert_eq!(
        (&response.content, response.end, masked.bodies_left_out),
        (&Content::Absent, BodyEnd::Capped, 1)
    );
    assert!(redacted.body(Part::Response).unwrap().is_none());
}

#[test]
fn messages_are_masked_and_counted_once() {
    let message = |text: &'static str| Message {
        seq: 1,
        opcode: Opcode::Text,
        len: text.len() as u64,
        content: Content::Inline(text.into()),
        ..Message::default()
    };
    let mut one = item(&[], b"", &[], b"");
    one.0.websocket = Some(Box::default());
    one.1 = vec![message(r#"{"token":"SECRET"}"#), message("SECRET")];
    let redacted = Redacted::new(&one, &mut Masked::default()).unwrap();
    let mut seen = Vec::new();
    redacted
        .messages(&mut |message| {
            let mut text = String::new();
            redacted.payload(message)?.read_to_string(&mut text)?;
            seen.push((text, message.len));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [(r#"{"token":"(redacted)"}"#.to_owned(), 22), ("SECRET".to_owned(), 6)]);
    assert_eq!(redacted.of_messages.into_inner().by_name["token"], 1);
}

#[test]
fn of_large_messages_json_is_left_out_and_all_else_stays() {
    let mut one = item(&[], b"", &[], b"");
    one.0.websocket = Some(Box::default());
    let large = |begin: &str| {
        let text = format!("{begin}{}SECRET\"}}", "y".repeat(5 << 20));
        let len = text.len() as u64;
        Message { opcode: Opcode::Text, len, content: Content::Inline(text.into()), ..Message::default() }
    };
    one.1 = vec![large("{\"token\":\""), large("prose, ")];
    let redacted = Redacted::new(&one, &mut Masked::default()).unwrap();
    let mut seen = Vec::new();
    redacted
        .messages(&mut |message| {
            let mut text = String::new();
            redacted.payload(message)?.read_to_string(&mut text)?;
            seen.push((text.len() as u64 == message.len, text.contains("SECRET"), message.end));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [(false, false, BodyEnd::Capped), (true, true, one.1[1].end)]);
    assert_eq!(redacted.of_messages.into_inner().bodies_left_out, 1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, text in r#"[\[\]{}:,"\\a "]{0,40}"#) {
        let mut masked = Masked::default();
        for bytes in [&bytes[..], text.as_bytes(), &[text.as_bytes(), b"\"token\":", &bytes].concat()] {
            let _ = fields::url(bytes, &mut masked); // only that it does not panic, here and below
            for shape in [body::Shape::Json, body::Shape::Form, body::Shape::Parts(b"a".to_vec())] {
                let _ = shape.redact(bytes, &mut masked);
            }
            let _ = fields::headers(&[(&b"cookie"[..], bytes), (b"authorization", bytes)].into_iter().collect(), &mut masked);
        }
    }
}
