//! The `cacerts` of each Java. Several may share one file; then it is one store.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::step::{self, Step};
use super::{Kind, State, Store, Subject, home};
use crate::tls;

/// One file of trusted certificates, and the tool that changes it.
#[derive(Debug)]
pub(super) struct Java {
    cacerts: PathBuf,
    keytool: Option<PathBuf>,
}

/// Those of the Javas below `root`; with a root that is this machine's, also that of `JAVA_HOME`, of the search path, and
/// those that people keep in their home directory.
///
/// Of another root, nothing is executed: an image that one only asks about would run its own code here, with the rights of
/// whoever asks. Its stores are files, which the `keytool` of this machine changes as well.
pub(super) fn find(root: &Path) -> Vec<Java> {
    let mut homes: Vec<PathBuf> = Vec::new();
    let is_here = root == Path::new("/");
    if is_here {
        homes.extend(std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from));
        homes.extend(in_search_path());
    }
    let mut places: Vec<PathBuf> = SYSTEM.iter().map(|place| root.join(place)).collect();
    if let Some(home) = home().filter(|_| is_here) {
        places.extend(USER.iter().map(|place| home.join(place)));
    }
    for place in places {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        homes.extend(found);
    }
    let top = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut stores: Vec<Java> = Vec::new();
    for home in homes {
        let file = CACERTS.iter().find_map(|place| home.join(place).canonicalize().ok());
        // A link that is meant inside of another root leads into this machine's.
        let Some(cacerts) = file.filter(|file| file.starts_with(&top)) else { continue };
        if stores.iter().any(|known| known.cacerts == cacerts) {
            continue;
        }
        let keytool = Some(home.join("bin/keytool")).filter(|keytool| is_here && keytool.is_file());
        stores.push(Java { cacerts, keytool: keytool.or_else(|| step::program("keytool")) });
    }
    stores
}

/// The home of the `java` that is found by its name, through whatever links.
fn in_search_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let java = std::env::split_paths(&path).find_map(|dir| dir.join("java").canonicalize().ok())?;
    Some(java.parent()?.parent()?.to_owned())
}

impl Java {
    fn keytool(&self) -> Result<Step, String> {
        let program = self.keytool.as_ref().ok_or_else(|| MISSING.to_owned())?;
        Ok(Step::new(program))
    }

    /// Every certificate with its alias.
    fn entries(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let keytool = self.keytool.as_ref().ok_or_else(|| MISSING.to_owned())?;
        let mut words = vec![keytool.clone().into_os_string()];
        // `keytool` speaks the language of the user, whatever LC_ALL says.
        words.extend(["-J-Duser.language=en", "-list", "-rfc", "-keystore"].map(OsString::from));
        words.push(self.cacerts.clone().into_os_string());
        words.extend(["-storepass", PASSWORD].map(OsString::from));
        let output = step::output(&words).map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            return Err(format!("keytool cannot read it: {}", said.trim()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let entries = text.split("Alias name: ").skip(1).filter_map(|entry| {
            let alias = entry.lines().next()?.trim().to_owned();
            Some((alias, tls::certificates_in(entry.as_bytes()).into_iter().next()?))
        });
        Ok(entries.collect())
    }
}

impl Store for Java {
    fn kind(&self) -> Kind {
        Kind::Java
    }

    fn place(&self) -> String {
        self.cacerts.display().to_string()
    }

    /// Starting a Java takes a second, so the file is looked into first: certificates stand in it as they are, unless it is
    /// PKCS#12 under a password.
    fn state(&self, of: &Subject) -> State {
        let bytes = match std::fs::read(&self.cacerts) {
            Ok(bytes) => bytes,
            Err(error) => return State::Unknown(error.to_string()),
        };
        if memchr::memmem::find(&bytes, of.cert.der()).is_some() {
            return State::Trusted;
        }
        if bytes.starts_with(JKS) {
            return State::Absent;
        }
        match self.entries() {
            Ok(entries) if entries.iter().any(|(_, der)| der == of.cert.der()) => State::Trusted,
            Ok(_) => State::Absent,
            Err(reason) => State::Unknown(reason),
        }
    }

    fn install(&self, it: &Subject) -> Result<Vec<Step>, String> {
        let step =
            self.keytool()?.args(&["-importcert", "-noprompt", "-trustcacerts", "-alias", &it.alias()]);
        let step = step.args(&["-file"]).arg(&it.path).args(&["-keystore"]).arg(&self.cacerts);
        Ok(vec![step.args(&["-storepass", PASSWORD]).writing(&self.cacerts)])
    }

    fn remove(&self, it: &Subject) -> Result<Vec<Step>, String> {
        // Somebody else may have put it there, under a name of theirs.
        let known = self.entries()?.into_iter().filter(|(_, der)| der == it.cert.der());
        let mut aliases: Vec<String> = known.map(|(alias, _)| alias).collect();
        if aliases.is_empty() {
            aliases.push(it.alias());
        }
        let remove = |alias: String| -> Result<Step, String> {
            let step = self.keytool()?.args(&["-delete", "-alias", &alias, "-keystore"]).arg(&self.cacerts);
            Ok(step.args(&["-storepass", PASSWORD]).writing(&self.cacerts))
        };
        aliases.into_iter().map(remove).collect()
    }
}

/// Known to all: it is what every Java comes with, and guards nothing.
const PASSWORD: &str = "changeit";

/// The first bytes of a JKS file.
const JKS: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];

/// In a Java's home: since 9, and before.
const CACERTS: &[&str] = &["lib/security/cacerts", "jre/lib/security/cacerts"];

/// Each entry of these may be a Java's home.
const SYSTEM: &[&str] = &["usr/lib/jvm", "usr/lib64/jvm", "usr/java", "opt/java"];

/// The same in a user's home directory.
const USER: &[&str] =
    &[".sdkman/candidates/java", ".jdks", ".asdf/installs/java", ".local/share/mise/installs/java"];

const MISSING: &str = "keytool is not installed here; it comes with every Java";
