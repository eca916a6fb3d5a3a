//! Which mirrors answer, and in which order: pure functions of policy, client and what is in service.
//!
//! - here: a pool's policy, and the order of its members for a client
//! - `weight`: the slots of a group
//! - `service`: which mirrors are in service, for which share of the clients
//! - `limits`: the clients that a pool's mirrors take
//! - `whereabouts`: what the databases know of a client, as policies ask for it
//! - [`standing`]: what an operator and other monitors say of a mirror
//! - [`quorum`]: nodes of a fleet vote whether a target of checks is up

mod limits;
pub mod quorum;
mod service;
pub mod standing;
mod weight;
mod whereabouts;

use std::collections::HashMap;
use std::net::IpAddr;

use geodns_common::abi::{Family, MAX_MIRRORS, Order};

use crate::config::{Config, Location, Matches, Mirror, Policy, Pool, Rule};
use crate::geo::{Layer, Wanted};

use self::limits::Limits;
pub use limits::takes;
pub use service::{Health, Service, answered_by, service};
pub use weight::slots;
pub use whereabouts::Whereabouts;

/// A client, as far as policies ask where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Client<'a> {
    /// Where on the earth.
    pub location: Option<Location>,
    /// Continent, by its two letters.
    pub continent: Option<[u8; 2]>,
    /// Country, ISO 3166-1 alpha-2, upper case.
    pub country: Option<[u8; 2]>,
    /// Code and English name of the subdivisions, in lower case, the largest first.
    pub subdivisions: &'a [String],
    /// English name of the city, in lower case.
    pub city: Option<&'a str>,
    /// Number of the autonomous system.
    pub asn: Option<u32>,
    /// The prefix of it that limits name, by its value in [`Steering::limiting`].
    pub limits: Option<u16>,
}

/// How a pool puts its members in order. Pools that are equal in it, and in their prefixes, share an
/// atlas.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// Numbers below it are mirrors.
    mirrors: u8,
    groups: u8,
    /// Members where nothing is known of the client, best first: all of them.
    default: Vec<u8>,
    /// Where the members are, with [`Policy::Nearest`].
    located: Vec<Located>,
    /// Rules but those by prefix.
    rules: HashMap<Matches, Vec<u8>>,
    /// Members of a region.
    depth: usize,
    /// Masks of the members that have records, by family.
    has: [u128; 2],
    limits: Limits,
}

/// A member and where it is.
#[derive(Clone, Debug, PartialEq)]
struct Located {
    member: u8,
    /// On the unit sphere.
    at: [f64; 3],
    bias: i8,
}

/// Reason for a member's place in an order, for `explain`.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// `map set`.
    Override,
    /// A prefix list.
    Listed,
    /// A rule by this.
    Rule(Matches),
    /// Kilometres from the client, and as they count with the bias.
    Distance(f64, f64),
    /// The pool's default.
    Default,
}

impl Steering {
    /// That of a pool.
    pub fn of(pool: &Pool, mirrors: &[Mirror]) -> Self {
        let located = |member: u8| {
            let location = location(pool, mirrors, member)?;
            let of = pool.mirrors_of(member).first()?;
            Some(Located {
                member,
                at: on_sphere(location),
                bias: mirrors[pool.mirrors[usize::from(*of)]].bias,
            })
        };
        // Those by prefix are in the pool's list.
        let rules = pool.rules.iter().filter(|rule| !is_by_prefix(rule));
        let families = [Family::V4, Family::V6];
        Self {
            mirrors: pool.mirrors.len() as u8,
            groups: pool.groups.len() as u8,
            default: pool.default.clone(),
            located: if pool.policy == Policy::Nearest {
                pool.members().filter_map(located).collect()
            } else {
                Vec::new()
            },
            rules: rules
                .map(|rule| (rule.matches.clone(), rule.members.clone()))
                .collect(),
            depth: pool.depth.into(),
            has: families.map(|family| {
                let having = having(pool, mirrors, family);
                let groups = pool.groups.iter().enumerate();
                groups.fold(u128::from(having), |mask, (number, group)| {
                    let any = group.mirrors.iter().any(|&m| having >> m & 1 != 0);
                    mask | u128::from(any) << Order::group(number as u8)
                })
            }),
            limits: Limits::of(pool, mirrors),
        }
    }

    /// Whether the order depends on where a client is, beside what the layers say of its prefix.
    pub fn is_geographic(&self) -> bool {
        !self.located.is_empty() || !self.rules.is_empty() || !self.limits.is_empty()
    }

    /// A client as the steering asks for it: where it is, by all that is known, and the limits that name its address.
    pub fn client<'a>(&self, known: &'a Whereabouts, address: IpAddr) -> Client<'a> {
        let limits = self.limiting().lookup(address);
        Client {
            limits: limits.map(|(_, value)| value),
            ..known.place()
        }
    }

    /// Whether the limits of a member let it take a client.
    pub fn takes(&self, member: u8, client: &Client<'_>) -> bool {
        !refuses(self.limits.refusing(client), member)
    }

    /// The prefixes that limits name: a value is for [`Client::limits`].
    pub fn limiting(&self) -> &Layer {
        self.limits.list()
    }

    /// Whether it depends on where on the earth a client is.
    pub fn wants_location(&self) -> bool {
        !self.located.is_empty()
    }

    /// The kinds of rules that there are.
    pub fn rules(&self) -> impl Iterator<Item = &Matches> {
        self.rules.keys()
    }

    /// Items of a client's place that policy and rules ask for.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = self.limits.wanted();
        if self.wants_location() {
            wanted |= Wanted::LOCATION;
        }
        for matches in self.rules() {
            wanted |= match matches {
                Matches::Prefix(_) => Wanted::NOTHING,
                Matches::Asn(_) => Wanted::ASN,
                Matches::City { subdivision, .. } => {
                    let named = subdivision.as_ref().map(|_| Wanted::SUBDIVISION);
                    Wanted::COUNTRY | Wanted::CITY | named.unwrap_or_default()
                }
                Matches::Subdivision { .. } => Wanted::COUNTRY | Wanted::SUBDIVISION,
                Matches::Country(_) => Wanted::COUNTRY,
                Matches::Continent(_) => Wanted::CONTINENT,
            };
        }
        wanted
    }

    /// Order for a client: the override first, then what its prefix is listed with, what a rule says,
    /// the nearest, the default; [`Pool::depth`] of them, and more only where else none would have a
    /// family that the pool has.
    ///
    /// Numbers that the pool does not have are left out, and so are mirrors that do not take the client: only an
    /// override gives these.
    pub fn order(&self, place: &Client<'_>, listed: &[u8], overriding: Option<u8>) -> Order {
        self.order_without(self.limits.refusing(place), place, listed, overriding)
    }

    /// The members that limits keep out of a client's order.
    pub fn kept_out(&self, place: &Client<'_>, listed: &[u8], overriding: Option<u8>) -> Vec<u8> {
        let refusing = self.limits.refusing(place);
        let given: Vec<u8> = self.order(place, listed, overriding).iter().collect();
        let without_limits = self.order_without(0, place, listed, overriding);
        let is_kept_out = |member: &u8| refuses(refusing, *member) && !given.contains(member);
        without_limits.iter().filter(is_kept_out).collect()
    }

    fn order_without(
        &self,
        refusing: u64,
        place: &Client<'_>,
        listed: &[u8],
        overriding: Option<u8>,
    ) -> Order {
        let takes = |member: &u8| !refuses(refusing, *member);
        let mut preferred: Vec<u8> = Vec::with_capacity(self.default.len() + 8);
        preferred.extend(overriding);
        preferred.extend(listed.iter().copied().filter(takes));
        if preferred.len() < self.depth || !self.is_complete(&preferred) {
            let ruled = self.ruled(place).map_or(&[][..], |(_, members)| members);
            let nearest = self.nearest(place).into_iter().map(|(member, ..)| member);
            let rest = ruled.iter().copied().chain(nearest);
            let rest = rest.chain(self.default.iter().copied());
            preferred.extend(rest.filter(takes));
        }
        self.cut(preferred)
    }

    /// The first of an order, and what put them there.
    pub fn reasons(
        &self,
        place: &Client<'_>,
        listed: &[u8],
        overriding: Option<u8>,
    ) -> Vec<(u8, Reason)> {
        let mut reasons: Vec<(u8, Reason)> = Vec::new();
        reasons.extend(overriding.map(|member| (member, Reason::Override)));
        reasons.extend(listed.iter().map(|&member| (member, Reason::Listed)));
        if let Some((matches, members)) = self.ruled(place) {
            reasons.extend(
                members
                    .iter()
                    .map(|&member| (member, Reason::Rule(matches.clone()))),
            );
        }
        let nearest = self.nearest(place).into_iter();
        reasons
            .extend(nearest.map(|(member, far, counted)| (member, Reason::Distance(far, counted))));
        reasons.extend(self.default.iter().map(|&member| (member, Reason::Default)));
        let refusing = self.limits.refusing(place);
        reasons
            .retain(|(member, reason)| *reason == Reason::Override || !refuses(refusing, *member));
        let order: Vec<u8> = self
            .cut(reasons.iter().map(|(member, _)| *member))
            .iter()
            .collect();
        let mut seen = Vec::new();
        reasons.retain(|(member, _)| {
            let first = order.contains(member) && !seen.contains(member);
            seen.push(*member);
            first
        });
        reasons
    }

    /// Whether these have every family that the pool has.
    fn is_complete(&self, members: &[u8]) -> bool {
        let mask = members
            .iter()
            .filter(|&&member| self.knows(member))
            .fold(0, |mask, member| mask | 1u128 << member);
        self.has.iter().all(|has| *has == 0 || has & mask != 0)
    }

    fn knows(&self, member: u8) -> bool {
        match member.checked_sub(MAX_MIRRORS as u8) {
            Some(group) => group < self.groups,
            None => member < self.mirrors,
        }
    }

    fn cut(&self, preferred: impl IntoIterator<Item = u8>) -> Order {
        let mut taken: Vec<u8> = Vec::with_capacity(Order::LEN);
        for member in preferred {
            if !self.knows(member) || taken.contains(&member) {
                continue;
            }
            if taken.len() < self.depth {
                taken.push(member);
                continue;
            }
            let missing = self.has.iter().any(|has| {
                let have = |member: &u8| has >> member & 1 != 0;
                have(&member) && !taken.iter().any(have)
            });
            if missing {
                taken.push(member);
            } else if self.is_complete(&taken) {
                break;
            }
        }
        Order::pack(taken)
    }

    /// The rule for a client: by its AS, else its city, subdivision, country or continent.
    fn ruled(&self, place: &Client<'_>) -> Option<(&Matches, &[u8])> {
        if self.rules.is_empty() {
            return None;
        }
        matching(place).find_map(|matches| {
            let (matches, members) = self.rules.get_key_value(&matches)?;
            Some((matches, members.as_slice()))
        })
    }

    /// Members by their distance from a client, which counts with their bias as Route 53's
    /// geoproximity has it: km * (1 - bias / 100), or km / (1 + bias / 100) below zero.
    fn nearest(&self, place: &Client<'_>) -> Vec<(u8, f64, f64)> {
        let Some(location) = place.location else {
            return Vec::new();
        };
        let here = on_sphere(location);
        let mut members: Vec<_> = self
            .located
            .iter()
            .map(|located| {
                let cosine: f64 = here.iter().zip(located.at).map(|(a, b)| a * b).sum();
                let km = EARTH_RADIUS_KM * cosine.clamp(-1.0, 1.0).acos();
                let bias = f64::from(located.bias) / 100.0;
                let counted = if bias >= 0.0 {
                    km * (1.0 - bias)
                } else {
                    km / (1.0 + bias)
                };
                (located.member, km, counted)
            })
            .collect();
        members.sort_by(|a, b| a.2.total_cmp(&b.2));
        members
    }
}

/// Whether a mask of mirrors has a member: groups are in none.
fn refuses(mask: u64, member: u8) -> bool {
    usize::from(member) < MAX_MIRRORS && mask >> member & 1 != 0
}

/// The conditions of rules that a client at a place meets, the most specific first: its AS, else its city,
/// subdivision, country or continent.
pub fn matching<'a>(place: &'a Client<'a>) -> impl Iterator<Item = Matches> + 'a {
    let of_country = place.country.into_iter().flat_map(|country| {
        let subdivisions = || place.subdivisions.iter().cloned();
        let city = place.city.into_iter().flat_map(move |city| {
            subdivisions()
                .map(Some)
                .chain([None])
                .map(move |subdivision| Matches::City {
                    country,
                    subdivision,
                    city: city.to_owned(),
                })
        });
        let subdivision = subdivisions().map(move |subdivision| Matches::Subdivision {
            country,
            subdivision,
        });
        city.chain(subdivision).chain([Matches::Country(country)])
    });
    let by_asn = place.asn.map(Matches::Asn);
    let by_continent = place.continent.map(Matches::Continent);
    by_asn.into_iter().chain(of_country).chain(by_continent)
}

/// Mean radius (IUGG).
const EARTH_RADIUS_KM: f64 = 6371.0;

fn on_sphere(at: Location) -> [f64; 3] {
    let (lat, lon) = (at.lat.to_radians(), at.lon.to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

fn is_by_prefix(rule: &Rule) -> bool {
    matches!(rule.matches, Matches::Prefix(_))
}

/// Where a member is.
fn location(pool: &Pool, mirrors: &[Mirror], member: u8) -> Option<Location> {
    match usize::from(member).checked_sub(MAX_MIRRORS) {
        Some(group) => pool.groups.get(group)?.location,
        None => mirrors[*pool.mirrors.get(usize::from(member))?].location,
    }
}

/// Order where a region's own mirrors cannot answer: those that have records of a family and take every client, the
/// default's first.
///
/// A region knows only a few mirrors.
pub fn fallback(pool: &Pool, mirrors: &[Mirror], family: Family) -> Order {
    let has = having(pool, mirrors, family) & !pool.limited;
    let default = pool
        .default
        .iter()
        .flat_map(|&member| pool.mirrors_of(member));
    Order::pack(
        default
            .copied()
            .chain(numbers(pool))
            .filter(|&mirror| has >> mirror & 1 != 0),
    )
}

/// Mask of the pool's mirrors that have records of a family: addresses of it, or an alias.
pub fn having(pool: &Pool, mirrors: &[Mirror], family: Family) -> u64 {
    numbers(pool)
        .filter(|&number| {
            let mirror = &mirrors[pool.mirrors[number as usize]];
            mirror.cname.is_some()
                || match family {
                    Family::V4 => !mirror.v4.is_empty(),
                    Family::V6 => !mirror.v6.is_empty(),
                }
        })
        .fold(0, |mask, number| mask | 1 << number)
}

/// Mask of all mirrors of a pool.
pub fn everyone(pool: &Pool) -> u64 {
    numbers(pool).fold(0, |mask, number| mask | 1 << number)
}

/// The weight of each of a pool's mirrors, as the configuration has it.
pub fn weights(config: &Config, pool: usize) -> Vec<u32> {
    let mirrors = config.pools[pool].mirrors.iter();
    mirrors
        .map(|&mirror| config.mirrors[mirror].weight)
        .collect()
}

fn numbers(pool: &Pool) -> impl Iterator<Item = u8> {
    0..pool.mirrors.len().min(MAX_MIRRORS) as u8
}

#[cfg(test)]
mod tests;
