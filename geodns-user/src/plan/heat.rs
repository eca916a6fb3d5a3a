//! Which names are worth a place in the name table, of those that were not put there from the start: what is
//! asked most is promoted, and what cools gives its place up.
//!
//! A name's heat is how often it is asked in a second, of late. The slow path knows it of names that are not
//! in the table, the program of those that are; neither counts beyond [`MOST`] in a turn.
//!
//! Pure: time passes by turns, of a second each.

use std::collections::HashMap;

use domain::base::{Name, Rtype};

/// Promoted names, at the most. Each is looked at in each turn.
pub const PLACES: usize = 65_536;
/// Names that are watched beside them.
const WATCHED: usize = 16_384;
/// Names that are promoted in a turn, at the most.
const MOVES: usize = 4096;

/// Largest count of a name in a turn, which fits in an octet.
pub const MOST: u32 = 255;
/// Share of an old heat that remains after a turn: half of it after seven.
const REMAINS: f32 = 0.9;
/// From this heat on a name is promoted, if there is room: asked five times in a second, or once in each
/// second for seven.
const HOT: f32 = 0.5;
/// Below it, a promoted name gives its place up: it was not asked for half a minute or more.
const COLD: f32 = 0.02;
/// If there is no room, a name takes the place of one that is so much colder: two that are alike would change
/// places for ever.
const COLDER: f32 = 2.0;

/// A name that was asked for in the slow path, and would have been answered by the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name on the wire, in lower case.
    pub name: Box<[u8]>,
    /// A type that was asked for.
    pub qtype: Rtype,
    /// How often, in this turn.
    pub count: u32,
}

/// The heat of names.
#[derive(Debug, Default)]
pub struct Heat {
    names: HashMap<Box<[u8]>, Known>,
}

/// State of a name.
#[derive(Clone, Copy, Debug)]
struct Known {
    heat: f32,
    qtype: Rtype,
    promoted: bool,
}

/// Moves of a turn. Names are taken out before others are put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Names that give their places up.
    pub demote: Vec<Box<[u8]>>,
    /// Names to promote, the hottest first; and a type that is asked for there.
    pub promote: Vec<(Box<[u8]>, Rtype)>,
}

impl Heat {
    /// Promoted names.
    pub fn promoted(&self) -> usize {
        self.names.values().filter(|known| known.promoted).count()
    }

    /// Forgets which names are promoted, as in a new table, and not how hot they are.
    pub fn forget_places(&mut self) {
        for known in self.names.values_mut() {
            known.promoted = false;
        }
    }

    /// A turn: `asked` in the slow path; `answered` by the program, for each promoted name (`None`: it is not
    /// in the table any more); and `room` for N names.
    pub fn turn(
        &mut self,
        asked: Vec<Asked>,
        mut answered: impl FnMut(&Name<[u8]>) -> Option<u32>,
        room: usize,
    ) -> Moves {
        let mut counts = HashMap::new();
        for asked in asked {
            let known = self.names.entry(asked.name.clone()).or_insert(Known {
                heat: 0.0,
                qtype: asked.qtype,
                promoted: false,
            });
            known.qtype = asked.qtype;
            *counts.entry(asked.name).or_insert(0u32) += asked.count;
        }
        for (name, known) in &mut self.names {
            let mut count = counts.get(name).copied().unwrap_or(0);
            if known.promoted {
                let answered = Name::from_slice(name).ok().and_then(&mut answered);
                known.promoted = answered.is_some();
                // What the slow path was asked on the side does not count: a place would not help it.
                count = answered.unwrap_or(count);
            }
            let count = count.min(MOST) as f32;
            known.heat = known.heat * REMAINS + count * (1.0 - REMAINS);
        }
        self.names
            .retain(|_, known| known.promoted || known.heat >= COLD);
        let moves = self.moves(room);
        self.forget_coldest();
        moves
    }

    fn moves(&self, room: usize) -> Moves {
        let mut moves = Moves::default();
        let mut places = Vec::new();
        let mut wanting = Vec::new();
        for (name, known) in &self.names {
            match known.promoted {
                true if known.heat < COLD => moves.demote.push(name.clone()),
                true => places.push((known.heat, name)),
                false if known.heat >= HOT => wanting.push((known.heat, name, known.qtype)),
                false => {}
            }
        }
        let room = (room + moves.demote.len()).min(PLACES.saturating_sub(places.len()));
        wanting.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        wanting.truncate(MOVES);
        if wanting.len() > room {
            places.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        }
        let mut colder = places.into_iter();
        for (place, (heat, name, qtype)) in wanting.into_iter().enumerate() {
            if place >= room {
                match colder.next() {
                    Some((its, other)) if its * COLDER < heat => moves.demote.push(other.clone()),
                    _ => break,
                }
            }
            moves.promote.push((name.clone(), qtype));
        }
        moves
    }

    /// Forgets names without a place that are too many to be watched.
    fn forget_coldest(&mut self) {
        let watched = self.names.values().filter(|known| !known.promoted);
        let mut heats: Vec<f32> = watched.map(|known| known.heat).collect();
        if heats.len() <= WATCHED {
            return;
        }
        let (_, least, _) =
            heats.select_nth_unstable_by(WATCHED, |one, other| other.total_cmp(one));
        let least = *least;
        self.names
            .retain(|_, known| known.promoted || known.heat > least);
    }

    /// A name has a place now.
    pub fn take_place(&mut self, name: &[u8]) {
        if let Some(known) = self.names.get_mut(name) {
            known.promoted = true;
        }
    }

    /// A name has no place any more, or can have none.
    pub fn forget(&mut self, name: &[u8]) {
        self.names.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(counts: &[(u8, u32)]) -> Vec<Asked> {
        let asked = counts.iter().map(|&(name, count)| Asked {
            name: wire(name),
            qtype: Rtype::A,
            count,
        });
        asked.collect()
    }

    fn wire(name: u8) -> Box<[u8]> {
        Box::new([1, name, 0])
    }

    /// A turn, and its moves made. Gives who went and who came.
    fn turn(
        heat: &mut Heat,
        in_slow_path: &[(u8, u32)],
        in_kernel: &[(u8, u32)],
        room: usize,
    ) -> (Vec<u8>, Vec<u8>) {
        let answered = |name: &Name<[u8]>| {
            let name = name.as_slice()[1];
            let found = in_kernel.iter().find(|(at, _)| *at == name);
            Some(found.map_or(0, |(_, count)| *count))
        };
        let moves = heat.turn(asked(in_slow_path), answered, room);
        for name in &moves.demote {
            heat.forget(name);
        }
        for (name, _) in &moves.promote {
            heat.take_place(name);
        }
        let promoted = moves.promote.iter().map(|(name, _)| name[1]);
        (
            moves.demote.iter().map(|name| name[1]).collect(),
            promoted.collect(),
        )
    }

    #[test]
    fn what_is_asked_often_is_promoted_and_what_is_asked_no_more_goes() {
        let mut heat = Heat::default();
        let moves = turn(&mut heat, &[(b'a', 5), (b'b', 4), (b'c', 100)], &[], 10);
        assert_eq!(moves, (vec![], vec![b'c', b'a']));
        // Asked once in a while, it stays; asked no more, it goes.
        for _ in 0..100 {
            let moves = turn(&mut heat, &[], &[(b'a', 1)], 10);
            assert!(!moves.0.contains(&b'a'));
        }
        assert_eq!(heat.promoted(), 1);
        let turns = (0..100).take_while(|_| turn(&mut heat, &[], &[], 10).0.is_empty());
        let turns = turns.count();
        assert!((30..60).contains(&turns), "{turns}");
        assert_eq!((heat.promoted(), heat.names.len()), (0, 0));
    }

    #[test]
    fn a_name_asked_steadily_is_promoted_in_the_end() {
        let mut heat = Heat::default();
        let turns = (0..20).take_while(|_| turn(&mut heat, &[(b'a', 1)], &[], 1).1.is_empty());
        assert_eq!(turns.count(), 6);
    }

    #[test]
    fn without_room_the_hotter_takes_the_place_of_the_much_colder() {
        let mut heat = Heat::default();
        turn(&mut heat, &[(b'a', 10), (b'b', 20)], &[], 2);
        let in_kernel = [(b'a', 10), (b'b', 20)];
        // Hotter, and not by enough.
        for _ in 0..30 {
            let moves = turn(&mut heat, &[(b'c', 15)], &in_kernel, 0);
            assert_eq!(moves, (vec![], vec![]));
        }
        let mut turns = (0..30).map(|_| turn(&mut heat, &[(b'c', 60)], &in_kernel, 0));
        let moves = turns.find(|(_, promoted)| !promoted.is_empty());
        assert_eq!(moves, Some((vec![b'a'], vec![b'c'])));
    }

    #[test]
    fn the_hottest_are_alike() {
        let mut heat = Heat::default();
        turn(&mut heat, &[(b'a', 1_000_000)], &[], 1);
        for _ in 0..100 {
            let moves = turn(&mut heat, &[(b'b', 9_000_000)], &[(b'a', MOST)], 0);
            assert_eq!(moves, (vec![], vec![]));
        }
    }

    #[test]
    fn a_new_table_is_filled_again_at_once_and_what_left_it_is_known_to_have() {
        let mut heat = Heat::default();
        turn(&mut heat, &[(b'a', 50), (b'b', 50)], &[], 2);
        heat.forget_places();
        let (_, mut promoted) = turn(&mut heat, &[], &[], 2);
        promoted.sort_unstable();
        assert_eq!(promoted, [b'a', b'b']);
        heat.turn(Vec::new(), |_| None, 0);
        assert_eq!(heat.promoted(), 0);
    }

    #[test]
    fn no_more_names_are_watched_than_so_many() {
        let mut heat = Heat::default();
        for round in 0u32..3 {
            let asked = (0..WATCHED as u32).map(|number| {
                let [a, b, c, d] = (number + round * 10_000).to_be_bytes();
                Asked {
                    name: Box::new([4, a, b, c, d, 0]),
                    qtype: Rtype::A,
                    count: 1 + number % 7,
                }
            });
            heat.turn(asked.collect(), |_| None, 0);
            assert!(heat.names.len() <= WATCHED);
        }
        assert!(!heat.names.is_empty());
    }
}
