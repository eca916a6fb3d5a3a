//! Which queries are dropped: rules by name, type and prefix, as operators say them, and how a query matches them.
//!
//! The kernel has the same rules in its own form ([`kernel::block`](crate::kernel::block)); what it does not see
//! (TCP, TLS, messages that it does not read) is matched here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::base::Rtype;
use geodns_common::block;
use geodns_common::layout;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::base::name::{Name, parse_name};
use crate::base::prefix;

/// Rules with a name or a type, at the most.
pub const MAX_NAMED: usize = block::MAX;
/// Rules of all kinds, at the most.
pub const MAX_RULES: usize = layout::BLOCK_COUNTERS as usize;

/// A rule as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// The name that is asked for.
    pub name: Option<String>,
    /// The name, or one below it, that is asked for.
    pub below: Option<String>,
    /// The type that is asked for, as `ANY` or `TYPE65280`.
    #[serde(rename = "type")]
    pub qtype: Option<String>,
    /// Where the query comes from.
    pub from: Option<IpNet>,
}

/// Conditions of a block rule, all of which a query must meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The name that is asked for.
    pub name: Option<Pattern>,
    /// The type that is asked for.
    pub qtype: Option<Rtype>,
    /// Where the query comes from; never what a client subnet says.
    pub from: Option<IpNet>,
}

/// A name, or it and all below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// In lower case.
    pub name: Name,
    /// Names below it match too.
    pub below: bool,
}

impl Rule {
    /// Understands a rule, or says what is wrong with it.
    pub fn new(said: &RuleText) -> Result<Self, String> {
        let (text, below) = match (&said.name, &said.below) {
            (Some(_), Some(_)) => {
                return Err("a name and names below one; write one of the two".to_owned());
            }
            (Some(name), None) => (Some(name), false),
            (None, below) => (below.as_ref(), true),
        };
        let name = match text {
            Some(text) => Some(Pattern {
                name: parse_name(text)?,
                below,
            }),
            None => None,
        };
        let qtype = match &said.qtype {
            Some(text) => Some(parse_type(text)?),
            None => None,
        };
        if let Some(from) = said.from {
            prefix::check_trie_prefix(from)?;
        }
        let rule = Self {
            name,
            qtype,
            from: said.from,
        };
        if rule.is_everything() {
            return Err(format!("{rule} is every query; say which"));
        }
        Ok(rule)
    }

    /// Whether it has a name or a type.
    pub fn is_named(&self) -> bool {
        self.name.is_some() || self.qtype.is_some()
    }

    /// Whether it matches every query of an address family.
    fn is_everything(&self) -> bool {
        let every_name = |pattern: &Pattern| pattern.below && pattern.name.len() == 1;
        self.qtype.is_none()
            && self.name.as_ref().is_none_or(every_name)
            && self.from.is_none_or(|from| from.prefix_len() == 0)
    }

    /// It, as it is said.
    pub fn text(&self) -> RuleText {
        let text = |below: bool| {
            let pattern = self.name.as_ref().filter(|pattern| pattern.below == below);
            pattern.map(|pattern| pattern.name.to_string())
        };
        RuleText {
            name: text(false),
            below: text(true),
            qtype: self.qtype.map(|qtype| qtype.to_string()),
            from: self.from,
        }
    }

    fn matches(&self, client: IpAddr, question: Option<(&[u8], Rtype)>) -> bool {
        if self.from.is_some_and(|from| !from.contains(&client)) {
            return false;
        }
        match question {
            None => !self.is_named(),
            Some((name, qtype)) => {
                self.qtype.is_none_or(|of| of == qtype)
                    && self.name.as_ref().is_none_or(|of| of.matches(name))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(Pattern { name, below }) = &self.name {
            let what = if *below { "below" } else { "name" };
            words.push(format!("{what} {name}"));
        }
        if let Some(qtype) = self.qtype {
            words.push(format!("type {qtype}"));
        }
        if let Some(from) = self.from {
            words.push(format!("from {from}"));
        }
        if words.is_empty() {
            words.push("a rule without a name, a type and a prefix".to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

impl Pattern {
    /// Whether a name on the wire matches.
    fn matches(&self, name: &[u8]) -> bool {
        let mut rest = name;
        loop {
            // Lengths of labels are no letters.
            if rest.eq_ignore_ascii_case(self.name.as_slice()) {
                return true;
            }
            match rest.split_first() {
                Some((&len, below)) if self.below && len != 0 => {
                    let Some(next) = below.get(usize::from(len)..) else {
                        return false;
                    };
                    rest = next;
                }
                _ => return false,
            }
        }
    }
}

/// A type by its mnemonic or number.
fn parse_type(text: &str) -> Result<Rtype, String> {
    match text.to_ascii_uppercase().parse() {
        Ok(qtype) if qtype != Rtype::from_int(0) => Ok(qtype),
        _ => Err(format!(
            "{text:?} is not a type: write it like ANY, TXT or TYPE65280"
        )),
    }
}

/// A rule in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Queries that it drops.
    pub rule: Rule,
    /// Number of its counter in the kernel, below [`MAX_RULES`].
    pub counter: u32,
    /// Queries that the slow path dropped.
    pub dropped: Arc<AtomicU64>,
}

/// All rules in force.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Those with a name or a type, those with the shortest names first.
    named: Vec<InForce>,
    /// Those that are a prefix alone.
    prefixes: HashMap<IpNet, InForce>,
    /// Lengths of these, and whether they are of IPv6.
    lens: BTreeSet<(bool, u8)>,
}

impl Blocks {
    /// These rules, no two of which are alike. Or what is too many.
    pub fn new(rules: Vec<InForce>) -> Result<Self, String> {
        let mut blocks = Self::default();
        for of in rules {
            match of.rule.from {
                Some(from) if !of.rule.is_named() => {
                    blocks.lens.insert((is_v6(from), from.prefix_len()));
                    blocks.prefixes.insert(from, of);
                }
                _ => blocks.named.push(of),
            }
        }
        if blocks.named.len() > MAX_NAMED {
            return Err(format!(
                "{} rules with a name or a type are more than {MAX_NAMED}; remove some",
                blocks.named.len()
            ));
        }
        if blocks.len() > MAX_RULES {
            return Err(format!(
                "{} rules are more than {MAX_RULES}; remove some",
                blocks.len()
            ));
        }
        let labels = |of: &InForce| of.rule.name.as_ref().map_or(0, |of| of.name.label_count());
        blocks.named.sort_by_key(labels);
        Ok(blocks)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.named.len() + self.prefixes.len()
    }

    /// Those with a name or a type, those with the shortest names first.
    pub fn named(&self) -> &[InForce] {
        &self.named
    }

    /// Those that are a prefix alone.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, &InForce)> {
        self.prefixes.iter().map(|(from, of)| (*from, of))
    }

    /// Whether a query is dropped, which is counted: name on the wire and type of its question, if one can be
    /// read.
    pub fn drops(&self, client: IpAddr, question: Option<(&[u8], Rtype)>) -> bool {
        if self.is_empty() {
            return false;
        }
        let longest = self.lens.iter().rev().find_map(|&(v6, len)| {
            let prefix = (v6 == client.is_ipv6()).then(|| IpNet::new(client, len));
            self.prefixes.get(&prefix?.ok()?.trunc())
        });
        let mut named = self.named.iter();
        let found = longest.or_else(|| named.find(|of| of.rule.matches(client, question)));
        if let Some(of) = found {
            of.dropped.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }
}

fn is_v6(prefix: IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

/// Counters of rules: each keeps its own for as long as it is in force.
#[derive(Clone, Debug, Default)]
pub struct Counters(HashMap<Rule, (u32, Arc<AtomicU64>)>);

impl Counters {
    /// Gives these rules their counters; of which of them the kernel's starts anew.
    pub fn assign(&mut self, rules: &[Rule]) -> (Vec<InForce>, Vec<u32>) {
        let wanted: HashSet<&Rule> = rules.iter().collect();
        self.0.retain(|rule, _| wanted.contains(rule));
        let taken: HashSet<u32> = self.0.values().map(|(counter, _)| *counter).collect();
        let mut free = (0..).filter(|counter| !taken.contains(counter));
        let mut fresh = Vec::new();
        let mut in_force = Vec::new();
        for rule in rules {
            let (counter, dropped) = self.0.entry(rule.clone()).or_insert_with(|| {
                let counter = free.next().unwrap_or_default();
                fresh.push(counter);
                (counter, Arc::default())
            });
            in_force.push(InForce {
                rule: rule.clone(),
                counter: *counter,
                dropped: Arc::clone(dropped),
            });
        }
        (in_force, fresh)
    }

    /// The counters of a rule in force: its number in the kernel, and what the slow path dropped.
    pub fn of(&self, rule: &Rule) -> Option<(u32, u64)> {
        let (counter, dropped) = self.0.get(rule)?;
        Some((*counter, dropped.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, below: &str, qtype: &str, from: &str) -> RuleText {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RuleText {
            name: some(name),
            below: some(below),
            qtype: some(qtype),
            from: some(from).map(|from| from.parse().unwrap()),
        }
    }

    fn blocks(rules: &[RuleText]) -> Blocks {
        let rules: Vec<Rule> = rules.iter().map(|said| Rule::new(said).unwrap()).collect();
        Blocks::new(Counters::default().assign(&rules).0).unwrap()
    }

    fn drops(blocks: &Blocks, client: &str, name: &str, qtype: Rtype) -> bool {
        let name: domain::base::Name<Vec<u8>> = name.parse().unwrap();
        blocks.drops(client.parse().unwrap(), Some((name.as_slice(), qtype)))
    }

    #[test]
    fn a_query_is_dropped_that_is_all_that_a_rule_says() {
        let blocks = blocks(&[
            said("www.example.org", "", "", ""),
            said("", "evil.test", "TXT", ""),
            said("", "", "ANY", "192.0.2.0/24"),
            said("", "", "", "203.0.113.0/24"),
            said("", "", "", "2001:db8::/32"),
            said(".", "", "NS", ""),
        ]);
        let any = "198.51.100.1";
        for (client, name, qtype, dropped) in [
            (any, "WWW.example.ORG", Rtype::A, true),
            (any, "a.www.example.org", Rtype::A, false),
            (any, "example.org", Rtype::A, false),
            (any, "evil.test", Rtype::TXT, true),
            (any, "a.b.EVIL.test", Rtype::TXT, true),
            (any, "a.b.evil.test", Rtype::A, false),
            (any, "notevil.test", Rtype::TXT, false),
            (any, "example.org", Rtype::ANY, false),
            ("192.0.2.9", "example.org", Rtype::ANY, true),
            ("192.0.2.9", "example.org", Rtype::A, false),
            ("203.0.113.77", "example.org", Rtype::A, true),
            ("203.0.112.77", "example.org", Rtype::A, false),
            ("2001:db8:1::1", "example.org", Rtype::A, true),
            ("2001:db9::1", "example.org", Rtype::A, false),
            (any, ".", Rtype::NS, true),
            (any, "org", Rtype::NS, false),
        ] {
            assert_eq!(
                drops(&blocks, client, name, qtype),
                dropped,
                "{client} {name} {qtype}"
            );
        }
        // Of a message without a question only where it comes from is known.
        assert!(blocks.drops("203.0.113.1".parse().unwrap(), None));
        assert!(!blocks.drops("192.0.2.1".parse().unwrap(), None));
        assert!(!Blocks::default().drops("192.0.2.1".parse().unwrap(), None));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        for (said, wrong) in [
            (
                said("", "", "", ""),
                "a rule without a name, a type and a prefix is every query; say which",
            ),
            (said("", ".", "", ""), "below . is every query; say which"),
            (
                said("", "", "", "0.0.0.0/0"),
                "from 0.0.0.0/0 is every query; say which",
            ),
            (
                said("a.test", "", "", "::/0"),
                "::/0 has all IPv4 addresses in it, mapped; write a longer one, as 2000::/3",
            ),
            (
                said("a.test", "b.test", "", ""),
                "a name and names below one; write one of the two",
            ),
            (
                said("", "", "NONE!", ""),
                "\"NONE!\" is not a type: write it like ANY, TXT or TYPE65280",
            ),
            (
                said("", "", "TYPE0", ""),
                "\"TYPE0\" is not a type: write it like ANY, TXT or TYPE65280",
            ),
            (
                said("", "", "", "192.0.2.1/24"),
                "192.0.2.1/24 has bits set past its length; write 192.0.2.0/24",
            ),
            (
                said("", "", "", "::ffff:192.0.2.0/120"),
                "::ffff:192.0.2.0/120 is of IPv4 addresses, mapped; write 192.0.2.0/24",
            ),
        ] {
            assert_eq!(Rule::new(&said).unwrap_err(), wrong);
        }
    }

    #[test]
    fn a_rule_keeps_its_counter() {
        let rule = |name: &str| Rule::new(&said(name, "", "", "")).unwrap();
        let (a, b, c) = (rule("a.test"), rule("b.test"), rule("c.test"));
        let mut counters = Counters::default();
        let (_, fresh) = counters.assign(&[a.clone(), b.clone()]);
        assert_eq!(fresh, [0, 1]);
        let (in_force, fresh) = counters.assign(&[c.clone(), b.clone()]);
        assert_eq!(fresh, [0]);
        assert_eq!(
            in_force.iter().map(|of| of.counter).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!((counters.of(&a), counters.of(&b)), (None, Some((1, 0))));
    }

    #[test]
    fn there_are_not_too_many() {
        let named = |number: usize| said(&format!("n{number}.test"), "", "", "");
        let rules = |count: usize| -> Vec<Rule> {
            (0..count).map(|n| Rule::new(&named(n)).unwrap()).collect()
        };
        let all = |count: usize| Blocks::new(Counters::default().assign(&rules(count)).0);
        assert_eq!(all(MAX_NAMED).unwrap().len(), MAX_NAMED);
        assert_eq!(
            all(MAX_NAMED + 1).unwrap_err(),
            "65 rules with a name or a type are more than 64; remove some"
        );
    }
}
