//! A zone from records that come from elsewhere: what stands against the rules is refused, as in zone files.

use domain::base::{Name as DomainName, Rtype};
use geodns_common::wire;

use super::delta::Delta;
use super::run::{Record, Run};
use super::store::{Node, Zone};
use super::{rdata, size};
use crate::base::name::{Name, ancestors};

/// Records, one after the other in any order, to a zone.
pub struct Taker {
    apex: Name,
    records: Run,
}

impl Taker {
    /// One without records.
    pub fn new(apex: Name) -> Self {
        Self {
            apex,
            records: Run::default(),
        }
    }

    /// Octets of names and data so far.
    pub fn size(&self) -> usize {
        self.records.size()
    }

    /// Adds a record: owner in lower case, RDATA in canonical form. Or says what is wrong with it.
    pub fn add(
        &mut self,
        owner: &DomainName<[u8]>,
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<(), String> {
        may_stand(&self.apex, owner, rtype, rdata)?;
        self.records.push(owner, Record { rtype, rdata, ttl });
        Ok(())
    }

    /// The zone, if it is whole.
    pub fn finish(self) -> Result<Zone, String> {
        let mut places = Vec::new();
        let mut at = 0;
        loop {
            let place = at;
            let Some((owner, _)) = self.records.read(&mut at) else {
                break;
            };
            places.push((owner.as_slice(), place));
        }
        places.sort_unstable();
        let mut zone = Zone::empty(self.apex.clone());
        for of_owner in places.chunk_by(|one, next| one.0 == next.0) {
            let records = of_owner.iter().filter_map(|&(_, place)| {
                let mut place = place;
                self.records.read(&mut place)
            });
            let mut records: Vec<_> = records.map(|(_, record)| record).collect();
            let owner = DomainName::from_slice(of_owner[0].0).map_err(|error| error.to_string())?;
            zone.set(owner, &mut records)
                .map_err(|error| error.to_string())?;
        }
        is_whole(&zone)?;
        let has_dnames = zone.nodes().any(|node| node.has(Rtype::DNAME));
        for node in zone.nodes() {
            alone(node.name(), node)?;
            fits(node)?;
            if has_dnames {
                below_dname(&zone, node.name())?;
            }
        }
        Ok(zone)
    }
}

/// A zone from all of its records, as a [`Run`] has them.
pub fn from_run(apex: &Name, run: &Run) -> Result<Zone, String> {
    let mut taker = Taker::new(apex.clone());
    for (owner, record) in run.iter() {
        taker.add(owner, record.rtype, record.ttl, record.rdata)?;
    }
    taker.finish()
}

/// Whether what a delta has added may stand in a zone that it was applied to.
pub fn check(zone: &Zone, delta: &Delta) -> Result<(), String> {
    is_whole(zone)?;
    for (owner, record) in delta.added.iter() {
        may_stand(&zone.apex, owner, record.rtype, record.rdata)?;
        let Some(node) = zone.node(owner) else {
            continue;
        };
        alone(owner, node)?;
        fits(node)?;
        below_dname(zone, owner)?;
        if record.rtype == Rtype::DNAME {
            let is_below = |node: &Node<'_>| {
                let mut above = ancestors(node.name(), &zone.apex);
                above.any(|above| above == owner)
            };
            if let Some(below) = zone.nodes().find(is_below) {
                return Err(format!(
                    "{} stands below the DNAME at {owner}",
                    below.name()
                ));
            }
        }
    }
    Ok(())
}

/// Whether a name is below no DNAME.
fn below_dname(zone: &Zone, name: &DomainName<[u8]>) -> Result<(), String> {
    let is_dname = |above: &&DomainName<[u8]>| {
        let node = zone.node(above);
        node.is_some_and(|node| node.has(Rtype::DNAME))
    };
    match ancestors(name, &zone.apex).find(is_dname) {
        Some(above) => Err(format!("{name} stands below the DNAME at {above}")),
        None => Ok(()),
    }
}

/// Whether the records of a name fit into messages.
fn fits(node: Node<'_>) -> Result<(), String> {
    size::check_node(node).map_err(|(rtype, message)| format!("{} {rtype}: {message}", node.name()))
}

/// Whether a zone has what each must have.
fn is_whole(zone: &Zone) -> Result<(), String> {
    let top = zone.top();
    let soa = top.rrset(Rtype::SOA).map_or(0, |soa| soa.rdata().count());
    if soa != 1 {
        return Err(format!("the zone has {soa} SOA records at its apex"));
    }
    match top.has(Rtype::NS) {
        true => Ok(()),
        false => Err("the zone has no NS record at its apex".to_owned()),
    }
}

/// Whether a record may stand in a zone, whatever else does.
fn may_stand(
    apex: &Name,
    owner: &DomainName<[u8]>,
    rtype: Rtype,
    rdata: &[u8],
) -> Result<(), String> {
    if !owner.ends_with(apex) {
        return Err(format!("{owner} is outside the zone"));
    }
    if !wire::is_data_type(rtype.to_int()) {
        return Err(format!("{owner} has {rtype}, a type for messages"));
    }
    rdata::canonical(rtype, rdata, &mut Vec::new())
        .map_err(|message| format!("{owner} {rtype}: {message}"))?;
    let at_apex = owner.as_slice() == apex.as_slice();
    match rtype {
        Rtype::SOA if !at_apex => Err(format!("{owner} has a SOA record below the apex")),
        Rtype::CNAME if at_apex => Err("there is a CNAME at the apex".to_owned()),
        _ => Ok(()),
    }
}

/// Whether a CNAME stands alone, and is one.
fn alone(owner: &DomainName<[u8]>, node: Node<'_>) -> Result<(), String> {
    for rtype in [Rtype::CNAME, Rtype::DNAME] {
        let several = node
            .rrset(rtype)
            .is_some_and(|rrset| rrset.rdata().nth(1).is_some());
        if several {
            return Err(format!("{owner} has a second {rtype}"));
        }
    }
    let may = |rtype| matches!(rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC);
    let mut types = node.rrsets().map(|rrset| rrset.rtype);
    match types.find(|&rtype| !may(rtype)) {
        Some(other) if node.has(Rtype::CNAME) => Err(format!("{owner} has {other} beside CNAME")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::parse_name;

    const SOA: &[u8] = &[0; 22];

    /// The zone of a SOA, an NS and these records at `a`, or why there is none.
    fn take(records: &[(u16, &[u8])]) -> Result<Zone, String> {
        let [apex, owner] = ["example.org", "a.example.org"].map(|name| parse_name(name).unwrap());
        let mut taker = Taker::new(apex.clone());
        taker.add(apex.for_slice(), Rtype::SOA, 60, SOA)?;
        taker.add(apex.for_slice(), Rtype::NS, 60, b"\x01x\0")?;
        for &(rtype, rdata) in records {
            taker.add(owner.for_slice(), Rtype::from_int(rtype), 60, rdata)?;
        }
        taker.finish()
    }

    /// Whether a delta of these records may be added.
    fn add(records: &[(u16, &[u8])]) -> Result<(), String> {
        let owner = parse_name("a.example.org").unwrap();
        let mut zone = take(&[])?;
        let mut delta = Delta::between(&zone, &zone);
        for &(rtype, rdata) in records {
            let rtype = Rtype::from_int(rtype);
            let record = Record {
                rtype,
                rdata,
                ttl: 60,
            };
            delta.added.push(owner.for_slice(), record);
        }
        delta
            .apply(&mut zone, |_, _| false)
            .map_err(|error| error.to_string())?;
        check(&zone, &delta)
    }

    #[test]
    fn records_from_elsewhere_are_judged_as_those_of_files() {
        let long = vec![0; 64_694];
        let half = vec![1; 40_000];
        let text = [&[1][..], b"x"].concat();
        for (records, why) in [
            (&[(16, &text[..])][..], ""),
            (&[(65_280, &long[1..])], ""),
            (&[(65_280, &long)], "has room for 64705"),
            (
                &[(65_280, &half), (65_280, &long[..40_000])],
                "has room for 64705",
            ),
            // An empty ALPN id, a port of one octet, keys out of order, a wrong length.
            (&[(65, b"\0\x01\0\0\x01\0\x02\x01a")], ""),
            (&[(65, b"\0\x01\0\0\x01\0\x03\x01a\0")], "alpn lists ids"),
            (&[(65, b"\0\x01\0\0\x03\0\x01\x01")], "port is two octets"),
            (
                &[(65, b"\0\x01\0\0\x04\0\0\0\x03\0\0")],
                "not that of a HTTPS record",
            ),
            (
                &[(64, b"\0\x01\0\0\x01\0\x05\x01a")],
                "not that of a SVCB record",
            ),
            (&[(45, b"\x0a\x03\x02")], "not that of a IPSECKEY record"),
            (&[(50, b"\x01\0\0\0\0\0")], "not that of a NSEC3 record"),
            (&[(1, b"\x01\x02\x03")], "not that of a A record"),
            // A ZONEMD of a private scheme (RFC 8976 appendix A.3).
            (&[(63, b"\0\0\0\x01\xf1\x01abcdefghijkl")], ""),
            (
                &[(63, b"\0\0\0\x01\xf1\x01abcdefghijk")],
                "the digest has not",
            ),
        ] {
            for taken in [take(records).map(drop), add(records)] {
                match taken {
                    Ok(()) => assert_eq!(why, ""),
                    Err(error) => assert!(!why.is_empty() && error.contains(why), "{why}: {error}"),
                }
            }
        }
    }
}
