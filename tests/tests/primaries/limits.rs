//! Zones that are too large, one by one and together.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Daemon;
use geodns_tests::dns::{A, AXFR, IXFR, SOA, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::Pair;
use geodns_tests::primary::{Act, Asked, Primary};

use super::{ONE, PATIENCE, secondary, serial, until_serial};

/// A zone of N octets more, about.
fn zone(q: &Asked, serial: u32, octets: usize) -> Vec<Vec<u8>> {
    let text = [&[200u8][..], &[b'x'; 200]].concat();
    let mut records = vec![q.soa(serial)];
    records.extend(q.body());
    for number in 0..octets / 250 {
        let mut text = text.clone();
        text[1..9].copy_from_slice(format!("{number:08}").as_bytes());
        records.push(q.rr("x", TXT, &text));
    }
    records.push(q.soa(serial));
    records
}

fn send(q: &Asked, records: &[Vec<u8>]) -> Vec<Act> {
    let messages = records.chunks(100);
    messages.map(|records| q.message(records).send()).collect()
}

fn number(zone: &str) -> usize {
    let digits = zone.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let digits = digits.split('.').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// One zone, by AXFR and by IXFR; all zones; and what is refused leaves what was there.
#[test]
fn a_zone_takes_no_more_than_it_may_and_neither_do_all() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let is_second = Arc::new(AtomicBool::new(false));
    let _primary = Primary::start(&pair.client, &[ONE.into()], {
        let is_second = Arc::clone(&is_second);
        move |q| {
            let is_second = is_second.load(Ordering::Relaxed);
            let serial = if is_second { 2 } else { 1 };
            let of = |serial, octets| zone(q, serial, octets);
            match (
                q.name
                    .split(|c: char| c.is_ascii_digit() || c == '.')
                    .next(),
                q.qtype,
            ) {
                (_, SOA) => vec![q.message(&[q.soa(serial)]).send()],
                (Some("large"), _) => send(q, &of(serial, 100 << 10)),
                (Some("grows"), IXFR) => {
                    // By deltas, each of which would fit.
                    let mut records = vec![q.soa(2), q.soa(1), q.soa(2)];
                    let whole = of(2, 50 << 10);
                    records.extend(whole.into_iter().filter(|record| record.len() > 200).map(
                        |mut record| {
                            // Another text than those that are there.
                            let last = record.len() - 1;
                            record[last] = b'y';
                            record
                        },
                    ));
                    records.push(q.soa(2));
                    send(q, &records)
                }
                (Some("grows"), AXFR) if is_second => vec![q.message(&[]).turned(5).send()],
                (Some("grows"), _) => send(q, &of(1, 50 << 10)),
                _ => send(q, &of(serial, 50 << 10)),
            }
        }
    })?;
    let mut zones = vec!["large.test".to_owned(), "grows.test".to_owned()];
    let limits = "[transfer]\nmax_zone = \"64KiB\"\nmax_all = \"400KiB\"\n";
    let start = |zones: &[String]| {
        let setup = secondary(zones.iter().map(String::as_str), &[ONE], limits);
        (Daemon::start(&pair.server, &setup), setup)
    };
    let (daemon, _) = start(&zones);
    let daemon = daemon?;
    until_serial(&pair.client, &daemon, "grows.test", 1)?;
    daemon.logged("large.test: no primary is of help (192.0.2.1: AXFR: it is larger than 64KiB (transfer.max_zone))")?;
    is_second.store(true, Ordering::Relaxed);
    daemon.ok("reload grows.test")?;
    daemon.logged("grows.test: no primary is of help")?;
    ensure!(
        serial(&pair.client, "grows.test")? == Some(1),
        "{}",
        daemon.log()
    );

    // Of ten zones of 50 KiB, some have room, and not all.
    is_second.store(false, Ordering::Relaxed);
    zones.extend((0..10).map(|number| format!("z{number}.test")));
    let setup = secondary(zones.iter().map(String::as_str), &[ONE], limits);
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    daemon.logged(
        "all transferred zones together are larger than 400KiB with it (transfer.max_all)",
    )?;
    let served = || -> Result<usize> {
        let mut served = 0;
        for number in 0..10 {
            served += usize::from(serial(&pair.client, &format!("z{number}.test"))?.is_some());
        }
        Ok(served)
    };
    let end = Instant::now() + PATIENCE;
    while served()? < 4 {
        ensure!(Instant::now() < end, "{}: {}", served()?, daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(2));
    ensure!(served()? <= 8, "{}", served()?);
    // Zones that go give back what they took.
    let all: Vec<String> = (0..10).map(|number| format!("z{number}.test")).collect();
    let (stay, go): (Vec<_>, Vec<_>) = all.into_iter().partition(|zone| number(zone) < 3);
    ensure!(!go.is_empty());
    let setup = secondary(stay.iter().map(String::as_str), &[ONE], limits);
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    for zone in &stay {
        until_serial(&pair.client, &daemon, zone, 1)?;
    }
    Ok(())
}

/// Resident memory of the daemon, and the most that it was, in MiB.
fn memory(daemon: &Daemon) -> Result<[u64; 2]> {
    let pid = daemon.pid().context("it runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |key: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no such line")?.parse::<u64>()? >> 10)
    };
    Ok([of("VmRSS:")?, of("VmHWM:")?])
}

/// Zones without an end, ten at once, of a primary that knows no bounds: what they take is bounded together, and
/// given back.
#[test]
fn zones_without_an_end_take_no_more_than_all_may_and_give_it_back() -> Result<()> {
    needs_root!();
    const ALL: u64 = 64;
    let pair = Pair::bare(&["192.0.2.2/32"])?;
    let addresses = [[192, 0, 2, 1], [192, 0, 2, 2]];
    let ips = addresses.map(IpAddr::from);
    let is_on = Arc::new(AtomicBool::new(false));
    let _primary = Primary::start(&pair.client, &ips, {
        let is_on = Arc::clone(&is_on);
        move |q| {
            if q.qtype == SOA {
                return vec![q.message(&[q.soa(1)]).send()];
            }
            if !is_on.load(Ordering::Relaxed) {
                return vec![q.message(&[]).turned(5).send()];
            }
            let record = q.rr("x", A, &[192, 0, 2, 9]);
            let many = vec![record; 1000];
            vec![
                q.message(&[q.soa(1)]).send(),
                Act::Repeat(q.message(&many).bytes(), 100_000),
            ]
        }
    })?;
    let names: Vec<String> = (0..16).map(|number| format!("e{number}.test")).collect();
    let limits = format!("[transfer]\nmax_zone = \"{ALL}MiB\"\nmax_all = \"{ALL}MiB\"\n");
    let setup = secondary(names.iter().map(String::as_str), &addresses, &limits);
    let daemon = Daemon::start(&pair.server, &setup)?;
    daemon.logged("it answers REFUSED")?;
    let before = memory(&daemon)?;
    is_on.store(true, Ordering::Relaxed);
    for name in &names {
        daemon.ok(&format!("reload {name}"))?;
    }
    let end = Instant::now() + Duration::from_secs(120);
    let refused = || {
        let log = daemon.log();
        let of = |name: &String| {
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains(&format!("{name}: no primary")) && line.contains("transfer.max_")
            })
        };
        names.iter().filter(|name| of(name)).count()
    };
    while refused() < names.len() {
        ensure!(Instant::now() < end, "{}: {}", refused(), daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Whoever was refused first has begun anew meanwhile, and would end at the bound once more. An attempt of each
    // zone that begins from here on is refused at once, and is the last that is under way.
    is_on.store(false, Ordering::Relaxed);
    let logged = daemon.log().len();
    for name in &names {
        daemon.ok(&format!("reload {name}"))?;
    }
    let over = || {
        let log = daemon.log();
        let log = log.get(logged..).unwrap_or_default().to_owned();
        let of = |name: &&String| {
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains(&format!("{name}: no primary")) && line.contains("it answers REFUSED")
            })
        };
        names.iter().filter(of).count()
    };
    while over() < names.len() {
        ensure!(Instant::now() < end, "{}: {}", over(), daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let after = memory(&daemon)?;
        println!("MiB resident, and at the peak: {before:?} before, {after:?} after");
        ensure!(after[1] < before[0] + 3 * ALL, "{before:?}, {after:?}");
        if after[0] < before[0] + ALL / 8 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{before:?}, {after:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
