//! The server: which addresses it answers on, and the sockets there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use super::arrivals::{Arrivals, ByInterface};
use super::asked::Asked;
use super::authority::authority;
use super::batch::tell_interface;
use super::connections::Connections;
use super::endpoint::Endpoint;
use super::guard::Guarded;
use super::limiter::Limiter;
use super::message::{Identity, Sample};
use super::notices::{Notice, Notices};
use super::request::Handler;
use super::seen::Seen;
use super::shared::Shared;
use super::stats::Stats;
use super::{tcp, udp};
use crate::base::lock::lock;
use crate::block::Blocks;
use crate::certificate::Certificate;
use crate::dnstap::Tap;
use crate::plan::heat;
use crate::supervise::{Never, forever};
use crate::world::World;

/// How to listen. The defaults are right for a server of its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// UDP and TCP port.
    pub port: u16,
    /// Listen on addresses that no interface has yet (anycast addresses that come and go).
    pub freebind: bool,
    /// Count queries over UDP by the interface that they come by.
    pub by_interface: bool,
    /// Threads that answer over UDP, each with a socket for each address.
    pub workers: usize,
    /// TCP and TLS connections, at the most. There are fewer where files are short.
    pub tcp_connections: usize,
    /// Files that the process may open.
    pub files: usize,
    /// How long a TCP client may take to send a whole query, and to take the answers; a fifth of it
    /// while more than half of the connections are in use.
    pub tcp_idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 53,
            freebind: false,
            by_interface: false,
            workers: available_parallelism().map_or(1, NonZero::get).min(16),
            tcp_connections: 4096,
            files: file_limit(),
            tcp_idle: Duration::from_secs(10),
        }
    }
}

impl Options {
    fn workers(&self) -> usize {
        self.workers.max(1)
    }

    /// As many TCP connections as leave files for the sockets of N addresses, and for all else.
    fn connections(&self, addresses: usize) -> usize {
        // Of UDP, TCP and TLS.
        let sockets = addresses * (self.workers() + 2);
        let spare = self.files.saturating_sub(sockets + FILES_FOR_ELSE);
        self.tcp_connections.min((spare / 2).max(LEAST_CONNECTIONS))
    }
}

/// Octets of a UDP socket's receive buffer.
const RECEIVE_BUFFER: usize = 1 << 20;
/// TCP connections that there may be however short files are.
const LEAST_CONNECTIONS: usize = 16;
/// Files that are no sockets of ours: maps, state, the control socket and who uses it.
const FILES_FOR_ELSE: usize = 128;

/// Files that this process may open.
fn file_limit() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// Why an address cannot be listened on. Displays as one line.
#[derive(Debug)]
pub struct ListenError {
    /// The address.
    pub at: Endpoint,
    /// The port.
    pub port: u16,
    /// `UDP`, `TCP` or `TLS`.
    pub protocol: &'static str,
    /// The system's error.
    pub source: io::Error,
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            port,
            protocol,
            source,
        } = self;
        write!(f, "{at} port {port} ({protocol}): ")?;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "address already in use; `ss -lnput 'sport = :{port}'` says by whom: stop that, or \
                 change server.listen or {}.port",
                if *protocol == "TLS" { "tls" } else { "server" }
            ),
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "no interface has this address; add it to one, or correct server.listen"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "not permitted; run as root, or give geodns the capability CAP_NET_BIND_SERVICE (systemd: \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE)"
            ),
            _ => write!(f, "{source}"),
        }
    }
}

/// The slow path at work. Dropping it closes every socket.
#[derive(Debug)]
pub struct Server {
    options: Options,
    shared: Arc<Shared>,
    listening: Mutex<Listening>,
    /// Port of DNS over TLS; 0: none is to be spoken.
    tls: AtomicU16,
    closed: AtomicBool,
    heard: std::sync::Mutex<Option<mpsc::Receiver<Notice>>>,
}

/// The addresses that are listened on, and the workers.
#[derive(Debug, Default)]
struct Listening {
    addresses: BTreeMap<Endpoint, Listener>,
    /// Empty as long as nothing was listened on.
    workers: Vec<udp::Worker>,
}

/// An address that is answered on. Its UDP sockets are the workers'.
#[derive(Debug)]
struct Listener {
    port: u16,
    tcp: JoinHandle<Never>,
    /// With the port.
    tls: Option<(u16, JoinHandle<Never>)>,
}

impl Listener {
    /// Closes the sockets, for certain.
    async fn close(mut self, at: &Endpoint, workers: &[udp::Worker]) {
        // All are told before the first is waited for.
        let closing = workers.iter().map(|worker| worker.close(at.clone()));
        let closing: Vec<_> = closing.collect();
        for closed in closing {
            closed.await;
        }
        end(&mut self.tcp).await;
        self.close_tls().await;
    }

    async fn close_tls(&mut self) {
        if let Some((_, tls)) = &mut self.tls {
            end(tls).await;
            self.tls = None;
        }
    }
}

/// Ends a task, for certain.
async fn end(task: &mut JoinHandle<Never>) {
    task.abort();
    // Aborted, which is what we want to know.
    let _ = task.await;
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tcp.abort();
        if let Some((_, tls)) = &self.tls {
            tls.abort();
        }
    }
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(options: Options, world: Arc<ArcSwap<World>>, identity: Identity) -> Self {
        Self::with_handler(options, world, identity, authority)
    }

    /// The same with another handler.
    pub(super) fn with_handler(
        options: Options,
        world: Arc<ArcSwap<World>>,
        identity: Identity,
        handler: Handler,
    ) -> Self {
        let stats = Arc::new(Stats::new(options.workers()));
        let (notices, heard) = Notices::new(Arc::clone(&stats));
        let (seats, idle) = (options.tcp_connections, options.tcp_idle);
        Self {
            shared: Arc::new(Shared {
                world,
                identity: ArcSwap::from_pointee(identity),
                blocks: ArcSwap::default(),
                limiter: ArcSwapOption::empty(),
                connections: Arc::new(Connections::new(seats, idle, Arc::clone(&stats))),
                handler: Guarded::new(handler),
                certificate: ArcSwapOption::empty(),
                tap: ArcSwapOption::empty(),
                port: options.port,
                stats,
                asks_itself: AtomicBool::new(false),
                is_silent: AtomicBool::new(false),
                seen: Seen::default(),
                asked: Asked::new(options.workers()),
                arrivals: Arrivals::new(options.workers()),
                notices,
            }),
            options,
            listening: Mutex::default(),
            tls: AtomicU16::new(0),
            closed: AtomicBool::new(false),
            heard: std::sync::Mutex::new(Some(heard)),
        }
    }

    /// Closes every socket, for good.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.set_listen::<Endpoint>(&[]).await;
    }

    /// Changes who we say we are.
    pub fn set_identity(&self, identity: Identity) {
        self.shared.identity.store(Arc::new(identity));
    }

    /// Takes questions from the very address that they go to for this server's own: no rule and no limit is for them,
    /// and they are counted apart. Whoever forges such an address has the answer sent to us.
    pub fn set_asks_itself(&self, asks: bool) {
        self.shared.asks_itself.store(asks, Ordering::Relaxed);
    }

    /// Drops all questions, or answers them again. Gives whether it was so before.
    pub fn set_silent(&self, silent: bool) -> bool {
        self.shared.is_silent.swap(silent, Ordering::Relaxed)
    }

    /// Drops what these rules say from here on, and nothing else. Gives those before.
    pub fn set_blocks(&self, blocks: Arc<Blocks>) -> Arc<Blocks> {
        self.shared.blocks.swap(blocks)
    }

    /// Limits responses over UDP so from here on; `None`: not at all.
    pub fn set_limiter(&self, limiter: Option<Limiter>) {
        self.shared.limiter.store(limiter.map(Arc::new));
    }

    /// Speaks DNS over TLS on this port too, or on none, from the next [`Server::set_listen`] on.
    pub fn set_tls(&self, port: Option<u16>) {
        self.tls.store(port.unwrap_or(0), Ordering::Relaxed);
    }

    /// Changes who we say we are over TLS, for connections from now on. Without a certificate they are
    /// closed.
    pub fn set_certificate(&self, certificate: Option<Arc<Certificate>>) {
        self.shared.certificate.store(certificate);
    }

    /// The certificate of DNS over TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.shared.certificate.load_full()
    }

    /// Offers exchanges to this tap from here on; `None`: to nobody.
    pub fn set_tap(&self, tap: Option<Arc<Tap>>) {
        self.shared.tap.store(tap);
    }

    /// The NOTIFYs that arrive; only the first caller gets them.
    pub fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        let mut heard = lock(&self.heard);
        heard.take()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Queries of others over UDP, by the index of the interface that they came by ([`Options::by_interface`]).
    pub fn by_interface(&self) -> ByInterface {
        self.shared.arrivals.read()
    }

    /// Takes these for this host's own addresses.
    pub fn set_own_addresses(&self, addresses: BTreeSet<IpAddr>) {
        self.shared.arrivals.set_own(addresses);
    }

    /// Names that were asked for since the last time and are not in the kernel's table, though they might be;
    /// not all of them. Nobody keeps them until they are asked for once.
    pub fn asked(&self) -> Vec<heat::Asked> {
        self.shared.asked.want(true);
        self.shared.asked.take()
    }

    /// Clients that pools answered lately.
    pub fn seen(&self) -> Vec<Sample> {
        self.shared.seen.samples()
    }

    /// Listens on these addresses and no others. Addresses that stay are not disturbed; those that
    /// fail are left out, each with its reason. There are as many TCP connections as they leave files for.
    ///
    /// Must run inside the tokio runtime that the workers shall run in.
    pub async fn set_listen<T: Clone + Into<Endpoint>>(&self, wanted: &[T]) -> Vec<ListenError> {
        let mut listening = self.listening.lock().await;
        let closed = self.closed.load(Ordering::Relaxed);
        let wanted: Vec<Endpoint> = match closed {
            true => Vec::new(),
            false => wanted.iter().cloned().map(Into::into).collect(),
        };
        let gone: Vec<_> = listening
            .addresses
            .extract_if(.., |at, _| !wanted.contains(at))
            .collect();
        for (at, listener) in gone {
            listener.close(&at, &listening.workers).await;
        }
        if closed {
            listening.workers.clear();
        }
        let port = self.tls.load(Ordering::Relaxed);
        let connections = self.options.connections(wanted.len());
        self.shared.connections.set_limit(connections, port != 0);
        let mut errors = Vec::new();
        for at in wanted {
            if listening.addresses.contains_key(&at) {
                continue;
            }
            match self.listen(&at, &mut listening.workers).await {
                Ok(listener) => {
                    listening.addresses.insert(at, listener);
                }
                Err(error) => errors.push(error),
            }
        }
        for (at, listener) in &mut listening.addresses {
            if listener.tls.as_ref().map_or(0, |(port, _)| *port) == port {
                continue;
            }
            listener.close_tls().await;
            if port == 0 {
                continue;
            }
            match self.tcp_socket(at, port) {
                Ok(socket) => {
                    listener.tls = Some((port, self.accept(socket, true)));
                }
                Err(source) => errors.push(ListenError {
                    at: at.clone(),
                    port,
                    protocol: "TLS",
                    source,
                }),
            }
        }
        errors
    }

    /// Addresses that are listened on.
    pub async fn listening(&self) -> Vec<SocketAddr> {
        let listening = self.listening.lock().await;
        let addresses = listening.addresses.iter();
        let mut all: Vec<_> = addresses
            .map(|(at, listener)| SocketAddr::new(at.address, listener.port))
            .collect();
        // In several VRFs.
        all.dedup();
        all
    }

    async fn listen(
        &self,
        at: &Endpoint,
        workers: &mut Vec<udp::Worker>,
    ) -> Result<Listener, ListenError> {
        let failed = |protocol| {
            move |source| ListenError {
                at: at.clone(),
                port: self.options.port,
                protocol,
                source,
            }
        };
        if at.address.is_unspecified() {
            return Err(failed("UDP")(io::Error::other(
                "answers must leave from the address that was asked; name each address, or leave \
                 server.listen out to follow the interfaces",
            )));
        }
        let tcp = self
            .tcp_socket(at, self.options.port)
            .map_err(failed("TCP"))?;
        let port = tcp.local_addr().map_err(failed("TCP"))?.port();
        // Bound without SO_REUSEPORT: with it, we would share the port with another server of the
        // same user and each would get a part of the queries. It stays: closed, it might live on for a moment in
        // a child that has not become another program yet.
        let first = self.udp_socket(at, port, false).map_err(failed("UDP"))?;
        let opened = self.open(at, port, first, workers);
        if opened.is_err() {
            // Those that some workers may have.
            for worker in &*workers {
                worker.close(at.clone()).await;
            }
        }
        opened.map_err(failed("UDP"))?;
        let tcp = self.accept(tcp, false);
        Ok(Listener {
            port,
            tcp,
            tls: None,
        })
    }

    /// Accepts connections, until it is aborted.
    fn accept(&self, socket: tokio::net::TcpListener, tls: bool) -> JoinHandle<Never> {
        let (socket, shared) = (Arc::new(socket), Arc::clone(&self.shared));
        let name = if tls { "TLS" } else { "TCP" };
        let work = move || tcp::work(Arc::clone(&socket), Arc::clone(&shared), tls);
        tokio::spawn(forever(name, work))
    }

    /// Gives each worker a socket, and starts those that there are not yet.
    fn open(
        &self,
        at: &Endpoint,
        port: u16,
        first: Socket,
        workers: &mut Vec<udp::Worker>,
    ) -> io::Result<()> {
        first.set_reuse_port(true)?;
        let others = (1..self.options.workers()).map(|_| self.udp_socket(at, port, true));
        let sockets = iter::once(Ok(first))
            .chain(others)
            .collect::<io::Result<Vec<_>>>()?;
        for number in workers.len()..self.options.workers() {
            workers.push(udp::Worker::start(number, Arc::clone(&self.shared))?);
        }
        let mut pairs = workers.iter().zip(sockets);
        pairs.try_for_each(|(worker, socket)| worker.open(at.clone(), socket))
    }

    fn socket(&self, at: &Endpoint, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let domain = match at.address {
            IpAddr::V4(_) => Domain::IPV4,
            IpAddr::V6(_) => Domain::IPV6,
        };
        let socket = Socket::new(domain, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        // What is in a VRF reaches nobody outside of it: to such sockets the stack would say that no one listens.
        if let Some(vrf) = &at.vrf {
            socket.bind_device(Some(vrf.as_bytes()))?;
        }
        match at.address {
            IpAddr::V4(_) => socket.set_freebind_v4(self.options.freebind)?,
            IpAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_freebind_v6(self.options.freebind)?;
            }
        }
        Ok(socket)
    }

    fn udp_socket(&self, at: &Endpoint, port: u16, share: bool) -> io::Result<Socket> {
        let socket = self.socket(at, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(share)?;
        // Bursts wait instead of being lost: past what the system gives anybody, if we may.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        udp::ignore_path_mtu(&socket, at.address)?;
        if self.options.by_interface {
            tell_interface(&socket, at.address)?;
        }
        socket.bind(&SocketAddr::new(at.address, port).into())?;
        Ok(socket)
    }

    fn tcp_socket(&self, at: &Endpoint, port: u16) -> io::Result<tokio::net::TcpListener> {
        let socket = self.socket(at, Type::STREAM, Protocol::TCP)?;
        // Connections of the process before us may still be in TIME-WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(at.address, port).into())?;
        socket.listen(1024)?;
        tokio::net::TcpListener::from_std(socket.into())
    }
}
