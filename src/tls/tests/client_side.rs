//! Leaves as clients see them: handshakes in memory, and the certificate's fields.

use std::net::IpAddr;
use std::sync::{Arc, Barrier};
use std::thread;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Accepted;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConnection,
};
use rustls::{SupportedProtocolVersion, version};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{TEST_CA_RSA, test_ca};
use crate::tls::crypto::{DAY, now_unix, provider, set_validity};
use crate::tls::leaves::NAMES;
use crate::tls::{Alpn, Ca, LeafError, Leaves, describe_hello, describe_server_side};

/// A client that trusts `ca` and nothing else.
fn client(ca: &Ca, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.cert_der().to_vec())).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Shakes hands until both are done, or one fails.
fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    // A TLS 1.3 client is done before it has its tickets: go on until nobody has anything to say.
    while client.wants_write() || server.wants_write() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        let mut rest = &to_server[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        let mut rest = &to_client[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

/// A handshake of `config` with the leaf of `name`, in which the client takes it for `dialled`.
fn meet(
    leaves: &Leaves,
    config: &Arc<ClientConfig>,
    name: &str,
    dialled: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let expected = ServerName::try_from(dialled.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), expected).unwrap();
    let mut server = ServerConnection::new(leaves.server_config(name, Alpn::Http11).unwrap()).unwrap();
    shake(&mut client, &mut server)?;
    Ok((client, server))
}

/// TL-03 among them: names of other scripts.
#[test]
fn clients_accept_the_leaf_of_every_kind_of_name() {
    let ca = test_ca();
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "example.com".into()].join(".");
    let names = [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("localhost", "localhost"),
        ("a_b.example.com", "a_b.example.com"),
        ("a_b.com", "a_b.com"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        (&long, &long),
    ];
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let config = client(&ca, versions);
        for (name, dialled) in names {
            let (met, _) = meet(&leaves, &config, name, dialled).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(met.protocol_version(), Some(versions[0].version));
        }
    }
    let error = meet(&leaves, &client(&ca, rustls::ALL_VERSIONS), "example.com", "example.org").unwrap_err();
    assert!(crate::tls::explain(&error).contains("not for example.org, but for example.com"));
}

#[test]
fn a_leaf_has_the_fields_that_strict_clients_ask_for() {
    let ca = test_ca();
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    let now = now_unix();
    let leaf = leaves.leaf("example.com", now).unwrap();
    let (_, cert) = X509Certificate::from_der(leaf.der()).unwrap();
    let (_, ca_cert) = X509Certificate::from_der(ca.cert_der()).unwrap();
    assert_eq!(cert.subject().to_string(), "CN=example.com");
    assert_eq!(cert.issuer().as_raw(), ca_cert.subject().as_raw());
    let names = cert.subject_alternative_name().unwrap().unwrap();
    assert!(!names.critical);
    assert_eq!(names.value.general_names, [GeneralName::DNSName("example.com")]);
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags.count_ones() == 1);
    let purpose = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(purpose.server_auth && !purpose.client_auth && !purpose.any);
    assert!(cert.basic_constraints().unwrap().is_none_or(|constraints| !constraints.value.ca));
    let (from, until) = (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
    assert_eq!((from, until), (now - 2 * DAY, now + 87 * DAY));
    assert!(until - from <= 90 * DAY);
    assert_ne!(cert.public_key().raw, ca_cert.public_key().raw, "its key is not the CA's");
    let authority = cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
        _ => None,
    });
    assert!(authority.is_some());
}

#[test]
fn subject_and_alternative_name_fit_the_name() {
    let leaves = Leaves::new(test_ca()).unwrap();
    let seen = |name: &str| {
        let leaf = leaves.leaf(name, now_unix()).unwrap();
        let (_, cert) = X509Certificate::from_der(leaf.der()).unwrap();
        let names = cert.subject_alternative_name().unwrap().unwrap();
        (cert.subject().to_string(), names.critical, format!("{:?}", names.value.general_names))
    };
    let name_64 = format!("{}.example.com", "a".repeat(52));
    assert_eq!(seen(&name_64).0, format!("CN={name_64}"));
    let name_65 = format!("{}.example.com", "a".repeat(53));
    assert_eq!(seen(&name_65), (String::new(), true, format!("[DNSName({name_65:?})]")));
    assert_eq!(seen("a_b.example.com").2, r#"[DNSName("a_b.example.com"), DNSName("*.example.com")]"#);
    assert_eq!(seen("a.b_c.example.com").2, r#"[DNSName("a.b_c.example.com")]"#);
    assert_eq!(seen("a_b.com").2, r#"[DNSName("a_b.com")]"#, "no client accepts *.com");
    assert_eq!(seen("[::1]").0, "CN=::1");
    assert_eq!(seen("10.0.0.1").2, "[IPAddress([10, 0, 0, 1])]");
    let IpAddr::V6(ip) = "2001:db8::1".parse().unwrap() else { unreachable!() };
    assert_eq!(seen("2001:db8::1").2, format!("[IPAddress({:?})]", ip.octets()));
}

#[test]
fn names_that_no_certificate_carries_are_errors() {
    let leaves = Leaves::new(test_ca()).unwrap();
    for name in ["", "münchen.example", "a b", "x/y", &"a".repeat(300), "*.example.com", "\0"] {
        assert!(matches!(leaves.server_config(name, Alpn::None), Err(LeafError::Name(_))), "{name:?}");
    }
}

#[test]
fn serial_numbers_are_positive_long_and_never_repeat() {
    let leaves = Leaves::new(test_ca()).unwrap();
    let mut seen = std::collections::HashSet::new();
    for n in 0..200 {
        let leaf = leaves.leaf(&format!("h{n}.example"), now_unix()).unwrap();
        let (_, cert) = X509Certificate::from_der(leaf.der()).unwrap();
        assert_eq!(cert.raw_serial().len(), 16);
        assert_eq!(cert.raw_serial()[0] & 0x80, 0);
        assert!(seen.insert(cert.raw_serial().to_vec()));
    }
}

#[test]
fn a_name_is_signed_once_however_many_ask() {
    let leaves = Arc::new(Leaves::new(test_ca()).unwrap());
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (leaves, barrier) = (Arc::clone(&leaves), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                leaves.leaf("example.com", now_unix()).unwrap().der().to_vec()
            })
        })
        .collect();
    let leaf = leaves.leaf("EXAMPLE.com.", now_unix()).unwrap();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), leaf.der());
    }
    let one = leaves.server_config("example.com", Alpn::Http11).unwrap();
    assert!(Arc::ptr_eq(&one, &leaves.server_config("example.com", Alpn::Http11).unwrap()));
    assert!(!Arc::ptr_eq(&one, &leaves.server_config("example.com", Alpn::None).unwrap()));
    assert_eq!(leaves.chain("example.com").unwrap(), [leaf.der(), leaves.ca().cert_der()]);
}

#[test]
fn a_leaf_is_signed_anew_after_half_its_time_and_when_the_clock_was_set_back() {
    let leaves = Leaves::new(test_ca()).unwrap();
    let now = now_unix();
    let first = leaves.leaf("example.com", now).unwrap();
    let later = |seconds: i64| leaves.leaf("example.com", now + seconds).unwrap().der().to_vec();
    assert_eq!(later(43 * DAY), first.der());
    assert_ne!(later(44 * DAY), first.der());
    assert_ne!(later(-3 * DAY), first.der());
}

#[test]
fn a_leaf_stays_within_the_time_of_its_ca() {
    let now = now_unix();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    set_validity(&mut params, now - DAY, now + 5 * DAY);
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let leaves = Leaves::new(Arc::new(Ca::from_pem(pem.as_bytes()).unwrap())).unwrap();
    let leaf = leaves.leaf("example.com", now).unwrap();
    let (_, cert) = X509Certificate::from_der(leaf.der()).unwrap();
    let validity = cert.validity();
    assert_eq!((validity.not_before.timestamp(), validity.not_after.timestamp()), (now - DAY, now + 5 * DAY));
    let again = leaves.leaf("example.com", now + DAY).unwrap();
    assert_eq!(again.der(), leaf.der(), "near the CA's end, too, it is kept");
    assert!(matches!(leaves.leaf("example.com", now + 6 * DAY), Err(LeafError::CaOutOfTime(_))));
    assert!(matches!(leaves.leaf("example.com", now + 6 * DAY), Err(LeafError::CaOutOfTime(_))));
    assert!(leaves.leaf("example.com", now).is_ok(), "a failure is not remembered");
}

#[test]
fn names_are_bounded_and_the_least_used_goes_first() {
    let leaves = Leaves::new(test_ca()).unwrap();
    let now = now_unix();
    let (kept, lost) = (leaves.leaf("kept.example", now).unwrap(), leaves.leaf("lost.example", now).unwrap());
    for n in 0..NAMES {
        leaves.leaf(&format!("h{n}.example"), now).unwrap();
        leaves.leaf("kept.example", now).unwrap();
    }
    assert!(format!("{leaves:?}").contains(&format!("names: {NAMES}")));
    assert_eq!(leaves.leaf("kept.example", now).unwrap().der(), kept.der());
    assert_ne!(leaves.leaf("lost.example", now).unwrap().der(), lost.der());
}

#[test]
fn sessions_are_resumed_for_a_name_and_not_for_another() {
    let ca = test_ca();
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let config = client(&ca, versions);
        for name in ["example.com", "127.0.0.1", "127.0.0.2"] {
            let (_, first) = meet(&leaves, &config, name, name).unwrap();
            assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full), "{name}");
            let (_, second) = meet(&leaves, &config, name, name).unwrap();
            assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed), "{name}");
            let info = describe_server_side(&second, Default::default(), Vec::new());
            assert!(info.resumed && info.version.is_some() && info.cipher.is_some());
        }
        // The client takes both addresses for one; we do not.
        let (_, other) = meet(&leaves, &config, "127.0.0.1", "127.0.0.1").unwrap();
        assert_eq!(other.handshake_kind(), Some(HandshakeKind::Resumed));
        let mixed = meet(&leaves, &config, "127.0.0.2", "127.0.0.1").unwrap_err();
        assert!(
            matches!(mixed, rustls::Error::InvalidCertificate(_)),
            "not resumed, so it saw the wrong name"
        );
    }
}

#[test]
fn a_handshake_with_a_client_is_described() {
    let ca = test_ca();
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    let mut config = Arc::unwrap_or_clone(client(&ca, rustls::ALL_VERSIONS));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = ClientConnection::new(Arc::new(config), "example.com".try_into().unwrap()).unwrap();
    let mut first = Vec::new();
    client.write_tls(&mut first).unwrap();
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut &first[..]).unwrap();
    let accepted: Accepted = acceptor.accept().unwrap().unwrap();
    let hello = describe_hello(&accepted.client_hello());
    assert_eq!(hello.sni.as_deref(), Some("example.com"));
    assert_eq!(hello.alpn_offers, [&b"h2"[..], b"http/1.1"]);
    assert!(hello.cipher_offers.contains(&0x1301));
    let mut server =
        accepted.into_connection(leaves.server_config("example.com", Alpn::Http11).unwrap()).unwrap();
    shake(&mut client, &mut server).unwrap();
    let info = describe_server_side(&server, hello, leaves.chain("example.com").unwrap());
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(info.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(info.cipher.as_deref(), Some("TLS_AES_256_GCM_SHA384"));
    assert_eq!(info.group.as_deref(), Some("X25519"));
    assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!((info.resumed, info.chain.len(), info.error), (false, 2, None));
}

#[test]
fn each_choice_of_protocols_agrees_as_it_says() {
    let ca = test_ca();
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    let agreed = |offers: &[&[u8]], alpn: Alpn| {
        let mut config = Arc::unwrap_or_clone(client(&ca, rustls::ALL_VERSIONS));
        config.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), "example.com".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(leaves.server_config("example.com", alpn).unwrap()).unwrap();
        shake(&mut client, &mut server).map(|()| server.alpn_protocol().map(<[u8]>::to_vec))
    };
    let both: &[&[u8]] = &[b"http/1.1", b"h2"];
    assert_eq!(agreed(both, Alpn::None), Ok(None));
    assert_eq!(agreed(both, Alpn::Http11), Ok(Some(b"http/1.1".to_vec())));
    assert_eq!(agreed(both, Alpn::Http2AndHttp11), Ok(Some(b"h2".to_vec())));
    assert_eq!(agreed(both, Alpn::Http2), Ok(Some(b"h2".to_vec())));
    assert_eq!(agreed(&[], Alpn::Http2), Ok(None));
    assert_eq!(agreed(&[b"qux"], Alpn::None), Ok(None));
    assert_eq!(agreed(&[b"qux"], Alpn::Http11), Err(rustls::Error::NoApplicationProtocol));
}

#[test]
fn an_rsa_ca_signs_leaves_that_clients_accept() {
    let ca = Arc::new(Ca::from_pem(TEST_CA_RSA.as_bytes()).unwrap());
    let leaves = Leaves::new(Arc::clone(&ca)).unwrap();
    meet(&leaves, &client(&ca, rustls::ALL_VERSIONS), "example.com", "example.com").unwrap();
}

/// A CA below a root that the clients trust: its own certificate has to come along.
#[test]
fn the_leaf_of_an_intermediate_comes_with_its_chain() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let root = rcgen::CertifiedIssuer::self_signed(params.clone(), key).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &root).unwrap();
    // The root is in the file, too, and first: the key tells which one signs.
    let pem = root.pem() + &cert.pem() + &key.serialize_pem();
    let leaves = Leaves::new(Arc::new(Ca::from_pem(pem.as_bytes()).unwrap())).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    meet(&leaves, &config, "example.com", "example.com").unwrap();
    let chain = leaves.chain("example.com").unwrap();
    assert_eq!((chain.len(), &chain[1][..]), (2, &cert.der()[..]));
}
