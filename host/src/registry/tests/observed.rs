//! A folder that tells a test what is done in it, before it is done.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::edge::disk::{DiskFile, DiskLook};

/// What is done.
pub(super) enum Done<'a> {
    /// A file of that name is opened.
    Open(&'a str),
    /// A file is given that second name.
    Link(&'a str),
    /// The names are listed.
    Names,
    /// Bytes are written: the first half of them is.
    Write,
}

type Observer = Box<dyn FnMut(Done<'_>) + Send>;

/// The folder. Clones share it.
#[derive(Clone)]
pub(super) struct Observed {
    inner: MemoryDisk,
    observer: Arc<Mutex<Option<Observer>>>,
}

struct ObservedFile {
    inner: Box<dyn DiskFile>,
    of: Observed,
}

impl Observed {
    pub(super) fn on(disk: &MemoryDisk) -> Self {
        Self { inner: disk.clone(), observer: Arc::default() }
    }

    /// Tells `observer` from now on, until it panics. What it does itself is not told.
    pub(super) fn tell(&self, observer: impl FnMut(Done<'_>) + Send + 'static) {
        *self.observer.lock().unwrap() = Some(Box::new(observer));
    }

    /// Panics at the next thing of a kind that is done.
    pub(super) fn panic_at(&self, kind: fn(&Done<'_>) -> bool) {
        self.tell(move |done| assert!(!kind(&done), "as told"));
    }

    /// Whether what it told has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.observer.lock().unwrap().is_none()
    }

    fn done(&self, done: Done<'_>) {
        let observer = self.observer.lock().unwrap().take();
        if let Some(mut observer) = observer {
            observer(done);
            self.observer.lock().unwrap().get_or_insert(observer);
        }
    }

    fn observed(&self, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(ObservedFile { inner, of: self.clone() })
    }
}

impl Disk for Observed {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        self.done(Done::Open(name));
        Ok(self.inner.open(name)?.map(|file| self.observed(file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.observed(self.inner.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.inner.exchange(one, other)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.done(Done::Link(to));
        self.inner.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.done(Done::Names);
        self.inner.names()
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        self.inner.look(name)
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        self.inner.look_at_folder()
    }
}

impl DiskFile for ObservedFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_at(offset, &bytes[..bytes.len() / 2])?;
        self.of.done(Done::Write);
        self.inner.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }

    fn look(&self) -> io::Result<DiskLook> {
        self.inner.look()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.inner.set_mode(mode)
    }
}
