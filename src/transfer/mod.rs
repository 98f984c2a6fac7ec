//! Flows into stores and out of them: the work that is the same for every format.
//!
//! [`export`] reads flows of a store and has an [`crate::format::transfer::Encoder`] write them; [`import`] has a
//! [`crate::format::transfer::Decoder`] read a file and hands what it finds to a [`crate::record::Recorder`];
//! [`merge`] brings in another store, and [`IntoStore`] is an encoder that exports into one. All of them hold one flow at a time and of its bodies a piece, so neither the number
//! of flows nor their size is bounded by memory.
//!
//! ```no_run
//! # use std::io::BufReader;
//! # use manent::{format, record, transfer};
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let recorder = record::Recorder::open("flows.db".as_ref(), record::RecorderOptions::default()).await?;
//! let file = BufReader::new(std::fs::File::open("page.har")?);
//! let make = format::by_name("har").and_then(|format| format.decoder).ok_or("no such format")?;
//! let options = transfer::ImportOptions::default();
//! let go_on = |_: transfer::ImportEvent<'_>| std::ops::ControlFlow::Continue(());
//! let done = transfer::import(&recorder, make, Box::new(file), options, go_on).await?;
//! println!("{} flows", done.flows);
//! recorder.close().await?;
//! # Ok(()) }
//! ```

mod arrivals;
mod behind;
mod export;
mod import;
mod into_store;
mod item;
mod known;
mod merge;
mod sink;

pub use behind::Behind;
pub use export::{ExportError, ExportEvent, ExportOptions, Exported, export};
pub use import::{ImportError, ImportEvent, ImportOptions, Imported, import};
pub use into_store::IntoStore;
pub use item::StoredItem;
pub use known::Known;
pub use merge::merge;
