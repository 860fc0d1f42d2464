//! A policy without a gateway: every event of the contract, in orders and with values that no gateway of today sends.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::VirtualClock;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::MemoryDirectory;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::contract::*;
use cortex_mcp::policy::{EMBEDDED_FAMILY, Held, Policy, PolicyComponent, PolicyMetrics, Subject};
use cortex_mcp::trace::{TraceFacts, TraceWriter};
use serde_json::json;

use super::trace_in;
use crate::support::contract::CLASSES;
use crate::support::rig::START;

/// The greatest number that the contract allows.
const GREATEST: u64 = (1 << 53) - 1;

/// A policy, and the clock that it reads.
struct Alone {
    policy: Policy,
    clock: Arc<VirtualClock>,
}

pub(crate) async fn every_event() -> String {
    let directory = MemoryDirectory::new();
    let embedded = Arc::new(PolicyComponent::embedded().unwrap());
    let clock = Arc::new(VirtualClock::starting_at(START));
    let entropy = Arc::new(VirtualEntropy::from_number(11));
    let edge = Edge { clock: clock.clone(), entropy, http: Arc::new(VirtualNetwork::new()) };
    let trace = TraceWriter::start(TraceFacts {
        directory: Arc::new(directory.clone()),
        path: PathBuf::from("/virtual"),
        bytes_max: 64 << 20,
        run: "alone".to_owned(),
        started: edge.clock.now(),
        deployed: embedded.clone(),
        default: embedded.clone(),
        configuration: json!({}),
    });
    let trace = trace.unwrap();
    let policy = Policy::new(embedded.clone(), embedded, edge, Arc::new(trace.clone()), PolicyMetrics::default());
    let alone = Alone { policy, clock };
    alone.refreshes(SubjectKind::ServiceMap, RefreshMode::Background, 2);
    alone.refreshes(SubjectKind::Connector, RefreshMode::Background, 5);
    alone.refreshes(SubjectKind::Connector, RefreshMode::OnDemand, 1);
    alone.breakers();
    alone.runs();
    alone.values();
    alone.registries();
    // Last, so that what was recorded before stays as it was.
    alone.evidence();
    trace.close().await;
    trace_in(&directory, &mut BTreeSet::new())
}

/// The run that a refresh is about, or was about last.
fn run_of(held: &Held<RefreshState>) -> u64 {
    held.state.next_run_id.wrapping_sub(1)
}

fn options() -> Vec<(String, String)> {
    vec![("größe".to_owned(), "\u{1F980} \"42\"\n\u{0}".to_owned()), (String::new(), String::new())]
}

impl Alone {
    fn wait(&self, milliseconds: u64) {
        self.clock.suspend(Duration::from_millis(milliseconds));
    }

    /// A subject's life, with this many of the ways to fail.
    fn refreshes(&self, kind: SubjectKind, mode: RefreshMode, failures: usize) {
        use RefreshEvent::*;
        let subject = Subject::new(format!("{kind:?}/{mode:?}/refresh"));
        let config = RefreshConfig {
            kind,
            mode,
            interval_ms: 300_000,
            floor_ms: 30_000,
            jitter_permille: 200,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            options: Vec::new(),
        };
        let mut held = Held::new(RefreshState::initial());
        held.memos.keep(EMBEDDED_FAMILY, vec![0, 1, 127, 128, 255]);
        let say = |held: &mut Held<RefreshState>, event| {
            self.wait(1_000);
            self.policy.refresh(&subject, &config, held, event).unwrap();
        };
        let started = |start| Started(StartedEvent { start, boot_id: 1 });
        let succeeded = |held: &Held<RefreshState>, fresh_for_ms| {
            Succeeded(SucceededEvent { run_id: run_of(held), duration_ms: 40, fresh_for_ms })
        };
        say(&mut held, Began);
        say(&mut held, started(StartKind::Warm));
        say(&mut held, started(StartKind::WarmStale));
        say(&mut held, started(StartKind::Cold));
        for event in [Wanted(Urgency::Background), Began, Began, Wanted(Urgency::Blocking), Forced, Resumed, Changed] {
            say(&mut held, event);
        }
        let ended = succeeded(&held, Some(100_000));
        [ended, Began].into_iter().for_each(|event| say(&mut held, event));
        let ended = succeeded(&held, Some(100_000));
        for event in [ended, ended, Wanted(Urgency::Background), Wanted(Urgency::Background), Wanted(Urgency::Blocking)]
        {
            say(&mut held, event);
        }
        for event in [Forced, ConfigChanged, CredentialsChanged, Changed, Began, ConfigChanged, CredentialsChanged] {
            say(&mut held, event);
        }
        let (run_id, class) = (run_of(&held), FailureClass::Auth);
        let refused = FailedEvent { run_id, class, retry_after_ms: None, duration_ms: 40, serving: true };
        say(&mut held, Failed(refused));
        for (number, class) in (0u64..).zip(CLASSES).take(failures) {
            [Forced, Began].into_iter().for_each(|event| say(&mut held, event));
            let retry_after_ms = [None, Some(0), Some(90_000), Some(GREATEST)][number as usize % 4];
            let (run_id, serving) = (run_of(&held), number % 3 > 0);
            say(&mut held, Failed(FailedEvent { run_id, class, retry_after_ms, duration_ms: number, serving }));
            let wish = [Wanted(Urgency::Background), Wanted(Urgency::Blocking), Changed, Resumed, ConfigChanged];
            say(&mut held, wish[number as usize % wish.len()]);
        }
        for event in [CredentialsChanged, Forced, Began] {
            say(&mut held, event);
        }
        let run = run_of(&held);
        for event in [Cancelled(run + 7), Cancelled(run), Forced, Began] {
            say(&mut held, event);
        }
        let ended = succeeded(&held, None);
        say(&mut held, ended);
        self.wait(100_000);
        for event in [Resumed, Changed, Stopped, Wanted(Urgency::Background), started(StartKind::Cold)] {
            say(&mut held, event);
        }
    }

    fn breakers(&self) {
        use BreakerEvent::*;
        let none: Option<u64> = None;
        self.breaker(
            "breaker",
            &[
                (0, Asked),
                (1, Succeeded(none)),
                (1, Cancelled(none)),
                (1, Failed(none)),
                (1, Failed(none)),
                (1, Failed(none)),
                (1, Asked),
                (1, Succeeded(none)),
                (5_000, Asked),
                (1, Asked),
                (1, Succeeded(Some(GREATEST))),
                (1, Failed(Some(1))),
                (60_000, Asked),
                (1, Cancelled(Some(2))),
                (1, Asked),
                (6_000, Asked),
                (1, Failed(Some(3))),
                (1, Cancelled(Some(3))),
                (1, Succeeded(Some(4))),
                (1, Failed(none)),
                (1, Succeeded(none)),
                (1, Failed(none)),
                (1, Succeeded(none)),
                (1, Failed(none)),
                (1, Asked),
            ],
        );
    }

    /// The server answers something other than a probe: it counts, is doubted, counts again, and counts no more.
    fn evidence(&self) {
        use BreakerEvent::*;
        let none: Option<u64> = None;
        let opens = [(1, Failed(none)); 3];
        let first = [
            (1, Succeeded(none)),
            (1, Asked),
            (1, Succeeded(none)),
            (1, Failed(Some(1))),
            // Doubted, but an answer to a probe that was lost is not.
            (1, Succeeded(none)),
            (1, Asked),
            (60_000, Asked),
            (5_000, Asked),
            (1, Failed(Some(3))),
            (1, Succeeded(none)),
            (1, Succeeded(Some(2))),
            (1, Asked),
            (1, Cancelled(Some(4))),
            (1, Succeeded(none)),
            (1, Asked),
            (1, Succeeded(Some(5))),
        ];
        // An outage: probes fail, nothing is answered, and then the first answer counts.
        let second = [
            (60_000, Asked),
            (1, Failed(Some(6))),
            (60_000, Asked),
            (1, Failed(Some(7))),
            (1, Succeeded(none)),
            (1, Asked),
            (1, Succeeded(Some(8))),
        ];
        self.breaker("evidence", &[&opens[..], &first, &opens, &second].concat());
    }

    fn breaker(&self, subject: &str, events: &[(u64, BreakerEvent)]) {
        let subject = Subject::new(subject);
        let config = BreakerConfig {
            failure_threshold: 3,
            window: 4,
            rate_permille: 500,
            open_min_ms: 1_000,
            open_max_ms: 60_000,
            probe_deadline_ms: 5_000,
            options: Vec::new(),
        };
        let mut held = Held::new(BreakerState::initial());
        for (wait, event) in events {
            self.wait(*wait);
            self.policy.breaker(&subject, &config, &mut held, *event).unwrap();
        }
    }

    fn runs(&self) {
        let subject = Subject::new("runs");
        for fixed in [None, Some(3)] {
            let config = ConcurrencyConfig { minimum: 1, maximum: 8, fixed, options: Vec::new() };
            let mut held = Held::new(ConcurrencyState::initial());
            let finished = |duration_ms, outcome| ConcurrencyEvent::Finished(FinishedEvent { duration_ms, outcome });
            let events = [
                ConcurrencyEvent::Began,
                ConcurrencyEvent::Began,
                finished(10, RunOutcome::Succeeded),
                finished(GREATEST, RunOutcome::Succeeded),
                finished(10, RunOutcome::Succeeded),
                finished(10, RunOutcome::Cancelled),
            ];
            let failures = CLASSES.map(|class| finished(1_000, RunOutcome::Failed(class)));
            for event in events.into_iter().chain(failures) {
                self.policy.concurrency(&subject, &config, &mut held, event).unwrap();
            }
        }
        let candidate = |number: u32| Candidate {
            id: format!("größe {number} \u{1F980}"),
            failures: number % 3,
            last_class: (!number.is_multiple_of(3)).then(|| CLASSES[number as usize % CLASSES.len()]),
            last_duration_ms: (!number.is_multiple_of(4)).then(|| u64::from(number * 7_919 % 1_000)),
            serving: !number.is_multiple_of(5),
            wanted: number.is_multiple_of(7),
        };
        let config = PlanConfig { slow_after_ms: 2_000, options: options() };
        for count in [0, 1, 40] {
            self.policy.plan(&subject, &config, (0..count).map(candidate).collect()).unwrap();
        }
    }

    fn now(&self) -> Instant {
        self.policy.edge().clock.now().into()
    }

    /// A value of this name, version and life.
    fn fetched(&self, digest: &str, version: Option<u64>, expires_in_ms: Option<i64>) -> FetchedEvent {
        let requested = self.now();
        let expiry = expires_in_ms.map(|life| requested.wall_ms.saturating_add_signed(life));
        FetchedEvent {
            digest: digest.to_owned(),
            etag: Some(format!("W/\"{digest}\"")),
            key_id: version.map(|_| "k".to_owned()),
            version: version.map(|version| START.0 + version),
            signed_expiry_wall_ms: expiry,
            ttl_ms: Some(60_000),
            scope: CacheScope::Private,
            credential: "mine".to_owned(),
            requested,
            key_set: vec!["k".to_owned(), "l".to_owned()],
        }
    }

    fn values(&self) {
        use CacheEvent::*;
        let subject = Subject::new("cache");
        let mut config = CacheConfig {
            kind: SubjectKind::ServiceMap,
            boot_id: 1,
            ttl_min_ms: 30_000,
            ttl_max_ms: 86_400_000,
            ttl_default_ms: 300_000,
            soft_permille: 800,
            soft_jitter_permille: 100,
            max_stale_ms: 3_600_000,
            skew_ms: 300_000,
            negative_min_ms: 5_000,
            negative_max_ms: 60_000,
            credential: "mine".to_owned(),
            options: Vec::new(),
        };
        let mut held = Held::new(CacheState::initial());
        let say = |config: &CacheConfig, held: &mut Held<CacheState>, event| {
            self.wait(10);
            self.policy.advance(&subject, config, held, event).unwrap();
            self.policy.lookup(&subject, config, held).unwrap();
        };
        let confirmed = |digest: &str| {
            NotModified(NotModifiedEvent { digest: digest.to_owned(), requested: self.now(), ttl_ms: None })
        };
        say(&config, &mut held, confirmed("none"));
        for class in [FailureClass::Dns, FailureClass::Auth, FailureClass::Gone] {
            say(&config, &mut held, Failed(class));
        }
        for (waited, digest, version, life) in [
            (100_000, "a", Some(1_000), Some(120_000)),
            (0, "a", Some(1_000), Some(120_000)),
            (0, "z", Some(1_000), Some(120_000)),
            (0, "z", Some(999), Some(120_000)),
            (0, "z", Some(GREATEST - START.0), Some(120_000)),
            (58_000, "a", Some(1_000), Some(120_000)),
            (58_000, "b", Some(2_000), Some(-1)),
            (0, "c", Some(2_000), Some(-1)),
            (0, "b", Some(2_000), Some(-1)),
            (0, "d", None, None),
            (0, "e", None, Some(-1)),
        ] {
            self.wait(waited);
            self.policy.lookup(&subject, &config, &held).unwrap();
            say(&config, &mut held, Began(GREATEST));
            say(&config, &mut held, Fetched(self.fetched(digest, version, life)));
        }
        for event in [Began(1), Cancelled, confirmed("d"), confirmed("x"), Changed, confirmed("d"), Invalidated] {
            say(&config, &mut held, event);
        }
        say(&config, &mut held, Fetched(self.fetched("f", Some(90_000), Some(100_000))));
        for wait in [55_000, 10_000, 100_000] {
            self.wait(wait);
            self.policy.lookup(&subject, &config, &held).unwrap();
        }
        say(&config, &mut held, confirmed("f"));
        say(&config, &mut held, Fetched(FetchedEvent { scope: CacheScope::Public, ..self.fetched("g", None, None) }));
        config.credential = "another".to_owned();
        say(&config, &mut held, CredentialsChanged);
        say(&config, &mut held, Fetched(self.fetched("h", None, None)));
        // Another boot, whose wall clock is behind; and so late that nothing may be served.
        config.credential = "mine".to_owned();
        config.boot_id = 2;
        self.clock.step_wall(-1_000_000);
        say(&config, &mut held, Restored);
        say(&config, &mut held, Failed(FailureClass::Timeout));
        self.clock.step_wall(1_000_000);
        self.wait(100_000);
        say(&config, &mut held, Restored);
        self.wait(4_000_000);
        say(&config, &mut held, Restored);
        config.credential = "another".to_owned();
        say(&config, &mut held, CredentialsChanged);
        say(&config, &mut held, Revoked);
    }

    fn registries(&self) {
        let subject = Subject::new("registry");
        let mut held = Held::new(ClockState::initial());
        let first = self.policy.stamp(&subject, &mut held).unwrap();
        let second = self.policy.stamp(&subject, &mut held).unwrap();
        let future = Hlc { wall_ms: GREATEST - 1, counter: 7 };
        let entry = |name: &str, stamp: Hlc, writer: &str, deleted: bool| Entry {
            name: name.to_owned(),
            stamp,
            writer: writer.to_owned(),
            deleted,
            digest: if deleted { String::new() } else { format!("{name}-{}", stamp.counter) },
        };
        let found = |name: &str, digest: &str, stamp: Option<Hlc>| FoundEntry {
            name: name.to_owned(),
            digest: digest.to_owned(),
            stamp,
            writer: stamp.map(|_| "größe".to_owned()),
        };
        let base = [
            entry("kept", first, "a", false),
            entry("changed", first, "a", false),
            entry("removed", second, "a", false),
            entry("gone", first, "b", true),
            entry("restored", first, "b", true),
            entry("\u{1F980}", second, "b", false),
        ];
        let document = vec![
            found("kept", &base[0].digest, Some(first)),
            found("changed", "x", None),
            found("restored", "y", None),
            found("added", "z", None),
            found("stamped", "z", Some(second)),
            found("\u{1F980}", "future", Some(future)),
        ];
        let (adopted, future) = self.policy.adopt(&subject, &mut held, "writer", &base, document).unwrap();
        assert_eq!(future, ["\u{1F980}"]);
        self.policy.stamp(&subject, &mut held).unwrap();
        for (ours, theirs) in
            [(base.to_vec(), adopted.clone()), (adopted.clone(), base.to_vec()), (adopted, vec![]), (vec![], vec![])]
        {
            self.policy.merge(&subject, ours, theirs).unwrap();
        }
        let pending =
            Pending { changes: 1, bytes: 100, oldest_ms: 1_200, batch_ms: 5_000, closing: false, write_through: false };
        for pending in [
            pending,
            Pending { closing: true, ..pending },
            Pending { write_through: true, ..pending },
            Pending { changes: 1_000, ..pending },
            Pending { changes: 999, ..pending },
            Pending { bytes: 4 << 20, ..pending },
            Pending { oldest_ms: 5_000, ..pending },
            Pending { batch_ms: GREATEST, oldest_ms: 0, ..pending },
        ] {
            self.policy.flush_after(&subject, pending).unwrap();
        }
    }
}
