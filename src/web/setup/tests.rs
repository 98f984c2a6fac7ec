//! The page by itself: what it says to whom, and that nothing in it can be made to say something else.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use super::*;
use crate::flow::{ClientConn, Request, Scheme, Target};
use crate::proxy::Way;

fn setup() -> SetupPage {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "<b>\"bold\" & co</b>");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    SetupPage::new("manent".into(), Arc::new(Ca::from_pem(pem.as_bytes()).unwrap()))
}

/// What the page answers to who came so.
fn ask(way: Way, host: &str, mode: &str, listeners: &[&str], path: &str) -> Response {
    let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
    let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let client = ClientConn { mode: mode.into(), local: Some(local.into()), ..ClientConn::default() };
    let port = if way == Way::Named { 80 } else { 8080 };
    let target = Target { scheme: Scheme::Http, host: host.into(), port };
    let headers = [("User-Agent", "<script>curl/8</script>")].into_iter().collect();
    let request = Request { method: "GET".into(), headers, ..Request::default() };
    let visit = Visit {
        request: &request,
        path: path.as_bytes(),
        target: &target,
        way,
        client: &client,
        listeners: &listeners,
        asks: false,
    };
    setup().answer(&visit)
}

fn text(response: &Response) -> String {
    String::from_utf8(response.body.as_inline().unwrap().to_vec()).unwrap()
}

#[test]
fn every_place_is_filled_and_every_value_escaped() {
    for (way, host, mode, listeners) in [
        (Way::Named, "manent", "explicit", &["127.0.0.1:8080"][..]),
        (Way::Named, "manent", "socks5", &[]),
        (Way::Opened, "127.0.0.1", "explicit", &["192.0.2.7:8080"]),
        (Way::Opened, "<i>'\"&</i>", "explicit", &["127.0.0.1:8080"]),
    ] {
        let page = text(&ask(way, host, mode, listeners, "/?a=<b>"));
        assert!(!page.contains("{{") && !page.contains("}}"), "{page}");
        assert!(!page.contains("<i>") && !page.contains("<b>") && !page.contains("<script"), "{page}");
        assert!(page.contains("&lt;b&gt;&quot;bold&quot; &amp; co&lt;/b&gt;"), "{page}");
    }
}

#[test]
fn a_code_is_shown_where_a_phone_can_come() {
    let shown = |way, host, listeners: &[&str]| text(&ask(way, host, "explicit", listeners, "/"));
    let alone = shown(Way::Named, "manent", &["127.0.0.1:8080"]);
    assert!(alone.contains("Only the machine that manent runs on can reach it") && !alone.contains("<svg"));
    let named = shown(Way::Named, "manent", &["127.0.0.1:8080", "192.0.2.7:8081"]);
    assert!(named.contains("<svg") && named.contains(">http://192.0.2.7:8081/</a>"), "{named}");
    // By the address that worked for who asks.
    let opened = shown(Way::Opened, "192.0.2.9", &["0.0.0.0:8080"]);
    assert!(opened.contains(">http://192.0.2.9:8080/</a>"), "{opened}");
}

#[test]
fn addresses_are_those_that_the_client_came_to() {
    let named = text(&ask(Way::Named, "manent", "explicit", &["127.0.0.1:8080"], "/"));
    assert!(named.contains("data=\"https://manent/trusted.svg\""), "{named}");
    assert!(named.contains("http://127.0.0.1:8080/proxy.pac") && named.contains("Yes."));
    let opened = ask(Way::Opened, "::1", "explicit", &["[::1]:8080"], "/");
    assert!(text(&opened).contains("data=\"https://[::1]:8080/trusted.svg\""));
    let policy = String::from_utf8_lossy(opened.headers.get("content-security-policy").unwrap()).into_owned();
    assert!(policy.contains("object-src https:;"), "{policy}");
    let socks = text(&ask(Way::Named, "manent", "socks5", &[], "/"));
    assert!(socks.contains("SOCKS5 proxy") && !socks.contains("proxy.pac"), "{socks}");
}
