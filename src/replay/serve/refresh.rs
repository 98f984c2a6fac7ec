//! Dates in an answer, moved by the time since it was recorded: `Date`, `Expires`, `Last-Modified`, and when cookies expire.
//! So what was fresh is fresh again, and a session that had an hour left has it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::flow::Headers;

/// The fields with their dates moved by `age_s` seconds. What is no date stays as it is (`Expires: 0`).
pub(super) fn refreshed(headers: &Headers, age_s: i64) -> Headers {
    let is = |name: &[u8], what: &str| name.eq_ignore_ascii_case(what.as_bytes());
    let moved = headers.iter().map(|(name, value)| {
        let dated = ["date", "expires", "last-modified"].iter().any(|what| is(name, what));
        let value = match () {
            () if dated => moved(value, age_s),
            () if is(name, "set-cookie") => cookie(value, age_s),
            () => None,
        }
        .unwrap_or_else(|| value.to_vec());
        (name, value)
    });
    // Built anew only where it has to be: the text of most is shared with the record.
    let has_dates = headers.iter().any(|(name, _)| {
        ["date", "expires", "last-modified", "set-cookie"].iter().any(|what| is(name, what))
    });
    if has_dates && age_s != 0 { moved.collect() } else { headers.clone() }
}

/// A date of any spelling, moved, as IMF-fixdate (RFC 9110 §5.6.7).
fn moved(date: &[u8], age_s: i64) -> Option<Vec<u8>> {
    let then = parse(date)?.checked_add(SignedDuration::from_secs(age_s)).ok()?;
    Some(then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into_bytes())
}

/// A cookie whose `Expires` is moved, all else as it was (RFC 6265 §5.2.1).
fn cookie(value: &[u8], age_s: i64) -> Option<Vec<u8>> {
    let mut at = value.iter().position(|&byte| byte == b';')? + 1;
    loop {
        let end = value[at..].iter().position(|&byte| byte == b';').map_or(value.len(), |len| at + len);
        let attribute = &value[at..end];
        let name_len = attribute.iter().position(|&byte| byte == b'=').unwrap_or(attribute.len());
        if attribute[..name_len].trim_ascii().eq_ignore_ascii_case(b"expires") && name_len < attribute.len() {
            let date = &value[at + name_len + 1..end];
            let moved = moved(date.trim_ascii().trim_ascii_start(), age_s)?;
            return Some([&value[..at + name_len + 1], &moved, &value[end..]].concat());
        }
        if end == value.len() {
            return None;
        }
        at = end + 1;
    }
}

/// A date in any of the spellings that are about, by the algorithm for cookies, which takes them all (RFC 6265 §5.1.1).
fn parse(text: &[u8]) -> Option<Timestamp> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let is_delimiter = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b':' || *byte >= 0x7f);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        let number =
            std::str::from_utf8(token).ok().filter(|token| token.bytes().all(|b| b.is_ascii_digit()));
        match number {
            _ if time.is_none() && token.contains(&b':') => time = clock(token),
            Some(number) if day.is_none() && number.len() <= 2 => day = number.parse::<i8>().ok(),
            None if month.is_none() => month = month_number(token),
            Some(number) if year.is_none() && (number.len() == 2 || number.len() == 4) => {
                year = number.parse::<i16>().ok().map(|year| match (number.len(), year) {
                    (2, 70..) => year + 1900,
                    (2, _) => year + 2000,
                    _ => year,
                });
            }
            _ => {}
        }
    }
    let (hour, minute, second) = time?;
    let date = DateTime::new(year?, month?, day?, hour, minute, second, 0).ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn clock(token: &[u8]) -> Option<(i8, i8, i8)> {
    let mut parts =
        token.split(|&byte| byte == b':').map(|part| std::str::from_utf8(part).ok()?.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

fn month_number(token: &[u8]) -> Option<i8> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let begins = token.get(..3)?.to_ascii_lowercase();
    (1..).zip(MONTHS).find_map(|(number, month)| (begins == month).then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn dates_of_every_spelling_are_moved() {
        let later = Some(b"Mon, 07 Nov 1994 08:49:37 GMT".to_vec());
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06-Nov-1994 08:49:37 GMT",
        ] {
            assert_eq!(moved(date.as_bytes(), DAY), later, "{date}");
        }
        for no_date in
            ["", "0", "-1", "never", "Sun, 31 Feb 1994 08:49:37 GMT", "99:99:99 1 jan 2020", "1 jan 2020"]
        {
            assert_eq!(moved(no_date.as_bytes(), DAY), None, "{no_date}");
        }
    }

    #[test]
    fn dates_are_moved_in_their_fields_alone() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let next = "Mon, 07 Nov 1994 08:49:37 GMT";
        let cookie = |date: &str| format!("a=Expires=1; Path=/; expires={date}; HttpOnly");
        let (old_cookie, new_cookie) = (cookie("Sun, 06-Nov-94 08:49:37 GMT"), cookie(next));
        let fields = |date, expires, cookie| -> Headers {
            let fields = [
                ("DATE", date),
                ("Last-Modified", date),
                ("Expires", expires),
                ("X-Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("Set-Cookie", cookie),
                ("Set-Cookie", "b=2; Max-Age=9"),
                ("Set-Cookie", "c"),
            ];
            fields.into_iter().collect()
        };
        assert_eq!(refreshed(&fields(date, "0", &old_cookie), DAY), fields(next, "0", &new_cookie));
        assert_eq!(refreshed(&fields(date, date, &old_cookie), 0), fields(date, date, &old_cookie));
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_moved_or_left(value in proptest::collection::vec(proptest::num::u8::ANY, 0..50), age in proptest::num::i64::ANY) {
            let headers: Headers = [("Date", &value[..]), ("Set-Cookie", &[b"a=1;expires=", &value[..]].concat())].into_iter().collect();
            let _ = refreshed(&headers, age); // only that it does not panic
        }
    }
}
