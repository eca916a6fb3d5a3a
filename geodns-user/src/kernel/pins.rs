//! Links and shared maps, which are pinned and outlive the daemon.
//!
//! ```text
//! <kernel.pin>/v6/links/<interface>        links
//!             /v6/rxvlan/<interface>       a folder: rxvlan was on
//!             /v6/lro/<interface>          a folder: LRO was on
//!             /v7/stub/program, array      the stub, and the array of the programs that it calls
//!             /v7/stub/frags_program, ...  the same with the frags mark, if an interface has it
//!             /v<layout>/COUNTERS ...      shared maps
//!             /v<layout>/MIRRORS           answers by mirror, of the instance in force
//! ```
//!
//! Links and notes are where layout 6 had them, and the stub is where layout 7 had it, whatever the layout of the maps
//! is. So a daemon takes over what one of another layout has left, a later one or (from layout 6 on) an earlier one. Its
//! maps are of no use then, and are removed. A daemon that uses the pins holds the lock of the folder `v6`.
//!
//! A running daemon needs no pin: it holds links and maps by descriptor. What somebody has removed is put back
//! ([`Pins::put`]), for the next daemon.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use geodns_common::layout;
use nix::fcntl::{Flock, FlockArg};

use super::link::{Attachment, Link};
use super::mirrors::MIRRORS;
use super::netdev::Netdevs;
use super::shared::SharedMaps;
use super::stub::Build;
use super::stubs::Stubs;
use super::{Error, bpffs, sys};

/// The folder, below `kernel.pin`, of the lock, of links, and of what is noted of interfaces.
const HOME: &str = "v6";
/// The folder, below `kernel.pin`, that the stub is in, whatever else is there.
const STUB_HOME: &str = "v7";

/// The folder, below `kernel.pin`, of the lock and of links.
pub fn home(pin: &Path) -> PathBuf {
    pin.join(HOME)
}

/// The folder, below `kernel.pin`, of the maps of this layout.
pub fn maps(pin: &Path) -> PathBuf {
    pin.join(format!("v{}", layout::VERSION))
}

/// The array of the stub, below `kernel.pin`.
pub fn stub_array(pin: &Path) -> PathBuf {
    pin.join(STUB_HOME).join("stub/array")
}

/// The pins below a folder, ours alone for as long as this lives.
#[derive(Debug)]
pub struct Pins {
    pin: PathBuf,
    lock: Flock<File>,
}

/// A link that a daemon before us has left.
#[derive(Debug)]
pub struct Left {
    /// Where it is pinned.
    path: PathBuf,
    /// The interface's name when it was pinned.
    name: String,
    /// The link.
    pub link: Link,
}

impl Pins {
    /// Makes the folder and locks it.
    pub fn open(pin: &Path) -> Result<Self, Error> {
        let lock = lock_home(pin)?;
        let pins = Self {
            pin: pin.to_path_buf(),
            lock,
        };
        // Before layout 6 each layout had a lock of its own; a daemon of one of these may run.
        let mut others = pins.layouts()?;
        others.retain(|folder| *folder != pins.home());
        if let Err(error) = others.iter().try_for_each(|of| lock_folder(of).map(drop)) {
            let _ = pins.remove_empty();
            return Err(error);
        }
        Ok(pins)
    }

    /// `kernel.pin`
    pub fn path(&self) -> &Path {
        &self.pin
    }

    fn home(&self) -> PathBuf {
        home(&self.pin)
    }

    fn links(&self) -> PathBuf {
        self.home().join("links")
    }

    fn notes(&self) -> PathBuf {
        self.home().join("rxvlan")
    }

    fn lro_notes(&self) -> PathBuf {
        self.home().join("lro")
    }

    fn maps(&self) -> PathBuf {
        maps(&self.pin)
    }

    /// Where the link of an interface is pinned.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(file_name(interface))
    }

    /// The interfaces that there are notes of in a folder, of whatever layout.
    pub fn noted(&self, folder: &str) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        for layout in self.layouts()? {
            let folder = layout.join(folder);
            let files = bpffs::list(&folder).map_err(|source| failed("read", &folder, source))?;
            names.extend(files.iter().map(|file| interface(file)));
        }
        Ok(names)
    }

    /// Notes an interface in a folder.
    pub fn put_note(&self, folder: &str, interface: &str) -> Result<(), Error> {
        bpffs::create_dir(&self.home().join(folder).join(file_name(interface)))
    }

    /// Removes such a note.
    pub fn remove_note(&self, folder: &str, interface: &str) {
        let _ = fs::remove_dir(self.home().join(folder).join(file_name(interface)));
    }

    /// Where a shared map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    fn stubs(&self) -> PathBuf {
        self.pin.join(STUB_HOME).join("stub")
    }

    /// Where the stub of a build and its array are pinned.
    pub fn stub(&self, build: Build) -> [PathBuf; 2] {
        let names = match build {
            Build::Plain => ["program", "array"],
            Build::Frags => ["frags_program", "frags_array"],
        };
        names.map(|name| self.stubs().join(name))
    }

    /// The folders of all layouts that there are, ours among them.
    fn layouts(&self) -> Result<Vec<PathBuf>, Error> {
        let names = bpffs::list(&self.pin).map_err(|source| failed("read", &self.pin, source))?;
        let is_layout = |name: &String| {
            name.strip_prefix('v')
                .is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let folders = names.into_iter().filter(is_layout);
        Ok(folders.map(|name| self.pin.join(name)).collect())
    }

    /// The links that daemons before us have left, of whatever layout, each once.
    pub fn left(&self) -> Result<Vec<Left>, Error> {
        let mut left: Vec<Left> = Vec::new();
        for layout in self.layouts()? {
            let folder = layout.join("links");
            let examine = || -> io::Result<Vec<Left>> {
                let mut found = Vec::new();
                for file in bpffs::list(&folder)? {
                    let path = folder.join(&file);
                    if let Some(link) = Link::open(&path)? {
                        found.push(Left {
                            path,
                            name: interface(&file),
                            link,
                        });
                    }
                }
                Ok(found)
            };
            let found = examine().map_err(|e| failed("examine the links in", &folder, e))?;
            for one in found {
                if !left.iter().any(|known| known.link.id() == one.link.id()) {
                    left.push(one);
                }
            }
        }
        Ok(left)
    }

    /// Sees to it that every link and map is pinned. What was not, in words.
    pub fn put<'a>(
        &mut self,
        shared: &SharedMaps,
        mirrors: Option<BorrowedFd<'_>>,
        stubs: &Stubs,
        attached: impl Iterator<Item = &'a Attachment> + Clone,
    ) -> Result<Vec<String>, Error> {
        let mut put = Vec::new();
        if !self.is_ours() {
            self.lock = lock_home(&self.pin)?;
        }
        bpffs::create_dir(&self.maps())?;
        let mirrors = mirrors.map(|map| (MIRRORS, map));
        for (name, map) in shared.maps().chain(mirrors) {
            if put_at(&self.map(name), map, "map_id")? {
                put.push(name.to_owned());
            }
        }
        bpffs::create_dir(&self.stubs())?;
        for build in [Build::Plain, Build::Frags] {
            let is_used = build == Build::Plain || attached.clone().any(|at| at.build == build);
            let Some(stub) = stubs.get(build).filter(|_| is_used) else {
                continue;
            };
            let [program, array] = self.stub(build);
            if put_at(&program, stub.as_fd(), "prog_id")? {
                put.push("the stub".to_owned());
            }
            if put_at(&array, stub.array(), "map_id")? {
                put.push("the stub's array".to_owned());
            }
        }
        for attachment in attached {
            if self.put_link(&attachment.name, &attachment.link)? {
                put.push(format!("the link of {}", attachment.name));
            }
        }
        Ok(put)
    }

    /// Pins a map in place of another one of its name, in one step.
    pub fn replace_map(&self, name: &str, map: BorrowedFd<'_>) -> Result<(), Error> {
        bpffs::create_dir(&self.maps())?;
        let (path, next) = (self.map(name), self.map(&format!("{name}-NEXT")));
        put_at(&next, map, "map_id")?;
        fs::rename(&next, &path).map_err(|source| failed("pin", &path, source))
    }

    /// Removes the pin of a map, if there is one.
    pub fn remove_map(&self, name: &str) -> Result<(), Error> {
        let path = self.map(name);
        bpffs::remove(&path).map_err(|source| failed("remove", &path, source))
    }

    /// Sees to it that a link is pinned; `true` if it was not.
    pub fn put_link(&self, interface: &str, link: &Link) -> Result<bool, Error> {
        bpffs::create_dir(&self.links())?;
        put_at(&self.link(interface), link.as_fd(), "link_id")
    }

    /// Pins what was left where it was.
    pub fn put_back(&self, left: &Left) -> Result<bool, Error> {
        put_at(&left.path, left.link.as_fd(), "link_id")
    }

    /// Whether the folder that we have locked is the one that is there.
    fn is_ours(&self) -> bool {
        let identity = |of: io::Result<fs::Metadata>| of.map(|of| (of.dev(), of.ino())).ok();
        let there = identity(fs::metadata(self.home()));
        there.is_some() && there == identity(self.lock.metadata())
    }

    /// Removes what is not ours: links of others, a stub that no interface has, and all that other layouts have left.
    /// Notes stay, for [`Offloads`](super::offloads::Offloads).
    pub fn clear(&self, attached: &[Attachment]) -> Result<(), Error> {
        let names: BTreeSet<String> = attached.iter().map(|at| file_name(&at.name)).collect();
        let links = self.links();
        for file in bpffs::list(&links).map_err(|e| failed("read", &links, e))? {
            if !names.contains(&file) {
                remove_any(&links.join(file))?;
            }
        }
        if attached.iter().all(|at| at.build == Build::Plain) {
            let stub = self.stub(Build::Frags);
            stub.iter().try_for_each(|path| remove_any(path))?;
        }
        let kept = [self.links(), self.notes(), self.lro_notes(), self.stubs()];
        for layout in self.layouts()? {
            if layout == self.maps() {
                continue;
            }
            for file in bpffs::list(&layout).map_err(|e| failed("read", &layout, e))? {
                let path = layout.join(file);
                if !kept.contains(&path) {
                    remove_any(&path)?;
                }
            }
            bpffs::remove_empty(&layout).map_err(|e| failed("remove", &layout, e))?;
        }
        Ok(())
    }

    /// After a start that has failed: removes all, unless there are links that are left for the next one.
    pub fn remove_unused(&self) -> Result<(), Error> {
        let left = self.left()?;
        if left.iter().any(|left| left.link.ifindex().is_some()) {
            return self.remove_empty();
        }
        self.remove()
    }

    /// After a start that has failed, where the daemon goes on without the program: detaches what is left, since nobody
    /// feeds it, and removes all.
    pub fn give_up(&self, netdevs: &Netdevs) -> Result<(), Error> {
        for left in self.left()? {
            let (interface, was) = left.detach(netdevs)?;
            was.say(&interface, "this daemon cannot feed it");
        }
        self.remove()
    }

    /// Removes every pin, and the folders that are empty then.
    pub fn remove(&self) -> Result<(), Error> {
        for layout in self.layouts()? {
            remove_any(&layout)?;
        }
        self.remove_empty()
    }

    /// Removes the folders that nothing is in.
    fn remove_empty(&self) -> Result<(), Error> {
        let folders = [
            &self.links(),
            &self.notes(),
            &self.stubs(),
            &self.pin.join(STUB_HOME),
            &self.lro_notes(),
            &self.maps(),
            &self.home(),
            &self.pin,
        ];
        for folder in folders {
            bpffs::remove_empty(folder).map_err(|source| failed("remove", folder, source))?;
        }
        Ok(())
    }
}

/// The place of a link that was detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// On an interface of this network namespace.
    Here,
    /// On an interface of another network namespace.
    Elsewhere,
    /// On none: the interface has gone, or somebody else has detached it.
    Gone,
}

impl Was {
    /// Logs that it was detached, and why.
    pub fn say(self, interface: &str, why: &str) {
        match self {
            Self::Here => tracing::info!(interface, "{interface}: detached, {why}"),
            Self::Elsewhere => tracing::warn!(
                interface,
                "{interface}: detached from an interface of this name in another network namespace, where a daemon \
                 before this one had it"
            ),
            Self::Gone => {}
        }
    }
}

impl Left {
    /// Detaches what is not ours to take over. Its pin goes with [`Pins::clear`]: ours may stand there by now. Gives the
    /// interface's name, too.
    pub fn detach(&self, netdevs: &Netdevs) -> Result<(String, Was), Error> {
        let here = self.link.interface(netdevs);
        let is_attached = self.link.ifindex().is_some();
        let detached = self.link.detach();
        detached.map_err(|source| failed("detach the link at", &self.path, source))?;
        Ok(match here {
            Some(netdev) => (netdev.name.clone(), Was::Here),
            None if is_attached => (self.name.clone(), Was::Elsewhere),
            None => (self.name.clone(), Was::Gone),
        })
    }
}

/// Says where the link of an interface with this program is pinned, and what may be done about it, in words that go on
/// after "is attached".
pub fn whose(program: u32, ifindex: u32) -> Option<String> {
    let path = bpffs::all().into_iter().find(|path| {
        let link = Link::open(path).ok().flatten();
        link.is_some_and(|link| link.program() == Some(program) && link.ifindex() == Some(ifindex))
    })?;
    let detach = format!("rm {}", quoted(&path));
    // <pin>/v<layout>/links/<interface>
    let [links, layout, pin] = [1, 2, 3].map(|up| path.ancestors().nth(up));
    let is_ours = links.is_some_and(|folder| folder.ends_with("links"))
        && layout
            .and_then(|folder| folder.file_name()?.to_str()?.strip_prefix('v'))
            .is_some_and(|number| number.parse::<u32>().is_ok());
    let (Some(layout), Some(pin), true) = (layout, pin, is_ours) else {
        return Some(format!(
            "its link is pinned at {path:?}: detach it with `{detach}`"
        ));
    };
    let in_use = [layout, &pin.join(HOME)]
        .into_iter()
        .any(|folder| matches!(lock_folder(folder), Err(Error::InUse { .. })));
    Some(if in_use {
        format!("a geodns that runs with kernel.pin = {pin:?} uses it: stop that one first")
    } else {
        format!(
            "a geodns that had kernel.pin = {pin:?} has left it: set kernel.pin to that again, and it is \
             taken over without a gap, or detach it with `{detach}`"
        )
    })
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |at: char| at.is_ascii_alphanumeric() || "/._:-".contains(at);
    if path.chars().all(is_plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Sees to it that this is what is pinned at a path; `true` if it was not. `id`: the field of its `fdinfo` that
/// tells it from others.
fn put_at(path: &Path, object: BorrowedFd<'_>, id: &str) -> Result<bool, Error> {
    let put = || {
        let wanted = sys::fdinfo(object, id)?;
        match sys::obj_get(path) {
            Ok(found) if sys::fdinfo(found.as_fd(), id)? == wanted => return Ok(false),
            // Something else, or nothing.
            _ => bpffs::remove(path)?,
        }
        sys::obj_pin(path, object).map(|()| true)
    };
    put().map_err(|source| failed("pin", path, source))
}

/// Removes a pin or a folder.
fn remove_any(path: &Path) -> Result<(), Error> {
    let removed = match path.is_dir() {
        true => bpffs::remove_all(path),
        false => bpffs::remove(path),
    };
    removed.map_err(|source| failed("remove", path, source))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Pin {
        what,
        path: path.to_path_buf(),
        source,
    }
}

/// A file name for an interface. bpffs takes no dots; interfaces have no colons.
fn file_name(interface: &str) -> String {
    interface.replace('.', ":")
}

/// The interface that a file is named after.
fn interface(file: &str) -> String {
    file.replace(':', ".")
}

/// Makes the folder [`HOME`], in a bpffs, and locks it.
fn lock_home(pin: &Path) -> Result<Flock<File>, Error> {
    bpffs::ensure(pin)?;
    let home = pin.join(HOME);
    bpffs::create_dir(&home)?;
    lock_folder(&home)
}

fn lock_folder(folder: &Path) -> Result<Flock<File>, Error> {
    let open = File::open(folder).map_err(|source| failed("open", folder, source))?;
    Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => Error::InUse {
            path: folder.to_path_buf(),
        },
        error => failed("lock", folder, error.into()),
    })
}
