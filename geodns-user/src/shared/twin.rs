//! The store in memory, with faults that a test orders. Its time is tokio's, which a test can pause.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Batch, Change, Entry, Kind, Lease, Lost, Position, Refused, RequestId, Revision, Shared,
    Snapshot, Trouble, Watch, Write,
};
use crate::base::lock::lock;

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Twin(Arc<Store>);

#[derive(Debug)]
struct Store {
    inner: Mutex<Inner>,
    /// Wakes all watches.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    content: Content,
    /// Commits after `compacted`.
    history: VecDeque<Batch>,
    compacted: u64,
    /// Trouble that all clients have.
    trouble: Option<Kind>,
    links: Vec<Link>,
    /// When the entries of a client that are leased [`Lease::WhileAlive`] for this time are deleted.
    sessions: HashMap<Session, Instant>,
}

/// A client's number, and the time of its lease.
type Session = (usize, Duration);

/// The content of a store, as a backup has it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    store: u64,
    revision: u64,
    entries: BTreeMap<String, Kept>,
    /// Writes that have been done.
    done: HashMap<RequestId, Revision>,
}

#[derive(Clone, Debug)]
struct Kept {
    value: Vec<u8>,
    changed: Revision,
    ends: Option<Ends>,
}

/// When an entry is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    At(Instant),
    With(Session),
}

/// The way of a client to the store.
#[derive(Debug, Default)]
struct Link {
    trouble: Option<Kind>,
    delay: Duration,
    fates: VecDeque<Fate>,
}

/// The fate of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it is done, and acknowledged.
    Good,
    /// It is lost on the way to the store; its client cannot know.
    RequestLost,
    /// It is done, and the answer is lost.
    AnswerLost,
}

impl Twin {
    /// An empty store.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let mut inner = Inner::default();
        inner.content.store = rand::random();
        Self(Arc::new(Store {
            inner: Mutex::new(inner),
            news: watch::Sender::new(()),
        }))
    }

    /// A client of it. Each node has one.
    pub fn client(&self) -> Client {
        let mut inner = lock(&self.0.inner);
        inner.links.push(Link::default());
        Client(Arc::new(Connection {
            store: self.clone(),
            number: inner.links.len() - 1,
        }))
    }

    /// Gives the store trouble, which all clients have, or heals it. [`Kind::Full`], [`Kind::Slow`], [`Kind::Version`]
    /// and [`Kind::Other`] refuse commits alone; the others end watches, too.
    pub fn trouble(&self, trouble: Option<Kind>) {
        self.order(|inner| inner.trouble = trouble);
    }

    /// Forgets all commits until now. Entries stay.
    pub fn compact(&self) {
        self.order(|inner| {
            inner.history.clear();
            inner.compacted = inner.content.revision;
        });
    }

    /// A backup.
    pub fn backup(&self) -> Content {
        lock(&self.0.inner).content.clone()
    }

    /// Goes back to a backup, with the name that the store had then.
    pub fn restore(&self, backup: Content) {
        self.order(|inner| {
            inner.compacted = backup.revision;
            inner.history.clear();
            inner.content = backup;
        });
    }

    /// Is another store from now on, with the same content.
    pub fn rename(&self) {
        self.order(|inner| inner.content.store = rand::random());
    }

    /// The last commit.
    pub fn revision(&self) -> Revision {
        Revision(lock(&self.0.inner).content.revision)
    }

    fn order(&self, order: impl FnOnce(&mut Inner)) {
        order(&mut lock(&self.0.inner));
        self.0.news.send_replace(());
    }

    fn expire(&self) {
        let now = Instant::now();
        self.order(|inner| {
            // A store without a majority expires nothing.
            if inner.trouble == Some(Kind::NoQuorum) {
                return;
            }
            let sessions = &inner.sessions;
            let is_over = |kept: &Kept| match kept.ends {
                None => false,
                Some(Ends::At(at)) => at <= now,
                Some(Ends::With(session)) => sessions.get(&session).is_none_or(|at| *at <= now),
            };
            let entries = inner.content.entries.iter();
            let over = entries.filter(|(_, kept)| is_over(kept));
            let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
            if !over.is_empty() {
                inner.apply(&[], &over, |_| None);
            }
        });
    }
}

impl Inner {
    /// Makes one commit.
    fn apply(
        &mut self,
        puts: &[super::Put],
        deletes: &[String],
        ends: impl Fn(Lease) -> Option<Ends>,
    ) -> Revision {
        self.content.revision += 1;
        let revision = Revision(self.content.revision);
        let mut changes = Vec::new();
        for put in puts {
            let kept = Kept {
                value: put.value.clone(),
                changed: revision,
                ends: put.lease.and_then(&ends),
            };
            self.content.entries.insert(put.key.clone(), kept);
            changes.push(Change {
                key: put.key.clone(),
                value: Some(put.value.clone()),
            });
        }
        for key in deletes {
            if self.content.entries.remove(key).is_some() {
                changes.push(Change {
                    key: key.clone(),
                    value: None,
                });
            }
        }
        self.history.push_back(Batch { revision, changes });
        revision
    }

    fn position(&self) -> Position {
        Position {
            store: self.content.store,
            revision: Revision(self.content.revision),
        }
    }
}

/// One node's way to the store. Clones are the same client.
#[derive(Clone, Debug)]
pub struct Client(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    store: Twin,
    number: usize,
}

impl Client {
    /// Cuts it off the store ([`Kind::Unreachable`]), gives it other trouble, or heals it.
    pub fn trouble(&self, trouble: Option<Kind>) {
        self.order(|link| link.trouble = trouble);
    }

    /// Each of its requests, each answer and each batch takes so long.
    pub fn delay(&self, delay: Duration) {
        self.order(|link| link.delay = delay);
    }

    /// Decides about its next commits.
    pub fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.order(|link| link.fates.extend(fates));
    }

    fn order(&self, order: impl FnOnce(&mut Link)) {
        let number = self.0.number;
        self.0.store.order(|inner| order(&mut inner.links[number]));
    }

    async fn wait(&self) {
        let delay = lock(&self.0.store.0.inner).links[self.0.number].delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    /// Trouble that stands before everything, or before commits alone.
    fn stopped(&self, inner: &Inner, commits: bool) -> Option<Trouble> {
        let kind = inner.links[self.0.number].trouble.or(inner.trouble)?;
        let of_all = matches!(
            kind,
            Kind::Unreachable | Kind::NoQuorum | Kind::Certificate | Kind::Forbidden
        );
        let line = || format!("the store in memory: {}", kind.name());
        (of_all || commits).then(|| Trouble::new(kind, line()))
    }

    /// When an entry with this lease ends. The store deletes it then.
    fn ends(&self, lease: Lease) -> Ends {
        let store = Arc::downgrade(&self.0.store.0);
        match lease {
            Lease::For(time) => {
                let at = Instant::now() + time;
                tokio::spawn(async move {
                    sleep_until(at).await;
                    if let Some(store) = store.upgrade() {
                        Twin(store).expire();
                    }
                });
                Ends::At(at)
            }
            Lease::WhileAlive(time) => Ends::With((self.0.number, time)),
        }
    }

    /// Begins the sessions that a write needs, or keeps them.
    fn keep_alive(&self, inner: &mut Inner, write: &Write) {
        for put in &write.puts {
            let Some(Lease::WhileAlive(time)) = put.lease else {
                continue;
            };
            let session = (self.0.number, time);
            let end = Instant::now() + time;
            if inner.sessions.insert(session, end).is_none() {
                tokio::spawn(live(Arc::downgrade(&self.0), self.0.store.clone(), session));
            }
        }
    }
}

/// Keeps a client's lease as long as it lives and reaches the store.
async fn live(client: Weak<Connection>, store: Twin, session: Session) {
    loop {
        sleep(session.1 / 3).await;
        let now = Instant::now();
        {
            let mut inner = lock(&store.0.inner);
            let reaches = inner.links[session.0].trouble.is_none() && client.strong_count() > 0;
            if reaches || inner.trouble == Some(Kind::NoQuorum) {
                inner.sessions.insert(session, now + session.1);
                continue;
            }
            if inner.sessions.get(&session).is_some_and(|end| *end > now) {
                continue;
            }
            inner.sessions.remove(&session);
        }
        store.expire();
        return;
    }
}

#[async_trait]
impl Shared for Client {
    async fn snapshot(&self) -> Result<Snapshot, Lost> {
        self.wait().await;
        let inner = lock(&self.0.store.0.inner);
        if let Some(trouble) = self.stopped(&inner, false) {
            return Err(Lost::Disconnected(trouble));
        }
        let entries = inner.content.entries.iter();
        let entries = entries.map(|(key, kept)| Entry {
            key: key.clone(),
            value: kept.value.clone(),
            changed: kept.changed,
        });
        Ok(Snapshot {
            position: inner.position(),
            entries: entries.collect(),
        })
    }

    async fn commit(&self, write: &Write) -> Result<Revision, Refused> {
        write.check()?;
        self.wait().await;
        let (done, fate) = {
            let mut inner = lock(&self.0.store.0.inner);
            if let Some(trouble) = self.stopped(&inner, true) {
                return Err(Refused::Unavailable(trouble));
            }
            let fate = inner.links[self.0.number].fates.pop_front();
            let fate = fate.unwrap_or(Fate::Good);
            match fate {
                Fate::RequestLost => (Ok(Revision(0)), fate),
                Fate::Good | Fate::AnswerLost => (self.take(&mut inner, write), fate),
            }
        };
        self.0.store.0.news.send_replace(());
        self.wait().await;
        match fate {
            Fate::Good => done,
            Fate::RequestLost | Fate::AnswerLost => Err(Refused::Unknown(Trouble::new(
                Kind::Slow,
                "the store in memory: no answer",
            ))),
        }
    }

    async fn watch(&self, after: Position) -> Result<Watch, Lost> {
        self.wait().await;
        let mut news = self.0.store.0.news.subscribe();
        self.after(after)?;
        news.mark_changed();
        let client = self.clone();
        let from = (client, news, after);
        Ok(Watch::new(stream::unfold(Some(from), |from| async move {
            let (client, mut news, after) = from?;
            loop {
                // The sender lives as long as the client does.
                let _ = news.changed().await;
                client.wait().await;
                match client.after(after) {
                    Err(lost) => return Some((Err(lost), None)),
                    Ok(None) => {}
                    Ok(Some(batch)) => {
                        let after = Position {
                            revision: batch.revision,
                            ..after
                        };
                        news.mark_changed();
                        return Some((Ok(batch), Some((client, news, after))));
                    }
                }
            }
        })))
    }
}

impl Client {
    /// Does a write that has reached the store.
    fn take(&self, inner: &mut Inner, write: &Write) -> Result<Revision, Refused> {
        if let Some(revision) = inner.content.done.get(&write.id) {
            return Ok(*revision);
        }
        let entries = &inner.content.entries;
        let changed = |key: &str| entries.get(key).map(|kept| kept.changed);
        let mut guards = write.guards.iter();
        if !guards.all(|guard| changed(&guard.key) == guard.changed) {
            return Err(Refused::Conflict(inner.apply(&[], &[], |_| None)));
        }
        self.keep_alive(inner, write);
        let revision = inner.apply(&write.puts, &write.deletes, |lease| Some(self.ends(lease)));
        inner.content.done.insert(write.id, revision);
        Ok(revision)
    }

    /// The first commit after a position, if there is one.
    fn after(&self, after: Position) -> Result<Option<Batch>, Lost> {
        let inner = lock(&self.0.store.0.inner);
        if let Some(trouble) = self.stopped(&inner, false) {
            return Err(Lost::Disconnected(trouble));
        }
        let found = inner.position();
        if after.store != found.store || after.revision > found.revision {
            return Err(Lost::WentBack {
                known: after,
                found,
            });
        }
        let Some(behind) = after.revision.0.checked_sub(inner.compacted) else {
            return Err(Lost::Compacted);
        };
        Ok(inner.history.get(behind as usize).cloned())
    }
}

#[cfg(test)]
mod tests;
