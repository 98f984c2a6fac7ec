//! The setup page in headless Chromium: whether it trusts us is shown to who does, and the way there to who does not.

use std::path::PathBuf;

use tokio::process::Command;

use crate::chromium::QUIET;
use crate::harness::{Picture, Program, Stage, spki_sha256_base64, succeed, text};

/// How a browser comes to the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its proxy is set.
    Proxied,
    /// It knows of no proxy.
    Direct,
    /// It takes what the PAC file says.
    Pac,
}

/// Chromium on its way, which trusts us or does not.
fn chromium(stage: &Stage, way: Way, trusts: bool) -> Command {
    let mut chromium = Program::CHROMIUM.command(stage.dir.path());
    chromium.args(QUIET);
    // Nobody but us is there, whatever it looks for.
    chromium.arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", stage.dir.path().join("profile").display()));
    match way {
        Way::Proxied => chromium.arg(format!("--proxy-server={}", stage.proxy.url())),
        Way::Pac => chromium.arg(format!("--proxy-pac-url={}/proxy.pac", stage.proxy.url())),
        Way::Direct => chromium.arg("--no-proxy-server"),
    };
    if trusts {
        let spki = spki_sha256_base64(&stage.proxy.ca);
        chromium.arg(format!("--ignore-certificate-errors-spki-list={spki}"));
    }
    if rustix::process::geteuid().is_root() {
        chromium.arg("--no-sandbox"); // as root it does not start with one
    }
    chromium
}

/// What it looks like.
async fn picture(stage: &Stage, way: Way, trusts: bool, looks: Looks, url: &str) -> Picture {
    let path: PathBuf = stage.dir.path().join("page.png");
    let mut chromium = chromium(stage, way, trusts);
    chromium.arg(format!("--screenshot={}", path.display())).arg("--hide-scrollbars");
    chromium.arg("--window-size=800,1000").arg("--force-color-profile=srgb");
    // Letters alone have a colour then.
    chromium.arg("--disable-lcd-text").arg(format!("--blink-settings=preferredColorScheme={}", looks as u8));
    succeed(chromium.arg(url)).await;
    Picture::read(&path)
}

/// Blink's numbers for them.
#[derive(Debug, Clone, Copy)]
enum Looks {
    Dark = 0,
    Light = 1,
}

/// The mark beside "Yes", and the words where there is none, as `style.css` and `trusted.svg` have them.
const YES: [[u8; 3]; 2] = [[0x7f, 0xd6, 0xa2], [0x14, 0x66, 0x3a]];
const NO: [[u8; 3]; 2] = [[0xf0, 0xb3, 0x6b], [0x8f, 0x4a, 0x00]];

#[tokio::test]
async fn trust_is_shown_to_who_trusts_and_the_way_there_to_who_does_not() {
    let mut stage = Stage::new().await;
    for looks in [Looks::Light, Looks::Dark] {
        let (yes, no) = (YES[looks as usize], NO[looks as usize]);
        let trusted = picture(&stage, Way::Proxied, true, looks, "http://manent/").await;
        assert!(trusted.has_square(4, yes) && trusted.count(no) == 0, "{looks:?}");
        let untrusted = picture(&stage, Way::Proxied, false, looks, "http://manent/").await;
        assert!(!untrusted.has_square(4, yes) && untrusted.count(no) > 20, "{looks:?}");
    }
    // Nothing of all that is a flow.
    assert_eq!(stage.records().await.len(), 0);
}

#[tokio::test]
async fn trust_is_shown_without_the_proxy_too() {
    let mut stage = Stage::new().await;
    let url = stage.proxy.url();
    let trusted = picture(&stage, Way::Direct, true, Looks::Light, &url).await;
    assert!(trusted.has_square(4, YES[1]));
    let untrusted = picture(&stage, Way::Direct, false, Looks::Light, &url).await;
    assert!(!untrusted.has_square(4, YES[1]));
    assert_eq!(stage.records().await.len(), 0);
}

#[tokio::test]
async fn a_browser_that_has_the_pac_file_uses_the_proxy() {
    let stage = Stage::new().await;
    let dom = succeed(chromium(&stage, Way::Pac, false).arg("--dump-dom").arg("http://manent/")).await;
    assert!(text(&dom).contains("This page came through it."), "{}", text(&dom));
    // And not for itself.
    let dom = succeed(chromium(&stage, Way::Pac, false).arg("--dump-dom").arg(stage.proxy.url())).await;
    assert!(text(&dom).contains("It was opened directly"), "{}", text(&dom));
    let dom =
        text(&succeed(chromium(&stage, Way::Direct, false).arg("--dump-dom").arg(stage.proxy.url())).await);
    let open = dom.split_once("<details id=\"chromium\" open").is_some();
    assert!(open, "{dom}");
}
