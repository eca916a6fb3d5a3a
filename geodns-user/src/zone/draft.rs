//! A zone while its records come in, one after the other in any order, each with its place in the
//! files; and what may not stand at one name.

use std::cmp::Ordering;
use std::hash::BuildHasher as _;

use domain::base::{Name as DomainName, Rtype};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::problems::{At, Problems};
use super::run::Record;
use super::store::{self, TooLarge, Zone};
use super::{rdata, size};
use crate::base::name::Name;

/// No further record.
const END: u32 = u32::MAX;

/// RDATA of more octets is looked at even if it stands alone.
const LONG: u16 = 10_000;

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
    name: u32,
    first: u32,
    last: u32,
    name_len: u8,
}

/// A record of a chain.
#[derive(Clone, Copy)]
struct Place {
    rdata: u32,
    next: u32,
    ttl: u32,
    line: u32,
    file: u16,
    rtype: Rtype,
    rdata_len: u16,
}

impl Place {
    fn at(&self) -> At {
        At {
            file: self.file,
            line: self.line,
        }
    }
}

/// A record, and where it is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub owner: &'a DomainName<[u8]>,
    pub rtype: Rtype,
    pub rdata: &'a [u8],
    pub at: At,
}

impl Written<'_> {
    /// Owner and type, for messages.
    pub fn key(&self) -> Option<String> {
        Some(format!("{} {}", self.owner, self.rtype))
    }
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

    /// Adds a record: owner in lower case, in the zone; RDATA in canonical form, of 16 bits of length.
    pub fn add(
        &mut self,
        owner: &[u8],
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
        at: At,
    ) -> Result<(), TooLarge> {
        let number = u32::try_from(self.records.len()).unwrap_or(END);
        let rdata_len = u16::try_from(rdata.len()).map_err(|_| TooLarge)?;
        let more = self.octets.len() + owner.len() + rdata.len();
        if number == END || u32::try_from(more).is_err() {
            return Err(TooLarge);
        }
        let owner = self.owner(owner);
        let place = Place {
            rdata: self.octets.len() as u32,
            next: END,
            ttl,
            line: at.line,
            file: at.file,
            rtype,
            rdata_len,
        };
        self.octets.extend_from_slice(rdata);
        self.records.push(place);
        let owner = &mut self.owners[owner];
        match owner.last {
            END => owner.first = number,
            last => self.records[last as usize].next = number,
        }
        owner.last = number;
        Ok(())
    }

    /// Number of an owner, which is there from then on.
    fn owner(&mut self, name: &[u8]) -> usize {
        // Records of one name mostly stand together.
        if let Some(last) = self.owners.last()
            && name_of(&self.octets, last) == name
        {
            return self.owners.len() - 1;
        }
        let hash = self.hasher.hash_one(name);
        let Self {
            octets,
            owners,
            index,
            hasher,
            ..
        } = self;
        let found = index.find(hash, |&at| name_of(octets, &owners[at as usize]) == name);
        if let Some(&there) = found {
            return there as usize;
        }
        let number = owners.len();
        owners.push(Owner {
            name: octets.len() as u32,
            first: END,
            last: END,
            name_len: name.len() as u8,
        });
        octets.extend_from_slice(name);
        // There are no more owners than records.
        index.insert_unique(hash, number as u32, |&at| {
            hasher.hash_one(name_of(octets, &owners[at as usize]))
        });
        number
    }

    fn chain(&self, owner: &Owner) -> impl Iterator<Item = &Place> {
        let mut next = owner.first;
        std::iter::from_fn(move || {
            let record = self.records.get(next as usize)?;
            next = record.next;
            Some(record)
        })
    }

    fn rdata(&self, record: &Place) -> &[u8] {
        let from = record.rdata as usize;
        &self.octets[from..from + usize::from(record.rdata_len)]
    }

    /// Compares RDATA of one type.
    fn compare(&self, one: &Place, other: &Place) -> Ordering {
        rdata::compare(one.rtype, self.rdata(one), self.rdata(other))
    }

    fn name(&self, owner: &Owner) -> &DomainName<[u8]> {
        let name = name_of(&self.octets, owner);
        DomainName::from_slice(name).unwrap_or(DomainName::root_slice())
    }

    /// All records, those of each owner together.
    pub fn records(&self) -> impl Iterator<Item = Written<'_>> {
        self.owners.iter().flat_map(|owner| {
            self.chain(owner).map(|record| Written {
                owner: self.name(owner),
                rtype: record.rtype,
                rdata: self.rdata(record),
                at: record.at(),
            })
        })
    }

    /// The zone; `problems` gets what may not stand together at one name. The zone is of use even then,
    /// to look for further problems.
    pub fn zone(&self, problems: &mut Problems) -> Result<Zone, TooLarge> {
        let mut zone = Zone::empty(self.apex.clone());
        // What stands before each node and each record there.
        zone.reserve(
            self.owners.len(),
            self.octets.len() + 13 * self.owners.len() + 12 * self.records.len(),
        );
        let mut places = Vec::new();
        let mut records = Vec::new();
        for owner in &self.owners {
            places.clear();
            places.extend(self.chain(owner));
            if places.len() > 1 || places.iter().any(|place: &&Place| place.rdata_len > LONG) {
                self.beside(owner, &mut places, problems);
            }
            records.clear();
            records.extend(places.iter().map(|record| Record {
                rtype: record.rtype,
                rdata: self.rdata(record),
                ttl: record.ttl,
            }));
            zone.fill(self.name(owner), &mut records)?;
        }
        zone.shrink();
        Ok(zone)
    }

    /// Looks at the records of one name, in the order of the files.
    fn beside(&self, owner: &Owner, places: &mut [&Place], problems: &mut Problems) {
        let key = |rtype: Rtype| Some(format!("{} {rtype}", self.name(owner)));
        // Only what signs and denies may stand beside a CNAME (RFC 4034 section 3 and 4).
        let may = |rtype| matches!(rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC);
        let alias = places.iter().position(|place| place.rtype == Rtype::CNAME);
        let other = places.iter().position(|place| !may(place.rtype));
        // At the apex the CNAME has been refused for itself.
        if let (Some(alias), Some(other)) = (alias, other)
            && self.name(owner).as_slice() != self.apex.as_slice()
        {
            let (first, later) = (places[alias.min(other)], places[alias.max(other)]);
            let message = format!(
                "stands beside {}; nothing may stand beside a CNAME (RFC 2181 section 10.1), remove one",
                first.rtype
            );
            problems.error(later.at(), key(later.rtype), message);
        }
        let kind = |place: &Place| store::kind(place.rtype, self.rdata(place));
        places.sort_by_key(|place| kind(place));
        for rrset in places.chunk_by_mut(|one, next| kind(one) == kind(next)) {
            if rrset.len() > 1 {
                self.together(rrset, problems, key);
            }
        }
        for of_type in places.chunk_by(|one, next| one.rtype == next.rtype) {
            self.fits(of_type, problems, key);
        }
    }

    /// Looks at an RRset, in the order of the files, and puts it in the order of its RDATA.
    fn together(
        &self,
        rrset: &mut [&Place],
        problems: &mut Problems,
        key: impl Fn(Rtype) -> Option<String>,
    ) {
        let first = rrset[0];
        let rtype = first.rtype;
        let least = rrset
            .iter()
            .map(|place| place.ttl)
            .min()
            .unwrap_or(first.ttl);
        for place in &rrset[1..] {
            if place.ttl != first.ttl {
                let message = format!(
                    "TTL {} beside {} in one RRset; taking {least}",
                    place.ttl, first.ttl
                );
                problems.warning(place.at(), key(rtype), message);
            }
            if matches!(rtype, Rtype::SOA | Rtype::CNAME | Rtype::DNAME)
                && self.compare(place, first).is_ne()
            {
                let message = format!("a second {rtype}; a name has one, remove one");
                problems.error(place.at(), key(rtype), message);
            }
        }
        rrset.sort_by(|one, other| self.compare(one, other));
        for same in rrset.chunk_by(|one, next| self.compare(one, next).is_eq()) {
            for place in &same[1..] {
                let message = format!(
                    "the same record stands in line {} already; remove one",
                    same[0].line
                );
                problems.warning(place.at(), key(rtype), message);
            }
        }
    }

    /// Whether the records of a type, sorted, fit into a message.
    fn fits(
        &self,
        records: &[&Place],
        problems: &mut Problems,
        key: impl Fn(Rtype) -> Option<String>,
    ) {
        let single = records.chunk_by(|one, next| self.compare(one, next).is_eq());
        let lens = single.map(|same| usize::from(same[0].rdata_len));
        if let Err(message) = size::check(lens)
            && let Some(first) = records.iter().min_by_key(|place| place.at())
        {
            problems.error(first.at(), key(first.rtype), message);
        }
    }
}

fn name_of<'a>(octets: &'a [u8], owner: &Owner) -> &'a [u8] {
    let from = owner.name as usize;
    &octets[from..from + usize::from(owner.name_len)]
}
