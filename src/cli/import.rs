//! `manent import`: flows of other tools' files, or of another store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::errors::{self, CliError};
use super::output::Output;
use super::progress::Progress;
use super::signals::Signals;
use super::{escape, process, search, text};
use crate::config::ConfigError;
use crate::flow::Mid;
use crate::format::transfer::{Format, MakeDecoder};
use crate::format::{self, SNIFFED_BYTES};
use crate::record::{Recorder, RecorderOptions};
use crate::store::Reader;
use crate::transfer::{self, ImportError, ImportEvent, ImportOptions, Imported, Known};

/// Store flows from files of other tools, or from another store
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// The files, compressed (gzip, zstd, zlib) or not; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Their format [default: by what is in them]
    #[arg(long, value_name = "NAME", help = format_help())]
    format: Option<String>,
    /// Store only what matches
    #[arg(short, long, value_name = "FILTER")]
    filter: Option<String>,
    /// Leave flows out that are in the store already: same method, URL, status and time
    #[arg(long)]
    skip_known: bool,
    /// Stop at the first flow that cannot be read, rather than going on behind it
    #[arg(long)]
    stop_at_damage: bool,
}

fn format_help() -> String {
    let read = format::FORMATS.iter().filter(|format| format.decoder.is_some());
    let names: Vec<_> = read.map(|format| format!("{} ({})", format.name, format.about)).collect();
    format!("Their format [default: by what is in them]: {}, db (a store)", names.join(", "))
}

pub(super) fn run(args: &ImportArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let given = match args.format.as_deref() {
        None => None,
        Some(STORE) => Some(Given::Store),
        Some(name) => {
            let unknown = || CliError::UnknownFormat { name: format!("`{name}`"), is_markup: false };
            let format = format::by_name(name).ok_or_else(unknown)?;
            Some(Given::Decoder(decoder(format)?))
        }
    };
    let filter = search::parse(args.filter.as_slice())?;
    if let Some((test, why)) = filter.as_ref().and_then(|filter| filter.unanswerable_at_end()) {
        return Err(ConfigError::RecordFilter { test, why }.into());
    }
    process::raise_file_limit();
    // What is not there is told before a store is made for it.
    for file in args.files.iter().filter(|file| *file != Path::new("-")) {
        let failed = |source| CliError::Read { path: text::path(file), source };
        File::open(file).map_err(failed)?;
    }
    let path = global.store_to_write()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let mut signals = Signals::listen()?;
        let options = RecorderOptions { filter, ..RecorderOptions::bulk("import") };
        let recorder = Recorder::open(&path, options).await?;
        let work = import_all(args, given, &path, &recorder, &stop, output);
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = signals.next() => stop.store(true, Ordering::Relaxed),
            }
        };
        let closed = recorder.close().await;
        let code = result?;
        closed?;
        Ok(code)
    })
}

async fn import_all(
    args: &ImportArgs,
    given: Option<Given>,
    path: &Path,
    recorder: &Recorder,
    stop: &Arc<AtomicBool>,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let mut whole = true;
    for file in &args.files {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let known = match args.skip_known {
            true => Some(known(path.to_owned(), *output).await?),
            false => None,
        };
        let options = ImportOptions { known, stop_at_damage: args.stop_at_damage };
        let done = import_file(file, given, options, recorder, stop, output).await?;
        whole &= done.damaged == 0;
        tell(file, &done, output)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(errors::DATA) })
}

async fn known(path: PathBuf, output: Output) -> anyhow::Result<Known> {
    let read = move || {
        let reader = Reader::open(&path)?;
        let total = reader.bounds()?.map_or(0, |(.., count)| count);
        let progress = Progress::new(&output, "flows looked at");
        Known::of(&reader, &mut |done| progress.at(done, total))
    };
    Ok(tokio::task::spawn_blocking(read).await??)
}

async fn import_file(
    file: &Path,
    given: Option<Given>,
    options: ImportOptions,
    recorder: &Recorder,
    stop: &Arc<AtomicBool>,
    output: &Output,
) -> anyhow::Result<Imported> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { text::path(file) };
    let opened = {
        let file = file.to_owned();
        tokio::task::spawn_blocking(move || Input::open(&file)).await?
    };
    let input = opened.map_err(|source| CliError::Read { path: name.clone(), source })?;
    let what = match given {
        Some(given) => given,
        None if input.is_store() => Given::Store,
        None => {
            let format = format::sniff(&input.beginning);
            let is_markup = input.beginning.trim_ascii_start().starts_with(b"<");
            let unknown = || CliError::UnknownFormat { name: name.clone(), is_markup };
            Given::Decoder(decoder(format.ok_or_else(unknown)?)?)
        }
    };
    let watch = watcher(name.clone(), Passed::of(file, what, &input).await?, Arc::clone(stop), *output);
    let result = match what {
        Given::Store => transfer::merge(recorder, file, options, watch).await,
        Given::Decoder(make) => {
            transfer::import(recorder, make, Box::new(input.into_reader()), options, watch).await
        }
    };
    result.map_err(|error| match error {
        ImportError::File { ref done, .. } | ImportError::Read { ref done, .. } => {
            let before = match done.flows {
                0 => "No flow before that was imported.".to_owned(),
                1 => format!("{} before that was imported.", count(done)),
                _ => format!("{} before that were imported.", count(done)),
            };
            CliError::BadFile { name, why: error.to_string(), before }.into()
        }
        other => other.into(),
    })
}

/// Tells of each flow as it is due, and whether to go on.
fn watcher(
    name: String,
    mut passed: Passed,
    stop: Arc<AtomicBool>,
    output: Output,
) -> impl FnMut(ImportEvent<'_>) -> ControlFlow<()> + Send + 'static {
    let progress = match passed {
        Passed::Bytes(..) => Progress::of_bytes(&output, "read"),
        Passed::Flows(..) => Progress::new(&output, "flows"),
    };
    move |event| {
        match event {
            ImportEvent::Stored { was, mid } if output.json => {
                let line = json!({"mid": mid.0, "was": was.map(|was: Mid| was.0), "file": name}).to_string();
                if output.data_line(&line).is_err() {
                    return ControlFlow::Break(());
                }
            }
            ImportEvent::Damaged { position, what } => {
                progress.clear();
                output.say(&format!(
                    "warning: {}: at {position}: {}",
                    escape::line(&name),
                    escape::line(what)
                ));
            }
            ImportEvent::Stored { .. } | ImportEvent::Known(_) => {}
        }
        match &mut passed {
            Passed::Bytes(read, Some(len)) => progress.at(read.load(Ordering::Relaxed), *len),
            Passed::Bytes(read, None) => progress.count(read.load(Ordering::Relaxed)),
            Passed::Flows(done, of) => {
                *done += 1;
                progress.at(*done, *of);
            }
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// How far an import is: bytes that were read, of how many if that is known; or flows of another store.
enum Passed {
    Bytes(Arc<AtomicU64>, Option<u64>),
    Flows(u64, u64),
}

impl Passed {
    async fn of(file: &Path, what: Given, input: &Input) -> anyhow::Result<Self> {
        if matches!(what, Given::Decoder(_)) {
            return Ok(Self::Bytes(Arc::clone(&input.read), input.len));
        }
        let file = file.to_owned();
        // What is wrong with it, the import tells.
        let count = move || Some(Reader::open(&file).ok()?.bounds().ok()??.2);
        Ok(Self::Flows(0, tokio::task::spawn_blocking(count).await?.unwrap_or(0)))
    }
}

fn count(done: &Imported) -> String {
    match (done.first, done.last) {
        (Some(first), Some(last)) if first != last => {
            format!("{} (mids {first} to {last})", text::count(done.flows, "flow"))
        }
        (Some(first), _) => format!("{} (mid {first})", text::count(done.flows, "flow")),
        _ => text::count(done.flows, "flow"),
    }
}

fn tell(file: &Path, done: &Imported, output: &Output) -> io::Result<()> {
    let Imported { flows, known, left_out, damaged, lost_bodies, lost_notes, first, last } = *done;
    if output.json {
        let object = json!({
            "mid": null, "file": file.to_string_lossy(), "imported": flows, "known": known, "left_out": left_out,
            "damaged": damaged, "lost_bodies": lost_bodies, "lost_notes": lost_notes,
            "first_mid": first.map(|mid| mid.0), "last_mid": last.map(|mid| mid.0),
        });
        return output.data_line(&object.to_string());
    }
    let mut told = format!("{} from {}", count(done), text::path(file));
    let more = [
        (known, "known already"),
        (left_out, "left out by the filter"),
        (damaged, "could not be read"),
        (lost_bodies, "without a body that the disk could not take"),
        (lost_notes, "notes that cannot be such here"),
    ];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        told += &format!("; {count} {what}");
    }
    output.talk(&told);
    Ok(())
}

/// What was said of a file.
#[derive(Debug, Clone, Copy)]
enum Given {
    Store,
    Decoder(MakeDecoder),
}

fn decoder(format: &'static Format) -> Result<MakeDecoder, CliError> {
    format.decoder.ok_or(CliError::OneWay { format: format.name, can: "written" })
}

/// A file, decompressed, with its beginning looked at.
struct Input {
    beginning: Vec<u8>,
    rest: Box<dyn Read + Send>,
    /// Bytes read of the file as it is.
    read: Arc<AtomicU64>,
    /// How many it has, if it is a file.
    len: Option<u64>,
}

impl Input {
    fn open(path: &Path) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let (raw, len): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path)?;
            let meta = file.metadata()?;
            (Box::new(file), meta.is_file().then_some(meta.len()))
        };
        let mut raw = BufReader::with_capacity(BUFFER, Counted { inner: raw, read: Arc::clone(&read) });
        let magic = raw.fill_buf()?;
        let mut rest: Box<dyn Read + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(raw)?),
            // RFC 1950 §2.2; no text begins so.
            [0x78, flags @ (0x01 | 0x5e | 0x9c | 0xda), ..] if (0x7800 + u16::from(*flags)) % 31 == 0 => {
                Box::new(flate2::bufread::ZlibDecoder::new(raw))
            }
            _ => Box::new(raw),
        };
        let mut beginning = Vec::new();
        rest.by_ref().take(SNIFFED_BYTES as u64).read_to_end(&mut beginning)?;
        Ok(Self { beginning, rest, read, len })
    }

    /// sqlite.org/fileformat2.html §1.3.1
    fn is_store(&self) -> bool {
        self.beginning.starts_with(b"SQLite format 3\0")
    }

    fn into_reader(self) -> impl BufRead + Send {
        BufReader::with_capacity(BUFFER, Cursor::new(self.beginning).chain(self.rest))
    }
}

struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// How a store is called as a format.
const STORE: &str = "db";

/// Reads of this size cost little each.
const BUFFER: usize = 256 << 10;

const EXAMPLES: &str = "\
Examples:
  manent import page.har flows.mitm
  manent import --skip-known colleague.db
  manent -s other.db import --filter 'host:api.example.com' big.har.gz
  pbpaste | manent import --format curl -

What is imported gets mids of this store. Exit code 7 if something could not be read; what came before is stored.";
