//! One writer a store: an exclusive `flock` on `<db>-lock`, which also holds the writer's process id and since
//! when it writes.
//!
//! The lock goes with the process, so a killed writer leaves none behind. The file stays; taking it away would let
//! two writers lock two files of one name.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use super::StoreError;
use super::paths::{Paths, open_private};
use super::writer::unix_ns;

/// Held while a writer has the store open.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that this process is just starting has a copy of the descriptor until it runs its
        // program (flock(2)). If it fails, closing does it as soon as that has happened.
        let _ = self.file.unlock();
    }
}

impl Lock {
    pub(super) fn take(paths: &Paths) -> Result<Self, StoreError> {
        let fail = |source| StoreError::io(&paths.lock, "locking the store", source);
        let mut file = open_private(&paths.lock).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (pid, since_unix_ns) = holder(&mut file);
                return Err(StoreError::Locked { path: paths.db.clone(), pid, since_unix_ns });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        // Only a help for messages: a full disk must not keep a store from being opened.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{} {}", std::process::id(), unix_ns()));
        Ok(Self { file })
    }
}

/// Process id and time of the holder; neither if it is just about to write them, and no time if it is of a version that
/// wrote none.
fn holder(file: &mut File) -> (Option<u32>, Option<i64>) {
    let mut text = String::new();
    // What cannot be read is left out of a message that is worth having without it.
    let _ = file.take(64).read_to_string(&mut text);
    let mut words = text.split_whitespace();
    (words.next().and_then(|pid| pid.parse().ok()), words.next().and_then(|since| since.parse().ok()))
}
