//! The limit of responses over UDP, in the slow path: the fast path's own code, over the same buckets.
//!
//! The path that answers a query takes a token of its prefix. So a query that the kernel passes is paid for here, as is one
//! that the program does not see, and none is paid for twice.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use geodns_common::abi::{self, Row, Settings};
use geodns_common::layout;
use geodns_common::limit::{CELLS_BITS, CELLS_OF_PAGE, Page};
use geodns_common::respond;
use geodns_common::scratch::{MAX_QUERY, Scratch};
use geodns_common::tables::Tables;
use geodns_common::verdict::Verdict;
use geodns_common::wire::{QR, TC, rcode};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};

use super::message::Outcome;
use super::query::HEADER;
use crate::base::clock::now_unix_s;
use crate::config::Secrets;
use crate::kernel::mmap::View;

/// Buckets of tokens.
pub trait Buckets: Debug + Send + Sync {
    /// A page of them.
    fn page(&self, number: u32) -> Option<&Page>;
}

/// Buckets in memory of our own, where there is no fast path. All are full.
#[derive(Debug)]
pub struct Own(Box<[Row]>);

impl Default for Own {
    fn default() -> Self {
        Self((0..1 << CELLS_BITS).map(|_| Row::default()).collect())
    }
}

impl Buckets for Arc<View<Page>> {
    fn page(&self, number: u32) -> Option<&Page> {
        self.get(number)
    }
}

impl Buckets for Own {
    fn page(&self, number: u32) -> Option<&Page> {
        let at = number as usize * CELLS_OF_PAGE;
        self.0.get(at..at + CELLS_OF_PAGE)?.try_into().ok()
    }
}

/// How much is answered to one prefix.
#[derive(Debug)]
pub struct Limiter {
    settings: Settings,
    buckets: Box<dyn Buckets>,
    /// Prefixes that are exempt, in order; none holds another.
    exempt: Vec<IpNet>,
}

/// The limiter's decision on a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is answered. There may be a bound of the response's octets for a client without a good cookie.
    Granted(Option<u16>),
    /// The same, though it is over the limit: that is only counted.
    LetPass,
    /// It is dropped.
    Dropped,
    /// It is answered with nothing but TC or a cookie.
    Slipped(Outcome),
}

impl Limiter {
    /// The limit that these settings have over these buckets, from which these prefixes are exempt. `None`: there is
    /// no limit.
    pub fn new(
        settings: &Settings,
        exempt: &[IpNet],
        buckets: impl FnOnce() -> Box<dyn Buckets>,
    ) -> Option<Self> {
        if settings.limit.rate.interval == 0 {
            return None;
        }
        let mut exempt = IpNet::aggregate(&exempt.to_vec());
        exempt.sort_by_key(IpNet::network);
        Some(Self {
            settings: *settings,
            buckets: buckets(),
            exempt,
        })
    }

    /// Limits a batch of queries, where cookies are made with these secrets.
    pub fn at<'a>(&'a self, secrets: Option<&Secrets>, scratch: &'a mut Scratch) -> Limiting<'a> {
        scratch.now = now_unix_s();
        // As the program reads it; it cannot fail.
        let clock = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
        scratch.clock = clock.map_or(0, |time| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
        });
        let cookies = secrets.map(|&Secrets([first, second])| layout::Cookies {
            row: Row::new(layout::Cookies::row(0, 1)),
            secrets: [first, second, [0; 2], [0; 2]],
        });
        Limiting {
            tables: Within {
                limiter: self,
                cookies,
            },
            scratch,
        }
    }

    fn is_exempt(&self, client: IpAddr) -> bool {
        let after = self.exempt.partition_point(|net| net.network() <= client);
        let nearest = after.checked_sub(1).and_then(|at| self.exempt.get(at));
        nearest.is_some_and(|net| net.contains(&client))
    }
}

/// A [`Limiter`] at one moment.
pub struct Limiting<'a> {
    tables: Within<'a>,
    scratch: &'a mut Scratch,
}

impl Limiting<'_> {
    /// Takes a token for a query over UDP. What it is answered with instead is put into the empty `response`.
    pub fn admit(&mut self, message: &[u8], client: IpAddr, response: &mut Vec<u8>) -> Admission {
        let limiter = self.tables.limiter;
        let payload = limiter.settings.limit.payload;
        let granted = || {
            let bound = (payload != 0 && !limiter.is_exempt(client)).then_some(payload as u16);
            Admission::Granted(bound)
        };
        // Nobody answers a response, or what is too short for a header.
        let is_query = message.get(2).is_some_and(|flags| flags & QR == 0);
        if !is_query || message.len() < HEADER {
            return granted();
        }
        let scratch = &mut *self.scratch;
        // Of a longer one, that it is longer is all that counts.
        let head = message.get(..MAX_QUERY as usize + 1).unwrap_or(message);
        if !scratch.set_query(head, client) {
            return granted();
        }
        scratch.limited = 0;
        match respond::admit(scratch, &self.tables) {
            Ok(Some(_)) => {
                response.extend_from_slice(scratch.message());
                let is_truncated = response.get(2).is_some_and(|flags| flags & TC != 0);
                let code = match is_truncated {
                    true => rcode::NOERROR,
                    false => rcode::BADCOOKIE,
                };
                Admission::Slipped(Outcome {
                    truncated: is_truncated,
                    ..Outcome::of(code)
                })
            }
            Err(Verdict::Limited) => Admission::Dropped,
            _ if scratch.limited == Scratch::LET_PASS => Admission::LetPass,
            _ => granted(),
        }
    }
}

/// The tables that the fast path's code asks for.
#[derive(Debug)]
struct Within<'a> {
    limiter: &'a Limiter,
    cookies: Option<layout::Cookies>,
}

impl Tables for Within<'_> {
    fn settings(&self) -> &Settings {
        &self.limiter.settings
    }
    fn cookies(&self) -> Option<&layout::Cookies> {
        self.cookies.as_ref()
    }
    fn now(&self, scratch: &Scratch) -> u32 {
        scratch.now
    }
    fn cells(&self, page: u32) -> Option<&Page> {
        self.limiter.buckets.page(page)
    }
    fn is_exempt(&self, address: [u64; 2], is_v6: bool) -> bool {
        let octets: [u8; 16] = bytemuck::cast(address);
        let [a, b, c, d, ..] = octets;
        self.limiter.is_exempt(match is_v6 {
            true => Ipv6Addr::from(octets).into(),
            false => Ipv4Addr::new(a, b, c, d).into(),
        })
    }

    // It answers nothing.
    fn name(&self, _: u32) -> Option<&abi::Name> {
        None
    }
    fn zone(&self, _: u32) -> Option<&abi::Zone> {
        None
    }
    fn pool(&self, _: u32) -> Option<&abi::Pool> {
        None
    }
    fn answer(&self, _: u32) -> Option<&abi::Answer> {
        None
    }
    fn shelf(&self, _: u32) -> Option<&abi::Shelf> {
        None
    }
    fn region(&self, _: u32) -> Option<u64> {
        None
    }
    fn slot(&self, _: u32) -> Option<u64> {
        None
    }
    fn random(&self) -> u32 {
        0
    }
    fn root(&self, _: u32) -> Option<&abi::Page> {
        None
    }
    fn block(&self, _: u32) -> Option<&abi::Block> {
        None
    }
}
