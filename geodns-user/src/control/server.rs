//! The control socket: HTTP and JSON over a Unix socket that only its owner and root may use.
//!
//! `curl --unix-socket /run/geodns/control.sock http://geodns/v1/status` works; what there is to ask
//! stands in `GET /v1/openapi.json`. Every failure is a [`Problem`](super::problem::Problem): one line of JSON.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::StatusCode;
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
use crate::supervise::forever;

/// Octets of a body, at the most.
const BODY_LIMIT: usize = 64 << 10;
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

/// Serves calls, and the document of them, until `stop` completes and requests under way are answered (or have had
/// five seconds), then removes the socket.
pub async fn serve(
    socket: Socket,
    calls: OpenApiRouter,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Socket { listener, file } = socket;
    let listener = Listener(Arc::new(listener));
    let app = with_document(calls)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
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

/// The process at the other end, by the kernel's word (SO_PEERCRED).
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
    Refusal::new(
        StatusCode::FORBIDDEN,
        format!("{who} may not control this daemon: only root and the user that runs it may"),
    )
    .into_response()
}

fn may_control(peer: Option<u32>, daemon: u32) -> bool {
    peer.is_some_and(|uid| uid == 0 || uid == daemon)
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
