//! Aliases of pools: how much of a question's name their target may point to.
//!
//! A pool answers for several names, those of pools that fall back to it among them, and its records are rendered
//! once. So a target may point to what all of these names end in.

use geodns_common::abi::Answer;

use crate::compress::{common_end, encloser};
use crate::config::{Config, Fail};

/// Octets of a record before its RDATA, where its owner is a pointer.
const BEFORE_RDATA: usize = 12;

/// For each pool, the suffix that all names have for which it answers, in lower case; a wildcard counts as the name
/// above it. `None`: it answers for no name, or with addresses.
pub fn ends(config: &Config) -> Vec<Option<&[u8]>> {
    let mut ends = vec![None; config.pools.len()];
    for steer in &config.steers {
        let mut pool = config.pools[steer.pool]
            .is_alias(config)
            .then_some(steer.pool);
        let name = steer.name.as_slice();
        let name = encloser(name).unwrap_or(name);
        while let Some(number) = pool {
            let end: &mut &[u8] = ends[number].get_or_insert(name);
            let whole = *end;
            *end = &whole[whole.len() - common_end(whole, name)..];
            // No pool falls back to itself, by whichever way.
            pool = match config.pools[number].fail {
                Fail::Fallback(next) => Some(next),
                Fail::Open | Fail::Closed => None,
            };
        }
    }
    ends
}

/// Makes the answer of an alias one whose target points to the end of the question.
pub fn point(answer: &mut Answer, target: &[u8], end: &[u8]) {
    let shared = common_end(target, end);
    // A pointer takes two octets, the root one.
    if answer.len == 0 || shared <= 2 {
        return;
    }
    // Names have 255 octets at the most, and what fits an answer less.
    answer.before = (BEFORE_RDATA + target.len() - shared) as u8;
    answer.shared = shared as u8;
    answer.len |= Answer::POINTS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::parse_name;
    use crate::config::Steer;

    #[test]
    fn what_a_target_may_point_to_is_the_end_of_all_names_that_a_pool_answers_for() {
        let mut config = crate::plan::tests::config(&[0, 0, 0, 0]);
        let steer = |name: &str, pool| Steer {
            name: parse_name(name).unwrap(),
            pool,
            line: 1,
        };
        let ends = |config: &Config| -> Vec<String> {
            let text = |end: Option<&[u8]>| match end {
                Some(end) => domain::base::Name::from_slice(end).unwrap().to_string(),
                None => "none".to_owned(),
            };
            ends(config).into_iter().map(text).collect()
        };
        config.mirrors[0].cname = Some(parse_name("mirror.example.org").unwrap());
        config.steers = vec![
            steer("www.example.org", 0),
            steer("ftp.example.org", 1),
            steer("*.example.org", 1),
            steer("a.example.net", 2),
            steer("*.a.example.net", 2),
        ];
        assert_eq!(
            ends(&config),
            ["www.example.org", "example.org", "a.example.net", "none"]
        );
        // Who falls back to another brings its names.
        config.pools[0].fail = Fail::Fallback(1);
        config.pools[1].fail = Fail::Fallback(3);
        config.pools[2].fail = Fail::Fallback(3);
        assert_eq!(
            ends(&config),
            ["www.example.org", "example.org", "a.example.net", "."]
        );
    }

    #[test]
    fn a_pointer_is_shorter_than_what_it_stands_for() {
        let target = b"\x01a\x02bc\x03org\0";
        for (end, expect) in [
            (&b"\x03org\0"[..], Some((17, 5))),
            (b"\x02bc\x03org\0", Some((14, 8))),
            (b"\x01x\x01a\x02bc\x03org\0", Some((12, 10))),
            (b"\x03net\0", None),
            (b"\0", None),
        ] {
            let mut answer = Answer {
                len: 22,
                ..Answer::default()
            };
            point(&mut answer, target, end);
            let (before, shared) = expect.unwrap_or_default();
            let len = 22 | if expect.is_some() { Answer::POINTS } else { 0 };
            assert_eq!(
                (answer.len, answer.before, answer.shared),
                (len, before, shared)
            );
        }
    }
}
