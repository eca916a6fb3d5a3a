//! A sample of the addresses of each part of the globe: the largest networks that databases locate in each cell of a
//! grid.

use std::collections::BTreeMap;
use std::net::IpAddr;

use geodns_common::abi::Family;

use super::{Geography, Location, Prefix, Wanted};

/// Degrees of a cell, both ways.
pub const DEGREES: usize = 2;
/// Cells around the globe.
pub const COLUMNS: usize = 360 / DEGREES;
/// Cells from pole to pole.
pub const ROWS: usize = 180 / DEGREES;
/// Networks that are kept of a cell, at the most.
const NETWORKS: usize = 4;

/// A cell: rows count from the north pole, columns from 180 degrees west.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Row.
    pub row: u8,
    /// Column.
    pub column: u8,
}

impl Cell {
    /// The cell of a location.
    pub fn of(location: Location) -> Self {
        let index = |degrees: f64, count: usize| {
            let index = (degrees / DEGREES as f64).floor() as usize;
            index.min(count - 1) as u8
        };
        Self {
            row: index(90.0 - location.latitude(), ROWS),
            column: index(location.longitude() + 180.0, COLUMNS),
        }
    }
}

/// The largest networks of each cell that has any.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grid(BTreeMap<Cell, Vec<Network>>);

/// A network of IPv4, as far as it is in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Number of its addresses.
    pub size: u64,
}

impl Grid {
    /// Walks all IPv4 addresses of these databases. Takes seconds where they are large.
    pub fn of(geography: &Geography) -> Self {
        let geography = geography.beside();
        let mut grid = Self::default();
        let mut cursor = geography.walk(Prefix::everything(Family::V4), Wanted::LOCATION);
        let mut next = Some(0);
        while let Some(first) = next {
            let (place, last) = cursor.seek(first);
            if let Some(location) = geography.place(place).location {
                let network = Network {
                    address: IpAddr::V4(((first >> 96) as u32).into()),
                    size: ((last - first) >> 96) as u64 + 1,
                };
                grid.add(Cell::of(location), network);
            }
            next = last.checked_add(1);
        }
        geography.relax();
        grid
    }

    fn add(&mut self, cell: Cell, network: Network) {
        let networks = self.0.entry(cell).or_default();
        if networks.len() == NETWORKS && networks[NETWORKS - 1].size >= network.size {
            return;
        }
        let place = networks.partition_point(|other| other.size >= network.size);
        networks.insert(place, network);
        networks.truncate(NETWORKS);
    }

    /// The cells that have networks, each with its largest ones, the largest first.
    pub fn cells(&self) -> impl Iterator<Item = (Cell, &[Network])> {
        self.0.iter().map(|(&cell, networks)| (cell, &networks[..]))
    }

    /// Whether nothing has a location.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_location_has_a_cell() {
        for (latitude, longitude, row, column) in [
            (90.0, -180.0, 0, 0),
            (-90.0, 180.0, 89, 179),
            (52.37, 4.9, 18, 92),
            (-0.1, -0.1, 45, 89),
        ] {
            let location = Location::new(latitude, longitude).unwrap();
            assert_eq!(Cell::of(location), Cell { row, column });
        }
    }

    #[test]
    fn the_largest_networks_of_a_cell_are_kept() {
        let mut grid = Grid::default();
        let cell = Cell { row: 1, column: 2 };
        let network = |size: u64| Network {
            address: IpAddr::V4((size as u32).into()),
            size,
        };
        for size in [3, 9, 1, 7, 5, 8] {
            grid.add(cell, network(size));
        }
        let kept: Vec<_> = grid.cells().collect();
        assert_eq!(kept, [(cell, &[9, 8, 7, 5].map(network)[..])]);
    }
}
