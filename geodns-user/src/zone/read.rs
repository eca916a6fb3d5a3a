//! From a zone file to a [`Zone`].
//!
//! What stands against the rules is an error with its file and line, and the zone is not used:
//! a record outside the zone, a SOA that is missing, elsewhere or second, no NS at the apex, data
//! beside a CNAME (RFC 2181 section 10.1) or below a DNAME (RFC 6672 section 2.4). Of TTLs that
//! differ within an RRset the least counts, with a warning (RFC 2181 section 5.2). A record that
//! stands there twice is one. `$INCLUDE` is relative to the file that it stands in.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::base::iana::Class;
use domain::base::name::ToName;
use domain::base::rdata::{ComposeRecordData, ParseRecordData};
use domain::base::{ParsedName, Rtype, Ttl};
use domain::dep::octseq::Parser;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, ScannedRecord, ScannedRecordData, Zonefile};
use tracing::warn;

use super::draft::{Added, Draft, Misplaced};
use super::{Name, Zone, lower, text};
use crate::config::Error;

/// Files that include one another, at the most.
const MAX_DEPTH: usize = 16;
/// TTLs are below 2^31 (RFC 2181 section 8).
const MAX_TTL: Ttl = Ttl::from_secs(i32::MAX as u32);

/// Reads a zone file's content; `file` is for errors and relative paths.
pub(super) fn parse(apex: &Name, file: &Path, bytes: &[u8]) -> Result<Zone, Error> {
    // What some editors put first: a byte order mark that nobody sees.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut zonefile = Zonefile::new();
    zonefile.set_origin(apex.clone());
    zonefile.set_default_class(Class::IN);
    let mut reader = Reader {
        apex,
        draft: Draft::new(apex.clone()),
        dnames: Vec::new(),
        stack: fs::canonicalize(file).into_iter().collect(),
    };
    reader.file(file, bytes, zonefile, 0)?;
    reader.finish(file)
}

/// A zone while it is read.
struct Reader<'a> {
    apex: &'a Name,
    draft: Draft,
    /// Each DNAME and where it stands.
    dnames: Vec<(Name, PathBuf, usize)>,
    /// Real paths of the files that are being read, each included by the one before it.
    stack: Vec<PathBuf>,
}

/// Where something stands.
#[derive(Clone, Copy)]
struct At<'a> {
    file: &'a Path,
    line: usize,
}

impl At<'_> {
    fn error(self, key: Option<String>, message: impl Into<String>) -> Error {
        Error {
            file: self.file.to_owned(),
            line: Some(self.line),
            key,
            message: message.into(),
        }
    }
}

impl Reader<'_> {
    /// Reads one file. `scanner` carries origin, TTL and last owner; it has seen `seen` lines.
    fn file(
        &mut self,
        file: &Path,
        bytes: &[u8],
        mut scanner: Zonefile,
        mut seen: usize,
    ) -> Result<(), Error> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            At { file, line }.error(
                None,
                "not UTF-8; save the file as UTF-8, and write other octets as \\DDD",
            )
        })?;
        for entry in text::entries(text) {
            let line = entry.line;
            let at = At { file, line };
            let mut tokens = entry.tokens();
            let name = tokens.next().unwrap_or("");
            if let Some(open) = entry.open {
                let message = format!("the {open} of this entry is not closed; close it");
                return Err(at.error(None, message));
            }
            if name.eq_ignore_ascii_case("$INCLUDE") {
                let arguments: Vec<&str> = tokens.collect();
                self.include(at, &arguments, scanner.clone(), seen)?;
                continue;
            }
            // Only these as they are: the scanner would see through escapes, and not survive some.
            let known = ["$ORIGIN", "$TTL"];
            if name.starts_with('$') && !known.iter().any(|known| name.eq_ignore_ascii_case(known))
            {
                let message =
                    format!("no directive {name:?}; there are $ORIGIN, $TTL and $INCLUDE");
                return Err(at.error(None, message));
            }
            if name.starts_with('"') {
                let message = "a name in quotes; write it without";
                return Err(at.error(None, message));
            }
            let origin = scanner.origin().expect("set from the beginning");
            let plain = entry.plain(&origin);
            let lines = plain.bytes().filter(|&byte| byte == b'\n').count();
            let read = read_entry(&mut scanner, &plain, |record| self.record(at, &record));
            read.map_err(|error| match error {
                Refused::Record(error) => error,
                Refused::Text { line, message } => {
                    // The scanner counts through all that it was given, and stands past the newline
                    // already where an entry ends too early.
                    let into = line.saturating_sub(seen + 1).min(lines - 1);
                    let line = entry.line + into;
                    At { file, line }.error(None, message)
                }
            })?;
            seen += lines;
        }
        Ok(())
    }

    /// Reads an included file; what it sets ends with it (RFC 1035 section 5.1).
    fn include(
        &mut self,
        at: At<'_>,
        arguments: &[&str],
        mut scanner: Zonefile,
        mut seen: usize,
    ) -> Result<(), Error> {
        let key = || Some("$INCLUDE".to_owned());
        let (path, origin) = match *arguments {
            [path] => (text::unquoted(path), None),
            [path, origin] => (text::unquoted(path), Some(origin)),
            _ => {
                let message = "a file and, if need be, an origin belong here; write those";
                return Err(at.error(key(), message));
            }
        };
        if let Some(origin) = origin {
            let set = read_entry(&mut scanner, &format!("$ORIGIN {origin}\n"), |_| Ok(()));
            if set.is_err() {
                let message = format!("{origin:?} is not a domain name; correct it");
                return Err(at.error(key(), message));
            }
            seen += 1;
        }
        if path.is_empty() || path.chars().any(char::is_control) {
            let message = format!("{path:?} is not a path; write one");
            return Err(at.error(key(), message));
        }
        let file = at.file.parent().unwrap_or(Path::new("")).join(&path);
        let read = fs::canonicalize(&file).and_then(|real| Ok((real, fs::read(&file)?)));
        let (real, bytes) = read.map_err(|error| {
            let message =
                format!("cannot read {path:?}: {error}; check the path and its permissions");
            at.error(key(), message)
        })?;
        if self.stack.contains(&real) {
            let message = format!("{path:?} includes itself; remove this line");
            return Err(at.error(key(), message));
        }
        if self.stack.len() == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} files deep; include fewer");
            return Err(at.error(key(), message));
        }
        self.stack.push(real);
        self.file(&file, &bytes, scanner, seen)?;
        self.stack.pop();
        Ok(())
    }

    /// Adds a record.
    fn record(&mut self, at: At<'_>, record: &ScannedRecord) -> Result<(), Error> {
        let rtype = record.rtype();
        // The scanner lets empty labels through.
        let Some(owner) = lower(record.owner().to_vec()) else {
            let message = "its owner has an empty label; remove a dot";
            return Err(at.error(Some(rtype.to_string()), message));
        };
        let error = |message: String| Err(at.error(Some(format!("{owner} {rtype}")), message));
        if !owner.ends_with(self.apex) {
            return error(format!(
                "outside the zone {}; move it to its own zone, or end its name as this one's",
                self.apex
            ));
        }
        if matches!(rtype.to_int(), 0 | 41 | 128..=255) {
            return error("a type for messages, not for zones; remove it".to_owned());
        }
        if record.ttl() > MAX_TTL {
            return error(format!(
                "the TTL {} is out of range; write 0 to {}",
                record.ttl().as_secs(),
                MAX_TTL.as_secs()
            ));
        }
        if rtype == Rtype::SOA && owner != *self.apex {
            return error(format!(
                "a SOA stands at the apex only; move it to {}",
                self.apex
            ));
        }
        if rtype == Rtype::CNAME && owner == *self.apex {
            return error(
                "a CNAME may not stand at the apex, beside SOA and NS; write addresses, or \
                 steer the name"
                    .to_owned(),
            );
        }
        let rdata = match rdata(rtype, record.data()) {
            Ok(rdata) => rdata,
            Err(message) => return error(message),
        };
        let ttl = record.ttl().as_secs();
        match self.draft.add(owner.for_slice(), rtype, ttl, &rdata) {
            Ok(Added::Well) => {}
            Ok(Added::OtherTtl(other)) => warn!(
                "{}:{}: {owner} {rtype}: TTL {ttl} beside {other} in one RRset; taking {}",
                at.file.display(),
                at.line,
                ttl.min(other)
            ),
            Err(Misplaced::BesideCname(other)) => {
                return error(format!(
                    "stands beside {other}; nothing may stand beside a CNAME (RFC 2181 section \
                     10.1), remove one"
                ));
            }
            Err(Misplaced::Second) => {
                return error(format!("a second {rtype}; a name has one, remove one"));
            }
            Err(Misplaced::TooMany) => {
                return error("too many records; split the zone".to_owned());
            }
        }
        if rtype == Rtype::DNAME {
            self.dnames.push((owner, at.file.to_owned(), at.line));
        }
        Ok(())
    }

    /// The zone, if it is whole.
    fn finish(self, file: &Path) -> Result<Zone, Error> {
        for (rtype, what) in [(Rtype::SOA, "SOA record"), (Rtype::NS, "NS record")] {
            if !self.draft.has(self.apex.for_slice(), rtype) {
                return Err(Error {
                    file: file.to_owned(),
                    line: None,
                    key: Some(format!("{} {rtype}", self.apex)),
                    message: format!("the zone has no {what} at its apex; add one"),
                });
            }
        }
        if !self.dnames.is_empty() {
            let dnames: Vec<Name> = self.dnames.iter().map(|(name, ..)| name.clone()).collect();
            // The least name, so that the error is the same each time.
            if let Some((name, at)) = self.draft.below(&dnames) {
                let (_, file, line) = &self.dnames[at];
                let message = format!(
                    "{name} stands below this DNAME; nothing may (RFC 6672 section 2.4), remove one"
                );
                return Err(At { file, line: *line }.error(None, message));
            }
        }
        self.draft.finish().map_err(|error| Error {
            file: file.to_owned(),
            line: None,
            key: None,
            message: error.to_string(),
        })
    }
}

/// Why an entry was not read.
enum Refused {
    /// The scanner refuses it, in one of the lines that it was given.
    Text { line: usize, message: String },
    /// Its record may not stand there.
    Record(Error),
}

/// Gives one entry to the scanner, and its record, if it is one, to `use_record`.
fn read_entry(
    scanner: &mut Zonefile,
    text: &str,
    mut use_record: impl FnMut(ScannedRecord) -> Result<(), Error>,
) -> Result<(), Refused> {
    scanner.extend_from_slice(text.as_bytes());
    loop {
        match scanner.next_entry() {
            Ok(None) => return Ok(()),
            Ok(Some(Entry::Record(record))) => use_record(record).map_err(Refused::Record)?,
            // Includes are read before it comes to this.
            Ok(Some(Entry::Include { .. })) => {
                return Err(Refused::Text {
                    line: 0,
                    message: "an $INCLUDE in disguise; write it plainly".to_owned(),
                });
            }
            Err(error) => {
                // LINE:COLUMN: MESSAGE
                let error = error.to_string();
                let mut parts = error.splitn(3, ':');
                let line = parts.next().and_then(|line| line.parse().ok());
                return Err(Refused::Text {
                    line: line.unwrap_or(0),
                    message: explain(parts.nth(1).unwrap_or("").trim()),
                });
            }
        }
    }
}

/// RDATA in canonical form, or what is wrong with it.
///
/// Read back before it is believed: the scanner lets empty labels through, and in the form for
/// unknown types (RFC 3597 section 5) anything at all.
fn rdata(rtype: Rtype, data: &ScannedRecordData) -> Result<Bytes, String> {
    let mut octets = Vec::new();
    if data.compose_rdata(&mut octets).is_err() || octets.len() > usize::from(u16::MAX) {
        return Err("its data is longer than 65535 octets; shorten it".to_owned());
    }
    let mut parser = Parser::from_ref(&octets[..]);
    let read: Option<ZoneRecordData<_, ParsedName<_>>> =
        ZoneRecordData::parse_rdata(rtype, &mut parser)
            .ok()
            .flatten();
    let mut again = Vec::new();
    let mut canonical = Vec::new();
    match read {
        // A compressed name, too, would not come back as it was.
        Some(read)
            if parser.remaining() == 0
                && read.compose_rdata(&mut again).is_ok()
                && again == octets
                && read.compose_canonical_rdata(&mut canonical).is_ok() =>
        {
            Ok(canonical.into())
        }
        _ => Err(format!(
            "its data is not that of a {rtype} record; correct it"
        )),
    }
}

/// What the scanner says, and what to do about it.
fn explain(said: &str) -> String {
    let advice = match said {
        "missing last owner" => "the first record needs an owner name, at the line's beginning",
        "bad name" => "labels have at most 63 octets, names 255",
        "bad charstr" => "a string has at most 255 octets; split it into several",
        "unbalanced parens" => "remove the ')', or open it before",
        "unexpected end of entry" | "short buffer" => "data is missing",
        "trailing tokens" => "there is more than the type takes; quote strings with spaces",
        "unknown record type with concrete data" => "write its data as \\# LENGTH HEX (RFC 3597)",
        "expected rtype" => "write OWNER [TTL] [CLASS] TYPE DATA",
        _ if said.starts_with("bad symbol") => "write octets that are not printable ASCII as \\DDD",
        _ if said.starts_with("different class") => "zones are of class IN",
        _ => "write OWNER [TTL] [CLASS] TYPE DATA",
    };
    format!("{said}; {advice}")
}
