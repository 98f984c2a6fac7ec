//! The system's store on Linux: a directory for certificates of the administrator's, and a command that reads it.

use std::path::{Path, PathBuf};

use super::step::{self, Step};
use super::{Kind, State, Store, Subject};
use crate::tls::{self, PemFileError};

/// How a family of distributions does it.
#[derive(Debug)]
struct Layout {
    families: &'static str,
    /// Where certificates are put.
    anchors: &'static str,
    /// What their names have to end with.
    extension: &'static str,
    /// What reads them.
    update: &'static [&'static str],
    /// The same where one was taken away.
    update_after_removal: &'static [&'static str],
    /// What it makes of them.
    bundle: &'static str,
}

/// A new distribution is a row here. The first one whose directory is there is taken.
const LAYOUTS: &[Layout] = &[
    Layout {
        families: "Fedora",
        anchors: "etc/pki/ca-trust/source/anchors",
        extension: "pem",
        update: &["update-ca-trust", "extract"],
        update_after_removal: &["update-ca-trust", "extract"],
        bundle: "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    },
    Layout {
        families: "Arch",
        anchors: "etc/ca-certificates/trust-source/anchors",
        extension: "crt",
        update: &["update-ca-trust"],
        update_after_removal: &["update-ca-trust"],
        bundle: "etc/ca-certificates/extracted/tls-ca-bundle.pem",
    },
    Layout {
        families: "SUSE",
        anchors: "etc/pki/trust/anchors",
        extension: "pem",
        update: &["update-ca-certificates"],
        update_after_removal: &["update-ca-certificates"],
        bundle: "var/lib/ca-certificates/ca-bundle.pem",
    },
    Layout {
        families: "Debian",
        anchors: "usr/local/share/ca-certificates",
        extension: "crt",
        update: &["update-ca-certificates"],
        // Links to what is gone stay behind otherwise.
        update_after_removal: &["update-ca-certificates", "--fresh"],
        bundle: "etc/ssl/certs/ca-certificates.crt",
    },
];

/// The system's store below a root.
#[derive(Debug)]
pub(super) struct System {
    root: PathBuf,
    layout: &'static Layout,
}

pub(super) fn find(root: &Path) -> Option<System> {
    let layout = LAYOUTS.iter().find(|layout| root.join(layout.anchors).is_dir())?;
    Some(System { root: root.to_owned(), layout })
}

impl System {
    fn bundle(&self) -> PathBuf {
        self.root.join(self.layout.bundle)
    }

    fn anchor(&self, of: &Subject) -> PathBuf {
        self.root.join(self.layout.anchors).join(format!("{}.{}", of.alias(), self.layout.extension))
    }

    /// The command that makes the bundle anew. Debian's takes its directories as options; others are run inside of another
    /// root.
    fn update(&self, words: &[&str]) -> Result<Step, String> {
        let name = words[0];
        let missing = || format!("{name} is not installed (package ca-certificates)");
        if self.root == Path::new("/") {
            let program = step::program(name).ok_or_else(missing)?;
            return Ok(Step::new(program).args(&words[1..]).writing(self.bundle()));
        }
        if self.layout.families != "Debian" {
            let chroot = step::program("chroot").unwrap_or_else(|| PathBuf::from("chroot"));
            // Only root may, whoever the files belong to.
            return Ok(Step::new(chroot).arg(&self.root).args(words).writing(self.bundle()).writing("/"));
        }
        let mut step = Step::new(step::program(name).ok_or_else(missing)?).args(&words[1..]);
        for (option, place) in [
            ("--certsconf", "etc/ca-certificates.conf"),
            ("--certsdir", "usr/share/ca-certificates"),
            ("--localcertsdir", self.layout.anchors),
            ("--etccertsdir", "etc/ssl/certs"),
            ("--hooksdir", "etc/ca-certificates/update.d"),
        ] {
            step = step.args(&[option]).arg(self.root.join(place));
        }
        Ok(step.writing(self.bundle()))
    }
}

impl Store for System {
    fn kind(&self) -> Kind {
        Kind::System
    }

    fn place(&self) -> String {
        self.bundle().display().to_string()
    }

    fn state(&self, of: &Subject) -> State {
        let is_anchor = self.anchor(of).exists();
        match tls::certificates(&self.bundle()) {
            Ok(certs) if certs.iter().any(|der| der == of.cert.der()) => State::Trusted,
            _ if is_anchor => {
                State::Useless(format!("it is there, and {} has not been run", self.layout.update.join(" ")))
            }
            Ok(_) | Err(PemFileError::NoCertificate { .. }) => State::Absent,
            Err(error) => State::Unknown(error.to_string()),
        }
    }

    fn install(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let anchor = self.anchor(it);
        let copy = Step::new("install").args(&["-m", "0644"]).arg(&it.path).arg(&anchor).writing(&anchor);
        Ok(vec![copy, self.update(self.layout.update)?])
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let anchor = self.anchor(it);
        let within = anchor.parent().unwrap_or(&self.root).to_owned();
        let remove = Step::new("rm").args(&["-f"]).arg(&anchor).writing(within);
        Ok(vec![remove, self.update(self.layout.update_after_removal)?])
    }
}
