//! Commands out and in; that they send the same bytes is seen with HTTPie itself, in `tests/clients`.

use proptest::prelude::*;

use super::super::sample::{Sample, asking, decoded, encoded, request};
use super::super::transfer::{DecodeError, EncodeError, EncodeOptions};
use super::FORMAT;
use crate::flow::Request;

fn command(sample: &Sample) -> Result<String, EncodeError> {
    let out = encoded(&FORMAT, std::slice::from_ref(sample), &EncodeOptions::default())?;
    Ok(String::from_utf8(out).unwrap())
}

fn read(command: &str) -> Request {
    let mut all = decoded(&FORMAT, command.as_bytes());
    assert_eq!(all.len(), 1, "{command}");
    all.remove(0).unwrap().flow.request.unwrap()
}

fn fields(request: &Request) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    fields.join("|")
}

#[test]
fn a_request_is_a_command_with_items() {
    let headers =
        [("Host", "a.test:81"), ("X", "=it's"), ("E", ""), ("Content-Type", "a/b"), ("Content-Length", "2")];
    let expected = "http --ignore-stdin --raw 'hi' POST 'http://a.test:81/x' \\\n  'User-Agent:' \\\n  'Accept-Encoding:' \\\n  \
                    'Accept:' \\\n  'Connection:' \\\n  'Host:a.test:81' \\\n  'X:\\=it'\\''s' \\\n  'E;' \\\n  'Content-Type:a/b'\n";
    assert_eq!(command(&asking("POST", "http://a.test:81/x", &headers, b"hi")).unwrap(), expected);
    let binary = command(&asking("POST", "http://a.test:81/x", &headers, b"\0")).unwrap();
    assert!(binary.starts_with("printf '\\000' | http POST 'http://a.test:81/x' \\\n"), "{binary}");
}

#[test]
fn what_httpie_would_change_is_refused() {
    for (method, path, value) in [
        ("get", "/", "x"),
        ("GET", "/%2f", "x"),
        ("GET", "/a/../b", "x"),
        ("GET", "/x", "a\\:b"),
        ("GET", "/x", "\\\\\\=b"),
    ] {
        let sample = asking(method, &format!("http://a:80{path}"), &[("X", value)], b"");
        assert!(matches!(command(&sample), Err(EncodeError::Unsuitable(_))), "{method} {path} {value}");
    }
}

#[test]
fn items_and_options_mean_what_httpie_makes_of_them() {
    let own = "Accept-Encoding: gzip, deflate|Accept: ";
    let json = read("http a.test/x q==1 'b c==d e' a=1 n:=[1,null] X:y Accept-Encoding:");
    assert_eq!((&json.method[..], &json.target[..]), (&b"POST"[..], &b"/x?q=1&b+c=d+e"[..]));
    assert_eq!(json.body.as_inline().unwrap(), "{\"a\":\"1\",\"n\":[1,null]}");
    assert_eq!(
        fields(&json),
        "Host: a.test|Accept: application/json, */*;q=0.5|Connection: keep-alive|Content-Type: application/json|Content-Length: 22|X: y"
    );
    let form = read("https -f PUT a.test 'a=b c' -a u:p");
    assert_eq!((&form.method[..], form.body.as_inline().unwrap()), (&b"PUT"[..], &"a=b+c".into()));
    assert!(fields(&form).ends_with("Content-Length: 5|Authorization: Basic dTpw"), "{}", fields(&form));
    let local = decoded(&FORMAT, b"xhs -v --timeout=3 :8080/y -A bearer -a t").remove(0).unwrap().flow;
    assert_eq!(local.url(), "https://localhost:8080/y");
    assert_eq!(
        fields(local.request.as_ref().unwrap()),
        format!("Host: localhost:8080|{own}*/*|Connection: keep-alive|Authorization: Bearer t")
    );
    assert_eq!(decoded(&FORMAT, b"http localhost").remove(0).unwrap().flow.url(), "http://localhost/");
    assert_eq!(read("http --raw x --chunked a.test").body.framing, crate::flow::Framing::Chunked);
}

#[test]
fn what_is_not_understood_is_told_with_its_place() {
    for (command, position, word) in [
        ("http a.test --frob", 12, "not known"),
        ("http a.test x@/etc/passwd", 12, "file"),
        ("http a.test x=@/etc/passwd", 12, "file"),
        ("http a.test nothing", 12, "no request item"),
        ("http a.test a[b]=1", 12, "nested"),
        ("http a.test a:={", 12, "not JSON"),
        ("http", 0, "no URL"),
        ("curl a.test", 0, "no HTTPie"),
        ("http --raw x a.test a=b", 0, "mixed"),
        ("http a.test --raw", 12, "no value"),
    ] {
        match decoded(&FORMAT, command.as_bytes()).remove(0) {
            Err(DecodeError::Flow { position: at, what }) => {
                assert!(at == position && what.contains(word), "{command}: {at} {what}")
            }
            other => panic!("{command}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_asks_for_the_same(sample in request()) {
        if let Ok(command) = command(&sample) {
            let (read, written) = (read(&command), sample.flow.request.as_ref().unwrap());
            prop_assert_eq!((&read.method, &read.target), (&written.method, &written.target));
            prop_assert_eq!((read.body.as_inline(), read.body.framing), (written.body.as_inline(), written.body.framing));
            let is_framing = |name: &[u8]| name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding");
            let rest = |request: &Request| request.headers.iter().filter(|(name, _)| !is_framing(name)).map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>();
            prop_assert_eq!(rest(&read), rest(written));
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in "http [-a-zA-Z0-9 '\"\\\\$@=:;/&\n]*", bytes: Vec<u8>) {
        let _ = (decoded(&FORMAT, text.as_bytes()), decoded(&FORMAT, &[b"http ", &bytes[..]].concat()));
    }
}
