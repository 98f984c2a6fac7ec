//! The files of a store, and how they are made: readable by their owner only, whatever the umask.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The paths of a store, symbolic links resolved, so that two names of one store share one lock.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) db: PathBuf,
    /// A database that is being made, and has no other name yet.
    pub(super) new: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) bodies: PathBuf,
}

impl Paths {
    pub(super) fn of(db: &Path) -> Self {
        let db = resolve(db);
        let beside = |suffix: &str| {
            let mut name = db.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { new: beside("-new"), lock: beside("-lock"), bodies: beside("-bodies"), db }
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.bodies.join(format!("{number:06}.seg"))
    }
}

/// The file itself if it is there, else its place in its folder.
fn resolve(db: &Path) -> PathBuf {
    if let Ok(path) = db.canonicalize() {
        return path;
    }
    let parent = db.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), db.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => db.to_owned(),
    }
}

/// Opens a file for reading and writing; makes it with mode 0600 if it is not there. The mode of one that is there
/// is its owner's choice. SQLite gives `-wal` and `-shm` the mode of the database.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // A umask can only have taken bits away.
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(e) => Err(e),
    }
}

/// Makes a folder with mode 0700 if it is not there.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
            sync_folder(path.parent().unwrap_or(Path::new("/")))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes the names in a folder outlive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
