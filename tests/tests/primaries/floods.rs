//! NOTIFYs that are forged: whatever comes in, a primary is asked no more often than it should be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::SOA;
use geodns_tests::needs_root;
use geodns_tests::net::Pair;
use geodns_tests::primary::Primary;

use super::{ONE, OURS, TWO, notify, secondary, until_serial};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(4);

#[test]
fn a_flood_of_notifies_asks_primaries_no_more_than_so_often() -> Result<()> {
    needs_root!();
    const RATE: usize = 5;
    const ALL: usize = 8;
    let pair = Pair::bare(&["192.0.2.2/32"])?;
    let serial = Arc::new(AtomicU32::new(1));
    let addresses = [ONE, TWO].map(IpAddr::from);
    let primary = Primary::start(&pair.client, &addresses, {
        let serial = Arc::clone(&serial);
        move |q| {
            let soa = q.soa(serial.load(Ordering::Relaxed));
            match q.qtype {
                SOA => vec![q.message(&[soa]).send()],
                _ => {
                    let records = [vec![soa.clone()], q.body(), vec![soa]].concat();
                    vec![q.message(&records).send()]
                }
            }
        }
    })?;
    let names: Vec<String> = (0..20).map(|number| format!("z{number}.test")).collect();
    let zones = || names.iter().map(String::as_str);
    let limits = format!("[transfer]\nnotify_rate = {RATE}\nnotify_rate_all = {ALL}\n");
    let setup = secondary(zones(), &[ONE, TWO], &limits);
    let daemon = Daemon::start(&pair.server, &setup)?;
    for zone in zones() {
        until_serial(&pair.client, &daemon, zone, 1)?;
    }
    let kept = daemon.home.folder.path().join("zones/z0.test.zone");
    let modified = || -> Result<_> { Ok(kept.metadata()?.modified()?) };
    // The first refresh is over.
    std::thread::sleep(Duration::from_secs(1));
    let asked = || -> [usize; 2] {
        let counts = primary.counts();
        [ONE, TWO].map(|at| {
            let at = IpAddr::from(at);
            let of = counts
                .iter()
                .filter(|((to, _, _, qtype), _)| *to == at && *qtype == SOA);
            of.map(|(_, (count, _))| count).sum()
        })
    };
    let (before, written) = (asked(), modified()?);
    let to = SocketAddr::new(OURS.into(), 53);
    let sockets = [
        pair.client.udp(ONE.into(), to)?,
        pair.client.udp(TWO.into(), to)?,
    ];
    let started = Instant::now();
    let mut sent = 0u16;
    while started.elapsed() < FLOOD {
        for zone in zones() {
            for socket in &sockets {
                sent = sent.wrapping_add(1);
                // Its buffer may be full.
                let _ = socket.send(&notify(sent, zone));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = started.elapsed().as_secs_f64();
    let after = asked();
    let queries = [after[0] - before[0], after[1] - before[1]];
    println!("{queries:?} queries for a flood of {took} s");
    // A second's worth at once, and then N a second; one more for the time of an answer.
    let most = |rate: usize| (rate as f64 * (took + 1.0)) as usize + 2;
    ensure!(
        queries
            .iter()
            .all(|&count| count <= most(RATE) && count > 0),
        "{queries:?}"
    );
    ensure!(queries[0] + queries[1] <= most(ALL), "{queries:?}");
    ensure!(queries[0] + queries[1] > ALL * 3, "{queries:?}");
    ensure!(modified()? == written, "each query is noted on the disk");
    let stats = daemon.json("stats")?;
    let count = |name: &str| stats["slow"][name].as_u64().context("no such counter");
    ensure!(count("notify_heard")? > 1000, "{stats}");
    ensure!(count("notify_merged")? > 1000, "{stats}");
    ensure!(
        count("notify_asked")? >= (queries[0] + queries[1]) as u64 - 2,
        "{stats}"
    );

    // What is true among it is heard, when those that wait have had their turns.
    serial.store(2, Ordering::Relaxed);
    sockets[1].send(&notify(0, "z19.test"))?;
    until_serial(&pair.client, &daemon, "z19.test", 2)
}
