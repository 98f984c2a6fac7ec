//! What storing a flow costs: `cargo bench --bench store [-- FOLDER]`
//!
//! Flows go through the recorder as the proxy hands them over (admit, bodies, finish): small ones with 1 KiB of body
//! kept inline, and a browser-like mix of 37 KB on average; flat out, and paced as a busy proxy paces them. CPU is that
//! of the whole process less that of building the same flows. Beside it, in the same run, the same bytes in the same
//! number of groups, appended to a plain file with an fdatasync each: what the disk allows. Use a folder on a real disk.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manent::flow::{
    Body, BodyEnd, ClientConn, ConnId, Content, Flow, Framing, Headers, Request, Response, Scheme,
    ServerConn, State, Target, Timing,
};
use manent::record::{BodySide, Recorder, RecorderOptions};

fn main() {
    let folder = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let folder = folder.map_or_else(|| tempfile::tempdir().unwrap(), |f| tempfile::tempdir_in(f).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scale: usize = std::env::var("FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    println!(
        "case              flows/s  CPU us/flow  MB/s  written/payload  groups  raw append: s (ours: s)"
    );
    runtime.block_on(async {
        run(folder.path(), "small, flat out", scale, None, small).await;
        run(folder.path(), "small, 10,000/s", scale / 4, Some(10_000), small).await;
        run(folder.path(), "mix, flat out", scale / 10, None, mix).await;
        run(folder.path(), "mix, 1,000/s", scale / 40, Some(1_000), mix).await;
        latency(folder.path()).await;
    });
    println!("peak RSS {} MiB", peak_rss_kib() / 1024);
}

/// One flow of the load: the size of its response body.
fn small(_: usize) -> usize {
    1024
}

/// Most bodies small, most bytes in few: 37 KB on average.
fn mix(i: usize) -> usize {
    match i % 100 {
        0..60 => 1_000,
        60..85 => 8_000,
        85..97 => 60_000,
        97..99 => 300_000,
        _ => 1_000_000,
    }
}

async fn run(folder: &Path, name: &str, count: usize, rate: Option<usize>, size: fn(usize) -> usize) {
    let path = folder.join(format!("{}.db", name.replace([' ', ',', '/'], "-")));
    let material = Material::new();
    // The load without the recorder: building and pacing.
    let (cpu, started) = (cpu_time(), Instant::now());
    for i in 0..count {
        pace(i, rate, started).await;
        std::hint::black_box(material.flow(i, None, size(i)));
    }
    let load = cpu_time() - cpu;

    let recorder = Recorder::open(&path, RecorderOptions::default()).await.unwrap();
    let (cpu, before, started) = (cpu_time(), written(), Instant::now());
    for i in 0..count {
        pace(i, rate, started).await;
        let ticket = recorder.admit().await;
        let mut extents = None;
        if size(i) > recorder.inline_limit() {
            let mut body = ticket.body(BodySide::Response);
            for chunk in material.body(size(i)).chunks(64 << 10) {
                body.write(material.bytes.slice_ref(chunk)).await;
            }
            extents = Some(body.extents());
        }
        ticket.finish(&material.flow(i, extents, size(i)));
    }
    let stats = recorder.close().await.unwrap();
    let took = started.elapsed();
    let cpu = (cpu_time() - cpu).saturating_sub(load);
    assert_eq!((stats.stored, stats.lost), (count as u64, 0));
    let given = written() - before;
    let bodies: u64 = (0..count).map(|i| size(i) as u64).filter(|&n| n > 2048).sum();
    let payload = stats.record_bytes + bodies;
    let raw = raw_append(&folder.join("raw"), payload, stats.groups);
    println!(
        "{name:16} {:8.0} {:12.1} {:5.0} {:16.2} {:7} {:6.2} ({:.2})",
        count as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        payload as f64 / 1e6 / took.as_secs_f64(),
        given as f64 / payload as f64,
        stats.groups,
        raw.as_secs_f64(),
        took.as_secs_f64(),
    );
}

async fn pace(i: usize, rate: Option<usize>, started: Instant) {
    if let Some(rate) = rate
        && i.is_multiple_of(10)
    {
        let due = Duration::from_secs_f64(i as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
}

/// What a caller of `store` waits: commits of one flow.
async fn latency(folder: &Path) {
    let recorder = Recorder::open(&folder.join("latency.db"), RecorderOptions::default()).await.unwrap();
    let material = Material::new();
    for (name, size) in [("1 KiB inline", 1024), ("100 KiB in a segment", 100 << 10)] {
        let mut times = Vec::new();
        for i in 0..200 {
            let mut flow = material.flow(i, None, size);
            flow.response.as_mut().unwrap().body = Body::inline(material.bytes.slice(..size));
            let started = Instant::now();
            recorder.store(flow).await.unwrap();
            times.push(started.elapsed());
        }
        times.sort_unstable();
        println!("store() of one flow, {name}: p50 {:.1?} p99 {:.1?}", times[100], times[198]);
    }
    recorder.close().await.unwrap();
    let mut times: Vec<_> = (0..200).map(|_| raw_append(&folder.join("raw"), 2000, 1)).collect();
    times.sort_unstable();
    println!("raw append of 2 KB with fdatasync: p50 {:.1?} p99 {:.1?}", times[100], times[198]);
}

fn raw_append(path: &Path, bytes: u64, groups: u64) -> Duration {
    let mut file = std::fs::File::create(path).unwrap();
    let group = vec![7; usize::try_from(bytes / groups.max(1)).unwrap()];
    let started = Instant::now();
    for _ in 0..groups {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    let took = started.elapsed();
    std::fs::remove_file(path).unwrap();
    took
}

/// What flows are made of, prepared, so that building them costs little beside storing them.
struct Material {
    request: Headers,
    response: Headers,
    bytes: Bytes,
    client: Arc<ClientConn>,
    server: Arc<ServerConn>,
}

impl Material {
    fn new() -> Self {
        let request = [
            ("Host", "api.example.com"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"),
            ("Accept", "application/json, text/plain, */*"),
            ("Accept-Language", "en-US,en;q=0.5"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Referer", "https://www.example.com/some/page/or/other"),
            ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
            ("Connection", "keep-alive"),
        ];
        let response = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", "1024"),
            ("Date", "Sun, 22 Nov 2026 10:00:00 GMT"),
            ("Server", "nginx/1.27.0"),
            ("Cache-Control", "private, max-age=0, must-revalidate"),
            ("ETag", "\"5f3c1-58a7b2c4d9e80\""),
            ("Vary", "Accept-Encoding"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ];
        let mut seed = 88_172_645_463_325_252_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        })
        .take(1 << 20)
        .collect();
        Self {
            request: request.into_iter().collect(),
            response: response.into_iter().collect(),
            bytes: bytes.into(),
            client: Arc::new(ClientConn { id: ConnId(1), mode: "explicit".into(), ..ClientConn::default() }),
            server: Arc::new(ServerConn { id: ConnId(2), ..ServerConn::default() }),
        }
    }

    fn body(&self, size: usize) -> &[u8] {
        &self.bytes[..size]
    }

    fn flow(&self, i: usize, extents: Option<Vec<manent::flow::Extent>>, size: usize) -> Flow {
        let us = |n| Some(n + i as u64 % 100);
        let content = match extents {
            Some(extents) => Content::Extents(extents),
            None => Content::Inline(self.bytes.slice(..size.min(2048))),
        };
        let body = Body {
            content,
            len: size as u64,
            wire_len: size as u64,
            framing: Framing::Length,
            end: BodyEnd::Whole,
        };
        Flow {
            state: State::Complete,
            target: Target { scheme: Scheme::Https, host: "api.example.com".into(), port: 443 },
            request: Some(Request {
                method: Bytes::from_static(b"GET"),
                target: Bytes::from_static(b"/v1/things/1234567890?fields=name,size&page=3"),
                headers: self.request.clone(),
                head_len: 420,
                ..Request::default()
            }),
            response: Some(Response {
                status: 200,
                reason: Bytes::from_static(b"OK"),
                headers: self.response.clone(),
                head_len: 310,
                body,
                ..Response::default()
            }),
            client: Arc::clone(&self.client),
            server: Some(Arc::clone(&self.server)),
            server_reused: true,
            timing: Timing {
                started_unix_ns: 1_795_000_000_000_000_000 + i as i64 * 100_000,
                request_head_us: us(0),
                request_end_us: us(1),
                connected_us: us(2),
                send_start_us: us(3),
                send_end_us: us(4),
                response_head_us: us(900),
                response_end_us: us(950),
                end_us: us(960),
            },
            ..Flow::default()
        }
    }
}

/// Processor time of this process, user and system, to 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Bytes that this process gave to the system to write.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|l| l.strip_prefix("wchar: ")).unwrap_or("0");
    line.parse().unwrap()
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
