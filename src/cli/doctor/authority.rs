//! The CA: whether it is there and can sign, and where it is trusted.

use std::path::{Path, PathBuf};

use super::Finding;
use crate::cli::trust::{self, State, Subject};
use crate::cli::{ca, text};
use crate::config::Config;
use crate::tls::{Ca, CaCert, CaError};

/// What became of the CA that a capture would use.
#[derive(Debug)]
pub(super) struct Authority {
    /// `None`: it is one of the user's own files, which are only read.
    dir: Option<PathBuf>,
    loaded: Result<(CaCert, PathBuf), CaError>,
}

impl Authority {
    pub(super) fn of(config: &Config) -> Self {
        let (dir, loaded) = match &config.ca_files {
            Some(files) => (None, Ca::load_files(&files.cert, files.key.as_deref())),
            None => (Some(config.ca_dir.clone()), Ca::load(&config.ca_dir)),
        };
        let loaded = loaded.and_then(|ca| {
            let path = ca.cert_path().unwrap_or(Path::new("")).to_owned();
            Ok((ca.certificate()?, path))
        });
        Self { dir, loaded }
    }

    /// Its certificate, if it can be used.
    pub(super) fn cert(&self) -> Option<&CaCert> {
        self.loaded.as_ref().ok().map(|(cert, _)| cert)
    }

    /// Whether it is there, signs, and for how long it does.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let (cert, path) = match &self.loaded {
            Ok(loaded) => loaded,
            Err(CaError::Missing { dir }) => {
                let message = format!("none yet in {}; the first capture makes it", text::path(dir));
                return vec![Finding::warning("ca", message, "manent ca create")];
            }
            Err(error) => {
                let mend = match (error, &self.dir) {
                    (CaError::KeyExposed { path, .. }, _) => {
                        format!("chmod 600 '{}'", path.display())
                    }
                    (_, Some(_)) => "manent ca rotate && manent ca install".to_owned(),
                    (_, None) => "give another one with --ca-cert and --ca-key".to_owned(),
                };
                return vec![Finding::bad("ca", crate::cli::errors::causes(error), mend)];
            }
        };
        let days = ca::days_left(cert);
        let message =
            format!("{}, until {}, in {}", cert.subject(), ca::date(cert.not_after_unix()), text::path(path));
        let mut findings = vec![if days < SOON {
            let message = format!("{message}: {} left", text::count(days.max(0).unsigned_abs(), "day"));
            Finding::warning("ca", message, "manent ca rotate && manent ca install")
        } else {
            Finding::good("ca", message)
        }];
        if !cert.constraints().is_empty() {
            let message =
                format!("it signs for {} only; other hosts pass through unread", cert.constraints());
            findings.push(Finding::good("ca", message));
        }
        findings
    }

    /// Which stores trust it, and which still trust one that it replaced. That none does is no fault: `run` needs none.
    pub(super) fn trust(&self) -> Vec<Finding> {
        let Ok((cert, path)) = &self.loaded else { return Vec::new() };
        let subject = Subject { cert: cert.clone(), path: path.clone() };
        let stores = trust::find(&[], Path::new("/"));
        let mut findings: Vec<Finding> = stores
            .iter()
            .map(|store| {
                let (kind, place) = (store.kind().name(), text::path(Path::new(&store.place())));
                let mend = || format!("manent ca install {kind}");
                match store.state(&subject) {
                    State::Trusted => Finding::good("trust", format!("{kind}: {place} trusts it")),
                    State::Absent => {
                        Finding::warning("trust", format!("{kind}: {place} does not trust it"), mend())
                    }
                    State::Useless(reason) => {
                        Finding::warning("trust", format!("{kind}: {place}: {reason}"), mend())
                    }
                    State::Unknown(reason) => {
                        let message = format!("{kind}: {place} cannot be asked");
                        Finding::warning("trust", message, reason)
                    }
                }
            })
            .collect();
        let older = self.dir.as_ref().and_then(|dir| ca::older(dir).ok()).unwrap_or_default();
        for old in older {
            let trusting = stores.iter().filter(|store| store.state(&old) == State::Trusted);
            findings.extend(trusting.map(|store| {
                let (kind, name) = (store.kind().name(), text::path(&old.path));
                let message = format!("{kind}: {} still trusts {name}, which was replaced", store.place());
                Finding::warning("trust", message, "manent ca uninstall --old")
            }));
        }
        findings
    }
}

/// Days. A month is enough to plan the change.
const SOON: i64 = 30;
