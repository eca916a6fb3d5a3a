//! The dashboard of a real daemon, over HTTP: its pages, who may look, and clients that mean no good.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use geodns_tests::daemon::{Daemon, EXAMPLE_ZONE, Setup};
use geodns_tests::dns::{A, Query};
use geodns_tests::mmdb::Writer;
use geodns_tests::net::{Pair, at, ip};
use geodns_tests::{needs_root, until};
use serde_json::{Value, json};

const SERVER: &str = "192.0.2.53";
const CLIENT: &str = "11.1.0.1";
const PAGES: [&str; 6] = [
    "/",
    "/mirrors",
    "/zones",
    "/explain",
    "/preview",
    "/interfaces",
];
const TOKEN: &str = "0123456789abcdef";
const LOCAL: &str = "[web]\nlisten = [\"127.0.0.1:8053\"]\n";
/// For the client, which comes by the wire.
const REMOTE: &str = "[web]\nlisten = [\"192.0.2.53:8053\"]\nhost = [\"geo.example\"]\ntoken_file = \"web.token\"\n\
                      behind_proxy = true\n";

/// A response.
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// A daemon with a dashboard, three mirrors and a database.
struct Site {
    daemon: Daemon,
    pair: Pair,
}

/// A database with a city whose name is markup.
fn database() -> Vec<u8> {
    let record = |latitude: f64, longitude: f64| json!({"latitude": latitude, "longitude": longitude, "city": {"names": {"en": "<i>Town</i>"}}});
    Writer::new(
        false,
        &[
            ("11.1.0.0/16", record(40.7, -74.1)),
            ("11.2.0.0/16", record(-6.2, 106.8)),
            ("11.3.0.0/16", record(48.9, 2.3)),
            ("11.4.0.0/24", record(48.9, 2.4)),
            ("11.5.0.0/16", record(-23.5, -46.6)),
        ],
    )
    .bytes()
}

fn setup(web: &str) -> Setup {
    let zone = format!("{EXAMPLE_ZONE}\nmarkup 300 TXT \"<script>alert(1)</script>\"\n");
    Setup::world("three_places", &[SERVER])
        .mode("off")
        .and(web)
        .file("example.org.zone", &zone)
        .file("city.mmdb", &database())
        .file("web.token", TOKEN)
}

impl Site {
    fn new(web: &str) -> Result<Self> {
        let pair = Pair::bare(&[CLIENT])?;
        let daemon = Daemon::start(&pair.server, &setup(web))?;
        Ok(Self { daemon, pair })
    }

    fn connect(&self) -> Result<TcpStream> {
        self.pair
            .server
            .enter(|| Ok(TcpStream::connect("127.0.0.1:8053")?))
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Result<Response> {
        let host = "Host: localhost:8053\r\n";
        ask(self.connect()?, method, path, &format!("{host}{headers}"))
    }

    fn get(&self, path: &str) -> Result<Response> {
        self.ask("GET", path, "")
    }

    /// From the client's end of the wire.
    fn remote(&self, headers: &str) -> Result<Response> {
        let stream = self.pair.client.tcp(ip(CLIENT), at(SERVER, 8053)?)?;
        ask(stream, "GET", "/zones", headers)
    }

    /// The cells of the map, once there are some.
    fn cells(&self) -> Result<Vec<Value>> {
        let mut cells = Vec::new();
        until("the map has cells", || {
            let map: Value = serde_json::from_slice(&self.get("/map.json")?.body)?;
            cells = map["cells"].as_array().cloned().unwrap_or_default();
            Ok(!cells.is_empty())
        })?;
        Ok(cells)
    }

    fn dns(&self) -> Result<()> {
        let reply = self
            .pair
            .ask(CLIENT, SERVER, &Query::new("www.example.org", A))?;
        ensure!(reply.of("A") == ["192.0.2.20"], "{reply:?}");
        Ok(())
    }
}

fn ask(mut stream: TcpStream, method: &str, path: &str, headers: &str) -> Result<Response> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
    )?;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets)?;
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.with_context(|| String::from_utf8_lossy(&octets).into_owned())?;
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Response {
        status,
        head,
        body: octets[end + 4..].to_vec(),
    })
}

#[test]
fn pages_are_whole_and_nothing_can_be_changed() -> Result<()> {
    needs_root!();
    let sponsored = "[[mirror]]\nid = \"sponsored\"\naddresses = [\"203.0.113.77\"]\n\
                     url = \"https://mirror.example.net/a/\"\nsponsor = \"A & <B>\"\ncountry = \"NL\"\n\
                     bandwidth = \"10G\"\nonly = { countries = [\"NL\"] }\n";
    let site = Site::new(&format!("{LOCAL}{sponsored}"))?;
    let about = site.get("/mirrors/sponsored")?;
    for part in [
        "<dt>URL</dt><dd><a href=\"https://mirror.example.net/a/\"",
        "<dt>Sponsor</dt><dd>A &#38; &#60;B&#62;</dd>",
        "<dt>Country</dt><dd>NL</dd>",
        "<dt>Bandwidth</dt><dd>10 Gbit/s</dd>",
        "<dt>Clients</dt><dd>",
    ] {
        ensure!(about.text().contains(part), "{part}: {}", about.text());
    }
    for path in PAGES
        .into_iter()
        .chain(["/mirrors/ams", "/?pool=www&span=week"])
    {
        let page = site.get(path)?;
        let text = page.text();
        ensure!(page.status == 200, "{path}: {} {text}", page.head);
        ensure!(
            text.contains("<main id=\"main\">") && text.ends_with("</html>"),
            "{path}: {text}"
        );
        for (name, value) in [
            ("content-security-policy", "default-src 'self'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            let given = page.header(name).unwrap_or_default();
            ensure!(given.starts_with(value), "{path}: {name}: {given}");
        }
        // The policy would keep a browser from heeding these.
        for inline in ["<script>", " style=", "javascript:", " onclick"] {
            ensure!(!text.contains(inline), "{path} has {inline}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = site.ask(method, path, "Content-Length: 0\r\n")?;
            ensure!(refused.status == 405, "{method} {path}: {}", refused.head);
        }
        ensure!(site.ask("HEAD", path, "")?.status == 200, "HEAD {path}");
    }
    for (path, status) in [
        ("/nothing", 404),
        ("/v1/status", 404),
        ("/mirrors/nobody", 404),
        ("/?pool=nobody", 404),
        ("/assets/nothing", 404),
        ("/assets/..%2f..%2fCargo.toml", 404),
        ("/explain?name=www.example.org&client=nowhere", 422),
        ("/explain?name=www.example.org&client=192.0.2.1&ecs=1", 422),
    ] {
        let page = site.get(path)?;
        ensure!(page.status == status, "{path}: {}", page.head);
    }
    Ok(())
}

#[test]
fn the_first_page_is_small_and_what_it_loads_is_kept() -> Result<()> {
    needs_root!();
    let site = Site::new(LOCAL)?;
    site.cells()?;
    let gzip = "Accept-Encoding: gzip\r\n";
    let page = site.ask("GET", "/", gzip)?;
    ensure!(
        page.header("content-encoding") == Some("gzip"),
        "{}",
        page.head
    );
    let mut html = String::new();
    GzDecoder::new(&page.body[..]).read_to_string(&mut html)?;
    let marks = html.match_indices("\"/assets/");
    let files: BTreeSet<&str> = marks
        .filter_map(|(from, _)| html[from + 1..].split('"').next())
        .collect();
    ensure!(files.len() == 5, "{files:?}");
    let mut sum = page.body.len();
    for file in files {
        let loaded = site.ask("GET", file, gzip)?;
        ensure!(loaded.status == 200, "{file}: {}", loaded.head);
        let caching = loaded.header("cache-control").unwrap_or_default();
        ensure!(caching.contains("immutable"), "{file}: {caching}");
        sum += loaded.body.len();
        let tag = loaded.header("etag").context("no tag")?;
        let known = format!("If-None-Match: {tag}\r\n");
        ensure!(site.ask("GET", file, &known)?.status == 304, "{file}");
        let bare = file.split('?').next().unwrap_or_default();
        let caching = site.get(bare)?;
        ensure!(
            caching.header("cache-control") == Some("no-cache"),
            "{bare}: {}",
            caching.head
        );
    }
    ensure!(sum < 100_000, "{sum} octets");
    Ok(())
}

#[test]
fn text_of_strangers_is_no_markup() -> Result<()> {
    needs_root!();
    let site = Site::new(LOCAL)?;
    let strange = site.daemon.home.folder.path().join("<b>strange.toml");
    std::fs::copy(site.daemon.home.config(), &strange)?;
    let strange = strange.to_str().context("UTF-8")?;
    let output = site.daemon.cli(["preview", strange])?;
    ensure!(output.status.success(), "{output:?}");
    let markup = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for (path, shown) in [
        (
            "/explain?name=markup.example.org&type=TXT&client=11.1.0.1".to_owned(),
            "&#60;script&#62;",
        ),
        (
            "/explain?name=www.example.org&client=11.1.0.1".to_owned(),
            "&#60;i&#62;Town",
        ),
        (
            format!("/explain?name={markup}&client={markup}"),
            "&#60;script&#62;",
        ),
        (
            format!("/explain?name=%22%3E{markup}&client=1.1.1.1&type={markup}"),
            "&#34;&#62;&#60;script&#62;",
        ),
        (format!("/mirrors/{markup}"), "&#60;script&#62;"),
        (format!("/?pool={markup}"), "&#60;script&#62;"),
        ("/preview".to_owned(), "&#60;b&#62;strange.toml"),
    ] {
        let text = site.get(&path)?.text();
        ensure!(text.contains(shown), "{path}: {text}");
        for tag in ["<script>", "<i>", "<b>strange"] {
            ensure!(!text.contains(tag), "{path}: {text}");
        }
    }
    Ok(())
}

#[test]
fn only_those_with_the_token_look_and_only_by_a_name_of_the_site() -> Result<()> {
    needs_root!();
    let site = Site::new(REMOTE)?;
    // any:0123456789abcdef
    let basic = "Authorization: Basic YW55OjAxMjM0NTY3ODlhYmNkZWY=\r\n".to_owned();
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let wrong = "Authorization: Bearer 0123456789abcdeF\r\n".to_owned();
    for (host, token, status) in [
        ("192.0.2.53:8053", &basic, 200),
        ("geo.example", &bearer, 200),
        ("GEO.example:443", &bearer, 200),
        ("evil.example", &bearer, 421),
        ("192.0.2.53.evil.example", &bearer, 421),
        ("192.0.2.53", &String::new(), 401),
        ("192.0.2.53", &wrong, 401),
    ] {
        let page = site.remote(&format!("Host: {host}\r\n{token}"))?;
        ensure!(page.status == status, "{host} {token}: {}", page.head);
        let asks = page.header("www-authenticate").is_some();
        ensure!(asks == (status == 401), "{host}: {}", page.head);
        ensure!(
            status == 200 || !page.text().contains("example.org"),
            "{}",
            page.text()
        );
    }
    // The right one waits as well, then: a network that guesses shall not learn which it was.
    for _ in 0..10 {
        site.remote(&format!("Host: 192.0.2.53\r\n{wrong}"))?;
    }
    let page = site.remote(&format!("Host: 192.0.2.53\r\n{bearer}"))?;
    ensure!(page.status == 429, "{}", page.head);
    Ok(())
}

#[test]
fn each_place_of_the_map_has_the_mirror_that_explain_gives() -> Result<()> {
    needs_root!();
    let site = Site::new(LOCAL)?;
    let agree = || -> Result<BTreeSet<String>> {
        let mut mirrors = BTreeSet::new();
        for cell in site.cells()? {
            let client = cell["client"].as_str().context("a client")?;
            let told = site
                .daemon
                .json(&format!("explain www.example.org --client {client}"))?;
            let candidates = told["mirrors"].as_array().context("mirrors")?;
            let chosen = candidates.iter().find(|mirror| mirror["chosen"] == true);
            let chosen = chosen.context("none is chosen")?;
            ensure!(chosen["mirror"] == cell["mirror"], "{cell}: {told}");
            mirrors.insert(cell["mirror"].as_str().unwrap_or_default().to_owned());
        }
        Ok(mirrors)
    };
    ensure!(site.cells()?.len() == 4, "{:?}", site.cells()?);
    ensure!(agree()?.len() == 3);
    site.daemon.ok("mirror down iad")?;
    // The map is drawn anew.
    until("iad is on the map no more", || {
        Ok(!site.get("/map.json")?.text().contains("iad"))
    })?;
    ensure!(agree()?.len() == 2);
    let html = site.get("/")?.text();
    ensure!(
        html.contains("marker out") && html.contains("iad: down"),
        "{html}"
    );
    site.daemon.ok("mirror drain sin")?;
    until("sin is drained", || {
        Ok(site.get("/mirrors/sin")?.text().contains("state drained"))
    })
}

#[test]
fn hostile_clients_harm_neither_dns_nor_other_visitors() -> Result<()> {
    needs_root!();
    let site = Site::new(LOCAL)?;
    let mut idle = Vec::new();
    for number in 0..600 {
        let mut stream = site.connect()?;
        // Some begin a request, some a stream of events that they do not read.
        match number % 3 {
            0 => write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ")?,
            1 => write!(stream, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")?,
            _ => {}
        }
        idle.push(stream);
        if number % 100 == 0 {
            site.dns()?;
        }
    }
    site.dns()?;
    ensure!(site.get("/zones")?.status == 200);
    for headers in [
        format!("X: {}\r\n", "y".repeat(64 << 10)),
        "X: y\r\n".repeat(1000),
    ] {
        // The answer may be lost, since the server does not read the rest.
        if let Ok(refused) = site.ask("GET", "/", &headers) {
            ensure!(refused.status == 431, "{}", refused.head);
        }
    }
    drop(idle);
    site.dns()?;
    ensure!(site.get("/")?.status == 200);
    Ok(())
}

#[test]
fn numbers_are_live_and_trends_outlive_a_restart() -> Result<()> {
    needs_root!();
    let mut site = Site::new(LOCAL)?;
    let mut stream = site.connect()?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut events = String::new();
    until("a second answer is live", || {
        site.dns()?;
        let mut octets = [0; 4096];
        let count = stream.read(&mut octets)?;
        events += &String::from_utf8_lossy(&octets[..count]);
        let last = events
            .rsplit("data: ")
            .find_map(|event| serde_json::from_str::<Value>(event.split("\n\n").next()?).ok());
        Ok(last.is_some_and(|event| event["answered"].as_u64() > Some(1) && event["mirrors"] == 3))
    })?;
    ensure!(
        events.contains("content-type: text/event-stream"),
        "{events}"
    );
    let first = || -> Result<Option<u64>> {
        let points: Value = serde_json::from_slice(&site.get("/trends.json?span=day")?.body)?;
        Ok(points["at"][0].as_u64())
    };
    until("there are trends", || Ok(first()?.is_some()))?;
    let before = first()?;
    site.daemon.stop()?;
    site.daemon.again(&site.pair.server, &setup(LOCAL))?;
    until("they are back", || {
        Ok(site.get("/trends.json?span=day").is_ok())
    })?;
    let points = site.get("/trends.json?span=day")?.text();
    let kept = before.context("no trends")?.to_string();
    until("trends are read", || {
        Ok(site.get("/trends.json?span=day")?.text().contains(&kept))
    })
    .with_context(|| points)
}

#[test]
fn a_reload_moves_the_dashboard_and_a_bad_address_changes_nothing() -> Result<()> {
    needs_root!();
    let site = Site::new("")?;
    ensure!(site.connect().is_err());
    site.daemon.home.write(&setup(LOCAL))?;
    site.daemon.ok("reload")?;
    ensure!(site.get("/")?.status == 200);
    // Not an address of this machine.
    let bad = REMOTE.replace("192.0.2.53", "198.51.100.99");
    site.daemon.home.write(&setup(&bad))?;
    let (_, said) = site.daemon.fails("reload")?;
    ensure!(
        said.contains("web.listen: cannot listen on 198.51.100.99:8053"),
        "{said}"
    );
    ensure!(site.get("/")?.status == 200);
    site.daemon.home.write(&setup(REMOTE))?;
    site.daemon.ok("reload")?;
    ensure!(site.remote("Host: geo.example\r\n")?.status == 401);
    until("the old address is free", || Ok(site.connect().is_err()))?;
    site.daemon.home.write(&setup(""))?;
    site.daemon.ok("reload")?;
    until("nobody listens", || {
        Ok(site.remote("Host: geo.example\r\n").is_err())
    })?;
    site.dns()
}
