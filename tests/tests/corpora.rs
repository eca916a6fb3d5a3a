//! Inputs that the fuzzers have found, once more at their targets: each of them reached code that no other
//! did, or was a fault once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use tar::Archive;

/// Feeds a target every input that is kept of it.
fn replay(name: &str, target: fn(&[u8])) -> Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let seeds = seeds.join(name).with_extension("tar.gz");
    let file = File::open(&seeds).with_context(|| format!("{}", seeds.display()))?;
    let mut inputs = 0;
    for entry in Archive::new(GzDecoder::new(file)).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut input = Vec::new();
        entry.read_to_end(&mut input)?;
        // The last line names the input that failed.
        println!("{}", entry.path()?.display());
        target(&input);
        inputs += 1;
    }
    ensure!(inputs >= 50, "{}: only {inputs} inputs", seeds.display());
    Ok(())
}

#[test]
fn queries_at_the_slow_path() -> Result<()> {
    replay("respond", geodns_fuzz::respond::respond)
}

#[test]
fn queries_at_both_paths() -> Result<()> {
    replay("answer", geodns_fuzz::answer::answer)
}

#[test]
fn configurations() -> Result<()> {
    replay("config", geodns_fuzz::config::config)
}

#[test]
fn zone_files() -> Result<()> {
    replay("zone_file", geodns_fuzz::zone_file::zone_file)
}

#[test]
fn transfers() -> Result<()> {
    replay("transfer", geodns_fuzz::transfer::transfer)
}
