//! Instructions that the verifier walks: its budget is a million for each program.

use std::path::Path;

use anyhow::Result;
use geodns_tests::real;
use geodns_tests::rig::{Responder, verified};

use crate::figure::{Figure, Goal};

/// Instructions that no program may need more of.
const LIMIT: f64 = 400_000.0;

/// Loads every program, and gives its count.
pub fn run(list: Option<&Path>) -> Result<Vec<Figure>> {
    let world = real::compiled(list)?;
    let plan = world.plan.read().expect("not poisoned");
    let responder = Responder::load(&*plan, plan.capacity())?;
    let counts = verified(&responder, &*plan, plan.capacity())?;
    let figure = |(name, count): (String, u32)| {
        Figure::new("verifier", name, "instructions", vec![count.into()]).goal(Goal::Below(LIMIT))
    };
    Ok(counts.into_iter().map(figure).collect())
}
