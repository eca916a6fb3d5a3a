//! Every place that asks for a prefix takes and refuses the same ones, in the same words.

use std::fs;
use std::path::Path;

use super::*;
use crate::cli::values;
use crate::config::Config;
use crate::control::block::BlockAdd;
use crate::control::map::{MapDel, MapSet};
use crate::geo::Layer;

/// A text, and the prefix that it is, or the complaint.
const WRITTEN: &[(&str, Result<&str, &str>)] = &[
    ("192.0.2.0/24", Ok("192.0.2.0/24")),
    ("192.0.2.1/32", Ok("192.0.2.1/32")),
    ("192.0.2.1", Ok("192.0.2.1/32")),
    ("2001:DB8::/32", Ok("2001:db8::/32")),
    ("2001:db8::1", Ok("2001:db8::1/128")),
    ("2000::/3", Ok("2000::/3")),
    ("64:ff9b::192.0.2.0/120", Ok("64:ff9b::c000:200/120")),
    (
        "192.0.2.1/24",
        Err("192.0.2.1/24 has bits set past its length; write 192.0.2.0/24"),
    ),
    (
        "2001:db8::1/32",
        Err("2001:db8::1/32 has bits set past its length; write 2001:db8::/32"),
    ),
    (
        "::ffff:127.0.0.0/104",
        Err("::ffff:127.0.0.0/104 is of IPv4 addresses, mapped; write 127.0.0.0/8"),
    ),
    (
        "::ffff:127.0.0.1/104",
        Err("::ffff:127.0.0.1/104 is of IPv4 addresses, mapped; write 127.0.0.0/8"),
    ),
    (
        "::ffff:0:0/96",
        Err("::ffff:0.0.0.0/96 is of IPv4 addresses, mapped; write 0.0.0.0/0"),
    ),
    (
        "::ffff:192.0.2.1",
        Err("::ffff:192.0.2.1 is of IPv4 addresses, mapped; write 192.0.2.1"),
    ),
    ("010.0.0.0/8", Err(NOT_ONE)),
    ("10.0.0.0/08", Err(NOT_ONE)),
    ("10.0.0.0/33", Err(NOT_ONE)),
    ("10.0.0.0/-1", Err(NOT_ONE)),
    ("10.0.0.0/+8", Err(NOT_ONE)),
    ("10.0.0.0/", Err(NOT_ONE)),
    ("10/8", Err(NOT_ONE)),
    ("10.0.0/24", Err(NOT_ONE)),
    ("2001:db8::/129", Err(NOT_ONE)),
    ("10.0.0.0/255.0.0.0", Err(NOT_ONE)),
    ("fe80::1%eth0", Err(NOT_ONE)),
    ("/8", Err(NOT_ONE)),
];

/// In place of the sentence that begins with the text itself.
const NOT_ONE: &str = "";

/// Somewhere that prefixes are written, and what comes of it there.
type Place = (&'static str, fn(&str) -> Result<IpNet, String>);

const PLACES: &[Place] = &[
    ("a rule of a pool", |text| {
        let config = load(
            "policy = \"geo\"",
            &format!("rules = [{{ prefix = \"{text}\", mirrors = [\"ams\"] }}]"),
            "",
        )?;
        let first = config.pools[0].prefix_rules().next();
        Ok(first.unwrap().0)
    }),
    ("a prefix list", |text| {
        let list = format!("{text},ams\n");
        let layer = Layer::parse(&list, Path::new("list.csv"), None, |_| Ok(Some(0)));
        let layer = layer.map_err(|errors| {
            errors
                .iter()
                .map(|error| error.message.clone())
                .collect::<String>()
        })?;
        Ok(layer.iter().next().unwrap().0)
    }),
    ("allow_transfer", |text| {
        let config = load(
            "policy = \"all\"",
            "",
            &format!("allow_transfer = [\"{text}\"]"),
        )?;
        match &config.zones[0].allow_transfer[..] {
            [crate::config::Allowed::From(prefix)] => Ok(*prefix),
            other => panic!("{other:?}"),
        }
    }),
    ("rrl.allow", |text| {
        let section = format!("[rrl]\nallow = [\"{text}\"]");
        Ok(load("policy = \"all\"", "", &section)?.rrl.allow[0])
    }),
    ("block.from", |text| {
        let section = format!("[[block]]\nfrom = [\"{text}\"]");
        Ok(load("policy = \"all\"", "", &section)?.blocks[0]
            .rule
            .from
            .unwrap())
    }),
    ("the command line", values::prefix),
    ("PUT /v1/map", |text| {
        let json = serde_json::json!({ "prefix": text, "mirror": "ams" });
        let set: Result<MapSet, _> = serde_json::from_value(json);
        check(set.map_err(|error| error.to_string())?.prefix)
    }),
    ("DELETE /v1/map", |text| {
        let query = serde_urlencoded::to_string([("prefix", text)]).unwrap();
        let del: Result<MapDel, _> = serde_urlencoded::from_str(&query);
        check(del.map_err(|error| error.to_string())?.prefix)
    }),
    ("PUT /v1/blocks", |text| {
        let json = serde_json::json!({ "from": [text] });
        let add: Result<BlockAdd, _> = serde_json::from_value(json);
        check(add.map_err(|error| error.to_string())?.from[0])
    }),
];

/// A configuration with a policy, a line more in its pool, and one in its zone or a section behind that.
fn load(policy: &str, pool: &str, zone: &str) -> Result<Config, String> {
    let default = if policy.contains("geo") {
        "default = \"ams\""
    } else {
        ""
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    let text = format!(
        "[[mirror]]\nid = \"ams\"\naddresses = [\"192.0.2.10\"]\n[[pool]]\nid = \"www\"\n\
         mirrors = [\"ams\"]\n{policy}\n{default}\n{pool}\n[[zone]]\nname = \"example.org\"\n\
         file = \"z\"\n{zone}\n"
    );
    fs::write(&file, text).unwrap();
    Config::load(&file).map_err(|errors| errors.iter().next().unwrap().message.clone())
}

#[test]
fn every_place_judges_prefixes_alike() {
    for &(text, expected) in WRITTEN {
        for &(place, judge) in PLACES {
            let judged = judge(text);
            match expected {
                Ok(prefix) => {
                    let expected = Ok(prefix.parse().unwrap());
                    assert_eq!(judged, expected, "{place}: {text}");
                }
                // What is no prefix may be the name of a key there.
                Err(NOT_ONE) if place == "allow_transfer" => {
                    judged.expect_err("no key has such a name");
                }
                Err(NOT_ONE) => assert_eq!(judged, Err(not_one(text)), "{place}: {text}"),
                Err(message) => assert_eq!(judged, Err(message.into()), "{place}: {text}"),
            }
        }
    }
}

#[test]
fn a_client_subnet_may_be_of_mapped_addresses() {
    let mapped: IpNet = "::ffff:192.0.2.0/120".parse().unwrap();
    assert_eq!(check_host_bits(mapped), Ok(mapped));
    assert!(check_host_bits("192.0.2.1/24".parse().unwrap()).is_err());
}
