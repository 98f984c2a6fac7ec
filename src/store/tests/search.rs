//! Searching: that the store finds what asking every flow finds, and that it stops, skips and survives as it says.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::filter::tests::any_expr;
use crate::filter::{Filter, FlowSubject, Notes, Part, Subject, Test, Text};
use crate::flow::{
    Addr, FlowError, Headers, Kind, Message, Opcode, Scheme, ServerConn, Side, Stage, Target, Timing, Tunnel,
    WebSocket,
};

/// A flow as it is stored, and what is known of it beside.
#[derive(Debug, Clone)]
struct Known {
    flow: Flow,
    notes: Notes,
    messages: Vec<Message>,
    /// The plain texts that came from the client, and from the origin.
    texts: [Vec<Vec<u8>>; 2],
}

impl Subject for Known {
    type Error = std::convert::Infallible;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, Self::Error> {
        if let Test::Text(Text::Body(part), pattern) = test {
            let texts = match part {
                Part::Either => &self.texts[..],
                Part::Request => &self.texts[..1],
                Part::Response => &self.texts[1..],
            };
            return Ok(Some(texts.iter().flatten().any(|text| pattern.is_match(text))));
        }
        let mid = i64::try_from(self.flow.mid.unwrap().0).unwrap();
        FlowSubject { flow: &self.flow, mid, notes: Some(&self.notes) }.test(test)
    }
}

/// The choices of a generated flow, one number each.
type Dice = [usize; 24];

fn pick<T: Clone>(from: &[T], die: usize) -> T {
    from[die % from.len()].clone()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A body with its plain text, if that can be found.
fn body(writer: &Writer, mid: Mid, die: usize) -> (Body, Option<Vec<u8>>, bool) {
    let plain = pick(&["", "a", "http x", "b\nok", "json\u{e9}"], die).as_bytes().to_vec();
    let coded = die % 7 == 3;
    let bytes = if coded { gzip(&plain) } else { plain.clone() };
    let len = bytes.len() as u64;
    let content = match die % 4 {
        0 if len > 0 => Content::Extents(append(writer.segments(), mid, &bytes)),
        1 if die.is_multiple_of(3) => Content::Absent,
        _ => Content::Inline(bytes.into()),
    };
    let found = (content != Content::Absent || len == 0).then_some(plain);
    let end = if die % 5 == 4 { BodyEnd::Capped } else { BodyEnd::Whole };
    (Body { content, len, wire_len: len, end, ..Body::default() }, found, coded)
}

fn headers(die: usize, coded: bool) -> Headers {
    let long = format!("text/{}", "x".repeat(300));
    let mut headers = Headers::new();
    match die % 6 {
        0 => {}
        1 => headers.push("content-type", "image/png; a"),
        2 => headers.push("Content-Type", long),
        3 => headers.push("X-A", "b\u{e9}"),
        _ => headers.push("content-type", pick(&["text/plain", "application/json", "\u{e9}"], die / 6)),
    }
    headers.push("Host", "one");
    if coded {
        headers.push("content-encoding", "gzip");
    }
    headers
}

/// Connections are shared between flows, so what they are is told by their ids.
fn conns(client: usize, server: usize) -> (ClientConn, Option<Arc<ServerConn>>) {
    let peer = |die: usize| {
        let host = pick(&["127.0.0.1", "::1", "10.0.0.9"], die).to_owned();
        (!die.is_multiple_of(4)).then(|| Addr { host, port: pick(&[80, 50_000], die), ..Addr::default() })
    };
    let (client_id, server_id) = (client % 4, server % 4);
    let id = |id: usize| ConnId(id as u64);
    let client = ClientConn {
        id: id(client_id),
        peer: if client_id == 0 { None } else { peer(client_id + 1) },
        ..ClientConn::default()
    };
    let server = (!server.is_multiple_of(5) && server_id != 0).then(|| {
        let address =
            Addr { host: pick(&["a.test", "B.test"], server_id).to_owned(), port: 443, ..Addr::default() };
        Arc::new(ServerConn {
            id: id(10 + server_id),
            address,
            peer: peer(server_id),
            ..ServerConn::default()
        })
    });
    (client, server)
}

/// Two messages of a WebSocket; how long they are is known of one that was seen to end.
fn messages(dice: [usize; 2], is_settled: bool, texts: &mut [Vec<Vec<u8>>; 2]) -> (WebSocket, Vec<Message>) {
    let (mut websocket, mut messages) = (WebSocket::default(), Vec::new());
    for (seq, die) in (1..).zip(dice) {
        let text = pick(&["x", "", "ok message", "ping a"], die).as_bytes();
        let opcode = pick(&[Opcode::Text, Opcode::Binary, Opcode::Ping], die / 4);
        let from_client = die.is_multiple_of(2);
        if opcode.is_data() {
            texts[usize::from(!from_client)].push(text.to_vec());
        }
        let len = text.len() as u64;
        let sum = if from_client { &mut websocket.len_from_client } else { &mut websocket.len_from_server };
        *sum += if is_settled { len } else { 0 };
        let content = Content::Inline(text.into());
        messages.push(Message { seq, from_client, opcode, len, content, ..Message::default() });
    }
    (websocket, messages)
}

fn known(writer: &Writer, mid: Mid, dice: &Dice) -> Known {
    let d = |at: usize| dice[at];
    let kind = pick(&[Kind::Http, Kind::Http, Kind::Http, Kind::Connect, Kind::Tunnel, Kind::Tls], d(0));
    let state =
        pick(&[State::Complete, State::Complete, State::Open, State::Failed, State::Interrupted], d(1));
    let long = format!("/{}end", "a".repeat(9000));
    let targets: [&[u8]; 8] =
        [b"/", b"/a?x=http", b"/\xff", "/é".as_bytes(), b"x", b"http://other:80/b", long.as_bytes(), b"*"];
    let long_method = "M".repeat(300);
    let mut texts = [Vec::new(), Vec::new()];
    let request = (d(2) % 6 != 0).then(|| {
        let (body, text, coded) = body(writer, mid, d(3));
        texts[0].extend(text);
        let method = pick(&["GET", "POST", "CONNECT", "get", "é", &long_method], d(4)).to_owned();
        let target = Bytes::copy_from_slice(pick(&targets, d(5)));
        Request { method: method.into(), target, headers: headers(d(6), coded), body, ..Request::default() }
    });
    let response = (d(7) % 4 != 0).then(|| {
        let (body, text, coded) = body(writer, mid, d(8));
        texts[1].extend(text);
        let status = pick(&[200, 204, 404, 500, 101, 999], d(9));
        Response { status, headers: headers(d(10), coded), body, ..Response::default() }
    });
    let tunnel = (kind == Kind::Tunnel).then(|| {
        let [(from_client, sent, _), (from_server, received, _)] =
            [d(11), d(12)].map(|die| body(writer, mid, if die % 7 == 3 { die + 1 } else { die }));
        texts[0].extend(sent);
        texts[1].extend(received);
        Tunnel { from_client, from_server, ..Tunnel::default() }
    });
    let upgraded = response.as_ref().is_some_and(|r| r.status == 101)
        || request.as_ref().is_some_and(|r| r.method == "CONNECT");
    let is_settled = state != State::Open && state != State::Interrupted;
    let (websocket, messages) = match kind == Kind::Http && upgraded && d(13) % 3 != 0 {
        true => {
            let (websocket, messages) = messages([d(14), d(15)], is_settled, &mut texts);
            (Some(websocket), messages)
        }
        false => (None, Vec::new()),
    };
    let stage = pick(&[Stage::Tls, Stage::Connect], d(16));
    let side = pick(&[Side::Client, Side::Server, Side::Proxy], d(16) / 2);
    let error =
        (d(16) % 3 == 0).then(|| FlowError { side, stage, message: "TLS handshake: a".into(), at_us: 1 });
    let (client, server) = conns(d(17), d(18));
    let host = pick(&["a.test", "B.TEST", "one.example", "", "::1", "127.0.0.1", "é.test"], d(19)).to_owned();
    let flow = Flow {
        mid: Some(mid),
        kind,
        state,
        error,
        target: Target {
            scheme: pick(&[Scheme::Http, Scheme::Https, Scheme::Tcp], d(20)),
            host,
            port: pick(&[80, 443, 8080, 0], d(20) / 3),
        },
        request,
        response,
        tunnel: tunnel.map(Box::new),
        websocket: websocket.map(Box::new),
        client: Arc::new(client),
        server,
        timing: Timing {
            started_unix_ns: i64::try_from(d(21) % 12).unwrap(),
            end_us: (d(21) % 5 != 0).then_some((d(21) % 100) as u64),
            ..Timing::default()
        },
        replay_of: (d(22) % 5 == 0).then_some(Mid(1)),
        ..Flow::default()
    };
    let notes = Notes {
        marker: pick(&["", "", ":default:", "red"], d(23)).to_owned(),
        comment: pick(&["", "", "a\nb", "é one"], d(23) / 4).to_owned(),
        tags: pick(
            &[vec![], vec![], vec!["one".to_owned()], vec!["RED".into(), "\u{212a}".into()]],
            d(23) / 16,
        ),
    };
    Known { flow, notes, messages, texts }
}

/// The tables of notes, where this version of the store has none yet.
const NOTES: &str =
    "CREATE TABLE IF NOT EXISTS note (mid INTEGER PRIMARY KEY, marker TEXT, comment TEXT) STRICT;
    CREATE TABLE IF NOT EXISTS tag (mid INTEGER, name TEXT, PRIMARY KEY (mid, name)) STRICT, WITHOUT ROWID;";

fn store(writer: &mut Writer, all: &[Known]) {
    let mut group = Group::default();
    for known in all {
        let (mid, mut bytes) = (known.flow.mid.unwrap(), Vec::new());
        let draft = Draft::new(mid, &known.flow, false, &mut bytes);
        group.push(draft, &bytes);
        group.next_mid = mid.0 + 1;
        for message in &known.messages {
            group.push_message(mid, message);
        }
    }
    writer.commit(&mut group).unwrap();
}

fn note(writer: &Writer, all: &[Known]) {
    writer.conn.execute_batch(NOTES).unwrap();
    for Known { flow, notes, .. } in all {
        let mid = i64::try_from(flow.mid.unwrap().0).unwrap();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if !notes.marker.is_empty() || !notes.comment.is_empty() {
            let sql = "INSERT INTO note (mid, marker, comment) VALUES (?1, ?2, ?3)";
            writer.conn.execute(sql, (mid, some(&notes.marker), some(&notes.comment))).unwrap();
        }
        for tag in &notes.tags {
            writer.conn.execute("INSERT INTO tag (mid, name) VALUES (?1, ?2)", (mid, tag)).unwrap();
        }
    }
}

fn found(reader: &Reader, search: &Search<'_>) -> (Vec<u64>, Progress) {
    let mut mids = Vec::new();
    let mut see = |row: Row| {
        mids.push(row.mid.0);
        ControlFlow::Continue(())
    };
    let progress = reader.search(search, &mut see, &mut |_| ControlFlow::Continue(())).unwrap();
    (mids, progress)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_asking_every_flow_finds(
        dice in prop::collection::vec(prop::array::uniform24(0_usize..1000), 1..24),
        filters in prop::collection::vec(any_expr(), 40),
        noted: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flows.db");
        let mut writer = Writer::open(&path, &WriterOptions { durability: Durability::Normal, ..options() }).unwrap();
        // Mids with gaps.
        let mids = (0_u64..).map(|i| Mid(1 + i + i / 5 * 30_000));
        let mut all: Vec<_> = mids.zip(&dice).map(|(mid, dice)| known(&writer, mid, dice)).collect();
        store(&mut writer, &all);
        match noted {
            true => note(&writer, &all),
            false => all.iter_mut().for_each(|known| known.notes = Notes::default()),
        }
        let reader = Reader::open(&path).unwrap();
        for (at, expr) in filters.into_iter().enumerate() {
            // Whatever is found is the same with an index of bodies, and without.
            if at == 20 {
                index::make(&mut writer);
            }
            let filter = Filter::from(expr);
            let mut expected = Vec::new();
            for known in &mut all {
                if filter.judge(known).unwrap().unwrap() {
                    expected.push(known.flow.mid.unwrap().0);
                }
            }
            let mut search = Search { order: Order::OldestFirst, ..Search::new(&filter) };
            let (mids, progress) = found(&reader, &search);
            prop_assert_eq!(&mids, &expected, "{}", filter);
            prop_assert!(progress.complete && progress.unreadable == 0);
            search.order = Order::NewestFirst;
            search.limit = Some(3);
            (search.after, search.before) = (Some(Mid(1)), Some(Mid(60_004)));
            expected.retain(|mid| (2..60_004).contains(mid));
            expected.reverse();
            expected.truncate(3);
            prop_assert_eq!(found(&reader, &search).0, expected, "newest first: {}", filter);
            prop_assert!(explain(&filter).sql.is_none_or(|sql| !sql.is_empty()));
        }
    }
}

/// A store of `count` flows, one of ten with status 404.
fn many(path: &Path, count: u64) -> Writer {
    let mut writer = open(path);
    let flows = (1..=count).map(|mid| {
        let mut flow = flow(Mid(mid), State::Complete, Content::Inline(format!("body {mid} ").into()));
        let response = flow.response.as_mut().unwrap();
        response.body.len = 1;
        response.status = if mid % 10 == 0 { 404 } else { 200 };
        flow
    });
    commit(&mut writer, flows.collect()).unwrap();
    writer
}

fn parsed(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

#[test]
fn a_search_gives_pages_in_either_order_and_stops_at_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let _writer = many(&path, 900);
    let reader = Reader::open(&path).unwrap();
    let all = parsed("~all");
    assert_eq!(
        found(&reader, &Search { order: Order::OldestFirst, ..Search::new(&all) }).0,
        (1..=900).collect::<Vec<_>>()
    );
    let (mids, progress) = found(&reader, &Search { limit: Some(300), ..Search::new(&all) });
    assert_eq!(mids, (601..=900).rev().collect::<Vec<_>>());
    assert!(!progress.complete && progress.found == 300);
    let bodies = parsed("~bs 'body .*7 ' mid:..200");
    let (mids, progress) = found(&reader, &Search::new(&bodies));
    assert_eq!(mids, (1..=200).rev().filter(|mid| mid % 10 == 7).collect::<Vec<_>>());
    // SQL left only what the mids allow.
    assert_eq!((progress.rows, progress.records, progress.complete), (200, 200, true));
    let status = parsed("status=404 !~e");
    let (mids, progress) = found(&reader, &Search::new(&status));
    assert_eq!((mids.len(), progress.rows, progress.records), (90, 90, 0));
    assert!(found(&reader, &Search { max_body: 4, ..Search::new(&parsed("~b 'body 7 '")) }).0.is_empty());
}

#[test]
fn a_search_reads_no_more_than_the_ranges_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let _writer = many(&path, 100);
    let reader = Reader::open(&path).unwrap();
    let filter = parsed("status=404");
    let search = Search { before: Some(Mid(95)), ..Search::new(&filter) };
    let mut ranges = [(Mid(80), Mid(100)), (Mid(10), Mid(20))].into_iter();
    let mut mids = Vec::new();
    let mut see = |row: Row| {
        mids.push(row.mid.0);
        ControlFlow::Continue(())
    };
    reader.search_in(&search, &mut ranges, &mut see, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(mids, [90, 80, 20, 10]);
}

#[test]
fn a_search_is_stopped_by_either_of_its_listeners() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let _writer = many(&path, 400);
    let reader = Reader::open(&path).unwrap();
    let filter = parsed("~b nothing");
    let mut steps = 0;
    let stopped = reader.search(&Search::new(&filter), &mut |_| ControlFlow::Continue(()), &mut |progress| {
        steps += 1;
        assert_eq!(progress.reached, Some(Mid(401 - progress.records)));
        if steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.unwrap();
    // A step with bodies is short.
    assert_eq!((stopped.records, stopped.complete), (128, false));
    let filter = parsed("~all");
    let first = reader
        .search(&Search::new(&filter), &mut |_| ControlFlow::Break(()), &mut |_| ControlFlow::Continue(()));
    assert_eq!(first.unwrap().found, 1);
}

#[test]
fn gaps_between_mids_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let mut writer = open(&path);
    let mids = [1, 2, 1 << 40, (1 << 62) + 7];
    commit(&mut writer, mids.map(|mid| flow(Mid(mid), State::Complete, Content::Absent)).to_vec()).unwrap();
    let reader = Reader::open(&path).unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut steps = 0;
        // Nothing that zones could answer.
        let filter = parsed("path:nosuch");
        let search = Search { order, ..Search::new(&filter) };
        let count = &mut |_: &Progress| {
            steps += 1;
            ControlFlow::Continue(())
        };
        reader.search(&search, &mut |_| ControlFlow::Continue(()), count).unwrap();
        assert_eq!(steps, 3);
    }
}

#[test]
fn a_poisoned_record_is_counted_and_the_search_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let writer = many(&path, 30);
    writer.conn.execute("UPDATE flow SET record_offset = record_offset + 1 WHERE mid = 20", []).unwrap();
    let reader = Reader::open(&path).unwrap();
    let filter = parsed("~bs body");
    let (mids, progress) = found(&reader, &Search::new(&filter));
    assert_eq!((mids.len(), progress.unreadable), (29, 1));
}

/// A body in Latin-1 and one in UTF-16 are searched as the text that they are.
#[test]
fn bodies_are_searched_in_their_charset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.db");
    let mut writer = open(&path);
    let texts: [(&str, &[u8]); 3] = [
        ("text/plain; charset=iso-8859-1", b"caf\xe9"),
        ("text/plain; charset=utf-16be", b"\0t\0e\0a"),
        ("text/plain", "café tea".as_bytes()),
    ];
    let flows = (1..).zip(texts).map(|(mid, (media_type, bytes))| {
        let mut flow = flow(Mid(mid), State::Complete, Content::Inline(Bytes::copy_from_slice(bytes)));
        let response = flow.response.as_mut().unwrap();
        response.headers = [("Content-Type", media_type)].into_iter().collect();
        response.body.len = bytes.len() as u64;
        flow
    });
    commit(&mut writer, flows.collect()).unwrap();
    let reader = Reader::open(&path).unwrap();
    for (text, mids) in [("~b CAFÉ", &[3, 1][..]), ("~b tea", &[3, 2]), ("~b caf", &[3, 1])] {
        assert_eq!(found(&reader, &Search::new(&parsed(text))).0, mids, "{text}");
    }
}

#[test]
fn explaining_tells_which_part_is_answered_how() {
    let filter = parsed("status>=400 host:example ~u '/a.b' ~h x-key ~b secret method:post !~e");
    let explained = explain(&filter);
    let sql = explained.sql.unwrap();
    for part in [
        "(status >= 400)",
        "flow.host IN (",
        "(method = 'post' COLLATE NOCASE)",
        "(error IS NOT NULL) IS NOT TRUE",
    ] {
        assert!(sql.contains(part), "{part} in {sql}");
    }
    assert_eq!(explained.row, ["host contains \"example\"", "URL matches //a.b/i"]);
    assert_eq!(explained.record, ["a header line of request or response matches /x-key/i"]);
    assert_eq!(explained.bodies, ["the body of request or response matches /secret/i"]);
    assert_eq!(explain(&parsed("~u a")).sql, None);
    assert_eq!(explain(&parsed("~udp ~u a")).sql.unwrap(), "nothing can match");
}
