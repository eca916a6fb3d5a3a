//! The place of an address, as databases know it.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use crate::base::country::Code;

/// The place of an address, as databases give it. Small and cheap to clone; the default is that
/// nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Latitude and longitude.
    pub location: Option<Location>,
    /// Continent; the country's, where a database has none.
    pub continent: Option<Code>,
    /// Country.
    pub country: Option<Code>,
    /// Number of the autonomous system that announces the address.
    pub asn: Option<u32>,
    /// The fields that are rarely asked for; `None` if all of them are missing. For the methods below.
    pub(crate) names: Option<Arc<Names>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    subdivisions: Vec<Subdivision>,
    city: Option<Box<str>>,
    organisation: Option<Box<str>>,
}

/// A part of a country, such as a state. One of the two is there at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subdivision {
    /// ISO 3166-2 code, whole and in capitals: `US-CA`.
    pub code: Option<Box<str>>,
    /// English name.
    pub name: Option<Box<str>>,
}

/// How many subdivisions of an address are kept, the largest first.
pub const MAX_SUBDIVISIONS: usize = 2;

impl Place {
    /// The parts of the country that it is in, the largest first; at most [`MAX_SUBDIVISIONS`].
    pub fn subdivisions(&self) -> &[Subdivision] {
        self.names.as_ref().map_or(&[], |names| &names.subdivisions)
    }

    /// City, by its English name.
    pub fn city(&self) -> Option<&str> {
        self.names.as_ref()?.city.as_deref()
    }

    /// The organisation that the autonomous system belongs to.
    pub fn organisation(&self) -> Option<&str> {
        self.names.as_ref()?.organisation.as_deref()
    }

    /// Sets the parts of the country.
    pub fn set_subdivisions(&mut self, subdivisions: impl IntoIterator<Item = Subdivision>) {
        let known = |one: &Subdivision| one.code.is_some() || one.name.is_some();
        let subdivisions = subdivisions.into_iter().filter(known);
        let subdivisions = subdivisions.take(MAX_SUBDIVISIONS).collect();
        self.with_names(|names| names.subdivisions = subdivisions);
    }

    /// Sets the city.
    pub fn set_city(&mut self, city: Option<&str>) {
        self.with_names(|names| names.city = city.map(Into::into));
    }

    /// Sets the owner of the autonomous system.
    pub fn set_organisation(&mut self, organisation: Option<&str>) {
        self.with_names(|names| names.organisation = organisation.map(Into::into));
    }

    /// Changes the names, and drops them if there are none: equal places have equal fields.
    fn with_names(&mut self, change: impl FnOnce(&mut Names)) {
        let names = Arc::make_mut(self.names.get_or_insert_default());
        change(names);
        if *names == Names::default() {
            self.names = None;
        }
    }

    /// The attributes that are known.
    pub fn known(&self) -> Wanted {
        let mut known = Wanted::NOTHING;
        for (attribute, is_known) in [
            (Wanted::LOCATION, self.location.is_some()),
            (Wanted::CONTINENT, self.continent.is_some()),
            (Wanted::COUNTRY, self.country.is_some()),
            (Wanted::SUBDIVISION, !self.subdivisions().is_empty()),
            (Wanted::CITY, self.city().is_some()),
            (Wanted::ASN, self.asn.is_some()),
            (Wanted::ORGANISATION, self.organisation().is_some()),
        ] {
            if is_known {
                known |= attribute;
            }
        }
        known
    }

    /// Takes from another place what is not known here; gives the attributes that were taken.
    pub fn complete(&mut self, other: &Self) -> Wanted {
        let taken = other.known().without(self.known());
        self.location = self.location.or(other.location);
        self.continent = self.continent.or(other.continent);
        self.country = self.country.or(other.country);
        self.asn = self.asn.or(other.asn);
        if self.names.is_none() {
            self.names = other.names.clone();
            return taken;
        }
        if taken.contains(Wanted::SUBDIVISION) {
            self.set_subdivisions(other.subdivisions().iter().cloned());
        }
        if taken.contains(Wanted::CITY) {
            self.set_city(other.city());
        }
        if taken.contains(Wanted::ORGANISATION) {
            self.set_organisation(other.organisation());
        }
        taken
    }
}

/// A point on the globe, to a ten-thousandth of a degree (11 m at the most): comparable and hashable,
/// and the same point whether a database holds it as `f32` or `f64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    latitude: i32,
    longitude: i32,
}

impl Location {
    /// From degrees, north and east positive. `None` past 90 or 180 degrees, and for 0, 0: that is open
    /// sea, and what databases hold where they know nothing.
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let on_globe = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        let location = Self {
            latitude: (latitude * 1e4).round() as i32,
            longitude: (longitude * 1e4).round() as i32,
        };
        let nowhere = (location.latitude, location.longitude) == (0, 0);
        (on_globe && !nowhere).then_some(location)
    }

    /// Degrees north.
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude) / 1e4
    }

    /// Degrees east.
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude) / 1e4
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}, {:.4}", self.latitude(), self.longitude())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.latitude(), self.longitude())
    }
}

/// A set of attributes of a [`Place`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted(u8);

impl Wanted {
    /// None.
    pub const NOTHING: Self = Self(0);
    /// Latitude and longitude.
    pub const LOCATION: Self = Self(1);
    /// Continent.
    pub const CONTINENT: Self = Self(1 << 1);
    /// Country.
    pub const COUNTRY: Self = Self(1 << 2);
    /// Parts of the country.
    pub const SUBDIVISION: Self = Self(1 << 3);
    /// City.
    pub const CITY: Self = Self(1 << 4);
    /// Number of the autonomous system.
    pub const ASN: Self = Self(1 << 5);
    /// Owner of the autonomous system: for people to read.
    pub const ORGANISATION: Self = Self(1 << 6);
    /// All.
    pub const EVERYTHING: Self = Self((1 << 7) - 1);

    /// Each attribute, with its name.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::LOCATION, "location"),
        (Self::CONTINENT, "continent"),
        (Self::COUNTRY, "country"),
        (Self::SUBDIVISION, "subdivision"),
        (Self::CITY, "city"),
        (Self::ASN, "asn"),
        (Self::ORGANISATION, "organisation"),
    ];

    /// Whether all of the other set is in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of the other set is in this one.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This set but for what is in the other one.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the attributes in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let inside = move |&(one, name): &(Self, &'static str)| self.contains(one).then_some(name);
        Self::NAMES.iter().filter_map(inside)
    }
}

impl BitOr for Wanted {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Wanted {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_off_the_globe_are_none() {
        for (latitude, longitude) in [
            (91.0, 0.0),
            (-90.001, 0.0),
            (0.0, 181.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (f64::INFINITY, 1.0),
            (0.0, 0.0),
            (-0.0, 0.0),
        ] {
            assert_eq!(Location::new(latitude, longitude), None);
        }
        for (latitude, longitude) in [(90.0, -180.0), (-27.4767, 153.017), (0.0, 6.6)] {
            let location = Location::new(latitude, longitude).unwrap();
            assert_eq!(location.latitude(), latitude);
            assert_eq!(location.longitude(), longitude);
        }
        // What a database holds as f32 is the same point as what another holds as f64.
        for (latitude, longitude) in [(-27.4767_f32, 153.017_f32), (37.422, -179.9999)] {
            let shortest = |degrees: f32| degrees.to_string().parse::<f64>().unwrap();
            assert_eq!(
                Location::new(latitude.into(), longitude.into()),
                Location::new(shortest(latitude), shortest(longitude))
            );
        }
    }

    #[test]
    fn what_is_missing_is_taken_from_the_next() {
        let mut place = Place {
            country: Code::country("de"),
            ..Place::default()
        };
        place.set_city(Some("Berlin"));
        let mut other = Place {
            country: Code::country("fr"),
            asn: Some(64_496),
            ..Place::default()
        };
        other.set_city(Some("Paris"));
        other.set_organisation(Some("Example"));
        let taken = place.complete(&other);
        assert_eq!(taken, Wanted::ASN | Wanted::ORGANISATION);
        assert_eq!(place.country, Code::country("DE"));
        assert_eq!(place.city(), Some("Berlin"));
        assert_eq!(place.asn, Some(64_496));
        assert_eq!(place.organisation(), Some("Example"));
        assert!(place.complete(&other).is_empty());
    }

    #[test]
    fn a_place_whose_names_are_taken_away_is_as_one_without() {
        let mut place = Place::default();
        place.set_city(Some("Berlin"));
        assert_eq!(place.known(), Wanted::CITY);
        place.set_city(None);
        place.set_subdivisions([Subdivision::default()]);
        assert_eq!(place, Place::default());
    }

    #[test]
    fn places_are_small() {
        assert!(size_of::<Place>() <= 40, "{}", size_of::<Place>());
    }
}
