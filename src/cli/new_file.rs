//! A file that appears under its name when it is whole, or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::errors::CliError;
use super::text;

/// Dropped before [`NewFile::keep`], it leaves nothing; so does a process that is killed, but for a hidden file beside it that ends
/// in `.part`.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    place: Place,
    force: bool,
}

#[derive(Debug)]
enum Place {
    Beside(NamedTempFile),
    /// A pipe, a terminal, `/dev/null`: what is no plain file is written to as it is.
    Itself(File),
}

impl NewFile {
    /// Whether something appears at this path, rather than that what is there is written to.
    pub(super) fn is_made_at(path: &Path) -> bool {
        path.metadata().map_or(true, |found| found.is_file())
    }

    /// Begins a file, readable as the umask says; `force` allows to replace another. Behind a symbolic link, the file that it
    /// leads to is the one.
    ///
    /// # Errors
    /// [`CliError::FileExists`], or [`CliError::Write`] with what the system said.
    pub(super) fn create(path: &Path, force: bool) -> Result<Self, CliError> {
        let failed = |source| CliError::Write { path: text::path(path), source };
        if !Self::is_made_at(path) {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), place: Place::Itself(file), force });
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(CliError::FileExists { path: text::path(path) });
        }
        let found = path.metadata().ok();
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".part")
            .permissions(found.map_or(Permissions::from_mode(0o666), |found| found.permissions()))
            .tempfile_in(dir)
            // The name that it was to have says nothing to anybody.
            .map_err(|error| failed(io::Error::from(error.kind())))?;
        Ok(Self { path, place: Place::Beside(new), force })
    }

    /// What is to be written to.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn file(&self) -> io::Result<File> {
        match &self.place {
            Place::Beside(new) => new.as_file().try_clone(),
            Place::Itself(file) => file.try_clone(),
        }
    }

    /// Makes it appear under its name.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub(super) fn keep(self) -> Result<(), CliError> {
        let Place::Beside(new) = self.place else { return Ok(()) };
        let placed = if self.force { new.persist(&self.path) } else { new.persist_noclobber(&self.path) };
        match placed {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CliError::FileExists { path: text::path(&self.path) })
            }
            Err(error) => Err(CliError::Write { path: text::path(&self.path), source: error.error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str, force: bool) -> Result<(), CliError> {
        let new = NewFile::create(path, force)?;
        new.file().unwrap().write_all(text.as_bytes()).unwrap();
        new.keep()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (path, names) = (dir.path().join("a"), || std::fs::read_dir(dir.path()).unwrap().count());
        let new = NewFile::create(&path, false).unwrap();
        new.file().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(new);
        assert_eq!(names(), 0);
        write(&path, "one", false).unwrap();
        assert!(matches!(write(&path, "two", false), Err(CliError::FileExists { .. })));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        write(&path, "two", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "as it was");
        assert_eq!(names(), 1);
    }

    #[test]
    fn another_that_came_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let new = NewFile::create(&path, false).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(matches!(new.keep(), Err(CliError::FileExists { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn links_are_followed_and_what_is_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "old").unwrap();
        symlink("real", &link).unwrap();
        assert!(matches!(write(&link, "new", false), Err(CliError::FileExists { .. })));
        write(&link, "new", true).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
        write(Path::new("/dev/null"), "nothing", true).unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
