//! Reads a configuration and every file that it names.

use std::path::Path;

use super::{Options, follow};
use crate::base::complaint::Errors;
use crate::config::{Config, Member, Overrides};
use crate::geo::Geography;
use crate::world::{Inputs, Warning};
use crate::zone;

/// Reads a configuration. Options of the command line go before it.
pub fn load(file: &Path, options: &Options) -> Result<Config, Errors> {
    let overrides = Overrides {
        interfaces: options.interfaces.clone(),
    };
    let config = Config::load_with(file, &overrides)?;
    config.require_interfaces()?;
    Ok(config)
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
