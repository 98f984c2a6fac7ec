//! How far a long command is, on the last line of a terminal; nothing anywhere else.

use std::time::{Duration, Instant};

use super::output::Output;
use super::text;

/// Shown after a second, then a few times a second.
#[derive(Debug)]
pub(super) struct Progress {
    output: Output,
    what: &'static str,
    next: Instant,
    shown: bool,
}

impl Progress {
    /// Of what is counted in `what`, in the plural.
    pub(super) fn new(output: &Output, what: &'static str) -> Self {
        Self { output: *output, what, next: Instant::now() + PATIENCE, shown: false }
    }

    /// So many of so many are done.
    pub(super) fn at(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if now < self.next || !self.output.shows_progress() {
            return;
        }
        self.next = now + STEP;
        self.shown = true;
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let line = format!("{percent:>3}%  {} of {} {}", text::size(done), text::size(total), self.what);
        self.output.status(&line);
    }

    /// So many are done, of nobody knows how many.
    pub(super) fn count(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next || !self.output.shows_progress() {
            return;
        }
        self.next = now + STEP;
        self.shown = true;
        self.output.status(&format!("{} {}", text::size(done), self.what));
    }

    /// Takes the line away, for what is said next.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.output.status("");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What takes no longer needs no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// More often than this nobody reads.
const STEP: Duration = Duration::from_millis(200);
