//! Targets of `[[notify]]` are told of events, each by a task of its own: one that hangs holds up no other, and nobody
//! else. It reads the latest events from memory at its own pace, so it has no queue that could grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::base::clock::now_unix_ms;
use crate::base::lock::lock;
use crate::config::{Config, Format, Notify};
use crate::control::status::NotifyStatus;
use crate::daemon::Daemon;
use crate::event::journal::Next;
use crate::event::{Event, message};
use crate::health::{Roots, Tls};
use crate::supervise::{Never, forever};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pauses after attempts that failed: the first, which doubles, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How long an event is tried before the next one has its turn.
const PATIENCE: Duration = Duration::from_secs(900);
/// Events that are taken from memory at once.
const AT_ONCE: usize = 64;
/// As a server's log shows us.
const USER_AGENT: &str = concat!("geodns/", env!("CARGO_PKG_VERSION"));

/// All targets.
#[derive(Default)]
pub struct Targets(Mutex<Vec<(Arc<Target>, AbortHandle)>>);

impl Drop for Targets {
    fn drop(&mut self) {
        lock(&self.0).iter().for_each(|(_, task)| task.abort());
    }
}

/// A target, and how it takes events.
struct Target {
    config: Notify,
    /// Number of the last event that it was told of, or never will be.
    position: AtomicU64,
    told: AtomicU64,
    /// Those that it was not told of: it refused them, or took too long.
    lost: AtomicU64,
    /// Why the last attempt has failed.
    trouble: Mutex<Option<String>>,
}

/// Why a notification was not taken.
enum Failed {
    /// It may be taken later.
    Later(String),
    /// It never will.
    Never(String),
}

impl Daemon {
    /// Tells the targets of a configuration of events after a number. Targets that are told already go on as they are.
    pub fn notify_from(self: &Arc<Self>, config: &Config, after: u64) {
        let mut targets = lock(&self.events.targets.0);
        let before = std::mem::take(&mut *targets);
        let (mut kept, gone): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|(target, _)| config.notify.contains(&target.config));
        gone.iter().for_each(|(_, task)| task.abort());
        for notify in &config.notify {
            if kept.iter().any(|(target, _)| target.config == *notify) {
                continue;
            }
            let target = Arc::new(Target {
                config: notify.clone(),
                position: AtomicU64::new(after),
                told: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                trouble: Mutex::default(),
            });
            let (daemon, of) = (Arc::clone(self), Arc::clone(&target));
            let name = format!("notify {}", notify.authority());
            let telling = forever(name, move || tell_all(Arc::clone(&daemon), Arc::clone(&of)));
            kept.push((target, tokio::spawn(telling).abort_handle()));
        }
        *targets = kept;
    }

    /// How targets take events.
    pub fn notify_status(&self) -> Vec<NotifyStatus> {
        let targets = lock(&self.events.targets.0);
        let status = targets.iter().map(|(target, _)| NotifyStatus {
            target: target.config.authority(),
            told: target.told.load(Ordering::Relaxed),
            lost: target.lost.load(Ordering::Relaxed),
            trouble: lock(&target.trouble).clone(),
        });
        status.collect()
    }

    /// Ends all targets' tasks, for good.
    pub fn notify_no_more(&self) {
        let targets = std::mem::take(&mut *lock(&self.events.targets.0));
        targets.iter().for_each(|(_, task)| task.abort());
    }
}

/// Tells a target of all events that it wants, for ever.
async fn tell_all(daemon: Arc<Daemon>, target: Arc<Target>) -> Never {
    let roots = Arc::new(Roots::default());
    loop {
        let node = daemon.world.load().inputs.config.server.id();
        let node = node.unwrap_or_default();
        let position = target.position.load(Ordering::Acquire);
        daemon.events.journal.wait(position).await;
        let Next { events, lost } = daemon.events.journal.after(position, AT_ONCE);
        target.lost.fetch_add(lost, Ordering::Relaxed);
        target.position.fetch_add(lost, Ordering::AcqRel);
        for event in events {
            if target.config.on.contains(&event.kind) {
                target.tell(&node, &event, &roots).await;
            }
            target.position.store(event.seq, Ordering::Release);
        }
    }
}

impl Target {
    /// Tells of one event, again and again while that may help.
    async fn tell(&self, node: &str, event: &Event, roots: &Arc<Roots>) {
        let body = match self.config.format {
            Format::Json => message::json(node, event),
            Format::Slack => message::slack(node, event),
            Format::Alertmanager => match message::alert(node, event) {
                Some(body) => body,
                None => return,
            },
        };
        let started = Instant::now();
        let [mut pause, longest] = PAUSES;
        loop {
            let attempt = timeout(ATTEMPT, self.post(&body, roots)).await;
            let slow = || Failed::Later(format!("no answer in {} s", ATTEMPT.as_secs()));
            let failed = match attempt.unwrap_or_else(|_| Err(slow())) {
                Ok(()) => {
                    self.told.fetch_add(1, Ordering::Relaxed);
                    return self.trouble_is(None);
                }
                Err(failed) => failed,
            };
            let (Failed::Later(why) | Failed::Never(why)) = &failed;
            self.trouble_is(Some(why.clone()));
            if matches!(failed, Failed::Never(_)) || started.elapsed() > PATIENCE {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    /// Notes trouble, or that it is over, and logs either once.
    fn trouble_is(&self, now: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.trouble), now.clone());
        let target = self.config.authority();
        match (before, now) {
            (None, Some(cause)) => tracing::warn!(
                target_host = target,
                cause,
                "notify {target}: {cause}; tried again, and the oldest events go if it lasts"
            ),
            (Some(_), None) => {
                tracing::info!(target_host = target, "notify {target}: takes events again")
            }
            _ => {}
        }
    }

    /// One attempt.
    async fn post(&self, body: &str, roots: &Arc<Roots>) -> Result<(), Failed> {
        let Notify {
            host, port, tls, ..
        } = &self.config;
        let later =
            |what: &str, error: &dyn std::fmt::Display| Failed::Later(format!("{what}: {error}"));
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| later("connect", &error))?;
        if !tls {
            return self.send(stream, body).await;
        }
        let socket = stream
            .peer_addr()
            .map_err(|error| later("connect", &error))?;
        // An address is no name for a certificate.
        let name = host
            .parse::<std::net::IpAddr>()
            .is_err()
            .then_some(host.as_str());
        let tls = Tls::verified(name, socket, Arc::clone(roots));
        let stream = tls.connect(stream).await;
        self.send(
            stream.map_err(|error| Failed::Later(error.to_string()))?,
            body,
        )
        .await
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        body: &str,
    ) -> Result<(), Failed> {
        let wrong = |error: &dyn std::fmt::Display| Failed::Later(format!("answer: {error}"));
        let mut request = Request::post(&self.config.path)
            .header(header::HOST, self.config.authority())
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        if let Some(secret) = &self.config.secret {
            let signature = message::signature(secret, now_unix_ms() / 1000, body);
            request = request.header("geodns-signature", signature);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned())));
        let request = request.map_err(|error| Failed::Never(format!("request: {error}")))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(16 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| wrong(&error))?;
        let answer = async move {
            sender
                .send_request(request)
                .await
                .map(|answer| answer.status())
        };
        tokio::pin!(answer);
        let status = tokio::select! {
            biased;
            status = &mut answer => status,
            // It drives the request; an error of it is the answer's, too.
            _ = connection => answer.await,
        };
        match status.map_err(|error| wrong(&error))? {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(Failed::Later(format!("status {status}")))
            }
            status if status.is_server_error() => Err(Failed::Later(format!("status {status}"))),
            status => Err(Failed::Never(format!(
                "status {status}: the event is left out"
            ))),
        }
    }
}
