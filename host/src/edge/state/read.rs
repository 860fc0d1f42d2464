//! Reading a directory: each file once and in one piece, payloads verified by as many threads as there are cores.
//!
//! The newest header of a name whose body is there counts. Payloads that no record needs are not verified. A body is a part
//! of the buffer that its file was read into.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::frame::{self, Frame, Kind};
use super::limits::{READ_ATTEMPTS_MAX, SEQUENTIAL_BYTES_MAX};
use super::record::{Body, StateRecord};
use super::{Damaged, SavedState, own_file};
use crate::edge::files::Directory;
use crate::model::Digest;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Location {
    pub(super) generation: u64,
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// Where the frames of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: Location,
    /// The body that was last written for the name, whether or not the header refers to it.
    pub(super) body: Option<(Digest, Location)>,
}

/// What the logs of a directory hold.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) records: Vec<(String, StateRecord)>,
    pub(super) index: BTreeMap<String, Entry>,
    /// The length of each log, by generation.
    pub(super) lengths: BTreeMap<u64, u64>,
    /// What was lost: the generation, and the name if that is known.
    pub(super) damaged: Vec<(u64, Option<String>)>,
}

/// Reads every record of a directory without changing anything there. Another process may write meanwhile. A name that is
/// `replaced` has a file of its own.
///
/// # Errors
/// Whatever the file system reports.
pub fn read(directory: &dyn Directory, replaced: &[&str]) -> io::Result<SavedState> {
    let logs = read_logs(directory)?;
    read_rest(directory, replaced, logs.records, &logs.damaged)
}

/// Reads what is not in the logs, and returns all of it.
pub(super) fn read_rest(
    directory: &dyn Directory,
    replaced: &[&str],
    records: Vec<(String, StateRecord)>,
    damaged: &[(u64, Option<String>)],
) -> io::Result<SavedState> {
    let damaged = damaged.iter().map(|(generation, name)| Damaged { file: log_name(*generation), name: name.clone() });
    let mut saved = SavedState { records, damaged: damaged.collect(), old_files: count_old(directory)? };
    for name in replaced {
        let file = own_file(name);
        let Some(bytes) = directory.read(&file)? else { continue };
        match decode(name, Bytes::from(bytes)) {
            Some(record) => saved.records.push(((*name).to_owned(), record)),
            None => saved.damaged.push(Damaged { file, name: Some((*name).to_owned()) }),
        }
    }
    Ok(saved)
}

/// The files that the first form of the store left, if there are any: one for each record.
fn count_old(directory: &dyn Directory) -> io::Result<usize> {
    let mut names = directory.names()?;
    names.retain(|name| name.ends_with(OLD_SUFFIX));
    for name in &names {
        // One that is recognized is enough: there may be thousands.
        if directory.read_start(name, OLD_MAGIC.len())?.is_some_and(|start| start == OLD_MAGIC) {
            return Ok(names.len());
        }
    }
    Ok(0)
}

const OLD_SUFFIX: &str = ".state";
const OLD_MAGIC: &[u8] = b"cortex-state 1 ";
const LOG_PREFIX: &str = "lists-";
const LOG_SUFFIX: &str = ".log";

pub(super) fn log_name(generation: u64) -> String {
    format!("{LOG_PREFIX}{generation}{LOG_SUFFIX}")
}

fn generation(name: &str) -> Option<u64> {
    let generation = name.strip_prefix(LOG_PREFIX)?.strip_suffix(LOG_SUFFIX)?.parse().ok()?;
    // Another spelling of the number is another file.
    (log_name(generation) == name).then_some(generation)
}

/// The bytes of a file that holds one record.
pub(super) fn encode(name: &str, record: &StateRecord) -> Result<Vec<u8>, frame::FrameError> {
    let body = record.body.bytes();
    let digest = (!body.is_empty()).then(|| Digest::of(&body));
    let header = record.header.as_bytes();
    let mut file = Vec::with_capacity(header.len() + body.len() + 1_024);
    frame::write(&mut file, name, Kind::Header(digest), header, Digest::of(header))?;
    if let Some(digest) = digest {
        frame::write(&mut file, name, Kind::Body, &body, digest)?;
    }
    Ok(file)
}

/// Reads a file that holds one record; none unless all of it verifies.
fn decode(name: &str, file: Bytes) -> Option<StateRecord> {
    let scan = frame::scan(&file);
    let is_whole = scan.damaged.is_empty() && scan.frames.last().is_some_and(|frame| frame.end() == file.len());
    if !is_whole || scan.frames.iter().any(|frame| frame.line.name != name) {
        return None;
    }
    let payload = |frame: &Frame| {
        let payload = file.slice(frame.payload.clone());
        (Digest::of(&payload) == frame.line.digest).then_some(payload)
    };
    let (header, body) = match &scan.frames[..] {
        [header] if header.line.kind == Kind::Header(None) => (header, Body::default()),
        [header, body] if body.line.kind == Kind::Body && header.line.kind == Kind::Header(Some(body.line.digest)) => {
            (header, Body::verified(payload(body)?, body.line.digest))
        }
        _ => return None,
    };
    Some(StateRecord { header: String::from_utf8(payload(header)?.to_vec()).ok()?, body })
}

/// Reads the logs. If one vanishes meanwhile, the leader has moved what it held to another one.
///
/// A listing is not atomic: one during a compaction may lack both an older log and the one that its records moved to. The
/// next listing has the latter, so what was read counts only if the same logs are listed afterwards.
pub(super) fn read_logs(directory: &dyn Directory) -> io::Result<Logs> {
    let mut attempts = 0;
    let mut generations = list(directory)?;
    loop {
        attempts += 1;
        let mut files = Vec::new();
        for generation in &generations {
            files.extend(directory.read(&log_name(*generation))?.map(|bytes| (*generation, Bytes::from(bytes))));
        }
        let listed = list(directory)?;
        let is_complete = files.len() == generations.len() && listed == generations;
        if !is_complete && attempts < READ_ATTEMPTS_MAX {
            generations = listed;
            continue;
        }
        if !is_complete {
            tracing::warn!(attempts, "the logs of saved state changed during every read; some records may be missing");
        }
        return Ok(assemble(&files));
    }
}

/// The generations of the logs, in their order.
fn list(directory: &dyn Directory) -> io::Result<Vec<u64>> {
    let mut generations: Vec<_> = directory.names()?.iter().filter_map(|name| generation(name)).collect();
    generations.sort_unstable();
    Ok(generations)
}

/// A frame, and where it was found.
struct Found {
    location: Location,
    payload: Bytes,
    digest: Digest,
    /// Whether the payload has the digest. Many headers may refer to one body, which is hashed once.
    verified: OnceLock<bool>,
}

impl Found {
    fn new(generation: u64, file: &Bytes, frame: &Frame) -> Self {
        let length = frame.end() - frame.start;
        let location = Location { generation, offset: frame.start as u64, length };
        Self {
            location,
            payload: file.slice(frame.payload.clone()),
            digest: frame.line.digest,
            verified: OnceLock::new(),
        }
    }

    fn verifies(&self) -> bool {
        *self.verified.get_or_init(|| {
            #[cfg(test)]
            HASHED.set(HASHED.get() + 1);
            Digest::of(&self.payload) == self.digest
        })
    }
}

#[cfg(test)]
thread_local! {
    /// Payloads that this thread has hashed.
    pub(super) static HASHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What the logs hold of one name, in the order in which it was written.
#[derive(Default)]
struct History {
    headers: Vec<(Found, Option<Digest>)>,
    bodies: Vec<Found>,
}

/// What counts of a history.
#[derive(Default)]
struct Resolved {
    record: Option<(StateRecord, Entry)>,
    /// The logs that have damaged frames of it.
    damaged: Vec<u64>,
}

fn assemble(files: &[(u64, Bytes)]) -> Logs {
    let mut logs = Logs::default();
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    for (generation, bytes) in files {
        logs.lengths.insert(*generation, bytes.len() as u64);
        let scan = frame::scan(bytes);
        logs.damaged.extend(scan.damaged.iter().map(|_| (*generation, None)));
        for frame in scan.frames {
            let found = Found::new(*generation, bytes, &frame);
            match frame.line.kind {
                Kind::Body => histories.entry(frame.line.name).or_default().bodies.push(found),
                Kind::Header(body) => histories.entry(frame.line.name).or_default().headers.push((found, body)),
                Kind::Removal => drop(histories.remove(&frame.line.name)),
            }
        }
    }
    let histories: Vec<_> = histories.into_iter().collect();
    for ((name, _), resolved) in histories.iter().zip(resolve_all(&histories)) {
        logs.damaged.extend(resolved.damaged.iter().map(|generation| (*generation, Some(name.clone()))));
        if let Some((record, entry)) = resolved.record {
            logs.records.push((name.clone(), record));
            logs.index.insert(name.clone(), entry);
        }
    }
    logs
}

/// Resolves every history, in their order.
fn resolve_all(histories: &[(String, History)]) -> Vec<Resolved> {
    let payload: usize = histories.iter().flat_map(|(_, history)| history.bodies.last()).map(|b| b.payload.len()).sum();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(payload / SEQUENTIAL_BYTES_MAX + 1);
    if threads == 1 {
        return histories.iter().map(|(_, history)| resolve(history)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut resolved = Vec::new();
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, history)) = histories.get(taken) else { return resolved };
            resolved.push((taken, resolve(history)));
        }
    };
    let mut all: Vec<_> = histories.iter().map(|_| Resolved::default()).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut resolved = work();
        for other in others {
            // Resolving does not panic; if it did, its records would be fetched again.
            resolved.extend(other.join().unwrap_or_default());
        }
        for (number, one) in resolved {
            all[number] = one;
        }
    });
    all
}

fn resolve(history: &History) -> Resolved {
    let mut resolved = Resolved::default();
    for (header, digest) in history.headers.iter().rev() {
        let generation = header.location.generation;
        let text = std::str::from_utf8(&header.payload).ok().filter(|_| header.verifies());
        let Some(text) = text else {
            resolved.damaged.push(generation);
            continue;
        };
        let header_is = |body, at| {
            let record = StateRecord { header: text.to_owned(), body };
            Some((record, Entry { header: header.location, body: at }))
        };
        let Some(digest) = digest else {
            resolved.record = header_is(Body::default(), None);
            break;
        };
        let mut candidates = history.bodies.iter().rev().filter(|body| body.digest == *digest);
        let mut lost = Vec::new();
        let body = candidates.find(|body| {
            let verifies = body.verifies();
            if !verifies {
                lost.push(body.location.generation);
            }
            verifies
        });
        resolved.damaged.append(&mut lost);
        if let Some(body) = body {
            let at = Some((*digest, body.location));
            resolved.record = header_is(Body::verified(body.payload.clone(), *digest), at);
            break;
        }
        resolved.damaged.push(generation);
    }
    resolved.damaged.sort_unstable();
    resolved.damaged.dedup();
    resolved
}
