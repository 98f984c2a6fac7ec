//! Rules as they are written, and what they say.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::flow::{Flow, Headers, Kind, Opcode, Request, Scheme, Target, Version};

const KINDS: [RuleKind; 7] = [
    RuleKind::Block,
    RuleKind::Delay,
    RuleKind::SetHeader,
    RuleKind::RemoveHeader,
    RuleKind::WsReplace,
    RuleKind::WsDrop,
    RuleKind::WsInject,
];

fn rules(list: &[(RuleKind, &str)]) -> Arc<Rules> {
    let mut rules = Rules::default();
    for (kind, text) in list {
        rules.add(*kind, text).unwrap();
    }
    Arc::new(rules)
}

fn flow(host: &str, path: &str, fields: &[(&str, &str)]) -> Flow {
    let headers: Headers = fields.iter().copied().collect();
    let request =
        Request { method: "GET".into(), target: path.to_owned().into(), headers, ..Request::default() };
    let target = Target { scheme: Scheme::Http, host: host.into(), port: 80 };
    Flow { kind: Kind::Http, target, request: Some(request), ..Flow::default() }
}

#[test]
fn a_filter_may_hold_any_sign_but_the_one_that_is_chosen() {
    let rules = rules(&[
        (RuleKind::Block, "host:ads.test"),
        (RuleKind::Block, "|~u /track/ |404"),
        (RuleKind::Block, ",host:x.test | host=y.test,kill"),
        (RuleKind::Block, "/~m TRACE/444"),
    ]);
    let block = |host, path| rules.block(&flow(host, path, &[]));
    assert_eq!(block("ads.test", "/"), Some((0, Block::Answer(403))));
    assert_eq!(block("a.test", "/track/1"), Some((1, Block::Answer(404))));
    assert_eq!(block("y.test", "/"), Some((2, Block::Kill)));
    assert_eq!(block("a.test", "/"), None);
    assert_eq!(rules.text(1), "block |~u /track/ |404");
}

#[test]
fn bad_rules_are_told_by_what_is_wrong() {
    let told = |kind, text: &str| Rules::default().add(kind, text).unwrap_err().problem.to_string();
    for (kind, text, words) in [
        (RuleKind::Block, "", "its form is FILTER"),
        (RuleKind::Block, "/ads", "its form is FILTER"),
        (RuleKind::Block, "/ads/banner", "neither a status"),
        (RuleKind::Block, "/~d a/199", "neither a status"),
        (RuleKind::Block, "hots:a", "no field `hots`"),
        (RuleKind::Block, "~d a ~c 200", "there is no response yet"),
        (RuleKind::Delay, "5", "no duration"),
        (RuleKind::Delay, "0s", "more than zero"),
        (RuleKind::Delay, "2d", "at most 1d"),
        (RuleKind::Delay, "/~d a", "its form is TIME"),
        (RuleKind::SetHeader, "X-A", "is no header field"),
        (RuleKind::SetHeader, "//host: a", "names the origin"),
        (RuleKind::SetHeader, "Content-Length: 1", "follows from the body"),
        (RuleKind::RemoveHeader, "a b", "cannot be called so"),
        (RuleKind::WsReplace, "/foo/foobar", "its form is /FILTER/"),
        (RuleKind::WsReplace, "//any/(/x", "unclosed group"),
        (RuleKind::WsDrop, "//all/x", "none of client, server, any"),
        (RuleKind::WsInject, "//any//x", "none of client, server"),
    ] {
        let told = told(kind, text);
        assert!(told.contains(words), "{text}: {told}");
    }
}

#[test]
fn a_blocked_request_is_neither_held_nor_changed() {
    let rules =
        rules(&[(RuleKind::Delay, "1s"), (RuleKind::SetHeader, "X: y"), (RuleKind::Block, "host:a.test")]);
    let verdict = rules.request(&flow("a.test", "/", &[]));
    let expected = Verdict { block: Some(Block::Answer(403)), rules: vec![2], ..Verdict::default() };
    assert_eq!(verdict, expected);
}

#[test]
fn all_that_match_act_in_their_order() {
    let rules = rules(&[
        (RuleKind::Delay, "1s"),
        (RuleKind::Delay, "/host:a.test/500ms"),
        (RuleKind::Delay, "/host:b.test/1h"),
        (RuleKind::RemoveHeader, "cookie"),
        (RuleKind::SetHeader, "/~q/X-A: 1"),
        (RuleKind::SetHeader, "x-a: 2"),
        (RuleKind::RemoveHeader, "not-there"),
    ]);
    let verdict = rules.request(&flow("a.test", "/", &[("Cookie", "a=b"), ("B", "c")]));
    assert_eq!((verdict.delay, &verdict.rules[..]), (Duration::from_millis(1500), &[0, 1, 3, 4, 5][..]));
    let expected: Headers = [("B", "c"), ("x-a", "2")].into_iter().collect();
    assert_eq!(verdict.changed, Some(expected));
    // What a field was set to is told by the field.
    assert_eq!(rules.text(5), "set-header x-a");
    assert_eq!(rules.text(4), "set-header /~q/X-A");
    let mut http2 = flow("a.test", "/", &[]);
    http2.request.as_mut().unwrap().version = Version::Http2;
    let expected: Headers = [("x-a", "2")].into_iter().collect();
    assert_eq!(rules.request(&http2).changed, Some(expected));
}

#[test]
fn a_websocket_that_rules_concern_goes_without_extensions() {
    let rules = rules(&[(RuleKind::WsDrop, "/host:a.test/any/x")]);
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ];
    let verdict = rules.request(&flow("a.test", "/", &upgrade));
    assert_eq!((verdict.changed, verdict.rules), (Some(upgrade[..2].iter().copied().collect()), vec![]));
    for other in [flow("b.test", "/", &upgrade), flow("a.test", "/", &upgrade[2..])] {
        assert_eq!(rules.request(&other), Verdict::default());
    }
    assert!(rules.messages(&flow("b.test", "/", &upgrade)).is_none());
}

#[test]
fn messages_are_judged_as_they_came_and_changed_one_after_the_other() {
    let rules = rules(&[
        (RuleKind::WsReplace, "//client/foo/foobar"),
        (RuleKind::WsReplace, "//any/(bar)$/<$1>"),
        (RuleKind::WsDrop, "//server/^secret"),
        (RuleKind::WsInject, "//client//hello/there"),
        (RuleKind::WsInject, "//client/^(ping|secret)/pong"),
    ]);
    let messages = rules.messages(&flow("a.test", "/", &[])).unwrap();
    let inject = |text: &'static str, rule| Injection { to: End::Client, text: text.into(), rule };
    assert_eq!(messages.opening(), [inject("hello/there", 3)]);
    let judge = |from, opcode, text: &str| messages.judge(from, opcode, text.as_bytes());
    let replace = |text: &str, rules: &[usize]| Fate::Replace { text: text.into(), rules: rules.to_vec() };
    let fate = |from, text| judge(from, Opcode::Text, text).fate;
    assert_eq!(fate(End::Client, "a foo"), replace("a foo<bar>", &[0, 1]));
    assert_eq!(fate(End::Server, "a foo"), Fate::Pass);
    assert_eq!(judge(End::Client, Opcode::Binary, "a foo").fate, Fate::Pass);
    assert_eq!(fate(End::Client, "secret"), Fate::Pass);
    let dropped = Judged { fate: Fate::Drop { rule: 2 }, injections: vec![inject("pong", 4)] };
    assert_eq!(judge(End::Server, Opcode::Binary, "secret bar"), dropped);
    assert_eq!(judge(End::Client, Opcode::Text, "ping").injections, [inject("pong", 4)]);
    assert_eq!(messages.judge(End::Client, Opcode::Text, b"foo \xff").fate, Fate::Pass);
}

#[test]
fn rules_are_equal_that_were_written_alike() {
    let (one, other) = ((RuleKind::SetHeader, "X: 1"), (RuleKind::SetHeader, "X: 2"));
    assert_eq!(rules(&[one]), rules(&[one]));
    assert_ne!(rules(&[one]), rules(&[other]));
    assert!(rules(&[]).is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_reading_a_rule_panic(kind in 0usize..7, text in "[/|,]?(\\PC{0,12}|[~a-z/: .()*]{0,20})") {
        let _ = Rules::default().add(KINDS[kind], &text);
    }
}
