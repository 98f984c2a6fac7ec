//! Filters from the outside: what `ls` finds and says, and what a proxy records with `--record`.

use manent::filter::Filter;
use manent::flow::{Body, Flow, Headers};
use manent::store::{ListQuery, Reader};
use serde_json::Value;

use crate::cli::{Home, flow, parse, text};
use crate::harness::{Origin, Setup, masked, soon};

/// Three flows: found, not found, and a posted form with a gzipped answer.
fn home() -> Home {
    let mut missing = flow("/missing?page=2", b"nothing here");
    missing.response.as_mut().unwrap().status = 404;
    let mut posted = flow("/login", b"");
    let request = posted.request.as_mut().unwrap();
    (request.method, request.body) = ("POST".into(), Body::inline("user=a&password=b"));
    let response = posted.response.as_mut().unwrap();
    response.headers =
        [("Content-Type", "text/html"), ("Content-Encoding", "gzip")].into_iter().collect::<Headers>();
    response.body = Body::inline(GZIPPED_WELCOME);
    Home::with([flow("/found", b"hello"), missing, posted])
}

/// `welcome back`, by `gzip -n`.
const GZIPPED_WELCOME: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x2b\x4f\xcd\x49\xce\xcf\x4d\x55\x48\x4a\x4c\xce\x06\x00\x05\xfd\x69\x92\x0c\x00\x00\x00";

fn mids(home: &Home, args: &[&str]) -> Vec<u64> {
    let args = [&["ls", "--json"], args].concat();
    let lines = text(&home.run(&args).stdout);
    lines.lines().map(|line| parse(line.as_bytes())["mid"].as_u64().unwrap()).collect()
}

#[test]
fn ls_lists_what_matches_oldest_first() {
    let home = home();
    for (filter, found) in [
        (&["status>=400"][..], &[2][..]),
        (&["~m", "get", "!~c", "404"], &[1]),
        (&["~c 404 | ~bq password"], &[2, 3]),
        (&["page=2"], &[2]),
        (&["~bs", "WELCOME.back"], &[3]),
        (&["~hs \"^content-type: text/html$\""], &[3]),
        (&["host:origin.test", "mid:2.."], &[2, 3]),
        (&["-n", "2", "~all"], &[2, 3]),
        (&["-n", "1", "size<100"], &[3]),
        (&["-n", "0", "~all"], &[]),
        (&["~src 1.2.3.4"], &[]),
    ] {
        assert_eq!(mids(&home, filter), found, "{filter:?}");
    }
    let none = home.run(&["ls", "~e"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
}

#[test]
fn a_bad_filter_is_shown_with_its_place() {
    let home = home();
    let told = home.refuses(
        &["ls", "~m GET", "statsu:404"],
        2,
        "error[E003]: in the filter, there is no field `statsu`",
    );
    assert!(told.contains("\n    ~m GET statsu:404\n           ^^^^^^\n"), "{told}");
    assert!(told.contains("hint: status:404"), "{told}");
    home.refuses(&["ls", "~b '(?=x)'"], 2, "linear time");
    let json = home.refuses(&["--json", "ls", "~c abc"], 2, "");
    assert_eq!(parse(json.as_bytes())["error"]["facts"][1], "     ^^^");
}

#[test]
fn a_filter_is_explained() {
    let home = home();
    // Without a store.
    let args = ["ls", "--explain", "status>=400", "host:a", "~u /x", "~h y", "~b z"];
    let told = text(&home.run(&args).stdout);
    for line in [
        "reading      status is 400 or more and host contains \"a\" and URL matches //x/i and",
        "by SQL       ((status >= 400) AND (flow.host IN (ids of the hosts that match))",
        "on the row   URL matches //x/i",
        "in records   a header line of request or response matches /y/i",
        "in bodies    the body of request or response matches /z/i",
    ] {
        assert!(told.lines().any(|l| l.starts_with(line)), "{line} in {told}");
    }
    assert_eq!(text(&home.run(&["filter", "~e"]).stdout).lines().next(), Some("reading      an error"));
    let json: Value = parse(&home.run(&["--json", "filter", "~u", "a"]).stdout);
    assert_eq!((&json["filter"], &json["sql"]), (&"~u \"a\"".into(), &Value::Null));
    home.refuses(&["ls", "--explain"], 2, "required");
    for args in [&["filter"][..], &["help", "filter"], &["filter", "--help"]] {
        let help = text(&home.run(args).stdout);
        assert!(
            help.contains("~bq RE") && help.contains("is:tls-failed") && help.contains("Examples:"),
            "{help}"
        );
    }
}

async fn filtered(filter: &str) -> (Setup, Origin) {
    let filter: Filter = filter.parse().unwrap();
    (Setup::with(|config| config.record_filter = Some(filter)).await, Origin::listen().await)
}

/// Asks for `path` and has `body` answered; what the client got is what the origin sent.
async fn exchange(setup: &Setup, origin: &Origin, path: &str, body: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n");
    let (mut client, mut server) = setup.asked(origin, request).await;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    server.send(&answer).await;
    client.expect(&answer).await;
}

fn stored(config: &manent::config::Config) -> Vec<Flow> {
    let reader = Reader::open(&config.store).unwrap();
    let rows = reader.list(&ListQuery::default()).unwrap();
    rows.iter().map(|row| reader.flow(row.mid).unwrap().unwrap()).collect()
}

#[tokio::test]
async fn only_flows_that_match_are_recorded_and_all_pass() {
    let (mut setup, origin) = filtered("path:/wanted !size>100k").await;
    exchange(&setup, &origin, "/other", "no").await;
    exchange(&setup, &origin, "/wanted", "yes").await;
    let wanted = setup.flow().await;
    // Not known to be too large when it begins, and not wanted at its end.
    exchange(&setup, &origin, "/wanted/large", &"x".repeat(200_000)).await;
    // Never wanted: its body does not even reach the disk.
    exchange(&setup, &origin, "/large", &"y".repeat(200_000)).await;
    let bodies = setup.config.store.with_extension("db-bodies");
    let (_dir, config, summary) = setup.stop().await;
    assert_eq!((summary.stored, summary.left_out, summary.lost), (1, 3, 0));
    let flows = stored(&config);
    assert_eq!(flows.len(), 1);
    // Mids that were given out to what is not stored are not used again.
    assert_eq!((flows[0].mid, wanted.path()), (wanted.mid, &b"/wanted"[..]));
    let written: u64 =
        std::fs::read_dir(bodies).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((200_000..300_000).contains(&written), "{written}");
}

/// A WebSocket is stored as open at once, and its messages as they pass. If it is not wanted at its end, all of that is
/// taken out again.
#[tokio::test]
async fn a_websocket_that_is_not_wanted_leaves_nothing() {
    let (mut setup, origin) = filtered("!~websocket").await;
    let (mut client, mut server) = setup.websocket(&origin, "").await;
    let open = setup.open_flow().await;
    client.send(masked(0x81, "hello")).await;
    server.expect(masked(0x81, "hello")).await;
    let reader = Reader::open(&setup.config.store).unwrap();
    let mid = open.mid.unwrap();
    soon("the message to be stored", async {
        while reader.last_message(mid).unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((client, server));
    let (_dir, config, summary) = setup.stop().await;
    assert_eq!((summary.stored, summary.left_out), (0, 1));
    assert_eq!((stored(&config), reader.last_message(mid).unwrap()), (vec![], 0));
    assert_eq!(reader.flow(mid).unwrap(), None);
}

#[test]
fn what_is_recorded_cannot_depend_on_what_comes_later() {
    let home = Home::new();
    let told = home.refuses(&["-p", "0", "--record", "host:a | ~b x"], 2, "cannot depend on `~b \"x\"`");
    assert!(told.contains("hint: record more"), "{told}");
    home.refuses(&["run", "--record", "tag:x", "--", "true"], 2, "nothing is noted about a flow");
    home.refuses(&["-p", "0", "--record", "~zz"], 2, "there is no operator `~zz`");
    home.refuses(&["-p", "0", "--record", "~e", "--no-record"], 2, "cannot be used with");
}
