//! The stub: the program that is attached to every interface, and the array of the programs that it calls.
//!
//! Another instance comes in force with one store to the array, on all interfaces at once. Drivers that reset their
//! rings when an attached program changes do not notice.
//!
//! Stub and program are built twice ([`Build`]). The kernel takes no program with the frags mark beside one without it
//! in an array, so each stub has its own.
//!
//! The kernel empties an array when no descriptor and no pin leads to it any more. So stubs and arrays are pinned, and a
//! daemon takes over those that an earlier one has left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::Map;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use geodns_common::layout::{Callee, MAPS};

use super::sys::ProgramInfo;
use super::{Error, sys};
use crate::fault;

/// Whether a program has the frags mark, which tells drivers that it takes packets of several buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// It has not. Drivers take it up to some MTU, and generic mode has more room for answers with it.
    Plain,
    /// It has: for native mode at a large MTU.
    Frags,
}

impl Build {
    /// The name of the stub in the object.
    const fn stub(self) -> &'static str {
        match self {
            Self::Plain => "geodns_stub",
            Self::Frags => "geodns_frags_stub",
        }
    }

    /// The name of its array.
    const fn array(self) -> &'static str {
        match self {
            Self::Plain => "PROGRAMS",
            Self::Frags => "FRAGS_PROGRAMS",
        }
    }

    /// The name of the program that it calls.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Plain => "geodns",
            Self::Frags => "geodns_frags",
        }
    }
}

/// A stub and its array, open.
#[derive(Debug)]
pub struct Stub {
    build: Build,
    program: OwnedFd,
    array: OwnedFd,
    info: ProgramInfo,
}

impl Stub {
    /// Loads one.
    pub fn new(object: &[u8], build: Build) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        for name in MAPS {
            loader.map_max_entries(name, 1);
        }
        let mut ebpf = sys::undisturbed(|| loader.load(object)).map_err(Error::load)?;
        let missing = |what| Error::Object(format!("it has no {what}"));
        let program: &mut Xdp = ebpf
            .program_mut(build.stub())
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| missing(build.stub()))?;
        sys::undisturbed(|| program.load()).map_err(Error::refused)?;
        let failed = |error| failed(build, &error);
        let owned = |object: BorrowedFd<'_>| object.try_clone_to_owned().map_err(failed);
        let program = owned(program.fd().map_err(Error::refused)?.as_fd())?;
        let Some(Map::ProgramArray(array)) = ebpf.map(build.array()) else {
            return Err(missing(build.array()));
        };
        let (info, _) = sys::program_info(program.as_fd()).map_err(failed)?;
        Ok(Self {
            build,
            program,
            array: owned(array.fd().as_fd())?,
            info,
        })
    }

    /// Takes over the pair that a daemon before us has pinned at these paths, if its stub is like this one.
    pub(super) fn adopt(&self, program: &Path, array: &Path) -> Option<Self> {
        let program = sys::obj_get(program).ok()?;
        let array = sys::obj_get(array).ok()?;
        let (info, uses) = sys::program_info(program.as_fd()).ok()?;
        let found = sys::fdinfo(array.as_fd(), "map_id").ok()??;
        let is_alike = info.tag == self.info.tag
            // Programs of an array are all compiled to machine code, or none.
            && (info.jited_len == 0) == (self.info.jited_len == 0)
            && uses.map(u64::from) == Some(found);
        is_alike.then_some(Self {
            build: self.build,
            program,
            array,
            info,
        })
    }

    /// Its build.
    pub fn build(&self) -> Build {
        self.build
    }

    /// Its number in the kernel.
    pub fn id(&self) -> u32 {
        self.info.id
    }

    /// The id of the program that it calls.
    pub fn callee(&self, callee: Callee) -> Result<Option<u32>, Error> {
        sys::array_get(self.array(), callee as u32).map_err(|error| failed(self.build, &error))
    }

    /// Has it call a program, in one step on all interfaces.
    pub fn call(&self, callee: Callee, program: BorrowedFd<'_>) -> Result<(), Error> {
        fault::point("kernel: stub")
            .and_then(|()| sys::array_put(self.array(), callee as u32, program))
            .map_err(|error| failed(self.build, &error))
    }

    /// Has it call a program no more.
    pub fn call_no_more(&self, callee: Callee) -> Result<(), Error> {
        sys::array_clear(self.array(), callee as u32).map_err(|error| failed(self.build, &error))
    }

    /// Puts the next program into the array, for packets that are passed, or takes the one out that is there.
    pub(super) fn set_next(&self, next: Option<&Next>) -> Result<(), Error> {
        let Some(next) = next else {
            return self.call_no_more(Callee::Next);
        };
        let put = sys::array_put(self.array(), Callee::Next as u32, next.program.as_fd());
        put.map_err(|error| Error::Next {
            path: next.path.clone(),
            reason: match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    "it does not fit beside geodns' program: one of them has the frags mark, or is \
                     not compiled to machine code"
                        .to_owned()
                }
                _ => error.to_string(),
            },
        })
    }

    /// Has a loaded object use the array in place of the one that was made for it.
    pub fn put_into(&self, ebpf: &Ebpf) -> Result<(), Error> {
        let name = self.build.array();
        let Some(Map::ProgramArray(theirs)) = ebpf.map(name) else {
            return Err(Error::Object(format!("it has no {name}")));
        };
        let put = sys::stand_for(self.array(), theirs.fd().as_fd());
        put.map_err(|error| failed(self.build, &error))
    }

    /// The array.
    pub fn array(&self) -> BorrowedFd<'_> {
        self.array.as_fd()
    }
}

impl AsFd for Stub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// The program of somebody else that gets the packets that are passed (`kernel.next`).
#[derive(Debug)]
pub struct Next {
    path: PathBuf,
    program: OwnedFd,
    /// Its number in the kernel.
    pub(super) id: u64,
}

impl Next {
    /// Opens what is pinned at a path, if it is a program for XDP.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Next {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let program = sys::obj_get(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused("nothing is pinned there"),
            _ => refused(&error.to_string()),
        })?;
        let field = |field| sys::fdinfo(program.as_fd(), field).ok().flatten();
        match (field("prog_type"), field("prog_id")) {
            (Some(sys::BPF_PROG_TYPE_XDP), Some(id)) => Ok(Self {
                path: path.to_owned(),
                program,
                id,
            }),
            (Some(_), _) => Err(refused("it is a program, but none for XDP")),
            (None, _) => Err(refused("it is no program")),
        }
    }
}

fn failed(build: Build, error: &io::Error) -> Error {
    Error::Map {
        map: build.array(),
        reason: error.to_string(),
    }
}
