//! Work that goes on for as long as it is wanted: tasks and threads that nobody waits for.
//!
//! One that panics is logged by its name, counted, and begins anew after a pause. Its state outlives it where
//! it is kept outside of the work, as an `Arc` of something locked.
//!
//! `geodns status` shows a panic, too. The pause is 100 ms, and grows to 30 s. A task's type says that it never returns
//! ([`Never`]). systemd's watchdog hears from the main loop, and only while the heartbeat beats.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, Once};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use futures_util::FutureExt;

use crate::base::lock::lock;
use crate::fault;

/// Before work begins anew: the first pause, which doubles, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// Work that went on for so long has pauses from the first one on again.
const GOOD: Duration = Duration::from_secs(60);

/// Outcome of work that never ends: there is none.
pub type Never = Infallible;

/// Work that has begun anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// Its name.
    pub name: String,
    /// How often.
    pub times: u64,
    /// Why it ended the last time.
    pub cause: String,
    /// When that was.
    pub at: SystemTime,
}

/// By name. Names are the program's own, or those of zones.
static RESTARTED: Mutex<BTreeMap<String, Restarted>> = Mutex::new(BTreeMap::new());

/// Work that has begun anew since the process started, by name.
pub fn restarted() -> Vec<Restarted> {
    let known = lock(&RESTARTED);
    known.values().cloned().collect()
}

/// Has every panic of this process logged, in a line, where others would print it.
pub fn log_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        drop(take_hook());
        set_hook(Box::new(|info| {
            let cause = info.payload_as_str().unwrap_or("no message");
            let at = info.location().map(ToString::to_string);
            let at = at.unwrap_or_default();
            let thread = thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(
                thread,
                at,
                cause,
                "thread {thread} panicked at {at}: {cause}; please report it"
            );
        }));
    });
}

/// Does this for ever; to be spawned.
pub async fn forever<F>(name: impl Into<String>, mut work: impl FnMut() -> F) -> Never
where
    F: Future<Output = Never>,
{
    let mut course = Course::new(name.into());
    loop {
        course.began = Instant::now();
        let due = fault::panic_of(&course.name);
        let once = AssertUnwindSafe(async {
            tokio::select! {
                biased;
                never = work() => match never {},
                () = due => panic!("as a test wants it"),
            }
        });
        let ended: Result<Never, _> = once.catch_unwind().await;
        let Err(panic) = ended;
        tokio::time::sleep(course.broke(&*panic)).await;
    }
}

/// Starts a thread that does this until it returns.
pub fn thread(
    name: impl Into<String>,
    mut work: impl FnMut() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let name = name.into();
    let mut course = Course::new(name.clone());
    Builder::new().name(name).spawn(move || {
        loop {
            course.began = Instant::now();
            match catch_unwind(AssertUnwindSafe(&mut work)) {
                Ok(()) => return,
                Err(panic) => thread::sleep(course.broke(&*panic)),
            }
        }
    })
}

/// How work goes.
struct Course {
    name: String,
    began: Instant,
    pause: Duration,
}

impl Course {
    fn new(name: String) -> Self {
        let [pause, _] = PAUSES;
        Self {
            name,
            began: Instant::now(),
            pause,
        }
    }

    /// Logs and counts a panic; after how long the work shall begin anew.
    fn broke(&mut self, panic: &(dyn Any + Send)) -> Duration {
        let [first, most] = PAUSES;
        if self.began.elapsed() > GOOD {
            self.pause = first;
        }
        let pause = self.pause;
        self.pause = most.min(2 * pause);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let cause = text.unwrap_or("no message").to_owned();
        let task = self.name.as_str();
        let mut known = lock(&RESTARTED);
        let times = known.get(task).map_or(0, |known| known.times) + 1;
        tracing::error!(
            task,
            cause,
            times,
            "{task} ended, it panicked: {cause}; it begins anew in {} s, for time {times}",
            pause.as_secs_f64()
        );
        let restarted = Restarted {
            name: self.name.clone(),
            times,
            cause,
            at: SystemTime::now(),
        };
        known.insert(self.name.clone(), restarted);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn of(name: &str) -> Option<Restarted> {
        restarted().into_iter().find(|known| known.name == name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_after_longer_and_longer_pauses() {
        let begun = Arc::new(AtomicU32::new(0));
        let work = {
            let begun = Arc::clone(&begun);
            move || {
                let count = begun.fetch_add(1, Ordering::Relaxed);
                async move {
                    match count {
                        0..3 => panic!("no. {count}"),
                        _ => std::future::pending().await,
                    }
                }
            }
        };
        let task = tokio::spawn(forever("a test's task", work));
        let started = tokio::time::Instant::now();
        while begun.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // 100, 200 and 400 ms.
        assert!(started.elapsed() >= Duration::from_millis(700));
        assert!(started.elapsed() < Duration::from_millis(900));
        let known = of("a test's task").unwrap();
        assert_eq!((known.times, known.cause.as_str()), (3, "no. 2"));
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[test]
    fn a_thread_that_panics_begins_anew_and_one_that_returns_is_done() {
        let mut left = 2;
        let work = move || {
            left -= 1;
            assert!(left < 1, "{left} left");
        };
        thread("a test's thread", work).unwrap().join().unwrap();
        let known = of("a test's thread").unwrap();
        assert_eq!((known.times, known.cause.as_str()), (1, "1 left"));
    }
}
