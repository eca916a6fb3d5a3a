//! The picture of `geodns top`: samples, counters and sketches of a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use domain::base::{Name, Rtype};
use geodns_common::abi::Order;
use geodns_common::address;
use geodns_common::layout::Sighting;
use geodns_common::verdict::{Tally, Verdict};
use ipnet::IpNet;

use crate::config::Config;
use crate::control::watch::{Latency, Share, Top};
use crate::observe::counters;

/// Rows of a list, at the most.
const ROWS: usize = 100;
/// Names and times that are kept for a picture, at the most: a flood may begin before the rate of samples is lowered.
const NAMES: usize = 8_192;
const TIMES: usize = 65_536;

/// Samples since the last picture, no more than come in a second.
#[derive(Debug, Default)]
pub struct Samples {
    all: u64,
    names: HashMap<(Vec<u8>, u16), u64>,
    /// By pool.
    regions: HashMap<(u32, u64), u64>,
    mirrors: HashMap<(u32, u32), u64>,
    times: Vec<u32>,
    /// Frames that a capture was too slow for.
    pub lost: u64,
}

impl Samples {
    pub fn add(&mut self, sighting: &Sighting) {
        self.all += 1;
        let octets: Vec<u8> = sighting
            .name
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        if let Some(name) = octets.get(..sighting.name_len as usize)
            && !name.is_empty()
        {
            let question = (name.to_vec(), sighting.qtype as u16);
            if self.names.len() < NAMES || self.names.contains_key(&question) {
                *self.names.entry(question).or_default() += 1;
            }
        }
        if sighting.verdict == Verdict::Answered as u32 {
            let pool = sighting.pool;
            *self.regions.entry((pool, sighting.order)).or_default() += 1;
            *self.mirrors.entry((pool, sighting.mirror)).or_default() += 1;
        }
        if self.times.len() < TIMES {
            self.times.push(sighting.took);
        }
    }

    /// Makes a picture of the samples and of the counts of the same time: `queries` that could be sampled, the
    /// program's counters (`counted`), the slow path's (`slow`), and the prefixes that asked most, each with its share.
    pub fn picture(
        mut self,
        config: &Config,
        time: Duration,
        queries: u64,
        counted: &[u64],
        slow: &BTreeMap<String, u64>,
        prefixes: &[(u64, f64)],
    ) -> Top {
        // Of those that were told, each stands for as many.
        let scale = queries as f64 / self.all.max(1) as f64;
        let scaled = |samples: u64| (samples as f64 * scale).round() as u64;
        let sum = |of: fn(Verdict) -> bool| -> u64 {
            let of = Verdict::ALL.iter().filter(|verdict| of(**verdict));
            of.map(|verdict| counted[*verdict as usize]).sum()
        };
        let over = Verdict::ALL.iter().filter(|verdict| verdict.has_budget());
        let over = over.map(|verdict| counters::over_budget(counted, *verdict));
        let by_name: [u64; geodns_common::verdict::COUNTERS] =
            std::array::from_fn(|at| counted.get(at).copied().unwrap_or(0));
        let by_name = counters::by_name(&by_name);
        let names = self.names.iter().map(|((name, qtype), samples)| Share {
            what: format!("{} {}", shown(name), Rtype::from_int(*qtype)),
            queries: scaled(*samples),
        });
        let regions = self.regions.iter().map(|((pool, order), samples)| Share {
            what: region(config, *pool, Order(*order)),
            queries: scaled(*samples),
        });
        let mirrors = self.mirrors.iter().map(|((pool, mirror), samples)| Share {
            what: member(config, *pool, *mirror as u8),
            queries: scaled(*samples),
        });
        let prefixes = prefixes.iter().map(|&(prefix, share)| Share {
            what: network(prefix).to_string(),
            queries: (share * queries as f64).round() as u64,
        });
        let verdicts = by_name
            .iter()
            .filter(|(name, _)| Tally::ALL.iter().all(|tally| tally.name() != name.as_str()));
        let verdicts = verdicts.map(|(name, count)| Share {
            what: name.clone(),
            queries: *count,
        });
        Top {
            seconds: time.as_secs_f64(),
            queries,
            answered: sum(Verdict::is_answer),
            passed: sum(Verdict::has_budget),
            dropped: sum(Verdict::is_drop) + over.sum::<u64>(),
            answered_in_userspace: slow
                .iter()
                .filter(|(name, _)| name.starts_with("rcode_"))
                .map(|(_, count)| count)
                .sum(),
            sampled: self.all,
            lost: by_name.get(Tally::WatchLost.name()).copied().unwrap_or(0) + self.lost,
            rcodes: most(rcodes(counted, slow).into_iter()),
            verdicts: most(verdicts),
            names: most(names),
            regions: most(regions),
            mirrors: most(mirrors),
            prefixes: most(prefixes),
            latency: latency(&mut self.times),
        }
    }
}

/// The most asked of a list.
fn most(list: impl Iterator<Item = Share>) -> Vec<Share> {
    let mut merged: HashMap<String, u64> = HashMap::new();
    for share in list {
        *merged.entry(share.what).or_default() += share.queries;
    }
    let list = merged.into_iter().filter(|(_, queries)| *queries > 0);
    let mut list: Vec<Share> = list
        .map(|(what, queries)| Share { what, queries })
        .collect();
    list.sort_by(|a, b| (Reverse(a.queries), &a.what).cmp(&(Reverse(b.queries), &b.what)));
    list.truncate(ROWS);
    list
}

/// Response codes of both paths.
fn rcodes(counted: &[u64], slow: &BTreeMap<String, u64>) -> Vec<Share> {
    let slipped = counted[Verdict::Slipped as usize];
    let by_limit = ("TC or BADCOOKIE, by the limit", slipped);
    let in_kernel = counters::rcodes(counted).into_iter().chain([by_limit]);
    let in_kernel = in_kernel.map(|(what, queries)| Share {
        what: what.to_owned(),
        queries,
    });
    let slow = slow.iter().filter_map(|(name, queries)| {
        Some(Share {
            what: name.strip_prefix("rcode_")?.to_ascii_uppercase(),
            queries: *queries,
        })
    });
    in_kernel.chain(slow).collect()
}

fn shown(name: &[u8]) -> String {
    match Name::from_slice(name) {
        Ok(name) if name.as_slice().len() == 1 => ".".to_owned(),
        Ok(name) => format!("{name}."),
        Err(_) => "?".to_owned(),
    }
}

/// A region: a pool, and the order of its members there.
fn region(config: &Config, pool: u32, order: Order) -> String {
    let members: Vec<String> = order.iter().map(|of| member(config, pool, of)).collect();
    let of = config
        .pools
        .get(pool as usize)
        .map_or("?", |pool| pool.id.as_str());
    match members.is_empty() {
        true => of.to_owned(),
        false => format!("{of}: {}", members.join(" > ")),
    }
}

fn member(config: &Config, pool: u32, member: u8) -> String {
    match config.pools.get(pool as usize) {
        Some(_) => config.mirror_id(pool as usize, member).to_owned(),
        None => "?".to_owned(),
    }
}

/// The network that [`address::prefix`] has as a number.
fn network(prefix: u64) -> IpNet {
    let (address, len): (IpAddr, u8) = match prefix & address::V6 {
        0 => (Ipv4Addr::from((prefix << 8) as u32).into(), 24),
        _ => {
            let high = u128::from(prefix << 8);
            (Ipv6Addr::from(high << 64).into(), 56)
        }
    };
    IpNet::new(address, len).unwrap_or_default()
}

/// How long the program took for sampled queries.
fn latency(times: &mut [u32]) -> Latency {
    times.sort_unstable();
    let quantile = |share: f64| {
        let place = (times.len() as f64 * share).ceil() as usize;
        times.get(place.max(1) - 1).copied().unwrap_or(0)
    };
    let mut below: BTreeMap<u32, u64> = BTreeMap::new();
    for time in times.iter() {
        let bound = time.saturating_add(1).checked_next_power_of_two();
        *below.entry(bound.unwrap_or(u32::MAX)).or_default() += 1;
    }
    Latency {
        p50_ns: quantile(0.5),
        p90_ns: quantile(0.9),
        p99_ns: quantile(0.99),
        most_ns: quantile(1.0),
        below_ns: below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_shown_as_networks() {
        let of = |address: IpAddr| match address {
            IpAddr::V4(v4) => {
                address::prefix([u64::from(u32::from_ne_bytes(v4.octets())), 0], false)
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                address::prefix([((bits >> 64) as u64).to_be(), (bits as u64).to_be()], true)
            }
        };
        for (address, shown) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2345::7", "2001:db8:1:2300::/56"),
        ] {
            assert_eq!(network(of(address.parse().unwrap())).to_string(), shown);
        }
    }

    #[test]
    fn times_are_put_in_order() {
        let mut times: Vec<u32> = (1..=100).rev().collect();
        let latency = latency(&mut times);
        assert_eq!(
            (
                latency.p50_ns,
                latency.p90_ns,
                latency.p99_ns,
                latency.most_ns
            ),
            (50, 90, 99, 100)
        );
        assert_eq!(latency.below_ns[&128], 37);
        assert_eq!(latency.below_ns.values().sum::<u64>(), 100);
    }

    #[test]
    fn what_is_asked_most_comes_first_and_alike_is_one() {
        let share = |what: &str, queries| Share {
            what: what.to_owned(),
            queries,
        };
        let list = [share("a", 1), share("b", 2), share("a", 2), share("c", 0)];
        assert_eq!(most(list.into_iter()), [share("a", 3), share("b", 2)]);
    }
}
