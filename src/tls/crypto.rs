//! The one cryptography provider, and the few things of it that the rest of TLS needs.

use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::{KeyLog, KeyLogFile};

/// ring, for every configuration. Always given explicitly: with two providers in one program, rustls' process-wide
/// default panics.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Where session secrets are written for Wireshark: nowhere, unless `SSLKEYLOGFILE` was set when TLS was first used.
/// `None` spares each handshake the call. The file is created readable by its owner only.
pub(super) fn key_log() -> Option<Arc<dyn KeyLog>> {
    static KEY_LOG: LazyLock<Option<Arc<dyn KeyLog>>> = LazyLock::new(|| {
        let path = std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty())?;
        tracing::warn!(path = %path.display(), "TLS session keys are written to SSLKEYLOGFILE");
        // rustls would make it readable by all, as far as the umask lets it, and tells of its own failure to open it.
        let _ = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        Some(Arc::new(KeyLogFile::new()))
    });
    KEY_LOG.as_ref().map(Arc::clone)
}

/// SHA-256.
pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut digest = [0; 32];
    if let Some(suite) = suite.tls13() {
        digest.copy_from_slice(suite.common.hash_provider.hash(data).as_ref());
    }
    digest
}

/// A certificate serial number: 16 bytes, 126 of the bits random, positive and never shorter (RFC 5280 §4.1.2.2).
///
/// Without one, rcgen derives it from the leaf's key, which all leaves of a run share; Firefox refuses the second
/// certificate of an issuer with the same serial (`SEC_ERROR_REUSED_ISSUER_AND_SERIAL`).
///
/// # Errors
/// When the system has no random numbers to give.
pub(super) fn random_serial() -> Result<rcgen::SerialNumber, rustls::crypto::GetRandomFailed> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(rcgen::SerialNumber::from_slice(&bytes))
}

/// Random bytes from the system.
///
/// # Errors
/// When it has none to give.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
    provider().secure_random.fill(bytes)
}

/// Seconds since 1970 by the system's clock; 0 if it stands before that.
pub(super) fn now_unix() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The UTC date of a moment, `2026-11-01`, for messages.
pub(super) fn date(unix: i64) -> String {
    let moment = jiff::Timestamp::from_second(unix).unwrap_or_default();
    moment.strftime("%Y-%m-%d").to_string()
}

/// Writes both ends of the validity into `params`. Moments before 1970 or after 9999 become those.
pub(super) fn set_validity(params: &mut rcgen::CertificateParams, not_before: i64, not_after: i64) {
    const YEAR_9999: i64 = 253_402_300_799;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |unix: i64| std::time::Duration::from_secs(unix.clamp(0, YEAR_9999).unsigned_abs());
    params.not_before = epoch + since(not_before);
    params.not_after = epoch + since(not_after);
}

/// A day in seconds.
pub(super) const DAY: i64 = 86_400;
