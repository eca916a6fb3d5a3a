//! Named worlds: each is a folder below `tests/worlds`, with a configuration, `geodns.toml`, and the files that it names.

use std::path::{Path, PathBuf};

use anyhow::Result;
use geodns::config::Config;
use geodns::world::{Inputs, World};

/// The folder of a world.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("worlds")
        .join(name)
}

/// A file of a world, as text.
pub fn text(name: &str, file: &str) -> String {
    let path = folder(name).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and contents of a world's files, without the configuration.
pub fn files(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(name);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.expect("a folder can be read").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let files = names.filter(|file| file != "geodns.toml");
    files
        .map(|file| (file.clone(), text(name, &file).into_bytes()))
        .collect()
}

/// A world, compiled.
pub fn compiled(name: &str) -> Result<World> {
    let inputs = Inputs::of(Config::load(&folder(name).join("geodns.toml"))?)?;
    Ok(inputs.compile(&inputs.layers(), 1, [1, 2])?)
}
