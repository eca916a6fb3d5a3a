//! The cost of names: a zone of a million beside one of a thousand, and a flood of names that do not exist.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::config::Config;
use geodns::serve::{self, BATCH, Identity, Transport};
use geodns::world::{Inputs, World};
use geodns_common::verdict::Verdict;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, A, Query, TXT};
use geodns_tests::net::{Pair, Space, at, join};
use geodns_tests::rig::{Draw, Responder};
use nix::time::{ClockId, clock_gettime};

use crate::figure::{Figure, Goal, quantile};
use crate::flood::{Flood, Flow, SERVER};

/// Names of the large zone and of the small one, and one of each, in which zeros are any digits.
const ZONES: [(usize, &str); 2] = [
    (1_000_000, "h000000.example.org"),
    (1_000, "h000.example.org"),
];
/// A name that is in neither; its digits are random.
const ABSENT: &str = "x00000000.example.org";
/// Cases: a zone of [`ZONES`], and how its names are drawn. The others are compared to the first.
const CASES: [(usize, Draw, &str); 3] = [
    (1, Draw::Evenly, "one of a thousand"),
    (0, Draw::Evenly, "one of a million, evenly drawn"),
    (
        0,
        Draw::Zipf,
        "one of a million, drawn as resolvers do (Zipf)",
    ),
];
/// Edits of the large zone, in one round.
const EDITS: usize = 5;
/// How long each flood lasts.
const TIME: Duration = Duration::from_secs(1);
/// Queries of the slow path, in one round.
const LOOKUPS: usize = 200_000;
/// In how many parts they are asked, a divisor of that.
const TURNS: usize = 20;
/// Where the second client asks over TCP.
const ASIDE: &str = "192.0.3.53";
const ASIDE_CLIENT: &str = "192.0.3.1";

const CONFIG: &str = "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n";

/// A zone with N names that have an address each, and its server's, `ns`.
fn zone(names: usize) -> String {
    let digits = names.saturating_sub(1).to_string().len();
    let mut text = String::from(
        "$TTL 3600\n@ SOA ns hostmaster 1 7200 900 1209600 300\n@ NS ns\nns A 192.0.2.53\n",
    );
    for number in 0..names {
        let [_, a, b, c] = (number as u32).to_be_bytes();
        let _ = writeln!(text, "h{number:0digits$} A 10.{a}.{b}.{c}");
    }
    text
}

/// All of it.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = daemon(rounds.min(3))?;
    figures.extend(lookups(rounds)?);
    figures.extend(absent(rounds)?);
    Ok(figures)
}

/// A daemon with a million names: how long until it answers, its memory, and how long an edit takes.
fn daemon(rounds: usize) -> Result<Vec<Figure>> {
    let (names, _) = ZONES[0];
    let mut seconds = Vec::new();
    let mut bytes = Vec::new();
    let mut edits = Vec::new();
    let setup = Setup::new(&[SERVER])
        .body(CONFIG)
        .file("example.org.zone", &zone(names));
    for _ in 0..rounds {
        let pair = Pair::new(&[])?;
        let start = Instant::now();
        let mut daemon = Daemon::start(&pair.server, &setup)?;
        let socket = pair.client.udp("192.0.2.1".parse()?, at(SERVER, 53)?)?;
        let query = Query::new("h999999.example.org", A).bytes();
        dns::ask(&socket, &query, Duration::from_secs(3))?.context("no answer")?;
        seconds.push(start.elapsed().as_secs_f64());
        let pid = daemon.pid().context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = rss.and_then(|rest| rest.trim().strip_suffix(" kB"));
        bytes.push(kib.context("no VmRSS")?.parse::<f64>()? * 1024.0 / names as f64);
        let edited: Result<Vec<_>> = (0..EDITS)
            .map(|number| edit(&daemon, &pair.client, number))
            .collect();
        edits.push(quantile(&edited?, 0.5));
        daemon.stop()?;
    }
    Ok(vec![
        Figure::new("names", "a million: start to first answer", "s", seconds)
            .goal(Goal::Below(8.0)),
        Figure::new("names", "a million: memory (RSS)", "octets/name", bytes)
            .goal(Goal::Below(350.0)),
        Figure::new(
            "names",
            "a million: an ACME token set, until both paths answer with it",
            "ms",
            edits,
        ),
    ])
}

/// Milliseconds from the request that sets a token until the kernel and the slow path have it.
fn edit(daemon: &Daemon, client: &Space, number: usize) -> Result<f64> {
    let name = format!("_acme-challenge.h00000{number}.example.org");
    let body = format!("{{\"name\":\"{name}\",\"token\":\"token\"}}");
    let query = Query::new(&name, TXT).bytes();
    let socket = client.udp("192.0.2.1".parse()?, at(SERVER, 53)?)?;
    let start = Instant::now();
    let (code, said) = daemon.request("PUT", "/v1/acme", &body)?;
    ensure!(code == 200, "a token for {name}: {code}: {said}");
    let kernel = dns::ask(&socket, &query, Duration::from_secs(3))?.context("no answer")?;
    let slow = by_tcp(client, "192.0.2.1", SERVER, &query)?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        kernel.get(7) == Some(&1) && kernel == slow,
        "{name}: the answers are {kernel:?} and {slow:?}"
    );
    Ok(milliseconds)
}

/// A zone with N names, compiled: `ns` and, where they are 10 or a larger power of ten, `h` and a number of
/// N digits less one.
pub(super) fn compiled(names: usize) -> Result<World> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("geodns.toml");
    std::fs::write(&path, CONFIG)?;
    std::fs::write(folder.path().join("example.org.zone"), zone(names))?;
    let inputs = Inputs::of(Config::load(&path)?)?;
    Ok(inputs.compile(&inputs.layers(), 1, [1, 2])?)
}

/// Nanoseconds that one path takes for a name, by [`CASES`].
type Times = [Vec<f64>; CASES.len()];

/// Lookups of random names of both zones, in the kernel and in the slow path.
fn lookups(rounds: usize) -> Result<Vec<Figure>> {
    let worlds = [compiled(ZONES[0].0)?, compiled(ZONES[1].0)?];
    let mut flood = Flood::new(ZONES[0].1)?;
    let mut responders = Vec::new();
    for world in &worlds {
        let plan = world.plan.read().expect("not poisoned");
        let mut responder = Responder::load(&*plan, plan.capacity())?;
        flood.listen(&mut responder)?;
        responders.push(responder);
    }
    // The kernel's with and without what sends and takes the frames.
    let (mut whole, mut kernel) = (Times::default(), Times::default());
    let (mut batches, mut singles) = (Times::default(), Times::default());
    let nanoseconds = |flow: &Flow, frames: u64| 1e9 / flow.per_second(frames);
    let questions = CASES.map(|(zone, draw, _)| Questions::draw(ZONES[zone].1, draw));
    let questions = questions.into_iter().collect::<Result<Vec<_>>>()?;
    // The first round only warms up.
    for round in 0..=rounds {
        let bare = flood.reflector(TIME)?;
        let bare = nanoseconds(&bare, bare.seen.queries);
        for (case, (zone, draw, _)) in CASES.into_iter().enumerate() {
            let name = ZONES[zone].1;
            flood.vary(name, draw)?;
            let flow = flood.responder(&mut responders[zone], TIME)?;
            let answered = 100.0 * flow.seen.answers as f64 / flow.sent as f64;
            ensure!(
                answered > 90.0,
                "{answered} % of the names of {name} are answered"
            );
            if round > 0 {
                let answer = nanoseconds(&flow, flow.seen.answers);
                whole[case].push(answer);
                kernel[case].push(answer - bare);
            }
        }
        for (at_once, times) in [(BATCH, &mut batches), (1, &mut singles)] {
            let answered = in_turns(&worlds, &questions, at_once)?;
            for (times, answered) in times.iter_mut().zip(answered) {
                times.extend((round > 0).then_some(answered));
            }
        }
    }
    // As with the other goals, of what an answer takes. What is above the reflector shows where the time goes: it
    // grows with all that an answer takes less otherwise.
    let goal = Some(Goal::Below(1.5));
    Ok([
        beside("kernel, generator and sink included", &whole, goal),
        beside("kernel, above the reflector", &kernel, None),
        beside("slow path, in batches", &batches, goal),
        beside("slow path, one by one", &singles, None),
    ]
    .concat())
}

/// Figures of each case: its time, and the ratio to the first.
fn beside(path: &str, times: &Times, goal: Option<Goal>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for ((_, _, what), of_case) in CASES.into_iter().zip(times) {
        let what = format!("{path}: {what}");
        figures.push(Figure::new("names", what.clone(), "ns", of_case.clone()));
        if figures.len() > 1 {
            let ratios = of_case
                .iter()
                .zip(&times[0])
                .map(|(one, first)| one / first);
            let mut ratio = Figure::new("names", what, "x of a thousand", ratios.collect());
            ratio.goal = goal;
            figures.push(ratio);
        }
    }
    figures
}

/// Nanoseconds of a core that the slow path takes for a question of each case. The cases take turns, so that
/// what else the machine does is nobody's more than the others'.
fn in_turns(worlds: &[World], questions: &[Questions], at_once: usize) -> Result<Vec<f64>> {
    let mut times = vec![Duration::ZERO; questions.len()];
    for turn in 0..TURNS {
        for (((zone, ..), questions), time) in CASES.iter().zip(questions).zip(&mut times) {
            *time += questions.answer(&worlds[*zone], at_once, turn)?;
        }
    }
    let each = |time: &Duration| time.as_nanos() as f64 / LOOKUPS as f64;
    Ok(times.iter().map(each).collect())
}

/// Questions for names of a zone, one behind the other.
struct Questions {
    octets: Vec<u8>,
    /// Octets of each.
    len: usize,
}

impl Questions {
    /// Draws [`LOOKUPS`] of them.
    fn draw(name: &str, draw: Draw) -> Result<Self> {
        let zeros = name.bytes().filter(|&byte| byte == b'0').count();
        // Header, and the label's length.
        let first = 12 + 1 + name.find('0').context("a name with zeros")?;
        let query = Query::new(name, A).bytes();
        let names = 10_u64.pow(zeros as u32);
        // Knuth's MMIX generator.
        let mut seed = 1_u64;
        let mut octets = Vec::with_capacity(LOOKUPS * query.len());
        for _ in 0..LOOKUPS {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = seed >> 33;
            let number = match draw {
                Draw::Evenly => random,
                // As the generator of the flood does.
                Draw::Zipf => {
                    let share = random as f64 / (1_u64 << 31) as f64;
                    (names as f64).powf(share) as u64 * 387_420_489
                }
            } % names;
            let at = octets.len() + first;
            octets.extend_from_slice(&query);
            octets[at..at + zeros].copy_from_slice(format!("{number:0zeros$}").as_bytes());
        }
        Ok(Self {
            octets,
            len: query.len(),
        })
    }

    /// Measures the CPU time of the slow path for the queries of a turn, N at a time, as the workers of UDP have them.
    fn answer(&self, world: &World, at_once: usize, turn: usize) -> Result<Duration> {
        let identity = Identity {
            id: Some("bench".to_owned()),
            nsid: Some("bench".to_owned()),
            version: Some("bench".to_owned()),
            cookies: None,
        };
        let client: IpAddr = "192.0.2.1".parse()?;
        let mut response = Vec::new();
        let of_turn = self.len * LOOKUPS / TURNS;
        let octets = self.octets.chunks(of_turn).nth(turn);
        let start = core_time()?;
        for batch in octets.unwrap_or(&[]).chunks(self.len * at_once) {
            let queries = batch.chunks_exact(self.len);
            if queries.len() > 1 {
                serve::prefetch(world, queries.clone());
            }
            for query in queries {
                let answered = serve::answer(
                    world,
                    &identity,
                    query,
                    client,
                    Transport::Udp,
                    &mut response,
                );
                ensure!(answered && response[7] == 1, "no answer for a name");
            }
        }
        Ok(core_time()? - start)
    }
}

/// How long this thread has run. What else the machine does meanwhile does not count.
fn core_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// A flood of names that do not exist, beside a bare reflector; and a second client that asks the
/// slow path over TCP all the while.
fn absent(rounds: usize) -> Result<Vec<Figure>> {
    let server = Space::new("target")?;
    let client = Space::new("aside")?;
    let mut flood = Flood::over(server, ABSENT)?;
    join(flood.server(), "eth1", &client, "eth0")?;
    flood.server().ip_batch(&format!(
        "address add {SERVER}/24 dev eth0\naddress add {ASIDE}/24 dev eth1\n"
    ))?;
    client.ip(&format!("address add {ASIDE_CLIENT}/24 dev eth0"))?;
    let setup = Setup::new(&[SERVER, ASIDE])
        .body(CONFIG)
        .file("example.org.zone", &zone(1_000));

    let (mut reflected, mut rates) = (Vec::new(), Vec::new());
    let (mut ratios, mut answered, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
    let mut lost = Vec::new();
    let question = Query::new("h500.example.org", A).bytes();
    for round in 0..=rounds {
        let flow = flood.reflector(TIME)?;
        let bare = flow.per_second(flow.seen.queries);
        let mut daemon = Daemon::start(flood.server(), &setup)?;
        flood.vary(ABSENT, Draw::Evenly)?;
        let before = daemon.counters()?;
        let stop = AtomicBool::new(false);
        let (asked, well) = (AtomicU64::new(0), AtomicU64::new(0));
        let flow = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let answer = by_tcp(&client, ASIDE_CLIENT, ASIDE, &question);
                    // ANCOUNT
                    if answer.is_ok_and(|answer| answer.get(7) == Some(&1)) {
                        well.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let flow = flood.run(TIME);
            stop.store(true, Ordering::Relaxed);
            flow
        })?;
        let after = daemon.counters()?;
        daemon.stop()?;
        if round == 0 {
            continue;
        }
        let counted = |name: &str| (after[name] - before[name]) as f64;
        let nxdomain = counted(Verdict::Nxdomain.name());
        // All that came in by the flood's interface.
        let rate = flow.per_second(flow.seen.nxdomain);
        reflected.push(bare);
        rates.push(rate);
        ratios.push(rate / bare);
        answered.push(100.0 * nxdomain / flow.arrived() as f64);
        lost.push(100.0 * flow.lost.there as f64 / flow.sent as f64);
        let (asked, well) = (asked.into_inner(), well.into_inner());
        ensure!(asked > 0, "nobody asked over TCP");
        tcp.push(100.0 * well as f64 / asked as f64);
    }
    ensure!(
        quantile(&answered, 1.0) <= 100.1,
        "more answers than questions"
    );
    Ok(vec![
        Figure::new("names", "absent: bare reflector", "frames/s", reflected),
        Figure::new(
            "names",
            "absent: NXDOMAIN in the kernel",
            "answers/s",
            rates,
        ),
        Figure::new(
            "names",
            "absent: NXDOMAIN in the kernel",
            "x reflector",
            ratios,
        )
        .goal(Goal::AtLeast(0.55)),
        // Of those that came: see `Lost`.
        Figure::new("names", "absent: answered", "%", answered).goal(Goal::AtLeast(100.0)),
        Figure::new(
            "names",
            "absent: lost before they came, in the veth",
            "%",
            lost,
        ),
        Figure::new("names", "absent: meanwhile over TCP", "% answered", tcp)
            .goal(Goal::AtLeast(100.0)),
    ])
}

/// Asks over TCP.
fn by_tcp(client: &Space, from: &str, to: &str, message: &[u8]) -> Result<Vec<u8>> {
    dns::ask_tcp(&mut client.tcp(from.parse()?, at(to, 53)?)?, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zones_have_the_names_that_are_asked_for() {
        for (names, name) in [(1_000, ZONES[1].1), (10, "h0.example.org")] {
            let text = zone(names);
            let label = name.split('.').next().unwrap();
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{label} A ")))
            );
            assert_eq!(text.lines().count(), 4 + names);
        }
    }
}
