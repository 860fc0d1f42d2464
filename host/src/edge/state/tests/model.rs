//! Random sequences of changes, compactions and restarts, against a map.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<(u8, u8)>)>),
    Restart,
    Compact,
    /// A compaction with a batch in its middle.
    CompactAround(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..6u8, proptest::option::weighted(0.8, (0..4u8, 0..4u8)));
    let step = prop_oneof![
        6 => proptest::collection::vec(change, 1..5).prop_map(Step::Commit),
        3 => Just(Step::Restart),
        1 => Just(Step::Compact),
        1 => (0..6u8, 0..4u8).prop_map(|(name, body)| Step::CompactAround(name, body)),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The body of that number; the first one is empty, the others are long enough for some threads.
fn body(number: u8, megabytes: bool) -> Vec<u8> {
    let length = if megabytes { 1 << 20 } else { 20 };
    if number == 0 { Vec::new() } else { vec![b'0' + number; length] }
}

fn name(number: u8) -> String {
    if number == 5 { OWN.to_owned() } else { format!("connector-{number}") }
}

fn run(steps: Vec<Step>, megabytes: bool) {
    let directory = MemoryDirectory::new();
    let mut model = Model::new();
    let (mut store, _) = open(&directory);
    let apply = |store: &mut StateStore, model: &mut Model, changes: BTreeMap<String, Option<(u8, u8)>>| {
        let change = |(name, kept): (&String, &Option<(u8, u8)>)| match kept {
            Some((header, content)) => keep(name, &header.to_string(), &body(*content, megabytes)),
            None => (name.clone(), Change::Removal),
        };
        commit(store, changes.iter().map(change).collect());
        for (name, kept) in changes {
            match kept {
                Some((header, content)) => drop(model.insert(name, (header.to_string(), body(content, megabytes)))),
                None => drop(model.remove(&name)),
            }
        }
    };
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let changes = changes.into_iter().map(|(number, kept)| (name(number), kept)).collect();
                apply(&mut store, &mut model, changes);
            }
            Step::Restart => {
                let (opened, saved) = open(&directory);
                assert_eq!((modelled(&saved), saved.damaged), (model.clone(), Vec::new()));
                store = opened;
            }
            Step::Compact => drop(compact(&mut store)),
            Step::CompactAround(number, content) => {
                let compaction = store.begin_compaction();
                apply(&mut store, &mut model, BTreeMap::from([(name(number), Some((9, content)))]));
                if let Some(compaction) = compaction {
                    let compacted = compaction.run();
                    assert_eq!(stored(&directory), model);
                    store.end_compaction(compacted);
                }
            }
        }
        assert_eq!(stored(&directory), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_map_would(steps in steps()) {
        run(steps, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_map_would_when_threads_verify_it(steps in steps().prop_map(|mut all| { all.truncate(12); all })) {
        run(steps, true);
    }
}
