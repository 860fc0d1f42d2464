//! The lock around reading, joining and replacing the document: one writer at a time, on this machine.
//!
//! Writers that cooperate lock a file that is never renamed; it is free as soon as its holder ends, however it ends. The
//! old tools make `servers.json.lock` and remove it; while we write, that name leads to our lock file, so that they wait,
//! and so that we know our own if a crash leaves it behind. What they left behind is taken over when it is too old to be
//! in use. Nothing is ever waited for without end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::limits::{LEGACY_LOCK_STALE, LOCK_PAUSE};
use super::names::FileNames;
use crate::edge::disk::{Disk, DiskFile};
use crate::model::WallMs;

/// Held for as long as it lives.
pub(super) struct WriterLock {
    disk: Arc<dyn Disk>,
    legacy: Option<String>,
    _file: Box<dyn DiskFile>,
}

/// Why the lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another writer holds it.
    #[error("another program is writing the registry and does not end; find it by its open file {file}, and end it")]
    Held {
        /// The lock file.
        file: String,
    },
    /// An old tool holds its own.
    #[error(
        "another program holds {file}; if none does any more, `cortex-mcp registry repair` removes it, and so does time: \
         after {} seconds it counts as forgotten",
        LEGACY_LOCK_STALE.as_secs()
    )]
    LegacyHeld {
        /// Its lock file.
        file: String,
    },
    /// The disk.
    #[error("the registry can not be locked: {0}; check that its folder can be written to")]
    Disk(#[from] io::Error),
}

impl WriterLock {
    /// Takes the lock, waiting at most about `patience`. `now` tells the wall clock.
    ///
    /// # Errors
    /// [`LockError`].
    pub(super) fn acquire(
        disk: &Arc<dyn Disk>,
        names: &FileNames,
        patience: Duration,
        now: &dyn Fn() -> WallMs,
    ) -> Result<Self, LockError> {
        let mut pauses = Pauses::new(patience);
        let name = names.lock();
        let file = loop {
            if let Some(file) = try_file(&**disk, &name)? {
                break file;
            }
            if !pauses.pause() {
                return Err(LockError::Held { file: name });
            }
        };
        let own = file.look()?.file;
        let legacy = names.legacy_lock();
        loop {
            match disk.link(&name, &legacy) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Without links the name stands for itself, as it does for the old tools.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => match disk.create(&legacy) {
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
            let Some(look) = disk.look(&legacy)? else { continue };
            // Left behind by one of us: nobody else can be at work while we hold the lock.
            if look.file == own {
                break;
            }
            if is_forgotten(look.modified_ns, now()) {
                tracing::warn!(file = legacy, "a lock file that nobody seems to use any more is taken over");
                disk.remove(&legacy)?;
            } else if !pauses.pause() {
                return Err(LockError::LegacyHeld { file: legacy });
            }
        }
        Ok(Self { disk: disk.clone(), legacy: Some(legacy), _file: file })
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        if let Some(legacy) = self.legacy.take() {
            // One that stays behind is known as ours by who comes next.
            let _ = self.disk.remove(&legacy);
        }
    }
}

/// Whether a lock file of the old tools is too old to be in use.
pub(super) fn is_forgotten(modified_ns: u64, now: WallMs) -> bool {
    let age = Duration::from_millis(now.0).saturating_sub(Duration::from_nanos(modified_ns));
    age >= LEGACY_LOCK_STALE
}

/// Takes the lock of the file that has the name; none if it is held, or has just lost its name.
fn try_file(disk: &dyn Disk, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
    let file = match disk.open(name)? {
        Some(file) => file,
        None => match disk.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        },
    };
    if !file.try_lock()? {
        return Ok(None);
    }
    // Someone may have removed the file between the two.
    let current = disk.look(name)?.map(|look| look.file);
    Ok((current == Some(file.look()?.file)).then_some(file))
}

/// Pauses that grow, for a bounded time in all.
struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    fn new(patience: Duration) -> Self {
        Self { left: patience, next: LOCK_PAUSE.0 }
    }

    /// Pauses once; false if the patience is used up.
    fn pause(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let pause = self.next.min(self.left);
        // Real time: what is waited for is another process.
        std::thread::sleep(pause);
        self.left -= pause;
        self.next = (self.next * 2).min(LOCK_PAUSE.1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::MemoryDisk;

    fn take(disk: &Arc<dyn Disk>, now: u64) -> Result<WriterLock, LockError> {
        WriterLock::acquire(disk, &FileNames::of("servers.json"), Duration::ZERO, &|| WallMs(now))
    }

    #[test]
    fn one_writer_at_a_time_holds_both_locks() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let held = take(&disk, 0).unwrap();
        assert!(disk.look("servers.json.lock").unwrap().is_some(), "the old tools wait too");
        assert!(matches!(take(&disk, 0), Err(LockError::Held { .. })));
        drop(held);
        assert!(disk.look("servers.json.lock").unwrap().is_none());
        assert!(take(&disk, 0).is_ok());
    }

    #[test]
    fn a_lock_file_of_an_old_tool_is_honoured_until_it_is_too_old_to_be_in_use() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        disk.create("servers.json.lock").unwrap();
        let error = take(&disk, 9_000).err().unwrap();
        assert!(matches!(error, LockError::LegacyHeld { .. }) && error.to_string().contains("registry repair"));
        assert!(disk.look("servers.json.lock").unwrap().is_some());
        assert!(take(&disk, 60_000).is_ok());
    }

    #[test]
    fn what_a_crash_left_of_our_own_lock_is_taken_over_at_once() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        drop(take(&disk, 0).unwrap());
        disk.link("servers.json.flock", "servers.json.lock").unwrap();
        assert!(take(&disk, 0).is_ok());
    }
}
