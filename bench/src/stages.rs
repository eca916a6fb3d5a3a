//! The cost of each stage of the fast path, without a network. For each stage the program is loaded once, set to give
//! packets up after it, and timed as in [`cost`]. A stage costs the difference to the stage before. Where the answer is
//! longer than the query, `grow` includes cutting the frame for the next query, which takes about as long.

use std::path::Path;

use anyhow::Result;
use geodns::kernel::stub::Build;
use geodns_common::abi::{Settings, Stage};
use geodns_common::tables::Tables;
use geodns_tests::dns::{A, COOKIE, Query};
use geodns_tests::packet::{Frame, SERVER_MAC};
use geodns_tests::real;
use geodns_tests::rig::{Responder, Rig, With};

use crate::cost;
use crate::figure::{Figure, quantile};

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "20.1.2.3";
/// The interface that frames of a test run come from.
const LO: u32 = 1;
/// Packets of a window, a few milliseconds: whatever else the machine does hits some windows and leaves others.
const REPEAT: u32 = 10_000;
/// Windows of a round, of which the tenth part that is fastest counts.
const WINDOWS: usize = 40;

/// Times every stage for some questions.
pub fn run(list: Option<&Path>, rounds: usize) -> Result<Vec<Figure>> {
    let world = real::compiled(list)?;
    let plan = world.plan.read().expect("not poisoned");
    let mut responder = Responder::load(&*plan, plan.capacity())?;
    responder.listen(&[(SERVER.parse()?, LO, SERVER_MAC)])?;
    let mut rig = Rig::load()?;
    let mut programs = vec![rig.program("pass")?.fd()?.try_clone()?];
    let mut instances = Vec::new();
    for stage in Stage::ALL {
        let settings = Settings {
            stop: stage as u32,
            ..*plan.settings()
        };
        let mut instance =
            responder.another(&With::settings(&*plan, settings), plan.capacity(), 0)?;
        programs.push(instance.program(Build::Plain)?.fd()?.try_clone()?);
        instances.push(instance);
    }
    let questions = [
        ("A of a pool", Query::new(real::NAME, A)),
        (
            "A of a pool, EDNS and a client subnet",
            Query::new(real::NAME, A).subnet(1, 24, 0, &[20, 2, 3]),
        ),
        (
            "A of a pool, EDNS and an option",
            Query::new(real::NAME, A).option(COOKIE, &[7; 24]),
        ),
        ("A of a zone file", Query::new("mail.example.org", A)),
        ("NXDOMAIN", Query::new("none.example.org", A)),
    ];
    let mut figures = Vec::new();
    for (what, query) in questions {
        let frame = Frame::new(CLIENT, SERVER, query.bytes());
        let frame = frame.bytes();
        rig.set_template(&frame)?;
        let mut times = vec![Vec::new(); Stage::ALL.len() + 1];
        for _ in 0..rounds {
            let mut windows = vec![Vec::new(); programs.len()];
            for _ in 0..WINDOWS {
                for (program, windows) in programs.iter().zip(&mut windows) {
                    responder.heartbeat.beat();
                    windows.push(cost::time(&mut rig, program, &frame, REPEAT)?);
                }
            }
            let fastest: Vec<f64> = windows.iter().map(|of| quantile(of, 0.1)).collect();
            for (times, pair) in times.iter_mut().zip(fastest.windows(2)) {
                times.push(pair[1] - pair[0]);
            }
            let (first, last) = (fastest[0], fastest[fastest.len() - 1]);
            times[Stage::ALL.len()].push(last - first);
        }
        let names =
            Stage::ALL.map(|stage| format!("{what}: {}", format!("{stage:?}").to_lowercase()));
        let names = names.into_iter().chain([format!("{what}: all")]);
        figures.extend(
            names
                .zip(times)
                .map(|(name, times)| Figure::new("stages", name, "ns", times)),
        );
    }
    Ok(figures)
}
