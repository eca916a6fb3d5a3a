//! This node in a rollout: it previews and runs bundles as the rollout says, reports, and does the next step where it is
//! the first to see that one is due.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::{MissedTickBehavior, interval};

use super::edit::comes_in_force;
use super::link::{Condition, Failed, Link};
use crate::control::by::By;
use crate::control::problem::Failure;
use crate::control::rollout::{
    Apply, BundleDiff, BundleFile, Rollout as Shown, RolloutNode, Rollouts, Service,
};
use crate::daemon::Daemon;
use crate::daemon::control::Control;
use crate::daemon::force::{internal, milliseconds};
use crate::event::Kind;
use crate::fault;
use crate::files;
use crate::fleet::bundle::{self, Bundle, Manifest};
use crate::fleet::kept::KeptBundles;
use crate::fleet::node;
use crate::fleet::rollout::{
    Act, Answers, BUNDLE, Canary, Local, PATIENCE, Progress, REPORT, Report, Rollout, Rules, Seen,
    Stage, waves,
};
use crate::geo::Geography;
use crate::shared::{Lost, Put, Revision, Write};
use crate::supervise::Never;

/// How often a node looks at the rollout.
const EVERY: Duration = Duration::from_millis(250);
/// A report is put at least this often while answers are counted.
const COUNT: Duration = Duration::from_secs(2);
const CURRENT: &str = "rollout/current";
const HISTORY: &str = "rollout/history/";
/// Rollouts that are remembered.
const REMEMBERED: usize = 50;
/// Bundles of the past that are removed from the store at once.
const PAST: usize = 20;
/// The longest wait for a canary.
const MOST_WAIT_MS: u64 = 24 * 3600 * 1000;

/// What a node reports: its progress, and GeoIP databases that are other ones than the bundle's.
type Done = (Progress, Vec<String>);

/// Why a node has not done what the rollout has it do.
enum Undone {
    /// The store is of no use now: it tries again.
    Later(Lost),
    /// It has not seen the newest step of the rollout yet: it waits for that one.
    Behind,
    /// It cannot.
    Failed(String),
}

/// What a node keeps in mind of a rollout.
struct Part {
    kept: KeptBundles,
    local: Local,
    /// Since when the bundle has been running.
    since: Instant,
    /// Number and stage of the rollout that is known, and since when.
    stage: Option<(u64, Stage, Instant)>,
    report: Option<Report>,
    /// The report that was put, and when.
    put: Option<(Report, Instant)>,
    /// When this node has last looked for a step that is due.
    looked: Instant,
    /// Answers and bad answers when the bundle came in force, and the share of bad ones before.
    baseline: (u64, u64, f64),
}

impl Daemon {
    /// Takes part in rollouts, for ever; where there is a fleet.
    pub async fn roll_out(self: Arc<Self>) -> Never {
        let Some(link) = self.fleet.clone() else {
            return std::future::pending().await;
        };
        let kept = self.kept_bundles();
        let local = kept.local().unwrap_or_else(|error| {
            tracing::error!("fleet: which bundle runs cannot be read: {error}");
            Local::default()
        });
        let mut part = Part {
            // The daemon has gone back from this one when it started.
            report: local.failed.map(|(rollout, _)| Report {
                rollout,
                databases: Vec::new(),
                progress: Progress::Failed("the daemon ended, or could not run it".to_owned()),
            }),
            local,
            kept,
            since: Instant::now(),
            stage: None,
            put: None,
            looked: Instant::now(),
            baseline: (0, 0, 0.0),
        };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A node that is cut off knows nothing of the rollout: what it knew before may be over.
            let follows = link.view().condition == Condition::Following;
            let current = match follows {
                true => Current::of(&link),
                false => Current::default(),
            };
            self.act(&mut part, &link, &current).await;
            if follows {
                self.put_report(&mut part, &link, current.rollout.as_ref())
                    .await;
                self.drive(&mut part, &link, current).await;
            }
        }
    }

    fn kept_bundles(&self) -> KeptBundles {
        KeptBundles::beside(&self.world.load().inputs.config.state)
    }

    /// Does what the rollout has this node do.
    async fn act(self: &Arc<Self>, part: &mut Part, link: &Link, current: &Current) {
        let rollout = current.rollout.as_ref();
        if let Some(rollout) = rollout {
            let is_same = |(number, stage, _): &(u64, Stage, Instant)| {
                *number == rollout.number && *stage == rollout.stage
            };
            if !part.stage.as_ref().is_some_and(is_same) {
                part.stage = Some((rollout.number, rollout.stage.clone(), Instant::now()));
            }
        }
        let number = rollout.map(|rollout| rollout.number);
        let has_reported = part.report.as_ref().map(|report| report.rollout) == number;
        let tried_for = part.since.elapsed();
        let act = part.local.act(rollout, &link.node, tried_for, has_reported);
        let done = match (&act, rollout) {
            (Some(Act::Preview), Some(rollout)) => {
                Some(self.preview_bundle(part, link, rollout).await)
            }
            (Some(Act::Run(bundle)), Some(rollout)) => Some(match current.is_newest(link).await {
                Ok(()) => self.run_bundle(part, link, rollout, bundle.clone()).await,
                Err(undone) => Err(undone),
            }),
            _ => None,
        };
        if let (Some(done), Some(rollout)) = (done, rollout) {
            let (progress, databases) = match done {
                Ok(done) => done,
                Err(Undone::Failed(why)) => (Progress::Failed(why), Vec::new()),
                Err(Undone::Later(lost)) => {
                    tracing::debug!("fleet: the bundle cannot be read yet: {lost}");
                    return;
                }
                Err(Undone::Behind) => return,
            };
            part.report = Some(Report {
                rollout: rollout.number,
                progress,
                databases,
            });
        }
        match (act, rollout) {
            (Some(Act::Keep), _) => {
                part.local.keep();
                self.keep_local(part);
                let good = rollout.and_then(|rollout| rollout.before.clone());
                let running = part.local.running.clone();
                let keep: Vec<&str> = [&good, &running]
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect();
                part.kept.sweep(&keep);
            }
            (Some(Act::GoBack), _) => {
                tracing::error!(
                    event = Kind::Rollout.name(),
                    "fleet: no word of the fleet on the bundle on trial: this node goes back by itself"
                );
                part.local.go_back(false);
                self.keep_local(part);
                part.report = None;
                let _ = self.reload_all(&By::Itself).await;
            }
            (Some(Act::Preview | Act::Run(_)) | None, _) => {}
        }
        let Some(rollout) = rollout.filter(|rollout| !rollout.is_over()) else {
            // Nobody counts any more.
            return;
        };
        if let Some(Report {
            progress: Progress::Runs(answers),
            ..
        }) = &mut part.report
        {
            let (all, bad, bad_before) = part.baseline;
            let (all_now, bad_now) = self.answers();
            let count = all_now.saturating_sub(all);
            *answers = Answers {
                bad_before,
                bad: share(bad_now.saturating_sub(bad), count),
                count,
                for_ms: rollout.rules.wait_ms.min(milliseconds(part.since)),
            };
        }
    }

    fn keep_local(&self, part: &Part) {
        if let Err(error) = part.kept.save(&part.local) {
            tracing::error!("fleet: which bundle runs is not kept: {error}");
        }
    }

    /// Answers so far of the slow path, and those with SERVFAIL or REFUSED: the fast path gives neither of its own.
    fn answers(&self) -> (u64, u64) {
        let stats = self.server.stats().snapshot();
        let rcodes = stats.iter().filter(|(name, _)| name.starts_with("rcode_"));
        let all = rcodes.map(|(_, count)| count).sum();
        let of = |name: &str| stats.get(name).copied().unwrap_or(0);
        (all, of("rcode_servfail") + of("rcode_refused"))
    }

    /// Has a bundle on the disk, read from the store and verified.
    async fn fetch(
        &self,
        part: &Part,
        link: &Link,
        rollout: &Rollout,
        id: &str,
    ) -> Result<(), Undone> {
        let failed = |why: String| Err(Undone::Failed(why));
        if part.kept.has(id) {
            return Ok(());
        }
        let prefix = format!("{BUNDLE}{id}");
        let snapshot = link.store().below(&prefix).await;
        let snapshot = snapshot.map_err(Undone::Later)?;
        let entry = |key: String| {
            let mut entries = snapshot.entries.iter();
            entries
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value)
        };
        let (octets, signature) = (entry(prefix.clone()), entry(format!("{prefix}.minisig")));
        let (Some(octets), Some(signature)) = (octets, signature) else {
            return failed(format!("the fleet's store has no bundle {id}"));
        };
        if bundle::id(octets) != id {
            return failed(format!(
                "the fleet's store has other octets for bundle {id}"
            ));
        }
        let signature = String::from_utf8_lossy(signature);
        let (opened, _) = bundle::open(octets, &signature, &self.trusted_keys())
            .map_err(|refused| Undone::Failed(refused.to_string()))?;
        if id == rollout.bundle && opened.serial != rollout.serial {
            return failed(format!("bundle {id} has serial {}", opened.serial));
        }
        let (kept, id) = (part.kept.clone(), id.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || kept.unpack(&id, &opened)).await;
        let unpacked = unpacked.map_err(|error| Undone::Failed(error.to_string()))?;
        unpacked.map_err(|error| Undone::Failed(format!("the bundle cannot be unpacked: {error}")))
    }

    fn trusted_keys(&self) -> Vec<String> {
        let config = &self.world.load().inputs.config;
        let fleet = config.fleet.as_ref();
        fleet.map_or_else(Vec::new, |fleet| fleet.trusted_keys.clone())
    }

    /// The share of the clients that a bundle would move, of the name of which it would move most.
    async fn preview_bundle(
        self: &Arc<Self>,
        part: &Part,
        link: &Link,
        rollout: &Rollout,
    ) -> Result<Done, Undone> {
        self.fetch(part, link, rollout, &rollout.bundle).await?;
        let path = part.kept.config(&rollout.bundle);
        let preview = self.preview_of(path, true).await;
        let (preview, geography) =
            preview.map_err(|failure| Undone::Failed(failure.to_string()))?;
        let databases = other_databases(part, &rollout.bundle, geography).await?;
        let mut worst = (0.0, String::new());
        for of in &preview.names {
            let moved = of.moves.iter().filter(|shown| shown.from != shown.to);
            let sums = moved.fold([0.0, 0.0, 0.0], |[v4, v6, queries], shown| {
                [
                    v4 + shown.v4,
                    v6 + shown.v6,
                    queries + shown.queries.unwrap_or(0.0),
                ]
            });
            let most = sums.into_iter().fold(0.0, f64::max);
            if most > worst.0 {
                worst = (most, of.names.first().cloned().unwrap_or_default());
            }
        }
        // A name that is gone moves all of its clients.
        let (share, name) = match preview.gone_names.first() {
            Some(name) => (1.0, name.clone()),
            None => worst,
        };
        Ok((Progress::Previewed { share, name }, databases))
    }

    /// Runs a bundle, or this node's own file. If that fails, all is as before.
    async fn run_bundle(
        self: &Arc<Self>,
        part: &mut Part,
        link: &Link,
        rollout: &Rollout,
        bundle: Option<String>,
    ) -> Result<Done, Undone> {
        if let Some(id) = &bundle {
            self.fetch(part, link, rollout, id).await?;
        }
        let before = part.local.clone();
        let (all, bad) = self.answers();
        part.local.run(rollout, bundle.clone());
        part.since = Instant::now();
        // A daemon that ends from here on goes back.
        if let Err(error) = part.kept.save(&part.local) {
            part.local = before;
            let why = format!("which bundle runs cannot be kept: {error}");
            return Err(Undone::Failed(why));
        }
        if let Err(failure) = self.reload_all(&By::Itself).await {
            if part.local.trial.is_some() {
                part.local.go_back(true);
            } else {
                part.local = before;
            }
            self.keep_local(part);
            return Err(Undone::Failed(failure.to_string()));
        }
        // Nothing fails here: a test can have the daemon end.
        let _ = fault::point("fleet: a bundle in force");
        part.baseline = (all, bad, share(bad, all));
        let shown = bundle.as_deref().unwrap_or("its own file");
        let event = Kind::Rollout.name();
        tracing::info!(event, bundle, "fleet: this node runs {shown}");
        let databases = match &bundle {
            Some(id) => {
                let geography = Arc::clone(&self.world.load().inputs.geography);
                other_databases(part, id, geography).await?
            }
            None => Vec::new(),
        };
        Ok((Progress::Runs(Answers::default()), databases))
    }

    async fn put_report(&self, part: &mut Part, link: &Link, rollout: Option<&Rollout>) {
        let Some(report) = &part.report else {
            return;
        };
        let key = format!("{REPORT}{}", link.node);
        if let Some((put, at)) = &part.put {
            let is_count = |report: &Report| matches!(report.progress, Progress::Runs(_));
            let is_watched = |report: &Report| {
                let of = rollout.filter(|rollout| rollout.number == report.rollout);
                of.is_some_and(|rollout| rollout.is_watched(&report.progress))
            };
            let is_same = report == put
                || report.rollout == put.rollout
                    && is_count(report)
                    && is_count(put)
                    && is_watched(report) == is_watched(put)
                    && at.elapsed() < COUNT;
            if is_same && link.changed(&key).is_some() {
                return;
            }
        }
        let Ok(value) = serde_json::to_vec(report) else {
            return;
        };
        let put = Put::new(key, value).leased(node::LEASE);
        let report = report.clone();
        if self
            .commit_as_member(link, |write| write.with(put))
            .await
            .is_ok()
        {
            part.put = Some((report, Instant::now()));
        }
    }

    async fn commit_as_member(
        &self,
        link: &Link,
        with: impl FnOnce(Write) -> Write,
    ) -> Result<(), Failure> {
        let write = tokio::task::block_in_place(|| self.write_of_member())?;
        let revision = link
            .commit(&with(write))
            .await
            .map_err(|failed| match failed {
                Failed::Conflict(_) => Failure::Unavailable(
                    "nothing has changed: another rollout came first".to_owned(),
                ),
                Failed::Refused(why) => Failure::Unavailable(why),
                Failed::Invalid(why) => Failure::Invalid(why),
            })?;
        comes_in_force(link, revision).await
    }

    /// Does the next step of a rollout, if one is due. Nodes look in turns: the further behind in the order of their
    /// names, the less often. Otherwise all nodes would read all reports, only to make the same commit.
    async fn drive(&self, part: &mut Part, link: &Link, current: Current) {
        let Some(rollout) = current
            .rollout
            .as_ref()
            .filter(|rollout| !rollout.is_over())
        else {
            return;
        };
        let alive = link.alive();
        let before = alive.range(..link.node.clone()).count();
        if part.looked.elapsed() < EVERY.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)) {
            return;
        }
        part.looked = Instant::now();
        let reports = reports(link);
        let since = part.stage.as_ref().map(|(_, _, since)| since.elapsed());
        let next = rollout.next(&Seen {
            alive: &alive,
            reports: &reports,
            in_stage: since.unwrap_or_default(),
        });
        let Some(next) = next else {
            return;
        };
        tracing::info!(
            event = Kind::Rollout.name(),
            rollout = next.number,
            "fleet: rollout {} of bundle {}: {}",
            next.number,
            next.bundle,
            stage(&next)
        );
        if let Err(failure) = self
            .put_rollout(link, current.changed, &next, Vec::new())
            .await
        {
            tracing::debug!("fleet: the step is not done: {failure}");
        }
    }

    /// Puts a rollout in the place of the one that the caller has seen. One that is over is remembered.
    async fn put_rollout(
        &self,
        link: &Link,
        seen: Option<Revision>,
        rollout: &Rollout,
        puts: Vec<Put>,
    ) -> Result<(), Failure> {
        let value = serde_json::to_vec(rollout).map_err(internal)?;
        let history: Vec<String> = link
            .below(HISTORY)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        let (number, is_over) = (rollout.number, rollout.is_over());
        self.commit_as_member(link, move |write| {
            let mut write = write.guard(CURRENT, seen).put(CURRENT, value.clone());
            if is_over {
                write = write.put(format!("{HISTORY}{number:08}"), value);
                let more = history.len().saturating_sub(REMEMBERED);
                for key in history.iter().take(more) {
                    write = write.delete(format!("{HISTORY}{key}"));
                }
            }
            puts.into_iter().fold(write, Write::with)
        })
        .await
    }

    /// Reads and verifies a bundle that an operator names.
    fn read_bundle(&self, file: &str) -> Result<(Vec<u8>, String, Bundle), Failure> {
        let path = Path::new(file);
        if !path.is_absolute() {
            let message = format!("file: {file} is not an absolute path: write it from / on");
            return Err(Failure::Invalid(message));
        }
        let cannot = |path: &str, error: std::io::Error| {
            Failure::Invalid(format!("{path}: cannot read: {error}"))
        };
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let refused = |refused: bundle::Refused| Failure::Invalid(format!("{file}: {refused}"));
        bundle::within(usize::try_from(size).unwrap_or(usize::MAX)).map_err(refused)?;
        let octets = files::read_at_most(path, bundle::MOST_OCTETS as u64)
            .map_err(|error| cannot(file, error))?;
        let beside = format!("{file}.minisig");
        let signature =
            files::read_to_string(Path::new(&beside)).map_err(|error| cannot(&beside, error))?;
        let (bundle, _) =
            bundle::open(&octets, &signature, &self.trusted_keys()).map_err(refused)?;
        Ok((octets, signature, bundle))
    }

    async fn begin_rollout(self: &Arc<Self>, apply: Apply) -> Result<(), Failure> {
        let link = Arc::clone(self.require_fleet()?);
        if let Some(refusal) = link.refusal() {
            return Err(Failure::Unavailable(refusal));
        }
        let invalid = |message: &str| Err(Failure::Invalid(message.to_owned()));
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        if !is_share(&apply.max_change)
            || !apply.waves.iter().all(is_share)
            || apply.waves.len() > 100
        {
            return invalid("max_change and waves are shares from 0 to 1");
        }
        if apply.wait_ms > MOST_WAIT_MS || apply.within_ms > MOST_WAIT_MS {
            return invalid("wait_ms and within_ms are a day at the most");
        }
        let Current { changed, rollout } = Current::of(&link);
        let last = rollout;
        if let Some(last) = last.as_ref().filter(|last| !last.is_over()) {
            return Err(Failure::Invalid(format!(
                "rollout {} is under way: wait for its end, or `geodns fleet rollback`",
                last.number
            )));
        }
        let file = apply.file.clone();
        let read = move |daemon: &Self| daemon.read_bundle(&file);
        let (octets, signature, opened) = self.blocking(read).await?;
        if !apply.force {
            opened
                .require_newer(last_done(&link).map(|running| running.serial))
                .map_err(|refused| Failure::Invalid(format!("{}: {refused}", apply.file)))?;
        }
        let nodes = link.nodes().into_iter();
        let nodes: BTreeMap<String, String> = nodes
            .map(|(name, node)| (name, node.site.unwrap_or_default()))
            .collect();
        let canary = match apply.canary.parse() {
            Ok(count) => Canary::Count(count),
            Err(_) => Canary::Site(apply.canary.clone()),
        };
        let Some(waves) = waves(&nodes, &canary, &apply.waves) else {
            let canary = &apply.canary;
            return Err(Failure::Invalid(format!(
                "no node that lives is in canary {canary:?}"
            )));
        };
        let id = bundle::id(&octets);
        let rollout = Rollout {
            number: last.as_ref().map_or(0, |last| last.number) + 1,
            bundle: id.clone(),
            serial: opened.serial,
            before: last.as_ref().and_then(Rollout::good).map(str::to_owned),
            back: false,
            waves,
            rules: Rules {
                wait_ms: apply.wait_ms,
                within_ms: apply.within_ms,
                max_change: if apply.force { 1.0 } else { apply.max_change },
            },
            stage: Stage::Preview,
        };
        let puts = vec![
            Put::new(format!("{BUNDLE}{id}"), octets),
            Put::new(format!("{BUNDLE}{id}.minisig"), signature),
        ];
        self.put_rollout(&link, changed, &rollout, puts).await?;
        // Nodes that were away may need the last one, and a rollback the one before; nobody needs those before.
        let done = last_done(&link);
        let needed = [
            Some(&rollout.bundle),
            rollout.before.as_ref(),
            last.as_ref().map(|last| &last.bundle),
            done.as_ref().map(|done| &done.bundle),
            done.as_ref().and_then(|done| done.before.as_ref()),
        ];
        let past = history(&link).into_iter().map(|past| past.bundle);
        let gone: BTreeSet<String> = past
            .filter(|id| !needed.contains(&Some(id)))
            .take(PAST)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let deletes = gone.into_iter().flat_map(|id| {
            let key = format!("{BUNDLE}{id}");
            [format!("{key}.minisig"), key]
        });
        let deleted = self
            .commit_as_member(&link, |write| deletes.fold(write, Write::delete))
            .await;
        if let Err(failure) = deleted {
            tracing::debug!("fleet: bundles of the past are still in the store: {failure}");
        }
        Ok(())
    }

    async fn go_back_all(self: &Arc<Self>) -> Result<(), Failure> {
        let link = Arc::clone(self.require_fleet()?);
        let Current { changed, rollout } = Current::of(&link);
        let Some(last) = rollout else {
            return Err(Failure::Invalid("there has been no rollout".to_owned()));
        };
        if !last.is_over() {
            let stage = Stage::Back("the operator said so".to_owned());
            return self
                .put_rollout(&link, changed, &Rollout { stage, ..last }, Vec::new())
                .await;
        }
        let Some(done) = last_done(&link) else {
            return Err(Failure::Invalid(
                "no rollout has come to its end: each node runs its own file".to_owned(),
            ));
        };
        let Some(before) = done.before.clone() else {
            return Err(Failure::Invalid(
                "there was no bundle before: each node ran its own file; apply another bundle"
                    .to_owned(),
            ));
        };
        let history = history(&link);
        let serial = history.iter().rev().find(|older| older.bundle == before);
        let rollout = Rollout {
            number: last.number + 1,
            serial: serial.map_or(0, |older| older.serial),
            bundle: before,
            before: Some(done.bundle),
            back: true,
            waves: vec![link.nodes().into_keys().collect()],
            rules: Rules {
                wait_ms: 0,
                within_ms: PATIENCE.as_millis() as u64,
                max_change: 1.0,
            },
            stage: Stage::Wave(0),
        };
        self.put_rollout(&link, changed, &rollout, Vec::new()).await
    }

    fn rollouts(&self) -> Result<Rollouts, Failure> {
        let link = self.require_fleet()?;
        let local = self.kept_bundles().local().map_err(internal)?;
        let mut past: Vec<Shown> = history(link).iter().map(|of| shown(of, None)).collect();
        past.reverse();
        Ok(Rollouts {
            running: local.running,
            current: Current::of(link)
                .rollout
                .map(|rollout| shown(&rollout, Some(link))),
            history: past,
        })
    }

    fn difference(&self, file: &str) -> Result<BundleDiff, Failure> {
        self.require_fleet()?;
        let (_, _, opened) = self.read_bundle(file)?;
        let kept = self.kept_bundles();
        let local = kept.local().map_err(internal)?;
        let before = match &local.running {
            Some(id) => kept.manifest(id).map_err(internal)?,
            None => Manifest::default(),
        };
        let difference = before.difference(&opened.manifest());
        let of = |wanted: char| {
            let files = difference.iter().filter(|(mark, _)| *mark == wanted);
            files.map(|(_, path)| path.clone()).collect()
        };
        Ok(BundleDiff {
            running: local.running,
            added: of('+'),
            removed: of('-'),
            changed: of('~'),
            databases: self
                .world
                .load()
                .inputs
                .geography
                .other_than(&opened.databases),
        })
    }
}

/// GeoIP databases that have another content than a bundle says.
async fn other_databases(
    part: &Part,
    bundle: &str,
    geography: Arc<Geography>,
) -> Result<Vec<String>, Undone> {
    let manifest = part.kept.manifest(bundle);
    let manifest = manifest.map_err(|error| Undone::Failed(error.to_string()))?;
    let other = tokio::task::spawn_blocking(move || geography.other_than(&manifest.databases));
    other
        .await
        .map_err(|error| Undone::Failed(error.to_string()))
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        part as f64 / all as f64
    }
}

/// The rollout under way, or the last one, and the commit that put it.
#[derive(Default)]
struct Current {
    changed: Option<Revision>,
    rollout: Option<Rollout>,
}

impl Current {
    fn of(link: &Link) -> Self {
        let Some((changed, value)) = link.entry(CURRENT) else {
            return Self::default();
        };
        let rollout = serde_json::from_slice(&value)
            .inspect_err(|error| tracing::debug!("fleet: the rollout cannot be read: {error}"));
        Self {
            changed: Some(changed),
            rollout: rollout.ok(),
        }
    }

    /// Asks the store whether this is still its rollout. A node that was cut off sees what has been meanwhile in its
    /// order, and must run none of it but the last.
    async fn is_newest(&self, link: &Link) -> Result<(), Undone> {
        let snapshot = link.store().below(CURRENT).await.map_err(Undone::Later)?;
        let mut entries = snapshot.entries.iter();
        let newest = entries.find(|entry| entry.key == CURRENT);
        match newest.map(|entry| entry.changed) == self.changed {
            true => Ok(()),
            false => Err(Undone::Behind),
        }
    }
}

/// The last rollout that has come to all nodes: they run its bundle.
fn last_done(link: &Link) -> Option<Rollout> {
    let mut history = history(link).into_iter().rev();
    history.find(|rollout| rollout.stage == Stage::Done)
}

fn history(link: &Link) -> Vec<Rollout> {
    let entries = link.below(HISTORY).into_iter();
    let read = entries.filter_map(|(_, value)| serde_json::from_slice(&value).ok());
    read.collect()
}

fn reports(link: &Link) -> BTreeMap<String, Report> {
    let entries = link.below(REPORT).into_iter();
    let read =
        entries.filter_map(|(node, value)| Some((node, serde_json::from_slice(&value).ok()?)));
    read.collect()
}

/// The stage of a rollout in words.
fn stage(rollout: &Rollout) -> String {
    match &rollout.stage {
        Stage::Preview => "preview".to_owned(),
        Stage::Wave(wave) => format!("wave {} of {}", wave + 1, rollout.waves.len()),
        Stage::Done => "done".to_owned(),
        Stage::Refused(why) => format!("refused: {why}"),
        Stage::Back(why) => format!("back: {why}"),
    }
}

/// A report in words.
fn says(report: &Report) -> String {
    let progress = match &report.progress {
        Progress::Previewed { name, .. } if name.is_empty() => "moves nobody".to_owned(),
        Progress::Previewed { share, name } => {
            format!("moves {:.1} % of the clients of {name}", share * 100.0)
        }
        Progress::Runs(answers) if answers.count == 0 => {
            "runs it; no answers of its slow path yet".to_owned()
        }
        Progress::Runs(answers) => format!(
            "runs it; {} answers, {:.1} % of them SERVFAIL or REFUSED",
            answers.count,
            answers.bad * 100.0
        ),
        Progress::Failed(why) => why.clone(),
    };
    let databases = report.databases.iter();
    let databases = databases.map(|path| format!("; {path} is not the bundle's"));
    progress + &databases.collect::<String>()
}

fn shown(rollout: &Rollout, link: Option<&Link>) -> Shown {
    let reports = link.map(reports).unwrap_or_default();
    let mut names: BTreeSet<String> = rollout.waves.iter().flatten().cloned().collect();
    names.extend(link.map(Link::nodes).unwrap_or_default().into_keys());
    let says = |node: &String| {
        let report = reports.get(node);
        let report = report.filter(|report| report.rollout == rollout.number);
        report.map_or_else(String::new, says)
    };
    let (stage, why) = match &rollout.stage {
        Stage::Refused(why) => ("refused".to_owned(), Some(why.clone())),
        Stage::Back(why) => ("back".to_owned(), Some(why.clone())),
        _ => (stage(rollout), None),
    };
    Shown {
        number: rollout.number,
        bundle: rollout.bundle.clone(),
        serial: rollout.serial,
        stage,
        why,
        is_over: rollout.is_over(),
        is_done: rollout.stage == Stage::Done,
        nodes: names
            .iter()
            .map(|node| {
                let wave = rollout.waves.iter().position(|wave| wave.contains(node));
                RolloutNode {
                    node: node.clone(),
                    wave: wave.map(|wave| wave as u64 + 1),
                    says: says(node),
                }
            })
            .collect(),
    }
}

#[async_trait]
impl Service for Control {
    async fn rollout(&self) -> Result<Rollouts, Failure> {
        self.0.rollouts()
    }

    async fn apply(&self, apply: Apply) -> Result<Rollouts, Failure> {
        self.0.begin_rollout(apply).await?;
        self.0.rollouts()
    }

    async fn rollback(&self) -> Result<Rollouts, Failure> {
        self.0.go_back_all().await?;
        self.0.rollouts()
    }

    async fn diff(&self, bundle: BundleFile) -> Result<BundleDiff, Failure> {
        let diff = move |daemon: &Daemon| daemon.difference(&bundle.file);
        self.0.blocking(diff).await
    }
}
