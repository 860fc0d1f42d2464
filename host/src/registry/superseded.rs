//! What foreign edits replaced: nothing that somebody wrote is beyond recovery.
//!
//! A program that takes no lock may overwrite what it never saw. Whatever an edit of such a program changed or removed is
//! appended here, with its former value, before the document loses it: JSON Lines in two halves, the older one dropped when
//! the newer one is full. They hold secrets as the document does.

use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use super::limits::SUPERSEDED_BYTES;
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
