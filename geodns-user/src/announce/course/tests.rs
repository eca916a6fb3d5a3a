//! A node on its way through the states, round by round.

use proptest::prelude::*;

use super::*;

const ROUND: u64 = 250;
const START: u64 = 1_700_000_000_000;

fn rules() -> Rules {
    Rules {
        fall: 3,
        rise: Duration::from_secs(10),
        drain: None,
    }
}

/// A node, and what it sees.
struct Node {
    course: Course,
    seen: Seen,
}

impl Node {
    fn new() -> Self {
        Self::after(&[])
    }

    fn after(failures: &[u64]) -> Self {
        let bounds = Duration::from_secs(30)..=Duration::from_secs(900);
        Self {
            course: Course::new(rules(), HoldDown::new(bounds, failures, START)),
            seen: Seen {
                now: START,
                ready: Ok(()),
                answers: Ok(()),
                queries: 0,
                word: Word::Auto,
                ends: false,
                permission: Permission::Nobody,
            },
        }
    }

    fn up() -> Self {
        let mut node = Self::new();
        assert_eq!(node.round().state, State::Up);
        node
    }

    fn round(&mut self) -> Decision {
        self.seen.now += ROUND;
        self.course.decide(&self.seen)
    }

    /// The milliseconds until it is in this state, a minute at the most.
    fn until(&mut self, state: State) -> Option<u64> {
        let start = self.seen.now;
        (0..240)
            .find(|_| self.round().state == state)
            .map(|_| self.seen.now - start)
    }

    fn fails(&mut self) {
        self.seen.answers = Err("UDP 192.0.2.53: no answer within 200 ms".to_owned());
    }
}

#[test]
fn a_node_waits_until_it_answers_and_says_for_what() {
    let mut node = Node::new();
    node.seen.ready = Err("no plan yet".to_owned());
    node.fails();
    assert_eq!(node.round(), is(State::Waiting, "no plan yet"));
    node.seen.ready = Ok(());
    for _ in 0..40 {
        assert_eq!(node.round().state, State::Waiting);
    }
    assert!(node.round().why.contains("no answer"));
    node.seen.answers = Ok(());
    assert_eq!(node.round(), is(State::Up, ""));
}

#[test]
fn a_node_that_fails_is_the_last_resort_within_three_rounds_and_back_after_the_hold_down() {
    let mut node = Node::up();
    node.fails();
    assert_eq!(node.until(State::LastResort), Some(3 * ROUND));
    // Nobody else may be up: it stays.
    assert_eq!(node.until(State::Withdrawn), None);
    node.seen.answers = Ok(());
    let back = node.until(State::Up);
    // 60 s went by: the 30 s of the first failure are over, and `rise` is left.
    assert_eq!(back, Some(10_000 + ROUND));
    node.fails();
    node.until(State::LastResort).unwrap();
    node.seen.answers = Ok(());
    let decision = {
        (0..45).for_each(|_| drop(node.round()));
        node.round()
    };
    assert_eq!(decision.state, State::LastResort);
    assert!(decision.why.starts_with("held down for"), "{decision:?}");
    assert!(node.until(State::Up).is_some_and(|time| time > 40_000));
}

#[test]
fn one_bad_round_moves_nobody() {
    let mut node = Node::up();
    for _ in 0..100 {
        node.fails();
        assert_eq!(node.round().state, State::Up);
        assert_eq!(node.round().state, State::Up);
        node.seen.answers = Ok(());
        assert_eq!(node.round().state, State::Up);
    }
}

#[test]
fn a_node_that_fails_leaves_with_permission_alone_and_returns_when_the_others_are_gone() {
    let mut node = Node::up();
    node.fails();
    node.until(State::LastResort).unwrap();
    assert!(node.round().asks);
    node.seen.permission = Permission::Granted;
    assert_eq!(node.round().state, State::Withdrawn);
    node.seen.permission = Permission::Refused("no other node is up".to_owned());
    let held = node.round();
    assert_eq!(held.state, State::Held);
    assert!(held.why.ends_with("; no other node is up"), "{held:?}");
    assert_eq!(held.state.metric(), Some(300));
}

#[test]
fn a_drain_lasts_until_the_operator_says_otherwise_or_its_time_is_over() {
    let mut node = Node::up();
    node.seen.word = Word::Drain(Some(node.seen.now + 20_000));
    assert_eq!(node.round().state, State::Draining);
    let until = node.until(State::Up);
    assert_eq!(until, Some(20_000 - ROUND));
    node.seen.word = Word::Drain(None);
    assert_eq!(node.until(State::Withdrawn), None);
    assert_eq!(node.round().state, State::Draining);
    // It fails: it must not look better than one that has failed.
    node.fails();
    assert_eq!(node.until(State::LastResort), Some(3 * ROUND));
}

#[test]
fn a_withdrawal_waits_for_quiet_and_two_minutes_at_the_most() {
    let mut node = Node::up();
    node.seen.word = Word::Withdraw { force: false };
    assert_eq!(node.until(State::Withdrawn), Some(5_000 + ROUND));
    node.seen.word = Word::Auto;
    assert_eq!(node.until(State::Up), Some(ROUND));
    // Clients that never cease.
    node.seen.word = Word::Withdraw { force: false };
    let start = node.seen.now;
    loop {
        node.seen.queries += 1;
        if node.round().state == State::Withdrawn {
            break;
        }
    }
    assert_eq!(node.seen.now - start, 120_000 + ROUND);
}

#[test]
fn the_last_node_stays_unless_its_operator_forces_it_or_its_daemon_ends() {
    let mut node = Node::up();
    node.seen.permission = Permission::Refused("no other node is up".to_owned());
    node.seen.word = Word::Withdraw { force: false };
    let held = node.round();
    assert_eq!(
        held,
        asking(State::Held, "the operator said so; no other node is up")
    );
    assert_eq!(node.until(State::Withdrawn), None);
    // It changes its mind, or others come up: those that had moved away are gone.
    node.seen.word = Word::Auto;
    assert_eq!(node.round(), is(State::Up, ""));
    node.seen.word = Word::Withdraw { force: false };
    assert_eq!(node.round().state, State::Held);
    node.seen.permission = Permission::Granted;
    assert_eq!(node.round().state, State::Withdrawn);
    node.seen.word = Word::Auto;
    assert_eq!(node.round().state, State::Up);
    node.seen.permission = Permission::Refused("no other node is up".to_owned());
    node.seen.word = Word::Withdraw { force: false };
    assert_eq!(node.round().state, State::Held);
    node.seen.word = Word::Withdraw { force: true };
    assert_eq!(node.round().state, State::Withdrawn);
    let mut node = Node::up();
    node.seen.permission = Permission::Refused("no other node is up".to_owned());
    node.seen.ends = true;
    let time = node.until(State::Withdrawn);
    assert_eq!(time, Some(5_000 + ROUND));
    assert!(node.round().done);
}

#[test]
fn a_node_drains_until_the_fleet_has_answered_and_asks_at_once() {
    let mut node = Node::up();
    node.seen.word = Word::Withdraw { force: false };
    node.seen.permission = Permission::Pending;
    for _ in 0..100 {
        let draining = node.round();
        assert_eq!(draining.state, State::Draining);
        assert!(draining.asks);
    }
    node.seen.permission = Permission::Granted;
    assert_eq!(node.round().state, State::Withdrawn);
    // It stays so over a new question, as after a restart.
    node.seen.permission = Permission::Pending;
    assert_eq!(node.round().state, State::Withdrawn);
    // The end of the daemon waits for nobody.
    let mut node = Node::up();
    node.seen.permission = Permission::Pending;
    node.seen.ends = true;
    assert_eq!(node.until(State::Withdrawn), Some(5_000 + ROUND));
    // A failed node stays reachable while it waits for the answer.
    let mut node = Node::up();
    node.seen.permission = Permission::Pending;
    node.fails();
    assert_eq!(node.until(State::LastResort), Some(3 * ROUND));
    assert_eq!(node.until(State::Withdrawn), None);
}

#[test]
fn the_end_of_a_daemon_that_is_not_announced_waits_for_nothing() {
    let mut node = Node::new();
    node.seen.ready = Err("no plan yet".to_owned());
    node.round();
    node.seen.ends = true;
    assert!(node.round().done);
}

#[test]
fn a_crash_before_the_start_holds_the_node_down_and_leaves_it_reachable() {
    let mut node = Node::after(&[START - 5_000]);
    assert_eq!(node.round().state, State::LastResort);
    assert_eq!(node.until(State::Up), Some(25_000 - ROUND));
}

proptest! {
    /// Random rounds, words and permissions.
    #[test]
    fn what_always_holds(steps in prop::collection::vec(
        (any::<bool>(), any::<bool>(), 0..4u8, 0..4u8, any::<bool>(), 1..200u64), 1..200)
    ) {
        let mut node = Node::new();
        for (ready, good, word, permission, query, rounds) in steps {
            node.seen.ready = if ready { Ok(()) } else { Err("no device".to_owned()) };
            node.seen.answers = if good { Ok(()) } else { Err("no answer".to_owned()) };
            node.seen.word = match word {
                0 | 1 => Word::Auto,
                2 => Word::Drain(None),
                _ => Word::Withdraw { force: false },
            };
            node.seen.permission = match permission {
                0 => Permission::Nobody,
                1 => Permission::Granted,
                2 => Permission::Pending,
                _ => Permission::Refused("no other node is up".to_owned()),
            };
            for _ in 0..rounds {
                node.seen.queries += u64::from(query);
                let was_announced = node.course.state.metric().is_some();
                let Decision { state, why, asks, .. } = node.round();
                // A node says why, unless it is up.
                prop_assert_eq!(state == State::Up, why.is_empty());
                // Of its own accord it leaves with permission alone, and never when that is refused.
                if state == State::Withdrawn {
                    prop_assert!(asks);
                    let granted = node.seen.permission == Permission::Granted;
                    let told = matches!(node.seen.word, Word::Withdraw { .. });
                    let is_free = match node.seen.permission {
                        Permission::Nobody => true,
                        Permission::Pending => !was_announced,
                        _ => false,
                    };
                    prop_assert!(granted || told && is_free);
                }
                if state == State::Held {
                    let asked = matches!(node.seen.permission, Permission::Refused(_) | Permission::Pending);
                    prop_assert!(asked);
                }
                // It is up if it is ready, was good for this round or fails for the first few, and nobody says otherwise.
                if state == State::Up {
                    prop_assert!(ready && node.seen.word == Word::Auto);
                    prop_assert!(node.course.bad < 3);
                }
                if matches!(node.course.finding, Finding::Failed(_)) {
                    prop_assert!(state.metric().is_none_or(|metric| metric == 300));
                }
            }
        }
    }
}
