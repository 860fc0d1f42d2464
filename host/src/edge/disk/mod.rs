//! A folder on a disk, one system call at a time: what crash-safe storage is written against.
//!
//! Nothing here promises more than POSIX does. What was written is durable after `sync_data` of the file; that a name leads
//! to it is durable after `sync` of the folder; a call that fails may have done a part. Whoever stores things orders these
//! calls, and can be run against folders that crash, fail or reorder between any two of them. All names are within the one
//! folder that was opened.

mod memory;
pub(super) mod system;
mod watch;

use std::io;

pub use memory::MemoryDisk;
pub use system::SystemDisk;
pub use watch::{Concerns, FolderWatch};

/// Mode of every file that is made: what it holds may be secret.
pub const FILE_MODE: u32 = 0o600;

/// Mode of every directory that is made.
pub const DIRECTORY_MODE: u32 = 0o700;

/// A folder. Blocking: call it from a blocking thread, or before serving begins.
pub trait Disk: Send + Sync + 'static {
    /// Opens a regular file to read and, if that is permitted, to write; none if it is not there.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for what is no regular file, or whatever the file system says.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>>;

    /// Makes an empty file, mode [`FILE_MODE`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one, or whatever the file system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, over another if there is one.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Swaps two files that are both there, in one step.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the file system can not, or whatever it says.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken, [`io::ErrorKind::Unsupported`] if the file system can not, or
    /// whatever it says.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which names there are and what they lead to.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if the file system can not, or whatever it says.
    fn sync(&self) -> io::Result<()>;

    /// The names of all regular files, sorted.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// What a file looks like from outside; none if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn look(&self, name: &str) -> io::Result<Option<DiskLook>>;

    /// What the folder itself looks like. It changes when names come or go.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn look_at_folder(&self) -> io::Result<DiskLook>;

    /// Watches the folder, so that whoever looks at it now and then can look at once; none if that is not to be had.
    ///
    /// # Errors
    /// Whatever the system says.
    fn watch(&self, _concerns: Concerns) -> io::Result<Option<FolderWatch>> {
        Ok(None)
    }
}

/// A file that is open. It stays what it is when its name goes or leads elsewhere.
pub trait DiskFile: Send + Sync {
    /// Reads from `offset` on; 0 at the end. Fewer bytes than asked for are no sign of the end.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes at `offset`, and tells how much of it: see [`write_all_at`].
    ///
    /// # Errors
    /// Whatever the file system says; a part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Makes its content durable. After an error it is unknown what is: never call it again on the same file, the second
    /// call succeeds without having done anything (Rebello et al., ATC 2020).
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_data(&self) -> io::Result<()>;

    /// The same for content and metadata.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_all(&self) -> io::Result<()>;

    /// What it looks like from outside.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn look(&self) -> io::Result<DiskLook>;

    /// Takes its lock, unless another open file of this or another process holds it. It is held until this one is dropped,
    /// or the process ends, however it ends.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Changes its permissions.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Gives it to another user and group.
    ///
    /// # Errors
    /// Whatever the file system says: most may not.
    fn set_owner(&self, _owner: (u32, u32)) -> io::Result<()> {
        Ok(())
    }
}

/// What a file or folder looks like from outside. Another look means that something happened to it; the same look means the
/// same content unless it was looked at within the grain of its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLook {
    /// Which file it is: its inode.
    pub file: u64,
    /// How many bytes it has.
    pub length: u64,
    /// When its content was written, in nanoseconds since the Unix epoch.
    pub modified_ns: u64,
    /// Its permissions: the lower twelve bits of its mode.
    pub mode: u32,
    /// Whose it is: user and group.
    pub owner: (u32, u32),
}

/// Writes all bytes at `offset`: short writes are continued, interrupted ones repeated.
///
/// # Errors
/// Whatever the file system says; a part may be written.
pub fn write_all_at(file: &dyn DiskFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written.min(bytes.len())..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file from `offset` to its end, or until it has `cap` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it is longer than that, or whatever the file system says.
pub fn read_to_end_at(file: &dyn DiskFile, offset: u64, cap: usize) -> io::Result<Vec<u8>> {
    let expected = file.look()?.length.saturating_sub(offset);
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    if expected > cap {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // One byte more than is expected shows that it has grown meanwhile.
    let mut bytes = vec![0; expected + 1];
    let mut filled = 0;
    loop {
        match file.read_at(offset + filled as u64, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled == bytes.len() {
            if filled > cap {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            bytes.resize(filled.saturating_mul(2).min(cap.saturating_add(1)), 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the file of that name whole; none if it is not there.
///
/// # Errors
/// As [`Disk::open`] and [`read_to_end_at`].
pub fn read(disk: &dyn Disk, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
    disk.open(name)?.map(|file| read_to_end_at(&*file, 0, cap)).transpose()
}

/// Makes a file of these bytes and makes them durable; that its name is there is not, before [`Disk::sync`]. It looks like
/// `like`, if that is given and permitted. What was made is removed again if that fails. Returns what it looks like.
///
/// # Errors
/// Whatever the file system says.
pub fn write_new(disk: &dyn Disk, name: &str, bytes: &[u8], like: Option<DiskLook>) -> io::Result<DiskLook> {
    made(disk, name, bytes, like, |file| file.sync_all())
}

/// The same without making anything durable: for what can be done without.
///
/// # Errors
/// Whatever the file system says.
pub fn write_copy(disk: &dyn Disk, name: &str, bytes: &[u8], like: Option<DiskLook>) -> io::Result<DiskLook> {
    made(disk, name, bytes, like, |_| Ok(()))
}

fn made(
    disk: &dyn Disk,
    name: &str,
    bytes: &[u8],
    like: Option<DiskLook>,
    finish: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<DiskLook> {
    let file = disk.create(name)?;
    let written = (|| {
        if let Some(like) = like {
            let look = file.look()?;
            if look.owner != like.owner {
                // Only the superuser may; for all others the owner is the one who writes.
                let _ = file.set_owner(like.owner);
            }
            if look.mode != like.mode {
                file.set_mode(like.mode)?;
            }
        }
        write_all_at(&*file, 0, bytes)?;
        finish(&*file)?;
        file.look()
    })();
    if written.is_err() {
        // What is left of it is an orphaned temporary file; the error that counts is the first.
        let _ = disk.remove(name);
    }
    written
}

/// Makes durable which names there are. File systems that can not do that (some network file systems) are taken as they
/// are: the answer tells.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_names(disk: &dyn Disk) -> io::Result<NamesDurable> {
    match disk.sync() {
        Ok(()) => Ok(NamesDurable::Yes),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(NamesDurable::NotPromised)
        }
        Err(error) => Err(error),
    }
}

/// Whether names outlast the machine's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesDurable {
    /// They do.
    Yes,
    /// The file system does not say.
    NotPromised,
}
