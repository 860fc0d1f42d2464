//! Hints that something happened in a folder, from the kernel (inotify). Only hints: they may come late, twice or not at all,
//! and say nothing about content. Whoever wants to be sure looks by itself, now and then.
//!
//! A thread waits for the kernel; it ends with the [`FolderWatch`] that owns it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

/// Whether something that happened to the file of a name is worth a hint.
pub type Concerns = Box<dyn Fn(&str) -> bool + Send>;

/// A folder that is watched, for as long as this is held.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: Arc<OwnedFd>,
    watch: i32,
    touched: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// Room for some dozens of events at once.
const BUFFER_BYTES: usize = 4096;

impl FolderWatch {
    /// Watches an open folder, whatever its path is by now.
    ///
    /// # Errors
    /// Whatever the system says: there may be no inotify, or no more of it for this user.
    pub(super) fn of(folder: impl AsFd, concerns: Concerns) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        // inotify takes paths only. This one leads to the folder itself.
        let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
        let events = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&inotify, path, events)?;
        let touched = Arc::new(Notify::new());
        let (waits_on, tells) = (inotify.clone(), touched.clone());
        let waits = std::thread::Builder::new().name("folder watch".to_owned());
        let thread = waits.spawn(move || {
            if let Err(error) = wait(&waits_on, &concerns, &tells) {
                tracing::info!(%error, "a folder is watched no more; it is looked at now and then");
            }
        })?;
        Ok(Self { inotify, watch, touched, thread: Some(thread) })
    }

    /// Returns once something happened, be it before this was called. Of several hints one is enough.
    pub async fn touched(&self) {
        self.touched.notified().await;
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        // The thread is told that nothing is watched any more, and ends. If this fails, it has ended: the folder is gone.
        let _ = inotify::remove_watch(&self.inotify, self.watch);
        if let Some(thread) = self.thread.take() {
            // It does not panic; and nothing would be left to do if it had.
            let _ = thread.join();
        }
    }
}

/// Waits for events until nothing is watched any more.
fn wait(inotify: &OwnedFd, concerns: &Concerns, touched: &Notify) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if event.events().contains(ReadFlags::IGNORED) {
            return Ok(());
        }
        // An event without a name says that there were too many.
        let name = event.file_name().and_then(|name| name.to_str().ok());
        if name.is_none_or(concerns) {
            touched.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::{Disk, SystemDisk, write_new};

    #[tokio::test]
    async fn a_file_that_concerns_somebody_is_hinted_at_wherever_the_folder_goes_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watched");
        let disk = SystemDisk::open_folder(&path).unwrap();
        let (names, named) = std::sync::mpsc::channel();
        let concerns: Concerns = Box::new(move |name| {
            names.send(name.to_owned()).unwrap();
            name == "two"
        });
        let watch = disk.watch(concerns).unwrap().unwrap();
        write_new(&disk, "one", b"1", None).unwrap();
        assert_eq!(named.recv().unwrap(), "one");
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        disk.rename("one", "two").unwrap();
        watch.touched().await;
        drop(watch);
        let told: Vec<String> = named.iter().collect();
        assert!(told.iter().all(|name| name == "one" || name == "two"), "{told:?}");
    }

    #[test]
    fn a_folder_that_goes_takes_its_watch_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watched");
        let disk = SystemDisk::open_folder(&path).unwrap();
        let watch = disk.watch(Box::new(|_| true)).unwrap().unwrap();
        std::fs::remove_dir(&path).unwrap();
        drop(disk);
        drop(watch);
    }
}
