//! The steps from a question to its answer, each with its source.

use std::net::IpAddr;
use std::path::Path;

use domain::base::Rtype;
use geodns_common::abi::{self, Entry, Family, Order};
use geodns_common::tables;
use ipnet::IpNet;

use super::super::reasons::{Reasons, look_up};
use super::question::Question;
use crate::config::{self, Config, Cookies, Matches, Policy};
use crate::control::explain::{Candidate, Explanation, Step};
use crate::control::mirror::AdminState;
use crate::geo::{self, Prefix, Wanted};
use crate::plan::{Plan, Selection};
use crate::serve::lookup::{self, Found};
use crate::serve::subnet;
use crate::steering::{Reason, Whereabouts};
use crate::world::World;

/// An explanation in the making.
pub struct Explained<'a> {
    pub config: &'a Config,
    pub world: &'a World,
    pub plan: &'a Plan,
    pub question: &'a Question,
    /// A mirror is drawn for each query anew.
    pub drawn_anew: bool,
    pub explanation: Explanation,
}

impl Explained<'_> {
    fn step(&mut self, step: &str, says: impl Into<String>, from: impl Into<String>) {
        self.detailed(step, says, from, "");
    }

    /// A step of which the kernel's tables have a part.
    fn detailed(
        &mut self,
        step: &str,
        says: impl Into<String>,
        from: impl Into<String>,
        detail: impl Into<String>,
    ) {
        self.explanation.steps.push(Step {
            step: step.to_owned(),
            says: says.into(),
            from: from.into(),
            detail: detail.into(),
        });
    }

    /// A file, as short as the configuration's folder makes it.
    fn file(&self, file: &Path) -> String {
        let folder = self.config.path.parent();
        let short = folder.and_then(|folder| file.strip_prefix(folder).ok());
        short.unwrap_or(file).display().to_string()
    }

    /// A line of the configuration.
    fn line(&self, line: usize) -> String {
        format!("{}:{line}", self.file(&self.config.path))
    }

    /// Whether an answer of this size is given over UDP, while responses are limited.
    pub fn size(&mut self, octets: usize) {
        let rrl = &self.config.rrl;
        let most = rrl.nocookie_udp_size;
        let client = self.question.client;
        let is_bounded = rrl.rate > 0 && !rrl.dry_run;
        let is_exempt = || rrl.allow.iter().any(|prefix| prefix.contains(&client));
        if !is_bounded || octets <= most as usize || is_exempt() {
            return;
        }
        let which = match self.config.cookies {
            Cookies::Off => "every answer over UDP is TC",
            _ => "without a good cookie the answer over UDP is TC",
        };
        let says =
            format!("{octets} octets, over {most}: {which}, and the client asks again over TCP");
        self.step("size", says, "rrl.nocookie_udp_size");
    }

    /// The zone, and the records at the name.
    pub fn name(&mut self) {
        let (name, qtype) = (&self.question.name, self.question.qtype);
        let zones = self.world.zones.load();
        let Some((number, zone)) = lookup::zone(&zones, name.for_slice(), qtype) else {
            return self.step("zone", "none of ours: REFUSED", "");
        };
        let file = self.config.zones.iter().find(|file| file.name == zone.apex);
        let file = file
            .and_then(|zone| zone.file.as_deref())
            .map_or(String::new(), |file| self.file(file));
        let apex = zone.apex.fmt_with_dot().to_string();
        let says = format!("{apex}, serial {}", zone.serial());
        self.step("zone", says, file.clone());
        self.explanation.zone = Some(apex);
        if zones.is_catalog(number) {
            let says = "a catalog: REFUSED, but for those who may transfer it";
            return self.step("name", says, "");
        }
        match lookup::lookup(zone, name.for_slice(), qtype) {
            Found::Cut { owner, .. } => {
                let says = format!("delegated at {}: a referral", owner.fmt_with_dot());
                self.step("name", says, file);
            }
            Found::Dname { owner, .. } => {
                let says = format!("redirected by the DNAME at {}", owner.fmt_with_dot());
                self.step("name", says, file);
            }
            Found::Missing => self.step("name", "not in the zone: NXDOMAIN", file),
            Found::Node(node) => {
                let owner = node.name();
                match node.steer() {
                    Some(pool) => self.steered(owner, pool),
                    None if owner == name => {
                        self.step("name", "not steered: the zone file answers", file);
                    }
                    None => {
                        let says = format!(
                            "matches {}, which is not steered: the zone file answers",
                            owner.fmt_with_dot()
                        );
                        self.step("name", says, file);
                    }
                }
            }
        }
    }

    /// A steered name, and its pool.
    fn steered(&mut self, owner: &domain::base::Name<[u8]>, pool: usize) {
        let mut steers = self.config.steers.iter();
        let steer = steers.find(|steer| steer.name == *owner);
        let from = steer.map_or(String::new(), |steer| self.line(steer.line));
        let owner = owner.fmt_with_dot().to_string();
        let says = match owner.starts_with("*.") {
            true => format!("matches the wildcard {owner}, which is steered"),
            false => format!("{owner} is steered"),
        };
        self.step("name", says, from);
        self.explanation.steered = Some(owner);
        let of = &self.config.pools[pool];
        let says = format!("{}, policy {}", of.id, of.policy.name());
        self.step("pool", says, self.line(of.line));
        let alias = of.is_alias(self.config);
        let family = match self.question.qtype {
            Rtype::AAAA => Family::V6,
            Rtype::A => Family::V4,
            Rtype::ANY => return self.step("type", "ANY: a small answer", "RFC 8482"),
            _ if alias => Family::V4,
            qtype => {
                let says = format!("{qtype} of a steered name is the zone file's");
                return self.step("type", says, "");
            }
        };
        self.pool(pool, family);
    }

    /// Shows how a pool chooses for the client.
    fn pool(&mut self, asked: usize, family: Family) {
        let (client, why) = self.question.counts();
        let selection = self.plan.select(asked, family, client);
        if !selection.has_family {
            let says = "no mirror of the pool has such an address: no data, for everyone";
            return self.step("type", says, self.line(self.config.pools[asked].line));
        }
        let pool = selection.pool;
        if pool != asked {
            let says = format!(
                "{}: no mirror of {} is in service",
                self.config.pools[pool].id, self.config.pools[asked].id
            );
            self.step("fallback", says, self.line(self.config.pools[asked].line));
        }
        self.step("client", client.to_string(), why);
        let counted = self.plan.counted(pool, client);
        if counted != client {
            self.step("client", format!("counts as {counted}"), "6to4 or Teredo");
        }
        self.addresses(pool, client);
        let row = &self.plan.pools()[pool];
        self.drawn_anew = row.flags & abi::Pool::RANDOM != 0;
        if self.config.pools[pool].policy == Policy::All {
            self.all(&selection, family);
        } else {
            self.order(&selection, family, client, counted);
        }
        self.row(pool, family, client);
        self.scope(asked, &selection, family, client);
    }

    /// Fills the fields that programs of earlier versions read.
    fn addresses(&mut self, pool: usize, client: IpAddr) {
        let (config, plan) = (self.config, self.plan);
        let mirrors = |family| {
            let selection = plan.select(pool, family, client);
            let of = &config.pools[selection.pool].mirrors;
            let count = selection.mirrors.len();
            let numbers = (0..count).map(move |place| selection.mirrors[place]);
            numbers.map(move |mirror| &config.mirrors[of[usize::from(mirror)]])
        };
        let v4 = mirrors(Family::V4).flat_map(|mirror| mirror.v4.iter().copied().map(IpAddr::V4));
        let v6 = mirrors(Family::V6).flat_map(|mirror| mirror.v6.iter().copied().map(IpAddr::V6));
        let (a, aaaa) = (v4.collect(), v6.collect());
        let lookup = look_up(self.config, self.plan, pool, client);
        self.explanation.a = a;
        self.explanation.aaaa = aaaa;
        self.explanation.ttl = Some(self.plan.pools()[pool].ttl.load() as u32);
        self.explanation.lookup = Some(lookup);
    }

    fn all(&mut self, selection: &Selection, family: Family) {
        self.step("order", "every mirror, for everyone alike", "");
        let mirrors = 0..self.config.pools[selection.pool].mirrors.len() as u8;
        self.explanation.mirrors = mirrors
            .map(|mirror| self.candidate(selection, family, 0, mirror, None, "policy all"))
            .collect();
    }

    /// The order of members for a client, with the reason for the place of each.
    fn order(&mut self, selection: &Selection, family: Family, client: IpAddr, counted: IpAddr) {
        let pool = selection.pool;
        let of = &self.config.pools[pool];
        let known = Whereabouts::of(&self.plan.geography().lookup(counted).place);
        let reasons = Reasons::new(self.config, self.plan, pool, counted, &known);
        let origin = &reasons.origin;
        let id = |member: u8| self.config.mirror_id(pool, member).to_owned();
        let says = |prefix: IpNet, members: &[u8]| {
            let ids: Vec<_> = members.iter().copied().map(id).collect();
            format!("{prefix} -> {}", ids.join(", "))
        };
        let overriding = match origin.overriding {
            Some((prefix, member)) => (says(prefix, &[member]), "geodns map set"),
            None => ("none".to_owned(), "geodns map list"),
        };
        let listed = origin.listed.as_ref().map(|(prefix, members)| {
            let is_it = |rule: &&config::Rule| rule.matches == Matches::Prefix(*prefix);
            let from = match reasons.listed() {
                "import" => "geodns map import".to_owned(),
                "rule" => {
                    let rule = of.rules.iter().find(is_it);
                    rule.map_or(String::new(), |rule| self.line(rule.line))
                }
                _ => {
                    let file = of.prefixes.as_ref().map(|file| self.file(file));
                    file.unwrap_or_default()
                }
            };
            (reasons.listed(), says(*prefix, members), from)
        });
        self.step("override", overriding.0, overriding.1);
        if let Some((step, says, from)) = &listed {
            self.step(step, says.clone(), from.clone());
        } else if !self.plan.layers(pool).imported.is_empty() || of.prefixes.is_some() {
            self.step("list", "no prefix that covers the client", "");
        }
        self.databases(counted);
        if let Some(rule) = reasons.of.iter().find_map(|(_, reason)| match reason {
            Reason::Rule(matches) => of.rules.iter().find(|rule| rule.matches == *matches),
            _ => None,
        }) {
            let members: Vec<_> = rule.members.iter().map(|&member| id(member)).collect();
            let says = format!("{} -> {}", rule.matches, members.join(", "));
            self.step("rule", says, self.line(rule.line));
        }
        for &member in &reasons.kept_out {
            let mirror = of.mirrors.get(usize::from(member));
            let limits = mirror.map(|&mirror| &self.config.mirrors[mirror].limits);
            let limits = limits.map_or(String::new(), ToString::to_string);
            let says = format!("{} does not take the client: {limits}", id(member));
            self.step("limits", says, "mirror.only, mirror.never");
        }
        let (order, _) = self.plan.order(pool, family, Prefix::host(client));
        let members: Vec<_> = order.iter().map(id).collect();
        let depth = format!("depth {}", of.depth);
        self.step("order", members.join(", "), depth);
        self.region(pool, counted);

        let because = |member: u8| {
            let word = reasons.word(member);
            match reasons.of.iter().find(|(other, _)| *other == member) {
                Some((_, Reason::Rule(matches))) => format!("{word} {matches}"),
                Some(&(_, Reason::Distance(km, counts))) if (km - counts).abs() < 0.5 => {
                    format!("{word}, {km:.0} km")
                }
                Some((_, Reason::Distance(km, counts))) => {
                    format!("{word}, {km:.0} km, counts as {counts:.0}")
                }
                _ => word.to_owned(),
            }
        };
        self.explanation.mirrors = self.candidates(selection, family, client, order, because);
    }

    /// The mirrors that the members of an order come to.
    fn candidates(
        &self,
        selection: &Selection,
        family: Family,
        client: IpAddr,
        order: Order,
        because: impl Fn(u8) -> String,
    ) -> Vec<Candidate> {
        let (pool, row) = (selection.pool, &self.plan.pools()[selection.pool]);
        let of = &self.config.pools[pool];
        let draw = self.draw(row, client);
        let mut mirrors: Vec<(u8, Option<String>, String)> = Vec::new();
        for member in order.iter() {
            let Some(group) = member.checked_sub(abi::MAX_MIRRORS as u8) else {
                mirrors.push((member, None, because(member)));
                continue;
            };
            let slot = row.groups + u32::from(group) * abi::SLOTS + tables::slot(draw);
            let drawn: Vec<u8> = match self.plan.slots().get(slot as usize) {
                Some(&slot) if !self.drawn_anew => Order(slot).iter().collect(),
                _ => of.mirrors_of(member).to_vec(),
            };
            let id = self.config.mirror_id(pool, member);
            // The one group of a pool that is weighted itself is no pool of its own.
            let group = (id != of.id).then(|| id.to_owned());
            let because = match group {
                Some(_) => because(member),
                None => "weight".to_owned(),
            };
            mirrors.extend(
                drawn
                    .into_iter()
                    .map(|mirror| (mirror, group.clone(), because.clone())),
            );
        }
        let fallback = |mirror: u8| {
            (
                mirror,
                None,
                "none of the region's is in service".to_owned(),
            )
        };
        mirrors.extend(selection.mirrors.iter().copied().map(fallback));
        let mut seen = Vec::new();
        mirrors.retain(|(mirror, ..)| {
            let first = !seen.contains(mirror);
            seen.push(*mirror);
            first
        });
        mirrors
            .into_iter()
            .map(|(mirror, group, because)| {
                self.candidate(selection, family, draw, mirror, group, &because)
            })
            .collect()
    }

    /// A mirror, as the tables have it. The rest is filled in later.
    fn candidate(
        &self,
        selection: &Selection,
        family: Family,
        draw: u32,
        mirror: u8,
        group: Option<String>,
        because: &str,
    ) -> Candidate {
        let row = &self.plan.pools()[selection.pool];
        let mask = row.in_service[family.index()][tables::share(draw)].load();
        Candidate {
            mirror: self.config.mirror_id(selection.pool, mirror).to_owned(),
            group,
            because: because.to_owned(),
            has_records: row.has[family.index()] >> mirror & 1 != 0,
            in_row: mask >> mirror & 1 != 0,
            chosen: !self.drawn_anew && selection.mirrors.contains(&mirror),
            in_service: false,
            why: String::new(),
            admin: AdminState::Auto,
            weight: 0,
        }
    }

    fn draw(&self, row: &abi::Pool, client: IpAddr) -> u32 {
        if self.drawn_anew {
            return 0;
        }
        let host = Prefix::host(client);
        tables::draw(self.plan, row, host.family, &host.address())
    }

    /// The place of the client, database by database.
    fn databases(&mut self, client: IpAddr) {
        let geography = &self.world.inputs.geography;
        if geography.databases().next().is_none() {
            return;
        }
        let found = geography.lookup(client);
        if found.found.is_empty() {
            self.step("database", "nothing of this client", "");
        }
        for database in &found.found {
            let says = format!("{}: {}", database.network, place(&database.place));
            let file = self.file(&database.file);
            let from = match database.decides {
                Wanted::NOTHING => format!("{file}, which decides nothing"),
                decides => {
                    let names: Vec<_> = decides.names().collect();
                    format!("{file}: {}", names.join(", "))
                }
            };
            self.step("database", says, from);
        }
    }

    /// The region of a client, and the way to it.
    fn region(&mut self, pool: usize, client: IpAddr) {
        let Some(path) = self.plan.path(pool, client) else {
            return;
        };
        let mut way = format!(
            "atlas {}, root {}[{}]",
            path.atlas, path.root.0, path.root.1
        );
        for (block, at) in &path.blocks {
            way += &format!(", block {block}[{at}]");
        }
        if path.entry == Entry::DEEPER {
            return self.detailed(
                "region",
                "longer prefixes than /64: the slow path looks",
                "",
                way,
            );
        }
        let around = Prefix::host(client).around(path.entry.scope()).net();
        let says = format!("{}, all of {around}", path.entry.region());
        self.detailed("region", says, "", way);
    }

    /// The pool's row, and what is drawn for the client.
    fn row(&mut self, pool: usize, family: Family, client: IpAddr) {
        let row = &self.plan.pools()[pool];
        let draw = self.draw(row, client);
        let host = Prefix::host(client);
        let alike = host.around(tables::sticky_len(host.family)).net();
        let split = row.ttl.load() & abi::Pool::SPLIT != 0;
        let groups = row.flags & abi::Pool::GROUPS != 0;
        let share = tables::share(draw);
        let mut drawn = format!("share {share} of {}", abi::SHARES);
        if groups {
            drawn = format!("slot {} of {}, {drawn}", tables::slot(draw), abi::SLOTS);
        }
        let mask = row.in_service[family.index()][share].load() & row.has[family.index()];
        let numbers = (0..abi::MAX_MIRRORS as u8).filter(|&mirror| mask >> mirror & 1 != 0);
        let ids: Vec<_> = numbers
            .map(|mirror| self.config.mirror_id(pool, mirror))
            .collect();
        let ids = match &*ids {
            [] => "nobody".to_owned(),
            ids => ids.join(", "),
        };
        let ttl = row.ttl.load() as u32;
        let drained = if split { ", a drain is on" } else { "" };
        let says = format!("in service {ids}; TTL {ttl}{drained}");
        match self.drawn_anew {
            true => self.step("choice", "for each query anew, at random", ""),
            false if groups || split => {
                self.detailed("choice", format!("the same for all of {alike}"), "", drawn);
            }
            false => {}
        }
        self.detailed("service", says, "", format!("row of pool {pool}"));
    }

    /// The time that the answer may be kept, and its reason.
    fn scope(&mut self, asked: usize, selection: &Selection, family: Family, client: IpAddr) {
        let Some(ecs) = self.question.ecs else {
            return;
        };
        let host = Prefix::host(client);
        let (_, region) = self.plan.order(selection.pool, family, host);
        let (says, from) = if ecs.prefix_len() == 0 {
            ("/0".to_owned(), "an opt-out".to_owned())
        } else if subnet::special_purpose(ecs).is_some() {
            let scope = subnet::scope(self.plan, asked, family, ecs, selection);
            (format!("/{scope}"), "the special block".to_owned())
        } else if selection.scope > region {
            let from = format!(
                "the region's is /{region}; a mirror is chosen for each /{}",
                selection.scope
            );
            (format!("/{}", selection.scope), from)
        } else {
            (format!("/{}", selection.scope), "the region's".to_owned())
        };
        self.step("scope", says, from);
    }
}

/// A place in a line.
fn place(place: &geo::Place) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(place.city().map(str::to_owned));
    let subdivisions = place.subdivisions().iter();
    parts.extend(
        subdivisions
            .filter_map(|part| Some(part.code.as_ref().or(part.name.as_ref())?.to_string())),
    );
    parts.extend(place.country.map(|code| code.to_string()));
    parts.extend(place.continent.map(|code| code.to_string()));
    parts.extend(place.location.map(|at| format!("at {at}")));
    parts.extend(place.asn.map(|number| format!("AS{number}")));
    parts.extend(place.organisation().map(|name| format!("({name})")));
    match &*parts {
        [] => "nothing".to_owned(),
        parts => parts.join(" "),
    }
}
