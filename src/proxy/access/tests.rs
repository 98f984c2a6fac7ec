//! Who is let in.

use super::*;

fn access(auth: Option<&str>, allow: &[&str]) -> Access {
    Access::new(AccessOptions {
        auth: auth.map(|auth| auth.parse().unwrap()),
        allow: allow.iter().map(|network| network.parse().unwrap()).collect(),
        open: false,
    })
}

#[test]
fn addresses_are_admitted_by_network() {
    let allowed = access(None, &["192.168.0.0/16", "fd00::/8"]);
    for (peer, admitted) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("192.168.3.4", true),
        ("::ffff:192.168.3.4", true),
        ("fd12::1", true),
        ("10.0.0.1", false),
        ("2001:db8::1", false),
        ("::ffff:10.0.0.1", false),
    ] {
        assert_eq!(allowed.admits(peer.parse().unwrap()), admitted, "{peer}");
    }
    assert!(access(None, &[]).admits("203.0.113.1".parse().unwrap()));
}

/// CVE-2021-3116 of proxy.py let in whoever sent something malformed: each of these is turned away.
#[tokio::test]
async fn only_the_right_credentials_are_let_in() {
    let access = access(Some("user:pa:ss"), &[]);
    let check = async |fields: &[&str]| {
        let headers: Headers = fields.iter().map(|value| ("Proxy-Authorization", *value)).collect();
        access.check(&headers).await.map_err(|error| (error.kind, error.message))
    };
    for right in ["Basic dXNlcjpwYTpzcw==", "basic dXNlcjpwYTpzcw", "BASIC   dXNlcjpwYTpzcw== "] {
        assert_eq!(check(&[right]).await, Ok(()), "{right}");
    }
    for wrong in [
        "",
        "Basic",
        "Basic ",
        "dXNlcjpwYTpzcw==",
        "BasicdXNlcjpwYTpzcw==",
        "Bearer dXNlcjpwYTpzcw==",
        "Basic user:pa:ss",
        "Basic dXNlcg==",
        "Basic dXNlcjo=",
        "Basic OnBhOnNz",
        "Basic Og==",
        "Basic !!!!",
        "Basic dXNlcjpwYQ==",
        "Basic VXNlcjpwYTpzcw==",
        "Basic dXNlcjpwYTpzcwo=",
        "Basic\tdXNlcjpwYTpzcw==",
        "Basic dXNlcjpwYTpzcw== x",
        "Basic dXNlcjpwYTpzcw==,Basic x",
        "Digest username=\"user\"",
    ] {
        let (kind, message) = check(&[wrong]).await.unwrap_err();
        assert_eq!(kind, Kind::Unauthorized, "{wrong}");
        assert!(!message.contains("pa:ss") && !message.contains("dXNl"), "{message}");
    }
    assert!(check(&[]).await.is_err());
    assert!(check(&["Basic dXNlcjpwYTpzcw==", "Basic dXNlcjpwYTpzcw=="]).await.is_err());
    for bad in ["", "user", "user:", ":pass", ":"] {
        assert!(bad.parse::<ProxyAuth>().is_err(), "{bad}");
    }
}

/// The hash of bcrypt is a test vector of its author's, for `U*U`, with the prefix that `htpasswd -B` writes.
#[tokio::test]
async fn htpasswd_files_are_read() {
    let bcrypt = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let text = format!("# users\n\nanna:{bcrypt}\nbert:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nbert:{bcrypt}\n");
    let auth = ProxyAuth::from_htpasswd(&text).unwrap();
    for _ in 0..2 {
        for (user, password, right) in [
            ("anna", "U*U", true),
            ("anna", "password", false),
            ("bert", "password", true),
            ("bert", "U*U", false),
            ("nobody", "U*U", false),
            ("", "", false),
        ] {
            assert_eq!(auth.verify(user.as_bytes(), password.as_bytes()).await, right, "{user} {password}");
        }
    }
    assert_eq!(format!("{auth:?}"), "ProxyAuth { users: 2, .. }");
}

#[test]
fn htpasswd_files_of_other_kinds_are_refused_without_quoting_them() {
    let kind = |what| HtpasswdError::Kind { line: 1, what };
    for (text, error) in [
        ("", HtpasswdError::Empty),
        ("# nobody\n", HtpasswdError::Empty),
        ("anna", HtpasswdError::Line { line: 1 }),
        (":x", HtpasswdError::Line { line: 1 }),
        ("anna:", HtpasswdError::Line { line: 1 }),
        ("anna:secret", kind("in clear, or DES")),
        ("anna:$apr1$2Bx4dJ1p$n0Tr3a1aB7n3j1q4o5c6e/", kind("MD5 of Apache's own kind")),
        ("anna:$6$salt$hash", kind("hashed in another way")),
        ("anna:{SHA}x", kind("a broken SHA-1")),
        ("anna:$2y$x", HtpasswdError::Bcrypt { line: 1, what: "the bcrypt hash is broken" }),
    ] {
        let told = ProxyAuth::from_htpasswd(text).unwrap_err();
        assert_eq!(told, error, "{text}");
        assert!(!told.to_string().contains("secret"));
    }
    let costly = format!("anna:{}", bcrypt::hash("x", 4).unwrap().replacen("$04$", "$16$", 1));
    assert!(matches!(ProxyAuth::from_htpasswd(&costly), Err(HtpasswdError::Bcrypt { line: 1, .. })));
}
