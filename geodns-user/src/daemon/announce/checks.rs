//! A round of checks of the node itself: the program in each link, the carrier, and a question over UDP and TCP to each
//! announced address.
//!
//! No check waits for a lock that somebody else may hold for long: where one is taken, the finding of the round before
//! stands.
//!
//! **Overload is no failure.** Under a flood the sockets' buffers are full, and questions of the node to itself are lost
//! as those of others are. A node that left for that would hand the flood to the next one. So a question without an
//! answer counts only if the slow path has answered nobody else meanwhile over the same transport. In the program a
//! dropped query is no failure where a rate limit or a block rule may be the reason.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::Rtype;
use geodns_common::tables::Tables;
use geodns_common::wire;

use crate::announce::links::Links;
use crate::announce::machine;
use crate::announce::probe::{self, Asked, Fault, Place, Transport};
use crate::base::lock::{try_lock, try_read};
use crate::control::announce::ROUTING;
use crate::daemon::Daemon;
use crate::daemon::explain::Decided;
use crate::kernel::Kernel;
use crate::kernel::trial::{Outcome, Query};
use crate::plan::Plan;
use crate::serve::Endpoint;
use crate::world::World;

/// Sources of a query that the program is tried with, before a drop by its rate limit is believed.
const SOURCES: u32 = 4;

/// A check of the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `program`, `carrier`, `UDP`, `TCP` or [`ROUTING`].
    pub kind: &'static str,
    /// An address, an interface, or both.
    pub target: String,
    /// The fault; `None`: it is good.
    pub fault: Option<String>,
    /// Whether the fault is one of the node, and not of too many queries or of the routing daemon.
    pub counts: bool,
}

impl Check {
    fn new(kind: &'static str, target: impl Into<String>, fault: Option<String>) -> Self {
        Self {
            kind,
            target: target.into(),
            fault,
            counts: true,
        }
    }
}

/// The first fault that counts.
pub fn verdict(checks: &[Check]) -> Result<(), String> {
    let mut faults = checks.iter().filter(|check| check.counts);
    let found = faults.find_map(|check| Some((check, check.fault.as_ref()?)));
    found.map_or(Ok(()), |(check, fault)| {
        Err(format!("{} {}: {fault}", check.kind, check.target))
    })
}

/// The question that the node asks itself.
struct Question {
    message: Vec<u8>,
    /// There is no zone to ask for: an answer with an error is good.
    may_fail: bool,
}

impl Question {
    /// The SOA record of the first zone that has records, as both paths have it without a draw.
    fn of(world: &World) -> Self {
        let zones = world.zones.load();
        let mut known = zones.iter().enumerate();
        let zone = known.find(|(number, zone)| !zone.is_empty() && !zones.is_catalog(*number));
        let id: [u8; 2] = rand::random();
        let mut message = vec![id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        match zone {
            Some((_, zone)) => message.extend_from_slice(zone.apex.as_slice()),
            None => message.push(0),
        }
        for word in [Rtype::SOA.to_int(), wire::CLASS_IN] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        Self {
            message,
            may_fail: zone.is_none(),
        }
    }

    fn name(&self) -> &[u8] {
        let end = self.message.len().saturating_sub(4);
        self.message.get(12..end).unwrap_or_default()
    }
}

/// Checks, and their memory of the last round.
#[derive(Default)]
pub struct Checks {
    /// Findings of the last round in which the kernel could be asked.
    program: Vec<Check>,
    /// Answers of the program to our own queries.
    own: u64,
}

impl Checks {
    /// A round, of the endpoints that are announced. It takes `patience`, and little more. `told`: why no neighbour is told
    /// of them.
    pub async fn round(
        &mut self,
        daemon: &Daemon,
        endpoints: &[Endpoint],
        links: &Links,
        patience: Duration,
        told: Option<String>,
    ) -> Vec<Check> {
        let world = daemon.world.load_full();
        let question = Question::of(&world);
        if let Some(kernel) = &daemon.kernel
            && let Some(mut kernel) = try_lock(kernel)
            && let Some(found) = self.try_out(&mut kernel, &world, endpoints, links, &question)
        {
            self.program = found;
        }
        let port = world.inputs.config.server.port;
        let places: Vec<Place> = endpoints
            .iter()
            .map(|at| Place {
                address: SocketAddr::new(at.address, port),
                vrf: at.vrf.clone(),
            })
            .collect();
        let before = daemon.server.stats().queries();
        let asked = probe::ask(&places, &question.message, question.may_fail, patience).await;
        let after = daemon.server.stats().queries();
        let others = [0, 1].map(|transport| before[transport] != after[transport]);
        let asked = asked.into_iter().map(|asked| of_socket(&asked, others));
        let checks = self.program.iter().cloned().chain(asked);
        checks
            .chain(routing(machine::has_follower(), told))
            .collect()
    }

    /// Queries of others so far, in both paths.
    pub fn queries(&self, daemon: &Daemon) -> u64 {
        daemon.queries().wrapping_sub(self.own)
    }

    /// Tries the program in each link out, for each address. `None`: a new plan is on its way.
    fn try_out(
        &mut self,
        kernel: &mut Kernel,
        world: &World,
        endpoints: &[Endpoint],
        links: &Links,
        question: &Question,
    ) -> Option<Vec<Check>> {
        let plan = try_read(&world.plan)?;
        if kernel.instance().settings().generation != world.generation {
            return None;
        }
        let mut checks = Vec::new();
        let fed = kernel.heartbeat().remaining();
        let fault = fed
            .is_zero()
            .then(|| "the heartbeat has stopped".to_owned());
        checks.push(Check::new("program", "heartbeat", fault));
        let attached = kernel.attached().iter();
        let names: Vec<String> = attached.map(|attached| attached.name.clone()).collect();
        // Queries come in by the others, too: the slow path answers them.
        let waiting = kernel.waiting().all().map(|at| at.name);
        let all: Vec<&str> = names.iter().map(String::as_str).chain(waiting).collect();
        let has_carrier = all.iter().any(|&name| links.runs(name));
        let fault = (!has_carrier).then(|| "none".to_owned());
        checks.push(Check::new("carrier", all.join(", "), fault));
        for (place, name) in names.iter().enumerate() {
            // One without a carrier may be about to go, and takes no queries.
            if !links.runs(name) {
                continue;
            }
            let fault = kernel.fault_of(place);
            let fault = fault.unwrap_or_else(|error| Some(error.to_string()));
            let is_attached = fault.is_none();
            checks.push(Check::new("program", name, fault));
            for at in endpoints.iter().filter(|_| is_attached) {
                let target = format!("{name} {}", at.address);
                let fault = self.try_one(kernel, &plan, place, at.address, question, world);
                checks.push(Check::new("program", target, fault));
            }
        }
        Some(checks)
    }

    fn try_one(
        &mut self,
        kernel: &mut Kernel,
        plan: &Plan,
        place: usize,
        destination: IpAddr,
        question: &Question,
        world: &World,
    ) -> Option<String> {
        let message = &question.message;
        let is_limited = plan.settings().limit.rate.interval != 0;
        let mut outcome = Outcome::Broken;
        for _ in 0..SOURCES {
            let source = stranger(destination);
            let query = Query {
                source,
                destination,
                port: world.inputs.config.server.port,
                message,
            };
            outcome = match kernel.try_out(place, &query) {
                Ok(Some(outcome)) => outcome,
                // The table of listen addresses follows within a moment.
                Ok(None) => return Some("it does not take queries to this address".to_owned()),
                Err(error) => return Some(error.to_string()),
            };
            if matches!(outcome, Outcome::Answered(_)) {
                self.own = self.own.wrapping_add(1);
            }
            let ought = Decided::of(plan, message, source);
            let is_right = match (&outcome, &ought.response) {
                (Outcome::Answered(given), Some(ought)) => given == ought,
                (Outcome::Passed, None) => true,
                // Passes have a budget.
                (Outcome::Dropped, None) => true,
                (Outcome::Dropped, Some(_)) => {
                    let blocks = &kernel.settings().blocks;
                    blocks.drops(source, Some((question.name(), Rtype::SOA)))
                }
                _ => false,
            };
            if is_right {
                return None;
            }
            if !is_limited {
                break;
            }
        }
        // Over the limit of responses it drops, or answers with TC alone.
        match outcome {
            Outcome::Dropped | Outcome::Answered(_) if is_limited => None,
            Outcome::Dropped => Some("it drops a query that it should answer".to_owned()),
            Outcome::Passed => Some("it passes a query that it should answer".to_owned()),
            Outcome::Answered(_) => Some("its answer is not the plan's".to_owned()),
            Outcome::Broken => Some("it sends back what is no answer".to_owned()),
        }
    }
}

/// The check for a program that follows the routes of this machine and tells neighbours of them; `told`: why none is
/// told. Without one nobody carries them, and the node is as well as before.
fn routing(has_follower: Option<bool>, told: Option<String>) -> Option<Check> {
    let fault = match has_follower? {
        true => told,
        false => Some(
            "no program follows the routes of this machine, so nobody carries them: is BIRD or FRR running?".to_owned(),
        ),
    };
    Some(Check {
        counts: false,
        ..Check::new(ROUTING, "daemon", fault)
    })
}

/// The check that a question was. `others`: whether others were answered meanwhile, over UDP and over TCP.
fn of_socket(asked: &Asked, others: [bool; 2]) -> Check {
    let (kind, others) = match asked.transport {
        Transport::Udp => ("UDP", others[0]),
        Transport::Tcp => ("TCP", others[1]),
    };
    let is_late = matches!(asked.fault, Some(Fault::Late(_)));
    let fault = asked.fault.as_ref().map(ToString::to_string);
    let check = Check::new(kind, asked.address.to_string(), fault);
    match is_late && others {
        true => Check {
            counts: false,
            fault: check
                .fault
                .map(|fault| fault + "; others have answers: it is busy"),
            ..check
        },
        false => check,
    }
}

/// A random address that no client has (RFC 2544, RFC 5180), of the same family: so the limit of one prefix is not
/// reached.
fn stranger(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => {
            let benchmarks = u32::from(Ipv4Addr::new(198, 18, 0, 0));
            Ipv4Addr::from(benchmarks | rand::random::<u32>() >> 15).into()
        }
        IpAddr::V6(_) => {
            let benchmarks = u128::from(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0));
            Ipv6Addr::from(benchmarks | rand::random::<u128>() >> 48).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(transport: Transport, fault: Option<Fault>) -> Asked {
        Asked {
            transport,
            address: "192.0.2.53".parse().unwrap(),
            fault,
        }
    }

    #[test]
    fn strangers_are_of_the_prefixes_for_benchmarks() {
        let prefixes = ["198.18.0.0/15", "2001:2::/48"];
        for (family, prefix) in ["192.0.2.53", "2001:db8::53"].into_iter().zip(prefixes) {
            let prefix: ipnet::IpNet = prefix.parse().unwrap();
            for _ in 0..1000 {
                assert!(prefix.contains(&stranger(family.parse().unwrap())));
            }
        }
    }

    #[test]
    fn late_answers_of_a_busy_server_are_no_failure() {
        let late = || Some(Fault::Late(Duration::from_millis(200)));
        for (fault, others, fails) in [
            (None, [false, false], false),
            (late(), [false, false], true),
            (late(), [true, false], false),
            // TCP goes on, UDP does not.
            (late(), [false, true], true),
            (Some(Fault::NoAddress), [true, true], true),
            (Some(Fault::Wrong("no".to_owned())), [true, true], true),
        ] {
            let checks = [of_socket(&asked(Transport::Udp, fault.clone()), others)];
            assert_eq!(verdict(&checks).is_err(), fails, "{fault:?} {others:?}");
        }
    }
}
