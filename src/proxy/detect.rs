//! What a tunnel carries, by its first bytes: TLS, HTTP/1, or something that is left unread.
//!
//! Waits until it can tell, however the bytes are cut. A client that says nothing waits for the server (SMTP, SSH, MySQL).

use std::time::{Duration, Instant};

use super::client::{Client, Stream};
use super::intercept::Reached;
use crate::http2::PREFACE;
use crate::tls::hello::{Scan, scan};

/// What it is.
#[derive(Debug)]
pub(super) enum First {
    /// The client closed without a byte.
    Nothing,
    /// A whole ClientHello is in the reader's buffer.
    Tls,
    /// HTTP/1, by its request line.
    Http,
    /// HTTP/2, by its preface, which is still in the reader's buffer.
    Http2,
    /// TLS that never became a whole ClientHello, with the reason. It is not relayed unread: a client could have its
    /// TLS pass unseen by sending the ClientHello slowly, or with so much in it that nobody waits for its end.
    BrokenTls(&'static str),
    /// Anything else, with the reason as it is recorded.
    Opaque(&'static str),
}

/// Reads until it is clear. What was read stays in the reader's buffer, except a stray CRLF between the `CONNECT` and TLS
/// or HTTP: some clients send one, and it belongs to neither.
///
/// A client that is silent for a moment may be one that waits for its server, or one that is slow: whoever speaks first
/// on the connection to the origin (`reached`), which is there anyway, tells.
pub(super) async fn first_bytes(client: &mut Client, stream: &mut Stream, reached: &mut Reached) -> First {
    let limits = client.shared.limits;
    let mut began = Instant::now();
    loop {
        // One limit for all that it takes to tell: a client that trickles gets no more time with each byte.
        let (limit, in_hello) = match judge(stream.reader.buffer()) {
            Judged::More { in_hello: true } => (limits.tls_timeout, true),
            Judged::More { .. } if stream.reader.buffer().is_empty() => (limits.silent_client, false),
            // What has begun like a request line gets a moment for the rest of it.
            Judged::More { .. } => (limits.silent_client.max(FIRST_LINE_TIME), false),
            Judged::Tls { skip } => {
                stream.reader.skip(skip);
                return First::Tls;
            }
            Judged::Http { skip } => {
                stream.reader.skip(skip);
                return First::Http;
            }
            Judged::Http2 => return First::Http2,
            Judged::BrokenTls(reason) => return First::BrokenTls(reason),
            Judged::Opaque(reason) => return First::Opaque(reason),
        };
        let left = limit.saturating_sub(began.elapsed());
        match client.ticker.within(left, stream.reader.fill()).await {
            Ok(Ok(0)) if stream.reader.buffer().is_empty() => return First::Nothing,
            Ok(Ok(0)) if in_hello => return First::BrokenTls("closed in the middle of its ClientHello"),
            Ok(Ok(0)) => return First::Opaque("closed before its protocol was clear"),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return First::Nothing,
            Err(_) if stream.reader.buffer().is_empty() => {
                let speaks = tokio::select! {
                    biased;
                    filled = client.ticker.within(limits.idle_timeout, stream.reader.fill()) => filled,
                    () = origin_speaks(reached) => return First::Opaque("silent client"),
                };
                match speaks {
                    // Its time begins now.
                    Ok(Ok(1..)) => began = Instant::now(),
                    Ok(Ok(0) | Err(_)) => return First::Nothing,
                    Err(_) => return First::Opaque("silent client"),
                }
            }
            Err(_) if in_hello => return First::BrokenTls("no whole ClientHello in time"),
            Err(_) => return First::Opaque("protocol not clear in time"),
        }
    }
}

/// Waits until the origin says something, or closes. One that was left by another client speaks TLS, and waits for us.
async fn origin_speaks(reached: &mut Reached) {
    match reached {
        Reached::Dialed(dialed, _) => dialed.link.speaks().await,
        Reached::Pooled(_) | Reached::NotYet => std::future::pending().await,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    More { in_hello: bool },
    Tls { skip: usize },
    Http { skip: usize },
    Http2,
    BrokenTls(&'static str),
    Opaque(&'static str),
}

fn judge(bytes: &[u8]) -> Judged {
    let skip = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &bytes[skip..];
    match rest.first() {
        // Half of a stray CRLF says as little as nothing.
        Some(b'\r') if rest.len() == 1 && skip == 0 => Judged::More { in_hello: false },
        None => Judged::More { in_hello: false },
        Some(&HANDSHAKE_RECORD) => match scan(rest) {
            // A broken ClientHello is for the TLS acceptor to refuse, with an alert and a record.
            Scan::Complete { .. } | Scan::Malformed => Judged::Tls { skip },
            Scan::Incomplete => Judged::More { in_hello: true },
            Scan::TooLong => Judged::BrokenTls("ClientHello of more than 64 KiB"),
            Scan::NotTls => Judged::Opaque("unknown protocol"),
        },
        Some(_) if bytes.starts_with(PREFACE) => Judged::Http2,
        Some(_) if PREFACE.starts_with(bytes) => Judged::More { in_hello: false },
        Some(_) => judge_http(rest, skip),
    }
}

/// Whether a client of the proxy's own port, whose first byte is there, begins with TLS. Not again inside of that.
pub(super) fn is_tls(client: &Client, stream: &Stream) -> bool {
    client.facts.proxy_tls.is_none() && stream.reader.buffer().first() == Some(&HANDSHAKE_RECORD)
}

/// Whether a client whose first bytes are there begins with HTTP/2's preface (RFC 9113 §3.4), which then stays in the
/// reader's buffer. Waits as long as the bytes can still become one; what else they are is for whoever reads on.
pub(super) async fn is_http2(client: &mut Client, stream: &mut Stream) -> bool {
    let limit = client.shared.limits.head_timeout;
    let stop = client.entry.token();
    loop {
        let seen = stream.reader.buffer();
        if seen.starts_with(PREFACE) {
            return true;
        }
        if !PREFACE.starts_with(seen) {
            return false;
        }
        tokio::select! {
            biased;
            filled = client.ticker.within(limit, stream.reader.fill()) => match filled {
                Ok(Ok(1..)) => {}
                // It ends or breaks here, and does so again where a request is read.
                Ok(Ok(0) | Err(_)) | Err(_) => return false,
            },
            () = stop.cancelled() => return false,
        }
    }
}

/// HTTP/1 is known by its method where that is a common one, else by the version at the end of its first line.
fn judge_http(rest: &[u8], skip: usize) -> Judged {
    const COMMON: [&[u8]; 9] =
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];
    if COMMON.iter().any(|method| rest.starts_with(method)) {
        return Judged::Http { skip };
    }
    let line_end = rest.iter().position(|&b| b == b'\n');
    let line = &rest[..line_end.unwrap_or(rest.len())];
    let method_len = line.iter().take_while(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')).count();
    let starts_well = (1..=32).contains(&method_len) && matches!(line.get(method_len), None | Some(b' '));
    if !starts_well || rest.len() > MAX_FIRST_LINE || line.iter().any(|&b| b < 0x20 && b != b'\r') {
        return Judged::Opaque("unknown protocol");
    }
    match line_end {
        None => Judged::More { in_hello: false },
        Some(_) if line.ends_with(b" HTTP/1.1\r") || line.ends_with(b" HTTP/1.0\r") => Judged::Http { skip },
        Some(_) => Judged::Opaque("unknown protocol"),
    }
}

/// How long the first line of an uncommon method may be before it is taken for something else.
const MAX_FIRST_LINE: usize = 8 * 1024;
/// How long what has begun like a request line is waited for.
const FIRST_LINE_TIME: Duration = Duration::from_secs(2);
/// The first byte of TLS (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_judged() {
        assert_eq!(judge(b""), Judged::More { in_hello: false });
        assert_eq!(judge(b"\r"), Judged::More { in_hello: false });
        assert_eq!(judge(b"\r\n"), Judged::More { in_hello: false });
        assert_eq!(judge(b"\r\nGET /"), Judged::Http { skip: 2 });
        assert_eq!(judge(b"PROPFIND / HT"), Judged::More { in_hello: false });
        assert_eq!(judge(b"PROPFIND / HTTP/1.1\r\n"), Judged::Http { skip: 0 });
        assert_eq!(judge(b"this is not http\r\n"), Judged::Opaque("unknown protocol"));
        assert_eq!(judge(b"EHLO me\r\n"), Judged::Opaque("unknown protocol"));
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Judged::Http2);
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n"), Judged::More { in_hello: false });
        assert_eq!(judge(b"PRI * HTTP/2.0\r\nx"), Judged::Opaque("unknown protocol"));
        assert_eq!(judge(b"\x16\x03\x01"), Judged::More { in_hello: true });
        assert_eq!(judge(b"SSH-2.0-x\r\n"), Judged::Opaque("unknown protocol"));
    }
}
