//! The questions for the servers: each scenario is a row of [`SCENARIOS`].

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use geodns_common::cookie;
use geodns_tests::dns::{A, AAAA, COOKIE, MX, NS, Query, SOA, TXT};
use geodns_tests::packet::Frame;
use geodns_tests::real::NAME;
use geodns_tests::rig::{Clients, Draw, Pattern};

use super::world::{ABSENT, HOST, SERVER_V4, SERVER_V6};

/// The OPT record of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opt {
    /// There is none.
    None,
    /// No option: EDNS with 1,232 octets.
    Plain,
    /// A client subnet of 24 bits whose address is another in each query.
    Subnet,
    /// A client's cookie, for which a server's is made.
    Cookie,
    /// The same and a server's, good by [`SECRET`] for this client and for an hour.
    GoodCookie,
}

/// The secret of all servers that have cookies, in hexadecimal digits.
pub const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// How many of the turns it has, where there are several.
    weight: usize,
    name: &'static str,
    qtype: u16,
    opt: Opt,
}

/// A scenario: questions, clients, and the goals of geodns.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A word for it.
    pub id: &'static str,
    /// Its title.
    pub what: &'static str,
    /// Questions, which take turns.
    pub questions: &'static [Question],
    /// Whether they are asked over IPv6.
    pub is_v6: bool,
    /// The clients that ask.
    pub source: Clients,
    /// Whether servers limit their responses, to more than is asked.
    pub limits: bool,
    /// Goals for the answers a second of geodns, if there are any.
    pub bars: Option<Bars>,
}

/// Goals for the answers a second of geodns.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Nanoseconds that an answer may take above a bare reflector's frame.
    pub above_ns: f64,
    /// N times the answers of the best other server that has a core to itself.
    pub peers: f64,
}

const fn one(name: &'static str, qtype: u16, opt: Opt) -> Question {
    weighted(1, name, qtype, opt)
}

const fn weighted(weight: usize, name: &'static str, qtype: u16, opt: Opt) -> Question {
    Question {
        weight,
        name,
        qtype,
        opt,
    }
}

const fn bars(above_ns: f64, peers: f64) -> Option<Bars> {
    Some(Bars { above_ns, peers })
}

/// Random sources ask for the steered name's address.
const STEERED: Scenario = Scenario {
    id: "",
    what: "",
    questions: &[one(NAME, A, Opt::None)],
    is_v6: false,
    source: Clients::Random,
    limits: false,
    bars: None,
};

/// All of them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario {
        id: "one",
        what: "one steered A, one source",
        source: Clients::One,
        bars: bars(100.0, 5.0),
        ..STEERED
    },
    Scenario {
        id: "table",
        what: "one steered A, 10,000 sources in 10,000 random prefixes",
        source: Clients::Table,
        bars: bars(160.0, 7.0),
        ..STEERED
    },
    Scenario {
        id: "random",
        what: "one steered A, random sources",
        bars: bars(150.0, 7.0),
        ..STEERED
    },
    Scenario {
        id: "edns",
        what: "one steered A with EDNS, random sources",
        questions: &[one(NAME, A, Opt::Plain)],
        ..STEERED
    },
    Scenario {
        id: "ecs",
        what: "one steered A with EDNS and random client subnets",
        questions: &[one(NAME, A, Opt::Subnet)],
        bars: bars(270.0, 6.0),
        ..STEERED
    },
    Scenario {
        id: "cookie",
        what: "one steered A with EDNS and a client cookie, random sources",
        questions: &[one(NAME, A, Opt::Cookie)],
        bars: bars(420.0, 5.0),
        ..STEERED
    },
    Scenario {
        id: "good-cookie",
        what: "one steered A with EDNS and a good server cookie, one source, responses limited",
        questions: &[one(NAME, A, Opt::GoodCookie)],
        source: Clients::One,
        limits: true,
        bars: bars(420.0, 5.0),
        ..STEERED
    },
    Scenario {
        id: "limits",
        what: "one steered A, 10,000 sources, responses limited to more than that",
        source: Clients::Table,
        limits: true,
        bars: bars(270.0, 5.0),
        ..STEERED
    },
    Scenario {
        id: "ipv6",
        what: "one steered AAAA over IPv6, random sources",
        questions: &[one(NAME, AAAA, Opt::None)],
        is_v6: true,
        ..STEERED
    },
    Scenario {
        id: "static",
        what: "one of 1,000 names of the zone file",
        questions: &[one(HOST, A, Opt::None)],
        ..STEERED
    },
    Scenario {
        id: "nxdomain",
        what: "random names that do not exist",
        questions: &[one(ABSENT, A, Opt::None)],
        ..STEERED
    },
    Scenario {
        id: "mix",
        what: "a mix, as on a real day",
        questions: &[
            weighted(14, NAME, A, Opt::Plain),
            weighted(8, NAME, A, Opt::None),
            weighted(4, NAME, A, Opt::Subnet),
            weighted(8, NAME, AAAA, Opt::Plain),
            weighted(2, NAME, AAAA, Opt::None),
            weighted(8, HOST, A, Opt::Plain),
            weighted(3, HOST, A, Opt::None),
            weighted(4, HOST, AAAA, Opt::Plain),
            weighted(5, ABSENT, A, Opt::Plain),
            weighted(2, ABSENT, AAAA, Opt::None),
            weighted(2, HOST, MX, Opt::Plain),
            weighted(1, "example.org", NS, Opt::Plain),
            weighted(1, "example.org", SOA, Opt::Plain),
            weighted(1, "example.org", MX, Opt::Plain),
            weighted(1, "example.org", TXT, Opt::Plain),
        ],
        source: Clients::Table,
        ..STEERED
    },
];

/// A client's cookie.
const CLIENT_COOKIE: &[u8; 8] = b"\x01geodns\x01";

/// A good cookie of a client, made now (RFC 9018 section 4).
fn good_cookie(client: IpAddr) -> Vec<u8> {
    let octets = |at: usize| u8::from_str_radix(&SECRET[2 * at..2 * at + 2], 16).unwrap_or(0);
    let secret = bytemuck::cast::<[u8; 16], [u64; 2]>(std::array::from_fn(octets));
    let mut address = [0; 16];
    match client {
        IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => address = v6.octets(),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs() as u32);
    let theirs = u64::from_ne_bytes(*CLIENT_COOKIE);
    let made = cookie::serve(None, now, |_, head| {
        cookie::hash(
            secret,
            theirs,
            head,
            bytemuck::cast(address),
            client.is_ipv6(),
        )
    });
    let words = [theirs, made.head, made.hash];
    words.into_iter().flat_map(u64::to_ne_bytes).collect()
}

impl Question {
    /// Its query from a client, and, if it has one, of that client's subnet.
    fn pattern(&self, client: IpAddr) -> Pattern {
        let mut query = Query::new(self.name, self.qtype);
        query = match self.opt {
            Opt::None => query,
            Opt::Plain => query.edns(1232),
            Opt::Subnet => query.edns(1232).subnet_of(client, 24),
            Opt::Cookie => query.edns(1232).option(COOKIE, CLIENT_COOKIE),
            Opt::GoodCookie => query.edns(1232).option(COOKIE, &good_cookie(client)),
        };
        let to = if client.is_ipv6() {
            SERVER_V6
        } else {
            SERVER_V4
        };
        let frame = Frame::new(&client.to_string(), to, query.bytes());
        let name_at = frame.dns() + 12 + 1;
        let mut pattern = Pattern {
            source: Clients::One,
            draw: Draw::Evenly,
            ..Pattern::new(frame.bytes())
        };
        // Zeros of the first label are the digits of a random number.
        let label = self.name.split('.').next().unwrap_or_default();
        if let Some(first) = label.find('0') {
            pattern.digits = name_at + first..name_at + label.len();
        }
        if self.opt == Opt::Subnet {
            // It is the last of the message.
            pattern.subnet = pattern.frame.len() - 3..pattern.frame.len();
        }
        pattern
    }

    /// Whether the answer depends on who asks.
    pub fn is_steered(&self) -> bool {
        self.name == NAME
    }

    /// Whether it has a cookie.
    pub fn has_cookie(&self) -> bool {
        matches!(self.opt, Opt::Cookie | Opt::GoodCookie)
    }
}

impl Scenario {
    /// Patterns for the generator.
    pub fn patterns(&self) -> Result<Vec<Pattern>> {
        let client = self.client()?;
        let mut patterns = Vec::new();
        for question in self.questions {
            let mut pattern = question.pattern(client);
            pattern.source = self.source;
            pattern.subnet_of = match question.opt {
                Opt::Subnet => Clients::Random,
                Opt::None | Opt::Plain | Opt::Cookie | Opt::GoodCookie => Clients::One,
            };
            patterns.extend(std::iter::repeat_n(pattern, question.weight));
        }
        // Not one kind after the other: a step that shares no factor with their number leads to each.
        let len = patterns.len();
        let step = [29, 1].into_iter().find(|step| len % step != 0);
        let order = (0..len).map(|place| place * step.unwrap_or(1) % len);
        Ok(order.map(|place| patterns[place].clone()).collect())
    }

    /// One query for each of its questions, from one client.
    pub fn singles(&self, client: IpAddr) -> Vec<(Question, Pattern)> {
        let questions = self.questions.iter();
        questions
            .map(|question| (*question, question.pattern(client)))
            .collect()
    }

    /// The client where there is but one: in Amsterdam, says the real list.
    fn client(&self) -> Result<IpAddr> {
        let client = if self.is_v6 {
            "2a00:1450::10"
        } else {
            "145.18.0.10"
        };
        Ok(client.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use geodns_tests::rig::TEMPLATES;

    #[test]
    fn every_query_of_a_scenario_has_its_turn() {
        for scenario in SCENARIOS {
            let patterns = scenario.patterns().unwrap();
            let weights = scenario.questions.iter().map(|question| question.weight);
            assert_eq!(patterns.len(), weights.sum::<usize>(), "{}", scenario.id);
            assert!(patterns.len() <= TEMPLATES, "{}", scenario.id);
            let first = &patterns[0];
            let alike = patterns
                .iter()
                .filter(|pattern| pattern.frame[44..] == first.frame[44..]);
            assert_eq!(
                alike.count(),
                scenario.questions[0].weight,
                "{}",
                scenario.id
            );
        }
    }
}
