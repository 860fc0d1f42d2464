//! A file that a command writes: for its owner alone, durable, whole or not at all, and not over another unless that is
//! said.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cortex_mcp::edge::disk::{self, Disk, SystemDisk};
use cortex_mcp::edge::entropy::{Entropy, SystemEntropy};
use cortex_mcp::registry::{FileNames, RegistryPlace};

use super::open::{Opening, in_file};
use crate::cli::error::CommandError;

/// Refuses a path that leads to the registry's file, or to a name beside it that means something to the registry.
pub(super) fn refuse_own(path: &Path, opening: &Opening) -> Result<(), CommandError> {
    let (place, own) = (RegistryPlace::of(path).map_err(in_file(path))?, opening.place()?);
    let folder =
        |place: &RegistryPlace| std::fs::metadata(&place.folder).map(|folder| (folder.dev(), folder.ino())).ok();
    // A folder that is not there is neither.
    let is_beside = folder(&place).is_some_and(|there| folder(&own) == Some(there));
    if is_beside && FileNames::of(&own.file).kind(&place.file).is_some() {
        let message = format!(
            "{} is a file of the registry itself; choose another name or folder (what is to be in the registry comes \
             there with `cortex-mcp registry import`)",
            path.display()
        );
        return Err(CommandError::Usage(message));
    }
    Ok(())
}

/// Writes a file, mode 0600.
pub(super) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), CommandError> {
    // What a symbolic link leads to is written, not the link.
    let place = RegistryPlace::of(path).map_err(in_file(path))?;
    let disk = SystemDisk::open_existing(&place.folder).map_err(in_file(&place.folder))?;
    match put(&disk, &place.file, bytes, force) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(CommandError::FileTaken { path: path.display().to_string() })
        }
        other => other.map_err(in_file(path)),
    }
}

fn put(disk: &dyn Disk, name: &str, bytes: &[u8], force: bool) -> io::Result<()> {
    if !force && disk.look(name)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let temporary = format!(".{name}.tmp-{:013x}", SystemEntropy.seed());
    disk::write_new(disk, &temporary, bytes, None)?;
    let named = if force { disk.rename(&temporary, name) } else { name_new(disk, &temporary, name) };
    if named.is_err() {
        // The error that counts is the first.
        let _ = disk.remove(&temporary);
    }
    named?;
    disk::sync_names(disk).map(drop)
}

/// Gives a file a name that nobody has.
fn name_new(disk: &dyn Disk, temporary: &str, name: &str) -> io::Result<()> {
    match disk.link(temporary, name) {
        Ok(()) => disk.remove(temporary),
        // It was looked for a moment ago, and nothing is surer here.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => disk.rename(temporary, name),
        Err(error) => Err(error),
    }
}
