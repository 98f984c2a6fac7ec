//! Headless Chromium: a page with style, script, images and a fetch, over HTTPS.

use std::path::Path;

use tokio::process::Command;

use crate::harness::{Program, Proxy, Stage, assert_exact, spki_sha256_base64, succeed, text};

#[tokio::test]
async fn a_page_and_its_assets_are_recorded_as_they_were_on_the_wire() {
    let mut stage = Stage::new().await;
    let mut chromium = command(stage.dir.path(), &stage.proxy);
    chromium.arg("--virtual-time-budget=20000");
    let dom = text(&succeed(chromium.arg("--dump-dom").arg(stage.https.url("/page"))).await);
    assert!(dom.contains("api received 17"), "the script ran and its request was answered: {dom}");

    let mut seen = stage.https.seen();
    let mut records = stage.records().await;
    // It asks for several things at a time, so that the order at the origin may be another.
    seen.sort_by_key(|seen| seen.target.clone());
    records.sort_by_key(|record| record.path().to_owned());
    let paths: Vec<&str> = records.iter().map(|record| record.path()).collect();
    assert_eq!(
        paths,
        ["/api?from=js", "/app.js", "/page", "/pixel.png?css=1", "/pixel.png?img=1", "/style.css"],
        "{records:#?}"
    );
    assert_eq!(seen.len(), records.len());
    for (record, seen) in records.iter().zip(&seen) {
        assert_exact(&stage.proxy.store, record, seen).await;
    }
    assert_eq!(text(&seen[0].body), "{\"said\":\"héllo\"}");
}

/// Chromium through `proxy`, whose CA it trusts.
pub(crate) fn command(dir: &Path, proxy: &Proxy) -> Command {
    let mut chromium = Program::CHROMIUM.command(dir);
    chromium.args(QUIET);
    chromium.arg(format!("--user-data-dir={}", dir.join("profile").display()));
    chromium.arg(format!("--proxy-server={}", proxy.url()));
    let spki = spki_sha256_base64(&proxy.ca);
    chromium.arg(format!("--ignore-certificate-errors-spki-list={spki}"));
    if rustix::process::geteuid().is_root() {
        chromium.arg("--no-sandbox"); // as root it does not start with one
    }
    chromium
}

/// No window, no requests of its own, loopback through the proxy too.
pub(crate) const QUIET: &[&str] = &[
    "--headless",
    "--proxy-bypass-list=<-loopback>",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--no-default-browser-check",
    "--no-pings",
    "--metrics-recording-only",
    "--check-for-update-interval=31536000",
    "--component-updater=url-source=http://disabled.localhost:0",
    "--gaia-url=http://disabled.localhost:0",
    "--disable-features=OptimizationHints,OptimizationGuideModelDownloading,MediaRouter,DialMediaRouteProvider,\
     CertificateTransparencyComponentUpdater,AutofillServerCommunication,Translate,ChromeWhatsNewUI,\
     NetworkTimeServiceQuerying",
];
