//! `geodns explain` beside the kernel: they agree, and where somebody has spoilt a map, it says so.
//! `geodns preview`, of mirrors that are in service in part or not at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use geodns::kernel::{pins, sys};
use geodns_common::layout::Callee;
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup};
use geodns_tests::dns::{self, A, Query, Reply};
use geodns_tests::mmdb::Writer;
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at, ip, run};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SERVER: &str = "192.0.2.53";

/// Pools of the world, by policy.
const POOLS: [&str; 9] = [
    "table", "geo", "nearest", "weighted", "drawn", "failover", "site", "nested", "all",
];

/// The world with all these pools, at the site `iad`.
fn setup(mode: &str) -> Setup {
    let setup = Setup::world("a_pool_of_each_policy", &[SERVER]).mode(mode);
    let mut setup = setup.file("example.org.zone", EXAMPLE_ZONE);
    setup.server = "site = \"iad\"\n".to_owned();
    setup
}

struct Site {
    daemon: Daemon,
    pair: Pair,
}

impl Site {
    fn new(mode: &str) -> Result<Self> {
        let pair = Pair::new(&["10.1.0.1", "10.9.0.1"])?;
        let wild = "[[steer]]\nname = \"*.wild.example.org\"\npool = \"table\"\n";
        let daemon = Daemon::start(&pair.server, &setup(mode).and(wild))?;
        Ok(Self { daemon, pair })
    }

    /// The kernel's answer on the wire.
    fn ask(&self, name: &str, from: &str) -> Result<String> {
        let reply = self.pair.ask(from, SERVER, &Query::new(name, A))?;
        Ok(reply.addresses())
    }
}

/// The text of a step, all lines of it.
fn step(explained: &Value, step: &str) -> String {
    let steps = explained["steps"].as_array().into_iter().flatten();
    let says = steps.filter(|one| one["step"] == step);
    let says: Vec<_> = says.filter_map(|one| one["says"].as_str()).collect();
    says.join("; ")
}

#[test]
fn the_kernel_agrees_for_every_policy_client_and_subnet() -> Result<()> {
    needs_root!();
    let site = Site::new("native")?;
    let daemon = &site.daemon;
    let before = daemon.counters()?;
    for name in POOLS {
        for client in ["10.1.0.1", "8.8.8.8", "2600::1", "2002:0808:0808::1"] {
            for more in [
                "",
                " --type AAAA",
                " --type TXT",
                " --ecs 8.8.8.0/24",
                " --ecs 10.1.0.0/16",
                " --ecs 0.0.0.0/0",
                " --ecs 2600::/32 --type AAAA",
            ] {
                let words = format!("explain {name}.example.org --client {client}{more}");
                let explained = daemon.json(&words)?;
                ensure!(explained["agrees"] == true, "{words}: {explained}");
                ensure!(explained["kernel"]["difference"].is_null(), "{explained}");
                ensure!(step(&explained, "pool").starts_with(name), "{explained}");
            }
        }
    }
    let explain = |words: &str| daemon.json(&format!("explain {words}"));
    let table = explain("table.example.org --client 10.1.0.1")?;
    ensure!(table["kernel"]["verdict"] == "answered", "{table}");
    ensure!(table["kernel"]["response"] == table["response"], "{table}");
    ensure!(
        table["response"]["records"][0] == "198.51.100.10",
        "{table}"
    );
    ensure!(step(&table, "list") == "10.1.0.0/16 -> iad", "{table}");
    ensure!(step(&table, "region").contains("10.1.0.0/16"), "{table}");
    ensure!(table["mirrors"][0]["because"] == "list", "{table}");
    ensure!(table["mirrors"][0]["chosen"] == true, "{table}");
    ensure!(site.ask("table.example.org", "10.1.0.1")? == "198.51.100.10");

    let subnet = explain("table.example.org --client 10.9.0.1 --ecs 8.8.8.0/24")?;
    ensure!(subnet["response"]["scope"] == 16, "{subnet}");
    ensure!(subnet["kernel"]["verdict"] == "answered", "{subnet}");
    let special = explain("table.example.org --client 8.8.8.8 --ecs 10.1.0.0/16")?;
    ensure!(special["response"]["scope"] == 8, "{special}");
    ensure!(
        special["kernel"]["verdict"] == "pass_edns_option",
        "{special}"
    );
    let six_to_four = explain("table.example.org --client 2002:0808:0808::1")?;
    ensure!(six_to_four["a"][0] == "198.51.100.10", "{six_to_four}");
    ensure!(
        six_to_four["kernel"]["verdict"] == "pass_no_region",
        "{six_to_four}"
    );
    let rule = explain("geo.example.org --client 8.8.8.8")?;
    ensure!(step(&rule, "rule").contains("-> sin"), "{rule}");
    let drawn = explain("drawn.example.org --client 8.8.8.8")?;
    ensure!(drawn["kernel"]["compared"] == false, "{drawn}");
    let nested = explain("nested.example.org --client 8.8.8.8")?;
    ensure!(nested["mirrors"][0]["group"] == "weighted", "{nested}");
    let wild = explain("x.wild.example.org --client 8.8.8.8")?;
    ensure!(wild["steered"] == "*.wild.example.org.", "{wild}");
    let txt = explain("table.example.org --client 8.8.8.8 --type TXT")?;
    ensure!(txt["kernel"]["verdict"] == "nodata", "{txt}");
    let absent = explain("absent.example.org --client 8.8.8.8")?;
    ensure!(absent["kernel"]["verdict"] == "nxdomain", "{absent}");
    let none = explain("www.example.com --client 8.8.8.8")?;
    ensure!(
        none["response"]["rcode"] == "REFUSED" && none["agrees"] == true,
        "{none}"
    );

    daemon.ok("map set 9.9.9.0/24 sin --pool table")?;
    let set = explain("table.example.org --client 9.9.9.9")?;
    ensure!(set["mirrors"][0]["because"] == "override", "{set}");
    ensure!(set["response"]["records"][0] == "203.0.113.10", "{set}");
    let after = daemon.counters()?;
    let asked = after["answered"] - before["answered"];
    ensure!(asked == 1, "explain is counted: {asked} answers");
    let (code, said) =
        daemon.fails("explain table.example.org --client 8.8.8.8 --type NONSENSE")?;
    ensure!(code == 1 && said.contains("NONSENSE"), "{code} {said}");
    Ok(())
}

#[test]
fn a_map_that_somebody_spoilt_is_noticed() -> Result<()> {
    needs_root!();
    let site = Site::new("native")?;
    let daemon = &site.daemon;
    let words = "explain table.example.org --client 10.1.0.1";
    let right = daemon.json(words)?;
    let region = step(&right, "region");
    let region: u32 = region.split(',').next().context("a region")?.parse()?;
    let regions = map_of(&pins::stub_array(daemon.home.pins.path()), "REGIONS")?;
    // The third mirror, and no other.
    let key = region.to_le_bytes().map(|octet| octet.to_string());
    let mut update = Command::new("bpftool");
    update.args(["map", "update", "id", &regions.to_string(), "key"]);
    update.args(key).arg("value").arg("2").args(["255"; 7]);
    run(&mut update)?;
    ensure!(site.ask("table.example.org", "10.1.0.1")? == "203.0.113.10");

    for json in [false, true] {
        let mut all: Vec<&str> = words.split(' ').collect();
        all.extend(json.then_some("--json"));
        let output = daemon.cli(all)?;
        let said = String::from_utf8(output.stderr)?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(3), "{}: {said}", output.status);
        ensure!(said.lines().count() == 1, "{said}");
        for part in ["DISAGREES", "203.0.113.10", "198.51.100.10"] {
            ensure!(said.contains(part), "{said}");
            ensure!(text.contains(part), "{text}");
        }
    }
    ensure!(daemon.json("explain table.example.org --client 10.9.0.1")?["agrees"] == true);
    daemon.ok("reload")?;
    ensure!(daemon.json(words)?["agrees"] == true);
    Ok(())
}

/// A mirror that is down (nothing answers on that port of our own), and pools that need it.
const OUTAGE: &str = r#"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
[[mirror]]
id = "iad"
addresses = ["198.51.100.10"]
[[mirror]]
id = "sin"
addresses = ["192.0.2.53"]
check = { type = "tcp", port = 9, interval = "200ms" }
[[pool]]
id = "table"
mirrors = ["ams", "iad"]
policy = "table"
default = "ams"
prefixes = "world.csv"
[[pool]]
id = "spare"
mirrors = ["sin"]
policy = "failover"
fail = "fallback"
fallback = "table"
[[pool]]
id = "closed"
mirrors = ["sin"]
policy = "failover"
fail = "closed"
[[steer]]
name = "table.example.org"
pool = "table"
[[steer]]
name = "spare.example.org"
pool = "spare"
[[steer]]
name = "closed.example.org"
pool = "closed"
"#;

/// Shares of what moves at a name, by mirrors, as `v4` or `queries`; none has no answer.
type Moved = BTreeMap<(Option<String>, Option<String>), f64>;

fn moved(preview: &Value, name: &str, of: &str) -> Result<Moved> {
    let mut all = preview["names"].as_array().into_iter().flatten();
    let names = all.find(|one| one["names"][0] == format!("{name}.example.org."));
    let moves = names.and_then(|one| one["moves"].as_array());
    let id = |place: &Value| place.as_str().map(str::to_owned);
    let pairs = moves.context("no such name")?.iter().map(|one| {
        let share = one[of].as_f64().unwrap_or_default();
        ((id(&one["from"]), id(&one["to"])), share)
    });
    Ok(pairs.filter(|(_, share)| *share > 0.0).collect())
}

#[test]
fn a_preview_knows_drains_what_is_down_and_who_answers_instead() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&["10.1.0.1", "10.9.0.1"])?;
    let setup = Setup::new(&[SERVER])
        .mode("native")
        .body(OUTAGE)
        .file("example.org.zone", EXAMPLE_ZONE)
        .file("world.csv", "10.1.0.0/16,iad\n");
    let site = Site {
        daemon: Daemon::start(&pair.server, &setup)?,
        pair,
    };
    let daemon = &site.daemon;
    daemon.logged("is down")?;
    let id = |mirror: &str| (mirror != "none").then(|| mirror.to_owned());
    let all = |from: &str, to: &str| Moved::from([((id(from), id(to)), 1.0)]);
    let near = |share: Option<&f64>, expected: f64| {
        (share.copied().unwrap_or_default() - expected).abs() < 1e-9
    };
    // One in 64 answers is kept: these are of one client.
    let socket = site.pair.client.udp("10.1.0.1".parse()?, at(SERVER, 53)?)?;
    for name in ["table", "spare", "closed"] {
        for _ in 0..256 {
            let query = Query::new(&format!("{name}.example.org"), A).bytes();
            let reply = dns::ask(&socket, &query, Duration::from_secs(3))?;
            let reply = Reply::parse(&reply.context("no answer")?)?;
            let mirror = if name == "closed" {
                ""
            } else {
                "198.51.100.10"
            };
            ensure!(reply.of("A").join(" ") == mirror, "{name}: {reply}");
        }
    }

    // As it is, but that checks come more seldom: what is down stays down.
    let path = daemon.home.folder.path().join("new.toml");
    let words = format!("preview {}", path.display());
    let config = std::fs::read_to_string(daemon.home.config())?;
    let propose = |changes: &[(&str, &str)]| -> Result<Value> {
        let mut new = config.clone();
        for (from, to) in changes {
            ensure!(new.contains(from), "{from}");
            new = new.replace(from, to);
        }
        std::fs::write(&path, new)?;
        daemon.json_exits(&words, &[0, 4])
    };
    let preview = propose(&[("200ms", "60s")])?;
    let slash_16 = 1.0 / 65536.0;
    for name in ["table", "spare"] {
        let stay = moved(&preview, name, "v4")?;
        ensure!(stay.len() == 2, "{preview}");
        ensure!(
            near(stay.get(&(id("iad"), id("iad"))), slash_16),
            "{preview}"
        );
        ensure!(
            near(stay.get(&(id("ams"), id("ams"))), 1.0 - slash_16),
            "{preview}"
        );
        ensure!(
            moved(&preview, name, "queries")? == all("iad", "iad"),
            "{preview}"
        );
    }
    ensure!(
        moved(&preview, "closed", "v4")? == all("none", "none"),
        "{preview}"
    );
    let names = preview["names"].as_array().into_iter().flatten();
    for one in names {
        let by = if one["from_pool"] == "spare" {
            &Value::from("table")
        } else {
            &one["from_pool"]
        };
        ensure!(
            one["from_answered_by"] == *by && one["to_answered_by"] == *by,
            "{one}"
        );
    }

    // No fallback any more, and another mirror where none was in service.
    let changes = [
        (
            "mirrors = [\"sin\"]\npolicy = \"failover\"\nfail = \"closed\"",
            "mirrors = [\"sin\", \"iad\"]\npolicy = \"failover\"",
        ),
        (
            "fail = \"fallback\"\nfallback = \"table\"",
            "fail = \"closed\"",
        ),
    ];
    let preview = propose(&changes)?;
    ensure!(
        moved(&preview, "spare", "queries")? == all("iad", "none"),
        "{preview}"
    );
    let spare = moved(&preview, "spare", "v4")?;
    ensure!(
        near(spare.get(&(id("ams"), None)), 1.0 - slash_16),
        "{preview}"
    );
    ensure!(
        moved(&preview, "closed", "v4")? == all("none", "iad"),
        "{preview}"
    );
    let text = daemon.exits(&words, &[0, 4])?;
    for part in [
        "(pool spare, answered by table, then spare): 100.00 % of IPv4 moves",
        "ams   no answer (SERVFAIL)  100.00 %",
        "no answer (SERVFAIL)  iad  100.00 %",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }

    // A drain that goes on counts by share: between what it is before and after.
    daemon.ok("mirror drain ams --over 48s")?;
    let drained = || -> Result<f64> {
        let shown = daemon.json("mirror show ams")?;
        let drained = shown["admin"]["drained"].as_f64().context("drained")?;
        Ok((drained * 32.0).floor())
    };
    let end = Instant::now() + Duration::from_secs(20);
    while drained()? < 3.0 {
        ensure!(Instant::now() < end, "it does not go on");
        std::thread::sleep(Duration::from_millis(100));
    }
    let least = drained()?;
    let preview = propose(&[("default = \"ams\"", "default = \"iad\"")])?;
    let most = drained()?;
    let table = moved(&preview, "table", "v4")?;
    ensure!(table.len() == 2, "{preview}");
    let left = table.get(&(id("ams"), id("iad"))).context("ams to iad")?;
    let shares = 32.0 * (1.0 - left / (1.0 - slash_16));
    ensure!(
        (shares - shares.round()).abs() < 1e-6,
        "{shares}: {preview}"
    );
    ensure!(
        (least..=most).contains(&shares.round()),
        "{least} {shares} {most}"
    );
    // Both are as of one moment: of a drain alone nothing moves.
    for _ in 0..20 {
        let preview = propose(&[])?;
        let stay = moved(&preview, "table", "v4")?;
        ensure!(stay.keys().all(|(from, to)| from == to), "{preview}");
        ensure!(stay.len() == 2, "{preview}");
    }

    // And so it comes about.
    propose(&changes)?;
    std::fs::copy(&path, daemon.home.config())?;
    daemon.ok("reload")?;
    ensure!(site.ask("closed.example.org", "10.1.0.1")? == "198.51.100.10");
    ensure!(site.ask("spare.example.org", "10.1.0.1")? == "SERVFAIL");
    Ok(())
}

/// Id of a map of the program that the stub calls, whose array is pinned.
fn map_of(stub: &Path, name: &str) -> Result<u64> {
    let array = sys::obj_get(stub)?;
    let program = sys::array_get(array.as_fd(), Callee::Answers as u32)?.context("no program")?;
    let ask = |words: &[&str], last: String| -> Result<Value> {
        let text = run(Command::new("bpftool").arg("-j").args(words).arg(last))?;
        Ok(serde_json::from_str(&text)?)
    };
    let program = ask(&["prog", "show", "id"], program.to_string())?;
    for id in program["map_ids"].as_array().context("no maps")? {
        let map = ask(&["map", "show", "id"], id.to_string())?;
        if map["name"] == name {
            return id.as_u64().context("an id");
        }
    }
    anyhow::bail!("the program has no map {name}: {program}")
}

/// Clients in the networks of the lists and the database below, at their edges, and anywhere.
fn clients() -> Vec<IpAddr> {
    let mut clients: Vec<IpAddr> = [
        "8.8.8.8",
        "8.8.0.0",
        "8.8.255.255",
        "8.9.0.0",
        "9.9.9.9",
        "9.9.10.1",
        "10.1.0.1",
        "10.2.0.1",
        "11.1.2.3",
        "11.2.0.1",
        "11.3.0.1",
        "2600::1",
        "2601::1",
        "2a00:1::1",
        "2002:808:808::1",
        "2002:b01:203::1",
        "2001:0:1:2::3",
    ]
    .map(ip)
    .into();
    let mut random = SmallRng::seed_from_u64(5);
    for _ in 0..20 {
        clients.push(IpAddr::from(random.random::<u32>().to_be_bytes()));
        let low: u128 = random.random::<u128>() >> 16;
        clients.push(IpAddr::from((0x2600 << 112 | low).to_be_bytes()));
    }
    clients
}

fn get(daemon: &Daemon, path: &str) -> Result<Value> {
    let (code, body) = daemon.request("GET", path, "")?;
    ensure!(code == 200, "{path}: {code}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// `map get` and `explain` of a client in a pool say the same mirrors, the same reason, and the same prefix.
fn compare(daemon: &Daemon, lookup: &Value, client: IpAddr) -> Result<String> {
    let pool = lookup["pool"].as_str().context("a pool")?;
    let source = lookup["source"].as_str().context("a source")?;
    for (qtype, mirrors) in [("A", "mirrors"), ("AAAA", "mirrors_v6")] {
        let path = format!("/v1/explain?name={pool}.example.org&client={client}&type={qtype}");
        let explained = get(daemon, &path)?;
        let differ = || format!("{client} in {pool}, {qtype}: {lookup}; {explained}");
        let of_order = explained["mirrors"].as_array().context("mirrors")?;
        let chosen = of_order.iter().filter(|mirror| mirror["chosen"] == true);
        let mut chosen: Vec<&Value> = chosen.map(|mirror| &mirror["mirror"]).collect();
        let mut ours: Vec<&Value> = lookup[mirrors].as_array().into_iter().flatten().collect();
        if pool == "drawn" {
            // Each query has another.
            ours.clear();
        }
        if pool == "all" {
            chosen.sort_by_key(|id| id.to_string());
            ours.sort_by_key(|id| id.to_string());
        }
        ensure!(chosen == ours, "mirrors: {}", differ());
        let Some(first) = of_order.first() else {
            continue;
        };
        let because = first["because"].as_str().unwrap_or_default();
        let word = because.split([' ', ',']).next().unwrap_or_default();
        let says = if because == "policy all" { "all" } else { word };
        ensure!(says == source, "reason: {}", differ());
        match lookup["prefix"].as_str() {
            Some(prefix) => {
                let shown = step(&explained, source);
                let shown = shown.split(" -> ").next();
                ensure!(shown == Some(prefix), "prefix: {}", differ());
            }
            None => {
                let by_prefix = ["override", "import", "list"].contains(&source);
                ensure!(!by_prefix, "prefix: {}", differ());
            }
        }
    }
    Ok(source.to_owned())
}

#[test]
fn map_get_and_explain_say_the_same_of_every_client() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let place = |lat: f64, lon: f64, country: &str| json!({"latitude": lat, "longitude": lon, "country_code": country});
    let database = Writer::new(
        true,
        &[
            ("11.1.0.0/16", place(52.0, 5.0, "NL")),
            ("11.2.0.0/16", place(40.7, -74.1, "US")),
            ("8.0.0.0/8", place(1.0, 104.0, "SG")),
            ("2a00:1::/32", place(52.0, 5.0, "NL")),
        ],
    );
    let setup = setup("off")
        .and("[geoip]\ndatabases = [\"city.mmdb\"]\n")
        .file("city.mmdb", &database.bytes())
        .file(
            "import.csv",
            "prefix,mirror\n10.0.0.0/8,sin\n11.2.0.0/17,sin\n2601::/16,iad\n",
        );
    let daemon = Daemon::start(&pair.server, &setup)?;
    let import = daemon.home.folder.path().join("import.csv");
    let mut sources: BTreeMap<String, usize> = BTreeMap::new();
    for change in [
        String::new(),
        "map set 9.9.9.0/24 sin --pool table".to_owned(),
        "map set 11.1.0.0/17 iad --pool geo".to_owned(),
        "map set 2600::/20 iad --pool nearest".to_owned(),
        format!("map import {} --pool nearest", import.display()),
        format!("map import {} --pool table", import.display()),
        "mirror down iad".to_owned(),
    ] {
        if !change.is_empty() {
            daemon.ok(&change)?;
        }
        for client in clients() {
            let lookups = get(&daemon, &format!("/v1/map/lookup?address={client}"))?;
            let lookups = lookups.as_array().context("a list")?;
            ensure!(lookups.len() == POOLS.len(), "{lookups:?}");
            for lookup in lookups {
                let source = compare(&daemon, lookup, client)?;
                *sources.entry(source).or_default() += 1;
            }
        }
    }
    // Each reason that there is has been seen.
    for source in [
        "override", "import", "list", "rule", "nearest", "weight", "default", "all",
    ] {
        ensure!(sources.contains_key(source), "no {source}: {sources:?}");
    }
    Ok(())
}
