//! The fast path's counters, by name.

use std::collections::BTreeMap;

use geodns_common::verdict::{COUNTERS, Tally, Verdict};

/// Every verdict's name and count, and every tally's. Counters between them must be zero; one that is not is
/// shown as `unknown_N` and so never lost.
pub fn by_name(counters: &[u64; COUNTERS]) -> BTreeMap<String, u64> {
    (0u32..)
        .zip(counters)
        .filter_map(|(index, &count)| match name(index) {
            Some(name) => Some((name, count)),
            None => (count != 0).then(|| (format!("unknown_{index}"), count)),
        })
        .collect()
}

/// Queries that the fast path has answered.
pub fn answered(counters: &[u64]) -> u64 {
    let answers = Verdict::ALL.iter().filter(|verdict| verdict.is_answer());
    answers
        .filter_map(|verdict| counters.get(*verdict as usize))
        .sum()
}

/// Responses of the fast path, by response code. Those that the limit answers with TC or a cookie are none of these.
pub fn rcodes(counters: &[u64]) -> [(&'static str, u64); 3] {
    let of = |verdicts: &[Verdict]| {
        let counts = verdicts.iter().filter_map(|of| counters.get(*of as usize));
        counts.sum()
    };
    [
        (
            "NOERROR",
            of(&[Verdict::Answered, Verdict::Static, Verdict::Nodata]),
        ),
        ("NXDOMAIN", of(&[Verdict::Nxdomain])),
        ("SERVFAIL", of(&[Verdict::Servfail])),
    ]
}

/// Packets that the fast path has dropped: by a rule or a limit, or over a budget.
pub fn dropped(counters: &[u64]) -> u64 {
    let drops = Verdict::ALL.iter().filter(|verdict| verdict.is_drop());
    let drops = drops.filter_map(|verdict| counters.get(*verdict as usize));
    let over = Verdict::ALL.iter().filter(|verdict| verdict.has_budget());
    let over = over.map(|verdict| over_budget(counters, *verdict));
    drops.sum::<u64>() + over.sum::<u64>()
}

/// Packets of a verdict that were dropped for being over its budget.
pub fn over_budget(counters: &[u64], verdict: Verdict) -> u64 {
    let counter = (verdict as u32 + Verdict::OVER_BUDGET) as usize;
    counters.get(counter).copied().unwrap_or(0)
}

/// Every counter's name and what it counts.
pub fn meanings() -> impl Iterator<Item = (String, String)> {
    let verdicts = Verdict::ALL.iter().map(|of| (of.name(), of.meaning()));
    let tallies = Tally::ALL.iter().map(|of| (of.name(), of.meaning()));
    let over = Verdict::ALL.iter().filter(|of| of.has_budget()).map(|of| {
        let why = format!("Dropped: more than kernel.pass_limit of {}.", of.name());
        (over_budget_name(*of), why)
    });
    let owned = |(name, meaning): (&str, &str)| (name.to_owned(), meaning.trim().to_owned());
    verdicts.map(owned).chain(over).chain(tallies.map(owned))
}

fn name(index: u32) -> Option<String> {
    let of_verdict = Verdict::from_index(index).map(Verdict::name);
    if let Some(name) = of_verdict.or(Tally::from_index(index).map(Tally::name)) {
        return Some(name.to_owned());
    }
    let verdict = Verdict::from_index(index.checked_sub(Verdict::OVER_BUDGET)?)?;
    verdict.has_budget().then(|| over_budget_name(verdict))
}

fn over_budget_name(verdict: Verdict) -> String {
    let name = verdict.name();
    format!("over_budget_{}", name.strip_prefix("pass_").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_own_name_and_no_count_is_lost() {
        let counters: [u64; COUNTERS] = std::array::from_fn(|index| 1 + index as u64);
        let named = by_name(&counters);
        assert_eq!(named.len(), COUNTERS);
        let sum: u64 = counters.iter().sum();
        assert_eq!(named.values().sum::<u64>(), sum);
        assert_eq!(named["answered"], 1 + Verdict::Answered as u64);
        assert_eq!(named["pass_internal"], 1 + Verdict::Internal as u64);
        assert_eq!(named["over_budget_counts"], 65 + Verdict::Counts as u64);
        assert_eq!(
            named["cookie_good"],
            1 + u64::from(Tally::CookieGood.index())
        );
        let all: Vec<String> = meanings().map(|(name, _)| name).collect();
        let zeros = by_name(&[0; COUNTERS]);
        assert_eq!(zeros.len(), all.len());
        assert!(all.iter().all(|name| zeros.contains_key(name)), "{all:?}");
    }
}
