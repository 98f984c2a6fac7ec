//! The CA's files: made once, never overwritten, and refused when others can read the key or own it.
//!
//! The pair is `manent-ca.pem` (the certificate, nothing else, so that it can be handed round) and `manent-ca.key`.
//! Any other file in the directory is left alone, such as another tool's CA.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use super::ca::{Ca, CaError, read_pem, self_signed};
use super::{Constraints, crypto, pem};

impl Ca {
    /// Loads the CA of `dir`, making the directory (mode 0700), key (0600) and certificate where they are not there.
    ///
    /// Two first starts at once agree: each file gets its name by a link that fails where the name is taken, the key
    /// before the certificate, and both are read back. Whoever comes second uses what the first one made. A start
    /// that ended in between leaves a key without certificate, for which the next start makes one.
    ///
    /// # Errors
    /// When a file cannot be made, or what is there is refused; see [`CaError`].
    pub fn load_or_create(dir: &Path) -> Result<Self, CaError> {
        // The order matters: where there is a certificate, its key was there before it.
        if !exists(&paths(dir).0)? {
            make(dir, &Constraints::default())?;
        }
        Self::load(dir)
    }

    /// Loads the CA of `dir`.
    ///
    /// # Errors
    /// When there is none, or what is there is refused; see [`CaError`].
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let (cert, key) = paths(dir);
        if !exists(&cert)? {
            return Err(CaError::Missing { dir: dir.into() });
        }
        if !exists(&key)? {
            return Err(CaError::KeyMissing { cert, key });
        }
        Self::load_files(&cert, Some(&key))
    }

    /// Loads a CA from a file with certificates and, unless `key` names another file, their key: one or more PEM
    /// blocks in any order, such as mitmproxy's `mitmproxy-ca.pem`. The files are never changed.
    ///
    /// # Errors
    /// When a file cannot be read, can be read by others or is another user's though it holds a key, or is refused; see
    /// [`CaError`].
    pub fn load_files(cert: &Path, key: Option<&Path>) -> Result<Self, CaError> {
        let (access, text) = read(cert)?;
        let mut blocks = read_pem(&text, cert)?;
        if let Some(key) = key {
            let of_key = read_pem(&read_secret(key)?, key)?;
            blocks.keys = of_key.keys;
            blocks.encrypted_key = of_key.encrypted_key;
        } else if !blocks.keys.is_empty() {
            refuse_exposed(cert, access)?;
        }
        let from = key.unwrap_or(cert);
        Ok(Self::from_blocks(blocks, cert, from)?.at(cert.into()))
    }
}

/// Makes a CA in `dir`, or the certificate alone where there is a key that has none. `false`: another start was quicker.
pub(super) fn make(dir: &Path, only: &Constraints) -> Result<bool, CaError> {
    let (cert, key) = paths(dir);
    make_dir(dir)?;
    if !exists(&key)? {
        let fresh = KeyPair::generate().map_err(|error| CaError::Make { reason: error.to_string() })?;
        place(&key, fresh.serialize_pem().as_bytes(), 0o600)?;
    }
    let blocks = read_pem(&read_secret(&key)?, &key)?;
    let usable = blocks.keys.iter().flatten().find_map(|form| KeyPair::try_from(form).ok());
    let Some(pair) = usable else { return Err(CaError::KeyUnusable { path: key }) };
    let text = pem::certificate(&self_signed(&pair, only, crypto::now_unix())?);
    place(&cert, text.as_bytes(), 0o644)
}

/// Makes the directory, for its owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), CaError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create", dir))
}

/// Certificate and key of the CA of `dir`.
pub(super) fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("manent-ca.pem"), dir.join("manent-ca.key"))
}

/// Gives `path` its content if it has none, whole or not at all. `false`: it has some.
pub(super) fn place(path: &Path, content: &[u8], mode: u32) -> Result<bool, CaError> {
    let temporary = Temporary::write(path, content, mode)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io("create", path)(error)),
    }
}

/// A file beside the one that it is to become, synced. It goes with the value, unless it has become that.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// One to become `path`.
    pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<Self, CaError> {
        let mut random = [0; 8];
        crypto::fill_random(&mut random)
            .map_err(|_| CaError::Make { reason: "the system has no random numbers".into() })?;
        let temporary = Self(path.with_extension(format!("{:016x}.tmp", u64::from_be_bytes(random))));
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(mode).open(&temporary.0);
        opened
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .map_err(io("create", path))?;
        Ok(temporary)
    }

    /// Puts it in the place of `path`, whatever is there.
    pub(super) fn replace(self, path: &Path) -> Result<(), CaError> {
        fs::rename(&self.0, path).map_err(io("write", path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may not be there at all; if it stays, it is a file of ours with the same mode and no use to anyone.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(io("look for", path))
}

/// Who has which rights to a file.
#[derive(Clone, Copy)]
pub(super) struct FileAccess {
    /// Permission bits.
    mode: u32,
    /// The number of the user.
    owner: u32,
}

/// Rights and content. Asked of the open file, so that both are of the same one.
pub(super) fn read(path: &Path) -> Result<(FileAccess, Vec<u8>), CaError> {
    let mut content = Vec::new();
    let of_open = fs::File::open(path).and_then(|file| {
        let found = file.metadata()?;
        file.take(MAX_FILE).read_to_end(&mut content)?;
        Ok(FileAccess { mode: found.permissions().mode() & 0o7777, owner: found.uid() })
    });
    Ok((of_open.map_err(io("read", path))?, content))
}

fn read_secret(path: &Path) -> Result<Vec<u8>, CaError> {
    let (access, content) = read(path)?;
    refuse_exposed(path, access)?;
    Ok(content)
}

/// A key that another user owns is theirs, whatever its mode: root can read it, and what it signs would be trusted. Root's own
/// is nothing that the user could be protected from.
fn refuse_exposed(path: &Path, access: FileAccess) -> Result<(), CaError> {
    let FileAccess { mode, owner } = access;
    if mode & 0o077 != 0 {
        return Err(CaError::KeyExposed { path: path.into(), mode });
    }
    let user = rustix::process::geteuid().as_raw();
    if owner == user || owner == 0 {
        return Ok(());
    }
    let shown = path.display();
    let reason = format!(
        "it belongs to user {owner}, who can read and replace it, and this is user {user}; run this as its owner, \
         or, if it is yours, run: chown {user} '{shown}'"
    );
    Err(io("use the key in", path)(std::io::Error::new(ErrorKind::PermissionDenied, reason)))
}

pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CaError {
    move |source| CaError::Io { operation, path: path.into(), source }
}

/// No PEM file of a CA is this large; `/dev/zero` is.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_that_is_ours_or_roots_and_nobody_else_can_read() {
        let user = rustix::process::geteuid().as_raw();
        let judged = |owner, mode| refuse_exposed(Path::new("x.key"), FileAccess { mode, owner });
        for (owner, mode) in [(user, 0o600), (user, 0o400), (user, 0o700), (0, 0o600)] {
            assert!(judged(owner, mode).is_ok(), "{owner} {mode:o}");
        }
        for mode in [0o640, 0o604, 0o601, 0o620, 0o666] {
            assert!(matches!(judged(user, mode), Err(CaError::KeyExposed { .. })), "{mode:o}");
        }
        let other = user.wrapping_add(1).max(1);
        let Err(CaError::Io { source, .. }) = judged(other, 0o600) else { panic!("it is taken") };
        assert_eq!(source.kind(), ErrorKind::PermissionDenied);
        assert!(source.to_string().contains(&format!("it belongs to user {other}, ")), "{source}");
    }
}
