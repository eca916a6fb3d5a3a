//! The backend that is the XDP program and its maps.
//!
//! - [`Kernel`]: the program, attached, pinned and fed
//! - [`instance`]: one loaded program with tables of its own: a plan in the kernel
//! - [`memory`]: its maps, and what they take
//! - [`tables`]: those tables, read as the program reads them
//! - [`shared`]: the maps that outlive instances and daemons
//! - [`stub`]: the program that is attached, and calls the instance in force; [`stubs`]: with the frags mark and without
//! - [`link`]: a program on an interface; `attach`: puts it there, and takes it off
//! - [`waiting`]: interfaces that it is not on yet
//! - [`offloads`]: offloads of cards that are otherwise meanwhile
//! - [`pins`]: what is left to the next daemon
//! - [`listen`]: the addresses that are answered on
//! - [`heartbeat`]: how the program knows that it is fed
//! - [`cookies`]: what it makes cookies with
//! - [`mirrors`]: answers by mirror
//! - [`block`]: block rules in the program's form
//! - [`watch`]: what it tells of what goes by
//! - [`trial`]: runs of it on a packet that nobody sent; [`probe`]: loads and attaches it for a moment
//! - [`netdev`], [`follow`]: the interfaces, and their changes; [`ethtool`]: what their drivers tell
//! - [`drivers`]: which of them take a program natively, on which conditions; [`extack`]: their words on a refusal
//! - [`drift`]: settings of them that somebody changes while the program is attached
//! - [`intake`]: those that packets and queries reach us by, and that belong together
//! - `packet_log`: sampled packets in the log
//! - [`mmap`], [`bpffs`], [`sys`]: what aya does not have
//! - `error`: what can go wrong
//!
//! These must hold:
//! - On any failure, what was in force before stays in force.
//! - A program never runs with the tables of another one: an instance has its own, filled before
//!   the stub calls it.
//! - All interfaces change to another instance at once, with one store; those that have the frags mark with another
//!   store. Links stay as they are.
//! - Links, stub and shared maps are held by descriptor, and pinned for the next daemon. Only an orderly stop removes
//!   the pins.
//!
//! # Living on
//!
//! The daemon takes over the links and the stub of every layout, and the shared maps of its own layout alone. It never
//! adopts a plan map of the daemon before it. A link that has another program gets the stub. The daemon finds a link by
//! the id of the program that netlink reports for the interface: a link of another network namespace may have the same
//! interface's name and index. Once the new program is in force, the daemon removes what other layouts have left.
//!
//! A new instance gets the shared maps by descriptor. aya makes maps of its own for them, so before the program is
//! loaded, `SharedMaps::put_into` makes aya's descriptors lead to the shared maps. Within half a minute the
//! daemon attaches again what somebody has detached, and pins again what somebody has unpinned. An orderly stop detaches
//! and unpins, unless `on_stop` is "keep" or "stub".

mod attach;
pub mod block;
pub mod bpffs;
pub mod cookies;
pub mod drift;
pub mod drivers;
mod error;
pub mod ethtool;
pub mod extack;
pub mod follow;
pub mod heartbeat;
pub mod instance;
pub mod intake;
pub mod link;
pub mod listen;
pub mod memory;
pub mod mirrors;
pub mod mmap;
pub mod netdev;
pub mod offloads;
mod packet_log;
pub mod pins;
pub mod probe;
pub mod shared;
pub mod stub;
pub mod stubs;
pub mod sys;
pub mod tables;
pub mod trial;
pub mod waiting;
pub mod watch;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use geodns_common::tables::Tables;
use tokio::task::JoinHandle;

use crate::block::Blocks;
use crate::config::{Mode, OnStop, Secrets};
use crate::event::Kind;
use crate::fault;
use crate::plan::{Capacity, Store};
use crate::publish::Backend;
use crate::supervise::Never;
use block::BlockCounters;
use cookies::Cookies;
use drivers::Facts;
pub use error::Error;
pub(crate) use error::chain;
use heartbeat::Heartbeat;
use instance::Instance;
use link::Attachment;
use listen::Listening;
use mirrors::{MIRRORS, MirrorCounts};
use netdev::{Netdev, Netdevs};
use offloads::{Offload, Offloads};
use pins::{Left, Pins, Was};
use shared::{Counters, SharedMaps, Traffic};
use stub::{Build, Next, Stub};
use stubs::Stubs;
use waiting::Waiting;
use watch::{Sightings, Sketches, Watching};

/// The eBPF object that this binary carries.
pub fn object() -> Result<&'static [u8], Error> {
    #[cfg(ebpf_object)]
    return Ok(aya::include_bytes_aligned!(env!("GEODNS_EBPF_OBJECT")));
    #[cfg(not(ebpf_object))]
    return Err(Error::NoObject);
}

/// How the program is to be attached and fed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How; never [`Mode::Off`].
    pub mode: Mode,
    /// Whether a start fails unless all of them take the program.
    pub required: bool,
    /// Folder of the pins.
    pub pin: PathBuf,
    /// How long the program answers when nobody feeds it.
    pub stale_after: Duration,
    /// Log one packet in this many; 0 is never. Otherwise a tokio runtime is needed.
    pub log_every: u32,
    /// Secrets of cookies; `None`: there are no cookies.
    pub cookies: Option<Secrets>,
    /// Block rules.
    pub blocks: Arc<Blocks>,
    /// Where a program is pinned that gets the packets that are passed.
    pub next: Option<PathBuf>,
}

/// The program, attached to interfaces and fed.
///
/// Dropped without [`Kernel::stop`], everything stays pinned, as it does when the daemon dies.
pub struct Kernel {
    settings: Settings,
    object: &'static [u8],
    pins: Pins,
    shared: Arc<SharedMaps>,
    listening: Listening,
    heartbeat: Arc<Heartbeat>,
    cookies: Cookies,
    counters: Arc<Counters>,
    dropped: BlockCounters,
    watching: Watching,
    stubs: Stubs,
    instance: Instance,
    attached: Vec<Attachment>,
    waiting: Waiting,
    offloads: Offloads,
    /// Why pins cannot be put back: said once.
    unpinned: Option<String>,
    packet_log: Option<JoinHandle<Never>>,
    /// After [`Kernel::stop`]: nothing may be attached any more.
    stopped: bool,
}

impl Kernel {
    /// Loads the program for a plan and attaches it, or takes over the links that another daemon
    /// has left. On an error nothing is attached that was not before, and unless `settings.required` nothing at all:
    /// nobody would feed it.
    pub fn start(
        settings: Settings,
        object: &'static [u8],
        tables: &impl Tables,
        capacity: Capacity,
        addresses: &BTreeSet<IpAddr>,
        netdevs: &Netdevs,
    ) -> Result<Self, Error> {
        if settings.interfaces.is_empty() {
            return Err(Error::NoInterfaces);
        }
        let mut missing = settings.interfaces.iter();
        if settings.required
            && let Some(name) = missing.find(|name| netdevs.named(name).is_none())
        {
            return Err(Error::UnknownInterface {
                name: name.clone(),
                have: netdevs.names(),
            });
        }
        let mut pins = Pins::open(&settings.pin)?;
        let counted = MirrorCounts::open(&pins.map(MIRRORS));
        let loaded = Self::load(&pins, &settings, object, tables, capacity);
        let started = loaded
            .map_err(probe::explained)
            .and_then(|(shared, mut parts)| {
                let attached =
                    parts.attach_all(&mut pins, &shared, &settings, addresses, netdevs)?;
                Ok((shared, parts, attached))
            });
        // Nothing half-made stays.
        let (shared, parts, (attached, mut waiting, offloads)) = started.inspect_err(|_| {
            let _ = match settings.required {
                // What another daemon has left attached stays for the next start.
                true => pins.remove_unused(),
                false => Offloads::noted(&pins, netdevs).and_then(|mut offloads| {
                    pins.give_up(netdevs)?;
                    offloads.give_all_back(&pins);
                    Ok(())
                }),
            };
        })?;
        waiting.complain();
        for complaint in netdevs.needless(&settings.interfaces) {
            tracing::warn!("{complaint}");
        }
        let mut kernel = Self {
            counters: Arc::new(shared.counters()?),
            dropped: parts.dropped,
            watching: Watching::default(),
            settings,
            object,
            pins,
            shared: Arc::new(shared),
            listening: parts.listening,
            heartbeat: parts.heartbeat,
            cookies: parts.cookies,
            stubs: parts.stubs,
            instance: parts.instance,
            attached,
            waiting,
            offloads,
            unpinned: None,
            packet_log: None,
            stopped: false,
        };
        kernel.carry_mirrors(counted.as_ref());
        kernel.log_packets();
        Ok(kernel)
    }

    /// Loads everything, and attaches nothing.
    fn load(
        pins: &Pins,
        settings: &Settings,
        object: &'static [u8],
        tables: &impl Tables,
        capacity: Capacity,
    ) -> Result<(SharedMaps, Parts), Error> {
        let shared = SharedMaps::adopt(object, |name| pins.map(name))?;
        let mut dropped = shared.dropped()?;
        let next = settings.next.as_deref().map(Next::open).transpose();
        let next = next.unwrap_or_else(|error| {
            tracing::error!("{error}; packets that are passed go to the network stack at once");
            None
        });
        let next = next.map(Arc::new);
        let stubs = Stubs::open(object, |build| pins.stub(build), next.clone())?;
        let next = next.map(|next| (stubs.plain(), next));
        let log_every = settings.log_every;
        let mut instance = Instance::load(object, tables, capacity, log_every, &shared, next)?;
        for counter in 0..settings.blocks.len() as u32 {
            dropped.clear(counter)?;
        }
        instance.set_blocks(&settings.blocks)?;
        let parts = Parts {
            listening: shared.listening()?,
            heartbeat: Arc::new(shared.heartbeat(settings.stale_after)?),
            cookies: shared.cookies()?,
            dropped,
            stubs,
            instance,
        };
        Ok((shared, parts))
    }

    /// A loader for another plan, whose packets go on to the program that is pinned at `next`. Loading does not put the
    /// plan in force; it may fail, and takes time, in which others may use the kernel.
    pub fn loader(&self, next: Option<&Path>) -> Result<Loader, Error> {
        Ok(Loader {
            object: self.object,
            log_every: self.settings.log_every,
            shared: Arc::clone(&self.shared),
            stubs: self.stubs.clone(),
            next: next
                .and_then(|path| self.next_at(path).transpose())
                .transpose()?,
            has_frags: self.attached.iter().any(|at| at.build == Build::Frags),
        })
    }

    /// The next program at a path. Where the path is not new, the program before stays if there is no other to call.
    fn next_at(&self, path: &Path) -> Result<Option<Arc<Next>>, Error> {
        let before = self.instance.next();
        let open = || -> Result<Arc<Next>, Error> {
            let next = Next::open(path)?;
            if before.is_none_or(|before| before.id != next.id) {
                let mut builds: Vec<_> = self.attached.iter().map(|at| at.build).collect();
                builds.dedup();
                for build in builds {
                    self.stubs.check_next(build, &next)?;
                }
            }
            Ok(Arc::new(next))
        };
        match open() {
            Err(error) if self.settings.next.as_deref() == Some(path) => {
                tracing::warn!("{error}");
                Ok(before.cloned())
            }
            opened => opened.map(Some),
        }
    }

    /// Loads another plan, without putting it in force.
    pub fn prepare(&self, tables: &impl Tables, capacity: Capacity) -> Result<Instance, Error> {
        self.loader(self.settings.next.as_deref())?
            .load(tables, capacity)
    }

    /// Puts a plan in force, on all interfaces at once, in place of the one before, which stays on any failure.
    pub fn commit(&mut self, next: Instance) -> Result<(), Error> {
        self.commit_with(next, None)
    }

    /// The same. With rules, and those of their counters that start anew, these are dropped from then on, and
    /// nothing else.
    pub fn commit_with(
        &mut self,
        mut next: Instance,
        rules: Option<(Arc<Blocks>, &[u32])>,
    ) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        let (blocks, fresh) = rules.unwrap_or_else(|| (Arc::clone(&self.settings.blocks), &[]));
        for &counter in fresh {
            self.dropped.clear(counter)?;
        }
        next.set_blocks(&blocks)?;
        next.set_watching(&self.watching);
        // An interface may have got the mark meanwhile.
        if self.attached.iter().any(|at| at.build == Build::Frags) {
            next.load_frags(self.stubs.frags()?)?;
        }
        if let Err(error) = self.stubs.call(&mut next) {
            let _ = self.stubs.call(&mut self.instance);
            return Err(error);
        }
        let before = std::mem::replace(&mut self.instance, next);
        self.carry_mirrors(before.mirrors().map(Arc::as_ref));
        self.settings.blocks = blocks;
        self.log_packets();
        Ok(())
    }

    /// Goes on counting answers by mirror where the instance before ended, and pins the counters in place of its own.
    fn carry_mirrors(&mut self, before: Option<&MirrorCounts>) {
        let pinned = match self.instance.mirrors() {
            Some(mirrors) => {
                if let Some(before) = before {
                    // Packets that the instance before still answers are counted with it.
                    if let Err(error) = sys::grace() {
                        tracing::debug!(%error, "answers by mirror may be a few short");
                    }
                    mirrors.carry(before);
                }
                self.pins.replace_map(MIRRORS, mirrors.map())
            }
            None => self.pins.remove_map(MIRRORS),
        };
        if let Err(error) = pinned {
            tracing::warn!("answers by mirror begin anew with the next daemon: {error}");
        }
    }

    /// Starts to pass on what the instance in force logs of packets, if it was asked to.
    fn log_packets(&mut self) {
        if self.settings.log_every == 0 {
            return;
        }
        if let Some(old) = self.packet_log.take() {
            old.abort();
        }
        match self.instance.log_packets() {
            Ok(task) => self.packet_log = Some(task),
            Err(error) => tracing::warn!("packets are not logged: {error}"),
        }
    }

    /// Makes cookies with these secrets from here on; `None`: none.
    pub fn set_cookies(&self, secrets: Option<&Secrets>) {
        if !self.stopped {
            self.cookies.set(secrets);
        }
    }

    /// Drops what these rules say from here on, and nothing else. `fresh`: whose counters start anew.
    pub fn set_blocks(&mut self, blocks: Arc<Blocks>, fresh: &[u32]) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        for &counter in fresh {
            self.dropped.clear(counter)?;
        }
        self.instance.set_blocks(&blocks)?;
        // Every CPU has noticed when this returns.
        if !(blocks.is_empty() && self.settings.blocks.is_empty()) {
            std::thread::sleep(block::TICKS);
        }
        self.settings.blocks = blocks;
        Ok(())
    }

    /// Tells this from here on, in place of what was told before.
    pub fn set_watching(&mut self, watching: Watching) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        self.instance.set_watching(&watching);
        self.watching = watching;
        Ok(())
    }

    /// Where it is told.
    pub fn sightings(&self) -> Result<Sightings, Error> {
        self.shared.sightings()
    }

    /// The sketches of the prefixes that ask most.
    pub fn sketches(&self) -> Result<Sketches, Error> {
        self.shared.sketches()
    }

    /// The counters of interfaces.
    pub fn traffic(&self) -> Result<Traffic, Error> {
        self.shared.traffic()
    }

    /// Packets that a rule dropped, by its counter.
    pub fn dropped(&self, counter: u32) -> Result<u64, Error> {
        self.dropped.read(counter)
    }

    /// Calls the program that is pinned there from the next plan on.
    pub fn set_next(&mut self, next: Option<PathBuf>) {
        self.settings.next = next;
    }

    /// Attaches to these interfaces and no others, from the next [`follow`](Self::follow) on.
    pub fn set_interfaces(&mut self, interfaces: Vec<String>) {
        self.settings.interfaces = interfaces;
        self.waiting.forget();
    }

    /// Detaches from these interfaces, until the next [`follow`](Self::follow).
    pub fn detach(&mut self, interfaces: &[String]) -> Result<(), Error> {
        let mut places = 0..self.attached.len();
        while let Some(place) = places.next_back() {
            if interfaces.contains(&self.attached[place].name) && !self.stopped {
                self.attached[place].detach(&self.pins)?;
                self.attached.remove(place);
            }
        }
        Ok(())
    }

    /// Answers on these addresses, on the interfaces as they are now: follows their MAC addresses,
    /// attaches to those that have come back, and puts back the pins that somebody has removed.
    pub fn follow(&mut self, addresses: &BTreeSet<IpAddr>, netdevs: &Netdevs) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        let interfaces = &self.settings.interfaces;
        while let Some(place) = self
            .attached
            .iter()
            .position(|at| !interfaces.contains(&at.name))
        {
            self.attached[place].detach(&self.pins)?;
            let gone = self.attached.remove(place);
            tracing::info!(
                event = Kind::InterfaceLost.name(),
                interface = gone.name,
                "{}: detached, it is no longer in kernel.interfaces",
                gone.name
            );
        }
        for place in (0..self.attached.len()).rev() {
            let attachment = &self.attached[place];
            let name = attachment.name.as_str();
            let ifindex = netdevs.named(name).map(|netdev| netdev.ifindex);
            if ifindex != Some(attachment.ifindex) {
                let event = Kind::InterfaceLost.name();
                tracing::warn!(event, interface = name, "{name}: the interface has gone");
            } else if !attachment.holds() {
                tracing::warn!(
                    event = Kind::InterfaceLost.name(),
                    interface = name,
                    "{name}: somebody has detached the program: attaching it again"
                );
            } else {
                continue;
            }
            attachment.detach(&self.pins)?;
            if ifindex.is_none() {
                self.waiting.gone(name, netdevs);
            }
            self.attached.remove(place);
        }
        let (attached, offloads) = (&self.attached, &mut self.offloads);
        let fresh = self.waiting.attach(
            &self.pins,
            &mut self.stubs,
            &self.settings,
            attached,
            offloads,
            netdevs,
        );
        self.waiting.complain();
        for attachment in fresh {
            tracing::info!(
                event = Kind::InterfaceBack.name(),
                interface = attachment.name,
                "{}",
                describe(&attachment)
            );
            self.attached.push(attachment);
        }
        self.follow_frags(netdevs);
        self.offloads.follow(&self.pins, &self.attached, netdevs);
        self.look_after_pins();
        let attached = self.attached.iter();
        let attached = attached.map(|attached| (attached.ifindex, attached.generic));
        self.listening
            .sync(listen::rows(addresses, attached, netdevs))
    }

    /// Attaches the build with the frags mark where packets may have outgrown the other by now, and has it answer where it
    /// is attached. Until it does, its stub passes every packet.
    fn follow_frags(&mut self, netdevs: &Netdevs) {
        let (stubs, instance) = (&mut self.stubs, &mut self.instance);
        for attachment in &mut self.attached {
            let netdev = netdevs.named(&attachment.name);
            // What a driver tells is asked for only where it can matter.
            let is_outgrown = || {
                let netdev = netdev.filter(|netdev| netdev.mtu > drivers::MTU_OF_ALL);
                netdev.is_some_and(|netdev| Facts::read(netdev, netdevs).needs_frags())
            };
            let interface = attachment.name.clone();
            match attachment.build {
                Build::Frags if !instance.has_frags() => {
                    if let Err(error) = stubs.call_both(instance) {
                        tracing::error!(interface, "{interface}: the slow path answers: {error}");
                    }
                }
                Build::Plain if !attachment.generic && is_outgrown() => {
                    match attachment.take_frags(stubs, instance) {
                        Ok(()) => tracing::info!(interface, "{}", describe(attachment)),
                        // The change of the MTU has its own warning.
                        Err(error) => tracing::debug!(interface, "{error}"),
                    }
                }
                _ => {}
            }
        }
    }

    /// Puts back the pins that somebody has removed. Without them all goes on, as long as this process does.
    fn look_after_pins(&mut self) {
        let mirrors = self.instance.mirrors().map(|mirrors| mirrors.map());
        let put = self
            .pins
            .put(&self.shared, mirrors, &self.stubs, self.attached.iter());
        let put = put.and_then(|put| self.offloads.put_notes(&self.pins).map(|()| put));
        match put {
            Ok(put) => {
                self.unpinned = None;
                if !put.is_empty() {
                    tracing::warn!(
                        "{}: somebody has removed {}: pinned again",
                        self.pins.path().display(),
                        put.join(", ")
                    );
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.unpinned.as_ref() != Some(&error) {
                    tracing::error!(
                        "somebody has removed pins, and they cannot be put back; the program is detached when \
                         this process ends: {error}"
                    );
                    self.unpinned = Some(error);
                }
            }
        }
    }

    /// Where the program is attached.
    pub fn attached(&self) -> &[Attachment] {
        &self.attached
    }

    /// Where it is to be attached and is not.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// How it was started.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The counters; they stay the same across plans.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The heartbeat; it stays the same across plans.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.heartbeat)
    }

    /// The instance in force.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The stub without the frags mark, which is what is attached to most interfaces.
    pub fn stub(&self) -> &Stub {
        self.stubs.plain()
    }

    /// Id of the program in force without the frags mark.
    pub fn program_id(&mut self) -> Result<u32, Error> {
        self.instance.program_id(Build::Plain)
    }

    /// An orderly end, and the last call: nothing is attached after it, or nobody feeds what is.
    ///
    /// On an error it may be called again.
    pub fn stop(&mut self, on_stop: OnStop) -> Result<(), Error> {
        self.stopped = true;
        if let Some(task) = self.packet_log.take() {
            task.abort();
        }
        match on_stop {
            OnStop::Keep => {
                self.look_after_pins();
                self.heartbeat.beat();
                tracing::info!(
                    "the program stays attached and answers for {:?} more",
                    self.settings.stale_after
                );
                Ok(())
            }
            OnStop::Stub => {
                self.stubs.call_no_more()?;
                self.look_after_pins();
                tracing::info!(
                    "the stub stays attached and passes every packet; `geodns detach` takes it off"
                );
                Ok(())
            }
            OnStop::Detach => {
                while let Some(last) = self.attached.last() {
                    last.detach(&self.pins)?;
                    self.attached.pop();
                }
                self.offloads.give_all_back(&self.pins);
                self.pins.remove()
            }
        }
    }
}

/// Settings of a [`Kernel`].
struct Parts {
    listening: Listening,
    heartbeat: Arc<Heartbeat>,
    cookies: Cookies,
    dropped: BlockCounters,
    stubs: Stubs,
    instance: Instance,
}

impl Parts {
    /// Attaches the stub, or takes over the links that a daemon before us has left, and has it call the program. On an
    /// error nothing is attached that was not before. An interface that does not take it is no error, unless all are
    /// required.
    fn attach_all(
        &mut self,
        pins: &mut Pins,
        shared: &SharedMaps,
        settings: &Settings,
        addresses: &BTreeSet<IpAddr>,
        netdevs: &Netdevs,
    ) -> Result<(Vec<Attachment>, Waiting, Offloads), Error> {
        // Links of our interfaces, and others: of interfaces that have gone, of another network namespace, no
        // longer configured.
        let (mut taken, mut others): (Vec<Attachment>, Vec<Left>) = (Vec::new(), Vec::new());
        for left in pins.left()? {
            let named = |netdev| {
                let mut names = settings.interfaces.iter();
                let name = names.find(|name| Netdev::is_named(netdev, name))?;
                Some((netdev, name))
            };
            match left.link.interface(netdevs).and_then(named) {
                Some((netdev, name)) => {
                    let attachment =
                        Attachment::taken_over(left, name, &self.stubs, netdev, netdevs);
                    let unfit = match (settings.mode, attachment.build) {
                        (Mode::Native, _) if attachment.generic => true,
                        (Mode::Generic, _) if !attachment.generic => true,
                        // The next program may not go with the mark.
                        (_, Build::Frags) => self.stubs.frags().is_err(),
                        (_, Build::Plain) => false,
                    };
                    if unfit {
                        tracing::info!(
                            interface = attachment.name,
                            "{}: attached in another way than the configuration wants: attaching anew",
                            attachment.name
                        );
                        attachment.detach(pins)?;
                    } else {
                        taken.push(attachment);
                    }
                }
                None => others.push(left),
            }
        }
        // New attachments first: they are what may fail.
        let mut waiting = Waiting::default();
        let stubs = &mut self.stubs;
        let noted = Offloads::noted(pins, netdevs)?;
        let mut offloads = noted.clone();
        let mut fresh = waiting.attach(pins, stubs, settings, &taken, &mut offloads, netdevs);
        let mut attach = || -> Result<(), Error> {
            if settings.required
                && let Some(error) = std::mem::take(&mut waiting).into_error()
            {
                return Err(error);
            }
            let all = || fresh.iter().chain(&taken);
            let attached = all().map(|attached| (attached.ifindex, attached.generic));
            self.listening
                .sync(listen::rows(addresses, attached, netdevs))?;
            self.heartbeat.beat();
            self.cookies.set(settings.cookies.as_ref());
            pins.put(shared, None, &self.stubs, all())?;
            self.stubs.set_next_of_plain();
            match all().any(|at| at.build == Build::Frags) {
                true => self.stubs.call_both(&mut self.instance)?,
                false => self.stubs.call(&mut self.instance)?,
            }
            // Those of releases without a stub, or with another one.
            for attachment in &mut taken {
                if self.stubs.build(attachment.link.program()).is_none() {
                    attachment.take_stub(&mut self.stubs, &mut self.instance)?;
                }
            }
            Ok(())
        };
        if let Err(error) = attach() {
            for attachment in &fresh {
                let _ = attachment.detach(pins);
            }
            for left in &others {
                let _ = pins.put_back(left);
            }
            offloads.give_back_since(pins, &noted);
            return Err(error);
        }
        for attachment in &taken {
            tracing::info!(
                interface = attachment.name,
                "{} (taken over from the daemon before)",
                describe(attachment)
            );
        }
        for attachment in &fresh {
            tracing::info!(interface = attachment.name, "{}", describe(attachment));
        }
        for left in &others {
            let (interface, was) = left.detach(netdevs)?;
            was.say(&interface, "it is no longer in kernel.interfaces");
        }
        fresh.append(&mut taken);
        offloads.follow(pins, &fresh, netdevs);
        offloads.put_notes(pins)?;
        pins.clear(&fresh)?;
        if fresh.iter().all(|at| at.build == Build::Plain) {
            self.stubs.drop_frags();
        }
        Ok((fresh, waiting, offloads))
    }
}

/// Loads plans for a [`Kernel`].
pub struct Loader {
    object: &'static [u8],
    log_every: u32,
    shared: Arc<SharedMaps>,
    stubs: Stubs,
    next: Option<Arc<Next>>,
    /// Whether an interface has the frags mark.
    has_frags: bool,
}

impl Loader {
    /// Loads a plan.
    pub fn load(&self, tables: &impl Tables, capacity: Capacity) -> Result<Instance, Error> {
        fault::point("kernel: load").map_err(|error| Error::Load(error.to_string()))?;
        let next = self.next.clone().map(|next| (self.stubs.plain(), next));
        let mut instance = Instance::load(
            self.object,
            tables,
            capacity,
            self.log_every,
            &self.shared,
            next,
        )?;
        if let Some(stub) = self.stubs.get(Build::Frags).filter(|_| self.has_frags) {
            instance.load_frags(stub)?;
        }
        Ok(instance)
    }
}

/// A link that was detached.
#[derive(Debug, PartialEq, Eq)]
pub struct Detached {
    /// The interface.
    pub interface: String,
    /// Its place.
    pub was: Was,
    /// Whether the interface's rxvlan was turned on again.
    pub rxvlan: bool,
}

/// Detaches what a daemon has left below a folder, and removes the pins. Fails while a daemon uses them.
pub fn detach_left(pin: &Path, netdevs: &Netdevs) -> Result<Vec<Detached>, Error> {
    if !pin.exists() {
        return Ok(Vec::new());
    }
    let pins = Pins::open(pin)?;
    let mut offloads = Offloads::noted(&pins, netdevs)?;
    let left = pins.left()?;
    let detached = left.iter().map(|left| left.detach(netdevs));
    let detached: Vec<_> = detached.collect::<Result<_, _>>()?;
    let on_again = offloads.give_all_back(&pins);
    pins.remove()?;
    let detached = detached.into_iter().map(|(interface, was)| {
        let netdev = netdevs.named(&interface);
        let rxvlan = netdev.is_some_and(|of| on_again.contains(&(Offload::Rxvlan, of.ifindex)));
        Detached {
            rxvlan: was == Was::Here && rxvlan,
            interface,
            was,
        }
    });
    Ok(detached.collect())
}

/// Waits until no packet can be looking at anything that was unlinked before.
pub fn grace() -> io::Result<()> {
    fault::point("kernel: grace period")?;
    sys::grace()
}

impl Backend for Kernel {
    fn apply(&mut self, stores: &[Store]) -> io::Result<()> {
        fault::point("kernel: stores")?;
        self.instance.apply(stores)
    }

    fn grace(&mut self) -> io::Result<()> {
        self.instance.grace()
    }
}

fn describe(attachment: &Attachment) -> String {
    if attachment.generic {
        format!(
            "{}: attached in generic mode: every packet becomes a socket buffer first, \
             which costs more than native mode",
            attachment.name
        )
    } else {
        let frags = match attachment.build {
            Build::Plain => "",
            Build::Frags => ", with the frags mark, which its MTU wants",
        };
        format!("{}: attached in native mode{frags}", attachment.name)
    }
}
