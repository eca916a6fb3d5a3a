//! The map of the world as SVG: each place in the colour of its mirror, the mirrors, and the clients of the last answers.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::view::{Map, Marker};
use crate::control::problem::{Answer, Query};
use crate::geo::grid::{COLUMNS, Cell, DEGREES};

/// The land, as a path: a unit is a tenth of a degree (`cargo xtask map`).
pub const LAND: &str = include_str!("assets/land.txt");
/// Units of a degree.
const SCALE: f64 = 10.0;
/// Units of a cell.
const CELL: usize = DEGREES * SCALE as usize;
/// Degrees north of the map's top, and south of its bottom.
const NORTH: f64 = 84.0;
const SOUTH: f64 = -58.0;
/// Rows of cells above the map, and the first below it.
const ROWS: [usize; 2] = [3, 74];
/// Colours of mirrors. Later mirrors have the same again.
pub const COLOURS: usize = 12;
/// Units that a mirror's name takes beside its place: right, and down.
const NAME: [f64; 2] = [240.0, 60.0];
/// Cells that a place without addresses is from the place whose colour it takes, at the most.
const NEAR: usize = 12;

/// The query of a map.
#[derive(Debug, Default, Deserialize)]
pub struct MapQuery {
    /// The pool; without it, the first.
    pub pool: Option<String>,
}

/// A mirror in the legend, and on the map if it has a place.
pub struct Drawn<'a> {
    /// The mirror.
    pub marker: &'a Marker,
    /// Number of its colour.
    pub colour: usize,
    /// Its place on the map, in units.
    pub at: Option<(f64, f64)>,
    /// Whether its name stands left of its place: another mirror, or the edge, is near to the right.
    pub is_left: bool,
    /// Number of cells that get it.
    pub cells: usize,
}

/// Cells of one colour.
pub struct Area {
    /// Class of the colour.
    pub class: String,
    /// The path.
    pub path: String,
}

/// A cell with clients.
pub struct Dot {
    /// Its middle, in units.
    pub at: (f64, f64),
    /// Radius, in units: the area is proportional to the share of clients.
    pub radius: f64,
    /// Share, in percent.
    pub percent: String,
}

/// All that is drawn.
pub struct Picture<'a> {
    /// Mirrors.
    pub mirrors: Vec<Drawn<'a>>,
    /// Places whose addresses get a mirror.
    pub areas: Vec<Area>,
    /// Places without addresses, as the places near them.
    pub faint: Vec<Area>,
    /// Clients of the last answers.
    pub dots: Vec<Dot>,
}

impl<'a> Picture<'a> {
    /// Draws a map.
    pub fn of(map: &'a Map) -> Self {
        let mut known: BTreeMap<(usize, usize), Option<usize>> = BTreeMap::new();
        for place in &map.cells {
            let at = (place.cell.row.into(), place.cell.column.into());
            known.insert(at, place.mirror);
        }
        let mut cells = vec![0; map.mirrors.len()];
        for mirror in known.values().flatten() {
            if let Some(cells) = cells.get_mut(*mirror) {
                *cells += 1;
            }
        }
        let near = near(&known);
        let places: Vec<_> = map
            .mirrors
            .iter()
            .map(|marker| marker.at.map(|(north, east)| at(north, east)))
            .collect();
        let is_left = |(x, y): (f64, f64)| {
            let near = |&(other, level): &(f64, f64)| {
                (1.0..NAME[0]).contains(&(other - x)) && (level - y).abs() < NAME[1]
            };
            x + NAME[0] > 360.0 * SCALE || places.iter().flatten().any(near)
        };
        let mirrors = map.mirrors.iter().zip(&places).zip(cells).enumerate();
        let mirrors = mirrors.map(|(number, ((marker, place), cells))| Drawn {
            marker,
            colour: number % COLOURS,
            at: *place,
            is_left: place.is_some_and(is_left),
            cells,
        });
        let dots = map.clients.iter().map(|&(cell, share)| Dot {
            at: middle(cell),
            radius: (9.0 + 130.0 * share.sqrt()).min(90.0).round(),
            percent: super::text::percent(share),
        });
        Self {
            mirrors: mirrors.collect(),
            areas: areas(&known),
            faint: areas(&near),
            dots: dots.collect(),
        }
    }
}

/// The place of a point, in units.
fn at(north: f64, east: f64) -> (f64, f64) {
    let down = NORTH - north.clamp(SOUTH, NORTH);
    (((east + 180.0) * SCALE).round(), (down * SCALE).round())
}

/// The middle of a cell, in units.
fn middle(cell: Cell) -> (f64, f64) {
    let half = DEGREES as f64 / 2.0;
    let degrees = |index: u8| f64::from(index) * DEGREES as f64 + half;
    at(90.0 - degrees(cell.row), degrees(cell.column) - 180.0)
}

/// Cells with their mirrors.
type Cells = BTreeMap<(usize, usize), Option<usize>>;

/// Cells of the map that have none, with the mirror of the nearest ones.
fn near(known: &Cells) -> Cells {
    let mut near = Cells::new();
    let mut front: Vec<((usize, usize), Option<usize>)> =
        known.iter().map(|(&at, &mirror)| (at, mirror)).collect();
    for _ in 0..NEAR {
        let mut next = Vec::new();
        for ((row, column), mirror) in front {
            let around = [
                (row.wrapping_sub(1), column),
                (row + 1, column),
                (row, (column + 1) % COLUMNS),
                (row, (column + COLUMNS - 1) % COLUMNS),
            ];
            for at in around {
                let is_on_map = (ROWS[0]..ROWS[1]).contains(&at.0);
                if is_on_map && !known.contains_key(&at) && !near.contains_key(&at) {
                    near.insert(at, mirror);
                    next.push((at, mirror));
                }
            }
        }
        front = next;
    }
    near
}

/// A path for each colour, of runs of cells.
fn areas(cells: &Cells) -> Vec<Area> {
    let mut paths: BTreeMap<Option<usize>, String> = BTreeMap::new();
    let on_map =
        |&(&(row, _), _): &(&(usize, usize), &Option<usize>)| (ROWS[0]..ROWS[1]).contains(&row);
    let cells: Vec<_> = cells.iter().filter(on_map).collect();
    let runs = cells.chunk_by(|((row, column), mirror), ((next_row, next), next_mirror)| {
        row == next_row && column + 1 == *next && mirror == next_mirror
    });
    for run in runs {
        let [((row, column), mirror), ..] = run else {
            continue;
        };
        let colour = mirror.map(|mirror| mirror % COLOURS);
        let (x, y) = (column * CELL, (row - ROWS[0]) * CELL);
        let width = run.len() * CELL;
        let path = paths.entry(colour).or_default();
        let _ = write!(path, "M{x} {y}h{width}v{CELL}h-{width}z");
    }
    let areas = paths.into_iter().map(|(colour, path)| Area {
        class: colour.map_or("none".to_owned(), |colour| format!("m{colour}")),
        path,
    });
    areas.collect()
}

/// `GET /map.json`: the cells of the map.
#[derive(Debug, Serialize)]
pub struct MapJson {
    pool: String,
    cells: Vec<CellJson>,
}

#[derive(Debug, Serialize)]
struct CellJson {
    north: f64,
    east: f64,
    mirror: Option<String>,
    client: std::net::IpAddr,
}

/// Shows the cells of a map, each with an address that it stands for.
pub async fn json(State(service): State<Shared>, Query(query): Query<MapQuery>) -> Answer<MapJson> {
    let map = service.map(query.pool).await?;
    let cells = map.cells.iter().map(|place| CellJson {
        north: 90.0 - f64::from(place.cell.row) * DEGREES as f64,
        east: f64::from(place.cell.column) * DEGREES as f64 - 180.0,
        mirror: place
            .mirror
            .and_then(|number| map.mirrors.get(number))
            .map(|mirror| mirror.id.clone()),
        client: place.client,
    });
    Ok(Json(MapJson {
        pool: map.pool.clone(),
        cells: cells.collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::view::{Place, State};
    use super::*;

    fn map(cells: &[(u8, u8, Option<usize>)]) -> Map {
        let marker = |id: &str| Marker {
            id: id.to_owned(),
            state: State::In,
            at: Some((52.0, 5.0)),
        };
        let place = |&(row, column, mirror): &(u8, u8, Option<usize>)| Place {
            cell: Cell { row, column },
            mirror,
            client: [192, 0, 2, 1].into(),
        };
        Map {
            mirrors: vec![marker("ams"), marker("sin")],
            cells: cells.iter().map(place).collect(),
            ..Map::default()
        }
    }

    #[test]
    fn runs_of_cells_are_one_piece_and_each_mirror_one_path() {
        let map = map(&[
            (3, 0, Some(0)),
            (3, 1, Some(0)),
            (3, 2, Some(1)),
            (4, 0, Some(0)),
            (5, 0, None),
            (0, 0, Some(1)),
            (80, 0, Some(1)),
        ]);
        let picture = Picture::of(&map);
        let shown: Vec<_> = picture
            .areas
            .iter()
            .map(|area| (&*area.class, &*area.path))
            .collect();
        assert_eq!(
            shown,
            [
                ("none", "M0 40h20v20h-20z"),
                ("m0", "M0 0h40v20h-40zM0 20h20v20h-20z"),
                ("m1", "M40 0h20v20h-20z"),
            ]
        );
        let counted: Vec<_> = picture.mirrors.iter().map(|drawn| drawn.cells).collect();
        assert_eq!(counted, [3, 3]);
        assert_eq!(picture.mirrors[0].at, Some((1850.0, 320.0)));
    }

    #[test]
    fn places_without_addresses_take_the_colour_of_those_near_them() {
        let map = map(&[(30, 0, Some(0)), (30, 100, Some(1))]);
        let cells = map.cells.iter().map(|place| {
            (
                (place.cell.row.into(), place.cell.column.into()),
                place.mirror,
            )
        });
        let near = near(&cells.collect());
        assert_eq!(near.get(&(30, 1)), Some(&Some(0)));
        assert_eq!(near.get(&(30, 179)), Some(&Some(0)), "around the globe");
        assert_eq!(near.get(&(30, 99)), Some(&Some(1)));
        assert_eq!(near.get(&(30, 50)), None, "too far");
        assert_eq!(near.get(&(30, 0)), None);
    }

    #[test]
    fn the_land_is_small_and_on_the_map() {
        assert!(LAND.len() < 40_000, "{}", LAND.len());
        assert!(LAND.starts_with('M') && LAND.trim_end().ends_with('z'));
    }
}
