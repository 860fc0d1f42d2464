//! What foreign edits replaced: nothing that somebody wrote is beyond recovery.
//!
//! A program that takes no lock may overwrite what it never saw. Whatever an edit of such a program changed or removed is
//! appended here, with its former value, before the document loses it: JSON Lines in two halves, the older one dropped when
//! the newer one is full. They hold secrets as the document does.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::limits::{MAX_REGISTRY_BYTES, SUPERSEDED_BYTES};
use super::names::FileNames;
use super::state::Known;
use crate::edge::disk::{self, Disk};
use crate::model::WallMs;

/// One replaced value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: WallMs,
    name: &'a str,
    by: &'a str,
    rev: Rev<'a>,
    former: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rev<'a> {
    wall_ms: u64,
    counter: u32,
    writer: &'a str,
}

/// A value that was replaced. It may hold secrets.
#[derive(Deserialize)]
pub struct FormerValue {
    /// When it was replaced.
    pub at: WallMs,
    /// Under which name it stood.
    pub name: String,
    /// By what it was replaced: a few words.
    pub by: String,
    /// The entry; none if it can not be told.
    pub former: Option<Box<RawValue>>,
}

impl std::fmt::Debug for FormerValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FormerValue")
            .field("at", &self.at)
            .field("name", &self.name)
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// The greatest size of a half that is read: what one edit replaced is appended whole.
const MAX_HALF_BYTES: usize = SUPERSEDED_BYTES as usize + 2 * MAX_REGISTRY_BYTES;

/// What was replaced and is kept, the oldest first; and how many lines can not be read, as they were torn.
///
/// # Errors
/// Whatever the file system says.
pub fn former_values(disk: &dyn Disk, file: &str) -> io::Result<(Vec<FormerValue>, usize)> {
    let [newer, older] = FileNames::of(file).superseded();
    // Opened in this order, neither is missed if they are renamed meanwhile; one may be found twice.
    let (newer, older) = (disk.open(&newer)?, disk.open(&older)?);
    let is_twice = match (&newer, &older) {
        (Some(newer), Some(older)) => newer.look()?.file == older.look()?.file,
        _ => false,
    };
    let (mut values, mut torn) = (Vec::new(), 0);
    for half in [older.filter(|_| !is_twice), newer].into_iter().flatten() {
        let bytes = disk::read_to_end_at(&*half, 0, MAX_HALF_BYTES)?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(value) => values.push(value),
                Err(_) => torn += 1,
            }
        }
    }
    Ok((values, torn))
}

/// Keeps what was replaced, durably but for the file's name, which the next write of the document makes durable too.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn keep<'a>(
    disk: &dyn Disk,
    names: &FileNames,
    now: WallMs,
    by: &str,
    replaced: impl IntoIterator<Item = &'a Known>,
) -> io::Result<()> {
    let mut text = Vec::new();
    for known in replaced {
        let former = known.content.as_ref().and_then(|content| serde_json::from_str(content.json()).ok());
        let stamp = known.entry.stamp;
        let rev = Rev { wall_ms: stamp.wall_ms, counter: stamp.counter, writer: &known.entry.writer };
        let line = Line { at: now, name: &known.entry.name, by, rev, former };
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    if text.is_empty() {
        return Ok(());
    }
    let [newer, older] = names.superseded();
    let file = match disk.open(&newer)? {
        Some(file) if file.look()?.length < SUPERSEDED_BYTES => file,
        Some(_) => {
            disk.rename(&newer, &older)?;
            disk.create(&newer)?
        }
        None => disk.create(&newer)?,
    };
    let end = file.look()?.length;
    // A line that was torn does not swallow the next.
    if end > 0 {
        text.insert(0, b'\n');
    }
    disk::write_all_at(&*file, end, &text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::MemoryDisk;

    #[test]
    fn what_was_replaced_is_read_oldest_first_and_torn_lines_are_counted() {
        let disk = MemoryDisk::new();
        let put = |name: &str, text: &str| disk::write_new(&disk, name, text.as_bytes(), None).unwrap();
        let line = |at: u64, former: &str| {
            format!("{{\"at\":{at},\"name\":\"a\",\"by\":\"x\",\"rev\":{{}},\"former\":{former}}}\n")
        };
        assert!(former_values(&disk, "servers.json").unwrap().0.is_empty());
        put("servers.json.superseded-older", &line(1, "{\"name\":\"a\",\"x\":1.50}"));
        put("servers.json.superseded", &format!("{}{{\"at\":2,\"na\n{}\n\n", line(2, "null"), line(3, "{}")));
        let (values, torn) = former_values(&disk, "servers.json").unwrap();
        assert_eq!(values.iter().map(|value| value.at.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(values[0].former.as_ref().unwrap().get(), "{\"name\":\"a\",\"x\":1.50}");
        assert!(values[1].former.is_none() && torn == 1);
    }
}
