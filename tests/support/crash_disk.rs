//! A folder in memory that crashes, fails and forgets as real ones do (ALICE, OSDI 2014; Rebello et al., ATC 2020).
//!
//! What processes see is apart from what is durable: content becomes durable by a sync of the file, names by a sync of
//! the folder. A crash leaves what is durable and any part of the rest: see [`survival`](self::survival). A sync that
//! fails leaves pages that are read as written and never will be; the next sync of that file succeeds all the same, and
//! is counted. Everything follows from seeds.
//!
//! Several processes of one machine share a folder ([`CrashDisk::process`]). One of them may end alone, which takes its
//! locks and nothing else ([`CrashDisk::kill`]), or the machine with all of them ([`CrashDisk::recover`]).

mod content;
mod dice;
mod faults;
mod machine;
mod survival;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cortex_mcp::edge::disk::{Disk, DiskFile, DiskLook};

pub(crate) use dice::Dice;
pub(crate) use faults::{Fault, Kind};
use machine::{End, Machine, Step};

/// What a file system promises and can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Names can be exchanged in one step.
    pub(crate) exchange: bool,
    /// Files can have several names.
    pub(crate) link: bool,
    /// A folder can be synced.
    pub(crate) folder_sync: bool,
    /// Nothing can be changed.
    pub(crate) read_only: bool,
    /// After a crash, changes of names are seen in their order.
    pub(crate) names_in_order: bool,
    /// A sync of a file makes durable that it has its names, and what was done to names before (ext4).
    pub(crate) file_sync_keeps_names: bool,
    /// After a failed sync of the folder, what it did not make durable never becomes so.
    pub(crate) failed_sync_drops_names: bool,
    /// Reads give fewer bytes than are there.
    pub(crate) short_reads: bool,
    /// How coarse times are.
    pub(crate) grain_ns: u64,
}

impl Default for Nature {
    /// All calls work, and nothing is promised beyond POSIX.
    fn default() -> Self {
        Self {
            exchange: true,
            link: true,
            folder_sync: true,
            read_only: false,
            names_in_order: false,
            file_sync_keeps_names: false,
            failed_sync_drops_names: false,
            short_reads: false,
            grain_ns: 1,
        }
    }
}

/// What every call of a dead process answers.
#[derive(Debug)]
pub(crate) struct Crashed;

impl Crashed {
    pub(crate) fn error() -> io::Error {
        io::Error::other(Self)
    }

    /// Whether this is it.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for Crashed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the process is dead")
    }
}

impl std::error::Error for Crashed {}

/// The folder, as one process has it. Clones are the same process.
#[derive(Clone)]
pub(crate) struct CrashDisk {
    machine: Arc<Mutex<Machine>>,
    process: u64,
}

impl CrashDisk {
    /// An empty folder. Which part of a call that fails is done follows from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(Machine::new(seed))
    }

    /// An empty folder of another nature.
    pub(crate) fn with(nature: Nature, seed: u64) -> Self {
        let mut machine = Machine::new(seed);
        machine.nature = nature;
        Self::of(machine)
    }

    fn of(mut machine: Machine) -> Self {
        let process = machine.give();
        Self { machine: Arc::new(Mutex::new(machine)), process }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder, as another process of the machine has it.
    pub(crate) fn process(&self) -> Self {
        Self { machine: self.machine.clone(), process: self.machine().give() }
    }

    /// Ends this process, and gives the folder to another one. Nothing that it wrote is lost.
    pub(crate) fn kill(&self) -> Self {
        self.machine().process_ends(self.process);
        self.process()
    }

    /// Pulls the plug, and gives the folder as it is after a reboot: each seed gives another.
    pub(crate) fn recover(&self, seed: u64) -> Self {
        let mut machine = self.machine();
        machine.plug_pulled();
        Self::of(machine.recover(seed))
    }

    /// Whether the process ended, or the machine.
    pub(crate) fn is_dead(&self) -> bool {
        self.machine().is_dead(self.process)
    }

    /// The machine ends at its call of that number, from 1.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.machine().end = Some((operation, End::Machine));
    }

    /// Whichever process makes the machine's call of that number ends at it.
    pub(crate) fn kill_at(&self, operation: u64) {
        self.machine().end = Some((operation, End::Process));
    }

    /// Does something just before the machine's call of that number, whoever makes it: another process cuts in.
    pub(crate) fn before(&self, operation: u64, work: impl FnOnce() + Send + 'static) {
        self.machine().cutting_in = Some((operation, Box::new(work)));
    }

    /// How many calls were made, by all processes.
    pub(crate) fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// Which of the calls change something.
    pub(crate) fn changes(&self) -> Vec<u64> {
        self.machine().changes.clone()
    }

    /// That call fails, if it can fail like that.
    pub(crate) fn fail_at(&self, operation: u64, fault: Fault) {
        self.machine().plan.add(operation, fault, false);
    }

    /// That call and all after it fail, if they can fail like that, until [`heal`](Self::heal).
    pub(crate) fn fail_from(&self, operation: u64, fault: Fault) {
        self.machine().plan.add(operation, fault, true);
    }

    /// The disk is full, or not: nothing is made and nothing grows, while what was written can be written again.
    pub(crate) fn set_full(&self, full: bool) {
        self.machine().full = full;
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        let mut machine = self.machine();
        machine.plan.heal();
        machine.full = false;
    }

    /// How many calls failed as planned.
    pub(crate) fn hits(&self) -> u64 {
        self.machine().plan.hits
    }

    /// How often a process synced a file although a sync of its own had failed on it.
    pub(crate) fn resyncs(&self) -> u64 {
        self.machine().resyncs
    }

    /// Changes what the file system can do.
    pub(crate) fn become_of(&self, change: impl FnOnce(&mut Nature)) {
        change(&mut self.machine().nature);
    }

    /// Sets the clock of the machine, which goes on by a nanosecond at every change.
    pub(crate) fn set_wall_ns(&self, wall_ns: u64) {
        self.machine().wall_ns = wall_ns;
    }

    /// Keeps a log of the calls from now on.
    pub(crate) fn keep_log(&self) {
        self.machine().log.get_or_insert_default();
    }

    /// The log of the calls.
    pub(crate) fn log(&self) -> String {
        self.machine().log.clone().unwrap_or_default().join("\n")
    }

    /// What processes read of a file; none if it is not there. No call is counted.
    pub(crate) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let machine = self.machine();
        machine.names.get(name).map(|inode| machine.inodes[inode].visible.to_vec())
    }

    /// The names that processes see. No call is counted.
    pub(crate) fn listed(&self) -> Vec<String> {
        self.machine().names.keys().cloned().collect()
    }

    /// Flips a bit of a file, durably.
    pub(crate) fn flip(&self, name: &str, byte: usize, bit: u32) {
        let mut machine = self.machine();
        let inode = machine.names[name];
        let file = machine.inode(inode);
        for content in [&mut file.visible, &mut file.durable] {
            let mut held = [0];
            if content.read(byte, &mut held) == 1 {
                content.write(byte, &[held[0] ^ 1 << bit]);
            }
        }
    }

    /// A folder that is the same now, apart from this one: as after everything was synced and all processes ended.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.machine().at_rest())
    }

    fn call<T>(
        &self,
        kind: Kind,
        what: &dyn Fn() -> String,
        work: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        call(&self.machine, self.process, kind, what, |machine, _| work(machine))
    }

    fn file(&self, machine: &mut Machine, inode: u64) -> CrashFile {
        let handle = machine.opened(inode);
        CrashFile { machine: self.machine.clone(), process: self.process, inode, handle }
    }
}

/// One call: counted, perhaps failed, perhaps the last of its process.
fn call<T>(
    machine: &Mutex<Machine>,
    process: u64,
    kind: Kind,
    what: &dyn Fn() -> String,
    work: impl FnOnce(&mut Machine, &Step) -> io::Result<T>,
) -> io::Result<T> {
    let lock = || machine.lock().unwrap_or_else(PoisonError::into_inner);
    let cutting_in = lock().cuts_in();
    if let Some(work) = cutting_in {
        work();
    }
    let (step, value) = {
        let mut machine = lock();
        let step = machine.begin(process, kind, what)?;
        let value = work(&mut machine, &step)?;
        (step, value)
    };
    // A file that is not handed out after all closes here, where the machine is free.
    match step.fault {
        Some(fault) if kind != Kind::Write => Err(fault.error()),
        _ => step.answer(value),
    }
}

impl Disk for CrashDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        let opened = self.call(Kind::Open, &|| name.to_owned(), |machine| {
            let inode = machine.names.get(name).copied();
            Ok(inode.map(|inode| self.file(machine, inode)))
        })?;
        Ok(opened.map(|file| -> Box<dyn DiskFile> { Box::new(file) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.call(Kind::Create, &|| name.to_owned(), |machine| {
            machine.writable()?;
            if machine.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if machine.full {
                return Err(Fault::Enospc.error());
            }
            let inode = machine.make();
            machine.lead(vec![(name.to_owned(), Some(inode))]);
            Ok(self.file(machine, inode))
        })?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Kind::Rename, &|| format!("{from} -> {to}"), |machine| {
            machine.writable()?;
            let inode = machine.held(from)?;
            // As POSIX has it: of two names of one file, both stay.
            if machine.names.get(to) != Some(&inode) {
                machine.lead(vec![(from.to_owned(), None), (to.to_owned(), Some(inode))]);
            }
            Ok(())
        })
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.call(Kind::Exchange, &|| format!("{one} <-> {other}"), |machine| {
            machine.writable()?;
            if !machine.nature.exchange {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let (first, second) = (machine.held(one)?, machine.held(other)?);
            machine.lead(vec![(one.to_owned(), Some(second)), (other.to_owned(), Some(first))]);
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Kind::Link, &|| format!("{from} => {to}"), |machine| {
            machine.writable()?;
            if !machine.nature.link {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let inode = machine.held(from)?;
            if machine.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            machine.lead(vec![(to.to_owned(), Some(inode))]);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Kind::Remove, &|| name.to_owned(), |machine| {
            machine.writable()?;
            machine.held(name)?;
            machine.lead(vec![(name.to_owned(), None)]);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        call(&self.machine, self.process, Kind::SyncFolder, &String::new, Machine::sync_folder)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.call(Kind::Names, &String::new, |machine| Ok(machine.names.keys().cloned().collect()))
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        self.call(Kind::LookAtName, &|| name.to_owned(), |machine| {
            Ok(machine.names.get(name).map(|inode| machine.look(*inode)))
        })
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        self.call(Kind::LookAtFolder, &String::new, |machine| Ok(machine.look_at_folder()))
    }
}

/// An open file of a [`CrashDisk`].
struct CrashFile {
    machine: Arc<Mutex<Machine>>,
    process: u64,
    inode: u64,
    handle: u64,
}

impl CrashFile {
    fn call<T>(
        &self,
        kind: Kind,
        what: &dyn Fn() -> String,
        work: impl FnOnce(&mut Machine, &Step) -> io::Result<T>,
    ) -> io::Result<T> {
        call(&self.machine, self.process, kind, &|| format!("#{} {}", self.inode, what()), work)
    }
}

impl DiskFile for CrashFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let wanted = into.len();
        self.call(Kind::Read, &|| format!("{wanted} at {offset}"), |machine, _| machine.read(self.inode, offset, into))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.call(Kind::Write, &|| format!("{} at {offset}", bytes.len()), |machine, step| {
            machine.write(self.inode, offset, bytes, step)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(Kind::SyncFile, &|| "data".to_owned(), |machine, step| {
            machine.sync_file(self.process, self.inode, false, step)
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call(Kind::SyncFile, &|| "all".to_owned(), |machine, step| {
            machine.sync_file(self.process, self.inode, true, step)
        })
    }

    fn look(&self) -> io::Result<DiskLook> {
        self.call(Kind::Look, &String::new, |machine, _| Ok(machine.look(self.inode)))
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.call(Kind::Lock, &String::new, |machine, _| Ok(machine.try_lock(self.inode, self.process, self.handle)))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.call(Kind::SetMode, &|| format!("{mode:o}"), |machine, _| machine.set_mode(self.inode, mode))
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.closed(self.inode, self.process, self.handle);
    }
}
