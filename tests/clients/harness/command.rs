//! Commands that end, whatever they run, in an environment that holds nothing of this machine's proxies and CAs.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// A program that a test drives, and the Debian package that has it.
pub(crate) struct Program {
    names: &'static [&'static str],
    package: &'static str,
}

impl Program {
    pub(crate) const CURL: Program = Program { names: &["curl"], package: "curl" };
    pub(crate) const SH: Program = Program { names: &["sh"], package: "dash" };
    pub(crate) const BASH: Program = Program { names: &["bash"], package: "bash" };
    pub(crate) const ZSH: Program = Program { names: &["zsh"], package: "zsh" };
    pub(crate) const MANDOC: Program = Program { names: &["mandoc"], package: "mandoc" };
    pub(crate) const SYSTEMD_ANALYZE: Program = Program { names: &["systemd-analyze"], package: "systemd" };
    pub(crate) const OPENSSL: Program = Program { names: &["openssl"], package: "openssl" };
    pub(crate) const CERTUTIL: Program = Program { names: &["certutil"], package: "libnss3-tools" };
    pub(crate) const KEYTOOL: Program = Program { names: &["keytool"], package: "default-jdk-headless" };
    pub(crate) const TSHARK: Program = Program { names: &["tshark"], package: "tshark" };
    pub(crate) const NODE: Program = Program { names: &["node"], package: "nodejs" };
    pub(crate) const WGET: Program = Program { names: &["wget"], package: "wget" };
    pub(crate) const GIT: Program = Program { names: &["git"], package: "git" };
    pub(crate) const NPM: Program = Program { names: &["npm"], package: "npm" };
    pub(crate) const JAVA: Program = Program { names: &["java"], package: "default-jdk-headless" };
    /// Written in Go, and a twentieth of Go's own packages.
    pub(crate) const GOBUSTER: Program = Program { names: &["gobuster"], package: "gobuster" };
    pub(crate) const RUBY: Program = Program { names: &["ruby"], package: "ruby" };
    pub(crate) const PHP: Program = Program { names: &["php"], package: "php-cli php-curl" };
    pub(crate) const CARGO: Program = Program { names: &["cargo"], package: "cargo" };
    pub(crate) const AWS: Program = Program { names: &["aws"], package: "awscli" };
    pub(crate) const FISH: Program = Program { names: &["fish"], package: "fish" };
    pub(crate) const FIREFOX: Program =
        Program { names: &["firefox-esr", "firefox"], package: "firefox-esr" };
    pub(crate) const CHROMIUM: Program =
        Program { names: &["chromium", "chromium-browser", "google-chrome"], package: "chromium" };

    /// The command, with `home` as home directory and nothing else of the environment but the search path.
    ///
    /// # Panics
    /// With the hint what to install, if it is not there: a test that cannot run has failed.
    pub(crate) fn command(&self, home: &Path) -> Command {
        let path = self.path();
        clean(&path, home)
    }

    pub(crate) fn path(&self) -> PathBuf {
        let dirs: Vec<PathBuf> =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let places = self.names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| {
            panic!("{} is not installed: `apt-get install {}`, or run tests/run", self.names[0], self.package)
        })
    }
}

/// The Python of the virtual environment that tests/run makes, with its packages.
///
/// # Panics
/// With the hint what to do, if it is not there.
pub(crate) fn python() -> PathBuf {
    in_venv("venv", "requirements.txt")
}

/// The Python of mitmproxy's own virtual environment: it needs older versions of what the others have.
///
/// # Panics
/// With the hint what to do, if it is not there.
pub(crate) fn mitmproxy() -> PathBuf {
    in_venv("venv-mitmproxy", "requirements-mitmproxy.txt")
}

fn in_venv(name: &str, requirements: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in the target directory");
    let python = target.join(name).join("bin/python3");
    assert!(
        python.is_file(),
        "no {0}: run tests/run, or `python3 -m venv {1}` and `{0} -m pip install -r tests/clients/{requirements}`",
        python.display(),
        target.join(name).display()
    );
    python
}

/// A command that inherits the search path and nothing else.
pub(crate) fn clean(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LANG", "C.UTF-8").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end.
///
/// # Panics
/// When it does not end in time.
pub(crate) async fn finish(command: &mut Command) -> Output {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("{command:?} does not end")).expect("it starts")
}

/// Runs it to its end and gives its standard output.
///
/// # Panics
/// When it does not end in time, or not with 0.
pub(crate) async fn succeed(command: &mut Command) -> Vec<u8> {
    let output = finish(command).await;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output.stdout
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Chromium's first start on a slow and busy machine sets it.
const PATIENCE: Duration = Duration::from_secs(60);
