//! The figures as tables: medians over the rounds, and what they are to the yardsticks.

use crate::driver::{Rounds, Sample};
use crate::plan::{Proxy, Scenario, Shape};

/// A column: its title, how many decimals, and its figure.
type Column = (&'static str, usize, fn(&Sample) -> f64);

/// Prints one scenario.
pub(crate) fn print(scenario: &Scenario, results: &[(Proxy, Rounds)]) {
    match scenario.shape {
        Shape::Requests => {
            compare(scenario, results, ("CPU µs/req", 1, |sample| per(sample, sample.cpu_s * 1e6)), REQUESTS);
        }
        Shape::Transfer => compare(scenario, results, ("MiB/s", 0, throughput), TRANSFER),
        Shape::FirstByte => {
            compare(scenario, results, ("p50 ms", 3, |sample| sample.p50_us / 1e3), FIRST_BYTE);
        }
        Shape::Memory => memory(scenario, results),
        Shape::Mixed | Shape::Replay => {} // soak.rs and replay.rs print their own
    }
}

const REQUESTS: &[Column] = &[
    ("req/s", 0, |sample| as_f64(sample.requests) / sample.elapsed_s),
    ("p50 ms", 2, |sample| sample.p50_us / 1e3),
    ("p99 ms", 2, |sample| sample.p99_us / 1e3),
    ("RSS MiB", 1, |sample| mib(sample.usage.rss_kib)),
    ("peak MiB", 1, |sample| mib(sample.usage.peak_rss_kib)),
    ("origin conns", 0, |sample| as_f64(sample.origin_connections)),
];

const TRANSFER: &[Column] = &[
    ("CPU ms each", 0, |sample| per(sample, sample.cpu_s * 1e3)),
    ("RSS MiB", 1, |sample| mib(sample.usage.rss_kib)),
    ("peak MiB", 1, |sample| mib(sample.usage.peak_rss_kib)),
];

const FIRST_BYTE: &[Column] = &[
    ("p99 ms", 3, |sample| sample.p99_us / 1e3),
    ("req/s", 0, |sample| as_f64(sample.requests) / sample.elapsed_s),
    ("CPU µs/req", 1, |sample| per(sample, sample.cpu_s * 1e6)),
    ("peak MiB", 1, |sample| mib(sample.usage.peak_rss_kib)),
];

fn throughput(sample: &Sample) -> f64 {
    as_f64(sample.bytes) / (1024.0 * 1024.0) / sample.elapsed_s
}

/// `main` with its spread and its ratios to the yardsticks, then the other columns.
fn compare(scenario: &Scenario, results: &[(Proxy, Rounds)], main: Column, columns: &[Column]) {
    let rounds = results.first().map_or(0, |(_, rounds)| rounds.len());
    let streams =
        if scenario.http2 { format!(" × {} stream(s), HTTP/2", scenario.streams) } else { String::new() };
    println!(
        "\n{}: {} × {} {} B, {} connection(s){streams}{}{}, median of {rounds} round(s)",
        scenario.name,
        scenario.steps.iter().sum::<u64>(),
        scenario.method,
        scenario.bytes,
        scenario.connections,
        if scenario.fresh { " at a time, one request each" } else { "" },
        scenario.rate.map_or(String::new(), |rate| format!(", {rate} due each second")),
    );
    // A latency is set against the yardstick's by what it adds, all else by ratio.
    let adds = scenario.shape == Shape::FirstByte;
    print!("{:<12}{:>12}{:>18}", "proxy", main.0, "(min–max)");
    for yardstick in scenario.yardsticks {
        print!("{:>14}", format!("{} {}", if adds { "over" } else { "×" }, yardstick.name()));
    }
    columns.iter().for_each(|(title, ..)| print!("{title:>14}"));
    println!();
    let median = |wanted: Proxy| {
        let (_, rounds) = results.iter().find(|(proxy, _)| *proxy == wanted)?;
        Some(spread(rounds, main.2).1)
    };
    for (proxy, rounds) in results {
        let (least, middle, most) = spread(rounds, main.2);
        let range = format!("({least:.*}–{most:.*})", main.1, main.1);
        print!("{:<12}{middle:>12.*}{range:>18}", proxy.name(), main.1);
        for yardstick in scenario.yardsticks {
            let against = median(*yardstick).map_or("-".to_owned(), |base| {
                if adds { format!("{:+.3}", middle - base) } else { format!("{:.2}", middle / base) }
            });
            print!("{against:>14}");
        }
        for (_, decimals, figure) in columns {
            let figure = spread(rounds, *figure).1;
            let text = if figure.is_nan() { "-".to_owned() } else { format!("{figure:.decimals$}") };
            print!("{text:>14}");
        }
        println!();
    }
}

fn memory(scenario: &Scenario, results: &[(Proxy, Rounds)]) {
    println!("\n{}: memory that stays, {} connections kept", scenario.name, scenario.connections);
    println!("{:<12}{:>14}{:>14}{:>14}{:>14}", "proxy", "flows", "RSS MiB", "grown MiB", "peak MiB");
    for (proxy, rounds) in results {
        let mut flows = 0;
        let mut first = None;
        for sample in rounds.iter().flatten() {
            flows += sample.requests;
            let rss = as_f64(sample.usage.rss_kib) / 1024.0;
            let grown = rss - *first.get_or_insert(rss);
            let peak = as_f64(sample.usage.peak_rss_kib) / 1024.0;
            println!("{:<12}{flows:>14}{rss:>14.1}{grown:>14.1}{peak:>14.1}", proxy.name());
        }
    }
}

/// Least, median and most of `figure` over the rounds' last steps.
fn spread(rounds: &Rounds, figure: fn(&Sample) -> f64) -> (f64, f64, f64) {
    let mut all: Vec<f64> = rounds.iter().filter_map(|steps| steps.last()).map(figure).collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
    let last = all.len().saturating_sub(1);
    (at(0), f64::midpoint(at(last / 2), at(last.div_ceil(2))), at(last))
}

/// NaN for what has no process, and therefore no memory.
fn mib(kib: u64) -> f64 {
    if kib == 0 { f64::NAN } else { as_f64(kib) / 1024.0 }
}

fn per(sample: &Sample, total: f64) -> f64 {
    total / as_f64(sample.requests)
}

/// Exact below 2^53, which no count here comes near.
#[expect(clippy::cast_precision_loss, reason = "counts of requests and KiB are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
