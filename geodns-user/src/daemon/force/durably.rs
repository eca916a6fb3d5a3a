//! A change is durable before it is in force, and in force before its caller is told. If a step fails, nothing has
//! changed.

use crate::control::problem::Failure;

/// Keeps a change on disk and puts it in force. A `put` that fails leaves everything as it was; `back` then takes the
/// change back from the disk.
pub fn durably<T>(
    what: &str,
    keep: impl FnOnce() -> Result<(), Failure>,
    put: impl FnOnce() -> Result<T, Failure>,
    back: impl FnOnce() -> Result<(), Failure>,
) -> Result<T, Failure> {
    keep()?;
    put().inspect_err(|failure| {
        if let Err(error) = back() {
            tracing::error!(
                "{what}: it failed ({failure}), and could not be taken back from the disk: {error}; what was \
                 refused will be in force after a restart"
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn whatever_fails_nothing_has_changed() {
        let disk = RefCell::new("before");
        let fails = || Err(Failure::Internal("no".to_owned()));
        let kept = |now: &'static str| {
            disk.replace(now);
            Ok(())
        };
        let done = durably("a change", fails, || Ok(1), || kept("before"));
        assert!(done.is_err());
        assert_eq!(*disk.borrow(), "before");
        let done = durably::<()>("a change", || kept("after"), fails, || kept("before"));
        assert!(done.is_err());
        assert_eq!(*disk.borrow(), "before");
        let done = durably("a change", || kept("after"), || Ok(1), || kept("before"));
        assert_eq!(done.unwrap(), 1);
        assert_eq!(*disk.borrow(), "after");
    }
}
