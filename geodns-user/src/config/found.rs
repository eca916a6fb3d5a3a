//! Faults of a file's shape, and what was taken out of the file because of them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::Error;

/// Faults of a file's shape.
#[derive(Default)]
pub(super) struct Found {
    /// One error for each.
    pub errors: Vec<Error>,
    /// Sections that something was taken out of, and their lines.
    pub holes: Vec<(String, RangeInclusive<usize>)>,
    /// Sections that were taken out whole, or of which one was.
    pub lost: BTreeSet<String>,
}

impl Found {
    /// Errors of a file that is no TOML.
    pub fn of(errors: Vec<Error>) -> Self {
        Self {
            errors,
            ..Self::default()
        }
    }

    /// Whether something was taken out of the section that has a key, where it stands in this line.
    pub fn has_hole(&self, key: &str, line: usize) -> bool {
        let section = key.split('.').next();
        let mut holes = self.holes.iter();
        holes.any(|(of, lines)| section == Some(of) && lines.contains(&line))
    }

    /// Whether a section of this name was taken out: a reference to it leads nowhere.
    pub fn has_lost(&self, section: &str) -> bool {
        self.lost.contains(section)
    }
}
