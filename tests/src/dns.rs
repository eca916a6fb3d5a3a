//! Questions byte by byte, well-formed and not, and what came back.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::base::iana::Rtype;
use domain::base::opt::UnknownOptData;
use domain::base::{Message, ParsedRecord};
use domain::rdata::AllRecordData;

/// `A`
pub const A: u16 = 1;
/// `NS`
pub const NS: u16 = 2;
/// `CNAME`
pub const CNAME: u16 = 5;
/// `SOA`
pub const SOA: u16 = 6;
/// `MX`
pub const MX: u16 = 15;
/// `TXT`
pub const TXT: u16 = 16;
/// `AAAA`
pub const AAAA: u16 = 28;
/// `SRV`
pub const SRV: u16 = 33;
/// `OPT`
pub const OPT: u16 = 41;
/// `HTTPS`
pub const HTTPS: u16 = 65;
/// `IXFR`
pub const IXFR: u16 = 251;
/// `AXFR`
pub const AXFR: u16 = 252;
/// `ANY`
pub const ANY: u16 = 255;

/// EDNS option: name server identifier (RFC 5001).
pub const NSID: u16 = 3;
/// EDNS option: client subnet (RFC 7871).
pub const ECS: u16 = 8;
/// EDNS option: cookie (RFC 7873).
pub const COOKIE: u16 = 10;
/// EDNS option: padding (RFC 7830).
pub const PADDING: u16 = 12;

/// A name in wire format, letters as they are; no escapes.
pub fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("a label's length fits"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// An EDNS OPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edns {
    /// UDP payload size.
    pub size: u16,
    /// Version.
    pub version: u8,
    /// Flags; DO is the highest bit.
    pub flags: u16,
    /// Options.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A query in the making. What is set here is sent, sensible or not.
#[derive(Clone, Debug)]
pub struct Query {
    /// Message id.
    pub id: u16,
    /// Second 16 bits of the header.
    pub flags: u16,
    /// Question name, as on the wire.
    pub name: Vec<u8>,
    /// Question type.
    pub qtype: u16,
    /// Question class.
    pub class: u16,
    /// OPT, if any.
    pub edns: Option<Edns>,
    /// Counts of the header, where they are to differ from what follows it.
    pub counts: Option<[u16; 4]>,
    /// Bytes after everything else.
    pub trailer: Vec<u8>,
}

/// Header bit: response.
pub const QR: u16 = 1 << 15;
/// Header bit: authoritative answer.
pub const AA: u16 = 1 << 10;
/// Header bit: truncated.
pub const TC: u16 = 1 << 9;
/// Header bit: recursion desired.
pub const RD: u16 = 1 << 8;
/// Header bit: recursion available.
pub const RA: u16 = 1 << 7;
/// Header bit: reserved.
pub const Z: u16 = 1 << 6;
/// Header bit: authentic data.
pub const AD: u16 = 1 << 5;
/// Header bit: checking disabled.
pub const CD: u16 = 1 << 4;

impl Query {
    /// A plain query, class IN, no flags, no EDNS.
    pub fn new(name: &str, qtype: u16) -> Self {
        Self {
            id: rand::random(),
            flags: 0,
            name: wire_name(name),
            qtype,
            class: 1,
            edns: None,
            counts: None,
            trailer: Vec::new(),
        }
    }

    /// With these header bits.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// With an OPT of this payload size.
    pub fn edns(mut self, size: u16) -> Self {
        self.edns = Some(Edns {
            size,
            version: 0,
            flags: 0,
            options: Vec::new(),
        });
        self
    }

    fn opt(&mut self) -> &mut Edns {
        self.edns.get_or_insert(Edns {
            size: 1232,
            version: 0,
            flags: 0,
            options: Vec::new(),
        })
    }

    /// With DO.
    pub fn dnssec_ok(mut self) -> Self {
        self.opt().flags |= 1 << 15;
        self
    }

    /// With an EDNS option.
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        self.opt().options.push((code, data.to_vec()));
        self
    }

    /// With the client subnet of an address.
    pub fn subnet_of(self, address: IpAddr, source: u8) -> Self {
        let octets = usize::from(source).div_ceil(8);
        let net = ipnet::IpNet::new(address, source).expect("no longer than the address");
        match net.trunc().addr() {
            IpAddr::V4(v4) => self.subnet(1, source, 0, &v4.octets()[..octets]),
            IpAddr::V6(v6) => self.subnet(2, source, 0, &v6.octets()[..octets]),
        }
    }

    /// With a client subnet.
    pub fn subnet(self, family: u16, source: u8, scope: u8, address: &[u8]) -> Self {
        let mut data = family.to_be_bytes().to_vec();
        data.extend([source, scope]);
        data.extend_from_slice(address);
        self.option(ECS, &data)
    }

    /// On the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let counts = self
            .counts
            .unwrap_or([1, 0, 0, u16::from(self.edns.is_some())]);
        let mut bytes = Vec::new();
        for word in [self.id, self.flags].into_iter().chain(counts) {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend_from_slice(&self.name);
        bytes.extend(self.qtype.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        if let Some(edns) = &self.edns {
            bytes.push(0);
            bytes.extend(OPT.to_be_bytes());
            bytes.extend(edns.size.to_be_bytes());
            bytes.extend([0, edns.version]);
            bytes.extend(edns.flags.to_be_bytes());
            let length: usize = edns.options.iter().map(|(_, data)| 4 + data.len()).sum();
            bytes.extend(u16::try_from(length).expect("options fit").to_be_bytes());
            for (code, data) in &edns.options {
                bytes.extend(code.to_be_bytes());
                bytes.extend(
                    u16::try_from(data.len())
                        .expect("an option fits")
                        .to_be_bytes(),
                );
                bytes.extend_from_slice(data);
            }
        }
        bytes.extend_from_slice(&self.trailer);
        bytes
    }
}

/// Sends a message from a connected socket and waits for the response with its id; `None` when
/// there is none in time.
pub fn ask(socket: &UdpSocket, message: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
    ensure!(
        message.len() >= 2,
        "a message without an id cannot be waited for"
    );
    socket.send(message).context("cannot send a query")?;
    let end = Instant::now() + patience;
    let mut buffer = vec![0; 65_535];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(length) if length >= 2 && buffer[..2] == message[..2] => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot receive a response"),
        }
    }
}

/// Sends a message over TCP, and reads what comes back.
pub fn ask_tcp(stream: &mut TcpStream, message: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(message.len())?.to_be_bytes();
    stream.write_all(&[&length, message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// A response, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The header's second 16 bits, RCODE included.
    pub flags: u16,
    /// RCODE, extended by the OPT.
    pub rcode: u16,
    /// Answer section, each record as `TTL TYPE RDATA`.
    pub answers: Vec<String>,
    /// Authority section, each record as `OWNER TTL TYPE RDATA`.
    pub authority: Vec<String>,
    /// Additional section without the OPT, as the authority.
    pub additional: Vec<String>,
    /// OPT.
    pub opt: Option<Edns>,
    /// Octets on the wire.
    pub length: usize,
}

impl Reply {
    /// Reads a message. Anything left over after the last record is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let message =
            Message::from_octets(bytes).map_err(|_| anyhow::anyhow!("shorter than a header"))?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let flags = word(2);
        let mut reply = Self {
            flags,
            rcode: flags & 15,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            opt: None,
            length: bytes.len(),
        };
        let mut section = message.answer()?;
        for record in &mut section {
            let record = record?;
            let answer = format!("{} {}", record.ttl().as_secs(), rdata(&record)?);
            reply.answers.push(answer);
        }
        let mut section = section.next_section()?.context("no authority section")?;
        for record in &mut section {
            reply.authority.push(line(&record?)?);
        }
        let mut section = section.next_section()?.context("no additional section")?;
        for record in &mut section {
            let record = record?;
            if record.rtype() != Rtype::OPT {
                reply.additional.push(line(&record)?);
                continue;
            }
            ensure!(reply.opt.is_none(), "two OPT records");
            let ttl = record.ttl().as_secs();
            reply.rcode |= (ttl >> 24 << 4) as u16;
            let opt = record
                .to_record::<domain::base::opt::Opt<_>>()?
                .context("an OPT that is none")?;
            let mut options = Vec::new();
            for option in opt.data().iter::<UnknownOptData<_>>() {
                let option = option?;
                options.push((option.code().to_int(), option.data().to_vec()));
            }
            reply.opt = Some(Edns {
                size: record.class().to_int(),
                version: (ttl >> 16) as u8,
                flags: ttl as u16,
                options,
            });
        }
        let end = section.pos();
        ensure!(
            end == bytes.len(),
            "{} octets after the last record",
            bytes.len() - end
        );
        Ok(reply)
    }

    /// Addresses of the answer in a line, or the name of its RCODE.
    pub fn addresses(&self) -> String {
        match self.rcode {
            0 => [self.of("A"), self.of("AAAA")].concat().join(" "),
            _ => self.status(),
        }
    }

    /// RDATA of the answers of a type, in order.
    pub fn of(&self, rtype: &str) -> Vec<&str> {
        self.answers
            .iter()
            .filter_map(|answer| {
                let mut parts = answer.splitn(3, ' ');
                parts.next();
                (parts.next() == Some(rtype)).then(|| parts.next().unwrap_or(""))
            })
            .collect()
    }

    /// SCOPE of the client subnet, if there is one.
    pub fn scope(&self) -> Option<u8> {
        let options = &self.opt.as_ref()?.options;
        let (_, data) = options.iter().find(|(code, _)| *code == ECS)?;
        data.get(3).copied()
    }

    /// RCODE by name.
    pub fn status(&self) -> String {
        match self.rcode {
            0 => "NOERROR".into(),
            1 => "FORMERR".into(),
            2 => "SERVFAIL".into(),
            3 => "NXDOMAIN".into(),
            4 => "NOTIMP".into(),
            5 => "REFUSED".into(),
            9 => "NOTAUTH".into(),
            16 => "BADVERS".into(),
            23 => "BADCOOKIE".into(),
            other => format!("RCODE{other}"),
        }
    }
}

impl fmt::Display for Reply {
    /// A line of it: `NOERROR aa 60 A 192.0.2.10; edns 1232`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())?;
        for (bit, name) in [
            (AA, "aa"),
            (TC, "tc"),
            (RD, "rd"),
            (RA, "ra"),
            (Z, "z"),
            (AD, "ad"),
            (CD, "cd"),
        ] {
            if self.flags & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        for answer in &self.answers {
            write!(f, " | {answer}")?;
        }
        for record in &self.authority {
            write!(f, " | authority {record}")?;
        }
        for record in &self.additional {
            write!(f, " | additional {record}")?;
        }
        if let Some(Edns {
            size,
            version,
            flags,
            options,
        }) = &self.opt
        {
            write!(f, " | edns {version} size {size} flags {flags:#06x}")?;
            for (code, data) in options {
                write!(f, " option {code} {data:02x?}")?;
            }
        }
        Ok(())
    }
}

fn line(record: &ParsedRecord<'_, &[u8]>) -> Result<String> {
    Ok(format!(
        "{} {} {}",
        record.owner(),
        record.ttl().as_secs(),
        rdata(record)?
    ))
}

fn rdata(record: &ParsedRecord<'_, &[u8]>) -> Result<String> {
    let data = record
        .to_record::<AllRecordData<_, _>>()?
        .context("no such record data")?;
    Ok(format!("{} {}", record.rtype(), data.data()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_laid_out_as_rfc_1035_says() {
        let mut query = Query::new("www.Example.org", AAAA).flags(RD).edns(1232);
        query.id = 0x1234;
        let expected =
            b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x03www\x07Example\x03org\0\0\x1c\0\x01\
            \0\0\x29\x04\xd0\0\0\0\0\0\0";
        assert_eq!(query.bytes(), expected);
    }

    #[test]
    fn a_reply_is_read_with_its_records_and_opt() {
        let bytes = b"\x12\x34\x85\x00\0\x01\0\x01\0\0\0\x01\x03www\x02ex\0\0\x01\0\x01\
            \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x0a\0\0\x29\x04\xd0\0\0\x80\0\0\0";
        let reply = Reply::parse(bytes).unwrap();
        assert_eq!(reply.of("A"), ["192.0.2.10"]);
        assert_eq!(
            reply.to_string(),
            "NOERROR aa rd | 60 A 192.0.2.10 | edns 0 size 1232 flags 0x8000"
        );
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Reply::parse(&longer).is_err());
    }
}
