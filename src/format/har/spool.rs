//! Bytes that wait until it is known what they mean: in memory while they are few, else in a file without a name.
//!
//! `content.encoding` may stand behind `content.text`, and the messages of a WebSocket before the time that theirs count from.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};

/// Bytes that were put one behind the other.
#[derive(Debug, Default)]
pub(super) struct Spool {
    memory: Vec<u8>,
    /// All of it, once it was too much for the memory.
    file: Option<BufWriter<File>>,
    len: u64,
}

/// A run of a spool's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Spool {
    /// How many bytes it holds.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The run from `at` to the end.
    pub(super) fn since(&self, at: u64) -> Run {
        Run { at, len: self.len - at }
    }

    /// Puts `bytes` behind what is there.
    ///
    /// # Errors
    /// If there is no room for a temporary file.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > IN_MEMORY {
            let mut file = BufWriter::new(tempfile::tempfile()?);
            file.write_all(&self.memory)?;
            self.file = Some(file);
            self.memory = Vec::new();
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.memory.clear();
        self.file = None;
        self.len = 0;
    }

    /// The bytes of a run, where all are in memory.
    pub(super) fn in_memory(&self, run: Run) -> Option<&[u8]> {
        let at = usize::try_from(run.at).ok()?;
        let end = at.checked_add(usize::try_from(run.len).ok()?)?;
        self.memory.get(at..end).filter(|_| self.file.is_none())
    }

    /// The bytes of a run. Nothing is to be put after the first call.
    ///
    /// # Errors
    /// If the temporary file fails.
    pub(super) fn read(&mut self, run: Run) -> io::Result<Box<dyn Read + '_>> {
        let Some(file) = &mut self.file else {
            let at = usize::try_from(run.at).unwrap_or(usize::MAX).min(self.memory.len());
            return Ok(Box::new(self.memory[at..].take(run.len)));
        };
        file.flush()?;
        let file = file.get_mut();
        file.seek(SeekFrom::Start(run.at))?;
        Ok(Box::new(file.take(run.len)))
    }
}

/// Most bodies are smaller, and the memory of an import has to stay far below 128 MiB.
const IN_MEMORY: usize = 4 * 1024 * 1024;
