//! Into a store: flows of a file, one after the other, out of a decoder.

use std::io::{self, BufRead};
use std::ops::ControlFlow;

use tokio::runtime::Handle;

use super::arrivals::Arrivals;
use super::known::Known;
use crate::flow::Mid;
use crate::format::transfer::{DecodeError, MakeDecoder};
use crate::record::{RecordError, Recorder};
use crate::store::StoreError;

/// How a file is imported.
#[derive(Debug, Default)]
pub struct ImportOptions {
    /// Flows that are not to be stored again; `None` to store all.
    pub known: Option<Known>,
    /// Whether a damaged flow ends the import, rather than being told and passed over.
    pub stop_at_damage: bool,
}

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Flows that are stored.
    pub flows: u64,
    /// Flows that the store had already.
    pub known: u64,
    /// Flows that the recorder's filter did not want.
    pub left_out: u64,
    /// Flows that could not be read.
    pub damaged: u64,
    /// Flows that are stored without a body that the disk could not take.
    pub lost_bodies: u64,
    /// Marks, comments and tags that cannot be such here.
    pub lost_notes: u64,
    /// The lowest mid that was given out, that of the first flow.
    pub first: Option<Mid>,
    /// That of the last flow.
    pub last: Option<Mid>,
}

/// What becomes of one flow.
#[derive(Debug)]
pub enum ImportEvent<'a> {
    /// It is stored: its transaction has committed.
    Stored {
        /// Its mid where it came from, if it had one.
        was: Option<Mid>,
        /// Its mid.
        mid: Mid,
    },
    /// The store had it already.
    Known(Option<Mid>),
    /// It could not be read.
    Damaged {
        /// Where in the file, in bytes of it uncompressed; of another store, the mid.
        position: u64,
        /// What is wrong.
        what: &'a str,
    },
}

/// Why an import ended before its end. What was imported until then is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not what it should be, and nothing after this can be read.
    #[error("at byte {position}: {what}")]
    File {
        /// Where, in bytes of the uncompressed file.
        position: u64,
        /// What is wrong there.
        what: String,
        /// What was imported before.
        done: Box<Imported>,
    },
    /// The file could not be read.
    #[error("reading the file: {source}")]
    Read {
        /// What the system said.
        source: io::Error,
        /// What was imported before.
        done: Box<Imported>,
    },
    /// A flow could not be stored.
    #[error("{error}")]
    Store {
        /// Why.
        #[source]
        error: RecordError,
        /// What was imported before.
        done: Box<Imported>,
    },
    /// The other store could not be read.
    #[error(transparent)]
    Source(#[from] StoreError),
    /// A flow is stored, but not what people wrote beside it.
    #[error("the notes of flow {mid}: {error}")]
    Note {
        /// The flow.
        mid: Mid,
        /// Why.
        error: StoreError,
    },
}

/// Has a decoder read a file, and stores what it finds through the recorder. Mids are given out in the order of the file.
/// `watch` is told of each flow, on a thread that may block, and may stop the import behind any.
///
/// Dropping this future does not stop the import; `watch` does.
///
/// # Errors
/// If the file cannot be read on, or the store not be written; what was imported until then is stored, and told in the
/// error.
pub async fn import(
    recorder: &Recorder,
    make: MakeDecoder,
    input: Box<dyn BufRead + Send>,
    options: ImportOptions,
    mut watch: impl FnMut(ImportEvent<'_>) -> ControlFlow<()> + Send + 'static,
) -> Result<Imported, ImportError> {
    let recorder = recorder.clone();
    blocking(move |runtime| read_all(&recorder, runtime, make, input, options, &mut watch)).await
}

/// Runs work that blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce(&Handle) -> T + Send + 'static) -> T {
    let runtime = Handle::current();
    match tokio::task::spawn_blocking(move || work(&runtime)).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn read_all(
    recorder: &Recorder,
    runtime: &Handle,
    make: MakeDecoder,
    input: Box<dyn BufRead + Send>,
    options: ImportOptions,
    watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
) -> Result<Imported, ImportError> {
    let mut decoder = make(input);
    let mut arrivals = Arrivals::new(recorder, runtime, options.known);
    let ended = loop {
        let mut sink = arrivals.sink();
        let error = match decoder.next(&mut sink) {
            Ok(Some(decoded)) => match arrivals.take(sink, decoded.flow, decoded.note, watch)? {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(()) => break Ok(()),
            },
            Ok(None) => {
                sink.discard();
                break Ok(());
            }
            Err(error) => error,
        };
        sink.discard();
        match error {
            DecodeError::Flow { position, what } => {
                arrivals.done.damaged += 1;
                if watch(ImportEvent::Damaged { position, what: &what }).is_break() {
                    break Ok(());
                }
                if options.stop_at_damage {
                    break Err(DecodeError::File { position, what });
                }
            }
            other => break Err(other),
        }
    };
    arrivals.settle(watch)?;
    let done = arrivals.done;
    match ended.map_err(|error| (error, Box::new(done))) {
        Ok(()) => Ok(done),
        Err((DecodeError::Flow { position, what } | DecodeError::File { position, what }, done)) => {
            Err(ImportError::File { position, what, done })
        }
        Err((DecodeError::Io(source), done)) => Err(ImportError::Read { source, done }),
    }
}
