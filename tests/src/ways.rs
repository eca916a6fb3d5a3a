//! The ways by which a query comes: plain packets, and those that the program cannot read, so that the slow path is
//! left to keep what the program promises.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;

use crate::dns::{PADDING, Query};
use crate::net::{Pair, at};
use crate::packet::{Frame, parse_mac};
use crate::tap::Tap;

/// A way for a query to come.
#[derive(Debug)]
pub struct Way {
    /// In words.
    pub what: &'static str,
    /// Over IPv6.
    pub is_v6: bool,
    /// Octets of padding in the query.
    pub filler: usize,
    /// Why the program passes it; empty: it answers.
    pub verdict: &'static str,
    /// The frames of a query, of which each has a number of its own.
    frames: fn(&Frame, u16) -> Vec<Vec<u8>>,
}

const fn way(
    what: &'static str,
    is_v6: bool,
    verdict: &'static str,
    frames: fn(&Frame, u16) -> Vec<Vec<u8>>,
) -> Way {
    Way {
        what,
        is_v6,
        filler: 0,
        verdict,
        frames,
    }
}

/// All of them.
pub const WAYS: [Way; 9] = [
    way("a plain packet", false, "", |frame, _| vec![frame.bytes()]),
    way("a plain packet of IPv6", true, "", |frame, _| {
        vec![frame.bytes()]
    }),
    way(
        "four octets of IPv4 options",
        false,
        "pass_ip_options",
        |frame, _| vec![frame.with_options(1)],
    ),
    way(
        "as many IPv4 options as there may be",
        false,
        "pass_ip_options",
        |frame, _| vec![frame.with_options(10)],
    ),
    way("hop-by-hop options", true, "pass_ip_options", |frame, _| {
        vec![frame.with_extension(0)]
    }),
    way(
        "destination options",
        true,
        "pass_ip_options",
        |frame, _| vec![frame.with_extension(60)],
    ),
    way("fragments", false, "pass_fragment", |frame, number| {
        frame.fragments(24, number).into()
    }),
    way(
        "fragments of IPv6",
        true,
        "pass_fragment",
        |frame, number| frame.fragments(24, number).into(),
    ),
    Way {
        filler: 600,
        ..way("a long message", false, "pass_message_size", |frame, _| {
            vec![frame.bytes()]
        })
    },
];

/// A client that asks by a way. What comes back is the socket's, and no other stack says that nobody is there.
#[derive(Debug)]
pub struct Asking<'a> {
    way: &'a Way,
    /// Takes the answers.
    pub socket: UdpSocket,
    tap: Tap,
    frame: Frame,
    number: u16,
}

impl<'a> Asking<'a> {
    /// From an address, which is the client's, to a server.
    pub fn new(pair: &Pair, way: &'a Way, client: IpAddr, server: &str) -> Result<Self> {
        let to: SocketAddr = at(server, 53)?;
        let socket = pair.client.udp(client, to)?;
        let mut frame = Frame::new(&client.to_string(), server, Vec::new());
        frame.ports[0] = socket.local_addr()?.port();
        frame.macs = [
            parse_mac(&pair.server.mac("eth0")?)?,
            parse_mac(&pair.client.mac("eth0")?)?,
        ];
        Ok(Self {
            way,
            socket,
            tap: Tap::new(&pair.client, "eth0")?,
            frame,
            number: 0,
        })
    }

    /// Sends a query. Gives the octets of its frames.
    pub fn send(&mut self, query: &Query) -> Result<u64> {
        self.frame.message = match self.way.filler {
            0 => query.bytes(),
            octets => query.clone().option(PADDING, &vec![0; octets]).bytes(),
        };
        self.number = self.number.wrapping_add(1);
        let mut octets = 0;
        for frame in (self.way.frames)(&self.frame, self.number) {
            octets += frame.len() as u64;
            self.tap.send(&frame)?;
        }
        Ok(octets)
    }

    /// Sends a query and gives what comes back within a time.
    pub fn ask(&mut self, query: &Query, patience: Duration) -> Result<Option<Vec<u8>>> {
        self.send(query)?;
        self.socket.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 2048];
        let received = self.socket.recv(&mut buffer).ok();
        Ok(received.map(|len| buffer[..len].to_vec()))
    }
}
