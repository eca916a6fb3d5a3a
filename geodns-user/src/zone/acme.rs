//! Tokens of ACME DNS-01 challenges (RFC 8555 section 8.4) put over a zone: TXT records at
//! `_acme-challenge.NAME`, in no zone file.

use bytes::Bytes;
use domain::base::{Name as DomainName, Rtype, Serial};

use super::run::{Record, Run};
use super::store::{Node, TooLarge, Zone};
use crate::base::name::{Name, ancestors, parse_name};
use crate::config::Steer;

/// The label below a name where its tokens stand.
const LABEL: &str = "_acme-challenge";

/// A token in force: TTL in seconds, and its text, 255 octets at the most.
pub type Text<'a> = (u32, &'a str);

/// Where the tokens of a name stand: below it, whether the label is given or not. A wildcard is proved at
/// the name that it is below. Or what is wrong with the name.
pub fn owner(name: &str) -> Result<Name, String> {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let parsed = parse_name(name)?;
    let label = parsed.first().as_slice();
    if label == LABEL.as_bytes() {
        return Ok(parsed);
    }
    if name == "." {
        return parse_name(LABEL);
    }
    parse_name(&format!("{LABEL}.{name}"))
        .map_err(|_| format!("{name} has no room for the label {LABEL}: it is too long"))
}

/// Whether tokens may stand at a name of a zone, or why not.
pub fn may_stand(steers: &[Steer], zone: &Zone, owner: &Name) -> Result<(), String> {
    let apex = &zone.apex;
    if zone.is_empty() {
        return Err(format!("{apex} has no data"));
    }
    if zone.is_signed() {
        return Err(format!(
            "{apex} is signed, and a token would not be; put it in the zone before it is signed"
        ));
    }
    if owner.iter().any(|label| label.as_slice() == b"*") {
        return Err(format!(
            "{owner} is below a wildcard, which it would make a name that is there and answers for no other \
             (RFC 4592 section 2.2.2); write * as the first label only"
        ));
    }
    if zone.is_cut(owner.for_slice()) || zone.is_occluded(owner.for_slice()) {
        return Err(format!(
            "{owner} is at or below a zone cut or a DNAME of {apex}; set it where that leads"
        ));
    }
    let steered = |name: &DomainName<[u8]>| steers.iter().any(|steer| steer.name == name);
    if steered(owner.for_slice()) {
        return Err(format!("a pool answers for {owner}; steer another name"));
    }
    let node = zone.node(owner.for_slice());
    if node.is_some_and(|node| node.has(Rtype::CNAME)) {
        return Err(format!(
            "{owner} has a CNAME; set the token at its target, or remove the CNAME"
        ));
    }
    // A record below a name makes it be there, and the wildcard would no more answer for it (RFC 4592
    // section 2.2.2).
    let there = |name: &DomainName<[u8]>| zone.named(name).is_some() || steered(name);
    for above in ancestors(owner.for_slice(), apex) {
        if there(above) {
            break;
        }
        let next = above.slice_from(1 + usize::from(above.as_slice()[0]));
        let mut wildcard = vec![1, b'*'];
        wildcard.extend_from_slice(next.as_slice());
        let wildcard = DomainName::from_slice(&wildcard);
        if let Ok(wildcard) = wildcard
            && there(wildcard)
        {
            return Err(format!(
                "{above} is there by {wildcard} alone, which would no more answer for it beside a token; \
                 prove {wildcard}, or put {above} in the zone"
            ));
        }
    }
    Ok(())
}

/// Puts tokens at a name, in the place of those that stand there; its other records stay.
pub fn put(
    zone: &mut Zone,
    owner: &Name,
    before: &[Text<'_>],
    tokens: &[Text<'_>],
) -> Result<(), TooLarge> {
    let name = owner.for_slice();
    let gone: Vec<_> = before.iter().map(|(_, text)| rdata(text)).collect();
    let mut run = Run::default();
    for record in zone.node(name).into_iter().flat_map(Node::records) {
        if record.rtype != Rtype::TXT || !gone.iter().any(|gone| gone == record.rdata) {
            run.push(name, record);
        }
    }
    for &(ttl, text) in tokens {
        let rdata = rdata(text);
        let record = Record {
            rtype: Rtype::TXT,
            rdata: &rdata,
            ttl,
        };
        run.push(name, record);
    }
    let mut records: Vec<_> = run.iter().map(|(_, record)| record).collect();
    zone.set(name, &mut records)?;
    zone.forget_digest()
}

/// One character-string (RFC 1035 section 3.3.14).
fn rdata(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(255)];
    let mut rdata = vec![text.len() as u8];
    rdata.extend_from_slice(text);
    rdata
}

/// Gives a zone another serial.
pub fn set_serial(zone: &mut Zone, serial: u32) -> Result<(), TooLarge> {
    let apex = zone.apex.clone();
    let name = apex.for_slice();
    let mut run = Run::default();
    for record in zone.top().records() {
        let mut rdata = Bytes::copy_from_slice(record.rdata).to_vec();
        if record.rtype == Rtype::SOA
            && let Some(numbers) = rdata.last_chunk_mut::<20>()
        {
            numbers[..4].copy_from_slice(&serial.to_be_bytes());
        }
        let rdata = rdata.as_slice();
        run.push(name, Record { rdata, ..record });
    }
    let mut records: Vec<_> = run.iter().map(|(_, record)| record).collect();
    zone.set(name, &mut records)?;
    zone.forget_digest()
}

/// The next serial (RFC 1982 section 3.1).
pub fn next(serial: u32) -> u32 {
    Serial(serial).add(1).into_int()
}

/// The later of two serials (RFC 1982 section 3.2).
pub fn later(one: u32, other: u32) -> u32 {
    if Serial(one) > Serial(other) {
        one
    } else {
        other
    }
}

/// The serial that a zone from a file is served with: the file's, if that is later than `served`; it never goes back.
/// `served` is the last serial that was served, and `file` the serial that the file had then.
pub fn serial_of(from_file: u32, file: Option<u32>, served: u32) -> u32 {
    if Some(from_file) == file {
        served
    } else if Serial(from_file) > Serial(served) {
        from_file
    } else {
        next(served)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn zone() -> Zone {
        let text = "$TTL 300\n@ SOA ns hm 4294967295 2 3 4 5\n@ NS ns\n\
                    @ ZONEMD 4294967295 1 240 000102030405060708090a0b\nns A 192.0.2.1\n*.wild A 192.0.2.2\n\
                    there.wild A 192.0.2.3\nsub NS ns\nold DNAME x.test.\n_acme-challenge.alias CNAME ns\n\
                    _acme-challenge.cut NS ns\n_acme-challenge.ns TXT \"file\"\n";
        let apex = parse_name("example.org").unwrap();
        super::super::parse(&apex, Path::new("zone"), text.as_bytes())
            .zone
            .unwrap()
    }

    #[test]
    fn a_name_is_given_with_its_label_or_without() {
        for name in [
            "www.example.org",
            "WWW.example.org.",
            "*.www.example.org",
            "_acme-challenge.www.example.org",
            "_ACME-challenge.www.example.org.",
        ] {
            let owner = owner(name).unwrap().to_string();
            assert_eq!(owner, "_acme-challenge.www.example.org", "{name}");
        }
        let long = format!("{}.org", ["a".repeat(60).as_str(); 4].join("."));
        let error = owner(&long).unwrap_err();
        assert!(error.contains("too long"), "{error}");
        assert!(owner("").is_err() && owner("*.").is_err() && owner("a..b").is_err());
    }

    #[test]
    fn tokens_stand_only_where_they_are_answered_and_harm_nothing() {
        let zone = zone();
        let may = |name: &str| {
            let owner = owner(&format!("{name}.example.org")).unwrap();
            may_stand(&[], &zone, &owner)
        };
        for name in ["ns", "nothing", "a.b.c", "there.wild", "*.wild", "wild"] {
            assert_eq!(may(name), Ok(()), "{name}");
        }
        for (name, why) in [
            ("sub", "zone cut"),
            ("a.sub", "zone cut"),
            ("cut", "zone cut"),
            ("a.old", "DNAME"),
            ("old", "DNAME"),
            ("alias", "CNAME"),
            ("x.wild", "*.wild.example.org alone"),
            ("x.y.wild", "*.wild.example.org alone"),
            // Each would make *.example.org an empty non-terminal, and NODATA of each absent name.
            ("*.*", "first label only"),
            ("a.*", "first label only"),
            ("*.a.*", "first label only"),
            ("_acme-challenge.*", "first label only"),
        ] {
            let error = may(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn tokens_come_and_go_and_the_rest_stays() {
        let mut zone = zone();
        let names = zone.len();
        let texts = |zone: &Zone, owner: &Name| -> Vec<(u32, Vec<u8>)> {
            let node = zone.node(owner.for_slice());
            let rrset = node.and_then(|node| node.rrset(Rtype::TXT));
            let records = rrset.into_iter().flat_map(|rrset| rrset.records());
            records.map(|r| (r.ttl, r.rdata[1..].to_vec())).collect()
        };
        let new = owner("a.b.example.org").unwrap();
        assert!(zone.top().has(Rtype::ZONEMD));
        put(&mut zone, &new, &[], &[(60, "one"), (60, "two")]).unwrap();
        assert_eq!(
            texts(&zone, &new),
            [(60, b"one".into()), (60, b"two".into())]
        );
        // It was the digest of the zone without them.
        assert!(!zone.top().has(Rtype::ZONEMD) && zone.top().has(Rtype::NS));
        put(&mut zone, &new, &[(60, "one"), (60, "two")], &[(90, "two")]).unwrap();
        assert_eq!(texts(&zone, &new), [(90, b"two".into())]);
        put(&mut zone, &new, &[(90, "two")], &[]).unwrap();
        assert_eq!((texts(&zone, &new), zone.len()), (vec![], names));
        let filed = owner("ns.example.org").unwrap();
        put(&mut zone, &filed, &[], &[(60, "one")]).unwrap();
        assert_eq!(texts(&zone, &filed).len(), 2);
        put(&mut zone, &filed, &[(60, "one")], &[]).unwrap();
        assert_eq!(texts(&zone, &filed).len(), 1);
    }

    #[test]
    fn a_serial_goes_up_and_never_back() {
        let mut zone = zone();
        let serial = next(zone.serial());
        set_serial(&mut zone, serial).unwrap();
        assert_eq!((zone.serial(), zone.expire().as_secs()), (0, 4));
        assert!(zone.top().has(Rtype::NS));
        for (from_file, file, served, is) in [
            (1, Some(1), 5, 5),
            (2, Some(1), 5, 6),
            (5, Some(1), 5, 6),
            (6, Some(1), 5, 6),
            (9, Some(1), 5, 9),
            (1, None, 5, 6),
            (u32::MAX, Some(u32::MAX), 3, 3),
            (u32::MAX - 1, Some(u32::MAX), 3, 4),
            (4, Some(u32::MAX), 3, 4),
        ] {
            assert_eq!(serial_of(from_file, file, served), is, "{from_file}");
        }
    }
}
