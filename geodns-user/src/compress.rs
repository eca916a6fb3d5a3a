//! Compression of names in a message (RFC 1035 section 4.1.4).
//!
//! Owners are compressed, and names in the RDATA of the types of RFC 1035 (RFC 3597 section 4), against the
//! question and everything that was written before. One rule for both paths: what the kernel answers, `plan` has
//! rendered with this, and the slow path writes with it.
//!
//! Case: a name in RDATA points to octets that are its own, so that it is shown as the zone has it (RFC 4343 section
//! 4.1). A question with upper-case letters shares nothing with names in RDATA, since answers are rendered before
//! anybody asks. Owners are compared without regard to case; in a transfer, which is a copy of the zone, they keep
//! theirs as well (RFC 5936 section 3.4).

use geodns_common::wire::{CLASS_IN, HEADER_LEN, POINTER};
use hashbrown::HashTable;

use crate::zone::name_len;

/// Octets of the header, behind which the question's name stands.
const HEADER: usize = HEADER_LEN as usize;
/// A pointer to the question's name.
pub const POINTER_TO_QUESTION: u16 = POINTER | HEADER as u16;
/// Where a pointer can no more point to.
const OUT_OF_REACH: usize = 0x4000;
/// Names that are pointed to, at the most; each label that a name is written with begins one.
const MOST: usize = 128;
/// Labels of a name, at the most, the root among them.
const LABELS: usize = 128;

/// Which names are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Compares without the case of letters.
    Ignored,
    /// Those of the same octets.
    Kept,
}

/// Where names stand in a message, each known by a part of its hash.
pub trait Places {
    /// Learns of one, if there is room.
    fn learn(&mut self, hash: u16, at: u16);
    /// Where a name stands of which this is a part of the hash. `is_it` looks there.
    fn find(&self, hash: u16, is_it: impl Fn(u16) -> bool) -> Option<u16>;
    /// Forgets all that do not stand before `len`.
    fn forget(&mut self, len: usize);
}

/// As many as an answer needs, without memory of their own. They are in the order in which they stand.
pub struct Few {
    hashes: [u16; MOST],
    places: [u16; MOST],
    known: usize,
}

impl Places for Few {
    fn learn(&mut self, hash: u16, at: u16) {
        if self.known < MOST {
            self.hashes[self.known] = hash;
            self.places[self.known] = at;
            self.known += 1;
        }
    }

    fn find(&self, hash: u16, is_it: impl Fn(u16) -> bool) -> Option<u16> {
        let known = self.hashes[..self.known].iter().zip(&self.places);
        let mut alike = known.filter(|&(&other, _)| other == hash);
        alike.find(|&(_, &at)| is_it(at)).map(|(_, &at)| at)
    }

    fn forget(&mut self, len: usize) {
        let places = &self.places[..self.known];
        self.known = places.partition_point(|&at| usize::from(at) < len);
    }
}

/// Any number, for messages as long as pointers reach: hashes and places.
#[derive(Default)]
pub struct Many(HashTable<(u16, u16)>);

impl Many {
    /// Spreads what is known of a hash over all bits, as the table wants it.
    fn spread(hash: u16) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Places for Many {
    fn learn(&mut self, hash: u16, at: u16) {
        let spread = |&(hash, _): &(u16, u16)| Self::spread(hash);
        self.0.insert_unique(Self::spread(hash), (hash, at), spread);
    }

    fn find(&self, hash: u16, is_it: impl Fn(u16) -> bool) -> Option<u16> {
        let found = self.0.find(Self::spread(hash), |&(other, at)| {
            other == hash && is_it(at)
        });
        found.map(|&(_, at)| at)
    }

    fn forget(&mut self, len: usize) {
        self.0.retain(|&mut (_, at)| usize::from(at) < len);
    }
}

/// The names of a message that later ones may point to.
pub struct Names<P = Few> {
    /// The places of all names that are written, from the first to the last.
    places: P,
    /// Whether what may be pointed to of the question is among them.
    knows_question: bool,
    /// Octets of the question's name, from its end, that names may point to.
    shared: usize,
}

impl Names {
    /// Those of a message of which no name is written yet but the question's. Names may point to N octets
    /// of that, from its end ([`share`]).
    pub const fn new(shared: usize) -> Self {
        Self {
            places: Few {
                hashes: [0; MOST],
                places: [0; MOST],
                known: 0,
            },
            knows_question: false,
            shared,
        }
    }
}

impl Names<Many> {
    /// Those of a message of which nothing is written yet, the question's name neither, and which may have any
    /// number.
    pub fn many() -> Self {
        Self {
            places: Many::default(),
            knows_question: true,
            shared: 0,
        }
    }

    /// Writes a name, which points to octets of its own.
    pub fn put_name(&mut self, out: &mut Vec<u8>, name: &[u8]) {
        self.put(out, name, Case::Kept);
    }
}

impl<P: Places> Names<P> {
    /// Changes how much of the question names may point to, until the first one is written.
    pub const fn share(&mut self, octets: usize) {
        self.shared = octets;
    }

    /// Writes an owner.
    pub fn put_owner(&mut self, out: &mut Vec<u8>, owner: &[u8]) {
        self.put(out, owner, Case::Ignored);
    }

    /// Writes RDLENGTH and RDATA. `pointer` is told where each pointer of it stands.
    pub fn put_rdata(
        &mut self,
        out: &mut Vec<u8>,
        rtype: u16,
        rdata: &[u8],
        mut pointer: impl FnMut(usize),
    ) {
        let length_at = out.len();
        // RDATA is bounded so by every source of it.
        out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        let Some((head, names, rest)) = parts(rtype, rdata) else {
            out.extend_from_slice(rdata);
            return;
        };
        out.extend_from_slice(head);
        for name in names {
            if let Some(at) = self.put(out, name, Case::Kept) {
                pointer(at);
            }
        }
        out.extend_from_slice(rest);
        let len = (out.len() - length_at - 2) as u16;
        out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// Forgets names that stand where the message does not reach any more.
    pub fn forget(&mut self, len: usize) {
        self.places.forget(len);
    }

    /// Writes a name. Gives where its pointer stands, if it has one.
    fn put(&mut self, out: &mut Vec<u8>, name: &[u8], case: Case) -> Option<usize> {
        if !self.knows_question {
            self.learn_question(out);
        }
        let labels = Labels::of(name);
        let found = (0..labels.count).find_map(|label| {
            let suffix = name.get(labels.starts[label].into()..)?;
            let at = self.find(out, labels.hashes[label], suffix, case)?;
            Some((label, at))
        });
        let (fresh, pointer) = match found {
            Some((label, at)) => (label, Some(at)),
            None => (labels.count, None),
        };
        let start = out.len();
        for label in 0..fresh {
            self.learn(
                labels.hashes[label],
                start + usize::from(labels.starts[label]),
            );
        }
        let Some(to) = pointer else {
            out.extend_from_slice(name);
            return None;
        };
        let written = labels.starts[fresh].into();
        out.extend_from_slice(&name[..written]);
        out.extend_from_slice(&(POINTER | to).to_be_bytes());
        Some(start + written)
    }

    /// Learns what of the question's name may be pointed to.
    fn learn_question(&mut self, out: &[u8]) {
        let name = out.get(HEADER..).unwrap_or(&[]);
        let labels = Labels::of(name);
        self.knows_question = true;
        let first = labels.len.saturating_sub(self.shared);
        for label in 0..labels.count {
            let start = usize::from(labels.starts[label]);
            if start >= first {
                self.learn(labels.hashes[label], HEADER + start);
            }
        }
    }

    fn learn(&mut self, hash: u16, at: usize) {
        if at < OUT_OF_REACH {
            self.places.learn(hash, at as u16);
        }
    }

    /// Where a name stands already.
    fn find(&self, out: &[u8], hash: u16, name: &[u8], case: Case) -> Option<u16> {
        let is_it = |at: u16| Self::is_at(out, at.into(), name, case);
        self.places.find(hash, is_it)
    }

    /// Whether a name stands at a place of the message.
    fn is_at(out: &[u8], mut at: usize, mut name: &[u8], case: Case) -> bool {
        loop {
            let Some(&there) = out.get(at) else {
                return false;
            };
            if u16::from(there) << 8 >= POINTER {
                // They lead backwards alone.
                let pointer = u16::from_be_bytes([there, out.get(at + 1).copied().unwrap_or(0)]);
                match usize::from(pointer & !POINTER) {
                    before if before < at => at = before,
                    _ => return false,
                }
                continue;
            }
            let end = 1 + usize::from(there);
            let (Some(theirs), Some((ours, rest))) =
                (out.get(at..at + end), name.split_at_checked(end))
            else {
                return false;
            };
            // Length octets are below 64 and no letters.
            let same = match case {
                Case::Ignored => theirs.eq_ignore_ascii_case(ours),
                Case::Kept => theirs == ours,
            };
            if !same || there == 0 {
                return same;
            }
            (at, name) = (at + end, rest);
        }
    }
}

/// How many octets of a question's name, from its end, names may point to, of N that are known when a record is
/// rendered.
pub fn share(question: &[u8], octets: usize) -> usize {
    match question.iter().any(u8::is_ascii_uppercase) {
        false => octets,
        true => 0,
    }
}

/// Records as they will stand behind a question, of whose name they have to know no more than an end.
pub struct Rendering {
    /// A message, of which header, type and class do not matter.
    message: Vec<u8>,
    names: Names,
    /// Octets of the question's name.
    name_len: u16,
    /// Where the records start.
    start: usize,
    /// Where the pointers in RDATA stand.
    pointers: Vec<usize>,
}

impl Rendering {
    /// No records yet, behind a question for a name that is in lower case.
    pub fn behind(name: &[u8]) -> Self {
        Self::new(name, name.len())
    }

    /// The same, where the question has upper-case letters.
    pub fn apart_from(name: &[u8]) -> Self {
        Self::new(name, 0)
    }

    fn new(name: &[u8], shared: usize) -> Self {
        let message = [&[0; HEADER], name, &[0; 4]].concat();
        Self {
            start: message.len(),
            message,
            names: Names::new(shared),
            name_len: name.len() as u16,
            pointers: Vec::new(),
        }
    }

    /// Appends a record, of class IN and owned by a pointer to the question.
    pub fn put(&mut self, rtype: u16, ttl: u32, rdata: &[u8]) {
        for word in [POINTER_TO_QUESTION, rtype, CLASS_IN] {
            self.message.extend_from_slice(&word.to_be_bytes());
        }
        self.message.extend_from_slice(&ttl.to_be_bytes());
        let pointers = &mut self.pointers;
        let note = |at| pointers.push(at);
        self.names.put_rdata(&mut self.message, rtype, rdata, note);
    }

    /// Takes the octets of the question's name from all pointers in RDATA, so that they can stand behind another
    /// one that ends in it. Nothing comes after that.
    pub fn detach(&mut self) {
        for &at in &self.pointers {
            let pointer = pointer_at(&self.message, at).wrapping_sub(self.name_len);
            self.message[at..at + 2].copy_from_slice(&pointer.to_be_bytes());
        }
    }

    /// The records.
    pub fn octets(&self) -> &[u8] {
        &self.message[self.start..]
    }

    /// Where the pointers in RDATA stand, in octets from the records' first, and they.
    pub fn pointers(&self) -> impl Iterator<Item = (u16, u16)> {
        let of = |&at: &usize| ((at - self.start) as u16, pointer_at(&self.message, at));
        self.pointers.iter().map(of)
    }
}

fn pointer_at(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

/// The name that a wildcard stands for all names below of, if this is one (RFC 4592 section 2.1.1).
pub fn encloser(owner: &[u8]) -> Option<&[u8]> {
    owner.strip_prefix(b"\x01*")
}

/// Whether names in RDATA of a type are compressed.
pub const fn has_names(rtype: u16) -> bool {
    layout(rtype).is_some()
}

/// Octets before the names in RDATA of a type, and how many these are, if they are compressed.
const fn layout(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR.
        2..=5 | 7..=9 | 12 => Some((0, 1)),
        // SOA, MINFO.
        6 | 14 => Some((0, 2)),
        // MX.
        15 => Some((2, 1)),
        _ => None,
    }
}

/// RDATA of a type whose names are compressed: what stands before them, they, and what stands behind. `None`: it
/// is written as it is.
pub fn parts(rtype: u16, rdata: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>, &[u8])> {
    let (head, names) = layout(rtype)?;
    let (head, rest) = rdata.split_at_checked(head)?;
    let mut ends = [0; 2];
    let mut end = 0;
    for of in &mut ends[..names] {
        end += name_len(&rest[end..])?;
        *of = end;
    }
    let (first, second) = rest[..end].split_at(ends[0]);
    let names = [first, second].into_iter().filter(|name| !name.is_empty());
    Some((head, names, &rest[end..]))
}

/// Octets of the longest name that two names both end in, the root label included. They are compared octet by octet.
pub fn common_end(one: &[u8], other: &[u8]) -> usize {
    let [ones, others] = [one, other].map(Labels::of);
    let starts = |labels: &Labels| labels.starts[..labels.count].to_vec();
    let both = starts(&ones)
        .into_iter()
        .rev()
        .zip(starts(&others).into_iter().rev());
    let ends = both.map(|(a, b)| (one.get(a.into()..), other.get(b.into()..)));
    let common = ends.take_while(|(one, other)| one == other);
    let longest = common.filter_map(|(end, _)| end).last();
    longest.map_or(1, <[u8]>::len)
}

/// The labels of a name but for the root.
struct Labels {
    /// Where each begins.
    starts: [u8; LABELS],
    /// A part of the hash of the name from each on, in lower case.
    hashes: [u16; LABELS],
    count: usize,
    /// Octets of the name, the root's included; 0: it is none.
    len: usize,
}

impl Labels {
    /// Those of the uncompressed name that something begins with.
    fn of(name: &[u8]) -> Self {
        let mut labels = Self {
            starts: [0; LABELS],
            hashes: [0; LABELS],
            count: 0,
            len: 0,
        };
        let mut at = 0;
        loop {
            match name.get(at) {
                Some(0) => break,
                // 255 octets, with the root label.
                Some(&len @ 1..=63) if at + usize::from(len) < 254 => {
                    labels.starts[labels.count] = at as u8;
                    labels.count += 1;
                    at += 1 + usize::from(len);
                }
                _ => {
                    labels.count = 0;
                    return labels;
                }
            }
        }
        labels.len = at + 1;
        // FNV-1a, from the last label to the first.
        let mut hash: u32 = 0x811c_9dc5;
        let mut end = at;
        for label in (0..labels.count).rev() {
            let start = usize::from(labels.starts[label]);
            for octet in &name[start..end] {
                hash = (hash ^ u32::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
            }
            labels.hashes[label] = (hash >> 16) as u16 ^ hash as u16;
            end = start;
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MX: u16 = 15;
    const SRV: u16 = 33;

    /// A message with a question for a name, and RDATA of a type behind it.
    fn message(question: &[u8], shared: usize, rdata: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = [&[0; HEADER], question, &[0; 4]].concat();
        let mut names = Names::new(shared);
        for (rtype, rdata) in rdata {
            names.put_rdata(&mut out, *rtype, rdata, |_| {});
        }
        out.split_off(HEADER + question.len() + 4)
    }

    #[test]
    fn a_name_points_to_octets_of_its_own() {
        let question = b"\x01a\x07example\x03org\0";
        assert_eq!(share(question, 13), 13);
        assert_eq!(share(b"\x01A\x07example\x03org\0", 13), 0);
        let rdata: [(u16, &[u8]); 8] = [
            (MX, b"\0\x01\x01m\x07example\x03org\0"),
            (MX, b"\0\x02\x01m\x07Example\x03org\0"),
            (MX, b"\0\x03\x01n\x07Example\x03org\0"),
            (MX, b"\0\x04\x01m\x07example\x03org\0"),
            (MX, b"\0\x05\x01a\x07example\x03org\0"),
            (MX, b"\0\x06\x01A\x07example\x03org\0"),
            (MX, b"\0\x07\0"),
            (SRV, b"\0\0\0\0\0\0\x01m\x07example\x03org\0"),
        ];
        let octets = message(question, question.len(), &rdata);
        let expect: [&[u8]; 8] = [
            b"\0\x06\0\x01\x01m\xc0\x0e",
            b"\0\x0e\0\x02\x01m\x07Example\xc0\x16",
            b"\0\x06\0\x03\x01n\xc0\x2d",
            b"\0\x04\0\x04\xc0\x23",
            b"\0\x04\0\x05\xc0\x0c",
            b"\0\x06\0\x06\x01A\xc0\x0e",
            b"\0\x03\0\x07\0",
            b"\0\x15\0\0\0\0\0\0\x01m\x07example\x03org\0",
        ];
        assert_eq!(octets, expect.concat());
    }

    #[test]
    fn of_the_question_as_much_is_pointed_to_as_is_shared() {
        let question = b"\x01a\x01b\x01c\0";
        for (shared, expect) in [
            (7, &b"\0\x04\0\0\xc0\x0c"[..]),
            (6, b"\0\x06\0\0\x01a\xc0\x0e"),
            (5, b"\0\x06\0\0\x01a\xc0\x0e"),
            (1, b"\0\x09\0\0\x01a\x01b\x01c\0"),
        ] {
            let octets = message(question, shared, &[(MX, b"\0\0\x01a\x01b\x01c\0")]);
            assert_eq!(octets, expect, "{shared}");
        }
    }

    #[test]
    fn what_is_taken_back_is_pointed_to_no_more() {
        let mut out = vec![0; HEADER + 5];
        let mut names = Names::new(0);
        let name: &[u8] = b"\x01a\x01b\0";
        names.put_owner(&mut out, name);
        let len = out.len();
        names.put_owner(&mut out, b"\x01c\x01d\0");
        out.truncate(len);
        names.forget(len);
        names.put_owner(&mut out, b"\x01c\x01d\0");
        names.put_owner(&mut out, b"\x01A\x01B\0");
        assert_eq!(out[len..], *b"\x01c\x01d\0\xc0\x11");
    }

    #[test]
    fn names_that_both_end_in_it_are_cut_at_labels() {
        let name = |text: &str| {
            let labels = text.split('.').filter(|label| !label.is_empty());
            let octets = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
            octets.chain([0]).collect::<Vec<u8>>()
        };
        for (one, other, common) in [
            ("www.example.org", "mirror.example.org", "example.org"),
            ("www.example.org", "example.org", "example.org"),
            ("www.example.org", "www.example.org", "www.example.org"),
            ("a.xexample.org", "a.example.org", "org"),
            ("a.Example.org", "a.example.org", "org"),
            ("example.org", "example.net", ""),
            ("", "example.net", ""),
        ] {
            let (one, other) = (name(one), name(other));
            for (one, other) in [(&one, &other), (&other, &one)] {
                assert_eq!(common_end(one, other), name(common).len(), "{common}");
            }
        }
    }

    /// Reads a name as a decompressor does, and gives how many octets stand for it.
    fn read(message: &[u8], mut at: usize) -> (Vec<u8>, usize) {
        let (mut name, start, mut end) = (Vec::new(), at, None);
        loop {
            let len = usize::from(message[at]);
            if len >= 0xc0 {
                end.get_or_insert(at + 2);
                at = usize::from(pointer_at(message, at) & !POINTER);
                continue;
            }
            name.extend_from_slice(&message[at..=at + len]);
            at += 1 + len;
            if len == 0 {
                return (name, end.unwrap_or(at) - start);
            }
        }
    }

    #[test]
    fn many_names_are_found_again_with_their_case() {
        let mut out = vec![0; HEADER];
        let mut names = Names::many();
        names.put_name(&mut out, b"\x07example\x03org\0");
        let mut written = Vec::new();
        let name = |number: usize| {
            let host = ["host", "Host"][number % 2];
            let host = format!("{host}{:03}", number / 2 % 700);
            let under = format!("u{}", number % 5);
            let labels = [host.as_str(), &under, "example", "org"];
            let octets = labels.map(|label| [&[label.len() as u8], label.as_bytes()].concat());
            [&octets.concat()[..], b"\0"].concat()
        };
        for number in 0..12_000 {
            let name = name(number);
            let at = out.len();
            names.put_name(&mut out, &name);
            // As a record that does not fit: written, taken back, and written again.
            if number % 97 == 0 {
                out.truncate(at);
                names.forget(at);
                names.put_name(&mut out, &name);
            }
            written.push((at, name));
        }
        for (at, name) in &written {
            assert_eq!(&read(&out, *at).0, name);
        }
        // All that could be pointed to has been.
        let again = written.iter().rfind(|(at, _)| *at < OUT_OF_REACH);
        let (at, name) = again.unwrap();
        let end = out.len();
        names.put_name(&mut out, name);
        assert_eq!(out.len(), end + 2);
        assert_eq!(read(&out, end), (name.clone(), 2));
        assert!(read(&out, *at).1 <= 8 + 2);
    }

    #[test]
    fn data_that_is_not_of_its_type_is_written_as_it_is() {
        for rdata in [
            &b""[..],
            b"\0",
            b"\0\x01\x05a",
            b"\xff\xff\xc0\x0c",
            b"\0\0\x40",
        ] {
            let len = (rdata.len() as u16).to_be_bytes();
            let octets = message(b"\0", 1, &[(MX, rdata), (6, rdata)]);
            assert_eq!(octets, [&len, rdata, &len, rdata].concat());
        }
    }

    #[test]
    fn no_names_are_too_many() {
        let mut out = vec![0; HEADER + 5];
        let mut names = Names::new(0);
        let host = |number: u16| format!("\x04{number:04x}\x03net\0").into_bytes();
        for number in 0..20_000 {
            names.put_owner(&mut out, &host(number));
        }
        // Those that are not known are written out to the end that is.
        assert_eq!(out.len(), HEADER + 5 + 10 + 19_999 * 7);
        let end = out.len();
        names.put_owner(&mut out, &host(3));
        assert_eq!(out.len(), end + 2);
    }
}
