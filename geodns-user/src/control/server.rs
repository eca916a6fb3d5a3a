//! The control socket: HTTP and JSON over a Unix socket that only its owner and root may use.
//!
//! `curl --unix-socket /run/geodns/control.sock http://geodns/v1/status` works; what there is to ask
//! stands in `GET /v1/openapi.json`. Every failure is a [`Problem`]: one line of JSON.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Json, Path as Segment};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::serve::IncomingStream;
use bytes::Bytes;
use futures_util::StreamExt;
use ipnet::IpNet;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use utoipa::OpenApi;

use super::api::{
    AcmeChanged, AcmeClear, AcmeSet, AcmeToken, BlockAdd, BlockChanged, BlockRemove, BlockRule,
    CaptureQuery, ExplainQuery, Explanation, Exported, Failure, ImportQuery, Imported, Lookup,
    LookupQuery, MapChanged, MapDel, MapSet, Mapping, Mirror, MirrorChanged, OfAddress, OfPool,
    OfZone, Preview, Problem, Proposal, Reloaded, Service, SetAdmin, SetHealth, SetWeight, Stats,
    Status, Stream, Top, Zone,
};
use super::by::{self, By};
use super::document::{self, Described};
use crate::base::prefix;
use crate::config::is_id;
use crate::supervise::forever;

/// Octets of a body, at the most.
const BODY_LIMIT: usize = 64 << 10;
/// Octets of an imported list, at the most: some ten million prefixes.
const IMPORT_LIMIT: usize = 256 << 20;
/// Octets of the prefixes that are blocked at once, at the most: 16,384 of them.
const BLOCKS_LIMIT: usize = 1 << 20;
/// How long requests under way may take to end after a stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The bound socket. Its file goes away with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// Why the control socket cannot be bound. Displays as one line that names it.
#[derive(Debug, thiserror::Error)]
#[error("control socket {}: {problem}", path.display())]
pub struct BindError {
    path: PathBuf,
    problem: String,
}

impl Socket {
    /// Binds, owner-only from the first moment. Makes the folder if there is none; takes the place
    /// of a socket that nobody listens on, and of nothing else. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::try_bind(path).map_err(|problem| BindError {
            path: path.to_owned(),
            problem,
        })
    }

    fn try_bind(path: &Path) -> Result<Self, String> {
        let why = |error: io::Error| error.to_string();
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(why)?;
        }
        remove_stale(path)?;
        let address = socket2::SockAddr::unix(path)
            .map_err(|_| "the path is too long for a socket (107 bytes at the most)".to_owned())?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)
            .map_err(why)?;
        // The file gets the mode that the socket has when it is bound: never a moment for others.
        let socket = File::from(OwnedFd::from(socket));
        socket
            .set_permissions(Permissions::from_mode(0o600))
            .map_err(why)?;
        let socket = socket2::Socket::from(OwnedFd::from(socket));
        socket.bind(&address).map_err(why)?;
        let file = SocketFile::at(path).map_err(why)?;
        socket.listen(128).map_err(why)?;
        socket.set_nonblocking(true).map_err(why)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into()).map_err(why)?;
        Ok(Self { listener, file })
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "there is something that is not a socket: move it away, or set control.socket".into(),
        );
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            Err("another geodns listens there: stop that one first, or set control.socket".into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| format!("left by a dead daemon, cannot be removed: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The socket's file, removed on drop if it is still the one that was bound.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|m| m.dev() == self.device && m.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Answers requests until `stop` completes and those under way are answered (or have had
/// five seconds), then removes the socket.
pub async fn serve<S: Service>(
    socket: Socket,
    service: Arc<S>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Socket { listener, file } = socket;
    let listener = Listener(Arc::new(listener));
    let app = router(service)
        .layer(middleware::from_fn(owner_only))
        .into_make_service_with_connect_info::<Peer>();
    let (stopping, stopped) = watch::channel(false);
    let answered = Arc::new(Notify::new());
    let serving = forever("control socket", || {
        let mut stopped = stopped.clone();
        let stop = async move {
            let _ = stopped.wait_for(|is_stopping| *is_stopping).await;
        };
        let serving = axum::serve(listener.clone(), app.clone()).with_graceful_shutdown(stop);
        let answered = Arc::clone(&answered);
        async move {
            let _ = serving.await;
            answered.notify_one();
            std::future::pending().await
        }
    });
    let ending = async {
        stop.await;
        stopping.send_replace(true);
        let _ = tokio::time::timeout(STOP_GRACE, answered.notified()).await;
    };
    tokio::select! {
        never = serving => match never {},
        () = ending => {}
    }
    drop(file);
    Ok(())
}

/// The socket, which outlives whoever listens on it.
#[derive(Clone)]
struct Listener(Arc<UnixListener>);

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                // A client that has gone again, or no files: wait for some.
                Err(error) => {
                    tracing::debug!(%error, "accepting on the control socket");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Who is at the other end, as the kernel says (SO_PEERCRED).
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Self {
            uid: peer.map(|peer| peer.uid()),
            pid: peer.and_then(|peer| peer.pid()),
        }
    }
}

/// Second lock behind the file's mode, which an operator may have widened.
async fn owner_only(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if may_control(peer.uid, nix::unistd::geteuid().as_raw()) {
        return by::scope(By::peer(peer.uid, peer.pid), next.run(request)).await;
    }
    let who = peer
        .uid
        .map_or("an unknown user".to_owned(), |uid| format!("uid {uid}"));
    Refusal::new(
        StatusCode::FORBIDDEN,
        format!("{who} may not control this daemon: only root and the user that runs it may"),
    )
    .into_response()
}

fn may_control(peer: Option<u32>, daemon: u32) -> bool {
    peer.is_some_and(|uid| uid == 0 || uid == daemon)
}

fn router<S: Service>(service: Arc<S>) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes::<S>() {
        router = router.route(path, methods);
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(service)
}

fn routes<S: Service>() -> Vec<(&'static str, MethodRouter<Arc<S>>)> {
    vec![
        ("/v1/status", get(status::<S>)),
        ("/v1/stats", get(stats::<S>)),
        ("/v1/mirrors", get(mirrors::<S>)),
        ("/v1/mirrors/{id}", get(mirror::<S>)),
        ("/v1/mirrors/{id}/admin", put(mirror_admin::<S>)),
        (
            "/v1/mirrors/{id}/weight",
            put(mirror_weight::<S>).delete(mirror_weight_reset::<S>),
        ),
        (
            "/v1/mirrors/{id}/health",
            put(mirror_health::<S>).delete(mirror_health_clear::<S>),
        ),
        ("/v1/zones", get(zones::<S>)),
        (
            "/v1/acme",
            get(acme_list::<S>)
                .put(acme_set::<S>)
                .delete(acme_clear::<S>),
        ),
        ("/v1/top", get(top::<S>)),
        ("/v1/capture", get(capture::<S>)),
        (
            "/v1/blocks",
            get(block_list::<S>)
                .put(block_add::<S>)
                .delete(block_remove::<S>)
                .layer(DefaultBodyLimit::max(BLOCKS_LIMIT)),
        ),
        (
            "/v1/map",
            get(map_list::<S>).put(map_set::<S>).delete(map_del::<S>),
        ),
        ("/v1/map/lookup", get(map_lookup::<S>)),
        ("/v1/map/export", get(map_export::<S>)),
        (
            "/v1/map/import",
            put(map_import::<S>).layer(DefaultBodyLimit::max(IMPORT_LIMIT)),
        ),
        ("/v1/explain", get(explain::<S>)),
        ("/v1/preview", post(preview::<S>)),
        ("/v1/reload", post(reload::<S>)),
        ("/v1/openapi.json", get(openapi)),
    ]
}

/// The document at `/v1/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "geodns",
        description = "Control of a geodns daemon, over its Unix socket. Every failure is a Problem.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        status,
        stats,
        mirrors,
        mirror,
        mirror_admin,
        mirror_weight,
        mirror_weight_reset,
        mirror_health,
        mirror_health_clear,
        zones,
        acme_list,
        acme_set,
        acme_clear,
        top,
        capture,
        block_list,
        block_add,
        block_remove,
        map_list,
        map_set,
        map_del,
        map_lookup,
        map_export,
        map_import,
        explain,
        preview,
        reload,
        openapi
    ),
    components(schemas(Problem, document::Address, document::Id, document::Name, document::Prefix, document::RecordType)),
    modifiers(&Described)
)]
struct Document;

/// A failure on its way out.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    problem: Problem,
}

type Answer<T> = Result<Json<T>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        // One line, whatever the library's message looks like.
        let error: String = error.into();
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            status,
            problem: Problem { error },
        }
    }

    fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::NotFound(_) => StatusCode::NOT_FOUND,
            Failure::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.to_string())
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),+) => {
        $(impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        })+
    };
}
from_rejection!(JsonRejection, QueryRejection, PathRejection, BytesRejection);

async fn no_route(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("nothing at {}: see /v1/openapi.json", uri.path()),
    )
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not for {}: see /v1/openapi.json", uri.path()),
    )
}

fn strict(prefix: IpNet) -> Result<IpNet, Refusal> {
    prefix::check(prefix).map_err(|error| Refusal::invalid(format!("prefix: {error}")))
}

type Id = Result<Segment<String>, PathRejection>;

fn mirror_id(id: Id) -> Result<String, Refusal> {
    let Segment(id) = id?;
    if is_id(&id) {
        return Ok(id);
    }
    Err(Refusal::invalid(format!(
        "{id:?} is not a mirror's id; /v1/mirrors lists them"
    )))
}

/// Shows what the daemon serves, where, and since when.
#[utoipa::path(get, path = "/v1/status", responses(
    (status = 200, body = Status), (status = "default", body = Problem)))]
async fn status<S: Service>(State(service): State<Arc<S>>) -> Answer<Status> {
    Ok(Json(service.status().await?))
}

/// Shows the counters of the fast and the slow path.
#[utoipa::path(get, path = "/v1/stats", responses(
    (status = 200, body = Stats), (status = "default", body = Problem)))]
async fn stats<S: Service>(State(service): State<Arc<S>>) -> Answer<Stats> {
    Ok(Json(service.stats().await?))
}

/// Lists tokens of ACME DNS-01 challenges, by name.
#[utoipa::path(get, path = "/v1/acme", responses(
    (status = 200, body = Vec<AcmeToken>), (status = "default", body = Problem)))]
async fn acme_list<S: Service>(State(service): State<Arc<S>>) -> Answer<Vec<AcmeToken>> {
    Ok(Json(service.acme_list().await?))
}

/// Adds a token to a name. It is on disk and in every answer when this returns.
#[utoipa::path(put, path = "/v1/acme", request_body = AcmeSet, responses(
    (status = 200, body = AcmeChanged), (status = "default", body = Problem)))]
async fn acme_set<S: Service>(
    State(service): State<Arc<S>>,
    set: Result<Json<AcmeSet>, JsonRejection>,
) -> Answer<AcmeChanged> {
    let Json(set) = set?;
    set.check().map_err(Refusal::invalid)?;
    Ok(Json(service.acme_set(set).await?))
}

/// Removes all tokens of a name, or one of them.
#[utoipa::path(delete, path = "/v1/acme", params(AcmeClear), responses(
    (status = 200, body = AcmeChanged), (status = "default", body = Problem)))]
async fn acme_clear<S: Service>(
    State(service): State<Arc<S>>,
    clear: Result<Query<AcmeClear>, QueryRejection>,
) -> Answer<AcmeChanged> {
    let Query(clear) = clear?;
    Ok(Json(service.acme_clear(clear).await?))
}

/// Shows queries and answers as they come: a line of JSON each second.
#[utoipa::path(get, path = "/v1/top", responses(
    (status = 200, body = Top, content_type = "application/x-ndjson"),
    (status = "default", body = Problem)))]
async fn top<S: Service>(State(service): State<Arc<S>>) -> Result<Response, Refusal> {
    Ok(streamed("application/x-ndjson", service.top().await?))
}

/// Records queries and the program's answers as a file for tcpdump (pcap), until the client goes.
#[utoipa::path(get, path = "/v1/capture", params(CaptureQuery), responses(
    (status = 200, body = Vec<u8>, content_type = "application/vnd.tcpdump.pcap"),
    (status = "default", body = Problem)))]
async fn capture<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<CaptureQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let frames = service.capture(query?.0).await?;
    Ok(streamed("application/vnd.tcpdump.pcap", frames))
}

fn streamed(content: &'static str, stream: Stream) -> Response {
    let body = Body::from_stream(stream.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, content)], body).into_response()
}

/// Lists the block rules, those of the configuration first, with the queries that each has dropped.
#[utoipa::path(get, path = "/v1/blocks", responses(
    (status = 200, body = Vec<BlockRule>), (status = "default", body = Problem)))]
async fn block_list<S: Service>(State(service): State<Arc<S>>) -> Answer<Vec<BlockRule>> {
    Ok(Json(service.block_list().await?))
}

/// Adds block rules. They are on disk and in force in both paths when this returns.
#[utoipa::path(put, path = "/v1/blocks", request_body = BlockAdd, responses(
    (status = 200, body = BlockChanged), (status = "default", body = Problem)))]
async fn block_add<S: Service>(
    State(service): State<Arc<S>>,
    add: Result<Json<BlockAdd>, JsonRejection>,
) -> Answer<BlockChanged> {
    Ok(Json(service.block_add(add?.0).await?))
}

/// Removes block rules. They are gone from disk and from both paths when this returns.
#[utoipa::path(delete, path = "/v1/blocks", params(BlockRemove), responses(
    (status = 200, body = BlockChanged), (status = "default", body = Problem)))]
async fn block_remove<S: Service>(
    State(service): State<Arc<S>>,
    remove: Result<Query<BlockRemove>, QueryRejection>,
) -> Answer<BlockChanged> {
    Ok(Json(service.block_remove(remove?.0).await?))
}

/// Lists mirrors, whether they are in service, and why.
#[utoipa::path(get, path = "/v1/mirrors", responses(
    (status = 200, body = Vec<Mirror>), (status = "default", body = Problem)))]
async fn mirrors<S: Service>(State(service): State<Arc<S>>) -> Answer<Vec<Mirror>> {
    Ok(Json(service.mirrors().await?))
}

/// Shows one mirror.
#[utoipa::path(get, path = "/v1/mirrors/{id}", params(("id" = document::Id, Path, description = "Mirror's id")),
    responses((status = 200, body = Mirror), (status = "default", body = Problem)))]
async fn mirror<S: Service>(State(service): State<Arc<S>>, id: Id) -> Answer<Mirror> {
    Ok(Json(service.mirror(mirror_id(id)?).await?))
}

/// Takes a mirror out of service or puts it in, whatever checks say. The change is on disk and in force when this
/// returns. A drain goes on from the share that is drained already.
#[utoipa::path(put, path = "/v1/mirrors/{id}/admin", request_body = SetAdmin,
    params(("id" = document::Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_admin<S: Service>(
    State(service): State<Arc<S>>,
    id: Id,
    change: Result<Json<SetAdmin>, JsonRejection>,
) -> Answer<MirrorChanged> {
    let (id, Json(change)) = (mirror_id(id)?, change?);
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_admin(id, change).await?))
}

/// Gives a mirror another weight than the configuration's, at once or gradually.
#[utoipa::path(put, path = "/v1/mirrors/{id}/weight", request_body = SetWeight,
    params(("id" = document::Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_weight<S: Service>(
    State(service): State<Arc<S>>,
    id: Id,
    change: Result<Json<SetWeight>, JsonRejection>,
) -> Answer<MirrorChanged> {
    let (id, Json(change)) = (mirror_id(id)?, change?);
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_weight(id, change).await?))
}

/// Restores a mirror's weight of the configuration.
#[utoipa::path(delete, path = "/v1/mirrors/{id}/weight",
    params(("id" = document::Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_weight_reset<S: Service>(
    State(service): State<Arc<S>>,
    id: Id,
) -> Answer<MirrorChanged> {
    Ok(Json(service.mirror_weight_reset(mirror_id(id)?).await?))
}

/// Reports another monitor's verdict on a mirror. It overrides our own checks, and the operator overrides it.
#[utoipa::path(put, path = "/v1/mirrors/{id}/health", request_body = SetHealth,
    params(("id" = document::Id, Path, description = "Mirror's id")), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_health<S: Service>(
    State(service): State<Arc<S>>,
    id: Id,
    change: Result<Json<SetHealth>, JsonRejection>,
) -> Answer<MirrorChanged> {
    let (id, Json(change)) = (mirror_id(id)?, change?);
    change.check().map_err(Refusal::invalid)?;
    Ok(Json(service.mirror_health(id, change).await?))
}

/// Removes another monitor's verdict, or all of them.
#[utoipa::path(delete, path = "/v1/mirrors/{id}/health",
    params(("id" = document::Id, Path, description = "Mirror's id"), OfAddress), responses(
    (status = 200, body = MirrorChanged), (status = "default", body = Problem)))]
async fn mirror_health_clear<S: Service>(
    State(service): State<Arc<S>>,
    id: Id,
    query: Result<Query<OfAddress>, QueryRejection>,
) -> Answer<MirrorChanged> {
    let (id, Query(of)) = (mirror_id(id)?, query?);
    Ok(Json(service.mirror_health_clear(id, of.address).await?))
}

/// Lists zones and their steered names.
#[utoipa::path(get, path = "/v1/zones", responses(
    (status = 200, body = Vec<Zone>), (status = "default", body = Problem)))]
async fn zones<S: Service>(State(service): State<Arc<S>>) -> Answer<Vec<Zone>> {
    Ok(Json(service.zones().await?))
}

/// Lists the overrides in force.
#[utoipa::path(get, path = "/v1/map", params(OfPool), responses(
    (status = 200, body = Vec<Mapping>), (status = "default", body = Problem)))]
async fn map_list<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<OfPool>, QueryRejection>,
) -> Answer<Vec<Mapping>> {
    Ok(Json(service.map_list(query?.0.pool).await?))
}

/// Sets an override. It is on disk and in every answer when this returns.
#[utoipa::path(put, path = "/v1/map", request_body = MapSet, responses(
    (status = 200, body = MapChanged), (status = "default", body = Problem)))]
async fn map_set<S: Service>(
    State(service): State<Arc<S>>,
    change: Result<Json<MapSet>, JsonRejection>,
) -> Answer<MapChanged> {
    let change = change?.0;
    strict(change.prefix)?;
    Ok(Json(service.map_set(change).await?))
}

/// Deletes an override. It is gone from disk and from every answer when this returns.
#[utoipa::path(delete, path = "/v1/map", params(MapDel), responses(
    (status = 200, body = MapChanged), (status = "default", body = Problem)))]
async fn map_del<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<MapDel>, QueryRejection>,
) -> Answer<MapChanged> {
    let change = query?.0;
    strict(change.prefix)?;
    Ok(Json(service.map_del(change).await?))
}

/// Shows the mirrors of a client, and why.
#[utoipa::path(get, path = "/v1/map/lookup", params(LookupQuery), responses(
    (status = 200, body = Vec<Lookup>), (status = "default", body = Problem)))]
async fn map_lookup<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<LookupQuery>, QueryRejection>,
) -> Answer<Vec<Lookup>> {
    let LookupQuery { address, pool } = query?.0;
    Ok(Json(service.map_get(address, pool).await?))
}

/// Lists every prefix in force, as lines `prefix,mirror,...` (best first), or as JSON if the request accepts that.
#[utoipa::path(get, path = "/v1/map/export", params(OfPool), responses(
    (status = 200, content((String = "text/csv"), (Vec<Exported> = "application/json"))),
    (status = "default", body = Problem)))]
async fn map_export<S: Service>(
    State(service): State<Arc<S>>,
    headers: HeaderMap,
    query: Result<Query<OfPool>, QueryRejection>,
) -> Result<Response, Refusal> {
    let csv = service.map_export(query?.0.pool).await?;
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
async fn map_import<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<ImportQuery>, QueryRejection>,
    request: Request,
) -> Answer<Imported> {
    let ImportQuery { name, pool } = query?.0;
    // Said at once, not after the limit has been read.
    if request.body().size_hint().lower() > IMPORT_LIMIT as u64 {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a list may have {} MiB at the most", IMPORT_LIMIT >> 20),
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

/// Follows a client's query to its answer, step by step, and compares it with the answer of the kernel's maps.
#[utoipa::path(get, path = "/v1/explain", params(ExplainQuery), responses(
    (status = 200, body = Explanation), (status = "default", body = Problem)))]
async fn explain<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer<Explanation> {
    let question = query?.0;
    if let Some(subnet) = question.ecs {
        let wrong = |error| Refusal::invalid(format!("ecs: {error}"));
        prefix::check_host_bits(subnet).map_err(wrong)?;
    }
    Ok(Json(service.explain(question).await?))
}

/// Reads and compiles another configuration, and lists the clients that it would move. Nothing is put in force.
#[utoipa::path(post, path = "/v1/preview", request_body = Proposal, responses(
    (status = 200, body = Preview), (status = "default", body = Problem)))]
async fn preview<S: Service>(
    State(service): State<Arc<S>>,
    proposal: Result<Json<Proposal>, JsonRejection>,
) -> Answer<Preview> {
    Ok(Json(service.preview(proposal?.0).await?))
}

/// Reads the configuration and its files again. On any error nothing changes.
#[utoipa::path(post, path = "/v1/reload", params(OfZone), responses(
    (status = 200, body = Reloaded), (status = "default", body = Problem)))]
async fn reload<S: Service>(
    State(service): State<Arc<S>>,
    query: Result<Query<OfZone>, QueryRejection>,
) -> Answer<Reloaded> {
    Ok(Json(service.reload(query?.0.zone).await?))
}

/// Gives this document.
#[utoipa::path(get, path = "/v1/openapi.json", responses(
    (status = 200, body = Object), (status = "default", body = Problem)))]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

/// Every path that is served.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    routes::<super::tests::Memory>()
        .into_iter()
        .map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_may_control_it() {
        assert!(may_control(Some(0), 1000));
        assert!(may_control(Some(1000), 1000));
        assert!(may_control(Some(0), 0));
        assert!(!may_control(Some(1000), 0));
        assert!(!may_control(Some(1001), 1000));
        assert!(!may_control(None, 0));
    }
}
