//! One zone in memory: the nodes one after the other in one run of octets, and an index over their
//! names. A node of one address takes some 60 octets, its place in the index included.
//!
//! ```text
//! node:   octets of it (u32)  pool (u32)  children (u32)  name  RRsets
//! RRset:  type (u16)  TTL (u32)  octets of its records (u32)  records
//! record: RDLENGTH (u16)  RDATA
//! ```
//!
//! Numbers are in network order. A node that has been replaced stays where it was, as garbage with the
//! pool [`GONE`], until half of the octets are such.

use std::cmp::Ordering;

use domain::base::{Name as DomainName, Rtype};
use hashbrown::DefaultHashBuilder;

use super::index::{Index, hash_of};
use super::run::{Record, Run, name_len};
use super::{memory, rdata};
use crate::base::name::{Name, ancestors};

/// In place of a pool: none.
const NO_POOL: u32 = u32::MAX;
/// In place of a pool: the node is not one any more.
const GONE: u32 = u32::MAX - 1;
/// In place of a pool: none, and nothing but NSEC3 records and their signatures ([`Zone::named`]).
const DENIAL: u32 = u32::MAX - 2;

const POOL: usize = 4;
const CHILDREN: usize = 8;
const NAME: usize = 12;
/// Octets of an RRset before its records.
const RRSET_HEAD: usize = 10;

/// Octets of all nodes of a zone, at the most: their places are 32 bits.
const MAX_OCTETS: usize = u32::MAX as usize;

/// A zone of more bytes is no longer in the caches whole: a name of it that was not asked for lately is fetched
/// from memory, which takes as long as all else that is done for an answer.
const LARGE: usize = 2 << 20;
/// Octets that a prefetch brings.
const CACHE_LINE: usize = 64;

/// The zone is too large for its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the zone is over 4 GiB; split it into several")]
pub struct TooLarge;

/// One zone. It has one SOA and at least one NS record at its apex, nothing out of zone, nothing
/// beside a CNAME, nothing below a DNAME.
///
/// All names are in lower case, and looked up in lower case.
#[derive(Debug)]
pub struct Zone {
    /// Apex.
    pub apex: Name,
    octets: Vec<u8>,
    /// Where each node is, by its name.
    index: Index,
    hasher: DefaultHashBuilder,
    /// Where the apex is, which every lookup begins with.
    top: Option<u32>,
    /// Octets of nodes that are gone.
    garbage: usize,
    /// Nodes with [`DENIAL`] in place of a pool.
    denials: usize,
}

/// The hash of a name in one version of one zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameHash(u32);

/// The node of a name: records, a pool, or nothing but names below it (an empty non-terminal).
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(&'a [u8]);

/// Records of one owner and type; of signatures (RRSIG, SIG), those of one covered type, since their TTL is that
/// of the RRset that they cover (RFC 4034 section 3). One TTL for all of them, RDATA with names uncompressed and in
/// the case in which they came, in canonical order (RFC 4034 section 6.3), without repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RrSet<'a> {
    /// Type.
    pub rtype: Rtype,
    /// TTL, seconds.
    pub ttl: u32,
    /// RDATA of each record, behind its length.
    records: &'a [u8],
}

/// A type, and of a signature the type that it covers: records of one kind are an RRset.
type Kind = (Rtype, Option<Rtype>);

/// The kind of a record.
pub(super) fn kind(rtype: Rtype, rdata: &[u8]) -> Kind {
    // In the order of the RDATA, whatever that is.
    let octet = |at: usize| rdata.get(at).copied().unwrap_or(0);
    let covered = matches!(rtype, Rtype::RRSIG | Rtype::SIG)
        .then(|| Rtype::from_int(u16::from_be_bytes([octet(0), octet(1)])));
    (rtype, covered)
}

impl Record<'_> {
    fn kind(&self) -> Kind {
        kind(self.rtype, self.rdata)
    }
}

/// The number that stands in place of a pool at a node with records of these kinds.
fn no_pool(kinds: impl Iterator<Item = Kind>) -> u32 {
    let mut has_denial = false;
    for (rtype, covered) in kinds {
        match (rtype, covered) {
            (Rtype::NSEC3, _) => has_denial = true,
            (Rtype::RRSIG, Some(Rtype::NSEC3)) => {}
            _ => return NO_POOL,
        }
    }
    if has_denial { DENIAL } else { NO_POOL }
}

impl Record<'_> {
    /// The order of records at a name. Of those that are the same, one is the first always.
    fn order(&self, other: &Self) -> Ordering {
        let by_type = self.rtype.cmp(&other.rtype);
        by_type
            .then_with(|| rdata::compare(self.rtype, self.rdata, other.rdata))
            .then_with(|| (self.rdata, self.ttl).cmp(&(other.rdata, other.ttl)))
    }

    /// Whether both are the same record, whatever their TTLs and the case of names.
    pub fn is(&self, other: &Self) -> bool {
        self.rtype == other.rtype && rdata::compare(self.rtype, self.rdata, other.rdata).is_eq()
    }
}

impl Clone for Zone {
    /// A copy, with some room: it is made for an edit.
    fn clone(&self) -> Self {
        Self {
            apex: self.apex.clone(),
            octets: memory::copy(&self.octets, self.octets.len() / 32),
            index: self.index.clone(),
            hasher: self.hasher.clone(),
            top: self.top,
            garbage: self.garbage,
            denials: self.denials,
        }
    }
}

impl Zone {
    /// A zone of nothing, to be filled: not one to be served.
    pub fn empty(apex: Name) -> Self {
        Self {
            apex,
            octets: Vec::new(),
            index: Index::default(),
            hasher: DefaultHashBuilder::default(),
            top: None,
            garbage: 0,
            denials: 0,
        }
    }

    /// Makes room for N nodes.
    pub(super) fn reserve(&mut self, nodes: usize, octets: usize) {
        self.octets.reserve(octets);
        self.index.reserve(nodes);
    }

    /// Number of nodes, empty non-terminals included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of names, those left out that NSEC3 records alone are at.
    pub fn names(&self) -> usize {
        self.len().saturating_sub(self.denials)
    }

    /// Whether there is not a single node.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.octets.capacity() + self.index.memory()
    }

    /// Whether it is more than the caches hold, so that it pays to prefetch what is going to be looked up.
    pub fn is_large(&self) -> bool {
        self.memory() > LARGE
    }

    /// Prefetches what says where a name's node is, if it has one. The name is in lower case.
    pub fn prefetch_index(&self, name: &DomainName<[u8]>) -> NameHash {
        let hash = self.hash(name.as_slice());
        self.index.prefetch(hash);
        NameHash(hash)
    }

    /// Prefetches a name's node, its first octets at least; best a while after [`Self::prefetch_index`].
    pub fn prefetch_node(&self, name: NameHash) {
        let Some(at) = self.index.find(name.0, |_| true) else {
            return;
        };
        // Most nodes are no longer, and begin anywhere in the first line.
        for octet in [at as usize, at as usize + CACHE_LINE] {
            if let Some(octet) = self.octets.get(octet) {
                memory::prefetch(octet);
            }
        }
    }

    /// The node of a name, which is in lower case.
    pub fn node(&self, name: &DomainName<[u8]>) -> Option<Node<'_>> {
        self.place(name.as_slice()).map(|at| self.node_at(at))
    }

    /// The node of a name, which is in lower case. A name that has NSEC3 records alone, and none below it, counts as
    /// one that does not exist (RFC 5155 section 7.2.8).
    pub fn named(&self, name: &DomainName<[u8]>) -> Option<Node<'_>> {
        self.node(name).filter(|node| !node.is_denial())
    }

    /// All nodes, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let mut at = 0;
        let all = std::iter::from_fn(move || {
            (at < self.octets.len()).then(|| {
                let node = self.node_at(at as u32);
                at += node.0.len();
                node
            })
        });
        all.filter(|node| node.pool() != GONE)
    }

    /// The node at a place, which is moved to the next one's; the first place is 0. For who cannot hold on
    /// to [`Zone::nodes`].
    pub fn walk(&self, at: &mut usize) -> Option<Node<'_>> {
        while *at < self.octets.len() {
            let node = self.node_at(*at as u32);
            *at += node.0.len();
            if node.pool() != GONE {
                return Some(node);
            }
        }
        None
    }

    /// Octets of all its nodes.
    pub fn size(&self) -> usize {
        self.octets.len() - self.garbage
    }

    /// Names at which this version of a zone is not as another: a name that is in one alone, or has other
    /// records or another pool. Each of them once or more.
    ///
    /// If one was made of the other by edits, both begin alike in memory, and that part is compared as it lies there.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a DomainName<[u8]>> {
        let mut names = Vec::new();
        let mut at = 0;
        while at < self.octets.len().min(other.octets.len()) {
            let (one, two) = (self.node_at(at as u32), other.node_at(at as u32));
            if one.0.len() != two.0.len() {
                break;
            }
            if one.0[NAME..] != two.0[NAME..] || one.pool() != two.pool() {
                names.extend([one.name(), two.name()]);
            }
            at += one.0.len();
        }
        for zone in [self, other] {
            let mut at = at;
            while at < zone.octets.len() {
                let node = zone.node_at(at as u32);
                names.push(node.name());
                at += node.0.len();
            }
        }
        let same =
            |one: Node<'_>, two: Node<'_>| one.pool() == two.pool() && one.octets() == two.octets();
        names.retain(|name| match (self.node(name), other.node(name)) {
            (Some(one), Some(two)) => !same(one, two),
            (one, two) => one.is_some() || two.is_some(),
        });
        names
    }

    /// The node of the apex.
    pub fn top(&self) -> Node<'_> {
        self.apex_node().unwrap_or(Node(&[0; NAME]))
    }

    /// The same, without looking for it; none if there is nothing in the zone.
    pub fn apex_node(&self) -> Option<Node<'_>> {
        self.top.map(|at| self.node_at(at))
    }

    /// The SOA record.
    pub fn soa(&self) -> RrSet<'_> {
        self.top().rrset(Rtype::SOA).unwrap_or(RrSet {
            rtype: Rtype::SOA,
            ttl: 0,
            records: &[],
        })
    }

    /// Its serial number.
    pub fn serial(&self) -> u32 {
        self.soa_number(0)
    }

    /// How long a secondary may go on serving it when no primary answers.
    pub fn expire(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.soa_number(3).into())
    }

    /// TTL of negative answers: min(SOA TTL, SOA MINIMUM) (RFC 2308 section 3).
    pub fn negative_ttl(&self) -> u32 {
        self.soa().ttl.min(self.soa_number(4))
    }

    /// One of the five numbers that a SOA's RDATA ends in: serial, refresh, retry, expire, minimum.
    pub fn soa_number(&self, place: usize) -> u32 {
        let soa = self.soa();
        let numbers = soa.first().last_chunk::<20>();
        numbers.map_or(0, |numbers| get32(numbers, 4 * place))
    }

    /// Whether a name below the apex is delegated.
    pub fn is_cut(&self, name: &DomainName<[u8]>) -> bool {
        name.as_slice() != self.apex.as_slice()
            && self.node(name).is_some_and(|node| node.has(Rtype::NS))
    }

    /// Whether a name lies below a zone cut or a DNAME, where nothing is answered from.
    pub fn is_occluded(&self, name: &DomainName<[u8]>) -> bool {
        ancestors(name, &self.apex).any(|above| {
            let node = self.node(above);
            node.is_some_and(|node| {
                let cut = above.as_slice() != self.apex.as_slice() && node.has(Rtype::NS);
                cut || node.has(Rtype::DNAME)
            })
        })
    }

    /// Sets the pool that answers for A and AAAA at a name; the name is there from then on.
    pub fn set_pool(&mut self, name: &DomainName<[u8]>, pool: usize) -> Result<(), TooLarge> {
        let at = match self.place(name.as_slice()) {
            Some(at) => at,
            None => self.put(name, NO_POOL, &mut [])?,
        };
        // No configuration has that many pools.
        let pool = (pool as u32).min(DENIAL - 1);
        self.put_pool(at, pool);
        Ok(())
    }

    /// Takes every pool away; what stands at a name but for it stays.
    pub fn clear_pools(&mut self) {
        let steered = |node: Node<'_>| node.steer().map(|_| node.name().as_slice().to_vec());
        let names: Vec<_> = self.nodes().filter_map(steered).collect();
        for name in names {
            if let Some(at) = self.place(&name) {
                let none = no_pool(self.node_at(at).rrsets().map(|rrset| rrset.kind()));
                self.put_pool(at, none);
                self.prune(&name);
            }
        }
    }

    /// Takes the zone's digest of itself away (ZONEMD, RFC 8976): it is of the zone as it came, and whoever
    /// verifies would refuse what has been changed since.
    pub fn forget_digest(&mut self) -> Result<(), TooLarge> {
        if !self.top().has(Rtype::ZONEMD) {
            return Ok(());
        }
        let apex = self.apex.clone();
        let mut others = Run::default();
        let records = self.top().records();
        for record in records.filter(|record| record.rtype != Rtype::ZONEMD) {
            others.push(apex.for_slice(), record);
        }
        let mut others: Vec<_> = others.iter().map(|(_, record)| record).collect();
        self.set(apex.for_slice(), &mut others)
    }

    /// Whether it is signed. Signatures are in no answer yet, and none could be made for a pool's.
    pub fn is_signed(&self) -> bool {
        self.top().has(Rtype::DNSKEY)
    }

    /// Puts records in the place of all that stand at a name, in any order: repeats are left out, and of
    /// TTLs that differ within an RRset the least counts (RFC 2181 section 5.2). Without any, the name is
    /// gone, unless a pool answers there or there are names below it.
    pub fn set(
        &mut self,
        name: &DomainName<[u8]>,
        records: &mut [Record<'_>],
    ) -> Result<(), TooLarge> {
        let there = self.place(name.as_slice());
        let pool = there.map_or(NO_POOL, |at| self.node_at(at).pool());
        self.put(name, pool, records)?;
        self.prune(name.as_slice());
        if self.garbage > self.octets.len() / 2 {
            self.compact();
        }
        Ok(())
    }

    /// Puts records at a name that has none yet, as [`Self::set`] does; there must be some.
    pub(super) fn fill(
        &mut self,
        name: &DomainName<[u8]>,
        records: &mut [Record<'_>],
    ) -> Result<(), TooLarge> {
        self.put(name, NO_POOL, records).map(drop)
    }

    /// Appends a node, in the place of one of this name if there is one, and the empty non-terminals
    /// above it that are not there yet. Gives where it is.
    fn put(
        &mut self,
        name: &DomainName<[u8]>,
        pool: u32,
        records: &mut [Record<'_>],
    ) -> Result<u32, TooLarge> {
        let pool = match pool {
            NO_POOL | DENIAL => no_pool(records.iter().map(Record::kind)),
            pool => pool,
        };
        let before = self.place(name.as_slice());
        let children = before.map_or(0, |at| self.get32(at, CHILDREN));
        let at = self.octets.len();
        for number in [0, NO_POOL, children] {
            self.octets.extend_from_slice(&number.to_be_bytes());
        }
        self.octets.extend_from_slice(name.as_slice());
        records.sort_unstable_by(Record::order);
        for rrset in records.chunk_by(|one, next| one.kind() == next.kind()) {
            self.put_rrset(rrset);
        }
        if self.octets.len() > MAX_OCTETS {
            self.octets.truncate(at);
            return Err(TooLarge);
        }
        let len = (self.octets.len() - at) as u32;
        let at = at as u32;
        self.put32(at, 0, len);
        self.put_pool(at, pool);
        if name.as_slice() == self.apex.as_slice() {
            self.top = Some(at);
        }
        let hash = self.hash(name.as_slice());
        match before {
            Some(before) => {
                self.index.replace(hash, before, at);
                self.bury(before);
            }
            None => {
                self.index.insert(hash, at);
                if let Some(above) = ancestors(name, &self.apex).next() {
                    let above = match self.place(above.as_slice()) {
                        Some(above) => above,
                        None => self.put(above, NO_POOL, &mut [])?,
                    };
                    let children = self.get32(above, CHILDREN) + 1;
                    self.put32(above, CHILDREN, children);
                }
            }
        }
        Ok(at)
    }

    /// Appends one RRset, sorted.
    fn put_rrset(&mut self, rrset: &[Record<'_>]) {
        let Some(first) = rrset.first() else { return };
        let ttl = rrset.iter().map(|record| record.ttl).min();
        let head = self.octets.len();
        self.octets
            .extend_from_slice(&first.rtype.to_int().to_be_bytes());
        self.octets
            .extend_from_slice(&ttl.unwrap_or(0).to_be_bytes());
        self.octets.extend_from_slice(&[0; 4]);
        for same in rrset.chunk_by(Record::is) {
            let rdata = same[0].rdata;
            // RDATA is bounded so by every source of it.
            let len = rdata.len().min(u16::MAX.into()) as u16;
            self.octets.extend_from_slice(&len.to_be_bytes());
            self.octets.extend_from_slice(&rdata[..len.into()]);
        }
        let len = (self.octets.len() - head - RRSET_HEAD) as u32;
        self.octets[head + 6..head + 10].copy_from_slice(&len.to_be_bytes());
    }

    /// Removes a node that nothing needs, and then those above it.
    fn prune(&mut self, name: &[u8]) {
        let mut at = 0;
        while name.len() - at > self.apex.len() {
            let name = &name[at..];
            let Some(place) = self.place(name) else {
                return;
            };
            let node = self.node_at(place);
            if node.steer().is_some() || !node.is_empty() || self.get32(place, CHILDREN) > 0 {
                return;
            }
            self.index.remove(self.hash(name), place);
            self.bury(place);
            at += 1 + usize::from(name[0]);
            let above = &name[1 + usize::from(name[0])..];
            if let Some(above) = self.place(above) {
                let children = self.get32(above, CHILDREN).saturating_sub(1);
                self.put32(above, CHILDREN, children);
            }
        }
    }

    fn bury(&mut self, at: u32) {
        self.garbage += self.node_at(at).0.len();
        self.put_pool(at, GONE);
    }

    fn put_pool(&mut self, at: u32, pool: u32) {
        let before = self.get32(at, POOL);
        self.denials += usize::from(pool == DENIAL);
        self.denials -= usize::from(before == DENIAL);
        self.put32(at, POOL, pool);
    }

    /// Leaves the nodes out that are gone.
    fn compact(&mut self) {
        let mut octets = Vec::with_capacity(self.octets.len() - self.garbage);
        let mut index = Index::default();
        index.reserve(self.index.len());
        for node in self.nodes() {
            let at = octets.len() as u32;
            octets.extend_from_slice(node.0);
            index.insert(self.hash(node.name().as_slice()), at);
        }
        self.octets = octets;
        self.index = index;
        self.top = self.place(self.apex.as_slice());
        self.garbage = 0;
    }

    /// Gives back the memory that was reserved in vain.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.index.shrink();
        memory::in_large_pages(&self.octets);
    }

    fn place(&self, name: &[u8]) -> Option<u32> {
        self.index.find(self.hash(name), |at| {
            let at = at as usize + NAME;
            self.octets.get(at..at + name.len()) == Some(name)
        })
    }

    /// Hash of a name, which nobody outside can foresee.
    fn hash(&self, name: &[u8]) -> u32 {
        hash_of(&self.hasher, name)
    }

    fn node_at(&self, at: u32) -> Node<'_> {
        let len = self.get32(at, 0) as usize;
        Node(&self.octets[at as usize..at as usize + len])
    }

    fn get32(&self, at: u32, field: usize) -> u32 {
        get32(&self.octets, at as usize + field)
    }

    fn put32(&mut self, at: u32, field: usize, value: u32) {
        let at = at as usize + field;
        self.octets[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

impl<'a> Node<'a> {
    /// Its name.
    pub fn name(self) -> &'a DomainName<[u8]> {
        let name = &self.0[NAME..];
        let len = name_len(name);
        DomainName::from_slice(&name[..len]).unwrap_or(DomainName::root_slice())
    }

    /// The pool that A and AAAA come from (index into [`crate::config::Config::pools`]).
    pub fn steer(self) -> Option<usize> {
        match self.pool() {
            NO_POOL | GONE | DENIAL => None,
            pool => Some(pool as usize),
        }
    }

    /// Whether there is nothing but NSEC3 records and their signatures here, and nothing below.
    pub fn is_denial(self) -> bool {
        self.pool() == DENIAL && get32(self.0, CHILDREN) == 0
    }

    fn pool(self) -> u32 {
        get32(self.0, POOL)
    }

    /// Whether there are no records.
    pub fn is_empty(self) -> bool {
        self.octets().is_empty()
    }

    /// Whether there are records of a type.
    pub fn has(self, rtype: Rtype) -> bool {
        self.rrset(rtype).is_some()
    }

    /// The RRset of a type; of signatures, the first.
    pub fn rrset(self, rtype: Rtype) -> Option<RrSet<'a>> {
        self.rrsets().find(|rrset| rrset.rtype == rtype)
    }

    /// The RRset of the same type as one of another node, and with signatures of the same covered type.
    pub fn counterpart(self, of: RrSet<'_>) -> Option<RrSet<'a>> {
        self.rrsets().find(|rrset| rrset.kind() == of.kind())
    }

    /// The RRsets, in ascending order of their types, and of the types that signatures cover.
    pub fn rrsets(self) -> impl Iterator<Item = RrSet<'a>> {
        let mut rest = self.octets();
        std::iter::from_fn(move || {
            let (head, after) = rest.split_first_chunk::<RRSET_HEAD>()?;
            let (records, after) = after.split_at_checked(get32(head, 6) as usize)?;
            rest = after;
            Some(RrSet {
                rtype: Rtype::from_int(u16::from_be_bytes([head[0], head[1]])),
                ttl: get32(head, 2),
                records,
            })
        })
    }

    /// Each record of each RRset.
    pub fn records(self) -> impl Iterator<Item = Record<'a>> {
        self.rrsets().flat_map(RrSet::records)
    }

    /// Octets of its RRsets as they are stored.
    pub fn size(self) -> usize {
        self.octets().len()
    }

    /// Whether the same RRsets stand at both.
    pub fn has_same_records(self, other: Node<'_>) -> bool {
        self.octets() == other.octets()
    }

    /// The octets of its RRsets.
    fn octets(self) -> &'a [u8] {
        let after = &self.0[NAME..];
        after.get(name_len(after)..).unwrap_or(&[])
    }
}

impl<'a> RrSet<'a> {
    fn kind(self) -> Kind {
        kind(self.rtype, self.first())
    }

    /// RDATA of each record.
    pub fn rdata(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (rdata, after) = after.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = after;
            Some(rdata)
        })
    }

    /// Each record.
    pub fn records(self) -> impl Iterator<Item = Record<'a>> {
        let Self { rtype, ttl, .. } = self;
        self.rdata().map(move |rdata| Record { rtype, rdata, ttl })
    }

    /// RDATA of the first record; empty if there were none, which does not happen.
    pub fn first(self) -> &'a [u8] {
        self.rdata().next().unwrap_or(&[])
    }

    /// Octets of the records as they are stored: RDATA, and two for each length.
    pub fn octets(self) -> usize {
        self.records.len()
    }
}

fn get32(octets: &[u8], at: usize) -> u32 {
    let number = octets
        .get(at..at + 4)
        .and_then(|number| number.first_chunk());
    number.map_or(0, |&number| u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::base::name::parse_name;

    /// The content of a zone: TTL and RDATA by owner, type and covered type.
    type Model = BTreeMap<String, BTreeMap<(u16, u16), (u32, BTreeSet<Vec<u8>>)>>;
    /// Records of a name: type, TTL and RDATA.
    type Change = (String, Vec<(u16, u32, Vec<u8>)>);

    fn change() -> impl Strategy<Value = Change> {
        let label = prop::sample::select(vec!["a", "b", "c", "*"]);
        let labels = prop::collection::vec(label, 0..4);
        let record = (
            prop::sample::select(vec![1u16, 16, 28, 46, 50]),
            0..3u32,
            // Of a signature, the covered type first.
            prop::sample::select(vec![vec![0, 1], vec![0, 50], vec![0, 1, 2], vec![7]]),
        );
        let records = prop::collection::vec(record, 0..5);
        (labels, records).prop_map(|(labels, records)| {
            let labels = labels.into_iter().chain(["example", "org"]);
            (labels.collect::<Vec<_>>().join("."), records)
        })
    }

    proptest! {
        #[test]
        fn a_zone_holds_what_was_set_and_the_names_above_it(
            changes in prop::collection::vec(change(), 1..60),
        ) {
            let apex = parse_name("example.org").unwrap();
            let mut zone = Zone::empty(apex.clone());
            let mut model = Model::new();
            for (owner, records) in &changes {
                let name = parse_name(owner).unwrap();
                let mut set: Vec<Record<'_>> = records
                    .iter()
                    .map(|(rtype, ttl, rdata)| Record {
                        rtype: Rtype::from_int(*rtype),
                        ttl: *ttl,
                        rdata,
                    })
                    .collect();
                zone.set(name.for_slice(), &mut set).unwrap();
                model.remove(owner);
                for (rtype, ttl, rdata) in records {
                    let of = model.entry(owner.clone()).or_default();
                    let covered = match (*rtype, &rdata[..]) {
                        (46, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
                        (46, [high]) => u16::from_be_bytes([*high, 0]),
                        _ => 0,
                    };
                    let set = of.entry((*rtype, covered));
                    let (least, all) = set.or_insert((*ttl, BTreeSet::new()));
                    *least = (*least).min(*ttl);
                    all.insert(rdata.clone());
                }
            }
            let mut expected: BTreeMap<String, _> = BTreeMap::new();
            for (owner, rrsets) in &model {
                let name = parse_name(owner).unwrap();
                for above in ancestors(name.for_slice(), &apex) {
                    expected.entry(above.to_string()).or_insert_with(BTreeMap::new);
                }
                expected.insert(owner.clone(), rrsets.clone());
            }
            // Whatever happens, the apex stays.
            if !zone.is_empty() {
                expected.entry("example.org".to_owned()).or_insert_with(BTreeMap::new);
            }
            let mut found = BTreeMap::new();
            for node in zone.nodes() {
                let rrsets = node.rrsets().map(|rrset| {
                    let rdata: Vec<Vec<u8>> = rrset.rdata().map(<[u8]>::to_vec).collect();
                    let sorted: BTreeSet<Vec<u8>> = rdata.iter().cloned().collect();
                    assert!(rdata.is_sorted() && rdata.len() == sorted.len());
                    let (rtype, covered) = rrset.kind();
                    let covered = covered.map_or(0, Rtype::to_int);
                    ((rtype.to_int(), covered), (rrset.ttl, sorted))
                });
                let rrsets: BTreeMap<_, _> = rrsets.collect();
                // RFC 5155 section 7.2.8.
                let denies = rrsets.keys().any(|(rtype, _)| *rtype == 50);
                let only = rrsets.keys().all(|key| matches!(key, (50, _) | (46, 50)));
                let leaf = zone.nodes().all(|other| {
                    other.name() == node.name() || !other.name().ends_with(node.name())
                });
                prop_assert_eq!(zone.named(node.name()).is_none(), denies && only && leaf);
                let twice = found.insert(node.name().to_string(), rrsets);
                prop_assert!(twice.is_none());
                let by_name = zone.node(node.name()).unwrap();
                prop_assert_eq!(by_name.0.as_ptr(), node.0.as_ptr());
            }
            if let Some(top) = zone.node(apex.for_slice()) {
                prop_assert_eq!(zone.top().0.as_ptr(), top.0.as_ptr());
            }
            prop_assert_eq!(zone.len(), found.len());
            let denials = found.values().filter(|rrsets| {
                rrsets.keys().any(|(rtype, _)| *rtype == 50)
                    && rrsets.keys().all(|key| matches!(key, (50, _) | (46, 50)))
            });
            prop_assert_eq!(zone.names(), found.len() - denials.count());
            prop_assert_eq!(found, expected);
            prop_assert!(zone.garbage <= zone.octets.len());
        }
    }

    #[test]
    fn a_steered_name_stays_when_its_records_go() {
        let apex = parse_name("example.org").unwrap();
        let www = parse_name("www.a.example.org").unwrap();
        let mut zone = Zone::empty(apex);
        zone.set_pool(www.for_slice(), 7).unwrap();
        assert_eq!(zone.len(), 3);
        let mut text = [Record {
            rtype: Rtype::TXT,
            ttl: 5,
            rdata: b"\x01x",
        }];
        zone.set(www.for_slice(), &mut text).unwrap();
        let node = zone.node(www.for_slice()).unwrap();
        assert_eq!((node.steer(), node.is_empty()), (Some(7), false));
        zone.set(www.for_slice(), &mut []).unwrap();
        let node = zone.node(www.for_slice()).unwrap();
        assert_eq!((node.steer(), node.is_empty()), (Some(7), true));
        assert_eq!(zone.len(), 3);
    }
}
