//! A change of shared things is written to the file, and the change that takes it back is read there.

use redb::{ReadableTable, WriteTransaction};

use super::change::{Blocked, Change, Item, json};
use super::kinds::{CookieSecrets, Import, KeptBlock, Serials, Token};
use super::{
    ACME, BLOCKS, COOKIES, Error, IMPORTS, LEDGERS, OVERRIDES, Problem, SERIALS, STANDINGS, State,
    pack,
};
use crate::steering::standing::Standing;
use crate::zone::catalog::Ledger;

impl State {
    /// Keeps a change: all of it or nothing. Gives the change that takes it back.
    pub fn keep(&self, change: &Change) -> Result<Change, Error> {
        self.write(|transaction| put_all(transaction, change.0.iter()))
    }
}

/// Writes things. Gives the change that takes them back.
pub fn put_all<'a>(
    transaction: &WriteTransaction,
    items: impl Iterator<Item = &'a Item>,
) -> Result<Change, Problem> {
    let before = items.map(|item| put(transaction, item));
    let mut before = before.collect::<Result<Vec<_>, _>>()?;
    // A thing that has changed twice is taken back from its last value to its first.
    before.reverse();
    Ok(Change(before))
}

/// Writes the new value of a thing. Gives the thing with the value that it had.
pub fn put(transaction: &WriteTransaction, item: &Item) -> Result<Item, Problem> {
    Ok(match item {
        Item::Override {
            pool,
            prefix,
            mirror,
        } => {
            let mut table = transaction.open_table(OVERRIDES)?;
            let key = pack(pool, *prefix);
            let before = match mirror {
                Some(mirror) => table.insert(key, mirror.as_str())?,
                None => table.remove(key)?,
            };
            Item::Override {
                pool: pool.clone(),
                prefix: *prefix,
                mirror: before.map(|before| before.value().to_owned()),
            }
        }
        Item::Import { pool, import } => {
            let mut table = transaction.open_table(IMPORTS)?;
            let before = match import {
                Some(import) => {
                    let mirrors = import.mirrors.iter().map(String::as_str).collect();
                    table.insert(pool.as_str(), (mirrors, import.layer.as_slice()))?
                }
                None => table.remove(pool.as_str())?,
            };
            Item::Import {
                pool: pool.clone(),
                import: before.map(|before| import_of(pool, before.value())),
            }
        }
        Item::Standing {
            mirror,
            standing: after,
        } => {
            let mut table = transaction.open_table(STANDINGS)?;
            let before = match after {
                Some(after) => table.insert(mirror.as_str(), json(after).as_slice())?,
                None => table.remove(mirror.as_str())?,
            };
            let before = before.map(|before| standing(mirror, before.value()));
            Item::Standing {
                mirror: mirror.clone(),
                standing: before.transpose()?,
            }
        }
        Item::Block {
            number,
            block: after,
        } => {
            let mut table = transaction.open_table(BLOCKS)?;
            let before = match after {
                Some(after) => table.insert(number, json(&Blocked::of(after)).as_slice())?,
                None => table.remove(number)?,
            };
            let before = before.map(|before| block(*number, before.value()));
            Item::Block {
                number: *number,
                block: before.transpose()?,
            }
        }
        Item::Token { owner, text, token } => {
            let mut table = transaction.open_table(ACME)?;
            let key = (owner.as_str(), text.as_str());
            let before = match token {
                Some(token) => table.insert(key, (token.ttl, token.until_unix_ms))?,
                None => table.remove(key)?,
            };
            let before = before.map(|before| before.value());
            Item::Token {
                owner: owner.clone(),
                text: text.clone(),
                token: before.map(|(ttl, until_unix_ms)| Token {
                    owner: owner.clone(),
                    text: text.clone(),
                    ttl,
                    until_unix_ms,
                }),
            }
        }
        Item::Serials { apex, serials } => {
            let mut table = transaction.open_table(SERIALS)?;
            let before = match serials {
                Some(after) => table.insert(apex.as_str(), (after.file, after.served))?,
                None => table.remove(apex.as_str())?,
            };
            let before = before.map(|before| before.value());
            Item::Serials {
                apex: apex.clone(),
                serials: before.map(|(file, served)| Serials { file, served }),
            }
        }
        Item::Cookies { secrets } => {
            let mut table = transaction.open_table(COOKIES)?;
            let before = cookies(&table)?;
            let current = secrets.map(|after| (after.current, after.since_unix_ms));
            let previous = secrets.and_then(|after| after.previous);
            let next = secrets.and_then(|after| after.next);
            let others = [previous, next].map(|secret| secret.map(|secret| (secret, 0)));
            for (place, row) in (0..).zip([current, others[0], others[1]]) {
                match row {
                    Some(row) => table.insert(place, row)?,
                    None => table.remove(place)?,
                };
            }
            Item::Cookies { secrets: before }
        }
        Item::Ledger {
            catalog,
            ledger: after,
        } => {
            let mut table = transaction.open_table(LEDGERS)?;
            let before = match after {
                Some(after) => table.insert(catalog.as_str(), json(after).as_slice())?,
                None => table.remove(catalog.as_str())?,
            };
            let before = before.map(|before| ledger(catalog, before.value()));
            Item::Ledger {
                catalog: catalog.clone(),
                ledger: before.transpose()?,
            }
        }
    })
}

/// Reads the words on a mirror.
pub fn standing(mirror: &str, json: &[u8]) -> Result<Standing, Problem> {
    serde_json::from_slice(json)
        .map_err(|error| Problem::Damaged(format!("what is said of mirror {mirror}: {error}")))
}

/// Reads a rule of `geodns block`.
pub fn block(number: u32, json: &[u8]) -> Result<KeptBlock, Problem> {
    let blocked: Result<Blocked, _> = serde_json::from_slice(json);
    let blocked = blocked
        .map_err(|error| Problem::Damaged(format!("rule {number} of what is dropped: {error}")))?;
    Ok(blocked.numbered(number))
}

/// Reads the zones that a catalog of ours has listed.
pub fn ledger(catalog: &str, json: &[u8]) -> Result<Ledger, Problem> {
    serde_json::from_slice(json)
        .map_err(|error| Problem::Damaged(format!("what catalog {catalog} lists: {error}")))
}

/// Reads the last import of a pool.
pub fn import_of(pool: &str, (mirrors, layer): (Vec<&str>, &[u8])) -> Import {
    Import {
        pool: pool.to_owned(),
        mirrors: mirrors.into_iter().map(str::to_owned).collect(),
        layer: layer.to_vec(),
    }
}

/// Reads the secrets that cookies are made with.
pub fn cookies(
    table: &impl ReadableTable<u8, ([u8; 16], u64)>,
) -> Result<Option<CookieSecrets>, Problem> {
    let get = |place: u8| Ok::<_, Problem>(table.get(place)?.map(|row| row.value()));
    let previous = get(1)?.map(|(secret, _)| secret);
    let next = get(2)?.map(|(secret, _)| secret);
    Ok(get(0)?.map(|(current, since_unix_ms)| CookieSecrets {
        current,
        since_unix_ms,
        previous,
        next,
    }))
}
