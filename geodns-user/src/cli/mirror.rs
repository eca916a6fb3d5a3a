//! `geodns mirror`: what is said of mirrors, asked and changed, and as text for people.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::event;
use super::output::{NUMBER, TEXT, joined, pairs, print, show, table, uptime};
use super::values::{address, holding, over};
use crate::base::bandwidth;
use crate::config::is_id;
use crate::config::time::spelled;
use crate::control::client::{Client, Reply};
use crate::control::event::EventsQuery;
use crate::control::mirror::{
    AdminState, CheckState, MAX_WEIGHT, Mirror, MirrorAdmin, MirrorChanged, MirrorWeight,
    OfAddress, SetAdmin, SetHealth, SetWeight, Verdict,
};
use crate::event::Event;

/// Events that `mirror show` has.
const EVENTS: u32 = 10;

/// `geodns mirror`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List mirrors, whether they are in service, and why
    List,
    /// Show everything about a mirror
    Show {
        /// Mirror's id
        #[arg(value_parser = mirror)]
        mirror: String,
    },
    /// Put into service, whatever checks say
    Up(Mirrors),
    /// Take out of service
    Down(Mirrors),
    /// Stop sending new clients
    Drain {
        /// The mirrors.
        #[command(flatten)]
        mirrors: Mirrors,
        /// Gradually over this time, such as 10m [default: at once]
        #[arg(long, value_name = "TIME", value_parser = over)]
        over: Option<Duration>,
    },
    /// Let the checks decide again, after up, down or drain
    Auto(Mirrors),
    /// Change the weight of a mirror
    Weight(ToWeight),
    /// Report another monitor's verdict: overrides our checks, is overridden by up, down and drain
    SetHealth(ToHealth),
}

/// One mirror or several.
#[derive(Args, Debug)]
pub struct Mirrors {
    /// Mirrors' ids
    #[arg(required = true, value_name = "MIRROR", value_parser = mirror)]
    pub mirrors: Vec<String>,
}

/// `geodns mirror weight`
#[derive(Args, Debug)]
pub struct ToWeight {
    /// Mirror's id
    #[arg(value_parser = mirror)]
    pub mirror: String,
    /// The weight; 0: no new clients
    #[arg(required_unless_present = "reset", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_WEIGHT)))]
    pub weight: Option<u32>,
    /// Gradually over this time, such as 10m [default: at once]
    #[arg(long, value_name = "TIME", value_parser = over)]
    pub over: Option<Duration>,
    /// Restore the configuration's weight
    #[arg(long, conflicts_with_all = ["weight", "over"])]
    pub reset: bool,
}

/// `geodns mirror set-health`
#[derive(Args, Debug)]
pub struct ToHealth {
    /// Mirror's id
    #[arg(value_parser = mirror)]
    pub mirror: String,
    /// The monitor's verdict
    #[arg(required_unless_present = "clear")]
    pub health: Option<Health>,
    /// Address of the mirror [default: all that have no verdict of their own]
    #[arg(long, value_parser = address)]
    pub address: Option<IpAddr>,
    /// Time that the verdict holds, such as 10m [default: until it is cleared]
    #[arg(long = "for", value_name = "TIME", value_parser = holding)]
    pub time: Option<Duration>,
    /// Reason, in one line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    /// Remove the verdict; without --address, every verdict on the mirror
    #[arg(long, conflicts_with_all = ["health", "time", "reason"])]
    pub clear: bool,
}

/// Another monitor's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Health {
    /// The mirror works
    Up,
    /// The mirror does not work
    Down,
}

fn mirror(text: &str) -> Result<String, String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err("not a mirror's id: `geodns mirror list` shows them".to_owned())
}

/// Asks the daemon; the text to print. With `--json` a change is a line for each mirror.
pub async fn ask(command: Command, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        Command::List => show(client.mirrors().await?, json, list),
        Command::Show { mirror } => {
            let text = show(client.mirror(&mirror).await?, json, details)?;
            let events = if json {
                String::new()
            } else {
                events(client, mirror).await
            };
            Ok(text + &events)
        }
        Command::Up(of) => set_admin(client, json, &of, AdminState::Up, None).await,
        Command::Down(of) => set_admin(client, json, &of, AdminState::Down, None).await,
        Command::Auto(of) => set_admin(client, json, &of, AdminState::Auto, None).await,
        Command::Drain { mirrors, over } => {
            set_admin(client, json, &mirrors, AdminState::Drain, over).await
        }
        Command::Weight(of) => {
            let reply = match of.weight {
                Some(value) => {
                    let over_ms = of.over.map(millis);
                    let change = SetWeight { value, over_ms };
                    client.mirror_weight(&of.mirror, &change).await?
                }
                None => client.mirror_weight_reset(&of.mirror).await?,
            };
            show(reply, json, |changed| said(&changed, weight_changed))
        }
        Command::SetHealth(of) => {
            let reply = set_health(client, of).await?;
            show(reply, json, |changed| said(&changed, health_changed))
        }
    }
}

/// Says the same of some mirrors: of all of them, or of none if one does not exist.
async fn set_admin(
    client: &Client,
    json: bool,
    of: &Mirrors,
    state: AdminState,
    over: Option<Duration>,
) -> anyhow::Result<String> {
    let over_ms = over.map(millis);
    let change = SetAdmin { state, over_ms };
    if of.mirrors.len() > 1 {
        for id in &of.mirrors {
            client.mirror(id).await?;
        }
    }
    for id in &of.mirrors {
        let reply = client.mirror_admin(id, &change).await?;
        // One by one: should a later one fail, it is known which were done.
        print(&show(reply, json, |changed| said(&changed, admin_changed))?)?;
    }
    Ok(String::new())
}

async fn set_health(client: &Client, of: ToHealth) -> anyhow::Result<Reply> {
    let Some(health) = of.health else {
        let address = OfAddress {
            address: of.address,
        };
        return Ok(client.mirror_health_clear(&of.mirror, &address).await?);
    };
    let change = SetHealth {
        up: health == Health::Up,
        address: of.address,
        for_ms: of.time.map(millis),
        reason: of.reason,
    };
    Ok(client.mirror_health(&of.mirror, &change).await?)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The standing in force now, and warnings for the operator.
fn said(changed: &MirrorChanged, line: impl Fn(&MirrorChanged) -> String) -> String {
    let mut text = format!("{}: {}\n", changed.after.id, line(changed));
    for warning in &changed.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// `mirror up | down | drain | auto`
fn admin_changed(changed: &MirrorChanged) -> String {
    let (before, after) = (changed.before.admin, changed.after.admin);
    let now = match after.state {
        AdminState::Auto => format!("auto: {}", service(&changed.after)),
        AdminState::Up => "up, whatever checks say".to_owned(),
        AdminState::Down => "down".to_owned(),
        AdminState::Drain => draining(&after),
    };
    let was = match before.state {
        AdminState::Auto => "auto".to_owned(),
        AdminState::Up => "up".to_owned(),
        AdminState::Down => "down".to_owned(),
        AdminState::Drain => draining(&before),
    };
    if before.state == after.state && before.over_ms == after.over_ms {
        return format!("{now} (as before)");
    }
    format!("{now}; was {was}")
}

fn draining(admin: &MirrorAdmin) -> String {
    let drained = percent(admin.drained);
    match admin.over_ms {
        Some(over) if admin.drained < 1.0 => {
            format!("draining over {}, {drained} drained", spell(over))
        }
        _ => "drained: no new clients".to_owned(),
    }
}

/// Only what is done is 100 %.
fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

fn spell(millis: u64) -> String {
    spelled(Duration::from_millis(millis))
}

/// `mirror weight`
fn weight_changed(changed: &MirrorChanged) -> String {
    let (before, after) = (changed.before.weight, changed.after.weight);
    if before == after {
        return format!("{} (as before)", weight(&after));
    }
    format!("{}; was {}", weight(&after), before.in_force)
}

fn weight(weight: &MirrorWeight) -> String {
    let MirrorWeight {
        configured,
        in_force,
        ..
    } = weight;
    match (weight.wanted, weight.over_ms) {
        (None, _) => format!("weight {in_force}, as configured"),
        (Some(wanted), Some(over)) if wanted != *in_force => format!(
            "weight {in_force}, to {wanted} over {} (configured {configured})",
            spell(over)
        ),
        _ => format!("weight {in_force} (configured {configured})"),
    }
}

/// `mirror set-health`
fn health_changed(changed: &MirrorChanged) -> String {
    let mirror = &changed.after;
    let verdicts: Vec<_> = mirror
        .external
        .iter()
        .map(|verdict| {
            let address = verdict.address.map(|address| format!("{address} "));
            let until = verdict.until_unix_ms.map(|until| {
                let left = until.saturating_sub(mirror.now_unix_ms);
                format!(" for {}", uptime(left.div_ceil(1000)))
            });
            format!(
                "{}{}{}",
                address.unwrap_or_default(),
                up_down(verdict.up),
                until.unwrap_or_default()
            )
        })
        .collect();
    let verdicts = match verdicts.as_slice() {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    format!("monitors say {verdicts}; {}", service(mirror))
}

fn up_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// `in service: nothing says otherwise`
fn service(mirror: &Mirror) -> String {
    let word = if mirror.in_service { "in" } else { "out of" };
    format!("{word} service: {}", mirror.why)
}

/// `geodns mirror list`, `geodns mirrors`
fn list(mirrors: Vec<Mirror>) -> String {
    if mirrors.is_empty() {
        return "no mirrors (the configuration has no [[mirror]])\n".to_owned();
    }
    table(
        &[
            ("MIRROR", TEXT),
            ("SERVICE", TEXT),
            ("ADMIN", TEXT),
            ("WEIGHT", NUMBER),
            ("POOLS", TEXT),
            ("ADDRESSES", TEXT),
            ("WHY", TEXT),
        ],
        mirrors.into_iter().map(|mirror| {
            [
                mirror.id,
                if mirror.in_service { "in" } else { "out" }.to_owned(),
                match mirror.admin.state {
                    AdminState::Auto => "auto".to_owned(),
                    AdminState::Up => "up".to_owned(),
                    AdminState::Down => "down".to_owned(),
                    AdminState::Drain => format!("drain {}", percent(mirror.admin.drained)),
                },
                mirror.weight.in_force.to_string(),
                joined(&mirror.pools),
                joined(&mirror.addresses),
                mirror.why,
            ]
        }),
    )
}

/// `geodns mirror show`
fn details(mirror: Mirror) -> String {
    let now = mirror.now_unix_ms;
    let since = |since: Option<u64>| since.map_or_else(|| "-".to_owned(), |since| ago(since, now));
    let admin = match mirror.admin.state {
        AdminState::Auto => "auto: checks decide".to_owned(),
        AdminState::Up => "up, whatever checks say".to_owned(),
        AdminState::Down => "down".to_owned(),
        AdminState::Drain => draining(&mirror.admin),
    };
    let admin = match mirror.admin.since_unix_ms {
        Some(since) => format!("{admin}, since {} ago", ago(since, now)),
        None => admin,
    };
    let mut text = format!("{}: {}\n", mirror.id, service(&mirror));
    let mut facts = vec![
        ("pools", joined(&mirror.pools)),
        ("admin", admin),
        ("weight", weight(&mirror.weight).replacen("weight ", "", 1)),
    ];
    let bandwidth = mirror.bandwidth.map(bandwidth::shown);
    for (key, fact) in [
        ("url", mirror.url),
        ("sponsor", mirror.sponsor),
        ("country", mirror.country),
        ("bandwidth", bandwidth),
        ("limits", mirror.limits),
    ] {
        facts.extend(fact.map(|fact| (key, fact)));
    }
    text += &pairs(&facts);
    text.push('\n');
    let unless = |text: Option<String>| text.filter(|text| !text.is_empty());
    let or_dash = |text: Option<String>| unless(text).unwrap_or_else(|| "-".to_owned());
    text += &table(
        &[
            ("ADDRESS", TEXT),
            ("CHECK", TEXT),
            ("SINCE", TEXT),
            ("LATENCY", NUMBER),
            ("LAST SAID", TEXT),
        ],
        mirror.checks.into_iter().map(|check| {
            let state = match check.state {
                CheckState::Up => "up",
                CheckState::Down => "down",
                CheckState::Unknown => "unknown",
            };
            [
                check.address.to_string(),
                state.to_owned(),
                since(check.since_unix_ms),
                or_dash(check.latency_ms.map(|ms| format!("{ms:.1} ms"))),
                or_dash(check.reason.or_else(|| {
                    let trace = check.trace_unix_ms?;
                    Some(format!("the trace is {} old", ago(trace, now)))
                })),
            ]
        }),
    );
    if mirror.external.is_empty() {
        return text;
    }
    text.push('\n');
    text += &table(
        &[
            ("MONITOR SAYS", TEXT),
            ("OF", TEXT),
            ("SINCE", TEXT),
            ("EXPIRES IN", TEXT),
            ("REASON", TEXT),
        ],
        mirror.external.into_iter().map(|verdict| {
            let Verdict {
                up,
                address,
                since_unix_ms,
                until_unix_ms,
                reason,
            } = verdict;
            [
                up_down(up).to_owned(),
                address.map_or_else(|| "all".to_owned(), |address| address.to_string()),
                since(Some(since_unix_ms)),
                until_unix_ms.map_or_else(|| "never".to_owned(), |until| ago(now, until)),
                or_dash(Some(reason)),
            ]
        }),
    );
    text
}

/// The last events of a mirror. A history that cannot be read is no reason to show nothing.
async fn events(client: &Client, mirror: String) -> String {
    let query = EventsQuery {
        mirror: Some(mirror),
        limit: Some(EVENTS),
        ..EventsQuery::default()
    };
    let events = match client.events(&query).await {
        Ok(reply) => reply.json::<Vec<Event>>(),
        Err(error) => Err(error),
    };
    match events {
        Ok(events) if events.is_empty() => String::new(),
        Ok(events) => {
            let lines: String = events.iter().map(event::line).collect();
            format!("\nLATEST EVENTS\n{lines}")
        }
        Err(error) => format!("\nevents: {error}\n"),
    }
}

/// From one time to a later one.
fn ago(since: u64, now: u64) -> String {
    uptime(now.saturating_sub(since) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use crate::cli::args::tests::{parse, usage};
    use crate::control::mirror::MirrorCheck;

    fn mirror() -> Mirror {
        Mirror {
            id: "ams".into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            pools: vec!["www".into()],
            in_service: true,
            why: "nothing says otherwise".into(),
            admin: MirrorAdmin {
                state: AdminState::Auto,
                since_unix_ms: None,
                drained: 0.0,
                over_ms: None,
                until_unix_ms: None,
            },
            weight: MirrorWeight {
                configured: 100,
                in_force: 100,
                wanted: None,
                since_unix_ms: None,
                over_ms: None,
                until_unix_ms: None,
            },
            checks: vec![MirrorCheck {
                address: "192.0.2.1".parse().unwrap(),
                state: CheckState::Up,
                since_unix_ms: Some(0),
                reason: None,
                latency_ms: Some(12.34),
                trace_unix_ms: None,
            }],
            external: Vec::new(),
            url: None,
            sponsor: None,
            country: None,
            bandwidth: None,
            limits: None,
            now_unix_ms: 200_000,
        }
    }

    fn drain(drained: f64, over: u64) -> Mirror {
        let mut mirror = mirror();
        mirror.admin.state = AdminState::Drain;
        mirror.admin.drained = drained;
        mirror.admin.over_ms = Some(over);
        mirror.admin.since_unix_ms = Some(0);
        mirror
    }

    #[test]
    fn a_line_says_what_is_in_force_and_what_was() {
        let down = |mut mirror: Mirror| {
            mirror.admin.state = AdminState::Down;
            mirror
        };
        for (before, after, line) in [
            (
                mirror(),
                drain(0.0, 600_000),
                "draining over 10m, 0 % drained; was auto",
            ),
            (
                drain(0.999, 600_000),
                drain(0.999, 90_000),
                "draining over 90s, 99 % drained; was draining over 10m, 99 % drained",
            ),
            (mirror(), drain(1.0, 0), "drained: no new clients; was auto"),
            (mirror(), down(mirror()), "down; was auto"),
            (down(mirror()), down(mirror()), "down (as before)"),
            (
                down(mirror()),
                mirror(),
                "auto: in service: nothing says otherwise; was down",
            ),
        ] {
            let changed = MirrorChanged {
                before,
                after,
                warnings: vec!["pool www has no other".into()],
            };
            assert_eq!(
                said(&changed, admin_changed),
                format!("ams: {line}\nwarning: pool www has no other\n")
            );
        }
    }

    #[test]
    fn a_weight_says_where_it_goes() {
        let with = |in_force, wanted, over_ms| {
            let mut mirror = mirror();
            mirror.weight.in_force = in_force;
            mirror.weight.wanted = wanted;
            mirror.weight.over_ms = over_ms;
            mirror
        };
        for (before, after, line) in [
            (
                mirror(),
                with(50, Some(50), Some(0)),
                "weight 50 (configured 100); was 100",
            ),
            (
                mirror(),
                with(100, Some(50), Some(600_000)),
                "weight 100, to 50 over 10m (configured 100); was 100",
            ),
            (
                with(75, Some(50), Some(600_000)),
                mirror(),
                "weight 100, as configured; was 75",
            ),
            (mirror(), mirror(), "weight 100, as configured (as before)"),
        ] {
            let changed = MirrorChanged {
                before,
                after,
                warnings: Vec::new(),
            };
            assert_eq!(weight_changed(&changed), line);
        }
    }

    #[test]
    fn details_say_what_was_said_found_and_when() {
        let mut mirror = drain(0.5, 600_000);
        mirror.external = vec![Verdict {
            up: false,
            address: None,
            since_unix_ms: 190_000,
            until_unix_ms: Some(500_000),
            reason: "no route".into(),
        }];
        let changed = MirrorChanged {
            before: mirror.clone(),
            after: mirror.clone(),
            warnings: Vec::new(),
        };
        assert_eq!(
            health_changed(&changed),
            "monitors say down for 5m 0s; in service: nothing says otherwise"
        );
        assert_eq!(
            details(mirror),
            "\
ams: in service: nothing says otherwise
pools   www
admin   draining over 10m, 50 % drained, since 3m 20s ago
weight  100, as configured

ADDRESS    CHECK  SINCE   LATENCY  LAST SAID
192.0.2.1  up     3m 20s  12.3 ms  -

MONITOR SAYS  OF   SINCE  EXPIRES IN  REASON
down          all  10s    5m 0s       no route
"
        );
    }

    fn command(line: &str) -> Command {
        match parse(line).unwrap().command {
            args::Command::Mirror(mirror) => mirror,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mirrors_are_set_one_by_one_or_several_at_once() {
        assert!(matches!(
            command("geodns mirror down ams fra"),
            Command::Down(Mirrors { mirrors }) if mirrors == ["ams", "fra"]
        ));
        for line in [
            "geodns mirror drain ams fra --over 10m",
            "geodns mirror drain --over 10m ams fra",
        ] {
            let Command::Drain { mirrors, over } = command(line) else {
                panic!("{line}");
            };
            assert_eq!(mirrors.mirrors, ["ams", "fra"], "{line}");
            assert_eq!(over, Some(Duration::from_secs(600)), "{line}");
        }
        assert!(matches!(
            command("geodns mirror drain ams"),
            Command::Drain { over: None, .. }
        ));
        for wrong in [
            "mirror",
            "mirror up",
            "mirror up ams/fra",
            "mirror up ams --over 10m",
            "mirror drain ams --over 10",
            "mirror drain ams --over 366d",
            "mirror show",
            "mirror show ams fra",
        ] {
            usage(&format!("geodns {wrong}"));
        }
    }

    #[test]
    fn a_weight_is_given_or_reset() {
        let weight = |line: &str| match command(line) {
            Command::Weight(weight) => (weight.weight, weight.over, weight.reset),
            other => panic!("{other:?}"),
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(
            weight("geodns mirror weight ams 50"),
            (Some(50), None, false)
        );
        assert_eq!(
            weight("geodns mirror weight ams 0 --over 1m"),
            (Some(0), minute, false)
        );
        assert_eq!(
            weight("geodns mirror weight ams --reset"),
            (None, None, true)
        );
        for wrong in ["", "1000001", "-1", "x", "50 --reset", "--reset --over 1m"] {
            usage(&format!("geodns mirror weight ams {wrong}"));
        }
    }

    #[test]
    fn a_verdict_is_given_or_cleared() {
        let line = "geodns mirror set-health ams down --address 2001:db8::1 --for 90s --reason x";
        let Command::SetHealth(said) = command(line) else {
            panic!();
        };
        assert_eq!(said.health, Some(Health::Down));
        assert_eq!(said.address, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(said.time, Some(Duration::from_secs(90)));
        assert_eq!((said.reason.as_str(), said.clear), ("x", false));
        for line in ["--clear", "--clear --address 192.0.2.1", "up"] {
            command(&format!("geodns mirror set-health ams {line}"));
        }
        for wrong in [
            "",
            "sideways",
            "up --for 0s",
            "up --address ams",
            "up --clear",
            "--clear --for 1m",
            "--clear --reason x",
        ] {
            usage(&format!("geodns mirror set-health ams {wrong}"));
        }
    }
}
