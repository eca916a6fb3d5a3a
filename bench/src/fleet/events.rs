//! Events at our own nodes.

use std::time::Instant;

use anyhow::{Context, Result};
use geodns_tests::sites::asker::Asker;
use geodns_tests::sites::routing::{Detection, Kind};
use geodns_tests::sites::{V4, V6};
use nix::sys::signal::Signal;

use super::world::{COUNT, World, pass};
use super::{BEFORE, Course, RATE, milliseconds};
use crate::figure::{Figure, Goal, Results};

/// Something that is done to the world.
type Act = fn(&mut World) -> Result<()>;

/// An event at site 1, and the way back.
struct Event {
    name: &'static str,
    /// The most milliseconds until clients move.
    within: f64,
    /// Whether no query may be lost.
    lossless: bool,
    /// How long to go on asking, in seconds.
    lasts: f64,
    happen: Act,
    mend: Act,
}

const SILENCE: Event = Event {
    name: "a node falls silent, BFD of 3 x 100 ms",
    within: 400.0,
    lossless: false,
    lasts: 1.5,
    happen: |world| world.sites.silence(1),
    mend: |world| world.sites.join(1),
};

const SILENCE_UNNOTICED: Event = Event {
    name: "a node falls silent, BGP hold time of 3 s",
    within: 3000.0,
    lasts: 4.5,
    ..SILENCE
};

const KILLED: Event = Event {
    name: "the daemon is killed",
    within: 100.0,
    lossless: true,
    lasts: 1.5,
    happen: |world| world.daemon(1).crash(),
    mend: |world| world.again(1),
};

const DRAINED: Event = Event {
    name: "the operator drains the node",
    within: 100.0,
    lossless: true,
    lasts: 2.0,
    happen: |world| world.daemon(1).ok("announce drain").map(drop),
    mend: |world| world.daemon(1).ok("announce up").map(drop),
};

const WITHDRAWN: Event = Event {
    name: "the operator withdraws the node",
    happen: |world| world.daemon(1).ok("announce withdraw --force").map(drop),
    ..DRAINED
};

const EVENTS: [Event; 8] = [
    SILENCE,
    KILLED,
    Event {
        name: "the process that holds the device is killed",
        happen: |world| world.kill_holder(1),
        mend: |_| Ok(()),
        ..KILLED
    },
    Event {
        name: "the daemon hangs",
        within: 1000.0,
        lossless: true,
        lasts: 2.5,
        happen: |world| world.daemon(1).signal(Signal::SIGSTOP),
        mend: |world| world.daemon(1).signal(Signal::SIGCONT),
    },
    DRAINED,
    WITHDRAWN,
    Event {
        name: "the daemon is stopped",
        within: 200.0,
        lossless: true,
        lasts: 1.0,
        happen: |world| world.daemon(1).stop(),
        mend: |world| world.again(1),
    },
    Event {
        name: "the daemon is restarted",
        within: 200.0,
        lossless: true,
        lasts: 2.0,
        happen: |world| {
            world.daemon(1).stop()?;
            world.again(1)
        },
        mend: |_| Ok(()),
    },
];

/// The same where FRR carries the routes, which takes its own time to read and to tell them.
const BY_FRR: [Event; 3] = [
    Event {
        name: "FRR: the daemon is killed",
        ..KILLED
    },
    Event {
        name: "FRR: the operator drains the node",
        ..DRAINED
    },
    Event {
        name: "FRR: the operator withdraws the node",
        ..WITHDRAWN
    },
];

/// Events that hit all sites at once, and the way back.
const ALL: [(&str, Act, Act); 2] = [
    (
        "all daemons are killed at once",
        |world| (1..=COUNT).try_for_each(|number| world.daemon(number).crash()),
        |world| (1..=COUNT).try_for_each(|number| world.again(number)),
    ),
    (
        "all daemons hang at once",
        |world| world.signal_all(Signal::SIGSTOP),
        |world| world.signal_all(Signal::SIGCONT),
    ),
];

/// Measures all events.
pub fn run(rounds: usize, results: &mut Results) {
    let (bfd, hold) = ((Detection::Bfd, Kind::Bird), (Detection::Hold, Kind::Bird));
    let mut world = None;
    let mut take = |of, name: &str, act: &dyn Fn(&mut World) -> Result<Vec<Figure>>| {
        let name = format!("fleet: {name}");
        results.take(&name, || within(&mut world, of, act));
    };
    for event in &EVENTS {
        take(bfd, event.name, &|world| measure(world, event, rounds));
    }
    for (name, happen, mend) in ALL {
        take(bfd, name, &|world| all(world, name, happen, mend, rounds));
    }
    for event in &BY_FRR {
        take((Detection::Bfd, Kind::Frr), event.name, &|world| {
            measure(world, event, rounds)
        });
    }
    let event = &SILENCE_UNNOTICED;
    take(hold, event.name, &|world| measure(world, event, rounds));
}

/// Measures in the world that stands. Where there is none of this kind, or a measurement has failed in it, a new one is
/// made.
fn within(
    stands: &mut Option<World>,
    (detection, kind): (Detection, Kind),
    measure: impl FnOnce(&mut World) -> Result<Vec<Figure>>,
) -> Result<Vec<Figure>> {
    let is_it = |world: &World| world.is(detection, kind);
    let mut world = match stands.take().filter(is_it) {
        Some(world) => world,
        None => World::new(detection, kind)?,
    };
    let figures = measure(&mut world)?;
    *stands = Some(world);
    Ok(figures)
}

/// The address that a round asks at: both families in turn.
fn address(round: usize) -> &'static str {
    [V4, V6][round % 2]
}

fn measure(world: &mut World, event: &Event, rounds: usize) -> Result<Vec<Figure>> {
    let mut course = Course::new(event.name).within(event.within);
    if event.lossless {
        course = course.lossless();
    }
    for round in 0..rounds {
        world.sites.settle()?;
        let asker = Asker::start(&world.site(1).client, address(round), RATE)?;
        std::thread::sleep(BEFORE);
        let at = Instant::now();
        (event.happen)(world).with_context(|| event.name.to_owned())?;
        pass(event.lasts);
        let seen = asker.finish()?;
        let moved = seen.moved_from(1, at);
        let moved = moved.with_context(|| format!("{}: nobody moved", event.name));
        course.moved.rounds.push(milliseconds(moved?));
        course
            .lost
            .rounds
            .push((seen.lost() + seen.errors()) as f64);
        (event.mend)(world)?;
    }
    world.sites.settle()?;
    Ok(course.figures())
}

/// Every site is hit at once: each client goes on being answered by its own kernel, since nobody withdraws.
fn all(
    world: &mut World,
    name: &str,
    happen: Act,
    mend: Act,
    rounds: usize,
) -> Result<Vec<Figure>> {
    let mut lost =
        Figure::new("fleet", format!("{name}: lost"), "queries", Vec::new()).goal(Goal::Below(1.0));
    for round in 0..rounds {
        world.sites.settle()?;
        let sites = world.sites.sites.iter();
        let askers = sites.map(|site| Asker::start(&site.client, address(round), RATE / 4));
        let askers = askers.collect::<Result<Vec<_>>>()?;
        std::thread::sleep(BEFORE);
        happen(world)?;
        pass(3.0);
        let mut count = 0;
        for asker in askers {
            let seen = asker.finish()?;
            count += seen.lost() + seen.errors();
        }
        lost.rounds.push(count as f64);
        let own: Vec<_> = (1..=COUNT).map(Some).collect();
        world.sites.wait_for(&own).context("somebody withdrew")?;
        mend(world)?;
    }
    world.sites.settle()?;
    Ok(vec![lost])
}
