//! The real city databases and 24 mirrors by distance: every client gets the order of its place, and
//! every scope is the largest that is all one region; also while overrides come and go. And every country that
//! a real database has is one that rules may name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use geodns::base::country::Code;
use geodns::config::Config;
use geodns::geo::{PlaceId, Prefix, SIX_TO_FOUR, TEREDO};
use geodns::plan::Plan;
use geodns::steering::{Steering, Whereabouts};
use geodns::world::{Inputs, World};
use geodns_common::abi::{Family, Order};
use geodns_common::tables::{self, Tables};
use geodns_tests::real;
use ipnet::IpNet;
use maxminddb::{Reader, WithinOptions, path};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Members of a region.
const DEPTH: usize = 3;

/// The table's content, derived from the databases alone.
struct Truth {
    /// By family: where runs of one order begin.
    runs: [Vec<(u128, Order)>; 2],
    overrides: BTreeMap<IpNet, u8>,
}

impl Truth {
    fn of(inputs: &Inputs) -> Self {
        let config = &inputs.config;
        let steering = Steering::of(&config.pools[0], &config.mirrors);
        let mut orders: HashMap<PlaceId, Order> = HashMap::new();
        let runs = [Family::V4, Family::V6].map(|family| {
            let window = Prefix::everything(family);
            let mut cursor = inputs.geography.walk(window, steering.wanted());
            let mut runs: Vec<(u128, Order)> = Vec::new();
            let mut next = Some(0);
            while let Some(first) = next {
                let (place, last) = cursor.seek(first);
                let order = *orders.entry(place).or_insert_with(|| {
                    let place = Whereabouts::of(&inputs.geography.place(place));
                    steering.order(&place.place(), &[], None)
                });
                if runs.last().is_none_or(|(_, before)| *before != order) {
                    runs.push((first, order));
                }
                next = last.checked_add(1);
            }
            runs
        });
        Self {
            runs,
            overrides: BTreeMap::new(),
        }
    }

    fn order(&self, family: Family, address: u128) -> Order {
        let runs = &self.runs[family.index()];
        let (_, order) = runs[runs.partition_point(|(first, _)| *first <= address) - 1];
        let host = host(family, address);
        let covering = self
            .overrides
            .iter()
            .filter(|(net, _)| Prefix::of(**net).covers(&host));
        let Some((_, &first)) = covering.max_by_key(|(net, _)| net.prefix_len()) else {
            return order;
        };
        let rest = order.iter().filter(|member| *member != first);
        Order::pack(std::iter::once(first).chain(rest).take(DEPTH))
    }

    /// Whether the /64 of an address is more than one region.
    fn is_deep(&self, host: Prefix) -> bool {
        !self.is_one(host.around(64))
    }

    /// Whether all of a prefix has one order.
    fn is_one(&self, prefix: Prefix) -> bool {
        let order = self.order(prefix.family, prefix.first);
        let inside = |at: &u128| prefix.first < *at && *at <= prefix.last();
        let ends = self.overrides.keys().map(|net| Prefix::of(*net));
        let ends = ends.filter(|net| net.family == prefix.family);
        let mut ends = ends
            .flat_map(|net| [Some(net.first), net.last().checked_add(1)])
            .flatten();
        let runs = &self.runs[prefix.family.index()];
        let from = runs.partition_point(|(first, _)| *first <= prefix.first);
        let mut starts = runs[from..]
            .iter()
            .map(|(first, _)| *first)
            .take_while(inside);
        let same = |at: u128| !inside(&at) || self.order(prefix.family, at) == order;
        starts.all(same) && ends.all(same)
    }

    /// Order and scope of an address are what they must be, in the table, or where the slow path ends it.
    /// Gives the region; `None` for one that stands for an IPv4 address.
    fn check(&self, plan: &Plan, family: Family, address: u128) -> Result<Option<Prefix>> {
        let host = host(family, address);
        let embedded = [SIX_TO_FOUR, TEREDO].map(|net| Prefix::of(net.into()));
        if family == Family::V6 && embedded.iter().any(|net| net.covers(&host)) {
            return Ok(None);
        }
        let selection = plan.select(0, Family::V4, host.net().addr());
        let scope = selection.scope;
        let region = host.around(scope);
        let what = || format!("{}/{scope}", host.net().addr());
        let wanted = self.order(family, address);
        let first = Order::pack(selection.mirrors.iter().copied()).get(0);
        ensure!(
            first == wanted.get(0),
            "{}: {first}, not {wanted:?}",
            what()
        );
        let pool = plan.pool(0).context("a pool")?;
        let found = tables::find_order(plan, pool, Family::V4, family, &host.address());
        ensure!(
            found.is_none_or(|found| found == (wanted, scope)),
            "{}: {found:?}, not {wanted:?}",
            what()
        );
        ensure!(
            found.is_some() || (family == Family::V6 && self.is_deep(host)),
            "{} is not in the table",
            what()
        );
        ensure!(self.is_one(region), "{} is not all one", what());
        if scope > 0 {
            let larger = host.around(scope - 1);
            // Blocks that stand for IPv4 addresses are no region.
            let meets = |net: &Prefix| family == Family::V6 && larger.covers(net);
            ensure!(
                embedded.iter().any(meets) || !self.is_one(larger),
                "{} could be larger",
                what()
            );
        }
        Ok(Some(region))
    }
}

/// One address.
fn host(family: Family, address: u128) -> Prefix {
    let len = match family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    Prefix {
        family,
        first: address,
        len,
    }
}

/// The world of the databases, if they are here; a test that wants it says so if not.
fn compiled(test: &str) -> Result<Option<(Inputs, World)>> {
    let Some(databases) = geodns_tests::real_databases() else {
        geodns_tests::skipped(test, "no data; run `cargo xtask data`");
        return Ok(None);
    };
    let folder = real::geographic(&databases)?;
    let inputs = Inputs::of(Config::load(&folder.path().join("geodns.toml"))?)?;
    let world = inputs.compile(&inputs.layers(), 1, [1, 2])?;
    Ok(Some((inputs, world)))
}

/// A random address; of IPv6, one of what is in use.
fn random(random: &mut SmallRng, family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(random.random::<u32>()) << 96,
        Family::V6 => {
            // Most of what is assigned is in 2a00::/11 and a few /16 beside.
            let first: u128 =
                [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00][random.random_range(0..6)];
            let low: u128 = random.random::<u128>() >> 12;
            (first << 112 | low) & !(u128::MAX >> 64)
        }
    }
}

/// Addresses of a family at and beside a truth's boundaries, within a prefix.
fn boundaries(truth: &Truth, within: Prefix) -> Vec<u128> {
    let runs = &truth.runs[within.family.index()];
    let from = runs.partition_point(|(first, _)| *first < within.first);
    let inside = runs[from..]
        .iter()
        .take_while(|(first, _)| *first <= within.last());
    inside
        .flat_map(|(first, _)| [Some(*first), first.checked_sub(1)])
        .flatten()
        .collect()
}

#[test]
fn scopes_are_one_region_and_as_large_as_can_be_while_overrides_come_and_go() -> Result<()> {
    let Some((inputs, world)) =
        compiled("scopes_are_one_region_and_as_large_as_can_be_while_overrides_come_and_go")?
    else {
        return Ok(());
    };
    let mut truth = Truth::of(&inputs);
    let mut plan = world.plan.write().expect("not poisoned");
    let mut source = SmallRng::seed_from_u64(3);
    let families = [Family::V4, Family::V6];
    println!("{:?} runs", truth.runs.each_ref().map(Vec::len));

    let mut scopes: BTreeMap<u8, u32> = BTreeMap::new();
    for family in families {
        for _ in 0..100_000 {
            if let Some(region) = truth.check(&plan, family, random(&mut source, family))? {
                *scopes.entry(region.len).or_default() += 1;
            }
        }
    }
    println!("scopes: {scopes:?}");
    for net in ["23.0.0.0/8", "81.0.0.0/8", "2a02::/16", "2402::/20"] {
        let within = Prefix::of(net.parse()?);
        let points = boundaries(&truth, within);
        ensure!(
            points.len() > 500,
            "{net}: {} boundaries only",
            points.len()
        );
        for at in points {
            truth.check(&plan, within.family, at)?;
        }
    }

    // Overrides of whatever lengths, around addresses of both families; then away again.
    let mut set: Vec<IpNet> = Vec::new();
    let mut edit =
        |truth: &mut Truth, plan: &mut Plan, net: IpNet, mirror: Option<u8>| -> Result<()> {
            match mirror {
                Some(mirror) => truth.overrides.insert(net, mirror),
                None => truth.overrides.remove(&net),
            };
            plan.set_override(0, net, mirror)?;
            plan.reclaim();
            let edited = Prefix::of(net);
            let beside = [
                Some(edited.first),
                Some(edited.last()),
                edited.first.checked_sub(1),
                edited.last().checked_add(1),
            ];
            for at in beside.into_iter().flatten() {
                truth.check(plan, edited.family, at)?;
            }
            let size = u128::MAX >> edited.len;
            for _ in 0..20 {
                truth.check(
                    plan,
                    edited.family,
                    edited.first | source.random::<u128>() & size,
                )?;
                let family = families[usize::from(source.random::<bool>())];
                truth.check(plan, family, random(&mut source, family))?;
            }
            Ok(())
        };
    let mut chosen = SmallRng::seed_from_u64(4);
    for number in 0..200 {
        let family = families[number % 2];
        let len = match family {
            Family::V4 => chosen.random_range(10..=32),
            Family::V6 => chosen.random_range(24..=64),
        };
        let net = host(family, random(&mut chosen, family)).around(len).net();
        edit(&mut truth, &mut plan, net, Some(chosen.random_range(0..24)))?;
        set.push(net);
    }
    while let Some(net) = set.pop() {
        if truth.overrides.contains_key(&net) {
            edit(&mut truth, &mut plan, net, None)?;
        }
    }
    let fresh = inputs.compile(&inputs.layers(), 1, [1, 2])?;
    let fresh = fresh.plan.read().expect("not poisoned");
    ensure!(
        plan.capacity().blocks == fresh.capacity().blocks,
        "not as it was"
    );
    let address: IpAddr = "81.2.69.142".parse()?;
    ensure!(plan.select(0, Family::V4, address) == fresh.select(0, Family::V4, address));
    Ok(())
}

/// The first table of `docs/policies.md`: each pool of `docs/policies.toml`, and what three clients get of it. Places
/// and scopes by places alone change with the databases: there, just the mirror is compared.
#[test]
fn clients_get_the_mirrors_that_the_page_of_policies_shows() -> Result<()> {
    let Some(databases) = geodns_tests::real_databases() else {
        let test = "clients_get_the_mirrors_that_the_page_of_policies_shows";
        geodns_tests::skipped(test, "no data; run `cargo xtask data`");
        return Ok(());
    };
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let real = databases[0]
        .parent()
        .context("a folder")?
        .display()
        .to_string();
    let text = std::fs::read_to_string(format!("{docs}/policies.toml"))?
        .replace("/tmp/geodns-policies/package", &real)
        .replace("\"../etc/", &format!("\"{docs}/../etc/"))
        .replace("\"policies.csv", &format!("\"{docs}/policies.csv"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policies.toml");
    std::fs::write(&file, text)?;
    let inputs = Inputs::of(Config::load(&file)?)?;
    let world = inputs.compile(&inputs.layers(), 1, [1, 2])?;
    let plan = world.plan.read().expect("not poisoned");
    let config = &inputs.config;

    let page = std::fs::read_to_string(format!("{docs}/policies.md"))?;
    let (_, table) = page
        .split_once("| pool | Amsterdam | New York | Singapore | |\n")
        .context("a table")?;
    let clients: [IpAddr; 3] =
        ["145.18.0.0", "128.122.1.0", "137.132.1.0"].map(|a| a.parse().expect("an address"));
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let id = match cells[1] {
            "geo" => "rules",
            "cname" => "alias",
            id => id,
        };
        let pool = config
            .pools
            .iter()
            .position(|pool| pool.id == id)
            .context(row.to_owned())?;
        for (client, cell) in clients.iter().zip(&cells[2..]) {
            let (wanted, scope) = cell.split_once(", ").context(row.to_owned())?;
            let wanted = match wanted {
                "all four" => vec!["ams", "fra", "iad", "sin"],
                "CNAME" => vec!["cdn"],
                id => vec![id],
            };
            let selection = plan.select(pool, Family::V4, *client);
            let given = selection
                .mirrors
                .iter()
                .map(|&mirror| config.mirror_id(pool, mirror));
            ensure!(
                given.eq(wanted.iter().copied()),
                "{row}: {client}: {:?}",
                selection.mirrors
            );
            let scope: u8 = scope.trim_start_matches("scope ").parse()?;
            ensure!(
                ["nearest", "rules"].contains(&id) || scope == selection.scope,
                "{row}: {client}: scope {}",
                selection.scope
            );
            seen += 1;
        }
    }
    ensure!(seen == 27, "{seen}");
    Ok(())
}

/// A code that databases have and our list lacks would be refused in a rule.
#[test]
fn every_country_that_a_database_has_is_in_our_list() -> Result<()> {
    let Some(databases) = geodns_tests::real_country_databases() else {
        geodns_tests::skipped(
            "every_country_that_a_database_has_is_in_our_list",
            "no data; run `cargo xtask data`",
        );
        return Ok(());
    };
    let mut countries: BTreeMap<String, PathBuf> = BTreeMap::new();
    for database in databases {
        let what = || database.display().to_string();
        let reader = Reader::open_readfile(&database).with_context(what)?;
        // Networks share records.
        let mut seen: HashSet<usize> = HashSet::new();
        let mut of_this = 0;
        for network in reader.networks(WithinOptions::default())? {
            let network = network.with_context(what)?;
            let Some(record) = network.offset().filter(|&record| seen.insert(record)) else {
                continue;
            };
            for path in [
                &path!["country_code"][..],
                &path!["country", "iso_code"][..],
            ] {
                let code: Option<String> = network
                    .decode_path(path)
                    .with_context(|| format!("{}, record {record}", what()))?;
                if let Some(code) = code.filter(|code| !NO_COUNTRIES.contains(&code.as_str())) {
                    of_this += 1;
                    countries.entry(code).or_insert_with(|| database.clone());
                }
            }
        }
        ensure!(
            of_this > 200,
            "{}: {of_this} records with a country",
            what()
        );
    }
    let missing: Vec<_> = countries
        .iter()
        .filter(|(code, _)| Code::country(code).is_none())
        .collect();
    ensure!(missing.is_empty(), "not in the list: {missing:?}");
    println!("{} countries", countries.len());
    // The rest is uninhabited, or so small that nobody has an address there.
    ensure!(countries.len() > 240, "{countries:?}");
    Ok(())
}

/// Codes in databases that are no country's: AN, the Netherlands Antilles, is BQ, CW and SX since 2010; AP is
/// somewhere in Asia or the Pacific.
const NO_COUNTRIES: [&str; 2] = ["AN", "AP"];
