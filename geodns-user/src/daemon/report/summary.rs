//! The daemon's state in one line: in the log when it is ready, and for systemd as its status.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::Config;
use crate::daemon::Daemon;

/// Addresses that the line names, at the most; of more it gives the number.
const NAMED: usize = 4;

impl Daemon {
    /// The zones, names and pools that are served, and the interfaces, in one line.
    pub fn summary(&self) -> String {
        let world = self.world.load();
        let config = &world.inputs.config;
        let attached = match self.lock_kernel() {
            None => "slow path only".to_owned(),
            Some(kernel) => {
                let attached = kernel.attached().iter();
                let attached = attached.map(|at| format!("{} ({})", at.name, at.mode()));
                let waiting = kernel.waiting().all();
                let waiting = waiting.map(|at| format!("{} ({})", at.name, at.state()));
                attached.chain(waiting).collect::<Vec<_>>().join(", ")
            }
        };
        let nowhere = match self.report.not_listening.is_nowhere() {
            true => "; no address to listen on",
            false => "",
        };
        format!(
            "{}, {}, {}; {attached}; plan {}{nowhere}",
            plural(config.zones.len(), "zone"),
            plural(config.steers.len(), "steered name"),
            plural(config.pools.len(), "pool"),
            world.generation
        )
    }

    /// Complains of the interfaces that the program is not attached to.
    pub fn not_attached(&self) -> Option<String> {
        let kernel = self.lock_kernel()?;
        let waiting = kernel.waiting().all();
        let errors: Vec<String> = waiting.map(|at| at.error.to_string()).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    /// The summary at a start, with the addresses that are answered on, and a question to try.
    pub fn announcement(&self, listening: &BTreeSet<IpAddr>) -> String {
        let listening: Vec<IpAddr> = listening.iter().copied().collect();
        let world = self.world.load();
        let config = &world.inputs.config;
        format!(
            "{}{}{}",
            answers_on(&listening, config.server.port),
            self.summary(),
            to_try(&listening, config)
        )
    }
}

fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// `answers on 192.0.2.53 and 2001:db8::53, port 53; `
fn answers_on(listening: &[IpAddr], port: u16) -> String {
    if listening.is_empty() {
        return String::new();
    }
    let named = listening.iter().take(NAMED).map(IpAddr::to_string);
    let mut named = named.collect::<Vec<_>>().join(", ");
    if listening.len() > NAMED {
        named += &format!(" and {} more", listening.len() - NAMED);
    }
    format!("answers on {named}, port {port}; ")
}

/// `; try: dig @192.0.2.53 www.example.org`
fn to_try(listening: &[IpAddr], config: &Config) -> String {
    // Loopback and link-local addresses are right for nobody else.
    let is_far = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let Some(address) = listening.iter().find(is_far).or(listening.first()) else {
        return String::new();
    };
    let port = match config.server.port {
        53 => String::new(),
        port => format!(" -p {port}"),
    };
    let steered = config.steers.iter().map(|steer| steer.name.to_string());
    let steered = steered.into_iter().find(|name| !name.starts_with('*'));
    let question = match (steered, config.zones.first()) {
        (Some(name), _) => name,
        (None, Some(zone)) => format!("{} SOA", zone.name),
        (None, None) => return String::new(),
    };
    format!("; try: dig @{address}{port} {question}")
}
