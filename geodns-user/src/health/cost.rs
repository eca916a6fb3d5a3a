//! The cost of thousands of checks:
//! `cargo test --release -p geodns-user --lib health::cost -- --ignored --nocapture`. The servers run in threads of their own, whose time does not count; the kernel's
//! work on this side's packets does.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{Monitor, Options, Target, Told};
use crate::config::{Check, CheckKind, HttpCheck, Status, Tls};

const WARM_UP: Duration = Duration::from_secs(8);
const MEASURED: Duration = Duration::from_secs(20);

/// A server on every address of 127.0.0.0/8, in a thread of its own.
fn serve(acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream).await;
                            }
                        }
                    }
                });
            }
        });
    });
    port
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.read(&mut [0; 1024]).await.is_ok_and(|len| len > 0) {
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n";
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn acceptor() -> TlsAcceptor {
    let names = vec!["www.example.org".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.ticketer = tokio_rustls::rustls::crypto::ring::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config).into()
}

/// This thread's time on the processor; of programs, this process's and theirs.
fn spent(kind: &CheckKind) -> Duration {
    let whose: &[UsageWho] = match kind {
        CheckKind::Exec { .. } => &[UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN],
        _ => &[UsageWho::RUSAGE_THREAD],
    };
    let each = whose.iter().map(|&who| {
        let usage = getrusage(who).unwrap();
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Duration::from_micros(micros.unsigned_abs())
    });
    each.sum()
}

fn measure(name: &str, count: u32, kind: &CheckKind) {
    let target = |host: u32| Target {
        check: Check {
            kind: kind.clone(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            ok: 2,
            jitter: Duration::from_millis(500),
        },
        address: IpAddr::V4(Ipv4Addr::from_bits(0x7F01_0000 + host)),
    };
    runtime().block_on(async {
        let (results, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count_results, count_failures) = (results.clone(), failures.clone());
        let monitor = Monitor::start(Options::default(), move |told| {
            let Told::Result(event) = told else { return };
            count_results.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = event.reason {
                count_failures.fetch_add(1, Ordering::Relaxed);
                eprintln!("{reason}");
            }
        });
        monitor.set_targets((0..count).map(target));
        tokio::time::sleep(WARM_UP).await;
        let (start, before) = (Instant::now(), spent(kind));
        results.store(0, Ordering::Relaxed);
        tokio::time::sleep(MEASURED).await;
        let (time, cpu) = (start.elapsed(), spent(kind) - before);
        let results = results.load(Ordering::Relaxed);
        let share = 100.0 * cpu.as_secs_f64() / time.as_secs_f64();
        let each = cpu / u32::try_from(results.max(1)).unwrap();
        let rate = results as f64 / time.as_secs_f64();
        let failures = failures.load(Ordering::Relaxed);
        eprintln!(
            "{count} x {name} at 5 s: {rate:.0} checks/s, {share:.1} % of one core, {each:?} each, \
             {failures} failed"
        );
    });
}

#[test]
#[ignore = "takes minutes, and counts only in a release build"]
fn thousands_of_checks_cost_little() {
    let _ = rlimit();
    let (plain, secure) = (serve(None), serve(Some(acceptor())));
    let http = |tls, port| {
        CheckKind::Http(HttpCheck {
            tls,
            port,
            path: "/health".to_owned(),
            host: Some("www.example.org".to_owned()),
            status: vec![Status::Class(2)],
            body: Some("ok".to_owned()),
            fresh: None,
        })
    };
    measure("tcp", 4000, &CheckKind::Tcp { port: plain });
    measure("http", 4000, &http(Tls::Off, plain));
    measure("https", 1000, &http(Tls::Unverified, secure));
    if super::check::icmp_permitted().is_ok() {
        measure("icmp", 4000, &CheckKind::Icmp);
    }
    let command = vec!["true".to_owned()];
    measure("exec", 200, &CheckKind::Exec { command });
}

fn rlimit() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}
