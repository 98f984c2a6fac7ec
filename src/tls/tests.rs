//! TLS from end to end, in memory: what clients see of our leaves, and what we make of origins.

use std::sync::Arc;

use super::*;

#[test]
fn first_start() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Arc::new(Ca::load_or_create(&dir.path().join("a/b")).unwrap());
    eprintln!("{ca:?} {}", ca.spki_sha256_base64());
    let leaves = Leaves::new(ca).unwrap();
    leaves.server_config("example.com", Alpn::Http11).unwrap();
    let now = std::time::Instant::now();
    for n in 0..2000 {
        leaves.server_config(&format!("h{n}.example.com"), Alpn::Http11).unwrap();
    }
    eprintln!("mint {:?}", now.elapsed() / 2000);
    let now = std::time::Instant::now();
    for _ in 0..2000 {
        leaves.server_config("h1999.example.com", Alpn::Http11).unwrap();
    }
    eprintln!("lookup {:?}", now.elapsed() / 2000);
}
