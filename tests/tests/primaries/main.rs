//! Primaries that no real server is: with odd manners, behind others, behind a firewall, forged, and endless.
//!
//! - `manners`: ways to send a zone (`axfr`), or what has changed in it (`ixfr`), as a table beside others' servers
//! - `several`: several primaries of a zone, not all of them up to date, and what is to be had over TCP alone
//! - `floods`: NOTIFYs that are forged
//! - `limits`: zones that are too large, one by one and together

mod axfr;
mod floods;
mod ixfr;
mod limits;
mod manners;
mod several;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::dns::{self, AA, Query, Reply, SOA, wire_name};
use geodns_tests::net::Space;

/// Ours.
const OURS: [u8; 4] = [192, 0, 2, 53];
/// Primaries.
const ONE: [u8; 4] = [192, 0, 2, 1];
const TWO: [u8; 4] = [192, 0, 2, 2];
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of ours that is a secondary of these zones, of these primaries each.
fn secondary<'a>(
    zones: impl IntoIterator<Item = &'a str>,
    primaries: &[[u8; 4]],
    more: &str,
) -> Setup {
    let primaries: Vec<String> = primaries
        .iter()
        .map(|&at| IpAddr::from(at).to_string())
        .collect();
    let mut body = String::new();
    for zone in zones {
        body += &format!("[[zone]]\nname = \"{zone}\"\nprimaries = {primaries:?}\n");
    }
    let ours = IpAddr::from(OURS).to_string();
    Setup::new(&[&ours]).mode("off").body(&(body + more))
}

/// The serial that we have of a zone.
fn serial(space: &Space, zone: &str) -> Result<Option<u32>> {
    let socket = space.udp(ONE.into(), SocketAddr::new(OURS.into(), 53))?;
    let answer = dns::ask(&socket, &Query::new(zone, SOA).bytes(), PATIENCE)?;
    let Some(answer) = answer else {
        return Ok(None);
    };
    let reply = Reply::parse(&answer)?;
    let soa = reply.of("SOA");
    let number = soa.first().and_then(|soa| soa.split_whitespace().nth(2));
    Ok(number.and_then(|number| number.parse().ok()))
}

/// Waits until we have a serial of a zone.
fn until_serial(space: &Space, daemon: &Daemon, zone: &str, wanted: u32) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while serial(space, zone)? != Some(wanted) {
        ensure!(Instant::now() < end, "{zone} {wanted}: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A NOTIFY without a serial.
fn notify(id: u16, zone: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for word in [id, 4 << 11 | AA, 1, 0, 0, 0] {
        octets.extend(word.to_be_bytes());
    }
    octets.extend(wire_name(zone));
    octets.extend([0, 6, 0, 1]);
    octets
}
