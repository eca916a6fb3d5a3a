//! Faults of the store in memory. The package `tests` shows that it does as all stores do.

use super::*;

async fn value(client: &Client, key: &str) -> Option<Vec<u8>> {
    let snapshot = client.snapshot().await.expect("a snapshot");
    let mut entries = snapshot.entries.into_iter();
    entries
        .find(|entry| entry.key == key)
        .map(|entry| entry.value)
}

fn kind(refused: Result<Revision, Refused>) -> Option<Kind> {
    match refused {
        Err(Refused::Unavailable(trouble) | Refused::Unknown(trouble)) => Some(trouble.kind),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_write_done_once() {
    let store = Twin::new();
    let client = store.client();
    client.fates([Fate::AnswerLost, Fate::RequestLost]);
    let write = Write::new().guard("a", None).put("a", "1");
    let lost = client.commit(&write).await;
    assert!(matches!(lost, Err(Refused::Unknown(_))), "{lost:?}");
    assert_eq!(value(&client, "a").await, Some(b"1".to_vec()));
    let other = Write::new().put("b", "1");
    assert!(matches!(
        client.commit(&other).await,
        Err(Refused::Unknown(_))
    ));
    assert_eq!(value(&client, "b").await, None);
    assert_eq!(client.commit(&write).await, Ok(Revision(1)));
    assert_eq!(client.commit(&other).await, Ok(Revision(2)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_off_is_alone() {
    let store = Twin::new();
    let (near, far) = (store.client(), store.client());
    let position = near.snapshot().await.expect("a snapshot").position;
    let mut watch = far.watch(position).await.expect("a watch");
    far.trouble(Some(Kind::Unreachable));
    assert!(matches!(watch.next().await, Err(Lost::Disconnected(_))));
    let write = Write::new().put("a", "1");
    assert_eq!(kind(far.commit(&write).await), Some(Kind::Unreachable));
    assert_eq!(near.commit(&write).await, Ok(Revision(1)));
    far.trouble(None);
    let mut watch = far.watch(position).await.expect("a watch");
    assert_eq!(watch.next().await.map(|batch| batch.changes.len()), Ok(1));

    store.trouble(Some(Kind::Full));
    let write = Write::new().put("a", "2");
    assert_eq!(kind(far.commit(&write).await), Some(Kind::Full));
    assert_eq!(value(&far, "a").await, Some(b"1".to_vec()));
    store.trouble(Some(Kind::NoQuorum));
    assert_eq!(kind(near.commit(&write).await), Some(Kind::NoQuorum));
    assert!(watch.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn history_that_is_gone_is_not_followed() {
    let store = Twin::new();
    let client = store.client();
    let start = client.snapshot().await.expect("a snapshot").position;
    let backup = store.backup();
    for value in ["1", "2"] {
        let write = Write::new().put("a", value);
        client.commit(&write).await.expect("a commit");
    }
    store.compact();
    let lost = client.watch(start).await;
    assert!(matches!(lost, Err(Lost::Compacted)), "{lost:?}");
    let now = client.snapshot().await.expect("a snapshot").position;
    let mut watch = client.watch(now).await.expect("nothing is missing");
    store.restore(backup);
    assert!(matches!(watch.next().await, Err(Lost::WentBack { .. })));
    assert!(matches!(
        client.watch(now).await,
        Err(Lost::WentBack { .. })
    ));
    store.rename();
    assert!(matches!(
        client.watch(start).await,
        Err(Lost::WentBack { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn leases_end_on_the_clock_of_the_test() {
    let store = Twin::new();
    let (near, far) = (store.client(), store.client());
    let lease = Duration::from_secs(10);
    let put = |key: &str, lease| Write::new().with(super::super::Put::new(key, "").leased(lease));
    let token = put("token", Lease::For(lease));
    near.commit(&token).await.expect("a commit");
    far.commit(&put("node", Lease::WhileAlive(lease)))
        .await
        .expect("a commit");
    sleep(Duration::from_secs(9)).await;
    assert!(value(&near, "token").await.is_some());
    sleep(Duration::from_secs(2)).await;
    assert!(value(&near, "token").await.is_none());
    sleep(Duration::from_secs(60)).await;
    assert!(value(&near, "node").await.is_some());
    far.trouble(Some(Kind::Unreachable));
    sleep(Duration::from_secs(5)).await;
    assert!(value(&near, "node").await.is_some());
    sleep(Duration::from_secs(10)).await;
    assert!(value(&near, "node").await.is_none());
    far.trouble(None);
    far.commit(&put("node", Lease::WhileAlive(lease)))
        .await
        .expect("a commit");
    sleep(Duration::from_secs(60)).await;
    assert!(value(&near, "node").await.is_some());
    drop(far);
    sleep(Duration::from_secs(20)).await;
    assert!(value(&near, "node").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn delays_delay() {
    let store = Twin::new();
    let client = store.client();
    let second = Duration::from_secs(1);
    client.delay(second);
    let start = Instant::now();
    let write = Write::new().put("a", "1");
    // Its client is gone before the answer comes, and the write is done.
    let cut = tokio::time::timeout(second * 3 / 2, client.commit(&write)).await;
    assert!(cut.is_err());
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(client.commit(&write).await, Ok(Revision(1)));
    assert_eq!(start.elapsed(), second * 7 / 2);
}
