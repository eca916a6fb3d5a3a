//! Queries and answers as they come: `/v1/top`, `/v1/capture`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Chunks, Client, Error, query};
use super::problem::{Failure, Problem, Query, Refusal};
use super::values::{Name, Prefix, RecordType};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/top`: a [`Top`] each second, as a line.
    async fn top(&self) -> Result<Stream, Failure>;
    /// `GET /v1/capture`: a file for tcpdump, as it comes.
    async fn capture(&self, query: CaptureQuery) -> Result<Stream, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(top))
        .routes(routes!(capture))
        .with_state(service)
}

/// Shows queries and answers as they come: a line of JSON each second.
#[utoipa::path(get, path = "/v1/top", responses(
    (status = 200, body = Top, content_type = "application/x-ndjson"),
    (status = "default", body = Problem)))]
async fn top(State(service): State<Arc<dyn Service>>) -> Result<Response, Refusal> {
    Ok(streamed("application/x-ndjson", service.top().await?))
}

/// Records queries and the program's answers as a file for tcpdump (pcap), until the client goes.
#[utoipa::path(get, path = "/v1/capture", params(CaptureQuery), responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.tcpdump.pcap"),
    (status = "default", body = Problem)))]
async fn capture(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<CaptureQuery>,
) -> Result<Response, Refusal> {
    let frames = service.capture(of).await?;
    Ok(streamed("application/vnd.tcpdump.pcap", frames))
}

/// A response that goes on as the stream does.
pub(super) fn streamed(content: &'static str, stream: Stream) -> Response {
    let body = Body::from_stream(stream.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, content)], body).into_response()
}

impl Client {
    /// `GET /v1/top`
    pub async fn top(&self) -> Result<Chunks, Error> {
        self.stream("/v1/top").await
    }

    /// `GET /v1/capture`
    pub async fn capture(&self, of: &CaptureQuery) -> Result<Chunks, Error> {
        self.stream(&query("/v1/capture", of)).await
    }
}

/// A stream that ends when the client goes.
pub type Stream = BoxStream<'static, Bytes>;

/// Queries and answers of a second, or little more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Top {
    /// Its length.
    pub seconds: f64,
    /// Messages to us that the program saw.
    pub queries: u64,
    /// Those that it answered.
    pub answered: u64,
    /// Those that it passed to the slow path.
    pub passed: u64,
    /// Those that it dropped.
    pub dropped: u64,
    /// Messages that the slow path answered.
    pub answered_in_userspace: u64,
    /// Number of samples behind names, regions, mirrors and times, which are scaled to all queries.
    pub sampled: u64,
    /// Samples and captured packets that found no room.
    pub lost: u64,
    /// Response codes of both paths, exact.
    pub rcodes: Vec<Share>,
    /// Verdicts, exact.
    pub verdicts: Vec<Share>,
    /// Names and types.
    pub names: Vec<Share>,
    /// Regions: a pool, and its mirrors in the order of preference there.
    pub regions: Vec<Share>,
    /// Mirrors that were first in an answer.
    pub mirrors: Vec<Share>,
    /// The /24 and /56 that asked most; estimated, of all queries.
    pub prefixes: Vec<Share>,
    /// Time in the program.
    pub latency: Latency,
}

/// Queries that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// Their name, type, verdict...
    pub what: String,
    /// Their number.
    pub queries: u64,
}

/// Time in the program of the samples, from the headers of a packet for us to its verdict, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Median.
    pub p50_ns: u32,
    /// 90th percentile.
    pub p90_ns: u32,
    /// 99th percentile.
    pub p99_ns: u32,
    /// The longest.
    pub most_ns: u32,
    /// Number of samples below this time, and not below half of it.
    pub below_ns: BTreeMap<u32, u64>,
}

/// `GET /v1/capture?...`: queries that match all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaptureQuery {
    /// Name in the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub name: Option<String>,
    /// Name in the question, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Name>)]
    pub below: Option<String>,
    /// Type in the question.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<RecordType>)]
    pub qtype: Option<String>,
    /// Source prefix of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub from: Option<IpNet>,
    /// Verdicts, as `/v1/stats` names them, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<String>,
    /// One in N, a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub every: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn top(&self) -> Result<Stream, Failure> {
            let lines = ["{\"a\":1}\n", "{\"a\":2}\n"];
            Ok(futures_util::stream::iter(lines.map(Bytes::from)).boxed())
        }

        async fn capture(&self, query: CaptureQuery) -> Result<Stream, Failure> {
            match query.name {
                Some(name) => Err(Failure::Invalid(format!("{name}: no"))),
                None => Ok(futures_util::stream::iter(["pcap"].map(Bytes::from)).boxed()),
            }
        }
    }
}
