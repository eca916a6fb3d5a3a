//! The time of day, as a number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub fn now_unix_ms() -> u64 {
    unix_ms(SystemTime::now())
}

/// A time, in milliseconds since 1970; 0 for all that was before.
pub fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(since_1970(time).as_millis()).unwrap_or(u64::MAX)
}

/// Now, in seconds since 1970, of which the lowest 32 bits are left: as DNS counts them (RFC 1982).
pub fn now_unix_s() -> u32 {
    since_1970(SystemTime::now()).as_secs() as u32
}

/// A time in milliseconds since 1970, in UTC (RFC 3339): `2026-11-30T20:15:00.250Z`.
pub fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let (year, month, day) = date(days);
    let (second, ms) = (ms / 1000, ms % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A time in UTC (RFC 3339), with any digits of the second, in milliseconds since 1970.
pub fn parse_utc(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, ms) = match time.split_once('.') {
        Some((time, digits)) => {
            number(digits)?;
            let digits = digits.bytes().chain(*b"00").take(3);
            let ms = digits.fold(0, |ms, digit| 10 * ms + u64::from(digit - b'0'));
            (time, ms)
        }
        None => (time, 0),
    };
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_time = hour < 24 && minute < 60 && second < 60;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || day == 0 || !is_time {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let is_date = days < days_before(year + month / 12, month % 12 + 1);
    let seconds = hour * 3600 + minute * 60 + second;
    is_date.then_some(days * DAY_MS + seconds * 1000 + ms)
}

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// Days from 1970 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let before = BEFORE.get(month as usize - 1).copied().unwrap_or_default();
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + u64::from(is_leap && month > 2)
}

/// Year, month and day of a number of days from 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let month = (2..=12)
        .rev()
        .find(|&month| days_before(year, month) <= days);
    let month = month.unwrap_or(1);
    (year, month, days - days_before(year, month) + 1)
}

/// Time since 1970; zero of a clock that stands before it.
pub fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_in_utc() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
            ("2026-11-30T20:15:00.250Z", 1_796_069_700_250),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            assert_eq!(utc(ms), text);
            assert_eq!(parse_utc(text), Some(ms));
        }
        assert_eq!(parse_utc("1970-01-02T00:00:01Z"), Some(86_401_000));
        assert_eq!(parse_utc("1970-01-01T00:00:00.25Z"), Some(250));
        assert_eq!(parse_utc("1970-01-01T00:00:00.123456789Z"), Some(123));
        assert_eq!(parse_utc("0001-01-01T00:00:00Z"), None);
        for wrong in [
            "",
            "Z",
            "2026-11-30T20:15:00",
            "2026-11-31T20:15:00Z",
            "2026-02-29T20:15:00Z",
            "2026-13-01T20:15:00Z",
            "2026-00-01T20:15:00Z",
            "2026-11-00T20:15:00Z",
            "2026-11-30T24:15:00Z",
            "2026-11-30T+1:15:00Z",
            "1969-11-30T20:15:00Z",
            "2026-11-30T20:15:00.Z",
            "2026-11-30T20:15Z",
        ] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
        for day in 0..60_000 {
            let ms = day * DAY_MS + 1;
            assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }
    }
}
