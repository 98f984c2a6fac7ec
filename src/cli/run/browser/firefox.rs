//! Firefox: a profile with the settings of a proxy, and a certificate database in which our CA is trusted.
//!
//! Firefox on Linux does not look at the system's roots, and its policies are files of root's; so the database is written as
//! NSS has it (`tls::write_cert_db`), without `certutil`, which few machines have.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::super::files::{Authority, create};
use crate::tls::write_cert_db;

/// Whether the user has chosen a profile.
pub(super) fn has_profile(args: &[OsString]) -> bool {
    let named = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        let name = arg.trim_start_matches('-');
        arg.starts_with('-')
            && (name == "P" || name.eq_ignore_ascii_case("profile") || name == "ProfileManager")
    };
    args.iter().any(named)
}

/// Makes the profile in `dir`, and gives the arguments that name it.
///
/// # Errors
/// If it cannot be written.
pub(super) fn make(dir: &Path, proxy: SocketAddr, ca: &Authority) -> io::Result<Vec<OsString>> {
    DirBuilder::new().mode(0o700).create(dir)?;
    create(&dir.join("user.js"), preferences(proxy).as_bytes())?;
    write_cert_db(&dir.join("cert9.db"), &ca.der, "manent").map_err(io::Error::other)?;
    Ok(vec!["--no-remote".into(), "--new-instance".into(), "--profile".into(), dir.into()])
}

fn preferences(proxy: SocketAddr) -> String {
    let (ip, port) = (proxy.ip(), proxy.port());
    let mut out = String::new();
    for scheme in ["http", "ssl"] {
        // Writing to a string does not fail.
        let _ = writeln!(out, "user_pref(\"network.proxy.{scheme}\", \"{ip}\");");
        let _ = writeln!(out, "user_pref(\"network.proxy.{scheme}_port\", {port});");
    }
    for (name, value) in PREFERENCES {
        let _ = writeln!(out, "user_pref(\"{name}\", {value});");
    }
    out
}

/// Loopback goes through the proxy too, nothing goes past it (HTTP/3, a failing proxy), and few requests are made that no
/// page made. Fetches of Mozilla's remote settings cannot be switched off in a release.
const PREFERENCES: &[(&str, &str)] = &[
    ("network.proxy.type", "1"),
    ("network.proxy.no_proxies_on", "\"\""),
    ("network.proxy.allow_hijacking_localhost", "true"),
    ("network.proxy.failover_direct", "false"),
    ("network.http.http3.enable", "false"),
    ("network.trr.mode", "5"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("network.http.speculative-parallel-limit", "0"),
    ("app.normandy.enabled", "false"),
    ("app.update.enabled", "false"),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.discovery.enabled", "false"),
    ("browser.newtabpage.enabled", "false"),
    ("browser.newtabpage.activity-stream.feeds.asrouterfeed", "false"),
    ("browser.newtabpage.activity-stream.feeds.topsites", "false"),
    ("browser.newtabpage.activity-stream.feeds.section.topstories", "false"),
    ("browser.newtabpage.activity-stream.feeds.system.topstories", "false"),
    ("browser.newtabpage.activity-stream.feeds.weatherfeed", "false"),
    ("browser.newtabpage.activity-stream.showSponsoredTopSites", "false"),
    ("browser.ping-centre.telemetry", "false"),
    ("browser.region.network.url", "\"\""),
    ("browser.region.update.enabled", "false"),
    ("browser.safebrowsing.blockedURIs.enabled", "false"),
    ("browser.safebrowsing.downloads.enabled", "false"),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("browser.safebrowsing.provider.google4.updateURL", "\"\""),
    ("browser.safebrowsing.provider.google5.updateURL", "\"\""),
    ("browser.safebrowsing.provider.mozilla.updateURL", "\"\""),
    ("browser.search.update", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.startup.homepage", "\"about:blank\""),
    ("browser.startup.homepage_override.mstone", "\"ignore\""),
    ("browser.topsites.contile.enabled", "false"),
    ("browser.urlbar.suggest.quicksuggest.sponsored", "false"),
    ("datareporting.healthreport.uploadEnabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("dom.push.connection.enabled", "false"),
    ("extensions.getAddons.cache.enabled", "false"),
    ("extensions.systemAddon.update.enabled", "false"),
    ("extensions.update.enabled", "false"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("messaging-system.rsexperimentloader.enabled", "false"),
    ("security.remote_settings.crlite_filters.enabled", "false"),
    ("security.remote_settings.intermediates.enabled", "false"),
    ("toolkit.telemetry.enabled", "false"),
    ("toolkit.telemetry.reportingpolicy.firstRun", "false"),
    ("toolkit.telemetry.unified", "false"),
    ("toolkit.telemetry.server", "\"\""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_are_named_are_seen() {
        let has = |args: &[&str]| has_profile(&args.iter().map(OsString::from).collect::<Vec<_>>());
        for named in [&["-P", "work"][..], &["--profile", "/x"], &["-profile", "/x"], &["--ProfileManager"]] {
            assert!(has(named), "{named:?}");
        }
        assert!(!has(&["--headless", "https://a.test/profile"]) && !has(&["P"]));
    }

    #[test]
    fn preferences_are_well_formed() {
        let text = preferences("127.0.0.1:4000".parse().expect("an address"));
        assert!(text.contains("user_pref(\"network.proxy.ssl\", \"127.0.0.1\");\n"));
        assert!(text.contains("user_pref(\"network.proxy.ssl_port\", 4000);\n"));
        assert!(text.lines().all(|line| line.starts_with("user_pref(\"") && line.ends_with(");")));
    }
}
