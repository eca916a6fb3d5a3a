//! Where a client is, by the databases, as policies ask for it.

use super::Client;
use crate::base::country::Code;
use crate::config::Location;
use crate::geo;

/// A place with its names in lower case. Made once for each place, not for each network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whereabouts {
    location: Option<Location>,
    continent: Option<[u8; 2]>,
    country: Option<[u8; 2]>,
    subdivisions: Vec<String>,
    city: Option<String>,
    asn: Option<u32>,
}

impl Whereabouts {
    /// Those of a place.
    pub fn of(place: &geo::Place) -> Self {
        let location = |at: geo::Location| Location {
            lat: at.latitude(),
            lon: at.longitude(),
        };
        let subdivisions = place.subdivisions().iter();
        Self {
            location: place.location.map(location),
            continent: place.continent.map(Code::bytes),
            country: place.country.map(Code::bytes),
            subdivisions: subdivisions.flat_map(names).collect(),
            city: place.city().map(str::to_lowercase),
            asn: place.asn,
        }
    }

    /// As policies ask for it.
    pub fn place(&self) -> Client<'_> {
        Client {
            location: self.location,
            continent: self.continent,
            country: self.country,
            subdivisions: &self.subdivisions,
            city: self.city.as_deref(),
            asn: self.asn,
            limits: None,
        }
    }
}

/// Names of a subdivision: its code without the country's, its whole code, its name.
fn names(one: &geo::Subdivision) -> impl Iterator<Item = String> {
    let code = one.code.as_deref();
    let short = code.and_then(|code| Some(code.split_once('-')?.1));
    let all = [short, code, one.name.as_deref()];
    all.into_iter().flatten().map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::country::Code;
    use crate::geo::Subdivision;

    #[test]
    fn a_subdivision_goes_by_its_code_and_by_its_name() {
        let mut place = geo::Place {
            location: geo::Location::new(37.8, -122.4),
            continent: Code::continent("NA"),
            country: Code::country("US"),
            asn: Some(64_496),
            ..geo::Place::default()
        };
        place.set_city(Some("San Francisco"));
        place.set_subdivisions([Subdivision {
            code: Some("US-CA".into()),
            name: Some("California".into()),
        }]);
        let whereabouts = Whereabouts::of(&place);
        let names = ["ca", "us-ca", "california"].map(str::to_owned);
        let expected = Client {
            location: Some(Location {
                lat: 37.8,
                lon: -122.4,
            }),
            continent: Some(*b"NA"),
            country: Some(*b"US"),
            subdivisions: &names,
            city: Some("san francisco"),
            asn: Some(64_496),
            limits: None,
        };
        assert_eq!(whereabouts.place(), expected);
        let nothing = Whereabouts::of(&geo::Place::default());
        assert_eq!(nothing.place(), Client::default());
    }
}
