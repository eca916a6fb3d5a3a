//! Warnings: of things that are legal in a configuration, or in the files that it names, and yet hardly meant.

use std::fmt;

use crate::base::complaint::Error;
use crate::config::{Config, Pool};

/// A warning. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The zone that it is about.
    zone: Option<String>,
    /// The pool.
    pool: Option<String>,
    /// Where, and what to do about it: as an error says it.
    is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    Placed(Error),
    Said(String),
}

impl Warning {
    /// About the whole configuration, by a key of it.
    pub(super) fn of_key(config: &Config, key: &str, message: String) -> Self {
        Self {
            zone: None,
            pool: None,
            is: Is::Placed(Error {
                file: config.path.clone(),
                line: None,
                column: None,
                key: Some(key.to_owned()),
                message,
            }),
        }
    }

    /// About a pool, or a line of it.
    pub(super) fn of_pool(
        config: &Config,
        pool: &Pool,
        line: usize,
        key: Option<&str>,
        message: &str,
    ) -> Self {
        Self {
            zone: None,
            pool: Some(pool.id.clone()),
            is: Is::Placed(Error {
                file: config.path.clone(),
                line: Some(line),
                column: None,
                key: key.map(str::to_owned),
                message: format!("pool {:?}{message}", pool.id),
            }),
        }
    }

    /// About a zone.
    pub(super) fn of_zone(zone: impl fmt::Display, message: &str) -> Self {
        Self {
            zone: Some(zone.to_string()),
            pool: None,
            is: Is::Said(message.to_owned()),
        }
    }

    /// Logs it: in words, and with what it is about as fields.
    pub fn log(&self) {
        let Self { zone, pool, is } = self;
        let (zone, pool) = (zone.as_deref(), pool.as_deref());
        match is {
            Is::Placed(error) => tracing::warn!(
                zone,
                pool,
                file = %error.file.display(),
                line = error.line,
                key = error.key.as_deref(),
                cause = error.message,
                "{self}"
            ),
            Is::Said(cause) => tracing::warn!(zone, pool, cause, "{self}"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.is, &self.zone) {
            (Is::Placed(error), _) => error.fmt(f),
            (Is::Said(message), Some(zone)) => write!(f, "{zone}: {message}"),
            (Is::Said(message), None) => f.write_str(message),
        }
    }
}
