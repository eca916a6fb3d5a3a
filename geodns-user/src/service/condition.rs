//! A mirror at one moment: whether each of its addresses is up, and who says so.

use std::net::IpAddr;
use std::time::Duration;

use geodns_common::abi::{Family, SHARES};

use super::Findings;
use crate::config::Mirror;
use crate::health::Target;
use crate::steering::Health;
use crate::steering::standing::{Admin, Standing};

/// Whether an address of a mirror is up, and who decided that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it is up.
    pub up: bool,
    /// The one who decided.
    pub source: Source,
    /// Why, in a line; may be empty.
    pub reason: &'a str,
}

/// Those who decide whether an address is up. Each stands above those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `mirror up` and `mirror down`.
    Operator,
    /// `mirror set-health`.
    Monitor,
    /// Other monitors' file, or else the fleet's votes, or else our own check.
    Finding,
    /// Nobody says anything: it is up.
    Nobody,
}

/// Decides whether an address of a mirror (`None`: its host name) is up. The operator overrides monitors, and monitors
/// override what was found.
pub fn decide<'a>(
    mirror: &Mirror,
    address: Option<IpAddr>,
    standing: &'a Standing,
    findings: &'a Findings,
    now_unix_ms: u64,
) -> Decision<'a> {
    let decision = |up, source, reason| Decision { up, source, reason };
    match standing.admin {
        Admin::Up => return decision(true, Source::Operator, ""),
        Admin::Down => return decision(false, Source::Operator, ""),
        // Of a drain, no address knows anything.
        Admin::Auto | Admin::Drain(_) => {}
    }
    if let Some(verdict) = standing.external(address, now_unix_ms) {
        return decision(verdict.up, Source::Monitor, &verdict.reason);
    }
    match findings.of(mirror, address) {
        Some((up, reason)) => decision(up, Source::Finding, reason),
        None => decision(true, Source::Nobody, ""),
    }
}

/// A mirror at one moment, as the answers take it.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// For the rows of its pools.
    pub health: Health,
    /// Whether each of its addresses is up, by [`Family::index`].
    pub addresses: [Vec<bool>; 2],
}

impl Condition {
    /// The condition of a mirror that nothing is known of.
    pub fn good(mirror: &Mirror) -> Self {
        Self {
            health: Health::good(mirror.weight),
            addresses: [vec![true; mirror.v4.len()], vec![true; mirror.v6.len()]],
        }
    }

    /// The condition of a mirror now.
    pub fn of(mirror: &Mirror, standing: &Standing, findings: &Findings, now_unix_ms: u64) -> Self {
        let up = |address: Option<IpAddr>| {
            let decision = decide(mirror, address, standing, findings, now_unix_ms);
            // The operator's "down" is no fault of an address: `Health::down` has it.
            decision.up || decision.source == Source::Operator
        };
        let v4 = mirror.v4.iter().map(|&address| up(Some(address.into())));
        let v6 = mirror.v6.iter().map(|&address| up(Some(address.into())));
        let addresses = [v4.collect::<Vec<_>>(), v6.collect::<Vec<_>>()];
        let any = |addresses: &Vec<bool>| match mirror.cname {
            Some(_) => up(None),
            None => addresses.contains(&true),
        };
        let check = mirror.check.as_ref();
        let avoid = |addresses: &mut dyn Iterator<Item = IpAddr>| {
            let mut up = addresses.filter(|&address| up(Some(address))).peekable();
            up.peek().is_some()
                && up.all(|address| {
                    let decision = decide(mirror, Some(address), standing, findings, now_unix_ms);
                    let target = check.cloned().map(|check| Target { check, address });
                    decision.source == Source::Finding
                        && target.is_some_and(|target| findings.avoids(&target))
                })
        };
        let avoid = match findings.avoids_any() {
            true => [
                avoid(&mut mirror.v4.iter().map(|&address| address.into())),
                avoid(&mut mirror.v6.iter().map(|&address| address.into())),
            ],
            false => [false; 2],
        };
        let by_check = match standing.admin {
            Admin::Auto | Admin::Drain(_) => Target::of(mirror)
                .map(|target| findings.until_change(&target))
                .min(),
            Admin::Up | Admin::Down => None,
        };
        let by_itself = standing.next_change(now_unix_ms, SHARES as u32);
        let by_itself = by_itself.map(|at| Duration::from_millis(at.saturating_sub(now_unix_ms)));
        Self {
            health: Health {
                up: [any(&addresses[0]), any(&addresses[1])],
                avoid,
                down: standing.admin == Admin::Down,
                drained: (standing.drained(now_unix_ms) * SHARES as f64) as usize,
                weight: standing.weight(mirror.weight, now_unix_ms),
                until_change: by_check.into_iter().chain(by_itself).min(),
            },
            addresses,
        }
    }

    /// Whether an address of a family is up.
    pub fn has_any(&self, family: Family) -> bool {
        self.addresses[family.index()].contains(&true)
    }

    /// Whether new clients are sent to the mirror.
    pub fn is_in_service(&self) -> bool {
        let health = &self.health;
        !health.down && health.up.contains(&true) && health.weight > 0 && health.drained < SHARES
    }
}

/// Whether new clients are sent to a mirror, and why, in a line.
pub fn in_service(
    mirror: &Mirror,
    standing: &Standing,
    findings: &Findings,
    now_unix_ms: u64,
) -> (bool, String) {
    let condition = Condition::of(mirror, standing, findings, now_unix_ms);
    let why = why(mirror, standing, findings, now_unix_ms);
    (condition.is_in_service(), why)
}

fn why(mirror: &Mirror, standing: &Standing, findings: &Findings, now_unix_ms: u64) -> String {
    let drained = standing.drained(now_unix_ms);
    let has_weight = standing.weight(mirror.weight, now_unix_ms) > 0;
    match standing.admin {
        Admin::Up if has_weight => return "the operator says up".to_owned(),
        Admin::Down => return "the operator says down".to_owned(),
        Admin::Drain(_) if drained >= 1.0 => return "drained".to_owned(),
        Admin::Auto | Admin::Up | Admin::Drain(_) => {}
    }
    let mut addresses: Vec<Option<IpAddr>> = mirror.addresses().map(Some).collect();
    if addresses.is_empty() {
        addresses.push(None);
    }
    let all = addresses.len();
    let decisions: Vec<Decision<'_>> = addresses
        .into_iter()
        .map(|address| decide(mirror, address, standing, findings, now_unix_ms))
        .filter(|decision| decision.source != Source::Nobody)
        .collect();
    let down: Vec<_> = decisions.iter().filter(|decision| !decision.up).collect();
    match down.first() {
        Some(first) if down.len() == all => return first.to_string(),
        _ if !has_weight => return "weight 0".to_owned(),
        Some(first) => return format!("{} of {all} addresses out: {first}", down.len()),
        None => {}
    }
    if let Admin::Drain(_) = standing.admin {
        return format!("draining, {} % drained", (drained * 100.0).floor());
    }
    let first = decisions.first().map(ToString::to_string);
    first.unwrap_or_else(|| "nothing says otherwise".to_owned())
}

/// `a monitor says down: no route`
impl std::fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = match self.source {
            Source::Operator => "the operator says",
            Source::Monitor => "a monitor says",
            Source::Finding => "found",
            Source::Nobody => "nobody says",
        };
        let word = if self.up { "up" } else { "down" };
        match self.reason {
            "" => write!(f, "{who} {word}"),
            reason => write!(f, "{who} {word}: {reason}"),
        }
    }
}
