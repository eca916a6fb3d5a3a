//! Real etcd as the store of shared state, with all that goes wrong: each trouble has its kind and its line, and
//! acknowledged writes stay.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use geodns::config::{Endpoint, Fleet};
use geodns::shared::etcd::Etcd;
use geodns::shared::{
    Kind, Lost, Position, Refused, Revision, Shared, Snapshot, Trouble, Watch, Write,
};
use geodns_tests::etcd::{Cluster, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::Space;
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

/// Longer than a call may take.
const CALL: Duration = Duration::from_secs(8);

fn put(key: &str, value: &str) -> Write {
    Write::new().put(key, value)
}

async fn commit(etcd: &Etcd, write: &Write) -> Result<Revision, Refused> {
    let done = timeout(CALL, etcd.commit(write)).await;
    done.expect("a commit ends")
}

async fn snapshot(etcd: &Etcd) -> Result<Snapshot, Lost> {
    let done = timeout(CALL, etcd.snapshot()).await;
    done.expect("a snapshot ends")
}

/// The trouble that a write is refused for, surely not done.
fn unavailable(refused: Result<Revision, Refused>) -> Trouble {
    match refused {
        Err(Refused::Unavailable(trouble)) => trouble,
        other => panic!("{other:?}"),
    }
}

fn disconnected<T: std::fmt::Debug>(lost: Result<T, Lost>) -> Trouble {
    match lost {
        Err(Lost::Disconnected(trouble)) => trouble,
        other => panic!("{other:?}"),
    }
}

/// Checks a kind and words of a line, which is one.
#[track_caller]
fn check(trouble: &Trouble, kind: Kind, words: &[&str]) {
    assert_eq!(trouble.kind, kind, "{trouble}");
    assert!(!trouble.line.contains('\n'), "{trouble:?}");
    for word in words {
        assert!(trouble.line.contains(word), "{word:?}: {trouble}");
    }
}

/// Commits a write that may be lost on the way, as often as it takes.
async fn insist(etcd: &Etcd, write: &Write) -> Result<Revision> {
    for _ in 0..40 {
        match commit(etcd, write).await {
            Ok(revision) => return Ok(revision),
            Err(Refused::Unavailable(_) | Refused::Unknown(_)) => {
                sleep(Duration::from_millis(250)).await;
            }
            Err(refused) => bail!("{refused}"),
        }
    }
    bail!("it takes too long")
}

/// Waits until a watch gives a value of a key.
async fn seen(watch: &mut Watch, key: &str, value: &str) -> Result<()> {
    loop {
        let batch = timeout(CALL, watch.next()).await.context("no batch")??;
        let mut changes = batch.changes.iter();
        if changes.any(|of| of.key == key && of.value.as_deref() == Some(value.as_bytes())) {
            return Ok(());
        }
    }
}

/// Waits until a watch ends.
async fn broken(watch: &mut Watch) -> Trouble {
    loop {
        match timeout(CALL, watch.next()).await.expect("it ends") {
            Ok(_) => {}
            lost => return disconnected(lost),
        }
    }
}

#[tokio::test]
async fn a_store_that_is_absent_is_unreachable_until_it_comes() -> Result<()> {
    let mut cluster = Cluster::one(Setup::default())?;
    cluster.kill(0)?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    let start = Instant::now();
    let words = ["http://127.0.0.1:", "cannot be reached", "refused"];
    check(
        &unavailable(commit(&etcd, &put("a", "1")).await),
        Kind::Unreachable,
        &words,
    );
    check(
        &disconnected(snapshot(&etcd).await),
        Kind::Unreachable,
        &words,
    );
    ensure!(start.elapsed() < CALL, "{:?}", start.elapsed());
    cluster.again(0)?;
    insist(&etcd, &put("a", "1")).await?;

    // Killed again: acknowledged writes are there, and a watch goes on where it was.
    let position = snapshot(&etcd).await?.position;
    let mut watch = etcd.watch(position).await?;
    cluster.kill(0)?;
    let since = Instant::now();
    let lost = disconnected(timeout(CALL, watch.next()).await?);
    ensure!(!lost.line.contains("https://"), "it has answered: {lost}");
    ensure!(since.elapsed() < CALL, "{:?}", since.elapsed());
    cluster.again(0)?;
    insist(&etcd, &put("b", "2")).await?;
    let mut watch = etcd.watch(position).await?;
    seen(&mut watch, "b", "2").await?;
    assert_eq!(snapshot(&etcd).await?.entries.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_write_to_a_silent_store_may_be_done_and_is_done_once() -> Result<()> {
    let cluster = Cluster::one(Setup::default())?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    let first = commit(&etcd, &put("a", "0")).await?;
    let mut watch = etcd.watch(snapshot(&etcd).await?.position).await?;
    cluster.signal(0, Signal::SIGSTOP)?;
    let write = put("a", "1").guard("a", Some(first));
    let (refused, lost) = tokio::join!(commit(&etcd, &write), watch.next());
    let Err(Refused::Unknown(trouble)) = refused else {
        panic!("{refused:?}");
    };
    check(&trouble, Kind::Slow, &["has not answered within 2s"]);
    disconnected(lost);
    // It does not even take a connection now.
    sleep(Duration::from_secs(1)).await;
    let trouble = unavailable(commit(&etcd, &put("b", "1")).await);
    check(&trouble, Kind::Unreachable, &["has not answered within 1s"]);
    cluster.signal(0, Signal::SIGCONT)?;
    let revision = insist(&etcd, &write).await?;
    let now = snapshot(&etcd).await?;
    assert_eq!(now.entries.len(), 1);
    assert_eq!(
        (now.entries[0].value.as_slice(), now.entries[0].changed),
        (&b"1"[..], revision)
    );
    Ok(())
}

#[tokio::test]
async fn a_full_store_refuses_writes_alone() -> Result<()> {
    let setup = Setup {
        flags: vec!["--quota-backend-bytes=8388608".to_owned()],
        ..Setup::default()
    };
    let cluster = Cluster::one(setup)?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    commit(&etcd, &put("small", "1")).await?;
    let position = snapshot(&etcd).await?.position;
    let mut watch = etcd.watch(position).await?;
    let mut trouble = None;
    for number in 0..200 {
        // etcd looks at the size of its file, which grows ten times a second.
        sleep(Duration::from_millis(20)).await;
        match commit(&etcd, &Write::new().put("large", vec![number; 400_000])).await {
            Ok(_) => {}
            refused => {
                trouble = Some(unavailable(refused));
                break;
            }
        }
    }
    let trouble = trouble.context("never full")?;
    let words = ["is full", "--quota-backend-bytes", "alarm disarm"];
    check(&trouble, Kind::Full, &words);
    check(
        &unavailable(commit(&etcd, &put("a", "")).await),
        Kind::Full,
        &words,
    );
    let now = snapshot(&etcd).await?;
    assert_eq!(now.entries.len(), 2);
    timeout(CALL, watch.next()).await??;
    // As the line says.
    cluster.ctl(&format!("compact {}", now.position.revision))?;
    cluster.ctl("defrag")?;
    cluster.ctl("alarm disarm")?;
    insist(&etcd, &put("a", "2")).await?;
    Ok(())
}

#[tokio::test]
async fn a_watch_that_was_compacted_away_says_so() -> Result<()> {
    let cluster = Cluster::one(Setup::default())?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    let start = snapshot(&etcd).await?.position;
    for value in 0..5 {
        commit(&etcd, &put("a", &value.to_string())).await?;
    }
    let now = snapshot(&etcd).await?.position;
    cluster.ctl(&format!("compact {}", now.revision))?;
    let lost = match etcd.watch(start).await {
        Ok(mut watch) => timeout(CALL, watch.next()).await?.map(drop),
        Err(lost) => Err(lost),
    };
    assert_eq!(lost, Err(Lost::Compacted));
    let mut watch = etcd.watch(now).await?;
    commit(&etcd, &put("a", "last")).await?;
    seen(&mut watch, "a", "last").await
}

#[tokio::test]
async fn a_restored_store_is_told_from_the_one_before() -> Result<()> {
    let mut cluster = Cluster::one(Setup::default())?;
    let etcd = Etcd::new(&cluster.fleet("f"));
    commit(&etcd, &put("a", "1")).await?;
    let old = cluster.save("backup")?;
    let at_backup = snapshot(&etcd).await?.position;
    commit(&etcd, &put("a", "2")).await?;
    let known = snapshot(&etcd).await?.position;

    // The same cluster, with a part of its history gone.
    cluster.restore(&old, "test")?;
    let lost = retried(&etcd, known).await;
    let Err(Lost::WentBack { found, .. }) = &lost else {
        panic!("{lost:?}");
    };
    assert_eq!(found.store, known.store);
    let line = lost.map(drop).unwrap_err().to_string();
    assert!(line.contains("restored from a backup"), "{line}");

    // Another one with the same content, as etcd's own manual has it.
    cluster.restore(&old, "other")?;
    let lost = retried(&etcd, at_backup).await;
    let Err(Lost::WentBack { found, .. }) = lost else {
        panic!("{lost:?}");
    };
    assert_ne!(found.store, known.store);
    // Nothing is written there before the node has taken its state.
    let trouble = unavailable(commit(&etcd, &put("a", "3")).await);
    check(&trouble, Kind::Other, &["another cluster"]);
    assert_eq!(snapshot(&etcd).await?.entries[0].value, b"1");
    commit(&etcd, &put("a", "3")).await?;
    Ok(())
}

/// Begins a watch, once the store can be reached.
async fn retried(etcd: &Etcd, after: Position) -> Result<Watch, Lost> {
    loop {
        match etcd.watch(after).await {
            Err(Lost::Disconnected(_)) => sleep(Duration::from_millis(200)).await,
            watch => return watch,
        }
    }
}

#[tokio::test]
async fn certificates_are_asked_for_and_shown() -> Result<()> {
    let setup = Setup {
        tls: true,
        ..Setup::default()
    };
    let cluster = Cluster::one(setup.clone())?;
    let write = put("a", "1");
    let good = Fleet {
        identity: Some(cluster.issue("node1", &[])?),
        ..cluster.fleet("f")
    };
    commit(&Etcd::new(&good), &write).await?;

    let trouble = |fleet: Fleet| {
        let write = &write;
        async move { unavailable(commit(&Etcd::new(&fleet), write).await) }
    };
    let none = trouble(Fleet {
        identity: None,
        ..good.clone()
    })
    .await;
    check(
        &none,
        Kind::Certificate,
        &["refuses us", "fleet.certificate must be signed"],
    );

    let strangers = Cluster::one(setup)?;
    let stranger = Some(strangers.issue("node1", &[])?);
    let refused = trouble(Fleet {
        identity: stranger,
        ..good.clone()
    })
    .await;
    check(
        &refused,
        Kind::Certificate,
        &["refuses us", "--trusted-ca-file"],
    );

    let other_ca = Some(strangers.file("ca.crt"));
    let unknown = trouble(Fleet {
        ca: other_ca,
        ..good.clone()
    })
    .await;
    check(
        &unknown,
        Kind::Certificate,
        &["that we do not take", "fleet.ca must hold"],
    );

    let missing = Some(cluster.file("absent.crt"));
    let absent = trouble(Fleet {
        ca: missing,
        ..good.clone()
    })
    .await;
    check(
        &absent,
        Kind::Certificate,
        &["fleet.ca: ", "absent.crt", "No such file"],
    );

    let mut mixed = good.clone();
    if let (Some(mine), Some(theirs)) = (&mut mixed.identity, &good.identity) {
        mine.key = cluster.issue("node2", &[])?.key;
        assert_ne!(mine.key, theirs.key);
    }
    check(
        &trouble(mixed).await,
        Kind::Certificate,
        &["fleet.key: ", "does not go with"],
    );

    let plain = |fleet: &Fleet, tls| Fleet {
        etcd: fleet
            .etcd
            .iter()
            .map(|at| Endpoint { tls, ..at.clone() })
            .collect(),
        ..fleet.clone()
    };
    let without = trouble(plain(&good, false)).await;
    check(&without, Kind::Unreachable, &["write https://"]);
    let open = Cluster::one(Setup::default())?;
    let with = Fleet {
        ca: good.ca.clone(),
        ..plain(&open.fleet("f"), true)
    };
    check(
        &trouble(with).await,
        Kind::Certificate,
        &["does not speak TLS", "write http://"],
    );

    // A renewed certificate is used from the next connection on.
    let etcd = Etcd::new(&good);
    let identity = good.identity.clone().context("it has one")?;
    let right = std::fs::read(&identity.certificate)?;
    let right_key = std::fs::read(&identity.key)?;
    let wrong = strangers.issue("node3", &[])?;
    std::fs::copy(&wrong.certificate, &identity.certificate)?;
    std::fs::copy(&wrong.key, &identity.key)?;
    check(
        &unavailable(commit(&etcd, &write).await),
        Kind::Certificate,
        &[],
    );
    std::fs::write(&identity.certificate, right)?;
    std::fs::write(&identity.key, right_key)?;
    insist(&etcd, &write).await?;
    Ok(())
}

#[tokio::test]
async fn a_user_is_held_to_its_prefix() -> Result<()> {
    let setup = Setup {
        tls: true,
        ..Setup::default()
    };
    let cluster = Cluster::one(setup)?;
    for words in [
        "user add root --no-password",
        "user grant-role root root",
        "role add fleet",
        "role grant-permission --prefix=true fleet readwrite /geodns/f/",
        "user add node1 --no-password",
        "user grant-role node1 fleet",
        "auth enable",
    ] {
        cluster.ctl(words).or_else(|error| match words {
            // etcd makes this role itself.
            "user grant-role root root" => cluster
                .ctl("role add root")
                .and_then(|_| cluster.ctl(words)),
            _ => Err(error),
        })?;
    }
    let as_user = |name: &str, fleet: &str| -> Result<Etcd> {
        Ok(Etcd::new(&Fleet {
            identity: Some(cluster.issue(name, &[])?),
            ..cluster.fleet(fleet)
        }))
    };
    let node = as_user("node1", "f")?;
    commit(&node, &put("a", "1")).await?;
    let position = snapshot(&node).await?.position;
    let mut watch = node.watch(position).await?;
    let large = vec![1; 2 << 20];
    commit(&node, &Write::new().put("b", large)).await?;
    assert_eq!(timeout(CALL, watch.next()).await??.changes.len(), 1);

    let words = ["forbids us this", "readwrite on the fleet's prefix"];
    let elsewhere = as_user("node1", "g")?;
    check(
        &unavailable(commit(&elsewhere, &put("a", "1")).await),
        Kind::Forbidden,
        &words,
    );
    check(
        &disconnected(snapshot(&elsewhere).await),
        Kind::Forbidden,
        &words,
    );
    check(
        &disconnected(elsewhere.watch(position).await),
        Kind::Forbidden,
        &words,
    );
    let nobody = as_user("nobody", "f")?;
    check(
        &unavailable(commit(&nobody, &put("a", "1")).await),
        Kind::Forbidden,
        &[],
    );
    Ok(())
}

/// Answers every connection as a member of an old version does, once.
fn old_member() -> Result<Endpoint> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || -> std::io::Result<()> {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let _ = stream.read(&mut [0; 4096])?;
            let frame = |kind: u8, flags: u8, id: u8, payload: &[u8]| {
                let length = payload.len() as u8;
                [&[0, 0, length, kind, flags, 0, 0, 0, id], payload].concat()
            };
            stream.write_all(&frame(4, 0, 0, &[]))?;
            let _ = stream.read(&mut [0; 4096])?;
            // The status of a member: its version has tag 2.
            let version = b"\x12\x063.3.27";
            let message = [&[0, 0, 0, 0, version.len() as u8], &version[..]].concat();
            let trailer = [&[0, 11], &b"grpc-status"[..], &[1, b'0']].concat();
            stream.write_all(&frame(1, 4, 1, &[0x88]))?;
            stream.write_all(&frame(0, 0, 1, &message))?;
            stream.write_all(&frame(1, 5, 1, &trailer))?;
            let _ = stream.read(&mut [0; 4096])?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    });
    Ok(Endpoint {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port,
    })
}

#[tokio::test]
async fn strangers_and_old_versions_are_told_from_etcd() -> Result<()> {
    let fleet = |endpoint| geodns_tests::etcd::fleet("f", vec![endpoint]);
    let old = Etcd::new(&fleet(old_member()?));
    let trouble = unavailable(commit(&old, &put("a", "1")).await);
    check(
        &trouble,
        Kind::Version,
        &["version \"3.3.27\"", "3.4 or later", "upgrade"],
    );

    // A web server.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let web = Etcd::new(&fleet(Endpoint {
        tls: false,
        host: "localhost".to_owned(),
        port,
    }));
    let trouble = unavailable(commit(&web, &put("a", "1")).await);
    check(&trouble, Kind::Unreachable, &["http://localhost:"]);
    Ok(())
}

/// A fleet's configuration at a site: its own member first.
fn at_site(cluster: &Cluster, number: usize) -> Fleet {
    let mut fleet = cluster.fleet("f");
    fleet.etcd.rotate_left(number);
    fleet
}

/// Runs a client in a namespace.
fn run<T: Send>(space: &Space, client: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    space.enter(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(client())
    })
}

#[test]
fn a_site_that_is_cut_off_refuses_at_once_and_catches_up() -> Result<()> {
    needs_root!();
    let cluster = Cluster::three(Setup::default())?;
    let triangle = cluster.triangle();
    let [one, two, _] = &triangle.spaces;
    let position = run(one, async || {
        let etcd = Etcd::new(&at_site(&cluster, 0));
        insist(&etcd, &put("count", "0")).await?;
        Ok(snapshot(&etcd).await?.position)
    })?;
    let cut = AtomicBool::new(false);
    thread::scope(|scope| {
        let alone = scope.spawn(|| {
            run(one, async || {
                let etcd = Etcd::new(&at_site(&cluster, 0));
                let mut watch = etcd.watch(position).await?;
                triangle.cut(1)?;
                let since = Instant::now();
                cut.store(true, Ordering::Relaxed);
                broken(&mut watch).await;
                let noticed = since.elapsed();
                ensure!(
                    noticed < Duration::from_secs(30),
                    "noticed after {noticed:?}"
                );
                // The member of this site is there, and has no leader.
                let mut least = CALL;
                for _ in 0..3 {
                    let since = Instant::now();
                    let trouble = unavailable(commit(&etcd, &put("lost", "1")).await);
                    least = least.min(since.elapsed());
                    check(
                        &trouble,
                        Kind::NoQuorum,
                        &["has no leader", "10.77.0.1", "of no use either"],
                    );
                }
                ensure!(least < Duration::from_secs(1), "refused after {least:?}");
                triangle.heal(1)?;
                let since = Instant::now();
                let mut watch = retried(&etcd, position).await?;
                let mut count = 0;
                while count < 20 {
                    let batch = timeout(CALL, watch.next()).await??;
                    count += batch.changes.len();
                }
                let caught_up = since.elapsed();
                ensure!(
                    caught_up < Duration::from_secs(30),
                    "caught up after {caught_up:?}"
                );
                insist(&etcd, &put("back", "1")).await?;
                assert_eq!(snapshot(&etcd).await?.entries.len(), 2);
                println!("noticed {noticed:?}, refused {least:?}, caught up {caught_up:?}");
                Ok(())
            })
        });
        let others = scope.spawn(|| {
            run(two, async || {
                let etcd = Etcd::new(&at_site(&cluster, 1));
                while !cut.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(10)).await;
                }
                for number in 1..=20 {
                    insist(&etcd, &put("count", &number.to_string())).await?;
                }
                Ok(())
            })
        });
        others.join().expect("no panic")?;
        alone.join().expect("no panic")
    })
}

#[test]
fn members_come_and_go_and_each_write_is_done_once() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::three(Setup::default())?;
    let space = cluster.triangle().spaces[0].path();
    let fleet = at_site(&cluster, 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = std::fs::File::open(space)?;
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build()?.block_on(async {
                let etcd = Etcd::new(&fleet);
                // Each write knows the one before: one that was done twice, or not at all, stops all that come.
                let mut last = None;
                let mut count = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    let write = put("count", &count.to_string()).guard("count", last);
                    let write = write.put(format!("n/{count}"), "");
                    last = Some(insist(&etcd, &write).await?);
                    count += 1;
                    sleep(Duration::from_millis(5)).await;
                }
                let now = snapshot(&etcd).await?;
                assert_eq!(now.entries.len(), count as usize + 1);
                Ok::<u32, anyhow::Error>(count)
            })
        });
        let disturb = (|| {
            for number in [0, 1, 2, 0] {
                thread::sleep(Duration::from_millis(700));
                cluster.kill(number)?;
                thread::sleep(Duration::from_millis(1500));
                cluster.again(number)?;
            }
            for number in 0..3 {
                cluster.signal(number, Signal::SIGSTOP)?;
                thread::sleep(Duration::from_millis(2500));
                cluster.signal(number, Signal::SIGCONT)?;
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        })();
        done.store(true, Ordering::Relaxed);
        let count = writer.join().expect("no panic")?;
        println!("{count} writes");
        ensure!(count > 100, "{count} writes");
        disturb
    })
}

#[test]
fn a_hundred_followers_see_each_edit_soon() -> Result<()> {
    needs_root!();
    const EDITS: usize = 100;
    let cluster = Cluster::three(Setup::default())?;
    let spaces = &cluster.triangle().spaces;
    let base = Instant::now();
    let ready = std::sync::Barrier::new(spaces.len() + 1);
    let mut took = thread::scope(|scope| {
        let sites = (0..).zip(spaces).map(|(number, space)| {
            let (cluster, ready) = (&cluster, &ready);
            scope.spawn(move || {
                run(space, async || {
                    let mut watches = Vec::new();
                    for _ in 0..33 {
                        let etcd = Etcd::new(&at_site(cluster, number));
                        let position = snapshot(&etcd).await.map(|now| now.position);
                        watches.push(match position {
                            Ok(position) => etcd.watch(position).await,
                            Err(lost) => Err(lost),
                        });
                    }
                    // Whatever has become of them: the others wait here, too.
                    ready.wait();
                    let watches: Vec<Watch> = watches.into_iter().collect::<Result<_, _>>()?;
                    let followers = watches.into_iter().map(|mut watch| {
                        tokio::spawn(async move {
                            let mut took = Vec::new();
                            while took.len() < EDITS {
                                let batch = timeout(CALL, watch.next()).await??;
                                for change in batch.changes {
                                    let sent = change.value.context("no value")?;
                                    let sent: u64 = String::from_utf8(sent)?.parse()?;
                                    took.push(base.elapsed() - Duration::from_micros(sent));
                                }
                            }
                            Ok::<_, anyhow::Error>(took)
                        })
                    });
                    let followers: Vec<_> = followers.collect();
                    let mut took = Vec::new();
                    for follower in followers {
                        took.extend(follower.await??);
                    }
                    Ok(took)
                })
            })
        });
        let sites: Vec<_> = sites.collect();
        ready.wait();
        run(&spaces[0], async || {
            let etcd = Etcd::new(&at_site(&cluster, 0));
            for number in 0..EDITS {
                let now = base.elapsed().as_micros().to_string();
                insist(&etcd, &put(&format!("k{number}"), &now)).await?;
                sleep(Duration::from_millis(30)).await;
            }
            Ok(())
        })?;
        let mut took = Vec::new();
        for site in sites {
            took.extend(site.join().expect("no panic")?);
        }
        Ok::<_, anyhow::Error>(took)
    })?;
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let (half, most) = (at(0.5), at(0.99));
    println!(
        "{} events: median {half:?}, p99 {most:?}, most {:?}",
        took.len(),
        at(1.0)
    );
    assert_eq!(took.len(), 99 * EDITS);
    ensure!(most < Duration::from_secs(10), "p99 {most:?}");
    Ok(())
}
