//! A directory whose disk can be full.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use cortex_mcp::edge::files::{Directory, LockGuard, MemoryDirectory};

/// The directory.
#[derive(Default)]
pub(crate) struct FullDisk {
    pub(crate) inner: MemoryDirectory,
    full: AtomicBool,
}

impl FullDisk {
    /// From now on writes fail, or succeed again.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
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
