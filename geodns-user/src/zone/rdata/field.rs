//! One field of a record's data: from its tokens, and from octets.

use domain::base::iana::SecurityAlgorithm;
use domain::utils::base16;

use super::super::text::{Token, Wrong};
use super::word::{bad_hex, base64_of, ipv4, ipv6, joined, name_len, type_of};
use super::{Data, odd, svcb};

/// The kind of a field of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    U8,
    U16,
    U32,
    U64,
    /// Seconds; written with units, if need be.
    Time,
    /// A time of day: `YYYYMMDDHHMMSS`, or seconds since 1970, modulo 2^32 (RFC 4034 section 3.2).
    Moment,
    Ipv4,
    Ipv6,
    /// A name that is in lower case in canonical form.
    Name,
    /// A name of a type that came after RFC 3597: canonical as it is written.
    NameAsWritten,
    /// A string of up to 255 octets, behind its length.
    Text,
    /// The same, if there is one.
    TextIfAny,
    /// Strings, one at least, to the end.
    Texts,
    /// One token's octets, to the end.
    Octets,
    Hex,
    Base64,
    /// Base64, if there is any: a KEY may say that there is no key (RFC 2535 section 3.1.2).
    KeyIfAny,
    /// Base64, or `-` for nothing.
    Base64IfAny,
    /// A type.
    Type,
    /// A set of types (RFC 4034 section 4.1.2).
    Types,
    /// A number of a DNSSEC algorithm, or its name.
    Algorithm,
    /// A number of a certificate's type, or its name (RFC 4398 section 2.1).
    CertType,
    /// A number of a scheme of DSYNC, or its name.
    Scheme,
    /// N octets in hexadecimal, with hyphens between them.
    Eui(usize),
    /// 64 bits in hexadecimal, in four groups with colons between them.
    Locator,
    Services,
    Nsap,
    Location,
    OldTypes,
    A6,
    Prefixes,
    Identity,
    Relay,
    /// Kind of gateway, algorithm, gateway and key of an IPSECKEY.
    Gateway,
    /// A number of a hash algorithm of NSEC3, or its name.
    HashAlgorithm,
    /// Octets in hexadecimal, or `-` for none, behind their length.
    Salt,
    /// Octets in Base32 (RFC 4648 section 7), behind their length.
    Hashed,
    /// Parameters of SVCB.
    Parameters,
}

/// Names of certificates' types.
const CERT_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

impl Field {
    /// Scans it.
    pub fn scan(self, data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
        match self {
            Self::U8 => out.push(data.next()?.number(u8::MAX.into())? as u8),
            Self::U16 => u16(out, data.next()?.number(u16::MAX.into())?),
            Self::U32 => u32(out, data.next()?.number(u32::MAX.into())?),
            Self::U64 => out.extend_from_slice(&data.next()?.number(u64::MAX)?.to_be_bytes()),
            Self::Time => u32(out, data.next()?.seconds()?.into()),
            Self::Moment => u32(out, moment(data.next()?)?.into()),
            Self::Ipv4 => out.extend_from_slice(&ipv4(data.next()?)?.octets()),
            Self::Ipv6 => out.extend_from_slice(&ipv6(data.next()?)?.octets()),
            Self::Name | Self::NameAsWritten => data.next()?.name(data.origin, out)?,
            Self::Text => text(data.next()?, out)?,
            Self::TextIfAny => {
                if !data.tokens.is_empty() {
                    text(data.next()?, out)?;
                }
            }
            Self::Texts => {
                text(data.next()?, out)?;
                while !data.tokens.is_empty() {
                    text(data.next()?, out)?;
                }
            }
            Self::Octets => data.next()?.octets(out)?,
            Self::Hex => hex(data, out)?,
            Self::Base64 => {
                let word = joined(data)?;
                base64_of(&word, data, out)?;
            }
            Self::KeyIfAny => {
                if !data.tokens.is_empty() {
                    Self::Base64.scan(data, out)?;
                }
            }
            Self::Base64IfAny => {
                let word = joined(data)?;
                if word != "-" {
                    base64_of(&word, data, out)?;
                }
            }
            Self::Type => u16(out, type_of(data.next()?)?.into()),
            Self::Types => types(data, out)?,
            Self::Algorithm => {
                let token = data.next()?;
                let known = SecurityAlgorithm::from_mnemonic(token.word().as_bytes());
                out.push(match (token.word().to_ascii_uppercase().as_str(), known) {
                    // Names of RFC 4398 and 4034 that the list lacks.
                    ("INDIRECT", _) => 252,
                    ("ECC", _) => 4,
                    (_, Some(known)) => known.to_int(),
                    (_, None) => token.number(u8::MAX.into())? as u8,
                });
            }
            Self::CertType => {
                let token = data.next()?;
                let known = CERT_TYPES.iter().find(|(name, _)| token.is(name));
                u16(
                    out,
                    match known {
                        Some((_, number)) => (*number).into(),
                        None => token.number(u16::MAX.into())?,
                    },
                );
            }
            Self::Scheme => {
                let token = data.next()?;
                out.push(match token.is("NOTIFY") {
                    true => 1,
                    false => token.number(u8::MAX.into())? as u8,
                });
            }
            Self::Eui(len) => {
                let token = data.next()?;
                groups(token, '-', len, 2, out).ok_or_else(|| {
                    token.wrong(format!(
                        "{} is not {len} octets in hexadecimal with hyphens between them, as 00-00-5e-00-53-2a",
                        token.shown()
                    ))
                })?;
            }
            Self::Locator => {
                let token = data.next()?;
                groups(token, ':', 4, 4, out).ok_or_else(|| {
                    token.wrong(format!(
                        "{} is not 64 bits in hexadecimal, as 2001:db8:0:1",
                        token.shown()
                    ))
                })?;
            }
            Self::Services => odd::services(data, out)?,
            Self::Nsap => odd::nsap(data, out)?,
            Self::Location => odd::location(data, out)?,
            Self::OldTypes => odd::old_types(data, out)?,
            Self::A6 => odd::a6(data, out)?,
            Self::Prefixes => odd::prefixes(data, out)?,
            Self::Identity => odd::identity(data, out)?,
            Self::Relay => odd::relay(data, out)?,
            Self::Gateway => odd::gateway(data, out)?,
            Self::HashAlgorithm => {
                let token = data.next()?;
                out.push(match token.is("SHA-1") {
                    true => 1,
                    false => token.number(u8::MAX.into())? as u8,
                });
            }
            Self::Salt => odd::salt(data, out)?,
            Self::Hashed => odd::hashed(data, out)?,
            Self::Parameters => svcb::scan(data, out)?,
        }
        Ok(())
    }

    /// Takes it from octets, and appends it.
    pub fn copy(self, rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
        let len = match self {
            Self::U8 | Self::Algorithm | Self::Scheme | Self::HashAlgorithm => 1,
            Self::U16 | Self::Type | Self::CertType => 2,
            Self::U32 | Self::Time | Self::Moment | Self::Ipv4 => 4,
            Self::U64 | Self::Locator => 8,
            Self::Ipv6 => 16,
            Self::Eui(len) => len,
            Self::Name | Self::NameAsWritten => name_len(rest)?,
            Self::Text | Self::Salt => text_len(rest)?,
            // A hash has an octet at least.
            Self::Hashed => text_len(rest).filter(|&len| len > 1)?,
            Self::TextIfAny if rest.is_empty() => 0,
            Self::TextIfAny => text_len(rest)?,
            Self::Texts => {
                let mut len = text_len(rest)?;
                while len < rest.len() {
                    len += text_len(&rest[len..])?;
                }
                len
            }
            Self::Hex | Self::Base64 | Self::Nsap if rest.is_empty() => return None,
            Self::Octets
            | Self::Hex
            | Self::Base64
            | Self::Base64IfAny
            | Self::KeyIfAny
            | Self::Nsap => rest.len(),
            Self::Types => are_types(rest).then_some(rest.len())?,
            Self::Services => (!rest.is_empty()).then_some(rest.len())?,
            Self::OldTypes => odd::are_old_types(rest).then_some(rest.len())?,
            Self::Location => odd::is_location(rest).then_some(rest.len())?,
            Self::Prefixes => odd::are_prefixes(rest).then_some(rest.len())?,
            Self::Identity => odd::is_identity(rest).then_some(rest.len())?,
            Self::Relay => odd::is_relay(rest).then_some(rest.len())?,
            Self::Gateway => odd::is_gateway(rest).then_some(rest.len())?,
            Self::Parameters => svcb::are_params(rest).then_some(rest.len())?,
            Self::A6 => odd::is_a6(rest).then_some(rest.len())?,
        };
        let (field, after) = rest.split_at_checked(len)?;
        let start = out.len();
        out.extend_from_slice(field);
        if self == Self::A6 {
            // The prefix's name, behind its octets.
            odd::lower_a6(&mut out[start..]);
        }
        *rest = after;
        Some(())
    }
}

fn u16(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&(number as u16).to_be_bytes());
}

fn u32(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&(number as u32).to_be_bytes());
}

/// Octets of the string that something begins with, its length included.
fn text_len(octets: &[u8]) -> Option<usize> {
    let len = 1 + usize::from(*octets.first()?);
    (len <= octets.len()).then_some(len)
}

fn text(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let head = out.len();
    out.push(0);
    token.octets(out)?;
    let len = out.len() - head - 1;
    out[head] = u8::try_from(len).map_err(|_| {
        token.wrong(format!(
            "a string of {len} octets; one has at most 255, split it into several"
        ))
    })?;
    Ok(())
}

fn hex(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let word = joined(data)?;
    let octets: Vec<u8> = base16::decode(&word).map_err(|_| bad_hex(data))?;
    if octets.is_empty() {
        return Err(bad_hex(data));
    }
    out.extend(octets);
    Ok(())
}

/// `count` groups of at most `digits` hexadecimal digits.
fn groups(
    token: &Token<'_>,
    between: char,
    count: usize,
    digits: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let word = token.word();
    if word.split(between).count() != count {
        return None;
    }
    for group in word.split(between) {
        let few = !group.is_empty() && group.len() <= digits;
        let hexadecimal = group.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Groups of two digits are octets, and whole.
        if !few || !hexadecimal || (digits == 2 && group.len() != 2) {
            return None;
        }
        let number = u16::from_str_radix(group, 16).ok()?;
        out.extend_from_slice(&number.to_be_bytes()[2 - digits / 2..]);
    }
    Some(())
}

/// Types to the end, as windows of bits.
fn types(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let mut types = Vec::new();
    while !data.tokens.is_empty() {
        types.push(type_of(data.next()?)?);
    }
    types.sort_unstable();
    for window in types.chunk_by(|one, next| one >> 8 == next >> 8) {
        let mut bits = [0; 32];
        let mut len = 0;
        for rtype in window {
            let place = usize::from(rtype & 0xff);
            bits[place / 8] |= 0x80 >> (place % 8);
            len = place / 8 + 1;
        }
        out.extend([(window[0] >> 8) as u8, len as u8]);
        out.extend_from_slice(&bits[..len]);
    }
    Ok(())
}

/// Whether these are windows of bits, in order, none of them empty or longer than it must be.
fn are_types(mut rest: &[u8]) -> bool {
    let mut last = None;
    while let [window, len, after @ ..] = rest {
        let Some((bits, after)) = after.split_at_checked((*len).into()) else {
            return false;
        };
        if last.is_some_and(|last| last >= *window)
            || bits.len() > 32
            || matches!(bits, [] | [.., 0])
        {
            return false;
        }
        last = Some(*window);
        rest = after;
    }
    rest.is_empty()
}

/// Seconds since 1970, modulo 2^32.
fn moment(token: &Token<'_>) -> Result<u32, Wrong> {
    let word = token.word();
    let wrong = || {
        token.wrong(format!(
            "{} is not a moment; write it as YYYYMMDDHHMMSS, in UTC",
            token.shown()
        ))
    };
    if word.len() != 14 || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return token
            .number(u32::MAX.into())
            .map(|secs| secs as u32)
            .map_err(|_| wrong());
    }
    let part = |from: usize, to: usize| word[from..to].parse::<i64>().unwrap_or(0);
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 31,
    };
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return Err(wrong());
    }
    // Years that begin in March: a leap day is their last.
    let (years, months) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days =
        365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    // Days from March of the year 0 to 1970.
    let secs = (days - 719_468) * 86400 + hour * 3600 + minute * 60 + second;
    Ok(secs as u32)
}
