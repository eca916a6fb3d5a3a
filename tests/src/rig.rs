//! The loaded programs, without a daemon: the responder over tables of the caller's choice, and
//! the rig around it. For test runs in the kernel and for benches.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, Pod};
use geodns::kernel::heartbeat::Heartbeat;
use geodns::kernel::instance::Instance;
use geodns::kernel::listen::{self, Listening};
use geodns::kernel::shared::{Counters, SharedMaps};
use geodns::kernel::stub::{Build, Stub};
use geodns::kernel::sys;
use geodns::plan::Capacity;
use geodns_common::abi::{self, Block, Page, Settings};
use geodns_common::layout::{Callee, Listen};
use geodns_common::tables::Tables;
use geodns_common::verdict::{COUNTERS, Verdict};

use crate::built::{responder_object, rig_object};
use crate::real;

/// The responder, loaded and attached nowhere, with shared maps of its own.
pub struct Responder {
    /// The program and its tables.
    pub instance: Instance,
    /// How long it answers.
    pub heartbeat: Heartbeat,
    counters: Counters,
    listening: Listening,
    shared: SharedMaps,
    object: Vec<u8>,
}

impl Responder {
    /// Loads it with these tables. It answers nowhere yet, for an hour.
    pub fn load(tables: &impl Tables, capacity: Capacity) -> Result<Self> {
        Self::of(responder_object()?, tables, capacity)
    }

    /// Loads another build of the program in the same way.
    pub fn of(object: Vec<u8>, tables: &impl Tables, capacity: Capacity) -> Result<Self> {
        let shared = SharedMaps::new(&object)?;
        let instance = Instance::load(&object, tables, capacity, 0, &shared, None)?;
        let heartbeat = shared.heartbeat(Duration::from_secs(3600))?;
        heartbeat.beat();
        Ok(Self {
            instance,
            heartbeat,
            counters: shared.counters()?,
            listening: shared.listening()?,
            shared,
            object,
        })
    }

    /// Loads it once more, over other tables or with a log of one packet in `log_every`.
    pub fn another(
        &self,
        tables: &impl Tables,
        capacity: Capacity,
        log_every: u32,
    ) -> Result<Instance> {
        let (object, shared) = (&self.object, &self.shared);
        let instance = Instance::load(object, tables, capacity, log_every, shared, None)?;
        Ok(instance)
    }

    /// A stub that calls it.
    pub fn stub(&mut self) -> Result<Stub> {
        let stub = Stub::new(&self.object, Build::Plain)?;
        stub.call(Callee::Answers, self.instance.program_fd(Build::Plain)?)?;
        Ok(stub)
    }

    /// A heartbeat of another length.
    pub fn heartbeat(&self, stale_after: Duration) -> Result<Heartbeat> {
        Ok(self.shared.heartbeat(stale_after)?)
    }

    /// Answers on these addresses, by interface and that interface's MAC address.
    pub fn listen(&mut self, rows: &[(IpAddr, u32, [u8; 6])]) -> Result<()> {
        self.listen_in(rows, &[])
    }

    /// The same, also in VLANs, as `Listen::vlan` has them.
    pub fn listen_in(
        &mut self,
        rows: &[(IpAddr, u32, [u8; 6])],
        vlans: &[(u64, u32, [u8; 6])],
    ) -> Result<()> {
        let addresses = rows
            .iter()
            .map(|&(address, ifindex, mac)| (listen::key(address, ifindex), mac_number(mac)));
        let vlans = vlans
            .iter()
            .map(|&(vlan, ifindex, mac)| (listen::vlan_key(vlan, ifindex), mac_number(mac)));
        Ok(self.listening.sync(addresses.chain(vlans).collect())?)
    }

    /// Has the program take all packets for such as the network stack runs it on, or a driver.
    pub fn set_generic(&mut self, generic: bool) -> Result<()> {
        let mode = if generic { Listen::GENERIC } else { 0 };
        let rows = self.listening.rows().into_iter();
        let rows = rows.map(|(key, owner)| (key, owner & !Listen::GENERIC | mode));
        Ok(self.listening.sync(rows.collect())?)
    }

    /// The counters, summed over CPUs.
    pub fn counters(&self) -> Result<[u64; COUNTERS]> {
        Ok(self.counters.read()?)
    }

    /// Runs the program on one frame that came in by an interface of this thread's network
    /// namespace, looped back by `lo`.
    pub fn run(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run_build(Build::Plain, frame)
    }

    /// Runs a build of it.
    pub fn run_build(&mut self, build: Build, frame: &[u8]) -> Result<Outcome> {
        if build == Build::Frags && !self.instance.has_frags() {
            let stub = Stub::new(&self.object, build)?;
            self.instance.load_frags(&stub)?;
        }
        let before = self.counters()?;
        let (action, frame) = run(self.instance.program(build)?, frame)?;
        let after = self.counters()?;
        let mut verdicts = (0..Verdict::ALL.len()).filter(|&at| after[at] != before[at]);
        let verdict = verdicts.next().context("no counter for this packet")?;
        ensure!(
            after[verdict] == before[verdict] + 1 && verdicts.next().is_none(),
            "more than one count for one packet"
        );
        let verdict = Verdict::from_index(verdict as u32).context("a counter of no verdict")?;
        Ok(Outcome {
            action,
            verdict,
            frame,
        })
    }
}

/// Instructions that the verifier walked for each program: the responder, with and without its log of
/// packets and a limit of responses, and the rig's.
pub fn verified(
    responder: &Responder,
    tables: &impl Tables,
    capacity: Capacity,
) -> Result<Vec<(String, u32)>> {
    let logging = responder.another(tables, capacity, 1000)?;
    let world = real::limited()?;
    let plan = world.plan.read().expect("not poisoned");
    let [limiting, both] =
        [0, 1000].map(|log_every| responder.another(&*plan, plan.capacity(), log_every));
    let settings = Settings {
        mirror_pages: 1,
        ..*plan.settings()
    };
    let most = responder.another(&With::settings(&*plan, settings), plan.capacity(), 0)?;
    let counted = real::counted()?;
    let counted = counted.plan.read().expect("not poisoned");
    let counting = responder.another(&*counted, counted.capacity(), 0)?;
    let mut frags = responder.another(tables, capacity, 0)?;
    frags.load_frags(&Stub::new(&responder.object, Build::Frags)?)?;
    let of_frags = frags.program(Build::Frags)?.info()?;
    let of_frags = of_frags.verified_instruction_count();
    let mut counts = vec![
        ("geodns, frags".to_owned(), of_frags.unwrap_or(0)),
        (
            "geodns".to_owned(),
            responder.instance.verified_instructions(),
        ),
        (
            "geodns, counting by mirror".to_owned(),
            counting.verified_instructions(),
        ),
        (
            "geodns, logging".to_owned(),
            logging.verified_instructions(),
        ),
        (
            "geodns, limiting".to_owned(),
            limiting?.verified_instructions(),
        ),
        (
            "geodns, limiting and counting by mirror".to_owned(),
            most.verified_instructions(),
        ),
        (
            "geodns, limiting and logging".to_owned(),
            both?.verified_instructions(),
        ),
    ];
    let mut rig = Rig::load()?;
    for name in rig.names() {
        let info = rig.program(&name)?.info()?;
        let count = info
            .verified_instruction_count()
            .context("this kernel does not say what it verified")?;
        counts.push((format!("rig: {name}"), count));
    }
    Ok(counts)
}

/// Tables of which some are other ones.
pub struct With<'a, T> {
    tables: &'a T,
    settings: Settings,
    zones: Option<Vec<abi::Zone>>,
}

impl<'a, T: Tables> With<'a, T> {
    /// With other settings.
    pub fn settings(tables: &'a T, settings: Settings) -> Self {
        Self {
            tables,
            settings,
            zones: None,
        }
    }

    /// With other zones.
    pub fn zones(tables: &'a T, zones: Vec<abi::Zone>) -> Self {
        Self {
            zones: Some(zones),
            ..Self::settings(tables, *tables.settings())
        }
    }
}

impl<T: Tables> Tables for With<'_, T> {
    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn name(&self, slot: u32) -> Option<&abi::Name> {
        self.tables.name(slot)
    }
    fn zone(&self, index: u32) -> Option<&abi::Zone> {
        match &self.zones {
            Some(zones) => zones.get(index as usize),
            None => self.tables.zone(index),
        }
    }
    fn pool(&self, index: u32) -> Option<&abi::Pool> {
        self.tables.pool(index)
    }
    fn answer(&self, index: u32) -> Option<&abi::Answer> {
        self.tables.answer(index)
    }
    fn shelf(&self, index: u32) -> Option<&abi::Shelf> {
        self.tables.shelf(index)
    }
    fn region(&self, index: u32) -> Option<u64> {
        self.tables.region(index)
    }
    fn slot(&self, index: u32) -> Option<u64> {
        self.tables.slot(index)
    }
    fn random(&self) -> u32 {
        self.tables.random()
    }
    fn root(&self, index: u32) -> Option<&Page> {
        self.tables.root(index)
    }
    fn block(&self, number: u32) -> Option<&Block> {
        self.tables.block(number)
    }
}

/// The outcome of a test run of the responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value.
    pub action: Action,
    /// The verdict whose counter went up.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// A return value of an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// XDP_ABORTED
    Aborted,
    /// XDP_DROP
    Drop,
    /// XDP_PASS
    Pass,
    /// XDP_TX
    Tx,
    /// XDP_REDIRECT
    Redirect,
}

/// Runs a program once on a frame: what it returned, and the frame afterwards.
pub fn run(program: &Xdp, frame: &[u8]) -> Result<(Action, Vec<u8>)> {
    let mut out = vec![0; 0x1_0000];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    let action = match result.return_value {
        0 => Action::Aborted,
        1 => Action::Drop,
        2 => Action::Pass,
        3 => Action::Tx,
        4 => Action::Redirect,
        other => bail!("the program returned {other}"),
    };
    out.truncate(result.data_size_out as usize);
    Ok((action, out))
}

/// A MAC address as the map of listen addresses has it.
pub fn mac_number(mac: [u8; 6]) -> u64 {
    mac.iter()
        .fold(0, |sum, &octet| sum << 8 | u64::from(octet))
}

/// Octets of a frame in the rig's template, at the most.
const TEMPLATE_LEN: usize = 256;

/// The rig's `Template`: a query that `generate` and `restore` write.
#[repr(C)]
#[derive(Clone, Copy)]
struct Template {
    len: u32,
    version: u32,
    source: u32,
    subnet: u32,
    subnet_at: u32,
    subnet_len: u32,
    digits_at: u32,
    digits: u32,
    names: u32,
    log2_names: u32,
    sum: u32,
    frame: [u8; TEMPLATE_LEN],
}

/// The rig's `Turn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Turn {
    made: u32,
    templates: u32,
    pace: u64,
    due: u64,
}

/// The rig's `Kept`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kept {
    len: u32,
    frame: [u8; 512],
}

/// Queries that `generate` makes in turn, at the most.
pub const TEMPLATES: usize = 64;

/// Addresses of [`Clients::Table`].
pub const CLIENTS: usize = 10_000;

/// The clients whose addresses `generate` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// The one that is in the frame.
    #[default]
    One,
    /// One of [`CLIENTS`], which [`Rig::set_clients`] has set.
    Table,
    /// Any of the unicast space.
    Random,
}

/// A query that `generate` makes, and what of it differs from one to the next.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The frame: Ethernet, IPv4 without options or IPv6 without extension headers, UDP, DNS; 256 octets at the most.
    pub frame: Vec<u8>,
    /// Octets of it that are the digits of a random number, eight at the most.
    pub digits: Range<usize>,
    /// How that is drawn.
    pub draw: Draw,
    /// From whom it comes.
    pub source: Clients,
    /// Octets of it that are the address of the client subnet, of the same family; eight at the most.
    pub subnet: Range<usize>,
    /// The clients whose address that is.
    pub subnet_of: Clients,
}

impl Pattern {
    /// This frame from random addresses.
    pub fn new(frame: Vec<u8>) -> Self {
        Self {
            frame,
            digits: 0..0,
            draw: Draw::Evenly,
            source: Clients::Random,
            subnet: 0..0,
            subnet_of: Clients::One,
        }
    }

    fn template(&self) -> Result<Template> {
        let len = self.frame.len();
        for varied in [&self.digits, &self.subnet] {
            ensure!(
                varied.len() <= 8 && varied.end <= len,
                "too many octets are varied"
            );
        }
        let names = match self.draw {
            Draw::Evenly => 0,
            Draw::Zipf => 10_u32.pow(self.digits.len() as u32),
        };
        let is_v6 = self.frame.get(12..14) == Some(&[0x86, 0xdd]);
        let mut template = Template {
            len: u32::try_from(len)?,
            version: if is_v6 { 6 } else { 4 },
            source: self.source as u32,
            subnet: self.subnet_of as u32,
            subnet_at: u32::try_from(self.subnet.start)?,
            subnet_len: u32::try_from(self.subnet.len())?,
            digits_at: u32::try_from(self.digits.start)?,
            digits: u32::try_from(self.digits.len())?,
            names,
            log2_names: (f64::from(names.max(1)).log2() * 65_536.0) as u32,
            sum: self.sum(is_v6),
            frame: [0; TEMPLATE_LEN],
        };
        template
            .frame
            .get_mut(..len)
            .context("the frame is longer than the template")?
            .copy_from_slice(&self.frame);
        Ok(template)
    }

    /// The sum of the words that the UDP checksum is over, without those that `generate` adds.
    fn sum(&self, is_v6: bool) -> u32 {
        let (addresses, octets) = if is_v6 { (22, 16) } else { (26, 4) };
        let udp = addresses + 2 * octets;
        let mut frame = self.frame.clone();
        // The source, the checksum, and the DNS id behind it.
        frame[addresses..addresses + octets].fill(0);
        frame[udp + 6..udp + 10].fill(0);
        frame[self.digits.clone()].fill(0);
        if self.subnet_of != Clients::One {
            frame[self.subnet.clone()].fill(0);
        }
        let words = frame[addresses..].chunks(2);
        let words = words.map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        });
        // The rest of the pseudo-header: length and protocol.
        let length = u16::from_be_bytes([frame[udp + 4], frame[udp + 5]]);
        words.sum::<u32>() + u32::from(length) + 17
    }
}

/// Work of `sink` besides counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Besides {
    /// Nothing.
    Nothing,
    /// It counts how long each answer took: see [`Rig::times`].
    Time,
    /// It keeps the last frame: see [`Rig::kept`].
    Keep,
}

/// How many answers took how long.
#[derive(Clone, Debug)]
pub struct Times([u64; 256]);

impl Times {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Microseconds that this share of the answers took at the most, to an eighth of a power of two.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let place = ((self.len() as f64 * share).ceil() as u64).max(1);
        let mut passed = 0;
        let at = self.0.iter().position(|count| {
            passed += count;
            passed >= place
        })?;
        // The end of the bucket: eight of them to each power of two, from 16 nanoseconds on.
        let (doublings, left) = match at {
            ..16 => (0, at),
            _ => ((at - 8) / 8, 8 + at % 8),
        };
        Some(((left as u64 + 1) << doublings) as f64 / 1e3)
    }
}

impl std::ops::AddAssign<&Times> for Times {
    fn add_assign(&mut self, more: &Self) {
        self.0
            .iter_mut()
            .zip(more.0)
            .for_each(|(sum, one)| *sum += one);
    }
}

/// How `generate` draws the number in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Each as likely as the next.
    Evenly,
    /// The one of rank `k` with a share that goes with `1 / k`, as resolvers ask: a Zipf law of exponent 1.
    Zipf,
}

// SAFETY: integers and an array of octets, no padding; any bytes are valid.
unsafe impl Pod for Template {}
// SAFETY: as above.
unsafe impl Pod for Turn {}
// SAFETY: as above.
unsafe impl Pod for Kept {}

/// The rig's `Seen`: what `sink` counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Responses with an answer, NOERROR and AA.
    pub answers: u64,
    /// The same with no answer and a SOA.
    pub nodata: u64,
    /// The same with NXDOMAIN.
    pub nxdomain: u64,
    /// Queries, as the reflector sends them back.
    pub queries: u64,
    /// Everything else.
    pub other: u64,
}

// SAFETY: five integers; any bytes are valid.
unsafe impl Pod for Seen {}

impl Seen {
    /// All that are what they should be: answers of each kind, and queries.
    pub fn messages(&self) -> u64 {
        self.answers + self.nodata + self.nxdomain + self.queries
    }
}

impl std::ops::Sub for Seen {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            answers: self.answers - before.answers,
            nodata: self.nodata - before.nodata,
            nxdomain: self.nxdomain - before.nxdomain,
            queries: self.queries - before.queries,
            other: self.other - before.other,
        }
    }
}

/// Addresses that one run of the rig's `draw` and its like draws.
pub const DRAWS: u32 = 16;

/// The rig: its programs, loaded.
pub struct Rig(Ebpf);

impl Rig {
    /// Loads every program of it.
    pub fn load() -> Result<Self> {
        let mut ebpf = Ebpf::load(&rig_object()?).context("cannot load the rig's object")?;
        for (name, program) in ebpf.programs_mut() {
            let name = name.to_owned();
            let xdp: &mut Xdp = program.try_into()?;
            xdp.load()
                .with_context(|| format!("the kernel refuses the rig's {name}"))?;
        }
        Ok(Self(ebpf))
    }

    /// Loads its programs that draw addresses, with tables to look them up in: the roots of one atlas
    /// and the blocks below, and IPv4 prefixes with their regions.
    pub fn with_tables(
        roots: &[Page],
        blocks: &[Block],
        prefixes: &[(Ipv4Addr, u8, u32)],
    ) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("ROOTS", u32::try_from(roots.len())?)
            .map_max_entries("BLOCKS", u32::try_from(blocks.len())?)
            .map_max_entries("TRIE", u32::try_from(prefixes.len())?)
            .load(&rig_object()?)?;
        for name in ["draw", "draw_table", "draw_trie"] {
            let program = ebpf.program_mut(name).context("the rig is an old one")?;
            let xdp: &mut Xdp = program.try_into()?;
            xdp.load()
                .with_context(|| format!("the kernel refuses the rig's {name}"))?;
        }
        let mut rig = Self(ebpf);
        let mut map: Array<&mut MapData, [u32; 256]> = Array::try_from(rig.map_mut("ROOTS")?)?;
        for (index, page) in (0..).zip(roots) {
            map.set(index, bytemuck::cast::<Page, [u32; 256]>(*page), 0)?;
        }
        let mut map: Array<&mut MapData, [u32; 16]> = Array::try_from(rig.map_mut("BLOCKS")?)?;
        for (index, block) in (0..).zip(blocks) {
            map.set(index, bytemuck::cast::<Block, [u32; 16]>(*block), 0)?;
        }
        let mut trie: LpmTrie<&mut MapData, u32, u32> = LpmTrie::try_from(rig.map_mut("TRIE")?)?;
        for &(first, len, region) in prefixes {
            let key = Key::new(len.into(), first.to_bits().to_be());
            trie.insert(&key, region, 0)?;
        }
        Ok(rig)
    }

    /// Runs a program that draws addresses N times, from the same seed: all that it found added
    /// up, and nanoseconds of one run, which is [`DRAWS`] addresses.
    pub fn draw(&mut self, name: &str, runs: u32) -> Result<(u64, f64)> {
        let mut drawn: PerCpuArray<&mut MapData, [u64; 2]> =
            PerCpuArray::try_from(self.map_mut("DRAWN")?)?;
        let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
        drawn.set(0, PerCpuValues::try_from(vec![[1, 0]; cpus])?, 0)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&[0; 64]);
        options.repeat = runs;
        let result = self.program(name)?.test_run(options)?;
        ensure!(result.return_value == 1, "{name} has failed");
        let drawn: PerCpuArray<&mut MapData, [u64; 2]> =
            PerCpuArray::try_from(self.map_mut("DRAWN")?)?;
        let found = drawn.get(&0, 0)?.iter().map(|[_, sum]| sum).sum();
        Ok((found, result.duration.as_nanos() as f64))
    }

    /// One of its programs.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        Ok(self
            .0
            .program_mut(name)
            .with_context(|| format!("the rig has no program {name}"))?
            .try_into()?)
    }

    /// Names of its programs.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.programs().map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names
    }

    /// Sets the frame that `generate`, from random addresses, and `restore` write.
    pub fn set_template(&mut self, query: &[u8]) -> Result<()> {
        self.set_patterns(&[Pattern::new(query.to_vec())])
    }

    /// Sets the queries that `generate` makes in turn, [`TEMPLATES`] at the most.
    pub fn set_patterns(&mut self, patterns: &[Pattern]) -> Result<()> {
        self.set_paced(patterns, Duration::ZERO)
    }

    /// The same, no two of them closer together than so long.
    pub fn set_paced(&mut self, patterns: &[Pattern], pace: Duration) -> Result<()> {
        ensure!(
            (1..=TEMPLATES).contains(&patterns.len()),
            "from 1 to {TEMPLATES} queries take turns, not {}",
            patterns.len()
        );
        let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
        let mut map: PerCpuArray<&mut MapData, Template> =
            PerCpuArray::try_from(self.map_mut("TEMPLATE")?)?;
        for (index, pattern) in (0..).zip(patterns) {
            let values = PerCpuValues::try_from(vec![pattern.template()?; cpus])?;
            map.set(index, values, 0)?;
        }
        let turn = Turn {
            made: 0,
            templates: u32::try_from(patterns.len())?,
            pace: pace.as_nanos() as u64,
            due: 0,
        };
        let mut map: PerCpuArray<&mut MapData, Turn> =
            PerCpuArray::try_from(self.map_mut("TURN")?)?;
        map.set(0, PerCpuValues::try_from(vec![turn; cpus])?, 0)?;
        Ok(())
    }

    /// Sets the addresses of [`Clients::Table`], of which there are [`CLIENTS`]; of IPv6 the networks of
    /// 64 bits.
    pub fn set_clients(&mut self, clients: &[IpAddr]) -> Result<()> {
        ensure!(clients.len() == CLIENTS, "there must be {CLIENTS} clients");
        let mut map: Array<&mut MapData, [u8; 16]> = Array::try_from(self.map_mut("CLIENTS")?)?;
        for (index, client) in (0..).zip(clients) {
            let mut octets = [0; 16];
            match client {
                IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => octets = v6.octets(),
            }
            map.set(index, octets, 0)?;
        }
        Ok(())
    }

    /// Sets what `sink` does besides counting, and forgets what it did so far.
    pub fn set_besides(&mut self, besides: Besides) -> Result<()> {
        let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
        let mut map: PerCpuArray<&mut MapData, [u64; 256]> =
            PerCpuArray::try_from(self.map_mut("TIMES")?)?;
        map.set(0, PerCpuValues::try_from(vec![[0; 256]; cpus])?, 0)?;
        let mut map: Array<&mut MapData, Kept> = Array::try_from(self.map_mut("LAST")?)?;
        let nothing = Kept {
            len: 0,
            frame: [0; 512],
        };
        map.set(0, nothing, 0)?;
        self.set_besides_alone(besides)
    }

    /// Sets what `sink` does besides counting.
    pub fn set_besides_alone(&mut self, besides: Besides) -> Result<()> {
        let mut map: Array<&mut MapData, u32> = Array::try_from(self.map_mut("BESIDES")?)?;
        Ok(map.set(0, besides as u32, 0)?)
    }

    /// The map of when the query of each DNS id was sent, in nanoseconds of the monotonic clock.
    pub fn sent(&self) -> Result<OwnedFd> {
        let map = self.0.map("SENT").context("the rig has no map SENT")?;
        let aya::maps::Map::Array(map) = map else {
            bail!("the rig's SENT is no array");
        };
        Ok(map.fd().as_fd().try_clone_to_owned()?)
    }

    /// How long answers took since [`Besides::Time`] was set.
    pub fn times(&self) -> Result<Times> {
        let map = self.0.map("TIMES").context("the rig has no map TIMES")?;
        let map: PerCpuArray<&MapData, [u64; 256]> = PerCpuArray::try_from(map)?;
        let mut sum = Times([0; 256]);
        for cpu in map.get(&0, 0)?.iter() {
            sum += &Times(*cpu);
        }
        Ok(sum)
    }

    /// The last frame that came since [`Besides::Keep`] was set.
    pub fn kept(&self) -> Result<Option<Vec<u8>>> {
        let map = self.0.map("LAST").context("the rig has no map LAST")?;
        let map: Array<&MapData, Kept> = Array::try_from(map)?;
        let kept = map.get(&0, 0)?;
        let frame = kept.frame.get(..kept.len as usize);
        Ok(frame.filter(|frame| !frame.is_empty()).map(<[u8]>::to_vec))
    }

    /// Sets the program that `restore` calls.
    pub fn set_target(&mut self, program: &impl AsFd) -> Result<()> {
        let Map::ProgramArray(array) = self.map_mut("TARGET")? else {
            bail!("TARGET is no array of programs");
        };
        Ok(sys::array_put(array.fd().as_fd(), 0, program.as_fd())?)
    }

    /// Octets that the last packet for `grow` could grow by: at the head, at the tail.
    pub fn room(&self) -> Result<[u32; 2]> {
        let map = self.0.map("ROOM").context("the rig has no map ROOM")?;
        let map: Array<&MapData, [u32; 2]> = Array::try_from(map)?;
        Ok(map.get(&0, 0)?)
    }

    /// The counts of `sink` so far, summed over CPUs.
    pub fn seen(&self) -> Result<Seen> {
        let map = self.0.map("SEEN").context("the rig has no map SEEN")?;
        let map: PerCpuArray<&MapData, Seen> = PerCpuArray::try_from(map)?;
        let mut sum = Seen::default();
        for cpu in map.get(&0, 0)?.iter() {
            sum.answers += cpu.answers;
            sum.nodata += cpu.nodata;
            sum.nxdomain += cpu.nxdomain;
            sum.queries += cpu.queries;
            sum.other += cpu.other;
        }
        Ok(sum)
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.0
            .map_mut(name)
            .with_context(|| format!("the rig has no map {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let mut times = Times([0; 256]);
        assert!(times.is_empty());
        assert_eq!(times.quantile(0.5), None);
        // 16 and 17 nanoseconds; 1,024 to 1,151; the last.
        times.0[16] = 50;
        times.0[8 * 7 + 8] = 49;
        times.0[255] = 1;
        assert_eq!(times.len(), 100);
        assert_eq!(times.quantile(0.5), Some(0.018));
        assert_eq!(times.quantile(0.51), Some(1.152));
        assert_eq!(times.quantile(0.99), Some(1.152));
        assert_eq!(times.quantile(1.0), Some((1_u64 << 34) as f64 / 1e3));
    }
}
