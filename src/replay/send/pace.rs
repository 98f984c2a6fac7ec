//! When each request goes out.

use std::time::Duration;

use tokio::time::Instant;

/// When requests go out, as far as there are places for them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pace {
    /// As soon as there is a place.
    #[default]
    Free,
    /// So many a second, evenly.
    Rate(f64),
    /// With the pauses between them that there were, shortened by this factor. Messages of WebSockets too.
    AsRecorded(f64),
}

impl Pace {
    /// How many times as fast as recorded; `None` where recorded times do not matter.
    pub(super) fn speed(self) -> Option<f64> {
        if let Pace::AsRecorded(speed) = self { Some(speed) } else { None }
    }
}

/// Follows a pace.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// Of the first request, and its recorded time.
    first: Option<(Instant, i64)>,
    /// The latest that a request was given: requests are asked for before they are due.
    latest: Option<Instant>,
    count: u32,
    round: u32,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, first: None, latest: None, count: 0, round: 0 }
    }

    /// When the next request is due that began at `started_unix_ns` in the record. Each round, in which the same flows
    /// come once more, has a beginning of its own; so has what lies before the first one in the record.
    pub(super) fn due(&mut self, round: u32, started_unix_ns: i64, now: Instant) -> Instant {
        if std::mem::replace(&mut self.round, round) != round && matches!(self.pace, Pace::AsRecorded(_)) {
            self.first = None;
        }
        // A new beginning comes after all that went before it.
        let start = self.latest.map_or(now, |latest| latest.max(now));
        let (begin, first_ns) = *self.first.get_or_insert((start, started_unix_ns));
        let after = match self.pace {
            Pace::Free => return now,
            Pace::Rate(rate) => {
                let after = seconds(f64::from(self.count) / rate);
                self.count += 1;
                after
            }
            Pace::AsRecorded(speed) => match u64::try_from(started_unix_ns.saturating_sub(first_ns)) {
                Ok(after) => seconds(Duration::from_nanos(after).as_secs_f64() / speed),
                Err(_) => {
                    self.first = Some((start, started_unix_ns));
                    self.latest = Some(start);
                    return start;
                }
            },
        };
        let due = begin.checked_add(after).unwrap_or(now);
        self.latest = self.latest.max(Some(due));
        due
    }
}

/// Far more than anybody waits for, and far less than a clock can hold.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(MOST).min(MOST)
}

const MOST: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_by_rate_or_by_record() {
        let now = Instant::now();
        let due = |pace, starts: &[i64]| {
            let mut pacer = Pacer::new(pace);
            let due = |start: &i64| (pacer.due(0, *start, now) - now).as_millis();
            starts.iter().map(due).collect::<Vec<_>>()
        };
        let starts = [5_000_000_000, 5_500_000_000, 7_000_000_000];
        assert_eq!(due(Pace::Free, &starts), [0, 0, 0]);
        assert_eq!(due(Pace::Rate(4.0), &starts), [0, 250, 500]);
        assert_eq!(due(Pace::AsRecorded(1.0), &starts), [0, 500, 2000]);
        assert_eq!(due(Pace::AsRecorded(2.0), &starts), [0, 250, 1000]);
        assert_eq!(
            due(Pace::AsRecorded(1.0), &[9, 5, 1_000_000_005]),
            [0, 0, 1000],
            "a clock that was set back"
        );
        let mut pacer = Pacer::new(Pace::AsRecorded(1.0));
        assert_eq!((pacer.due(0, 0, now), pacer.due(1, 7, now)), (now, now), "a new round");
        assert!(due(Pace::AsRecorded(1e-300), &starts)[2] > 0);
        assert_eq!(due(Pace::AsRecorded(1.0), &[i64::MIN, i64::MAX])[0], 0);
        // Workers take a round's requests before the one before it is over.
        let later = now + Duration::from_secs(1);
        let mut pacer = Pacer::new(Pace::AsRecorded(1.0));
        let starts = [0, 1_000_000_000, 0, 1_000_000_000];
        let due: Vec<Instant> =
            [0, 0, 1, 1].into_iter().zip(starts).map(|(round, at)| pacer.due(round, at, now)).collect();
        assert_eq!(due, [now, later, later, later + Duration::from_secs(1)]);
    }
}
