//! Sets there and back, and what bytes that are none do; patterns over many lines and over each.

use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::set::{Numbers, TextSet, Texts, agree, encode_numbers};
use super::urls::UrlPattern;
use super::{BLOCK, Hits, Urls};
use crate::flow::Mid;

proptest! {
    #[test]
    fn numbers_come_back_sorted_and_once(mut numbers in prop::collection::vec(any::<i64>(), 0..50)) {
        let bytes = encode_numbers(&mut numbers.clone());
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(Numbers::new(&bytes).collect::<Option<Vec<_>>>(), Some(numbers));
    }

    #[test]
    fn any_bytes_can_be_read_as_a_set(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        // Ends, and what cannot be read is the last.
        let numbers: Vec<_> = Numbers::new(&bytes).collect();
        prop_assert!(numbers.iter().rev().skip(1).all(Option::is_some));
        let texts: Vec<_> = Texts::new(&bytes).collect();
        prop_assert!(texts.iter().rev().skip(1).all(Option::is_some));
    }

    #[test]
    fn urls_match_together_as_each_alone(
        urls in prop::collection::vec("(https?://[a-c]{1,3}(:80)?|)/?[a-cA-C/.?=\\- ]{0,12}", 0..40),
        pattern in prop::sample::select(PATTERNS),
    ) {
        let each = RegexBuilder::new(pattern).case_insensitive(true).unicode(false).build().unwrap();
        let found = search(&urls, pattern);
        for (place, url) in (0..).zip(&urls) {
            prop_assert_eq!(found.of(Mid(7 * BLOCK + place)), Some(each.is_match(url.as_bytes())), "{}", url);
        }
        let mids = (0..).zip(&urls).filter(|(_, url)| each.is_match(url.as_bytes()));
        let mids: Vec<_> = mids.map(|(place, _)| Mid(7 * BLOCK + place)).collect();
        let matched: Vec<_> = found.mids().take_while(|mid| mid.0 < 7 * BLOCK + urls.len() as u64).collect();
        prop_assert_eq!(matched, mids);
    }
}

proptest! {
    /// As filters have them: `url:a*b` and `url=abc`.
    #[test]
    fn whole_urls_match_together_as_each_alone(
        urls in prop::collection::vec("[a-c*]{0,6}", 0..40),
        parts in prop::collection::vec("[a-c]{0,2}", 1..4),
    ) {
        let pattern = |anything: &str, ends: (&str, &str)| {
            let mut builder = RegexBuilder::new(&format!("{}(?:{}){}", ends.0, parts.join(anything), ends.1));
            builder.case_insensitive(true).unicode(false);
            builder
        };
        let mut each = pattern("(?s:.*)", (r"\A", r"\z"));
        let together = UrlPattern::with_lines(&mut each, &mut pattern(r"[^\n]*", ("^", "$"))).unwrap();
        let each = each.build().unwrap();
        let found = Urls::of(7, &urls).search(&together);
        for (place, url) in (0..).zip(&urls) {
            prop_assert_eq!(found.of(Mid(7 * BLOCK + place)), Some(each.is_match(url.as_bytes())), "{}", url);
        }
    }
}

/// Plain ones, anchors of all sorts, flags, and ones that match over the ends of lines or the empty text.
const PATTERNS: &[&str] = &[
    "b",
    "abc",
    "a.c",
    "^http",
    "c$",
    "^$",
    "^",
    "$",
    r"\bab\b",
    r"\Ahttps://a",
    r"\.\z",
    "(?-i)C",
    "(?:ab|ba)c?",
    "[^x]*",
    "a[^x]*b",
    r"a(?s:.*)c",
    r"\s",
    r"b\s+h",
    r"[^/]+$",
    "a*",
    "https://b/.*c",
    "zzz",
    "a|^h",
    r"\Bb",
    "",
];

fn search(urls: &[String], pattern: &str) -> Hits {
    let mut builder = RegexBuilder::new(pattern);
    let pattern = UrlPattern::new(builder.case_insensitive(true).unicode(false)).unwrap();
    Urls::of(7, urls).search(&pattern)
}

#[test]
fn chunks_end_with_lines() {
    // Lines of all lengths around the size of a chunk; the needle at the end of some of them.
    for len in [1, 100, 16_000, 16_383, 16_384, 16_385, 40_000] {
        let urls: Vec<_> =
            (0..40).map(|i| "x".repeat(len + i) + if i % 3 == 0 { "needle" } else { "" }).collect();
        let found = search(&urls, "needle");
        let expected: Vec<_> = (0..40).filter(|i| i % 3 == 0).map(|i| Mid(7 * BLOCK + i)).collect();
        assert_eq!(found.mids().collect::<Vec<_>>(), expected, "{len}");
        assert_eq!(found.any(), None);
        assert_eq!(search(&urls, "nail").any(), Some(false));
    }
}

#[test]
fn a_mid_of_another_block_is_not_known() {
    let found = search(&["a".into()], "b");
    assert_eq!([Mid(7 * BLOCK), Mid(8 * BLOCK), Mid(0)].map(|mid| found.of(mid)), [Some(false), None, None]);
}

#[test]
fn texts_are_kept_once_until_they_are_many() {
    let mut set = TextSet::default();
    for text in ["GET", "GET", "", "POST", "GET", "", "POST"] {
        set.add(text.as_bytes());
    }
    let texts: Vec<_> = Texts::new(set.encoded().unwrap()).flatten().collect();
    assert_eq!(texts, [&b"GET"[..], b"", b"POST"]);
    (0..1000).for_each(|n: u32| set.add(n.to_string().as_bytes()));
    assert_eq!(set.encoded(), None);
    set.clear();
    set.add(&[b'x'; 300]);
    assert_eq!(Texts::new(set.encoded().unwrap()).collect::<Vec<_>>(), [Some(&[b'x'; 300][..])]);
}

#[test]
fn answers_agree_or_say_nothing() {
    let agree = |answers: &[Option<bool>]| agree(answers.iter().copied());
    assert_eq!(agree(&[]), Some(false));
    assert_eq!(agree(&[Some(true), Some(true)]), Some(true));
    assert_eq!(agree(&[Some(false)]), Some(false));
    assert_eq!(agree(&[Some(true), Some(false)]), None);
    assert_eq!(agree(&[Some(true), None]), None);
}
