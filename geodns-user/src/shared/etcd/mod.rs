//! The store that is etcd, 3.4 or later: several members, of which more than half must be up.
//!
//! - `grpc`: calls over a connection; `message`: etcd's messages
//! - `connect`: from an endpoint to a connection; `members`: which member is asked
//! - `failed`: judges a failed call
//! - `leases`: leases; `pieces`: large values
//! - `follow`: a watch
//!
//! The keys of a fleet stand below `/geodns/NAME/`. Those that begin with a tilde are our own: `~request/ID` for each
//! write of the last minutes, so that a write that is repeated is done once; `~refused/CLIENT`, put when a guard does
//! not hold, so that a watch comes by that revision; `~~piece/KEY/ID/NUMBER`, pieces of large values, which watches
//! leave out.

mod connect;
mod failed;
mod follow;
mod grpc;
mod leases;
mod members;
mod message;
mod pieces;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use failed::Failed;
use grpc::{Failure, code};
use leases::Leases;
use members::Members;
use message::{
    Compare, DeleteRangeRequest, HeaderResponse, KeyValue, PutRequest, RangeRequest, RangeResponse,
    Request, RequestOp, TxnRequest, TxnResponse,
};
use pieces::{Header, PIECE, Stored};

use super::{
    Entry, Kind, Lost, Position, REPEATABLE, Refused, RequestId, Revision, Shared, Snapshot,
    Trouble, Watch, Write,
};
use crate::base::lock::lock;
use crate::config::Fleet;

/// Time of a call.
const REQUEST: Duration = Duration::from_secs(2);
/// Time of a call that carries megabytes.
const LARGE: Duration = Duration::from_secs(10);
/// Entries of one answer.
const PAGE: i64 = 256;
/// Pieces of one answer.
const PAGE_OF_PIECES: i64 = 8;

const RANGE: &str = "/etcdserverpb.KV/Range";

/// A node's way to etcd. It makes no connection before it is used.
#[derive(Clone, Debug)]
pub struct Etcd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    members: Arc<Members>,
    leases: Arc<Leases>,
    /// `/geodns/NAME/`
    prefix: String,
    client: RequestId,
    /// The cluster that was read last.
    cluster: Mutex<Option<u64>>,
    /// Keys whose values are in pieces.
    in_pieces: Mutex<HashSet<String>>,
}

impl Etcd {
    /// The etcd that a configuration names.
    pub fn new(fleet: &Fleet) -> Self {
        let members = Arc::new(Members::new(fleet.clone()));
        Self(Arc::new(Inner {
            leases: Arc::new(Leases::new(Arc::clone(&members))),
            members,
            prefix: format!("/geodns/{}/", fleet.name),
            client: RequestId::random(),
            cluster: Mutex::default(),
            in_pieces: Mutex::default(),
        }))
    }
}

/// A page of a range, or why there is none.
enum Page {
    Good(RangeResponse),
    Compacted,
}

/// Outcome of a transaction.
enum Done {
    Answered(TxnResponse),
    /// A lease of it is gone.
    NoLease,
}

impl Inner {
    /// The key in etcd.
    fn key(&self, key: &str) -> Vec<u8> {
        [&self.prefix, key].concat().into_bytes()
    }

    /// Our own key of an entry in etcd; `None`: it is none that nodes share.
    fn shared_key(&self, key: &[u8]) -> Option<String> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        super::is_key(key).then(|| key.to_owned())
    }

    async fn range(&self, request: &RangeRequest, time: Duration) -> Result<Page, Failed> {
        let asked = self.members.ask(|member| async move {
            match member.connection.call(RANGE, request, time).await {
                Ok(page) => Ok(Page::Good(page)),
                Err(Failure::Status { code, .. }) if code == code::OUT_OF_RANGE => {
                    Ok(Page::Compacted)
                }
                Err(failure) => Err(failure),
            }
        });
        asked.await
    }

    /// All of a range, at one revision: the newest, if it is 0. Gives header and entries.
    async fn all(
        &self,
        mut request: RangeRequest,
        time: Duration,
    ) -> Result<(message::Header, Vec<KeyValue>), Lost> {
        let mut first = None;
        let mut found = Vec::new();
        loop {
            let page = self.range(&request, time).await;
            let page = match page.map_err(|failed| Lost::Disconnected(failed.trouble))? {
                Page::Good(page) => page,
                Page::Compacted => return Err(Lost::Compacted),
            };
            let header = *first.get_or_insert(page.header.unwrap_or_default());
            let last = page.kvs.last().map(|kv| kv.key.clone());
            found.extend(page.kvs);
            match last {
                Some(last) if page.more => {
                    request.key = last;
                    request.key.push(0);
                    if request.revision == 0 {
                        request.revision = header.revision;
                    }
                }
                _ => return Ok((header, found)),
            }
        }
    }

    fn piece_key(&self, key: &str, id: &str, number: usize) -> Vec<u8> {
        self.key(&format!("~~piece/{key}/{id}/{number:04}"))
    }

    /// The value that a header stands for, as it was at a revision.
    async fn assemble(&self, key: &str, header: &Header, revision: i64) -> Result<Vec<u8>, Lost> {
        let request = RangeRequest {
            key: self.piece_key(key, &header.id, 0),
            range_end: self.key(&format!("~~piece/{key}/{}0", header.id)),
            limit: PAGE_OF_PIECES,
            revision,
            ..RangeRequest::default()
        };
        let (_, found) = self.all(request, LARGE).await?;
        let mut value = Vec::with_capacity(header.octets);
        found.iter().for_each(|kv| value.extend(&kv.value));
        match value.len() == header.octets {
            true => Ok(value),
            false => {
                let (there, of) = (value.len(), header.octets);
                let line = format!(
                    "etcd: {}{key}: {there} of {of} octets are there: put it again, or delete the key",
                    self.prefix
                );
                Err(Lost::Disconnected(Trouble::new(Kind::Other, line)))
            }
        }
    }

    /// A value as it was put.
    async fn value(&self, key: &str, value: Vec<u8>, revision: i64) -> Result<Vec<u8>, Lost> {
        match pieces::read(value) {
            Some(Stored::Whole(value)) => {
                lock(&self.in_pieces).remove(key);
                Ok(value)
            }
            Some(Stored::Pieces(header)) => {
                let value = self.assemble(key, &header, revision).await?;
                lock(&self.in_pieces).insert(key.to_owned());
                Ok(value)
            }
            None => {
                let line = format!(
                    "etcd: {}{key} has a value that this version of geodns does not read: put it again, or delete the key",
                    self.prefix
                );
                Err(Lost::Disconnected(Trouble::new(Kind::Other, line)))
            }
        }
    }

    /// Stores the pieces of large values, with a lease: the transaction takes it away. Gives a header for each of
    /// the write's values that is large.
    async fn store_pieces(&self, write: &Write) -> Result<Vec<Option<Header>>, Failed> {
        let large = pieces::split(&write.puts);
        let mut headers = Vec::new();
        let mut lease = None;
        for (put, large) in write.puts.iter().zip(large) {
            if !large {
                headers.push(None);
                continue;
            }
            let lease = match lease {
                Some(lease) => lease,
                None => *lease.insert(self.leases.grant(REPEATABLE.as_secs()).await?),
            };
            let header = Header {
                id: RequestId::random().to_string(),
                octets: put.value.len(),
            };
            for (number, piece) in put.value.chunks(PIECE).enumerate() {
                let request = PutRequest {
                    key: self.piece_key(&put.key, &header.id, number),
                    value: piece.to_vec(),
                    lease,
                    ignore_value: false,
                };
                let request = &request;
                let stored = self.members.ask(|member| async move {
                    let path = "/etcdserverpb.KV/Put";
                    let stored = member.connection.call(path, request, LARGE).await;
                    stored.map(|HeaderResponse { .. }| ())
                });
                // Pieces without a header are nothing yet.
                stored.await.map_err(|failed| Failed {
                    maybe_done: false,
                    ..failed
                })?;
            }
            headers.push(Some(header));
        }
        Ok(headers)
    }

    async fn transaction(
        &self,
        write: &Write,
        headers: &[Option<Header>],
    ) -> Result<TxnRequest, Failed> {
        let name = self.key(&format!("~request/{}", write.id));
        let lease_of_name = self.leases.of_name().await?;
        let revision = |changed: Option<Revision>| {
            i64::try_from(changed.unwrap_or_default().0).unwrap_or(i64::MAX)
        };
        let guards = write.guards.iter();
        let mut compare: Vec<Compare> = guards
            .map(|guard| Compare::changed(self.key(&guard.key), revision(guard.changed)))
            .collect();
        compare.push(Compare::changed(name.clone(), 0));
        let mut success: Vec<RequestOp> = Vec::new();
        for (put, header) in write.puts.iter().zip(headers) {
            let lease = self.leases.of_entry(put.lease).await?;
            let value = match header {
                None => pieces::whole(&put.value),
                Some(header) => header.encode(),
            };
            for number in 0..header.as_ref().map_or(0, Header::count) {
                let id = header.as_ref().map_or("", |header| &header.id);
                let stays = PutRequest {
                    key: self.piece_key(&put.key, id, number),
                    value: Vec::new(),
                    lease,
                    ignore_value: true,
                };
                success.push(Request::Put(stays).into());
            }
            let put = PutRequest {
                key: self.key(&put.key),
                value,
                lease,
                ignore_value: false,
            };
            success.push(Request::Put(put).into());
        }
        for key in &write.deletes {
            let delete = DeleteRangeRequest {
                key: self.key(key),
                range_end: Vec::new(),
            };
            success.push(Request::Delete(delete).into());
        }
        let mark = |key| {
            let put = PutRequest {
                key,
                value: Vec::new(),
                lease: lease_of_name,
                ignore_value: false,
            };
            RequestOp::from(Request::Put(put))
        };
        success.push(mark(name.clone()));
        let look = RangeRequest {
            key: name,
            ..RangeRequest::default()
        };
        let refused = self.key(&format!("~refused/{}", self.client));
        Ok(TxnRequest {
            compare,
            success,
            failure: vec![Request::Range(look).into(), mark(refused)],
        })
    }

    async fn run(&self, request: &TxnRequest, time: Duration) -> Result<Done, Failed> {
        let cluster = *lock(&self.cluster);
        let asked = self.members.ask(|member| async move {
            if cluster.is_some_and(|cluster| cluster != member.cluster) {
                return Err(Failure::Status {
                    code: code::FAILED_PRECONDITION,
                    message: "it is of another cluster than the state of this node".to_owned(),
                });
            }
            let path = "/etcdserverpb.KV/Txn";
            match member.connection.call(path, request, time).await {
                Ok(answer) => Ok(Done::Answered(answer)),
                Err(Failure::Status { message, .. }) if message.contains("lease not found") => {
                    Ok(Done::NoLease)
                }
                Err(failure) => Err(failure),
            }
        });
        asked.await
    }

    /// Deletes pieces that no header names any more. Pieces with a lease may become a value yet.
    async fn sweep(&self) -> Result<(), Lost> {
        let request = RangeRequest {
            key: self.key("~~piece/"),
            range_end: self.key("~~piece0"),
            limit: PAGE,
            keys_only: true,
            ..RangeRequest::default()
        };
        let (header, pieces) = self.all(request, REQUEST).await?;
        let mut groups: Vec<(String, String)> = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.lease == 0) {
            let Ok(text) = std::str::from_utf8(&piece.key) else {
                continue;
            };
            let text = text.strip_prefix(&self.prefix);
            let of = text.and_then(|text| text.strip_prefix("~~piece/")?.rsplit_once('/'));
            if let Some((key, id)) = of.and_then(|(of, _)| of.rsplit_once('/')) {
                let group = (key.to_owned(), id.to_owned());
                if groups.last() != Some(&group) {
                    groups.push(group);
                }
            }
        }
        for (key, id) in groups {
            let request = RangeRequest {
                key: self.key(&key),
                revision: header.revision,
                ..RangeRequest::default()
            };
            let (_, found) = self.all(request, REQUEST).await?;
            let named = found
                .into_iter()
                .next()
                .and_then(|kv| pieces::read(kv.value));
            if matches!(named, Some(Stored::Pieces(header)) if header.id == id) {
                continue;
            }
            let request = DeleteRangeRequest {
                key: self.piece_key(&key, &id, 0),
                range_end: self.key(&format!("~~piece/{key}/{id}0")),
            };
            let request = &request;
            let deleted = self.members.ask(|member| async move {
                let path = "/etcdserverpb.KV/DeleteRange";
                let deleted = member.connection.call(path, request, REQUEST).await;
                deleted.map(|HeaderResponse { .. }| ())
            });
            let deleted = deleted.await;
            deleted.map_err(|failed| Lost::Disconnected(failed.trouble))?;
        }
        Ok(())
    }

    /// Whether a write takes a large value away, as far as is known here.
    fn leaves_pieces(&self, write: &Write) -> bool {
        let in_pieces = lock(&self.in_pieces);
        let puts = write.puts.iter().map(|put| &put.key);
        puts.chain(&write.deletes)
            .any(|key| in_pieces.contains(key))
    }
}

/// The reason of a write that failed.
fn refused(failed: Failed) -> Refused {
    let line = &failed.trouble.line;
    let large = ["too large", "larger than max", "too many operations"];
    match failed.maybe_done {
        true => Refused::Unknown(failed.trouble),
        false if large.iter().any(|words| line.contains(words)) => Refused::TooLarge(line.clone()),
        false => Refused::Unavailable(failed.trouble),
    }
}

#[async_trait]
impl Shared for Etcd {
    async fn snapshot(&self) -> Result<Snapshot, Lost> {
        self.below("").await
    }

    async fn below(&self, prefix: &str) -> Result<Snapshot, Lost> {
        let key = self.0.key(prefix);
        let mut range_end = key.clone();
        match range_end.last_mut() {
            // Our own keys begin with a tilde.
            Some(_) if prefix.is_empty() => range_end.push(b'~'),
            Some(last) => *last += 1,
            None => {}
        }
        let request = RangeRequest {
            key,
            range_end,
            limit: PAGE,
            ..RangeRequest::default()
        };
        let (header, found) = self.0.all(request, LARGE).await?;
        let mut entries = Vec::with_capacity(found.len());
        for kv in found {
            let Some(key) = self.0.shared_key(&kv.key) else {
                continue;
            };
            let value = self.0.value(&key, kv.value, header.revision).await?;
            entries.push(Entry {
                key,
                value,
                changed: Revision(kv.mod_revision.unsigned_abs()),
            });
        }
        *lock(&self.0.cluster) = Some(header.cluster_id);
        Ok(Snapshot {
            position: position(header),
            entries,
        })
    }

    async fn commit(&self, write: &Write) -> Result<Revision, Refused> {
        write.check()?;
        let headers = self.0.store_pieces(write).await.map_err(refused)?;
        let is_large = headers.iter().any(Option::is_some);
        let time = if is_large { LARGE } else { REQUEST };
        let leaves_pieces = self.0.leaves_pieces(write);
        let mut tries = 0..2;
        let answer = loop {
            let request = self.0.transaction(write, &headers).await.map_err(refused)?;
            match self.0.run(&request, time).await.map_err(refused)? {
                Done::Answered(answer) => break answer,
                Done::NoLease => self.0.leases.forget_lost().await,
            }
            if tries.next().is_none() {
                let line = "etcd loses leases as soon as it has granted them: look at its members";
                return Err(Refused::Unavailable(Trouble::new(Kind::Other, line)));
            }
        };
        let revision = answer.header.unwrap_or_default().revision.unsigned_abs();
        if !answer.succeeded {
            let range = answer.responses.into_iter().find_map(|of| of.range);
            let name = range.and_then(|range| range.kvs.into_iter().next());
            return match name {
                Some(name) => Ok(Revision(name.mod_revision.unsigned_abs())),
                None => Err(Refused::Conflict(Revision(revision))),
            };
        }
        if is_large || leaves_pieces {
            // The next sweep finds pieces that this one leaves.
            let _ = self.0.sweep().await;
        }
        Ok(Revision(revision))
    }

    async fn watch(&self, after: Position) -> Result<Watch, Lost> {
        follow::watch(Arc::clone(&self.0), after).await
    }
}

fn position(header: message::Header) -> Position {
    Position {
        store: header.cluster_id,
        revision: Revision(header.revision.unsigned_abs()),
    }
}
