//! Mistakes that people make in a configuration, and the lines of `geodns check` for each.
//!
//! Each mistake is a test. The lines are kept in `mistakes.txt` beside this file, to be read as somebody who knows nothing
//! would: each must name file, line, key and what to write. `WRITE_GOLDEN=1` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

const GEODNS: &str = env!("CARGO_BIN_EXE_geodns");

const BASE: &str = r#"[kernel]
interfaces = ["lo"]
mode = "off"
[control]
socket = "/tmp/geodns-mistakes/control.sock"
[state]
path = "/tmp/geodns-mistakes/state.redb"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10", "2001:db8:1::10"]
[[mirror]]
id = "iad"
addresses = ["198.51.100.10"]
[[pool]]
id = "www"
mirrors = ["ams", "iad"]
policy = "table"
default = "ams"
[[steer]]
name = "www.example.org"
pool = "www"
"#;

const ZONE: &str = "\
$TTL 1h
@ IN SOA ns1 hostmaster ( 2026010101 1h 15m 1w 1m )
  IN NS ns1
ns1 IN A 192.0.2.53
";

/// An edit of the configuration, or of a file beside it.
enum Edit {
    /// This was written in the place of that.
    Put(&'static str, &'static str),
    /// This was written at the start.
    Begin(&'static str),
    /// This was written at the end.
    End(&'static str),
    /// All of it is this.
    All(&'static str),
    /// All line ends are CRLF.
    Crlf,
    /// A file beside it says this.
    File(&'static str, &'static str),
    /// The zone file goes on with this.
    Zone(&'static str),
}

use Edit::{All, Begin, Crlf, End, File, Put, Zone};

const DEFAULT: &str = "default = \"ams\"";
const POLICY: &str = "policy = \"table\"";
const IAD: &str = "addresses = [\"198.51.100.10\"]";
const ZONE_FILE: &str = "file = \"example.org.zone\"";

/// The mistakes, each with its name. The first few are none.
const MISTAKES: &[(&str, &[Edit])] = &[
    ("ok", &[]),
    ("BOM", &[Begin("\u{feff}")]),
    ("CRLF", &[Crlf]),
    (
        "ttl as a time",
        &[Put(
            DEFAULT,
            "default = \"ams\"\nttl = \"5m\"\nttl_min = \"30s\"",
        )],
    ),
    (
        "continent in lower case",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{continent=\"eu\", mirrors=[\"ams\"]}]",
        )],
    ),
    ("key with a typing error", &[Put("interfaces", "intefaces")]),
    ("unknown section", &[End("[dns]\nport=53\n")]),
    (
        "key without its section",
        &[Begin("listen = [\"192.0.2.1\"]\n")],
    ),
    (
        "string instead of a list",
        &[Put("interfaces = [\"lo\"]", "interfaces = \"lo\"")],
    ),
    ("string without quotes", &[Put(POLICY, "policy = table")]),
    ("unknown policy", &[Put(POLICY, "policy = \"geoip\"")]),
    (
        "policy with a capital",
        &[Put(POLICY, "policy = \"Nearest\"")],
    ),
    (
        "nearest without location",
        &[Put(POLICY, "policy = \"nearest\"")],
    ),
    (
        "geo without a database",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{country=\"NL\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "mirror not defined",
        &[Put("[\"ams\", \"iad\"]", "[\"ams\", \"iadd\"]")],
    ),
    ("mirror's id twice", &[Put("id = \"iad\"", "id = \"ams\"")]),
    ("bad address", &[Put("198.51.100.10", "198.51.100.300")]),
    (
        "address with a port",
        &[Put("198.51.100.10", "198.51.100.10:443")],
    ),
    (
        "address with a length",
        &[Put("198.51.100.10\"", "198.51.100.10/32\"")],
    ),
    ("unspecified address", &[Put("198.51.100.10", "0.0.0.0")]),
    ("zone file missing", &[Put("example.org.zone", "nope.zone")]),
    ("zone file is a folder", &[Put("example.org.zone", ".")]),
    (
        "steered name outside of all zones",
        &[Put("www.example.org", "www.example.com")],
    ),
    (
        "steered name has an address",
        &[Zone("www IN A 192.0.2.1\n")],
    ),
    (
        "steered to no pool",
        &[Put("pool = \"www\"", "pool = \"web\"")],
    ),
    (
        "zone with errors",
        &[Zone("www2 IN A 192.0.2.256\nfoo IN MX mail\n")],
    ),
    (
        "zone without SOA",
        &[File(
            "example.org.zone",
            "$TTL 1h\n@ IN NS ns1\nns1 IN A 192.0.2.1\n",
        )],
    ),
    (
        "CNAME and other data",
        &[Zone("x IN CNAME y\nx IN TXT \"a\"\n")],
    ),
    (
        "ttl with a fraction of a second",
        &[Put(DEFAULT, "default = \"ams\"\nttl = \"500ms\"")],
    ),
    (
        "ttl as a boolean",
        &[Put(DEFAULT, "default = \"ams\"\nttl = true")],
    ),
    (
        "time as a number",
        &[Put(
            "interfaces = [\"lo\"]",
            "interfaces = [\"lo\"]\nstale_after = 300",
        )],
    ),
    (
        "time in words",
        &[Put(
            "interfaces = [\"lo\"]",
            "interfaces = [\"lo\"]\nstale_after = \"5 minutes\"",
        )],
    ),
    (
        "latitude out of range",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\nlocation = { lat = 104.9, lon = 52 }",
        )],
    ),
    (
        "location as a list",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\nlocation = [52.4, 4.9]",
        )],
    ),
    (
        "latitude as a string",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\nlocation = { lat = \"52N\", lon = 4 }",
        )],
    ),
    (
        "check as a URL",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\ncheck = \"http://x/health\"",
        )],
    ),
    (
        "https check without host",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\ncheck = { type=\"https\" }",
        )],
    ),
    (
        "timeout above interval",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\ncheck = { type=\"tcp\", port=80, interval=\"1s\", timeout=\"5s\" }",
        )],
    ),
    (
        "tcp check without port",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.10\"]\ncheck = { type=\"tcp\" }",
        )],
    ),
    (
        "country by name",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{country=\"Netherlands\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "country UK",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{country=\"UK\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "country EU",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{country=\"EU\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "country ZZ",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{country=\"ZZ\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "rule without mirrors",
        &[Put(POLICY, "policy = \"geo\"\nrules = [{country=\"NL\"}]")],
    ),
    (
        "AS with its letters",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{asn=\"AS64500\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "prefix with host bits",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [{prefix=\"192.0.2.1/24\", mirrors=[\"ams\"]}]",
        )],
    ),
    (
        "list with a bad line",
        &[
            Put(DEFAULT, "default = \"ams\"\nprefixes = \"w.csv\""),
            File("w.csv", "prefix,mirror\n10.0.0.0/8,ams\n10.0.0.0/33,ams\n"),
        ],
    ),
    (
        "list with an unknown mirror",
        &[
            Put(DEFAULT, "default = \"ams\"\nprefixes = \"w.csv\""),
            File("w.csv", "10.0.0.0/8,lon\n"),
        ],
    ),
    (
        "list with semicolons",
        &[
            Put(DEFAULT, "default = \"ams\"\nprefixes = \"w.csv\""),
            File("w.csv", "10.0.0.0/8;ams\r\n"),
        ],
    ),
    (
        "database missing",
        &[End("[geoip]\ndatabases=[\"GeoLite2-City.mmdb\"]\n")],
    ),
    (
        "database that is none",
        &[
            End("[geoip]\ndatabases=[\"w.mmdb\"]\n"),
            File("w.mmdb", "hello"),
        ],
    ),
    ("port 0", &[Begin("[server]\nport = 0\n")]),
    (
        "listen with a port",
        &[Begin("[server]\nlisten = [\"192.0.2.1:53\"]\n")],
    ),
    (
        "listen as a string",
        &[Begin("[server]\nlisten = \"192.0.2.1\"\n")],
    ),
    (
        "certificate alone",
        &[End("[tls]\ncertificate=\"x.crt\"\n")],
    ),
    ("tls as a list", &[Begin("tls = [\"a.crt\",\"b.key\"]\n")]),
    ("rrl as a list", &[Begin("rrl = [1000]\n")]),
    ("cookies as a list", &[Begin("cookies = [false]\n")]),
    (
        "server as a list",
        &[Begin("server = [[\"192.0.2.1\"], 53]\n")],
    ),
    (
        "location as a list in a pool",
        &[Put(DEFAULT, "default = \"ams\"\nlocation = [1, 2]")],
    ),
    (
        "rules as lists",
        &[Put(
            POLICY,
            "policy = \"geo\"\nrules = [[\"EU\", [\"ams\"]]]",
        )],
    ),
    (
        "block as a table",
        &[End("[block]\nname=\"x.example.org\"\n")],
    ),
    (
        "block as lists",
        &[Begin("block = [[\"x.example.org\"]]\n")],
    ),
    (
        "bad secret of cookies",
        &[End("[cookies]\nsecrets=[\"abc\"]\n")],
    ),
    ("rate as a string", &[End("[rrl]\nrate=\"1000/s\"\n")]),
    (
        "bad base64",
        &[End("[[tsig]]\nname=\"k\"\nsecret=\"***\"\n")],
    ),
    (
        "unknown key of transfers",
        &[Put(
            ZONE_FILE,
            "file = \"example.org.zone\"\nallow_transfer=[\"mykey\"]",
        )],
    ),
    (
        "transfers for any",
        &[Put(
            ZONE_FILE,
            "file = \"example.org.zone\"\nallow_transfer=[\"any\"]",
        )],
    ),
    (
        "transfers for mapped addresses",
        &[Put(
            ZONE_FILE,
            "file = \"example.org.zone\"\nallow_transfer=[\"::ffff:127.0.0.0/104\"]",
        )],
    ),
    (
        "file and primaries",
        &[Put(
            ZONE_FILE,
            "file = \"example.org.zone\"\nprimaries=[\"192.0.2.1\"]",
        )],
    ),
    (
        "two zones of a name",
        &[End(
            "[[zone]]\nname=\"Example.ORG.\"\nfile=\"example.org.zone\"\n",
        )],
    ),
    (
        "steered twice",
        &[End("[[steer]]\nname=\"WWW.example.org.\"\npool=\"www\"\n")],
    ),
    ("pool in single brackets", &[Put("[[pool]]", "[pool]")]),
    (
        "mirror by its id",
        &[Put("[[mirror]]\nid = \"ams\"", "[mirror.ams]")],
    ),
    (
        "all mirrors by their ids",
        &[
            Put("[[mirror]]\nid = \"ams\"", "[mirror.ams]"),
            Put("[[mirror]]\nid = \"iad\"", "[mirror.iad]"),
        ],
    ),
    (
        "pool without mirrors",
        &[Put("mirrors = [\"ams\", \"iad\"]\n", "")],
    ),
    ("pool without default", &[Put("default = \"ams\"\n", "")]),
    ("pool without id", &[Put("id = \"www\"\n", "")]),
    (
        "weight below zero",
        &[Put("id = \"iad\"", "id = \"iad\"\nweight = -5")],
    ),
    (
        "cname and addresses",
        &[Put(
            "id = \"iad\"",
            "id = \"iad\"\ncname = \"x.example.net\"",
        )],
    ),
    (
        "fallback missing",
        &[Put(DEFAULT, "default = \"ams\"\nfail = \"fallback\"")],
    ),
    (
        "names without {mirror}",
        &[Put(
            DEFAULT,
            "default = \"ams\"\nnames = \"mirror.example.org\"",
        )],
    ),
    (
        "panic in per cent",
        &[Put(DEFAULT, "default = \"ams\"\npanic = 30")],
    ),
    ("unknown site", &[Begin("[server]\nsite=\"lon\"\n")]),
    ("empty file", &[All("")]),
    ("YAML", &[All("kernel:\n  interfaces: [eth0]\n")]),
    ("typographic quotes", &[Put("id = \"ams\"", "id = “ams”")]),
    (
        "zone's name with a blank",
        &[Put("name = \"example.org\"", "name = \"example org\"")],
    ),
    ("steered apex", &[Put("www.example.org", "example.org")]),
    (
        "steered below a cut",
        &[
            Put("www.example.org", "www.lab.example.org"),
            Zone("lab IN NS ns.lab\nns.lab IN A 192.0.2.9\n"),
        ],
    ),
    (
        "no such interface",
        &[
            Put("\"lo\"", "\"nope0\""),
            Put("mode = \"off\"", "mode = \"auto\""),
        ],
    ),
    ("feed is a folder", &[End("[health]\nfeed = \".\"\n")]),
    (
        "state is a folder",
        &[Put("/tmp/geodns-mistakes/state.redb", "/tmp")],
    ),
    (
        "several at once",
        &[
            Put("interfaces", "intefaces"),
            Put(POLICY, "policy = \"geoip\""),
            Put("198.51.100.10", "198.51.100.300"),
            Put("pool = \"www\"", "pool = \"web\""),
            End("[dns]\nport = 53\n[rrl]\nrate = \"1000/s\"\nslip = 101\n"),
        ],
    ),
    (
        "several in sections of their own",
        &[End(
            "[[tsig]]\nname=\"k\"\nalgorithm=\"md5\"\nsecret=\"***\"\n\
             [cookies]\nsecrets=[\"abc\",\"abd\"]\n\
             [rrl]\nrate=-1\nslip=101\nallow=[\"10.0.0.1/8\",\"all\"]\n\
             [transfer]\nmax_zone=\"1G\"\nnotify_rate=0\n\
             [[block]]\nname=\"a..b\"\ntype=\"NONE!\"\nfrom=[\"all\"]\n",
        )],
    ),
    (
        "several in a zone",
        &[Put(
            ZONE_FILE,
            "file = \"example.org.zone\"\nallow_transfer=[\"any\",\"mykey\"]\nnotify=[\"192.0.2.1:53\"]\n\
             tsig=\"nokey\"\ntransfer_steered=\"no\"\nin_catalog=\"catalog.test\"",
        )],
    ),
    (
        "several in a check",
        &[Put(
            IAD,
            "addresses = [\"198.51.100.300\"]\n\
             check = { type=\"https\", port=0, path=\"health\", status=[20, \"ok\"], interval=\"5\", rise=0 }",
        )],
    ),
    (
        "several in a pool whose policy is none",
        &[Put(
            POLICY,
            "policy = \"geoip\"\nttl = -1\npanic = 30\n\
             rules = [{country=\"UK\", city=\"\", mirrors=[\"lon\"]}, {asn=0, mirrors=[]}]",
        )],
    ),
    (
        "several beside a pool without id",
        &[
            Put("id = \"www\"\n", ""),
            Put("198.51.100.10", "198.51.100.300"),
            End("[rrl]\nslip = 101\n"),
        ],
    ),
    (
        "several in a list",
        &[
            Put(DEFAULT, "default = \"ams\"\nprefixes = \"w.csv\""),
            File(
                "w.csv",
                "prefix,mirror\n10.0.0.0/8,lon\n10.1.0.0/16;ams\n10.2.0.1/16,iad\n",
            ),
        ],
    ),
    (
        "feed with a bad line",
        &[
            End("[health]\nfeed = \"up.csv\"\n"),
            File("up.csv", "ams,up\niad,gone\n"),
        ],
    ),
    (
        "several in other files",
        &[
            Put(DEFAULT, "default = \"ams\"\nprefixes = \"w.csv\""),
            File("w.csv", "10.0.0.0/8,lon\n"),
            Zone("www2 IN A 192.0.2.256\nfoo IN MX mail\n"),
            End("[geoip]\ndatabases=[\"GeoLite2-City.mmdb\"]\n"),
        ],
    ),
];

/// Makes the files of a mistake; gives the configuration's.
fn write(folder: &Path, edits: &[Edit]) -> Result<PathBuf> {
    let mut text = BASE.to_owned();
    let mut zone = ZONE.to_owned();
    for edit in edits {
        match edit {
            Put(from, to) => {
                ensure!(text.contains(from), "no {from} in the configuration");
                text = text.replacen(from, to, 1);
            }
            Begin(with) => text.insert_str(0, with),
            End(with) => text.push_str(with),
            All(is) => (*is).clone_into(&mut text),
            Crlf => text = text.replace('\n', "\r\n"),
            Zone(with) => zone.push_str(with),
            File("example.org.zone", is) => (*is).clone_into(&mut zone),
            File(name, is) => fs::write(folder.join(name), is)?,
        }
    }
    fs::write(folder.join("example.org.zone"), zone)?;
    let file = folder.join("g.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// `geodns` with these arguments: exit code, and what it prints.
fn geodns(arguments: &[&str], file: &Path) -> Result<(i32, String, String)> {
    let output = Command::new(GEODNS).args(arguments).arg(file).output()?;
    let code = output.status.code().context("an exit code")?;
    let stdout = String::from_utf8(output.stdout)?;
    Ok((code, stdout, String::from_utf8(output.stderr)?))
}

/// Runs `geodns check` on a mistake: its lines as they stand in `mistakes.txt`. With `--json` it says the same.
fn said_of(name: &str, edits: &[Edit]) -> Result<String> {
    let mut said = String::new();
    let folder = tempfile::tempdir()?;
    let file = write(folder.path(), edits)?;
    let (code, stdout, stderr) = geodns(&["check"], &file)?;
    let place = format!("{}/", folder.path().display());
    // Keys come and go; which are known is another test's.
    let shown = |line: &str| {
        let line = line.replace(&place, "");
        let (line, _) = line.split_once(" known: ").unwrap_or((&line, ""));
        line.to_owned()
    };
    let errors = stderr.replace(&place, "");
    let warnings = stdout.lines().filter(|line| line.starts_with("warning: "));
    let warnings: Vec<String> = warnings.map(|line| line.replace(&place, "")).collect();
    for line in errors.lines().map(shown).chain(warnings.clone()) {
        let _ = writeln!(said, "{line}");
    }
    if code == 0 && warnings.is_empty() {
        let _ = writeln!(said, "ok");
    }
    // The same for programs.
    let (json_code, stdout, stderr) = geodns(&["check", "--json"], &file)?;
    ensure!(
        json_code == code,
        "{name}: {json_code} with --json, {code} without"
    );
    let json: Value =
        serde_json::from_str(&stdout).with_context(|| format!("{name}: {stdout}{stderr}"))?;
    ensure!(stderr.is_empty(), "{name}: {stderr}");
    match code {
        0 => ensure!(json["errors"].is_null(), "{name}: {json}"),
        1 => {
            let all = json["errors"].as_array().context("errors")?;
            ensure!(all.len() == errors.lines().count(), "{name}: {json}");
            for (error, line) in all.iter().zip(errors.lines()) {
                let text = |key: &str| error[key].as_str().unwrap_or_default().replace(&place, "");
                ensure!(line.ends_with(&text("message")), "{name}: {error}, {line}");
                ensure!(line.contains(&text("key")), "{name}: {error}, {line}");
                ensure!(error["file"].is_string(), "{name}: {error}");
                let place = ["line", "column"].map(|key| error[key].as_u64());
                let place = place.iter().flatten().map(|number| format!(":{number}"));
                let place = format!("{}{}: ", text("file"), place.collect::<String>());
                ensure!(line.contains(&place), "{name}: {error}, {line}");
            }
        }
        other => anyhow::bail!("{name}: exit code {other}"),
    }
    Ok(said)
}

/// Where the lines are kept.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes.txt")
}

/// Whether they are written anew.
fn is_written() -> bool {
    std::env::var_os("WRITE_GOLDEN").is_some()
}

fn is_answered_with_where_it_is_and_what_to_write(name: &str, edits: &[Edit]) -> Result<()> {
    let said = said_of(name, edits)?;
    if is_written() {
        return Ok(());
    }
    let golden = fs::read_to_string(golden())?;
    let (_, expected) = golden
        .split_once(&format!("## {name}\n"))
        .with_context(|| format!("mistakes.txt has no {name}"))?;
    let (expected, _) = expected.split_once("## ").unwrap_or((expected, ""));
    ensure!(said == expected, "said:\n{said}expected:\n{expected}");
    Ok(())
}

fn the_file_has_these_mistakes_and_no_others() -> Result<()> {
    if is_written() {
        let mut text = String::new();
        for (name, edits) in MISTAKES {
            let _ = write!(text, "## {name}\n{}", said_of(name, edits)?);
        }
        fs::write(golden(), text)?;
    }
    let golden = fs::read_to_string(golden())?;
    let names: Vec<&str> = golden
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let mistakes: Vec<&str> = MISTAKES.iter().map(|(name, _)| *name).collect();
    ensure!(names == mistakes, "{names:?}\n{mistakes:?}");
    Ok(())
}

fn the_schema_takes_what_check_takes_and_refuses_what_has_another_shape() -> Result<()> {
    let output = Command::new(GEODNS).args(["config", "schema"]).output()?;
    ensure!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout)?;
    let validator = jsonschema::validator_for(&schema)?;
    let valid = |text: &str| -> Result<bool> {
        let json = serde_json::to_value(text.parse::<toml::Table>()?)?;
        Ok(validator.is_valid(&json))
    };
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/geodns.toml");
    let sample = fs::read_to_string(sample)?;
    ensure!(valid(&sample)?, "docs/geodns.toml");
    // Every key that the sample explains is one that the schema knows.
    let wrong_for_editors = [
        "key with a typing error",
        "unknown section",
        "key without its section",
        "string instead of a list",
        "unknown policy",
        "policy with a capital",
        "ttl as a boolean",
        "time as a number",
        "time in words",
        "latitude out of range",
        "location as a list",
        "latitude as a string",
        "check as a URL",
        "rule without mirrors",
        "AS with its letters",
        "port 0",
        "listen as a string",
        "tls as a list",
        "rrl as a list",
        "cookies as a list",
        "server as a list",
        "location as a list in a pool",
        "rules as lists",
        "block as a table",
        "block as lists",
        "rate as a string",
        "all mirrors by their ids",
        "pool in single brackets",
        "pool without id",
        "weight below zero",
        "names without {mirror}",
        "panic in per cent",
        "several at once",
        "several in sections of their own",
        "several in a zone",
        "several in a check",
        "several in a pool whose policy is none",
        "several beside a pool without id",
    ];
    for (name, edits) in MISTAKES {
        let folder = tempfile::tempdir()?;
        let text = fs::read_to_string(write(folder.path(), edits)?)?;
        let text = text.trim_start_matches('\u{feff}');
        let Ok(valid) = valid(text) else {
            // It is no TOML, which editors say by themselves.
            continue;
        };
        ensure!(
            valid != wrong_for_editors.contains(name),
            "{name}: the schema says {valid}"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let test = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || {
            test().map_err(|error| format!("{error:?}").into())
        })
    };
    let mut tests = vec![
        test(
            "the_file_has_these_mistakes_and_no_others",
            the_file_has_these_mistakes_and_no_others,
        ),
        test(
            "the_schema_takes_what_check_takes_and_refuses_what_has_another_shape",
            the_schema_takes_what_check_takes_and_refuses_what_has_another_shape,
        ),
    ];
    tests.extend(MISTAKES.iter().map(|(name, edits)| {
        let title = format!("{name} is answered with where it is and what to write");
        Trial::test(title.replace(' ', "_"), || {
            is_answered_with_where_it_is_and_what_to_write(name, edits)
                .map_err(|error| format!("{error:?}").into())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
