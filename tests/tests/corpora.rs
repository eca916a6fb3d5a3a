//! What the fuzzers have found, once more at their targets: each of these inputs reached code that no other
//! did, or was a fault once.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Feeds a target every input that is kept of it.
fn replay(name: &str, target: fn(&[u8])) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let folder = folder.join(name);
    let files = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut inputs = 0;
    for file in files {
        let path = file?.path();
        let input = fs::read(&path)?;
        // Says which one it is, if it is the last.
        println!("{}", path.display());
        target(&input);
        inputs += 1;
    }
    ensure!(inputs >= 50, "{}: only {inputs} inputs", folder.display());
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
fn zone_files() -> Result<()> {
    replay("zone_file", geodns_fuzz::zone_file::zone_file)
}

#[test]
fn transfers() -> Result<()> {
    replay("transfer", geodns_fuzz::transfer::transfer)
}
