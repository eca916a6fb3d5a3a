//! The mirrors that a visitor is shown, from the plan that answers DNS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use geodns_common::abi::Family;

use super::Daemon;
use crate::base::clock::now_unix_ms;
use crate::base::lock::{lock, read};
use crate::config::{Config, Location, Public};
use crate::control::mirror::Mirror;
use crate::public::{self, Listed, Settings, Visit};
use crate::steering::{self, Whereabouts};

/// Time that states of mirrors are shown for, before they are read again.
const KEEP: Duration = Duration::from_secs(1);

/// The pages for visitors.
pub struct Visitors {
    router: Router,
    daemon: Arc<OnceLock<Weak<Daemon>>>,
}

impl Visitors {
    /// The state of a start.
    pub fn new() -> Self {
        let daemon: Arc<OnceLock<Weak<Daemon>>> = Arc::default();
        let source = Mirrors {
            daemon: Arc::clone(&daemon),
            known: Mutex::default(),
        };
        Self {
            router: public::router(Arc::new(source)),
            daemon,
        }
    }

    /// The pages.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
}

impl Daemon {
    /// Begins to show pages to visitors.
    pub fn start_visitors(self: &Arc<Self>) {
        let _ = self.visitors.daemon.set(Arc::downgrade(self));
    }
}

/// The mirrors as they are, for the pages.
struct Mirrors {
    daemon: Arc<OnceLock<Weak<Daemon>>>,
    known: Mutex<Option<Arc<Known>>>,
}

/// What is the same for all visitors, for a moment.
struct Known {
    read: Instant,
    generation: u64,
    /// States, by the mirror's number in the configuration.
    mirrors: Vec<Mirror>,
    /// Names that lead to one mirror alone.
    names: HashMap<usize, String>,
}

impl Mirrors {
    fn daemon(&self) -> Option<Arc<Daemon>> {
        self.daemon.get().and_then(Weak::upgrade)
    }

    fn known(
        &self,
        daemon: &Daemon,
        config: &Config,
        public: &Public,
        generation: u64,
    ) -> Arc<Known> {
        let mut known = lock(&self.known);
        if let Some(known) = &*known
            && known.generation == generation
            && known.read.elapsed() < KEEP
        {
            return Arc::clone(known);
        }
        let named = config.steers.iter().filter_map(|steer| {
            let pool = &config.pools[steer.pool];
            let mirror = pool
                .of
                .filter(|of| *of == public.pool)
                .and(pool.mirrors.first())?;
            Some((*mirror, steer.name.to_string()))
        });
        let fresh = Arc::new(Known {
            read: Instant::now(),
            generation,
            mirrors: daemon.mirrors(),
            names: named.collect(),
        });
        *known = Some(Arc::clone(&fresh));
        fresh
    }
}

impl public::Source for Mirrors {
    fn settings(&self) -> Option<Settings> {
        let world = self.daemon()?.world.load_full();
        let public = world.inputs.config.public.as_ref()?;
        Some(Settings {
            trusted_proxies: public.trusted_proxies.as_slice().into(),
            rate: public.rate,
        })
    }

    fn visit(&self, client: IpAddr) -> Option<Visit> {
        let daemon = self.daemon()?;
        let world = daemon.world.load_full();
        let config = &world.inputs.config;
        let public = config.public.as_ref()?;
        let known = self.known(&daemon, config, public, world.generation);
        let plan = read(&world.plan);
        let families = match client {
            IpAddr::V4(_) => [Family::V4, Family::V6],
            IpAddr::V6(_) => [Family::V6, Family::V4],
        };
        let ranked = families.map(|family| plan.rank(public.pool, family, client));
        let [first, other] = &ranked;
        let ranked = if first.mirrors.is_empty() {
            other
        } else {
            first
        };
        let pool = &config.pools[ranked.pool];
        let counted = plan.counted(ranked.pool, client);
        let place = plan.geography().lookup(counted).place;
        drop(plan);
        let whereabouts = Whereabouts::of(&place);
        let here = place.location.map(|at| Location {
            lat: at.latitude(),
            lon: at.longitude(),
        });
        let listed = |&number: &u8| {
            let index = pool.mirrors[usize::from(number)];
            let (of, now) = (&config.mirrors[index], known.mirrors.get(index));
            let is_ranked = ranked.mirrors.contains(&number);
            let traces = now.into_iter().flat_map(|now| &now.checks);
            Listed {
                id: of.id.clone(),
                name: known.names.get(&index).cloned(),
                url: of.profile.url.clone(),
                sponsor: of.profile.sponsor.clone(),
                country: of
                    .profile
                    .country
                    .map(|code| String::from_utf8_lossy(&code).into_owned()),
                bandwidth: of.profile.bandwidth,
                in_service: is_ranked || now.is_some_and(|now| now.in_service),
                takes_visitor: is_ranked
                    || steering::takes(&of.limits, &whereabouts.place(), counted),
                distance_km: here
                    .zip(of.location)
                    .map(|(here, there)| here.distance(there)),
                trace_unix_ms: traces.filter_map(|check| check.trace_unix_ms).min(),
            }
        };
        let mut mirrors: Vec<Listed> = ranked.mirrors.iter().map(listed).collect();
        let numbers = 0..pool.mirrors.len() as u8;
        let rest = numbers.filter(|number| !ranked.mirrors.contains(number));
        let mut rest: Vec<Listed> = rest.map(|number| listed(&number)).collect();
        rest.sort_by(|a, b| {
            let place = |one: &Listed| {
                let is_of_use = one.in_service && one.takes_visitor;
                (!is_of_use, one.distance_km.unwrap_or(f64::INFINITY))
            };
            place(a)
                .partial_cmp(&place(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        mirrors.append(&mut rest);
        Some(Visit {
            client,
            country: place
                .country
                .map(|code| String::from_utf8_lossy(&code.bytes()).into_owned()),
            pool: pool.id.clone(),
            now_unix_ms: now_unix_ms(),
            mirrors,
        })
    }
}
