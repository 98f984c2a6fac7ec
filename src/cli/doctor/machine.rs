//! What the system allows, and its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Resource;

use super::Finding;
use crate::cli::text;

/// Of open files and the clock. `newest_unix_ns`: when the newest flow began.
pub(super) fn findings(max_connections: usize, newest_unix_ns: Option<i64>) -> Vec<Finding> {
    let allowed = rustix::process::getrlimit(Resource::Nofile).maximum;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    vec![files(allowed, max_connections), clock(now, newest_unix_ns)]
}

/// The proxy raises its limit to what it is allowed, and needs two files a connection: one on each side.
fn files(allowed: Option<u64>, max_connections: usize) -> Finding {
    let needed = (max_connections as u64).saturating_mul(2).saturating_add(OTHERS);
    match allowed {
        Some(allowed) if allowed < needed => {
            let message =
                format!("{allowed} open files are allowed, and {max_connections} connections take {needed}");
            let fits = allowed.saturating_sub(OTHERS) / 2;
            let mend = format!(
                "ulimit -Hn {needed} as root, LimitNOFILE={needed} in a systemd unit, or: manent --max-connections {}",
                fits.max(1)
            );
            Finding::warning("files", message, mend)
        }
        Some(allowed) => {
            Finding::good("files", format!("{allowed} may be open, enough for {max_connections} connections"))
        }
        None => Finding::good(
            "files",
            format!("any number may be open, {max_connections} connections take {needed}"),
        ),
    }
}

fn clock(now_ns: i64, newest_ns: Option<i64>) -> Finding {
    let mend = "set the clock: timedatectl set-ntp true";
    let shown = text::local(now_ns);
    if now_ns < EARLIEST_NS {
        return Finding::bad("clock", format!("it says {shown}, and this program was made later"), mend);
    }
    match newest_ns {
        Some(newest) if newest > now_ns.saturating_add(AHEAD_NS) => {
            let message = format!(
                "it says {shown}, and the newest flow is of {}: it was set back",
                text::local(newest)
            );
            Finding::warning("clock", message, mend)
        }
        _ => Finding::good("clock", shown),
    }
}

/// The store, listeners, standard streams, and some to spare.
const OTHERS: u64 = 64;
/// 2026-11-01.
const EARLIEST_NS: i64 = 1_793_491_200_000_000_000;
/// Five minutes: more than a clock that is kept right ever jumps.
const AHEAD_NS: i64 = 300_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn files_are_two_a_connection() {
        assert_eq!(files(Some(16_448), 8192).level, Level::Good);
        assert_eq!(files(None, 8192).level, Level::Good);
        let finding = files(Some(1024), 8192);
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding
                .mend
                .is_some_and(|mend| mend.contains("16448") && mend.ends_with("--max-connections 480"))
        );
    }

    #[test]
    fn a_clock_that_stands_in_the_past_is_told() {
        assert_eq!(clock(0, None).level, Level::Bad);
        assert_eq!(clock(EARLIEST_NS, None).level, Level::Good);
        assert_eq!(clock(EARLIEST_NS, Some(EARLIEST_NS + AHEAD_NS)).level, Level::Good);
        assert_eq!(clock(EARLIEST_NS, Some(EARLIEST_NS + AHEAD_NS + 1)).level, Level::Warning);
        assert_eq!(clock(i64::MAX, Some(i64::MAX)).level, Level::Good);
    }
}
