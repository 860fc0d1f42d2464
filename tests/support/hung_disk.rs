//! A directory whose disk can hang.

use std::sync::{Arc, Condvar, Mutex};

use cortex_mcp::edge::files::{AppendFile, Directory, LockGuard, MemoryDirectory};

/// A disk that does not come back from a write until it is told to.
#[derive(Default)]
pub(crate) struct HungDisk {
    pub(crate) inner: MemoryDirectory,
    hangs: Arc<(Mutex<bool>, Condvar)>,
}

struct HungFile {
    inner: Box<dyn AppendFile>,
    hangs: Arc<(Mutex<bool>, Condvar)>,
}

impl AppendFile for HungFile {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let hangs = self.hangs.0.lock().unwrap();
        drop(self.hangs.1.wait_while(hangs, |hangs| *hangs).unwrap());
        self.inner.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> std::io::Result<()> {
        self.inner.truncate(length)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.inner.sync()
    }
}

impl HungDisk {
    /// From now on writes hang, or go on.
    pub(crate) fn set_hanging(&self, hangs: bool) {
        *self.hangs.0.lock().unwrap() = hangs;
        self.hangs.1.notify_all();
    }
}

impl Directory for HungDisk {
    fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.inner.replace(name, bytes)
    }
    fn persist(&self, name: &str) -> std::io::Result<()> {
        self.inner.persist(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.inner.remove(name)
    }
    fn names(&self) -> std::io::Result<Vec<String>> {
        self.inner.names()
    }
    fn create(&self, name: &str) -> std::io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(HungFile { inner: self.inner.create(name)?, hangs: self.hangs.clone() }))
    }
    fn try_lock(&self, name: &str) -> std::io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}
