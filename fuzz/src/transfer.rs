//! Any octets as the messages of a transfer, each behind its length, to a secondary that has a zone.

use std::sync::LazyLock;

use bytes::Bytes;
use domain::base::{Message, Rtype};
use geodns::base::name::{Name, parse_name};
use geodns::transfer::budget::{Budget, Limits};
use geodns::transfer::receive::{Received, Receiver};
use geodns::zone::{Delta, Run, Zone, parse, take};

/// Octets of a zone, at the most, for each octet of the messages: a record of 14 octets may have two names of
/// 255.
const OCTETS: usize = 64;

/// The zone that the secondary has: serial 1.
const ZONE: &str = "\
$TTL 60
@ SOA ns host 1 2h 15m 2w 5m
@ NS ns
@ MX 10 mail
ns A 192.0.2.1
a A 192.0.2.2
b CNAME a
c.d TXT x
dn DNAME a
";

static APEX: LazyLock<Name> = LazyLock::new(|| parse_name("example.org").expect("a name"));
static OLD: LazyLock<Zone> = LazyLock::new(|| {
    let reading = parse(&APEX, "zone".as_ref(), ZONE.as_bytes());
    reading.zone.expect("it is valid")
});

/// No panic; a zone only from a transfer that is whole, one that follows the rules, however it came; and no
/// more memory than the messages allow.
pub fn transfer(octets: &[u8]) {
    let Some(received) = received(octets) else {
        return;
    };
    match received {
        Received::Nothing => {}
        Received::Zone(zone) => {
            assert!(zone.memory() <= OCTETS * (octets.len() + 64));
            follows_rules(&zone);
        }
        Received::Deltas(deltas) => {
            let size: usize = deltas.iter().map(Delta::size).sum();
            assert!(size <= OCTETS * octets.len());
            if let Some(zone) = changed(&deltas) {
                follows_rules(&zone);
            }
        }
    }
}

fn received(octets: &[u8]) -> Option<Received> {
    let limits = Limits {
        zone: 1 << 30,
        all: 1 << 30,
    };
    let budget = Budget::default();
    let mut receiver = Receiver::new(APEX.clone(), Some(1), budget.share(), limits);
    let mut rest = octets;
    while let Some((&[high, low], after)) = rest.split_first_chunk() {
        let len = u16::from_be_bytes([high, low]);
        let (message, after) = after.split_at_checked(len.into())?;
        rest = after;
        let message = Message::from_octets(Bytes::copy_from_slice(message)).ok()?;
        if receiver.take(&message).ok()? {
            break;
        }
    }
    Some(receiver.finish().ok()?.received)
}

/// The zone with deltas applied, as the daemon does it.
fn changed(deltas: &[Delta]) -> Option<Zone> {
    let mut zone = OLD.clone();
    for delta in deltas {
        if delta.from_serial() != zone.serial() {
            return None;
        }
        delta.apply(&mut zone, |_, _| false).ok()?;
        take::check(&zone, delta).ok()?;
        assert_eq!(zone.serial(), delta.to_serial());
    }
    Some(zone)
}

/// A zone that came in can be transferred on.
fn follows_rules(zone: &Zone) {
    assert!(!zone.is_empty() && zone.top().has(Rtype::NS));
    let records = Run::from(zone);
    let taken = take::from_run(&zone.apex, &records).expect("it follows the rules");
    assert!(taken.differences(zone).is_empty());
    assert_eq!(taken.len(), zone.len());
}
