//! A script of everything that may go on, for tests that do something at each of its calls; and what such tests need.
#![allow(clippy::disallowed_methods, reason = "tests may")]

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Step;
use crate::support::crash_disk::Nature;

/// Two processes, a command and an editor, and everything that they can do.
pub(crate) const SCRIPT: [Step; 26] = [
    Step::Start,
    Step::Set(0, "a"),
    Step::Set(0, "b"),
    Step::Pass(6_000),
    Step::Tend(0),
    Step::Start,
    Step::Set(1, "c"),
    Step::Set(0, "a"),
    Step::Edit,
    Step::Flush(1),
    Step::Edit,
    Step::Remove(0, "b"),
    Step::Pass(700),
    Step::Tend(0),
    Step::Tend(1),
    Step::Command,
    Step::Set(1, "b"),
    Step::Set(0, "c"),
    Step::Close(0),
    Step::Pass(12_000),
    Step::Tend(0),
    Step::Set(0, "a"),
    Step::Start,
    Step::Set(1, "a"),
    Step::Flush(1),
    Step::Close(0),
];

/// Natures that differ in what a crash leaves, and in which calls the store has to make do with.
pub(crate) fn natures() -> [Nature; 4] {
    let plain = Nature::default();
    [
        plain,
        Nature { names_in_order: true, file_sync_keeps_names: true, ..plain },
        Nature { exchange: false, ..plain },
        Nature { link: false, exchange: false, names_in_order: true, ..plain },
    ]
}

/// A number of the environment.
pub(crate) fn option(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Says the numbers of a run, also where the output of tests that pass is not shown.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Checks each, on all cores. Panics with the first complaint.
pub(crate) fn at_each<T: Sync>(all: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let found: Mutex<Option<String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed))
                    && found.lock().unwrap().is_none()
                {
                    if let Err(what) = check(one) {
                        found.lock().unwrap().get_or_insert(what);
                    }
                }
            });
        }
    });
    if let Some(found) = found.into_inner().unwrap() {
        panic!("{found}");
    }
}
