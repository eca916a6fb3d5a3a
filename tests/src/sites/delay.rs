//! A wire that takes its time: some kernels have no netem.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::net::{Space, join};
use crate::tap::Tap;

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// A wire between two namespaces. Dropping it cuts it.
#[derive(Debug)]
pub struct SlowWire {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _space: Space,
}

impl SlowWire {
    /// Joins two namespaces, as [`join`] does. A frame is on the way for this long.
    pub fn new(
        (a, a_interface): (&Space, &str),
        (b, b_interface): (&Space, &str),
        delay: Duration,
    ) -> Result<Self> {
        let space = Space::new("wire")?;
        space.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        join(a, a_interface, &space, "near")?;
        join(&space, "far", b, b_interface)?;
        let over = Arc::new(AtomicBool::new(false));
        let taps = [Tap::new(&space, "near")?, Tap::new(&space, "far")?].map(Arc::new);
        let mut threads = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let (sender, frames) = mpsc::channel::<(Instant, Vec<u8>)>();
            let (from, to) = (Arc::clone(&taps[from]), Arc::clone(&taps[to]));
            let over = Arc::clone(&over);
            threads.push(std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(Some(frame)) = from.receive(LOOK, |_| true) {
                        // Without the other thread it is over.
                        let _ = sender.send((Instant::now() + delay, frame));
                    }
                }
            }));
            threads.push(std::thread::spawn(move || {
                for (due, frame) in frames {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    // An interface that is down loses frames.
                    let _ = to.send(&frame);
                }
            }));
        }
        Ok(Self {
            over,
            threads,
            _space: space,
        })
    }
}

impl Drop for SlowWire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
