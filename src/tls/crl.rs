//! The list of what the authority has revoked, which is nothing: for clients that insist on one.
//!
//! Schannel, and with it curl and .NET on Windows, refuses a certificate whose revocation it cannot check. So a leaf names a
//! list on its own host (RFC 5280 §4.2.1.13), under a path that tells by the authority's key that it is ours; whoever comes
//! for it through the proxy gets it from the proxy, and the origin is never asked.

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, KeyIdMethod, SerialNumber,
};
use rustls::pki_types::ServerName;

use super::Ca;
use super::crypto::{self, DAY};

impl Ca {
    /// The path under which its leaves name the list.
    #[must_use]
    pub fn crl_path(&self) -> String {
        let key: String = self.spki_sha256().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("/manent-{key}.crl")
    }

    /// The list, DER, good for a week from an hour ago (RFC 5280 §5). `None` if the authority may not sign lists.
    #[must_use]
    pub fn crl(&self) -> Option<Vec<u8>> {
        let now = crypto::now_unix();
        // The type of a moment is rcgen's affair.
        let mut moments = CertificateParams::default();
        crypto::set_validity(&mut moments, now - HOUR, now + 7 * DAY);
        let params = CertificateRevocationListParams {
            this_update: moments.not_before,
            next_update: moments.not_after,
            // It has to rise (§5.2.3), and time does.
            crl_number: SerialNumber::from(now.unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: match self.key_id() {
                Some(id) => KeyIdMethod::PreSpecified(id),
                None => KeyIdMethod::Sha256,
            },
        };
        Some(params.signed_by(&self.issuer).ok()?.der().to_vec())
    }
}

/// Where a leaf for `name` says that the list is; nowhere, if there can be none.
pub(super) fn distribution_points(ca: &Ca, name: &ServerName<'_>) -> Vec<CrlDistributionPoint> {
    if !ca.signs_crls {
        return Vec::new();
    }
    let host = match name {
        ServerName::IpAddress(rustls::pki_types::IpAddr::V6(ip)) => {
            format!("[{}]", std::net::Ipv6Addr::from(*ip))
        }
        name => name.to_str().into_owned(),
    };
    vec![CrlDistributionPoint { uris: vec![format!("http://{host}{}", ca.crl_path())] }]
}

/// A client's clock may be behind.
const HOUR: i64 = 3600;
