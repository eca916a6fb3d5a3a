//! The fast path itself: a DNS query in, a DNS response out, or the reason to leave it alone.
//!
//! It works on a [`Scratch`], and knows no packets. The query's message lies at [`MESSAGE`]; a response is built in its
//! place, so that the question stays byte for byte as it came.

use crate::abi::{
    ANSWER_WORDS, Answer, Family, MAX_ANSWER_MIRRORS, NSID_WORDS, Order, Pool, SHELF_WORDS,
    SOA_WORDS, Set, SetType, Stage, Target, Zone,
};
use crate::cookie;
use crate::scratch::{
    MAX_LABELS, MAX_QUERY, MESSAGE, MIN_QUERY, NAME, Query, Scratch, bounded, lowercase, walk_name,
};
use crate::subnet;
use crate::tables::{self, Found, Tables, find_name, find_order, word};
use crate::verdict::{Tally, Verdict};
use crate::wire::{self, HEADER_LEN, rcode};

/// EDNS options that are walked; a query with more is passed.
const MAX_OPTIONS: u32 = 8;

/// Answers the query in the scratch, or says why not. When it is answered,
/// [`Scratch::message_len`] is the response's; otherwise the scratch is of no further use.
#[inline(always)]
pub fn respond<T: Tables>(scratch: &mut Scratch, tables: &T) -> Verdict {
    match try_respond(scratch, tables) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_respond<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<Verdict, Verdict> {
    if let Some(verdict) = admit(scratch, tables)? {
        return Ok(verdict);
    }
    if tables.settings().stops_after(Stage::Question) {
        return Err(Verdict::Internal);
    }
    let target = find(scratch, tables)?;
    let target = scratch.forget64(target);
    if tables.settings().stops_after(Stage::Name) {
        return Err(Verdict::Internal);
    }
    let zone = tables
        .zone((target >> 16) as u32 & 0xffff)
        .ok_or(Verdict::Internal)?;
    let state = zone.row.load();
    if state & Zone::PASS != 0 {
        return Err(Verdict::ZonePass);
    }
    let verdict = if target & ABSENT == 0 {
        let found = put_found(scratch, tables, target)?;
        if state & Zone::COMPLETE == 0 {
            tables.count_asked(scratch.slot);
        }
        found
    } else if state & Zone::COMPLETE != 0 {
        Verdict::Nxdomain
    } else {
        return Err(Verdict::UnknownName);
    };
    let verdict = scratch.forget(verdict as u32);
    if verdict == Verdict::Nodata as u32 || verdict == Verdict::Nxdomain as u32 {
        let end = put_soa(scratch, tables, zone)?;
        finish(scratch, tables, end, 0, 1)?;
        if verdict == Verdict::Nodata as u32 {
            return Ok(Verdict::Nodata);
        }
        scratch.put8(MESSAGE + 3, rcode::NXDOMAIN as u8);
        return Ok(Verdict::Nxdomain);
    }
    let (end, records) = (scratch.end, scratch.records);
    finish(scratch, tables, end, records as u16, 0)?;
    if verdict == Verdict::Answered as u32 {
        return Ok(Verdict::Answered);
    }
    if verdict == Verdict::Static as u32 {
        return Ok(Verdict::Static);
    }
    fail(scratch);
    Ok(Verdict::Servfail)
}

/// Reads the query, and keeps the limit of responses. Gives a verdict if the query is over the limit, and the
/// scratch holds what it is answered with. So does the slow path with a query that it is to answer, of which an
/// error other than [`Verdict::Limited`] says nothing to it.
#[inline(always)]
pub fn admit<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<Option<Verdict>, Verdict> {
    let read = read(scratch, tables);
    if tables.settings().limit.rate.interval == 0 {
        return read.map(|()| None);
    }
    let refused = read.err().map_or(UNDERSTOOD, |refused| refused as u32);
    let refused = scratch.forget(refused);
    if let Some(verdict) = limit(scratch, tables, refused)? {
        return Ok(Some(verdict));
    }
    if refused != UNDERSTOOD {
        return Err(Verdict::from_index(refused).unwrap_or(Verdict::Internal));
    }
    Ok(None)
}

/// No verdict: the query was understood.
const UNDERSTOOD: u32 = u32::MAX;

/// Reads the query, and makes ready the options that go back.
#[inline(always)]
fn read<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<(), Verdict> {
    let query = parse(scratch)?;
    scratch.set_parsed(query);
    if query.edns != 0 {
        serve_options(scratch, tables)?;
        let payload = tables.settings().limit.payload;
        if payload != 0 && scratch.cookie_is_good == 0 {
            scratch.query.limit = scratch.query.limit.min(payload);
        }
    }
    Ok(())
}

/// Takes a token for the client's prefix, which is put back if the query is passed: whoever answers it takes one.
/// If there is none: a verdict instead of an answer. A client that has shown a good cookie needs none; one that has shown another gets a good one back now and then, with
/// BADCOOKIE (RFC 7873 section 5.2.3), and who has none TC, so that it may come back over TCP.
#[inline(always)]
fn limit<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    refused: u32,
) -> Result<Option<Verdict>, Verdict> {
    let limit = &tables.settings().limit;
    if refused == Verdict::Response as u32
        || refused == UNDERSTOOD && scratch.cookie_is_good != 0
        || !tables.is_over_limit(scratch)
    {
        return Ok(None);
    }
    if limit.dry_run != 0 {
        scratch.limited = Scratch::LET_PASS;
        return Ok(None);
    }
    scratch.over_limit = scratch.over_limit.wrapping_add(1);
    let slips = limit.slip != 0 && scratch.over_limit.is_multiple_of(limit.slip);
    if refused != UNDERSTOOD || !slips {
        return Err(Verdict::Limited);
    }
    let end = scratch.query.end();
    finish(scratch, tables, end, 0, 0)?;
    let flags = scratch.get8(MESSAGE + 2) & !wire::AA;
    if scratch.cookie_len == 0 {
        scratch.put8(MESSAGE + 2, flags | wire::TC);
    } else {
        let [high, low] = [rcode::BADCOOKIE >> 4, rcode::BADCOOKIE & 15];
        scratch.put8(MESSAGE + 2, flags);
        scratch.put8(MESSAGE + 3, low as u8);
        // EXTENDED-RCODE, in the OPT.
        scratch.put8(end + 5, high as u8);
    }
    Ok(Some(Verdict::Slipped))
}

/// Appends what the target of an existing name has for the question, if anything.
#[inline(always)]
fn put_found<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    target: u64,
) -> Result<Verdict, Verdict> {
    let mut number = (target >> 32) as u32;
    if target & KIND == Target::STATIC {
        let records = set_from(scratch, tables, number)?;
        if records == 0 {
            return Ok(Verdict::Nodata);
        }
        if records != FROM_POOL {
            scratch.records = records;
            return Ok(Verdict::Static);
        }
        number = scratch.pool;
    }
    scratch.pool = number;
    let pool = tables.pool(number).ok_or(Verdict::Internal)?;
    let query = scratch.query;
    let family = query.family();
    let has = query.is_for_addresses() || pool.flags & Pool::ALIAS != 0;
    if !has || pool.has[family.index()] == 0 {
        return Ok(Verdict::Nodata);
    }
    // Nearly always itself: a guess of the CPU's then, not a wait.
    let answered_by = tables::answered_by(pool, family);
    let pool = match answered_by == number {
        true => pool,
        false => tables.pool(answered_by).ok_or(Verdict::Internal)?,
    };
    let records = answer_from(scratch, tables, pool)?;
    scratch.records = records;
    if records == 0 {
        return Ok(Verdict::Servfail);
    }
    Ok(Verdict::Answered)
}

/// Header, question and OPT (RFC 1035 section 4.1, RFC 6891 section 6.1).
#[inline(always)]
fn parse(scratch: &mut Scratch) -> Result<Query, Verdict> {
    let message_len = scratch.message_len;
    if !(MIN_QUERY..=MAX_QUERY).contains(&message_len) {
        return Err(Verdict::MessageSize);
    }
    let additional = scratch.get16(MESSAGE + 10);
    if scratch.get64(MESSAGE + 2) & !ANY_QUERY != ONE_QUESTION || additional > 1 {
        return Err(refuse_header(scratch));
    }
    let flags = scratch.get8(MESSAGE + 2);
    scratch.ecs_len = 0;
    scratch.scope = 0;
    scratch.cookie_len = 0;
    scratch.cookie_is_good = 0;
    scratch.nsid_len = 0;

    let end = MESSAGE + message_len;
    let labels = walk_name(scratch, end)?;
    let labels = scratch.forget(labels);
    let name_len = scratch.forget(scratch.name_len);
    let at = NAME + name_len;
    if at + 4 > end {
        return Err(Verdict::BadName);
    }
    let qtype = scratch.get16(at);
    if scratch.get16(at + 2) != wire::CLASS_IN {
        return Err(Verdict::Class);
    }
    if is_slow(qtype) {
        return Err(Verdict::Qtype);
    }
    let mut query = Query {
        name_len,
        labels,
        qtype: qtype as u32,
        is_aaaa: (qtype == wire::TYPE_AAAA) as u32,
        rd: (flags & wire::RD) as u32,
        limit: wire::MIN_UDP_SIZE,
        edns: 0,
        flags: 0,
    };
    if additional == 0 {
        return if at + 4 == end {
            Ok(query)
        } else {
            Err(Verdict::Trailing)
        };
    }
    query.edns = 1;
    (query.flags, query.limit) = parse_opt(scratch, at + 4, end)?;
    Ok(query)
}

/// From the flags to NSCOUNT: a query of one question. Opcode, AA and TC are zero; so are RA, Z and RCODE.
const ONE_QUESTION: u64 = u64::from_ne_bytes([0, 0, 0, 1, 0, 0, 0, 0]);
/// The flags that are let be.
const ANY_QUERY: u64 = u64::from_ne_bytes([wire::RD, wire::AD | wire::CD, 0, 0, 0, 0, 0, 0]);

/// The verdict on a header that is refused.
#[inline(always)]
fn refuse_header(scratch: &Scratch) -> Verdict {
    let [first, second] = [scratch.get8(MESSAGE + 2), scratch.get8(MESSAGE + 3)];
    if first & wire::QR != 0 {
        Verdict::Response
    } else if first & !wire::RD != 0 || second & !(wire::AD | wire::CD) != 0 {
        Verdict::Header
    } else {
        Verdict::Counts
    }
}

/// Whether a type is for the slow path, whatever the name: the reserved 0, OPT, ANY and the others that
/// are no data (RFC 6895 section 3.1), and DS, which may be that of another zone.
#[inline(always)]
const fn is_slow(qtype: u16) -> bool {
    qtype == 0
        || qtype == wire::TYPE_OPT
        || qtype == wire::TYPE_DS
        || (qtype >= wire::FIRST_META_TYPE && qtype <= 255)
}

/// Copies the name, lowercased, to [`Scratch::name`], what follows it in its last word too, and hashes it:
/// eight octets at a time.
#[inline(always)]
fn hash_name(scratch: &mut Scratch, key: &wire::HashKey) {
    let name_len = scratch.query.name_len;
    let mut hash = wire::NameHash::default();
    let mut word = 0;
    while word < wire::NAME_WORDS / 2 {
        if 8 * word as u32 + 8 > name_len {
            break;
        }
        let lowercased = lowercase(scratch, word);
        hash.feed(key, word, lowercased);
        word += 1;
    }
    let rest = name_len & 7;
    if rest != 0 {
        let lowercased = lowercase(scratch, word);
        hash.feed(key, word, wire::first_octets(lowercased, rest));
    }
    scratch.hash = hash.finish();
}

/// The OPT at `at`, which has to be the last record: its flags to give back, and the response's
/// limit.
#[inline(always)]
fn parse_opt(scratch: &mut Scratch, at: u32, end: u32) -> Result<(u32, u32), Verdict> {
    if at + wire::OPT_LEN > end {
        return Err(Verdict::BadOpt);
    }
    if scratch.get8(at) != 0 || scratch.get16(at + 1) != wire::TYPE_OPT {
        return Err(Verdict::BadOpt);
    }
    if scratch.get8(at + 6) != 0 {
        return Err(Verdict::EdnsVersion);
    }
    let options_end = at + wire::OPT_LEN + scratch.get16(at + 9) as u32;
    if options_end > end {
        return Err(Verdict::BadOpt);
    }
    if options_end < end {
        return Err(Verdict::Trailing);
    }
    let mut option = at + wire::OPT_LEN;
    let mut options = 0;
    while option < end {
        if options == MAX_OPTIONS {
            return Err(Verdict::EdnsOption);
        }
        if option + 4 > end {
            return Err(Verdict::BadOpt);
        }
        let code = scratch.get16(option);
        let option_len = scratch.get16(option + 2) as u32;
        if code == wire::OPTION_ECS {
            if scratch.ecs_len != 0 {
                return Err(Verdict::EdnsOption);
            }
            scratch.ecs_at = option;
            scratch.ecs_len = 4 + option_len;
        }
        if code == wire::OPTION_COOKIE && scratch.cookie_len == 0 {
            // The first one counts (RFC 7873 section 5.2).
            if !cookie::is_well_formed(option_len) {
                return Err(Verdict::EdnsOption);
            }
            scratch.cookie_at = option;
            scratch.cookie_len = option_len;
        }
        if code == wire::OPTION_NSID {
            scratch.nsid_len = 1;
        }
        option = scratch.forget(option + 4 + option_len);
        options += 1;
    }
    if option != end {
        return Err(Verdict::BadOpt);
    }
    if scratch.ecs_len != 0 {
        parse_ecs(scratch)?;
    }
    let size = scratch.get16(at + 3) as u32;
    Ok((
        (scratch.get16(at + 7) & wire::DO) as u32,
        size.clamp(wire::MIN_UDP_SIZE, wire::MAX_UDP_SIZE),
    ))
}

/// Makes ready the options that go back: NSID, and the cookie.
#[inline(always)]
fn serve_options<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<(), Verdict> {
    if scratch.nsid_len != 0 {
        scratch.nsid_len = tables.settings().nsid_len;
        if scratch.nsid_len == 0 {
            return Err(Verdict::EdnsOption);
        }
    }
    if scratch.cookie_len == 0 {
        return Ok(());
    }
    let row = tables.cookies().map_or(0, |cookies| cookies.row.load());
    if row == 0 {
        // An unknown option.
        scratch.cookie_len = 0;
        return Ok(());
    }
    let at = bounded(scratch.cookie_at);
    let [client, head, hash] = [4, 12, 20].map(|octets| scratch.get64(at + octets));
    scratch.cookie = [client, head, hash];
    let is_ours = scratch.cookie_len == cookie::LEN;
    let theirs = if is_ours { Some([head, hash]) } else { None };
    let now = tables.now(scratch);
    let served = cookie::serve(theirs, now, |is_first, head| {
        scratch.cookie[1] = head;
        tables.hash_cookie(scratch, row, is_first);
        scratch.cookie[2]
    });
    scratch.cookie = [client, served.head, served.hash];
    scratch.cookie_is_good = served.is_good as u32;
    if served.is_good {
        tables.tally(Tally::CookieGood);
    }
    if served.head != head {
        tables.tally(Tally::CookieMade);
    }
    Ok(())
}

/// The client subnet (RFC 7871 section 6): its address becomes the client's. One that is malformed, or
/// says nothing about where the client is, is for the slow path.
#[inline(always)]
fn parse_ecs(scratch: &mut Scratch) -> Result<(), Verdict> {
    let option = scratch.ecs_at;
    let data = option + 4;
    let family = scratch.get16(data);
    let source = scratch.get8(data + 2) as u32;
    let octets = source.div_ceil(8);
    let bits = match family {
        1 => 32,
        2 => 128,
        _ => return Err(Verdict::EdnsOption),
    };
    if scratch.get8(data + 3) != 0 || source > bits || scratch.ecs_len != 8 + octets {
        return Err(Verdict::EdnsOption);
    }
    // No bits past SOURCE; the octet before the address is SCOPE, which is 0.
    if scratch.get8(data + 3 + octets) as u32 & (0xff >> (source & 7)) != 0 && source & 7 != 0 {
        return Err(Verdict::EdnsOption);
    }
    scratch.ecs = [
        scratch.get64(option),
        scratch.get64(option + 8),
        scratch.get64(option + 16),
    ];
    if source == 0 {
        // An opt-out: the client's own address counts.
        return Ok(());
    }
    // What follows the address is not of it.
    let past = 8 * octets;
    let [first, second] = [scratch.ecs[1], scratch.ecs[2]].map(u64::from_le);
    let (first, second) = if past < 64 {
        (first & ((1 << past) - 1), 0)
    } else if past < 128 {
        (first, second & ((1 << (past - 64)) - 1))
    } else {
        (first, second)
    };
    // Even if the network is wider than the block, which the slow path sees: more comparisons are more
    // than the verifier can follow.
    let special = if family == 1 {
        subnet::is_special_v4((first as u32).swap_bytes())
    } else {
        subnet::is_special_v6(first.swap_bytes())
    };
    if special {
        return Err(Verdict::EdnsOption);
    }
    scratch.client_is_v6 = (family == 2) as u32;
    scratch.set_client([first, second].map(u64::to_le));
    Ok(())
}

/// In a target that [`find`] gives: the name itself does not exist.
const ABSENT: u64 = 1 << 8;
/// Kind of a target, packed.
const KIND: u64 = 0xff;

/// Finds the packed [`Target`] that answers for the name: its own, or that of the wildcard of its closest encloser
/// (RFC 4592 section 3.3.1). Where there is neither, it is the encloser's, marked [`ABSENT`].
#[inline(always)]
fn find<T: Tables>(scratch: &mut Scratch, tables: &T) -> Result<u64, Verdict> {
    let settings = tables.settings();
    hash_name(scratch, &settings.hash_key);
    let target = match find_hashed(scratch, tables, settings.name_mask) {
        Some(found) => found.exact,
        None if settings.walk == 0 => return Err(Verdict::UnknownName),
        None => {
            let mut label = 1;
            loop {
                if label >= scratch.query.labels || label >= MAX_LABELS as u32 {
                    return Err(Verdict::UnknownName);
                }
                let from = scratch.labels[label as usize & (MAX_LABELS - 1)];
                tables.hash(scratch, from);
                if let Some(encloser) = find_hashed(scratch, tables, settings.name_mask) {
                    if encloser.wildcard == 0 {
                        break encloser.exact | ABSENT;
                    }
                    break encloser.wildcard;
                }
                label += 1;
            }
        }
    };
    match target & KIND {
        Target::STEERED | Target::STATIC => Ok(target),
        _ => Err(Verdict::SlowName),
    }
}

/// Looks up what was hashed last.
#[inline(always)]
fn find_hashed<T: Tables>(scratch: &mut Scratch, tables: &T, name_mask: u32) -> Option<Found> {
    let found = find_name(tables, name_mask, scratch.hash)?;
    scratch.slot = found.slot;
    Some(found)
}

/// Stands for a pool that has the records, [`Scratch::pool`], in the result of [`set_from`].
const FROM_POOL: u32 = 0xffff;

/// Appends the records of a set to the question. Gives how many: 0 if it has none of the type.
#[inline(always)]
fn set_from<T: Tables>(scratch: &mut Scratch, tables: &T, set: u32) -> Result<u32, Verdict> {
    let query = scratch.query;
    let shelf = tables
        .shelf(set / SHELF_WORDS as u32)
        .ok_or(Verdict::Internal)?;
    let head = Set(word(shelf, set));
    if head.0 & Set::POOL != 0 && query.is_for_addresses() {
        scratch.pool = head.pool();
        return Ok(FROM_POOL);
    }
    let mut found = 0;
    let mut at = 0;
    while at < Set::MAX_TYPES {
        if at >= head.types() {
            break;
        }
        let listed = SetType(word(shelf, set + 1 + at));
        if listed.rtype() as u32 == query.qtype {
            found = listed.0;
            break;
        }
        at += 1;
    }
    let mut found = scratch.forget64(found);
    if found == 0 {
        if head.0 & Set::MORE != 0 {
            return Err(Verdict::SlowRecords);
        }
        if head.0 & Set::CNAME == 0 {
            return Ok(0);
        }
        found = word(shelf, set + 1);
    }
    let mut found = SetType(found);
    if found.has_other() && tables.has_upper(scratch) {
        let other = word(shelf, set + found.start() + found.words());
        found = SetType(scratch.forget64(other));
    }
    let (octets, end) = (found.octets(), query.end());
    if octets == 0 || octets > SetType::MAX_OCTETS {
        return Err(Verdict::SlowRecords);
    }
    if end + octets > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    let mut at = 0;
    while at < SetType::MAX_OCTETS {
        if at >= octets {
            break;
        }
        scratch.put64(end + at, word(shelf, set + found.start() + at / 8));
        at += 8;
    }
    let pointers = found.pointers();
    if pointers != 0 {
        let listed = set + found.start() + octets.div_ceil(8);
        tables.put_pointers(scratch, end, listed, pointers);
    }
    scratch.end = end + octets;
    Ok(found.records())
}

/// Appends a pool's records to the question. Gives how many: 0 if no mirror is in service.
#[inline(always)]
fn answer_from<T: Tables>(scratch: &mut Scratch, tables: &T, pool: &Pool) -> Result<u32, Verdict> {
    if pool.flags & Pool::SLOW != 0 {
        return Err(Verdict::SlowPool);
    }
    let query = scratch.query;
    let end = query.end();
    let chosen = pick(scratch, tables, pool, query.family())?;
    let chosen = scratch.forget(chosen);
    if chosen == 0 {
        scratch.scope = 0;
    }
    if tables.settings().mirror_pages != 0 {
        scratch.counter = pool.counter(scratch.first_mirror());
    }
    put_answers(scratch, tables, pool, query, chosen, end)
}

/// Picks the mirrors of a pool's answer. Gives how many: 0 if none is in service.
#[inline(always)]
fn pick<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    pool: &Pool,
    family: Family,
) -> Result<u32, Verdict> {
    let client = if scratch.client_is_v6 != 0 {
        Family::V6
    } else {
        Family::V4
    };
    let (order, region) = if pool.flags & Pool::ALL != 0 {
        (Order::EMPTY, 0)
    } else {
        find_order(tables, pool, family, client, &scratch.client).ok_or(Verdict::NoRegion)?
    };
    scratch.order = order.0;
    let ttl = pool.ttl.load();
    scratch.ttl = ttl as u32;
    let drawn = tables::is_drawn(pool, ttl);
    // An opt-out has an option, and no client that the answer depends on.
    if scratch.ecs_len > 8 {
        scratch.scope = tables::scope(pool, drawn, client, region) as u32;
    }
    // Where nothing is drawn, all draws are alike.
    let draw = match drawn {
        true => tables::draw(tables, pool, client, &scratch.client),
        false => 0,
    };
    let draw = scratch.forget(draw);
    tables::choose(tables, pool, family, order, draw, &mut scratch.chosen).ok_or(Verdict::Internal)
}

/// Appends the records of the chosen mirrors. Gives the number of records.
#[inline(always)]
fn put_answers<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    pool: &Pool,
    query: Query,
    chosen: u32,
    mut end: u32,
) -> Result<u32, Verdict> {
    let mut records = 0;
    let mut at = 0;
    while at < MAX_ANSWER_MIRRORS {
        if at >= chosen {
            break;
        }
        let mirror = scratch.chosen[at as usize & (MAX_ANSWER_MIRRORS as usize - 1)];
        let index = pool.answer(mirror, query.family());
        let answer = tables.answer(index).ok_or(Verdict::Internal)?;
        let (len, count) = (answer.len, answer.records);
        if len == 0 || len as usize > 8 * ANSWER_WORDS {
            if len & Answer::POINTS != 0 {
                return put_alias(scratch, tables, answer, end);
            }
            return Err(Verdict::SlowPool);
        }
        if end + len as u32 > MESSAGE + query.limit {
            return Err(Verdict::TooLarge);
        }
        put_answer(scratch, answer, end, len as u32);
        end = scratch.forget(end + len as u32);
        records = scratch.forget(records + count as u32);
        at += 1;
    }
    scratch.end = end;
    Ok(records)
}

/// Puts an answer, with its TTLs, where it belongs if it starts at `end`: 32 octets of it, which hold an A
/// or an AAAA, or else all. A loop over the length would be as many paths for the verifier.
#[inline(always)]
fn put_answer(scratch: &mut Scratch, answer: &Answer, end: u32, len: u32) {
    const SHORT: usize = 4;
    let ttl = Ttl::new(scratch.ttl);
    let part = |word: usize| answer.words[word] | ttl.part(word, answer.several);
    scratch.put_words::<SHORT>(end, part);
    if len > 8 * SHORT as u32 {
        scratch.put_words::<{ ANSWER_WORDS - SHORT }>(end + 8 * SHORT as u32, |word| {
            part(SHORT + word)
        });
    }
}

/// Appends an alias whose target ends as the question's name does: behind a question without upper-case letters
/// a pointer stands in that end's place. Gives the number of records.
#[inline(always)]
fn put_alias<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    answer: &Answer,
    end: u32,
) -> Result<u32, Verdict> {
    /// Where RDLENGTH stands in a record, and RDATA.
    const RDLENGTH: u32 = 10;
    const RDATA: u32 = 12;
    let query = scratch.query;
    let mut len = (answer.len & !Answer::POINTS) as u32;
    if end + len > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    put_answer(scratch, answer, end, len);
    if !tables.has_upper(scratch) {
        let (before, shared) = (answer.before as u32, answer.shared as u32);
        let place = HEADER_LEN + query.name_len - shared;
        scratch.put16(end + before, wire::POINTER | place as u16);
        len = before + 2;
        scratch.put16(end + RDLENGTH, (len - RDATA) as u16);
    }
    scratch.end = scratch.forget(end + len);
    Ok(1)
}

/// A TTL as it lies in the words of an answer, which has zeros in its place: across the end of a word,
/// or inside one. Arithmetic, since the verifier would follow every branch on the kind of record.
#[derive(Clone, Copy)]
struct Ttl {
    high: u64,
    low: u64,
    inside: u64,
}

impl Ttl {
    #[inline(always)]
    const fn new(ttl: u32) -> Self {
        let [a, b, c, d] = ttl.to_be_bytes();
        Self {
            high: u64::from_ne_bytes([0, 0, 0, 0, 0, 0, a, b]),
            low: u64::from_ne_bytes([c, d, 0, 0, 0, 0, 0, 0]),
            inside: u64::from_ne_bytes([0, 0, a, b, c, d, 0, 0]),
        }
    }

    /// A word of it: octets 6 to 9 of each record, which are 16 (A) or 28 (AAAA) apart if
    /// they are several.
    #[inline(always)]
    const fn part(self, word: usize, several: u16) -> u64 {
        let a = 0u64.wrapping_sub((several & Answer::SEVERAL_A) as u64);
        let aaaa = 0u64.wrapping_sub((several >> 1 & Answer::SEVERAL_AAAA >> 1) as u64);
        let of_a = if word.is_multiple_of(2) {
            self.high
        } else {
            self.low
        };
        let of_aaaa = match word {
            4 | 11 => self.inside,
            7 => self.high,
            8 => self.low,
            _ => 0,
        };
        match word {
            0 => self.high,
            1 => self.low,
            _ => of_a & a | of_aaaa & aaaa,
        }
    }
}

/// Appends the zone's SOA, owned by a pointer to the apex, which is the end of the question's name.
#[inline(always)]
fn put_soa<T: Tables>(scratch: &mut Scratch, tables: &T, zone: &Zone) -> Result<u32, Verdict> {
    let query = scratch.query;
    let end = query.end();
    let soa = match tables.has_upper(scratch) {
        false => &zone.soa[0],
        true => &zone.soa[1],
    };
    let (apex_len, soa_len) = (zone.apex_len as u32, soa.len as u32);
    if soa_len == 0 || soa_len as usize > 8 * SOA_WORDS {
        return Err(Verdict::SlowPool);
    }
    if apex_len > query.name_len {
        return Err(Verdict::Internal);
    }
    if end + 2 + soa_len > MESSAGE + query.limit {
        return Err(Verdict::TooLarge);
    }
    scratch.put16(
        end,
        wire::POINTER | (HEADER_LEN + query.name_len - apex_len) as u16,
    );
    scratch.put_words::<SOA_WORDS>(end + 2, |word| soa.words[word]);
    // Those that there are not are the owner once more.
    let name_len = query.name_len as u16;
    for number in 0..2 {
        let pointer = soa.pointers[number].wrapping_add(name_len);
        scratch.put16(end + soa.pointers_at[number] as u32, pointer);
    }
    Ok(end + 2 + soa_len)
}

/// The first octets of an OPT: owner, type, class (the size that we take), extended RCODE and version; its
/// flags and length go over the last.
const OPT: u64 = {
    let [a, b] = wire::TYPE_OPT.to_be_bytes();
    let [c, d] = (wire::MAX_UDP_SIZE as u16).to_be_bytes();
    u64::from_ne_bytes([0, a, b, c, d, 0, 0, 0])
};

/// Appends the OPT and writes the header.
#[inline(always)]
fn finish<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    end: u32,
    answers: u16,
    authority: u16,
) -> Result<(), Verdict> {
    let query = scratch.query;
    let mut end = bounded(end);
    if query.edns != 0 {
        let (nsid_len, ecs_len) = (scratch.nsid_len, scratch.ecs_len);
        let cookie_len = if scratch.cookie_len != 0 {
            cookie::OPTION_LEN
        } else {
            0
        };
        let options_len = nsid_len + ecs_len + cookie_len;
        if end + wire::OPT_LEN + options_len > MESSAGE + query.limit {
            return Err(Verdict::TooLarge);
        }
        let flags_and_len = query.flags << 16 | options_len;
        scratch.put_words::<1>(end, |_| OPT);
        scratch.put32(end + 7, flags_and_len);
        end += wire::OPT_LEN;
        if nsid_len != 0 {
            let settings = tables.settings();
            scratch.put_words::<NSID_WORDS>(end, |word| settings.nsid[word]);
            end = scratch.forget(end + nsid_len);
        }
        if ecs_len != 0 {
            let ecs = scratch.ecs;
            scratch.put_words::<3>(end, |word| ecs[word]);
            // Code, length, FAMILY and SOURCE stand before it.
            let scope = scratch.scope as u8;
            scratch.put8(end + 7, scope);
            end = scratch.forget(end + ecs_len);
        }
        if cookie_len != 0 {
            let cookie = scratch.cookie;
            scratch.put32(end, (wire::OPTION_COOKIE as u32) << 16 | cookie::LEN);
            scratch.put_words::<3>(end + 4, |word| cookie[word]);
            end += cookie_len;
        }
    }
    scratch.put8(MESSAGE + 2, wire::QR | wire::AA | query.rd as u8);
    scratch.put8(MESSAGE + 3, 0);
    scratch.put32(MESSAGE + 6, (answers as u32) << 16 | authority as u32);
    // QDCOUNT and ARCOUNT stay: one question, and an OPT if and only if there was one.
    scratch.message_len = end - MESSAGE;
    Ok(())
}

/// Makes a finished response one of SERVFAIL, which is nobody's authority.
#[inline(always)]
fn fail(scratch: &mut Scratch) {
    let flags = scratch.get8(MESSAGE + 2);
    scratch.put8(MESSAGE + 2, flags & !wire::AA);
    scratch.put8(MESSAGE + 3, rcode::SERVFAIL as u8);
}
