//! `manent serve`: answers from a store, without the origins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use super::args::Global;
use super::capture;
use super::errors;
use super::errors::ServeError;
use super::flags::ServingFlags;
use super::notify::Notify;
use super::output::Output;
use super::progress::Progress;
use super::signals::Signals;
use super::{given, process, search, setup, text};
use crate::app::{Proxy, Summary};
use crate::config::Config;
use crate::config::units::{parse_duration, parse_whole};
use crate::record::{Recorder, RecorderOptions};
use crate::replay::serve::{
    Counts, Fault, Faults, Field, Indexed, Latency, Match, OnMiss, ServeOptions, ServeOrder, StoreAnswers,
};

/// Answer requests from recorded flows, as a proxy or as an origin, without the network
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// Only flows that match answer; words are joined by blanks, `manent filter` tells the language
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    answering: AnsweringFlags,
    #[command(flatten)]
    matching: MatchingFlags,
    #[command(flatten)]
    serving: ServingFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Answering")]
struct AnsweringFlags {
    /// Give an answer again and again, rather than once
    #[arg(long)]
    reuse: bool,
    /// Which of several answers to one request comes first: as recorded, the newest, or the one recorded at the time that
    /// is nearest to the request's, each counted from the first of them
    #[arg(long, value_enum, default_value_t)]
    order: Order,
    /// What becomes of a request without an answer, also of one whose answers have all been given: a status, with a page
    /// that says what came nearest; kill: the connection is cut; forward: it goes to its origin; record: the same, and
    /// what is recorded of it, into the store that is served, answers from then on
    #[arg(long, value_name = "STATUS|kill|forward|record", default_value = "404", value_parser = parse_on_miss)]
    on_miss: OnMiss,
    /// Leave dates as they are: Date, Expires, Last-Modified, cookies' Expires. Else they are moved by the time since they
    /// were recorded
    #[arg(long)]
    no_refresh: bool,
    /// When answers come: at once, as late as they were recorded (head, 1xx, body, WebSocket messages), or after a time
    #[arg(long, value_name = "none|recorded|TIME", default_value = "none", value_parser = parse_latency)]
    latency: Latency,
    /// Let this share of all requests fail on purpose: 0.05, 5%
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    fail_rate: f64,
    /// How they fail, turn by turn by chance: a status, or reset, which cuts the connection
    #[arg(long, value_name = "STATUS|reset", value_delimiter = ',', default_value = "503", value_parser = parse_fault)]
    fail_with: Vec<Fault>,
    /// Which of them fail: the same seed, the same numbers in the order of requests [default: by the clock]
    #[arg(long, value_name = "N", value_parser = parse_whole)]
    seed: Option<u64>,
    /// Answer, too, where the record is cut (by --body-limit, by a client that left): as far as it goes, then the message is
    /// broken off. What an origin broke off itself is always answered so
    #[arg(long)]
    allow_truncated: bool,
    /// End with exit code 1 if a request found no answer, or an answer was never given
    #[arg(long)]
    strict: bool,
    /// Record what passes into another store
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Matching")]
struct MatchingFlags {
    /// What a request must have in common with a recorded one: scheme, method, host, port, path, query, body, header:NAME.
    /// JSON bodies are compared by value, multipart forms by their parts
    #[arg(long = "match", value_name = "FIELDS", value_delimiter = ',')]
    #[arg(default_value = "scheme,method,host,port,path,query,body")]
    fields: Vec<Field>,
    /// And this header field. Repeatable
    #[arg(long, value_name = "NAME")]
    use_header: Vec<String>,
    /// But not this parameter of the query. Repeatable
    #[arg(long, value_name = "NAME")]
    ignore_param: Vec<String>,
    /// Nor this field of a form (urlencoded or multipart). Repeatable
    #[arg(long, value_name = "NAME")]
    ignore_payload_param: Vec<String>,
    /// Nor the body
    #[arg(long)]
    ignore_content: bool,
    /// Nor the host: any will do
    #[arg(long)]
    any_host: bool,
    /// Nor the port
    #[arg(long)]
    any_port: bool,
    /// Nor scheme, host and port: a path is answered whatever origin it was recorded of. For clients that take this for their
    /// origin; --reverse names one, so that only its answers are given
    #[arg(long)]
    any_origin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Order {
    #[default]
    Fifo,
    Last,
    NearestInTime,
}

pub(super) fn run(args: &ServeArgs, global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let filter = search::parse(&args.filter)?;
    let store = global.store()?;
    let record = record_into(&args.answering, &store)?;
    let config = args.serving.for_serve(global, record)?;
    process::forbid_core_dumps();
    process::raise_file_limit();
    process::reserve_descriptors();
    let runtime = tokio::runtime::Runtime::new()?;
    let options = args.options();
    if options.on_miss == OnMiss::Record && !store.exists() {
        runtime.block_on(make(&store))?;
    }
    let progress = Progress::new(&output, "flows");
    let mut tell = |indexed: &Indexed| progress.at(indexed.seen, indexed.total);
    let opened = StoreAnswers::open(&store, filter.as_ref(), options.clone(), &mut tell);
    progress.clear();
    let answers = opened?;
    let Indexed { seen, answers: count, truncated, .. } = answers.indexed();
    if count == 0 && options.on_miss != OnMiss::Record {
        return Err(ServeError::NothingToServe { seen, truncated }.into());
    }
    let result = runtime.block_on(serve(answers, config, &options, args.answering.strict, &store, output));
    runtime.shutdown_background();
    result
}

async fn serve(
    answers: StoreAnswers,
    config: Config,
    options: &ServeOptions,
    strict: bool,
    store: &Path,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let notify = Notify::from_environment();
    let mut signals = Signals::listen()?;
    let period = config.timeouts.grace;
    capture::warn(&config, &output);
    let proxy = Proxy::start_answering(config.clone(), Arc::new(answers.clone())).await?;
    if let (OnMiss::Record, Some(recorder)) = (options.on_miss, proxy.recorder()) {
        let (answers, commits) = (answers.clone(), recorder.commits());
        tokio::task::spawn_blocking(move || answers.follow(commits)).await??;
    }
    say_ready(&proxy, &config, answers.indexed(), options, store, &output);
    notify.ready(&format!("listening on {}", proxy.addr()));
    tokio::select! {
        _ = signals.next() => {}
        () = notify.keep_alive() => {}
    }
    notify.stopping();
    output.talk("stopping; once more to stop at once");
    let summary = capture::stop(proxy, period, &mut signals).await;
    let counts = tokio::task::spawn_blocking(move || answers.counts()).await?;
    tell_counts(counts, summary, &config, &output)?;
    Ok(match capture::lost(&summary, &config.store) {
        Some(error) => errors::report(&error.into(), &output),
        None if strict && (counts.missed > 0 || counts.unused > 0) => ExitCode::from(errors::NO),
        None => ExitCode::SUCCESS,
    })
}

/// Where what passes is recorded, if anywhere.
fn record_into(flags: &AnsweringFlags, store: &Path) -> Result<Option<PathBuf>, ServeError> {
    let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    match (&flags.record, flags.on_miss) {
        (Some(record), _) if same(record, store) => {
            Err(ServeError::RecordsItself { path: text::path(store) })
        }
        (Some(record), _) => Ok(Some(record.clone())),
        (None, OnMiss::Record) => Ok(Some(store.to_owned())),
        (None, _) => Ok(None),
    }
}

/// Makes a store that holds nothing yet.
async fn make(store: &Path) -> anyhow::Result<()> {
    let recorder = Recorder::open(store, RecorderOptions::default()).await?;
    recorder.close().await?;
    Ok(())
}

impl ServeArgs {
    fn options(&self) -> ServeOptions {
        let flags = &self.answering;
        let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        ServeOptions {
            matching: self.matching.matching(),
            reuse: flags.reuse,
            order: match flags.order {
                Order::Fifo => ServeOrder::First,
                Order::Last => ServeOrder::Last,
                Order::NearestInTime => ServeOrder::Nearest,
            },
            refresh: !flags.no_refresh,
            on_miss: flags.on_miss,
            latency: flags.latency,
            faults: Faults {
                rate: flags.fail_rate,
                kinds: flags.fail_with.clone(),
                seed: flags.seed.unwrap_or_else(|| by_clock().into()),
            },
            allow_truncated: flags.allow_truncated,
        }
    }
}

impl MatchingFlags {
    fn matching(&self) -> Match {
        let mut fields = self.fields.clone();
        fields.extend(self.use_header.iter().map(|name| Field::Header(name.to_ascii_lowercase())));
        let mut matching = Match {
            fields,
            ignored_params: self.ignore_param.clone(),
            ignored_payload_params: self.ignore_payload_param.clone(),
        };
        let out = [
            (self.ignore_content, Field::Body),
            (self.any_host || self.any_origin, Field::Host),
            (self.any_port || self.any_origin, Field::Port),
            (self.any_origin, Field::Scheme),
        ];
        out.iter().filter(|(is_out, _)| *is_out).for_each(|(_, field)| matching.ignore(field));
        matching
    }
}

/// The first line is what scripts wait for, so it is said even when quiet.
fn say_ready(
    proxy: &Proxy,
    config: &Config,
    indexed: Indexed,
    options: &ServeOptions,
    store: &Path,
    output: &Output,
) {
    output.say(&format!(
        "manent {} listening on {}   (Ctrl-C stops)",
        env!("CARGO_PKG_VERSION"),
        proxy.addr()
    ));
    let answers = text::count(indexed.answers, "answer");
    let once = if options.reuse { "given again and again" } else { "each given once" };
    output.talk(&format!("  serve   {answers} of {}, {once}", text::path(store)));
    let miss = match options.on_miss {
        OnMiss::Status(status) => format!("{status}, and the log tells what came nearest"),
        OnMiss::Kill => "the connection is cut".to_owned(),
        OnMiss::Forward => "asked of the origin".to_owned(),
        OnMiss::Record => "asked of the origin, recorded, and answered from then on".to_owned(),
    };
    output.talk(&format!("  else    {miss}"));
    if indexed.truncated > 0 {
        let flows = text::count(indexed.truncated, "flow");
        output.say(&format!("warning: {flows} left out, not whole on record (--allow-truncated)"));
    }
    if indexed.unreadable > 0 {
        let flows = text::count(indexed.unreadable, "flow");
        let warning = format!("warning: {flows} left out that could not be read (manent check)");
        output.say(&given::in_full(&warning));
    }
    if options.faults.rate > 0.0 {
        output.talk(&format!(
            "  faults  {:.1}%, --seed {}",
            options.faults.rate * 100.0,
            options.faults.seed
        ));
    }
    if config.record && options.on_miss != OnMiss::Record {
        output.talk(&format!("  record  {}", text::path(&config.store)));
    }
    if let Some(path) = proxy.ca().cert_path() {
        output.talk(&format!("  trust   {}", text::path(path)));
    }
    if let Some(place) = setup::place(proxy, config) {
        output.talk(&format!("  setup   {place}"));
    }
}

fn tell_counts(counts: Counts, summary: Summary, config: &Config, output: &Output) -> std::io::Result<()> {
    let Counts { answered, missed, faults, unused } = counts;
    if output.json {
        let object = serde_json::json!({
            "answered": answered, "missed": missed, "faults": faults, "unused": unused, "stored": summary.stored,
        });
        return output.data_line(&object.to_string());
    }
    let mut told = vec![format!("{answered} answered"), format!("{missed} missed")];
    if faults > 0 {
        told.push(format!("{faults} failed on purpose"));
    }
    told.push(format!("{} never given", text::count(unused, "answer")));
    if config.record {
        told.push(format!("{} recorded", text::count(summary.stored, "flow")));
    }
    output.talk(&told.join(", "));
    Ok(())
}

fn parse_on_miss(text: &str) -> Result<OnMiss, String> {
    Ok(match text {
        "kill" => OnMiss::Kill,
        "forward" => OnMiss::Forward,
        "record" => OnMiss::Record,
        _ => OnMiss::Status(
            status(text)
                .ok_or("a status from 200 to 599, kill, forward or record was expected, such as 404")?,
        ),
    })
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    match text {
        "reset" => Ok(Fault::Reset),
        _ => status(text)
            .map(Fault::Status)
            .ok_or_else(|| "a status from 200 to 599 or reset was expected, such as 503".to_owned()),
    }
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (200..600).contains(status))
}

fn parse_latency(text: &str) -> Result<Latency, String> {
    Ok(match text {
        "none" => Latency::None,
        "recorded" => Latency::Recorded,
        _ => Latency::Fixed(
            parse_duration(text).map_err(|error| format!("none, recorded or a time: {error}"))?,
        ),
    })
}

/// `0.05` or `5%`.
fn parse_share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / unit);
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share from 0 to 1 or a percentage was expected, such as 5%".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  manent serve -s session.db                       what was recorded, each answer once
  manent serve host:api.test --reuse               one host's answers, again and again
  curl -x 127.0.0.1:8080 --cacert \"$(manent ca path)\" https://api.test/
  manent serve --reverse https://api.test -p 9000  as the origin itself, at http://127.0.0.1:9000/
  manent serve --any-origin -p 9000 host:test      the same of several origins, by the path alone
  manent serve --match method,path,body --order last
  manent serve --on-miss record --reuse            ask the origin once, then never again
  manent serve --fail-rate 5% --fail-with 503,reset --seed 7 --latency 200ms
  manent serve --strict --json                     for CI: 1 if anything was missed or left over

Unlike in mitmproxy, a request without an answer does not go to the network (--on-miss forward), and what --on-miss says
holds when all answers have been given, too.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_statuses_are_read_in_their_forms() {
        for (text, share) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("25%", 0.25), ("100%", 1.0)] {
            assert_eq!(parse_share(text), Ok(share), "{text}");
        }
        for bad in ["", "-1", "1.1", "101%", "nan", "x"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_on_miss("204"), Ok(OnMiss::Status(204)));
        assert_eq!(parse_on_miss("kill"), Ok(OnMiss::Kill));
        for bad in ["", "99", "199", "600", "no"] {
            assert!(parse_on_miss(bad).is_err() && parse_fault(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_latency("1s"), Ok(Latency::Fixed(std::time::Duration::from_secs(1))));
        assert!(parse_latency("soon").is_err());
    }
}
