//! Where certificates are trusted on this machine, and the commands that change it: a file a kind of store.
//!
//! A store is changed by its own tools only (`update-ca-certificates`, `certutil`, `keytool`), each command as it is shown
//! beforehand. Nothing here has ever seen a key: it works on [`CaCert`].

mod elsewhere;
mod java;
mod nss;
mod step;
mod system;

use std::path::{Path, PathBuf};

pub(super) use step::Step;

use crate::tls::{CaCert, CaError};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// The system's, which OpenSSL, GnuTLS, curl, Go and most others read
    System,
    /// The databases of Chromium, Chrome and Firefox
    Nss,
    /// The cacerts of each Java
    Java,
    /// Commands for a Mac, which are only shown
    Macos,
    /// Commands for Windows, which are only shown
    Windows,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Nss => "nss",
            Self::Java => "java",
            Self::Macos => "macos",
            Self::Windows => "windows",
        }
    }
}

/// A certificate, and the file in which the tools find it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) cert: CaCert,
    pub(super) path: PathBuf,
}

impl Subject {
    /// Reads it. The path is made absolute: the commands may be run from anywhere.
    ///
    /// # Errors
    /// If it cannot be read, or has a key beside it.
    pub(super) fn read(path: &Path) -> Result<Self, CaError> {
        let cert = CaCert::read(path)?;
        Ok(Self { cert, path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) })
    }

    /// By which it is called in files and stores: the same for the same certificate only.
    fn alias(&self) -> String {
        let short: String = self.cert.sha256().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("manent-ca-{short}")
    }
}

/// Whether a certificate is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// And trusted for TLS servers.
    Trusted,
    /// But not trusted, for this reason.
    Useless(String),
    /// It is not.
    Absent,
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// One store.
pub(super) trait Store: std::fmt::Debug {
    fn kind(&self) -> Kind;

    /// Which of its kind, for people: mostly a path.
    fn place(&self) -> String;

    fn state(&self, of: &Subject) -> State;

    /// What would make it trusted.
    ///
    /// # Errors
    /// In words, if a tool for it is missing.
    fn install(&self, it: &Subject) -> Result<Vec<Step>, String>;

    /// What would take it out again.
    ///
    /// # Errors
    /// As [`Store::install`].
    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String>;

    /// What has to happen before programs that run see a change.
    fn afterwards(&self) -> Option<&'static str> {
        None
    }
}

/// The stores there are: of these kinds, or of all that this machine has if none is named. Those of the system and of Java
/// below `root`; an NSS database belongs to the user whose home it is in. The system comes first, as its tools may look
/// after Java's.
pub(super) fn find(kinds: &[Kind], root: &Path) -> Vec<Box<dyn Store>> {
    let wanted = |kind| kinds.is_empty() || kinds.contains(&kind);
    let named = |kind| kinds.contains(&kind);
    let mut found: Vec<Box<dyn Store>> = Vec::new();
    if wanted(Kind::System) {
        if cfg!(target_os = "macos") {
            found.push(Box::new(elsewhere::Mac));
        } else {
            found.extend(system::find(root).map(|store| Box::new(store) as Box<dyn Store>));
        }
    }
    if wanted(Kind::Nss) {
        found.extend(nss::find(named(Kind::Nss)).into_iter().map(|store| Box::new(store) as Box<dyn Store>));
    }
    if wanted(Kind::Java) {
        found.extend(java::find(root).into_iter().map(|store| Box::new(store) as Box<dyn Store>));
    }
    if named(Kind::Macos) {
        found.push(Box::new(elsewhere::Mac));
    }
    if named(Kind::Windows) {
        found.push(Box::new(elsewhere::Windows));
    }
    found
}

/// What people have to do for such a store to be there.
pub(super) fn why_none(kind: Kind) -> &'static str {
    match kind {
        Kind::System => {
            "none of the known layouts is there; on Debian it comes with the package ca-certificates"
        }
        Kind::Nss => "no HOME, so there is nobody's database",
        Kind::Java => "no Java was found by JAVA_HOME, PATH or in /usr/lib/jvm",
        Kind::Macos | Kind::Windows => "it is not of this machine",
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
