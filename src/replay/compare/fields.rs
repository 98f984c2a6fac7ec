//! Header fields and trailers, name by name.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Comparison, Difference, Rules};
use crate::flow::Headers;

/// Compares the fields of two heads.
pub(super) fn compare(was: &Headers, is: &Headers, rules: &Rules, found: &mut Comparison) {
    let before = found.differences.len();
    for (name, was, is) in differing(was, is) {
        let lower = name.to_ascii_lowercase();
        if is_ignored(&lower, rules) {
            continue;
        }
        if !rules.strict && LEFT_OUT.iter().any(|left_out| left_out.as_bytes() == lower) {
            found.left_out.push(String::from_utf8_lossy(&lower).into_owned());
            continue;
        }
        found.differences.push(Difference::Header { name, was, is });
    }
    if rules.header_order && found.differences.len() == before {
        order(was, is, rules, found);
    }
}

/// Compares trailers: all of them count that are not ignored.
pub(super) fn trailers(was: &Headers, is: &Headers, rules: &Rules, found: &mut Comparison) {
    let differing = differing(was, is).into_iter();
    let counted = differing.filter(|(name, ..)| !is_ignored(&name.to_ascii_lowercase(), rules));
    found.differences.extend(counted.map(|(name, was, is)| Difference::Trailer { name, was, is }));
}

/// The names whose values differ, in the order in which they stand, with the values.
fn differing(was: &Headers, is: &Headers) -> Vec<(Bytes, Vec<Bytes>, Vec<Bytes>)> {
    let mut seen = BTreeSet::new();
    let mut differing = Vec::new();
    for (name, _) in was.iter().chain(is.iter()) {
        if !seen.insert(name.to_ascii_lowercase()) {
            continue;
        }
        let values = |headers: &Headers| -> Vec<Bytes> {
            let of_name = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            of_name.map(|(_, value)| Bytes::copy_from_slice(value)).collect()
        };
        let (was, is) = (values(was), values(is));
        if was != is {
            differing.push((Bytes::copy_from_slice(name), was, is));
        }
    }
    differing
}

/// Names in their order and spelling, without those that do not count.
fn order(was: &Headers, is: &Headers, rules: &Rules, found: &mut Comparison) {
    let counts = |name: &&[u8]| {
        let lower = name.to_ascii_lowercase();
        !is_ignored(&lower, rules)
            && (rules.strict || !LEFT_OUT.iter().any(|left_out| left_out.as_bytes() == lower))
    };
    let names = |headers: &Headers| -> Vec<Bytes> {
        headers.iter().map(|(name, _)| name).filter(counts).map(Bytes::copy_from_slice).collect()
    };
    let (was, is) = (names(was), names(is));
    let same = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
    if same < was.len().max(is.len()) {
        let (was, is) = (was[same..].to_vec(), is[same..].to_vec());
        found.differences.push(Difference::HeaderOrder { was, is });
    }
}

fn is_ignored(lower: &[u8], rules: &Rules) -> bool {
    rules.ignored_headers.iter().any(|ignored| ignored.as_bytes().eq_ignore_ascii_case(lower))
}

/// See the module above for why.
const LEFT_OUT: [&str; 7] =
    ["date", "age", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length"];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(was: &[(&str, &str)], is: &[(&str, &str)], rules: &Rules) -> (Vec<String>, Vec<String>) {
        let headers = |fields: &[(&str, &str)]| fields.iter().copied().collect::<Headers>();
        let mut found = Comparison::default();
        compare(&headers(was), &headers(is), rules, &mut found);
        (found.differences.iter().map(Difference::what).collect(), found.left_out)
    }

    #[test]
    fn names_are_compared_without_case_and_order_unless_asked() {
        let was = [("A", "1"), ("b", "2"), ("B", "3")];
        let is = [("b", "2"), ("b", "3"), ("a", "1")];
        assert_eq!(of(&was, &is, &Rules::default()).0, Vec::<String>::new());
        let in_order = Rules { header_order: true, ..Rules::default() };
        assert_eq!(of(&was, &is, &in_order).0, ["header order"]);
        assert_eq!(of(&was, &was, &in_order).0, Vec::<String>::new());
        let swapped = [("A", "1"), ("b", "3"), ("B", "2")];
        assert_eq!(of(&was, &swapped, &Rules::default()).0, ["header b"]);
        assert_eq!(of(&was, &[("c", "")], &Rules::default()).0, ["header a", "header b", "header c"]);
    }

    #[test]
    fn what_always_differs_is_left_out_and_told() {
        let (was, is) = ([("Date", "x"), ("ETag", "1")], [("date", "y"), ("etag", "2")]);
        assert_eq!(of(&was, &is, &Rules::default()), (vec!["header etag".into()], vec!["date".into()]));
        let strict = Rules { strict: true, ..Rules::default() };
        assert_eq!(of(&was, &is, &strict).0, ["header date", "header etag"]);
        let ignoring = Rules { ignored_headers: vec!["ETAG".into(), "Date".into()], ..strict };
        assert_eq!(of(&was, &is, &ignoring), (vec![], vec![]));
    }
}
