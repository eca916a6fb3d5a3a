//! Temporary TXT records for ACME challenges: `/v1/acme`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, query};
use super::problem::{Answer, Body, Failure, Problem, Query, Refusal};
use super::values::{Name, check_time};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/acme`: tokens of ACME challenges.
    async fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure>;
    /// `PUT /v1/acme`: sets a token; durable and in every answer on return.
    async fn acme_set(&self, set: AcmeSet) -> Result<AcmeChanged, Failure>;
    /// `DELETE /v1/acme`: takes a name's tokens away, or one of them.
    async fn acme_clear(&self, clear: AcmeClear) -> Result<AcmeChanged, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(acme_list, acme_set, acme_clear))
        .with_state(service)
}

/// Lists tokens of ACME DNS-01 challenges, by name.
#[utoipa::path(get, path = "/v1/acme", responses(
    (status = 200, body = Vec<AcmeToken>), (status = "default", body = Problem)))]
async fn acme_list(State(service): State<Arc<dyn Service>>) -> Answer<Vec<AcmeToken>> {
    Ok(Json(service.acme_list().await?))
}

/// Adds a token to a name. It is on disk and in every answer when this returns.
#[utoipa::path(put, path = "/v1/acme", request_body = AcmeSet, responses(
    (status = 200, body = AcmeChanged), (status = "default", body = Problem)))]
async fn acme_set(
    State(service): State<Arc<dyn Service>>,
    Body(set): Body<AcmeSet>,
) -> Answer<AcmeChanged> {
    set.check().map_err(Refusal::invalid)?;
    Ok(Json(service.acme_set(set).await?))
}

/// Removes all tokens of a name, or one of them.
#[utoipa::path(delete, path = "/v1/acme", params(AcmeClear), responses(
    (status = 200, body = AcmeChanged), (status = "default", body = Problem)))]
async fn acme_clear(
    State(service): State<Arc<dyn Service>>,
    Query(clear): Query<AcmeClear>,
) -> Answer<AcmeChanged> {
    Ok(Json(service.acme_clear(clear).await?))
}

impl Client {
    /// `GET /v1/acme`
    pub async fn acme_list(&self) -> Result<Reply, Error> {
        self.get("/v1/acme").await
    }

    /// `PUT /v1/acme`
    pub async fn acme_set(&self, set: &AcmeSet) -> Result<Reply, Error> {
        self.put("/v1/acme", set).await
    }

    /// `DELETE /v1/acme`
    pub async fn acme_clear(&self, clear: &AcmeClear) -> Result<Reply, Error> {
        self.delete(&query("/v1/acme", clear)).await
    }
}

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
    /// Checks token and times. The daemon, which knows the zones, checks the name.
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

/// Checks the text of a token.
pub fn check_token(token: &str) -> Result<(), String> {
    let is_printable = |octet: u8| (b' '..=b'~').contains(&octet);
    if (1..=255).contains(&token.len()) && token.bytes().all(is_printable) {
        return Ok(());
    }
    Err("token: write 1 to 255 characters of printable ASCII".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Memory, Running};
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure> {
            let tokens = self.tokens.lock().unwrap();
            Ok(tokens.clone())
        }

        async fn acme_set(&self, set: AcmeSet) -> Result<AcmeChanged, Failure> {
            let mut tokens = self.tokens.lock().unwrap();
            tokens.push(AcmeToken {
                name: set.name.clone(),
                token: set.token,
                ttl: set.ttl,
                until_unix_ms: set.for_ms,
                zone: None,
                now_unix_ms: 0,
            });
            Ok(acme_changed(set.name, tokens.clone()))
        }

        async fn acme_clear(&self, clear: AcmeClear) -> Result<AcmeChanged, Failure> {
            let mut tokens = self.tokens.lock().unwrap();
            tokens.retain(|token| {
                let is_it = clear.token.as_ref().is_none_or(|text| *text == token.token);
                token.name != clear.name || !is_it
            });
            Ok(acme_changed(clear.name, tokens.clone()))
        }
    }

    fn acme_changed(name: String, tokens: Vec<AcmeToken>) -> AcmeChanged {
        AcmeChanged {
            name,
            zone: None,
            serial: Some(7),
            tokens,
        }
    }

    #[tokio::test]
    async fn tokens_are_set_listed_and_cleared() {
        let running = Running::start();
        let client = &running.client;
        let set = |token: &str| AcmeSet {
            name: "*.example.org".into(),
            token: token.into(),
            ttl: 60,
            for_ms: 1000,
        };
        for token in ["-a&b=c d", "two"] {
            let changed: AcmeChanged = client.acme_set(&set(token)).await.unwrap().json().unwrap();
            assert_eq!(changed.tokens.last().unwrap().token, token);
        }
        let mut clear = AcmeClear {
            name: "*.example.org".into(),
            token: Some("-a&b=c d".into()),
        };
        client.acme_clear(&clear).await.unwrap();
        let list: Vec<AcmeToken> = client.acme_list().await.unwrap().json().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(
            (list[0].token.as_str(), list[0].until_unix_ms),
            ("two", 1000)
        );
        clear.token = None;
        let changed: AcmeChanged = client.acme_clear(&clear).await.unwrap().json().unwrap();
        assert_eq!(changed.tokens, []);

        let (long, most) = ("x".repeat(256), "x".repeat(255));
        client.acme_set(&set(&most)).await.unwrap();
        for token in ["", "a\nb", "größer", &long] {
            let error = client.acme_set(&set(token)).await.unwrap_err();
            assert!(error.to_string().contains("printable"), "{error}");
        }
        for (ttl, for_ms) in [(0, 1), (86_401, 1), (1, 0), (1, u64::MAX)] {
            let set = AcmeSet {
                ttl,
                for_ms,
                ..set("x")
            };
            let error = client.acme_set(&set).await.unwrap_err();
            assert!(error.to_string().contains("out of range"), "{error}");
        }
    }
}
