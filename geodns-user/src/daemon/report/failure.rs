//! The last failure that is not over, as the status shows it.

use std::sync::Mutex;

use crate::base::lock::lock;

/// The last failure that is not over, in a line.
#[derive(Debug, Default)]
pub struct LastFailure(Mutex<Option<String>>);

impl LastFailure {
    /// The line, if there is one.
    pub fn line(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    /// Puts this in the place of the line before.
    pub fn set(&self, line: Option<String>) {
        *lock(&self.0) = line;
    }

    /// Has the status say this. `said` remembers it for [`LastFailure::forgive`].
    pub fn complain(&self, said: &mut Option<String>, line: String) {
        self.set(Some(line.clone()));
        *said = Some(line);
    }

    /// Takes the line of a failure back that is over, unless another line has taken its place.
    pub fn forgive(&self, said: &mut Option<String>) {
        if let Some(line) = said.take() {
            lock(&self.0).take_if(|last| *last == line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_failure_that_is_over_is_forgiven() {
        let last = LastFailure::default();
        let (mut one, mut other) = (None, None);
        last.complain(&mut one, "one".to_owned());
        last.complain(&mut other, "other".to_owned());
        last.forgive(&mut one);
        assert_eq!(last.line().as_deref(), Some("other"));
        last.forgive(&mut other);
        assert_eq!((last.line(), other), (None, None));
    }
}
