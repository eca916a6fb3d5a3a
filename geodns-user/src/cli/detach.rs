//! `geodns detach`: takes off what a stopped daemon has left on interfaces.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::kernel::netdev::Netdevs;
use crate::kernel::pins::Was;
use crate::kernel::{self, Error};

/// An interface that something was left on.
#[derive(Debug, Serialize)]
struct Detached {
    interface: String,
    /// Whether it is an interface of this network namespace.
    here: bool,
    /// Whether its rxvlan was turned on again.
    rxvlan: bool,
}

/// Detaches what is pinned below a folder and removes the pins; the text to print.
pub fn run(pin: &Path, json: bool) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let netdevs = runtime.block_on(async {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        anyhow::Ok(Netdevs::read(&netlink).await?)
    })?;
    let left = kernel::detach_left(pin, &netdevs).map_err(|error| match error {
        Error::InUse { .. } => anyhow::anyhow!(
            "a geodns that runs with kernel.pin = {pin:?} uses what is attached: stop it first"
        ),
        error => error.into(),
    })?;
    let detached: Vec<Detached> = left
        .into_iter()
        .filter(|left| left.was != Was::Gone)
        .map(|left| Detached {
            interface: left.interface,
            here: left.was == Was::Here,
            rxvlan: left.rxvlan,
        })
        .collect();
    if json {
        return Ok(format!("{:#}\n", serde_json::to_value(detached)?));
    }
    let mut text = String::new();
    for Detached {
        interface,
        here,
        rxvlan,
    } in &detached
    {
        let more = match (here, rxvlan) {
            (true, true) => ", and rxvlan turned on again",
            (true, false) => "",
            (false, _) => " from an interface of this name in another network namespace",
        };
        writeln!(text, "{interface}: detached{more}")?;
    }
    if detached.is_empty() {
        writeln!(text, "{}: nothing was left attached", pin.display())?;
    }
    Ok(text)
}
