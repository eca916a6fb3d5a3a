//! `[transfer]`: how much zones from elsewhere may take, judged.

use super::file::{self, Spanned};
use super::reader::{Judged, Reader};
use super::size::size;

/// The least that a zone may take: a few records.
const LEAST: usize = 64 << 10;
/// The most: places in a zone are 32 bits.
const MOST_ZONE: usize = 4 << 30;
/// The most of all zones together.
const MOST_ALL: usize = 1 << 50;
/// SOA queries a second, at the most: more is no limit.
const MAX_RATE: u32 = 100_000;

/// `[transfer]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inward {
    /// Octets that one zone may take.
    pub max_zone: usize,
    /// Octets that all of them may take together.
    pub max_all: usize,
    /// SOA queries a second that NOTIFYs may cause, to one primary.
    pub notify_rate: u32,
    /// The same, in all.
    pub notify_rate_all: u32,
}

impl Default for Inward {
    fn default() -> Self {
        Self {
            max_zone: 256 << 20,
            max_all: 1 << 30,
            notify_rate: 20,
            notify_rate_all: 100,
        }
    }
}

impl Reader<'_> {
    pub(super) fn inward(&self, file: file::Transfer) -> Judged<Inward> {
        let octets = |text: Option<Spanned<String>>, key, default, most| match text {
            Some(text) => match size(text.get_ref()) {
                Some(octets) if (LEAST..=most).contains(&octets) => Ok(octets),
                Some(_) => {
                    let message = format!(
                        "{} is out of range; write 64KiB to {}GiB",
                        text.get_ref(),
                        most >> 30
                    );
                    self.error(text.span(), key, message)
                }
                None => {
                    let message = format!(
                        "{:?} is not a size; write a number and KiB, MiB or GiB, as \"256MiB\"",
                        text.get_ref()
                    );
                    self.error(text.span(), key, message)
                }
            },
            None => Ok(default),
        };
        let rate = |number: Option<Spanned<i64>>, key, default| match number {
            Some(number) => self.number(number, key, 1, MAX_RATE),
            None => Ok(default),
        };
        let Inward {
            max_zone,
            max_all,
            notify_rate,
            notify_rate_all,
        } = Inward::default();
        let max_zone = octets(file.max_zone, "transfer.max_zone", max_zone, MOST_ZONE);
        let max_all = octets(file.max_all, "transfer.max_all", max_all, MOST_ALL);
        let notify_rate = rate(file.notify_rate, "transfer.notify_rate", notify_rate);
        let key = "transfer.notify_rate_all";
        let notify_rate_all = rate(file.notify_rate_all, key, notify_rate_all);
        Ok(Inward {
            max_zone: max_zone?,
            max_all: max_all?,
            notify_rate: notify_rate?,
            notify_rate_all: notify_rate_all?,
        })
    }
}
