//! Putting a document in the place of another: the exact steps of reliability.md 3.2.
//!
//! The new document is whole and durable before it has the name; the name leads to the old one or the new one, never to
//! nothing; and what stood there is looked at after it was swapped out, so that a change of someone who takes no lock can
//! not vanish between reading and replacing. Of each document a base stays: the very file, by a second name, and as long as
//! it stands in its place, where it may be written over, a copy. Nothing here decides what is written, and nothing here is
//! removed that was not read.

use std::io;

use super::limits::MAX_REGISTRY_BYTES;
use super::names::FileNames;
use crate::edge::disk::{self, Disk, DiskLook, NamesDurable};

/// A document on its way.
pub(super) struct NewDocument<'a> {
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// The name that it keeps as a base.
    pub(super) base: String,
    /// The name that a copy of it has as long as it stands in its place.
    pub(super) copy: String,
    /// Whether it gets that copy now. Where files have no second names it does in any case.
    pub(super) copied: bool,
    /// The name that it has until it is whole.
    pub(super) temporary: String,
    /// What is expected to stand in its place; none if nothing is.
    pub(super) expected: Option<&'a [u8]>,
    /// The base of what is expected; none if that is not ours.
    pub(super) former: Option<&'a str>,
    /// What it is to look like.
    pub(super) like: Option<DiskLook>,
}

/// What came of it.
pub(super) enum Placed {
    /// It stands in its place, durably.
    Done(NamesDurable),
    /// Something else stood there than was expected, and nothing was replaced.
    Changed,
    /// It stands in its place, durably; something else stood there than was expected, and is under the temporary name now.
    Displaced,
}

/// Puts a document in the place of another. Returns what it looks like, too.
///
/// # Errors
/// Whatever the file system says: then the old document stands, or the new one, and it is unknown which of them will after
/// the machine's end.
pub(super) fn place(disk: &dyn Disk, names: &FileNames, new: &NewDocument<'_>) -> io::Result<(Placed, DiskLook)> {
    let look = disk::write_new(disk, &new.temporary, new.bytes, new.like)?;
    let based = keep_base(disk, new);
    let linked = match based {
        Ok(linked) => linked,
        Err(error) => {
            remove_quietly(disk, &new.temporary);
            return Err(error);
        }
    };
    // After an error the temporary file stays: it is whatever it is now, and who comes next looks at it.
    let placed = match exchange(disk, names, new)? {
        Step::Changed => {
            // It never had the name; a base of a document that never was would be taken for one that was.
            remove_quietly(disk, &new.base);
            remove_quietly(disk, &new.copy);
            remove_quietly(disk, &new.temporary);
            Placed::Changed
        }
        Step::Renamed => Placed::Done(disk::sync_names(disk)?),
        Step::Linked => {
            let durable = disk::sync_names(disk)?;
            remove_quietly(disk, &new.temporary);
            Placed::Done(durable)
        }
        Step::Exchanged => {
            let durable = disk::sync_names(disk)?;
            if new.expected.is_some_and(|expected| is_there(disk, &new.temporary, expected).unwrap_or(false)) {
                // One that stays where it is is found by who comes next, and changes nothing.
                let _ = match new.former {
                    Some(former) if !linked => disk.rename(&new.temporary, former),
                    Some(_) | None => disk.remove(&new.temporary),
                };
                Placed::Done(durable)
            } else {
                Placed::Displaced
            }
        }
    };
    Ok((placed, look))
}

/// Keeps the document as a base, by a second name that is as durable as its first, and by a copy that stays what it is when
/// someone writes over the document. Tells whether it has the second name.
fn keep_base(disk: &dyn Disk, new: &NewDocument<'_>) -> io::Result<bool> {
    let linked = match disk.link(&new.temporary, &new.base) {
        Ok(()) => true,
        // The same generation of the same entries: what a crash left of this very step.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
        Err(error) => return Err(error),
    };
    // Without a second name, the copy is all that is left when someone puts another document in its place.
    let copied = if linked && !new.copied {
        return Ok(true);
    } else if linked {
        disk::write_copy(disk, &new.copy, new.bytes, new.like)
    } else {
        disk::write_new(disk, &new.copy, new.bytes, new.like)
    };
    match copied {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            remove_quietly(disk, &new.base);
            Err(error)
        }
        _ => Ok(linked),
    }
}

enum Step {
    Linked,
    Renamed,
    Exchanged,
    Changed,
}

fn exchange(disk: &dyn Disk, names: &FileNames, new: &NewDocument<'_>) -> io::Result<Step> {
    if new.expected.is_none() {
        return match disk.link(&new.temporary, names.snapshot()) {
            Ok(()) => Ok(Step::Linked),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Step::Changed),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => checked_rename(disk, names, new),
            Err(error) => Err(error),
        };
    }
    match disk.exchange(&new.temporary, names.snapshot()) {
        Ok(()) => Ok(Step::Exchanged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Step::Changed),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => checked_rename(disk, names, new),
        Err(error) => Err(error),
    }
}

/// Where files can not be swapped: looks once more, and renames. Who takes no lock can be overwritten in between.
fn checked_rename(disk: &dyn Disk, names: &FileNames, new: &NewDocument<'_>) -> io::Result<Step> {
    if disk::read(disk, names.snapshot(), MAX_REGISTRY_BYTES)?.as_deref() != new.expected {
        return Ok(Step::Changed);
    }
    disk.rename(&new.temporary, names.snapshot())?;
    Ok(Step::Renamed)
}

/// Whether a file holds exactly these bytes.
fn is_there(disk: &dyn Disk, name: &str, expected: &[u8]) -> io::Result<bool> {
    let Some(file) = disk.open(name)? else { return Ok(false) };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(at as u64, &mut chunk) {
            Ok(0) => return Ok(at == expected.len()),
            Ok(read) => match expected.get(at..at + read) {
                Some(part) if part == &chunk[..read] => at += read,
                _ => return Ok(false),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How much of a file is compared at once.
const CHUNK_BYTES: usize = 128 << 10;

fn remove_quietly(disk: &dyn Disk, name: &str) {
    // What stays behind is found by who comes next.
    let _ = disk.remove(name);
}
