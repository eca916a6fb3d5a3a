//! The loaded program, one packet at a time: what it answers, to the octet, what it passes and
//! why. Needs root, the two objects and a bpffs; no network.
//!
//! Run by `BPF_PROG_TEST_RUN`, where a frame comes in by `lo` and has room to grow at its tail;
//! what depends on that room is in the batteries over veth.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns::config::{Config, Metrics};
use geodns::geo::Layers;
use geodns::kernel::stub::Build;
use geodns::publish::Backend;
use geodns::serve::{Identity, Transport};
use geodns::world::{Inputs, World};
use geodns_common::abi::{self, Family, Row};
use geodns_common::layout::Listen;
use geodns_common::respond::respond;
use geodns_common::scratch::Scratch;
use geodns_common::tables::Tables;
use geodns_common::verdict::Verdict;
use geodns_tests::dns::{self, A, AAAA, ANY, Query, TXT};
use geodns_tests::needs_root;
use geodns_tests::packet::{CLIENT_MAC, Checksum, Frame, SERVER_MAC, checksum};
use geodns_tests::rig::{Action, Outcome, Responder, With, verified};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Instructions that the verifier may walk for a program; the kernel's own limit is a million.
const BUDGET: u32 = 400_000;

/// `lo`, in every namespace.
const LO: u32 = 1;
const SERVER4: &str = "192.0.2.53";
const SERVER6: &str = "2001:db8::53";
/// The MAC address of a VLAN that has one of its own.
const VLAN_MAC: [u8; 6] = [0x02, 0, 0, 0, 7, 0x53];
/// Listened on by another interface than the one that frames come in by here.
const ELSEWHERE: &str = "192.0.2.99";
const CLIENT4: &str = "10.1.2.3";
const CLIENT6: &str = "fd01::5";

/// The loaded program and the world that it answers from.
struct Fixture {
    responder: Responder,
    world: World,
}

impl Fixture {
    fn new() -> Result<Self> {
        let folder = geodns_tests::world::folder("pools_up_to_twelve_mirrors");
        let inputs = Inputs::read(&folder.join("geodns.toml"))?;
        let layers: Vec<_> = inputs
            .lists
            .iter()
            .map(|list| Layers {
                base: Arc::clone(list),
                ..Layers::default()
            })
            .collect();
        let world = inputs.compile(&layers, 1, [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210])?;
        let mut responder = {
            let plan = world.plan.read().expect("not poisoned");
            Responder::load(&*plan, plan.capacity())?
        };
        let outer = |number| Listen::tag(true, number);
        responder.listen_in(
            &[
                (SERVER4.parse()?, LO, SERVER_MAC),
                (SERVER6.parse()?, LO, SERVER_MAC),
                (ELSEWHERE.parse()?, 7777, SERVER_MAC),
            ],
            &[
                (Listen::vlan(1, 0), LO, SERVER_MAC),
                (Listen::vlan(100, 0), LO, SERVER_MAC),
                (Listen::vlan(outer(100), 0), LO, SERVER_MAC),
                (Listen::vlan(outer(0xfff), 2), LO, SERVER_MAC),
                (Listen::vlan(1, 2), LO, SERVER_MAC),
                (Listen::vlan(7, 0), LO, VLAN_MAC),
                (Listen::vlan(8, 0), 7777, SERVER_MAC),
            ],
        )?;
        Ok(Self { responder, world })
    }

    /// Asks the responder on the host, over the same plan.
    fn host(&self, message: &[u8], client: IpAddr) -> (Verdict, Vec<u8>) {
        let plan = self.world.plan.read().expect("not poisoned");
        let mut scratch = Scratch::new();
        if !scratch.set_query(message, client) {
            return (Verdict::MessageSize, Vec::new());
        }
        let verdict = respond(&mut scratch, &*plan);
        (verdict, scratch.message().to_vec())
    }

    /// Asks the slow path.
    fn slow(&self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let identity = Identity {
            id: self.world.inputs.config.server.id(),
            nsid: self.world.inputs.config.server.nsid(),
            version: Some("geodns".into()),
            cookies: None,
        };
        let mut response = Vec::new();
        geodns::serve::answer(
            &self.world,
            &identity,
            message,
            client,
            Transport::Udp,
            &mut response,
        )
        .then_some(response)
    }

    /// Runs a frame that has to be passed for this reason, as it came, by both builds.
    fn passes(&mut self, what: &str, frame: &[u8], verdict: Verdict) -> Result<()> {
        self.build_passes(Build::Plain, what, frame, verdict)?;
        self.build_passes(Build::Frags, what, frame, verdict)
    }

    fn build_passes(
        &mut self,
        build: Build,
        what: &str,
        frame: &[u8],
        verdict: Verdict,
    ) -> Result<()> {
        let outcome = self.responder.run_build(build, frame);
        let outcome = outcome.with_context(|| format!("{what}, {build:?}"))?;
        let expected = Outcome {
            action: Action::Pass,
            verdict,
            frame: frame.to_vec(),
        };
        ensure!(
            outcome == expected,
            "{what}: {:?} {:?}, not {verdict:?}; the frame {}",
            outcome.action,
            outcome.verdict,
            if outcome.frame == frame {
                "is as it came"
            } else {
                "was touched"
            },
        );
        Ok(())
    }

    /// Runs a frame that has to be answered, and compares the answer with the host's and the slow
    /// path's. Gives the DNS message.
    fn answers(&mut self, what: &str, frame: &Frame, verdict: Verdict) -> Result<Vec<u8>> {
        let outcome = self
            .responder
            .run(&frame.bytes())
            .context(what.to_owned())?;
        ensure!(
            (outcome.action, outcome.verdict) == (Action::Tx, verdict),
            "{what}: {:?} {:?}, not {verdict:?}",
            outcome.action,
            outcome.verdict
        );
        let with_frags = self.responder.run_build(Build::Frags, &frame.bytes())?;
        ensure!(
            with_frags == outcome,
            "{what}, with the frags mark: {with_frags:?}"
        );
        let message = frame.response(&outcome.frame).context(what.to_owned())?;
        let host = self.host(&frame.message, frame.source);
        ensure!(host.0 == verdict, "{what}: on the host {:?}", host.0);
        ensure!(
            host.1 == message,
            "{what}: on the host {:02x?}, in the kernel {message:02x?}",
            host.1
        );
        let slow = self.slow(&frame.message, frame.source);
        ensure!(
            slow.as_deref() == Some(message),
            "{what}: the slow path says {slow:02x?}, the kernel {message:02x?}"
        );
        Ok(message.to_vec())
    }
}

/// One load serves the tests that run at the same time.
fn fixture() -> Result<Arc<Mutex<Fixture>>> {
    static LOADED: Mutex<Weak<Mutex<Fixture>>> = Mutex::new(Weak::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fixture) = loaded.upgrade() {
        return Ok(fixture);
    }
    let fixture = Arc::new(Mutex::new(Fixture::new()?));
    *loaded = Arc::downgrade(&fixture);
    Ok(fixture)
}

fn lock(fixture: &Mutex<Fixture>) -> MutexGuard<'_, Fixture> {
    fixture.lock().unwrap_or_else(PoisonError::into_inner)
}

fn v4(message: Vec<u8>) -> Frame {
    Frame::new(CLIENT4, SERVER4, message)
}

fn v6(message: Vec<u8>) -> Frame {
    Frame::new(CLIENT6, SERVER6, message)
}

fn www() -> Vec<u8> {
    Query::new("www.example.org", A).bytes()
}

/// The frame of `www()`, changed at some octets.
fn changed(frame: &Frame, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = frame.bytes();
    change(&mut bytes);
    bytes
}

#[test]
fn every_program_is_within_the_verifiers_budget() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let fixture = lock(&fixture);
    let plan = fixture.world.plan.read().expect("not poisoned");
    for (name, count) in verified(&fixture.responder, &*plan, plan.capacity())? {
        println!("{name}: {count} instructions verified");
        ensure!(count > 0 && count < BUDGET, "{name}: {count} of {BUDGET}");
    }
    Ok(())
}

#[test]
fn an_answer_of_a_pool_is_counted_once_by_the_mirror_that_is_first_in_it() -> Result<()> {
    needs_root!();
    let folder = geodns_tests::world::folder("pools_up_to_twelve_mirrors");
    let mut config = Config::load(&folder.join("geodns.toml"))?;
    config.metrics = Some(Metrics {
        listen: Vec::new(),
        tls: None,
        by_zone: false,
        max_series: 1,
    });
    let inputs = Inputs::of(config)?;
    let world = inputs.compile(&inputs.layers(), 1, [1, 2])?;
    let plan = world.plan.read().expect("not poisoned");
    let mut responder = Responder::load(&*plan, plan.capacity())?;
    responder.listen(&[(SERVER4.parse()?, LO, SERVER_MAC)])?;
    let ids = plan.mirror_ids();
    let mut expected: HashMap<u64, u64> = ids.iter().map(|&id| (id, 0)).collect();
    for steer in &world.inputs.config.steers {
        let name = steer.name.fmt_with_dot().to_string().replace('*', "any");
        for client in 1..=50u8 {
            let source = Ipv4Addr::new(10, client, 2, 3);
            // What is not of the pool has no mirror, nor has what is passed.
            for (qtype, family) in [
                (A, Some(Family::V4)),
                (AAAA, Some(Family::V6)),
                (TXT, None),
                (ANY, None),
            ] {
                let query = Query::new(name.trim_end_matches('.'), qtype).bytes();
                let frame = Frame::new(&source.to_string(), SERVER4, query);
                let outcome = responder.run(&frame.bytes())?;
                let Some(family) = family.filter(|_| outcome.verdict == Verdict::Answered) else {
                    continue;
                };
                let selection = plan.select(steer.pool, family, source.into());
                let first = selection.mirrors.first().context("no mirror")?;
                let counter = plan.pools()[selection.pool].counter((*first).into());
                let id = ids[usize::try_from(counter)?];
                *expected.entry(id).or_default() += 1;
            }
        }
    }
    let counts = responder.instance.mirrors().context("nothing is counted")?;
    let counts: HashMap<u64, u64> = counts.by_id().into_iter().collect();
    ensure!(counts == expected, "{counts:?}, not {expected:?}");
    ensure!(
        expected.values().filter(|&&count| count > 0).count() > 3,
        "too few mirrors"
    );
    Ok(())
}

// Invariant 2
#[test]
fn a_packet_of_several_buffers_is_passed_as_it_came() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    // A query, and octets behind it that fill more than the first buffer.
    let mut long = v4(www()).bytes();
    long.resize(9000, 7);
    fixture.build_passes(Build::Frags, "padded", &long, Verdict::NoRoom)?;
    // A message that ends in the second buffer.
    let mut message = www();
    message.resize(8000, 7);
    let long = v4(message).bytes();
    fixture.build_passes(Build::Frags, "long", &long, Verdict::Truncated)?;
    fixture.answers("a short one", &v4(www()), Verdict::Answered)?;
    Ok(())
}

// Invariant 1
#[test]
fn answers_are_the_same_octets_in_the_kernel_on_the_host_and_in_the_slow_path() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let long = format!(
        "{0}.{0}.{0}.{1}.cdn.example.org",
        "x".repeat(63),
        "y".repeat(45)
    );
    let labels = "a.b.c.d.e.f.g.h.i.j.k.l.m.cdn.example.org";
    assert_eq!(dns::wire_name(&long).len(), 255);
    let names = [
        "www.example.org",
        "WwW.eXaMpLe.OrG",
        "a.cdn.example.org",
        "A.b.CDN.example.org",
        labels,
        &long,
        "trio.example.org",
        "old.example.org",
        "big.example.org",
        "example.net",
    ];
    let shapes: [fn(Query) -> Query; 8] = [
        |query| query,
        |query| query.flags(dns::RD),
        |query| query.flags(dns::AD | dns::CD),
        |query| query.edns(1232),
        |query| query.edns(4096).flags(dns::RD),
        |query| query.edns(0),
        |query| query.dnssec_ok(),
        |query| {
            query
                .option(dns::COOKIE, &[7; 8])
                .option(dns::PADDING, &[0; 31])
        },
    ];
    let clients = ["10.1.2.3", "10.2.2.3", "10.2.3.3", "10.2.3.4", "8.8.8.8"];
    let clients6 = [
        "fd01::5",
        "fd02::5",
        "fd02:0:0:1::5",
        "fd03:0:0:1::5",
        "2001:db8:ffff::5",
    ];
    let mut counts = [0; 2];
    for name in names {
        for qtype in [A, AAAA] {
            for shape in shapes {
                let query = shape(Query::new(name, qtype)).bytes();
                let frames = clients
                    .iter()
                    .map(|client| Frame::new(client, SERVER4, query.clone()))
                    .chain(
                        clients6
                            .iter()
                            .map(|client| Frame::new(client, SERVER6, query.clone())),
                    );
                for frame in frames {
                    let what = format!("{name} {qtype} from {}: {query:02x?}", frame.source);
                    let (verdict, _) = fixture.host(&query, frame.source);
                    match verdict {
                        Verdict::Answered | Verdict::Nodata => {
                            fixture.answers(&what, &frame, verdict)?;
                            counts[usize::from(verdict == Verdict::Nodata)] += 1;
                        }
                        // Larger than the client takes; all the others fit.
                        Verdict::TooLarge if name == "big.example.org" || name == long => {
                            fixture.passes(&what, &frame.bytes(), verdict)?;
                        }
                        other => anyhow::bail!("{what}: {other:?}"),
                    }
                }
            }
        }
    }
    ensure!(counts[0] > 1200 && counts[1] > 70, "{counts:?}");
    Ok(())
}

#[test]
fn zone_files_are_answered_in_the_kernel_as_in_the_slow_path() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let (static_, nodata, nxdomain) = (Verdict::Static, Verdict::Nodata, Verdict::Nxdomain);
    let cases = [
        ("example.org", dns::SOA, static_),
        ("example.org", dns::NS, static_),
        ("example.org", A, nodata),
        ("example.net", dns::NS, static_),
        ("example.net", dns::MX, nodata),
        ("ns1.example.org", A, static_),
        ("NS1.Example.ORG", A, static_),
        ("ns1.example.org", AAAA, nodata),
        ("ns1.example.org", 65280, nodata),
        ("mail.example.org", dns::MX, static_),
        ("text.example.org", dns::TXT, static_),
        ("long.example.org", A, static_),
        // Beside a pool.
        ("www.example.org", dns::TXT, static_),
        ("www.example.org", dns::HTTPS, nodata),
        ("trio.example.org", dns::TXT, nodata),
        // CNAMEs: asked for, and leading out of our zones.
        ("alias.example.org", dns::CNAME, static_),
        ("away.example.org", A, static_),
        ("away.example.org", dns::CNAME, static_),
        ("away.example.org", 65280, static_),
        // Wildcards, and where they end.
        ("x.wild.example.org", dns::TXT, static_),
        ("X.y.WILD.example.org", AAAA, static_),
        ("x.wild.example.org", A, nodata),
        ("*.wild.example.org", dns::TXT, static_),
        ("wild.example.org", dns::TXT, nodata),
        ("x.*.wild.example.org", dns::TXT, nxdomain),
        ("x.cdn.example.org", dns::TXT, nodata),
        ("cdn.example.org", A, nodata),
        ("box.cdn.example.org", A, nodata),
        ("x.box.cdn.example.org", A, nxdomain),
        ("absent.example.org", A, nxdomain),
        ("a.b.c.absent.example.org", dns::MX, nxdomain),
        ("x.www.example.org", A, nxdomain),
        ("Absent.Example.NET", A, nxdomain),
    ];
    let shapes: [fn(Query) -> Query; 6] = [
        |query| query,
        |query| query.flags(dns::RD | dns::CD),
        |query| query.edns(1232),
        |query| query.dnssec_ok().option(dns::COOKIE, &[7; 8]),
        |query| query.option(dns::NSID, &[]),
        // A client subnet is given back with SCOPE 0.
        |query| query.edns(1232).subnet(1, 20, 0, &[8, 8, 0]),
    ];
    for (name, qtype, verdict) in cases {
        for shape in shapes {
            let query = shape(Query::new(name, qtype)).bytes();
            for frame in [v4(query.clone()), v6(query)] {
                let what = format!("{name} {qtype}: {:02x?}", frame.message);
                fixture.answers(&what, &frame, verdict)?;
            }
        }
    }
    Ok(())
}

#[test]
fn each_client_gets_the_mirror_of_its_prefix() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let ams = (&["192.0.2.10"][..], &["2001:db8:1::10"][..]);
    let iad = (
        &["198.51.100.10", "198.51.100.11"][..],
        &["2001:db8:2::10", "2001:db8:2::11"][..],
    );
    let sin = (&["203.0.113.10"][..], &["2001:db8:3::10"][..]);
    let expected = [
        ("8.8.8.8", ams),
        ("10.0.255.255", ams),
        ("10.1.0.0", iad),
        ("10.1.255.255", iad),
        ("10.2.2.255", sin),
        ("10.2.3.3", iad),
        ("10.2.3.4", ams),
        ("10.2.3.5", iad),
        ("10.2.4.0", sin),
        ("10.3.0.0", ams),
        ("2001:db8::9", ams),
        ("fd01::", iad),
        ("fd01:0:ffff:ffff:ffff:ffff:ffff:ffff", iad),
        ("fd01:1::", ams),
        ("fd02::1", sin),
        ("fd02:0:0:1:ffff::", iad),
        ("fd02:0:0:2::", sin),
        ("fd03:0:0:1::", ams),
    ];
    for (client, mirror) in expected {
        let server = if client.contains(':') {
            SERVER6
        } else {
            SERVER4
        };
        for (qtype, rtype, addresses) in [(A, "A", mirror.0), (AAAA, "AAAA", mirror.1)] {
            let frame = Frame::new(client, server, Query::new("www.example.org", qtype).bytes());
            let message = fixture.answers(client, &frame, Verdict::Answered)?;
            let reply = dns::Reply::parse(&message)?;
            ensure!(reply.of(rtype) == addresses, "{client}: {reply}");
        }
    }
    Ok(())
}

#[test]
fn a_steered_name_without_the_family_has_no_data_and_the_zones_soa() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let frame = v4(Query::new("oLd.example.ORG", AAAA).edns(1232).bytes());
    let message = fixture.answers("old AAAA", &frame, Verdict::Nodata)?;
    let reply = dns::Reply::parse(&message)?;
    ensure!(reply.rcode == 0 && reply.answers.is_empty(), "{reply}");
    ensure!(reply.authority.len() == 1, "{reply}");
    // min(SOA TTL, MINIMUM) (RFC 2308 section 3)
    let soa = &reply.authority[0];
    ensure!(soa.contains(" 300 SOA ns1.example.org"), "{soa}");
    ensure!(soa.to_lowercase().starts_with("example.org"), "{soa}");
    Ok(())
}

#[test]
fn frames_come_back_as_they_were_tagged() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let tags: [&[(u16, u16)]; 9] = [
        &[],
        &[(0x8100, 0x6064)],
        &[(0x88a8, 0x0064)],
        &[(0x88a8, 0x1fff), (0x8100, 0xe002)],
        &[(0x8100, 0x0001), (0x8100, 0x0002)],
        // A priority, and no VLAN.
        &[(0x8100, 0xe000)],
        &[(0x8100, 0x6000), (0x8100, 0x0064)],
        &[(0x88a8, 0x0064), (0x8100, 0xe000)],
        &[(0x88a8, 0xe000), (0x8100, 0xe000)],
    ];
    for tags in tags {
        for mut frame in [v4(www()), v6(www())] {
            frame.tags = tags.to_vec();
            for name in ["www.example.org", "big.example.org", "old.example.org"] {
                frame.message = Query::new(name, AAAA).edns(1232).bytes();
                let verdict = if name.starts_with("old") {
                    Verdict::Nodata
                } else {
                    Verdict::Answered
                };
                fixture.answers(&format!("{name} {tags:x?}"), &frame, verdict)?;
            }
        }
    }
    // VLANs that are not there: another number, another kind, one upon another, one of another interface.
    let unknown: [&[(u16, u16)]; 6] = [
        &[(0x8100, 0x0065)],
        &[(0x88a8, 0x0001)],
        &[(0x8100, 0x0064), (0x8100, 0x0002)],
        &[(0x88a8, 0x0064), (0x8100, 0x0001)],
        &[(0x8100, 0x0002)],
        &[(0x8100, 0x0008)],
    ];
    for tags in unknown {
        for mut frame in [v4(www()), v6(www())] {
            frame.tags = tags.to_vec();
            let verdict = Verdict::OtherAddress;
            fixture.passes(&format!("{tags:x?}"), &frame.bytes(), verdict)?;
        }
    }
    // A VLAN has its own MAC address.
    let mut frame = v4(www());
    frame.tags = vec![(0x8100, 0x0007)];
    fixture.passes("the interface's MAC", &frame.bytes(), Verdict::OtherMac)?;
    frame.macs[0] = VLAN_MAC;
    fixture.answers("the VLAN's MAC", &frame, Verdict::Answered)?;
    frame.tags = Vec::new();
    fixture.passes("no tag", &frame.bytes(), Verdict::OtherMac)?;

    let not_ip: [&[(u16, u16)]; 3] = [
        &[(0x8100, 1), (0x8100, 2), (0x8100, 3)],
        &[(0x88a8, 1), (0x88a8, 2)],
        &[(0x8100, 1), (0x88a8, 2)],
    ];
    for tags in not_ip {
        for mut frame in [v4(www()), v6(www())] {
            frame.tags = tags.to_vec();
            fixture.passes(&format!("{tags:x?}"), &frame.bytes(), Verdict::NotIp)?;
        }
    }
    Ok(())
}

#[test]
fn a_message_is_as_long_as_the_udp_header_says() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    // Padding shorter and longer than the answer: the frame grows, stays and shrinks.
    for mut frame in [v4(www()), v6(www())] {
        let answer = fixture
            .answers("unpadded", &frame, Verdict::Answered)?
            .len();
        let grows = answer - frame.message.len();
        for padding in [1, 6, grows - 1, grows, grows + 1, 200, 1400] {
            frame.padding = padding;
            fixture.answers(&format!("{padding} of padding"), &frame, Verdict::Answered)?;
        }
        // Octets between the end of UDP and the end of IP belong to nobody either.
        let mut short = frame.clone();
        short.padding = 0;
        let at = short.udp() + 4;
        short.message.extend([0; 5]);
        let mut bytes = short.bytes();
        let udp_len = 8 + www().len() as u16;
        bytes[at..at + 2].copy_from_slice(&udp_len.to_be_bytes());
        // The checksum is that of the query alone.
        bytes[at + 2..at + 4].copy_from_slice(&frame.bytes()[at + 2..at + 4]);
        let outcome = fixture.responder.run(&bytes)?;
        short.message.truncate(www().len());
        short
            .response(&outcome.frame)
            .context("UDP shorter than IP")?;
    }
    Ok(())
}

#[test]
fn checksums_are_computed_whole() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    for sum in [
        Checksum::Right,
        Checksum::None,
        Checksum::Partial,
        Checksum::Wrong,
    ] {
        for mut frame in [v4(www()), v6(www())] {
            frame.checksum = sum;
            for name in ["www.example.org", "trio.example.org", "odd.cdn.example.org"] {
                frame.message = Query::new(name, A).bytes();
                let what = format!("{name} {sum:?}");
                if sum == Checksum::None && frame.source.is_ipv6() {
                    fixture.passes(&what, &frame.bytes(), Verdict::NoChecksum)?;
                } else {
                    fixture.answers(&what, &frame, Verdict::Answered)?;
                }
            }
        }
    }
    Ok(())
}

/// The network stack knows of a packet that its checksum is to be finished, and where that is.
#[test]
fn the_stack_finishes_checksums_at_their_place_and_wrong_ones_are_passed_to_it() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    fixture.responder.set_generic(true)?;
    let mut check = || {
        for mut frame in [v4(www()), v6(www())] {
            for name in ["www.example.org", "trio.example.org", "odd.cdn.example.org"] {
                frame.message = Query::new(name, A).bytes();
                frame.checksum = Checksum::Partial;
                let outcome = fixture.responder.run(&frame.bytes())?;
                let message = frame.unfinished_response(&outcome.frame).context(name)?;
                let (_, expected) = fixture.host(&frame.message, frame.source);
                ensure!(message == expected, "{name}: another answer");
                frame.checksum = Checksum::Right;
                fixture.answers(name, &frame, Verdict::Answered)?;
                frame.checksum = Checksum::Wrong;
                fixture.passes(name, &frame.bytes(), Verdict::Checksum)?;
            }
        }
        Ok(())
    };
    let checked = check();
    fixture.responder.set_generic(false)?;
    checked
}

#[test]
fn a_checksum_that_comes_to_zero_is_sent_as_ffff() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    for mut frame in [v4(www()), v6(www())] {
        // The response's checksum, were it to port 0, is the port that makes it zero.
        let response = fixture.host(&frame.message, frame.source).1;
        let mut zero = frame.clone();
        zero.ports = [53, 0];
        zero.macs.swap(0, 1);
        (zero.source, zero.destination) = (frame.destination, frame.source);
        zero.message = response;
        let bytes = zero.bytes();
        let at = zero.udp() + 6;
        frame.ports[0] = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let outcome = fixture.responder.run(&frame.bytes())?;
        frame.response(&outcome.frame)?;
        ensure!(
            outcome.frame[at..at + 2] == [0xff, 0xff],
            "{:?}",
            &outcome.frame[at..at + 2]
        );
    }
    Ok(())
}

// Invariant 2
#[test]
fn packets_that_are_not_plain_queries_to_us_pass_as_they_came() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let (four, six) = (v4(www()), v6(www()));
    let ip = four.ip();
    let udp4 = four.udp();
    let udp6 = six.udp();
    let with = |frame: &Frame, edit: fn(&mut Frame)| {
        let mut frame = frame.clone();
        edit(&mut frame);
        frame.bytes()
    };
    let from = |source: &str| Frame::new(source, SERVER4, www()).bytes();
    let from6 = |source: &str| Frame::new(source, SERVER6, www()).bytes();
    let next_header = |number: u8| changed(&six, |bytes| bytes[ip + 6] = number);
    let elsewhere = |frame: &Frame| with(frame, |frame| frame.ports[1] = 4500);
    // The frame with options, or extension headers, and with another octet at each of these places.
    let options = |bytes: &[u8], words: u8, edits: &[(usize, u8)]| {
        let mut bytes = bytes.to_vec();
        bytes[ip] += words;
        bytes.splice(ip + 20..ip + 20, vec![1; 4 * usize::from(words)]);
        let total_len = u16::from_be_bytes([bytes[ip + 2], bytes[ip + 3]]) + 4 * u16::from(words);
        bytes[ip + 2..ip + 4].copy_from_slice(&total_len.to_be_bytes());
        for &(at, octet) in edits {
            bytes[ip + at] = octet;
        }
        bytes
    };
    let extended = |bytes: &[u8], first: u8, headers: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[ip + 6] = first;
        bytes.splice(ip + 40..ip + 40, headers.iter().copied());
        let len = u16::from_be_bytes([bytes[ip + 4], bytes[ip + 5]]) + headers.len() as u16;
        bytes[ip + 4..ip + 6].copy_from_slice(&len.to_be_bytes());
        bytes
    };
    // An extension header of 8 octets, then what comes next; one of 24; fragments.
    let short = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let long = |next: u8| [&[next, 2, 1, 20][..], &[0; 20]].concat();
    let fragment = |next: u8, offset: u8| [next, 0, 0, offset << 3 | 1, 0, 0, 0, 7];
    let with_more = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[ip + 6] = 0x20;
        bytes
    };
    let (v4_bytes, v6_bytes) = (four.bytes(), six.bytes());
    let (to_other4, to_other6) = (elsewhere(&four), elsewhere(&six));
    let other_address6 = Frame::new(CLIENT6, "2001:db8::54", www()).bytes();

    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        (
            "ARP",
            changed(&four, |bytes| bytes[12..14].copy_from_slice(&[8, 6])),
            Verdict::NotIp,
        ),
        (
            "a length for an ethertype",
            changed(&four, |bytes| bytes[12..14].copy_from_slice(&[0, 60])),
            Verdict::NotIp,
        ),
        (
            "version 4 in IPv6",
            changed(&six, |bytes| bytes[ip] = 0x45),
            Verdict::NotIp,
        ),
        (
            "a broadcast",
            with(&four, |frame| frame.macs[0] = [0xff; 6]),
            Verdict::OtherMac,
        ),
        (
            "a multicast",
            with(&six, |frame| frame.macs[0] = [0x33, 0x33, 0, 0, 0, 0x53]),
            Verdict::OtherMac,
        ),
        (
            "another machine's MAC",
            with(&four, |frame| frame.macs[0][5] ^= 1),
            Verdict::OtherMac,
        ),
        (
            "another address",
            Frame::new(CLIENT4, "192.0.2.54", www()).bytes(),
            Verdict::OtherAddress,
        ),
        (
            "another IPv6 address",
            Frame::new(CLIENT6, "2001:db8::54", www()).bytes(),
            Verdict::OtherAddress,
        ),
        (
            "an address of another interface",
            Frame::new(CLIENT4, ELSEWHERE, www()).bytes(),
            Verdict::OtherAddress,
        ),
        (
            "our IPv4 address, mapped",
            Frame::new(CLIENT6, "::ffff:192.0.2.53", www()).bytes(),
            Verdict::OtherAddress,
        ),
        (
            "another port",
            with(&four, |frame| frame.ports[1] = 5353),
            Verdict::OtherPort,
        ),
        (
            "another port by IPv6",
            with(&six, |frame| frame.ports[1] = 54),
            Verdict::OtherPort,
        ),
        (
            "source port 0",
            with(&four, |frame| frame.ports[0] = 0),
            Verdict::Martian,
        ),
        (
            "TCP",
            changed(&four, |bytes| bytes[ip + 9] = 6),
            Verdict::NotUdp,
        ),
        ("TCP by IPv6", next_header(6), Verdict::NotUdp),
        ("ICMPv6", next_header(58), Verdict::NotUdp),
        (
            "IPv4 options",
            options(&v4_bytes, 1, &[]),
            Verdict::IpOptions,
        ),
        (
            "all IPv4 options",
            options(&v4_bytes, 10, &[]),
            Verdict::IpOptions,
        ),
        (
            "a later fragment with options",
            options(&v4_bytes, 10, &[(7, 1)]),
            Verdict::IpOptions,
        ),
        (
            "options to another port",
            options(&to_other4, 3, &[]),
            Verdict::OtherPort,
        ),
        (
            "a TCP SYN with options",
            options(&v4_bytes, 2, &[(9, 6)]),
            Verdict::NotUdp,
        ),
        (
            "a later fragment of TCP with options",
            options(&v4_bytes, 2, &[(7, 9), (9, 6)]),
            Verdict::NotUdp,
        ),
        (
            "options to another address",
            options(&v4_bytes, 1, &[(19, 54)]),
            Verdict::OtherAddress,
        ),
        (
            "options and no UDP",
            options(&v4_bytes, 10, &[])[..ip + 66].to_vec(),
            Verdict::Truncated,
        ),
        (
            "a header length of 4",
            changed(&four, |bytes| bytes[ip] = 0x44),
            Verdict::Truncated,
        ),
        (
            "another version",
            changed(&four, |bytes| bytes[ip] = 0x65),
            Verdict::NotIp,
        ),
        (
            "a fragment of ESP",
            changed(&four, |bytes| (bytes[ip + 6], bytes[ip + 9]) = (0x20, 50)),
            Verdict::NotUdp,
        ),
        (
            "a later fragment of ESP",
            changed(&four, |bytes| (bytes[ip + 7], bytes[ip + 9]) = (9, 50)),
            Verdict::NotUdp,
        ),
        (
            "a first fragment to another port",
            with_more(&to_other4),
            Verdict::OtherPort,
        ),
        (
            "hop-by-hop options",
            extended(&v6_bytes, 0, &short(17)),
            Verdict::IpOptions,
        ),
        (
            "a routing header",
            extended(&v6_bytes, 43, &long(17)),
            Verdict::IpOptions,
        ),
        (
            "destination options",
            extended(&v6_bytes, 60, &short(17)),
            Verdict::IpOptions,
        ),
        (
            "several of them",
            extended(
                &v6_bytes,
                0,
                &[&short(60)[..], &long(43), &short(44), &fragment(17, 0)].concat(),
            ),
            Verdict::IpOptions,
        ),
        (
            "more than are walked",
            extended(&v6_bytes, 60, &[short(60); 9].concat()),
            Verdict::IpOptions,
        ),
        (
            "destination options to another port",
            extended(&to_other6, 60, &short(17)),
            Verdict::OtherPort,
        ),
        (
            "destination options to another address",
            extended(&other_address6, 60, &short(17)),
            Verdict::OtherAddress,
        ),
        (
            "TCP behind options",
            extended(&v6_bytes, 0, &[&long(60)[..], &short(6)].concat()),
            Verdict::NotUdp,
        ),
        (
            "options that lead out of the frame",
            changed(&six, |bytes| {
                (bytes[ip + 6], bytes[ip + 40], bytes[ip + 41]) = (0, 60, 200);
            }),
            Verdict::Truncated,
        ),
        (
            "a first fragment of IPv6",
            extended(&v6_bytes, 44, &fragment(17, 0)),
            Verdict::Fragment,
        ),
        (
            "a later fragment of IPv6",
            extended(&to_other6, 44, &fragment(17, 9)),
            Verdict::Fragment,
        ),
        (
            "a later fragment of what options stand before",
            extended(&v6_bytes, 44, &fragment(60, 9)),
            Verdict::Fragment,
        ),
        (
            "a first fragment of IPv6 to another port",
            extended(&to_other6, 44, &fragment(17, 0)),
            Verdict::OtherPort,
        ),
        (
            "a later fragment of ESP over IPv6",
            extended(&v6_bytes, 44, &fragment(50, 9)),
            Verdict::NotUdp,
        ),
        (
            "first fragment",
            changed(&four, |bytes| bytes[ip + 6] = 0x20),
            Verdict::Fragment,
        ),
        (
            "last fragment",
            changed(&four, |bytes| bytes[ip + 7] = 1),
            Verdict::Fragment,
        ),
        (
            "fragment, far",
            changed(&four, |bytes| bytes[ip + 6] = 0x1f),
            Verdict::Fragment,
        ),
        ("from this network", from("0.1.2.3"), Verdict::Martian),
        ("from nobody", from("0.0.0.0"), Verdict::Martian),
        ("from loopback", from("127.0.0.1"), Verdict::Martian),
        ("from multicast", from("224.0.0.251"), Verdict::Martian),
        ("from class E", from("240.0.0.1"), Verdict::Martian),
        ("from broadcast", from("255.255.255.255"), Verdict::Martian),
        ("from ourselves", from(SERVER4), Verdict::Martian),
        ("from ::", from6("::"), Verdict::Martian),
        ("from ::1", from6("::1"), Verdict::Martian),
        ("from IPv6 multicast", from6("ff02::1"), Verdict::Martian),
        (
            "from a mapped address",
            from6("::ffff:10.1.2.3"),
            Verdict::Martian,
        ),
        ("from ourselves by IPv6", from6(SERVER6), Verdict::Martian),
        (
            "IP longer than the frame",
            changed(&four, |bytes| bytes[ip + 3] += 1),
            Verdict::Truncated,
        ),
        (
            "IP shorter than its header",
            changed(&four, |bytes| {
                bytes[ip + 2..ip + 4].copy_from_slice(&[0, 19])
            }),
            Verdict::Truncated,
        ),
        (
            "IPv6 longer than the frame",
            changed(&six, |bytes| bytes[ip + 5] += 1),
            Verdict::Truncated,
        ),
        (
            "UDP longer than IP",
            changed(&four, |bytes| bytes[udp4 + 5] += 1),
            Verdict::Truncated,
        ),
        (
            "UDP longer than IPv6",
            changed(&six, |bytes| bytes[udp6 + 5] += 1),
            Verdict::Truncated,
        ),
        (
            "UDP shorter than its header",
            changed(&four, |bytes| {
                bytes[udp4 + 4..udp4 + 6].copy_from_slice(&[0, 7])
            }),
            Verdict::Truncated,
        ),
        (
            "a frame cut in the tag",
            with(&four, |frame| frame.tags = vec![(0x8100, 1)])[..16].to_vec(),
            Verdict::Truncated,
        ),
        (
            "a frame cut in IPv4",
            four.bytes()[..30].to_vec(),
            Verdict::Truncated,
        ),
        (
            "a frame cut in IPv6",
            six.bytes()[..50].to_vec(),
            Verdict::Truncated,
        ),
        (
            "a frame cut in UDP",
            six.bytes()[..58].to_vec(),
            Verdict::Truncated,
        ),
        (
            "a frame cut in DNS",
            four.bytes()[..60].to_vec(),
            Verdict::Truncated,
        ),
    ];
    for (what, frame, verdict) in cases {
        fixture.passes(what, &frame, verdict)?;
    }
    // Not a fragment: "do not" is what it says.
    let frame = changed(&four, |bytes| bytes[ip + 6] = 0x40);
    let outcome = fixture.responder.run(&frame)?;
    four.response(&outcome.frame).context("DF")?;
    Ok(())
}

#[test]
fn responses_are_dropped() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let query = Query::new("www.example.org", A);
    for flags in [dns::QR, dns::QR | dns::AA, dns::QR | 5 << 11] {
        let bytes =
            Frame::new("10.1.2.3", "192.0.2.53", query.clone().flags(flags).bytes()).bytes();
        let outcome = fixture.responder.run(&bytes)?;
        ensure!(
            (outcome.action, outcome.verdict) == (Action::Drop, Verdict::Response),
            "{outcome:?}"
        );
    }
    Ok(())
}

// Invariant 2
#[test]
fn messages_for_the_slow_path_pass_as_they_came() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let www = || Query::new("www.example.org", A);
    let name = |wire: &[u8]| {
        let mut query = www();
        query.name = wire.to_vec();
        query.bytes()
    };
    let counts = |counts: [u16; 4]| {
        let mut query = www();
        query.counts = Some(counts);
        query.bytes()
    };
    let trailing = |query: Query, octets: &[u8]| {
        let mut query = query;
        query.trailer = octets.to_vec();
        query.bytes()
    };
    let edns = |edit: fn(&mut dns::Edns)| {
        let mut query = www().edns(1232);
        edit(query.edns.as_mut().expect("just set"));
        query.bytes()
    };
    let class = |class: u16| {
        let mut query = www();
        query.class = class;
        query.bytes()
    };
    let opt = |change: fn(&mut [u8])| {
        let mut bytes = www().edns(1232).bytes();
        let at = bytes.len() - 11;
        change(&mut bytes[at..]);
        bytes
    };
    let labels = "a.b.c.d.e.f.g.h.i.j.k.l.m.n.cdn.example.org";
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("nothing", vec![], Verdict::MessageSize),
        (
            "a header",
            www().bytes()[..12].to_vec(),
            Verdict::MessageSize,
        ),
        (
            "513 octets",
            trailing(www(), &[0; 480]),
            Verdict::MessageSize,
        ),
        (
            "opcode NOTIFY",
            www().flags(4 << 11).bytes(),
            Verdict::Header,
        ),
        (
            "opcode UPDATE",
            www().flags(5 << 11).bytes(),
            Verdict::Header,
        ),
        ("AA", www().flags(dns::AA).bytes(), Verdict::Header),
        ("TC", www().flags(dns::TC).bytes(), Verdict::Header),
        ("RA", www().flags(dns::RA).bytes(), Verdict::Header),
        ("Z", www().flags(dns::Z).bytes(), Verdict::Header),
        ("an rcode", www().flags(3).bytes(), Verdict::Header),
        ("no question", counts([0, 0, 0, 0]), Verdict::Counts),
        ("two questions", counts([2, 0, 0, 0]), Verdict::Counts),
        ("an answer", counts([1, 1, 0, 0]), Verdict::Counts),
        ("an authority", counts([1, 0, 1, 0]), Verdict::Counts),
        ("two additional", counts([1, 0, 0, 2]), Verdict::Counts),
        ("a pointer", name(&[0xc0, 12]), Verdict::BadName),
        (
            "a pointer after a label",
            name(&[3, b'w', b'w', b'w', 0xc0, 12]),
            Verdict::BadName,
        ),
        ("an extended label", name(&[0x41, 0, 0]), Verdict::BadName),
        (
            "a name without an end",
            name(&[63, b'w', b'w', b'w']),
            Verdict::BadName,
        ),
        (
            "a name of 256 octets",
            name(&[&[63; 64].repeat(4)[..], &[0]].concat()),
            Verdict::BadName,
        ),
        (
            "17 labels",
            Query::new(labels, A).bytes(),
            Verdict::ManyLabels,
        ),
        ("class CH", class(3), Verdict::Class),
        ("class ANY", class(255), Verdict::Class),
        (
            "ANY",
            Query::new("www.example.org", dns::ANY).bytes(),
            Verdict::Qtype,
        ),
        (
            "type 0",
            Query::new("www.example.org", 0).bytes(),
            Verdict::Qtype,
        ),
        (
            "OPT",
            Query::new("www.example.org", 41).bytes(),
            Verdict::Qtype,
        ),
        (
            "DS",
            Query::new("www.example.org", 43).bytes(),
            Verdict::Qtype,
        ),
        (
            "NXNAME",
            Query::new("absent.example.org", 128).bytes(),
            Verdict::Qtype,
        ),
        (
            "an octet too many",
            trailing(www(), &[0]),
            Verdict::Trailing,
        ),
        (
            "an octet too many after the OPT",
            trailing(www().edns(1232), &[0]),
            Verdict::Trailing,
        ),
        (
            "no OPT where one is counted",
            counts([1, 0, 0, 1]),
            Verdict::BadOpt,
        ),
        (
            "an OPT cut short",
            www().edns(1232).bytes()[..41].to_vec(),
            Verdict::BadOpt,
        ),
        (
            "an OPT of another name",
            opt(|opt| opt[0] = 1),
            Verdict::BadOpt,
        ),
        (
            "a TSIG for an OPT",
            opt(|opt| opt[2] = 250),
            Verdict::BadOpt,
        ),
        (
            "an OPT longer than the message",
            opt(|opt| opt[10] = 4),
            Verdict::BadOpt,
        ),
        (
            "an option longer than the OPT",
            {
                let mut bytes = www().option(dns::PADDING, &[0; 8]).bytes();
                let at = bytes.len() - 9;
                bytes[at] = 9;
                bytes
            },
            Verdict::BadOpt,
        ),
        (
            "EDNS version 1",
            edns(|edns| edns.version = 1),
            Verdict::EdnsVersion,
        ),
        (
            "a private client subnet",
            www().subnet(1, 24, 0, &[10, 1, 2]).bytes(),
            Verdict::EdnsOption,
        ),
        (
            "a malformed client subnet after a cookie",
            www()
                .option(dns::COOKIE, &[0; 8])
                .subnet(1, 8, 0, &[])
                .bytes(),
            Verdict::EdnsOption,
        ),
        (
            "a malformed cookie",
            www().option(dns::COOKIE, &[0; 9]).bytes(),
            Verdict::EdnsOption,
        ),
        (
            "a name of nobody",
            Query::new("www.example.com", A).bytes(),
            Verdict::UnknownName,
        ),
        ("the root", Query::new("", A).bytes(), Verdict::UnknownName),
        (
            "a zone cut",
            Query::new("sub.example.org", A).bytes(),
            Verdict::SlowName,
        ),
        (
            "glue",
            Query::new("ns.sub.example.org", A).bytes(),
            Verdict::SlowName,
        ),
        (
            "below a cut",
            Query::new("absent.ns.sub.example.org", A).bytes(),
            Verdict::SlowName,
        ),
        (
            "a DNAME",
            Query::new("moved.example.org", A).bytes(),
            Verdict::SlowName,
        ),
        (
            "below a DNAME",
            Query::new("x.moved.example.org", A).bytes(),
            Verdict::SlowName,
        ),
        (
            "a CNAME to follow",
            Query::new("alias.example.org", A).bytes(),
            Verdict::SlowRecords,
        ),
        (
            "a long RRset",
            Query::new("long.example.org", dns::TXT).edns(1232).bytes(),
            Verdict::SlowRecords,
        ),
        (
            "more records than the tables hold",
            Query::new("wide.example.org", A).bytes(),
            Verdict::SlowPool,
        ),
        (
            "more than 512 octets",
            Query::new("big.example.org", AAAA).bytes(),
            Verdict::TooLarge,
        ),
        (
            "more than the client takes",
            Query::new("big.example.org", AAAA).edns(600).bytes(),
            Verdict::TooLarge,
        ),
    ];
    for (what, message, verdict) in &cases {
        for frame in [v4(message.clone()), v6(message.clone())] {
            fixture.passes(what, &frame.bytes(), *verdict)?;
            let (host, _) = fixture.host(message, frame.source);
            ensure!(host == *verdict, "{what}: on the host {host:?}");
        }
    }
    // A prefix longer than /64: its /64 is the slow path's.
    for client in ["fd03::1", "fd03:0:0:0:8000::1"] {
        let frame = Frame::new(client, SERVER6, www().bytes());
        fixture.passes(client, &frame.bytes(), Verdict::NoRegion)?;
    }
    Ok(())
}

// Invariant 12
#[test]
fn nobody_is_answered_when_the_daemon_has_not_been_heard() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    fixture.answers("heard", &v4(www()), Verdict::Answered)?;
    fixture.responder.heartbeat(Duration::ZERO)?.beat();
    // The program's clock is coarse: a tick or two.
    std::thread::sleep(Duration::from_millis(50));
    let result = [v4(www()), v6(www())]
        .iter()
        .try_for_each(|frame| fixture.passes("unheard", &frame.bytes(), Verdict::Stale));
    fixture.responder.heartbeat.beat();
    result?;
    fixture.answers("heard again", &v4(www()), Verdict::Answered)?;
    Ok(())
}

#[test]
fn a_zone_that_is_being_changed_passes() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let mut other = {
        let plan = fixture.world.plan.read().expect("not poisoned");
        let zones = (0..)
            .map_while(|index| plan.zone(index))
            .map(|zone| abi::Zone {
                row: Row::new(zone.row.load() | abi::Zone::PASS),
                ..zone.clone()
            })
            .collect();
        fixture
            .responder
            .another(&With::zones(&*plan, zones), plan.capacity(), 0)?
    };
    std::mem::swap(&mut fixture.responder.instance, &mut other);
    let result = fixture.passes("changing", &v4(www()).bytes(), Verdict::ZonePass);
    std::mem::swap(&mut fixture.responder.instance, &mut other);
    result
}

// Invariant 3
#[test]
fn an_override_changes_the_answers_in_place() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let frame = |client: &str| Frame::new(client, SERVER4, www());
    let pool = fixture
        .world
        .inputs
        .config
        .pools
        .iter()
        .position(|pool| pool.id == "www")
        .context("no pool www")?;
    let edit = |fixture: &mut Fixture, mirror: Option<u8>| -> Result<()> {
        let mut plan = fixture.world.plan.write().expect("not poisoned");
        let stores = plan.set_override(pool, "10.1.2.0/24".parse()?, mirror)?;
        fixture.responder.instance.apply(&stores)?;
        fixture.responder.instance.grace()?;
        plan.reclaim();
        Ok(())
    };
    let expect = |fixture: &mut Fixture, client: &str, address: &str| -> Result<()> {
        let message = fixture.answers(client, &frame(client), Verdict::Answered)?;
        let reply = dns::Reply::parse(&message)?;
        ensure!(reply.of("A")[0] == address, "{client}: {reply}");
        Ok(())
    };
    expect(&mut fixture, "10.1.2.3", "198.51.100.10")?;
    edit(&mut fixture, Some(2))?;
    expect(&mut fixture, "10.1.2.3", "203.0.113.10")?;
    expect(&mut fixture, "10.1.3.3", "198.51.100.10")?;
    edit(&mut fixture, None)?;
    expect(&mut fixture, "10.1.2.3", "198.51.100.10")
}

// Invariant 2
#[test]
fn mutilated_packets_are_passed_untouched_or_answered_right() -> Result<()> {
    needs_root!();
    let fixture = fixture()?;
    let mut fixture = lock(&fixture);
    let seed = 0x6e_0d_05;
    let mut random = StdRng::seed_from_u64(seed);
    let mut answered = 0;
    for round in 0..6000 {
        let bytes = mutilated(&mut random);
        let outcome = fixture.responder.run(&bytes)?;
        let what = || {
            format!(
                "round {round} of seed {seed}: {:?}: {bytes:02x?}",
                outcome.verdict
            )
        };
        match outcome.action {
            Action::Pass | Action::Drop => {
                let dropped = outcome.action == Action::Drop;
                ensure!(!outcome.verdict.is_answer(), "{}", what());
                ensure!(outcome.verdict.is_drop() == dropped, "{}", what());
                ensure!(outcome.frame == bytes, "touched: {}", what());
            }
            Action::Tx => {
                let frame = Frame::parse(&bytes).with_context(what)?;
                let message = frame.response(&outcome.frame).with_context(what)?;
                let (verdict, response) = fixture.host(&frame.message, frame.source);
                ensure!(
                    verdict == outcome.verdict && response == message,
                    "{}",
                    what()
                );
                let slow = fixture.slow(&frame.message, frame.source);
                ensure!(slow.as_deref() == Some(message), "{}: {slow:02x?}", what());
                answered += 1;
            }
            other => anyhow::bail!("{other:?}: {}", what()),
        }
    }
    println!("{answered} of 6000 answered");
    ensure!(
        (300..5700).contains(&answered),
        "{answered} of 6000 answered: the mix is no test"
    );
    Ok(())
}

/// A packet that is near to one of those that are answered, or far from it.
fn mutilated(random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 20) {
        return (0..random.random_range(14..200))
            .map(|_| random.random())
            .collect();
    }
    let names = [
        "www.example.org",
        "x.Y.cdn.example.org",
        "old.example.org",
        "trio.example.org",
    ];
    let mut query = Query::new(
        names[random.random_range(0..names.len())],
        [A, AAAA][random.random_range(0..2)],
    );
    if random.random() {
        query = query.edns(1232);
    }
    if random.random_ratio(1, 4) {
        query = query.option(dns::COOKIE, &random.random::<[u8; 8]>());
    }
    query.id = random.random();
    let mut frame = if random.random() {
        v4(query.bytes())
    } else {
        v6(query.bytes())
    };
    for _ in 0..random.random_range(0..3) {
        frame
            .tags
            .push(([0x8100, 0x88a8][random.random_range(0..2)], random.random()));
    }
    frame.padding = [0, 0, 4, 100][random.random_range(0..4)];
    frame.ports[0] = random.random();
    let mut bytes = frame.bytes();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            _ if random.random_ratio(1, 4) => bytes.truncate(at.max(14)),
            _ => {}
        }
    }
    bytes
}

/// The verifier gives up when a signal is pending, as when children end: EAGAIN.
#[test]
fn a_program_is_loaded_while_signals_come_in() -> Result<()> {
    extern "C" fn counted(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    static SIGNALS: AtomicU32 = AtomicU32::new(0);
    needs_root!();
    let fixture = fixture()?;
    let fixture = lock(&fixture);
    let plan = fixture.world.plan.read().expect("not poisoned");
    let action = SigAction::new(
        SigHandler::Handler(counted),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing but count.
    unsafe { sigaction(Signal::SIGUSR1, &action)? };
    let done = AtomicBool::new(false);
    // SAFETY: always succeeds.
    let loader = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: that thread waits for this one.
                unsafe { libc::pthread_kill(loader, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let loaded = (0..3).try_for_each(|_| {
            let another = fixture.responder.another(&*plan, plan.capacity(), 0);
            another.map(drop)
        });
        done.store(true, Ordering::Relaxed);
        loaded
    })?;
    // They came, before and after if not meanwhile.
    ensure!(SIGNALS.load(Ordering::Relaxed) > 3);
    Ok(())
}

#[test]
fn the_oracle_of_these_tests_knows_a_right_checksum() {
    // RFC 1071 section 3
    assert_eq!(
        checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
        !0xddf2
    );
    for frame in [v4(www()), v6(www())] {
        let bytes = frame.bytes();
        let again = Frame::parse(&bytes).expect("a frame");
        assert_eq!(again.bytes(), bytes);
        // What is sent is no response to itself.
        assert!(frame.response(&bytes).is_err());
        assert_eq!(again.macs, [SERVER_MAC, CLIENT_MAC]);
    }
}
