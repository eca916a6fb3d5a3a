//! Errors in a zone file, and warnings about likely mistakes, each with its place.

use std::path::{Path, PathBuf};

use crate::base::complaint::Error;

/// Errors, and warnings, that are kept of one zone; of the others only the number.
const MAX_KEPT: usize = 1000;

/// Everything that was found in a zone file and in those that it includes.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Why the zone is not used; in the order of the files and their lines.
    pub errors: Vec<Error>,
    /// Errors beyond those.
    pub more_errors: usize,
    /// Warnings about likely mistakes, in the same order.
    pub warnings: Vec<Error>,
    /// Warnings beyond those.
    pub more_warnings: usize,
}

impl Findings {
    /// All that it takes to refuse a zone for one reason.
    pub fn of(error: Error) -> Self {
        Self {
            errors: vec![error],
            ..Self::default()
        }
    }

    /// The first error, and how many there are beside it.
    pub fn refusal(&self) -> Option<Error> {
        let mut first = self.errors.first()?.clone();
        let others = self.errors.len() - 1 + self.more_errors;
        if others > 0 {
            let problems = if others == 1 { "problem" } else { "problems" };
            first.message += &format!(" (and {others} more {problems}; geodns check shows all)");
        }
        Some(first)
    }
}

/// A line of one of the files; 0: the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct At {
    pub file: u16,
    pub line: u32,
}

/// Findings while they come in.
pub(super) struct Problems {
    /// The zone file, and the included ones in the order of their first lines.
    files: Vec<PathBuf>,
    errors: List,
    warnings: List,
}

#[derive(Default)]
struct List {
    kept: Vec<(At, Option<String>, String)>,
    more: usize,
}

impl List {
    fn add(&mut self, at: At, key: Option<String>, message: String) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push((at, key, message));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self, files: &[PathBuf]) -> (Vec<Error>, usize) {
        // What is said of a file as a whole comes behind what is said of its lines.
        self.kept
            .sort_by_key(|(at, ..)| (at.file, at.line == 0, at.line));
        let errors = self.kept.into_iter().map(|(at, key, message)| Error {
            file: files[usize::from(at.file)].clone(),
            line: (at.line > 0).then_some(at.line as usize),
            column: None,
            key,
            message,
        });
        (errors.collect(), self.more)
    }
}

impl Problems {
    pub fn new(file: &Path) -> Self {
        Self {
            files: vec![file.to_owned()],
            errors: List::default(),
            warnings: List::default(),
        }
    }

    /// The number of a further file; `None` if there are too many.
    pub fn file(&mut self, file: &Path) -> Option<u16> {
        let number = u16::try_from(self.files.len()).ok()?;
        self.files.push(file.to_owned());
        Some(number)
    }

    pub fn path(&self, file: u16) -> &Path {
        &self.files[usize::from(file)]
    }

    pub fn error(&mut self, at: At, key: Option<String>, message: impl Into<String>) {
        self.errors.add(at, key, message.into());
    }

    pub fn warning(&mut self, at: At, key: Option<String>, message: impl Into<String>) {
        self.warnings.add(at, key, message.into());
    }

    pub fn has_errors(&self) -> bool {
        !self.errors.kept.is_empty()
    }

    pub fn finish(self) -> Findings {
        let (errors, more_errors) = self.errors.finish(&self.files);
        let (warnings, more_warnings) = self.warnings.finish(&self.files);
        Findings {
            errors,
            more_errors,
            warnings,
            more_warnings,
        }
    }
}
