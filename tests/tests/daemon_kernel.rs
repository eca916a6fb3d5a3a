//! The program attached, pinned, replaced, taken over and detached, on a real interface.
//!
//! Each test has network namespaces and a folder of pins of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aya::maps::MapData;
use aya::programs::ProgramInfo;
use geodns::config::{Mode, OnStop};
use geodns::kernel::link::Link;
use geodns::kernel::listen::{self, Listening};
use geodns::kernel::netdev::{self, Kind, Netdev, Netdevs};
use geodns::kernel::stub::Build;
use geodns::kernel::{self, Error, Kernel, Settings, ethtool, pins};
use geodns::plan::{Capacity, Store};
use geodns::publish::Backend;
use geodns_common::abi;
use geodns_common::layout::{Callee, Listen};
use geodns_common::tables::Tables;
use nix::sched::{CloneFlags, setns};

/// A namespace with `lan0` in it, whose peer is `wan0` in another one.
struct World {
    name: String,
    pin: PathBuf,
}

impl World {
    /// `None` without root.
    fn new() -> Option<Self> {
        let thread = std::thread::current();
        if !geodns_tests::privileged(thread.name().unwrap_or("a test")) {
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("geodns-k{}-{number}", std::process::id());
        let world = Self {
            pin: PathBuf::from("/sys/fs/bpf").join(&name),
            name,
        };
        let (server, client) = (world.server(), world.client());
        sh(&format!("ip netns add {server} && ip netns add {client}"));
        world.add_veth();
        Some(world)
    }

    fn server(&self) -> String {
        format!("{}s", self.name)
    }

    fn client(&self) -> String {
        format!("{}c", self.name)
    }

    fn add_veth(&self) {
        let (server, client) = (self.server(), self.client());
        sh(&format!(
            "ip -n {server} link add lan0 type veth peer name wan0 netns {client} \
             && ip -n {server} addr add 192.0.2.53/24 dev lan0 \
             && ip -n {server} addr add 2001:db8::53/64 dev lan0 nodad \
             && ip -n {server} link set lan0 up && ip -n {client} link set wan0 up"
        ));
    }

    /// Runs in the namespace, in a thread of its own.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let namespace =
                        std::fs::File::open(format!("/run/netns/{}", self.server())).unwrap();
                    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            interfaces: vec!["lan0".to_owned()],
            mode: Mode::Native,
            required: true,
            pin: self.pin.clone(),
            stale_after: Duration::from_secs(60),
            log_every: 0,
            cookies: None,
            blocks: Default::default(),
            next: None,
        }
    }

    fn start(&self, settings: Settings, generation: u64) -> Result<Kernel, Error> {
        let netdevs = netdevs();
        Kernel::start(
            settings,
            kernel::object().expect("tests need the eBPF object: run `cargo xtask build`"),
            &Empty::new(generation),
            CAPACITY,
            &netdevs.addresses(&["lan0".to_owned()]),
            &netdevs,
        )
    }

    /// Where the links are pinned.
    fn links(&self) -> PathBuf {
        pins::home(&self.pin).join("links")
    }

    /// Number of the link that is pinned for `lan0`.
    fn link(&self) -> Option<u32> {
        Link::open(&self.links().join("lan0")).unwrap()?.id()
    }

    /// How many are pinned.
    fn links_pinned(&self) -> usize {
        std::fs::read_dir(self.links()).map_or(0, |files| files.count())
    }

    /// Everything below the folder of the pins.
    fn pinned(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.pin.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                found.insert(path.strip_prefix(&self.pin).unwrap().to_owned());
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Pins first: what is not pinned goes with its namespace.
        let _ = Command::new("rm").arg("-rf").arg(&self.pin).status();
        for namespace in [self.server(), self.client()] {
            let _ = Command::new("ip")
                .args(["netns", "del", &namespace])
                .status();
        }
    }
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn netdevs() -> Netdevs {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            Netdevs::read(&netlink).await.unwrap()
        })
}

/// Program and mode on `lan0`.
fn attached() -> Option<netdev::Xdp> {
    netdevs().named("lan0").unwrap().xdp
}

/// The program that `lan0` has in force: the one that the attached stub calls.
fn in_force(kernel: &Kernel) -> Option<u32> {
    assert_eq!(attached()?.program, Some(kernel.stub().id()));
    kernel.stub().callee(Callee::Answers).unwrap()
}

/// The same, of the stub that is pinned, whoever has left it.
fn in_force_of(world: &World) -> Option<u32> {
    let pins = pins::Pins::open(&world.pin).ok()?;
    let [program, array] = pins.stub(Build::Plain);
    let stub = ProgramInfo::from_pin(program).unwrap().id();
    assert_eq!(attached()?.program, Some(stub));
    let array = kernel::sys::obj_get(&array).unwrap();
    kernel::sys::array_get(array.as_fd(), Callee::Answers as u32).unwrap()
}

/// Whether `lan0` takes VLAN tags off.
fn rxvlan() -> bool {
    ethtool::rxvlan(netdevs().named("lan0").unwrap().ifindex).unwrap()
}

/// Tables with nothing in them.
struct Empty(abi::Settings);

impl Empty {
    fn new(generation: u64) -> Self {
        Self(abi::Settings {
            generation,
            name_mask: 7,
            port: 53,
            ..abi::Settings::default()
        })
    }
}

const CAPACITY: Capacity = Capacity {
    names: 8,
    zones: 1,
    pools: 2,
    answers: 4,
    shelves: 1,
    slots: 1,
    regions: 4,
    roots: 512,
    blocks: 16,
};

impl Tables for Empty {
    fn settings(&self) -> &abi::Settings {
        &self.0
    }
    fn name(&self, _: u32) -> Option<&abi::Name> {
        None
    }
    fn zone(&self, _: u32) -> Option<&abi::Zone> {
        None
    }
    fn pool(&self, _: u32) -> Option<&abi::Pool> {
        None
    }
    fn answer(&self, _: u32) -> Option<&abi::Answer> {
        None
    }
    fn shelf(&self, _: u32) -> Option<&abi::Shelf> {
        None
    }
    fn region(&self, _: u32) -> Option<u64> {
        None
    }
    fn slot(&self, _: u32) -> Option<u64> {
        None
    }
    fn random(&self) -> u32 {
        0
    }
    fn root(&self, _: u32) -> Option<&abi::Page> {
        None
    }
    fn block(&self, _: u32) -> Option<&abi::Block> {
        None
    }
}

#[test]
fn an_orderly_stop_leaves_nothing_attached_or_pinned() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        assert!(rxvlan(), "veth strips tags by default");
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let id = kernel.program_id().unwrap();
        assert_eq!(in_force(&kernel), Some(id));
        assert!(!attached().unwrap().generic);
        assert!(!rxvlan(), "tags must stay in the packet");
        let verified = kernel.instance().verified_instructions();
        assert!((1..400_000).contains(&verified), "{verified} instructions");
        assert!(kernel.instance().memory() > 528 * 1024);

        kernel.stop(OnStop::Detach).unwrap();
        assert_eq!(attached(), None);
        assert!(rxvlan(), "rxvlan is given back");
        assert!(!world.pin.exists());
    });
}

#[test]
fn generic_mode_is_what_the_interface_reports() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut settings = world.settings();
        settings.mode = Mode::Generic;
        let mut kernel = world.start(settings, 1).unwrap();
        assert!(attached().unwrap().generic);
        assert!(kernel.attached()[0].generic);
        kernel.stop(OnStop::Detach).unwrap();
        assert_eq!(attached(), None);
    });
}

#[test]
fn auto_falls_back_to_generic_where_the_driver_has_no_native_mode() {
    let Some(world) = World::new() else { return };
    sh(&format!(
        "ip -n {} link add br0 type bridge",
        world.server()
    ));
    world.enter(|| {
        let netdevs = netdevs();
        let start = |mode| {
            Kernel::start(
                Settings {
                    interfaces: vec!["br0".to_owned()],
                    mode,
                    ..world.settings()
                },
                kernel::object().unwrap(),
                &Empty::new(1),
                CAPACITY,
                &BTreeSet::new(),
                &netdevs,
            )
        };
        let error = start(Mode::Native)
            .err()
            .expect("a bridge has no native XDP");
        assert!(matches!(error, Error::NoNative { .. }), "{error}");
        assert!(!world.pin.exists(), "nothing half-made stays");
        let mut kernel = start(Mode::Auto).unwrap();
        assert!(kernel.attached()[0].generic);
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn a_crash_leaves_it_attached_and_the_next_start_replaces_it_in_place() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut first = world.start(world.settings(), 1).unwrap();
        let first_id = first.program_id().unwrap();
        let (stub, link) = (first.stub().id(), world.link());
        drop(first);
        assert_eq!(in_force_of(&world), Some(first_id), "a crash keeps it");

        let mut second = world.start(world.settings(), 2).unwrap();
        let second_id = second.program_id().unwrap();
        assert_ne!(
            first_id, second_id,
            "the dead one's program is never adopted"
        );
        assert_eq!(in_force(&second), Some(second_id));
        assert_eq!(
            (second.stub().id(), world.link()),
            (stub, link),
            "the interface keeps what is attached to it"
        );
        assert_eq!(world.links_pinned(), 1);

        second.stop(OnStop::Keep).unwrap();
        drop(second);
        assert_eq!(in_force_of(&world), Some(second_id));
        let mut third = world.start(world.settings(), 3).unwrap();
        third.stop(OnStop::Detach).unwrap();
        assert_eq!(attached(), None);
        assert!(rxvlan(), "as it was before the first");
    });
}

#[test]
fn a_link_with_another_program_gets_the_stub_in_its_place() {
    let Some(world) = World::new() else { return };
    let mut rig = aya::Ebpf::load(&geodns_tests::built::rig_object().unwrap()).unwrap();
    let pass: &mut aya::programs::Xdp = rig.program_mut("pass").unwrap().try_into().unwrap();
    pass.load().unwrap();
    let pass = pass.fd().unwrap().as_fd();
    world.enter(|| {
        let first = world.start(world.settings(), 1).unwrap();
        let link = world.link();
        // As a release without a stub has left it; and a stub whose array is another's is of no use.
        let open = Link::open(&world.links().join("lan0")).unwrap().unwrap();
        let stub = first.stub().id();
        drop(first);
        for breaks in ["link", "array", "program"] {
            let pins = pins::Pins::open(&world.pin).unwrap();
            let [program, array] = pins.stub(Build::Plain);
            match breaks {
                "link" => open.replace(pass).unwrap(),
                "array" => {
                    std::fs::remove_file(&array).unwrap();
                    let other = aya::maps::Array::<MapData, u32>::create(1, 0).unwrap();
                    other.pin(&array).unwrap();
                }
                _ => {
                    std::fs::remove_file(&program).unwrap();
                    kernel::sys::obj_pin(&program, pass).unwrap();
                }
            }
            drop(pins);
            let before = world.pinned();
            let kernel = world.start(world.settings(), 2).unwrap();
            assert_eq!(kernel.stub().id() == stub, breaks == "link", "{breaks}");
            let id = kernel.stub().callee(Callee::Answers).unwrap();
            assert_eq!(in_force(&kernel), id, "{breaks}");
            assert_eq!((world.link(), world.pinned()), (link, before), "{breaks}");
            drop(kernel);
        }
        world
            .start(world.settings(), 3)
            .unwrap()
            .stop(OnStop::Detach)
            .unwrap();
        assert_eq!(attached(), None);
    });
}

#[test]
fn a_stop_may_leave_the_stub_alone() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let (stub, link) = (kernel.stub().id(), world.link());
        kernel.stop(OnStop::Stub).unwrap();
        assert_eq!(in_force(&kernel), None);
        assert!(matches!(
            kernel::detach_left(&world.pin, &netdevs()),
            Err(Error::InUse { .. })
        ));
        drop(kernel);
        assert_eq!(in_force_of(&world), None);
        assert!(!rxvlan(), "nothing is touched");

        let mut kernel = world.start(world.settings(), 2).unwrap();
        assert_eq!((kernel.stub().id(), world.link()), (stub, link));
        assert_eq!(in_force(&kernel), Some(kernel.program_id().unwrap()));
        kernel.stop(OnStop::Stub).unwrap();
        drop(kernel);
        let detached = kernel::detach_left(&world.pin, &netdevs()).unwrap();
        let expected = kernel::Detached {
            interface: "lan0".to_owned(),
            was: pins::Was::Here,
            rxvlan: true,
        };
        assert_eq!(detached, [expected]);
        assert_eq!(attached(), None);
        assert!(rxvlan(), "as it was before the first");
        assert!(!world.pin.exists());
        assert_eq!(kernel::detach_left(&world.pin, &netdevs()).unwrap(), []);
    });
}

#[test]
fn another_mode_than_the_links_attaches_anew() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        drop(world.start(world.settings(), 1).unwrap());
        let mut settings = world.settings();
        settings.mode = Mode::Generic;
        let mut kernel = world.start(settings, 2).unwrap();
        assert!(attached().unwrap().generic);
        kernel.stop(OnStop::Detach).unwrap();
    });
}

// Invariant 6
#[test]
fn a_new_plan_is_swapped_in_with_tables_of_its_own() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let before = kernel.program_id().unwrap();
        kernel
            .apply(&[
                Store::Region { index: 3, order: 7 },
                Store::Block {
                    number: 15,
                    entries: Box::new([abi::Entry::leaf(1, 8); 16]),
                },
                Store::RootEntry {
                    index: 511,
                    at: 255,
                    entry: abi::Entry::block(15),
                },
            ])
            .unwrap();
        kernel.grace().unwrap();
        let outside = kernel.apply(&[Store::Region { index: 4, order: 7 }]);
        assert_eq!(
            outside.unwrap_err().kind(),
            std::io::ErrorKind::InvalidInput
        );

        let larger = Capacity {
            blocks: 16 * 1024,
            ..CAPACITY
        };
        let next = kernel.prepare(&Empty::new(2), larger).unwrap();
        kernel.commit(next).unwrap();
        let after = kernel.program_id().unwrap();
        assert_ne!(before, after);
        assert_eq!(in_force(&kernel), Some(after));
        assert!(kernel.instance().memory() > (512 + 1024) * 1024);
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn a_bad_interface_is_one_clear_line_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut settings = world.settings();
        settings.interfaces.push("nosuch0".to_owned());
        let error = world.start(settings, 1).err().unwrap().to_string();
        assert!(
            error.contains("nosuch0") && error.contains("lan0"),
            "{error}"
        );
        assert!(!error.contains('\n'));
        assert_eq!(attached(), None);
        assert!(!world.pin.exists());
    });
}

#[test]
fn an_interface_that_refuses_takes_the_others_back() {
    let Some(world) = World::new() else { return };
    sh(&format!(
        "ip -n {} link add br0 type bridge",
        world.server()
    ));
    world.enter(|| {
        let mut settings = world.settings();
        settings.interfaces.push("br0".to_owned());
        let error = world.start(settings, 1).err().unwrap();
        assert!(matches!(error, Error::NoNative { .. }), "{error}");
        assert_eq!(attached(), None, "lan0 had taken it already");
        assert!(rxvlan());
        assert!(!world.pin.exists());
    });
}

#[test]
fn a_start_that_may_go_on_without_the_program_leaves_none_that_nobody_feeds() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        drop(world.start(world.settings(), 1).unwrap());
        let start = |required| {
            let too_much = Capacity {
                blocks: u32::MAX,
                ..CAPACITY
            };
            Kernel::start(
                Settings {
                    required,
                    ..world.settings()
                },
                kernel::object().unwrap(),
                &Empty::new(2),
                too_much,
                &BTreeSet::new(),
                &netdevs(),
            )
        };
        assert!(start(true).is_err());
        assert!(attached().is_some(), "it is for the next start");
        assert!(start(false).is_err());
        assert_eq!(attached(), None);
        assert!(rxvlan(), "rxvlan is given back");
        assert!(!world.pin.exists());
    });
}

#[test]
fn somebody_elses_program_is_left_alone() {
    let Some(world) = World::new() else { return };
    let other = world.pin.join("other");
    world.enter(|| {
        let theirs = Settings {
            pin: other.clone(),
            ..world.settings()
        };
        let mut theirs = world.start(theirs, 1).unwrap();
        let id = theirs.stub().id();
        let called = in_force(&theirs);
        for mode in [Mode::Native, Mode::Generic, Mode::Auto] {
            let settings = Settings {
                mode,
                ..world.settings()
            };
            let error = world.start(settings, 2).err().unwrap();
            assert!(
                matches!(&error, Error::Occupied { program, .. } if *program == Some(id)),
                "{error}"
            );
            let running = format!("a geodns that runs with kernel.pin = {other:?} uses it");
            assert!(error.to_string().contains(&running), "{error}");
            assert!(!pins::home(&world.pin).exists());
        }
        assert_eq!(attached().unwrap().program, Some(id));
        assert_eq!(in_force(&theirs), called);
        assert!(!rxvlan(), "theirs still wants the tags");
        theirs.stop(OnStop::Detach).unwrap();
        assert!(rxvlan());
    });
}

#[test]
fn two_daemons_do_not_share_a_folder_of_pins() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let error = world.start(world.settings(), 2).err().unwrap();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn pins_go_nowhere_but_in_a_bpffs() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            pin: folder.path().join("geodns"),
            ..world.settings()
        };
        let error = world.start(settings, 1).err().unwrap();
        assert!(matches!(error, Error::NotBpffs { .. }), "{error}");
        assert_eq!(attached(), None);
    });
}

#[test]
fn what_is_left_below_another_folder_is_found_and_can_be_detached() {
    let Some(world) = World::new() else { return };
    let other = world.pin.join("it's other");
    world.enter(|| {
        let before = Settings {
            pin: other.clone(),
            ..world.settings()
        };
        drop(world.start(before, 1).unwrap());
        let error = world.start(world.settings(), 2).err().unwrap().to_string();
        let left = format!("a geodns that had kernel.pin = {other:?} has left it");
        assert!(error.contains(&left), "{error}");
        let (_, command) = error.split_once("detach it with `").unwrap();
        sh(command.split_once('`').unwrap().0);
        let mut kernel = world.start(world.settings(), 3).unwrap();
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn what_others_have_attached_is_named_with_what_detaches_it() {
    let Some(world) = World::new() else { return };
    let mut rig = aya::Ebpf::load(&geodns_tests::built::rig_object().unwrap()).unwrap();
    let pass: &mut aya::programs::Xdp = rig.program_mut("pass").unwrap().try_into().unwrap();
    pass.load().unwrap();
    let id = pass.info().unwrap().id();
    for mode in ["xdpdrv", "xdpgeneric"] {
        world.enter(|| {
            sh(&format!("bpftool net attach {mode} id {id} dev lan0"));
            let error = world.start(world.settings(), 1).err().unwrap().to_string();
            let (_, command) = error.split_once("detach it with `").unwrap();
            assert!(command.contains(mode), "{error}");
            sh(command.split_once('`').unwrap().0);
            assert_eq!(attached(), None);
        });
    }
}

// Invariant 6
#[test]
fn a_pinned_map_of_another_shape_is_not_trusted() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let kernel = world.start(world.settings(), 1).unwrap();
        // What another layout might have left in the place of LISTEN.
        let pin = pins::maps(&world.pin).join("LISTEN");
        let wrong = MapData::from_pin(pins::maps(&world.pin).join("COUNTERS")).unwrap();
        std::fs::remove_file(&pin).unwrap();
        wrong.pin(&pin).unwrap();
        drop(kernel);
        let link = world.link();

        let mut kernel = world.start(world.settings(), 2).unwrap();
        assert_eq!(listening(&world).len(), 2, "a fresh map, filled");
        assert_eq!(world.link(), link, "and no gap");
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn links_of_every_layout_are_taken_over_and_nothing_else_of_it_stays() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        drop(world.start(world.settings(), 1).unwrap());
        let link = world.link();
        let usual = world.pinned();
        // An earlier layout had all in one folder, and who knows what else; a later one has only maps elsewhere.
        for layout in [1, 5, 7, 4_000_000] {
            let folder = world.pin.join(format!("v{layout}"));
            let (home, maps) = (pins::home(&world.pin), pins::maps(&world.pin));
            if layout < 6 {
                std::fs::create_dir(&folder).unwrap();
                for name in ["links", "rxvlan"] {
                    std::fs::rename(home.join(name), folder.join(name)).unwrap();
                }
                std::fs::rename(maps.join("COUNTERS"), folder.join("LISTEN")).unwrap();
                std::fs::create_dir(folder.join("more")).unwrap();
                std::fs::rename(maps.join("LISTEN"), folder.join("more").join("MORE")).unwrap();
            } else if folder != maps {
                std::fs::create_dir(&folder).unwrap();
                std::fs::rename(maps.join("COUNTERS"), folder.join("OTHERS")).unwrap();
            }
            let before = in_force_of(&world);
            let mut kernel = world.start(world.settings(), 2).unwrap();
            assert_eq!(
                world.link(),
                link,
                "the same link: no packet met no program"
            );
            assert_ne!(in_force(&kernel), before, "with another program");
            assert_eq!(in_force(&kernel), Some(kernel.program_id().unwrap()));
            assert_eq!(world.pinned(), usual, "layout {layout}");
            if layout == 4_000_000 {
                kernel.stop(OnStop::Detach).unwrap();
            }
        }
        assert_eq!(attached(), None);
        assert!(rxvlan(), "as it was before the first");
        assert!(!world.pin.exists());
    });
}

#[test]
fn a_daemon_of_an_earlier_layout_keeps_its_folder() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let folder = world.pin.join("v5");
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::File::open(&folder).unwrap();
        lock.lock().unwrap();
        let error = world.start(world.settings(), 1).err().unwrap();
        assert!(
            matches!(&error, Error::InUse { path } if *path == folder),
            "{error}"
        );
        assert_eq!(world.pinned().len(), 1, "nothing half-made stays");
    });
}

#[test]
fn what_was_left_in_another_network_namespace_is_not_taken_for_ours() {
    let (Some(here), Some(there)) = (World::new(), World::new()) else {
        return;
    };
    let at = |world: &World| world.enter(|| netdevs().named("lan0").unwrap().ifindex);
    assert_eq!(at(&here), at(&there), "the same name and index");
    there.enter(|| drop(there.start(there.settings(), 1).unwrap()));
    let settings = || Settings {
        pin: there.pin.clone(),
        ..here.settings()
    };
    // A start that fails leaves the other as it is.
    let left = there.enter(attached);
    here.enter(|| {
        let mut settings = settings();
        // A bridge has no native mode.
        sh("ip link add br0 type bridge");
        settings.interfaces.push("br0".to_owned());
        settings.mode = Mode::Native;
        let error = here.start(settings, 2).err().unwrap();
        assert!(matches!(error, Error::NoNative { .. }), "{error}");
        assert_eq!(attached(), None);
    });
    assert_eq!(there.enter(attached), left);
    assert!(there.link().is_some(), "and pinned");
    here.enter(|| {
        let mut kernel = here.start(settings(), 3).unwrap();
        assert_eq!(in_force(&kernel), Some(kernel.program_id().unwrap()));
        assert_eq!(there.enter(attached), None, "nobody feeds it any more");
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn pins_that_somebody_removes_are_missed_by_nobody_and_put_back() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let (usual, link) = (world.pinned(), world.link());
        std::fs::remove_dir_all(&world.pin).unwrap();
        // Before anybody has noticed: a new plan goes in, and shares what all share.
        let next = kernel.prepare(&Empty::new(2), CAPACITY).unwrap();
        kernel.commit(next).unwrap();
        let id = kernel.program_id().unwrap();
        assert_eq!(in_force(&kernel), Some(id));
        assert!(!world.pin.exists(), "nobody needed a pin for that");

        let now = netdevs();
        let addresses = now.addresses(&["lan0".to_owned()]);
        kernel.follow(&addresses, &now).unwrap();
        assert_eq!(world.pinned(), usual);
        assert_eq!(world.link(), link);
        assert_eq!(listening(&world).len(), 2, "the table that is in use");
        let in_use = maps_of(id);
        for entry in std::fs::read_dir(pins::maps(&world.pin)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let map = MapData::from_pin(&path).unwrap().info().unwrap().id();
                assert!(
                    in_use.contains(&map),
                    "{}: not the map in use",
                    path.display()
                );
            }
        }
        // Each alone, and something else in its place.
        for pin in usual {
            let path = world.pin.join(pin);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
                let other = aya::maps::Array::<MapData, u32>::create(1, 0).unwrap();
                other.pin(&path).unwrap();
            }
            kernel.follow(&addresses, &now).unwrap();
            assert!(path.exists(), "{}", path.display());
            assert_eq!(world.link(), link);
            let listen = MapData::from_pin(pins::maps(&world.pin).join("LISTEN")).unwrap();
            assert!(in_use.contains(&listen.info().unwrap().id()));
        }
        let error = world.start(world.settings(), 3).err().unwrap();
        assert!(
            matches!(error, Error::InUse { .. }),
            "locked as before: {error}"
        );
        drop(kernel);
        assert_eq!(in_force_of(&world), Some(id), "a crash keeps it");
        let mut kernel = world.start(world.settings(), 4).unwrap();
        kernel.stop(OnStop::Detach).unwrap();
        assert!(rxvlan(), "as it was before the first");
    });
}

/// Ids of the maps that a program uses.
fn maps_of(program: u32) -> Vec<u32> {
    let all: Vec<_> = aya::programs::loaded_programs().collect();
    let of = all.into_iter().flatten().find(|info| info.id() == program);
    of.unwrap().map_ids().unwrap().unwrap()
}

#[test]
fn a_bpffs_that_goes_takes_nothing_with_it() {
    let Some(world) = World::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display().to_string();
    sh(&format!("mount -t bpf bpf {at}"));
    world.enter(|| {
        let settings = || Settings {
            pin: folder.path().join("geodns"),
            ..world.settings()
        };
        let mut kernel = world.start(settings(), 1).unwrap();
        let now = netdevs();
        let addresses = now.addresses(&["lan0".to_owned()]);
        sh(&format!("umount --lazy {at}"));
        kernel.follow(&addresses, &now).unwrap();
        let next = kernel.prepare(&Empty::new(2), CAPACITY).unwrap();
        kernel.commit(next).unwrap();
        let (id, stub) = (kernel.program_id().unwrap(), kernel.stub().id());
        assert_eq!(in_force(&kernel), Some(id));
        sh(&format!("mount -t bpf bpf {at}"));
        kernel.follow(&addresses, &now).unwrap();
        drop(kernel);
        assert_eq!(attached().unwrap().program, Some(stub), "pinned again");
        let mut kernel = world.start(settings(), 3).unwrap();
        assert_eq!(kernel.stub().id(), stub);
        kernel.stop(OnStop::Detach).unwrap();
        assert_eq!(attached(), None);
    });
    sh(&format!("umount {at}"));
}

fn listening(world: &World) -> BTreeMap<listen::Key, u64> {
    let map = MapData::from_pin(pins::maps(&world.pin).join("LISTEN")).unwrap();
    Listening::new(map.fd().as_fd()).unwrap().rows()
}

#[test]
fn listen_addresses_follow_the_interfaces() {
    let Some(world) = World::new() else { return };
    let server = world.server();
    world.enter(|| {
        let names = ["lan0".to_owned()];
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let lan0 = netdevs().named("lan0").unwrap().clone();
        let row = |address: &str, mac| (listen::key(address.parse().unwrap(), lan0.ifindex), mac);
        assert_eq!(
            listening(&world),
            BTreeMap::from([row("192.0.2.53", lan0.mac), row("2001:db8::53", lan0.mac)])
        );

        sh(&format!(
            "ip -n {server} addr del 192.0.2.53/24 dev lan0 \
             && ip -n {server} link set lan0 address 02:00:00:00:00:0a \
             && ip -n {server} addr add 198.51.100.5/24 dev lan0"
        ));
        let now = netdevs();
        kernel.follow(&now.addresses(&names), &now).unwrap();
        assert_eq!(
            listening(&world),
            BTreeMap::from([
                row("198.51.100.5", 0x0200_0000_000a),
                row("2001:db8::53", 0x0200_0000_000a),
            ]),
        );
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn an_interface_that_comes_back_is_attached_to_again() {
    let Some(world) = World::new() else { return };
    let server = world.server();
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        sh(&format!("ip -n {server} link del lan0"));
        // Before anybody has heard of it, a new plan must go in all the same.
        let next = kernel.prepare(&Empty::new(2), CAPACITY).unwrap();
        kernel.commit(next).unwrap();
        kernel.follow(&BTreeSet::new(), &netdevs()).unwrap();
        assert!(kernel.attached().is_empty());
        assert_eq!(world.links_pinned(), 0);
        assert_eq!(listening(&world), BTreeMap::new());

        world.add_veth();
        let now = netdevs();
        let addresses = now.addresses(&["lan0".to_owned()]);
        kernel.follow(&addresses, &now).unwrap();
        let id = kernel.program_id().unwrap();
        assert_eq!(in_force(&kernel), Some(id));
        assert_eq!(listening(&world).len(), 2);
        kernel.stop(OnStop::Detach).unwrap();
    });
}

/// The kernel that this runs under may have neither bonds nor VLANs: they are made up upon interfaces that are there.
#[test]
fn ports_leave_vlan_tags_in_the_packet_while_vlans_are_upon_their_bond() {
    let Some(world) = World::new() else { return };
    let (server, client) = (world.server(), world.client());
    for port in ["port0", "port1"] {
        sh(&format!(
            "ip -n {server} link add {port} type veth peer name {port} netns {client}"
        ));
    }
    world.enter(|| {
        let real = netdevs();
        let index = |name: &str| real.named(name).unwrap().ifindex;
        let with_bond = |ports: &[&str], has_vlan: bool| {
            let bond = Netdev {
                kind: Kind::Bond,
                ..netdevs().named("lan0").unwrap().clone()
            };
            let port = |name: &&str| Netdev {
                kind: Kind::Card,
                master: ports.contains(name).then_some(bond.ifindex),
                ..real.named(name).unwrap().clone()
            };
            let vlan = Netdev {
                ifindex: 9999,
                name: "lan0.5".to_owned(),
                kind: Kind::Vlan,
                lower: Some(bond.ifindex),
                tag: Listen::tag(false, 5),
                ..Netdev::default()
            };
            let ports: Vec<Netdev> = ["port0", "port1"].iter().map(port).collect();
            let vlan = has_vlan.then_some(vlan).into_iter();
            Netdevs::from(
                [bond]
                    .into_iter()
                    .chain(ports)
                    .chain(vlan)
                    .collect::<Vec<_>>(),
            )
        };
        let strip = || ["port0", "port1"].map(|name| ethtool::rxvlan(index(name)).unwrap());
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let follow = |kernel: &mut Kernel, ports: &[&str], has_vlan| {
            let netdevs = with_bond(ports, has_vlan);
            kernel.follow(&BTreeSet::new(), &netdevs).unwrap();
        };
        for (ports, has_vlan, expected) in [
            (&["port0"][..], false, [true, true]),
            (&["port0"], true, [false, true]),
            (&["port0", "port1"], true, [false, false]),
            (&["port1"], true, [true, false]),
            (&["port1"], false, [true, true]),
            (&["port0", "port1"], true, [false, false]),
        ] {
            follow(&mut kernel, ports, has_vlan);
            assert_eq!(strip(), expected, "{ports:?} {has_vlan}");
        }
        ethtool::set_rxvlan(index("port0"), true).unwrap();
        follow(&mut kernel, &["port0", "port1"], true);
        assert_eq!(strip(), [false, false], "somebody turned it on");
        // The next daemon after a crash knows of them.
        drop(kernel);
        let mut kernel = world.start(world.settings(), 2).unwrap();
        assert_eq!(strip(), [true, true], "the bond has gone meanwhile");
        follow(&mut kernel, &["port0", "port1"], true);
        assert_eq!(strip(), [false, false]);
        kernel.stop(OnStop::Detach).unwrap();
        assert_eq!(strip(), [true, true]);
        assert!(rxvlan());
        assert!(!world.pin.exists());
    });
}

/// The configuration may have an alternative name, as the notes of earlier releases do.
#[test]
fn rxvlan_is_given_back_to_an_interface_that_was_renamed() {
    let Some(world) = World::new() else { return };
    let server = world.server();
    let altname = format!("ip -n {server} link property add dev lan0 altname uplink.0");
    sh(&altname);
    let rename = |from: &str, to: &str| {
        // Kernels before 6.2 rename an interface only while it is down.
        let (down, up) = (format!("{from} down"), format!("{to} up"));
        for change in [down, format!("{from} name {to}"), up] {
            sh(&format!("ip -n {server} link set {change}"));
        }
    };
    world.enter(|| {
        let index = netdevs().named("lan0").unwrap().ifindex;
        let rxvlan = || ethtool::rxvlan(index).unwrap();
        let mut settings = world.settings();
        settings.interfaces = vec!["uplink.0".to_owned()];
        let start = || world.start(settings.clone(), 1).unwrap();
        let follow = |kernel: &mut Kernel| {
            kernel.follow(&BTreeSet::new(), &netdevs()).unwrap();
        };
        let notes = pins::home(&world.pin).join("rxvlan");
        for crashes in [false, true] {
            let mut kernel = start();
            assert!(!rxvlan() && notes.join("lan0").exists());
            rename("lan0", "wan5");
            follow(&mut kernel);
            assert!(!rxvlan() && notes.join("wan5").exists());
            assert!(!notes.join("lan0").exists());
            if crashes {
                drop(kernel);
                kernel = start();
            }
            kernel.stop(OnStop::Detach).unwrap();
            assert!(rxvlan(), "crashes: {crashes}");
            rename("wan5", "lan0");
        }
        drop(start());
        std::fs::rename(notes.join("lan0"), notes.join("uplink:0")).unwrap();
        let mut kernel = start();
        assert!(!rxvlan() && notes.join("lan0").exists());
        kernel.stop(OnStop::Detach).unwrap();
        assert!(rxvlan());
        assert!(!world.pin.exists());
    });
}

#[test]
fn a_stale_pin_of_an_interface_that_has_gone_is_removed() {
    let Some(world) = World::new() else { return };
    let server = world.server();
    world.enter(|| {
        drop(world.start(world.settings(), 1).unwrap());
        sh(&format!("ip -n {server} link del lan0"));
        world.add_veth();
        let mut kernel = world.start(world.settings(), 2).unwrap();
        assert!(attached().is_some());
        assert_eq!(world.links_pinned(), 1);
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn the_heartbeat_says_how_long_the_program_may_go_on() {
    let Some(world) = World::new() else { return };
    world.enter(|| {
        let mut kernel = world.start(world.settings(), 1).unwrap();
        let heartbeat = kernel.heartbeat();
        let full = Duration::from_secs(60);
        assert!(heartbeat.remaining() <= full);
        assert!(heartbeat.remaining() > full - Duration::from_secs(10));
        let before = heartbeat.remaining();
        std::thread::sleep(Duration::from_millis(50));
        assert!(heartbeat.remaining() < before);
        heartbeat.beat();
        assert!(heartbeat.remaining() > before);
        assert_eq!(heartbeat.interval(), Duration::from_secs(1));
        kernel.stop(OnStop::Detach).unwrap();
    });
}

#[test]
fn both_ways_of_waiting_for_running_programs_work() {
    if geodns_tests::privileged("both_ways_of_waiting_for_running_programs_work") {
        kernel::sys::membarrier().unwrap();
        kernel::sys::Barrier::new().unwrap().wait().unwrap();
    }
}
