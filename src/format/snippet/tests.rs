//! What is written; that it sends the same bytes is seen with Python and Node.js, in `tests/clients`.

use proptest::prelude::*;

use super::super::sample::{Sample, asking, encoded, request};
use super::super::transfer::{EncodeError, EncodeOptions, Format};
use super::{FETCH, PYTHON};

fn program(format: &Format, sample: &Sample) -> String {
    let out = encoded(format, std::slice::from_ref(sample), &EncodeOptions::default()).unwrap();
    String::from_utf8(out).unwrap()
}

fn is_refused(format: &Format, sample: &Sample) -> bool {
    let out = encoded(format, std::slice::from_ref(sample), &EncodeOptions::default());
    matches!(out, Err(EncodeError::Unsuitable(_)))
}

#[test]
fn hostile_text_stays_in_its_quotes() {
    let fields = [("Host", "a.test:81"), ("X", "it's \"\\ ${1}"), ("Content-Type", "text/html"), ("x", "2")];
    let sample = asking("POST", "http://a.test:81/?q='", &fields, "</script>'''\"\\\u{2028}\n`".as_bytes());
    let python = program(&PYTHON, &sample);
    assert!(python.contains("        'X': 'it\\'s \"\\\\ ${1}, 2',\n"), "{python}");
    assert!(python.contains("data=b'</script>\\'\\'\\'\"\\\\\\xe2\\x80\\xa8\\n`',"), "{python}");
    assert!(python.contains("request.url = 'http://a.test:81/?q=\\''\n"), "{python}");
    let sample = asking("POST", "http://a.test:81/", &fields, "</script>'''\"\\\u{2028}\n`".as_bytes());
    let fetch = program(&FETCH, &sample);
    assert!(fetch.contains("      [\"X\", \"it's \\x22\\x5c ${1}, 2\"],\n"), "{fetch}");
    assert!(
        fetch.contains("body: \"\\x3c/script>'''\\\"\\\\\\u{2028}\\n`\",\n") && !fetch.contains("Host"),
        "{fetch}"
    );
}

#[test]
fn what_the_libraries_would_change_is_refused() {
    let of = |method, path: &str, body: &[u8]| asking(method, &format!("http://a:80{path}"), &[], body);
    for path in ["/a/../b", "/%2e/b", "/x#y", "/a'b", "/é"] {
        assert!(is_refused(&FETCH, &of("GET", path, b"")), "{path}");
    }
    for (method, body) in [("get", &b""[..]), ("TRACE", b""), ("GET", b"x")] {
        assert!(is_refused(&FETCH, &of(method, "/", body)), "{method}");
    }
    for path in ["//x", "/x?", "/x#y", "/é"] {
        assert!(is_refused(&PYTHON, &of("GET", path, b"")), "{path}");
    }
    assert!(program(&PYTHON, &of("get", "/%2e/b", b"")).contains("request.method = 'get'\n"));
}

proptest! {
    #[test]
    fn nothing_but_plain_text_comes_out(sample in request()) {
        for format in [&PYTHON, &FETCH] {
            if !is_refused(format, &sample) {
                let text = program(format, &sample);
                prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{}", text);
            }
        }
    }
}
