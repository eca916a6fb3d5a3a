//! Zones that come from other servers: asked for when their time has come (RFC 1035 section 3.3.13) or a
//! primary says so (RFC 1996), put in force, kept on disk, and given up when they have expired.
//!
//! Each zone has a task of its own, and so one transfer at a time.
//!
//! - **Bounds**: ten transfers at a time, five from one primary. Each zone has a share of one budget for all zones, from
//!   its first record until it goes.
//! - **What is taken**: every message is verified before a record of it is looked at, and nothing is in force before
//!   the last message has come. Records that cannot belong to the zone (outside of it, of another class) are left out
//!   and logged. Records that break the rules refuse the whole transfer, and the old zone is served on. A delta that
//!   does not fit is followed by an AXFR. `docs/transfers.md` compares each manner of transfer with other servers.
//! - **Primaries**: a refresh asks all of them in turn, so that one which is behind hides nothing. The zone's age
//!   begins anew when a primary has the zone's version and none was found to have a newer one in this turn, or when a
//!   newer one has come. A NOTIFY is forged easily. So it asks the primary alone that it names, at the pace of
//!   `notices`, and never puts off the next refresh.
//! - **On disk**: one file for each zone, in `zones/` beside the state, replaced by renaming. Its modification time is
//!   when a primary last had nothing newer, noted once a minute at the most. So a restart may make a zone a little
//!   older, and never younger.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use domain::base::Serial;
use rand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::base::clock::unix_ms;
use crate::base::lock::lock;
use crate::base::name::Name;
use crate::config::{Config, Member, Peer};
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::event::Kind;
use crate::serve::Notice;
use crate::supervise::{Never, forever};
use crate::transfer::budget::{Budget, Limits, Share, TooLarge};
use crate::transfer::client;
use crate::transfer::kept::KeptZones;
use crate::transfer::pace::{Pace, Rates};
use crate::transfer::receive::{Arrived, Received, Stranger};
use crate::transfer::turns::Turns;
use crate::zone::{Delta, Zone, memory, take};

/// Serials that are being asked for, at the most.
const ASKING: usize = 256;
/// The least and the most that a refresh or retry of a SOA record may be.
const REFRESH: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(14 * 24 * 3600)];
/// Retries of a zone that was never transferred: the first pause, and the longest.
const FIRST: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(600)];
/// How often, at the most, the disk is told that a primary has nothing newer; or in which part of the time in which the
/// zone expires, if that is shorter.
const NOTED: Duration = Duration::from_secs(60);
const NOTED_OF_EXPIRY: u32 = 16;
/// Octets of a zone after which freed memory is given back.
const LARGE: usize = 1 << 20;
/// The pause between writes of a zone, for each MiB that it has.
const PER_MIB: Duration = Duration::from_secs(1);
/// The pause before it is seen again whether the last write has ended.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// All zones that come from elsewhere.
#[derive(Debug)]
pub struct Secondaries {
    tasks: Mutex<HashMap<Name, Task>>,
    turns: Turns,
    asking: Semaphore,
    /// Memory that all of them take.
    budget: Budget,
    /// Pace of queries that NOTIFYs cause.
    pace: Mutex<Pace>,
}

impl Default for Secondaries {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            turns: Turns::default(),
            asking: Semaphore::new(ASKING),
            budget: Budget::default(),
            pace: Mutex::default(),
        }
    }
}

/// The task that looks after a zone.
#[derive(Debug)]
struct Task {
    wake: mpsc::Sender<Wake>,
    abort: AbortHandle,
    /// Its primaries, and the steered names whose addresses it leaves out.
    is_for: String,
    /// The member of a catalog that it is for: another one of that name begins anew.
    member: Option<Member>,
    checked: Arc<Checked>,
    told: Arc<Told>,
}

/// Primaries that have said that there is another version, and have not been asked yet.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeSet<IpAddr>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        lock(&self.0)
    }
}

/// When a primary of a zone last had no newer version, in milliseconds since 1970; 0: never.
#[derive(Debug, Default)]
struct Checked(AtomicU64);

impl Checked {
    /// The moment; before 1970 if never.
    fn at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: SystemTime) {
        self.0.store(unix_ms(at), Ordering::Relaxed);
    }
}

/// A reason to look now.
#[derive(Clone, Copy, Debug)]
enum Wake {
    /// Primaries say that there is another version.
    Told,
    /// Somebody wants to know.
    Asked,
    /// The whole zone is to be transferred anew.
    Whole,
}

impl Daemon {
    /// Looks after those zones that come from elsewhere, and no others.
    pub fn follow_primaries(self: &Arc<Self>) {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let mut tasks = self.zones.secondaries.lock();
        tasks.retain(|apex, task| {
            let zone = world.zone_number(apex).map(|number| &config.zones[number]);
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
            let told = Arc::new(Told::default());
            let look = Look::new(
                daemon,
                first.clone(),
                member.clone(),
                Arc::clone(&checked),
                Arc::clone(&told),
            );
            // What it knows outlives a panic.
            let looking = Arc::new(tokio::sync::Mutex::new((look, woken)));
            let work = move || {
                let looking = Arc::clone(&looking);
                async move {
                    let mut looking = looking.lock().await;
                    let (look, woken) = &mut *looking;
                    look.for_ever(woken).await
                }
            };
            let abort = tokio::spawn(forever(format!("zone {first}"), work)).abort_handle();
            tasks.insert(
                first,
                Task {
                    wake,
                    abort,
                    is_for,
                    member,
                    checked,
                    told,
                },
            );
        }
    }

    /// Asks the primaries of a zone now.
    pub fn refresh(&self, apex: &Name) {
        if let Some(task) = self.zones.secondaries.lock().get(apex) {
            let _ = task.wake.try_send(Wake::Asked);
        }
    }

    /// When a primary of a zone last had no newer version, in milliseconds since 1970. `None`: never, or it
    /// is no secondary's.
    pub fn checked_unix_ms(&self, apex: &Name) -> Option<u64> {
        let tasks = self.zones.secondaries.lock();
        let at = tasks.get(apex)?.checked.0.load(Ordering::Relaxed);
        (at > 0).then_some(at)
    }

    /// Asks a primary about a zone that it has sent a NOTIFY of. Gives `false` if it may not be asked now.
    pub fn ask_for(&self, notice: &Notice) -> bool {
        let tasks = self.zones.secondaries.lock();
        let Some(task) = tasks.get(&notice.apex) else {
            return true;
        };
        let mut told = task.told.lock();
        if !told.contains(&notice.from) {
            if !self.may_ask(notice.from) {
                return false;
            }
            told.insert(notice.from);
            // If there is no room, it is going to look anyway.
            let _ = task.wake.try_send(Wake::Told);
        }
        true
    }

    /// Takes leave for a query that a NOTIFY causes. Gives whether it may go to the primary now.
    pub fn may_ask(&self, primary: IpAddr) -> bool {
        let limits = self.world.load().inputs.config.transfer;
        let rates = Rates {
            primary: limits.notify_rate,
            all: limits.notify_rate_all,
        };
        let may = self
            .zones
            .secondaries
            .pace()
            .take(primary, rates, Instant::now());
        if may {
            self.server.stats().count_notify_asked();
        }
        may
    }
}

impl Secondaries {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Task>> {
        lock(&self.tasks)
    }

    /// The pace of queries that NOTIFYs cause.
    pub fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }
}

/// Whether a zone is another than the one before with its name, by their places in catalogs.
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

/// A zone from elsewhere, as its task knows it.
struct Look {
    daemon: Arc<Daemon>,
    apex: Name,
    /// The member of a catalog that it is.
    member: Option<Member>,
    /// When a primary last had no newer version; before 1970 if never.
    checked: Arc<Checked>,
    /// Primaries that say that there is a newer one.
    told: Arc<Told>,
    /// Primaries that answer over TCP alone.
    tcp: HashSet<SocketAddr>,
    /// Its share of the memory that there is for all.
    share: Share,
    /// The record that was last logged as left out of it.
    left_out: Option<Stranger>,
    /// Whether it has expired, and nothing has come since.
    expired: bool,
    /// Attempts since `checked` that have failed.
    failed: u32,
    /// When to look again.
    next: Instant,
    /// When to write it to the disk.
    save: Option<Instant>,
    saved: Instant,
    /// The last time that the disk was told of `checked`.
    noted: Instant,
    /// The last write, which may be under way.
    writing: Option<JoinHandle<()>>,
}

/// The answer of a primary.
enum Found {
    /// It had a newer version, which is in force.
    Newer,
    /// It has the version that is in force.
    Current,
    /// It has a newer version, which could not be transferred, and why.
    Missed(String),
    /// It does not answer, or has an older version, and why it is of no help.
    NoHelp(String),
}

/// Waits until a moment, or for ever.
pub async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// A random time between nine tenths of this one and all of it.
fn jitter(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.9..1.0))
}

impl Look {
    fn new(
        daemon: Arc<Daemon>,
        apex: Name,
        member: Option<Member>,
        checked: Arc<Checked>,
        told: Arc<Told>,
    ) -> Self {
        let share = daemon.zones.secondaries.budget.share();
        let long_ago = Instant::now() - Duration::from_secs(3600);
        Self {
            daemon,
            apex,
            member,
            checked,
            told,
            tcp: HashSet::new(),
            share,
            left_out: None,
            expired: false,
            failed: 0,
            // All at once would be a burst.
            next: Instant::now() + jitter(Duration::from_millis(500)),
            save: None,
            saved: long_ago,
            noted: long_ago,
            writing: None,
        }
    }

    /// Looks after the zone, for ever.
    async fn for_ever(&mut self, woken: &mut mpsc::Receiver<Wake>) -> Never {
        let checked = {
            let (kept, apex) = (self.daemon.zones.kept.clone(), self.apex.clone());
            let label = label(&self.member);
            let read = move || kept.checked(&apex, label.as_deref());
            tokio::task::spawn_blocking(read).await.ok().flatten()
        };
        self.checked.set(checked.unwrap_or(SystemTime::UNIX_EPOCH));
        self.weigh();
        loop {
            let wake = tokio::select! {
                () = tokio::time::sleep_until(self.next) => Some(Wake::Asked),
                () = at(self.save) => {
                    self.save();
                    continue;
                }
                wake = woken.recv() => wake,
                () = tokio::time::sleep(self.until_expiry()) => {
                    self.expire().await;
                    continue;
                }
            };
            match wake {
                Some(wake) => self.look(wake).await,
                // It is being aborted.
                None => return std::future::pending().await,
            }
        }
    }

    /// Takes as much of the memory for all as the zone in force needs.
    fn weigh(&mut self) {
        let octets = self.zone().map_or(0, |zone| zone.size());
        self.share.set(octets);
    }

    /// The zone in force.
    fn zone(&self) -> Option<Arc<Zone>> {
        let world = self.daemon.world.load();
        let number = world.zone_number(&self.apex)?;
        let zone = Arc::clone(world.zones.load().get(number)?);
        (!zone.is_empty()).then_some(zone)
    }

    fn peers(&self) -> Vec<Peer> {
        let world = self.daemon.world.load();
        let config = &world.inputs.config;
        let number = world.zone_number(&self.apex);
        number.map_or(Vec::new(), |number| config.zones[number].primaries.clone())
    }

    /// Asks the primaries, one after the other: one that is behind the others must not hide them. Those that
    /// have sent a NOTIFY are asked alone, the others only if they are of no help.
    async fn look(&mut self, wake: Wake) {
        let mut peers = self.peers();
        let mut whole = matches!(wake, Wake::Whole);
        let told = std::mem::take(&mut *self.told.lock());
        let is_told = matches!(wake, Wake::Told);
        if is_told {
            if told.is_empty() {
                return;
            }
            peers.sort_by_key(|peer| !told.contains(&peer.address));
        }
        let (mut newer, mut current, mut missed) = (false, false, false);
        let mut said = Vec::new();
        let mut asked = 0;
        for peer in &peers {
            if is_told
                && !told.contains(&peer.address)
                && (newer || current || !self.daemon.may_ask(peer.address))
            {
                continue;
            }
            asked += 1;
            let line = match self.ask(peer, &mut whole).await {
                Found::Newer => {
                    newer = true;
                    continue;
                }
                Found::Current => {
                    current = true;
                    continue;
                }
                Found::Missed(line) => {
                    missed = true;
                    line
                }
                Found::NoHelp(line) => line,
            };
            said.push(format!("{peer}: {line}"));
        }
        // A newer version that is there and cannot be had makes the one in force no younger.
        if newer || (current && !missed && asked == peers.len()) {
            self.checked.set(SystemTime::now());
            self.failed = 0;
            let refresh = self.zone().map_or(0, |zone| zone.soa_number(1));
            self.again(Duration::from_secs(refresh.into()));
            if !newer {
                self.note();
            }
            return;
        }
        if asked == 0 || (current && !missed) {
            // What the others have, the next refresh shows.
            return;
        }
        self.failed += 1;
        let retry = match self.zone() {
            Some(zone) => Duration::from_secs(zone.soa_number(2).into()),
            None => FIRST[1].min(FIRST[0] * (1 << self.failed.min(12)) / 2),
        };
        let before = self.next;
        self.again(retry);
        if is_told {
            // However often somebody says so.
            self.next = self.next.min(before);
        }
        let said = said.join("; ");
        let seconds = self
            .next
            .saturating_duration_since(Instant::now())
            .as_secs();
        let then = match self.zone() {
            Some(zone) => format!("serving serial {} on", zone.serial()),
            None => "SERVFAIL until then".to_owned(),
        };
        let line = format!(
            "{}: no primary is of help ({said}); {then}, next attempt in {seconds} s",
            self.apex
        );
        match is_told && self.failed > 1 {
            true => debug!(zone = %self.apex, cause = said, "{line}"),
            false => {
                let event = (self.failed == 1).then_some(Kind::ZoneFailed.name());
                warn!(event, zone = %self.apex, cause = said, "{line}");
            }
        }
    }

    fn again(&mut self, time: Duration) {
        let [least, most] = REFRESH;
        self.next = Instant::now() + jitter(time.clamp(least, most)).max(least);
    }

    /// Asks one primary for its serial and, if that is newer, for the zone.
    async fn ask(&mut self, peer: &Peer, whole: &mut bool) -> Found {
        let zone = self.zone();
        let at = SocketAddr::new(peer.address, peer.port);
        let mut tcp = self.tcp.contains(&at);
        let theirs = {
            let _asking = self.daemon.zones.secondaries.asking.acquire().await;
            client::serial(peer, &self.apex, &mut tcp).await
        };
        match tcp {
            true => self.tcp.insert(at),
            false => self.tcp.remove(&at),
        };
        let theirs = match theirs {
            Ok(theirs) => Serial(theirs),
            Err(failure) => return Found::NoHelp(failure.to_string()),
        };
        if let Some(zone) = zone.as_ref().filter(|_| !*whole) {
            let ours = Serial(zone.serial());
            if ours == theirs {
                return Found::Current;
            }
            if ours.partial_cmp(&theirs) != Some(std::cmp::Ordering::Less) {
                return Found::NoHelp(format!("its serial {theirs} is older than ours, {ours}"));
            }
        }
        match self.fetch(peer, zone, *whole).await {
            Ok(()) => {
                *whole = false;
                Found::Newer
            }
            Err(line) => Found::Missed(line),
        }
    }

    /// Transfers the zone from a primary: its deltas, or else all of it. An error says why it cannot be had.
    async fn fetch(
        &mut self,
        peer: &Peer,
        zone: Option<Arc<Zone>>,
        whole: bool,
    ) -> Result<(), String> {
        let daemon = Arc::clone(&self.daemon);
        let turn = daemon.zones.secondaries.turns.of(peer.address).await;
        let _turn = turn.map_err(|error| error.to_string())?;
        let started = Instant::now();
        let apex = self.apex.clone();
        let limits = self.limits();
        let transfer = async |since: Option<&Zone>| {
            let share = daemon.zones.secondaries.budget.share();
            client::transfer(peer, &apex, since, share, limits).await
        };
        if let Some(zone) = zone.filter(|_| !whole) {
            match transfer(Some(&zone)).await {
                Ok(Arrived {
                    received: Received::Nothing,
                    ..
                }) => {
                    debug!("{}: {peer} has no deltas over TCP either", self.apex);
                }
                Ok(arrived) => match self.put(peer, arrived).await {
                    Ok(how) => return self.done(peer, &how, started).await,
                    Err(failure) => debug!("{}: IXFR from {peer}: {failure}", self.apex),
                },
                Err(failure @ client::Failure::Signature(_)) => {
                    return Err(format!("IXFR: {failure}"));
                }
                Err(failure) => debug!("{}: IXFR from {peer}: {failure}", self.apex),
            }
        }
        let arrived = transfer(None).await;
        let arrived = arrived.map_err(|failure| format!("AXFR: {failure}"))?;
        let how = self
            .put(peer, arrived)
            .await
            .map_err(|failure| format!("AXFR: {failure}"))?;
        self.done(peer, &how, started).await
    }

    fn limits(&self) -> Limits {
        let transfer = self.daemon.world.load().inputs.config.transfer;
        Limits {
            zone: transfer.max_zone,
            all: transfer.max_all,
        }
    }

    /// Puts the outcome of a transfer in force. Gives its manner: AXFR, or IXFR of N deltas.
    async fn put(&mut self, peer: &Peer, arrived: Arrived) -> Result<String, Failure> {
        let Arrived {
            received,
            left_out,
            share,
        } = arrived;
        let apex = self.apex.clone();
        let member = self.member.clone();
        let limits = self.limits();
        let put = move |daemon: &Daemon| {
            // What has come takes memory until it is in force.
            let mut share = share;
            let world = daemon.world.load_full();
            let config = &world.inputs.config;
            // What was asked for may be another's by now.
            let number = world
                .zone_number(&apex)
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
            let before = zone.size();
            apply(config, &mut zone, &deltas).map_err(Failure::Invalid)?;
            let too_large = |error: TooLarge| Failure::Invalid(error.to_string());
            if zone.size() > limits.zone.max(before) {
                return Err(too_large(TooLarge::Zone(limits.zone)));
            }
            let more = zone.size().saturating_sub(before);
            share.grow(more, limits).map_err(too_large)?;
            daemon.put_zone(zone)?;
            Ok(format!("IXFR of {} deltas", deltas.len()))
        };
        let how = self.daemon.change(put).await?;
        self.weigh();
        if let Some(first) = left_out
            .first
            .filter(|first| self.left_out.as_ref() != Some(first))
        {
            let (apex, records) = (&self.apex, left_out.count);
            warn!(
                zone = %apex,
                %peer,
                records,
                %first,
                "{apex}: {peer} has {records} records that are none of it, which are left out: the first is {first}"
            );
            self.left_out = Some(first);
        }
        Ok(how)
    }

    async fn done(&mut self, peer: &Peer, how: &str, started: Instant) -> Result<(), String> {
        let Some(zone) = self.zone() else {
            return Err("the zone has gone meanwhile".to_owned());
        };
        let had_expired = std::mem::take(&mut self.expired);
        info!(
            event = had_expired.then_some(Kind::ZoneBack.name()),
            zone = %self.apex,
            primary = %peer,
            serial = zone.serial(),
            how,
            "{}: serial {} from {peer}, {how}, in {} ms",
            self.apex,
            zone.serial(),
            started.elapsed().as_millis()
        );
        if zone.size() > LARGE {
            // The version before, and what came over the network.
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
        }
        let pause = PER_MIB * u32::try_from(zone.size() >> 20).unwrap_or(u32::MAX);
        if self.saved.elapsed() >= pause {
            self.save();
        } else {
            self.save.get_or_insert(self.saved + pause);
        }
        Ok(())
    }

    /// Writes the zone to the disk, once the last write has ended.
    fn save(&mut self) {
        self.save = None;
        if self.is_writing() {
            self.save = Some(Instant::now() + WRITE_AGAIN);
            return;
        }
        self.saved = Instant::now();
        self.noted = self.saved;
        self.write(|_| false);
    }

    /// Notes on the disk that there is nothing newer. This is not done each time, so a restart may find the zone a
    /// little older than it is.
    fn note(&mut self) {
        let expire = self.zone().map_or(Duration::ZERO, |zone| zone.expire());
        let is_early = self.noted.elapsed() < NOTED.min(expire / NOTED_OF_EXPIRY);
        if self.save.is_some() || self.is_writing() || is_early {
            return;
        }
        self.noted = Instant::now();
        let apex = self.apex.clone();
        self.write(move |kept| kept.touch(&apex, SystemTime::now()).is_ok());
    }

    /// Writes the zone in force to the disk, unless `less_does` is enough. Nobody waits for it: a disk that does not
    /// answer must not keep the zone from being asked for, or from expiring.
    fn write(&mut self, less_does: impl FnOnce(&KeptZones) -> bool + Send + 'static) {
        let Some(zone) = self.zone() else { return };
        let (kept, label) = (self.daemon.zones.kept.clone(), label(&self.member));
        let write = move || {
            if less_does(&kept) {
                return;
            }
            if let Err(error) = kept.write(&zone, label.as_deref()) {
                let apex = &zone.apex;
                error!(zone = %apex, cause = %error, "{apex}: not kept on disk: {error}");
            }
        };
        self.writing = Some(tokio::task::spawn_blocking(write));
    }

    fn is_writing(&self) -> bool {
        let writing = self.writing.as_ref();
        writing.is_some_and(|writing| !writing.is_finished())
    }

    /// How long until the zone expires; a day, if there is none.
    fn until_expiry(&self) -> Duration {
        const LONG: Duration = Duration::from_secs(24 * 3600);
        let Some(zone) = self.zone() else { return LONG };
        let age = SystemTime::now().duration_since(self.checked.at());
        zone.expire().saturating_sub(age.unwrap_or_default())
    }

    /// Puts an empty zone in the place of the one that has expired.
    async fn expire(&mut self) {
        self.expired = true;
        error!(
            event = Kind::ZoneExpired.name(),
            zone = %self.apex,
            "{}: expired, no primary has answered for too long: SERVFAIL until one does",
            self.apex
        );
        let empty = Zone::empty(self.apex.clone());
        let put = self
            .daemon
            .change(move |daemon| daemon.put_zone(empty))
            .await;
        if let Err(failure) = put {
            error!(zone = %self.apex, cause = %failure, "{}: {failure}", self.apex);
            tokio::time::sleep(FIRST[0]).await;
        }
        self.weigh();
    }
}

/// Applies deltas to a zone, one after the other. An error says why they do not fit it.
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
