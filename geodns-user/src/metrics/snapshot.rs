//! The values of all metrics at one moment.

use std::sync::Arc;

use super::family::Family;

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Another number.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

/// A value of a label.
pub type Label = Arc<str>;

/// One series: values of the labels, in the family's order, and the number.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Values of the labels.
    pub labels: Box<[Label]>,
    /// The number.
    pub value: Value,
}

/// The values of all metrics.
#[derive(Clone, Debug)]
pub struct Snapshot {
    families: Vec<Vec<Series>>,
    max_series: usize,
    dropped: u64,
}

impl Snapshot {
    /// An empty one, with at most so many series of a family that the configuration can make large.
    pub fn new(max_series: usize) -> Self {
        Self {
            families: vec![Vec::new(); Family::ALL.len()],
            max_series,
            dropped: 0,
        }
    }

    /// Puts a number in, for a metric without labels.
    pub fn put(&mut self, family: Family, value: impl Into<Value>) {
        self.put_with::<0>(family, [], value);
    }

    /// Puts a number in, with the values of the family's labels in their order. Over the bound it is dropped.
    pub fn put_with<const N: usize>(
        &mut self,
        family: Family,
        labels: [&Label; N],
        value: impl Into<Value>,
    ) {
        debug_assert_eq!(N, family.about().labels.len(), "{family:?}");
        let Some(series) = self.families.get_mut(family as usize) else {
            return;
        };
        if family.is_bounded() && series.len() >= self.max_series {
            self.dropped += 1;
            return;
        }
        series.push(Series {
            labels: labels.map(Arc::clone).into(),
            value: value.into(),
        });
    }

    /// Puts a number in, with words of ours as values of the labels.
    pub fn put_words<const N: usize>(
        &mut self,
        family: Family,
        labels: [&str; N],
        value: impl Into<Value>,
    ) {
        let labels: [Label; N] = labels.map(Arc::from);
        self.put_with(family, labels.each_ref(), value);
    }

    /// Series that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All families that have series.
    pub fn families(&self) -> impl Iterator<Item = (Family, &[Series])> {
        let all = Family::ALL.iter().zip(&self.families);
        all.map(|(family, series)| (*family, series.as_slice()))
            .filter(|(_, series)| !series.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_can_make_many_is_bounded() {
        let mut snapshot = Snapshot::new(2);
        for pool in ["a", "b", "c"] {
            snapshot.put_words(Family::PoolMirrors, [pool], 1);
            snapshot.put_words(Family::XdpPackets, [pool], 1);
        }
        let counts: Vec<_> = snapshot
            .families()
            .map(|(of, all)| (of, all.len()))
            .collect();
        assert_eq!(counts, [(Family::XdpPackets, 3), (Family::PoolMirrors, 2)]);
        assert_eq!(snapshot.dropped(), 1);
    }
}
