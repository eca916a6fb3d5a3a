//! All that is wrong is said at once: no mistake hides another, and none is taken for two.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{Config, Errors, Overrides};

const BASE: &str = r#"[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
"#;

/// Sections of which each line is wrong, but for those that say `# ok`. One with a number is wrong N times.
const SECTIONS: &[&str] = &[
    r#"[server]
listen = ["192.0.2.1:53", "x"] # 2
port = 0
identity = ""
nsid = true
version = ""
site = "lon"
"#,
    r#"[tls]
certificate = ""
key = ""
port = 0
"#,
    r#"[kernel]
interfaces = ["a b", ""] # 2
mode = "x"
pin = ""
stale_after = "0s"
on_stop = "x"
max_names = 0
pass_limit = -1
"#,
    r#"[cookies]
enabled = true # ok
secrets = ["abc", "abd", "0123456789abcdef0123456789abcdef"] # 3
"#,
    r#"[rrl]
rate = -1
burst = 0
slip = 101
nocookie_udp_size = 1
allow = ["x", "y"] # 2
"#,
    r#"[[block]]
name = "a..b"
type = "NONE!"
from = ["x", "y"] # 2
note = "\u0007"
[[block]]
below = "a..b"
type = "TYPE0"
"#,
    "[control]\nsocket = \"\"\n",
    "[state]\npath = \"\"\n",
    "[geoip]\ndatabases = [\"\"]\n",
    "[health]\nfeed = \"\"\n",
    r#"[transfer]
max_zone = "x"
max_all = "1KiB"
notify_rate = 0
notify_rate_all = 1000000
"#,
    r#"[[tsig]]
name = "a b"
algorithm = "md5"
secret = "***"
[[tsig]]
name = "k" # ok
algorithm = "md5"
secret = "Yg=="
"#,
    r#"[[zone]]
name = "a b"
file = ""
allow_transfer = ["mykey", "::ffff:127.0.0.0/104"] # 2
notify = ["x", "0.0.0.0"] # 2
tsig = "nokey"
transfer_steered = "x"
in_catalog = "a b"
catalog_group = ""
"#,
    r#"[[zone]]
name = "example.net" # ok
primaries = ["x", { address = "y", port = 0, tsig = "nokey" }, { address = "192.0.2.1", port = 70000 }] # 5
catalog = "x"
"#,
    r#"[[zone]]
name = "catalog.test" # ok
file = "catalog.zone" # ok
catalog = "consumer" # ok
[[zone.members]]
group = ""
primaries = ["x", "y"] # 2
allow_transfer = ["nokey"]
notify = ["x"]
tsig = "nokey"
[[zone.members]]
group = "one" # ok
primaries = ["x"]
"#,
    r#"[[zone]]
name = "example.test" # ok
file = ""
in_catalog = "nowhere"
[[zone]]
name = "example.com" # ok
file = ""
in_catalog = "nowhere"
"#,
    r#"[[mirror]]
id = "a b"
addresses = ["x", "y"] # 2
weight = -1
bias = 100
[mirror.location]
lat = 91.0
lon = 181.0
[mirror.check]
type = "http" # ok
port = 0
path = "x"
host = "-"
status = [1, "9xx"] # 2
body = ""
interval = "0s"
timeout = "0s"
rise = 0
fall = 0
ok = 0
jitter = 1.0
"#,
    r#"[[mirror]]
id = "b" # ok
addresses = ["192.0.2.11"] # ok
[mirror.check]
type = "icmp" # ok
port = 80
path = "/"
command = ["x"]
[[mirror]]
id = "c" # ok
cname = "192.0.2.1"
weight = -1
"#,
    r#"[[pool]]
id = "a b"
mirrors = ["ams"] # ok
policy = "table" # ok
default = ["x", "y"] # 2
prefixes = ""
ttl = -1
ttl_min = "x"
answers = 0
depth = 9
fail = "x"
panic = 2.0
names = "x"
"#,
    r#"[[pool]]
id = "w" # ok
mirrors = ["ams"] # ok
policy = "weighted" # ok
default = "ams"
choice = "x"
ttl_min = 61
"#,
    r#"[[pool]]
id = "g" # ok
mirrors = ["lon", "par"] # 2
policy = "x"
ttl = -1
fail = "x"
[[pool.rules]]
continent = "XX"
mirrors = ["ams"] # ok
[[pool.rules]]
country = "UK"
city = ""
subdivision = ""
mirrors = []
[[pool.rules]]
asn = 0
mirrors = ["ams"] # ok
[[pool.rules]]
prefix = "x"
city = "x"
mirrors = ["ams"] # ok
"#,
    r#"[[pool]]
id = "n" # ok
pools = ["x", "y"] # 2
policy = "nearest" # ok
ttl = -1
[[pool]]
id = "f" # ok
mirrors = ["ams"] # ok
policy = "failover" # ok
fail = "fallback" # ok
fallback = "x"
"#,
    r#"[[steer]]
name = "a..b"
pool = "nope"
[[steer]]
name = "b..c"
pool = "nope"
"#,
];

fn errors(text: &str) -> Errors {
    match Config::parse(Path::new("g.toml"), text.as_bytes(), &Overrides::default()) {
        Ok(_) => panic!("no error in {text}"),
        Err(errors) => errors,
    }
}

/// How often each line and key is complained of.
fn said(text: &str) -> BTreeMap<(usize, String), usize> {
    let errors = errors(text);
    assert_eq!(errors.more(), 0, "{text}");
    let mut said = BTreeMap::new();
    for error in errors.iter() {
        let key = error.key.clone().unwrap_or_default();
        let at = (error.line.unwrap_or_default(), key);
        *said.entry(at).or_default() += 1;
    }
    said
}

/// How often each line and key of a text is to be complained of.
fn wrong(text: &str) -> BTreeMap<(usize, String), usize> {
    let mut wrong = BTreeMap::new();
    let mut section = "";
    for (line, number) in text.lines().zip(1..) {
        let (line, note) = line.split_once(" # ").unwrap_or((line, "1"));
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if let Some((key, _)) = line.split_once(" = ")
            && number > BASE.lines().count()
            && note != "ok"
        {
            let at = (number, format!("{section}.{key}"));
            wrong.insert(at, note.parse().unwrap());
        }
    }
    wrong
}

#[test]
fn each_mistake_of_a_section_is_said() {
    for section in SECTIONS {
        let text = format!("{BASE}{section}");
        assert_eq!(said(&text), wrong(&text), "{text}\n{}", errors(&text));
    }
}

/// A key that nobody knows, before all others of the section.
#[test]
fn a_key_that_is_taken_out_hides_no_value() {
    for section in SECTIONS {
        let (header, rest) = section.split_once('\n').unwrap();
        let text = format!("{BASE}{header}\nnonsense = 1\n{rest}");
        let mut said = said(&text);
        // Whether keys go together cannot be known then.
        said.retain(|(_, key), _| !key.ends_with(".nonsense"));
        let mut wrong = wrong(&text);
        wrong.retain(|at, _| !at.1.ends_with(".nonsense"));
        let hidden = [
            "mirror.check.command",
            "mirror.check.path",
            "pool.default",
            "pool.rules.city",
            "pool.ttl_min",
        ];
        wrong.retain(|at, _| said.contains_key(at) || !hidden.contains(&at.1.as_str()));
        assert_eq!(said, wrong, "{text}\n{}", errors(&text));
    }
}

/// Two broken sections complain of the same as each of them does alone.
#[test]
fn no_section_hides_another() {
    for (number, first) in SECTIONS.iter().enumerate() {
        for second in &SECTIONS[number + 1..] {
            let text = format!("{BASE}{first}{second}");
            assert_eq!(said(&text), wrong(&text), "{text}\n{}", errors(&text));
        }
    }
}

/// A section that has not the shape of one is left out: whoever names it is not blamed, all others are.
#[test]
fn a_section_that_is_taken_out_is_missed_by_nobody() {
    let text = format!(
        "{BASE}[rrl]\nslip = 101\n[[pool]]\nmirrors = [\"ams\"]\npolicy = \"all\"\n\
         [[pool]]\nid = \"p\"\npools = [\"lost\"]\npolicy = \"table\"\nttl = -1\n\
         [[steer]]\nname = \"a..b\"\npool = \"lost\"\n"
    );
    let said: Vec<_> = said(&text).into_keys().map(|(_, key)| key).collect();
    assert_eq!(said, ["rrl.slip", "pool.id", "pool.ttl", "steer.name"]);
    let text = "zone = 1\n[rrl]\nslip = 101\n";
    let said: Vec<_> = self::said(text).into_keys().map(|(_, key)| key).collect();
    assert_eq!(said, ["zone", "rrl.slip"]);
}

#[test]
fn an_error_is_where_the_value_is() {
    let text = format!("{BASE}[rrl]\nallow = [ \"\u{e9}\", \"x\" ]\n[server]\n  port = 0\n");
    let said: Vec<String> = errors(&text).iter().map(ToString::to_string).collect();
    let places: Vec<&str> = said
        .iter()
        .filter_map(|said| said.split(": ").next())
        .collect();
    assert_eq!(places, ["g.toml:8:11", "g.toml:8:16", "g.toml:10:10"]);
}
