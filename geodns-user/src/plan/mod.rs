//! Everything the kernel needs, compiled: names, prefix table, rows, answers.
//!
//! The plan in memory is the truth that the slow path answers from; the maps are a copy of it.
//!
//! - `names`: the name table
//! - `sets`: what stands at a name, rendered
//! - `edit`: the same of a zone that has changed
//! - [`heat`]: which names are worth a place in it, of zones that are not in it whole
//! - `rows`: zones, pools, answers
//! - `alias`: what the targets of aliases point to
//! - `runs`: layers to prefixes with one order of mirrors
//! - `atlas`: those to entries of a prefix table, whole or as an edit
//! - `blocks`: where the entries are kept; `atlases`: all tables, and their roots
//! - `selection`: what a client gets
//! - `store`: one write to the tables
//! - [`moves`]: what a new plan would move
//! - `path`: the way of an address through them
//! - here: which pools share an atlas, and edits as ordered stores
//!
//! # How the tables are compiled
//!
//! `geodns_common::abi` has their layouts.
//!
//! - **Names.** A keyed hash of the lowercased wire name finds a slot: 128 bits of NH, the universal hash of UMAC (RFC
//!   4418), which takes an eighth of SipHash's instructions and needs only a secret key. `[0, 1]` marks a slot in use
//!   by no name, so no name's hash begins with 0. The table holds every owner, empty non-terminal and cut of every
//!   complete zone. So the program finds the closest encloser of any name, applies the wildcard there (RFC 4592), or
//!   knows that the name does not exist. A name is a pool, a set, or `Pass`: a zone cut, a DNAME, or a name below one.
//!   Absent names below `Pass` are passed, too. Names move only within a closed zone.
//! - **Incomplete zones.** Past `kernel.max_names` a zone is incomplete: the table has its apex, its steered names and
//!   the names between, and passes wildcards and absent names.
//! - **Promotion** moves the most-asked names of incomplete zones into the table and out of it while packets run. The
//!   slow path samples the queries that it got only because their name was not in the table (`serve/asked`, one query
//!   of each batch). The program counts its answers for such a name in an octet of the name's row, up to 255. Each
//!   second `heat` compares both and decides, and `daemon/promote` moves names: it takes some out, waits for a grace
//!   period, then puts others in. The slot of a name that has gone becomes empty only if the slot behind it is empty.
//! - **Sets** hold the records of a zone file at a name: a head, a word for each type, and the rendered records with
//!   their TTL. An RRset over 480 octets is listed without its records, and passed. A CNAME that leads into a zone of
//!   ours is passed for other types, and the slow path follows it. A CNAME that leads elsewhere answers for every type.
//!   A steered name with other records has a set that names its pool.
//! - **Pointers.** Names in records are compressed by one rule ([`compress`](crate::compress)). Both paths agree
//!   because a record is rendered with only that part of the question's name which is known beforehand. For a name of
//!   the zone file that is the whole name, and its pointers are constants. For a wildcard it is the name above it, and
//!   for the SOA of a negative answer it is the apex. Questions of any length end in these, so their pointers lack the
//!   length of the question's name: the set or the zone's row says where they stand, and the fast path adds it. A
//!   pool answers for several names, those of pools that fall back to it among them. Its alias points to the end that
//!   all these names share. The table has the alias written out, and the fast path puts the pointer in the end's place.
//! - **Zones.** NXDOMAIN is given only where the bit *complete* is set and *pass* is not. With *pass* all is passed.
//! - **Atlases.** Blocks are shared by content. A leaf is a region and a scope. A longer IPv6 prefix than /64 is marked
//!   `DEEPER`, and the slow path resolves it from the layers. So it does for 6to4 and Teredo where lists or places
//!   count: such a client is where its IPv4 address is. Pools that agree share an atlas until an override parts them.
//! - **Layers** of a pool: the configuration's list and rules by prefix, then the last `map import`, then each `map
//!   set`. A prefix of a list holds a number of two octets, which stands for a member or for an order of several. Each
//!   order is kept once, so a prefix takes 8 octets (IPv4) or 32 (IPv6), whatever it names. Below the layers lie the
//!   GeoIP databases, which are walked along with them: rules, then distance. An order is worked out once for each
//!   place. An edit looks only at its own window of the databases.
//! - **Slots.** A client's /24 or /56 draws one of 1,024, the same on every node; with `choice = "query"` chance does.
//!   Weighted rendezvous hashing orders each slot: a mirror draws `-ln(u) / weight`, where u is a hash of its id and
//!   the slot, and the lowest is first. A change of one weight moves only what that mirror takes or gives.
//! - **Shares.** Other bits of the same draw part a pool's clients in 32. Each share has its own mask of the mirrors in
//!   service, by family. A drain takes share by share, and nothing else differs between them.
//!
//! # How a zone changes in place
//!
//! [`Plan::close_zone`], [`Plan::edit_zone`], [`Plan::open_zone`]: while its names are edited, a zone is closed in the
//! kernel (its `pass` bit). A grace period passes before the first edit, so that no packet is half-way through the old
//! version. Another passes before the zone is opened, so that no packet that has met half of the new one sees it open.
//! The zone's own names may move a slot to make room; those of other zones never do.

mod alias;
mod atlas;
mod atlases;
mod blocks;
mod edit;
pub mod heat;
pub mod moves;
mod names;
mod path;
mod rows;
mod runs;
mod selection;
mod sets;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use domain::base::{Name, Rtype};
use geodns_common::abi::{self, Entry, Family, Rate, Row};
use geodns_common::tables::{self, Tables};
use geodns_common::{layout, wire};
use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use self::atlas::{Regions, SharedTables};
use self::atlases::{ATLAS_ENTRIES, ATLAS_PAGES, Atlas, Atlases, root_of};
use self::blocks::{Blocks, Full};
pub use self::edit::Unwanted;
use self::names::Names;
pub use self::path::Path;
use self::rows::Rows;
use self::runs::{Pieces, Source};
pub use self::selection::{Mirrors, Origin, Selection};
pub use self::store::{NameWord, PoolRow, Store};
use crate::base::prefix;
use crate::config::{Config, Policy, Pool, Rrl};
use crate::geo::{self, Geography, Layers, Listed, Prefix};
use crate::steering::{Service, Steering};
use crate::zone::Zones;

/// Inputs of a plan.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// Zones, steered names marked.
    pub zones: &'a Zones,
    /// Where clients are; empty where there are no databases.
    pub geography: &'a Arc<Geography>,
    /// Layers of each pool.
    pub layers: &'a [Layers],
    /// Number of the plan.
    pub generation: u64,
    /// NSID (RFC 5001); `None`: there is none, and the slow path answers who asks for it.
    pub nsid: Option<&'a str>,
    /// Seed of the key of the hash over names.
    pub hash_seed: [u64; 2],
}

/// How many of each the tables hold: what a plan needs, and a quarter more for edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Slots of the name table, a power of two.
    pub names: u32,
    /// Zones.
    pub zones: u32,
    /// Pools.
    pub pools: u32,
    /// Answers.
    pub answers: u32,
    /// Pages of the shelves.
    pub shelves: u32,
    /// Slots of groups.
    pub slots: u32,
    /// Regions.
    pub regions: u32,
    /// Pages of roots.
    pub roots: u32,
    /// Blocks below the roots.
    pub blocks: u32,
}

/// Why an edit could not be made in place.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The tables are full: compile a new plan.
    #[error("the tables are full")]
    Outgrown,
}

/// Why a plan cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// More of something than the tables can name.
    #[error("{0}")]
    TooMany(String),
}

/// A compiled plan.
#[derive(Clone, Debug)]
pub struct Plan {
    settings: abi::Settings,
    /// Prefixes that are never limited.
    exempt: Vec<([u32; 4], u32)>,
    /// The mirrors of all pools, where answers are counted by mirror.
    mirror_ids: Vec<u64>,
    names: Names,
    zones: Vec<abi::Zone>,
    rows: Rows,
    /// The part of the pools' configuration that is about choosing.
    pools: Vec<ChosenBy>,
    geography: Arc<Geography>,
    atlases: Atlases,
    blocks: Blocks,
    regions: Regions,
}

/// The source of a pool's mirrors.
#[derive(Clone, Debug)]
enum ChosenBy {
    /// The atlas of this number.
    Atlas(u32),
    /// Nothing: everyone gets all. The layers are kept, in case they are asked for.
    All(Layers),
}

/// Blocks at the most: 4 GiB of them.
const MAX_BLOCKS: u32 = 1 << 26;
/// Room for edits where a quarter of the needs would be less.
const SPARE_BLOCKS: u32 = 16_384;
const SPARE_REGIONS: u32 = 1024;
/// Atlases that pools may part into before a new plan is compiled. Half a MiB each.
const SPARE_ATLASES: u32 = 4;

impl Plan {
    /// Compiles.
    pub fn compile(input: Input<'_>) -> Result<Self, CompileError> {
        let max_names = input.config.kernel.max_names;
        let names = Names::compile(input.zones, input.hash_seed, max_names)?;
        let rows = Rows::compile(input.config)?;
        let mut settings = abi::Settings {
            hash_key: names.key,
            generation: input.generation,
            name_mask: names.slots.len() as u32 - 1,
            port: input.config.server.port,
            walk: names.complete.contains(&true).into(),
            ..abi::Settings::default()
        };
        let is_counted = input.config.metrics.is_some();
        if is_counted {
            settings.mirror_pages = rows.mirrors().div_ceil(layout::MIRROR_PAGE).max(1);
        }
        if let Some(nsid) = input.nsid {
            settings.set_nsid(nsid.as_bytes());
        }
        settings.limit = limit(&input.config.rrl, input.hash_seed);
        let passed = input.config.kernel.pass_limit;
        // A tenth of a second's at once: the clock ticks each 1 to 10 ms.
        settings.budget = Rate::new(passed, passed / 10);
        let mut plan = Self {
            settings,
            exempt: input
                .config
                .rrl
                .allow
                .iter()
                .map(prefix::trie_key)
                .collect(),
            mirror_ids: match is_counted {
                true => mirror_ids(input.config).collect(),
                false => Vec::new(),
            },
            zones: rows::zones(input.zones, &names.complete, input.generation),
            names,
            rows,
            pools: Vec::with_capacity(input.config.pools.len()),
            geography: Arc::clone(input.geography),
            atlases: Atlases {
                capacity: u32::MAX / ATLAS_PAGES as u32,
                ..Atlases::default()
            },
            blocks: Blocks::new(MAX_BLOCKS),
            regions: Regions::new(Entry::MAX_REGIONS),
        };
        for (pool, layers) in input.config.pools.iter().zip(input.layers) {
            plan.add_pool(input.config, pool, layers.clone())
                .map_err(|Full| {
                    CompileError::TooMany(format!(
                        "the prefixes of pool \"{}\" make more than the prefix table can hold; \
                     list fewer or shorter ones",
                        pool.id
                    ))
                })?;
        }
        plan.blocks.commit();
        plan.set_capacity();
        plan.names.shelves.set_capacity(plan.names.room);
        Ok(plan)
    }

    fn add_pool(&mut self, config: &Config, pool: &Pool, mut layers: Layers) -> Result<(), Full> {
        if layers.overrides.keys().any(|net| *net != net.trunc()) {
            let overrides = std::mem::take(&mut layers.overrides).into_iter();
            layers.overrides = overrides.map(|(net, m)| (net.trunc(), m)).collect();
        }
        let number = self.pools.len();
        if pool.policy == Policy::All {
            self.pools.push(ChosenBy::All(layers));
            return Ok(());
        }
        let steering = Steering::of(pool, &config.mirrors);
        let alike = |other: &Layers| *other == layers;
        let atlas = match self.atlases.find(&steering, alike) {
            Some(atlas) => {
                self.atlases.get_mut(atlas).users += 1;
                atlas
            }
            None => {
                let lists = [&layers.base, &layers.imported];
                let atlas = Atlas {
                    wanted: steering.wanted(),
                    embedded: steering.is_geographic() || lists.iter().any(|list| !list.is_empty()),
                    steering: Arc::new(steering),
                    layers,
                    users: 1,
                };
                self.add_atlas(atlas)?
            }
        };
        self.pools.push(ChosenBy::Atlas(atlas));
        self.rows.pools[number].atlas.set(atlas.into());
        Ok(())
    }

    /// Builds an atlas.
    fn add_atlas(&mut self, atlas: Atlas) -> Result<u32, Full> {
        let number = self.atlases.allocate()?;
        let entries = self.atlases.entries_mut(number);
        for family in [Family::V4, Family::V6] {
            let shared = SharedTables {
                blocks: &mut self.blocks,
                regions: &mut self.regions,
            };
            let root = &mut entries[root_of(family)];
            atlas::build(shared, atlas.source(&self.geography), family, root)?;
        }
        for &entry in &*entries {
            self.blocks.link(entry);
        }
        self.atlases.atlases[number as usize] = Some(atlas);
        Ok(number)
    }

    /// Sets the room that edits have.
    fn set_capacity(&mut self) {
        let blocks = self.blocks.used();
        let regions = self.regions.as_slice().len() as u32;
        let atlases = self.atlases.atlases.len() as u32;
        let by_atlas = |by: &&ChosenBy| matches!(by, ChosenBy::Atlas(_));
        let pools = self.pools.iter().filter(by_atlas).count() as u32;
        self.blocks
            .set_capacity(blocks + (blocks / 4).max(SPARE_BLOCKS));
        self.regions
            .set_capacity((regions + (regions / 4).max(SPARE_REGIONS)).min(Entry::MAX_REGIONS));
        // Only pools that share one can part, so atlases never outnumber pools.
        self.atlases.capacity = atlases + (pools - atlases).min(SPARE_ATLASES);
    }

    /// The atlases that pools use, by number, each with its pools.
    pub fn atlases(&self) -> BTreeMap<u32, Vec<usize>> {
        let mut atlases: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (pool, by) in self.pools.iter().enumerate() {
            if let ChosenBy::Atlas(number) = by {
                atlases.entry(*number).or_default().push(pool);
            }
        }
        atlases
    }

    /// Bytes of all atlases: roots, blocks and regions in use.
    pub fn atlas_bytes(&self) -> u64 {
        let roots = size_of_val(self.roots());
        let blocks = self.blocks.used() as usize * size_of::<abi::Block>();
        (roots + blocks + size_of_val(self.regions())) as u64
    }

    /// How large the tables of this plan are.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            names: self.names.slots.len() as u32,
            zones: self.zones.len() as u32,
            pools: self.rows.pools.len() as u32,
            answers: self.rows.answers.len() as u32,
            shelves: self.names.shelves.capacity() as u32,
            slots: self.rows.slots.len() as u32,
            regions: self.regions.capacity(),
            roots: self.atlases.capacity * ATLAS_PAGES as u32,
            blocks: self.blocks.capacity(),
        }
    }

    /// Slots of the name table.
    pub fn names(&self) -> &[abi::Name] {
        &self.names.slots
    }

    /// Zones.
    pub fn zones(&self) -> &[abi::Zone] {
        &self.zones
    }

    /// Pools.
    pub fn pools(&self) -> &[abi::Pool] {
        &self.rows.pools
    }

    /// Answers.
    pub fn answers(&self) -> &[abi::Answer] {
        &self.rows.answers
    }

    /// Pages of the shelves.
    pub fn shelves(&self) -> &[abi::Shelf] {
        &self.names.shelves.pages
    }

    /// Slots of groups.
    pub fn slots(&self) -> &[u64] {
        &self.rows.slots
    }

    /// Regions in use.
    pub fn regions(&self) -> &[u64] {
        self.regions.as_slice()
    }

    /// Blocks of roots in use.
    pub fn roots(&self) -> &[abi::Page] {
        &self.atlases.roots
    }

    /// Blocks in use below the roots, free ones among them.
    pub fn blocks(&self) -> &[abi::Block] {
        self.blocks.as_slice()
    }

    /// Where clients are.
    pub fn geography(&self) -> &Arc<Geography> {
        &self.geography
    }

    /// Layers of a pool.
    pub fn layers(&self, pool: usize) -> &Layers {
        match &self.pools[pool] {
            ChosenBy::Atlas(number) => &self.atlases.get(*number).layers,
            ChosenBy::All(layers) => layers,
        }
    }

    /// Which mirrors a client of a pool gets for a family: what the kernel's tables say, and what
    /// the layers say where they end.
    pub fn select(&self, pool: usize, family: Family, client: IpAddr) -> Selection {
        self.select_of(pool, family, client, false)
    }

    /// As [`Plan::select`], with all mirrors in service that the client's order has, however many an answer has.
    pub fn rank(&self, pool: usize, family: Family, client: IpAddr) -> Selection {
        self.select_of(pool, family, client, true)
    }

    fn select_of(&self, pool: usize, family: Family, client: IpAddr, all: bool) -> Selection {
        let has_family = self.rows.pools[pool].has[family.index()] != 0;
        let pool = match tables::answered_by(&self.rows.pools[pool], family) as usize {
            other if has_family => other,
            _ => pool,
        };
        let mut row = &self.rows.pools[pool];
        let with_all;
        if all {
            with_all = abi::Pool {
                count: abi::MAX_MIRRORS as u16,
                ..row.clone()
            };
            row = &with_all;
        }
        let mut selection = Selection {
            pool,
            mirrors: Mirrors::NONE,
            scope: 0,
            has_family,
            ttl: row.ttl.load() as u32,
        };
        if !has_family {
            // RFC 7871 section 7.4: a negative answer is for everyone.
            return selection;
        }
        let host = Prefix::host(client);
        let (order, region) = self.order(pool, family, host);
        let draw = tables::draw(self, row, host.family, &host.address());
        let mut chosen = [0; abi::MAX_MIRRORS];
        let count = tables::choose(self, row, family, order, draw, &mut chosen).unwrap_or(0);
        selection.mirrors = Mirrors {
            count: count as u8,
            numbers: chosen.map(|mirror| mirror as u8),
        };
        if count > 0 {
            let drawn = tables::is_drawn(row, row.ttl.load());
            selection.scope = tables::scope(row, drawn, host.family, region);
        }
        selection
    }

    /// Order and scope of a client's region.
    pub fn order(&self, pool: usize, family: Family, host: Prefix) -> (abi::Order, u8) {
        let row = &self.rows.pools[pool];
        if row.flags & abi::Pool::ALL != 0 {
            return (abi::Order::EMPTY, 0);
        }
        tables::find_order(self, row, family, host.family, &host.address())
            .unwrap_or_else(|| self.order_deep(pool, host))
    }

    /// Order and scope for an address where the table is [`Entry::DEEPER`]: no region there is
    /// larger than what the entry stands for.
    fn order_deep(&self, pool: usize, host: Prefix) -> (abi::Order, u8) {
        let ChosenBy::Atlas(number) = self.pools[pool] else {
            return (abi::Order::EMPTY, 0);
        };
        let atlas = self.atlases.get(number);
        if atlas.embedded
            && let Some(v4) = geo::embedded(host.net())
        {
            let (order, scope) = self.order(pool, Family::V4, Prefix::of(v4.into()));
            return (order, host.len.min(scope + geo::embedded_at(host.net())));
        }
        let window = host.around(host.len.min(64));
        let mut pieces = Pieces::new(atlas.source(&self.geography), window);
        match pieces.find(|(piece, _)| piece.covers(&host)) {
            Some((piece, order)) => (order, piece.len),
            None => (abi::Order::EMPTY, host.len),
        }
    }

    /// The reason for a client's mirrors.
    pub fn origin(&self, pool: usize, client: IpAddr) -> Origin {
        let layers = self.layers(pool);
        let listed = layers.listed(client);
        Origin {
            overriding: layers.overriding(client),
            listed: listed.map(|(net, listed)| (net, layers.members(listed).to_vec())),
            imported: matches!(listed, Some((_, Listed::Imported(_)))),
        }
    }

    /// Records of a mirror, rendered as in [`abi::Answer`] (owner `c00c`, TTL 0), of any length, and
    /// how many they are.
    pub fn records(&self, pool: usize, mirror: u8, family: Family) -> (&[u8], u16) {
        self.rows.records(pool, mirror, family)
    }

    /// Octets, from the end of a question's name, that the alias of a pool may point to.
    pub fn shared(&self, pool: usize) -> usize {
        self.rows.shared(pool)
    }

    /// Sets who of a pool is in service, and which pool answers in its place.
    pub fn set_service(&mut self, pool: usize, service: &Service, answered_by: u64) -> Vec<Store> {
        let mut rows = vec![
            (PoolRow::AnsweredBy, answered_by),
            (PoolRow::Ttl, service.ttl),
        ];
        for family in [Family::V4, Family::V6] {
            let shares = service.in_service[family.index()].iter().enumerate();
            rows.extend(shares.map(|(share, &mask)| (PoolRow::InService(family, share), mask)));
            rows.push((PoolRow::Spare(family), service.spare[family.index()]));
        }
        let mut stores = Vec::new();
        for (row, value) in rows {
            let there = row.of(&mut self.rows.pools[pool]);
            if there.load() != value {
                there.set(value);
                stores.push(Store::Pool {
                    pool: pool as u32,
                    row,
                    value,
                });
            }
        }
        stores
    }

    /// Sets the weights of a pool's mirrors, by their numbers in it.
    pub fn set_weights(&mut self, config: &Config, pool: usize, weights: &[u32]) -> Vec<Store> {
        let first = self.rows.pools[pool].groups;
        let mut stores = Vec::new();
        for (index, order) in (first..).zip(rows::slots(config, pool, weights)) {
            let there = &mut self.rows.slots[index as usize];
            if *there != order {
                *there = order;
                stores.push(Store::Slot { index, order });
            }
        }
        stores
    }

    /// Gives a mirror's answer just those of its addresses that are up, by their place. A grace
    /// period must have passed since the stores of the last such change of this mirror.
    pub fn set_addresses(
        &mut self,
        config: &Config,
        pool: usize,
        mirror: u8,
        family: Family,
        up: &[bool],
    ) -> Vec<Store> {
        let of = &config.mirrors[config.pools[pool].mirrors[usize::from(mirror)]];
        let rendered = rows::render(of, family, |place| up.get(place).copied().unwrap_or(true));
        let now = self.rows.answer(pool, mirror, family);
        if self.rows.records(pool, mirror, family).0 == &*rendered.1 {
            return Vec::new();
        }
        let other = now ^ 1;
        let answer = Box::new(rendered.0);
        self.rows.set(other, rendered);
        let second = &mut self.rows.pools[pool].second[family.index()];
        let value = second.load() ^ 1 << mirror;
        second.set(value);
        vec![
            Store::Answer {
                index: other,
                answer,
            },
            Store::Pool {
                pool: pool as u32,
                row: PoolRow::Second(family),
                value,
            },
        ]
    }

    /// Sets (`Some`) or deletes (`None`) an override of a pool. The stores bring the tables up to
    /// date; the plan is so already. On an error nothing has changed.
    pub fn set_override(
        &mut self,
        pool: usize,
        prefix: IpNet,
        mirror: Option<u8>,
    ) -> Result<Vec<Store>, EditError> {
        let prefix = prefix.trunc();
        let number = match &mut self.pools[pool] {
            ChosenBy::Atlas(number) => *number,
            ChosenBy::All(layers) => {
                put(layers, prefix, mirror);
                return Ok(Vec::new());
            }
        };
        let atlas = self.atlases.get(number);
        if atlas.layers.overrides.get(&prefix).copied() == mirror {
            return Ok(Vec::new());
        }
        let alike = |other: &Layers| will_be_alike(&atlas.layers, prefix, mirror, other);
        let joined = self.atlases.find(&atlas.steering, alike);
        match joined {
            Some(other) => Ok(self.join(pool, number, other)),
            None if atlas.users == 1 => self.edit(number, prefix, mirror),
            None => self.part(pool, number, prefix, mirror),
        }
        .map_err(|Full| EditError::Outgrown)
    }

    /// Moves a pool to an atlas that is what its own would become.
    fn join(&mut self, pool: usize, from: u32, to: u32) -> Vec<Store> {
        self.atlases.get_mut(to).users += 1;
        let atlas = self.atlases.get_mut(from);
        atlas.users -= 1;
        if atlas.users == 0 {
            for &entry in self.atlases.entries(from) {
                self.blocks.unlink(entry);
            }
            self.atlases.atlases[from as usize] = None;
            self.atlases.limbo.push(from);
        }
        vec![self.use_atlas(pool, to)]
    }

    fn use_atlas(&mut self, pool: usize, number: u32) -> Store {
        self.pools[pool] = ChosenBy::Atlas(number);
        self.rows.pools[pool].atlas = Row::new(number.into());
        Store::Pool {
            pool: pool as u32,
            row: PoolRow::Atlas,
            value: number.into(),
        }
    }

    /// Edits an atlas in place.
    fn edit(&mut self, number: u32, prefix: IpNet, mirror: Option<u8>) -> Result<Vec<Store>, Full> {
        let before = put(&mut self.atlases.get_mut(number).layers, prefix, mirror);
        let atlas = self.atlases.get(number);
        let edited = Prefix::of(prefix);
        let regions = self.regions.as_slice().len();
        let shared = SharedTables {
            blocks: &mut self.blocks,
            regions: &mut self.regions,
        };
        let root = &self.atlases.entries(number)[root_of(edited.family)];
        let changes = atlas::edit(shared, atlas.source(&self.geography), edited, root);
        let changes = match changes {
            Ok(changes) => changes,
            Err(Full) => {
                self.undo(regions);
                put(&mut self.atlases.get_mut(number).layers, prefix, before);
                return Err(Full);
            }
        };
        let mut stores = self.fresh_stores(regions);
        let first_block = abi::root(number, edited.family);
        let root = &mut self.atlases.entries_mut(number)[root_of(edited.family)];
        for (place, entry) in changes {
            self.blocks.link(entry);
            self.blocks.unlink(root[place]);
            root[place] = entry;
            stores.push(Store::RootEntry {
                index: first_block + (place / 256) as u32,
                at: (place % 256) as u8,
                entry,
            });
        }
        Ok(stores)
    }

    /// Gives a pool an edited copy of the atlas that it shared.
    fn part(
        &mut self,
        pool: usize,
        from: u32,
        prefix: IpNet,
        mirror: Option<u8>,
    ) -> Result<Vec<Store>, Full> {
        let atlas = self.atlases.get(from);
        let mut layers = atlas.layers.clone();
        put(&mut layers, prefix, mirror);
        let edited = Prefix::of(prefix);
        let regions = self.regions.as_slice().len();
        let shared = SharedTables {
            blocks: &mut self.blocks,
            regions: &mut self.regions,
        };
        let root = &self.atlases.entries(from)[root_of(edited.family)];
        let (steering, wanted) = (Arc::clone(&atlas.steering), atlas.wanted);
        let embedded = atlas.embedded;
        let source = Source {
            layers: &layers,
            steering: &steering,
            geography: &self.geography,
            wanted,
            embedded,
        };
        let changes = atlas::edit(shared, source, edited, root);
        let allocated = changes.and_then(|changes| Ok((changes, self.atlases.allocate()?)));
        let (changes, number) = match allocated {
            Ok(allocated) => allocated,
            Err(Full) => {
                self.undo(regions);
                return Err(Full);
            }
        };
        let mut stores = self.fresh_stores(regions);
        let first = from as usize * ATLAS_ENTRIES;
        let copied = first..first + ATLAS_ENTRIES;
        let roots = self.atlases.roots.as_flattened_mut();
        roots.copy_within(copied, number as usize * ATLAS_ENTRIES);
        let entries = self.atlases.entries_mut(number);
        for (place, entry) in changes {
            entries[root_of(edited.family)][place] = entry;
        }
        for &entry in &*entries {
            self.blocks.link(entry);
        }
        let first_block = abi::root(number, Family::V4);
        let blocks = self.atlases.roots[first_block as usize..].iter();
        let indices = first_block..;
        stores.extend(
            indices
                .zip(blocks.take(ATLAS_PAGES))
                .map(|(index, entries)| Store::Root {
                    index,
                    entries: Box::new(*entries),
                }),
        );
        self.atlases.get_mut(from).users -= 1;
        self.atlases.atlases[number as usize] = Some(Atlas {
            steering,
            wanted,
            layers,
            embedded,
            users: 1,
        });
        stores.push(self.use_atlas(pool, number));
        Ok(stores)
    }

    /// Has everything of a zone passed to the slow path, from the store on. A grace period later no packet is
    /// answered from its names any more.
    pub fn close_zone(&mut self, number: usize) -> Store {
        let row = self.zones[number].row.load() | abi::Zone::PASS;
        self.set_zone_row(number, row)
    }

    /// Brings the tables from one version of a zone to the next; all other zones are the same. The zone is
    /// closed, and a grace period has passed since. On an error nothing has changed: it may be opened again.
    pub fn edit_zone(
        &mut self,
        before: &Zones,
        after: &Zones,
        number: usize,
    ) -> Result<Vec<Store>, EditError> {
        let walks = self.settings.walk != 0;
        let stores = edit::edit(&mut self.names, before, after, number, walks);
        let mut stores = stores.map_err(|edit::Full| EditError::Outgrown)?;
        let of = abi::Zone {
            row: self.zones[number].row.clone(),
            ..rows::zone(&after[number])
        };
        if !of.has_soa_of(&self.zones[number]) {
            self.zones[number] = of.clone();
            stores.push(Store::Soa {
                zone: number as u32,
                of: Box::new(of),
            });
        }
        Ok(stores)
    }

    /// Has a closed zone answered from the tables, from the store on, under a new epoch. A grace period has
    /// passed since its edit: a packet that has met half of that must not see it open.
    pub fn open_zone(&mut self, number: usize) -> Store {
        let epoch = (self.zones[number].row.load() >> 8) + 1;
        let row = rows::zone_row(epoch, self.names.complete[number]);
        self.set_zone_row(number, row)
    }

    /// Adds a name to a zone of which not all names are in the table, and which is open. `None`: the fast path
    /// would not answer a question of this type there, or the name is there already.
    pub fn promote(
        &mut self,
        zones: &Zones,
        name: &Name<[u8]>,
        qtype: Rtype,
    ) -> Result<Option<Vec<Store>>, EditError> {
        let stores = edit::add(&mut self.names, zones, name, qtype);
        stores.map_err(|edit::Full| EditError::Outgrown)
    }

    /// Takes such a name out again. No other may come in its place before a grace period has passed since
    /// the stores were applied, and then only if what is unwanted is given to [`Plan::free`].
    pub fn demote(&mut self, zones: &Zones, name: &Name<[u8]>) -> (Vec<Store>, Unwanted) {
        edit::remove(&mut self.names, zones, name)
    }

    /// Frees what names have left behind, a grace period later.
    pub fn free(&mut self, unwanted: Unwanted) {
        self.names.free(unwanted);
    }

    /// The slot of a name.
    pub fn slot_of(&self, name: &Name<[u8]>) -> Option<u32> {
        self.names.slot_of(name)
    }

    /// Names in the table, and how many there may be.
    pub fn names_of(&self) -> [usize; 2] {
        [self.names.len(), self.names.max_names]
    }

    /// Whether not all names of a zone, by its number, are in the table, though there are some.
    pub fn is_partial(&self, zone: usize) -> bool {
        self.names.complete.get(zone) == Some(&false) && self.names.room > 0
    }

    fn set_zone_row(&mut self, number: usize, value: u64) -> Store {
        self.zones[number].row.set(value);
        Store::Zone {
            zone: number as u32,
            value,
        }
    }

    /// Stores of the regions from a number on and of the fresh blocks, which it keeps.
    fn fresh_stores(&mut self, regions: usize) -> Vec<Store> {
        let orders = self.regions.as_slice().iter().enumerate().skip(regions);
        let mut stores: Vec<_> = orders
            .map(|(index, &order)| Store::Region {
                index: index as u32,
                order,
            })
            .collect();
        for number in self.blocks.commit() {
            stores.push(Store::Block {
                number,
                entries: Box::new(self.blocks.as_slice()[number as usize]),
            });
        }
        stores
    }

    /// Takes back the regions from a number on and the fresh blocks.
    fn undo(&mut self, regions: usize) {
        self.regions.truncate(regions);
        self.blocks.rollback();
    }

    /// Frees blocks and roots that edits have let go: call after a grace period since the stores of
    /// every edit so far were applied.
    pub fn reclaim(&mut self) {
        self.blocks.reclaim();
        let atlases = &mut self.atlases;
        atlases.free.append(&mut atlases.limbo);
    }
}

/// Sets or deletes an override. Gives what was there.
fn put(layers: &mut Layers, prefix: IpNet, mirror: Option<u8>) -> Option<u8> {
    match mirror {
        Some(mirror) => layers.overrides.insert(prefix, mirror),
        None => layers.overrides.remove(&prefix),
    }
}

/// Whether layers with an override set or deleted would be like other ones.
fn will_be_alike<'a>(
    layers: &'a Layers,
    prefix: IpNet,
    mirror: Option<u8>,
    other: &'a Layers,
) -> bool {
    let had = usize::from(layers.overrides.contains_key(&prefix));
    let will_have = layers.overrides.len() - had + usize::from(mirror.is_some());
    let rest = |layers: &'a Layers| {
        layers
            .overrides
            .iter()
            .filter(move |(net, _)| **net != prefix)
    };
    other.overrides.len() == will_have
        && other.overrides.get(&prefix).copied() == mirror
        && other.base == layers.base
        && other.imported == layers.imported
        && rest(layers).eq(rest(other))
}

/// The limit of responses, and what is bounded with it. Its key is drawn from the plan's seed, as that of names is.
fn limit(rrl: &Rrl, seed: [u64; 2]) -> abi::Limit {
    abi::Limit {
        rate: Rate::new(rrl.rate, rrl.burst),
        key: wire::siphash(seed, &[u64::MAX], 0, 8),
        slip: rrl.slip,
        dry_run: rrl.dry_run.into(),
        has_exempt: (!rrl.allow.is_empty()).into(),
        payload: match rrl.rate > 0 && !rrl.dry_run {
            true => rrl.nocookie_udp_size,
            false => 0,
        },
    }
}

/// An id for each mirror of each pool, in their order. It hashes the names of both, so that it is the same in other plans
/// and other daemons.
fn mirror_ids(config: &Config) -> impl Iterator<Item = u64> {
    config.pools.iter().flat_map(|pool| {
        pool.mirrors.iter().map(|&mirror| {
            let mut hasher = SipHasher13::new();
            (&pool.id, &config.mirrors[mirror].id).hash(&mut hasher);
            hasher.finish().max(1)
        })
    })
}

impl Tables for Plan {
    fn settings(&self) -> &abi::Settings {
        &self.settings
    }
    fn name(&self, slot: u32) -> Option<&abi::Name> {
        self.names.slots.get(slot as usize)
    }
    fn exempt(&self) -> &[([u32; 4], u32)] {
        &self.exempt
    }
    fn mirror_ids(&self) -> &[u64] {
        &self.mirror_ids
    }
    fn zone(&self, index: u32) -> Option<&abi::Zone> {
        self.zones.get(index as usize)
    }
    fn pool(&self, index: u32) -> Option<&abi::Pool> {
        self.rows.pools.get(index as usize)
    }
    fn answer(&self, index: u32) -> Option<&abi::Answer> {
        self.rows.answers.get(index as usize)
    }
    fn shelf(&self, index: u32) -> Option<&abi::Shelf> {
        self.shelves().get(index as usize)
    }
    fn region(&self, index: u32) -> Option<u64> {
        self.regions.as_slice().get(index as usize).copied()
    }
    fn slot(&self, index: u32) -> Option<u64> {
        self.rows.slots.get(index as usize).copied()
    }
    fn random(&self) -> u32 {
        rand::random()
    }
    fn root(&self, index: u32) -> Option<&abi::Page> {
        self.atlases.roots.get(index as usize)
    }
    fn block(&self, number: u32) -> Option<&abi::Block> {
        self.blocks.as_slice().get(number as usize)
    }
}
