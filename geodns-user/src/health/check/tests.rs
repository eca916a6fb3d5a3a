//! Each kind of check against real servers, good and evil, and the line that it says of each.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::ServerSessionMemoryCache;
use tokio_rustls::rustls::{HandshakeKind, RootCertStore, ServerConfig};

use super::*;
use crate::config::{Check, HttpCheck, Status, Tls};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
/// Timeout for servers that are to be found silent.
const SHORT: Duration = Duration::from_secs(1);
/// Timeout for all others.
const LONG: Duration = Duration::from_secs(20);

fn target(kind: CheckKind, address: IpAddr, timeout: Duration) -> Target {
    Target {
        check: Check {
            kind,
            interval: 2 * timeout,
            timeout,
            rise: 2,
            fall: 3,
            ok: 2,
            jitter: Duration::ZERO,
        },
        address,
    }
}

fn http(port: u16) -> HttpCheck {
    HttpCheck {
        tls: Tls::Off,
        port,
        path: "/health?a=1".to_owned(),
        host: None,
        status: vec![Status::Class(2)],
        body: None,
        fresh: None,
    }
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.to_owned())
}

/// A connection to a server in a test.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A server that does the same with each connection, and its port.
async fn serve<F>(address: IpAddr, each: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(each(stream));
        }
    });
    port
}

/// The request's head.
async fn request(stream: &mut impl Stream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A server that says this to each request, and hangs up.
async fn say(answer: &'static str) -> u16 {
    serve(V4, move |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

async fn run(kind: CheckKind, address: IpAddr, timeout: Duration) -> Outcome {
    let start = Instant::now();
    let outcome = Probe::new(&target(kind, address, timeout), &Shared::default())
        .run()
        .await;
    assert!(start.elapsed() < timeout + LONG);
    outcome
}

async fn ask(check: HttpCheck) -> Outcome {
    run(CheckKind::Http(check), V4, LONG).await
}

/// Checks a server that is to be found silent.
async fn ask_briefly(check: HttpCheck) -> Outcome {
    run(CheckKind::Http(check), V4, SHORT).await
}

/// A port where nobody listens.
async fn closed() -> u16 {
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_request_is_what_servers_expect() {
    for (address, literal) in [(V4, "127.0.0.1"), (V6, "[::1]")] {
        let seen = Arc::new(Mutex::new(String::new()));
        let keep = seen.clone();
        let port = serve(address, move |mut stream| {
            let keep = keep.clone();
            async move {
                *keep.lock().unwrap() = request(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await;
            }
        })
        .await;
        for (host, expect) in [
            (None, format!("{literal}:{port}")),
            (Some("www.example.org"), format!("www.example.org:{port}")),
        ] {
            let mut check = http(port);
            check.host = host.map(str::to_owned);
            let outcome = run(CheckKind::Http(check), address, LONG).await;
            assert_eq!(outcome, Outcome::Passed);
            let version = env!("CARGO_PKG_VERSION");
            let expect = format!(
                "GET /health?a=1 HTTP/1.1\r\nhost: {expect}\r\nuser-agent: geodns/{version} (health \
                 check)\r\naccept: */*\r\nconnection: close\r\n\r\n"
            );
            assert_eq!(*seen.lock().unwrap(), expect);
        }
    }
}

#[tokio::test]
async fn the_status_decides() {
    for (code, status, expect) in [
        (200, vec![Status::Class(2)], None),
        (299, vec![Status::Class(2)], None),
        (
            503,
            vec![Status::Class(2)],
            Some("status 503, expected 2xx"),
        ),
        (
            200,
            vec![Status::Class(3), Status::Code(204)],
            Some("status 200, expected 3xx,204"),
        ),
        (204, vec![Status::Class(3), Status::Code(204)], None),
        (404, vec![Status::Code(404)], None),
    ] {
        let answer = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\n\r\n");
        let mut check = http(say(answer.leak()).await);
        check.status = status;
        let expect = expect.map_or(Outcome::Passed, failed);
        assert_eq!(ask(check).await, expect);
    }
}

#[tokio::test]
async fn a_redirect_is_judged_and_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let port = serve(V4, move |mut stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            request(&mut stream).await;
            let answer = "HTTP/1.1 302 Found\r\nlocation: /health?a=1\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let outcome = ask(http(port)).await;
    assert_eq!(outcome, failed("status 302, expected 2xx"));
    let mut check = http(port);
    check.status = vec![Status::Class(3)];
    assert_eq!(ask(check).await, Outcome::Passed);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_body_must_have_the_text_wherever_it_is_cut() {
    let check = |port, text: &str| HttpCheck {
        body: Some(text.to_owned()),
        ..http(port)
    };
    let whole = say("HTTP/1.1 200 x\r\ncontent-length: 8\r\n\r\nall well").await;
    assert_eq!(ask(check(whole, "all well")).await, Outcome::Passed);
    assert_eq!(
        ask(check(whole, "ill")).await,
        failed("body: no \"ill\" in its 8 octets")
    );
    let chunks = say(
        "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n3\r\n--a\r\n1\r\nb\r\n2\r\nc-\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(ask(check(chunks, "abc")).await, Outcome::Passed);
    let until_close = say("HTTP/1.1 200 x\r\n\r\nabc").await;
    assert_eq!(ask(check(until_close, "abc")).await, Outcome::Passed);
    let empty = say("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(
        ask(check(empty, "x")).await,
        failed("body: no \"x\" in its 0 octets")
    );
    let short = say("HTTP/1.1 200 x\r\ncontent-length: 80\r\n\r\nall well").await;
    assert_eq!(ask(check(short, "all well")).await, Outcome::Passed);
    assert_eq!(
        ask(check(short, "ill")).await,
        failed("closed before the answer was complete")
    );
}

#[tokio::test]
async fn who_does_not_listen_refuses() {
    let port = closed().await;
    let refused = failed("connect: connection refused");
    assert_eq!(ask(http(port)).await, refused);
    assert_eq!(run(CheckKind::Tcp { port }, V4, LONG).await, refused);
}

#[tokio::test]
async fn a_connection_is_all_that_tcp_wants() {
    for address in [V4, V6] {
        let port = serve(address, async |_| sleep(LONG).await).await;
        let outcome = run(CheckKind::Tcp { port }, address, LONG).await;
        assert_eq!(outcome, Outcome::Passed);
    }
}

#[tokio::test]
async fn who_is_slow_but_in_time_passes() {
    let port = serve(V4, |mut stream| async move {
        request(&mut stream).await;
        for part in ["HTTP/1.1 2", "00 OK\r\nx: y\r", "\n\r\n"] {
            sleep(SHORT / 2).await;
            let _ = stream.write_all(part.as_bytes()).await;
        }
    })
    .await;
    assert_eq!(ask(http(port)).await, Outcome::Passed);
}

#[tokio::test]
async fn who_is_silent_is_given_up() {
    // A listener that never accepts: the kernel connects, and nobody answers.
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = failed("no answer in 1s");
    assert_eq!(ask_briefly(http(port)).await, silent);
    let mut check = http(port);
    check.tls = Tls::Unverified;
    assert_eq!(ask_briefly(check).await, failed("TLS: no answer in 1s"));

    // Part of an answer, or a byte now and then, is none.
    let hangs = serve(V4, |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        sleep(LONG).await;
    })
    .await;
    assert_eq!(ask_briefly(http(hangs)).await, silent);
    let drips = serve(V4, |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"y").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(ask_briefly(http(drips)).await, silent);
    let drips_body = serve(V4, |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"y").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut check = http(drips_body);
    assert_eq!(ask_briefly(check.clone()).await, Outcome::Passed);
    check.body = Some("x".to_owned());
    let outcome = ask_briefly(check).await;
    assert_eq!(outcome, failed("body: not all there in 1s"));

    // Headers without an end, one by one, and interim answers without one (RFC 9110 section 15.2).
    let interim = serve(V4, |mut stream| async move {
        request(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 103 x\r\n\r\n").await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(ask_briefly(http(interim)).await, silent);
}

#[tokio::test]
async fn where_no_packet_comes_back_the_connection_times_out() {
    // A full backlog: the kernel drops further SYNs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((V4, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let connected = timeout(Duration::from_millis(100), TcpStream::connect(address)).await;
        waiting.push(connected);
    }
    let port = address.port();
    let outcome = run(CheckKind::Tcp { port }, V4, SHORT).await;
    assert_eq!(outcome, failed("connect: no answer in 1s"));
}

/// Checks an endless server. Gives the octets that it got rid of, too.
async fn endless(start: &'static str, more: &'static str, body: Option<&str>) -> (Outcome, usize) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let port = serve(V4, move |mut stream| {
        let count = count.clone();
        async move {
            request(&mut stream).await;
            let _ = stream.write_all(start.as_bytes()).await;
            let many = more.repeat(1000);
            while stream.write_all(many.as_bytes()).await.is_ok() {
                count.fetch_add(many.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut check = http(port);
    check.body = body.map(str::to_owned);
    let outcome = ask(check).await;
    sleep(Duration::from_millis(100)).await;
    (outcome, sent.load(Ordering::Relaxed))
}

#[tokio::test]
async fn endless_answers_are_cut_off() {
    // What the kernel's buffers take, and not gigabytes.
    const BUFFERED: usize = 16 << 20;
    let headers = "headers: more than 16 KiB, or more than 100";
    let start = "HTTP/1.1 200 OK\r\n";
    for (outcome, (got, sent)) in [
        // Many headers; one of them; a status line; a body.
        (failed(headers), endless(start, "x: y\r\n", None).await),
        (
            failed(headers),
            endless("HTTP/1.1 200 OK\r\nx: ", "y", None).await,
        ),
        (failed(headers), endless("HTTP/1.1 200 ", "y", None).await),
        (
            Outcome::Passed,
            endless("HTTP/1.1 200 OK\r\n\r\n", "y", None).await,
        ),
        (
            failed("body: no \"x\" in its first 65536 octets"),
            endless("HTTP/1.1 200 OK\r\n\r\n", "y", Some("x")).await,
        ),
        (
            failed("body: no \"x\" in its first 65536 octets"),
            endless(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "1\r\ny\r\n",
                Some("x"),
            )
            .await,
        ),
    ] {
        assert_eq!(got, outcome);
        assert!(sent < BUFFERED, "{sent}");
    }
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    for (answer, expect) in [
        ("", "closed before the answer was complete"),
        (
            "HTTP/1.1 200 OK\r\nx",
            "closed before the answer was complete",
        ),
        (
            "SSH-2.0-OpenSSH_9.2p1\r\n\r\n\r\n\r\n",
            "not HTTP/1.1: invalid HTTP version parsed",
        ),
        (
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "not HTTP/1.1: invalid HTTP version parsed",
        ),
        (
            "HTTP/1.1 abc OK\r\n\r\n",
            "not HTTP/1.1: invalid HTTP status-code parsed",
        ),
        (
            "HTTP/1.1 200 OK\r\n: :\r\n\r\n",
            "not HTTP/1.1: invalid HTTP header parsed",
        ),
    ] {
        let port = say(answer).await;
        assert_eq!(ask(http(port)).await, failed(expect), "{answer:?}");
    }
    // Hung up on, with the request unread.
    let resets = serve(V4, |stream| async move {
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
    })
    .await;
    let outcome = ask(http(resets)).await;
    let expect = [
        failed("answer: connection reset by peer"),
        failed("closed before the answer was complete"),
        failed("answer: broken pipe"),
        failed("connect: connection reset by peer"),
    ];
    assert!(expect.contains(&outcome), "{outcome:?}");
}

/// A certificate authority of this name.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An HTTPS server, with a certificate for these names that ends then, and what it counts.
#[derive(Clone, Default)]
struct Seen {
    full: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    name: Arc<Mutex<Option<String>>>,
}

async fn serve_tls(
    authority: &CertifiedIssuer<'static, KeyPair>,
    address: IpAddr,
    names: &[&str],
    year: i32,
) -> (u16, Seen) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.session_storage = ServerSessionMemoryCache::new(64);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let seen = Seen::default();
    let count = seen.clone();
    let port = serve(address, move |stream| {
        let (acceptor, count) = (acceptor.clone(), count.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let connection = stream.get_ref().1;
            match connection.handshake_kind() {
                Some(HandshakeKind::Resumed) => count.resumed.fetch_add(1, Ordering::Relaxed),
                _ => count.full.fetch_add(1, Ordering::Relaxed),
            };
            *count.name.lock().unwrap() = connection.server_name().map(str::to_owned);
            request(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    (port, seen)
}

fn trusting(authority: &CertifiedIssuer<'static, KeyPair>) -> Shared {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    Shared {
        roots: Arc::new(tls::Roots::of(roots)),
        ..Shared::default()
    }
}

fn https(port: u16, host: Option<&str>, tls: Tls) -> CheckKind {
    CheckKind::Http(HttpCheck {
        tls,
        host: host.map(str::to_owned),
        body: Some("well".to_owned()),
        ..http(port)
    })
}

#[tokio::test]
async fn a_certificate_must_be_good_unless_any_will_do() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let shared = trusting(&ours);
    let names = ["www.example.org", "127.0.0.1", "::1"];
    let (good, seen) = serve_tls(&ours, V4, &names, 4096).await;
    let (good6, _) = serve_tls(&ours, V6, &names, 4096).await;
    let (foreign, _) = serve_tls(&theirs, V4, &names, 4096).await;
    let (old, _) = serve_tls(&ours, V4, &names, 2020).await;
    let plain = serve(V4, |mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let run = async |port, address, host, tls| {
        let target = target(https(port, host, tls), address, LONG);
        Probe::new(&target, &shared).run().await
    };
    let www = Some("www.example.org");
    let passed = Outcome::Passed;
    assert_eq!(run(good, V4, www, Tls::Verified).await, passed);
    assert_eq!(
        seen.name.lock().unwrap().as_deref(),
        Some("www.example.org")
    );
    assert_eq!(run(good6, V6, www, Tls::Verified).await, passed);
    // A certificate may be for an address.
    assert_eq!(
        run(good6, V6, Some("::1"), Tls::Verified).await,
        Outcome::Passed
    );
    assert_eq!(
        run(foreign, V4, www, Tls::Verified).await,
        failed("certificate: not from an authority that this system trusts")
    );
    assert_eq!(
        run(old, V4, www, Tls::Verified).await,
        failed("certificate: expired")
    );
    let Outcome::Failed(other) = run(good, V4, Some("example.net"), Tls::Verified).await else {
        panic!("a certificate for another name is taken");
    };
    let start = "certificate: certificate not valid for name \"example.net\"";
    assert!(other.starts_with(start), "{other}");
    for port in [good, foreign, old] {
        assert_eq!(run(port, V4, www, Tls::Unverified).await, Outcome::Passed);
        assert_eq!(run(port, V4, None, Tls::Unverified).await, Outcome::Passed);
    }
    // An address is no name for SNI (RFC 6066 section 3).
    run(good, V4, None, Tls::Unverified).await;
    assert_eq!(*seen.name.lock().unwrap(), None);
    for tls in [Tls::Verified, Tls::Unverified] {
        let outcome = run(plain, V4, www, tls).await;
        assert_eq!(outcome, failed("TLS: the answer is not TLS"));
    }
}

#[tokio::test]
async fn sessions_are_resumed_and_the_certificate_is_looked_at_again() {
    let ours = authority("ours");
    let (port, seen) = serve_tls(&ours, V4, &["a"], 4096).await;
    let target = target(https(port, Some("a"), Tls::Verified), V4, LONG);
    let probe = Probe::new(&target, &trusting(&ours));
    for _ in 0..5 {
        assert_eq!(probe.run().await, Outcome::Passed);
    }
    let counts = || {
        (
            seen.full.load(Ordering::Relaxed),
            seen.resumed.load(Ordering::Relaxed),
        )
    };
    assert_eq!(counts(), (1, 4));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(probe.run().await, Outcome::Passed);
    assert_eq!(counts(), (2, 4));
}

#[test]
fn every_host_that_the_configuration_takes_can_have_a_certificate() {
    for host in [
        "a",
        "www.example.org",
        "_a.b-c.1d",
        "192.0.2.1",
        "2001:db8::1",
    ] {
        let check = format!("{{ type = \"https\", host = \"{host}\" }}");
        let text = format!(
            "[[zone]]\nname = \"a\"\nfile = \"a\"\n[[mirror]]\nid = \"a\"\n\
             addresses = [\"192.0.2.1\"]\ncheck = {check}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.toml");
        std::fs::write(&path, text).unwrap();
        crate::config::Config::load(&path).unwrap();
        let name = tokio_rustls::rustls::pki_types::ServerName::try_from(host);
        assert!(name.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn the_system_s_own_roots_are_read() {
    let roots = tls::Roots::default();
    match roots.verifier().await {
        Ok(_) => {}
        Err(Bad::Impossible(reason) | Bad::Failed(reason)) => {
            let line = "TLS: no root certificates on this system";
            assert!(reason.starts_with(line), "{reason}");
        }
    }
}

/// Whether a test may use ICMP. If not, it says so, as the batteries do.
fn may_ping(test: &str) -> bool {
    let Err(why) = icmp::permitted() else {
        return true;
    };
    eprintln!("SKIPPED, {why}: {test}");
    if let Some(skips) = std::env::var_os("GEODNS_SKIPS") {
        use std::io::Write;
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(skips)
            .and_then(|mut file| file.write_all(format!("{test}: {why}\n").as_bytes()))
            .unwrap();
    }
    false
}

#[tokio::test]
async fn an_echo_comes_back() {
    if !may_ping("an_echo_comes_back") {
        return;
    }
    let shared = Shared::default();
    for address in [V4, V6] {
        let probe = Probe::new(&target(CheckKind::Icmp, address, LONG), &shared);
        for _ in 0..3 {
            assert_eq!(probe.run().await, Outcome::Passed);
        }
    }
    // Many at once share the socket, and each gets its own.
    let many = (1..=200u8).map(|host| {
        let address = IpAddr::from([127, 0, 1, host]);
        let probe = Probe::new(&target(CheckKind::Icmp, address, LONG), &shared);
        async move { probe.run().await }
    });
    let outcomes = futures_util::future::join_all(many).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Passed));
}

#[tokio::test]
async fn an_echo_that_does_not_come_back_is_given_up() {
    if !may_ping("an_echo_that_does_not_come_back_is_given_up") {
        return;
    }
    // Class E: no host has it. Where there is no route at all, the kernel says so at once.
    let kind = CheckKind::Icmp;
    let outcome = run(kind, [240, 0, 0, 1].into(), SHORT).await;
    let expect = [
        failed("no answer in 1s"),
        failed("send: network is unreachable"),
        failed("send: invalid argument"),
    ];
    assert!(expect.contains(&outcome), "{outcome:?}");
}

fn exec(command: &[&str]) -> CheckKind {
    CheckKind::Exec {
        command: command.iter().map(|&part| part.to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_program_s_exit_status_decides() {
    let sh = |script| exec(&["sh", "-c", script]);
    for (kind, expect) in [
        (exec(&["true"]), Outcome::Passed),
        (exec(&["false"]), failed("exit status 1")),
        (sh("exit 2"), failed("exit status 2")),
        (sh("kill -9 $$"), failed("killed by SIGKILL")),
        (
            exec(&["test", "{address}:{address}", "=", "127.0.0.1:127.0.0.1"]),
            Outcome::Passed,
        ),
        // No input; nothing of the environment but PATH; no shell.
        (sh("test -z \"$(cat)\""), Outcome::Passed),
        (
            sh("test \"$(env | grep -vc '^\\(PWD\\|_\\|SHLVL\\)=')\" = 1"),
            Outcome::Passed,
        ),
        (exec(&["test", "$PATH", "=", "$PATH"]), Outcome::Passed),
        // None of our capabilities, whoever we are.
        (
            sh(
                "! grep '^Cap\\(Inh\\|Prm\\|Eff\\|Amb\\)' /proc/self/status | grep -v '0000000000000000$'",
            ),
            Outcome::Passed,
        ),
        // Output goes nowhere, however much it is.
        (sh("head -c 2000000000 /dev/zero"), Outcome::Passed),
        (
            exec(&["/nowhere/check"]),
            Outcome::Impossible(
                "cannot run \"/nowhere/check\": no such file or directory".to_owned(),
            ),
        ),
        (
            exec(&["/etc/passwd"]),
            Outcome::Impossible("cannot run \"/etc/passwd\": permission denied".to_owned()),
        ),
    ] {
        let shown = format!("{kind:?}");
        assert_eq!(run(kind, V4, LONG).await, expect, "{shown}");
    }
}

#[tokio::test]
async fn a_program_whose_time_is_up_is_killed_with_all_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$ > leader; sh -c 'echo $$ > child; sleep 1000; true' & \
                  trap '' TERM; sleep 1000; true";
    let script = format!("cd {}; {script}", folder.path().display());
    let limit = Duration::from_secs(1);
    let outcome = run(exec(&["sh", "-c", &script]), V4, limit).await;
    assert_eq!(outcome, failed("still running after 1s, killed"));
    for name in ["leader", "child"] {
        let id = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let gone = async || {
            while alive(id.trim()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = timeout(LONG, gone()).await;
        assert!(gone.is_ok(), "the {name} lives on");
    }
}

/// Whether a process runs: one that nobody has waited for does not.
fn alive(id: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(id).join("status"));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

#[test]
fn errors_are_in_plain_words() {
    for (code, what) in [
        (
            nix::libc::ECONNREFUSED,
            "Failed connect: connection refused",
        ),
        (nix::libc::EHOSTUNREACH, "Failed connect: no route to host"),
        (nix::libc::EMFILE, "Impossible connect: too many open files"),
        (nix::libc::EACCES, "Failed connect: permission denied"),
        (
            nix::libc::EPERM,
            "Impossible connect: operation not permitted",
        ),
        (
            nix::libc::EADDRNOTAVAIL,
            "Impossible connect: cannot assign requested address",
        ),
    ] {
        let said = match Bad::io("connect", &io::Error::from_raw_os_error(code)) {
            Bad::Failed(reason) => format!("Failed {reason}"),
            Bad::Impossible(reason) => format!("Impossible {reason}"),
        };
        assert_eq!(said, what);
    }
}

/// A server whose health page is good, and that says this of its trace.
async fn traced(trace: impl Fn() -> String + Clone + Send + Sync + 'static) -> u16 {
    serve(V4, move |mut stream| {
        let trace = trace.clone();
        async move {
            let head = request(&mut stream).await;
            let answer = match head.starts_with("GET /TIME ") {
                true => trace(),
                false => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_trace_must_not_be_too_old() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let age = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let of = Arc::clone(&age);
    let port = traced(move || {
        let named = now().unwrap().as_secs() - of.load(Ordering::Relaxed);
        format!("HTTP/1.1 200 OK\r\n\r\n{named}\n")
    })
    .await;
    let fresh = |grace| {
        let fresh = crate::config::Fresh {
            path: "/TIME".to_owned(),
            format: crate::config::TraceFormat::Epoch,
            max_age: Duration::from_secs(6 * 3600),
            grace,
        };
        move |port| HttpCheck {
            fresh: Some(fresh.clone()),
            ..http(port)
        }
    };
    let patient = fresh(Duration::from_secs(24 * 3600));
    let shared = Shared::default();
    let target = target(CheckKind::Http(patient(port)), V4, LONG);
    let probe = Probe::new(&target, &shared);
    assert_eq!(probe.run().await, Outcome::Passed);
    assert!(shared.traces.get(&target.key()).is_some());
    age.store(7 * 3600 + 60, Ordering::Relaxed);
    assert_eq!(probe.run().await, failed("trace: 7 h old, at most 6 h"));
    age.store(3600, Ordering::Relaxed);
    assert_eq!(probe.run().await, Outcome::Passed);

    // Without one that can be read the grace decides.
    let missing = traced(|| "HTTP/1.1 404 Not Found\r\n\r\n".to_owned()).await;
    let nonsense = traced(|| "HTTP/1.1 200 OK\r\n\r\nyesterday\n".to_owned()).await;
    let hung_up = traced(String::new).await;
    let strict = fresh(Duration::ZERO);
    for (port, reason) in [
        (missing, "status 404"),
        (
            nonsense,
            "its first line is no number of seconds since 1970",
        ),
        (hung_up, "closed before the answer was complete"),
    ] {
        assert_eq!(ask(patient(port)).await, Outcome::Passed, "{reason}");
        let expected = format!("trace: {reason}; not read for 0 s, at most 0 s");
        assert_eq!(ask(strict(port)).await, failed(&expected));
    }
    // A mirror that does not work is not asked for its trace.
    let down = say("HTTP/1.1 500 Oops\r\n\r\n").await;
    assert_eq!(ask(patient(down)).await, failed("status 500, expected 2xx"));
}
