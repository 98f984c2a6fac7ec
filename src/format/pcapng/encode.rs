//! A flow as a connection of its own: who speaks when, and in which protocol.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::ask::unsuitable;
use super::super::head::{self, Delimiter, is_whole};
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item, Part};
use super::tcp::{Connection, End};
use super::{file, http2};
use crate::flow::{Addr, Body, Flow, Kind, Message, Request, Response, Scheme, Version};

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Pcapng { is_begun: false, flows: 0 })
}

struct Pcapng {
    is_begun: bool,
    flows: u32,
}

impl Encoder for Pcapng {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        let is_empty = flow.request.is_none() && flow.response.is_none();
        if flow.kind == Kind::Tls || is_empty && flow.tunnel.is_none() {
            return Err(unsuitable("nothing was said in it"));
        }
        self.begin(out)?;
        let connection = connection(flow, self.flows);
        self.flows = self.flows.wrapping_add(1);
        Talk { connection, item, out }.whole()?;
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.begin(out)
    }
}

impl Pcapng {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_begun, true) {
            file::write_header(out)?;
        }
        Ok(())
    }
}

/// One flow being written.
struct Talk<'a> {
    connection: Connection,
    item: &'a dyn Item,
    out: &'a mut dyn Write,
}

impl Talk<'_> {
    fn whole(&mut self) -> io::Result<()> {
        let flow = self.item.flow();
        let timing = &flow.timing;
        self.at(Some(0));
        self.connection.open(self.out)?;
        if flow.kind == Kind::Tunnel {
            self.pass(Part::FromClient, End::Client)?;
            self.at(timing.end_us);
            self.pass(Part::FromServer, End::Server)?;
        } else {
            // The frames of both directions are of one protocol, which is the client's.
            let is_http2 = flow.request.as_ref().is_some_and(|request| request.version >= Version::Http2);
            if is_http2 {
                self.http2()?
            } else {
                self.http1()?
            }
            if flow.websocket.is_some() && !is_http2 {
                self.item.messages(&mut |message| {
                    // What a rule kept from the other end is on no connection between the two.
                    if message.dropped {
                        return Ok(());
                    }
                    self.connection.at(moment(flow, Some(message.at_us)));
                    frame(&mut self.connection, self.item, message, self.out)
                })?;
            } else if flow.tunnel.is_some() {
                self.pass(Part::FromClient, End::Client)?;
                self.pass(Part::FromServer, End::Server)?;
            }
        }
        self.at(timing.end_us);
        self.connection.close(End::Server, self.out)
    }

    fn http1(&mut self) -> io::Result<()> {
        let flow = self.item.flow();
        let timing = &flow.timing;
        let mut method = &b""[..];
        if let Some(request) = &flow.request {
            method = &request.method;
            let (text, delimiter) = head::request(request);
            self.connection.send(End::Client, &text, self.out)?;
            self.at(timing.request_end_us);
            self.text_body(Part::Request, End::Client, delimiter, request_parts(request))?;
        }
        for interim in &flow.interim {
            self.at(Some(interim.at_us));
            self.connection.send(End::Server, &head::interim(interim), self.out)?;
        }
        if let Some(response) = &flow.response {
            self.at(timing.response_head_us);
            let (text, delimiter) = head::response(response, method);
            self.connection.send(End::Server, &text, self.out)?;
            self.at(timing.response_end_us);
            self.text_body(Part::Response, End::Server, delimiter, response_parts(response))?;
        }
        Ok(())
    }

    fn text_body(&mut self, part: Part, from: End, delimiter: Delimiter, parts: Parts<'_>) -> io::Result<()> {
        let Some(mut body) = self.item.body(part)?.filter(|_| delimiter != Delimiter::None) else {
            return Ok(());
        };
        let mut sender = Sender { connection: &mut self.connection, from, out: self.out };
        head::body(&mut body, delimiter, is_whole(parts.0), parts.1, &mut sender)
    }

    fn http2(&mut self) -> io::Result<()> {
        let flow = self.item.flow();
        let timing = &flow.timing;
        self.connection.send(End::Client, &http2::preface(), self.out)?;
        self.connection.send(End::Server, &http2::settings(), self.out)?;
        if let Some(request) = &flow.request {
            let parts = request_parts(request);
            let ends = parts.0.len == 0 && is_whole(parts.0) && parts.1.is_none();
            self.connection.send(End::Client, &http2::request(request, ends), self.out)?;
            self.at(timing.request_end_us);
            self.frame_body(Part::Request, End::Client, ends, parts)?;
        }
        for interim in &flow.interim {
            self.at(Some(interim.at_us));
            let head = http2::status(interim.status, &interim.headers, false);
            self.connection.send(End::Server, &head, self.out)?;
        }
        if let Some(response) = &flow.response {
            let parts = response_parts(response);
            let ends = parts.0.len == 0 && is_whole(parts.0) && parts.1.is_none();
            self.at(timing.response_head_us);
            self.connection.send(End::Server, &http2::response(response, ends), self.out)?;
            self.at(timing.response_end_us);
            self.frame_body(Part::Response, End::Server, ends, parts)?;
        }
        Ok(())
    }

    fn frame_body(&mut self, part: Part, from: End, is_ended: bool, parts: Parts<'_>) -> io::Result<()> {
        if is_ended {
            return Ok(());
        }
        let ends = is_whole(parts.0) && parts.1.is_none();
        if let Some(mut body) = self.item.body(part)? {
            let (connection, out) = (&mut self.connection, &mut *self.out);
            http2::data(&mut body, ends, &mut |frame| connection.send(from, frame, out))?;
        }
        if let Some(trailers) = parts.1.filter(|_| is_whole(parts.0)) {
            self.connection.send(from, &http2::trailers(trailers), self.out)?;
        }
        Ok(())
    }

    /// Bytes that were relayed unread.
    fn pass(&mut self, part: Part, from: End) -> io::Result<()> {
        let Some(mut body) = self.item.body(part)? else { return Ok(()) };
        let mut sender = Sender { connection: &mut self.connection, from, out: self.out };
        io::copy(&mut body, &mut sender).map(drop)
    }

    fn at(&mut self, us: Option<u64>) {
        self.connection.at(moment(self.item.flow(), us));
    }
}

/// A body and the trailers behind it.
type Parts<'a> = (&'a Body, Option<&'a crate::flow::Headers>);

fn request_parts(request: &Request) -> Parts<'_> {
    (&request.body, request.trailers.as_deref())
}

fn response_parts(response: &Response) -> Parts<'_> {
    (&response.body, response.trailers.as_deref())
}

/// Nanoseconds since 1970 of what happened so long after the flow's start; 0, which moves nothing, where that is not known.
fn moment(flow: &Flow, us: Option<u64>) -> u64 {
    let started = u64::try_from(flow.timing.started_unix_ns).unwrap_or(0);
    us.map_or(0, |us| started.saturating_add(us.saturating_mul(1000)))
}

/// Sends what is written to it.
struct Sender<'a> {
    connection: &'a mut Connection,
    from: End,
    out: &'a mut dyn Write,
}

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.send(self.from, bytes, self.out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A message as one frame (RFC 6455 §5.2). The client's is masked with zeros, so that its payload can be read.
fn frame(
    connection: &mut Connection,
    item: &dyn Item,
    message: &Message,
    out: &mut dyn Write,
) -> io::Result<()> {
    let len = match &message.content {
        crate::flow::Content::Absent => 0,
        crate::flow::Content::Inline(bytes) => bytes.len() as u64,
        crate::flow::Content::Extents(extents) => {
            extents.iter().fold(0, |sum, extent| extent.len.saturating_add(sum))
        }
    };
    let from = if message.from_client { End::Client } else { End::Server };
    let mask = if message.from_client { 0x80 } else { 0 };
    let mut head = vec![0x80 | message.opcode.number()];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..126), _) => head.push(mask | len),
        (_, Ok(len)) => {
            head.push(mask | 126);
            head.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend_from_slice(&len.to_be_bytes());
        }
    }
    if message.from_client {
        head.extend_from_slice(&[0; 4]);
    }
    connection.send(from, &head, out)?;
    if len > 0 {
        let mut payload = item.payload(message)?.take(len);
        io::copy(&mut payload, &mut Sender { connection, from, out })?;
    }
    Ok(())
}

/// The connection of the flow with this number in the file, from 0. The client's port rises with it: flows that shared a
/// connection would have one pair of ports, and Wireshark would take a second beginning there for a repetition of the first.
/// It is between the client and the origin if their addresses are of one family, else between us and the origin, or the client and us.
fn connection(flow: &Flow, number: u32) -> Connection {
    let client = (flow.client.peer.as_ref().and_then(address), flow.client.local.as_ref().and_then(address));
    let server = flow.server.as_ref().map_or((None, None), |server| {
        (server.local.as_ref().and_then(address), server.peer.as_ref().and_then(address))
    });
    let alike = |one: Option<SocketAddr>, other: Option<SocketAddr>| {
        let (one, other) = (one?, other?);
        (one.is_ipv4() == other.is_ipv4()).then_some((one, other))
    };
    let unknown = (SocketAddr::from((UNKNOWN[0], 50_000)), SocketAddr::from((UNKNOWN[1], flow.target.port)));
    let found =
        alike(client.0, server.1).or_else(|| alike(server.0, server.1)).or_else(|| alike(client.0, client.1));
    let (mut from, mut to) = found.unwrap_or(unknown);
    if found.is_none() || server.1.is_none() {
        to.set_port(flow.target.port);
    }
    let port = to.port();
    let mut comment = format!("{} {}", flow.kind.as_str(), flow.url());
    if let Some(mid) = flow.mid {
        comment = format!("mid {mid}, {comment}");
    }
    if found.is_some() {
        comment += &format!("; made of the record, the client's port was {}", from.port());
    }
    from.set_port(FIRST_PORT + u16::try_from(number % u32::from(PORTS)).unwrap_or(0));
    let is_plain = flow.target.scheme == Scheme::Http && HTTP_PORTS.contains(&port);
    if flow.kind != Kind::Tunnel && !is_plain {
        to.set_port(80);
        comment += &format!("; the origin's port was {port}");
    }
    if to.port() == 0 {
        to.set_port(80);
    }
    let first_number = number.wrapping_mul(0x9e37_79b1);
    Connection::new((from, to), first_number, comment)
}

fn address(addr: &Addr) -> Option<SocketAddr> {
    let ip: IpAddr = addr.host.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), addr.port))
}

/// Addresses for documentation (RFC 5737), where the record has none.
const UNKNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// Ports of clients: arbitrary, but above all that stand for a protocol in much used tables.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 45_000;

/// Where Wireshark looks for HTTP by default.
const HTTP_PORTS: [u16; 10] = [80, 3128, 3132, 5985, 8080, 8088, 11371, 1900, 2869, 2710];
