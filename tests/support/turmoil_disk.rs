//! A folder of `turmoil-fs`: a second opinion on crashes, written by others.
//!
//! It has no locks, no inodes and no exchange; its hard links are copies, and its open files follow their path. So
//! links and exchange are not supported here, and an adapter keeps inodes, locks and which name each file has. Its
//! renames go wrong where a name is used again before the folder was synced: there the folder is synced first, as any
//! file system may do at any time. What a crash leaves is its decision: content and names that were not synced are
//! lost, writes may survive in part, from their beginning (`block_size`), and be durable at once (`sync_probability`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cortex_mcp::edge::disk::{DIRECTORY_MODE, Disk, DiskFile, DiskLook, FILE_MODE};
use turmoil_fs::shim::std::fs::{File, OpenOptions, create_dir, read_dir, remove_file, rename, sync_dir};
use turmoil_fs::{Fs, FsConfig};

use super::crash_disk::Crashed;

const FOLDER: &str = "/registry";

/// The folder, as the processes of one machine have it.
#[derive(Clone)]
pub(crate) struct TurmoilDisk {
    fs: Fs,
    state: Arc<Mutex<State>>,
}

struct State {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Held>,
    given: u64,
    wall_ns: u64,
    folder_modified_ns: u64,
    /// Names of which turmoil has changes that a use of the same name would get wrong.
    unsettled: BTreeSet<String>,
    operations: u64,
    crash_at: Option<u64>,
    down: bool,
}

/// A file, whatever turmoil thinks of it.
struct Held {
    number: u64,
    /// None once its last name is gone; then its content is here.
    name: Option<String>,
    orphaned: Vec<u8>,
    modified_ns: u64,
    mode: u32,
    lock: Option<u64>,
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

impl State {
    fn new(names: BTreeMap<String, u64>, files: BTreeMap<u64, Held>, given: u64, wall_ns: u64) -> Self {
        let (unsettled, operations, crash_at, down) = (BTreeSet::new(), 0, None, false);
        let folder_modified_ns = wall_ns;
        Self { names, files, given, wall_ns, folder_modified_ns, unsettled, operations, crash_at, down }
    }

    fn tick(&mut self) -> u64 {
        self.wall_ns += 1;
        self.wall_ns
    }

    fn give(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    fn held(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Has turmoil settle the names, if it would get one of these wrong.
    fn settle(&mut self, names: &[&str]) -> io::Result<()> {
        if names.iter().any(|name| self.unsettled.contains(*name)) {
            sync_dir(FOLDER)?;
            self.unsettled.clear();
        }
        Ok(())
    }

    /// The file behind a name is about to lose it: those who have it open keep its content.
    fn detach(&mut self, name: &str) -> io::Result<()> {
        let Some(key) = self.names.remove(name) else { return Ok(()) };
        let content = whole(&open(name)?)?;
        if let Some(file) = self.files.get_mut(&key) {
            file.name = None;
            file.orphaned = content;
        }
        Ok(())
    }

    /// The file turmoil has for this one, if it still has one, to be read.
    fn behind(&self, key: u64) -> io::Result<Option<File>> {
        self.files[&key].name.as_deref().map(open).transpose()
    }

    /// The same, to be written or synced.
    fn changing(&mut self, key: u64) -> io::Result<Option<File>> {
        if let Some(name) = self.files[&key].name.clone() {
            self.settle(&[&name])?;
        }
        self.behind(key)
    }
}

fn open(name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path(name))
}

fn whole(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

impl TurmoilDisk {
    /// An empty folder. Writes survive a crash by blocks of this size, and any of them, so many of a thousand, may be
    /// durable at once.
    pub(crate) fn new(seed: u64, block_size: u64, sync_permille: u32) -> Self {
        let mut config = FsConfig::default();
        config.block_size(block_size).sync_probability(f64::from(sync_permille) / 1_000.0);
        let fs = Fs::builder().config(config).seed(seed).build();
        {
            let _entered = fs.enter();
            create_dir(FOLDER).unwrap();
            sync_dir("/").unwrap();
        }
        let state = State::new(BTreeMap::new(), BTreeMap::new(), 0, 1_767_225_600_000_000_000);
        Self { fs, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls were made.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The machine ends before its call of that number, from 1.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// Sets the clock of the machine.
    pub(crate) fn set_wall_ns(&self, wall_ns: u64) {
        self.state().wall_ns = wall_ns;
    }

    /// Whether the machine crashed.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().down
    }

    /// Pulls the plug, and gives the folder as it is after a reboot. The seed is turmoil's own, from the start.
    pub(crate) fn recover(&self) -> Self {
        let mut state = self.state();
        state.down = true;
        self.fs.crash();
        let _entered = self.fs.enter();
        let mut next = State::new(BTreeMap::new(), BTreeMap::new(), state.given, state.wall_ns + 1_000_000_000);
        for name in listed() {
            let number = next.give();
            next.names.insert(name.clone(), number);
            next.files.insert(number, Held::named(name, number, next.wall_ns));
        }
        Self { fs: self.fs.clone(), state: Arc::new(Mutex::new(next)) }
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        call(&self.fs, &self.state, work)
    }

    fn file(&self, key: u64, handle: u64) -> Box<dyn DiskFile> {
        Box::new(TurmoilFile { fs: self.fs.clone(), state: self.state.clone(), key, handle })
    }
}

fn listed() -> Vec<String> {
    let entries = read_dir(FOLDER).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn call<T>(fs: &Fs, state: &Mutex<State>, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if !state.down {
        state.operations += 1;
        state.down = state.crash_at == Some(state.operations);
    }
    if state.down {
        return Err(Crashed::error());
    }
    let _entered = fs.enter();
    fs.set_now(Duration::from_nanos(state.wall_ns));
    work(&mut state)
}

impl Held {
    fn named(name: String, number: u64, modified_ns: u64) -> Self {
        Self { number, name: Some(name), orphaned: Vec::new(), modified_ns, mode: FILE_MODE, lock: None }
    }

    fn look(&self, length: u64) -> DiskLook {
        DiskLook { file: self.number, length, modified_ns: self.modified_ns, mode: self.mode, owner: (0, 0) }
    }
}

fn look(state: &State, key: u64) -> io::Result<DiskLook> {
    let length = match state.behind(key)? {
        Some(file) => file.metadata()?.len(),
        None => state.files[&key].orphaned.len() as u64,
    };
    Ok(state.files[&key].look(length))
}

impl Disk for TurmoilDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        let opened = self.call(|state| {
            let handle = state.give();
            Ok(state.names.get(name).map(|key| (*key, handle)))
        })?;
        Ok(opened.map(|(key, handle)| self.file(key, handle)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (key, handle) = self.call(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.settle(&[name])?;
            OpenOptions::new().read(true).write(true).create_new(true).open(path(name))?;
            let (key, modified_ns) = (state.give(), state.tick());
            state.names.insert(name.to_owned(), key);
            state.files.insert(key, Held::named(name.to_owned(), key, modified_ns));
            state.folder_modified_ns = modified_ns;
            Ok((key, state.give()))
        })?;
        Ok(self.file(key, handle))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state| {
            let key = state.held(from)?;
            state.settle(&[from, to])?;
            if from == to {
                return Ok(());
            }
            state.detach(to)?;
            rename(path(from), path(to))?;
            state.names.remove(from);
            state.names.insert(to.to_owned(), key);
            if let Some(file) = state.files.get_mut(&key) {
                file.name = Some(to.to_owned());
            }
            state.unsettled.extend([from.to_owned(), to.to_owned()]);
            state.folder_modified_ns = state.tick();
            Ok(())
        })
    }

    fn exchange(&self, _one: &str, _other: &str) -> io::Result<()> {
        self.call(|_| Err(io::ErrorKind::Unsupported.into()))
    }

    fn link(&self, _from: &str, _to: &str) -> io::Result<()> {
        self.call(|_| Err(io::ErrorKind::Unsupported.into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|state| {
            state.held(name)?;
            state.settle(&[name])?;
            state.detach(name)?;
            remove_file(path(name))?;
            state.unsettled.insert(name.to_owned());
            state.folder_modified_ns = state.tick();
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.call(|state| {
            sync_dir(FOLDER)?;
            state.unsettled.clear();
            Ok(())
        })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.call(|state| Ok(state.names.keys().cloned().collect()))
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        self.call(|state| state.names.get(name).copied().map(|key| look(state, key)).transpose())
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        self.call(|state| {
            let modified_ns = state.folder_modified_ns;
            Ok(DiskLook { file: 0, length: 0, modified_ns, mode: DIRECTORY_MODE, owner: (0, 0) })
        })
    }
}

/// An open file of a [`TurmoilDisk`].
struct TurmoilFile {
    fs: Fs,
    state: Arc<Mutex<State>>,
    key: u64,
    handle: u64,
}

impl TurmoilFile {
    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        call(&self.fs, &self.state, work)
    }

    fn change(&self, work: impl FnOnce(&mut Held)) -> io::Result<()> {
        self.call(|state| {
            state.files.get_mut(&self.key).map(work);
            Ok(())
        })
    }
}

impl DiskFile for TurmoilFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.call(|state| match state.behind(self.key)? {
            Some(file) => file.read_at(into, offset),
            None => {
                let content = &state.files[&self.key].orphaned;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                let read = into.len().min(content.len() - start);
                into[..read].copy_from_slice(&content[start..start + read]);
                Ok(read)
            }
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.call(|state| {
            let behind = state.changing(self.key)?;
            let modified_ns = state.tick();
            let held = state.files.get_mut(&self.key).unwrap();
            held.modified_ns = modified_ns;
            if let Some(file) = behind {
                return file.write_at(bytes, offset);
            }
            let start = usize::try_from(offset).unwrap();
            let content = &mut held.orphaned;
            content.resize(content.len().max(start + bytes.len()), 0);
            content[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|state| state.changing(self.key)?.map_or(Ok(()), |file| file.sync_data()))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call(|state| state.changing(self.key)?.map_or(Ok(()), |file| file.sync_all()))
    }

    fn look(&self) -> io::Result<DiskLook> {
        self.call(|state| look(state, self.key))
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.call(|state| {
            let file = state.files.get_mut(&self.key).unwrap();
            let free = file.lock.is_none_or(|holder| holder == self.handle);
            if free {
                file.lock = Some(self.handle);
            }
            Ok(free)
        })
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.change(|file| file.mode = mode)
    }
}

impl Drop for TurmoilFile {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = state.files.get_mut(&self.key) {
            file.lock = file.lock.filter(|holder| *holder != self.handle);
        }
    }
}
