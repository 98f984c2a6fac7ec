//! The list of revoked certificates that our leaves name (RFC 5280 §4.2.1.13), for clients that insist on one.

use manent::flow::{Kind, State};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use crate::harness::{Setup, TestCa, TlsOrigin};

/// TL-20: the list that a leaf names is got through the proxy, from the proxy; it is empty, in force, and the CA's.
#[tokio::test]
async fn the_list_that_a_leaf_names_is_answered_by_the_proxy() {
    let ca = TestCa::new();
    let mut setup = Setup::trusting(&ca).await;
    let origin = TlsOrigin::listen(ca.server_config(&["a.test"], &["http/1.1"])).await;
    let (mut client, mut server) = setup.https(&origin, "a.test").await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.head().await;
    let flow = setup.flow().await;
    let chain = flow.client.tls.as_ref().unwrap().chain.clone();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let url = leaf
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLDistributionPoints(points) => {
                match points.points[0].distribution_point.as_ref()? {
                    DistributionPointName::FullName(names) => match &names[0] {
                        GeneralName::URI(url) => Some((*url).to_owned()),
                        other => panic!("{other:?}"),
                    },
                    DistributionPointName::NameRelativeToCRLIssuer(_) => None,
                }
            }
            _ => None,
        })
        .unwrap();
    assert!(url.starts_with("http://a.test/manent-") && url.ends_with(".crl"), "{url}");
    // Nobody listens at a.test:80, nor is the name known: it is not asked for.
    let mut plain = setup.client().await;
    plain.send(format!("GET {url} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    let head = plain.head().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("application/pkix-crl"), "{head}");
    let flow = setup.flow().await;
    assert_eq!((flow.kind, flow.state, flow.server.is_none()), (Kind::Http, State::Complete, true));
    let response = flow.response.unwrap();
    assert!(response.by_proxy);
    let body = response.body.as_inline().unwrap().clone();
    let (_, list) = CertificateRevocationList::from_der(&body).unwrap();
    assert_eq!(list.iter_revoked_certificates().count(), 0);
    assert_eq!(list.issuer().as_raw(), leaf.issuer().as_raw());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    assert!(list.last_update().timestamp() <= now && list.next_update().unwrap().timestamp() > now);
}
