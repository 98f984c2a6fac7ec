//! The store from below: files, faults, recovery, cuts of power, and zones.

mod check;
mod checkpoint;
mod faults;
mod files;
mod follow;
mod index;
mod messages;
mod notes;
mod pack;
mod power_cut;
mod rows;
mod search;
mod space;
mod zones;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::flow::{Body, BodyEnd, ClientConn, ConnId, Content, Extent, Flow, Mid, Request, Response, State};

fn options() -> WriterOptions {
    WriterOptions {
        durability: Durability::Full,
        queue_bytes: 8 << 20,
        label: "test".into(),
        listen: String::new(),
        limits: Limits::default(),
        cache: PageCache::default(),
    }
}

fn open(path: &Path) -> Writer {
    Writer::open(path, &options()).unwrap()
}

/// The bytes of a flow's body: different for each mid, and at each place.
fn body_bytes(mid: Mid, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i * 31 + mid.0 * 7 + (i >> 8)).to_le_bytes()[0]).collect()
}

/// Appends a body in pieces of 10 KB, as it would pass.
fn append(segments: &Segments, mid: Mid, bytes: &[u8]) -> Vec<Extent> {
    let mut extents = Vec::new();
    for (seq, chunk) in (0..).zip(bytes.chunks(10_000)) {
        segments.append(mid, BodySide::Response, seq, Bytes::copy_from_slice(chunk), &mut extents);
    }
    extents
}

fn flow(mid: Mid, state: State, content: Content) -> Flow {
    let mut body = Body { content, ..Body::default() };
    body.len = body.recorded_len();
    Flow {
        mid: Some(mid),
        state,
        request: Some(Request { method: "GET".into(), target: "/".into(), ..Request::default() }),
        response: Some(Response { status: 200, body, ..Response::default() }),
        client: Arc::new(ClientConn { id: ConnId(1), mode: "explicit".into(), ..ClientConn::default() }),
        ..Flow::default()
    }
}

fn commit(writer: &mut Writer, flows: Vec<Flow>) -> Result<Outcome, StoreError> {
    let mut group = Group::default();
    group.next_conn = 2;
    for flow in flows {
        let (mid, mut bytes) = (flow.mid.unwrap(), Vec::new());
        group.next_mid = group.next_mid.max(mid.0 + 1);
        let draft = Draft::new(mid, &flow, false, &mut bytes);
        group.push(draft, &bytes);
    }
    writer.commit(&mut group)
}

/// A store of an older version with three flows: see the READMEs in tests/fixtures.
fn of_version(dir: &Path, version: u32) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = fixtures.join(if version == 1 { "store_v1" } else { "store_v3" });
    let path = dir.join("flows.db");
    let mut db = Vec::new();
    let packed = std::fs::File::open(fixture.join("flows.db.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut db).unwrap();
    std::fs::write(&path, db).unwrap();
    std::fs::create_dir(dir.join("flows.db-bodies")).unwrap();
    std::fs::copy(fixture.join("000001.seg"), dir.join("flows.db-bodies/000001.seg")).unwrap();
    if version == 2 {
        let undo = "ALTER TABLE flow DROP COLUMN truncated; PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE)";
        rusqlite::Connection::open(&path).unwrap().execute_batch(undo).unwrap();
    }
    path
}

fn loaded_body(reader: &Reader, mid: Mid) -> Bytes {
    let flow = reader.load(mid, 128 << 20).unwrap().unwrap();
    flow.response.unwrap().body.as_inline().unwrap().clone()
}
