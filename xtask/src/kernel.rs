//! Another kernel than the host's: Debian's package of it, unpacked into the cache and never installed,
//! so that no hook builds an initramfs or touches the boot loader.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cmd::{self, say};
use crate::{debian, place};

/// A kernel that is ready to boot.
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// Its package, unpacked.
    folder: PathBuf,
}

impl Kernel {
    /// The newest that apt knows of a version such as `6.1`; fetched when the cache has it not.
    pub fn fetch(version: &str) -> Result<Self> {
        let release = release(version)?;
        let folder = debian::unpacked(&package(&release), &format!("booting Linux {release}"))?;
        // One of a series is enough: they are of some hundred megabytes each.
        for other in fs::read_dir(folder.parent().context("the cache is a root")?)?.flatten() {
            let name = other.file_name();
            let package = name.to_str().and_then(|name| name.split('_').next());
            let of = package.and_then(release_of);
            if other.path() != folder && of.is_some_and(|of| series(of) == series(&release)) {
                fs::remove_dir_all(other.path())?;
            }
        }
        let kernel = Self { release, folder };
        if !kernel.modules_folder().join("modules.dep").is_file() {
            // Left to the package's installation by Debian.
            let mut depmod = Command::new(busybox()?);
            depmod.args(["depmod", "-b"]).arg(&kernel.folder);
            cmd::output(depmod.arg(&kernel.release))?;
        }
        Ok(kernel)
    }

    /// The image for a boot loader.
    pub fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The files of these modules and of what they need, in an order that they can be loaded in.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.modules_folder();
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))
        };
        let (dep, builtin) = (read("modules.dep")?, read("modules.builtin")?);
        let files =
            load_order(&dep, &builtin, names).with_context(|| format!("Linux {}", self.release))?;
        Ok(files.iter().map(|file| folder.join(file)).collect())
    }

    fn modules_folder(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }
}

/// One file with the programs of a small system, for a machine that has nothing else; and `depmod`.
pub fn busybox() -> Result<PathBuf> {
    // Installed, it would take the place of a busybox that is there.
    Ok(debian::unpacked("busybox-static", "booting another kernel")?.join("bin/busybox"))
}

/// The newest release of a version that Debian has a package of.
fn release(version: &str) -> Result<String> {
    if !cfg!(target_arch = "x86_64") {
        bail!("--kernel boots Debian's amd64 kernels, on x86-64 only");
    }
    if !debian::is_here() {
        bail!("--kernel needs apt, which has Debian's kernels, and this is no Debian system");
    }
    let mut known = releases()?;
    if known.is_empty() && place::is_root() {
        say("apt knows no kernel: fetching its package lists");
        debian::update()?;
        known = releases()?;
    }
    newest(&known, version)
}

fn releases() -> Result<Vec<String>> {
    let list = cmd::output(Command::new("apt-cache").args([
        "search",
        "--names-only",
        "^linux-image-[0-9].*-amd64$",
    ]))?;
    Ok(list
        .lines()
        .filter_map(|line| release_of(line.split_whitespace().next()?))
        .map(str::to_owned)
        .collect())
}

fn package(release: &str) -> String {
    format!("linux-image-{release}")
}

/// The release that a package holds, if it is of an ordinary kernel (not `cloud`, not `rt`) and no mere
/// pointer to another package.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let number = release.strip_suffix("-amd64")?;
    let plain = |c: char| c.is_ascii_digit() || ".+-".contains(c);
    let ordinary = number.replace("+deb", "+").chars().all(plain);
    (ordinary && number.matches('.').count() >= 2).then_some(release)
}

/// Is a release of this version? 6.12 is not of 6.1.
fn begins(release: &str, version: &str) -> bool {
    release
        .strip_prefix(version)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn numbers(release: &str) -> Vec<u32> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The first two numbers, zeros where they lack.
fn series(release: &str) -> [u32; 2] {
    let numbers = numbers(release);
    [0, 1].map(|at| numbers.get(at).copied().unwrap_or(0))
}

fn newest(known: &[String], version: &str) -> Result<String> {
    let newest = known
        .iter()
        .filter(|release| begins(release, version))
        .max_by_key(|release| numbers(release));
    if let Some(release) = newest {
        return Ok(release.clone());
    }
    let there: BTreeSet<_> = known.iter().map(|release| series(release)).collect();
    let there: Vec<_> = there
        .iter()
        .map(|series| format!("{}.{}", series[0], series[1]))
        .collect();
    if there.is_empty() {
        bail!("apt knows no package of any kernel for amd64: `apt-get update` may help");
    }
    bail!(
        "Debian has no package of Linux {version} here; there is {}",
        there.join(", ")
    )
}

/// A module's name, as modprobe takes it.
fn module_name(file: &str) -> String {
    let name = Path::new(file)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    // May be compressed: .ko.xz
    name.split(".ko").next().unwrap_or(&name).replace('-', "_")
}

/// From `modules.dep` and `modules.builtin`: files of modules and of all that they need, each after those.
fn load_order<'a>(dep: &'a str, builtin: &str, names: &[&str]) -> Result<Vec<&'a str>> {
    let needs: HashMap<&str, Vec<&str>> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| (file, needed.split_whitespace().collect()))
        .collect();
    let files: HashMap<String, &str> = needs
        .keys()
        .map(|&file| (module_name(file), file))
        .collect();
    let mut order = Vec::new();
    for &name in names {
        if let Some(file) = files.get(&name.replace('-', "_")) {
            add(file, &needs, &mut order, 0)?;
        } else if !builtin.lines().any(|file| module_name(file) == name) {
            bail!("it has no module {name}");
        }
    }
    Ok(order)
}

fn add<'a>(
    file: &'a str,
    needs: &HashMap<&'a str, Vec<&'a str>>,
    order: &mut Vec<&'a str>,
    depth: usize,
) -> Result<()> {
    if order.contains(&file) {
        return Ok(());
    }
    if depth > needs.len() {
        bail!("module {file} needs itself");
    }
    for &needed in needs.get(file).into_iter().flatten() {
        add(needed, needs, order, depth + 1)?;
    }
    order.push(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = [
        "6.1.0-9-amd64",
        "6.1.0-56-amd64",
        "6.12.117+deb12-amd64",
        "6.12.99+deb12-amd64",
    ];

    #[test]
    fn a_version_gives_the_newest_release_and_another_what_there_is() {
        let known = KNOWN.map(str::to_owned);
        for (version, release) in [
            ("6.1", "6.1.0-56-amd64"),
            ("6.1.0-9", "6.1.0-9-amd64"),
            ("6.12", "6.12.117+deb12-amd64"),
            ("6", "6.12.117+deb12-amd64"),
        ] {
            assert_eq!(newest(&known, version).unwrap(), release);
        }
        for version in ["5.10", "6.1.0-5", "6.11"] {
            assert_eq!(
                newest(&known, version).unwrap_err().to_string(),
                format!("Debian has no package of Linux {version} here; there is 6.1, 6.12")
            );
        }
    }

    #[test]
    fn only_packages_that_hold_an_ordinary_kernel_count() {
        for release in KNOWN {
            assert_eq!(release_of(&package(release)), Some(release));
        }
        for other in [
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.1.0-56-amd64-unsigned",
            "linux-image-6.12-amd64",
            "linux-image-amd64",
            "busybox-static",
        ] {
            assert_eq!(release_of(other), None, "{other}");
        }
    }

    const DEP: &str = "\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/drivers/virtio/virtio.ko kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/crypto/some-thing.ko.xz:
";

    #[test]
    fn a_module_comes_after_all_that_it_needs_and_once() {
        assert_eq!(
            load_order(DEP, "", &["9p", "9pnet_virtio", "some_thing"]).unwrap(),
            [
                "kernel/net/9p/9pnet.ko",
                "kernel/fs/netfs/netfs.ko",
                "kernel/fs/9p/9p.ko",
                "kernel/drivers/virtio/virtio.ko",
                "kernel/drivers/virtio/virtio_ring.ko",
                "kernel/net/9p/9pnet_virtio.ko",
                "kernel/crypto/some-thing.ko.xz",
            ]
        );
    }

    #[test]
    fn a_builtin_module_is_not_loaded_and_an_unknown_one_is_an_error() {
        let builtin = "kernel/fs/overlayfs/overlay.ko\n";
        assert!(load_order(DEP, builtin, &["overlay"]).unwrap().is_empty());
        assert!(load_order(DEP, builtin, &["veth"]).is_err());
        assert!(load_order("a.ko: b.ko\nb.ko: a.ko\n", "", &["a"]).is_err());
    }
}
