//! A directory whose disk can be full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cortex_mcp::edge::files::{AppendFile, Directory, LockGuard, MemoryDirectory};

/// The directory.
#[derive(Default)]
pub(crate) struct FullDisk {
    pub(crate) inner: MemoryDirectory,
    full: Arc<AtomicBool>,
}

/// A growing file on it.
struct GrowingFile {
    inner: Box<dyn AppendFile>,
    full: Arc<AtomicBool>,
}

impl AppendFile for GrowingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        check(&self.full)?;
        self.inner.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        check(&self.full)?;
        self.inner.sync()
    }
}

fn check(full: &AtomicBool) -> io::Result<()> {
    if full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl FullDisk {
    /// From now on writes fail, or succeed again.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        check(&self.full)
    }
}

impl Directory for FullDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.inner.replace(name, bytes)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        self.check()?;
        Ok(Box::new(GrowingFile { inner: self.inner.create(name)?, full: self.full.clone() }))
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.check()?;
        self.inner.persist(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check()?;
        self.inner.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}
