//! The files of a trace's folder: their names, their order, and which ones go when the folder is full.
//!
//! A segment is `trace-<milliseconds since 1970>-<run>-<number>.jsonl`, a component `policy-<digest>.wasm`. Files with other
//! names are nobody's business here.

use std::collections::BTreeMap;
use std::io;

use crate::edge::files::Directory;
use crate::model::{Digest, WallMs};

/// The name of a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    /// When it was begun, by the wall clock.
    pub(super) started: WallMs,
    /// The run that wrote it.
    pub(super) run: String,
    /// Its number in the run.
    pub(super) segment: u64,
}

impl SegmentName {
    /// The file's name.
    pub(super) fn file(&self) -> String {
        format!("trace-{:013}-{}-{:06}.jsonl", self.started.0, self.run, self.segment)
    }

    /// Reads a file's name; none if it is no segment's.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let rest = file.strip_prefix("trace-")?.strip_suffix(".jsonl")?;
        let (started, rest) = rest.split_once('-')?;
        let (run, segment) = rest.rsplit_once('-')?;
        Some(Self { started: WallMs(started.parse().ok()?), run: run.to_owned(), segment: segment.parse().ok()? })
    }
}

/// The name of a component's file.
pub(super) fn component_file(digest: Digest) -> String {
    format!("policy-{digest}.wasm")
}

/// The segments among these files, each run's in order, the runs by their first segment: a clock that stepped back does not
/// tear a run apart.
pub(super) fn in_order(files: &[String]) -> Vec<String> {
    let mut runs: BTreeMap<&str, Vec<(SegmentName, &String)>> = BTreeMap::new();
    let names: Vec<_> = files.iter().filter_map(|file| Some((SegmentName::parse(file)?, file))).collect();
    for (name, file) in &names {
        runs.entry(&name.run).or_default().push((name.clone(), file));
    }
    let mut runs: Vec<_> = runs.into_values().collect();
    for run in &mut runs {
        run.sort_by_key(|(name, _)| name.segment);
    }
    runs.sort_by_key(|run| run.first().map(|(name, _)| (name.started, name.run.clone())));
    runs.into_iter().flatten().map(|(_, file)| file.clone()).collect()
}

/// Removes the oldest segments until those that are left, and the components, take at most `bytes`; then the components that
/// only removed segments can have named. A segment that a process still writes stays.
pub(super) fn prune(directory: &dyn Directory, bytes: u64) -> io::Result<()> {
    let files = directory.names()?;
    let length = |file: &str| Ok::<_, io::Error>(directory.look(file)?.map_or(0, |look| look.length));
    let mut segments: Vec<_> = files.iter().filter_map(|file| Some((SegmentName::parse(file)?, file))).collect();
    segments.sort();
    let components: Vec<&String> =
        files.iter().filter(|file| file.starts_with("policy-") && file.ends_with(".wasm")).collect();
    let mut total = 0u64;
    for file in segments.iter().map(|(_, file)| *file).chain(components.iter().copied()) {
        total = total.saturating_add(length(file)?);
    }
    let mut oldest = None;
    for (name, file) in segments {
        if total > bytes && directory.try_lock(file)?.is_some() {
            total = total.saturating_sub(length(file)?);
            gone(directory.remove(file))?;
        } else if oldest.is_none() {
            oldest = Some(name.started);
        }
    }
    for file in components {
        // A segment's components are written right before it.
        let modified = directory.look(file)?.and_then(|look| look.modified).map(|nanoseconds| nanoseconds / 1_000_000);
        if let (Some(modified), Some(oldest)) = (modified, oldest)
            && modified + 1_000 < u128::from(oldest.0)
        {
            gone(directory.remove(file))?;
        }
    }
    Ok(())
}

/// Another process may have removed it first.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::files::MemoryDirectory;

    fn name(started: u64, run: &str, segment: u64) -> String {
        SegmentName { started: WallMs(started), run: run.into(), segment }.file()
    }

    #[test]
    fn names_are_read_back_and_other_files_are_no_segments() {
        let segment = SegmentName { started: WallMs(1_767_225_600_000), run: "ab-c".into(), segment: 7 };
        assert_eq!(SegmentName::parse(&segment.file()), Some(segment));
        for other in ["trace-.jsonl", "trace-1-2.jsonl", "notes.txt", "trace-x-y-1.jsonl", "policy-1.wasm"] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_run_stays_together_though_the_clock_stepped_back() {
        let files = [name(500, "late", 0), name(100, "early", 0), name(20, "early", 1), "x".to_owned()];
        assert_eq!(in_order(&files), [name(100, "early", 0), name(20, "early", 1), name(500, "late", 0)]);
    }

    #[test]
    fn the_oldest_segments_go_first_and_one_that_is_being_written_stays() {
        let directory = MemoryDirectory::new();
        let written = directory.create(&name(1, "slow", 0)).unwrap();
        for number in 0..5 {
            directory.replace(&name(10 + number, "run", number), &[b'x'; 10]).unwrap();
        }
        directory.replace("notes.txt", &[b'x'; 1000]).unwrap();
        prune(&directory, 30).unwrap();
        let left = |directory: &MemoryDirectory| in_order(&directory.names().unwrap());
        assert_eq!(left(&directory), [name(1, "slow", 0), name(12, "run", 2), name(13, "run", 3), name(14, "run", 4)]);
        drop(written);
        directory.replace(&name(15, "run", 5), &[b'x'; 30]).unwrap();
        prune(&directory, 30).unwrap();
        assert_eq!(left(&directory), [name(15, "run", 5)]);
        assert!(directory.names().unwrap().contains(&"notes.txt".to_owned()));
    }
}
