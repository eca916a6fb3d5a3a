//! Address prefixes as people write them, and as the kernel's tries are indexed.
//!
//! There is one judge, whoever asks: rules, lists, overrides, limits, transfers, the command line and the API take and
//! refuse the same ones, in the same words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use geodns_common::address;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, de};

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

/// Checks a prefix for one of the kernel's tries, which have both families in one space
/// ([`trie_key`]).
pub fn check_trie_prefix(prefix: IpNet) -> Result<(), String> {
    const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    match check(prefix)? {
        IpNet::V6(net) if net.contains(&MAPPED) => Err(format!(
            "{prefix} has all IPv4 addresses in it, mapped; write a longer one, as 2000::/3"
        )),
        _ => Ok(()),
    }
}

/// A prefix as the kernel's tries are indexed ([`address::trie_key`]): its address, IPv4 mapped, and length.
///
/// [`address::trie_key`]: geodns_common::address::trie_key
pub fn trie_key(prefix: &IpNet) -> ([u32; 4], u32) {
    match prefix {
        IpNet::V4(net) => {
            let mapped = net.network().to_ipv6_mapped();
            let len = 96 + u32::from(net.prefix_len());
            (address::trie_words(mapped.octets()), len)
        }
        IpNet::V6(net) => {
            let words = address::trie_words(net.network().octets());
            (words, net.prefix_len().into())
        }
    }
}

/// The IPv4 prefix that an IPv6 one of mapped addresses (`::ffff:a.b.c.d`) stands for. No query comes
/// from one.
pub fn mapped(net: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(net) = net else { return None };
    let len = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, len).ok()
}

#[cfg(test)]
mod tests;
