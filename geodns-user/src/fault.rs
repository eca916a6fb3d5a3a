//! Faults that tests order of a daemon: the n-th thing from now on that may fail fails, or a task panics. A
//! build without debug assertions has none of this.
//!
//! The environment variable `GEODNS_FAULTS` names a file, which may come later. Its line is the order: `fail 3`
//! (the third of all [`point`]s from now on), `fail 3 NAME` (the third of this name) or `panic NAME` ([`panic_of`]).
//! What has been carried out stands there in its place: `failed NAME`, or `panicked NAME`.

use std::io;

#[cfg(debug_assertions)]
mod orders {
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock};

    use crate::base::lock::lock;

    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        let named = || std::env::var_os("GEODNS_FAULTS").map(PathBuf::from);
        FILE.get_or_init(named).as_ref()
    }

    /// Whether there may be orders.
    pub fn are_possible() -> bool {
        file().is_some()
    }

    /// Carries the order out, if it is one for `carry`, which gives what stands there next.
    pub fn take(carry: impl FnOnce(&str) -> Option<String>) -> bool {
        static ORDERS: Mutex<()> = Mutex::new(());
        let Some(file) = file() else { return false };
        let _alone = lock(&ORDERS);
        let order = std::fs::read_to_string(file).unwrap_or_default();
        let next = carry(order.trim());
        next.is_some_and(|next| std::fs::write(file, next).is_ok())
    }
}

/// Where something may fail: an error if a test has ordered it here.
#[cfg(debug_assertions)]
pub fn point(name: &str) -> io::Result<()> {
    let mut is_here = false;
    orders::take(|order| {
        let rest = order.strip_prefix("fail ")?;
        let (turn, wanted) = rest.split_once(' ').unwrap_or((rest, ""));
        if !wanted.is_empty() && wanted != name {
            return None;
        }
        let turn: u64 = turn.parse().ok()?;
        is_here = turn <= 1;
        let left = || format!("fail {} {wanted}", turn - 1).trim_end().to_owned();
        Some(match is_here {
            true => format!("failed {name}"),
            false => left(),
        })
    });
    match is_here {
        true => Err(io::Error::other(format!("{name}: a test wants it to fail"))),
        false => Ok(()),
    }
}

/// Nothing fails because a test wants it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) -> io::Result<()> {
    Ok(())
}

/// Returns when a task is to panic.
#[cfg(debug_assertions)]
pub async fn panic_of(name: &str) {
    if !orders::are_possible() {
        return std::future::pending().await;
    }
    while !panics(name) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Never returns.
#[cfg(not(debug_assertions))]
pub async fn panic_of(_: &str) {
    std::future::pending().await
}

/// Whether a thread is to panic.
#[cfg(debug_assertions)]
pub fn panics(name: &str) -> bool {
    orders::take(|order| {
        let is_it = order.strip_prefix("panic ")? == name;
        is_it.then(|| format!("panicked {name}"))
    })
}

/// No.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn panics(_: &str) -> bool {
    false
}
