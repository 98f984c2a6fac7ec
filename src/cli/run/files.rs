//! The files that variables point to: bundles of roots, and what some runtimes have to load.
//!
//! `run` has them in a private directory that goes when its command has ended, `env` beside the CA, where they stay.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::environment::present_before;
use crate::tls::{Ca, certificate, jks};

/// Paths of the files, all in one directory.
#[derive(Debug)]
pub(in crate::cli) struct Files {
    /// Our certificate alone, PEM: for what adds to the roots it has.
    pub(super) ca: PathBuf,
    /// The system's roots and our certificate, PEM: for what replaces its roots.
    pub(super) bundle: PathBuf,
    /// The same as a Java trust store.
    pub(super) truststore: PathBuf,
    /// The user's own wget settings, and the bundle.
    pub(super) wgetrc: PathBuf,
    /// What an older Node.js has to load.
    pub(super) node: PathBuf,
    /// A directory for Python's search path.
    pub(super) python: PathBuf,
    /// A directory with settings of PHP.
    pub(super) php: PathBuf,
}

impl Files {
    /// Where they are, or would be.
    pub(in crate::cli) fn in_dir(dir: &Path) -> Self {
        let path = |name| dir.join(name);
        Self {
            ca: path("manent-ca.pem"),
            bundle: path("bundle.pem"),
            truststore: path("truststore.jks"),
            wgetrc: path("wgetrc"),
            node: path("preload.cjs"),
            python: path("python"),
            php: path("php"),
        }
    }

    /// Writes them into `dir`, which only its owner can enter. A file that is there is replaced at once, so that who has it
    /// open, or opens it now, has a whole one.
    ///
    /// # Errors
    /// If one cannot be written.
    pub(in crate::cli) fn write(dir: &Path, ca: &Authority, preload: Preload) -> io::Result<Self> {
        let files = Self::in_dir(dir);
        for dir in [dir, &files.python, &files.php] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::info!(%error, "some of the system's roots cannot be read");
        }
        let mut roots: Vec<&[u8]> = system.certs.iter().map(AsRef::as_ref).collect();
        roots.push(&ca.der);
        replace(&files.ca, ca.pem.as_bytes())?;
        replace(&files.bundle, roots.iter().map(|der| certificate(der)).collect::<String>().as_bytes())?;
        replace(&files.truststore, &jks(roots.iter().copied()))?;
        let user = user_wgetrc().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        replace(&files.wgetrc, &wgetrc(&user, &files.bundle))?;
        replace(&files.node, NODE.as_bytes())?;
        replace(&files.python.join("sitecustomize.py"), PYTHON.as_bytes())?;
        let prepend = files.php.join("prepend.php");
        replace(&prepend, PHP.as_bytes())?;
        let mut ini = format!("curl.cainfo={0}\nopenssl.cafile={0}\n", ini_quoted(&files.bundle));
        if preload == Preload::Runtimes {
            ini += &format!("auto_prepend_file={}\n", ini_quoted(&prepend));
        }
        replace(&files.php.join("manent.ini"), ini.as_bytes())?;
        Ok(files)
    }
}

/// Whether runtimes are made to load something that leads them through the proxy, where they look at no variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Preload {
    /// Node.js, Python and PHP are.
    Runtimes,
    /// Nothing is loaded.
    Nothing,
}

/// What programs are to trust.
#[derive(Debug)]
pub(in crate::cli) struct Authority {
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) spki_sha256_base64: String,
}

impl From<&Ca> for Authority {
    fn from(ca: &Ca) -> Self {
        let spki_sha256_base64 = ca.spki_sha256_base64();
        Self { pem: ca.cert_pem(), der: ca.cert_der().to_vec(), spki_sha256_base64 }
    }
}

/// What a directory has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Our files.
    Small,
    /// A browser's profile with its cache, too.
    Large,
}

/// A directory of this process's own, which goes with the value, with all that a command may have put there.
#[derive(Debug)]
pub(super) struct Directory(Option<TempDir>);

impl Directory {
    /// Makes it where the session's own files belong, which is in memory and small, if `size` is so; else where all temporary
    /// files do. Only its owner can enter it.
    ///
    /// # Errors
    /// If there is no place for it.
    pub(super) fn make(size: Size) -> io::Result<Self> {
        let session = match size {
            Size::Small => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            Size::Large => None,
        };
        let parent =
            session.filter(|dir| dir.is_absolute() && dir.is_dir()).unwrap_or_else(std::env::temp_dir);
        let private = PermissionsExt::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("manent-run-").permissions(private).tempdir_in(parent)?;
        Ok(Self(Some(dir)))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Directory {
    /// A browser's helpers may still be writing when the browser has ended: a directory that is not empty any more is emptied
    /// again, at once, since what they write next they can only write as long as it is there.
    fn drop(&mut self) {
        let Some(dir) = self.0.take().map(TempDir::keep) else { return };
        let began = Instant::now();
        while began.elapsed() < REMOVAL_TIME {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => std::thread::yield_now(),
                Err(error) => return tracing::debug!(%error, "the temporary directory stays"),
                Ok(()) => return,
            }
        }
        tracing::warn!(dir = %dir.display(), "something still writes into the temporary directory, which stays");
    }
}

/// Gives `path` this content, if it has another: with a file of another name, which is then called so.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes a new file.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

/// The settings that wget would have read.
fn user_wgetrc() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".wgetrc"));
    present_before("WGETRC").map(PathBuf::from).or_else(home)
}

/// The user's settings without those that would go before the variables, and our bundle: wget has no variable for that.
fn wgetrc(user: &[u8], bundle: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for line in user.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_overridden(line)) {
        out.extend_from_slice(line);
    }
    if out.last().is_some_and(|byte| *byte != b'\n') {
        out.push(b'\n');
    }
    out.extend_from_slice(b"ca_certificate = ");
    out.extend_from_slice(bundle.as_os_str().as_encoded_bytes());
    out.push(b'\n');
    out
}

/// wget reads `https_proxy`, `HTTPS-Proxy` and `httpsproxy` as one.
fn is_overridden(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
    let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase);
    let name: Vec<u8> = letters.collect();
    [&b"httpproxy"[..], b"httpsproxy", b"noproxy", b"useproxy", b"cacertificate", b"checkcertificate"]
        .contains(&&name[..])
}

/// A string as PHP's settings have it. `${…}` means something in double quotes; in single ones nothing does, not even a
/// backslash.
fn ini_quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.contains('\'') {
        let escaped = path.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        return format!("\"{escaped}\"");
    }
    format!("'{path}'")
}

const NODE: &str = include_str!("preload.cjs");
const PYTHON: &str = include_str!("sitecustomize.py");
const PHP: &str = include_str!("prepend.php");

/// A browser's helpers are told to end with it.
const REMOVAL_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::run) fn authority() -> Authority {
        Authority { pem: "PEM".into(), der: b"\x30\x00".into(), spki_sha256_base64: "SPKI=".into() }
    }

    #[test]
    fn files_are_private_and_go_with_the_directory() {
        let dir = Directory::make(Size::Small).expect("a writable temporary directory");
        let files = Files::write(dir.path(), &authority(), Preload::Runtimes).expect("writable");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&files.php)), (0o700, 0o700));
        assert_eq!((mode(&files.bundle), mode(&files.ca)), (0o600, 0o600));
        let bundle = std::fs::read_to_string(&files.bundle).expect("readable");
        assert!(bundle.ends_with("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"));
        let ini = std::fs::read_to_string(files.php.join("manent.ini")).expect("readable");
        assert!(ini.starts_with(&format!("curl.cainfo='{}'\n", files.bundle.display())), "{ini}");
        assert_eq!(ini.lines().count(), 3);
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn files_that_stay_are_made_again_where_they_differ() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::write(dir.path(), &authority(), Preload::Runtimes).expect("writable");
        let made = |path: &Path| std::fs::metadata(path).expect("it is there").modified().expect("a time");
        let (before, kept) = (made(&files.bundle), made(&files.node));
        std::fs::write(&files.bundle, "other").expect("writable");
        let files = Files::write(dir.path(), &authority(), Preload::Nothing).expect("writable");
        assert!(made(&files.bundle) > before);
        assert_eq!(made(&files.node), kept);
        let names = std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(names, 7, "nothing is left over");
        let ini = std::fs::read_to_string(files.php.join("manent.ini")).expect("readable");
        assert!(!ini.contains("auto_prepend_file"));
    }

    #[test]
    fn settings_of_wget_stay_but_for_those_that_go_before_variables() {
        let user = b"tries = 3\nHTTPS-Proxy = http://corp:3128\nno_proxy=localhost\nca_certificate=x\n# end";
        let ours = wgetrc(user, Path::new("/b.pem"));
        assert_eq!(String::from_utf8_lossy(&ours), "tries = 3\n# end\nca_certificate = /b.pem\n");
        assert_eq!(wgetrc(b"", Path::new("/b.pem")), b"ca_certificate = /b.pem\n");
    }

    #[test]
    fn paths_in_settings_of_php_mean_nothing_else() {
        assert_eq!(ini_quoted(Path::new("/a b/${HOME};")), "'/a b/${HOME};'");
        assert_eq!(ini_quoted(Path::new("/it's $x \"\\")), "\"/it's \\$x \\\"\\\\\"");
    }
}
