//! A query's way to its answer: `/v1/explain`.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, query};
use super::map::Lookup;
use super::mirror::AdminState;
use super::problem::{Answer, Failure, Problem, Query, Refusal};
use super::values::{Address, Name, Prefix, RecordType};
use crate::base::prefix;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/explain`
    async fn explain(&self, question: ExplainQuery) -> Result<Explanation, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(explain))
        .with_state(service)
}

/// Follows a client's query to its answer, step by step, and compares it with the answer of the kernel's maps.
#[utoipa::path(get, path = "/v1/explain", params(ExplainQuery), responses(
    (status = 200, body = Explanation), (status = "default", body = Problem)))]
async fn explain(
    State(service): State<Arc<dyn Service>>,
    Query(question): Query<ExplainQuery>,
) -> Answer<Explanation> {
    if let Some(subnet) = question.ecs {
        let wrong = |error| Refusal::invalid(format!("ecs: {error}"));
        prefix::check_host_bits(subnet).map_err(wrong)?;
    }
    Ok(Json(service.explain(question).await?))
}

impl Client {
    /// `GET /v1/explain`
    pub async fn explain(&self, question: &ExplainQuery) -> Result<Reply, Error> {
        self.get(&query("/v1/explain", question)).await
    }
}

/// A query's way to its answer, and the answer of the kernel's maps.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Name of the query.
    pub name: String,
    /// Type of the query.
    #[serde(rename = "type")]
    pub qtype: String,
    /// Source address of the query.
    #[schema(value_type = Address)]
    pub client: IpAddr,
    /// Client subnet of the query, if it has one.
    #[schema(value_type = Option<Prefix>)]
    pub ecs: Option<IpNet>,
    /// Zone that the name is in.
    pub zone: Option<String>,
    /// The steered name that matches, if any; it may be a wildcard.
    pub steered: Option<String>,
    /// The answering pool's mirrors for the client that counts.
    pub lookup: Option<Lookup>,
    /// Addresses of the answer to A, in order.
    #[schema(value_type = Vec<Address>)]
    pub a: Vec<IpAddr>,
    /// Addresses of the answer to AAAA, in order.
    #[schema(value_type = Vec<Address>)]
    pub aaaa: Vec<IpAddr>,
    /// TTL of the pool's records.
    pub ttl: Option<u32>,
    /// From the question to the answer, in order.
    pub steps: Vec<Step>,
    /// The mirrors of the client's order, best first; empty where no pool answers.
    pub mirrors: Vec<Candidate>,
    /// The right answer, which the slow path gives.
    pub response: Response,
    /// Answer of the kernel's maps; none with mode off.
    pub kernel: Option<InKernel>,
    /// True if the kernel gives the right answer, or rightly leaves it to the slow path.
    pub agrees: bool,
    /// Summary of the query's fate, in one line.
    pub summary: String,
}

/// A step from a question to its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Kind of step: `zone`, `name`, `pool`, `client`, `override`, `database`...
    pub step: String,
    /// Finding of this step.
    pub says: String,
    /// Source of it, such as a file and line; may be empty.
    pub from: String,
    /// Its place in the kernel's tables; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A mirror of a client's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Its id.
    pub mirror: String,
    /// The nested pool that it was drawn from.
    pub group: Option<String>,
    /// Reason of its place in the order.
    pub because: String,
    /// True if it has records of the type.
    pub has_records: bool,
    /// True if the tables have it in service for this client.
    pub in_row: bool,
    /// True if it is in the answer.
    pub chosen: bool,
    /// True if new clients are sent to it.
    pub in_service: bool,
    /// Reason, in one line.
    pub why: String,
    /// The operator's word.
    pub admin: AdminState,
    /// Its weight in force.
    pub weight: u32,
}

/// A DNS response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Response {
    /// Response code, by name.
    pub rcode: String,
    /// Answer records: type and data, in order.
    pub records: Vec<String>,
    /// TTL of the first of them.
    pub ttl: Option<u32>,
    /// Scope prefix length, where the query had a client subnet.
    pub scope: Option<u8>,
    /// TC is set: too large for UDP.
    pub truncated: bool,
    /// All of it, in hexadecimal.
    pub octets: String,
}

/// Answer of the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InKernel {
    /// Number of the plan in the kernel.
    pub generation: u64,
    /// Verdict of the fast path: see `GET /v1/stats`.
    pub verdict: String,
    /// Meaning of the verdict.
    pub meaning: String,
    /// The response; none if it passes the query to the slow path.
    pub response: Option<Response>,
    /// True if it was compared, which is impossible where each query draws a mirror.
    pub compared: bool,
    /// Difference from the right answer.
    pub difference: Option<String>,
}

/// `GET /v1/explain?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// Name that is asked about.
    #[param(value_type = Name)]
    pub name: String,
    /// Address that the query comes from: the resolver's.
    #[param(value_type = Address)]
    pub client: IpAddr,
    /// Client subnet (RFC 7871) in the query, host bits zero; without it, the query has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub ecs: Option<IpNet>,
    /// Type that is asked for; without it, A.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn explain(&self, question: ExplainQuery) -> Result<Explanation, Failure> {
            let response = Response {
                rcode: "NOERROR".into(),
                records: Vec::new(),
                ttl: None,
                scope: None,
                truncated: false,
                octets: String::new(),
            };
            Ok(Explanation {
                summary: format!("{} for {}", question.name, question.client),
                name: question.name,
                qtype: question.qtype.unwrap_or_else(|| "A".into()),
                client: question.client,
                ecs: question.ecs,
                zone: None,
                steered: None,
                lookup: None,
                a: Vec::new(),
                aaaa: Vec::new(),
                ttl: None,
                steps: Vec::new(),
                mirrors: Vec::new(),
                response,
                kernel: None,
                agrees: true,
            })
        }
    }
}
