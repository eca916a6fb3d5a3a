//! The members of etcd: which one is asked. The first of the configuration, of this site, has precedence; the others
//! are asked while it is of no use.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Member, connect};
use super::failed::{self, Failed};
use super::grpc::Failure;
use crate::config::Fleet;
use crate::shared::{Kind, Trouble};

/// A member that has failed is not asked for this time.
const PAUSE: Duration = Duration::from_secs(1);

/// All members, with the connections to them.
#[derive(Debug)]
pub struct Members {
    fleet: Fleet,
    /// By the number of the endpoint.
    slots: Vec<Mutex<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    member: Option<Arc<Member>>,
    failed: Option<(Instant, Trouble)>,
}

impl Members {
    /// Makes no connection yet.
    pub fn new(fleet: Fleet) -> Self {
        let slots = fleet.etcd.iter().map(|_| Mutex::default()).collect();
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
            let failed = match self.member(number).await {
                Err(trouble) => Failed {
                    trouble,
                    maybe_done: false,
                    elsewhere: true,
                    broken: false,
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
                    let more = rank(failed.trouble.kind) > rank(before.trouble.kind);
                    let worse = if more { failed } else { before };
                    Failed {
                        maybe_done,
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
        for slot in &self.slots {
            let mut slot = slot.lock().await;
            let is_it = |there: &Arc<Member>| Arc::ptr_eq(there, member);
            if slot.member.as_ref().is_some_and(is_it) {
                slot.member = None;
                slot.failed = Some((Instant::now(), why.clone()));
            }
        }
    }

    async fn member(&self, number: usize) -> Result<Arc<Member>, Trouble> {
        let mut slot = self.slots[number].lock().await;
        if let Some(member) = &slot.member
            && !member.connection.is_closed()
        {
            return Ok(Arc::clone(member));
        }
        slot.member = None;
        if let Some((at, trouble)) = &slot.failed
            && at.elapsed() < PAUSE
        {
            return Err(trouble.clone());
        }
        match connect(&self.fleet, &self.fleet.etcd[number]).await {
            Ok(member) => {
                let member = Arc::new(member);
                slot.member = Some(Arc::clone(&member));
                slot.failed = None;
                Ok(member)
            }
            Err(trouble) => {
                slot.failed = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }
}

/// Of several troubles, the one that tells most about the cluster is told.
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
