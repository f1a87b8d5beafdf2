//! Hours of the calendar, in UTC: the folders that fragments lie in.

const HOUR_MS: u64 = 3_600_000;

/// Year, month and day of the calendar (UTC) of a day, which is counted from 1970-01-01; after Hinnant's `civil_from_days`.
pub fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// `YYYYMMDDHH` of a time in milliseconds since 1970.
pub(crate) fn folder(ms: u64) -> String {
    String::from_utf8_lossy(&digits(ms)).into_owned()
}

/// The same without making a string; of years behind 9999 the last four digits.
pub(crate) fn digits(ms: u64) -> [u8; 10] {
    let hours = ms / HOUR_MS;
    let (year, month, day) = date(hours / 24);
    let mut rest = ((year * 100 + month) * 100 + day) * 100 + hours % 24;
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("one digit");
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_calendar() {
        for (ms, expected) in [
            (0, "1970010100"),
            (951_782_399_999, "2000022823"),
            (951_782_400_000, "2000022900"),
            (951_868_800_000, "2000030100"),
            (1_700_000_000_000, "2023111422"),
            (4_107_542_400_000, "2100030100"),
        ] {
            assert_eq!(folder(ms), expected);
        }
    }
}
