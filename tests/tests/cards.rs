//! The program on network cards that qemu emulates, and on interfaces upon them: `cargo xtask test --guest`. Elsewhere
//! there are no cards, and so no cases.
//!
//! Each case prints a row of the table that stands at the end.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpMode;
use geodns_tests::built::binary;
use geodns_tests::cards::{QUESTIONS, SERVER, Site, cards};
use geodns_tests::cases::{case, run};
use geodns_tests::daemon::{Daemon, Home, Setup};
use geodns_tests::net::{Space, at, ip};
use geodns_tests::rig::Rig;
use geodns_tests::{net, until};

/// A card, and how the program should be attached to it.
struct Card {
    name: &'static str,
    /// Under Linux 6.1, and under later kernels.
    modes: [&'static str; 2],
    /// A part of the reason that is given where the mode is generic.
    reason: &'static str,
    /// A part of the problem that `geodns doctor` sees. It loads the program, which takes long in a guest: it is not asked
    /// where this is empty.
    problem: &'static str,
    /// The driver takes the program and does not run it: mode auto takes the generic one.
    blind: bool,
    /// From then on that its rings have changed, it does not run the program, until that is attached anew.
    forgets: bool,
    /// The kernel warns when generic mode turns off what the card does not let it.
    warns: bool,
}

const fn native(name: &'static str) -> Card {
    Card {
        name,
        modes: ["native"; 2],
        reason: "",
        problem: "",
        blind: false,
        forgets: false,
        warns: false,
    }
}

const fn generic(name: &'static str, reason: &'static str) -> Card {
    Card {
        modes: ["generic"; 2],
        reason,
        ..native(name)
    }
}

const CARDS: [Card; 10] = [
    native("virtio-queues"),
    native("virtio-single"),
    Card {
        problem: "mrg_rxbuf",
        blind: true,
        ..generic("virtio-big-buffers", "mrg_rxbuf")
    },
    Card {
        problem: "guest_tso4",
        warns: true,
        ..generic("virtio-fixed-offloads", "guest_tso4")
    },
    // Its MTU is 9000 from the start, which takes the frags mark.
    Card {
        modes: ["generic", "native"],
        reason: "ip link set dev eth0 mtu",
        ..native("virtio-jumbo")
    },
    native("igb"),
    generic("e1000e", "no native mode in any kernel"),
    generic("e1000", "no native mode in any kernel"),
    Card {
        modes: ["generic", "native"],
        reason: "does not support XDP",
        forgets: true,
        ..native("vmxnet3")
    },
    generic("rtl8139", "does not support XDP"),
];

/// 0 under Linux 6.1, 1 under later kernels.
fn kernel() -> Result<usize> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(usize::from(!release.starts_with("6.1.")))
}

/// How often the kernel has warned, or worse, since it was booted.
fn warnings() -> Result<usize> {
    let log = net::run(&mut Command::new("dmesg"))?;
    let is_warning = |line: &&str| {
        ["WARNING: ", "BUG: ", "Oops"]
            .iter()
            .any(|word| line.contains(word))
    };
    Ok(log.lines().filter(is_warning).count())
}

/// A row of the table, and what was wrong. It is printed when it is dropped: where a case ends early, too.
struct Row {
    cells: Vec<String>,
    wrong: Vec<String>,
}

impl Row {
    fn new(name: &str) -> Self {
        Self {
            cells: vec![name.to_owned()],
            wrong: Vec::new(),
        }
    }

    fn add(&mut self, cell: impl Into<String>) {
        self.cells.push(cell.into());
    }

    /// Goes on, and fails in the end, unless this is so.
    fn expect(&mut self, is_so: bool, otherwise: impl FnOnce() -> String) {
        if !is_so {
            self.wrong.push(otherwise());
        }
    }

    /// The same of the questions that the program answered.
    fn expect_all(&mut self, answered: u64, when: &str) {
        self.expect(answered == QUESTIONS, || {
            format!("{when} the program answers {answered} of {QUESTIONS}")
        });
    }

    fn judge(&self) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        Ok(())
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        println!("\nguest: row {}", self.cells.join(" | "));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The mode in which the program is attached to the first interface, and the reason if it is the generic one.
fn mode(daemon: &Daemon) -> Result<(String, String)> {
    let status = daemon.json("status")?;
    let interface = &status["interfaces"][0];
    let mode = interface["mode"].as_str().unwrap_or("not attached");
    let reason = interface["reason"].as_str().unwrap_or_default();
    Ok((mode.to_owned(), reason.to_owned()))
}

/// Waits until the program answers all questions.
fn is_answered(site: &Site, daemon: &Daemon, when: &str) -> Result<()> {
    until(&format!("{when}: the program answers"), || {
        Ok(site.ask(daemon)? == QUESTIONS)
    })
    .with_context(|| daemon.log())
}

/// `geodns doctor` sees this problem with `eth0`, among others.
fn doctor(site: &Site, problem: &str, row: &mut Row) -> Result<()> {
    let mut doctor = site.server.command(binary()?);
    let told = net::output(doctor.args(["doctor", "--iface", "eth0"]))?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(
        matches!(told.status.code(), Some(0 | 1)),
        "doctor: {told:?}"
    );
    let problems = text
        .lines()
        .filter(|line| line.trim().starts_with("problem"));
    let is_seen = problems.clone().any(|line| line.contains(problem));
    row.add(format!("doctor: {} problems", problems.count()));
    row.expect(is_seen, || format!("doctor does not see {problem}: {text}"));
    Ok(())
}

/// One card, from the start of the daemon to its stop.
fn try_card(card: &Card) -> Result<()> {
    let mut row = Row::new(card.name);
    let warnings_before = warnings()?;
    let site = Site::new(&[card.name])?;
    row.add(site.driver("eth0")?);

    match card.problem {
        "" => row.add(""),
        problem => doctor(&site, problem, &mut row)?,
    }
    let setup = Setup::example(&[]).mode("auto");
    let carrier_before = site.carrier_changes()?;
    let (mut daemon, silence) = site.silence(|| Daemon::start(&site.server, &setup))?;
    let carrier = site.carrier_changes()? - carrier_before;
    let (mode, reason) = mode(&daemon)?;
    let expected = card.modes[kernel()?];
    row.add(&mode);
    row.add(match carrier {
        0 => format!("attach {}", seconds(silence)),
        _ => format!("attach {}, no carrier", seconds(silence)),
    });
    row.expect(mode != "generic" || carrier == 0, || {
        "the carrier went for generic mode".into()
    });
    row.expect(mode == expected, || {
        format!("{mode} mode, not {expected}: {}", daemon.log())
    });
    row.expect(
        mode != "generic" || !reason.is_empty() && reason.contains(card.reason),
        || format!("the reason is {reason:?}"),
    );

    let rounds = 5;
    let mut answered = 0;
    for _ in 0..rounds {
        answered += site.ask(&daemon)?;
    }
    let asked = rounds * QUESTIONS;
    row.add(format!("{answered} of {asked}"));
    row.expect(answered == asked, || {
        format!("answered {answered}: {:?}", daemon.counters())
    });

    let ((), lost) = site.lost(|| daemon.ok("reload").map(|_| ()))?;
    row.add(format!("reload {lost} lost"));
    row.expect(lost == 0, || format!("a reload lost {lost}"));

    if card.blind {
        daemon.stop()?;
        let native = Setup::example(&[]).mode("native");
        daemon.home.write(&native)?;
        daemon.again(&site.server, &native)?;
        row.expect(site.ask(&daemon)? == 0, || "native mode answers".into());
        blindness(&site, &daemon, &mut row);
    } else {
        let forgets = card.forgets && mode == "native";
        let toggled = toggle(&site, &daemon, &mut row, forgets)?;
        row.add(toggled);
        if forgets {
            blindness(&site, &daemon, &mut row);
            is_answered(&site, &daemon, "the daemon has attached it anew")?;
            daemon.stop()?;
            daemon.again(&site.server, &setup)?;
            row.expect_all(site.ask(&daemon)?, "after a restart");
        }
    }

    let (stopped, silence) = site.silence(|| Ok(daemon.stop()))?;
    stopped?;
    row.add(format!("detach {}", seconds(silence)));
    if warnings()? > warnings_before {
        row.add("the kernel warned");
        row.expect(card.warns, || "the kernel warned".into());
    }
    row.add(reason);
    row.judge()
}

/// The program does not run, and the daemon notices.
fn blindness(site: &Site, daemon: &Daemon, row: &mut Row) {
    let told = until("the blindness is noticed", || {
        site.ask(daemon)?;
        let (_, status) = daemon.request("GET", "/v1/status", "")?;
        Ok(status.contains("the program does not see queries"))
    });
    row.add(match told {
        Ok(()) => "blind, told",
        Err(_) => "blind, NOT TOLD",
    });
    row.expect(told.is_ok(), || "its blindness is not told".into());
}

/// Changes channels, rings, offloads and MTU of an attached card, and back. A card that forgets the program does so when
/// its rings change.
fn toggle(site: &Site, daemon: &Daemon, row: &mut Row, forgets: bool) -> Result<String> {
    let mut changes = vec![
        ("rxvlan", Some([1, 0]), "-K eth0 rxvlan"),
        ("-L", None, "-L eth0 combined"),
        ("-G", None, "-G eth0 rx"),
    ];
    if let Some(channels) = site.present("-l", "Combined")? {
        changes[1].1 = Some([channels.max(2) / 2, channels]);
    }
    if let Some(ring) = site.present("-g", "RX")? {
        changes[2].1 = Some([ring / 2, ring]);
    }
    let present = site.mtu()?;
    let changes_of_mtu = [present - 100, present].into_iter().filter(|_| !forgets);
    for mtu in changes_of_mtu {
        site.server.ip(&format!("link set eth0 mtu {mtu}"))?;
        let answered = site.ask(daemon)?;
        row.expect_all(answered, &format!("after `ip link set eth0 mtu {mtu}`"));
    }
    let mut told = Vec::new();
    for (what, values, words) in changes {
        let Some(values) = values else {
            told.push(format!("no {what}"));
            continue;
        };
        let mut refused = true;
        for value in values {
            let value = match (what, value) {
                ("rxvlan", 0) => "off".to_owned(),
                ("rxvlan", _) => "on".to_owned(),
                _ => value.to_string(),
            };
            refused &= !site.ethtool(&format!("{words} {value}"))?;
            let answered = site.ask(daemon)?;
            let when = format!("after `ethtool {words} {value}`");
            if forgets && what == "-G" {
                row.expect(answered == 0, || format!("{when} the program goes on"));
            } else {
                row.expect_all(answered, &when);
            }
        }
        told.push(format!("{what} {}", if refused { "refused" } else { "ok" }));
    }
    Ok(told.join(", "))
}

/// Starts a daemon on these interfaces in mode auto, and adds the mode of the first to the row.
fn start(site: &Site, interfaces: &[&str], row: &mut Row) -> Result<Daemon> {
    let mut setup = Setup::example(&SERVER).mode("auto");
    setup.interfaces = interfaces.iter().map(|&name| name.into()).collect();
    let daemon = Daemon::start(&site.server, &setup)?;
    let (mode, reason) = mode(&daemon)?;
    row.add("");
    row.add(mode);
    row.add(reason);
    Ok(daemon)
}

/// Makes `bond0` of these cards.
fn bind(server: &Space, ports: &[&str]) -> Result<()> {
    server.ip("link add bond0 type bond mode active-backup miimon 100")?;
    for port in ports {
        server.ip_batch(&format!(
            "link set {port} down\nlink set {port} master bond0"
        ))?;
    }
    server.ip("link set bond0 up")?;
    Ok(())
}

/// A bond in native mode: a port that fails, that leaves and comes back; a VLAN upon it.
fn bond() -> Result<()> {
    let mut row = Row::new("bond");
    let site = Site::bare(&["virtio-queues", "virtio-single"])?;
    let server = &site.server;
    bind(server, &["eth0", "eth1"])?;
    site.give("bond0")?;
    let mut daemon = start(&site, &["bond0"], &mut row)?;
    row.expect(row.cells[2] == "native", || {
        "a bond of two virtio cards is not native".into()
    });
    is_answered(&site, &daemon, "both ports are up")?;
    server.ip("link set eth0 down")?;
    is_answered(&site, &daemon, "the first port is down")?;
    server.ip("link set eth0 up")?;
    server.ip("link set eth1 nomaster")?;
    is_answered(&site, &daemon, "the second port has left")?;
    server.ip_batch("link set eth1 down\nlink set eth1 master bond0\nlink set eth0 down")?;
    is_answered(&site, &daemon, "the second port is back, the first down")?;
    server.ip("link add bond0.5 link bond0 type vlan id 5")?;
    site.client.ip("link add eth0.5 link eth0 type vlan id 5")?;
    server.ip("link set bond0.5 up")?;
    site.client.ip("link set eth0.5 up")?;
    site.move_addresses(["bond0", "eth0"], ["bond0.5", "eth0.5"])?;
    is_answered(&site, &daemon, "a VLAN of the bond has the addresses")?;
    daemon.stop()?;
    row.judge()
}

/// Whether an offload of a card is on, by the name that `ethtool -k` shows.
fn offload(site: &Site, name: &str) -> Result<bool> {
    let shown = net::run(site.server.command("ethtool").args(["-k", "eth0"]))?;
    let line = shown.lines().find(|line| line.trim().starts_with(name));
    Ok(line.context("no such offload")?.contains(": on"))
}

/// The port of a native bond leaves tags in the packet while a VLAN is upon the bond.
fn bond_vlan() -> Result<()> {
    const RXVLAN: &str = "rx-vlan-offload:";
    let mut row = Row::new("bond, VLAN upon it");
    let site = Site::bare(&["igb"])?;
    let server = &site.server;
    bind(server, &["eth0"])?;
    site.give("bond0")?;
    let mut daemon = start(&site, &["bond0"], &mut row)?;
    row.expect(row.cells[2] == "native", || {
        "a bond of igb is not native".into()
    });
    is_answered(&site, &daemon, "no VLAN")?;
    row.expect(offload(&site, RXVLAN)?, || {
        "rxvlan is off without VLANs".into()
    });
    server.ip("link add bond0.5 link bond0 type vlan id 5")?;
    site.client.ip("link add eth0.5 link eth0 type vlan id 5")?;
    server.ip("link set bond0.5 up")?;
    site.client.ip("link set eth0.5 up")?;
    site.move_addresses(["bond0", "eth0"], ["bond0.5", "eth0.5"])?;
    is_answered(&site, &daemon, "a VLAN of the bond has the addresses")?;
    row.expect(!offload(&site, RXVLAN)?, || {
        "rxvlan is on with a VLAN".into()
    });
    daemon.stop()?;
    let is_back = offload(&site, RXVLAN)?;
    row.add(format!("rxvlan given back: {is_back}"));
    row.expect(is_back, || "rxvlan is not given back".into());
    row.judge()
}

/// A driver that turns LRO off for a program.
fn lro() -> Result<()> {
    const LRO: &str = "large-receive-offload:";
    let mut row = Row::new("LRO, vmxnet3");
    let site = Site::new(&["vmxnet3"])?;
    site.ethtool("-K eth0 lro on")?;
    let had_it = offload(&site, LRO)?;
    let mut daemon = start(&site, &["eth0"], &mut row)?;
    row.add(format!("on {had_it}, attached {}", offload(&site, LRO)?));
    is_answered(&site, &daemon, "it is attached")?;
    daemon.stop()?;
    let is_back = offload(&site, LRO)? == had_it;
    row.add(format!("given back: {is_back}"));
    row.expect(is_back, || "LRO is not given back".into());
    row.judge()
}

/// A bond of cards without native mode.
fn generic_bond() -> Result<()> {
    let mut row = Row::new("bond, generic");
    let site = Site::bare(&["e1000e", "e1000"])?;
    bind(&site.server, &["eth0", "eth1"])?;
    site.give("bond0")?;
    let mut daemon = start(&site, &["bond0"], &mut row)?;
    row.expect(
        row.cells[2] == "generic" && !row.cells[3].is_empty(),
        || "not generic with its reason".into(),
    );
    is_answered(&site, &daemon, "both ports are up")?;
    site.server.ip("link set eth0 down")?;
    is_answered(&site, &daemon, "the first port is down")?;
    daemon.stop()?;
    row.judge()
}

/// A VLAN that is named before the card below it.
fn vlan() -> Result<()> {
    let mut row = Row::new("VLAN and its card");
    let site = Site::bare(&["virtio-single"])?;
    for space in [&site.server, &site.client] {
        space.ip("link add eth0.5 link eth0 type vlan id 5")?;
        space.ip("link set eth0.5 up")?;
    }
    site.move_addresses(["eth0", "eth0"], ["eth0.5", "eth0.5"])?;
    let mut daemon = start(&site, &["eth0.5", "eth0"], &mut row)?;
    is_answered(&site, &daemon, "the VLAN has the addresses")?;
    daemon.stop()?;
    row.judge()
}

/// What stands upon a card has the addresses, and a MAC address of its own.
fn upon(name: &str, link: &str) -> Result<()> {
    let mut row = Row::new(name);
    let site = Site::bare(&["virtio-single"])?;
    site.server.ip_batch(link)?;
    site.give("upper")?;
    let mut daemon = start(&site, &["eth0"], &mut row)?;
    row.expect(row.cells[2] == "native", || "not native".into());
    is_answered(&site, &daemon, name)?;
    daemon.stop()?;
    row.judge()
}

/// An interface by which no frames come in that the program could answer: a start is refused with what to name instead.
fn refused(name: &str, interface: &str, link: &str, said: &str) -> Result<()> {
    let mut row = Row::new(name);
    let site = Site::new(&["virtio-single"])?;
    site.server.ip_batch(link)?;
    let mut setup = Setup::example(&SERVER).mode("auto");
    setup.interfaces = vec![interface.into()];
    let home = Home::new()?;
    home.write(&setup)?;
    let output = Daemon::attempt(&site.server, &home, &setup)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    row.add("");
    row.add("refused");
    row.add(told.trim());
    row.expect(told.contains(said), || format!("it says {told:?}"));
    row.judge()
}

/// The MTU is raised over what the driver takes with a program, which it lets pass: the operator is told.
fn raised_mtu(card: &str) -> Result<()> {
    let mut row = Row::new(&format!("{card}, MTU raised"));
    let site = Site::new(&[card])?;
    let mut daemon = start(&site, &["eth0"], &mut row)?;
    is_answered(&site, &daemon, "MTU 1500")?;
    match site.server.ip("link set eth0 mtu 9000") {
        Ok(_) if row.cells[2] == "generic" => is_answered(&site, &daemon, "MTU 9000")?,
        Ok(_) => {
            let told = until("the MTU is told of", || {
                site.ask(&daemon)?;
                let log = daemon.log();
                let status = daemon.json("status")?;
                Ok(log.contains("MTU") || status["blind"][0]["message"].is_string())
            });
            row.add(if told.is_ok() { "told" } else { "NOT TOLD" });
            row.expect(told.is_ok(), || format!("not told: {}", daemon.log()));
        }
        Err(_) => row.add("the driver refuses"),
    }
    site.server.ip("link set eth0 mtu 1500")?;
    daemon.stop()?;
    daemon.again(&site.server, &Setup::example(&SERVER).mode("auto"))?;
    is_answered(&site, &daemon, "MTU 1500 again, and a restart")?;
    daemon.stop()?;
    row.judge()
}

/// With `on_stop = "stub"`, a card whose driver resets it for a program is reset once, and not for each start.
fn stub(card: &str) -> Result<()> {
    let mut row = Row::new(&format!("{card}, stub"));
    let site = Site::new(&[card])?;
    let mut setup = Setup::example(&[]).mode("native");
    setup.on_stop = "stub".into();
    let before = site.carrier_changes()?;
    let (mut daemon, silence) = site.silence(|| Daemon::start(&site.server, &setup))?;
    row.add(site.driver("eth0")?);
    row.add(format!("first start {}", seconds(silence)));
    is_answered(&site, &daemon, "started")?;
    let attached = site.carrier_changes()?;
    row.add(format!("carrier {} times", attached - before));
    for _ in 0..2 {
        let ((), silence) = site.silence(|| {
            daemon.stop()?;
            daemon.again(&site.server, &setup)
        })?;
        row.add(format!("restart {}", seconds(silence)));
        is_answered(&site, &daemon, "started again")?;
    }
    let now = site.carrier_changes()?;
    row.expect(now == attached, || {
        format!("a restart changed the carrier {} times", now - attached)
    });
    daemon.stop()?;
    row.judge()
}

/// The commands of docs/interfaces.md that need a card which has what they set.
fn commands() -> Result<()> {
    for (card, lines) in [
        (
            "igb",
            "-i eth0 | -l eth0 | -k eth0 | -S eth0 | -G eth0 rx 512 | -n eth0 rx-flow-hash udp4
             | -N eth0 rx-flow-hash udp4 sdfn | -N eth0 rx-flow-hash udp6 sdfn",
        ),
        ("vmxnet3", "-K eth0 lro off"),
        ("virtio-queues", "-L eth0 combined 1"),
    ] {
        let site = Site::new(&[card])?;
        for line in lines.split('|') {
            ensure!(site.ethtool(line)?, "{card}: ethtool {line}");
        }
        site.server.ip("link set dev eth0 mtu 1500")?;
    }
    Ok(())
}

/// The least that a packet of 82 octets can grow by, at the head and at the tail, in each mode.
const ROOM: [(&str, XdpMode, [u32; 2]); 2] = [
    ("native", XdpMode::Driver, [152, 1388]),
    ("generic", XdpMode::Skb, [152, 1388]),
];

/// How much a packet can grow by, at the head and at the tail.
fn growth(card: &str) -> Result<()> {
    let site = Site::new(&[card])?;
    let mut wrong = Vec::new();
    for (mode, flags, least) in ROOM {
        let mut row = Row::new(&format!("growth, {card}"));
        row.add(site.driver("eth0")?);
        row.add(mode);
        let mut rig = Rig::load()?;
        let program = rig.program("grow")?;
        let attached = site
            .server
            .enter(|| Ok(program.attach("eth0", flags).is_ok()))?;
        if !attached {
            row.add("refused");
            continue;
        }
        site.heard()?;
        let socket = site.client.udp(ip("192.0.2.1"), at("192.0.2.53", 9)?)?;
        let mut seen = [0, 0];
        // Nobody listens there: the socket may hear so.
        let measured = until("a packet is measured", || {
            let _ = socket.send(&[0; 40]);
            seen = rig.room()?;
            Ok(seen != [0, 0])
        });
        let [head, tail] = seen;
        row.add(format!("head {head}"));
        row.add(format!("tail {tail}"));
        measured?;
        if head < least[0] || tail < least[1] {
            wrong.push(format!(
                "{card}, {mode}: head {head}, tail {tail}, not {least:?}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn main() -> ExitCode {
    let there = cards();
    let mut cases = Vec::new();
    for card in &CARDS {
        if there.contains_key(card.name) {
            cases.push(case(&format!("card {}", card.name), || try_card(card)));
        }
        if there.contains_key(card.name) && !card.blind {
            cases.push(case(&format!("growth {}", card.name), || growth(card.name)));
        }
    }
    if !there.is_empty() {
        cases.push(case("bond", bond));
        cases.push(case("bond vlan", bond_vlan));
        cases.push(case("lro", lro));
        cases.push(case("bond generic", generic_bond));
        cases.push(case("vlan", vlan));
        if there.contains_key("igb") {
            cases.push(case("commands", commands));
        }
        for (name, link) in [
            (
                "bridge",
                "link add upper type bridge
                 link set upper address 02:00:00:00:00:b0
                 link set eth0 master upper
                 link set upper up",
            ),
            (
                "macvlan",
                "link add upper link eth0 type macvlan mode bridge\nlink set upper up",
            ),
        ] {
            cases.push(case(name, move || upon(name, link)));
        }
        let (card, ethernet) = ("name the card", "no Ethernet header");
        for (name, interface, link, said) in [
            ("lo", "lo", "link set lo up", card),
            (
                "dummy",
                "dummy0",
                "link add dummy0 type dummy\nlink set dummy0 up",
                card,
            ),
            (
                "gre",
                "gre1",
                "link add gre1 type gre local 192.0.2.53 remote 192.0.2.1\nlink set gre1 up",
                ethernet,
            ),
            (
                "wireguard",
                "wg0",
                "link add wg0 type wireguard\nlink set wg0 up",
                ethernet,
            ),
        ] {
            cases.push(case(&format!("refused {name}"), move || {
                refused(name, interface, link, said)
            }));
        }
        for card in ["virtio-single", "vmxnet3"] {
            cases.push(case(&format!("raised mtu {card}"), move || {
                raised_mtu(card)
            }));
        }
        for card in ["virtio-single", "igb"] {
            if there.contains_key(card) {
                cases.push(case(&format!("stub {card}"), move || stub(card)));
            }
        }
    }
    run(cases)
}
