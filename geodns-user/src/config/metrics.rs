//! `[metrics]`: judged.

use std::net::SocketAddr;

use super::file;
use super::reader::{Judged, Reader, all};

/// Series of a family, unless the file says otherwise.
const DEFAULT_SERIES: u32 = 10_000;
/// Series of a family, at the most.
const MAX_SERIES: u32 = 1_000_000;
/// Addresses, at the most.
const MAX_LISTEN: usize = 16;

/// `[metrics]`: numbers for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Addresses that Prometheus asks; none: the control socket alone has the metrics.
    pub listen: Vec<SocketAddr>,
    /// Whether there are series of each zone.
    pub by_zone: bool,
    /// Series of a family by zone, or by pool and mirror, at the most.
    pub max_series: usize,
}

impl Reader<'_> {
    pub(super) fn metrics(&self, file: file::Metrics) -> Judged<Metrics> {
        const KEY: &str = "metrics.listen";
        let listen = file.listen.map_or(Ok(Vec::new()), |list| {
            if list.get_ref().len() > MAX_LISTEN {
                let message = format!("more than {MAX_LISTEN} addresses; name fewer");
                return self.error(list.span(), KEY, message);
            }
            let list = list.into_inner();
            let judged = list.iter().enumerate().map(|(at, text)| {
                let address = address(text.get_ref());
                let before = &list[..at];
                match address {
                    Ok(_) if before.iter().any(|other| other.get_ref() == text.get_ref()) => {
                        let message = format!("{:?} stands here twice; remove one", text.get_ref());
                        self.error(text.span(), KEY, message)
                    }
                    Ok(address) => Ok(address),
                    Err(message) => self.error(text.span(), KEY, message),
                }
            });
            all(judged)
        });
        let max_series = file.max_series.map_or(Ok(DEFAULT_SERIES), |number| {
            self.number(number, "metrics.max_series", 1, MAX_SERIES)
        });
        Ok(Metrics {
            listen: listen?,
            by_zone: file.by_zone.unwrap_or(false),
            max_series: max_series? as usize,
        })
    }
}

/// An address with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!(
            "{text:?} is not an address with a port; write one as \"127.0.0.1:9533\" or \"[::1]:9533\""
        )
    })?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0; write a port from 1 to 65535"));
    }
    if address.ip().is_multicast() {
        return Err(format!(
            "{text:?} is a multicast address; write one of this machine's own"
        ));
    }
    Ok(address)
}
