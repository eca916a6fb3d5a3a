//! Each step of a rollout, and a model: any crashes and partitions, and the promises that must hold.

use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);

fn names(nodes: &[&str]) -> BTreeSet<String> {
    nodes.iter().map(|node| (*node).to_owned()).collect()
}

/// Four nodes: a canary, one more, and two.
fn rollout(stage: Stage) -> Rollout {
    Rollout {
        number: 5,
        bundle: "new".to_owned(),
        serial: 50,
        before: Some("old".to_owned()),
        back: false,
        waves: vec![names(&["n1"]), names(&["n2"]), names(&["n3", "n4"])],
        rules: Rules {
            wait_ms: 300_000,
            within_ms: 60_000,
            max_change: 0.1,
        },
        stage,
    }
}

fn report(rollout: u64, progress: Progress) -> Report {
    Report {
        rollout,
        progress,
        databases: Vec::new(),
    }
}

fn previewed(share: f64) -> Progress {
    let name = "www.example.org.".to_owned();
    Progress::Previewed { share, name }
}

const RUNS: Progress = Progress::Runs(Answers {
    bad_before: 0.001,
    bad: 0.002,
    count: 1000,
    for_ms: 300_000,
});

/// The stage after the step that is due.
fn next(
    stage: Stage,
    alive: &[&str],
    words: &[(&str, Progress)],
    in_stage: Duration,
) -> Option<Stage> {
    let of =
        |(node, progress): &(&str, Progress)| ((*node).to_owned(), report(5, progress.clone()));
    let reports = words.iter().map(of).collect();
    let alive = names(alive);
    let seen = Seen {
        alive: &alive,
        reports: &reports,
        in_stage,
    };
    rollout(stage).next(&seen).map(|next| next.stage)
}

const ALL: [&str; 4] = ["n1", "n2", "n3", "n4"];

fn refused(why: &str) -> Option<Stage> {
    Some(Stage::Refused(why.to_owned()))
}

fn back(why: &str) -> Option<Stage> {
    Some(Stage::Back(why.to_owned()))
}

#[test]
fn every_node_previews_first_and_the_worst_decides() {
    let with = |share| {
        let mut words: Vec<_> = ALL.map(|node| (node, previewed(0.01))).into();
        words[2].1 = previewed(share);
        next(Stage::Preview, &ALL, &words, S)
    };
    assert_eq!(with(0.1), Some(Stage::Wave(0)));
    let too_much =
        "it moves 12.3 % of the clients of www.example.org. (n3), and max-change is 10.0 %";
    assert_eq!(with(0.1234), refused(too_much));
    let unfit = [("n1", Progress::Failed("geodns.toml:3: no".to_owned()))];
    assert_eq!(
        next(Stage::Preview, &ALL, &unfit, S),
        refused("n1: geodns.toml:3: no")
    );
    let some = [("n1", previewed(0.0)), ("n3", previewed(0.0))];
    assert_eq!(next(Stage::Preview, &ALL, &some, S), None);
    assert_eq!(
        next(Stage::Preview, &ALL, &some, PATIENCE),
        refused("no preview within 60 s from: n2, n4")
    );
    // Who is away is not waited for.
    let canary = next(Stage::Preview, &["n1", "n3"], &some, S);
    assert_eq!(canary, Some(Stage::Wave(0)));
}

#[test]
fn the_canary_is_watched_for_the_whole_wait() {
    let of =
        |progress: Progress, seconds| next(Stage::Wave(0), &ALL, &[("n1", progress)], S * seconds);
    let begins = Answers {
        for_ms: 299_999,
        ..Answers::default()
    };
    assert_eq!(of(Progress::Runs(begins), 310), None);
    assert_eq!(of(RUNS, 300), Some(Stage::Wave(1)));
    let failed = Progress::Failed("it does not answer".to_owned());
    assert_eq!(of(failed, 1), back("n1: it does not answer"));
    let with = |bad, count| {
        let answers = Answers {
            bad_before: 0.01,
            bad,
            count,
            for_ms: 0,
        };
        of(Progress::Runs(answers), 1)
    };
    assert_eq!(with(0.02, 1000), None);
    assert_eq!(with(1.0, 99), None);
    assert_eq!(
        with(0.03, 1000),
        back("n1: 3.0 % of 1000 answers are SERVFAIL or REFUSED, and before it were 1.0 %")
    );
    // Of a hundred answers, some more are bad by chance where many were bad before.
    let noisy = |bad, count| {
        let answers = Answers {
            bad_before: 0.05,
            bad,
            count,
            for_ms: 0,
        };
        of(Progress::Runs(answers), 1)
    };
    assert_eq!(noisy(0.1, 100), None);
    assert!(noisy(0.2, 100).is_some() && noisy(0.065, 10_000).is_none());
    assert!(noisy(0.07, 10_000).is_some());
    assert_eq!(next(Stage::Wave(0), &ALL, &[], S * 59), None);
    assert_eq!(
        next(Stage::Wave(0), &ALL, &[], S * 60),
        back("not run within 60 s by: n1")
    );
    assert_eq!(
        next(Stage::Wave(0), &ALL[1..], &[("n1", RUNS)], S),
        back("gone since it was told to run it: n1")
    );
}

#[test]
fn waves_follow_as_soon_as_all_of_the_one_before_run_it() {
    let run =
        |nodes: &[&'static str]| -> Vec<_> { nodes.iter().map(|node| (*node, RUNS)).collect() };
    assert_eq!(next(Stage::Wave(1), &ALL, &run(&["n1"]), S), None);
    let second = next(Stage::Wave(1), &ALL, &run(&["n1", "n2"]), S);
    assert_eq!(second, Some(Stage::Wave(2)));
    assert_eq!(
        next(Stage::Wave(2), &ALL, &run(&["n1", "n2", "n3"]), S),
        None
    );
    assert_eq!(next(Stage::Wave(2), &ALL, &run(&ALL), S), Some(Stage::Done));
    // One of two may be away, and takes it when it is back.
    let without = next(Stage::Wave(2), &ALL[..3], &run(&ALL[..3]), S);
    assert_eq!(without, Some(Stage::Done));
    assert!(matches!(
        next(Stage::Wave(2), &ALL[..2], &[], S),
        Some(Stage::Back(_))
    ));
    // A canary that goes wrong late takes all back.
    let mut late = run(&ALL);
    late[0].1 = Progress::Failed("it ended".to_owned());
    assert_eq!(next(Stage::Wave(2), &ALL, &late, S), back("n1: it ended"));
}

#[test]
fn nodes_run_what_their_stage_says() {
    let targets = |stage| {
        let rollout = rollout(stage);
        let target = |node| rollout.target(node).unwrap_or("none").to_owned();
        ["n1", "n2", "n3", "late"].map(target).join(" ")
    };
    assert_eq!(targets(Stage::Preview), "old old old old");
    assert_eq!(targets(Stage::Wave(0)), "new old old old");
    assert_eq!(targets(Stage::Wave(1)), "new new old old");
    assert_eq!(targets(Stage::Wave(2)), "new new new old");
    assert_eq!(targets(Stage::Done), "new new new new");
    assert_eq!(targets(Stage::Back(String::new())), "old old old old");
    assert_eq!(targets(Stage::Refused(String::new())), "old old old old");
}

#[test]
fn waves_have_nodes_of_all_sites() {
    let nodes: BTreeMap<String, String> = (1..=8)
        .map(|n| (format!("n{n}"), ["ams", "iad"][(n - 1) / 4].to_owned()))
        .collect();
    let of = |canary, shares: &[f64]| {
        let waves = waves(&nodes, &canary, shares)?;
        let join = |wave: &BTreeSet<String>| wave.iter().cloned().collect::<Vec<_>>().join(" ");
        Some(waves.iter().map(join).collect::<Vec<_>>())
    };
    assert_eq!(
        of(Canary::Count(1), &[0.5, 1.0]).unwrap(),
        ["n1", "n2 n5 n6", "n3 n4 n7 n8"]
    );
    assert_eq!(
        of(Canary::Site("iad".to_owned()), &[0.25]).unwrap(),
        ["n5 n6 n7 n8", "n1 n2 n3 n4"]
    );
    assert_eq!(of(Canary::Count(8), &[0.25, 1.0]).unwrap().len(), 1);
    assert_eq!(of(Canary::Count(0), &[1.0]), None);
    assert_eq!(of(Canary::Site("sin".to_owned()), &[1.0]), None);
}

#[test]
fn a_node_that_hears_nothing_goes_back_by_itself() {
    let canary = rollout(Stage::Wave(0));
    let mut local = Local {
        running: Some("old".to_owned()),
        ..Local::default()
    };
    let new = || Some("new".to_owned());
    let act = |local: &Local, rollout: Option<&Rollout>, seconds| {
        local.act(rollout, "n1", S * seconds, true)
    };
    assert_eq!(act(&local, Some(&canary), 0), Some(Act::Run(new())));
    local.run(&canary, new());
    assert_eq!(act(&local, Some(&canary), 419), None);
    assert_eq!(act(&local, None, 419), None);
    assert_eq!(act(&local, None, 420), Some(Act::GoBack));
    // The fleet has accepted it, or not.
    let accepted = rollout(Stage::Wave(1));
    assert_eq!(act(&local, Some(&accepted), 1), Some(Act::Keep));
    let over = rollout(Stage::Back(String::new()));
    let old = Some("old".to_owned());
    assert_eq!(act(&local, Some(&over), 1), Some(Act::Run(old.clone())));
    local.go_back(true);
    assert_eq!((&local.running, local.failed), (&old, Some((5, 1))));
    // It is not tried again, until the fleet has accepted it.
    assert_eq!(act(&local, Some(&canary), 0), None);
    assert_eq!(
        act(&local, Some(&rollout(Stage::Done)), 0),
        Some(Act::Run(new()))
    );
    local.failed = Some((5, 3));
    assert_eq!(act(&local, Some(&rollout(Stage::Done)), 0), None);
}

#[test]
fn a_node_that_was_away_takes_the_newest_alone() {
    let done = |number, bundle: &str| Rollout {
        number,
        bundle: bundle.to_owned(),
        ..rollout(Stage::Done)
    };
    let mut local = Local::default();
    local.run(&done(5, "five"), Some("five".to_owned()));
    assert_eq!(
        local.act(Some(&done(5, "five")), "n9", S, true),
        Some(Act::Keep)
    );
    local.keep();
    // Six and seven came meanwhile.
    let act = local.act(Some(&done(7, "seven")), "n9", S, true);
    assert_eq!(act, Some(Act::Run(Some("seven".to_owned()))));
    // On trial when it was cut off, and another one goes on from there.
    let mut on_trial = Local::default();
    on_trial.run(&done(5, "old"), Some("old".to_owned()));
    let later = Rollout {
        number: 6,
        ..rollout(Stage::Wave(0))
    };
    assert_eq!(
        on_trial.act(Some(&later), "n9", S * 1000, true),
        Some(Act::Keep)
    );
}

/// What is wrong with a bundle.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It cannot be put in force.
    Fails,
    /// The daemon ends this many seconds later.
    Ends(u64),
    /// Many answers are SERVFAIL.
    Servfail,
}

#[derive(Clone, Debug)]
enum Op {
    Apply(Fault),
    Rollback,
    Cut(usize),
    Heal(usize),
    Kill(usize),
}

/// A simulated node.
#[derive(Clone, Debug, Default)]
struct Node {
    local: Local,
    is_cut: bool,
    /// Ended, until then.
    starts_at: Option<u64>,
    runs_since: u64,
    known: Option<Rollout>,
    stage_since: u64,
    report: Option<Report>,
    last_seen: u64,
}

/// A simulated fleet. A tick is a second.
#[derive(Debug)]
struct Fleet {
    now: u64,
    nodes: Vec<Node>,
    rollout: Option<Rollout>,
    faults: Vec<Fault>,
    reports: BTreeMap<String, Report>,
    runs: usize,
}

const LEASE: u64 = 10;
const WAIT: u64 = 40;

impl Fleet {
    fn new(nodes: usize) -> Self {
        Self {
            now: 100,
            nodes: vec![Node::default(); nodes],
            rollout: None,
            faults: Vec::new(),
            reports: BTreeMap::new(),
            runs: 0,
        }
    }

    fn name(node: usize) -> String {
        format!("n{node:02}")
    }

    fn alive(&self) -> BTreeSet<String> {
        let numbered = self.nodes.iter().enumerate();
        numbered
            .filter(|(_, node)| node.last_seen + LEASE > self.now)
            .map(|(n, _)| Self::name(n))
            .collect()
    }

    fn fault(&self, bundle: Option<&str>) -> Fault {
        let number = bundle.and_then(|bundle| bundle.parse::<usize>().ok());
        number.map_or(Fault::None, |number| self.faults[number])
    }

    fn order(&mut self, op: &Op) {
        match op {
            Op::Cut(node) => self.nodes[*node].is_cut = true,
            Op::Heal(node) => self.nodes[*node].is_cut = false,
            Op::Kill(node) => self.end(*node),
            Op::Apply(fault) => {
                let nodes = self.alive().into_iter().map(|node| (node, String::new()));
                let waves = waves(&nodes.collect(), &Canary::Count(1), &[0.25, 1.0]);
                let is_over = self.rollout.as_ref().is_none_or(Rollout::is_over);
                if let (true, Some(waves)) = (is_over, waves) {
                    let before = self.rollout.as_ref().and_then(Rollout::good);
                    self.rollout = Some(Rollout {
                        number: self.faults.len() as u64 + 1,
                        bundle: self.faults.len().to_string(),
                        serial: 0,
                        before: before.map(str::to_owned),
                        back: false,
                        waves,
                        rules: Rules {
                            wait_ms: WAIT * 1000,
                            within_ms: PATIENCE.as_millis() as u64,
                            max_change: 0.1,
                        },
                        stage: Stage::Preview,
                    });
                    self.faults.push(*fault);
                }
            }
            Op::Rollback => {
                if let Some(rollout) = self.rollout.as_mut().filter(|rollout| !rollout.is_over()) {
                    rollout.stage = Stage::Back("the operator said so".to_owned());
                }
            }
        }
    }

    fn end(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.starts_at.get_or_insert(self.now + 3);
    }

    fn tick(&mut self) {
        self.now += 1;
        for n in 0..self.nodes.len() {
            if let Some(at) = self.nodes[n].starts_at {
                if self.now < at {
                    continue;
                }
                self.start(n);
            }
            self.step(n);
        }
        self.check();
    }

    fn start(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.starts_at = None;
        node.known = None;
        node.report = None;
        node.runs_since = self.now;
        if let Some(trial) = node.local.trial.clone() {
            node.local.go_back(true);
            let failed = Progress::Failed("it ended".to_owned());
            node.report = Some(report(trial.rollout, failed));
        }
    }

    fn step(&mut self, n: usize) {
        let now = self.now;
        let is_bad = self.fault(self.nodes[n].local.running.as_deref());
        let node = &mut self.nodes[n];
        if !node.is_cut {
            node.last_seen = now;
            let stage = |rollout: &Rollout| (rollout.number, rollout.stage.clone());
            if node.known.as_ref().map(stage) != self.rollout.as_ref().map(stage) {
                node.stage_since = now;
            }
            node.known.clone_from(&self.rollout);
        }
        if let Fault::Ends(after) = is_bad
            && now - node.runs_since >= after
        {
            return self.end(n);
        }
        let tried_for = S * (now - node.runs_since) as u32;
        let number = node.known.as_ref().map(|rollout| rollout.number);
        let has_reported = node.report.as_ref().map(|report| report.rollout) == number;
        // What it knew of the rollout when it was cut off counts no more.
        let known = node.known.clone().filter(|_| !node.is_cut);
        match node
            .local
            .act(known.as_ref(), &Self::name(n), tried_for, has_reported)
        {
            Some(Act::Preview) => self.report(n, previewed(0.01)),
            Some(Act::Run(bundle)) => self.run(n, &known.unwrap(), bundle),
            Some(Act::Keep) => node.local.keep(),
            Some(Act::GoBack) => {
                node.local.go_back(false);
                node.report = None;
            }
            None => {}
        }
        let node = &mut self.nodes[n];
        if let Some(Report {
            progress: Progress::Runs(answers),
            ..
        }) = &mut node.report
        {
            answers.count = (now - node.runs_since) * 100;
            answers.for_ms = (now - node.runs_since) * 1000;
            answers.bad = if is_bad == Fault::Servfail { 0.5 } else { 0.0 };
        }
        if !node.is_cut {
            match &node.report {
                Some(report) => self.reports.insert(Self::name(n), report.clone()),
                None => self.reports.remove(&Self::name(n)),
            };
            self.drive(n);
        }
    }

    fn report(&mut self, n: usize, progress: Progress) {
        let node = &mut self.nodes[n];
        let rollout = node.known.as_ref().unwrap().number;
        node.report = Some(report(rollout, progress));
    }

    fn run(&mut self, n: usize, rollout: &Rollout, bundle: Option<String>) {
        let fault = self.fault(bundle.as_deref());
        let node = &mut self.nodes[n];
        node.local.run(rollout, bundle);
        node.runs_since = self.now;
        if fault == Fault::Fails {
            node.local.go_back(true);
            self.report(n, Progress::Failed("it cannot be read".to_owned()));
        } else {
            self.runs += usize::from(node.local.trial.is_some());
            self.report(n, Progress::Runs(Answers::default()));
        }
    }

    /// Does the next step of the rollout, as whichever node sees it first.
    fn drive(&mut self, n: usize) {
        let alive = self.alive();
        let seen = Seen {
            alive: &alive,
            reports: &self.reports,
            in_stage: S * (self.now - self.nodes[n].stage_since) as u32,
        };
        let next = self
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.next(&seen));
        self.rollout = next.or(self.rollout.take());
    }

    /// A bad bundle runs on its canary alone.
    fn check(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            let running = node.local.running.as_deref();
            if self.fault(running) != Fault::None {
                let rollout = self.rollout.as_ref().unwrap();
                let bundle = Some(rollout.bundle.as_str());
                let is_canary = rollout.waves[0].contains(&Self::name(n));
                let was_cut = node.local.trial.is_some();
                assert!(
                    is_canary && bundle == running || was_cut,
                    "{n} runs it: {self:#?}"
                );
            }
        }
        let bad = |node: &&Node| self.fault(node.local.running.as_deref()) != Fault::None;
        let count = self.nodes.iter().filter(bad).count();
        // One of this rollout, and one of each before that is cut off since.
        assert!(
            count <= 1
                || self
                    .nodes
                    .iter()
                    .filter(bad)
                    .filter(|node| !node.is_cut)
                    .count()
                    <= 1
        );
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::Fails),
        2 => (1..15u64).prop_map(Fault::Ends),
        1 => Just(Fault::Servfail),
    ];
    prop_oneof![
        3 => fault.prop_map(Op::Apply),
        1 => Just(Op::Rollback),
        2 => (0..6usize).prop_map(Op::Cut),
        2 => (0..6usize).prop_map(Op::Heal),
        1 => (0..6usize).prop_map(Op::Kill),
    ]
}

#[test]
fn a_good_bundle_reaches_all_and_a_bad_one_the_canary() {
    let mut fleet = Fleet::new(100);
    (0..20).for_each(|_| fleet.tick());
    fleet.order(&Op::Apply(Fault::None));
    (0..WAIT + 10).for_each(|_| fleet.tick());
    assert_eq!(fleet.rollout.as_ref().unwrap().stage, Stage::Done);
    assert_eq!(fleet.runs, 100);
    for fault in [Fault::Fails, Fault::Ends(14), Fault::Servfail] {
        let before = fleet.runs;
        fleet.order(&Op::Apply(fault));
        (0..WAIT + 10).for_each(|_| fleet.tick());
        let stage = &fleet.rollout.as_ref().unwrap().stage;
        assert!(matches!(stage, Stage::Back(_)), "{stage:?}");
        assert!(fleet.runs <= before + 1);
        let all_on_first = |node: &Node| node.local.running.as_deref() == Some("0");
        assert!(fleet.nodes.iter().all(all_on_first));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is cut off and ends: a bad bundle runs on no more than the canary, and in the end all run the same.
    #[test]
    fn a_fleet_ends_on_one_bundle(ops in proptest::collection::vec((any_op(), 0..60u32), 0..25)) {
        let mut fleet = Fleet::new(6);
        (0..20).for_each(|_| fleet.tick());
        for (op, pause) in ops {
            fleet.order(&op);
            (0..pause).for_each(|_| fleet.tick());
        }
        (0..6).for_each(|node| fleet.order(&Op::Heal(node)));
        (0..400).for_each(|_| fleet.tick());
        let is_over = fleet.rollout.as_ref().is_none_or(Rollout::is_over);
        prop_assert!(is_over, "{:#?}", fleet);
        let good = fleet.rollout.as_ref().and_then(Rollout::good);
        prop_assert_eq!(fleet.fault(good), Fault::None);
        for node in &fleet.nodes {
            // One that was killed again and again while it tried a good bundle stays behind, and says so.
            let gave_up = node.local.failed.is_some_and(|(_, times)| times >= MOST_TRIALS);
            prop_assert!(node.local.running.as_deref() == good || gave_up, "{:#?}", fleet);
        }
    }
}
