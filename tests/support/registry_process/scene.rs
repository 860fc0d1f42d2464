//! A scene: workers, some of which are killed and come again, programs that edit without asking, and a reader, all on
//! one folder; and what must be so when all of them are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cortex_mcp::policy::Policy;
use cortex_mcp::registry::Acknowledge;
use tempfile::TempDir;

use super::acks::{Write, refusals, tally};
use super::editors::{Editor, Manner};
use super::{Dice, FILE, Names, Order, Said, Work, Worker, open, option, policy, said, said_by, say};

/// What a scene is to be.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) processes: u64,
    /// Of each process.
    pub(crate) upserts: u64,
    /// How many of the processes are killed, and how often each.
    pub(crate) victims: u64,
    pub(crate) kills: u64,
    /// Upserts of commands.
    pub(crate) commands: u64,
    pub(crate) editors: Vec<Manner>,
}

/// What came of a scene.
pub(crate) struct Played {
    pub(crate) folder: TempDir,
    /// Everything that anybody began.
    pub(crate) writes: Vec<Write>,
    pub(crate) editors: Vec<Editor>,
    /// What a fresh open of the registry says.
    pub(crate) said: Said,
    /// What it finds wrong.
    pub(crate) problems: Vec<String>,
}

/// Names that everybody writes.
const SHARED: u64 = 6;

/// Names that each process writes alone.
const OWN: u64 = 20;

/// Plays it.
pub(crate) fn play(plan: &Plan) -> Played {
    let seed = option("CORTEX_REGISTRY_SEED", Instant::now().elapsed().as_nanos() as u64 ^ super::acks::now_ns());
    let folder = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut cast =
        Cast { folder: folder.path(), logs: logs.path(), dice: Dice::new(seed), number: 0, writes: Vec::new() };
    say(&format!("{}: CORTEX_REGISTRY_SEED={seed}", plan.name));
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let inside = Arc::new(AtomicU64::new(0));
    let reader = Reader::start(folder.path().join(FILE), &stop, &inside);
    let mut parts: Vec<Part> = (0..plan.processes).map(|index| cast.part(plan, index)).collect();
    parts.extend((plan.commands > 0).then(|| cast.commands(plan.commands)));
    let editors: Vec<_> =
        plan.editors.iter().map(|manner| cast.editor(*manner, &inside).start(logs.path(), &stop)).collect();
    while !parts.is_empty() {
        parts.retain_mut(|part| !part.goes_on(&mut cast));
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let editors: Vec<Editor> = editors.into_iter().map(|editor| editor.join().unwrap()).collect();
    let (reads, unreadable) = reader.join().unwrap();
    let mut writes = cast.writes;
    for editor in &editors {
        writes.extend(editor.writes.iter().cloned());
        let (edits, gave_up) = (editor.writes.len(), editor.gave_up);
        say(&format!("{}: {:?} edited {edits} times, gave up {gave_up} times", plan.name, editor.manner));
    }
    let tally = tally(&writes);
    say(&format!("{}: {:.1} s, {tally:?}, {reads} reads, {unreadable} within an edit", plan.name, took.as_secs_f64()));
    for (reason, count) in refusals(&writes) {
        say(&format!("{}: refused {count} times: {reason}", plan.name));
    }
    let fresh = open(folder.path(), &policy(), "fresh", Acknowledge::Journal).unwrap();
    let snapshot = fresh.snapshot();
    Played { folder, writes, editors, said: said(&snapshot), problems: snapshot.problems.to_vec() }
}

/// Who starts workers.
struct Cast<'a> {
    folder: &'a Path,
    logs: &'a Path,
    dice: Dice,
    number: u64,
    writes: Vec<Write>,
}

/// A worker, and those that come after it.
struct Part {
    worker: Worker,
    names: Names,
    /// After how many acknowledged upserts it is killed, each time.
    kills: Vec<u64>,
    /// How many upserts are to be acknowledged yet.
    left: u64,
}

impl Cast<'_> {
    fn start(&mut self, work: Work) -> Worker {
        self.number += 1;
        let number = self.number;
        let acks = self.logs.join(format!("worker-{number}.acks"));
        let seed = self.dice.below(u64::MAX);
        Worker::start(Order { folder: self.folder.to_owned(), acks, number, seed, work })
    }

    fn part(&mut self, plan: &Plan, index: u64) -> Part {
        let own = (0..OWN).map(|key| format!("own-{index}-{key}")).collect();
        let names = Names { own, shared: shared() };
        let kills = if index < plan.victims { plan.kills } else { 0 };
        let most = plan.upserts / (plan.kills + 1);
        let kills: Vec<u64> = (0..kills).map(|_| 1 + self.dice.below(most)).collect();
        let worker = self.keeper(&names, &kills, plan.upserts);
        Part { worker, names, kills, left: plan.upserts }
    }

    fn keeper(&mut self, names: &Names, kills: &[u64], left: u64) -> Worker {
        // Who is to be killed does not end before.
        let upserts = if kills.is_empty() { left } else { u64::MAX };
        self.start(Work::Keep { upserts, names: names.clone(), stay: None })
    }

    fn commands(&mut self, upserts: u64) -> Part {
        let names = Names { own: (0..OWN).map(|key| format!("command-{key}")).collect(), shared: shared() };
        let worker = self.start(Work::Commands { upserts, names: names.clone() });
        Part { worker, names, kills: Vec::new(), left: upserts }
    }

    fn editor(&mut self, manner: Manner, inside: &Arc<AtomicU64>) -> Editor {
        self.number += 1;
        let seed = self.dice.below(u64::MAX);
        Editor { inside: inside.clone(), ..Editor::new(self.folder, manner, self.number, seed) }
    }
}

fn shared() -> Vec<String> {
    (0..SHARED).map(|key| format!("shared-{key}")).collect()
}

impl Part {
    /// Kills it if it is time, and starts another in its place. Whether it has come to its end.
    fn goes_on(&mut self, cast: &mut Cast<'_>) -> bool {
        let Some(kill) = self.kills.last().copied() else {
            let ended = self.worker.has_ended();
            if ended {
                cast.writes.extend(self.worker.writes());
                self.worker
                    .notes()
                    .iter()
                    .for_each(|note| say(&format!("worker {}: {note}", self.worker.order.number)));
            }
            return ended;
        };
        assert!(!self.worker.has_ended(), "a worker that is to be killed ended before");
        if self.worker.upserts() >= kill {
            self.worker.kill();
            self.kills.pop();
            cast.writes.extend(self.worker.writes());
            self.left = self.left.saturating_sub(self.worker.upserts());
            self.worker = cast.keeper(&self.names, &self.kills, self.left);
        }
        false
    }
}

/// Reads the file all the time.
struct Reader;

impl Reader {
    /// Returns how often it was read, and how often it could not be because someone was writing over it.
    fn start(path: PathBuf, stop: &Arc<AtomicBool>, inside: &Arc<AtomicU64>) -> JoinHandle<(u64, u64)> {
        let (stop, inside) = (stop.clone(), inside.clone());
        std::thread::spawn(move || {
            let (mut reads, mut excused, mut was_there) = (0, 0, false);
            while !stop.load(Ordering::Relaxed) {
                let before = inside.load(Ordering::SeqCst);
                let read = match std::fs::read(&path) {
                    Ok(bytes) => {
                        was_there = true;
                        reads += 1;
                        said_by(&bytes).map(drop)
                    }
                    Err(error) if was_there => Err(error.to_string()),
                    Err(_) => Ok(()),
                };
                if let Err(error) = read {
                    let excuse = before % 2 == 1 || inside.load(Ordering::SeqCst) != before;
                    assert!(excuse, "the file could not be read: {error}");
                    excused += 1;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            (reads, excused)
        })
    }
}

/// What is known is written; then two that open the registry and tend it write nothing more, and leave nothing behind.
pub(crate) fn converges(folder: &Path, policy: &Arc<Policy>) -> Said {
    let file = folder.join(FILE);
    let last = open(folder, policy, "last", Acknowledge::Journal).unwrap();
    (0..3).for_each(|_| _ = last.tend());
    last.flush().unwrap();
    last.close().unwrap();
    // There is none if nobody ever wrote anything.
    let bytes = std::fs::read(&file).ok();
    let stores = ["one", "two"].map(|writer| open(folder, policy, writer, Acknowledge::Journal).unwrap());
    for _ in 0..3 {
        stores.iter().for_each(|store| _ = store.tend());
    }
    for store in &stores {
        store.close().unwrap();
        assert_eq!(store.counts().documents, 0, "a document was written for nothing");
    }
    assert!(std::fs::read(&file).ok() == bytes, "the document changed");
    let left: Vec<String> = names(folder).into_iter().filter(|name| is_remnant(folder, name)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    bytes.map(|bytes| said_by(&bytes).unwrap()).unwrap_or_default()
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Whether a file should not be there any more. An empty one that was made a moment ago may be anybody's.
fn is_remnant(folder: &Path, name: &str) -> bool {
    let gone = [".journal-", ".damaged-", ".lock"].iter().any(|part| name.contains(part));
    gone || name.contains(".tmp-") && std::fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0)
}
