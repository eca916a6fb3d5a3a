//! A target of checks: an address, and how it is asked.

use std::fmt::{self, Write as _};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::config::{Check, CheckKind, HttpCheck, Mirror, Status, Tls};

/// A distinct thing to check. Mirrors that have the same address and the same `check` share it, and
/// it is checked once for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// How.
    pub check: Check,
    /// Where.
    pub address: IpAddr,
}

impl Target {
    /// The targets of a mirror: one for each of its addresses, if it is checked.
    pub fn of(mirror: &Mirror) -> impl Iterator<Item = Self> {
        let each = |check: &Check| {
            let check = check.clone();
            mirror.addresses().map(move |address| Self {
                check: check.clone(),
                address,
            })
        };
        mirror.check.as_ref().map(each).into_iter().flatten()
    }

    /// The key of a target: question and address in a line. It stays the same over restarts and versions, and under
    /// changes of interval, timeout and anti-flap, so that a verdict can be kept under it.
    ///
    /// `https 192.0.2.10 port=443 host="www.example.org" path="/" status=2xx`
    pub fn key(&self) -> String {
        let address = self.address;
        match &self.check.kind {
            CheckKind::Http(http) => http_key(http, address),
            CheckKind::Tcp { port } => format!("tcp {address} port={port}"),
            CheckKind::Icmp => format!("icmp {address}"),
            CheckKind::Exec { command } => format!("exec {address} command={command:?}"),
        }
    }

    /// Whether the check reads a trace.
    pub fn has_trace(&self) -> bool {
        matches!(&self.check.kind, CheckKind::Http(http) if http.fresh.is_some())
    }

    /// Address and port, where there is one.
    pub(super) fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }
}

/// The number of a target, from its key: the same on every node of a fleet, and in every version.
pub fn number(key: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

fn http_key(http: &HttpCheck, address: IpAddr) -> String {
    let scheme = match http.tls {
        Tls::Off => "http",
        Tls::Verified | Tls::Unverified => "https",
    };
    let mut key = format!("{scheme} {address} port={}", http.port);
    if let Some(host) = &http.host {
        let _ = write!(key, " host={host:?}");
    }
    let _ = write!(key, " path={:?} status={}", http.path, list(&http.status));
    if let Some(body) = &http.body {
        let _ = write!(key, " body={body:?}");
    }
    if let Some(fresh) = &http.fresh {
        let _ = write!(
            key,
            " trace={:?} format={}",
            fresh.path,
            fresh.format.name()
        );
    }
    if http.tls == Tls::Unverified {
        key.push_str(" verify=false");
    }
    key
}

/// For people: `https 192.0.2.10:443`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.check.kind {
            CheckKind::Http(http) if http.tls == Tls::Off => {
                write!(f, "http {}", self.socket(http.port))
            }
            CheckKind::Http(http) => write!(f, "https {}", self.socket(http.port)),
            CheckKind::Tcp { port } => write!(f, "tcp {}", self.socket(*port)),
            CheckKind::Icmp => write!(f, "icmp {}", self.address),
            CheckKind::Exec { command } => {
                let program = command.first().map_or("", String::as_str);
                write!(f, "exec {program} {}", self.address)
            }
        }
    }
}

/// `2xx,301`
pub(super) fn list(status: &[Status]) -> String {
    let all: Vec<String> = status.iter().map(Status::to_string).collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::config::{Fresh, TraceFormat};

    fn target(kind: CheckKind) -> Target {
        Target {
            check: Check {
                kind,
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                rise: 2,
                fall: 3,
                ok: 2,
                jitter: Duration::ZERO,
            },
            address: "192.0.2.10".parse().unwrap(),
        }
    }

    fn http() -> HttpCheck {
        HttpCheck {
            tls: Tls::Verified,
            port: 443,
            path: "/".to_owned(),
            host: Some("www.example.org".to_owned()),
            status: vec![Status::Class(2), Status::Code(301)],
            body: None,
            fresh: None,
        }
    }

    #[test]
    fn keys_are_stable_lines() {
        let exec = CheckKind::Exec {
            command: vec!["check".to_owned(), "{address}".to_owned()],
        };
        let full = HttpCheck {
            tls: Tls::Unverified,
            body: Some("a\nb".to_owned()),
            ..http()
        };
        let traced = HttpCheck {
            fresh: Some(Fresh {
                path: "/TIME".to_owned(),
                format: TraceFormat::HttpDate,
                max_age: Duration::from_secs(3600),
                grace: Duration::ZERO,
            }),
            ..http()
        };
        let plain = HttpCheck {
            tls: Tls::Off,
            port: 80,
            host: None,
            ..http()
        };
        for (kind, key, shown) in [
            (
                CheckKind::Http(http()),
                r#"https 192.0.2.10 port=443 host="www.example.org" path="/" status=2xx,301"#,
                "https 192.0.2.10:443",
            ),
            (
                CheckKind::Http(full),
                r#"https 192.0.2.10 port=443 host="www.example.org" path="/" status=2xx,301 body="a\nb" verify=false"#,
                "https 192.0.2.10:443",
            ),
            (
                CheckKind::Http(traced),
                r#"https 192.0.2.10 port=443 host="www.example.org" path="/" status=2xx,301 trace="/TIME" format=http-date"#,
                "https 192.0.2.10:443",
            ),
            (
                CheckKind::Http(plain),
                r#"http 192.0.2.10 port=80 path="/" status=2xx,301"#,
                "http 192.0.2.10:80",
            ),
            (
                CheckKind::Tcp { port: 25 },
                "tcp 192.0.2.10 port=25",
                "tcp 192.0.2.10:25",
            ),
            (CheckKind::Icmp, "icmp 192.0.2.10", "icmp 192.0.2.10"),
            (
                exec,
                r#"exec 192.0.2.10 command=["check", "{address}"]"#,
                "exec check 192.0.2.10",
            ),
        ] {
            let mut target = target(kind);
            assert_eq!(target.key(), key);
            assert_eq!(target.to_string(), shown);
            target.check.interval *= 2;
            target.check.fall += 1;
            assert_eq!(target.key(), key);
        }
    }

    #[test]
    fn numbers_of_targets_are_the_same_in_each_version() {
        assert_eq!(number("icmp 192.0.2.1"), 17_432_425_440_154_743_119);
    }

    #[test]
    fn mirrors_that_share_an_address_and_a_check_share_the_target() {
        let mirror = |id: &str, check: Option<CheckKind>| Mirror {
            v4: vec!["192.0.2.10".parse().unwrap()],
            v6: vec!["2001:db8::10".parse().unwrap()],
            check: check.map(|kind| target(kind).check),
            ..Mirror::sample(id)
        };
        let mirrors = [
            mirror("a", Some(CheckKind::Icmp)),
            mirror("b", Some(CheckKind::Icmp)),
            mirror("c", Some(CheckKind::Tcp { port: 80 })),
            mirror("d", None),
        ];
        let targets: HashSet<Target> = mirrors.iter().flat_map(Target::of).collect();
        assert_eq!(targets.len(), 4);
    }
}
