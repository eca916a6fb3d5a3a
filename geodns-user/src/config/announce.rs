//! `[announce]`: judged.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};
use super::time::{duration, spelled};
use super::validate::{interface_name, not_a_time};
use crate::base::prefix;

/// Prefixes, at the most.
const MAX_PREFIXES: usize = 512;
/// Sockets of routing daemons, at the most.
const MAX_ROUTING: usize = 8;
/// Where Debian's BIRD and FRR have their sockets.
const ROUTING: [&str; 2] = ["/run/bird/bird.ctl", "/run/frr/bgpd.vty"];
/// The table of the kernel's own addresses, where a route would take packets from the machine itself.
const LOCAL_TABLE: i64 = 255;
/// Number of the main routing table.
const MAIN_TABLE: u32 = 254;
const S: Duration = Duration::from_secs(1);
const H: Duration = Duration::from_secs(3600);

/// `[announce]`: routes that say how this node of an anycast set stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Announce {
    /// Prefixes of the routes; `None`: a /32 or /128 of each address of `server.listen` that is on `lo`.
    pub prefixes: Option<Vec<IpNet>>,
    /// Name of the device that the routes lead to.
    pub device: String,
    /// Number of the routing table.
    pub table: u32,
    /// Time between two rounds of checks.
    pub interval: Duration,
    /// Rounds in a row that fail before the node has failed.
    pub fall: u32,
    /// Time without a failed round after which it is well again.
    pub rise: Duration,
    /// Time that a drain takes; `None`: until no query comes.
    pub drain: Option<Duration>,
    /// Shortest and longest time that a node which has failed stays the last resort.
    pub hold_down: RangeInclusive<Duration>,
    /// Nodes of the fleet that stay announced.
    pub keep: Keep,
    /// Sockets of routing daemons that are asked whether neighbours are told.
    pub routing: Vec<PathBuf>,
}

/// Nodes of a fleet that stay announced, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A number of them.
    Nodes(u32),
    /// A share of them in percent, 0 to 100.
    Percent(u32),
}

impl Reader<'_> {
    pub(super) fn announce(
        &self,
        file: Spanned<file::Announce>,
        listen: Option<&[IpAddr]>,
    ) -> Judged<Announce> {
        let span = file.span();
        let file = file.into_inner();
        let prefixes = match &file.prefixes {
            Some(list) => self.prefixes(list, listen).map(Some),
            None if listen.is_none() => {
                let message = "missing; name prefixes, or anycast addresses in server.listen";
                Err(self.misfit(span, "announce.prefixes", message))
            }
            None => Ok(None),
        };
        let device = match file.device {
            None => Ok("geodns0".to_owned()),
            Some(name) => match interface_name(name.get_ref(), &[]) {
                Ok(()) => Ok(name.into_inner()),
                Err(message) => self.error(name.span(), "announce.device", message),
            },
        };
        let table = file
            .table
            .map_or(Ok(MAIN_TABLE), |table| self.table(&table));
        let interval = self.time(
            file.interval,
            "announce.interval",
            250 * S / 1000,
            50 * S / 1000..=10 * S,
        );
        let fall = match file.fall {
            Some(fall) => self.number(fall, "announce.fall", 1, 100),
            None => Ok(3),
        };
        let rise = self.time(file.rise, "announce.rise", 10 * S, Duration::ZERO..=H);
        let drain = match file.drain {
            Some(text) if text.get_ref() != "auto" => self
                .time(Some(text), "announce.drain", S, Duration::ZERO..=H)
                .map(Some),
            _ => Ok(None),
        };
        let hold_down = file
            .hold_down
            .map_or(Ok(30 * S..=900 * S), |text| self.hold_down(&text));
        let keep = file
            .keep
            .map_or(Ok(Keep::Nodes(1)), |keep| self.keep(&keep));
        let routing = match file.routing {
            None => Ok(ROUTING.map(PathBuf::from).to_vec()),
            Some(list) => self.routing(list),
        };
        Ok(Announce {
            prefixes: prefixes?,
            device: device?,
            table: table?,
            interval: interval?,
            fall: fall?,
            rise: rise?,
            drain: drain?,
            hold_down: hold_down?,
            keep: keep?,
            routing: routing?,
        })
    }

    fn routing(&self, list: Spanned<Vec<Spanned<String>>>) -> Judged<Vec<PathBuf>> {
        const KEY: &str = "announce.routing";
        let span = list.span();
        let list = list.into_inner();
        if list.len() > MAX_ROUTING {
            let message = format!("{} sockets; write at most {MAX_ROUTING}", list.len());
            return self.error(span, KEY, message);
        }
        all(list
            .into_iter()
            .map(|path| self.path(Some(path), KEY, "").map(|(path, _)| path)))
    }

    /// Prefixes in each of which the server listens.
    fn prefixes(
        &self,
        list: &Spanned<Vec<Spanned<String>>>,
        listen: Option<&[IpAddr]>,
    ) -> Judged<Vec<IpNet>> {
        const KEY: &str = "announce.prefixes";
        let count = list.get_ref().len();
        if count == 0 || count > MAX_PREFIXES {
            let message = match count {
                0 => "empty; name a prefix, or leave the key out".to_owned(),
                _ => format!("{count} prefixes; {MAX_PREFIXES} is the most"),
            };
            return self.error(list.span(), KEY, message);
        }
        let mut known: Vec<IpNet> = Vec::new();
        all(list.get_ref().iter().map(|text| {
            let prefix = prefix::parse(text.get_ref())
                .and_then(|prefix| check(prefix, &known, listen))
                .or_else(|message| self.error(text.span(), KEY, message))?;
            known.push(prefix);
            Ok(prefix)
        }))
    }

    fn table(&self, table: &Spanned<file::Table>) -> Judged<u32> {
        const KEY: &str = "announce.table";
        let message = match table.get_ref() {
            file::Table::Name(name) if name == "main" => return Ok(MAIN_TABLE),
            file::Table::Name(name) => {
                format!("no table {name:?}; write \"main\", or the number of a table")
            }
            file::Table::Number(LOCAL_TABLE) => {
                "255 is the table of the machine's own addresses; write another".to_owned()
            }
            file::Table::Number(number) => match u32::try_from(*number) {
                Ok(number) if number > 0 => return Ok(number),
                _ => format!("{number} is out of range; write \"main\", or 1 to 4294967295"),
            },
        };
        self.error(table.span(), KEY, message)
    }

    /// A time within bounds.
    fn time(
        &self,
        text: Option<Spanned<String>>,
        key: &str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Judged<Duration> {
        let Some(text) = text else {
            return Ok(default);
        };
        let message = match duration(text.get_ref()) {
            Some(time) if bounds.contains(&time) => return Ok(time),
            Some(_) => format!(
                "{:?} is out of range; write \"{}\" to \"{}\"",
                text.get_ref(),
                spelled(*bounds.start()),
                spelled(*bounds.end())
            ),
            None => not_a_time(text.get_ref()),
        };
        self.error(text.span(), key, message)
    }

    fn hold_down(&self, text: &Spanned<String>) -> Judged<RangeInclusive<Duration>> {
        let times = text.get_ref().split_once("..");
        let times = times.and_then(|(least, most)| Some((duration(least)?, duration(most)?)));
        match times {
            Some((least, most)) if least <= most && most <= 24 * H => Ok(least..=most),
            _ => {
                let message = format!(
                    "{:?} is not two times, the shorter one first; write them as \"30s..15m\", 1d at the most",
                    text.get_ref()
                );
                self.error(text.span(), "announce.hold_down", message)
            }
        }
    }

    fn keep(&self, keep: &Spanned<file::Keep>) -> Judged<Keep> {
        let message = match keep.get_ref() {
            file::Keep::Nodes(number) => match u32::try_from(*number) {
                Ok(number) if number <= 10_000 => return Ok(Keep::Nodes(number)),
                _ => format!("{number} is out of range; write 0 to 10000, or a share as \"50%\""),
            },
            file::Keep::Share(text) => {
                let number = text
                    .strip_suffix('%')
                    .and_then(|number| number.parse().ok());
                match number.filter(|number| *number <= 100) {
                    Some(number) => return Ok(Keep::Percent(number)),
                    None => {
                        format!("{text:?} is not a share; write \"0%\" to \"100%\", or a number")
                    }
                }
            }
        };
        self.error(keep.span(), "announce.keep", message)
    }
}

/// Complains of a prefix that cannot be announced.
fn check(prefix: IpNet, known: &[IpNet], listen: Option<&[IpAddr]>) -> Result<IpNet, String> {
    if known.contains(&prefix) {
        return Err(format!("{prefix} stands here twice; remove one"));
    }
    if prefix.prefix_len() == 0 {
        return Err(format!(
            "{prefix} is everybody's default route; write this server's own prefix"
        ));
    }
    match listen {
        Some(listen) if !listen.iter().any(|address| prefix.contains(address)) => Err(format!(
            "no address of server.listen is in {prefix}; correct it, or add the address there"
        )),
        _ => Ok(prefix),
    }
}
