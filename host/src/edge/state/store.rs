//! The writing side: appends batches, knows where every record is, and says when to compact.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::compaction::{self, Compacted, Compaction};
use super::frame::{self, FrameError, Kind};
use super::limits::{APPEND_FAILURES_MAX, DEAD_BYTES_MAX, LOGS_MAX};
use super::read::{self, Entry, Location, log_name};
use super::record::{Change, StateRecord};
use super::{SavedState, own_file};
use crate::edge::files::{AppendFile, Directory};
use crate::model::Digest;

/// Writes the records of a directory. Only the process that holds the directory's lock may have one. Blocking.
pub struct StateStore {
    directory: Arc<dyn Directory>,
    /// The names that have files of their own.
    replaced: &'static [&'static str],
    index: BTreeMap<String, Entry>,
    /// Bytes of the frames that the index names.
    live_bytes: u64,
    /// Names with frames that were appended and never acknowledged. A log may still hold them after a failed sync or
    /// truncation, so that a removal must be written although the index lacks the name. The caller tries these changes
    /// again, so there are about as many as changes that wait.
    unacknowledged: BTreeSet<String>,
    /// The logs that may be there, also those of which nothing was acknowledged.
    logs: BTreeMap<u64, LogFacts>,
    next_generation: u64,
    /// The log that is appended to. A store never appends to a log that it did not create: what an earlier process left at
    /// its end is unknown.
    current: Option<CurrentLog>,
    /// The log that a compaction copies to.
    compacting: Option<u64>,
    /// After a failed compaction, how many bytes there must be before the next one.
    compact_above: u64,
}

#[derive(Clone, Copy, Default)]
struct LogFacts {
    length: u64,
    is_damaged: bool,
    /// Whether what was read of it is known to be durable: an earlier process may have ended before its sync.
    is_durable: bool,
}

impl LogFacts {
    /// Of a log that this store created: it syncs what it appends.
    const OWN: Self = Self { length: 0, is_damaged: false, is_durable: true };
}

struct CurrentLog {
    generation: u64,
    file: Box<dyn AppendFile>,
    /// Whether nothing of it was synced yet. Its name is made durable together with its first frames.
    is_new: bool,
    length: u64,
}

/// Why a change was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It never can be: what was given is wrong.
    #[error("{0}; the record is dropped")]
    Frame(#[from] FrameError),
    /// The rendered body is not the one that was announced.
    #[error("the body does not have the digest that was given for it; the record is dropped")]
    Digest,
    /// The file system refused. Another attempt may succeed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a batch cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that were written to.
    pub files: u64,
    /// Frames that were appended, or that files of their own consist of.
    pub frames: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Bytes of bodies that were rendered.
    pub rendered_bytes: u64,
    /// Records that were written or removed.
    pub records: u64,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// For each change whether it is durable.
    pub results: Vec<(String, Result<(), WriteError>)>,
    /// What that cost.
    pub written: Written,
}

/// What the frames of one change are. Their bytes are not kept: a batch may have all that there is.
struct Staged {
    length: usize,
    /// The body that the header refers to, and the length of its frame, which is the first; 0 if it is in the log already.
    body: Option<(Digest, usize)>,
    is_removal: bool,
}

impl StateStore {
    /// Reads a directory and takes over its writing. Damaged files of single records are quarantined at once, damaged logs
    /// when they are compacted, which is due then.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn open(directory: Arc<dyn Directory>, replaced: &'static [&'static str]) -> io::Result<(Self, SavedState)> {
        let logs = read::read_logs(&*directory)?;
        let saved = read::read_rest(&*directory, replaced, logs.records, &logs.damaged)?;
        let mut store = Self {
            directory,
            replaced,
            live_bytes: logs.index.values().map(size).sum(),
            index: logs.index,
            unacknowledged: BTreeSet::new(),
            logs: logs
                .lengths
                .iter()
                .map(|(log, length)| (*log, LogFacts { length: *length, ..<_>::default() }))
                .collect(),
            next_generation: logs.lengths.last_key_value().map_or(1, |(last, _)| last.saturating_add(1)),
            current: None,
            compacting: None,
            compact_above: 0,
        };
        for (generation, _) in &logs.damaged {
            store.mark_damaged(*generation);
        }
        for damaged in &saved.damaged {
            if replaced.iter().any(|name| own_file(name) == damaged.file) {
                compaction::quarantine(&*store.directory, &damaged.file)?;
            }
        }
        Ok((store, saved))
    }

    /// Treats a record as damaged, although it was read: its content is of no use.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn reject(&mut self, name: &str) -> io::Result<()> {
        if self.replaced.contains(&name) {
            return compaction::quarantine(&*self.directory, &own_file(name));
        }
        if let Some(entry) = self.take_entry(name) {
            self.mark_damaged(entry.header.generation);
        }
        Ok(())
    }

    fn mark_damaged(&mut self, generation: u64) {
        if let Some(log) = self.logs.get_mut(&generation) {
            log.is_damaged = true;
        }
    }

    /// Writes changes: those of files of their own first, the others in one batch. A name may occur once.
    pub fn commit(&mut self, changes: Vec<(String, Change)>) -> Committed {
        let mut committed = Committed::default();
        let (own, listed): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(name, _)| self.replaced.contains(&name.as_str()));
        for (name, change) in own {
            let result = self.replace(&name, &change, &mut committed.written);
            committed.results.push((name, result));
        }
        if !listed.is_empty() {
            self.append(listed, &mut committed);
        }
        committed
    }

    fn replace(&self, name: &str, change: &Change, written: &mut Written) -> Result<(), WriteError> {
        match change {
            Change::Record(record) => {
                let file = read::encode(name, record)?;
                self.directory.replace(&own_file(name), &file)?;
                written.frames += 1 + u64::from(record.body.digest().is_some());
                written.bytes += file.len() as u64;
            }
            Change::Removal => match self.directory.remove(&own_file(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            },
        }
        written.files += 1;
        written.records += 1;
        Ok(())
    }

    fn append(&mut self, changes: Vec<(String, Change)>, committed: &mut Committed) {
        // Taken out: if this is cut off in the middle, the next batch begins another log.
        let mut log = match self.current.take().map_or_else(|| self.begin_log(), Ok) {
            Ok(log) => log,
            Err(error) => {
                committed.results.extend(changes.into_iter().map(|(name, _)| (name, Err(again(&error).into()))));
                return;
            }
        };
        let begin = log.length;
        let mut staged = Vec::new();
        let mut failed: Option<io::Error> = None;
        let mut failures = 0;
        let mut is_usable = true;
        for (name, change) in changes {
            if let Some(error) = failed.as_ref().filter(|_| !is_usable || failures == APPEND_FAILURES_MAX) {
                committed.results.push((name, Err(again(error).into())));
                continue;
            }
            let (frames, change) = match self.frames(&name, &change, &mut committed.written) {
                Ok(Some(frames)) => frames,
                other => {
                    committed.results.push((name, other.map(drop)));
                    continue;
                }
            };
            self.unacknowledged.insert(name.clone());
            match log.file.append(&frames) {
                Ok(()) => {
                    staged.push((name, change, log.length));
                    log.length += frames.len() as u64;
                }
                Err(error) => {
                    is_usable = log.file.truncate(log.length).is_ok();
                    failures += 1;
                    committed.results.push((name, Err(again(&error).into())));
                    failed = Some(error);
                }
            }
        }
        if !staged.is_empty() {
            is_usable &= self.sync_staged(&mut log, begin, staged, committed);
        }
        if is_usable {
            self.current = Some(log);
        } else if log.is_new {
            self.discard(log.generation);
        }
    }

    /// Removes a log of which nothing counts. If that fails, the next compaction does it: what is in it may be read after a
    /// restart until then, and must not outlive what is written later.
    fn discard(&mut self, generation: u64) {
        match compaction::missing_is_fine(self.directory.remove(&log_name(generation))) {
            Ok(()) => drop(self.logs.remove(&generation)),
            Err(_) => drop(self.logs.insert(generation, LogFacts::OWN)),
        }
    }

    /// Makes durable what was appended. Returns whether the log can be appended to.
    fn sync_staged(
        &mut self,
        log: &mut CurrentLog,
        begin: u64,
        staged: Vec<(String, Staged, u64)>,
        committed: &mut Committed,
    ) -> bool {
        let synced = match log.is_new {
            true => self.directory.persist(&log_name(log.generation)),
            false => log.file.sync(),
        };
        if let Err(error) = synced {
            // After a failed sync it is unknown what is durable, and another one of the same file may succeed without
            // having done anything: https://lwn.net/Articles/752063/. All of it is written again, to another log, and cut off
            // here if that is possible, so that the next process takes none of it for durable.
            let _ = log.file.truncate(begin);
            committed.results.extend(staged.into_iter().map(|(name, ..)| (name, Err(again(&error).into()))));
            return false;
        }
        log.is_new = false;
        self.logs.insert(log.generation, LogFacts { length: log.length, ..LogFacts::OWN });
        committed.written.files += 1;
        committed.written.bytes += log.length - begin;
        for (name, change, offset) in staged {
            committed.written.records += 1;
            committed.written.frames += 1 + u64::from(change.body.is_some_and(|(_, length)| length > 0));
            self.place(&name, &change, Location { generation: log.generation, offset, length: change.length });
            self.unacknowledged.remove(&name);
            committed.results.push((name, Ok(())));
        }
        true
    }

    /// Notes where a change is. `at` covers all of its frames, of which the body's is the first.
    fn place(&mut self, name: &str, change: &Staged, at: Location) {
        if change.is_removal {
            self.take_entry(name);
            return;
        }
        let body_length = change.body.map_or(0, |(_, length)| length);
        let header = Location { offset: at.offset + body_length as u64, length: at.length - body_length, ..at };
        let body = change.body.map(|(digest, length)| match self.index.get(name).and_then(|entry| entry.body) {
            // It was there before.
            Some(before) if length == 0 => before,
            _ => (digest, Location { length, ..at }),
        });
        let entry = Entry { header, body };
        self.take_entry(name);
        self.live_bytes += size(&entry);
        self.index.insert(name.to_owned(), entry);
    }

    fn take_entry(&mut self, name: &str) -> Option<Entry> {
        let entry = self.index.remove(name)?;
        self.live_bytes -= size(&entry);
        Some(entry)
    }

    /// The frames of a change; none if there is nothing to write.
    fn frames(
        &self,
        name: &str,
        change: &Change,
        written: &mut Written,
    ) -> Result<Option<(Vec<u8>, Staged)>, WriteError> {
        let mut frames = Vec::new();
        let known = self.index.get(name);
        let Change::Record(StateRecord { header, body }) = change else {
            if known.is_none() && !self.unacknowledged.contains(name) {
                return Ok(None);
            }
            frame::write(&mut frames, name, Kind::Removal, &[], Digest::of(&[]))?;
            let staged = Staged { length: frames.len(), body: None, is_removal: true };
            return Ok(Some((frames, staged)));
        };
        let digest = body.digest();
        let mut body_length = 0;
        if let Some(digest) = digest
            && known.and_then(|entry| entry.body).is_none_or(|(before, _)| before != digest)
        {
            let bytes = body.bytes();
            written.rendered_bytes += bytes.len() as u64;
            if Digest::of(&bytes) != digest {
                return Err(WriteError::Digest);
            }
            frame::write(&mut frames, name, Kind::Body, &bytes, digest)?;
            body_length = frames.len();
        }
        let header = header.as_bytes();
        frame::write(&mut frames, name, Kind::Header(digest), header, Digest::of(header))?;
        let body = digest.map(|digest| (digest, body_length));
        let staged = Staged { length: frames.len(), body, is_removal: false };
        Ok(Some((frames, staged)))
    }

    fn begin_log(&mut self) -> io::Result<CurrentLog> {
        self.make_durable();
        let generation = self.next_generation;
        // Used up even if this fails: a file of that name may be there that is none of this store's.
        self.next_generation = generation.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let file = self.directory.create(&log_name(generation))?;
        // From now on compactions remove it, also if nothing of it is ever acknowledged.
        self.logs.insert(generation, LogFacts::OWN);
        Ok(CurrentLog { generation, file, is_new: true, length: 0 })
    }

    /// Makes durable what earlier processes left. Headers that are appended from now on refer to bodies there.
    fn make_durable(&mut self) {
        for (generation, log) in &mut self.logs {
            if log.is_durable {
                continue;
            }
            log.is_durable = true;
            if let Err(error) = self.directory.persist(&log_name(*generation)) {
                tracing::warn!(log = log_name(*generation), %error, "saved state may not be durable; it is written again as it changes");
                for entry in self.index.values_mut() {
                    entry.body = entry.body.filter(|(_, at)| at.generation != *generation);
                }
            }
        }
        self.live_bytes = self.index.values().map(size).sum();
    }

    /// Whether a compaction is due: what no record needs is more than what they need and some more, there are many logs,
    /// or one is damaged. What compactions write over time is then at most about as much as what changes.
    pub fn is_compaction_due(&self) -> bool {
        let total: u64 = self.logs.values().map(|log| log.length).sum();
        let live = self.live_bytes;
        let is_damaged = self.logs.values().any(|log| log.is_damaged);
        let is_wasteful = total.saturating_sub(live) > live + DEAD_BYTES_MAX;
        self.compacting.is_none()
            && total >= self.compact_above
            && (is_damaged || is_wasteful || self.logs.len() > LOGS_MAX)
    }

    fn live(&self) -> impl Iterator<Item = Location> {
        self.index.values().flat_map(|entry| [Some(entry.header), entry.body.map(|(_, at)| at)]).flatten()
    }

    /// Begins a compaction, if one is due. Batches may be committed while it runs: they go to a later log.
    pub fn begin_compaction(&mut self) -> Option<Compaction> {
        if !self.is_compaction_due() {
            return None;
        }
        let target = self.next_generation;
        self.next_generation = target.checked_add(1)?;
        self.compacting = Some(target);
        if let Some(log) = self.current.take().filter(|log| log.is_new) {
            self.discard(log.generation);
        }
        let mut live: Vec<_> = self.live().collect();
        // A body stays before the headers that refer to it.
        live.sort_unstable();
        let logs = self.logs.iter().map(|(generation, log)| (*generation, log.is_damaged)).collect();
        Some(Compaction { directory: self.directory.clone(), target, live, logs })
    }

    /// Takes over what a compaction did.
    pub fn end_compaction(&mut self, compacted: io::Result<Compacted>) {
        let target = self.compacting.take();
        let total: u64 = self.logs.values().map(|log| log.length).sum();
        let compacted = match compacted {
            Ok(compacted) => compacted,
            Err(error) => {
                tracing::warn!(%error, "saved state could not be compacted; its logs stay, and it is tried again later");
                self.compact_above = total + DEAD_BYTES_MAX;
                // A part of the copy may be there, unless the name was taken.
                let target = target.filter(|_| error.kind() != io::ErrorKind::AlreadyExists);
                target.into_iter().for_each(|target| self.discard(target));
                return;
            }
        };
        let moved = |at: Location| compacted.moved.get(&at).copied();
        // What was written meanwhile is elsewhere, and stays.
        let is_lost = |at: &Location| compacted.lost.contains(at);
        self.index.retain(|_, entry| !is_lost(&entry.header));
        for entry in self.index.values_mut() {
            entry.header = moved(entry.header).unwrap_or(entry.header);
            entry.body =
                entry.body.filter(|(_, at)| !is_lost(at)).map(|(digest, at)| (digest, moved(at).unwrap_or(at)));
        }
        self.live_bytes = self.index.values().map(size).sum();
        for generation in &compacted.removed {
            self.logs.remove(generation);
        }
        if let Some(length) = compacted.length {
            self.logs.insert(compacted.target, LogFacts { length, ..LogFacts::OWN });
        }
        // Logs that could not be removed are no reason to write the same again at once.
        let rest: u64 = self.logs.values().map(|log| log.length).sum();
        self.compact_above = if compacted.is_complete { 0 } else { rest + DEAD_BYTES_MAX };
    }
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StateStore").field("records", &self.index.len()).finish_non_exhaustive()
    }
}

/// Bytes of the frames of a record.
fn size(entry: &Entry) -> u64 {
    (entry.header.length + entry.body.map_or(0, |(_, at)| at.length)) as u64
}

/// The same kind of error with the same text, for one more change.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
