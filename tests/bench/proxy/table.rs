//! The figures as tables: medians over the rounds, and ratios to both yardsticks.

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
        Shape::Memory => memory(scenario, results),
    }
}

const REQUESTS: &[Column] = &[
    ("req/s", 0, |sample| as_f64(sample.requests) / sample.elapsed_s),
    ("p50 ms", 2, |sample| sample.p50_us / 1e3),
    ("p99 ms", 2, |sample| sample.p99_us / 1e3),
    ("RSS MiB", 1, |sample| as_f64(sample.usage.rss_kib) / 1024.0),
    ("peak MiB", 1, |sample| as_f64(sample.usage.peak_rss_kib) / 1024.0),
    ("origin conns", 0, |sample| as_f64(sample.origin_connections)),
];

const TRANSFER: &[Column] = &[
    ("CPU ms each", 0, |sample| per(sample, sample.cpu_s * 1e3)),
    ("RSS MiB", 1, |sample| as_f64(sample.usage.rss_kib) / 1024.0),
    ("peak MiB", 1, |sample| as_f64(sample.usage.peak_rss_kib) / 1024.0),
];

fn throughput(sample: &Sample) -> f64 {
    as_f64(sample.bytes) / (1024.0 * 1024.0) / sample.elapsed_s
}

/// `main` with its spread and its ratios to the yardsticks, then the other columns.
fn compare(scenario: &Scenario, results: &[(Proxy, Rounds)], main: Column, columns: &[Column]) {
    let rounds = results.first().map_or(0, |(_, rounds)| rounds.len());
    println!(
        "\n{}: {} × {} {} B, {} connection(s){}, median of {rounds} round(s)",
        scenario.name,
        scenario.steps.iter().sum::<u64>(),
        scenario.method,
        scenario.bytes,
        scenario.connections,
        if scenario.fresh { " at a time, one request each" } else { "" },
    );
    print!("{:<12}{:>12}{:>18}{:>9}{:>12}", "proxy", main.0, "(min–max)", "× relay", "× hudsucker");
    columns.iter().for_each(|(title, ..)| print!("{title:>14}"));
    println!();
    let median = |wanted: Proxy| {
        let (_, rounds) = results.iter().find(|(proxy, _)| *proxy == wanted)?;
        Some(spread(rounds, main.2).1)
    };
    for (proxy, rounds) in results {
        let (least, middle, most) = spread(rounds, main.2);
        let range = format!("({least:.*}–{most:.*})", main.1, main.1);
        let ratio =
            |yardstick| median(yardstick).map_or("-".to_owned(), |base| format!("{:.2}", middle / base));
        let (relay, hudsucker) = (ratio(Proxy::Relay), ratio(Proxy::Hudsucker));
        print!("{:<12}{middle:>12.*}{range:>18}{relay:>9}{hudsucker:>12}", proxy.name(), main.1);
        for (_, decimals, figure) in columns {
            print!("{:>14.*}", *decimals, spread(rounds, *figure).1);
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

fn per(sample: &Sample, total: f64) -> f64 {
    total / as_f64(sample.requests)
}

/// Exact below 2^53, which no count here comes near.
#[expect(clippy::cast_precision_loss, reason = "counts of requests and KiB are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
