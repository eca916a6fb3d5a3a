//! Catalog zones (RFC 9432): `zone.catalog`, what stands beside it, and the zones that a catalog lists.

use std::collections::{HashMap, HashSet};

use super::check::Check;
use super::file::{self, Spanned};
use super::transfer::{Allowed, Key, Keys, Peer, Steered};
use super::{Config, Error, ZoneFile};
use crate::zone::Name;
use crate::zone::catalog::claims::Claims;
use crate::zone::catalog::{MAX_PRODUCER, Member};

/// Zones that there may be, at the most: their numbers have 16 bits.
pub const MAX_ZONES: usize = u16::MAX as usize;
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

/// `[[zone.members]]`: what members of a catalog are.
#[derive(Clone, Debug)]
pub struct Template {
    /// For members of this group alone.
    pub group: Option<String>,
    /// Servers that they are transferred from.
    pub primaries: Vec<Peer>,
    /// Who may have them.
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

impl Check<'_> {
    /// What kind of catalog a zone is, if it is one.
    pub(super) fn catalog(
        &self,
        zone: &file::Zone,
        name: &Name,
        primaries: &[Peer],
        key: &Option<Key>,
        keys: &Keys,
    ) -> Result<Option<Catalog>, Error> {
        const KEY: &str = "zone.catalog";
        let Some(text) = &zone.catalog else {
            return match &zone.members {
                Some(members) => {
                    let message = "only with catalog = \"consumer\"; add that, or remove it";
                    self.error(members.span(), "zone.members", message.to_owned())
                }
                None => Ok(None),
            };
        };
        let wrong = |message: &str| self.error(text.span(), KEY, message.to_owned());
        let is_consumer = self.one_of(
            Some(text.clone()),
            KEY,
            false,
            &[("consumer", true), ("producer", false)],
        )?;
        if zone.in_catalog.is_some() {
            return wrong("a catalog is in no catalog; remove in_catalog");
        }
        if is_consumer {
            let templates = self.templates(zone, primaries, key, keys)?;
            return Ok(Some(Catalog::Consumer(templates)));
        }
        if zone.file.is_some() || !primaries.is_empty() {
            return wrong("a producer is generated; remove its file and primaries");
        }
        if let Some(members) = &zone.members {
            let message = "only with catalog = \"consumer\"; a producer lists the zones that are \
                           in_catalog";
            return self.error(members.span(), "zone.members", message.to_owned());
        }
        if name.len() > MAX_PRODUCER {
            let message = format!(
                "over {MAX_PRODUCER} octets, which leaves no room for members below it; choose a shorter one"
            );
            return self.error(zone.name.span(), "zone.name", message);
        }
        Ok(Some(Catalog::Producer))
    }

    fn templates(
        &self,
        zone: &file::Zone,
        primaries: &[Peer],
        key: &Option<Key>,
        keys: &Keys,
    ) -> Result<Vec<Template>, Error> {
        const KEY: &str = "zone.members";
        let mut templates: Vec<Template> = Vec::new();
        let mut default = None;
        for members in zone.members.iter().flat_map(|members| members.get_ref()) {
            let place = members.place(zone);
            let group = self.group(members.group.as_ref(), "zone.members.group")?;
            let same = |other: &Template| other.group == group;
            if templates.iter().chain(&default).any(same) {
                let message = match &group {
                    Some(group) => format!("a second one for group {group:?}; remove one"),
                    None => "a second one without group; remove one, or give it a group".to_owned(),
                };
                return self.error(place, KEY, message);
            }
            let own = self.optional_key(members.tsig.as_ref(), "zone.members.tsig", keys)?;
            let key = own.or_else(|| key.clone());
            let list = members.primaries.as_ref();
            let mut from = self.peers(list, "zone.members.primaries", &key, keys)?;
            if from.is_empty() {
                from = primaries.to_vec();
            }
            if from.is_empty() {
                let message = "missing; name the servers that members are transferred from";
                return self.error(place, "zone.members.primaries", message.to_owned());
            }
            let allow = members.allow_transfer.clone();
            let template = Template {
                primaries: from,
                allow_transfer: self.allowed(allow, "zone.members.allow_transfer", keys)?,
                notify: self.peers(members.notify.as_ref(), "zone.members.notify", &key, keys)?,
                group,
            };
            match template.group {
                Some(_) => templates.push(template),
                None => default = Some(template),
            }
        }
        let default = default.or_else(|| {
            (!primaries.is_empty()).then(|| Template {
                group: None,
                primaries: primaries.to_vec(),
                allow_transfer: Vec::new(),
                notify: Vec::new(),
            })
        });
        let Some(default) = default else {
            let message = "missing; a catalog from a file needs one that names the primaries of its \
                           members";
            return self.error(zone.name.span(), KEY, message.to_owned());
        };
        templates.push(default);
        Ok(templates)
    }

    /// Which catalog is to list a zone.
    pub(super) fn listing(&self, zone: &file::Zone) -> Result<Option<Listing>, Error> {
        let group = self.group(zone.catalog_group.as_ref(), "zone.catalog_group")?;
        match (&zone.in_catalog, &zone.catalog_group) {
            (Some(catalog), _) => Ok(Some(Listing {
                catalog: self.name(catalog, "zone.in_catalog")?,
                group,
            })),
            (None, Some(alone)) => {
                let message = "only with in_catalog; add that, or remove it".to_owned();
                self.error(alone.span(), "zone.catalog_group", message)
            }
            (None, None) => Ok(None),
        }
    }

    fn group(&self, text: Option<&Spanned<String>>, place: &str) -> Result<Option<String>, Error> {
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

    /// Whether the catalogs that zones are to be in are there.
    pub(super) fn listings(&self, zones: &[ZoneFile]) -> Result<(), Error> {
        let producers: HashSet<&Name> = zones
            .iter()
            .filter(|zone| zone.is_producer())
            .map(|zone| &zone.name)
            .collect();
        for zone in zones {
            let Some(Listing { catalog, .. }) = &zone.listing else {
                continue;
            };
            if !producers.contains(catalog) {
                return Err(Error {
                    file: self.source.path.to_owned(),
                    line: Some(zone.line),
                    key: Some("zone.in_catalog".to_owned()),
                    message: format!(
                        "{catalog} is no [[zone]] with catalog = \"producer\"; add one, or correct the name"
                    ),
                });
            }
        }
        Ok(())
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

    /// How many members there may be.
    pub fn room_for_members(&self) -> usize {
        let own = self.zones.iter().filter(|zone| zone.member.is_none());
        MAX_ZONES.saturating_sub(own.count())
    }

    /// What the zones of the file have of all names.
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
