//! Numbers, times and columns as people read them.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use crate::format::jsonl::utc;

/// `812`, `2.2k`, `14M`: at most five characters, powers of 1000.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut whole = bytes;
    let mut tenths = 0;
    while whole >= 1000 && unit < UNITS.len() - 1 {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    match UNITS[unit] {
        "" => whole.to_string(),
        name if whole < 10 => format!("{whole}.{tenths}{name}"),
        name => format!("{whole}{name}"),
    }
}

/// `0.4ms`, `54ms`, `1.25s`, `3m20s`.
pub(super) fn duration_us(us: u64) -> String {
    match us {
        // Nearly all; by hand, a replay tells two a line.
        0..10_000 => {
            [(us / 1000).to_string().as_str(), ".", (us % 1000 / 100).to_string().as_str(), "ms"].concat()
        }
        10_000..1_000_000 => (us / 1000).to_string() + "ms",
        1_000_000..60_000_000 => format!("{}.{:02}s", us / 1_000_000, us % 1_000_000 / 10_000),
        _ => format!("{}m{:02}s", us / 60_000_000, us % 60_000_000 / 1_000_000),
    }
}

/// Date and time in the zone of the user, for people: `2026-11-22 11:00:04.123 +01:00`.
pub(super) fn local(unix_ns: i64) -> String {
    timestamp(unix_ns).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string()
}

/// Month, day and time of day in the zone of the user, for lists: `11-22 11:00:04`.
pub(super) fn local_short(unix_ns: i64) -> String {
    timestamp(unix_ns).to_zoned(TimeZone::system()).strftime("%m-%d %H:%M:%S").to_string()
}

/// Cuts `text` to at most `width` characters, the last of which is then `…`.
pub(super) fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "…" }
}

/// A media type in one word, for lists: `json`, `html`, `png`; empty where there is none.
pub(super) fn short_type(media_type: &str) -> &str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let sub = essence.rsplit('/').next().unwrap_or_default();
    let sub = sub.rsplit('+').next().unwrap_or(sub);
    sub.strip_prefix("x-").unwrap_or(sub)
}

/// A path with `~` for the home directory.
pub(super) fn path(path: &Path) -> String {
    let home = std::env::var_os("HOME").filter(|home| home.len() > 1);
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(rest) => super::escape::line(Path::new("~").join(rest).as_os_str().as_encoded_bytes()),
        None => super::escape::line(path.as_os_str().as_encoded_bytes()),
    }
}

/// `1 flow`, `12 flows`.
pub(super) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The range of 64-bit nanoseconds (to 2262) lies inside of what a timestamp can be.
fn timestamp(unix_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_short() {
        let sizes = [0, 999, 1000, 2250, 9999, 10_000, 14_500_000, u64::MAX].map(size);
        assert_eq!(sizes, ["0", "999", "1.0k", "2.2k", "9.9k", "10k", "14M", "18446P"]);
        let times = [0, 450, 9_999, 54_321, 1_256_000, 200_000_000].map(duration_us);
        assert_eq!(times, ["0.0ms", "0.4ms", "9.9ms", "54ms", "1.25s", "3m20s"]);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(utc(1_795_341_604_123_456_789), "2026-11-22T10:00:04.123456Z");
        for odd in [i64::MIN, -1, 0, i64::MAX] {
            let _ = (local(odd), local_short(odd)); // only that no moment is out of range
            assert!(utc(odd).ends_with('Z'));
        }
    }

    #[test]
    fn columns_are_cut_by_characters() {
        assert_eq!(truncate("grüße", 5), "grüße");
        assert_eq!(truncate("grüße!", 5), "grüß…");
        assert_eq!(truncate("ab", 1), "…");
        assert_eq!(truncate("ab", 0), "");
    }

    #[test]
    fn types_are_one_word() {
        let types = ["application/json; charset=utf-8", "image/svg+xml", "application/x-protobuf", "", "odd"];
        assert_eq!(types.map(short_type), ["json", "xml", "protobuf", "", "odd"]);
    }
}
