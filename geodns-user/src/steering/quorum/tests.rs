//! Votes in, decisions out.

use proptest::prelude::*;

use super::*;

const S: u64 = 1000;

/// A ballot from a line: `+` up, `-` down, `?` unknown, for each target.
fn ballot(node: &str, votes: &str) -> Ballot {
    let vote = |vote| match vote {
        '+' => Some(true),
        '-' => Some(false),
        _ => None,
    };
    Ballot {
        node: node.to_owned(),
        votes: votes.chars().map(vote).collect(),
    }
}

/// Ballots of nodes n1, n2 and so on.
fn ballots(votes: &[&str]) -> Vec<Ballot> {
    let numbered = votes.iter().enumerate();
    numbered
        .map(|(n, votes)| ballot(&format!("n{}", n + 1), votes))
        .collect()
}

/// A node, n1, that decides again and again.
struct Node {
    quorum: Quorum,
    now: u64,
    heard: Option<u64>,
    bounds: Vec<Bound>,
}

impl Node {
    fn new(rules: Rules) -> Self {
        Self {
            quorum: Quorum::new(rules),
            now: 1_000 * S,
            heard: Some(1_000 * S),
            bounds: Vec::new(),
        }
    }

    fn bounded(mut self, pools: &[&[usize]]) -> Self {
        let bound = |(n, targets): (usize, &&[usize])| Bound {
            pool: format!("p{n}"),
            targets: targets.to_vec(),
        };
        self.bounds = pools.iter().enumerate().map(bound).collect();
        self
    }

    fn decide(&mut self, ballots: &[Ballot]) -> Outcome {
        let own = ballots.iter().find(|ballot| ballot.node == "n1");
        let own = own.map(|own| own.votes.clone()).unwrap_or_default();
        let count = ballots.iter().map(|ballot| ballot.votes.len()).max();
        let targets: Vec<u64> = (0..count.unwrap_or(0) as u64).collect();
        self.quorum.decide(&Seen {
            now: self.now,
            heard: self.heard,
            node: "n1",
            targets: &targets,
            own: &own,
            ballots,
            bounds: &self.bounds,
        })
    }

    /// After a time in which the fleet was heard of.
    fn after(&mut self, seconds: u64) {
        self.now += seconds * S;
        self.heard = Some(self.now);
    }
}

/// Decisions in a line, as in [`ballot`].
fn line(outcome: &Outcome) -> String {
    let mark = |decision: &Decision| match decision.up {
        Some(true) => '+',
        Some(false) => '-',
        None => '?',
    };
    outcome.decisions.iter().map(mark).collect()
}

#[track_caller]
fn check(votes: &[&str], expected: &str) -> Outcome {
    let outcome = Node::new(Rules::default()).decide(&ballots(votes));
    assert_eq!(line(&outcome), expected, "{outcome:?}");
    outcome
}

#[test]
fn more_than_half_of_three_or_more_take_a_target_down() {
    check(&["-+++", "++++", "++++"], "++++");
    check(&["-+++", "-+++", "++++"], "-+++");
    check(&["-+++", "-+++", "++++", "++++", "++++"], "++++");
    check(&["-+++", "-+++", "-+++", "++++", "++++"], "-+++");
    // Half of them are not more than half.
    check(&["-+++", "-+++", "++++", "++++"], "-+++");
    check(&["++++", "-+++", "-+++", "++++"], "++++");
}

#[test]
fn at_a_tie_a_target_stays_as_it_was() {
    let mut node = Node::new(Rules::default());
    let tied = ballots(&["++++", "-+++", "-+++", "++++"]);
    assert_eq!(line(&node.decide(&tied)), "++++");
    node.decide(&ballots(&["++++", "-+++", "-+++", "-+++"]));
    assert_eq!(line(&node.decide(&tied)), "-+++");
    node.decide(&ballots(&["++++", "++++", "-+++", "++++"]));
    assert_eq!(line(&node.decide(&tied)), "++++");
}

#[test]
fn a_node_that_does_not_know_a_target_is_no_voter() {
    let outcome = check(&["-+++", "-+++", "?+++", "++++"], "-+++");
    assert_eq!(
        (outcome.decisions[0].down, outcome.decisions[0].voters),
        (2, 3)
    );
}

#[test]
fn a_node_with_a_dead_uplink_has_no_vote() {
    let outcome = check(&["++++", "-+++", "-+++", "++++", "----"], "++++");
    assert_eq!(outcome.abstained.len(), 1);
    assert_eq!(
        outcome.reason(0, &[]),
        "2 of 4 nodes say down; abstained: n5 (sees 100 % down)"
    );
    // It does not help those that say "up" either.
    check(&["-+++", "-+++", "+++-", "----"], "-+++");
}

#[test]
fn exactly_half_is_no_broken_view() {
    let half = check(&["++++", "++++", "++++", "++--"], "++++");
    assert!(half.abstained.is_empty());
    let more = check(&["++++", "++++", "++++", "+---"], "++++");
    assert_eq!(more.abstained[0].to_string(), "n4 (sees 75 % down)");
}

#[test]
fn two_broken_nodes_cannot_silence_sane_ones() {
    let outcome = check(&["+++++", "+++++", "+++++", "-----", "-----"], "+++++");
    let abstained: Vec<&str> = outcome
        .abstained
        .iter()
        .map(|abstention| abstention.node.as_str())
        .collect();
    assert_eq!(abstained, ["n4", "n5"]);
    // Nor when most mirrors are dead, and they alone see them all up.
    let outcome = check(&["----+", "----+", "----+", "+++++", "+++++"], "----+");
    assert!(outcome.abstained.is_empty());
}

#[test]
fn a_disaster_that_all_see_is_believed() {
    let outcome = check(&["---+", "---+", "---+", "---+"], "---+");
    assert_eq!((outcome.abstained.len(), outcome.careful), (0, None));
}

#[test]
fn with_too_few_voters_own_checks_decide_with_care() {
    let outcome = check(&["-+++", "++++"], "-+++");
    let careful = "2 of 2 nodes have a vote, and the quorum takes 3";
    assert_eq!(outcome.careful.as_deref(), Some(careful));
    assert_eq!(outcome.decisions[0].by, By::Own);
    assert_eq!(
        outcome.reason(0, &[]),
        format!("this node's own check ({careful})")
    );
    // Those that abstain are no voters.
    let outcome = check(&["-+++", "++++", "----"], "-+++");
    assert!(outcome.careful.is_some());
    // A target that only two nodes check.
    let outcome = check(&["+-++", "++++", "+?++", "+?++"], "+-++");
    assert_eq!(outcome.careful, None);
    assert_eq!(
        outcome.reason(1, &[]),
        "this node's own check (only 2 nodes check it)"
    );
}

#[test]
fn without_a_word_of_the_fleet_own_checks_decide_after_ten_seconds() {
    let mut node = Node::new(Rules::default());
    let votes = ballots(&["-+++", "++++", "++++"]);
    assert_eq!(line(&node.decide(&votes)), "++++");
    node.now += 9_999;
    let outcome = node.decide(&votes);
    assert_eq!((line(&outcome).as_str(), outcome.careful), ("++++", None));
    node.now += 1;
    let outcome = node.decide(&votes);
    assert_eq!(line(&outcome), "-+++");
    let why = "nothing has been heard of the fleet for 10 s";
    assert_eq!(outcome.careful.as_deref(), Some(why));
    node.heard = None;
    assert_eq!(line(&node.decide(&votes)), "-+++");
    node.after(1);
    assert_eq!(line(&node.decide(&votes)), "++++");
}

#[test]
fn votes_take_down_half_of_a_pool_in_a_minute() {
    let rules = Rules::default();
    let mut node = Node::new(rules).bounded(&[&[0, 1, 2, 3], &[4]]);
    assert_eq!(line(&node.decide(&ballots(&["+++++"; 3]))), "+++++");
    let all_down = ballots(&["-----"; 3]);
    let mut outcome = node.decide(&all_down);
    // A pool of one target has no half.
    assert_eq!(line(&outcome), "--++-");
    assert_eq!(
        outcome.reason(2, &node.bounds),
        "3 of 3 nodes say down, but votes have taken down as much of pool p0 as they may within a minute"
    );
    for _ in 0..59 {
        node.after(1);
        outcome = node.decide(&all_down);
        assert_eq!(line(&outcome), "--++-");
    }
    assert_eq!(
        node.quorum.until_more(node.now, &outcome),
        Some(Duration::from_secs(1))
    );
    node.after(1);
    outcome = node.decide(&all_down);
    assert_eq!(line(&outcome), "-----");
    assert_eq!(node.quorum.until_more(node.now, &outcome), None);
    assert_eq!(line(&node.decide(&ballots(&["+++++"; 3]))), "+++++");
    assert_eq!(line(&node.decide(&all_down)), "--++-");
}

#[test]
fn a_node_that_starts_believes_at_once_what_its_own_checks_have_seen() {
    let mut node = Node::new(Rules::default()).bounded(&[&[0, 1, 2, 3]]);
    assert_eq!(line(&node.decide(&ballots(&["---+"; 3]))), "---+");
}

#[test]
fn a_mirror_that_this_node_alone_cannot_reach_can_go_last() {
    let votes = ballots(&["-+++", "++++", "++++"]);
    let avoids = |local, votes: &[Ballot]| {
        let rules = Rules {
            local,
            ..Rules::default()
        };
        let outcome = Node::new(rules).decide(votes);
        assert_eq!(outcome.decisions[0].up, Some(true));
        outcome.decisions[0].avoid
    };
    assert!(!avoids(Local::Ignore, &votes));
    assert!(avoids(Local::Avoid, &votes));
    // A node whose uplink is dead avoids nobody.
    let broken = ballots(&["---+", "++++", "++++", "++++"]);
    assert!(!avoids(Local::Avoid, &broken));
}

/// Votes of nodes over targets, any.
fn any_votes(nodes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<Option<bool>>>> {
    let vote = prop_oneof![8 => Just(Some(true)), 6 => Just(Some(false)), 1 => Just(None)];
    (1..12usize).prop_flat_map(move |targets| {
        let ballot = proptest::collection::vec(vote.clone(), targets);
        proptest::collection::vec(ballot, nodes.clone())
    })
}

fn named(votes: &[Vec<Option<bool>>]) -> Vec<Ballot> {
    let numbered = votes.iter().enumerate();
    numbered
        .map(|(n, votes)| Ballot {
            node: format!("n{}", n + 1),
            votes: votes.clone(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_order_of_nodes_does_not_matter(votes in any_votes(1..9), seed in any::<u64>()) {
        let ballots = named(&votes);
        let mut shuffled = ballots.clone();
        shuffled.sort_by_key(|ballot| {
            let n: u64 = ballot.node[1..].parse().unwrap_or(0);
            (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let outcome = Node::new(Rules::default()).decide(&ballots);
        prop_assert_eq!(outcome, Node::new(Rules::default()).decide(&shuffled));
    }

    /// However a node with a broken view votes, all is decided as if it were not there. Sane nodes err here and there.
    #[test]
    fn a_node_that_abstains_moves_no_decision(
        sane in 3..8usize,
        dead in any::<[bool; 3]>(),
        errors in proptest::collection::vec(0..20usize, 8),
        blind in any::<u32>(),
    ) {
        let truth: Vec<bool> = (0..20).map(|target| !dead.get(target).is_some_and(|&dead| dead)).collect();
        let mut votes: Vec<Vec<Option<bool>>> = Vec::new();
        for error in &errors[..sane] {
            let mut own: Vec<Option<bool>> = truth.iter().map(|&up| Some(up)).collect();
            own[*error] = own[*error].map(|up| !up);
            votes.push(own);
        }
        let without = Node::new(Rules::default()).decide(&named(&votes));
        prop_assert!(without.abstained.is_empty());
        // At least fifteen of twenty are down for it, whatever it says of the others.
        let broken = (0..20).map(|target| Some(target < 5 && blind >> target & 1 == 1));
        votes.push(broken.collect());
        let with = Node::new(Rules::default()).decide(&named(&votes));
        prop_assert_eq!(with.abstained.len(), 1);
        prop_assert_eq!(with.decisions, without.decisions);
    }

    /// One more vote for "down" never brings that target up.
    #[test]
    fn a_vote_for_down_brings_nothing_up(
        mut votes in any_votes(3..9),
        node in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let (node, at) = (node.index(votes.len()), at.index(votes[0].len()));
        let mut decide = |up| {
            votes[node][at] = Some(up);
            Node::new(Rules::default()).decide(&named(&votes)).decisions[at]
        };
        let (before, after) = (decide(true), decide(false));
        // A node that abstains for it may leave too few voters: then own checks decide.
        if before.by == By::Votes && after.by == By::Votes && before.up == Some(false) {
            prop_assert_eq!(after.up, Some(false));
        }
    }

    /// Whatever is voted within a minute, votes alone never take all of a pool down.
    #[test]
    fn votes_never_take_all_of_a_pool(
        rounds in proptest::collection::vec((any_votes(3..6), 0..2u64), 1..20),
    ) {
        let mut node = Node::new(Rules::default()).bounded(&[&[0, 1, 2, 3, 4, 5], &[4, 5]]);
        node.decide(&ballots(&["++++++"; 3]));
        let bounds = node.bounds.clone();
        let mut by_own_check = [false; 6];
        for (votes, pause) in rounds {
            let mut ballots = named(&votes);
            for ballot in &mut ballots {
                ballot.votes.resize(6, None);
                ballot.votes.iter_mut().for_each(|vote| *vote = vote.or(Some(true)));
            }
            node.after(pause);
            let outcome = node.decide(&ballots);
            for (own, decision) in by_own_check.iter_mut().zip(&outcome.decisions) {
                *own = decision.up == Some(false) && (*own || decision.by == By::Own);
            }
            for bound in &bounds {
                let by_votes = |&&at: &&usize| {
                    outcome.decisions[at].up == Some(false) && !by_own_check[at]
                };
                let down = bound.targets.iter().filter(by_votes).count();
                prop_assert!(2 * down <= bound.targets.len(), "{outcome:?}");
            }
        }
    }
}
