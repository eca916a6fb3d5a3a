//! Bandwidth, as people read it.

/// Bits a second, in a unit that leaves one digit before the point at least.
pub fn shown(bits: u64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let number = bits as f64;
    match units.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{} {name}bit/s", number / unit),
        None => format!("{bits} bit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_number() {
        for (bits, text) in [
            (0, "0 bit/s"),
            (999, "999 bit/s"),
            (1000, "1 kbit/s"),
            (2_500_000_000, "2.5 Gbit/s"),
            (10_000_000_000_000, "10 Tbit/s"),
        ] {
            assert_eq!(shown(bits), text);
        }
    }
}
