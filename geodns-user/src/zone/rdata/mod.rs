//! RDATA: from a record's tokens, or from octets that somebody else wrote (RFC 3597), to the form in which it
//! is kept: names uncompressed, and in the case in which they came (RFC 4343 section 4.1). Which data is the same,
//! the canonical form says (RFC 4034 section 6.2, RFC 6840 section 5.1): see [`compare`].
//!
//! - here: what fields each type has, and what must hold beyond them
//! - `field`: one field, from tokens and from octets
//! - `odd`: fields with rules of their own: LOC, APL, HIP and the like
//! - `svcb`: the parameters of SVCB and HTTPS
//! - `word`: words that several fields have

mod field;
mod odd;
mod svcb;
mod word;

use std::cmp::Ordering;

use domain::base::Rtype;
use field::Field;
pub use word::name_len;

use super::text::{Token, Wrong};

/// RDLENGTH has 16 bits.
const MAX_LEN: usize = u16::MAX as usize;

/// The data of a record while it is read.
struct Data<'a> {
    /// The rest of the data to read.
    tokens: &'a [Token<'a>],
    /// Line of the token before.
    line: u32,
    origin: &'a [u8],
}

impl<'a> Data<'a> {
    fn next(&mut self) -> Result<&'a Token<'a>, Wrong> {
        let Some((token, rest)) = self.tokens.split_first() else {
            return Err(self.wrong("data is missing at the end of the entry; write all of it"));
        };
        self.tokens = rest;
        self.line = token.line;
        Ok(token)
    }

    fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong {
            line: self.line,
            message: message.into(),
        }
    }
}

/// Scans the RDATA of a record, which follows its type in `line`, and appends it to `out`.
pub(super) fn scan(
    rtype: Rtype,
    tokens: &[Token<'_>],
    line: u32,
    origin: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let start = out.len();
    let mut data = Data {
        tokens,
        line,
        origin,
    };
    if tokens.first().is_some_and(|first| first.is("\\#")) {
        let octets = unknown(&mut data)?;
        canonical(rtype, &octets, out).map_err(|message| data.wrong(message))?;
    } else if let Some(fields) = fields(rtype) {
        for field in fields {
            field.scan(&mut data, out)?;
        }
        if let Some(more) = data.tokens.first() {
            return Err(more.wrong(format!(
                "{} is more than the type takes; quote strings with spaces",
                more.shown()
            )));
        }
        if rtype == Rtype::RRSIG || rtype == Rtype::SIG {
            lower_signer(&mut out[start..]);
        }
        sane(rtype, &out[start..]).map_err(|message| data.wrong(message))?;
    } else {
        return Err(data.wrong(format!(
            "data of {rtype} records has no other form than \\# LENGTH HEX (RFC 3597); write that"
        )));
    }
    if out.len() - start > MAX_LEN {
        return Err(data.wrong(format!(
            "its data is longer than {MAX_LEN} octets; shorten it"
        )));
    }
    Ok(())
}

/// The form for unknown types (RFC 3597 section 5): `\# LENGTH HEX`.
fn unknown(data: &mut Data<'_>) -> Result<Vec<u8>, Wrong> {
    data.next()?;
    let len = data.next()?.number(MAX_LEN as u64)? as usize;
    let mut octets = Vec::new();
    if !data.tokens.is_empty() {
        Field::Hex.scan(data, &mut octets)?;
    }
    if octets.len() != len {
        return Err(data.wrong(format!(
            "{} octets of data where {len} are announced; correct one",
            octets.len()
        )));
    }
    Ok(octets)
}

/// Compares RDATA of a type by its canonical form, in which names of most types are in lower case.
pub fn compare(rtype: Rtype, one: &[u8], other: &[u8]) -> Ordering {
    let has_upper = |rdata: &[u8]| rdata.iter().any(u8::is_ascii_uppercase);
    let folds = |fields: &[Field]| fields.contains(&Field::Name);
    let fields = fields(rtype).filter(|fields| folds(fields));
    match fields {
        Some(fields) if has_upper(one) || has_upper(other) => {
            folded(fields, one).cmp(&folded(fields, other))
        }
        _ => one.cmp(other),
    }
}

/// RDATA with names in lower case, as far as it has the fields of its type.
fn folded(fields: &[Field], rdata: &[u8]) -> Vec<u8> {
    let (mut rest, mut out) = (rdata, Vec::with_capacity(rdata.len()));
    for field in fields {
        let start = out.len();
        if field.copy(&mut rest, &mut out).is_none() {
            break;
        }
        if *field == Field::Name {
            // Lengths of labels are below letters.
            out[start..].make_ascii_lowercase();
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Appends RDATA as it is kept, or says what is wrong with it. A type of which nothing is known
/// is taken as it is.
pub(super) fn canonical(rtype: Rtype, octets: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let whole = match fields(rtype) {
        Some(fields) => {
            let mut rest = octets;
            let read = fields
                .iter()
                .all(|field| field.copy(&mut rest, out).is_some());
            read && rest.is_empty()
        }
        None => {
            out.extend_from_slice(octets);
            true
        }
    };
    if !whole {
        return Err(format!(
            "its data is not that of a {rtype} record; correct it"
        ));
    }
    if rtype == Rtype::RRSIG || rtype == Rtype::SIG {
        lower_signer(&mut out[start..]);
    }
    sane(rtype, &out[start..]).map_err(str::to_owned)
}

/// The type of a word, as it is written.
pub(super) fn rtype(token: &Token<'_>) -> Option<Rtype> {
    match token.word() {
        // The one with a hyphen in it.
        word if word.eq_ignore_ascii_case("NSAP-PTR") => Some(Rtype::NSAPPTR),
        word => word.parse().ok(),
    }
}

/// The fields of a type; `None` for unknown ones.
#[rustfmt::skip]
fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    use Field::*;
    Some(match rtype.to_int() {
        // A (RFC 1035), AAAA (RFC 3596).
        1 => &[Ipv4],
        28 => &[Ipv6],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR (RFC 1035), DNAME (RFC 6672).
        2..=5 | 7..=9 | 12 | 39 => &[Name],
        // SOA.
        6 => &[Name, Name, U32, Time, Time, Time, Time],
        11 => &[Ipv4, Services],                            // WKS (RFC 1035)
        13 => &[Text, Text],                                // HINFO (RFC 1035)
        14 | 17 => &[Name, Name],                           // MINFO (RFC 1035), RP (RFC 1183)
        // MX (RFC 1035), AFSDB, RT (RFC 1183), KX (RFC 2230).
        15 | 18 | 21 | 36 => &[U16, Name],
        // TXT (RFC 1035), NINFO, SPF (RFC 7208), AVC, RESINFO (RFC 9606), WALLET, CLA.
        16 | 56 | 99 | 258 | 261..=263 => &[Texts],
        19 => &[Text],                                      // X25 (RFC 1183)
        20 => &[Text, TextIfAny],                           // ISDN (RFC 1183)
        22 => &[Nsap],                                      // NSAP (RFC 1706)
        23 => &[NameAsWritten],                             // NSAP-PTR (RFC 1348)
        // SIG (RFC 2535), RRSIG (RFC 4034). The signer's name is put in lower case behind the other fields.
        24 | 46 => &[Type, Algorithm, U8, U32, Moment, Moment, U16, NameAsWritten, Base64],
        25 => &[U16, U8, Algorithm, KeyIfAny],              // KEY (RFC 2535)
        // DNSKEY (RFC 4034), RKEY, CDNSKEY (RFC 7344).
        48 | 57 | 60 => &[U16, U8, Algorithm, Base64],
        26 => &[U16, Name, Name],                           // PX (RFC 2163)
        27 => &[Text, Text, Text],                          // GPOS (RFC 1712)
        29 => &[Location],                                  // LOC (RFC 1876)
        30 => &[Name, OldTypes],                            // NXT (RFC 2535)
        31 | 32 => &[Hex],                                  // EID, NIMLOC
        33 => &[U16, U16, U16, Name],                       // SRV (RFC 2782)
        35 => &[U16, U16, Text, Text, Text, Name],          // NAPTR (RFC 3403)
        37 => &[CertType, U16, Algorithm, Base64],          // CERT (RFC 4398)
        38 => &[A6],                                        // A6 (RFC 2874)
        40 => &[U8, U8, U8, Base64],                        // SINK
        42 => &[Prefixes],                                  // APL (RFC 3123)
        // DS (RFC 4034), CDS (RFC 7344), TA, DLV (RFC 4431).
        43 | 59 | 32768 | 32769 => &[U16, Algorithm, U8, Hex],
        44 => &[U8, U8, Hex],                               // SSHFP (RFC 4255)
        45 => &[U8, Gateway],                               // IPSECKEY (RFC 4025)
        47 => &[NameAsWritten, Types],                      // NSEC (RFC 4034)
        50 => &[HashAlgorithm, U8, U16, Salt, Hashed, Types], // NSEC3 (RFC 5155)
        51 => &[HashAlgorithm, U8, U16, Salt],              // NSEC3PARAM
        49 | 61 => &[Base64],                               // DHCID (RFC 4701), OPENPGPKEY (RFC 7929)
        52 | 53 => &[U8, U8, U8, Hex],                      // TLSA (RFC 6698), SMIMEA (RFC 8162)
        55 => &[Identity],                                  // HIP (RFC 8005)
        58 => &[NameAsWritten, NameAsWritten],              // TALINK
        62 => &[U32, U16, Types],                           // CSYNC (RFC 7477)
        63 => &[U32, U8, U8, Hex],                          // ZONEMD (RFC 8976)
        64 | 65 => &[U16, NameAsWritten, Parameters],       // SVCB, HTTPS (RFC 9460)
        66 => &[Type, Scheme, U16, NameAsWritten],          // DSYNC (RFC 9859)
        104 | 106 => &[U16, Locator],                       // NID, L64 (RFC 6742)
        105 => &[U16, Ipv4],                                // L32
        107 => &[U16, NameAsWritten],                       // LP
        108 => &[Eui(6)],                                   // EUI48 (RFC 7043)
        109 => &[Eui(8)],                                   // EUI64
        256 => &[U16, U16, Octets],                         // URI (RFC 7553)
        257 => &[U8, Text, Octets],                         // CAA (RFC 8659)
        259 => &[U32, U32, U8, Text, Base64IfAny],          // DOA
        260 => &[Relay],                                    // AMTRELAY (RFC 8777)
        264 => &[U64],                                      // IPN
        _ => return None,
    })
}

/// The signer's name of a SIG or RRSIG stands behind 18 octets, and is in lower case in canonical form.
fn lower_signer(rdata: &mut [u8]) {
    let signer = rdata.get_mut(18..).unwrap_or(&mut []);
    let len = name_len(signer).unwrap_or(0);
    signer[..len].make_ascii_lowercase();
}

/// Checks the fields of a type against each other. Gives what is wrong.
fn sane(rtype: Rtype, rdata: &[u8]) -> Result<(), &'static str> {
    let digest = |digest: &[u8], lens: &[(u8, usize)], number: u8| {
        let expect = lens.iter().find(|(of, _)| *of == number);
        expect.is_none_or(|(_, len)| digest.len() == *len)
    };
    match (rtype.to_int(), rdata) {
        (43 | 59 | 32768 | 32769, [_, _, _, kind, rest @ ..])
            // SHA-1, SHA-256 and SHA-384 (RFC 4034, 4509, 6605).
            if !digest(rest, &[(1, 20), (2, 32), (4, 48)], *kind) => {
                return Err("the digest has not the length of its kind; copy it anew");
            }
        (44, [_, kind, rest @ ..])
            if !digest(rest, &[(1, 20), (2, 32)], *kind) => {
                return Err("the fingerprint has not the length of its kind; copy it anew");
            }
        // Of other schemes than SIMPLE nothing is known but that a digest has 12 octets (RFC 8976 section 2.2).
        (63, [_, _, _, _, scheme, kind, rest @ ..])
            if (rest.len() < 12 || (*scheme == 1 && !digest(rest, &[(1, 48), (2, 64)], *kind))) => {
                return Err("the digest has not the length of its kind; copy it anew");
            }
        (64 | 65, [_, _, rest @ ..]) => {
            let target = name_len(rest).unwrap_or(rest.len());
            svcb::sane(&rest[target..])?;
        }
        (257, [_, rest @ ..]) => {
            let (len, rest) = rest.split_first().unwrap_or((&0, &[]));
            let tag = rest.get(..usize::from(*len)).unwrap_or(&[]);
            if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                return Err(
                    "the tag of a CAA is letters and digits (RFC 8659 section 4.1); correct it",
                );
            }
        }
        (256, [_, _, _, _]) => return Err("the target of a URI is empty; write one"),
        (19, [_, digits @ ..])
            if (digits.len() < 4 || !digits.iter().all(u8::is_ascii_digit)) => {
                return Err("a PSDN address of 4 digits or more belongs here; write one");
            }
        (27, _) if !odd::is_position(rdata) => {
            return Err(
                "a longitude, a latitude and an altitude belong here, as -32.6882 116.8652 10.0",
            );
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
