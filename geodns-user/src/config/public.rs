//! `[public]`: pages for visitors. What they are told of a mirror: `mirror.url`, `sponsor`, `country`, `bandwidth`.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use ipnet::IpNet;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};
use super::validate::there_are;
use super::{CertificateFiles, Pool, Steer};
use crate::base::prefix;

/// Requests a second of each /24 and /56, unless the file says otherwise.
const DEFAULT_RATE: u32 = 20;
/// The most of them.
const MAX_RATE: u32 = 1_000_000;
/// Trusted proxies, at the most.
const MAX_PROXIES: usize = 100;

/// `[public]`: pages for visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// Addresses that the pages are at.
    pub listen: Vec<SocketAddr>,
    /// HTTPS with this certificate; `None`: HTTP.
    pub tls: Option<CertificateFiles>,
    /// Name that requests are for, besides addresses; `None`: any.
    pub host: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Pool whose mirrors are shown, as an index into [`Config::pools`](super::Config::pools).
    pub pool: usize,
    /// Requests a second of each /24 and /56; 0: no limit.
    pub rate: u32,
}

/// The longest URL, in octets.
const MAX_URL: usize = 1024;
/// The longest sponsor, in characters.
const MAX_SPONSOR: usize = 100;
/// Bits a second, at the most.
const MAX_BANDWIDTH: f64 = 1e15;

/// What visitors are told of a mirror. It changes no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where it serves the site: `http` or `https`, and a path that ends with a slash.
    pub url: Option<String>,
    /// Who pays for it.
    pub sponsor: Option<String>,
    /// Where it stands, ISO 3166-1 alpha-2, upper case.
    pub country: Option<[u8; 2]>,
    /// Bits a second.
    pub bandwidth: Option<u64>,
}

impl Reader<'_> {
    pub(super) fn public(
        &self,
        file: Spanned<file::Public>,
        pools: &[Pool],
        by_id: &HashMap<String, usize>,
        steers: &[Steer],
    ) -> Judged<Public> {
        let span = file.span();
        let file = file.into_inner();
        let listen = self.sockets(file.listen.as_ref(), "public.listen", 8080);
        let tls = self.certificate_files(file.certificate, file.key, "public");
        let host = file.host.map(|host| {
            let name = self.name(&host, "public.host")?;
            Ok(name.to_string().to_ascii_lowercase())
        });
        let proxies = file.trusted_proxies.map(|list| {
            const KEY: &str = "public.trusted_proxies";
            if list.get_ref().len() > MAX_PROXIES {
                let message = format!("more than {MAX_PROXIES}; name fewer");
                return self.error(list.span(), KEY, message);
            }
            all(list.into_inner().into_iter().map(|text| {
                prefix::parse(text.get_ref())
                    .or_else(|message| self.error(text.span(), KEY, message))
            }))
        });
        let rate = file.rate.map_or(Ok(DEFAULT_RATE), |rate| {
            self.number(rate, "public.rate", 0, MAX_RATE)
        });
        let pool = match &file.pool {
            Some(id) => by_id.get(id.get_ref()).copied().ok_or_else(|| {
                let message = format!(
                    "no pool {:?}; {}",
                    id.get_ref(),
                    there_are(pools.iter().map(|pool| &pool.id), "[[pool]]")
                );
                self.unknown(id.span(), "public.pool", &["pool"], message)
            }),
            None => {
                let steered: BTreeSet<usize> = steers.iter().map(|steer| steer.pool).collect();
                match steered.first() {
                    Some(&pool) if steered.len() == 1 => Ok(pool),
                    _ => {
                        let message = "missing; name the pool whose mirrors are shown: there is not \
                                       just one that a name is steered to";
                        Err(self.unknown(span, "public.pool", &["pool", "steer"], message))
                    }
                }
            }
        };
        Ok(Public {
            listen: listen?,
            tls: tls?,
            host: host.transpose()?,
            trusted_proxies: proxies.unwrap_or(Ok(Vec::new()))?,
            pool: pool?,
            rate: rate?,
        })
    }

    /// What visitors are told of a mirror, as far as it is good.
    pub(super) fn profile(&self, file: &file::Mirror) -> Profile {
        let url = file.url.as_ref().map(|url| self.url(url));
        let sponsor = file.sponsor.as_ref().map(|sponsor| self.sponsor(sponsor));
        let country = file.country.as_ref();
        let country = country.map(|country| self.country(country, "mirror.country"));
        let bandwidth = file.bandwidth.as_ref().map(|text| self.bandwidth(text));
        Profile {
            url: url.and_then(Result::ok),
            sponsor: sponsor.and_then(Result::ok),
            country: country.and_then(Result::ok),
            bandwidth: bandwidth.and_then(Result::ok),
        }
    }

    fn url(&self, url: &Spanned<String>) -> Judged<String> {
        const KEY: &str = "mirror.url";
        let text = url.get_ref();
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@'\"<>\\^`{|}".contains(&byte);
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let has_host = rest.is_some_and(|rest| !rest.starts_with('/'));
        if !has_host || text.len() > MAX_URL || !text.bytes().all(plain) {
            let message = format!(
                "{text:?} is not the URL of a folder; write one, as \"https://www.example.org/pub/\""
            );
            return self.error(url.span(), KEY, message);
        }
        if !text.ends_with('/') {
            let message = format!("{text:?} is not a folder; write {:?}", format!("{text}/"));
            return self.error(url.span(), KEY, message);
        }
        Ok(text.clone())
    }

    fn sponsor(&self, sponsor: &Spanned<String>) -> Judged<String> {
        let text = sponsor.get_ref().trim();
        let len = text.chars().count();
        if !(1..=MAX_SPONSOR).contains(&len) || text.chars().any(char::is_control) {
            let message = format!("{len} characters; write 1 to {MAX_SPONSOR} in one line");
            return self.error(sponsor.span(), "mirror.sponsor", message);
        }
        Ok(text.to_owned())
    }

    fn bandwidth(&self, text: &Spanned<String>) -> Judged<u64> {
        bandwidth(text.get_ref()).map_or_else(
            || {
                let message = format!(
                    "{:?} is no bandwidth; write bits a second as a number and k, M, G or T, as \"10G\"",
                    text.get_ref()
                );
                self.error(text.span(), "mirror.bandwidth", message)
            },
            Ok,
        )
    }
}

/// Bits a second.
fn bandwidth(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|unit: char| !unit.is_ascii_digit() && unit != '.')?;
    let (number, unit) = text.split_at(at);
    let unit = match unit.trim() {
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let bits = number.parse::<f64>().ok()? * unit;
    (1.0..=MAX_BANDWIDTH).contains(&bits).then_some(bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_number_and_a_unit() {
        for (text, bits) in [
            ("10G", Some(10_000_000_000)),
            ("2.5 G", Some(2_500_000_000)),
            ("100M", Some(100_000_000)),
            ("64k", Some(64_000)),
            ("1T", Some(1_000_000_000_000)),
            ("10", None),
            ("G", None),
            ("0G", None),
            ("-1G", None),
            ("1.2.3G", None),
            ("10Gb", None),
            ("1e9G", None),
            ("10000T", None),
        ] {
            assert_eq!(bandwidth(text), bits, "{text}");
        }
    }
}
