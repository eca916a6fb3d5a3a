//! Answers a query from the zones and the plan, in one message.

use std::net::IpAddr;

use domain::base::{Name, Rtype};
use geodns_common::abi::Family;
use geodns_common::wire::{self, CLASS_CH, CLASS_IN, opcode, rcode};
use ipnet::IpNet;

use super::cookies;
use super::lookup::{self, Found, LowerName};
use super::message::{Identity, Outcome, Sample, Transport};
use super::query::Question;
use super::request::{Request, Verified};
use super::subnet;
use super::write::{ExtendedError, Mark, Options, Outline, Section, Writer};
use crate::base::lock::read;
use crate::compress;
use crate::world::World;
use crate::zone::{Node, RrSet, Zone};

/// CNAMEs and DNAMEs followed in one answer, at the most.
const CHAIN_MAX: usize = 16;

/// Answers a query into `response`, with room for a signature.
pub fn answer(verified: &Verified<'_>, response: &mut Vec<u8>) -> Outcome {
    let Verified { request, query, .. } = verified;
    let Request {
        world,
        identity,
        client,
        transport,
        ..
    } = *request;
    response.clear();
    let edns = query.edns.as_ref();
    let served = match (&identity.cookies, edns.and_then(|edns| edns.cookie)) {
        (Some(secrets), Some(data)) => cookies::serve(secrets, data, client),
        // Nobody makes cookies, or asks for one.
        _ => Ok(None),
    };
    let cookie = served.unwrap_or_default();
    let is_good = cookie.is_some_and(|cookie| cookie.is_good);
    let size = verified.room(is_good);
    let options = Options {
        nsid: edns.filter(|edns| edns.nsid).and_then(|_| identity.nsid()),
        ecs: edns.and_then(|edns| edns.ecs),
        cookie: cookie.map(|cookie| cookie.data),
    };
    let mut reply = Reply {
        world,
        client,
        key: verified.key(),
        ecs: edns.and_then(|edns| edns.ecs).and_then(|ecs| ecs.network),
        writer: Writer::new(response, query, &options, size),
        outline: Outline::default(),
        steered: false,
        sample: None,
        counter: None,
        chain: None,
        is_datagram: transport == Transport::Udp,
    };
    reply.outline.rcode = match &query.question {
        // The body of another opcode's message may look different.
        _ if query.opcode != opcode::QUERY => rcode::NOTIMP,
        _ if served.is_err() => rcode::FORMERR,
        None if query.is_empty && cookie.is_some_and(|cookie| cookie.is_bad) => rcode::BADCOOKIE,
        None if query.is_empty && cookie.is_some() => rcode::NOERROR,
        _ if query.malformed => rcode::FORMERR,
        _ if edns.is_some_and(|edns| edns.version != 0) => rcode::BADVERS,
        None => rcode::FORMERR,
        Some(question) if question.qclass == CLASS_CH => reply.chaos(identity, question),
        Some(question) if question.qclass == CLASS_IN => reply.internet(question),
        Some(_) => rcode::REFUSED,
    };
    let mut truncated = reply.writer.is_full();
    if truncated
        && transport != Transport::Udp
        && let Some(mark) = reply.chain.take()
    {
        // An RRset fits, and need not fit behind a chain. That is true, and what it leads to is the resolver's to
        // ask for.
        reply.writer.rewind(&mark);
        reply.counter = None;
        reply.outline.rcode = rcode::NOERROR;
        truncated = false;
    }
    if truncated {
        reply.writer.clear();
        reply.counter = None;
        if transport != Transport::Udp {
            truncated = false;
            reply.outline.rcode = rcode::SERVFAIL;
            reply.outline.authoritative = false;
        }
    }
    let outcome = Outcome {
        rcode: reply.outline.rcode,
        steered: reply.steered,
        truncated,
        ecs: edns.is_some_and(|edns| edns.ecs.is_some()),
        sample: reply.sample,
        counter: reply.counter,
        wants_cookie: truncated && size < verified.room(true),
    };
    reply
        .writer
        .finish(query, &options, reply.outline, truncated);
    outcome
}

/// An answer in the making.
struct Reply<'a> {
    world: &'a World,
    client: IpAddr,
    /// The key that signed the query.
    key: Option<&'a crate::base::name::Name>,
    /// The client subnet, where there is one and it is no opt-out.
    ecs: Option<IpNet>,
    writer: Writer<'a>,
    outline: Outline,
    steered: bool,
    sample: Option<Sample>,
    counter: Option<u32>,
    /// Behind the last alias of a chain that has been followed.
    chain: Option<Mark>,
    is_datagram: bool,
}

impl Reply<'_> {
    /// Class CH: who we are.
    fn chaos(&mut self, identity: &Identity, question: &Question<'_>) -> u16 {
        let text = match question.name.to_ascii_lowercase().as_slice() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => &identity.version,
            b"\x02id\x06server\0" | b"\x08hostname\x04bind\0" => &identity.id,
            _ => return rcode::REFUSED,
        };
        let Some(text) = text
            .as_ref()
            .filter(|_| question.qtype == Rtype::TXT.to_int())
        else {
            return rcode::REFUSED;
        };
        let Ok(owner) = Name::from_slice(question.name) else {
            return rcode::FORMERR;
        };
        let text = &text.as_bytes()[..text.len().min(255)];
        let rdata = [&[text.len() as u8], text].concat();
        self.outline.authoritative = true;
        self.writer
            .record(Section::Answer, owner, Rtype::TXT, CLASS_CH, 0, &rdata);
        rcode::NOERROR
    }

    /// Class IN.
    fn internet(&mut self, question: &Question<'_>) -> u16 {
        let qtype = Rtype::from_int(question.qtype);
        match qtype {
            // Never asked for (RFC 6891, RFC 8945, RFC 9824).
            Rtype::OPT | Rtype::TSIG | Rtype::NXNAME => return rcode::FORMERR,
            Rtype::AXFR | Rtype::IXFR => return rcode::REFUSED,
            Rtype::ANY => {}
            // Reserved, and the other types of RFC 6895 that are no data.
            _ if !wire::is_data_type(question.qtype) => return rcode::NOTIMP,
            _ => {}
        }
        let Some(mut target) = LowerName::of(&[question.name]) else {
            return rcode::FORMERR;
        };
        let zones = &**self.world.zones.load();
        let mut seen = Vec::new();
        loop {
            let chained = !seen.is_empty();
            let name = target.name();
            let zone = lookup::zone(zones, name, qtype);
            // To others a catalog is not there.
            let zone = zone.filter(|&(number, _)| {
                let from = self.world.inputs.config.zones.get(number);
                !zones.is_catalog(number)
                    || from.is_some_and(|zone| zone.is_given_to(self.client, self.key))
            });
            let Some((_, zone)) = zone else {
                if chained {
                    return rcode::NOERROR;
                }
                self.outline.error = Some(ExtendedError::NotAuthoritative);
                return rcode::REFUSED;
            };
            if zone.is_empty() {
                // Not transferred yet, or not for too long.
                return rcode::SERVFAIL;
            }
            let next = match lookup::lookup(zone, name, qtype) {
                Found::Missing => {
                    self.outline.authoritative = true;
                    self.negative(zone);
                    return rcode::NXDOMAIN;
                }
                Found::Cut { owner, ns } => {
                    self.outline.authoritative = chained;
                    self.referral(zone, owner, ns);
                    return rcode::NOERROR;
                }
                Found::Dname { owner, dname } => {
                    self.outline.authoritative = true;
                    match self.dname(name, owner, dname) {
                        // The CNAME that follows from it is what was asked for.
                        Some(_) if qtype == Rtype::CNAME => return rcode::NOERROR,
                        Some(next) => next,
                        None => return rcode::YXDOMAIN,
                    }
                }
                Found::Node(node) => {
                    self.outline.authoritative = true;
                    match self.node(zone, node, name, qtype, chained) {
                        Ok(next) => next,
                        Err(rcode) => return rcode,
                    }
                }
            };
            // A loop, or too long: what we have is true, the rest is the resolver's to find out.
            if seen.len() == CHAIN_MAX || next == target || seen.contains(&next) {
                return rcode::NOERROR;
            }
            seen.push(std::mem::replace(&mut target, next));
            if !self.writer.is_full() {
                self.chain = Some(self.writer.mark());
            }
        }
    }

    /// A name that exists. Gives the name to go on with, if it is an alias; else the response code.
    fn node(
        &mut self,
        zone: &Zone,
        node: Node<'_>,
        name: &Name<[u8]>,
        qtype: Rtype,
        chained: bool,
    ) -> Result<LowerName, u16> {
        if let Some(encloser) = compress::encloser(node.name().as_slice()) {
            self.writer.share(encloser.len());
        }
        if let Some(pool) = node.steer() {
            let family = match qtype {
                Rtype::A => Some(Family::V4),
                Rtype::AAAA => Some(Family::V6),
                _ => None,
            };
            let config = &self.world.inputs.config;
            let is_alias = config.pools[pool].is_alias(config);
            // An alias is one whatever is asked for; ANY has its own answer.
            let family = family.or((is_alias && qtype != Rtype::ANY).then_some(Family::V4));
            if let Some(family) = family {
                return Err(self.pool(zone, pool, family, chained.then_some(name)));
            }
        }
        if qtype == Rtype::ANY {
            self.any(zone, node, name);
            return Err(rcode::NOERROR);
        }
        if let Some(rrset) = node.rrset(qtype) {
            self.rrset(Section::Answer, name, rrset);
            if matches!(qtype, Rtype::RRSIG | Rtype::SIG) {
                let others = node.rrsets().filter(|other| other.rtype == qtype).skip(1);
                others.for_each(|other| self.rrset(Section::Answer, name, other));
            }
            return Err(rcode::NOERROR);
        }
        let Some(cname) = node.rrset(Rtype::CNAME) else {
            self.negative(zone);
            return Err(rcode::NOERROR);
        };
        self.rrset(Section::Answer, name, cname);
        LowerName::of(&[cname.first()]).ok_or(rcode::NOERROR)
    }

    /// The records of a pool. `owner` is the name at the end of a chain of CNAMEs. Gives the response
    /// code.
    fn pool(
        &mut self,
        zone: &Zone,
        pool: usize,
        family: Family,
        owner: Option<&Name<[u8]>>,
    ) -> u16 {
        // The plan is edited in place; a writer that panicked has left it as a reader may see it.
        let plan = read(&self.world.plan);
        let client = match self.ecs {
            Some(network) => subnet::place(network).unwrap_or(self.client),
            None => self.client,
        };
        let selection = plan.select(pool, family, client);
        let scope = self.ecs.map_or(0, |network| {
            subnet::scope(&plan, pool, family, network, &selection)
        });
        if owner.is_some() && scope > 0 && selection.has_family {
            // RFC 7871 section 7.2.1: the CNAME is for everyone, what it leads to is not.
            return rcode::NOERROR;
        }
        self.steered = true;
        if !selection.has_family {
            drop(plan);
            self.negative(zone);
            return rcode::NOERROR;
        }
        let Some(&first) = selection.mirrors.first() else {
            // None is in service. What a chain has found so far is true all the same.
            if owner.is_none() {
                self.outline.authoritative = false;
            }
            return rcode::SERVFAIL;
        };
        self.outline.scope = scope;
        self.sample = Some(Sample {
            generation: self.world.generation,
            pool,
            client,
        });
        self.counter = Some(plan.pools()[selection.pool].counter(first.into()));
        self.writer.share(plan.shared(selection.pool));
        for &mirror in &*selection.mirrors {
            let (records, _) = plan.records(selection.pool, mirror, family);
            self.writer.rendered(owner, records, selection.ttl);
        }
        rcode::NOERROR
    }

    /// ANY, minimal: the smallest RRset (RFC 8482 section 4.1), or where there is only a pool, a
    /// HINFO (section 4.2).
    fn any(&mut self, zone: &Zone, node: Node<'_>, name: &Name<[u8]>) {
        match node.rrsets().min_by_key(|rrset| rrset.octets()) {
            Some(rrset) => self.rrset(Section::Answer, name, rrset),
            None if node.steer().is_some() => self.writer.record(
                Section::Answer,
                name,
                Rtype::HINFO,
                CLASS_IN,
                3600,
                b"\x07RFC8482\0",
            ),
            None => self.negative(zone),
        }
    }

    /// The SOA that says no.
    fn negative(&mut self, zone: &Zone) {
        self.writer.share(zone.apex.len());
        self.writer.rrset(
            Section::Authority,
            zone.apex.for_slice(),
            zone.negative_ttl(),
            zone.soa(),
        );
    }

    /// Name servers below a cut, and their addresses.
    ///
    /// Those of servers at or below the cut are required (RFC 9471 section 3.1); those of other names
    /// in the zone go along as far as there is room.
    fn referral(&mut self, zone: &Zone, cut: &Name<[u8]>, ns: RrSet<'_>) {
        self.rrset(Section::Authority, cut, ns);
        let servers = || {
            let names = ns.rdata().filter_map(|rdata| LowerName::of(&[rdata]));
            names.filter_map(|name| zone.node(name.name()))
        };
        let is_below = |node: &Node<'_>| node.name().ends_with(cut);
        for node in servers().filter(is_below) {
            let mark = self.writer.mark();
            let was_full = self.writer.is_full();
            self.addresses(node.name(), node);
            // TC is of no use over TCP: the servers that it has addresses of will do.
            if self.writer.is_full() && !was_full && !self.is_datagram {
                self.writer.rewind(&mark);
                return;
            }
        }
        if self.writer.is_full() {
            return;
        }
        for node in servers().filter(|node| !is_below(node)) {
            let mark = self.writer.mark();
            self.addresses(node.name(), node);
            if self.writer.is_full() {
                self.writer.rewind(&mark);
                break;
            }
        }
    }

    fn addresses(&mut self, name: &Name<[u8]>, node: Node<'_>) {
        for rtype in [Rtype::A, Rtype::AAAA] {
            if let Some(rrset) = node.rrset(rtype) {
                self.rrset(Section::Additional, name, rrset);
            }
        }
    }

    /// A redirection of everything below a name, and the CNAME that follows from it (RFC 6672
    /// section 3). `None`: the new name would be too long.
    fn dname(
        &mut self,
        name: &Name<[u8]>,
        owner: &Name<[u8]>,
        dname: RrSet<'_>,
    ) -> Option<LowerName> {
        self.rrset(Section::Answer, owner, dname);
        let below = &name.as_slice()[..name.len() - owner.len()];
        let target = LowerName::of(&[below, dname.first()])?;
        let rdata = target.name().as_slice();
        self.writer.record(
            Section::Answer,
            name,
            Rtype::CNAME,
            CLASS_IN,
            dname.ttl,
            rdata,
        );
        Some(target)
    }

    fn rrset(&mut self, section: Section, owner: &Name<[u8]>, rrset: RrSet<'_>) {
        self.writer.rrset(section, owner, rrset.ttl, rrset);
    }
}
