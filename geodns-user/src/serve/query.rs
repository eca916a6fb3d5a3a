//! Reads a query: bytes in, [`Query`] out. Bounded by the message's own length; never panics.
//!
//! A name in a question may not be compressed: there is nothing before it to point to. Records in
//! the answer and authority sections are read over and ignored, and octets after the last record
//! are malformed: both as Knot DNS does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use geodns_common::wire::{
    self, OPTION_COOKIE, OPTION_ECS, OPTION_NSID, OPTION_PADDING, TYPE_OPT, TYPE_TSIG,
};
use ipnet::IpNet;

use super::message::Transport;

/// Octets of the header (RFC 1035 section 4.1.1).
pub const HEADER: usize = wire::HEADER_LEN as usize;

/// A message, read.
#[derive(Debug)]
pub struct Query<'a> {
    /// Message id.
    pub id: u16,
    /// Opcode.
    pub opcode: u8,
    /// Recursion desired.
    pub rd: bool,
    /// The question, if there is exactly one and it is well-formed.
    pub question: Option<Question<'a>>,
    /// EDNS, if there is a well-placed OPT.
    pub edns: Option<Edns<'a>>,
    /// There is a signature (RFC 8945), which begins N octets before the message's end.
    pub signed: Option<usize>,
    /// Octets that the signature of the response will take; the response has room for them.
    pub spare: usize,
    /// It has no question, and nothing else but a sound OPT: it may be about cookies (RFC 7873 section
    /// 5.4). Else it is malformed.
    pub is_empty: bool,
    /// The message breaks a rule of its format: FORMERR.
    pub malformed: bool,
}

/// The question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// All of it, as it came.
    pub octets: &'a [u8],
    /// Its name on the wire, root label included, as it came.
    pub name: &'a [u8],
    /// Type.
    pub qtype: u16,
    /// Class.
    pub qclass: u16,
}

/// The content of an OPT record (RFC 6891).
#[derive(Debug, Default)]
pub struct Edns<'a> {
    /// Largest UDP message that the client takes, as it says.
    pub payload: u16,
    /// Version.
    pub version: u8,
    /// DNSSEC OK.
    pub dnssec_ok: bool,
    /// The client asks who we are (RFC 5001).
    pub nsid: bool,
    /// The client pads its queries, and wants responses padded where nobody else can read them (RFC 7830
    /// section 4).
    pub padding: bool,
    /// Client subnet (RFC 7871).
    pub ecs: Option<Ecs<'a>>,
    /// The data of the first COOKIE option (RFC 7873 section 5.2), well-formed or not.
    pub cookie: Option<&'a [u8]>,
}

/// A well-formed client subnet option.
#[derive(Clone, Copy, Debug)]
pub struct Ecs<'a> {
    /// FAMILY, SOURCE, SCOPE and ADDRESS as they came.
    pub octets: &'a [u8],
    /// The network; `None` with SOURCE 0, an opt-out.
    pub network: Option<IpNet>,
}

/// The fields of a SOA record that are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa {
    /// Its serial.
    pub serial: u32,
}

/// The SOA record in the answer or authority section, where NOTIFY and IXFR have it.
pub fn first_soa(message: &[u8]) -> Option<Soa> {
    let message = domain::base::Message::from_octets(message).ok()?;
    let (_, answer, authority, _) = message.sections().ok()?;
    let records = answer.limit_to::<domain::rdata::Soa<_>>();
    let mut records = records.chain(authority.limit_to::<domain::rdata::Soa<_>>());
    let soa = records.next()?.ok()?;
    Some(Soa {
        serial: soa.data().serial().into_int(),
    })
}

impl<'a> Query<'a> {
    /// Reads a message that came in this way. `None`: too short for a header, or a response; not to be
    /// answered.
    pub fn parse(message: &'a [u8], transport: Transport) -> Option<Self> {
        let header: &[u8; HEADER] = message.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if header[2] & wire::QR != 0 {
            return None;
        }
        let mut query = Self {
            id: word(0),
            opcode: header[2] >> 3 & 15,
            rd: header[2] & wire::RD != 0,
            question: None,
            edns: None,
            signed: None,
            spare: 0,
            is_empty: false,
            malformed: word(4) != 1,
        };
        let mut reader = Reader(&message[HEADER..]);
        let counts = [word(4), word(6), word(8), word(10)];
        if query.sections(&mut reader, counts).is_none() || !reader.0.is_empty() {
            query.malformed = true;
        } else {
            query.is_empty = counts == [0, 0, 0, 1] && query.edns.is_some();
        }
        if let Some(edns) = &mut query.edns {
            // Responses that anybody can read are not padded (RFC 7830 section 6).
            edns.padding &= transport == Transport::Tls;
        }
        Some(query)
    }

    /// Reads the sections as far as they can be read.
    fn sections(&mut self, reader: &mut Reader<'a>, counts: [u16; 4]) -> Option<()> {
        let [questions, answers, authorities, additionals] = counts;
        for _ in 0..questions {
            let question = Question::parse(reader)?;
            if questions == 1 {
                self.question = Some(question);
            }
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            let record = Record::parse(reader)?;
            self.malformed |= record.rtype == TYPE_OPT;
        }
        for _ in 0..additionals {
            let left = reader.0.len();
            let record = Record::parse(reader)?;
            if record.rtype == TYPE_TSIG {
                self.signed = Some(left);
            }
            if record.rtype == TYPE_OPT {
                if self.edns.is_some() || !record.root {
                    self.malformed = true;
                } else {
                    self.opt(&record);
                }
            }
        }
        Some(())
    }

    fn opt(&mut self, record: &Record<'a>) {
        let [_, version, flags, _] = record.ttl;
        let edns = self.edns.insert(Edns {
            payload: record.class,
            version,
            dnssec_ok: flags & (wire::DO >> 8) as u8 != 0,
            ..Edns::default()
        });
        // What the options of another version look like, nobody knows yet.
        if version == 0 && edns.options(record.rdata).is_none() {
            self.malformed = true;
        }
    }
}

impl<'a> Question<'a> {
    /// The question of a query, if there is exactly one and it is well-formed.
    pub fn first(message: &'a [u8]) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let is_query = header[2] & wire::QR == 0;
        let is_one = header[4..6] == [0, 1];
        (is_query && is_one).then(|| Self::parse(&mut Reader(rest)))?
    }

    /// The first question of any message that has a sound one.
    pub fn leading(message: &'a [u8]) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let is_there = header[4..6] != [0, 0];
        is_there.then(|| Self::parse(&mut Reader(rest)))?
    }

    fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let all = reader.0;
        let mut len = 0;
        loop {
            match reader.u8()? {
                0 => break,
                label @ 1..=63 => {
                    reader.take(label.into())?;
                    len += 1 + usize::from(label);
                    // 255 octets with the root label.
                    if len > 254 {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        let name = &all[..len + 1];
        let qtype = reader.u16()?;
        let qclass = reader.u16()?;
        Some(Self {
            octets: &all[..len + 5],
            name,
            qtype,
            qclass,
        })
    }
}

/// A record, as far as we need it.
struct Record<'a> {
    /// Whether its owner is the root.
    root: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    rdata: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let mut root = true;
        loop {
            match reader.u8()? {
                0 => break,
                label @ 1..=63 => {
                    reader.take(label.into())?;
                }
                // A compression pointer ends the name; nobody follows it.
                0xc0.. => {
                    reader.u8()?;
                    root = false;
                    break;
                }
                _ => return None,
            }
            root = false;
        }
        let rtype = reader.u16()?;
        let class = reader.u16()?;
        let ttl = *reader.take(4)?.first_chunk()?;
        let len = reader.u16()?;
        let rdata = reader.take(len.into())?;
        Some(Self {
            root,
            rtype,
            class,
            ttl,
            rdata,
        })
    }
}

impl<'a> Edns<'a> {
    fn options(&mut self, rdata: &'a [u8]) -> Option<()> {
        let mut reader = Reader(rdata);
        while !reader.0.is_empty() {
            let code = reader.u16()?;
            let len = reader.u16()?;
            let data = reader.take(len.into())?;
            match code {
                OPTION_NSID => self.nsid = true,
                OPTION_PADDING => self.padding = true,
                OPTION_COOKIE if self.cookie.is_none() => self.cookie = Some(data),
                OPTION_ECS if self.ecs.is_some() => return None,
                OPTION_ECS => self.ecs = Some(Ecs::parse(data)?),
                // Unknown options are ignored (RFC 6891 section 6.1.2).
                _ => {}
            }
        }
        Some(())
    }
}

impl<'a> Ecs<'a> {
    /// Reads the option's data (RFC 7871 section 6).
    fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(octets);
        let family = reader.u16()?;
        let source = reader.u8()?;
        let scope = reader.u8()?;
        let network = reader.0;
        let bits = match family {
            1 => 32,
            2 => 128,
            // An opt-out names no family when it comes from dig +subnet=0.
            0 => 0,
            _ => return None,
        };
        if scope != 0 || source > bits || network.len() != usize::from(source).div_ceil(8) {
            return None;
        }
        if source % 8 != 0 && network.last()? & (0xff >> (source % 8)) != 0 {
            return None;
        }
        let mut padded = [0; 16];
        padded[..network.len()].copy_from_slice(network);
        let address = match family {
            1 => IpAddr::V4(Ipv4Addr::from(*padded.first_chunk::<4>()?)),
            _ => IpAddr::V6(Ipv6Addr::from(padded)),
        };
        let network = match source {
            0 => None,
            _ => Some(IpNet::new(address, source).ok()?),
        };
        Some(Self { octets, network })
    }
}

/// The rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }
}
