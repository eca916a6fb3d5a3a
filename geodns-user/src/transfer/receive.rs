//! From the messages of a transfer, in their order, to a zone (AXFR, RFC 5936) or to deltas (IXFR, RFC
//! 1995). Whatever a message says, memory is bounded and nothing panics.
//!
//! Records that cannot be of the zone are left out, and reported: records outside of it, and those of another class. A
//! record of the zone that may not stand in it refuses the whole transfer.

use std::fmt;

use bytes::Bytes;
use domain::base::iana::Class;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::base::record::ParsedRecord;
use domain::base::{Message, ParsedName, Rtype, Serial};
use domain::rdata::ZoneRecordData;

use super::budget::{Limits, PER_RECORD, Share, TooLarge};
use crate::base::name::Name;
use crate::zone::take::Taker;
use crate::zone::{self, Delta, Record, Run, Zone};

/// TTLs are below 2^31 (RFC 2181 section 8); a greater one counts as 0.
const MAX_TTL: u32 = i32::MAX as u32;
/// Octets of a large transfer.
const LARGE: usize = 1 << 20;
/// Octets that a delta takes beside its records: its runs, and what the allocator adds to each of them.
const PER_DELTA: usize = size_of::<Delta>() + 4 * 32;

/// Octets of messages for each octet that a zone may take, at the most. A message for each record, with its signature,
/// takes fewer; a server that sends more is leading us on.
const IDLE_TALK: usize = 8;

/// The content of a transfer.
#[derive(Debug)]
pub enum Received {
    /// The whole zone.
    Zone(Box<Zone>),
    /// The deltas that lead from our version to a new one, one after the other.
    Deltas(Vec<Delta>),
    /// A SOA record, and no more: there is nothing newer, or it cannot be had in this way.
    Nothing,
}

/// A transfer that has come to its end.
#[derive(Debug)]
pub struct Arrived {
    /// Its content.
    pub received: Received,
    /// Records that were not of the zone.
    pub left_out: LeftOut,
    /// Its share of the memory that there is for all.
    pub share: Share,
}

/// Records that a transfer had and that are not of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: Option<Stranger>,
}

/// A record that is not of the zone. Displays as owner, type and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    owner: Name,
    rtype: Rtype,
    /// Its class, if it is another one: else it is outside.
    class: Option<Class>,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, ", self.owner, self.rtype)?;
        match self.class {
            Some(class) => write!(f, "of class {class}"),
            None => f.write_str("outside the zone"),
        }
    }
}

/// A reason why a transfer is of no use. Displays as the middle of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A message is none of a transfer.
    #[error("a message is malformed ({0})")]
    Message(String),
    /// A record may not stand where it does.
    #[error("{0}")]
    Record(String),
    /// There is too much of it.
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
    /// The transfer has not come to its end.
    #[error("it ends too early")]
    Cut,
}

type Parsed = domain::base::Record<ParsedName<Bytes>, ZoneRecordData<Bytes, ParsedName<Bytes>>>;

/// Takes the messages of one transfer.
pub struct Receiver {
    apex: Name,
    /// The serial that there is, where deltas were asked for.
    since: Option<Serial>,
    stage: Stage,
    /// The SOA record that it begins with, and must end with.
    first: Run,
    taken: Taken,
    share: Share,
    limits: Limits,
    left_out: LeftOut,
    /// Octets of messages.
    came: usize,
}

/// The stage of a transfer: what has come, and what may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing: a SOA record.
    Start,
    /// A SOA record in answer to an IXFR: another one, and deltas follow, or else the zone.
    First,
    /// Records of the zone: more of them, or the first SOA record.
    Whole,
    /// Records that a delta removes: more of them, or a SOA record, and what it adds.
    Removed,
    /// Records that a delta adds: more of them, or a SOA record: the first, or that of another delta.
    Added,
    /// The last record: nothing.
    Done,
}

enum Taken {
    Nothing,
    Zone(Box<Taker>),
    Deltas(Vec<Delta>),
}

impl Receiver {
    /// Waits for the first message, of an IXFR from a serial or of an AXFR. Memory is taken from this share, within
    /// these limits.
    pub fn new(apex: Name, since: Option<u32>, share: Share, limits: Limits) -> Self {
        Self {
            apex,
            since: since.map(Serial),
            stage: Stage::Start,
            first: Run::default(),
            taken: Taken::Nothing,
            share,
            limits,
            left_out: LeftOut::default(),
            came: 0,
        }
    }

    /// Takes a message, without its signature. Gives whether it was the last.
    pub fn take(&mut self, message: &Message<Bytes>) -> Result<bool, Broken> {
        self.came += message.as_slice().len();
        if self.came / IDLE_TALK > self.limits.zone {
            return Err(TooLarge::Zone(self.limits.zone).into());
        }
        let malformed = |error: domain::base::wire::ParseError| Broken::Message(error.to_string());
        for record in message.answer().map_err(malformed)? {
            self.record(&record.map_err(malformed)?)?;
        }
        // With the serial that is there, or an older one, it is all that there is to say.
        if self.stage == Stage::First && self.since >= self.serial() {
            self.stage = Stage::Done;
        }
        Ok(self.stage == Stage::Done)
    }

    /// Whether the server may have said all that it has to say: it has a newer version, and gives no deltas.
    pub fn may_be_all(&self) -> bool {
        self.stage == Stage::First
    }

    /// Whether so much has come that dropping it takes time.
    pub fn is_large(&self) -> bool {
        self.share.octets() > LARGE
    }

    /// Finishes the transfer. Gives its content, or the reason why it is of no use.
    pub fn finish(self) -> Result<Arrived, Broken> {
        if !matches!(self.stage, Stage::Done | Stage::First) {
            return Err(Broken::Cut);
        }
        let received = match self.taken {
            Taken::Nothing => Received::Nothing,
            Taken::Zone(taker) => Received::Zone(Box::new(taker.finish().map_err(Broken::Record)?)),
            Taken::Deltas(deltas) => Received::Deltas(deltas),
        };
        Ok(Arrived {
            received,
            left_out: self.left_out,
            share: self.share,
        })
    }

    /// The serial that it ends with.
    fn serial(&self) -> Option<Serial> {
        let (_, soa) = self.first.iter().next()?;
        let &[a, b, c, d, ..] = soa.rdata.last_chunk::<20>()?;
        Some(Serial(u32::from_be_bytes([a, b, c, d])))
    }

    fn record(&mut self, record: &ParsedRecord<'_, Bytes>) -> Result<(), Broken> {
        let owner = lower_case(&record.owner())?;
        let (rtype, class) = (record.rtype(), record.class());
        let is_soa = rtype == Rtype::SOA && owner == self.apex && class == Class::IN;
        match self.stage {
            Stage::Start if !is_soa => {
                return Err(Broken::Message(format!(
                    "it begins with {owner} {class} {rtype}, and not with the SOA record of {}",
                    self.apex
                )));
            }
            Stage::Done => {
                return Err(Broken::Message(format!(
                    "{owner} {rtype} after the last SOA record"
                )));
            }
            _ => {}
        }
        let other_class = Some(class).filter(|&class| class != Class::IN);
        if other_class.is_some() || !owner.ends_with(&self.apex) {
            self.left_out.count += 1;
            self.left_out.first.get_or_insert(Stranger {
                owner,
                rtype,
                class: other_class,
            });
            return Ok(());
        }
        let parsed: Parsed = record
            .to_record()
            .map_err(|error| Broken::Message(format!("{owner} {rtype}: {error}")))?
            .ok_or_else(|| Broken::Message(format!("{owner} {rtype}")))?;
        let rdata = uncompressed(&owner, &parsed)?;
        if rtype == Rtype::TXT && rdata.is_empty() {
            // One string or more (RFC 1035 section 3.3.14): who asks for it takes the answer for malformed.
            return Err(Broken::Record(format!("{owner} TXT is empty")));
        }
        let record = Record {
            rtype,
            ttl: ttl(&parsed),
            rdata: &rdata,
        };
        self.place(&owner, record, is_soa)
    }

    /// Puts a record of the zone where it belongs.
    fn place(&mut self, owner: &Name, record: Record<'_>, is_soa: bool) -> Result<(), Broken> {
        let ends = is_soa && {
            let mut first = self.first.iter().map(|(_, soa)| soa.rdata);
            let same = |soa| zone::compare(Rtype::SOA, soa, record.rdata).is_eq();
            first.next().is_some_and(same)
        };
        match self.stage {
            Stage::Start => {
                self.first.push(owner.for_slice(), record);
                self.stage = match self.since {
                    Some(_) => Stage::First,
                    None => self.whole(),
                };
                Ok(())
            }
            Stage::First if is_soa && !ends => self.delta(owner, record),
            Stage::First => {
                self.stage = self.whole();
                self.place(owner, record, is_soa)
            }
            Stage::Whole if is_soa && !ends => Err(Broken::Message(
                "it has another SOA record than it began with".to_owned(),
            )),
            Stage::Whole => {
                if ends {
                    self.stage = Stage::Done;
                }
                self.add(owner, record)
            }
            Stage::Removed if is_soa => {
                self.stage = Stage::Added;
                self.change(owner, record, |delta| &mut delta.new_soa)
            }
            Stage::Removed => self.change(owner, record, |delta| &mut delta.removed),
            Stage::Added if ends => {
                self.stage = Stage::Done;
                self.is_last(record)
            }
            Stage::Added if is_soa => self.delta(owner, record),
            Stage::Added => self.change(owner, record, |delta| &mut delta.added),
            Stage::Done => Ok(()),
        }
    }

    /// Receives a whole zone from here on.
    fn whole(&mut self) -> Stage {
        self.taken = Taken::Zone(Box::new(Taker::new(self.apex.clone())));
        Stage::Whole
    }

    fn add(&mut self, owner: &Name, record: Record<'_>) -> Result<(), Broken> {
        let octets = owner.len() + record.rdata.len() + PER_RECORD;
        self.share.grow(octets, self.limits)?;
        let Taken::Zone(taker) = &mut self.taken else {
            return Ok(());
        };
        let added = taker.add(owner.for_slice(), record.rtype, record.ttl, record.rdata);
        added.map_err(Broken::Record)
    }

    /// Begins another delta, with the SOA record that it leads from.
    fn delta(&mut self, owner: &Name, soa: Record<'_>) -> Result<(), Broken> {
        self.share.grow(PER_DELTA, self.limits)?;
        self.stage = Stage::Removed;
        let delta = Delta {
            old_soa: Run::default(),
            new_soa: Run::default(),
            removed: Run::default(),
            added: Run::default(),
        };
        match &mut self.taken {
            Taken::Deltas(deltas) => deltas.push(delta),
            taken => *taken = Taken::Deltas(vec![delta]),
        }
        self.change(owner, soa, |delta| &mut delta.old_soa)
    }

    fn change(
        &mut self,
        owner: &Name,
        record: Record<'_>,
        which: fn(&mut Delta) -> &mut Run,
    ) -> Result<(), Broken> {
        let octets = owner.len() + record.rdata.len() + PER_RECORD;
        self.share.grow(octets, self.limits)?;
        if let Taken::Deltas(deltas) = &mut self.taken
            && let Some(delta) = deltas.last_mut()
        {
            which(delta).push(owner.for_slice(), record);
        }
        Ok(())
    }

    /// Whether the last delta leads to the last SOA record.
    fn is_last(&self, soa: Record<'_>) -> Result<(), Broken> {
        let Taken::Deltas(deltas) = &self.taken else {
            return Ok(());
        };
        let ends = deltas.last().and_then(|delta| delta.new_soa.iter().next());
        match ends.is_some_and(|(_, ends)| ends.is(&soa)) {
            true => Ok(()),
            false => Err(Broken::Record(
                "its last delta does not end at its last SOA record".to_owned(),
            )),
        }
    }
}

fn lower_case(name: &impl ToName) -> Result<Name, Broken> {
    let mut name = name.to_vec();
    name.make_canonical();
    Name::from_octets(name.into_octets().into()).map_err(|error| Broken::Message(error.to_string()))
}

/// RDATA with names uncompressed.
fn uncompressed(owner: &Name, record: &Parsed) -> Result<Vec<u8>, Broken> {
    let mut rdata = Vec::new();
    let composed = record.data().compose_rdata(&mut rdata);
    if composed.is_err() || rdata.len() > usize::from(u16::MAX) {
        let message = format!("the data of {owner} {} is too long", record.rtype());
        return Err(Broken::Record(message));
    }
    Ok(rdata)
}

fn ttl(record: &Parsed) -> u32 {
    match record.ttl().as_secs() {
        ttl @ ..=MAX_TTL => ttl,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::budget::Budget;
    use super::*;
    use crate::base::name::parse_name;

    /// An IXFR of serial 2 over 1 of example.org: one record goes, one comes.
    fn ixfr() -> Vec<u8> {
        let mut message =
            b"\0\x07\x84\0\0\x01\0\x06\0\0\0\0\x07example\x03org\0\0\xfb\0\x01".to_vec();
        let mut put = |owner: &[u8], rtype: u8, rdata: &[u8]| {
            message.extend_from_slice(owner);
            message.extend_from_slice(&[0, rtype, 0, 1, 0, 0, 0, 60, 0, rdata.len() as u8]);
            message.extend_from_slice(rdata);
        };
        let soa = |serial: u8| {
            let mut rdata = b"\xc0\x0c\xc0\x0c\0\0\0".to_vec();
            rdata.push(serial);
            rdata.extend_from_slice(&[0; 16]);
            rdata
        };
        put(b"\xc0\x0c", 6, &soa(2));
        put(b"\xc0\x0c", 6, &soa(1));
        put(b"\x01A\xc0\x0c", 1, &[192, 0, 2, 1]);
        put(b"\xc0\x0c", 6, &soa(2));
        put(b"\x01b\xc0\x0c", 1, &[192, 0, 2, 2]);
        put(b"\xc0\x0c", 6, &soa(2));
        message
    }

    fn take(octets: &[u8]) -> Result<Received, Broken> {
        let limits = Limits {
            zone: 1 << 20,
            all: 1 << 20,
        };
        take_within(octets, &Budget::default(), limits)
    }

    fn take_within(octets: &[u8], budget: &Budget, limits: Limits) -> Result<Received, Broken> {
        let apex = parse_name("example.org").unwrap();
        let mut receiver = Receiver::new(apex, Some(1), budget.share(), limits);
        let message = Message::from_octets(Bytes::copy_from_slice(octets))
            .map_err(|error| Broken::Message(error.to_string()))?;
        receiver.take(&message)?;
        Ok(receiver.finish()?.received)
    }

    #[test]
    fn what_is_over_a_limit_is_refused_and_given_back() {
        let budget = Budget::default();
        let needs = (1..4096).find(|&most| {
            let limits = Limits {
                zone: most,
                all: 1 << 20,
            };
            let taken = take_within(&ixfr(), &budget, limits);
            assert!(matches!(
                taken,
                Ok(_) | Err(Broken::TooLarge(TooLarge::Zone(_)))
            ));
            assert_eq!(budget.taken(), 0);
            taken.is_ok()
        });
        let all = needs.unwrap();
        // Memory of six records and a delta.
        assert!((6 * PER_RECORD + PER_DELTA..1024).contains(&all), "{all}");
        let zone = 1 << 20;
        let there = |octets| {
            let mut share = budget.share();
            share.set(octets);
            share
        };
        let _there = there(100);
        for (all, fits) in [(all + 100, true), (all + 99, false)] {
            let taken = take_within(&ixfr(), &budget, Limits { zone, all });
            let is_refused = matches!(taken, Err(Broken::TooLarge(TooLarge::All(_))));
            assert_eq!((taken.is_ok(), is_refused), (fits, !fits));
            assert_eq!(budget.taken(), 100);
        }
    }

    #[test]
    fn deltas_are_read_with_names_uncompressed() {
        let Received::Deltas(deltas) = take(&ixfr()).unwrap() else {
            panic!("no deltas");
        };
        assert_eq!(deltas.len(), 1);
        assert_eq!((deltas[0].from_serial(), deltas[0].to_serial()), (1, 2));
        let removed: Vec<_> = deltas[0].removed.iter().collect();
        assert_eq!(removed[0].0.to_string(), "a.example.org");
        assert_eq!(removed[0].1.rdata, [192, 0, 2, 1]);
        assert_eq!(deltas[0].added.iter().count(), 1);
    }

    #[test]
    fn a_transfer_that_is_cut_brings_nothing() {
        let whole = ixfr();
        for len in 12..whole.len() {
            assert!(take(&whole[..len]).is_err(), "{len}");
        }
        // Well-formed, and without its last records.
        for records in 2..6 {
            let mut cut = ixfr();
            cut[7] = records;
            assert!(matches!(take(&cut), Err(Broken::Cut)), "{records}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(changes in prop::collection::vec((0..200usize, any::<u8>()), 1..8)) {
            let mut message = ixfr();
            for (at, octet) in changes {
                let at = at % message.len();
                message[at] = octet;
            }
            let _ = take(&message);
        }
    }
}
