//! Other servers' checkers, asked about our zones: `named-checkzone` and `kzonecheck` of the files, DNSViz of
//! what is served.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::net::{Pair, output, run};
use geodns_tests::{needs_root, other_server};
use serde_json::Value;

const SERVER: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

#[test]
fn others_find_nothing_wrong_with_what_is_served() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // Both name servers are this one: a zone should have two.
    let listen = [SERVER[0], "192.0.2.54", SERVER[1], "2001:db8::54"];
    let setup = Setup::world("two_name_servers", &listen);
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let file = daemon.home.folder.path().join("example.org.zone");
    let said = run(Command::new(other_server("named-checkzone")?)
        .arg("example.org")
        .arg(&file))?;
    ensure!(said.contains("loaded serial 2026010100"), "{said}");
    run(Command::new(other_server("kzonecheck")?)
        .args(["-o", "example.org"])
        .arg(&file))?;

    let servers = "example.org+:ns1.example.org=192.0.2.53,ns1.example.org=[2001:db8::53],\
                   ns2.example.org=192.0.2.54,ns2.example.org=[2001:db8::54]";
    let folder = tempfile::tempdir()?;
    let probed = folder.path().join("probed.json");
    let names = [
        "example.org",
        "www.example.org",
        "alias.example.org",
        "host.example.org",
        "x.w.example.org",
    ];
    run(pair
        .client
        .command("dnsviz")
        .args(["probe", "-A", "-a", ".", "-x", servers, "-o"])
        .arg(&probed)
        .args(names))?;
    let said = output(
        Command::new("dnsviz")
            .args(["grok", "-l", "info", "-r"])
            .arg(&probed),
    )?;
    ensure!(
        said.status.success(),
        "dnsviz grok: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let found: Value = serde_json::from_slice(&said.stdout).context("what dnsviz grok says")?;
    let mut problems = Vec::new();
    collect(&found, "", &mut problems);
    // It has said something of each name.
    for name in names {
        ensure!(found.get(format!("{name}.")).is_some(), "{name}: {found}");
    }
    ensure!(
        problems.is_empty(),
        "{}\n{}",
        problems.join("\n"),
        daemon.log()
    );
    // It has asked, over UDP and TCP, and the kernel has answered.
    let counters = daemon.counters()?;
    ensure!(
        counters["answered"] > 0 && counters["nodata"] > 0,
        "{counters:?}"
    );
    daemon.stop()
}

/// Errors and warnings, wherever they stand.
fn collect(value: &Value, at: &str, problems: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "errors" || name == "warnings" {
                    let one_by_one = field.as_array().into_iter().flatten();
                    problems.extend(one_by_one.map(|one| format!("{at}: {name}: {one}")));
                } else {
                    collect(field, &format!("{at}/{name}"), problems);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|one| collect(one, at, problems)),
        _ => {}
    }
}
