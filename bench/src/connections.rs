//! Eight prefixes hold all the TCP and TLS connections they can: what the others get meanwhile.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns_tests::crowd;
use geodns_tests::daemon::{Daemon, difference};
use geodns_tests::dns::{A, Query, Reply};
use geodns_tests::net::{Pair, at, ip, output};
use geodns_tests::real;

use crate::figure::{Figure, Goal, quantile};
use crate::flood::SERVER;

/// How long a round lasts once all places are taken.
const TIME: Duration = Duration::from_secs(5);
/// Connections that each prefix holds, or tries to: together more than there are.
const MOST: usize = 640;
/// Networks that others are in.
const OTHERS: u8 = 200;
/// Over TLS each query is a process of its own.
const EVERY: u32 = 10;

/// The outcome of one round.
struct Round {
    /// Connections a second of the crowd.
    opened: f64,
    over_tcp: f64,
    slowest: f64,
    over_tls: f64,
}

/// Measures what others get.
pub fn run(rounds: usize) -> Result<Vec<Figure>> {
    crowd::raise_file_limit()?;
    let pair = Pair::bare(&[])?;
    let others = (0..OTHERS).map(|other| format!("address add 20.3.{other}.1/32 dev lo\n"));
    pair.client.ip_batch(&others.collect::<String>())?;
    crowd::settle(&pair.client)?;
    let made = rcgen::generate_simple_self_signed(vec!["ns1.example.org".to_owned()])?;
    let mut setup = real::setup(SERVER)
        .mode("off")
        .file("tls.crt", &made.cert.pem())
        .file("tls.key", &made.signing_key.serialize_pem());
    setup
        .body
        .insert_str(0, "[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    let daemon = Daemon::start(&pair.server, &setup)?;
    let rounds = (0..rounds).map(|_| round(&pair, &daemon));
    Ok(figures(&rounds.collect::<Result<Vec<_>>>()?))
}

fn round(pair: &Pair, daemon: &Daemon) -> Result<Round> {
    let query = Query::new(real::NAME, A).bytes();
    let query = [&(query.len() as u16).to_be_bytes(), &query[..]].concat();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for prefix in 0..crowd::PREFIXES {
            let (query, over) = (&query, &over);
            scope.spawn(move || {
                let held = crowd::hold(&pair.client, (prefix, MOST), ip(SERVER), query, over);
                if let Err(error) = held {
                    eprintln!("bench: 20.1.{prefix}.0/24: {error:#}");
                }
            });
        }
        let round = ask(pair, daemon, &query);
        over.store(true, Ordering::Relaxed);
        round
    })
}

/// Asks as the others, a connection for each query, while all places are taken.
fn ask(pair: &Pair, daemon: &Daemon, query: &[u8]) -> Result<Round> {
    let before = daemon.stats("slow")?;
    let counted = || Ok::<_, anyhow::Error>(difference(&before, &daemon.stats("slow")?));
    let start = Instant::now();
    while counted()?.get("tcp_displaced").copied().unwrap_or(0) < 200 {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "there are places left"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let (opened, start) = (counted()?["tcp_connections"], Instant::now());
    let (mut asked, mut asked_over_tls) = (0, 0);
    let (mut times, mut over_tls) = (Vec::new(), 0);
    while start.elapsed() < TIME {
        let from = format!("20.3.{}.1", asked % u32::from(OTHERS));
        let asking = Instant::now();
        if ask_once(pair, &from, query).is_ok() {
            times.push(asking.elapsed().as_secs_f64() * 1000.0);
        }
        if asked % EVERY == 0 {
            let mut dot = pair.client.command("kdig");
            dot.arg(format!("@{SERVER}"));
            dot.args(["+tls", "+short", "+timeout=5", "+retry=0", "-b", &from]);
            let said = output(dot.args([real::NAME, "A"]))?;
            over_tls += u32::from(said.status.success() && !said.stdout.is_empty());
            asked_over_tls += 1;
        }
        asked += 1;
        thread::sleep(Duration::from_millis(2));
    }
    let opened = (counted()?["tcp_connections"] - opened) as f64 / start.elapsed().as_secs_f64();
    Ok(Round {
        opened,
        over_tcp: 100.0 * times.len() as f64 / f64::from(asked),
        slowest: quantile(&times, 0.99),
        over_tls: 100.0 * f64::from(over_tls) / f64::from(asked_over_tls),
    })
}

fn ask_once(pair: &Pair, from: &str, query: &[u8]) -> Result<()> {
    let mut stream = pair.client.tcp(ip(from), at(SERVER, 53)?)?;
    stream.write_all(query)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message)?;
    let reply = Reply::parse(&message).context(from.to_owned())?;
    ensure!(!reply.answers.is_empty());
    Ok(())
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let figure = |what: &str, unit, of: fn(&Round) -> f64| {
        Figure::new("abuse", what, unit, rounds.iter().map(of).collect())
    };
    let enough = Goal::AtLeast(99.0);
    vec![
        figure(
            "eight /24 that hold all connections they can: opened, others' included",
            "connections/s",
            |of| of.opened,
        ),
        figure("others that are answered over TCP", "%", |of| of.over_tcp).goal(enough),
        figure("the same, the 99th percentile of their times", "ms", |of| {
            of.slowest
        }),
        figure("others that are answered over TLS", "%", |of| of.over_tls).goal(enough),
    ]
}
