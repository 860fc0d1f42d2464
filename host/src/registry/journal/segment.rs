//! One segment of a journal that is being written.

use std::io;

use super::format::{HEADER_BYTES, Header};
use crate::edge::disk::{self, Disk, DiskFile};
use crate::model::BootMs;
use crate::registry::names::FileNames;

/// A segment. Its file is locked for as long as this value lives: by that others know that its writer does.
pub(in crate::registry) struct Segment {
    pub(in crate::registry) name: String,
    pub(in crate::registry) epoch: u64,
    pub(super) file: Box<dyn DiskFile>,
    /// When it was made.
    pub(super) made: BootMs,
    /// Where the next record goes.
    pub(super) end: u64,
}

/// What a new segment is to be.
#[derive(Clone, Debug)]
pub(in crate::registry) struct NewSegment {
    pub(in crate::registry) writer: String,
    pub(in crate::registry) number: u64,
    pub(in crate::registry) epoch: u64,
    pub(in crate::registry) generation: u64,
    /// A random number for the name that it has until it is whole.
    pub(in crate::registry) temporary: u64,
    /// When it is made.
    pub(in crate::registry) made: BootMs,
    /// How many bytes it has from the beginning.
    pub(in crate::registry) bytes: usize,
}

impl Segment {
    /// Makes a segment: whole, durable and locked before anyone sees it under its name.
    ///
    /// # Errors
    /// Whatever the file system says; nothing is left but perhaps a temporary file.
    pub(in crate::registry) fn create(disk: &dyn Disk, names: &FileNames, new: &NewSegment) -> io::Result<Self> {
        let temporary = names.temporary(new.temporary);
        let file = disk.create(&temporary)?;
        let name = names.segment(&new.writer, new.number, new.epoch);
        let made = (|| {
            // Nobody else knows the file yet.
            match file.try_lock() {
                // Then nobody can tell that its writer is gone; everyone reads it for ever.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Ok(true) => {}
                // Someone looks at it, to see whether it was left behind. Without the lock it would be taken over.
                Ok(false) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
            let mut bytes = vec![0; new.bytes.max(HEADER_BYTES)];
            let header = Header { epoch: new.epoch, generation: new.generation };
            bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
            disk::write_all_at(&*file, 0, &bytes)?;
            file.sync_all()?;
            disk.rename(&temporary, &name)?;
            disk::sync_names(disk)
        })();
        match made {
            Ok(_) => {
                let end = HEADER_BYTES as u64;
                Ok(Self { name, epoch: new.epoch, file, made: new.made, end })
            }
            Err(error) => {
                // Whichever of the two is there; the error that counts is the first.
                let _ = disk.remove(&temporary);
                let _ = disk.remove(&name);
                Err(error)
            }
        }
    }
}
