//! The state of a node alone, as the store that the nodes of a fleet share: entries are the things of the state, and any
//! others beside them. Commits have a watch as long as the process lives. Entries do not end by themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::stream;
use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use tokio::sync::watch;

use super::change::Item;
use super::keep::put;
use super::{META, OTHERS, Problem, REVISIONS, State};
use crate::base::lock::lock;
use crate::shared::{
    Batch, Change, Entry, Kind, Lost, Position, Refused, RequestId, Revision, Shared, Snapshot,
    Trouble, Watch, Write,
};

/// Commits that a watch can begin with, and writes that are known to be done, at the most.
const MOST: usize = 10_000;

/// Commits since the process started.
#[derive(Debug, Default)]
pub struct History(Arc<Past>);

#[derive(Debug, Default)]
struct Past {
    inner: Mutex<Inner>,
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Batch>,
    done: HashMap<RequestId, Revision>,
}

/// What became of a write in its transaction.
enum Done {
    Committed(Batch),
    Conflict(Revision),
}

/// A key that a write changes, its new value, and the thing that this is; `None`: it is none of the state.
type Changed<'a> = (&'a String, Option<&'a Vec<u8>>, Option<Item>);

/// Everything that a write changes.
fn changed(write: &Write) -> Result<Vec<Changed<'_>>, String> {
    let puts = write.puts.iter().map(|put| (&put.key, Some(&put.value)));
    let deletes = write.deletes.iter().map(|key| (key, None));
    let all = puts.chain(deletes);
    all.map(|(key, value)| Ok((key, value, Item::parse(key, value.map(Vec::as_slice))?)))
        .collect()
}

fn trouble(error: &super::Error) -> Trouble {
    Trouble::new(Kind::Other, error.to_string())
}

/// The position of the file, which gets an id if it has none.
fn position(transaction: &WriteTransaction) -> Result<Position, Problem> {
    let mut meta = transaction.open_table(META)?;
    let get = |name: &str| Ok::<_, Problem>(meta.get(name)?.map_or(0, |value| value.value()));
    let (mut store, revision) = (get("store")?, get("revision")?);
    if store == 0 {
        store = rand::random_range(1..=u64::MAX);
        meta.insert("store", store)?;
    }
    Ok(Position {
        store,
        revision: Revision(revision),
    })
}

impl State {
    fn write_entries(&self, write: &Write, changed: &[Changed<'_>]) -> Result<Done, super::Error> {
        self.write(|transaction| {
            let revision = position(transaction)?.revision;
            let mut revisions = transaction.open_table(REVISIONS)?;
            for guard in &write.guards {
                let known = revisions
                    .get(guard.key.as_str())?
                    .map(|row| Revision(row.value()));
                if known != guard.changed {
                    return Ok(Done::Conflict(revision));
                }
            }
            let revision = Revision(revision.0 + 1);
            transaction
                .open_table(META)?
                .insert("revision", revision.0)?;
            let mut changes = Vec::new();
            for (key, value, item) in changed {
                let was_there = match value {
                    Some(_) => revisions.insert(key.as_str(), revision.0)?.is_some(),
                    None => revisions.remove(key.as_str())?.is_some(),
                };
                match item {
                    Some(item) => drop(put(transaction, item)?),
                    None => put_other(transaction, key, value.map(Vec::as_slice))?,
                }
                if value.is_some() || was_there {
                    changes.push(Change {
                        key: (*key).clone(),
                        value: value.cloned(),
                    });
                }
            }
            Ok(Done::Committed(Batch { revision, changes }))
        })
    }

    fn read_entries(&self) -> Result<Snapshot, super::Error> {
        let position = self.write(position)?;
        let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for item in self.items()? {
            values.extend(item.value().map(|value| (item.key(), value)));
        }
        let others = self.with(|database| {
            let table = database.begin_read()?.open_table(OTHERS)?;
            let rows = table.iter()?.map(|row| {
                let (key, value) = row?;
                Ok((key.value().to_owned(), value.value().to_vec()))
            });
            rows.collect::<Result<Vec<_>, Problem>>()
        })?;
        values.extend(others);
        let keys: Vec<String> = values.keys().cloned().collect();
        let revisions = self.revisions(&keys)?;
        let entries = values.into_iter().zip(revisions);
        let entries = entries.map(|((key, value), changed)| Entry {
            key,
            value,
            changed: changed.unwrap_or_default(),
        });
        Ok(Snapshot {
            position,
            entries: entries.collect(),
        })
    }
}

fn put_other(
    transaction: &WriteTransaction,
    key: &str,
    value: Option<&[u8]>,
) -> Result<(), Problem> {
    let mut table = transaction.open_table(OTHERS)?;
    match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    Ok(())
}

impl Past {
    /// The first commit after a position, if there is one.
    fn after(&self, after: Revision) -> Option<Batch> {
        let inner = lock(&self.inner);
        let at = inner
            .batches
            .partition_point(|batch| batch.revision <= after);
        inner.batches.get(at).cloned()
    }
}

#[async_trait]
impl Shared for State {
    async fn snapshot(&self) -> Result<Snapshot, Lost> {
        let read = tokio::task::block_in_place(|| {
            // Without commits meanwhile: values and revisions are read one after the other.
            let _alone = lock(&self.history.0.inner);
            self.read_entries()
        });
        read.map_err(|error| Lost::Disconnected(trouble(&error)))
    }

    async fn commit(&self, write: &Write) -> Result<Revision, Refused> {
        write.check()?;
        let changed = changed(write).map_err(Refused::Invalid)?;
        let past = &self.history.0;
        let outcome = tokio::task::block_in_place(|| {
            // One after the other, so that batches are in order.
            let mut inner = lock(&past.inner);
            if let Some(revision) = inner.done.get(&write.id) {
                return Ok(*revision);
            }
            match self.write_entries(write, &changed) {
                Ok(Done::Committed(batch)) => {
                    let revision = batch.revision;
                    if inner.batches.len() >= MOST {
                        inner.batches.pop_front();
                        inner
                            .done
                            .retain(|_, done| done.0 + MOST as u64 > revision.0);
                    }
                    inner.batches.push_back(batch);
                    inner.done.insert(write.id, revision);
                    Ok(revision)
                }
                Ok(Done::Conflict(revision)) => Err(Refused::Conflict(revision)),
                Err(error) => Err(Refused::Unavailable(trouble(&error))),
            }
        });
        past.news.send_replace(());
        outcome
    }

    async fn watch(&self, after: Position) -> Result<Watch, Lost> {
        let found = tokio::task::block_in_place(|| self.write(position));
        let found = found.map_err(|error| Lost::Disconnected(trouble(&error)))?;
        if after.store != found.store || after.revision > found.revision {
            return Err(Lost::WentBack {
                known: after,
                found,
            });
        }
        let past = Arc::clone(&self.history.0);
        let first = lock(&past.inner)
            .batches
            .front()
            .map(|batch| batch.revision);
        let first = first.unwrap_or(Revision(found.revision.0 + 1));
        if first.0 > after.revision.0 + 1 {
            return Err(Lost::Compacted);
        }
        let mut news = past.news.subscribe();
        news.mark_changed();
        let from = (past, news, after.revision);
        Ok(Watch::new(stream::unfold(
            from,
            |(past, mut news, after)| async move {
                loop {
                    // The sender lives as long as this does.
                    let _ = news.changed().await;
                    if let Some(batch) = past.after(after) {
                        news.mark_changed();
                        let after = batch.revision;
                        return Some((Ok(batch), (past, news, after)));
                    }
                }
            },
        )))
    }
}
