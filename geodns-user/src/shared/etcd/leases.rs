//! Leases in etcd: those of names of writes, of entries that stay for a time, and of entries that stay as long as this
//! node lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::REQUEST;
use super::failed::Failed;
use super::grpc::{Failure, code};
use super::members::Members;
use super::message::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use crate::base::lock::lock;
use crate::shared::{Lease, REPEATABLE};

/// All leases of this client.
#[derive(Debug)]
pub struct Leases {
    members: Arc<Members>,
    /// The one of names of writes, and since when. It lasts twice as long as it is used.
    names: Mutex<Option<(i64, Instant)>>,
    /// Those that are kept alive, by their seconds.
    alive: Mutex<HashMap<u64, i64>>,
    /// Held while one of those is granted.
    granting: tokio::sync::Mutex<()>,
}

impl Leases {
    pub fn new(members: Arc<Members>) -> Self {
        Self {
            members,
            names: Mutex::default(),
            alive: Mutex::default(),
            granting: tokio::sync::Mutex::default(),
        }
    }

    /// The lease for the name of a write that is made now.
    pub async fn of_name(&self) -> Result<i64, Failed> {
        let known = *lock(&self.names);
        if let Some((id, since)) = known
            && since.elapsed() < REPEATABLE
        {
            return Ok(id);
        }
        let id = self.grant(2 * REPEATABLE.as_secs()).await?;
        *lock(&self.names) = Some((id, Instant::now()));
        Ok(id)
    }

    /// The lease for an entry.
    pub async fn of_entry(self: &Arc<Self>, lease: Option<Lease>) -> Result<i64, Failed> {
        let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        match lease {
            None => Ok(0),
            Some(Lease::For(time)) => self.grant(seconds(time)).await,
            Some(Lease::WhileAlive(time)) => {
                let ttl = seconds(time).max(2);
                // One at a time: of two leases for the same seconds, one alone would be kept alive.
                let _alone = self.granting.lock().await;
                let known = lock(&self.alive).get(&ttl).copied();
                if let Some(id) = known {
                    return Ok(id);
                }
                let id = self.grant(ttl).await?;
                lock(&self.alive).insert(ttl, id);
                tokio::spawn(keep(Arc::downgrade(self), ttl, id));
                Ok(id)
            }
        }
    }

    /// Forgets those that the store does not know any more: there is one.
    pub async fn forget_lost(&self) {
        *lock(&self.names) = None;
        let alive = lock(&self.alive).clone();
        for (ttl, id) in alive {
            if let Ok(false) = self.renew(id).await {
                lock(&self.alive).remove(&ttl);
            }
        }
    }

    /// Grants a lease, of two seconds at the least.
    pub async fn grant(&self, seconds: u64) -> Result<i64, Failed> {
        let request = LeaseGrantRequest {
            ttl: i64::try_from(seconds.max(2)).unwrap_or(i64::MAX),
        };
        let granted = self.members.ask(|member| async move {
            let path = "/etcdserverpb.Lease/LeaseGrant";
            let granted = member.connection.call(path, &request, REQUEST).await?;
            let LeaseGrantResponse { id, error } = granted;
            match error.is_empty() {
                true => Ok(id),
                false => Err(Failure::Status {
                    code: code::INVALID_ARGUMENT,
                    message: error,
                }),
            }
        });
        // A lease that nobody knows of hurts nobody.
        granted.await.map_err(|failed| Failed {
            maybe_done: false,
            ..failed
        })
    }

    /// Renews a lease. `false`: it is gone.
    async fn renew(&self, id: i64) -> Result<bool, Failed> {
        let request = LeaseKeepAliveRequest { id };
        let renewed = self.members.ask(|member| async move {
            let path = "/etcdserverpb.Lease/LeaseKeepAlive";
            let begun = member.connection.stream(path, &request, REQUEST);
            let mut answers = begun.await?;
            let answer = tokio::time::timeout(REQUEST, answers.next());
            let answer = answer.await.unwrap_or(Err(Failure::Late(REQUEST)))?;
            let LeaseKeepAliveResponse { ttl } = answer;
            Ok(ttl > 0)
        });
        renewed.await
    }
}

/// Keeps a lease alive as long as the client lives and the store has it.
async fn keep(leases: Weak<Leases>, ttl: u64, id: i64) {
    let pause = Duration::from_millis(ttl * 1000 / 3);
    loop {
        sleep(pause).await;
        let Some(leases) = leases.upgrade() else {
            return;
        };
        let is_mine = |leases: &Leases| lock(&leases.alive).get(&ttl) == Some(&id);
        if !is_mine(&leases) {
            return;
        }
        if let Ok(false) = leases.renew(id).await {
            if is_mine(&leases) {
                lock(&leases.alive).remove(&ttl);
            }
            return;
        }
    }
}
