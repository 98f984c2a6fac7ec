//! Times as HAR and cookies write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// A time of ISO 8601 in nanoseconds since 1970, UTC; with any offset, and without one taken as UTC. `None` if it is none.
pub(super) fn unix_ns(text: &str) -> Option<i64> {
    let text = text.trim();
    let time = text.parse::<Timestamp>().or_else(|_| {
        // Python 2 and others write the offset without a colon, or none at all.
        text.parse::<DateTime>().and_then(|civil| Offset::UTC.to_timestamp(civil))
    });
    i64::try_from(time.ok()?.as_nanosecond()).ok()
}

/// The same the other way, to the microsecond: what Python's and JavaScript's readers take.
pub(super) fn iso(unix_ns: i64) -> String {
    Timestamp::from_nanosecond(unix_ns.into()).map_or_else(|_| EPOCH.to_owned(), |time| format!("{time:.6}"))
}

/// The date in a cookie's `Expires` (RFC 6265 §5.1.1) as ISO 8601. `None` if it is not one of those that servers write.
pub(super) fn cookie_expires(text: &str) -> Option<String> {
    // "Wed, 21-Oct-2026 07:28:00 GMT" is the older spelling, with dashes.
    let (_, date) = text.split_once(',')?;
    let date = date.trim().replacen('-', " ", 2);
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).ok()?;
    Some(time.to_string())
}

const EPOCH: &str = "1970-01-01T00:00:00.000000Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_browsers_are_read() {
        let expected = Some(1_462_197_690_123_000_000);
        for text in [
            "2016-05-02T14:01:30.123Z",
            "2016-05-02T16:01:30.123+02:00",
            "2016-05-02T16:01:30.123+0200",
            "2016-05-02T04:31:30.1230000-09:30",
            " 2016-05-02T14:01:30.123 ",
            "2016-05-02 14:01:30.123",
        ] {
            assert_eq!(unix_ns(text), expected, "{text}");
        }
        for none in ["", "yesterday", "2016-13-01T00:00:00Z", "9999-12-31T00:00:00Z", "1462197690"] {
            assert_eq!(unix_ns(none), None, "{none}");
        }
        assert_eq!(iso(1_462_197_690_123_456_789), "2016-05-02T14:01:30.123456Z");
        assert_eq!(unix_ns(&iso(i64::MIN)).map(|ns| ns / 1_000_000), Some(i64::MIN / 1_000_000));
    }

    #[test]
    fn expiry_dates_are_read() {
        let expected = Some("2026-10-21T07:28:00Z".to_owned());
        assert_eq!(cookie_expires("Wed, 21 Oct 2026 07:28:00 GMT"), expected);
        assert_eq!(cookie_expires("Wed, 21-Oct-2026 07:28:00 GMT"), expected);
        assert_eq!(cookie_expires("Thursday, soon"), None);
    }
}
