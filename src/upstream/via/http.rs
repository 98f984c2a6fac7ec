//! HTTP proxies: a tunnel by `CONNECT`, and requests with whole URLs.

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{TunnelError, UpstreamProxy};
use crate::flow::{Response, Scheme, Target};
use crate::http1::{HeadLimits, Parsed, find_head_end, parse_response};

/// The request-target for a proxy that forwards (RFC 9112 §3.2.2): `authority` as the client spelled it, and what an
/// origin would have been sent. The `*` of `OPTIONS` is an empty path there (RFC 9112 §3.2.4).
#[must_use]
pub fn absolute_form(authority: &[u8], origin_form: &[u8]) -> Vec<u8> {
    let path = if origin_form == b"*" { &b""[..] } else { origin_form };
    [b"http://", authority, path].concat()
}

/// Asks for a tunnel with `CONNECT` (RFC 9110 §9.3.6), and gives what was read after the answer's head.
pub(super) async fn connect<S>(
    stream: &mut S,
    proxy: &UpstreamProxy,
    host: &str,
    port: u16,
) -> Result<BytesMut, TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = Target { scheme: Scheme::Tcp, host: host.to_owned(), port }.host_port();
    let mut out = BytesMut::new();
    out.put_slice(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").as_bytes());
    if let Some(authorization) = proxy.authorization() {
        out.put_slice(b"Proxy-Authorization: ");
        out.put_slice(authorization);
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
    stream.write_all(&out).await?;
    stream.flush().await?;
    let mut buf = BytesMut::new();
    for _ in 0..MAX_HEADS {
        let response = read_head(stream, &mut buf).await?;
        match response.status {
            // Whatever its fields say, an answer of this kind has no body (RFC 9110 §9.3.6).
            200..=299 => return Ok(buf),
            100..=199 if response.status != 101 => {}
            407 => return Err(TunnelError::Credentials(wants_credentials(&response, proxy))),
            _ => return Err(TunnelError::Refused { target, answer: status(&response) }),
        }
    }
    Err(TunnelError::Protocol { protocol: "HTTP", what: "no end of 1xx responses".into() })
}

async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    buf: &mut BytesMut,
) -> Result<Response, TunnelError> {
    let limits = HeadLimits { max_bytes: MAX_HEAD, ..HeadLimits::default() };
    let protocol = |what: String| TunnelError::Protocol { protocol: "HTTP", what };
    let mut scanned = 0;
    let end = loop {
        // One that speaks something else may never send a line's end.
        let like_http = b"HTTP/1.";
        let seen = buf.len().min(like_http.len());
        if buf[..seen] != like_http[..seen] {
            return Err(protocol("its answer begins with something else".into()));
        }
        if let Some(end) = find_head_end(buf, scanned) {
            break end;
        }
        if buf.len() >= MAX_HEAD {
            return Err(protocol(format!("its answer has a head of more than {MAX_HEAD} bytes")));
        }
        scanned = buf.len();
        if stream.read_buf(buf).await? == 0 {
            return Err(TunnelError::Closed);
        }
    };
    match parse_response(&buf.split_to(end), &limits) {
        Ok(Parsed::Head(response, _)) => Ok(response),
        Ok(Parsed::Incomplete) => Err(protocol("its answer's head has no end".into())),
        Err(error) => Err(protocol(error.to_string())),
    }
}

/// What a proxy's 407 comes to, as it reads after "upstream proxy URL ".
pub(super) fn wants_credentials(response: &Response, proxy: &UpstreamProxy) -> String {
    let challenges: Vec<String> = response
        .headers
        .get_all("proxy-authenticate")
        .map(|value| {
            let scheme = value.split(|byte| matches!(byte, b' ' | b',')).next().unwrap_or_default();
            String::from_utf8_lossy(scheme).chars().take(32).collect()
        })
        .collect();
    let takes_basic = challenges.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    let status = status(response);
    match (proxy.authorization(), takes_basic || challenges.is_empty()) {
        (_, false) => format!("wants {} credentials, we have Basic alone: {status}", challenges.join(" or ")),
        (Some(_), true) => format!("does not take the credentials that it was given: {status}"),
        (None, true) => format!("wants credentials: {status} (give them as user:pass@ in its URL)"),
    }
}

/// Status and reason, clipped: a proxy's text goes into messages.
fn status(response: &Response) -> String {
    let reason: String = String::from_utf8_lossy(&response.reason).chars().take(80).collect();
    format!("{} {reason}", response.status).trim_end().to_owned()
}

/// An answer to `CONNECT` is a few lines; error pages come after the head.
const MAX_HEAD: usize = 64 * 1024;
/// Answers to one `CONNECT`, all but the last 1xx.
const MAX_HEADS: usize = 16;
