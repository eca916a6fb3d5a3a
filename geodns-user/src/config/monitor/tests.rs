//! `mirror.check`: forms that it takes, and the exact line for each that it refuses.

use std::path::Path;

use super::super::{Config, Errors, Overrides};
use super::*;

const BASE: &str = r#"[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
"#;

fn parse(check: &str) -> Result<Check, Errors> {
    let text = format!("{BASE}check = {check}\n");
    let config = Config::parse(Path::new("g.toml"), text.as_bytes(), &Overrides::default())?;
    Ok(config.mirrors[0].check.clone().expect("it is there"))
}

fn http(check: &str) -> HttpCheck {
    match parse(check).unwrap().kind {
        CheckKind::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_error(check: &str, expect: &str) {
    match parse(check) {
        Ok(good) => panic!("no error in {check}: {good:?}"),
        Err(errors) => assert_eq!(
            errors.without_columns(),
            format!("g.toml:7: mirror.check{expect}")
        ),
    }
}

#[test]
fn every_key_is_read() {
    let check = parse(
        r#"{ type = "https", port = 8443, path = "/health?full=1", host = "WWW.example.org",
             status = ["3xx", 204, 200, 200], body = "all well", verify = false, interval = "5s",
             timeout = "2s", rise = 4, fall = 5, ok = 6, jitter = 0.2 }"#,
    );
    let http = HttpCheck {
        tls: Tls::Unverified,
        port: 8443,
        path: "/health?full=1".to_owned(),
        host: Some("www.example.org".to_owned()),
        status: vec![Status::Class(3), Status::Code(200), Status::Code(204)],
        body: Some("all well".to_owned()),
        fresh: None,
    };
    let expect = Check {
        kind: CheckKind::Http(http),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 4,
        fall: 5,
        ok: 6,
        jitter: Duration::from_secs(1),
    };
    assert_eq!(check.unwrap(), expect);
    let exec = parse(r#"{ type = "exec", command = ["check", "-a", "{address}"] }"#);
    let command = ["check", "-a", "{address}"].map(str::to_owned).into();
    assert_eq!(exec.unwrap().kind, CheckKind::Exec { command });
}

#[test]
fn what_is_left_out_has_its_default() {
    let check = parse(r#"{ type = "icmp" }"#).unwrap();
    let expect = Check {
        kind: CheckKind::Icmp,
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 3,
        ok: 2,
        jitter: Duration::from_secs(1),
    };
    assert_eq!(check, expect);
    assert_eq!(parse(r#"{ type = "icmp", rise = 7 }"#).unwrap().ok, 7);
    let plain = HttpCheck {
        tls: Tls::Off,
        port: 80,
        path: "/".to_owned(),
        host: None,
        status: vec![Status::Class(2)],
        body: None,
        fresh: None,
    };
    assert_eq!(http(r#"{ type = "http" }"#), plain);
    let secure = http(r#"{ type = "https", host = "a" }"#);
    assert_eq!((secure.tls, secure.port), (Tls::Verified, 443));
    let any = http(r#"{ type = "https", verify = false }"#);
    assert_eq!((any.tls, any.host), (Tls::Unverified, None));
    let table = format!("{BASE}[mirror.check]\ntype = \"tcp\"\nport = 1\n");
    let config = Config::parse(Path::new("g"), table.as_bytes(), &Overrides::default()).unwrap();
    let check = config.mirrors[0].check.as_ref().unwrap();
    assert_eq!(check.kind, CheckKind::Tcp { port: 1 });
    assert_eq!(config.health_feed, None);
}

#[test]
fn a_trace_is_read() {
    let fresh = |check: &str| http(check).fresh.unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let short = fresh(r#"{ type = "http", fresh = { path = "/TIME", max_age = "6h" } }"#);
    let expected = Fresh {
        path: "/TIME".to_owned(),
        format: TraceFormat::Epoch,
        max_age: hours(6),
        grace: hours(24),
    };
    assert_eq!(short, expected);
    let long = fresh(
        r#"{ type = "https", verify = false, fresh = { path = "/project/trace/a?b", format = "debian-trace",
             max_age = "2d", grace = "0s" } }"#,
    );
    let expected = Fresh {
        path: "/project/trace/a?b".to_owned(),
        format: TraceFormat::DebianTrace,
        max_age: hours(48),
        grace: Duration::ZERO,
    };
    assert_eq!(long, expected);
}

#[test]
fn the_feed_is_found_from_the_file_s_folder() {
    let text = format!("{BASE}[health]\nfeed = \"up.csv\"\n");
    let config = Config::parse(
        Path::new("etc/g.toml"),
        text.as_bytes(),
        &Overrides::default(),
    );
    assert_eq!(config.unwrap().health_feed, Some("etc/up.csv".into()));
    for (feed, expect) in [
        (
            "\"\"",
            "g.toml:8: health.feed: \"\" is not a path; write one",
        ),
        (
            "1",
            "g.toml:8: health.feed: a whole number; write a string, in quotes, as \"1\"",
        ),
    ] {
        let text = format!("{BASE}[health]\nfeed = {feed}\n");
        let error = Config::parse(Path::new("g.toml"), text.as_bytes(), &Overrides::default());
        assert_eq!(error.unwrap_err().without_columns(), expect);
    }
}

#[test]
fn each_wrong_value_is_one_clear_line() {
    for (check, expect) in [
        // Shape.
        (
            r#"["http"]"#,
            r#": not a table; write it as { type = "tcp", port = 80 }"#,
        ),
        (
            r#""http""#,
            r#": not a table; write it as { type = "tcp", port = 80 }"#,
        ),
        ("{}", ".type: missing; add type = \"...\""),
        (
            r#"{ type = "http", url = "/" }"#,
            ".url: unknown key; known: body, command, fall, fresh, host, interval, jitter, ok, path, port, rise, status, timeout, type, verify",
        ),
        (
            r#"{ type = "http", port = "80" }"#,
            ".port: a string; write a whole number without quotes, as 80",
        ),
        (
            r#"{ type = "https", verify = "no" }"#,
            ".verify: a string; write true or false",
        ),
        (
            r#"{ type = "http", status = 200 }"#,
            r#".status: a whole number; write a list, as ["a", "b"]"#,
        ),
        (
            r#"{ type = "icmp", jitter = "10%" }"#,
            ".jitter: a string; write a number without quotes, as 10",
        ),
        // Type.
        (
            r#"{ type = "ping" }"#,
            r#".type: no such word "ping"; write "http", "https", "tcp", "icmp" or "exec""#,
        ),
        (
            r#"{ type = "tcp" }"#,
            r#".port: missing; type "tcp" needs a port to connect to"#,
        ),
        (
            r#"{ type = "https" }"#,
            r#".host: missing; type "https" checks the certificate, which is for a name: add host = "www.example.org", or verify = false to take any"#,
        ),
        (
            r#"{ type = "https", verify = true }"#,
            r#".host: missing; type "https" checks the certificate, which is for a name: add host = "www.example.org", or verify = false to take any"#,
        ),
        (
            r#"{ type = "exec" }"#,
            r#".command: missing; type "exec" needs one: write the program and its arguments, as ["/usr/local/bin/check", "{address}"]"#,
        ),
        // What does not belong to the type.
        (
            r#"{ type = "icmp", port = 80 }"#,
            r#".port: not used with type "icmp", only with "http", "https" and "tcp"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "exec", command = ["a"], path = "/" }"#,
            r#".path: not used with type "exec", only with "http" and "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "tcp", port = 80, host = "a" }"#,
            r#".host: not used with type "tcp", only with "http" and "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "tcp", port = 80, status = [200] }"#,
            r#".status: not used with type "tcp", only with "http" and "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "tcp", port = 80, body = "ok" }"#,
            r#".body: not used with type "tcp", only with "http" and "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "http", verify = false }"#,
            r#".verify: not used with type "http", only with "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "icmp", verify = true }"#,
            r#".verify: not used with type "icmp", only with "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "http", command = ["a"] }"#,
            r#".command: not used with type "http", only with "exec"; remove it, or change the type"#,
        ),
        // Values.
        (
            r#"{ type = "http", port = 0 }"#,
            ".port: 0 is out of range; write 1 to 65535",
        ),
        (
            r#"{ type = "tcp", port = 65536 }"#,
            ".port: 65536 is out of range; write 1 to 65535",
        ),
        (
            r#"{ type = "http", path = "health" }"#,
            r#".path: "health" is not a path; write 1 to 1024 characters that begin with '/', others than letters and digits as %20"#,
        ),
        (
            r#"{ type = "http", path = "/a b" }"#,
            r#".path: "/a b" is not a path; write 1 to 1024 characters that begin with '/', others than letters and digits as %20"#,
        ),
        (
            r#"{ type = "http", path = "/\r\nX: y" }"#,
            r#".path: "/\r\nX: y" is not a path; write 1 to 1024 characters that begin with '/', others than letters and digits as %20"#,
        ),
        (
            r#"{ type = "http", host = "a:80" }"#,
            r#".host: "a:80" is not a host's name; write one, as "www.example.org""#,
        ),
        (
            r#"{ type = "http", host = "a..b" }"#,
            r#".host: "a..b" is not a host's name; write one, as "www.example.org""#,
        ),
        (
            r#"{ type = "http", host = "192.0.2.256" }"#,
            r#".host: "192.0.2.256" is not a host's name; write one, as "www.example.org""#,
        ),
        (
            r#"{ type = "http", status = [] }"#,
            ".status: empty; name a status, or leave the key out for 2xx",
        ),
        (
            r#"{ type = "http", status = [200, 99] }"#,
            r#".status: 99 is not a status; write a code of 100 to 599, as 200, or a class, as "2xx""#,
        ),
        (
            r#"{ type = "http", status = ["2XX"] }"#,
            r#".status: "2XX" is not a status; write a code of 100 to 599, as 200, or a class, as "2xx""#,
        ),
        (
            r#"{ type = "http", status = ["6xx"] }"#,
            r#".status: "6xx" is not a status; write a code of 100 to 599, as 200, or a class, as "2xx""#,
        ),
        (
            r#"{ type = "http", body = "" }"#,
            ".body: 0 octets; write 1 to 1024 that the body must contain",
        ),
        (
            r#"{ type = "exec", command = [] }"#,
            r#".command: names no program; write the program and its arguments, as ["/usr/local/bin/check", "{address}"]"#,
        ),
        (
            r#"{ type = "exec", command = ["", "a"] }"#,
            r#".command: names no program; write the program and its arguments, as ["/usr/local/bin/check", "{address}"]"#,
        ),
        (
            r#"{ type = "exec", command = ["a", "\u0000"] }"#,
            ".command: a NUL character; no program can be given one, remove it",
        ),
        // Traces.
        (
            r#"{ type = "tcp", port = 80, fresh = { path = "/TIME", max_age = "6h" } }"#,
            r#".fresh: not used with type "tcp", only with "http" and "https"; remove it, or change the type"#,
        ),
        (
            r#"{ type = "http", fresh = "/TIME" }"#,
            r#".fresh: not a table; write it as { path = "/TIME", max_age = "6h" }"#,
        ),
        (
            r#"{ type = "http", fresh = { path = "/TIME" } }"#,
            r#".fresh.max_age: missing; add max_age = "...""#,
        ),
        (
            r#"{ type = "http", fresh = { path = "TIME", max_age = "6h" } }"#,
            r#".fresh.path: "TIME" is not a path; write 1 to 1024 characters that begin with '/', others than letters and digits as %20"#,
        ),
        (
            r#"{ type = "http", fresh = { path = "/TIME", max_age = "0s" } }"#,
            r#".fresh.max_age: "0s" is out of range; write "1s" to "8760h""#,
        ),
        (
            r#"{ type = "http", fresh = { path = "/TIME", max_age = "6h", format = "rfc822" } }"#,
            r#".fresh.format: no such word "rfc822"; write "epoch" or "http-date" or "last-modified" or "debian-trace""#,
        ),
        // Times and counts.
        (
            r#"{ type = "icmp", interval = "99ms" }"#,
            r#".interval: "99ms" is out of range; write "100ms" to "1h""#,
        ),
        (
            r#"{ type = "icmp", interval = "2h" }"#,
            r#".interval: "2h" is out of range; write "100ms" to "1h""#,
        ),
        (
            r#"{ type = "icmp", interval = "5" }"#,
            r#".interval: "5" is not a time; write a number and ms, s, m, h or d, as "5s""#,
        ),
        (
            r#"{ type = "icmp", timeout = "10s" }"#,
            r#".timeout: "10s" is out of range; write "10ms" to "9999ms", less than the interval"#,
        ),
        (
            r#"{ type = "icmp", timeout = "1ms" }"#,
            r#".timeout: "1ms" is out of range; write "10ms" to "9999ms", less than the interval"#,
        ),
        (
            r#"{ type = "icmp", rise = 0 }"#,
            ".rise: 0 is out of range; write 1 to 65535",
        ),
        (
            r#"{ type = "icmp", fall = -1 }"#,
            ".fall: -1 is out of range; write 1 to 65535",
        ),
        (
            r#"{ type = "icmp", ok = 65536 }"#,
            ".ok: 65536 is out of range; write 1 to 65535",
        ),
        (
            r#"{ type = "icmp", jitter = 0.6 }"#,
            ".jitter: 0.6 is out of range; write a share of the interval, 0 to 0.5",
        ),
        (
            r#"{ type = "icmp", jitter = nan }"#,
            ".jitter: NaN is out of range; write a share of the interval, 0 to 0.5",
        ),
    ] {
        check_error(check, expect);
    }
}

#[test]
fn the_reference_names_every_key_and_default() {
    let sample = include_str!("../../../../docs/geodns.toml");
    let error = parse(r#"{ type = "http", x = 0 }"#).unwrap_err();
    let error = error.to_string();
    let (_, known) = error.split_once("unknown key; known: ").unwrap();
    let (_, after) = sample.split_once("#check = ").unwrap();
    for key in known.split(", ") {
        let shown = after.lines().any(|line| {
            line.starts_with(&format!("#   {key} ")) || line.contains(&format!("{{ {key} ="))
        });
        assert!(shown, "{key} is not in the reference");
    }
}
