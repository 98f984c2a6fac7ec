//! A TCP connection that never was: packets with headers as they would be (RFC 791, RFC 8200, RFC 9293).

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::file::write_packet;

/// A connection, and when it is in it.
pub(super) struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence numbers, the client's and the server's.
    next: [u32; 2],
    /// Bytes that the other side has not acknowledged.
    unacknowledged: [usize; 2],
    /// Nanoseconds since 1970. Packets never go back in time.
    now_ns: u64,
    /// Said with the first packet.
    comment: Option<String>,
}

/// Which end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

impl End {
    fn other(self) -> End {
        if self == End::Client { End::Server } else { End::Client }
    }
}

impl Connection {
    /// From a client to a server, whose addresses are of one family. Sequence numbers begin at `first_number`.
    pub(super) fn new(
        (client, server): (SocketAddr, SocketAddr),
        first_number: u32,
        comment: String,
    ) -> Self {
        Self {
            client,
            server,
            next: [first_number; 2],
            unacknowledged: [0; 2],
            now_ns: 0,
            comment: Some(comment),
        }
    }

    /// Lets time pass, up to nanoseconds since 1970.
    pub(super) fn at(&mut self, ns: u64) {
        self.now_ns = self.now_ns.max(ns);
    }

    /// The handshake.
    pub(super) fn open(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.packet(End::Client, SYN, &[], out)?;
        self.packet(End::Server, SYN | ACK, &[], out)?;
        self.packet(End::Client, ACK, &[], out)
    }

    /// Bytes, in as many segments as they need.
    pub(super) fn send(&mut self, from: End, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        for segment in bytes.chunks(MAX_SEGMENT) {
            self.packet(from, ACK | PSH, segment, out)?;
            if self.unacknowledged[from as usize] >= HALF_WINDOW {
                self.packet(from.other(), ACK, &[], out)?;
            }
        }
        Ok(())
    }

    /// The end: first the side that closes, then the other.
    pub(super) fn close(&mut self, first: End, out: &mut dyn Write) -> io::Result<()> {
        self.packet(first, FIN | ACK, &[], out)?;
        self.packet(first.other(), FIN | ACK, &[], out)?;
        self.packet(first, ACK, &[], out)
    }

    fn packet(&mut self, from: End, flags: u8, payload: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let (source, target) = match from {
            End::Client => (self.client, self.server),
            End::Server => (self.server, self.client),
        };
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next[from.other() as usize] };
        let segment = segment(source, target, [self.next[from as usize], acknowledged], flags, payload);
        let packet = packet(source.ip(), target.ip(), &segment);
        let len = payload.len() + usize::from(flags & (SYN | FIN) != 0);
        let next = &mut self.next[from as usize];
        *next = next.wrapping_add(u32::try_from(len).unwrap_or(0));
        self.unacknowledged[from as usize] += payload.len();
        self.unacknowledged[from.other() as usize] = 0;
        write_packet(self.now_ns, &packet, self.comment.take().as_deref(), out)
    }
}

/// A TCP segment with its checksum.
fn segment(source: SocketAddr, target: SocketAddr, numbers: [u32; 2], flags: u8, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = if flags & SYN == 0 { &[] } else { &[2, 4, 5, 180] }; // maximum segment size 1460
    let mut segment = Vec::with_capacity(24 + payload.len());
    segment.extend_from_slice(&source.port().to_be_bytes());
    segment.extend_from_slice(&target.port().to_be_bytes());
    segment.extend_from_slice(&numbers[0].to_be_bytes());
    segment.extend_from_slice(&numbers[1].to_be_bytes());
    segment.push(if options.is_empty() { 5 << 4 } else { 6 << 4 });
    segment.push(flags);
    segment.extend_from_slice(&WINDOW.to_be_bytes());
    segment.extend_from_slice(&[0; 4]); // checksum, urgent pointer
    segment.extend_from_slice(options);
    segment.extend_from_slice(payload);
    let mut pseudo = [octets(source.ip()), octets(target.ip())].concat();
    let len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    pseudo.extend_from_slice(&len.to_be_bytes());
    pseudo.extend_from_slice(&u32::from(TCP).to_be_bytes());
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A segment in an IP packet.
fn packet(source: IpAddr, target: IpAddr, segment: &[u8]) -> Vec<u8> {
    let len = |extra: usize| u16::try_from(segment.len() + extra).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = Vec::with_capacity(40 + segment.len());
    if source.is_ipv4() {
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&len(20));
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, TCP, 0, 0]); // not fragmented, 64 hops, no checksum yet
        packet.extend(octets(source));
        packet.extend(octets(target));
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet.extend_from_slice(&[0x60, 0, 0, 0]);
        packet.extend_from_slice(&len(0));
        packet.extend_from_slice(&[TCP, 64]);
        packet.extend(octets(source));
        packet.extend(octets(target));
    }
    packet.extend_from_slice(segment);
    packet
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 1071, over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum & 0xffff).unwrap_or(0)
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Its number in IP.
const TCP: u8 = 6;

/// What Ethernet leaves, with IPv4 as with IPv6.
const MAX_SEGMENT: usize = 1440;

/// The largest without an option. Wireshark complains of a sender that goes beyond it.
const WINDOW: u16 = u16::MAX;

const HALF_WINDOW: usize = 32 << 10;
