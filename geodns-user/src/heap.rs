//! The heap of this process: what has been freed goes back to the system.
//!
//! A plan, and what it is compiled from, are made beside those in force, so that the heap grows to twice what it
//! needs; and each thread that compiles one would do so in an arena of its own. glibc keeps all of that unless it
//! is told not to.

/// Before there are threads: all of them share one arena. The slow path allocates nothing while it answers
/// queries, so that nobody waits for it there.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers.
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } == 0 {
        tracing::debug!("the number of arenas stays as it is");
    }
}

/// Gives back what has been freed: pages with nothing in them, wherever they are.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and waits for whoever allocates.
    unsafe {
        libc::malloc_trim(0);
    }
}
