//! From the command line to the last reply, and the exit code.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::ReplayArgs;
use super::choose::Chosens;
use super::kept::Kept;
use super::print;
use crate::app;
use crate::cli::args::Global;
use crate::cli::errors::{self, CliError, Failed, ReplayFailed};
use crate::cli::output::{Data, Output};
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::{busy, process, text};
use crate::flow::Stage;
use crate::replay::compare::{Rules, Side, compare};
use crate::replay::send::{Feed, FeedError, Prepared, Refusal, Run, Settled, prepare};
use crate::store::Reader;

pub(in crate::cli) fn run(args: &ReplayArgs, global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let from = global.store()?;
    let reader = Reader::open(&from)?;
    let chosen = Chosens::of(&args.what, &reader)?;
    if args.check.dry_run {
        return dry_run(args, &reader, &chosen, &output);
    }
    process::forbid_core_dumps();
    process::raise_file_limit();
    process::reserve_descriptors();
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(send(args, global, &from, reader, chosen, output));
    // What blocks still, as a read of standard input, is not waited for.
    runtime.shutdown_background();
    result
}

/// Tells what would be sent.
fn dry_run(
    args: &ReplayArgs,
    reader: &Reader,
    chosen: &Chosens,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let edits = args.options()?.edits;
    let mut data = output.data();
    let mut told = Tally::default();
    chosen.each(reader, &mut |mids| {
        for &mid in mids {
            // It was deleted a moment ago.
            let Some(flow) = reader.flow(mid)? else { continue };
            let planned: Result<Prepared, Refusal> = prepare(&flow, &edits);
            print::plan(&mut data, mid, &flow, &planned, output)?;
            match planned {
                Ok(prepared) => {
                    told.sent += 1;
                    told.credentials.extend(prepared.credentials);
                }
                Err(_) => told.refused += 1,
            }
        }
        Ok(())
    })?;
    data.flush()?;
    told.warn(output);
    let refused = if told.refused > 0 { format!(", {} cannot be", told.refused) } else { String::new() };
    output.talk(&format!("{} would be sent{refused}", text::count(told.sent, "request")));
    Ok(ExitCode::from(if told.sent == 0 || told.refused > 0 { errors::NO } else { 0 }))
}

async fn send(
    args: &ReplayArgs,
    global: &Global,
    from: &Path,
    reader: Reader,
    chosen: Chosens,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let (options, config, rules) = (args.options()?, args.config(global)?, args.rules());
    if config.insecure {
        output.say(&format!(
            "{}: upstream certificates are NOT verified (--insecure)",
            output.talk_paint.yellow("warning")
        ));
    }
    // A request to a proxy of ours would be recorded once more, and answered by nobody.
    let own = [from, &config.store].into_iter().flat_map(busy::writers_listeners).collect();
    let (outbound, recorder) = app::outbound(&config, own).await?;
    let keep = {
        let (rules, with_url) = (rules.clone(), output.json);
        move |reply| Kept::of(reply, &rules, with_url)
    };
    let (feed, mut run) = Run::start_keeping(outbound, recorder, from, options, keep)?;
    let rounds = args.repeat();
    let count = chosen.count(&reader)?.map(|count| count.saturating_mul(rounds as u64));
    let feeding = tokio::task::spawn_blocking(move || feed_all(feed, &reader, &chosen, rounds));
    let mut told = Told {
        args,
        rules,
        output,
        from: Reader::open(from)?,
        into: (run.into_store().into(), Reader::open(run.into_store())?),
        data: output.data(),
        count,
        tally: Tally::default(),
        progress: Progress::new(&output, "requests"),
    };
    let mut signaled = 0;
    let printed = loop {
        tokio::select! {
            biased;
            _ = signals.next() => {
                signaled += 1;
                if signaled > 1 {
                    run.abort();
                } else {
                    output.talk("stopping; once more to break off what is under way");
                    run.stop();
                }
            }
            reply = run.reply() => match reply {
                None => break Ok(()),
                Some(reply) => match told.reply(reply, !run.has_reply()) {
                    Err(error) => break Err(error),
                    Ok(Next::Stop) => run.stop(),
                    Ok(Next::Go) => {}
                },
            },
        }
    };
    told.progress.clear();
    if printed.is_err() {
        run.abort();
    }
    let stats = run.finish().await;
    let fed = feeding.await?;
    printed?;
    fed?;
    if signaled > 0 {
        output.talk(&told.tally.told(told.args.shows_differences()));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    told.tally.lost = stats.lost.max(told.tally.lost);
    Ok(told.end())
}

/// Hands all flows over, round by round. Blocks.
fn feed_all(mut feed: Feed, reader: &Reader, chosen: &Chosens, rounds: usize) -> anyhow::Result<()> {
    for round in 0..rounds {
        if round > 0 {
            feed.next_round();
        }
        let mut stopped = false;
        let fed = chosen.each(reader, &mut |mids| match feed.send(mids) {
            Ok(()) => Ok(()),
            Err(FeedError::Stopped) => {
                stopped = true;
                Err(FeedError::Stopped.into())
            }
            Err(FeedError::Store(error)) => Err(error.into()),
            Err(FeedError::Body { mid, source }) => Err(CliError::Damaged { mid, source }.into()),
        });
        if stopped {
            return Ok(());
        }
        fed?;
    }
    Ok(())
}

enum Next {
    Go,
    Stop,
}

/// What has been told, and with what.
struct Told<'a> {
    args: &'a ReplayArgs,
    rules: Rules,
    output: Output,
    from: Reader,
    /// The store that took the last answer.
    into: (Arc<Path>, Reader),
    data: Data,
    /// How many requests there are, where that is known.
    count: Option<u64>,
    tally: Tally,
    progress: Progress,
}

impl Told<'_> {
    /// Compares an answer with the recorded one, and tells of it: at once, if it is the last of those that came together.
    /// Blocks while bodies are read: only for the thread that waits for nothing else.
    fn reply(&mut self, mut reply: Settled<Kept>, is_last: bool) -> anyhow::Result<Next> {
        if reply.mid.is_none() {
            // It is nowhere to be looked at.
            reply.kept.comparison = None;
        } else if let Some((was, is)) = reply.kept.uncompared() {
            if let Some(store) = reply.store.as_ref().filter(|store| **store != self.into.0) {
                self.into = (Arc::clone(store), Reader::open(store)?);
            }
            let was = Side { reader: &self.from, flow: was };
            let is = Side { reader: &self.into.1, flow: is };
            reply.kept.comparison = Some(compare(was, is, &self.rules));
        }
        let before = self.tally.credentials.len();
        self.tally.add(&reply);
        if self.tally.credentials.len() > before {
            self.progress.clear();
            self.tally.warn(&self.output);
        }
        if self.output.terminal {
            self.progress.clear();
        }
        let in_full = self.args.shows_differences();
        print::reply(&mut self.data, &reply, in_full, &self.output)?;
        if is_last {
            self.data.flush()?;
            match self.count {
                Some(count) => self.progress.at(self.tally.all(), count),
                None => self.progress.count(self.tally.all()),
            }
        }
        let differs = reply.kept.comparison.is_none_or(|comparison| !comparison.is_same());
        Ok(if differs && self.args.check.stop_on_diff { Next::Stop } else { Next::Go })
    }

    fn end(self) -> ExitCode {
        let tally = &self.tally;
        let told = tally.told(self.args.shows_differences());
        if tally.lost > 0 {
            let lost = text::count(tally.lost, "flow");
            return errors::report(&CliError::Lost { lost, store: None }.into(), &self.output);
        }
        self.output.talk(&told);
        if let Some(failed) = &tally.first_failed {
            let exit = if tally.failed == tally.untrusted { errors::TLS } else { errors::NETWORK };
            let answered = (tally.same + tally.different, tally.all());
            let error = ReplayFailed { first: failed.clone(), answered, exit };
            return errors::report(&error.into(), &self.output);
        }
        ExitCode::from(match () {
            () if tally.refused > 0 || tally.all() == 0 => errors::NO,
            () if tally.different > 0 && self.args.shows_differences() => errors::NO,
            () => 0,
        })
    }
}

/// What became of all requests.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    same: u64,
    different: u64,
    failed: u64,
    /// Of those that failed: in TLS.
    untrusted: u64,
    refused: u64,
    lost: u64,
    /// The first of those that failed.
    first_failed: Option<Failed>,
    credentials: BTreeSet<&'static str>,
}

impl Tally {
    fn add(&mut self, reply: &Settled<Kept>) {
        let kept = &reply.kept;
        if kept.is.is_none() {
            self.refused += 1;
            return;
        }
        self.sent += 1;
        self.credentials.extend(&kept.credentials);
        self.lost += u64::from(reply.mid.is_none());
        match (kept.failure(), &kept.comparison) {
            (Some((was, is, error)), _) => {
                self.failed += 1;
                self.first_failed.get_or_insert_with(|| Failed::new(kept.of, was, is, error));
                self.untrusted += u64::from(error.stage == Stage::Tls);
            }
            (None, Some(comparison)) if comparison.is_same() => self.same += 1,
            (None, _) => self.different += 1,
        }
    }

    fn all(&self) -> u64 {
        self.sent + self.refused
    }

    fn told(&self, in_full: bool) -> String {
        let what = if in_full { "" } else { " status and body" };
        let mut words = vec![format!("{} sent", text::count(self.sent, "request"))];
        let counted = [
            (self.same, format!("same{what}")),
            (self.different, "different".to_owned()),
            (self.failed, "failed".to_owned()),
        ];
        words.extend(
            counted
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}")),
        );
        if self.refused > 0 {
            words.push(format!("{} not sent", self.refused));
        }
        words.join(", ")
    }

    /// Warns of credentials that go where they did not go when they were recorded.
    fn warn(&self, output: &Output) {
        if !self.credentials.is_empty() {
            let names: Vec<&str> = self.credentials.iter().copied().collect();
            output.say(&format!(
                "{}: recorded credentials go to another origin: {} (--remove-header leaves them out)",
                output.talk_paint.yellow("warning"),
                names.join(", ")
            ));
        }
    }
}

/// As shells have it for SIGINT.
const INTERRUPTED: u8 = 130;
