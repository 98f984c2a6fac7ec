//! The transparent proxy, with the kernel's own rules (nftables) in a network namespace of the test's own.
//!
//! Each test runs itself again in a namespace, where it is root: `unshare -rn`. Where that is not allowed the test fails
//! and says so. curl binds an address of its own there, by which the rules tell its connections from the proxy's.

use std::path::Path;

use tokio::process::Command;

use crate::harness::{Program, Record, Stage, clean, finish, succeed, text};

const INSIDE: &str = "MANENT_TEST_NAMESPACE";
/// curl's.
const CLIENT: &str = "10.99.0.2";

/// Whether this process is the one in the namespace; else the test is run there, to its end.
async fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let itself = std::env::current_exe().expect("the test's own program");
    let mut command = Command::new("unshare");
    command.args(["-rn"]).arg(itself).args(["--exact", &format!("transparent::{test}"), "--nocapture"]);
    let output = finish(command.env(INSIDE, "1")).await;
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "in a network namespace (`unshare -rn`, which the kernel must allow): {}",
        String::from_utf8_lossy(&said)
    );
    false
}

/// A program that configures the network: it need not be in an ordinary user's path.
async fn configure(program: &str, args: &[&str]) {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(program));
    let place = places.iter().find(|place| place.is_file());
    let place = place.unwrap_or_else(|| panic!("{program} is not installed: tests/run installs it"));
    succeed(clean(place, Path::new("/")).args(args)).await;
}

/// Origins, the proxy with a transparent listener at its second port, and curl's address.
async fn stage() -> Stage {
    configure("ip", &["link", "set", "lo", "up"]).await;
    configure("ip", &["addr", "add", &format!("{CLIENT}/32"), "dev", "lo"]).await;
    Stage::with(|_, _| ["--listen", "transparent@127.0.0.1:0"].map(str::to_owned).to_vec()).await
}

fn curl(stage: &Stage) -> Command {
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "-4", "--max-time", "30", "--interface", CLIENT, "--cacert"])
        .arg(&stage.proxy.ca);
    curl
}

/// Both origins are reached, and intercepted under the names that curl has for them. Gives all that was recorded.
async fn hello(mut stage: Stage) -> Vec<Record> {
    for origin in [&stage.https, &stage.http] {
        let mut command = curl(&stage);
        assert_eq!(text(&succeed(command.arg(origin.url("/hello"))).await), "hello, world\n");
    }
    let records = stage.records().await;
    for record in &records[records.len() - 2..] {
        assert_eq!(record.host(), "localhost", "{record:?}");
        assert_eq!(record.shown["client"]["mode"], "transparent", "{record:?}");
    }
    records
}

#[tokio::test]
async fn redirected_connections_are_intercepted() {
    if !is_inside("redirected_connections_are_intercepted").await {
        return;
    }
    let stage = stage().await;
    let (https, http, to) = (stage.https.port, stage.http.port, stage.proxy.ports[1]);
    let rules = format!(
        "table ip t {{ chain output {{ type nat hook output priority -100; \
         ip saddr {CLIENT} tcp dport {{ {https}, {http}, 9 }} redirect to :{to}; }}; }}"
    );
    configure("nft", &[&rules]).await;
    // One that nobody answers is refused, as if the proxy were not there; so is the port itself.
    for port in [9, to] {
        let mut command = curl(&stage);
        command.arg(format!("http://127.0.0.1:{port}/"));
        let output = finish(&mut command).await;
        // Reset before curl looked, or after.
        assert!(matches!(output.status.code(), Some(7 | 56)), "{output:?}");
    }
    let records = hello(stage).await;
    let states: Vec<_> = records.iter().map(|record| record.row["state"].as_str().unwrap_or("")).collect();
    assert_eq!(states, ["failed", "refused", "complete", "complete"]);
}

/// `TPROXY`: the packets come to the listener with their address as it was.
#[tokio::test]
async fn tproxy_connections_are_intercepted() {
    if !is_inside("tproxy_connections_are_intercepted").await {
        return;
    }
    let stage = stage().await;
    let (https, http, to) = (stage.https.port, stage.http.port, stage.proxy.ports[1]);
    configure("ip", &["rule", "add", "fwmark", "1", "lookup", "100"]).await;
    configure("ip", &["route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"]).await;
    let rules = format!(
        "table ip t {{ \
         chain output {{ type route hook output priority -150; \
         ip saddr {CLIENT} tcp dport {{ {https}, {http} }} meta mark set 1; }}; \
         chain prerouting {{ type filter hook prerouting priority -150; \
         meta mark 1 tcp dport {{ {https}, {http} }} tproxy to 127.0.0.1:{to}; }}; }}"
    );
    configure("nft", &[&rules]).await;
    assert_eq!(hello(stage).await.len(), 2);
}
