//! Browsers look at no variables: they are started with a profile of their own, which uses the proxy, trusts its CA and goes
//! when the command has ended. No profile of the user's is read or changed; reporters of crashes keep their usual places.

mod chromium;
mod firefox;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;

use super::files::Authority;
use crate::cli::errors::CliError;
use crate::cli::text;

/// A command that is a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Browser {
    kind: Kind,
    /// As its command is called.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chromium,
    Firefox,
}

impl Browser {
    /// The browser that this program is, by its name.
    pub(super) fn of(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_name()?.to_str()?.to_owned();
        let is_firefox = name == "firefox" || name.starts_with("firefox-");
        let kind = match &*name {
            name if CHROMIUM.contains(&name) => Kind::Chromium,
            name if is_firefox || ["librewolf", "waterfox"].contains(&name) => Kind::Firefox,
            _ => return None,
        };
        Some(Self { kind, name })
    }

    /// Makes a profile in `dir`, which is not there yet; the arguments to stand before `given`, those of the user, which go
    /// before them: of several with one name, browsers take the last. And what there is to say about it.
    ///
    /// # Errors
    /// If the profile cannot be written.
    pub(super) fn profile(
        &self,
        given: &[OsString],
        dir: &Path,
        proxy: SocketAddr,
        ca: &Authority,
    ) -> Result<(Vec<OsString>, String), CliError> {
        let name = &self.name;
        let args = match self.kind {
            Kind::Chromium => chromium::args(given, dir, proxy, ca),
            Kind::Firefox if firefox::has_profile(given) => {
                let note =
                    "has the profile that its arguments name, which neither uses the proxy nor trusts it";
                return Ok((Vec::new(), format!("{name} {note}")));
            }
            Kind::Firefox => {
                let failed = |source| CliError::Write { path: text::path(dir), source };
                firefox::make(dir, proxy, ca).map_err(failed)?
            }
        };
        Ok((
            args,
            format!("{name} has a profile of its own, which trusts this proxy and is deleted at the end"),
        ))
    }
}

/// Chromium and what is built on it, under the names of their packages.
const CHROMIUM: &[&str] = &[
    "chromium",
    "chromium-browser",
    "ungoogled-chromium",
    "chrome",
    "google-chrome",
    "google-chrome-stable",
    "google-chrome-beta",
    "google-chrome-unstable",
    "brave",
    "brave-browser",
    "microsoft-edge",
    "microsoft-edge-stable",
    "vivaldi",
    "vivaldi-stable",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::files::tests::authority;

    #[test]
    fn browsers_are_known_by_their_name() {
        let kind = |program: &str| Browser::of(OsStr::new(program)).map(|browser| browser.kind);
        assert_eq!(kind("/usr/bin/chromium"), Some(Kind::Chromium));
        assert_eq!(kind("google-chrome"), Some(Kind::Chromium));
        assert_eq!(kind("firefox-esr"), Some(Kind::Firefox));
        assert_eq!((kind("curl"), kind("chromium-bsu"), kind("firefoxy")), (None, None, None));
    }

    #[test]
    fn a_profile_of_the_users_is_not_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let profile = dir.path().join("profile");
        let firefox = Browser::of(OsStr::new("firefox")).expect("a browser");
        let proxy = "127.0.0.1:1".parse().expect("an address");
        let given = ["-P", "work"].map(OsString::from);
        let (args, note) =
            firefox.profile(&given, &profile, proxy, &authority()).expect("nothing is written");
        assert!(
            args.is_empty() && note.starts_with("firefox has the profile that its arguments name"),
            "{note}"
        );
        assert!(!profile.exists());
    }
}
