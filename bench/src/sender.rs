//! Sends prepared frames through a packet socket: what a paced load is made of.
//!
//! A test run with live frames makes a pool of pages each time it is called, which takes some 60
//! microseconds: too much for bursts of a few frames. The frames come of the same program, though.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use geodns::kernel::mmap::Mapping;
use geodns_tests::net::Space;
use geodns_tests::rig::Rig;
use nix::time::{ClockId, clock_gettime};

/// Frames that are prepared for a load: one for each DNS id.
pub const FRAMES: usize = 65_536;
/// Frames that one call sends.
const CALL: usize = 64;

/// Frames, one behind the other.
#[derive(Debug)]
pub struct Frames {
    octets: Vec<u8>,
    /// Where each begins, and the end.
    starts: Vec<usize>,
}

impl Frames {
    /// Has the rig's `generate` make N, as it is set up, the longest of this length. Each CPU counts its own
    /// DNS ids, so no two of them are alike only where this thread stays on one.
    pub fn made(rig: &mut Rig, longest: usize, count: usize) -> Result<Self> {
        let mut frames = Self {
            octets: Vec::new(),
            starts: vec![0],
        };
        let data = vec![0; longest + 1];
        let mut out = vec![0; longest + 1];
        let program = rig.program("generate")?;
        for _ in 0..count {
            let mut options = TestRunOptions::new();
            options.data_in = Some(&data);
            options.data_out = Some(&mut out);
            let result = program.test_run(options).context("cannot generate")?;
            ensure!(result.return_value == 3, "no query was generated");
            let frame = out.get(..result.data_size_out as usize);
            frames.octets.extend(frame.context("a longer frame")?);
            frames.starts.push(frames.octets.len());
        }
        Ok(frames)
    }

    fn get(&self, number: usize) -> &[u8] {
        let at = number % (self.starts.len() - 1);
        &self.octets[self.starts[at]..self.starts[at + 1]]
    }

    /// The DNS id of one.
    fn id(&self, number: usize) -> u16 {
        let frame = self.get(number);
        // Behind Ethernet, IPv6 or IPv4, and UDP.
        let at = if frame[12] == 0x86 { 62 } else { 42 };
        u16::from_be_bytes([frame[at], frame[at + 1]])
    }
}

/// A packet socket on an interface that sends such frames in turn.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    frames: Arc<Frames>,
    sent: usize,
}

impl Sender {
    /// On `eth0` of a namespace.
    pub fn new(space: &Space, frames: Arc<Frames>) -> Result<Self> {
        let socket = space.enter(|| Ok(socket("eth0")?))?;
        Ok(Self {
            socket,
            frames,
            sent: 0,
        })
    }

    /// Sends N, and notes when, if there is where: by DNS id.
    pub fn send(&mut self, frames: usize, times: Option<&Mapping>) -> Result<()> {
        let mut left = frames;
        while left > 0 {
            let now = times
                .is_some()
                .then(|| clock_gettime(ClockId::CLOCK_MONOTONIC));
            let call = left.min(CALL);
            let mut parts: [libc::iovec; CALL] = [libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            }; CALL];
            for (place, part) in parts.iter_mut().take(call).enumerate() {
                let number = self.sent + place;
                let frame = self.frames.get(number);
                part.iov_base = frame.as_ptr().cast_mut().cast();
                part.iov_len = frame.len();
                if let (Some(times), Some(Ok(now))) = (times, &now) {
                    let id = self.frames.id(number);
                    let now = Duration::from(*now).as_nanos() as u64;
                    times.store_u64(id.into(), 0, now);
                }
            }
            let mut messages: [libc::mmsghdr; CALL] = std::array::from_fn(|place| {
                // SAFETY: zeros are a valid message.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = &raw mut parts[place];
                message.msg_hdr.msg_iovlen = 1;
                message
            });
            let socket = self.socket.as_raw_fd();
            // SAFETY: as many messages as are said; their parts and frames outlive the call, and are only read.
            let done = unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), call as u32, 0) };
            let done = usize::try_from(done).map_err(|_| io::Error::last_os_error());
            let done = done.context("cannot send frames")?;
            ensure!(done > 0, "no frame is sent");
            self.sent += done;
            left -= done;
        }
        Ok(())
    }
}

/// A packet socket that only sends, past the interface's queue.
fn socket(interface: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let checked = |result: libc::c_int| match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: a new socket; nobody else has its descriptor.
    let socket = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0))?)
    };
    let on: libc::c_int = 1;
    // SAFETY: zeros are a valid address; the option and the address outlive the calls, and are of the sizes
    // given.
    unsafe {
        checked(libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        ))?;
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        checked(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        ))?;
    }
    Ok(socket)
}

/// The rig's table of when which query was sent, to be written.
pub fn sent_times(rig: &Rig) -> Result<Mapping> {
    let map = rig.sent()?;
    Mapping::new(map.as_fd(), 8, FRAMES as u32).context("cannot map the rig's SENT")
}
