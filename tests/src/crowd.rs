//! Clients that hold all the TCP and TLS connections they can, and are not served over them.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::Space;

/// Ports of DNS over TCP and over TLS.
const PORTS: (u16, u16) = (53, 853);

/// How a connection is kept.
#[derive(Clone, Copy)]
enum Hold {
    /// Nothing is said; over TLS, a handshake that hangs.
    Silent,
    /// A query without its last octet.
    Half,
    /// Queries, as many as go out, and no answer is taken.
    Deaf,
}

/// Each in turn.
const WAYS: [(u16, Hold); 4] = [
    (PORTS.0, Hold::Silent),
    (PORTS.1, Hold::Silent),
    (PORTS.0, Hold::Half),
    (PORTS.1, Hold::Half),
];
/// One in N is deaf in place of that: each takes CPU time besides, which is not what this is about.
const DEAF: usize = 160;

/// Prefixes of a crowd, at the most.
pub const PREFIXES: u8 = 8;

/// Gives a namespace the addresses 20.1.0.0/24 to 20.1.7.0/24, for [`hold`] to come from.
pub fn settle(space: &Space) -> Result<()> {
    let routes = (0..PREFIXES).map(|prefix| format!("route add local 20.1.{prefix}.0/24 dev lo\n"));
    space.ip_batch(&routes.collect::<String>())
}

/// As many files as this process may have.
pub fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Holds N connections to a server from the prefix of this number, and opens others for those that are
/// closed, until it is over. `query`: with its length before it.
pub fn hold(
    space: &Space,
    (prefix, most): (u8, usize),
    server: IpAddr,
    query: &[u8],
    over: &AtomicBool,
) -> Result<()> {
    space.enter(|| {
        let mut held: Vec<Option<TcpStream>> = (0..most).map(|_| None).collect();
        while !over.load(Ordering::Relaxed) {
            for (place, slot) in held.iter_mut().enumerate() {
                if slot.as_ref().is_some_and(is_open) || over.load(Ordering::Relaxed) {
                    continue;
                }
                *slot = None;
                let (port, way) = match place % DEAF {
                    0 => (PORTS.0, Hold::Deaf),
                    _ => WAYS[place % WAYS.len()],
                };
                let from = [20, 1, prefix, (place % 250) as u8 + 1];
                // Whom the server has no time for tries again.
                *slot = open(from, (server, port).into(), way, query)?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

/// Whether the server has not closed a connection.
fn is_open(stream: &TcpStream) -> bool {
    if !matches!(stream.take_error(), Ok(None)) {
        return false;
    }
    match stream.peek(&mut [0]) {
        Ok(len) => len > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn open(from: [u8; 4], to: SocketAddr, way: Hold, query: &[u8]) -> Result<Option<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .context("no socket more: too few files")?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    // Little is under way to whoever is deaf.
    socket.set_recv_buffer_size(4096)?;
    if socket
        .connect_timeout(&to.into(), Duration::from_millis(500))
        .is_err()
    {
        return Ok(None);
    }
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    match way {
        Hold::Silent => {}
        Hold::Half => {
            let _ = stream.write(&query[..query.len() - 1]);
        }
        Hold::Deaf => {
            let many = query.repeat(200);
            while stream.write(&many).is_ok_and(|len| len > 0) {}
        }
    }
    Ok(Some(stream))
}
