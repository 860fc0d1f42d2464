//! The lock around reading, joining and replacing the document: one writer at a time, on this machine.
//!
//! Writers that cooperate lock a file that is never renamed; it is free as soon as its holder ends, however it ends. The
//! old tools make `servers.json.lock` and remove it; while we write, that name leads to our lock file, so that they wait,
//! and so that we know our own if a crash leaves it behind. What they left behind is taken over when it is too old to be
//! in use; a folder of that name, which is how others lock, is honoured as long and then left alone. Nothing is ever
//! waited for without end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::limits::{LEGACY_LOCK_STALE, LOCK_PAUSE};
use super::names::FileNames;
use crate::edge::disk::{Disk, DiskFile, DiskLook};
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
    /// An old tool holds its own, or something else has that name.
    #[error("{file}")]
    LegacyHeld {
        /// Its lock.
        file: LegacyLock,
    },
    /// The disk.
    #[error("the registry can not be locked: {0}; {advice}", advice = advice(.0))]
    Disk(#[from] io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        _ => "check that its folder and its .flock can be written to: `cortex-mcp registry doctor` tells more",
    }
}

/// What has the name of the lock of the old tools. Its display form is a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegacyLock {
    /// A file, as the old tools make it.
    #[error(
        "another program holds {0}; if none does any more, `cortex-mcp registry repair` removes it, and so does time: \
         after {seconds} seconds it counts as forgotten",
        seconds = LEGACY_LOCK_STALE.as_secs()
    )]
    File(String),
    /// A folder, as npm's proper-lockfile makes it.
    #[error(
        "another program holds the folder {0}, and renews it; end that program. Nothing here removes it: if nobody \
         renews it for {seconds} seconds, it is passed over",
        seconds = LEGACY_LOCK_STALE.as_secs()
    )]
    Folder(String),
    /// A symbolic link to what is not there, or not in this folder.
    #[error("{0} is a symbolic link that leads to no file of the folder, and so nobody's lock; remove it")]
    Link(String),
}

impl LegacyLock {
    fn of(disk: &dyn Disk, name: String) -> Self {
        match disk.open(&name) {
            Ok(None) => Self::Link(name),
            // Nor does one that leads out of the folder.
            Err(_) if matches!(look(disk, &name), Ok(None)) => Self::Link(name),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Self::Folder(name),
            _ => Self::File(name),
        }
    }
}

/// What a name of the folder leads to; none if that is nothing, or nothing in this folder.
fn look(disk: &dyn Disk, name: &str) -> io::Result<Option<DiskLook>> {
    match disk.look(name) {
        // The folder can be entered, as its lock is held: the name leads out of it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        other => other,
    }
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
        let mut has_vanished = false;
        loop {
            // Given back before each pause: another writer that waits for an old tool's lock is not told that we hold ours.
            let held_by_legacy = match try_file(&**disk, &name)? {
                Some(file) => match try_legacy(&**disk, names, file.look()?.file, &mut has_vanished, now)? {
                    Legacy::Taken(legacy) => return Ok(Self { disk: disk.clone(), legacy, _file: file }),
                    Legacy::Held => true,
                },
                None => false,
            };
            if !pauses.pause() {
                return Err(match held_by_legacy {
                    true => LockError::LegacyHeld { file: LegacyLock::of(&**disk, names.legacy_lock()) },
                    false => LockError::Held { file: name },
                });
            }
        }
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

/// How a try for the lock of the old tools ended.
enum Legacy {
    /// With the name that is to be removed; none if what has it is passed over.
    Taken(Option<String>),
    /// Another program holds it.
    Held,
}

/// Tries to take the lock of the old tools. `own` is the file of our lock, which is held.
fn try_legacy(
    disk: &dyn Disk,
    names: &FileNames,
    own: u64,
    has_vanished: &mut bool,
    now: &dyn Fn() -> WallMs,
) -> Result<Legacy, LockError> {
    let (name, legacy) = (names.lock(), names.legacy_lock());
    loop {
        match disk.link(&name, &legacy) {
            Ok(()) => return Ok(Legacy::Taken(Some(legacy))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Without links the name stands for itself, as it does for the old tools.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => match disk.create(&legacy) {
                Ok(_) => return Ok(Legacy::Taken(Some(legacy))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        match look(disk, &legacy)? {
            // Left behind by one of us: nobody else can be at work while we hold the lock.
            Some(look) if look.file == own => return Ok(Legacy::Taken(Some(legacy))),
            Some(look) if is_forgotten(look.modified_ns, now()) => match disk.remove(&legacy) {
                Ok(()) => tracing::warn!(file = legacy, "a lock file that nobody seems to use any more is taken over"),
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    tracing::warn!(file = legacy, "a lock folder that nobody seems to use any more is passed over");
                    return Ok(Legacy::Taken(None));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Legacy::Held),
                Err(error) => return Err(error.into()),
            },
            // It went between the two calls, or leads nowhere: the second time in a row it is waited for.
            None if !std::mem::replace(has_vanished, true) => {}
            None => return Ok(Legacy::Held),
            Some(_) => {
                *has_vanished = false;
                return Ok(Legacy::Held);
            }
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::edge::disk::{MemoryDisk, SystemDisk};

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

    #[test]
    fn a_writer_that_waits_for_the_lock_of_an_old_tool_holds_no_other() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        disk.create("servers.json.lock").unwrap();
        let has_tried = AtomicBool::new(false);
        let now = || {
            has_tried.store(true, Ordering::SeqCst);
            WallMs(0)
        };
        let names = FileNames::of("servers.json");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| WriterLock::acquire(&disk, &names, Duration::from_secs(10), &now).is_ok());
            while !has_tried.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let taken = loop {
                if let Some(taken) = try_file(&*disk, "servers.json.flock").unwrap() {
                    break taken;
                }
            };
            disk.remove("servers.json.lock").unwrap();
            drop(taken);
            assert!(waiting.join().unwrap(), "it was still waiting");
        });
    }

    /// A folder, and the time that it is now, for real.
    fn folder() -> (tempfile::TempDir, Arc<dyn Disk>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let disk = SystemDisk::open_existing(folder.path()).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (folder, Arc::new(disk), u64::try_from(now.as_millis()).unwrap())
    }

    #[test]
    fn a_link_that_leads_nowhere_is_waited_for_with_pauses_and_then_told() {
        for target in ["nowhere", "/nowhere"] {
            let (folder, disk, now) = folder();
            std::os::unix::fs::symlink(target, folder.path().join("servers.json.lock")).unwrap();
            let names = FileNames::of("servers.json");
            let later = || WallMs(now + 3_600_000);
            let error = WriterLock::acquire(&disk, &names, Duration::from_millis(30), &later).err().unwrap();
            let LockError::LegacyHeld { file: LegacyLock::Link(name) } = &error else { panic!("{error}") };
            assert!(name == "servers.json.lock" && error.to_string().contains("remove it"), "{error}");
            assert!(folder.path().join("servers.json.lock").is_symlink(), "it is left alone");
            std::fs::remove_file(folder.path().join("servers.json.lock")).unwrap();
            assert!(take(&disk, now).is_ok());
        }
    }

    #[test]
    fn a_folder_in_the_place_of_the_lock_is_honoured_until_its_age_and_never_removed() {
        let (folder, disk, now) = folder();
        let legacy = folder.path().join("servers.json.lock");
        std::fs::create_dir(&legacy).unwrap();
        let error = take(&disk, now).err().unwrap();
        assert!(matches!(&error, LockError::LegacyHeld { file: LegacyLock::Folder(_) }), "{error}");
        assert!(error.to_string().contains("end that program"), "{error}");
        drop(take(&disk, now + 60_000).unwrap());
        assert!(legacy.is_dir());
    }
}
