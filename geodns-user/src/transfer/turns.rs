//! Turns of transfers: ten at once, five of one primary, so that a slow one holds up nobody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::base::lock::lock;

/// Transfers under way, at the most.
const ALL: usize = 10;
/// Transfers under way from one primary, at the most.
const PRIMARY: usize = 5;

/// Transfers under way.
#[derive(Debug)]
pub struct Turns {
    all: Semaphore,
    primaries: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// Leave for one transfer, as long as it is held.
#[derive(Debug)]
pub struct Turn<'a> {
    _of_primary: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Semaphore::new(ALL),
            primaries: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for leave to transfer from a primary.
    pub async fn of(&self, primary: IpAddr) -> Result<Turn<'_>, AcquireError> {
        let its = {
            let mut primaries = lock(&self.primaries);
            // Who is asked no more is forgotten.
            primaries.retain(|_, its| Arc::strong_count(its) > 1);
            let its = primaries.entry(primary);
            Arc::clone(its.or_insert_with(|| Arc::new(Semaphore::new(PRIMARY))))
        };
        Ok(Turn {
            _of_primary: its.acquire_owned().await?,
            _of_all: self.all.acquire().await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_primary_does_not_hold_up_the_others() {
        let turns = Turns::default();
        let primary = |last| IpAddr::from([192, 0, 2, last]);
        let soon = Duration::from_millis(20);
        let mut held = Vec::new();
        for _ in 0..PRIMARY {
            held.push(turns.of(primary(1)).await.unwrap());
        }
        assert!(
            tokio::time::timeout(soon, turns.of(primary(1)))
                .await
                .is_err()
        );
        for _ in PRIMARY..ALL {
            held.push(turns.of(primary(2)).await.unwrap());
        }
        assert!(
            tokio::time::timeout(soon, turns.of(primary(3)))
                .await
                .is_err()
        );
        held.pop();
        assert!(
            tokio::time::timeout(soon, turns.of(primary(3)))
                .await
                .is_ok()
        );
        drop(held);
        drop(turns.of(primary(4)).await);
        assert_eq!(turns.primaries.lock().unwrap().len(), 1);
    }
}
