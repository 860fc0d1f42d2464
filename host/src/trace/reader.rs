//! Reading a trace: files or folders, line after line, in the order of the decisions.
//!
//! A process that crashed tears at most the last line of its last segment: that one is skipped and counted. A broken line
//! anywhere else is damage, and an error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::error::TraceError;
use super::format::{FORMAT, Line};
use super::limits;
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
    torn: u64,
    unknown: u64,
    bytes: u64,
    total: u64,
}

#[derive(Debug)]
struct Open {
    path: Arc<PathBuf>,
    reader: BufReader<File>,
    line: u64,
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
                for entry in std::fs::read_dir(path).map_err(unreadable)? {
                    names.extend(entry.map_err(unreadable)?.file_name().into_string());
                }
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
            match std::fs::metadata(file) {
                Ok(metadata) => total += metadata.len(),
                // The oldest segment of a running gateway may go at any time.
                Err(error) if error.kind() == ErrorKind::NotFound && !paths.contains(file) => {}
                Err(source) => return Err(TraceError::Read { path: file.clone(), source }),
            }
        }
        Ok(Self { files, open: None, buffer: Vec::new(), torn: 0, unknown: 0, bytes: 0, total })
    }

    /// The files that are left to read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Bytes read, and bytes that there were to read when it was opened.
    pub fn progress(&self) -> (u64, u64) {
        (self.bytes, self.total)
    }

    /// Last lines that a crash tore, so far.
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
                match File::open(&path) {
                    Ok(file) => {
                        let reader = BufReader::with_capacity(READ_BYTES, file);
                        self.open = Some(Open { path: Arc::new(path), reader, line: 0 });
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(source) => return Err(TraceError::Read { path, source }),
                }
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
        let unreadable = |source| TraceError::Read { path: PathBuf::clone(&open.path), source };
        self.buffer.clear();
        let longest = u64::try_from(limits::LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(2);
        let read = open.reader.by_ref().take(longest).read_until(b'\n', &mut self.buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(LineRead::End);
        }
        open.line += 1;
        self.bytes += u64::try_from(read).unwrap_or(0);
        let parsed = serde_json::from_slice::<Line>(&self.buffer);
        let error = match parsed {
            Ok(Line::Header(header)) if open.line == 1 && header.format > FORMAT => {
                return Err(TraceError::Newer { path: PathBuf::clone(&open.path), format: header.format });
            }
            Ok(line) if open.line > 1 || matches!(line, Line::Header(_)) => return Ok(LineRead::Line(line)),
            Ok(_) => "it begins with another line".to_owned(),
            Err(error) => error.to_string(),
        };
        let is_last = open.reader.fill_buf().map_err(unreadable)?.is_empty();
        if is_last && (self.buffer.last() != Some(&b'\n') || self.buffer.contains(&0)) {
            self.torn += 1;
            return Ok(LineRead::End);
        }
        if open.line == 1 {
            // Later formats keep this much.
            if let Ok(AnyHeader { header: AnyFormat { format } }) = serde_json::from_slice(&self.buffer)
                && format > FORMAT
            {
                return Err(TraceError::Newer { path: PathBuf::clone(&open.path), format });
            }
            return Err(TraceError::NoHeader { path: PathBuf::clone(&open.path), reason: error });
        }
        if is_unknown_kind(&self.buffer) {
            self.unknown += 1;
            return Ok(LineRead::Skipped);
        }
        Err(TraceError::Damaged { path: PathBuf::clone(&open.path), line: open.line, reason: error })
    }
}

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

enum LineRead {
    Line(Line),
    Skipped,
    End,
}

/// As much of a header as tells its format.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyFormat,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Whether it is a line as later versions may write it: an object with one key that is not known here.
fn is_unknown_kind(line: &[u8]) -> bool {
    const KNOWN: [&str; 7] = ["header", "decision", "swap", "shadow", "dropped", "connectors", "tools"];
    let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) else { return false };
    object.len() == 1 && object.keys().all(|key| !KNOWN.contains(&key.as_str()))
}
