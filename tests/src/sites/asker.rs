//! A client that asks at a steady pace from one socket, and knows which answer came to each of its queries, and when.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::NAME;
use crate::dns::{A, Query};
use crate::net::Space;

/// Queries that are sent at a time.
const TICK: Duration = Duration::from_millis(1);
/// How long an answer may take after the last query, on a busy machine.
const LATE: Duration = Duration::from_secs(3);

/// The answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The site that gave it, by the last octet of the address; 0: an error.
    pub by: u8,
    /// When it came.
    pub at: Instant,
}

/// A query, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was sent.
    pub at: Instant,
    /// Its answer. `None`: it was lost.
    pub answer: Option<Answer>,
}

/// All that an asker has asked, in order.
#[derive(Debug)]
pub struct Course(pub Vec<Asked>);

impl Course {
    /// Queries without an answer.
    pub fn lost(&self) -> usize {
        let lost = |asked: &&Asked| asked.answer.is_none();
        self.0.iter().filter(lost).count()
    }

    /// Answers that are errors.
    pub fn errors(&self) -> usize {
        self.by(0)
    }

    /// Answers by a site.
    pub fn by(&self, site: u8) -> usize {
        let by = |asked: &&Asked| asked.answer.is_some_and(|answer| answer.by == site);
        self.0.iter().filter(by).count()
    }

    /// The time from an event to the first query that another site answered. `None`: no other site did.
    pub fn moved_from(&self, site: u8, event: Instant) -> Option<Duration> {
        let by_another = |asked: &&Asked| {
            let other = |answer: Answer| answer.by != 0 && answer.by != site;
            asked.at >= event && asked.answer.is_some_and(other)
        };
        let first = self.0.iter().find(by_another)?;
        Some(first.at - event)
    }

    /// The longest time in which no query got an answer.
    pub fn longest_gap(&self) -> Duration {
        let answered = self.0.iter().filter(|asked| asked.answer.is_some());
        let times: Vec<Instant> = answered.map(|asked| asked.at).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

/// An asker at work, on a thread of its own.
#[derive(Debug)]
pub struct Asker {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Course>>,
}

impl Asker {
    /// Asks for [`NAME`] from a namespace, N times a second.
    pub fn start(space: &Space, server: &str, per_second: u32) -> Result<Self> {
        let server: IpAddr = server.parse().context("no address")?;
        let any: IpAddr = if server.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = space.udp(any, SocketAddr::new(server, 53))?;
        // Answers of some ms wait in here while the machine is busy.
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
        let over = Arc::new(AtomicBool::new(false));
        let thread = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || ask(&socket, per_second, &over))
        };
        Ok(Self { over, thread })
    }

    /// Stops asking, and waits for answers that are late.
    pub fn finish(self) -> Result<Course> {
        self.over.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn ask(socket: &UdpSocket, per_second: u32, over: &AtomicBool) -> Result<Course> {
    let mut query = Query::new(NAME, A).bytes();
    let mut course: Vec<Asked> = Vec::new();
    // The last query of each DNS id.
    let mut latest = vec![usize::MAX; 1 << 16];
    let start = Instant::now();
    let pace = Duration::from_secs(1) / per_second;
    let mut end = None;
    loop {
        let now = Instant::now();
        if over.load(Ordering::Relaxed) && end.is_none() {
            end = Some(now + LATE);
        }
        match end {
            Some(end) if now > end || course.iter().all(|asked| asked.answer.is_some()) => break,
            Some(_) => {}
            None => {
                let due = ((now - start).as_nanos() / pace.as_nanos()) as usize;
                while course.len() < due {
                    let id = course.len() as u16;
                    query[..2].copy_from_slice(&id.to_be_bytes());
                    latest[usize::from(id)] = course.len();
                    let at = Instant::now();
                    course.push(Asked { at, answer: None });
                    // A query that finds no way, or whose sender hears of an earlier one that was refused, is lost.
                    let _ = socket.send(&query);
                }
            }
        }
        receive(socket, now + TICK, &latest, &mut course)?;
    }
    Ok(Course(course))
}

/// Takes answers until a moment.
fn receive(
    socket: &UdpSocket,
    until: Instant,
    latest: &[usize],
    course: &mut [Asked],
) -> Result<()> {
    let mut buffer = [0; 1500];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The host says that the port is closed, or that there is no route.
            Err(_) => continue,
        };
        let answer = &buffer[..length];
        if length < 12 {
            continue;
        }
        let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
        let Some(asked) = course.get_mut(latest[id]) else {
            continue;
        };
        let is_answer = answer[3] & 15 == 0 && answer[7] > 0;
        let by = if is_answer { answer[length - 1] } else { 0 };
        asked.answer.get_or_insert(Answer {
            by,
            at: Instant::now(),
        });
    }
}
