//! A change is durable before it is in force, and in force before its caller is told. If a step fails, nothing has
//! changed.

use crate::control::problem::Failure;

/// Keeps a change on disk and puts it in force. A `put` that fails leaves everything as it was; `back` then takes the
/// change back from the disk, with what `keep` has given.
pub fn durably<B, T>(
    what: &str,
    keep: impl FnOnce() -> Result<B, Failure>,
    put: impl FnOnce(&B) -> Result<T, Failure>,
    back: impl FnOnce(B) -> Result<(), Failure>,
) -> Result<T, Failure> {
    let before = keep()?;
    put(&before).inspect_err(|failure| {
        if let Err(error) = back(before) {
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
        let no = || Failure::Internal("no".to_owned());
        let kept = |now: &'static str| Ok(disk.replace(now));
        let back = |before| kept(before).map(drop);
        let done = durably("a change", || Err(no()), |_| Ok(1), back);
        assert!(done.is_err());
        assert_eq!(*disk.borrow(), "before");
        let done = durably("a change", || kept("after"), |_| Err::<(), _>(no()), back);
        assert!(done.is_err());
        assert_eq!(*disk.borrow(), "before");
        let done = durably("a change", || kept("after"), |_| Ok(1), back);
        assert_eq!(done.unwrap(), 1);
        assert_eq!(*disk.borrow(), "after");
    }
}
