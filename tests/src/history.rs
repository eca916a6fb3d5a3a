//! Histories of what several callers did to one value: whether an order of all of it explains what they saw.

use std::collections::HashSet;

/// An operation on a value. Times are any numbers that grow.
#[derive(Clone, Debug)]
pub struct Access {
    /// When its caller began.
    pub begun: usize,
    /// When its caller had the outcome; [`NEVER`]: nobody knows whether it was done.
    pub ended: usize,
    /// What it was.
    pub how: How,
}

/// No time.
pub const NEVER: usize = usize::MAX;

/// What an operation was, with the value. `None`: there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It put the value.
    Writes(Option<String>),
    /// It saw the value.
    Reads(Option<String>),
}

/// The most operations that can be judged.
pub const MOST: usize = 128;

/// Whether there is an order of all operations in which each read gives the write before it, and that keeps to the
/// times of their callers (Wing and Gong). The value is `None` at first. Operations that never ended may be in it or
/// not.
pub fn is_linearizable(all: &[Access]) -> bool {
    assert!(all.len() <= MOST, "{} operations", all.len());
    let known = all
        .iter()
        .enumerate()
        .filter(|(_, access)| access.ended < NEVER);
    let must: u128 = known.map(|(at, _)| 1 << at).sum();
    let mut seen: HashSet<(u128, Option<&str>)> = HashSet::new();
    let mut to_do = vec![(0_u128, None::<&str>)];
    while let Some((done, now)) = to_do.pop() {
        if done & must == must {
            return true;
        }
        if !seen.insert((done, now)) {
            continue;
        }
        let open = || {
            all.iter()
                .enumerate()
                .filter(|(at, _)| done & (1 << at) == 0)
        };
        // Nothing comes before something that ended before it began.
        let first_end = open().map(|(_, access)| access.ended).min().unwrap_or(0);
        for (at, access) in open().filter(|(_, access)| access.begun < first_end) {
            match &access.how {
                How::Writes(value) => to_do.push((done | 1 << at, value.as_deref())),
                How::Reads(read) if read.as_deref() == now => to_do.push((done | 1 << at, now)),
                How::Reads(_) => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(begun: usize, ended: usize, how: How) -> Access {
        Access { begun, ended, how }
    }

    #[test]
    fn a_lost_write_and_a_stale_read_are_found() {
        let value = |text: &str| Some(text.to_owned());
        let write = |begun, ended, text| access(begun, ended, How::Writes(value(text)));
        let read = |begun, ended, text| access(begun, ended, How::Reads(text));
        assert!(is_linearizable(&[write(1, 2, "a"), read(3, 4, value("a"))]));
        assert!(!is_linearizable(&[write(1, 2, "a"), read(3, 4, None)]));
        // At the same time: either.
        for seen in [None, value("a")] {
            assert!(is_linearizable(&[write(1, 4, "a"), read(2, 3, seen)]));
        }
        // Nobody knows of it: never, or late.
        let both = [
            write(1, NEVER, "a"),
            read(2, 3, None),
            read(4, 5, value("a")),
        ];
        assert!(is_linearizable(&both));
        let back = [both[0].clone(), read(2, 3, value("a")), read(4, 5, None)];
        assert!(!is_linearizable(&back));
    }
}
