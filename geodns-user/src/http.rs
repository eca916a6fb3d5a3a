//! HTTP listeners that strangers may reach: bounded connections, headers and times, and a `Host` that is checked.
//!
//! A [`Listener`] answers on addresses, by a router; a reload may change both. A reload first binds the new addresses
//! ([`Listener::bind`]), which can fail, then listens ([`Listener::listen`]), which cannot. The certificate may change by
//! itself ([`Listener::set_tls`]). Nothing here takes a lock that answers to DNS queries wait for.
//!
//! The bounds of a listener:
//! - 128 connections; a new client always gets one of them, and [`seats`](crate::base::seats) says who loses it
//! - 10 s for a handshake, and until the headers of a request are whole, idle connections included
//! - 16 KiB and 64 lines of headers, 64 KiB of a body
//! - 30 s for an answer, and for a client that takes no octet of it
//!
//! **Host.** A page of another site can have a browser ask us by a name that it points to our address (DNS rebinding). So
//! a request is answered only if it names an address, `localhost`, or a host of the configuration.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::base::lock::lock;
use crate::base::seats::{Number, Seats};
use crate::supervise::{Never, forever};

/// Connections, at the most.
const CONNECTIONS: usize = 128;
/// Octets of the headers of a request, at the most.
const HEADERS: usize = 16 << 10;
/// Header lines of a request, at the most.
const HEADER_LINES: usize = 64;
/// Octets of the body of a request, at the most.
const BODY: usize = 64 << 10;
/// Time for a handshake, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for an answer, and for a client to take some of it.
const ANSWER: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Everything of a listener that a reload may change, but for its addresses and its certificate.
#[derive(Clone, Default)]
pub struct Settings {
    /// Answers requests.
    pub router: Router,
    /// Names that requests may be for, besides addresses and `localhost`. `None`: any.
    pub hosts: Option<Vec<String>>,
}

impl Settings {
    /// Whether a request with these headers is for one of these hosts.
    fn is_host(&self, headers: &HeaderMap) -> bool {
        let Some(hosts) = &self.hosts else {
            return true;
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let Some(name) = host.and_then(without_port) else {
            return false;
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let known = |host: &String| host.eq_ignore_ascii_case(name);
        let address = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        address.unwrap_or(name).parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(known)
    }
}

/// The host of a `Host` header; `None` where the header is malformed.
fn without_port(host: &str) -> Option<&str> {
    let after_address = host.rfind(']').map_or(0, |end| end + 1);
    match host[after_address..].rfind(':') {
        None => Some(host),
        Some(colon) => {
            let (name, port) = host.split_at(after_address + colon);
            let is_port = port[1..].bytes().all(|octet| octet.is_ascii_digit());
            (is_port && !name.is_empty()).then_some(name)
        }
    }
}

/// A socket that is bound and not listened on yet, or that is listened on already.
pub struct Bound(Vec<(SocketAddr, Option<Arc<tokio::net::TcpListener>>)>);

/// A router on addresses, both of which may change.
pub struct Listener {
    shared: Arc<Shared>,
    listening: Mutex<BTreeMap<SocketAddr, Listening>>,
}

/// An address that is listened on.
struct Listening {
    socket: Arc<tokio::net::TcpListener>,
    accepting: JoinHandle<Never>,
}

/// Everything that the connections of a listener share.
struct Shared {
    name: &'static str,
    settings: ArcSwap<Settings>,
    /// HTTPS with this certificate; none: HTTP.
    tls: ArcSwapOption<ServerConfig>,
    /// Tells connections that the settings are others.
    changed: Notify,
    /// With each seat, the connection that is told that it has lost it.
    seats: Mutex<Seats<Arc<Notify>>>,
    open: AtomicUsize,
}

impl Listener {
    /// One that listens nowhere yet. The name is the configuration's section.
    pub fn new(name: &'static str) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                settings: ArcSwap::from_pointee(Settings::default()),
                tls: ArcSwapOption::empty(),
                changed: Notify::new(),
                seats: Mutex::new(Seats::new(CONNECTIONS)),
                open: AtomicUsize::new(0),
            }),
            listening: Mutex::default(),
        }
    }

    /// Binds those of these addresses that are not listened on. An error names the address.
    pub fn bind(&self, addresses: &[SocketAddr]) -> Result<Bound, String> {
        let listening = lock(&self.listening);
        let bind = |&at: &SocketAddr| {
            if listening.contains_key(&at) {
                return Ok((at, None));
            }
            let left = listening
                .iter()
                .filter(|(other, _)| other.port() == at.port() && !addresses.contains(other));
            let left: Vec<SockRef<'_>> = left.map(|(_, of)| SockRef::from(&*of.socket)).collect();
            let bound = bind(at, false).or_else(|error| match left.is_empty() {
                true => Err(error),
                false => bind_beside(at, &left),
            });
            let bound = bound.map_err(|error| {
                let section = self.shared.name;
                format!("{section}.listen: cannot listen on {at}: {error}")
            });
            Ok((at, Some(Arc::new(bound?))))
        };
        let bound = addresses.iter().map(bind).collect::<Result<_, _>>();
        bound.map(Bound)
    }

    /// Listens on these addresses from now on, and on no others. Connections of the settings before end. Needs a runtime.
    pub fn listen(&self, Bound(bound): Bound, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
        self.shared.changed.notify_waiters();
        let mut listening = lock(&self.listening);
        listening.retain(|at, of| {
            let is_wanted = bound.iter().any(|(wanted, _)| wanted == at);
            if !is_wanted {
                of.accepting.abort();
                // Its task ends soon; the address is free at once.
                let _ = SockRef::from(&*of.socket).shutdown(Shutdown::Both);
            }
            is_wanted
        });
        for (at, socket) in bound {
            if let Some(socket) = socket {
                let (shared, of) = (Arc::clone(&self.shared), Arc::clone(&socket));
                let accepting = forever(format!("{} {at}", shared.name), move || {
                    accept(Arc::clone(&shared), Arc::clone(&of))
                });
                let accepting = tokio::spawn(accepting);
                listening.insert(at, Listening { socket, accepting });
            }
        }
    }

    /// Speaks HTTPS with this certificate, or HTTP, on connections from now on.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.shared.tls.store(tls);
    }

    /// The addresses that it listens on.
    pub fn listening(&self) -> Vec<SocketAddr> {
        lock(&self.listening).keys().copied().collect()
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let listening = lock(&self.listening);
        listening.values().for_each(|of| of.accepting.abort());
    }
}

/// Binds an address while sockets of ours that are to be closed stand in its way, as 127.0.0.1:80 does for 0.0.0.0:80.
fn bind_beside(at: SocketAddr, left: &[SockRef<'_>]) -> io::Result<tokio::net::TcpListener> {
    let share = |shared: bool| {
        left.iter()
            .try_for_each(|socket| socket.set_reuse_port(shared))
    };
    share(true)?;
    let bound = bind(at, true);
    share(false)?;
    bound
}

fn bind(at: SocketAddr, shared: bool) -> io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    // Not for good.
    socket.set_reuse_port(false)?;
    tokio::net::TcpListener::from_std(TcpListener::from(socket))
}

async fn accept(shared: Arc<Shared>, socket: Arc<tokio::net::TcpListener>) -> Never {
    loop {
        match socket.accept().await {
            Ok((stream, client)) => {
                tokio::spawn(connection(Arc::clone(&shared), stream, client));
            }
            // A client that has gone again, or no files: wait for some.
            Err(error) => {
                tracing::debug!(%error, "accepting for [{}]", shared.name);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves a connection until the client goes, is too slow, or loses its seat.
async fn connection(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr) {
    let seat = Seat::take(shared, client.ip());
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(ANSWER));
    let _ = stream.set_nodelay(true);
    // Before the settings are read: a change after that is told.
    let changed = seat.shared.changed.notified();
    let settings = seat.shared.settings.load_full();
    let serving = async {
        match seat.shared.tls.load_full() {
            None => requests(&seat, &settings, stream, client, changed).await,
            Some(tls) => {
                let accepting = TlsAcceptor::from(tls).accept(stream);
                if let Ok(Ok(stream)) = timeout(PATIENCE, accepting).await {
                    requests(&seat, &settings, stream, client, changed).await;
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = seat.lost.notified() => {}
    }
}

/// Answers requests by settings that do not change. When there are others, the connection ends, after the request that is
/// under way.
async fn requests(
    seat: &Seat,
    settings: &Settings,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    client: SocketAddr,
    changed: impl Future<Output = ()>,
) {
    let router = settings.router.clone();
    let router = TowerToHyperService::new(router.layer(DefaultBodyLimit::max(BODY)));
    let answer = service_fn(|mut request: Request<Incoming>| {
        let is_host = settings.is_host(request.headers());
        let router = router.clone();
        async move {
            if !is_host {
                let message = "this site has another name; ask it by its address, or add the name to the key \
                               \"host\" of its section\n";
                return Ok::<Response, Infallible>(
                    (StatusCode::MISDIRECTED_REQUEST, message).into_response(),
                );
            }
            request.extensions_mut().insert(ConnectInfo(client));
            seat.change(Seats::work);
            let answered = timeout(ANSWER, router.call(request)).await;
            seat.change(Seats::rest);
            Ok(match answered {
                Ok(Ok(response)) => response,
                Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy; ask again\n").into_response(),
            })
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEADERS)
        .max_headers(HEADER_LINES)
        .serve_connection(TokioIo::new(stream), answer);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = changed => {
            served.as_mut().graceful_shutdown();
            timeout(ANSWER, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for [{}]", seat.shared.name);
    }
}

/// A seat among the connections of a listener; given back on drop.
struct Seat {
    shared: Arc<Shared>,
    number: Number,
    lost: Arc<Notify>,
}

impl Seat {
    /// Takes a seat for a client. If there is none, another connection loses its own.
    fn take(shared: Arc<Shared>, client: IpAddr) -> Self {
        let lost = Arc::new(Notify::new());
        let (number, others) = lock(&shared.seats).take(client, Instant::now(), Arc::clone(&lost));
        others.iter().for_each(|other| other.notify_one());
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            number,
            lost,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seats<Arc<Notify>>, Number, Instant)) {
        change(&mut lock(&self.shared.seats), self.number, Instant::now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.change(|seats, number, _| seats.leave(number));
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn listener(settings: Settings) -> (Listener, SocketAddr) {
        let who =
            |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.ip().to_string() };
        let router = Router::new().route("/", get(who));
        let listener = Listener::new("test");
        // A port that is free.
        let at = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let bound = listener.bind(&[at]).unwrap();
        listener.listen(bound, Settings { router, ..settings });
        (listener, at)
    }

    async fn ask(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn the_host_of_a_request_is_an_address_or_known() {
        let hosts = Some(vec!["Geo.Example".to_owned()]);
        let (_listener, at) = listener(Settings {
            hosts,
            ..Settings::default()
        });
        for (host, status) in [
            ("Host: 127.0.0.1:8053\r\n", 200),
            ("Host: [::1]:8053\r\n", 200),
            ("Host: [::1]\r\n", 200),
            ("Host: LOCALHOST:1\r\n", 200),
            ("Host: geo.example.:443\r\n", 200),
            ("Host: evil.example\r\n", 421),
            ("Host: localhost.evil.example\r\n", 421),
            ("Host: evil.example:1@localhost\r\n", 421),
            ("Host: geo.example:80:80\r\n", 421),
            ("Host: :80\r\n", 421),
            ("Host: \u{fc}\r\n", 421),
            ("", 421),
        ] {
            let request = format!("GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
            let answer = ask(at, &request).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{host}: {answer}");
            assert_eq!(
                answer.ends_with("127.0.0.1"),
                status == 200,
                "{host}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn large_headers_are_refused() {
        let (_listener, at) = listener(Settings::default());
        let large = "x".repeat(HEADERS);
        for headers in [format!("X: {large}\r\n"), "X: y\r\n".repeat(HEADER_LINES)] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            let answer = ask(at, &request).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_cut() {
        let (_listener, at) = listener(Settings::default());
        for begun in ["", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            assert_eq!(ask(at, begun).await, "", "{begun}");
        }
    }

    #[tokio::test]
    async fn idle_clients_make_room_for_a_new_one() {
        let (listener, at) = listener(Settings::default());
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            idle.push(TcpStream::connect(at).await.unwrap());
        }
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = ask(at, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Connections that have lost their seats are closed, each by its own task.
        while listener.open() > CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn connections_of_settings_before_end() {
        let (listener, at) = listener(Settings::default());
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut octets = [0; 1000];
        assert!(stream.read(&mut octets).await.unwrap() > 0);
        let bound = listener.bind(&listener.listening()).unwrap();
        listener.listen(bound, Settings::default());
        while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {}
    }

    #[tokio::test]
    async fn an_address_gives_way_to_one_that_covers_it_and_back() {
        let (listener, at) = listener(Settings::default());
        let hello = Router::new().route("/", get(|| async { "hello" }));
        let any = |ip: [u8; 4]| SocketAddr::from((ip, at.port()));
        let settings = || Settings {
            router: hello.clone(),
            ..Settings::default()
        };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut kept = Vec::new();
        for to in [any([0; 4]), any([127, 0, 0, 1]), any([0; 4])] {
            // One that is prepared and not taken changes nothing.
            drop(listener.bind(&[to]).unwrap());
            listener.listen(listener.bind(&[to]).unwrap(), settings());
            assert_eq!(listener.listening(), [to]);
            until_answered(at, request, "hello").await;
            kept.push(TcpStream::connect(at).await.unwrap());
            // Nobody else is let in.
            let other = Listener::new("other");
            for taken in [any([0; 4]), any([127, 0, 0, 1])] {
                let error = other.bind(&[taken]).err().unwrap();
                assert!(error.contains("in use"), "{error}");
            }
        }
        // Beside what stays there is no place, and the refusal changes nothing.
        let error = listener.bind(&[any([0; 4]), any([127, 0, 0, 1])]);
        assert!(error.is_err());
        until_answered(at, request, "hello").await;
    }

    /// Asks until the answer ends so: one that was left may have taken the connection.
    async fn until_answered(at: SocketAddr, request: &str, end: &str) {
        let asked = async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(at).await {
                    let mut answer = String::new();
                    let _ = stream.write_all(request.as_bytes()).await;
                    let _ = stream.read_to_string(&mut answer).await;
                    if answer.ends_with(end) {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), asked).await.unwrap();
    }

    #[tokio::test]
    async fn addresses_come_and_go() {
        let (listener, at) = listener(Settings::default());
        let error = Listener::new("test").bind(&[at]).err().unwrap();
        assert!(
            error.starts_with(&format!("test.listen: cannot listen on {at}: ")),
            "{error}"
        );
        let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
        let bound = listener.bind(&[other]).unwrap();
        listener.listen(bound, Settings::default());
        assert_eq!(listener.listening(), [other]);
        // Its task ends soon.
        while TcpStream::connect(at).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        listener.listen(listener.bind(&[]).unwrap(), Settings::default());
        assert!(listener.listening().is_empty());
    }
}
