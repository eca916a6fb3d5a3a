//! The cost of one packet, without a network: the rig's `restore` puts the query back into the frame and calls the
//! program, a million times over. Without that, all runs but the first would get a response, which nobody answers.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use geodns::kernel::stub::Build;
use geodns_common::abi::Settings;
use geodns_common::tables::Tables;
use geodns_common::verdict::{COUNTERS, Verdict};
use geodns_tests::dns::{A, AAAA, ANY, Query, TXT};
use geodns_tests::packet::{Frame, SERVER_MAC};
use geodns_tests::real;
use geodns_tests::rig::{Responder, Rig, With};

use crate::figure::{Figure, quantile};

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "20.1.2.3";
/// The interface that frames of a test run come from.
const LO: u32 = 1;
const REPEAT: u32 = 500_000;
/// Turns of a round in which two programs take turns: the stub's callee and the stub, one that counts by mirror and one
/// that does not.
const STUB_TURNS: u32 = 50;

/// Times each question, with the time that `restore` takes for itself taken off.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let world = real::compiled(None)?;
    let plan = world.plan.read().expect("not poisoned");
    let mut responder = Responder::load(&*plan, plan.capacity())?;
    responder.listen(&[(SERVER.parse()?, LO, SERVER_MAC)])?;
    let mut rig = Rig::load()?;

    let frame = |query: &Query| Frame::new(CLIENT, SERVER, query.bytes());
    let a = Query::new(real::NAME, A);
    let mut elsewhere = frame(&a);
    elsewhere.ports[1] = 5353;
    let questions = [
        ("A", frame(&a), Verdict::Answered),
        ("A, EDNS", frame(&a.clone().edns(1232)), Verdict::Answered),
        (
            "AAAA, EDNS",
            frame(&Query::new(real::NAME, AAAA).edns(1232)),
            Verdict::Answered,
        ),
        (
            "TXT beside a pool",
            frame(&Query::new(real::NAME, TXT)),
            Verdict::Static,
        ),
        (
            "A of a zone file",
            frame(&Query::new("mail.example.org", A)),
            Verdict::Static,
        ),
        (
            "NODATA",
            frame(&Query::new("mail.example.org", AAAA)),
            Verdict::Nodata,
        ),
        (
            "NXDOMAIN",
            frame(&Query::new("none.example.org", A)),
            Verdict::Nxdomain,
        ),
        (
            "ANY (passed)",
            frame(&Query::new(real::NAME, ANY)),
            Verdict::Qtype,
        ),
        (
            "name of no zone (passed)",
            frame(&Query::new("www.example.com", A)),
            Verdict::UnknownName,
        ),
        ("another port (passed)", elsewhere, Verdict::OtherPort),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); questions.len()];
    let (mut bare, mut reflected) = (Vec::new(), Vec::new());
    let responder_fd = responder
        .instance
        .program(Build::Plain)?
        .fd()?
        .try_clone()?;
    let stub = responder.stub()?;
    let mut stubbed = Vec::new();
    let counted = real::counted()?;
    let counted = counted.plan.read().expect("not poisoned");
    let mut counting = responder.another(&*counted, counted.capacity(), 0)?;
    let mut uncounted = responder.another(
        &With::settings(
            &*counted,
            Settings {
                mirror_pages: 0,
                ..*counted.settings()
            },
        ),
        counted.capacity(),
        0,
    )?;
    let by_mirror = [
        uncounted.program(Build::Plain)?.fd()?.try_clone()?,
        counting.program(Build::Plain)?.fd()?.try_clone()?,
    ];
    let mut counts = Vec::new();
    for _ in 0..rounds {
        responder.heartbeat.beat();
        let (_, first, _) = &questions[0];
        rig.set_template(&first.bytes())?;
        let pass = rig.program("pass")?.fd()?.try_clone()?;
        let floor = time(&mut rig, &pass, &first.bytes(), REPEAT)?;
        bare.push(floor);
        let reflect = rig.program("reflect")?.fd()?.try_clone()?;
        reflected.push(time(&mut rig, &reflect, &first.bytes(), REPEAT)? - floor);
        // In short turns, so that the machine's noise hits both.
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..STUB_TURNS {
            let repeat = REPEAT / STUB_TURNS;
            turns[0].push(time(&mut rig, &responder_fd, &first.bytes(), repeat)?);
            turns[1].push(time(&mut rig, &stub, &first.bytes(), repeat)?);
        }
        let [direct, through] = turns.map(|of| quantile(&of, 0.1));
        stubbed.push(through - direct);
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..STUB_TURNS {
            for (program, times) in by_mirror.iter().zip(&mut turns) {
                times.push(time(
                    &mut rig,
                    program,
                    &first.bytes(),
                    REPEAT / STUB_TURNS,
                )?);
            }
        }
        let [without, with] = turns.map(|of| quantile(&of, 0.1));
        counts.push(with - without);
        for ((what, frame, verdict), times) in questions.iter().zip(&mut times) {
            rig.set_template(&frame.bytes())?;
            // What is over the budget of passed packets takes as long, and is counted apart.
            let at = *verdict as usize;
            let count = |counters: [u64; COUNTERS]| {
                counters[at] + counters[at + Verdict::OVER_BUDGET as usize]
            };
            let before = count(responder.counters()?);
            times.push(time(&mut rig, &responder_fd, &frame.bytes(), REPEAT)? - floor);
            let counted = count(responder.counters()?) - before;
            ensure!(
                counted == u64::from(REPEAT),
                "{what}: {counted} of {REPEAT} were {}",
                verdict.name()
            );
        }
    }
    let figure = |what: String, times| Figure::new("cost", what, "ns", times);
    let mut figures = vec![
        figure("putting the query back".into(), bare),
        figure("bare reflector".into(), reflected),
        figure("the stub".into(), stubbed),
        figure("counting by mirror".into(), counts),
    ];
    for ((what, ..), times) in questions.iter().zip(times) {
        figures.push(figure(format!("geodns, {what}"), times));
    }
    Ok(figures)
}

/// Measures the time to put a query back: how fast this machine is, beside its times for answers.
pub fn putting_back(bench: &'static str, rounds: usize) -> Result<Figure> {
    let frame = Frame::new(CLIENT, SERVER, Query::new(real::NAME, A).bytes());
    let frame = frame.bytes();
    let mut rig = Rig::load()?;
    rig.set_template(&frame)?;
    let pass = rig.program("pass")?.fd()?.try_clone()?;
    let times = (0..rounds).map(|_| time(&mut rig, &pass, &frame, REPEAT));
    let times = times.collect::<Result<_>>()?;
    Ok(Figure::new(
        bench,
        "putting a query back, without a network",
        "ns",
        times,
    ))
}

/// Nanoseconds of one run of `restore` that calls this program, of N.
pub fn time(rig: &mut Rig, target: &impl AsFd, frame: &[u8], repeat: u32) -> Result<f64> {
    rig.set_target(target)?;
    let restore: &mut Xdp = rig.program("restore")?;
    // Room for the answer, which the next run cuts off again.
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = repeat;
    let result = restore.test_run(options).context("BPF_PROG_TEST_RUN")?;
    Ok(result.duration.as_nanos() as f64)
}
