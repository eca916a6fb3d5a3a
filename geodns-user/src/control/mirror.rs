//! Mirrors, their health and their weights: `/v1/mirrors`.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Client, Error, Reply, query};
use super::problem::{Answer, Body, Failure, Problem, Query, Refusal};
use super::values::{Address, Id, check_time};
use crate::config::is_id;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/mirrors`
    async fn mirrors(&self) -> Result<Vec<Mirror>, Failure>;
    /// `GET /v1/mirrors/{id}`
    async fn mirror(&self, id: String) -> Result<Mirror, Failure>;
    /// `PUT /v1/mirrors/{id}/admin`: what the operator says; durable and in force on return.
    async fn mirror_admin(&self, id: String, change: SetAdmin) -> Result<MirrorChanged, Failure>;
    /// `PUT /v1/mirrors/{id}/weight`: a weight instead of the configuration's.
    async fn mirror_weight(&self, id: String, change: SetWeight) -> Result<MirrorChanged, Failure>;
    /// `DELETE /v1/mirrors/{id}/weight`: back to the configuration's; no matter if it is already.
    async fn mirror_weight_reset(&self, id: String) -> Result<MirrorChanged, Failure>;
    /// `PUT /v1/mirrors/{id}/health`: another monitor's verdict, in the place of its last one.
    async fn mirror_health(&self, id: String, change: SetHealth) -> Result<MirrorChanged, Failure>;
    /// `DELETE /v1/mirrors/{id}/health`: takes verdicts back; no matter if there is none.
    async fn mirror_health_clear(
        &self,
        id: String,
        address: Option<IpAddr>,
    ) -> Result<MirrorChanged, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(mirrors))
        .routes(routes!(mirror))
        .routes(routes!(mirror_admin))
        .routes(routes!(mirror_weight, mirror_weight_reset))
        .routes(routes!(mirror_health, mirror_health_clear))
        .with_state(service)
}

/// Lists mirrors, whether they are in service, and why.
#[utoipa::path(get, path = "/v1/mirrors", responses(
    (status = 200, body = Vec<Mirror>), (status = "default", body = Problem)))]
async fn mirrors(State(service): State<Arc<dyn Service>>) -> Answer<Vec<Mirror>> {
    Ok(Json(service.mirrors().await?))
}

/// Shows one mirror.
#[utoipa::path(get, path = "/v1/mirrors/{id}", params(("id" = Id, Path, description = "Mirror's id")),
    responses((status = 200, body = Mirror), (status = "default", body = Problem)))]
async fn mirror(State(service): State<Arc<dyn Service>>, MirrorId(id): MirrorId) -> Answer<Mirror> {
    Ok(Json(service.mirror(id).await?))
}

/// Takes a mirror out of service or puts it in, whatever checks say. The change is on disk and in force when this
/// returns. A drain goes on from the share that is drained already.
#[utoipa::path(put, path = "/v1/mirrors/{id}/admin", request_body = SetAdmin,
    params(("id" = Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_admin(
    State(service): State<Arc<dyn Service>>,
    MirrorId(id): MirrorId,
    Body(change): Body<SetAdmin>,
) -> Answer<MirrorChanged> {
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_admin(id, change).await?))
}

/// Gives a mirror another weight than the configuration's, at once or gradually.
#[utoipa::path(put, path = "/v1/mirrors/{id}/weight", request_body = SetWeight,
    params(("id" = Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_weight(
    State(service): State<Arc<dyn Service>>,
    MirrorId(id): MirrorId,
    Body(change): Body<SetWeight>,
) -> Answer<MirrorChanged> {
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_weight(id, change).await?))
}

/// Restores a mirror's weight of the configuration.
#[utoipa::path(delete, path = "/v1/mirrors/{id}/weight",
    params(("id" = Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_weight_reset(
    State(service): State<Arc<dyn Service>>,
    MirrorId(id): MirrorId,
) -> Answer<MirrorChanged> {
    Ok(Json(service.mirror_weight_reset(id).await?))
}

/// Reports another monitor's verdict on a mirror. It overrides our own checks, and the operator overrides it.
#[utoipa::path(put, path = "/v1/mirrors/{id}/health", request_body = SetHealth,
    params(("id" = Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_health(
    State(service): State<Arc<dyn Service>>,
    MirrorId(id): MirrorId,
    Body(change): Body<SetHealth>,
) -> Answer<MirrorChanged> {
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_health(id, change).await?))
}

/// Removes another monitor's verdict, or all of them.
#[utoipa::path(delete, path = "/v1/mirrors/{id}/health",
    params(("id" = Id, Path, description = "Mirror's id"), OfAddress), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_health_clear(
    State(service): State<Arc<dyn Service>>,
    MirrorId(id): MirrorId,
    Query(of): Query<OfAddress>,
) -> Answer<MirrorChanged> {
    Ok(Json(service.mirror_health_clear(id, of.address).await?))
}

/// A mirror's id, in the path of a request.
struct MirrorId(String);

impl<S: Send + Sync> FromRequestParts<S> for MirrorId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await?;
        if is_id(&id) {
            return Ok(Self(id));
        }
        Err(Refusal::invalid(format!(
            "{id:?} is not a mirror's id; /v1/mirrors lists them"
        )))
    }
}

/// Path of a mirror, or of what is below it. An id has no characters that mean something in a path.
fn path(id: &str, below: &str) -> Result<String, Error> {
    if is_id(id) {
        return Ok(format!("/v1/mirrors/{id}{below}"));
    }
    Err(Error::Refused(format!("{id:?} is not a mirror's id")))
}

impl Client {
    /// `GET /v1/mirrors`
    pub async fn mirrors(&self) -> Result<Reply, Error> {
        self.get("/v1/mirrors").await
    }

    /// `GET /v1/mirrors/{id}`
    pub async fn mirror(&self, id: &str) -> Result<Reply, Error> {
        self.get(&path(id, "")?).await
    }

    /// `PUT /v1/mirrors/{id}/admin`
    pub async fn mirror_admin(&self, id: &str, change: &SetAdmin) -> Result<Reply, Error> {
        self.put(&path(id, "/admin")?, change).await
    }

    /// `PUT /v1/mirrors/{id}/weight`
    pub async fn mirror_weight(&self, id: &str, change: &SetWeight) -> Result<Reply, Error> {
        self.put(&path(id, "/weight")?, change).await
    }

    /// `DELETE /v1/mirrors/{id}/weight`
    pub async fn mirror_weight_reset(&self, id: &str) -> Result<Reply, Error> {
        self.delete(&path(id, "/weight")?).await
    }

    /// `PUT /v1/mirrors/{id}/health`
    pub async fn mirror_health(&self, id: &str, change: &SetHealth) -> Result<Reply, Error> {
        self.put(&path(id, "/health")?, change).await
    }

    /// `DELETE /v1/mirrors/{id}/health`
    pub async fn mirror_health_clear(&self, id: &str, of: &OfAddress) -> Result<Reply, Error> {
        self.delete(&query(&path(id, "/health")?, of)).await
    }
}

/// A mirror: what is said of it, what checks found, and what comes of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mirror {
    /// Its id.
    pub id: String,
    /// Its addresses.
    #[schema(value_type = Vec<Address>)]
    pub addresses: Vec<IpAddr>,
    /// Pools that contain it.
    pub pools: Vec<String>,
    /// True if new clients are sent to it.
    pub in_service: bool,
    /// Reason, in one line.
    pub why: String,
    /// The operator's word.
    pub admin: MirrorAdmin,
    /// Its weight.
    pub weight: MirrorWeight,
    /// Results of our own checks, by address.
    pub checks: Vec<MirrorCheck>,
    /// Other monitors' verdicts in force.
    pub external: Vec<Verdict>,
    /// Where it serves the site.
    #[serde(default)]
    pub url: Option<String>,
    /// Who pays for it.
    #[serde(default)]
    pub sponsor: Option<String>,
    /// Where it stands, ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: Option<String>,
    /// Bits a second.
    #[serde(default)]
    pub bandwidth: Option<u64>,
    /// The clients that it takes, as in the configuration; none: every client.
    #[serde(default)]
    pub limits: Option<String>,
    /// The daemon's clock at this answer.
    pub now_unix_ms: u64,
}

/// The operator's word on a mirror, which overrides all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// The checks decide.
    Auto,
    /// In service, whatever checks say.
    Up,
    /// Out of service.
    Down,
    /// No new clients, at once or gradually.
    Drain,
}

/// The operator's word on a mirror, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorAdmin {
    /// The word.
    pub state: AdminState,
    /// Its time; none with `auto`.
    pub since_unix_ms: Option<u64>,
    /// Share of new clients kept away by a drain now, 0 to 1.
    pub drained: f64,
    /// Length of a drain; none without one.
    pub over_ms: Option<u64>,
    /// End of a drain.
    pub until_unix_ms: Option<u64>,
}

/// A mirror's weight among the others of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorWeight {
    /// The configuration's.
    pub configured: u32,
    /// The one in force now, before any drain.
    pub in_force: u32,
    /// The operator's weight in place of the configuration's, if any.
    pub wanted: Option<u32>,
    /// Time of the last change.
    pub since_unix_ms: Option<u64>,
    /// Length of the change to that weight.
    pub over_ms: Option<u64>,
    /// End of the change.
    pub until_unix_ms: Option<u64>,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// The mirror works.
    Up,
    /// The mirror does not work.
    Down,
    /// Not checked, or not yet.
    Unknown,
}

/// Result of our own checks of an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorCheck {
    /// The address.
    #[schema(value_type = Address)]
    pub address: IpAddr,
    /// The result.
    pub state: CheckState,
    /// Time of the last change.
    pub since_unix_ms: Option<u64>,
    /// Message of the last check.
    pub reason: Option<String>,
    /// Time that it took.
    pub latency_ms: Option<f64>,
    /// Time that the trace of its content named when it was last read.
    #[serde(default)]
    pub trace_unix_ms: Option<u64>,
}

/// Another monitor's verdict on a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// True if the monitor found that the mirror works.
    pub up: bool,
    /// The address; none: all that have no verdict of their own.
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Time of the last change.
    pub since_unix_ms: u64,
    /// Its expiry; none: never.
    pub until_unix_ms: Option<u64>,
    /// Reason, in one line; may be empty.
    pub reason: String,
}

/// `PUT /v1/mirrors/{id}/admin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAdmin {
    /// The operator's word.
    pub state: AdminState,
    /// Length of an even drain, in milliseconds; without it, the drain is complete at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_536_000_000_u64)]
    pub over_ms: Option<u64>,
}

/// `PUT /v1/mirrors/{id}/weight`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    /// The weight; 0: no new clients.
    #[schema(maximum = 1_000_000)]
    pub value: u32,
    /// Length of an even change from the weight in force, in milliseconds; without it, the change is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_536_000_000_u64)]
    pub over_ms: Option<u64>,
}

/// `PUT /v1/mirrors/{id}/health`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHealth {
    /// True if the mirror works.
    pub up: bool,
    /// An address of it; without one, all that have no verdict of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Milliseconds until the verdict expires; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000_000_u64)]
    pub for_ms: Option<u64>,
    /// Reason, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: String,
}

/// `DELETE /v1/mirrors/{id}/health?...`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfAddress {
    /// Address whose verdict is taken back; without one, every verdict on the mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
}

/// A mirror before and after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorChanged {
    /// Before.
    pub before: Mirror,
    /// Now.
    pub after: Mirror,
    /// Warnings, such as a pool without a mirror in service.
    pub warnings: Vec<String>,
}

/// The greatest weight.
pub const MAX_WEIGHT: u32 = 1_000_000;

impl SetAdmin {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        if self.over_ms.is_some() && self.state != AdminState::Drain {
            return Err("over_ms goes with the state drain only: leave it out".to_owned());
        }
        check_time("over_ms", self.over_ms, 0)
    }
}

impl SetWeight {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        if self.value > MAX_WEIGHT {
            return Err(format!(
                "value: {} is out of range; write 0 to {MAX_WEIGHT}",
                self.value
            ));
        }
        check_time("over_ms", self.over_ms, 0)
    }
}

impl SetHealth {
    /// Checks the time. The daemon checks the reason.
    pub fn check(&self) -> Result<(), String> {
        check_time("for_ms", self.for_ms, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Memory, Running};
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn mirrors(&self) -> Result<Vec<Mirror>, Failure> {
            Ok(vec![ams("")])
        }

        async fn mirror(&self, id: String) -> Result<Mirror, Failure> {
            match id.as_str() {
                "ams" => Ok(ams("")),
                _ => Err(Failure::NotFound(format!("no mirror {id}; there is ams"))),
            }
        }

        async fn mirror_admin(
            &self,
            id: String,
            change: SetAdmin,
        ) -> Result<MirrorChanged, Failure> {
            self.change(&id, change)
        }

        async fn mirror_weight(
            &self,
            id: String,
            change: SetWeight,
        ) -> Result<MirrorChanged, Failure> {
            self.change(&id, change)
        }

        async fn mirror_weight_reset(&self, id: String) -> Result<MirrorChanged, Failure> {
            self.change(&id, "reset")
        }

        async fn mirror_health(
            &self,
            id: String,
            change: SetHealth,
        ) -> Result<MirrorChanged, Failure> {
            self.change(&id, change)
        }

        async fn mirror_health_clear(
            &self,
            id: String,
            address: Option<IpAddr>,
        ) -> Result<MirrorChanged, Failure> {
            self.change(&id, ("clear", address))
        }
    }

    impl Memory {
        /// Keeps a change of `ams`; there is no other mirror.
        fn change(&self, id: &str, change: impl std::fmt::Debug) -> Result<MirrorChanged, Failure> {
            if id != "ams" {
                return Err(Failure::NotFound(format!("no mirror {id}; there is ams")));
            }
            let said = format!("{change:?}");
            let before = std::mem::replace(&mut *self.changed.lock().unwrap(), said.clone());
            Ok(MirrorChanged {
                before: ams(&before),
                after: ams(&said),
                warnings: vec!["pool www has no other mirror in service".into()],
            })
        }
    }

    fn ams(why: &str) -> Mirror {
        Mirror {
            id: "ams".into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            pools: vec!["www".into()],
            in_service: true,
            why: why.into(),
            admin: MirrorAdmin {
                state: AdminState::Auto,
                since_unix_ms: None,
                drained: 0.0,
                over_ms: None,
                until_unix_ms: None,
            },
            weight: MirrorWeight {
                configured: 100,
                in_force: 100,
                wanted: None,
                since_unix_ms: None,
                over_ms: None,
                until_unix_ms: None,
            },
            checks: vec![MirrorCheck {
                address: "192.0.2.1".parse().unwrap(),
                state: CheckState::Up,
                since_unix_ms: Some(1),
                reason: None,
                latency_ms: Some(0.25),
                trace_unix_ms: None,
            }],
            external: Vec::new(),
            url: None,
            sponsor: None,
            country: None,
            bandwidth: None,
            limits: None,
            now_unix_ms: 2,
        }
    }

    #[tokio::test]
    async fn a_mirror_is_shown_and_changed() {
        let running = Running::start();
        let client = &running.client;
        let mirror: Mirror = client.mirror("ams").await.unwrap().json().unwrap();
        let mirrors: Vec<Mirror> = client.mirrors().await.unwrap().json().unwrap();
        assert_eq!(mirrors, [mirror]);

        let admin = SetAdmin {
            state: AdminState::Drain,
            over_ms: Some(600_000),
        };
        let weight = SetWeight {
            value: 50,
            over_ms: None,
        };
        let health = SetHealth {
            up: false,
            address: Some("192.0.2.1".parse().unwrap()),
            for_ms: Some(1),
            reason: "a \"reason\", größer".into(),
        };
        let of = OfAddress {
            address: health.address,
        };
        let every = OfAddress::default();
        let mut before = String::new();
        for (reply, said) in [
            (
                client.mirror_admin("ams", &admin).await,
                format!("{admin:?}"),
            ),
            (
                client.mirror_weight("ams", &weight).await,
                format!("{weight:?}"),
            ),
            (
                client.mirror_weight_reset("ams").await,
                "\"reset\"".to_owned(),
            ),
            (
                client.mirror_health("ams", &health).await,
                format!("{health:?}"),
            ),
            (
                client.mirror_health_clear("ams", &of).await,
                format!("{:?}", ("clear", of.address)),
            ),
            (
                client.mirror_health_clear("ams", &every).await,
                format!("{:?}", ("clear", every.address)),
            ),
        ] {
            let changed: MirrorChanged = reply.unwrap().json().unwrap();
            assert_eq!(changed.before.why, before);
            assert_eq!(changed.after.why, said);
            assert_eq!(changed.warnings.len(), 1);
            before = said;
        }

        let error = client.mirror_weight_reset("xyz").await.unwrap_err();
        assert_eq!(error.to_string(), "no mirror xyz; there is ams");
        // What is no id never becomes another path.
        for id in ["", "ams/admin", "ams?x", "a b", "größer", "a\nb"] {
            let error = client.mirror(id).await.unwrap_err();
            assert!(matches!(error, Error::Refused(_)), "{id:?}: {error}");
        }
    }
}
