//! Interfaces, and the process.

use std::fs;
use std::sync::OnceLock;

use crate::config::Config;
use crate::daemon::Daemon;
use crate::metrics::{Family, Snapshot};

impl Daemon {
    /// Interfaces of the configuration, and what the program takes of the kernel.
    pub(super) fn add_interfaces(&self, snapshot: &mut Snapshot, config: &Config) {
        let Some(kernel) = self.lock_kernel() else {
            return;
        };
        snapshot.put(Family::KernelMemory, kernel.instance().memory());
        let attached = kernel.attached();
        for interface in &config.kernel.interfaces {
            let at = attached.iter().find(|at| at.name == *interface);
            let mode = at.map_or("none", |at| at.mode());
            let labels = [&**interface, mode];
            snapshot.put_words(Family::InterfaceAttached, labels, at.is_some());
        }
        drop(kernel);
        let stats = self.interface_stats();
        let stats = stats.inspect_err(|error| tracing::debug!(%error, "metrics of interfaces"));
        for of in stats.unwrap_or_default() {
            let interface = of.interfaces.join(",");
            let interface = interface.as_str();
            snapshot.put_words(Family::InterfaceBlind, [interface], of.blind);
            for (fate, packets) in of.kernel {
                snapshot.put_words(Family::InterfacePackets, [interface, &fate], packets);
            }
            snapshot.put_words(Family::InterfaceSlow, [interface], of.slow);
            if let Some(dropped) = of.dropped_by_driver {
                snapshot.put_words(Family::DriverDrops, [interface], dropped);
            }
        }
    }
}

/// The process, as other programs show theirs to Prometheus. What `/proc` does not have is left out.
pub fn add_process(snapshot: &mut Snapshot) {
    // The name of the program, in parentheses, may hold anything.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    // Fields as proc(5) numbers them; the first behind the name is 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (ticks, page) = (system(libc::_SC_CLK_TCK), system(libc::_SC_PAGESIZE));
    if let (Some(user), Some(kernel)) = (field(14), field(15)) {
        let seconds = (user + kernel) as f64 / ticks as f64;
        snapshot.put(Family::ProcessCpu, seconds);
    }
    if let Some(threads) = field(20) {
        snapshot.put(Family::ProcessThreads, threads);
    }
    if let Some(octets) = field(23) {
        snapshot.put(Family::ProcessVirtual, octets);
    }
    if let Some(pages) = field(24) {
        snapshot.put(Family::ProcessResident, pages * page);
    }
    if let Some(start) = field(22).zip(booted_at()) {
        let (since_boot, boot) = start;
        let start = boot as f64 + since_boot as f64 / ticks as f64;
        snapshot.put(Family::ProcessStart, start);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them reads the folder.
        snapshot.put(Family::ProcessFds, open.count().saturating_sub(1) as u64);
    }
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    if let Ok((limit, _)) = limit {
        snapshot.put(Family::ProcessMaxFds, limit);
    }
}

/// A number of the system that is never 0.
fn system(name: libc::c_int) -> u64 {
    // SAFETY: a plain query.
    let number = unsafe { libc::sysconf(name) };
    u64::try_from(number).unwrap_or(1).max(1)
}

/// Seconds from 1970 to the start of the machine, the same each time: the clock may be set meanwhile.
fn booted_at() -> Option<u64> {
    static BOOTED: OnceLock<Option<u64>> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    })
}
