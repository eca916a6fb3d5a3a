//! Service parameters: what follows the target's name in SVCB and HTTPS (RFC 9460).
//!
//! They are written in any order and stand in the RDATA in that of their keys. What must hold of them is asked
//! of the octets alone, wherever these come from.

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::utils::base64;

use super::super::text::{Token, Wrong};
use super::Data;

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

/// Keys that have a name (RFC 9460 section 14.3.2, RFC 9461, RFC 9540, RFC 9848).
const KEYS: &[(&str, u16)] = &[
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

/// The number of a key: by its name, or as `keyNNNNN` without leading zeros (section 2.1). All are in lower case.
fn key(name: &[u8]) -> Option<u16> {
    let named = KEYS.iter().find(|(known, _)| known.as_bytes() == name);
    if let Some((_, number)) = named {
        return Some(*number);
    }
    let digits = str::from_utf8(name.strip_prefix(b"key")?).ok()?;
    let leads = digits.len() > 1 && digits.starts_with('0');
    if leads || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Scans parameters to the end, and appends them in the order of their keys.
pub(super) fn scan(data: &mut Data<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let mut all: Vec<(u16, Vec<u8>)> = Vec::new();
    while !data.tokens.is_empty() {
        let word = data.next()?;
        let (name, value) = match memchr::memchr(b'=', word.text) {
            Some(at) => (&word.text[..at], Some(&word.text[at + 1..])),
            None => (word.text, None),
        };
        let number = key(name).filter(|_| !word.quoted && !word.glued).ok_or_else(|| {
            word.wrong(format!(
                "{} is no SvcParam; write KEY or KEY=VALUE, the key in lower case by its name or as key65280",
                word.shown()
            ))
        })?;
        let mut value = value.map(|text| Token { text, ..*word });
        // A value in quotes is the next token, right behind the '='.
        if let Some(next) = data.tokens.first().filter(|next| next.glued) {
            match value {
                Some(Token { text: [], .. }) if next.quoted => value = Some(*data.next()?),
                _ => return Err(next.wrong("a quote within a value; put all of it in quotes")),
            }
        }
        if all.iter().any(|(other, _)| *other == number) {
            return Err(word.wrong(format!("a second {}; remove one", name_of(number))));
        }
        let is_number = name == format!("key{number}").as_bytes();
        let mut octets = Vec::new();
        match value {
            // The octets as they are, whatever the key means.
            Some(value) if is_number => value.octets(&mut octets)?,
            Some(value) => scan_value(number, &value, &mut octets)?,
            None if is_number || matches!(number, NO_DEFAULT_ALPN | OHTTP) => {}
            None => {
                let message = format!("{} without a value; write one", name_of(number));
                return Err(word.wrong(message));
            }
        }
        let len = u16::try_from(octets.len());
        len.map_err(|_| word.wrong("a value longer than 65535 octets; shorten it"))?;
        all.push((number, octets));
    }
    all.sort_unstable();
    for (number, octets) in all {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        out.extend(octets);
    }
    Ok(())
}

fn name_of(number: u16) -> String {
    let named = KEYS.iter().find(|(_, known)| *known == number);
    named.map_or_else(|| format!("key{number}"), |(name, _)| (*name).to_owned())
}

/// Scans the value of a key that has a name.
fn scan_value(number: u16, value: &Token<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    match number {
        MANDATORY => {
            let mut keys = Vec::new();
            for name in value.text.split(|&byte| byte == b',') {
                keys.push(key(name).ok_or_else(|| {
                    value.wrong("keys belong here, with commas between them, as alpn,port")
                })?);
            }
            keys.sort_unstable();
            keys.iter()
                .for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        }
        ALPN => alpn(value, out)?,
        NO_DEFAULT_ALPN | OHTTP => {
            if !value.text.is_empty() {
                let message = format!("{} takes no value; remove it", name_of(number));
                return Err(value.wrong(message));
            }
        }
        PORT => {
            let port = text(value).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port: Option<u16> = port.and_then(|port| port.parse().ok());
            let port = port.ok_or_else(|| value.wrong("a port belongs here; write 0 to 65535"))?;
            out.extend_from_slice(&port.to_be_bytes());
        }
        IPV4HINT => addresses(value, "IPv4", |address: Ipv4Addr| {
            out.extend(address.octets());
        })?,
        IPV6HINT => addresses(value, "IPv6", |address: Ipv6Addr| {
            out.extend(address.octets());
        })?,
        ECH => {
            let octets = text(value).and_then(|word| base64::decode::<Vec<u8>>(word).ok());
            match octets {
                Some(octets) if !octets.is_empty() => out.extend(octets),
                _ => return Err(value.wrong("Base64 belongs here (RFC 9848 section 3); copy it")),
            }
        }
        _ => value.octets(out)?,
    }
    Ok(())
}

/// A value as text: what has no escapes.
fn text<'a>(value: &Token<'a>) -> Option<&'a str> {
    str::from_utf8(value.text).ok()
}

fn addresses<A: std::str::FromStr>(
    value: &Token<'_>,
    family: &str,
    mut put: impl FnMut(A),
) -> Result<(), Wrong> {
    let mut each = text(value).unwrap_or("").split(',');
    each.try_for_each(|word| {
        put(word.parse().ok()?);
        Some(())
    })
    .ok_or_else(|| {
        value.wrong(format!(
            "{} is not a list of {family} addresses, with commas between them and no spaces",
            value.shown()
        ))
    })
}

/// ALPN ids: a list of values (appendix A.1). What the string says is read a second time: a comma separates,
/// unless a backslash stands before it.
fn alpn(value: &Token<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let mut said = Vec::new();
    value.octets(&mut said)?;
    let mut id = Vec::new();
    let mut rest = said.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b',' => put_id(value, &std::mem::take(&mut id), out)?,
            b'\\' => {
                let message =
                    "a backslash at the end; write \\\\\\\\ for one, and \\\\, for a comma";
                id.push(*rest.next().ok_or_else(|| value.wrong(message))?);
            }
            _ => id.push(byte),
        }
    }
    put_id(value, &id, out)
}

fn put_id(value: &Token<'_>, id: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    let len = u8::try_from(id.len()).ok().filter(|&len| len > 0);
    let message = "an ALPN id of no octets, or of more than 255; write one, as h2";
    out.push(len.ok_or_else(|| value.wrong(message))?);
    out.extend_from_slice(id);
    Ok(())
}

/// Each key with its value; the last is `None` if these are no parameters.
fn params(mut rest: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = rest.split_first_chunk::<4>().and_then(|(head, after)| {
            let [a, b, c, d] = *head;
            let len = usize::from(u16::from_be_bytes([c, d]));
            let (value, after) = after.split_at_checked(len)?;
            Some((u16::from_be_bytes([a, b]), value, after))
        });
        let Some((key, value, after)) = read else {
            rest = &[];
            return Some(None);
        };
        rest = after;
        Some(Some((key, value)))
    })
}

/// Whether these are parameters, in the order of their keys, none of them twice (section 2.2).
pub(super) fn are_params(octets: &[u8]) -> bool {
    let mut last = None;
    params(octets).all(|param| {
        let Some((key, _)) = param else { return false };
        let rises = last.is_none_or(|last| last < key);
        last = Some(key);
        rises
    })
}

/// Checks parameters against each other. Gives what is wrong.
pub(super) fn sane(octets: &[u8]) -> Result<(), &'static str> {
    let value = |of: u16| {
        let mut known = params(octets).flatten();
        known.find(|(key, _)| *key == of).map(|(_, value)| value)
    };
    for (key, value) in params(octets).flatten() {
        let (fits, message) = match key {
            MANDATORY => (
                are_keys(value),
                "mandatory lists keys but itself, each once (RFC 9460 section 8); correct it",
            ),
            ALPN => (
                are_ids(value),
                "alpn lists ids of 1 to 255 octets, one at least (RFC 9460 section 7.1.1); correct it",
            ),
            NO_DEFAULT_ALPN => (
                value.is_empty(),
                "no-default-alpn takes no value; remove it",
            ),
            PORT => (value.len() == 2, "port is two octets; correct it"),
            IPV4HINT => (
                !value.is_empty() && value.len().is_multiple_of(4),
                "ipv4hint lists IPv4 addresses, one at least; correct it",
            ),
            IPV6HINT => (
                !value.is_empty() && value.len().is_multiple_of(16),
                "ipv6hint lists IPv6 addresses, one at least; correct it",
            ),
            DOHPATH => (
                is_template(value),
                "dohpath is a path with the variable dns (RFC 9461 section 5), as /dns-query{?dns}; \
                 correct it",
            ),
            OHTTP => (value.is_empty(), "ohttp takes no value; remove it"),
            _ => (true, ""),
        };
        if !fits {
            return Err(message);
        }
    }
    let is_there = |listed: &[u8; 2]| value(u16::from_be_bytes(*listed)).is_some();
    let (listed, _) = value(MANDATORY).unwrap_or(&[]).as_chunks::<2>();
    if !listed.iter().all(is_there) {
        return Err("mandatory lists a key that is not there (RFC 9460 section 8); add it");
    }
    if value(NO_DEFAULT_ALPN).is_some() && value(ALPN).is_none() {
        return Err("no-default-alpn goes with alpn (RFC 9460 section 7.1.1); add that");
    }
    Ok(())
}

/// Whether these are keys in their order, each once, and none of them `mandatory`.
fn are_keys(value: &[u8]) -> bool {
    let (keys, rest) = value.as_chunks::<2>();
    let rise = keys.is_sorted_by(|one, next| one < next);
    rest.is_empty() && rise && keys.first().is_some_and(|first| *first != [0, 0])
}

/// Whether these are ALPN ids, one at least.
fn are_ids(mut value: &[u8]) -> bool {
    if value.is_empty() {
        return false;
    }
    while let Some((&len, rest)) = value.split_first() {
        match rest.split_at_checked(len.into()) {
            Some((_, rest)) if len > 0 => value = rest,
            _ => return false,
        }
    }
    true
}

/// Whether this is a URI template for a path (RFC 6570) that has the variable `dns`.
fn is_template(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else {
        return false;
    };
    let mut expressions = text.split('{').skip(1).map(|rest| rest.split_once('}'));
    let has_dns = expressions.clone().flatten().any(|(expression, _)| {
        let variables = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
        let mut names = variables
            .split(',')
            .map(|name| name.split([':', '*']).next());
        names.any(|name| name == Some("dns"))
    });
    text.starts_with('/') && has_dns && expressions.all(|expression| expression.is_some())
}
