//! Zones that come from other servers: asked for when their time has come (RFC 1035 section 3.3.13) or a
//! primary says so (RFC 1996), put in force, kept on disk, and given up when they have expired.
//!
//! Each zone has a task of its own, and so one transfer at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use domain::base::Serial;
use rand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Daemon, zones};
use crate::config::{Config, Peer};
use crate::control::api::Failure;
use crate::serve::Notice;
use crate::transfer::client;
use crate::transfer::receive::Received;
use crate::zone::catalog::Member;
use crate::zone::{Delta, Name, Zone, take};

/// Transfers under way, at the most.
const TRANSFERS: usize = 10;
/// Serials that are being asked for, at the most.
const ASKING: usize = 256;
/// Bounds of the times that a SOA record sets: nobody asks more often, or less.
const REFRESH: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(14 * 24 * 3600)];
/// Retries of a zone that was never transferred: the first pause, and the longest.
const FIRST: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(600)];
/// A zone is written to the disk no more often than once in a second for each MiB that it has.
const PER_MIB: Duration = Duration::from_secs(1);

/// All zones that come from elsewhere.
#[derive(Debug)]
pub(super) struct Secondaries {
    tasks: Mutex<HashMap<Name, Task>>,
    turns: Semaphore,
    asking: Semaphore,
}

impl Default for Secondaries {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            turns: Semaphore::new(TRANSFERS),
            asking: Semaphore::new(ASKING),
        }
    }
}

/// What looks after a zone.
#[derive(Debug)]
struct Task {
    wake: mpsc::Sender<Wake>,
    abort: AbortHandle,
    /// Whom it asks, and for which names it does without addresses.
    is_for: String,
    /// Which member of a catalog it is for: another one of that name begins anew.
    member: Option<Member>,
    checked: Arc<Checked>,
}

/// When a primary of a zone last had no newer version, in milliseconds since 1970; 0: never.
#[derive(Debug, Default)]
struct Checked(AtomicU64);

impl Checked {
    /// Before 1970 if never.
    fn at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis());
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::Relaxed);
    }
}

/// Why to look now.
#[derive(Clone, Copy, Debug)]
enum Wake {
    /// A primary says that there is another version, with this serial if it says so.
    Notified(IpAddr, Option<u32>),
    /// Somebody wants to know.
    Asked,
    /// All of it is to be had anew.
    Whole,
}

impl Daemon {
    /// Looks after those zones that come from elsewhere, and no others.
    pub(super) fn follow_primaries(self: &Arc<Self>) {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mut tasks = self.secondaries.lock();
        tasks.retain(|apex, task| {
            let zone = zones::number(&world, apex).map(|number| &config.zones[number]);
            let stays = zone.is_some_and(|zone| {
                !zone.primaries.is_empty() && !begins_anew(&task.member, &zone.member)
            });
            if !stays {
                task.abort.abort();
            }
            stays
        });
        let zones = world.zones.load();
        let mut below: HashMap<usize, Vec<String>> = HashMap::new();
        for steer in &config.steers {
            let above = steer.name.iter_suffixes();
            for number in above.filter_map(|name| zones.number(name.for_slice())) {
                let steered = below.entry(number).or_default();
                steered.push(steer.name.to_string());
            }
        }
        for (number, zone) in config.zones.iter().enumerate() {
            if zone.primaries.is_empty() {
                continue;
            }
            let steered = below.remove(&number).unwrap_or_default();
            let is_for = format!("{:?} {steered:?}", zone.primaries);
            let first = match tasks.get_mut(&zone.name) {
                Some(task) if task.is_for == is_for => {
                    task.member.clone_from(&zone.member);
                    continue;
                }
                Some(task) => {
                    task.is_for = is_for;
                    task.member.clone_from(&zone.member);
                    let _ = task.wake.try_send(Wake::Whole);
                    continue;
                }
                None => zone.name.clone(),
            };
            let (wake, woken) = mpsc::channel(16);
            let daemon = Arc::clone(self);
            let member = zone.member.clone();
            let checked = Arc::new(Checked::default());
            let task = look_after(
                daemon,
                first.clone(),
                member.clone(),
                Arc::clone(&checked),
                woken,
            );
            let abort = tokio::spawn(task).abort_handle();
            tasks.insert(
                first,
                Task {
                    wake,
                    abort,
                    is_for,
                    member,
                    checked,
                },
            );
        }
    }

    /// Asks the primaries of a zone now.
    pub(super) fn refresh(&self, apex: &Name) {
        if let Some(task) = self.secondaries.lock().get(apex) {
            let _ = task.wake.try_send(Wake::Asked);
        }
    }

    /// When a primary of a zone last had no newer version, in milliseconds since 1970. `None`: never, or it
    /// is no secondary's.
    pub(super) fn checked_unix_ms(&self, apex: &Name) -> Option<u64> {
        let tasks = self.secondaries.lock();
        let at = tasks.get(apex)?.checked.0.load(Ordering::Relaxed);
        (at > 0).then_some(at)
    }

    /// Heeds what primaries say, for ever.
    pub(super) async fn heed_notices(&self, mut notices: mpsc::Receiver<Notice>) {
        while let Some(Notice { apex, from, serial }) = notices.recv().await {
            if let Some(task) = self.secondaries.lock().get(&apex) {
                let _ = task.wake.try_send(Wake::Notified(from, serial));
            }
        }
    }
}

impl Secondaries {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a zone is another than that which had its name, by what catalogs say of both.
fn begins_anew(before: &Option<Member>, now: &Option<Member>) -> bool {
    let place = |member: &Option<Member>| {
        let member = member.as_ref()?;
        Some((member.catalog.clone(), member.id.clone()))
    };
    place(before) != place(now)
}

/// The label at which its catalog has a member.
fn label(member: &Option<Member>) -> Option<Vec<u8>> {
    member.as_ref().map(|member| member.id.clone())
}

/// What is known of a zone.
struct Look {
    daemon: Arc<Daemon>,
    apex: Name,
    /// Which member of a catalog it is.
    member: Option<Member>,
    /// When a primary last had no newer version; before 1970 if never.
    checked: Arc<Checked>,
    /// Attempts since then that have failed.
    failed: u32,
    /// When to look again.
    next: Instant,
    /// When to write it to the disk.
    save: Option<Instant>,
    saved: Instant,
}

/// Looks after a zone, for ever.
async fn look_after(
    daemon: Arc<Daemon>,
    apex: Name,
    member: Option<Member>,
    checked: Arc<Checked>,
    mut woken: mpsc::Receiver<Wake>,
) {
    let kept = {
        let (keep, apex, label) = (daemon.keep.clone(), apex.clone(), label(&member));
        let read = move || keep.checked(&apex, label.as_deref());
        tokio::task::spawn_blocking(read).await.ok().flatten()
    };
    checked.set(kept.unwrap_or(SystemTime::UNIX_EPOCH));
    let mut look = Look {
        daemon,
        apex,
        member,
        checked,
        failed: 0,
        // All at once would be a burst.
        next: Instant::now() + jitter(Duration::from_millis(500)),
        save: None,
        saved: Instant::now() - Duration::from_secs(3600),
    };
    loop {
        let wake = tokio::select! {
            () = tokio::time::sleep_until(look.next) => Some(Wake::Asked),
            () = at(look.save) => {
                look.save().await;
                continue;
            }
            wake = woken.recv() => wake,
            () = tokio::time::sleep(look.until_expiry()) => {
                look.expire().await;
                continue;
            }
        };
        let Some(wake) = wake else { return };
        look.look(wake).await;
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Between nine tenths of a time and all of it.
fn jitter(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.9..1.0))
}

impl Look {
    /// The zone in force.
    fn zone(&self) -> Option<Arc<Zone>> {
        let world = self.daemon.world.load();
        let number = zones::number(&world, &self.apex)?;
        let zone = Arc::clone(world.zones.load().get(number)?);
        (!zone.is_empty()).then_some(zone)
    }

    fn peers(&self) -> Vec<Peer> {
        let world = self.daemon.world.load();
        let config = &world.inputs.config;
        let number = zones::number(&world, &self.apex);
        number.map_or(Vec::new(), |number| config.zones[number].primaries.clone())
    }

    /// Asks the primaries, one after the other, until one is of help.
    async fn look(&mut self, wake: Wake) {
        let mut peers = self.peers();
        let mut whole = matches!(wake, Wake::Whole);
        if let Wake::Notified(from, serial) = wake {
            let ours = self.zone().map(|zone| Serial(zone.serial()));
            if let (Some(ours), Some(theirs)) = (ours, serial)
                && ours >= Serial(theirs)
            {
                debug!(
                    "{}: {from} says serial {theirs}, and we have {ours}",
                    self.apex
                );
                return;
            }
            // Who says so has it.
            peers.sort_by_key(|peer| peer.address != from);
        }
        let mut said = Vec::new();
        for peer in &peers {
            match self.ask(peer, &mut whole).await {
                Ok(()) => {
                    self.checked.set(SystemTime::now());
                    self.failed = 0;
                    let refresh = self.zone().map_or(0, |zone| zone.soa_number(1));
                    self.again(Duration::from_secs(refresh.into()));
                    return;
                }
                Err(line) => said.push(format!("{peer}: {line}")),
            }
        }
        self.failed += 1;
        let said = said.join("; ");
        let retry = match self.zone() {
            Some(zone) => Duration::from_secs(zone.soa_number(2).into()),
            None => FIRST[1].min(FIRST[0] * (1 << self.failed.min(12)) / 2),
        };
        self.again(retry);
        let seconds = self
            .next
            .saturating_duration_since(Instant::now())
            .as_secs();
        match self.zone() {
            Some(zone) => warn!(
                "{}: no primary is of help ({said}); serving serial {} on, next attempt in {seconds} s",
                self.apex,
                zone.serial()
            ),
            None => warn!(
                "{}: no primary is of help ({said}); SERVFAIL until then, next attempt in {seconds} s",
                self.apex
            ),
        }
    }

    fn again(&mut self, time: Duration) {
        let [least, most] = REFRESH;
        self.next = Instant::now() + jitter(time.clamp(least, most)).max(least);
    }

    /// Asks one primary for its serial and, if that is newer, for the zone. Or says why it is of no help.
    async fn ask(&mut self, peer: &Peer, whole: &mut bool) -> Result<(), String> {
        let zone = self.zone();
        let daemon = Arc::clone(&self.daemon);
        let asking = daemon.secondaries.asking.acquire().await;
        let theirs = client::serial(peer, &self.apex).await;
        drop(asking);
        let theirs = theirs.map_err(|failure| failure.to_string())?;
        if let Some(zone) = zone.as_ref().filter(|_| !*whole) {
            let (ours, theirs) = (Serial(zone.serial()), Serial(theirs));
            if ours == theirs {
                self.touch().await;
                return Ok(());
            }
            if ours.partial_cmp(&theirs) != Some(std::cmp::Ordering::Less) {
                return Err(format!("its serial {theirs} is older than ours, {ours}"));
            }
        }
        let turn = daemon.secondaries.turns.acquire().await;
        let _turn = turn.map_err(|error| error.to_string())?;
        let started = Instant::now();
        if let Some(zone) = zone.filter(|_| !*whole) {
            match client::transfer(peer, &self.apex, Some(&zone)).await {
                Ok(Received::Nothing) => {
                    debug!("{}: {peer} has no deltas over TCP either", self.apex);
                }
                Ok(received) => match self.put(received).await {
                    Ok(how) => return self.done(peer, &how, started).await,
                    Err(failure) => debug!("{}: IXFR from {peer}: {failure}", self.apex),
                },
                Err(failure) if failure.is_of_content() => {
                    debug!("{}: IXFR from {peer}: {failure}", self.apex);
                }
                Err(failure) => return Err(format!("IXFR: {failure}")),
            }
        }
        let received = client::transfer(peer, &self.apex, None).await;
        let received = received.map_err(|failure| format!("AXFR: {failure}"))?;
        let how = self
            .put(received)
            .await
            .map_err(|failure| format!("AXFR: {failure}"))?;
        *whole = false;
        self.done(peer, &how, started).await
    }

    /// Puts in force what a transfer has brought. Gives what it was.
    async fn put(&self, received: Received) -> Result<String, Failure> {
        let apex = self.apex.clone();
        let member = self.member.clone();
        let put = move |daemon: &Daemon| {
            let world = daemon.world.load_full();
            let config = &world.inputs.config;
            // What was asked for may be another's by now.
            let number = zones::number(&world, &apex)
                .filter(|&number| !begins_anew(&member, &config.zones[number].member))
                .ok_or_else(|| Failure::NotFound(format!("no zone {apex} any more")))?;
            let deltas = match received {
                Received::Nothing => {
                    return Err(Failure::Invalid("there is nothing in it".to_owned()));
                }
                Received::Zone(zone) => {
                    daemon.put_zone(*zone)?;
                    return Ok("AXFR".to_owned());
                }
                Received::Deltas(deltas) => deltas,
            };
            let mut zone = Zone::clone(&world.zones.load()[number]);
            apply(config, &mut zone, &deltas).map_err(Failure::Invalid)?;
            daemon.put_zone(zone)?;
            Ok(format!("IXFR of {} deltas", deltas.len()))
        };
        self.daemon.change(put).await
    }

    async fn done(&mut self, peer: &Peer, how: &str, started: Instant) -> Result<(), String> {
        let Some(zone) = self.zone() else {
            return Err("the zone has gone meanwhile".to_owned());
        };
        info!(
            "{}: serial {} from {peer}, {how}, in {} ms",
            self.apex,
            zone.serial(),
            started.elapsed().as_millis()
        );
        let pause = PER_MIB * u32::try_from(zone.size() >> 20).unwrap_or(u32::MAX);
        if self.saved.elapsed() >= pause {
            self.save().await;
        } else {
            self.save.get_or_insert(self.saved + pause);
        }
        Ok(())
    }

    /// Writes the zone to the disk.
    async fn save(&mut self) {
        self.save = None;
        self.saved = Instant::now();
        let Some(zone) = self.zone() else { return };
        let (keep, label) = (self.daemon.keep.clone(), label(&self.member));
        let write = move || keep.write(&zone, label.as_deref());
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            error!("{}: not kept on disk: {error}", self.apex);
        }
    }

    /// Notes that there is nothing newer.
    async fn touch(&mut self) {
        if self.save.is_some() {
            return;
        }
        let (keep, apex) = (self.daemon.keep.clone(), self.apex.clone());
        let touch = move || keep.touch(&apex, SystemTime::now());
        let touched = tokio::task::spawn_blocking(touch).await;
        if !matches!(touched, Ok(Ok(()))) {
            self.save().await;
        }
    }

    /// Until the zone expires; long, if there is none.
    fn until_expiry(&self) -> Duration {
        const LONG: Duration = Duration::from_secs(24 * 3600);
        let Some(zone) = self.zone() else { return LONG };
        let age = SystemTime::now().duration_since(self.checked.at());
        zone.expire().saturating_sub(age.unwrap_or_default())
    }

    /// Gives the zone up.
    async fn expire(&mut self) {
        error!(
            "{}: expired, no primary has answered for too long: SERVFAIL until one does",
            self.apex
        );
        let empty = Zone::empty(self.apex.clone());
        let put = self
            .daemon
            .change(move |daemon| daemon.put_zone(empty))
            .await;
        if let Err(failure) = put {
            error!("{}: {failure}", self.apex);
            tokio::time::sleep(FIRST[0]).await;
        }
    }
}

/// Applies deltas to a zone, one after the other. Or says why they are none of it.
fn apply(config: &Config, zone: &mut Zone, deltas: &[Delta]) -> Result<(), String> {
    let steered: Vec<_> = config.steers.iter().map(|steer| &steer.name).collect();
    for delta in deltas {
        if delta.from_serial() != zone.serial() {
            return Err(format!(
                "a delta from serial {}, and we have {}",
                delta.from_serial(),
                zone.serial()
            ));
        }
        let stays = |owner: &domain::base::Name<[u8]>, rtype| {
            use domain::base::Rtype;
            matches!(rtype, Rtype::A | Rtype::AAAA)
                && steered
                    .iter()
                    .any(|name| name.as_slice() == owner.as_slice())
        };
        delta
            .apply(zone, stays)
            .map_err(|error| error.to_string())?;
        take::check(zone, delta)?;
    }
    Ok(())
}
