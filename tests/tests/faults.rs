//! Failures on the way: files that are none or never answer, tasks that panic, and each thing that a change
//! needs, one after the other.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use geodns_tests::built::binary;
use geodns_tests::daemon::{Daemon, EXAMPLE, EXAMPLE_PREFIXES, EXAMPLE_ZONE, Setup, difference};
use geodns_tests::dns::{self, A, Query, Reply, TXT};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, at};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::Value;

const SERVER: &str = "192.0.2.53";
/// How long something may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program to its end, which must come soon: what it printed, and whether it succeeded.
fn soon(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let end = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

/// Each file that a configuration names, as a pipe, a folder and a device: one line, and no waiting.
#[test]
fn what_is_no_regular_file_is_refused_in_a_line_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let base = format!("[kernel]\nmode = \"off\"\n[server]\nlisten = [\"127.0.0.1\"]\n{EXAMPLE}");
    let zone = base.replace("\"example.org.zone\"", "\"odd\"");
    let list = base.replace("\"world.csv\"", "\"odd\"");
    let databases = format!("[geoip]\ndatabases = [\"odd\"]\n{base}");
    let certificate =
        format!("[tls]\nport = 853\ncertificate = \"odd\"\nkey = \"example.org.zone\"\n{base}");
    let key =
        format!("[tls]\nport = 853\ncertificate = \"example.org.zone\"\nkey = \"odd\"\n{base}");
    let cookies = format!("[cookies]\nsecrets_file = \"odd\"\n{base}");
    let tsig = format!(
        "{base}[[tsig]]\nname = \"key\"\nalgorithm = \"hmac-sha256\"\nsecret_file = \"odd\"\n"
    );
    let include = base.replace("\"example.org.zone\"", "\"including.zone\"");
    std::fs::write(
        path("including.zone"),
        format!("{EXAMPLE_ZONE}$INCLUDE odd\n"),
    )?;
    std::fs::write(path("example.org.zone"), EXAMPLE_ZONE)?;
    std::fs::write(path("world.csv"), EXAMPLE_PREFIXES)?;
    let configurations = [
        ("zone.file", zone),
        ("$INCLUDE", include),
        ("pool.prefixes", list),
        ("geoip.databases", databases),
        ("tls.certificate", certificate),
        ("tls.key", key),
        ("cookies.secrets_file", cookies),
        ("tsig.secret_file", tsig),
    ];
    let odd = path("odd");
    let kinds: [(&str, &dyn Fn() -> Result<()>); 3] = [
        ("it is a pipe", &|| {
            Ok(nix::unistd::mkfifo(&odd, Mode::S_IRUSR | Mode::S_IWUSR)?)
        }),
        ("it is a folder", &|| Ok(std::fs::create_dir(&odd)?)),
        ("it is a device", &|| {
            Ok(std::os::unix::fs::symlink("/dev/zero", &odd)?)
        }),
    ];
    for (says, make) in kinds {
        make()?;
        for (key, configuration) in &configurations {
            std::fs::write(path("geodns.toml"), configuration)?;
            let (good, said) = soon(
                Command::new(binary()?)
                    .arg("check")
                    .arg(path("geodns.toml")),
            )?;
            ensure!(!good, "{key}, {says}: taken:\n{said}");
            let lines: Vec<_> = said.lines().filter(|line| line.contains(says)).collect();
            ensure!(lines.len() == 1, "{key}, {says}:\n{said}");
            ensure!(lines[0].contains("odd"), "{key}: {lines:?}");
        }
        let (good, said) = soon(Command::new(binary()?).arg("check").arg(&odd))?;
        ensure!(!good && said.contains(says), "the configuration:\n{said}");
        match odd.is_dir() && !odd.is_symlink() {
            true => std::fs::remove_dir(&odd)?,
            false => std::fs::remove_file(&odd)?,
        }
    }
    Ok(())
}

/// A file that nobody can open for as long as this lives: whoever tries waits, as on a file system that does not
/// answer.
struct Hung(OwnedFd);

impl Hung {
    fn new(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
        // SAFETY: a plain system call.
        let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as u32) };
        ensure!(fd >= 0, "fanotify: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the name lives through the call.
        let marked = unsafe {
            libc::fanotify_mark(
                fd.as_raw_fd(),
                libc::FAN_MARK_ADD,
                libc::FAN_OPEN_PERM,
                libc::AT_FDCWD,
                name.as_ptr(),
            )
        };
        ensure!(marked == 0, "fanotify: {}", std::io::Error::last_os_error());
        Ok(Self(fd))
    }

    /// Waits until somebody waits.
    fn holds_somebody(&self) -> Result<()> {
        let mut ready = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&self.0),
            nix::poll::PollFlags::POLLIN,
        )];
        let timeout = nix::poll::PollTimeout::from(10_000_u16);
        ensure!(
            nix::poll::poll(&mut ready, timeout)? == 1,
            "nobody opens the file"
        );
        Ok(())
    }
}

/// A child that goes with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cli(daemon: &Daemon, words: &str) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .arg("--socket")
        .arg(daemon.home.socket())
        .args(words.split_whitespace());
    Ok(command)
}

#[test]
fn a_file_that_never_answers_holds_up_neither_edits_nor_the_stop() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&["10.1.0.1", "10.9.0.1"])?;
    for name in ["example.org.zone", "world.csv", "geodns.toml"] {
        let mut daemon = Daemon::start(&pair.server, &Setup::example(&[SERVER]))?;
        let hung = Hung::new(&daemon.home.folder.path().join(name))?;
        let mut reload = Killed(
            cli(&daemon, "reload")?
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        hung.holds_somebody()?;
        for words in [
            "map set 10.9.0.0/16 sin",
            "mirror down iad",
            "block add --name bad.example.org",
            "acme set _acme-challenge.example.org token",
            "map del 10.9.0.0/16",
            "status",
            "explain www.example.org --client 10.1.0.1",
        ] {
            let (good, said) = soon(&mut cli(&daemon, words)?)?;
            ensure!(good, "{name}: {words}: {said}");
        }
        ensure!(reload.0.try_wait()?.is_none(), "{name}: nothing hung");
        if name == "example.org.zone" {
            // What reads files waits for those before it, but not for ever.
            let mut second = cli(&daemon, "reload")?;
            let output = second.output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!output.status.success(), "{said}");
            ensure!(said.contains("file system that does not answer"), "{said}");
            ensure!(said.lines().count() == 1, "{said}");
        }
        let started = Instant::now();
        daemon.stop()?;
        let took = started.elapsed();
        ensure!(took < PATIENCE, "{name}: {took:?}");
        let xdp = pair.server.ip("-d link show dev eth0")?;
        ensure!(!xdp.contains("prog/xdp"), "still attached: {xdp}");
        drop(hung);
    }
    Ok(())
}

/// Faults that a test orders of a daemon: see `geodns-user/src/fault.rs`.
struct Orders(PathBuf);

impl Orders {
    /// Takes orders from now on.
    fn of(setup: &mut Setup, folder: &Path) -> Self {
        let file = folder.join("orders");
        setup
            .environment
            .push(("GEODNS_FAULTS".into(), file.display().to_string()));
        Self(file)
    }

    fn give(&self, order: &str) -> Result<()> {
        let half = self.0.with_extension("half");
        std::fs::write(&half, order)?;
        Ok(std::fs::rename(half, &self.0)?)
    }

    /// The orders that are left.
    fn now(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Waits until something stands there.
    fn until(&self, text: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.now() != text {
            ensure!(Instant::now() < end, "{:?} is not {text:?}", self.now());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn ask(pair: &Pair, from: &str, query: &Query) -> Result<Reply> {
    let from: IpAddr = from.parse()?;
    let socket = pair.client.udp(from, at(SERVER, 53)?)?;
    let bytes = dns::ask(&socket, &query.bytes(), PATIENCE)?.context("no answer over UDP")?;
    Reply::parse(&bytes)
}

#[test]
fn tasks_and_threads_that_panic_begin_anew() -> Result<()> {
    needs_root!();
    let folder = tempfile::tempdir()?;
    let pair = Pair::new(&["10.1.0.1"])?;
    let mut setup = Setup::example(&[SERVER]);
    setup.stale_after = "2s".into();
    let orders = Orders::of(&mut setup, folder.path());
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    ensure!(daemon.json("status")?["restarted"] == serde_json::json!([]));
    let tasks = [
        "heartbeat",
        "tidying",
        "cookies",
        "databases",
        "certificate",
        "findings",
        "tokens",
        "catalogs",
        "promotion",
        "interfaces",
        "notices",
        "checks",
        "netlink",
        "control socket",
        "TCP",
    ];
    for task in tasks {
        orders.give(&format!("panic {task}"))?;
        orders.until(&format!("panicked {task}"))?;
        daemon.logged(&format!("{task} ended, it panicked: as a test wants it"))?;
    }
    // The thread looks when it has something to do.
    orders.give("panic health")?;
    daemon.ok("mirror down sin")?;
    orders.until("panicked health")?;
    daemon.logged("health ended, it panicked")?;
    // All of it goes on: each a second time.
    for task in tasks {
        orders.give(&format!("panic {task}"))?;
        orders.until(&format!("panicked {task}"))?;
    }
    orders.give("")?;
    // Longer than the program answers without a heartbeat.
    std::thread::sleep(Duration::from_secs(3));
    let before = daemon.counters()?;
    let www = Query::new("www.example.org", A);
    let reply = ask(&pair, "10.1.0.1", &www)?;
    ensure!(reply.of("A") == ["198.51.100.10"], "{reply}");
    let counted = difference(&before, &daemon.counters()?);
    ensure!(counted.get("answered") == Some(&1), "{counted:?}");
    let mut tcp = pair.client.tcp("10.1.0.1".parse()?, at(SERVER, 53)?)?;
    let reply = Reply::parse(&dns::ask_tcp(&mut tcp, &www.bytes())?)?;
    ensure!(reply.of("A") == ["198.51.100.10"], "{reply}");
    daemon.ok("mirror auto sin")?;
    daemon.ok("reload")?;

    let status = daemon.json("status")?;
    let restarted = status["restarted"].as_array().context("no list")?;
    let times: BTreeMap<&str, u64> = restarted
        .iter()
        .filter_map(|one| Some((one["name"].as_str()?, one["times"].as_u64()?)))
        .collect();
    for task in tasks {
        ensure!(times.get(task) == Some(&2), "{task}: {times:?}");
    }
    ensure!(times.get("health") == Some(&1), "{times:?}");
    ensure!(daemon.ok("status")?.contains("heartbeat, 2 times"));
    daemon.stop()
}

/// All that a change may change, as clients of both paths and operators see it.
fn picture(pair: &Pair, daemon: &Daemon) -> Result<String> {
    let mut picture = String::new();
    for (name, qtype) in [
        ("www.example.org", A),
        ("new.example.org", A),
        ("mail.example.org", A),
        ("_acme-challenge.example.org", TXT),
    ] {
        for from in ["10.1.0.1", "10.9.0.1"] {
            let query = Query::new(name, qtype);
            let udp = ask(pair, from, &query)?;
            let mut tcp = pair.client.tcp(from.parse()?, at(SERVER, 53)?)?;
            let tcp = Reply::parse(&dns::ask_tcp(&mut tcp, &query.bytes())?)?;
            let texts = |reply: &Reply| {
                let kind = if qtype == A { "A" } else { "TXT" };
                reply.of(kind).join(" ")
            };
            ensure!(
                texts(&udp) == texts(&tcp),
                "{name} for {from}: the paths differ:\n{udp}\n{tcp}"
            );
            picture += &format!("{name} {from}: {}\n", texts(&udp));
        }
    }
    let dropped = daemon.json("block list")?;
    let rules: Vec<&Value> = dropped
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| &rule["name"])
        .collect();
    picture += &format!("rules {rules:?}\n");
    let tokens = daemon.json("acme list")?;
    let tokens: Vec<&Value> = tokens
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["token"])
        .collect();
    picture += &format!("tokens {tokens:?}\n");
    picture += &format!("export {}\n", daemon.ok("map export --pool www")?);
    let mirror = daemon.json("mirror show iad")?;
    picture += &format!(
        "iad {} {}\n",
        mirror["admin"]["state"], mirror["weight"]["in_force"]
    );
    Ok(picture)
}

/// A command, and the one that undoes it; before each, files that it reads.
struct Step {
    does: &'static str,
    undoes: &'static str,
    before: Option<fn(&mut Setup)>,
    after: Option<fn(&mut Setup)>,
}

fn step(does: &'static str, undoes: &'static str) -> Step {
    Step {
        does,
        undoes,
        before: None,
        after: None,
    }
}

const NEW: &str = "new IN A 192.0.2.99\n";

fn steps() -> Vec<Step> {
    let zone: [fn(&mut Setup); 2] = [
        |setup| {
            let text = EXAMPLE_ZONE.replace("2026010100", "2026010199") + NEW;
            *setup = setup.clone().file("example.org.zone", &text);
        },
        |setup| *setup = setup.clone().file("example.org.zone", EXAMPLE_ZONE),
    ];
    let all: [fn(&mut Setup); 2] = [
        |setup| {
            let text = EXAMPLE_ZONE.replace("2026010100", "2026010199") + NEW;
            let rule = "[[block]]\nname = \"other.example.org\"\n";
            *setup = setup
                .clone()
                .body(&format!(
                    "{}{rule}",
                    EXAMPLE.replace("ttl = 60", "ttl = 30")
                ))
                .file("example.org.zone", &text)
                .file("world.csv", "prefix,mirror\n10.1.0.0/16,sin\n");
        },
        |setup| {
            *setup = setup
                .clone()
                .body(EXAMPLE)
                .file("example.org.zone", EXAMPLE_ZONE)
                .file("world.csv", EXAMPLE_PREFIXES);
        },
    ];
    let with_files = |does, [before, after]: [fn(&mut Setup); 2]| Step {
        does,
        undoes: does,
        before: Some(before),
        after: Some(after),
    };
    vec![
        step("map set 10.9.0.0/16 sin", "map del 10.9.0.0/16"),
        step("mirror down iad", "mirror auto iad"),
        step("mirror weight iad 7", "mirror weight iad --reset"),
        step("block add --name bad.example.org", "block clear"),
        step(
            "acme set _acme-challenge.example.org token",
            "acme clear _acme-challenge.example.org",
        ),
        step("map import other.csv", "map import none.csv"),
        with_files("reload example.org", zone),
        with_files("reload", all),
    ]
}

/// Orders one fault after the other while a command is run, until there was none: after each, all is as before,
/// or as the command says; on the disk too.
fn under_faults(
    pair: &Pair,
    daemon: &mut Daemon,
    setup: &mut Setup,
    orders: &Orders,
    (words, files): (&str, Option<fn(&mut Setup)>),
    (back, files_before): (&str, Option<fn(&mut Setup)>),
) -> Result<Vec<String>> {
    let write = |daemon: &Daemon, setup: &mut Setup, files: Option<fn(&mut Setup)>| {
        files.map_or(Ok(()), |files| {
            files(setup);
            daemon.home.write(setup)
        })
    };
    let run = |daemon: &Daemon, words: &str| -> Result<(bool, String)> {
        let mut command = cli(daemon, words)?;
        soon(command.current_dir(daemon.home.folder.path()))
    };
    let before = picture(pair, daemon)?;
    let mut met = Vec::new();
    for turn in 1.. {
        write(daemon, setup, files)?;
        let logged = daemon.log().len();
        orders.give(&format!("fail {turn}"))?;
        let (good, said) = run(daemon, words)?;
        let carried_out = orders.now();
        orders.give("")?;
        let at = format!("{words}, fault {turn} ({carried_out}), good: {good}: {said}");
        let now = picture(pair, daemon).with_context(|| at.clone())?;
        let log = daemon.log()[logged..].to_owned();
        if good {
            ensure!(now != before, "{at}: nothing has changed");
            ensure!(!log.contains("nothing has changed"), "{at}:\n{log}");
        } else {
            ensure!(
                now == before,
                "{at}: something has changed:\n{before}\n{now}\n{log}"
            );
            ensure!(said.contains("a test wants it to fail"), "{at}");
        }
        let Some(name) = carried_out.strip_prefix("failed ") else {
            ensure!(good, "{at}");
            break;
        };
        met.push(name.to_owned());
        if turn % 4 == 0 {
            // The disk says the same.
            write(daemon, setup, if good { files } else { files_before })?;
            daemon.crash()?;
            daemon.again(&pair.server, setup)?;
            let after = picture(pair, daemon)?;
            ensure!(after == now, "{at}: after a restart:\n{now}\n{after}");
        }
        if good {
            write(daemon, setup, files_before)?;
            let (good, said) = run(daemon, back)?;
            ensure!(good, "{at}: {back}: {said}");
            let back = picture(pair, daemon)?;
            ensure!(back == before, "{at}: undone:\n{before}\n{back}");
        }
    }
    Ok(met)
}

// Invariant 7
// Invariant 8
#[test]
fn whatever_fails_in_a_change_nothing_has_changed_or_all_of_it() -> Result<()> {
    needs_root!();
    let folder = tempfile::tempdir()?;
    let pair = Pair::new(&["10.1.0.1", "10.9.0.1"])?;
    let mut setup = Setup::example(&[SERVER])
        .file("other.csv", "prefix,mirror\n10.9.0.0/16,iad\n")
        .file("none.csv", "prefix,mirror\n");
    let orders = Orders::of(&mut setup, folder.path());
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for step in steps() {
        let does = (step.does, step.before);
        let undoes = (step.undoes, step.after);
        for (one, other) in [(does, undoes), (undoes, does)] {
            let names = under_faults(&pair, &mut daemon, &mut setup, &orders, one, other)?;
            ensure!(!names.is_empty(), "{}: there was nothing to fail", one.0);
            names
                .into_iter()
                .for_each(|name| *met.entry(name).or_default() += 1);
        }
    }
    for name in [
        "state",
        "kernel: stores",
        "kernel: grace period",
        "kernel: load",
        "kernel: rules",
        "kernel: stub",
    ] {
        ensure!(met.contains_key(name), "{name} never failed: {met:?}");
    }
    daemon.stop()
}

/// Tables that are out of step with the plan are made anew, and the kernel answers again.
#[test]
fn tables_that_could_not_be_edited_are_made_anew() -> Result<()> {
    needs_root!();
    let folder = tempfile::tempdir()?;
    let pair = Pair::new(&["10.1.0.1"])?;
    let mut setup = Setup::example(&[SERVER]);
    let orders = Orders::of(&mut setup, folder.path());
    let mut daemon = Daemon::start(&pair.server, &setup)?;
    let state = |daemon: &Daemon| std::fs::metadata(daemon.home.folder.path().join("state.redb"));
    ensure!(state(&daemon)?.len() > 0);
    // Whichever of the faults hits the stores.
    let mut turn = 1;
    loop {
        orders.give(&format!("fail {turn}"))?;
        let failed = daemon.cli(["map", "set", "10.1.0.0/16", "sin"])?;
        let name = orders.now();
        orders.give("")?;
        if name == "failed kernel: stores" {
            ensure!(!failed.status.success(), "taken");
            break;
        }
        if failed.status.success() {
            // Somebody else has met the fault.
            daemon.ok("map del 10.1.0.0/16")?;
        }
        turn += 1;
        ensure!(turn < 20, "the stores never failed");
    }
    daemon.logged("the kernel's tables have been made anew")?;
    let before = daemon.counters()?;
    let reply = ask(&pair, "10.1.0.1", &Query::new("www.example.org", A))?;
    ensure!(reply.of("A") == ["198.51.100.10"], "{reply}");
    let counted = difference(&before, &daemon.counters()?);
    ensure!(counted.get("answered") == Some(&1), "{counted:?}");
    daemon.end(Signal::SIGTERM)?;
    Ok(())
}
