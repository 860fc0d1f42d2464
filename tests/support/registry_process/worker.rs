//! What a worker does in its own process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cortex_mcp::policy::Policy;
use cortex_mcp::registry::{Acknowledge, RegistryEntry, Store, StoreError};

use super::acks::Acks;
use super::{Dice, Names, Order, Work, entry, open, policy};

/// How often a change is tried again that was refused, before the worker gives up.
const TRIES: u32 = 2_000;

/// Does the work.
pub(crate) fn work(order: &Order) {
    let policy = policy();
    let mut hand =
        Hand { acks: Acks::create(&order.acks), number: order.number, values: 0, dice: Dice::new(order.seed) };
    let writer = format!("worker-{}", order.number);
    match &order.work {
        Work::Keep { upserts, names, stay } => {
            let store = open(&order.folder, &policy, &writer, Acknowledge::Journal).unwrap();
            let tending = Tending::start(&store);
            hand.many(*upserts, names, &mut || store.clone(), &|_| Ok(()));
            while stay.as_deref().is_some_and(|file| !file.exists()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            tending.stop();
            if let Err(error) = store.close() {
                // The journal stays, and whoever comes next takes it over.
                hand.acks.note(&format!("not closed: {error}"));
            }
        }
        Work::Commands { upserts, names } => {
            let mut commands = Commands { folder: &order.folder, policy: &policy, writer: &writer, count: 0 };
            hand.many(*upserts, names, &mut || commands.next(), &|store| store.close());
        }
        Work::Script { changes, commands: false, tends } => {
            let store =
                open(&order.folder, &policy, &writer, Acknowledge::Journal).unwrap_or_else(|error| fail(&error));
            for (index, (name, value)) in changes.iter().enumerate() {
                hand.once(&store, name, *value);
                if index % 2 == 1 {
                    report(store.flush());
                }
                (0..*tends).for_each(|_| _ = store.tend());
            }
            report(store.close());
        }
        Work::Script { changes, commands: true, .. } => {
            let mut commands = Commands { folder: &order.folder, policy: &policy, writer: &writer, count: 0 };
            for (name, value) in changes {
                let store = commands.next();
                hand.once(&store, name, *value);
                report(store.close());
            }
        }
    }
}

/// Ends as a command does that failed: says why, and exits with 1.
fn report(result: Result<(), StoreError>) {
    result.unwrap_or_else(|error| fail(&error));
}

#[expect(clippy::print_stderr, reason = "it is a process of its own, and this is where its errors go")]
fn fail(error: &StoreError) -> ! {
    eprintln!("error: {error}");
    std::process::exit(1);
}

struct Commands<'a> {
    folder: &'a Path,
    policy: &'a Arc<Policy>,
    writer: &'a str,
    count: u64,
}

impl Commands<'_> {
    fn next(&mut self) -> Arc<Store> {
        self.count += 1;
        let writer = format!("{}-{}", self.writer, self.count);
        open(self.folder, self.policy, &writer, Acknowledge::Snapshot).unwrap_or_else(|error| fail(&error))
    }
}

/// Who makes changes and writes them down.
struct Hand {
    acks: Acks,
    number: u64,
    values: u64,
    dice: Dice,
}

impl Hand {
    /// Makes changes until so many upserts are acknowledged.
    fn many(
        &mut self,
        upserts: u64,
        names: &Names,
        store: &mut dyn FnMut() -> Arc<Store>,
        after: &dyn Fn(&Arc<Store>) -> Result<(), StoreError>,
    ) {
        let mut done = 0;
        let mut refused = 0;
        while done < upserts {
            let shared = !names.shared.is_empty() && self.dice.below(100) < 20;
            let among = if shared { &names.shared } else { &names.own };
            let name = &among[usize::try_from(self.dice.below(among.len() as u64)).unwrap()];
            let removes = self.dice.below(100) < 8;
            self.values += 1;
            let value = (!removes).then_some(self.number << 24 | self.values);
            let store = store();
            match self.change(&store, name, value) {
                Ok(()) => {
                    done += u64::from(!removes);
                    refused = 0;
                }
                Err(error) => {
                    refused += 1;
                    assert!(refused < TRIES, "refused again and again: {error}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            // A command that can not close has its change all the same.
            let _ = after(&store);
        }
    }

    /// Makes a change. Exits with 1 if it is refused, and with the reason.
    fn once(&mut self, store: &Arc<Store>, name: &str, value: Option<u64>) {
        report(self.change(store, name, value));
    }

    fn change(&mut self, store: &Arc<Store>, name: &str, value: Option<u64>) -> Result<(), StoreError> {
        self.acks.begin(name, value);
        let changed = match value {
            Some(value) => store.upsert(RegistryEntry::parse(&entry(name, value).to_string()).unwrap()),
            None => store.remove(name),
        };
        self.acks.end(changed.as_ref().map(drop).map_err(ToString::to_string));
        changed.map(drop)
    }
}

/// A thread that tends a store.
pub(crate) struct Tending {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Tending {
    pub(crate) fn start(store: &Arc<Store>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (store, stopped) = (store.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let pause = store.tend();
                std::thread::park_timeout(pause);
            }
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap();
    }
}
