//! The golden traces: what today's default policy decides is what they say, and they hold whatever the contract knows.
//!
//! `BLESS=1 cargo test --test traces` plays every scene again and writes the traces anew. Do so after a change of the
//! policy that is meant, and look at the difference: the run lists each recorded decision that is another one now, so that
//! the change's message can name them. Every decision that it does not list is equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod corpus;
mod scenes;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corpus::Contract;
use cortex_mcp::policy::{DecidedBy, DecisionRecord, Function, PolicyComponent};
use cortex_mcp::trace::Line;
use scenes::SCENES;
use serde_json::json;

/// The most that the corpus may take.
const BYTES_MAX: u64 = 2 << 20;

/// What no scene can show, and why.
const UNREACHABLE: [(&str, &str); 0] = [];

/// Writes the traces anew if that is what the developer wants.
fn bless() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("BLESS").is_none_or(|value| value != "1") {
            return;
        }
        list_differences();
        std::fs::create_dir_all(corpus::folder()).unwrap();
        for (name, text) in play() {
            std::fs::write(corpus::file(name), text).unwrap();
        }
    });
}

/// Prints every recorded decision that the default policy decides otherwise.
fn list_differences() {
    let embedded = PolicyComponent::embedded().unwrap();
    for file in corpus::files() {
        let records = corpus::decisions(std::slice::from_ref(&file));
        let recorded = |record: &DecisionRecord| serde_json::to_vec(record.output.as_ref().unwrap()).unwrap();
        let different = records.iter().filter(|record| corpus::remade(&embedded, record).0 != recorded(record));
        let different: Vec<_> = different.collect();
        println!("{}: {} of {} decisions are others", file.display(), different.len(), records.len());
        for record in different {
            println!("  {} {}, {} of it", record.sequence, record.subject, record.subject_sequence);
        }
    }
}

/// Plays every scene.
fn play() -> BTreeMap<&'static str, String> {
    // Threads of their own, so that it works inside and outside of a runtime.
    let played = SCENES.map(|(name, play)| {
        let scene = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            runtime.unwrap().block_on(play())
        });
        (name, scene.join().unwrap())
    });
    played.into()
}

/// The decisions of a text, without what depends on the tests that ran before: whether an instance was used, and its fuel.
fn decisions(text: &str) -> Vec<DecisionRecord> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("played.jsonl");
    std::fs::write(&file, text).unwrap();
    let records = corpus::decisions(&[file]).into_iter();
    records.map(|record| DecisionRecord { fuel: 0, reused_instance: false, ..record }).collect()
}

#[test]
fn the_default_policy_decides_as_the_golden_traces_say() {
    bless();
    let files = corpus::files();
    let names: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    let mut expected = SCENES.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(names, expected, "each scene has its trace");
    let embedded = Arc::new(PolicyComponent::embedded().unwrap());
    for file in &files {
        let report = corpus::replay(std::slice::from_ref(file), &embedded);
        let name = file.file_name().unwrap().display();
        if let Some(first) = &report.first_difference {
            panic!(
                "the default policy decides {} of the {} decisions in tests/traces/{name} otherwise than they stand there. \
                 The first: {} on {}, line {}: {:#?}\nIf that is meant, write them anew: BLESS=1 cargo test --test traces",
                report.different,
                report.records,
                first.function.name(),
                first.subject,
                first.line,
                first.fields
            );
        }
        assert!(report.records > 20 && report.equal == report.records, "{name}: {report:?}");
    }
}

#[test]
fn the_golden_traces_are_small_and_made_by_the_default_alone() {
    bless();
    let files = corpus::files();
    let sizes: Vec<u64> = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).collect();
    assert!(sizes.iter().sum::<u64>() <= BYTES_MAX, "{sizes:?}");
    for file in &files {
        let mut default = None;
        for entry in corpus::entries(std::slice::from_ref(file)) {
            match entry.line {
                Line::Header(header) => default = Some(header.default),
                Line::Decision(record) => {
                    assert_eq!(Some(record.decided_by), default.map(DecidedBy::Deployed));
                    assert!(record.corrections.is_empty() && record.output.is_some(), "{record:?}");
                    assert!(record.faulted.is_none() && record.default_fault.is_none(), "{record:?}");
                }
                Line::Dropped(_) | Line::Swap(_) | Line::Shadow(_) => panic!("{}: {:?}", file.display(), entry.line),
                Line::Connectors(_) | Line::Tools(_) | Line::Credential(_) => {}
            }
        }
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{} names a folder of this machine", file.display());
    }
}

#[test]
fn the_golden_traces_hold_every_function_and_every_case_of_the_contract() {
    bless();
    let contract = Contract::read();
    let records = corpus::decisions(&corpus::files());
    let functions: BTreeSet<_> = records.iter().map(|record| record.input.function()).collect();
    assert_eq!(functions, Function::ALL.into());
    let mut found = BTreeSet::new();
    for record in &records {
        contract.cases_in(&json!(record.input), &json!(record.output), &mut found);
    }
    let all = contract.cases();
    let missing: BTreeSet<_> = all.difference(&found).map(String::as_str).collect();
    assert_eq!(missing, UNREACHABLE.map(|(case, _)| case).into(), "of {} cases", all.len());
    println!("{} decisions, {} of {} cases", records.len(), found.len(), all.len());
}

#[test]
fn a_scene_plays_the_same_way_every_time() {
    let (first, second) = (play(), play());
    for (name, text) in &first {
        let (one, other) = (decisions(text), decisions(&second[name]));
        assert_eq!(one.len(), other.len(), "{name}");
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "{name}");
        }
    }
}
