//! `geodns status`, `geodns reload`: the daemon as it is.

use super::announce;
use super::fleet;
use super::output::{
    NUMBER, TEXT, few, grouped, joined, memory, pairs, plural, print, print_json, table, uptime,
};
use crate::control::announce::{AnnounceWord, ROUTING};
use crate::control::client::Client;
use crate::control::fleet::FleetState;
use crate::control::reload::Reloaded;
use crate::control::status::{PoolStatus, Restarted, Status};

/// `geodns status`; with the prefix tables and who shares them, if that is wanted.
pub fn text(status: Status, verbose: bool) -> String {
    let attached: Vec<_> = status
        .interfaces
        .iter()
        .map(|interface| {
            let frags = if interface.frags { ", frags" } else { "" };
            let pinned = if interface.pinned { "" } else { ", not pinned" };
            format!("{} ({}{frags}{pinned})", interface.name, interface.mode)
        })
        .collect();
    let mut lines = vec![
        ("geodns", status.version),
        ("config", status.config),
        ("up", uptime(status.uptime_seconds)),
        ("plan", status.generation.to_string()),
        ("listen", joined(&status.listen)),
        ("port", status.port.to_string()),
    ];
    lines.extend(
        status
            .not_listening
            .into_iter()
            .map(|line| ("not listening", line)),
    );
    if let Some(port) = status.tls_port {
        lines.push(("TLS port", port.to_string()));
    }
    if let Some(why) = status.not_loaded {
        lines.push((
            "kernel",
            "not loaded: the slow path answers everything".to_owned(),
        ));
        lines.push(("", why));
    } else if attached.is_empty() && status.waiting_interfaces.is_empty() {
        lines.push(("kernel", "off: the slow path answers everything".to_owned()));
    } else {
        let waiting = status.waiting_interfaces.iter();
        let waiting = waiting.map(|at| format!("{} ({})", at.name, at.state));
        let interfaces: Vec<_> = attached.into_iter().chain(waiting).collect();
        lines.push(("interfaces", interfaces.join(", ")));
        for interface in status.interfaces {
            if let Some(reason) = interface.reason {
                lines.push(("", format!("{} is generic: {reason}", interface.name)));
            }
        }
        let waiting = status.waiting_interfaces.into_iter();
        lines.extend(waiting.map(|at| ("", at.reason)));
        lines.extend(
            status
                .blind
                .into_iter()
                .map(|blind| ("blind", blind.message)),
        );
        let changed = status.changed_settings.into_iter();
        lines.extend(changed.map(|changed| ("changed", changed.message)));
        lines.push((
            "kernel",
            format!(
                "{} of tables, {} verified",
                memory(status.kernel_memory_bytes),
                plural(status.verified_instructions, "instruction")
            ),
        ));
    }
    if verbose && !status.atlases.is_empty() {
        lines.push((
            "atlases",
            format!(
                "{}, {}, {}",
                grouped(status.atlases.len() as u64),
                plural(status.regions, "region"),
                memory(status.atlas_bytes)
            ),
        ));
        for atlas in &status.atlases {
            lines.push(("", format!("{}: {}", atlas.number, few(&atlas.pools))));
        }
    }
    lines.push((
        "serves",
        format!(
            "{}{}, {}, {}",
            plural(status.zones, "zone"),
            match status.members {
                0 => String::new(),
                members => format!(" ({} of catalogs)", grouped(members)),
            },
            plural(status.steered_names, "steered name"),
            plural(status.pools.len() as u64, "pool")
        ),
    ));
    if !status.signed_zones.is_empty() {
        let zones = few(&status.signed_zones);
        lines.push((
            "warning",
            format!("signed, and served without signatures: {zones}"),
        ));
    }
    let names = status.names;
    if names.most > 0 {
        let mut text = format!(
            "{} of {} in the kernel",
            grouped(names.in_kernel),
            plural(names.served, "name")
        );
        if names.in_kernel < names.served {
            text.push_str(&format!(
                " ({} promoted, kernel.max_names is {})",
                grouped(names.promoted),
                grouped(names.most)
            ));
        }
        lines.push(("names", text));
    }
    if let Some(announcement) = &status.announcement {
        lines.push(("announced", announce::summary(announcement)));
        if let Some(trouble) = &announcement.trouble {
            lines.push(("", trouble.clone()));
        }
        let mut checks = announcement.checks.iter();
        let routing = checks.find(|check| check.check == ROUTING);
        if let Some(fault) = routing.and_then(|check| check.fault.clone()) {
            lines.push(("", fault));
        }
    }
    for target in &status.notify {
        let lost = match target.lost {
            0 => String::new(),
            lost => format!(", {lost} lost"),
        };
        let trouble = target.trouble.as_ref().map(|why| format!(": {why}"));
        let (name, told) = (&target.target, plural(target.told, "event"));
        let trouble = trouble.unwrap_or_default();
        lines.push(("notify", format!("{name}, {told} told{lost}{trouble}")));
    }
    for Restarted {
        name, times, cause, ..
    } in &status.restarted
    {
        lines.push((
            "restarted",
            format!("{name}, {}: {cause}", plural(*times, "time")),
        ));
    }
    if let Some(of) = &status.fleet {
        let nodes = plural(of.nodes, "node");
        let how = fleet::state(of.state, of.stale_ms, of.why.as_deref());
        lines.push(("fleet", format!("{}, {nodes}: this one {how}", of.name)));
        lines.extend(of.failed.clone().map(|failed| ("not in force", failed)));
    }
    if let Some(error) = status.last_error {
        lines.push(("last error", error));
    }
    format!("{}\n{}", pairs(&lines), pools(status.pools))
}

/// How bad a trouble is, as monitoring has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok,
    /// Queries are answered, and an operator ought to look.
    Warning,
    /// Queries are not answered, or an operator has to look at once.
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// There is trouble, which has been said.
#[derive(Debug, thiserror::Error)]
#[error("there is trouble")]
pub struct Trouble(Level);

impl Trouble {
    /// The exit code, as Nagios and its kin take it.
    pub fn exit_code(&self) -> u8 {
        self.0 as u8
    }
}

/// `geodns status --check`: one line for monitoring; an error if there is trouble.
pub async fn check(client: &Client, json: bool) -> anyhow::Result<()> {
    let troubles = match client.status().await {
        Ok(reply) => {
            if json {
                print_json(&reply.body)?;
            }
            let status: Status = reply.json()?;
            let troubles = troubles(&status);
            if troubles.is_empty() && !json {
                print(&format!("OK: {}\n", well(&status)))?;
            }
            troubles
        }
        Err(error) => vec![(Level::Critical, error.to_string())],
    };
    let Some(level) = troubles.iter().map(|(level, _)| *level).max() else {
        return Ok(());
    };
    if !json {
        print(&line(level, &troubles))?;
    }
    Err(Trouble(level).into())
}

/// The line of troubles: the worst first.
fn line(level: Level, troubles: &[(Level, String)]) -> String {
    let mut sorted: Vec<_> = troubles.iter().collect();
    sorted.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let texts: Vec<_> = sorted
        .iter()
        .map(|(_, text)| text.replace('\n', " "))
        .collect();
    format!("{}: {}\n", level.name(), texts.join("; "))
}

/// A daemon without trouble, in a line.
fn well(status: &Status) -> String {
    let interfaces = status.interfaces.iter();
    let interfaces: Vec<_> = interfaces
        .map(|of| format!("{} ({})", of.name, of.mode))
        .collect();
    let kernel = match interfaces.as_slice() {
        [] => "the slow path answers everything".to_owned(),
        of => of.join(", "),
    };
    format!(
        "{kernel}, {}, up {}",
        plural(status.zones, "zone"),
        uptime(status.uptime_seconds)
    )
}

/// All that is wrong with a daemon, and how bad it is.
fn troubles(status: &Status) -> Vec<(Level, String)> {
    let mut troubles = Vec::new();
    let mut add = |level, text: String| troubles.push((level, text));
    let listening = match status.listen.is_empty() {
        true => Level::Critical,
        false => Level::Warning,
    };
    for text in &status.not_listening {
        add(listening, text.clone());
    }
    for at in &status.waiting_interfaces {
        add(Level::Warning, at.reason.clone());
    }
    if let Some(why) = &status.not_loaded {
        add(Level::Warning, why.clone());
    }
    for blind in &status.blind {
        add(Level::Warning, blind.message.clone());
    }
    for changed in status.changed_settings.iter().filter(|of| of.harmful) {
        add(Level::Warning, changed.message.clone());
    }
    if let Some(error) = &status.last_error {
        add(Level::Warning, error.clone());
    }
    for target in &status.notify {
        if let Some(why) = &target.trouble {
            add(Level::Warning, format!("notify {}: {why}", target.target));
        }
    }
    for Restarted { name, cause, .. } in &status.restarted {
        add(Level::Warning, format!("{name} was restarted: {cause}"));
    }
    if let Some(announcement) = &status.announcement {
        let level = announced(announcement.word, &announcement.state);
        if level != Level::Ok {
            add(
                level,
                format!("announcement: {}", announce::summary(announcement)),
            );
        }
        if let Some(trouble) = &announcement.trouble {
            add(Level::Warning, trouble.clone());
        }
    }
    if let Some(of) = &status.fleet {
        let level = match of.state {
            FleetState::Following | FleetState::Connecting => Level::Ok,
            FleetState::NotJoined | FleetState::Disconnected => Level::Warning,
            FleetState::Stopped => Level::Critical,
        };
        if level != Level::Ok {
            let how = fleet::state(of.state, of.stale_ms, of.why.as_deref());
            add(level, format!("fleet {}: {how}", of.name));
        }
        if let Some(failed) = &of.failed {
            add(Level::Warning, format!("not in force: {failed}"));
        }
    }
    troubles
}

/// How bad it is that a node is announced so. An operator who has withdrawn it knows.
fn announced(word: AnnounceWord, state: &str) -> Level {
    match (word, state) {
        (AnnounceWord::Up, "up") | (AnnounceWord::Drain | AnnounceWord::Withdraw, _) => Level::Ok,
        (AnnounceWord::Up, "waiting" | "draining") => Level::Warning,
        (AnnounceWord::Up, _) => Level::Critical,
    }
}

fn pools(pools: Vec<PoolStatus>) -> String {
    table(
        &[
            ("POOL", TEXT),
            ("POLICY", TEXT),
            ("LISTED", NUMBER),
            ("IMPORTED", NUMBER),
            ("OVERRIDES", NUMBER),
            ("MIRRORS", TEXT),
        ],
        pools.into_iter().map(|pool| {
            [
                pool.id,
                pool.policy,
                pool.listed.to_string(),
                pool.imported.to_string(),
                pool.overrides.to_string(),
                joined(&pool.mirrors),
            ]
        }),
    )
}

/// `geodns reload`
pub fn reloaded(reloaded: Reloaded) -> String {
    let warning = reloaded
        .warning
        .map(|warning| format!("but: {warning}\n"))
        .unwrap_or_default();
    format!(
        "reloaded: plan {} is in force\n{warning}",
        reloaded.generation
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Blind, ChangedSetting, FleetLine, Interface, WaitingInterface};

    fn status() -> Status {
        Status {
            listen: vec!["192.0.2.53".parse().unwrap()],
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mode: "native".to_owned(),
                frags: false,
                reason: None,
                pinned: true,
            }],
            zones: 2,
            ..Status::default()
        }
    }

    #[test]
    fn each_trouble_has_its_level() {
        assert_eq!(troubles(&status()), []);
        assert_eq!(well(&status()), "eth0 (native), 2 zones, up 0s");
        let levels = |change: fn(&mut Status)| {
            let mut status = status();
            change(&mut status);
            let troubles = troubles(&status);
            troubles.iter().map(|(level, _)| *level).collect::<Vec<_>>()
        };
        let fleet = |state| FleetLine {
            name: "f".to_owned(),
            state,
            why: None,
            stale_ms: None,
            nodes: 2,
            failed: None,
        };
        let warning = [Level::Warning];
        assert_eq!(
            levels(|of| of.waiting_interfaces = vec![WaitingInterface {
                name: "eth1".to_owned(),
                state: "waiting".to_owned(),
                reason: "eth1: it is not there".to_owned(),
            }]),
            warning
        );
        assert_eq!(
            levels(|of| of.last_error = Some("geodns.toml:1: bad".to_owned())),
            warning
        );
        assert_eq!(
            levels(|of| of.not_listening = vec!["192.0.2.1: in use".to_owned()]),
            warning
        );
        assert_eq!(
            levels(|of| of.blind = vec![Blind {
                interfaces: vec!["eth0".to_owned()],
                cause: "not_run".to_owned(),
                missing: 20,
                message: "eth0: the program does not see".to_owned(),
            }]),
            warning
        );
        let changed = |harmful| ChangedSetting {
            interface: "eth0".to_owned(),
            harmful,
            message: "eth0: its MTU is another".to_owned(),
        };
        for (harmful, expected) in [(true, &warning[..]), (false, &[])] {
            let status = Status {
                changed_settings: vec![changed(harmful)],
                ..status()
            };
            assert_eq!(troubles(&status).len(), expected.len());
        }
        let nowhere = |of: &mut Status| {
            of.listen.clear();
            of.not_listening = vec!["no address to listen on".to_owned()];
        };
        assert_eq!(levels(nowhere), [Level::Critical]);
        for (state, expected) in [
            (FleetState::Following, &[][..]),
            (FleetState::Disconnected, &warning),
            (FleetState::Stopped, &[Level::Critical]),
        ] {
            let status = Status {
                fleet: Some(fleet(state)),
                ..status()
            };
            let troubles = troubles(&status);
            let levels: Vec<_> = troubles.iter().map(|(level, _)| *level).collect();
            assert_eq!(levels, expected, "{state:?}");
        }
        for (word, state, expected) in [
            (AnnounceWord::Up, "up", Level::Ok),
            (AnnounceWord::Up, "waiting", Level::Warning),
            (AnnounceWord::Up, "last-resort", Level::Critical),
            (AnnounceWord::Up, "withdrawn", Level::Critical),
            (AnnounceWord::Withdraw, "withdrawn", Level::Ok),
        ] {
            assert_eq!(announced(word, state), expected, "{word:?} {state}");
        }
    }

    #[test]
    fn monitoring_gets_one_line_with_the_worst_first() {
        let troubles = [
            (Level::Warning, "a\nb".to_owned()),
            (Level::Critical, "c".to_owned()),
        ];
        assert_eq!(line(Level::Critical, &troubles), "CRITICAL: c; a b\n");
        assert_eq!(Trouble(Level::Critical).exit_code(), 2);
        assert_eq!(Trouble(Level::Warning).exit_code(), 1);
    }
}
