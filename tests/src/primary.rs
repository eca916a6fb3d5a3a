//! A primary that says whatever it is told to, octet by octet: for transfers that no real server would send.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::dns::{A, AA, NS, QR, SOA, wire_name};
use crate::net::Space;

/// A question to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which of its addresses.
    pub at: IpAddr,
    /// Over TCP, not UDP.
    pub tcp: bool,
    /// The id.
    pub id: u16,
    /// Header bits.
    pub flags: u16,
    /// Name, in lower case, without its last dot.
    pub name: String,
    /// Type.
    pub qtype: u16,
    /// The question, as it came.
    pub question: Vec<u8>,
}

/// Its reaction.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a message.
    Send(Vec<u8>),
    /// Sends octets, without a length before them over TCP.
    Raw(Vec<u8>),
    /// Sends a message N times.
    Repeat(Vec<u8>, usize),
    /// Waits.
    Pause(Duration),
    /// Closes the connection.
    Close,
}

/// How often it was asked, by address, transport (`true`: TCP), name and type, and when first.
pub type Counts = BTreeMap<(IpAddr, bool, String, u16), (usize, Instant)>;

type Script = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

/// A primary at work, until the process ends.
#[derive(Clone)]
pub struct Primary {
    counts: Arc<Mutex<Counts>>,
    script: Script,
}

impl Primary {
    /// Starts one on port 53 of these addresses in a namespace, that does what a script says.
    pub fn start(
        space: &Space,
        addresses: &[IpAddr],
        script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Result<Self> {
        let primary = Self {
            counts: Arc::default(),
            script: Arc::new(script),
        };
        for &at in addresses {
            let (udp, tcp) = space.enter(|| {
                let cannot = || format!("cannot listen on {at}");
                let udp = UdpSocket::bind((at, 53)).with_context(cannot)?;
                Ok((udp, TcpListener::bind((at, 53)).with_context(cannot)?))
            })?;
            let of_udp = primary.clone();
            std::thread::spawn(move || of_udp.answer_udp(at, &udp));
            let of_tcp = primary.clone();
            std::thread::spawn(move || {
                while let Ok((stream, _)) = tcp.accept() {
                    let of_one = of_tcp.clone();
                    // Whoever is asked odd things closes oddly.
                    std::thread::spawn(move || drop(of_one.answer_tcp(at, stream)));
                }
            });
        }
        Ok(primary)
    }

    /// How often it was asked what.
    pub fn counts(&self) -> Counts {
        let counts = self.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn asked(&self, at: IpAddr, tcp: bool, query: &[u8]) -> Vec<Act> {
        let Some(asked) = asked(at, tcp, query) else {
            return Vec::new();
        };
        let acts = (self.script)(&asked);
        let key = (at, tcp, asked.name, asked.qtype);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert((0, Instant::now()));
        count.0 += 1;
        acts
    }

    fn answer_udp(&self, at: IpAddr, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            for act in self.asked(at, false, &buffer[..len]) {
                if let Act::Send(message) | Act::Raw(message) = act {
                    let _ = socket.send_to(&message, from);
                }
            }
        }
    }

    fn answer_tcp(&self, at: IpAddr, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            let mut query = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut query)?;
            for act in self.asked(at, true, &query) {
                match act {
                    Act::Send(message) => {
                        let len = message.len() as u16;
                        stream.write_all(&[&len.to_be_bytes(), &*message].concat())?;
                    }
                    Act::Repeat(message, times) => {
                        let octets = [&(message.len() as u16).to_be_bytes(), &*message].concat();
                        for _ in 0..times {
                            stream.write_all(&octets)?;
                        }
                    }
                    Act::Raw(octets) => stream.write_all(&octets)?,
                    Act::Pause(time) => std::thread::sleep(time),
                    Act::Close => return Ok(()),
                }
            }
        }
    }
}

fn asked(at: IpAddr, tcp: bool, query: &[u8]) -> Option<Asked> {
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    let mut labels = Vec::new();
    let mut place = 12;
    loop {
        let len = usize::from(*query.get(place)?);
        if len == 0 {
            break;
        }
        let label = query.get(place + 1..place + 1 + len)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        place += 1 + len;
    }
    Some(Asked {
        at,
        tcp,
        id: word(0)?,
        flags: word(2)?,
        name: labels.join("."),
        qtype: word(place + 1)?,
        question: query.get(12..place + 5)?.to_vec(),
    })
}

impl Asked {
    /// The name of a record, below the zone that is asked for: `@` is its apex, and what ends with a dot
    /// stands for itself.
    pub fn owner(&self, owner: &str) -> Vec<u8> {
        match owner {
            "@" => wire_name(&self.name),
            owner if owner.ends_with('.') => wire_name(owner.trim_end_matches('.')),
            owner => wire_name(&format!("{owner}.{}", self.name)),
        }
    }

    /// A record of class IN with a TTL of 60.
    pub fn rr(&self, owner: &str, rtype: u16, rdata: &[u8]) -> Vec<u8> {
        record(&self.owner(owner), rtype, 1, 60, rdata)
    }

    /// RDATA of the zone's SOA record.
    pub fn soa_rdata(&self, serial: u32) -> Vec<u8> {
        let mut rdata = [self.owner("ns"), self.owner("hm")].concat();
        for number in [serial, 3600, 3600, 86400, 60] {
            rdata.extend(number.to_be_bytes());
        }
        rdata
    }

    /// The zone's SOA record.
    pub fn soa(&self, serial: u32) -> Vec<u8> {
        self.rr("@", SOA, &self.soa_rdata(serial))
    }

    /// The records that a zone has, SOA apart.
    pub fn body(&self) -> Vec<Vec<u8>> {
        vec![
            self.rr("@", NS, &self.owner("ns")),
            self.rr("ns", A, &[192, 0, 2, 1]),
            self.rr("www", A, &[192, 0, 2, 2]),
        ]
    }

    /// A response with these records.
    pub fn message(&self, answer: &[Vec<u8>]) -> Message {
        Message {
            id: self.id,
            flags: QR | AA | (self.flags & 0x7800),
            questions: vec![self.question.clone()],
            answer: answer.to_vec(),
            ..Message::default()
        }
    }
}

/// A record.
pub fn record(owner: &[u8], rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut octets = owner.to_vec();
    octets.extend(rtype.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((rdata.len() as u16).to_be_bytes());
    octets.extend_from_slice(rdata);
    octets
}

/// A message, part by part.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The id.
    pub id: u16,
    /// The header's second 16 bits, the response code included.
    pub flags: u16,
    /// Questions.
    pub questions: Vec<Vec<u8>>,
    /// Answer section.
    pub answer: Vec<Vec<u8>>,
    /// Authority section.
    pub authority: Vec<Vec<u8>>,
    /// Additional section.
    pub additional: Vec<Vec<u8>>,
    /// Octets that follow.
    pub trailer: Vec<u8>,
}

impl Message {
    /// With these header bits turned over.
    pub fn turned(mut self, flags: u16) -> Self {
        self.flags ^= flags;
        self
    }

    /// Without a question.
    pub fn without_question(mut self) -> Self {
        self.questions.clear();
        self
    }

    /// On the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let sections = [
            &self.questions,
            &self.answer,
            &self.authority,
            &self.additional,
        ];
        let mut octets = [self.id.to_be_bytes(), self.flags.to_be_bytes()].concat();
        for section in sections {
            octets.extend((section.len() as u16).to_be_bytes());
        }
        octets.extend(sections.into_iter().flatten().flatten());
        octets.extend_from_slice(&self.trailer);
        octets
    }

    /// Sent.
    pub fn send(&self) -> Act {
        Act::Send(self.bytes())
    }
}
