//! Numbers and times as people read them.

/// A count, its digits in groups of three.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            // A narrow space that does not break.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Something a second.
pub fn rate(a_second: f64) -> String {
    match a_second {
        0.0 => "0".to_owned(),
        few if few < 10.0 => format!("{few:.1}"),
        many => count(many.round() as u64),
    }
}

/// A share, in percent.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        // Nearly all or nearly nothing is neither.
        nearly if nearly > 99.9 && share < 1.0 => "99.9 %".to_owned(),
        few if few < 0.1 && share > 0.0 => "< 0.1 %".to_owned(),
        whole if whole == 0.0 || whole == 100.0 => format!("{whole:.0} %"),
        percent => format!("{percent:.1} %"),
    }
}

/// A length of time, by its largest unit or two.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(largest) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0 s".to_owned();
    };
    let (unit, name) = units[largest];
    let mut text = format!("{} {name}", seconds / unit);
    if let Some((smaller, name)) = units.get(largest + 1)
        && seconds / unit < 10
        && (seconds % unit) / smaller > 0
    {
        text += &format!(" {} {name}", (seconds % unit) / smaller);
    }
    text
}

/// A time before now.
pub fn ago(now_unix_ms: u64, at_unix_ms: u64) -> String {
    match now_unix_ms.saturating_sub(at_unix_ms) {
        ..1000 => "now".to_owned(),
        past => format!("{} ago", duration(past)),
    }
}

/// A time after now.
pub fn ahead(now_unix_ms: u64, at_unix_ms: u64) -> String {
    match at_unix_ms.checked_sub(now_unix_ms) {
        Some(time) => format!("in {}", duration(time)),
        None => format!("{} ago", duration(now_unix_ms - at_unix_ms)),
    }
}

/// The time of day (UTC).
pub fn clock(unix_seconds: u64) -> String {
    let day = unix_seconds % 86_400;
    format!("{:02}:{:02}:{:02}", day / 3600, day / 60 % 60, day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!(count(1_234_567).replace('\u{202f}', " "), "1 234 567");
        assert_eq!([rate(0.0), rate(0.25), rate(10.4)], ["0", "0.2", "10"]);
        assert_eq!(percent(0.99999), "99.9 %");
        assert_eq!(
            [percent(1.0), percent(0.0), percent(0.5)],
            ["100 %", "0 %", "50.0 %"]
        );
        assert_eq!(percent(0.000_1), "< 0.1 %");
        assert_eq!(duration(90_061_000), "1 d 1 h");
        assert_eq!(duration(999), "0 s");
        assert_eq!(duration(3_600_000), "1 h");
        assert_eq!([ago(5000, 5000), ago(5000, 3000)], ["now", "2 s ago"]);
        assert_eq!(
            [ahead(5000, 65_000), ahead(5000, 3000)],
            ["in 1 min", "2 s ago"]
        );
        assert_eq!(clock(86_399), "23:59:59");
    }
}
