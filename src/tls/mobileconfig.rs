//! A configuration profile with our CA, for iPhones, iPads and Macs (Apple's "Configuration Profile Reference").
//!
//! It installs the certificate and nothing else. That the profile is there does not make the certificate trusted for TLS on
//! iOS: its owner says so in a second place (Certificate Trust Settings), as with any profile that nobody manages.

use super::Ca;
use super::pem::base64;

impl Ca {
    /// The profile: a property list in XML, not signed. The same CA gives the same bytes, and the same identifiers, so that a
    /// second installation takes the place of the first.
    #[must_use]
    pub fn mobileconfig(&self) -> String {
        let name = escaped(self.subject().strip_prefix("CN=").unwrap_or(self.subject()));
        let id: String = self.spki_sha256().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let cert = base64(self.cert_der());
        let (profile, payload) = (uuid(&self.spki_sha256(), 0), uuid(&self.spki_sha256(), 1));
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>manent-ca.crt</string>
			<key>PayloadContent</key>
			<data>{cert}</data>
			<key>PayloadDisplayName</key>
			<string>{name}</string>
			<key>PayloadIdentifier</key>
			<string>manent.{id}.ca</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>{payload}</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDescription</key>
	<string>The certificate of manent, an intercepting proxy. Whoever has its key can read what this device sends: remove this profile when you are done.</string>
	<key>PayloadDisplayName</key>
	<string>{name}</string>
	<key>PayloadIdentifier</key>
	<string>manent.{id}</string>
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
}

/// An identifier made of the key's sum: version 8, which is for such (RFC 9562 §5.8).
fn uuid(sum: &[u8; 32], which: u8) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sum[8..24]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes[15] ^= which;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// As text in XML. Control characters, which it cannot have, are escaped in a subject already.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::tls::crypto;

    #[test]
    fn the_profile_holds_the_certificate_and_keeps_its_identifiers() {
        let key = KeyPair::generate().unwrap();
        let der = crate::tls::ca::self_signed(&key, crypto::now_unix()).unwrap();
        let pem = crate::tls::pem::certificate(&der) + &key.serialize_pem();
        let ca = Ca::from_pem(pem.as_bytes()).unwrap();
        let profile = ca.mobileconfig();
        assert!(profile.contains(&format!("<data>{}</data>", base64(ca.cert_der()))));
        assert!(profile.contains("<string>manent CA ") && !profile.contains("PRIVATE"));
        assert_eq!(profile, ca.mobileconfig());
        let (one, other) = (uuid(&ca.spki_sha256(), 0), uuid(&ca.spki_sha256(), 1));
        assert!(one != other && one.len() == 36 && profile.contains(&one) && profile.contains(&other));
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
