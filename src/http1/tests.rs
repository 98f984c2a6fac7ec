//! Properties of the codec: it never panics, cuts do not matter, and what it accepts can be read in one way only.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::flow::{Headers, Request, Response, Version};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 4096, max_fields: 20 };

/// Pieces that a head is made of, good and bad.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    const FRAGMENTS: [&[u8]; 20] = [
        b"GET ",
        b"/ ",
        b"HTTP/1.1",
        b"HTTP/1.0 200 OK",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b": ",
        b" :",
        b"\t",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"X: y",
        b"\xff",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"fffffffffffffff;x=y\r\n",
    ];
    let fragment = prop::sample::select(&FRAGMENTS[..]);
    vec(fragment, 0..14).prop_map(|parts| parts.concat())
}

/// Heads that are right but for a line here and there.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    const FIRST: [&[u8]; 8] = [
        b"GET / HTTP/1.1",
        b"POST /a?b HTTP/1.1",
        b"POST / HTTP/1.0",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 101 \xff",
    ];
    const LINES: [&[u8]; 20] = [
        b"Host: h",
        b"Content-Length: 5",
        b"Content-Length: 5",
        b"Content-Length:  7 ",
        b"content-length: 05",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: gzip",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip ,Chunked",
        b"Transfer-Encoding:",
        b"Connection: close",
        b"Connection: upgrade, content-length",
        b"Connection: transfer-encoding, x, te",
        b"Upgrade: foo",
        b"TE: trailers",
        b"X: y\r\n folded",
        b"X: y\r\n\tContent-Length: 9",
        b"X : y",
        b"\xffX: y",
        b"X:\xff",
    ];
    const ENDS: [&[u8]; 6] = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n"];
    let line = (prop::sample::select(&LINES[..]), prop::sample::select(&ENDS[..]));
    (prop::sample::select(&FIRST[..]), vec(line, 0..5)).prop_map(|(first, lines)| {
        let lines = lines.into_iter().map(|(line, end)| [line, end].concat()).collect::<Vec<_>>().concat();
        [first, b"\r\n", &lines, b"\r\n"].concat()
    })
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), fragments()]
}

/// `data` cut at these places, taken modulo what is left.
fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = data;
    let mut out = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(cut % (rest.len() + 1));
        out.push(piece);
        rest = after;
    }
    out.push(rest);
    out
}

/// What a decoder made of some pieces: payload, how it ended, and what it left.
#[derive(Debug, PartialEq)]
struct Outcome {
    payload: Vec<u8>,
    end: Result<Option<Headers>, BodyError>,
    left: usize,
    wire_len: u64,
}

fn decode(length: BodyLength, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(length);
    let (mut buf, mut payload, mut end) = (BytesMut::new(), Vec::new(), None);
    let mut taken = 0;
    'all: for n in 0..=pieces.len() {
        buf.extend_from_slice(pieces.get(n).copied().unwrap_or_default());
        let eof = n == pieces.len();
        loop {
            let before = buf.len();
            let decoded = decoder.decode(&mut buf, eof);
            taken += (before - buf.len()) as u64;
            match decoded {
                Ok(Decoded::More) => {
                    assert!(!eof, "more after the end");
                    break;
                }
                Ok(Decoded::Data(data)) => {
                    assert!(!data.is_empty());
                    payload.extend_from_slice(&data);
                }
                Ok(Decoded::End(trailers)) => {
                    assert!(decoder.is_done());
                    end = Some(Ok(trailers));
                    break 'all;
                }
                Err(error) => {
                    end = Some(Err(error));
                    break 'all;
                }
            }
        }
    }
    assert_eq!(decoder.wire_len(), taken, "wire_len is what was consumed");
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let left = total - usize::try_from(taken).unwrap();
    Outcome { payload, end: end.unwrap(), left, wire_len: taken }
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

/// Field names that belong to no hop and mean nothing to the codec.
/// A line that changes nothing but the target.
fn plain(target: &[u8]) -> RequestLine<'_> {
    RequestLine { target, host: None, upgrade: false, max_forwards: None, proxy_authorization: None }
}

fn plain_name() -> impl Strategy<Value = String> {
    token().prop_map(|name| format!("X-{name}"))
}

/// Values as they are on the wire: no blanks around them, no control characters but TAB.
fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0x21u8..=0x7e, 0x80u8..=0xff, Just(b' '), Just(b'\t')], 0..20)
        .prop_map(|value| value.trim_ascii().to_vec())
}

fn plain_fields() -> impl Strategy<Value = Vec<u8>> {
    vec((plain_name(), value()), 0..8).prop_map(|fields| {
        let lines = fields.iter().map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat());
        lines.collect::<Vec<_>>().concat()
    })
}

proptest! {
    /// Nothing that a peer sends makes the parsers panic, and no limit is passed.
    #[test]
    fn parsers_never_panic(data in anything()) {
        let few = HeadLimits { max_bytes: 64, max_fields: 2 };
        for limits in [LIMITS, few] {
            for end in 0..=data.len() {
                if let Ok(Parsed::Head(request, len)) = parse_request(&data[..end], &limits) {
                    prop_assert!(len <= end && len <= limits.max_bytes && request.headers.len() <= limits.max_fields);
                }
                if let Ok(Parsed::Head(response, len)) = parse_response(&data[..end], &limits) {
                    prop_assert!(len <= end && response.status >= 100);
                    let _ = received_head(&response);
                }
            }
            let _ = parse_trailers(&data, &limits);
        }
    }

    /// Nor the decoders, however the bytes are cut; and the cuts change nothing.
    #[test]
    fn cuts_do_not_matter_to_decoders(data in anything(), cuts in vec(any::<usize>(), 0..20)) {
        for length in [BodyLength::None, BodyLength::Length(7), BodyLength::Chunked, BodyLength::Close] {
            let whole = decode(length, &[&data]);
            let cut = decode(length, &pieces(&data, &cuts));
            prop_assert_eq!(&whole.payload, &cut.payload);
            // A broken body may be found out earlier when it comes in pieces, and in other words; but broken it is.
            match (&whole.end, &cut.end) {
                (Err(_), Err(_)) => {}
                _ => prop_assert_eq!(&whole, &cut),
            }
        }
    }

    /// A valid chunked body gives its payload and trailers under any cut, and leaves what follows it.
    #[test]
    fn valid_chunked_bodies_decode(
        chunks in vec((vec(any::<u8>(), 1..40), 0..4usize, "(;[a-z]{1,5}(=\"[a-z ]{0,5}\")?)?"), 0..8),
        trailers in plain_fields(),
        after in vec(any::<u8>(), 0..10),
        cuts in vec(any::<usize>(), 0..30),
    ) {
        let mut wire = Vec::new();
        for (data, zeros, extension) in &chunks {
            wire.extend(format!("{}{:X}{extension}\r\n", "0".repeat(*zeros), data.len()).bytes());
            wire.extend(data);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n");
        wire.extend(&trailers);
        wire.extend(b"\r\n");
        let len = wire.len();
        wire.extend(&after);
        let outcome = decode(BodyLength::Chunked, &pieces(&wire, &cuts));
        let payload: Vec<u8> = chunks.iter().flat_map(|(data, _, _)| data.clone()).collect();
        prop_assert_eq!(outcome.payload, payload);
        prop_assert_eq!(outcome.wire_len, len as u64);
        prop_assert_eq!(outcome.left, after.len());
        prop_assert_eq!(outcome.end.unwrap().is_some(), !trailers.is_empty());
    }

    /// A head in canonical form, with nothing of this hop in it, goes on byte for byte, and needs no raw copy.
    #[test]
    fn canonical_requests_are_rewritten_byte_for_byte(
        method in token(), target in "/[!-~]{0,30}", fields in plain_fields(),
    ) {
        let head = [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\nHost: h\r\n", &fields, b"\r\n"].concat();
        let Ok(Parsed::Head(request, len)) = parse_request(&head, &LIMITS) else {
            return Err(TestCaseError::fail("a valid head was refused"));
        };
        prop_assert_eq!((len, &request.raw_head), (head.len(), &None));
        let mut out = BytesMut::new();
        let line = plain(target.as_bytes());
        write_request_head(&mut out, &request, &line, BodyLength::None);
        prop_assert_eq!(&out[..], &head[..]);
    }

    /// The same for responses.
    #[test]
    fn canonical_responses_are_rewritten_byte_for_byte(
        status in 100u16..1000, reason in value(), fields in plain_fields(),
    ) {
        let head = [format!("HTTP/1.1 {status} ").as_bytes(), &reason, b"\r\n", &fields, b"\r\n"].concat();
        let Ok(Parsed::Head(response, len)) = parse_response(&head, &LIMITS) else {
            return Err(TestCaseError::fail("a valid head was refused"));
        };
        prop_assert_eq!((len, &response.raw_head), (head.len(), &None));
        prop_assert_eq!(&received_head(&response)[..], &head[..]);
        let mut out = BytesMut::new();
        write_response_head(&mut out, &response, Version::Http11, BodyLength::None, false);
        prop_assert_eq!(&out[..], &head[..]);
    }

    /// Whatever was accepted, what is written of it is accepted again, as the same message with the same framing.
    #[test]
    fn what_is_written_is_read_the_same(data in prop_oneof![1 => anything(), 4 => heads()]) {
        if let Ok(Parsed::Head(request, _)) = parse_request(&data, &LIMITS)
            && let Ok(length) = request_length(&request)
        {
            let mut out = BytesMut::new();
            let line = plain(&request.target);
            write_request_head(&mut out, &request, &line, length);
            let Ok(Parsed::Head(again, len)) = parse_request(&out, &LIMITS) else {
                return Err(TestCaseError::fail(format!("wrote {}", out.escape_ascii())));
            };
            prop_assert_eq!((len, request_length(&again)), (out.len(), Ok(length)));
        }
        if let Ok(Parsed::Head(response, _)) = parse_response(&data, &LIMITS)
            && let Ok(length) = response_length(&response, b"GET")
        {
            let mut out = BytesMut::new();
            write_response_head(&mut out, &response, Version::Http11, length, false);
            let Ok(Parsed::Head(again, len)) = parse_response(&out, &LIMITS) else {
                return Err(TestCaseError::fail(format!("wrote {}", out.escape_ascii())));
            };
            prop_assert_eq!((len, response_length(&again, b"GET")), (out.len(), Ok(length)));
        }
    }

    /// What was scanned before is never looked at in vain.
    #[test]
    fn the_end_of_a_head_is_found_from_wherever_the_scan_goes_on(data in anything()) {
        let end = find_head_end(&data, 0);
        let known = (0..=data.len()).take_while(|&len| find_head_end(&data[..len], 0).is_none());
        for scanned in known {
            prop_assert_eq!(find_head_end(&data, scanned), end, "scanned {}", scanned);
        }
    }

    /// Framing fields that contradict each other are never a length, in whatever order they stand.
    #[test]
    fn contradictions_are_refused(
        mut fields in Just(vec![("Transfer-Encoding", "chunked"), ("X", "y")]),
        extra in prop_oneof![
            (0u64..100).prop_map(|n| ("Content-Length", n.to_string())),
            Just(("Transfer-Encoding", "chunked".to_owned())),
            Just(("Transfer-Encoding", "identity".to_owned())),
            Just(("transfer-encoding", String::new())),
        ],
        at in 0..3usize,
    ) {
        fields.insert(at, (extra.0, &extra.1));
        let headers: Headers = fields.into_iter().collect();
        let request = Request { headers: headers.clone(), ..Request::default() };
        prop_assert!(request_length(&request).is_err());
        if extra.0 == "Content-Length" {
            let response = Response { status: 200, headers, ..Response::default() };
            prop_assert!(response_length(&response, b"GET").is_err());
        }
    }

    /// A length is plain decimal digits or refused: what we accept, every parser reads as the same number.
    #[test]
    fn lengths_are_plain_numbers(value in "[-+ 0-9a-fx.,_]{0,22}") {
        let headers: Headers = [("Content-Length", value.as_str())].into_iter().collect();
        if let Ok(length) = request_length(&Request { headers, ..Request::default() }) {
            let BodyLength::Length(number) = length else { return Err(TestCaseError::fail("no length")) };
            prop_assert_eq!(number.to_string(), value);
        }
    }

    /// The field lines of a head are those of the record: none is lost, joined or made up.
    #[test]
    fn every_field_line_is_a_field(fields in vec((token(), value()), 0..10)) {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        for (name, value) in &fields {
            head.extend([name.as_bytes(), b":", value, b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        let Ok(Parsed::Head(request, _)) = parse_request(&head, &LIMITS) else {
            return Err(TestCaseError::fail("a valid head was refused"));
        };
        let seen: Vec<_> = request.headers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let sent: Vec<_> = fields.into_iter().map(|(n, v)| (n.into_bytes(), v)).collect();
        prop_assert_eq!(seen, sent);
    }
}

#[test]
fn large_pieces_are_not_copied() {
    let mut buf = BytesMut::from(&vec![b'x'; 100_000][..]);
    let at = buf.as_ptr();
    let Ok(Decoded::Data(data)) = Decoder::new(BodyLength::Close).decode(&mut buf, false) else {
        panic!("no data")
    };
    assert_eq!((data.as_ptr(), data.len()), (at, 100_000));
    assert_eq!(data, Bytes::from(vec![b'x'; 100_000]));
}
