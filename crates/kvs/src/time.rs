//! Times as clients write them: epoch seconds as numbers, ISO 8601, and the basic form of signatures.

/// Days from 1970-01-01 to a day of the calendar, after Hinnant's `days_from_civil`; `None`: no such day.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn seconds(date: [&str; 3], clock: [&str; 3]) -> Option<u64> {
    let [year, month, day] = [number(date[0])?, number(date[1])?, number(date[2])?];
    let [hour, minute, second] = [number(clock[0])?, number(clock[1])?, number(clock[2])?];
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`.
pub(crate) fn to_iso_8601(seconds: u64) -> String {
    let (year, month, day) = antiphon_store::date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Milliseconds since 1970 as `2026-01-31T23:59:59.123Z`.
pub fn to_iso_8601_ms(ms: u64) -> String {
    let seconds = to_iso_8601(ms / 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1000)
}

/// `20260131T235959Z` as seconds since 1970.
pub(crate) fn basic(text: &str) -> Option<u64> {
    if !text.is_ascii() || text.len() != 16 || &text[8..9] != "T" || &text[15..] != "Z" {
        return None;
    }
    seconds([&text[..4], &text[4..6], &text[6..8]], [&text[9..11], &text[11..13], &text[13..15]])
}

/// `2026-01-31T23:59:59.123Z` as milliseconds since 1970. Only UTC, as the SDKs write it.
fn iso_8601(text: &str) -> Option<u64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.split(':');
    let date = [date.next()?, date.next()?, date.next()?];
    let clock = [clock.next()?, clock.next()?, clock.next()?];
    let ms = match fraction {
        "" => 0,
        digits => number(format!("{digits:0<3}").get(..3)?)?,
    };
    Some(seconds(date, clock)? * 1000 + ms)
}

/// A timestamp of a request: epoch seconds as a JSON number, with or without a fraction or an exponent, or ISO 8601.
pub(crate) fn from_json(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(n) => from_seconds(n.as_f64()?),
        serde_json::Value::String(text) => iso_8601(text),
        _ => None,
    }
}

/// Epoch seconds with a fraction as text, as the header of `PutMedia` has them.
pub(crate) fn from_text(text: &str) -> Option<u64> {
    from_seconds(text.parse().ok()?)
}

fn from_seconds(seconds: f64) -> Option<u64> {
    let ms = (seconds * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "within the range that was checked")]
    (0.0..=9_999_999_999_999.0).contains(&ms).then_some(ms as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(basic("20231114T221320Z"), Some(1_700_000_000));
        assert_eq!(basic("20000229T000000Z"), Some(951_782_400));
        assert_eq!(iso_8601("2023-11-14T22:13:20.5Z"), Some(1_700_000_000_500));
        assert_eq!(iso_8601("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        for s in [0, 951_782_399, 951_782_400, 1_700_000_000, 4_107_542_399] {
            assert_eq!(iso_8601(&to_iso_8601(s)), Some(s * 1000), "{s}");
        }
        for bad in [
            "",
            "20231114T221320",
            "2023111xT221320Z",
            "20231314T221320Z",
            "20231114T241320Z",
            "20231114é21320Z",
        ] {
            assert_eq!(basic(bad), None, "{bad}");
        }
        for bad in ["", "2023-11-14", "2023-11-14T22:13Z", "T:::Z", "2023-11-14T22:13:20.éZ"] {
            assert_eq!(iso_8601(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_may_have_fractions_and_exponents() {
        for (json, ms) in [
            ("1700000000", 1_700_000_000_000),
            ("1700000000.123", 1_700_000_000_123),
            ("1.7E9", 1_700_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(from_json(&serde_json::from_str(json).unwrap()), Some(ms), "{json}");
            assert_eq!(from_text(json), Some(ms), "{json}");
        }
        for bad in ["-1", "1e30", "null", "[]", "\"x\""] {
            assert_eq!(from_json(&serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
        for bad in ["NaN", "inf", "", "x"] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
    }
}
