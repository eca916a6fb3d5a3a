//! The rules of a pool with policy "geo": which clients get which members.

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::file::{self, Spanned};
use super::super::reader::{Judged, Reader};
use super::super::validate::the_pool_has;
use super::Members;
use crate::base::country::Code;
use crate::base::prefix;
use crate::config::{Matches, Policy, Rule};

/// Rules of a pool, at the most, those by prefix left out: they are part of its prefix list.
pub(super) const MAX_RULES: usize = 10_000;

impl Reader<'_> {
    /// A pool's rules, as far as they are good.
    pub(super) fn rules(
        &self,
        file: &file::Pool,
        policy: Judged<Policy>,
        members: Option<&Members>,
    ) -> Vec<Rule> {
        const KEY: &str = "pool.rules";
        let Some(list) = &file.rules else {
            if matches!(policy, Ok(Policy::Geo)) && file.prefixes.is_none() {
                let message = "missing; policy \"geo\" needs some, as { country = \"NL\", mirrors = [\"ams\"] }";
                self.misfit(file.policy.span(), KEY, message);
            }
            return Vec::new();
        };
        let placed = list.get_ref().iter().filter(|rule| rule.prefix.is_none());
        let placed = placed.count();
        if placed > MAX_RULES {
            let message = format!("{placed} are too many; {MAX_RULES} is the most");
            self.complain(list.span(), KEY, message);
            return Vec::new();
        }
        let mut rules: Vec<Rule> = Vec::new();
        let mut lines: HashMap<Matches, usize> = HashMap::new();
        for rule in list.get_ref() {
            let span = rule.mirrors.span();
            let line = self.source.line(span.start);
            let matches = self.matches(rule);
            if let Ok(matches) = &matches
                && let Some(first) = lines.insert(matches.clone(), line)
            {
                let message = format!(
                    "the rule of line {first} is for the same clients; keep one of the two"
                );
                self.complain(span.clone(), KEY, message);
            }
            if rule.mirrors.get_ref().is_empty() {
                self.complain(span, "pool.rules.mirrors", "none; name some");
                continue;
            }
            let Some(members) = members else {
                continue;
            };
            let mut chosen = Vec::new();
            for id in rule.mirrors.get_ref() {
                let Some(&member) = members.by_id.get(id.get_ref()) else {
                    let message = format!(
                        "no mirror {:?} in pool {:?}; {}",
                        id.get_ref(),
                        file.id.get_ref(),
                        the_pool_has(members.ids.iter())
                    );
                    self.complain(id.span(), "pool.rules.mirrors", message);
                    continue;
                };
                if chosen.contains(&member) {
                    let message = format!("{:?} stands here twice; remove one", id.get_ref());
                    self.complain(id.span(), "pool.rules.mirrors", message);
                    continue;
                }
                chosen.push(member);
            }
            if let Ok(matches) = matches {
                rules.push(Rule {
                    matches,
                    members: chosen,
                    line,
                });
            }
        }
        rules
    }

    /// For whom a rule is.
    fn matches(&self, rule: &file::Rule) -> Judged<Matches> {
        let kinds = [
            ("prefix", rule.prefix.is_some()),
            ("asn", rule.asn.is_some()),
            ("country", rule.country.is_some()),
            ("continent", rule.continent.is_some()),
        ];
        let mut kinds = kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| *kind);
        let (kind, other) = (kinds.next(), kinds.next());
        if let (Some(kind), Some(other)) = (kind, other) {
            let message = format!("by {kind} and by {other}; make it two rules, or remove one");
            return self.error(rule.mirrors.span(), "pool.rules", message);
        }
        let mut parts = Ok(());
        for (key, part) in [("city", &rule.city), ("subdivision", &rule.subdivision)] {
            let Some(part) = part else {
                continue;
            };
            let place = format!("pool.rules.{key}");
            let said = match kind {
                Some("country") if part.get_ref().trim().is_empty() => {
                    let message = "empty; write its name, or remove the key";
                    self.complain(part.span(), &place, message)
                }
                Some("country") => continue,
                Some(kind) => {
                    let message = format!("not used in a rule by {kind}; remove it");
                    self.misfit(part.span(), &place, message)
                }
                None => {
                    let message = format!("a {key} needs its country; add country = \"..\"");
                    self.misfit(part.span(), &place, message)
                }
            };
            parts = Err(said);
        }
        let text = |value: &Option<Spanned<String>>| {
            value
                .as_ref()
                .map(|text| text.get_ref().trim().to_lowercase())
        };
        if let Some(prefix) = &rule.prefix {
            let prefix = self.prefix(prefix);
            return parts.and(prefix).map(Matches::Prefix);
        }
        if let Some(asn) = &rule.asn {
            let number = self.number(asn.clone(), "pool.rules.asn", 1, u32::MAX);
            return parts.and(number).map(Matches::Asn);
        }
        if let Some(continent) = &rule.continent {
            let code = self.continent(continent, "pool.rules.continent")?;
            return parts.and(Ok(Matches::Continent(code)));
        }
        let Some(country) = &rule.country else {
            let message = "for nobody; add prefix, asn, continent or country (with subdivision, \
                           city, or both)";
            parts?;
            return Err(self.misfit(rule.mirrors.span(), "pool.rules", message));
        };
        let country = self.country(country, "pool.rules.country");
        let country = parts.and(country)?;
        // ISO 3166-2 puts the country before its code.
        let subdivision = text(&rule.subdivision).map(|text| {
            let rest = text.split_once('-');
            let code = rest.filter(|(of, _)| of.as_bytes().eq_ignore_ascii_case(&country));
            code.map_or_else(|| text.clone(), |(_, code)| code.to_owned())
        });
        Ok(match (text(&rule.city), subdivision) {
            (Some(city), subdivision) => Matches::City {
                country,
                subdivision,
                city,
            },
            (None, Some(subdivision)) => Matches::Subdivision {
                country,
                subdivision,
            },
            (None, None) => Matches::Country(country),
        })
    }

    /// A continent, by its code.
    pub(in crate::config) fn continent(
        &self,
        text: &Spanned<String>,
        key: &str,
    ) -> Judged<[u8; 2]> {
        let code = self.code(text, key, "one of AF, AN, AS, EU, NA, OC, SA")?;
        if ![b"AF", b"AN", b"AS", b"EU", b"NA", b"OC", b"SA"].contains(&&code) {
            let message = format!(
                "no continent {:?}; there are AF, AN, AS, EU, NA, OC, SA",
                text.get_ref()
            );
            return self.error(text.span(), key, message);
        }
        Ok(code)
    }

    /// A country, by its code.
    pub(in crate::config) fn country(&self, text: &Spanned<String>, key: &str) -> Judged<[u8; 2]> {
        // Codes that people take for a country's.
        const TAKEN_FOR: [(&[u8; 2], &str); 6] = [
            (b"UK", "write GB"),
            (b"EN", "write GB"),
            (b"EL", "write GR"),
            (b"SU", "write RU, or those of the others"),
            (b"AN", "write BQ, CW or SX, which it is today"),
            (b"EU", "write continent = \"EU\" for all of Europe"),
        ];
        let code = self.code(text, key, "its ISO 3166-1 code, as NL")?;
        if Code::country(text.get_ref().trim()).is_some() {
            return Ok(code);
        }
        let mut taken_for = TAKEN_FOR.iter();
        let help = taken_for.find(|(taken, _)| **taken == code);
        let help = help.map_or("write its ISO 3166-1 code, as NL", |(_, help)| help);
        let message = format!("no country {:?}; {help}", text.get_ref());
        self.error(text.span(), key, message)
    }

    /// Two letters, in upper case.
    fn code(&self, text: &Spanned<String>, key: &str, example: &str) -> Judged<[u8; 2]> {
        match *text.get_ref().as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
            }
            _ => {
                let message = format!(
                    "{:?} is no code of two letters; write {example}",
                    text.get_ref()
                );
                self.error(text.span(), key, message)
            }
        }
    }

    fn prefix(&self, text: &Spanned<String>) -> Judged<IpNet> {
        const KEY: &str = "pool.rules.prefix";
        prefix::parse(text.get_ref()).or_else(|message| self.error(text.span(), KEY, message))
    }
}
