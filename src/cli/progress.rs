//! How far a long command is, on the last line of a terminal; nothing anywhere else.
//!
//! One line and no bar of a crate's, for it shares the terminal with data and talk, and `output.rs` alone prints; and nothing
//! has to tick, for what is counted here comes many times a second.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::output::Output;
use super::text;

/// Shown after a second, then a few times a second.
#[derive(Debug)]
pub(super) struct Progress {
    output: Output,
    unit: Unit,
    started: Instant,
    next: Cell<Instant>,
    shown: Cell<bool>,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Things of this name, in the plural.
    Things(&'static str),
    /// Bytes, of which this is done.
    Bytes(&'static str),
}

impl Progress {
    /// Of what is counted in `what`, in the plural.
    pub(super) fn new(output: &Output, what: &'static str) -> Self {
        Self::of(output, Unit::Things(what))
    }

    /// Of bytes, which are `done`: `read`, `copied`.
    pub(super) fn of_bytes(output: &Output, done: &'static str) -> Self {
        Self::of(output, Unit::Bytes(done))
    }

    fn of(output: &Output, unit: Unit) -> Self {
        let started = Instant::now();
        let next = Cell::new(started + PATIENCE);
        Self { output: *output, unit, started, next, shown: Cell::new(false) }
    }

    /// So many of so many are done.
    pub(super) fn at(&self, done: u64, total: u64) {
        self.show(done, Some(total));
    }

    /// So many are done, of nobody knows how many.
    pub(super) fn count(&self, done: u64) {
        self.show(done, None);
    }

    fn show(&self, done: u64, total: Option<u64>) {
        let now = Instant::now();
        if now < self.next.get() {
            return;
        }
        self.next.set(now + STEP);
        if self.output.shows_progress() {
            self.shown.set(true);
            self.output.status(&line(self.unit, done, total, now - self.started));
        }
    }

    /// Takes the line away, for what is said next.
    pub(super) fn clear(&self) {
        if self.shown.replace(false) {
            self.output.status("");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// ` 42%  [████████            ]  4.2k of 10k flows, 1.3k/s, 4s left`
fn line(unit: Unit, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let (b, what) = match unit {
        Unit::Things(what) => ("", what),
        Unit::Bytes(what) => ("B", what),
    };
    let millis = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX);
    let rate = format!("{}{b}/s", text::size(rate));
    let Some(total) = total else { return format!("{}{b} {what}, {rate}", text::size(done)) };
    // What is counted may have grown meanwhile.
    let total = total.max(done).max(1);
    let share = |of: u64| u128::from(done) * u128::from(of) / u128::from(total);
    let bar: String = (0..BAR).map(|at| if u128::from(at) < share(BAR) { '█' } else { ' ' }).collect();
    let (percent, of) = (share(100), text::size(total));
    let left = match u128::from(total - done) * millis / u128::from(done.max(1)) / 1000 {
        // At the beginning nobody knows.
        _ if done == 0 => String::new(),
        0 => ", nearly done".to_owned(),
        seconds => format!(", {} left", left(seconds)),
    };
    format!("{percent:>3}%  [{bar}]  {}{b} of {of}{b} {what}, {rate}{left}", text::size(done))
}

/// `12s`, `3m20s`, `2h05m`, `9d`.
fn left(seconds: u128) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What takes no longer needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// More often than this nobody reads.
const STEP: Duration = Duration::from_millis(200);

/// Characters of the bar: with it, a line is at most 80.
const BAR: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_how_fast_and_how_long_still() {
        let at = |unit, done, total, seconds| line(unit, done, total, Duration::from_secs(seconds));
        assert_eq!(
            at(Unit::Things("flows"), 4200, Some(10_000), 3),
            " 42%  [████████            ]  4.2k of 10k flows, 1.4k/s, 4s left"
        );
        assert_eq!(
            at(Unit::Bytes("read"), 1_000_000, Some(3_000_000_000), 10),
            "  0%  [                    ]  1.0MB of 3.0GB read, 100kB/s, 8h19m left"
        );
        assert_eq!(at(Unit::Things("requests"), 812, None, 4), "812 requests, 203/s");
        assert!(at(Unit::Things("flows"), 5, Some(3), 1).ends_with("5 of 5 flows, 5/s, nearly done"));
        assert!(at(Unit::Things("flows"), 0, Some(0), 1).ends_with("0 of 1 flows, 0/s"));
        assert!(at(Unit::Bytes("read"), u64::MAX - 1, Some(u64::MAX), 1).starts_with(" 99%"));
        let longest = at(Unit::Things("blocks of 1024 mids"), 123, Some(999_000), 60);
        assert!(longest.chars().count() <= 80, "{longest}");
    }
}
