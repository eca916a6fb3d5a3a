//! Tokens of ACME challenges.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::document::Name;
use super::check_time;

/// A token of an ACME DNS-01 challenge (RFC 8555 section 8.4): a TXT record over a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeToken {
    /// Owner of the TXT record.
    pub name: String,
    /// Its text.
    pub token: String,
    /// TTL, seconds.
    pub ttl: u32,
    /// Its expiry.
    pub until_unix_ms: u64,
    /// Its zone; none: the configuration has no zone for it.
    pub zone: Option<String>,
    /// The daemon's clock at this answer.
    pub now_unix_ms: u64,
}

/// `PUT /v1/acme`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeSet {
    /// Name that is proved, with the label `_acme-challenge` or without; of a wildcard, the name that it is
    /// below.
    #[schema(value_type = Name)]
    pub name: String,
    /// Printable ASCII.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]*$")]
    pub token: String,
    /// TTL, seconds.
    #[serde(default = "acme_ttl")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub ttl: u32,
    /// After how many milliseconds it goes; without it, an hour.
    #[serde(default = "acme_for_ms")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: u64,
}

fn acme_ttl() -> u32 {
    60
}

fn acme_for_ms() -> u64 {
    3_600_000
}

/// `DELETE /v1/acme?...`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AcmeClear {
    /// Name, as it was set.
    #[param(value_type = Name)]
    pub name: String,
    /// Token; without it, all of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Tokens of a name after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcmeChanged {
    /// Owner of the TXT records.
    pub name: String,
    /// Its zone; none: the configuration no longer has one.
    pub zone: Option<String>,
    /// New serial of the zone; none: its answers have not changed.
    pub serial: Option<u32>,
    /// Tokens that are there now.
    pub tokens: Vec<AcmeToken>,
}

/// The longest TTL of a token, seconds.
pub const MAX_ACME_TTL: u32 = 86_400;

impl AcmeSet {
    /// What is wrong with it, if anything. Whether the name may have a token is judged where it is kept.
    pub fn check(&self) -> Result<(), String> {
        check_token(&self.token)?;
        if !(1..=MAX_ACME_TTL).contains(&self.ttl) {
            return Err(format!(
                "ttl: {} is out of range; write 1 to {MAX_ACME_TTL}, in seconds",
                self.ttl
            ));
        }
        check_time("for_ms", Some(self.for_ms), 1)
    }
}

/// What is wrong with a token, if anything.
pub fn check_token(token: &str) -> Result<(), String> {
    let is_printable = |octet: u8| (b' '..=b'~').contains(&octet);
    if (1..=255).contains(&token.len()) && token.bytes().all(is_printable) {
        return Ok(());
    }
    Err("token: write 1 to 255 characters of printable ASCII".to_owned())
}
