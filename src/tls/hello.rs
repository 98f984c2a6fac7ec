//! Whether the bytes a client began with hold a whole ClientHello yet, however it is cut (RFC 8446 §4, §5.1).
//!
//! Sans-I/O. It finds the end and judges nothing else: what is inside is read by rustls. A ClientHello may be spread
//! over many records, and post-quantum ones span several packets; a proxy that looks at the first read only fails.

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The beginning of a ClientHello, or nothing yet: read on.
    Incomplete,
    /// A whole ClientHello.
    Complete {
        /// Bytes up to the end of the record in which it ends.
        len: usize,
    },
    /// No TLS record begins like this: another protocol.
    NotTls,
    /// A TLS record, and then something that is no ClientHello.
    Malformed,
    /// More than [`LIMIT`] bytes, or announced to be.
    TooLong,
}

/// A ClientHello and its record headers may have this many bytes. Ordinary ones have 200 to 2,000; the length field
/// of a handshake message would allow 16 MiB.
pub const LIMIT: usize = 64 * 1024;

/// Looks at everything that came so far. Costs one step a record.
#[must_use]
pub fn scan(input: &[u8]) -> Scan {
    // The handshake message's own header may be cut by record boundaries, too.
    let mut header = [0; HANDSHAKE_HEADER];
    let mut have = 0;
    let mut at = 0;
    loop {
        let record = &input[at..];
        match record {
            [] => return if at >= LIMIT { Scan::TooLong } else { Scan::Incomplete },
            [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, 0..=4, ..] => {}
            _ if at == 0 => return Scan::NotTls,
            _ => return Scan::Malformed,
        }
        let Some((&[_, _, _, high, low], payload)) = record.split_first_chunk() else {
            return Scan::Incomplete;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        // Records of a handshake are never empty, nor above 2^14 bytes.
        if len == 0 || len > MAX_RECORD {
            return Scan::Malformed;
        }
        let payload = &payload[..len.min(payload.len())];
        for (place, &byte) in header.iter_mut().skip(have).zip(payload) {
            *place = byte;
        }
        have += payload.len();
        if have > 0 && header[0] != CLIENT_HELLO {
            return Scan::Malformed;
        }
        at += RECORD_HEADER + len;
        if have >= HANDSHAKE_HEADER {
            let [_, a, b, c] = header;
            let whole =
                HANDSHAKE_HEADER + usize::from(a) * 0x1_0000 + usize::from(u16::from_be_bytes([b, c]));
            if whole > LIMIT {
                return Scan::TooLong;
            }
            if have >= whole && at <= input.len() {
                return if at > LIMIT { Scan::TooLong } else { Scan::Complete { len: at } };
            }
        }
        if at > input.len() {
            return if input.len() >= LIMIT { Scan::TooLong } else { Scan::Incomplete };
        }
    }
}

/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Type of a ClientHello among handshake messages.
const CLIENT_HELLO: u8 = 1;
/// Type, version, length.
const RECORD_HEADER: usize = 5;
/// Type, length.
const HANDSHAKE_HEADER: usize = 4;
/// RFC 8446 §5.1.
const MAX_RECORD: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What rustls sends first, with `offers` to make it long.
    fn hello(offers: usize) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(crate::tls::crypto::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = (0..offers).map(|n| format!("protocol-{n:05}").into_bytes()).collect();
        let mut connection =
            ClientConnection::new(Arc::new(config), "example.com".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// The same handshake bytes in records of `size`.
    fn recut(hello: &[u8], size: usize) -> Vec<u8> {
        let mut message = Vec::new();
        let mut rest = hello;
        while let [_, _, _, high, low, ..] = *rest {
            let len = usize::from(u16::from_be_bytes([high, low]));
            message.extend_from_slice(&rest[5..5 + len]);
            rest = &rest[5 + len..];
        }
        let cut = |piece: &[u8]| {
            let len = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&[22, 3, 1, len[0], len[1]], piece].concat()
        };
        message.chunks(size).flat_map(cut).collect()
    }

    /// Whether rustls, too, finds a whole ClientHello.
    fn rustls_accepts(bytes: &[u8]) -> bool {
        let mut acceptor = rustls::server::Acceptor::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).unwrap();
            if acceptor.accept().unwrap().is_some() {
                return true;
            }
        }
        false
    }

    #[test]
    fn every_cut_of_a_hello_is_incomplete_and_the_whole_is_complete() {
        for bytes in [hello(0), hello(3), recut(&hello(0), 1), recut(&hello(0), 7), hello(2000)] {
            assert!(rustls_accepts(&bytes));
            for end in 0..bytes.len() {
                assert_eq!(scan(&bytes[..end]), Scan::Incomplete, "{end} of {}", bytes.len());
            }
            assert_eq!(scan(&bytes), Scan::Complete { len: bytes.len() });
            let more = [&bytes[..], b"early data"].concat();
            assert_eq!(scan(&more), Scan::Complete { len: bytes.len() });
        }
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0",
            b"SSH-2.0-",
            b"\0",
            b"\x80\x2e\x01",
            b"\x16\x02",
            b"\x15\x03",
        ] {
            assert_eq!(scan(bytes), Scan::NotTls, "{bytes:?}");
        }
    }

    #[test]
    fn a_tls_beginning_without_a_hello_is_malformed() {
        let empty_record = [22, 3, 1, 0, 0];
        let server_hello = [22, 3, 1, 0, 1, 2];
        let oversized = [22, 3, 1, 0xff, 0xff];
        let then_an_alert = [22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2];
        for bytes in [&empty_record[..], &server_hello, &oversized, &then_an_alert] {
            assert_eq!(scan(bytes), Scan::Malformed, "{bytes:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(scan(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Scan::TooLong, "announced");
        let one_byte_records =
            [&[22, 3, 1, 0, 4, 1, 0, 0xf0, 0][..], &[22, 3, 1, 0, 1, 0].repeat(LIMIT / 6)].concat();
        assert_eq!(scan(&one_byte_records), Scan::TooLong, "by its record headers");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
            let _ = scan(&[&[22, 3, 1][..], &bytes].concat());
            let _ = scan(&[&[22, 3, 1, 0, 3, 1, 0, 0][..], &bytes].concat());
        }

        #[test]
        fn any_cutting_is_the_same_hello(size in 1usize..600) {
            let bytes = recut(&hello(1), size);
            prop_assert_eq!(scan(&bytes), Scan::Complete { len: bytes.len() });
        }

        #[test]
        fn a_broken_byte_never_lengthens_it(at in 0usize..200, value: u8) {
            let mut bytes = hello(0);
            let len = bytes.len();
            bytes[at % len] = value;
            if let Scan::Complete { len: found } = scan(&bytes) {
                prop_assert!(found <= len);
            }
        }
    }
}
