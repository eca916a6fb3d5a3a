//! Catalog zones (RFC 9432): zones that list other zones, their members, for servers that are to have them.
//! All of it is pure.
//!
//! - [`read`]: a catalog to its entries, or why it is broken
//! - [`merge`]: what several catalogs say, and who was a member before, to the members that there are
//! - [`Ledger`], [`write()`]: zones to a catalog that lists them

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::Hasher as _;

use domain::base::{Name as DomainName, Rtype, Serial};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::acme::next;
use super::run::Record;
use super::store::{Node, TooLarge, Zone};
use crate::base::name::{Name, parse_name};
use crate::config::{Claims, Member};

/// The version of the format that this reads and writes (section 4.2.1).
const VERSION: &[u8] = b"2";
/// Members that are said to be left alone, each in its own line, at the most.
const MAX_COMPLAINTS: usize = 100;
/// Timers of a catalog's SOA record: refresh, retry, expire, and the TTL of negative answers, in seconds.
const TIMES: [u32; 4] = [3600, 600, i32::MAX as u32 - 1, 0];

/// One member of a catalog, as the catalog lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The member's name.
    pub name: Name,
    /// The label that it stands at, in lower case: another one, another zone (section 5.4).
    pub id: Vec<u8>,
    /// The group whose settings the member gets (section 4.4.2).
    pub groups: Vec<Vec<u8>>,
    /// The catalog that may take it over (section 4.4.1).
    pub coo: Option<Name>,
}

/// Why a catalog is not to be used (section 5.1). Displays as the middle of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The version is missing, or there are several.
    #[error("{records} TXT records at version.{catalog}, and there must be one")]
    Versions {
        /// The catalog.
        catalog: Name,
        /// How many there are.
        records: usize,
    },
    /// A version that nobody here knows.
    #[error("its version is {0:?}, and only \"2\" is known")]
    Version(String),
    /// A name that may have one PTR record has several.
    #[error("{owner} has {records} PTR records, and one is the most")]
    Several {
        /// The name.
        owner: Name,
        /// How many there are.
        records: usize,
    },
    /// A member is listed twice.
    #[error("it lists {0} twice")]
    Twice(Name),
}

/// The members that a catalog lists, by name. What is not known of them is ignored (section 4.3).
pub fn read(zone: &Zone) -> Result<Vec<Entry>, Broken> {
    version(zone)?;
    let Some(zones) = below(b"zones", zone.apex.as_slice()) else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::new();
    for node in zone.nodes() {
        let Some(id) = label_below(node.name(), &zones) else {
            continue;
        };
        let Some(name) = pointer(node)? else {
            continue;
        };
        let property = |label: &[u8]| {
            let owner = below(label, node.name().as_slice())?;
            zone.node(DomainName::from_slice(&owner).ok()?)
        };
        entries.push(Entry {
            name,
            id: id.to_vec(),
            groups: property(b"group").map_or(Vec::new(), texts),
            coo: property(b"coo").map_or(Ok(None), pointer)?,
        });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut pairs = entries.windows(2);
    match pairs.find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(Broken::Twice(pair[0].name.clone())),
        None => Ok(entries),
    }
}

fn version(zone: &Zone) -> Result<(), Broken> {
    let owner = below(b"version", zone.apex.as_slice());
    let owner = owner.and_then(|owner| DomainName::from_octets(owner).ok());
    let node = owner.and_then(|owner| zone.node(owner.for_slice()));
    let mut texts = node.map_or(Vec::new(), texts);
    match (texts.pop(), texts.len()) {
        (Some(text), 0) if text == VERSION => Ok(()),
        (Some(text), 0) => Err(Broken::Version(String::from_utf8_lossy(&text).into_owned())),
        (last, others) => Err(Broken::Versions {
            catalog: zone.apex.clone(),
            records: others + usize::from(last.is_some()),
        }),
    }
}

/// A label before a name. `None`: that would be too long.
fn below(label: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let octets = [&[u8::try_from(label.len()).ok()?], label, name].concat();
    (octets.len() <= DomainName::MAX_LEN).then_some(octets)
}

/// The first label of a name that stands right below another.
fn label_below<'a>(name: &'a DomainName<[u8]>, above: &[u8]) -> Option<&'a [u8]> {
    let (&len, rest) = name.as_slice().split_first()?;
    let (label, rest) = rest.split_at_checked(len.into())?;
    (rest == above).then_some(label)
}

/// Where the PTR record of a name leads.
fn pointer(node: Node<'_>) -> Result<Option<Name>, Broken> {
    let targets = node.rrset(Rtype::PTR).into_iter();
    let targets: Vec<_> = targets.flat_map(|rrset| rrset.rdata()).collect();
    match targets[..] {
        [] => Ok(None),
        // Lengths of labels are below letters.
        [one] => Ok(Name::from_octets(one.to_ascii_lowercase().into()).ok()),
        _ => Err(Broken::Several {
            owner: Name::from_octets(node.name().as_slice().to_vec().into())
                .unwrap_or_else(|_| Name::root_bytes()),
            records: targets.len(),
        }),
    }
}

/// The texts of a name's TXT records.
fn texts(node: Node<'_>) -> Vec<Vec<u8>> {
    let of = |rdata: &[u8]| {
        let mut rest = rdata;
        let mut text = Vec::new();
        while let Some((&len, after)) = rest.split_first() {
            let (string, after) = after.split_at(after.len().min(len.into()));
            text.extend_from_slice(string);
            rest = after;
        }
        text
    };
    let records = node.rrset(Rtype::TXT).into_iter();
    records.flat_map(|rrset| rrset.rdata()).map(of).collect()
}

/// A catalog, and what it says.
#[derive(Debug)]
pub struct Said {
    /// Its name.
    pub catalog: Name,
    /// Its entries. `None`: it is broken, has expired, or never came: its members stay as they are.
    pub entries: Option<Vec<Entry>>,
}

impl Said {
    fn by_name(&self) -> Option<HashMap<&Name, &Entry>> {
        let entries = self.entries.as_ref()?.iter();
        Some(entries.map(|entry| (&entry.name, entry)).collect())
    }
}

/// The result of [`merge`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The members that there are, by name.
    pub members: Vec<Member>,
    /// Those of them that begin without what there was under their name.
    pub fresh: HashSet<Name>,
    /// Changes that are not made, each with the reason.
    pub complaints: Vec<Complaint>,
}

/// Something that a catalog says and that is not done. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The catalog; `None`: several.
    pub catalog: Option<Name>,
    /// The member; `None`: all of the catalog.
    pub member: Option<Name>,
    /// Why.
    pub cause: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &self.cause;
        match (&self.catalog, &self.member) {
            (Some(catalog), Some(_)) => write!(f, "catalog {catalog}: {cause}"),
            (Some(catalog), None) => write!(
                f,
                "catalog {catalog} is broken: {cause}; its members stay as they are"
            ),
            (None, _) => write!(f, "catalogs: {cause}"),
        }
    }
}

/// The members that there are, from what all catalogs say and who was a member before.
///
/// A name that the configuration or another catalog has, or has a part of, is left alone (section 5.2), unless
/// its catalog hands it over (section 4.4.1). `claims`: what the configuration has. `room`: how many members
/// there may be.
pub fn merge(said: &[Said], before: &[Member], mut claims: Claims, room: usize) -> Merged {
    let entries: HashMap<&Name, Option<HashMap<&Name, &Entry>>> = said
        .iter()
        .map(|said| (&said.catalog, said.by_name()))
        .collect();
    let entry = |catalog: &Name, name: &Name| entries.get(catalog)?.as_ref()?.get(name).copied();
    let mut members: BTreeMap<Name, Member> = BTreeMap::new();
    let mut merged = Merged::default();
    let mut without_room = Vec::new();
    let mut put = |member: Member, members: &mut BTreeMap<Name, Member>| {
        let fits = members.len() < room;
        if fits {
            members.insert(member.name.clone(), member);
        } else {
            without_room.push(member.name);
        }
        fits
    };

    // Whoever was here before comes first, and whoever stays with its catalog before those handed over.
    let mut handed_over = Vec::new();
    for old in before {
        let now = match entries.get(&old.catalog) {
            None => continue,
            Some(None) => old.clone(),
            Some(Some(own)) => {
                let Some(own) = own.get(&old.name) else {
                    continue;
                };
                let heir = own.coo.as_ref();
                let heir = heir.and_then(|heir| entry(heir, &old.name)?.member_of(heir).into());
                if let Some(heir) = heir {
                    handed_over.push((old, heir, own.member_of(&old.catalog)));
                    continue;
                }
                own.member_of(&old.catalog)
            }
        };
        // What is said of it is said below, where its catalog lists it.
        if claims.take(&now.name, &now.catalog).is_ok() {
            let (name, is_fresh) = (now.name.clone(), now.id != old.id);
            if put(now, &mut members) && is_fresh {
                merged.fresh.insert(name);
            }
        }
    }
    for (old, heir, own) in handed_over {
        let mut heirs = [heir, own].into_iter();
        let now = heirs.find(|one| claims.take(&one.name, &one.catalog).is_ok());
        if let Some(now) = now {
            let is_fresh = now.id != old.id;
            if put(now, &mut members) && is_fresh {
                merged.fresh.insert(old.name.clone());
            }
        }
    }
    let mut unsaid = 0usize;
    for Said { catalog, entries } in said {
        for one in entries.iter().flatten() {
            let owner = members.get(&one.name).map(|member| &member.catalog);
            if owner.is_some_and(|owner| owner == catalog || one.coo.as_ref() == Some(owner)) {
                continue;
            }
            match claims.take(&one.name, catalog) {
                Ok(()) => {
                    if put(one.member_of(catalog), &mut members) {
                        merged.fresh.insert(one.name.clone());
                    }
                }
                Err(clash) if merged.complaints.len() < MAX_COMPLAINTS => {
                    merged.complaints.push(Complaint {
                        catalog: Some(catalog.clone()),
                        member: Some(one.name.clone()),
                        cause: clash.to_string(),
                    });
                }
                Err(_) => unsaid += 1,
            }
        }
    }
    let of_several = |cause| Complaint {
        catalog: None,
        member: None,
        cause,
    };
    if unsaid > 0 {
        let cause = format!("{unsaid} more members are left alone");
        merged.complaints.push(of_several(cause));
    }
    without_room.sort_unstable();
    without_room.dedup();
    if let Some(first) = without_room.first() {
        let cause = format!(
            "there is no room for {} members, {first} the first: {room} are all there may be",
            without_room.len()
        );
        merged.complaints.push(of_several(cause));
    }
    merged.members = members.into_values().collect();
    merged
}

impl Entry {
    fn member_of(&self, catalog: &Name) -> Member {
        Member {
            name: self.name.clone(),
            catalog: catalog.clone(),
            id: self.id.clone(),
            groups: self.groups.clone(),
        }
    }
}

/// The zones that a producer has listed so far, kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Its serial.
    pub serial: u32,
    /// By name, what is listed and what was.
    pub zones: BTreeMap<String, Listed>,
}

/// A zone of a [`Ledger`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Whether it is listed now.
    pub is_member: bool,
    /// How often it has come back: it gets another label each time.
    pub times: u32,
    /// Its group.
    pub group: Option<String>,
}

impl Ledger {
    /// Lists these zones, each with its group, and no others. The serial grows if that changes anything: to
    /// the time, in seconds since 1970, as long as that is later.
    pub fn list(&mut self, zones: &BTreeMap<String, Option<String>>, now: u32) {
        let before = self.clone();
        for (name, listed) in &mut self.zones {
            listed.is_member &= zones.contains_key(name);
        }
        for (name, group) in zones {
            let is_known = self.zones.contains_key(name);
            let listed = self.zones.entry(name.clone()).or_default();
            if is_known && !listed.is_member {
                listed.times += 1;
            }
            listed.is_member = true;
            listed.group.clone_from(group);
        }
        if *self != before || self.serial == 0 {
            self.serial = match self.serial {
                0 => now.max(1),
                before if Serial(now) > Serial(before) => now,
                before => next(before),
            };
        }
    }

    /// The entries that its catalog has.
    pub fn entries(&self) -> Vec<Entry> {
        let members = self.zones.iter().filter(|(_, listed)| listed.is_member);
        let entries = members.filter_map(|(name, listed)| {
            let name = parse_name(name).ok()?;
            let groups = listed.group.iter().map(|group| group.clone().into_bytes());
            Some(Entry {
                id: label(&name, listed.times),
                groups: groups.collect(),
                name,
                coo: None,
            })
        });
        entries.collect()
    }
}

/// The label of a member: the same on every server, and another when the member has come back.
fn label(name: &Name, times: u32) -> Vec<u8> {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_slice());
    hasher.write(&times.to_be_bytes());
    let hash = hasher.finish128();
    format!("{:016x}{:016x}", hash.h1, hash.h2).into_bytes()
}

/// A catalog of these members. Its name has [`MAX_PRODUCER`](crate::config::MAX_PRODUCER) octets at the most.
pub fn write(apex: &Name, serial: u32, members: &[Entry]) -> Result<Zone, TooLarge> {
    const INVALID: &[u8] = b"\x07invalid\0";
    let mut zone = Zone::empty(apex.clone());
    let mut soa = [INVALID, INVALID, &serial.to_be_bytes()].concat();
    soa.extend(TIMES.iter().flat_map(|time| time.to_be_bytes()));
    let apex = apex.as_slice();
    put(
        &mut zone,
        Some(apex.to_vec()),
        &[(Rtype::SOA, soa), (Rtype::NS, INVALID.to_vec())],
    )?;
    let version = [(Rtype::TXT, text(VERSION))];
    put(&mut zone, below(b"version", apex), &version)?;
    let zones = below(b"zones", apex).unwrap_or_default();
    for Entry {
        name,
        id,
        groups,
        coo,
    } in members
    {
        let node = below(id, &zones);
        let property = |label: &[u8]| below(label, node.as_ref()?);
        let pointer = |name: &Name| (Rtype::PTR, name.as_slice().to_vec());
        let groups: Vec<_> = groups
            .iter()
            .map(|group| (Rtype::TXT, text(group)))
            .collect();
        let coo: Vec<_> = coo.iter().map(pointer).collect();
        put(&mut zone, property(b"group"), &groups)?;
        put(&mut zone, property(b"coo"), &coo)?;
        put(&mut zone, node, &[pointer(name)])?;
    }
    Ok(zone)
}

/// Puts records at a name, if it is one.
fn put(
    zone: &mut Zone,
    owner: Option<Vec<u8>>,
    records: &[(Rtype, Vec<u8>)],
) -> Result<(), TooLarge> {
    let owner = owner.and_then(|owner| DomainName::from_octets(owner).ok());
    let Some(owner) = owner.filter(|_| !records.is_empty()) else {
        return Ok(());
    };
    let records = records.iter();
    let mut records: Vec<_> = records
        .map(|(rtype, rdata)| Record {
            rtype: *rtype,
            rdata,
            ttl: 0,
        })
        .collect();
    zone.set(owner.for_slice(), &mut records)
}

/// A character-string (RFC 1035 section 3.3.14), of 255 octets at the most.
fn text(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(255)];
    [&[text.len() as u8], text].concat()
}

#[cfg(test)]
mod tests;
