//! A zone while its records come in, one after the other in any order, and what may not stand where.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use domain::base::{Name as DomainName, Rtype};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::store::{Record, TooLarge, Zone};
use super::{Name, ancestors};

/// No further record.
const END: u32 = u32::MAX;

/// Owners and their records.
pub(super) struct Draft {
    apex: Name,
    /// Names and RDATA.
    octets: Vec<u8>,
    owners: Vec<Owner>,
    records: Vec<Place>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// A name, and its records: a chain.
struct Owner {
    name: usize,
    name_len: u8,
    first: u32,
    last: u32,
}

/// A record of a chain.
struct Place {
    rtype: Rtype,
    ttl: u32,
    rdata: usize,
    rdata_len: u16,
    next: u32,
}

/// What has come of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It stands there.
    Well,
    /// It stands there, in an RRset that has this TTL, which is another one.
    OtherTtl(u32),
}

/// Why a record may not stand where it would.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// There is one of this type, and one of both is a CNAME.
    BesideCname(Rtype),
    /// There is another one, and a name has one.
    Second,
    /// There are more records than can be counted.
    TooMany,
}

impl Draft {
    pub fn new(apex: Name) -> Self {
        Self {
            apex,
            octets: Vec::new(),
            owners: Vec::new(),
            records: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Adds a record: owner in lower case, in the zone; RDATA in canonical form.
    pub fn add(
        &mut self,
        owner: &DomainName<[u8]>,
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<Added, Misplaced> {
        let number = u32::try_from(self.records.len()).unwrap_or(END);
        let Ok(rdata_len) = u16::try_from(rdata.len()) else {
            return Err(Misplaced::TooMany);
        };
        if number == END {
            return Err(Misplaced::TooMany);
        }
        let owner = self.owner(owner.as_slice());
        if let Some(other) = self.beside_cname(owner, rtype) {
            return Err(Misplaced::BesideCname(other));
        }
        let mut added = Added::Well;
        if let Some(same) = self.chain(owner).find(|record| record.rtype == rtype) {
            if matches!(rtype, Rtype::SOA | Rtype::CNAME | Rtype::DNAME)
                && self.rdata(same) != rdata
            {
                return Err(Misplaced::Second);
            }
            if same.ttl != ttl {
                added = Added::OtherTtl(same.ttl);
            }
        }
        let at = self.octets.len();
        self.octets.extend_from_slice(rdata);
        self.records.push(Place {
            rtype,
            ttl,
            rdata: at,
            rdata_len,
            next: END,
        });
        let owner = &mut self.owners[owner];
        match owner.last {
            END => owner.first = number,
            last => self.records[last as usize].next = number,
        }
        owner.last = number;
        Ok(added)
    }

    /// Number of an owner, which is there from then on.
    fn owner(&mut self, name: &[u8]) -> usize {
        let hash = self.hasher.hash_one(name);
        let Self {
            octets,
            owners,
            index,
            hasher,
            ..
        } = self;
        let of = |owner: &Owner| &octets[owner.name..owner.name + usize::from(owner.name_len)];
        if let Some(&there) = index.find(hash, |&at| of(&owners[at as usize]) == name) {
            return there as usize;
        }
        let number = owners.len();
        owners.push(Owner {
            name: octets.len(),
            name_len: name.len() as u8,
            first: END,
            last: END,
        });
        octets.extend_from_slice(name);
        let of = |owner: &Owner| &octets[owner.name..owner.name + usize::from(owner.name_len)];
        // There are no more owners than records.
        index.insert_unique(hash, number as u32, |&at| {
            hasher.hash_one(of(&owners[at as usize]))
        });
        number
    }

    fn chain(&self, owner: usize) -> impl Iterator<Item = &Place> {
        let mut next = self.owners[owner].first;
        std::iter::from_fn(move || {
            let record = self.records.get(next as usize)?;
            next = record.next;
            Some(record)
        })
    }

    fn rdata(&self, record: &Place) -> &[u8] {
        &self.octets[record.rdata..record.rdata + usize::from(record.rdata_len)]
    }

    fn name(&self, owner: &Owner) -> &DomainName<[u8]> {
        let name = &self.octets[owner.name..owner.name + usize::from(owner.name_len)];
        DomainName::from_slice(name).unwrap_or(DomainName::root_slice())
    }

    /// What at a name keeps a type from standing there, because one of both is a CNAME. Only what
    /// signs and denies may stand beside it (RFC 4034 section 3 and 4).
    fn beside_cname(&self, owner: usize, rtype: Rtype) -> Option<Rtype> {
        let may = |rtype| matches!(rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC);
        let mut there = self.chain(owner).map(|record| record.rtype);
        if rtype == Rtype::CNAME {
            there.find(|&other| !may(other))
        } else if may(rtype) {
            None
        } else {
            // A CNAME stands there alone, or with what may be beside it.
            there
                .take_while(|&other| may(other))
                .find(|&other| other == Rtype::CNAME)
        }
    }

    /// Whether a name has records of a type.
    pub fn has(&self, name: &DomainName<[u8]>, rtype: Rtype) -> bool {
        let hash = self.hasher.hash_one(name.as_slice());
        let found = self.index.find(hash, |&at| {
            self.name(&self.owners[at as usize]).as_slice() == name.as_slice()
        });
        found.is_some_and(|&owner| {
            self.chain(owner as usize)
                .any(|record| record.rtype == rtype)
        })
    }

    /// The least name that stands below one of these.
    pub fn below(&self, names: &[Name]) -> Option<(&DomainName<[u8]>, usize)> {
        let numbers = names.iter().enumerate();
        let numbers: HashMap<&[u8], usize> =
            numbers.map(|(at, name)| (name.as_slice(), at)).collect();
        let found = self.owners.iter().filter_map(|owner| {
            let name = self.name(owner);
            let mut above = ancestors(name, &self.apex);
            let at = above.find_map(|above| numbers.get(above.as_slice()))?;
            Some((name, *at))
        });
        found.min_by_key(|(name, _)| *name)
    }

    /// The zone.
    pub fn finish(self) -> Result<Zone, TooLarge> {
        let mut zone = Zone::empty(self.apex.clone());
        // What stands before each node and each record there.
        zone.reserve(
            self.owners.len(),
            self.octets.len() + 13 * self.owners.len() + 12 * self.records.len(),
        );
        let mut records = Vec::new();
        for (number, owner) in self.owners.iter().enumerate() {
            records.clear();
            records.extend(self.chain(number).map(|record| Record {
                rtype: record.rtype,
                rdata: self.rdata(record),
                ttl: record.ttl,
            }));
            zone.set(self.name(owner), &mut records)?;
        }
        zone.shrink();
        Ok(zone)
    }
}
