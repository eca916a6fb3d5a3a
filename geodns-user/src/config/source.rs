//! A file's text, for turning places into lines and columns.

use std::ops::Range;
use std::path::Path;

use super::Error;

/// A file's text, for turning places into lines.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl<'a> Source<'a> {
    /// A file's text.
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path, text, ends }
    }

    /// Line of a place, from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.ends.partition_point(|&end| end < at)
    }

    /// Character of a place in its line, from 1.
    pub fn column(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        1 + before[start..].chars().count()
    }

    /// An error at a place.
    pub fn error(&self, span: Range<usize>, key: &str, message: impl Into<String>) -> Error {
        Error {
            file: self.path.to_owned(),
            line: Some(self.line(span.start)),
            column: Some(self.column(span.start)),
            key: Some(key.to_owned()),
            message: message.into(),
        }
    }
}
