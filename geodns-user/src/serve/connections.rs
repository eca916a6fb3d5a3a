//! How many TCP connections there may be, and who has to go when more come. TLS has seats of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use std::net::IpAddr;

use tokio::sync::Notify;

use super::stats::{Counter, Stats};
use crate::base::lock::lock;
use crate::base::seats::{Number, Seats};

/// The connections that there are, and of whom.
#[derive(Debug)]
pub struct Connections {
    idle: Duration,
    stats: Arc<Stats>,
    tcp: Kind,
    tls: Kind,
}

/// Those of TCP, or those of TLS.
#[derive(Debug)]
struct Kind {
    /// With each seat, who is told that it is lost.
    seats: Mutex<Seats<Arc<Notify>>>,
    is_crowded: AtomicBool,
}

impl Kind {
    fn new(limit: usize) -> Self {
        Self {
            seats: Mutex::new(Seats::new(limit)),
            is_crowded: AtomicBool::new(false),
        }
    }

    /// Changes the seats. Gives what the change gives.
    fn change<T>(&self, change: impl FnOnce(&mut Seats<Arc<Notify>>) -> T) -> T {
        let mut seats: MutexGuard<'_, _> = lock(&self.seats);
        let changed = change(&mut seats);
        let is_crowded = seats.is_crowded();
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
        changed
    }
}

impl Connections {
    /// None yet, and no TLS: N seats, and how long to wait for a client.
    pub fn new(seats: usize, idle: Duration, stats: Arc<Stats>) -> Self {
        Self {
            idle,
            stats,
            tcp: Kind::new(seats),
            tls: Kind::new(1),
        }
    }

    /// From here on there are N seats. Where TLS is spoken, half of them are for TLS alone.
    pub fn set_limit(&self, seats: usize, with_tls: bool) {
        let tls = if with_tls { seats / 2 } else { 0 };
        for (kind, limit) in [(&self.tcp, seats - tls), (&self.tls, tls)] {
            let lost = kind.change(|seats| seats.set_limit(limit));
            self.tell(&lost);
        }
    }

    /// How long to wait for a client: less when there are many.
    pub fn patience(&self, with_tls: bool) -> Duration {
        match self.kind(with_tls).is_crowded.load(Ordering::Relaxed) {
            true => self.idle / 5,
            false => self.idle,
        }
    }

    fn kind(&self, with_tls: bool) -> &Kind {
        if with_tls { &self.tls } else { &self.tcp }
    }

    /// Tells connections that they have lost their seats.
    fn tell(&self, lost: &[Arc<Notify>]) {
        for lost in lost {
            self.stats.add(Counter::TcpDisplaced);
            lost.notify_one();
        }
    }
}

/// A seat among the connections; given back on drop.
pub struct Seat {
    connections: Arc<Connections>,
    with_tls: bool,
    number: Number,
    lost: Arc<Notify>,
    /// Answers that the client is being sent.
    answers: AtomicUsize,
}

impl Seat {
    /// Takes a seat for a client. If there is none, another connection loses its own.
    pub fn take(connections: &Arc<Connections>, client: IpAddr, with_tls: bool) -> Self {
        let lost = Arc::new(Notify::new());
        let (number, others) = connections
            .kind(with_tls)
            .change(|seats| seats.take(client, Instant::now(), Arc::clone(&lost)));
        connections.tell(&others);
        connections.stats.add(Counter::TcpOpen);
        Self {
            connections: Arc::clone(connections),
            with_tls,
            number,
            lost,
            answers: AtomicUsize::new(0),
        }
    }

    /// Returns when the seat is lost to another connection.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// How long to wait for the client.
    pub fn patience(&self) -> Duration {
        self.connections.patience(self.with_tls)
    }

    /// The client has asked something: it has been idle since then only.
    pub fn asked(&self) {
        if self.answers.load(Ordering::Relaxed) == 0 {
            self.change(Seats::rest);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seats<Arc<Notify>>, Number, Instant)) {
        let kind = self.connections.kind(self.with_tls);
        kind.change(|seats| change(seats, self.number, Instant::now()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.change(|seats, number, _| seats.leave(number));
        self.connections.stats.subtract(Counter::TcpOpen);
    }
}

/// As long as it lives, the client is being sent an answer that takes its time.
pub struct Answering(Arc<Seat>);

impl Answering {
    /// Begins.
    pub fn begin(seat: &Arc<Seat>) -> Self {
        seat.change(|seats, number, now| {
            if seat.answers.fetch_add(1, Ordering::Relaxed) == 0 {
                seats.work(number, now);
            }
        });
        Self(Arc::clone(seat))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.change(|seats, number, now| {
            if self.0.answers.fetch_sub(1, Ordering::Relaxed) == 1 {
                seats.rest(number, now);
            }
        });
    }
}
