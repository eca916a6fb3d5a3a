//! `geodns acme`: tokens of ACME challenges, asked and changed, and as text for people.

use std::time::Duration;

use clap::Subcommand;

use super::output::{NUMBER, TEXT, show, table, uptime};
use super::values::holding;
use crate::control::acme::{AcmeChanged, AcmeClear, AcmeSet, AcmeToken, MAX_ACME_TTL, check_token};
use crate::control::client::Client;

/// `geodns acme`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a token to a name. Saved, and in every answer, when the command returns
    Set {
        /// Name to prove, with or without _acme-challenge; *.NAME is proved at NAME
        name: String,
        /// Text of the TXT record: 1 to 255 characters
        #[arg(value_parser = token, allow_hyphen_values = true)]
        token: String,
        /// TTL in seconds
        #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ACME_TTL)))]
        ttl: u32,
        /// Time until the token expires, such as 10m
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = holding)]
        time: Duration,
    },
    /// Remove all tokens of a name, or one of them
    Clear {
        /// Name, as it was set
        name: String,
        /// The token [default: all of the name]
        #[arg(value_parser = token, allow_hyphen_values = true)]
        token: Option<String>,
    },
    /// List tokens, and when they expire
    List,
}

fn token(text: &str) -> Result<String, String> {
    check_token(text).map(|()| text.to_owned())
}

/// Asks the daemon; the text to print.
pub async fn ask(command: Command, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        Command::Set {
            name,
            token,
            ttl,
            time,
        } => {
            let set = AcmeSet {
                name,
                token,
                ttl,
                for_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            };
            show(client.acme_set(&set).await?, json, changed)
        }
        Command::Clear { name, token } => {
            let clear = AcmeClear { name, token };
            show(client.acme_clear(&clear).await?, json, changed)
        }
        Command::List => show(client.acme_list().await?, json, list),
    }
}

/// `acme set`, `acme clear`
fn changed(changed: AcmeChanged) -> String {
    let tokens = match changed.tokens.len() {
        1 => "1 token".to_owned(),
        count => format!("{count} tokens"),
    };
    let zone = changed.zone.map_or_else(
        || "in no zone of the configuration".to_owned(),
        |zone| match changed.serial {
            Some(serial) => format!("zone {zone} has serial {serial}"),
            None => format!("zone {zone} is as before"),
        },
    );
    format!("{}: {tokens}; {zone}\n", changed.name)
}

/// `acme list`
fn list(tokens: Vec<AcmeToken>) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    table(
        &[
            ("NAME", TEXT),
            ("TOKEN", TEXT),
            ("TTL", NUMBER),
            ("GOES IN", TEXT),
            ("ZONE", TEXT),
        ],
        tokens.into_iter().map(|token| {
            let left = token.until_unix_ms.saturating_sub(token.now_unix_ms);
            [
                token.name,
                token.token,
                token.ttl.to_string(),
                uptime(left.div_ceil(1000)),
                token.zone.unwrap_or_else(|| "-".to_owned()),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use crate::cli::args::tests::{parse, usage};

    #[test]
    fn a_line_for_a_change_and_one_for_each_token() {
        let token = AcmeToken {
            name: "_acme-challenge.example.org".into(),
            token: "abc".into(),
            ttl: 60,
            until_unix_ms: 200_500,
            zone: Some("example.org".into()),
            now_unix_ms: 500,
        };
        let answer = |zone: Option<&str>, serial| AcmeChanged {
            name: token.name.clone(),
            zone: zone.map(str::to_owned),
            serial,
            tokens: vec![token.clone()],
        };
        let name = "_acme-challenge.example.org";
        for (zone, serial, says) in [
            (
                Some("example.org"),
                Some(7),
                "zone example.org has serial 7",
            ),
            (Some("example.org"), None, "zone example.org is as before"),
            (None, None, "in no zone of the configuration"),
        ] {
            let line = changed(answer(zone, serial));
            assert_eq!(line, format!("{name}: 1 token; {says}\n"));
        }
        assert_eq!(
            list(vec![token]),
            "\
NAME                         TOKEN  TTL  GOES IN  ZONE
_acme-challenge.example.org  abc     60  3m 20s   example.org
"
        );
        assert_eq!(list(Vec::new()), "no tokens\n");
    }

    #[test]
    fn a_token_has_a_name_a_ttl_and_an_end() {
        let acme = |line: &str| match parse(&format!("geodns acme {line}")).unwrap().command {
            args::Command::Acme(acme) => acme,
            other => panic!("{other:?}"),
        };
        for (line, wanted) in [
            ("set *.example.org abc", ("abc", 60, 3600)),
            ("set x.test -a_b --ttl 5 --for 10m", ("-a_b", 5, 600)),
            ("set --ttl 5 --for 10m x.test --ab", ("--ab", 5, 600)),
        ] {
            let Command::Set {
                token, ttl, time, ..
            } = acme(line)
            else {
                panic!("{line}");
            };
            assert_eq!((token.as_str(), ttl, time.as_secs()), wanted, "{line}");
        }
        assert!(matches!(
            acme("clear x.test"),
            Command::Clear { token: None, .. }
        ));
        assert!(matches!(
            acme("clear x.test -x"),
            Command::Clear { token: Some(token), .. } if token == "-x"
        ));
        assert!(matches!(acme("list"), Command::List));
        for wrong in [
            "",
            "set",
            "set x.test",
            "set x.test a --ttl 0",
            "set x.test a --for 0s",
            "clear",
        ] {
            usage(&format!("geodns acme {wrong}"));
        }
    }
}
