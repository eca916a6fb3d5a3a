//! Writes a response: header, question as it came, records, OPT.
//!
//! Octets are canonical, the same that the fast path gives: names are compressed as [`compress`](crate::compress)
//! says, the OPT is last.

use domain::base::{Name, Rtype};
use geodns_common::cookie;
use geodns_common::wire::{
    AA, CLASS_IN, MAX_UDP_SIZE, MIN_UDP_SIZE, OPT_LEN, OPTION_COOKIE, OPTION_ECS,
    OPTION_EXTENDED_ERROR, OPTION_NSID, OPTION_PADDING, POINTER, QR, TC, TYPE_OPT,
};

use super::message::Outcome;
use super::query::{Ecs, HEADER, Query};
use crate::compress::{self, Names};
use crate::zone::RrSet;

/// Responses that are padded have a multiple of these octets (RFC 8467 section 4.1).
const PADDING_BLOCK: usize = 468;

/// The options of the response's OPT that answer those of the query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The name of this server (NSID, RFC 5001).
    pub nsid: Option<&'a [u8]>,
    /// Client subnet (RFC 7871).
    pub ecs: Option<Ecs<'a>>,
    /// The client's cookie and ours (RFC 7873).
    pub cookie: Option<[u8; cookie::LEN as usize]>,
}

impl<'a> Options<'a> {
    /// Those that say nothing of us.
    pub fn without_us(query: &Query<'a>) -> Self {
        Self {
            ecs: query.edns.as_ref().and_then(|edns| edns.ecs),
            ..Self::default()
        }
    }

    /// Octets of them.
    fn len(&self) -> usize {
        let nsid = self.nsid.map_or(0, |nsid| 4 + nsid.len());
        let ecs = self.ecs.map_or(0, |ecs| 4 + ecs.octets.len());
        let cookie = self.cookie.map_or(0, |cookie| 4 + cookie.len());
        nsid + ecs + cookie
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub enum Section {
    /// Records that answer the question.
    Answer,
    /// The name servers that know more, or the SOA of a negative answer.
    Authority,
    /// Records that help, such as addresses of name servers.
    Additional,
}

/// A response being written.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    qname: &'a [u8],
    /// Where the records start.
    records_at: usize,
    /// Octets that header, question and records may take.
    limit: usize,
    counts: [u16; 3],
    full: bool,
    names: Names,
}

/// The parts of a response beside its records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outline {
    /// Authoritative answer.
    pub authoritative: bool,
    /// Response code, extended.
    pub rcode: u16,
    /// SCOPE PREFIX-LENGTH, where the query has a client subnet.
    pub scope: u8,
    /// Why there is no answer, where it helps to say so (RFC 8914). There are no records then, so that
    /// it always fits.
    pub error: Option<ExtendedError>,
}

/// INFO-CODE of an Extended DNS Error (RFC 8914 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    /// The name is in no zone of ours.
    NotAuthoritative = 20,
}

/// A place to go back to.
pub struct Mark {
    len: usize,
    counts: [u16; 3],
}

impl<'a> Writer<'a> {
    /// Starts a response of at most `size` octets; the OPT's place is kept free.
    pub fn new(
        out: &'a mut Vec<u8>,
        query: &Query<'a>,
        options: &Options<'_>,
        size: usize,
    ) -> Self {
        out.clear();
        out.resize(HEADER, 0);
        let mut qname: &[u8] = &[];
        if let Some(question) = &query.question {
            out.extend_from_slice(question.octets);
            qname = question.name;
        }
        let records_at = out.len();
        Self {
            out,
            qname,
            records_at,
            limit: size.saturating_sub(opt_len(query, options)),
            counts: [0; 3],
            full: false,
            names: Names::new(compress::share(qname, qname.len())),
        }
    }

    /// Says how many octets of the question's name, from its end, names in records may point to: as many as the
    /// fast path knows of when it has the records. Counts before the first record.
    pub fn share(&mut self, octets: usize) {
        self.names.share(compress::share(self.qname, octets));
    }

    /// Whether something did not fit.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Where we are.
    pub fn mark(&self) -> Mark {
        Mark {
            len: self.out.len(),
            counts: self.counts,
        }
    }

    /// Takes back what was written since.
    pub fn rewind(&mut self, mark: &Mark) {
        self.out.truncate(mark.len);
        self.names.forget(mark.len);
        self.counts = mark.counts;
        self.full = false;
    }

    /// Writes an RRset with a TTL.
    pub fn rrset(&mut self, section: Section, owner: &Name<[u8]>, ttl: u32, rrset: RrSet<'_>) {
        for rdata in rrset.rdata() {
            self.record(section, owner, rrset.rtype, CLASS_IN, ttl, rdata);
        }
    }

    /// Writes a record.
    pub fn record(
        &mut self,
        section: Section,
        owner: &Name<[u8]>,
        rtype: Rtype,
        class: u16,
        ttl: u32,
        rdata: &[u8],
    ) {
        if rdata.len() > usize::from(u16::MAX) {
            self.full = true;
            return;
        }
        self.put(section, 1, |writer| {
            writer.owner(owner);
            for word in [rtype.to_int(), class] {
                writer.out.extend_from_slice(&word.to_be_bytes());
            }
            writer.out.extend_from_slice(&ttl.to_be_bytes());
            let rtype = rtype.to_int();
            writer.names.put_rdata(writer.out, rtype, rdata, |_| {});
        });
    }

    /// Writes answers that are rendered already, each owned by a pointer to the question, but for
    /// their TTL, and with names in RDATA written out.
    ///
    /// With an `owner`, that stands in the pointer's place.
    pub fn rendered(&mut self, owner: Option<&Name<[u8]>>, records: &[u8], ttl: u32) {
        let mut rest = records;
        // Pointer, type, class and TTL are 10 octets, then RDLENGTH and RDATA.
        while let Some(&[high, low]) = rest.get(10..12) {
            let end = 12 + usize::from(u16::from_be_bytes([high, low]));
            let Some((record, next)) = rest.split_at_checked(end) else {
                break;
            };
            self.put(Section::Answer, 1, |writer| {
                match owner {
                    Some(owner) => writer.owner(owner),
                    None => writer.out.extend_from_slice(&record[..2]),
                }
                writer.out.extend_from_slice(&record[2..6]);
                writer.out.extend_from_slice(&ttl.to_be_bytes());
                let rtype = u16::from_be_bytes([record[2], record[3]]);
                let rdata = &record[12..];
                writer.names.put_rdata(writer.out, rtype, rdata, |_| {});
            });
            rest = next;
        }
    }

    /// Writes `count` records, unless they do not fit.
    fn put(&mut self, section: Section, count: u16, write: impl FnOnce(&mut Self)) {
        if self.full {
            return;
        }
        let at = self.out.len();
        write(self);
        let counted = self.counts[section as usize].checked_add(count);
        match counted {
            Some(counted) if self.out.len() <= self.limit => {
                self.counts[section as usize] = counted;
            }
            _ => {
                self.out.truncate(at);
                self.names.forget(at);
                self.full = true;
            }
        }
    }

    /// Writes an owner name: a pointer if the question's name ends with it.
    fn owner(&mut self, owner: &Name<[u8]>) {
        let owner = owner.as_slice();
        match suffix_at(self.qname, owner) {
            Some(at) => {
                let pointer = POINTER | (HEADER + at) as u16;
                self.out.extend_from_slice(&pointer.to_be_bytes());
            }
            None => self.names.put_owner(self.out, owner),
        }
    }

    /// Takes every record back.
    pub fn clear(&mut self) {
        self.out.truncate(self.records_at);
        self.names.forget(self.records_at);
        self.counts = [0; 3];
        self.full = false;
    }

    /// Writes OPT and header.
    pub fn finish(
        self,
        query: &Query<'_>,
        options: &Options<'_>,
        outline: Outline,
        truncated: bool,
    ) {
        let out = self.out;
        let mut additionals = self.counts[2];
        if let Some(edns) = &query.edns {
            additionals += 1;
            out.push(0);
            out.extend_from_slice(&TYPE_OPT.to_be_bytes());
            out.extend_from_slice(&(MAX_UDP_SIZE as u16).to_be_bytes());
            let extended = (outline.rcode >> 4) as u8;
            out.extend_from_slice(&[extended, 0, u8::from(edns.dnssec_ok) << 7, 0]);
            let error = outline.error.map_or(0, |_| EXTENDED_ERROR);
            let len = options.len() + error;
            let end = out.len() + 2 + len + query.spare;
            let padding = edns.padding.then(|| padding(end)).flatten();
            let rdlen = len + padding.map_or(0, |octets| 4 + octets);
            out.extend_from_slice(&(rdlen as u16).to_be_bytes());
            if let Some(nsid) = options.nsid {
                out.extend_from_slice(&OPTION_NSID.to_be_bytes());
                out.extend_from_slice(&(nsid.len() as u16).to_be_bytes());
                out.extend_from_slice(nsid);
            }
            if let Some(ecs) = options.ecs {
                out.extend_from_slice(&OPTION_ECS.to_be_bytes());
                out.extend_from_slice(&(ecs.octets.len() as u16).to_be_bytes());
                // FAMILY and SOURCE, our SCOPE, ADDRESS.
                out.extend_from_slice(&ecs.octets[..3]);
                out.push(outline.scope);
                out.extend_from_slice(&ecs.octets[4..]);
            }
            if let Some(cookie) = options.cookie {
                out.extend_from_slice(&OPTION_COOKIE.to_be_bytes());
                out.extend_from_slice(&(cookie.len() as u16).to_be_bytes());
                out.extend_from_slice(&cookie);
            }
            if let Some(error) = outline.error {
                for word in [OPTION_EXTENDED_ERROR, 2, error as u16] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
            if let Some(octets) = padding {
                out.extend_from_slice(&OPTION_PADDING.to_be_bytes());
                out.extend_from_slice(&(octets as u16).to_be_bytes());
                // Zeros (RFC 7830 section 3).
                out.resize(out.len() + octets, 0);
            }
        }
        let mut flags = QR | query.opcode << 3 | u8::from(query.rd);
        if outline.authoritative {
            flags |= AA;
        }
        if truncated {
            flags |= TC;
        }
        let words = [
            query.id,
            u16::from_be_bytes([flags, outline.rcode as u8 & 15]),
            u16::from(query.question.is_some()),
            self.counts[0],
            self.counts[1],
            additionals,
        ];
        for (to, word) in out.chunks_exact_mut(2).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// Answers with nothing but a response code.
pub fn code(query: &Query<'_>, outline: Outline, response: &mut Vec<u8>) -> Outcome {
    let options = Options::without_us(query);
    let writer = Writer::new(response, query, &options, MIN_UDP_SIZE as usize);
    writer.finish(query, &options, outline, false);
    Outcome::of(outline.rcode)
}

/// Octets of the option of an Extended DNS Error without a text.
const EXTENDED_ERROR: usize = 6;

/// Octets of the OPT that answers a query.
fn opt_len(query: &Query<'_>, options: &Options<'_>) -> usize {
    match query.edns {
        Some(_) => OPT_LEN as usize + options.len(),
        None => 0,
    }
}

/// Octets of padding for a response that has `len` octets without that option: up to the next block, or to
/// what a message may have. `None`: there is no room for the option.
fn padding(len: usize) -> Option<usize> {
    let len = len + 4;
    let padded = len.next_multiple_of(PADDING_BLOCK);
    padded.min(usize::from(u16::MAX)).checked_sub(len)
}

/// Where in a name another one begins that it ends with, in octets.
fn suffix_at(name: &[u8], suffix: &[u8]) -> Option<usize> {
    let at = name.len().checked_sub(suffix.len())?;
    // Length octets are below 64 and no letters, so that octets can be compared as they are.
    if !name[at..].eq_ignore_ascii_case(suffix) {
        return None;
    }
    let mut label = 0;
    while label < at {
        label += 1 + usize::from(name[label]);
    }
    (label == at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_fills_a_block_or_what_a_message_may_have() {
        for (len, expect) in [
            (12, Some(452)),
            (464, Some(0)),
            (465, Some(467)),
            (932, Some(0)),
            (65_516, Some(0)),
            (65_517, Some(14)),
            (65_531, Some(0)),
            (65_532, None),
            (65_535, None),
        ] {
            assert_eq!(padding(len), expect, "{len}");
        }
    }
}
