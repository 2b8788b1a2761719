//! Dates and times of day, in UTC, of a time in ms since 1970.

/// A moment in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) year: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// 1 to 31.
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

const DAY_SECONDS: u64 = 86_400;
/// Days from 1 March of the year 0 to 1 January 1970, in the Gregorian calendar.
const DAYS_BEFORE_1970: u64 = 719_468;
/// Days of 400 years, of 100, of 4 and of one, without the leap days that the next longer period adds.
const DAYS_400: u64 = 146_097;
const DAYS_100: u64 = 36_524;
const DAYS_4: u64 = 1_461;

impl Moment {
    /// The moment so many ms after the start of 1970.
    pub(crate) fn from_unix_ms(unix_ms: u64) -> Self {
        let seconds = unix_ms / 1000;
        let days = seconds / DAY_SECONDS + DAYS_BEFORE_1970;
        // Years are counted from 1 March on, so that the leap day is the last of its year.
        let in_era = days % DAYS_400;
        let year_of_era =
            (in_era - in_era / (DAYS_4 - 1) + in_era / DAYS_100 - in_era / (DAYS_400 - 1)) / 365;
        let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * in_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let within = seconds % DAY_SECONDS;
        Self {
            year: days / DAYS_400 * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: in_year - (153 * month_from_march + 2) / 5 + 1,
            hour: within / 3600,
            minute: within / 60 % 60,
            second: within % 60,
        }
    }

    /// As a name: `20261122-210533`.
    pub(crate) fn stamp(&self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_gregorian_calendar() {
        for (seconds, stamp) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (951_868_800, "20000301-000000"),
            (1_709_164_799, "20240228-235959"),
            (1_709_164_800, "20240229-000000"),
            (1_735_689_599, "20241231-235959"),
            (1_735_689_600, "20250101-000000"),
            (1_795_381_533, "20261122-210533"),
            (4_107_542_400, "21000301-000000"),
            (4_107_542_399, "21000228-235959"),
        ] {
            assert_eq!(Moment::from_unix_ms(seconds * 1000 + 999).stamp(), stamp, "{seconds}");
        }
    }
}
