//! A hundred voters with a thousand targets, around a store in memory.

use tokio::time::{Instant, sleep};

use super::*;
use crate::shared::twin::{Client, Twin};
use crate::shared::{Kind, Shared, Watch, Write};

const NODES: usize = 100;
const TARGETS: u64 = 1000;
/// Targets of one pool.
const POOL: usize = 10;

/// A node with its own connection to the store.
struct Voter {
    polls: Polls,
    client: Client,
    watch: Option<Watch>,
}

/// All nodes, and the time.
struct World {
    twin: Twin,
    voters: Vec<Voter>,
    start: Instant,
}

impl World {
    async fn new(nodes: usize, targets: u64) -> Self {
        let twin = Twin::new();
        let numbers: Vec<u64> = (0..targets).map(|n| n * 1_000_003).collect();
        let checked = Checked {
            bounds: numbers
                .chunks(POOL)
                .enumerate()
                .map(|(n, of)| (format!("p{n}"), of.to_vec()))
                .collect(),
            targets: numbers,
        };
        let mut world = Self {
            voters: (0..nodes)
                .map(|n| {
                    let mut polls = Polls::new(format!("n{n:02}"), Rules::default());
                    polls.set(Rules::default(), checked.clone());
                    let all = checked.targets.iter();
                    all.for_each(|&target| polls.found(target, true));
                    let client = twin.client();
                    Voter {
                        polls,
                        client,
                        watch: None,
                    }
                })
                .collect(),
            twin,
            start: Instant::now(),
        };
        world.run(Duration::from_secs(2)).await;
        world
    }

    fn target(n: u64) -> u64 {
        n * 1_000_003
    }

    fn now(&self) -> u64 {
        1_000_000 + self.start.elapsed().as_millis() as u64
    }

    /// Lets all nodes vote and decide, in steps of 100 ms.
    async fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(EVERY).await;
            let now = self.now();
            for voter in &mut self.voters {
                voter.step(now).await;
            }
        }
    }

    /// Nodes that have a target down.
    fn have_down(&self, target: u64) -> usize {
        let is_down = |voter: &&Voter| voter.decision(target) == Some(false);
        self.voters.iter().filter(is_down).count()
    }
}

impl Voter {
    fn decision(&self, target: u64) -> Option<bool> {
        let place = self.polls.targets.place(target)?;
        self.polls.outcome().decisions.get(place)?.up
    }

    async fn step(&mut self, now: u64) {
        let puts = self.polls.missing();
        if !puts.is_empty() {
            let write = puts.into_iter().fold(Write::new(), Write::with);
            let _ = self.client.commit(&write).await;
        }
        if self.watch.is_none()
            && let Ok(snapshot) = self.client.snapshot().await
        {
            self.polls.forget();
            for entry in &snapshot.entries {
                let _ = self.polls.take(&entry.key, Some(&entry.value));
            }
            self.watch = self.client.watch(snapshot.position).await.ok();
        }
        if let Some(watch) = &mut self.watch {
            loop {
                // Whatever has come by now.
                match tokio::time::timeout(Duration::ZERO, watch.next()).await {
                    Ok(Ok(batch)) => {
                        for change in batch.changes {
                            let _ = self.polls.take(&change.key, change.value.as_deref());
                        }
                    }
                    Ok(Err(_)) => {
                        self.watch = None;
                        break;
                    }
                    Err(_) => {
                        self.polls.heard(now);
                        break;
                    }
                }
            }
        }
        self.polls.decide(now);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_nodes_decide_together_about_a_thousand_targets() {
    let mut world = World::new(NODES, TARGETS).await;
    let dead = World::target(7);

    // One node's uplink is dead: nobody moves.
    for n in 0..TARGETS {
        world.voters[3].polls.found(World::target(n), false);
    }
    world.run(Duration::from_secs(1)).await;
    for n in 0..TARGETS {
        assert_eq!(world.have_down(World::target(n)), 0, "{n}");
    }
    let abstained = &world.voters[50].polls.outcome().abstained;
    assert_eq!(abstained[0].to_string(), "n03 (sees 100 % down)");

    // A mirror dies: each node's own checks find it within `fall`, at moments of their own.
    for n in 0..NODES {
        world.voters[n].polls.found(dead, false);
        if n % 20 == 0 {
            world.run(EVERY).await;
        }
    }
    let found = Instant::now();
    world.run(Duration::from_millis(300)).await;
    assert_eq!(world.have_down(dead), NODES);
    assert!(found.elapsed() < Duration::from_secs(1));
    let voted: HashMap<u64, Voted> = world.voters[0].polls.voted().collect();
    let reason = "99 of 99 nodes say down; abstained: n03 (sees 100 % down)";
    assert_eq!(voted[&dead].reason, reason);
    assert_eq!(voted.len(), TARGETS as usize);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_die_have_no_vote_when_their_lease_is_over() {
    let mut world = World::new(NODES, 10).await;
    world.voters.truncate(51);
    world.run(node::ALIVE + Duration::from_secs(2)).await;
    let voters = world.voters[0].polls.all.nodes().count();
    assert_eq!(voters, 51);
    let target = World::target(3);
    for voter in &mut world.voters[..26] {
        voter.polls.found(target, false);
    }
    world.run(Duration::from_secs(1)).await;
    assert_eq!(world.have_down(target), 51);
    world.voters.truncate(2);
    world.run(node::ALIVE + Duration::from_secs(2)).await;
    let outcome = world.voters[0].polls.outcome();
    let careful = "2 of 2 nodes have a vote, and the quorum takes 3";
    assert_eq!(outcome.careful.as_deref(), Some(careful));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_own_checks_decide_after_ten_seconds() {
    let mut world = World::new(5, 10).await;
    let target = World::target(3);
    world.twin.trouble(Some(Kind::NoQuorum));
    world.voters[0].polls.found(target, false);
    world.run(Duration::from_secs(9)).await;
    assert_eq!(world.have_down(target), 0);
    world.run(Duration::from_secs(2)).await;
    assert_eq!(world.have_down(target), 1);
    assert!(world.voters[1].polls.outcome().careful.is_some());
    world.twin.trouble(None);
    world.run(Duration::from_secs(2)).await;
    assert_eq!(world.have_down(target), 0);
    assert_eq!(world.voters[1].polls.outcome().careful, None);
}
