//! Queries that are dropped by rules, of the configuration and of `geodns block`: the same in both paths, over UDP
//! and TCP, counted, and kept.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::Setup;
use geodns_tests::dns::{self, A, AAAA, ANY, MX, Query, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{at, ip};
use geodns_tests::twins::Twins;
use geodns_tests::ways::{Asking, WAYS};

/// The daemon with the program, and the one without.
const SERVERS: [&str; 2] = ["192.0.2.53", "192.0.2.54"];
const SERVERS_V6: [&str; 2] = ["2001:db8::53", "2001:db8::54"];
/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(150);
/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const RULES: &str = r#"
[[block]]
name = "mail.example.org"
note = "of the file"
[[block]]
below = "evil.example.org"
type = "TXT"
[[block]]
type = "ANY"
[[block]]
type = "TYPE65280"
from = ["20.1.0.0/16"]
[[block]]
from = ["45.0.0.0/9", "2a02::/17"]
"#;

fn setup() -> Setup {
    Setup::example(&[]).and(RULES)
}

fn server(which: usize, from: IpAddr) -> &'static str {
    match from {
        IpAddr::V4(_) => SERVERS[which],
        IpAddr::V6(_) => SERVERS_V6[which],
    }
}

/// Asks one of the two.
fn ask(
    twins: &Twins,
    which: usize,
    from: &str,
    message: &[u8],
    patience: Duration,
) -> Result<Option<Vec<u8>>> {
    let from = ip(from);
    let socket = twins.pair.client.udp(from, at(server(which, from), 53)?)?;
    dns::ask(&socket, message, patience)
}

/// That both drop a message.
fn dropped(twins: &Twins, from: &str, message: &[u8]) -> Result<()> {
    for which in [0, 1] {
        let answer = ask(twins, which, from, message, SILENCE)?;
        ensure!(
            answer.is_none(),
            "{which}: an answer for {from}: {message:02x?}"
        );
    }
    Ok(())
}

/// That both answer a message, and the same.
fn answered(twins: &Twins, from: &str, message: &[u8]) -> Result<()> {
    let answers = [0, 1].map(|which| ask(twins, which, from, message, PATIENCE));
    let [fast, slow] = answers;
    let (fast, slow) = (fast?, slow?);
    ensure!(fast.is_some(), "no answer for {from}: {message:02x?}");
    ensure!(fast == slow, "{fast:02x?} and {slow:02x?}");
    Ok(())
}

/// A query that the program cannot read is passed, and the slow path applies the rules.
#[test]
fn no_way_leads_around_a_rule() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup())?;
    let www = || Query::new("www.example.org", A).edns(1232);
    for way in &WAYS {
        let client = |v4: &str, v6: &str| ip(if way.is_v6 { v6 } else { v4 });
        let ask = |twins: &Twins, from: IpAddr, query: &Query, patience| {
            Asking::new(&twins.pair, way, from, server(0, from))?.ask(query, patience)
        };
        let free = client("20.2.0.1", "2a02:8000::1");
        // The same octets as by a plain packet, of either path.
        for query in [www(), www().subnet(1, 24, 0, &[10, 1, 2])] {
            let [plain, slow] = twins.ask_each(free, &query)?;
            let back = ask(&twins, free, &query, PATIENCE)?;
            let back = back.with_context(|| format!("{}: no answer", way.what))?;
            ensure!(back == plain && back == slow, "{}: {back:02x?}", way.what);
        }
        for (from, query) in [
            (client("45.1.2.3", "2a02:7fff::1"), www()),
            (free, Query::new("mail.example.org", A).edns(1232)),
            (free, Query::new("a.evil.example.org", TXT).edns(1232)),
            (free, Query::new("www.example.org", ANY).edns(1232)),
            // Two servers must never talk to each other.
            (free, www().flags(dns::QR)),
        ] {
            let back = ask(&twins, from, &query, SILENCE)?;
            ensure!(back.is_none(), "{}: {query:?} is answered", way.what);
        }
        let counted = twins.counted()?;
        let is_seen = way.verdict.is_empty() || counted.contains_key(way.verdict);
        // The program's noise has that one too.
        ensure!(is_seen || way.verdict == "pass_ip_options", "{counted:?}");
    }
    twins.stop()
}

#[test]
fn both_paths_drop_the_same() -> Result<()> {
    needs_root!();
    let twins = Twins::start(&setup())?;
    let query = |name: &str, qtype| Query::new(name, qtype).bytes();
    let deep = format!("{}evil.example.org", "a.".repeat(20));
    let mut two = query("www.example.org", A);
    two[5] = 2;
    let mut garbage = query("www.example.org", A);
    garbage[12] = 0xff;
    let mut unknown_opcode = query("mail.example.org", A);
    unknown_opcode[2] = 0x78;
    let drops = [
        ("10.1.0.1", query("mail.example.org", A)),
        ("10.1.0.1", query("MAIL.Example.ORG", AAAA)),
        (
            "10.1.0.1",
            Query::new("mail.example.org", MX).edns(1232).bytes(),
        ),
        ("10.1.0.1", query("evil.example.org", TXT)),
        ("fd01::1", query("a.b.c.evil.example.org", TXT)),
        ("10.1.0.1", query(&deep, TXT)),
        ("10.1.0.1", query("www.example.org", ANY)),
        ("10.1.0.1", query("nobodys.test", ANY)),
        ("20.1.2.3", query("www.example.org", 65280)),
        ("45.1.2.3", query("www.example.org", A)),
        ("2a02:7fff::1", query("www.example.org", A)),
        ("45.1.2.3", two.clone()),
        ("45.1.2.3", garbage.clone()),
        ("45.1.2.3", vec![1, 2, 3]),
        ("45.1.2.3", vec![7; 600]),
        ("10.1.0.1", unknown_opcode),
    ];
    let before = twins.fast.counters()?;
    for (from, message) in &drops {
        dropped(&twins, from, message)?;
    }
    for (from, message) in [
        ("10.1.0.1", query("www.example.org", A)),
        ("10.1.0.1", query("a.mail.example.org", A)),
        ("10.1.0.1", query("example.org", MX)),
        ("10.1.0.1", query("evil.example.org", A)),
        ("10.1.0.1", query("notevil.example.org", TXT)),
        ("20.2.2.3", query("www.example.org", 65280)),
        ("20.1.2.3", query("www.example.org", A)),
        ("45.128.0.1", query("www.example.org", A)),
        ("2a02:8000::1", query("www.example.org", A)),
        // Where a client says it is does not matter.
        (
            "10.1.0.1",
            Query::new("www.example.org", A)
                .subnet(1, 24, 0, &[45, 1, 2])
                .bytes(),
        ),
        ("10.1.0.1", two),
        ("10.1.0.1", garbage),
    ] {
        answered(&twins, from, &message)?;
    }
    // All but one, of more labels than the program walks, were the kernel's.
    let counted = geodns_tests::daemon::difference(&before, &twins.fast.counters()?);
    let in_userspace = twins.fast.stats("slow")?["dropped_blocked"];
    let all = drops.len() as u64;
    ensure!(
        counted.get("drop_blocked") == Some(&(all - 1)),
        "{counted:?}"
    );
    ensure!(in_userspace == 1, "{in_userspace} in userspace");
    ensure!(twins.slow.stats("slow")?["dropped_blocked"] == all);
    for daemon in [&twins.fast, &twins.slow] {
        let rules = daemon.json("block list")?;
        let rules = rules.as_array().context("a list")?;
        let dropped = rules.iter().filter_map(|rule| rule["dropped"].as_u64());
        ensure!(dropped.sum::<u64>() == all, "{rules:?}");
        ensure!(
            rules[0]["note"] == "of the file" && rules[0]["dropped"] == 4,
            "{rules:?}"
        );
        ensure!(rules[0]["number"].is_null(), "{rules:?}");
    }
    Ok(())
}

/// Asks over TCP; `None`: the connection was closed.
fn ask_over_tcp(twins: &Twins, which: usize, from: &str, query: &[u8]) -> Result<Option<Vec<u8>>> {
    let from = ip(from);
    let mut stream = twins.pair.client.tcp(from, at(server(which, from), 53)?)?;
    match dns::ask_tcp(&mut stream, query) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.downcast_ref::<std::io::Error>() {
            Some(error) if error.kind() != std::io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error.context("neither answered nor closed")),
        },
    }
}

#[test]
fn a_blocked_query_over_tcp_closes_the_connection() -> Result<()> {
    needs_root!();
    let twins = Twins::start(&setup())?;
    let query = |name: &str| Query::new(name, A).bytes();
    for which in [0, 1] {
        for (from, name, answers) in [
            ("10.1.0.1", "www.example.org", true),
            ("10.1.0.1", "mail.example.org", false),
            ("45.1.2.3", "www.example.org", false),
            ("45.200.2.3", "www.example.org", true),
        ] {
            let answer = ask_over_tcp(&twins, which, from, &query(name))?;
            ensure!(
                answer.is_some() == answers,
                "{which}: {name} from {from}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_rule_holds_when_it_is_said_and_until_it_is_taken_back() -> Result<()> {
    needs_root!();
    let mut twins = Twins::start(&setup())?;
    let www = Query::new("www.example.org", A).bytes();
    let txt = Query::new("www.example.org", TXT).bytes();
    answered(&twins, "20.1.2.3", &www)?;
    for daemon in [&twins.fast, &twins.slow] {
        let said =
            daemon.ok("block add --below www.example.org --type a --from 20.0.0.0/8 --note one")?;
        ensure!(
            said == "dropped from here on: below www.example.org type A from 20.0.0.0/8; 7 in all\n",
            "{said}"
        );
        let said = daemon.ok("block add --from 21.0.0.0/8 --from 45.0.0.0/9 --from 21.0.0.0/8")?;
        ensure!(
            said == "dropped from here on: from 21.0.0.0/8; 2 were there before; 8 in all\n",
            "{said}"
        );
    }
    let holds = |twins: &Twins| -> Result<()> {
        dropped(twins, "20.1.2.3", &www)?;
        dropped(twins, "21.1.2.3", &www)?;
        answered(twins, "20.1.2.3", &txt)?;
        answered(twins, "10.1.2.3", &www)
    };
    holds(&twins)?;
    // A new instance has another key for names, and the same counters.
    twins.ok("reload")?;
    holds(&twins)?;
    let rules = twins.fast.json("block list")?;
    ensure!(
        rules[6]["number"] == 1 && rules[6]["dropped"] == 2,
        "{rules}"
    );
    twins.restart(true)?;
    holds(&twins)?;
    twins.restart(false)?;
    holds(&twins)?;
    let listed = twins.fast.ok("block list")?;
    ensure!(
        listed.contains("   1  below www.example.org type A from 20.0.0.0/8        1  one\n"),
        "{listed}"
    );

    // A file that has what the command line said too: it is the file's, and once.
    twins.change(&setup().and("[[block]]\nfrom = [\"21.0.0.0/8\"]\n"))?;
    holds(&twins)?;
    ensure!(twins.fast.json("block list")?.as_array().map(Vec::len) == Some(8));
    twins.change(&setup())?;

    let (code, why) = twins.fast.fails("block remove 1 77")?;
    ensure!(code == 1 && why.contains("there is no rule 77"), "{why}");
    holds(&twins)?;
    for daemon in [&twins.fast, &twins.slow] {
        let said = daemon.ok("block remove 1")?;
        ensure!(
            said == "no longer dropped: below www.example.org type A from 20.0.0.0/8; 7 in all\n",
            "{said}"
        );
    }
    answered(&twins, "20.1.2.3", &www)?;
    dropped(&twins, "21.1.2.3", &www)?;
    for daemon in [&twins.fast, &twins.slow] {
        daemon.ok("block clear")?;
    }
    answered(&twins, "21.1.2.3", &www)?;
    // Those of the file stay.
    dropped(&twins, "45.1.2.3", &www)
}

#[test]
fn rules_are_bounded_and_bad_ones_are_refused_in_a_line() -> Result<()> {
    needs_root!();
    let twins = Twins::start(&setup())?;
    let daemon = &twins.fast;
    for (words, why) in [
        (
            "block add",
            "a rule without a name, a type and a prefix is every query; say which",
        ),
        ("block add --below .", "below . is every query; say which"),
        ("block add --type nonsense", "\"nonsense\" is not a type"),
        ("block add --name a..b", "\"a..b\" is not a domain name"),
        (
            "block remove 5",
            "there is no rule 5: `geodns block list` has the numbers",
        ),
    ] {
        let (code, said) = daemon.fails(words)?;
        ensure!(
            code == 1 && said.contains(why) && said.lines().count() == 1,
            "{words}: {said}"
        );
    }
    // The file has four with a name or a type.
    for number in 0..60 {
        daemon.ok(&format!("block add --name n{number}.example.org"))?;
    }
    let (_, said) = daemon.fails("block add --name n60.example.org")?;
    ensure!(
        said.contains("65 rules with a name or a type are more than 64; remove some"),
        "{said}"
    );
    dropped_by(&twins, "n0.example.org")?;
    dropped_by(&twins, "n59.example.org")?;
    let sixty = ask(
        &twins,
        0,
        "10.1.0.1",
        &Query::new("n60.example.org", A).bytes(),
        PATIENCE,
    )?;
    ensure!(sixty.is_some());

    // As block lists are published.
    let file = daemon.home.folder.path().join("drop.txt");
    let list: String = (0..16_000_u32)
        .map(|n| format!("20.{}.{}.0/24 ; SBL{n}\n", n >> 8, n & 255))
        .collect();
    std::fs::write(&file, list)?;
    let said = daemon.ok(&format!("block add --from-file {}", file.display()))?;
    ensure!(
        said == "dropped from here on: 16000 rules; 16066 in all\n",
        "{said}"
    );
    let query = Query::new("www.example.org", A).bytes();
    for (from, drops) in [
        ("20.0.0.9", true),
        ("20.62.127.9", true),
        ("20.62.128.9", false),
    ] {
        let answer = ask(
            &twins,
            0,
            from,
            &query,
            if drops { SILENCE } else { PATIENCE },
        )?;
        ensure!(answer.is_none() == drops, "{from}");
    }
    let list: String = (0..400)
        .map(|n| format!("21.0.{}.{}\n", n >> 8, n & 255))
        .collect();
    std::fs::write(&file, list)?;
    let (_, said) = daemon.fails(&format!("block add --from-file {}", file.display()))?;
    ensure!(
        said.contains("16466 rules are more than 16384; remove some"),
        "{said}"
    );
    let said = daemon.ok("block clear")?;
    ensure!(
        said == "no longer dropped: 16060 rules; 6 in all\n",
        "{said}"
    );
    let answer = ask(&twins, 0, "20.0.0.9", &query, PATIENCE)?;
    ensure!(answer.is_some());

    // A file whose rules would be too many with those of the command line is not in force.
    for number in 0..60 {
        daemon.ok(&format!("block add --name n{number}.example.org"))?;
    }
    daemon.home.write(&Setup {
        listen: vec![SERVERS[0].into(), SERVERS_V6[0].into()],
        ..setup().and("[[block]]\nname = \"more.example.org\"\n")
    })?;
    let (_, said) = daemon.fails("reload")?;
    ensure!(
        said.contains("65 rules with a name or a type are more than 64"),
        "{said}"
    );
    let more = ask(
        &twins,
        0,
        "10.1.0.1",
        &Query::new("more.example.org", A).bytes(),
        PATIENCE,
    )?;
    ensure!(more.is_some());
    dropped_by(&twins, "n59.example.org")
}

/// That the daemon with the program drops queries for a name.
fn dropped_by(twins: &Twins, name: &str) -> Result<()> {
    let answer = ask(twins, 0, "10.1.0.1", &Query::new(name, A).bytes(), SILENCE)?;
    ensure!(answer.is_none(), "{name} is answered");
    Ok(())
}
