//! `ca export`: each form holds the certificate and nothing of the key, and no file is written over unasked.

use std::fs;

use base64::Engine as _;
use manent::tls::Ca;

use super::cert;
use crate::cli::{Home, text};

#[test]
fn each_form_holds_the_certificate_and_no_key() {
    let home = Home::new();
    home.run(&["ca", "create"]);
    let ca = Ca::load(&home.dir.path().join("ca")).unwrap();
    let der = ca.cert_der();
    let key = fs::read_to_string(cert(&home).with_extension("key")).unwrap();
    let secret: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let secret = base64::engine::general_purpose::STANDARD.decode(secret).unwrap();
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    for form in ["pem", "der", "p12", "mobileconfig", "java"] {
        let output = home.run(&["ca", "export", "--format", form]);
        assert_eq!(output.status.code(), Some(0), "{form}: {}", text(&output.stderr));
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        let flat: Vec<u8> = output.stdout.iter().copied().filter(|byte| *byte != b'\n').collect();
        assert!(holds(&output.stdout, der) || holds(&flat, base64.as_bytes()), "{form}");
        // The last bytes of a P-256 key in PKCS#8 are its public half, which the certificate has, too.
        assert!(!holds(&output.stdout, &secret[..67]) && !holds(&flat, b"PRIVATE KEY"), "{form}");
    }
}

#[test]
fn files_are_written_over_only_if_that_is_asked_for() {
    let home = Home::new();
    let file = home.path("out.cer");
    let out = file.to_str().unwrap();
    assert_eq!(home.run(&["ca", "export", "--format", "der", "-o", out]).status.code(), Some(0));
    let first = fs::read(&file).unwrap();
    home.refuses(&["ca", "export", "-o", out], 2, "error[E703]");
    assert_eq!(fs::read(&file).unwrap(), first);
    assert_eq!(home.run(&["ca", "export", "-o", out, "--force"]).status.code(), Some(0));
    assert!(fs::read_to_string(&file).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    home.refuses(&["ca", "export", "-o", "/no/such/dir/x.pem"], 1, "error[E209]: cannot write");
    home.refuses(&["ca", "export", "--format", "jks"], 2, "invalid value 'jks'");
    let p12 = home.run(&["ca", "export", "--format", "p12", "-o", home.path("m.p12").to_str().unwrap()]);
    assert!(text(&p12.stderr).contains("its password, which programs may ask for: changeit"));
}
