//! The calls that a `SystemDirectory` makes, on a disk that crashes and fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortex_mcp::edge::disk::{self, Disk, DiskFile, write_all_at};
use cortex_mcp::edge::files::{AppendFile, Directory, LockGuard};

/// Larger than any file of a test.
const CAP: usize = 64 << 20;

/// The directory. Clones are the same process.
#[derive(Clone)]
pub(crate) struct CrashDirectory {
    disk: Arc<dyn Disk>,
    temporaries: Arc<AtomicU64>,
}

impl CrashDirectory {
    pub(crate) fn new(disk: impl Disk) -> Self {
        Self { disk: Arc::new(disk), temporaries: Arc::default() }
    }

    fn opened(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Directory for CrashDirectory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        disk::read(&*self.disk, name, CAP)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = disk::read_to_end_at(&*self.opened(name)?, offset, CAP)?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A name of an earlier process may be there.
        let temporary = loop {
            let temporary = format!(".tmp-{}", self.temporaries.fetch_add(1, Ordering::SeqCst));
            if self.disk.look(&temporary)?.is_none() {
                break temporary;
            }
        };
        disk::write_new(&*self.disk, &temporary, bytes, None)?;
        self.rename(&temporary, name)
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.opened(name)?.sync_all()?;
        self.disk.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.disk.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)?;
        self.disk.sync()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        Ok(Box::new(CrashAppend { file: self.disk.create(name)?, length: 0 }))
    }

    fn try_lock(&self, _name: &str) -> io::Result<Option<LockGuard>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file that grows. The disk has no call that cuts it back: what goes is overwritten with zeros, as after some crashes.
struct CrashAppend {
    file: Box<dyn DiskFile>,
    length: u64,
}

impl AppendFile for CrashAppend {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&*self.file, self.length, bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let end = self.file.look()?.length;
        let zeros = vec![0; usize::try_from(end.saturating_sub(length)).unwrap()];
        write_all_at(&*self.file, length, &zeros)?;
        self.length = length;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
