//! Words of a record's data that several fields have: addresses, types, hexadecimal digits and Base64.

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::utils::base64;

use super::super::text::{Token, Wrong};
use super::{Data, rtype};

/// Octets of the uncompressed name that something begins with.
pub fn name_len(octets: &[u8]) -> Option<usize> {
    let mut len = 0;
    loop {
        let label = *octets.get(len)?;
        if label > 63 {
            return None;
        }
        len += 1 + usize::from(label);
        if label == 0 {
            return (len <= 255).then_some(len);
        }
    }
}

/// An IPv4 address.
pub fn ipv4(token: &Token<'_>) -> Result<Ipv4Addr, Wrong> {
    token.word().parse().map_err(|_| {
        token.wrong(format!(
            "{} is not an IPv4 address; write one, as 192.0.2.1",
            token.shown()
        ))
    })
}

/// An IPv6 address.
pub fn ipv6(token: &Token<'_>) -> Result<Ipv6Addr, Wrong> {
    token.word().parse().map_err(|_| {
        token.wrong(format!(
            "{} is not an IPv6 address; write one, as 2001:db8::1",
            token.shown()
        ))
    })
}

/// The rest of the tokens as one word.
pub fn joined(data: &mut Data<'_>) -> Result<String, Wrong> {
    let mut word = data.next()?.word().to_owned();
    while !data.tokens.is_empty() {
        word += data.next()?.word();
    }
    Ok(word)
}

/// The complaint about digits that are not hexadecimal.
pub fn bad_hex(data: &Data<'_>) -> Wrong {
    data.wrong("hexadecimal digits belong here, two for each octet; correct them")
}

/// Appends what a word in Base64 says.
pub fn base64_of(word: &str, data: &Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    match base64::decode::<Vec<u8>>(word) {
        Ok(octets) if !octets.is_empty() => out.extend(octets),
        _ => return Err(data.wrong("Base64 belongs here (RFC 4648 section 4); copy it anew")),
    }
    Ok(())
}

/// The number of a type.
pub fn type_of(token: &Token<'_>) -> Result<u16, Wrong> {
    let known = rtype(token).map(|rtype| rtype.to_int());
    known.ok_or_else(|| {
        token.wrong(format!(
            "{} is no type; write one, as A or TYPE65280",
            token.shown()
        ))
    })
}
