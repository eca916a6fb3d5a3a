//! Catalog zones (RFC 9432): `zone.catalog`, what stands beside it, and the zones that a catalog lists.

use std::collections::{HashMap, HashSet};

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, Said};
use super::transfer::{Allowed, Key, Keys, MAX_ZONES, Peer, Steered};
use super::{Claims, Config, ZoneFile};
use crate::base::name::{Name, parse_name};

/// Octets of a producer's name, at the most: there is room for the longest name below it.
pub const MAX_PRODUCER: usize = 200;
/// Octets of a group, at the most: one character-string.
const MAX_GROUP: usize = 255;

/// `zone.catalog`
#[derive(Clone, Debug)]
pub enum Catalog {
    /// The zones that it lists are zones of this server, made of these; the last is for every member.
    Consumer(Vec<Template>),
    /// It is generated, and lists zones of this server.
    Producer,
}

/// A zone that is here because a catalog lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// The catalog.
    pub catalog: Name,
    /// The label that it stands at there.
    pub id: Vec<u8>,
    /// Its groups there.
    pub groups: Vec<Vec<u8>>,
}

/// `[[zone.members]]`: what members of a catalog are.
#[derive(Clone, Debug)]
pub struct Template {
    /// For members of this group alone.
    pub group: Option<String>,
    /// Servers that they are transferred from.
    pub primaries: Vec<Peer>,
    /// Clients that may transfer them.
    pub allow_transfer: Vec<Allowed>,
    /// Servers that are told when they change.
    pub notify: Vec<Peer>,
}

/// `zone.in_catalog`: a catalog of ours that lists a zone.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The catalog.
    pub catalog: Name,
    /// `zone.catalog_group`
    pub group: Option<String>,
}

impl Reader<'_> {
    /// Reads the kind of catalog that a zone is, if it is one.
    pub(super) fn catalog(
        &self,
        zone: &file::Zone,
        name: &Judged<Name>,
        primaries: &Judged<Vec<Peer>>,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Judged<Option<Catalog>> {
        const KEY: &str = "zone.catalog";
        let Some(text) = &zone.catalog else {
            return match &zone.members {
                Some(members) => {
                    let message = "only with catalog = \"consumer\"; add that, or remove it";
                    Err(self.misfit(members.span(), "zone.members", message))
                }
                None => Ok(None),
            };
        };
        let words = [("consumer", true), ("producer", false)];
        let is_consumer = self.one_of(Some(text.clone()), KEY, false, &words)?;
        let mut judged = Ok(());
        if zone.in_catalog.is_some() {
            let message = "a catalog is in no catalog; remove in_catalog";
            judged = self.error(text.span(), KEY, message);
        }
        if is_consumer {
            let templates = self.templates(zone, primaries, key, keys);
            let templates = judged.and(templates)?;
            return Ok(Some(Catalog::Consumer(templates)));
        }
        if zone.file.is_some() || zone.primaries.is_some() {
            let message = "a producer is generated; remove its file and primaries";
            judged = self.error(text.span(), KEY, message);
        }
        if let Some(members) = &zone.members {
            let message = "only with catalog = \"consumer\"; a producer lists the zones that are \
                           in_catalog";
            judged = self.error(members.span(), "zone.members", message);
        }
        if name.as_ref().is_ok_and(|name| name.len() > MAX_PRODUCER) {
            let message = format!(
                "over {MAX_PRODUCER} octets, which leaves no room for members below it; choose a shorter one"
            );
            judged = self.error(zone.name.span(), "zone.name", message);
        }
        judged.map(|()| Some(Catalog::Producer))
    }

    fn templates(
        &self,
        zone: &file::Zone,
        primaries: &Judged<Vec<Peer>>,
        key: &Option<Key>,
        keys: &Keys,
    ) -> Judged<Vec<Template>> {
        const KEY: &str = "zone.members";
        let mut templates: Vec<Template> = Vec::new();
        let mut default = None;
        let mut judged = Ok(());
        // Groups that there have been.
        let mut groups: Vec<Option<String>> = Vec::new();
        for members in zone.members.iter().flat_map(|members| members.get_ref()) {
            let place = members.place(zone);
            let group = self.group(members.group.as_ref(), "zone.members.group");
            if let Ok(group) = &group {
                if groups.contains(group) {
                    let message = match group {
                        Some(group) => format!("a second one for group {group:?}; remove one"),
                        None => {
                            "a second one without group; remove one, or give it a group".to_owned()
                        }
                    };
                    judged = Err(self.misfit(place.clone(), KEY, message));
                }
                groups.push(group.clone());
            }
            let own = self.optional_key(members.tsig.as_ref(), "zone.members.tsig", keys);
            let key = own.clone().unwrap_or(None).or_else(|| key.clone());
            let from = match &members.primaries {
                Some(list) => self.peers(Some(list), "zone.members.primaries", &key, keys),
                None if zone.primaries.is_none() => {
                    let message = "missing; name the servers that members are transferred from";
                    Err(self.misfit(place, "zone.members.primaries", message))
                }
                None => primaries.clone(),
            };
            let allow = members.allow_transfer.clone();
            let allow_transfer = self.allowed(allow, "zone.members.allow_transfer", keys);
            let notify = members.notify.as_ref();
            let notify = self.peers(notify, "zone.members.notify", &key, keys);
            let template = || -> Judged<Template> {
                own?;
                Ok(Template {
                    group: group?,
                    primaries: from?,
                    allow_transfer: allow_transfer?,
                    notify: notify?,
                })
            };
            match template() {
                Ok(template) if template.group.is_some() => templates.push(template),
                Ok(template) => default = Some(template),
                Err(Said) => judged = Err(Said),
            }
        }
        judged?;
        if default.is_none() && zone.primaries.is_some() {
            default = Some(Template {
                group: None,
                primaries: primaries.clone()?,
                allow_transfer: Vec::new(),
                notify: Vec::new(),
            });
        }
        let Some(default) = default else {
            if zone.file.is_none() {
                // Which is said of the file.
                return Err(Said);
            }
            let message = "missing; a catalog from a file needs one that names the primaries of its \
                           members";
            return Err(self.misfit(zone.name.span(), KEY, message));
        };
        templates.push(default);
        Ok(templates)
    }

    /// Finds the catalog that is to list a zone, among these.
    pub(super) fn listing(
        &self,
        zone: &file::Zone,
        producers: &HashSet<Name>,
    ) -> Judged<Option<Listing>> {
        const KEY: &str = "zone.in_catalog";
        let group = self.group(zone.catalog_group.as_ref(), "zone.catalog_group");
        let Some(text) = &zone.in_catalog else {
            return match &zone.catalog_group {
                Some(alone) => {
                    let message = "only with in_catalog; add that, or remove it";
                    Err(self.misfit(alone.span(), "zone.catalog_group", message))
                }
                None => Ok(None),
            };
        };
        let catalog = self.name(text, KEY)?;
        // Of a catalog it is said that it is in none.
        if zone.catalog.is_none() && !producers.contains(&catalog) {
            let message = format!(
                "{catalog} is no [[zone]] with catalog = \"producer\"; add one, or correct the name"
            );
            return Err(self.unknown(text.span(), KEY, &["zone"], message));
        }
        group.map(|group| Some(Listing { catalog, group }))
    }

    /// Catalogs that list zones of this server, whatever else is wrong with them.
    pub(super) fn producers(&self, zones: &[file::Zone]) -> HashSet<Name> {
        let producers = zones.iter().filter(|zone| zone.is_producer());
        let names = producers.map(|zone| parse_name(zone.name.get_ref()));
        names.filter_map(Result::ok).collect()
    }

    fn group(&self, text: Option<&Spanned<String>>, place: &str) -> Judged<Option<String>> {
        match text {
            Some(text) if text.get_ref().is_empty() || text.get_ref().len() > MAX_GROUP => {
                let message = format!(
                    "{} octets; write 1 to {MAX_GROUP}, or leave the key out",
                    text.get_ref().len()
                );
                self.error(text.span(), place, message)
            }
            text => Ok(text.map(|text| text.get_ref().clone())),
        }
    }
}

impl file::Members {
    /// Where it stands, as far as its keys say.
    fn place(&self, zone: &file::Zone) -> std::ops::Range<usize> {
        let group = self.group.as_ref().map(Spanned::span);
        let primaries = self.primaries.as_ref().map(Spanned::span);
        let all = zone.members.as_ref().map(Spanned::span);
        group.or(primaries).or(all).unwrap_or_default()
    }
}

impl ZoneFile {
    /// A member of this catalog. `None`: this is none that has members.
    fn of_member(&self, member: &Member) -> Option<Self> {
        let Some(Catalog::Consumer(templates)) = &self.catalog else {
            return None;
        };
        let fits = |template: &&Template| {
            let group = template.group.as_ref();
            group.is_none_or(|group| member.groups.iter().any(|of| of == group.as_bytes()))
        };
        let template = templates.iter().find(fits)?;
        Some(Self {
            name: member.name.clone(),
            file: None,
            primaries: template.primaries.clone(),
            allow_transfer: template.allow_transfer.clone(),
            notify: template.notify.clone(),
            steered: Steered::Flatten,
            catalog: None,
            listing: None,
            member: Some(member.clone()),
            line: self.line,
        })
    }
}

impl Config {
    /// The members of catalogs.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.zones.iter().filter_map(|zone| zone.member.as_ref())
    }

    /// The largest number of members.
    pub fn room_for_members(&self) -> usize {
        let own = self.zones.iter().filter(|zone| zone.member.is_none());
        MAX_ZONES.saturating_sub(own.count())
    }

    /// The names that the zones of the file claim.
    pub fn claims(&self) -> Claims {
        let own = self.zones.iter().filter(|zone| zone.member.is_none());
        Claims::of(own.map(|zone| (&zone.name, zone.catalog.is_some())))
    }

    /// Puts the members of catalogs behind the zones of the file, in the place of all that were there. Those
    /// whose name, or a part of it, is taken, or whose catalog is not there, are left out, and so are those
    /// that there is no room for.
    pub fn set_members(&mut self, members: &[Member]) {
        self.zones.retain(|zone| zone.member.is_none());
        let mut claims = self.claims();
        let consumers = self.zones.iter().filter(|zone| zone.is_consumer());
        let consumers: HashMap<_, _> = consumers.map(|zone| (&zone.name, zone)).collect();
        let members = members.iter().filter_map(|one| {
            let zone = consumers.get(&one.catalog)?.of_member(one)?;
            claims.take(&one.name, &one.catalog).ok()?;
            Some(zone)
        });
        let members: Vec<_> = members.take(self.room_for_members()).collect();
        self.zones.extend(members);
    }
}
