//! The control socket: HTTP and JSON over a Unix socket that only its owner and root may use. Members of one group may
//! read, if the configuration names one.
//!
//! `curl --unix-socket /run/geodns/control.sock http://geodns/v1/status` works; what there is to ask
//! stands in `GET /v1/openapi.json`. Every failure is a [`Problem`](super::problem::Problem): one line of JSON.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use utoipa_axum::router::OpenApiRouter;

use super::by::{self, By};
use super::document::with_document;
use super::problem::{Refusal, no_method, no_route};
use super::reach::Reach;
use crate::base::socket::{Socket, may_connect, peer_groups};
use crate::supervise::forever;

/// Octets of a body, at the most.
const BODY_LIMIT: usize = 64 << 10;
/// How long requests under way may take to end after a stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves calls, and the document of them, until `stop` completes and requests under way are answered (or have had
/// five seconds), then removes the socket. `readers`: number of the group whose members may read.
pub async fn serve(
    socket: Socket,
    calls: OpenApiRouter,
    readers: Option<u32>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Socket { listener, file } = socket;
    let listener = Listener(Arc::new(listener));
    let app = with_document(calls)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(readers, only_allowed))
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

/// The process at the other end, by the kernel's word (SO_PEERCRED).
#[derive(Clone, Debug)]
struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
    /// Empty for whoever needs none.
    groups: Arc<[u32]>,
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        let uid = peer.map(|peer| peer.uid());
        let groups: Vec<u32> = match peer {
            Some(peer) if !may_connect(uid) => {
                let others = peer_groups(stream.io());
                others.into_iter().chain([peer.gid()]).collect()
            }
            _ => Vec::new(),
        };
        Self {
            uid,
            pid: peer.and_then(|peer| peer.pid()),
            groups: groups.into(),
        }
    }
}

/// Refuses all users but root and the one that runs the daemon; lets readers read.
async fn only_allowed(
    State(readers): State<Option<u32>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let is_reader = readers.is_some_and(|group| peer.groups.contains(&group));
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if may_connect(peer.uid) || (is_reader && reads) {
        let reach = match Reach::of(request.headers()) {
            Ok(reach) => reach,
            Err(why) => return Refusal::invalid(why).into_response(),
        };
        let run = reach.scope(next.run(request));
        return by::scope(By::peer(peer.uid, peer.pid), run).await;
    }
    let who = peer
        .uid
        .map_or("an unknown user".to_owned(), |uid| format!("uid {uid}"));
    let may_not = match is_reader {
        true => "may only read (GET), as a member of control.group",
        false => "may not control this daemon",
    };
    Refusal::new(
        StatusCode::FORBIDDEN,
        format!("{who} {may_not}: only root and the user that runs it may"),
    )
    .into_response()
}
