//! A PKCS#12 file (RFC 7292) that holds one certificate to be trusted, and no key.
//!
//! The certificate is not encrypted: it is no secret, Java then needs no password to read it, and the ciphers that every
//! importer knows are broken ones. The password makes the sum that stands at the file's end. That is SHA-1, because
//! Windows before 10 1709 and older Androids know no other, and what it guards is in the open anyway.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use ring::hmac;

use super::crypto;
use super::pem::tlv;

/// The file's bytes. `name` is shown for the certificate, and is its alias in Java.
pub(super) fn trust_store(cert: &[u8], name: &str, password: &str) -> Vec<u8> {
    let safe_contents = sequence(&[cert_bag(cert, name)]);
    let authenticated_safe = sequence(&[content_info(&safe_contents)]);
    // The same certificate always makes the same file: nothing is gained by other salt, where all is in the open.
    let salt: Vec<u8> = crypto::sha256(cert)[..SALT].to_vec();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac_key(password, &salt));
    let sum = hmac::sign(&key, &authenticated_safe);
    let digest_info = sequence(&[sequence(&[SHA1.to_vec(), NULL.to_vec()]), tlv(OCTETS, sum.as_ref())]);
    let mac_data = sequence(&[digest_info, tlv(OCTETS, &salt), integer(ROUNDS)]);
    sequence(&[integer(3), content_info(&authenticated_safe), mac_data])
}

/// `SafeBag` of a certificate (§4.2.3), with its name and, for Java, the purposes for which it is trusted: all. Java takes
/// no certificate without a key for a trusted one that lacks this attribute of Oracle's.
fn cert_bag(cert: &[u8], name: &str) -> Vec<u8> {
    let value = sequence(&[X509_CERTIFICATE.to_vec(), tlv(EXPLICIT_0, &tlv(OCTETS, cert))]);
    let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attribute = |id: &[u8], value: &[u8]| sequence(&[id.to_vec(), tlv(SET, value)]);
    let attributes = [
        attribute(FRIENDLY_NAME, &tlv(BMP_STRING, &utf16)),
        attribute(TRUSTED_KEY_USAGE, ANY_EXTENDED_KEY_USAGE),
    ];
    sequence(&[CERT_BAG.to_vec(), tlv(EXPLICIT_0, &value), tlv(SET, &attributes.concat())])
}

/// `ContentInfo` of plain data (RFC 2315 §14).
fn content_info(data: &[u8]) -> Vec<u8> {
    sequence(&[DATA.to_vec(), tlv(EXPLICIT_0, &tlv(OCTETS, data))])
}

/// The key of the sum: RFC 7292 §B.2 with SHA-1, whose 20 bytes are all that is needed.
fn mac_key(password: &str, salt: &[u8]) -> Vec<u8> {
    // With the zero at its end, as §B.1 has it.
    let password: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let filled = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().copied().cycle().take(bytes.len().div_ceil(BLOCK) * BLOCK).collect()
    };
    let mut key = [&[PURPOSE_MAC; BLOCK][..], &filled(salt), &filled(&password)].concat();
    for _ in 0..ROUNDS {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(&key);
        key = context.finish().as_ref().to_vec();
    }
    key
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A number up to 32767.
fn integer(value: u16) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    // The shortest form whose highest bit is clear (X.690 §8.3).
    let from = usize::from(bytes[0] == 0 && bytes[1] < 0x80);
    tlv(0x02, &bytes[from..])
}

/// What OpenSSL takes.
const ROUNDS: u16 = 2048;
/// Bytes; as long as OpenSSL's.
const SALT: usize = 8;
/// SHA-1's block, bytes (§B.2: v).
const BLOCK: usize = 64;
/// The ID byte of a key for a sum (§B.3).
const PURPOSE_MAC: u8 = 3;

const OCTETS: u8 = 0x04;
const BMP_STRING: u8 = 0x1e;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const NULL: &[u8] = &[0x05, 0x00];

/// 1.2.840.113549.1.7.1, data.
const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3, certBag.
const CERT_BAG: &[u8] = &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1, x509Certificate.
const X509_CERTIFICATE: &[u8] = &[0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20, friendlyName.
const FRIENDLY_NAME: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1, Oracle's trustedKeyUsage.
const TRUSTED_KEY_USAGE: &[u8] =
    &[0x06, 0x0c, 0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0, anyExtendedKeyUsage.
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x06, 0x04, 0x55, 0x1d, 0x25, 0x00];
/// 1.3.14.3.2.26, SHA-1.
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether others read the file is tested with OpenSSL and keytool, in tests/clients.
    #[test]
    fn the_file_holds_the_certificate_and_its_lengths_add_up() {
        for len in [0, 1, 500, 70_000] {
            let cert = vec![7; len];
            let file = trust_store(&cert, "näme", "changeit");
            let (rest, _) = x509_parser::der_parser::parse_der(&file).expect("DER");
            assert!(rest.is_empty());
            assert!(len == 0 || file.windows(len).any(|window| window == cert));
        }
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!(integer(3), [2, 1, 3]);
        assert_eq!(integer(127), [2, 1, 127]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(integer(2048), [2, 2, 8, 0]);
    }
}
