//! A flow made ready to be written: its row's values, and its record as pieces of a segment.
//!
//! Made on the thread on which the flow ended, while it is in that processor's cache; what waits for the next group is
//! then one run of bytes a flow rather than its dozen allocations, which the writing thread would find cold and free.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::record;
use super::row::{self, Numbers};
use super::schema::MAX_RECORD;
use crate::codec;
use crate::flow::{BodyEnd, ClientConn, Content, Flow, Mid, ServerConn};

/// See the module. Its bytes are in the [`Group`](super::Group) that holds it.
#[derive(Debug)]
pub struct Draft {
    /// Its ticket.
    pub mid: Mid,
    /// Whether a row of this mid may be there already.
    pub(super) rewrite: bool,
    pub(super) numbers: Numbers,
    pub(super) client: Arc<ClientConn>,
    pub(super) server: Option<Arc<ServerConn>>,
    /// Where its texts begin in the group's bytes.
    pub(super) at: usize,
    /// Where its record begins in the group's records.
    pub(super) record_at: usize,
    /// Its record as pieces, where that is not among the group's.
    pub(super) own_record: Option<Bytes>,
    pub(super) parts: Parts,
    /// The flow itself, if bodies of it lie in segments: one that the disk could not take is marked at the commit.
    pub(super) flow: Option<Box<Flow>>,
}

/// How the bytes of a draft are divided, in this order: the record as pieces of a segment, then the texts of the row. `None`
/// is SQL's NULL.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) record: usize,
    pub(super) host: usize,
    pub(super) method: usize,
    pub(super) path: usize,
    pub(super) request_type: Option<usize>,
    pub(super) response_type: Option<usize>,
    pub(super) error: Option<usize>,
}

impl Draft {
    /// Makes a draft; its bytes are put into `bytes`, which is emptied first.
    #[must_use]
    pub fn new(mid: Mid, flow: &Flow, rewrite: bool, bytes: &mut Vec<u8>) -> Self {
        encode(flow, bytes);
        record::make_pieces(mid, bytes);
        let mut parts = Parts { record: bytes.len(), ..Parts::default() };
        row::put_texts(flow, bytes, &mut parts);
        let numbers = Numbers::of(flow);
        let (client, server) = (Arc::clone(&flow.client), flow.server.clone());
        let flow = has_extents(flow).then(|| Box::new(flow.clone()));
        Self { mid, rewrite, numbers, client, server, at: 0, record_at: 0, own_record: None, parts, flow }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.record + self.texts().len()
    }

    /// Whether it has no bytes; no draft is so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the texts of its row are in the group's bytes.
    pub(super) fn texts(&self) -> Range<usize> {
        let Parts { record: _, host, method, path, request_type, response_type, error } = self.parts;
        let optional = [request_type, response_type, error].into_iter().flatten().sum::<usize>();
        self.at..self.at + host + method + path + optional
    }
}

fn has_extents(flow: &Flow) -> bool {
    let bodies = [flow.request.as_ref().map(|r| &r.body), flow.response.as_ref().map(|r| &r.body)];
    let tunnel = flow.tunnel.as_ref().map(|t| [&t.from_client, &t.from_server]);
    let mut all = bodies.into_iter().flatten().chain(tunnel.into_iter().flatten());
    all.any(|body| matches!(body.content, Content::Extents(_)))
}

/// The record, without what would make it longer than SQLite takes: better a flow without its bodies than none.
fn encode(flow: &Flow, buffer: &mut Vec<u8>) {
    codec::encode_flow_into(flow, buffer);
    if buffer.len() <= MAX_RECORD {
        return;
    }
    tracing::warn!(bytes = buffer.len(), "a record is too large, it is stored without inline bodies");
    let mut small = flow.clone();
    small.imported = None;
    let bodies = [small.request.as_mut().map(|r| &mut r.body), small.response.as_mut().map(|r| &mut r.body)];
    for body in bodies.into_iter().flatten() {
        body.content = Content::Absent;
        body.end = BodyEnd::Lost;
    }
    small.tunnel = None;
    codec::encode_flow_into(&small, buffer);
}
