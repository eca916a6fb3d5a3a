//! Reasons for the order of mirrors that a client gets. `map get` and `explain` both show them.

use std::net::IpAddr;

use geodns_common::abi::Family;
use ipnet::IpNet;

use crate::config::{Config, Matches, Policy};
use crate::control::map::Lookup;
use crate::plan::Selection;
use crate::plan::{Origin, Plan};
use crate::steering::{Reason, Steering, Whereabouts};

/// The reasons for the place of each mirror (or nested pool) in a client's order.
pub struct Reasons {
    /// The prefixes that match.
    pub origin: Origin,
    /// Members of the order, and why.
    pub of: Vec<(u8, Reason)>,
    /// Members that limits keep out of the order.
    pub kept_out: Vec<u8>,
    /// The source of the listed prefix.
    listed: &'static str,
    is_weighted: bool,
}

impl Reasons {
    /// The reasons for a client, by the address that counts, with all that is known of its place.
    pub fn new(
        config: &Config,
        plan: &Plan,
        pool: usize,
        counted: IpAddr,
        known: &Whereabouts,
    ) -> Self {
        let of = &config.pools[pool];
        let origin = plan.origin(pool, counted);
        let listed = origin.listed.as_ref();
        // A rule goes before a line of the list with the same prefix.
        let is_rule = listed.is_some_and(|(prefix, _)| {
            let prefix = Matches::Prefix(*prefix);
            !origin.imported && of.rules.iter().any(|rule| rule.matches == prefix)
        });
        let members = listed.map_or(&[][..], |(_, members)| members);
        let member = origin.overriding.map(|(_, member)| member);
        let steering = Steering::of(of, &config.mirrors);
        let client = steering.client(known, counted);
        Self {
            of: steering.reasons(&client, members, member),
            kept_out: steering.kept_out(&client, members, member),
            listed: match (origin.imported, is_rule) {
                (true, _) => "import",
                (false, true) => "rule",
                (false, false) => "list",
            },
            origin,
            is_weighted: of.policy == Policy::Weighted,
        }
    }

    /// The source of the listed prefix: `import`, `rule` or `list`.
    pub fn listed(&self) -> &'static str {
        self.listed
    }

    /// The reason for the place of a member, in a word.
    pub fn word(&self, member: u8) -> &'static str {
        match self.of.iter().find(|(other, _)| *other == member) {
            Some((_, Reason::Override)) => "override",
            Some((_, Reason::Listed)) => self.listed,
            Some((_, Reason::Rule(_))) => "rule",
            Some((_, Reason::Distance(..))) => "nearest",
            Some((_, Reason::Default)) if self.is_weighted => "weight",
            Some((_, Reason::Default)) => "default",
            None => "the table alone",
        }
    }

    /// The reason for the first member: its prefix, if it has one, and the word.
    pub fn first(&self) -> (Option<IpNet>, &'static str) {
        let Some((member, reason)) = self.of.first() else {
            return (None, "default");
        };
        let prefix = match reason {
            Reason::Override => self.origin.overriding.map(|(prefix, _)| prefix),
            Reason::Listed => self.origin.listed.as_ref().map(|(prefix, _)| *prefix),
            _ => None,
        };
        (prefix, self.word(*member))
    }
}

/// Looks a client up in a pool.
pub fn look_up(config: &Config, plan: &Plan, pool: usize, client: IpAddr) -> Lookup {
    let ids = |selection: &Selection| {
        let mirrors = selection.mirrors.iter();
        mirrors
            .map(|&mirror| config.mirror_id(pool, mirror).to_owned())
            .collect()
    };
    let v4 = plan.select(pool, Family::V4, client);
    let v6 = plan.select(pool, Family::V6, client);
    let (prefix, source) = match config.pools[pool].policy {
        Policy::All => (None, "all"),
        _ => {
            let counted = plan.counted(pool, client);
            let known = Whereabouts::of(&plan.geography().lookup(counted).place);
            Reasons::new(config, plan, pool, counted, &known).first()
        }
    };
    Lookup {
        pool: config.pools[pool].id.clone(),
        mirrors: ids(&v4),
        mirrors_v6: ids(&v6),
        scope: v4.scope,
        prefix,
        source: source.to_owned(),
    }
}
