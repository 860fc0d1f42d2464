//! The registry beside embedded stores: one durable change at a time, and sixteen writers at once, in one run and one folder.
//!
//! `cargo run --release` in this folder; the options are those of `cargo bench --bench registry`. Each store makes every
//! change durable before it answers: SQLite with WAL and `synchronous=FULL`, redb with `Durability::Immediate`, fjall with
//! `PersistMode::SyncAll`. Each is asked as its documentation asks to be; what they are for is more than what is measured.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]
#![allow(dead_code, reason = "what is measured elsewhere is shared")]

use std::time::Instant;

use cortex_mcp::registry::RegistryEntry;

use measured::figures::{Report, Values, shown};
use measured::raw::{self, RawLoop};
use measured::rig::{self, Kept, Options, Rig};
use stores::{Fjall, Redb, Sqlite};

#[path = "../../measured/mod.rs"]
mod measured;
mod stores;

/// Entries of each store.
const NAMES: usize = 1_000;

/// Writers at once.
const WRITERS: usize = 16;

/// A store that answers once a change is durable.
pub(crate) trait Peer: Sync {
    /// What a writer holds: a connection, where a store wants one for each.
    type Session<'a>
    where
        Self: 'a;

    fn session(&self) -> Self::Session<'_>;

    fn put(&self, session: &mut Self::Session<'_>, entry: RegistryEntry);
}

struct Ours(Kept);

impl Peer for Ours {
    type Session<'a> = ();

    fn session(&self) {}

    fn put(&self, (): &mut (), entry: RegistryEntry) {
        self.0.store.upsert(entry).expect("a durable change");
    }
}

/// What was measured of one store.
#[derive(Default)]
struct Measured {
    p50: Values,
    p95: Values,
    ratio: Values,
    many: Values,
}

fn main() {
    let options = Options::from_arguments();
    let folder = options.folder();
    let home = |name: &str| {
        let home = folder.path().join(name);
        std::fs::create_dir(&home).expect("a folder");
        home
    };
    let runtime = rig::runtime();
    let ours = Ours(Kept::new(Rig::new().open(&home("registry"), "bench"), &runtime));
    let (sqlite, redb, fjall) = (Sqlite::new(&home("sqlite")), Redb::new(&home("redb")), Fjall::new(&home("fjall")));
    let record = rig::json(0, 0).len() + FRAME_BYTES;
    let mut raw = RawLoop::new(folder.path(), record).expect("a raw segment");
    fill(&ours);
    fill(&sqlite);
    fill(&redb);
    fill(&fjall);
    let (each, each_of_many) = (options.pick(300, 10), options.pick(100, 3));
    let mut all: [Measured; 4] = Default::default();
    let (mut raw_p50, mut raw_p95) = <[Values; 2]>::default().into();
    for round in 0..options.pick(15, 1) {
        let mut times = Values::default();
        for _ in 0..each {
            times.time(|| raw.write()).expect("a durable record");
        }
        raw_p50.push(times.percentile(0.5));
        raw_p95.push(times.percentile(0.95));
        let p50 = times.percentile(0.5);
        let version = 1 + round * each;
        let [one, two, three, four] = &mut all;
        one.round(&ours, (each, each_of_many), version, p50);
        two.round(&sqlite, (each, each_of_many), version, p50);
        three.round(&redb, (each, each_of_many), version, p50);
        four.round(&fjall, (each, each_of_many), version, p50);
    }
    ours.0.close(&runtime);
    let mut report = Report::default();
    report.note("file system", raw::file_system(folder.path()));
    let figure = format!("p50 {}, p95 {}", shown(raw_p50.median()), shown(raw_p95.median()));
    report.note(format!("raw write + fdatasync of {record} bytes"), figure);
    let names = ["cortex-mcp registry", "SQLite WAL, FULL", "redb Immediate", "fjall SyncAll"];
    for (name, measured) in names.into_iter().zip(&all) {
        let (p50, p95, ratio) = (measured.p50.median(), measured.p95.median(), measured.ratio.median());
        let many = measured.many.median();
        let one = format!("p50 {}, p95 {}, {ratio:.2} x raw", shown(p50), shown(p95));
        report.note(name, format!("{one}; {WRITERS} writers: {many:.0} changes/s"));
    }
    report.print(options.json);
}

/// What a record of the registry has beside the entry: its frame, its edit and its digest.
const FRAME_BYTES: usize = 170;

fn fill<P: Peer>(peer: &P) {
    let mut session = peer.session();
    for entry in rig::work(1, NAMES, NAMES, 0).remove(0) {
        peer.put(&mut session, entry);
    }
}

impl Measured {
    fn round<P: Peer>(&mut self, peer: &P, (each, each_of_many): (usize, usize), version: usize, raw_p50: f64) {
        let mut times = Values::default();
        let mut session = peer.session();
        for entry in rig::work(1, each, NAMES, version).remove(0) {
            times.time(|| peer.put(&mut session, entry));
        }
        self.p50.push(times.percentile(0.5));
        self.p95.push(times.percentile(0.95));
        self.ratio.push(times.percentile(0.5) / raw_p50);
        self.many.push(many(peer, rig::work(WRITERS, each_of_many, NAMES, version)));
    }
}

/// Changes per second of threads that each wait for their own.
fn many<P: Peer>(peer: &P, work: Vec<Vec<RegistryEntry>>) -> f64 {
    let count: usize = work.iter().map(Vec::len).sum();
    let gate = std::sync::Barrier::new(work.len() + 1);
    let started = std::thread::scope(|scope| {
        for entries in work {
            let gate = &gate;
            scope.spawn(move || {
                let mut session = peer.session();
                gate.wait();
                for entry in entries {
                    peer.put(&mut session, entry);
                }
            });
        }
        gate.wait();
        Instant::now()
    });
    count as f64 / started.elapsed().as_secs_f64()
}
