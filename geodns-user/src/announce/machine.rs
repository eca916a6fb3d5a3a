//! Settings of this machine that are in the way of an announcement, each as a warning.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::links::{Links, is_delivered};
use super::prefixes;
use crate::base::complaint::Error;
use crate::config::{self, Config, Mode};

/// Warnings for a configuration on this machine, if it has `[announce]`.
pub fn warnings(config: &Config) -> Vec<Error> {
    let (Some(announce), Ok(links)) = (&config.announce, Links::read()) else {
        return Vec::new();
    };
    let warning = |section: &str, key: &str, message: String| Error {
        file: config.path.clone(),
        line: config::line_of(&config.path, section, key),
        column: None,
        key: Some(format!("{section}.{key}")),
        message,
    };
    let mut warnings = Vec::new();
    let listen = || config.server.listen.iter().flatten().copied();
    let prefixes = prefixes(announce, listen(), &links);
    if prefixes.is_empty() {
        let message = "no address of it is on lo, so nothing is announced; add one (ip address add 192.0.2.53/32 dev \
                       lo), or set announce.prefixes";
        warnings.push(warning("server", "listen", message.to_owned()));
    }
    let is_announced = |address: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(address));
    for address in listen().filter(is_announced) {
        if !is_delivered(address) {
            let message = format!(
                "{address} is announced, and no interface of this machine has it; add it (ip address add {} dev lo)",
                IpNet::from(address)
            );
            warnings.push(warning("server", "listen", message));
        }
    }
    if config.server.listen.is_none() {
        for prefix in &prefixes {
            if !links
                .addresses
                .iter()
                .any(|address| prefix.contains(address))
            {
                let message = format!(
                    "no socket serves {prefix}: no interface of this machine has an address in it"
                );
                warnings.push(warning("announce", "prefixes", message));
            }
        }
    }
    let interfaces = &config.kernel.interfaces;
    if config.kernel.mode != Mode::Off && interfaces.len() > 1 {
        let strict = |name: &&String| rp_filter(name) == Some(1);
        if let Some(name) = interfaces.iter().find(strict) {
            let message = format!(
                "rp_filter of {name} is 1: with several interfaces the network stack drops queries that come in by \
                 another one than the answer would leave by, so TCP and the slow path fail; set \
                 net.ipv4.conf.all.rp_filter and net.ipv4.conf.{name}.rp_filter to 2 or 0"
            );
            warnings.push(warning("kernel", "interfaces", message));
        }
    }
    let on_lo = |prefix: &&IpNet| {
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        is_host && links.lo.contains(&prefix.addr())
    };
    if let Some(prefix) = prefixes.iter().find(on_lo)
        && runs_here("zebra")
    {
        let message = format!(
            "FRR runs here, and prefers the address {prefix} on lo to the route of geodns, so it never sees the \
             state; deliver the address by `ip route add local {prefix} dev lo` instead, or announce a shorter prefix"
        );
        warnings.push(warning("announce", "prefixes", message));
    }
    warnings
}

/// Whether a program follows the routes of this network namespace, as BIRD and FRR do. `None`: not known.
pub fn has_follower() -> Option<bool> {
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    Some(has_follower_among(&sockets))
}

/// The same, by what `/proc/net/netlink` shows: sockets with their family, and the groups that they are members of.
fn has_follower_among(sockets: &str) -> bool {
    /// `NETLINK_ROUTE`
    const ROUTE: &str = "0";
    /// `RTMGRP_IPV4_ROUTE` and `RTMGRP_IPV6_ROUTE`
    const GROUPS: u32 = 0x40 | 0x400;
    sockets.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, family, _, groups, ..] = words[..] else {
            return false;
        };
        let groups = u32::from_str_radix(groups, 16).unwrap_or(0);
        family == ROUTE && groups & GROUPS != 0
    })
}

/// The reverse path filter in force on an interface: the higher one of its own and that of all.
fn rp_filter(interface: &str) -> Option<u8> {
    let of = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        fs::read_to_string(path).ok()?.trim().parse::<u8>().ok()
    };
    of("all").max(of(interface))
}

/// Whether a program of this name runs in this network namespace.
fn runs_here(name: &str) -> bool {
    let namespace = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = namespace(Path::new("/proc/self"));
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        let comm = fs::read_to_string(process.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
            && own.is_some()
            && namespace(&process.path()) == own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_follows_routes_is_seen() {
        let head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
        let socket = |family: u32, groups: &str| {
            format!(
                "{head}00000000b98ecab5 {family}   731        {groups} 0        0        0     2        0        4\n"
            )
        };
        for (sockets, is) in [
            (head.to_owned(), false),
            (socket(0, "00000000"), false),
            // Links and addresses, as this daemon does.
            (socket(0, "00000111"), false),
            (socket(0, "00000551"), true),
            (socket(0, "00000400"), true),
            // Another family's.
            (socket(9, "00000040"), false),
        ] {
            assert_eq!(has_follower_among(&sockets), is, "{sockets}");
        }
        assert!(has_follower().is_some());
    }

    #[test]
    fn programs_of_this_machine_are_found_by_name() {
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(runs_here(own.trim()));
        assert!(!runs_here("no-such-program"));
    }
}
