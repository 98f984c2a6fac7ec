//! Certificates of the user's that clients are shown (TL-16).

use std::sync::Arc;

use manent::config::HostCert;
use manent::flow::State;

use super::identity::names;
use crate::harness::{OK, Setup, TestCa, TlsOrigin};

const NAMES: [&str; 5] = ["a.b.test", "c.b.test", "d.c.b.test", "e.d.c.b.test", "b.test"];

/// A proxy with a certificate for each of `hosts` (`None` is all). All have all names; the first is the host that it was
/// given for. The origin has all names, too.
async fn start(hosts: &[Option<&str>]) -> (Setup, TlsOrigin, TestCa) {
    let ca = TestCa::new();
    let origin = TlsOrigin::listen(ca.server_config(&NAMES, &[])).await;
    let setup = Setup::with(|config| {
        ca.trusted_by(config);
        for (place, host) in hosts.iter().enumerate() {
            let pem = config.store.with_file_name(format!("given-{place}.pem"));
            std::fs::write(&pem, ca.pem_for(&[&[host.unwrap_or("all")], &NAMES[..]].concat())).unwrap();
            config.certs.push(HostCert { host: host.map(str::to_owned), pem });
        }
    })
    .await;
    (setup, origin, ca)
}

/// The first name in the certificate that a client, who trusts its signer alone, is shown for `name`; how many there are
/// in the chain.
async fn shown(
    setup: &mut Setup,
    origin: &TlsOrigin,
    name: &str,
    given_by: Option<&TestCa>,
) -> (String, usize) {
    let config = given_by.map_or_else(|| setup.client_config(&[]), TestCa::client_config);
    let authority = origin.addr().to_string();
    let client = setup.tls_client_with(Arc::new(config), &authority, name);
    let (client, mut server) = tokio::join!(client, origin.accept());
    let mut client = client.unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    server.head().await;
    server.send(OK).await;
    client.expect(OK).await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    let chain = &flow.client.tls.as_ref().unwrap().chain;
    (names(&chain[0]).remove(0), chain.len())
}

/// TL-16: that for the name itself, then the nearest wildcard, then that for all; without one, the leaf that we make.
#[tokio::test]
async fn nearest_certificate_is_shown() {
    let hosts = [Some("*.b.test"), Some("A.b.test"), Some("*.c.b.test")];
    for all in [false, true] {
        let given = [&hosts[..], if all { &[None] } else { &[] }].concat();
        let expected = ["A.b.test", "*.b.test", "*.c.b.test", "*.c.b.test", if all { "all" } else { "" }];
        for (name, expected) in NAMES.iter().zip(expected) {
            let (mut setup, origin, ca) = start(&given).await;
            match expected {
                "" => assert_eq!(shown(&mut setup, &origin, name, None).await, ((*name).to_owned(), 2)),
                _ => {
                    let shown = shown(&mut setup, &origin, name, Some(&ca)).await;
                    assert_eq!(shown, (expected.to_owned(), 1), "{name}");
                }
            }
        }
    }
}
