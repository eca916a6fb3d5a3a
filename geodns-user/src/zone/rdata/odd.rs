//! Fields with rules of their own.

use std::net::IpAddr;

use domain::utils::{base16, base32};

use super::super::text::{Token, Wrong};
use super::Data;
use super::word::{bad_hex, base64_of, ipv4, ipv6, joined, name_len, type_of};

/// WKS (RFC 1035 section 3.4.2): a protocol and a bit for each port. Names of services are not known
/// here; those of protocols are, of the two that have ports.
pub(super) fn services(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let protocol = data.next()?;
    out.push(match protocol.word().to_ascii_lowercase().as_str() {
        "tcp" => 6,
        "udp" => 17,
        _ => protocol.number(u8::MAX.into())? as u8,
    });
    let mut bits = Vec::new();
    while !data.tokens.is_empty() {
        set_bit(&mut bits, data.next()?.number(u16::MAX.into())? as usize);
    }
    out.append(&mut bits);
    Ok(())
}

fn set_bit(bits: &mut Vec<u8>, place: usize) {
    if bits.len() <= place / 8 {
        bits.resize(place / 8 + 1, 0);
    }
    bits[place / 8] |= 0x80 >> (place % 8);
}

/// NXT (RFC 2535 section 5.2): a bit for each type below 128.
pub(super) fn old_types(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let mut bits = Vec::new();
    while !data.tokens.is_empty() {
        let token = data.next()?;
        let number = type_of(token)?;
        if number >= 128 {
            return Err(token.wrong("a NXT has bits for types below 128 only; use a NSEC"));
        }
        set_bit(&mut bits, number.into());
    }
    out.append(&mut bits);
    Ok(())
}

pub(super) fn are_old_types(bits: &[u8]) -> bool {
    bits.len() <= 16 && bits.last() != Some(&0)
}

/// NSAP (RFC 1706): `0x` and hexadecimal digits, dots between them for the reader.
pub(super) fn nsap(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let word = joined(data)?.to_ascii_lowercase();
    let digits = word
        .strip_prefix("0x")
        .map(|digits| digits.replace('.', ""));
    match digits.and_then(|digits| base16::decode::<Vec<u8>>(&digits).ok()) {
        Some(octets) if !octets.is_empty() => out.extend(octets),
        _ => return Err(data.wrong("0x and hexadecimal digits belong here; correct them")),
    }
    Ok(())
}

/// Whether these are three strings of numbers (GPOS, RFC 1712).
pub(super) fn is_position(mut texts: &[u8]) -> bool {
    while let Some((&len, rest)) = texts.split_first() {
        let Some((text, rest)) = rest.split_at_checked(len.into()) else {
            return false;
        };
        let plain = text
            .iter()
            .all(|&byte| byte.is_ascii_digit() || b"+-.".contains(&byte));
        let number: Option<f64> = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        if !plain || number.is_none() {
            return false;
        }
        texts = rest;
    }
    true
}

/// LOC (RFC 1876): `d [m [s]] N|S d [m [s]] E|W altitude [size [horizontal [vertical]]]`.
pub(super) fn location(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let latitude = angle(data, 90, "N", "S")?;
    let longitude = angle(data, 180, "E", "W")?;
    let altitude = data.next()?;
    // From 100 km below the spheroid.
    let above = metres(altitude)
        .map(|centimetres| centimetres + 10_000_000)
        .and_then(|above| u32::try_from(above).ok())
        .ok_or_else(|| altitude.wrong("an altitude of -100000m to 42849672.95m belongs here"))?;
    // A diameter of 1 m, known to 10 km and 10 m.
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        if data.tokens.is_empty() {
            break;
        }
        let token = data.next()?;
        let wrong = || token.wrong("a size of 0m to 90000000m belongs here");
        let mut mantissa = metres(token)
            .filter(|size| (0..=9_000_000_000).contains(size))
            .ok_or_else(wrong)?;
        let mut exponent = 0;
        while mantissa >= 10 {
            mantissa /= 10;
            exponent += 1;
        }
        *size = (mantissa as u8) << 4 | exponent;
    }
    let [size, horizontal, vertical] = sizes;
    out.extend([0, size, horizontal, vertical]);
    for number in [latitude, longitude, above] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    Ok(())
}

/// Thousandths of a second of arc, from 2^31 on.
fn angle(data: &mut Data<'_>, max: i64, plus: &str, minus: &str) -> Result<u32, Wrong> {
    let wrong = |token: &Token<'_>| {
        token.wrong(format!(
            "up to {max} degrees, and if need be minutes and seconds, then {plus} or {minus} belong here, as 52 14 05.5 {plus}"
        ))
    };
    // What one of each is, how many there may be, and digits behind its point.
    const PARTS: [(i64, i64, usize); 3] = [
        (3_600_000, 180_000, 0),
        (60_000, 59_000, 0),
        (1000, 59_999, 3),
    ];
    let mut sum = 0;
    for (place, (unit, most, decimals)) in PARTS.into_iter().enumerate() {
        let token = data.next()?;
        if place > 0 && (token.is(plus) || token.is(minus)) {
            return hemisphere(sum, max, token.is(minus)).ok_or_else(|| wrong(token));
        }
        let thousandths = decimal(token.word(), decimals, 3).filter(|&number| number <= most);
        sum += thousandths.ok_or_else(|| wrong(token))? * unit / 1000;
    }
    let token = data.next()?;
    if !token.is(plus) && !token.is(minus) {
        return Err(wrong(token));
    }
    hemisphere(sum, max, token.is(minus)).ok_or_else(|| wrong(token))
}

fn hemisphere(angle: i64, max: i64, minus: bool) -> Option<u32> {
    let angle = (angle <= max * 3_600_000).then_some(angle)?;
    let angle = if minus { -angle } else { angle };
    u32::try_from((1 << 31) + angle).ok()
}

/// Centimetres; the unit may be written behind.
fn metres(token: &Token<'_>) -> Option<i64> {
    let word = token.word();
    let word = word.strip_suffix(['m', 'M']).unwrap_or(word);
    match word.strip_prefix('-') {
        Some(below) => decimal(below, 2, 2).map(|number| -number),
        None => decimal(word, 2, 2),
    }
}

/// A number with at most N digits behind its point, in units of 10^-scale.
fn decimal(word: &str, decimals: usize, scale: usize) -> Option<i64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 9
        || part.len() > decimals
        || !digits(whole)
        || !digits(part)
    {
        return None;
    }
    format!("{whole}{part:0<scale$}").parse().ok()
}

pub(super) fn is_location(rdata: &[u8]) -> bool {
    // Of other versions nothing is known.
    rdata
        .first()
        .is_some_and(|&version| version != 0 || rdata.len() == 16)
}

/// A6 (RFC 2874 section 3.1): length of the prefix, the rest of the address, the prefix's name.
pub(super) fn a6(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let prefix_len = data.next()?.number(128)? as u8;
    out.push(prefix_len);
    if prefix_len < 128 {
        let mut octets = ipv6(data.next()?)?.octets();
        let whole = usize::from(prefix_len / 8);
        octets[whole] &= 0xff >> (prefix_len % 8);
        out.extend_from_slice(&octets[whole..]);
    }
    if prefix_len > 0 {
        let start = out.len();
        data.next()?.name(data.origin, out)?;
        out[start..].make_ascii_lowercase();
    }
    Ok(())
}

/// Octets before the name.
fn before_name(rdata: &[u8]) -> usize {
    let prefix_len = rdata.first().map_or(0, |&len| usize::from(len));
    1 + 16usize.saturating_sub(prefix_len / 8)
}

pub(super) fn is_a6(rdata: &[u8]) -> bool {
    let name = rdata.get(before_name(rdata)..);
    match (rdata.first(), name) {
        (Some(0), Some(name)) => name.is_empty(),
        (Some(1..=128), Some(name)) => name_len(name) == Some(name.len()),
        _ => false,
    }
}

pub(super) fn lower_a6(rdata: &mut [u8]) {
    let before = before_name(rdata);
    if let Some(name) = rdata.get_mut(before..) {
        name.make_ascii_lowercase();
    }
}

/// APL (RFC 3123): items as `!1:192.0.2.0/24`.
pub(super) fn prefixes(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    while !data.tokens.is_empty() {
        let token = data.next()?;
        let item = token.word();
        let (item, negated) = match item.strip_prefix('!') {
            Some(item) => (item, 0x80),
            None => (item, 0),
        };
        let parts = item.split_once(':').and_then(|(family, rest)| {
            let (address, len) = rest.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
            let len: u8 = len.parse().ok().filter(|_| digits)?;
            match (family, address) {
                ("1", IpAddr::V4(address)) if len <= 32 => {
                    Some((1, address.octets().to_vec(), len))
                }
                ("2", IpAddr::V6(address)) if len <= 128 => {
                    Some((2, address.octets().to_vec(), len))
                }
                _ => None,
            }
        });
        let Some((family, mut octets, len)) = parts else {
            return Err(token.wrong(format!(
                "{} is not 1: and an IPv4 prefix or 2: and an IPv6 prefix, as !1:192.0.2.0/24",
                token.shown()
            )));
        };
        while octets.last() == Some(&0) {
            octets.pop();
        }
        out.extend([0, family, len, negated | octets.len() as u8]);
        out.append(&mut octets);
    }
    Ok(())
}

pub(super) fn are_prefixes(mut rest: &[u8]) -> bool {
    while let [family, number, len, octets, after @ ..] = rest {
        let (most, bits) = match (family, number) {
            (0, 1) => (4, 32),
            (0, 2) => (16, 128),
            _ => (127, 255),
        };
        let octets = usize::from(octets & 0x7f);
        let Some((address, after)) = after.split_at_checked(octets) else {
            return false;
        };
        if octets > most || *len > bits || address.last() == Some(&0) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// HIP (RFC 8005): algorithm, host identity tag, public key, rendezvous servers.
pub(super) fn identity(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let algorithm = data.next()?.number(u8::MAX.into())? as u8;
    let tag: Vec<u8> = base16::decode(data.next()?.word()).map_err(|_| bad_hex(data))?;
    let Some(tag_len) = u8::try_from(tag.len()).ok().filter(|&len| len > 0) else {
        return Err(bad_hex(data));
    };
    let mut key = Vec::new();
    base64_of(data.next()?.word(), data, &mut key)?;
    let Ok(key_len) = u16::try_from(key.len()) else {
        return Err(data.wrong("the public key is longer than 65535 octets; copy it anew"));
    };
    out.extend([tag_len, algorithm]);
    out.extend_from_slice(&key_len.to_be_bytes());
    out.extend(tag);
    out.extend(key);
    while !data.tokens.is_empty() {
        data.next()?.name(data.origin, out)?;
    }
    Ok(())
}

pub(super) fn is_identity(rdata: &[u8]) -> bool {
    let [tag_len, _, high, low, rest @ ..] = rdata else {
        return false;
    };
    let key_len = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(mut servers) = rest.get(usize::from(*tag_len) + key_len..) else {
        return false;
    };
    while !servers.is_empty() {
        match name_len(servers) {
            Some(len) => servers = &servers[len..],
            None => return false,
        }
    }
    *tag_len > 0 && key_len > 0
}

/// AMTRELAY (RFC 8777): precedence, whether discovery is optional, kind of relay, relay.
pub(super) fn relay(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let precedence = data.next()?.number(u8::MAX.into())? as u8;
    let optional = data.next()?.number(1)? as u8;
    let kind = data.next()?.number(3)? as u8;
    out.extend([precedence, optional << 7 | kind]);
    let relay = data.next()?;
    match kind {
        0 if relay.is(".") => {}
        0 => return Err(relay.wrong("a relay of kind 0 is none; write a dot")),
        1 => out.extend_from_slice(&ipv4(relay)?.octets()),
        2 => out.extend_from_slice(&ipv6(relay)?.octets()),
        _ => relay.name(data.origin, out)?,
    }
    Ok(())
}

pub(super) fn is_relay(rdata: &[u8]) -> bool {
    let [_, kind, relay @ ..] = rdata else {
        return false;
    };
    match kind & 0x7f {
        0 => relay.is_empty(),
        1 => relay.len() == 4,
        2 => relay.len() == 16,
        3 => name_len(relay) == Some(relay.len()),
        _ => true,
    }
}

/// IPSECKEY (RFC 4025) behind its precedence: kind of gateway, algorithm, gateway, and a key if there is one.
pub(super) fn gateway(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let kind = data.next()?.number(3)? as u8;
    let algorithm = data.next()?.number(u8::MAX.into())? as u8;
    out.extend([kind, algorithm]);
    let gateway = data.next()?;
    match kind {
        0 if gateway.is(".") => {}
        0 => return Err(gateway.wrong("a gateway of kind 0 is none; write a dot")),
        1 => out.extend_from_slice(&ipv4(gateway)?.octets()),
        2 => out.extend_from_slice(&ipv6(gateway)?.octets()),
        _ => gateway.name(data.origin, out)?,
    }
    if !data.tokens.is_empty() {
        let key = joined(data)?;
        base64_of(&key, data, out)?;
    }
    Ok(())
}

pub(super) fn is_gateway(rdata: &[u8]) -> bool {
    let [kind, _, rest @ ..] = rdata else {
        return false;
    };
    match kind {
        1 => rest.len() >= 4,
        2 => rest.len() >= 16,
        3 => name_len(rest).is_some(),
        // Of other kinds nothing is known.
        _ => true,
    }
}

/// The salt of NSEC3 and NSEC3PARAM (RFC 5155 section 3.3).
pub(super) fn salt(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let token = data.next()?;
    let salt: Option<Vec<u8>> = match token.word() {
        "-" => Some(Vec::new()),
        "" => None,
        word => base16::decode(word).ok(),
    };
    behind_length(salt, out).ok_or_else(|| {
        token.wrong(format!(
            "{} is not a salt; write a dash for none, or up to 255 octets in hexadecimal",
            token.shown()
        ))
    })
}

/// The next hash of NSEC3 (RFC 5155 section 3.3).
pub(super) fn hashed(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let token = data.next()?;
    let hash: Option<Vec<u8>> = base32::decode_hex(token.word()).ok();
    let hash = hash.filter(|hash| !hash.is_empty());
    behind_length(hash, out).ok_or_else(|| {
        token.wrong(format!(
            "{} is not a hash in Base32 (RFC 4648 section 7); copy it anew",
            token.shown()
        ))
    })
}

fn behind_length(octets: Option<Vec<u8>>, out: &mut Vec<u8>) -> Option<()> {
    let octets = octets?;
    out.push(u8::try_from(octets.len()).ok()?);
    out.extend(octets);
    Some(())
}
