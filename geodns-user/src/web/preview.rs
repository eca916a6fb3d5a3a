//! The last preview: clients that another configuration would move.

use askama::Template;
use axum::extract::State;

use super::Shared;
use super::page::{Frame, Page, render};
use super::text::{ago, percent};
use crate::base::clock::now_unix_ms;
use crate::control::preview::{Move, NameMoves, Preview};

/// Names that a heading shows, at the most.
const MOST_NAMES: usize = 8;

#[derive(Template)]
#[template(path = "preview.html")]
struct Last {
    frame: Frame,
    shown: Option<Shown>,
}

struct Shown {
    when: String,
    groups: Vec<Group>,
    changes: Vec<(&'static str, String)>,
    preview: std::sync::Arc<Preview>,
}

/// Names that move alike.
struct Group {
    names: String,
    pools: String,
    rows: Vec<Row>,
}

struct Row {
    from: String,
    to: String,
    moves: bool,
    share: f64,
    v4: String,
    v6: String,
    queries: String,
}

/// `GET /preview`
pub async fn page(State(service): State<Shared>) -> Page {
    let shown = service.last_preview().map(|(at, preview)| {
        let changes = [
            ("New names", &preview.new_names),
            ("Names that go", &preview.gone_names),
            ("New pools", &preview.new_pools),
            ("Pools that go", &preview.gone_pools),
        ];
        let changes = changes.into_iter().filter(|(_, which)| !which.is_empty());
        Shown {
            when: ago(now_unix_ms(), at),
            groups: preview.names.iter().map(group).collect(),
            changes: changes.map(|(what, which)| (what, some(which))).collect(),
            preview,
        }
    });
    render(&Last {
        frame: Frame::of("/preview"),
        shown,
    })
}

fn group(moves: &NameMoves) -> Group {
    let pool = |pool: &str, answers: &str| match pool == answers {
        true => pool.to_owned(),
        false => format!("{pool} (answered by {answers})"),
    };
    let from = pool(&moves.from_pool, &moves.from_answered_by);
    let to = pool(&moves.to_pool, &moves.to_answered_by);
    let mut rows: Vec<Row> = moves.moves.iter().map(row).collect();
    rows.sort_by(|a, b| b.moves.cmp(&a.moves).then(b.share.total_cmp(&a.share)));
    Group {
        names: some(&moves.names),
        pools: match from == to {
            true => format!("pool {from}"),
            false => format!("pool {from}, then {to}"),
        },
        rows,
    }
}

fn row(of: &Move) -> Row {
    let mirror = |id: &Option<String>| id.clone().unwrap_or_else(|| "no answer".to_owned());
    Row {
        from: mirror(&of.from),
        to: mirror(&of.to),
        moves: of.from != of.to,
        share: of.v4,
        v4: percent(of.v4),
        v6: percent(of.v6),
        queries: of.queries.map(percent).unwrap_or_default(),
    }
}

fn some(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(MOST_NAMES)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
