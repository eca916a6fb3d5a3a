//! CPUs: which thread runs where, before whom, and how long a CPU was idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Runs a function on one CPU, and with it every process that it starts.
pub fn on_cpu<T>(cpu: usize, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(this, &set)?;
    let done = f();
    sched_setaffinity(this, &before)?;
    done
}

/// Runs a function before whatever else the machine does that has no priority of its own, and with it every
/// process that it starts: as a real-time thread. Of two of them, the one with more `priority` is first.
pub fn first<T>(priority: i32, f: impl FnOnce() -> Result<T>) -> Result<T> {
    schedule(0, libc::SCHED_RR, priority)?;
    let done = f();
    schedule(0, libc::SCHED_OTHER, 0)?;
    done
}

/// Keeps a CPU from halting while it has nothing to do, as long as this is there: a virtual one takes longer to wake
/// than a veth's ring lasts in a flood. Whatever else there is to run comes first.
pub struct Awake {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Awake {
    /// Keeps this one awake.
    pub fn keep(cpu: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            pin(0, cpu)?;
            schedule(0, libc::SCHED_IDLE, 0)?;
            while !seen.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            Ok(())
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !matches!(ended, Some(Ok(Ok(())))) && !std::thread::panicking() {
            eprintln!("bench: a CPU was not kept awake");
        }
    }
}

/// Sets how a thread is scheduled; 0: this one.
pub fn schedule(thread: i32, policy: i32, priority: i32) -> Result<()> {
    let priority = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: a bare system call; the pointer is good for its time.
    let done = unsafe { libc::sched_setscheduler(thread, policy, &priority) };
    nix::errno::Errno::result(done)
        .context("cannot set a real-time priority")
        .map(drop)
}

/// How long the last CPU has been idle, to 10 ms.
pub fn idle_of_last_cpu() -> Result<Duration> {
    let last = format!("cpu{} ", last_cpu()?);
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix(&last));
    // user, nice, system, idle, iowait
    let ticks = line
        .context("no last CPU in /proc/stat")?
        .split_whitespace();
    let idle = ticks.skip(3).take(2).map(str::parse::<u64>);
    let idle: u64 = idle.sum::<Result<u64, _>>()?;
    // USER_HZ is 100 everywhere.
    Ok(Duration::from_millis(10 * idle))
}

/// The machine's last CPU.
pub fn last_cpu() -> Result<usize> {
    // Not `available_parallelism`, which knows only those that this thread may run on.
    let cpus = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)?;
    Ok(usize::try_from(cpus.context("no CPU")? - 1)?)
}

/// Keeps a thread on one CPU; 0: this thread.
pub fn pin(thread: i32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(thread), &set)?;
    Ok(())
}
