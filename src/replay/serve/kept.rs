//! A request's body that is kept until it is clear what becomes of the request: in memory while it is small, else in a file
//! without a name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::recorded::pieces;
use crate::proxy::BodyStream;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    file: Option<File>,
    len: u64,
    failed: Option<io::Error>,
}

impl Kept {
    /// Keeps the next piece. After a failure, which [`Kept::failure`] tells, nothing more.
    pub(super) async fn push(&mut self, data: Bytes) {
        self.len += data.len() as u64;
        if self.failed.is_some() {
            return;
        }
        if self.file.is_none() && self.bytes.len() + data.len() <= IN_MEMORY {
            self.bytes.extend_from_slice(&data);
            return;
        }
        let (file, before) = (self.file.take(), std::mem::take(&mut self.bytes));
        let written = spawn_blocking(move || {
            let mut file = file.map_or_else(nameless_file, Ok)?;
            file.write_all(&before)?;
            file.write_all(&data)?;
            io::Result::Ok(file)
        });
        match written.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Why it was not kept.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// All of it, if it is no longer than `limit`. Blocks.
    pub(super) fn whole(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        if self.len > limit as u64 {
            return Ok(None);
        }
        let Some(file) = &mut self.file else { return Ok(Some(self.bytes.clone())) };
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The beginning of it, as far as it is in memory.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives it back, piece by piece. Blocks for a moment.
    pub(super) fn into_stream(self) -> io::Result<BodyStream> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(mut file) = self.file else {
            return Ok(stream::once(async move { Ok(Bytes::from(self.bytes)) }).boxed());
        };
        file.seek(SeekFrom::Start(0))?;
        Ok(pieces(file))
    }
}

/// A file in the folder for temporary ones that nobody else can open, gone when it is closed.
fn nameless_file() -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..TRIES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("manent-body-{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            // Left by another process that was killed in between.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Most bodies of requests are smaller.
const IN_MEMORY: usize = 64 << 10;

/// Arbitrary: names that are taken are left-overs.
const TRIES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_comes_back_as_it_was_whatever_its_size() {
        for len in [0, 1, IN_MEMORY, IN_MEMORY + 1, 5 * IN_MEMORY + 3] {
            let body: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
            let mut kept = Kept::default();
            for piece in body.chunks(1000) {
                kept.push(Bytes::copy_from_slice(piece)).await;
            }
            assert!(kept.failure().is_none());
            assert_eq!(kept.whole(len).unwrap(), Some(body.clone()));
            if let Some(less) = len.checked_sub(1) {
                assert_eq!(kept.whole(less).unwrap(), None);
            }
            let mut stream = kept.into_stream().unwrap();
            let mut back = Vec::new();
            while let Some(piece) = stream.next().await {
                back.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(back, body);
        }
    }
}
