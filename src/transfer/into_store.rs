//! Into another store by the way of an encoder, so that what stands in front of encoders, as masking, works here too.

use std::io::{self, Write};
use std::ops::ControlFlow;

use tokio::runtime::Handle;

use super::arrivals::Arrivals;
use super::import::ImportEvent;
use super::merge::copy;
use crate::format::transfer::{EncodeError, Encoder, Item};
use crate::record::Recorder;

/// Stores what it is given through a recorder; nothing goes to `out`. Flows get mids of that store, and replays refer to the
/// new ones. It blocks, so it is not for a thread of the runtime.
pub struct IntoStore(Arrivals);

impl IntoStore {
    /// Into the recorder's store. `runtime` is the one that the recorder runs on.
    #[must_use]
    pub fn new(recorder: &Recorder, runtime: &Handle) -> Self {
        Self(Arrivals::new(recorder, runtime, None))
    }
}

impl std::fmt::Debug for IntoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntoStore").finish_non_exhaustive()
    }
}

impl Encoder for IntoStore {
    fn flow(&mut self, item: &dyn Item, _: &mut dyn Write) -> Result<(), EncodeError> {
        let mut sink = self.0.sink();
        let flow = match copy(item, &mut sink) {
            Ok(flow) => flow,
            Err(error) => {
                sink.discard();
                return Err(error.into());
            }
        };
        let taken = self.0.take(sink, flow, item.note().clone(), &mut go_on).map_err(io::Error::other)?;
        debug_assert!(taken.is_continue(), "nothing ends it");
        Ok(())
    }

    fn next_store(&mut self) {
        self.0.next_store();
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        self.0.settle(&mut go_on).map_err(io::Error::other)?;
        match self.0.done.lost_bodies {
            0 => Ok(()),
            // A store that lacks what its source has is no copy of it.
            lost => Err(io::Error::other(format!("bodies of {lost} flows could not be stored"))),
        }
    }
}

fn go_on(_: ImportEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
