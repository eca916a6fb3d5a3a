//! Faults that tests order of a daemon: the n-th thing from now on that may fail fails, waits or ends the daemon, or a
//! task panics. A build without debug assertions has none of this.
//!
//! The environment variable `GEODNS_FAULTS` names a file, which may come later. Its line is the order: `fail 3`
//! (the third of all [`point`]s from now on), `fail 3 NAME` (the third of this name), `kill 1 NAME` (the daemon ends there
//! as by SIGKILL), `hold 1 NAME` (it waits there until the file says something else), or `panic NAME` ([`panic_of`]).
//! The file then says what has been carried out: `failed NAME`, `killed NAME`, `held NAME` or `panicked NAME`.

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

    /// The order, or what has become of it.
    pub fn read() -> String {
        let order = file().and_then(|file| std::fs::read_to_string(file).ok());
        order.unwrap_or_default().trim().to_owned()
    }

    /// Carries the order out, if it is one for `carry`, which gives what stands there next.
    pub fn take(carry: impl FnOnce(&str) -> Option<String>) -> bool {
        static ORDERS: Mutex<()> = Mutex::new(());
        let Some(file) = file() else { return false };
        let _alone = lock(&ORDERS);
        let next = carry(&read());
        next.is_some_and(|next| std::fs::write(file, next).is_ok())
    }
}

/// Where something may fail: an error if a test has ordered it here.
#[cfg(debug_assertions)]
pub fn point(name: &str) -> io::Result<()> {
    const ORDERS: [(&str, &str); 3] = [("fail", "failed"), ("kill", "killed"), ("hold", "held")];
    let mut done = None;
    orders::take(|order| {
        let (word, rest) = order.split_once(' ')?;
        let (_, carried_out) = ORDERS.into_iter().find(|(order, _)| *order == word)?;
        let (turn, wanted) = rest.split_once(' ').unwrap_or((rest, ""));
        if !wanted.is_empty() && wanted != name {
            return None;
        }
        let turn: u64 = turn.parse().ok()?;
        if turn > 1 {
            return Some(
                format!("{word} {} {wanted}", turn - 1)
                    .trim_end()
                    .to_owned(),
            );
        }
        done = Some(carried_out);
        Some(format!("{carried_out} {name}"))
    });
    match done {
        Some("failed") => Err(io::Error::other(format!("{name}: a test wants it to fail"))),
        Some("killed") => {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            Ok(())
        }
        Some(held) => {
            let held = format!("{held} {name}");
            while orders::read() == held {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Ok(())
        }
        None => Ok(()),
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
