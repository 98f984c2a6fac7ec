//! `manent export`: flows in the formats of other tools.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use flate2::Compression;
use tokio::runtime::{Builder, Runtime};

use super::args::Global;
use super::asked::Asking;
use super::errors::{self, CliError};
use super::new_file::NewFile;
use super::output::{Output, StdoutFailed};
use super::progress::Progress;
use super::signals::Signals;
use super::stores::Opened;
use super::which::Which;
use super::{escape, export_store, text};
use crate::config::units::parse_size;
use crate::flow::Mid;
use crate::format;
use crate::format::redact::{Masked, Redacting};
use crate::format::transfer::{EncodeOptions, Encoder, Format};
use crate::store::{Reader, StoreError};
use crate::transfer::{Behind, ExportEvent, ExportOptions, Exported, export};

/// Write flows in the format of another tool
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    /// Which flows: mids (12, 12,15, 40-60, last:5, @FILE) or a filter; all without
    #[arg(value_name = "MIDS|FILTER")]
    which: Vec<String>,
    /// The file to write; `-` is standard output. Compressed if its name ends in .gz or .zst
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(super) output: PathBuf,
    /// The format [default: by the ending of the file's name]
    #[arg(long, value_name = "NAME", help = format_help())]
    format: Option<String>,
    /// Leave bodies out that have more bytes than this
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_body: Option<u64>,
    /// Mask passwords, cookies, tokens and the like
    #[arg(long, overrides_with = "no_redact", help = redact_help())]
    redact: bool,
    /// Write secrets as they are
    #[arg(long)]
    no_redact: bool,
    /// With curl: send to the address that was connected to, whatever the name means now
    #[arg(long)]
    keep_address: bool,
    /// Write over a file that is there
    #[arg(long)]
    pub(super) force: bool,
}

fn redact_help() -> String {
    let names: Vec<_> =
        format::FORMATS.iter().filter(|format| format.redacts).map(|format| format.name).collect();
    format!("Mask passwords, cookies, tokens and the like [default: with {}]", names.join(", "))
}

fn format_help() -> String {
    let written = format::FORMATS.iter().filter(|format| format.encoder.is_some());
    let names: Vec<_> = written.map(|format| format!("{} ({})", format.name, format.about)).collect();
    let store = "db (a store in one file, with mids of its own)";
    format!("The format [default: by the ending of the file's name]: {}, {store}", names.join(", "))
}

pub(super) fn run(args: &ExportArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let which = Which::parse(&args.which)?;
    let stores = global.stores()?;
    let files = stores.some_files()?;
    let mut opened = Opened::new(&stores, output);
    let mut work = Work::new(args, which, output);
    if args.is_store() {
        return export_store::run(args, &files, opened, work, output);
    }
    let (format, make) = chosen_format(args)?;
    let encoder = make(&EncodeOptions { keep_address: args.keep_address });
    let mut encoder = Chosen::new(encoder, args, Some(format));
    refuse_what_is_read(&args.output, &files)?;
    // Ended in the middle, nothing is left of a file that was begun. Of what went to standard output or a pipe nothing can be taken
    // back; who waits there for a reader is to be ended by a signal as any program.
    let is_made = args.output != Path::new("-") && NewFile::is_made_at(&args.output);
    let _stopped = is_made.then(|| work.stopped_by_signals()).transpose()?;
    let mut target = Target::open(&args.output, format, args.force, output)?;
    let written = work.stores(&files, &mut opened, encoder.get(), &mut *target.writer).and_then(|()| {
        encoder.get().finish(&mut *target.writer).map_err(|source| write_failed(&target.name, source))
    });
    work.progress.clear();
    written?;
    target.keep()?;
    encoder.tell_masked(output);
    Ok(work.told(opened.exit_code(work.done.flows > 0)))
}

/// A store is not replaced by what is read of it.
pub(super) fn refuse_what_is_read(to: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let is_read =
        |file: &PathBuf| matches!((file.canonicalize(), to.canonicalize()), (Ok(a), Ok(b)) if a == b);
    match files.iter().any(is_read) {
        true => Err(StoreError::Same { path: to.to_owned() }.into()),
        false => Ok(()),
    }
}

impl ExportArgs {
    /// Whether what is written is a store.
    fn is_store(&self) -> bool {
        match &self.format {
            Some(format) => format == STORE,
            None => self.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(STORE)),
        }
    }
}

/// The encoder, behind one that masks secrets or not.
pub(super) enum Chosen {
    Plain(Box<dyn Encoder>),
    Redacting(Redacting),
    Asking(Asking),
}

impl Chosen {
    /// For `format`, or for a store.
    pub(super) fn new(encoder: Box<dyn Encoder>, args: &ExportArgs, format: Option<&Format>) -> Self {
        let by_default = format.is_some_and(|format| format.redacts);
        if !args.redact && (!by_default || args.no_redact) {
            return Self::Plain(encoder);
        }
        let masking = Redacting::new(encoder);
        match format.is_some_and(|format| format.asks_only) {
            true => Self::Asking(Asking(masking)),
            false => Self::Redacting(masking),
        }
    }

    /// Says what was masked.
    pub(super) fn tell_masked(&self, output: &Output) {
        if let Self::Redacting(masking) | Self::Asking(Asking(masking)) = self {
            tell_masked(output, masking.masked());
        }
    }

    pub(super) fn get(&mut self) -> &mut dyn Encoder {
        match self {
            Chosen::Plain(encoder) => &mut **encoder,
            Chosen::Redacting(encoder) => encoder,
            Chosen::Asking(encoder) => encoder,
        }
    }
}

/// Says what was masked, most often first: by what is missing there, a person sees what may be left.
fn tell_masked(output: &Output, masked: &Masked) {
    if masked.values() == 0 && masked.bodies_left_out == 0 {
        return;
    }
    let mut names: Vec<_> = masked.by_name.iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut told: Vec<_> = names
        .iter()
        .take(MOST_NAMES)
        .map(|(name, count)| format!("{} {count}", escape::line(name)))
        .collect();
    if names.len() > MOST_NAMES {
        told.push("…".to_owned());
    }
    let mut line = format!("masked {} ({})", text::count(masked.values(), "secret"), told.join(", "));
    if masked.bodies_left_out > 0 {
        line += &format!("; bodies left out unread: {}", masked.bodies_left_out);
    }
    output.talk(&format!("{line} → --no-redact writes them as they are"));
}

/// A line's worth.
const MOST_NAMES: usize = 12;

fn chosen_format(args: &ExportArgs) -> Result<(&'static Format, format::transfer::MakeEncoder), CliError> {
    let name = args.output.to_string_lossy();
    let format = match &args.format {
        Some(format) => format::by_name(format),
        None => format::by_extension(&name),
    };
    let told = || args.format.clone().unwrap_or_else(|| name.clone().into_owned());
    let format = format.ok_or_else(|| CliError::NoFormat { name: told() })?;
    Ok((format, format.encoder.ok_or(CliError::OneWay { format: format.name, can: "read" })?))
}

/// What is being done, and what came of it.
pub(super) struct Work {
    which: Which,
    options: ExportOptions,
    /// What is written.
    to: PathBuf,
    output: Output,
    /// Set where the work is to end before its end.
    stop: Arc<AtomicBool>,
    pub(super) progress: Progress,
    pub(super) done: Exported,
}

impl Work {
    fn new(args: &ExportArgs, which: Which, output: &Output) -> Self {
        Self {
            which,
            options: ExportOptions { max_body: args.max_body.unwrap_or(u64::MAX) },
            to: args.output.clone(),
            output: *output,
            stop: Arc::default(),
            progress: Progress::new(output, "flows"),
            done: Exported::default(),
        }
    }

    /// What ends [`Work::stores`] with [`StoreError::Stopped`] once it is set.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// From now on, for as long as the runtime is there, a signal ends the work rather than the process: nothing is left of what
    /// was begun.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn stopped_by_signals(&self) -> io::Result<Runtime> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut signals = {
            let _in_runtime = runtime.enter();
            Signals::listen()?
        };
        let stop = self.stop();
        // The runtime ends it.
        runtime.spawn(async move {
            signals.next().await;
            stop.store(true, Ordering::Relaxed);
        });
        Ok(runtime)
    }

    /// Hands the flows that are meant to the encoder, store by store.
    pub(super) fn stores(
        &mut self,
        files: &[PathBuf],
        opened: &mut Opened,
        encoder: &mut dyn Encoder,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        for file in files {
            let Some(reader) = opened.keep(Reader::open(file))? else { continue };
            encoder.next_store();
            opened.unreadable += self.store(&reader, encoder, out)?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        reader: &Reader,
        encoder: &mut dyn Encoder,
        out: &mut dyn Write,
    ) -> anyhow::Result<u64> {
        let passed = |done: Exported| done.flows + done.unsuitable + done.damaged;
        let (before, options) = (passed(self.done), self.options);
        self.which.pages(reader, |mids, of_store| {
            let (progress, output, stop) = (&self.progress, self.output, &self.stop);
            let mut passed = passed(self.done);
            let mut watch = |event: ExportEvent<'_>| {
                passed += 1;
                match event {
                    ExportEvent::Written(_) => {}
                    ExportEvent::Unsuitable(mid, why) => tell(progress, &output, mid, LEFT_OUT, why),
                    ExportEvent::Damaged(mid, error) => {
                        tell(progress, &output, mid, LEFT_OUT, &error.to_string());
                    }
                    ExportEvent::Incomplete(mid, what) => tell(progress, &output, mid, "is not whole", what),
                }
                match of_store {
                    Some(count) => progress.at(passed, before + count),
                    None => progress.count(passed),
                }
                if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            self.done += export(reader, mids, options, encoder, out, &mut watch)?;
            match self.stop.load(Ordering::Relaxed) {
                true => Err(StoreError::Stopped { path: self.to.clone() }.into()),
                false => Ok(()),
            }
        })
    }

    /// Says what was done; the exit code, `code` where nothing is to be said against it.
    pub(super) fn told(&self, code: ExitCode) -> ExitCode {
        let Exported { flows, unsuitable, damaged, incomplete } = self.done;
        let mut told = text::count(flows, "flow");
        if unsuitable > 0 {
            told += &format!("; {unsuitable} cannot be written in this format");
        }
        if damaged > 0 {
            told += &format!("; {damaged} could not be read");
        }
        if incomplete > 0 {
            told += &format!("; {incomplete} not whole");
        }
        self.output.talk(&told);
        if unsuitable + damaged + incomplete > 0 { ExitCode::from(errors::DATA) } else { code }
    }
}

fn tell(progress: &Progress, output: &Output, mid: Mid, what: &str, why: &str) {
    progress.clear();
    output.say(&format!("warning: flow {mid} {what}: {}", escape::line(why)));
}

/// What becomes of a flow that cannot be written.
const LEFT_OUT: &str = "is left out";

/// Where the flows go.
struct Target {
    name: String,
    /// `None`: standard output.
    file: Option<NewFile>,
    writer: Box<dyn Packer>,
}

impl Target {
    fn open(path: &Path, format: &'static Format, force: bool, output: &Output) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            if !format.is_text && io::stdout().is_terminal() {
                return Err(CliError::FormatToTerminal { format: format.name }.into());
            }
            let writer = Box::new(Plain(output.data()));
            return Ok(Self { name: "standard output".to_owned(), file: None, writer });
        }
        let name = text::path(path);
        let file = NewFile::create(path, force)?;
        let writer = file.file().and_then(|file| packer(path, file)).and_then(Behind::start);
        let writer = writer.map_err(|source| CliError::Write { path: name.clone(), source })?;
        Ok(Self { name, file: Some(file), writer: Box::new(writer) })
    }

    /// Makes the file appear under its name.
    fn keep(self) -> anyhow::Result<()> {
        let Self { name, file, writer } = self;
        writer.finish().map_err(|source| write_failed(&name, source))?;
        Ok(file.map_or(Ok(()), NewFile::keep)?)
    }
}

/// An error of standard output keeps its type: a closed pipe is no failure.
pub(super) fn write_failed(name: &str, source: io::Error) -> anyhow::Error {
    if source.get_ref().is_some_and(|inner| inner.is::<StdoutFailed>()) {
        return source.into();
    }
    CliError::Write { path: name.to_owned(), source }.into()
}

/// Writes, compressing or not, and can come to an end.
trait Packer: Write {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

#[derive(Debug)]
struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Packer for Plain<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

/// Compressing goes on on its thread.
impl Packer for Behind<Box<dyn Packer + Send>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Behind::finish(*self)?.finish()
    }
}

impl<W: Write> Packer for flate2::write::GzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.flush()
    }
}

impl<W: Write> Packer for flate2::write::ZlibEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.flush()
    }
}

impl<W: Write> Packer for zstd::stream::write::Encoder<'static, W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        (*self).finish()?.flush()
    }
}

/// Compresses as the file's name says. `.zhar` is mitmproxy's, a HAR file through zlib.
fn packer(path: &Path, file: File) -> io::Result<Box<dyn Packer + Send>> {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    Ok(match ending.as_deref().and_then(OsStr::to_str) {
        Some("gz") => Box::new(flate2::write::GzEncoder::new(file, Compression::default())),
        Some("zhar") => Box::new(flate2::write::ZlibEncoder::new(file, Compression::best())),
        Some("zst") => Box::new(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?),
        _ => Box::new(Plain(file)),
    })
}

/// How a store is called as a format.
const STORE: &str = "db";

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

const EXAMPLES: &str = "\
Examples:
  manent export -o page.har last:50
  manent export -o failed.har.gz 'status>=400 last:1h'
  manent export --format curl 12
  manent export -o all.mitm
  manent export --redact -o bug.db 'host:shop.example last:1h'

Bodies are never held in memory as a whole, and a capture may go on meanwhile. Exit code 7 if some flows could not be written.";
