//! A CA made, replaced or brought in by hand. What was there is kept beside it under the day's name, never overwritten.
//!
//! A pair of files cannot be replaced at one stroke. Whoever replaces it holds a lock on the directory, so that two at once come
//! one after the other. The key goes first: a start that comes in between, or after a power cut in between, is told that the two
//! do not belong together, and a rotation mends that.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use super::ca::{Ca, CaError, self_signed};
use super::ca_files::{self, Temporary, exists, io, paths, place};
use super::{Constraints, crypto, pem};

/// The files of a CA that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its certificate; `None` if there was a key alone.
    pub cert: Option<PathBuf>,
    /// Its key; `None` if there was a certificate alone.
    pub key: Option<PathBuf>,
}

impl Ca {
    /// Makes a CA in `dir` that may sign for what `only` permits. A key that has no certificate is used.
    ///
    /// # Errors
    /// [`CaError::Exists`] if there is one; else as [`Ca::load_or_create`].
    pub fn create(dir: &Path, only: &Constraints) -> Result<Self, CaError> {
        if exists(&paths(dir).0)? || !ca_files::make(dir, only)? {
            return Err(CaError::Exists { dir: dir.into() });
        }
        Self::load(dir)
    }

    /// Makes a new CA in `dir`, which may sign for what `only` permits, in the place of the one that is there, whatever
    /// state that is in. Processes that have loaded it go on with it.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn rotate(dir: &Path, only: &Constraints) -> Result<(Self, Kept), CaError> {
        let make = |error: rcgen::Error| CaError::Make { reason: error.to_string() };
        let key = KeyPair::generate().map_err(make)?;
        let cert = pem::certificate(&self_signed(&key, only, crypto::now_unix())?);
        replace(dir, &cert, &key.serialize_pem())
    }

    /// Brings this CA, with its key and what leads on to its root, into `dir`, which has none.
    ///
    /// # Errors
    /// [`CaError::Exists`] if there is one, or a key of one; else when a file cannot be made.
    pub fn import(&self, dir: &Path) -> Result<Self, CaError> {
        let (cert, key) = paths(dir);
        let there = || CaError::Exists { dir: dir.into() };
        if exists(&cert)? || exists(&key)? {
            return Err(there());
        }
        ca_files::make_dir(dir)?;
        let of_key = self.issuer.key().serialize_pem();
        if !(place(&key, of_key.as_bytes(), 0o600)? && place(&cert, self.chain_pem().as_bytes(), 0o644)?) {
            return Err(there());
        }
        Self::load(dir)
    }

    /// As [`Ca::import`], in the place of the one that is there.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn import_over(&self, dir: &Path) -> Result<(Self, Kept), CaError> {
        replace(dir, &self.chain_pem(), &self.issuer.key().serialize_pem())
    }

    fn chain_pem(&self) -> String {
        self.presented.iter().map(|cert| pem::certificate(cert)).collect()
    }
}

impl Kept {
    /// The certificates of all CAs that were replaced in `dir`, by name and so by day.
    ///
    /// # Errors
    /// When the directory cannot be read; that it is not there is none.
    pub fn certificates(dir: &Path) -> Result<Vec<PathBuf>, CaError> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io("list", dir))?,
        };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            name.starts_with("manent-ca-") && name.ends_with(".pem")
        });
        found.sort();
        Ok(found)
    }
}

/// Puts a pair in the place of the one that is there, and loads it.
fn replace(dir: &Path, cert_pem: &str, key_pem: &str) -> Result<(Ca, Kept), CaError> {
    ca_files::make_dir(dir)?;
    let directory = fs::File::open(dir).map_err(io("open", dir))?;
    match directory.lock() {
        // Of some file systems that are shared; there it is as if nobody else were at it.
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        locked => locked.map_err(io("lock", dir))?,
    }
    let (cert, key) = paths(dir);
    let (new_cert, new_key) = (
        Temporary::write(&cert, cert_pem.as_bytes(), 0o644)?,
        Temporary::write(&key, key_pem.as_bytes(), 0o600)?,
    );
    let kept = keep(&cert, &key)?;
    new_key.replace(&key)?;
    new_cert.replace(&cert)?;
    // The names, too, survive a power cut.
    directory.sync_all().map_err(io("sync", dir))?;
    // What is loaded is what was made here: the next one waits until the lock goes with `directory`.
    Ok((Ca::load(dir)?, kept))
}

/// Gives both files, where they are there, a second name, which is free: that of the day.
fn keep(cert: &Path, key: &Path) -> Result<Kept, CaError> {
    let day = crypto::date(crypto::now_unix()).replace('-', "");
    for count in 1..=MOST_A_DAY {
        let stem = if count == 1 { format!("manent-ca-{day}") } else { format!("manent-ca-{day}-{count}") };
        let (kept_cert, kept_key) =
            (cert.with_file_name(format!("{stem}.pem")), cert.with_file_name(format!("{stem}.key")));
        if exists(&kept_cert)? || exists(&kept_key)? {
            continue;
        }
        let link = |from: &Path, to: PathBuf| match fs::hard_link(from, &to) {
            Ok(()) => Ok(Some(to)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("create", &to)(error)),
        };
        return Ok(Kept { cert: link(cert, kept_cert)?, key: link(key, kept_key)? });
    }
    Err(CaError::Make { reason: format!("{MOST_A_DAY} were replaced today") })
}

/// More is a script that runs wild.
const MOST_A_DAY: u32 = 1000;
