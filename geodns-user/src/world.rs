//! One consistent configuration in force: what every query is answered from.

use std::path::Path;
use std::sync::{Arc, RwLock};

use crate::config::{Config, Error};
use crate::geo::{Layer, Layers};
use crate::plan::{Input, Plan};
use crate::zone::Zones;
use crate::{geo, zone};

/// All inputs, read and valid, nothing compiled.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its zones, steered names marked.
    pub zones: Arc<Zones>,
    /// The prefix list of each pool.
    pub lists: Vec<Arc<Layer>>,
}

impl Inputs {
    /// Reads a configuration and every file it names.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::of(Config::load(path)?)
    }

    /// Reads every file that a configuration names.
    pub fn of(config: Config) -> Result<Self, Error> {
        let zones = zone::load(&config)?;
        let lists = geo::load(&config)?;
        Ok(Self {
            config: Arc::new(config),
            zones: Arc::new(zones),
            lists,
        })
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
        hash_key: [u64; 2],
    ) -> Result<World, Error> {
        let plan = Plan::compile(Input {
            config: &self.config,
            zones: &self.zones,
            layers,
            generation,
            hash_key,
        })
        .map_err(|error| Error {
            file: self.config.path.clone(),
            line: None,
            key: None,
            message: error.to_string(),
        })?;
        Ok(World {
            inputs: self.clone(),
            generation,
            plan: RwLock::new(plan),
        })
    }
}

/// A configuration in force. Replaced whole by a reload or an import; the plan is edited in place
/// by `map set` and `map del`.
#[derive(Debug)]
pub struct World {
    /// What it was compiled from.
    pub inputs: Inputs,
    /// Number of the plan.
    pub generation: u64,
    /// The plan.
    pub plan: RwLock<Plan>,
}
