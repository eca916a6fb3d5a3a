//! The address that a client subnet (RFC 7871) stands for, and the scope of its answer.
//!
//! A network is answered as its first address is, with that address's scope, be it shorter than the network or
//! longer. So answers to networks of any length never contradict each other: scopes of addresses nest only where
//! the answer is the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use geodns_common::abi::Family;
use geodns_common::subnet as special;
use ipnet::IpNet;

use crate::geo::{self, SIX_TO_FOUR, TEREDO};
use crate::plan::{Plan, Selection};

/// The address that decides; `None`: the subnet does not say where the client is, and the sender's address decides.
pub fn place(subnet: IpNet) -> Option<IpAddr> {
    special_purpose(subnet).is_none().then(|| subnet.network())
}

/// SCOPE PREFIX-LENGTH of the answer that a pool's selection gives to a client subnet.
pub fn scope(plan: &Plan, pool: usize, family: Family, subnet: IpNet, selection: &Selection) -> u8 {
    let Some(block) = special_purpose(subnet) else {
        return selection.scope;
    };
    // Whoever asks was selected for, who may be of the other family, where all clients are alike.
    let depends = selection.scope > 0 || plan.select(pool, family, block.network()).scope > 0;
    if depends { block.prefix_len() } else { 0 }
}

/// The block around a subnet's first address that says nothing about where a client is: special-purpose, and
/// without addresses of 6to4 and Teredo that say something. A client of these is where its IPv4 address is.
pub fn special_purpose(subnet: IpNet) -> Option<IpNet> {
    let first = subnet.network();
    let around = |len: u8| Some(IpNet::new(first, len).ok()?.trunc());
    let address = match first {
        IpAddr::V4(_) => {
            let mut blocks = special::SPECIAL_V4
                .iter()
                .map(|&(network, len)| (Ipv4Addr::from(network), len));
            let (_, len) = blocks.find(|&(network, len)| {
                IpNet::new(network.into(), len).is_ok_and(|block| block.contains(&first))
            })?;
            return around(len);
        }
        IpAddr::V6(address) => address,
    };
    let embedding = [SIX_TO_FOUR, TEREDO];
    if embedding.iter().any(|block| block.contains(&address)) {
        let embedded = geo::embedded(first.into())?;
        let len = special_purpose(embedded.into())?.prefix_len();
        return around(geo::embedded_at(first.into()) + len);
    }
    let high = special::SPECIAL_V6
        .iter()
        .map(|&(high, len)| (Ipv6Addr::from(u128::from(high) << 64), len));
    let low = [
        (Ipv6Addr::UNSPECIFIED, 128),
        (Ipv6Addr::LOCALHOST, 128),
        (Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96),
    ];
    let (network, len) = high.chain(low).find(|&(network, len)| {
        IpNet::new(network.into(), len).is_ok_and(|block| block.contains(&first))
    })?;
    let block = ipnet::Ipv6Net::new(network, len).ok()?;
    // As far as none of the others is in it.
    let apart = |other: &ipnet::Ipv6Net| {
        let common = (other.network().to_bits() ^ address.to_bits()).leading_zeros() as u8;
        block.contains(other).then_some(common + 1)
    };
    let nearest = embedding.iter().filter_map(apart).max();
    around(len.max(nearest.unwrap_or(0)))
}
