//! Debian packages: which are missing, and installing or only unpacking them after saying so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cmd::{self, say};
use crate::place;

/// Is apt here?
pub fn is_here() -> bool {
    place::which("apt-get").is_some() && place::which("dpkg-query").is_some()
}

/// Those of `packages` that are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${db:Status-Abbrev} ${Package}\n"])
        .args(packages);
    // It fails when any is unknown, and still lists the others.
    let listed = match query.stderr(Stdio::null()).output() {
        Ok(out) => String::from_utf8_lossy(&out.stdout).into_owned(),
        Err(_) => String::new(),
    };
    not_installed(packages, &listed)
}

fn not_installed<'a>(packages: &[&'a str], listed: &str) -> Vec<&'a str> {
    let installed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("ii "))
        .map(str::trim)
        .collect();
    packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect()
}

/// Installs what is missing of `packages`; `why` completes "… for WHY".
///
/// As root, after saying so. Otherwise the error holds the commands to type.
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_here() {
        bail!(
            "{why} needs {list} (Debian's names), and this is no Debian system: install them by its own means"
        );
    }
    if !place::is_root() {
        bail!(
            "{why} needs Debian packages that are not installed. Run this, then try again:\n    sudo apt-get update\n    sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    say(format!("installing Debian packages for {why}: {list}"));
    if cmd::output(&mut apt(&missing)).is_err() {
        // The package lists may be old or absent.
        update()?;
        cmd::output(&mut apt(&missing))?;
    }
    Ok(())
}

/// Fetches the package lists.
pub fn update() -> Result<()> {
    cmd::output(Command::new("apt-get").args(["update", "--quiet=2"])).map(drop)
}

/// A package's files, in a folder of the cache: for what must not be installed here. The newest version
/// that apt knows is fetched, once; `why` completes "… for WHY".
pub fn unpacked(package: &str, why: &str) -> Result<PathBuf> {
    match unpack(package, why, &[]) {
        // The package lists may be old or absent.
        Err(_) if place::is_root() => {
            update()?;
            unpack(package, why, &[])
        }
        done => done,
    }
}

/// The same of this release's backports, whose package lists are kept in the cache: the system's own stay as they are.
pub fn backported(packages: &[&str], why: &str) -> Result<Vec<PathBuf>> {
    let options = backports()?;
    let unpack_all = || {
        packages
            .iter()
            .map(|package| unpack(package, why, &options))
            .collect::<Result<Vec<_>>>()
    };
    unpack_all().or_else(|_: anyhow::Error| {
        let mut update = Command::new("apt-get");
        update.args(&options).args(["update", "--quiet=2"]);
        cmd::output(&mut update)?;
        unpack_all()
    })
}

/// Options with which apt reads the backports of this release and nothing else.
fn backports() -> Result<Vec<String>> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    let targets = cmd::output(targets.arg("Created-By: Packages"))?;
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let (archive, release) =
        archive_of(&targets, &system).context("apt reads no archive of this Debian release")?;
    let folder = place::cache()?.join("backports");
    for below in ["lists/partial", "archives/partial"] {
        let below = folder.join(below);
        fs::create_dir_all(&below)
            .with_context(|| format!("could not make {}", below.display()))?;
    }
    let list = folder.join("sources.list");
    fs::write(
        &list,
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {archive} {release}-backports main\n"
        ),
    )
    .with_context(|| format!("could not write {}", list.display()))?;
    let paths = [
        ("Dir::Etc::SourceList", list),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::State::Lists", folder.join("lists")),
        ("Dir::Cache", folder),
    ];
    let options = paths.map(|(name, path)| format!("--option={name}={}", path.display()));
    Ok(options.into())
}

/// The address and name of the archive that the system's release comes from: of what `apt-get indextargets` lists, by
/// what /etc/os-release says.
fn archive_of<'a>(targets: &'a str, system: &str) -> Option<(&'a str, &'a str)> {
    let name = system
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|&(_, release)| release == name)
}

/// Real clients, and the tools that the network tests drive.
const CLIENTS: [&str; 11] = [
    "bind9-dnsutils",
    "bindfs",
    "bpftool",
    "curl",
    "dnsperf",
    "dnsviz",
    "ethtool",
    "iproute2",
    "knot-dnsutils",
    "systemd",
    "tcpdump",
];

/// The packages of other servers: name servers that are asked the same questions as ours, etcd, and readers of dnstap.
const SERVERS: [&str; 10] = [
    "bind9",
    "bind9-utils",
    "dnstap-ldns",
    "etcd-client",
    "etcd-server",
    "fstrm-bin",
    "knot",
    "knot-dnssecutils",
    "nsd",
    "unbound",
];

/// More of them, which know geography: what `cargo xtask bench --peers` measures beside ours.
const GEOGRAPHY: [&str; 4] = [
    "gdnsd",
    "knot-module-geoip",
    "pdns-backend-geoip",
    "pdns-server",
];

/// Routing daemons, which carry a node's routes to its routers.
const ROUTING: [&str; 2] = ["bird2", "frr"];

/// Monitoring: Prometheus reads our metrics, Alertmanager takes notifications and sends alerts.
const MONITORING: [&str; 2] = ["prometheus", "prometheus-alertmanager"];

/// Installs the clients and tools of the network tests; `why` completes "… for WHY".
pub fn clients(why: &str) -> Result<()> {
    install(&CLIENTS, why)
}

/// Programs of other name servers, of routing daemons and of monitors, in a folder of the cache. Only the libraries that they need
/// are installed: a server that was installed would be started, now or when the machine is.
///
/// `why` completes "… for WHY".
pub fn servers(why: &str) -> Result<()> {
    programs_of(&SERVERS, why)?;
    programs_of(&ROUTING, why)?;
    programs_of(&MONITORING, why)
}

/// The same, and those that know geography.
pub fn peers(why: &str) -> Result<()> {
    servers(why)?;
    programs_of(&GEOGRAPHY, why)
}

fn programs_of(packages: &[&str], why: &str) -> Result<()> {
    let folder = place::cache()?.join("servers");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut libraries = Vec::new();
    for package in packages {
        let files = unpacked(package, why)?;
        for programs in ["usr/bin", "usr/sbin", "usr/lib/frr"] {
            for program in fs::read_dir(files.join(programs)).into_iter().flatten() {
                link(&program?.path(), &folder)?;
            }
        }
        for module in modules(&files.join("usr/lib")) {
            link(&module, &folder)?;
        }
        let depends = cmd::output(Command::new("apt-cache").args([
            "depends",
            "--no-recommends",
            "--no-suggests",
            package,
        ]))?;
        libraries.extend(needed_libraries(&depends));
    }
    libraries.sort_unstable();
    libraries.dedup();
    let libraries: Vec<&str> = libraries.iter().map(String::as_str).collect();
    install(&libraries, why)
}

/// Puts a link to a file into a folder, under the file's own name.
fn link(file: &Path, folder: &Path) -> Result<()> {
    let Some(name) = file.file_name() else {
        return Ok(());
    };
    let link = folder.join(name);
    if fs::read_link(&link).is_ok_and(|to| to == file) {
        return Ok(());
    }
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(file, &link)
        .with_context(|| format!("could not make {}", link.display()))
}

/// Modules that programs load while they run, in a folder or below it.
fn modules(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(modules(&path));
        } else if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    found
}

/// The libraries of what `apt-cache depends` says: of alternatives the first, that is not virtual.
fn needed_libraries(depends: &str) -> Vec<String> {
    let names = depends
        .lines()
        .filter_map(|line| line.strip_prefix("  Depends: "));
    names
        .filter(|name| name.starts_with("lib") || name.ends_with("-libs"))
        // Scripts of web pages.
        .filter(|name| !name.starts_with("libjs-"))
        .map(str::to_owned)
        .collect()
}

/// Unpacks the package that apt finds with these options.
fn unpack(package: &str, why: &str, options: &[String]) -> Result<PathBuf> {
    let cache = place::cache()?.join("packages");
    // By way of another name: what is there under its own is whole.
    let half = cache.join(format!(".{package}.{}", std::process::id()));
    let remove = || {
        if half.is_dir() {
            fs::remove_dir_all(&half)
        } else {
            Ok(())
        }
    };
    remove()?;
    fs::create_dir_all(&half).with_context(|| format!("could not make {}", half.display()))?;
    let done = unpack_by_way_of(&half, package, why, options);
    remove()?;
    done
}

fn unpack_by_way_of(half: &Path, package: &str, why: &str, options: &[String]) -> Result<PathBuf> {
    let download = || {
        let mut download = Command::new("apt-get");
        download
            .args(["download", "--quiet=2", package])
            .args(options)
            .current_dir(half);
        download
    };
    let uris = cmd::output(download().arg("--print-uris"))?;
    let file = file_to_download(&uris)
        .with_context(|| format!("apt does not say which file {package} is: {uris:?}"))?;
    let folder = half.with_file_name(file.trim_end_matches(".deb"));
    if folder.is_dir() {
        return Ok(folder);
    }
    say(format!(
        "fetching Debian package {package} for {why}; it is unpacked into the cache, not installed"
    ));
    cmd::output(&mut download())?;
    let files = half.join("files");
    cmd::output(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(half.join(file))
            .arg(&files),
    )?;
    fs::rename(&files, &folder).with_context(|| format!("could not write {}", folder.display()))?;
    Ok(folder)
}

/// Reads what `apt-get download --print-uris` says: address, file, size, digest.
fn file_to_download(uris: &str) -> Option<&str> {
    uris.lines()
        .find_map(|line| line.split_whitespace().nth(1))
        .filter(|file| file.ends_with(".deb"))
}

fn apt(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args([
        "install",
        "-y",
        "--no-install-recommends",
        "--quiet=2",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    command
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_to_download_has_the_version_in_its_name() {
        let uris = "'http://example.org/pool/b/busybox-static_1.35.0-4%2bb1_amd64.deb' \
                    busybox-static_1%3a1.35.0-4+b1_amd64.deb 928188 SHA256:3d3f\n";
        assert_eq!(
            file_to_download(uris),
            Some("busybox-static_1%3a1.35.0-4+b1_amd64.deb")
        );
        assert_eq!(file_to_download(""), None);
    }

    #[test]
    fn backports_come_from_the_archive_of_the_systems_release() {
        let targets =
            "http://example.org/debian/ bookworm-updates\nhttp://example.org/debian/ bookworm\n";
        let system = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(
            archive_of(targets, system),
            Some(("http://example.org/debian/", "bookworm"))
        );
        assert_eq!(archive_of(targets, "ID=other\n"), None);
        assert_eq!(archive_of("", system), None);
    }

    #[test]
    fn libraries_are_told_from_programs() {
        let depends = "bind9\n  PreDepends: init-system-helpers\n  Depends: adduser\n  Depends: bind9-libs\n \
                       |Depends: debconf\n  Depends: <debconf-2.0>\n  Depends: libsystemd0\n    libelogind0\n";
        assert_eq!(needed_libraries(depends), ["bind9-libs", "libsystemd0"]);
        assert!(needed_libraries("").is_empty());
    }

    #[test]
    fn only_packages_that_are_fully_installed_count() {
        let listed = "ii  curl\nrc  dnsperf\nun  ethtool\n";
        assert_eq!(
            not_installed(&["curl", "dnsperf", "ethtool", "tcpdump"], listed),
            ["dnsperf", "ethtool", "tcpdump"]
        );
    }
}
