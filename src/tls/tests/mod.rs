//! TLS from end to end: what clients see of our leaves, what we make of origins, and the CA's files.

mod ca;
mod client_side;
mod origin;

use std::sync::Arc;

use super::Ca;

/// The CA of `certs/`.
fn test_ca() -> Arc<Ca> {
    Arc::new(Ca::from_pem(TEST_CA.as_bytes()).unwrap())
}

const TEST_CA: &str =
    concat!(include_str!("../../../certs/test-ca.key"), include_str!("../../../certs/test-ca.pem"));
const TEST_CA_SEC1: &str = include_str!("../../../certs/test-ca-sec1.pem");
const TEST_CA_RSA: &str = include_str!("../../../certs/test-ca-rsa.pem");
