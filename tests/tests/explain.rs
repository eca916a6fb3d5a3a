//! `geodns explain` beside the kernel: they agree, and where somebody has spoilt a map, it says so.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup, pool};
use geodns_tests::dns::{A, Query};
use geodns_tests::needs_root;
use geodns_tests::world::{Pair, run};
use serde_json::Value;

const SERVER: &str = "192.0.2.53";

const MIRRORS: &str = r#"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10", "2001:db8:1::10"]
location = { lat = 52.4, lon = 4.9 }
[[mirror]]
id = "iad"
addresses = ["198.51.100.10", "2001:db8:2::10"]
location = { lat = 38.9, lon = -77.4 }
weight = 300
[[mirror]]
id = "sin"
addresses = ["203.0.113.10"]
location = { lat = 1.3, lon = 103.9 }
"#;

/// A pool of each policy: id, the rest.
const POOLS: [(&str, &str); 9] = [
    (
        "table",
        r#"mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "ams"
prefixes = "world.csv""#,
    ),
    (
        "geo",
        r#"mirrors = ["ams", "iad", "sin"]
policy = "geo"
default = "ams"
rules = [{ prefix = "8.8.8.0/24", mirrors = ["sin"] }, { country = "NL", mirrors = ["ams"] }]"#,
    ),
    (
        "nearest",
        r#"mirrors = ["ams", "iad", "sin"]
policy = "nearest""#,
    ),
    (
        "weighted",
        r#"mirrors = ["ams", "iad"]
policy = "weighted""#,
    ),
    (
        "drawn",
        r#"mirrors = ["ams", "iad", "sin"]
policy = "weighted"
choice = "query""#,
    ),
    (
        "failover",
        r#"mirrors = ["sin"]
policy = "failover""#,
    ),
    (
        "site",
        r#"mirrors = ["ams", "iad"]
policy = "site""#,
    ),
    (
        "nested",
        r#"pools = ["weighted", "failover"]
policy = "table"
default = "weighted""#,
    ),
    (
        "all",
        r#"mirrors = ["ams", "iad", "sin"]
policy = "all""#,
    ),
];

const PREFIXES: &str = "prefix,mirror\n8.8.0.0/16,iad\n10.1.0.0/16,iad\n2600::/16,sin\n";

struct Site {
    daemon: Daemon,
    pair: Pair,
}

impl Site {
    fn new(mode: &str) -> Result<Self> {
        let pair = Pair::new(&["10.1.0.1", "10.9.0.1"])?;
        let mut body = MIRRORS.to_owned();
        for (id, rest) in POOLS {
            body += &pool(id, rest);
        }
        body += "[[steer]]\nname = \"*.wild.example.org\"\npool = \"table\"\n";
        let mut setup = Setup::new(&[SERVER])
            .mode(mode)
            .body(&body)
            .file("example.org.zone", EXAMPLE_ZONE)
            .file("world.csv", PREFIXES);
        setup.server = "site = \"iad\"\n".to_owned();
        let daemon = Daemon::start(&pair.server, &setup)?;
        Ok(Self { daemon, pair })
    }

    /// What the kernel answers on the wire.
    fn ask(&self, name: &str, from: &str) -> Result<String> {
        let reply = self.pair.ask(from, SERVER, &Query::new(name, A))?;
        Ok(reply.addresses())
    }
}

/// What a step says, all lines of it.
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
    for (name, _) in POOLS {
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
    ensure!(txt["kernel"]["verdict"] == "pass_qtype", "{txt}");
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
    let regions = map_of(&daemon.home.pins.path().join("v2/links/eth0"), "REGIONS")?;
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

/// Id of a map of the program in a pinned link.
fn map_of(link: &Path, name: &str) -> Result<u64> {
    let ask = |words: &[&str], last: String| -> Result<Value> {
        let text = run(Command::new("bpftool").arg("-j").args(words).arg(last))?;
        Ok(serde_json::from_str(&text)?)
    };
    let link = ask(&["link", "show", "pinned"], link.display().to_string())?;
    let link = link.get(0).unwrap_or(&link).clone();
    let program = ask(&["prog", "show", "id"], link["prog_id"].to_string())?;
    for id in program["map_ids"].as_array().context("no maps")? {
        let map = ask(&["map", "show", "id"], id.to_string())?;
        if map["name"] == name {
            return id.as_u64().context("an id");
        }
    }
    anyhow::bail!("the program has no map {name}: {program}")
}
