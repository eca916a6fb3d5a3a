//! A change of the state: things with their new values, each under a key in text.
//!
//! | key | value |
//! | --- | --- |
//! | `override/POOL/PREFIX` | the mirror, a JSON string |
//! | `import/POOL` | the ids of the mirrors, a line of JSON, and then the packed list |
//! | `mirror/ID` | a [`Standing`] |
//! | `block/NUMBER` | a [`Blocked`] |
//! | `acme/OWNER/TEXT` | a [`Lifetime`] |
//! | `serial/APEX` | [`Serials`] |
//! | `cookie/secrets` | [`CookieSecrets`] |
//! | `catalog/NAME` | a [`Ledger`] |
//!
//! A `/` in a part of a key is written as `%2F`, and a `%` as `%25`.

use std::fmt::Display;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::kinds::{CookieSecrets, Import, KeptBlock, Serials, Token};
use crate::base::prefix;
use crate::block::RuleText;
use crate::steering::standing::Standing;
use crate::zone::catalog::Ledger;

/// One thing of the state that the nodes of a fleet share, and its new value. `None`: it is no longer there.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An operator's mirror for a prefix.
    Override {
        /// Id of the pool.
        pool: String,
        /// Address prefix.
        prefix: IpNet,
        /// Id of the mirror.
        mirror: Option<String>,
    },
    /// The last import of a pool.
    Import {
        /// Id of the pool.
        pool: String,
        /// The list.
        import: Option<Import>,
    },
    /// Words on a mirror.
    Standing {
        /// Id of the mirror.
        mirror: String,
        /// The words.
        standing: Option<Standing>,
    },
    /// A rule of `geodns block`.
    Block {
        /// Its number.
        number: u32,
        /// The rule.
        block: Option<KeptBlock>,
    },
    /// A token of an ACME challenge.
    Token {
        /// The owner of its TXT record.
        owner: String,
        /// Its text.
        text: String,
        /// The token.
        token: Option<Token>,
    },
    /// Serials of a zone.
    Serials {
        /// The zone.
        apex: String,
        /// The serials.
        serials: Option<Serials>,
    },
    /// Secrets of cookies.
    Cookies {
        /// The secrets.
        secrets: Option<CookieSecrets>,
    },
    /// Zones that a catalog of ours has listed.
    Ledger {
        /// Name of the catalog.
        catalog: String,
        /// The zones.
        ledger: Option<Ledger>,
    },
}

/// Things of the state with their new values: all of them are kept, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change(pub Vec<Item>);

/// Value of a rule of `geodns block`.
#[derive(Serialize, Deserialize)]
pub(super) struct Blocked {
    #[serde(flatten)]
    said: RuleText,
    note: String,
}

/// Value of a token.
#[derive(Serialize, Deserialize)]
struct Lifetime {
    ttl: u32,
    until_unix_ms: u64,
}

impl Blocked {
    pub(super) fn of(block: &KeptBlock) -> Self {
        Self {
            said: block.said.clone(),
            note: block.note.clone(),
        }
    }

    pub(super) fn numbered(self, number: u32) -> KeptBlock {
        KeptBlock {
            number,
            said: self.said,
            note: self.note,
        }
    }
}

impl Item {
    /// A token that is set.
    pub fn token(token: Token) -> Self {
        Self::Token {
            owner: token.owner.clone(),
            text: token.text.clone(),
            token: Some(token),
        }
    }

    /// A token that is no longer there.
    pub fn no_token(token: &Token) -> Self {
        Self::Token {
            owner: token.owner.clone(),
            text: token.text.clone(),
            token: None,
        }
    }

    /// An import of a list.
    pub fn import(import: Import) -> Self {
        Self::Import {
            pool: import.pool.clone(),
            import: Some(import),
        }
    }

    /// Words on a mirror. Those that say nothing are no longer there.
    pub fn standing(mirror: &str, standing: Standing) -> Self {
        Self::Standing {
            mirror: mirror.to_owned(),
            standing: (!standing.is_empty()).then_some(standing),
        }
    }

    /// The same thing, no longer there.
    pub fn gone(mut self) -> Self {
        match &mut self {
            Self::Override { mirror, .. } => *mirror = None,
            Self::Import { import, .. } => *import = None,
            Self::Standing { standing, .. } => *standing = None,
            Self::Block { block, .. } => *block = None,
            Self::Token { token, .. } => *token = None,
            Self::Serials { serials, .. } => *serials = None,
            Self::Cookies { secrets } => *secrets = None,
            Self::Ledger { ledger, .. } => *ledger = None,
        }
        self
    }

    /// The key.
    pub fn key(&self) -> String {
        match self {
            Self::Override { pool, prefix, .. } => key(&["override", pool, &prefix.to_string()]),
            Self::Import { pool, .. } => key(&["import", pool]),
            Self::Standing { mirror, .. } => key(&["mirror", mirror]),
            Self::Block { number, .. } => key(&["block", &number.to_string()]),
            Self::Token { owner, text, .. } => key(&["acme", owner, text]),
            Self::Serials { apex, .. } => key(&["serial", apex]),
            Self::Cookies { .. } => key(&["cookie", "secrets"]),
            Self::Ledger { catalog, .. } => key(&["catalog", catalog]),
        }
    }

    /// The value.
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Override { mirror, .. } => mirror.as_ref().map(json),
            Self::Import { import, .. } => import.as_ref().map(|import| {
                let mut value = json(&import.mirrors);
                value.push(b'\n');
                value.extend_from_slice(&import.layer);
                value
            }),
            Self::Standing { standing, .. } => standing.as_ref().map(json),
            Self::Block { block, .. } => block.as_ref().map(|block| json(&Blocked::of(block))),
            Self::Token { token, .. } => token.as_ref().map(|token| {
                json(&Lifetime {
                    ttl: token.ttl,
                    until_unix_ms: token.until_unix_ms,
                })
            }),
            Self::Serials { serials, .. } => serials.as_ref().map(json),
            Self::Cookies { secrets } => secrets.as_ref().map(json),
            Self::Ledger { ledger, .. } => ledger.as_ref().map(json),
        }
    }

    /// Understands a key and its value. `Ok(None)`: a key of another kind, or of a later version. The error is one
    /// line that names the key.
    pub fn parse(text: &str, value: Option<&[u8]>) -> Result<Option<Self>, String> {
        let parts: Option<Vec<String>> = text.split('/').map(plain).collect();
        let Some(parts) = parts else { return Ok(None) };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let said = |error: &dyn Display| format!("{text}: {error}");
        let item = match *parts {
            ["override", pool, prefix] => Self::Override {
                pool: pool.to_owned(),
                prefix: prefix::parse(prefix).map_err(|error| said(&error))?,
                mirror: read(text, value)?,
            },
            ["import", pool] => Self::Import {
                pool: pool.to_owned(),
                import: value.map(|value| unpack(text, pool, value)).transpose()?,
            },
            ["mirror", mirror] => Self::Standing {
                mirror: mirror.to_owned(),
                standing: read(text, value)?,
            },
            ["block", number] => {
                let number = number.parse().map_err(|error| said(&error))?;
                let block: Option<Blocked> = read(text, value)?;
                Self::Block {
                    number,
                    block: block.map(|block| block.numbered(number)),
                }
            }
            ["acme", owner, of] => {
                let lifetime: Option<Lifetime> = read(text, value)?;
                Self::Token {
                    owner: owner.to_owned(),
                    text: of.to_owned(),
                    token: lifetime.map(|lifetime| Token {
                        owner: owner.to_owned(),
                        text: of.to_owned(),
                        ttl: lifetime.ttl,
                        until_unix_ms: lifetime.until_unix_ms,
                    }),
                }
            }
            ["serial", apex] => Self::Serials {
                apex: apex.to_owned(),
                serials: read(text, value)?,
            },
            ["cookie", "secrets"] => Self::Cookies {
                secrets: read(text, value)?,
            },
            ["catalog", catalog] => Self::Ledger {
                catalog: catalog.to_owned(),
                ledger: read(text, value)?,
            },
            _ => return Ok(None),
        };
        Ok(Some(item))
    }
}

impl Change {
    /// The keys of what changes.
    pub fn keys(&self) -> Vec<String> {
        self.0.iter().map(Item::key).collect()
    }
}

fn key(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().copied().map(escaped).collect();
    parts.join("/")
}

fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn plain(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("25"), piece.strip_prefix("2F")) {
            (Some(rest), _) => ('%', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return None,
        };
        text.push(sign);
        text.push_str(rest);
    }
    Some(text)
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

fn read<T: DeserializeOwned>(key: &str, value: Option<&[u8]>) -> Result<Option<T>, String> {
    let read = value.map(serde_json::from_slice).transpose();
    read.map_err(|error| format!("{key}: {error}"))
}

fn unpack(key: &str, pool: &str, value: &[u8]) -> Result<Import, String> {
    let mut halves = value.splitn(2, |byte| *byte == b'\n');
    let mirrors = read(key, halves.next())?.unwrap_or_default();
    let layer = halves.next();
    let layer = layer.ok_or_else(|| format!("{key}: it is cut short"))?;
    Ok(Import {
        pool: pool.to_owned(),
        mirrors,
        layer: layer.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::steering::standing::Admin;

    fn items() -> Vec<Item> {
        let token = Token {
            owner: "_acme-challenge.0/25.2.0.192.in-addr.arpa".to_owned(),
            text: "a/b%2F".to_owned(),
            ttl: 60,
            until_unix_ms: u64::MAX,
        };
        let mut ledger = Ledger::default();
        ledger.list(&[("a.example".to_owned(), None)].into(), 7);
        vec![
            Item::Override {
                pool: "www".to_owned(),
                prefix: "2001:db8::/32".parse().unwrap(),
                mirror: Some("ams".to_owned()),
            },
            Item::import(Import {
                pool: "www".to_owned(),
                mirrors: vec!["ams".to_owned(), "iad".to_owned()],
                layer: vec![0, b'\n', 255, b'\n'],
            }),
            Item::standing(
                "ams",
                Standing {
                    admin: Admin::Down,
                    ..Standing::default()
                },
            ),
            Item::Block {
                number: 7,
                block: Some(KeptBlock {
                    number: 7,
                    said: RuleText {
                        from: Some("192.0.2.0/24".parse().unwrap()),
                        ..RuleText::default()
                    },
                    note: "a note".to_owned(),
                }),
            },
            Item::token(token.clone()),
            Item::no_token(&token),
            Item::Serials {
                apex: "example.org".to_owned(),
                serials: Some(Serials {
                    file: None,
                    served: 9,
                }),
            },
            Item::Cookies {
                secrets: Some(CookieSecrets {
                    current: [1; 16],
                    since_unix_ms: 5,
                    previous: Some([2; 16]),
                    next: Some([3; 16]),
                }),
            },
            Item::Ledger {
                catalog: "cat.example".to_owned(),
                ledger: Some(ledger),
            },
            Item::standing("ams", Standing::default()),
        ]
    }

    #[test]
    fn each_kind_is_read_as_it_was_written() {
        for item in items() {
            let value = item.value();
            let read = Item::parse(&item.key(), value.as_deref());
            assert_eq!(read, Ok(Some(item)));
        }
    }

    #[test]
    fn keys_of_other_kinds_are_nothing_and_values_that_are_wrong_are_named() {
        for other in [
            "node/a",
            "health/a",
            "override/www",
            "cookie/next",
            "acme/a%/b",
        ] {
            assert_eq!(Item::parse(other, Some(b"{}")), Ok(None), "{other}");
        }
        for (key, value) in [
            ("override/www/192.0.2.0%2F24", "{}"),
            ("override/www/192.0.2.0%2F33", "\"ams\""),
            ("import/www", "[\"ams\"]"),
            ("mirror/ams", "{\"admin\":\"sideways\"}"),
            ("block/x", "{}"),
        ] {
            let error = Item::parse(key, Some(value.as_bytes())).unwrap_err();
            assert!(error.starts_with(key), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    proptest! {
        #[test]
        fn a_key_has_parts_of_any_text(owner in "\\PC{0,20}", text in "\\PC{0,20}", address: IpAddr) {
            let token = Token { owner, text, ttl: 1, until_unix_ms: 1 };
            let item = Item::token(token);
            prop_assert_eq!(Item::parse(&item.key(), item.value().as_deref()), Ok(Some(item)));
            let item = Item::Override {
                pool: "a/b".to_owned(),
                prefix: address.to_canonical().into(),
                mirror: None,
            };
            prop_assert_eq!(Item::parse(&item.key(), None), Ok(Some(item)));
        }

        #[test]
        fn no_key_and_no_value_panics(key in "\\PC{0,40}", value: Vec<u8>) {
            let _ = Item::parse(&key, Some(&value));
            for kind in ["import/a", "mirror/a", "block/1", "acme/a/b", "cookie/secrets"] {
                let _ = Item::parse(kind, Some(&value));
            }
        }
    }
}
