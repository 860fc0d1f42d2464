//! The files of a trace's folder: their names, their order, and which ones go when the folder is full.
//!
//! A segment is `trace-<milliseconds since 1970>-<run>-<number>.jsonl`, with `.gz` behind it once it is compressed; a
//! component is `policy-<digest>.wasm`. Files with other names are ignored, however alike they look: a folder may hold
//! files of its owner's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use serde::Deserialize;

use super::{compression, limits};
use crate::edge::files::{Directory, LockGuard};
use crate::model::{Digest, WallMs};
use crate::policy::PolicyComponent;

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
    /// The name of the plain file.
    pub(super) fn file(&self) -> String {
        format!("trace-{:013}-{}-{:06}.jsonl", self.started.0, self.run, self.segment)
    }

    /// Reads a file's name; none if it is no segment's, plain or compressed.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let file = file.strip_suffix(COMPRESSED).unwrap_or(file);
        let rest = file.strip_prefix("trace-")?.strip_suffix(".jsonl")?;
        let (started, rest) = rest.split_once('-')?;
        let (run, segment) = rest.rsplit_once('-')?;
        let is_run = !run.is_empty() && run.chars().all(is_of_a_run);
        is_run.then_some(())?;
        let (started, segment) = (number(started, 13)?, number(segment, 6)?);
        Some(Self { started: WallMs(started), run: run.to_owned(), segment })
    }
}

/// The end of the name of a segment that is compressed.
pub(super) const COMPRESSED: &str = ".gz";

/// A number as it was written with at least so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() >= digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_needless_zero = text.len() > digits && text.starts_with('0');
    if is_number && !has_needless_zero { text.parse().ok() } else { None }
}

fn is_of_a_run(character: char) -> bool {
    matches!(character, '0'..='9' | 'a'..='z' | '-')
}

/// A run's name as it can stand in a file's: small letters, digits and dashes, not too many of them.
pub(super) fn run_name(run: &str) -> String {
    let small = run.chars().map(|character| character.to_ascii_lowercase());
    let name: String = small.map(|one| if is_of_a_run(one) { one } else { '-' }).take(RUN_LONGEST).collect();
    if name.is_empty() { "run".to_owned() } else { name }
}

/// The longest name of a run, in characters. File systems take names of 255.
const RUN_LONGEST: usize = 64;

/// The name of a component's file.
pub(super) fn component_file(digest: Digest) -> String {
    format!("policy-{digest}.wasm")
}

/// Puts a component beside the segments, so that its decisions can be made again anywhere; if it is there, it stays.
pub(super) fn keep_component(directory: &dyn Directory, component: &PolicyComponent) -> io::Result<()> {
    let file = component_file(component.digest());
    let held = directory.look(&file)?.map(|look| look.length);
    if held == u64::try_from(component.bytes().len()).ok() {
        return Ok(());
    }
    directory.replace(&file, component.bytes())
}

/// Reads the name of a component's file; none if it is no such name.
fn component_of(file: &str) -> Option<Digest> {
    file.strip_prefix("policy-")?.strip_suffix(".wasm")?.parse().ok()
}

/// The segments among these files, each run's in order, the runs by their first segment: a clock that stepped back does not
/// tear a run apart. Of a segment that is there both plain and compressed, the plain file alone: a name does not show which
/// one is complete, and to expand every compressed file first would double what it takes to read a trace. What the plain
/// file lacks after a loss of power is back once a gateway has begun a segment in the folder: it keeps the longer one.
pub(super) fn in_order(files: &[String]) -> Vec<String> {
    let mut runs: Vec<_> = by_run(files).into_values().collect();
    runs.sort_by_key(|run| run.first().map(|found| (found.name.started, found.name.run.clone())));
    let mut ordered: Vec<Found> = runs.into_iter().flatten().collect();
    ordered.dedup_by(|later, before| later.name == before.name);
    ordered.into_iter().map(|found| found.file).collect()
}

/// The plain segments among these files, each run's in order.
pub(super) fn plain(files: &[String]) -> Vec<String> {
    let segments = by_run(files).into_values().flatten().map(|found| found.file);
    segments.filter(|file| !file.ends_with(COMPRESSED)).collect()
}

/// A file of a segment.
struct Found {
    name: SegmentName,
    file: String,
}

/// The segments of each run, in order; of one that is there twice, the plain file first.
fn by_run(files: &[String]) -> BTreeMap<String, Vec<Found>> {
    let mut runs: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for (name, file) in files.iter().filter_map(|file| Some((SegmentName::parse(file)?, file))) {
        runs.entry(name.run.clone()).or_default().push(Found { name, file: file.clone() });
    }
    for run in runs.values_mut() {
        run.sort_by(|one, other| {
            let key = |found: &Found| (found.name.segment, found.name.started, found.file.len());
            key(one).cmp(&key(other))
        });
    }
    runs
}

/// A run, as it is removed: its first segments first.
struct Run {
    started: WallMs,
    segments: VecDeque<Held>,
}

struct Held {
    file: String,
    length: u64,
    /// When it was written last, in milliseconds since 1970, if that is known. Compression makes a new file, of which it is
    /// known only when the segment was begun.
    modified: Option<u64>,
}

impl Run {
    fn read(directory: &dyn Directory, found: Vec<Found>) -> io::Result<Self> {
        let started = found.first().map_or(WallMs(0), |found| found.name.started);
        let mut segments = VecDeque::new();
        for Found { name, file } in found {
            let look = directory.look(&file)?;
            let modified = look.and_then(|look| look.modified).map(|nanoseconds| nanoseconds / 1_000_000);
            let modified = modified.map(|milliseconds| u64::try_from(milliseconds).unwrap_or(u64::MAX));
            let modified = if file.ends_with(COMPRESSED) { Some(name.started.0) } else { modified };
            segments.push_back(Held { file, length: look.map_or(0, |look| look.length), modified });
        }
        Ok(Self { started, segments })
    }

    /// When its first segment that is left was written last, or when it was begun, if that is not known.
    fn age(&self) -> Option<u64> {
        self.segments.front().map(|first| first.modified.unwrap_or(self.started.0))
    }
}

/// Takes the folder for as long as the guard lives: whoever prunes, and whoever begins a segment, does it alone. Waits for a
/// moment only; after that, and where locks are not supported, it is none, and nothing may be pruned.
pub(super) fn alone(directory: &dyn Directory) -> Option<LockGuard> {
    for _ in 0..limits::FOLDER_ATTEMPTS {
        match directory.try_lock(FOLDER_LOCK) {
            Ok(Some(guard)) => return Some(guard),
            Ok(None) => std::thread::sleep(limits::WRITER_REST),
            Err(_) => return None,
        }
    }
    None
}

/// The file that is locked meanwhile.
pub(super) const FOLDER_LOCK: &str = "trace.lock";

/// Removes the oldest segments until those that are left take at most `bytes` as they are on the disk, and are not too
/// many, then the components that none of these names. Of a run the earlier segments go before the later ones, whatever
/// the clock said; a segment that a process still writes stays. Components do not count: a large one takes no space from
/// the decisions.
pub(super) fn prune(directory: &dyn Directory, bytes: u64) -> io::Result<()> {
    let files = directory.names()?;
    let mut runs = Vec::new();
    for found in by_run(&files).into_values() {
        runs.push(Run::read(directory, found)?);
    }
    let lengths = runs.iter().flat_map(|run| &run.segments).map(|held| held.length);
    let (mut count, mut total) =
        lengths.fold((0usize, 0u64), |(count, total), length| (count + 1, total.saturating_add(length)));
    while total > bytes || count >= limits::SEGMENT_FILES_MAX {
        let left = runs.iter_mut().filter(|run| !run.segments.is_empty());
        let Some(oldest) = left.min_by_key(|run| run.age()) else { break };
        let Some(held) = oldest.segments.pop_front() else { break };
        // The file of another user may neither be lockable nor removable: then it stays, and the others go.
        let is_free = matches!(directory.try_lock(&held.file), Ok(Some(_)));
        if is_free && gone(directory.remove(&held.file)).is_ok() {
            (count, total) = (count.saturating_sub(1), total.saturating_sub(held.length));
        } else {
            // The rest of its run is no older.
            oldest.segments.clear();
        }
    }
    prune_components(directory)
}

/// Removes the components that no segment names.
fn prune_components(directory: &dyn Directory) -> io::Result<()> {
    let files = directory.names()?;
    let mut needless: BTreeSet<Digest> = files.iter().filter_map(|file| component_of(file)).collect();
    let segments = |files: Vec<String>| -> BTreeSet<String> {
        files.into_iter().filter(|file| SegmentName::parse(file).is_some()).collect()
    };
    let known = segments(files);
    // The newest first: it names what is deployed, which is mostly all that there is.
    for segment in known.iter().rev() {
        if needless.is_empty() {
            return Ok(());
        }
        // What cannot be read may name any of them.
        let Ok(Some(named)) = named_by(directory, segment) else { return Ok(()) };
        for digest in named {
            needless.remove(&digest);
        }
    }
    for digest in needless {
        // Another process may have begun a segment meanwhile; what it names is not known here.
        if !segments(directory.names()?).is_subset(&known) {
            return Ok(());
        }
        gone(directory.remove(&component_file(digest)))?;
    }
    Ok(())
}

/// As much of a header as tells its components.
#[derive(Deserialize)]
struct NamingLine {
    header: Naming,
}

#[derive(Deserialize)]
struct Naming {
    policies: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: Digest,
}

/// The components that a segment's header names; none if that cannot be determined.
fn named_by(directory: &dyn Directory, segment: &str) -> io::Result<Option<Vec<Digest>>> {
    if segment.ends_with(COMPRESSED) {
        for most in [limits::HEADER_BYTES_COMPRESSED, limits::HEADER_BYTES_MAX] {
            let Some(start) = directory.read_start(segment, most)? else { return Ok(Some(Vec::new())) };
            if let Some(line) = compression::first_line(&start) {
                return Ok(named_in(&line));
            }
        }
        return Ok(None);
    }
    let Some(start) = directory.read_start(segment, limits::HEADER_BYTES_MAX)? else { return Ok(Some(Vec::new())) };
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else {
        // A crash came before its first decision, unless a process is about to write it.
        let is_torn = start.len() < limits::HEADER_BYTES_MAX && directory.try_lock(segment)?.is_some();
        return Ok(is_torn.then(Vec::new));
    };
    Ok(named_in(start.get(..end).unwrap_or_default()))
}

fn named_in(header: &[u8]) -> Option<Vec<Digest>> {
    let line = serde_json::from_slice::<NamingLine>(header).ok()?;
    Some(line.header.policies.into_iter().map(|policy| policy.digest).collect())
}

/// The removal of a file that another process may have removed first.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::files::{MemoryDirectory, SystemDirectory};

    fn name(started: u64, run: &str, segment: u64) -> String {
        SegmentName { started: WallMs(started), run: run.into(), segment }.file()
    }

    fn left(directory: &dyn Directory) -> Vec<String> {
        in_order(&directory.names().unwrap())
    }

    #[test]
    fn names_are_read_back_and_other_files_are_no_segments() {
        let segment = SegmentName { started: WallMs(1_767_225_600_000), run: "ab-c".into(), segment: 7 };
        assert_eq!(SegmentName::parse(&segment.file()).as_ref(), Some(&segment));
        assert_eq!(SegmentName::parse(&format!("{}.gz", segment.file())), Some(segment));
        for other in [
            "trace-1767225600000-ab-000001.jsonl.gz.gz",
            "trace-.jsonl",
            "trace-1-2.jsonl",
            "notes.txt",
            "trace-x-y-1.jsonl",
            "policy-1.wasm",
            "trace-2026-01-01.jsonl",
            "trace-1767225600000-ab-1.jsonl",
            "trace-176722560000-ab-000001.jsonl",
            "trace-+767225600000-ab-000001.jsonl",
            "trace-1767225600000--000001.jsonl",
            "trace-1767225600000-My Notes-000001.jsonl",
            "trace-01767225600000-ab-000001.jsonl",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
        for run in ["host_1.Example", "", "ÄÖ", &"x".repeat(500)] {
            let segment = SegmentName { started: WallMs(5), run: run_name(run), segment: 1 };
            assert_eq!(SegmentName::parse(&segment.file()), Some(segment), "{run}");
        }
    }

    #[test]
    fn a_run_stays_together_though_the_clock_stepped_back() {
        let files = [name(500, "late", 0), name(100, "early", 0), name(20, "early", 1), "x".to_owned()];
        assert_eq!(in_order(&files), [name(100, "early", 0), name(20, "early", 1), name(500, "late", 0)]);
    }

    #[test]
    fn segment_that_is_there_twice_is_read_once() {
        let compressed = |name: String| format!("{name}.gz");
        let files = [
            compressed(name(100, "a", 0)),
            name(100, "a", 1),
            compressed(name(100, "a", 1)),
            compressed(name(100, "a", 2)),
            name(100, "a", 3),
        ];
        let expected = [&files[0], &files[1], &files[3], &files[4]].map(Clone::clone);
        assert_eq!(in_order(&files), expected);
        assert_eq!(plain(&files), [name(100, "a", 1), name(100, "a", 3)]);
    }

    #[test]
    fn components_that_a_compressed_header_names_stay() {
        let directory = MemoryDirectory::new();
        let digests: Vec<Digest> = (0..2_000u32).map(|number| Digest::of(&number.to_le_bytes())).collect();
        // Longer than what is read first.
        directory.replace(&name(1, "a", 0), &header(&digests)).unwrap();
        assert!(compression::compress(&directory, &name(1, "a", 0)).unwrap());
        let file = format!("{}.gz", name(1, "a", 0));
        assert!(directory.look(&file).unwrap().unwrap().length > limits::HEADER_BYTES_COMPRESSED as u64);
        let (named, other) = (component_file(digests[1_999]), component_file(Digest::of(b"other")));
        for component in [&named, &other] {
            directory.replace(component, b"x").unwrap();
        }
        prune(&directory, u64::MAX).unwrap();
        assert_eq!(directory.names().unwrap(), [named.clone(), file.clone()]);
        // What cannot be read may name any.
        let broken = directory.read(&file).unwrap().unwrap()[..100].to_vec();
        directory.replace(&file, &broken).unwrap();
        prune(&directory, u64::MAX).unwrap();
        assert_eq!(directory.names().unwrap(), [named.clone(), file.clone()]);
        prune(&directory, 0).unwrap();
        assert_eq!(directory.names().unwrap(), [""; 0]);
    }

    #[test]
    fn segments_are_bounded_in_number() {
        let directory = MemoryDirectory::new();
        let most = u64::try_from(limits::SEGMENT_FILES_MAX).unwrap();
        (0..most + 5).for_each(|number| directory.replace(&name(1, "a", number), b"").unwrap());
        prune(&directory, u64::MAX).unwrap();
        let left = left(&directory);
        assert_eq!((left.len(), &left[0]), (limits::SEGMENT_FILES_MAX - 1, &name(1, "a", 6)));
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
        assert_eq!(left(&directory), [name(1, "slow", 0), name(12, "run", 2), name(13, "run", 3), name(14, "run", 4)]);
        drop(written);
        directory.replace(&name(15, "run", 5), &[b'x'; 30]).unwrap();
        prune(&directory, 30).unwrap();
        assert_eq!(left(&directory), [name(15, "run", 5)]);
        assert!(directory.names().unwrap().contains(&"notes.txt".to_owned()));
    }

    #[test]
    fn after_the_clock_stepped_back_a_run_still_loses_its_earlier_segments_first() {
        let directory = MemoryDirectory::new();
        for (started, number) in [(5_000, 0), (6_000, 1), (1_000, 2), (2_000, 3)] {
            directory.replace(&name(started, "run", number), &[b'x'; 10]).unwrap();
        }
        directory.replace(&name(3_000, "other", 0), &[b'x'; 10]).unwrap();
        prune(&directory, 30).unwrap();
        assert_eq!(
            left(&directory),
            [name(6_000, "run", 1), name(1_000, "run", 2), name(2_000, "run", 3)].into_iter().collect::<Vec<_>>()
        );
        prune(&directory, 10).unwrap();
        assert_eq!(left(&directory), [name(2_000, "run", 3)]);
    }

    #[test]
    fn between_runs_it_counts_when_a_segment_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SystemDirectory::open(folder.path()).unwrap();
        let written = |file: String, at: u64| {
            directory.replace(&file, &[b'x'; 10]).unwrap();
            let file = std::fs::File::options().write(true).open(folder.path().join(file)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at)).unwrap();
        };
        // The long run was begun first; its second segment was written after the short run's.
        written(name(100, "long", 0), 1);
        written(name(300, "short", 0), 2);
        written(name(200, "long", 1), 3);
        prune(&directory, 20).unwrap();
        assert_eq!(left(&directory), [name(200, "long", 1), name(300, "short", 0)]);
        prune(&directory, 10).unwrap();
        assert_eq!(left(&directory), [name(200, "long", 1)]);
        // One that was begun earlier is compressed later.
        written(format!("{}.gz", name(50, "early", 0)), 4);
        prune(&directory, 10).unwrap();
        assert_eq!(left(&directory), [name(200, "long", 1)]);
    }

    /// A segment's first line, which names these.
    fn header(digests: &[Digest]) -> Vec<u8> {
        let policies: Vec<_> = digests.iter().map(|digest| serde_json::json!({"digest": digest})).collect();
        format!("{}\n", serde_json::json!({"header": {"policies": policies}})).into_bytes()
    }

    #[test]
    fn components_go_with_the_last_segment_that_names_them_and_files_of_others_never() {
        let directory = MemoryDirectory::new();
        let [first, second, third] = [b"one", b"two", b"six"].map(|bytes| Digest::of(bytes));
        directory.replace(&name(1, "a", 0), &header(&[first])).unwrap();
        directory.replace(&name(2, "a", 1), &header(&[first, second])).unwrap();
        for digest in [first, second, third] {
            directory.replace(&component_file(digest), &[b'x'; 10_000]).unwrap();
        }
        let upper = format!("policy-{}.wasm", first.to_string().to_uppercase());
        let others = ["policy-v2.wasm", "policy-.wasm", "policy-deadbeef.wasm", &upper];
        for other in others {
            directory.replace(other, b"mine").unwrap();
        }
        // Components do not count: the segments are far below the bound.
        prune(&directory, 1_000).unwrap();
        assert_eq!(left(&directory).len(), 2);
        let held = |digest| directory.read(&component_file(digest)).unwrap().is_some();
        assert_eq!([first, second, third].map(held), [true, true, false]);
        directory.replace(&name(3, "a", 2), &header(&[second])).unwrap();
        prune(&directory, 200).unwrap();
        assert_eq!(left(&directory), [name(3, "a", 2)]);
        assert_eq!([first, second, third].map(held), [false, true, false]);
        for other in others {
            assert!(directory.read(other).unwrap().is_some(), "{other}");
        }
    }

    #[test]
    fn nothing_that_an_unreadable_header_may_name_is_removed() {
        let directory = MemoryDirectory::new();
        let digest = Digest::of(b"one");
        let held = || directory.read(&component_file(digest)).unwrap().is_some();
        directory.replace(&component_file(digest), b"x").unwrap();
        // A later format, whatever it says.
        directory.replace(&name(1, "a", 0), b"{\"header\":{\"format\":3}}\n").unwrap();
        prune(&directory, 1_000).unwrap();
        assert!(held());
        // Another process is about to write it.
        directory.remove(&name(1, "a", 0)).unwrap();
        let written = directory.create(&name(2, "b", 0)).unwrap();
        prune(&directory, 1_000).unwrap();
        assert!(held());
        // It crashed: nothing was decided there.
        drop(written);
        prune(&directory, 1_000).unwrap();
        assert!(!held());
    }
}
