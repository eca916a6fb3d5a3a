//! From the messages of a transfer, in their order, to a zone (AXFR, RFC 5936) or to deltas (IXFR, RFC
//! 1995). Whatever a message says, memory is bounded and nothing panics.

use bytes::Bytes;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Message, ParsedName, Rtype};
use domain::net::xfr::protocol::{IterationError, XfrResponseInterpreter};
use domain::rdata::ZoneRecordData;
use domain::zonetree::types::ZoneUpdate;

use crate::zone::take::Taker;
use crate::zone::{Delta, Name, Record, Run, Zone};

/// Octets of names and data that a transfer may bring.
pub const MAX_OCTETS: usize = 2 << 30;
/// TTLs are below 2^31 (RFC 2181 section 8); a greater one counts as 0.
const MAX_TTL: u32 = i32::MAX as u32;

/// What a transfer has brought.
#[derive(Debug)]
pub enum Received {
    /// The whole zone.
    Zone(Box<Zone>),
    /// What leads from the version that was there to a new one, one after the other.
    Deltas(Vec<Delta>),
    /// A SOA record, and no more: there is nothing newer, or it cannot be had in this way.
    Nothing,
}

/// Why a transfer is of no use. Displays as the middle of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A message is none of a transfer.
    #[error("a message is malformed ({0})")]
    Message(String),
    /// A record may not stand where it does.
    #[error("{0}")]
    Record(String),
    /// There is too much of it.
    #[error("it is larger than {} MiB", MAX_OCTETS >> 20)]
    TooLarge,
    /// It has not come to its end.
    #[error("it ends too early")]
    Cut,
}

type Parsed = domain::base::Record<ParsedName<Bytes>, ZoneRecordData<Bytes, ParsedName<Bytes>>>;

/// Takes the messages of one transfer.
pub struct Receiver {
    apex: Name,
    interpreter: XfrResponseInterpreter,
    taken: Taken,
    size: usize,
    finished: bool,
}

enum Taken {
    Nothing,
    Zone(Box<Taker>),
    Deltas(Vec<Delta>),
}

impl Receiver {
    /// One that waits for the first message.
    pub fn new(apex: Name) -> Self {
        Self {
            apex,
            interpreter: XfrResponseInterpreter::new(),
            taken: Taken::Nothing,
            size: 0,
            finished: false,
        }
    }

    /// Takes a message, without its signature. `true`: it was the last.
    pub fn take(&mut self, message: Message<Bytes>) -> Result<bool, Broken> {
        let Self {
            apex,
            interpreter,
            taken,
            size,
            ..
        } = self;
        let updates = interpreter.interpret_response(message);
        for update in updates.map_err(|error| Broken::Message(error.to_string()))? {
            match update {
                Ok(update) => taken.update(apex, size, update)?,
                Err(IterationError::SingleSoaIxfrTcpRetrySignal) => {}
                Err(IterationError::ParseError(error)) => {
                    return Err(Broken::Message(error.to_string()));
                }
                Err(error) => return Err(Broken::Message(format!("{error:?}"))),
            }
            if *size > MAX_OCTETS {
                return Err(Broken::TooLarge);
            }
        }
        self.finished = interpreter.is_finished();
        Ok(self.finished)
    }

    /// What has come.
    pub fn finish(self) -> Result<Received, Broken> {
        if !self.finished {
            return Err(Broken::Cut);
        }
        Ok(match self.taken {
            Taken::Nothing => Received::Nothing,
            Taken::Zone(taker) => Received::Zone(Box::new(taker.finish().map_err(Broken::Record)?)),
            Taken::Deltas(deltas) => Received::Deltas(deltas),
        })
    }
}

impl Taken {
    fn update(
        &mut self,
        apex: &Name,
        size: &mut usize,
        update: ZoneUpdate<Parsed>,
    ) -> Result<(), Broken> {
        match update {
            ZoneUpdate::DeleteAllRecords => *self = Self::Zone(Box::new(Taker::new(apex.clone()))),
            ZoneUpdate::DeleteRecord(record) => {
                self.change(apex, size, &record, |delta| &mut delta.removed)?
            }
            ZoneUpdate::AddRecord(record) => match self {
                Self::Zone(taker) => add(taker, size, &record)?,
                _ => self.change(apex, size, &record, |delta| &mut delta.added)?,
            },
            ZoneUpdate::BeginBatchDelete(soa) => {
                if !matches!(self, Self::Deltas(_)) {
                    *self = Self::Deltas(Vec::new());
                }
                if let Self::Deltas(deltas) = self {
                    deltas.push(Delta {
                        old_soa: Run::default(),
                        new_soa: Run::default(),
                        removed: Run::default(),
                        added: Run::default(),
                    });
                }
                self.change(apex, size, &soa, |delta| &mut delta.old_soa)?;
            }
            ZoneUpdate::BeginBatchAdd(soa) => {
                self.change(apex, size, &soa, |delta| &mut delta.new_soa)?;
            }
            ZoneUpdate::Finished(soa) => match self {
                Self::Zone(taker) => add(taker, size, &soa)?,
                Self::Deltas(deltas) => {
                    let ends = deltas.last().map(|delta| &delta.new_soa);
                    let mut last = Run::default();
                    put(apex, &soa, &mut last)?;
                    if ends != Some(&last) {
                        let message = "its last delta does not end at its last SOA record";
                        return Err(Broken::Record(message.to_owned()));
                    }
                }
                Self::Nothing => {}
            },
            _ => return Err(Broken::Message("it is of no known form".to_owned())),
        }
        Ok(())
    }

    fn change(
        &mut self,
        apex: &Name,
        size: &mut usize,
        record: &Parsed,
        which: fn(&mut Delta) -> &mut Run,
    ) -> Result<(), Broken> {
        let Self::Deltas(deltas) = self else {
            return Err(Broken::Message(
                "a change without its SOA record".to_owned(),
            ));
        };
        if let Some(delta) = deltas.last_mut() {
            let run = which(delta);
            let before = run.size();
            put(apex, record, run)?;
            *size += run.size() - before;
        }
        Ok(())
    }
}

/// Owner in lower case, and RDATA in canonical form.
fn canonical(record: &Parsed) -> Result<(Name, Vec<u8>), Broken> {
    let mut owner = record.owner().to_vec();
    owner.make_canonical();
    let owner = Name::from_octets(owner.into_octets().into())
        .map_err(|error| Broken::Message(error.to_string()))?;
    let mut rdata = Vec::new();
    let composed = record.data().compose_canonical_rdata(&mut rdata);
    if composed.is_err() || rdata.len() > usize::from(u16::MAX) {
        let message = format!("the data of {owner} {} is too long", record.rtype());
        return Err(Broken::Record(message));
    }
    Ok((owner, rdata))
}

fn ttl(record: &Parsed) -> u32 {
    match record.ttl().as_secs() {
        ttl @ ..=MAX_TTL => ttl,
        _ => 0,
    }
}

fn add(taker: &mut Taker, size: &mut usize, record: &Parsed) -> Result<(), Broken> {
    let (owner, rdata) = canonical(record)?;
    let added = taker.add(owner.for_slice(), record.rtype(), ttl(record), &rdata);
    // A record takes some octets even if it has none.
    *size = taker.size().max(*size + 16);
    added.map_err(Broken::Record)
}

fn put(apex: &Name, record: &Parsed, run: &mut Run) -> Result<(), Broken> {
    let (owner, rdata) = canonical(record)?;
    let is_outside = !owner.ends_with(apex);
    if is_outside || (record.rtype() == Rtype::SOA && owner != *apex) {
        return Err(Broken::Record(format!("{owner} is outside the zone")));
    }
    run.push(
        owner.for_slice(),
        Record {
            rtype: record.rtype(),
            ttl: ttl(record),
            rdata: &rdata,
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zone::parse_name;

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
        let mut receiver = Receiver::new(parse_name("example.org").unwrap());
        let message = Message::from_octets(Bytes::copy_from_slice(octets))
            .map_err(|error| Broken::Message(error.to_string()))?;
        receiver.take(message)?;
        receiver.finish()
    }

    #[test]
    fn deltas_are_read_in_canonical_form() {
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
