//! Configurations for BIRD and FRR that carry the routes of geodns to the neighbours. Pure.
//!
//! The metric of a route says how the node stands. Both turn 200 into the community GRACEFUL_SHUTDOWN (RFC 8326), and
//! 300 into a longer AS path.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::route::MAIN_TABLE;
use super::{LAST_RESORT, State};

/// How often the own AS is put before the path of a last resort.
const PREPENDS: usize = 3;

/// The announcement, and the neighbours that are to hear it.
#[derive(Clone, Debug)]
pub struct Snippet {
    /// Announced prefixes.
    pub prefixes: BTreeSet<IpNet>,
    /// Name of the device.
    pub device: String,
    /// Routing table.
    pub table: u32,
    /// Own AS.
    pub asn: u32,
    /// Addresses of neighbours, and their ASes.
    pub neighbours: Vec<(IpAddr, u32)>,
}

/// A family of addresses, as configurations spell it.
struct Family {
    digit: u8,
    is_v6: bool,
}

const FAMILIES: [Family; 2] = [
    Family {
        digit: 4,
        is_v6: false,
    },
    Family {
        digit: 6,
        is_v6: true,
    },
];

/// Metric of a node that drains.
fn draining() -> u32 {
    State::Draining.metric().unwrap_or(LAST_RESORT)
}

impl Snippet {
    fn of(&self, family: &Family) -> Vec<&IpNet> {
        let prefixes = self.prefixes.iter();
        let mut prefixes: Vec<_> = prefixes
            .filter(|prefix| prefix.addr().is_ipv6() == family.is_v6)
            .collect();
        prefixes.sort();
        prefixes
    }

    /// Neighbours, or one to put another in the place of.
    fn neighbours(&self, is_v6: bool) -> Vec<(String, u32)> {
        let neighbours = self.neighbours.iter();
        let of = neighbours.filter(|(address, _)| address.is_ipv6() == is_v6);
        of.map(|(address, asn)| (address.to_string(), *asn))
            .collect()
    }

    /// For BIRD 2, to be included by `bird.conf`.
    pub fn bird(&self) -> String {
        let Self {
            device, table, asn, ..
        } = self;
        let draining = draining();
        let mut text = format!(
            "# BIRD 2: carries the routes of geodns on {device}. `geodns announce config bird` has written it.\n\
             # It needs `protocol device {{}}` and a router id in bird.conf. A table has one kernel protocol for each\n\
             # family: if bird.conf has it already, add `learn` and the import there instead.\n\n"
        );
        let table = match *table {
            MAIN_TABLE => String::new(),
            table => format!(" kernel table {table};"),
        };
        let families = FAMILIES.iter().filter(|family| !self.of(family).is_empty());
        let families: Vec<&Family> = families.collect();
        for Family { digit, .. } in &families {
            let _ = writeln!(
                text,
                "protocol kernel geodns{digit} {{ learn;{table} ipv{digit} {{ import where ifname = \"{device}\"; \
                 export none; }}; }}"
            );
        }
        let prepends = format!("bgp_path.prepend({asn}); ").repeat(PREPENDS);
        let _ = writeln!(
            text,
            "\n# The metric is the state: up, draining (GRACEFUL_SHUTDOWN, RFC 8326), last resort.\n\
             function geodns_state() {{\n  \
               if krt_metric = {draining} then bgp_community.add((65535, 0));\n  \
               if krt_metric = {LAST_RESORT} then {{ {prepends}}}\n\
             }}"
        );
        for family in &families {
            let digit = family.digit;
            let list: Vec<String> = self.of(family).iter().map(ToString::to_string).collect();
            let _ = writeln!(
                text,
                "filter geodns_export{digit} {{\n  \
                   if ifname != \"{device}\" || net !~ [ {} ] then reject;\n  \
                   geodns_state();\n  accept;\n}}",
                list.join(", ")
            );
        }
        text.push_str(
            "\n# Quick to find out that a neighbour is gone: BFD if it speaks that, else a short hold time.\n\
             protocol bfd geodns_bfd { interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }\n",
        );
        for family in &families {
            let digit = family.digit;
            let session = |text: &mut String,
                           before: &str,
                           number: usize,
                           at: &str,
                           asn_of: u32| {
                let _ = writeln!(
                    text,
                    "{before}protocol bgp geodns_up{digit}_{number} {{\n\
                     {before}  local as {asn}; neighbor {at} as {asn_of}; bfd on;\n\
                     {before}  connect delay time 1; connect retry time 2; error wait time 1, 4;\n\
                     {before}  ipv{digit} {{ import none; export filter geodns_export{digit}; next hop self; }};\n\
                     {before}}}"
                );
            };
            let neighbours = self.neighbours(family.is_v6);
            if neighbours.is_empty() {
                let at = if family.is_v6 { "ROUTER6" } else { "ROUTER4" };
                session(&mut text, "# ", 1, at, 64_512);
            }
            for (number, (at, asn_of)) in neighbours.iter().enumerate() {
                session(&mut text, "", number + 1, at, *asn_of);
            }
        }
        text
    }

    /// For FRR, to be added to `frr.conf`. FRR takes routes of the main table alone.
    pub fn frr(&self) -> Result<String, String> {
        if self.table != MAIN_TABLE {
            return Err(format!(
                "FRR takes kernel routes of the main table alone, and announce.table is {}: set it to \"main\"",
                self.table
            ));
        }
        let Self { device, asn, .. } = self;
        let draining = draining();
        let up = State::Up.metric().unwrap_or_default();
        let mut text = format!(
            "! FRR: carries the routes of geodns on {device}. `geodns announce config frr` has written it.\n\
             ! bgpd, zebra and bfdd must run (/etc/frr/daemons). `frr defaults datacenter` is the first line of frr.conf:\n\
             ! the traditional ones wait up to 30 s before they tell of a change.\n"
        );
        let families = FAMILIES.iter().filter(|family| !self.of(family).is_empty());
        let families: Vec<&Family> = families.collect();
        let word = |family: &Family| if family.is_v6 { "ipv6" } else { "ip" };
        for family in &families {
            let (digit, ip) = (family.digit, word(family));
            for prefix in self.of(family) {
                let _ = writeln!(text, "{ip} prefix-list GEODNS{digit} permit {prefix}");
            }
        }
        text.push_str("!\n! The metric is the state: up, draining (RFC 8326), last resort.\n");
        let prepends = vec![asn.to_string(); PREPENDS].join(" ");
        let states = [
            (10, up, String::new()),
            (
                20,
                draining,
                " set community graceful-shutdown\n".to_owned(),
            ),
            (
                30,
                LAST_RESORT,
                format!(" set as-path prepend {prepends}\n"),
            ),
        ];
        for family in &families {
            let (digit, ip) = (family.digit, word(family));
            for (number, metric, set) in &states {
                let _ = write!(
                    text,
                    "route-map GEODNS{digit} permit {number}\n match {ip} address prefix-list GEODNS{digit}\n \
                     match metric {metric}\n{set}"
                );
            }
        }
        let _ = write!(
            text,
            "route-map GEODNS-NONE deny 10\n!\n\
             bfd\n profile geodns\n  receive-interval 100\n  transmit-interval 100\n  detect-multiplier 3\n!\n\
             router bgp {asn}\n no bgp default ipv4-unicast\n"
        );
        let or_example = |family: &Family| match self.neighbours(family.is_v6) {
            none if none.is_empty() => {
                let at = if family.is_v6 { "ROUTER6" } else { "ROUTER4" };
                vec![("! ", at.to_owned(), 64_512)]
            }
            some => some.into_iter().map(|(at, asn)| (" ", at, asn)).collect(),
        };
        for family in &families {
            for (before, at, asn_of) in or_example(family) {
                for line in [
                    format!("remote-as {asn_of}"),
                    "bfd profile geodns".to_owned(),
                    "timers connect 2".to_owned(),
                ] {
                    let _ = writeln!(text, "{before}neighbor {at} {line}");
                }
            }
        }
        for family in &families {
            let digit = family.digit;
            let _ = write!(
                text,
                " address-family ipv{digit} unicast\n  redistribute kernel route-map GEODNS{digit}\n"
            );
            for (before, at, _) in or_example(family) {
                for line in ["activate", "route-map GEODNS-NONE in"] {
                    let _ = writeln!(text, "{before} neighbor {at} {line}");
                }
            }
            text.push_str(" exit-address-family\n");
        }
        text.push_str("!\n");
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(neighbours: &[(&str, u32)]) -> Snippet {
        let prefixes = ["192.0.2.53/32", "2001:db8:53::53/128"];
        Snippet {
            prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
            device: "geodns0".to_owned(),
            table: MAIN_TABLE,
            asn: 65_053,
            neighbours: neighbours
                .iter()
                .map(|(at, asn)| (at.parse().unwrap(), *asn))
                .collect(),
        }
    }

    #[test]
    fn bird_turns_metrics_into_attributes_of_our_routes_alone() {
        let text = snippet(&[("10.77.1.1", 65_001)]).bird();
        for line in [
            "protocol kernel geodns4 { learn; ipv4 { import where ifname = \"geodns0\"; export none; }; }",
            "if krt_metric = 200 then bgp_community.add((65535, 0));",
            "bgp_path.prepend(65053); bgp_path.prepend(65053); bgp_path.prepend(65053);",
            "if ifname != \"geodns0\" || net !~ [ 2001:db8:53::53/128 ] then reject;",
            "\n  local as 65053; neighbor 10.77.1.1 as 65001; bfd on;",
            "# protocol bgp geodns_up6_1 {",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let other = Snippet {
            table: 53,
            ..snippet(&[])
        };
        assert!(other.bird().contains("learn; kernel table 53; ipv4"));
        assert!(other.frr().unwrap_err().contains("main"));
    }

    #[test]
    fn frr_has_a_part_for_each_family_that_is_announced() {
        let mut only_v4 = snippet(&[("10.77.1.1", 65_001)]);
        only_v4.prefixes.retain(|prefix| prefix.addr().is_ipv4());
        let text = only_v4.frr().unwrap();
        assert!(
            text.contains("set as-path prepend 65053 65053 65053\n"),
            "{text}"
        );
        assert!(
            text.contains("redistribute kernel route-map GEODNS4"),
            "{text}"
        );
        assert!(!text.contains("ipv6"), "{text}");
        assert!(
            snippet(&[])
                .frr()
                .unwrap()
                .contains("! neighbor ROUTER6 remote-as")
        );
    }
}
