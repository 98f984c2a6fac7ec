//! The plain case of a record, which is nearly every one: read in one go, without prost's structs between.
//!
//! Header fields then share the record's memory, as bodies do, and a head needs one allocation rather than two for each field.
//! Whatever is odd is left to prost, with its rules and its errors: another type of field than the schema has, a message that
//! stands there twice, fields of a newer version, text that is not UTF-8. What is read here is what prost reads, which the
//! tests compare.

use bytes::Bytes;
use prost::Message;

use super::decode::{self, KnownConns, body_end, error, framing, kind, narrow, scheme, state, version};
use crate::flow::{Body, ConnId, Content, Extent, Flow, Headers, Mid, Request, Response, Target, Timing};

/// The flow of a record, with those of its connections that are known; `None` if there is anything odd.
pub(super) fn flow(record: &Bytes, known: &KnownConns) -> Option<Flow> {
    let read = In { record };
    let mut flow = Flow { kind: kind(0), state: state(0), ..Flow::default() };
    let (mut client, mut server, mut timed) = (0, None, false);
    let mut target = Target { scheme: scheme(0), host: String::new(), port: 0 };
    each(record, |number, value| {
        match (number, value) {
            (1, Value::Number(n)) => flow.mid = Some(Mid(n)),
            (2, Value::Number(n)) => flow.kind = kind(int(n)),
            (3, Value::Number(n)) => flow.state = state(int(n)),
            (4, Value::Bytes(bytes)) => once(&mut flow.error, error(read.message(bytes)?))?,
            (5, Value::Number(n)) => target.scheme = scheme(int(n)),
            (6, Value::Bytes(bytes)) => target.host = std::str::from_utf8(bytes).ok()?.to_owned(),
            (7, Value::Number(n)) => target.port = narrow(uint(n)),
            (8, Value::Bytes(bytes)) => once(&mut flow.request, read.request(bytes)?)?,
            (9, Value::Bytes(bytes)) => flow.interim.push(decode::interim(read.message(bytes)?)),
            (10, Value::Bytes(bytes)) => once(&mut flow.response, read.response(bytes)?)?,
            (11, Value::Bytes(bytes)) => {
                once(&mut flow.tunnel, Box::new(decode::tunnel(read.message(bytes)?)))?
            }
            (12, Value::Bytes(bytes)) => {
                once(&mut flow.websocket, Box::new(decode::websocket(read.message(bytes)?)))?
            }
            (13, Value::Number(n)) => client = n,
            (14, Value::Number(n)) => server = Some(n),
            (15, Value::Number(n)) => flow.server_reused = n != 0,
            (16, Value::Bytes(bytes)) if !timed => (flow.timing, timed) = (timing(bytes)?, true),
            (17, Value::Number(n)) => flow.replay_of = Some(Mid(n)),
            (18, Value::Bytes(bytes)) => {
                once(&mut flow.imported, Box::new(decode::imported(read.message(bytes)?)))?;
            }
            (21, Value::Bytes(bytes)) => flow.rules.push(decode::applied(read.message(bytes)?)),
            _ => return None,
        }
        Some(())
    })?;
    flow.target = target;
    flow.client = known.client(ConnId(client));
    flow.server = server.map(|id| known.server(ConnId(id)));
    Some(flow)
}

/// Messages inside a record.
#[derive(Clone, Copy)]
struct In<'a> {
    record: &'a Bytes,
}

impl In<'_> {
    /// A rare one, by prost.
    fn message<M: Message + Default>(self, bytes: &[u8]) -> Option<M> {
        M::decode(self.bytes(bytes)).ok()
    }

    /// A part of the record, without a copy. One that is empty keeps no memory.
    fn bytes(self, part: &[u8]) -> Bytes {
        self.record.slice_ref(part)
    }

    fn request(self, bytes: &[u8]) -> Option<Request> {
        let mut request = Request { version: version(0), ..Request::default() };
        let (mut body, mut fields) = (None, 0);
        each(bytes, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => request.method = self.bytes(bytes),
                (2, Value::Bytes(bytes)) => request.target = self.bytes(bytes),
                (3, Value::Number(n)) => request.version = version(int(n)),
                (4, Value::Bytes(_)) => fields += 1,
                (5, Value::Bytes(bytes)) => request.raw_head = Some(self.bytes(bytes)),
                (6, Value::Number(n)) => request.head_len = n,
                (7, Value::Bytes(bytes)) => once(&mut body, self.body(bytes)?)?,
                (8, Value::Bytes(bytes)) => once(&mut request.trailers, Box::new(self.list(bytes)?))?,
                (9, Value::Bytes(bytes)) => request.scheme = Some(self.bytes(bytes)),
                (10, Value::Bytes(bytes)) => request.authority = Some(self.bytes(bytes)),
                (11, Value::Bytes(bytes)) => request.protocol = Some(self.bytes(bytes)),
                (12, Value::Bytes(bytes)) => once(&mut request.changed, Box::new(self.list(bytes)?))?,
                _ => return None,
            }
            Some(())
        })?;
        request.headers = self.headers(bytes, 4, fields)?;
        request.body = body.unwrap_or_default();
        Some(request)
    }

    fn response(self, bytes: &[u8]) -> Option<Response> {
        let mut response = Response { version: version(0), ..Response::default() };
        let (mut body, mut fields) = (None, 0);
        each(bytes, |number, value| {
            match (number, value) {
                (1, Value::Number(n)) => response.status = narrow(uint(n)),
                (2, Value::Bytes(bytes)) => response.reason = self.bytes(bytes),
                (3, Value::Number(n)) => response.version = version(int(n)),
                (4, Value::Bytes(_)) => fields += 1,
                (5, Value::Bytes(bytes)) => response.raw_head = Some(self.bytes(bytes)),
                (6, Value::Number(n)) => response.head_len = n,
                (7, Value::Bytes(bytes)) => once(&mut body, self.body(bytes)?)?,
                (8, Value::Bytes(bytes)) => once(&mut response.trailers, Box::new(self.list(bytes)?))?,
                (9, Value::Number(n)) => response.by_proxy = n != 0,
                _ => return None,
            }
            Some(())
        })?;
        response.headers = self.headers(bytes, 4, fields)?;
        response.body = body.unwrap_or_default();
        Some(response)
    }

    fn body(self, bytes: &[u8]) -> Option<Body> {
        let mut body = Body { framing: framing(0), end: body_end(0), ..Body::default() };
        let (mut inline, mut extents, mut in_segments, mut framing_len) = (None, Vec::new(), false, 0);
        each(bytes, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => inline = Some(self.bytes(bytes)),
                (2, Value::Bytes(bytes)) => extents.push(extent(bytes)?),
                (3, Value::Number(n)) => in_segments = n != 0,
                (4, Value::Number(n)) => body.len = n,
                (5, Value::Number(n)) => framing_len = n,
                (6, Value::Number(n)) => body.framing = framing(int(n)),
                (7, Value::Number(n)) => body.end = body_end(int(n)),
                _ => return None,
            }
            Some(())
        })?;
        body.content = match inline {
            Some(bytes) => Content::Inline(bytes),
            None if in_segments => Content::Extents(extents),
            None => Content::Absent,
        };
        body.wire_len = body.len.wrapping_add(framing_len);
        Some(body)
    }

    /// A message that holds nothing but fields.
    fn list(self, bytes: &[u8]) -> Option<Headers> {
        let mut fields = 0;
        each(bytes, |number, value| {
            fields += 1;
            matches!((number, value), (1, Value::Bytes(_))).then_some(())
        })?;
        self.headers(bytes, 1, fields)
    }

    /// The `count` header fields that are field `wanted` of a message.
    fn headers(self, bytes: &[u8], wanted: u32, count: usize) -> Option<Headers> {
        if count == 0 {
            return Some(Headers::new());
        }
        let start = self.record.as_ptr() as usize;
        let place = |part: &[u8]| {
            let at = (part.as_ptr() as usize).checked_sub(start)?;
            Some(at..at + part.len())
        };
        // Places in it are 32 bits wide.
        u32::try_from(self.record.len()).ok()?;
        let mut headers = Headers::inside(self.record.clone(), count);
        each(bytes, |number, value| {
            let (true, Value::Bytes(bytes)) = (number == wanted, value) else { return Some(()) };
            let (mut name, mut text) = (0..0, 0..0);
            each(bytes, |number, value| {
                match (number, value) {
                    (1, Value::Bytes(bytes)) => name = place(bytes)?,
                    (2, Value::Bytes(bytes)) => text = place(bytes)?,
                    _ => return None,
                }
                Some(())
            })?;
            headers.place(name, text);
            Some(())
        })?;
        Some(headers)
    }
}

fn extent(bytes: &[u8]) -> Option<Extent> {
    let mut extent = Extent { segment: 0, offset: 0, stored_len: 0, len: 0 };
    each(bytes, |number, value| {
        match (number, value) {
            (1, Value::Number(n)) => extent.segment = uint(n),
            (2, Value::Number(n)) => extent.offset = n,
            (3, Value::Number(n)) => extent.stored_len = n,
            (4, Value::Number(n)) => extent.len = n,
            _ => return None,
        }
        Some(())
    })?;
    Some(extent)
}

fn timing(bytes: &[u8]) -> Option<Timing> {
    let mut timing = Timing::default();
    each(bytes, |number, value| {
        let moment = match (number, value) {
            (1, Value::Fixed(n)) => {
                timing.started_unix_ns = n;
                return Some(());
            }
            (2, _) => &mut timing.request_head_us,
            (3, _) => &mut timing.request_end_us,
            (4, _) => &mut timing.connected_us,
            (5, _) => &mut timing.send_start_us,
            (6, _) => &mut timing.send_end_us,
            (7, _) => &mut timing.response_head_us,
            (8, _) => &mut timing.response_end_us,
            (9, _) => &mut timing.end_us,
            _ => return None,
        };
        let Value::Number(n) = value else { return None };
        *moment = Some(n);
        Some(())
    })?;
    Some(timing)
}

/// Sets what may be set once; `None` the second time.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// A field's value as it stands in the record.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Fixed(i64),
    Bytes(&'a [u8]),
}

/// Calls `field` with the number and value of each field of a message, up to the first for which it gives `None`; `None` then
/// too, and if the bytes are not a whole message.
fn each<'a>(bytes: &'a [u8], mut field: impl FnMut(u32, Value<'a>) -> Option<()>) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => {
                let (fixed, after) = rest.split_first_chunk()?;
                rest = after;
                Value::Fixed(i64::from_le_bytes(*fixed))
            }
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                let (part, after) = rest.split_at_checked(len)?;
                rest = after;
                Value::Bytes(part)
            }
            _ => return None,
        };
        field(number, value)?;
    }
    Some(())
}

#[inline]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    if first < 0x80 {
        return Some(first.into());
    }
    let mut number = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // Of the tenth byte, one bit has room.
            return (shift < 63 || byte < 2).then_some(number);
        }
    }
    None
}

/// `uint32`: the lower half, whatever stands above (protobuf.dev/programming-guides/proto3 § Updating).
fn uint(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// An enum.
fn int(number: u64) -> i32 {
    uint(number).cast_signed()
}
