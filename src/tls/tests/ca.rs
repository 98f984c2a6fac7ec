//! The CA: its files, and what is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::tempdir;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{TEST_CA, TEST_CA_RSA, TEST_CA_SEC1};
use crate::tls::crypto::{DAY, now_unix, set_validity};
use crate::tls::{Alpn, Ca, CaError, Leaves};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_first_start_makes_a_private_key_and_a_certificate_for_two_years() {
    let home = tempdir().unwrap();
    let dir = home.path().join("deep/ca");
    let ca = Ca::load_or_create(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("manent-ca.key")), 0o600);
    assert_eq!(ca.cert_path(), Some(&*dir.join("manent-ca.pem")));
    let text = fs::read_to_string(dir.join("manent-ca.pem")).unwrap();
    assert_eq!(text, ca.cert_pem());
    assert_eq!(text.matches("-----BEGIN").count(), 1);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no temporary file stays");

    let (_, cert) = X509Certificate::from_der(ca.cert_der()).unwrap();
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    let validity = cert.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert_eq!(life, 730 * DAY);
    assert!(validity.not_before.timestamp() <= now_unix() - 2 * DAY);
    assert!(ca.subject().starts_with("CN=manent CA "), "{}", ca.subject());
    assert!(cert.raw_serial().len() == 16);
}

#[test]
fn a_second_start_finds_the_same_ca_and_another_home_has_another() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let first = Ca::load_or_create(one.path()).unwrap();
    assert_eq!(Ca::load_or_create(one.path()).unwrap().cert_der(), first.cert_der());
    assert_eq!(Ca::load(one.path()).unwrap().cert_der(), first.cert_der());
    let other = Ca::load_or_create(two.path()).unwrap();
    assert_ne!(other.spki_sha256(), first.spki_sha256());
    assert_ne!(other.subject(), first.subject());
    assert!(matches!(Ca::load(&two.path().join("none")), Err(CaError::Missing { .. })));
}

#[test]
fn first_starts_at_once_agree_on_one_ca() {
    let home = tempdir().unwrap();
    let starts = 8;
    let barrier = Arc::new(Barrier::new(starts));
    let threads: Vec<_> = (0..starts)
        .map(|_| {
            let (dir, barrier) = (home.path().join("ca"), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                Ca::load_or_create(&dir).unwrap().cert_der().to_vec()
            })
        })
        .collect();
    let certs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(certs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_start_that_ended_between_the_two_files_is_finished_by_the_next() {
    let home = tempdir().unwrap();
    let first = Ca::load_or_create(home.path()).unwrap();
    fs::remove_file(home.path().join("manent-ca.pem")).unwrap();
    let second = Ca::load_or_create(home.path()).unwrap();
    assert_eq!(second.spki_sha256(), first.spki_sha256());
}

#[test]
fn a_key_is_never_made_for_a_certificate_that_lost_it() {
    let home = tempdir().unwrap();
    Ca::load_or_create(home.path()).unwrap();
    fs::remove_file(home.path().join("manent-ca.key")).unwrap();
    assert!(matches!(Ca::load_or_create(home.path()), Err(CaError::KeyMissing { .. })));
    assert!(!home.path().join("manent-ca.key").exists());
}

#[test]
fn a_key_that_others_can_read_is_refused_and_not_changed() {
    let home = tempdir().unwrap();
    let key = home.path().join("manent-ca.key");
    Ca::load_or_create(home.path()).unwrap();
    for exposed in [0o640, 0o604, 0o620, 0o644] {
        fs::set_permissions(&key, Permissions::from_mode(exposed)).unwrap();
        let error = Ca::load_or_create(home.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("chmod 600") && text.contains("manent-ca.key"), "{text}");
        assert_eq!(mode(&key), exposed);
    }
    fs::set_permissions(&key, Permissions::from_mode(0o400)).unwrap();
    assert!(Ca::load(home.path()).is_ok());
}

#[test]
fn a_given_file_may_hold_key_and_certificate_in_any_form_and_order() {
    let home = tempdir().unwrap();
    let file = home.path().join("mitmproxy-ca.pem");
    let turned = format!(
        "{}{}",
        include_str!("../../../certs/test-ca.pem"),
        include_str!("../../../certs/test-ca.key")
    );
    for text in [TEST_CA, &turned, TEST_CA_SEC1, TEST_CA_RSA] {
        write(&file, text, 0o600);
        let ca = Ca::load_files(&file, None).unwrap();
        assert!(ca.subject().contains("manent TEST CA"), "{}", ca.subject());
        assert_eq!(ca.cert_pem().matches("-----BEGIN").count(), 1, "the key is not part of it");
        let leaves = Leaves::new(Arc::new(ca)).unwrap();
        leaves.server_config("example.com", Alpn::Http11).unwrap();
    }
    write(&file, TEST_CA, 0o644);
    assert!(matches!(Ca::load_files(&file, None), Err(CaError::KeyExposed { mode: 0o644, .. })));
}

#[test]
fn another_tools_ca_in_the_directory_is_left_alone() {
    let home = tempdir().unwrap();
    let other = home.path().join("mitmproxy-ca.pem");
    write(&other, TEST_CA_RSA, 0o644);
    let ca = Ca::load_or_create(home.path()).unwrap();
    assert!(ca.subject().starts_with("CN=manent CA "));
    assert_eq!(fs::read_to_string(&other).unwrap(), TEST_CA_RSA);
}

#[test]
fn two_files_that_do_not_belong_together_are_refused() {
    let home = tempdir().unwrap();
    let (cert, key) = (home.path().join("a.pem"), home.path().join("b.key"));
    write(&cert, include_str!("../../../certs/test-ca.pem"), 0o644);
    write(&key, TEST_CA_RSA, 0o600);
    let error = Ca::load_files(&cert, Some(&key)).unwrap_err();
    assert!(matches!(error, CaError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("b.key") && error.to_string().contains("a.pem"));
}

#[test]
fn what_is_no_ca_file_is_refused_with_a_reason() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let cert = include_str!("../../../certs/test-ca.pem");
    let cut = &TEST_CA[..TEST_CA.len() - 100];
    let garbled = TEST_CA.replace("M", "*");
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY") + cert;
    let kind = |text: &str| Ca::from_pem(text.as_bytes()).unwrap_err();
    assert!(matches!(kind(""), CaError::NoCertificate { .. }));
    assert!(matches!(kind("\0\u{1}ÿ not PEM at all"), CaError::NoCertificate { .. }));
    assert!(matches!(kind(&key), CaError::NoCertificate { .. }));
    assert!(matches!(kind(cert), CaError::NoKey { .. }));
    assert!(matches!(kind(cut), CaError::Pem { .. }));
    assert!(matches!(kind(&garbled), CaError::Pem { .. }));
    assert!(matches!(kind(&encrypted), CaError::KeyEncrypted { .. }));
    assert!(matches!(
        kind(&format!("{cert}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
        CaError::KeyUnusable { .. }
    ));
    assert!(matches!(
        Ca::load_files(Path::new("/none/x.pem"), None),
        Err(CaError::Io { operation: "read", .. })
    ));
}

/// A certificate of `params` with its key, as PEM.
fn made(change: impl FnOnce(&mut CertificateParams)) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    set_validity(&mut params, now_unix() - DAY, now_unix() + DAY);
    change(&mut params);
    params.self_signed(&key).unwrap().pem() + &key.serialize_pem()
}

#[test]
fn a_certificate_that_may_not_sign_is_refused() {
    let refused = |change: fn(&mut CertificateParams)| Ca::from_pem(made(change).as_bytes()).unwrap_err();
    assert!(Ca::from_pem(made(|_| {}).as_bytes()).is_ok());
    assert!(matches!(refused(|p| p.is_ca = IsCa::NoCa), CaError::NotCa { .. }));
    assert!(matches!(refused(|p| p.is_ca = IsCa::ExplicitNoCa), CaError::NotCa { .. }));
    assert!(matches!(refused(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]), CaError::NotCa { .. }));
    let expired = refused(|p| set_validity(p, 0, 1_700_000_000));
    assert!(expired.to_string().contains("expired on 2023-11-14"), "{expired}");
    let early = refused(|p| set_validity(p, now_unix() + DAY, now_unix() + 2 * DAY));
    assert!(matches!(early, CaError::NotYetValid { .. }));
}

/// rcgen keeps one value of each kind in a name, so that leaves of such a CA would name an issuer that no certificate
/// has. That must come out at start-up.
#[test]
fn a_ca_whose_name_cannot_be_repeated_is_refused() {
    let text = made(|params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), "AAAA");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 12]), "BBBB");
    });
    let mut blocks = crate::tls::pem::read(text.as_bytes()).unwrap();
    // Its second attribute becomes one of the first's kind; the signature is not looked at when a CA is read.
    let der = &mut blocks.certs[0];
    let title = [0x06, 0x03, 0x55, 0x04, 0x0c];
    while let Some(at) = der.windows(5).position(|window| window == title) {
        der[at + 4] = 0x0b;
    }
    let error = Ca::from_blocks(blocks, Path::new("x"), Path::new("x")).unwrap_err();
    assert!(error.to_string().contains("byte for byte"), "{error}");
}

#[test]
fn debug_and_messages_show_no_key() {
    let ca = Ca::from_pem(TEST_CA.as_bytes()).unwrap();
    let secret = include_str!("../../../certs/test-ca.key").lines().nth(1).unwrap();
    let leaves = Leaves::new(Arc::new(ca)).unwrap();
    let shown = format!("{leaves:?}{:?}", leaves.ca());
    assert!(shown.contains("never trust it") && !shown.contains(&secret[..20]) && !shown.contains("key: "));
}
