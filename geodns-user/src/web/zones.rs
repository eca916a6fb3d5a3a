//! Zones.

use askama::Template;
use axum::extract::State;

use super::Shared;
use super::page::{Frame, Page, render};
use super::text::{ago, ahead, count};
use crate::control::zone::{Catalog, Zone, ZoneRole};

/// Zones that the page shows, at the most: a server can have a million.
const MOST: usize = 1000;
/// Steered names that it shows of a zone, at the most.
const MOST_NAMES: usize = 20;

#[derive(Template)]
#[template(path = "zones.html")]
struct Zones {
    frame: Frame,
    rows: Vec<Row>,
    left: usize,
    kernel: String,
}

struct Row {
    kind: String,
    names: String,
    checked: String,
    expires: String,
    is_expired: bool,
    steered: Vec<(String, String)>,
    more: usize,
    zone: Zone,
}

/// `GET /zones`
pub async fn page(State(service): State<Shared>) -> Page {
    let mut zones = service.zones().await?;
    let left = zones.len().saturating_sub(MOST);
    zones.truncate(MOST);
    let names = service.status().await?.names;
    render(&Zones {
        frame: Frame::of("/zones"),
        left,
        rows: zones.into_iter().map(row).collect(),
        kernel: match names.in_kernel {
            0 => "The kernel has no names: the slow path answers.".to_owned(),
            in_kernel => format!(
                "The kernel has {} of {} names, and room for {}.",
                count(in_kernel),
                count(names.served),
                count(names.most)
            ),
        },
    })
}

fn row(zone: Zone) -> Row {
    let now = zone.now_unix_ms;
    let mut kind = match zone.role {
        ZoneRole::Primary => "primary",
        ZoneRole::Secondary => "secondary",
    }
    .to_owned();
    match zone.catalog {
        Some(Catalog::Consumer) => kind += ", catalog that is consumed",
        Some(Catalog::Producer) => kind += ", catalog that is produced",
        None => {}
    }
    if let Some(catalog) = &zone.member_of {
        kind += &format!(", member of {catalog}");
    }
    if zone.signed {
        kind += ", signed (served without signatures)";
    }
    let steered = zone.steered.iter().take(MOST_NAMES);
    let steered = steered.map(|(name, pool)| (name.clone(), pool.clone()));
    Row {
        kind,
        names: count(zone.names),
        checked: zone
            .checked_unix_ms
            .map(|at| ago(now, at))
            .unwrap_or_default(),
        expires: zone
            .expires_unix_ms
            .map(|at| ahead(now, at))
            .unwrap_or_default(),
        is_expired: zone.expires_unix_ms.is_some_and(|at| at <= now),
        steered: steered.collect(),
        more: zone.steered.len().saturating_sub(MOST_NAMES),
        zone,
    }
}
