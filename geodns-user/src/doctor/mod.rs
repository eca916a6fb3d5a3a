//! Examines a machine and its interfaces: whether the XDP program can be loaded, attached, and fed with packets.
//!
//! - [`machine`]: kernel, file system of pins, capabilities, settings
//! - [`interface`]: driver, offloads, queues, and programs of others
//!
//! What is examined is read first, as facts; findings are made from facts alone. Nothing is changed, and the program is
//! attached only where [`Options::attach`] says so.

pub mod interface;
pub mod machine;

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::kernel;
use crate::kernel::drivers::{Finding, Level};
use crate::kernel::netdev::{Kind, Netdev, Netdevs};
use crate::kernel::probe::{self, Probe};

/// How long the program stays attached.
const TRIAL: Duration = Duration::from_secs(2);

/// Wishes of the operator.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The interfaces to examine; empty: every card.
    pub interfaces: Vec<String>,
    /// Addresses that are answered on, if the configuration names them.
    pub listen: Option<Vec<IpAddr>>,
    /// The folder of pins.
    pub pin: PathBuf,
    /// Whether to attach the program for a moment.
    pub attach: bool,
}

/// All findings.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Those of the machine.
    pub machine: Vec<Finding>,
    /// Those of each interface.
    pub interfaces: Vec<Examined>,
}

/// The findings of an interface.
#[derive(Clone, Debug, Serialize)]
pub struct Examined {
    /// Its name.
    pub name: String,
    /// Its driver; empty if none is told.
    pub driver: String,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether there is a problem.
    pub fn has_problems(&self) -> bool {
        let interfaces = self.interfaces.iter().flat_map(|of| &of.findings);
        let mut all = self.machine.iter().chain(interfaces);
        all.any(|finding| finding.level == Level::Problem)
    }
}

/// Examines the machine and its interfaces. `says` tells what is about to be done to an interface.
pub fn examine(options: &Options, netdevs: &Netdevs, says: impl Fn(&str)) -> Report {
    let mut probe = kernel::object()
        .and_then(Probe::load)
        .map_err(probe::explained);
    let machine = machine::findings(&machine::Facts::read(&options.pin, &mut probe));
    let names: Vec<String> = match options.interfaces.is_empty() {
        false => options.interfaces.clone(),
        true => cards(netdevs),
    };
    let examine = |name: &String| {
        let Some(netdev) = netdevs.named(name) else {
            let text = format!("no such interface; there are {}", netdevs.names());
            return Examined {
                name: name.clone(),
                driver: String::new(),
                findings: vec![Finding::problem(text)],
            };
        };
        let facts = interface::Facts::read(netdev, netdevs);
        let mut findings = interface::findings(&facts);
        if options.attach {
            findings.push(match &mut probe {
                Ok(probe) => attach(probe, netdev, netdevs, &facts, &says),
                Err(_) => Finding::note("not attached: the program does not load"),
            });
        }
        Examined {
            name: name.clone(),
            driver: facts.card.driver,
            findings,
        }
    };
    let interfaces: Vec<Examined> = names.iter().map(examine).collect();
    let mut report = Report {
        machine,
        interfaces,
    };
    if names.is_empty() {
        let text = "there is no card here: name an interface with --iface";
        report.machine.push(Finding::note(text));
    }
    let needless = netdevs.needless(&names);
    report
        .machine
        .extend(needless.into_iter().map(Finding::note));
    if options.listen.is_none() {
        report.machine.extend(elsewhere(&names, netdevs));
    }
    report
}

/// Every card that belongs to no other interface; bonds in the place of their ports.
fn cards(netdevs: &Netdevs) -> Vec<String> {
    let is_part = |netdev: &Netdev| {
        let master = netdev.master.and_then(|index| netdevs.at(index));
        master.is_some_and(|of| of.kind == Kind::Bond || of.kind == Kind::Card)
    };
    netdevs
        .iter()
        .filter(|netdev| matches!(netdev.kind, Kind::Card | Kind::Bond) && !is_part(netdev))
        .map(|netdev| netdev.name.clone())
        .collect()
}

/// Addresses for everybody that are on loopback or a dummy, as anycast addresses often are. They are answered on only
/// if they are named.
fn elsewhere(names: &[String], netdevs: &Netdevs) -> Option<Finding> {
    let ours = netdevs.addresses(names);
    let all = netdevs
        .iter()
        .filter(|of| matches!(of.kind, Kind::Loopback | Kind::Dummy))
        .flat_map(|of| &of.addresses);
    let others: Vec<String> = all
        .filter(|address| !address.is_loopback() && !ours.contains(address))
        .map(|address| format!("{:?}", address.to_string()))
        .collect();
    let text = format!(
        "{} on loopback or a dummy: answered only if server.listen names {}",
        others.join(", "),
        if others.len() == 1 { "it" } else { "them" }
    );
    (!others.is_empty())
        .then(|| Finding::note(text).mend(format!("listen = [{}]", others.join(", "))))
}

/// Attaches the program, lets packets pass through it, and takes it off.
fn attach(
    probe: &mut Probe,
    netdev: &Netdev,
    netdevs: &Netdevs,
    facts: &interface::Facts,
    says: &impl Fn(&str),
) -> Finding {
    if netdev.xdp.is_some() || netdevs.instead_of(netdev).is_some() {
        return Finding::note("not attached for a trial: see above");
    }
    let name = &netdev.name;
    says(&format!(
        "{name}: attaching the program for {} s: {}",
        TRIAL.as_secs(),
        facts.cost()
    ));
    let mut trial = |generic: bool| {
        let before = probe.seen()?;
        let held = probe.attach(netdev, netdevs, generic)?;
        thread::sleep(TRIAL);
        let seen = probe.seen()?.saturating_sub(before);
        held.detach()?;
        Ok(seen)
    };
    let result: Result<u64, kernel::Error> = trial(false);
    match result {
        Ok(0) => Finding::note(
            "native mode works, and no packet came by meanwhile, or the driver does not run the program: try again \
             while there is traffic",
        ),
        Ok(seen) => Finding::ok(format!("native mode works: the program saw {seen} packets")),
        Err(native)
            if facts
                .card
                .generic()
                .is_some_and(|of| of.level == Level::Problem) =>
        {
            Finding::problem(native.to_string())
        }
        Err(native) => match trial(true) {
            Ok(seen) => Finding::note(format!(
                "generic mode works (the program saw {seen} packets); native mode does not: {native}"
            )),
            Err(generic) => Finding::problem(format!("{native}; {generic}")),
        },
    }
}
