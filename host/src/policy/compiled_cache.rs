//! The compiled code of the embedded default, kept between starts: compiling it is most of a start without connectors.
//!
//! Compiled code is trusted like the program itself, so it is taken only from a file that no other user could have written:
//! the file and the key beside it belong to this user and are writable by this user alone, and no folder above them can be
//! changed by others. The file is read into memory once, that buffer is checked against a keyed digest, and only that buffer
//! is used. Programs of the same user, MCP servers on stdio among them, can replace both files, as they can replace the
//! registry and the configuration: the README says so, and `compiled-cache = false` does without.

use std::fs::{DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::limits::COMPILED_BYTES_MAX;
use crate::edge::file_access::Writers;
use crate::model::Digest;

/// What may be done with a folder for compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAccess {
    /// What is there is used, and nothing is written: for commands that only read.
    Read,
    /// The folder is made if it is missing, and code that is missing is left there.
    ReadWrite,
}

/// A folder for compiled code.
#[derive(Debug)]
pub(super) struct CompiledCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

/// Why a folder is not used for compiled code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// A folder or a file in it cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Other users could have written it.
    #[error("{path} belongs to another user, or others can write it: make it private (chmod go-w), or remove it")]
    Shared {
        /// Which one.
        path: String,
    },
}

/// How long code of another version is kept: an operator may go back to that.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

const KEY: &str = "key";
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;

impl CompiledCache {
    /// Opens a folder, and makes it and its key if they are missing: only below folders that others cannot change. None if
    /// they are missing, and may not be made.
    pub(super) fn open(folder: &Path, access: CacheAccess) -> Result<Option<Self>, CacheError> {
        let failed = |source| CacheError::Io { path: folder.display().to_string(), source };
        if access == CacheAccess::Read && !folder.join(KEY).exists() {
            return Ok(None);
        }
        let existing = folder.ancestors().find(|above| above.exists()).unwrap_or(folder);
        check_ancestors(existing)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let folder = check_ancestors(folder)?;
        if folder.metadata().map_err(failed)?.mode() & 0o022 != 0 {
            return Err(CacheError::Shared { path: folder.display().to_string() });
        }
        let key = match read_private(&folder.join(KEY), KEY_BYTES)? {
            Some(key) if key.len() == KEY_BYTES => key,
            _ if access == CacheAccess::Read => return Ok(None),
            _ => {
                let mut key = vec![0; KEY_BYTES];
                rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())
                    .map_err(|error| failed(error.into()))?;
                replace(&folder.join(KEY), &[&key])?;
                key
            }
        };
        let mut held = [0; KEY_BYTES];
        held.copy_from_slice(&key);
        Ok(Some(Self { folder, key: held }))
    }

    /// The code that was compiled from a component; none if there is none, or if it is not what was written.
    pub(super) fn read(&self, component: Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(mut file) = read_private(&self.file(component), COMPILED_BYTES_MAX)? else { return Ok(None) };
        let Some(code_bytes) = file.len().checked_sub(TAG_BYTES) else { return Ok(None) };
        let tag = file.split_off(code_bytes);
        Ok(self.mac(component, &file).verify_slice(&tag).is_ok().then_some(file))
    }

    /// Keeps the code that was compiled from a component, and removes what other versions left long ago.
    pub(super) fn write(&self, component: Digest, code: &[u8]) -> Result<(), CacheError> {
        let tag = self.mac(component, code).finalize().into_bytes();
        replace(&self.file(component), &[code, &tag])?;
        let is_old = |file: &DirEntry| {
            let age = file.metadata().and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
            age.is_ok_and(|age| age.is_ok_and(|age| age > KEPT)) && file.file_name() != KEY
        };
        for file in std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok).filter(is_old) {
            // What cannot be removed takes some hundred kilobytes.
            let _ = std::fs::remove_file(file.path());
        }
        Ok(())
    }

    fn file(&self, component: Digest) -> PathBuf {
        self.folder.join(format!("policy-{component}.cwasm"))
    }

    fn mac(&self, component: Digest, code: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of every length.
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!());
        mac.chain_update(b"cortex-mcp compiled policy 1\0").chain_update(component.bytes()).chain_update(code)
    }
}

/// Refuses a folder that others can change, or that stands in one. Returns its real path.
fn check_ancestors(folder: &Path) -> Result<PathBuf, CacheError> {
    let failed = |source| CacheError::Io { path: folder.display().to_string(), source };
    let folder = folder.canonicalize().map_err(failed)?;
    for above in folder.ancestors() {
        let metadata = above.metadata().map_err(failed)?;
        if Writers::of(&metadata) != Writers::Owner {
            return Err(CacheError::Shared { path: above.display().to_string() });
        }
    }
    Ok(folder)
}

/// Reads a file that only its owner can write, at most so much of it; none if there is none, or if it is longer.
fn read_private(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, CacheError> {
    let failed = |source| CacheError::Io { path: path.display().to_string(), source };
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || Writers::of(&metadata) != Writers::Owner {
        return Err(CacheError::Shared { path: path.display().to_string() });
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// Puts a file in place at once. It is not synchronised: a torn one does not pass the check, and is written again.
fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), CacheError> {
    let failed = |source| CacheError::Io { path: path.display().to_string(), source };
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // It is of no use, whether it can be removed or not.
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache(folder: &Path) -> CompiledCache {
        CompiledCache::open(&folder.join("cache"), CacheAccess::ReadWrite).unwrap().unwrap()
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn code_is_read_back_by_the_component_that_it_was_compiled_from() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        cache(folder.path()).write(one, b"code").unwrap();
        assert_eq!(cache(folder.path()).read(one).unwrap().unwrap(), b"code");
        assert_eq!(cache(folder.path()).read(other).unwrap(), None);
        // Under the name of another component it is not that component's.
        let cache = cache(folder.path());
        std::fs::rename(cache.file(one), cache.file(other)).unwrap();
        assert_eq!(cache.read(other).unwrap(), None);
    }

    #[test]
    fn code_of_which_a_bit_was_flipped_or_the_end_is_missing_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, component) = (cache(folder.path()), Digest::of(b"one"));
        cache.write(component, b"code").unwrap();
        let file = std::fs::read(cache.file(component)).unwrap();
        for position in 0..file.len() {
            let mut flipped = file.clone();
            flipped[position] ^= 1;
            for damaged in [&flipped[..], &file[..position]] {
                std::fs::write(cache.file(component), damaged).unwrap();
                assert_eq!(cache.read(component).unwrap(), None, "{position}");
            }
        }
    }

    #[test]
    fn a_reader_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        assert!(CompiledCache::open(&path, CacheAccess::Read).unwrap().is_none() && !path.exists());
        let component = Digest::of(b"one");
        cache(folder.path()).write(component, b"code").unwrap();
        let reader = CompiledCache::open(&path, CacheAccess::Read).unwrap().unwrap();
        assert_eq!(reader.read(component).unwrap().unwrap(), b"code");
    }

    #[test]
    fn code_that_was_written_under_another_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let component = Digest::of(b"one");
        cache(folder.path()).write(component, b"code").unwrap();
        std::fs::remove_file(folder.path().join("cache").join(KEY)).unwrap();
        assert_eq!(cache(folder.path()).read(component).unwrap(), None);
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let component = Digest::of(b"one");
        let path = folder.path().join("cache");
        cache(folder.path()).write(component, b"code").unwrap();
        let file = cache(folder.path()).file(component);

        set_mode(&file, 0o620);
        assert!(matches!(cache(folder.path()).read(component), Err(CacheError::Shared { .. })));
        set_mode(&file, 0o600);
        set_mode(&path.join(KEY), 0o602);
        assert!(matches!(CompiledCache::open(&path, CacheAccess::ReadWrite), Err(CacheError::Shared { .. })));
        set_mode(&path.join(KEY), 0o600);
        // In the folder itself others may put nothing, sticky or not; above it they may replace nothing.
        for (folder, mode, is_refused) in
            [(&*path, 0o770, true), (&path, 0o1777, true), (folder.path(), 0o777, true), (folder.path(), 0o1777, false)]
        {
            let before = folder.metadata().unwrap().mode();
            set_mode(folder, mode);
            assert_eq!(
                CompiledCache::open(&path, CacheAccess::ReadWrite).is_err(),
                is_refused,
                "{} {mode:o}",
                folder.display()
            );
            set_mode(folder, before & 0o7777);
        }
        // A link may lead to a file that others write.
        std::fs::rename(&file, path.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        assert!(cache(folder.path()).read(component).is_err());
    }
}
