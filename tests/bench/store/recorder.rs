//! The recorder flat out: flows a second, CPU a flow, beside raw appends of the same bytes in the same number of groups.
//!
//! Flows go through the recorder as the proxy hands them over: admit, bodies in pieces as they pass, finish. The CPU time is
//! that of the whole process less that of making the same flows, which is measured before. A round is a run of the recorder
//! and the raw appends right after it, because disks have moods; medians over the rounds are told.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use manent::flow::{ConnId, Content, Mid};
use manent::record::{BodySide, Recorder, RecorderOptions, Stats};

use crate::generator::{Generator, Made, Mix};
use crate::measure::{self, Limit, Raw, as_f64, digits, median, note, verdict};
use crate::plan::Plan;
use crate::web::Web;

/// Hands a flow over as the proxy does.
pub(crate) async fn record(recorder: &Recorder, made: Made) -> Mid {
    let Made { mut flow, mut body } = made;
    let ticket = recorder.admit().await;
    let mid = ticket.mid();
    if let Some(response) = &mut flow.response {
        response.body.content = if body.len() <= recorder.inline_limit() {
            Content::Inline(body)
        } else {
            let mut writer = ticket.body(BodySide::Response);
            while !body.is_empty() {
                writer.write(body.split_to(body.len().min(READ_BYTES))).await;
            }
            Content::Extents(writer.extents())
        };
    }
    ticket.finish(&flow);
    mid
}

/// Makes a store of `count` flows.
pub(crate) async fn fill(web: &Web, path: &Path, mix: Mix, count: u64) -> Result<Stats> {
    let recorder = Recorder::open(path, RecorderOptions::default()).await?;
    let mut generator = Generator::new(web, mix, || recorder.next_conn_id());
    for _ in 0..count {
        record(&recorder, generator.next()).await;
    }
    let stats = recorder.close().await?;
    ensure!((stats.stored, stats.lost, stats.lost_bodies) == (count, 0, 0), "not all is stored: {stats:?}");
    Ok(stats)
}

/// What must be reached.
struct Limits {
    flows_per_second: f64,
    cpu_us: f64,
    /// Of the speed of raw appends, where the disk is the question.
    of_raw: Option<f64>,
}

pub(crate) async fn browser(plan: &Plan, dir: &Path) -> Result<()> {
    let limits = Limits { flows_per_second: 20_000.0, cpu_us: 45.0, of_raw: Some(0.8) };
    flat_out(plan, dir, Mix::Browser, plan.sizes.browser, &limits).await
}

pub(crate) async fn small(plan: &Plan, dir: &Path) -> Result<()> {
    let limits = Limits { flows_per_second: 50_000.0, cpu_us: 15.0, of_raw: None };
    flat_out(plan, dir, Mix::Small, plan.sizes.small, &limits).await
}

async fn flat_out(plan: &Plan, dir: &Path, mix: Mix, count: u64, limits: &Limits) -> Result<()> {
    let web = Web::new();
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        rounds.push(round(&web, dir, mix, count).await?);
    }
    let over = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let (mean, speed) = (over(|r| r.bytes), over(|r| r.flows_per_second));
    note("flows, bytes a flow, groups, bytes written for one given", &{
        let (groups, amplification) = (over(|r| r.groups), over(|r| r.amplification));
        format!("{count}, {}, {}, {}", digits(mean), digits(groups), digits(amplification))
    });
    verdict("flows a second, durable", speed, "/s", Limit::AtLeast(limits.flows_per_second));
    verdict("CPU a flow, all threads", over(|r| r.cpu_us), "µs", Limit::AtMost(limits.cpu_us));
    note("CPU for making a flow, not in it", &format!("{} µs", digits(over(|r| r.made_us))));
    let raw = over(|r| r.raw_seconds);
    let as_raw =
        format!("{} /s, {} MB/s", digits(as_f64(count) / raw), digits(mean * as_f64(count) / raw / 1e6));
    note("raw append of the same bytes, as many syncs", &as_raw);
    let of_raw = over(|r| r.of_raw);
    match limits.of_raw {
        Some(limit) => verdict("of the speed of raw append", of_raw, "×", Limit::AtLeast(limit)),
        None => note("of the speed of raw append", &format!("{} ×", digits(of_raw))),
    }
    Ok(())
}

/// What one round gave.
struct Round {
    flows_per_second: f64,
    cpu_us: f64,
    made_us: f64,
    /// Bytes of record and body a flow.
    bytes: f64,
    amplification: f64,
    groups: f64,
    raw_seconds: f64,
    of_raw: f64,
}

async fn round(web: &Web, dir: &Path, mix: Mix, count: u64) -> Result<Round> {
    let (made, bodies) = making(web, mix, count)?;
    let path = dir.join("flat-out.db");
    let (cpu, written, started) = (measure::cpu_time()?, measure::written()?, Instant::now());
    let stats = fill(web, &path, mix, count).await?;
    let took = started.elapsed().as_secs_f64();
    let cpu = (measure::cpu_time()? - cpu).saturating_sub(made);
    let written = measure::written()? - written;
    remove(&path)?;
    let payload = stats.record_bytes + bodies;
    let raw = Raw::create(dir)?.append(payload, stats.groups)?.as_secs_f64();
    let flows = as_f64(count);
    Ok(Round {
        flows_per_second: flows / took,
        cpu_us: cpu.as_secs_f64() * 1e6 / flows,
        made_us: made.as_secs_f64() * 1e6 / flows,
        bytes: as_f64(payload) / flows,
        amplification: as_f64(written) / as_f64(payload),
        groups: as_f64(stats.groups),
        raw_seconds: raw,
        of_raw: raw / took,
    })
}

/// What it takes to make the flows, and how many bytes of their bodies go to segment files.
fn making(web: &Web, mix: Mix, count: u64) -> Result<(Duration, u64)> {
    let inline = RecorderOptions::default().inline_limit;
    let mut conns = 0;
    let mut next_conn = || {
        conns += 1;
        ConnId(conns)
    };
    let mut generator = Generator::new(web, mix, &mut next_conn);
    let (cpu, mut bodies) = (measure::cpu_time()?, 0);
    for _ in 0..count {
        let made = std::hint::black_box(generator.next());
        bodies += if made.body.len() > inline { made.body.len() as u64 } else { 0 };
    }
    Ok((measure::cpu_time()? - cpu, bodies))
}

/// Takes a store away, whatever belongs to it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name
    };
    for suffix in ["", "-wal", "-shm", "-lock"] {
        // A closed store has no WAL, and SQLite takes the shared memory away with it.
        let _ = std::fs::remove_file(beside(suffix));
    }
    // A store whose flows have no large bodies has no folder.
    let _ = std::fs::remove_dir_all(beside("-bodies"));
    ensure!(!path.exists(), "{} cannot be removed", path.display());
    Ok(())
}

/// What the proxy reads from a connection at a time, at most.
const READ_BYTES: usize = 64 << 10;
