//! Failed handshakes in words that a person can act on: whose fault, what was presented, what the date was.
//!
//! Texts out of certificates are written by whoever runs the origin. They are escaped and cut here, once, so that they
//! may be shown anywhere.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::crypto::{self, DAY};

/// How [`explain_upstream`] begins where it is the certificate that is wrong.
pub const CERTIFICATE_REFUSED: &str = "the server's certificate was refused";

/// A TLS failure in words, with nothing known about the peer.
#[must_use]
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => format!("certificate refused: {}", certificate(error, &[])),
        Error::AlertReceived(alert) => format!("the peer ended the handshake ({})", alert_name(*alert)),
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::NoApplicationProtocol => "no application protocol in common (ALPN)".into(),
        Error::NoCertificatesPresented => "the peer presented no certificate".into(),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the peer does not speak TLS".into(),
        Error::InvalidMessage(InvalidMessage::InvalidServerName) => {
            "the name in the SNI is not a host name".into()
        }
        Error::DecryptError => "a TLS record could not be decrypted".into(),
        other => format!("TLS error: {}", readable(&other.to_string())),
    }
}

/// Why a handshake with an origin failed, or its TLS afterwards. `presented` is its chain, as far as it came.
#[must_use]
pub fn explain_upstream(error: &io::Error, presented: &[Bytes]) -> String {
    match tls_error(error) {
        Some(Error::InvalidCertificate(error)) => {
            format!("{CERTIFICATE_REFUSED}: {}", certificate(error, presented))
        }
        Some(Error::AlertReceived(alert)) => {
            let meaning = match alert {
                AlertDescription::ProtocolVersion => "; it speaks none of TLS 1.2 and 1.3",
                AlertDescription::HandshakeFailure => {
                    "; it has no cipher in common with us, or wants a client certificate"
                }
                AlertDescription::UnrecognisedName => "; it does not know this host name",
                AlertDescription::CertificateRequired => "; it wants a client certificate",
                AlertDescription::NoApplicationProtocol => "; it speaks none of the offered protocols",
                _ => "",
            };
            format!("the server ended the handshake ({}){meaning}", alert_name(*alert))
        }
        Some(Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )) => "the server does not speak TLS on this port".into(),
        Some(Error::PeerIncompatible(reason)) => {
            format!("the server cannot be spoken to: {}", incompatible(reason))
        }
        Some(other) => explain(other),
        None => format!("the server {}", dropped(error)),
    }
}

/// Why a handshake with a client failed, or its TLS right afterwards: with TLS 1.3, a client refuses our certificate
/// after we are done.
#[must_use]
pub fn explain_client(error: &io::Error) -> String {
    match tls_error(error) {
        Some(Error::AlertReceived(alert)) if refuses_certificate(*alert) => {
            format!("client refused our certificate ({})", alert_name(*alert))
        }
        Some(Error::AlertReceived(alert)) => format!("client ended the handshake ({})", alert_name(*alert)),
        Some(Error::PeerIncompatible(reason)) => {
            format!("client cannot be spoken to: {}", incompatible(reason))
        }
        Some(Error::NoApplicationProtocol) => "client offers no protocol that we agreed to (ALPN)".into(),
        Some(other) => explain(other),
        // GnuTLS, and so git and wget on Debian, closes without an alert when it does not trust a certificate.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "client closed the connection during the handshake; perhaps it does not trust our CA".into()
        }
        None => format!("client {}", dropped(error)),
    }
}

/// What the certificate that a server presented says of itself: its issuer, and the names that it is for. `None` if it cannot be
/// read, or there is none.
#[must_use]
pub fn presented(chain: &[Bytes]) -> Option<(String, String)> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let found = alternative.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let found: Vec<String> = found
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
            }
            _ => None,
        })
        .collect();
    Some((name(&leaf.issuer().to_string()), names(&found)))
}

/// Whether a client that had our certificate ended the handshake, or its TLS right afterwards, as one does that does not
/// accept it: with an alert that says so, or without a word.
#[must_use]
pub fn is_rejection(error: &io::Error) -> bool {
    match tls_error(error) {
        Some(Error::AlertReceived(alert)) => refuses_certificate(*alert),
        Some(_) => false,
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
    }
}

/// An alert in the spelling of the standards: `unknown_ca` (RFC 8446 §6).
pub(super) fn alert_name(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    // rustls spells them in camel case; two have a run of capitals, and one a letter of its own country.
    match alert {
        AlertDescription::UnknownCA => return "unknown_ca".into(),
        AlertDescription::UnknownPSKIdentity => return "unknown_psk_identity".into(),
        AlertDescription::UnrecognisedName => return "unrecognized_name".into(),
        AlertDescription::EncryptedClientHelloRequired => return "ech_required".into(),
        AlertDescription::Unknown(number) => return format!("alert {number}"),
        _ => {}
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn refuses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::NoCertificate
            | AlertDescription::AccessDenied
    )
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn dropped(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "closed the connection during the handshake".into()
        }
        io::ErrorKind::ConnectionReset => "reset the connection during the handshake".into(),
        _ => format!("connection failed during the handshake: {error}"),
    }
}

fn incompatible(reason: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match reason {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired => "it speaks none of TLS 1.2 and 1.3".into(),
        P::NoCipherSuitesInCommon => "no cipher suite in common".into(),
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired => "no key exchange group in common".into(),
        P::NoSignatureSchemesInCommon | P::SignatureAlgorithmsExtensionRequired => {
            "no signature scheme in common (it may not support ECDSA)".into()
        }
        other => format!("incompatible TLS: {other:?}"),
    }
}

fn certificate(error: &CertificateError, presented: &[Bytes]) -> String {
    let leaf = presented.first().and_then(|der| X509Certificate::from_der(der).ok()).map(|(_, cert)| cert);
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired on {}", date_and_distance(*not_after, *time, "ago"))
        }
        CertificateError::Expired => "expired".into(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("not valid before {}", date_and_distance(*not_before, *time, "from now"))
        }
        CertificateError::NotValidYet => "not valid yet".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is not for {}, but for {}", readable(&expected.to_str()), names(presented))
        }
        CertificateError::NotValidForName => "it is for another name".into(),
        CertificateError::UnknownIssuer => match &leaf {
            Some(leaf) if leaf.issuer().as_raw() == leaf.subject().as_raw() => self_signed(leaf),
            Some(leaf) => {
                let last = presented.last().and_then(|der| X509Certificate::from_der(der).ok());
                let missing =
                    last.map_or_else(|| leaf.issuer().to_string(), |(_, last)| last.issuer().to_string());
                format!("its issuer is not trusted: {}", name(&missing))
            }
            None => "its issuer is not trusted".into(),
        },
        CertificateError::Revoked => "it has been revoked".into(),
        CertificateError::BadSignature => {
            "a signature is wrong: by its issuer in the chain, or in the handshake, where it proves the key"
                .into()
        }
        CertificateError::BadEncoding => "it is not well-formed".into(),
        CertificateError::UnhandledCriticalExtension => {
            "it has a critical extension that is not understood".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for servers (extended key usage)".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its key or signature is of a kind that is not accepted (such as SHA-1, or RSA below 2048 bits)"
                .into()
        }
        CertificateError::Other(other) => match (other.to_string().as_str(), &leaf) {
            ("CaUsedAsEndEntity", Some(leaf)) if leaf.issuer().as_raw() == leaf.subject().as_raw() => {
                self_signed(leaf)
            }
            ("CaUsedAsEndEntity", _) => "it is a CA's certificate, not a server's".into(),
            ("EndEntityUsedAsCa", _) => "a certificate in its chain is not a CA's".into(),
            ("NameConstraintViolation", _) => {
                "its issuer may not sign for this name (name constraints)".into()
            }
            ("PathLenConstraintViolated", _) => "its chain is longer than its issuer allows".into(),
            ("UnsupportedCertVersion", _) => "it is of a version before 3, without alternative names".into(),
            (text, _) => readable(text),
        },
        other => readable(&other.to_string()),
    }
}

fn self_signed(cert: &X509Certificate<'_>) -> String {
    format!("it is self-signed by {}", name(&cert.subject().to_string()))
}

fn name(text: &str) -> String {
    if text.is_empty() { "a CA without a name".into() } else { readable(text) }
}

/// The names of a certificate, as rustls presents them: `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    if presented.is_empty() {
        return "no name (it has no subject alternative name)".into();
    }
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        readable(inner.trim_matches('"'))
    };
    let shown: Vec<String> = presented.iter().take(SHOWN).map(bare).collect();
    let more = presented.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn date_and_distance(moment: UnixTime, now: UnixTime, direction: &str) -> String {
    let unix = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let days = unix(moment).abs_diff(unix(now)) / DAY.unsigned_abs();
    let distance = match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    format!("{} ({distance} {direction})", crypto::date(unix(moment)))
}

/// A text out of a certificate made fit to be shown: controls and marks that turn the writing direction as escapes,
/// no longer than a line or two.
pub(super) fn readable(text: &str) -> String {
    const LIMIT: usize = 200;
    let mut out = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == LIMIT {
            out.push('…');
            break;
        }
        match letter {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                out.extend(letter.escape_unicode());
            }
            control if control.is_control() => out.extend(control.escape_default()),
            plain => out.push(plain),
        }
    }
    out
}
