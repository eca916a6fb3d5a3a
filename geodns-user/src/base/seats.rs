//! Seats for connections, and who loses one when there are too few. Pure: the clock is the caller's, and what
//! stands behind a seat is nobody's business here.
//!
//! The network that holds most loses a seat first, and of its connections the one that has been idle for longest.
//! A connection that is being answered loses its seat only when all idle ones are of networks that hold less than
//! an even share. So a network that holds less than an even share never loses any, whatever the others do.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// A seat that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

/// Seats, and who holds them. `T` stands for a connection.
#[derive(Debug)]
pub struct Seats<T> {
    limit: usize,
    held: HashMap<Number, Held<T>>,
    networks: HashMap<IpAddr, Network>,
    /// The networks with idle connections, by how many seats they hold.
    idle: BTreeSet<Rank>,
    /// The same of those with connections that are being answered.
    busy: BTreeSet<Rank>,
    next: u64,
}

/// A connection: of whom, and since when it is as it is.
#[derive(Debug)]
struct Held<T> {
    network: IpAddr,
    since: Instant,
    is_busy: bool,
    connection: T,
}

/// The connections of a network, the longest idle (or busy) one first.
#[derive(Debug, Default)]
struct Network {
    idle: BTreeSet<(Instant, Number)>,
    busy: BTreeSet<(Instant, Number)>,
}

impl Network {
    fn len(&self) -> usize {
        self.idle.len() + self.busy.len()
    }
}

/// The rank of a network, by the seats that it holds, then by time. The greatest loses a seat first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    holds: usize,
    longest: Reverse<(Instant, Number)>,
    network: IpAddr,
}

impl<T> Seats<T> {
    /// N seats, one at least; all of them are free.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            held: HashMap::new(),
            networks: HashMap::new(),
            idle: BTreeSet::new(),
            busy: BTreeSet::new(),
            next: 0,
        }
    }

    /// Whether more than half of the seats are taken.
    pub fn is_crowded(&self) -> bool {
        self.held.len() > self.limit / 2
    }

    /// Has N seats from here on, one at least. Gives the connections that have lost theirs.
    pub fn set_limit(&mut self, limit: usize) -> Vec<T> {
        self.limit = limit.max(1);
        self.shrink(self.limit)
    }

    /// Takes a seat for a client's connection, which is idle. Gives the connections that have lost theirs for it.
    pub fn take(&mut self, client: IpAddr, now: Instant, connection: T) -> (Number, Vec<T>) {
        let lost = self.shrink(self.limit - 1);
        let number = Number(self.next);
        self.next += 1;
        let network = network(client);
        self.held.insert(
            number,
            Held {
                network,
                since: now,
                is_busy: false,
                connection,
            },
        );
        self.change(network, |of| {
            of.idle.insert((now, number));
        });
        (number, lost)
    }

    /// A connection is idle from now on: it waits for its client. One that has lost its seat stays without.
    pub fn rest(&mut self, number: Number, now: Instant) {
        self.turn(number, now, false);
    }

    /// A connection is being answered from now on.
    pub fn work(&mut self, number: Number, now: Instant) {
        self.turn(number, now, true);
    }

    /// Gives a seat back, unless it was lost.
    pub fn leave(&mut self, number: Number) {
        self.remove(number);
    }

    fn turn(&mut self, number: Number, now: Instant, is_busy: bool) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        let network = held.network;
        let before = (held.since, number);
        (held.since, held.is_busy) = (now, is_busy);
        self.change(network, |of| {
            of.idle.remove(&before);
            of.busy.remove(&before);
            let among = if is_busy { &mut of.busy } else { &mut of.idle };
            among.insert((now, number));
        });
    }

    fn remove(&mut self, number: Number) -> Option<T> {
        let held = self.held.remove(&number)?;
        self.change(held.network, |of| {
            let among = match held.is_busy {
                true => &mut of.busy,
                false => &mut of.idle,
            };
            among.remove(&(held.since, number));
        });
        Some(held.connection)
    }

    /// Leaves N connections, at the most. Gives those that have lost their seats.
    fn shrink(&mut self, len: usize) -> Vec<T> {
        let mut lost = Vec::new();
        while self.held.len() > len
            && let Some(number) = self.victim()
            && let Some(connection) = self.remove(number)
        {
            lost.push(connection);
        }
        lost
    }

    /// The connection that loses its seat next.
    fn victim(&self) -> Option<Number> {
        let idle = self.idle.last();
        // At least an even share, of those that hold seats.
        let idle = idle.filter(|rank| rank.holds * self.networks.len() >= self.held.len());
        let rank = idle.or_else(|| self.busy.last())?;
        Some(rank.longest.0.1)
    }

    /// Changes what a network holds, and its ranks with it.
    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut Network)) {
        let of = self.networks.entry(network).or_default();
        for (ranks, rank) in [
            (&mut self.idle, Rank::of(network, of, &of.idle)),
            (&mut self.busy, Rank::of(network, of, &of.busy)),
        ] {
            if let Some(rank) = rank {
                ranks.remove(&rank);
            }
        }
        change(of);
        self.idle.extend(Rank::of(network, of, &of.idle));
        self.busy.extend(Rank::of(network, of, &of.busy));
        if of.len() == 0 {
            self.networks.remove(&network);
        }
    }
}

impl Rank {
    /// The rank of a network by these of its connections; `None`: it has none of them.
    fn of(network: IpAddr, of: &Network, among: &BTreeSet<(Instant, Number)>) -> Option<Self> {
        Some(Self {
            holds: of.len(),
            longest: Reverse(*among.first()?),
            network,
        })
    }
}

/// The network whose connections are counted together: /24 or /56.
pub fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & !0xff).into()),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - 56);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn client(network: u8, host: u8) -> IpAddr {
        IpAddr::from([192, 0, network, host])
    }

    /// An event of the test below.
    #[derive(Clone, Debug)]
    enum Event {
        /// A client comes.
        Take(u8),
        /// One of those that are there, by its seat among them, is answered, rests, or goes.
        Work(prop::sample::Index),
        Rest(prop::sample::Index),
        Leave(prop::sample::Index),
        Limit(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            // Some networks ask for more than others.
            8 => prop_oneof![Just(0u8), Just(1), 0..12u8].prop_map(Event::Take),
            3 => index().prop_map(Event::Work),
            3 => index().prop_map(Event::Rest),
            2 => index().prop_map(Event::Leave),
            1 => (0..20usize).prop_map(Event::Limit),
        ]
    }

    /// A connection as the model has it.
    #[derive(Clone, Copy, Debug)]
    struct Open {
        number: Number,
        network: u8,
        since: Instant,
        is_busy: bool,
    }

    fn holds(open: &[Open], network: u8) -> usize {
        open.iter().filter(|of| of.network == network).count()
    }

    /// Whether it was right that this one lost its seat.
    fn judge(open: &[Open], lost: &Open) {
        let networks: BTreeSet<u8> = open.iter().map(|of| of.network).collect();
        let even = |network| holds(open, network) * networks.len() >= open.len();
        assert!(even(lost.network), "{lost:?} holds less than an even share");
        let mut rivals: Vec<&Open> = open.iter().filter(|of| !of.is_busy).collect();
        rivals.retain(|of| even(of.network));
        if rivals.is_empty() {
            rivals = open.iter().filter(|of| of.is_busy).collect();
        }
        let first = |of: &&Open| (Reverse(holds(open, of.network)), of.since, of.number);
        rivals.sort_by_key(first);
        assert_eq!(rivals.first().map(|of| of.number), Some(lost.number));
    }

    proptest! {
        #[test]
        fn the_longest_idle_of_whoever_holds_most_loses_its_place(
            events in prop::collection::vec(event(), 1..200),
            steps in prop::collection::vec(0..2u64, 200),
        ) {
            let mut limit = 8;
            let mut seats = Seats::new(limit);
            let mut open: Vec<Open> = Vec::new();
            let mut now = Instant::now();
            for (event, step) in events.into_iter().zip(steps) {
                // Some things happen at the same moment.
                now += Duration::from_millis(step);
                let lost = match event {
                    Event::Take(network) => {
                        let id = seats.next;
                        let (number, lost) = seats.take(client(network, id as u8), now, id);
                        for id in &lost {
                            let at = open.iter().position(|of| of.number.0 == *id).unwrap();
                            judge(&open, &open[at]);
                            open.remove(at);
                        }
                        open.push(Open { number, network, since: now, is_busy: false });
                        Vec::new()
                    }
                    Event::Limit(to) => {
                        limit = to.max(1);
                        seats.set_limit(to)
                    }
                    Event::Work(index) | Event::Rest(index) if !open.is_empty() => {
                        let of = index.get(&open).number;
                        let is_busy = matches!(event, Event::Work(_));
                        match is_busy {
                            true => seats.work(of, now),
                            false => seats.rest(of, now),
                        }
                        let of = open.iter_mut().find(|open| open.number == of).unwrap();
                        (of.since, of.is_busy) = (now, is_busy);
                        Vec::new()
                    }
                    Event::Leave(index) if !open.is_empty() => {
                        let of = open.remove(index.index(open.len()));
                        seats.leave(of.number);
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                for id in lost {
                    let at = open.iter().position(|of| of.number.0 == id).unwrap();
                    judge(&open, &open[at]);
                    open.remove(at);
                }
                prop_assert!(open.len() <= limit);
                prop_assert_eq!(seats.held.len(), open.len());
                prop_assert_eq!(seats.is_crowded(), open.len() > limit / 2);
                let networks: BTreeSet<u8> = open.iter().map(|of| of.network).collect();
                prop_assert_eq!(seats.networks.len(), networks.len());
            }
            for of in open {
                seats.leave(of.number);
            }
            prop_assert!(seats.held.is_empty() && seats.networks.is_empty());
            prop_assert!(seats.idle.is_empty() && seats.busy.is_empty());
        }
    }

    #[test]
    fn whoever_takes_all_places_pays_for_those_who_come() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seats = Seats::new(80);
        // Eight networks that hold all, and that are all being answered.
        for number in 0..80 {
            let (seat, lost) = seats.take(client(number as u8 % 8, 1), at(number), number);
            seats.work(seat, at(number));
            assert!(lost.is_empty());
        }
        // Twenty others come, and say nothing for now: none of them loses a seat for the next.
        for number in 80..100 {
            let (_, lost) = seats.take(client(number as u8, 1), at(number), number);
            assert!(lost.len() == 1 && lost[0] < 80, "{lost:?}");
        }
        // And the eight come back.
        for number in 100..1000 {
            let (seat, lost) = seats.take(client(number as u8 % 8, 1), at(number), number);
            seats.work(seat, at(number));
            assert!(lost.len() == 1 && !(80..100).contains(&lost[0]), "{lost:?}");
        }
    }

    #[test]
    fn networks_are_24_and_56_bits() {
        for (a, b, same) in [
            ("192.0.2.1", "192.0.2.200", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("2001:db8:0:ff::1", "2001:db8::1", true),
            ("2001:db8:0:100::1", "2001:db8::1", false),
        ] {
            let of = |text: &str| network(text.parse().unwrap());
            assert_eq!(of(a) == of(b), same, "{a} {b}");
        }
    }
}
