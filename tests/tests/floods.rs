//! Floods of what is no use to anybody: malformed, truncated, fragmented, spoofed, oversized. Each is counted to
//! the packet, and takes no answer from those who ask, no memory, and of the slow path no more than its budget.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_common::verdict::Verdict;
use geodns_tests::daemon::{Daemon, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::packet::{Checksum, Frame, checksum, parse_mac};
use geodns_tests::tap::Tap;
use nix::errno::Errno;

const SERVER: &str = "192.0.2.53";
const SERVER_V6: &str = "2001:db8::53";
/// Protocols, or next headers.
const UDP: u8 = 17;
const TCP: u8 = 6;
const ESP: u8 = 50;
/// The flood's clients are of 20.0.0.0/8, which is nobody's: what goes back is lost.
const CLIENT: [u8; 4] = [20, 0, 0, 0];
/// Frames of each flood.
const FRAMES: u32 = 30_000;
/// `kernel.pass_limit`
const BUDGET: u64 = 1_000;
/// Kilobytes by which a daemon may have grown after all floods.
const MEMORY: u64 = 8 << 10;

/// One flood.
struct Flood {
    what: &'static str,
    /// Verdicts that its packets get.
    verdicts: &'static [Verdict],
    /// Octets of a frame, of which the source address is another in each.
    frame: Box<Make>,
}

/// Makes a frame's octets.
type Make = dyn Fn(&Frame) -> Vec<u8>;

fn flood(
    what: &'static str,
    verdicts: &'static [Verdict],
    frame: impl Fn(&Frame) -> Vec<u8> + 'static,
) -> Flood {
    Flood {
        what,
        verdicts,
        frame: Box::new(frame),
    }
}

/// The frame with another message.
fn with(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = frame.clone();
    change(&mut frame.message);
    frame.bytes()
}

/// The frame with another IPv4 header, whose checksum is right.
fn headed(frame: &Frame, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = frame.bytes();
    change(&mut bytes[14..34]);
    bytes[24..26].fill(0);
    let sum = checksum(&[&bytes[14..34]]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The same query over IPv6, with an extension header of this kind, or none.
fn over_v6(frame: &Frame, next: u8) -> Vec<u8> {
    let mut frame = frame.clone();
    if let IpAddr::V4(address) = frame.source {
        let [a, b, c, d] = address.octets().map(u16::from);
        frame.source = [0x2a02, 0, 0, 0, a, b, c, d].into();
    }
    frame.destination = ip(SERVER_V6);
    frame.checksum = match next {
        UDP => Checksum::None,
        _ => Checksum::Right,
    };
    let mut bytes = frame.bytes();
    if next != UDP {
        bytes[20] = next;
        bytes[19] += 8;
        // What comes next; then a length of 8 octets, or a first fragment; and padding, or an identification.
        bytes.splice(54..54, [UDP, 0, 0, 1, 0, 0, 0, 7]);
    }
    bytes
}

/// The frame with four octets of IP options, each no operation, and another protocol.
fn with_options(frame: &Frame, protocol: u8) -> Vec<u8> {
    let mut bytes = headed(frame, |ip| {
        ip[0] = 0x46;
        ip[3] += 4;
        ip[9] = protocol;
    });
    bytes.splice(34..34, [1; 4]);
    bytes[24..26].fill(0);
    let sum = checksum(&[&bytes[14..38]]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn floods() -> Vec<Flood> {
    let query = |name: &str, qtype| Query::new(name, qtype).bytes();
    vec![
        flood("a malformed name", &[Verdict::BadName], |frame| {
            with(frame, |message| message[12] = 0xbf)
        }),
        flood("a pointer for a name", &[Verdict::BadName], |frame| {
            with(frame, |message| message[12..14].fill(0xc0))
        }),
        flood("two questions", &[Verdict::Counts], |frame| {
            with(frame, |message| message[5] = 2)
        }),
        flood("an opcode of nobody's", &[Verdict::Header], |frame| {
            with(frame, |message| message[2] = 0x78)
        }),
        flood("a cut message", &[Verdict::MessageSize], |frame| {
            with(frame, |message| message.truncate(11))
        }),
        flood("a name without a type", &[Verdict::BadName], |frame| {
            with(frame, |message| message.truncate(message.len() - 3))
        }),
        flood("a large message", &[Verdict::MessageSize], |frame| {
            with(frame, |message| message.resize(1_400, 0))
        }),
        flood(
            "octets behind the question",
            &[Verdict::Trailing],
            |frame| with(frame, |message| message.extend([0; 100])),
        ),
        flood("a response", &[Verdict::Response], |frame| {
            with(frame, |message| message[2] |= 0x80)
        }),
        flood(
            "names of nobody's zone",
            &[Verdict::UnknownName],
            move |frame| with(frame, |message| *message = query("www.example.com", A)),
        ),
        flood("cut IP packets", &[Verdict::Truncated], |frame| {
            headed(frame, |ip| ip[2] = 4)
        }),
        flood("first fragments", &[Verdict::Fragment], |frame| {
            headed(frame, |ip| ip[6] = 0x20)
        }),
        flood("later fragments", &[Verdict::Fragment], |frame| {
            headed(frame, |ip| ip[7] = 7)
        }),
        flood("IP options", &[Verdict::IpOptions], |frame| {
            with_options(frame, UDP)
        }),
        // What is not for the daemon has no budget.
        flood("TCP with IP options", &[Verdict::NotUdp], |frame| {
            with_options(frame, TCP)
        }),
        flood("fragments of ESP", &[Verdict::NotUdp], |frame| {
            headed(frame, |ip| (ip[6], ip[7], ip[9]) = (0x20, 7, ESP))
        }),
        flood(
            "fragments of UDP to another port",
            &[Verdict::OtherPort],
            |frame| {
                let mut frame = frame.clone();
                frame.ports[1] = 4500;
                headed(&frame, |ip| ip[6] = 0x20)
            },
        ),
        flood("IPv6 without a checksum", &[Verdict::NoChecksum], |frame| {
            over_v6(frame, UDP)
        }),
        flood("fragments of IPv6", &[Verdict::Fragment], |frame| {
            over_v6(frame, 44)
        }),
        flood("hop-by-hop options", &[Verdict::IpOptions], |frame| {
            over_v6(frame, 0)
        }),
        flood("sources of loopback", &[Verdict::Martian], |frame| {
            headed(frame, |ip| ip[12] = 127)
        }),
        flood("sources of multicast", &[Verdict::Martian], |frame| {
            headed(frame, |ip| ip[12] = 224)
        }),
        flood(
            "our own address for a source",
            &[Verdict::Martian],
            |frame| headed(frame, |ip| ip.copy_within(16..20, 12)),
        ),
        flood(
            "queries from everywhere",
            &[Verdict::Answered],
            Frame::bytes,
        ),
    ]
}

/// Kilobytes that the daemon has.
fn resident(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.pid().context("it runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    Ok(size.context("no VmRSS")?.parse()?)
}

/// Packets that the server's end has received.
fn received(pair: &Pair) -> Result<u64> {
    pair.server.enter(|| {
        let count = fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = count
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:"));
        let packets = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(packets.context("no eth0")?.parse()?)
    })
}

/// Asks again and again, what the kernel answers and what the slow path does, until it is over. Gives how many
/// were asked and how many answered.
fn ask_meanwhile(pair: &Pair, over: &AtomicBool) -> Result<(u32, u32)> {
    let socket = pair.client.udp(ip("192.0.2.1"), at(SERVER, 53)?)?;
    let (mut asked, mut answered) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        // A CNAME into the zone is the slow path's.
        for name in ["www.example.org", "alias.example.org"] {
            let query = Query::new(name, A).bytes();
            asked += 1;
            if let Some(reply) = dns::ask(&socket, &query, Duration::from_secs(2))? {
                ensure!(!Reply::parse(&reply)?.answers.is_empty());
                answered += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok((asked, answered))
}

/// All packets that were counted, whatever became of them.
fn packets(counted: &BTreeMap<String, u64>) -> u64 {
    let verdicts = Verdict::ALL.iter().map(|verdict| verdict.name());
    let over = counted
        .keys()
        .filter(|name| name.starts_with("over_budget_"));
    verdicts
        .chain(over.map(String::as_str))
        .map(|name| counted.get(name).copied().unwrap_or(0))
        .sum()
}

// Invariant 5
#[test]
fn floods_are_counted_to_the_packet_and_take_nothing_from_others() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut setup = Setup::example(&[SERVER, SERVER_V6]);
    setup.kernel = format!("pass_limit = {BUDGET}\n");
    let daemon = Daemon::start(&pair.server, &setup)?;
    let tap = Tap::new(&pair.client, "eth0")?;
    let mut frame = Frame::new("20.0.0.1", SERVER, Query::new("www.example.org", A).bytes());
    frame.macs = [
        parse_mac(&pair.server.mac("eth0")?)?,
        parse_mac(&pair.client.mac("eth0")?)?,
    ];
    // Answers are not for the client's own stack.
    pair.client.ip_batch("route add blackhole 20.0.0.0/8\n")?;
    let mut settled = None;
    for flood in floods() {
        let (before, came) = (daemon.counters()?, received(&pair)?);
        let over = AtomicBool::new(false);
        let start = Instant::now();
        let (asked, answered) = thread::scope(|scope| {
            let others = scope.spawn(|| ask_meanwhile(&pair, &over));
            let sent = send(&tap, &frame, &flood);
            over.store(true, Ordering::Relaxed);
            let others = others.join().expect("no panic");
            sent?;
            others
        })?;
        let time = start.elapsed();
        let (after, came) = (daemon.counters()?, received(&pair)? - came);
        let counted = difference(&before, &after);
        let what = flood.what;
        ensure!(
            asked > 0 && asked == answered,
            "{what}: {answered} of {asked} others"
        );
        ensure!(
            packets(&counted) == came,
            "{what}: {came} came: {counted:?}"
        );
        // A full ring of the veth, on a busy machine, is no packet that came.
        let count = |name: &str| counted.get(name).copied().unwrap_or(0);
        let mut of_flood = 0;
        for verdict in flood.verdicts {
            let name = verdict.name();
            let passed = count(name);
            let over = count(&format!("over_budget_{}", name.trim_start_matches("pass_")));
            of_flood += passed + over;
            if verdict.has_budget() {
                // A tenth of a second's at once, on each CPU; and a tick of the clock.
                let cpus = thread::available_parallelism()?.get() as f64;
                let most = (time.as_secs_f64() + 0.02).mul_add(BUDGET as f64, BUDGET as f64 / 10.0);
                ensure!(
                    passed as f64 <= cpus * most + 2.0,
                    "{what}: {passed} passed in {time:?}"
                );
                ensure!(over > 0, "{what}: {counted:?}");
            } else {
                ensure!(over == 0, "{what}: {counted:?}");
            }
        }
        let least = u64::from(FRAMES) * 95 / 100;
        ensure!(
            (least..=u64::from(FRAMES) + 2 * u64::from(asked)).contains(&of_flood),
            "{what}: {counted:?}"
        );
        settled.get_or_insert(resident(&daemon)?);
    }
    let (before, after) = (settled.context("there are floods")?, resident(&daemon)?);
    ensure!(after < before + MEMORY, "{before} kB, then {after} kB");
    Ok(())
}

/// Sends a flood, each frame from another address.
fn send(tap: &Tap, frame: &Frame, flood: &Flood) -> Result<()> {
    let mut frame = frame.clone();
    frame.checksum = Checksum::None;
    for number in 0..FRAMES {
        let [_, a, b, c] = number.to_be_bytes();
        frame.source = [CLIENT[0], a, b, c | 1].into();
        let bytes = (flood.frame)(&frame);
        while let Err(error) = tap.send(&bytes) {
            let is_full = error.downcast_ref() == Some(&Errno::ENOBUFS);
            ensure!(is_full, "{error:#}");
            thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(())
}
