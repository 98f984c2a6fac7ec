//! NSS databases: Chromium and Chrome share one in the home directory, Firefox has one in each profile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::step::{self, Step};
use super::{Kind, State, Store, Subject, home};
use crate::tls;

/// One database.
#[derive(Debug)]
pub(super) struct Nss {
    dir: PathBuf,
}

/// Those of this user. Where there is none for Chromium, one that is to be made: if it was asked for, or a browser is there
/// that will use it.
pub(super) fn find(is_asked_for: bool) -> Vec<Nss> {
    let Some(home) = home() else { return Vec::new() };
    let is_database = |dir: &PathBuf| database_file(dir).is_file();
    let mut chromium: Vec<PathBuf> = CHROMIUM.iter().map(|place| home.join(place)).collect();
    chromium.retain(is_database);
    let has_browser = || BROWSERS.iter().any(|name| step::program(name).is_some());
    if chromium.is_empty() && (is_asked_for || has_browser()) {
        chromium.push(home.join(CHROMIUM[0]));
    }
    let mut found: Vec<Nss> = chromium.into_iter().map(|dir| Nss { dir }).collect();
    let profiles = FIREFOX.iter().flat_map(|place| std::fs::read_dir(home.join(place)).into_iter().flatten());
    let mut profiles: Vec<PathBuf> =
        profiles.flatten().map(|entry| entry.path()).filter(is_database).collect();
    profiles.sort();
    found.extend(profiles.into_iter().map(|dir| Nss { dir }));
    found
}

impl Nss {
    fn database(&self) -> OsString {
        let mut database = OsString::from("sql:");
        database.push(&self.dir);
        database
    }

    fn certutil(&self) -> Result<Step, String> {
        let program = step::program("certutil").ok_or_else(|| MISSING.to_owned())?;
        Ok(Step::new(program).args(&["-d"]).arg(self.database()))
    }

    /// What `certutil` says to these words, if it says yes.
    fn ask(&self, words: &[&str], nickname: &str) -> Option<Vec<u8>> {
        let mut all = vec![OsString::from("certutil"), "-d".into(), self.database()];
        all.extend(words.iter().map(OsString::from));
        all.extend(["-n".into(), nickname.into()]);
        let output = step::output(&all).ok()?;
        output.status.success().then_some(output.stdout)
    }
}

impl Store for Nss {
    fn kind(&self) -> Kind {
        Kind::Nss
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn state(&self, of: &Subject) -> State {
        if self.is_to_be_made() {
            return State::Absent;
        }
        if step::program("certutil").is_none() {
            return State::Unknown(MISSING.to_owned());
        }
        let nickname = nickname(of);
        // Several certificates may stand under one name: those with one subject.
        let found = self.ask(&["-L", "-a"], &nickname).unwrap_or_default();
        if !tls::certificates_in(&found).iter().any(|der| der == of.cert.der()) {
            return State::Absent;
        }
        match self.ask(&["-V", "-u", "L"], &nickname) {
            Some(_) => State::Trusted,
            None => State::Useless("it is there, and not trusted for servers".to_owned()),
        }
    }

    fn install(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        if self.is_to_be_made() {
            steps.push(Step::new("mkdir").args(&["-p", "-m", "0700"]).arg(&self.dir).writing(&self.dir));
            steps.push(self.certutil()?.args(&["-N", "--empty-password"]).writing(&self.dir));
        }
        // C: trusted to sign for servers, and for nothing else.
        let add = self.certutil()?.args(&["-A", "-t", "C,,", "-n", &nickname(it), "-i"]).arg(&it.path);
        steps.push(self.writing(add));
        Ok(steps)
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        Ok(vec![self.writing(self.certutil()?.args(&["-D", "-n", &nickname(it)]))])
    }

    fn afterwards(&self) -> Option<&'static str> {
        Some("browsers that run see it when they are started again")
    }
}

impl Nss {
    /// Chromium has not made it yet: so we do, as it would.
    fn is_to_be_made(&self) -> bool {
        !database_file(&self.dir).is_file()
    }

    fn writing(&self, step: Step) -> Step {
        step.writing(database_file(&self.dir))
    }
}

fn database_file(dir: &Path) -> PathBuf {
    dir.join("cert9.db")
}

/// What the certificate managers of browsers show.
fn nickname(of: &Subject) -> String {
    let name = of.cert.name();
    if name.starts_with("manent") { name.to_owned() } else { format!("{name} (manent)") }
}

/// In the home directory; the first is the one that Chromium makes.
const CHROMIUM: &[&str] = &[
    ".pki/nssdb",
    ".local/share/pki/nssdb",
    "snap/chromium/current/.pki/nssdb",
    ".var/app/org.chromium.Chromium/.pki/nssdb",
    ".var/app/com.google.Chrome/.pki/nssdb",
];

/// In the home directory; each profile is a directory in one of these.
const FIREFOX: &[&str] = &[
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];

const BROWSERS: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "brave-browser",
    "microsoft-edge",
];

const MISSING: &str = "certutil is not installed: apt-get install libnss3-tools, or dnf install nss-tools";
