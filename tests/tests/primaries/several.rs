//! Several primaries of a zone, not all of them up to date, and what is to be had over TCP alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{AXFR, IXFR, SOA};
use geodns_tests::needs_root;
use geodns_tests::net::Pair;
use geodns_tests::primary::{Act, Asked, Primary};

use super::{ONE, OURS, PATIENCE, TWO, secondary, until_serial};

const ZONE: &str = "example.net";

/// A zone that is refreshed each second.
fn soa(q: &Asked, serial: u32) -> Vec<u8> {
    let mut rdata = q.soa_rdata(serial);
    let numbers = rdata.len() - 20;
    for (at, number) in [(4, 1u32), (8, 1)] {
        rdata[numbers + at..numbers + at + 4].copy_from_slice(&number.to_be_bytes());
    }
    q.rr("@", SOA, &rdata)
}

/// The state of a primary.
#[derive(Default)]
struct State {
    serial: AtomicU32,
    is_silent: AtomicBool,
    refuses: AtomicBool,
}

impl State {
    fn set(&self, serial: u32) {
        self.serial.store(serial, Ordering::Relaxed);
    }

    fn play(&self, q: &Asked) -> Vec<Act> {
        if self.is_silent.load(Ordering::Relaxed) {
            return vec![Act::Close];
        }
        let soa = soa(q, self.serial.load(Ordering::Relaxed));
        let refuses = self.refuses.load(Ordering::Relaxed);
        match q.qtype {
            SOA => vec![q.message(&[soa]).send()],
            AXFR | IXFR if !refuses => {
                let records = [vec![soa.clone()], q.body(), vec![soa]].concat();
                vec![q.message(&records).send()]
            }
            _ => vec![q.message(&[]).turned(5).send()],
        }
    }
}

fn checked(daemon: &Daemon) -> Result<u64> {
    let zones = daemon.json("zones")?;
    zones[0]["checked_unix_ms"].as_u64().context("never")
}

/// A primary that is alive and behind hides nothing of the next; a newer version that is there and cannot be had
/// makes the zone no younger; and one primary that is down does no harm.
#[test]
fn a_primary_that_is_behind_hides_nothing() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&["192.0.2.2/32"])?;
    let states: Arc<[State; 2]> = Arc::default();
    let [one, two] = &*states;
    one.set(1);
    two.set(2);
    let addresses = [ONE, TWO].map(IpAddr::from);
    let _primary = Primary::start(&pair.client, &addresses, {
        let states = Arc::clone(&states);
        move |q| states[usize::from(q.at == IpAddr::from(TWO))].play(q)
    })?;
    let daemon = Daemon::start(&pair.server, &secondary([ZONE], &[ONE, TWO], ""))?;
    let space = &pair.client;
    until_serial(space, &daemon, ZONE, 2)?;

    one.set(2);
    two.set(3);
    until_serial(space, &daemon, ZONE, 3)?;
    one.set(3);
    two.set(4);
    two.refuses.store(true, Ordering::Relaxed);
    daemon.logged("no primary is of help (192.0.2.2: AXFR: it answers REFUSED)")?;
    let before = checked(&daemon)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(checked(&daemon)? == before, "{}", daemon.log());
    two.refuses.store(false, Ordering::Relaxed);
    until_serial(space, &daemon, ZONE, 4)?;

    one.set(4);
    two.is_silent.store(true, Ordering::Relaxed);
    let before = checked(&daemon)?;
    let end = Instant::now() + PATIENCE;
    while checked(&daemon)? < before + 2000 {
        ensure!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A server that hears nothing over UDP is told of a change over TCP (RFC 1996 section 3.4).
#[test]
fn a_notify_goes_over_tcp_where_udp_does_not() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let primary = Primary::start(&pair.client, &[ONE.into()], |q| match q.tcp {
        true => vec![q.message(&[]).send()],
        false => Vec::new(),
    })?;
    let ours = IpAddr::from(OURS).to_string();
    let body = "[[zone]]\nname = \"example.net\"\nfile = \"zone\"\nnotify = [\"192.0.2.1\"]\n";
    let zone = "$TTL 9\n@ SOA a b 7 2 3 4 5\n@ NS a.test.\n";
    let setup = Setup::new(&[&ours])
        .mode("off")
        .body(body)
        .file("zone", zone);
    let daemon = Daemon::start(&pair.server, &setup)?;
    daemon.logged("192.0.2.1 knows of serial 7")?;
    let asked = |tcp| {
        let counts = primary.counts();
        let key = (ONE.into(), tcp, ZONE.to_owned(), SOA);
        counts.get(&key).map_or(0, |(count, _)| *count)
    };
    ensure!(
        (asked(false), asked(true)) == (1, 1),
        "{:?}",
        primary.counts()
    );
    Ok(())
}
