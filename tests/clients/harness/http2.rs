//! What the HTTP/2 origin saw, beside what was recorded of it.

use serde_json::Value;

use super::record::{assert_exact, decoded};
use super::{Record, Seen, ServerStage, Store};

/// A record, and what the origin saw of the same request.
pub(crate) struct Pair {
    pub(crate) record: Record,
    pub(crate) seen: Seen,
}

impl ServerStage {
    /// Ends proxy and origin, and gives each record with what the origin saw: see [`Pair::all`].
    pub(crate) async fn pairs(&mut self) -> Vec<Pair> {
        let (records, log) = self.finish().await;
        Pair::all(records, &log)
    }

    /// Ends proxy and origin, and checks that the store holds what the origin saw, to the byte.
    pub(crate) async fn assert_recorded(&mut self) -> Vec<Pair> {
        let pairs = self.pairs().await;
        for pair in &pairs {
            pair.assert_exact(&self.proxy.store).await;
        }
        pairs
    }
}

impl Pair {
    /// Each record with the origin's line for it. Requests are told apart by host, port and path, and are in that order.
    ///
    /// # Panics
    /// When there is not one record for each request that the origin saw.
    pub(crate) fn all(mut records: Vec<Record>, log: &[Value]) -> Vec<Pair> {
        let mut seen: Vec<Seen> = log.iter().map(Seen::from_http2).collect();
        let of_seen = |seen: &Seen| (seen.authority.clone().unwrap_or_default(), seen.target.clone());
        let of_record = |record: &Record| (record.host_and_port(), record.path().to_owned());
        seen.sort_by_key(of_seen);
        records.sort_by_key(of_record);
        let recorded: Vec<_> = records.iter().map(of_record).collect();
        let arrived: Vec<_> = seen.iter().map(of_seen).collect();
        if recorded != arrived {
            let alone = |record: &&Record| !arrived.contains(&of_record(record));
            let unseen: Vec<&Record> = records.iter().filter(alone).collect();
            panic!("on record: {recorded:?}\nat the origin: {arrived:?}\non record alone: {unseen:#?}");
        }
        records.into_iter().zip(seen).map(|(record, seen)| Pair { record, seen }).collect()
    }

    /// Checks that the store holds what the origin saw, and that HTTP/2 was spoken on both sides.
    pub(crate) async fn assert_exact(&self, store: &Store) {
        let Pair { record, seen } = self;
        assert_exact(store, record, seen).await;
        assert_eq!((record.request_version(), record.response_version()), ("HTTP/2.0", "HTTP/2.0"));
        assert_eq!(record.authority(), seen.authority.as_deref());
    }
}

impl Seen {
    /// A line of http2_origin.mjs.
    fn from_http2(line: &Value) -> Seen {
        let request = pairs(&line["request"]);
        let response = pairs(&line["response"]);
        let pseudo = |name: &str| value_of(&request, name).map(str::to_owned);
        let status = value_of(&response, ":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        Seen {
            method: pseudo(":method").unwrap_or_default(),
            target: pseudo(":path").unwrap_or_default(),
            version: pseudo(":version").unwrap_or_else(|| "HTTP/2.0".to_owned()),
            authority: pseudo(":authority").or_else(|| pseudo("Host")),
            headers: regular(&request),
            body: decoded(&line["body"]),
            trailers: pairs(&line["trailers"]),
            interim: line["interim"].as_array().into_iter().flatten().map(interim_status).collect(),
            status,
            response_headers: regular(&response),
            response_body: decoded(&line["response_body"]),
            response_trailers: pairs(&line["response_trailers"]),
            reset: line["reset"].as_u64().unwrap_or(0),
            connection: line["connection"].as_u64(),
        }
    }
}

fn interim_status(fields: &Value) -> u64 {
    value_of(&pairs(fields), ":status").and_then(|status| status.parse().ok()).expect("a status")
}

/// `[[name, value], …]`; nothing for what is not there.
pub(crate) fn pairs(fields: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a field is text").to_owned();
    fields.as_array().into_iter().flatten().map(|field| (text(&field[0]), text(&field[1]))).collect()
}

fn value_of<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

fn regular(fields: &[(String, String)]) -> Vec<(String, String)> {
    fields.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect()
}
