//! Browsers under `manent run`: in profiles of their own, which nobody has set up.

use crate::harness::{Program, Record, assert_exact, succeed, text};
use crate::run::Scene;

/// What the page has in it.
const PARTS: [&str; 5] = ["/app.js", "/page", "/pixel.png?css=1", "/pixel.png?img=1", "/style.css"];

#[tokio::test]
async fn chromium_needs_no_setting_up() {
    let scene = Scene::new().await;
    let mut command = scene.run();
    command.arg(Program::CHROMIUM.path()).args(["--headless", "--disable-gpu", "--disable-dev-shm-usage"]);
    if rustix::process::geteuid().is_root() {
        command.arg("--no-sandbox"); // as root it does not start with one
    }
    command.args(["--virtual-time-budget=20000", "--dump-dom", "https://origin.test/page"]);
    let dom = text(&succeed(&mut command).await);
    assert!(dom.contains("api received 17"), "the script ran and its request was answered: {dom}");
    let records = assert_page(&scene).await;
    assert!(records.iter().any(|record| record.path() == "/api?from=js"), "{records:#?}");
    assert_nothing_stays(&scene);
}

/// With nothing but Firefox: no tool of NSS makes its certificate database.
#[tokio::test]
async fn firefox_needs_no_setting_up() {
    let scene = Scene::new().await;
    let picture = scene.dir.path().join("page.png");
    let mut command = scene.run();
    command.arg(Program::FIREFOX.path()).arg("--headless").arg("--screenshot").arg(&picture);
    succeed(command.arg("https://origin.test/page")).await;
    let picture = std::fs::read(&picture).expect("the page was painted");
    assert!(picture.starts_with(b"\x89PNG"));
    assert_page(&scene).await;
    assert_nothing_stays(&scene);
}

/// Checks that the store holds the page and its parts as they were on the wire. What a browser asks by itself is refused behind
/// the proxy; it is recorded, too.
async fn assert_page(scene: &Scene) -> Vec<Record> {
    let records = scene.store.records().await;
    let seen = scene.origin.seen();
    for part in PARTS {
        let record = records.iter().find(|record| record.host() == "origin.test" && record.path() == part);
        let record = record.unwrap_or_else(|| panic!("{part} is not recorded: {records:#?}"));
        let seen = seen.iter().find(|seen| seen.target == part).expect("what is recorded has passed");
        assert_exact(&scene.store, record, seen).await;
    }
    records
}

/// The profile has gone, with the directory that it was in.
fn assert_nothing_stays(scene: &Scene) {
    let entries = std::fs::read_dir(scene.temporary()).expect("readable").flatten();
    let ours = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert_eq!(ours.filter(|name| name.starts_with("manent-run-")).collect::<Vec<_>>(), [""; 0]);
}
