//! Server and client over a real Unix socket. The service behind them is a small one in memory:
//! what the daemon makes of a request is tested with the daemon.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::api::*;
use super::client::{Client, Error, Progress};
use super::server::{Socket, serve};

/// Overrides of one pool, `www`, with the mirrors `ams` and `iad`.
#[derive(Default)]
pub(super) struct Memory {
    overrides: Mutex<BTreeMap<IpNet, String>>,
    imported: Mutex<String>,
    tokens: Mutex<Vec<AcmeToken>>,
    rules: Mutex<Vec<BlockRule>>,
    /// The last change of a mirror, as it came.
    changed: Mutex<String>,
}

impl Memory {
    /// Keeps a change of `ams`; there is no other mirror.
    fn change(&self, id: &str, change: impl std::fmt::Debug) -> Result<MirrorChanged, Failure> {
        if id != "ams" {
            return Err(Failure::NotFound(format!("no mirror {id}; there is ams")));
        }
        let said = format!("{change:?}");
        let before = std::mem::replace(&mut *self.changed.lock().unwrap(), said.clone());
        Ok(MirrorChanged {
            before: ams(&before),
            after: ams(&said),
            warnings: vec!["pool www has no other mirror in service".into()],
        })
    }
}

fn ams(why: &str) -> Mirror {
    Mirror {
        id: "ams".into(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pools: vec!["www".into()],
        in_service: true,
        why: why.into(),
        admin: MirrorAdmin {
            state: AdminState::Auto,
            since_unix_ms: None,
            drained: 0.0,
            over_ms: None,
            until_unix_ms: None,
        },
        weight: MirrorWeight {
            configured: 100,
            in_force: 100,
            wanted: None,
            since_unix_ms: None,
            over_ms: None,
            until_unix_ms: None,
        },
        checks: vec![MirrorCheck {
            address: "192.0.2.1".parse().unwrap(),
            state: CheckState::Up,
            since_unix_ms: Some(1),
            reason: None,
            latency_ms: Some(0.25),
        }],
        external: Vec::new(),
        now_unix_ms: 2,
    }
}

impl Service for Memory {
    async fn status(&self) -> Result<Status, Failure> {
        Ok(Status {
            version: "1.2.3".into(),
            config: "geodns.toml".into(),
            uptime_seconds: 5,
            generation: 1,
            listen: vec!["192.0.2.53".parse().unwrap()],
            not_listening: Vec::new(),
            port: 53,
            tls_port: None,
            interfaces: Vec::new(),
            missing_interfaces: Vec::new(),
            zones: 1,
            members: 0,
            signed_zones: Vec::new(),
            steered_names: 1,
            names: NamesStatus::default(),
            pools: Vec::new(),
            verified_instructions: 0,
            atlases: Vec::new(),
            regions: 0,
            atlas_bytes: 0,
            kernel_memory_bytes: 0,
            restarted: Vec::new(),
            last_error: None,
        })
    }
    async fn stats(&self) -> Result<Stats, Failure> {
        Ok(Stats::default())
    }
    async fn mirrors(&self) -> Result<Vec<Mirror>, Failure> {
        Ok(vec![ams("")])
    }
    async fn mirror(&self, id: String) -> Result<Mirror, Failure> {
        match id.as_str() {
            "ams" => Ok(ams("")),
            _ => Err(Failure::NotFound(format!("no mirror {id}; there is ams"))),
        }
    }
    async fn mirror_admin(&self, id: String, change: SetAdmin) -> Result<MirrorChanged, Failure> {
        self.change(&id, change)
    }
    async fn mirror_weight(&self, id: String, change: SetWeight) -> Result<MirrorChanged, Failure> {
        self.change(&id, change)
    }
    async fn mirror_weight_reset(&self, id: String) -> Result<MirrorChanged, Failure> {
        self.change(&id, "reset")
    }
    async fn mirror_health(&self, id: String, change: SetHealth) -> Result<MirrorChanged, Failure> {
        self.change(&id, change)
    }
    async fn mirror_health_clear(
        &self,
        id: String,
        address: Option<IpAddr>,
    ) -> Result<MirrorChanged, Failure> {
        self.change(&id, ("clear", address))
    }
    async fn zones(&self) -> Result<Vec<Zone>, Failure> {
        Ok(Vec::new())
    }
    async fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure> {
        let tokens = self.tokens.lock().unwrap();
        Ok(tokens.clone())
    }
    async fn acme_set(&self, set: AcmeSet) -> Result<AcmeChanged, Failure> {
        let mut tokens = self.tokens.lock().unwrap();
        tokens.push(AcmeToken {
            name: set.name.clone(),
            token: set.token,
            ttl: set.ttl,
            until_unix_ms: set.for_ms,
            zone: None,
            now_unix_ms: 0,
        });
        Ok(acme_changed(set.name, tokens.clone()))
    }
    async fn acme_clear(&self, clear: AcmeClear) -> Result<AcmeChanged, Failure> {
        let mut tokens = self.tokens.lock().unwrap();
        tokens.retain(|token| {
            let is_it = clear.token.as_ref().is_none_or(|text| *text == token.token);
            token.name != clear.name || !is_it
        });
        Ok(acme_changed(clear.name, tokens.clone()))
    }
    async fn top(&self) -> Result<Stream, Failure> {
        let lines = ["{\"a\":1}\n", "{\"a\":2}\n"];
        Ok(futures_util::stream::iter(lines.map(Bytes::from)).boxed())
    }
    async fn capture(&self, query: CaptureQuery) -> Result<Stream, Failure> {
        match query.name {
            Some(name) => Err(Failure::Invalid(format!("{name}: no"))),
            None => Ok(futures_util::stream::iter(["pcap"].map(Bytes::from)).boxed()),
        }
    }
    async fn block_list(&self) -> Result<Vec<BlockRule>, Failure> {
        let rules = self.rules.lock().unwrap();
        Ok(rules.clone())
    }
    async fn block_add(&self, add: BlockAdd) -> Result<BlockChanged, Failure> {
        let mut rules = self.rules.lock().unwrap();
        let new: Vec<BlockRule> = (1..)
            .zip(&add.from)
            .map(|(number, &from)| BlockRule {
                number: Some(number),
                name: add.name.clone(),
                below: add.below.clone(),
                qtype: add.qtype.clone(),
                from: Some(from),
                note: add.note.clone(),
                dropped: 0,
            })
            .collect();
        rules.extend(new.iter().cloned());
        Ok(BlockChanged {
            all: rules.len() as u64,
            rules: new,
            before: 0,
        })
    }
    async fn block_remove(&self, remove: BlockRemove) -> Result<BlockChanged, Failure> {
        if remove.numbers.is_some_and(|numbers| numbers != "1,2") {
            return Err(Failure::NotFound("there is no such rule".into()));
        }
        let rules = std::mem::take(&mut *self.rules.lock().unwrap());
        Ok(BlockChanged {
            rules,
            before: 0,
            all: 0,
        })
    }
    async fn map_list(&self, pool: Option<String>) -> Result<Vec<Mapping>, Failure> {
        if pool.is_some_and(|pool| pool != "www") {
            return Err(Failure::NotFound("no such pool; there is www".into()));
        }
        let overrides = self.overrides.lock().unwrap();
        let mapping = |(&prefix, mirror): (&IpNet, &String)| Mapping {
            prefix,
            mirror: mirror.clone(),
            pool: "www".into(),
        };
        Ok(overrides.iter().map(mapping).collect())
    }
    async fn map_set(&self, change: MapSet) -> Result<MapChanged, Failure> {
        if change.mirror != "ams" && change.mirror != "iad" {
            return Err(Failure::Invalid(
                "no such mirror;\nthere are ams, iad".into(),
            ));
        }
        let mut overrides = self.overrides.lock().unwrap();
        let before = overrides.insert(change.prefix, change.mirror.clone());
        Ok(changed(change.prefix, before, Some(change.mirror)))
    }
    async fn map_del(&self, change: MapDel) -> Result<MapChanged, Failure> {
        match self.overrides.lock().unwrap().remove(&change.prefix) {
            Some(before) => Ok(changed(change.prefix, Some(before), None)),
            None => Err(Failure::NotFound(format!(
                "{} has no override",
                change.prefix
            ))),
        }
    }
    async fn map_get(&self, _: IpAddr, _: Option<String>) -> Result<Vec<Lookup>, Failure> {
        Ok(Vec::new())
    }
    async fn map_export(&self, _: Option<String>) -> Result<String, Failure> {
        Ok(self.imported.lock().unwrap().clone())
    }
    async fn map_import(
        &self,
        csv: String,
        name: String,
        pool: Option<String>,
    ) -> Result<Imported, Failure> {
        let lines = csv.lines().skip(1).count() as u64;
        *self.imported.lock().unwrap() = csv;
        let key = format!("{name} for {}", pool.unwrap_or_default());
        Ok(Imported {
            prefixes: BTreeMap::from([(key, lines)]),
            parse_ms: 0,
            compile_ms: 0,
            store_ms: 0,
            publish_ms: 0,
            kernel_memory_bytes: 0,
        })
    }
    async fn explain(&self, question: ExplainQuery) -> Result<Explanation, Failure> {
        let response = Response {
            rcode: "NOERROR".into(),
            records: Vec::new(),
            ttl: None,
            scope: None,
            truncated: false,
            octets: String::new(),
        };
        Ok(Explanation {
            summary: format!("{} for {}", question.name, question.client),
            name: question.name,
            qtype: question.qtype.unwrap_or_else(|| "A".into()),
            client: question.client,
            ecs: question.ecs,
            zone: None,
            steered: None,
            lookup: None,
            a: Vec::new(),
            aaaa: Vec::new(),
            ttl: None,
            steps: Vec::new(),
            mirrors: Vec::new(),
            response,
            kernel: None,
            agrees: true,
        })
    }
    async fn preview(&self, proposal: Proposal) -> Result<Preview, Failure> {
        Err(Failure::Invalid(format!(
            "{}: cannot read",
            proposal.config
        )))
    }
    async fn reload(&self, _: Option<String>) -> Result<Reloaded, Failure> {
        Err(Failure::Internal("the disk is on fire".into()))
    }
}

fn acme_changed(name: String, tokens: Vec<AcmeToken>) -> AcmeChanged {
    AcmeChanged {
        name,
        zone: None,
        serial: Some(7),
        tokens,
    }
}

fn changed(prefix: IpNet, before: Option<String>, after: Option<String>) -> MapChanged {
    let change = Change {
        pool: "www".into(),
        before,
        after,
    };
    MapChanged {
        prefix,
        changes: vec![change],
    }
}

/// A server on a socket in a folder of its own.
struct Running {
    path: PathBuf,
    client: Client,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let socket = Socket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(socket, Arc::new(Memory::default()), async {
            let _ = stopped.await;
        }));
        Self {
            client: Client::new(&path),
            path,
            stop,
            server,
            _folder: folder,
        }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        self._folder
    }

    /// A request as any HTTP client might send it; the answer's head and body.
    async fn raw(&self, head: &str, body: &[u8]) -> (String, Vec<u8>) {
        let path = self.path.clone();
        let mut request = head.replace('\n', "\r\n").into_bytes();
        request.extend_from_slice(b"\r\nHost: x\r\nConnection: close\r\n\r\n");
        request.extend_from_slice(body);
        tokio::task::spawn_blocking(move || {
            let mut stream = StdStream::connect(path).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            // The server may answer and close before it has read a body that it refuses.
            let _ = stream.write_all(&request);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
            let head = String::from_utf8(answer[..split].to_vec()).unwrap();
            (head, answer[split + 4..].to_vec())
        })
        .await
        .unwrap()
    }

    /// Status and error line of a request that fails.
    async fn problem(&self, head: &str, body: &[u8]) -> (u16, String) {
        let (head, body) = self.raw(head, body).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let problem: Problem = serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{error}: {head}: {}", body.escape_ascii()));
        assert!(
            head.to_lowercase()
                .contains("content-type: application/json")
        );
        assert!(!problem.error.is_empty() && !problem.error.contains('\n'));
        (status, problem.error)
    }

    async fn json(&self, head: &str) -> Value {
        let (head, body) = self.raw(head, b"").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_away_on_stop() {
    let running = Running::start();
    let path = running.path.clone();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    running.client.status().await.unwrap();
    let _folder = running.stop().await;
    assert!(!path.exists());
    assert!(path.parent().unwrap().exists());
}

#[tokio::test]
async fn only_a_dead_socket_is_replaced() {
    let running = Running::start();
    let path = running.path.clone();
    let error = Socket::bind(&path).unwrap_err().to_string();
    assert!(error.contains("another geodns listens there"), "{error}");
    running.client.status().await.unwrap();
    let _folder = running.stop().await;

    // Left by a daemon that was killed: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.symlink_metadata().unwrap().file_type().is_socket());
    drop(Socket::bind(&path).unwrap());
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let error = Socket::bind(&path).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_socket_that_is_no_longer_ours_stays() {
    let running = Running::start();
    let path = running.path.clone();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let _folder = running.stop().await;
    assert!(path.exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(120));
    let error = Socket::bind(&path).unwrap_err().to_string();
    assert!(error.ends_with("(107 bytes at the most)"), "{error}");
}

#[tokio::test]
async fn overrides_are_set_listed_and_deleted() {
    let running = Running::start();
    let client = &running.client;
    let set = |prefix: &str, mirror: &str| MapSet {
        prefix: prefix.parse().unwrap(),
        mirror: mirror.into(),
        pool: None,
    };
    let reply = client.map_set(&set("192.0.2.0/24", "ams")).await.unwrap();
    let first: MapChanged = reply.json().unwrap();
    assert_eq!(first.changes[0].before, None);
    let reply = client.map_set(&set("192.0.2.0/24", "iad")).await.unwrap();
    let second: MapChanged = reply.json().unwrap();
    assert_eq!(second.changes[0].before.as_deref(), Some("ams"));
    client.map_set(&set("2001:db8::/32", "ams")).await.unwrap();

    let of = OfPool {
        pool: Some("www".into()),
    };
    let list: Vec<Mapping> = client.map_list(&of).await.unwrap().json().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0].mirror, "iad");
    assert_eq!(list[1].prefix, "2001:db8::/32".parse::<IpNet>().unwrap());

    let del = MapDel {
        prefix: "2001:db8::/32".parse().unwrap(),
        pool: None,
    };
    let reply = client.map_del(&del).await.unwrap();
    let deleted: MapChanged = reply.json().unwrap();
    assert_eq!(deleted.changes[0].after, None);
    let error = client.map_del(&del).await.unwrap_err();
    assert_eq!(error.to_string(), "2001:db8::/32 has no override");
    // Failures are one line, whatever the daemon put in them.
    let error = client.map_set(&set("::/0", "xyz")).await.unwrap_err();
    assert_eq!(error.to_string(), "no such mirror; there are ams, iad");
}

#[tokio::test]
async fn a_mirror_is_shown_and_changed() {
    let running = Running::start();
    let client = &running.client;
    let mirror: Mirror = client.mirror("ams").await.unwrap().json().unwrap();
    let mirrors: Vec<Mirror> = client.mirrors().await.unwrap().json().unwrap();
    assert_eq!(mirrors, [mirror]);

    let admin = SetAdmin {
        state: AdminState::Drain,
        over_ms: Some(600_000),
    };
    let weight = SetWeight {
        value: 50,
        over_ms: None,
    };
    let health = SetHealth {
        up: false,
        address: Some("192.0.2.1".parse().unwrap()),
        for_ms: Some(1),
        reason: "a \"reason\", größer".into(),
    };
    let of = OfAddress {
        address: health.address,
    };
    let every = OfAddress::default();
    let mut before = String::new();
    for (reply, said) in [
        (
            client.mirror_admin("ams", &admin).await,
            format!("{admin:?}"),
        ),
        (
            client.mirror_weight("ams", &weight).await,
            format!("{weight:?}"),
        ),
        (
            client.mirror_weight_reset("ams").await,
            "\"reset\"".to_owned(),
        ),
        (
            client.mirror_health("ams", &health).await,
            format!("{health:?}"),
        ),
        (
            client.mirror_health_clear("ams", &of).await,
            format!("{:?}", ("clear", of.address)),
        ),
        (
            client.mirror_health_clear("ams", &every).await,
            format!("{:?}", ("clear", every.address)),
        ),
    ] {
        let changed: MirrorChanged = reply.unwrap().json().unwrap();
        assert_eq!(changed.before.why, before);
        assert_eq!(changed.after.why, said);
        assert_eq!(changed.warnings.len(), 1);
        before = said;
    }

    let error = client.mirror_weight_reset("xyz").await.unwrap_err();
    assert_eq!(error.to_string(), "no mirror xyz; there is ams");
    // What is no id never becomes another path.
    for id in ["", "ams/admin", "ams?x", "a b", "größer", "a\nb"] {
        let error = client.mirror(id).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{id:?}: {error}");
    }
}

#[tokio::test]
async fn tokens_are_set_listed_and_cleared() {
    let running = Running::start();
    let client = &running.client;
    let set = |token: &str| AcmeSet {
        name: "*.example.org".into(),
        token: token.into(),
        ttl: 60,
        for_ms: 1000,
    };
    for token in ["-a&b=c d", "two"] {
        let changed: AcmeChanged = client.acme_set(&set(token)).await.unwrap().json().unwrap();
        assert_eq!(changed.tokens.last().unwrap().token, token);
    }
    let mut clear = AcmeClear {
        name: "*.example.org".into(),
        token: Some("-a&b=c d".into()),
    };
    client.acme_clear(&clear).await.unwrap();
    let list: Vec<AcmeToken> = client.acme_list().await.unwrap().json().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].token.as_str(), list[0].until_unix_ms),
        ("two", 1000)
    );
    clear.token = None;
    let changed: AcmeChanged = client.acme_clear(&clear).await.unwrap().json().unwrap();
    assert_eq!(changed.tokens, []);

    let (long, most) = ("x".repeat(256), "x".repeat(255));
    client.acme_set(&set(&most)).await.unwrap();
    for token in ["", "a\nb", "größer", &long] {
        let error = client.acme_set(&set(token)).await.unwrap_err();
        assert!(error.to_string().contains("printable"), "{error}");
    }
    for (ttl, for_ms) in [(0, 1), (86_401, 1), (1, 0), (1, u64::MAX)] {
        let set = AcmeSet {
            ttl,
            for_ms,
            ..set("x")
        };
        let error = client.acme_set(&set).await.unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }
}

#[tokio::test]
async fn an_import_is_streamed_whole_and_exported_again() {
    let running = Running::start();
    let mut csv = "prefix,mirror\n".to_owned();
    for i in 0..100_000u32 {
        let address = std::net::Ipv4Addr::from_bits(i << 8);
        csv += &format!("{address}/24,ams\n");
    }
    let progress = Arc::new(Mutex::new(Vec::new()));
    let import = ImportQuery {
        name: Some("a list & more.csv".into()),
        pool: Some("wéb".into()),
    };
    let reply = running
        .client
        .map_import(std::io::Cursor::new(csv.clone().into_bytes()), &import, {
            let progress = progress.clone();
            move |step| progress.lock().unwrap().push(step)
        })
        .await
        .unwrap();
    let imported: Imported = reply.json().unwrap();
    assert_eq!(
        imported.prefixes,
        BTreeMap::from([("a list & more.csv for wéb".to_owned(), 100_000)])
    );
    let progress = progress.lock().unwrap().clone();
    assert_eq!(progress.last(), Some(&Progress::Waiting));
    assert_eq!(
        progress[progress.len() - 2],
        Progress::Sent(csv.len() as u64)
    );

    let of = OfPool::default();
    let text = running.client.map_export(&of, false).await.unwrap();
    assert_eq!(text.body, csv);
    let reply = running.client.map_export(&of, true).await.unwrap();
    let exported: Vec<Exported> = reply.json().unwrap();
    assert_eq!(exported.len(), 100_000);
    assert_eq!(exported[1].prefix, "0.0.1.0/24");
    assert_eq!(exported[1].mirror, "ams");
}

#[tokio::test]
async fn bad_requests_get_one_line_of_json() {
    let running = Running::start();
    let problem = async |head: &str, body: &str| {
        let head = format!("{head}\nContent-Length: {}", body.len());
        running.problem(&head, body.as_bytes()).await
    };
    let json = "PUT /v1/map HTTP/1.1\nContent-Type: application/json";
    let admin = "PUT /v1/mirrors/ams/admin HTTP/1.1\nContent-Type: application/json";
    let weight = "PUT /v1/mirrors/ams/weight HTTP/1.1\nContent-Type: application/json";
    let health = "PUT /v1/mirrors/ams/health HTTP/1.1\nContent-Type: application/json";
    for (head, body, status, error) in [
        ("GET /nowhere HTTP/1.1", "", 404, "nothing at /nowhere"),
        ("GET /v1/statuses HTTP/1.1", "", 404, "nothing at"),
        (
            "POST /v1/status HTTP/1.1",
            "",
            405,
            "POST is not for /v1/status",
        ),
        (
            "GET /v1/reload HTTP/1.1",
            "",
            405,
            "GET is not for /v1/reload",
        ),
        ("GET /v1/map?pools=www HTTP/1.1", "", 400, "pools"),
        ("GET /v1/map?pool=cdn HTTP/1.1", "", 404, "no such pool"),
        ("GET /v1/map/lookup HTTP/1.1", "", 400, "address"),
        ("GET /v1/map/lookup?address=x HTTP/1.1", "", 400, "address"),
        ("GET /v1/explain?name=x HTTP/1.1", "", 400, "client"),
        ("DELETE /v1/map HTTP/1.1", "", 400, "prefix"),
        (
            "DELETE /v1/map?prefix=10.0.0.1/8 HTTP/1.1",
            "",
            422,
            "10.0.0.1/8 has bits set past its length; write 10.0.0.0/8",
        ),
        (json, "", 400, "JSON"),
        (json, "{", 400, "JSON"),
        (json, "[]", 422, "JSON"),
        (json, r#"{"prefix":"10.0.0.0/8"}"#, 422, "mirror"),
        (json, r#"{"prefix":"10/8","mirror":"ams"}"#, 422, "prefix"),
        (
            json,
            r#"{"prefix":"10.0.0.0/8","mirror":"ams","pol":"w"}"#,
            422,
            "pol",
        ),
        (
            json,
            r#"{"prefix":"10.0.0.1/8","mirror":"ams"}"#,
            422,
            "10.0.0.1/8 has bits set past its length; write 10.0.0.0/8",
        ),
        ("PUT /v1/map HTTP/1.1", "{}", 415, "Content-Type"),
        ("GET /v1/mirrors/xyz HTTP/1.1", "", 404, "no mirror xyz"),
        (
            "GET /v1/mirrors/a%20b HTTP/1.1",
            "",
            422,
            "not a mirror's id",
        ),
        ("GET /v1/mirrors/%ff HTTP/1.1", "", 400, "id"),
        (
            "POST /v1/mirrors/ams/admin HTTP/1.1",
            "{}",
            405,
            "POST is not for",
        ),
        (admin, "{}", 422, "state"),
        (admin, r#"{"state":"sideways"}"#, 422, "sideways"),
        (admin, r#"{"state":"up","for":"x"}"#, 422, "for"),
        (admin, r#"{"state":"up","over_ms":5}"#, 422, "drain only"),
        (admin, r#"{"state":"drain","over_ms":-5}"#, 422, "over_ms"),
        (
            admin,
            r#"{"state":"drain","over_ms":99999999999}"#,
            422,
            "over_ms: 99999999999 is out of range; write 0 to 31536000000",
        ),
        (
            weight,
            r#"{"value":1000001}"#,
            422,
            "value: 1000001 is out of range; write 0 to 1000000",
        ),
        (weight, r#"{"value":-1}"#, 422, "value"),
        (weight, r#"{"value":1.5}"#, 422, "value"),
        (weight, r#"{"values":1}"#, 422, "values"),
        (health, r#"{"address":"192.0.2.1"}"#, 422, "up"),
        (health, r#"{"up":true,"for_ms":0}"#, 422, "write 1 to"),
        (health, r#"{"up":true,"address":"x"}"#, 422, "address"),
        (
            "DELETE /v1/mirrors/ams/health?adress=192.0.2.1 HTTP/1.1",
            "",
            400,
            "adress",
        ),
        ("POST /v1/reload HTTP/1.1", "", 500, "the disk is on fire"),
    ] {
        let (got, line) = problem(head, body).await;
        assert_eq!(got, status, "{head}: {body}: {line}");
        assert!(line.contains(error), "{head}: {body}: {line}");
    }
    let (status, line) = running
        .problem(
            "PUT /v1/map/import?name=l.csv HTTP/1.1\nContent-Length: 20",
            b"prefix,mirror\n\n10.\xff0.",
        )
        .await;
    assert_eq!((status, line.as_str()), (422, "l.csv:3: not UTF-8 text"));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let running = Running::start();
    let big = vec![b' '; 65 << 10];
    let head = format!(
        "PUT /v1/map HTTP/1.1\nContent-Type: application/json\nContent-Length: {}",
        big.len()
    );
    assert_eq!(running.problem(&head, &big).await.0, 413);
    // An import may be larger, and is refused by its declared size alone when it is too large.
    let head = format!("PUT /v1/map/import HTTP/1.1\nContent-Length: {}", big.len());
    let (head, _) = running
        .raw(&head, &[b"x\n".as_slice(), &big[2..]].concat())
        .await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let head = "PUT /v1/map/import HTTP/1.1\nContent-Length: 300000000";
    assert_eq!(running.problem(head, b"").await.0, 413);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let running = Running::start();
    let (head, body) = running.raw("HEAD /v1/status HTTP/1.1", b"").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"");
    let (head, _) = running
        .raw("PUT /v1/status HTTP/1.1\nContent-Length: 0", b"")
        .await;
    assert!(
        head.to_lowercase().contains("\r\nallow: get,head"),
        "{head}"
    );
}

#[tokio::test]
async fn the_document_describes_what_is_served() {
    let running = Running::start();
    let document = running.json("GET /v1/openapi.json HTTP/1.1").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch", "options", "trace"] {
            let head = format!(
                "{} {path} HTTP/1.1\nContent-Length: 0",
                method.to_uppercase()
            );
            let (answer, _) = running.raw(&head, b"").await;
            let served =
                !answer.starts_with("HTTP/1.1 404 ") && !answer.starts_with("HTTP/1.1 405 ");
            assert_eq!(
                methods.get(method).is_some(),
                served,
                "{method} {path}: {answer}"
            );
            operations += usize::from(served);
        }
    }
    assert_eq!(operations, 28);
    for path in super::server::paths() {
        assert!(
            document["paths"].get(path).is_some(),
            "{path} is not described"
        );
    }
    // Every reference leads somewhere.
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    assert_eq!(
        document["paths"]["/v1/map"]["put"]["requestBody"]["content"]["application/json"]["schema"],
        json!({"$ref": "#/components/schemas/MapSet"})
    );
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(reference) if key == "$ref" => found.push(reference.to_owned()),
                    _ => collect_references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|v| collect_references(v, found)),
        _ => {}
    }
}

#[tokio::test]
async fn without_a_daemon_the_client_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let expected = format!(
        "no daemon at {}: is it running? (start it with `geodns run`)",
        path.display()
    );
    let client = Client::new(&path);
    assert_eq!(client.status().await.unwrap_err().to_string(), expected);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(client.status().await.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn another_kind_of_server_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        for answer in [
            "",
            "HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno",
            "SSH-2.0-x\r\n",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0; 16];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let client = Client::new(&path);
    for _ in 0..3 {
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, Error::Connection { .. }), "{error:?}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    server.join().unwrap();
}
