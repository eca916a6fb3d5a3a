//! The end of a certificate's validity, read from its DER (RFC 5280 section 4.1).

/// Seconds since 1970 until which a certificate is valid; `None`: it cannot be read.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for tag in [0x02, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (.., not_after) = any(validity)?;
    let (tag, time, _) = any(not_after)?;
    // UTCTime has two digits for the year, from 1950 on; GeneralizedTime has four.
    let digits = |text: &[u8]| str::from_utf8(text).ok()?.parse::<i64>().ok();
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = time.split_at_checked(2)?;
            let year = digits(year)?;
            (if year < 50 { 2000 } else { 1900 } + year, rest)
        }
        0x18 => {
            let (year, rest) = time.split_at_checked(4)?;
            (digits(year)?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| digits(rest.get(2 * at..2 * at + 2)?);
    let (month, day) = (two(0)?, two(1)?);
    let (hour, minute, second) = (two(2)?, two(3)?, two(4)?);
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// An element with this tag: its content, and the rest.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(der)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag and content, and the rest.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, len], rest) = der.split_first_chunk::<2>()?;
    let (len, rest) = match len {
        ..=0x7f => (usize::from(len), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
            let len = octets
                .iter()
                .fold(0, |len, &octet| len << 8 | usize::from(octet));
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// Days from 1970 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that a leap day is the last.
    let (year, month) = match month {
        ..3 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_both_forms_of_time_is_read() {
        for (year, expected) in [(2031, 1_924_992_000), (2060, 2_840_140_800)] {
            let mut params =
                rcgen::CertificateParams::new(vec!["ns1.example.org".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected));
            for len in 0..certificate.der().len().min(200) {
                let _ = not_after(&certificate.der()[..len]);
            }
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
    }
}
