//! The announcement of this node of an anycast set: `/v1/announce`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply};
use super::problem::{Answer, Body, Failure, Problem, Refusal};
use super::values::{Prefix, check_time};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/announce`
    async fn announcement(&self) -> Result<Announcement, Failure>;
    /// `PUT /v1/announce`: the operator's word; durable and in force on return.
    async fn announce(&self, set: SetAnnouncement) -> Result<Announcement, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(announcement, announce))
        .with_state(service)
}

/// Shows how this node is announced, why, and what its checks of itself found.
#[utoipa::path(get, path = "/v1/announce", responses(
    (status = 200, body = Announcement), (status = "default", body = Problem)))]
async fn announcement(State(service): State<Arc<dyn Service>>) -> Answer<Announcement> {
    Ok(Json(service.announcement().await?))
}

/// Drains this node, withdraws it, or has it announced as its checks say. On disk and in force when this returns.
#[utoipa::path(put, path = "/v1/announce", request_body = SetAnnouncement, responses(
    (status = 200, body = Announcement), (status = "default", body = Problem)))]
async fn announce(
    State(service): State<Arc<dyn Service>>,
    Body(set): Body<SetAnnouncement>,
) -> Answer<Announcement> {
    set.check().map_err(Refusal::invalid)?;
    Ok(Json(service.announce(set).await?))
}

impl Client {
    /// `GET /v1/announce`
    pub async fn announcement(&self) -> Result<Reply, Error> {
        self.get("/v1/announce").await
    }

    /// `PUT /v1/announce`
    pub async fn announce(&self, set: &SetAnnouncement) -> Result<Reply, Error> {
        self.put("/v1/announce", set).await
    }
}

/// The operator's word on the announcement of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnnounceWord {
    /// As the node's checks of itself say.
    Up,
    /// Draining, until another word or for a time.
    Drain,
    /// Withdrawn, after a drain.
    Withdraw,
}

/// `PUT /v1/announce`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAnnouncement {
    /// The word.
    pub word: AnnounceWord,
    /// Ends a drain after this many milliseconds; without it, the drain has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: Option<u64>,
    /// Withdraw, even if no other node would be left.
    #[serde(default)]
    pub force: bool,
}

impl SetAnnouncement {
    /// Checks the times, and that they belong to the word.
    pub fn check(&self) -> Result<(), String> {
        if self.for_ms.is_some() && self.word != AnnounceWord::Drain {
            return Err("for_ms: only a drain has a time; leave it out".to_owned());
        }
        if self.force && self.word != AnnounceWord::Withdraw {
            return Err("force: only a withdrawal can be forced; leave it out".to_owned());
        }
        check_time("for_ms", self.for_ms, 1)
    }
}

/// How this node is announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Announcement {
    /// `waiting`, `up`, `draining`, `last-resort`, `held` or `withdrawn`.
    pub state: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Why; empty if all is as it should be.
    pub why: String,
    /// Metric of the routes; none: there are no routes.
    pub metric: Option<u32>,
    /// Prefixes of the routes.
    #[schema(value_type = Vec<Prefix>)]
    pub prefixes: Vec<IpNet>,
    /// Device of the routes.
    pub device: String,
    /// Routing table.
    pub table: u32,
    /// The operator's word.
    pub word: AnnounceWord,
    /// The end of a drain, in milliseconds since 1970; none: it has no end.
    pub until_unix_ms: Option<u64>,
    /// Failures that count for how long the node is held down.
    pub failures: u64,
    /// The fault of the device or the routes.
    pub trouble: Option<String>,
    /// The last round of checks.
    pub checks: Vec<AnnounceCheck>,
    /// The daemon's clock at this answer.
    pub now_unix_ms: u64,
}

/// The check for a program that follows the routes of the machine, as BIRD and FRR do.
pub const ROUTING: &str = "routing";

/// A check of the node itself, and its last result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnnounceCheck {
    /// `program`, `carrier`, `UDP`, `TCP`, or `routing`: whether a program follows the routes of the machine.
    pub check: String,
    /// An address, an interface, or both.
    pub target: String,
    /// The fault; none: it is good.
    pub fault: Option<String>,
    /// Whether such a fault is a failure of the node. One that overload explains is none, nor is the lack of a routing
    /// daemon.
    pub counts: bool,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Memory, Running};
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn announcement(&self) -> Result<Announcement, Failure> {
            Ok(of(AnnounceWord::Up, None))
        }

        async fn announce(&self, set: SetAnnouncement) -> Result<Announcement, Failure> {
            Ok(of(set.word, set.for_ms))
        }
    }

    fn of(word: AnnounceWord, until_unix_ms: Option<u64>) -> Announcement {
        Announcement {
            state: "up".into(),
            since_unix_ms: 0,
            why: String::new(),
            metric: Some(100),
            prefixes: vec!["192.0.2.0/24".parse().unwrap()],
            device: "geodns0".into(),
            table: 254,
            word,
            until_unix_ms,
            failures: 0,
            trouble: None,
            checks: Vec::new(),
            now_unix_ms: 0,
        }
    }

    #[tokio::test]
    async fn a_word_goes_over_as_it_was_said() {
        let running = Running::start();
        let client = &running.client;
        let shown: Announcement = client.announcement().await.unwrap().json().unwrap();
        assert_eq!(shown, of(AnnounceWord::Up, None));
        let set = |word, for_ms, force| SetAnnouncement {
            word,
            for_ms,
            force,
        };
        for (word, for_ms, force) in [
            (AnnounceWord::Drain, Some(600_000), false),
            (AnnounceWord::Drain, None, false),
            (AnnounceWord::Withdraw, None, true),
            (AnnounceWord::Up, None, false),
        ] {
            let reply = client.announce(&set(word, for_ms, force)).await.unwrap();
            assert_eq!(reply.json::<Announcement>().unwrap(), of(word, for_ms));
        }
        for (word, for_ms, force) in [
            (AnnounceWord::Up, Some(1), false),
            (AnnounceWord::Withdraw, Some(1), false),
            (AnnounceWord::Drain, None, true),
            (AnnounceWord::Drain, Some(0), false),
        ] {
            let refused = client.announce(&set(word, for_ms, force)).await;
            assert!(refused.is_err(), "{word:?} {for_ms:?} {force}");
        }
    }
}
