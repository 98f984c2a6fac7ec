//! PEM in and out, and the two older private-key forms put into PKCS#8, the only one that ring takes from rcgen.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

/// What a PEM text holds that we can use.
#[derive(Default)]
pub(super) struct Blocks {
    /// Certificates, DER, in their order.
    pub(super) certs: Vec<Vec<u8>>,
    /// Private keys: each as the PKCS#8 forms it may be, to be tried in turn.
    pub(super) keys: Vec<Vec<PrivatePkcs8KeyDer<'static>>>,
    /// Whether there is a key under a passphrase.
    pub(super) encrypted_key: bool,
}

/// Why a file holds nothing that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemFileError {
    /// It could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// It is not PEM.
    #[error("{path} is not valid PEM: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// It is PEM, or anything else, without a certificate.
    #[error("{path} holds no certificate (a block CERTIFICATE in PEM)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that has to hold a certificate, one at least.
///
/// # Errors
/// See [`PemFileError`].
pub(super) fn read_file(path: &Path) -> Result<Blocks, PemFileError> {
    let failed = |source| PemFileError::Read { path: path.into(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("it has more than 16 MiB")));
    }
    blocks(&text, path)
}

/// The certificates of a PEM file, DER, in their order: such as a bundle of roots.
///
/// # Errors
/// When it cannot be read, is not PEM, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, PemFileError> {
    Ok(read_file(path)?.certs)
}

/// The certificates that stand in a text as PEM, DER; none, where it is not well-formed.
#[must_use]
pub fn certificates_in(text: &[u8]) -> Vec<Vec<u8>> {
    read(text).map(|blocks| blocks.certs).unwrap_or_default()
}

/// The blocks of `text`, which came from `path`.
pub(super) fn blocks(text: &[u8], path: &Path) -> Result<Blocks, PemFileError> {
    let blocks = read(text).map_err(|reason| PemFileError::Pem { path: path.into(), reason })?;
    if blocks.certs.is_empty() {
        return Err(PemFileError::NoCertificate { path: path.into() });
    }
    Ok(blocks)
}

/// Reads all blocks, in any order; kinds that are no use to us are passed over.
///
/// # Errors
/// When a block is not well-formed; the text says how. It never quotes the input.
pub(super) fn read(text: &[u8]) -> Result<Blocks, String> {
    let mut blocks = Blocks::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| match error {
            rustls_pki_types::pem::Error::MissingSectionEnd { .. } => "a block has no END line".to_owned(),
            rustls_pki_types::pem::Error::Base64Decode(_) => "a block is not base64".to_owned(),
            _ => "a line is not PEM".to_owned(),
        })?;
        match kind {
            SectionKind::Certificate => blocks.certs.push(der),
            SectionKind::PrivateKey => blocks.keys.push(vec![der.into()]),
            SectionKind::RsaPrivateKey => blocks.keys.push(vec![wrap(RSA, &der)]),
            SectionKind::EcPrivateKey => blocks.keys.push(vec![wrap(P256, &der), wrap(P384, &der)]),
            _ => {}
        }
    }
    let has = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    blocks.encrypted_key = has(b"ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED");
    Ok(blocks)
}

/// One certificate as PEM, with a line feed at its end.
#[must_use]
pub fn certificate(der: &[u8]) -> String {
    let base64 = base64(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Base64 with padding (RFC 4648 §4).
pub(super) fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for three in data.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= three.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

/// A PKCS#1 or SEC 1 key as PKCS#8 (RFC 5208 §5): version 0, the algorithm, the key as octets.
fn wrap(algorithm: &[u8], key: &[u8]) -> PrivatePkcs8KeyDer<'static> {
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend_from_slice(algorithm);
    body.extend(tlv(0x04, key));
    tlv(0x30, &body).into()
}

/// Tag, length (X.690 §8.1.3), value.
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().position(|&byte| byte != 0).unwrap_or(length.len() - 1)..];
    match significant {
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

/// Sixty times the bundle of a whole system; `/dev/zero` has no end.
const MAX_FILE: u64 = 16 << 20;

/// `AlgorithmIdentifier` of rsaEncryption with NULL (RFC 8017 §A.1).
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// `AlgorithmIdentifier` of id-ecPublicKey on P-256 (RFC 5480 §2.1.1).
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];

/// The same on P-384.
const P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in known {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn lengths_as_in_x690() {
        assert_eq!(tlv(4, &[])[..], [4, 0]);
        assert_eq!(tlv(4, &[0; 127])[..2], [4, 0x7f]);
        assert_eq!(tlv(4, &[0; 128])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 0x01, 0x2c]);
    }

    #[test]
    fn a_certificate_comes_back_from_its_pem() {
        let der = vec![7; 100];
        assert_eq!(read(certificate(&der).as_bytes()).unwrap().certs, [der]);
    }
}
