//! Where the bytes of segments are: in files beside the database or, of a packed store, in the database itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::db_file::DbFile;
use super::paths::Paths;
use super::reader::integer;
use super::row::sqlite_int;
use super::{recover, schema};

/// The number of the segment that a packed store has in its table `chunk`. Files are numbered from 1, and never come near it.
pub(super) const PACKED: u32 = u32::MAX;

/// The most bytes in a row of `chunk`. A row's last page is half empty in the mean, 4 KiB; and a row is read whole.
pub(super) const CHUNK_BYTES: usize = 128 << 10;

/// The segments of a store.
#[derive(Debug)]
pub(super) struct Source {
    paths: Paths,
    /// See [`packed`].
    packed: Option<i64>,
    /// Files that stay readable, whatever becomes of their names.
    held: Mutex<BTreeMap<u32, Arc<File>>>,
    /// A few files that were read from; that used last at the end.
    recent: Mutex<Vec<(u32, Arc<File>)>>,
    /// A connection of its own: a body is read on any thread, beside whatever its reader does.
    chunks: Mutex<Option<(Connection, DbFile)>>,
}

impl Source {
    pub(super) fn new(paths: Paths, packed: Option<i64>) -> Self {
        Self { paths, packed, held: Mutex::default(), recent: Mutex::default(), chunks: Mutex::default() }
    }

    /// When the store was packed, nanoseconds since 1970; `None` for a store with files.
    pub(super) fn packed(&self) -> Option<i64> {
        self.packed
    }

    /// Opens all segment files that are there, so that none is lost when its name goes.
    ///
    /// # Errors
    /// What the system said; as when a process may not have so many files open.
    pub(super) fn hold(&self) -> io::Result<()> {
        for number in recover::segment_numbers(&self.paths.bodies)? {
            match self.file(number) {
                Ok(file) => {
                    self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(number, file);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A segment file.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn file(&self, segment: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&segment) {
            return Ok(Arc::clone(file));
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match recent.iter().position(|(number, _)| *number == segment) {
            Some(found) => recent.remove(found).1,
            None => Arc::new(File::open(self.paths.segment(segment))?),
        };
        if recent.len() >= RECENT_FILES {
            recent.remove(0);
        }
        recent.push((segment, Arc::clone(&file)));
        Ok(file)
    }

    /// Closes the file of a segment, if it is open and nobody reads from it.
    pub(super) fn forget(&self, segment: u32) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(number, _)| *number != segment);
    }

    /// The bytes of a segment from `offset` on.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn open(self: &Arc<Self>, segment: u32, offset: u64) -> io::Result<Stream> {
        if segment == PACKED {
            let source = Arc::clone(self);
            return Ok(Stream(Inner::Chunks { source, block: Vec::new(), at: 0, offset }));
        }
        let file = FileAt { file: self.file(segment)?, offset };
        Ok(Stream(Inner::File(BufReader::with_capacity(FILE_BUFFER, file))))
    }

    /// The bytes of the row of `chunk` that holds `offset`, from there on; nothing behind the last one.
    fn chunk(&self, offset: u64, block: &mut Vec<u8>) -> io::Result<()> {
        block.clear();
        let Ok(wanted) = i64::try_from(offset) else { return Ok(()) };
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let conn = match &mut *chunks {
            Some((conn, _)) => conn,
            none => &mut none.insert(self.connect()?).0,
        };
        let mut statement = conn.prepare_cached(CHUNK).map_err(io::Error::other)?;
        let found = statement.query_row((wanted, sqlite_int(CHUNK_BYTES as u64)), |row| {
            let skip = wanted.saturating_sub(integer(row, 0)?.unwrap_or(wanted));
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            // NULL where it is longer than any that was ever written.
            if let ValueRef::Blob(data) = row.get_ref(1)? {
                block.extend_from_slice(data.get(skip..).unwrap_or_default());
            }
            Ok(())
        });
        found.optional().map_err(io::Error::other)?;
        Ok(())
    }

    fn connect(&self) -> io::Result<(Connection, DbFile)> {
        let gone = || io::Error::new(io::ErrorKind::InvalidData, "the store was replaced by another");
        let file = DbFile::find(&self.paths.db).map_err(io::Error::other)?.ok_or_else(gone)?;
        let conn = schema::open_reader(&self.paths.db).map_err(io::Error::other)?;
        match packed(&conn).map_err(io::Error::other)? {
            found if found == self.packed => Ok((conn, file)),
            _ => Err(gone()),
        }
    }
}

/// What a segment is called in messages.
pub(super) fn name(segment: u32) -> String {
    match segment {
        PACKED => "the segment in the database".to_owned(),
        number => format!("segment {number:06}"),
    }
}

/// When a store was packed, nanoseconds since 1970, by its table `meta`; `None` for a store with files.
pub(super) fn packed(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    let found = conn.query_row("SELECT value FROM meta WHERE key = 'packed'", [], |row| integer(row, 0));
    found.optional().map(Option::flatten)
}

/// Bytes of a segment, one after the other.
#[derive(Debug)]
pub(super) struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    File(BufReader<FileAt>),
    Chunks {
        source: Arc<Source>,
        /// What is there from `offset` on begins at `at`.
        block: Vec<u8>,
        at: usize,
        offset: u64,
    },
}

/// A place in a file that others read too.
#[derive(Debug)]
struct FileAt {
    file: Arc<File>,
    offset: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (source, block, at, offset) = match &mut self.0 {
            Inner::File(file) => return file.read(buffer),
            Inner::Chunks { source, block, at, offset } => (source, block, at, offset),
        };
        if *at >= block.len() {
            *at = 0;
            source.chunk(*offset, block)?;
        }
        let n = buffer.len().min(block.len() - *at);
        buffer[..n].copy_from_slice(&block[*at..*at + n]);
        (*at, *offset) = (*at + n, offset.saturating_add(n as u64));
        Ok(n)
    }
}

impl Read for FileAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(n as u64);
        Ok(n)
    }
}

/// A list goes through few segments at a time; each is up to 512 MiB.
const RECENT_FILES: usize = 8;

/// Small pieces come several at a time; of a large one, only its beginning is copied twice.
const FILE_BUFFER: usize = 8 << 10;

const CHUNK: &str = "SELECT at, CASE WHEN length(data) <= ?2 THEN data END FROM chunk WHERE at <= ?1 \
     ORDER BY at DESC LIMIT 1";
