//! The world by mirrors: each cell of a grid asks the plan that answers.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use geodns_common::abi::Family;

use crate::base::lock::{lock, read};
use crate::config::Config;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::force::internal;
use crate::geo::Geography;
use crate::geo::grid::{Cell, Grid, Network};
use crate::plan::Plan;
use crate::serve::Sample;
use crate::web::view::{Lack, Map, Marker, Place, State};
use crate::world::World;

/// Time for which a map is shown again.
const FRESH: Duration = Duration::from_secs(5);
/// Cells that are looked up under one lock of the plan.
const CELLS: usize = 64;
/// Clients whose place is looked up, at the most.
const CLIENTS: usize = 4096;
/// Maps that are remembered, at the most: one of each pool.
const MAPS: usize = 256;

/// Maps that were drawn lately, and the grid behind them.
#[derive(Default)]
pub struct Maps {
    grid: Option<(Weak<Geography>, Option<Arc<Grid>>)>,
    drawn: HashMap<String, (Instant, Arc<Map>)>,
}

impl Daemon {
    /// The map of a pool; without one, of the first.
    pub async fn map_of(self: &Arc<Self>, pool: Option<String>) -> Result<Arc<Map>, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let pool = match pool {
            Some(id) => {
                let named = config.pools.iter().position(|pool| pool.id == id);
                Some(named.ok_or_else(|| Failure::NotFound(format!("no pool {id:?}")))?)
            }
            None => (!config.pools.is_empty()).then_some(0),
        };
        let Some(pool) = pool else {
            return Ok(Arc::new(Map {
                lacks: Some(Lack::Pool),
                ..Map::default()
            }));
        };
        let id = config.pools[pool].id.clone();
        let grid = {
            let mut maps = lock(&self.web.maps);
            if let Some((at, map)) = maps.drawn.get(&id)
                && at.elapsed() < FRESH
            {
                return Ok(Arc::clone(map));
            }
            self.grid(&mut maps, &world.inputs.geography)
        };
        let daemon = Arc::clone(self);
        let drawing = move || daemon.draw(&world, pool, grid.as_deref());
        let map = Arc::new(
            tokio::task::spawn_blocking(drawing)
                .await
                .map_err(internal)?,
        );
        let mut maps = lock(&self.web.maps);
        maps.drawn.retain(|_, (at, _)| at.elapsed() < FRESH);
        if maps.drawn.len() < MAPS {
            maps.drawn.insert(id, (Instant::now(), Arc::clone(&map)));
        }
        Ok(map)
    }

    /// The grid of databases, once they have been walked. They are walked beside everything else.
    fn grid(self: &Arc<Self>, maps: &mut Maps, geography: &Arc<Geography>) -> Option<Arc<Grid>> {
        if let Some((of, grid)) = &maps.grid
            && of.as_ptr() == Arc::as_ptr(geography)
        {
            return grid.clone();
        }
        maps.grid = Some((Arc::downgrade(geography), None));
        let (daemon, geography) = (Arc::clone(self), Arc::clone(geography));
        tokio::task::spawn_blocking(move || {
            let grid = Arc::new(Grid::of(&geography));
            let mut maps = lock(&daemon.web.maps);
            // Other databases may have come meanwhile.
            if let Some((of, known)) = &mut maps.grid
                && of.as_ptr() == Arc::as_ptr(&geography)
            {
                *known = Some(grid);
                maps.drawn.clear();
            }
        });
        None
    }

    fn draw(&self, world: &World, pool: usize, grid: Option<&Grid>) -> Map {
        let config = &world.inputs.config;
        let mut markers = Markers::of(config, pool);
        let cells: Vec<_> = grid.into_iter().flat_map(Grid::cells).collect();
        let mut places = Vec::with_capacity(cells.len());
        for cells in cells.chunks(CELLS) {
            // Not for long: a writer that waits holds up the slow path.
            let plan = read(&world.plan);
            let found = cells.iter().filter_map(|(cell, networks)| {
                let (mirror, client) = first_of_most(&plan, pool, networks)?;
                Some((*cell, mirror, client))
            });
            let found: Vec<_> = found.collect();
            drop(plan);
            places.extend(found.into_iter().map(|(cell, mirror, client)| Place {
                cell,
                mirror: mirror.map(|(pool, mirror)| markers.number(config.mirror_id(pool, mirror))),
                client,
            }));
        }
        let seen = self.seen(world).unwrap_or_default();
        let (clients, seen) = clients(
            &world.inputs.geography,
            seen.into_iter().filter(|of| of.pool == pool),
        );
        let lacks = match grid {
            None => Some(Lack::Time),
            Some(grid) if grid.is_empty() => Some(Lack::Locations),
            Some(_) => None,
        };
        Map {
            pools: config.pools.iter().map(|pool| pool.id.clone()).collect(),
            pool: config.pools[pool].id.clone(),
            mirrors: self.markers(config, markers.0),
            cells: places,
            clients,
            seen,
            lacks,
        }
    }

    /// Mirrors by their ids, with their states.
    fn markers(&self, config: &Config, ids: Vec<String>) -> Vec<Marker> {
        let standing: HashMap<String, State> = self
            .mirrors()
            .into_iter()
            .map(|mirror| (mirror.id.clone(), State::of(&mirror)))
            .collect();
        let markers = ids.into_iter().map(|id| {
            let mirror = config.mirrors.iter().find(|mirror| mirror.id == id);
            let location = mirror.and_then(|mirror| mirror.location);
            Marker {
                state: standing.get(&id).copied().unwrap_or(State::Out),
                at: location.map(|at| (at.lat, at.lon)),
                id,
            }
        });
        markers.collect()
    }
}

/// Ids of mirrors, by the order in which they are met: the pool's own first.
struct Markers(Vec<String>);

impl Markers {
    fn of(config: &Config, pool: usize) -> Self {
        let mirrors = config.pools[pool].mirrors.iter();
        Self(
            mirrors
                .map(|&mirror| config.mirrors[mirror].id.clone())
                .collect(),
        )
    }

    fn number(&mut self, id: &str) -> usize {
        let known = self.0.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            self.0.push(id.to_owned());
            self.0.len() - 1
        })
    }
}

/// A mirror: the pool that answers, and its number there. `None`: there is no answer.
type First = Option<(usize, u8)>;

/// The first mirror that most addresses of some networks get, and the first address of the largest one that does.
fn first_of_most(plan: &Plan, pool: usize, networks: &[Network]) -> Option<(First, IpAddr)> {
    let mut sizes: BTreeMap<First, (u64, IpAddr)> = BTreeMap::new();
    for network in networks {
        let first = first(plan, pool, network.address);
        let (size, _) = sizes.entry(first).or_insert((0, network.address));
        *size += network.size;
    }
    let most = sizes.into_iter().max_by_key(|(_, (size, _))| *size);
    most.map(|(first, (_, address))| (first, address))
}

/// The first mirror of a client's answer: of A records, or of AAAA where the pool has none.
fn first(plan: &Plan, pool: usize, client: IpAddr) -> First {
    let has = |family: Family| {
        plan.pools()
            .get(pool)
            .is_some_and(|row| row.has[family.index()] != 0)
    };
    let family = match has(Family::V4) {
        true => Family::V4,
        false => Family::V6,
    };
    let selection = plan.select(pool, family, client);
    let mirror = selection.mirrors.first()?;
    Some((selection.pool, *mirror))
}

/// Where clients are: the share of each cell, and number of clients that have a place.
fn clients(geography: &Geography, seen: impl Iterator<Item = Sample>) -> (Vec<(Cell, f64)>, usize) {
    let mut cells: BTreeMap<Cell, usize> = BTreeMap::new();
    let mut located = 0;
    for sample in seen.take(CLIENTS) {
        if let Some(location) = geography.lookup(sample.client).place.location {
            *cells.entry(Cell::of(location)).or_default() += 1;
            located += 1;
        }
    }
    let share = |(cell, count): (Cell, usize)| (cell, count as f64 / located as f64);
    (cells.into_iter().map(share).collect(), located)
}
