//! The program's log of packets (`--log-packets`), with names in place of its numbers.
//!
//! The program sends `VERDICT OCTETS IS_V6 CLIENT` through aya-log's ring buffer, always alike, since it has to
//! be verified once for each form: what they mean is worked out here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aya::Ebpf;
use aya_log::EbpfLogger;
use geodns_common::verdict::Verdict;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::supervise::{Never, forever};

/// Passes on to our log what a loaded program logs, in a task of its own.
pub fn pass_on(ebpf: &mut Ebpf) -> io::Result<JoinHandle<Never>> {
    let logger = EbpfLogger::init_with_logger(ebpf, Packets)
        .map_err(|error| io::Error::other(super::chain(&error)))?;
    // SAFETY: the logger owns its ring buffer's descriptor, always the same one, until it is
    // dropped; only the task below has it.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| io::Error::other(error.to_string()))?;
    let logger = Arc::new(tokio::sync::Mutex::new(logger));
    Ok(tokio::spawn(forever("packet log", move || {
        let logger = Arc::clone(&logger);
        async move {
            let mut logger = logger.lock().await;
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
            // The runtime ends.
            std::future::pending().await
        }
    })))
}

struct Packets;

impl Log for Packets {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        match read(&text) {
            Some((verdict, Some((client, octets)))) => {
                tracing::info!(target: "geodns::packets", verdict, %client, octets, "packet");
            }
            Some((verdict, None)) => tracing::info!(target: "geodns::packets", verdict, "packet"),
            // aya-log's own words.
            None => tracing::info!(target: "geodns::packets", "{text}"),
        }
    }

    fn flush(&self) {}
}

/// Name of the verdict; client and octets of the message, if the program came to know them.
fn read(text: &str) -> Option<(&'static str, Option<(IpAddr, u32)>)> {
    let mut words = text.split(' ');
    let verdict = Verdict::from_index(words.next()?.parse().ok()?)?.name();
    let octets = words.next()?.parse().ok()?;
    let is_v6 = words.next()? != "0";
    let client: Ipv6Addr = words.next()?.parse().ok()?;
    let client = match client.octets() {
        _ if is_v6 => client.into(),
        [a, b, c, d, ..] => Ipv4Addr::new(a, b, c, d).into(),
    };
    Some((verdict, (octets != 0).then_some((client, octets))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        let client = |text: &str| text.parse::<IpAddr>().unwrap();
        let answered = format!("{} 49 0 a01:1::", Verdict::Answered as u32);
        let of = Some((client("10.1.0.1"), 49));
        assert_eq!(read(&answered), Some(("answered", of)));
        let answered = format!("{} 60 1 2001:db8::1", Verdict::Static as u32);
        let of = Some((client("2001:db8::1"), 60));
        assert_eq!(read(&answered), Some(("static", of)));
        let not_ip = format!("{} 0 0 a01:1::", Verdict::NotIp as u32);
        assert_eq!(read(&not_ip), Some(("pass_not_ip", None)));
        assert_eq!(read("no number"), None);
        assert_eq!(read("4000000000"), None);
    }
}
