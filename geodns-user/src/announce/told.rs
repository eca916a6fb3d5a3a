//! Asks BIRD and FRR whether they tell neighbours of the announced prefixes. Their filters may reject a route, their
//! kernel protocol may not have learned it, or no session may be up: this node cannot see that by itself.
//!
//! BIRD answers on its control socket, where geodns restricts itself to commands that only show. FRR's bgpd answers on
//! the socket that `vtysh` uses. Both are local; each question has a bound in time and in octets.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// All questions to one socket.
const PATIENCE: Duration = Duration::from_secs(3);
/// A longer reply is cut off, and is no answer.
const MOST_OCTETS: usize = 1 << 20;
/// Protocols of BIRD that tell routes to other machines.
const TELL: [&str; 4] = ["BGP", "OSPF", "RIP", "Babel"];
/// Code of BIRD's replies that list a route.
const ROUTE: &str = "1007";
/// Code of BIRD's reply where a table has no such network.
const NOT_FOUND: &str = "8001";

/// An answer about all prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Some neighbour is told of each.
    All,
    /// No neighbour is told of one.
    Not(String),
    /// The routing daemon cannot be asked.
    Unknown(String),
}

/// Asks the routing daemons behind these sockets, where there are any. `None`: no socket is there.
pub fn ask(sockets: &[PathBuf], prefixes: &[IpNet]) -> Option<Told> {
    let mut worst = None;
    for socket in sockets {
        let told = match UnixStream::connect(socket) {
            Ok(stream) => {
                let told = match is_frr(socket) {
                    true => frr(stream, prefixes),
                    false => bird(stream, prefixes),
                };
                told.unwrap_or_else(|error| unknown(socket, &error))
            }
            Err(error) if is_absent(&error) => continue,
            Err(error) => unknown(socket, &error),
        };
        match told {
            Told::All => return Some(Told::All),
            Told::Not(_) => worst = Some(told),
            Told::Unknown(_) => worst = worst.or(Some(told)),
        }
    }
    worst
}

/// Whether a socket is one of FRR's.
fn is_frr(socket: &Path) -> bool {
    socket.extension().is_some_and(|of| of == "vty")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn unknown(socket: &Path, error: &io::Error) -> Told {
    let socket = socket.display();
    Told::Unknown(match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{socket} is not for this process, so geodns cannot see whether filters reject its routes: put the daemon \
             into the socket's group (SupplementaryGroups= of the unit)"
        ),
        _ => format!(
            "{socket} gives no answer ({error}), so geodns cannot see whether filters reject its routes"
        ),
    })
}

/// A conversation, until its end at the latest.
struct Conversation {
    stream: UnixStream,
    end: Instant,
}

impl Conversation {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            end: Instant::now() + PATIENCE,
        }
    }

    /// Writes a request, and reads until the reply is whole.
    fn ask(&mut self, request: &[u8], is_whole: impl Fn(&[u8]) -> bool) -> io::Result<String> {
        self.bound()?;
        self.stream.write_all(request)?;
        let (mut reply, mut octets) = (Vec::new(), [0; 4096]);
        while !is_whole(&reply) {
            self.bound()?;
            let count = self.stream.read(&mut octets)?;
            if count == 0 || reply.len() > MOST_OCTETS {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reply.extend_from_slice(octets.get(..count).unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    fn bound(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))
    }
}

fn bird(stream: UnixStream, prefixes: &[IpNet]) -> io::Result<Told> {
    let mut bird = Conversation::new(stream);
    let mut ask = |command: &str| bird.ask(command.as_bytes(), bird_is_whole);
    // Its greeting.
    ask("")?;
    ask("restrict\n")?;
    let protocols = protocols(&ask("show protocols\n")?);
    if protocols.is_empty() {
        let none = "no session of BIRD is up, so no neighbour is told of this node: see `birdc show protocols`";
        return Ok(Told::Not(none.to_owned()));
    }
    'prefixes: for prefix in prefixes {
        for protocol in &protocols {
            let routes = ask(&format!("show route {prefix} export {protocol}\n"))?;
            if has_code(&routes, ROUTE) {
                continue 'prefixes;
            }
        }
        let all = ask(&format!("show route {prefix}\n"))?;
        return Ok(Told::Not(match has_code(&all, NOT_FOUND) {
            true => format!(
                "BIRD does not know the route {prefix}, so no neighbour is told of it: its kernel protocol needs \
                 `learn`, and an import that accepts it"
            ),
            false => format!(
                "BIRD tells no neighbour of {prefix}: its export filters reject the route, see `birdc show route \
                 {prefix} noexport {}`",
                protocols.first().map_or("PROTOCOL", String::as_str)
            ),
        }));
    }
    Ok(Told::All)
}

/// Whether a reply of BIRD has its last line: a code, and a space.
fn bird_is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\n") else {
        return false;
    };
    let last = lines.rsplit(|&octet| octet == b'\n').next();
    let last = last.unwrap_or_default();
    last.get(..4)
        .is_some_and(|code| code.iter().all(u8::is_ascii_digit))
        && last.get(4) == Some(&b' ')
}

/// Whether a line of a reply of BIRD has a code.
fn has_code(reply: &str, code: &str) -> bool {
    reply.lines().any(|line| line.starts_with(code))
}

/// Names of the protocols in `show protocols` that are up and tell routes to others.
fn protocols(reply: &str) -> Vec<String> {
    let lines = reply.lines().filter_map(|line| {
        // A code and a hyphen, or a space.
        let line = line.strip_prefix("1002-").or(line.strip_prefix(' '))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, protocol, _, state, ..] = words[..] else {
            return None;
        };
        (state == "up" && TELL.contains(&protocol)).then(|| name.to_owned())
    });
    lines.collect()
}

fn frr(stream: UnixStream, prefixes: &[IpNet]) -> io::Result<Told> {
    let mut bgpd = Conversation::new(stream);
    for prefix in prefixes {
        let family = if prefix.addr().is_ipv6() {
            "ipv6"
        } else {
            "ipv4"
        };
        let command = format!("show bgp {family} unicast {prefix} json\0");
        let reply = bgpd.ask(command.as_bytes(), frr_is_whole)?;
        let json: serde_json::Value =
            serde_json::from_str(reply.trim_end_matches(|at: char| at.is_control()))
                .unwrap_or_default();
        let is_told = json["advertisedTo"]
            .as_object()
            .is_some_and(|to| !to.is_empty());
        if is_told {
            continue;
        }
        let ip = if prefix.addr().is_ipv6() {
            "ipv6"
        } else {
            "ip"
        };
        return Ok(Told::Not(match json["paths"].is_array() {
            true => format!(
                "FRR tells no neighbour of {prefix}: no session is up, or a route-map rejects it, see `vtysh -c 'show \
                 bgp {family} unicast {prefix}'`"
            ),
            false => format!(
                "FRR's bgpd does not know the route {prefix}, so no neighbour is told of it: it needs `redistribute \
                 kernel`, and a route-map that permits it, see `vtysh -c 'show {ip} route {prefix}'`"
            ),
        }));
    }
    Ok(Told::All)
}

/// Whether a reply of FRR has its end: three zeros, and a status.
fn frr_is_whole(reply: &[u8]) -> bool {
    reply.len() >= 4 && reply.iter().rev().skip(1).take(3).all(|&octet| octet == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_are_up_are_found() {
        let reply = "2002-Name       Proto      Table      State  Since         Info\n\
                     1002-device1    Device     ---        up     16:35:33.761  \n \
                     geodns4    Kernel     master4    up     16:35:33.761  \n \
                     up1        BGP        ---        up     16:35:34.552  Established   \n \
                     up2        BGP        ---        start  16:35:33.761  Connect       \n \
                     area0      OSPF       master4    up     16:35:33.761  Running\n\
                     0000 \n";
        assert_eq!(protocols(reply), ["up1", "area0"]);
        assert!(protocols("1002-bgp1 BGP --- up").contains(&"bgp1".to_owned()));
        assert!(protocols("9001 syntax error\n").is_empty());
    }

    #[test]
    fn a_reply_ends_with_a_code_and_a_space() {
        for (reply, is) in [
            ("", false),
            ("0001 BIRD 2.0.12 ready.\n", true),
            ("1007-Table master4:\n", false),
            ("1007-Table master4:\n 192.0.2.53/32  unicast\n0000 ", false),
            (
                "1007-Table master4:\n 192.0.2.53/32  unicast\n0000 \n",
                true,
            ),
            ("8001 Network not found\n", true),
            ("é001 \n", false),
        ] {
            assert_eq!(bird_is_whole(reply.as_bytes()), is, "{reply:?}");
        }
    }

    #[test]
    fn a_reply_of_frr_ends_with_zeros_and_a_status() {
        for (reply, is) in [
            (&b""[..], false),
            (b"{\n}\n", false),
            (b"{\n}\n\0\0\0", false),
            (b"{\n}\n\0\0\0\0", true),
            (b"\0\0\0\x02", true),
        ] {
            assert_eq!(frr_is_whole(reply), is, "{reply:?}");
        }
    }

    #[test]
    fn nobody_is_asked_where_no_socket_is() {
        let prefixes = ["192.0.2.53/32".parse().unwrap()];
        assert_eq!(ask(&["/nonexistent/bird.ctl".into()], &prefixes), None);
        assert_eq!(ask(&[], &prefixes), None);
    }
}
