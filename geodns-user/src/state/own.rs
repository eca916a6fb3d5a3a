//! Values that are this node's own: no other node of a fleet ever has them.

use redb::{ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Problem, State};

/// Name of a value -> the value in JSON.
pub(super) const OWN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("own");

impl State {
    /// A value of this node, by its name.
    pub fn own<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(OWN)?;
            let Some(found) = table.get(name)? else {
                return Ok(None);
            };
            let value = serde_json::from_slice(found.value())
                .map_err(|error| Problem::Damaged(format!("{name} of this node: {error}")))?;
            Ok(Some(value))
        })
    }

    /// Keeps a value of this node in the place of the one before.
    pub fn keep_own<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let json = serde_json::to_vec(value).expect("plain data");
        self.write(|transaction| {
            let mut table = transaction.open_table(OWN)?;
            table.insert(name, json.as_slice())?;
            Ok(())
        })
    }
}
