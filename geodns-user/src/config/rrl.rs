//! `[rrl]`: judged.

use geodns_common::wire;
use ipnet::IpNet;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};
use crate::base::prefix;

/// Responses a second, at the most: more is no limit.
const MAX_RATE: u32 = 1_000_000;
/// The rarest slip.
const MAX_SLIP: u32 = 100;
/// Octets of a response over UDP that everybody takes, and that anybody gets.
const UDP_SIZES: [u32; 2] = [wire::MIN_UDP_SIZE, wire::MAX_UDP_SIZE];
/// Prefixes that are never limited, at the most.
const MAX_ALLOW: usize = 4096;

/// `[rrl]`: how much is answered to one /24 or /56.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrl {
    /// Responses a second; 0: there is no limit.
    pub rate: u32,
    /// Responses at once, when there were none before.
    pub burst: u32,
    /// One in N queries over the limit is answered, with TC or a cookie; 0: none is.
    pub slip: u32,
    /// Octets of a response over UDP to a client that has shown no good cookie, at the most, while there is a limit.
    pub nocookie_udp_size: u32,
    /// Clients that are never limited.
    pub allow: Vec<IpNet>,
    /// It is counted what would be over the limit, and nothing else happens.
    pub dry_run: bool,
}

impl Default for Rrl {
    /// No limit.
    fn default() -> Self {
        Self {
            rate: 0,
            burst: 0,
            slip: 2,
            nocookie_udp_size: UDP_SIZES[0],
            allow: Vec::new(),
            dry_run: false,
        }
    }
}

impl Reader<'_> {
    pub(super) fn rrl(&self, file: file::Rrl) -> Judged<Rrl> {
        let number = |number: Option<Spanned<i64>>, key, default, least, most| match number {
            Some(number) => self.number(number, key, least, most),
            None => Ok(default),
        };
        let rate = number(file.rate, "rrl.rate", 0, 0, MAX_RATE);
        let burst = number(file.burst, "rrl.burst", rate.unwrap_or(0), 1, 10 * MAX_RATE);
        let slip = number(file.slip, "rrl.slip", 2, 0, MAX_SLIP);
        let [least, most] = UDP_SIZES;
        let nocookie_udp_size = number(
            file.nocookie_udp_size,
            "rrl.nocookie_udp_size",
            least,
            least,
            most,
        );
        let allow = file.allow.map_or(Ok(Vec::new()), |list| self.allow(&list));
        Ok(Rrl {
            rate: rate?,
            burst: burst?,
            slip: slip?,
            nocookie_udp_size: nocookie_udp_size?,
            allow: allow?,
            dry_run: file.dry_run.unwrap_or(false),
        })
    }

    /// Prefixes that are never limited.
    fn allow(&self, list: &Spanned<Vec<Spanned<String>>>) -> Judged<Vec<IpNet>> {
        const KEY: &str = "rrl.allow";
        let count = list.get_ref().len();
        if count > MAX_ALLOW {
            let message = format!("{count} prefixes; {MAX_ALLOW} is the most");
            return self.error(list.span(), KEY, message);
        }
        all(list.get_ref().iter().map(|text| {
            let prefix = prefix::parse(text.get_ref());
            let prefix =
                prefix.and_then(|prefix| prefix::check_trie_prefix(prefix).map(|()| prefix));
            prefix.or_else(|message| self.error(text.span(), KEY, message))
        }))
    }
}
