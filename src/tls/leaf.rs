//! One leaf certificate: what it says and for how long.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, ServerName};

use super::crypto::{self, DAY};
use super::{Ca, NameError, crl};

/// Why there is no certificate for a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// No certificate can carry the name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The CA's time ended while we ran, or the clock was set.
    #[error("the CA is not valid now (until {0}); restart with a new one")]
    CaOutOfTime(String),
    /// Clients would refuse it.
    #[error("the CA may not sign for {host}, but for {permitted} (its name constraints)")]
    Outside {
        /// The name.
        host: String,
        /// What the CA may sign for, in words.
        permitted: String,
    },
    /// Signing failed.
    #[error("cannot sign a certificate: {0}")]
    Sign(String),
}

/// A signed leaf.
pub(super) struct Signed {
    pub(super) der: CertificateDer<'static>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Signs a certificate for `name` and the public half of `key`.
pub(super) fn sign(ca: &Ca, key: &KeyPair, name: &ServerName<'_>, now: i64) -> Result<Signed, LeafError> {
    let failed = |error: rcgen::Error| LeafError::Sign(error.to_string());
    // A leaf that outlives its CA, or begins before it, breaks the chain for some clients.
    let (not_before, not_after) = ((now - BACK_DATED).max(ca.not_before), (now + AHEAD).min(ca.not_after));
    if not_after <= now || not_before > now {
        return Err(LeafError::CaOutOfTime(crypto::date(ca.not_after)));
    }
    let mut params = CertificateParams::default();
    let common_name = name.to_str().into_owned();
    params.subject_alt_names = alternative_names(ca, name)?;
    params.distinguished_name = DistinguishedName::new();
    // ub-common-name of RFC 5280 is 64, and OpenSSL holds peers to it. Without one the subject is empty, and rcgen
    // marks the alternative name critical, as §4.1.2.6 asks. OpenSSL takes the common name of a certificate for an address
    // for a host name, and holds it to the constraints for those; an authority that has any signs without one.
    if common_name.len() <= 64 && !ca.is_constrained() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.crl_distribution_points = crl::distribution_points(ca, name);
    params.use_authority_key_identifier_extension = ca.has_key_id;
    let no_random = |_| LeafError::Sign("the system has no random numbers".into());
    params.serial_number = Some(crypto::random_serial().map_err(no_random)?);
    crypto::set_validity(&mut params, not_before, not_after);
    let cert = params.signed_by(key, &ca.issuer).map_err(failed)?;
    Ok(Signed { der: cert.into(), not_before, not_after })
}

/// The name as the certificate has it: an address as an address.
///
/// An underscore is not of the grammar of host names (RFC 5280 §4.2.1.6 by way of RFC 1034), and some clients will not
/// match it, so a wildcard of the parent stands beside it. Not in its place: OpenSSL's own matching, and so Python's,
/// lets a wildcard stand for letters, digits and hyphens only. And not right below a top-level domain, where no client
/// accepts one. And not outside of the authority's constraints, by which all of a certificate's names are judged.
fn alternative_names(ca: &Ca, name: &ServerName<'_>) -> Result<Vec<SanType>, LeafError> {
    let dns = |text: &str| -> Result<SanType, LeafError> {
        let text = text.try_into().map_err(|error: rcgen::Error| LeafError::Sign(error.to_string()))?;
        Ok(SanType::DnsName(text))
    };
    if let ServerName::IpAddress(ip) = name {
        return Ok(vec![SanType::IpAddress((*ip).into())]);
    }
    let text = name.to_str();
    let mut names = vec![dns(&text)?];
    if let Some((label, parent)) = text.split_once('.')
        && label.contains('_')
        && parent.contains('.')
        && ca.permits(parent)
    {
        names.push(dns(&format!("*.{parent}"))?);
    }
    Ok(names)
}

/// Clients whose clock is behind have to accept it, too.
const BACK_DATED: i64 = 2 * DAY;

/// With the back-dating 89 days: below every limit that clients have announced (47 days from 2029 is for public CAs).
const AHEAD: i64 = 87 * DAY;
