//! The types that the scanner of `domain` reads: SVCB and HTTPS, NSEC3, NSEC3PARAM and IPSECKEY.

use bytes::Bytes;
use domain::base::iana::Class;
use domain::base::rdata::{ComposeRecordData, ParseRecordData};
use domain::base::{ParsedName, Rtype};
use domain::dep::octseq::Parser;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};

use super::super::Name;
use super::super::text::Wrong;
use super::Data;

/// RDATA as it is written.
pub(super) fn scan(rtype: Rtype, data: &mut Data<'_>) -> Result<Vec<u8>, Wrong> {
    if !matches!(
        rtype,
        Rtype::SVCB | Rtype::HTTPS | Rtype::NSEC3 | Rtype::NSEC3PARAM | Rtype::IPSECKEY
    ) {
        return Err(data.wrong(format!(
            "data of {rtype} records has no other form than \\# LENGTH HEX (RFC 3597); write that"
        )));
    }
    // In one line, so that no parentheses are left.
    let mut text = format!(". 0 IN {rtype}").into_bytes();
    while !data.tokens.is_empty() {
        let token = data.next()?;
        if !token.glued {
            text.push(b' ');
        }
        if token.quoted {
            text.push(b'"');
        }
        text.extend_from_slice(token.text);
        if token.quoted {
            text.push(b'"');
        }
    }
    text.push(b'\n');
    let mut scanner = Zonefile::from(&text[..]).allow_invalid();
    if let Ok(origin) = Name::from_octets(Bytes::copy_from_slice(data.origin)) {
        scanner.set_origin(origin);
    }
    scanner.set_default_class(Class::IN);
    let mut octets = Vec::new();
    match scanner.next_entry() {
        Ok(Some(Entry::Record(record))) if record.data().compose_rdata(&mut octets).is_ok() => {
            Ok(octets)
        }
        Ok(_) => Err(data.wrong("its data is too long; shorten it")),
        Err(error) => {
            // LINE:COLUMN: MESSAGE
            let error = error.to_string();
            let said = error.splitn(3, ':').nth(2).unwrap_or("").trim();
            Err(data.wrong(explain(said, rtype)))
        }
    }
}

/// What the scanner says, and what to do about it.
fn explain(said: &str, rtype: Rtype) -> String {
    let advice = match said {
        "unexpected end of entry" | "short buffer" => "data is missing",
        "trailing tokens" => "there is more than the type takes; quote strings with spaces",
        _ => "correct it",
    };
    format!("data of {rtype}: {said}; {advice}")
}

/// Appends RDATA in canonical form; `None` if it is not that of its type, as far as that is known.
pub(super) fn canonical(rtype: Rtype, octets: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut parser = Parser::from_ref(octets);
    let read: Option<ZoneRecordData<_, ParsedName<_>>> =
        ZoneRecordData::parse_rdata(rtype, &mut parser).ok()?;
    let read = read?;
    let mut again = Vec::new();
    read.compose_rdata(&mut again).ok()?;
    // A compressed name, too, would not come back as it was.
    if parser.remaining() > 0 || again != octets {
        return None;
    }
    read.compose_canonical_rdata(out).ok()
}
