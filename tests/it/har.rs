//! HAR through the front door: out of a store and into another, secrets, broken archives.

use manent::flow::{Body, Headers, Mid};
use manent::store::Reader;
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};
use crate::transfer::{rich, whole};

#[test]
fn a_store_comes_back_from_an_archive_as_it_was_however_packed() {
    let from = rich();
    for name in ["all.har", "all.har.gz", "all.har.zst", "all.zhar"] {
        let file = from.path(name);
        let exported = from.run(&["export", "--no-redact", "-o", file.to_str().unwrap()]);
        assert_eq!(exported.status.code(), Some(0), "{}", text(&exported.stderr));
        let into = Home::new();
        let imported = into.run(&["import", file.to_str().unwrap()]);
        assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
        let (old, new) = (Reader::open(&from.store).unwrap(), Reader::open(&into.store).unwrap());
        for mid in 1..=4 {
            assert_eq!(whole(&old, mid), whole(&new, mid), "{name} {mid}");
            let note = |reader: &Reader| reader.notes(&[Mid(mid)]).unwrap().remove(&Mid(mid));
            assert_eq!(note(&old), note(&new));
            let messages = |reader: &Reader| -> Vec<(u64, bool, u64)> {
                let all = reader.messages(Mid(mid), 0, 9).unwrap();
                all.iter().map(|message| (message.seq, message.from_client, message.len)).collect()
            };
            assert_eq!(messages(&old), messages(&new));
        }
        assert_eq!(into.run(&["check"]).status.code(), Some(0));
    }
}

#[test]
fn secrets_are_masked_unless_asked_not_to() {
    let mut secret = flow("/login?token=hunter2&q=1", b"{\"password\":\"hunter2\",\"name\":\"x\"}");
    let fields: Headers =
        [("Cookie", "sid=hunter2"), ("Authorization", "Bearer hunter2")].into_iter().collect();
    let request = secret.request.as_mut().unwrap();
    request.headers = fields;
    request.body = Body::inline("password=hunter2");
    secret.response.as_mut().unwrap().headers = [("Content-Type", "application/json")].into_iter().collect();
    let home = Home::with([secret]);
    let masked = home.run(&["export", "--format", "har"]);
    let (out, told) = (text(&masked.stdout), text(&masked.stderr));
    assert!(!out.contains("hunter2"), "{out}");
    assert!(
        out.contains("sid=(redacted)")
            && out.contains("Bearer (redacted)")
            && out.contains("token=(redacted)")
    );
    assert!(told.contains("masked 5 secrets") && told.contains("--no-redact"), "{told}");
    // A command has the request alone, and no more is counted.
    let command = home.run(&["export", "--format", "curl"]);
    let (out, told) = (text(&command.stdout), text(&command.stderr));
    assert!(!out.contains("hunter2") && out.matches("(redacted)").count() == 4, "{out}");
    assert!(told.contains("masked 4 secrets ("), "{told}");
    let har: Value = parse(&masked.stdout);
    let content = &har["log"]["entries"][0]["response"]["content"];
    assert_eq!(content["text"], "{\"password\":\"(redacted)\",\"name\":\"x\"}");
    let plain = home.run(&["export", "--no-redact", "--format", "har"]);
    assert!(text(&plain.stdout).matches("hunter2").count() == 7 && !text(&plain.stderr).contains("masked"));
}

#[test]
fn a_broken_archive_gives_what_is_whole_and_says_where_it_is_not() {
    let home = Home::with((0..5).map(|n| flow(&format!("/{n}"), b"body")));
    let whole = home.run(&["export", "--no-redact", "--format", "har"]).stdout;
    let broken = home.path("broken.har");
    let at = whole.windows(15).position(|w| w == b"origin.test/2\",").unwrap();
    let mut bytes = whole.clone();
    bytes[at + 13] = b' ';
    std::fs::write(&broken, &bytes).unwrap();
    let into = Home::new();
    let told = into.refuses(&["import", broken.to_str().unwrap()], 7, "4 flows");
    assert!(told.contains("1 could not be read"), "{told}");
    let place: usize =
        told.split(" at ").nth(1).and_then(|rest| rest.split(':').next()).unwrap().trim().parse().unwrap();
    assert!((at..at + 200).contains(&place), "{place} is not behind {at}: {told}");
    std::fs::write(&broken, &whole[..at]).unwrap();
    let told = Home::new().refuses(&["import", broken.to_str().unwrap()], 7, "ends too early");
    assert!(told.contains("2 flows"), "{told}");
}

/// Pages are kept within bounds, and what was left out is said.
#[test]
fn pages_are_kept_within_bounds() {
    let home = Home::new();
    let page = |n: usize| format!("{{\"id\":\"page_{n}\",\"title\":\"{}\"}}", "x".repeat(1000));
    let pages: Vec<String> = (0..3000).map(page).collect();
    let entry = |n: usize| {
        format!(
            "{{\"pageref\":\"page_{n}\",\"startedDateTime\":\"2026-11-22T10:00:00Z\",\
             \"request\":{{\"method\":\"GET\",\"url\":\"http://a.test/{n}\"}},\"response\":{{\"status\":200}}}}"
        )
    };
    let (first, last) = (entry(0), entry(2999));
    let har = format!("{{\"log\":{{\"pages\":[{}],\"entries\":[{first},{last}]}}}}", pages.join(","));
    let file = home.path("pages.har");
    std::fs::write(&file, har).unwrap();
    let imported = home.run(&["import", file.to_str().unwrap()]);
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
    let reader = Reader::open(&home.store).unwrap();
    let metadata = |mid| reader.flow(Mid(mid)).unwrap().unwrap().imported.unwrap().metadata.unwrap();
    let first = format!("{:?}", metadata(1));
    assert!(first.contains("\"page_0\"") && !first.contains("left_out"), "{first}");
    let last = format!("{:?}", metadata(2));
    assert!(last.contains("left_out") && last.contains("\"page\"") && !last.contains("page_2999"), "{last}");
}
