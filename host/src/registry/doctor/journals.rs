//! What is wrong with the journals of a registry.

use std::collections::BTreeMap;
use std::io;

use super::super::inspect::damaged_sequence;
use super::super::journal::change::Change;
use super::super::journal::format::{Header, HeaderFault};
use super::super::journal::scan::{Verdict, judge, scan};
use super::super::limits::SEGMENT_BYTES_MAX;
use super::super::names::FileKind;
use super::{Examining, Finding, REPAIR, is_locked};
use crate::edge::disk;

/// A segment: its number, its epoch, its file's name.
type Named = (u64, u64, String);

/// A writer's journal, as it was found.
struct Found {
    writer: String,
    first: String,
    /// Whether its writer lives; none if that can not be told.
    lives: Option<bool>,
    verdict: Verdict,
    records: usize,
    unknown: usize,
    damaged_header: bool,
    version: Option<u32>,
}

/// The command that gives up what is lost already.
const ACCEPT: &str = "run `cortex-mcp registry repair --yes`";

const DUMP: &str = "look at it with `cortex-mcp registry journal dump`";

impl Examining<'_> {
    /// Journals in use, orphaned, torn, damaged, or of a later version.
    pub(super) fn journals(&mut self) -> io::Result<()> {
        let mut writers: BTreeMap<String, Vec<Named>> = BTreeMap::new();
        for name in self.disk.names()? {
            if let Some(FileKind::Segment { writer, number, epoch }) = self.names.kind(&name) {
                writers.entry(writer).or_default().push((number, epoch, name));
            }
        }
        let mut any = false;
        for (writer, mut segments) in writers {
            segments.sort();
            if let Some(found) = self.journal(writer, &segments)? {
                any = true;
                self.judged(&found);
            }
        }
        for name in self.named(&FileKind::Damaged)? {
            any = true;
            let sequence = damaged_sequence(self.disk, &self.names, &name)?;
            let message = format!(
                "acknowledged changes of this journal are damaged, from change {sequence} on; while it is there, nothing \
                 is written"
            );
            let remedy = format!("{DUMP}, then accept the loss: {ACCEPT}, which keeps the file under another name");
            self.found(Finding::error("journal-damaged", message, remedy).mendable().of(&name));
        }
        if !any {
            self.found(Finding::ok("journals", "there are none"));
        }
        Ok(())
    }

    /// Reads one journal; none if it is gone by now.
    fn journal(&self, writer: String, segments: &[Named]) -> io::Result<Option<Found>> {
        let mut lives = Some(false);
        let mut contents = Vec::new();
        for (number, epoch, name) in segments {
            let Some(file) = self.disk.open(name)? else { continue };
            lives = match (is_locked(&*file)?, lives) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (None, _) | (_, None) => None,
                (Some(false), Some(false)) => Some(false),
            };
            let cap = usize::try_from(SEGMENT_BYTES_MAX * 2).unwrap_or(usize::MAX);
            contents.push((*number, *epoch, disk::read_to_end_at(&*file, 0, cap)?));
        }
        let Some((.., first)) = segments.first().filter(|_| !contents.is_empty()) else { return Ok(None) };
        let headers = || contents.iter().map(|(.., bytes)| Header::decode(bytes));
        let version = headers().find_map(|header| match header {
            Err(HeaderFault::Version { version }) => Some(version),
            _ => None,
        });
        let damaged_header = headers().any(|header| header == Err(HeaderFault::Damaged));
        let scans: Vec<_> = contents.iter().map(|(number, epoch, bytes)| (*number, scan(*epoch, bytes))).collect();
        let records = || scans.iter().flat_map(|(_, scan)| &scan.records);
        let unknown = records().filter(|record| Change::decode(record.payload).is_err()).count();
        let (verdict, records) = (judge(&scans), records().count());
        let first = first.clone();
        Ok(Some(Found { writer, first, lives, verdict, records, unknown, damaged_header, version }))
    }

    fn judged(&mut self, found: &Found) {
        let Found { writer, first, records, .. } = found;
        let lives = match found.lives {
            Some(true) => {
                Finding::ok("journals", format!("the journal of {writer} is in use and holds {records} changes"))
            }
            Some(false) => {
                let message = format!(
                    "the journal of {writer}, which has ended, holds {records} changes that the document may lack"
                );
                let remedy =
                    format!("nothing needs to be done: the next writer takes it over; to have it now, {REPAIR}");
                Finding::warning("journal-orphaned", message, remedy).mendable()
            }
            None => Finding::warning(
                "journals",
                format!("whether the writer {writer} lives can not be told, as the file system has no locks"),
                "move the registry to a local file system",
            ),
        };
        self.found(lives.of(first));
        match found.verdict {
            Verdict::Damaged { sequence } => {
                let message = format!("change {sequence} of {writer} was acknowledged and is damaged");
                let remedy = format!("{DUMP}, then accept the loss: {ACCEPT}, once its writer has ended");
                self.found(Finding::error("journal-damaged", message, remedy).mendable().of(first));
            }
            // The last batch of one that lives may be on its way.
            Verdict::Torn { sequence } if found.lives != Some(true) => {
                let message = format!(
                    "the journal of {writer} ends in a batch that is not whole, from change {sequence} on; most likely \
                     it was never acknowledged"
                );
                let remedy = "see whether the last changes of that program are there; nothing else is affected";
                self.found(Finding::warning("journal-torn", message, remedy).of(first));
            }
            Verdict::Torn { .. } | Verdict::Whole => {}
        }
        if let Some(version) = found.version {
            let message = format!(
                "the journal of {writer} has the format {version}, which a later version of this program wrote"
            );
            self.found(
                Finding::error("journal-version", message, "start that version once, which takes it up").of(first),
            );
        } else if found.unknown > 0 {
            let message =
                format!("{} changes in the journal of {writer} can not be understood; it is kept", found.unknown);
            self.found(Finding::warning("journal-version", message, DUMP).of(first));
        }
        if found.damaged_header {
            let message = format!("a header in the journal of {writer} is damaged; its changes are not");
            self.found(Finding::warning("journal-header", message, "check the disk").of(first));
        }
    }
}
