//! Numbers as people write them in filters: sizes, durations, times, status classes, ranges.
//!
//! Whole numbers throughout: a bound must not be rounded.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::{Number, Ranges};

/// What `now` and `today` mean.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The present.
    pub now: Timestamp,
    /// Where days begin, and what times without an offset are of.
    pub zone: TimeZone,
}

impl Clock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// Reads a point in time, as nanoseconds since 1970, UTC: a duration before now, `now`, `today`, a date, or a date and
    /// time, with an offset or without.
    pub(super) fn read(&self, text: &str) -> Result<i64, String> {
        let wrong = || {
            format!(
                "`{text}` is no time: write 10m, 2h, 3d (before now), today, 2026-11-22 or 2026-11-22T10:00:00Z"
            )
        };
        let at = match text {
            "now" => self.now,
            "today" => self.start_of(self.now.to_zoned(self.zone.clone()).date()).ok_or_else(wrong)?,
            _ if text.len() > 40 => return Err(wrong()),
            _ => self.duration_ago(text).or_else(|| self.date(text)).ok_or_else(wrong)?,
        };
        i64::try_from(at.as_nanosecond()).map_err(|_| format!("`{text}` is out of range"))
    }

    fn duration_ago(&self, text: &str) -> Option<Timestamp> {
        let us = duration_us(text).ok()?;
        self.now.checked_sub(Span::new().try_microseconds(us).ok()?).ok()
    }

    fn date(&self, text: &str) -> Option<Timestamp> {
        if let Ok(at) = text.parse() {
            return Some(at); // with an offset or Z
        }
        match text.contains(['T', 't', ' ']) {
            true => {
                let at: DateTime = text.parse().ok()?;
                self.zone.to_ambiguous_timestamp(at).compatible().ok()
            }
            false => self.start_of(text.parse().ok()?),
        }
    }

    fn start_of(&self, date: Date) -> Option<Timestamp> {
        Some(date.to_zoned(self.zone.clone()).ok()?.timestamp())
    }
}

/// A time as [`Clock::read`] reads it back, whatever the clock.
pub(super) fn timestamp(unix_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default().to_string()
}

/// One value of a number.
pub(super) fn value(number: Number, text: &str) -> Result<i64, String> {
    match number {
        Number::Size(_) => size(text),
        Number::Duration => duration_us(text),
        Number::Status => match whole(text) {
            Some(status) if status <= 999 => Ok(status),
            _ => Err(format!("`{text}` is no status: write 404, 4xx or 400-499")),
        },
        Number::Port => match whole(text) {
            Some(port) if port <= 65_535 => Ok(port),
            _ => Err(format!("`{text}` is no port: write a number up to 65535")),
        },
        Number::Mid | Number::Started => {
            whole(text).ok_or_else(|| format!("`{text}` is no mid: write 12, 40-60 or 100.."))
        }
    }
}

/// A list of values and ranges: `404`, `4xx`, `400-499`, `400..499`, `100..`, `..200`, and `,` between them.
pub(super) fn ranges(number: Number, text: &str) -> Result<Ranges, String> {
    let mut ranges = Vec::new();
    for item in text.split(',') {
        if ranges.len() == MAX_RANGES {
            return Err(format!("more than {MAX_RANGES} ranges"));
        }
        ranges.push(range(number, item)?);
    }
    Ok(Ranges(ranges))
}

fn range(number: Number, text: &str) -> Result<(i64, i64), String> {
    let class = text.as_bytes();
    if number == Number::Status
        && let [digit @ b'0'..=b'9', b'x' | b'X', b'x' | b'X'] = class
    {
        let low = i64::from(digit - b'0') * 100;
        return Ok((low, low + 99));
    }
    let Some((low, high)) = text.split_once("..").or_else(|| text.split_once('-')) else {
        let value = value(number, text)?;
        return Ok((value, value));
    };
    let low = if low.is_empty() { 0 } else { value(number, low)? };
    let high = if high.is_empty() { i64::MAX } else { value(number, high)? };
    if low > high {
        return Err(format!("`{text}` ends before it begins"));
    }
    Ok((low, high))
}

fn whole(text: &str) -> Option<i64> {
    // `parse` would take `+12` too.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A size in bytes: `12`, `10k`, `1.5M`, `1GiB`. `k` is 1000, `Ki` is 1024, of either case.
fn size(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no size: write 512, 10k, 1.5M or 1GiB");
    let (digits, unit) = split(text);
    let unit = unit.to_ascii_lowercase();
    let factor: i64 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    scaled(digits, factor).ok_or_else(wrong)
}

/// Reads a duration as a filter does: `200ms`, `1.5s`, `2m`.
///
/// # Errors
/// If the text is none, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    duration_us(text).map(|us| Duration::from_micros(us.unsigned_abs()))
}

/// A duration in microseconds: a number and `us`, `ms`, `s`, `m`, `h` or `d`.
fn duration_us(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no duration: write 200ms, 1.5s, 2m, 1h or 3d");
    let (digits, unit) = split(text);
    let factor = match unit {
        "us" | "µs" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(wrong()),
    };
    scaled(digits, factor).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// A decimal number times `factor`, without what is left of a unit.
fn scaled(digits: &str, factor: i64) -> Option<i64> {
    let (whole_part, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole_part.is_empty() || fraction.len() > MAX_FRACTION || (digits.contains('.') && fraction.is_empty())
    {
        return None;
    }
    let whole_part = whole(whole_part)?.checked_mul(factor)?;
    let fraction_part = match fraction {
        "" => 0,
        digits => {
            let power = 10_i128.pow(u32::try_from(digits.len()).ok()?);
            i64::try_from(i128::from(whole(digits)?) * i128::from(factor) / power).ok()?
        }
    };
    whole_part.checked_add(fraction_part)
}

/// A list that a program made may be long; each item costs a comparison a row.
const MAX_RANGES: usize = 256;

/// Digits after the point.
const MAX_FRACTION: usize = 9;
