//! Journals whose writers are gone: what they acknowledged is taken over, and nothing of it is removed before it is durable
//! elsewhere.
//!
//! A writer holds the locks of its segments for as long as it lives; whoever can take all of them knows that it does not.
//! Only who holds the registry's own lock comes here.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::journal::change::Change;
use super::journal::format::{Header, HeaderFault};
use super::journal::scan::{Verdict, judge, scan};
use super::limits::SEGMENT_BYTES_MAX;
use super::names::{FileKind, FileNames};
use super::state::Known;
use crate::edge::disk::{self, Disk, DiskFile};

/// The journal of a writer that is gone.
pub(super) struct Orphan {
    /// Its writer.
    pub(super) writer: String,
    /// Its files, held so that nobody else takes them over.
    segments: Vec<(String, Box<dyn DiskFile>)>,
    /// What it says: for each name the last change.
    pub(super) changes: Vec<Arc<Known>>,
    /// Whether it says all that was acknowledged.
    pub(super) verdict: Verdict,
    /// Records that can not be understood.
    pub(super) unknown: usize,
    /// A version of the format that this program does not read.
    pub(super) version: Option<u32>,
}

/// Takes over the journals of all writers that are gone.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn take_over(disk: &dyn Disk, names: &FileNames, own: &str) -> io::Result<Vec<Orphan>> {
    let mut writers: BTreeMap<String, Vec<(u64, u64, String)>> = BTreeMap::new();
    for name in disk.names()? {
        if let Some(FileKind::Segment { writer, number, epoch }) = names.kind(&name)
            && writer != own
        {
            writers.entry(writer).or_default().push((number, epoch, name));
        }
    }
    let mut orphans = Vec::new();
    for (writer, mut segments) in writers {
        segments.sort();
        if let Some(orphan) = take_one(disk, writer, segments)? {
            orphans.push(orphan);
        }
    }
    Ok(orphans)
}

/// Takes over one journal; none if its writer lives, or locks are not supported, so that nobody can tell.
fn take_one(disk: &dyn Disk, writer: String, segments: Vec<(u64, u64, String)>) -> io::Result<Option<Orphan>> {
    let mut held = Vec::new();
    let mut contents = Vec::new();
    for (number, epoch, name) in segments {
        // One that is gone by now was removed by its writer, which lives or lived until a moment ago.
        let Some(file) = disk.open(&name)? else { return Ok(None) };
        match file.try_lock() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        }
        // Its writer may have removed it between the two; then the document holds what it said.
        let named = disk.look(&name)?.map(|look| look.file);
        if named != Some(file.look()?.file) {
            return Ok(None);
        }
        contents.push((
            number,
            epoch,
            disk::read_to_end_at(&*file, 0, usize::try_from(SEGMENT_BYTES_MAX * 2).unwrap_or(usize::MAX))?,
        ));
        held.push((name, file));
    }
    let version = contents.iter().find_map(|(_, _, bytes)| match Header::decode(bytes) {
        Err(HeaderFault::Version { version }) => Some(version),
        _ => None,
    });
    let scans: Vec<_> = contents.iter().map(|(number, epoch, bytes)| (*number, scan(*epoch, bytes))).collect();
    let verdict = judge(&scans);
    let mut latest: HashMap<&str, Change<'_>> = HashMap::new();
    let mut unknown = 0;
    let records = scans.iter().flat_map(|(_, scan)| &scan.records);
    for record in records {
        match Change::decode(record.payload) {
            Ok(Some(change)) => {
                // A writer's later change is above its earlier ones, and names are plain text.
                if let std::borrow::Cow::Borrowed(name) = change.name {
                    latest.insert(name, change);
                } else {
                    unknown += 1;
                }
            }
            Ok(None) => {}
            Err(_) => unknown += 1,
        }
    }
    let mut changes = Vec::with_capacity(latest.len());
    for change in latest.into_values() {
        match change.known() {
            Ok(known) => changes.push(Arc::new(known)),
            Err(_) => unknown += 1,
        }
    }
    Ok(Some(Orphan { writer, segments: held, changes, verdict, unknown, version }))
}

impl Orphan {
    /// Whether its files have to stay, as not all of them can be understood.
    pub(super) fn must_stay(&self) -> bool {
        self.unknown > 0 || self.version.is_some()
    }

    /// Moves it aside, as it is damaged. Returns the new name of its first file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn quarantine(&mut self, disk: &dyn Disk, names: &FileNames) -> io::Result<String> {
        let mut first = None;
        for (name, _) in &mut self.segments {
            let damaged = names.damaged(name);
            disk.rename(name, &damaged)?;
            first.get_or_insert_with(|| damaged.clone());
            *name = damaged;
        }
        disk::sync_names(disk)?;
        Ok(first.unwrap_or_default())
    }

    /// Its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|(name, _)| name.as_str())
    }

    /// Moves it aside, as its end is not whole: someone may want to look at it. What is good of it stands in a durable
    /// document.
    pub(super) fn keep(&self, disk: &dyn Disk, names: &FileNames) {
        for (name, _) in &self.segments {
            // One that stays is found again, and changes nothing.
            let _ = disk.rename(name, &names.kept(&names.damaged(name)));
        }
    }

    /// Removes it: what it says stands in a durable document.
    pub(super) fn remove(self, disk: &dyn Disk) {
        for (name, _) in &self.segments {
            // One that stays is found again, and changes nothing.
            let _ = disk.remove(name);
        }
    }
}
