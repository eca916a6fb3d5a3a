//! TCP (RFC 7766): many queries a connection, answered as they come, within bounds.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::respond::respond;
use super::server::Shared;
use super::{Options, Stats, Transport};

/// Octets of answers that are gathered before they are written.
const FLUSH: usize = 16 * 1024;

/// Accepts connections, for ever. Ends them when it is dropped.
pub async fn work(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that has gone again, or no files or memory: wait for some.
                tracing::debug!(%error, "accepting over TCP");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        shared.stats.add(|stats| &stats.tcp_connections);
        if let Some(place) = Place::take(&shared, client.ip()) {
            connections.spawn(async move {
                let shared = &place.shared;
                if let Err(error) = serve(stream, client.ip(), shared).await
                    && error.kind() == io::ErrorKind::TimedOut
                {
                    shared.stats.add(|stats| &stats.tcp_timeouts);
                }
            });
        } else {
            shared.stats.add(|stats| &stats.tcp_refused);
        }
    }
}

/// Answers one connection's queries until the client closes it or is too slow.
///
/// Each is answered before the next is looked at, which takes microseconds: nothing could overtake.
async fn serve(mut stream: TcpStream, client: IpAddr, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    let mut response = Vec::new();
    loop {
        // A whole query has to come by then; a few octets now and then do not help.
        let deadline = Instant::now() + shared.connections.patience();
        while whole(&input).is_none() {
            input.reserve(512);
            if timeout_at(deadline, stream.read_buf(&mut input)).await?? == 0 {
                return Ok(());
            }
        }
        let mut strange = false;
        while let Some(len) = whole(&input)
            && output.len() < FLUSH
            && !strange
        {
            let outcome = respond(
                &shared.world.load(),
                &shared.identity.load(),
                &input[2..2 + len],
                client,
                Transport::Tcp,
                &mut response,
            );
            shared.stats.message(Transport::Tcp, outcome);
            shared.seen.take(outcome);
            input.advance(2 + len);
            match u16::try_from(response.len()) {
                Ok(len) if outcome.is_some() => {
                    output.extend_from_slice(&len.to_be_bytes());
                    output.extend_from_slice(&response);
                }
                // Who sends what no client sends is none.
                _ => strange = true,
            }
        }
        timeout(shared.connections.patience(), stream.write_all(&output)).await??;
        output.clear();
        if strange {
            return Ok(());
        }
    }
}

/// Length of the message that the input begins with, if all of it is there.
fn whole(input: &[u8]) -> Option<usize> {
    let (length, rest) = input.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes(*length));
    (rest.len() >= len).then_some(len)
}

/// How many connections there are, and of whom.
#[derive(Debug)]
pub struct Connections {
    total: usize,
    per_network: usize,
    idle: Duration,
    stats: Arc<Stats>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    /// None yet.
    pub fn new(options: &Options, stats: Arc<Stats>) -> Self {
        Self {
            total: options.tcp_connections,
            per_network: options.tcp_connections_per_network,
            idle: options.tcp_idle,
            stats,
            open: Mutex::default(),
        }
    }

    /// How long to wait for a client: less when there are many.
    fn patience(&self) -> Duration {
        let open = self.stats.tcp_open.load(Ordering::Relaxed);
        if usize::try_from(open).is_ok_and(|open| open > self.total / 2) {
            self.idle / 5
        } else {
            self.idle
        }
    }
}

/// A place among the connections; given back on drop.
struct Place {
    shared: Arc<Shared>,
    network: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let connections = &shared.connections;
        let network = network(client);
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock, the gauge is the sum of the map.
        if connections.stats.tcp_open.load(Ordering::Relaxed) >= connections.total as u64 {
            return None;
        }
        let of_network = open.entry(network).or_default();
        if *of_network >= connections.per_network {
            return None;
        }
        *of_network += 1;
        connections.stats.tcp_open.fetch_add(1, Ordering::Relaxed);
        drop(open);
        Some(Self {
            shared: Arc::clone(shared),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.stats.tcp_open.fetch_sub(1, Ordering::Relaxed);
        if let Some(of_network) = open.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// The network whose connections are counted together: /24 or /56.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & !0xff).into()),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - 56);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}
