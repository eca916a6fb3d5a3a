//! Data of types with forms of their own - SVCB and HTTPS (RFC 9460), IPSECKEY (RFC 4025), NSEC3 (RFC 5155), ZONEMD
//! (RFC 8976) - read beside named-checkzone (BIND) and kzonecheck (Knot DNS), and octet by octet beside
//! named-rrchecker. Each form is a test.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use domain::base::Rtype;
use geodns::base::name::{Name, parse_name};
use geodns::zone;
use geodns_tests::cases::{case, run};
use geodns_tests::other_server;

const HEAD: &str = "$TTL 300\n@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n";

/// The checkers that take a form: ours, named-checkzone 9.18, kzonecheck 3.2; `y` and `n`.
const FORMS: &[(&str, &str)] = &[
    // RFC 9460 appendix D.
    ("yyy", "SVCB 0 foo.example.com."),
    ("yyy", "SVCB 1 ."),
    ("yyy", "SVCB 16 foo.example.com. port=53"),
    ("yyy", "SVCB 1 foo.example.com. key667=hello"),
    ("yyy", "SVCB 1 foo.example.com. key667=\"hello\\210qoo\""),
    (
        "yyy",
        "SVCB 1 foo.example.com. ipv6hint=\"2001:db8::1,2001:db8::53:1\"",
    ),
    (
        "yyy",
        "SVCB 1 example.com. ipv6hint=\"2001:db8:122:344::192.0.2.33\"",
    ),
    (
        "yyy",
        "SVCB 16 foo.example.org. ( alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1 )",
    ),
    (
        "yyy",
        "SVCB 16 foo.example.org. alpn=\"f\\\\\\\\oo\\\\,bar,h2\"",
    ),
    (
        "yyy",
        "SVCB 16 foo.example.org. alpn=f\\\\\\092oo\\092,bar,h2",
    ),
    ("nnn", "SVCB 1 foo.example.com. ( key123=abc key123=def )"),
    ("nnn", "SVCB 1 foo.example.com. mandatory"),
    ("nnn", "SVCB 1 foo.example.com. alpn"),
    ("nnn", "SVCB 1 foo.example.com. port"),
    ("nnn", "SVCB 1 foo.example.com. ipv4hint"),
    ("nnn", "SVCB 1 foo.example.com. ipv6hint"),
    ("nnn", "SVCB 1 foo.example.com. no-default-alpn=abc"),
    ("nnn", "SVCB 1 foo.example.com. mandatory=key123"),
    ("nnn", "SVCB 1 foo.example.com. mandatory=mandatory"),
    (
        "nnn",
        "SVCB 1 foo.example.com. ( mandatory=key123,key123 key123=abc )",
    ),
    // Targets.
    ("yyy", "SVCB 1 @"),
    ("yyy", "HTTPS 0 @"),
    ("yyy", "HTTPS 1 @ alpn=h2"),
    ("yyy", "SVCB 1 rel"),
    ("nnn", "SVCB 1 a..b"),
    // A name in quotes is a mistake everywhere here.
    ("nyn", "SVCB 1 \"quoted.\""),
    ("nnn", "SVCB -1 ."),
    ("yyy", "SVCB 65535 ."),
    ("nnn", "SVCB 65536 ."),
    ("nnn", "SVCB 1"),
    ("yyy", "SVCB 0 . alpn=h2"),
    // Keys.
    ("yyy", "SVCB 1 . key9=x"),
    ("yyy", "SVCB 1 . key99"),
    ("yyy", "SVCB 1 . key999=x"),
    ("yyy", "SVCB 1 . key65279=x"),
    ("yyy", "SVCB 1 . key65534=x"),
    ("yyy", "SVCB 1 . key65535=x"),
    ("nnn", "SVCB 1 . key65536=x"),
    ("nny", "SVCB 1 . key0=x"),
    ("nny", "SVCB 1 . key010=x"),
    ("nnn", "SVCB 1 . key=x"),
    ("nnn", "SVCB 1 . key-1=x"),
    ("nnn", "SVCB 1 . KEY667=x"),
    ("nnn", "SVCB 1 . ALPN=h2"),
    ("nnn", "SVCB 1 . unknown=x"),
    ("nnn", "SVCB 1 . =b"),
    ("nnn", "SVCB 1 . \"alpn=h2\""),
    ("yyy", "SVCB 1 . key100==b"),
    ("yyy", "SVCB 1 . key100=\"\" key99=x"),
    ("yyn", "SVCB 1 . key100="),
    ("yyy", "SVCB 1 . key100=\"a;b\""),
    ("yyy", "SVCB 1 . key100=a\\;b"),
    ("nnn", "SVCB 1 . key100=a\"b\""),
    ("nnn", "SVCB 1 . key100=\"a\"b"),
    ("nnn", "SVCB 1 . port=53 x"),
    // Keys with a name by their numbers: the octets, and what must hold of them.
    ("yyy", "SVCB 1 . key1=\\002h2"),
    ("nny", "SVCB 1 . key1=h2"),
    ("nny", "SVCB 1 . key1=\\000"),
    ("nny", "SVCB 1 . key1"),
    ("yyy", "SVCB 1 . key3=\\000\\053"),
    ("nny", "SVCB 1 . key3=5"),
    ("yyy", "SVCB 1 . key4=\\192\\000\\002\\001"),
    ("nny", "SVCB 1 . key4=abc"),
    ("yyy", "SVCB 1 . key0=\\000\\001 alpn=h2"),
    ("nnn", "SVCB 1 . alpn=h2 key1=\\002h3"),
    // alpn.
    ("yyy", "SVCB 1 . alpn=\"h2\""),
    ("nnn", "SVCB 1 . alpn=h2\"x\""),
    ("nnn", "SVCB 1 . alpn= \"h2\""),
    ("nnn", "SVCB 1 . alpn="),
    ("nnn", "SVCB 1 . alpn=\"\""),
    ("nnn", "SVCB 1 . alpn=a,,b"),
    ("nnn", "SVCB 1 . alpn=,a"),
    ("nnn", "SVCB 1 . alpn=a,"),
    ("yyy", "SVCB 1 . alpn=\"a b\""),
    ("yyn", "SVCB 1 . alpn=a\\044b"),
    ("yyn", "SVCB 1 . alpn=a\\,b"),
    ("yyy", "SVCB 1 . alpn=a\\\\044b"),
    ("yyy", "SVCB 1 . alpn=\"a\\\\,b\""),
    ("yyy", "SVCB 1 . alpn=\"a\\\\b\""),
    ("yyy", "SVCB 1 . alpn=\"a\\\\\\\\b\""),
    ("nny", "SVCB 1 . alpn=\"a\\\\\""),
    ("yyy", "SVCB 1 . alpn=\"\\\"a\""),
    ("yyy", "SVCB 1 . alpn=h2,h2"),
    ("nnn", "SVCB 1 . alpn=h2 alpn=h3"),
    ("nny", "SVCB 1 . no-default-alpn"),
    ("yyy", "SVCB 1 . no-default-alpn alpn=h2"),
    ("yyn", "SVCB 1 . alpn=h2 no-default-alpn="),
    // port.
    ("yyy", "SVCB 1 . port=0"),
    ("yyy", "SVCB 1 . port=\"053\""),
    ("nnn", "SVCB 1 . port=65536"),
    ("nnn", "SVCB 1 . port="),
    ("nnn", "SVCB 1 . port=+53"),
    ("nnn", "SVCB 1 . port=5\\051"),
    ("nnn", "SVCB 1 . port=53,54"),
    // Hints.
    ("yyy", "SVCB 1 . ipv4hint=192.0.2.1,192.0.2.2"),
    ("yyy", "SVCB 1 . ipv4hint=\"192.0.2.1,192.0.2.2\""),
    ("nnn", "SVCB 1 . ipv4hint=192.0.2.1,"),
    ("nnn", "SVCB 1 . ipv4hint=,192.0.2.1"),
    ("nnn", "SVCB 1 . ipv4hint=192.0.2.1,,192.0.2.2"),
    ("nnn", "SVCB 1 . ipv4hint="),
    ("nnn", "SVCB 1 . ipv4hint=2001:db8::1"),
    ("nnn", "SVCB 1 . ipv4hint=192.0.2.1\\,192.0.2.2"),
    ("nnn", "SVCB 1 . ipv4hint=\"192.0.2.1, 192.0.2.2\""),
    ("nnn", "SVCB 1 . ipv6hint=2001:db8::1,"),
    ("yyy", "SVCB 1 . ipv6hint=2001:DB8::1"),
    ("nnn", "SVCB 1 . ipv6hint=192.0.2.1"),
    // ech; RFC 9848 has no empty one.
    ("yyy", "SVCB 1 . ech=\"AEj+DQ==\""),
    ("nnn", "SVCB 1 . ech=AEj+DQ"),
    ("nyn", "SVCB 1 . ech="),
    ("nyn", "SVCB 1 . ech"),
    // dohpath, which Knot 3.2 does not know.
    ("yyn", "SVCB 1 . dohpath=/dns-query{?dns}"),
    ("yyn", "SVCB 1 . dohpath=\"/{?dns,x}\""),
    ("nnn", "SVCB 1 . dohpath"),
    ("nnn", "SVCB 1 . dohpath="),
    ("nnn", "SVCB 1 . dohpath=/dns"),
    ("nnn", "SVCB 1 . dohpath=dns{?dns}"),
    // ohttp (RFC 9540), which neither knows.
    ("ynn", "SVCB 1 . alpn=h2 ohttp"),
    ("nnn", "SVCB 1 . ohttp=x"),
    // mandatory.
    ("yyy", "SVCB 1 . mandatory=port,alpn port=1 alpn=h2"),
    ("yyy", "SVCB 1 . mandatory=\"alpn\" alpn=h2"),
    ("yyy", "SVCB 1 . mandatory=key1 alpn=h2"),
    ("nnn", "SVCB 1 . mandatory=alpn,key1 alpn=h2"),
    ("yyy", "SVCB 1 . mandatory=key119 key119"),
    ("nnn", "SVCB 1 . mandatory=key0 alpn=h2"),
    ("nnn", "SVCB 1 . mandatory=alpn, alpn=h2"),
    ("nnn", "SVCB 1 . mandatory= alpn=h2"),
    ("nnn", "SVCB 1 . mandatory=alpn\\,port alpn=h2 port=1"),
    // In octets; Knot takes those as they are.
    ("yyy", "SVCB \\# 10 00010000010003026832"),
    ("nny", "SVCB \\# 2 0001"),
    ("nny", "SVCB \\# 12 000100000100050161000162"),
    ("nny", "SVCB \\# 13 00010000030002003500010000"),
    ("nny", "SVCB \\# 15 000100000300020035000300020035"),
    ("nny", "SVCB \\# 7 00010000020000"),
    ("nny", "SVCB \\# 7 00010000010000"),
    ("nny", "SVCB \\# 8 0001000003000100"),
    ("nny", "SVCB \\# 7 00010000070000"),
    ("nny", "SVCB \\# 9 000100000000020003"),
    // IPSECKEY. BIND refuses one without a key, which RFC 4025 section 3.1 allows.
    (
        "yyy",
        "IPSECKEY 10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
    ),
    (
        "yyy",
        "IPSECKEY 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47u sntb102uFJtugbo6BSGvgqt4AQ==",
    ),
    ("yyy", "IPSECKEY 10 2 2 2001:db8::1 AQ=="),
    ("yyy", "IPSECKEY 10 3 2 @ AQIDBA=="),
    ("yyy", "IPSECKEY 10 3 2 rel AQIDBA=="),
    ("yny", "IPSECKEY 10 3 0 gw"),
    ("nnn", "IPSECKEY 10 0 2 @ AQ=="),
    ("nnn", "IPSECKEY 10 1 2 2001:db8::1 AQ=="),
    ("nnn", "IPSECKEY 10 2 2 192.0.2.1 AQ=="),
    ("nnn", "IPSECKEY 10 4 2 . AQIDBA=="),
    ("nnn", "IPSECKEY 256 3 2 . AQIDBA=="),
    ("nnn", "IPSECKEY 10 3 2 . !!!"),
    // NSEC3PARAM. Of NSEC3 alone named-checkzone wants the rest of a signed zone.
    ("yyy", "NSEC3PARAM 1 0 10 aabb"),
    ("yyy", "NSEC3PARAM 1 0 10 -"),
    ("yyn", "NSEC3PARAM SHA-1 0 0 -"),
    ("nnn", "NSEC3PARAM 1 0 10"),
    ("nnn", "NSEC3PARAM 1 0 10 aab"),
    ("nnn", "NSEC3PARAM 1 0 65536 -"),
    ("nny", "NSEC3PARAM \\# 5 0100000001"),
    (
        "yny",
        "NSEC3 1 1 12 AABBCCDD 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S A RRSIG",
    ),
    ("yny", "NSEC3 1 1 12 - 2vptu5timamqttgl4luu9kg21e0aor3s"),
    ("nnn", "NSEC3 1 1 12 \"\" 2vptu5timamqttgl4luu9kg21e0aor3s"),
    ("nnn", "NSEC3 1 1 0 - 2vptu5timamqttgl4luu9kg21e0aor3w"),
    ("nnn", "NSEC3 1 1 0 - -"),
    ("nnn", "NSEC3 1 1 0 -"),
    // ZONEMD: what is of private use is taken, by its least length. BIND has one of its own for algorithms 1 and 2
    // under every scheme.
    ("yyy", "ZONEMD 1 1 240 000102030405060708090a0b"),
    ("yny", "ZONEMD 1 240 1 000102030405060708090a0b"),
    ("nny", "ZONEMD 1 1 1 000102030405060708090a0b"),
    ("nny", "ZONEMD 1 240 1 000102030405060708090a"),
];

/// Whether a program takes the file `zone` in a folder.
fn takes(folder: &Path, program: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = Command::new(other_server(program)?);
    let done = command.args(arguments).current_dir(folder).output();
    Ok(done.context("it does not start")?.status.success())
}

/// RDATA as named-rrchecker writes it, in hexadecimal; empty if it refuses.
fn rrchecker(form: &str) -> Result<String> {
    let mut child = Command::new(other_server("named-rrchecker")?)
        .args(["-o", "example.org", "-u"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    writeln!(stdin, "IN {form}")?;
    drop(stdin);
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    let data = said.split_whitespace().skip(4);
    Ok(data.collect::<String>().to_lowercase())
}

/// Our reading of a form: the octets of its RDATA, in hexadecimal, and else what is wrong with it.
fn read(form: &str) -> Result<std::result::Result<String, String>> {
    let apex: Name = parse_name("example.org").map_err(anyhow::Error::msg)?;
    let owner = parse_name("a.example.org").map_err(anyhow::Error::msg)?;
    let reading = zone::parse(&apex, Path::new("zone"), zone_with(form).as_bytes());
    let Some(zone) = reading.zone else {
        return Ok(Err(format!("{:?}", reading.findings.errors)));
    };
    let rtype: Rtype = form.split(' ').next().unwrap_or("").parse()?;
    let node = zone.node(owner.for_slice()).context("its owner")?;
    let rrset = node.rrset(rtype).context("its RRset")?;
    let octets = rrset.first().iter().map(|byte| format!("{byte:02x}"));
    Ok(Ok(octets.collect()))
}

fn zone_with(form: &str) -> String {
    format!("{HEAD}a {form}\n")
}

fn is_read_as_bind_and_knot_read_it(form: &str, expected: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("zone"), zone_with(form))?;
    let ours = read(form)?;
    let named = ["-i", "none", "example.org", "zone"];
    let found = [
        ours.is_ok(),
        takes(folder.path(), "named-checkzone", &named)?,
        takes(folder.path(), "kzonecheck", &["-o", "example.org", "zone"])?,
    ];
    let found: String = found
        .map(|takes| if takes { 'y' } else { 'n' })
        .iter()
        .collect();
    ensure!(
        found == expected,
        "{form}: {found}, not {expected}: {ours:?}"
    );
    let theirs = rrchecker(form)?;
    if let Ok(ours) = ours
        && !theirs.is_empty()
    {
        // BIND leaves a key of one zero out.
        ensure!(ours == theirs, "{form}: {ours}, not {theirs}");
    }
    Ok(())
}

fn most_forms_are_compared_octet_by_octet() -> Result<()> {
    let mut compared = 0;
    for (_, form) in FORMS {
        compared += usize::from(read(form)?.is_ok() && !rrchecker(form)?.is_empty());
    }
    ensure!(
        compared > 60,
        "only {compared} were compared octet by octet"
    );
    Ok(())
}

fn main() -> ExitCode {
    let mut tests = vec![
        case(
            "most forms are compared octet by octet",
            most_forms_are_compared_octet_by_octet,
        ),
        case(
            "ttls of an included file hold on as in bind and nsd",
            ttls_of_an_included_file_hold_on_as_in_bind_and_nsd,
        ),
    ];
    tests.extend(FORMS.iter().map(|&(expected, form)| {
        let name = format!("read as BIND and Knot read it: {form}");
        case(&name, move || {
            is_read_as_bind_and_knot_read_it(form, expected)
        })
    }));
    run(tests)
}

/// An included file leaves its TTLs behind, and nothing else.
fn ttls_of_an_included_file_hold_on_as_in_bind_and_nsd() -> Result<()> {
    const SOA: &str = "IN SOA ns.x. host.x. 1 7200 3600 1209600 60\n";
    let folder = tempfile::tempdir()?;
    let apex: Name = parse_name("example.org").map_err(anyhow::Error::msg)?;
    for (zone, inc, inner, nsd) in [
        (
            format!("$TTL 3600\n@ {SOA}@ NS ns.x.\n$INCLUDE inc\nwww A 192.0.2.1\n"),
            "$TTL 60\napi A 192.0.2.2\n",
            "",
            true,
        ),
        // Without a $TTL outside.
        (
            format!(
                "@ 3600 {SOA}@ 3600 NS ns.x.\n$INCLUDE inc sub.example.org.\nwww A 192.0.2.1\n"
            ),
            "$TTL 60\napi A 192.0.2.2\n$ORIGIN deeper.sub.example.org.\nx 99 A 192.0.2.3\n$INCLUDE inner\n\
             after A 192.0.2.8\n",
            "$TTL 61\ny A 192.0.2.3\n",
            true,
        ),
        // The last TTL (RFC 1035 section 5.1), which NSD has otherwise.
        (
            format!("@ 3600 {SOA}@ 3600 NS ns.x.\n$INCLUDE inc\n A 192.0.2.7\nwww A 192.0.2.1\n"),
            "api 77 A 192.0.2.2\nx A 192.0.2.3\n",
            "",
            false,
        ),
    ] {
        for (name, text) in [("zone", zone.as_str()), ("inc", inc), ("inner", inner)] {
            fs::write(folder.path().join(name), text)?;
        }
        let read = |text: &[u8]| {
            let file = folder.path().join("zone");
            let reading = zone::parse(&apex, &file, text);
            let zone = reading
                .zone
                .with_context(|| format!("{:?}", reading.findings))?;
            let mut records = Vec::new();
            for node in zone.nodes() {
                for record in node.records() {
                    records.push(format!("{} {} {}", node.name(), record.ttl, record.rtype));
                }
            }
            records.sort();
            Ok::<_, anyhow::Error>(records)
        };
        let ours = read(zone.as_bytes())?;
        let mut others = vec![(
            "named-compilezone",
            vec!["-q", "-i", "none", "-o", "-", "example.org", "zone"],
        )];
        if nsd {
            others.push(("nsd-checkzone", vec!["-p", "example.org", "zone"]));
        }
        for (program, arguments) in others {
            let mut command = Command::new(other_server(program)?);
            let done = command
                .args(arguments)
                .current_dir(folder.path())
                .output()?;
            ensure!(
                done.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            ensure!(
                read(&done.stdout)? == ours,
                "{program}: {:?}, not {ours:?}",
                read(&done.stdout)?
            );
        }
    }
    Ok(())
}
