//! Prefixes and their mirrors: `/v1/map`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::body::HttpBody;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::client::{Client, Error, JSON, Reply, empty, query};
use super::problem::{Answer, Body, Failure, Problem, Query, Refusal};
use super::values::{Address, Id, Prefix};
use crate::base::prefix;

/// Octets of an imported list, at the most: some ten million prefixes.
const MAX_LIST: usize = 256 << 20;
/// Octets read from an imported file at a time.
const CHUNK: usize = 256 << 10;

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/map`: the overrides (`map list`), of one pool or all.
    async fn map_list(&self, pool: Option<String>) -> Result<Vec<Mapping>, Failure>;
    /// `PUT /v1/map`: sets an override; durable and in the kernel's answers on return.
    async fn map_set(&self, change: MapSet) -> Result<MapChanged, Failure>;
    /// `DELETE /v1/map`: deletes an override.
    async fn map_del(&self, change: MapDel) -> Result<MapChanged, Failure>;
    /// `GET /v1/map/lookup`: what a client gets (`map get`), in each pool or one.
    async fn map_get(&self, address: IpAddr, pool: Option<String>) -> Result<Vec<Lookup>, Failure>;
    /// `GET /v1/map/export`: every prefix in force (list, import, overrides merged by precedence;
    /// an equal prefix of a higher layer hides the lower), as CSV `prefix,mirror,...`.
    async fn map_export(&self, pool: Option<String>) -> Result<String, Failure>;
    /// `PUT /v1/map/import`: replaces the imported layer; `name` is for messages. One transaction.
    async fn map_import(
        &self,
        csv: String,
        name: String,
        pool: Option<String>,
    ) -> Result<Imported, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(map_list, map_set, map_del))
        .routes(routes!(map_lookup))
        .routes(routes!(map_export))
        .routes(routes!(map_import).layer(DefaultBodyLimit::max(MAX_LIST)))
        .with_state(service)
}

/// Lists the overrides in force.
#[utoipa::path(get, path = "/v1/map", params(OfPool), responses(
    (status = 200, body = Vec<Mapping>), (status = "default", body = Problem)))]
async fn map_list(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<OfPool>,
) -> Answer<Vec<Mapping>> {
    Ok(Json(service.map_list(of.pool).await?))
}

/// Sets an override. It is on disk and in every answer when this returns.
#[utoipa::path(put, path = "/v1/map", request_body = MapSet, responses(
    (status = 200, body = MapChanged), (status = "default", body = Problem)))]
async fn map_set(
    State(service): State<Arc<dyn Service>>,
    Body(change): Body<MapSet>,
) -> Answer<MapChanged> {
    strict(change.prefix)?;
    Ok(Json(service.map_set(change).await?))
}

/// Deletes an override. It is gone from disk and from every answer when this returns.
#[utoipa::path(delete, path = "/v1/map", params(MapDel), responses(
    (status = 200, body = MapChanged), (status = "default", body = Problem)))]
async fn map_del(
    State(service): State<Arc<dyn Service>>,
    Query(change): Query<MapDel>,
) -> Answer<MapChanged> {
    strict(change.prefix)?;
    Ok(Json(service.map_del(change).await?))
}

/// Shows the mirrors of a client, and why.
#[utoipa::path(get, path = "/v1/map/lookup", params(LookupQuery), responses(
    (status = 200, body = Vec<Lookup>), (status = "default", body = Problem)))]
async fn map_lookup(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<LookupQuery>,
) -> Answer<Vec<Lookup>> {
    let LookupQuery { address, pool } = of;
    Ok(Json(service.map_get(address, pool).await?))
}

/// Lists every prefix in force, as lines `prefix,mirror,...` (best first), or as JSON if the request accepts that.
#[utoipa::path(get, path = "/v1/map/export", params(OfPool), responses(
    (status = 200, content((String = "text/csv"), (Vec<Exported> = "application/json"))),
    (status = "default", body = Problem)))]
async fn map_export(
    State(service): State<Arc<dyn Service>>,
    headers: HeaderMap,
    Query(of): Query<OfPool>,
) -> Result<Response, Refusal> {
    let csv = service.map_export(of.pool).await?;
    let json = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    if !json {
        return Ok(([(header::CONTENT_TYPE, "text/csv")], csv).into_response());
    }
    let lines: Vec<_> = csv
        .lines()
        .skip_while(|&line| line == "prefix,mirror")
        .filter_map(|line| line.split_once(','))
        .map(|(prefix, mirror)| Exported {
            prefix: prefix.to_owned(),
            mirror: mirror.to_owned(),
        })
        .collect();
    Ok(Json(lines).into_response())
}

/// Replaces the imported list by these `prefix,mirror,...` lines, in one transaction.
#[utoipa::path(put, path = "/v1/map/import", params(ImportQuery),
    request_body(content = String, content_type = "text/csv"), responses(
    (status = 200, body = Imported), (status = "default", body = Problem)))]
async fn map_import(
    State(service): State<Arc<dyn Service>>,
    Query(of): Query<ImportQuery>,
    request: Request,
) -> Answer<Imported> {
    let ImportQuery { name, pool } = of;
    // Said at once, not after the limit has been read.
    if request.body().size_hint().lower() > MAX_LIST as u64 {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a list may have {} MiB at the most", MAX_LIST >> 20),
        ));
    }
    let body = Bytes::from_request(request, &()).await;
    let name = name.unwrap_or_else(|| "import".to_owned());
    let csv = String::from_utf8(body?.into()).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Refusal::invalid(format!("{name}:{line}: not UTF-8 text"))
    })?;
    Ok(Json(service.map_import(csv, name, pool).await?))
}

fn strict(prefix: IpNet) -> Result<IpNet, Refusal> {
    prefix::check(prefix).map_err(|error| Refusal::invalid(format!("prefix: {error}")))
}

impl Client {
    /// `GET /v1/map`
    pub async fn map_list(&self, of: &OfPool) -> Result<Reply, Error> {
        self.get(&query("/v1/map", of)).await
    }

    /// `PUT /v1/map`
    pub async fn map_set(&self, change: &MapSet) -> Result<Reply, Error> {
        self.put("/v1/map", change).await
    }

    /// `DELETE /v1/map`
    pub async fn map_del(&self, change: &MapDel) -> Result<Reply, Error> {
        self.delete(&query("/v1/map", change)).await
    }

    /// `GET /v1/map/lookup`
    pub async fn map_get(&self, lookup: &LookupQuery) -> Result<Reply, Error> {
        self.get(&query("/v1/map/lookup", lookup)).await
    }

    /// `GET /v1/map/export`, as CSV or JSON.
    pub async fn map_export(&self, of: &OfPool, json: bool) -> Result<Reply, Error> {
        let accept = if json { JSON } else { "text/csv" };
        let request =
            hyper::Request::get(query("/v1/map/export", of)).header(header::ACCEPT, accept);
        self.send(request, empty()).await
    }

    /// `PUT /v1/map/import`: streams `list`, telling `progress`.
    pub async fn map_import(
        &self,
        list: impl AsyncRead + Send + Unpin + 'static,
        import: &ImportQuery,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Reply, Error> {
        let body = StreamBody::new(stream::try_unfold(
            (list, progress, 0),
            |(mut list, mut progress, sent)| async move {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = list.read_buf(&mut chunk).await?;
                if read == 0 {
                    progress(Progress::Waiting);
                    return Ok(None);
                }
                let sent = sent + read as u64;
                progress(Progress::Sent(sent));
                let frame = Frame::data(Bytes::from(chunk));
                Ok(Some((frame, (list, progress, sent))))
            },
        ));
        let request = hyper::Request::put(query("/v1/map/import", import))
            .header(header::CONTENT_TYPE, "text/csv");
        self.send(request, BodyExt::boxed_unsync(body)).await
    }
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Octets sent.
    Sent(u64),
    /// All of them are; the daemon works.
    Waiting,
}

/// A prefix and its mirror in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mapping {
    /// Address prefix.
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// Mirror's id.
    pub mirror: String,
    /// Pool's id.
    pub pool: String,
    /// Whether this node alone has it so, and not its fleet.
    #[serde(default)]
    pub local: bool,
}

/// `PUT /v1/map`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MapSet {
    /// Address prefix, host bits zero.
    #[serde(deserialize_with = "prefix::deserialize")]
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// Mirror's id.
    #[schema(value_type = Id)]
    pub mirror: String,
    /// Pool's id; without it, every pool that holds the mirror, but those of policy "all".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `DELETE /v1/map?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MapDel {
    /// Address prefix, host bits zero.
    #[serde(deserialize_with = "prefix::deserialize")]
    #[param(value_type = Prefix)]
    pub prefix: IpNet,
    /// Pool's id; without it, every pool that has such an override.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// Result of a `map set` or `map del`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapChanged {
    /// The prefix.
    #[schema(value_type = Prefix)]
    pub prefix: IpNet,
    /// The change in each pool that it applies to.
    pub changes: Vec<Change>,
    /// Warnings, such as a mirror whose limits leave these clients out.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An override of one pool, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Pool's id.
    pub pool: String,
    /// Mirror that the override named before; none: there was no override.
    pub before: Option<String>,
    /// Mirror that it names now; none: it is deleted.
    pub after: Option<String>,
}

/// Mirrors of a client in a pool, and the reason.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lookup {
    /// Pool's id.
    pub pool: String,
    /// Mirrors of the IPv4 answer, in order.
    pub mirrors: Vec<String>,
    /// Mirrors of the IPv6 answer, in order.
    pub mirrors_v6: Vec<String>,
    /// ECS scope prefix length of the answer.
    pub scope: u8,
    /// Prefix that decided, if one did.
    #[schema(value_type = Option<Prefix>)]
    pub prefix: Option<IpNet>,
    /// Reason for the first mirror: `override`, `import`, `list`, `rule`, `nearest`, `weight`, `default`, `all`.
    pub source: String,
}

/// Result of a `map import`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Prefixes in force from it, by pool.
    pub prefixes: BTreeMap<String, u64>,
    /// Milliseconds to parse it.
    pub parse_ms: u64,
    /// Milliseconds to compile the plan.
    pub compile_ms: u64,
    /// Milliseconds to make it durable.
    pub store_ms: u64,
    /// Milliseconds to load and swap the program.
    pub publish_ms: u64,
    /// Bytes of kernel memory that the program's maps take.
    pub kernel_memory_bytes: u64,
}

/// `?pool=`
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfPool {
    /// Pool's id; without it, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `GET /v1/map/lookup?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookupQuery {
    /// Address of the client.
    #[param(value_type = Address)]
    pub address: IpAddr,
    /// Pool's id; without it, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// `PUT /v1/map/import?...`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The list's name in messages, such as that of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Pool's id; without it, every pool that has a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub pool: Option<String>,
}

/// A line of `GET /v1/map/export`, when JSON is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// Address prefix.
    pub prefix: String,
    /// Mirror's id; of several, the best first, with commas between them.
    pub mirror: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::tests::{Memory, Running};
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn map_list(&self, pool: Option<String>) -> Result<Vec<Mapping>, Failure> {
            if pool.is_some_and(|pool| pool != "www") {
                return Err(Failure::NotFound("no such pool; there is www".into()));
            }
            let overrides = self.overrides.lock().unwrap();
            let mapping = |(&prefix, mirror): (&IpNet, &String)| Mapping {
                prefix,
                mirror: mirror.clone(),
                pool: "www".into(),
                local: false,
            };
            Ok(overrides.iter().map(mapping).collect())
        }

        async fn map_set(&self, change: MapSet) -> Result<MapChanged, Failure> {
            if change.mirror != "ams" && change.mirror != "iad" {
                return Err(Failure::Invalid(
                    "no such mirror;\nthere are ams, iad".into(),
                ));
            }
            let mut overrides = self.overrides.lock().unwrap();
            let before = overrides.insert(change.prefix, change.mirror.clone());
            Ok(changed(change.prefix, before, Some(change.mirror)))
        }

        async fn map_del(&self, change: MapDel) -> Result<MapChanged, Failure> {
            match self.overrides.lock().unwrap().remove(&change.prefix) {
                Some(before) => Ok(changed(change.prefix, Some(before), None)),
                None => Err(Failure::NotFound(format!(
                    "{} has no override",
                    change.prefix
                ))),
            }
        }

        async fn map_get(&self, _: IpAddr, _: Option<String>) -> Result<Vec<Lookup>, Failure> {
            Ok(Vec::new())
        }

        async fn map_export(&self, _: Option<String>) -> Result<String, Failure> {
            Ok(self.imported.lock().unwrap().clone())
        }

        async fn map_import(
            &self,
            csv: String,
            name: String,
            pool: Option<String>,
        ) -> Result<Imported, Failure> {
            let lines = csv.lines().skip(1).count() as u64;
            *self.imported.lock().unwrap() = csv;
            let key = format!("{name} for {}", pool.unwrap_or_default());
            Ok(Imported {
                prefixes: BTreeMap::from([(key, lines)]),
                parse_ms: 0,
                compile_ms: 0,
                store_ms: 0,
                publish_ms: 0,
                kernel_memory_bytes: 0,
            })
        }
    }

    fn changed(prefix: IpNet, before: Option<String>, after: Option<String>) -> MapChanged {
        let change = Change {
            pool: "www".into(),
            before,
            after,
        };
        MapChanged {
            prefix,
            changes: vec![change],
            warnings: Vec::new(),
        }
    }

    #[tokio::test]
    async fn overrides_are_set_listed_and_deleted() {
        let running = Running::start();
        let client = &running.client;
        let set = |prefix: &str, mirror: &str| MapSet {
            prefix: prefix.parse().unwrap(),
            mirror: mirror.into(),
            pool: None,
        };
        let reply = client.map_set(&set("192.0.2.0/24", "ams")).await.unwrap();
        let first: MapChanged = reply.json().unwrap();
        assert_eq!(first.changes[0].before, None);
        let reply = client.map_set(&set("192.0.2.0/24", "iad")).await.unwrap();
        let second: MapChanged = reply.json().unwrap();
        assert_eq!(second.changes[0].before.as_deref(), Some("ams"));
        client.map_set(&set("2001:db8::/32", "ams")).await.unwrap();

        let of = OfPool {
            pool: Some("www".into()),
        };
        let list: Vec<Mapping> = client.map_list(&of).await.unwrap().json().unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].mirror, "iad");
        assert_eq!(list[1].prefix, "2001:db8::/32".parse::<IpNet>().unwrap());

        let del = MapDel {
            prefix: "2001:db8::/32".parse().unwrap(),
            pool: None,
        };
        let reply = client.map_del(&del).await.unwrap();
        let deleted: MapChanged = reply.json().unwrap();
        assert_eq!(deleted.changes[0].after, None);
        let error = client.map_del(&del).await.unwrap_err();
        assert_eq!(error.to_string(), "2001:db8::/32 has no override");
        // Failures are one line, whatever the daemon put in them.
        let error = client.map_set(&set("::/0", "xyz")).await.unwrap_err();
        assert_eq!(error.to_string(), "no such mirror; there are ams, iad");
    }

    #[tokio::test]
    async fn an_import_is_streamed_whole_and_exported_again() {
        let running = Running::start();
        let mut csv = "prefix,mirror\n".to_owned();
        for i in 0..100_000u32 {
            let address = std::net::Ipv4Addr::from_bits(i << 8);
            csv += &format!("{address}/24,ams\n");
        }
        let progress = Arc::new(Mutex::new(Vec::new()));
        let import = ImportQuery {
            name: Some("a list & more.csv".into()),
            pool: Some("wéb".into()),
        };
        let reply = running
            .client
            .map_import(std::io::Cursor::new(csv.clone().into_bytes()), &import, {
                let progress = progress.clone();
                move |step| progress.lock().unwrap().push(step)
            })
            .await
            .unwrap();
        let imported: Imported = reply.json().unwrap();
        assert_eq!(
            imported.prefixes,
            BTreeMap::from([("a list & more.csv for wéb".to_owned(), 100_000)])
        );
        let progress = progress.lock().unwrap().clone();
        assert_eq!(progress.last(), Some(&Progress::Waiting));
        assert_eq!(
            progress[progress.len() - 2],
            Progress::Sent(csv.len() as u64)
        );

        let of = OfPool::default();
        let text = running.client.map_export(&of, false).await.unwrap();
        assert_eq!(text.body, csv);
        let reply = running.client.map_export(&of, true).await.unwrap();
        let exported: Vec<Exported> = reply.json().unwrap();
        assert_eq!(exported.len(), 100_000);
        assert_eq!(exported[1].prefix, "0.0.1.0/24");
        assert_eq!(exported[1].mirror, "ams");
    }
}
