//! A directory whose process dies at the change of a given number: that one is done in part or not at all, and no later one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cortex_mcp::edge::files::{AppendFile, Directory, FileLook, LockGuard, MemoryDirectory};

/// The directory. What a process leaves is in `inner`.
#[derive(Clone)]
pub(crate) struct CrashingDisk {
    pub(crate) inner: MemoryDirectory,
    left: Arc<AtomicUsize>,
    /// How many bytes of the append that the process dies in are written.
    part: usize,
}

struct CrashingFile {
    inner: Box<dyn AppendFile>,
    disk: CrashingDisk,
}

impl CrashingDisk {
    /// The process makes so many changes.
    pub(crate) fn after(changes: usize, part: usize) -> Self {
        Self { inner: MemoryDirectory::new(), left: Arc::new(AtomicUsize::new(changes)), part }
    }

    /// How many more changes the process may make.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    fn change(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the process died"))
    }
}

impl AppendFile for CrashingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_last = self.disk.left() == 1;
        self.disk.change()?;
        if is_last {
            self.inner.append(&bytes[..self.disk.part.min(bytes.len())])?;
            return Err(io::Error::other("the process died"));
        }
        self.inner.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.change()?;
        self.inner.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change()?;
        self.inner.sync()
    }
}

impl Directory for CrashingDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn look(&self, name: &str) -> io::Result<Option<FileLook>> {
        self.inner.look(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        self.inner.replace(name, bytes)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        self.change()?;
        Ok(Box::new(CrashingFile { inner: self.inner.create(name)?, disk: self.clone() }))
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.change()?;
        self.inner.persist(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change()?;
        self.inner.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}
