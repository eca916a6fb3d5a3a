//! The few calls of bpf(2) that aya 0.14 does not have.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::time::{ClockId, clock_getres};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

/// The type of XDP programs.
pub const BPF_PROG_TYPE_XDP: u64 = 6;
/// The attach type of XDP programs.
const BPF_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

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

fn bpf<A: Attr>(command: libc::c_int, attr: &mut A) -> io::Result<i64> {
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
struct Obj {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}
impl Attr for Obj {}

/// Opens what is pinned at a path.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(
        BPF_OBJ_GET,
        &mut Obj {
            pathname: path.as_ptr() as u64,
            ..Obj::default()
        },
    )
    .map(owned)
}

/// Pins a map, link or program at a path where nothing is.
pub fn obj_pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(
        BPF_OBJ_PIN,
        &mut Obj {
            pathname: path.as_ptr() as u64,
            bpf_fd: object.as_raw_fd() as u32,
            ..Obj::default()
        },
    )
    .map(drop)
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    kind: u32,
    /// Its number in the kernel.
    pub id: u32,
    /// A hash of its instructions, which does not depend on its maps.
    pub tag: u64,
    /// Octets of machine code; 0: it is interpreted.
    pub jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
}

#[repr(C)]
#[derive(Default)]
struct ObjInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}
impl Attr for ObjInfo {}

/// What the kernel knows of a program, and the id of its only map (`None`: it has none, or several). aya asks for maps
/// by the program's id, which takes CAP_SYS_ADMIN.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<(ProgramInfo, Option<u32>)> {
    let mut map = 0u32;
    let mut info = ProgramInfo {
        map_count: 1,
        map_ids: &raw mut map as u64,
        ..ProgramInfo::default()
    };
    bpf(
        BPF_OBJ_GET_INFO_BY_FD,
        &mut ObjInfo {
            bpf_fd: program.as_raw_fd() as u32,
            info_len: size_of::<ProgramInfo>() as u32,
            info: &raw mut info as u64,
        },
    )?;
    Ok((info, (info.map_count == 1).then_some(map)))
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}
impl Attr for LinkCreate {}

/// Attaches an XDP program to an interface that has none.
pub fn link_xdp(program: BorrowedFd<'_>, ifindex: u32, generic: bool) -> io::Result<OwnedFd> {
    bpf(
        BPF_LINK_CREATE,
        &mut LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: match generic {
                true => XDP_FLAGS_SKB_MODE,
                false => XDP_FLAGS_DRV_MODE,
            },
        },
    )
    .map(owned)
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}
impl Attr for LinkUpdate {}

/// Puts a program in the place of the one in a link: no packet meets neither.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(
        BPF_LINK_UPDATE,
        &mut LinkUpdate {
            link_fd: link.as_raw_fd() as u32,
            new_prog_fd: program.as_raw_fd() as u32,
            ..LinkUpdate::default()
        },
    )
    .map(drop)
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
        &mut LinkDetach {
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

/// An element of a map with keys and values of four octets.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}
impl Attr for Element {}

/// `value`: where it is, 0 if it does not matter.
fn element(command: libc::c_int, map: BorrowedFd<'_>, key: u32, value: u64) -> io::Result<()> {
    let mut element = Element {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        value,
        ..Element::default()
    };
    bpf(command, &mut element).map(drop)
}

/// Puts a program, or a map, into an array of them.
pub fn array_put(array: BorrowedFd<'_>, at: u32, object: BorrowedFd<'_>) -> io::Result<()> {
    let object = object.as_raw_fd() as u32;
    element(BPF_MAP_UPDATE_ELEM, array, at, &raw const object as u64)
}

/// The id of what is in an array of programs.
pub fn array_get(array: BorrowedFd<'_>, at: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    match element(BPF_MAP_LOOKUP_ELEM, array, at, &raw mut id as u64) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(|()| Some(id)),
    }
}

/// Takes a program out of an array of them, if there is one.
pub fn array_clear(array: BorrowedFd<'_>, at: u32) -> io::Result<()> {
    match element(BPF_MAP_DELETE_ELEM, array, at, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}
impl Attr for TestRun {}

/// Runs an XDP program on a frame, with the fields of its `xdp_md`. Gives its action; `out` becomes the frame as the
/// program left it.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u32; 6],
    out: &mut Vec<u8>,
) -> io::Result<u32> {
    let mut run = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: size_of_val(context) as u32,
        ctx_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut run)?;
    out.truncate(run.data_size_out as usize);
    Ok(run.retval)
}

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
            &mut MapCreate {
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
            &mut MapCreate {
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
        array_put(self.outer.as_fd(), 0, self.inner.as_fd())
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

/// Makes a descriptor lead to what another one does. What it led to before is closed.
pub fn stand_for(what: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open, and `place` stays so, with the same owner, whatever it leads to.
    match unsafe { libc::dup3(what.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
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
