//! Certificates between DER and PEM (RFC 7468), in the lines that OpenSSL writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The certificate in PEM.
pub(super) fn encode(der: &[u8]) -> Bytes {
    let text = STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / LINE + BEGIN.len() + END.len() + 4);
    pem.push_str(BEGIN);
    pem.push('\n');
    for line in text.as_bytes().chunks(LINE) {
        // Base64 is ASCII.
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(END);
    pem.push('\n');
    Bytes::from(pem)
}

/// The first certificate of a PEM text, in DER. `None` if there is none; it may be damaged inside.
pub(super) fn decode(pem: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once(BEGIN)?;
    let (inside, _) = rest.split_once(END)?;
    let packed: String = inside.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok().map(Bytes::from)
}

/// Whether it is a certificate that can be read.
pub(super) fn is_certificate(pem: &[u8]) -> bool {
    decode(pem).is_some_and(|der| is_der_certificate(&der))
}

/// As [`is_certificate`], of DER.
pub(super) fn is_der_certificate(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(der: Vec<u8>) {
            let pem = encode(&der);
            prop_assert!(pem.split(|&b| b == b'\n').all(|line| line.len() <= LINE));
            prop_assert_eq!(decode(&pem).unwrap(), der);
        }

        #[test]
        fn any_text_is_one_or_not(text in "(-----BEGIN CERTIFICATE-----)?[A-Za-z0-9+/= \n]{0,80}(-----END CERTIFICATE-----)?") {
            let _ = is_certificate(text.as_bytes()); // only that it does not panic
        }
    }
}
