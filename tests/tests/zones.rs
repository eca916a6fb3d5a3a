//! Zone files, good and bad: `geodns zone check` judges them beside named-checkzone (BIND) and kzonecheck (Knot DNS).
//! Each zone is a test.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use geodns_tests::built::binary;
use geodns_tests::cases::{case, run};
use geodns_tests::other_server;

/// A zone with the addresses of its server.
const HEAD: &str = "$TTL 300\n@ SOA ns host 1 7200 3600 1209600 60\n@ NS ns\nns A 192.0.2.1\n";

/// A checker's verdict on a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Warning,
    Error,
}
use Says::{Error, Nothing, Warning};

/// Zones behind [`HEAD`] (a text that begins with `$TTL` or a SOA: without it), what we say of them, what
/// named-checkzone 9.18 and kzonecheck 3.2 say, and why we say otherwise than named-checkzone.
const ZONES: &[(&str, Says, Says, Says, &str)] = &[
    ("", Nothing, Nothing, Nothing, ""),
    (
        "a A 192.0.2.1\n*.b MX 1 ns\nc CNAME a\n@ MX 0 .\n_x._tcp SRV 0 0 0 .\n",
        Nothing,
        Nothing,
        Nothing,
        "",
    ),
    (
        "sub NS ns.sub\nns.sub A 192.0.2.1\nsub DS 1 8 4 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\n",
        Nothing,
        Nothing,
        Nothing,
        "",
    ),
    (
        "a CLASS1 60 TXT x\nb IN 1h TXT x\n",
        Nothing,
        Nothing,
        Error,
        "",
    ),
    (
        "@ MX 1 m.w\n*.w A 192.0.2.1\n",
        Nothing,
        Nothing,
        Nothing,
        "",
    ),
    ("a TXT \"\"\n", Nothing, Nothing, Nothing, ""),
    // Knot has no $GENERATE.
    ("$GENERATE 1-3 a$ A 10.0.0.$\n", Nothing, Nothing, Error, ""),
    (
        "$GENERATE 1-3/2 a${0,3,n} IN 60 TXT \"x$$ \\$ ${5,4,o} ${16,4,X}\"\n",
        Nothing,
        Nothing,
        Error,
        "",
    ),
    (
        "$GENERATE 1-3 a$ MX \"10 ns\"\n",
        Nothing,
        Nothing,
        Error,
        "",
    ),
    ("$GENERATE 1-3 a$ MX 10 ns\n", Error, Error, Error, ""),
    ("$GENERATE 3-1 a$ A 10.0.0.$\n", Error, Error, Error, ""),
    ("$GENERATE 1-3/0 a$ A 10.0.0.$\n", Error, Error, Error, ""),
    (
        "$GENERATE 1-3 a${1,2,q} A 10.0.0.$\n",
        Error,
        Error,
        Error,
        "",
    ),
    ("$GENERATE 250-256 a$ A 10.0.0.$\n", Error, Error, Error, ""),
    (
        "$GENERATE 1-3 a${0,6,N}.b A 10.0.0.$\n",
        Error,
        Error,
        Error,
        "",
    ),
    (
        "$GENERATE 1-3 a${0,7,N}.b A 10.0.0.$\n",
        Nothing,
        Nothing,
        Error,
        "",
    ),
    // What cannot be read.
    ("a A 192.0.2.256\n", Error, Error, Error, ""),
    ("a FOO x\n", Error, Error, Error, ""),
    ("a CH TXT x\n", Error, Error, Error, ""),
    ("a IN 60 IN TXT x\n", Error, Error, Error, ""),
    ("a 4294967296 A 192.0.2.1\n", Error, Error, Error, ""),
    (
        "a 2147483648 A 192.0.2.1\n",
        Error,
        Warning,
        Nothing,
        "BIND takes 0 in its place, which nobody meant",
    ),
    ("a TXT \"x\nb A 192.0.2.1\n", Error, Error, Error, ""),
    ("a TXT ( x\n", Error, Error, Error, ""),
    ("a TXT x )\n", Error, Error, Error, ""),
    ("a..b TXT x\n", Error, Error, Error, ""),
    ("a\\999 TXT x\n", Error, Error, Nothing, ""),
    ("a TXT\n", Error, Error, Error, ""),
    ("$FOO\n", Error, Error, Error, ""),
    ("$INCLUDE nothere\n", Error, Error, Error, ""),
    ("a OPT \\# 0\n", Error, Error, Error, ""),
    (
        "\u{e4} TXT x\n",
        Error,
        Nothing,
        Error,
        "such names are typed by mistake: those of IDNA begin with xn--",
    ),
    (
        "\"a\" TXT x\n",
        Error,
        Nothing,
        Error,
        "no master file has names in quotes",
    ),
    // TTLs.
    (
        "a 10 A 192.0.2.1\na 20 A 192.0.2.2\n",
        Warning,
        Warning,
        Nothing,
        "",
    ),
    (
        "@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n",
        Warning,
        Warning,
        Nothing,
        "",
    ),
    (
        "@ NS ns.x.\n@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n",
        Error,
        Error,
        Nothing,
        "",
    ),
    (
        "@ 60 SOA ns.x. host.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n",
        Nothing,
        Warning,
        Nothing,
        "RFC 1035 section 5.1 has it so",
    ),
    // What may not stand where it does.
    ("a CNAME b.x.\na TXT x\n", Error, Error, Error, ""),
    ("a CNAME b.x.\na CNAME c.x.\n", Error, Error, Error, ""),
    ("@ CNAME b.x.\n", Error, Error, Error, ""),
    ("a DNAME b.x.\na CNAME c.x.\n", Error, Error, Error, ""),
    ("a DNAME b.x.\na DNAME c.x.\n", Error, Error, Error, ""),
    (
        "a DNAME b.x.\nx.a A 192.0.2.1\n",
        Error,
        Nothing,
        Error,
        "RFC 6672 section 2.4",
    ),
    (
        "a DNAME b.x.\na NS ns\n",
        Warning,
        Nothing,
        Error,
        "RFC 6672 section 2.3",
    ),
    (
        "a DNAME b.x.\na A 192.0.2.1\n",
        Nothing,
        Nothing,
        Nothing,
        "",
    ),
    (
        "*.a DNAME b.x.\n",
        Warning,
        Nothing,
        Nothing,
        "RFC 6672 section 3.3",
    ),
    (
        "@ SOA ns host 2 7200 3600 1209600 60\n",
        Error,
        Error,
        Nothing,
        "",
    ),
    (
        "a SOA ns host 2 7200 3600 1209600 60\n",
        Error,
        Error,
        Nothing,
        "",
    ),
    ("$TTL 60\n@ NS ns.x.\n", Error, Error, Error, ""),
    (
        "$TTL 60\n@ SOA ns.x. host.x. 1 7200 3600 1209600 60\n",
        Error,
        Error,
        Error,
        "",
    ),
    (
        "a.example.net. A 192.0.2.1\n",
        Error,
        Warning,
        Nothing,
        "records of another zone are lost, which nobody meant",
    ),
    ("*.a NS ns\n", Error, Error, Nothing, ""),
    (
        "@ DS 1 8 4 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\n",
        Error,
        Error,
        Nothing,
        "",
    ),
    (
        "a DS 1 8 4 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\n",
        Warning,
        Nothing,
        Nothing,
        "a DS means something at a zone cut only",
    ),
    // Servers.
    ("@ NS ns2\n", Error, Error, Error, ""),
    ("@ NS ns2\nns2 CNAME ns\n", Error, Error, Error, ""),
    ("@ NS ns2\nns2 TXT x\n", Error, Error, Error, ""),
    ("@ NS 192.0.2.1.\n", Warning, Warning, Nothing, ""),
    ("@ NS 192.0.2.1\n", Error, Error, Error, ""),
    ("sub NS ns.sub\n", Warning, Warning, Error, ""),
    ("sub NS foo\n", Warning, Warning, Error, ""),
    ("sub NS foo\nfoo CNAME ns\n", Warning, Warning, Error, ""),
    (
        "sub NS ns.sub2\nsub2 NS ns\n",
        Nothing,
        Warning,
        Nothing,
        "that zone's own server gives the address",
    ),
    ("@ MX 1 m\n", Warning, Warning, Nothing, ""),
    ("@ MX 1 m\nm CNAME ns\n", Warning, Warning, Nothing, ""),
    ("@ MX 1 m.d\nd DNAME x.\n", Warning, Warning, Nothing, ""),
    ("@ MX 1 192.0.2.1.\n", Warning, Warning, Nothing, ""),
    ("_a._tcp SRV 1 1 1 m\n", Warning, Warning, Nothing, ""),
    (
        "_a._tcp SRV 1 1 1 m\nm CNAME ns\n",
        Warning,
        Warning,
        Nothing,
        "",
    ),
    // Names of hosts.
    ("a_b A 192.0.2.1\n", Warning, Warning, Nothing, ""),
    ("a_b TXT x\n", Nothing, Nothing, Nothing, ""),
    ("sub NS a_b.x.\n", Warning, Warning, Nothing, ""),
    (
        "$TTL 60\n@ SOA ns.x. ho_st.a_b.x. 1 7200 3600 1209600 60\n@ NS ns.x.\n",
        Warning,
        Warning,
        Nothing,
        "",
    ),
    (
        "b.*.a TXT x\n",
        Nothing,
        Warning,
        Nothing,
        "RFC 4592 section 2.1.3 allows it",
    ),
    // What is legal, and hardly meant: here, others are silent.
    (
        "a A 192.0.2.1\na A 192.0.2.1\n",
        Warning,
        Nothing,
        Nothing,
        "one of both will do",
    ),
    (
        "sub NS ns\nx.sub TXT a\n",
        Warning,
        Nothing,
        Nothing,
        "nobody gets it",
    ),
    (
        "sub NS ns\nsub TXT a\n",
        Warning,
        Nothing,
        Nothing,
        "nobody gets it",
    ),
    (
        "a CNAME b\nb CNAME a\n",
        Warning,
        Nothing,
        Nothing,
        "nobody gets an answer",
    ),
    (
        "a CNAME a\n",
        Warning,
        Nothing,
        Nothing,
        "nobody gets an answer",
    ),
    (
        "a CNAME nothere\n",
        Warning,
        Nothing,
        Nothing,
        "mostly a dot is missing",
    ),
    ("a SPF \"v=spf1 -all\"\n", Warning, Warning, Nothing, ""),
    (
        "$TTL 60\n@ SOA ns.x. host.x. 0 1 2 1 604800\n@ NS ns.x.\n",
        Warning,
        Nothing,
        Nothing,
        "secondaries cannot work with these times",
    ),
];

/// The verdict by exit code and text.
fn says(code: Option<i32>, text: &str) -> Says {
    // What is said of every zone.
    let usual = |line: &&str| {
        !line.trim().is_empty()
            && !line.contains("loaded serial")
            && *line != "OK"
            && !line.contains(": ok, serial")
    };
    match code {
        Some(0) if text.lines().any(|line| usual(&line)) => Warning,
        Some(0) => Nothing,
        _ => Error,
    }
}

/// Asks a program for its verdict on the file `zone` in a folder.
fn ask(folder: &Path, program: &Path, arguments: &[&str]) -> Result<(Says, String)> {
    let mut command = Command::new(program);
    let done = command.args(arguments).current_dir(folder).output();
    let done = done.with_context(|| format!("{} does not start", program.display()))?;
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((says(done.status.code(), &text), text))
}

/// Judges a zone with all three checkers.
fn judge(text: &str, [ours, named, knot]: [Says; 3], why: &str) -> Result<()> {
    ensure!(
        (ours == named) == why.is_empty(),
        "{text:?}: explain the difference, or there is none"
    );
    let whole = match text.starts_with("$TTL") || text.contains("SOA ns.x.") {
        true => text.to_owned(),
        false => format!("{HEAD}{text}"),
    };
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("zone"), &whole)?;
    let check = ["zone", "check", "zone", "--origin", "example.org"];
    let (said, answer) = ask(folder.path(), &binary()?, &check)?;
    ensure!(said == ours, "{text:?}: {said:?}, not {ours:?}: {answer}");
    // Every line says where.
    for line in answer
        .lines()
        .filter(|line| !line.starts_with("example.org: "))
    {
        let line = line.strip_prefix("warning: ").unwrap_or(line);
        ensure!(line.starts_with("zone:"), "{text:?}: {line}");
    }
    // Names of other zones are not asked for here.
    let check = ["-i", "local", "example.org", "zone"];
    let (said, answer) = ask(folder.path(), &other_server("named-checkzone")?, &check)?;
    ensure!(
        said == named,
        "{text:?}: BIND says {said:?}, not {named:?}: {answer}"
    );
    let check = ["-o", "example.org", "zone"];
    let (said, answer) = ask(folder.path(), &other_server("kzonecheck")?, &check)?;
    ensure!(
        said == knot,
        "{text:?}: Knot says {said:?}, not {knot:?}: {answer}"
    );
    Ok(())
}

fn main() -> ExitCode {
    let cases = ZONES.iter().map(|&(text, ours, named, knot, why)| {
        let name = format!("judged as other servers judge it: {text}");
        case(&name, move || judge(text, [ours, named, knot], why))
    });
    run(cases.collect())
}
