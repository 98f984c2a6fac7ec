//! The filter language: what is read, what is refused and where, and what matches.

use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::flow::{
    Addr, Body, ClientConn, Flow, FlowError, Headers, Kind, Mid, Request, Response, Scheme, ServerConn, Side,
    Stage, State, Target, Timing,
};

fn clock() -> Clock {
    Clock { now: "2026-11-22T12:00:00Z".parse().unwrap(), zone: TimeZone::UTC }
}

fn read(text: &str) -> Filter {
    Filter::parse_at(text, &clock()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> FilterError {
    match Filter::parse_at(text, &clock()) {
        Err(error) => error,
        Ok(filter) => panic!("{text} was read as {filter}"),
    }
}

/// A plain exchange, about which there are notes.
fn sample() -> Flow {
    let headers: Headers =
        [("Content-Type", "application/json; charset=utf-8"), ("X-Key", "Value")].into_iter().collect();
    let asked: Headers = [("Host", "api.example.test"), ("Content-type", "text/plain")].into_iter().collect();
    let request = Request {
        method: "POST".into(),
        target: "/items?page=2".into(),
        headers: asked,
        body: Body::inline("secret"),
        ..Request::default()
    };
    let response = Response { status: 404, headers, body: Body::inline("not found"), ..Response::default() };
    let peer = |host: &str, port| Some(Addr { host: host.into(), port, ..Addr::default() });
    Flow {
        mid: Some(Mid(50)),
        state: State::Complete,
        target: Target { scheme: Scheme::Https, host: "api.example.test".into(), port: 8443 },
        request: Some(request),
        response: Some(response),
        client: Arc::new(ClientConn { peer: peer("192.0.2.7", 50_000), ..ClientConn::default() }),
        server: Some(Arc::new(ServerConn {
            address: Addr { host: "api.example.test".into(), port: 8443, ..Addr::default() },
            peer: peer("198.51.100.1", 8443),
            ..ServerConn::default()
        })),
        timing: Timing {
            started_unix_ns: 1_795_341_600_000_000_000, // 2026-11-22T10:00:00Z
            end_us: Some(150_000),
            ..Timing::default()
        },
        ..Flow::default()
    }
}

fn notes() -> Notes {
    Notes { marker: ":default:".into(), comment: "cart bug\nsecond line".into(), tags: vec!["login".into()] }
}

/// Whether a filter that needs no body matches.
fn matches(text: &str, flow: &Flow) -> bool {
    let notes = notes();
    let mut subject = FlowSubject { flow, mid: 50, notes: Some(&notes) };
    read(text).judge(&mut subject).unwrap().unwrap_or_else(|| panic!("{text} needs a body"))
}

#[test]
fn each_operator_asks_what_mitmproxys_does() {
    let flow = sample();
    for yes in [
        "~all",
        "~http",
        "!~websocket",
        "!~tcp",
        "!~udp",
        "!~dns",
        "!~q",
        "~s",
        "!~e",
        "~marked",
        "~marker default",
        "~comment ^second",
        "!~replay",
        "!~replayq",
        "!~replays",
        "!~a",
        "~u ITEMS",
        "~d ^api\\.",
        "~m ^post$",
        "~c 404",
        "~h x-key:.value$",
        "~hq host:",
        "!~hq x-key",
        "~hs X-KEY",
        "!~hs host",
        "~t json",
        "~t plain",
        "~tq plain",
        "!~tq json",
        "~ts json",
        "~src 192.0.2.7:50000",
        "~dst example.test:8443",
        "~dst 198.51",
        "items",
        "\"items\"",
        "https://api.example.test:8443/items",
    ] {
        assert!(matches(yes, &flow), "{yes}");
    }
    for (text, part) in [("~b x", Part::Either), ("~bq x", Part::Request), ("~bs x", Part::Response)] {
        let filter = read(text);
        assert!(matches!(filter.expr(), Expr::Test(Test::Text(Text::Body(found), _)) if *found == part));
        assert_eq!(filter.judge(&mut FlowSubject { flow: &flow, mid: 1, notes: None }), Ok(None));
    }
    let mut asset = sample();
    asset.response.as_mut().unwrap().headers = [("content-type", "image/png")].into_iter().collect();
    assert!(matches("~a", &asset));
    let failed = Flow {
        response: None,
        websocket: Some(Box::default()),
        error: Some(FlowError { stage: Stage::Tls, side: Side::Server, ..FlowError::default() }),
        replay_of: Some(Mid(7)),
        ..sample()
    };
    for yes in ["~q", "!~s", "~e", "~websocket", "~replay", "~replayq", "is:tls-failed", "!status:0-999"] {
        assert!(matches(yes, &failed), "{yes}");
    }
    let tunnel = Flow { kind: Kind::Tunnel, ..sample() };
    assert!(matches("~tcp & is:tunnel & !~http & !~q & !~s & ^api.example.test:8443$", &tunnel));
}

#[test]
fn fields_compare() {
    let flow = sample();
    for yes in [
        "status>=400",
        "status<500",
        "status:4xx",
        "status:200,404",
        "status!=200",
        "!status=200",
        "~c 4xx",
        "~c 400-499",
        "size>10",
        "size=15",
        "size<=15",
        "req.size:6",
        "resp.size>=9",
        "!resp.size>9",
        "time<200ms",
        "took>0.1s",
        "!time>=150001us",
        "after:2026-11-22T10:00",
        "!after:2026-11-22T10:00:01",
        "before:2026-11-22T10:00:01Z",
        "!until:2026-11-22T10:00",
        "since:3h",
        "!last:1h",
        "after:today",
        "!before:2026-11-22",
        "after:2026-11-22T11:00+01:00",
        "mid:50",
        "mid:40-60",
        "mid:1,50..",
        "!mid:51..",
        "!mid:..49",
        "host:example",
        "host:*.example.test",
        "!host:example.*",
        "host=API.EXAMPLE.TEST",
        "host!=example.test",
        "host~^api",
        "host:\"api.\"",
        "method:post",
        "!method:pos",
        "path:/items",
        "path=/items?page=2",
        "port:8443",
        "port!=443",
        "scheme:https",
        "!scheme:http",
        "type:json",
        "req.type:plain",
        "!resp.type:plain",
        "tag:login",
        "!tag:log",
        "tag:log*",
        "comment:\"cart bug\"",
        "marker=:default:",
        "is:marked",
        "is:answered",
        "!is:open",
        "!is:truncated",
        "header:x-key",
        "!req.header:x-key",
        "client:192.0.2",
        "server:198.51",
        "url:8443/items",
        "IS:HTTP",
        "Status:404",
    ] {
        assert!(matches(yes, &flow), "{yes}");
    }
}

#[test]
fn not_binds_before_and_before_or_before_blanks() {
    for (text, same) in [
        ("!~e ~q", "(!~e) & ~q"),
        ("~e | ~q & ~s", "~e | (~q & ~s)"),
        ("~m GET ~c 404 | ~c 500", "~m GET & (~c 404 | ~c 500)"),
        ("~e ~q | ~s ~a", "~e & (~q | ~s) & ~a"),
        ("! ! ~e", "!(!~e)"),
        ("(~e ~q) | ~s", "(~e & ~q) | ~s"),
        ("~e&~q|~s", "(~e & ~q) | ~s"),
        ("  ~u   foo  ", "foo"),
        ("'foo bar'|baz", "(\"foo bar\") | baz"),
        ("foo(bar)", "foo & bar"),
        (r#""a\"b\\.c\d""#, r#"'a"b\.c\d'"#),
    ] {
        assert_eq!(read(text).expr(), read(same).expr(), "{text}");
    }
    assert_ne!(read("~e ~q | ~s").expr(), read("(~e ~q) | ~s").expr());
}

#[test]
fn words_that_only_look_like_fields_are_urls() {
    for text in
        ["localhost:8080", "page=2", "foo:bar", "http://a/b", "a&b", "a|b", "\"status:404\"", "-foo", "host"]
    {
        let filter = read(text);
        assert!(matches!(filter.expr(), Expr::Test(Test::Text(Text::Url, _))), "{text}");
    }
}

/// What is told, and the line with the carets.
fn told(text: &str) -> (String, String, Option<String>) {
    let error = refused(text);
    let [line, carets] = error.caret();
    assert_eq!(line, text);
    (error.to_string(), carets, error.hint)
}

#[test]
fn errors_show_the_place_and_what_was_expected() {
    let cases: &[(&str, &str, &str)] = &[
        ("~c abc", "`abc` is no status: write 404, 4xx or 400-499", "   ^^^"),
        ("~u", "a regular expression was expected, and the filter ends", "  ^"),
        ("~u ~e", "a regular expression was expected, not `~e`", "   ^^"),
        ("~m GET & ", "a term was expected, and the filter ends", "         ^"),
        ("& ~e", "a term was expected, not `&`", "^"),
        ("~e | | ~q", "a term was expected, not `|`", "     ^"),
        ("(~e ~q", "this parenthesis is not closed", "^"),
        ("(~e |", "this parenthesis is not closed", "^"),
        ("~e)", "an operator or the end was expected, not `)`", "  ^"),
        ("()", "a term was expected, not `)`", " ^"),
        ("~u 'x", "this quotation mark is not closed", "   ^"),
        ("~u [", "this is no regular expression: unclosed character class", "   ^"),
        ("~meta x", "flows have no free metadata here; `~comment` and `tag:` are kept", "^^^^^"),
        ("size>big", "`big` is no size: write 512, 10k, 1.5M or 1GiB", "     ^^^"),
        ("time>10", "`10` is no duration: write 200ms, 1.5s, 2m, 1h or 3d", "     ^^"),
        ("mid:9-5", "`9-5` ends before it begins", "    ^^^"),
        ("status<0", "nothing is less than `0`", "       ^"),
        ("port:70000", "`70000` is no port: write a number up to 65535", "     ^^^^^"),
        ("host>a", "`host` is compared with : = != ~", "    ^"),
        ("host: a", "a text was expected right here, not a blank", "     ^"),
        ("is>open", "`is` is compared with :", "  ^"),
        (
            "after:soon",
            "`soon` is no time: write 10m, 2h, 3d (before now), today, 2026-11-22 or 2026-11-22T10:00:00Z",
            "      ^^^^",
        ),
    ];
    for (text, message, carets) in cases {
        let (said, under, _) = told(text);
        assert_eq!((said.as_str(), under.as_str()), (*message, *carets), "{text}");
    }
    assert_eq!(refused("   ").problem, Problem::Empty);
}

#[test]
fn errors_guess_what_was_meant() {
    for (text, carets, hint) in [
        ("~e ~maked", "   ^^^^^^", "~marked"),
        ("~c404", "^^^^^", "~c 404"),
        ("stauts:404", "^^^^^^", "status:404, or in quotes for a URL with it"),
        ("hots:example", "^^^^", "host:example, or in quotes for a URL with it"),
        ("sise>1M", "^^^^", "size>1M, or in quotes for a URL with it"),
        ("is:tls-faild", "   ^^^^^^^^^", "is:tls-failed"),
        ("~m GET|~m POST", "      ^", "GET | as an operator, \"GET|\" as a part of the text"),
        ("~e or ~q", "   ^^", "| for at least one, \"or\" for a URL with it"),
        ("-status:404", "^^^^^^^^^^^", "!status:404 for not, \"-status:404\" for a URL with it"),
        ("~u (a|b)", "   ^", "text with parentheses in quotes: \"(a|b)\""),
    ] {
        let (_, under, guess) = told(text);
        assert_eq!((under.as_str(), guess.as_deref()), (carets, Some(hint)), "{text}");
    }
    assert!(refused("nosuch>1").hint.unwrap().contains("manent filter"));
}

#[test]
fn patterns_that_are_not_linear_are_refused_with_the_reason() {
    for text in ["~b 'a(?=b)'", "~b 'a(?!b)'", "~u '(?<=a)b'", r"~u '(a)\1'", "~u '(?P<n>a)(?P=n)'"] {
        assert_eq!(refused(text).problem, Problem::RegexNotLinear, "{text}");
    }
    assert_eq!(refused(r"~u '(\w{500}){500}'").problem, Problem::RegexTooLarge);
}

#[test]
fn filters_have_limits() {
    assert_eq!(refused(&"!".repeat(2000)).problem, Problem::TooDeep);
    assert_eq!(refused(&"(".repeat(2000)).problem, Problem::TooDeep);
    assert_eq!(refused(&"a ".repeat(2000)).problem, Problem::TooLong);
    assert_eq!(refused(&"a".repeat(9000)).problem, Problem::TooLong);
    assert!(Filter::parse(&format!("{}~e{}", "(".repeat(60), ")".repeat(60))).is_ok());
    let long = format!("{} ~c x{}", "~e ".repeat(40), " ~e".repeat(40));
    let [line, carets] = refused(&long).caret();
    assert!(line.starts_with('…') && line.ends_with('…') && line.chars().count() < 80);
    assert_eq!(line.chars().nth(carets.find('^').unwrap()), Some('x'));
}

#[test]
fn help_lists_every_spelling() {
    let help = help();
    let words = |word: String| assert!(help.contains(&word), "{word}");
    atoms::tildes().filter(|tilde| *tilde != "meta").for_each(|tilde| words(format!("~{tilde} ")));
    atoms::fields().for_each(|field| words(format!("{field}:")));
    atoms::ises().for_each(|is| words(format!("is:{is}")));
    for line in help.lines() {
        assert!(line.chars().count() <= 110, "{line}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
    // Spellings are unique.
    let mut all: Vec<_> =
        atoms::tildes().map(|t| format!("~{t}")).chain(atoms::fields().map(str::to_owned)).collect();
    all.extend(atoms::ises().map(|is| format!("is:{is}")));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn cheap_tests_are_asked_before_costly_ones() {
    let filter = read("~b x & ~h y & status=200");
    let mut asked = Vec::new();
    let answer = filter.program.judge::<()>(&mut |test| {
        asked.push(test.needs());
        Ok(Some(test.needs() != Needs::Record))
    });
    assert_eq!((answer, asked), (Ok(Some(false)), vec![Needs::Row, Needs::Record]));
    assert_eq!(filter.needs(), Needs::Bodies);
}

#[test]
fn words_tell_what_a_filter_says() {
    for (text, words) in [
        ("status>=400 host:example", "status is 400 or more and host contains \"example\""),
        ("~c 4xx | !(~e ~q)", "status is from 400 to 499 or not (an error and HTTP without a response)"),
        ("time<200ms", "time is 199999us or less"),
        (
            "before:2026-11-22 ~bq pass",
            "began before 2026-11-22T00:00:00Z and the body of the request matches /pass/i",
        ),
    ] {
        assert_eq!(read(text).expr().in_words(), words, "{text}");
    }
}

/// Filters of every kind, for properties here and in the store.
pub(crate) fn any_expr() -> impl Strategy<Value = Expr> {
    let flag = prop::sample::select(vec![
        Flag::Http,
        Flag::Tunnel,
        Flag::WebSocket,
        Flag::Pending,
        Flag::Answered,
        Flag::Error,
        Flag::Marked,
        Flag::Replay,
        Flag::Asset,
        Flag::Truncated,
        Flag::TlsFailed,
        Flag::Open,
    ]);
    let part = || prop::sample::select(vec![Part::Either, Part::Request, Part::Response]);
    let text = prop_oneof![
        part().prop_map(Text::Type),
        part().prop_map(Text::Header),
        part().prop_map(Text::Body),
        prop::sample::select(vec![
            Text::Url,
            Text::Host,
            Text::Path,
            Text::Method,
            Text::Scheme,
            Text::Client,
            Text::Server,
            Text::Marker,
            Text::Comment,
            Text::Tag,
        ]),
    ];
    let how = prop::sample::select(vec![How::Regex, How::Contains, How::Glob, How::Equals]);
    let words = prop::sample::select(vec![
        "", "a", "b", "^a", "a.*b", "x|y", "test", "http", "GET", "get", "post", "json", "text", "127", "ok",
        "é", "\u{fffd}", "%", "_", "a\"\\b", "*a*", "a*", ":8", ".", "one", "red", "CONNECT", "tcp", "image",
        "/", "x$",
    ]);
    let pattern = (text, how, words).prop_map(|(text, how, word)| {
        let how = match how {
            // What is written with `:` means one or the other by its kind and its stars.
            How::Contains | How::Glob if word.contains('*') => How::Glob,
            How::Contains | How::Glob if text.is_name() => How::Equals,
            How::Glob => How::Contains,
            how => how,
        };
        let pattern = Pattern::new(how, word, text).or_else(|_| Pattern::new(How::Regex, "a", text));
        Test::Text(text, pattern.unwrap())
    });
    let number = prop_oneof![
        part().prop_map(Number::Size),
        prop::sample::select(vec![Number::Status, Number::Duration, Number::Mid, Number::Port]),
    ];
    let bound = prop::sample::select(vec![0, 1, 2, 3, 5, 9, 20, 80, 199, 200, 204, 404, 443, 500, 999]);
    let ranges = prop::collection::vec((bound.clone(), prop_oneof![3 => bound, 1 => Just(i64::MAX)]), 1..3)
        .prop_map(|ends| Ranges(ends.into_iter().map(|(a, b): (i64, i64)| (a.min(b), a.max(b))).collect()));
    let number = (number, ranges).prop_map(|(number, ranges)| Test::Number(number, ranges));
    let time = (0_i64..12, any::<bool>()).prop_map(|(at, after)| {
        let ranges = if after { Ranges::one(at, i64::MAX) } else { Ranges::one(i64::MIN, at) };
        Test::Number(Number::Started, ranges.unwrap())
    });
    let test = prop_oneof![
        1 => Just(Test::Everything),
        1 => prop::sample::select(vec![NoSuch::Udp, NoSuch::Dns, NoSuch::ReplayedResponse]).prop_map(Test::Nothing),
        6 => flag.prop_map(Test::Flag),
        12 => pattern,
        8 => number,
        2 => time,
    ];
    test.prop_map(Expr::Test).prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::all),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::any),
            inner.prop_map(Expr::negated),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(expr in any_expr()) {
        let text = expr.to_string();
        let again = Filter::parse_at(&text, &clock()).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(again.expr(), &expr, "{}", text);
        prop_assert_eq!(again.expr().to_string(), text);
        prop_assert!(!expr.in_words().is_empty());
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"([~a-z]{0,3}[!&|()'"\\ :=<>*.0-9é-]{0,3}){0,8}|.{0,40}|(~[a-z]{1,3} ?|[a-z]{2,6}[:=<>]|[0-9a-z.]{1,4}| ){0,8}"#) {
        if let Err(error) = Filter::parse_at(&text, &clock()) {
            let [line, carets] = error.caret();
            prop_assert!(carets.trim_start().chars().all(|c| c == '^') && carets.contains('^'));
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(text.get(error.span).is_some());
            prop_assert!(!error.problem.to_string().is_empty());
        }
    }
}
