//! One writer a store: an exclusive `flock` on `<db>-lock`, which also holds the writer's process id.
//!
//! The lock goes with the process, so a killed writer leaves none behind. The file stays; taking it away would let
//! two writers lock two files of one name.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use super::StoreError;
use super::paths::{Paths, open_private};

/// Held while a writer has the store open.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(paths: &Paths) -> Result<Self, StoreError> {
        let fail = |source| StoreError::io(&paths.lock, "locking the store", source);
        let mut file = open_private(&paths.lock).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: paths.db.clone(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        // Only a help for messages: a full disk must not keep a store from being opened.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
