//! A folder of the file system, opened once: no name leads out of it (`cap-std`).

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileExt, Metadata, MetadataExt, OpenOptions};
use cap_std::fs::{OpenOptionsExt, PermissionsExt};
use rustix::fs::RenameFlags;

use super::{Concerns, DIRECTORY_MODE, Disk, DiskFile, DiskLook, FILE_MODE, FolderWatch};

/// A folder of the file system.
#[derive(Debug)]
pub struct SystemDisk {
    directory: Dir,
}

impl SystemDisk {
    /// Opens the folder, and makes it and its parents first if they are missing (mode 0700).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open_folder(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: open_or_make(path)? })
    }

    /// Opens a folder that is there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open_existing(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: Dir::open_ambient_dir(path, ambient_authority())? })
    }
}

/// Opens a folder, and makes it and its parents first if they are missing.
pub(in crate::edge) fn open_or_make(path: &Path) -> io::Result<Dir> {
    if !path.is_dir() {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), DIRECTORY_MODE);
        builder.create(path)?;
    }
    Dir::open_ambient_dir(path, ambient_authority())
}

/// The names of all regular files in a folder, sorted.
pub(in crate::edge) fn names_in(directory: &Dir) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in directory.entries()? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// None for what is not there.
pub(in crate::edge) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names what the file system can not do as that.
fn unsupported(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    if [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error) {
        return io::ErrorKind::Unsupported.into();
    }
    error.into()
}

fn look_of(metadata: &Metadata) -> DiskLook {
    let nanoseconds = |seconds: i64, rest: i64| {
        let whole = i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        u64::try_from(whole).unwrap_or(0)
    };
    DiskLook {
        file: metadata.ino(),
        length: metadata.len(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
    }
}

impl Disk for SystemDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        let mut options = OpenOptions::new();
        // A pipe in the place of a file must not hold us up.
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        options.read(true).write(true).custom_flags(nonblocking);
        let opened = match self.directory.open_with(name, &options) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                self.directory.open_with(name, options.write(false))
            }
            other => other,
        };
        let Some(file) = if_there(opened)? else { return Ok(None) };
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Some(Box::new(SystemFile(file))))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        Ok(Box::new(SystemFile(self.directory.open_with(name, &options)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, &self.directory, to)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        // Names come from this crate and hold no separator; the folder is the one that was opened.
        rustix::fs::renameat_with(&self.directory, one, &self.directory, other, RenameFlags::EXCHANGE)
            .map_err(unsupported)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        use rustix::io::Errno;
        let linked = rustix::fs::linkat(&self.directory, from, &self.directory, to, rustix::fs::AtFlags::empty());
        linked.map_err(|error| match error {
            // What Linux says where hard links are not supported or not permitted.
            Errno::PERM | Errno::MLINK => io::ErrorKind::Unsupported.into(),
            other => unsupported(other),
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove_file(name)
    }

    fn sync(&self) -> io::Result<()> {
        // `Dir` is opened with O_PATH, on which fsync fails: open "." for reading instead.
        self.directory.open(".")?.sync_all()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.directory)
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        Ok(if_there(self.directory.metadata(name))?.map(|metadata| look_of(&metadata)))
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        Ok(look_of(&self.directory.dir_metadata()?))
    }

    fn watch(&self, concerns: Concerns) -> io::Result<Option<FolderWatch>> {
        FolderWatch::of(&self.directory, concerns).map(Some)
    }
}

/// An open file of the file system.
struct SystemFile(cap_std::fs::File);

impl DiskFile for SystemFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.0, into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn look(&self) -> io::Result<DiskLook> {
        Ok(look_of(&self.0.metadata()?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        use rustix::fs::{FlockOperation, flock};
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(unsupported(error)),
        }
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.0.set_permissions(cap_std::fs::Permissions::from_mode(mode))
    }

    fn set_owner(&self, owner: (u32, u32)) -> io::Result<()> {
        use rustix::fs::{Gid, Uid, fchown};
        fchown(&self.0, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1))).map_err(Into::into)
    }
}
