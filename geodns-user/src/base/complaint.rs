//! Errors of input files, in words that say where and what to do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// An error of an input file: where, and what to do about it. Displays as one line:
/// `etc/geodns.toml:12:11: pool.default: no mirror "xyz"; the pool has ams, iad`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The file.
    pub file: PathBuf,
    /// Line in it, from 1.
    pub line: Option<usize>,
    /// Character in the line, from 1.
    pub column: Option<usize>,
    /// Key, as `table.key`.
    pub key: Option<String>,
    /// The error and its remedy.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong with a configuration, in the order of its files. Displays as a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<Error>,
    /// More that are not shown.
    more: usize,
}

impl Errors {
    /// Errors that are shown, at the most.
    const MOST: usize = 50;

    /// Those, in order, none twice, and how many more there are.
    pub fn new(mut errors: Vec<Error>, more: usize) -> Self {
        let mut seen = HashSet::new();
        errors.retain(|error| seen.insert(error.to_string()));
        // What is wrong with a file as a whole comes last.
        let place = |error: &Error| {
            let line = error.line.unwrap_or(usize::MAX);
            (error.file.clone(), line, error.column)
        };
        errors.sort_by_cached_key(place);
        let more = more + errors.len().saturating_sub(Self::MOST);
        errors.truncate(Self::MOST);
        Self { errors, more }
    }

    /// The first of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter()
    }

    /// Number of errors beyond those that are listed.
    pub fn more(&self) -> usize {
        self.more
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self::new(vec![error], 0)
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

impl Error {
    /// A file that cannot be read.
    pub fn cannot_read(file: &Path, error: &io::Error) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: None,
            message: format!("cannot read: {error}; check the path and its permissions"),
        }
    }
}

#[cfg(test)]
impl Errors {
    /// As it displays, for tests that count lines only.
    pub fn without_columns(&self) -> String {
        let mut errors = self.clone();
        for error in &mut errors.errors {
            error.column = None;
        }
        errors.to_string()
    }
}
