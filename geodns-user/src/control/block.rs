//! Block rules, which say what queries are dropped: `/v1/blocks`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, query};
use super::problem::{Answer, Body, Failure, Problem, Query};
use super::values::{Name, Prefix, RecordType};
use crate::base::prefix;

/// Octets of the prefixes that are blocked at once, at the most: 16,384 of them.
const MAX_PREFIXES: usize = 1 << 20;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/blocks`: block rules, those of the configuration first.
    async fn block_list(&self) -> Result<Vec<BlockRule>, Failure>;
    /// `PUT /v1/blocks`: adds rules; durable and in force in both paths on return.
    async fn block_add(&self, add: BlockAdd) -> Result<BlockChanged, Failure>;
    /// `DELETE /v1/blocks`: takes rules away.
    async fn block_remove(&self, remove: BlockRemove) -> Result<BlockChanged, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(
            routes!(block_list, block_add, block_remove).layer(DefaultBodyLimit::max(MAX_PREFIXES)),
        )
        .with_state(service)
}

/// Lists the block rules, those of the configuration first, with the queries that each has dropped.
#[utoipa::path(get, path = "/v1/blocks", responses(
    (status = 200, body = Vec<BlockRule>), (status = "default", body = Problem)))]
async fn block_list(State(service): State<Arc<dyn Service>>) -> Answer<Vec<BlockRule>> {
    Ok(Json(service.block_list().await?))
}

/// Adds block rules. They are on disk and in force in both paths when this returns.
#[utoipa::path(put, path = "/v1/blocks", request_body = BlockAdd, responses(
    (status = 200, body = BlockChanged), (status = "default", body = Problem)))]
async fn block_add(
    State(service): State<Arc<dyn Service>>,
    Body(add): Body<BlockAdd>,
) -> Answer<BlockChanged> {
    Ok(Json(service.block_add(add).await?))
}

/// Removes block rules. They are gone from disk and from both paths when this returns.
#[utoipa::path(delete, path = "/v1/blocks", params(BlockRemove), responses(
    (status = 200, body = BlockChanged), (status = "default", body = Problem)))]
async fn block_remove(
    State(service): State<Arc<dyn Service>>,
    Query(remove): Query<BlockRemove>,
) -> Answer<BlockChanged> {
    Ok(Json(service.block_remove(remove).await?))
}

impl Client {
    /// `GET /v1/blocks`
    pub async fn block_list(&self) -> Result<Reply, Error> {
        self.get("/v1/blocks").await
    }

    /// `PUT /v1/blocks`
    pub async fn block_add(&self, add: &BlockAdd) -> Result<Reply, Error> {
        self.put("/v1/blocks", add).await
    }

    /// `DELETE /v1/blocks`
    pub async fn block_remove(&self, remove: &BlockRemove) -> Result<Reply, Error> {
        self.delete(&query("/v1/blocks", remove)).await
    }
}

/// A block rule: queries that match all of these are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockRule {
    /// Its number; none for a rule of the configuration.
    pub number: Option<u32>,
    /// Name in the question.
    pub name: Option<String>,
    /// Name in the question, or one above it.
    pub below: Option<String>,
    /// Type in the question.
    #[serde(rename = "type")]
    pub qtype: Option<String>,
    /// Source prefix of the query.
    #[schema(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Reason.
    pub note: String,
    /// Queries that it has dropped since it came into force.
    pub dropped: u64,
}

/// `PUT /v1/blocks`: a rule for each prefix, or one for anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockAdd {
    /// Name in the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// Name in the question, or one above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Name>)]
    pub below: Option<String>,
    /// Type in the question.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Source prefixes of the queries; empty: any.
    #[serde(default, deserialize_with = "prefix::deserialize_all")]
    #[schema(value_type = Vec<Prefix>)]
    pub from: Vec<IpNet>,
    /// Reason.
    #[serde(default)]
    #[schema(max_length = 255, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub note: String,
}

/// `DELETE /v1/blocks?...`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BlockRemove {
    /// Numbers, with commas between them; without it, all that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[0-9]+(,[0-9]+)*$")]
    pub numbers: Option<String>,
}

/// Result of a change of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockChanged {
    /// Rules that were added or removed.
    pub rules: Vec<BlockRule>,
    /// Number of rules to add that were there already.
    pub before: u64,
    /// Number of rules in force now.
    pub all: u64,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn block_list(&self) -> Result<Vec<BlockRule>, Failure> {
            let rules = self.rules.lock().unwrap();
            Ok(rules.clone())
        }

        async fn block_add(&self, add: BlockAdd) -> Result<BlockChanged, Failure> {
            let mut rules = self.rules.lock().unwrap();
            let new: Vec<BlockRule> = (1..)
                .zip(&add.from)
                .map(|(number, &from)| BlockRule {
                    number: Some(number),
                    name: add.name.clone(),
                    below: add.below.clone(),
                    qtype: add.qtype.clone(),
                    from: Some(from),
                    note: add.note.clone(),
                    dropped: 0,
                })
                .collect();
            rules.extend(new.iter().cloned());
            Ok(BlockChanged {
                all: rules.len() as u64,
                rules: new,
                before: 0,
            })
        }

        async fn block_remove(&self, remove: BlockRemove) -> Result<BlockChanged, Failure> {
            if remove.numbers.is_some_and(|numbers| numbers != "1,2") {
                return Err(Failure::NotFound("there is no such rule".into()));
            }
            let rules = std::mem::take(&mut *self.rules.lock().unwrap());
            Ok(BlockChanged {
                rules,
                before: 0,
                all: 0,
            })
        }
    }
}
