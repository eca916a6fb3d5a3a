//! Whether the records of a type at a name fit into a message: those that do not could be given to nobody, over
//! TCP either, and a transfer would end where they stand.

use domain::base::Rtype;
use geodns_common::wire::{HEADER_LEN, MAX_NAME, OPT_LEN};

use super::store::{Node, RrSet};

/// Octets of a message, at the most.
const MESSAGE: usize = u16::MAX as usize;
/// The question with the longest name: a wildcard is asked for by any.
const QUESTION: usize = MAX_NAME as usize + 4;
/// An OPT with all that is ever in it: an identity, a client subnet and a cookie.
const OPT: usize = OPT_LEN as usize + (4 + 128) + (4 + 4 + 16) + (4 + 24);
/// A TSIG with the longest name of a key, HMAC-SHA512 and a time (RFC 8945 section 4.2).
const TSIG: usize = MAX_NAME as usize + 10 + (13 + 6 + 2 + 2 + 64 + 2 + 2 + 2 + 6);
/// Octets that the records of a type at a name have in every message.
const ROOM: usize = MESSAGE - HEADER_LEN as usize - QUESTION - OPT - TSIG;

/// Octets before the RDATA of a record whose owner is a pointer.
const HEAD: usize = 12;

/// Whether records fit. Or what to say of them.
pub(super) fn check(lens: impl Iterator<Item = usize>) -> Result<(), String> {
    match lens.map(|len| HEAD + len).sum() {
        ..=ROOM => Ok(()),
        octets => Err(format!(
            "the RRset takes {octets} octets of a message, which has room for {ROOM}; remove some"
        )),
    }
}

/// Whether all records of a node fit, those of each type. Or which do not, and why.
pub(super) fn check_node(node: Node<'_>) -> Result<(), (Rtype, String)> {
    // No record takes less than two octets, so that most nodes need no second look.
    if node.size() < ROOM / HEAD * 2 {
        return Ok(());
    }
    let rrsets: Vec<RrSet<'_>> = node.rrsets().collect();
    // All signatures are asked for together.
    for of in rrsets.chunk_by(|one, next| one.rtype == next.rtype) {
        let rdata = of.iter().flat_map(|rrset| rrset.rdata());
        check(rdata.map(<[u8]>::len)).map_err(|message| (of[0].rtype, message))?;
    }
    Ok(())
}
