//! A file that is written by a thread of its own, while the next of it is made.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Hands what is written to another thread in large pieces, of which a few may wait. [`Behind::finish`] ends it.
///
/// An error is told by a later call than the one that gave the bytes. Dropped unfinished, it waits for what it has handed
/// over; what is in its buffer is lost.
#[derive(Debug)]
pub struct Behind<W> {
    buffer: Vec<u8>,
    to: Option<SyncSender<Piece>>,
    /// Emptied buffers come back.
    emptied: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<io::Result<W>>>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// All before it has to reach its place; then this is told.
    Flush(SyncSender<()>),
}

impl<W: Write + Send + 'static> Behind<W> {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(mut inner: W) -> io::Result<Self> {
        let (to, pieces) = sync_channel(WAITING);
        let (back, emptied) = sync_channel(WAITING + 2);
        let write = move || {
            while let Ok(piece) = pieces.recv() {
                match piece {
                    Piece::Bytes(mut bytes) => {
                        inner.write_all(&bytes)?;
                        bytes.clear();
                        // There is room for all that there are; nobody may want it any more.
                        let _ = back.try_send(bytes);
                    }
                    Piece::Flush(done) => {
                        inner.flush()?;
                        // Whoever waited may be gone.
                        let _ = done.send(());
                    }
                }
            }
            Ok(inner)
        };
        let thread = std::thread::Builder::new().name("output".into()).spawn(write)?;
        Ok(Self { buffer: Vec::with_capacity(PIECE), to: Some(to), emptied, thread: Some(thread) })
    }

    /// Waits until everything is written; what was written to.
    ///
    /// # Errors
    /// What it said.
    pub fn finish(mut self) -> io::Result<W> {
        self.hand_over()?;
        self.join()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let empty = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        let full = std::mem::replace(&mut self.buffer, empty);
        self.send(Piece::Bytes(full))
    }

    fn send(&mut self, piece: Piece) -> io::Result<()> {
        match &self.to {
            Some(to) if to.send(piece).is_ok() => Ok(()),
            // The thread ends early only by an error.
            _ => self.join().and_then(|_| Err(broken())),
        }
    }

    fn join(&mut self) -> io::Result<W> {
        self.to = None;
        match self.thread.take().ok_or_else(broken)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<W: Write + Send + 'static> Write for Behind<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(PIECE.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(&bytes[..fits]);
        if self.buffer.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        let (done, all_done) = sync_channel(1);
        self.send(Piece::Flush(done))?;
        match all_done.recv() {
            Ok(()) => Ok(()),
            Err(_) => self.join().and_then(|_| Err(broken())),
        }
    }
}

impl<W> Drop for Behind<W> {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            // Whoever dropped it does not ask how it went.
            let _ = thread.join();
        }
    }
}

/// After an error that was told.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nothing more can be written after an error")
}

/// Bytes handed over at once: few enough calls, few enough changes of threads.
const PIECE: usize = 256 << 10;

/// Pieces that may wait. One is written, one is filled besides.
const WAITING: usize = 2;

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn all_arrives_in_its_order() {
        let mut out = Behind::start(Vec::new()).unwrap();
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|n| n.to_le_bytes()[0]).collect();
        out.write_all(&bytes[..5]).unwrap();
        out.flush().unwrap();
        out.write_all(&bytes[5..]).unwrap();
        assert_eq!(out.finish().unwrap(), bytes);
    }

    /// Takes one piece.
    #[derive(Debug)]
    struct Full(bool);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match std::mem::replace(&mut self.0, true) {
                false => Ok(bytes.len()),
                true => Err(io::Error::other("full")),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_is_told_and_ends_it() {
        let mut out = Behind::start(Full(false)).unwrap();
        out.write_all(&vec![0; PIECE]).unwrap();
        let error = out.write_all(&vec![0; 9 * PIECE]).and_then(|()| out.flush()).unwrap_err();
        assert_eq!(error.to_string(), "full");
        assert!(out.flush().is_err() && out.finish().is_err());
    }
}
