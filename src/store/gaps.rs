//! Mids below the highest one seen that had no row when they were passed: their flows may be stored later, or never.
//!
//! A flow that is under way has a mid and, for about a second, no row. So most gaps are filled soon, and are looked at each
//! time that something was committed. Those of flows that were given up or left out are never filled; what has been a gap
//! for long is looked at ever more rarely, and what has been one for longest is forgotten when there are too many.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// A set of mids, as ranges.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// By first mid. Never overlapping.
    ranges: BTreeMap<u64, Gap>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    last: u64,
    since: Instant,
    due: Instant,
    /// The change of the store after which it was looked at last.
    seen: u64,
}

impl Gaps {
    /// Adds mids that have no row as of change number `change`. An empty range adds none.
    pub(super) fn add(&mut self, mids: RangeInclusive<u64>, change: u64, now: Instant) {
        if mids.is_empty() {
            return;
        }
        let gap = Gap { last: *mids.end(), since: now, due: now, seen: change };
        self.ranges.insert(*mids.start(), gap);
        while self.ranges.len() > MAX_RANGES {
            self.ranges.pop_first();
        }
    }

    /// Takes a mid out; whether it was in.
    pub(super) fn remove(&mut self, mid: u64) -> bool {
        let Some((&first, &gap)) = self.ranges.range(..=mid).next_back().filter(|(_, gap)| gap.last >= mid)
        else {
            return false;
        };
        self.ranges.remove(&first);
        if first < mid {
            self.ranges.insert(first, Gap { last: mid - 1, ..gap });
        }
        if mid < gap.last {
            self.ranges.insert(mid + 1, gap);
        }
        true
    }

    /// Those to look at now: something has changed since they were last looked at, and they are not too old to wait a
    /// little.
    pub(super) fn due(&mut self, change: u64, now: Instant) -> Vec<RangeInclusive<u64>> {
        let mut due = Vec::new();
        for (&first, gap) in &mut self.ranges {
            if gap.seen < change && gap.due <= now {
                gap.seen = change;
                let age = now.saturating_duration_since(gap.since);
                gap.due = now + (age.saturating_sub(YOUNG) / 8).min(LONGEST);
                due.push(first..=gap.last);
            }
        }
        due
    }
}

/// As many as the recorder's places, by default: so many flows can be under way at a time, each in a gap of its own.
const MAX_RANGES: usize = 16_384;

/// A flow that goes on gets a row when it is a second old, and up to a second later where a busy machine is slow to look. A gap
/// that is not older is looked at with each change: to wait an eighth of its age was to show one line of 3,260 after 350 ms.
const YOUNG: Duration = Duration::from_secs(3);

/// The longest that a gap is not looked at.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn mids(gaps: &Gaps) -> Vec<u64> {
        gaps.ranges.iter().flat_map(|(&first, gap)| first..=gap.last).collect()
    }

    #[test]
    fn a_mid_is_taken_out_wherever_it_is() {
        let mut gaps = Gaps::default();
        gaps.add(5..=9, 0, Instant::now());
        gaps.add(12..=12, 0, Instant::now());
        gaps.add(RangeInclusive::new(13, 12), 0, Instant::now());
        assert!(!gaps.remove(4) && !gaps.remove(10) && !gaps.remove(11) && !gaps.remove(13));
        let mut left = BTreeSet::from([5, 6, 7, 8, 9, 12]);
        for mid in [7, 5, 9, 6, 12, 8] {
            assert!(gaps.remove(mid) && !gaps.remove(mid));
            left.remove(&mid);
            assert_eq!(mids(&gaps), left.iter().copied().collect::<Vec<_>>());
        }
        assert!(gaps.ranges.is_empty());
    }

    #[test]
    fn a_gap_is_looked_at_when_something_changed_and_more_rarely_as_it_ages() {
        let mut gaps = Gaps::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        gaps.add(1..=3, 1, start);
        assert_eq!(gaps.due(1, at(50)), [], "nothing has changed");
        assert_eq!(gaps.due(2, at(100)), [1..=3]);
        assert_eq!(gaps.due(3, at(2800)), [1..=3], "young");
        assert_eq!(gaps.due(3, at(2810)), [], "nothing has changed");
        assert_eq!(gaps.due(4, at(2820)), [1..=3], "still young");
        assert_eq!(gaps.due(5, at(80_000)), [1..=3]);
        assert_eq!(gaps.due(6, at(85_000)), []);
        assert_eq!(gaps.due(6, at(90_000)), [1..=3], "the change is not forgotten");
        assert_eq!(gaps.due(6, at(900_000)), []);
    }

    #[test]
    fn there_are_not_too_many() {
        let mut gaps = Gaps::default();
        for mid in 0..MAX_RANGES as u64 + 10 {
            gaps.add(2 * mid + 1..=2 * mid + 1, 0, Instant::now());
        }
        assert_eq!((gaps.ranges.len(), mids(&gaps)[0]), (MAX_RANGES, 21));
    }
}
