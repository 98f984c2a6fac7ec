//! The stores that a command reads: files, patterns, and names that follow the clock.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use glob::{MatchOptions, Pattern};

use super::errors::{self, CliError};
use super::output::Output;
use super::{escape, process, text};
use crate::store::{NameFormat, StoreError};

/// What `--store` says.
#[derive(Debug)]
pub(super) struct Stores {
    given: Vec<Given>,
}

#[derive(Debug)]
enum Given {
    File(PathBuf),
    Pattern(String),
}

impl Stores {
    /// A name that is there is taken as it is; else `%` makes it a format, and `*`, `?` or `[` a pattern.
    ///
    /// # Errors
    /// If a format or a pattern is a bad one.
    pub(super) fn of(names: &[PathBuf]) -> anyhow::Result<Self> {
        let read = |name: &PathBuf| {
            if name.exists() {
                return Ok(Given::File(name.clone()));
            }
            if let Some(format) = NameFormat::of(name)? {
                return Ok(Given::Pattern(format.pattern(Pattern::escape).to_string_lossy().into_owned()));
            }
            match name.to_str().filter(|name| name.contains(['*', '?', '['])) {
                Some(pattern) => match Pattern::new(pattern) {
                    Ok(_) => Ok(Given::Pattern(pattern.to_owned())),
                    Err(error) => {
                        Err(CliError::Pattern { pattern: pattern.to_owned(), why: error.msg.to_owned() }
                            .into())
                    }
                },
                None => Ok(Given::File(name.clone())),
            }
        };
        Ok(Self { given: names.iter().map(read).collect::<anyhow::Result<_>>()? })
    }

    /// The one file, where no more than one can be meant.
    pub(super) fn single(&self) -> Option<&Path> {
        match &self.given[..] {
            [Given::File(path)] => Some(path),
            _ => None,
        }
    }

    /// The files that are meant now: those that were named, and what matches a pattern. Each once, by name.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = BTreeSet::new();
        for given in &self.given {
            match given {
                Given::File(path) => {
                    files.insert(path.clone());
                }
                Given::Pattern(pattern) => files.extend(matches(pattern)),
            }
        }
        files.into_iter().collect()
    }

    /// The folders in which another file may come to be meant.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let patterns = self.given.iter().filter_map(|given| match given {
            Given::File(_) => None,
            Given::Pattern(pattern) => Some(Path::new(pattern)),
        });
        patterns.map(folder_of).collect()
    }

    /// How people wrote it, for messages.
    pub(super) fn told(&self) -> String {
        let told = self.given.iter().map(|given| match given {
            Given::File(path) => escape::line(path.as_os_str().as_encoded_bytes()),
            Given::Pattern(pattern) => escape::line(pattern),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// As [`Stores::files`].
    ///
    /// # Errors
    /// If a pattern is all that there is, and nothing matches it.
    pub(super) fn some_files(&self) -> Result<Vec<PathBuf>, CliError> {
        let files = self.files();
        if files.is_empty() { Err(CliError::NoStore { pattern: self.told() }) } else { Ok(files) }
    }
}

/// Opens each of several stores for a moment, or for longer, and goes on when one cannot be opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Whether one could not be read: it has been told, and the exit code has to say so.
    pub(super) failed: bool,
    /// Whether rows have to say which store they are of.
    pub(super) several: bool,
    /// Flows that may have matched a filter and could not be read.
    pub(super) unreadable: u64,
    output: Output,
}

impl Opened {
    pub(super) fn new(stores: &Stores, output: &Output) -> Self {
        if stores.single().is_none() {
            process::raise_file_limit();
        }
        Self { failed: false, several: stores.single().is_none(), unreadable: 0, output: *output }
    }

    /// How a list ends that has rows, or none.
    pub(super) fn exit_code(&self, any: bool) -> ExitCode {
        if self.unreadable > 0 {
            let flows = text::count(self.unreadable, "flow");
            self.output.say(&format!("warning: {flows} could not be read, and may have matched"));
        }
        match (self.failed, any) {
            (true, _) => ExitCode::from(errors::STORE),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::from(errors::NO),
        }
    }

    /// What was read of a store, or `None` if that failed and was told.
    ///
    /// # Errors
    /// The same, if it is the only store.
    pub(super) fn keep<T>(&mut self, result: Result<T, StoreError>) -> anyhow::Result<Option<T>> {
        self.keep_any(result.map_err(anyhow::Error::from))
    }

    /// As [`Opened::keep`], of any error.
    ///
    /// # Errors
    /// The same, if it is the only store.
    pub(super) fn keep_any<T>(&mut self, result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match result {
            Err(error) if self.several => {
                // The exit code comes at the end.
                let _ = errors::report(&error, &self.output);
                self.failed = true;
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

/// Short names that tell the stores apart: those of the files, or whole paths where these are not different.
pub(super) fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |path: &'_ PathBuf| path.file_name().unwrap_or_default().to_os_string();
    let different: HashSet<_> = files.iter().map(name).collect();
    let short = different.len() == files.len();
    let told = |path: &PathBuf| if short { name(path) } else { path.clone().into_os_string() };
    files.iter().map(|path| told(path).to_string_lossy().into_owned()).collect()
}

fn matches(pattern: &str) -> BTreeSet<PathBuf> {
    // As a shell has it.
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let Ok(found) = glob::glob_with(pattern, options) else { return BTreeSet::new() };
    // What cannot be looked at is not listed, as in a shell.
    let found: BTreeSet<PathBuf> = found.flatten().collect();
    let companion = |path: &PathBuf| COMPANIONS.iter().any(|suffix| belongs(path, suffix));
    found.iter().filter(|path| !companion(path)).cloned().collect()
}

/// Whether a file is what stands beside a store that is there: its log, its lock, its bodies.
fn belongs(path: &Path, suffix: &str) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    let Some(store) = name.strip_suffix(suffix.as_bytes()) else { return false };
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(OsStr::from_bytes(store)).exists()
}

/// What a store has beside it: sqlite.org/tempfiles.html, and our own.
const COMPANIONS: [&str; 6] = ["-wal", "-shm", "-journal", "-lock", "-new", "-bodies"];

fn folder_of(pattern: &Path) -> PathBuf {
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_a_pattern_or_a_format() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for name in
            ["a-2026.db", "a-2026.db-wal", "a-2026.db-lock", "a-x.db", "[b].db", ".a-1.db", "lone-wal"]
        {
            std::fs::write(at(name), "").expect("a file");
        }
        let found = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| at(name)).collect();
            let files = Stores::of(&names).expect("good names").files();
            files
                .iter()
                .map(|f| f.file_name().unwrap_or_default().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&["a-*"]), ["a-2026.db", "a-x.db"]);
        assert_eq!(found(&["a-%Y.db"]), ["a-2026.db"]);
        assert_eq!(found(&["a-?.db", "a-*.db", "nowhere.db"]), ["a-2026.db", "a-x.db", "nowhere.db"]);
        assert_eq!(found(&["[b].db"]), ["[b].db"]);
        assert_eq!(found(&["*-wal"]), ["lone-wal"]);
        assert!(Stores::of(&["a***".into()]).is_err() && Stores::of(&["a%Q".into()]).is_err());
    }

    #[test]
    fn names_are_short_where_they_are_different() {
        let names = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a/x.db", "a/y.db"]), ["x.db", "y.db"]);
        assert_eq!(names(&["a/x.db", "b/x.db"]), ["a/x.db", "b/x.db"]);
    }
}
