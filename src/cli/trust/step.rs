//! One command that changes a store: shown to people, and run.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::Access;

use crate::cli::escape;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Step {
    words: Vec<OsString>,
    /// What it writes, which tells who may run it.
    writes: Vec<PathBuf>,
    /// For another machine: shown, never run.
    is_elsewhere: bool,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("{command} failed: {said}")]
pub(in crate::cli) struct StepError {
    command: String,
    said: String,
}

impl Step {
    pub(super) fn new(program: impl Into<OsString>) -> Self {
        Self { words: vec![program.into()], writes: Vec::new(), is_elsewhere: false }
    }

    pub(super) fn elsewhere(words: &[&str]) -> Self {
        Self { words: words.iter().map(OsString::from).collect(), writes: Vec::new(), is_elsewhere: true }
    }

    pub(super) fn args(mut self, args: &[&str]) -> Self {
        self.words.extend(args.iter().map(OsString::from));
        self
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.words.push(arg.as_ref().to_owned());
        self
    }

    /// Notes that it writes there.
    pub(super) fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.writes.push(path.into());
        self
    }

    pub(in crate::cli) fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Whether this user may do it.
    pub(in crate::cli) fn is_allowed(&self) -> bool {
        self.writes.iter().all(|path| is_writable(path))
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be started or does not end with 0; with the last that it said.
    pub(in crate::cli) fn run(&self) -> Result<(), StepError> {
        let failed = |said: String| StepError { command: self.to_string(), said };
        let output = output(&self.words).map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stderr, output.stdout].map(|said| escape::text(said).trim().to_owned());
        let last = said.iter().find(|said| !said.is_empty()).and_then(|said| said.lines().last());
        Err(failed(last.map_or_else(|| output.status.to_string(), str::to_owned)))
    }
}

/// As a shell takes it.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{}", escape::shell_word(word))?;
        }
        Ok(())
    }
}

/// Runs a command to its end, with English messages, without input, and without options that Java tells about.
pub(super) fn output(words: &[OsString]) -> std::io::Result<Output> {
    let (program, args) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("LC_ALL", "C").env_remove("JAVA_TOOL_OPTIONS");
    command.output()
}

/// Where a program is: in the search path, or where those for administrators are, which users often do not have in theirs.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).map(|dir| (dir, true));
    let more = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(|dir| (PathBuf::from(dir), false));
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let (place, by_name) = dirs.chain(more).find(|(dir, _)| is_program(&dir.join(name)))?;
    Some(if by_name { PathBuf::from(name) } else { place.join(name) })
}

/// Whether this user may write a file, or make it where it is to be.
fn is_writable(path: &Path) -> bool {
    let nearest = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    nearest.is_some_and(|nearest| rustix::fs::access(nearest, Access::WRITE_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        let step = Step::new("certutil").args(&["-n", "manent CA 1"]).arg(Path::new("/a b/c"));
        assert_eq!(step.to_string(), "certutil -n 'manent CA 1' '/a b/c'");
    }

    #[test]
    fn a_failure_is_told_with_the_command_and_what_it_said() {
        let error =
            Step::new("sh").args(&["-c", "echo one; echo two >&2; exit 3"]).run().expect_err("exit 3");
        assert_eq!(error.to_string(), "sh -c 'echo one; echo two >&2; exit 3' failed: two");
        let error = Step::new("/no/such/tool").run().expect_err("not there");
        assert!(error.to_string().starts_with("/no/such/tool failed: "), "{error}");
        assert!(Step::new("true").run().is_ok());
    }

    #[test]
    fn what_is_not_there_is_writable_if_its_directory_is() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(is_writable(&dir.path().join("a/b/c")));
        assert!(program("sh").is_some() && program("no-such-program").is_none());
    }
}
