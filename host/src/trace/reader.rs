//! Reading a trace: files or folders, line after line, in the order of the decisions.
//!
//! Segments are read plain or compressed, and their decisions with the values that they refer to. A process that crashed
//! leaves at most the last line of its last segment incomplete, and so does one that is writing it at that moment: that line
//! is skipped and counted. A broken line anywhere else is damage, and an error; so is a segment that no gateway writes,
//! because it has more than [the limits](limits) allow.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::compression::{self, Source};
use super::error::TraceError;
use super::format::{FORMAT, Line};
use super::limits;
use super::references::{DECISION, Excess, KnownValues, ReferenceError};
use super::segments;

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, from 1.
    pub line: u64,
}

/// A line, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// What it says.
    pub line: Line,
}

/// Reads a trace.
#[derive(Debug)]
pub struct TraceReader {
    files: VecDeque<PathBuf>,
    open: Option<Open>,
    buffer: Vec<u8>,
    /// The decision at hand, with the values that it refers to.
    decision: Vec<u8>,
    torn: u64,
    unknown: u64,
    /// Bytes read of the files, as they are on the disk.
    bytes: Arc<AtomicU64>,
    total: u64,
}

struct Open {
    path: Arc<PathBuf>,
    reader: BufReader<Source>,
    is_compressed: bool,
    values: KnownValues,
    /// Bytes of lines so far.
    length: u64,
    line: u64,
    /// Whether the last line was read without its end: that may follow.
    is_unended: bool,
}

impl Open {
    fn new(path: PathBuf, source: Source) -> Self {
        let is_compressed = source.is_compressed();
        let reader = BufReader::with_capacity(limits::READ_BYTES, source);
        let values = KnownValues::new(limits::RESOLVED_BYTES_MAX);
        Self { path: Arc::new(path), reader, is_compressed, values, length: 0, line: 0, is_unended: false }
    }

    /// Opens a file. A segment may have been compressed since it was listed; none if it is gone.
    fn from_file(path: &Path, read: &Arc<AtomicU64>) -> Result<Option<Self>, TraceError> {
        for path in [path, &compressed(path)] {
            let unreadable = |source| TraceError::Read { path: path.to_owned(), source };
            match File::open(path) {
                Ok(file) => {
                    let source = compression::open(file, read.clone()).map_err(unreadable)?;
                    return Ok(Some(Self::new(path.to_owned(), source)));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Ok(None)
    }

    /// What a failed read is. Compressed bytes that are no such, or end too early, are damage.
    fn unreadable(&self, source: std::io::Error) -> TraceError {
        let path = PathBuf::clone(&self.path);
        let is_data =
            matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
        if self.is_compressed && is_data {
            let reason = reason(&format_args!("the compressed data is broken or incomplete ({source})"));
            return TraceError::Damaged { path, line: self.line + 1, reason };
        }
        TraceError::Read { path, source }
    }

    fn exceeds(&self, excess: Excess) -> TraceError {
        TraceError::Exceeds { path: PathBuf::clone(&self.path), line: self.line, excess }
    }

    /// Takes a header: a segment begins.
    fn begin_segment(&mut self) {
        if self.is_compressed {
            // One file, one segment's bounds: its size on the disk bounds nothing.
            self.values.clear();
        } else {
            self.values = KnownValues::new(limits::RESOLVED_BYTES_MAX);
        }
    }

    /// Reads a line, with its end if it has one by now: a gateway may be writing it.
    fn read_line(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        buffer.clear();
        let mut awaits_end = std::mem::take(&mut self.is_unended);
        let longest = limits::LINE_BYTES_MAX.saturating_add(2);
        while buffer.last() != Some(&b'\n') && buffer.len() < longest {
            let left = u64::try_from(longest - buffer.len()).unwrap_or(u64::MAX);
            if self.reader.by_ref().take(left).read_until(b'\n', buffer)? == 0 {
                self.is_unended = awaits_end || !buffer.is_empty();
                break;
            }
            if std::mem::take(&mut awaits_end) && buffer.as_slice() == b"\n" {
                buffer.clear();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Open").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl TraceReader {
    /// Reads these files and folders, one after the other; of a folder, every segment in it.
    ///
    /// # Errors
    /// [`TraceError::Read`] and [`TraceError::Empty`].
    pub fn open(paths: &[PathBuf]) -> Result<Self, TraceError> {
        let mut files = VecDeque::new();
        let mut total = 0;
        for path in paths {
            let unreadable = |source| TraceError::Read { path: path.clone(), source };
            if path.is_dir() {
                let mut names = Vec::new();
                // Twice: a segment that is compressed meanwhile may be in one listing neither plain nor compressed.
                for _ in 0..2 {
                    for entry in std::fs::read_dir(path).map_err(unreadable)? {
                        names.extend(entry.map_err(unreadable)?.file_name().into_string());
                    }
                }
                names.sort_unstable();
                names.dedup();
                let names = segments::in_order(&names);
                if names.is_empty() {
                    return Err(TraceError::Empty { path: path.clone() });
                }
                files.extend(names.into_iter().map(|name| path.join(name)));
            } else {
                files.push_back(path.clone());
            }
        }
        for file in &files {
            // A plain segment may have been compressed since it was listed or named.
            let metadata =
                std::fs::metadata(file).or_else(|error| std::fs::metadata(compressed(file)).map_err(|_| error));
            match metadata {
                Ok(metadata) => total += metadata.len(),
                // The oldest segment of a running gateway may go at any time.
                Err(error) if error.kind() == ErrorKind::NotFound && !paths.contains(file) => {}
                Err(source) => return Err(TraceError::Read { path: file.clone(), source }),
            }
        }
        Ok(Self::new(files, None, total))
    }

    fn new(files: VecDeque<PathBuf>, open: Option<Open>, total: u64) -> Self {
        let (buffer, decision, bytes) = (Vec::new(), Vec::new(), Arc::default());
        Self { files, open, buffer, decision, torn: 0, unknown: 0, bytes, total }
    }

    /// The files that are left to read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Bytes read, and bytes that there were to read when it was opened, as they are on the disk.
    pub fn progress(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.total)
    }

    /// Last lines that are incomplete, so far: a gateway crashed there, or is writing them.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Lines of a kind that this version does not know, so far.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TraceError> {
        loop {
            let Some(mut open) = self.open.take() else {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                self.open = Open::from_file(&path, &self.bytes)?;
                continue;
            };
            match self.line(&mut open)? {
                LineRead::End => {}
                LineRead::Skipped => self.open = Some(open),
                LineRead::Line(line) => {
                    let place = Place { file: open.path.clone(), line: open.line };
                    self.open = Some(open);
                    return Ok(Some(Entry { place, line }));
                }
            }
        }
    }

    fn line(&mut self, open: &mut Open) -> Result<LineRead, TraceError> {
        if let Err(error) = open.read_line(&mut self.buffer) {
            return Err(open.unreadable(error));
        }
        if self.buffer.is_empty() {
            return Ok(LineRead::End);
        }
        open.line += 1;
        open.length += u64::try_from(self.buffer.len()).unwrap_or(0);
        if open.is_compressed && open.length > limits::SEGMENT_EXPANDED_BYTES_MAX {
            return Err(open.exceeds(Excess::Expanded));
        }
        let error = match self.parse(&mut open.values) {
            Ok(Some(Line::Header(header))) => {
                if header.format != FORMAT {
                    return Err(other_format(open, header.format, header.gateway));
                }
                open.begin_segment();
                return Ok(LineRead::Line(Line::Header(header)));
            }
            Ok(_) if open.line == 1 => "it begins with another line".to_owned(),
            Ok(Some(line)) => return Ok(LineRead::Line(line)),
            Ok(None) => return Ok(LineRead::Skipped),
            Err(ReferenceError::Excess(excess)) => return Err(open.exceeds(excess)),
            Err(error) => reason(&error),
        };
        // A crash of the machine leaves zeros where data was to be.
        let is_last = |open: &mut Open| match open.reader.fill_buf() {
            Ok(rest) => Ok(rest.is_empty()),
            Err(error) => Err(open.unreadable(error)),
        };
        if open.is_unended || self.buffer.contains(&0) && is_last(open)? {
            self.torn += 1;
            return Ok(LineRead::End);
        }
        if open.line == 1 {
            // Other formats have this much.
            if let Ok(AnyHeader { header }) = serde_json::from_slice(&self.buffer)
                && header.format != FORMAT
            {
                return Err(other_format(open, header.format, header.gateway));
            }
            return Err(TraceError::NoHeader { path: PathBuf::clone(&open.path), reason: error });
        }
        if is_unknown_kind(&self.buffer) {
            self.unknown += 1;
            return Ok(LineRead::Skipped);
        }
        Err(TraceError::Damaged { path: PathBuf::clone(&open.path), line: open.line, reason: error })
    }

    /// Parses a line. None if it defines a value: it is among the segment's then.
    fn parse(&mut self, values: &mut KnownValues) -> Result<Option<Line>, ReferenceError> {
        match kind(&self.buffer) {
            b"value" => values.define(&self.buffer).map(|()| None),
            b"decision" => {
                values.resolve(decision_in(&self.buffer)?, &mut self.decision)?;
                let record = serde_json::from_slice(&self.decision);
                self.decision.shrink_to(limits::READ_BYTES);
                Ok(Some(Line::Decision(record?)))
            }
            _ if is_long_header(&self.buffer) => Err(Excess::Header.into()),
            _ => Ok(Some(serde_json::from_slice(&self.buffer)?)),
        }
    }
}

/// The first key of a line; empty if it has none.
fn kind(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    let key = line.and_then(|line| line.strip_prefix(b"\"")).unwrap_or_default();
    key.split(|byte| *byte == b'"').next().unwrap_or_default()
}

/// Whether a line may be a header, and is too long for one.
fn is_long_header(line: &[u8]) -> bool {
    let kind = kind(line);
    // A name with an escape may be that of a header, too.
    let may_be_header = kind == b"header" || kind.contains(&b'\\');
    // No JSON contains a zero, so a line ends there for its parser: a crash of the machine may leave any number of them.
    may_be_header && line.get(..=limits::HEADER_BYTES_MAX).is_some_and(|start| !start.contains(&0))
}

/// The text of the decision in a line.
fn decision_in(line: &[u8]) -> Result<&str, serde_json::Error> {
    // As a gateway writes it, without looking for its end: what follows it is found when it is parsed.
    let written = line.trim_ascii_end().strip_prefix(DECISION).and_then(|line| line.strip_suffix(b"}"));
    if let Some(text) = written.and_then(|text| std::str::from_utf8(text).ok()) {
        return Ok(text);
    }
    serde_json::from_slice(line).map(|DecisionLine { decision }| decision.get())
}

/// A decision as its text, which may refer to values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionLine<'a> {
    #[serde(borrow)]
    decision: &'a RawValue,
}

/// The name of the compressed file that may replace a plain segment at any time.
fn compressed(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(segments::COMPRESSED);
    name.into()
}

/// What is wrong with a line, as it can be printed: it may quote the line, which may hold anything.
fn reason(error: &impl fmt::Display) -> String {
    error.to_string().escape_debug().take(limits::REASON_CHARS_MAX).collect()
}

fn other_format(open: &Open, format: u32, gateway: String) -> TraceError {
    TraceError::Format { path: PathBuf::clone(&open.path), format, gateway: gateway.escape_debug().take(80).collect() }
}

enum LineRead {
    Line(Line),
    Skipped,
    End,
}

/// As much of a header as every format has.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyFormat,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
    #[serde(default)]
    gateway: String,
}

/// Whether it is a line as later versions may write it: an object with one key that is not known here.
fn is_unknown_kind(line: &[u8]) -> bool {
    serde_json::from_slice(line).is_ok_and(|AnyLine { is_unknown }| is_unknown)
}

/// As much of a line as tells its kind. Its value is not kept: in memory it may take thirty times the length of the line.
struct AnyLine {
    is_unknown: bool,
}

impl<'de> Deserialize<'de> for AnyLine {
    fn deserialize<D: Deserializer<'de>>(line: D) -> Result<Self, D::Error> {
        line.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = AnyLine;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<AnyLine, A::Error> {
        const KNOWN: [&str; 9] =
            ["header", "value", "decision", "swap", "shadow", "dropped", "connectors", "tools", "credential"];
        let (mut keys, mut known) = (0u64, 0u64);
        while let Some((key, IgnoredAny)) = object.next_entry::<String, _>()? {
            keys += 1;
            known += u64::from(KNOWN.contains(&key.as_str()));
        }
        Ok(AnyLine { is_unknown: keys == 1 && known == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is written while it is read: what comes of each look at it. Nothing is its end, at that moment.
    struct Growing(VecDeque<Vec<u8>>);

    impl Read for Growing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let part = self.0.pop_front().unwrap_or_default();
            buffer[..part.len()].copy_from_slice(&part);
            Ok(part.len())
        }
    }

    fn read(parts: &[&[u8]]) -> (Result<u64, TraceError>, u64) {
        let source = Growing(parts.iter().map(|part| part.to_vec()).collect());
        let open = Open::new(PathBuf::from("growing"), Source::Plain(Box::new(source)));
        let mut reader = TraceReader::new(VecDeque::new(), Some(open), 0);
        let mut lines = 0;
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => lines += 1,
                Ok(None) => return (Ok(lines), reader.torn()),
                Err(error) => return (Err(error), reader.torn()),
            }
        }
    }

    #[test]
    fn a_line_that_is_written_while_it_is_read_is_no_damage() {
        let header = include_str!("../../../tests/traces/alone.jsonl").lines().next().unwrap().to_owned() + "\n";
        let note = "{\"dropped\":{\"count\":1,\"total\":1}}\n";
        let text = [header.as_str(), note, note].concat();
        let text = text.as_bytes();
        for cut in header.len()..header.len() + note.len() {
            // The rest comes: all of it is read, once.
            let whole_yet = if cut == header.len() { 1 } else { 3 };
            let (lines, torn) = read(&[&text[..cut], b"", &text[cut..]]);
            assert_eq!((lines.unwrap(), torn), (whole_yet, 0), "{cut}");
            // It does not come in time: the line is incomplete, unless its end alone is missing.
            let (lines, torn) = read(&[&text[..cut]]);
            let whole = u64::from(cut == header.len() + note.len() - 1);
            let begun = u64::from(cut > header.len());
            assert_eq!((lines.unwrap(), torn), (1 + whole, begun - whole), "{cut}");
        }
        // Its end alone comes after it was taken for the last one.
        let (first, rest) = text.split_at(header.len() + note.len() - 1);
        let (lines, torn) = read(&[first, b"", b"", rest]);
        assert_eq!((lines.unwrap(), torn), (3, 0));
        // It comes in parts, and the last one does not.
        let (lines, torn) = read(&[header.as_bytes(), &note.as_bytes()[..3], b"", &note.as_bytes()[3..9]]);
        assert_eq!((lines.unwrap(), torn), (1, 1));
        // What is broken and complete is damage.
        let (lines, _) = read(&[header.as_bytes(), b"{\"dropped\":", b"", b"}\n"]);
        assert!(matches!(lines, Err(TraceError::Damaged { line: 2, .. })));
    }
}
