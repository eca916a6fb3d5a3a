//! The few calls of bpf(2) that aya 0.14 does not have.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::time::{ClockId, clock_getres};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// Runs `load` while no signal is handed to this thread: the verifier gives up with EAGAIN when one is
/// pending, and each program of a check that ends is a SIGCHLD. Another thread gets it, or this one
/// afterwards.
pub fn undisturbed<T>(load: impl FnOnce() -> T) -> T {
    struct Restore(Option<SigSet>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                // With a mask that was in force it cannot fail.
                let _ = before.thread_set_mask();
            }
        }
    }
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let _restore = Restore(before.ok());
    load()
}

/// The start of `union bpf_attr` for a command.
trait Attr: Default {}

fn bpf<A: Attr>(command: libc::c_int, attr: &A) -> io::Result<i64> {
    // SAFETY: `attr` is a repr(C) prefix of `union bpf_attr`, as long as we say, and whatever it
    // points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}
impl Attr for ObjGet {}

/// Opens what is pinned at a path.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(
        BPF_OBJ_GET,
        &ObjGet {
            pathname: path.as_ptr() as u64,
            ..ObjGet::default()
        },
    )
    .map(owned)
}

#[repr(C)]
#[derive(Default)]
struct LinkDetach {
    link_fd: u32,
    _pad: u32,
}
impl Attr for LinkDetach {}

/// Detaches a link at once, whoever else holds it. (Removing its last pin detaches it too, but
/// some time later, from a work queue.)
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(
        BPF_LINK_DETACH,
        &LinkDetach {
            link_fd: link.as_raw_fd() as u32,
            _pad: 0,
        },
    )
    .map(drop)
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}
impl Attr for MapCreate {}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}
impl Attr for MapUpdate {}

/// An array of maps that no program uses: an update of it waits, as every update of a map of maps
/// does (`maybe_wait_bpf_programs`), until the programs that run now have ended.
#[derive(Debug)]
pub struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    /// Makes the maps.
    pub fn new() -> io::Result<Self> {
        let inner = bpf(
            BPF_MAP_CREATE,
            &MapCreate {
                map_type: BPF_MAP_TYPE_ARRAY,
                key_size: 4,
                value_size: 8,
                max_entries: 1,
                ..MapCreate::default()
            },
        )
        .map(owned)?;
        let outer = bpf(
            BPF_MAP_CREATE,
            &MapCreate {
                map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS,
                key_size: 4,
                value_size: 4,
                max_entries: 1,
                inner_map_fd: inner.as_raw_fd() as u32,
                ..MapCreate::default()
            },
        )
        .map(owned)?;
        Ok(Self { outer, inner })
    }

    /// Waits.
    pub fn wait(&self) -> io::Result<()> {
        let (key, value) = (0u32, self.inner.as_raw_fd() as u32);
        bpf(
            BPF_MAP_UPDATE_ELEM,
            &MapUpdate {
                map_fd: self.outer.as_raw_fd() as u32,
                key: &raw const key as u64,
                value: &raw const value as u64,
                ..MapUpdate::default()
            },
        )
        .map(drop)
    }
}

/// `membarrier(MEMBARRIER_CMD_GLOBAL)`: waits for every CPU to pass a quiescent state
/// (`synchronize_rcu`). EINVAL under `nohz_full`.
pub fn membarrier() -> io::Result<()> {
    // SAFETY: takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A tick of the kernel's clock, in nanoseconds: what the coarse clocks' resolution is.
pub fn tick() -> u64 {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE);
    let tick = resolution.map(|tick| Duration::from(tick).as_nanos() as u64);
    // That of 250 Hz, which most have.
    tick.unwrap_or(4_000_000)
}

/// Waits until every program that runs now has ended.
pub fn grace() -> io::Result<()> {
    membarrier().or_else(|_| Barrier::new()?.wait())
}

/// A number that the kernel shows in a descriptor's `fdinfo`.
pub fn fdinfo(fd: BorrowedFd<'_>, field: &str) -> io::Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    Ok(text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name == field {
            value.trim().parse().ok()
        } else {
            None
        }
    }))
}
