//! Limits: forms that they take, and the exact line for each that is refused.

use std::path::Path;

use super::super::{Config, Error, Errors, Overrides};

fn read(text: &str) -> Result<Config, Errors> {
    let path = Path::new("etc/g.toml");
    Config::parse(path, text.as_bytes(), &Overrides::default())
}

/// One mirror that takes everybody, and one that does not.
const LIMITED: &str = r#"[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.1"]
[[mirror]]
id = "nl"
addresses = ["192.0.2.2"]
only = { countries = ["nl", "NL"], continents = ["SA"] }
never = { asns = [64500], prefixes = ["192.0.2.128/25"] }
[[pool]]
id = "p"
mirrors = ["ams", "nl"]
policy = "failover"
"#;

#[test]
fn the_limits_of_a_mirror_are_read() {
    let config = read(LIMITED).unwrap();
    let limits = &config.mirrors[1].limits;
    assert_eq!(
        limits.to_string(),
        "only { countries = [\"NL\"], continents = [\"SA\"] }, never { asns = [64500], prefixes = [\"192.0.2.128/25\"] }"
    );
    assert!(config.mirrors[0].limits.are_none());
    assert_eq!(config.pools[0].limited, 0b10);
    // A name of its own leads to a mirror in any case.
    let named = format!("{LIMITED}names = \"{{mirror}}.example.org\"\n");
    let config = read(&named).unwrap();
    assert_eq!((config.pools.len(), config.pools[2].limited), (3, 0));
}

#[test]
fn each_wrong_limit_is_one_clear_line() {
    let help = "choose policy \"nearest\", \"geo\", \"table\", \"failover\" or \"site\" with mirrors, or remove them";
    for (from, to, expected) in [
        (
            "[\"nl\", \"NL\"]",
            "[\"UK\"]",
            "10: mirror.only.countries: no country \"UK\"; write GB".to_owned(),
        ),
        (
            "[\"SA\"]",
            "[\"Europe\"]",
            "10: mirror.only.continents: \"Europe\" is no code of two letters; write one of AF, AN, AS, EU, NA, OC, SA"
                .to_owned(),
        ),
        (
            "[\"SA\"]",
            "[\"XX\"]",
            "10: mirror.only.continents: no continent \"XX\"; there are AF, AN, AS, EU, NA, OC, SA".to_owned(),
        ),
        (
            "[64500]",
            "[0]",
            "11: mirror.never.asns: 0 is out of range; write 1 to 4294967295".to_owned(),
        ),
        (
            "[64500]",
            "[]",
            "11: mirror.never.asns: empty; name some, or remove the key".to_owned(),
        ),
        (
            "{ countries = [\"nl\", \"NL\"], continents = [\"SA\"] }",
            "{}",
            "10: mirror.only: no client meets it; add countries, continents, asns or prefixes, or remove it".to_owned(),
        ),
        (
            "policy = \"failover\"",
            "policy = \"all\"",
            format!("14: pool.mirrors: \"nl\" has only or never, which policy \"all\" does not ask for; {help}"),
        ),
        (
            "policy = \"failover\"",
            "policy = \"weighted\"",
            format!("14: pool.mirrors: \"nl\" has only or never, which policy \"weighted\" does not ask for; {help}"),
        ),
        (
            "policy = \"failover\"",
            "policy = \"failover\"\n[[pool]]\nid = \"q\"\npools = [\"p\"]\npolicy = \"failover\"",
            format!("18: pool.pools: \"nl\" has only or never, which a pool of pools does not ask for; {help}"),
        ),
        (
            "[\"ams\", \"nl\"]",
            "[\"nl\"]",
            "14: pool.mirrors: each mirror has only or never, and other clients would get none; add a mirror without \
             them"
                .to_owned(),
        ),
        (
            "[\"192.0.2.2\"]",
            "[\"2001:db8::2\"]",
            "14: pool.mirrors: each mirror with IPv6 addresses has only or never, and other clients would get none; \
             add such addresses to one that takes every client"
                .to_owned(),
        ),
    ] {
        assert!(LIMITED.contains(from), "{from}");
        let errors = read(&LIMITED.replacen(from, to, 1)).unwrap_err();
        let said = |error: &Error| {
            let (line, key) = (error.line.unwrap(), error.key.as_deref().unwrap());
            format!("{line}: {key}: {}", error.message)
        };
        let errors: Vec<String> = errors.iter().map(said).collect();
        assert_eq!(errors, [expected], "{to}");
    }
}
