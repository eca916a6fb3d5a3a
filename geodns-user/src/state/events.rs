//! The history of events: the latest ones, and what is out by them.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use super::{Error, META, Problem, State};
use crate::event::{Event, Kind, journal};

/// Number -> an event in JSON.
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// `mirror` or `pool`, and its id -> number of the event that it went out with, while it is out.
pub(super) const OUT: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("out");

/// Number under [`META`] up to which a process may have used numbers that are not in the table.
const RESERVED: &str = "events";
/// Numbers that a process may use beyond the last one kept: as many events as may wait for the disk.
const AHEAD: u64 = 2 * journal::LATEST as u64;

/// Events that are kept, at the most.
pub const MOST: u64 = 100_000;
/// How long they are kept.
pub const AGE_MS: u64 = 90 * 24 * 3600 * 1000;
/// Events that one write removes, at the most.
const REMOVED_AT_ONCE: usize = 4096;

/// Mirrors and pools that are out by the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Ids of mirrors.
    pub mirrors: BTreeSet<String>,
    /// Ids of pools.
    pub pools: BTreeSet<String>,
}

/// The objects that an event puts out (`true`) or in, each with its sort.
fn moved(event: &Event) -> Option<(&'static str, &str, bool)> {
    let pool = event.pools.first().map(String::as_str);
    let mirror = event.mirror.as_deref();
    match event.kind {
        Kind::MirrorOut => Some(("mirror", mirror?, true)),
        Kind::MirrorIn => Some(("mirror", mirror?, false)),
        Kind::PoolOut => Some(("pool", pool?, true)),
        Kind::PoolIn => Some(("pool", pool?, false)),
        _ => None,
    }
}

impl State {
    /// Uses the database where no test orders a fault: events come beside what a test does.
    fn events_with<T>(&self, work: impl Fn(&Database) -> Result<T, Problem>) -> Result<T, Error> {
        self.using(|| Ok(()), work)
    }

    /// Writes as [`State::write`] does, where no test orders a fault.
    fn write_events<T>(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        self.events_with(|database| {
            let transaction = database.begin_write()?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Begins a process's part of the history: gives the last number that may have been used, and what is out.
    pub fn begin_events(&self) -> Result<(u64, Out), Error> {
        let last = self.write_events(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            let kept = events.last()?.map_or(0, |(seq, _)| seq.value());
            let mut meta = transaction.open_table(META)?;
            let reserved = meta.get(RESERVED)?.map_or(0, |reserved| reserved.value());
            let last = kept.max(reserved);
            meta.insert(RESERVED, last + AHEAD)?;
            Ok(last)
        })?;
        let out = self.events_with(|database| {
            let mut out = Out::default();
            for row in database.begin_read()?.open_table(OUT)?.iter()? {
                let (key, _) = row?;
                match key.value() {
                    ("mirror", id) => out.mirrors.insert(id.to_owned()),
                    (_, id) => out.pools.insert(id.to_owned()),
                };
            }
            Ok(out)
        })?;
        Ok((last, out))
    }

    /// Keeps events, and forgets the oldest ones beyond the bounds of the history. `is_end`: no more come of this
    /// process.
    pub fn keep_events(
        &self,
        events: &[Arc<Event>],
        now_unix_ms: u64,
        is_end: bool,
    ) -> Result<(), Error> {
        let rows: Vec<(u64, Vec<u8>)> = events
            .iter()
            .map(|event| (event.seq, serde_json::to_vec(&**event).expect("plain data")))
            .collect();
        self.write_events(|transaction| {
            let mut table = transaction.open_table(EVENTS)?;
            let mut out = transaction.open_table(OUT)?;
            for ((seq, json), event) in rows.iter().zip(events) {
                table.insert(seq, json.as_slice())?;
                match moved(event) {
                    Some((sort, id, true)) => drop(out.insert((sort, id), seq)?),
                    Some((sort, id, false)) => drop(out.remove((sort, id))?),
                    None => {}
                }
            }
            let mut meta = transaction.open_table(META)?;
            let kept = table.last()?.map_or(0, |(seq, _)| seq.value());
            let reserved = meta.get(RESERVED)?.map_or(0, |reserved| reserved.value());
            let reserved = match is_end {
                true => kept,
                false => reserved.max(kept + AHEAD),
            };
            meta.insert(RESERVED, reserved)?;
            for _ in 0..REMOVED_AT_ONCE {
                let is_over = table.len()? > MOST;
                let first = table
                    .first()?
                    .map(|(seq, json)| (seq.value(), parse(json.value())));
                let Some((seq, first)) = first else { break };
                let is_old = first.is_some_and(|first| first.time_unix_ms + AGE_MS < now_unix_ms);
                if !is_over && !is_old {
                    break;
                }
                table.remove(seq)?;
            }
            Ok(())
        })
    }

    /// Kept events with numbers from `from` to `to`, the first N or, if `from_end`, the last N of them, in their order.
    /// Those of kinds that this version does not know are left out.
    pub fn events(&self, from: u64, to: u64, most: usize, from_end: bool) -> Result<Kept, Error> {
        self.events_with(|database| {
            let table = database.begin_read()?.open_table(EVENTS)?;
            let mut range = table.range(from..=to)?;
            let mut kept = Kept::default();
            for looked in 0.. {
                let row = match from_end {
                    true => range.next_back(),
                    false => range.next(),
                };
                let Some(row) = row else { break };
                let (seq, json) = row?;
                if looked == most {
                    kept.next = Some(seq.value());
                    break;
                }
                kept.events.extend(parse(json.value()));
            }
            if from_end {
                kept.events.reverse();
            }
            Ok(kept)
        })
    }

    /// Number of the first kept event that is not older than a time, by the times of the others; 0 without one.
    pub fn event_since(&self, unix_ms: u64) -> Result<u64, Error> {
        self.events_with(|database| {
            let table = database.begin_read()?.open_table(EVENTS)?;
            let Some((first, last)) = table.first()?.zip(table.last()?) else {
                return Ok(0);
            };
            let (mut low, mut high) = (first.0.value(), last.0.value() + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                let Some(row) = table.range(middle..high)?.next() else {
                    high = middle;
                    continue;
                };
                let (seq, json) = row?;
                let seq = seq.value();
                match parse(json.value()) {
                    Some(event) if event.time_unix_ms >= unix_ms => high = middle,
                    _ => low = seq + 1,
                }
            }
            Ok(low)
        })
    }
}

/// Events of the history.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The events, in their order.
    pub events: Vec<Event>,
    /// Number of the event to go on with, if there are more in the range.
    pub next: Option<u64>,
}

/// An event, unless another version has kept it in another form.
fn parse(json: &[u8]) -> Option<Event> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, kind: Kind, mirror: Option<&str>) -> Arc<Event> {
        Arc::new(Event::of(seq, kind, mirror))
    }

    fn numbers(kept: &Kept) -> Vec<u64> {
        kept.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_read_in_order_from_either_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        assert_eq!(state.begin_events().unwrap(), (0, Out::default()));
        let events: Vec<_> = (1..=9).map(|seq| event(seq, Kind::Reload, None)).collect();
        state.keep_events(&events, 0, false).unwrap();
        let kept = state.events(3, u64::MAX, 2, false).unwrap();
        assert_eq!((numbers(&kept), kept.next), (vec![3, 4], Some(5)));
        let kept = state.events(0, 8, 2, true).unwrap();
        assert_eq!((numbers(&kept), kept.next), (vec![7, 8], Some(6)));
        let kept = state.events(8, u64::MAX, 2, false).unwrap();
        assert_eq!((numbers(&kept), kept.next), (vec![8, 9], None));
        for (unix_ms, first) in [(0, 1), (1000, 1), (4500, 5), (9000, 9), (9001, 10)] {
            assert_eq!(state.event_since(unix_ms).unwrap(), first, "{unix_ms}");
        }
    }

    #[test]
    fn no_number_is_used_twice_whether_the_process_ends_well_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let state = State::open(&path).unwrap();
        assert_eq!(state.begin_events().unwrap().0, 0);
        state
            .keep_events(&[event(1, Kind::Start, None)], 0, false)
            .unwrap();
        drop(state);
        // It may have shown more than it has kept.
        let state = State::open(&path).unwrap();
        let (last, _) = state.begin_events().unwrap();
        assert!(last > journal::LATEST as u64, "{last}");
        state
            .keep_events(&[event(last + 1, Kind::Stop, None)], 0, true)
            .unwrap();
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(state.begin_events().unwrap().0, last + 1);
    }

    #[test]
    fn what_is_out_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        let of_pool = |seq, kind| {
            let mut event = Event::of(seq, kind, None);
            event.pools = vec!["www".to_owned()];
            Arc::new(event)
        };
        let events = [
            event(1, Kind::MirrorOut, Some("ams")),
            event(2, Kind::MirrorOut, Some("iad")),
            of_pool(3, Kind::PoolOut),
            event(4, Kind::MirrorIn, Some("ams")),
        ];
        state.keep_events(&events, 0, false).unwrap();
        let (_, out) = state.begin_events().unwrap();
        assert_eq!(out.mirrors, ["iad".to_owned()].into());
        assert_eq!(out.pools, ["www".to_owned()].into());
        state
            .keep_events(&[of_pool(5, Kind::PoolIn)], 0, false)
            .unwrap();
        assert!(state.begin_events().unwrap().1.pools.is_empty());
    }

    #[test]
    fn old_events_go_and_so_do_the_oldest_of_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        let chunks = (1..=MOST + 5000).collect::<Vec<_>>();
        for chunk in chunks.chunks(5000) {
            let events: Vec<_> = chunk
                .iter()
                .map(|&seq| event(seq, Kind::Reload, None))
                .collect();
            state.keep_events(&events, 0, false).unwrap();
        }
        state.keep_events(&[], 0, false).unwrap();
        let kept = state.events(0, u64::MAX, 1, false).unwrap();
        assert_eq!(numbers(&kept), [5001]);
        // Events are a second apart.
        state.keep_events(&[], AGE_MS + 5_003_000, false).unwrap();
        let kept = state.events(0, u64::MAX, 1, false).unwrap();
        assert_eq!(numbers(&kept), [5003]);
    }
}
