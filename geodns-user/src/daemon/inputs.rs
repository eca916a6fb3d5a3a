//! Reads a configuration and every file that it names.

use std::path::{Path, PathBuf};

use super::{Options, follow};
use crate::base::complaint::{Error, Errors};
use crate::config::{Config, Member, Overrides};
use crate::fleet::kept::KeptBundles;
use crate::geo::Geography;
use crate::world::{Inputs, Warning};
use crate::zone;

/// Reads a configuration. Options of the command line go before it.
pub fn load(file: &Path, options: &Options) -> Result<Config, Errors> {
    load_with(file, options, None)
}

/// Reads the configuration that this node runs: its own file, or the bundle that its fleet has given it.
pub fn load_running(options: &Options) -> Result<Config, Errors> {
    let own = load(&options.config, options)?;
    if own.fleet.is_none() {
        return Ok(own);
    }
    let kept = KeptBundles::beside(&own.state);
    let local = kept
        .local()
        .map_err(|error| Error::cannot_read(&own.state.with_file_name("bundles"), &error))?;
    match local.running {
        Some(id) => load_bundle(&kept.config(&id), options),
        None => Ok(own),
    }
}

/// Reads the configuration of a bundle, with the sections of the node's own file.
pub fn load_bundle(file: &Path, options: &Options) -> Result<Config, Errors> {
    load_with(file, options, Some(options.config.clone()))
}

fn load_with(file: &Path, options: &Options, node: Option<PathBuf>) -> Result<Config, Errors> {
    let overrides = Overrides {
        interfaces: options.interfaces.clone(),
        node,
    };
    let config = Config::load_with(file, &overrides)?;
    config.require_interfaces()?;
    Ok(config)
}

/// Goes back to what ran before a bundle that was on trial when the daemon ended.
pub fn end_trial(options: &Options) -> Result<(), Errors> {
    let own = load(&options.config, options)?;
    if own.fleet.is_none() {
        return Ok(());
    }
    let kept = KeptBundles::beside(&own.state);
    let folder = own.state.with_file_name("bundles");
    let cannot = |error: std::io::Error| Error::cannot_read(&folder, &error);
    let mut local = kept.local().map_err(cannot)?;
    let Some(bundle) = local.running.clone().filter(|_| local.trial.is_some()) else {
        return Ok(());
    };
    local.go_back(true);
    kept.save(&local).map_err(cannot)?;
    tracing::error!(
        bundle,
        "fleet: the daemon ended while bundle {bundle} was on trial: this node runs {} again",
        local.running.as_deref().unwrap_or("its own file")
    );
    Ok(())
}

/// Reads every file that a configuration names, with these members of its catalogs. `kept` gives the data of zones that
/// come from elsewhere.
///
/// GeoIP databases of `previous` whose files have not changed are not read again.
pub fn read(
    mut config: Config,
    members: &[Member],
    previous: Option<&Geography>,
    kept: zone::Kept<'_>,
) -> Result<Inputs, Errors> {
    config.set_members(members);
    let folder = follow::folder(&config);
    Inputs::with(config, &folder, previous, kept)
}

/// Logs warnings: whatever is valid and most likely a mistake.
pub fn warn_of(inputs: &Inputs) {
    inputs.warnings().iter().for_each(Warning::log);
}
