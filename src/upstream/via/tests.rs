//! Upstream proxies without sockets: how they are named, who is exempt, and what is said to them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

fn proxy(url: &str) -> UpstreamProxy {
    url.parse().unwrap()
}

#[test]
fn proxies_are_named_by_urls() {
    for (url, shown) in [
        ("http://proxy.test", "http://proxy.test:80"),
        ("https://proxy.test/", "https://proxy.test:443"),
        (" SOCKS5://127.0.0.1 ", "socks5://127.0.0.1:1080"),
        ("socks5h://proxy:9050", "socks5://proxy:9050"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://u:p@h:1", "http://h:1"),
    ] {
        assert_eq!(proxy(url).to_string(), shown);
    }
    for bad in [
        "",
        "proxy.test:3128",
        "ftp://h",
        "http://",
        "http://:80",
        "http://h:0",
        "http://h:65536",
        "http://h:+1",
        "http://h:",
        "http://h/path",
        "http://h?q",
        "http://u@h",
        "http://u:%zz@h",
        "http://u:%4@h",
        "http://a%3ab:p@h",
        "socks5://:p@h",
        "socks5://u:@h",
        "http://[x]:1",
        "http://[::1",
        "http://h h",
        "http://u:%0a@h",
    ] {
        assert!(bad.parse::<UpstreamProxy>().is_err(), "{bad}");
    }
    let long = format!("socks5://u:{}@h", "p".repeat(256));
    assert!(long.parse::<UpstreamProxy>().is_err());
}

/// RFC 7617 §2's example, with escapes; nothing that is shown or recorded has it.
#[test]
fn credentials_are_sent_and_never_shown() {
    let proxy = proxy("http://Aladdin:open%20sesame@h:1");
    assert_eq!(proxy.authorization(), Some(&b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="[..]));
    for shown in [format!("{proxy}"), format!("{proxy:?}"), format!("{:?}", proxy.to_record())] {
        assert!(
            !shown.contains("Aladdin") && !shown.contains("sesame") && !shown.contains("QWxh"),
            "{shown}"
        );
    }
    assert_eq!("http://h".parse::<UpstreamProxy>().unwrap().authorization(), None);
}

/// The rows are curl's: `man curl` on `--noproxy`, and its own test of the matching.
#[test]
fn exempt_hosts_are_those_that_curl_would_take() {
    for (list, covered, others) in [
        ("", &[][..], &["a", "127.0.0.1"][..]),
        ("*", &["a", "1.2.3.4", "[::1]"], &[]),
        (
            "local.com",
            &["local.com", "www.local.com", "LOCAL.com.", "a.b.local.com"],
            &["www.notlocal.com", "com"],
        ),
        (".local.com", &["local.com", "www.local.com"], &["xlocal.com"]),
        ("a.test, b.test c.test", &["a.test", "b.test", "x.c.test"], &["d.test"]),
        ("localhost,10.0.0.0/8", &["localhost", "10.1.2.3"], &["127.0.0.1", "11.0.0.0", "x10.0.0.1"]),
        ("192.0.2.1", &["192.0.2.1"], &["192.0.2.10", "1.192.0.2.1"]),
        ("[fd00::]/8,fd00::/8,::1", &["[fd01::1]", "fd01::1", "[::1]"], &["fe80::1", "[::2]"]),
    ] {
        let list = NoProxy::lenient(list);
        for host in covered {
            assert!(list.covers(host), "{host} in {list:?}");
        }
        for host in others {
            assert!(!list.covers(host), "{host} not in {list:?}");
        }
    }
    assert!("a.test:80".parse::<NoProxy>().is_err() && "10.0.0.0/99".parse::<NoProxy>().is_err());
    // Another program's list is taken for what it has that we know.
    let list = NoProxy::lenient("a.test:80,b.test,10.0.0.0/99");
    assert!(list.covers("b.test") && !list.covers("a.test"));
}

#[test]
fn exempt_hosts_go_directly() {
    let via = Via::new(proxy("http://h:1"), "a.test".parse().unwrap());
    assert!(via.proxy_for("x.a.test").is_none());
    assert_eq!(via.proxy_for("b.test").map(|proxy| proxy.to_string()).as_deref(), Some("http://h:1"));
}

#[test]
fn absolute_forms() {
    for (path, expected) in [("/a?b", "http://h:1/a?b"), ("*", "http://h:1"), ("/", "http://h:1/")] {
        assert_eq!(absolute_form(b"h:1", path.as_bytes()), expected.as_bytes());
    }
}

/// Asks a proxy that says `answer`: what it was sent, and what came of it.
async fn ask(url: &str, host: &str, answer: &[u8]) -> (Vec<u8>, Result<BytesMut, String>) {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let (mut far_in, mut far_out): (_, tokio::io::WriteHalf<DuplexStream>) = tokio::io::split(far);
    far_out.write_all(answer).await.unwrap();
    far_out.shutdown().await.unwrap();
    let opened = open_tunnel(&mut near, &proxy(url), host, 443).await.map_err(|error| error.to_string());
    drop(near);
    let mut sent = Vec::new();
    far_in.read_to_end(&mut sent).await.unwrap();
    (sent, opened)
}

/// CN-14 to CN-17: brackets and punycode as they are, credentials, 1xx, what comes behind the head.
#[tokio::test]
async fn http_proxies_are_asked_by_connect() {
    let ok = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (sent, opened) = ask("http://u:p@h:1", "2001:db8::1", ok).await;
    let expected = "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
    assert_eq!(String::from_utf8(sent).unwrap(), expected);
    assert_eq!(&opened.unwrap()[..], b"hello");
    let (sent, opened) =
        ask("http://h:1", "xn--eckwd4c7c.xn--zckzah", b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 299 x\r\n\r\n").await;
    assert!(
        sent.starts_with(b"CONNECT xn--eckwd4c7c.xn--zckzah:443 HTTP/1.1\r\n") && opened.unwrap().is_empty()
    );
}

#[tokio::test]
async fn what_an_http_proxy_says_instead_is_told() {
    let endless = "HTTP/1.1 100 C\r\n\r\n".repeat(17);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000));
    for (answer, expected) in [
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "refused to connect to o.test:443: 502 Bad Gateway"),
        (
            "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
            "wants credentials: 407 Who (give them as user:pass@ in its URL)",
        ),
        (
            "HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "wants Negotiate or NTLM credentials, we have Basic alone: 407 Who",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "refused to connect to o.test:443: 101 Switching Protocols",
        ),
        ("", "closed the connection instead of an answer"),
        ("HTTP/1.1 200 OK\r\n", "closed the connection instead of an answer"),
        ("SSH-2.0-x\r\n\r\n", "does not speak HTTP: its answer begins with something else"),
        (&endless, "does not speak HTTP: no end of 1xx responses"),
        (&long, "does not speak HTTP: its answer has a head of more than 65536 bytes"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "does not speak HTTP: malformed status line"),
    ] {
        let (_, opened) = ask("http://h:1", "o.test", answer.as_bytes()).await;
        assert_eq!(opened.unwrap_err(), expected);
    }
    let (_, refused) = ask("http://u:p@h:1", "o.test", b"HTTP/1.1 407 Who\r\n\r\n").await;
    assert_eq!(refused.unwrap_err(), "does not take the credentials that it was given: 407 Who");
}

#[tokio::test]
async fn socks5_proxies_are_asked_for_addresses_and_names() {
    let yes = b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    for (host, asked) in [
        ("127.0.0.1", &b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"[..]),
        ("::1", b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"),
        ("o.test", b"\x05\x01\x00\x05\x01\x00\x03\x06o.test\x01\xbb"),
    ] {
        let (sent, opened) = ask("socks5://h", host, yes).await;
        assert_eq!(sent.escape_ascii().to_string(), asked.escape_ascii().to_string());
        assert!(opened.unwrap().is_empty());
    }
    // With credentials, and a reply with a name in it.
    let yes = b"\x05\x02\x01\x00\x05\x00\x00\x03\x01x\x00\x00";
    let (sent, opened) = ask("socks5://us%65r:pa%3ass@h", "o.test", yes).await;
    assert!(
        sent.starts_with(b"\x05\x02\x00\x02\x01\x04user\x05pa:ss\x05\x01\x00\x03"),
        "{}",
        sent.escape_ascii()
    );
    assert!(opened.is_ok());
    // It is content without them.
    let (sent, _) = ask("socks5://user:pass@h", "o.test", b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0").await;
    assert!(!sent.windows(4).any(|part| part == b"pass"));
}

#[tokio::test]
async fn what_a_socks5_proxy_says_instead_is_told() {
    let credentials = "does not take the credentials that it was given";
    for (url, answer, expected) in [
        ("socks5://h", &b"\x05\xff"[..], "wants credentials (give them as user:pass@ in its URL)"),
        ("socks5://h", b"\x05\x02", "wants credentials (give them as user:pass@ in its URL)"),
        ("socks5://u:p@h", b"\x05\xff", "takes neither no credentials nor user and password"),
        ("socks5://u:p@h", b"\x05\x02\x01\x01", credentials),
        ("socks5://h", b"\x05", "closed the connection instead of an answer"),
        ("socks5://h", b"\x04\x5b", "does not speak SOCKS5: its answer begins with the byte 0x04"),
        (
            "socks5://h",
            b"HTTP/1.1 400 x",
            "does not speak SOCKS5: it speaks HTTP, perhaps (http:// in its URL)",
        ),
        (
            "socks5://h",
            b"\x05\x00\x05\x05\x00\x01",
            "refused to connect to o.test:443: connection refused (SOCKS5 reply 5)",
        ),
        (
            "socks5://h",
            b"\x05\x00\x05\x63\x00\x01",
            "refused to connect to o.test:443: unknown reply (SOCKS5 reply 99)",
        ),
        (
            "socks5://h",
            b"\x05\x00\x05\x00\x00\x09",
            "does not speak SOCKS5: its reply has an address of kind 9",
        ),
        ("socks5://h", b"\x05\x00\x05\x00\x00\x01\0\0", "closed the connection instead of an answer"),
    ] {
        let (_, opened) = ask(url, "o.test", answer).await;
        assert_eq!(opened.unwrap_err(), expected);
    }
    let (sent, opened) = ask("socks5://h", &"a".repeat(256), b"").await;
    assert!(opened.unwrap_err().starts_with("cannot be asked for") && sent.is_empty());
}
