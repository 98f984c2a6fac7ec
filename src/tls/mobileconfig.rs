//! A configuration profile of Apple's that holds the certificate as a root: what iOS, iPadOS and macOS install.
//!
//! The keys are those of "Device Management Profile", CertificateRoot, in Apple's developer documentation. A profile does
//! not make its root trusted for TLS on iOS: that is a switch under Settings, General, About, Certificate Trust Settings.

use std::fmt::Write as _;

use super::CaCert;
use super::crypto;
use super::pem;

/// The profile, XML. The same certificate always makes the same profile, so that installing it again replaces it.
pub(super) fn profile(cert: &CaCert) -> String {
    let fingerprint = cert.sha256();
    let short = fingerprint[..4].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    });
    let name = escaped(cert.name());
    let (root, profile) = (uuid(&fingerprint, b"root"), uuid(&fingerprint, b"profile"));
    let base64 = pem::base64(cert.der());
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>manent-ca.cer</string>
			<key>PayloadContent</key>
			<data>{base64}</data>
			<key>PayloadDescription</key>
			<string>Lets manent read the traffic of this device that is led through it</string>
			<key>PayloadDisplayName</key>
			<string>{name}</string>
			<key>PayloadIdentifier</key>
			<string>manent.ca.{short}.root</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>{root}</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDescription</key>
	<string>The certificate of an intercepting proxy. Remove this profile when you are done.</string>
	<key>PayloadDisplayName</key>
	<string>{name}</string>
	<key>PayloadIdentifier</key>
	<string>manent.ca.{short}</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>{profile}</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
"#
    )
}

/// A UUID made of a sum (RFC 9562 §5.8).
fn uuid(fingerprint: &[u8], what: &[u8]) -> String {
    let sum = crypto::sha256(&[fingerprint, what].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sum[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let dash = if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02X}"); // a String takes everything
    }
    text
}

/// As character data of XML. What XML has no place for does not come out of [`CaCert::name`].
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Ca;

    #[test]
    fn a_profile_is_of_its_certificate_alone() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let cert = |dir: &std::path::Path| {
            let ca = Ca::load_or_create(dir).expect("a CA");
            CaCert::of(ca.certificate().expect("readable").der().to_vec().into()).expect("readable")
        };
        let (first, second) = (cert(one.path()), cert(two.path()));
        assert_eq!(profile(&first), profile(&first));
        assert_ne!(profile(&first), profile(&second));
        assert!(profile(&first).contains(&pem::base64(first.der())));
        let uuid = uuid(&[1], b"root");
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    }

    #[test]
    fn names_cannot_end_their_element() {
        assert_eq!(escaped("</string>&"), "&lt;/string&gt;&amp;");
    }
}
