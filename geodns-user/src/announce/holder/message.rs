//! Words between the daemon and the holder: a line of JSON each.
//!
//! A daemon may find a holder of another version, which a crashed daemon of that version has left. So [`Word::Hello`] is
//! the first word. That word, [`Word::End`] and [`Answer`] stay the same in all versions; whatever else changes is a new
//! [`VERSION`].

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Version of all other words.
pub const VERSION: u32 = 1;

/// A word of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Begins. A holder that cannot do as this daemon needs refuses, and the daemon replaces it.
    Hello(Hello),
    /// Announce this. The daemon says it again in every round.
    Announce(Announcement),
    /// The daemon ends on purpose: the holder withdraws, and ends too.
    End,
}

/// The needs of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The [`VERSION`] of its words.
    pub version: u32,
    /// The device that it announces by.
    pub device: String,
}

impl Hello {
    /// A daemon of this version.
    pub fn new(device: &str) -> Self {
        Self {
            version: VERSION,
            device: device.to_owned(),
        }
    }

    /// Why the holder of a device refuses such a daemon.
    pub(super) fn refusal(&self, device: &str) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "it has version {VERSION} of the words between the two, and the daemon has version {}",
                self.version
            ));
        }
        if self.device != device {
            return Err(format!(
                "it holds device {device}, and announce.device is {}",
                self.device
            ));
        }
        Ok(())
    }
}

/// Routes, and how long they outlive the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Prefixes that are announced.
    pub prefixes: Vec<IpNet>,
    /// Routing table.
    pub table: u32,
    /// Metric of the routes; `None`: no routes.
    pub metric: Option<u32>,
    /// A daemon that has said nothing for this many milliseconds is taken for dead: last resort.
    pub silence_ms: u64,
    /// One that has been dead for this many milliseconds is withdrawn.
    pub stale_after_ms: u64,
}

impl Announcement {
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(super) fn stale_after(&self) -> Duration {
        Duration::from_millis(self.stale_after_ms)
    }
}

/// The holder's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is as the daemon said.
    Done,
    /// Why it is not. It is as it was before.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_versions_stay_as_they_are() {
        let line = |word: &Word| serde_json::to_string(word).unwrap();
        let hello = Word::Hello(Hello {
            version: 7,
            device: "geodns0".to_owned(),
        });
        let text = r#"{"hello":{"version":7,"device":"geodns0"}}"#;
        assert_eq!(line(&hello), text);
        // A later version may say more there.
        let more = text.replace("7,", "7,\"more\":[1],");
        assert_eq!(serde_json::from_str::<Word>(&more).unwrap(), hello);
        assert_eq!(line(&Word::End), r#""end""#);
        let answer = |answer: &Answer| serde_json::to_string(answer).unwrap();
        assert_eq!(answer(&Answer::Done), r#""done""#);
        assert_eq!(answer(&Answer::Failed("x".to_owned())), r#"{"failed":"x"}"#);
    }

    #[test]
    fn another_version_and_another_device_are_refused() {
        let hello = Hello::new("geodns0");
        assert_eq!(hello.refusal("geodns0"), Ok(()));
        let why = hello.refusal("other0").unwrap_err();
        assert_eq!(
            why,
            "it holds device other0, and announce.device is geodns0"
        );
        let newer = Hello {
            version: VERSION + 1,
            ..hello
        };
        assert!(newer.refusal("geodns0").unwrap_err().contains("version 1"));
    }
}
