//! What the benches serve: one zone, a steered name, six mirrors, and the real prefix list.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use geodns::config::Config;
use geodns::world::{Inputs, World};

use crate::daemon::{EXAMPLE_ZONE, Setup};

/// The steered name.
pub const NAME: &str = "www.example.org";

/// Mirrors of the real prefix list, each with the last octet of its address 192.0.2.N.
pub const MIRRORS: [(&str, u8); 6] = [
    ("iad", 10),
    ("sjc", 11),
    ("ams", 12),
    ("fra", 13),
    ("sin", 14),
    ("nrt", 15),
];

/// Zone, mirrors, a pool with a table and its steered name; with a prefix list, if there is one.
pub fn body(list: Option<&Path>) -> String {
    let mut body = String::from("[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n");
    for (id, octet) in MIRRORS {
        let _ = write!(
            body,
            "[[mirror]]\nid = {id:?}\naddresses = [\"192.0.2.{octet}\", \"2001:db8::{octet}\"]\n"
        );
    }
    let ids = MIRRORS.map(|(id, _)| id);
    let _ = write!(
        body,
        "[[pool]]\nid = \"www\"\nmirrors = {ids:?}\npolicy = \"table\"\ndefault = \"iad\"\n"
    );
    if let Some(list) = list {
        let _ = writeln!(body, "prefixes = {list:?}");
    }
    // A wildcard too: with one, the program has more to do for an absent name, and the verifier for all.
    for name in [NAME, "*.cdn.example.org"] {
        let _ = write!(body, "[[steer]]\nname = {name:?}\npool = \"www\"\n");
    }
    body
}

/// The same for a daemon in a namespace, answering on this address.
pub fn setup(listen: &str) -> Setup {
    Setup::new(&[listen])
        .body(&body(None))
        .file("example.org.zone", EXAMPLE_ZONE)
}

/// The same, compiled.
pub fn compiled(list: Option<&Path>) -> Result<World> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("geodns.toml");
    std::fs::write(&path, body(list))?;
    std::fs::write(folder.path().join("example.org.zone"), EXAMPLE_ZONE)?;
    let inputs = Inputs::of(Config::load(&path)?)?;
    Ok(inputs.compile(&inputs.layers(), 1, [1, 2])?)
}
