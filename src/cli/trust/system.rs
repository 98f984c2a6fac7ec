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
            ("--certsconf", CERTS_CONF),
            ("--certsdir", CERTS),
            ("--localcertsdir", self.layout.anchors),
            ("--etccertsdir", ETC_CERTS),
        ] {
            step = step.args(&[option]).arg(self.root.join(place));
        }
        Ok(step.args(NO_HOOKS).writing(self.bundle()))
    }

    /// That nothing of another root which is read or written for `of` leads out of it. A link that is meant inside of an
    /// image leads into this machine's files, which would then be changed in its stead.
    ///
    /// Whoever can write in the image while the commands run can still put a link there in between.
    fn confined(&self, of: &Subject) -> Result<(), String> {
        if self.root == Path::new("/") {
            return Ok(());
        }
        let top = self.root.canonicalize().map_err(|error| format!("{}: {error}", self.root.display()))?;
        let mut places = vec![self.root.join(self.layout.anchors), self.anchor(of), self.bundle()];
        if self.layout.families == "Debian" {
            places.extend([CERTS_CONF, CERTS, ETC_CERTS].map(|place| self.root.join(place)));
        }
        match places.iter().find(|place| !is_below(&top, place)) {
            None => Ok(()),
            Some(place) => Err(format!(
                "{} leads out of {}; make it a link that stays below, or run manent inside of that system",
                place.display(),
                self.root.display()
            )),
        }
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
        if let Err(reason) = self.confined(of) {
            return State::Unknown(reason);
        }
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
        self.confined(it)?;
        let anchor = self.anchor(it);
        let copy = Step::new("install").args(&["-m", "0644"]).arg(&it.path).arg(&anchor).writing(&anchor);
        Ok(vec![copy, self.update(self.layout.update)?])
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        self.confined(it)?;
        let anchor = self.anchor(it);
        let within = anchor.parent().unwrap_or(&self.root).to_owned();
        let remove = Step::new("rm").args(&["-f"]).arg(&anchor).writing(within);
        Ok(vec![remove, self.update(self.layout.update_after_removal)?])
    }
}

/// Whether a path, through all its links, is below `top`, which has none. Of one that is not there yet, the nearest directory
/// above it counts; a link that leads nowhere may be made to lead anywhere, and does not.
fn is_below(top: &Path, path: &Path) -> bool {
    let nearest = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    nearest.is_some_and(|nearest| nearest.canonicalize().is_ok_and(|real| real.starts_with(top)))
}

/// What Debian's command reads and writes besides the administrator's certificates.
const CERTS_CONF: &str = "etc/ca-certificates.conf";
const CERTS: &str = "usr/share/ca-certificates";
const ETC_CERTS: &str = "etc/ssl/certs";

/// The hooks of another root are programs of that root, and the command would run them on this machine. It has no option to
/// run none; where it is given no directory, it finds none. A directory that is empty would have to be there for whoever
/// runs the command as it is shown.
const NO_HOOKS: &[&str] = &["--hooksdir", "/dev/null"];
