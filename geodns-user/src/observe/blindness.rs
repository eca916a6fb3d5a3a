//! Finds out whether the program sees the queries of the interfaces that it is attached to.
//!
//! Each look compares what came since the look before: a query that the slow path got by an attached interface is one
//! that the program passed there, after it had found it to be for us. If queries are missing in two looks on end, the
//! program is blind: it is attached, and does not answer. A single look says nothing: a query may wait in a socket, or
//! come before the program is attached, or before an address is in its table.
//!
//! A driver that does not run the program is suspected only of queries that can have come no other way.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use geodns_common::verdict::Fate;

use crate::kernel::intake::Intake;

/// Time from one look to the next.
pub const EVERY: Duration = Duration::from_secs(10);
/// Fewer missing queries do not matter.
const LEAST: u64 = 20;
/// Looks on end that find the same, before it is believed.
const LOOKS: u32 = 2;

/// Counts of an intake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that the program saw, in the order of [`Fate::ALL`].
    pub by_fate: [u64; Fate::COUNT],
    /// Queries that the slow path got by [`Intake::own`].
    pub own: u64,
    /// Those that it got by [`Intake::mixed`].
    pub mixed: u64,
}

impl Counts {
    /// Packets of a fate.
    pub fn of(&self, fate: Fate) -> u64 {
        self.by_fate.get(fate as usize).copied().unwrap_or(0)
    }

    /// The difference to earlier counts. `None`: they began anew.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = Self {
            own: self.own.checked_sub(earlier.own)?,
            mixed: self.mixed.checked_sub(earlier.mixed)?,
            ..Self::default()
        };
        let counts = self.by_fate.iter().zip(&earlier.by_fate);
        for (since, (now, earlier)) in since.by_fate.iter_mut().zip(counts) {
            *since = now.checked_sub(*earlier)?;
        }
        Some(since)
    }
}

/// Why the program does not see queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Frames have a MAC address that it does not know.
    OtherMac,
    /// They are for an address or a VLAN that it does not know there.
    OtherAddress,
    /// They do not begin with an Ethernet header, or are no IP.
    NotIp,
    /// They are for another port, or inside another protocol.
    OtherPort,
    /// It does not run at all.
    NotRun,
}

impl Cause {
    /// Its name: that of the counter which grew.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherMac => "other_mac",
            Self::OtherAddress => "other_address",
            Self::NotIp => "not_ip",
            Self::OtherPort => "other_port",
            Self::NotRun => "not_run",
        }
    }

    /// What it means, and what to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::OtherMac => {
                "they are for another MAC address, such as that of a bridge or macvlan above it: name the interface \
                 that has the address in kernel.interfaces"
            }
            Self::OtherAddress => {
                "they come by a port or virtual function of another interface, in a VLAN, or to an address that is \
                 translated (NAT): name the bond or card in kernel.interfaces, or the address in server.listen"
            }
            Self::NotIp => {
                "they come through a tunnel without Ethernet, or inside another protocol: name the interface that they \
                 leave the tunnel by, or take it out of kernel.interfaces; or, at a large MTU, the driver puts nothing into \
                 the first buffer of a packet (mlx5: ethtool --set-priv-flags INTERFACE rx_striding_rq off)"
            }
            Self::OtherPort => {
                "they come to another port, or inside another protocol (NAT, IPsec): only the slow path can answer them"
            }
            Self::NotRun => {
                "its driver does not run the program: the MTU or its buffers are too large: lower the MTU \
                 (ip link set dev INTERFACE mtu 1500), or set kernel.mode = \"generic\"; geodns doctor --iface INTERFACE \
                 says more; the program is attached anew once an hour"
            }
        }
    }
}

/// Queries of an intake that the program did not see, at the last look that found some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blindness {
    /// Names of the attached interfaces.
    pub interfaces: Vec<String>,
    /// Why.
    pub cause: Cause,
    /// Queries that were missing.
    pub missing: u64,
}

impl fmt::Display for Blindness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces = self.interfaces.join(", ");
        let first = self.interfaces.first().map_or("", String::as_str);
        let advice = self.cause.advice().replace("INTERFACE", first);
        write!(
            f,
            "{interfaces}: the program does not see queries that come by it ({} in {} s): {advice}",
            self.missing,
            EVERY.as_secs()
        )
    }
}

/// What a look has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The program is blind on these interfaces.
    Blind(Blindness),
    /// It sees again what comes by these.
    Sees(Vec<String>),
}

/// All looks so far.
#[derive(Debug, Default)]
pub struct Looks(BTreeMap<Vec<String>, Known>);

/// What is known of an intake.
#[derive(Debug)]
struct Known {
    intake: Intake,
    counts: Counts,
    /// Queries that were passed in the look before, and which the slow path did not get: it may yet.
    waiting: u64,
    /// Looks on end that say otherwise than `blind`.
    doubts: u32,
    blind: Option<Blindness>,
}

impl Looks {
    /// Looks once more. Gives what has changed.
    pub fn look(&mut self, now: impl IntoIterator<Item = (Intake, Counts)>) -> Vec<News> {
        let mut news = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for (intake, counts) in now {
            let known = before.remove(&intake.interfaces);
            let mut next = Known {
                counts,
                waiting: 0,
                doubts: 0,
                blind: known.as_ref().and_then(|known| known.blind.clone()),
                intake,
            };
            if let Some(known) = known.filter(|known| known.intake == next.intake)
                && let Some(since) = counts.since(&known.counts)
            {
                news.extend(next.judge(&known, &since));
            }
            self.0.insert(next.intake.interfaces.clone(), next);
        }
        news
    }

    /// The interfaces that the program is blind on.
    pub fn blind(&self) -> impl Iterator<Item = &Blindness> {
        self.0.values().filter_map(|known| known.blind.as_ref())
    }
}

impl Known {
    fn judge(&mut self, before: &Known, since: &Counts) -> Option<News> {
        let got = since.own + since.mixed;
        self.waiting = since.of(Fate::Passed).saturating_sub(got);
        let found = missing(since, before.waiting);
        let is_doubt = match (&self.blind, found) {
            (None, found) => found.is_some(),
            // Without a query nobody knows.
            (Some(_), None) => since.of(Fate::Passed) + since.of(Fate::Answered) > 0,
            (Some(_), Some(_)) => false,
        };
        if let (Some(blind), Some((cause, missing))) = (&mut self.blind, found) {
            (blind.cause, blind.missing) = (cause, missing);
        }
        if !is_doubt {
            return None;
        }
        self.doubts = before.doubts + 1;
        if self.doubts < LOOKS {
            return None;
        }
        self.doubts = 0;
        let interfaces = self.intake.interfaces.clone();
        self.blind = found.map(|(cause, missing)| Blindness {
            interfaces: interfaces.clone(),
            cause,
            missing,
        });
        Some(match self.blind.clone() {
            Some(blind) => News::Blind(blind),
            None => News::Sees(interfaces),
        })
    }
}

/// How many queries the slow path got in a look that the program had not passed, neither then nor in the look before
/// (`waiting`), and why. `None`: too few to matter.
fn missing(since: &Counts, waiting: u64) -> Option<(Cause, u64)> {
    let passed = since.of(Fate::Passed) + waiting;
    let enough = |got: u64| Some(got.saturating_sub(passed)).filter(|missing| *missing >= LEAST);
    let all = enough(since.own + since.mixed)?;
    if since.of(Fate::OtherMac) >= all {
        return Some((Cause::OtherMac, all));
    }
    // The rest may have come from a container on this host.
    let sure = enough(since.own)?;
    let cause = if since.of(Fate::OtherAddress) >= sure {
        Cause::OtherAddress
    } else if since.of(Fate::NotIp) >= sure {
        Cause::NotIp
    } else if since.of(Fate::OtherPort) + since.of(Fate::NotUdp) >= sure {
        Cause::OtherPort
    } else {
        Cause::NotRun
    };
    Some((cause, sure))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came in a look: by fate, then what the slow path got.
    fn came(fates: &[(Fate, u64)], own: u64, mixed: u64) -> Counts {
        let mut counts = Counts {
            own,
            mixed,
            ..Counts::default()
        };
        for &(fate, count) in fates {
            counts.by_fate[fate as usize] = count;
        }
        counts
    }

    fn intake() -> Intake {
        Intake {
            interfaces: vec!["eth0".to_owned()],
            ..Intake::default()
        }
    }

    /// Looks of which each had this. Gives the news of each, in short.
    fn looks(of: &[Counts]) -> Vec<String> {
        let (mut looks, mut sum) = (Looks::default(), Counts::default());
        looks.look([(intake(), sum)]);
        let news = of.iter().map(|came| {
            let counts = came.by_fate.iter();
            for (sum, count) in sum.by_fate.iter_mut().zip(counts) {
                *sum += count;
            }
            sum.own += came.own;
            sum.mixed += came.mixed;
            let news = looks.look([(intake(), sum)]);
            let shown = news.iter().map(|news| match news {
                News::Blind(blind) => format!("{} {}", blind.cause.name(), blind.missing),
                News::Sees(_) => "sees".to_owned(),
            });
            shown.collect::<Vec<_>>().join(", ")
        });
        news.collect()
    }

    #[test]
    fn the_counter_that_grew_names_the_cause() {
        let noise =
            |of: &[(Fate, u64)]| [of, &[(Fate::Answered, 1_000), (Fate::Dropped, 50)]].concat();
        for (fates, own, mixed, expected) in [
            (&[(Fate::OtherMac, 25)][..], 25, 0, "other_mac 25"),
            // On a bridge that has other ports too.
            (&[(Fate::OtherMac, 25)], 0, 25, "other_mac 25"),
            (
                &[(Fate::OtherMac, 30), (Fate::Passed, 5)],
                30,
                0,
                "other_mac 25",
            ),
            (
                &[(Fate::OtherAddress, 25), (Fate::OtherMac, 3)],
                25,
                0,
                "other_address 25",
            ),
            (&[(Fate::NotIp, 400)], 25, 0, "not_ip 25"),
            (&[(Fate::OtherPort, 25)], 25, 0, "other_port 25"),
            (
                &[(Fate::NotUdp, 900), (Fate::NotIp, 3)],
                25,
                0,
                "other_port 25",
            ),
            (&[], 20, 0, "not_run 20"),
            (&[(Fate::NotIp, 3), (Fate::Passed, 2)], 60, 0, "not_run 58"),
        ] {
            let look = came(&noise(fates), own, mixed);
            assert_eq!(looks(&[look, look]), ["", expected], "{fates:?}");
        }
    }

    #[test]
    fn what_fits_is_no_blindness() {
        for (what, fates, own, mixed) in [
            ("all was passed", &[(Fate::Passed, 500)][..], 500, 0),
            ("nobody asks", &[(Fate::NotUdp, 500)], 0, 0),
            ("a few are missing", &[(Fate::Passed, 500)], 519, 0),
            (
                "sockets were full, or somebody else took them",
                &[(Fate::Passed, 500)],
                3,
                0,
            ),
            (
                "a rule or a budget drops them",
                &[(Fate::Dropped, 500)],
                0,
                0,
            ),
            (
                "other hosts' queries go by",
                &[(Fate::OtherMac, 500), (Fate::OtherAddress, 500)],
                0,
                0,
            ),
            (
                "a container on the bridge asks",
                &[(Fate::OtherAddress, 500)],
                0,
                500,
            ),
            (
                "a container on the bridge asks, and nobody else",
                &[],
                0,
                500,
            ),
        ] {
            let look = came(fates, own, mixed);
            assert_eq!(looks(&[look, look, look]), ["", "", ""], "{what}");
        }
    }

    #[test]
    fn one_look_alone_is_not_believed() {
        let missed = came(&[], 500, 0);
        let (none, passed) = (Counts::default(), came(&[(Fate::Passed, 500)], 500, 0));
        // Queries of before the program was attached, or of addresses that were not in its table yet.
        assert_eq!(looks(&[missed, passed, missed, none, missed]), [""; 5]);
        // What was passed in one look, and received in the next.
        let late = [came(&[(Fate::Passed, 500)], 0, 0), missed];
        assert_eq!(looks(&[late, late].concat()), [""; 4]);
        // One is as much as can wait.
        let late = [came(&[(Fate::Passed, 500)], 0, 0), none, missed, missed];
        assert_eq!(looks(&late), ["", "", "", "not_run 500"]);
    }

    #[test]
    fn blindness_is_told_once_until_it_ends() {
        let (missed, none) = (came(&[], 50, 0), Counts::default());
        let fits = came(&[(Fate::Answered, 50)], 0, 0);
        assert_eq!(
            looks(&[
                missed, missed, missed, fits, missed, none, none, fits, fits, fits
            ]),
            ["", "not_run 50", "", "", "", "", "", "", "sees", ""]
        );
        // The counter that grows now is what the status shows.
        let mut known = Looks::default();
        let mut sum = Counts::default();
        known.look([(intake(), sum)]);
        for _ in 0..2 {
            sum.own += 50;
            known.look([(intake(), sum)]);
        }
        sum.own += 30;
        sum.by_fate[Fate::OtherMac as usize] += 30;
        assert_eq!(known.look([(intake(), sum)]), []);
        let blind: Vec<_> = known.blind().map(|of| (of.cause, of.missing)).collect();
        assert_eq!(blind, [(Cause::OtherMac, 30)]);
        // Nobody is told of an interface that is not attached any more.
        assert_eq!(known.look([]), []);
        assert_eq!(known.blind().count(), 0);
    }

    #[test]
    fn counts_that_began_anew_and_other_interfaces_below_are_compared_with_nothing() {
        let mut known = Looks::default();
        let full = came(&[(Fate::Passed, 900)], 900, 0);
        known.look([(intake(), full)]);
        // New maps: the slow path's counts went on.
        for own in [950, 1_000] {
            let anew = came(&[], own, 0);
            assert_eq!(known.look([(intake(), anew)]), []);
        }
        let mut known = Looks::default();
        for (port, own) in [(1, 0), (2, 50), (1, 100), (2, 150)] {
            let mut other = intake();
            other.slots.insert(port);
            assert_eq!(known.look([(other, came(&[], own, 0))]), []);
        }
    }

    #[test]
    fn the_line_says_where_and_what_to_do() {
        let line = |cause| {
            let blind = Blindness {
                interfaces: vec!["eth0".to_owned()],
                cause,
                missing: 25,
            };
            blind.to_string()
        };
        let text = line(Cause::NotRun);
        assert!(
            text.starts_with(
                "eth0: the program does not see queries that come by it (25 in 10 s): "
            )
        );
        assert!(text.contains("ip link set dev eth0 mtu 1500"), "{text}");
        let all = [
            Cause::OtherMac,
            Cause::OtherAddress,
            Cause::NotIp,
            Cause::OtherPort,
        ];
        for text in all.map(line) {
            assert!(
                !text.contains("INTERFACE") && !text.contains('\n'),
                "{text}"
            );
        }
    }
}
