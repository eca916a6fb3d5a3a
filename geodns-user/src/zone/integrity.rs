//! Whether what a zone says fits together: what named-checkzone calls integrity, and more.
//!
//! Errors keep a zone from being served: an NS record at the apex whose name, in the zone, has no
//! address or is an alias; names below a DNAME (RFC 6672 section 2.4); NS records at a wildcard; DS
//! records at the apex. All else is a warning.

use domain::base::{Name as DomainName, Rtype};
use hashbrown::{HashMap, HashSet};

use super::Names;
use super::draft::{Draft, Written};
use super::problems::{At, Problems};
use super::rdata::name_len;
use super::store::{Node, Zone};
use crate::base::name::{Name, ancestors};

/// Aliases that are followed to see whether they go round in circles.
const MAX_CHAIN: usize = 16;

/// The state of a check of a zone.
pub(super) struct Integrity<'a> {
    pub zone: &'a Zone,
    /// Names that a pool answers: their addresses are not in the file.
    pub steered: &'a Names,
    /// Names that have records which could not be read.
    pub doubtful: &'a HashSet<Vec<u8>>,
    pub problems: &'a mut Problems,
    /// Whether anything is below a cut or a DNAME.
    has_cuts: bool,
    /// Whether a key has been seen.
    has_key: bool,
}

/// The warning about a signed zone.
pub const SIGNED: &str = "the zone is signed, and is served without its signatures: resolvers that validate \
    refuse its answers if the parent has a DS record; remove that, or serve the zone by a server that gives signatures";

/// The end of the way of a name that a record points to.
enum Target {
    /// Its addresses are not this zone's to give, or it has some.
    Fine,
    /// It is below a zone cut, and has no address there.
    NoGlue,
    Alias,
    /// It is below a DNAME, which makes it one.
    BelowDname,
    /// It is there, without an address.
    NoAddress,
    Absent,
}

type Borrowed = DomainName<[u8]>;

impl<'a> Integrity<'a> {
    pub fn new(
        zone: &'a Zone,
        steered: &'a Names,
        doubtful: &'a HashSet<Vec<u8>>,
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            zone,
            steered,
            doubtful,
            problems,
            has_cuts: false,
            has_key: false,
        }
    }

    /// Looks at all of it.
    pub fn check(&mut self, draft: &Draft) {
        let mut dnames = HashMap::new();
        for record in draft.records() {
            let apex = record.owner.as_slice() == self.zone.apex.as_slice();
            self.has_cuts |= record.rtype == Rtype::DNAME || (record.rtype == Rtype::NS && !apex);
            if record.rtype == Rtype::DNAME {
                dnames.insert(record.owner.as_slice(), record.at);
            }
        }
        for record in draft.records() {
            self.host_owner(&record);
            match record.rtype {
                Rtype::SOA => self.soa(&record),
                Rtype::NS => self.ns(&record),
                Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => self.mail(&record),
                Rtype::SRV => self.srv(&record),
                Rtype::CNAME => self.cname(&record),
                Rtype::PTR => self.ptr(&record),
                Rtype::DNAME => self.dname(&record),
                Rtype::DS | Rtype::CDS | Rtype::CDNSKEY => self.delegation_signer(&record),
                Rtype::DNSKEY => self.key(&record),
                Rtype::SPF => self.spf(&record),
                _ => {}
            }
            if self.has_cuts {
                self.occluded(&record);
            }
        }
        self.below_dnames(draft, &dnames);
    }

    fn warn(&mut self, record: &Written<'_>, message: impl Into<String>) {
        self.problems.warning(record.at, record.key(), message);
    }

    fn is_apex(&self, name: &Borrowed) -> bool {
        name.as_slice() == self.zone.apex.as_slice()
    }

    /// Follows a name, as it stands in RDATA.
    fn target(&self, name: &Borrowed) -> Target {
        if !name.ends_with(&self.zone.apex) || self.doubtful.contains(name.as_slice()) {
            return Target::Fine;
        }
        if self.has_cuts
            && let Some(target) = self.below(name)
        {
            return target;
        }
        if let Some(target) = self.at(name.as_slice()) {
            return target;
        }
        // A wildcard beside the closest encloser (RFC 4592 section 3.3.1), which is there if it is.
        let mut wildcard = Vec::new();
        for above in ancestors(name, &self.zone.apex) {
            wildcard.clear();
            wildcard.extend_from_slice(b"\x01*");
            wildcard.extend_from_slice(above.as_slice());
            if let Some(target) = self.at(&wildcard) {
                return target;
            }
            if self.there(above).is_some() || self.steered.contains(above.as_slice()) {
                break;
            }
        }
        Target::Absent
    }

    /// Follows a name that is in the zone itself; `None` if nothing stands there.
    fn at(&self, name: &[u8]) -> Option<Target> {
        if self.steered.contains(name) || self.doubtful.contains(name) {
            return Some(Target::Fine);
        }
        let node = self.there(DomainName::from_slice(name).ok()?)?;
        Some(if has_address(node) {
            Target::Fine
        } else if node.has(Rtype::CNAME) {
            Target::Alias
        } else {
            Target::NoAddress
        })
    }

    fn there(&self, name: &Borrowed) -> Option<Node<'_>> {
        self.zone.node(name)
    }

    /// Follows a name at or below the highest cut or DNAME on its way.
    fn below(&self, name: &Borrowed) -> Option<Target> {
        let mut found = None;
        if self.zone.is_cut(name) {
            found = Some(Rtype::NS);
        }
        for above in ancestors(name, &self.zone.apex) {
            if self.zone.is_cut(above) {
                found = Some(Rtype::NS);
            } else if self.there(above).is_some_and(|node| node.has(Rtype::DNAME)) {
                found = Some(Rtype::DNAME);
            }
        }
        match found? {
            Rtype::DNAME => Some(Target::BelowDname),
            _ if self.there(name).is_some_and(has_address) => Some(Target::Fine),
            _ => Some(Target::NoGlue),
        }
    }

    fn ns(&mut self, record: &Written<'_>) {
        let Some(target) = in_lower_case(record.rdata) else {
            return;
        };
        let target = target.for_slice();
        if record.owner.as_slice().starts_with(b"\x01*") && !self.is_apex(record.owner) {
            let message = "a wildcard cannot be delegated (RFC 4592 section 4.2); remove it";
            self.problems.error(record.at, record.key(), message);
            return;
        }
        self.like_an_address(record, target);
        self.host(record, target);
        let found = self.target(target);
        let no_glue = matches!(found, Target::NoGlue);
        let what = match found {
            Target::Fine => return,
            // Addresses of a server that somebody else's delegation holds are that zone's to give.
            Target::NoGlue if !self.is_apex(record.owner) && !target.ends_with(&record.owner) => {
                return;
            }
            Target::NoGlue => {
                "is below a zone cut and has no address here: nobody can ask it; add glue"
            }
            Target::Alias => {
                "is an alias, which a name server must not be (RFC 2181 section 10.3); name the server itself"
            }
            Target::BelowDname => {
                "is below a DNAME, which makes it an alias; name the server itself"
            }
            Target::NoAddress => "has no address; add an A or AAAA record",
            Target::Absent => {
                "does not exist; add an A or AAAA record, or end the name with a dot if it is another zone's"
            }
        };
        let message = format!("{target} {what}");
        if self.is_apex(record.owner) && !no_glue {
            self.problems.error(record.at, record.key(), message);
        } else {
            self.warn(record, message);
        }
    }

    /// MX and those alike.
    fn mail(&mut self, record: &Written<'_>) {
        if let Some(target) = record.rdata.get(2..) {
            self.server(record, target, "RFC 2181 section 10.3");
        }
    }

    fn srv(&mut self, record: &Written<'_>) {
        if let Some(target) = record.rdata.get(6..) {
            self.server(record, target, "RFC 2782");
        }
    }

    /// A name that clients ask the addresses of. The root stands for none (RFC 7505, RFC 2782).
    fn server(&mut self, record: &Written<'_>, target: &[u8], no_alias: &str) {
        let Some(target) = in_lower_case(target) else {
            return;
        };
        let target = target.for_slice();
        if target.is_root() {
            return;
        }
        self.like_an_address(record, target);
        self.host(record, target);
        let what = match self.target(target) {
            Target::Fine | Target::NoGlue => return,
            Target::Alias => format!("is an alias, which it must not be ({no_alias}); name the server itself"),
            Target::BelowDname => format!("is below a DNAME, which makes it an alias ({no_alias}); name the server itself"),
            Target::NoAddress => "has no address; add an A or AAAA record".to_owned(),
            Target::Absent => {
                "does not exist; add an A or AAAA record, or end the name with a dot if it is another zone's"
                    .to_owned()
            }
        };
        self.warn(record, format!("{target} {what}"));
    }

    /// Four numbers for a name.
    fn like_an_address(&mut self, record: &Written<'_>, target: &Borrowed) {
        let apex = &self.zone.apex;
        let origin = if target.ends_with(apex) {
            apex.len()
        } else {
            1
        };
        let four: Vec<_> = target.iter().take(4).collect();
        let octets: usize = four.iter().map(|label| label.len() + 1).sum();
        let numbers = four.iter().all(|label| {
            str::from_utf8(label.as_slice()).is_ok_and(|text| text.parse::<u8>().is_ok())
        });
        if four.len() == 4 && numbers && octets + origin == target.len() {
            let message = format!(
                "{target} looks like an address, where a name belongs; give the server a name"
            );
            self.warn(record, message);
        }
    }

    fn cname(&mut self, record: &Written<'_>) {
        let Some(mut next) = in_lower_case(record.rdata) else {
            return;
        };
        let target = next.for_slice();
        if let Target::Absent = self.target(target) {
            let message = format!(
                "{target} does not exist; add it, or end the name with a dot if it is another zone's"
            );
            self.warn(record, message);
        }
        for _ in 0..MAX_CHAIN {
            if next.as_slice() == record.owner.as_slice() {
                let message = "the aliases go round in a circle: nobody gets an answer; let one name what it stands for";
                self.warn(record, message);
                return;
            }
            let alias = self
                .zone
                .node(next.for_slice())
                .and_then(|node| node.rrset(Rtype::CNAME));
            match alias.and_then(|alias| in_lower_case(alias.first())) {
                Some(target) => next = target,
                None => return,
            }
        }
    }

    fn ptr(&mut self, record: &Written<'_>) {
        let reverse: [&[u8]; 2] = [b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0"];
        if reverse
            .iter()
            .any(|zone| record.owner.as_slice().ends_with(zone))
            && let Ok(target) = DomainName::from_slice(record.rdata)
        {
            self.host(record, target);
        }
    }

    fn dname(&mut self, record: &Written<'_>) {
        let node = self.zone.node(record.owner);
        if !self.is_apex(record.owner) && node.is_some_and(|node| node.has(Rtype::NS)) {
            let message = "stands beside NS records, which it may at the apex only (RFC 6672 section 2.3); remove one";
            self.warn(record, message);
        }
        if record.owner.as_slice().starts_with(b"\x01*") {
            let message = "a DNAME at a wildcard means nothing that resolvers agree on (RFC 6672 section 3.3); remove it";
            self.warn(record, message);
        }
    }

    fn delegation_signer(&mut self, record: &Written<'_>) {
        let apex = self.is_apex(record.owner);
        match record.rtype {
            Rtype::DS if apex => {
                let message = "a DS record belongs into the parent zone; remove it";
                self.problems.error(record.at, record.key(), message);
            }
            Rtype::DS if !self.zone.is_cut(record.owner) => {
                let message =
                    "a DS record at a name that is not delegated; add NS records, or remove it";
                self.warn(record, message);
            }
            Rtype::CDS | Rtype::CDNSKEY if !apex => {
                let message = "stands at the apex only (RFC 7344 section 4.1); remove it";
                self.warn(record, message);
            }
            _ => {}
        }
    }

    /// The first key of the apex says that the zone is signed.
    fn key(&mut self, record: &Written<'_>) {
        let is_first = !std::mem::replace(&mut self.has_key, true);
        if !self.is_apex(record.owner) {
            let message = "stands at the apex of a zone only (RFC 4035 section 2.1); remove it";
            self.warn(record, message);
        } else if is_first {
            self.warn(record, SIGNED);
        }
    }

    fn spf(&mut self, record: &Written<'_>) {
        let node = self.zone.node(record.owner);
        let texts = node.and_then(|node| node.rrset(Rtype::TXT));
        let is_policy = |text: &[u8]| {
            text.get(1..)
                .is_some_and(|text| text.to_ascii_lowercase().starts_with(b"v=spf1"))
        };
        if !texts.is_some_and(|texts| texts.rdata().any(is_policy)) {
            let message = "nobody reads SPF records any more (RFC 7208 section 3.1); add a TXT record of the same text";
            self.warn(record, message);
        }
    }

    /// Times that other servers cannot work with.
    fn soa(&mut self, record: &Written<'_>) {
        let number = |place| self.zone.soa_number(place);
        let [serial, refresh, retry, expire, minimum] = [0, 1, 2, 3, 4].map(number);
        if serial == 0 {
            self.warn(
                record,
                "the serial is 0, which some secondaries take for none; begin with 1",
            );
        }
        if retry > refresh {
            let message = format!(
                "retry ({retry} s) is longer than refresh ({refresh} s): a failure is tried again later than a success"
            );
            self.warn(record, message);
        }
        if u64::from(expire) <= u64::from(refresh) + u64::from(retry) {
            let message = format!(
                "expire ({expire} s) is no longer than refresh and retry ({refresh} s and {retry} s): secondaries give the zone up after one failure"
            );
            self.warn(record, message);
        }
        if minimum > 86400 {
            let message = format!(
                "negative answers are kept for {minimum} s; RFC 2308 section 5 asks for a day at the most"
            );
            self.warn(record, message);
        }
        let Some(len) = name_len(record.rdata) else {
            return;
        };
        let (server, mailbox) = record.rdata.split_at(len);
        if let Ok(server) = DomainName::from_slice(server) {
            self.host(record, server);
        }
        // The first label is what stands before the @.
        let mailbox =
            name_len(mailbox).and_then(|len| DomainName::from_slice(&mailbox[..len]).ok());
        if let Some(mailbox) = mailbox {
            let domain = mailbox
                .as_slice()
                .get(1 + usize::from(mailbox.as_slice()[0])..);
            if let Some(Ok(domain)) = domain.map(DomainName::from_slice)
                && !is_host(domain)
            {
                let message = format!(
                    "{mailbox} is not the name of a mailbox: behind its first label stands no host's name"
                );
                self.warn(record, message);
            }
        }
    }

    /// Owners that have addresses or mail are hosts (RFC 952, RFC 1123 section 2.1).
    fn host_owner(&mut self, record: &Written<'_>) {
        if !matches!(record.rtype, Rtype::A | Rtype::AAAA | Rtype::MX) {
            return;
        }
        let name = record.owner.as_slice();
        let name = name.strip_prefix(b"\x01*").unwrap_or(name);
        if DomainName::from_slice(name).is_ok_and(|name| !is_host(name)) {
            self.warn(
                record,
                "its owner is not a host's name, which has letters, digits and hyphens (RFC 1123)",
            );
        }
    }

    fn host(&mut self, record: &Written<'_>, name: &Borrowed) {
        if !is_host(name) {
            let message = format!(
                "{name} is not a host's name, which has letters, digits and hyphens (RFC 1123)"
            );
            self.warn(record, message);
        }
    }

    /// Records at or below a cut that no answer contains.
    fn occluded(&mut self, record: &Written<'_>) {
        use Rtype as R;
        let glue = matches!(record.rtype, R::A | R::AAAA);
        if self.zone.is_cut(record.owner)
            && !glue
            && !matches!(record.rtype, R::NS | R::DS | R::NSEC | R::RRSIG | R::DNAME)
        {
            let message = "stands at a zone cut, where the delegated zone answers: nobody gets it; move it there";
            self.warn(record, message);
        }
        if glue {
            return;
        }
        let cut = ancestors(record.owner, &self.zone.apex).find(|above| self.zone.is_cut(above));
        if let Some(cut) = cut {
            let message =
                format!("is below the zone cut {cut}: nobody gets it; move it to that zone");
            self.warn(record, message);
        }
    }

    /// One error for each DNAME that has names below it, for the least of them.
    fn below_dnames(&mut self, draft: &Draft, dnames: &HashMap<&[u8], At>) {
        if dnames.is_empty() {
            return;
        }
        let mut found: HashMap<At, &Borrowed> = HashMap::new();
        for record in draft.records() {
            let mut above = ancestors(record.owner, &self.zone.apex);
            if let Some(&at) = above.find_map(|above| dnames.get(above.as_slice())) {
                let least = found.entry(at).or_insert(record.owner);
                *least = (*least).min(record.owner);
            }
        }
        for (at, name) in found {
            let message = format!(
                "{name} stands below this DNAME; nothing may (RFC 6672 section 2.4), remove one"
            );
            self.problems.error(at, None, message);
        }
    }
}

/// A name as zones are asked for it.
fn in_lower_case(name: &[u8]) -> Option<Name> {
    // Lengths of labels are below letters.
    Name::from_octets(name.to_ascii_lowercase().into()).ok()
}

fn has_address(node: Node<'_>) -> bool {
    node.has(Rtype::A) || node.has(Rtype::AAAA)
}

/// Whether all labels are of letters, digits and hyphens, these neither first nor last.
fn is_host(name: &Borrowed) -> bool {
    name.iter().all(|label| {
        let label = label.as_slice();
        let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'-';
        label.iter().all(plain) && label.first() != Some(&b'-') && label.last() != Some(&b'-')
    })
}

/// The steered names of a configuration, in wire format.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a Name>) -> Names {
    names.map(|name| name.as_octets().clone()).collect()
}
