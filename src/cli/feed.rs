//! What is said while flows are recorded: a line a flow as it ends, and a tally for the end.

use std::io;
use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use super::row::Line;
use super::text;
use crate::flow::{Mid, State};
use crate::record::Committed;

/// Which stores flows are recorded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stores {
    /// The one that was named.
    One,
    /// One after the other: each object of JSON names its own, as those of `ls` do.
    Many,
}

/// How flows are shown as they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// A readable line on standard output.
    Lines,
    /// A JSON object on standard output.
    Json,
    /// Not at all.
    Nothing,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    flows: u64,
    errors: u64,
    mids: Option<(Mid, Mid)>,
    /// Flows whose news came too fast for us are not in the tally.
    missed: bool,
}

/// Follows the commits until `stop` and what was waiting by then, or until the recorder is gone.
///
/// # Errors
/// If standard output is closed: `manent --json | head -1` has what it wanted.
pub(super) async fn follow(
    mut commits: Receiver<Arc<[Committed]>>,
    (show, stores): (Show, Stores),
    output: Output,
    stop: CancellationToken,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let group = tokio::select! {
            biased;
            group = commits.recv() => group,
            () = stop.cancelled() => return Ok(tally),
        };
        match group {
            Ok(group) => {
                let ended: Vec<Committed> =
                    group.iter().filter(|flow| flow.state != State::Open).cloned().collect();
                ended.iter().for_each(|flow| tally.add(flow));
                if show != Show::Nothing {
                    // A terminal may be stopped with Ctrl-S, a pipe may be full: that holds up this task alone.
                    let printed =
                        tokio::task::spawn_blocking(move || print(&ended, show, stores, output)).await;
                    printed.map_err(io::Error::other)??;
                }
            }
            Err(RecvError::Lagged(_)) => {
                tally.missed = true;
                if show != Show::Nothing {
                    output.say("warning: flows came faster than they could be printed; all are in the store");
                }
            }
            Err(RecvError::Closed) => return Ok(tally),
        }
    }
}

fn print(flows: &[Committed], show: Show, stores: Stores, output: Output) -> io::Result<()> {
    use io::Write;
    let mut data = output.data();
    for flow in flows {
        let line = Line::from(flow);
        match show {
            Show::Json => {
                let mut object = line.to_json();
                if stores == Stores::Many {
                    let name = flow.store.file_name().unwrap_or_default().to_string_lossy();
                    object.insert("store".into(), name.into());
                }
                writeln!(data, "{}", serde_json::Value::Object(object))?;
            }
            Show::Lines => writeln!(data, "{}", line.for_terminal(output.width, MID_WIDTH, output.paint))?,
            Show::Nothing => {}
        }
    }
    data.flush()
}

impl Tally {
    /// A tally of nothing but a count.
    pub(super) fn of(flows: u64) -> Self {
        Self { flows, ..Self::default() }
    }

    /// Without the range of mids.
    pub(super) fn without_mids(self) -> Self {
        Self { mids: None, ..self }
    }

    /// For the end of a run: what was recorded, how many flows were not wanted, and where to look.
    pub(super) fn told(&self, left_out: u64) -> String {
        let rest = if left_out == 0 { String::new() } else { format!(", {left_out} left out (--record)") };
        if self.flows == 0 { format!("{self}{rest}") } else { format!("{self}{rest} → manent ls") }
    }

    fn add(&mut self, flow: &Committed) {
        self.flows += 1;
        self.errors += u64::from(flow.state != State::Complete);
        let (low, high) = self.mids.unwrap_or((flow.mid, flow.mid));
        self.mids = Some((low.min(flow.mid), high.max(flow.mid)));
    }
}

impl std::fmt::Display for Tally {
    /// `12 flows recorded (mids 1041–1052), 2 errors`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.flows == 0 {
            return f.write_str("no flow was recorded");
        }
        if self.missed {
            f.write_str("at least ")?;
        }
        write!(f, "{} recorded", text::count(self.flows, "flow"))?;
        match self.mids {
            Some((low, high)) if low == high => write!(f, " (mid {low})")?,
            Some((low, high)) => write!(f, " (mids {low}–{high})")?,
            None => {}
        }
        if self.errors > 0 {
            write!(f, ", {}", text::count(self.errors, "error"))?;
        }
        Ok(())
    }
}

/// Six figures before columns shift.
const MID_WIDTH: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_is_told_in_one_line() {
        let mut tally = Tally::default();
        assert_eq!(tally.to_string(), "no flow was recorded");
        let flow = |mid, state| Committed {
            mid: Mid(mid),
            store: std::path::Path::new("flows.db").into(),
            started_unix_ns: 0,
            state,
            kind: crate::flow::Kind::Http,
            method: "GET".into(),
            url: "http://h/".into(),
            status: None,
            response_len: 0,
            duration_us: None,
            error: None,
        };
        tally.add(&flow(1042, State::Failed));
        assert_eq!(tally.to_string(), "1 flow recorded (mid 1042), 1 error");
        tally.add(&flow(1041, State::Complete));
        assert_eq!(tally.to_string(), "2 flows recorded (mids 1041–1042), 1 error");
    }
}
