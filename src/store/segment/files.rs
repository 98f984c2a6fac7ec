//! The files under the segments. Behind a trait, so that tests can record every write and sync, cut the power between
//! them, and fill the disk.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::store::paths::{Paths, open_private, private_folder, sync_folder};

/// Where segment files come from.
pub(in crate::store) trait SegmentFiles: Send + Sync + Debug {
    /// Opens a segment, making it if it is not there; its name is on disk when this returns.
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>>;
}

/// One segment file.
pub(in crate::store) trait SegmentFile: Send + Sync + Debug {
    /// Writes some of `data` at `offset`; how many bytes.
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Returns when everything written before is on disk.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Real files in the store's folder.
#[derive(Debug)]
pub(in crate::store) struct DiskFiles {
    pub(in crate::store) paths: Paths,
}

impl SegmentFiles for DiskFiles {
    fn open(&self, number: u32) -> io::Result<Arc<dyn SegmentFile>> {
        private_folder(&self.paths.bodies)?;
        let file = open_private(&self.paths.segment(number))?;
        sync_folder(&self.paths.bodies)?;
        Ok(Arc::new(file))
    }
}

impl SegmentFile for File {
    fn write_at(&self, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pwritev(self, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}
