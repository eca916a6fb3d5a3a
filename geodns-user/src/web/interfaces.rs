//! Interfaces: how the program is attached, and what became of their packets.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;

use super::Shared;
use super::page::{Frame, Note, Page, interface_notes, render};
use super::text::count;
use crate::control::status::Interface;

#[derive(Template)]
#[template(path = "interfaces.html")]
struct Interfaces {
    frame: Frame,
    notes: Vec<Note>,
    rows: Vec<Interface>,
    fates: Vec<String>,
    traffic: Vec<Traffic>,
}

struct Traffic {
    names: String,
    numbers: Vec<String>,
    slow: String,
    lost: String,
    blind: bool,
}

/// `GET /interfaces`
pub async fn page(State(service): State<Shared>) -> Page {
    let status = service.status().await?;
    let stats = service.stats().await?.interfaces;
    let fates: BTreeSet<&String> = stats.iter().flat_map(|of| of.kernel.keys()).collect();
    let traffic = stats.iter().map(|of| Traffic {
        names: of.interfaces.join(", "),
        numbers: fates
            .iter()
            .map(|fate| count(of.kernel.get(*fate).copied().unwrap_or(0)))
            .collect(),
        slow: count(of.slow),
        lost: of.dropped_by_driver.map_or_else(|| "–".to_owned(), count),
        blind: of.blind,
    });
    render(&Interfaces {
        frame: Frame::of("/interfaces"),
        notes: interface_notes(&status),
        traffic: traffic.collect(),
        fates: fates
            .into_iter()
            .map(|fate| fate.replace('_', " "))
            .collect(),
        rows: status.interfaces,
    })
}
