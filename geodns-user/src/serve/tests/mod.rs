//! Tests over a small world that is read from files.
//!
//! - `answers`: question in, response out, in tables
//! - `paths`: zones drawn at random, and both paths asked about them
//! - `subnets`: client subnets of every length, and what their answers may be kept for
//! - `sockets`: the server at work, on loopback
//! - `tls`: the same over TLS
//! - `handlers`: the same with other handlers: panics, and answers of many messages

mod answers;
mod handlers;
mod paths;
mod sockets;
mod subnets;
mod tls;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use domain::base::{Name as DomainName, Rtype};

use super::*;
use crate::geo::Layers;
use crate::world::Inputs;

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1"]
identity = "test1"
[kernel]
mode = "off"
[[zone]]
name = "example.org"
file = "example.org.zone"
[[zone]]
name = "child.example.org"
file = "child.example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10", "2001:db8:1::10"]
[[mirror]]
id = "iad"
addresses = ["198.51.100.11", "198.51.100.10"]
[[mirror]]
id = "sin"
addresses = ["203.0.113.10", "2001:db8:3::10"]
[[mirror]]
id = "vast"
addresses = [ADDRESSES]
[[pool]]
id = "www"
mirrors = ["ams", "iad", "sin"]
policy = "table"
default = "ams"
prefixes = "world.csv"
ttl = 60
[[pool]]
id = "all"
mirrors = ["ams", "iad", "sin"]
policy = "all"
ttl = 30
[[pool]]
id = "v4"
mirrors = ["iad"]
policy = "all"
[[pool]]
id = "vast"
mirrors = ["vast"]
policy = "all"
[[steer]]
name = "www.example.org"
pool = "www"
[[steer]]
name = "*.cdn.example.org"
pool = "www"
[[steer]]
name = "all.example.org"
pool = "all"
[[steer]]
name = "v4.example.org"
pool = "v4"
[[steer]]
name = "vast.example.org"
pool = "vast"
[[steer]]
name = "child.example.org"
pool = "all"
"#;

const LIST: &str = "\
prefix,mirror
8.0.0.0/8,iad
10.0.0.0/8,sin
9.9.9.0/24,sin
2600::/12,sin
";

const ORG: &str = r#"
$TTL 1h
@           IN SOA  ns1 hostmaster 7 1h 15m 1w 1m
            IN NS   ns1
            IN MX   10 mail
            IN CAA  0 issue "ca.test"
ns1         IN A    192.0.2.53
mail        IN A    192.0.2.25
            IN AAAA 2001:db8::25
www         IN TXT  "steered"
alias       IN CNAME www
alias-all   IN CNAME all
one         IN CNAME two
two         IN CNAME mail
loop1       IN CNAME loop2
loop2       IN CNAME loop1
self        IN CNAME self
out         IN CNAME elsewhere.test.
dangling    IN CNAME nothing
todelegated IN CNAME host.lab
tochild     IN CNAME child
a.b.ent     IN TXT  "deep"
*.wild      IN TXT  "wild"
x.sub.wild  IN TXT  "stops the wildcard"
*.alias     IN CNAME mail
lab         IN NS   ns.lab
            IN NS   ns1
            IN NS   ns.other
            IN DS   12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.lab      IN A    203.0.113.53
            IN AAAA 2001:db8::53
other       IN NS   ns.other
ns.other    IN A    203.0.113.54
old         IN DNAME mail
older       IN DNAME a234567890123456789012345678901234567890.a234567890123456789012345678901234567890.a234567890123456789012345678901234567890.a234567890123456789012345678901234567890.test.
child       IN NS   ns.child
            IN DS   54321 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.child    IN A    203.0.113.55
GLUE
BIG
"#;

const CHILD: &str = r#"
$TTL 2h
@       IN SOA  ns hostmaster 9 1h 15m 1w 3h
        IN NS   ns
ns      IN A    203.0.113.55
"#;

/// The mirror with more addresses than fit a datagram.
fn vast() -> String {
    (1..=16)
        .map(|n| format!("\"192.0.2.{}\", ", 100 + n))
        .chain((1..=32).map(|n| format!("\"2001:db8:4::{n:x}\", ")))
        .collect()
}

static WORLD: LazyLock<Arc<World>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    // Ten name servers below the cut, whose addresses take more than 512 octets.
    let glue = (0..10).fold(String::new(), |mut text, n| {
        let _ = writeln!(
            text,
            "glue IN NS ns{n}.glue\nns{n}.glue IN A 203.0.113.1{n}"
        );
        let _ = writeln!(text, "ns{n}.glue IN AAAA 2001:db8:5::{n}");
        text
    });
    let big = (0..20).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "big IN TXT \"{n:0100}\"");
        text
    });
    write("geodns.toml", &CONFIG.replace("ADDRESSES", &vast()));
    write("world.csv", LIST);
    write(
        "example.org.zone",
        &ORG.replace("GLUE", &glue).replace("BIG", &big),
    );
    write("child.example.org.zone", CHILD);
    let inputs = Inputs::read(&folder.path().join("geodns.toml")).unwrap();
    let layers: Vec<_> = inputs
        .lists
        .iter()
        .map(|list| Layers {
            base: list.clone(),
            ..Layers::default()
        })
        .collect();
    Arc::new(inputs.compile(&layers, 1, [17, 4]).unwrap())
});

/// Where queries come from, if nothing else is said: prefix of no mirror, so the default's.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4));

/// A query, by its parts.
#[derive(Clone)]
struct Ask {
    flags: u16,
    name: Vec<u8>,
    qtype: u16,
    qclass: u16,
    /// Raw records after the question, and how many in each section.
    records: Vec<u8>,
    counts: [u16; 4],
    client: IpAddr,
    transport: Transport,
}

/// `name TYPE`, recursion not desired.
fn ask(question: &str) -> Ask {
    let (name, qtype) = question.split_once(' ').unwrap();
    let name: DomainName<Vec<u8>> = name.parse().unwrap();
    Ask {
        flags: 0,
        name: name.into_octets(),
        qtype: qtype.parse::<Rtype>().unwrap().to_int(),
        qclass: 1,
        records: Vec::new(),
        counts: [1, 0, 0, 0],
        client: RESOLVER,
        transport: Transport::Udp,
    }
}

impl Ask {
    /// With a record in the additional section.
    fn additional(mut self, record: &[u8]) -> Self {
        self.records.extend_from_slice(record);
        self.counts[3] += 1;
        self
    }

    /// With an OPT: payload, version, flags and options.
    fn opt(self, payload: u16, version: u8, flags: u16, options: &[u8]) -> Self {
        let mut opt = vec![0, 0, 41];
        opt.extend_from_slice(&payload.to_be_bytes());
        opt.extend_from_slice(&[0, version]);
        opt.extend_from_slice(&flags.to_be_bytes());
        opt.extend_from_slice(&(options.len() as u16).to_be_bytes());
        opt.extend_from_slice(options);
        self.additional(&opt)
    }

    /// With an OPT that holds one option.
    fn option(self, code: u16, data: &[u8]) -> Self {
        let mut option = code.to_be_bytes().to_vec();
        option.extend_from_slice(&(data.len() as u16).to_be_bytes());
        option.extend_from_slice(data);
        self.opt(1232, 0, 0, &option)
    }

    /// With a client subnet.
    fn subnet(self, net: &str) -> Self {
        let net: ipnet::IpNet = net.parse().unwrap();
        let (family, octets) = match net.addr() {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (2, address.octets().to_vec()),
        };
        let mut data = vec![0, family, net.prefix_len(), 0];
        data.extend_from_slice(&octets[..usize::from(net.prefix_len()).div_ceil(8)]);
        self.option(8, &data)
    }

    fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    fn tls(mut self) -> Self {
        self.transport = Transport::Tls;
        self
    }

    fn from(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }

    fn wire(&self) -> Vec<u8> {
        let mut wire = vec![0xab, 0xcd];
        wire.extend_from_slice(&self.flags.to_be_bytes());
        for count in self.counts {
            wire.extend_from_slice(&count.to_be_bytes());
        }
        if self.counts[0] > 0 {
            wire.extend_from_slice(&self.name);
            wire.extend_from_slice(&self.qtype.to_be_bytes());
            wire.extend_from_slice(&self.qclass.to_be_bytes());
        }
        wire.extend_from_slice(&self.records);
        wire
    }
}

fn identity() -> Identity {
    Identity {
        id: Some("test1".to_owned()),
        nsid: Some("test1".to_owned()),
        version: Some("geodns test".to_owned()),
        cookies: None,
    }
}

/// The octets that are sent for a message, if any are.
fn send(wire: &[u8], client: IpAddr, transport: Transport) -> Option<Vec<u8>> {
    let mut response = vec![1, 2, 3];
    answer(&WORLD, &identity(), wire, client, transport, &mut response).then_some(response)
}

fn bytes_of(ask: &Ask) -> Vec<u8> {
    send(&ask.wire(), ask.client, ask.transport).expect("an answer")
}
