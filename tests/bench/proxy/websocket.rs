//! As much of WebSocket (RFC 6455) as an echo needs: the accept key, and whole frames of less than 64 KiB.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::Wire;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// `Sec-WebSocket-Accept` for `key`, RFC 6455 §4.2.2.
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    BASE64_STANDARD.encode(digest)
}

/// Appends one frame: with `mask`, as a client sends it.
pub(crate) fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Result<()> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    let len = u16::try_from(payload.len())?;
    match u8::try_from(len) {
        Ok(short) if short < 126 => out.push(masked | short),
        _ => {
            out.push(masked | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    if mask.is_some() {
        out.extend_from_slice(&key);
    }
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    Ok(())
}

/// The next frame: opcode and unmasked payload.
///
/// # Errors
/// Also for a frame that is a fragment, or longer than 64 KiB: neither is ever sent.
pub(crate) async fn read<S>(wire: &mut Wire<S>) -> Result<(u8, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let [first, second] = wire.array().await?;
    ensure!(first & 0xf0 == 0x80, "a frame that begins with {first:#04x}");
    let len = match second & 0x7f {
        126 => u16::from_be_bytes(wire.array().await?),
        127 => anyhow::bail!("a frame longer than any that was sent"),
        short => u16::from(short),
    };
    let key: [u8; 4] = if second & 0x80 == 0 { [0; 4] } else { wire.array().await? };
    let mut payload = wire.exact(usize::from(len)).await?.to_vec();
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok((first & 0x0f, payload))
}
