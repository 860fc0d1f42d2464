//! A folder in memory: nothing in it outlasts the process, and nothing in it fails.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Disk, DiskFile, DiskLook, FILE_MODE};

/// A folder in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    folder: Arc<Mutex<Folder>>,
    ticks: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Folder {
    names: BTreeMap<String, Arc<Inode>>,
    modified: u64,
}

#[derive(Debug)]
struct Inode {
    number: u64,
    content: Mutex<Content>,
    lock: Mutex<Weak<()>>,
    ticks: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    modified: u64,
    mode: u32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a file look as if it had been written at another time.
    #[cfg(test)]
    pub(crate) fn set_modified(&self, name: &str, modified_ns: u64) {
        if let Some(inode) = locked(&self.folder).names.get(name) {
            locked(&inode.content).modified = modified_ns;
        }
    }

    /// A number that was not given before: for inodes and times.
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn change<T>(&self, work: impl FnOnce(&mut Folder) -> io::Result<T>) -> io::Result<T> {
        let mut folder = locked(&self.folder);
        let result = work(&mut folder);
        if result.is_ok() {
            folder.modified = self.tick();
        }
        result
    }
}

fn held(folder: &Folder, name: &str) -> io::Result<Arc<Inode>> {
    folder.names.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        let inode = locked(&self.folder).names.get(name).cloned();
        Ok(inode.map(|inode| -> Box<dyn DiskFile> { Box::new(MemoryFile { inode, lock: Mutex::default() }) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = Arc::new(Inode {
            number: self.tick(),
            content: Mutex::new(Content { bytes: Vec::new(), modified: self.tick(), mode: FILE_MODE }),
            lock: Mutex::default(),
            ticks: self.ticks.clone(),
        });
        self.change(|folder| {
            if folder.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            folder.names.insert(name.to_owned(), inode.clone());
            Ok(())
        })?;
        Ok(Box::new(MemoryFile { inode, lock: Mutex::default() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|folder| {
            let inode = held(folder, from)?;
            // As POSIX has it: of two names of one file, both stay.
            if folder.names.get(to).is_some_and(|own| Arc::ptr_eq(own, &inode)) {
                return Ok(());
            }
            folder.names.remove(from);
            folder.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.change(|folder| {
            let (first, second) = (held(folder, one)?, held(folder, other)?);
            folder.names.insert(one.to_owned(), second);
            folder.names.insert(other.to_owned(), first);
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|folder| {
            let inode = held(folder, from)?;
            if folder.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            folder.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|folder| folder.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.folder).names.keys().cloned().collect())
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        Ok(locked(&self.folder).names.get(name).map(|inode| inode.look()))
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        let modified_ns = locked(&self.folder).modified;
        Ok(DiskLook { file: 0, length: 0, modified_ns, mode: super::DIRECTORY_MODE, owner: (0, 0) })
    }
}

impl Inode {
    fn look(&self) -> DiskLook {
        let content = locked(&self.content);
        DiskLook {
            file: self.number,
            length: content.bytes.len() as u64,
            modified_ns: content.modified,
            mode: content.mode,
            owner: (0, 0),
        }
    }
}

/// An open file of a [`MemoryDisk`].
struct MemoryFile {
    inode: Arc<Inode>,
    lock: Mutex<Option<Arc<()>>>,
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = locked(&self.inode.content);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let read = into.len().min(content.bytes.len() - start);
        into[..read].copy_from_slice(&content.bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut content = locked(&self.inode.content);
        let start = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let end = start + bytes.len();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(bytes);
        content.modified = self.inode.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn look(&self) -> io::Result<DiskLook> {
        Ok(self.inode.look())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut own = locked(&self.lock);
        let mut holder = locked(&self.inode.lock);
        if own.is_some() {
            return Ok(true);
        }
        if holder.strong_count() > 0 {
            return Ok(false);
        }
        let held = Arc::new(());
        *holder = Arc::downgrade(&held);
        *own = Some(held);
        Ok(true)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        locked(&self.inode.content).mode = mode;
        Ok(())
    }
}
