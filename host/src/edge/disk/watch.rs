//! Hints that something happened in a folder, from the kernel (inotify). Only hints: they may come late, twice or not at all,
//! and say nothing about content. Whoever wants to be sure looks by itself, now and then.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// A folder that is watched.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: OwnedFd,
}

/// What a hint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The file of that name was written, came or went.
    File(String),
    /// Something happened, and it is not known what: too much at once.
    Anything,
}

/// Room for some dozens of hints at once.
const BUFFER_BYTES: usize = 4096;

impl FolderWatch {
    /// Watches an open folder, whatever its path is by now.
    ///
    /// # Errors
    /// Whatever the system says: there may be no inotify, or no more of it for this user.
    pub(super) fn of(folder: impl AsFd) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // inotify takes paths only. This one leads to the folder itself.
        let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
        let events = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, path, events)?;
        Ok(Self { inotify })
    }

    /// Hints as they come. To be called within a runtime that does input and output.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn hints(self) -> io::Result<Hints> {
        Ok(Hints { inotify: AsyncFd::register(self.inotify)? })
    }
}

/// The hints of a folder.
#[derive(Debug)]
pub struct Hints {
    inotify: AsyncFd<OwnedFd>,
}

impl Hints {
    /// The next hints, once there are some. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    /// Whatever the system says; there will be no more hints then.
    pub async fn next(&mut self) -> io::Result<Vec<Hint>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| read(inotify.get_ref())) {
                Ok(hints) => return hints,
                // Somebody was told so too early.
                Err(_) => continue,
            }
        }
    }
}

fn read(inotify: &OwnedFd) -> io::Result<Vec<Hint>> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut hints = Vec::new();
    loop {
        let hint = match reader.next() {
            Ok(event) => hint(&event)?,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if !hints.contains(&hint) {
            hints.push(hint);
        }
        // What does not fit stays with the kernel, and is told next.
        if reader.is_buffer_empty() {
            return Ok(hints);
        }
    }
}

fn hint(event: &inotify::Event<'_>) -> io::Result<Hint> {
    if event.events().contains(ReadFlags::IGNORED) {
        // The folder is gone.
        return Err(io::ErrorKind::NotFound.into());
    }
    let name = event.file_name().and_then(|name| name.to_str().ok());
    Ok(name.map_or(Hint::Anything, |name| Hint::File(name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::{Disk, SystemDisk, write_new};

    #[tokio::test]
    async fn a_file_that_comes_is_hinted_at_by_its_name_and_a_folder_that_goes_ends_the_hints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watched");
        let disk = SystemDisk::open_folder(&path).unwrap();
        let mut hints = disk.watch().unwrap().unwrap().hints().unwrap();
        write_new(&disk, "one", b"1", None).unwrap();
        assert_eq!(hints.next().await.unwrap(), [Hint::File("one".to_owned())]);
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        disk.rename("one", "two").unwrap();
        let mut told = Vec::new();
        while told.last() != Some(&Hint::File("two".to_owned())) {
            told.extend(hints.next().await.unwrap());
        }
        std::fs::remove_dir_all(folder.path().join("moved")).unwrap();
        while hints.next().await.is_ok() {}
    }
}
