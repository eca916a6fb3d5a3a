//! Address prefixes as people write them: one judge, whoever asks. Rules, lists, overrides, limits, transfers, the
//! command line and the API take and refuse the same ones, in the same words.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::mapped;

/// Reads a prefix, or an address, which is the prefix of just that one.
pub fn parse(text: &str) -> Result<IpNet, String> {
    check(spelled(text).ok_or_else(|| not_one(text))?)
}

/// The prefix that a text spells, whether it is a good one or not; `None`: it is something else.
pub fn spelled(text: &str) -> Option<IpNet> {
    let Some((address, len)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    // Not as ipnet reads it: leading zeros are octal to some, and nothing here.
    let plain =
        len.bytes().all(|byte| byte.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let len = plain.then(|| len.parse().ok()).flatten()?;
    IpNet::new(address.parse().ok()?, len).ok()
}

/// A prefix that can match: no bits are set past its length, and IPv4 addresses are written as such.
pub fn check(prefix: IpNet) -> Result<IpNet, String> {
    if let Some(mapped) = mapped(prefix) {
        let prefix = shown(prefix);
        let mapped = shown(mapped.trunc().into());
        return Err(format!(
            "{prefix} is of IPv4 addresses, mapped; write {mapped}"
        ));
    }
    check_host_bits(prefix)
}

/// The same, where mapped IPv4 addresses have a meaning of their own: in what a client subnet says.
pub fn check_host_bits(prefix: IpNet) -> Result<IpNet, String> {
    if prefix == prefix.trunc() {
        return Ok(prefix);
    }
    Err(format!(
        "{prefix} has bits set past its length; write {}",
        prefix.trunc()
    ))
}

/// A whole address without its length, as it is usually written.
fn shown(prefix: IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

fn not_one(text: &str) -> String {
    format!(
        "{text:?} is not an address prefix; write one, as 192.0.2.0/24 or 2001:db8::/32, or an address"
    )
}

/// A prefix or an address in an API's request. Whether the prefix is a good one is judged where it is used.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(from)?;
    spelled(&text).ok_or_else(|| de::Error::custom(not_one(&text)))
}

/// A list of such.
pub fn deserialize_all<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let one = |text: &String| spelled(text).ok_or_else(|| de::Error::custom(not_one(text)));
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
