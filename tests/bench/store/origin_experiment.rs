//! The experiment that the project began with: flows with a body of 4 MiB, stored and found again.
//!
//! In 2018 one took 50 ms. Sixteen flows at a time are handed over and waited for, against sixteen times the same bytes
//! appended to a plain file and synced; then one of them is collected by its mid, again and again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use manent::flow::{ConnId, Content, Mid};
use manent::record::{BodySide, Recorder, RecorderOptions};

use crate::generator::{Generator, Made, Mix};
use crate::measure::{Limit, Raw, Sorted, as_f64, digits, median, millis, note, verdict};
use crate::plan::Plan;
use crate::recorder::remove;
use crate::web::{Chance, Resource, Web};

pub(crate) async fn run(plan: &Plan, dir: &Path) -> Result<()> {
    let web = Web::new();
    let mut conns = 0;
    let mut generator = Generator::new(&web, Mix::Browser, move || {
        conns += 1;
        ConnId(conns)
    });
    // Each group on its own scale would be in the noise of the disk: ours and the raw one by turns, many times.
    let mut ratios = Vec::new();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let mut raw_file = Raw::create(dir)?;
    let path = dir.join("origin.db");
    // Who waits for each group waits for nothing else.
    let options = RecorderOptions { linger: Duration::ZERO, ..RecorderOptions::default() };
    let recorder = Recorder::open(&path, options).await?;
    let mut last = None;
    for _ in 0..plan.sizes.origin_groups {
        let flows: Vec<Made> = (0..GROUP).map(|_| with_body(&web, &mut generator, BODY_BYTES)).collect();
        let (took, mid) = store_group(&recorder, flows).await?;
        last = Some(mid);
        let appended = raw_file.append(GROUP * BODY_BYTES as u64, 1)?;
        ratios.push(took.as_secs_f64() / appended.as_secs_f64());
        ours.push(millis(took) / as_f64(GROUP));
        raw.push(millis(appended) / as_f64(GROUP));
    }
    note("stored, groups of 16", &format!("{} ms a flow", digits(median(ours))));
    note("raw append and fdatasync, groups of 16", &format!("{} ms a flow", digits(median(raw))));
    verdict("stored, to raw append", median(ratios), "×", Limit::AtMost(1.15));

    let mid = last.context("no group was stored")?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let flow = recorder.collect(mid).await?.context("what was stored is not there")?;
        times.push(started.elapsed());
        let body = flow.response.context("a response")?.body;
        ensure!(body.as_inline().is_some_and(|bytes| bytes.len() == BODY_BYTES), "the body is not whole");
    }
    let times = Sorted::new(times);
    verdict("collect(mid), warm, median", millis(times.percentile(50)), "ms", Limit::AtMost(1.0));
    recorder.close().await?;
    remove(&path)
}

/// Hands flows over and waits until all of them are announced.
async fn store_group(recorder: &Recorder, flows: Vec<Made>) -> Result<(Duration, Mid)> {
    let mut commits = recorder.commits();
    let started = Instant::now();
    let mut last = Mid(0);
    // The bodies first, as they pass side by side; then the flows end one after the other.
    let mut open = Vec::with_capacity(flows.len());
    for Made { mut flow, body } in flows {
        let ticket = recorder.admit().await;
        let mut writer = ticket.body(BodySide::Response);
        for piece in body.chunks(64 << 10) {
            writer.write(body.slice_ref(piece)).await;
        }
        if let Some(response) = &mut flow.response {
            response.body.content = Content::Extents(writer.extents());
        }
        open.push((ticket, flow));
    }
    for (ticket, flow) in open {
        last = ticket.mid();
        ticket.finish(&flow);
    }
    let mut announced = 0;
    while announced < GROUP {
        announced += commits.recv().await?.len() as u64;
    }
    Ok((started.elapsed(), last))
}

fn with_body(web: &Web, generator: &mut Generator<'_>, len: usize) -> Made {
    let mut made = generator.next();
    made.body = web.body(Resource::Image, len, &mut Chance::new(3));
    if let Some(response) = &mut made.flow.response {
        response.status = 200;
        (response.body.len, response.body.wire_len) = (len as u64, len as u64);
    }
    made
}

/// What a caller of `store` waits who stores one flow at a time.
pub(crate) async fn one_at_a_time(plan: &Plan, dir: &Path) -> Result<()> {
    let web = Web::new();
    let path = dir.join("one.db");
    let recorder = Recorder::open(&path, RecorderOptions::default()).await?;
    let mut generator = Generator::new(&web, Mix::Browser, || recorder.next_conn_id());
    for (name, len) in
        [("store(flow), 1 KiB, in the record", 1 << 10), ("store(flow), 100 KiB, in a segment", 100 << 10)]
    {
        let mut times = Vec::new();
        for _ in 0..plan.sizes.one_at_a_time {
            let Made { mut flow, body } = with_body(&web, &mut generator, len);
            if let Some(response) = &mut flow.response {
                response.body.content = Content::Inline(body);
            }
            let started = Instant::now();
            recorder.store(flow).await?;
            times.push(started.elapsed());
        }
        told(name, times);
    }
    recorder.close().await?;
    remove(&path)?;
    let mut file = Raw::create(dir)?;
    let raw = (0..plan.sizes.one_at_a_time).map(|_| file.append(2 << 10, 1));
    told("raw append of 2 KiB and fdatasync", raw.collect::<Result<_>>()?);
    Ok(())
}

fn told(name: &str, times: Vec<Duration>) {
    let times = Sorted::new(times);
    let text = [50, 99].map(|percent| digits(millis(times.percentile(percent))));
    note(name, &format!("p50 {} ms, p99 {} ms", text[0], text[1]));
}

const GROUP: u64 = 16;
const BODY_BYTES: usize = 4 << 20;
