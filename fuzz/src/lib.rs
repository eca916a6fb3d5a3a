//! What the fuzz targets share: the world of `etc/`.

use std::path::Path;

use geodns::config::Config;
use geodns::serve::Identity;
use geodns::world::{Inputs, World};

/// The example world.
pub fn world() -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/geodns.toml");
    let inputs =
        Inputs::of(Config::load(&path).expect("the example is valid")).expect("and its files");
    inputs
        .compile(&inputs.layers(), 1, [1, 2])
        .expect("it compiles")
}

/// Who the slow path says it is.
pub fn identity() -> Identity {
    Identity {
        id: "fuzz".into(),
        version: "0".into(),
    }
}
