//! Addresses that the server does not listen on: logged once, and in the status for as long as that lasts.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::base::lock::lock;
use crate::serve::ListenError;

/// Addresses that the server does not listen on, each with the reason, a line each.
#[derive(Debug, Default)]
pub struct NotListening(Mutex<Said>);

#[derive(Clone, Debug, Default)]
struct Said {
    /// There is no address at all.
    nowhere: Option<String>,
    failed: BTreeSet<String>,
}

impl NotListening {
    /// The complaint of a start.
    pub fn new(nowhere: Option<String>) -> Self {
        Self(Mutex::new(Said {
            nowhere,
            failed: BTreeSet::new(),
        }))
    }

    /// All lines.
    pub fn all(&self) -> Vec<String> {
        let said = lock(&self.0);
        said.nowhere.iter().chain(&said.failed).cloned().collect()
    }

    /// Whether there is no address to listen on.
    pub fn is_nowhere(&self) -> bool {
        let said = lock(&self.0);
        said.nowhere.is_some()
    }

    /// Replaces all lines, and logs new ones. Gives whether there was an address and is none now, or the other way
    /// round.
    pub fn put(&self, nowhere: Option<String>, failed: &[ListenError]) -> bool {
        let now = Said {
            nowhere,
            failed: failed.iter().map(ToString::to_string).collect(),
        };
        let mut said = lock(&self.0);
        let before = std::mem::replace(&mut *said, now.clone());
        drop(said);
        for error in failed {
            if !before.failed.contains(&error.to_string()) {
                let ListenError {
                    at,
                    port,
                    protocol,
                    source,
                } = error;
                tracing::error!(address = %at, port, protocol, cause = %source, "{error}");
            }
        }
        if let Some(complaint) = &now.nowhere
            && before.nowhere.is_none()
        {
            tracing::warn!("{complaint}");
        }
        now.nowhere.is_some() != before.nowhere.is_some()
    }
}
