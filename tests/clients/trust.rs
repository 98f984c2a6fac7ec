//! `manent ca` against the real tools: what openssl, keytool, plistlib, certutil and update-ca-certificates make of what it
//! exports and installs, and that clients then trust the proxy. Every store is in a directory of the test's own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chromium::QUIET;
use crate::harness::{Program, Stage, finish, manent, python, succeed, text};

/// `manent ca ARGS`, which ends well.
async fn ca(home: &Path, args: &[&str]) -> String {
    let mut command = manent(home);
    text(&succeed(command.arg("ca").args(args).arg("--ca-dir").arg(home.join("ca"))).await)
}

async fn status(home: &Path, args: &[&str]) -> Value {
    let mut command = manent(home);
    command.args(["ca", "status", "--json"]).args(args).arg("--ca-dir").arg(home.join("ca"));
    serde_json::from_slice(&finish(&mut command).await.stdout).expect("one JSON object")
}

fn state(status: &Value, kind: &str) -> String {
    let stores = status["stores"].as_array().expect("a list");
    let store = stores.iter().find(|store| store["store"] == kind);
    store.unwrap_or_else(|| panic!("no {kind} in {status}"))["state"].as_str().expect("a word").to_owned()
}

/// A home directory with a CA.
async fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    ca(home.path(), &["create"]).await;
    home
}

/// The certificate's SHA-256 as openssl computes it.
async fn sha256(home: &Path, pem: &Path) -> String {
    let mut openssl = Program::OPENSSL.command(home);
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(pem);
    let told = text(&succeed(&mut openssl).await);
    told.trim().rsplit('=').next().expect("a sum").to_owned()
}

#[tokio::test]
async fn openssl_holds_our_leaves_to_the_constraints_and_accepts_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    ca(dir.path(), &["create", "--only", "localhost,127.0.0.0/8"]).await;
    let mut openssl = Program::OPENSSL.command(dir.path());
    openssl
        .args(["x509", "-noout", "-ext", "nameConstraints", "-in"])
        .arg(dir.path().join("ca/manent-ca.pem"));
    let told = text(&succeed(&mut openssl).await);
    assert!(told.contains("critical") && told.contains("DNS:localhost"), "{told}");
    assert!(told.contains("IP:127.0.0.0/255.0.0.0"), "{told}");

    let mut stage = Stage::with_home(dir, |_, _| Vec::new()).await;
    for url in [stage.https.url("/hello"), stage.https.url("/hello").replace("localhost", "127.0.0.1")] {
        let mut curl = Program::CURL.command(stage.dir.path());
        curl.args(["-sS", "--noproxy", "", "-x", &stage.proxy.url(), &url, "--cacert"]).arg(&stage.proxy.ca);
        assert_eq!(text(&succeed(&mut curl).await), "hello, world\n");
    }
    let records = stage.records().await;
    assert!(records.len() == 2 && records.iter().all(|record| record.row["kind"] == "http"), "{records:#?}");
}

#[tokio::test]
async fn a_host_outside_of_the_constraints_shows_curl_its_own_certificate() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    ca(dir.path(), &["create", "--only", "example.test"]).await;
    let mut stage = Stage::with_home(dir, |_, _| Vec::new()).await;
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-sS", "--noproxy", "", "-x", &stage.proxy.url(), &stage.https.url("/hello"), "--cacert"]);
    curl.arg(stage.dir.path().join("origin-ca.pem"));
    assert_eq!(text(&succeed(&mut curl).await), "hello, world\n");
    let records = stage.records().await;
    assert_eq!(records.len(), 1);
    let reason = &records[0].shown["tunnel"]["reason"];
    assert_eq!(reason, "the CA may not sign for this host (name constraints)", "{:#?}", records[0].shown);
}

#[tokio::test]
async fn openssl_and_keytool_read_the_p12_as_a_trusted_certificate() {
    let home = home().await;
    let home = home.path();
    let pem = home.join("ca/manent-ca.pem");
    let p12 = home.join("m.p12");
    ca(home, &["export", "--format", "p12", "-o", p12.to_str().expect("UTF-8")]).await;
    let mut openssl = Program::OPENSSL.command(home);
    openssl.args(["pkcs12", "-nodes", "-passin", "pass:changeit", "-in"]).arg(&p12);
    let told = text(&succeed(&mut openssl).await);
    assert!(told.contains("friendlyName: manent CA ") && !told.contains("PRIVATE KEY"), "{told}");
    let read = home.join("read.pem");
    std::fs::write(&read, &told).expect("writable");
    assert_eq!(sha256(home, &read).await, sha256(home, &pem).await);

    let mut keytool = Program::KEYTOOL.command(home);
    keytool.args(["-list", "-storepass", "changeit", "-keystore"]).arg(&p12);
    let told = text(&succeed(&mut keytool).await);
    assert!(told.contains("1 entry") && told.contains("trustedCertEntry"), "{told}");
    assert!(told.contains(&sha256(home, &pem).await), "{told}");

    // A password of the user's, which is not ASCII; and one that is wrong.
    let other = home.join("other.p12");
    ca(home, &["export", "--format", "p12", "--password", "gehéim", "-o", other.to_str().expect("UTF-8")])
        .await;
    for (password, works) in [("gehéim", true), ("changeit", false)] {
        let mut openssl = Program::OPENSSL.command(home);
        openssl.args(["pkcs12", "-nokeys", "-passin", &format!("pass:{password}"), "-in"]).arg(&other);
        assert_eq!(finish(&mut openssl).await.status.success(), works, "{password}");
    }
}

#[tokio::test]
async fn the_mobileconfig_is_a_property_list_with_the_certificate_as_root() {
    let home = home().await;
    let home = home.path();
    ca(home, &["export", "--format", "mobileconfig", "-o", home.join("m").to_str().expect("UTF-8")]).await;
    ca(home, &["export", "--format", "der", "-o", home.join("m.cer").to_str().expect("UTF-8")]).await;
    let script = "\
import plistlib, sys, uuid
profile = plistlib.load(open(sys.argv[1], 'rb'))
assert profile['PayloadType'] == 'Configuration' and profile['PayloadVersion'] == 1, profile
root, = profile['PayloadContent']
assert root['PayloadType'] == 'com.apple.security.root' and root['PayloadVersion'] == 1, root
assert root['PayloadContent'] == open(sys.argv[2], 'rb').read()
assert uuid.UUID(root['PayloadUUID']) != uuid.UUID(profile['PayloadUUID'])
assert root['PayloadIdentifier'].startswith(profile['PayloadIdentifier'] + '.')
print(root['PayloadDisplayName'])";
    let mut python = crate::harness::clean(&python(), home);
    let name = text(&succeed(python.args(["-c", script]).arg(home.join("m")).arg(home.join("m.cer"))).await);
    assert!(name.starts_with("manent CA "), "{name}");
}

/// A proxy that goes on showing its certificate to clients that have refused it.
async fn persistent() -> Stage {
    Stage::with(|_, _| vec!["--no-auto-passthrough".to_owned()]).await
}

/// A client in Java that trusts what `trust` says, and what it got.
async fn java(stage: &Stage, trust: &[String]) -> (bool, String) {
    let source = stage.dir.path().join("Client.java");
    std::fs::write(&source, JAVA_CLIENT).expect("writable");
    let mut java = Program::JAVA.command(stage.dir.path());
    java.args(trust).arg("-Xshare:auto").arg(source).arg(stage.proxy.port.to_string());
    let output = finish(java.arg(stage.https.url("/hello"))).await;
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

const JAVA_CLIENT: &str = r#"
import java.net.*;
import java.net.http.*;

public class Client {
    public static void main(String[] args) throws Exception {
        var proxy = ProxySelector.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        var client = HttpClient.newBuilder().proxy(proxy).build();
        var request = HttpRequest.newBuilder(URI.create(args[1])).build();
        System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"#;

#[tokio::test]
async fn java_trusts_by_the_exported_stores() {
    let mut stage = Stage::new().await;
    let dir = stage.dir.path().to_owned();
    for (form, file) in [("java", "trust.jks"), ("p12", "trust.p12")] {
        let file = dir.join(file);
        ca(&dir, &["export", "--format", form, "-o", file.to_str().expect("UTF-8")]).await;
        let (works, told) = java(&stage, &[format!("-Djavax.net.ssl.trustStore={}", file.display())]).await;
        assert!(works && told == "hello, world\n", "{form}: {told}");
    }
    assert_eq!(stage.records().await.len(), 2);
}

#[tokio::test]
async fn java_trusts_by_install_and_no_longer_after_uninstall() {
    let stage = persistent().await;
    let dir = stage.dir.path().to_owned();
    // A machine with a Java whose cacerts is PKCS#12 under a password, in which nothing can be found without keytool.
    let root = dir.join("root");
    let java_home = root.join("usr/lib/jvm/java");
    std::fs::create_dir_all(java_home.join("bin")).expect("writable");
    std::fs::create_dir_all(java_home.join("lib/security")).expect("writable");
    // Its own keytool is never run: this machine's is, whose name is found in the search path.
    trap(&java_home.join("bin/keytool"), &dir.join("image-ran"));
    let cacerts = java_home.join("lib/security/cacerts");
    let mut keytool = Program::KEYTOOL.command(&dir);
    keytool.args([
        "-importcert",
        "-noprompt",
        "-alias",
        "other",
        "-storetype",
        "PKCS12",
        "-storepass",
        "changeit",
    ]);
    keytool.arg("-file").arg(dir.join("origin-ca.pem")).arg("-keystore").arg(&cacerts);
    succeed(&mut keytool).await;

    let trust = [
        format!("-Djavax.net.ssl.trustStore={}", cacerts.display()),
        "-Djavax.net.ssl.trustStorePassword=changeit".to_owned(),
    ];
    let root = root.to_str().expect("UTF-8");
    assert_eq!(state(&status(&dir, &["--root", root]).await, "java"), "absent");
    assert!(!java(&stage, &trust).await.0, "it is not trusted yet");
    ca(&dir, &["install", "java", "--root", root]).await;
    assert_eq!(state(&status(&dir, &["--root", root]).await, "java"), "trusted");
    let (works, told) = java(&stage, &trust).await;
    assert!(works && told == "hello, world\n", "{told}");
    ca(&dir, &["uninstall", "java", "--root", root]).await;
    assert_eq!(state(&status(&dir, &["--root", root]).await, "java"), "absent");
    let mut keytool = Program::KEYTOOL.command(&dir);
    let list =
        text(&succeed(keytool.args(["-list", "-storepass", "changeit", "-keystore"]).arg(&cacerts)).await);
    assert!(list.contains("1 entry") && list.contains("other"), "what else is in there stays: {list}");
    assert!(!dir.join("image-ran").exists());
}

/// A program of an image, which leaves a mark where it is run.
fn trap(path: &Path, mark: &Path) {
    std::fs::write(path, format!("#!/bin/sh\n: > '{}'\n", mark.display())).expect("writable");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

#[tokio::test]
async fn chromium_trusts_by_install_into_its_database() {
    let mut stage = persistent().await;
    let dir = stage.dir.path().to_owned();
    let browse = || {
        let mut chromium = Program::CHROMIUM.command(&dir);
        chromium.args(QUIET).arg(format!("--user-data-dir={}", dir.join("profile").display()));
        chromium.arg(format!("--proxy-server={}", stage.proxy.url()));
        if rustix::process::geteuid().is_root() {
            chromium.arg("--no-sandbox"); // as root it does not start with one
        }
        chromium.arg("--virtual-time-budget=20000").arg("--dump-dom").arg(stage.https.url("/hello"));
        chromium
    };
    assert!(!text(&finish(&mut browse()).await.stdout).contains("hello, world"), "it is not trusted yet");
    ca(&dir, &["install", "nss"]).await;
    assert_eq!(state(&status(&dir, &[]).await, "nss"), "trusted");
    let dom = text(&succeed(&mut browse()).await);
    assert!(dom.contains("hello, world"), "{dom}");
    let records = stage.records().await;
    assert!(records.iter().any(|record| record.row["status"] == 200), "{records:#?}");
    ca(&dir, &["uninstall", "nss"]).await;
    assert_eq!(state(&status(&dir, &[]).await, "nss"), "absent");
}

#[tokio::test]
async fn certutil_shows_it_in_each_database_trusted_for_servers_alone() {
    let home = home().await;
    let home = home.path();
    let profile = home.join(".mozilla/firefox/abc.default-esr");
    std::fs::create_dir_all(&profile).expect("writable");
    let database = |dir: &Path| format!("sql:{}", dir.display());
    succeed(Program::CERTUTIL.command(home).args(["-N", "--empty-password", "-d", &database(&profile)]))
        .await;
    ca(home, &["install", "nss"]).await;
    ca(home, &["install", "nss"]).await;
    for dir in [home.join(".pki/nssdb"), profile.clone()] {
        let list = text(&succeed(Program::CERTUTIL.command(home).args(["-L", "-d", &database(&dir)])).await);
        let line = list.lines().find(|line| line.starts_with("manent CA ")).expect(&list);
        assert!(line.trim_end().ends_with(" C,,"), "{list}");
        let mut keys = Program::CERTUTIL.command(home);
        let keys = finish(keys.args(["-K", "-d", &database(&dir)])).await;
        assert!(text(&keys.stdout).contains("no keys found"), "{keys:?}");
    }
    // After a rotation, the old one goes and the new one stays.
    ca(home, &["rotate"]).await;
    ca(home, &["install", "nss"]).await;
    ca(home, &["uninstall", "--old", "nss"]).await;
    let list = text(&succeed(Program::CERTUTIL.command(home).args(["-L", "-d", &database(&profile)])).await);
    assert_eq!(list.matches("manent CA ").count(), 1, "{list}");
    assert_eq!(state(&status(home, &[]).await, "nss"), "trusted");
}

/// Debian's own tool, in a root directory of the test's own, and curl with the bundle that it made.
#[tokio::test]
async fn curl_trusts_by_update_ca_certificates() {
    let stage = Stage::new().await;
    let dir = stage.dir.path().to_owned();
    let root = dir.join("root");
    for place in [
        "usr/local/share/ca-certificates",
        "usr/share/ca-certificates",
        "etc/ssl/certs",
        "etc/ca-certificates/update.d",
    ] {
        std::fs::create_dir_all(root.join(place)).expect("writable");
    }
    trap(&root.join("etc/ca-certificates/update.d/hook"), &dir.join("image-ran"));
    // The tool leaves the bundle alone where no certificate at all is left.
    let other = dir.join("origin-ca.pem");
    std::fs::copy(&other, root.join("usr/share/ca-certificates/other.crt")).expect("writable");
    std::fs::write(root.join("etc/ca-certificates.conf"), "other.crt\n").expect("writable");
    let bundle: PathBuf = root.join("etc/ssl/certs/ca-certificates.crt");
    std::fs::write(&bundle, "").expect("writable");
    let root = root.to_str().expect("UTF-8");
    assert!(Path::new("/usr/sbin/update-ca-certificates").is_file(), "apt-get install ca-certificates");
    ca(&dir, &["install", "system", "--root", root]).await;
    assert_eq!(state(&status(&dir, &["--root", root]).await, "system"), "trusted");
    let mut curl = Program::CURL.command(&dir);
    curl.args(["-sS", "--noproxy", "", "-x", &stage.proxy.url(), &stage.https.url("/hello"), "--cacert"]);
    assert_eq!(text(&succeed(curl.arg(&bundle)).await), "hello, world\n");
    ca(&dir, &["uninstall", "system", "--root", root]).await;
    assert_eq!(std::fs::read(&bundle).expect("there"), std::fs::read(other).expect("there"));
    let links = std::fs::read_dir(Path::new(root).join("etc/ssl/certs")).expect("there").flatten();
    let stays = links.filter(|entry| entry.file_name().to_string_lossy().starts_with("manent-ca"));
    assert_eq!(stays.count(), 0, "no link to it stays");
    assert!(!dir.join("image-ran").exists(), "its hooks are not run");
}
