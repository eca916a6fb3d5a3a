//! `[metrics]`: judged.

use std::net::SocketAddr;

use super::CertificateFiles;
use super::file;
use super::reader::{Judged, Reader};

/// Series of a family, unless the file says otherwise.
const DEFAULT_SERIES: u32 = 10_000;
/// Series of a family, at the most.
const MAX_SERIES: u32 = 1_000_000;

/// `[metrics]`: numbers for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Addresses that Prometheus asks; none: the control socket alone has the metrics.
    pub listen: Vec<SocketAddr>,
    /// HTTPS with this certificate; `None`: HTTP.
    pub tls: Option<CertificateFiles>,
    /// Whether there are series of each zone.
    pub by_zone: bool,
    /// Series of a family by zone, or by pool and mirror, at the most.
    pub max_series: usize,
}

impl Reader<'_> {
    pub(super) fn metrics(&self, file: file::Metrics) -> Judged<Metrics> {
        let listen = self.sockets(file.listen.as_ref(), "metrics.listen", 9533);
        let tls = self.certificate_files(file.certificate, file.key, "metrics");
        let max_series = file.max_series.map_or(Ok(DEFAULT_SERIES), |number| {
            self.number(number, "metrics.max_series", 1, MAX_SERIES)
        });
        Ok(Metrics {
            listen: listen?,
            tls: tls?,
            by_zone: file.by_zone.unwrap_or(false),
            max_series: max_series? as usize,
        })
    }
}
