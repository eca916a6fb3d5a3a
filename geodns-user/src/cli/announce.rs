//! `geodns announce`: how this node is announced, and the operator's word on it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::output::{TEXT, joined, pairs, show, table, uptime};
use super::values::holding;
use crate::announce::links::Links;
use crate::announce::snippet::Snippet;
use crate::announce::{State, prefixes};
use crate::config::Config;
use crate::control::announce::{AnnounceWord, Announcement, SetAnnouncement};
use crate::control::client::Client;

/// `geodns announce`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how this node is announced, since when and why, and its checks of itself
    List,
    /// Have clients move away: announce this node with GRACEFUL_SHUTDOWN (RFC 8326). Saved
    Drain {
        /// Time after which it is up again, such as 10m [default: until `announce up`]
        #[arg(long = "for", value_name = "TIME", value_parser = holding)]
        time: Option<Duration>,
    },
    /// Drain this node, then withdraw its routes. Saved
    Withdraw {
        /// Withdraw even if no other node of the fleet would be left
        #[arg(long)]
        force: bool,
    },
    /// Announce this node as its checks of itself say, and forget its failures. Saved
    Up,
    /// Print what BIRD or FRR needs to carry the routes, from the configuration; ask no daemon
    Config {
        /// Routing daemon
        #[arg(value_enum)]
        daemon: Routing,
        /// AS number of this node
        #[arg(long = "as", value_name = "ASN", default_value_t = 65_053)]
        asn: u32,
        /// Address of a router to tell, and its AS number; may be given several times
        #[arg(long, value_name = "ADDRESS=ASN", value_parser = neighbour)]
        neighbour: Vec<(IpAddr, u32)>,
    },
}

/// A routing daemon that a configuration is printed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Routing {
    /// BIRD 2
    Bird,
    /// FRR
    Frr,
}

fn neighbour(text: &str) -> Result<(IpAddr, u32), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(address, asn)| Some((address.parse().ok()?, asn.parse().ok()?)));
    parsed.ok_or_else(|| "write it like 192.0.2.1=64512 or 2001:db8::1=64512".to_owned())
}

/// The configuration of a routing daemon.
pub fn snippet(
    file: &Path,
    daemon: Routing,
    asn: u32,
    neighbours: Vec<(IpAddr, u32)>,
) -> anyhow::Result<String> {
    let config = Config::load(file)?;
    let Some(announce) = &config.announce else {
        anyhow::bail!("{} has no section [announce]", file.display());
    };
    let links = Links::read()?;
    let listen = config.server.listen.iter().flatten().copied();
    let prefixes = prefixes(announce, listen, &links);
    if prefixes.is_empty() {
        anyhow::bail!(
            "{}: nothing is announced: no address of server.listen is on lo; add one there, or set announce.prefixes",
            file.display()
        );
    }
    let snippet = Snippet {
        prefixes,
        device: announce.device.clone(),
        table: announce.table,
        asn,
        neighbours,
    };
    match daemon {
        Routing::Bird => Ok(snippet.bird()),
        Routing::Frr => snippet.frr().map_err(anyhow::Error::msg),
    }
}

/// Asks the daemon; the text to print.
pub async fn ask(command: Command, client: &Client, json: bool) -> anyhow::Result<String> {
    let set = |word, for_ms, force| SetAnnouncement {
        word,
        for_ms,
        force,
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let reply = match command {
        Command::List | Command::Config { .. } => client.announcement().await?,
        Command::Drain { time } => {
            let set = set(AnnounceWord::Drain, time.map(millis), false);
            client.announce(&set).await?
        }
        Command::Withdraw { force } => {
            let set = set(AnnounceWord::Withdraw, None, force);
            client.announce(&set).await?
        }
        Command::Up => client.announce(&set(AnnounceWord::Up, None, false)).await?,
    };
    show(reply, json, text)
}

/// `up, since 3m 2s`
pub fn summary(announcement: &Announcement) -> String {
    let since = announcement
        .now_unix_ms
        .saturating_sub(announcement.since_unix_ms);
    let why = match announcement.why.as_str() {
        "" => String::new(),
        why => format!(": {why}"),
    };
    format!(
        "{}, since {}{why}",
        announcement.state,
        uptime(since / 1000)
    )
}

fn text(announcement: Announcement) -> String {
    let metric = match announcement.metric {
        Some(metric) => format!("metric {metric}, on {}", announcement.device),
        None => "none".to_owned(),
    };
    let word = match (announcement.word, announcement.until_unix_ms) {
        (AnnounceWord::Up, _) => "up: as its checks say".to_owned(),
        (AnnounceWord::Drain, None) => "drain".to_owned(),
        (AnnounceWord::Drain, Some(until)) => {
            let left = until.saturating_sub(announcement.now_unix_ms);
            format!("drain, for {} more", uptime(left.div_ceil(1000)))
        }
        (AnnounceWord::Withdraw, _) => "withdraw".to_owned(),
    };
    let is_held = announcement.state == State::Held.name();
    let mut lines = vec![
        ("state", summary(&announcement)),
        ("prefixes", joined(&announcement.prefixes)),
        ("routes", metric),
        ("operator", word),
        ("failures", announcement.failures.to_string()),
    ];
    if is_held {
        let force = "`geodns announce withdraw --force` withdraws it all the same";
        lines.push(("held", force.to_owned()));
    }
    // Trouble that is the reason of the state stands there already.
    if let Some(trouble) = announcement
        .trouble
        .filter(|trouble| *trouble != announcement.why)
    {
        lines.push(("trouble", trouble));
    }
    let checks = announcement.checks.into_iter().map(|check| {
        let found = check.fault.unwrap_or_else(|| "good".to_owned());
        [check.check, check.target, found]
    });
    let checks = table(&[("CHECK", TEXT), ("OF", TEXT), ("FOUND", TEXT)], checks);
    format!("{}\n{checks}", pairs(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use crate::cli::args::tests::{parse, usage};
    use crate::control::announce::AnnounceCheck;

    #[test]
    fn an_announcement_says_its_state_and_what_was_found() {
        let check = |check: &str, fault: Option<&str>| AnnounceCheck {
            check: check.into(),
            target: "192.0.2.53".into(),
            fault: fault.map(Into::into),
            counts: true,
        };
        let announcement = Announcement {
            state: "last-resort".into(),
            since_unix_ms: 1_000,
            why: "TCP 192.0.2.53: no answer within 200 ms".into(),
            metric: Some(300),
            prefixes: vec!["192.0.2.53/32".parse().unwrap()],
            device: "geodns0".into(),
            table: 254,
            word: AnnounceWord::Drain,
            until_unix_ms: Some(63_000),
            failures: 2,
            trouble: None,
            checks: vec![
                check("UDP", None),
                check("TCP", Some("no answer within 200 ms")),
            ],
            now_unix_ms: 3_000,
        };
        assert_eq!(
            text(announcement),
            "state     last-resort, since 2s: TCP 192.0.2.53: no answer within 200 ms\n\
             prefixes  192.0.2.53/32\n\
             routes    metric 300, on geodns0\n\
             operator  drain, for 1m 0s more\n\
             failures  2\n\
             \n\
             CHECK  OF          FOUND\n\
             UDP    192.0.2.53  good\n\
             TCP    192.0.2.53  no answer within 200 ms\n"
        );
    }

    #[test]
    fn a_node_that_is_held_says_why_and_how_it_leaves_all_the_same() {
        let announcement = Announcement {
            state: "held".into(),
            since_unix_ms: 1_000,
            why: "the operator said so; of the other nodes 0 are up, and announce.keep demands 1"
                .into(),
            metric: Some(300),
            prefixes: vec!["192.0.2.53/32".parse().unwrap()],
            device: "geodns0".into(),
            table: 254,
            word: AnnounceWord::Withdraw,
            until_unix_ms: None,
            failures: 0,
            trouble: None,
            checks: Vec::new(),
            now_unix_ms: 3_000,
        };
        let shown = text(announcement);
        for line in [
            "state     held, since 2s: the operator said so; of the other nodes 0 are up, and announce.keep demands 1\n",
            "routes    metric 300, on geodns0\n",
            "operator  withdraw\n",
            "held      `geodns announce withdraw --force` withdraws it all the same\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn words_are_understood() {
        let command = |line: &str| match parse(line).unwrap().command {
            args::Command::Announce { command } => command,
            other => panic!("{other:?}"),
        };
        assert!(command("geodns announce").is_none());
        assert!(matches!(
            command("geodns announce list"),
            Some(Command::List)
        ));
        let ten = Some(Duration::from_secs(600));
        assert!(matches!(
            command("geodns announce drain --for 10m"),
            Some(Command::Drain { time }) if time == ten
        ));
        assert!(matches!(
            command("geodns announce withdraw --force"),
            Some(Command::Withdraw { force: true })
        ));
        let config =
            "geodns announce config bird --neighbour 10.77.1.1=65001 --neighbour fd77::1=65001";
        assert!(matches!(
            command(config),
            Some(Command::Config { daemon: Routing::Bird, asn: 65_053, neighbour }) if neighbour.len() == 2
        ));
        usage("geodns announce drain --for 0s");
        let message = usage("geodns announce config frr --neighbour 10.77.1.1");
        assert!(message.contains("192.0.2.1=64512"), "{message}");
    }
}
