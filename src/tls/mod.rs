//! TLS on both legs: our CA and the leaves it signs, the check of origins, and handshakes in words.
//!
//! Two halves. Towards clients: [`Ca`] (made at the first start, or given; [`CaCert`] is what others get of it), [`Leaves`] (one certificate a name), and
//! [`hello`] (is a whole ClientHello there yet). Towards origins: [`Roots`] (whom we trust) and [`ClientTls`] (the
//! handshake). [`describe`](describe_client_side) and [`explain`] turn what happened into records and words.
//!
//! [`jks`] and [`write_cert_db`] put a certificate where Java and Firefox look.
//!
//! It opens no sockets and decides no policy. What it keeps: no key material in `Debug`, messages or records, and no
//! way to a handshake with an origin whose certificate was not checked, but for [`Verification::Off`].

mod ca;
mod ca_cert;
mod ca_files;
mod ca_rotate;
mod client;
mod client_cert;
mod constraints;
mod crl;
mod crypto;
mod describe;
mod explain;
pub mod hello;
mod host_cert;
mod leaf;
mod leaves;
mod mobileconfig;
mod name;
mod nss;
mod p12;
mod pem;
mod roots;
mod sessions;
#[cfg(test)]
mod tests;
mod truststore;

pub use ca::{Ca, CaError};
pub use ca_cert::CaCert;
pub use ca_rotate::Kept;
pub use client::{ClientTls, HandshakeError, Verification};
pub use constraints::{Constraints, Subtree, SubtreeError};
pub use describe::{describe_client_side, describe_hello, describe_server_side, read_hello};
pub use explain::{CERTIFICATE_REFUSED, explain, explain_client, explain_upstream, is_rejection, presented};
pub use host_cert::{HostCert, HostCertError};
pub use leaf::LeafError;
pub use leaves::{Alpn, Leaves};
pub use name::{NameError, server_name};
pub use nss::{NssError, write_cert_db};
pub use pem::{PemFileError, certificate, certificates, certificates_in};
pub use roots::{AddedRoots, Roots, RootsError, SystemRoots};
pub use truststore::{JKS_PASSWORD, jks};
