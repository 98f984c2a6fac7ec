//! Into a store: the flows of another one.

use std::ops::ControlFlow;
use std::path::Path;

use tokio::runtime::Handle;

use super::arrivals::Arrivals;
use super::import::{ImportError, ImportEvent, ImportOptions, Imported, blocking};
use super::item::{self, Few};
use super::sink::StoreSink;
use crate::flow::{Content, Message, Mid};
use crate::format::transfer::{Item, Part, Sink as _};
use crate::record::Recorder;
use crate::store::{Reader, StoreError};

/// Stores the flows of the store at `path` through the recorder, in their order, with their bodies, messages, connections and
/// notes. They get mids of this store; which one each got is told to `watch`, and replays refer to the new ones. The other
/// store is only read, and may be recorded into meanwhile: what comes in after the beginning is left.
///
/// Dropping this future does not stop it; `watch` does.
///
/// # Errors
/// If the other store cannot be read, or this one not be written; what was stored until then stays.
pub async fn merge(
    recorder: &Recorder,
    path: &Path,
    options: ImportOptions,
    mut watch: impl FnMut(ImportEvent<'_>) -> ControlFlow<()> + Send + 'static,
) -> Result<Imported, ImportError> {
    let (recorder, path) = (recorder.clone(), path.to_owned());
    blocking(move |runtime| copy_all(&recorder, runtime, &path, options, &mut watch)).await
}

fn copy_all(
    recorder: &Recorder,
    runtime: &Handle,
    path: &Path,
    options: ImportOptions,
    watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
) -> Result<Imported, ImportError> {
    let reader = Reader::open(path)?;
    if std::fs::canonicalize(path).is_ok_and(|path| path == recorder.path()) {
        return Err(StoreError::Same { path: path.to_owned() }.into());
    }
    let mut arrivals = Arrivals::new(recorder, runtime, options.known);
    let Some((mut first, last, _)) = reader.bounds()? else { return Ok(arrivals.done) };
    'all: loop {
        let page = reader.mids(first, last, Few::MOST)?;
        let Some(end) = page.last() else { break };
        let mut few = Few::read(&reader, &page, u64::MAX);
        for &mid in &page {
            let mut sink = arrivals.sink();
            let told = match few.item(mid) {
                // It was deleted a moment ago.
                Ok(None) => continue,
                Ok(Some(item)) => match copy(&item, &mut sink) {
                    Ok(flow) => {
                        let told = arrivals.take(sink, flow, item.note().clone(), watch)?;
                        match item.what_is_lost() {
                            Some(what) if told.is_continue() => damaged(&mut arrivals, mid, &what, watch),
                            _ => told,
                        }
                    }
                    Err(error) => {
                        sink.discard();
                        damaged(&mut arrivals, mid, &error.to_string(), watch)
                    }
                },
                Err(error @ StoreError::Damaged { .. }) => {
                    damaged(&mut arrivals, mid, &error.to_string(), watch)
                }
                Err(error) => {
                    arrivals.settle(watch)?;
                    return Err(error.into());
                }
            };
            if told.is_break() {
                break 'all;
            }
        }
        if *end == last {
            break;
        }
        first = Mid(end.0.saturating_add(1));
    }
    arrivals.settle(watch)?;
    Ok(arrivals.done)
}

fn damaged(
    arrivals: &mut Arrivals,
    mid: Mid,
    what: &str,
    watch: &mut dyn FnMut(ImportEvent<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    arrivals.done.damaged += 1;
    watch(ImportEvent::Damaged { position: mid.0, what })
}

/// The flow, its bodies and messages copied.
pub(super) fn copy(item: &dyn Item, sink: &mut StoreSink) -> std::io::Result<crate::flow::Flow> {
    let mut flow = item.flow().clone();
    for part in item::PARTS {
        let content = match item.in_memory(part) {
            Some(bytes) => sink.whole(part, bytes.clone())?,
            None => match item.body(part)? {
                Some(body) => pour(body, part, sink)?,
                None => continue,
            },
        };
        if let Some(place) = item::content_mut(&mut flow, part) {
            *place = content;
        }
    }
    if flow.websocket.is_some() {
        item.messages(&mut |message: &Message| {
            let mut message = message.clone();
            if message.content != Content::Absent {
                message.content = pour(item.payload(&message)?, Part::Message(message.from_client), sink)?;
            }
            sink.message(&message)
        })?;
    }
    Ok(flow)
}

fn pour(mut from: impl std::io::Read, part: Part, sink: &mut StoreSink) -> std::io::Result<Content> {
    sink.begin(part);
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return sink.end(),
            len => sink.write(&piece[..len])?,
        }
    }
}

/// As much as is copied at once.
const PIECE: usize = 64 << 10;
