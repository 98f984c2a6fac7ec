//! Commands out and in; that they send the same bytes is seen with curl itself, in `tests/clients`.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::sample::{Sample, asking, decoded, encoded, request};
use super::super::transfer::{DecodeError, EncodeError, EncodeOptions};
use super::FORMAT;
use crate::flow::{BodyEnd, Framing, Request, Scheme, State, Version};

fn command(sample: &Sample) -> String {
    let out = encoded(&FORMAT, std::slice::from_ref(sample), &EncodeOptions::default()).unwrap();
    String::from_utf8(out).unwrap()
}

fn read(command: &str) -> Request {
    let mut all = decoded(&FORMAT, command.as_bytes());
    assert_eq!(all.len(), 1, "{command}");
    all.remove(0).unwrap().flow.request.unwrap()
}

fn fields(request: &Request) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    request.headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
}

fn refusal(sample: &Sample) -> String {
    match encoded(&FORMAT, std::slice::from_ref(sample), &EncodeOptions::default()) {
        Err(EncodeError::Unsuitable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_request_is_a_plain_command() {
    let fields = [("Host", "a.test:8080"), ("User-Agent", "it's me"), ("Accept", "*/*"), ("X", "")];
    let sample = asking("GET", "http://a.test:8080/x?a=[1]", &fields, b"");
    let expected = "curl 'http://a.test:8080/x?a=[1]' \\\n  --globoff \\\n  -H 'User-Agent: it'\\''s me' \\\n  \
                    -H 'Accept: */*' \\\n  -H 'X;'\n";
    assert_eq!(command(&sample), expected);
}

#[test]
fn a_posted_text_is_an_argument_and_other_bodies_are_input() {
    let fields = [("Host", "a.test"), ("Content-Type", "text/plain"), ("Content-Length", "2")];
    let of = |bytes: &[u8]| command(&asking("POST", "https://a.test:443/./x", &fields, bytes));
    let text = of(b"@a");
    assert!(
        text.contains("--path-as-is \\\n  --http1.1 \\\n") && text.ends_with("--data-raw '@a'\n"),
        "{text}"
    );
    assert!(!text.contains("Content-Length"), "{text}");
    assert!(of(b"\0").starts_with("printf '\\000' | curl 'https://a.test/./x'"));
    assert!(of(&[b'a'; 40_000]).starts_with("printf 'aaa"));
    let long = of(&[b'a'; 70_000]);
    assert!(
        long.starts_with("base64 -d <<'EOF' | curl 'https://a.test/./x'") && long.ends_with("\nEOF\n"),
        "{long}"
    );
}

#[test]
fn the_address_is_kept_when_asked() {
    let mut sample = asking("GET", "https://a.test:443/", &[("Host", "a.test")], b"");
    let server = crate::flow::ServerConn {
        peer: Some(std::net::SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8443)).into()),
        ..Default::default()
    };
    sample.flow.server = Some(server.into());
    let options = EncodeOptions { keep_address: true };
    let out = encoded(&FORMAT, &[sample], &options).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("--resolve 'a.test:443:[::1]'"));
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let get = |url| asking("GET", url, &[], b"");
    assert!(refusal(&get("http://a'b:80/")).contains("host"));
    assert!(refusal(&get("http://-a:80/")).contains("host"));
    assert!(refusal(&get("http://a:80/a\nb")).contains("control"));
    assert!(refusal(&asking("G T", "http://a:80/", &[], b"")).contains("method"));
    assert!(refusal(&asking("HEAD", "http://a:80/", &[], b"x")).contains("HEAD"));
    assert!(refusal(&asking("GET", "http://a:80/", &[("a", "b\r\nc: d")], b"")).contains("control"));
    assert!(refusal(&asking("GET", "http://a:80/", &[("a b", "c")], b"")).contains("name"));
    assert!(refusal(&asking("GET", "http://a:80/", &[("a", &"b".repeat(200_000))], b"")).contains("fit"));
    let mut cut = asking("POST", "http://a:80/", &[], b"x");
    cut.flow.request.as_mut().unwrap().body.end = BodyEnd::CutOff;
    assert!(refusal(&cut).contains("whole"));
    assert!(refusal(&Sample::default()).contains("no request"));
}

#[test]
fn what_browsers_copy_is_read() {
    let bash = "curl 'https://a.test/x?y=1' \\\n  -H 'accept: */*' \\\n  -b 'a=1; b=2' \\\n  -H $'x: it\\'s' \\\n  \
                --data-raw $'{\"a\":\"\\u0021\"}' \\\n  --compressed ;\ncurl 'https://a.test/2'";
    let all = decoded(&FORMAT, bash.as_bytes());
    assert_eq!(all.len(), 2);
    let flow = &all[0].as_ref().unwrap().flow;
    assert_eq!(
        (flow.state, flow.response.is_none(), flow.url()),
        (State::Interrupted, true, "https://a.test/x?y=1".into())
    );
    let request = flow.request.as_ref().unwrap();
    assert_eq!(
        (&request.method[..], request.body.as_inline()),
        (&b"POST"[..], Some(&Bytes::from_static(b"{\"a\":\"!\"}")))
    );
    let expected = [
        "Host: a.test",
        "Accept-Encoding: deflate, gzip, br, zstd",
        "Cookie: a=1; b=2",
        "accept: */*",
        "x: it's",
        "Content-Length: 9",
        "Content-Type: application/x-www-form-urlencoded",
    ];
    assert_eq!(fields(request), expected);
    let cmd = "curl ^\"https://a.test/x?y=^%^20^\" ^\r\n  -H ^\"accept: a^\" ^\r\n  --data-raw ^\"^{^\\^\"a^\\^\":1^}^\"";
    let request = read(cmd);
    assert_eq!(
        (&request.target[..], request.body.as_inline()),
        (&b"/x?y=%20"[..], Some(&Bytes::from_static(b"{\"a\":1}")))
    );
}

#[test]
fn options_mean_what_curl_makes_of_them() {
    let line = |command: &str| {
        let request = read(command);
        let body = request.body.as_inline().unwrap();
        (
            String::from_utf8_lossy(&request.method).into_owned(),
            fields(&request).join("|"),
            String::from_utf8_lossy(body).into_owned(),
        )
    };
    let own = |text: &str| text.to_owned();
    assert_eq!(line("curl -sSLkIx proxy:1 a.test"), (own("HEAD"), own("Host: a.test|Accept: */*"), own("")));
    assert_eq!(
        line("curl -XPUT -uu:p -A me -e ref a.test:80/").1,
        "Host: a.test|Authorization: Basic dTpw|User-Agent: me|Accept: */*|Referer: ref"
    );
    assert_eq!(read("curl -G -d a=1 --data-urlencode 'b=c d' 'a.test/?x'").target, "/?x&a=1&b=c%20d");
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(line("curl -d a -d b a.test").1, format!("Host: a.test|Accept: */*|Content-Length: 3|{form}"));
    assert_eq!(line("curl -d a -d b a.test").2, "a&b");
    assert_eq!(
        line("curl --json 1 a.test").1,
        "Host: a.test|Accept: application/json|Content-Type: application/json|Content-Length: 1"
    );
    assert_eq!(line("printf 'a\\nb' | curl -d @- a.test").2, "ab");
    assert_eq!(line("printf 'a\\nb' | curl --data-binary @- a.test").2, "a\nb");
    assert_eq!(line("curl -H 'Host:' -H 'Accept:' -H 'x:' -H 'y;' -H 'hOst: b' a.test").1, "y: |hOst: b");
    let (_, fields, body) = line("curl -F a=1 -F 'b=2;type=text/plain;filename=c\"d' a.test");
    assert!(
        fields.contains("Content-Type: multipart/form-data; boundary=") && body.ends_with("--\r\n"),
        "{fields} {body}"
    );
    assert!(
        body.contains("name=\"b\"; filename=\"c%22d\"\r\nContent-Type: text/plain\r\n\r\n2\r\n"),
        "{body}"
    );
    let http2 = read("curl --http2 https://a.test -H 'Host: b'");
    assert_eq!(
        (http2.version, http2.authority, http2.scheme),
        (Version::Http2, Some("b".into()), Some("https".into()))
    );
    assert_eq!(fields_of_http2("curl --http2 https://a.test"), ["Accept: */*"]);
}

fn fields_of_http2(command: &str) -> Vec<String> {
    fields(&read(command))
}

#[test]
fn what_is_not_understood_is_told_with_its_place() {
    let told = |command: &str| match decoded(&FORMAT, command.as_bytes()).remove(0) {
        Err(DecodeError::Flow { position, what } | DecodeError::File { position, what }) => (position, what),
        other => panic!("{other:?}"),
    };
    for (command, position, word) in [
        ("curl a.test --frobnicate", 12, "--frobnicate"),
        ("curl a.test -sW x", 12, "-W"),
        ("curl -d @/etc/passwd a.test", 5, "file"),
        ("curl -H @x a.test", 5, "file"),
        ("curl -T x a.test", 5, "file"),
        ("curl -F a=@x a.test", 5, "file"),
        ("curl -d @- a.test", 0, "standard input"),
        ("curl a.test b.test", 12, "second URL"),
        ("curl -X", 5, "no value"),
        ("wget a.test", 0, "no curl command"),
        ("curl -s", 0, "no URL"),
        ("curl gopher://a", 0, "no http"),
        ("curl a.test -X 'A B'", 0, "method"),
        ("curl a.test -H $'a: b\\nc'", 0, "field"),
        ("curl 'a.test", 5, "not closed"),
        ("curl $URL", 5, "look something up"),
    ] {
        let (at, what) = told(command);
        assert!(at == position && what.contains(word), "{command}: {at} {what}");
    }
    // The one behind it is read.
    let all = decoded(&FORMAT, b"curl --frob a\ncurl b.test\n");
    assert!(all[0].is_err() && all[1].is_ok() && all.len() == 2);
}

proptest! {
    #[test]
    fn what_was_written_asks_for_the_same(samples in proptest::collection::vec(request(), 1..3)) {
        let written: Vec<_> = samples
            .iter()
            .filter(|sample| encoded(&FORMAT, std::slice::from_ref(*sample), &EncodeOptions::default()).is_ok())
            .cloned()
            .collect();
        let file = encoded(&FORMAT, &written, &EncodeOptions::default()).unwrap();
        let read = decoded(&FORMAT, &file);
        prop_assert_eq!(read.len(), written.len());
        for (read, written) in read.into_iter().zip(&written) {
            let read = read.unwrap().flow;
            let (read_request, request) = (read.request.unwrap(), written.flow.request.as_ref().unwrap());
            prop_assert_eq!(&read.target, &written.flow.target);
            prop_assert_eq!((&read_request.method, &read_request.target), (&request.method, &request.target));
            prop_assert_eq!(&read_request.headers, &request.headers);
            prop_assert_eq!(read_request.body.as_inline(), request.body.as_inline());
            if request.body.len > 0 {
                prop_assert_eq!(read_request.body.framing, request.body.framing);
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in "curl [-a-zA-Z0-9 '\"\\\\$@=:;/&\n^]*", bytes: Vec<u8>) {
        let _ = (decoded(&FORMAT, text.as_bytes()), decoded(&FORMAT, &[b"curl ", &bytes[..]].concat()));
    }
}

#[test]
fn https_and_framing_are_told_by_the_command() {
    let mut sample =
        asking("POST", "https://a.test:443/", &[("Host", "a.test"), ("Transfer-Encoding", "chunked")], b"x");
    sample.flow.request.as_mut().unwrap().body.framing = Framing::Chunked;
    let request = read(&command(&sample));
    assert_eq!(request.body.framing, Framing::Chunked);
    let flow = decoded(&FORMAT, command(&sample).as_bytes()).remove(0).unwrap().flow;
    assert_eq!((flow.target.scheme, flow.target.port), (Scheme::Https, 443));
}
