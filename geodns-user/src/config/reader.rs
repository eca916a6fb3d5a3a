//! Reads the values of a file, and keeps what is wrong with them.
//!
//! Each section adds its own part to [`Reader`]. An error is kept where it is found, and whoever asked for the value
//! gets [`Said`] in its place: there is no value, and why has been said. So a section reads all of its values first,
//! and only then asks which of them it has. What follows from something that [`shape`](super::shape) has taken out is
//! no error of its own.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use super::Error;
use super::found::Found;
use super::source::Source;

/// A file that is read.
pub(super) struct Reader<'a> {
    pub source: &'a Source<'a>,
    /// The parts that have been taken out of it.
    pub found: &'a Found,
    /// Relative paths start here.
    pub folder: &'a Path,
    /// The octet from which on the text is the node's own file, and where its relative paths start.
    pub own: (usize, &'a Path),
    /// The errors so far.
    pub errors: RefCell<Vec<Error>>,
}

/// There is no value, and the reason has been said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said;

/// A value, unless something is wrong with it.
pub(super) type Judged<T> = Result<T, Said>;

/// All of a list, each judged, whatever is wrong with those before it.
pub(super) fn all<T>(judged: impl Iterator<Item = Judged<T>>) -> Judged<Vec<T>> {
    let judged: Vec<Judged<T>> = judged.collect();
    judged.into_iter().collect()
}

impl Reader<'_> {
    /// A value that is wrong.
    pub(super) fn error<T>(
        &self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
    ) -> Judged<T> {
        Err(self.complain(span, key, message))
    }

    /// Says what is wrong with a value.
    pub(super) fn complain(
        &self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
    ) -> Said {
        self.say(self.source.error(span, key, message))
    }

    /// Says which keys of a section do not go together, or which one is missing: unless one was there and had
    /// the wrong shape.
    pub(super) fn misfit(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> Said {
        match self.has_hole(key, &span) {
            true => Said,
            false => self.complain(span, key, message),
        }
    }

    /// Whether something with the wrong shape was taken out of the section that a key is in.
    pub(super) fn has_hole(&self, key: &str, span: &Range<usize>) -> bool {
        self.found.has_hole(key, self.source.line(span.start))
    }

    /// Says that a name is in none of these sections: unless one of them had the wrong shape.
    pub(super) fn unknown(
        &self,
        span: Range<usize>,
        key: &str,
        sections: &[&str],
        message: impl Into<String>,
    ) -> Said {
        match sections.iter().any(|section| self.found.has_lost(section)) {
            true => Said,
            false => self.complain(span, key, message),
        }
    }

    /// Says what is wrong with a number of sections, which is nowhere in the file.
    pub(super) fn miscounted(&self, section: &str, message: impl Into<String>) -> Said {
        if self.found.has_lost(section) {
            return Said;
        }
        self.say(Error {
            file: self.source.path.to_owned(),
            line: None,
            column: None,
            key: Some(section.to_owned()),
            message: message.into(),
        })
    }

    /// Says it.
    pub(super) fn say(&self, error: Error) -> Said {
        self.errors.borrow_mut().push(error);
        Said
    }
}

#[cfg(test)]
mod tests;
