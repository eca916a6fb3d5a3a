//! Notifications of events to real web servers, and alerts of a real Alertmanager, both ways.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use geodns::event::message;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::net::{Pair, Space};
use geodns_tests::process::Process;
use geodns_tests::{needs_root, other_server, until};
use serde_json::{Value, json};

const SERVER: &str = "192.0.2.53";
const SECRET: &str = "a secret of some length";

fn setup(sections: &str) -> Setup {
    let mut setup = Setup::example(&[SERVER])
        .mode("off")
        .and(sections)
        .file("secret", SECRET);
    setup.required = false;
    setup
}

/// A request that came: its head, and its body.
type Request = (String, String);

/// A web server that takes one request after the other, answers each with a status, and keeps it.
struct Target {
    requests: Arc<Mutex<Vec<Request>>>,
    status: Arc<Mutex<u16>>,
}

impl Target {
    /// Listens in a namespace.
    fn start(space: &Space, port: u16) -> Result<Self> {
        let listener = space.enter(|| Ok(TcpListener::bind(("127.0.0.1", port))?))?;
        let target = Self {
            requests: Arc::default(),
            status: Arc::new(Mutex::new(200)),
        };
        let (requests, status) = (Arc::clone(&target.requests), Arc::clone(&target.status));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let status = *status.lock().expect("no panic");
                if let Ok(request) = take(stream, status) {
                    requests.lock().expect("no panic").push(request);
                }
            }
        });
        Ok(target)
    }

    fn answer(&self, status: u16) {
        *self.status.lock().expect("no panic") = status;
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// The events that came, each as JSON.
    fn events(&self) -> Result<Vec<Value>> {
        let requests = self.requests();
        requests
            .iter()
            .map(|(_, body)| Ok(serde_json::from_str(body)?))
            .collect()
    }
}

fn take(mut stream: TcpStream, status: u16) -> Result<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut all = Vec::new();
    let (mut chunk, mut whole) = ([0; 4096], usize::MAX);
    while all.len() < whole {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "it ended early");
        all.extend_from_slice(&chunk[..read]);
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            whole = end + 4 + length.context("no length")?.parse::<usize>()?;
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let text = String::from_utf8(all)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    Ok((head.to_owned(), body.to_owned()))
}

fn notify(port: u16, more: &str) -> String {
    format!("[[notify]]\nurl = \"http://127.0.0.1:{port}/hook?a=b\"\n{more}\n")
}

#[test]
fn a_target_gets_each_event_in_order_signed() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let all = Target::start(&pair.server, 8001)?;
    let some = Target::start(&pair.server, 8002)?;
    let sections = notify(8001, "secret_file = \"secret\"")
        + &notify(
            8002,
            "format = \"slack\"\non = [\"mirror_out\", \"pool_out\"]",
        );
    let mut daemon = Daemon::start(&pair.server, &setup(&sections))?;
    daemon.ok("mirror down iad")?;
    daemon.ok("map set 10.9.0.0/16 sin")?;
    until("all events come", || Ok(all.requests().len() >= 4))?;
    until("one message comes", || Ok(!some.requests().is_empty()))?;
    let kinds: Vec<_> = all
        .events()?
        .iter()
        .map(|event| event["kind"].to_string())
        .collect();
    ensure!(
        kinds == ["\"start\"", "\"mirror_out\"", "\"admin\"", "\"override\""],
        "{kinds:?}"
    );
    for (head, body) in all.requests() {
        ensure!(head.starts_with("POST /hook?a=b HTTP/1.1"), "{head}");
        let signature = head
            .lines()
            .find_map(|line| line.strip_prefix("geodns-signature: "));
        let signature = signature.context("no signature")?;
        let time = signature
            .strip_prefix("t=")
            .and_then(|rest| rest.split_once(','));
        let time = time.context("no time")?.0.parse()?;
        ensure!(
            signature == message::signature(SECRET.as_bytes(), time, &body),
            "{head}"
        );
    }
    let (head, body) = some.requests().remove(0);
    ensure!(!head.contains("geodns-signature"), "{head}");
    let text = serde_json::from_str::<Value>(&body)?["text"].to_string();
    ensure!(text.contains("mirror iad goes out of service"), "{text}");
    // A reload changes who is told; those who stay are told nothing twice.
    let config = daemon.home.config();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(
        &config,
        text.replace("[\"mirror_out\", \"pool_out\"]", "[\"reload\"]"),
    )?;
    daemon.ok("reload")?;
    daemon.ok("reload")?;
    until("the new one is told", || Ok(some.requests().len() >= 2))?;
    until("the old one, too", || {
        let events = all.events()?;
        Ok(events
            .iter()
            .filter(|event| event["kind"] == "reload")
            .count()
            == 2)
    })?;
    daemon.stop()?;
    until("the stop is told", || {
        Ok(all.events()?.iter().any(|event| event["kind"] == "stop"))
    })
}

#[test]
fn a_target_that_hangs_or_refuses_holds_up_nobody() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    // It takes connections, and says nothing.
    let _silent = pair
        .server
        .enter(|| Ok(TcpListener::bind(("127.0.0.1", 8003))?))?;
    let good = Target::start(&pair.server, 8001)?;
    let picky = Target::start(&pair.server, 8002)?;
    picky.answer(400);
    // Nobody listens on the last one.
    let sections = [8003, 8001, 8002, 8004]
        .map(|port| notify(port, ""))
        .concat();
    let mut daemon = Daemon::start(&pair.server, &setup(&sections))?;
    for _ in 0..10 {
        daemon.ok("mirror down iad")?;
        daemon.ok("mirror up iad")?;
    }
    until("the good one gets all", || Ok(good.requests().len() == 41))?;
    let target = |port: u16| {
        let status = daemon.json("status")?;
        let targets = status["notify"].as_array().context("no targets")?.clone();
        let name = format!("127.0.0.1:{port}");
        let found = targets.into_iter().find(|target| target["target"] == *name);
        found.context("no such target")
    };
    until("those that were refused are counted", || {
        let picky = target(8002)?;
        Ok(picky["lost"] == 41 && picky["trouble"].to_string().contains("status 400"))
    })?;
    until("trouble is told", || {
        let silent = target(8003)?["trouble"].to_string();
        let nobody = target(8004)?["trouble"].to_string();
        Ok(silent.contains("no answer in 10 s") && nobody.contains("refused"))
    })?;
    let told = target(8001)?;
    ensure!(
        told["told"] == 41 && told["lost"] == 0 && told["trouble"].is_null(),
        "{told}"
    );
    daemon.logged("notify 127.0.0.1:8003: no answer in 10 s")?;
    let (code, said) = daemon.fails("status --check")?;
    ensure!(code == 1 && said.is_empty(), "{code}: {said}");
    // One that was busy gets what it missed.
    picky.answer(503);
    daemon.ok("mirror down iad")?;
    until("it is asked again", || Ok(picky.requests().len() > 43))?;
    picky.answer(200);
    until("it gets it", || Ok(target(8002)?["told"] == 2))?;
    daemon.stop()
}

/// Passes connections on a TCP port of a namespace on to the control socket, as a proxy would.
fn forward(space: &Space, port: u16, socket: PathBuf) -> Result<()> {
    let listener = space.enter(|| Ok(TcpListener::bind(("127.0.0.1", port))?))?;
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let socket = socket.clone();
            std::thread::spawn(move || pass(tcp, &socket));
        }
    });
    Ok(())
}

fn pass(tcp: TcpStream, socket: &Path) -> Result<()> {
    let unix = UnixStream::connect(socket)?;
    let (mut from, mut to) = (tcp.try_clone()?, unix.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut from, mut to) = (unix, tcp);
    std::io::copy(&mut from, &mut to)?;
    Ok(())
}

#[test]
fn alertmanager_tells_of_mirrors_and_is_told() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let url = "http://127.0.0.1:9093";
    let sections =
        format!("[[notify]]\nurl = \"{url}/api/v2/alerts\"\nformat = \"alertmanager\"\n");
    let mut daemon = Daemon::start(&pair.server, &setup(&sections))?;
    let folder = daemon.home.folder.path().to_owned();
    let config = json!({
        "route": { "receiver": "geodns", "group_by": ["mirror"], "group_wait": "1s", "group_interval": "1s" },
        "receivers": [{ "name": "geodns", "webhook_configs": [
            { "url": "http://127.0.0.1:9099/v1/alerts/alertmanager", "send_resolved": true },
        ] }],
    });
    // YAML takes JSON.
    std::fs::write(folder.join("alertmanager.yml"), config.to_string())?;
    forward(&pair.server, 9099, daemon.home.socket())?;
    // It reads a template of its package from /usr/share, where the package is not installed.
    let program = other_server("prometheus-alertmanager")?.canonicalize()?;
    let package = program.ancestors().nth(2).context("no package")?;
    let run = format!(
        "mount -t overlay overlay -o lowerdir={}/share:/usr/share /usr/share && exec \"$@\"",
        package.display()
    );
    let mut manager = pair.server.command("unshare");
    manager
        .args(["--mount", "sh", "-c", &run, "sh"])
        .arg(&program)
        .arg(format!(
            "--config.file={}",
            folder.join("alertmanager.yml").display()
        ))
        .arg(format!(
            "--storage.path={}",
            folder.join("alerts").display()
        ))
        .args([
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
        ]);
    let mut manager = Process::start(manager, folder.join("alertmanager.log"))?;
    let amtool = |words: &str| -> Result<String> {
        let mut amtool = pair.server.command(other_server("amtool")?);
        amtool
            .arg(format!("--alertmanager.url={url}"))
            .args(words.split(' '));
        geodns_tests::net::run(&mut amtool)
    };
    until("Alertmanager is ready", || {
        manager.require_alive()?;
        Ok(amtool("alert query").is_ok())
    })?;
    let is_in = |mirror: &str| -> Result<bool> {
        let shown = daemon.json(&format!("mirror show {mirror}"))?;
        shown["in_service"].as_bool().context("no word")
    };
    // An alert takes the mirror out; one of no mirror of ours does nothing.
    amtool("alert add alertname=Slow mirror=nobody")?;
    amtool("alert add alertname=Slow mirror=iad --annotation=summary=takes_2_s")?;
    until("iad is out", || Ok(!is_in("iad")?))?;
    let shown = daemon.json("mirror show iad")?;
    ensure!(
        shown["external"][0]["reason"] == "alertmanager: Slow: takes_2_s",
        "{shown}"
    );
    // Its end brings it back.
    amtool("alert add alertname=Slow mirror=iad --end=2020-01-01T00:00:00Z")?;
    until("iad is back", || is_in("iad"))?;
    // Ours come there, and do not come back as verdicts.
    daemon.ok("mirror down ams")?;
    until("our alert is there", || {
        let said = amtool("alert query alertname=GeodnsMirrorOut mirror=ams -o json")?;
        let alerts: Value = serde_json::from_str(&said)?;
        Ok(alerts.as_array().is_some_and(|alerts| alerts.len() == 1))
    })?;
    daemon.ok("mirror auto ams")?;
    until("it has ended", || {
        let said = amtool("alert query alertname=GeodnsMirrorOut mirror=ams -o json")?;
        let alerts: Value = serde_json::from_str(&said)?;
        Ok(alerts.as_array().is_some_and(Vec::is_empty))
    })?;
    ensure!(is_in("ams")?);
    let shown = daemon.json("mirror show ams")?;
    ensure!(
        shown["external"].as_array().is_some_and(Vec::is_empty),
        "{shown}"
    );
    daemon.stop()
}

#[test]
fn alerts_that_are_wrong_are_told_and_the_others_heeded() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let mut daemon = Daemon::start(&pair.server, &setup(""))?;
    let alerts = json!({ "version": "4", "alerts": [
        { "status": "firing", "labels": { "mirror": "gone" } },
        { "status": "firing", "labels": { "mirror": "iad", "address": "10.0.0.1" } },
        { "status": "firing", "labels": { "mirror": "ams" }, "annotations": { "summary": "\u{1b}[2J\n" } },
        { "status": "firing", "labels": {} },
    ]});
    let post = |body: &str| daemon.request("POST", "/v1/alerts/alertmanager?for_ms=3600000", body);
    let (code, body) = post(&alerts.to_string())?;
    ensure!(code == 200, "{code}: {body}");
    let taken: Value = serde_json::from_str(&body)?;
    ensure!(
        taken["set"] == 1 && taken["ignored"] == 1 && taken["unknown"][0] == "gone",
        "{taken}"
    );
    ensure!(
        taken["failed"][0]
            .to_string()
            .contains("has no address 10.0.0.1"),
        "{taken}"
    );
    let shown = daemon.json("mirror show ams")?;
    ensure!(
        shown["in_service"] == false && !shown.to_string().contains("\\u001b"),
        "{shown}"
    );
    let many = vec![json!({ "status": "firing" }); 1001];
    let (code, body) = post(&json!({ "alerts": many }).to_string())?;
    ensure!(
        code == 422 && body.contains("1000 is the most"),
        "{code}: {body}"
    );
    let (code, _) = post("{\"alerts\":[{\"status\":\"odd\"}]}")?;
    ensure!(code == 422, "{code}");
    daemon.stop()
}

/// As a member of groups, without any right: status and body of a request by curl.
fn as_member(groups: &str, socket: &Path, words: &str) -> Result<String> {
    let mut curl = std::process::Command::new("setpriv");
    curl.args([
        "--reuid=65534",
        "--regid=65534",
        &format!("--groups={groups}"),
        "curl",
        "--silent",
    ])
    .args([
        "--show-error",
        "--write-out",
        " %{http_code}",
        "--unix-socket",
    ])
    .arg(socket)
    .args(words.split(' '));
    let output = geodns_tests::net::output(&mut curl)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn members_of_the_group_read_and_change_nothing() -> Result<()> {
    needs_root!();
    let pair = Pair::new(&[])?;
    let folder = tempfile::Builder::new().prefix("geodns-group-").tempdir()?;
    std::os::unix::fs::chown(folder.path(), None, Some(60))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(folder.path(), open)?;
    let socket = folder.path().join("control.sock");
    let mut setup = setup("");
    setup.arguments = ["--socket".to_owned(), socket.display().to_string()].into();
    // Debian's group `games` is number 60.
    let with_group = "[control]\ngroup = \"games\"\n";
    let home = geodns_tests::daemon::Home::new()?;
    home.write(&setup)?;
    let config = std::fs::read_to_string(home.config())?;
    std::fs::write(home.config(), config.replace("[control]\n", with_group))?;
    let mut command = pair.server.command(geodns_tests::built::binary()?);
    command
        .arg("run")
        .arg("--config")
        .arg(home.config())
        .arg("--socket")
        .arg(&socket);
    let mut daemon = Process::start(command, home.folder.path().join("log"))?;
    let ask = |groups: &str, words: &str| as_member(groups, &socket, words);
    let url = "http://geodns/v1";
    until("it answers", || {
        daemon.require_alive()?;
        Ok(ask("60", &format!("{url}/status"))?.ends_with("} 200"))
    })?;
    ensure!(!daemon.log().contains("cannot read"), "{}", daemon.log());
    ensure!(ask("5,60", &format!("{url}/events"))?.ends_with("] 200"));
    let down = format!(
        "-X PUT -H Content-Type:application/json -d {{\"state\":\"down\"}} {url}/mirrors/ams/admin"
    );
    let refused = ask("60", &down)?;
    ensure!(
        refused.ends_with(" 403") && refused.contains("uid 65534 may only read (GET)"),
        "{refused}"
    );
    ensure!(ask("60", &format!("-X POST {url}/reload"))?.ends_with(" 403"));
    // Without the group the kernel lets nobody in, whatever group the user says that he is in.
    let refused = ask("5", &format!("{url}/status"))?;
    ensure!(refused.contains(" 000"), "{refused}");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let refused = ask("5", &format!("{url}/status"))?;
    ensure!(
        refused.ends_with(" 403") && refused.contains("may not control"),
        "{refused}"
    );
    let mirror = ask("60", &format!("{url}/mirrors/ams"))?;
    ensure!(mirror.contains("\"in_service\":true"), "{mirror}");
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    let check = pair
        .server
        .command(geodns_tests::built::binary()?)
        .arg("check")
        .arg(home.config())
        .output()?;
    ensure!(check.status.success(), "{check:?}");
    let config = std::fs::read_to_string(home.config())?;
    std::fs::write(
        home.config(),
        config.replace("\"games\"", "\"no-such-group\""),
    )?;
    let check = pair
        .server
        .command(geodns_tests::built::binary()?)
        .arg("check")
        .arg(home.config())
        .output()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    ensure!(
        said.contains("control.group: there is no group no-such-group"),
        "{said}"
    );
    Ok(())
}
