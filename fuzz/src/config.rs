//! Any octets as a configuration.

use std::fs;

use geodns::config::Config;

/// No panic; a configuration, or errors, each one line that names a line of the file.
pub fn config(content: &[u8]) {
    if is_abroad(content) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("geodns.toml");
    fs::write(&path, content).expect("there is room");
    let Err(errors) = Config::load(&path) else {
        return;
    };
    assert!(errors.iter().next().is_some());
    let lines = 1 + content.iter().filter(|&&byte| byte == b'\n').count();
    for error in errors.iter() {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        let is_there = |line| (1..=lines).contains(&line) || error.file != path;
        assert!(error.line.is_none_or(is_there), "{error}");
    }
}

/// Files of this machine are no part of the input.
fn is_abroad(content: &[u8]) -> bool {
    let names_a_file = content.windows(5).any(|five| five == b"_file");
    names_a_file && content.iter().any(|byte| b"/.\\".contains(byte))
}
