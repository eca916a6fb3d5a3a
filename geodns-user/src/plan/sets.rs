//! The shelves: what zone files have at their names, rendered for the fast path.
//!
//! A set that fits in a line of the cache is in one line: a set that lies across the end of one costs a wait
//! for memory more.
//!
//! A set stays where it is. Its place is free once it is wanted no more; where the next set there may be
//! written, see `edit`.

use std::collections::BTreeMap;

use domain::base::Rtype;
use geodns_common::abi::{SHELF_WORDS, Set, SetType, Shelf};

use super::rows::put_owned;
use crate::compress::{self, Rendering};
use crate::zone::{Node, Record, RrSet};

/// Where [`Shelves`] always has the set of a name without records.
pub const EMPTY: u32 = 0;

/// Words of a line of the cache. A page of the map begins with one.
const LINE: usize = 8;

/// Pages that begun sets may still be put on. More would be looked through in vain for most sets.
const OPEN: usize = 16;

/// The sets of a plan, on pages.
#[derive(Clone, Debug)]
pub struct Shelves {
    /// The pages.
    pub pages: Vec<Shelf>,
    /// Free ends of pages.
    gaps: Vec<Gap>,
    /// Where sets were that are wanted no more, and what was left free before a set that begins with a line; by
    /// the words that are free there.
    free: BTreeMap<usize, Vec<u32>>,
    /// Pages, at the most.
    capacity: usize,
}

/// Pages at the most: a place is counted in words, in 32 bits.
const MAX_PAGES: usize = 1 << (32 - SHELF_WORDS.trailing_zeros());
/// Room for edits where a quarter of the needs would be less, in pages.
const SPARE_PAGES: usize = 16;

/// Words of the set of a promoted name, by and large.
const PROMOTED_WORDS: usize = 8;

/// The free end of a page.
#[derive(Clone, Copy, Debug)]
struct Gap {
    page: usize,
    /// Words in use before it.
    used: usize,
}

impl Default for Shelves {
    /// One page, with the empty set.
    fn default() -> Self {
        let mut page = [0; SHELF_WORDS];
        page[EMPTY as usize] = Set::EMPTY.0;
        Self {
            pages: vec![page],
            gaps: vec![Gap { page: 0, used: 1 }],
            free: BTreeMap::new(),
            capacity: MAX_PAGES,
        }
    }
}

impl Shelves {
    /// Pages that there may be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the room that edits have, and N names that may be promoted.
    pub fn set_capacity(&mut self, promoted: usize) {
        let pages = self.pages.len();
        let spare = (pages / 4).max(SPARE_PAGES) + promoted * PROMOTED_WORDS / SHELF_WORDS;
        self.capacity = (pages + spare).min(MAX_PAGES);
    }

    /// Puts a set, which is no longer than a page, on a shelf. Gives its place, in words; `None`: there is
    /// no room.
    pub fn put(&mut self, set: &[u64]) -> Option<u32> {
        if set == [Set::EMPTY.0] {
            return Some(EMPTY);
        }
        let len = set.len();
        if let Some(place) = self.reuse(len) {
            self.write(place, set);
            return Some(place);
        }
        let fits = |gap: &Gap| start(gap.used, len) + len <= SHELF_WORDS;
        let at = match self.gaps.iter().position(fits) {
            Some(at) => at,
            None if self.pages.len() == self.capacity => return None,
            None => {
                if self.gaps.len() == OPEN {
                    let fullest = (0..OPEN).max_by_key(|&at| self.gaps[at].used);
                    self.gaps.swap_remove(fullest.unwrap_or(0));
                }
                let page = self.pages.len();
                self.gaps.push(Gap { page, used: 0 });
                self.pages.push([0; SHELF_WORDS]);
                self.gaps.len() - 1
            }
        };
        let gap = &mut self.gaps[at];
        let first = gap.page * SHELF_WORDS;
        let (end, begin) = (first + gap.used, first + start(gap.used, len));
        gap.used = begin + len - first;
        self.leave(end, begin - end);
        self.write(begin as u32, set);
        Some(begin as u32)
    }

    /// A place of N words among the free ones; what is left of it stays free.
    fn reuse(&mut self, len: usize) -> Option<u32> {
        let fits = |room: usize, place: usize| start(place, len) + len <= place + room;
        let (&room, places) = self.free.range_mut(len..).find(|(room, places)| {
            places
                .last()
                .is_some_and(|&place| fits(**room, place as usize))
        })?;
        let place = places.pop()? as usize;
        if places.is_empty() {
            self.free.remove(&room);
        }
        let begin = start(place, len);
        self.leave(place, begin - place);
        self.leave(begin + len, place + room - (begin + len));
        Some(begin as u32)
    }

    /// Leaves N words free at a place.
    fn leave(&mut self, place: usize, len: usize) {
        if len > 0 {
            self.free.entry(len).or_default().push(place as u32);
        }
    }

    /// The set at a place.
    pub fn get(&self, place: u32) -> &[u64] {
        let words = &self.pages.as_flattened()[place as usize..];
        let types = Set(words[0]).types() as usize;
        let listed = words[1..=types].iter().map(|&word| SetType(word));
        let of_each = listed.map(|listed| {
            let records = listed.words();
            let other = match listed.has_other() {
                true => 1 + SetType(words[(listed.start() + records) as usize]).words(),
                false => 0,
            };
            (records + other) as usize
        });
        &words[..1 + types + of_each.sum::<usize>()]
    }

    /// Writes a set over what is at a place, which is no shorter.
    pub fn write(&mut self, place: u32, set: &[u64]) {
        let at = place as usize;
        self.pages.as_flattened_mut()[at..at + set.len()].copy_from_slice(set);
    }

    /// Frees the place of a set of N words.
    pub fn free(&mut self, place: u32, len: usize) {
        if place != EMPTY {
            self.leave(place as usize, len);
        }
    }
}

/// Where a set of N words begins, from a word on: there, or if it would lie across two lines and fits in
/// one, with the next.
fn start(from: usize, len: usize) -> usize {
    if len <= LINE && from % LINE + len > LINE {
        from.next_multiple_of(LINE)
    } else {
        from
    }
}

/// Whether the fast path answers a question of this type with a set, but for its length: see
/// [`geodns_common::respond::set_from`].
pub fn answers(set: &[u64], qtype: Rtype) -> bool {
    let Some((&head, rest)) = set.split_first() else {
        return false;
    };
    let head = Set(head);
    let listed = rest.iter().take(head.types() as usize);
    let mut listed = listed.map(|&word| SetType(word));
    let first = listed.clone().next();
    match listed.find(|listed| listed.rtype() == qtype.to_int()) {
        Some(found) => found.octets() > 0,
        None if head.0 & Set::MORE != 0 => false,
        None if head.0 & Set::CNAME != 0 => first.is_some_and(|cname| cname.octets() > 0),
        None => true,
    }
}

/// The set of a node: its records, with the pool that has its addresses. `is_ours` says whether a CNAME's
/// target is in one of our zones: then the slow path goes on there.
pub fn render(node: Node<'_>, is_ours: impl Fn(&[u8]) -> bool) -> Vec<u64> {
    let mut head = match node.steer() {
        Some(pool) => Set::POOL | (pool as u64) << 32,
        None => 0,
    };
    let rrsets: Vec<RrSet<'_>> = node.rrsets().collect();
    // Signatures are several RRsets of one type, which are asked for together.
    let mut types: Vec<&[RrSet<'_>]> = rrsets
        .chunk_by(|one, next| one.rtype == next.rtype)
        .collect();
    if let Some(at) = types.iter().position(|of| of[0].rtype == Rtype::CNAME) {
        // First, where it is looked for.
        types[..=at].rotate_right(1);
        head |= match is_ours(types[0][0].first()) {
            true => Set::MORE,
            false => Set::CNAME,
        };
    }
    if types.len() > Set::MAX_TYPES as usize {
        types.truncate(Set::MAX_TYPES as usize);
        head |= Set::MORE;
    }
    let owner = node.name().as_slice();
    let mut rendered: Vec<[Records; 2]> = types.iter().map(|of| Records::of(of, owner)).collect();
    let words = |rendered: &[[Records; 2]]| -> usize {
        1 + rendered.len() + rendered.iter().map(words).sum::<usize>()
    };
    // What is too much for a page goes the slow path, the longest first.
    while words(&rendered) > SHELF_WORDS {
        match rendered
            .iter_mut()
            .max_by_key(|records| self::words(records))
        {
            Some(longest) => *longest = Default::default(),
            None => break,
        }
    }
    let mut set = vec![head | types.len() as u64];
    let mut start = 1 + types.len();
    // Those that are more than 16 bits can count are too long as well.
    let count = |of: &[RrSet<'_>]| of.iter().flat_map(|rrset| rrset.rdata()).count() as u16;
    for (of, records) in types.iter().zip(&rendered) {
        let [first, other] = records;
        let listed = first.listed(of[0].rtype, count(of), start);
        set.push(match other.is_there() {
            true => listed.with_other().0,
            false => listed.0,
        });
        start += self::words(records);
    }
    for (of, [first, other]) in types.iter().zip(&rendered) {
        first.put(&mut set);
        if other.is_there() {
            let start = set.len() + 1;
            set.push(other.listed(of[0].rtype, count(of), start).0);
            other.put(&mut set);
        }
    }
    set
}

/// Words of the records of an RRset on a shelf, with those for questions with upper-case letters.
fn words([first, other]: &[Records; 2]) -> usize {
    first.words()
        + match other.is_there() {
            true => 1 + other.words(),
            false => 0,
        }
}

/// The records of an RRset, rendered.
#[derive(Debug, Default, PartialEq)]
struct Records {
    octets: Vec<u8>,
    /// They are more than the fast path copies.
    is_too_long: bool,
    /// Where pointers stand that lack the octets of the question's name.
    pointers: Vec<u16>,
}

impl Records {
    /// Those of a type and an owner; none if they are more than the fast path copies. And those for questions with upper-case
    /// letters, if they are others.
    fn of(rrsets: &[RrSet<'_>], owner: &[u8]) -> [Self; 2] {
        let most = SetType::MAX_OCTETS as usize;
        let records = || rrsets.iter().flat_map(|rrset| rrset.records());
        if rrsets
            .iter()
            .all(|rrset| !compress::has_names(rrset.rtype.to_int()))
        {
            let mut octets = Vec::new();
            for Record { rtype, rdata, ttl } in records() {
                put_owned(&mut octets, rtype.to_int(), ttl, rdata);
                if octets.len() > most {
                    return Default::default();
                }
            }
            let records = Self {
                octets,
                pointers: Vec::new(),
                is_too_long: false,
            };
            return [records, Self::default()];
        }
        // A question that a wildcard answers ends in the name above it.
        let encloser = compress::encloser(owner);
        let name = encloser.unwrap_or(owner);
        let render = |mut rendering: Rendering| {
            for Record { rtype, rdata, ttl } in records() {
                rendering.put(rtype.to_int(), ttl, rdata);
                if rendering.octets().len() > most {
                    return Self {
                        is_too_long: true,
                        ..Self::default()
                    };
                }
            }
            if encloser.is_some() {
                rendering.detach();
            }
            Self {
                octets: rendering.octets().to_vec(),
                pointers: match encloser {
                    Some(_) => rendering.pointers().map(|(at, _)| at).collect(),
                    None => Vec::new(),
                },
                is_too_long: false,
            }
        };
        let first = render(Rendering::behind(name));
        let other = render(Rendering::apart_from(name));
        if first.is_too_long {
            return Default::default();
        }
        match first == other {
            true => [first, Self::default()],
            false => [first, other],
        }
    }

    /// Whether there are any, be they for the slow path.
    fn is_there(&self) -> bool {
        self.is_too_long || !self.octets.is_empty()
    }

    /// The entry of a set for records of a type.
    fn listed(&self, rtype: Rtype, count: u16, start: usize) -> SetType {
        let listed = SetType::new(
            rtype.to_int(),
            count,
            self.octets.len() as u16,
            start as u16,
        );
        listed.with_pointers(self.pointers.len() as u16)
    }

    /// Appends them to a set.
    fn put(&self, set: &mut Vec<u64>) {
        set.extend(self.octets.chunks(8).map(|octets| {
            let mut word = [0; 8];
            word[..octets.len()].copy_from_slice(octets);
            u64::from_ne_bytes(word)
        }));
        set.extend(self.pointers.chunks(4).map(|four| {
            let places = four.iter().enumerate();
            places.fold(0, |word, (place, &at)| word | u64::from(at) << (16 * place))
        }));
    }

    /// Words of them on a shelf.
    fn words(&self) -> usize {
        self.octets.len().div_ceil(8) + self.pointers.len().div_ceil(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::parse_name;
    use crate::zone::Zone;

    /// The set of a node with RRsets: types, each with a TTL and the octets of its RDATA; and a pool.
    fn set_of(rrsets: &[(u16, u32, &[usize])], pool: Option<usize>, ours: bool) -> Vec<u64> {
        let name = parse_name("a.example").unwrap();
        let name = name.for_slice();
        let mut zone = Zone::empty(parse_name("example").unwrap());
        let rdata: Vec<Vec<u8>> = (0..=9).map(|first| vec![first; 500]).collect();
        let records = rrsets.iter().flat_map(|&(rtype, ttl, lens)| {
            lens.iter().zip(&rdata).map(move |(&len, rdata)| Record {
                rtype: Rtype::from_int(rtype),
                rdata: &rdata[..len],
                ttl,
            })
        });
        zone.set(name, &mut records.collect::<Vec<_>>()).unwrap();
        if let Some(pool) = pool {
            zone.set_pool(name, pool).unwrap();
        }
        render(zone.node(name).unwrap(), |_| ours)
    }

    fn listed(set: &[u64]) -> Vec<SetType> {
        let types = Set(set[0]).types() as usize;
        set[1..=types].iter().map(|&word| SetType(word)).collect()
    }

    #[test]
    fn a_set_is_its_types_and_their_finished_records() {
        let set = set_of(&[(1, 60, &[4, 4]), (16, 7, &[3])], None, false);
        assert_eq!(set[0], 2);
        assert_eq!(
            listed(&set),
            [SetType::new(1, 2, 32, 3), SetType::new(16, 1, 15, 7)]
        );
        let octets: &[u8] = bytemuck::cast_slice(&set[3..]);
        let a = |n| [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, n, n, n, n];
        assert_eq!(octets[..32], [a(0), a(1)].concat());
        assert_eq!(
            octets[32..],
            [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 7, 0, 3, 0, 0, 0, 0]
        );
    }

    #[test]
    fn what_is_too_long_is_listed_without_its_records() {
        // 12 octets stand before each RDATA.
        let set = set_of(
            &[(1, 60, &[4]), (16, 7, &[468]), (99, 7, &[469])],
            None,
            false,
        );
        let octets: Vec<_> = listed(&set).iter().map(|listed| listed.octets()).collect();
        assert_eq!(octets, [16, 480, 0]);
        // A page holds eight of the longest, and what else there is.
        let long: &[usize] = &[400];
        let rrsets: Vec<_> = (0..12).map(|at| (16 + at, 7, long)).collect();
        let set = set_of(&rrsets, None, false);
        assert!(set.len() <= SHELF_WORDS);
        let full = listed(&set)
            .iter()
            .filter(|listed| listed.octets() > 0)
            .count();
        assert_eq!((Set(set[0]).types(), full), (12, 9));
    }

    #[test]
    fn more_types_than_are_listed_are_marked() {
        for (count, head) in [(15, 15), (16, 15 | Set::MORE)] {
            let rrsets: Vec<_> = (0..count).map(|at| (16 + at, 7, &[1][..])).collect();
            assert_eq!(set_of(&rrsets, None, false)[0], head);
        }
    }

    #[test]
    fn a_cname_answers_for_every_type_unless_it_is_followed() {
        for (ours, head) in [(false, 2 | Set::CNAME), (true, 2 | Set::MORE)] {
            let set = set_of(&[(1, 60, &[4]), (5, 60, &[9])], None, ours);
            assert_eq!((set[0], SetType(set[1]).rtype()), (head, 5));
        }
    }

    #[test]
    fn signatures_of_several_types_are_one_list_and_keep_their_ttls() {
        let name = parse_name("a.example").unwrap();
        let mut zone = Zone::empty(parse_name("example").unwrap());
        let of = |rdata, ttl| Record {
            rtype: Rtype::RRSIG,
            rdata,
            ttl,
        };
        let mut records = [of(&[0, 2, 9], 7), of(&[0, 1, 9], 60)];
        zone.set(name.for_slice(), &mut records).unwrap();
        let set = render(zone.node(name.for_slice()).unwrap(), |_| false);
        assert_eq!(listed(&set), [SetType::new(46, 2, 30, 2)]);
        let octets: &[u8] = bytemuck::cast_slice(&set[2..]);
        let ttls = [octets[9], octets[15 + 9]];
        assert_eq!(ttls, [60, 7]);
    }

    #[test]
    fn a_pool_stands_beside_records() {
        let head = Set(set_of(&[(16, 60, &[4])], Some(7), false)[0]);
        assert_eq!(
            (head.0 & Set::POOL, head.pool(), head.types()),
            (Set::POOL, 7, 1)
        );
    }

    #[test]
    fn a_small_set_is_in_one_line_wherever_it_is_put() {
        let mut shelves = Shelves::default();
        let mut kept = Vec::new();
        for number in 1..20_000usize {
            let len = 2 + number * number % 13;
            let place = shelves.put(&vec![number as u64; len]).unwrap() as usize;
            assert!(
                len > LINE || place / LINE == (place + len - 1) / LINE,
                "{len} words at {place}"
            );
            kept.push((place, len));
            // Places that were in use are used again.
            if number % 3 == 0 {
                let (place, len) = kept.swap_remove(number * 31 % kept.len());
                shelves.free(place as u32, len);
            }
        }
        kept.sort_unstable();
        assert!(kept.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
        // What is left free before one is taken by a smaller one.
        let used: usize = kept.iter().map(|(_, len)| len).sum();
        let words = shelves.pages.len() * SHELF_WORDS;
        assert!(words * 100 < used * 115, "{words} for {used}");
    }

    #[test]
    fn no_set_crosses_a_page_and_none_is_over_another() {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.put(&[0]).unwrap(), EMPTY);
        let mut placed = Vec::new();
        for number in 1..2000u64 {
            let len = 1 + number as usize * 37 % SHELF_WORDS;
            let set = vec![number; len];
            placed.push((shelves.put(&set).unwrap() as usize, set));
        }
        let words = shelves.pages.as_flattened();
        for (place, set) in &placed {
            assert_eq!(place / SHELF_WORDS, (place + set.len() - 1) / SHELF_WORDS);
            assert_eq!(words[*place..*place + set.len()], set[..]);
        }
        assert_eq!(words[EMPTY as usize], 0);
        let used: usize = placed.iter().map(|(_, set)| set.len()).sum();
        assert!(words.len() < used * 6 / 5, "{} for {used}", words.len());
    }
}
