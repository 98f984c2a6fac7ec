//! `manent ca`: making, replacing, bringing in, handing out and installing the certificate; stores of trust in directories of
//! the test's own. With the real tools, see tests/clients/trust.rs.

mod at_once;
mod export;
mod install;
mod make;

use std::path::PathBuf;

use crate::cli::Home;

/// The certificate in the CA directory.
fn cert(home: &Home) -> PathBuf {
    home.dir.path().join("ca/manent-ca.pem")
}
