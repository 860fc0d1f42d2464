//! The machine behind a [`CrashDisk`](super::CrashDisk): what its processes see, and what is durable of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use cortex_mcp::edge::disk::{DIRECTORY_MODE, DiskLook, FILE_MODE};

use super::content::{Content, DirtyWrite};
use super::dice::Dice;
use super::faults::{Fault, Kind, Plan};
use super::{Crashed, Nature, survival};

/// A change of names, in one step: what each leads to afterwards.
#[derive(Clone, Debug)]
pub(super) struct NameChange(pub(super) Vec<(String, Option<u64>)>);

impl NameChange {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        for (name, inode) in &self.0 {
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
    }
}

/// A file, whatever its names.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    /// Which number it shows. As on most file systems, the number of a file that is gone is given to the next.
    number: u64,
    pub(super) visible: Content,
    pub(super) durable: Content,
    dirty: Vec<DirtyWrite>,
    modified_ns: u64,
    mode: u32,
    durable_mode: u32,
    /// Who holds its lock: process and open file.
    lock: Option<(u64, u64)>,
    open: u64,
    /// The processes that know that a sync of it failed.
    sync_failed: BTreeSet<u64>,
}

/// Whose life ends at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Machine,
    Process,
}

/// What an operation has to do beyond its work.
pub(super) struct Step {
    pub(super) fault: Option<Fault>,
    last: bool,
}

impl Step {
    /// The answer, unless it died meanwhile.
    pub(super) fn answer<T>(&self, value: T) -> io::Result<T> {
        if self.last { Err(Crashed::error()) } else { Ok(value) }
    }
}

pub(super) struct Machine {
    pub(super) nature: Nature,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    queue: Vec<NameChange>,
    given: u64,
    pub(super) wall_ns: u64,
    folder_modified_ns: u64,
    pub(super) operations: u64,
    pub(super) changes: Vec<u64>,
    pub(super) log: Option<Vec<String>>,
    pub(super) plan: Plan,
    pub(super) end: Option<(u64, End)>,
    /// What is done before the call of that number.
    pub(super) cutting_in: Option<(u64, Box<dyn FnOnce() + Send>)>,
    dead: BTreeSet<u64>,
    pub(super) down: bool,
    pub(super) full: bool,
    pub(super) resyncs: u64,
    dice: Dice,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nature: Nature::default(),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            queue: Vec::new(),
            given: 0,
            wall_ns: 1_767_225_600_000_000_000,
            folder_modified_ns: 0,
            operations: 0,
            changes: Vec::new(),
            log: None,
            plan: Plan::default(),
            end: None,
            cutting_in: None,
            dead: BTreeSet::new(),
            down: false,
            full: false,
            resyncs: 0,
            dice: Dice::new(seed),
        }
    }

    /// A number that was not given before.
    pub(super) fn give(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    fn tick(&mut self) -> u64 {
        self.wall_ns += 1;
        self.wall_ns - self.wall_ns % self.nature.grain_ns.max(1)
    }

    /// The machine ends: nobody on it does anything any more.
    pub(super) fn plug_pulled(&mut self) {
        self.down = true;
    }

    /// A process ends: its locks go, all it wrote stays.
    pub(super) fn process_ends(&mut self, process: u64) {
        self.dead.insert(process);
        for inode in self.inodes.values_mut() {
            inode.lock = inode.lock.filter(|(holder, _)| *holder != process);
        }
    }

    pub(super) fn is_dead(&self, process: u64) -> bool {
        self.down || self.dead.contains(&process)
    }

    /// What is to be done before the next call.
    pub(super) fn cuts_in(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        let due = self.cutting_in.as_ref().is_some_and(|(at, _)| *at <= self.operations + 1);
        if due { self.cutting_in.take().map(|(_, work)| work) } else { None }
    }

    /// Counts a call; an error if its process is dead, or if the call fails before it does anything.
    pub(super) fn begin(&mut self, process: u64, kind: Kind, what: &dyn Fn() -> String) -> io::Result<Step> {
        if self.is_dead(process) {
            return Err(Crashed::error());
        }
        self.operations += 1;
        if kind.changes() {
            self.changes.push(self.operations);
        }
        let fault = self.plan.due(self.operations, kind);
        let end = self.end.filter(|(at, _)| *at == self.operations).map(|(_, end)| end);
        if let Some(log) = &mut self.log {
            let fault = fault.map(|fault| format!(" fails: {fault:?}")).unwrap_or_default();
            let end = end.map(|end| format!(" is the last of its {end:?}")).unwrap_or_default();
            log.push(format!("{:4} p{process} {kind:?} {}{fault}{end}", self.operations, what()));
        }
        match end {
            Some(End::Machine) => self.plug_pulled(),
            Some(End::Process) => self.process_ends(process),
            None => {}
        }
        let step = Step { fault, last: end.is_some() };
        if step.last && !matches!(kind, Kind::Write | Kind::SyncFile) && self.dice.coin() {
            return Err(Crashed::error());
        }
        match fault {
            // Each of them has its own half-done states.
            Some(_) if matches!(kind, Kind::Write | Kind::SyncFile | Kind::SyncFolder) => Ok(step),
            // The call fails, and may have done its work for all that.
            Some(Fault::Eio) if kind.changes() && self.dice.coin() => Ok(step),
            Some(fault) => Err(fault.error()),
            None => Ok(step),
        }
    }

    /// An error for what a read-only folder does not do.
    pub(super) fn writable(&self) -> io::Result<()> {
        if self.nature.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// What `name` leads to.
    pub(super) fn held(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an open file has an inode")
    }

    /// A new file without a name.
    pub(super) fn make(&mut self) -> u64 {
        let key = self.give();
        let taken: BTreeSet<u64> = self.inodes.values().map(|inode| inode.number).collect();
        let number = (12..).find(|number| !taken.contains(number)).unwrap();
        let modified_ns = self.tick();
        let (visible, durable, dirty) = (Content::default(), Content::default(), Vec::new());
        let (mode, durable_mode, lock, open, sync_failed) = (FILE_MODE, FILE_MODE, None, 0, BTreeSet::new());
        let inode = Inode { number, visible, durable, dirty, modified_ns, mode, durable_mode, lock, open, sync_failed };
        self.inodes.insert(key, inode);
        key
    }

    /// Makes names lead elsewhere, in one step.
    pub(super) fn lead(&mut self, changes: Vec<(String, Option<u64>)>) {
        let change = NameChange(changes);
        change.apply(&mut self.names);
        self.queue.push(change);
        self.folder_modified_ns = self.tick();
        self.forget_unused();
    }

    /// Files that nothing leads to, now or after a crash, are gone.
    fn forget_unused(&mut self) {
        let queued = self.queue.iter().flat_map(|change| change.0.iter().filter_map(|(_, inode)| *inode));
        let used: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().chain(queued).collect();
        self.inodes.retain(|key, inode| inode.open > 0 || used.contains(key));
    }

    pub(super) fn opened(&mut self, inode: u64) -> u64 {
        self.inode(inode).open += 1;
        self.give()
    }

    pub(super) fn closed(&mut self, inode: u64, process: u64, handle: u64) {
        let file = self.inode(inode);
        file.open -= 1;
        file.lock = file.lock.filter(|holder| *holder != (process, handle));
        if file.open == 0 {
            self.forget_unused();
        }
    }

    pub(super) fn try_lock(&mut self, inode: u64, process: u64, handle: u64) -> bool {
        let file = self.inode(inode);
        let free = file.lock.is_none_or(|holder| holder == (process, handle));
        if free {
            file.lock = Some((process, handle));
        }
        free
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], step: &Step) -> io::Result<usize> {
        self.writable()?;
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let held = self.inode(inode).visible.len();
        let mut room = bytes.len();
        if self.full && offset + bytes.len() > held {
            room = held.saturating_sub(offset);
            if room == 0 {
                return Err(Fault::Enospc.error());
            }
        }
        let (taken, failed) = match step.fault {
            Some(Fault::ShortWrite) if room > 1 => (self.dice.among(1, room - 1), None),
            Some(Fault::ShortWrite) => (room, None),
            Some(Fault::Eintr) => (0, Some(Fault::Eintr)),
            Some(fault) => (self.dice.among(0, room), Some(fault)),
            None if step.last => (self.dice.among(0, room), None),
            None => (room, None),
        };
        if taken > 0 {
            let modified_ns = self.tick();
            let file = self.inode(inode);
            file.visible.write(offset, &bytes[..taken]);
            file.dirty.extend(DirtyWrite::split(offset, &bytes[..taken]));
            file.modified_ns = modified_ns;
        }
        failed.map_or_else(|| step.answer(taken), |fault| Err(fault.error()))
    }

    pub(super) fn sync_file(&mut self, process: u64, inode: u64, metadata: bool, step: &Step) -> io::Result<()> {
        let file = self.inodes.get_mut(&inode).expect("an open file has an inode");
        if file.sync_failed.contains(&process) {
            self.resyncs += 1;
            if let Some(log) = &mut self.log {
                log.push("     that file was synced after a sync of it had failed".to_owned());
            }
        }
        // What of it was done, the dice of the recovery tell.
        step.answer(())?;
        if let Some(fault) = step.fault {
            file.sync_failed.insert(process);
            if fault != Fault::Eintr {
                let dirty = std::mem::take(&mut file.dirty);
                if self.dice.coin() {
                    file.durable = survival::content(&file.durable, &dirty, &mut self.dice);
                }
            }
            return Err(fault.error());
        }
        for write in std::mem::take(&mut file.dirty) {
            write.apply(&mut file.durable);
        }
        if metadata {
            file.durable_mode = file.mode;
        }
        if self.nature.file_sync_keeps_names {
            let leads_there = |change: &NameChange| change.0.iter().any(|(_, to)| *to == Some(inode));
            let count = self.queue.iter().rposition(leads_there).map_or(0, |index| index + 1);
            self.keep_names(count);
        }
        Ok(())
    }

    fn keep_names(&mut self, count: usize) {
        for change in self.queue.drain(..count) {
            change.apply(&mut self.durable_names);
        }
    }

    pub(super) fn sync_folder(&mut self, step: &Step) -> io::Result<()> {
        if !self.nature.folder_sync {
            return Err(io::ErrorKind::Unsupported.into());
        }
        step.answer(())?;
        if let Some(fault) = step.fault {
            if self.nature.failed_sync_drops_names && fault != Fault::Eintr {
                let queue = std::mem::take(&mut self.queue);
                for change in survival::names(&queue, true, &mut self.dice) {
                    change.apply(&mut self.durable_names);
                }
            }
            return Err(fault.error());
        }
        self.keep_names(self.queue.len());
        self.forget_unused();
        Ok(())
    }

    pub(super) fn set_mode(&mut self, inode: u64, mode: u32) -> io::Result<()> {
        self.writable()?;
        self.inode(inode).mode = mode;
        Ok(())
    }

    pub(super) fn look(&self, inode: u64) -> DiskLook {
        let file = &self.inodes[&inode];
        DiskLook {
            file: file.number,
            length: file.visible.len() as u64,
            modified_ns: file.modified_ns,
            mode: file.mode,
            owner: (0, 0),
        }
    }

    pub(super) fn look_at_folder(&self) -> DiskLook {
        DiskLook { file: 2, length: 0, modified_ns: self.folder_modified_ns, mode: DIRECTORY_MODE, owner: (0, 0) }
    }

    pub(super) fn read(&mut self, inode: u64, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = &self.inodes[&inode].visible;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let mut wanted = into.len().min(content.len() - offset);
        if wanted > 1 && self.nature.short_reads {
            wanted = self.dice.among(1, wanted);
        }
        Ok(content.read(offset, &mut into[..wanted]))
    }

    /// The machine after a reboot.
    pub(super) fn recover(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut names = self.durable_names.clone();
        for change in survival::names(&self.queue, self.nature.names_in_order, &mut dice) {
            change.apply(&mut names);
        }
        let left = self.with(names, |inode| {
            let mode = if dice.coin() { inode.mode } else { inode.durable_mode };
            (survival::content(&inode.durable, &inode.dirty, &mut dice), mode)
        });
        Self { dice, wall_ns: self.wall_ns + 1_000_000_000, ..left }
    }

    /// The machine after it was shut down.
    pub(super) fn at_rest(&self) -> Self {
        self.with(self.names.clone(), |inode| (inode.visible.clone(), inode.mode))
    }

    /// A machine whose disk has these names and, of each file, this content and mode.
    fn with(&self, names: BTreeMap<String, u64>, mut left: impl FnMut(&Inode) -> (Content, u32)) -> Self {
        let used: BTreeSet<u64> = names.values().copied().collect();
        let kept = self.inodes.iter().filter(|(key, _)| used.contains(key));
        let inodes = kept.map(|(key, inode)| {
            let (content, mode) = left(inode);
            let left = Inode {
                number: inode.number,
                visible: content.clone(),
                durable: content,
                dirty: Vec::new(),
                modified_ns: inode.modified_ns,
                mode,
                durable_mode: mode,
                lock: None,
                open: 0,
                sync_failed: BTreeSet::new(),
            };
            (*key, left)
        });
        Self {
            nature: self.nature,
            inodes: inodes.collect(),
            durable_names: names.clone(),
            names,
            given: self.given,
            wall_ns: self.wall_ns,
            folder_modified_ns: self.folder_modified_ns,
            full: self.full,
            log: self.log.as_ref().map(|_| Vec::new()),
            ..Self::new(self.given)
        }
    }
}
