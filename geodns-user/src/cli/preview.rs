//! `geodns preview`: what another configuration would move, as text.

use std::fmt::Write;
use std::path::Path;

use super::output::{NUMBER, TEXT, print, show, table};
use crate::control::client::Client;
use crate::control::preview::{Move, NameMoves, Preview, Proposal};

/// Exit code where clients would move.
pub const MOVES: u8 = 4;

/// Clients would move, which has been said.
#[derive(Debug, thiserror::Error)]
#[error("clients would move")]
pub struct Moves;

/// Asks the daemon and prints what it says; an error if clients would move.
pub async fn ask(file: &Path, client: &Client, json: bool) -> anyhow::Result<()> {
    let config = std::path::absolute(file)?.display().to_string();
    let reply = client.preview(&Proposal { config }).await?;
    let moves: Preview = reply.json()?;
    print(&show(reply, json, |moves| text(&moves))?)?;
    match moves_anybody(&moves) {
        true => Err(Moves.into()),
        false => Ok(()),
    }
}

/// Whether clients of some name would get another mirror, or no answer any more.
fn moves_anybody(preview: &Preview) -> bool {
    let mut moves = preview.names.iter().flat_map(|names| &names.moves);
    moves.any(is_move) || !preview.gone_names.is_empty()
}

/// Names that are written out of those that are alike.
const SHOWN: usize = 3;

/// The text for people.
fn text(preview: &Preview) -> String {
    let mut text = format!(
        "{}: compiled in {} ms, compared in {} ms; nothing is changed\n",
        preview.config, preview.compile_ms, preview.compare_ms
    );
    let moves_any = |names: &&NameMoves| names.moves.iter().any(is_move);
    let (moved, same): (Vec<_>, Vec<_>) = preview.names.iter().partition(moves_any);
    for names in moved {
        let _ = write!(text, "\n{}", moves(names));
    }
    let same: Vec<&str> = same
        .iter()
        .flat_map(|names| &names.names)
        .map(String::as_str)
        .collect();
    if !same.is_empty() {
        let _ = writeln!(text, "\nnothing moves: {}", shown(&same));
    }
    let lists = [
        ("new pools", &preview.new_pools),
        ("pools that are gone", &preview.gone_pools),
        ("new names", &preview.new_names),
        ("names that are gone", &preview.gone_names),
    ];
    for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let _ = write!(text, "\n{what}: {}", list.join(", "));
    }
    if lists.iter().any(|(_, list)| !list.is_empty()) {
        text.push('\n');
    }
    text
}

/// Moves of the clients of some names.
fn moves(names: &NameMoves) -> String {
    let now = pool(&names.from_pool, &names.from_answered_by);
    let then = pool(&names.to_pool, &names.to_answered_by);
    let pool = match now == then {
        true => format!("pool {now}"),
        false => format!("pool {now}, then {then}"),
    };
    let of: Vec<&str> = names.names.iter().map(String::as_str).collect();
    let (moved, stay): (Vec<&Move>, Vec<&Move>) = names.moves.iter().partition(|one| is_move(one));
    let sum = |share: fn(&Move) -> f64| moved.iter().map(|one| share(one)).sum::<f64>();
    let (v4, v6) = (percent(sum(|one| one.v4)), percent(sum(|one| one.v6)));
    let queries = match names.queries_seen {
        0 => String::new(),
        seen => {
            let share = percent(sum(|one| one.queries.unwrap_or_default()));
            format!(", {share} of {seen} queries seen")
        }
    };
    let rows = moved.iter().copied().chain(stay).map(row);
    let columns = [
        ("FROM", TEXT),
        ("TO", TEXT),
        ("IPV4", NUMBER),
        ("IPV6", NUMBER),
        ("QUERIES", NUMBER),
    ];
    format!(
        "{} ({pool}): {v4} of IPv4 moves, {v6} of IPv6{queries}\n{}",
        shown(&of),
        table(&columns, rows)
    )
}

fn is_move(one: &Move) -> bool {
    one.from != one.to
}

/// Names, the first few of them written out.
fn shown(names: &[&str]) -> String {
    let (shown, more) = names.split_at(names.len().min(SHOWN));
    let shown = shown.join(", ");
    match more.len() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A pool, and which one answers in its place.
fn pool(id: &str, answered_by: &str) -> String {
    match id == answered_by {
        true => id.to_owned(),
        false => format!("{id}, answered by {answered_by}"),
    }
}

fn row(one: &Move) -> [String; 5] {
    let mirror = |id: &Option<String>| {
        let none = || "no answer (SERVFAIL)".to_owned();
        id.clone().unwrap_or_else(none)
    };
    let to = match one.from == one.to {
        true => "stays".to_owned(),
        false => mirror(&one.to),
    };
    let queries = one.queries.map_or("-".to_owned(), percent);
    [
        mirror(&one.from),
        to,
        percent(one.v4),
        percent(one.v6),
        queries,
    ]
}

/// A share, so that little is not taken for nothing.
fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        little if little < 0.005 => "<0.01 %".to_owned(),
        share => format!("{share:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_stands_before_what_stays() {
        let mirror = |id: &str| (id != "none").then(|| id.to_owned());
        let one = |from: &str, to: &str, v4, v6, queries| Move {
            from: mirror(from),
            to: mirror(to),
            v4,
            v6,
            queries,
        };
        let names = |names: &[&str], to_pool: &str, queries_seen, moves| NameMoves {
            names: names.iter().map(|&name| name.into()).collect(),
            from_pool: "www".into(),
            from_answered_by: "www".into(),
            to_pool: to_pool.into(),
            to_answered_by: "www".into(),
            queries_seen,
            moves,
        };
        let preview = Preview {
            config: "/etc/new.toml".into(),
            names: vec![
                names(
                    &["a.", "b.", "c.", "d.", "e."],
                    "www",
                    200,
                    vec![
                        one("ams", "ams", 0.75, 0.999_999_9, Some(0.5)),
                        one("ams", "iad", 0.25, 0.000_000_1, Some(0.5)),
                    ],
                ),
                names(&["f."], "cdn", 0, vec![one("ams", "ams", 1.0, 1.0, None)]),
                names(&["h."], "cdn", 0, vec![one("ams", "none", 1.0, 1.0, None)]),
                names(
                    &["i.", "j.", "k."],
                    "www",
                    0,
                    vec![one("none", "none", 1.0, 1.0, None)],
                ),
            ],
            new_names: vec![],
            gone_names: vec!["g.".into()],
            new_pools: vec!["cdn".into(), "x".into()],
            gone_pools: vec![],
            compile_ms: 12,
            compare_ms: 3,
        };
        let expected = "\
/etc/new.toml: compiled in 12 ms, compared in 3 ms; nothing is changed

a., b., c. and 2 more (pool www): 25.00 % of IPv4 moves, <0.01 % of IPv6, 50.00 % of 200 queries seen
FROM  TO        IPV4      IPV6  QUERIES
ams   iad    25.00 %   <0.01 %  50.00 %
ams   stays  75.00 %  100.00 %  50.00 %

h. (pool www, then cdn, answered by www): 100.00 % of IPv4 moves, 100.00 % of IPv6
FROM  TO                        IPV4      IPV6  QUERIES
ams   no answer (SERVFAIL)  100.00 %  100.00 %        -

nothing moves: f., i., j. and 1 more

new pools: cdn, x
names that are gone: g.
";
        assert_eq!(text(&preview), expected);
    }
}
