//! `cargo xtask demo`: a little world in network namespaces, to see geodns at work.
//!
//! A server, a router before it, and six clients in networks of their own. Each asks with dig;
//! the table says which mirror it got, and whether the kernel or the slow path answered. Nothing
//! is left of it at the end, nor after Ctrl-C.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_common::verdict::Verdict;
use geodns_tests::daemon::{Daemon, EXAMPLE, EXAMPLE_ZONE, Setup};
use geodns_tests::world::{Space, join, output};
use nix::sys::signal::{SigHandler, Signal, signal};

/// A client: its city, and the number of its networks 198.18.N.0/24 and 3fff:N::/32.
struct Client {
    city: &'static str,
    number: u8,
    space: Space,
}

const CITIES: [(&str, u8); 6] = [
    ("Amsterdam", 1),
    ("Ashburn", 2),
    ("Sao Paulo", 3),
    ("Singapore", 4),
    ("Sydney", 5),
    ("Nairobi", 6),
];

/// Nairobi is in no list: it gets the default.
const PREFIXES: &str = "\
prefix,mirror
198.18.1.0/24,ams
198.18.2.0/23,iad
198.18.4.0/23,sin
3fff:1::/32,ams
3fff:2::/31,iad
3fff:4::/31,sin
";

/// Mirrors by address, as in the example.
const MIRRORS: [(&str, &str); 6] = [
    ("192.0.2.10", "ams"),
    ("2001:db8:1::10", "ams"),
    ("198.51.100.10", "iad"),
    ("2001:db8:2::10", "iad"),
    ("203.0.113.10", "sin"),
    ("2001:db8:3::10", "sin"),
];

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: std::ffi::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    // Everything goes when it is dropped; so a signal only stops the next step.
    for name in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        if let Err(error) = unsafe { signal(name, SigHandler::Handler(interrupted)) } {
            eprintln!("demo: cannot handle {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("\ndemo: interrupted; everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn step() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

fn demo() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces and XDP need root: run `sudo cargo xtask demo`"
    );
    let start = Instant::now();
    println!("A little world: a server, a router, six clients. geodns starts on the server.");
    let server = Space::new("server")?;
    let router = Space::new("router")?;
    join(&server, "eth0", &router, "server")?;
    router.attach("server", "pass")?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    server.ip_batch(
        "address add 192.0.2.53/24 dev eth0
         address add 2001:db8::53/64 dev eth0 nodad
         route add default via 192.0.2.1
         route add default via 2001:db8::1",
    )?;
    router.ip_batch(
        "address add 192.0.2.1/24 dev server
         address add 2001:db8::1/64 dev server nodad",
    )?;
    let mut clients = Vec::new();
    for (city, number) in CITIES {
        step()?;
        clients.push(client(&router, city, number)?);
    }
    let setup = Setup::new(&["192.0.2.53", "2001:db8::53"])
        .body(EXAMPLE)
        .file("example.org.zone", EXAMPLE_ZONE)
        .file("world.csv", PREFIXES);
    step()?;
    let mut daemon = Daemon::start(&server, &setup)?;
    let status = daemon.json("status")?;
    println!(
        "Up in {} ms: XDP in {} mode on eth0, {} instructions verified, {} KiB of tables.\n",
        start.elapsed().as_millis(),
        status["interfaces"][0]["mode"].as_str().unwrap_or("?"),
        status["verified_instructions"],
        status["kernel_memory_bytes"].as_u64().unwrap_or(0) / 1024,
    );

    row(&[
        "CLIENT", "ADDRESS", "QUESTION", "ANSWER", "MIRROR", "BY", "TIME",
    ]);
    // The first packets of a client would measure neighbour discovery.
    for client in &clients {
        step()?;
        dig(client, "192.0.2.53", "ns1.example.org", "A")?;
        dig(client, "2001:db8::53", "ns1.example.org", "AAAA")?;
    }
    let mut kernel = 0;
    for client in &clients {
        kernel += u64::from(ask(&daemon, client, "www.example.org", "A")?);
        kernel += u64::from(ask(&daemon, client, "www.example.org", "AAAA")?);
    }
    ensure!(
        kernel == 12,
        "only {kernel} of 12 answers came from the kernel"
    );

    println!("\nWhat is not hot, the slow path answers from the zone file:");
    let [_, ashburn, _, singapore, sydney, _] = clients.as_slice() else {
        bail!("six clients");
    };
    for (client, name, rtype) in [
        (ashburn, "www.example.org", "TXT"),
        (singapore, "example.org", "MX"),
        (sydney, "absent.example.org", "A"),
    ] {
        let by_kernel = ask(&daemon, client, name, rtype)?;
        ensure!(!by_kernel, "{name} {rtype} is not for the kernel");
    }

    println!("\n$ geodns map set 198.18.5.0/24 iad");
    let before = Instant::now();
    print!("{}", daemon.ok("map set 198.18.5.0/24 iad")?);
    let took = before.elapsed();
    println!(
        "On disk and in the kernel in {:.1} ms, and Sydney has moved:",
        took.as_secs_f64() * 1e3
    );
    ask(&daemon, sydney, "www.example.org", "A")?;

    let counters = daemon.counters()?;
    let slow: u64 = slow_answers(&counters);
    println!(
        "\nCounted: {} answered in the kernel, {slow} passed to the slow path.",
        answered(&counters)
    );
    step()?;
    daemon.stop()?;
    let left = daemon.home.pins.list();
    ensure!(left.is_empty(), "left pinned: {left:?}");
    drop((daemon, clients, server, router));
    println!(
        "All taken down, nothing attached or pinned. {:.1} s in all.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn client(router: &Space, city: &'static str, number: u8) -> Result<Client> {
    let space = Space::new(&city.to_lowercase().replace(' ', ""))?;
    let port = format!("net{number}");
    join(&space, "eth0", router, &port)?;
    space.ip_batch(&format!(
        "address add 198.18.{number}.10/24 dev eth0
         address add 3fff:{number}::10/32 dev eth0 nodad
         route add default via 198.18.{number}.1
         route add default via 3fff:{number}::1"
    ))?;
    router.ip_batch(&format!(
        "address add 198.18.{number}.1/24 dev {port}
         address add 3fff:{number}::1/32 dev {port} nodad"
    ))?;
    Ok(Client {
        city,
        number,
        space,
    })
}

/// Asks and prints a line of the table. Says whether the kernel answered.
fn ask(daemon: &Daemon, client: &Client, name: &str, rtype: &str) -> Result<bool> {
    step()?;
    let (server, from) = if rtype == "AAAA" {
        ("2001:db8::53", format!("3fff:{}::10", client.number))
    } else {
        ("192.0.2.53", format!("198.18.{}.10", client.number))
    };
    let before = answered(&daemon.counters()?);
    let (answer, time) = dig(client, server, name, rtype)?;
    let by_kernel = answered(&daemon.counters()?) > before;
    let mirror = MIRRORS
        .iter()
        .find(|(address, _)| *address == answer)
        .map_or("", |(_, id)| *id);
    row(&[
        client.city,
        &from,
        &format!("{name} {rtype}"),
        &answer,
        mirror,
        if by_kernel { "kernel" } else { "slow path" },
        &format!("{} us", time.as_micros()),
    ]);
    Ok(by_kernel)
}

/// What dig says: the answer (or the status), and how long it took.
fn dig(client: &Client, server: &str, name: &str, rtype: &str) -> Result<(String, Duration)> {
    let said = output(
        client
            .space
            .command("dig")
            .args(["-u", "+tries=1", "+time=3", "+norecurse"])
            .args(["+noall", "+comments", "+answer", "+stats"])
            .args([&format!("@{server}"), name, rtype]),
    )?;
    let text = String::from_utf8_lossy(&said.stdout);
    step()?;
    ensure!(
        said.status.success(),
        "dig {name} {rtype} from {}: {text}",
        client.city
    );
    let after = |mark: &str| Some(text.split_once(mark)?.1.lines().next()?.trim());
    let status = after("status: ")
        .and_then(|rest| rest.split(',').next())
        .with_context(|| format!("no status from dig: {text}"))?;
    let time = after("Query time: ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("no time from dig: {text}"))?;
    let answer = text
        .lines()
        .filter(|line| !line.starts_with(';'))
        .find_map(|line| {
            let mut fields = line.split_whitespace().skip(4).peekable();
            fields.peek()?;
            Some(fields.collect::<Vec<_>>().join(" "))
        })
        .unwrap_or_else(|| status.to_owned());
    Ok((answer, Duration::from_micros(time)))
}

/// Answers that the kernel gave.
fn answered(counters: &BTreeMap<String, u64>) -> u64 {
    Verdict::ALL
        .iter()
        .filter(|verdict| verdict.is_answer())
        .filter_map(|verdict| counters.get(verdict.name()))
        .sum()
}

/// Questions that it passed.
fn slow_answers(counters: &BTreeMap<String, u64>) -> u64 {
    [Verdict::Qtype, Verdict::UnknownName, Verdict::NotSteered]
        .iter()
        .filter_map(|verdict| counters.get(verdict.name()))
        .sum()
}

fn row(cells: &[&str; 7]) {
    let [client, from, question, answer, mirror, by, time] = cells;
    println!(
        "{client:<9}  {from:<11}  {question:<20}  {answer:<19}  {mirror:<6}  {by:<9}  {time:>7}"
    );
}
