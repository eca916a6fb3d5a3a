//! A second reader of messages, which shares no code with the server's, and what must hold for a response.

use geodns::serve::Transport;

const HEADER: usize = 12;
const OPT: u16 = 41;
const TSIG: u16 = 250;
const ANY: u16 = 255;
const PADDING: u16 = 12;

/// A record, as far as it matters.
pub struct Record {
    /// 1: answer, 2: authority, 3: additional.
    pub section: usize,
    pub rtype: u16,
    pub class: u16,
    root: bool,
    /// An OPT with a padding option.
    padding: bool,
}

/// A message, as far as it can be read.
#[derive(Default)]
pub struct Parts {
    /// Octets of the only question, and its type.
    pub question: Option<(Vec<u8>, u16)>,
    pub records: Vec<Record>,
    /// Everything is there, and nothing is left over.
    pub whole: bool,
}

impl Parts {
    pub fn of(message: &[u8]) -> Self {
        let mut parts = Self::default();
        parts.whole = parts.read(message).is_some_and(<[u8]>::is_empty);
        parts
    }

    fn read<'a>(&mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = message.get(HEADER..)?;
        let count = |section: usize| word(message, 4 + 2 * section);
        for _ in 0..count(0)? {
            let start = rest;
            // There is no name before it that it could point to.
            rest = name(rest)
                .filter(|rest| !is_compressed(start) && start.len() - rest.len() <= MAX_NAME)?;
            let qtype = word(rest, 0)?;
            rest = rest.get(4..)?;
            if count(0) == Some(1) {
                self.question = Some((start[..start.len() - rest.len()].to_vec(), qtype));
            }
        }
        for section in 1..4 {
            for _ in 0..count(section)? {
                let root = *rest.first()? == 0;
                rest = name(rest)?;
                let (rtype, class) = (word(rest, 0)?, word(rest, 2)?);
                let data = rest.get(10..10 + usize::from(word(rest, 8)?))?;
                rest = &rest[10 + data.len()..];
                self.records.push(Record {
                    section,
                    rtype,
                    class,
                    root,
                    padding: rtype == OPT && has_padding(data),
                });
            }
        }
        Some(rest)
    }

    pub fn opts(&self) -> impl Iterator<Item = &Record> {
        let additional = self.records.iter().filter(|record| record.section == 3);
        additional.filter(|record| record.rtype == OPT && record.root)
    }

    /// Records of a section, without OPT and TSIG.
    fn of_section(&self, section: usize) -> impl Iterator<Item = &Record> {
        let records = self.records.iter();
        records.filter(move |one| one.section == section && !matches!(one.rtype, OPT | TSIG))
    }

    fn has_padding(&self) -> bool {
        self.opts().any(|opt| opt.padding)
    }

    pub fn is_signed(&self) -> bool {
        self.records.iter().any(|record| record.rtype == TSIG)
    }

    /// Octets that a response over UDP may have: 512, or what the client takes, and no more than 1,232 (RFC
    /// 6891 section 6.2).
    pub fn room(&self) -> usize {
        let payload = self.opts().next().map_or(512, |opt| opt.class);
        payload.clamp(512, 1232).into()
    }
}

/// The octets behind a name.
fn name(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        match octets.split_first()? {
            (0, rest) => return Some(rest),
            (len @ 1..=63, rest) => octets = rest.get(usize::from(*len)..)?,
            (0xc0.., rest) => return rest.get(1..),
            _ => return None,
        }
    }
}

/// Octets of a name, at the most (RFC 1035 section 3.1).
const MAX_NAME: usize = 255;

/// Whether a name ends in a pointer.
fn is_compressed(mut octets: &[u8]) -> bool {
    while let Some((&len, rest)) = octets.split_first() {
        match len {
            0 => return false,
            1..=63 => octets = rest.get(usize::from(len)..).unwrap_or(&[]),
            _ => return true,
        }
    }
    false
}

fn has_padding(mut options: &[u8]) -> bool {
    while let (Some(code), Some(len)) = (word(options, 0), word(options, 2)) {
        if code == PADDING {
            return true;
        }
        options = options.get(4 + usize::from(len)..).unwrap_or(&[]);
    }
    false
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    let octets = octets.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}

/// Checks the promises that hold for a response of one message to any query.
pub fn check(query: &[u8], response: &[u8], transport: Transport) {
    let (asked, told) = (Parts::of(query), Parts::of(response));
    let limit = match transport {
        Transport::Udp => asked.room(),
        Transport::Tcp | Transport::Tls => usize::from(u16::MAX),
    };
    assert!(response.len() >= HEADER && response.len() <= limit);
    assert!(told.whole, "it cannot be read");
    assert_eq!(response[..2], query[..2], "the id");
    assert_eq!(response[2] & 0xf9, 0x80 | query[2] & 0x79, "QR, opcode, RD");
    assert_eq!(response[3] & 0xf0, 0, "RA, Z, AD and CD");
    if let (Some(asked), Some(told)) = (&asked.question, &told.question) {
        assert_eq!(asked.0, told.0, "the question as it came");
    }
    if asked.whole && !asked.is_signed() {
        assert_eq!(told.opts().count(), asked.opts().count().min(1), "OPT");
    }
    let truncated = response[2] & 2 != 0;
    let rcode = response[3] & 15;
    let count = |section: usize| told.of_section(section).count();
    let has_records = (1..4).any(|section| count(section) > 0);
    assert!(
        !truncated || transport == Transport::Udp,
        "truncated over TCP"
    );
    if truncated {
        assert!(!has_records, "nothing but the question");
    }
    if matches!(rcode, 1 | 4 | 5 | 9) {
        assert!(!has_records, "an error has no records");
    }
    let is_padded = told.has_padding();
    if is_padded {
        assert!(transport == Transport::Tls && asked.has_padding());
        assert!(response.len() % 468 == 0 || response.len() == limit);
    } else if transport == Transport::Tls && has_records && asked.whole {
        assert!(!asked.has_padding() || response.len() + 4 > limit);
    }
    if !has_records && !is_padded {
        // Amplification: NSID ("fuzz") and an extended error. A signature's key may have been compressed.
        let more = if asked.is_signed() { 300 } else { 0 };
        assert!(response.len() <= query.len() + 8 + 6 + more);
    }
    if count(1) > 0 {
        assert_eq!(count(3), 0, "additional data that nobody needs");
    }
    if told
        .question
        .as_ref()
        .is_some_and(|(_, qtype)| *qtype == ANY)
    {
        let mut types: Vec<_> = told.of_section(1).map(|record| record.rtype).collect();
        types.retain(|rtype| !matches!(rtype, 5 | 39));
        types.dedup();
        assert!(types.len() < 2, "ANY is one RRset");
    }
}
