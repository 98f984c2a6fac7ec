//! Damaged files: what is whole is read, what is not is told.

use proptest::prelude::*;

use super::files::{http, message, stream, websocket};
use super::*;

fn three() -> [Vec<u8>; 3] {
    let messages =
        vec![message(1, true, b"}1234:2:id;", Value::Float(1.0)), message(2, false, &[b'}'; 300], int(2))];
    let mut first = http();
    *at(&mut first, "metadata") = dict([("which", text("first"))]);
    [tnet(&first), tnet(&websocket(messages)), tnet(&stream("tcp", &[(true, b"hello"), (false, b"you")]))]
}

/// Which of the three were read, and how often something was wrong.
fn outcome(file: &[u8]) -> (String, usize) {
    let (flows, errors) = read(file);
    let which = |it: &Stored| match (&it.flow.websocket, &it.flow.tunnel) {
        (None, None) => '1',
        (Some(_), _) => '2',
        _ => '3',
    };
    (flows.iter().map(which).collect(), errors.len())
}

#[test]
fn a_file_that_ends_early_gives_what_is_whole() {
    let [first, second, third] = three();
    let file = [&first[..], &second, &third].concat();
    for end in 0..file.len() {
        let (whole, damaged) = match end {
            _ if end == 0 => ("", 0),
            _ if end < first.len() => ("", 1),
            _ if end == first.len() => ("1", 0),
            _ if end < first.len() + second.len() => ("1", 1),
            _ if end == first.len() + second.len() => ("12", 0),
            _ => ("12", 1),
        };
        assert_eq!(outcome(&file[..end]), (whole.to_owned(), damaged), "{end}");
    }
    let (_, errors) = read(&file[..first.len() + 10]);
    let told = errors[0].to_string();
    let due = format!(
        "at byte {0}: the file ends inside of a flow, {1} bytes before its end",
        first.len() + 10,
        second.len() - 10
    );
    assert!(told.starts_with(&due), "{told}");
}

#[test]
fn garbage_between_flows_is_passed_over() {
    let [first, second, third] = three();
    for garbage in [&b"x"[..], b"}", b"12:", b"hello, world}", &[b'9'; 1000], b"5:hello,", b"3:abc"] {
        let file = [&first[..], garbage, &second, garbage, &third].concat();
        // Behind anything but a brace, the flow that follows at once cannot be told from the inside of a body.
        let (found, damaged) = outcome(&file);
        assert!(found.starts_with('1') && damaged >= 1, "{found}");
        let file = [&first[..], garbage, b"}", &second, &third].concat();
        assert_eq!(outcome(&file), ("123".to_owned(), 1), "{}", garbage.escape_ascii());
    }
    let file = [&first[..], b"\n", &second, b"\r\n\n", &third, b"\n"].concat();
    assert_eq!(outcome(&file), ("123".to_owned(), 0));
}

#[test]
fn a_damaged_byte_costs_its_flow_and_no_other() {
    let [first, second, third] = three();
    let file = [&first[..], &second, &third].concat();
    for at in first.len()..first.len() + second.len() {
        for change in [0x01, 0x04, 0x80] {
            let mut file = file.clone();
            file[at] ^= change;
            let (found, damaged) = outcome(&file);
            // A body that holds what looks like a flow is told of once more.
            let lost = found == "13" && (1..=2).contains(&damaged);
            // Inside of a text or a body nothing is wrong that could be seen.
            let unseen = found.starts_with('1') && found.ends_with('3') && found.len() == 3 && damaged == 0;
            assert!(
                lost || unseen,
                "byte {} ({:?} to {:?}): {found}, {damaged}",
                at - first.len(),
                char::from(file[at] ^ change),
                char::from(file[at])
            );
        }
    }
}

#[test]
fn a_flow_of_another_shape_is_passed_over_whole() {
    let [first, _, third] = three();
    let inner = tnet(&http());
    for (path, value) in [
        ("request", Value::Null),
        ("client_conn", Value::Null),
        ("type", text("carrier pigeon")),
        // What looks like a flow inside of one is none, when the border is known.
        ("version", Value::Bytes([b"}", &inner[..]].concat().into())),
    ] {
        let mut odd = http();
        *at(&mut odd, path) = value;
        let (flows, errors) = read(&[&first[..], &tnet(&odd), &third].concat());
        assert_eq!((flows.len(), errors.len()), (2, 1), "{path}: {errors:?}");
        assert!(errors[0].to_string().contains("are passed over"), "{}", errors[0]);
    }
}

#[test]
fn a_file_without_any_flow_is_refused() {
    for file in [&b"{\"log\": {}}"[..], b"hello", b"9:123456789,", b"0:}", b"\0\0\0\0"] {
        let (flows, errors) = read(file);
        assert!(flows.is_empty() && matches!(&errors[..], [DecodeError::File { .. }]), "{errors:?}");
        assert!(errors[0].to_string().contains("there is no flow in this file"), "{}", errors[0]);
    }
    assert!(read_whole(b"").is_empty());
}

#[test]
fn a_failing_file_is_no_damage() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let [first, second, _] = three();
    let (flows, errors) = read_from(io::Cursor::new([&first[..], &second[..50]].concat()).chain(Fails));
    assert_eq!(flows.len(), 1);
    assert!(matches!(&errors[..], [DecodeError::Io(_)]), "{errors:?}");
}

proptest! {
    #[test]
    fn any_damage_is_survived(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..3), 1..20)) {
        let mut file = three().concat();
        for (at, byte, what) in edits {
            let at = at.index(file.len());
            match what {
                0 => file[at] = byte,
                1 => file.insert(at, byte),
                _ => { file.remove(at); }
            }
        }
        let (flows, _) = read(&file);
        // What was read can be written, and what was written is whole.
        let again = written(&flows);
        prop_assert_eq!(read_whole(&again).len(), flows.len());
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }
}
