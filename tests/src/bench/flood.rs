//! A flood of one name from random sources through a veth pair, everything on one core: the
//! rig's generator, the responder (or a bare reflector) in native XDP, and the rig's sink.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use geodns_common::verdict::Verdict;
use nix::net::if_::if_nametoindex;

use super::{Figure, Goal, world};
use crate::dns::{A, Query};
use crate::packet::{CLIENT_MAC, Checksum, Frame, SERVER_MAC};
use crate::rig::{Draw, Responder, Rig, Seen};
use crate::world::{self as spaces, Space, join};

/// The server's address.
pub const SERVER: &str = "192.0.2.53";
/// Frames of one call of the generator: some tens of milliseconds.
const CALL: u32 = 65_536;
/// Frames that the kernel makes before it sends them.
const BATCH: u32 = 64;

/// How long each flood lasts.
const TIME: Duration = Duration::from_secs(1);

/// Floods the reflector, the responder without prefixes, and with the real list if it is there: in
/// turns.
pub fn run(list: Option<&Path>, rounds: usize) -> Result<Vec<Figure>> {
    let mut flood = Flood::new(world::NAME)?;
    let mut responders = Vec::new();
    for (what, list) in [("no prefixes", None), ("the real prefixes", list)] {
        if what == "the real prefixes" && list.is_none() {
            continue;
        }
        let world = world::compiled(list)?;
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::load(&*plan, plan.capacity())?;
        flood.listen(&mut responder)?;
        responders.push((what, responder, Vec::new()));
    }
    let mut reflected = Vec::new();
    // What was never run before is slower: the first round does not count. Nor does one in which the
    // reflector lost frames: something else ran on this core, and veth's rings overflowed.
    let mut busy = 0;
    let mut warm = false;
    while reflected.len() < rounds {
        let flow = flood.reflector(TIME)?;
        if flow.seen.queries != flow.sent {
            busy += 1;
            ensure!(
                busy <= 2 * rounds + 5,
                "the reflector lost frames in {busy} rounds: the machine is too busy to measure"
            );
            continue;
        }
        let reflector = flow.per_second(flow.seen.queries);
        for (_, responder, flows) in &mut responders {
            let before = responder.counters()?;
            let flow = flood.responder(responder, TIME)?;
            let after = responder.counters()?;
            let counted = |at: usize| (after[at] - before[at]) as f64;
            let reached: f64 = (0..Verdict::ALL.len()).map(counted).sum();
            let answered = 100.0 * counted(Verdict::Answered as usize) / reached;
            if warm {
                flows.push((flow, reflector, answered));
            }
        }
        if warm {
            reflected.push(reflector);
        }
        warm = true;
    }
    if busy > 0 {
        eprintln!("bench: flood: {busy} rounds more, in which the reflector lost frames");
    }
    let mut figures = vec![Figure::new(
        "flood",
        "bare reflector",
        "frames/s",
        reflected,
    )];
    for (what, _, flows) in responders {
        let by = |figure: &dyn Fn(&Flow, f64) -> f64| -> Vec<f64> {
            let figure = |(flow, reflector, _): &(Flow, f64, f64)| figure(flow, *reflector);
            flows.iter().map(figure).collect()
        };
        let rate = |flow: &Flow| flow.per_second(flow.seen.answers);
        let answers = by(&|flow, _| rate(flow));
        let ratios = by(&|flow, reflector| rate(flow) / reflector);
        let answered = flows.iter().map(|(_, _, answered)| *answered).collect();
        let back = by(&|flow, _| 100.0 * flow.seen.answers as f64 / flow.sent as f64);
        figures.extend([
            Figure::new("flood", format!("geodns, {what}"), "answers/s", answers),
            Figure::new("flood", format!("geodns, {what}"), "x reflector", ratios)
                .goal(Goal::AtLeast(0.65)),
            // Of those that came: a busy machine's veth may lose some on the way, there and back.
            Figure::new("flood", format!("geodns, {what}: answered"), "%", answered)
                .goal(Goal::AtLeast(100.0)),
            Figure::new("flood", format!("geodns, {what}: sent and back"), "%", back),
        ]);
    }
    Ok(figures)
}

/// The two ends, with generator and sink on one.
pub struct Flood {
    generator: Space,
    server: Space,
    rig: Rig,
    generator_ifindex: u32,
    server_ifindex: u32,
    frame: Vec<u8>,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Queries sent.
    pub sent: u64,
    /// What came back.
    pub seen: Seen,
    /// What was lost on the way, as the machine has other things to do.
    pub lost: Lost,
    /// How long it took.
    pub time: Duration,
}

/// Frames for which a veth had no room: its ring takes 256, which wait until the receiver's turn comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// On the way from the generator to the server's end.
    pub there: u64,
    /// On the way back.
    pub back: u64,
}

impl Flow {
    /// Queries that came to the server's end.
    pub fn arrived(&self) -> u64 {
        self.sent - self.lost.there
    }

    /// So many a second.
    pub fn per_second(&self, frames: u64) -> f64 {
        frames as f64 / self.time.as_secs_f64()
    }
}

impl Flood {
    /// The ends, joined; this thread stays on one CPU from here on, and with it everything.
    pub fn new(name: &str) -> Result<Self> {
        Self::over(Space::new("target")?, name)
    }

    /// The same with this namespace for the server's end.
    pub fn over(server: Space, name: &str) -> Result<Self> {
        let generator = Space::new("flood")?;
        join(&generator, "eth0", &server, "eth0")?;
        let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
        generator.ip(&format!("link set eth0 address {}", mac(CLIENT_MAC)))?;
        server.ip(&format!("link set eth0 address {}", mac(SERVER_MAC)))?;
        let index = || Ok(if_nametoindex("eth0")?);
        let (generator_ifindex, server_ifindex) = (generator.enter(index)?, server.enter(index)?);

        let mut query = Frame::new("0.0.0.0", SERVER, Query::new(name, A).bytes());
        query.checksum = Checksum::None;
        let frame = query.bytes();
        let mut rig = Rig::load()?;
        rig.set_template(&frame)?;
        generator.enter(|| Ok(rig.program("sink")?.attach("eth0", XdpMode::Driver)?))?;
        Ok(Self {
            generator,
            server,
            rig,
            generator_ifindex,
            server_ifindex,
            frame,
        })
    }

    /// Asks for another name, in which zeros of the first label are the digits of a random number, eight at the
    /// most.
    pub fn vary(&mut self, name: &str, draw: Draw) -> Result<()> {
        let mut query = Frame::new("0.0.0.0", SERVER, Query::new(name, A).bytes());
        query.checksum = Checksum::None;
        self.frame = query.bytes();
        let label = name.split('.').next().unwrap_or_default();
        let first = label.find('0').unwrap_or(label.len());
        // Ethernet, IPv4, UDP and DNS headers, and the label's length.
        let label_at = 14 + 20 + 8 + 12 + 1;
        let digits = label_at + first..label_at + label.len();
        self.rig.set_varied(&self.frame, digits, draw)
    }

    /// The server's end.
    pub fn server(&self) -> &Space {
        &self.server
    }

    /// Makes a responder answer here.
    pub fn listen(&self, responder: &mut Responder) -> Result<()> {
        responder.listen(&[(SERVER.parse()?, self.server_ifindex, SERVER_MAC)])
    }

    /// Floods the bare reflector.
    pub fn reflector(&mut self, time: Duration) -> Result<Flow> {
        let link = {
            let program = self.rig.program("reflect")?;
            self.server
                .enter(|| Ok(program.attach("eth0", XdpMode::Driver)?))?
        };
        let flow = self.run(time);
        self.rig.program("reflect")?.detach(link)?;
        flow
    }

    /// Floods a responder.
    pub fn responder(&mut self, responder: &mut Responder, time: Duration) -> Result<Flow> {
        responder.heartbeat.beat();
        let program: &mut Xdp = responder.instance.program()?;
        let link = self
            .server
            .enter(|| Ok(program.attach("eth0", XdpMode::Driver)?))?;
        let flow = self.run(time);
        responder.instance.program()?.detach(link)?;
        flow
    }

    /// Floods what is attached to the server's end.
    pub fn run(&mut self, time: Duration) -> Result<Flow> {
        self.send(1)?;
        let (before, lost) = (self.rig.seen()?, self.lost()?);
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
            self.send(CALL)?;
            sent += u64::from(CALL);
        }
        let time = start.elapsed();
        let (after, lost_now) = (self.rig.seen()?, self.lost()?);
        Ok(Flow {
            sent,
            seen: after - before,
            lost: Lost {
                there: lost_now.there - lost.there,
                back: lost_now.back - lost.back,
            },
            time,
        })
    }

    /// What the two ends have lost so far.
    fn lost(&self) -> Result<Lost> {
        let counted = |space: &Space, counter: &str| -> Result<u64> {
            let text = spaces::run(space.command("ethtool").args(["-S", "eth0"]))?;
            let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
            // One for each queue.
            let values = lines.filter(|(name, _)| name.ends_with(counter));
            values.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
        };
        Ok(Lost {
            there: counted(&self.generator, "_xdp_xmit_errors")?,
            back: counted(&self.server, "_xdp_tx_errors")?,
        })
    }

    /// Sends so many queries, and sees them through to the sink.
    fn send(&mut self, frames: u32) -> Result<()> {
        // One octet more than the query: see `generate`.
        let mut data = self.frame.clone();
        data.push(0);
        let mut context = [0_u32; 6];
        // xdp_md: data_end, ingress_ifindex.
        context[1] = u32::try_from(data.len())?;
        context[3] = self.generator_ifindex;
        let program = self.rig.program("generate")?;
        self.generator.enter(|| {
            pin_to_last_cpu()?;
            let mut options = TestRunOptions::new();
            options.data_in = Some(&data);
            options.ctx_in = Some(bytemuck::bytes_of(&context));
            options.repeat = frames;
            options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
            program.test_run(options).context("cannot generate")?;
            Ok(())
        })
    }
}

/// Keeps this thread on the machine's last CPU. What a veth receives is handled on the CPU of the
/// sender.
fn pin_to_last_cpu() -> Result<()> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(cpus > 0, "no CPU");
    let mut set = CpuSet::new();
    set.set(cpus - 1)?;
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
    Ok(())
}
