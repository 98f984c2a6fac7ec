//! A Java trust store (JKS) with the given roots.
//!
//! JKS rather than PKCS#12, because every Java reads it whatever it calls its default, it needs no encryption, and
//! Java ignores certificates in a PKCS#12 file without an attribute of Oracle's. The layout is that of OpenJDK's
//! `sun.security.provider.JavaKeyStore`.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// A trust store with these certificates, each of them DER: the file's bytes. Its password is [`JKS_PASSWORD`].
#[must_use]
pub fn jks<'a>(certificates: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, MAGIC);
    put_u32(&mut out, VERSION);
    put_u32(&mut out, len_u32(certificates.len()));
    for (i, der) in certificates.enumerate() {
        put_u32(&mut out, TRUSTED_CERTIFICATE);
        put_text(&mut out, &format!("root{i}"));
        out.extend_from_slice(&[0; 8]); // made in 1970: nobody reads the time
        put_text(&mut out, "X.509");
        put_u32(&mut out, len_u32(der.len()));
        out.extend_from_slice(der);
    }
    let digest = checksum(&out);
    out.extend_from_slice(&digest);
    out
}

/// Not for secrecy: the password is known to all, and stands in for "this file is whole".
fn checksum(content: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in JKS_PASSWORD.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(b"Mighty Aphrodite");
    context.update(content);
    context.finish().as_ref().to_vec()
}

/// Java's `DataOutput.writeUTF`, for ASCII.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX); // our own texts are a few letters long
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A certificate and their number are far below 4 GiB.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What Java's own trust store has, and what programs try that are not told.
pub const JKS_PASSWORD: &str = "changeit";

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_as_java_reads_it() {
        let store = jks([&b"der"[..]].into_iter());
        let expected = b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x05root0\0\0\0\0\0\0\0\0\0\x05X.509\0\0\0\x03der";
        assert_eq!(store[..expected.len()], expected[..]);
        assert_eq!(store.len(), expected.len() + 20);
    }
}
