//! Worlds in which registries are written by several processes until the machine crashes, again and again.
//!
//! A world is one machine, a clock that is moved by hand, stores, and a foreign editor. Everything that happens
//! follows from a seed and is told in a story, so that a violation can be read and comes again. After each crash the
//! registry is opened anew, and must say what the [`Ledger`] allows.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod clock;
mod cutting_in;
pub(crate) mod editor;
pub(crate) mod folder;
pub(crate) mod ledger;
pub(crate) mod machines;
pub(crate) mod script;
mod steps;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::disk::Disk;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::{DiscardRecords, Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{
    Acknowledge, RegistryEntry, RegistryMetrics, RegistrySnapshot, Store, StoreError, StoreOptions, StoreParts,
};

use crate::support::crash_disk::Dice;
use clock::HandClock;
use editor::Edit;
use ledger::{Ledger, Said};
use machines::Machine;

pub(crate) const FILE: &str = "servers.json";

/// Names that stores write, and names that the foreign editor writes.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
const FOREIGN: [&str; 2] = ["f", "g"];

/// One for all worlds: compiling it takes longer than a thousand of them.
static COMPONENT: LazyLock<Arc<PolicyComponent>> = LazyLock::new(|| Arc::new(PolicyComponent::embedded().unwrap()));

/// A policy on that clock.
pub(crate) fn policy(clock: &Arc<HandClock>, seed: u64) -> Arc<Policy> {
    let entropy = Arc::new(VirtualEntropy::from_number(seed));
    let edge = Edge { clock: clock.clone(), entropy, http: Arc::new(VirtualNetwork::new()) };
    Arc::new(Policy::new(
        COMPONENT.clone(),
        COMPONENT.clone(),
        edge,
        Arc::new(DiscardRecords),
        PolicyMetrics::default(),
    ))
}

/// Opens the registry.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    policy: &Arc<Policy>,
    writer: &str,
    acknowledge: Acknowledge,
) -> Result<Arc<Store>, StoreError> {
    // Nobody who could let go of a lock runs while somebody waits for it.
    let options =
        StoreOptions { acknowledge, lock_patience: Duration::ZERO, segment_bytes: 4 << 10, ..StoreOptions::default() };
    Store::open(StoreParts {
        disk,
        file: FILE.to_owned(),
        policy: policy.clone(),
        writer: writer.to_owned(),
        metrics: RegistryMetrics::default(),
        options,
    })
}

/// The entry of a name with this number.
pub(crate) fn content(name: &str, number: u32) -> RegistryEntry {
    RegistryEntry::parse(&editor::entry(name, number).to_string()).unwrap()
}

/// What a snapshot says.
pub(crate) fn said(snapshot: &RegistrySnapshot) -> Said {
    let number = |entry: &RegistryEntry| {
        let json: serde_json::Value = serde_json::from_str(entry.json()).unwrap();
        json["endpoint"].as_str().map_or(u32::MAX, editor::number)
    };
    snapshot.entries().map(|entry| (entry.name.clone(), number(entry))).collect()
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    pub(crate) mid_call: u64,
    pub(crate) acknowledged: u64,
    pub(crate) foreign: u64,
    pub(crate) kills: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.mid_call += other.mid_call;
        self.acknowledged += other.acknowledged;
        self.foreign += other.foreign;
        self.kills += other.kills;
    }
}

/// A process that has the registry open.
struct Running<M> {
    machine: M,
    store: Arc<Store>,
    writer: String,
}

/// A document that a foreign editor has open, on which machine, and what was afloat when it was opened.
type OpenEdit<M> = (M, Edit, Vec<(String, ledger::Value)>);

/// A world.
pub(crate) struct World<M: Machine> {
    root: M,
    clock: Arc<HandClock>,
    policy: Arc<Policy>,
    ledger: Ledger,
    running: Vec<Running<M>>,
    /// What a foreign editor has open, and what foreign editors wrote before that nobody had dealt with: to who
    /// compares it with its base, that is a part of this edit.
    edit: Option<OpenEdit<M>>,
    dice: Dice,
    processes: u32,
    temporaries: u32,
    /// Whether an editor who writes in place is at it, or ended at it: then a crash leaves what nobody can be asked for.
    torn: Arc<AtomicBool>,
    /// Whether somebody may cut in just now.
    cutting_in: bool,
    /// Whether calls may fail because the disk does.
    pub(crate) faulty: bool,
    /// Whether files have one name only: then the lock of the old tools, left by a process that was killed, can not be
    /// told from one that is held, and holds everyone up until it is old.
    pub(crate) one_name: bool,
    pub(crate) story: Vec<String>,
    pub(crate) counts: Counts,
}

/// What may go on in a world; processes by their age. What is for one that is dead is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Pass(u64),
    Start,
    Set(usize, &'static str),
    Remove(usize, &'static str),
    Tend(usize),
    Flush(usize),
    Close(usize),
    Command,
    Edit,
}

pub(crate) type Told<T = ()> = Result<T, String>;

impl<M: Machine> World<M> {
    pub(crate) fn new(root: M, seed: u64) -> Self {
        let clock = Arc::new(HandClock::new());
        root.set_wall_ns(clock.wall_ns());
        Self {
            root,
            policy: policy(&clock, seed),
            clock,
            ledger: Ledger::default(),
            running: Vec::new(),
            edit: None,
            dice: Dice::new(seed),
            processes: 0,
            temporaries: 0,
            torn: Arc::default(),
            cutting_in: false,
            faulty: false,
            one_name: false,
            story: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Some rounds of work, each until a crash, and a last one until everything is closed.
    pub(crate) fn live(&mut self, rounds: usize) -> Told {
        for _ in 0..rounds {
            self.round()?;
            if self.torn.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.reboot()?;
        }
        self.end()
    }

    /// Goes through a script, as long as the machine is up.
    pub(crate) fn play(&mut self, script: &[Step]) -> Told {
        for step in script {
            self.pass(1);
            self.bury();
            let there = |index: usize| index < self.running.len();
            match *step {
                _ if self.root.is_down() => return Ok(()),
                Step::Pass(milliseconds) => self.pass(milliseconds),
                Step::Start => self.start()?,
                Step::Command => self.command()?,
                Step::Edit => self.edit()?,
                Step::Set(chosen, name) if there(chosen) => self.set(chosen, name, false)?,
                Step::Remove(chosen, name) if there(chosen) => self.set(chosen, name, true)?,
                Step::Tend(chosen) if there(chosen) => self.tend(chosen)?,
                Step::Flush(chosen) if there(chosen) => self.flush(chosen)?,
                Step::Close(chosen) if there(chosen) => self.close(chosen)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// This world after a crash, with a future of its own: whether the registry is what it may be, now and after it was
    /// written.
    pub(crate) fn one_future(&self, seed: u64) -> Told {
        let mut future = Self {
            root: self.root.recover(seed),
            ledger: self.ledger.clone(),
            story: self.story.clone(),
            one_name: self.one_name,
            ..Self::new(self.root.clone(), seed)
        };
        future.clock.set(self.clock.wall_ns() / 1_000_000 + 30_000);
        future.root.set_wall_ns(future.clock.wall_ns());
        future.processes = self.processes;
        let lived = future.settled();
        lived.map_err(|what| format!("future {seed}: {what}\n{}", future.tale()))
    }

    /// A process comes after those that ended, reads everything and writes it.
    pub(crate) fn next_process(&mut self) -> Told {
        self.running.clear();
        self.pass(12_000);
        self.start()?;
        self.set(0, "a", false)?;
        self.flush(0)
    }

    /// The disk is sound again: what did not work does so soon, and nothing that was acknowledged is missing.
    pub(crate) fn healed(&mut self) -> Told {
        self.faulty = false;
        self.edit = None;
        for _ in 0..3 {
            self.pass(61_000);
            for running in &self.running {
                let _next = running.store.tend();
            }
        }
        if self.running.is_empty() {
            self.start()?;
        }
        for chosen in 0..self.running.len() {
            let standing = self.running[chosen].store.snapshot().standing.clone();
            if let Some(reason) = standing.reason() {
                return Err(format!("{} is read-only on a sound disk: {reason}", self.running[chosen].writer));
            }
            self.look(chosen)?;
            self.set(chosen, "h", false)?;
            self.flush(chosen)?;
        }
        Ok(())
    }

    fn settled(&mut self) -> Told {
        let names = self.root.disk().names().map_err(|error| error.to_string())?;
        self.tell(format!("the machine starts again with {names:?}"));
        self.document()?;
        self.start()?;
        let said = said(&self.running[0].store.snapshot());
        self.ledger.settle(&said);
        self.set(0, "z", false)?;
        self.end()
    }

    fn tell(&mut self, what: String) {
        let operation = self.root.operations();
        self.story.push(format!("{operation:5} {what}"));
    }

    fn pass(&mut self, milliseconds: u64) {
        self.clock.pass(milliseconds);
        self.root.set_wall_ns(self.clock.wall_ns());
    }

    /// Work until the machine crashes, or there is enough of it: then the plug is pulled.
    fn round(&mut self) -> Told {
        let steps = self.dice.among(2, 7);
        let last = self.dice.below(steps);
        self.start()?;
        for step in 0..steps {
            if step == last {
                let within = if self.dice.chance(700) { 12 } else { 60 };
                let operation = self.root.operations() + self.dice.among(1, within) as u64;
                self.root.crash_at(operation);
                self.tell(format!("the plug will be pulled at call {operation}"));
            }
            self.step()?;
            if self.root.is_down() {
                self.counts.mid_call += 1;
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Told {
        let milliseconds = *self.dice.pick(&[1, 3, 20, 700, 5_100, 12_000]);
        self.pass(milliseconds);
        self.bury();
        if self.running.is_empty() {
            return self.start();
        }
        let chosen = self.dice.below(self.running.len());
        match self.dice.below(100) {
            0..34 => self.change(chosen),
            34..48 => self.tend(chosen),
            48..60 => self.flush(chosen),
            60..66 => self.close(chosen),
            66..72 => self.kill(chosen),
            72..78 if self.running.len() < 3 => self.start(),
            78..82 => self.command(),
            82..91 => self.cut_in(),
            _ => self.edit(),
        }
    }

    /// The plug is pulled, and the registry is opened anew, perhaps not at the first attempt.
    fn reboot(&mut self) -> Told {
        loop {
            self.counts.crashes += 1;
            let seed = self.dice.next();
            let recovered = self.root.recover(seed);
            // The stores of the dead end after it: what they try then fails.
            self.running.clear();
            self.edit = None;
            self.root = recovered;
            self.clock.reboot();
            self.root.set_wall_ns(self.clock.wall_ns());
            let names = self.root.disk().names().map_err(|error| error.to_string())?;
            self.tell(format!("the machine crashes, and starts again with {names:?}"));
            self.document()?;
            if self.dice.chance(250) {
                let operation = self.root.operations() + self.dice.among(1, 60) as u64;
                self.root.crash_at(operation);
                self.tell(format!("the plug will be pulled at call {operation}"));
            }
            self.start()?;
            if !self.root.is_down() && self.dice.coin() {
                self.flush(0)?;
            }
            if self.root.is_down() {
                continue;
            }
            let said = said(&self.running[0].store.snapshot());
            self.tell(format!("{} says {said:?}", self.running[0].writer));
            // What was read after a reboot was durable; it is not forgotten again.
            self.ledger.settle(&said);
            return Ok(());
        }
    }

    /// Whether the document can be read, if it is there.
    fn document(&mut self) -> Told<Option<Said>> {
        let bytes = match cortex_mcp::edge::disk::read(&*self.root.disk(), FILE, 1 << 24) {
            Err(_) if self.root.is_down() || self.faulty => return Ok(None),
            read => read.map_err(|error| error.to_string())?,
        };
        bytes.map(|bytes| editor::said(&bytes)).transpose().map_err(|error| format!("{FILE} can not be read: {error}"))
    }

    /// Everything is closed; then the document alone says everything.
    fn end(&mut self) -> Told {
        self.root.crash_at(u64::MAX);
        while !self.running.is_empty() {
            self.pass(5);
            self.close(0)?;
        }
        let said = self.document()?.unwrap_or_default();
        self.ledger.check(&said, true).map_err(|what| format!("{FILE} says: {what}"))?;
        self.start()?;
        self.look(0)?;
        self.running.clear();
        Ok(())
    }

    /// All that happened, for who has to find out why.
    pub(crate) fn tale(&self) -> String {
        format!("{}\nledger:\n{}\ncalls:\n{}", self.story.join("\n"), self.ledger.tell(), self.root.log())
    }
}
