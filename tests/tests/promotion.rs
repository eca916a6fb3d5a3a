//! The kernel as a cache of what is hot: of a zone that is not in its table whole, what is asked most is
//! answered there, and the octets are the same.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{A, AAAA, MX, Query, TXT};
use geodns_tests::needs_root;
use geodns_tests::twins::Twins;

const CLIENT: &str = "10.1.0.1";

/// 500 names, a wildcard, a cut, and records that only the slow path has.
fn zone(serial: u32) -> String {
    let mut text = format!(
        "$TTL 300\n@ SOA ns hostmaster {serial} 7200 900 1209600 300\n@ NS ns\nns A 192.0.2.53\n\
         serial TXT \"{serial}\"\nserial A 192.0.2.97\n*.wild A 192.0.2.99\nchild NS ns.child\nns.child A 192.0.2.98\n"
    );
    for number in 0..500 {
        let _ = writeln!(text, "h{number} A 192.0.2.{}", number % 250);
    }
    for number in 0..60 {
        let _ = writeln!(text, "long A 198.51.100.{number}");
    }
    text
}

/// A setup whose table of names has room for N: four are there from the start.
fn setup(max_names: usize) -> Setup {
    let mut setup = Setup::world("one_mirror", &[]).file("example.org.zone", &zone(1));
    setup.kernel = format!("max_names = {max_names}\n");
    setup
}

/// Names that are in the kernel's table from the start: `example.org`, `www` in it; `other.example`, `a` in it.
const ALWAYS: usize = 4;

fn client() -> IpAddr {
    CLIENT.parse().expect("an address")
}

fn names(daemon: &Daemon, what: &str) -> Result<u64> {
    Ok(daemon.json("status")?["names"][what].as_u64().unwrap_or(0))
}

/// Asks for these names, so often each. Whether all was answered in the kernel.
fn asked(twins: &mut Twins, hosts: &[&str], times: usize) -> Result<bool> {
    twins.counted()?;
    for _ in 0..times {
        for host in hosts {
            twins.ask(client(), &Query::new(&format!("{host}.example.org"), A))?;
        }
    }
    let counted = twins.counted()?;
    Ok(counted.get("static").copied() == Some((hosts.len() * times) as u64))
}

#[test]
fn what_is_asked_often_is_answered_in_the_kernel_and_alike() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup(100))?;
    ensure!(names(&twins.fast, "in_kernel")? == ALWAYS as u64);
    let hot = ["h7", "h77", "serial"];
    ensure!(!asked(&mut twins, &hot, 1)?, "in the kernel from the start");
    twins.until("hot names are promoted", |twins| asked(twins, &hot, 3))?;
    ensure!(names(&twins.fast, "promoted")? == 3);
    let status = twins.fast.ok("status")?;
    ensure!(
        status.contains("7 of 511 names in the kernel (3 promoted, kernel.max_names is 100)"),
        "{status}"
    );
    // Other types, other spelling, EDNS; what is not there is not known to be.
    twins.counted()?;
    for (name, qtype) in [
        ("h7.example.org", AAAA),
        ("h77.EXAMPLE.org", A),
        ("serial.example.org", TXT),
        ("h7.example.org", MX),
    ] {
        twins.ask(client(), &Query::new(name, qtype))?;
        twins.ask(client(), &Query::new(name, qtype).edns(1232))?;
    }
    let counted = twins.counted()?;
    ensure!(
        counted.values().sum::<u64>() == 8 && !counted.contains_key("pass_unknown_name"),
        "{counted:?}"
    );
    for name in ["x.h7.example.org", "none.example.org"] {
        let reply = twins.ask(client(), &Query::new(name, A))?;
        ensure!(reply.addresses() == "NXDOMAIN", "{name}: {reply}");
    }
    twins.all_counted("pass_unknown_name", 2)?;

    // An edit of the zone reaches what was promoted, and does not end it.
    for home in [&twins.fast.home, &twins.slow.home] {
        let text = zone(2)
            .replace("h7 A 192.0.2.7\n", "h7 A 203.0.113.7\n")
            .replace("h77 A 192.0.2.77\n", "");
        std::fs::write(home.folder.path().join("example.org.zone"), text)?;
    }
    twins.ok("reload example.org")?;
    twins.counted()?;
    for (name, qtype, want) in [("h7", A, "203.0.113.7"), ("h77", A, "NXDOMAIN")] {
        let reply = twins.ask(client(), &Query::new(&format!("{name}.example.org"), qtype))?;
        ensure!(reply.addresses() == want, "{name}: {reply}");
    }
    let reply = twins.ask(client(), &Query::new("serial.example.org", TXT))?;
    ensure!(reply.of("TXT") == ["\"2\""], "{reply}");
    let counted = twins.counted()?;
    ensure!(counted.get("static") == Some(&2), "{counted:?}");

    // A new plan knows at once what was hot.
    twins.ok("reload")?;
    twins.until("hot names are promoted again", |twins| {
        Ok(names(&twins.fast, "promoted")? >= 2)
    })?;
    ensure!(asked(&mut twins, &["h7"], 1)?);
    twins.stop()
}

#[test]
fn what_the_kernel_cannot_answer_is_not_promoted() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup(100))?;
    let hosts = ["long", "a.wild", "b.child", "none", "h1"];
    // Until what can be is there.
    twins.until("h1 is promoted", |twins| {
        asked(twins, &hosts, 4)?;
        asked(twins, &["h1"], 1)
    })?;
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        asked(&mut twins, &hosts, 4)?;
    }
    ensure!(
        names(&twins.fast, "promoted")? == 1,
        "{}",
        twins.fast.ok("status")?
    );
    twins.stop()
}

#[test]
fn without_room_the_hotter_takes_the_place_of_the_colder() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup(ALWAYS + 2))?;
    twins.until("two are promoted", |twins| asked(twins, &["h1", "h2"], 5))?;
    twins.until("two others are", |twins| asked(twins, &["h3", "h4"], 40))?;
    let [in_kernel, promoted, demotions] =
        ["in_kernel", "promoted", "demotions"].map(|what| names(&twins.fast, what));
    ensure!((in_kernel?, promoted?, demotions?) == (ALWAYS as u64 + 2, 2, 2));
    ensure!(!asked(&mut twins, &["h1"], 1)? && !asked(&mut twins, &["h2"], 1)?);
    twins.stop()
}
