//! A record of a database, read as a [`Place`].
//!
//! Databases differ in how they lay their records out. Those of MaxMind and DB-IP nest
//! (`country.iso_code`, `location.latitude`), those of ip-location-db and IPinfo are flat
//! (`country_code`, `latitude`). All are read by the same rules: what is missing, of the wrong type or
//! nonsense is not known, and no error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::base::country::Code;
use crate::geo::{Location, MAX_SUBDIVISIONS, Place, Subdivision, Wanted};

/// The keys that an attribute may come from. A database that has none of them does not have it.
pub const KEYS: [(Wanted, &[&str]); 7] = [
    (Wanted::LOCATION, &["latitude"]),
    (
        Wanted::CONTINENT,
        &[
            "continent",
            "continent_code",
            "country",
            "country_code",
            "registered_country",
        ],
    ),
    (
        Wanted::COUNTRY,
        &["country", "country_code", "registered_country"],
    ),
    (Wanted::SUBDIVISION, &["subdivisions", "state1", "state2"]),
    (Wanted::CITY, &["city"]),
    (Wanted::ASN, &["autonomous_system_number", "asn"]),
    (
        Wanted::ORGANISATION,
        &["autonomous_system_organization", "as_name"],
    ),
];

/// Whether a key is of use: one of [`KEYS`], or what is found below one.
fn is_known(key: &str) -> bool {
    matches!(
        key,
        "continent"
            | "continent_code"
            | "country"
            | "country_code"
            | "registered_country"
            | "subdivisions"
            | "state1"
            | "state2"
            | "city"
            | "location"
            | "latitude"
            | "longitude"
            | "traits"
            | "autonomous_system_number"
            | "asn"
            | "autonomous_system_organization"
            | "as_name"
            | "code"
            | "iso_code"
            | "names"
            | "en"
    )
}

/// Names longer than this are nonsense. The longest real ones have some 100 octets.
const MAX_NAME: usize = 256;

/// How deep values of use may be: `subdivisions[].names.en` is 4.
const MAX_DEPTH: u8 = 4;

/// A value of a record, without what is of no use.
#[derive(Debug, Default)]
pub enum Value<'a> {
    #[default]
    Nothing,
    Number(f64),
    Text(&'a str),
    Map(Vec<(&'a str, Value<'a>)>),
    List(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    /// The place that a record says, as far as it is wanted.
    pub fn place(&self, wanted: Wanted) -> Place {
        let mut place = Place::default();
        let needs_country = Wanted::COUNTRY | Wanted::CONTINENT | Wanted::SUBDIVISION;
        let country = if wanted.meets(needs_country) {
            self.country()
        } else {
            None
        };
        if wanted.contains(Wanted::LOCATION) {
            place.location = self.location();
        }
        if wanted.contains(Wanted::CONTINENT) {
            let continent = self.continent();
            place.continent = continent.or_else(|| country?.continent_of());
        }
        if wanted.contains(Wanted::COUNTRY) {
            place.country = country;
        }
        if wanted.contains(Wanted::ASN) {
            place.asn = self.asn();
        }
        if wanted.contains(Wanted::SUBDIVISION) {
            place.set_subdivisions(self.subdivisions(country));
        }
        if wanted.contains(Wanted::CITY) {
            place.set_city(self.get("city").name());
        }
        if wanted.contains(Wanted::ORGANISATION) {
            place.set_organisation(self.organisation());
        }
        place
    }

    fn location(&self) -> Option<Location> {
        let point = |value: &Value<'_>| {
            Location::new(
                value.get("latitude").number()?,
                value.get("longitude").number()?,
            )
        };
        point(self.get("location")).or_else(|| point(self))
    }

    fn continent(&self) -> Option<Code> {
        let continent = self.get("continent");
        [continent.get("code"), self.get("continent_code"), continent]
            .iter()
            .find_map(|value| Code::continent(value.text()?))
    }

    /// Where the address is used; else where it is registered.
    fn country(&self) -> Option<Code> {
        let country = self.get("country");
        let registered = self.get("registered_country").get("iso_code");
        [
            country.get("iso_code"),
            self.get("country_code"),
            country,
            registered,
        ]
        .iter()
        .find_map(|value| Code::country(value.text()?))
    }

    fn subdivisions(&self, country: Option<Code>) -> Vec<Subdivision> {
        let all = match self.get("subdivisions") {
            Value::List(all) => all.as_slice(),
            _ => {
                let states = [self.get("state1"), self.get("state2")];
                return states.map(|state| subdivision(None, state, country)).into();
            }
        };
        let all = all.iter();
        all.map(|one| subdivision(one.get("iso_code").text(), one, country))
            .collect()
    }

    fn asn(&self) -> Option<u32> {
        let key = "autonomous_system_number";
        [self.get(key), self.get("traits").get(key), self.get("asn")]
            .iter()
            .find_map(|value| value.as_number())
    }

    fn organisation(&self) -> Option<&'a str> {
        let key = "autonomous_system_organization";
        [
            self.get(key),
            self.get("traits").get(key),
            self.get("as_name"),
        ]
        .iter()
        .find_map(|value| value.text())
    }

    fn get(&self, key: &str) -> &Self {
        const NOTHING: &Value<'static> = &Value::Nothing;
        let Self::Map(entries) = self else {
            return NOTHING;
        };
        let entry = entries.iter().find(|(name, _)| *name == key);
        entry.map_or(NOTHING, |(_, value)| value)
    }

    /// A text that says something.
    fn text(&self) -> Option<&'a str> {
        let Self::Text(text) = self else { return None };
        let text = text.trim();
        let nonsense = text.is_empty()
            || text == "-"
            || text.len() > MAX_NAME
            || text.contains(char::is_control);
        (!nonsense).then_some(text)
    }

    /// The English name, or the text itself.
    fn name(&self) -> Option<&'a str> {
        self.get("names").get("en").text().or_else(|| self.text())
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The number of an autonomous system, also written as `AS64496`. 0 is nobody's (RFC 7607).
    fn as_number(&self) -> Option<u32> {
        let number = match self {
            Self::Text(text) => {
                let digits = text.trim().trim_start_matches(['A', 'S', 'a', 's']);
                digits.parse().ok()?
            }
            Self::Number(number) if number.fract() == 0.0 && *number <= u32::MAX.into() => {
                *number as u32
            }
            _ => return None,
        };
        (number != 0).then_some(number)
    }
}

/// `code` is the part of the ISO 3166-2 code after the country.
fn subdivision(code: Option<&str>, value: &Value<'_>, country: Option<Code>) -> Subdivision {
    let code = code.filter(|code| {
        let letters = code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        letters && code.len() <= 3
    });
    let code = country.zip(code);
    Subdivision {
        code: code.map(|(country, code)| format!("{country}-{}", code.to_ascii_uppercase()).into()),
        name: value.name().map(Into::into),
    }
}

impl<'de> serde::Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(0).deserialize(deserializer)
    }
}

/// Reads a value this deep in a record.
#[derive(Clone, Copy)]
struct Level(u8);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        if self.0 > MAX_DEPTH {
            return deserializer
                .deserialize_ignored_any(IgnoredAny)
                .map(|_| Value::Nothing);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut entries = Vec::with_capacity(8);
        while let Some(key) = map.next_key::<&str>()? {
            if is_known(key) {
                entries.push((key, map.next_value_seed(Self(self.0 + 1))?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        let mut values = Vec::new();
        while values.len() < MAX_SUBDIVISIONS
            && let Some(value) = list.next_element_seed(Self(self.0 + 1))?
        {
            values.push(value);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List(values))
    }
}
