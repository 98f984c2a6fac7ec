//! Chromium and what is built on it: all by arguments.
//!
//! It looks neither at the system's roots nor at variables. Trust in one key of ours, for this process alone, is what
//! `--ignore-certificate-errors-spki-list` gives: what that key has signed is accepted, everything else is verified as ever. It
//! needs no tools of NSS, and a `--user-data-dir` beside it, or it is ignored.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use super::super::files::Authority;

/// The arguments for a profile in `dir`, unless `given` names another.
pub(super) fn args(given: &[OsString], dir: &Path, proxy: SocketAddr, ca: &Authority) -> Vec<OsString> {
    let mut args: Vec<OsString> = ALWAYS.iter().map(OsString::from).collect();
    let names_dir = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"--user-data-dir");
    if !given.iter().any(names_dir) {
        let mut arg = OsString::from("--user-data-dir=");
        arg.push(dir);
        args.push(arg);
    }
    args.push(format!("--proxy-server=http://{proxy}").into());
    args.push(format!("--ignore-certificate-errors-spki-list={}", ca.spki_sha256_base64).into());
    args
}

/// Loopback goes through the proxy too; nothing goes past it (QUIC); few requests that no page made, of which those for
/// updates, reports and lists were seen without these (Chromium 156).
const ALWAYS: &[&str] = &[
    "--proxy-bypass-list=<-loopback>",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--no-pings",
    "--metrics-recording-only",
    "--check-for-update-interval=31536000",
    "--component-updater=url-source=http://disabled.localhost:0",
    "--gaia-url=http://disabled.localhost:0",
    "--disable-features=OptimizationHints,OptimizationGuideModelDownloading,MediaRouter,DialMediaRouteProvider,\
     CertificateTransparencyComponentUpdater,AutofillServerCommunication,Translate,ChromeWhatsNewUI,\
     NetworkTimeServiceQuerying",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::files::tests::authority;

    #[test]
    fn a_profile_that_is_named_stays() {
        let args = |given: &[&str]| {
            let given: Vec<OsString> = given.iter().map(OsString::from).collect();
            args(&given, Path::new("/tmp/p"), "[::1]:4000".parse().expect("an address"), &authority())
        };
        let has = |args: &[OsString], arg: &str| args.iter().any(|have| have == arg);
        let ours = args(&["https://a.test/"]);
        assert!(has(&ours, "--user-data-dir=/tmp/p") && has(&ours, "--proxy-server=http://[::1]:4000"));
        assert!(has(&ours, "--ignore-certificate-errors-spki-list=SPKI="));
        assert!(!has(&args(&["--user-data-dir=/mine"]), "--user-data-dir=/tmp/p"));
    }
}
