//! Journals for people: what each record says, and whether the journal is whole. Read only; values are not shown unless they
//! are asked for.

use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use super::journal::change::Change;
use super::journal::format::{Header, HeaderFault};
use super::journal::scan::{Verdict, judge, scan};
use super::limits::SEGMENT_BYTES_MAX;
use super::names::{FileKind, FileNames};
use crate::edge::disk::{self, Disk};

/// A segment of a journal, for people.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// The file.
    pub file: String,
    /// Whose it is.
    pub writer: String,
    /// Which of the writer's segments.
    pub number: u64,
    /// Whether its writer lives; none if that can not be told.
    pub in_use: Option<bool>,
    /// What is wrong with it, if anything is.
    pub problem: Option<String>,
    /// Its records, in order.
    pub records: Vec<RecordReport>,
}

/// A record of a journal, for people.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordReport {
    /// Its number.
    pub sequence: u64,
    /// Up to where everything was durable when it was written.
    pub durable_upto: u64,
    /// The name that it is about; none for the end of a journal, and for what can not be understood.
    pub name: Option<String>,
    /// When the change was made, by the registry's own account, in milliseconds since the Unix epoch.
    pub wall_ms: Option<u64>,
    /// Whether it removed the entry.
    pub removes: bool,
    /// What it put there. It may hold secrets.
    pub entry: Option<Box<RawValue>>,
}

impl std::fmt::Debug for RecordReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RecordReport")
            .field("sequence", &self.sequence)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reads all journals of a registry, damaged ones too.
///
/// # Errors
/// Whatever the file system says.
pub fn journals(disk: &dyn Disk, file: &str) -> io::Result<Vec<SegmentReport>> {
    let names = FileNames::of(file);
    let mut reports = Vec::new();
    for name in disk.names()? {
        let Some((writer, number, epoch)) = identity(&names, &name) else { continue };
        let Some(file) = disk.open(&name)? else { continue };
        let bytes = disk::read_to_end_at(&*file, 0, usize::try_from(SEGMENT_BYTES_MAX * 2).unwrap_or(usize::MAX))?;
        let scan = scan(epoch, &bytes);
        let records = scan.records.iter().map(report).collect();
        let problem = match (Header::decode(&bytes), judge(&[(number, scan)])) {
            (_, Verdict::Damaged { sequence }) => Some(format!("change {sequence} was acknowledged and is damaged")),
            (_, Verdict::Torn { sequence }) => Some(format!(
                "it ends in a batch that is not whole, from change {sequence} on; most likely it was never acknowledged"
            )),
            (Err(HeaderFault::Damaged), _) => Some("its header is damaged; its records are not".to_owned()),
            (Err(HeaderFault::Version { version }), _) => Some(format!("it has the format {version}")),
            (Ok(_), Verdict::Whole) => None,
        };
        // A lock that is taken here is given back when the file is closed, at the end of this round.
        let in_use = file.try_lock().ok().map(|free| !free);
        reports.push(SegmentReport { file: name, writer, number, in_use, problem, records });
    }
    Ok(reports)
}

/// The first change that is damaged in a journal that was moved aside; 0 if none is any more.
pub(super) fn damaged_sequence(disk: &dyn Disk, names: &FileNames, file: &str) -> io::Result<u64> {
    let Some((writer, ..)) = identity(names, file) else { return Ok(0) };
    let mut segments = Vec::new();
    for name in disk.names()? {
        if names.kind(&name) == Some(FileKind::Damaged)
            && let Some((own, number, epoch)) = identity(names, &name)
            && own == writer
        {
            let cap = usize::try_from(SEGMENT_BYTES_MAX * 2).unwrap_or(usize::MAX);
            segments.extend(disk::read(disk, &name, cap)?.map(|bytes| (number, epoch, bytes)));
        }
    }
    segments.sort();
    let scans: Vec<_> = segments.iter().map(|(number, epoch, bytes)| (*number, scan(*epoch, bytes))).collect();
    Ok(match judge(&scans) {
        Verdict::Damaged { sequence } => sequence,
        Verdict::Whole | Verdict::Torn { .. } => 0,
    })
}

/// The writer, number and epoch of a segment, whether it was moved aside or not.
fn identity(names: &FileNames, name: &str) -> Option<(String, u64, u64)> {
    let original = match names.kind(name)? {
        FileKind::Segment { .. } => name.to_owned(),
        FileKind::Damaged => names.segment_of_damaged(name)?,
        _ => return None,
    };
    match names.kind(&original)? {
        FileKind::Segment { writer, number, epoch } => Some((writer, number, epoch)),
        _ => None,
    }
}

fn report(record: &super::journal::format::Record<'_>) -> RecordReport {
    let change = Change::decode(record.payload).ok().flatten();
    RecordReport {
        sequence: record.sequence,
        durable_upto: record.durable_upto,
        name: change.as_ref().map(|change| change.name.clone().into_owned()),
        wall_ms: change.as_ref().map(|change| change.stamp().wall_ms),
        removes: change.as_ref().is_some_and(Change::removes),
        entry: change.as_ref().and_then(Change::entry).map(ToOwned::to_owned),
    }
}
