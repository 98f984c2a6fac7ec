//! What `--compress` and `store pack` cost, and what they save: `cargo bench --bench compress [-- FOLDER]`
//!
//! 20,000 flows of a browser's mix (26 KB on average, most bodies small, most bytes in few) go through the recorder as they
//! come from a proxy, in pieces of 16 KiB. Three in four bodies are JSON as an API sends it, as if no content-coding had
//! been agreed; the fourth is noise, as images are, and is not announced as such. A tenth of the bytes is in bodies that are
//! equal to others. CPU is that of the whole process, the making of the bodies, which are slices, included.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manent::flow::{Body, BodyEnd, Content, Flow, Framing, Response, State};
use manent::record::{BodySide, Recorder, RecorderOptions};
use manent::store::{PackOptions, pack, unpack};

fn main() {
    let folder = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let folder = folder.map_or_else(|| tempfile::tempdir().unwrap(), |f| tempfile::tempdir_in(f).unwrap());
    let flows: usize = std::env::var("FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let material = Material::new();
    println!("what                      s  CPU us/flow   MB of bodies   MB on disk");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (name, level) in [("capture", None), ("capture, level 1", Some(1)), ("capture, level 3", Some(3))] {
        let path = folder.path().join(name.replace([' ', ','], "-"));
        measure(name, flows, &path, || runtime.block_on(capture(&path, flows, &material, level)));
    }
    let from = folder.path().join("capture");
    for (name, level) in [("pack", None), ("pack, level 1", Some(1)), ("pack, level 3", Some(3))] {
        let to = folder.path().join(format!("{}.db", name.replace([' ', ','], "-")));
        let options = PackOptions { level, replace: false };
        measure(name, flows, &to, || {
            pack(&from, &to, options, &mut |_| ControlFlow::Continue(())).unwrap().body_bytes
        });
    }
    let (from, to) = (folder.path().join("pack.db"), folder.path().join("unpacked.db"));
    measure("unpack", flows, &to, || {
        unpack(&from, &to, PackOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap().body_bytes
    });
}

fn measure(name: &str, flows: usize, path: &Path, work: impl FnOnce() -> u64) {
    let (cpu, started) = (cpu_time(), Instant::now());
    let bytes = work();
    let (took, cpu) = (started.elapsed(), cpu_time() - cpu);
    println!(
        "{name:20} {:6.2} {:12.1} {:14.0} {:12.0}",
        took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / flows as f64,
        bytes as f64 / 1e6,
        on_disk(path) as f64 / 1e6
    );
}

async fn capture(path: &Path, flows: usize, material: &Material, compress: Option<i32>) -> u64 {
    let options = RecorderOptions { compress, ..RecorderOptions::default() };
    let recorder = Recorder::open(path, options).await.unwrap();
    let mut bytes = 0;
    for i in 0..flows {
        let body = material.body(i);
        let ticket = recorder.admit().await;
        let content = if body.len() > recorder.inline_limit() {
            let mut writer = ticket.body(BodySide::Response);
            for piece in body.chunks(16 << 10) {
                writer.write(body.slice_ref(piece)).await;
            }
            Content::Extents(writer.extents())
        } else {
            Content::Inline(body.clone())
        };
        bytes += body.len() as u64;
        let len = body.len() as u64;
        let body = Body { content, len, wire_len: len, framing: Framing::Length, end: BodyEnd::Whole };
        let response = Response { status: 200, body, ..Response::default() };
        ticket.finish(&Flow { state: State::Complete, response: Some(response), ..Flow::default() });
    }
    assert_eq!(recorder.close().await.unwrap().stored, flows as u64);
    bytes
}

/// Bytes that bodies are slices of.
struct Material {
    text: Bytes,
    noise: Bytes,
}

impl Material {
    fn new() -> Self {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let words =
            ["name", "price", "delivery", "Berlin", "colour", "available", "https://cdn.example.com/img"];
        let mut text = String::new();
        while text.len() < 16 << 20 {
            let n = next();
            let [a, b] = [n >> 8, n >> 20].map(|n| words[usize::try_from(n).unwrap() % words.len()]);
            let _ = write!(
                text,
                "{{\"id\":{},\"{a}\":\"{b}\",\"updated\":\"2026-11-{:02}\",\"n\":{}}},",
                n % 1_000_000,
                n % 30,
                n % 97
            );
        }
        let noise: Vec<u8> = std::iter::repeat_with(|| next().to_le_bytes()[3]).take(16 << 20).collect();
        Self { text: text.into(), noise: noise.into() }
    }

    /// A body of the mix. Each fifth begins where another of its kind does.
    fn body(&self, i: usize) -> Bytes {
        let len = match i % 100 {
            0..60 => 1_000,
            60..85 => 8_000,
            85..97 => 60_000,
            97..99 => 300_000,
            _ => 1_000_000,
        };
        let of = if (i / 100).is_multiple_of(4) { &self.noise } else { &self.text };
        let which = if i.is_multiple_of(5) { i % 100 } else { i };
        let at = which * 7919 % (of.len() - len);
        of.slice(at..at + len)
    }
}

fn on_disk(path: &Path) -> u64 {
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let mut folder = path.as_os_str().to_owned();
    folder.push("-bodies");
    let segments = std::fs::read_dir(folder).into_iter().flatten();
    len(path) + segments.map(|entry| len(&entry.unwrap().path())).sum::<u64>()
}

/// Processor time of this process, user and system, to 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
