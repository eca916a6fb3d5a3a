//! Stores of shared state: all of them do the same, and etcd keeps large values in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use geodns::shared::etcd::Etcd;
use geodns::shared::twin::Twin;
use geodns::shared::{MOST_OCTETS, Refused, Shared, Write};
use geodns::state::State;
use geodns_tests::conforms::{Client, conforms};
use geodns_tests::etcd::{Cluster, Setup};

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_conforms() {
    let make = || -> [Client; 2] {
        let store = Twin::new();
        [Arc::new(store.client()), Arc::new(store.client())]
    };
    conforms(make, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_node_alone_conforms() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let count = AtomicU32::new(0);
    let make = || -> [Client; 2] {
        let name = format!("{}.redb", count.fetch_add(1, Ordering::Relaxed));
        let state = State::open(&folder.path().join(name)).expect("a new file");
        let state: Client = Arc::new(state);
        [Arc::clone(&state), state]
    };
    conforms(make, false).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_conforms() -> Result<()> {
    let cluster = Cluster::one(Setup::default())?;
    let count = AtomicU32::new(0);
    let make = || -> [Client; 2] {
        // Each fleet is a store of its own.
        let fleet = cluster.fleet(&format!("f{}", count.fetch_add(1, Ordering::Relaxed)));
        [Arc::new(Etcd::new(&fleet)), Arc::new(Etcd::new(&fleet))]
    };
    conforms(make, true).await;
    Ok(())
}

/// Keys of large values' pieces in etcd.
fn pieces(cluster: &Cluster, fleet: &str) -> Result<usize> {
    let keys = cluster.ctl(&format!(
        "get --prefix --keys-only /geodns/{fleet}/~~piece/"
    ))?;
    Ok(keys.lines().filter(|line| !line.is_empty()).count())
}

#[tokio::test]
async fn pieces_of_large_values_go_with_them() -> Result<()> {
    let cluster = Cluster::one(Setup::default())?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    let large = |octets: usize| Write::new().put("large", vec![7; octets]);
    let first = etcd.commit(&large(3 << 20)).await?;
    assert_eq!(pieces(&cluster, "f")?, 3);
    // A write that a guard stops leaves its pieces to their lease.
    let refused = etcd.commit(&large(1 << 20).guard("large", None)).await;
    assert!(matches!(refused, Err(Refused::Conflict(_))), "{refused:?}");
    assert_eq!(pieces(&cluster, "f")?, 4);
    let second = etcd
        .commit(&large(2 << 20).guard("large", Some(first)))
        .await?;
    assert_eq!(pieces(&cluster, "f")?, 3);
    // Another client knows of them by its snapshot.
    let other = Etcd::new(&cluster.fleet("f"));
    let snapshot = other.snapshot().await?;
    assert_eq!(snapshot.entries[0].changed, second);
    other.commit(&Write::new().put("large", "small")).await?;
    assert_eq!(pieces(&cluster, "f")?, 1);
    let most = etcd.commit(&large(MOST_OCTETS)).await?;
    let snapshot = other.snapshot().await?;
    assert_eq!(snapshot.entries[0].changed, most);
    assert_eq!(snapshot.entries[0].value.len(), MOST_OCTETS);
    Ok(())
}
