//! A worker: one UDP socket, one message at a time.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::net::UdpSocket;

use super::Transport;
use super::respond::respond;
use super::server::Shared;

/// Octets of a query over UDP. A longer one is cut, and so malformed.
const QUERY_MAX: usize = 4096;

/// Answers what comes, for ever.
pub async fn work(socket: UdpSocket, shared: Arc<Shared>) {
    let mut query = vec![0; QUERY_MAX];
    let mut response = Vec::new();
    loop {
        let (len, client) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            Err(error) => {
                // An error of one packet (ICMP) or of the whole system (memory): neither ends us.
                tracing::debug!(%error, "receiving over UDP");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        // Nobody can be reached at port 0.
        let outcome = (client.port() != 0)
            .then(|| {
                respond(
                    &shared.world.load(),
                    &shared.identity.load(),
                    &query[..len],
                    client.ip(),
                    Transport::Udp,
                    &mut response,
                )
            })
            .flatten();
        shared.stats.message(Transport::Udp, outcome);
        shared.seen.take(outcome);
        if outcome.is_some() && socket.send_to(&response, client).await.is_err() {
            shared.stats.add(|stats| &stats.udp_send_failed);
        }
    }
}

/// Never sets DF and never believes an ICMP message that a path's MTU is small: whoever forges one
/// would make us fragment. Our responses are no larger than any path takes.
pub fn ignore_path_mtu(socket: &Socket, address: IpAddr) -> io::Result<()> {
    let (level, name, value) = match address {
        IpAddr::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_OMIT,
        ),
        IpAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_OMIT,
        ),
    };
    // SAFETY: the descriptor is open as long as `socket` is borrowed; value and length describe one
    // c_int, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
