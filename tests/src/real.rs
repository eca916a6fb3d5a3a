//! Worlds with real data: one zone, a steered name, and six mirrors with the real prefix list, or 24 mirrors with the
//! real city databases.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use geodns::config::Config;
use geodns::world::{Inputs, World};
use tempfile::TempDir;

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
    compile(&body(list))
}

/// The same without prefixes, and with a limit of responses that nobody comes to.
pub fn limited() -> Result<World> {
    compile(&format!(
        "[rrl]\nrate = 1000000\nburst = 10000000\n{}",
        body(None)
    ))
}

/// The same, with answers counted by mirror in place of a limit.
pub fn counted() -> Result<World> {
    compile(&format!("[metrics]\n{}", body(None)))
}

fn compile(body: &str) -> Result<World> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("geodns.toml");
    std::fs::write(&path, body)?;
    std::fs::write(folder.path().join("example.org.zone"), EXAMPLE_ZONE)?;
    let inputs = Inputs::of(Config::load(&path)?)?;
    Ok(inputs.compile(&inputs.layers(), 1, [1, 2])?)
}

/// 24 cities with a mirror each: id, latitude, longitude in degrees.
pub const CITIES: [(&str, f64, f64); 24] = [
    ("ams", 52.37, 4.9),
    ("fra", 50.11, 8.68),
    ("lhr", 51.51, -0.13),
    ("mad", 40.42, -3.7),
    ("waw", 52.23, 21.01),
    ("arn", 59.33, 18.07),
    ("iad", 39.04, -77.49),
    ("ord", 41.88, -87.63),
    ("dfw", 32.78, -96.8),
    ("sjc", 37.34, -121.89),
    ("sea", 47.61, -122.33),
    ("mia", 25.76, -80.19),
    ("yyz", 43.65, -79.38),
    ("gru", -23.55, -46.63),
    ("scl", -33.45, -70.67),
    ("jnb", -26.2, 28.05),
    ("nbo", -1.29, 36.82),
    ("dxb", 25.2, 55.27),
    ("bom", 19.08, 72.88),
    ("sin", 1.35, 103.82),
    ("hkg", 22.32, 114.17),
    ("nrt", 35.68, 139.69),
    ("icn", 37.57, 126.98),
    ("syd", -33.87, 151.21),
];

/// A pool of all these cities by distance, with these databases.
pub fn geographic_body(databases: &[PathBuf]) -> String {
    let mut body = format!(
        "[geoip]\ndatabases = {databases:?}\n\
         [[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n"
    );
    for (number, (id, lat, lon)) in CITIES.iter().enumerate() {
        let octet = number + 10;
        let _ = write!(
            body,
            "[[mirror]]\nid = {id:?}\naddresses = [\"192.0.2.{octet}\", \"2001:db8::{octet}\"]\n\
             location = {{ lat = {lat:?}, lon = {lon:?} }}\n"
        );
    }
    let ids = CITIES.map(|(id, ..)| id);
    let _ = write!(
        body,
        "[[pool]]\nid = \"www\"\nmirrors = {ids:?}\npolicy = \"nearest\"\n\
         [[steer]]\nname = {NAME:?}\npool = \"www\"\n"
    );
    body
}

/// The same for a daemon in a namespace, answering on this address.
pub fn geographic_setup(listen: &str, databases: &[PathBuf]) -> Setup {
    Setup::new(&[listen])
        .body(&geographic_body(databases))
        .file("example.org.zone", EXAMPLE_ZONE)
}

/// The same as files: `geodns.toml`, and what it names.
pub fn geographic(databases: &[PathBuf]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let body = geographic_body(databases);
    std::fs::write(folder.path().join("geodns.toml"), body)?;
    std::fs::write(folder.path().join("example.org.zone"), EXAMPLE_ZONE)?;
    Ok(folder)
}
