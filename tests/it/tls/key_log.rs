//! `SSLKEYLOGFILE` (TL-18): what Wireshark needs to read both legs.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, KeyLog, RootCertStore};

use crate::harness::{OK, Peer, TestCa, TlsOrigin, handshake};

/// Keeps the client random of each handshake of one end, as the key log spells it.
#[derive(Debug, Default)]
struct Randoms(Mutex<Vec<String>>);

impl KeyLog for Randoms {
    fn log(&self, _label: &str, client_random: &[u8], _secret: &[u8]) {
        let random = client_random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.lock().unwrap().push(random);
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// TL-18: the secrets of both handshakes, in the format of the NSS key log, in a file that is ours alone.
#[tokio::test]
async fn key_log_has_the_secrets_of_both_legs() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let key_log = dir.path().join("keys.log");
    let (at_origin, at_client) = (Arc::new(Randoms::default()), Arc::new(Randoms::default()));
    let mut server = Arc::unwrap_or_clone(ca.server_config(&["origin.test"], &[]));
    server.key_log = Arc::<Randoms>::clone(&at_origin);
    let origin = TlsOrigin::listen(Arc::new(server)).await;
    let mut manent = Command::new(env!("CARGO_BIN_EXE_manent"))
        .args(["capture", "-p", "0", "--upstream-ca"])
        .arg(ca.write(dir.path()))
        .env("MANENT_STORE", dir.path().join("flows.db"))
        .env("MANENT_CA_DIR", dir.path().join("ca"))
        .env("SSLKEYLOGFILE", &key_log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut talk = BufReader::new(manent.stderr.take().unwrap()).lines();
    let _running = Running(manent);
    let addr = talk
        .find_map(|line| {
            let line = line.unwrap();
            let (_, after) = line.split_once("listening on ")?;
            after.split_whitespace().next()?.parse().ok()
        })
        .unwrap();

    let mut tunnel = Peer::connect(addr).await;
    let authority = origin.addr();
    tunnel.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
    tunnel.head().await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.path().join("ca/manent-ca.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.key_log = Arc::<Randoms>::clone(&at_client);
    let (client, mut server) =
        tokio::join!(handshake(tunnel.into_io(), config.into(), "origin.test"), origin.accept());
    let mut client = client.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n").await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;

    let text = std::fs::read_to_string(&key_log).unwrap();
    for (leg, randoms) in [("client", &at_client), ("origin", &at_origin)] {
        let random = randoms.0.lock().unwrap()[0].clone();
        for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0"]
        {
            let begin = format!("{label} {random} ");
            let secret = text.lines().find_map(|line| line.strip_prefix(&begin));
            let secret = secret.unwrap_or_else(|| panic!("no {label} of the {leg}'s leg in {text}"));
            assert!(secret.len() >= 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
        }
    }
    assert_eq!(std::fs::metadata(&key_log).unwrap().permissions().mode() & 0o777, 0o600);
}
