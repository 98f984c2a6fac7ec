//! `manent export --format db`: flows into a store of their own, which is one file.
//!
//! They go through a recorder into a store in a temporary folder, and from there into the file, which appears when it is whole.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use super::errors::CliError;
use super::export::{Chosen, ExportArgs, Work, refuse_what_is_read, write_failed};
use super::output::Output;
use super::stores::Opened;
use super::{process, text};
use crate::record::{Recorder, RecorderOptions};
use crate::store::{self, PackOptions};
use crate::transfer::IntoStore;

pub(super) fn run(
    args: &ExportArgs,
    files: &[PathBuf],
    mut opened: Opened,
    mut work: Work,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let to = &args.output;
    if to == Path::new("-") {
        return Err(CliError::StoreToStdout.into());
    }
    if !args.force && to.symlink_metadata().is_ok() {
        return Err(CliError::FileExists { path: text::path(to) }.into());
    }
    refuse_what_is_read(to, files)?;
    // Segment files are held open while they are copied from.
    process::raise_file_limit();
    let (runtime, stop) = (work.stopped_by_signals()?, work.stop());
    let name = text::path(to);
    let failed = |source: io::Error| CliError::Write { path: name.clone(), source };
    let beside = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = tempfile::Builder::new().prefix(".manent-export-").tempdir_in(beside).map_err(failed)?;
    let made = dir.path().join("flows.db");
    let recorder = runtime.block_on(Recorder::open(&made, RecorderOptions::bulk("export")))?;
    let mut encoder = Chosen::new(Box::new(IntoStore::new(&recorder, runtime.handle())), args, None);
    let written = work
        .stores(files, &mut opened, encoder.get(), &mut io::sink())
        .and_then(|()| encoder.get().finish(&mut io::sink()).map_err(|source| write_failed(&name, source)));
    work.progress.clear();
    let closed = runtime.block_on(recorder.close());
    written?;
    closed?;
    let options = PackOptions { level: None, replace: args.force };
    store::pack(&made, to, options, &mut |_| match stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })?;
    encoder.tell_masked(output);
    Ok(work.told(opened.exit_code(work.done.flows > 0)))
}
