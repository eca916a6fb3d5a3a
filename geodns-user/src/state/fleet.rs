//! How far this node has followed the store of its fleet, and edits of this node alone.
//!
//! The tables of things have what is in force here. An edit of this node alone (`--local`) changes them, and the value of
//! the fleet lies beneath: commits change it there until the local edit is merged or dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::change::{Change, Item, json};
use super::keep::{put, put_all};
use super::{BENEATH, Error, FLEET, META, Problem, REVISIONS, State};
use crate::shared::{Position, Revision};

/// Names of the two halves of a [`Position`] in [`META`].
const STORE: &str = "store";
const REVISION: &str = "revision";

/// The fleet that this node is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its id, made once: the value of its guard key.
    pub fleet: String,
    /// The revision that the guard key was put with. Every write demands it.
    pub guard: Revision,
    /// The id of this node, which no other node has.
    pub node: String,
}

/// A thing that this node alone has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Its value in the fleet's store.
    pub beneath: Item,
    /// Its value here.
    pub here: Item,
}

impl State {
    /// The fleet that this node is in; `None`: it is alone.
    pub fn membership(&self) -> Result<Option<Membership>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(FLEET)?;
            let Some(found) = table.get(0)? else {
                return Ok(None);
            };
            let membership = serde_json::from_slice(found.value());
            membership
                .map(Some)
                .map_err(|error| Problem::Damaged(format!("the fleet of this node: {error}")))
        })
    }

    /// The last commit of the fleet's store that is kept.
    pub fn position(&self) -> Result<Position, Error> {
        self.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            let get = |name| Ok::<_, Problem>(meta.get(name)?.map_or(0, |value| value.value()));
            Ok(Position {
                store: get(STORE)?,
                revision: Revision(get(REVISION)?),
            })
        })
    }

    /// The revisions that keys of the fleet's store were last changed with; `None`: the store has no such key.
    pub fn revisions(&self, keys: &[String]) -> Result<Vec<Option<Revision>>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(REVISIONS)?;
            let of = |key: &String| Ok(table.get(key.as_str())?.map(|row| Revision(row.value())));
            keys.iter().map(of).collect()
        })
    }

    /// Keeps a commit of the fleet's store, and that it is known. Gives what is to be in force: all of the commit but
    /// the things that this node alone has changed.
    pub fn follow(&self, change: &Change, position: Position) -> Result<Change, Error> {
        self.write(|transaction| {
            set_position(transaction, position)?;
            let mut table = transaction.open_table(REVISIONS)?;
            for item in &change.0 {
                let key = item.key();
                match is_there(item) {
                    true => table.insert(key.as_str(), position.revision.0)?,
                    false => table.remove(key.as_str())?,
                };
            }
            drop(table);
            follow_items(transaction, &change.0)
        })
    }

    /// Takes over everything in the fleet's store in the place of what is here. Gives what is to be in force. With a
    /// membership, this node is in that fleet from here on, and no local edit stays.
    pub fn adopt(
        &self,
        entries: &[(Item, Revision)],
        position: Position,
        membership: Option<&Membership>,
    ) -> Result<Change, Error> {
        let change = self.difference(entries.iter().map(|(item, _)| item))?;
        self.write(|transaction| {
            set_position(transaction, position)?;
            let mut table = transaction.open_table(REVISIONS)?;
            table.retain(|_, _| false)?;
            for (item, revision) in entries {
                table.insert(item.key().as_str(), revision.0)?;
            }
            drop(table);
            if let Some(membership) = membership {
                let mut fleet = transaction.open_table(FLEET)?;
                fleet.insert(0, json(membership).as_slice())?;
                transaction.open_table(BENEATH)?.retain(|_, _| false)?;
            }
            follow_items(transaction, &change.0)
        })
    }

    /// The changes that make what is here equal to these things, which are all that there are; without regard to local
    /// edits.
    pub fn difference<'a>(&self, entries: impl Iterator<Item = &'a Item>) -> Result<Change, Error> {
        let here = self.items()?;
        let mut here: BTreeMap<String, Item> =
            here.into_iter().map(|item| (item.key(), item)).collect();
        let mut change = Vec::new();
        for item in entries {
            if here.remove(&item.key()).as_ref() != Some(item) {
                change.push(item.clone());
            }
        }
        change.extend(here.into_values().map(Item::gone));
        Ok(Change(change))
    }

    /// Things as they are kept, by their keys.
    pub fn as_kept(&self, keys: &[String]) -> Result<Change, Error> {
        let items = self.items()?.into_iter();
        let mut kept: HashMap<String, Item> = items.map(|item| (item.key(), item)).collect();
        let items = keys.iter().filter_map(|key| {
            let gone = || Item::parse(key, None).ok().flatten();
            kept.remove(key).or_else(gone)
        });
        Ok(Change(items.collect()))
    }

    /// This node is alone from here on. What is in force stays.
    pub fn leave(&self) -> Result<(), Error> {
        self.write(|transaction| {
            set_position(transaction, Position::default())?;
            transaction.open_table(FLEET)?.remove(0)?;
            transaction.open_table(REVISIONS)?.retain(|_, _| false)?;
            transaction.open_table(BENEATH)?.retain(|_, _| false)?;
            Ok(())
        })
    }

    /// Keeps a change of this node alone. Gives the change that takes it back.
    pub fn keep_local(&self, change: &Change) -> Result<Change, Error> {
        self.write(|transaction| {
            let back = put_all(transaction, change.0.iter())?;
            let mut beneath = transaction.open_table(BENEATH)?;
            for item in &back.0 {
                let key = item.key();
                if beneath.get(key.as_str())?.is_none() {
                    beneath.insert(key.as_str(), item.value().as_deref())?;
                }
            }
            for item in &change.0 {
                forget_equal(&mut beneath, item)?;
            }
            drop(beneath);
            Ok(back)
        })
    }

    /// Keys of everything that this node alone has changed.
    pub fn local_keys(&self) -> Result<BTreeSet<String>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(BENEATH)?;
            let keys = table.iter()?.map(|row| Ok(row?.0.value().to_owned()));
            keys.collect()
        })
    }

    /// Everything that this node alone has changed.
    pub fn local(&self) -> Result<Vec<Local>, Error> {
        let beneath = self.with(|database| {
            let table = database.begin_read()?.open_table(BENEATH)?;
            let rows = table.iter()?.map(|row| {
                let (key, value) = row?;
                Item::parse(key.value(), value.value()).map_err(Problem::Damaged)
            });
            rows.collect::<Result<Vec<_>, Problem>>()
        })?;
        let here = self.items()?;
        let here: HashMap<String, Item> = here.into_iter().map(|item| (item.key(), item)).collect();
        let local = beneath.into_iter().flatten().map(|beneath| {
            let here = here.get(&beneath.key()).cloned();
            let here = here.unwrap_or_else(|| beneath.clone().gone());
            Local { beneath, here }
        });
        Ok(local.collect())
    }

    /// Copies the file beside itself, under its name with this behind it. Gives the path of the copy.
    pub fn copy(&self, behind: &str) -> Result<PathBuf, Error> {
        let mut to = self.path().as_os_str().to_owned();
        to.push(format!(".{behind}"));
        let to = PathBuf::from(to);
        // Nobody writes meanwhile.
        self.with(|_| {
            fs::copy(self.path(), &to)?;
            Ok(())
        })?;
        Ok(to)
    }

    /// Everything that nodes of a fleet share, as it is in force here.
    pub fn items(&self) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        items.extend(self.overrides()?.into_iter().map(|one| Item::Override {
            pool: one.pool,
            prefix: one.prefix,
            mirror: Some(one.mirror),
        }));
        items.extend(self.imports()?.into_iter().map(Item::import));
        let standings = self.standings()?;
        items.extend(
            standings
                .into_iter()
                .map(|(mirror, standing)| Item::Standing {
                    mirror,
                    standing: Some(standing),
                }),
        );
        items.extend(self.blocks()?.into_iter().map(|block| Item::Block {
            number: block.number,
            block: Some(block),
        }));
        items.extend(self.tokens()?.into_iter().map(Item::token));
        items.extend(self.all_serials()?);
        items.extend(self.cookie_secrets()?.map(|secrets| Item::Cookies {
            secrets: Some(secrets),
        }));
        items.extend(self.ledgers()?);
        Ok(items)
    }

    fn all_serials(&self) -> Result<Vec<Item>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(super::SERIALS)?;
            let rows = table.iter()?.map(|row| {
                let (apex, serials) = row?;
                let (file, served) = serials.value();
                Ok(Item::Serials {
                    apex: apex.value().to_owned(),
                    serials: Some(super::Serials { file, served }),
                })
            });
            rows.collect()
        })
    }

    fn ledgers(&self) -> Result<Vec<Item>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(super::LEDGERS)?;
            let rows = table.iter()?.map(|row| {
                let (catalog, ledger) = row?;
                Ok(Item::Ledger {
                    catalog: catalog.value().to_owned(),
                    ledger: Some(super::keep::ledger(catalog.value(), ledger.value())?),
                })
            });
            rows.collect()
        })
    }
}

fn is_there(item: &Item) -> bool {
    *item != item.clone().gone()
}

fn set_position(transaction: &WriteTransaction, position: Position) -> Result<(), Problem> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(STORE, position.store)?;
    meta.insert(REVISION, position.revision.0)?;
    Ok(())
}

/// Writes the values that things have in the fleet's store. Gives those that are to be in force.
fn follow_items(transaction: &WriteTransaction, items: &[Item]) -> Result<Change, Problem> {
    let mut in_force = Vec::new();
    let mut beneath = transaction.open_table(BENEATH)?;
    for item in items {
        let key = item.key();
        let before = put(transaction, item)?;
        if beneath.get(key.as_str())?.is_none() {
            in_force.push(item.clone());
        } else if before == *item {
            // The local edit is everybody's now.
            beneath.remove(key.as_str())?;
        } else {
            put(transaction, &before)?;
            beneath.insert(key.as_str(), item.value().as_deref())?;
        }
    }
    Ok(Change(in_force))
}

/// Forgets that this node alone has changed a thing, if its value beneath is the same.
fn forget_equal(
    beneath: &mut redb::Table<'_, &str, Option<&[u8]>>,
    item: &Item,
) -> Result<(), Problem> {
    let key = item.key();
    let is_equal = beneath
        .get(key.as_str())?
        .is_some_and(|row| row.value() == item.value().as_deref());
    if is_equal {
        beneath.remove(key.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.redb")).unwrap();
        (folder, state)
    }

    fn over(prefix: &str, mirror: Option<&str>) -> Item {
        Item::Override {
            pool: "www".to_owned(),
            prefix: prefix.parse().unwrap(),
            mirror: mirror.map(str::to_owned),
        }
    }

    fn at(revision: u64) -> Position {
        Position {
            store: 7,
            revision: Revision(revision),
        }
    }

    const A: &str = "192.0.2.0/24";
    const B: &str = "198.51.100.0/24";

    #[test]
    fn a_commit_is_kept_with_its_position_and_the_revisions_of_its_keys() {
        let (_folder, state) = state();
        let both = Change(vec![over(A, Some("ams")), over(B, Some("ams"))]);
        assert_eq!(state.follow(&both, at(3)).unwrap(), both);
        state.follow(&Change(vec![over(B, None)]), at(5)).unwrap();
        assert_eq!(state.position().unwrap(), at(5));
        let revisions = state.revisions(&both.keys()).unwrap();
        assert_eq!(revisions, [Some(Revision(3)), None]);
        assert_eq!(state.items().unwrap(), [over(A, Some("ams"))]);
    }

    #[test]
    fn a_local_edit_stands_over_commits_until_it_is_the_same() {
        let (_folder, state) = state();
        state
            .follow(&Change(vec![over(A, Some("ams"))]), at(1))
            .unwrap();
        let local = Change(vec![over(A, Some("iad")), over(B, Some("iad"))]);
        state.keep_local(&local).unwrap();
        assert_eq!(state.items().unwrap(), local.0);
        let commit = Change(vec![over(A, Some("sin")), over(B, None)]);
        assert_eq!(state.follow(&commit, at(2)).unwrap(), Change::default());
        assert_eq!(state.items().unwrap(), local.0);
        let known: Vec<_> = state.local().unwrap();
        let known: Vec<_> = known
            .into_iter()
            .map(|one| (one.beneath, one.here))
            .collect();
        let is = [
            (over(A, Some("sin")), over(A, Some("iad"))),
            (over(B, None), over(B, Some("iad"))),
        ];
        assert_eq!(known, is);
        // Merged, and taken back.
        state
            .follow(&Change(vec![over(A, Some("iad"))]), at(3))
            .unwrap();
        state.keep_local(&Change(vec![over(B, None)])).unwrap();
        assert_eq!(state.local().unwrap(), []);
        assert_eq!(state.items().unwrap(), [over(A, Some("iad"))]);
    }

    #[test]
    fn a_store_is_adopted_by_its_differences() {
        let (_folder, state) = state();
        state
            .keep(&Change(vec![over(A, Some("ams")), over(B, Some("ams"))]))
            .unwrap();
        let member = Membership {
            fleet: "id".to_owned(),
            guard: Revision(1),
            node: "n".to_owned(),
        };
        let entries = [
            (over(A, Some("ams")), Revision(2)),
            (over("::/0", Some("ams")), Revision(4)),
        ];
        let change = state.adopt(&entries, at(9), Some(&member)).unwrap();
        assert_eq!(change.0, [over("::/0", Some("ams")), over(B, None)]);
        assert_eq!(state.membership().unwrap(), Some(member));
        assert_eq!(state.position().unwrap(), at(9));
        let keys = [entries[0].0.key(), over(B, None).key()];
        assert_eq!(state.revisions(&keys).unwrap(), [Some(Revision(2)), None]);
        // A second time nothing changes.
        let change = state.adopt(&entries, at(9), None).unwrap();
        assert_eq!(change, Change::default());
        state.leave().unwrap();
        assert_eq!(state.membership().unwrap(), None);
        assert_eq!(state.items().unwrap().len(), 2);
    }
}
