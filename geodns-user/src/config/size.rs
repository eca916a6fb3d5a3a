//! Amounts of memory as people write them: `256MiB`.

/// A number and a unit: KiB, MiB or GiB.
pub fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().ok()?;
    let octets = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(octets)
}

/// This amount, as [`size`] reads it: in the largest unit that needs no fraction.
pub fn spelled(octets: usize) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    units
        .into_iter()
        .find(|(_, bits)| octets.trailing_zeros() >= *bits && octets > 0)
        .map_or_else(
            || format!("{octets} octets"),
            |(unit, bits)| format!("{}{unit}", octets >> bits),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_spelled_as_they_are_read() {
        for text in ["1KiB", "1025KiB", "256MiB", "3GiB"] {
            assert_eq!(spelled(size(text).unwrap()), text);
        }
        assert_eq!(spelled(1000), "1000 octets");
    }

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, octets) in [
            ("1KiB", Some(1024)),
            ("256MiB", Some(256 << 20)),
            ("2GiB", Some(2 << 30)),
            ("0MiB", Some(0)),
            ("", None),
            ("5", None),
            ("MiB", None),
            ("5MB", None),
            ("5 MiB", None),
            ("-5MiB", None),
            ("1.5GiB", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(size(text), octets, "{text:?}");
        }
    }
}
