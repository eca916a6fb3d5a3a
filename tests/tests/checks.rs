//! Each kind of check, against real things that break and are mended: in the next answers of two
//! daemons, with the program and without, and in what `geodns mirror show` says.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use geodns_tests::authority::Authority;
use geodns_tests::daemon::{Setup, pool};
use geodns_tests::dns::{A, AAAA, Query};
use geodns_tests::needs_root;
use geodns_tests::net::{Pair, Space, at, ip};
use geodns_tests::twins::Twins;
use geodns_tests::web::{GOOD, Manner, Web};
use serde_json::Value as Json;

const CLIENT: &str = "45.0.0.1";

/// Addresses of the mirror that nobody checks, which takes the other's place.
const SPARE: [&str; 2] = ["192.0.2.10", "2001:db8:10::1"];

const ZONE: &str = "\
$ORIGIN example.org.
$TTL 3600
@ IN SOA ns1 hostmaster 2026010100 7200 900 1209600 300
@ IN NS ns1
ns1 IN A 192.0.2.53
";

/// A mirror that is checked, and a pool of the same id in which it stands before the spare.
#[derive(Clone, Copy)]
struct Checked {
    id: &'static str,
    /// One of each family.
    addresses: [&'static str; 2],
}

impl Checked {
    /// Mirror and pool, as the configuration has them. The TTL stays, so that octets can be compared.
    fn text(&self, check: &str) -> String {
        let Self { id, addresses } = self;
        let mirror = format!(
            "[[mirror]]\nid = {id:?}\naddresses = {addresses:?}\n\
             check = {{ {check}, interval = \"250ms\", timeout = \"240ms\", rise = 2, fall = 2 }}\n"
        );
        let rest =
            format!("mirrors = [{id:?}, \"spare\"]\npolicy = \"failover\"\nttl = 60\nttl_min = 60");
        mirror + &pool(id, &rest)
    }

    /// Waits until its address of each family is in both daemons' answers, or out of them, and both say
    /// of each address how it is, and of those that are down for what reason.
    fn comes_to(&self, twins: &mut Twins, up: [bool; 2], reason: &str) -> Result<()> {
        let name = format!("{}.example.org", self.id);
        for (family, qtype) in [A, AAAA].into_iter().enumerate() {
            let want = if up[family] { self.addresses } else { SPARE }[family];
            twins.comes_to(ip(CLIENT), &name, qtype, want)?;
        }
        // Answers may be right before anything has been checked.
        let words = format!("mirror show {}", self.id);
        twins.until(&format!("{words}: {up:?} {reason:?}"), |twins| {
            let [fast, slow] = [&twins.fast, &twins.slow].map(|daemon| daemon.json(&words));
            Ok(self.is_shown(&fast?, up, reason)? && self.is_shown(&slow?, up, reason)?)
        })?;
        self.answers_stay(twins, up)
    }

    /// Whether `mirror show` says this of it.
    fn is_shown(&self, shown: &Json, up: [bool; 2], reason: &str) -> Result<bool> {
        let checks = shown["checks"].as_array().context("checks")?;
        ensure!(checks.len() == 2, "{shown}");
        let mut right = shown["in_service"] == up.contains(&true);
        for check in checks {
            let family = self.addresses.iter().position(|of| check["address"] == *of);
            let is_up = up[family.context("an address of it")?];
            let said = check["reason"].as_str();
            right &= match is_up {
                true => check["state"] == "up",
                false => check["state"] == "down" && said.is_some_and(|said| said.contains(reason)),
            };
        }
        Ok(right)
    }

    /// That both give these answers now, the same octets, with a client subnet and without; and the
    /// kernel gave those of the first.
    fn answers_stay(&self, twins: &mut Twins, up: [bool; 2]) -> Result<()> {
        twins.counted()?;
        for (family, qtype) in [A, AAAA].into_iter().enumerate() {
            let want = if up[family] { self.addresses } else { SPARE }[family];
            let plain = Query::new(&format!("{}.example.org", self.id), qtype);
            for query in [plain.clone(), plain.subnet_of(ip(CLIENT), 24)] {
                let reply = twins.ask(ip(CLIENT), &query)?;
                ensure!(reply.addresses() == want, "want {want}: {reply}");
            }
        }
        twins.all_counted("answered", 4)
    }
}

/// These mirrors and pools, the spare and a zone.
fn setup(body: &str) -> Setup {
    let body = format!(
        "[[zone]]\nname = \"example.org\"\nfile = \"example.org.zone\"\n\
         [[mirror]]\nid = \"spare\"\naddresses = {SPARE:?}\n{body}"
    );
    Setup::new(&[]).body(&body).file("example.org.zone", ZONE)
}

/// Drops whatever comes to an address, without a word; or no longer.
fn swallow(space: &Space, address: &str, on: bool) -> Result<()> {
    let verb = if on { "add" } else { "del" };
    space
        .ip(&format!("route {verb} blackhole {address} table local"))
        .map(drop)
}

#[test]
fn tcp_follows_a_port() -> Result<()> {
    needs_root!();
    let mirror = Checked {
        id: "m",
        addresses: ["10.5.0.1", "fd05::1"],
    };
    let [v4, v6] = mirror.addresses;
    let place = Twins::place()?;
    let open = |pair: &Pair, address| Web::start(&pair.client, at(address, 8080)?);
    let first = open(&place, v4)?;
    let second = open(&place, v6)?;
    let mut twins = Twins::start_in(place, &setup(&mirror.text("type = \"tcp\", port = 8080")))?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    // To be let in is enough.
    first.set(Manner::Silent);
    let before = first.asked();
    twins.until("it is checked a few times", |_| {
        Ok(first.asked() > before + 8)
    })?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    drop(first);
    mirror.comes_to(&mut twins, [false, true], "connect: connection refused")?;
    drop(second);
    mirror.comes_to(&mut twins, [false, false], "connect: connection refused")?;
    let _first = open(&twins.pair, v4)?;
    mirror.comes_to(&mut twins, [true, false], "connect: connection refused")?;
    let _second = open(&twins.pair, v6)?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    // Nor is a port better of which nothing is heard.
    for address in mirror.addresses {
        swallow(&twins.pair.client, address, true)?;
    }
    mirror.comes_to(&mut twins, [false, false], "connect: no answer in 240ms")?;
    for address in mirror.addresses {
        swallow(&twins.pair.client, address, false)?;
    }
    mirror.comes_to(&mut twins, [true, true], "")?;
    twins.stop()
}

#[test]
fn icmp_follows_an_address() -> Result<()> {
    needs_root!();
    let mirror = Checked {
        id: "m",
        addresses: ["198.51.100.7", "2001:db8:7::7"],
    };
    let place = Twins::place()?;
    let address = |pair: &Pair, verb: &str, address: &str| {
        let len = if ip(address).is_ipv4() { 32 } else { 128 };
        let words = format!("address {verb} {address}/{len} dev lo");
        pair.client.ip(&words).map(drop)
    };
    for own in mirror.addresses {
        address(&place, "add", own)?;
    }
    let mut twins = Twins::start_in(place, &setup(&mirror.text("type = \"icmp\"")))?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    for (family, own) in mirror.addresses.into_iter().enumerate() {
        let mut up = [true, true];
        up[family] = false;
        // Taken from the interface, and given back.
        address(&twins.pair, "del", own)?;
        mirror.comes_to(&mut twins, up, "no answer in 240ms")?;
        address(&twins.pair, "add", own)?;
        mirror.comes_to(&mut twins, [true, true], "")?;
        // No way to it.
        for (verb, up) in [("add", up), ("del", [true, true])] {
            let words = format!("route {verb} unreachable {own}");
            twins.pair.server.ip(&words)?;
            mirror.comes_to(&mut twins, up, "send: no route to host")?;
        }
    }
    twins.stop()
}

/// Does with an address what stands in the file of its name, and keeps the ids of what may hang.
const PROGRAM: &str = "\
#!/bin/sh
read -r manner < \"$1/$2\"
case $manner in
good) exit 0 ;;
bad) exit 3 ;;
hang) sleep 600 & echo $$ $! >> \"$1/hung\"; wait ;;
esac
";

#[test]
fn exec_follows_a_program() -> Result<()> {
    needs_root!();
    let mirror = Checked {
        id: "m",
        addresses: ["10.5.0.1", "fd05::1"],
    };
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let program = folder.join("check");
    std::fs::write(&program, PROGRAM)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let does = |manners: [&str; 2]| -> Result<()> {
        for (address, manner) in mirror.addresses.iter().zip(manners) {
            let path = folder.join(address);
            std::fs::write(path.with_extension("next"), format!("{manner}\n"))?;
            std::fs::rename(path.with_extension("next"), path)?;
        }
        Ok(())
    };
    does(["good", "good"])?;
    let command = format!("command = [{program:?}, {folder:?}, \"{{address}}\"]");
    let text = mirror.text(&format!("type = \"exec\", {command}"));
    let mut twins = Twins::start_in(Twins::place()?, &setup(&text))?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    does(["bad", "good"])?;
    mirror.comes_to(&mut twins, [false, true], "exit status 3")?;
    does(["good", "bad"])?;
    mirror.comes_to(&mut twins, [true, false], "exit status 3")?;
    does(["good", "good"])?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    does(["hang", "hang"])?;
    let killed = "still running after 240ms, killed";
    mirror.comes_to(&mut twins, [false, false], killed)?;
    does(["good", "good"])?;
    mirror.comes_to(&mut twins, [true, true], "")?;
    // Nothing of what hung is left, nor of what it had started.
    let hung = std::fs::read_to_string(folder.join("hung"))?;
    let hung: BTreeSet<&str> = hung.split_whitespace().collect();
    ensure!(hung.len() >= 8, "{hung:?}");
    twins.until("what hung is gone", |_| {
        Ok(!hung.iter().any(|id| is_running(id)))
    })?;
    // A program that cannot be started says nothing of the mirror.
    std::fs::remove_file(&program)?;
    twins.fast.logged("cannot run")?;
    twins.slow.logged("cannot run")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    mirror.answers_stay(&mut twins, [true, true])?;
    twins.stop()
}

/// Whether there is a process of this id that has not ended.
fn is_running(id: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn https_follows_a_certificate_as_far_as_it_is_asked_to() -> Result<()> {
    needs_root!();
    const HOST: &str = "www.example.org";
    // The same servers, asked for a good certificate, and for any.
    let addresses = ["10.5.0.1", "fd05::1"];
    let strict = Checked {
        id: "strict",
        addresses,
    };
    let lax = Checked {
        id: "lax",
        addresses,
    };
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let folder = tempfile::tempdir()?;
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, ours.pem())?;
    let verified = format!("type = \"https\", port = 8443, host = \"{HOST}\", body = {GOOD:?}");
    let unverified = format!("{verified}, verify = false");
    let start = |space: &Space, authority: &Authority, host, year| -> Result<Vec<Web>> {
        let addresses = addresses.iter();
        addresses
            .map(|address| Web::start_tls(space, at(address, 8443)?, authority.serve(host, year)?))
            .collect()
    };
    let configured = |strict_check: &str| {
        let mut setup = setup(&(strict.text(strict_check) + &lax.text(&unverified)));
        let file = roots.display().to_string();
        setup.environment.push(("SSL_CERT_FILE".into(), file));
        setup
    };
    let place = Twins::place()?;
    let mut webs = start(&place.client, &ours, HOST, 4000)?;
    let mut twins = Twins::start_in(place, &configured(&verified))?;
    let both_up = |twins: &mut Twins| {
        strict.comes_to(twins, [true, true], "")?;
        lax.comes_to(twins, [true, true], "")
    };
    both_up(&mut twins)?;
    for (authority, host, year, reason) in [
        (&others, HOST, 4000, "not from an authority"),
        (&ours, "www.example.com", 4000, "certificate"),
        (&ours, HOST, 2020, "certificate: expired"),
    ] {
        drop(webs);
        webs = start(&twins.pair.client, authority, host, year)?;
        strict.comes_to(&mut twins, [false, false], reason)?;
        lax.comes_to(&mut twins, [true, true], "")?;
        drop(webs);
        webs = start(&twins.pair.client, &ours, HOST, 4000)?;
        both_up(&mut twins)?;
    }
    // A reload reads the roots again.
    drop(webs);
    webs = start(&twins.pair.client, &others, HOST, 4000)?;
    strict.comes_to(&mut twins, [false, false], "not from an authority")?;
    std::fs::write(&roots, ours.pem() + &others.pem())?;
    twins.ok("reload")?;
    both_up(&mut twins)?;
    std::fs::write(&roots, ours.pem())?;
    twins.ok("reload")?;
    strict.comes_to(&mut twins, [false, false], "not from an authority")?;
    // Asked for any, it is as good as the other.
    twins.change(&configured(&unverified))?;
    both_up(&mut twins)?;
    // What comes within TLS counts, whoever vouches for it; and so does no TLS at all.
    for (manner, reason) in [
        (Manner::Error, "status 500"),
        (Manner::Silent, "TLS: no answer in 240ms"),
    ] {
        webs.iter().for_each(|web| web.set(manner));
        lax.comes_to(&mut twins, [false, false], reason)?;
        webs.iter().for_each(|web| web.set(Manner::Good));
        both_up(&mut twins)?;
    }
    twins.stop()
}

#[test]
fn too_many_failures_are_not_believed() -> Result<()> {
    needs_root!();
    const COUNT: usize = 4;
    let address = |number: usize| format!("10.5.0.{}", 1 + number);
    let place = Twins::place()?;
    let mut webs = Vec::new();
    let mut body = String::new();
    for number in 0..COUNT {
        webs.push(Some(Web::start(&place.client, at(&address(number), 80)?)?));
        body.push_str(&format!(
            "[[mirror]]\nid = \"m{number}\"\naddresses = [{:?}]\n\
             check = {{ type = \"http\", interval = \"250ms\", timeout = \"240ms\", fall = 2 }}\n",
            address(number)
        ));
    }
    for (id, policy) in [("each", "all"), ("first", "failover")] {
        let rest = format!(
            "mirrors = [\"m0\", \"m1\", \"m2\", \"m3\"]\npolicy = {policy:?}\nttl = 60\n\
             ttl_min = 60\npanic = 0.5"
        );
        body.push_str(&pool(id, &rest));
    }
    let mut twins = Twins::start_in(place, &setup(&body))?;
    let comes_to = |twins: &mut Twins, mirrors: &[usize]| -> Result<()> {
        let all: Vec<String> = mirrors.iter().map(|&number| address(number)).collect();
        for (name, want) in [("each", all.join(" ")), ("first", all[0].clone())] {
            twins.comes_to(ip(CLIENT), &format!("{name}.example.org"), A, &want)?;
        }
        Ok(())
    };
    comes_to(&mut twins, &[0, 1, 2, 3])?;
    webs[0] = None;
    comes_to(&mut twins, &[1, 2, 3])?;
    webs[1] = None;
    comes_to(&mut twins, &[2, 3])?;
    // Below a half: more likely it is we who see nothing.
    webs[2] = None;
    comes_to(&mut twins, &[0, 1, 2, 3])?;
    for number in 0..3 {
        let shown = twins.fast.json(&format!("mirror show m{number}"))?;
        ensure!(shown["checks"][0]["state"] == "down", "{shown}");
    }
    webs[3] = None;
    twins.until("all are down", |twins| {
        let shown = twins.fast.json("mirror show m3")?;
        Ok(shown["checks"][0]["state"] == "down")
    })?;
    comes_to(&mut twins, &[0, 1, 2, 3])?;
    // What the operator says is believed, and he who is taken down is none of the mirrors of which half
    // must be up.
    twins.ok("mirror down m0")?;
    comes_to(&mut twins, &[1, 2, 3])?;
    twins.ok("mirror auto m0")?;
    comes_to(&mut twins, &[0, 1, 2, 3])?;
    // One is too few still; with two, checks are believed again.
    for (number, want) in [(1, &[0, 1, 2, 3][..]), (3, &[1, 3])] {
        webs[number] = Some(Web::start(&twins.pair.client, at(&address(number), 80)?)?);
        twins.until("it is up", |twins| {
            let shown = twins.fast.json(&format!("mirror show m{number}"))?;
            Ok(shown["checks"][0]["state"] == "up")
        })?;
        comes_to(&mut twins, want)?;
    }
    for number in [0, 2] {
        webs[number] = Some(Web::start(&twins.pair.client, at(&address(number), 80)?)?);
    }
    comes_to(&mut twins, &[0, 1, 2, 3])?;
    twins.stop()
}
