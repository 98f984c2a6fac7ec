//! SOCKS5 as its client: RFC 1928, with user and password of RFC 1929. Names go to the proxy as they are.
//!
//! Every message says its length before its end, so nothing is read beyond the last of them.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{TunnelError, UpstreamProxy};
use crate::flow::{Scheme, Target};

/// Has the proxy connect to `host`, a name or an IP literal without brackets.
pub(super) async fn connect<S>(
    stream: &mut S,
    proxy: &UpstreamProxy,
    host: &str,
    port: u16,
) -> Result<(), TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(host, port)?;
    let credentials = proxy.user_and_password();
    let offers: &[u8] = if credentials.is_some() { &[NO_AUTH, USER_PASSWORD] } else { &[NO_AUTH] };
    let count = u8::try_from(offers.len()).unwrap_or_default();
    send(stream, &[&[VERSION, count], offers].concat()).await?;
    match (read::<2, _>(stream).await?, credentials) {
        ([VERSION, NO_AUTH], _) => {}
        ([VERSION, USER_PASSWORD], Some((user, password))) => {
            let length = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX);
            let message = [&[SUBNEGOTIATION, length(user)], user, &[length(password)], password].concat();
            send(stream, &message).await?;
            let [_, status] = read::<2, _>(stream).await?;
            if status != 0 {
                let message = "does not take the credentials that it was given";
                return Err(TunnelError::Credentials(message.into()));
            }
        }
        ([VERSION, _], Some(_)) => {
            let message = "takes neither no credentials nor user and password";
            return Err(TunnelError::Credentials(message.into()));
        }
        ([VERSION, _], None) => {
            let message = "wants credentials (give them as user:pass@ in its URL)";
            return Err(TunnelError::Credentials(message.into()));
        }
        ([b'H', b'T'], _) => return Err(protocol("it speaks HTTP, perhaps (http:// in its URL)")),
        ([other, _], _) => return Err(protocol(&format!("its answer begins with the byte {other:#04x}"))),
    }
    send(stream, &request).await?;
    let [version, reply, _, kind] = read::<4, _>(stream).await?;
    if version != VERSION {
        return Err(protocol(&format!("its reply begins with the byte {version:#04x}")));
    }
    if reply != 0 {
        let target = Target { scheme: Scheme::Tcp, host: host.to_owned(), port }.host_port();
        return Err(TunnelError::Refused { target, answer: explain(reply) });
    }
    // The address from which it connected, which is of no use to us.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(read::<1, _>(stream).await?[0]),
        other => return Err(protocol(&format!("its reply has an address of kind {other}"))),
    };
    let mut rest = [0; 255 + 2];
    stream.read_exact(&mut rest[..length + 2]).await?;
    Ok(())
}

/// The request to connect (RFC 1928 §4).
fn request(host: &str, port: u16) -> Result<Vec<u8>, TunnelError> {
    let mut out = vec![VERSION, CONNECT, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            out.push(IPV4);
            out.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            out.push(IPV6);
            out.extend(ip.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len())
                .map_err(|_| TunnelError::NameTooLong(host.chars().take(80).collect()))?;
            out.extend([NAME, length]);
            out.extend(host.as_bytes());
        }
    }
    out.extend(port.to_be_bytes());
    Ok(out)
}

/// The codes of RFC 1928 §6.
fn explain(reply: u8) -> String {
    let words = match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "unknown reply",
    };
    format!("{words} (SOCKS5 reply {reply})")
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), TunnelError> {
    stream.write_all(bytes).await?;
    Ok(stream.flush().await?)
}

async fn read<const LEN: usize, S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; LEN], TunnelError> {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn protocol(what: &str) -> TunnelError {
    TunnelError::Protocol { protocol: "SOCKS5", what: what.to_owned() }
}

const VERSION: u8 = 5;
/// Of the exchange of RFC 1929.
const SUBNEGOTIATION: u8 = 1;
const NO_AUTH: u8 = 0;
const USER_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
