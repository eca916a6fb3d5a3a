//! What the verifier walks: its budget is a million instructions a program.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Figure, Goal, world};
use crate::rig::{Responder, Rig};

/// Instructions that no program may need more of.
const LIMIT: f64 = 400_000.0;

/// Loads every program, and gives its count.
pub fn run(list: Option<&Path>) -> Result<Vec<Figure>> {
    let world = world::compiled(list)?;
    let plan = world.plan.read().expect("not poisoned");
    let responder = Responder::load(&*plan, plan.capacity())?;
    let logging = responder.another(&*plan, plan.capacity(), 1000)?;
    let mut counts = vec![
        (
            "geodns".to_owned(),
            responder.instance.verified_instructions(),
        ),
        (
            "geodns with --log-packets".to_owned(),
            logging.verified_instructions(),
        ),
    ];
    let mut rig = Rig::load()?;
    for name in rig.names() {
        let info = rig.program(&name)?.info()?;
        let count = info
            .verified_instruction_count()
            .context("this kernel does not say what it verified")?;
        counts.push((format!("rig: {name}"), count));
    }
    let figure = |(name, count): (String, u32)| {
        Figure::new("verifier", name, "instructions", vec![count.into()]).goal(Goal::Below(LIMIT))
    };
    Ok(counts.into_iter().map(figure).collect())
}
