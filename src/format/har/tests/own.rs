//! Our own member, edited, torn and enlarged: it is read as far as it says something, and costs no more than that.

use std::io::{self, Read};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::properties::{run, sample};
use super::{Sample, archive, flows, log, read_all, read_from};
use crate::flow::*;

/// The first entry of an archive of ours, with all that `change` makes of its member.
fn edited(change: impl FnOnce(&mut Json)) -> Flow {
    let client = ClientConn { id: ConnId(1), mode: "explicit".into(), ..ClientConn::default() };
    let request = Request { method: "GET".into(), target: "/".into(), head_len: 7, ..Request::default() };
    let target = Target { scheme: Scheme::Http, host: "a.example".into(), port: 80 };
    let flow = Flow {
        mid: Some(Mid(5)),
        target,
        request: Some(request),
        error: Some(FlowError { message: "gone".into(), ..FlowError::default() }),
        client: Arc::new(client),
        ..Flow::default()
    };
    let out: Json = serde_json::from_slice(&archive(&[Sample { flow, ..Sample::default() }])).unwrap();
    let mut entry = out["log"]["entries"][0].clone();
    change(&mut entry["_manent"]);
    flows(&log(&[entry])).remove(0).0.flow
}

#[test]
fn a_member_of_another_kind_says_nothing() {
    let plain = edited(|_| {});
    assert_eq!((plain.mid, plain.request.as_ref().map(|request| request.head_len)), (Some(Mid(5)), Some(7)));
    let mut names = Vec::new();
    edited(|manent| names = manent.as_object().unwrap().keys().cloned().collect());
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        for odd in
            [json!(null), json!(-1.5), json!("x"), json!([[{}], 7]), json!({"id": {}, "head_len": "7"})]
        {
            let flow = edited(|manent| manent[&name] = odd.clone());
            assert_eq!(flow.mid, plain.mid.filter(|_| name != "mid"), "{name}: {odd}");
            let head_len = flow.request.unwrap().head_len;
            assert_eq!(head_len, if name == "request" { 0 } else { 7 }, "{name}: {odd}");
            assert_eq!(flow.client.mode, if name == "client" { "" } else { "explicit" }, "{name}: {odd}");
        }
    }
    let error = edited(|manent| manent["error"] = Json::Null).error;
    assert_eq!(error, Some(FlowError::default()), "that there was one, it says");
}

#[test]
fn a_member_that_is_too_large_costs_itself() {
    let long = "x".repeat(3 << 20);
    for (name, value) in [
        ("marker", json!(long)),
        ("error", json!({"message": long})),
        ("client", json!({"id": 1, "mode": long})),
        ("rules", json!(vec![json!({}); 1 << 20])),
        ("imported", json!({"metadata": vec![0; 2 << 20]})),
    ] {
        let flow = edited(|manent| manent[name] = value);
        assert_eq!((flow.mid, flow.request.unwrap().head_len), (Some(Mid(5)), 7), "{name}");
        assert_eq!(flow.error.is_none(), name == "error");
        assert_eq!((flow.rules.len(), flow.imported.is_none()), (0, true), "{name}");
        assert_eq!(flow.client.id.0, u64::from(name != "client"), "{name}");
    }
}

#[test]
fn of_members_of_one_name_the_last_counts() {
    let text =
        log(&[json!({"request": {"url": "http://a.example/x", "method": "GET"}, "_manent": {}})]).to_string();
    let twice =
        r#""_manent":{"request":{"target":"/1","head_len":1},"mid":1,"request":{"scheme":"s"},"mid":2}"#;
    let flow = read_all(text.replace(r#""_manent":{}"#, twice).as_bytes()).remove(0).unwrap().0.flow;
    let request = flow.request.unwrap();
    assert_eq!((flow.mid, request.head_len, &request.target[..]), (Some(Mid(2)), 0, &b"/x"[..]));
    assert_eq!(request.scheme.as_deref(), Some(&b"s"[..]));
}

/// Gives so many bytes at once.
struct Pieces(io::Cursor<Vec<u8>>, usize);

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.1);
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn connections_are_known_again_wherever_the_file_is_cut() {
    run(24, |runner| {
        let in_pieces = |(samples, order, len): (Vec<Sample>, Vec<prop::sample::Index>, usize)| {
            // The same connections in many entries, in any order.
            let samples: Vec<Sample> = order
                .iter()
                .map(|at| {
                    let sample = &samples[at.index(samples.len())];
                    let (client, server) = (Arc::clone(&sample.flow.client), sample.flow.server.clone());
                    let request = Some(Request { method: "GET".into(), ..Request::default() });
                    Sample { flow: Flow { client, server, request, ..Flow::default() }, ..Sample::default() }
                })
                .collect();
            let out = archive(&samples);
            let input = io::BufReader::with_capacity(1, Pieces(io::Cursor::new(out), len));
            let back = read_from(Box::new(input));
            prop_assert_eq!(back.len(), samples.len());
            for (back, sample) in back.into_iter().zip(samples) {
                let (decoded, _) = back.map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(decoded.flow.client, sample.flow.client);
                prop_assert_eq!(decoded.flow.server, sample.flow.server);
            }
            Ok(())
        };
        let order = prop::collection::vec(any::<prop::sample::Index>(), 1..12);
        let strategy = (prop::collection::vec(sample(), 1..4), order, 1usize..3000);
        runner.run(&strategy, in_pieces).unwrap();
    });
}
