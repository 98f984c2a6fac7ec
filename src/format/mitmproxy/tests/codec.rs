//! tnetstrings there and back.

use proptest::prelude::*;

use super::super::value::{self, Budget};
use super::*;

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(|number| Value::Int(number.to_string())),
        any::<f64>().prop_map(Value::Float),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        let key = prop_oneof![
            any::<String>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into()))
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::vec((key, inner), 0..8).prop_map(|mut pairs| {
                let mut seen = Vec::new();
                pairs.retain(|(key, _)| {
                    !seen.contains(key) && {
                        seen.push(key.clone());
                        true
                    }
                });
                Value::Dict(pairs)
            }),
        ]
    })
}

/// Reads one value.
fn read_value(text: &[u8]) -> Result<Value, &'static str> {
    let colon = text.iter().position(|&b| b == b':').ok_or("no colon")?;
    let (&tag, payload) = text[colon + 1..].split_last().ok_or("no tag")?;
    value::read(tag, &Bytes::copy_from_slice(payload), 0, &mut Budget::new(1 << 24)).map_err(|bad| bad.what)
}

#[test]
fn values_are_spelled_as_mitmproxy_spells_them() {
    for (value, spelled) in [
        (Value::Null, "0:~"),
        (Value::Bool(true), "4:true!"),
        (Value::Bool(false), "5:false!"),
        (int(-12), "3:-12#"),
        (Value::Float(1e16), "5:1e+16^"),
        (Value::Float(0.5), "3:0.5^"),
        (raw(b"\n"), "1:\n,"),
        (text("\u{e9}"), "2:\u{e9};"),
        (Value::List(vec![int(1), Value::List(vec![])]), "7:1:1#0:]]"),
        (dict([("k", Value::Null)]), "7:1:k;0:~}"),
    ] {
        assert_eq!(String::from_utf8(tnet(&value)).unwrap(), spelled);
        assert_eq!(read_value(spelled.as_bytes()), Ok(value));
    }
}

#[test]
fn later_pairs_win_and_odd_spellings_are_read() {
    assert_eq!(read_value(b"22:1:k;1:1#1:j;0:~1:k;1:2#}"), Ok(dict([("k", int(2)), ("j", Value::Null)])));
    assert_eq!(read_value(b"10:005:1_000#]"), Ok(Value::List(vec![int(1000)])));
}

#[test]
fn what_is_no_value_is_refused() {
    for bad in [
        &b"3:abc#"[..],
        b"1:x^",
        b"4:True!",
        b"1: ~",
        b"1:x?",
        b"1:\xff;",
        b"3:1:x]",
        b"4:1:k;}",
        b"7:1:1#0:~}",
        b"4:9:xx]",
        b"4:-1:,]",
        b"21:99999999999999999999,]",
        b"20:18446744073709551615,]",
        b"4::x,,]",
    ] {
        assert!(read_value(bad).is_err(), "{}", bad.escape_ascii());
    }
}

proptest! {
    #[test]
    fn values_survive(value in any_value()) {
        let spelled = tnet(&value);
        prop_assert_eq!(value::encoded_len(&value), spelled.len() as u64);
        let read = read_value(&spelled).unwrap();
        prop_assert!(tnet(&read) == spelled);
    }

    #[test]
    fn any_payload_is_read_or_refused(payload: Vec<u8>, tag: u8) {
        let _ = value::read(tag, &payload.into(), 0, &mut Budget::new(1 << 20)); // only that it does not panic
    }

    #[test]
    fn almost_values_are_read_or_refused(value in any_value(), at: prop::sample::Index, byte: u8) {
        let mut spelled = tnet(&value);
        let at = at.index(spelled.len());
        spelled[at] = byte;
        let _ = read_value(&spelled);
    }
}
