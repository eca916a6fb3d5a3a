//! `geodns status`, `geodns reload`: the daemon as it is.

use super::announce;
use super::fleet;
use super::output::{NUMBER, TEXT, few, grouped, joined, memory, pairs, plural, table, uptime};
use crate::control::announce::ROUTING;
use crate::control::reload::Reloaded;
use crate::control::status::{PoolStatus, Restarted, Status};

/// `geodns status`; with the prefix tables and who shares them, if that is wanted.
pub fn text(status: Status, verbose: bool) -> String {
    let attached: Vec<_> = status
        .interfaces
        .iter()
        .map(|interface| {
            let pinned = if interface.pinned { "" } else { ", not pinned" };
            format!("{} ({}{pinned})", interface.name, interface.mode)
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
        let waiting = status.waiting_interfaces.into_iter();
        lines.extend(waiting.map(|at| ("", at.reason)));
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
