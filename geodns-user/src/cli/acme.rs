//! `geodns acme`: tokens of ACME challenges, asked and changed, and as text for people.

use super::args;
use super::show::{NUMBER, TEXT, table, uptime};
use crate::control::acme::{AcmeChanged, AcmeClear, AcmeSet, AcmeToken};
use crate::control::client::Client;

/// Asks the daemon; the text to print.
pub async fn ask(command: args::Acme, client: &Client, json: bool) -> anyhow::Result<String> {
    use args::Acme as Ask;
    match command {
        Ask::Set {
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
            super::show(client.acme_set(&set).await?, json, changed)
        }
        Ask::Clear { name, token } => {
            let clear = AcmeClear { name, token };
            super::show(client.acme_clear(&clear).await?, json, changed)
        }
        Ask::List => super::show(client.acme_list().await?, json, list),
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
}
