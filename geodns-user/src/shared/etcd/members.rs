//! The members of etcd: which one is asked. The first of the configuration, of this site, has precedence; the others
//! are asked while it is of no use.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::connect::{Member, connect};
use super::failed::{self, Failed};
use super::grpc::Failure;
use crate::base::lock::lock;
use crate::config::Fleet;
use crate::shared::{Kind, Trouble};

/// No connection is made for this time after one has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A call that a member has refused does not wait longer than this for a member that has failed before. The connection
/// is made meanwhile, for calls that come later.
const HOPE: Duration = Duration::from_millis(20);

/// All members, with the connections to them.
#[derive(Debug)]
pub struct Members {
    fleet: Arc<Fleet>,
    /// By the number of the endpoint.
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever waits for a connection.
    link: tokio::sync::Mutex<Link>,
    /// The last attempt, if it has failed.
    failed: Mutex<Option<(Instant, Trouble)>>,
}

#[derive(Debug, Default)]
struct Link {
    member: Option<Arc<Member>>,
    /// A connection that is being made.
    coming: Option<JoinHandle<Result<Member, Trouble>>>,
}

impl Members {
    /// Makes no connection yet.
    pub fn new(fleet: Fleet) -> Self {
        let slots = fleet.etcd.iter().map(|_| Slot::default()).collect();
        let fleet = Arc::new(fleet);
        Self { fleet, slots }
    }

    /// Makes a call to one member after the other, until one answers, or it is clear that none will.
    pub async fn ask<A, F>(&self, call: impl Fn(Arc<Member>) -> F) -> Result<A, Failed>
    where
        F: Future<Output = Result<A, Failure>>,
    {
        let mut worst: Option<Failed> = None;
        let mut others = 0;
        for number in 0..self.slots.len() {
            let answered = worst.as_ref().is_some_and(|failed| failed.answered);
            let failed = match self.member(number, answered).await {
                Err(trouble) => Failed {
                    trouble,
                    maybe_done: false,
                    elsewhere: true,
                    broken: false,
                    answered: false,
                },
                Ok(member) => match call(Arc::clone(&member)).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => {
                        let failed = failed::judge(&member.endpoint, failure);
                        if failed.broken {
                            self.forget(&member, &failed.trouble).await;
                        }
                        failed
                    }
                },
            };
            let go_on = failed.elsewhere;
            worst = Some(match worst {
                None => failed,
                Some(before) => {
                    others += 1;
                    let maybe_done = before.maybe_done || failed.maybe_done;
                    let answered = before.answered || failed.answered;
                    let more = rank(failed.trouble.kind) > rank(before.trouble.kind);
                    let worse = if more { failed } else { before };
                    Failed {
                        maybe_done,
                        answered,
                        ..worse
                    }
                }
            });
            if !go_on {
                break;
            }
        }
        let mut failed = worst.unwrap_or_else(|| Failed {
            trouble: Trouble::new(Kind::Other, "fleet.etcd names no endpoint"),
            maybe_done: false,
            elsewhere: false,
            broken: false,
            answered: false,
        });
        match others {
            0 => {}
            1 => failed.trouble.line += " (the other endpoint is of no use either)",
            _ => {
                failed.trouble.line +=
                    &format!(" (the other {others} endpoints are of no use either)");
            }
        }
        Err(failed)
    }

    /// Ends the connection to a member that is of no use.
    pub async fn forget(&self, member: &Arc<Member>, why: &Trouble) {
        let endpoints = self.fleet.etcd.iter();
        for (_, slot) in endpoints
            .zip(&self.slots)
            .filter(|(endpoint, _)| **endpoint == member.endpoint)
        {
            let mut link = slot.link.lock().await;
            if link
                .member
                .as_ref()
                .is_some_and(|there| Arc::ptr_eq(there, member))
            {
                link.member = None;
                *lock(&slot.failed) = Some((Instant::now(), why.clone()));
            }
        }
    }

    /// A connection to a member. `hurry`: another member has answered.
    async fn member(&self, number: usize, hurry: bool) -> Result<Arc<Member>, Trouble> {
        let slot = &self.slots[number];
        let failed = lock(&slot.failed).clone();
        match failed {
            Some((_, trouble)) if hurry => {
                let made = timeout(HOPE, self.connected(number)).await;
                made.unwrap_or(Err(trouble))
            }
            _ => self.connected(number).await,
        }
    }

    /// The connection that is there, or else a new one. Giving up the wait leaves the attempt to the next caller.
    async fn connected(&self, number: usize) -> Result<Arc<Member>, Trouble> {
        let slot = &self.slots[number];
        let mut link = slot.link.lock().await;
        if let Some(member) = &link.member
            && !member.connection.is_closed()
        {
            return Ok(Arc::clone(member));
        }
        link.member = None;
        if let (Some((at, trouble)), None) = (&*lock(&slot.failed), &link.coming)
            && at.elapsed() < PAUSE
        {
            return Err(trouble.clone());
        }
        let fleet = Arc::clone(&self.fleet);
        let begin = || tokio::spawn(async move { connect(&fleet, &fleet.etcd[number]).await });
        let made = link.coming.get_or_insert_with(begin).await;
        link.coming = None;
        let made = made.unwrap_or_else(|error| Err(Trouble::new(Kind::Other, error.to_string())));
        let member = made.inspect_err(|trouble| {
            *lock(&slot.failed) = Some((Instant::now(), trouble.clone()));
        });
        let member = Arc::new(member?);
        link.member = Some(Arc::clone(&member));
        *lock(&slot.failed) = None;
        Ok(member)
    }
}

/// Rank of a trouble: the highest of several is told.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Full | Kind::Forbidden => 6,
        Kind::NoQuorum => 5,
        Kind::Certificate => 4,
        Kind::Version => 3,
        Kind::Other => 2,
        Kind::Slow => 1,
        Kind::Unreachable => 0,
    }
}
