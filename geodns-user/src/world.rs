//! One consistent configuration in force: every query is answered from it.
//!
//! - [`by_mirror`]: answers by mirror, as the slow path counts them
//! - `warning`: warnings of likely mistakes

pub mod by_mirror;
mod warning;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use geodns_common::tables::Tables;

use crate::base::complaint::{Error, Errors};
use crate::base::lock::read;
use crate::base::name::Name;
use crate::certificate::Certificate;
use crate::config::{self, Config, Matches, Pool, ZoneFile};
use crate::geo::{Geography, Layer, Layers, PlaceId};
use crate::plan::{Input, Plan};
use crate::steering::{self, Steering, Whereabouts};
use crate::zone::{Zone, Zones};
use crate::{geo, zone};

use by_mirror::ByMirror;
pub use warning::Warning;

/// All inputs, read and valid, nothing compiled.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its zones, steered names marked.
    pub zones: Arc<Zones>,
    /// The prefix list of each pool.
    pub lists: Vec<Arc<Layer>>,
    /// GeoIP databases: the places of clients.
    pub geography: Arc<Geography>,
    /// The certificate of DNS over TLS, if there is one. Its files may have changed since.
    pub certificate: Option<Arc<Certificate>>,
}

impl Inputs {
    /// Reads a configuration and every file it names.
    pub fn read(path: &Path) -> Result<Self, Errors> {
        Self::of(Config::load(path)?)
    }

    /// Reads every file that a configuration names.
    pub fn of(config: Config) -> Result<Self, Errors> {
        Self::with(config, &std::env::temp_dir(), None, &|_| None)
    }

    /// Reads every file that a configuration names. GeoIP databases are copied into `folder`, but for those of
    /// `previous` whose files have not changed. `kept` gives the data of zones that are transferred from elsewhere.
    pub fn with(
        config: Config,
        folder: &Path,
        previous: Option<&Geography>,
        kept: &dyn Fn(&ZoneFile) -> Option<Arc<Zone>>,
    ) -> Result<Self, Errors> {
        let zones = zone::load(&config, kept)?;
        Self::with_zones(config, zones, folder, previous)
    }

    /// Reads every file but those of zones, which have been read already.
    pub fn with_zones(
        config: Config,
        zones: Zones,
        folder: &Path,
        previous: Option<&Geography>,
    ) -> Result<Self, Errors> {
        let lists = geo::load(&config);
        let certificate = config
            .tls
            .as_ref()
            .map(|tls| Certificate::read(&tls.files))
            .transpose();
        let geography = Geography::open(&config.databases, folder, previous);
        match (lists, certificate, geography) {
            (Ok(lists), Ok(certificate), Ok(geography)) => Ok(Self {
                config: Arc::new(config),
                zones: Arc::new(zones),
                lists,
                geography: Arc::new(geography),
                certificate: certificate.map(Arc::new),
            }),
            (lists, certificate, geography) => {
                let lists = lists.err();
                let more = lists.as_ref().map_or(0, Errors::more);
                let lists = lists.iter().flat_map(Errors::iter);
                let mut wrong: Vec<Error> = lists.cloned().collect();
                wrong.extend(certificate.err());
                wrong.extend(geography.err().map(|error| Error {
                    file: config.path.clone(),
                    line: config::line_of(&config.path, "geoip", "databases"),
                    column: None,
                    key: Some("geoip.databases".to_owned()),
                    message: format!("{}: {}", error.file.display(), error.message),
                }));
                Err(Errors::new(wrong, more))
            }
        }
    }

    /// Warnings of likely mistakes, a line each: policies that ask what no database knows, and zones that are more than
    /// the kernel may hold.
    pub fn warnings(&self) -> Vec<Warning> {
        let config = &self.config;
        let has = self.geography.has();
        let lacking = |pool: &Pool| {
            let lacks = Steering::of(pool, &config.mirrors).wanted().without(has);
            let lacks: Vec<_> = lacks.names().collect();
            let help = if config.databases.is_empty() {
                "there are no databases: name some in geoip.databases"
            } else {
                "no database has it: name one that does in geoip.databases"
            };
            (!lacks.is_empty()).then(|| {
                let message = format!(" asks for a client's {}, and {help}", lacks.join(", "));
                Warning::of_pool(config, pool, pool.line, None, &message)
            })
        };
        let names = self.zones.names();
        let max_names = config.kernel.max_names;
        let too_many = (names > max_names as usize).then(|| {
            let message = format!(
                "the zones have {names} names and the kernel holds {max_names}; of zones that do not fit \
                 whole, it has those that are asked most: raise it"
            );
            Warning::of_key(config, "kernel.max_names", message)
        });
        // Of those from files, the reading has said so.
        let zones = self.zones.iter().zip(&config.zones);
        let signed = zones.filter(|(zone, of)| of.file.is_none() && zone.is_signed());
        let signed = signed.map(|(zone, _)| Warning::of_zone(&zone.apex, zone::SIGNED));
        let pools = config.pools.iter().filter_map(lacking);
        pools.chain(too_many).chain(signed).collect()
    }

    /// Warnings of rules for a city, subdivision, country or AS that no database has, a line each: they are for nobody.
    /// Call this after a compile, which walks all places that rules ask for.
    pub fn unmatched(&self) -> Vec<Warning> {
        let config = &self.config;
        let has = self.geography.has();
        let mut rules: HashMap<&Matches, Vec<(&Pool, usize)>> = HashMap::new();
        for pool in &config.pools {
            let lacks = Steering::of(pool, &config.mirrors).wanted().without(has);
            // Where databases say nothing of the kind at all, that has been said.
            if !lacks.is_empty() || self.geography.databases().next().is_none() {
                continue;
            }
            for rule in &pool.rules {
                if !matches!(rule.matches, Matches::Prefix(_)) {
                    let named = rules.entry(&rule.matches).or_default();
                    named.push((pool, rule.line));
                }
            }
        }
        for id in 0..self.geography.places() {
            if rules.is_empty() {
                break;
            }
            let known = Whereabouts::of(&self.geography.place(PlaceId(id)));
            for matches in steering::matching(&known.place()) {
                rules.remove(&matches);
            }
        }
        let mut unmatched: Vec<(usize, String, &Pool)> = Vec::new();
        for (matches, named) in rules {
            for (pool, line) in named {
                let message = format!(
                    ": no database has {matches}, so the rule is for nobody; correct it, or remove it"
                );
                unmatched.push((line, message, pool));
            }
        }
        unmatched.sort_by(|(a, said, _), (b, other, _)| (a, said).cmp(&(b, other)));
        let warnings = unmatched.into_iter().map(|(line, message, pool)| {
            Warning::of_pool(config, pool, line, Some("pool.rules"), &message)
        });
        warnings.collect()
    }

    /// The layers of each pool with nothing but the configuration's lists.
    pub fn layers(&self) -> Vec<Layers> {
        let layers = |base: &Arc<Layer>| Layers {
            base: Arc::clone(base),
            ..Layers::default()
        };
        self.lists.iter().map(layers).collect()
    }

    /// Compiles a world: these inputs and the given layers of each pool.
    pub fn compile(
        &self,
        layers: &[Layers],
        generation: u64,
        hash_seed: [u64; 2],
    ) -> Result<World, Error> {
        let plan = Plan::compile(Input {
            config: &self.config,
            zones: &self.zones,
            geography: &self.geography,
            layers,
            generation,
            nsid: self.config.server.nsid().as_deref(),
            hash_seed,
        })
        .map_err(|error| Error {
            file: self.config.path.clone(),
            line: None,
            column: None,
            key: None,
            message: error.to_string(),
        })?;
        self.geography.relax();
        let ids = plan.mirror_ids();
        let by_mirror = (!ids.is_empty()).then(|| Arc::new(ByMirror::new(ids)));
        Ok(World {
            by_mirror,
            zones: ArcSwap::new(Arc::clone(&self.zones)),
            inputs: self.clone(),
            generation,
            plan: RwLock::new(plan),
        })
    }
}

/// A configuration in force. Replaced whole by a reload or an import; the plan is edited in place
/// by `map set` and `map del`, the zones one by one.
#[derive(Debug)]
pub struct World {
    /// The inputs that it was compiled from. Its zones may be older than `zones`.
    pub inputs: Inputs,
    /// The zones in force.
    pub zones: ArcSwap<Zones>,
    /// Number of the plan.
    pub generation: u64,
    /// The plan.
    pub plan: RwLock<Plan>,
    /// Answers of the slow path; `None`: they are not counted by mirror.
    pub by_mirror: Option<Arc<ByMirror>>,
}

impl World {
    /// The inputs in force, to compile anew.
    pub fn inputs_now(&self) -> Inputs {
        Inputs {
            zones: self.zones.load_full(),
            ..self.inputs.clone()
        }
    }

    /// Number of a zone of the configuration.
    pub fn zone_number(&self, apex: &Name) -> Option<usize> {
        self.zones.load().number(apex.for_slice())
    }

    /// The layers of each pool that are in force.
    pub fn layers(&self) -> Vec<Layers> {
        let plan = read(&self.plan);
        let pools = 0..self.inputs.config.pools.len();
        pools.map(|pool| plan.layers(pool).clone()).collect()
    }
}
