//! Reads a configuration and every file that it names.

use std::path::Path;

use super::{Options, follow};
use crate::base::complaint::Errors;
use crate::config::{Config, Member, Overrides};
use crate::geo::Geography;
use crate::world::{Inputs, Warning};
use crate::zone;

/// Reads a configuration, under what the command line says.
pub fn load(file: &Path, options: &Options) -> Result<Config, Errors> {
    let overrides = Overrides {
        interfaces: options.interfaces.clone(),
    };
    let config = Config::load_with(file, &overrides)?;
    config.require_interfaces()?;
    Ok(config)
}

/// Reads every file that a configuration names, with these members of its catalogs; of zones that come from
/// elsewhere, `kept` has what there is.
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

/// Logs what is legal and yet hardly meant.
pub fn warn_of(inputs: &Inputs) {
    inputs.warnings().iter().for_each(Warning::log);
}
