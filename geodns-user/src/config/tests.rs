//! The configuration: forms that it takes, and the exact line for each that it refuses.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::event::Kind;

/// A configuration with a bit of everything; the cases below change one thing of it.
const BASE: &str = r#"[server]
listen = ["192.0.2.53", "2001:db8::53"]
port = 53
identity = "ams1"
[kernel]
interfaces = ["eth0"]
mode = "auto"
pin = "/sys/fs/bpf/geodns"
stale_after = "5m"
on_stop = "detach"
[control]
socket = "/run/geodns/control.sock"
[state]
path = "/var/lib/geodns/state.redb"
[[zone]]
name = "Example.ORG"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.11", "2001:db8:1::10", "192.0.2.10"]
[[mirror]]
id = "iad"
addresses = ["198.51.100.10"]
[[pool]]
id = "www"
mirrors = ["ams", "iad"]
policy = "table"
default = "iad"
prefixes = "lists/world.csv"
ttl = 30
answers = 2
[[pool]]
id = "both"
mirrors = ["iad", "ams"]
policy = "all"
[[steer]]
name = "WWW.example.org."
pool = "www"
"#;

fn parse(text: impl AsRef<[u8]>) -> Result<Config, Errors> {
    Config::parse(
        Path::new("etc/g.toml"),
        text.as_ref(),
        &Overrides::default(),
    )
}

/// The keys that are named where there is an unknown one.
fn known(text: &str) -> String {
    let errors = parse(text).unwrap_err();
    let known = |error: &Error| {
        Some(
            error
                .message
                .strip_prefix("unknown key; known: ")?
                .to_owned(),
        )
    };
    errors.iter().find_map(known).unwrap()
}

#[track_caller]
fn check_error(text: impl AsRef<[u8]>, expect: &str) {
    let text = text.as_ref();
    match parse(text) {
        Ok(_) => panic!("no error in {:?}", String::from_utf8_lossy(text)),
        Err(errors) => assert_eq!(errors.without_columns(), expect),
    }
}

#[test]
fn every_key_is_read() {
    let config = parse(BASE).unwrap();
    assert_eq!(config.path, Path::new("etc/g.toml"));
    assert_eq!(
        config.server.listen,
        Some(vec![
            "192.0.2.53".parse().unwrap(),
            "2001:db8::53".parse().unwrap()
        ])
    );
    assert_eq!(config.server.port, 53);
    assert_eq!(config.server.id().as_deref(), Some("ams1"));
    assert_eq!(config.kernel.interfaces, ["eth0"]);
    assert_eq!(config.kernel.mode, Mode::Auto);
    assert_eq!(config.kernel.pin, Path::new("/sys/fs/bpf/geodns"));
    assert_eq!(config.kernel.stale_after, Duration::from_secs(300));
    assert_eq!(config.kernel.on_stop, OnStop::Detach);
    assert_eq!(config.socket, Path::new("/run/geodns/control.sock"));
    assert_eq!(config.state, Path::new("/var/lib/geodns/state.redb"));
    let zone = &config.zones[0];
    assert_eq!(zone.name.to_string(), "example.org");
    assert_eq!(zone.file, Some("etc/example.org.zone".into()));
    assert_eq!(zone.line, 16);
    let ams = &config.mirrors[0];
    assert_eq!(ams.id, "ams");
    assert_eq!(
        ams.v4,
        [[192, 0, 2, 10].into(), [192, 0, 2, 11].into()] as [Ipv4Addr; 2]
    );
    assert_eq!(ams.v6, ["2001:db8:1::10".parse::<Ipv6Addr>().unwrap()]);
    let www = &config.pools[0];
    assert_eq!(
        (www.id.as_str(), www.ttl, www.answers, www.line),
        ("www", 30, 2, 25)
    );
    assert_eq!(www.mirrors, [0, 1]);
    assert_eq!(
        (www.policy, www.default.as_slice()),
        (Policy::Table, &[1, 0][..])
    );
    assert_eq!(www.prefixes, Some("etc/lists/world.csv".into()));
    let both = &config.pools[1];
    assert_eq!((both.ttl, both.answers), (60, 2));
    assert_eq!(both.mirrors, [1, 0]);
    assert_eq!(both.policy, Policy::All);
    let steer = &config.steers[0];
    assert_eq!(steer.name.to_string(), "www.example.org");
    assert_eq!((steer.pool, steer.line), (0, 37));
    assert_eq!(config.mirror_in_pool(1, "ams"), Some(1));
    assert_eq!(config.mirror_in_pool(1, "sin"), None);
    assert_eq!(config.mirror_id(1, 0), "iad");
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "[[zone]]\nname = \"example.org\"\nfile = \"/zones/a\"\n\
                [[mirror]]\nid = \"a\"\naddresses = [\"192.0.2.1\"]\n\
                [[pool]]\nid = \"p\"\nmirrors = [\"a\"]\npolicy = \"table\"\ndefault = \"a\"\n";
    let config = parse(text).unwrap();
    assert_eq!(config.server.listen, None);
    assert_eq!(config.server.port, 53);
    assert_eq!(config.server.identity, Told::Default);
    assert_eq!(config.server.nsid(), config.server.id());
    let version = format!("geodns {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(config.server.version(), Some(version));
    assert!(config.kernel.interfaces.is_empty());
    assert_eq!(config.kernel.mode, Mode::Auto);
    assert!(!config.kernel.required);
    assert_eq!(config.kernel.pin, Path::new("/sys/fs/bpf/geodns"));
    assert_eq!(config.kernel.stale_after, Duration::from_secs(300));
    assert_eq!(config.kernel.on_stop, OnStop::Detach);
    assert_eq!(config.kernel.max_names, 2_000_000);
    assert_eq!(config.kernel.pass_limit, 50_000);
    assert_eq!(config.socket, Path::new("/run/geodns/control.sock"));
    assert_eq!(config.state, Path::new("/var/lib/geodns/state.redb"));
    assert_eq!(config.zones[0].file, Some("/zones/a".into()));
    assert_eq!((config.pools[0].ttl, config.pools[0].answers), (60, 1));
    let pool = &config.pools[0];
    assert_eq!((pool.policy, &pool.prefixes), (Policy::Table, &None));
    assert_eq!((pool.ttl_min, pool.depth, pool.panic), (30, 3, 0.0));
    assert_eq!((pool.choice, pool.fail), (Choice::Client, Fail::Open));
    let mirror = &config.mirrors[0];
    assert_eq!(
        (mirror.weight, mirror.bias, mirror.location),
        (100, 0, None)
    );
}

/// The sample that people begin with is good, as it stands.
#[test]
fn the_short_sample_is_good() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/geodns.toml"));
    let sample = Config::load(path).unwrap();
    let zones = crate::zone::load(&sample, &|_| None).unwrap();
    assert!(zones.find(sample.steers[0].name.for_slice()).is_some());
    crate::geo::load(&sample).unwrap();
    assert_eq!(sample.require_interfaces().unwrap_err().line, None);
}

/// The reference is the documentation: what it shows as defaults are the defaults, and its commented
/// examples are good too.
#[test]
fn a_fleet_has_endpoints() {
    let text = |keys: &str| BASE.replace("[control]", &format!("[fleet]\n{keys}\n[control]"));
    assert_eq!(parse(text("")).unwrap().fleet, None);
    let fleet = |keys: &str| parse(text(keys)).unwrap().fleet.unwrap();
    let least = fleet("name = \"a\"\netcd = [\"http://a\"]");
    assert_eq!(
        (least.ca, least.identity, least.max_stale),
        (None, None, None)
    );
    let all = fleet(
        "name = \"a\"\netcd = [\"https://[2001:db8::1]:23/\", \"http://192.0.2.1\"]\nca = \"ca\"\n\
         certificate = \"c\"\nkey = \"k\"\nmax_stale = \"1h\"",
    );
    let etcd: Vec<String> = all.etcd.iter().map(Endpoint::to_string).collect();
    assert_eq!(etcd, ["https://[2001:db8::1]:23", "http://192.0.2.1:2379"]);
    assert_eq!(all.etcd[0].host, "2001:db8::1");
    assert_eq!(all.ca, Some("etc/ca".into()));
    assert_eq!(all.max_stale, Some(Duration::from_secs(3600)));
    for bad in [
        "",
        "a",
        "https://",
        "ftp://a",
        "http://u@a",
        "http://a/b",
        "http://a:0",
        "http://a:x",
        "http://a?b",
    ] {
        assert_eq!(Endpoint::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_bundle_is_read_with_the_node_s_own_sections() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let bundle = write("bundle/geodns.toml", BASE);
    let node = write(
        "node/geodns.toml",
        "[server]\nidentity = \"n7\"\nlisten = [\"192.0.2.7\"]\n[state]\npath = \"here.redb\"\n[[zone]]\n",
    );
    let overrides = Overrides {
        node: Some(node.clone()),
        ..Overrides::default()
    };
    let config = Config::load_with(&bundle, &overrides).unwrap();
    assert_eq!(config.server.id().as_deref(), Some("n7"));
    assert_eq!(config.state, folder.path().join("node/here.redb"));
    let zone = config.zones[0].file.as_ref().unwrap();
    assert!(zone.starts_with(folder.path().join("bundle")), "{zone:?}");
    // Errors name the file and its line.
    write("node/geodns.toml", "\n[server]\nport = 0\n");
    let error = Config::load_with(&bundle, &overrides)
        .unwrap_err()
        .to_string();
    let begins = format!("{}:3:8: server.port", node.display());
    assert!(error.starts_with(&begins), "{error}");
    write(
        "bundle/geodns.toml",
        &format!("{BASE}\n[quorum]\nleast = 0\n"),
    );
    write("node/geodns.toml", "[server]\n");
    let error = Config::load_with(&bundle, &overrides)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{}:", bundle.display())),
        "{error}"
    );
}

#[test]
fn the_reference_says_the_truth() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/geodns.toml"));
    let sample = Config::load(path).unwrap();
    let text = std::fs::read_to_string(path).unwrap();

    // Without everything that has a default, nothing changes.
    let required = [
        "name",
        "file",
        "id",
        "addresses",
        "mirrors",
        "policy",
        "default",
    ];
    let kept: String = text
        .lines()
        .filter(|line| match line.split_once(" = ") {
            Some((key, _)) => required.contains(&key) || ["pool", "prefixes"].contains(&key),
            None => true,
        })
        .fold(String::new(), |mut kept, line| {
            writeln!(kept, "{line}").unwrap();
            kept
        });
    assert!(kept.lines().count() < text.lines().count());
    let least = Config::parse(path, kept.as_bytes(), &Overrides::default()).unwrap();
    let plain = |config: &Config| {
        let mut config = config.clone();
        config.zones.iter_mut().for_each(|zone| zone.line = 0);
        config.pools.iter_mut().for_each(|pool| pool.line = 0);
        config.steers.iter_mut().for_each(|steer| steer.line = 0);
        // Of the text, not of its meaning.
        config.shared_digest.clear();
        format!("{config:?}")
    };
    assert_eq!(plain(&least), plain(&sample));

    // Every key that exists is in it, in comments or not.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with('[') => rest,
            Some(rest) if !rest.starts_with(' ') && rest.contains(" = ") => rest,
            _ => line,
        })
        .fold(String::new(), |mut all, line| {
            writeln!(all, "{line}").unwrap();
            all
        });
    // One of two ways to name secrets, of files that are not there, and to write dnstap.
    let is_one = |line: &&str| {
        let others = [
            "secret_file",
            "secrets_file",
            "token_file",
            "socket = \"/run/dnstap",
        ];
        !others.iter().any(|other| line.starts_with(other))
    };
    let without = uncommented.lines().filter(is_one);
    let without = without.collect::<Vec<_>>().join("\n");
    let all = Config::parse(path, without.as_bytes(), &Overrides::default()).unwrap();
    assert_eq!(all.server.listen.as_ref().map(Vec::len), Some(2));
    assert_eq!(all.server.id().as_deref(), Some("ams1"));
    let table: toml::Table = uncommented.parse().unwrap();
    for (header, unknown) in [
        ("server", "[server]\nx = 0"),
        ("tls", "[tls]\nx = 0"),
        ("kernel", "[kernel]\nx = 0"),
        ("cookies", "[cookies]\nx = 0"),
        ("rrl", "[rrl]\nx = 0"),
        ("block", "[[block]]\nx = 0"),
        ("notify", "[[notify]]\nx = 0"),
        ("control", "[control]\nx = 0"),
        ("metrics", "[metrics]\nx = 0"),
        ("public", "[public]\nx = 0"),
        ("state", "[state]\nx = 0"),
        ("geoip", "[geoip]\nx = 0"),
        ("health", "[health]\nx = 0"),
        ("quorum", "[quorum]\nx = 0"),
        ("transfer", "[transfer]\nx = 0"),
        ("announce", "[announce]\nx = 0"),
        ("tsig", "[[tsig]]\nx = 0"),
        ("zone", "[[zone]]\nx = 0"),
        ("mirror", "[[mirror]]\nx = 0"),
        ("pool", "[[pool]]\nx = 0"),
        ("steer", "[[steer]]\nx = 0"),
    ] {
        let known = known(unknown);
        let shown = match &table[header] {
            toml::Value::Array(list) => list.as_slice(),
            shown => std::slice::from_ref(shown),
        };
        for key in known.split(", ") {
            assert!(
                shown.iter().any(|table| table.get(key).is_some()),
                "{header}.{key} is not in the reference"
            );
        }
    }

    let known = known("[[zone]]\nname = \"a\"\n[[zone.members]]\nx = 0");
    let zones = table["zone"].as_array().unwrap().iter();
    let members: Vec<_> = zones.filter_map(|zone| zone.get("members")).collect();
    for key in known.split(", ") {
        assert!(members[0][0].get(key).is_some(), "zone.members.{key}");
    }

    // It is the world that it claims to be.
    let zones = crate::zone::load(&sample, &|_| None).unwrap();
    for steer in &sample.steers {
        let (_, zone) = zones.find(steer.name.for_slice()).unwrap();
        assert_eq!(
            zone.node(steer.name.for_slice()).unwrap().steer(),
            Some(steer.pool)
        );
    }
    assert_eq!(sample.require_interfaces().unwrap_err().line, None);
}

/// The commands of `docs/policies.md`.
#[test]
fn the_policies_example_has_a_pool_of_each() {
    let path = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/policies.toml"
    ));
    let config = Config::load(path).unwrap();
    for (name, policy) in Policy::NAMES {
        let mut pools = config.pools.iter();
        assert!(pools.any(|pool| pool.policy == policy), "{name}");
    }
    let zones = crate::zone::load(&config, &|_| None).unwrap();
    assert_eq!(zones.iter().count(), 1);
    crate::geo::load(&config).unwrap();
    assert!(config.require_interfaces().is_ok());
}

#[test]
fn dns_over_tls_is_spoken_where_certificate_and_key_are_named() {
    let tls = |keys: &str| {
        let text = BASE.replace("[control]", &format!("[tls]\n{keys}\n[control]"));
        parse(text).unwrap().tls
    };
    assert_eq!(tls("port = 1853"), None);
    let named = "certificate = \"c.pem\"\nkey = \"/etc/k.pem\"";
    let expected = |port| {
        let files = CertificateFiles {
            certificate: "etc/c.pem".into(),
            key: "/etc/k.pem".into(),
        };
        Some(DnsOverTls { files, port })
    };
    assert_eq!(tls(named), expected(853));
    assert_eq!(tls(&format!("{named}\nport = 1853")), expected(1853));
}

#[test]
fn the_dashboard_is_for_loopback_unless_it_is_safe_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("token_file = {path:?}")
    };
    let good = file("good", "0123456789abcdef\n");
    let short = file("short", "0123456789abcde\n");
    let two = file("two", "0123456789abcdef\n0123456789abcdef\n");
    let web = |keys: &str| {
        let text = BASE.replace("[control]", &format!("[web]\n{keys}\n[control]"));
        parse(text).map(|config| config.web)
    };
    assert_eq!(web("").unwrap(), Web::default());
    let local =
        web("listen = [\"127.0.0.1:8053\", \"[::1]:8053\"]\nhost = [\"Geo.example.\"]").unwrap();
    assert_eq!((local.listen.len(), local.token), (2, None));
    assert_eq!(local.hosts, ["Geo.example"]);
    let anywhere = "listen = [\"[::]:8053\"]";
    let tls = "certificate = \"c.pem\"\nkey = \"k.pem\"";
    for keys in [
        format!("{anywhere}\n{good}\n{tls}"),
        format!("{anywhere}\n{good}\nbehind_proxy = true"),
    ] {
        let web = web(&keys).unwrap();
        let token = web.token.unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF"));
        assert_eq!(format!("{token:?}"), "Token");
    }
    for (keys, complaint) in [
        (
            anywhere.to_owned(),
            "web.listen: [::]:8053 is no loopback address",
        ),
        (format!("{anywhere}\n{tls}"), "name token_file, and"),
        (
            format!("{anywhere}\n{good}"),
            "name certificate and key, or behind_proxy",
        ),
        (
            format!("{anywhere}\n{good}\nbehind_proxy = false"),
            "name certificate and key, or",
        ),
        (
            "listen = [\"127.0.0.1\"]".to_owned(),
            "is not an address with a port",
        ),
        ("listen = [\"127.0.0.1:0\"]".to_owned(), "has port 0"),
        (
            "listen = [\"[::1]:1\", \"[::1]:1\"]".to_owned(),
            "\"[::1]:1\" stands here twice",
        ),
        ("host = [\"https://geo.example\"]".to_owned(), "web.host: "),
        (
            short,
            "web.token_file: its text is not a token of 16 to 1024",
        ),
        (two, "web.token_file: its text is not a token"),
        ("key = \"k.pem\"".to_owned(), "web.certificate: missing"),
    ] {
        let errors = web(&keys).unwrap_err().to_string();
        assert!(errors.contains(complaint), "{keys}: {errors}");
    }
}

#[test]
fn the_command_line_goes_before_the_file() {
    let load = |interfaces: &[&str]| {
        let overrides = Overrides {
            node: None,
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
        };
        Config::parse(Path::new("g.toml"), BASE.as_bytes(), &overrides)
    };
    assert_eq!(load(&[]).unwrap().kernel.interfaces, ["eth0"]);
    assert_eq!(load(&["v0", "v1"]).unwrap().kernel.interfaces, ["v0", "v1"]);
    assert_eq!(
        load(&["v0", "v0"]).unwrap_err().to_string(),
        "g.toml: --iface: \"v0\" stands here twice; remove one"
    );
    assert_eq!(
        load(&["sixteen-letters-"]).unwrap_err().to_string(),
        "g.toml: --iface: \"sixteen-letters-\" is not an interface name; write 1 to 15 characters, as \"eth0\""
    );
}

#[test]
fn interfaces_are_needed_where_something_attaches() {
    let listen = "listen = [\"192.0.2.53\", \"2001:db8::53\"]";
    let without = BASE.replace("\"eth0\"", "");
    let off = without.replace("\"auto\"", "\"off\"");
    let nowhere = off.replace(listen, "");
    for (text, expect) in [
        (BASE, None),
        (&off, None),
        (
            &without,
            Some(
                "etc/g.toml: kernel.interfaces: none to attach to; name one, give --iface, or set kernel.mode to \"off\"",
            ),
        ),
        (
            &nowhere,
            Some(
                "etc/g.toml: kernel.interfaces: none, and no server.listen; name either, or give --iface",
            ),
        ),
    ] {
        let error = parse(text).unwrap().require_interfaces().err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expect);
    }
}

#[test]
fn who_asks_is_told_what_is_written_or_nothing() {
    let told = |lines: &str| {
        let text = BASE.replace("identity = \"ams1\"", lines);
        let server = parse(text).unwrap().server;
        let told = [server.id(), server.nsid(), server.version()];
        told.map(|text| text.unwrap_or_else(|| "-".into()))
    };
    let version = format!("geodns {}", env!("CARGO_PKG_VERSION"));
    let version = version.as_str();
    assert_eq!(told("identity = \"a\""), ["a", "a", version]);
    assert_eq!(told("identity = false"), ["-", "-", version]);
    let nsid = "identity = false\nnsid = \"n\"\nversion = \"v\"";
    assert_eq!(told(nsid), ["-", "n", "v"]);
    let nsid = "identity = \"a\"\nnsid = false\nversion = false";
    assert_eq!(told(nsid), ["a", "-", "-"]);
}

#[test]
fn each_wrong_value_is_one_clear_line() {
    for (from, to, expect) in [
        // Shape.
        (
            "port",
            "prot",
            "3: server.prot: unknown key; did you mean port? known: identity, listen, nsid, port, site, version",
        ),
        (
            "[control]",
            "[contol]",
            "11: contol: unknown section; did you mean control? known: announce, block, control, cookies, dnstap, fleet, geoip, health, kernel, metrics, mirror, notify, pool, public, quorum, rrl, server, state, steer, tls, transfer, tsig, web, zone",
        ),
        (
            "path =",
            "file =",
            "14: state.file: unknown key; known: path",
        ),
        (
            "file = \"example.org.zone\"",
            "",
            "16: zone.file: missing; name the zone file, or primaries to transfer the zone from",
        ),
        (
            "policy = \"all\"",
            "",
            "32: pool.policy: missing; add policy = \"...\"",
        ),
        (
            "port = 53",
            "port = \"53\"",
            "3: server.port: a string; write a whole number without quotes, as 53",
        ),
        (
            "port = 53",
            "port = 53.0",
            "3: server.port: a number with a fraction; write a whole number",
        ),
        (
            "port = 53",
            "port = 99999999999999999999",
            "3: server.port: far out of range; write a smaller number",
        ),
        (
            "\"eth0\"",
            "0",
            "6: kernel.interfaces: a whole number; write a string, in quotes, as \"0\"",
        ),
        (
            "[\"eth0\"]",
            "\"eth0\"",
            "6: kernel.interfaces: a string; write a list, as [\"eth0\"]",
        ),
        (
            "\"5m\"",
            "300",
            "9: kernel.stale_after: 300 has no unit; write one, as \"300s\" (ms, s, m, h or d)",
        ),
        (
            "[[zone]]",
            "[zone]",
            "15: zone: a single table; write its header as [[zone]]",
        ),
        (
            "[control]",
            "[[control]]",
            "11: control: not a table; write it as [control], with a line for each key below it",
        ),
        (
            "port = 53",
            "port = ",
            "3: server.port: not TOML: string values must be quoted, expected literal string; see https://toml.io",
        ),
        (
            "port = 53",
            "port = 53\nport = 54",
            "4: server.port: stands here twice; remove one",
        ),
        // Server.
        (
            "[\"192.0.2.53\", \"2001:db8::53\"]",
            "[]",
            "2: server.listen: empty; name an address, or leave the key out to answer on the interfaces' own addresses",
        ),
        (
            "\"192.0.2.53\"",
            "\n\"192.0.2.256\"",
            "3: server.listen: \"192.0.2.256\" is not an address; write one as \"192.0.2.1\" or \"2001:db8::1\"",
        ),
        (
            "\"192.0.2.53\"",
            "\"0.0.0.0\"",
            "2: server.listen: 0.0.0.0 is the unspecified address; write a host's own address",
        ),
        (
            "\"192.0.2.53\"",
            "\"::\"",
            "2: server.listen: :: is the unspecified address; write a host's own address",
        ),
        (
            "\"192.0.2.53\"",
            "\"ff02::1\"",
            "2: server.listen: ff02::1 is a multicast address; write a host's own address",
        ),
        (
            "\"192.0.2.53\"",
            "\"fe80::1\"",
            "2: server.listen: fe80::1 is link-local, good on one link only; write a host's own address",
        ),
        (
            "\"192.0.2.53\"",
            "\"2001:DB8:0::53\"",
            "2: server.listen: 2001:db8::53 stands here twice; remove one",
        ),
        (
            "port = 53",
            "port = 0",
            "3: server.port: 0 is out of range; write 1 to 65535",
        ),
        (
            "port = 53",
            "port = 65536",
            "3: server.port: 65536 is out of range; write 1 to 65535",
        ),
        (
            "port = 53",
            "port = -1",
            "3: server.port: -1 is out of range; write 1 to 65535",
        ),
        (
            "\"ams1\"",
            "\"\"",
            "4: server.identity: 0 octets; write 1 to 255, or false to tell nobody, or leave the key out",
        ),
        (
            "\"ams1\"",
            "true",
            "4: server.identity: true; write a text in quotes, or false to tell nobody, or leave the key out",
        ),
        (
            "\"ams1\"",
            "7",
            "4: server.identity: a whole number; write a text in quotes, or false",
        ),
        (
            "identity = \"ams1\"",
            "version = []",
            "4: server.version: a list; write a text in quotes, or false",
        ),
        // Kernel.
        (
            "\"eth0\"",
            "\"\"",
            "6: kernel.interfaces: \"\" is not an interface name; write 1 to 15 characters, as \"eth0\"",
        ),
        (
            "\"eth0\"",
            "\"a/b\"",
            "6: kernel.interfaces: \"a/b\" is not an interface name; write 1 to 15 characters, as \"eth0\"",
        ),
        (
            "\"eth0\"",
            "\"eth0\", \"eth0\"",
            "6: kernel.interfaces: \"eth0\" stands here twice; remove one",
        ),
        (
            "\"auto\"",
            "\"skb\"",
            "7: kernel.mode: no such word \"skb\"; write \"auto\" or \"native\" or \"generic\" or \"off\"",
        ),
        (
            "\"/sys/fs/bpf/geodns\"",
            "\"\"",
            "8: kernel.pin: \"\" is not a path; write one",
        ),
        (
            "pin = \"/sys/fs/bpf/geodns\"",
            "pin = \"/sys/fs/bpf/geo.dns\"",
            "8: kernel.pin: \"/sys/fs/bpf/geo.dns\" has a dot, which no name in a bpffs may have; write another name",
        ),
        (
            "\"5m\"",
            "\"5 minutes\"",
            "9: kernel.stale_after: \"5 minutes\" is not a time; write a number and ms, s, m, h or d, as \"5m\"",
        ),
        (
            "\"5m\"",
            "\"500ms\"",
            "9: kernel.stale_after: \"500ms\" is out of range; write \"1s\" to \"365d\"",
        ),
        (
            "\"5m\"",
            "\"366d\"",
            "9: kernel.stale_after: \"366d\" is out of range; write \"1s\" to \"365d\"",
        ),
        (
            "on_stop = \"detach\"",
            "max_names = 0",
            "10: kernel.max_names: 0 is out of range; write 1 to 32000000",
        ),
        (
            "on_stop = \"detach\"",
            "max_names = 32000001",
            "10: kernel.max_names: 32000001 is out of range; write 1 to 32000000",
        ),
        (
            "on_stop = \"detach\"",
            "pass_limit = -1",
            "10: kernel.pass_limit: -1 is out of range; write 0 to 10000000",
        ),
        (
            "\"detach\"",
            "\"leave\"",
            "10: kernel.on_stop: no such word \"leave\"; write \"detach\" or \"keep\" or \"stub\"",
        ),
        // Zones.
        (
            "\"Example.ORG\"",
            "\"example..org\"",
            "16: zone.name: \"example..org\" is not a domain name (empty label); write one, as \"www.example.org\"",
        ),
        (
            "\"Example.ORG\"",
            "\"\"",
            "16: zone.name: an empty name; write one, as \"www.example.org\"",
        ),
        (
            "\"Example.ORG\"",
            "\"ex\u{e4}mple.org\"",
            "16: zone.name: \"ex\u{e4}mple.org\" has letters outside ASCII; write its labels in their \"xn--\" form",
        ),
        (
            "[[mirror]]\nid = \"ams\"",
            "[[zone]]\nname = \"example.org.\"\nfile = \"b\"\n[[mirror]]\nid = \"ams\"",
            "19: zone.name: example.org is already the zone of line 16; remove one",
        ),
        // Mirrors.
        (
            "id = \"iad\"",
            "id = \"ams\"",
            "22: mirror.id: \"ams\" is already the mirror of line 19; rename one\netc/g.toml:26: pool.mirrors: no mirror \"iad\"; there are \"ams\"\netc/g.toml:34: pool.mirrors: no mirror \"iad\"; there are \"ams\"",
        ),
        (
            "id = \"iad\"",
            "id = \"i,ad\"",
            "22: mirror.id: \"i,ad\" is not an id; write 1 to 63 letters, digits, '-', '_' or '.'\netc/g.toml:26: pool.mirrors: no mirror \"iad\"; there are \"ams\", \"i,ad\"\netc/g.toml:34: pool.mirrors: no mirror \"iad\"; there are \"ams\", \"i,ad\"",
        ),
        (
            "[\"198.51.100.10\"]",
            "[]",
            "23: mirror.addresses: mirror \"iad\" has none; give it an IPv4 or IPv6 address",
        ),
        (
            "\"198.51.100.10\"",
            "\"255.255.255.255\"",
            "23: mirror.addresses: 255.255.255.255 is the broadcast address; write a host's own address",
        ),
        (
            "\"198.51.100.10\"",
            "\"::ffff:192.0.2.1\"",
            "23: mirror.addresses: ::ffff:192.0.2.1 is an IPv4 address in IPv6 form; write a host's own address",
        ),
        (
            "\"198.51.100.10\"",
            "\"192.0.2.1\", \"192.0.2.1\"",
            "23: mirror.addresses: 192.0.2.1 stands here twice; remove one",
        ),
        // Pools.
        (
            "id = \"both\"",
            "id = \"www\"",
            "33: pool.id: \"www\" is already the pool of line 25; rename one",
        ),
        (
            "[\"ams\", \"iad\"]",
            "[]",
            "26: pool.mirrors: pool \"www\" has none; name some",
        ),
        (
            "[\"ams\", \"iad\"]",
            "[\"ams\",\n\"fra\"]",
            "27: pool.mirrors: no mirror \"fra\"; there are \"ams\", \"iad\"",
        ),
        (
            "[\"ams\", \"iad\"]",
            "[\"ams\", \"ams\"]",
            "26: pool.mirrors: \"ams\" stands here twice; remove one",
        ),
        (
            "\"198.51.100.10\"",
            "\"192.0.2.10\"",
            "26: pool.mirrors: \"ams\" and \"iad\" both have 192.0.2.10; mirrors of one pool need addresses of their own\netc/g.toml:34: pool.mirrors: \"iad\" and \"ams\" both have 192.0.2.10; mirrors of one pool need addresses of their own",
        ),
        (
            "\"table\"",
            "\"best\"",
            "27: pool.policy: no policy \"best\"; there are \"nearest\", \"geo\", \"table\", \"weighted\", \"failover\", \"site\", \"all\"",
        ),
        (
            "\"table\"",
            "\"all\"",
            "28: pool.default: not used with policy \"all\"; remove it, or set policy to \"table\"\netc/g.toml:29: pool.prefixes: not used with policy \"all\"; remove it, or set policy to \"table\"",
        ),
        (
            "\"table\"\ndefault = \"iad\"",
            "\"all\"",
            "28: pool.prefixes: not used with policy \"all\"; remove it, or set policy to \"table\"",
        ),
        (
            "default = \"iad\"",
            "",
            "27: pool.default: missing; policy \"table\" needs a mirror for clients that are in no prefix; the pool has \"ams\", \"iad\"",
        ),
        (
            "default = \"iad\"",
            "default = \"sin\"",
            "28: pool.default: no mirror \"sin\" in pool \"www\"; the pool has \"ams\", \"iad\"",
        ),
        (
            "ttl = 30",
            "ttl = 2147483648",
            "30: pool.ttl: 2147483648 is out of range; write 0 to 2147483647",
        ),
        (
            "ttl = 30",
            "ttl = -1",
            "30: pool.ttl: -1 is out of range; write 0 to 2147483647",
        ),
        (
            "answers = 2",
            "answers = 0",
            "31: pool.answers: 0 is out of range; write 1 to 2",
        ),
        (
            "answers = 2",
            "answers = 3",
            "31: pool.answers: 3 is out of range; write 1 to 2",
        ),
        // TLS.
        (
            "[control]",
            "[tls]\ncertificate = \"c.pem\"\n[control]",
            "12: tls.key: missing; name the certificate's private key",
        ),
        (
            "[control]",
            "[tls]\nkey = \"k.pem\"\n[control]",
            "12: tls.certificate: missing; name the key's certificate",
        ),
        (
            "[control]",
            "[quorum]\nleast = 1\n[control]",
            "12: quorum.least: 1 is out of range; write 2 to 1000",
        ),
        (
            "[control]",
            "[quorum]\nmax_down = 0\n[control]",
            "12: quorum.max_down: 0 is out of range; write 0.01 to 1",
        ),
        (
            "[control]",
            "[quorum]\nlocal = \"last\"\n[control]",
            "12: quorum.local: no such word \"last\"; write \"ignore\" or \"avoid\"",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = [\"http://a\"]\ntrusted_keys = [\"RWQ\"]\n[control]",
            "14: fleet.trusted_keys: \"RWQ\" is no public key; write the second line of minisign's minisign.pub",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a b\"\netcd = [\"http://a\"]\n[control]",
            "12: fleet.name: \"a b\" is no name; write 1 to 63 letters, digits, '-', '_' or '.'",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\n[control]",
            "12: fleet.etcd: missing; name the endpoints, as [\"https://192.0.2.10:2379\"]",
        ),
        (
            "[control]",
            "[fleet]\netcd = [\"http://a\"]\n[control]",
            "12: fleet.name: missing; give the fleet a name, the same on all nodes",
        ),
        (
            "[control]",
            "[fleet]\nca = \"a.pem\"\n[control]",
            "12: fleet.etcd: missing; there is no fleet without name and etcd",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = []\n[control]",
            "13: fleet.etcd: 0 endpoints; write 1 to 9",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = [\"http://a\", \"10.0.0.1:2379\"]\n[control]",
            "13: fleet.etcd: \"10.0.0.1:2379\" is no endpoint; write one as \"https://192.0.2.10:2379\"",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = [\"http://a\", \"http://a:2379/\"]\n[control]",
            "13: fleet.etcd: http://a:2379 stands here twice; remove one",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = [\"http://a\"]\nkey = \"k.pem\"\n[control]",
            "14: fleet.certificate: missing; name the key's certificate",
        ),
        (
            "[control]",
            "[fleet]\nname = \"a\"\netcd = [\"http://a\"]\ncertificate = \"c.pem\"\n[control]",
            "14: fleet.key: missing; name the certificate's private key",
        ),
        (
            "[control]",
            "[fleet]\nmax_stale = \"1ms\"\n[control]",
            "12: fleet.max_stale: \"1ms\" is out of range; write \"1s\" to \"365d\", or \"0s\" for ever",
        ),
        (
            "[control]",
            "[fleet]\nmax_stale = \"0\"\n[control]",
            "12: fleet.max_stale: \"0\" is not a time; write a number and ms, s, m, h or d, as \"5m\"",
        ),
        (
            "[control]",
            "[tls]\nport = 0\n[control]",
            "12: tls.port: 0 is out of range; write 1 to 65535",
        ),
        (
            "[control]",
            "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\nport = 53\n[control]",
            "14: tls.port: 53 is server.port; write another, as 853",
        ),
        // Steered names.
        (
            "pool = \"www\"",
            "pool = \"web\"",
            "38: steer.pool: no pool \"web\"; there are \"www\", \"both\"",
        ),
        (
            "\"WWW.example.org.\"",
            "\"a.*.example.org\"",
            "37: steer.name: \"a.*.example.org\" has a * that is not its first label: *.example.org would answer for no other name; write * as the first label only",
        ),
        (
            "\"WWW.example.org.\"",
            "\".www\"",
            "37: steer.name: \".www\" is not a domain name (empty label); write one, as \"www.example.org\"",
        ),
        (
            "[[steer]]",
            "[[steer]]\nname = \"www.EXAMPLE.org\"\npool = \"both\"\n[[steer]]",
            "40: steer.name: www.example.org is already steered by line 37; remove one",
        ),
    ] {
        assert!(BASE.contains(from), "{from:?} is not in the base");
        check_error(BASE.replacen(from, to, 1), &format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn what_does_not_fit_is_one_clear_line() {
    check_error(
        "",
        "etc/g.toml: zone: there is none to serve; add a [[zone]] with name and file",
    );
    check_error(
        b"[server]\n# \xff\n",
        "etc/g.toml:2: not UTF-8; save the file as UTF-8",
    );
    let long = format!("/{}", "s".repeat(107));
    check_error(
        BASE.replace("/run/geodns/control.sock", &long),
        &format!(
            "etc/g.toml:12: control.socket: {long} is longer than 107 octets; a Unix socket needs a shorter path"
        ),
    );
    let addresses: Vec<String> = (1..=33)
        .map(|host| format!("\"198.51.100.{host}\""))
        .collect();
    check_error(
        BASE.replace("\"198.51.100.10\"", &addresses.join(", ")),
        "etc/g.toml:23: mirror.addresses: mirror \"iad\" has more than 32 of one family; make it several mirrors",
    );
    let mut many = BASE.to_owned();
    let mut ids = Vec::new();
    for mirror in 0..65 {
        write!(
            many,
            "[[mirror]]\nid = \"m{mirror}\"\naddresses = [\"10.0.0.{mirror}\"]\n"
        )
        .unwrap();
        ids.push(format!("\"m{mirror}\""));
    }
    let pool =
        |ids: &[String]| many.replace("[\"iad\", \"ams\"]", &format!("[{}]", ids.join(", ")));
    check_error(
        pool(&ids),
        "etc/g.toml:34: pool.mirrors: pool \"both\" has 65; at most 64 fit, make it several pools",
    );
    assert_eq!(parse(pool(&ids[..64])).unwrap().pools[1].answers, 64);
    check_error(
        BASE.replace(
            "policy = \"all\"",
            "policy = \"table\"\ndefault = \"ams\"\nanswers = 3",
        ),
        "etc/g.toml:37: pool.answers: 3 is out of range; write 1 to 2",
    );
    let table = "policy = \"table\"\ndefault = \"m0\"\nanswers = 9";
    check_error(
        pool(&ids[..20]).replace("policy = \"all\"", table),
        "etc/g.toml:37: pool.answers: 9 is out of range; write 1 to 8",
    );
    let mut none = BASE.replace("[[mirror]]\nid = \"iad\"", "[[mirror]]\nid = \"x\"");
    none = none.replace("\"ams\", \"iad\"", "\"iad\"");
    check_error(
        none,
        "etc/g.toml:26: pool.mirrors: no mirror \"iad\"; there are \"ams\", \"x\"\netc/g.toml:34: pool.mirrors: no mirror \"iad\"; there are \"ams\", \"x\"",
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    assert_eq!(
        Config::load(&path).unwrap_err().to_string(),
        format!(
            "{}: cannot read: No such file or directory (os error 2); check the path and its permissions",
            path.display()
        )
    );
}

/// A line of the configuration, whole or damaged.
fn line() -> impl Strategy<Value = String> {
    let lines: Vec<String> = BASE.lines().map(str::to_owned).collect();
    prop_oneof![
        8 => proptest::sample::select(lines.clone()),
        1 => (proptest::sample::select(lines), any::<proptest::sample::Index>(), ".{0,3}").prop_map(
            |(mut line, at, insert)| {
                line.insert_str(at.index(line.len()), &insert);
                line
            }
        ),
        1 => "[a-z]{1,8} = [-0-9a-z\"\\[\\]{},.']{0,12}",
        1 => "[\\[\\]a-z.\"]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_panics_and_every_error_is_one_line(lines in proptest::collection::vec(line(), 0..40)) {
        if let Err(errors) = parse(lines.join("\n")) {
            prop_assert!(errors.iter().count() > 0);
            for error in errors.iter() {
                prop_assert_eq!(error.to_string().lines().count(), 1);
                prop_assert!(error.line.is_none_or(|line| line <= lines.len().max(1)));
            }
        }
    }
}

#[test]
fn zones_are_given_and_taken_as_it_says() {
    const KEYS: &str = "[[tsig]]\nname = \"Xfr.\"\nsecret = \"c2hhcmVkIGJ5IHR3byBzZXJ2ZXJz\"\n";
    const FILE: &str = "file = \"example.org.zone\"";
    let with = |zone: &str| format!("{}{KEYS}", BASE.replacen(FILE, zone, 1));
    let config = parse(with(
        "primaries = [\"192.0.2.1\", { address = \"2001:db8::1\", port = 5353 }]\ntsig = \"xfr\"\n\
         allow_transfer = [\"192.0.2.0/24\", \"xfr\"]\nnotify = [\"192.0.2.2\"]\n\
         transfer_steered = \"leave-out\"",
    ))
    .unwrap();
    let zone = &config.zones[0];
    assert_eq!((&zone.file, zone.steered), (&None, Steered::LeaveOut));
    let peers: Vec<String> = zone.primaries.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["192.0.2.1", "2001:db8::1 port 5353"]);
    assert!(
        zone.primaries
            .iter()
            .chain(&zone.notify)
            .all(|peer| peer.key.is_some())
    );
    let net = Allowed::From("192.0.2.0/24".parse().unwrap());
    let key = Allowed::Signed(crate::base::name::parse_name("xfr").unwrap());
    assert_eq!(zone.allow_transfer, [net, key]);
    // Secrets are in no log.
    assert!(!format!("{config:?}").contains("c2hhcm"));

    for (zone, expect) in [
        (
            "file = \"z\"\nprimaries = [\"192.0.2.1\"]",
            "17: zone.file: a zone has a file or primaries, not both; remove one",
        ),
        (
            "primaries = []",
            "17: zone.primaries: 0 servers; name 1 to 64, or leave the key out",
        ),
        (
            "primaries = [1]",
            "17: zone.primaries: a whole number; write a string, in quotes, or a table, as { address = \"192.0.2.1\", port = 53, tsig = \"key\" }",
        ),
        (
            "primaries = [{ port = 53 }]",
            "17: zone.primaries.address: missing; add address = \"...\"",
        ),
        (
            "primaries = [{ address = \"192.0.2.1\", prt = 53 }]",
            "17: zone.primaries.prt: unknown key; did you mean port? known: address, port, tsig",
        ),
        (
            "primaries = [\"192.0.2.1\"]\ntsig = \"other\"",
            "18: zone.tsig: no key \"other\"; there are \"xfr\"",
        ),
        (
            "file = \"z\"\nallow_transfer = [\"192.0.2.1/24\"]",
            "18: zone.allow_transfer: 192.0.2.1/24 has bits set past its length; write 192.0.2.0/24",
        ),
        (
            "file = \"z\"\nallow_transfer = [\"nobody\"]",
            "18: zone.allow_transfer: \"nobody\" is neither an address, nor a prefix, nor a key; there are \"xfr\"",
        ),
    ] {
        check_error(with(zone), &format!("etc/g.toml:{expect}"));
    }
    let key = |rest: &str| format!("[[tsig]]\nname = \"k\"\n{rest}\n{BASE}");
    for (rest, expect) in [
        (
            "",
            "2: tsig.secret: missing; write the secret in base64, or name a secret_file",
        ),
        (
            "secret = \"!\"",
            "3: tsig.secret: not base64; write what `openssl rand -base64 32` gives",
        ),
        (
            "secret = \"c2hvcnQ=\"",
            "3: tsig.secret: 5 octets; write 8 to 1024, in base64",
        ),
        (
            "algorithm = \"hmac-md5\"\nsecret = \"c2hhcmVkIGJ5IHR3byBzZXJ2ZXJz\"",
            "3: tsig.algorithm: no such algorithm \"hmac-md5\"; write \"hmac-sha256\", \"hmac-sha384\", \"hmac-sha512\" or \"hmac-sha1\"",
        ),
    ] {
        check_error(key(rest), &format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn metrics_are_counted_only_with_their_section() {
    let with = |section: &str| format!("[metrics]\n{section}\n{BASE}");
    let metrics = |section: &str| parse(with(section)).unwrap().metrics.unwrap();
    assert_eq!(parse(BASE).unwrap().metrics, None);
    let default = metrics("");
    assert_eq!((default.listen.len(), default.by_zone), (0, false));
    assert_eq!(default.max_series, 10_000);
    let all = metrics("listen = [\"127.0.0.1:9533\", \"[::]:1\"]\nby_zone = true\nmax_series = 1");
    assert_eq!(all.listen.len(), 2);
    assert_eq!((all.by_zone, all.max_series), (true, 1));
    let both = metrics("certificate = \"a.crt\"\nkey = \"a.key\"");
    assert!(both.tls.is_some_and(|tls| tls.key.ends_with("etc/a.key")));
    for (section, message) in [
        (
            "certificate = \"a.crt\"",
            "2: metrics.key: missing; name the certificate's private key",
        ),
        (
            "key = \"a.key\"",
            "2: metrics.certificate: missing; name the key's certificate",
        ),
        (
            "listen = [\"127.0.0.1\"]",
            "2: metrics.listen: \"127.0.0.1\" is not an address with a port; write one as \"127.0.0.1:9533\" or \"[::1]:9533\"",
        ),
        (
            "listen = [\"127.0.0.1:0\"]",
            "2: metrics.listen: \"127.0.0.1:0\" has port 0; write a port from 1 to 65535",
        ),
        (
            "listen = [\"224.0.0.1:9533\"]",
            "2: metrics.listen: \"224.0.0.1:9533\" is a multicast address; write one of this machine's own",
        ),
        (
            "listen = [\"[::1]:9533\", \"[::1]:9533\"]",
            "2: metrics.listen: \"[::1]:9533\" stands here twice; remove one",
        ),
        (
            "max_series = 0",
            "2: metrics.max_series: 0 is out of range; write 1 to 1000000",
        ),
    ] {
        check_error(with(section), &format!("etc/g.toml:{message}"));
    }
}

#[test]
fn the_limit_of_responses_is_what_it_says() {
    let with = |section: &str| format!("[rrl]\n{section}\n{BASE}");
    let rrl = |section: &str| parse(with(section)).unwrap().rrl;
    assert_eq!(parse(BASE).unwrap().rrl, Rrl::default());
    assert_eq!(rrl("rate = 0").rate, 0);
    let set =
        rrl("rate = 500\nslip = 0\ndry_run = true\nallow = [\"192.0.2.0/24\", \"2001:db8::1\"]");
    assert_eq!(
        (set.rate, set.burst, set.slip, set.dry_run),
        (500, 500, 0, true)
    );
    assert_eq!(set.allow.len(), 2);
    assert_eq!(rrl("rate = 500\nburst = 7").burst, 7);
    assert_eq!(set.nocookie_udp_size, 512);
    let size = rrl("rate = 1\nnocookie_udp_size = 1232").nocookie_udp_size;
    assert_eq!(size, 1232);
    for (section, expect) in [
        (
            "rate = -1",
            "2: rrl.rate: -1 is out of range; write 0 to 1000000",
        ),
        (
            "rate = 1\nburst = 0",
            "3: rrl.burst: 0 is out of range; write 1 to 10000000",
        ),
        (
            "slip = 101",
            "2: rrl.slip: 101 is out of range; write 0 to 100",
        ),
        (
            "nocookie_udp_size = 511",
            "2: rrl.nocookie_udp_size: 511 is out of range; write 512 to 1232",
        ),
        (
            "allow = [\"192.0.2.1/24\"]",
            "2: rrl.allow: 192.0.2.1/24 has bits set past its length; write 192.0.2.0/24",
        ),
        (
            "allow = [\"me\"]",
            "2: rrl.allow: \"me\" is not an address prefix; write one, as 192.0.2.0/24 or 2001:db8::/32, or an address",
        ),
        (
            "allow = [\"::/0\"]",
            "2: rrl.allow: ::/0 has all IPv4 addresses in it, mapped; write a longer one, as 2000::/3",
        ),
        (
            "allow = [\"::ffff:192.0.2.0/120\"]",
            "2: rrl.allow: ::ffff:192.0.2.0/120 is of IPv4 addresses, mapped; write 192.0.2.0/24",
        ),
    ] {
        check_error(with(section), &format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn dnstap_goes_to_a_socket_or_a_file() {
    let with = |section: &str| format!("[dnstap]\n{section}\n{BASE}");
    let dnstap = |section: &str| parse(with(section)).unwrap().dnstap.unwrap();
    assert_eq!(parse(BASE).unwrap().dnstap, None);
    let plain = Dnstap {
        to: TapTo::Socket("/run/tap".into()),
        every: 1,
        identity: None,
    };
    assert_eq!(dnstap("socket = \"/run/tap\""), plain);
    assert_eq!(
        dnstap("file = \"tap\"\nmax_size = \"256MiB\"\nevery = 64\nidentity = \"ams1\""),
        Dnstap {
            to: TapTo::File {
                path: "etc/tap".into(),
                max_size: 256 << 20,
            },
            every: 64,
            identity: Some("ams1".to_owned()),
        }
    );
    for (section, expect) in [
        (
            "every = 2",
            "1: dnstap.socket: missing; name the socket that a reader listens on, or a file",
        ),
        (
            "socket = \"a\"\nfile = \"b\"",
            "3: dnstap.file: a socket or a file, not both; remove one",
        ),
        (
            "socket = \"a\"\nmax_size = \"1GiB\"",
            "3: dnstap.max_size: not used without file; remove it, or name a file",
        ),
        (
            "file = \"a\"\nmax_size = \"5MB\"",
            "3: dnstap.max_size: \"5MB\" is no size from 1MiB to 1024GiB; write one, such as \"256MiB\"",
        ),
        (
            "socket = \"a\"\nevery = 3",
            "3: dnstap.every: 3 is no power of two from 1 to 1048576; write one, such as 64",
        ),
    ] {
        check_error(with(section), &format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn an_announcement_is_what_it_says() {
    let with = |section: &str| format!("[announce]\n{section}\n{BASE}");
    let announce = |section: &str| parse(with(section)).unwrap().announce.unwrap();
    assert_eq!(parse(BASE).unwrap().announce, None);
    let s = Duration::from_secs;
    let plain = Announce {
        prefixes: None,
        device: "geodns0".to_owned(),
        table: 254,
        interval: Duration::from_millis(250),
        fall: 3,
        rise: s(10),
        drain: None,
        hold_down: s(30)..=s(900),
        keep: Keep::Nodes(1),
        routing: vec!["/run/bird/bird.ctl".into(), "/run/frr/bgpd.vty".into()],
    };
    assert_eq!(announce(""), plain);
    let defaults = "device = \"geodns0\"\ntable = \"main\"\ninterval = \"250ms\"\nfall = 3\nrise = \"10s\"\n\
                    drain = \"auto\"\nhold_down = \"30s..15m\"\nkeep = 1\n\
                    routing = [\"/run/bird/bird.ctl\", \"/run/frr/bgpd.vty\"]";
    assert_eq!(announce(defaults), plain);
    let set = announce(
        "prefixes = [\"192.0.2.0/24\", \"2001:db8::53\"]\ntable = 53\ndrain = \"1m\"\nkeep = \"50%\"",
    );
    let prefixes = ["192.0.2.0/24", "2001:db8::53/128"].map(|text| text.parse().unwrap());
    assert_eq!(set.prefixes, Some(prefixes.to_vec()));
    assert_eq!((set.table, set.drain), (53, Some(s(60))));
    assert_eq!(set.keep, Keep::Percent(50));
    assert!(announce("routing = []").routing.is_empty());
    for (section, expect) in [
        (
            "prefixes = []",
            "2: announce.prefixes: empty; name a prefix, or leave the key out",
        ),
        (
            "prefixes = [\"198.51.100.0/24\"]",
            "2: announce.prefixes: no address of server.listen is in 198.51.100.0/24; correct it, or add the address there",
        ),
        (
            "prefixes = [\"192.0.2.53\", \"192.0.2.53/32\"]",
            "2: announce.prefixes: 192.0.2.53/32 stands here twice; remove one",
        ),
        (
            "prefixes = [\"192.0.2.1/24\"]",
            "2: announce.prefixes: 192.0.2.1/24 has bits set past its length; write 192.0.2.0/24",
        ),
        (
            "prefixes = [\"0.0.0.0/0\"]",
            "2: announce.prefixes: 0.0.0.0/0 is everybody's default route; write this server's own prefix",
        ),
        (
            "device = \"geodns-anycast-0\"",
            "2: announce.device: \"geodns-anycast-0\" is not an interface name; write 1 to 15 characters, as \"eth0\"",
        ),
        (
            "table = 255",
            "2: announce.table: 255 is the table of the machine's own addresses; write another",
        ),
        (
            "interval = \"10ms\"",
            "2: announce.interval: \"10ms\" is out of range; write \"50ms\" to \"10s\"",
        ),
        (
            "fall = 0",
            "2: announce.fall: 0 is out of range; write 1 to 100",
        ),
        (
            "rise = \"2h\"",
            "2: announce.rise: \"2h\" is out of range; write \"0s\" to \"1h\"",
        ),
        (
            "drain = \"soon\"",
            "2: announce.drain: \"soon\" is not a time; write a number and ms, s, m, h or d, as \"5m\"",
        ),
        (
            "hold_down = \"15m..30s\"",
            "2: announce.hold_down: \"15m..30s\" is not two times, the shorter one first; write them as \"30s..15m\", 1d at the most",
        ),
        (
            "keep = -1",
            "2: announce.keep: -1 is out of range; write 0 to 10000, or a share as \"50%\"",
        ),
        (
            "keep = \"101%\"",
            "2: announce.keep: \"101%\" is not a share; write \"0%\" to \"100%\", or a number",
        ),
        (
            "routing = [\"\"]",
            "2: announce.routing: \"\" is not a path; write one",
        ),
    ] {
        check_error(with(section), &format!("etc/g.toml:{expect}"));
    }
    let anywhere = with("").replace("listen = [\"192.0.2.53\", \"2001:db8::53\"]\n", "");
    check_error(
        anywhere,
        "etc/g.toml:1: announce.prefixes: missing; name prefixes, or anycast addresses in server.listen",
    );
}

#[test]
fn cookies_are_what_it_says() {
    let with = |section: &str| format!("[cookies]\n{section}\n{BASE}");
    let cookies = |section: &str| parse(with(section)).unwrap().cookies;
    const FIRST: &str = "00112233445566778899aabbccddeeff";
    const SECOND: &str = "E5E973E5A6B2A43F48E7DC849E37BFCF";
    let first: [u8; 16] = std::array::from_fn(|octet| 0x11 * octet as u8);
    assert_eq!(parse(BASE).unwrap().cookies, Cookies::Generated);
    assert_eq!(cookies("enabled = true"), Cookies::Generated);
    let one = Cookies::Shared(Secrets::new(first, None));
    assert_eq!(cookies(&format!("secrets = [\"{FIRST}\"]")), one);
    let Cookies::Shared(Secrets([a, b])) =
        cookies(&format!("secrets = [\"{SECOND}\", \"{FIRST}\"]"))
    else {
        panic!("two secrets");
    };
    assert_eq!(Secrets([b, b]), Secrets::new(first, None));
    assert_ne!(a, b);
    let off = format!("enabled = false\nsecrets = [\"{FIRST}\"]");
    assert_eq!(cookies(&off), Cookies::Off);
    // They are in no log.
    assert!(!format!("{one:?}").contains('1'));

    for (section, expect) in [
        (
            "secrets = []",
            "2: cookies.secrets: 0 secrets; write one, or two: the first makes cookies, both are good",
        ),
        (
            "secrets = [\"0011\"]",
            "2: cookies.secrets: not 32 hexadecimal digits; write what `openssl rand -hex 16` gives",
        ),
        (
            "secrets = [\"+0112233445566778899aabbccddeeff\"]",
            "2: cookies.secrets: not 32 hexadecimal digits; write what `openssl rand -hex 16` gives",
        ),
        (
            "secrets_file = \"none\"",
            "2: cookies.secrets_file: cannot read etc/none: No such file or directory (os error 2); check the path and its permissions",
        ),
        (
            "secrets = []\nsecrets_file = \"none\"",
            "3: cookies.secrets_file: secrets or a file with them, not both; remove one",
        ),
        (
            "secret = \"\"",
            "2: cookies.secret: unknown key; did you mean secrets? known: enabled, secrets, secrets_file",
        ),
    ] {
        check_error(with(section), &format!("etc/g.toml:{expect}"));
    }
}

#[test]
fn catalogs_are_what_it_says() {
    const FILE: &str = "file = \"example.org.zone\"";
    let with = |of_zone: &str, more: &str| {
        let key = "[[tsig]]\nname = \"xfr\"\nsecret = \"c2hhcmVkIGJ5IHR3byBzZXJ2ZXJz\"\n";
        format!("{}{more}\n{key}", BASE.replacen(FILE, of_zone, 1))
    };
    let name = |text: &str| crate::base::name::parse_name(text).unwrap();
    let mut config = parse(with(
        "file = \"z\"\nin_catalog = \"Ours\"\ncatalog_group = \"g\"",
        "[[zone]]\nname = \"ours\"\ncatalog = \"producer\"\n\
         [[zone]]\nname = \"theirs\"\ncatalog = \"consumer\"\nprimaries = [\"192.0.2.1\"]\ntsig = \"xfr\"\n\
         [[zone.members]]\ngroup = \"one\"\nprimaries = [\"192.0.2.2\"]\nnotify = [\"192.0.2.3\"]\n\
         [[zone.members]]\ngroup = \"two\"\nallow_transfer = [\"xfr\"]",
    ))
    .unwrap();
    let listing = config.zones[0].listing.as_ref().unwrap();
    assert_eq!(
        (&listing.catalog, listing.group.as_deref()),
        (&name("ours"), Some("g"))
    );
    assert!(config.zones[1].is_producer() && config.zones[2].is_consumer());

    let member = |of: &str, catalog: &str, groups: &[&str]| Member {
        name: name(of),
        catalog: name(catalog),
        id: b"id".to_vec(),
        groups: groups
            .iter()
            .map(|group| group.as_bytes().to_vec())
            .collect(),
    };
    let members = [
        member("a.example", "theirs", &[]),
        member("b.example", "theirs", &["two", "One"]),
        member("c.example", "theirs", &["two", "one"]),
        // Taken, and of no catalog that has members.
        member("example.org", "theirs", &[]),
        member("x.example.org", "theirs", &[]),
        member("org", "theirs", &[]),
        member("d.example", "ours", &[]),
        member("e.example", "gone", &[]),
    ];
    for _ in 0..2 {
        config.set_members(&members);
        assert_eq!(config.members().count(), 3);
    }
    let shown = config.zones[3..].iter().map(|zone| {
        let primaries: Vec<String> = zone.primaries.iter().map(ToString::to_string).collect();
        assert!(zone.primaries.iter().all(|peer| peer.key.is_some()));
        (
            zone.name.to_string(),
            primaries.join(" "),
            zone.allow_transfer.len(),
            zone.notify.len(),
        )
    });
    let expected = [
        ("a.example".to_owned(), "192.0.2.1".to_owned(), 0, 0),
        ("b.example".to_owned(), "192.0.2.1".to_owned(), 1, 0),
        ("c.example".to_owned(), "192.0.2.2".to_owned(), 0, 1),
    ];
    assert!(shown.eq(expected));

    for (of_zone, expect) in [
        (
            "file = \"z\"\ncatalog = \"both\"",
            "18: zone.catalog: no such word \"both\"; write \"consumer\" or \"producer\"",
        ),
        (
            "file = \"z\"\ncatalog = \"producer\"",
            "18: zone.catalog: a producer is generated; remove its file and primaries",
        ),
        (
            "catalog = \"consumer\"",
            "16: zone.file: missing; name the zone file, or primaries to transfer the zone from",
        ),
        (
            "file = \"z\"\ncatalog = \"consumer\"\n[[zone.members]]\ngroup = \"g\"",
            "20: zone.members.primaries: missing; name the servers that members are transferred from",
        ),
        (
            "primaries = [\"192.0.2.1\"]\ncatalog = \"consumer\"\n[[zone.members]]\ngroup = \"\"",
            "20: zone.members.group: 0 octets; write 1 to 255, or leave the key out",
        ),
        (
            "primaries = [\"192.0.2.1\"]\ncatalog = \"consumer\"\n[[zone.members]]\ngroup = \"g\"\n[[zone.members]]\ngroup = \"g\"",
            "22: zone.members: a second one for group \"g\"; remove one",
        ),
        (
            "primaries = [\"192.0.2.1\"]\ncatalog = \"consumer\"\nmembers = 1",
            "19: zone.members: not a list of tables; write each as [[zone.members]], or [{ primaries = [\"192.0.2.1\"] }]",
        ),
        (
            "file = \"z\"\n[[zone.members]]\ngroup = \"g\"",
            "18: zone.members: only with catalog = \"consumer\"; add that, or remove it",
        ),
        (
            "file = \"z\"\ncatalog_group = \"g\"",
            "18: zone.catalog_group: only with in_catalog; add that, or remove it",
        ),
        (
            "file = \"z\"\nin_catalog = \"other\"",
            "18: zone.in_catalog: other is no [[zone]] with catalog = \"producer\"; add one, or correct the name",
        ),
        (
            "primaries = [\"192.0.2.1\"]\ncatalog = \"consumer\"\nin_catalog = \"other\"",
            "18: zone.catalog: a catalog is in no catalog; remove in_catalog",
        ),
    ] {
        check_error(with(of_zone, ""), &format!("etc/g.toml:{expect}"));
    }
    // Nobody is answered from a catalog: no pool can be.
    let config = parse(BASE.replacen(FILE, "catalog = \"producer\"", 1)).unwrap();
    let error = crate::zone::load(&config, &|_| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etc/g.toml:37: steer.name: www.example.org is in the catalog example.org, which the public is not \
         answered from; steer another name"
    );
}

/// The file is good with the members of catalogs and without.
#[test]
fn a_steered_name_is_in_a_zone_of_the_file() {
    let theirs =
        "[[zone]]\nname = \"theirs\"\ncatalog = \"consumer\"\nprimaries = [\"192.0.2.1\"]\n";
    let path = "name = \"WWW.example.org.\"";
    let mut config = parse(format!(
        "{}{theirs}",
        BASE.replacen(path, "name = \"a.example\"", 1)
    ))
    .unwrap();
    config.zones.remove(0);
    config.set_members(&[Member {
        name: crate::base::name::parse_name("a.example").unwrap(),
        catalog: config.zones[0].name.clone(),
        id: Vec::new(),
        groups: Vec::new(),
    }]);
    assert_eq!(config.zones.len(), 2);
    let error = crate::zone::load(&config, &|_| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etc/g.toml:37: steer.name: a.example is outside every zone; add a [[zone]] that holds it"
    );
}

#[test]
fn what_zones_from_elsewhere_may_take_is_what_it_says() {
    let with = |keys: &str| parse(format!("[transfer]\n{keys}\n{BASE}"));
    assert_eq!(parse(BASE).unwrap().transfer, Inward::default());
    let all = "max_zone = \"64KiB\"\nmax_all = \"2GiB\"\nnotify_rate = 1\nnotify_rate_all = 7";
    let expected = Inward {
        max_zone: 64 << 10,
        max_all: 2 << 30,
        notify_rate: 1,
        notify_rate_all: 7,
    };
    assert_eq!(with(all).unwrap().transfer, expected);
    for (keys, said) in [
        (
            "max_zone = \"8GiB\"",
            "2: transfer.max_zone: 8GiB is out of range; write 64KiB to 4GiB",
        ),
        (
            "max_all = \"1 GB\"",
            "2: transfer.max_all: \"1 GB\" is not a size; write a number and KiB, MiB or GiB, as \"256MiB\"",
        ),
        (
            "notify_rate = 0",
            "2: transfer.notify_rate: 0 is out of range; write 1 to 100000",
        ),
    ] {
        let error = with(keys).unwrap_err();
        assert_eq!(error.without_columns(), format!("etc/g.toml:{said}"));
    }
}

#[test]
fn notifications_are_what_it_says() {
    let of = |section: &str| parse(format!("{BASE}\n[[notify]]\n{section}\n"));
    let one = |section: &str| of(section).unwrap().notify.remove(0);
    let all = one("url = \"https://hooks.example.org/T0/B0?x=1\"");
    assert_eq!(
        (all.tls, all.port, all.path.as_str()),
        (true, 443, "/T0/B0?x=1")
    );
    assert_eq!((all.format, all.on.len()), (Format::Json, Kind::ALL.len()));
    // Neither in logs nor in errors.
    assert!(!format!("{all:?}").contains("T0"));
    let alerts =
        one("url = \"http://[2001:db8::1]:9093/api/v2/alerts\"\nformat = \"alertmanager\"");
    assert_eq!(
        (alerts.host.as_str(), alerts.authority().as_str()),
        ("2001:db8::1", "[2001:db8::1]:9093")
    );
    assert!(alerts.on.contains(&Kind::MirrorOut) && !alerts.on.contains(&Kind::Reload));
    let two = one("url = \"http://a.example\"\non = [\"start\", \"stop\"]\nformat = \"slack\"");
    assert_eq!(two.on, [Kind::Start, Kind::Stop]);
    for (section, says) in [
        (
            "url = \"hooks.example.org\"",
            "notify.url: not a URL; write it like https://",
        ),
        ("url = \"ftp://a.example/\"", "notify.url: not a URL"),
        (
            "url = \"https://me:pass@a.example/\"",
            "notify.url: not a URL",
        ),
        ("url = \"http://a.example:0/\"", "notify.url: not a URL"),
        (
            "url = \"http://a.example\"\nformat = \"xml\"",
            "write json, slack or alertmanager",
        ),
        (
            "url = \"http://a.example\"\non = []",
            "notify.on: empty; name a kind",
        ),
        (
            "url = \"http://a.example\"\non = [\"mirror\"]",
            "is no kind of event; write one of start",
        ),
        (
            "url = \"http://a.example\"\nsecret_file = \"none\"",
            "notify.secret_file: cannot read",
        ),
        (
            "url = \"http://a.example\"\nformat = \"alertmanager\"\non = [\"reload\"]",
            "reload is no alert, which begins and ends; write one of mirror_out",
        ),
    ] {
        let errors = of(section).unwrap_err().to_string();
        assert!(errors.contains(says), "{section}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_group_may_be_named_for_the_control_socket() {
    let of = |group: &str| {
        parse(BASE.replace("[control]\n", &format!("[control]\ngroup = {group:?}\n")))
    };
    assert_eq!(of("geodns-ro").unwrap().group.as_deref(), Some("geodns-ro"));
    assert!(
        of("root")
            .unwrap()
            .readers()
            .is_some_and(|group| group.as_raw() == 0)
    );
    assert_eq!(of("no-such-group").unwrap().readers(), None);
    for wrong in ["", "a b", "a/b"] {
        let errors = of(wrong).unwrap_err().to_string();
        assert!(
            errors.contains("control.group: ") && errors.contains("no name of a group"),
            "{errors}"
        );
    }
}
