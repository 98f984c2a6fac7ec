//! Zones: never do they leave out a row that matches, whatever is written when.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use regex::bytes::RegexBuilder;

use super::*;
use crate::flow::{FlowError, Kind, Scheme, ServerConn, Target, Timing};

const BLOCK: u64 = 1024;

/// Writes these, rewrites what is there, and makes what zones are due.
fn store(writer: &mut Writer, flows: &[Flow], next_mid: u64) {
    let mut group = Group::default();
    (group.next_mid, group.next_conn) = (next_mid, 2);
    for flow in flows {
        let mut bytes = Vec::new();
        let draft = Draft::new(flow.mid.unwrap(), flow, true, &mut bytes);
        group.push(draft, &bytes);
    }
    writer.commit(&mut group).unwrap();
}

/// Without syncs, for many stores in one test.
fn open_quick(path: &Path) -> Writer {
    Writer::open(path, &WriterOptions { durability: Durability::Normal, ..options() }).unwrap()
}

fn zoned(reader: &Reader) -> Vec<u64> {
    let mut blocks = reader.blocks(Mid(0), Mid(u64::MAX), Order::OldestFirst).unwrap();
    let mut zoned = Vec::new();
    while let Some(block) = blocks.next().unwrap() {
        zoned.extend(block.zone.map(|zone| zone.mids().0.0 / BLOCK));
    }
    zoned
}

/// The values of one row, from small sets, so that blocks have some in common and lack others.
fn any_flow() -> impl Strategy<Value = Flow> {
    let request = (
        prop::sample::select(&["GET", "POST", "PUT", ""][..]),
        prop::sample::select(&["/", "/a/b?c=d", "/img/x.png", "", "nothing", "*", "/Ä", "/long"][..]),
        prop::option::of(prop::sample::select(&["text/plain", "application/json"][..])),
        prop::option::of((
            100_u16..600,
            prop::option::of(prop::sample::select(&["text/css", "image/png"][..])),
        )),
    );
    let target = (
        prop::sample::select(&["a.example", "B.example", "::1", "10.0.0.1", ""][..]),
        prop::sample::select(&[80_u16, 443, 8080][..]),
        prop::sample::select(&[Scheme::Http, Scheme::Https, Scheme::Tcp][..]),
    );
    let what = (
        prop::sample::select(&[Kind::Http, Kind::Http, Kind::Connect, Kind::Tunnel, Kind::Tls][..]),
        prop::sample::select(&[State::Open, State::Complete, State::Failed, State::ClientAborted][..]),
        prop::option::of(0_u64..5_000_000),
        -5_i64..5,
        (0_u64..3, 0_u64..3),
        any::<[bool; 3]>(),
    );
    (request, target, what).prop_map(|(request, (host, port, scheme), what)| {
        let (method, path, request_type, response) = request;
        let (kind, state, end_us, started_unix_ns, lens, [failed, server, replay]) = what;
        let headers = |name: Option<&str>| name.map(|name| ("Content-Type", name)).into_iter().collect();
        let path = if path == "/long" { format!("/{}", "l".repeat(3000)) } else { path.to_owned() };
        let body = |len| Body {
            len,
            end: if len == 2 { BodyEnd::Capped } else { BodyEnd::Whole },
            ..Body::default()
        };
        Flow {
            kind,
            state,
            error: failed.then(|| FlowError { message: "no".into(), ..FlowError::default() }),
            target: Target { scheme, host: host.into(), port },
            request: Some(Request {
                method: method.into(),
                target: path.into(),
                headers: headers(request_type),
                body: body(lens.0),
                ..Request::default()
            }),
            response: response.map(|(status, name)| Response {
                status,
                headers: headers(name),
                body: body(lens.1),
                ..Response::default()
            }),
            server: server.then(Arc::<ServerConn>::default),
            replay_of: replay.then_some(Mid(1)),
            timing: Timing { started_unix_ns, end_us, ..Timing::default() },
            ..Flow::default()
        }
    })
}

/// Every question that a zone answers, with what it says and what a row says.
type Question = (Box<dyn Fn(&Zone) -> Option<bool>>, Box<dyn Fn(&Row) -> bool>);

type Of<T> = fn(&Row) -> T;

fn questions(hosts: &HostSet) -> Vec<Question> {
    let mut all: Vec<Question> = Vec::new();
    for n in 0..7 {
        let (kind, state, scheme) = (row::kind(Some(n)), row::state(Some(n)), row::scheme(Some(n)));
        all.push((Box::new(move |z| z.kind(|k| k == kind)), Box::new(move |r| r.kind == kind)));
        all.push((Box::new(move |z| z.state(|s| s == state)), Box::new(move |r| r.state == state)));
        all.push((Box::new(move |z| z.scheme(|s| s == scheme)), Box::new(move |r| r.scheme == scheme)));
    }
    let low = |n: i64| move |s: i64| s / 100 == n;
    for n in 1..6 {
        all.push((
            Box::new(move |z| z.status(low(n))),
            Box::new(move |r| r.status.is_some_and(|s| low(n)(s.into()))),
        ));
    }
    let hosts = hosts.clone();
    all.push((Box::new(move |z| z.host(|id| hosts.contains(id))), Box::new(|r| r.host.contains("example"))));
    all.push((Box::new(|z| z.port(|p| p < 400)), Box::new(|r| r.port < 400)));
    for method in ["GET", "POST", "PUT", "", "HEAD"] {
        all.push((
            Box::new(move |z| z.method(|m| m == method.as_bytes())),
            Box::new(move |r| r.method == method),
        ));
    }
    for name in ["text", "json", "png", "none"] {
        let has = move |text: &str| text.contains(name);
        let of = move |text: &[u8]| has(std::str::from_utf8(text).unwrap());
        all.push((
            Box::new(move |z| z.request_type(of)),
            Box::new(move |r| r.request_type.as_deref().is_some_and(has)),
        ));
        all.push((
            Box::new(move |z| z.response_type(of)),
            Box::new(move |r| r.response_type.as_deref().is_some_and(has)),
        ));
    }
    let properties: [(Property, Of<bool>); 9] = [
        (Property::Status, |r| r.status.is_some()),
        (Property::Duration, |r| r.duration_us.is_some()),
        (Property::Error, |r| r.error.is_some()),
        (Property::RequestType, |r| r.request_type.is_some()),
        (Property::ResponseType, |r| r.response_type.is_some()),
        (Property::Server, |r| r.server_conn.is_some()),
        (Property::ReplayOf, |r| r.replay_of.is_some()),
        (Property::RequestTruncated, |r| r.request_truncated),
        (Property::ResponseTruncated, |r| r.response_truncated),
    ];
    for (property, of) in properties {
        all.push((Box::new(move |z| z.has(property)), Box::new(of)));
    }
    let measures: [(Measure, Of<Option<i64>>); 5] = [
        (Measure::Started, |r| Some(r.started_unix_ns)),
        (Measure::Duration, |r| r.duration_us.map(u64::cast_signed)),
        (Measure::RequestLen, |r| Some(r.request_len.cast_signed())),
        (Measure::ResponseLen, |r| Some(r.response_len.cast_signed())),
        (Measure::Len, |r| Some((r.request_len + r.response_len).cast_signed())),
    ];
    for (measure, of) in measures {
        for ranges in
            [vec![(0, 1)], vec![(i64::MIN, -3), (2, i64::MAX)], vec![(1_000_000, 2_000_000)], vec![]]
        {
            let same = ranges.clone();
            all.push((
                Box::new(move |z| z.measure(measure, &ranges)),
                Box::new(move |r| {
                    of(r).is_some_and(|n| same.iter().any(|&(low, high)| low <= n && n <= high))
                }),
            ));
        }
    }
    all
}

fn url(row: &Row) -> String {
    let target = Target { scheme: row.scheme, host: row.host.clone(), port: row.port };
    match row.kind {
        Kind::Http if row.host.is_empty() => row.path.clone(),
        Kind::Http => {
            let slash = if row.path.is_empty() || row.path.starts_with('/') { "" } else { "/" };
            format!("{}://{}{slash}{}", row.scheme.as_str(), target.authority(), row.path)
        }
        _ if row.host.is_empty() && row.scheme == Scheme::Tcp => String::new(),
        _ => target.host_port(),
    }
}

/// Whatever a zone says of its block is so of each row there; and it says what there is to say.
fn expect_true_zones(reader: &Reader, exact: bool) -> Result<(), TestCaseError> {
    let rows = reader.list(&ListQuery { order: Order::OldestFirst, ..ListQuery::default() }).unwrap();
    let hosts = reader.hosts(|name| std::str::from_utf8(name).unwrap().contains("example")).unwrap();
    let questions = questions(&hosts);
    let texts = ["example", "^http://", "b$", "^$", "\\Ahttps", "8080/", "[^/]b\\?c", "Ä", "llllll", "zzz"];
    let patterns = texts.map(|text| {
        let mut builder = RegexBuilder::new(text);
        UrlPattern::new(builder.case_insensitive(true).unicode(!text.is_ascii())).unwrap()
    });
    let mut blocks = reader.blocks(Mid(0), Mid(u64::MAX), Order::NewestFirst).unwrap();
    while let Some(block) = blocks.next().unwrap() {
        let rows: Vec<_> = rows.iter().filter(|row| (block.first..=block.last).contains(&row.mid)).collect();
        let Some(zone) = block.zone else { continue };
        for (i, (ask, of)) in questions.iter().enumerate() {
            let (answer, all, none) = (ask(&zone), rows.iter().all(|r| of(r)), !rows.iter().any(|r| of(r)));
            prop_assert!(answer != Some(true) || all, "question {}", i);
            prop_assert!(answer != Some(false) || none, "question {}", i);
            let measure = i >= questions.len() - 20;
            // A row that was open may be interrupted: it is not told that none is.
            let state = i < 21 && i % 3 == 1;
            prop_assert!(!exact || measure || state || answer.is_some() == (all || none), "question {}", i);
        }
        let mut urls = Urls::default();
        prop_assert!(reader.urls(block.first, &mut urls).unwrap());
        for (pattern, text) in patterns.iter().zip(texts) {
            let hits = urls.search(pattern);
            for row in &rows {
                let expected = pattern.is_match(url(row).as_bytes());
                let told = hits.of(row.mid);
                prop_assert_eq!(told.unwrap_or(expected), expected, "{} in {}", text, url(row));
                prop_assert!(told.is_some() || row.path.len() > 2000);
                prop_assert!(!expected || hits.any().is_none());
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn a_zone_says_nothing_that_is_not_so(
        flows in prop::collection::btree_map(0_u64..4 * BLOCK, any_flow(), 1..60),
        later in prop::collection::btree_map(0_u64..4 * BLOCK, any_flow(), 0..10),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.db");
        let numbered = |flows: std::collections::BTreeMap<u64, Flow>| -> Vec<Flow> {
            flows.into_iter().map(|(mid, flow)| Flow { mid: Some(Mid(mid + 1)), ..flow }).collect()
        };
        let (flows, later) = (numbered(flows), numbered(later));
        let mut writer = open_quick(&path);
        writer.keeper.book.zones.quiet = Duration::ZERO;
        store(&mut writer, &flows, 4 * BLOCK + 5);
        store(&mut writer, &[], 4 * BLOCK + 5);
        let reader = Reader::open(&path).unwrap();
        let mut full: Vec<_> = flows.iter().map(|f| f.mid.unwrap().0 / BLOCK).filter(|&block| block < 4).collect();
        full.dedup();
        prop_assert_eq!(zoned(&reader), full);
        expect_true_zones(&reader, true)?;
        // Rewritten and inserted, and looked at before and after zones are made anew.
        writer.keeper.book.zones.quiet = Duration::from_secs(60);
        store(&mut writer, &later, 4 * BLOCK + 5);
        expect_true_zones(&reader, true)?;
        prop_assert!(later.iter().all(|flow| !zoned(&reader).contains(&(flow.mid.unwrap().0 / BLOCK))));
        writer.close().unwrap();
        expect_true_zones(&reader, true)?;
        // What was open is interrupted now, in zones that were made before.
        let mut writer = open_quick(&path);
        expect_true_zones(&reader, false)?;
        // A row that is deleted leaves its zone.
        writer.conn.execute_batch("DELETE FROM flow WHERE mid % 3 = 0").unwrap();
        expect_true_zones(&reader, false)?;
        prop_assert!(writer.make_zones(Duration::from_secs(5)).unwrap());
    }

}

proptest! {
    #[test]
    fn blocks_are_all_mids_each_once(
        zoned in prop::collection::btree_set(0_i64..200, 0..150),
        first in 0_u64..200 * BLOCK,
        len in 0_u64..200 * BLOCK,
        newest in any::<bool>(),
    ) {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch(schema::ZONES).unwrap();
        for &block in &zoned {
            let mut insert =
                conn.prepare_cached("INSERT INTO zone VALUES (?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                    NULL, NULL, NULL, NULL, NULL, NULL)").unwrap();
            insert.execute([block]).unwrap();
        }
        let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
        let last = first + len;
        let mut blocks = Blocks::new((&conn, Path::new("")), (Mid(first), Mid(last)), order).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            let (low, high) = (block.first.0, block.last.0);
            prop_assert!(low <= high);
            let within = low / BLOCK..=high / BLOCK;
            match &block.zone {
                Some(zone) => prop_assert_eq!((zone.mids().0.0 / BLOCK, high / BLOCK), (low / BLOCK, low / BLOCK)),
                None => prop_assert!(!zoned.iter().any(|&block| within.contains(&block.cast_unsigned()))),
            }
            seen.push((low, high));
        }
        if newest {
            seen.reverse();
        }
        prop_assert_eq!((seen[0].0, seen[seen.len() - 1].1), (first, last));
        prop_assert!(seen.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
    }
}

/// Flows of the mids `1..mids`, all ended, and the same in each run.
fn ended_flows(mids: u64) -> Vec<Flow> {
    let mut runner = TestRunner::deterministic();
    let mut ended = |mid| {
        let flow = any_flow().new_tree(&mut runner).unwrap().current();
        let state = if flow.state == State::Open { State::Complete } else { flow.state };
        Flow { mid: Some(Mid(mid)), state, ..flow }
    };
    (1..mids).map(&mut ended).collect()
}

#[test]
fn a_block_gets_its_zone_when_its_last_flow_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    let reader = Reader::open(&path).unwrap();
    let mut flows = ended_flows(3 * BLOCK);
    let last = flows.remove(1500);
    // In groups that do not follow one another's mids, as flows end.
    for start in 0..8 {
        let group: Vec<_> = flows.iter().skip(start).step_by(8).cloned().collect();
        assert!(zoned(&reader).is_empty());
        store(&mut writer, &group, 3 * BLOCK);
    }
    assert_eq!(zoned(&reader), [0, 2]);
    store(&mut writer, &[Flow { state: State::Open, ..last.clone() }], 3 * BLOCK);
    store(&mut writer, &[last], 3 * BLOCK);
    assert_eq!(zoned(&reader), [0, 2], "one that was written before it ended makes its block wait");
    expect_true_zones(&reader, true).unwrap();
    // One that is written twice takes the zone of its block away, noted as it was.
    store(&mut writer, &flows[3..4], 3 * BLOCK);
    assert_eq!(zoned(&reader), [2]);
    writer.close().unwrap();
    assert_eq!(zoned(&reader), [0, 1, 2]);
    expect_true_zones(&reader, true).unwrap();
}

#[test]
fn a_block_that_was_begun_before_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let flows = ended_flows(2 * BLOCK);
    let mut writer = open(&path);
    store(&mut writer, &flows[..500], 501);
    writer.close().unwrap();
    let mut writer = open(&path);
    store(&mut writer, &flows[500..], 2 * BLOCK);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(zoned(&reader), [1]);
    writer.close().unwrap();
    assert_eq!(zoned(&reader), [0, 1]);
    expect_true_zones(&reader, true).unwrap();
}

#[test]
fn a_flow_that_ends_late_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    writer.keeper.book.zones.quiet = Duration::ZERO;
    let slow = |state| Flow { response: None, ..flow(Mid(3), state, Content::Absent) };
    store(&mut writer, &[slow(State::Open), flow(Mid(4), State::Complete, Content::Absent)], 3 * BLOCK);
    let reader = Reader::open(&path).unwrap();
    let status = |status: i64| {
        let mut blocks = reader.blocks(Mid(1), Mid(BLOCK - 1), Order::NewestFirst).unwrap();
        let block = blocks.next().unwrap().unwrap();
        assert!(blocks.next().unwrap().is_none());
        block.zone.map(|zone| zone.status(|s| s == status))
    };
    assert_eq!((status(200), status(503)), (Some(None), Some(Some(false))));
    writer.keeper.book.zones.quiet = Duration::from_secs(60);
    let mut ended = slow(State::Complete);
    ended.response = Some(Response { status: 503, ..Response::default() });
    store(&mut writer, &[ended], 3 * BLOCK);
    assert_eq!(status(503), None, "a block whose rows changed has no zone");
    writer.close().unwrap();
    assert_eq!(status(503), Some(None));
}

#[test]
fn a_store_without_zones_gets_them_while_flows_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    // Some blocks in a row, a gap of thousands, and some more.
    let blocks: Vec<u64> = (0..10).chain(70_000..70_010).collect();
    let flows: Vec<_> =
        blocks.iter().map(|block| flow(Mid(block * BLOCK + 7), State::Complete, Content::Absent)).collect();
    store(&mut writer, &flows, 70_010 * BLOCK);
    writer.close().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(zoned(&reader), blocks);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("DROP TABLE zone; DROP TABLE zone_url").unwrap();
    assert!(zoned(&reader).is_empty(), "a reader of an older store does without");
    // As the step to the version that added them leaves it.
    db.execute_batch(schema::ZONES).unwrap();
    drop(db);
    let mut writer = open(&path);
    assert!(zoned(&reader).is_empty(), "opening is quick");
    let mut before = 0;
    while before < blocks.len() {
        store(&mut writer, &[], 70_010 * BLOCK);
        let now = zoned(&reader).len();
        assert!(before < now && now <= before + 4, "{before} {now}");
        before = now;
    }
    assert_eq!(zoned(&reader), blocks);
    writer.close().unwrap();
}

#[test]
fn zones_that_cannot_be_made_cost_no_flow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.db");
    let mut writer = open(&path);
    writer.keeper.book.zones.quiet = Duration::ZERO;
    writer.conn.execute_batch("ALTER TABLE zone_url RENAME COLUMN urls TO other").unwrap();
    for block in 0..3 {
        store(
            &mut writer,
            &[flow(Mid(block * BLOCK + 1), State::Complete, Content::Absent)],
            (block + 1) * BLOCK,
        );
    }
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.bounds().unwrap().unwrap().2, 3);
    assert!(writer.make_zones(Duration::from_secs(5)).unwrap());
    writer.close().unwrap();
}

#[test]
fn a_store_of_version_1_has_no_zones_until_a_block_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = of_version(dir.path(), 1);
    let early = Reader::open(&path).unwrap();
    assert!(zoned(&early).is_empty());
    let mut writer = open(&path);
    assert!(zoned(&early).is_empty());
    writer.keeper.book.zones.quiet = Duration::ZERO;
    store(&mut writer, &[], BLOCK);
    assert_eq!(zoned(&early), [0]);
    expect_true_zones(&early, true).unwrap();
    writer.close().unwrap();
}
