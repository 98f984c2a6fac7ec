//! `ca create`, `rotate` and `import`: what is made, what is kept, and what is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use manent::tls::Ca;

use super::cert;
use crate::cli::{Home, parse, text};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A file that only its owner can read.
fn private(home: &Home, name: &str, content: &str) -> String {
    let path = home.path(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn create_makes_one_and_never_a_second() {
    let home = Home::new();
    let made = home.run(&["ca", "create"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let told = text(&made.stderr);
    assert!(told.contains("made a CA: CN=manent CA ") && told.contains("sha256   "), "{told}");
    let before = fs::read(cert(&home)).unwrap();
    assert_eq!((mode(&cert(&home)), mode(&cert(&home).with_extension("key"))), (0o644, 0o600));
    let told = home.refuses(&["ca", "create"], 2, "error[E607]: there is a CA in");
    assert!(told.contains("Nothing was changed.") && told.contains("hint: manent ca rotate"), "{told}");
    assert_eq!(fs::read(cert(&home)).unwrap(), before);
}

#[test]
fn create_only_limits_it_and_says_so() {
    let home = Home::new();
    let made =
        home.run(&["ca", "create", "--only", "example.com,10.0.0.0/8", "--only", "*.b.test", "--json"]);
    let made = parse(&made.stdout);
    assert_eq!(made["only"], serde_json::json!(["example.com", "10.0.0.0/8", "b.test"]));
    let ca = Ca::load(&home.dir.path().join("ca")).unwrap();
    for (host, permitted) in
        [("www.example.com", true), ("10.1.1.1", true), ("a.b.test", true), ("a.test", false), ("::1", false)]
    {
        assert_eq!(ca.permits(host), permitted, "{host}");
    }
}

#[test]
fn create_only_refuses_what_is_neither_domain_nor_range() {
    let home = Home::new();
    home.refuses(
        &["ca", "create", "--only", "https://a.test"],
        2,
        "neither a domain (example.com) nor a range",
    );
    home.refuses(&["ca", "create", "--only", "10.1.1.1/8"], 2, "is written 10.0.0.0/8");
    home.refuses(&["ca", "create", "--only", "10.0.0.0/40"], 2, "a number up to 32");
    home.refuses(&["ca", "create", "--only"], 2, "--only");
    assert!(!cert(&home).exists());
}

#[test]
fn rotate_keeps_the_old_one_and_its_limits_under_names_of_their_own() {
    let home = Home::new();
    home.run(&["ca", "create", "--only", "example.com"]);
    let (first, first_key) =
        (fs::read(cert(&home)).unwrap(), fs::read(cert(&home).with_extension("key")).unwrap());
    let rotated = home.run(&["ca", "rotate", "--json"]);
    assert_eq!(rotated.status.code(), Some(0), "{}", text(&rotated.stderr));
    let rotated = parse(&rotated.stdout);
    assert_eq!(rotated["only"], serde_json::json!(["example.com"]));
    let (kept, kept_key) =
        (rotated["kept_certificate"].as_str().unwrap(), rotated["kept_key"].as_str().unwrap());
    assert_eq!((fs::read(kept).unwrap(), fs::read(kept_key).unwrap()), (first.clone(), first_key));
    assert_eq!((mode(Path::new(kept_key)), mode(&cert(&home).with_extension("key"))), (0o600, 0o600));
    assert_ne!(fs::read(cert(&home)).unwrap(), first);

    let again = home.run(&["ca", "rotate", "--any-host"]);
    let told = text(&again.stderr);
    assert!(told.contains("-2.pem") && told.contains("manent ca uninstall --old"), "{told}");
    let dir = home.dir.path().join("ca");
    assert!(!Ca::load(&dir).unwrap().is_constrained());
    assert_eq!(fs::read(kept).unwrap(), first, "the first one is still there");
    assert_eq!(names(&dir).len(), 6, "three pairs and nothing else: {:?}", names(&dir));
}

/// A file that is damaged, or belongs to another key, is what people rotate for.
#[test]
fn rotate_mends_whatever_is_there() {
    let home = Home::new();
    home.run(&["ca", "create"]);
    let key = cert(&home).with_extension("key");
    fs::write(&key, "no key").unwrap();
    home.refuses(&["ca", "status"], 6, "error[E601]");
    assert_eq!(home.run(&["ca", "rotate"]).status.code(), Some(0));
    assert!(Ca::load(&home.dir.path().join("ca")).is_ok());
    fs::remove_file(&key).unwrap();
    assert_eq!(home.run(&["ca", "rotate"]).status.code(), Some(0));
    let fresh = Home::new();
    assert_eq!(fresh.run(&["ca", "rotate"]).status.code(), Some(0), "and where nothing is");
}

/// A certificate that cannot be read was taken for one without limits, so that the new one signed for every host.
#[test]
fn rotate_asks_for_the_limits_that_it_cannot_read() {
    for (damage, given) in [("key", ["--only", "example.com"].as_slice()), ("cut", ["--any-host"].as_slice())]
    {
        let home = Home::new();
        home.run(&["ca", "create", "--only", "example.com"]);
        let pem = fs::read_to_string(cert(&home)).unwrap();
        let key = fs::read_to_string(cert(&home).with_extension("key")).unwrap();
        let damaged = if damage == "key" { pem + &key } else { pem[..pem.len() / 2].to_owned() };
        fs::write(cert(&home), &damaged).unwrap();
        let told = home.refuses(&["ca", "rotate"], 6, "error[E601]: what the CA in ");
        assert!(told.contains("hint: manent ca rotate --only ") && told.contains("--any-host"), "{told}");
        assert_eq!(fs::read_to_string(cert(&home)).unwrap(), damaged, "nothing was changed");
        assert_eq!(home.run(&[["ca", "rotate"].as_slice(), given].concat()).status.code(), Some(0));
        let ca = Ca::load(&home.dir.path().join("ca")).unwrap();
        assert_eq!(ca.is_constrained(), damage == "key");
    }
}

/// Root can read every key. One that another user owns is known to that user, whatever its mode, and can be replaced by them.
/// Only root can give a file away: that nobody else comes into this is what is seen where the tests run as somebody else. (Whose
/// key is refused is tested beside the check, in `tls/ca_files.rs`.)
#[test]
fn a_key_of_another_user_is_refused() {
    let home = Home::new();
    home.run(&["ca", "create"]);
    let key = cert(&home).with_extension("key");
    let given = chown(&key, Some(NOBODY), None);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(given.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(home.run(&["ca", "path"]).status.code(), Some(0));
        return;
    }
    given.unwrap();
    let told = home.refuses(&["ca", "status"], 6, "error[E601]: cannot use the key in ");
    assert!(told.contains("it belongs to user 65534") && told.contains("chown 0 '"), "{told}");
    let other = private(&home, "b.pem", include_str!("../../../certs/test-ca-rsa.pem"));
    chown(&other, Some(NOBODY), None).unwrap();
    home.refuses(&["ca", "import", "--rotate", &other], 6, "it belongs to user 65534");
    chown(&key, Some(0), None).unwrap();
    assert_eq!(home.run(&["ca", "path"]).status.code(), Some(0));
}

/// As in `install`.
const NOBODY: u32 = 65_534;

#[test]
fn import_takes_two_files_or_one_and_makes_the_key_private() {
    let pem = include_str!("../../../certs/test-ca.pem");
    let key = include_str!("../../../certs/test-ca.key");
    for combined in
        [include_str!("../../../certs/test-ca-rsa.pem"), include_str!("../../../certs/test-ca-sec1.pem")]
    {
        let home = Home::new();
        let file = private(&home, "mitmproxy-ca.pem", combined);
        let imported = home.run(&["ca", "import", &file]);
        assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
        assert_eq!(mode(&cert(&home).with_extension("key")), 0o600);
        assert!(!fs::read_to_string(cert(&home)).unwrap().contains("PRIVATE"));
        assert!(Ca::load(&home.dir.path().join("ca")).is_ok());
    }
    let home = Home::new();
    let (pem, key) = (private(&home, "a.pem", pem), private(&home, "a.key", key));
    assert_eq!(home.run(&["ca", "import", &pem, &key]).status.code(), Some(0));
    home.refuses(&["ca", "import", &pem, &key], 2, "error[E607]");
    let told = text(&home.run(&["ca", "import", &pem, &key, "--rotate"]).stderr);
    assert!(told.contains("brought in a CA: O=manent tests") && told.contains("kept     "), "{told}");
}

#[test]
fn import_refuses_what_could_not_sign_and_leaves_no_trace() {
    let home = Home::new();
    let pem = private(&home, "a.pem", include_str!("../../../certs/test-ca.pem"));
    let other = private(&home, "b.pem", include_str!("../../../certs/test-ca-rsa.pem"));
    home.refuses(&["ca", "import", &pem], 6, "holds no private key; name the file that does as well");
    home.refuses(&["ca", "import", &pem, &other], 6, "does not belong to the certificate");
    home.refuses(&["ca", "import", "/no/such.pem"], 6, "cannot read /no/such.pem");
    let leaf = {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        params.self_signed(&key).unwrap().pem() + &key.serialize_pem()
    };
    home.refuses(&["ca", "import", &private(&home, "leaf.pem", &leaf)], 6, "is not a CA's");
    fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
    home.refuses(&["ca", "import", &other], 6, "can be read by others");
    assert!(!home.dir.path().join("ca").exists());
}
