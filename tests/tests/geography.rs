//! GeoIP databases that change under a running daemon: good ones are in force soon and no query is lost,
//! broken ones change nothing and are said.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Home, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::mmdb::Writer;
use geodns_tests::net::{Pair, ip, output};
use geodns_tests::{needs_root, until};
use serde_json::{Value, json};

const SERVER: &str = "192.0.2.53";
const V4: &str = "11.1.0.1";
const V6: &str = "2a00:1::1";
const AMS: &str = "192.0.2.10";
const IAD: &str = "192.0.2.20";
const SIN: &str = "192.0.2.30";

const NEW_YORK: [f64; 2] = [40.7, -74.1];
const JAKARTA: [f64; 2] = [-6.2, 106.8];

/// A database that has both clients' networks in one place.
fn database([latitude, longitude]: [f64; 2]) -> Vec<u8> {
    let record = json!({"latitude": latitude, "longitude": longitude});
    Writer::new(
        true,
        &[("11.1.0.0/16", record.clone()), ("2a00:1::/32", record)],
    )
    .bytes()
}

/// A daemon with a database, and clients in its networks.
struct Site {
    daemon: Daemon,
    pair: Pair,
}

impl Site {
    fn new() -> Result<Self> {
        let pair = Pair::new(&[V4, V6])?;
        let (home, setup) = files(&database(NEW_YORK))?;
        let daemon = Daemon::start_at(&pair.server, home, &setup)?;
        Ok(Self { daemon, pair })
    }

    fn database(&self) -> PathBuf {
        self.daemon.home.folder.path().join("city.mmdb")
    }

    /// Puts another file in the database's place.
    fn rename(&self, bytes: &[u8]) -> Result<()> {
        let other = self.database().with_extension("new");
        std::fs::write(&other, bytes)?;
        Ok(std::fs::rename(other, self.database())?)
    }

    /// The address that `www` has for a client.
    fn www(&self, from: &str) -> Result<String> {
        let to = if ip(from).is_ipv4() {
            SERVER
        } else {
            "2001:db8::53"
        };
        let query = Query::new("www.example.org", A);
        Ok(self.pair.ask(from, to, &query)?.addresses())
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        until(what, || holds(self)).with_context(|| self.daemon.log())
    }

    fn last_error(&self) -> Result<Option<String>> {
        let status: Value = self.daemon.json("status")?;
        Ok(status["last_error"].as_str().map(str::to_owned))
    }

    /// Lines of the log with this text.
    fn logged(&self, text: &str) -> usize {
        let log = self.daemon.log();
        log.lines().filter(|line| line.contains(text)).count()
    }
}

/// A daemon's files, with this for its database.
fn files(database: &[u8]) -> Result<(Home, Setup)> {
    let setup = Setup::world("three_places", &[SERVER, "2001:db8::53"])
        .file("example.org.zone", EXAMPLE_ZONE)
        .file("city.mmdb", database);
    let home = Home::new()?;
    home.write(&setup)?;
    Ok((home, setup))
}

#[test]
fn a_database_that_changes_is_in_force_and_no_query_is_lost() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    site.daemon.ok("map set 11.1.7.0/24 ams")?;
    for client in [V4, V6] {
        ensure!(site.www(client)? == IAD, "{client}");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| -> Result<u64> {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let got = site.www(V4).with_context(|| format!("question {asked}"))?;
                ensure!(
                    [IAD, SIN].contains(&&*got),
                    "neither before nor after: {got}"
                );
                asked += 1;
            }
            Ok(asked)
        });
        let change = || -> Result<()> {
            site.rename(&database(JAKARTA))?;
            site.until("renamed", |site| Ok(site.www(V6)? == SIN))?;
            std::fs::write(site.database(), database(NEW_YORK))?;
            site.until("in place", |site| Ok(site.www(V6)? == IAD))
        };
        let changed = change();
        done.store(true, Ordering::Relaxed);
        let asked = asker.join().expect("no panic")?;
        changed?;
        ensure!(asked > 100, "only {asked} questions meanwhile");
        Ok(())
    })?;
    ensure!(site.www(V4)? == IAD);
    // What an operator has set is still there.
    let got: Value = site.daemon.json("map get 11.1.7.1")?;
    ensure!(got.to_string().contains("11.1.7.0/24"), "{got}");
    // Said a moment after it is in force.
    site.until("both said", |site| Ok(site.logged("read again: ") == 2))?;
    ensure!(site.last_error()?.is_none());
    Ok(())
}

#[test]
fn a_broken_database_changes_nothing_and_is_said_once() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    let good = database(JAKARTA);
    let mut corrupt = good.clone();
    // The first record of the tree leads nowhere.
    corrupt[..6].fill(0xff);
    let nowhere = Writer::new(true, &[("11.1.0.0/16", json!({"isp": "Example"}))]).bytes();
    let broken: [(&[u8], &str); 5] = [
        (&corrupt, "its search tree is damaged"),
        (&good[..good.len() / 2], "is cut short"),
        (b"prefix,mirror\n", "is no MMDB file"),
        (&nowhere, "does not say where an address is"),
        (b"", "is empty"),
    ];
    for (number, (bytes, says)) in broken.into_iter().enumerate() {
        if number % 2 == 0 {
            site.rename(bytes)?;
        } else {
            std::fs::write(site.database(), bytes)?;
        }
        site.until(says, |site| {
            Ok(site.last_error()?.is_some_and(|error| error.contains(says)))
        })?;
        ensure!(site.logged(says) == 1, "{}", site.daemon.log());
        ensure!(site.www(V4)? == IAD, "{says}: the old one is not in force");
    }
    // It is tried again only when it changes again.
    std::thread::sleep(Duration::from_secs(3));
    ensure!(site.logged("is empty") == 1, "{}", site.daemon.log());
    // A removed one is no change; edits go on as ever.
    std::fs::remove_file(site.database())?;
    site.daemon.ok("map set 11.1.0.0/24 ams")?;
    ensure!(site.www(V4)? == AMS);
    site.daemon.ok("map del 11.1.0.0/24")?;
    site.rename(&good)?;
    site.until("good again", |site| Ok(site.www(V4)? == SIN))?;
    site.until("forgiven", |site| Ok(site.last_error()?.is_none()))?;
    Ok(())
}

#[test]
fn a_reload_with_a_broken_database_changes_nothing() -> Result<()> {
    needs_root!();
    let site = Site::new()?;
    site.rename(b"")?;
    let (_, said) = site.daemon.fails("reload")?;
    ensure!(said.contains("city.mmdb: is empty"), "{said}");
    ensure!(site.www(V4)? == IAD);
    site.rename(&database(JAKARTA))?;
    site.daemon.ok("reload")?;
    ensure!(site.www(V4)? == SIN);
    Ok(())
}

#[test]
fn a_start_with_a_broken_database_says_why_in_a_line() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let (home, setup) = files(b"\x1f\x8bxyz")?;
    let done = Daemon::attempt(&pair.server, &home, &setup)?;
    let text = String::from_utf8(done.stderr)?;
    let last = text.lines().last().unwrap_or_default();
    ensure!(done.status.code() == Some(1), "{}", done.status);
    ensure!(
        last.ends_with("city.mmdb: is compressed; unpack it"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_policy_that_no_database_serves_is_warned_of() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let countries = Writer::new(true, &[("11.1.0.0/16", json!({"country_code": "US"}))]);
    let (home, setup) = files(&countries.bytes())?;
    let warning = "pool \"www\" asks for a client's location, and no database has it";
    let config = home.config();
    let check = output(
        std::process::Command::new(geodns_tests::built::binary()?)
            .args(["check".as_ref(), config.as_os_str()]),
    )?;
    let said = String::from_utf8(check.stdout)?;
    ensure!(check.status.success() && said.contains(warning), "{said}");
    let daemon = Daemon::start_at(&pair.server, home, &setup)?;
    daemon.logged(warning)?;
    Ok(())
}

/// Rules by place: how each is written, and whether the database of the test below has the place.
const RULES: &[(&str, bool)] = &[
    (r#"asn = 64500"#, true),
    (r#"asn = 64501"#, false),
    (r#"continent = "EU""#, true),
    (r#"continent = "OC""#, false),
    (r#"country = "NL""#, true),
    (r#"country = "NZ""#, false),
    (r#"country = "NL", subdivision = "NH""#, true),
    (r#"country = "NL", subdivision = "NL-NH""#, true),
    (r#"country = "NL", subdivision = "north holland""#, true),
    (r#"country = "NL", subdivision = "ZH""#, false),
    // That of another country.
    (r#"country = "US", subdivision = "NH""#, false),
    (r#"country = "NL", city = "amsterdam""#, true),
    (r#"country = "NL", city = "Amstredam""#, false),
    (r#"country = "US", city = "Amsterdam""#, false),
    (
        r#"country = "NL", subdivision = "NH", city = "Amsterdam""#,
        true,
    ),
    (
        r#"country = "NL", subdivision = "ZH", city = "Amsterdam""#,
        false,
    ),
    (r#"prefix = "192.0.2.0/24""#, true),
];

/// A place may come with the next database: a warning, where a country that does not exist is an error.
#[test]
fn a_rule_for_a_place_that_no_database_has_is_a_warning() -> Result<()> {
    let amsterdam = json!({
        "continent": {"code": "EU"},
        "country": {"iso_code": "NL"},
        "subdivisions": [{"iso_code": "NH", "names": {"en": "North Holland"}}],
        "city": {"names": {"en": "Amsterdam"}},
        "autonomous_system_number": 64500,
    });
    let boston = json!({
        "continent": {"code": "NA"},
        "country": {"iso_code": "US"},
        "subdivisions": [{"iso_code": "MA", "names": {"en": "Massachusetts"}}],
        "city": {"names": {"en": "Boston"}},
    });
    let database = Writer::new(true, &[("11.1.0.0/16", amsterdam), ("11.2.0.0/16", boston)]);
    let pool = |rule: &str| {
        format!("policy = \"geo\"\ndefault = \"ams\"\nrules = [{{ {rule}, mirrors = [\"iad\"] }}]")
    };
    for (rule, is_there) in RULES {
        let (home, setup) = files(&database.bytes())?;
        home.write(&setup.but("policy = \"nearest\"", &pool(rule)))?;
        let config = home.config();
        let check = output(
            std::process::Command::new(geodns_tests::built::binary()?)
                .args(["check".as_ref(), config.as_os_str()]),
        )?;
        let said = String::from_utf8(check.stdout)?;
        ensure!(check.status.success(), "{rule}: {said}");
        let mut warnings = said.lines().filter(|line| line.starts_with("warning: "));
        let line = std::fs::read_to_string(&config)?;
        let line = line.lines().position(|line| line.starts_with("rules = "));
        let place = format!("{}:{}", config.display(), line.context("rules")? + 1);
        match (warnings.next(), warnings.next()) {
            (None, None) => ensure!(*is_there, "{rule}: no warning"),
            (Some(warning), None) => {
                ensure!(!is_there, "{rule}: {warning}");
                ensure!(warning.contains(&place), "{rule}: {warning}");
                let says = "pool.rules: pool \"www\": no database has ";
                ensure!(warning.contains(says), "{rule}: {warning}");
            }
            _ => anyhow::bail!("{rule}: {said}"),
        }
    }
    Ok(())
}
