//! A flood of one name from random sources through a veth pair, everything on one core: the
//! rig's generator, the responder (or a bare reflector) in native XDP, and the rig's sink. What an answer takes is
//! said in nanoseconds above the reflector in the same round: the generator, which takes a part of both, does not move
//! that.

use std::collections::BTreeSet;
use std::ops::Sub;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::{XdpLinkId, XdpMode};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use geodns::kernel::stub::Build;
use geodns::kernel::sys::link_xdp;
use geodns_common::verdict::Verdict;
use geodns_tests::dns::{A, Query};
use geodns_tests::net::{Space, join, run as output};
use geodns_tests::packet::{CLIENT_MAC, Frame, SERVER_MAC};
use geodns_tests::real;
use geodns_tests::rig::{Besides, Draw, Pattern, Responder, Rig, Seen, Times};
use nix::net::if_::if_nametoindex;

use crate::cost;
use crate::cpu::{idle_of_last_cpu, last_cpu, on_cpu, pin, schedule};
use crate::figure::{Figure, Goal, quantile};
use crate::sender::{self, Frames, Sender};

/// The server's address.
pub const SERVER: &str = "192.0.2.53";
/// The same over IPv6.
pub const SERVER_V6: &str = "2001:db8::53";
/// Frames of one call of the generator: most of a second. When a call ends, the kernel waits for RCU, and the CPU is
/// idle: with 65,536 frames that was a third of the time, and what it was moved with the generator.
const CALL: u32 = 1 << 20;
/// Frames that the kernel makes before it sends them.
const BATCH: u32 = 64;

/// How long what is under way may take when a paced load is over.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// How long each flood lasts.
const TIME: Duration = Duration::from_secs(1);
/// Frames of a turn, of those in which the stub is compared.
const TURN: u32 = 1 << 18;
/// The most that the stub may take, of the time of a frame.
const STUB_PERCENT: f64 = 1.0;
/// The most nanoseconds that an answer to random sources may take above the reflector.
const ABOVE_NS: f64 = 150.0;

/// Floods the reflector, the responder without prefixes, and with the real list if it is there: in
/// turns. `beside`: an object with another build of the program, without a stub before it, that is compared with ours
/// behind its stub.
pub fn run(list: Option<&Path>, beside: Option<&Path>, rounds: usize) -> Result<Vec<Figure>> {
    let mut flood = Flood::new(real::NAME)?;
    let mut responders = Vec::new();
    for (what, list) in [("no prefixes", None), ("the real prefixes", list)] {
        if what == "the real prefixes" && list.is_none() {
            continue;
        }
        let world = real::compiled(list)?;
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::load(&*plan, plan.capacity())?;
        flood.listen(&mut responder)?;
        responders.push((what, responder, Vec::new()));
    }
    let stub = responders[0].1.stub()?;
    let mut stub_takes = Vec::new();
    let mut other = beside.map(|object| flood.other(object)).transpose()?;
    let mut ours_takes = Vec::new();
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
        let ours = &mut responders[0].1;
        ours.heartbeat.beat();
        let ours = ours.instance.program_fd(Build::Plain)?;
        let [direct, through] = flood.by_turns([ours, stub.as_fd()])?;
        if let Some(other) = &mut other {
            other.heartbeat.beat();
            let other = other.instance.program_fd(Build::Plain)?;
            let [other, ours] = flood.by_turns([other, stub.as_fd()])?;
            ours_takes.push(100.0 * (ours / other - 1.0));
        }
        if warm {
            reflected.push(reflector);
            stub_takes.push(100.0 * (through / direct - 1.0));
        } else {
            ours_takes.clear();
        }
        warm = true;
    }
    if busy > 0 {
        eprintln!("bench: flood: {busy} rounds more, in which the reflector lost frames");
    }
    let mut figures = vec![
        Figure::new("flood", "bare reflector", "frames/s", reflected),
        cost::putting_back("flood", rounds)?,
        Figure::new("flood", "the stub", "% of a frame's time", stub_takes)
            .goal(Goal::Below(STUB_PERCENT)),
    ];
    if let Some(beside) = beside {
        let what = format!("stub and program beside {}", beside.display());
        figures.push(Figure::new(
            "flood",
            what,
            "% of a frame's time",
            ours_takes,
        ));
    }
    for (what, _, flows) in responders {
        let by = |figure: &dyn Fn(&Flow, f64) -> f64| -> Vec<f64> {
            let figure = |(flow, reflector, _): &(Flow, f64, f64)| figure(flow, *reflector);
            flows.iter().map(figure).collect()
        };
        let rate = |flow: &Flow| flow.per_second(flow.seen.answers);
        let answers = by(&|flow, _| rate(flow));
        let ratios = by(&|flow, reflector| rate(flow) / reflector);
        let above = by(&|flow, reflector| above(rate(flow), reflector));
        let answered = flows.iter().map(|(_, _, answered)| *answered).collect();
        let back = by(&|flow, _| 100.0 * flow.seen.answers as f64 / flow.sent as f64);
        figures.extend([
            Figure::new("flood", format!("geodns, {what}"), "answers/s", answers),
            Figure::new("flood", format!("geodns, {what}"), "x reflector", ratios),
            Figure::new(
                "flood",
                format!("geodns, {what}: an answer"),
                "ns above reflector",
                above,
            )
            .goal(Goal::Below(ABOVE_NS)),
            // Of those that came: a busy machine's veth may lose some on the way, there and back.
            Figure::new("flood", format!("geodns, {what}: answered"), "%", answered)
                .goal(Goal::AtLeast(100.0)),
            Figure::new("flood", format!("geodns, {what}: sent and back"), "%", back),
        ]);
    }
    Ok(figures)
}

/// Nanoseconds that a frame takes more at one rate than at another, each a second.
pub fn above(rate: f64, reflector: f64) -> f64 {
    1e9 / rate - 1e9 / reflector
}

/// The two ends, with generator and sink on one.
pub struct Flood {
    generator: Arc<Space>,
    server: Space,
    rig: Rig,
    sink: Option<XdpLinkId>,
    generator_ifindex: u32,
    server_ifindex: u32,
    frame: Vec<u8>,
    sender: Option<Sender>,
    cpu: usize,
    /// Threads of the kernel's that receive at the generator's end, and at the server's.
    receivers: [BTreeSet<i32>; 2],
}

/// An end of the wire.
#[derive(Clone, Copy, Debug)]
enum End {
    Generator,
    Server,
}

/// The outcome of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Queries sent.
    pub sent: u64,
    /// Frames that came back.
    pub seen: Seen,
    /// Frames lost on the way, while the machine did something else.
    pub lost: Lost,
    /// How long it took.
    pub time: Duration,
}

/// The sender of a paced load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The generator, each query by itself: for who answers in the kernel.
    Generator,
    /// A packet socket, of frames that the generator has made before.
    Socket,
}

impl By {
    /// How far its bursts are apart.
    fn pace(self) -> Duration {
        match self {
            Self::Generator => Duration::from_millis(1),
            Self::Socket => Duration::from_micros(100),
        }
    }
}

/// The outcome of a paced load.
#[derive(Clone, Debug)]
pub struct Paced {
    /// Queries sent.
    pub sent: u64,
    /// Frames that came back while it lasted.
    pub seen: Seen,
    /// The same, with those that came soon after.
    pub all: Seen,
    /// Frames lost on the way, while the machine did something else.
    pub lost: Lost,
    /// How long answers took, if that was wanted.
    pub times: Times,
    /// Seconds that the core was not idle.
    pub busy: f64,
    /// How long it lasted.
    pub time: Duration,
}

impl Paced {
    /// N a second.
    pub fn per_second(&self, frames: u64) -> f64 {
        frames as f64 / self.time.as_secs_f64()
    }
}

/// Frames for which a veth had no room: its ring takes 256, which wait until the receiver's turn comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// On the way from the generator to the server's end.
    pub there: u64,
    /// On the way back.
    pub back: u64,
}

impl Lost {
    /// Whether nothing was.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Sub for Lost {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            there: self.there - before.there,
            back: self.back - before.back,
        }
    }
}

impl Flow {
    /// Queries that came to the server's end.
    pub fn arrived(&self) -> u64 {
        self.sent - self.lost.there
    }

    /// N a second.
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
        let generator = Arc::new(Space::new("flood")?);
        join(&generator, "eth0", &server, "eth0")?;
        set_mac(&generator, CLIENT_MAC)?;
        set_mac(&server, SERVER_MAC)?;
        let index = || Ok(if_nametoindex("eth0")?);
        let (generator_ifindex, server_ifindex) = (generator.enter(index)?, server.enter(index)?);

        let query = Frame::new("0.0.0.0", SERVER, Query::new(name, A).bytes());
        let frame = query.bytes();
        let mut rig = Rig::load()?;
        rig.set_template(&frame)?;
        let sink = generator.enter(|| {
            let sink = rig.program("sink")?.attach("eth0", XdpMode::Driver)?;
            // Nothing comes there. But a program that is attached is known to the kernel's dispatcher of XDP
            // programs; without that, each test run would enter it there and wait for RCU's grace period.
            rig.program("generate")?.attach("lo", XdpMode::Skb)?;
            Ok(sink)
        })?;
        Ok(Self {
            generator,
            server,
            rig,
            sink: Some(sink),
            generator_ifindex,
            server_ifindex,
            frame,
            sender: None,
            cpu: last_cpu()?,
            receivers: Default::default(),
        })
    }

    /// Asks for another name, in which zeros of the first label are the digits of a random number, eight at the
    /// most.
    pub fn vary(&mut self, name: &str, draw: Draw) -> Result<()> {
        let query = Frame::new("0.0.0.0", SERVER, Query::new(name, A).bytes());
        self.frame = query.bytes();
        let label = name.split('.').next().unwrap_or_default();
        let first = label.find('0').unwrap_or(label.len());
        // Ethernet, IPv4, UDP and DNS headers, and the label's length.
        let label_at = 14 + 20 + 8 + 12 + 1;
        let digits = label_at + first..label_at + label.len();
        let pattern = Pattern {
            digits,
            draw,
            ..Pattern::new(self.frame.clone())
        };
        self.rig.set_patterns(&[pattern])
    }

    /// Asks these queries in turn.
    pub fn ask(&mut self, patterns: &[Pattern]) -> Result<()> {
        self.ask_paced(patterns, Duration::ZERO)
    }

    /// The same, with at least `pace` between two of them.
    pub fn ask_paced(&mut self, patterns: &[Pattern], pace: Duration) -> Result<()> {
        let longest = patterns.iter().map(|pattern| &pattern.frame);
        let longest = longest.max_by_key(|frame| frame.len());
        self.frame = longest.context("no query")?.clone();
        self.rig.set_paced(patterns, pace)
    }

    /// Generates on another CPU from here on. What a veth receives is handled on the CPU of the sender, unless
    /// threads do that ([`Flood::receive_on`]).
    pub fn generate_on(&mut self, cpu: usize) {
        self.cpu = cpu;
    }

    /// Receives at the server's end by threads of the kernel's (threaded NAPI), on this CPU. A program must be
    /// attached there already.
    pub fn receive_on(&mut self, cpu: usize) -> Result<()> {
        self.thread(End::Server, true)?;
        for pid in &self.receivers[End::Server as usize] {
            pin(*pid, cpu)?;
        }
        Ok(())
    }

    /// Does something while the server's end has the last CPU to itself: it receives there, as a network card's queue
    /// would, and before the server's own threads. Generator and sink are on the first CPU.
    pub fn apart<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let last = last_cpu()?;
        ensure!(last != 0, "this needs two CPUs: one for the server alone");
        // Without a program a veth has no queue to receive from but with GRO.
        output(
            self.server
                .command("ethtool")
                .args(["-K", "eth0", "gro", "on"]),
        )?;
        for (end, cpu) in [(End::Generator, 0), (End::Server, last)] {
            self.thread(end, true)?;
            for pid in &self.receivers[end as usize] {
                pin(*pid, cpu)?;
                schedule(*pid, libc::SCHED_RR, 2)?;
            }
        }
        self.generate_on(0);
        let done = f(self);
        self.generate_on(last);
        for end in [End::Generator, End::Server] {
            self.thread(end, false)?;
        }
        output(
            self.server
                .command("ethtool")
                .args(["-K", "eth0", "gro", "off"]),
        )?;
        done
    }

    /// Receives by threads of the kernel's, or again on the CPU of whoever sends.
    fn thread(&mut self, end: End, on: bool) -> Result<()> {
        const NAME: &str = "napi/eth0-";
        let before = processes(NAME)?;
        let space = match end {
            End::Generator => &*self.generator,
            End::Server => &self.server,
        };
        let threaded = format!("echo {} > /sys/class/net/eth0/threaded", u8::from(on));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", space.name(), "sh", "-c", &threaded]);
        output(&mut command)?;
        let after = processes(NAME)?;
        // Some kernels keep the threads of an interface that has none any more, and take them again.
        let receivers = &mut self.receivers[end as usize];
        receivers.extend(after.difference(&before));
        receivers.retain(|pid| after.contains(pid));
        ensure!(
            !on || !receivers.is_empty(),
            "the kernel has made no thread that receives"
        );
        Ok(())
    }

    /// Gives the server's end addresses, and puts everything behind the generator.
    pub fn address_server(&self) -> Result<()> {
        let mac = shown_mac(CLIENT_MAC);
        self.server.ip_batch(&format!(
            "address add {SERVER}/24 dev eth0
             address add {SERVER_V6}/64 dev eth0 nodad
             neighbour replace 192.0.2.1 lladdr {mac} dev eth0 nud permanent
             neighbour replace 2001:db8::1 lladdr {mac} dev eth0 nud permanent
             route add default via 192.0.2.1
             route add default via 2001:db8::1"
        ))
    }

    /// The generator's end.
    pub fn generator(&self) -> &Arc<Space> {
        &self.generator
    }

    /// The rig, whose `sink` is on the generator's end.
    pub fn rig(&mut self) -> &mut Rig {
        &mut self.rig
    }

    /// Sends one query, and gives the frame that comes back, if one does in time.
    pub fn ask_once(&mut self, pattern: &Pattern, patience: Duration) -> Result<Option<Vec<u8>>> {
        self.ask(std::slice::from_ref(pattern))?;
        let frame = Frames::made(&mut self.rig, self.frame.len(), 1)?;
        self.rig.set_besides(Besides::Keep)?;
        Sender::new(&self.generator, Arc::new(frame))?.send(1, None)?;
        let end = Instant::now() + patience;
        let kept = loop {
            let kept = self.rig.kept()?;
            if kept.is_some() || Instant::now() > end {
                break kept;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.rig.set_besides_alone(Besides::Nothing)?;
        Ok(kept)
    }

    /// The server's end.
    pub fn server(&self) -> &Space {
        &self.server
    }

    /// Does something while nothing looks at what comes back: the generator's end is somebody else, and drops
    /// it as soon as it has come.
    pub fn without_sink<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0xff];
        if let Some(sink) = self.sink.take() {
            self.rig.program("sink")?.detach(sink)?;
        }
        set_mac(&self.generator, NOBODY)?;
        let done = f(self);
        set_mac(&self.generator, CLIENT_MAC)?;
        let program = self.rig.program("sink")?;
        let attached = || Ok(program.attach("eth0", XdpMode::Driver)?);
        self.sink = Some(self.generator.enter(attached)?);
        done
    }

    /// Makes a responder answer here.
    pub fn listen(&self, responder: &mut Responder) -> Result<()> {
        responder.listen(&[(SERVER.parse()?, self.server_ifindex, SERVER_MAC)])
    }

    /// Attaches a program of the rig to the server's end.
    pub fn attach(&mut self, program: &str) -> Result<XdpLinkId> {
        let program = self.rig.program(program)?;
        self.server
            .enter(|| Ok(program.attach("eth0", XdpMode::Driver)?))
    }

    /// Floods the bare reflector.
    pub fn reflector(&mut self, time: Duration) -> Result<Flow> {
        let link = self.attach("reflect")?;
        let flow = self.run(time);
        self.rig.program("reflect")?.detach(link)?;
        flow
    }

    /// Floods a responder.
    pub fn responder(&mut self, responder: &mut Responder, time: Duration) -> Result<Flow> {
        responder.heartbeat.beat();
        let program: &mut Xdp = responder.instance.program(Build::Plain)?;
        let link = self
            .server
            .enter(|| Ok(program.attach("eth0", XdpMode::Driver)?))?;
        let flow = self.run(time);
        responder.instance.program(Build::Plain)?.detach(link)?;
        flow
    }

    /// Floods two programs in short turns, so that the machine's noise hits both. Gives the nanoseconds that an answer
    /// takes, generator and sink included: medians.
    fn by_turns(&mut self, programs: [BorrowedFd<'_>; 2]) -> Result<[f64; 2]> {
        const TURNS: usize = 11;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (program, times) in programs.into_iter().zip(&mut times) {
                let ifindex = self.server_ifindex;
                let _link = self
                    .server
                    .enter(|| Ok(link_xdp(program, ifindex, false)?))?;
                let flow = self.run_once(TURN)?;
                times.push(1e9 / flow.per_second(flow.seen.answers));
            }
        }
        Ok(times.map(|of| quantile(&of, 0.5)))
    }

    /// A responder of another build of the program, without prefixes.
    fn other(&self, object: &Path) -> Result<Responder> {
        let object =
            std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let world = real::compiled(None)?;
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::of(object, &*plan, plan.capacity())?;
        self.listen(&mut responder)?;
        Ok(responder)
    }

    /// Floods what is attached to the server's end.
    pub fn run(&mut self, time: Duration) -> Result<Flow> {
        self.flood(CALL, time)
    }

    /// The same with no more than N frames.
    pub fn run_once(&mut self, frames: u32) -> Result<Flow> {
        self.flood(frames, Duration::ZERO)
    }

    /// Floods for so long, and at least with N frames.
    fn flood(&mut self, frames: u32, time: Duration) -> Result<Flow> {
        self.send(1)?;
        let (before, lost) = (self.rig.seen()?, self.lost()?);
        let start = Instant::now();
        let mut sent = 0;
        while sent == 0 || start.elapsed() < time {
            self.send(frames)?;
            sent += u64::from(frames);
        }
        let time = start.elapsed();
        // In this order: what is under way has arrived when `ethtool` is done.
        let lost = self.lost()? - lost;
        Ok(Flow {
            sent,
            seen: self.rig.seen()? - before,
            lost,
            time,
        })
    }

    /// Frames that the two ends have lost so far.
    fn lost(&self) -> Result<Lost> {
        let counted = |space: &Space, counter: &str| -> Result<u64> {
            let text = output(space.command("ethtool").args(["-S", "eth0"]))?;
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

    /// Has the frames made that [`Flood::paced`] sends, as [`Flood::ask`] has said.
    pub fn frames(&mut self) -> Result<Arc<Frames>> {
        let (rig, longest) = (&mut self.rig, self.frame.len());
        let frames = on_cpu(self.cpu, || Frames::made(rig, longest, sender::FRAMES))?;
        Ok(Arc::new(frames))
    }

    /// Sends these frames from now on where the load is paced.
    pub fn send_frames(&mut self, frames: &Arc<Frames>) -> Result<()> {
        self.sender = Some(Sender::new(&self.generator, frames.clone())?);
        Ok(())
    }

    /// Sends N queries a second, in bursts: before what else the core has to do, as what a network
    /// card receives comes before it. Then waits for what is still under way.
    pub fn paced(&mut self, rate: f64, time: Duration, by: By, timed: bool) -> Result<Paced> {
        let (data, context) = self.generated()?;
        let besides = if timed {
            Besides::Time
        } else {
            Besides::Nothing
        };
        self.rig.set_besides(besides)?;
        let times = sender::sent_times(&self.rig)?;
        let times = timed.then_some(&times);
        let (before, lost) = (self.rig.seen()?, self.lost()?);
        let program = self.rig.program("generate")?;
        let sender = &mut self.sender;
        let (sent, busy, took) = self.generator.enter(|| {
            pin(0, last_cpu()?)?;
            schedule(0, libc::SCHED_RR, 2)?;
            let idle = idle_of_last_cpu()?;
            let start = Instant::now();
            let mut sent = 0_u64;
            while start.elapsed() < time {
                let due = (rate * start.elapsed().as_secs_f64()) as u64;
                let burst = due.saturating_sub(sent).min(CALL.into());
                match (by, sender.as_mut()) {
                    (_, _) if burst == 0 => {}
                    (By::Socket, Some(sender)) => sender.send(burst as usize, times)?,
                    _ => generate(program, &data, &context, burst as u32, 1)?,
                }
                sent += burst;
                let pace = by.pace();
                let next = pace * (start.elapsed().as_nanos() / pace.as_nanos() + 1) as u32;
                std::thread::sleep(next.saturating_sub(start.elapsed()));
            }
            let took = start.elapsed();
            let idle = (idle_of_last_cpu()? - idle).as_secs_f64();
            Ok((sent, (took.as_secs_f64() - idle).max(0.0), took))
        })?;
        let seen = self.rig.seen()? - before;
        let mut all = seen;
        let end = Instant::now() + UNDER_WAY;
        while all.messages() < sent && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            all = self.rig.seen()? - before;
        }
        self.rig.set_besides_alone(Besides::Nothing)?;
        Ok(Paced {
            sent,
            seen,
            all,
            lost: self.lost()? - lost,
            times: self.rig.times()?,
            busy,
            time: took,
        })
    }

    /// Sends N queries, and sees them through to the sink.
    fn send(&mut self, frames: u32) -> Result<()> {
        let (data, context) = self.generated()?;
        let program = self.rig.program("generate")?;
        let cpu = self.cpu;
        self.generator.enter(|| {
            pin(0, cpu)?;
            generate(program, &data, &context, frames, BATCH)
        })
    }

    /// The frame that the generator is run on, and where.
    fn generated(&self) -> Result<(Vec<u8>, [u32; 6])> {
        // One octet more than the longest query: see `generate`.
        let mut data = self.frame.clone();
        data.push(0);
        let mut context = [0_u32; 6];
        // xdp_md: data_end, ingress_ifindex.
        context[1] = u32::try_from(data.len())?;
        context[3] = self.generator_ifindex;
        Ok((data, context))
    }
}

/// A MAC address as it is written.
fn shown_mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Sets the MAC address of a namespace's `eth0`.
fn set_mac(space: &Space, mac: [u8; 6]) -> Result<()> {
    let mac = shown_mac(mac);
    space.ip(&format!("link set eth0 address {mac}")).map(drop)
}

/// Runs the generator once, which sends N frames; the kernel makes N before it sends them.
fn generate(program: &Xdp, data: &[u8], context: &[u32; 6], frames: u32, batch: u32) -> Result<()> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(data);
    options.ctx_in = Some(bytemuck::bytes_of(context));
    options.repeat = frames;
    options.attrs = TestRunAttrs::new().xdp_live_frames(batch);
    program.test_run(options).context("cannot generate")?;
    Ok(())
}

/// Processes, and threads of the kernel's, whose name begins so.
fn processes(name: &str) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may have ended.
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with(name) {
            found.insert(pid);
        }
    }
    Ok(found)
}
