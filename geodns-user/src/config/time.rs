//! Times as people write them: `10m`, in the file and on the command line.

use std::time::Duration;

/// Text of a time.
pub(super) const TIME: &str = "^[0-9]+(ms|s|m|h|d)$";

/// A number and a unit: ms, s, m, h or d.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let secs = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.checked_mul(secs).map(Duration::from_secs)
}

/// This time, as [`duration`] reads it: in the largest unit that needs no fraction.
pub fn spelled(time: Duration) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ];
    let millis = time.as_millis();
    units
        .into_iter()
        .find(|(unit, size)| millis.is_multiple_of(*size) && (millis > 0 || *unit == "s"))
        .map_or_else(
            || format!("{millis}ms"),
            |(unit, size)| format!("{}{unit}", millis / size),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("-5m", None),
            ("+5m", None),
            ("5 m", None),
            ("5M", None),
            ("1.5h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("5µs", None),
        ] {
            assert_eq!(
                duration(text).map(|time| time.as_millis()),
                millis,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_spelling_is_read_as_what_was_spelled() {
        for (text, spelling) in [
            ("0s", "0s"),
            ("600s", "10m"),
            ("90s", "90s"),
            ("1500ms", "1500ms"),
            ("60m", "1h"),
            ("48h", "2d"),
            ("25h", "25h"),
        ] {
            let time = duration(text).unwrap();
            assert_eq!(spelled(time), spelling);
            assert_eq!(duration(&spelled(time)), Some(time));
        }
    }
}
