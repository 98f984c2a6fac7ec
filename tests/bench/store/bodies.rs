//! The index of bodies: what it costs to make and to keep, and what searches in bodies take with it and without.
//!
//! Flows of a browser's mix, whose bodies are drawn from some hundred made beforehand. Texts are words by Zipf's law of
//! 20,000 that are made of syllables, with punctuation, numbers and hexadecimal ids between; half of them are stored with
//! gzip, as servers send them. The other bodies are noise. One flow in 20,011 has a word that is nowhere else.
//!
//! Beside it: SQLite's own FTS5 with its trigram tokenizer, given the same texts, decoded, in memory.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use manent::filter::Filter;
use manent::flow::Headers;
use manent::record::{Recorder, RecorderOptions};
use manent::store::{BodyIndexer, Indexing, Limits, Reader, Search};
use rusqlite::{Connection, params};

use crate::generator::{Generator, Made, Mix};
use crate::latency;
use crate::measure::{self, as_f64, digits, millis, note};
use crate::plan::Plan;
use crate::recorder::{record, remove};
use crate::web::{Chance, Resource, Web};

pub(crate) async fn run(plan: &Plan, dir: &Path) -> Result<()> {
    let (web, bodies) = (Web::new(), Bodies::new());
    let path = dir.join("bodies.db");
    let count = plan.sizes.bodies;
    fill(&web, &bodies, &path, count).await?;
    let flows = as_f64(count);
    note(
        "flows, bytes a flow in all files",
        &format!("{count}, {}", digits(as_f64(latency::size(&path)) / flows)),
    );
    let without = searches(&path, &bodies.frequent)?;
    made(&path, flows)?;
    let with = searches(&path, &bodies.frequent)?;
    for (without, with) in without.iter().zip(&with) {
        ensure!(without.mids == with.mids, "{} finds something else with the index", without.name);
        let ratio = digits(without.time.as_secs_f64() / with.time.as_secs_f64());
        note(&format!("{}: without, with ({} records, {})", without.name, without.records, with.records), &{
            format!("{} ms, {} ms, {ratio} ×", digits(millis(without.time)), digits(millis(with.time)))
        });
    }
    kept_up(plan, &path).await?;
    remove(&path)?;
    fts5(&bodies, plan.quick)
}

/// Makes the index of all that is there.
fn made(path: &Path, flows: f64) -> Result<()> {
    let (cpu, started) = (measure::cpu_time()?, Instant::now());
    let mut indexer = BodyIndexer::open(path, true)?;
    while indexer.step()? != Indexing::Done {}
    let (cpu, took) = (measure::cpu_time()? - cpu, started.elapsed());
    indexer.close()?;
    let state = Reader::open(path)?.index_state()?;
    let us = |time: Duration| digits(time.as_secs_f64() * 1e6 / flows);
    note("index: CPU a flow, time a flow", &format!("{} µs, {} µs", us(cpu), us(took)));
    note("index: bytes a flow, flows that it covers", &{
        format!("{}, {} of {}", digits(as_f64(state.bytes) / flows), state.covered, state.flows)
    });
    note("peak memory of this process, generator and all", &format!("{} MiB", measure::peak_rss_mib()?));
    Ok(())
}

/// A page of the newest 50 that match.
struct Found {
    name: &'static str,
    time: Duration,
    records: u64,
    mids: Vec<u64>,
}

fn searches(path: &Path, frequent: &str) -> Result<Vec<Found>> {
    let reader = Reader::open(path)?;
    let search = |(name, filter): &(&'static str, &str)| -> Result<Found> {
        let filter: Filter = filter.replace("FREQUENT", frequent).parse()?;
        let query = Search { limit: Some(50), ..Search::new(&filter) };
        let mut mids = Vec::new();
        let mut see = |row: manent::store::Row| {
            mids.push(row.mid.0);
            ControlFlow::Continue(())
        };
        let started = Instant::now();
        let progress = reader.search(&query, &mut see, &mut |_| ControlFlow::Continue(()))?;
        Ok(Found { name, time: started.elapsed(), records: progress.records, mids })
    };
    SEARCHES.iter().map(search).collect()
}

const SEARCHES: &[(&str, &str)] = &[
    ("~b of a word that some flows have", "~b needlework"),
    ("~b of a word that none has", "~b nosuchword"),
    ("~b of an expression that none matches", "~b 'nosuch[a-z]+=\\d+'"),
    ("~b of a frequent word", "~b FREQUENT"),
    ("~b of four letters that none has", "~b qxzw"),
    ("~bq of a word: requests have no bodies", "~bq needlework"),
];

/// Finish to committed while the index of all that is there is made beside.
async fn kept_up(plan: &Plan, path: &Path) -> Result<()> {
    for wanted in [false, true] {
        // Dropped first, so that there is something to make.
        let mut indexer = BodyIndexer::open(path, false)?;
        while indexer.step()? != Indexing::Done {}
        indexer.close()?;
        if wanted {
            want(path)?;
        }
        let count = (1_000 * plan.sizes.paced_seconds).max(100);
        let seen = latency::run_at(path, count, Some(1_000), Limits::default()).await?;
        let name = if wanted { "finish to committed at 1000/s, index made" } else { "the same without" };
        latency::report(name, seen);
    }
    let state = Reader::open(path)?.index_state()?;
    note("blocks that were indexed meanwhile", &format!("{} of {}", state.indexed_blocks, state.blocks));
    Ok(())
}

/// Says that an index is wanted, as `manent index --bodies` does beside a capture.
fn want(path: &Path) -> Result<()> {
    let indexer = BodyIndexer::open(path, true)?;
    indexer.close()?;
    Ok(())
}

fn fts5(bodies: &Bodies, quick: bool) -> Result<()> {
    let conn = Connection::open_in_memory()?;
    conn.execute_batch(
        "CREATE VIRTUAL TABLE text USING fts5(body, content='', tokenize='trigram', detail='none')",
    )?;
    let texts: Vec<&Bytes> =
        bodies.texts.iter().map(|text| &text.plain).take(if quick { 5 } else { TEXTS }).collect();
    let cpu = measure::cpu_time()?;
    for group in texts.chunks(16) {
        conn.execute_batch("BEGIN")?;
        for text in group {
            conn.execute("INSERT INTO text (body) VALUES (?1)", [std::str::from_utf8(text)?])?;
        }
        conn.execute_batch("COMMIT")?;
    }
    let cpu = measure::cpu_time()? - cpu;
    let bytes: i64 =
        conn.query_row("SELECT sum(length(block)) FROM text_data", params![], |row| row.get(0))?;
    let texts = as_f64(texts.len() as u64);
    // Of a hundred flows 56 have text, and 82 a body.
    let share = 0.56 * 0.85;
    let (cpu, bytes) =
        (cpu.as_secs_f64() * 1e6 / texts * share, as_f64(bytes.cast_unsigned()) / texts * share);
    note("FTS5 trigram, detail=none, of the texts alone: CPU a flow", &format!("{} µs", digits(cpu)));
    note("the same: bytes a flow", &digits(bytes));
    Ok(())
}

async fn fill(web: &Web, bodies: &Bodies, path: &Path, count: u64) -> Result<()> {
    let recorder = Recorder::open(path, RecorderOptions::default()).await?;
    let mut generator = Generator::new(web, Mix::Browser, || recorder.next_conn_id());
    let mut chance = Chance::new(11);
    for number in 0..count {
        let made = bodies.put_in(generator.next(), number, &mut chance);
        record(&recorder, made).await;
    }
    let stats = recorder.close().await?;
    ensure!((stats.stored, stats.lost) == (count, 0), "not all is stored: {stats:?}");
    Ok(())
}

/// Bodies to draw from.
struct Bodies {
    texts: Vec<Text>,
    needle: Bytes,
    /// The word that most texts have.
    frequent: String,
}

struct Text {
    plain: Bytes,
    gzip: Bytes,
}

impl Bodies {
    fn new() -> Self {
        let mut chance = Chance::new(3);
        let words: Vec<String> = (0..WORDS).map(|_| word(&mut chance)).collect();
        let text = |_| {
            // The lengths of the generator's mix.
            let len = match chance.below(1000) {
                0..500 => chance.log_uniform(200.0, 2048.0),
                500..755 => chance.log_uniform(2048.0, 16_384.0),
                755..925 => chance.log_uniform(16_384.0, 131_072.0),
                925..985 => chance.log_uniform(131_072.0, 524_288.0),
                _ => chance.log_uniform(524_288.0, 2_097_152.0),
            };
            let plain = prose(&words, len, &mut chance);
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            // A Vec takes all.
            let gzip = gzip.write_all(&plain).and_then(|()| gzip.finish()).unwrap_or_default();
            Text { plain: plain.into(), gzip: gzip.into() }
        };
        let texts = (0..TEXTS).map(text).collect();
        let frequent = words.first().cloned().unwrap_or_default();
        Self {
            texts,
            frequent,
            needle: Bytes::from_static(b"{\"result\": \"a word of needlework, found at last\"}"),
        }
    }

    /// Gives a flow another body, if it has one that is text.
    fn put_in(&self, mut made: Made, number: u64, chance: &mut Chance) -> Made {
        let Some(response) = &mut made.flow.response else { return made };
        let is_text = response
            .headers
            .get("content-type")
            .is_some_and(|media_type| Resource::TEXTS.iter().any(|t| t.as_bytes() == media_type));
        if number % NEEDLE_EVERY == NEEDLE_EVERY / 2 {
            made.body = self.needle.clone();
        } else if is_text && !made.body.is_empty() {
            let text = &self.texts[chance.index(self.texts.len())];
            if chance.below(2) == 0 {
                made.body = text.plain.clone();
            } else {
                made.body = text.gzip.clone();
                let mut headers: Headers = response.headers.clone();
                headers.push("Content-Encoding", "gzip");
                response.headers = headers;
            }
        }
        (response.body.len, response.body.wire_len) = (made.body.len() as u64, made.body.len() as u64);
        made
    }
}

fn word(chance: &mut Chance) -> String {
    let syllables =
        ["ka", "to", "na", "ra", "mi", "se", "lo", "du", "pe", "vi", "sho", "ten", "gar", "bel", "qui", "x"];
    (0..2 + chance.index(3)).map(|_| syllables[chance.index(syllables.len())]).collect()
}

fn prose(words: &[String], len: usize, chance: &mut Chance) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 64);
    while text.len() < len {
        match chance.below(40) {
            0 => text.extend_from_slice(format!("{:x}", chance.next()).as_bytes()),
            1..4 => text.extend_from_slice(chance.below(100_000).to_string().as_bytes()),
            _ => {
                // Zipf's law: small ones far more often.
                let at = chance.log_uniform(1.0, as_f64(words.len() as u64)) - 1;
                text.extend_from_slice(words[at.min(words.len() - 1)].as_bytes());
            }
        }
        text.extend_from_slice(
            [" ", " ", "\": \"", "\", \"", ", ", "=", "/", "\n"][chance.index(8)].as_bytes(),
        );
    }
    text.truncate(len);
    text
}

/// Texts to draw from.
const TEXTS: usize = 400;

/// Words that they are made of.
const WORDS: usize = 20_000;

/// A prime, so that it coincides with no other period.
const NEEDLE_EVERY: u64 = 20_011;
