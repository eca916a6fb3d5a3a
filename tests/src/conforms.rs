//! Rules that every store of shared state keeps, the one in memory and etcd alike.

use std::sync::Arc;
use std::time::Duration;

use geodns::shared::{
    Batch, Change, Lease, Lost, MOST_KEYS, Position, Put, Refused, Revision, Shared, Snapshot,
    Watch, Write,
};
use tokio::time::{Instant, sleep, timeout};

/// A client of a store.
pub type Client = Arc<dyn Shared>;

/// Longer than any store may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows that a store conforms. `make` gives two clients of one store that is empty; `leases` says whether entries may
/// end by themselves.
pub async fn conforms(make: impl Fn() -> [Client; 2], leases: bool) {
    entries_come_and_go(make()).await;
    a_commit_is_one_batch(make()).await;
    guards_hold(make()).await;
    a_repeated_write_is_done_once(make()).await;
    a_commit_without_a_change_is_seen(make()).await;
    watches_begin_where_they_are_told(make()).await;
    a_watch_catches_up_with_much(make()).await;
    another_history_is_not_followed(make()).await;
    nonsense_is_refused(make()).await;
    all_octets_are_kept(make()).await;
    large_values_are_kept(make()).await;
    counters_count(make()).await;
    if leases {
        entries_end(make()).await;
        entries_live_with_their_client(make()).await;
    }
}

async fn snapshot(client: &Client) -> Snapshot {
    client.snapshot().await.expect("a snapshot")
}

async fn watch(client: &Client, after: Position) -> Watch {
    client.watch(after).await.expect("a watch")
}

async fn commit(client: &Client, write: &Write) -> Revision {
    client.commit(write).await.expect("a commit")
}

async fn next(watch: &mut Watch) -> Batch {
    let next = timeout(PATIENCE, watch.next()).await;
    next.expect("a batch in time").expect("a batch")
}

/// The batch of a revision; those before it must be empty.
async fn batch_of(watch: &mut Watch, revision: Revision) -> Vec<Change> {
    loop {
        let batch = next(watch).await;
        assert!(batch.revision <= revision, "{batch:?}, not {revision}");
        if batch.revision == revision {
            return batch.changes;
        }
        assert_eq!(batch.changes, [], "{}", batch.revision);
    }
}

fn values(snapshot: &Snapshot) -> Vec<(&str, &[u8], Revision)> {
    let entries = snapshot.entries.iter();
    entries
        .map(|entry| (entry.key.as_str(), entry.value.as_slice(), entry.changed))
        .collect()
}

fn change(key: &str, value: Option<&[u8]>) -> Change {
    Change {
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    }
}

async fn entries_come_and_go([a, b]: [Client; 2]) {
    let empty = snapshot(&a).await;
    assert_eq!(empty.entries, []);
    let first = commit(&a, &Write::new().put("b/2", "x").put("a/1", "y")).await;
    assert!(first > empty.position.revision);
    let second = commit(&b, &Write::new().put("a/1", "z")).await;
    assert!(second > first);
    let now = snapshot(&a).await;
    assert_eq!(now.position.store, empty.position.store);
    assert!(now.position.revision >= second);
    assert_eq!(
        values(&now),
        [("a/1", &b"z"[..], second), ("b/2", b"x", first)]
    );
    commit(&a, &Write::new().delete("a/1")).await;
    assert_eq!(values(&snapshot(&b).await), [("b/2", &b"x"[..], first)]);
}

async fn a_commit_is_one_batch([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut early = watch(&b, start).await;
    let first = commit(&a, &Write::new().put("a", "1").put("b", "1").put("c", "1")).await;
    let second = commit(&a, &Write::new().put("a", "2").delete("b").delete("none")).await;
    let mut late = watch(&a, start).await;
    for watch in [&mut early, &mut late] {
        let mut changes = batch_of(watch, first).await;
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        let all = ["a", "b", "c"].map(|key| change(key, Some(b"1")));
        assert_eq!(changes, all);
        let mut changes = batch_of(watch, second).await;
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(changes, [change("a", Some(b"2")), change("b", None)]);
    }
    // The same value is a change, too.
    let third = commit(&b, &Write::new().put("a", "2")).await;
    assert_eq!(batch_of(&mut early, third).await, [change("a", Some(b"2"))]);
}

async fn guards_hold([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&a, start).await;
    let first = commit(&a, &Write::new().guard("k", None).put("k", "1")).await;
    batch_of(&mut watch, first).await;
    for (guard, on) in [
        (None, "k"),
        (Some(first), "absent"),
        (Some(Revision(1 << 40)), "k"),
    ] {
        let write = Write::new()
            .guard(on, guard)
            .put("k", "2")
            .put("other", "2");
        let refused = b.commit(&write).await;
        let Err(Refused::Conflict(revision)) = refused else {
            panic!("{guard:?} on {on}: {refused:?}");
        };
        // A wait for that revision ends.
        if revision > first {
            while next(&mut watch).await.revision < revision {}
        }
    }
    assert_eq!(values(&snapshot(&a).await), [("k", &b"1"[..], first)]);
    let good = Write::new()
        .guard("k", Some(first))
        .guard("absent", None)
        .put("k", "2");
    let second = commit(&b, &good).await;
    assert_eq!(
        batch_of(&mut watch, second).await,
        [change("k", Some(b"2"))]
    );
    let gone = commit(&a, &Write::new().guard("k", Some(second)).delete("k")).await;
    assert_eq!(batch_of(&mut watch, gone).await, [change("k", None)]);
    commit(&a, &Write::new().guard("k", None).put("k", "3")).await;
}

async fn a_repeated_write_is_done_once([a, b]: [Client; 2]) {
    let write = Write::new().guard("k", None).put("k", "1");
    let first = commit(&a, &write).await;
    assert_eq!(commit(&a, &write).await, first);
    let second = commit(&b, &Write::new().put("k", "2")).await;
    assert_eq!(commit(&a, &write).await, first);
    assert_eq!(commit(&b, &write).await, first);
    assert_eq!(values(&snapshot(&a).await), [("k", &b"2"[..], second)]);
    let blind = Write::new().put("k", "3");
    let third = commit(&a, &blind).await;
    commit(&a, &Write::new().delete("k")).await;
    assert_eq!(commit(&b, &blind).await, third);
    assert_eq!(snapshot(&a).await.entries, []);
}

async fn a_commit_without_a_change_is_seen([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&b, start).await;
    let revision = commit(&a, &Write::new().delete("none")).await;
    assert_eq!(batch_of(&mut watch, revision).await, []);
    let revision = commit(&a, &Write::new().guard("none", None)).await;
    assert_eq!(batch_of(&mut watch, revision).await, []);
}

async fn watches_begin_where_they_are_told([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut revisions = Vec::new();
    for value in 0..20_u8 {
        revisions.push(commit(&a, &Write::new().put("k", [value])).await);
    }
    for (from, revision) in revisions.iter().enumerate() {
        let after = Position {
            revision: *revision,
            ..start
        };
        let mut watch = watch(&b, after).await;
        for (value, revision) in revisions.iter().enumerate().skip(from + 1) {
            let changes = batch_of(&mut watch, *revision).await;
            assert_eq!(changes, [change("k", Some(&[value as u8]))]);
        }
        let quiet = timeout(Duration::from_millis(20), watch.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        // Giving up the wait has lost nothing.
        if from == 0 {
            let last = commit(&a, &Write::new().put("last", "1")).await;
            assert_eq!(batch_of(&mut watch, last).await.len(), 1);
            commit(&a, &Write::new().delete("last")).await;
            revisions_after(&a, &b, after).await;
            return;
        }
    }
}

/// Two watches of two clients give the same.
async fn revisions_after(a: &Client, b: &Client, after: Position) {
    let end = commit(a, &Write::new().put("end", "1")).await;
    let mut seen = Vec::new();
    for client in [a, b] {
        let mut watch = watch(client, after).await;
        let mut batches = Vec::new();
        while batches
            .last()
            .is_none_or(|batch: &Batch| batch.revision < end)
        {
            batches.push(next(&mut watch).await);
        }
        batches.retain(|batch| !batch.changes.is_empty());
        seen.push(batches);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].is_sorted_by_key(|batch| batch.revision));
}

async fn a_watch_catches_up_with_much([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut revisions = Vec::new();
    for value in 0..30 {
        revisions.push(commit(&a, &Write::new().put("k", vec![value; 500_000])).await);
    }
    let mut watch = watch(&b, start).await;
    for (value, revision) in (0..).zip(revisions) {
        let changes = batch_of(&mut watch, revision).await;
        assert!(changes == [change("k", Some(&[value; 500_000]))], "{value}");
    }
}

async fn another_history_is_not_followed([a, _]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let ahead = Position {
        revision: Revision(start.revision.0 + 1000),
        ..start
    };
    let other = Position {
        store: start.store ^ 1,
        ..start
    };
    for known in [ahead, other] {
        match a.watch(known).await {
            Err(Lost::WentBack { known: told, .. }) => assert_eq!(told, known),
            other => panic!("{other:?}"),
        }
    }
}

async fn nonsense_is_refused([a, _]: [Client; 2]) {
    let many = |count: usize| {
        let keys = 0..count;
        keys.fold(Write::new(), |write, key| write.put(format!("k{key}"), ""))
    };
    for bad in [
        Write::new().put("", ""),
        Write::new().put("~a", ""),
        Write::new().put("ä", ""),
        Write::new().delete("~a"),
        Write::new().guard("~a", None),
        Write::new().put("a", "").put("a", ""),
        Write::new().put("a", "").delete("a"),
    ] {
        let refused = a.commit(&bad).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
    }
    let refused = a.commit(&many(MOST_KEYS + 1)).await;
    assert!(matches!(refused, Err(Refused::TooLarge(_))), "{refused:?}");
    assert_eq!(snapshot(&a).await.entries, []);
    commit(&a, &many(MOST_KEYS)).await;
    assert_eq!(snapshot(&a).await.entries.len(), MOST_KEYS);
}

async fn all_octets_are_kept([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&b, start).await;
    let all: Vec<u8> = (0..=255).collect();
    let odd: [&[u8]; 6] = [b"", b"\0", b"\0/a 5", b"\0=x", b"\xff\xfe", &all];
    let keys = ["a", "a/", "a/b c", "b%2f", "z{|}", "A\n"];
    let write = keys
        .iter()
        .zip(odd)
        .fold(Write::new(), |write, (key, value)| write.put(*key, value));
    let revision = commit(&a, &write).await;
    let changes = batch_of(&mut watch, revision).await;
    let now = snapshot(&b).await;
    for (key, value) in keys.iter().zip(odd) {
        assert!(changes.contains(&change(key, Some(value))), "{key}");
        assert!(values(&now).contains(&(*key, value, revision)), "{key}");
    }
}

async fn large_values_are_kept([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&b, start).await;
    let of = |seed: u32, octets: u32| -> Vec<u8> {
        let words = (0..octets).map(|at| (at.wrapping_mul(2654435761) ^ seed) >> 24);
        words.map(|word| word as u8).collect()
    };
    let (large, middle) = (of(1, 3_500_000), of(2, 600_000));
    let write = Write::new()
        .put("large", large.clone())
        .put("middle", middle.clone());
    let revision = commit(&a, &write.put("small", "s")).await;
    let changes = batch_of(&mut watch, revision).await;
    assert_eq!(changes.len(), 3);
    assert!(changes.contains(&change("large", Some(&large))));
    assert!(changes.contains(&change("middle", Some(&middle))));
    let now = snapshot(&b).await;
    assert_eq!(now.entries.len(), 3);
    assert_eq!(now.entries[0].value, large);
    assert_eq!(now.entries[1].value, middle);
    // In the place of a large value: another, a small one, none.
    let other = of(3, 2_000_000);
    let guarded = Write::new()
        .guard("large", Some(revision))
        .put("large", other.clone());
    let revision = commit(&b, &guarded).await;
    assert_eq!(
        batch_of(&mut watch, revision).await,
        [change("large", Some(&other))]
    );
    let conflict = a.commit(&guarded.clone().put("x", "")).await;
    assert_eq!(conflict, Ok(revision), "it is the same write by its name");
    let revision = commit(&a, &Write::new().put("large", "1").delete("middle")).await;
    let changes = batch_of(&mut watch, revision).await;
    assert_eq!(changes.len(), 2);
    assert_eq!(snapshot(&a).await.entries.len(), 2);
}

/// Adds one to a number, as often as it takes.
async fn count_up(client: &Client) {
    loop {
        let now = snapshot(client).await;
        let entry = now.entries.iter().find(|entry| entry.key == "count");
        let count: u64 = entry.map_or(0, |entry| {
            String::from_utf8_lossy(&entry.value)
                .parse()
                .expect("a number")
        });
        let changed = entry.map(|entry| entry.changed);
        let write = Write::new()
            .guard("count", changed)
            .put("count", (count + 1).to_string());
        match client.commit(&write).await {
            Ok(_) => return,
            Err(Refused::Conflict(_)) => {}
            Err(refused) => panic!("{refused}"),
        }
    }
}

async fn counters_count(clients: [Client; 2]) {
    let workers = (0..6).map(|number: usize| {
        let client = Arc::clone(&clients[number % 2]);
        tokio::spawn(async move {
            for _ in 0..10 {
                count_up(&client).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no panic");
    }
    assert_eq!(snapshot(&clients[0]).await.entries[0].value, b"60");
}

/// Waits until a watch gives the deletion of a key, and says how long it took.
async fn deletion(watch: &mut Watch, key: &str, since: Instant) -> Duration {
    loop {
        let batch = next(watch).await;
        if batch.changes.contains(&change(key, None)) {
            return since.elapsed();
        }
    }
}

async fn entries_end([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&b, start).await;
    let leased =
        |key: &str, seconds| Put::new(key, "1").leased(Lease::For(Duration::from_secs(seconds)));
    let write = Write::new()
        .with(leased("short", 2))
        .with(leased("kept", 2))
        .with(leased("long", 60))
        .put("ever", "1");
    commit(&a, &write).await;
    // Without a lease now.
    commit(&a, &Write::new().put("kept", "2")).await;
    let since = Instant::now();
    let took = deletion(&mut watch, "short", since).await;
    assert!(took > Duration::from_secs(1), "{took:?}");
    let now = snapshot(&a).await;
    let keys: Vec<&str> = values(&now).iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, ["ever", "kept", "long"]);
}

async fn entries_live_with_their_client([a, b]: [Client; 2]) {
    let start = snapshot(&a).await.position;
    let mut watch = watch(&b, start).await;
    let put = |key: &str| {
        let put = Put::new(key, "1").leased(Lease::WhileAlive(Duration::from_secs(2)));
        Write::new().with(put)
    };
    // Two at once.
    let writes = [put("node"), put("votes")];
    tokio::join!(commit(&a, &writes[0]), commit(&a, &writes[1]));
    sleep(Duration::from_secs(6)).await;
    let kept = snapshot(&b).await.entries.len();
    assert_eq!(kept, 2, "they are kept alive");
    // A later value has the same lease.
    commit(&a, &put("node")).await;
    let since = Instant::now();
    drop(a);
    deletion(&mut watch, "node", since).await;
}
