//! All mirrors, and one of them.

use askama::Template;
use axum::extract::{Path, State};

use super::Shared;
use super::events::{Line, last};
use super::page::{Frame, Page, render};
use super::text::{ago, ahead, duration, percent};
use super::timeline::Timeline;
use super::view::State as Service;
use crate::base::bandwidth;
use crate::control::mirror::{AdminState, CheckState, Mirror};

#[derive(Template)]
#[template(path = "mirrors.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
}

struct Row {
    mirror: Mirror,
    state: Service,
    timeline: Timeline,
    share: String,
}

#[derive(Template)]
#[template(path = "mirror.html")]
struct One {
    frame: Frame,
    mirror: Mirror,
    state: Service,
    line: Timeline,
    share: String,
    checks: Vec<Check>,
    external: Vec<Verdict>,
    events: Vec<Line>,
    admin: String,
    weight: String,
    bandwidth: Option<String>,
}

struct Check {
    address: String,
    class: &'static str,
    state: &'static str,
    since: String,
    took: String,
    message: String,
}

struct Verdict {
    address: String,
    class: &'static str,
    state: &'static str,
    since: String,
    until: String,
    reason: String,
}

fn share_of(line: &Timeline) -> String {
    line.share.map_or_else(|| "–".to_owned(), percent)
}

/// `GET /mirrors`
pub async fn list(State(service): State<Shared>) -> Page {
    let trends = service.trends();
    let rows = service.mirrors().await?.into_iter().map(|mirror| {
        let timeline = Timeline::of(&trends, &mirror.id, mirror.now_unix_ms / 1000);
        Row {
            state: Service::of(&mirror),
            share: share_of(&timeline),
            timeline,
            mirror,
        }
    });
    let mut rows: Vec<_> = rows.collect();
    // Stable: each in the order of the configuration.
    rows.sort_by_key(|row| std::cmp::Reverse(row.state));
    render(&List {
        frame: Frame::of("/mirrors"),
        rows,
    })
}

/// `GET /mirrors/ID`
pub async fn page(State(service): State<Shared>, Path(id): Path<String>) -> Page {
    let mirror = service.mirror(id).await?;
    let now = mirror.now_unix_ms;
    let trends = service.trends();
    let line = Timeline::of(&trends, &mirror.id, now / 1000);
    let share = match line.share {
        Some(share) => format!("in service {} of the time that is known", percent(share)),
        None => "nothing is known yet".to_owned(),
    };
    let checks = mirror.checks.iter().map(|check| {
        let (class, state) = match check.state {
            CheckState::Up => ("in", "up"),
            CheckState::Down => ("out", "down"),
            CheckState::Unknown => ("unknown", "unknown"),
        };
        Check {
            address: check.address.to_string(),
            class,
            state,
            since: check
                .since_unix_ms
                .map(|at| ago(now, at))
                .unwrap_or_default(),
            took: check
                .latency_ms
                .map(|took| format!("{took:.1} ms"))
                .unwrap_or_default(),
            message: check.reason.clone().unwrap_or_default(),
        }
    });
    let external = mirror.external.iter().map(|verdict| Verdict {
        address: verdict
            .address
            .map_or_else(|| "all".to_owned(), |at| at.to_string()),
        class: if verdict.up { "in" } else { "out" },
        state: if verdict.up { "up" } else { "down" },
        since: ago(now, verdict.since_unix_ms),
        until: verdict
            .until_unix_ms
            .map_or_else(|| "withdrawn".to_owned(), |at| ahead(now, at)),
        reason: verdict.reason.clone(),
    });
    render(&One {
        frame: Frame::of("/mirrors"),
        state: Service::of(&mirror),
        share,
        line,
        checks: checks.collect(),
        external: external.collect(),
        events: last(&service, Some(&mirror.id)).await,
        admin: admin(&mirror),
        weight: weight(&mirror),
        bandwidth: mirror.bandwidth.map(bandwidth::shown),
        mirror,
    })
}

fn admin(mirror: &Mirror) -> String {
    let admin = &mirror.admin;
    let now = mirror.now_unix_ms;
    let word = match admin.state {
        AdminState::Auto => return "auto: checks and other monitors decide".to_owned(),
        AdminState::Up => "up, whatever checks say",
        AdminState::Down => "down",
        AdminState::Drain => "drain",
    };
    let mut line = word.to_owned();
    if admin.state == AdminState::Drain {
        line += &format!(", {} of new clients kept away", percent(admin.drained));
        if let Some(over) = admin.over_ms {
            line += &format!(", over {}", duration(over));
        }
    }
    if let Some(since) = admin.since_unix_ms {
        line += &format!(", said {}", ago(now, since));
    }
    line
}

fn weight(mirror: &Mirror) -> String {
    let weight = &mirror.weight;
    let mut line = weight.in_force.to_string();
    if let Some(wanted) = weight.wanted {
        line += &format!(" of {wanted} wanted, {} configured", weight.configured);
    }
    if let Some(until) = weight.until_unix_ms {
        line += &format!(", done {}", ahead(mirror.now_unix_ms, until));
    }
    line
}
