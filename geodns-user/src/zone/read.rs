//! From a zone file to a [`Zone`] (RFC 1035 section 5), and all that is wrong with it.
//!
//! A breach of the rules is an error with its file and line, and the zone is not used: a record
//! that cannot be read, or is outside the zone; a SOA that is missing, elsewhere or second; no NS at the
//! apex; data beside a CNAME (RFC 2181 section 10.1). Reading goes on after an error, so that all of them
//! are found. Where TTLs differ within an RRset, the least counts (RFC 2181 section 5.2). A record that
//! stands there twice is one. `$INCLUDE` is relative to the file that it stands in; after it, origin and last
//! owner are as before (RFC 1035 section 5.1), and the TTLs are those of the included file, as in BIND and NSD.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use domain::base::{Name as DomainName, Rtype};
use geodns_common::wire;
use hashbrown::HashSet;

use super::draft::Draft;
use super::generate::Generate;
use super::integrity::Integrity;
use super::problems::{At, Findings, Problems};
use super::text::{Entries, Token, Wrong, presented};
use super::{Names, Zone, rdata};
use crate::base::name::Name;
use crate::files;

/// Files that include one another, at the most.
const MAX_DEPTH: usize = 16;
/// Files that a zone is of, at the most.
const MAX_FILES: u16 = 10_000;
/// Records of all `$GENERATE` of a zone, at the most.
const MAX_GENERATED: u64 = 1 << 20;
/// TTLs are below 2^31 (RFC 2181 section 8).
const MAX_TTL: u32 = i32::MAX as u32;
/// Names of which it is remembered that a record could not be read.
const MAX_DOUBTFUL: usize = 10_000;

/// Reads a zone file; the zone, unless there are errors.
pub(super) fn file(
    apex: &Name,
    file: &Path,
    steered: &Names,
) -> io::Result<(Option<Zone>, Findings)> {
    let bytes = files::read(file)?;
    let mut reader = Reader::new(apex, file);
    reader.text(0, &bytes, &mut Scope::new(apex));
    // Before as much again is taken for the zone.
    drop(bytes);
    Ok(reader.finish(steered))
}

/// Reads the content of a zone file; `file` is for errors and relative paths.
pub(super) fn content(
    apex: &Name,
    file: &Path,
    bytes: &[u8],
    steered: &Names,
) -> (Option<Zone>, Findings) {
    let mut reader = Reader::new(apex, file);
    reader.text(0, bytes, &mut Scope::new(apex));
    reader.finish(steered)
}

/// A zone while it is read.
struct Reader<'a> {
    apex: &'a Name,
    draft: Draft,
    problems: Problems,
    /// Real paths of the files that are being read, each included by the one before it.
    stack: Vec<PathBuf>,
    /// Records of `$GENERATE` so far.
    generated: u64,
    /// Owners of records that could not be read.
    doubtful: HashSet<Vec<u8>>,
    /// It does not fit any more: once is enough.
    is_full: bool,
    /// RDATA of the record that is being read.
    rdata: Vec<u8>,
}

/// The context that directives and earlier records give to the next one.
#[derive(Clone)]
struct Scope {
    origin: Vec<u8>,
    /// `$TTL`.
    ttl: Option<u32>,
    /// The last one that was written (RFC 1035 section 5.1).
    last_ttl: Option<u32>,
    owner: Owner,
}

/// The last owner, in lower case.
#[derive(Clone)]
enum Owner {
    None,
    /// It was there, and wrong.
    Wrong,
    Name(Vec<u8>),
}

impl Scope {
    fn new(apex: &Name) -> Self {
        Self {
            origin: apex.as_slice().to_vec(),
            ttl: None,
            last_ttl: None,
            owner: Owner::None,
        }
    }
}

/// Why an entry was not used.
struct Refused {
    line: u32,
    key: Option<String>,
    message: String,
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self {
            line: wrong.line,
            key: None,
            message: wrong.message,
        }
    }
}

/// The rest of a directive's arguments.
fn arguments<'a, const N: usize>(
    tokens: &'a [Token<'a>],
    line: u32,
    what: &str,
) -> Result<&'a [Token<'a>; N], Wrong> {
    tokens
        .get(1..)
        .and_then(|rest| rest.try_into().ok())
        .ok_or_else(|| Wrong {
            line,
            message: format!(
                "{}: {what} here; write that",
                tokens[0].word().to_ascii_uppercase()
            ),
        })
}

impl<'r> Reader<'r> {
    fn new(apex: &'r Name, file: &Path) -> Self {
        Self {
            apex,
            draft: Draft::new(apex.clone()),
            problems: Problems::new(file),
            stack: fs::canonicalize(file).into_iter().collect(),
            generated: 0,
            doubtful: HashSet::new(),
            is_full: false,
            rdata: Vec::new(),
        }
    }

    /// Reads one file's content.
    fn text(&mut self, file: u16, bytes: &[u8], scope: &mut Scope) {
        // What some editors put first: a byte order mark that nobody sees.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut entries = Entries::new(bytes, 1);
        let mut tokens = Vec::new();
        while let Some(entry) = entries.next(&mut tokens) {
            let line = entry.line;
            let done = match entry.wrong {
                Some(wrong) => {
                    self.doubt(&tokens, entry.indented, scope);
                    Err(wrong.into())
                }
                None => self.entry(file, line, entry.indented, &tokens, scope),
            };
            if let Err(Refused { line, key, message }) = done {
                self.problems.error(At { file, line }, key, message);
            }
        }
    }

    /// Reads one entry.
    fn entry(
        &mut self,
        file: u16,
        line: u32,
        indented: bool,
        tokens: &[Token<'_>],
        scope: &mut Scope,
    ) -> Result<(), Refused> {
        let first = &tokens[0];
        if indented || first.quoted || first.text.first() != Some(&b'$') {
            return self.record(At { file, line }, indented, tokens, scope);
        }
        if first.is("$ORIGIN") {
            let [origin] = arguments(tokens, line, "a name belongs")?;
            let mut name = Vec::new();
            origin.name(&scope.origin, &mut name)?;
            scope.origin = name;
        } else if first.is("$TTL") {
            let [ttl] = arguments(tokens, line, "a time belongs")?;
            scope.ttl = Some(self.ttl(ttl)?);
        } else if first.is("$INCLUDE") {
            self.include(file, line, tokens, scope)?;
        } else if first.is("$GENERATE") {
            self.generate(file, line, tokens, scope)?;
        } else {
            let message = format!(
                "no directive {}; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE",
                first.shown()
            );
            return Err(first.wrong(message).into());
        }
        Ok(())
    }

    /// Reads an included file. Its `$ORIGIN` and its last owner end with it (RFC 1035 section 5.1); RFC 2308
    /// section 4 says nothing of its `$TTL`, which holds on after it in BIND and in NSD, and so here.
    fn include(
        &mut self,
        file: u16,
        line: u32,
        tokens: &[Token<'_>],
        scope: &mut Scope,
    ) -> Result<(), Refused> {
        let refuse = |message: String| {
            Err(Refused {
                line,
                key: Some("$INCLUDE".to_owned()),
                message,
            })
        };
        let mut inner = scope.clone();
        let path = match tokens {
            [_, path] => path,
            [_, path, origin] => {
                inner.origin.clear();
                origin.name(&scope.origin, &mut inner.origin)?;
                path
            }
            _ => {
                return refuse(
                    "a file and, if need be, an origin belong here; write those".to_owned(),
                );
            }
        };
        let mut name = Vec::new();
        path.octets(&mut name)?;
        let Some(name) = String::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
        else {
            return refuse(format!("{} is not a path; write one", path.shown()));
        };
        let included = self
            .problems
            .path(file)
            .parent()
            .unwrap_or(Path::new(""))
            .join(&name);
        let read = fs::canonicalize(&included).and_then(|real| Ok((real, files::read(&included)?)));
        let (real, bytes) = match read {
            Ok(read) => read,
            Err(error) => {
                return refuse(format!(
                    "cannot read {name:?}: {error}; check the path and its permissions"
                ));
            }
        };
        if self.stack.contains(&real) {
            return refuse(format!("{name:?} includes itself; remove this line"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return refuse(format!("more than {MAX_DEPTH} files deep; include fewer"));
        }
        let number = self
            .problems
            .file(&included)
            .filter(|&number| number < MAX_FILES);
        let Some(number) = number else {
            return refuse(format!("more than {MAX_FILES} files; include fewer"));
        };
        self.stack.push(real);
        self.text(number, &bytes, &mut inner);
        self.stack.pop();
        (scope.ttl, scope.last_ttl) = (inner.ttl, inner.last_ttl);
        Ok(())
    }

    /// Makes the records of a `$GENERATE`, up to the first that is wrong.
    fn generate(
        &mut self,
        file: u16,
        line: u32,
        tokens: &[Token<'_>],
        scope: &mut Scope,
    ) -> Result<(), Refused> {
        let refuse = |message: String| Refused {
            line,
            key: Some("$GENERATE".to_owned()),
            message,
        };
        let generate = Generate::parse(&tokens[1..], line)?;
        self.generated = self.generated.saturating_add(generate.count());
        if self.generated > MAX_GENERATED {
            return Err(refuse(format!(
                "more than {MAX_GENERATED} records by $GENERATE in one zone; make fewer"
            )));
        }
        let mut text = Vec::new();
        for number in generate.numbers() {
            text.clear();
            if generate.entry(number, &mut text).is_none() {
                return Err(refuse(format!(
                    "an offset makes {number} negative; correct it"
                )));
            }
            let mut entries = Entries::new(&text, line);
            let mut tokens = Vec::new();
            let done = match entries.next(&mut tokens) {
                Some(entry) => match entry.wrong {
                    Some(wrong) => Err(wrong.into()),
                    None => self.record(At { file, line }, false, &tokens, scope),
                },
                None => Ok(()),
            };
            if let Err(Refused { key, message, .. }) = done {
                let key =
                    key.map_or_else(|| "$GENERATE".to_owned(), |key| format!("$GENERATE: {key}"));
                return Err(Refused {
                    line,
                    key: Some(key),
                    message,
                });
            }
        }
        Ok(())
    }

    /// Remembers the owner of an entry that was not read, for the next one and for later checks.
    fn doubt(&mut self, tokens: &[Token<'_>], indented: bool, scope: &mut Scope) {
        if let (false, Some(first)) = (indented, tokens.first()) {
            scope.owner = owner(first, &scope.origin).map_or(Owner::Wrong, Owner::Name);
        }
        if let Owner::Name(name) = &scope.owner
            && self.doubtful.len() < MAX_DOUBTFUL
        {
            self.doubtful.insert(name.clone());
        }
    }

    /// Adds a record.
    fn record(
        &mut self,
        at: At,
        indented: bool,
        tokens: &[Token<'_>],
        scope: &mut Scope,
    ) -> Result<(), Refused> {
        let mut rest = tokens;
        if !indented {
            let (first, after) = (&tokens[0], &tokens[1..]);
            rest = after;
            match owner(first, &scope.origin) {
                Ok(name) => scope.owner = Owner::Name(name),
                Err(wrong) => {
                    scope.owner = Owner::Wrong;
                    return Err(wrong.into());
                }
            }
        }

        match std::mem::replace(&mut scope.owner, Owner::None) {
            Owner::Name(name) => {
                let done = self.owned(at, &name, rest, scope);
                if done.is_err() && self.doubtful.len() < MAX_DOUBTFUL {
                    self.doubtful.insert(name.clone());
                }
                scope.owner = Owner::Name(name);
                done
            }
            Owner::Wrong => {
                // That has been said.
                scope.owner = Owner::Wrong;
                Ok(())
            }
            Owner::None => Err(tokens[0]
                .wrong("the first record needs an owner name, at the line's beginning")
                .into()),
        }
    }

    /// Adds a record of this owner; `tokens` are TTL, class, type and data.
    fn owned(
        &mut self,
        at: At,
        owner: &[u8],
        tokens: &[Token<'_>],
        scope: &mut Scope,
    ) -> Result<(), Refused> {
        let (written, rtype, data) = self.head(at, tokens)?;
        let shown = || {
            DomainName::from_slice(owner).map_or_else(|_| presented(owner), |name| name.to_string())
        };
        let key = || Some(format!("{} {rtype}", shown()));
        let refuse = |message: String| {
            Err(Refused {
                line: at.line,
                key: key(),
                message,
            })
        };
        let is_apex = owner == self.apex.as_slice();
        if !is_apex && !is_below(owner, self.apex.as_slice()) {
            return refuse(format!(
                "outside the zone {}; move it to its own zone, or end its name as this one's",
                self.apex
            ));
        }
        if !wire::is_data_type(rtype.to_int()) {
            return refuse("a type for messages, not for zones; remove it".to_owned());
        }
        let line = data.first().map_or(at.line, |token| token.line);
        self.rdata.clear();
        rdata::scan(rtype, data, line, &scope.origin, &mut self.rdata).map_err(|wrong| {
            Refused {
                key: key(),
                ..wrong.into()
            }
        })?;
        let ttl = match (written, scope.ttl, scope.last_ttl) {
            (Some(ttl), ..) => ttl,
            (None, Some(ttl), _) => ttl,
            (None, None, Some(ttl)) => ttl,
            (None, None, None) if rtype == Rtype::SOA => {
                let minimum = self
                    .rdata
                    .last_chunk()
                    .map_or(0, |&octets| u32::from_be_bytes(octets));
                let ttl = minimum.min(MAX_TTL);
                let message =
                    format!("neither a TTL nor $TTL: taking the SOA's last number, {ttl}");
                self.problems.warning(at, key(), message);
                scope.ttl = Some(ttl);
                ttl
            }
            _ => return refuse("no TTL; write $TTL before the first record".to_owned()),
        };
        if written.is_some() {
            scope.last_ttl = written;
        }
        if rtype == Rtype::SOA && !is_apex {
            return refuse(format!(
                "a SOA stands at the apex only; move it to {}",
                self.apex
            ));
        }
        if rtype == Rtype::CNAME && is_apex {
            return refuse(
                "a CNAME may not stand at the apex, beside SOA and NS; write addresses, or steer the name"
                    .to_owned(),
            );
        }
        let added = self.draft.add(owner, rtype, ttl, &self.rdata, at);
        if let (Err(too_large), false) = (added, self.is_full) {
            self.is_full = true;
            return refuse(too_large.to_string());
        }
        Ok(())
    }

    /// TTL and class in either order, each at most once, then the type; and what follows it.
    fn head<'a>(
        &self,
        at: At,
        tokens: &'a [Token<'a>],
    ) -> Result<(Option<u32>, Rtype, &'a [Token<'a>]), Refused> {
        let mut ttl = None;
        let mut has_class = false;
        let mut line = at.line;
        let mut rest = tokens;
        while let Some((token, after)) = rest.split_first() {
            line = token.line;
            if ttl.is_none() && !token.quoted && token.text[0].is_ascii_digit() {
                ttl = Some(self.ttl(token)?);
            } else if !has_class && is_class(token)? {
                has_class = true;
            } else {
                let rtype = rdata::rtype(token).ok_or_else(|| {
                    token.wrong(format!(
                        "{} is no type; write OWNER [TTL] [CLASS] TYPE DATA, and an unknown type as TYPE65280",
                        token.shown()
                    ))
                })?;
                return Ok((ttl, rtype, after));
            }
            rest = after;
        }
        let message = "the type is missing; write OWNER [TTL] [CLASS] TYPE DATA".to_owned();
        Err(Wrong { line, message }.into())
    }

    fn ttl(&self, token: &Token<'_>) -> Result<u32, Wrong> {
        let wrong = || {
            token.wrong(format!(
                "the TTL {} is out of range; write 0 to {MAX_TTL}",
                token.shown()
            ))
        };
        if token.text.iter().all(u8::is_ascii_digit) {
            let ttl = token.number(u64::MAX).unwrap_or(u64::MAX);
            return u32::try_from(ttl)
                .ok()
                .filter(|&ttl| ttl <= MAX_TTL)
                .ok_or_else(wrong);
        }
        let ttl = token.seconds()?;
        if ttl > MAX_TTL { Err(wrong()) } else { Ok(ttl) }
    }

    /// The zone, if nothing is wrong.
    fn finish(mut self, steered: &Names) -> (Option<Zone>, Findings) {
        let whole = At { file: 0, line: 0 };
        let zone = match self.draft.zone(&mut self.problems) {
            Ok(zone) => zone,
            Err(too_large) => {
                self.problems.error(whole, None, too_large.to_string());
                return (None, self.problems.finish());
            }
        };
        for rtype in [Rtype::SOA, Rtype::NS] {
            if !zone.top().has(rtype) && !self.doubtful.contains(self.apex.as_slice()) {
                let message = format!("the zone has no {rtype} record at its apex; add one");
                self.problems
                    .error(whole, Some(format!("{} {rtype}", self.apex)), message);
            }
        }
        Integrity::new(&zone, steered, &self.doubtful, &mut self.problems).check(&self.draft);
        let zone = (!self.problems.has_errors()).then_some(zone);
        (zone, self.problems.finish())
    }
}

/// An owner in lower case.
fn owner(token: &Token<'_>, origin: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut name = Vec::with_capacity(token.text.len() + origin.len() + 1);
    token.name(origin, &mut name)?;
    // Lengths of labels are below letters.
    name.make_ascii_lowercase();
    Ok(name)
}

/// Whether a name in wire format is below another.
fn is_below(name: &[u8], above: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > above.len() {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest == above
}

/// Whether a token is the class of all zones here. Another class is an error.
fn is_class(token: &Token<'_>) -> Result<bool, Wrong> {
    let word = token.word();
    let number = word
        .get(..5)
        .filter(|start| start.eq_ignore_ascii_case("CLASS"));
    let number = number.and_then(|_| word[5..].parse::<u16>().ok());
    if token.is("IN") || number == Some(1) {
        return Ok(true);
    }
    let others = ["CH", "CHAOS", "HS", "HESIOD", "CS", "NONE"];
    if number.is_some() || others.iter().any(|other| token.is(other)) {
        return Err(token.wrong(format!(
            "the class {}; zones are of class IN, remove it",
            token.shown()
        )));
    }
    Ok(false)
}
