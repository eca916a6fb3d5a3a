//! The thread that announces the node: it checks, decides, and tells the holder of the device, round by round.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checks::{Check, Checks, verdict};
use super::neighbours::Neighbours;
use super::{Announcing, Seen};
use crate::announce::course::{Course, Decision, Rules};
use crate::announce::hold_down::HoldDown;
use crate::announce::holder::Options;
use crate::announce::holder::client::{Client, Trouble};
use crate::announce::holder::message::{Announcement, Word};
use crate::announce::links::Links;
use crate::announce::{State, course, prefixes};
use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::config::Announce;
use crate::control::announce::ROUTING;
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::serve::Endpoint;

/// A daemon that has said nothing for this many intervals is taken for dead by the holder.
const SILENCE: u32 = 3;
/// Between attempts to have a holder, when one has failed: the first pause, which doubles, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// The program that is the holder: this one, even if another version has taken its place on disk.
const PROGRAM: &str = "/proc/self/exe";
/// Name of the holder's socket, in the folder of the control socket.
const SOCKET: &str = "announce.sock";

impl Daemon {
    /// Announces the node until the daemon ends.
    pub(super) fn announce_in_rounds(self: &Arc<Self>) {
        let Some(announcing) = &self.announcing else {
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(Rounds::new(self, announcing).run()),
            Err(error) => panic!("no runtime: {error}"),
        }
        announcing.rounds.send_replace(None);
    }

    /// The holder's socket: beside the control socket, whose folder is ours alone.
    fn holder_socket(&self) -> PathBuf {
        let config = &self.world.load().inputs.config;
        let control = self.options.socket.as_ref().unwrap_or(&config.socket);
        control.with_file_name(SOCKET)
    }
}

/// All that the thread knows.
struct Rounds<'a> {
    daemon: &'a Arc<Daemon>,
    announcing: &'a Announcing,
    course: Course,
    checks: Checks,
    neighbours: Neighbours,
    holder: Holder,
    endpoints: Vec<Endpoint>,
    /// Failures that the disk has, or will have.
    failures: Vec<u64>,
    count: u64,
}

impl<'a> Rounds<'a> {
    fn new(daemon: &'a Arc<Daemon>, announcing: &'a Announcing) -> Self {
        let now = now_unix_ms();
        let failures = lock(&announcing.seen).failures.clone();
        let config = daemon.announce_config();
        let hold_down = HoldDown::new(config.hold_down.clone(), &failures, now);
        Self {
            daemon,
            announcing,
            course: Course::new(rules(&config), hold_down),
            checks: Checks::default(),
            neighbours: Neighbours::default(),
            holder: Holder::new(Options {
                socket: daemon.holder_socket(),
                device: config.device,
            }),
            endpoints: Vec::new(),
            failures,
            count: 0,
        }
    }

    async fn run(&mut self) {
        loop {
            let started = Instant::now();
            let config = self.daemon.announce_config();
            let is_over = self.round(&config).await;
            if is_over {
                self.holder.end();
                return;
            }
            self.count += 1;
            self.announcing.rounds.send_replace(Some(self.count));
            let rest = config.interval.saturating_sub(started.elapsed());
            // Not at once, even if each round takes longer than it should.
            let rest = rest.max(config.interval / 10);
            let _ = tokio::time::timeout(rest, self.announcing.due.notified()).await;
        }
    }

    /// A round. Says whether it was the last one.
    async fn round(&mut self, config: &Announce) -> bool {
        let patience = config.interval * 4 / 5;
        let links = Links::read().unwrap_or_default();
        self.follow_endpoints(patience).await;
        let listen = || self.endpoints.iter().map(|at| at.address);
        let prefixes = prefixes(config, listen(), &links);
        let is_in = |at: &&Endpoint| prefixes.iter().any(|prefix| prefix.contains(&at.address));
        let announced: Vec<Endpoint> = self.endpoints.iter().filter(is_in).cloned().collect();
        let unserved = prefixes
            .iter()
            .find(|prefix| !announced.iter().any(|at| prefix.contains(&at.address)));
        let (daemon, announcing) = (self.daemon, self.announcing);
        let told = self.neighbours.poll(config, &announcing.routes());
        let checks = self
            .checks
            .round(daemon, &announced, &links, patience, told)
            .await;
        let now = now_unix_ms();
        self.course.set_rules(rules(config));
        self.course.hold_down().set_bounds(config.hold_down.clone());
        if announcing.forgives.swap(false, Ordering::Relaxed) {
            self.course.hold_down().clear();
        }
        if self.holder.was_lost() {
            self.course.hold_down().note(now);
        }
        let ready = match unserved {
            _ if prefixes.is_empty() => Err(
                "there is no prefix to announce: add an address of server.listen to lo, or set announce.prefixes"
                    .to_owned(),
            ),
            Some(prefix) => Err(format!("the server listens on no address in {prefix}")),
            None => self.holder.connect(),
        };
        let answers = verdict(&checks);
        let decision = match announcing.hurries.load(Ordering::Relaxed) {
            true => Decision {
                state: State::Withdrawn,
                why: "the daemon stops".to_owned(),
                asks: false,
                done: true,
            },
            false => self.course.decide(&course::Seen {
                now,
                ready: ready.clone(),
                answers,
                queries: self.checks.queries(daemon),
                word: *lock(&announcing.word),
                ends: announcing.ends.load(Ordering::Relaxed),
                permission: daemon.permission(),
            }),
        };
        daemon.ask_to_leave(decision.asks);
        let trouble = match ready {
            Err(_) => None,
            Ok(()) => self.holder.say(decision.state, &prefixes, config, daemon),
        };
        self.keep_failures();
        self.tell(decision.clone(), prefixes, trouble, checks, now);
        decision.done
    }

    /// The addresses that the server listens on; those of before, if somebody changes them.
    async fn follow_endpoints(&mut self, patience: Duration) {
        let listening = self.daemon.listening.lock();
        if let Ok(listening) = tokio::time::timeout(patience / 2, listening).await {
            self.endpoints = listening.endpoints.iter().cloned().collect();
        }
    }

    /// Has new failures kept on disk, which this thread does not wait for.
    fn keep_failures(&mut self) {
        let failures = self.course.hold_down().failures();
        if failures == self.failures {
            return;
        }
        self.failures = failures.to_vec();
        let (daemon, failures) = (Arc::clone(self.daemon), self.failures.clone());
        tokio::task::spawn_blocking(move || {
            let Some(announcing) = &daemon.announcing else {
                return;
            };
            let kept = announcing.keep(&daemon.state, |kept| kept.failures = failures);
            if let Err(error) = kept {
                tracing::warn!("a failure of this node is not kept: {error}");
            }
        });
    }

    /// Shows the round, and logs its news.
    fn tell(
        &self,
        decision: Decision,
        prefixes: BTreeSet<ipnet::IpNet>,
        trouble: Option<String>,
        checks: Vec<Check>,
        now: u64,
    ) {
        let mut seen = lock(&self.announcing.seen);
        let Decision {
            mut state, mut why, ..
        } = decision;
        if let Some(trouble) = &trouble {
            // Others rely on a node that says it is up.
            state = self.holder.in_force;
            why.clone_from(trouble);
        }
        // Trouble has a line of its own, and seconds that count down are no news.
        if trouble.is_some() {
        } else if seen.state != state || self.count == 0 {
            let name = state.name();
            let because = match why.as_str() {
                "" => String::new(),
                why => format!(": {why}"),
            };
            match state {
                State::Up | State::Waiting => {
                    let event = Kind::Announce.name();
                    tracing::info!(
                        event,
                        state = name,
                        cause = why,
                        "announced as {name}{because}"
                    );
                }
                _ => {
                    let event = Kind::Announce.name();
                    tracing::warn!(
                        event,
                        state = name,
                        cause = why,
                        "announced as {name}{because}"
                    );
                }
            }
        } else if state == State::Waiting && seen.why != why {
            tracing::warn!(state = state.name(), cause = why, "not announced: {why}");
        }
        if let Some(trouble) = &trouble
            && seen.trouble.as_ref() != Some(trouble)
        {
            tracing::error!(
                cause = trouble,
                "the routes are not as they should be: {trouble}"
            );
        }
        if state != State::Waiting {
            self.tell_routing(&seen.checks, &checks);
        }
        let since = if seen.state == state { seen.since } else { now };
        *seen = Seen {
            state,
            since,
            why,
            prefixes,
            trouble,
            failures: self.failures.clone(),
            checks,
        };
    }
}

impl Rounds<'_> {
    /// Logs that the routing daemon has gone, or is there again.
    fn tell_routing(&self, before: &[Check], now: &[Check]) {
        let fault = |checks: &[Check]| {
            let mut checks = checks.iter();
            let routing = checks.find(|check| check.kind == ROUTING);
            routing.and_then(|check| check.fault.clone())
        };
        match (fault(before), fault(now)) {
            (before, Some(fault)) if before.as_ref() != Some(&fault) => tracing::warn!("{fault}"),
            (Some(_), None) => {
                tracing::info!("the routing daemon carries the routes of this machine")
            }
            _ => {}
        }
    }
}

impl Daemon {
    /// The section `[announce]` in force.
    pub fn announce_config(&self) -> Announce {
        let config = &self.world.load().inputs.config;
        // A reload neither adds nor removes the section.
        config
            .announce
            .clone()
            .unwrap_or_else(|| unreachable!("it was there at the start"))
    }
}

fn rules(config: &Announce) -> Rules {
    Rules {
        fall: config.fall,
        rise: config.rise,
        drain: config.drain,
    }
}

/// The holder, as the daemon sees it.
struct Holder {
    options: Options,
    client: Option<Client>,
    /// Why there is none.
    refused: String,
    retry_at: Instant,
    pause: Duration,
    /// One has ended while it was needed, and nobody has noted it yet.
    lost: bool,
    /// This daemon has had something announced.
    has_said: bool,
    /// The state whose routes are in force, as far as this daemon has made them.
    in_force: State,
}

impl Holder {
    fn new(options: Options) -> Self {
        let [pause, _] = PAUSES;
        Self {
            options,
            client: None,
            refused: String::new(),
            retry_at: Instant::now(),
            pause,
            lost: false,
            has_said: false,
            in_force: State::Waiting,
        }
    }

    /// Whether a holder has ended since this was last asked.
    fn was_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Takes over the holder of the daemon before, or starts one. After a failure it is tried again, after longer and
    /// longer pauses.
    fn connect(&mut self) -> Result<(), String> {
        if self.client.is_some() {
            return Ok(());
        }
        if Instant::now() < self.retry_at {
            return Err(self.refused.clone());
        }
        match Client::connect(Path::new(PROGRAM), &self.options) {
            Ok(client) => {
                [self.pause, _] = PAUSES;
                self.client = Some(client);
                Ok(())
            }
            Err(error) => {
                let [_, longest] = PAUSES;
                self.retry_at = Instant::now() + self.pause;
                self.pause = longest.min(2 * self.pause);
                self.refused.clone_from(&error);
                Err(error)
            }
        }
    }

    /// Has the state announced, and gives the trouble with that. It says nothing while the node waits for its first checks:
    /// the routes of the daemon before stay until this one knows better.
    fn say(
        &mut self,
        state: State,
        prefixes: &BTreeSet<ipnet::IpNet>,
        config: &Announce,
        daemon: &Daemon,
    ) -> Option<String> {
        if state == State::Waiting && !self.has_said {
            return None;
        }
        let client = self.client.as_mut()?;
        let stale_after = daemon.world.load().inputs.config.kernel.stale_after;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let word = Word::Announce(Announcement {
            prefixes: prefixes.iter().copied().collect(),
            table: config.table,
            metric: state.metric(),
            silence_ms: millis(SILENCE * config.interval),
            stale_after_ms: millis(stale_after),
        });
        match client.say(&word) {
            Ok(()) => {
                self.has_said = true;
                self.in_force = state;
                None
            }
            Err(Trouble::Refused(why)) => {
                // They were there, and are not any more.
                if self.in_force == state {
                    self.in_force = State::Waiting;
                }
                Some(why)
            }
            Err(Trouble::Lost(error)) => {
                self.client = None;
                self.lost = true;
                self.in_force = State::Waiting;
                Some(format!("the holder of the device has ended: {error}"))
            }
        }
    }

    /// Withdraws, and ends the holder.
    fn end(&mut self) {
        if let Some(client) = &mut self.client
            && let Err(trouble) = client.say(&Word::End)
        {
            tracing::warn!("the routes could not be withdrawn: {trouble}");
        }
    }
}
