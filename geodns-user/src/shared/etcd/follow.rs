//! A watch of etcd: from events to batches of whole commits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::time::sleep;

use super::connect::Member;
use super::failed::{self, Failed};
use super::grpc::{Answers, Failure, code};
use super::message::{
    Event, EventType, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use super::{Inner, Page, RANGE, REQUEST, position};
use crate::base::lock::lock;
use crate::shared::{Batch, Change, Kind, Lost, Position, Revision, Trouble, Watch};

/// Pause between two questions to a quiet member whether it is there.
const PROBE: Duration = Duration::from_secs(1);

/// A watch that is under way.
struct Following {
    etcd: Arc<Inner>,
    member: Arc<Member>,
    answers: Answers<WatchResponse>,
    /// Commits that are there, whole.
    ready: VecDeque<Commit>,
    /// The commit whose events are still coming.
    coming: Option<Commit>,
}

/// The events of one commit.
struct Commit {
    revision: i64,
    events: Vec<Event>,
}

/// Begins a watch.
pub async fn watch(etcd: Arc<Inner>, after: Position) -> Result<Watch, Lost> {
    // A read through the leader: the member may lag behind.
    let look = RangeRequest {
        key: etcd.key("~"),
        ..RangeRequest::default()
    };
    let disconnected = |failed: Failed| Lost::Disconnected(failed.trouble);
    let found = match etcd.range(&look, REQUEST).await.map_err(disconnected)? {
        Page::Good(page) => position(page.header.unwrap_or_default()),
        Page::Compacted => return Err(Lost::Compacted),
    };
    if after.store != found.store || after.revision > found.revision {
        return Err(Lost::WentBack {
            known: after,
            found,
        });
    }
    *lock(&etcd.cluster) = Some(found.store);
    let request = WatchRequest {
        create: Some(WatchCreateRequest {
            key: etcd.key(""),
            range_end: etcd.key("~~"),
            start_revision: i64::try_from(after.revision.0 + 1).unwrap_or(i64::MAX),
            fragment: true,
        }),
    };
    let request = &request;
    let begun = etcd.members.ask(|member| async move {
        let path = "/etcdserverpb.Watch/Watch";
        if member.cluster != found.store {
            return Err(Failure::Status {
                code: code::FAILED_PRECONDITION,
                message: "it is of another cluster than the members before it".to_owned(),
            });
        }
        let answers = member.connection.stream(path, request, REQUEST).await?;
        Ok((member, answers))
    });
    let (member, answers) = begun.await.map_err(disconnected)?;
    let following = Following {
        etcd,
        member,
        answers,
        ready: VecDeque::new(),
        coming: None,
    };
    Ok(Watch::new(stream::unfold(
        Some(following),
        |following| async move {
            let mut following = following?;
            match following.next().await {
                Ok(batch) => Some((Ok(batch), Some(following))),
                Err(lost) => Some((Err(lost), None)),
            }
        },
    )))
}

impl Following {
    async fn next(&mut self) -> Result<Batch, Lost> {
        loop {
            if let Some(commit) = self.ready.pop_front() {
                return self.batch(commit).await;
            }
            let answer = tokio::select! {
                answer = self.answers.next() => answer,
                failure = probe(&self.member, &self.etcd) => Err(failure),
            };
            match answer {
                Ok(answer) => self.take(answer)?,
                Err(failure) => {
                    let failed = failed::judge(&self.member.endpoint, failure);
                    if failed.broken {
                        self.etcd
                            .members
                            .forget(&self.member, &failed.trouble)
                            .await;
                    }
                    return Err(Lost::Disconnected(failed.trouble));
                }
            }
        }
    }

    fn take(&mut self, answer: WatchResponse) -> Result<(), Lost> {
        if answer.compact_revision > 0 {
            return Err(Lost::Compacted);
        }
        if answer.canceled {
            let reason = answer.cancel_reason;
            let trouble = match reason.is_empty() {
                true => Trouble::new(Kind::Other, "etcd has ended the watch"),
                false => failed::said(&self.member.endpoint, u32::MAX, &reason),
            };
            return Err(Lost::Disconnected(trouble));
        }
        for event in answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            match &mut self.coming {
                Some(coming) if coming.revision == revision => coming.events.push(event),
                _ => {
                    let events = vec![event];
                    let commit = Commit { revision, events };
                    self.ready.extend(self.coming.replace(commit));
                }
            }
        }
        if !answer.fragment {
            self.ready.extend(self.coming.take());
        }
        Ok(())
    }

    async fn batch(&self, commit: Commit) -> Result<Batch, Lost> {
        let mut changes = Vec::new();
        for event in commit.events {
            let deleted = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            let Some(key) = self.etcd.shared_key(&kv.key) else {
                continue;
            };
            let value = match deleted {
                true => {
                    lock(&self.etcd.in_pieces).remove(&key);
                    None
                }
                false => Some(self.etcd.value(&key, kv.value, commit.revision).await?),
            };
            changes.push(Change { key, value });
        }
        Ok(Batch {
            revision: Revision(commit.revision.unsigned_abs()),
            changes,
        })
    }
}

/// Returns when a member does not answer any more.
async fn probe(member: &Member, etcd: &Inner) -> Failure {
    let look = RangeRequest {
        key: etcd.key("~"),
        serializable: true,
        ..RangeRequest::default()
    };
    loop {
        sleep(PROBE).await;
        let asked = member.connection.call(RANGE, &look, PROBE).await;
        match asked {
            Ok(RangeResponse { .. }) => {}
            Err(failure) => return failure,
        }
    }
}
