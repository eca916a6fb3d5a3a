//! The times of checks and what is made of their results: most with checks that are none, in time
//! that passes when nobody has anything to do.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::sleep;

use super::*;
use crate::config::{Check, CheckKind};

const INTERVAL: Duration = Duration::from_secs(5);

fn target(host: u32) -> Target {
    Target {
        check: Check {
            kind: CheckKind::Icmp,
            interval: INTERVAL,
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            ok: 2,
            jitter: INTERVAL / 10,
        },
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + host)),
    }
}

fn passed() -> Outcome {
    Outcome::Passed
}

fn failed() -> Outcome {
    Outcome::Failed("refused".to_owned())
}

/// Checks that are none: what they come to and how long they take is said here.
struct Fake {
    /// Durations and outcomes by address. Checks of other addresses pass at once.
    next: Mutex<HashMap<IpAddr, (Duration, Outcome)>>,
    /// When each started.
    starts: Mutex<Vec<(Instant, IpAddr)>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Fake {
    fn start(options: Options) -> (Arc<Self>, Monitor, UnboundedReceiver<(Instant, Event)>) {
        let fake = Arc::new(Self {
            next: Mutex::new(HashMap::new()),
            starts: Mutex::new(Vec::new()),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        });
        let (sender, events) = unbounded_channel();
        let mine = fake.clone();
        let prepare = move |targets: Vec<Arc<Target>>| {
            let run = |target: &Arc<Target>| {
                let (fake, address) = (mine.clone(), target.address);
                Arc::new(move || Box::pin(fake.clone().check(address)) as Running) as Run
            };
            targets.iter().map(run).collect()
        };
        let tell = move |told| {
            if let Told::Result(event) = told {
                let _ = sender.send((Instant::now(), event));
            }
        };
        let monitor = Monitor::start_with(options, tell, Box::new(prepare));
        (fake, monitor, events)
    }

    async fn check(self: Arc<Self>, address: IpAddr) -> Outcome {
        self.starts.lock().unwrap().push((Instant::now(), address));
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        let _over = Over(&self.running);
        let next = self.next.lock().unwrap().get(&address).cloned();
        let (time, outcome) = next.unwrap_or((Duration::ZERO, passed()));
        if time > Duration::ZERO {
            sleep(time).await;
        }
        assert_ne!(outcome, Outcome::Failed("panic".to_owned()));
        outcome
    }

    fn set(&self, target: &Target, outcome: Outcome) {
        let next = (Duration::from_millis(10), outcome);
        self.next.lock().unwrap().insert(target.address, next);
    }

    fn starts(&self, target: &Target) -> usize {
        let starts = self.starts.lock().unwrap();
        let of = |&&(_, address): &&(Instant, IpAddr)| address == target.address;
        starts.iter().filter(of).count()
    }
}

struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The next change of a target, and how many of its results came up to it.
async fn change(
    events: &mut UnboundedReceiver<(Instant, Event)>,
    target: &Target,
) -> (usize, Event) {
    let mut results = 0;
    loop {
        let (_, event) = events.recv().await.unwrap();
        if *event.target != *target {
            continue;
        }
        results += 1;
        if event.changed {
            return (results, event);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_distinct_target_is_checked_once_an_interval() {
    let (fake, monitor, _events) = Fake::start(Options::default());
    let other = Target {
        check: Check {
            interval: 2 * INTERVAL,
            ..target(2).check
        },
        ..target(2)
    };
    monitor.set_targets([target(1), target(1), other.clone(), target(3), target(1)]);
    sleep(20 * INTERVAL).await;
    for (target, expect) in [(target(1), 20), (other, 10), (target(3), 20)] {
        let starts = fake.starts(&target);
        assert!((expect - 1..=expect + 1).contains(&starts), "{starts}");
    }
    assert_eq!(monitor.snapshot().len(), 3);
    drop(monitor);
    let before = fake.starts(&target(1));
    sleep(20 * INTERVAL).await;
    assert_eq!(fake.starts(&target(1)), before);
}

#[tokio::test(start_paused = true)]
async fn starts_are_spread() {
    let (fake, monitor, _events) = Fake::start(Options::default());
    let start = Instant::now();
    monitor.set_targets((0..4000).map(target));
    sleep(10 * INTERVAL).await;
    // Everything has been checked within seconds, and is then checked evenly.
    let starts = fake.starts.lock().unwrap();
    let mut windows = [0; 500];
    for (at, _) in starts.iter() {
        let window = at.duration_since(start).as_millis() / 100;
        windows[usize::try_from(window).unwrap().min(499)] += 1;
    }
    assert!(windows[..45].iter().sum::<i32>() >= 4000);
    let mean = 4000 / 50;
    let most = windows.iter().max().unwrap();
    assert!(
        *most <= 3 * mean,
        "{most} in 100 ms, where {mean} is the mean"
    );
    let late = &windows[100..];
    assert!(
        late.iter()
            .all(|&count| count > mean / 3 && count < 2 * mean)
    );
}

#[tokio::test(start_paused = true)]
async fn a_verdict_takes_as_many_results_as_it_should() {
    let (fake, monitor, mut events) = Fake::start(Options::default());
    let one = target(1);
    monitor.set_targets([one.clone()]);
    let (results, event) = change(&mut events, &one).await;
    assert_eq!((results, event.up, event.reason), (1, true, None));
    sleep(3 * INTERVAL).await;
    while events.try_recv().is_ok() {}
    fake.set(&one, failed());
    let (results, event) = change(&mut events, &one).await;
    assert_eq!((results, event.up), (3, false));
    assert_eq!(event.reason.as_deref(), Some("refused"));
    fake.set(&one, passed());
    let (results, event) = change(&mut events, &one).await;
    assert_eq!((results, event.up, event.reason), (2, true, None));

    let status = monitor.snapshot().remove(0);
    assert_eq!(*status.target, one);
    assert_eq!(status.up, Some(true));
    assert_eq!((status.failed, status.changes), (3, 2));
    let last = status.last.unwrap();
    assert_eq!(last.outcome, passed());
    assert_eq!(last.latency, Duration::from_millis(10));
    assert!(status.since.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_stays() {
    let (fake, monitor, mut events) = Fake::start(Options::default());
    let (one, two, three) = (target(1), target(2), target(3));
    fake.set(&one, failed());
    monitor.set_targets([one.clone(), two.clone()]);
    change(&mut events, &one).await;
    sleep(10 * INTERVAL).await;
    let of = |monitor: &Monitor, address| {
        let all = monitor.snapshot();
        all.into_iter()
            .find(|status| status.target.address == address)
            .unwrap()
    };
    let before = of(&monitor, one.address);

    // It stays, is not checked anew, and the others go and come.
    monitor.set_targets([three.clone(), one.clone()]);
    let after = of(&monitor, one.address);
    assert_eq!((after.up, after.since), (before.up, before.since));
    assert_eq!(after.failed, before.failed);
    assert_eq!(of(&monitor, three.address).up, None);
    assert_eq!(monitor.snapshot().len(), 2);
    let (starts, gone) = (fake.starts(&one), fake.starts(&two));
    sleep(Duration::from_millis(50)).await;
    assert!(fake.starts(&one) <= starts + 1);
    assert_eq!(of(&monitor, three.address).up, Some(true));
    sleep(10 * INTERVAL).await;
    assert_eq!(fake.starts(&two), gone);
    let starts = fake.starts(&one) - starts;
    assert!((9..=11).contains(&starts), "{starts}");

    // Other thresholds and times are no other thing to ask.
    let mut patient = one.clone();
    patient.check.rise = 4;
    patient.check.interval = 2 * INTERVAL;
    fake.set(&one, passed());
    while events.try_recv().is_ok() {}
    monitor.set_targets([patient.clone()]);
    let kept = of(&monitor, one.address);
    assert_eq!((kept.up, kept.since), (before.up, before.since));
    let (results, event) = change(&mut events, &patient).await;
    assert_eq!((results, event.up), (4, true));

    // What is asked anew begins anew.
    let mut asked = one.clone();
    asked.check.kind = CheckKind::Tcp { port: 80 };
    monitor.set_targets([asked]);
    assert_eq!(of(&monitor, one.address).up, None);
    monitor.set_targets([]);
    assert!(monitor.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_takes_its_check_along() {
    let (fake, monitor, mut events) = Fake::start(Options {
        in_flight: 1..=1,
        ..Options::default()
    });
    let (one, two) = (target(1), target(2));
    let hangs = (Duration::from_secs(1_000_000), passed());
    fake.next.lock().unwrap().insert(one.address, hangs);
    monitor.set_targets([one.clone()]);
    sleep(INTERVAL).await;
    assert_eq!(fake.starts(&one), 1);
    monitor.set_targets([two.clone()]);
    assert_eq!(change(&mut events, &two).await.0, 1);
    assert_eq!(fake.most_running.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_saved_holds_until_it_is_overthrown() {
    let (down, up) = (target(1), target(2));
    let since_unix_ms = 1_700_000_000_123;
    let saved: HashMap<String, Saved> = [(&down, false), (&up, true)]
        .map(|(target, up)| (target.key(), Saved { up, since_unix_ms }))
        .into();
    let options = || Options {
        saved: saved.clone(),
        ..Options::default()
    };
    let (fake, monitor, mut events) = Fake::start(options());
    fake.set(&up, failed());
    monitor.set_targets([down.clone(), up.clone()]);
    assert_eq!(monitor.saved(), saved);
    let verdicts: Vec<_> = monitor.snapshot().iter().map(|status| status.up).collect();
    assert_eq!(verdicts, [Some(false), Some(true)]);
    assert_eq!(change(&mut events, &down).await.0, 2);
    let (_, monitor_too, mut events_too) = Fake::start(options());
    monitor_too.set_targets([up.clone()]);
    sleep(4 * INTERVAL).await;
    assert!(events_too.try_recv().is_ok_and(|(_, event)| !event.changed));
    let now = monitor.saved();
    assert!(now[&down.key()].up && now[&down.key()].since_unix_ms > since_unix_ms);
    assert!(!now[&up.key()].up);
    assert_eq!(monitor_too.saved()[&up.key()], saved[&up.key()]);
}

#[tokio::test(start_paused = true)]
async fn as_many_checks_run_as_may_and_none_is_forgotten() {
    let (fake, monitor, _events) = Fake::start(Options {
        in_flight: 10..=10,
        ..Options::default()
    });
    // Ten at once that take two seconds: 100 need twenty.
    for host in 0..100 {
        let slow = (Duration::from_secs(2), failed());
        fake.next.lock().unwrap().insert(target(host).address, slow);
    }
    monitor.set_targets((0..100).map(target));
    sleep(Duration::from_secs(200)).await;
    assert_eq!(fake.most_running.load(Ordering::Relaxed), 10);
    for host in 0..100 {
        let starts = fake.starts(&target(host));
        assert!((9..=11).contains(&starts), "{starts}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_more_targets_more_checks_may_run_at_once() {
    let (fake, monitor, _events) = Fake::start(Options {
        in_flight: 1..=100,
        ..Options::default()
    });
    for host in 0..1000 {
        let slow = (Duration::from_secs(2), failed());
        fake.next.lock().unwrap().insert(target(host).address, slow);
    }
    // Two seconds in five, if none answers.
    for (targets, most) in [(10, 4), (100, 40), (1000, 100)] {
        monitor.set_targets((0..targets).map(target));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(fake.most_running.load(Ordering::Relaxed), most, "{targets}");
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_on_this_side_does_not_count() {
    let (fake, monitor, mut events) = Fake::start(Options::default());
    let (one, two) = (target(1), target(2));
    fake.set(&one, Outcome::Impossible("too many open files".to_owned()));
    fake.set(&two, Outcome::Failed("panic".to_owned()));
    monitor.set_targets([one.clone(), two.clone()]);
    sleep(10 * INTERVAL).await;
    assert!(events.try_recv().is_err());
    for status in monitor.snapshot() {
        assert_eq!((status.up, status.passed, status.failed), (None, 0, 0));
        let last = status.last.unwrap().outcome;
        assert!(matches!(last, Outcome::Impossible(_)), "{last:?}");
    }
    fake.set(&one, passed());
    fake.set(&two, passed());
    assert_eq!(change(&mut events, &one).await.0, 1);
    sleep(2 * INTERVAL).await;
    fake.set(&one, Outcome::Impossible("too many open files".to_owned()));
    sleep(10 * INTERVAL).await;
    let all = monitor.snapshot();
    assert!(all.iter().all(|status| status.up == Some(true)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// No verdict changes before the time that was told, whatever the results, and however late.
    #[test]
    fn no_verdict_changes_before_its_time(
        thresholds in (1..5u16, 1..5u16, 1..5u16),
        jitter in 0..5u32,
        results in proptest::collection::vec((any::<bool>(), 0..4900u64), 100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (fake, monitor, mut events) = Fake::start(Options::default());
            let mut one = target(1);
            one.check.jitter = INTERVAL * jitter / 10;
            (one.check.rise, one.check.fall, one.check.ok) = thresholds;
            let mut results = results.into_iter();
            let mut set = || {
                let Some((good, millis)) = results.next() else { return false };
                let outcome = if good { passed() } else { failed() };
                let next = (Duration::from_millis(millis), outcome);
                fake.next.lock().unwrap().insert(one.address, next);
                true
            };
            set();
            monitor.set_targets([one.clone()]);
            let mut least: Option<Instant> = None;
            let mut last = None;
            while set() {
                let (at, event) = events.recv().await.unwrap();
                if event.changed && let Some(least) = least {
                    assert!(at >= least, "{:?} too early", least - at);
                }
                if event.changed {
                    least = None;
                }
                // Each told time holds by itself.
                least = least.max(Some(at + event.until_change));
                last = Some(at);
            }
            assert!(last.is_some());
        });
    }
}

#[tokio::test]
async fn a_server_that_stops_and_starts_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let one = Target {
        check: Check {
            kind: CheckKind::Tcp {
                port: address.port(),
            },
            interval: Duration::from_millis(200),
            timeout: Duration::from_millis(190),
            jitter: Duration::from_millis(20),
            ..target(1).check
        },
        address: address.ip(),
    };
    let (sender, mut events) = unbounded_channel();
    let monitor = Monitor::start(Options::default(), move |told| {
        if let Told::Result(event) = told {
            let _ = sender.send((Instant::now(), event));
        }
    });
    monitor.set_targets([one.clone()]);
    assert!(change(&mut events, &one).await.1.up);
    drop(listener);
    while events.try_recv().is_ok() {}
    let (results, event) = change(&mut events, &one).await;
    assert_eq!((results, event.up), (3, false));
    let reason = event.reason.unwrap();
    assert_eq!(reason, "connect: connection refused");
    let _listener = TcpListener::bind(address).await.unwrap();
    while events.try_recv().is_ok() {}
    let (results, event) = change(&mut events, &one).await;
    assert_eq!((results, event.up), (2, true));
    assert!(event.until_change > Duration::from_millis(300));
}
