//! Catalog zones (RFC 9432): ours followed by Knot DNS and BIND, and those of Knot DNS, NSD and BIND by us.
//!
//! NSD 4.6 knows no catalogs: it serves one from a file, as any zone, and follows none.

use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::Query;
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, output};
use geodns_tests::peers::{self, Kind, Peer};
use geodns_tests::twins::Twins;

/// Ours.
const OURS: &str = "192.0.2.53";
/// The other's.
const OTHER: &str = "192.0.2.1";
const SECRET: &str = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8=";
const CATALOG: &str = "catalog.test";
const PATIENCE: Duration = Duration::from_secs(30);

const TSIG: &str = r#"
[[tsig]]
name = "xfr"
secret = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8="
"#;

/// A zone whose apex says a text.
fn member(name: &str, serial: u32, text: &str) -> String {
    format!(
        "$ORIGIN {name}.\n$TTL 300\n@ SOA ns hm {serial} 3600 2 3600 60\n@ NS ns\nns A 192.0.2.1\n\
         @ TXT \"{text}\"\n"
    )
}

/// A catalog by hand: its version, and members by their labels.
fn catalog(serial: u32, version: &str, members: &[(&str, &str)]) -> String {
    let mut text = format!(
        "$ORIGIN {CATALOG}.\n$TTL 0\n@ SOA invalid. invalid. {serial} 3600 2 3600 0\n@ NS invalid.\n\
         version TXT \"{version}\"\n"
    );
    for (id, name) in members {
        text += &format!("{id}.zones PTR {name}.\n");
    }
    text
}

fn dig(space: &Space, at: &str, words: &str) -> Result<String> {
    let mut dig = space.command("dig");
    dig.arg(format!("@{at}"))
        .args(["+time=1", "+tries=1"])
        .args(words.split_whitespace());
    Ok(String::from_utf8_lossy(&output(&mut dig)?.stdout).into_owned())
}

fn signed(words: &str) -> String {
    format!("{words} -y hmac-sha256:xfr:{SECRET}")
}

/// Asks a server for a zone: the text at its apex, or the response code.
fn says(space: &Space, at: &str, zone: &str) -> Result<String> {
    let said = dig(space, at, &format!("{zone} TXT"))?;
    if let Some(text) = said.lines().find(|line| line.contains("IN\tTXT\t\"")) {
        let text = text.rsplit_once('\t').map_or("", |(_, text)| text);
        return Ok(text.trim_matches('"').to_owned());
    }
    let status = said.split("status: ").nth(1).unwrap_or_default();
    Ok(status.split(',').next().unwrap_or_default().to_owned())
}

/// Waits until a server says that of a zone.
fn until(
    space: &Space,
    at: &str,
    zone: &str,
    wanted: &str,
    log: impl Fn() -> String,
) -> Result<()> {
    let started = Instant::now();
    loop {
        let said = says(space, at, zone)?;
        if said == wanted {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("{at} says {said:?} of {zone}, not {wanted:?}:\n{}", log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The serial of the catalog, for who has the key.
fn serial(space: &Space, at: &str) -> Result<u32> {
    let said = dig(space, at, &signed(&format!("{CATALOG} SOA +short")))?;
    let number = said.split_whitespace().nth(2);
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no serial: {said}"))
}

/// The labels and members that a catalog lists, for who has the key.
fn listed(space: &Space, at: &str) -> Result<Vec<(String, String)>> {
    let said = dig(
        space,
        at,
        &signed(&format!("{CATALOG} AXFR +noall +answer")),
    )?;
    let pairs = said.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[owner, _, _, "PTR", name] = &words[..] else {
            return None;
        };
        Some((owner.split('.').next()?.to_owned(), name.to_owned()))
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(pairs)
}

/// A server of ours that follows the other's catalog.
fn consumer() -> Setup {
    let body = format!(
        "{TSIG}\n[[zone]]\nname = \"{CATALOG}\"\ntsig = \"xfr\"\nprimaries = [\"{OTHER}\"]\n\
         catalog = \"consumer\"\nallow_transfer = [\"xfr\"]\n[[zone.members]]\nallow_transfer = [\"xfr\"]\n"
    );
    Setup::new(&[OURS]).mode("off").body(&body)
}

/// The other, with both members, and the catalog with N of them: Knot makes it, the others have a file.
fn producer(kind: Kind, serial: u32, version: &str, members: &[(&str, &str)]) -> peers::Setup {
    let all = ["one.example", "two.example"];
    let mut setup = peers::Setup {
        listen: vec![OTHER.parse().expect("an address")],
        zones: all
            .iter()
            .map(|name| ((*name).to_owned(), member(name, 1, name)))
            .collect(),
        ..peers::Setup::default()
    };
    let file = (CATALOG.to_owned(), catalog(serial, version, members));
    match kind {
        Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
        Kind::Knot => {
            setup.rest = format!(
                "key:\n  - id: xfr\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                 remote:\n  - id: ours\n    address: {OURS}\n    key: xfr\n\
                 acl:\n  - id: ask\n    key: xfr\n    action: transfer\n\
                 template:\n  - id: default\n    acl: ask\n    notify: ours\n    zonefile-sync: -1\n\
                 zone:\n  - domain: {CATALOG}\n    catalog-role: generate\n"
            );
            for (name, content) in std::mem::take(&mut setup.zones) {
                let is_member = members.iter().any(|(_, member)| *member == name);
                if is_member {
                    setup.zones.push((name, content));
                }
            }
            setup.of_zone = format!("    catalog-role: member\n    catalog-zone: {CATALOG}\n");
        }
        Kind::Nsd => {
            setup.rest =
                format!("key:\n  name: xfr\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n");
            setup.of_zone = format!("  notify: {OURS} xfr\n  provide-xfr: 0.0.0.0/0 xfr\n");
            setup.zones.push(file);
        }
        Kind::Bind => {
            setup.options = "  notify-delay 0;\n".to_owned();
            setup.rest = format!(
                "key xfr {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 server {OURS} {{ keys {{ xfr; }}; }};\n"
            );
            setup.of_zone = format!(
                "  notify explicit; also-notify {{ {OURS} key xfr; }}; allow-transfer {{ key xfr; }};\n"
            );
            setup.zones.push(file);
        }
    }
    setup
}

/// We follow their catalog.
fn we_follow(kind: Kind) -> Result<()> {
    const ONE: (&str, &str) = ("id1", "one.example");
    const TWO: (&str, &str) = ("id2", "two.example");
    let pair = Pair::bare(&[])?;
    let space = &pair.client;
    let set = |other: &Peer, serial, version: &str, members: &[(&str, &str)]| -> Result<()> {
        other.configure(&producer(kind, serial, version, members))?;
        other.reload()
    };
    let other = Peer::start(space, kind, &producer(kind, 1, "2", &[ONE]))?;
    let setup = consumer();
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let log = || format!("{}\n{}", daemon.log(), other.log());
    until(space, OURS, "one.example", "one.example", log)?;
    ensure!(says(space, OURS, "two.example")? == "REFUSED");

    // A member comes, and the catalog is nobody's business but of who has the key.
    set(&other, 2, "2", &[ONE, TWO])?;
    until(space, OURS, "two.example", "two.example", log)?;
    ensure!(says(space, OURS, "one.example")? == "one.example");
    let members = listed(space, OURS)?;
    ensure!(
        members.len() == 2 && members == listed(space, OTHER)?,
        "{members:?}"
    );
    for name in [
        CATALOG,
        &format!("{}.zones.{CATALOG}", members[0].0),
        &format!("no.{CATALOG}"),
    ] {
        for qtype in ["SOA", "PTR", "ANY"] {
            let said = dig(space, OURS, &format!("{name} {qtype}"))?;
            ensure!(
                said.contains("REFUSED") && !said.contains("example"),
                "{said}"
            );
        }
    }
    let zones = daemon.json("zones")?;
    let of = |name: &str, key: &str| {
        let zones = zones.as_array().into_iter().flatten();
        let mut found = zones.filter(|zone| zone["name"] == name);
        found.next().map(|zone| zone[key].clone())
    };
    ensure!(
        of("one.example.", "member_of") == Some(format!("{CATALOG}.").into()),
        "{zones}"
    );
    ensure!(
        of(&format!("{CATALOG}."), "catalog") == Some("consumer".into()),
        "{zones}"
    );
    ensure!(daemon.ok("zones")?.contains(&format!("in {CATALOG}.")));
    ensure!(
        daemon.ok("status")?.contains("3 zones (2 of catalogs)"),
        "{}",
        daemon.ok("status")?
    );
    // A reload keeps them.
    daemon.ok("reload")?;
    ensure!(says(space, OURS, "two.example")? == "two.example");

    // A member goes.
    set(&other, 3, "2", &[TWO])?;
    until(space, OURS, "one.example", "REFUSED", log)?;
    ensure!(says(space, OURS, "two.example")? == "two.example");
    let kept = daemon.home.folder.path().join("zones");
    ensure!(!kept.join("one.example.zone").exists() && kept.join("two.example.zone").exists());

    // A broken catalog changes nothing. Knot makes none.
    if kind != Kind::Knot {
        set(&other, 4, "1", &[ONE])?;
        daemon.logged("catalog catalog.test is broken: its version is \"1\"")?;
        ensure!(says(space, OURS, "two.example")? == "two.example");
        ensure!(says(space, OURS, "one.example")? == "REFUSED");
    }
    // Neither does a restart without the primary.
    other.stop()?;
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    ensure!(
        says(space, OURS, "two.example")? == "two.example",
        "{}",
        daemon.log()
    );
    ensure!(says(space, OURS, "one.example")? == "REFUSED");
    // And back. Knot has forgotten its serial and takes the time, which must have gone past the old one.
    let zones = daemon.json("zones")?;
    let zones = zones.as_array().into_iter().flatten();
    let ours = zones.filter(|zone| zone["name"] == format!("{CATALOG}."));
    let serial = ours.filter_map(|zone| zone["serial"].as_u64()).max();
    while kind == Kind::Knot && Some(UNIX_EPOCH.elapsed()?.as_secs()) <= serial {
        std::thread::sleep(Duration::from_millis(100));
    }
    let other = Peer::start(space, kind, &producer(kind, 5, "2", &[TWO, ONE]))?;
    daemon.ok(&format!("reload {CATALOG}"))?;
    let log = || format!("{}\n{}", daemon.log(), other.log());
    until(space, OURS, "one.example", "one.example", log)?;
    match kind {
        // It has generated its catalog anew; a member whose label is another one begins without data.
        Kind::Knot => until(space, OURS, "two.example", "two.example", log)?,
        _ => ensure!(says(space, OURS, "two.example")? == "two.example"),
    }
    other.stop()
}

#[test]
fn we_follow_a_catalog_of_knot() -> Result<()> {
    needs_root!();
    we_follow(Kind::Knot)
}

#[test]
fn we_follow_a_catalog_of_nsd() -> Result<()> {
    needs_root!();
    we_follow(Kind::Nsd)
}

#[test]
fn we_follow_a_catalog_of_bind() -> Result<()> {
    needs_root!();
    we_follow(Kind::Bind)
}

/// A server of ours with a catalog of these zones.
fn our_catalog(members: &[&str]) -> Setup {
    let mut body = format!(
        "{TSIG}\n[[zone]]\nname = \"{CATALOG}\"\ncatalog = \"producer\"\ntsig = \"xfr\"\n\
         allow_transfer = [\"xfr\"]\nnotify = [\"{OTHER}\"]\n"
    );
    let mut setup = Setup::new(&[OURS]).mode("off");
    for name in ["one.example", "two.example", "other.example"] {
        body += &format!(
            "[[zone]]\nname = \"{name}\"\nfile = \"{name}.zone\"\ntsig = \"xfr\"\n\
             allow_transfer = [\"xfr\"]\nnotify = [\"{OTHER}\"]\n"
        );
        if members.contains(&name) {
            body += &format!("in_catalog = \"{CATALOG}\"\n");
        }
        setup = setup.file(&format!("{name}.zone"), &member(name, 1, name));
    }
    setup.body(&body)
}

/// The other, which follows it.
fn follower(kind: Kind) -> Result<peers::Setup> {
    let mut setup = peers::Setup {
        listen: vec![OTHER.parse()?],
        ..peers::Setup::default()
    };
    match kind {
        Kind::Gdnsd | Kind::Pdns => unreachable!("they are only measured"),
        Kind::Knot => {
            setup.rest = format!(
                "key:\n  - id: xfr\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                 remote:\n  - id: ours\n    address: {OURS}\n    key: xfr\n\
                 acl:\n  - id: told\n    address: {OURS}\n    key: xfr\n    action: notify\n\
                 template:\n  - id: member\n    master: ours\n    acl: told\n    zonefile-sync: -1\n\
                 zone:\n  - domain: {CATALOG}\n    master: ours\n    acl: told\n    zonefile-sync: -1\n\
                 \x20   catalog-role: interpret\n    catalog-template: member\n"
            );
        }
        Kind::Bind => {
            setup.options = format!(
                "  allow-notify {{ key xfr; }};\n\
                 \x20 catalog-zones {{ zone \"{CATALOG}\" default-primaries {{ {OURS} key xfr; }} \
                 in-memory no min-update-interval 1; }};\n"
            );
            setup.rest = format!(
                "key xfr {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 zone {CATALOG} {{ type secondary; primaries {{ {OURS} key xfr; }}; file \"catalog.zone\"; }};\n"
            );
        }
        Kind::Nsd => bail!("NSD 4.6 follows no catalogs"),
    }
    Ok(setup)
}

/// They follow our catalog.
fn follows_us(kind: Kind) -> Result<()> {
    let pair = Pair::bare(&[])?;
    let space = &pair.client;
    let setup = our_catalog(&["one.example"]);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let other = Peer::start(space, kind, &follower(kind)?)?;
    let first = serial(space, OURS)?;
    let labels = listed(space, OURS)?;
    {
        let log = || format!("{}\n{}", daemon.log(), other.log());
        until(space, OTHER, "one.example", "one.example", log)?;
        ensure!(says(space, OTHER, "two.example")? == "REFUSED");

        // Another, by IXFR.
        let setup = our_catalog(&["one.example", "two.example"]);
        daemon.home.write(&setup)?;
        daemon.ok("reload")?;
        until(space, OTHER, "two.example", "two.example", log)?;
        daemon.logged(&format!("{CATALOG}: IXFR of serial"))?;
    }
    let second = serial(space, OURS)?;
    ensure!(second > first, "{first}, {second}");
    ensure!(listed(space, OURS)?[..1] == labels[..]);
    // A reload and a restart that change nothing of it change nothing.
    daemon.ok("reload")?;
    let before = listed(space, OURS)?;
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    ensure!(serial(space, OURS)? == second && listed(space, OURS)? == before);

    let log = || format!("{}\n{}", daemon.log(), other.log());
    daemon.home.write(&our_catalog(&["two.example"]))?;
    daemon.ok("reload")?;
    until(space, OTHER, "one.example", "REFUSED", log)?;
    ensure!(says(space, OTHER, "two.example")? == "two.example");
    ensure!(says(space, OURS, "one.example")? == "one.example");
    // It comes back as another.
    daemon
        .home
        .write(&our_catalog(&["two.example", "one.example"]))?;
    daemon.ok("reload")?;
    until(space, OTHER, "one.example", "one.example", log)?;
    let again = listed(space, OURS)?;
    ensure!(
        again[0].0 != before[0].0 && again[1] == before[1],
        "{again:?}"
    );

    let (_, said) = daemon.fails(&format!("reload {CATALOG}"))?;
    ensure!(
        said.contains("is made of what the configuration says"),
        "{said}"
    );
    ensure!(daemon.ok("zones")?.contains("producer"));
    other.stop()
}

#[test]
fn knot_follows_our_catalog() -> Result<()> {
    needs_root!();
    follows_us(Kind::Knot)
}

#[test]
fn bind_follows_our_catalog() -> Result<()> {
    needs_root!();
    follows_us(Kind::Bind)
}

/// A server of ours with a catalog from a file, whose members come from the other, and from nowhere if they
/// are of a group.
fn of_a_file(content: &str) -> Setup {
    let body = format!(
        "{TSIG}\n[[zone]]\nname = \"{CATALOG}\"\nfile = \"catalog.zone\"\ncatalog = \"consumer\"\n\
         allow_transfer = [\"xfr\"]\n\
         [[zone.members]]\ntsig = \"xfr\"\nprimaries = [\"{OTHER}\"]\n\
         [[zone.members]]\ngroup = \"lost\"\nprimaries = [{{ address = \"{OTHER}\", port = 9 }}]\n\
         [[zone]]\nname = \"own.example\"\nfile = \"own.zone\"\n"
    );
    Setup::new(&[OURS])
        .mode("off")
        .body(&body)
        .file("catalog.zone", content)
        .file("own.zone", &member("own.example", 1, "own"))
}

/// Another label is another zone; groups have primaries of their own; names that are taken are left alone.
#[test]
fn what_a_catalog_says_of_a_member() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let space = &pair.client;
    let other = Peer::start(space, Kind::Nsd, &producer(Kind::Nsd, 1, "2", &[]))?;
    let content = catalog(
        1,
        "2",
        &[
            ("a", "one.example"),
            ("b", "two.example"),
            ("c", "own.example"),
        ],
    ) + "group.b.zones TXT \"unknown\"\ngroup.b.zones TXT \"lost\"\n";
    let daemon = Daemon::start(&pair.server, &of_a_file(&content))?;
    until(space, OURS, "one.example", "one.example", || daemon.log())?;
    ensure!(says(space, OURS, "two.example")? == "SERVFAIL");
    ensure!(says(space, OURS, "own.example")? == "own");
    let taken = "own.example is a zone of the configuration, and left alone";
    daemon.logged(taken)?;
    ensure!(
        daemon.ok("status")?.contains(taken),
        "{}",
        daemon.ok("status")?
    );

    // A file is read by `reload ZONE`; the group has gone, and one.example is another.
    let transfers = || daemon.log().matches("one.example: serial 1 from").count();
    ensure!(transfers() == 1, "{}", daemon.log());
    let file = daemon.home.folder.path().join("catalog.zone");
    std::fs::write(
        &file,
        catalog(2, "2", &[("z", "one.example"), ("b", "two.example")]),
    )?;
    daemon.ok(&format!("reload {CATALOG}"))?;
    until(space, OURS, "two.example", "two.example", || daemon.log())?;
    until(space, OURS, "one.example", "one.example", || daemon.log())?;
    ensure!(transfers() == 2, "{}", daemon.log());
    ensure!(!daemon.ok("status")?.contains(taken));

    // What the file has in the configuration goes before: the catalog takes it up when it is given up.
    let setup = of_a_file(&catalog(
        3,
        "2",
        &[("z", "one.example"), ("b", "two.example")],
    ));
    let own = "[[zone]]\nname = \"two.example\"\nfile = \"own.zone\"\n";
    let with_own = setup.clone().body(&format!("{}{own}", setup.body));
    let with_own = with_own.file(
        "own.zone",
        "$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a.test.\n@ TXT \"mine\"\n",
    );
    daemon.home.write(&with_own)?;
    daemon.ok("reload")?;
    ensure!(says(space, OURS, "two.example")? == "mine");
    daemon.logged("two.example is a zone of the configuration, and left alone")?;
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    until(space, OURS, "two.example", "two.example", || daemon.log())?;
    ensure!(transfers() == 2, "{}", daemon.log());

    // Without the catalog there are no members.
    let alone = Setup::new(&[OURS])
        .mode("off")
        .body("[[zone]]\nname = \"own.example\"\nfile = \"own.zone\"\n");
    daemon.home.write(&alone)?;
    daemon.ok("reload")?;
    ensure!(says(space, OURS, "one.example")? == "REFUSED");
    let kept = daemon.home.folder.path().join("zones");
    let end = Instant::now() + PATIENCE;
    while kept.join("one.example.zone").exists() || kept.join("two.example.zone").exists() {
        ensure!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    other.stop()
}

/// A catalog hands a member over to another.
#[test]
fn a_member_changes_its_catalog() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let space = &pair.client;
    let other = Peer::start(space, Kind::Nsd, &producer(Kind::Nsd, 1, "2", &[]))?;
    let one = [("a", "one.example")];
    let new = |serial, members: &[(&str, &str)]| {
        catalog(serial, "2", members).replace(CATALOG, "new.test")
    };
    let setup = of_a_file(&catalog(1, "2", &one));
    let second = format!(
        "[[zone]]\nname = \"new.test\"\nfile = \"new.zone\"\ncatalog = \"consumer\"\n\
         [[zone.members]]\ntsig = \"xfr\"\nprimaries = [\"{OTHER}\"]\n"
    );
    let setup = setup.clone().body(&format!("{}{second}", setup.body));
    let setup = setup.file("new.zone", &new(1, &one));
    let daemon = Daemon::start(&pair.server, &setup)?;
    until(space, OURS, "one.example", "one.example", || daemon.log())?;
    daemon.logged("catalog new.test: one.example is a member of catalog catalog.test already")?;
    let write = |file: &str, zone: &str, content: &str| -> Result<()> {
        std::fs::write(daemon.home.folder.path().join(file), content)?;
        daemon.ok(&format!("reload {zone}"))?;
        Ok(())
    };
    let coo = catalog(2, "2", &one) + "coo.a.zones PTR new.test.\n";
    write("catalog.zone", CATALOG, &coo)?;
    let end = Instant::now() + PATIENCE;
    while !daemon.ok("zones")?.contains("in new.test.") {
        ensure!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Under the same label it is the same zone.
    ensure!(says(space, OURS, "one.example")? == "one.example");
    write("catalog.zone", CATALOG, &catalog(3, "2", &[]))?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(says(space, OURS, "one.example")? == "one.example");
    ensure!(
        daemon.log().matches("one.example: serial 1 from").count() == 1,
        "{}",
        daemon.log()
    );
    write("new.zone", "new.test", &new(2, &[]))?;
    until(space, OURS, "one.example", "REFUSED", || daemon.log())?;
    other.stop()
}

/// Both paths say the same of a catalog, and of its members while they come and go.
#[test]
fn the_kernel_knows_no_catalog() -> Result<()> {
    needs_root!();
    let members = [("a", "one.example"), ("b", "sub.own.example")];
    let mut twins = Twins::start(&of_a_file(&catalog(1, "2", &members)))?;
    let from = "10.0.0.1".parse()?;
    let inside = [
        "catalog.test",
        "a.zones.catalog.test",
        "zones.catalog.test",
        "no.catalog.test",
    ];
    const TYPES: [u16; 5] = [1, 6, 12, 16, 43];
    for (name, wanted) in [
        ("one.example", "SERVFAIL"),
        // It is left alone: the names are those of the zone above it.
        ("sub.own.example", "NXDOMAIN"),
        ("x.sub.own.example", "NXDOMAIN"),
    ] {
        twins.comes_to(from, name, 16, wanted)?;
    }
    for name in inside {
        for qtype in TYPES {
            let reply = twins.ask(from, &Query::new(name, qtype))?;
            ensure!(
                reply.status() == "REFUSED",
                "{name} {qtype}: {}",
                reply.status()
            );
        }
    }
    for name in [
        "own.example",
        "ns.own.example",
        "no.own.example",
        "sub.own.example",
    ] {
        for qtype in TYPES {
            twins.ask(from, &Query::new(name, qtype))?;
        }
    }
    let setup = of_a_file(&catalog(2, "2", &members[..1]));
    twins.change(&setup)?;
    twins.comes_to(from, "x.sub.own.example", 16, "NXDOMAIN")?;
    twins.comes_to(from, "one.example", 16, "SERVFAIL")?;
    twins.change(&of_a_file(&catalog(3, "2", &[])))?;
    twins.comes_to(from, "one.example", 16, "REFUSED")?;
    Ok(())
}

/// A catalog has no part of a name of the configuration or of another catalog, whatever comes first: at a
/// start, after a restart, and when the configuration has a zone more.
#[test]
fn a_catalog_has_no_part_of_what_others_have() -> Result<()> {
    needs_root!();
    let pair = Pair::bare(&[])?;
    let space = &pair.client;
    let mut peer = producer(Kind::Nsd, 1, "2", &[]);
    for name in [".", "example", "x.own.example", "sub.one.example"] {
        let zone = name.trim_end_matches('.');
        peer.zones.push((name.to_owned(), member(zone, 1, "taken")));
    }
    let other = Peer::start(space, Kind::Nsd, &peer)?;
    let hostile = catalog(
        1,
        "2",
        &[
            ("a", "."),
            ("b", "example"),
            ("c", "x.own.example"),
            ("d", "one.example"),
        ],
    )
    .replace("PTR ..", "PTR .");
    let second = catalog(1, "2", &[("a", "sub.one.example"), ("b", "two.example")]);
    let setup = of_a_file(&hostile);
    let more = format!(
        "[[zone]]\nname = \"new.test\"\nfile = \"new.zone\"\ncatalog = \"consumer\"\n\
         [[zone.members]]\ntsig = \"xfr\"\nprimaries = [\"{OTHER}\"]\n"
    );
    let setup = setup.clone().body(&format!("{}{more}", setup.body));
    let setup = setup.file("new.zone", &second.replace(CATALOG, "new.test"));
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let holds = |daemon: &Daemon| -> Result<()> {
        for name in ["one.example", "two.example"] {
            until(space, OURS, name, name, || daemon.log())?;
        }
        for (name, wanted) in [
            ("own.example", "own"),
            ("x.own.example", "NXDOMAIN"),
            ("y.x.own.example", "NXDOMAIN"),
            ("sub.one.example", "NXDOMAIN"),
            ("example", "REFUSED"),
            ("elsewhere.test", "REFUSED"),
        ] {
            let said = says(space, OURS, name)?;
            ensure!(said == wanted, "{name}: {said}\n{}", daemon.log());
        }
        Ok(())
    };
    holds(&daemon)?;
    for line in [
        "catalog catalog.test: . is above own.example, a zone of the configuration, and left alone",
        "catalog catalog.test: example is above own.example, a zone of the configuration",
        "catalog catalog.test: x.own.example is below own.example, a zone of the configuration",
        "catalog new.test: sub.one.example is below one.example, a member of catalog catalog.test",
    ] {
        daemon.logged(line)?;
    }
    ensure!(daemon.ok("status")?.contains("is above own.example"));
    daemon.stop()?;
    daemon.again(&pair.server, &setup)?;
    holds(&daemon)?;

    // A zone more in the configuration, above a member and below another.
    let more = "[[zone]]\nname = \"a.two.example\"\nfile = \"own.zone\"\n";
    let grown = setup.clone().body(&format!("{}{more}", setup.body));
    let zone = "$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a.test.\n@ TXT \"own\"\n";
    let grown = grown.file("own.zone", zone);
    let refused = |daemon: &Daemon| until(space, OURS, "two.example", "REFUSED", || daemon.log());
    let kept = daemon.home.folder.path().join("zones/two.example.zone");
    ensure!(kept.exists());
    daemon.home.write(&grown)?;
    daemon.ok("reload")?;
    // From the first moment: nothing of it is in force before the catalogs are looked at.
    ensure!(says(space, OURS, "two.example")? == "REFUSED");
    ensure!(says(space, OURS, "a.two.example")? == "own");
    daemon.logged("two.example is above a.two.example, a zone of the configuration")?;
    let end = Instant::now() + PATIENCE;
    while kept.exists() {
        ensure!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.stop()?;
    daemon.again(&pair.server, &grown)?;
    refused(&daemon)?;
    daemon.home.write(&setup)?;
    daemon.ok("reload")?;
    holds(&daemon)?;
    daemon.stop()?;
    other.stop()
}
