//! Pools: their members and policies.
//!
//! - `rules`: the rules of policy "geo"

mod rules;

use std::collections::HashMap;
use std::net::IpAddr;

use geodns_common::abi::{self, Order};

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, Said};
use super::shape::nearest;
use super::validate::{MAX_TTL, the_pool_has, there_are};
use super::{Choice, Fail, Group, Location, Mirror, Policy, Pool, Steer};
use crate::base::name::parse_owner;

/// Indices by id.
type ById = HashMap<String, usize>;

/// A pool's members, with what their ids mean.
struct Members {
    mirrors: Vec<usize>,
    groups: Vec<Group>,
    /// Members by id: the groups, or the mirrors; with both, any.
    by_id: HashMap<String, u8>,
    /// Ids in the order of the configuration.
    ids: Vec<String>,
    /// In the order of the configuration.
    order: Vec<u8>,
}

impl Reader<'_> {
    /// All pools, and their indices by id.
    pub(super) fn pools(
        &self,
        file: &[file::Pool],
        mirrors: &[Mirror],
        mirror_by_id: &ById,
        site: Option<&Spanned<String>>,
    ) -> (Vec<Pool>, ById) {
        let mut by_id = ById::new();
        for (number, pool) in file.iter().enumerate() {
            let id = self.id(&pool.id, "pool.id");
            let id = id.unwrap_or_else(|Said| pool.id.get_ref().clone());
            if let Some(&first) = by_id.get(&id) {
                let line = self.source.line(file[first].id.span().start);
                let message = format!("{id:?} is already the pool of line {line}; rename one");
                self.complain(pool.id.span(), "pool.id", message);
                continue;
            }
            by_id.insert(id, number);
        }
        if let Some(site) = site
            && !mirror_by_id.contains_key(site.get_ref())
            && !by_id.contains_key(site.get_ref())
        {
            let message = format!(
                "no mirror or pool {:?}; {}",
                site.get_ref(),
                there_are(mirrors.iter().map(|mirror| &mirror.id), "[[mirror]]")
            );
            self.unknown(site.span(), "server.site", &["mirror", "pool"], message);
        }
        let mut pools = Vec::with_capacity(file.len());
        let mut sound = true;
        for pool in file {
            let site = site.map(Spanned::get_ref);
            let members = self.members(pool, file, &by_id, mirrors, mirror_by_id);
            let good = self.pool(pool, file, members, mirrors, &by_id, site);
            sound &= good.is_ok();
            // One of which nothing is known keeps the place, for those who name it.
            let alone = |Said| Pool::alone(pool.id.get_ref().clone(), Vec::new());
            pools.push(good.unwrap_or_else(alone));
        }
        if sound {
            self.fallbacks(file, &pools, mirrors);
        }
        self.locations(file);
        (pools, by_id)
    }

    fn pool(
        &self,
        file: &file::Pool,
        all: &[file::Pool],
        members: Judged<Members>,
        mirrors: &[Mirror],
        by_id: &ById,
        site: Option<&String>,
    ) -> Judged<Pool> {
        let id = file.id.get_ref().clone();
        let prefixes = file.prefixes.as_ref().and_then(|path| {
            let path = self.path(Some(path.clone()), "pool.prefixes", "");
            path.ok().map(|(path, _)| path)
        });
        let ttl = match &file.ttl {
            Some(ttl) => self.ttl(ttl, "pool.ttl", MAX_TTL).unwrap_or(MAX_TTL),
            None => 60,
        };
        let ttl_min = match &file.ttl_min {
            Some(least) => {
                let most = match file.ttl {
                    None if self.has_hole("pool", &least.span()) => MAX_TTL,
                    _ => ttl,
                };
                self.ttl(least, "pool.ttl_min", most).unwrap_or(0)
            }
            None => ttl / 2,
        };
        let choice = self.one_of(
            file.choice.clone(),
            "pool.choice",
            Choice::Client,
            &[("client", Choice::Client), ("query", Choice::Query)],
        );
        let choice = choice.unwrap_or(Choice::Client);
        let panic = match &file.panic {
            Some(share) if (0.0..=1.0).contains(share.get_ref()) => *share.get_ref(),
            Some(share) => {
                let message = format!("{} is no share; write 0 to 1, as 0.5", share.get_ref());
                self.complain(share.span(), "pool.panic", message);
                0.0
            }
            None => 0.0,
        };
        let fail = self.fail(file, all, by_id).unwrap_or(Fail::Open);
        let policy = self.policy(file);
        let rules = self.rules(file, policy, members.as_ref().ok());
        let (policy, members) = (policy?, members?);
        let nested = file.pools.is_some();
        if nested && matches!(policy, Policy::All | Policy::Weighted) {
            let message = format!(
                "policy {:?} chooses among mirrors; write mirrors instead of pools",
                policy.name()
            );
            return Err(self.misfit(file.policy.span(), "pool.policy", message));
        }
        self.unused(file, policy, nested);
        let limited = self.limited(file, policy, &members, mirrors)?;
        let aliases = members
            .mirrors
            .iter()
            .filter(|&&m| mirrors[m].cname.is_some());
        let aliases = aliases.count();
        if aliases > 0 && aliases < members.mirrors.len() {
            let message = format!(
                "pool {id:?} mixes mirrors with addresses and with a cname; a name cannot have both, \
                 make it two pools"
            );
            let (list, key) = match &file.pools {
                Some(list) => (Some(list), "pool.pools"),
                None => (file.mirrors.as_ref(), "pool.mirrors"),
            };
            let span = list.map_or(file.id.span(), Spanned::span);
            return Err(self.misfit(span, key, message));
        }
        let one_only = aliases > 0;
        if one_only && policy == Policy::All && members.mirrors.len() > 1 {
            let message = "a name can be an alias of one other only; choose another policy";
            return self.error(file.policy.span(), "pool.policy", message.to_owned());
        }
        let most = match policy {
            _ if one_only => 1,
            Policy::All => members.mirrors.len(),
            // A region is an order of so many.
            _ => members.mirrors.len().min(Order::LEN),
        };
        let answers = match &file.answers {
            Some(answers) => {
                let answers = self.number(answers.clone(), "pool.answers", 1, most as u32);
                answers.unwrap_or(1) as u16
            }
            None if policy == Policy::All => most as u16,
            None => 1,
        };
        let depth = match &file.depth {
            Some(depth) => {
                let most = Order::LEN as u32;
                let depth = self.number(depth.clone(), "pool.depth", u32::from(answers), most);
                depth.unwrap_or(1) as u8
            }
            None => (answers as u8).max(3),
        };
        let default = self.default(file, policy, &members, mirrors, site);
        let default = default.unwrap_or_default();
        if policy == Policy::Nearest {
            self.located(file, &members, mirrors).ok();
        }
        let mut groups = members.groups;
        if policy == Policy::Weighted {
            groups.push(Group {
                id: id.clone(),
                mirrors: (0..members.mirrors.len() as u8).collect(),
                policy,
                location: None,
            });
        }
        Ok(Pool {
            fail,
            line: self.source.line(file.id.span().start),
            id,
            mirrors: members.mirrors,
            limited,
            groups,
            policy,
            default,
            prefixes,
            rules,
            ttl,
            ttl_min,
            answers,
            depth,
            choice,
            panic,
            of: None,
        })
    }

    fn policy(&self, file: &file::Pool) -> Judged<Policy> {
        let name = file.policy.get_ref();
        match Policy::NAMES.iter().find(|(known, _)| known == name) {
            Some(&(_, policy)) => Ok(policy),
            None => {
                let known: Vec<_> = Policy::NAMES
                    .iter()
                    .map(|(name, _)| format!("{name:?}"))
                    .collect();
                let near = Policy::NAMES.iter().map(|(name, _)| *name);
                let near = nearest(name, near).map(|near| format!("did you mean {near:?}? "));
                let message = format!(
                    "no policy {name:?}; {}there are {}",
                    near.unwrap_or_default(),
                    known.join(", ")
                );
                self.error(file.policy.span(), "pool.policy", message)
            }
        }
    }

    /// Mask of the mirrors that do not take every client. The policy must ask where a client is, and some mirror must
    /// be left for the clients whom no other takes, by family.
    fn limited(
        &self,
        file: &file::Pool,
        policy: Policy,
        members: &Members,
        mirrors: &[Mirror],
    ) -> Judged<u64> {
        let (key, list) = match &file.pools {
            Some(list) => ("pool.pools", list.span()),
            None => {
                let list = file.mirrors.as_ref();
                ("pool.mirrors", list.map_or(file.id.span(), Spanned::span))
            }
        };
        let mut limited = 0;
        let (mut has, mut open) = ([false; 2], [false; 2]);
        for (number, &mirror) in members.mirrors.iter().enumerate() {
            let mirror = &mirrors[mirror];
            let families = [!mirror.v4.is_empty(), !mirror.v6.is_empty()];
            let families = families.map(|has| has || mirror.cname.is_some());
            for (family, of) in families.into_iter().enumerate() {
                has[family] |= of;
                open[family] |= of && mirror.limits.are_none();
            }
            if mirror.limits.are_none() {
                continue;
            }
            limited |= 1 << number;
            if !members.groups.is_empty() || matches!(policy, Policy::All | Policy::Weighted) {
                let what = match members.groups.is_empty() {
                    true => format!("policy {:?}", policy.name()),
                    false => "a pool of pools".to_owned(),
                };
                let message = format!(
                    "{:?} has only or never, which {what} does not ask for; choose policy \"nearest\", \
                     \"geo\", \"table\", \"failover\" or \"site\" with mirrors, or remove them",
                    mirror.id
                );
                return Err(self.misfit(list, key, message));
            }
        }
        for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
            if limited == 0 || !has[family] || open[family] {
                continue;
            }
            let message = match open[1 - family] {
                true => format!(
                    "each mirror with {name} addresses has only or never, and other clients would get none; add \
                     such addresses to one that takes every client"
                ),
                false => {
                    "each mirror has only or never, and other clients would get none; add a mirror \
                          without them"
                        .to_owned()
                }
            };
            return Err(self.misfit(list, key, message));
        }
        Ok(limited)
    }

    /// Keys that a policy has no use for are mistakes.
    fn unused(&self, file: &file::Pool, policy: Policy, nested: bool) {
        use Policy::{All, Geo, Nearest, Table, Weighted};
        let drawn = policy == Weighted || nested;
        let unused = |key: &str, span, what: &str| {
            let message = format!("not used with policy {:?}; {what}", policy.name());
            self.misfit(span, key, message);
        };
        if let Some(key) = &file.default
            && !matches!(policy, Table | Geo | Nearest)
        {
            unused(
                "pool.default",
                key.span(),
                "remove it, or set policy to \"table\"",
            );
        }
        if let Some(key) = &file.prefixes
            && policy == All
        {
            unused(
                "pool.prefixes",
                key.span(),
                "remove it, or set policy to \"table\"",
            );
        }
        if let Some(key) = &file.rules
            && !matches!(policy, Geo | Nearest)
        {
            unused(
                "pool.rules",
                key.span(),
                "remove them, or set policy to \"geo\"",
            );
        }
        if let Some(key) = &file.depth
            && policy == All
        {
            unused("pool.depth", key.span(), "remove it");
        }
        if let Some(key) = &file.choice
            && !drawn
        {
            unused(
                "pool.choice",
                key.span(),
                "remove it, or set policy to \"weighted\"",
            );
        }
    }

    /// The mirrors of a pool, or those of the pools that it is made of.
    fn members(
        &self,
        pool: &file::Pool,
        file: &[file::Pool],
        by_id: &ById,
        mirrors: &[Mirror],
        mirror_by_id: &ById,
    ) -> Judged<Members> {
        let id = pool.id.get_ref();
        let mut members = Members {
            mirrors: Vec::new(),
            groups: Vec::new(),
            by_id: HashMap::new(),
            ids: Vec::new(),
            order: Vec::new(),
        };
        let list = match (&pool.mirrors, &pool.pools) {
            (Some(list), None) => {
                self.add_mirrors(id, list, mirrors, mirror_by_id, &mut members)?;
                members.ids = members
                    .mirrors
                    .iter()
                    .map(|&m| mirrors[m].id.clone())
                    .collect();
                members.order = (0..members.mirrors.len() as u8).collect();
                list
            }
            (None, Some(list)) => list,
            (Some(_), Some(list)) => {
                let message = "a pool has mirrors or pools, not both; remove one";
                return self.error(list.span(), "pool.pools", message);
            }
            (None, None) => {
                let message = format!("missing; pool {id:?} needs mirrors, or pools");
                return Err(self.misfit(pool.id.span(), "pool.mirrors", message));
            }
        };
        if pool.pools.is_some() {
            if list.get_ref().is_empty() {
                let message = format!("pool {id:?} has none; name some");
                return self.error(list.span(), "pool.pools", message);
            }
            let mut judged = Ok(());
            for inner in list.get_ref() {
                let added =
                    self.add_group(id, inner, file, by_id, mirrors, mirror_by_id, &mut members);
                judged = judged.and(added);
            }
            judged?;
        }
        for (number, &mirror) in members.mirrors.iter().enumerate() {
            members
                .by_id
                .insert(mirrors[mirror].id.clone(), number as u8);
        }
        for (number, group) in members.groups.iter().enumerate() {
            let member = Order::group(number as u8);
            if members.by_id.insert(group.id.clone(), member).is_some() {
                let message = format!(
                    "{:?} is a mirror in it and a pool; where {id:?} names it, either could be \
                     meant: rename one",
                    group.id
                );
                return self.error(list.span(), "pool.pools", message);
            }
        }
        Ok(members)
    }

    /// Adds the mirrors of a list.
    fn add_mirrors(
        &self,
        pool: &str,
        list: &Spanned<Vec<Spanned<String>>>,
        mirrors: &[Mirror],
        by_id: &ById,
        members: &mut Members,
    ) -> Judged<()> {
        const KEY: &str = "pool.mirrors";
        if list.get_ref().is_empty() {
            return self.error(
                list.span(),
                KEY,
                format!("pool {pool:?} has none; name some"),
            );
        }
        let total = members.mirrors.len() + list.get_ref().len();
        if total > abi::MAX_MIRRORS {
            let message = format!(
                "pool {pool:?} has {total}; at most {} fit, make it several pools",
                abi::MAX_MIRRORS
            );
            return self.error(list.span(), KEY, message);
        }
        // Two records with the same address would be one (RFC 2181 section 5).
        let mut owners: HashMap<IpAddr, usize> = HashMap::new();
        for &mirror in &members.mirrors {
            owners.extend(mirrors[mirror].addresses().map(|address| (address, mirror)));
        }
        let mut judged = Ok(());
        for id in list.get_ref() {
            let mut wrong = |message| judged = self.error(id.span(), KEY, message);
            let Some(&mirror) = by_id.get(id.get_ref()) else {
                let message = format!(
                    "no mirror {:?}; {}",
                    id.get_ref(),
                    there_are(mirrors.iter().map(|mirror| &mirror.id), "[[mirror]]")
                );
                judged = Err(self.unknown(id.span(), KEY, &["mirror"], message));
                continue;
            };
            if members.mirrors.contains(&mirror) {
                wrong(format!("{:?} stands here twice; remove one", id.get_ref()));
                continue;
            }
            for address in mirrors[mirror].addresses() {
                if let Some(other) = owners.insert(address, mirror) {
                    wrong(format!(
                        "{:?} and {:?} both have {address}; mirrors of one pool need addresses of their own",
                        mirrors[other].id,
                        id.get_ref()
                    ));
                    break;
                }
            }
            members.mirrors.push(mirror);
        }
        judged
    }

    /// Adds a nested pool.
    #[expect(clippy::too_many_arguments, reason = "all that ids may refer to")]
    fn add_group(
        &self,
        pool: &str,
        id: &Spanned<String>,
        file: &[file::Pool],
        by_id: &ById,
        mirrors: &[Mirror],
        mirror_by_id: &ById,
        members: &mut Members,
    ) -> Judged<()> {
        const KEY: &str = "pool.pools";
        let Some(&inner) = by_id.get(id.get_ref()) else {
            let message = format!(
                "no pool {:?}; {}",
                id.get_ref(),
                there_are(file.iter().map(|pool| pool.id.get_ref()), "[[pool]]")
            );
            return Err(self.unknown(id.span(), KEY, &["pool"], message));
        };
        if members.groups.iter().any(|group| group.id == *id.get_ref()) {
            let message = format!("{:?} stands here twice; remove one", id.get_ref());
            return self.error(id.span(), KEY, message);
        }
        let inner = &file[inner];
        let policy = self.policy(inner)?;
        let Some(list) = inner
            .mirrors
            .as_ref()
            .filter(|_| matches!(policy, Policy::Weighted | Policy::Failover | Policy::All))
        else {
            let message = format!(
                "pool {:?} cannot be a part of pool {pool:?}: only pools of mirrors with policy \
                 \"weighted\", \"failover\" or \"all\" can",
                id.get_ref()
            );
            return Err(self.misfit(id.span(), KEY, message));
        };
        let first = members.mirrors.len();
        self.add_mirrors(pool, list, mirrors, mirror_by_id, members)?;
        let location = match &inner.location {
            Some(location) => Some(self.location(location, "pool.location")),
            None => members.mirrors[first..]
                .iter()
                .find_map(|&m| mirrors[m].location),
        };
        members.order.push(Order::group(members.groups.len() as u8));
        members.ids.push(id.get_ref().clone());
        members.groups.push(Group {
            id: id.get_ref().clone(),
            mirrors: (first as u8..members.mirrors.len() as u8).collect(),
            policy,
            location,
        });
        Ok(())
    }

    /// The order where nothing is known of a client: what `default` names, or the policy puts first,
    /// then the rest.
    fn default(
        &self,
        file: &file::Pool,
        policy: Policy,
        members: &Members,
        mirrors: &[Mirror],
        site: Option<&String>,
    ) -> Judged<Vec<u8>> {
        const KEY: &str = "pool.default";
        let id = file.id.get_ref();
        let mut first = Vec::new();
        match (&file.default, policy) {
            (Some(default), _) => {
                let span = default.span();
                let ids = match default.get_ref() {
                    toml::Value::String(id) => vec![id.clone()],
                    toml::Value::Array(ids) if !ids.is_empty() => {
                        let ids = ids.iter().map(|id| id.as_str().map(str::to_owned));
                        match ids.collect::<Option<Vec<_>>>() {
                            Some(ids) => ids,
                            None => {
                                let message = "not a list of ids; write [\"a\", \"b\"]".to_owned();
                                return self.error(span, KEY, message);
                            }
                        }
                    }
                    _ => {
                        let message =
                            "neither an id nor a list of some; write \"a\" or [\"a\", \"b\"]";
                        return self.error(span, KEY, message.to_owned());
                    }
                };
                for other in ids {
                    let Some(&member) = members.by_id.get(&other) else {
                        let message = format!(
                            "no mirror {other:?} in pool {id:?}; {}",
                            the_pool_has(members.ids.iter())
                        );
                        self.complain(span.clone(), KEY, message);
                        continue;
                    };
                    if first.contains(&member) {
                        let message = format!("{other:?} stands here twice; remove one");
                        self.complain(span.clone(), KEY, message);
                        continue;
                    }
                    first.push(member);
                }
            }
            (None, Policy::Table | Policy::Geo) => {
                let message = format!(
                    "missing; policy {:?} needs a mirror for clients that {}; {}",
                    policy.name(),
                    if policy == Policy::Table {
                        "are in no prefix"
                    } else {
                        "no rule is for"
                    },
                    the_pool_has(members.ids.iter())
                );
                return Err(self.misfit(file.policy.span(), KEY, message));
            }
            (None, Policy::Weighted) => return Ok(vec![Order::group(0)]),
            (None, Policy::Site) => {
                let Some(site) = site else {
                    let message = "policy \"site\" needs server.site, the mirror that this node \
                                   stands beside; set it, or choose another policy";
                    let span = file.policy.span();
                    return Err(self.unknown(span, "pool.policy", &["server"], message));
                };
                return self.site_order(file, members, mirrors, site);
            }
            (None, _) => {}
        }
        first.extend(
            members
                .order
                .iter()
                .filter(|member| !first.contains(member))
                .collect::<Vec<_>>(),
        );
        Ok(first)
    }

    /// The site's own member first, then the others by their distance from it.
    fn site_order(
        &self,
        file: &file::Pool,
        members: &Members,
        mirrors: &[Mirror],
        site: &str,
    ) -> Judged<Vec<u8>> {
        let mirror = mirrors.iter().find(|mirror| mirror.id == site);
        let own = members.by_id.get(site).copied();
        if mirror.is_none() && own.is_none() {
            let message = format!(
                "server.site {site:?} is neither a mirror nor a part of this pool; {}",
                the_pool_has(members.ids.iter())
            );
            return self.error(file.policy.span(), "pool.policy", message);
        }
        let here = own
            .and_then(|own| members.location(own, mirrors))
            .or(mirror.and_then(|mirror| mirror.location));
        let mut order = members.order.clone();
        order.retain(|&member| Some(member) != own);
        if let Some(here) = here {
            // Without a place of its own a mirror is the last.
            let distance = |&member: &u8| {
                let there = members.location(member, mirrors);
                there.map_or(f64::INFINITY, |there| here.distance(there))
            };
            order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        }
        Ok(own.into_iter().chain(order).collect())
    }

    /// Whether every member has a place.
    fn located(&self, file: &file::Pool, members: &Members, mirrors: &[Mirror]) -> Judged<()> {
        let without = |&&member: &&u8| members.location(member, mirrors).is_none();
        let Some(&member) = members.order.iter().find(without) else {
            return Ok(());
        };
        let place = members
            .order
            .iter()
            .position(|&other| other == member)
            .unwrap_or(0);
        let message = format!(
            "policy \"nearest\" needs to know where {:?} is; give it a location = {{ lat = ..., lon = ... }}",
            members.ids[place]
        );
        let sections = ["mirror", "pool"];
        Err(self.unknown(file.policy.span(), "pool.policy", &sections, message))
    }

    fn fail(&self, file: &file::Pool, all: &[file::Pool], by_id: &ById) -> Judged<Fail> {
        let word = file.fail.as_ref().map(|fail| fail.get_ref().as_str());
        if let Some(fallback) = &file.fallback
            && word != Some("fallback")
        {
            let message = "only with fail = \"fallback\"; set it, or remove the key";
            return Err(self.misfit(fallback.span(), "pool.fallback", message));
        }
        let Some(fail) = &file.fail else {
            return Ok(Fail::Open);
        };
        match (fail.get_ref().as_str(), &file.fallback) {
            ("open", _) => Ok(Fail::Open),
            ("closed", _) => Ok(Fail::Closed),
            ("fallback", Some(id)) => match by_id.get(id.get_ref()) {
                Some(&pool) => Ok(Fail::Fallback(pool)),
                None => {
                    let message = format!(
                        "no pool {:?}; {}",
                        id.get_ref(),
                        there_are(all.iter().map(|pool| pool.id.get_ref()), "[[pool]]")
                    );
                    Err(self.unknown(id.span(), "pool.fallback", &["pool"], message))
                }
            },
            ("fallback", None) => {
                let message = "missing; fail = \"fallback\" needs the pool to fall back to";
                Err(self.misfit(fail.span(), "pool.fallback", message))
            }
            (other, _) => {
                let message =
                    format!("no such word {other:?}; write \"open\" or \"closed\" or \"fallback\"");
                self.error(fail.span(), "pool.fail", message)
            }
        }
    }

    /// Whether each fallback leads somewhere else, to records of the same kind.
    fn fallbacks(&self, file: &[file::Pool], pools: &[Pool], mirrors: &[Mirror]) {
        let is_alias = |pool: &Pool| pool.mirrors.iter().any(|&m| mirrors[m].cname.is_some());
        let mut circles: Vec<usize> = Vec::new();
        for (number, pool) in pools.iter().enumerate() {
            let span = || file[number].fallback.as_ref().map_or(0..0, Spanned::span);
            let mut at = pool;
            let mut seen = vec![number];
            while let Fail::Fallback(next) = at.fail {
                if seen.contains(&next) {
                    // Who leads into a circle that has been said is no error of its own.
                    let is_said = seen.iter().any(|pool| circles.contains(pool));
                    circles.extend(&seen);
                    if is_said {
                        break;
                    }
                    let path: Vec<_> = seen.iter().map(|&pool| pools[pool].id.as_str()).collect();
                    let message = format!(
                        "{} leads back to {}; let one fail open or closed",
                        path.join(" to "),
                        pools[next].id
                    );
                    self.complain(span(), "pool.fallback", message);
                    break;
                }
                seen.push(next);
                at = &pools[next];
                if is_alias(at) != is_alias(pool) {
                    let (this, other) = match is_alias(at) {
                        true => ("a cname", "addresses"),
                        false => ("addresses", "a cname"),
                    };
                    let message = format!(
                        "pool {:?} has {this} where the other has {other}; a name cannot have \
                         both, name another pool",
                        at.id
                    );
                    self.complain(span(), "pool.fallback", message);
                    break;
                }
            }
        }
    }

    /// Whether each pool with a place is part of another: alone it has no use for it.
    fn locations(&self, file: &[file::Pool]) {
        let parts: Vec<&str> = file
            .iter()
            .filter_map(|pool| pool.pools.as_ref())
            .flat_map(|list| list.get_ref().iter().map(|id| id.get_ref().as_str()))
            .collect();
        for pool in file {
            if let Some(location) = &pool.location
                && !parts.contains(&pool.id.get_ref().as_str())
            {
                let message = format!(
                    "only for a pool that is part of another, and {:?} is not; remove it",
                    pool.id.get_ref()
                );
                // The other's list may be what was taken out.
                let others = file
                    .iter()
                    .all(|pool| pool.mirrors.is_some() || pool.pools.is_some());
                if others {
                    self.unknown(location.lat.span(), "pool.location", &["pool"], message);
                }
            }
        }
    }

    /// The names that pools give to each of their mirrors: a pool of just that mirror, steered to.
    pub(super) fn names(
        &self,
        file: &[file::Pool],
        mirrors: &[Mirror],
        pools: &mut Vec<Pool>,
        steers: &mut Vec<Steer>,
    ) {
        const KEY: &str = "pool.names";
        for (number, pool) in file.iter().enumerate() {
            let Some(template) = &pool.names else {
                continue;
            };
            if !template.get_ref().contains("{mirror}") {
                let message = format!(
                    "{:?} would name every mirror alike; write {{mirror}} where its id is to stand",
                    template.get_ref()
                );
                self.complain(template.span(), KEY, message);
                continue;
            }
            for mirror in pools[number].mirrors.clone() {
                let id = &mirrors[mirror].id;
                let text = template.get_ref().replace("{mirror}", id);
                let name = match parse_owner(&text) {
                    Ok(name) => name,
                    Err(message) => {
                        self.complain(template.span(), KEY, message);
                        break;
                    }
                };
                if let Some(other) = steers.iter().find(|steer| steer.name == name) {
                    let message = format!(
                        "{name} is already steered by line {}; change the template",
                        other.line
                    );
                    self.complain(template.span(), KEY, message);
                    break;
                }
                let line = self.source.line(template.span().start);
                steers.push(Steer {
                    name,
                    pool: pools.len(),
                    line,
                });
                let of = &pools[number];
                pools.push(Pool {
                    ttl: of.ttl,
                    ttl_min: of.ttl,
                    of: Some(number),
                    line,
                    // No id of a pool or a mirror has a slash.
                    ..Pool::alone(format!("{}/{id}", of.id), vec![mirror])
                });
            }
        }
    }
}

impl Pool {
    /// One that gives everyone all of its mirrors.
    fn alone(id: String, mirrors: Vec<usize>) -> Self {
        Self {
            id,
            default: (0..mirrors.len() as u8).collect(),
            mirrors,
            limited: 0,
            groups: Vec::new(),
            policy: Policy::All,
            prefixes: None,
            rules: Vec::new(),
            ttl: 60,
            ttl_min: 60,
            answers: 1,
            depth: 1,
            choice: Choice::Client,
            fail: Fail::Open,
            panic: 0.0,
            of: None,
            line: 0,
        }
    }
}

impl Members {
    /// Where a member is.
    fn location(&self, member: u8, mirrors: &[Mirror]) -> Option<Location> {
        match usize::from(member).checked_sub(abi::MAX_MIRRORS) {
            Some(group) => self.groups[group].location,
            None => mirrors[self.mirrors[usize::from(member)]].location,
        }
    }
}

#[cfg(test)]
mod tests;
