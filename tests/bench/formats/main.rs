//! `cargo bench --bench formats`: how fast each format is written out of a store, read, and read into a store.
//!
//! The flows are those of the store's benchmark, a browser's mix of 37 KB each (`../store/generator.rs`). Each figure is taken in a
//! process of its own, so that its peak memory is that of this work alone. *read* hands all to a sink that forgets it: what the
//! format costs by itself; *import* is the whole way, through the recorder to the disk.
//!
//! Rates are by the clock, from the opening of the store or file to its closing, and by the processor time of all threads.
//!
//! What mitmproxy takes for the same file is measured by `with_mitmproxy.py` beside this, on the files that `--keep DIR` leaves.
//!
//! `cargo test` runs the same program with few flows, to see that it works at all; its figures then mean nothing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark's product is what it prints")]

#[path = "../store/generator.rs"]
#[expect(dead_code, reason = "the store's benchmark makes more")]
mod generator;
#[path = "../store/measure.rs"]
#[expect(dead_code, reason = "the store's benchmark measures more")]
mod measure;
#[path = "../store/web.rs"]
#[expect(dead_code, reason = "the same")]
mod web;

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use manent::flow::{Body, BodyEnd, Content, Framing, Message, Mid};
use manent::format::transfer::{EncodeOptions, Format, Part, Sink};
use manent::format::{self, FORMATS};
use manent::record::{BodySide, Recorder, RecorderOptions};
use manent::store::Reader;
use manent::transfer::{Behind, ExportOptions, ImportOptions, export, import};

use crate::generator::{Generator, Made, Mix};
use crate::measure::{as_f64, cpu_time, peak_rss_mib};
use crate::web::Web;

/// As in the binary: flows are built on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
cargo bench --bench formats [-- OPTIONS]

  --format NAME  repeatable (all that can be written)
  --flows N      how many flows (10000)
  --large MIB    one flow more, with a body of so many MiB (0)
  --keep DIR     leave the written files there, for with_mitmproxy.py
  --folder DIR   where the stores lie, on a real disk (target/tmp)
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Plan {
    flows: u64,
    large_mib: u64,
    formats: Vec<&'static Format>,
    keep: Option<PathBuf>,
    folder: PathBuf,
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, work, format, store, file] = args.as_slice()
        && flag == WORKER_FLAG
    {
        let format = format::by_name(format).context("a format")?;
        return work_alone(work, format, Path::new(store), Path::new(file));
    }
    let Some(plan) = Plan::from_args(&args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let dir = tempfile::tempdir_in(&plan.folder).context("making a folder for the stores")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = dir.path().join("flows.db");
    runtime.block_on(fill(&store, plan.flows, plan.large_mib))?;
    let flows = plan.flows + u64::from(plan.large_mib > 0);
    println!("{:<12}{:>8}  {:>9}  {:>9}  {:>9}  {:>8}", "", "", "flows/s", "per CPU s", "MB/s", "peak MiB");
    for format in &plan.formats {
        let file = plan.keep.as_deref().unwrap_or(dir.path()).join(format!("flows.{}", format.name));
        measured("export", format, &store, &file, flows)?;
        if format.decoder.is_some() {
            measured("read", format, &store, &file, flows)?;
            measured("import", format, &dir.path().join(format!("{}.db", format.name)), &file, flows)?;
        }
        if plan.keep.is_none() {
            std::fs::remove_file(&file)?;
        }
    }
    Ok(())
}

impl Plan {
    fn from_args(args: &[String]) -> Result<Option<Self>> {
        let mut plan = Plan {
            flows: 10_000,
            large_mib: 0,
            formats: Vec::new(),
            keep: None,
            folder: "target/tmp".into(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--format" => {
                    let name = value()?;
                    plan.formats.push(format::by_name(name).with_context(|| format!("no format `{name}`"))?);
                }
                "--flows" => plan.flows = value()?.parse()?,
                "--large" => plan.large_mib = value()?.parse()?,
                "--keep" => plan.keep = Some(value()?.into()),
                "--folder" => plan.folder = value()?.into(),
                // cargo bench says so.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                // cargo test gives what it was given.
                _ if !std::env::args().any(|arg| arg == "--bench") => plan.flows = FEW,
                other => bail!("unknown argument {other}; --help lists them"),
            }
        }
        if !std::env::args().any(|arg| arg == "--bench") {
            plan.flows = plan.flows.min(FEW);
            println!("few flows: the figures mean nothing");
        }
        if plan.formats.is_empty() {
            plan.formats = FORMATS.iter().filter(|format| format.encoder.is_some()).collect();
        }
        std::fs::create_dir_all(&plan.folder)?;
        Ok(Some(plan))
    }
}

/// Makes the store.
async fn fill(path: &Path, flows: u64, large_mib: u64) -> Result<()> {
    let web = Web::new();
    let recorder = Recorder::open(path, RecorderOptions::default()).await?;
    let mut generator = Generator::new(&web, Mix::Browser, || recorder.next_conn_id());
    for _ in 0..flows {
        let Made { mut flow, body } = generator.next();
        let ticket = recorder.admit().await;
        if let Some(response) = &mut flow.response {
            response.body.content = if body.len() <= recorder.inline_limit() {
                Content::Inline(body)
            } else {
                let mut writer = ticket.body(BodySide::Response);
                writer.write(body).await;
                Content::Extents(writer.extents())
            };
        }
        ticket.finish(&flow);
    }
    if large_mib > 0 {
        let mut flow = generator.next().flow;
        let ticket = recorder.admit().await;
        let mut writer = ticket.body(BodySide::Response);
        let mib = bytes::Bytes::from("a line of text, as \"JSON\" may have it\n".repeat(27_000));
        for _ in 0..large_mib {
            writer.write(mib.clone()).await;
        }
        let response = flow.response.get_or_insert_default();
        response.headers = manent::flow::Headers::new();
        response.body = Body {
            len: large_mib * mib.len() as u64,
            wire_len: large_mib * mib.len() as u64,
            content: Content::Extents(writer.extents()),
            framing: Framing::Chunked,
            end: BodyEnd::Whole,
        };
        ticket.finish(&flow);
    }
    let stats = recorder.close().await?;
    let flows = flows + u64::from(large_mib > 0);
    ensure!((stats.stored, stats.lost) == (flows, 0), "not all is stored: {stats:?}");
    Ok(())
}

/// Has another process do the work, and prints what it tells.
fn measured(work: &str, format: &Format, store: &Path, file: &Path, flows: u64) -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args([WORKER_FLAG, work, format.name])
        .args([store, file])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{work} of {} failed", format.name);
    let told = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [seconds, cpu, count, peak] = figures[..] else { bail!("the worker said {told}") };
    ensure!(count <= as_f64(flows), "more flows than there were");
    let bytes = as_f64(std::fs::metadata(file)?.len());
    let (rate, per_cpu, speed) = (count / seconds, count / cpu, bytes / 1e6 / seconds);
    println!(
        "{:<12}{work:<8}  {rate:>9.0}  {per_cpu:>9.0}  {speed:>9.1}  {peak:>8.0}   {count} flows",
        format.name
    );
    Ok(())
}

/// In a process of its own: does the work, and prints seconds, seconds of CPU, flows and peak memory in MiB.
fn work_alone(work: &str, format: &Format, store: &Path, file: &Path) -> Result<()> {
    let started = Instant::now();
    let flows = match work {
        "export" => write_all(format, store, file)?,
        "read" => read_all(format, file)?,
        _ => import_all(format, store, file)?,
    };
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_time()?.as_secs_f64());
    println!("{seconds} {cpu} {flows} {}", peak_rss_mib()?);
    Ok(())
}

fn write_all(format: &Format, store: &Path, file: &Path) -> Result<u64> {
    let reader = Reader::open(store)?;
    let last = reader.bounds()?.map_or(0, |(_, last, _)| last.0);
    let mut encoder = format.encoder.context("it is only read")?(&EncodeOptions::default());
    let mut out = Behind::start(File::create(file)?)?;
    let mids: Vec<Mid> = (1..=last).map(Mid).collect();
    let mut go_on = |_: manent::transfer::ExportEvent<'_>| ControlFlow::Continue(());
    let done = export(&reader, &mids, ExportOptions::default(), &mut *encoder, &mut out, &mut go_on)?;
    encoder.finish(&mut out)?;
    out.finish()?;
    Ok(done.flows)
}

fn read_all(format: &Format, file: &Path) -> Result<u64> {
    let mut decoder =
        format.decoder.context("it is only written")?(Box::new(BufReader::new(File::open(file)?)));
    let mut flows = 0;
    while decoder.next(&mut Forgets)?.is_some() {
        flows += 1;
    }
    Ok(flows)
}

fn import_all(format: &Format, store: &Path, file: &Path) -> Result<u64> {
    let make = format.decoder.context("it is only written")?;
    let input = Box::new(BufReader::new(File::open(file)?));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let recorder = Recorder::open(store, RecorderOptions::bulk("import")).await?;
        let options = ImportOptions::default();
        let done = import(&recorder, make, input, options, |_| ControlFlow::Continue(())).await?;
        recorder.close().await?;
        Ok(done.flows)
    })
}

/// Takes everything and keeps nothing.
struct Forgets;

impl Sink for Forgets {
    fn begin(&mut self, _: Part) {}

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        std::hint::black_box(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        Ok(Content::Absent)
    }

    fn message(&mut self, _: &Message) -> io::Result<()> {
        Ok(())
    }
}

/// First argument of this program when it is a worker: the work, the format, a store and a file follow.
const WORKER_FLAG: &str = "--work";

/// Enough to see that it works.
const FEW: u64 = 200;
