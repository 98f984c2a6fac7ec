//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in little-endian.

use std::io::{self, Write};

/// What begins a file: a section, and one interface whose packets begin with an IP header.
pub(super) fn write_header(out: &mut dyn Write) -> io::Result<()> {
    let mut section = Vec::new();
    section.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    section.extend_from_slice(&[1, 0, 0, 0]); // version 1.0
    section.extend_from_slice(&u64::MAX.to_le_bytes()); // the length of the section is not told
    option(&mut section, USERAPPL, b"manent");
    option(&mut section, END, &[]);
    block(0x0a0d_0d0a, &section, out)?;
    let mut interface = Vec::new();
    interface.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
    interface.extend_from_slice(&[0; 6]); // reserved; no limit on packets
    option(&mut interface, TSRESOL, &[9]); // nanoseconds
    option(&mut interface, END, &[]);
    block(1, &interface, out)
}

/// A packet at nanoseconds since 1970.
pub(super) fn write_packet(
    at_ns: u64,
    packet: &[u8],
    comment: Option<&str>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let len = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = Vec::with_capacity(packet.len() + 32);
    body.extend_from_slice(&0_u32.to_le_bytes()); // the interface
    body.extend_from_slice(&at_ns.to_le_bytes()[4..]);
    body.extend_from_slice(&at_ns.to_le_bytes()[..4]);
    body.extend_from_slice(&len);
    body.extend_from_slice(&len);
    body.extend_from_slice(packet);
    pad(&mut body);
    if let Some(comment) = comment {
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, END, &[]);
    }
    block(6, &body, out)
}

fn block(kind: u32, body: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let len = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&len)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(MAX_OPTION)];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

/// To a multiple of four.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

const END: u16 = 0;
const COMMENT: u16 = 1;
const USERAPPL: u16 = 4;
const TSRESOL: u16 = 9;

/// tcpdump.org/linktypes.html: IPv4 or IPv6 by the version in the header.
const LINKTYPE_RAW: u16 = 101;

/// Arbitrary; nobody reads more of a comment. Its length must fit 16 bits.
const MAX_OPTION: usize = 8 << 10;
