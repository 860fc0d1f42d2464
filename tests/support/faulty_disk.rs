//! A directory whose disk fails in the ways that it is told to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use cortex_mcp::edge::files::{AppendFile, Directory, FileLook, LockGuard, MemoryDirectory};

/// What fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Appends, after so many of their bytes were written.
    pub(crate) append_after: Option<usize>,
    /// The appends before that one go well.
    pub(crate) appends_well: usize,
    /// Cutting a file back.
    pub(crate) truncate: bool,
    /// Putting a whole file in its place, for this reason.
    pub(crate) replace: Option<io::ErrorKind>,
    /// Whatever is done with files whose names hold this: they are somebody else's.
    pub(crate) foreign: Option<&'static str>,
}

/// The directory.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk {
    pub(crate) inner: MemoryDirectory,
    faults: Arc<Mutex<Faults>>,
}

struct FaultyFile {
    inner: Box<dyn AppendFile>,
    faults: Arc<Mutex<Faults>>,
}

impl FaultyDisk {
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    fn own(&self, name: &str) -> io::Result<()> {
        let foreign = self.faults().foreign.is_some_and(|part| name.contains(part));
        if foreign { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

impl AppendFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut faults = self.faults.lock().unwrap();
        let Some(part) = faults.append_after else { return self.inner.append(bytes) };
        if faults.appends_well > 0 {
            faults.appends_well -= 1;
            return self.inner.append(bytes);
        }
        self.inner.append(&bytes[..part.min(bytes.len())])?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.faults.lock().unwrap().truncate {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl Directory for FaultyDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.own(name)?;
        self.inner.read(name)
    }

    fn look(&self, name: &str) -> io::Result<Option<FileLook>> {
        self.inner.look(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fault = self.faults().replace;
        fault.map_or_else(|| self.inner.replace(name, bytes), |kind| Err(kind.into()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(FaultyFile { inner: self.inner.create(name)?, faults: self.faults.clone() }))
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.own(name)?;
        self.inner.persist(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.own(name)?;
        self.inner.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.own(name)?;
        self.inner.try_lock(name)
    }
}
