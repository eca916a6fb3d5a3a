//! The fast path's counters, by name.

use std::collections::BTreeMap;

use geodns_common::verdict::{COUNTERS, Tally, Verdict};

/// Every verdict's name and count, and every tally's. Counters between them must be zero; one that is not is
/// shown as `unknown_N` and so never lost.
pub fn by_name(counters: &[u64; COUNTERS]) -> BTreeMap<String, u64> {
    (0u32..)
        .zip(counters)
        .filter_map(|(index, &count)| {
            let verdict = Verdict::from_index(index).map(Verdict::name);
            match verdict.or(Tally::from_index(index).map(Tally::name)) {
                Some(name) => Some((name.to_owned(), count)),
                None => (count != 0).then(|| (format!("unknown_{index}"), count)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_own_name_and_no_count_is_lost() {
        let counters: [u64; COUNTERS] = std::array::from_fn(|index| 1 << index);
        let named = by_name(&counters);
        assert_eq!(named.len(), COUNTERS);
        assert_eq!(named.values().fold(0, |sum, count| sum | count), u64::MAX);
        assert_eq!(named["answered"], 1 << Verdict::Answered as u32);
        assert_eq!(named["pass_internal"], 1 << Verdict::Internal as u32);
        assert_eq!(named["cookie_good"], 1 << Tally::CookieGood.index());
        let all = Verdict::ALL.len() + Tally::ALL.len();
        assert_eq!(by_name(&[0; COUNTERS]).len(), all);
    }
}
