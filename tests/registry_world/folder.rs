//! A folder for small stories: prepare, act, end the machine or a process at every call, and look at what is left.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cortex_mcp::edge::disk::Disk;
use cortex_mcp::policy::Policy;
use cortex_mcp::registry::{Acknowledge, Store};

use super::clock::HandClock;
use super::editor::Edit;
use super::ledger::Said;
use super::{FILE, content, editor, open, policy, said};
use crate::support::crash_disk::{CrashDisk, Nature};

/// A folder, its clock, and who writes to it.
pub(crate) struct Folder {
    pub(crate) disk: CrashDisk,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) policy: Arc<Policy>,
    writers: Cell<u32>,
}

/// A process that has the registry open.
pub(crate) struct Process {
    pub(crate) disk: CrashDisk,
    pub(crate) store: Arc<Store>,
}

impl Folder {
    pub(crate) fn new(nature: Nature) -> Self {
        let (disk, clock) = (CrashDisk::with(nature, 1), Arc::new(HandClock::new()));
        let policy = policy(&clock, 1);
        Self { disk, clock, policy, writers: Cell::new(0) }
    }

    pub(crate) fn pass(&self, milliseconds: u64) {
        self.clock.pass(milliseconds);
        self.disk.set_wall_ns(self.clock.wall_ns());
    }

    /// A process that opens the registry, if it can.
    pub(crate) fn try_process(&self, acknowledge: Acknowledge) -> Option<Process> {
        self.pass(1);
        self.writers.set(self.writers.get() + 1);
        let (disk, writer) = (self.disk.process(), format!("w{}", self.writers.get()));
        let store = open(Arc::new(disk.clone()), &self.policy, &writer, acknowledge).ok()?;
        Some(Process { disk, store })
    }

    pub(crate) fn process(&self) -> Process {
        self.try_process(Acknowledge::Journal).unwrap()
    }

    pub(crate) fn open(&self, acknowledge: Acknowledge) -> Arc<Store> {
        self.try_process(acknowledge).unwrap().store
    }

    /// Whether a command set a name, and said so.
    pub(crate) fn commands(&self, name: &str, number: u32) -> bool {
        let process = self.try_process(Acknowledge::Snapshot);
        process.is_some_and(|process| process.store.upsert(content(name, number)).is_ok())
    }

    pub(crate) fn command(&self, name: &str, number: u32) {
        assert!(self.commands(name, number), "a command fails");
    }

    pub(crate) fn editor(&self) -> Edit {
        Edit::begin(&self.disk, FILE).unwrap().unwrap()
    }

    pub(crate) fn save(&self, edit: &Edit) {
        self.pass(1);
        edit.save(&self.disk, FILE, "editing").unwrap();
    }

    /// After the power was lost and is back: each seed is another future.
    pub(crate) fn after(&self, seed: u64) -> Self {
        self.clock.pass(30_000);
        let (disk, clock, policy) = (self.disk.recover(seed), self.clock.clone(), self.policy.clone());
        disk.set_wall_ns(clock.wall_ns());
        Self { disk, clock, policy, writers: Cell::new(self.writers.get() + 100) }
    }

    /// What who comes next makes of it, and writes.
    pub(crate) fn says(&self) -> Said {
        self.pass(12_000);
        let store = self.process().store;
        store.flush().unwrap();
        let said = said(&store.snapshot());
        assert_eq!(self.document(), said, "the document says something else");
        said
    }

    /// What the document says.
    pub(crate) fn document(&self) -> Said {
        let bytes = self.disk.content(FILE).unwrap_or_else(|| br#"{"servers":[]}"#.to_vec());
        editor::said(&bytes).unwrap_or_else(|error| panic!("{FILE} can not be read: {error}"))
    }

    /// The bytes of a file; none if it is not there.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.disk.content(name)
    }

    /// The number of the call that `work` makes last of these kinds, one after the other.
    pub(crate) fn call_within(&self, kinds: &[&str], work: impl FnOnce()) -> u64 {
        self.disk.keep_log();
        let told = self.disk.log().lines().count();
        work();
        let log = self.disk.log();
        let mut wanted = kinds.iter();
        let mut next = wanted.next();
        for line in log.lines().skip(told) {
            let words: Vec<&str> = line.split_whitespace().take(3).collect();
            if next == words.get(2) {
                next = wanted.next();
                if next.is_none() {
                    return words[0].parse().unwrap();
                }
            }
        }
        panic!("{next:?} is missing in\n{log}");
    }

    /// Files whose names contain this.
    pub(crate) fn named(&self, part: &str) -> Vec<String> {
        self.disk.names().unwrap().into_iter().filter(|name| name.contains(part)).collect()
    }
}

/// How many futures of each crash are tried.
const FUTURES: u64 = 6;

/// Lets a story happen whole, and then with the end of a process, and of the machine, at each call that it makes. `check`
/// looks at what is left each time.
pub(crate) fn at_every_end<T>(
    prepare: impl Fn() -> (Folder, T),
    act: impl Fn(&Folder, &T),
    check: impl Fn(&Folder, &T),
) {
    let (folder, there) = prepare();
    let first = folder.disk.operations() + 1;
    act(&folder, &there);
    let last = folder.disk.operations();
    check(&folder, &there);
    assert!(last > first, "nothing happens");
    for call in first..=last {
        let (folder, there) = prepare();
        folder.disk.kill_at(call);
        act(&folder, &there);
        check(&folder, &there);
        let (folder, there) = prepare();
        folder.disk.crash_at(call);
        act(&folder, &there);
        (0..FUTURES).for_each(|seed| check(&folder.after(seed), &there));
    }
}

/// A document, a process that is about to write another, and an editor who saves just before the two are exchanged.
pub(crate) fn cut_in() -> (Folder, (Process, Arc<AtomicBool>)) {
    let ready = || {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        let process = folder.process();
        process.store.upsert(content("b", 2)).unwrap();
        (folder, process)
    };
    let (dry, process) = ready();
    let exchange = dry.call_within(&["Exchange"], || process.store.flush().unwrap());
    let (folder, process) = ready();
    let (disk, saved) = (folder.disk.process(), Arc::new(AtomicBool::new(false)));
    let save = saved.clone();
    folder.disk.before(exchange, move || {
        let Ok(Some(mut edit)) = Edit::begin(&disk, FILE) else { return };
        edit.set("f", Some(3));
        save.store(edit.save(&disk, FILE, "editing").is_ok(), Ordering::Relaxed);
    });
    (folder, (process, saved))
}

/// What a registry says.
pub(crate) fn all(pairs: &[(&str, u32)]) -> Said {
    pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}
