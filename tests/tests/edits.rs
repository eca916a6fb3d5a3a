//! A zone that changes while it is asked for: in place, in both paths, without a wrong or a lost answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::at;
use geodns_tests::twins::Twins;

const CLIENT: &str = "10.1.0.1";

/// A version of the zone: 200 names that stay, 100 that come and go, one that has the version.
fn zone(version: u32) -> String {
    let mut text = format!(
        "$TTL 300\n@ SOA ns hostmaster {version} 7200 900 1209600 300\n@ NS ns\nns A 192.0.2.53\n\
         version TXT \"{version}\"\n"
    );
    for number in 0..200 {
        let _ = writeln!(text, "stays{number} A 192.0.2.{number}");
    }
    for number in (0..100).filter(|number: &u32| !(number + version).is_multiple_of(3)) {
        let _ = writeln!(text, "goes{number} A 198.51.100.{}", version % 250);
    }
    text
}

#[test]
fn a_zone_changes_under_questions_and_none_is_answered_wrong() -> Result<()> {
    needs_root!();
    let setup = |version| Setup::world("one_mirror", &[]).file("example.org.zone", &zone(version));
    let mut twins = Twins::start(&setup(1))?;
    let generation = twins.fast.json("status")?["generation"].clone();
    let client: IpAddr = CLIENT.parse()?;
    let socket = twins.pair.client.udp(client, at("192.0.2.53", 53)?)?;
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| -> Result<u64> {
        // One that asks for what stays, for what never was, and for another zone, all the while.
        let asking = scope.spawn(|| -> Result<u64> {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let number = asked % 200;
                for (name, want) in [
                    (
                        format!("stays{number}.example.org"),
                        format!("192.0.2.{number}"),
                    ),
                    (format!("never{number}.example.org"), "NXDOMAIN".to_owned()),
                    ("www.example.org".to_owned(), "192.0.2.10".to_owned()),
                    ("a.other.example".to_owned(), "192.0.2.77".to_owned()),
                ] {
                    let query = Query::new(&name, A).bytes();
                    let reply = dns::ask(&socket, &query, Duration::from_secs(5))?;
                    let reply = Reply::parse(&reply.with_context(|| format!("{name}: lost"))?)?;
                    ensure!(
                        reply.addresses() == want,
                        "{name}: want {want}, got {reply}"
                    );
                }
                asked += 1;
            }
            Ok(asked)
        });
        let mut edit = || -> Result<()> {
            for version in 2..=20 {
                for home in [&twins.fast.home, &twins.slow.home] {
                    let path = home.folder.path().join("example.org.zone");
                    std::fs::write(path, zone(version))?;
                }
                twins.ok("reload example.org")?;
                let before = twins.fast.counters()?;
                let reply = twins.ask(client, &Query::new("version.example.org", TXT))?;
                ensure!(
                    reply.of("TXT") == [format!("\"{version}\"")],
                    "{version}: {reply}"
                );
                for number in 0..100 {
                    let there = !(number + version).is_multiple_of(3);
                    let query = Query::new(&format!("goes{number}.example.org"), A);
                    let reply = twins.ask(client, &query)?;
                    let want = match there {
                        true => format!("198.51.100.{}", version % 250),
                        false => "NXDOMAIN".to_owned(),
                    };
                    ensure!(reply.addresses() == want, "{version}, {number}: {reply}");
                }
                // All of it in the kernel, but for the questions to the other daemon.
                let counted: BTreeMap<String, u64> = difference(&before, &twins.fast.counters()?);
                let of = |name: &str| counted.get(name).copied().unwrap_or_default();
                ensure!(of("static") >= 67 && of("nxdomain") >= 33, "{counted:?}");
                ensure!(of("pass_zone") == 0, "{counted:?}");
            }
            Ok(())
        };
        let edited = edit();
        stop.store(true, Ordering::Relaxed);
        let asked = asking.join().expect("no panic")?;
        edited?;
        Ok(asked)
    })?;
    ensure!(asked > 20, "{asked} rounds of questions are too few");
    // In place: it is still the same plan.
    let now = twins.fast.json("status")?["generation"].clone();
    ensure!(now == generation, "plan {generation}, then {now}");
    twins.stop()
}
