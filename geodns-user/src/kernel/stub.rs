//! The stub: the program that is attached to every interface, and the array of the programs that it calls.
//!
//! Another instance comes in force with one store to the array, on all interfaces at once. Drivers that reset their
//! rings when an attached program changes do not notice.
//!
//! The kernel empties the array when no descriptor and no pin leads to it any more. So both are pinned, and a daemon
//! takes over the pair that an earlier one has left.

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

/// The name of the stub in the object.
const PROGRAM: &str = "geodns_stub";
/// The name of its array.
const ARRAY: &str = "PROGRAMS";

/// The stub and its array, open.
#[derive(Debug)]
pub struct Stub {
    program: OwnedFd,
    array: OwnedFd,
    info: ProgramInfo,
}

impl Stub {
    /// Loads one.
    pub fn new(object: &[u8]) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        for name in MAPS {
            loader.map_max_entries(name, 1);
        }
        let mut ebpf = sys::undisturbed(|| loader.load(object)).map_err(Error::load)?;
        let missing = |what| Error::Object(format!("it has no {what}"));
        let program: &mut Xdp = ebpf
            .program_mut(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| missing(PROGRAM))?;
        sys::undisturbed(|| program.load()).map_err(Error::refused)?;
        let owned = |object: BorrowedFd<'_>| object.try_clone_to_owned().map_err(failed);
        let program = owned(program.fd().map_err(Error::refused)?.as_fd())?;
        let Some(Map::ProgramArray(array)) = ebpf.map(ARRAY) else {
            return Err(missing(ARRAY));
        };
        let (info, _) = sys::program_info(program.as_fd()).map_err(failed)?;
        Ok(Self {
            program,
            array: owned(array.fd().as_fd())?,
            info,
        })
    }

    /// Takes over the stub that a daemon before us has pinned at these paths, with its array, if it is the one that this
    /// object has; else loads one.
    pub fn open(object: &[u8], program: &Path, array: &Path) -> Result<Self, Error> {
        let fresh = Self::new(object)?;
        Ok(adopt(program, array, &fresh.info).unwrap_or(fresh))
    }

    /// Its number in the kernel.
    pub fn id(&self) -> u32 {
        self.info.id
    }

    /// The id of the program that it calls.
    pub fn callee(&self, callee: Callee) -> Result<Option<u32>, Error> {
        sys::array_get(self.array.as_fd(), callee as u32).map_err(failed)
    }

    /// Has it call a program, in one step on all interfaces.
    pub fn call(&self, callee: Callee, program: BorrowedFd<'_>) -> Result<(), Error> {
        fault::point("kernel: stub")
            .and_then(|()| sys::array_put(self.array.as_fd(), callee as u32, program))
            .map_err(failed)
    }

    /// Has it call a program no more.
    pub fn call_no_more(&self, callee: Callee) -> Result<(), Error> {
        sys::array_clear(self.array.as_fd(), callee as u32).map_err(failed)
    }

    /// Puts the next program into the array, for packets that are passed, or takes the one out that is there.
    pub fn set_next(&self, next: Option<&Next>) -> Result<(), Error> {
        let Some(next) = next else {
            return self.call_no_more(Callee::Next);
        };
        let put = sys::array_put(
            self.array.as_fd(),
            Callee::Next as u32,
            next.program.as_fd(),
        );
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
        let Some(Map::ProgramArray(theirs)) = ebpf.map(ARRAY) else {
            return Err(Error::Object(format!("it has no {ARRAY}")));
        };
        sys::stand_for(self.array(), theirs.fd().as_fd()).map_err(failed)
    }

    /// The array.
    pub fn array(&self) -> BorrowedFd<'_> {
        self.array.as_fd()
    }
}

/// The program of somebody else that gets the packets that are passed (`kernel.next`).
#[derive(Debug)]
pub struct Next {
    path: PathBuf,
    program: OwnedFd,
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
        let is_program = sys::fdinfo(program.as_fd(), "prog_type").ok().flatten();
        match is_program {
            Some(sys::BPF_PROG_TYPE_XDP) => Ok(Self {
                path: path.to_owned(),
                program,
            }),
            Some(_) => Err(refused("it is a program, but none for XDP")),
            None => Err(refused("it is no program")),
        }
    }
}

impl AsFd for Stub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// Opens the pinned stub, if its program is like the one that is wanted, and uses the pinned array.
fn adopt(program: &Path, array: &Path, wanted: &ProgramInfo) -> Option<Stub> {
    let program = sys::obj_get(program).ok()?;
    let array = sys::obj_get(array).ok()?;
    let (info, uses) = sys::program_info(program.as_fd()).ok()?;
    let found = sys::fdinfo(array.as_fd(), "map_id").ok()??;
    let is_alike = info.tag == wanted.tag
        // Programs of an array are all compiled to machine code, or none.
        && (info.jited_len == 0) == (wanted.jited_len == 0)
        && uses.map(u64::from) == Some(found);
    is_alike.then_some(Stub {
        program,
        array,
        info,
    })
}

fn failed(error: io::Error) -> Error {
    Error::Map {
        map: ARRAY,
        reason: error.to_string(),
    }
}
