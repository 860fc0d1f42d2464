//! Files: a directory that replaces them durably, and a lock on it.
//!
//! A replace is the sequence of SQLite's and ALICE's lessons: write a temporary file in the same directory, fsync it,
//! rename it over the old one, fsync the directory. Every path is relative to a directory opened once (`cap-std`), so
//! nothing can escape it. A file that can not be understood is moved aside, never overwritten.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::{Dir, DirBuilder, OpenOptions};
use cap_std::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use cap_tempfile::TempFile;

use super::disk::system::{if_there, names_in, open_or_make};
use super::disk::{DIRECTORY_MODE, FILE_MODE};

/// One directory of files. Blocking: call it from a blocking thread, or before serving begins.
pub trait Directory: Send + Sync + 'static {
    /// The bytes of a file; none if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The same for a file of at most `cap` bytes, without reading much more than that.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] for a larger one, or whatever the file system says.
    fn read_at_most(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        match self.read(name)? {
            Some(bytes) if bytes.len() > cap => Err(io::ErrorKind::FileTooLarge.into()),
            other => Ok(other),
        }
    }

    /// The first bytes of a file, at most `cap`, without reading much more than that; none if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_start(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = self.read(name)?;
        if let Some(bytes) = &mut bytes {
            bytes.truncate(cap);
        }
        Ok(bytes)
    }

    /// Reads `length` bytes of a file from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file has fewer, [`io::ErrorKind::NotFound`] if it is missing, or whatever the
    /// file system says.
    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(name)?.ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = bytes.get(start..start.saturating_add(length)).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(range.to_vec())
    }

    /// What the file looks like from outside; none if it is not there, or if the directory can not tell.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn look(&self, _name: &str) -> io::Result<Option<FileLook>> {
        Ok(None)
    }

    /// Puts `bytes` in the place of the file, durably: after it returned, a crash leaves the new bytes; before, the old
    /// ones or the new ones, whole.
    ///
    /// # Errors
    /// Whatever the file system says; the old file then stands.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what a file holds and that its name leads to it: a file that [`Self::create`] made, or that another
    /// process appended to.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn persist(&self, name: &str) -> io::Result<()>;

    /// Renames a file within the directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file to append to, and holds its lock until the returned value is dropped: see [`Self::try_lock`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one, or whatever the file system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>>;

    /// Takes the lock file `name`, if no other process holds it. It is held until the guard is dropped, or the process
    /// ends, however it ends.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>>;
}

/// A file that grows. What was appended before the process ended, however it ended, is there; only [`Self::sync`] makes it
/// outlast the machine's own end.
pub trait AppendFile: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// Whatever the file system says; a part of the bytes may then stand at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file back to its first `length` bytes: what an append that failed may have left goes.
    ///
    /// # Errors
    /// Whatever the file system says; the file may then be as it was.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync(&mut self) -> io::Result<()>;
}

impl AppendFile for std::fs::File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What a file looks like from outside. Another look is another content; the same look is the same content most of the
/// time: times are coarse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLook {
    /// How many bytes it has.
    pub length: u64,
    /// When it was written, in nanoseconds since the Unix epoch, if the file system tells.
    pub modified: Option<u128>,
    /// Which file it is.
    pub file: u64,
}

/// A held lock.
pub struct LockGuard(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LockGuard")
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub struct SystemDirectory {
    directory: Dir,
}

impl SystemDirectory {
    /// Opens the directory, and makes it and its parents first if they are missing (mode 0700).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: open_or_make(path)? })
    }

    /// Opens a directory inside this one, and makes it first if it is missing (mode 0700).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn subdirectory(&self, name: &str) -> io::Result<Self> {
        match self.directory.create_dir_with(name, DirBuilder::new().mode(DIRECTORY_MODE)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Self { directory: self.directory.open_dir(name)? })
    }

    fn sync(&self) -> io::Result<()> {
        // `Dir` is opened with O_PATH, on which fsync fails: open "." for reading instead.
        self.directory.open(".")?.sync_all()
    }
}

impl Directory for SystemDirectory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if_there(self.directory.read(name))
    }

    fn read_at_most(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = if_there(self.directory.open(name))? else { return Ok(None) };
        let cap = u64::try_from(cap).unwrap_or(u64::MAX);
        if file.metadata()?.len() > cap {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        // One byte more than is accepted shows that it has grown meanwhile.
        file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > cap {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn read_start(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = if_there(self.directory.open(name))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(u64::try_from(cap).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.directory.open(name)?.into_std();
        let mut bytes = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset)?;
        Ok(bytes)
    }

    fn look(&self, name: &str) -> io::Result<Option<FileLook>> {
        let Some(metadata) = if_there(self.directory.metadata(name))? else { return Ok(None) };
        let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
        let modified = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Some(FileLook {
            length: metadata.len(),
            modified: modified.map(|since| since.as_nanos()),
            file: cap_std::fs::MetadataExt::ino(&metadata),
        }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = TempFile::new(&self.directory)?;
        temporary.as_file_mut().set_permissions(cap_std::fs::Permissions::from_mode(FILE_MODE))?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        temporary.replace(name)?;
        self.sync()
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.directory.open(name)?.sync_all()?;
        self.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, &self.directory, to)?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove_file(name)?;
        self.sync()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.directory)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        let options = options.append(true).create_new(true).mode(FILE_MODE);
        let file = self.directory.open_with(name, options)?.into_std();
        // Nobody else knows the file yet; where locks are not supported it is simply not protected.
        let _ = file.try_lock();
        Ok(Box::new(file))
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        let mut options = OpenOptions::new();
        let file = self.directory.open_with(name, options.read(true).write(true).create(true).mode(FILE_MODE))?;
        let file = file.into_std();
        match file.try_lock() {
            Ok(()) => Ok(Some(LockGuard(Box::new(file)))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A directory that is missing where none can be made: it holds nothing, and takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct MissingDirectory;

impl Directory for MissingDirectory {
    fn read(&self, _name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn replace(&self, _name: &str, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn persist(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create(&self, _name: &str) -> io::Result<Box<dyn AppendFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn try_lock(&self, _name: &str) -> io::Result<Option<LockGuard>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A directory in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDirectory {
    inner: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The bytes of each file, and how many had been written when they were.
    files: BTreeMap<String, (u64, Vec<u8>)>,
    locked: BTreeMap<String, std::sync::Weak<()>>,
    replaces: usize,
}

impl MemoryDirectory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many files were replaced so far.
    pub fn replaces(&self) -> usize {
        self.with(|memory| memory.replaces)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Directory for MemoryDirectory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.with(|memory| memory.files.get(name).map(|(_, bytes)| bytes.clone())))
    }

    fn read_at_most(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        self.with(|memory| match memory.files.get(name) {
            Some((_, bytes)) if bytes.len() > cap => Err(io::ErrorKind::FileTooLarge.into()),
            file => Ok(file.map(|(_, bytes)| bytes.clone())),
        })
    }

    fn read_start(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        let start = |bytes: &Vec<u8>| bytes.iter().take(cap).copied().collect();
        Ok(self.with(|memory| memory.files.get(name).map(|(_, bytes)| start(bytes))))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.with(|memory| {
            let (_, bytes) = memory.files.get(name).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let range = bytes.get(start..start.saturating_add(length)).ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(range.to_vec())
        })
    }

    fn look(&self, name: &str) -> io::Result<Option<FileLook>> {
        Ok(self.with(|memory| {
            memory.files.get(name).map(|(number, bytes)| FileLook {
                length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                modified: None,
                file: *number,
            })
        }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.with(|memory| {
            memory.replaces += 1;
            let number = u64::try_from(memory.replaces).unwrap_or(u64::MAX);
            memory.files.insert(name.to_owned(), (number, bytes.to_vec()));
        });
        Ok(())
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.with(|memory| memory.files.contains_key(name)).then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|memory| match memory.files.remove(from) {
            Some(bytes) => {
                memory.files.insert(to.to_owned(), bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.with(|memory| memory.files.remove(name));
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|memory| memory.files.keys().cloned().collect()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let held = Arc::new(());
        self.with(|memory| {
            if memory.files.contains_key(name) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            memory.files.insert(name.to_owned(), (0, Vec::new()));
            memory.locked.insert(name.to_owned(), Arc::downgrade(&held));
            Ok(())
        })?;
        Ok(Box::new(MemoryAppend { directory: self.clone(), name: name.to_owned(), _held: held }))
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        Ok(self.with(|memory| {
            if memory.locked.get(name).is_some_and(|held| held.strong_count() > 0) {
                return None;
            }
            let held = Arc::new(());
            memory.locked.insert(name.to_owned(), Arc::downgrade(&held));
            Some(LockGuard(Box::new(held)))
        }))
    }
}

/// A growing file of a [`MemoryDirectory`].
struct MemoryAppend {
    directory: MemoryDirectory,
    name: String,
    _held: Arc<()>,
}

impl AppendFile for MemoryAppend {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.directory.with(|memory| {
            // A file that was removed lives on for who has it open, and for nobody else.
            if let Some((_, content)) = memory.files.get_mut(&self.name) {
                content.extend_from_slice(bytes);
            }
        });
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.directory.with(|memory| {
            if let Some((_, content)) = memory.files.get_mut(&self.name) {
                content.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
        });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
