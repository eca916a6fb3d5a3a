//! The owner of each name. Zones of the configuration come first; a member of a catalog stands neither at, nor
//! below, nor above one of them, nor a member of another catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::base::name::Name;

/// Zones that are there, and whose they are. In the order of names those below one follow it.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<Name, Owner>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Configuration {
        /// Nobody is answered from it, so it is in nobody's way above it.
        is_catalog: bool,
    },
    Catalog(Name),
}

/// A name that a catalog may not have. Displays as a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    name: Name,
    place: Place,
    /// The zone that is there.
    other: Name,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    At,
    Below,
    Above,
}

impl Claims {
    /// Those of the configuration's own zones, each with whether it is a catalog: a member may stand above one.
    pub fn of<'a>(zones: impl IntoIterator<Item = (&'a Name, bool)>) -> Self {
        let zones = zones.into_iter().map(|(name, is_catalog)| {
            let owner = Owner::Configuration { is_catalog };
            (name.clone(), owner)
        });
        Self(zones.collect())
    }

    /// Claims a name for a catalog, unless the configuration or another catalog stands in the way.
    pub fn take(&mut self, name: &Name, catalog: &Name) -> Result<(), Clash> {
        let owner = Owner::Catalog(catalog.clone());
        self.check(name, &owner)?;
        self.0.insert(name.clone(), owner);
        Ok(())
    }

    fn check(&self, name: &Name, owner: &Owner) -> Result<(), Clash> {
        let clash = |place, other: &Name, owner: &Owner| {
            Err(Clash {
                name: name.clone(),
                place,
                other: other.clone(),
                owner: owner.clone(),
            })
        };
        for above in name.iter_suffixes() {
            let Some((other, holder)) = self.0.get_key_value(&above) else {
                continue;
            };
            if holder != owner {
                let is_same = other == name;
                let place = if is_same { Place::At } else { Place::Below };
                return clash(place, other, holder);
            }
        }
        let follow = self
            .0
            .range::<Name, _>((Bound::Excluded(name), Bound::Unbounded));
        let below = follow.take_while(|(other, _)| other.ends_with(name));
        let in_the_way = |holder: &Owner| {
            holder != owner && *holder != Owner::Configuration { is_catalog: true }
        };
        match below.into_iter().find(|(_, holder)| in_the_way(holder)) {
            Some((other, holder)) => clash(Place::Above, other, holder),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            place,
            other,
            owner,
        } = self;
        match place {
            Place::At => write!(f, "{name} is ")?,
            Place::Below => write!(f, "{name} is below {other}, ")?,
            Place::Above => write!(f, "{name} is above {other}, ")?,
        }
        match owner {
            Owner::Configuration { .. } => f.write_str("a zone of the configuration")?,
            Owner::Catalog(catalog) => write!(f, "a member of catalog {catalog} already")?,
        }
        f.write_str(", and left alone")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::name::parse_name;

    fn name(text: &str) -> Name {
        parse_name(text).unwrap()
    }

    #[test]
    fn a_member_stands_at_below_or_above_no_zone_of_another_owner() {
        let mut claims = Claims::of([(&name("own.example"), false), (&name("cat.test"), true)]);
        for (member, catalog, said) in [
            (
                "own.example",
                "one",
                Some("own.example is a zone of the configuration, and left alone"),
            ),
            (
                "a.b.own.example",
                "one",
                Some(
                    "a.b.own.example is below own.example, a zone of the configuration, and left alone",
                ),
            ),
            (
                "example",
                "one",
                Some("example is above own.example, a zone of the configuration, and left alone"),
            ),
            (
                ".",
                "one",
                Some(". is above own.example, a zone of the configuration, and left alone"),
            ),
            (
                "x.cat.test",
                "one",
                Some("x.cat.test is below cat.test, a zone of the configuration, and left alone"),
            ),
            // Nobody is answered from a catalog.
            ("test", "one", None),
            ("xown.example", "one", None),
            // What one catalog has, it may have in parts.
            ("a.test", "one", None),
            (
                "b.a.test",
                "two",
                Some("b.a.test is below a.test, a member of catalog one already, and left alone"),
            ),
            (
                "a.test",
                "two",
                Some("a.test is a member of catalog one already, and left alone"),
            ),
            ("x.y.org", "two", None),
            (
                "org",
                "one",
                Some("org is above x.y.org, a member of catalog two already, and left alone"),
            ),
            ("y.org", "two", None),
        ] {
            let taken = claims.take(&name(member), &name(catalog));
            let taken = taken.err().map(|clash| clash.to_string());
            assert_eq!(taken.as_deref(), said, "{member} of {catalog}");
        }
    }

    /// Names of up to three labels of two.
    fn names() -> impl Strategy<Value = Name> {
        prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..4).prop_map(|labels| {
            let text = labels.join(".");
            name(if text.is_empty() { "." } else { &text })
        })
    }

    proptest! {
        /// As the rule says it, for each pair of zones.
        #[test]
        fn no_two_owners_have_zones_above_each_other(
            own in prop::collection::vec(names(), 0..3),
            members in prop::collection::vec((names(), 0..3usize), 0..12),
        ) {
            let catalogs = ["x.one", "x.two", "x.three"].map(name);
            let mut claims = Claims::of(own.iter().map(|name| (name, false)));
            let mut there: Vec<(Name, Option<usize>)> =
                own.into_iter().map(|name| (name, None)).collect();
            for (member, catalog) in members {
                let is_free = there.iter().all(|(other, owner)| {
                    let apart = !member.ends_with(other) && !other.ends_with(&member);
                    apart || *owner == Some(catalog)
                });
                prop_assert_eq!(claims.take(&member, &catalogs[catalog]).is_ok(), is_free);
                if is_free {
                    there.push((member, Some(catalog)));
                }
            }
        }
    }
}
