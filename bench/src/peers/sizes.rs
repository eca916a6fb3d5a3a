//! The cost of an answer by the size of what is served: geodns alone, flooded from random sources beside a bare
//! reflector, with zones of more and more names and lists of more and more prefixes.

use std::time::Duration;

use anyhow::{Context, Result};
use geodns::world::World;
use geodns_tests::real;
use geodns_tests::rig::{Draw, Responder};

use super::load::flooded;
use super::servers::Role;
use super::world::List;
use crate::figure::quantile;
use crate::flood::Flood;
use crate::names;

/// The word for it, among those of the scenarios.
pub const ID: &str = "sizes";
/// Names of a zone: its server's alone, or powers of ten.
const NAMES: [usize; 4] = [1, 1_000, 100_000, 1_000_000];
/// Prefixes of a list; the whole list is the last.
const PREFIXES: [usize; 3] = [0, 1_000, 100_000];
/// How long each flood lasts.
const TIME: Duration = Duration::from_millis(500);

/// The size that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Names of a zone.
    Names,
    /// Prefixes of a list.
    Prefixes,
}

impl Of {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Names, Self::Prefixes];

    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Prefixes => "prefixes",
        }
    }
}

/// A question, and the size that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The size that grows.
    pub of: Of,
    /// How it is chosen.
    pub what: &'static str,
    draw: Draw,
}

/// All of them.
pub const QUESTIONS: [Question; 3] = [
    Question {
        of: Of::Names,
        what: "one of the zone's names, each as likely as the next",
        draw: Draw::Evenly,
    },
    Question {
        of: Of::Names,
        what: "one of the zone's names, drawn as resolvers do (Zipf)",
        draw: Draw::Zipf,
    },
    Question {
        of: Of::Prefixes,
        what: "a steered name",
        draw: Draw::Evenly,
    },
];

/// The cost of an answer at one size.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Which question.
    pub question: Question,
    /// How many names or prefixes there are.
    pub size: usize,
    /// Answers a second, one a round.
    pub rates: Vec<f64>,
    /// Nanoseconds that each takes more than a frame of the reflector, one a round.
    pub above: Vec<f64>,
}

impl Cost {
    /// The median of the answers a second.
    pub fn rate(&self) -> f64 {
        quantile(&self.rates, 0.5)
    }

    /// The median of the nanoseconds above the reflector.
    pub fn above(&self) -> f64 {
        quantile(&self.above, 0.5)
    }
}

/// The responder with N names or prefixes, and the name that it is asked for.
struct Loaded {
    of: Of,
    size: usize,
    name: String,
    responder: Responder,
}

/// Measures all of them in each round, after one that only warms up.
pub fn measure(list: &List, rounds: usize) -> Result<Vec<Cost>> {
    let mut flood = Flood::new(real::NAME)?;
    let mut loaded = load(&flood, list)?;
    let mut costs = Vec::new();
    for question in QUESTIONS {
        for one in loaded.iter().filter(|one| one.of == question.of) {
            costs.push(Cost {
                question,
                size: one.size,
                rates: Vec::new(),
                above: Vec::new(),
            });
        }
    }
    for round in 0..=rounds {
        for cost in &mut costs {
            let Cost { question, size, .. } = *cost;
            let one = loaded
                .iter_mut()
                .find(|one| (one.of, one.size) == (question.of, size));
            let one = one.context("it is loaded")?;
            flood.vary(&one.name, question.draw)?;
            let bare = |seen| Role::Reflector.counted(seen);
            let bare = flooded("the reflector", bare, || flood.reflector(TIME))?;
            let rate = flooded(
                "geodns",
                |seen| seen.answers,
                || flood.responder(&mut one.responder, TIME),
            )?;
            if round > 0 {
                cost.rates.push(rate);
                cost.above.push(1e9 / rate - 1e9 / bare);
            }
        }
    }
    Ok(costs)
}

fn load(flood: &Flood, list: &List) -> Result<Vec<Loaded>> {
    let mut loaded = Vec::new();
    let mut add = |of, size, name: String, world: &World| -> Result<()> {
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::load(&*plan, plan.capacity())?;
        flood.listen(&mut responder)?;
        loaded.push(Loaded {
            of,
            size,
            name,
            responder,
        });
        Ok(())
    };
    for size in NAMES {
        let (hosts, name) = match size {
            1 => (0, "ns.example.org".to_owned()),
            _ => (size, format!("h{}.example.org", &size.to_string()[1..])),
        };
        add(Of::Names, size, name, &names::compiled(hosts)?)?;
    }
    let folder = tempfile::tempdir()?;
    for size in PREFIXES.into_iter().chain([list.len()]) {
        let path = folder.path().join(format!("{size}.csv"));
        std::fs::write(&path, list.part(size))?;
        let world = real::compiled((size > 0).then_some(&*path))?;
        add(Of::Prefixes, size, real::NAME.to_owned(), &world)?;
    }
    Ok(loaded)
}
