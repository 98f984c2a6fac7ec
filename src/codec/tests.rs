//! Everything there and back; and nothing that comes in makes it panic.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::*;
use crate::flow::arbitrary::*;
use crate::flow::*;

/// What comes back of a flow: its connections' facts are rows of their own.
fn with_bare_conns(mut flow: Flow) -> Flow {
    flow.client = Arc::new(ClientConn { id: flow.client.id, ..ClientConn::default() });
    flow.server = flow.server.map(|s| Arc::new(ServerConn { id: s.id, ..ServerConn::default() }));
    flow
}

/// The record as prost writes it: whatever it does not know left out, the rest in its order and as short as can be.
fn by_prost<M: prost::Message + Default>(record: &[u8]) -> Vec<u8> {
    M::decode(record).unwrap().encode_to_vec()
}

fn decode_all(record: &bytes::Bytes) {
    let _ = (decode_flow(record), decode_client_conn(record), decode_server_conn(record));
    let _ = decode_extents(record);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connections_come_back_as_they_were(client in client(), server in server()) {
        prop_assert_eq!(decode_client_conn(&encode_client_conn(&client).into()).unwrap(), client);
        prop_assert_eq!(decode_server_conn(&encode_server_conn(&server).into()).unwrap(), server);
    }

    #[test]
    fn connections_are_written_as_prost_would(client in client(), server in server()) {
        let (client, server) = (encode_client_conn(&client), encode_server_conn(&server));
        prop_assert_eq!(by_prost::<pb::ClientConn>(&client), client);
        prop_assert_eq!(by_prost::<pb::ServerConn>(&server), server);
    }

    #[test]
    fn extents_come_back_as_they_were_and_are_written_as_prost_would(extents in vec(extent(), 0..4)) {
        let record = encode_extents(&extents);
        prop_assert_eq!(by_prost::<pb::Extents>(&record), record.clone());
        prop_assert_eq!(decode_extents(&record.into()).unwrap(), extents);
    }

    #[test]
    fn random_bytes_never_panic(record in vec(any::<u8>(), 0..300)) {
        decode_all(&record.into());
    }
}

/// A strategy's tree of such large values, unoptimised, needs more stack than a test thread has.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn runner() -> TestRunner {
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
}

#[test]
fn a_flow_comes_back_as_it_was() {
    on_a_large_stack(|| {
        let there_and_back = |flow: Flow| {
            let back = decode_flow(&encode_flow(&flow).into()).unwrap();
            prop_assert_eq!(back, with_bare_conns(flow));
            Ok(())
        };
        runner().run(&flow(), there_and_back).unwrap();
    });
}

/// A record that came out as it went in is plain, and one that was damaged is read as prost reads it, if at all.
#[test]
fn what_is_read_in_one_go_is_what_prost_reads() {
    on_a_large_stack(|| {
        let changes = vec((any::<Index>(), any::<u8>()), 0..4);
        let both = |(flow, changes, cut): (Flow, Vec<(Index, u8)>, Option<Index>)| {
            let mut record = encode_flow(&flow);
            let plain = plain::flow(&record.clone().into(), &KnownConns::default());
            prop_assert_eq!(plain.as_ref(), Some(&with_bare_conns(flow)));
            for (at, byte) in changes {
                let at = at.index(record.len());
                record[at] = byte;
            }
            if let Some(cut) = cut {
                record.truncate(cut.index(record.len()) + 1);
            }
            let record = record.into();
            if let Some(plain) = plain::flow(&record, &KnownConns::default()) {
                prop_assert_eq!(decode::by_prost(&record).unwrap(), plain);
            }
            Ok(())
        };
        runner().run(&(flow(), changes, proptest::option::of(any::<Index>())), both).unwrap();
    });
}

#[test]
fn odd_records_are_left_to_prost() {
    let odd: [&[u8]; 8] = [
        &[0x08],                                                          // a number that is cut off
        &[0x09, 0, 0, 0, 0, 0, 0, 0, 0],                                  // field 1 of another type
        &[0x42, 0, 0x42, 0],                                              // two requests, which are one
        &[0x82, 0x01, 0, 0x82, 0x01, 0],                                  // two timings
        &[0x32, 1, 0xff],                                                 // a host that is not UTF-8
        &[0xba, 0x3e, 0],                                                 // field 999
        &[0x00, 0x00],                                                    // field 0
        &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], // more than 64 bits
    ];
    for record in odd {
        assert!(
            plain::flow(&bytes::Bytes::from_static(record), &KnownConns::default()).is_none(),
            "{record:?}"
        );
    }
    let most = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(
        plain::flow(&bytes::Bytes::from(most.to_vec()), &KnownConns::default()).unwrap().mid,
        Some(Mid(u64::MAX))
    );
}

/// With `a_flow_comes_back_as_it_was`: every field has the number and type that the schema says, and stands there once.
#[test]
fn a_flow_is_written_as_prost_would() {
    on_a_large_stack(|| {
        // Used for flow after flow, as the store does: it must not matter what it held.
        let buffer = std::cell::RefCell::new(b"an earlier record".to_vec());
        let there_and_back = |flow: Flow| {
            let record = &mut *buffer.borrow_mut();
            encode_flow_into(&flow, record);
            prop_assert_eq!(&by_prost::<pb::Flow>(record), record);
            Ok(())
        };
        runner().run(&flow(), there_and_back).unwrap();
    });
}

#[test]
fn mutated_records_never_panic() {
    on_a_large_stack(|| {
        let changes = vec((any::<Index>(), any::<u8>()), 1..10);
        let mutate = |(flow, changes, cut): (Flow, Vec<(Index, u8)>, Index)| {
            let mut record = encode_flow(&flow);
            for (at, byte) in changes {
                let at = at.index(record.len());
                record[at] = byte;
            }
            record.truncate(cut.index(record.len()) + 1);
            decode_all(&record.into());
            Ok(())
        };
        runner().run(&(flow(), changes, any::<Index>()), mutate).unwrap();
    });
}

#[test]
fn nesting_is_cut_off_where_a_reader_would_refuse_it() {
    let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let with = |metadata| {
        let imported = Imported { metadata: Some(metadata), ..Imported::default() };
        Flow { imported: Some(Box::new(imported)), ..Flow::default() }
    };
    let whole = with(nested(60));
    assert_eq!(decode_flow(&encode_flow(&whole).into()).unwrap(), whole);
    let mut backups = with(nested(5000));
    for _ in 0..200 {
        let imported = Imported { backup: Some(Box::new(backups)), ..Imported::default() };
        backups = Flow { imported: Some(Box::new(imported)), ..Flow::default() };
    }
    decode_flow(&encode_flow(&backups).into()).unwrap();
    decode_flow(&encode_flow(&with(nested(5000))).into()).unwrap();
}

/// A record within a record within a record, by hand: field 6 (backup) of field 18 (imported).
#[test]
fn a_hostile_depth_is_refused_without_exhausting_the_stack() {
    let field = |key: &[u8], inner: &[u8]| {
        let mut out = key.to_vec();
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    };
    for (levels, readable) in [(40, true), (49, true), (60, false), (5000, false)] {
        let record = (0..levels).fold(Vec::new(), |inner, _| field(&[0x92, 0x01], &field(&[0x32], &inner)));
        assert_eq!(decode_flow(&record.into()).is_ok(), readable, "{levels} levels");
    }
}

#[test]
fn numbers_of_a_newer_writer_are_taken_for_what_is_nearest() {
    // Field 2 (kind), 3 (state) and 5 (scheme) as varint 99, field 7 (port) as 70,000, and a field 999 of 2 bytes.
    let record = [0x10, 99, 0x18, 99, 0x28, 99, 0x38, 0xf0, 0xa2, 0x04, 0xba, 0x3e, 2, 1, 2];
    let flow = decode_flow(&bytes::Bytes::from(record.to_vec())).unwrap();
    assert_eq!((flow.kind, flow.state, flow.target.scheme), (Kind::Http, State::Failed, Scheme::Tcp));
    assert_eq!(flow.target.port, u16::MAX);
}

/// A record of a newer version is read by prost, and has the connections that are at hand, too.
#[test]
fn an_odd_record_has_its_connections() {
    let client = Arc::new(ClientConn { id: ConnId(7), mode: "explicit".into(), ..ClientConn::default() });
    let server = Arc::new(ServerConn { id: ConnId(8), dns_us: Some(5), ..ServerConn::default() });
    let flow = Flow { client: Arc::clone(&client), server: Some(Arc::clone(&server)), ..Flow::default() };
    let known = KnownConns { client: Some(Arc::clone(&client)), server: Some(Arc::clone(&server)) };
    let mut record = encode_flow(&flow);
    record.extend([0xba, 0x3e, 0]);
    let record = record.into();
    assert!(plain::flow(&record, &known).is_none());
    assert_eq!(decode_flow_knowing(&record, &known).unwrap(), flow);
    let others = KnownConns { server: None, client: Some(Arc::default()) };
    assert_eq!(decode_flow_knowing(&record, &others).unwrap(), with_bare_conns(flow));
}
