//! Server and client over a real Unix socket. The service behind them is a small one in memory:
//! what the daemon makes of a request is tested with the daemon.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::acme::AcmeToken;
use super::block::BlockRule;
use super::calls;
use super::client::{Client, Error};
use super::problem::Problem;
use super::server::serve;
use crate::base::socket::Socket;

/// Overrides of one pool, `www`, with the mirrors `ams` and `iad`.
#[derive(Default)]
pub struct Memory {
    pub overrides: Mutex<BTreeMap<IpNet, String>>,
    pub imported: Mutex<String>,
    pub tokens: Mutex<Vec<AcmeToken>>,
    pub rules: Mutex<Vec<BlockRule>>,
    /// The last change of a mirror, as it came.
    pub changed: Mutex<String>,
}

/// A server on a socket in a folder of its own.
pub struct Running {
    path: PathBuf,
    pub client: Client,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Running {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let socket = Socket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(
            socket,
            calls(&Arc::new(Memory::default())),
            None,
            async {
                let _ = stopped.await;
            },
        ));
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
    // None has been lost; a new one needs no change here.
    assert!(operations >= 28, "{operations}");
    let all = calls(&Arc::new(Memory::default()));
    for path in all.get_openapi().paths.paths.keys() {
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
