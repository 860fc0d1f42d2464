//! Determinism, shown and not asserted: a decision made again is the same bytes and the same fuel, however often, in whatever
//! order, on whatever thread, in whatever process, and whatever else the machine does.
//!
//! What is compared is one digest over every output, as the bytes of a trace, and over the fuel that it took on a fresh
//! instance. On a used instance the fuel may differ (its heap has a history) and is left out; the outputs of the default may
//! not. The engine has no pooling allocator (it is not compiled in), so "pool sizes" are those that there are: how many idle
//! instances of a component are kept, how many components are loaded, and how many threads decide. A process has one engine;
//! other engines are other processes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod corpus;
mod processes;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use corpus::{digest, remade, shuffled};
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::model::Digest;
use cortex_mcp::policy::{
    DecidedBy, DecisionRecord, EMBEDDED_COMPONENT, EMBEDDED_FAMILY, Function, InstanceUse, Output, PolicyComponent,
    WASMTIME_VERSION, limits,
};
use cortex_mcp::trace::{Header, Line, PolicyNote};
use processes::Installation;
use serde_json::json;
use support::policies::QUIRKY;
use support::{Rig, seconds};

/// What a decision came to.
type Made = (Vec<u8>, u64);

/// Decisions, the component that made them, and what they come to on fresh instances.
struct Case {
    records: Vec<DecisionRecord>,
    component: Arc<PolicyComponent>,
    expected: Digest,
}

impl Case {
    fn new(records: Vec<DecisionRecord>, bytes: &[u8], family: &str) -> Self {
        let component = Arc::new(PolicyComponent::load(bytes, family, InstanceUse::Fresh).unwrap());
        let mut case = Self { records, component, expected: Digest::of(b"") };
        let all: Vec<usize> = (0..case.records.len()).collect();
        let made = case.make(&case.component, &all);
        for ((output, _), record) in made.iter().zip(&case.records) {
            let recorded = serde_json::to_vec(record.output.as_ref().unwrap()).unwrap();
            assert_eq!(output, &recorded, "{record:?}");
        }
        case.expected = digest(&made);
        case
    }

    /// Makes these decisions, in this order.
    fn make(&self, component: &PolicyComponent, order: &[usize]) -> Vec<Made> {
        let make = |at: &usize| {
            let (output, fuel, reused) = remade(component, &self.records[*at]);
            assert!(!reused || component.instance_use() == InstanceUse::Reused);
            (output, fuel)
        };
        order.iter().map(make).collect()
    }

    /// The digest of all decisions, made in this order.
    fn digest_in(&self, component: &PolicyComponent, order: &[usize]) -> Digest {
        digest(&sorted(order, self.make(component, order)))
    }

    /// The orders that everything is tried in: forwards, backwards and shuffled.
    fn orders(&self) -> Vec<Vec<usize>> {
        let length = self.records.len();
        let mut orders = vec![(0..length).collect(), (0..length).rev().collect()];
        orders.extend((1..=2).map(|seed| shuffled(length, seed)));
        orders
    }

    /// The numbers of the decisions, in so many hands.
    fn hands(&self, count: usize) -> Vec<Vec<usize>> {
        let order = shuffled(self.records.len(), count as u64);
        (0..count).map(|hand| order.iter().copied().skip(hand).step_by(count).collect()).collect()
    }
}

/// What was made in some order, in the order of the records.
fn sorted(order: &[usize], made: Vec<Made>) -> Vec<Made> {
    let mut sorted: Vec<_> = order.iter().copied().zip(made).collect();
    sorted.sort_by_key(|(at, _)| *at);
    sorted.into_iter().map(|(_, made)| made).collect()
}

/// The corpus, decided by the default.
static CORPUS: LazyLock<Case> =
    LazyLock::new(|| Case::new(corpus::decisions(&corpus::files()), EMBEDDED_COMPONENT, EMBEDDED_FAMILY));

/// A gateway's decisions by the policy with quirks, and the folder of its trace.
struct Quirky {
    case: Case,
    folder: tempfile::TempDir,
}

static QUIRKS: LazyLock<Quirky> = LazyLock::new(|| {
    // A thread of its own: no runtime may be started inside another one.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(quirky_scene())
    })
    .join()
    .unwrap()
});

async fn quirky_scene() -> Quirky {
    let mut rig = Rig::new(2);
    let directory = MemoryDirectory::new();
    rig.trace = Some(directory.clone());
    rig.policy = Some(support::policies::deployed(&QUIRKY, "quirky"));
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s2.test/mcp"}]}"#);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1)).await;
    // An edit of what is known: that is joined.
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s2.test/mcp","tags":[]}]}"#);
    tokio::time::sleep(seconds(1)).await;
    for _ in 0..5 {
        assert_eq!(served.modern().call("s1__echo", "{}").await.code(), None);
    }
    rig.refuse(2);
    tokio::time::sleep(seconds(300)).await;
    served.gateway.shut_down().await;
    let folder = tempfile::tempdir().unwrap();
    for name in directory.names().unwrap() {
        std::fs::write(folder.path().join(&name), directory.read(&name).unwrap().unwrap()).unwrap();
    }
    let records = corpus::decisions(&[folder.path().to_owned()]);
    assert_eq!(records.iter().map(|record| record.input.function()).collect::<BTreeSet<_>>(), Function::ALL.into());
    assert!(records.iter().all(|record| !record.reused_instance && record.faulted.is_none()));
    Quirky { case: Case::new(records, &QUIRKY, "quirky"), folder }
}

fn cases() -> [&'static Case; 2] {
    [&CORPUS, &QUIRKS.case]
}

#[test]
fn many_times_and_in_every_order_on_fresh_instances_it_is_the_same_digest() {
    for case in cases() {
        for order in case.orders() {
            for _ in 0..2 {
                assert_eq!(case.digest_in(&case.component, &order), case.expected);
            }
        }
        // Compiled once more, it is another component in memory and the same one by all that it does.
        let again = PolicyComponent::load(case.component.bytes(), "another family", InstanceUse::Fresh).unwrap();
        assert_eq!(case.digest_in(&again, &case.orders()[2]), case.expected);
    }
}

#[test]
fn the_outputs_of_the_default_are_the_same_on_one_instance_that_was_used_for_everything() {
    let outputs = |made: Vec<Made>| digest(&made.into_iter().map(|(output, _)| (output, 0)).collect::<Vec<_>>());
    let all: Vec<usize> = (0..CORPUS.records.len()).collect();
    let expected = outputs(CORPUS.make(&CORPUS.component, &all));
    let used = PolicyComponent::load(EMBEDDED_COMPONENT, EMBEDDED_FAMILY, InstanceUse::Reused).unwrap();
    for turn in 0..2 {
        for order in CORPUS.orders() {
            assert_eq!(outputs(sorted(&order, CORPUS.make(&used, &order))), expected, "{turn}");
        }
    }
    assert!(remade(&used, &CORPUS.records[0]).2, "no instance was used again");
    // More threads than idle instances are kept for: some find a used one and some do not.
    let made: Vec<_> = std::thread::scope(|scope| {
        let hands = CORPUS.hands(limits::IDLE_INSTANCES_MAX * 2);
        let decide = |hand: Vec<usize>| (CORPUS.make(&used, &hand), hand);
        let threads: Vec<_> = hands.into_iter().map(|hand| scope.spawn(move || decide(hand))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (made, order): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    assert_eq!(outputs(sorted(&order.concat(), made.concat())), expected);
}

#[test]
fn on_many_threads_at_once_it_is_the_same_digest() {
    for case in cases() {
        for threads in [2, 6] {
            // Each thread decides everything, in an order of its own.
            let digests: Vec<_> = std::thread::scope(|scope| {
                let decide = |seed| case.digest_in(&case.component, &shuffled(case.records.len(), seed));
                let threads: Vec<_> = (0..threads).map(|seed| scope.spawn(move || decide(seed))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(digests.iter().all(|digest| *digest == case.expected), "{threads} threads");
        }
    }
}

#[test]
fn from_async_tasks_and_blocking_threads_of_any_number_of_workers_it_is_the_same_digest() {
    for case in cases() {
        for workers in [1, 2, 7] {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(workers).max_blocking_threads(workers * 2).build().unwrap();
            for blocking in [false, true] {
                let made = runtime.block_on(async {
                    let tasks = case.hands(16).into_iter().map(|hand| match blocking {
                        true => tokio::task::spawn_blocking(move || (case.make(&case.component, &hand), hand)),
                        false => tokio::spawn(async move {
                            let mut made = Vec::new();
                            for at in &hand {
                                made.extend(case.make(&case.component, &[*at]));
                                // Another worker may take it over here.
                                tokio::task::yield_now().await;
                            }
                            (made, hand)
                        }),
                    });
                    futures_util::future::join_all(tasks.collect::<Vec<_>>()).await
                });
                let (made, order): (Vec<_>, Vec<_>) = made.into_iter().map(Result::unwrap).unzip();
                let together = digest(&sorted(&order.concat(), made.concat()));
                assert_eq!(together, case.expected, "{workers} workers, blocking: {blocking}");
            }
        }
    }
}

#[test]
fn on_a_machine_that_is_busy_it_is_the_same_digest() {
    let (stop, cases) = (AtomicBool::new(false), cases());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut garbage = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    // Memory and time are both scarce.
                    garbage = vec![garbage.len() as u8; 1 << 20];
                }
                garbage.len()
            });
        }
        for case in cases {
            let decide = |seed| case.digest_in(&case.component, &shuffled(case.records.len(), seed));
            let threads: Vec<_> = (0..2).map(|seed| scope.spawn(move || decide(seed))).collect();
            let digests: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            if !digests.iter().all(|digest| digest.as_ref().is_ok_and(|digest| *digest == case.expected)) {
                stop.store(true, Ordering::Relaxed);
                panic!("{digests:?} and not {}", case.expected);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Writes the corpus as a gateway of today would have recorded it that uses no instance twice: then a replay compares the
/// fuel as well.
fn corpus_of_today(folder: &Path) -> PathBuf {
    let today = CORPUS.component.digest();
    let note = PolicyNote { digest: today, family: EMBEDDED_FAMILY.to_owned(), instances: InstanceUse::Fresh };
    let mut text = String::new();
    for entry in corpus::entries(&corpus::files()) {
        let line = match entry.line {
            Line::Header(header) => Line::Header(Box::new(Header {
                wasmtime: WASMTIME_VERSION.to_owned(),
                default: today,
                deployed: today,
                policies: vec![note.clone()],
                ..*header
            })),
            Line::Decision(record) => {
                let (_, fuel, _) = remade(&CORPUS.component, &record);
                let decided_by = DecidedBy::Deployed(today);
                Line::Decision(Box::new(DecisionRecord { fuel, decided_by, reused_instance: false, ..*record }))
            }
            other => other,
        };
        text += &serde_json::to_string(&line).unwrap();
        text.push('\n');
    }
    let file = folder.join("today.jsonl");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn in_other_processes_at_once_every_record_is_equal_fuel_included() {
    let installation = Installation::new();
    let today = corpus_of_today(installation.folder()).display().to_string();
    let quirky = QUIRKS.folder.path().display().to_string();
    let expected = [(&today, CORPUS.records.len()), (&quirky, QUIRKS.case.records.len())];
    let replays = expected.iter().cycle().take(4).map(|(trace, records)| {
        let command = installation.command(&["replay", trace, "--json"]);
        (command, *records)
    });
    std::thread::scope(|scope| {
        let replays: Vec<_> = replays
            .map(|(command, records)| (scope.spawn(|| processes::installation::finish(command)), records))
            .collect();
        for (replay, records) in replays {
            let said = replay.join().unwrap();
            assert_eq!(said.code, Some(0), "{said:?}");
            let report = said.json();
            assert_eq!((&report["records"], &report["equal"]), (&json!(records), &json!(records)), "{report}");
        }
    });
    // The comparison has teeth: one unit of fuel is a difference.
    let mut text = std::fs::read_to_string(&today).unwrap();
    let at = text.rfind(r#""fuel":"#).unwrap() + r#""fuel":"#.len();
    text.insert(at, '1');
    let forged = installation.file("forged.jsonl", text);
    let said = installation.run(&["replay", &forged, "--json"]);
    assert_eq!((said.code, &said.json()["first_difference"]["fields"][0]["field"]), (Some(1), &json!("fuel")));
}

/// The quirks at the beginning of a decision's memo.
fn quirks_of(record: &DecisionRecord) -> Option<[u64; 4]> {
    let memo = match record.output.as_ref()? {
        Output::Refresh(decision) => &decision.state.memo,
        Output::Breaker(decision) => &decision.state.memo,
        Output::Concurrency(decision) => &decision.state.memo,
        Output::Advance(decision) => &decision.state.memo,
        Output::Stamp(decision) => &decision.state.memo,
        Output::Adopt(decision) => &decision.state.memo,
        Output::Lookup(_) | Output::Plan(_) | Output::Merge(_) | Output::FlushAfter(_) => return None,
    };
    let number = |at: usize| u64::from_be_bytes(memo[at * 8..at * 8 + 8].try_into().unwrap());
    Some([number(0), number(1), number(2), number(3)])
}

#[test]
fn the_quirks_are_really_there_and_their_nans_are_canonical() {
    let quirks: Vec<_> = QUIRKS.case.records.iter().filter_map(quirks_of).collect();
    assert!(quirks.len() > 100, "{}", quirks.len());
    assert!(quirks.iter().all(|quirks| quirks[0] == 0x7ff8_0000_0000_0000), "{:x}", quirks[0][0]);
    for quirk in 1..4 {
        let different: BTreeSet<_> = quirks.iter().map(|quirks| quirks[quirk]).collect();
        assert!(different.len() > 20, "quirk {quirk} hardly depends on anything");
    }
    // And the times that the gateway waited for were moved by them.
    let moved = QUIRKS.case.records.iter().filter(|record| {
        let plain = CORPUS.component.decide(&record.input, record.moment, record.seed);
        matches!(record.output, Some(Output::Lookup(_))) && plain.ok() != record.output
    });
    assert!(moved.count() > 10);
}

#[test]
fn without_fresh_instances_the_policy_with_quirks_is_not_replayed() {
    let used = PolicyComponent::load(&QUIRKY, "quirky", InstanceUse::Reused).unwrap();
    let records = &QUIRKS.case.records;
    let differs = |record: &&DecisionRecord| {
        let remade = used.remake(&record.input, record.moment, record.seed, record.fuel_budget).unwrap();
        Some(remade.output) != record.output
    };
    let different: Vec<_> = records.iter().filter(differs).collect();
    assert!(!different.is_empty(), "the order of its maps does not depend on what ran before");
    // Only their order does: floats and recursion are as recorded even there.
    for record in different.iter().filter(|record| quirks_of(record).is_some()) {
        let output = used.decide(&record.input, record.moment, record.seed).ok();
        let again = quirks_of(&DecisionRecord { output, ..DecisionRecord::clone(record) }).unwrap();
        let recorded = quirks_of(record).unwrap();
        assert_eq!((again[0], again[1], again[3]), (recorded[0], recorded[1], recorded[3]));
    }
    println!("{} of {} decisions differ on an instance that is used again", different.len(), records.len());

    let installation = Installation::new();
    let (file, trace) = (installation.file("quirky.wasm", &*QUIRKY), QUIRKS.folder.path().display().to_string());
    let arguments = ["replay", &trace, "--json", "--policy", &file, "--family", "quirky"];
    assert_eq!(installation.run(&arguments).code, Some(0));
    let said = installation.run(&[&arguments[..], &["--reuse"]].concat());
    assert!(said.code == Some(1) && said.json()["different"].as_u64().unwrap() > 0, "{said:?}");
}
