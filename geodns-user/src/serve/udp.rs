//! UDP: a thread for each core, with a socket for each address, a batch of queries at a time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use geodns_common::scratch::Scratch;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::endpoint::Endpoint;
use super::guard::{Panicked, guarded};
use super::limiter::Admission;
use super::message::Transport;
use super::request::{Answer, Request};
use super::seen::Turn;
use super::shared::Shared;
use super::stats::{Counter, Tally};
use crate::dnstap::{Exchange, Protocol};
use crate::supervise;

/// Sockets that epoll tells of at once.
const EVENTS: usize = 64;
/// Stands for the wake-up among the events; no socket has this number.
const WAKE: u64 = u64::MAX;

/// A thread that answers on many sockets. Dropping it closes them.
#[derive(Debug)]
pub struct Worker {
    epoll: Arc<Epoll>,
    orders: mpsc::Sender<Order>,
    /// Wakes it, to look at its orders, or whether it is to end.
    wake: Arc<EventFd>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An order to a worker.
#[derive(Debug)]
enum Order {
    /// Answer on this socket too.
    Open(Endpoint, Socket),
    /// Close the socket of an address; the sender is dropped when it is.
    Close(Endpoint, oneshot::Sender<()>),
}

impl Worker {
    /// Starts a worker by its number.
    pub fn start(number: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let (orders, orders_in) = mpsc::channel();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let wake = Arc::new(wake);
        let end = Arc::new(AtomicBool::new(false));
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let mut work = Work {
            number,
            shared,
            epoll: Arc::clone(&epoll),
            sockets: HashMap::new(),
            orders: orders_in,
            wake: Arc::clone(&wake),
            end: Arc::clone(&end),
        };
        let thread = supervise::thread(format!("udp-{number}"), move || work.run())?;
        Ok(Self {
            epoll,
            orders,
            wake,
            end,
            thread: Some(thread),
        })
    }

    /// Answers on this socket from now on. Fails for want of kernel memory.
    pub fn open(&self, at: Endpoint, socket: Socket) -> io::Result<()> {
        // The worker passes over what epoll tells of it until the order is there.
        let event = EpollEvent::new(EpollFlags::EPOLLIN, name(&socket));
        self.epoll.add(&socket, event)?;
        self.order(Order::Open(at, socket));
        Ok(())
    }

    /// Closes the socket of an address; is done when it is closed.
    pub fn close(&self, at: Endpoint) -> impl Future<Output = ()> + use<> {
        let (closed, is_closed) = oneshot::channel();
        self.order(Order::Close(at, closed));
        async move {
            // An error: the sender was dropped, as it is meant to be.
            let _ = is_closed.await;
        }
    }

    fn order(&self, order: Order) {
        // It ends when we do, and not before.
        let _ = self.orders.send(order);
        self.wake();
    }

    fn wake(&self) {
        // It fails only if the counter is full, and then the worker is woken already.
        let _ = self.wake.write(1);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic outside of an answer has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The number that stands for a socket in epoll: its file descriptor.
fn name(socket: &Socket) -> u64 {
    socket.as_raw_fd() as u64
}

/// The worker's own side.
struct Work {
    number: usize,
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    /// By what epoll calls them.
    sockets: HashMap<u64, (Endpoint, Socket)>,
    orders: mpsc::Receiver<Order>,
    wake: Arc<EventFd>,
    end: Arc<AtomicBool>,
}

impl Work {
    fn run(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut desk = Desk {
            batch: Batch::new(),
            tally: Tally::default(),
            turn: Turn::default(),
            scratch: Box::default(),
        };
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "waiting for queries over UDP");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            for event in &events[..ready] {
                if event.data() == WAKE {
                    if self.end.load(Ordering::Relaxed) {
                        return;
                    }
                    self.obey();
                } else if let Some((at, socket)) = self.sockets.get(&event.data()) {
                    desk.serve(self.number, at, socket, &self.shared);
                }
            }
        }
    }

    fn obey(&mut self) {
        // Before the orders are looked at: one that comes later wakes us again.
        let _ = self.wake.read();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Open(at, socket) => {
                    self.sockets.insert(name(&socket), (at, socket));
                }
                Order::Close(closing, _closed) => {
                    self.sockets.retain(|_, (at, _)| *at != closing);
                }
            }
        }
    }
}

/// The buffers and counters of a worker.
struct Desk {
    batch: Batch,
    tally: Tally,
    turn: Turn,
    /// The limiter reads queries in it.
    scratch: Box<Scratch>,
}

impl Desk {
    /// Answers a batch of what has come to a socket. What is left makes epoll tell of it again, after
    /// the other sockets.
    fn serve(&mut self, worker: usize, at: &Endpoint, socket: &Socket, shared: &Shared) {
        let queries = match self.batch.receive(socket.as_fd()) {
            Ok(queries) => queries,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                // An error of one packet (ICMP) or of the whole system (memory): neither ends us.
                tracing::debug!(%error, "receiving over UDP");
                thread::sleep(Duration::from_millis(1));
                return;
            }
        };
        shared.arrivals.add(worker, self.batch.arrivals());
        let mut until_sampled = match shared.asked.is_wanted() {
            true => rand::random_range(0..queries.max(1)),
            false => queries,
        };
        let world = shared.world.load();
        let identity = shared.identity.load();
        let blocks = shared.blocks.load();
        let is_silent = shared.is_silent.load(Ordering::Relaxed);
        shared.handler.prefetch(&world, self.batch.queries());
        let limiter = shared.limiter.load();
        let tap = shared.tap.load();
        let mut limiting = limiter
            .as_ref()
            .map(|limiter| limiter.at(identity.cookies.as_ref(), &mut self.scratch));
        let (tally, turn) = (&mut self.tally, &mut self.turn);
        let mut answer = |message: &[u8], client: SocketAddr, response: &mut Vec<u8>| {
            // Nobody can be reached at port 0.
            if client.port() == 0 || is_silent {
                tally.message(Transport::Udp, None);
                return;
            }
            let mut request = Request {
                world: &world,
                notices: &shared.notices,
                identity: &identity,
                message,
                client: client.ip(),
                transport: Transport::Udp,
                bound: None,
            };
            if shared.is_own(request.client, at.address) {
                tally.add(Counter::OwnChecks);
                if !matches!(
                    shared.handler.answer(&request, response),
                    Ok(Answer::Message(_))
                ) {
                    response.clear();
                }
                return;
            }
            if request.is_blocked(&blocks) {
                tally.add(Counter::Blocked);
                tally.message(Transport::Udp, None);
                return;
            }
            if let Some(limiting) = &mut limiting {
                match limiting.admit(message, client.ip(), response) {
                    Admission::Granted(bound) => request.bound = bound,
                    Admission::LetPass => tally.add(Counter::LimitedDryRun),
                    Admission::Dropped => {
                        tally.add(Counter::LimitedDrop);
                        tally.message(Transport::Udp, None);
                        return;
                    }
                    Admission::Slipped(outcome) => {
                        tally.add(Counter::LimitedSlip);
                        tally.message(Transport::Udp, Some(&outcome));
                        return;
                    }
                }
            }
            if until_sampled == 0 {
                let (asked, client) = (&shared.asked, client.ip());
                // A query that cannot even be sampled is answered all the same.
                let _ = guarded(|| asked.sample(worker, &world, message, client, queries));
            }
            until_sampled = until_sampled.wrapping_sub(1);
            let outcome = match shared.handler.answer(&request, response) {
                Ok(Answer::Message(outcome)) => Some(outcome),
                Ok(Answer::Nothing | Answer::Stream(..)) => {
                    response.clear();
                    None
                }
                Err(Panicked) => {
                    tally.add(Counter::Panics);
                    Some(Panicked::OUTCOME)
                }
            };
            tally.message(Transport::Udp, outcome.as_ref());
            shared.seen.take(turn, outcome.as_ref());
            if let Some(outcome) = &outcome {
                outcome.count_mirror(&world, worker + 1);
            }
        };
        self.batch.answer(|message, client, response| {
            let tap = tap.as_ref().filter(|tap| tap.is_turn());
            let asked = tap.map(|_| SystemTime::now());
            answer(message, client, response);
            if let (Some(tap), Some(asked)) = (tap, asked)
                && !shared.is_own(client.ip(), at.address)
            {
                tap.take(Exchange {
                    asked,
                    answered: SystemTime::now(),
                    client,
                    server: SocketAddr::new(at.address, shared.port),
                    protocol: Protocol::Udp,
                    query: message.to_vec(),
                    response: (!response.is_empty()).then(|| response.clone()),
                });
            }
        });
        // Before they are sent: whoever has an answer finds it counted.
        shared.stats.merge(Some(worker), &mut self.tally);
        for _ in 0..self.batch.send(socket.as_fd()) {
            shared.stats.add(Counter::UdpSendFailed);
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
