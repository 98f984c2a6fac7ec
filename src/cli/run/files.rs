//! The files that the variables of `run` point to, in a private directory that goes when the command has ended.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::truststore;

/// Paths of the files, all in `dir`.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Our certificate alone, PEM: for what adds to the roots it has.
    pub(super) ca: PathBuf,
    /// The system's roots and our certificate, PEM: for what replaces its roots.
    pub(super) bundle: PathBuf,
    /// The same as a Java trust store.
    pub(super) truststore: PathBuf,
    /// The user's own wget settings, and the bundle.
    pub(super) wgetrc: PathBuf,
    /// What an older Node.js has to load.
    pub(super) preload: PathBuf,
}

impl Files {
    /// Makes the directory and all files.
    ///
    /// # Errors
    /// If one cannot be written; what was written is removed again.
    pub(super) fn make(ca_pem: &str, ca_der: &[u8], user_wgetrc: Option<&Path>) -> io::Result<Self> {
        let dir = make_dir(&parent_dir())?;
        let path = |name| dir.join(name);
        let files = Self {
            ca: path("manent-ca.pem"),
            bundle: path("bundle.pem"),
            truststore: path("truststore.jks"),
            wgetrc: path("wgetrc"),
            preload: path("preload.cjs"),
            dir,
        };
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::info!(%error, "some of the system's roots cannot be read");
        }
        let mut roots: Vec<&[u8]> = system.certs.iter().map(AsRef::as_ref).collect();
        roots.push(ca_der);
        write(&files.ca, ca_pem.as_bytes())?;
        write(&files.bundle, roots.iter().map(|der| pem(der)).collect::<String>().as_bytes())?;
        write(&files.truststore, &truststore::jks(roots.iter().copied()))?;
        write(&files.preload, PRELOAD.as_bytes())?;
        let mut wgetrc = user_wgetrc.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        wgetrc.extend_from_slice(b"\nca_certificate = ");
        wgetrc.extend_from_slice(files.bundle.as_os_str().as_encoded_bytes());
        wgetrc.push(b'\n');
        write(&files.wgetrc, &wgetrc)?;
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::debug!(%error, "the temporary directory stays");
        }
    }
}

/// Where the session's own files belong, else where all temporary files do.
fn parent_dir() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.filter(|dir| dir.is_absolute() && dir.is_dir()).unwrap_or_else(std::env::temp_dir)
}

/// Makes a new directory that only its owner can enter. A name that somebody else took is not used.
fn make_dir(parent: &Path) -> io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        // Each `RandomState` is keyed by random numbers of the system's.
        let random = RandomState::new().build_hasher().finish();
        let dir = parent.join(format!("manent-run-{random:016x}"));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < MAX_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let base64 = STANDARD.encode(der);
    for start in (0..base64.len()).step_by(64) {
        text += &base64[start..base64.len().min(start + 64)];
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

const PRELOAD: &str = include_str!("preload.cjs");

/// One would do, with 64 random bits.
const MAX_TRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_go_with_the_value() {
        let home = tempfile::tempdir().expect("a directory");
        let user = home.path().join("wgetrc");
        std::fs::write(&user, "tries = 3").expect("writable");
        let files = Files::make("PEM", b"\x30\x00", Some(&user)).expect("writable");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&files.dir), mode(&files.bundle)), (0o700, 0o600));
        let bundle = std::fs::read_to_string(&files.bundle).expect("readable");
        assert!(bundle.ends_with("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"));
        let wgetrc = std::fs::read_to_string(&files.wgetrc).expect("readable");
        assert_eq!(wgetrc, format!("tries = 3\nca_certificate = {}\n", files.bundle.display()));
        let dir = files.dir.clone();
        drop(files);
        assert!(!dir.exists());
    }
}
