//! Who besides the gateway's user can write a file: what it says is done with the rights of the gateway.
//!
//! Looked at are owners and mode bits of the file and of every folder above it, on the way that is written and on the way
//! that links lead. Access control lists are not.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Who besides the gateway's user and root can write a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// No other user.
    Private,
    /// The members of a group.
    Group(Exposure),
    /// Any user, or another owner.
    Others(Exposure),
}

/// What another user can do to a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// A file or folder of another user.
    #[error("{path} belongs to another user (uid {uid}); give it to the gateway's user (chown)", path = .path.display())]
    OtherOwner {
        /// Which one.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A file that others can write, or a folder in which they can replace it.
    #[error("{path} has the mode {mode:04o}; make it private (chmod go-w)", path = .path.display())]
    Writable {
        /// Which one.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Whether a file, or a folder, can be written by others than this user and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Writers {
    /// By these only.
    Owner,
    /// By a group too.
    Group,
    /// By everybody.
    Everybody,
    /// By another owner.
    OtherOwner,
}

impl Writers {
    /// Those of a file, or of the names in a folder: where it has the sticky bit, others cannot replace what is not theirs.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mode = if metadata.is_dir() && metadata.mode() & STICKY != 0 { 0 } else { metadata.mode() };
        Self::new(metadata.uid(), mode)
    }

    fn new(owner: u32, mode: u32) -> Self {
        match owner {
            uid if uid != 0 && uid != rustix::process::geteuid().as_raw() => Self::OtherOwner,
            _ if mode & 0o002 != 0 => Self::Everybody,
            _ if mode & 0o020 != 0 => Self::Group,
            _ => Self::Owner,
        }
    }
}

const STICKY: u32 = 0o1000;

/// As many symbolic links as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Who can write a file, or put one there where none is. Of a file on a read-only mount, only the ways that lead there count.
///
/// # Errors
/// Whatever the file system says.
pub fn file_access(path: &Path) -> io::Result<FileAccess> {
    let mut worst = (Writers::Owner, FileAccess::Private);
    let mut path = std::path::absolute(path)?;
    for _ in 0..=LINKS_MAX {
        let mut next = None;
        // From the root on: what is written behind a link is not on the way.
        let mut real = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            if part == Component::ParentDir {
                real.pop()
            } else {
                real.push(part);
                true
            };
            let Some(metadata) = if_there(real.symlink_metadata())? else { break };
            let is_last = parts.as_path().as_os_str().is_empty();
            look(&mut worst, &real, &metadata, is_last, &path);
            if metadata.is_symlink() {
                let target = real.parent().unwrap_or(&real).join(std::fs::read_link(&real)?);
                next = Some(target.join(parts.as_path()));
                break;
            }
        }
        match next {
            Some(target) => path = target,
            None => return Ok(worst.1),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the symbolic links lead in a circle"))
}

/// Looks at one file, folder or link on the way to a file.
fn look(worst: &mut (Writers, FileAccess), at: &Path, metadata: &Metadata, is_last: bool, file: &Path) {
    let is_folder_of_file = metadata.is_dir() && Some(at) == file.parent();
    let mut writers = match metadata {
        // Any user may link to anything; the owner of the link, or of the folder that it is in, chooses where to.
        link if link.is_symlink() => Writers::new(link.uid(), 0),
        // In such a folder others cannot replace a file, but put one where none is: a journal is taken over with the rest.
        folder if is_folder_of_file && !file.exists() => Writers::new(folder.uid(), folder.mode()),
        other => Writers::of(other),
    };
    let is_on_read_only_mount =
        || rustix::fs::statvfs(at).is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    // A folder of the system that a sandbox does not map belongs to a user that is none.
    let is_unmapped = metadata.uid() == overflow_user() && metadata.mode() & 0o022 == 0 && metadata.is_dir();
    if writers > Writers::Owner && (is_unmapped || (is_last || is_folder_of_file) && is_on_read_only_mount()) {
        writers = Writers::Owner;
    }
    if writers > worst.0 {
        let (path, mode) = (at.to_owned(), metadata.mode() & 0o7777);
        let access = match writers {
            Writers::Owner => FileAccess::Private,
            Writers::Group => FileAccess::Group(Exposure::Writable { path, mode }),
            Writers::Everybody => FileAccess::Others(Exposure::Writable { path, mode }),
            Writers::OtherOwner => FileAccess::Others(Exposure::OtherOwner { path, uid: metadata.uid() }),
        };
        *worst = (writers, access);
    }
}

/// The user that a user namespace shows in the place of those that it does not map (user_namespaces(7)).
fn overflow_user() -> u32 {
    let known = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    known.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW_USER)
}

/// The default of Linux.
const OVERFLOW_USER: u32 = 65_534;

/// A path that leads through a file leads to nothing either.
fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A private folder with `above/folder/file`.
    fn world() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("above/folder");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("file");
        std::fs::write(&file, "").unwrap();
        for (path, mode) in [(home.path().join("above"), 0o700), (folder, 0o700), (file.clone(), 0o600)] {
            set_mode(&path, mode);
        }
        (home, file)
    }

    #[test]
    fn modes_of_the_file_and_of_every_folder_above_count() {
        let (home, file) = world();
        let (above, folder) = (home.path().join("above"), file.parent().unwrap().to_owned());
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private);
        let private = |path: &Path| if path == file { 0o600 } else { 0o700 };
        for (path, mode) in [(&file, 0o602), (&file, 0o666), (&folder, 0o703), (&folder, 0o777), (&above, 0o702)] {
            set_mode(path, mode);
            let exposure = Exposure::Writable { path: path.clone(), mode };
            assert_eq!(file_access(&file).unwrap(), FileAccess::Others(exposure), "{mode:o}");
            set_mode(path, private(path));
        }
        for (path, mode) in [(&file, 0o660), (&folder, 0o770), (&above, 0o730)] {
            set_mode(path, mode);
            let exposure = Exposure::Writable { path: path.clone(), mode };
            assert_eq!(file_access(&file).unwrap(), FileAccess::Group(exposure), "{mode:o}");
            set_mode(path, private(path));
        }
        for mode in [0o1777, 0o1770, 0o755] {
            set_mode(&folder, mode);
            assert_eq!(file_access(&file).unwrap(), FileAccess::Private, "sticky, or readable: {mode:o}");
        }
        set_mode(&file, 0o644);
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private, "others may read it");
    }

    #[test]
    fn a_file_that_is_missing_can_be_put_there_by_others() {
        let (_home, file) = world();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private);
        set_mode(file.parent().unwrap(), 0o777);
        assert!(matches!(file_access(&file).unwrap(), FileAccess::Others(_)));
    }

    #[test]
    fn links_are_looked_at_on_both_ways() {
        let (home, file) = world();
        let (_other, target) = world();
        std::fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private);
        set_mode(target.parent().unwrap(), 0o777);
        assert!(matches!(file_access(&file).unwrap(), FileAccess::Others(_)), "where the link leads");
        set_mode(target.parent().unwrap(), 0o700);
        set_mode(&home.path().join("above"), 0o777);
        assert!(matches!(file_access(&file).unwrap(), FileAccess::Others(_)), "where the link is");
    }

    #[test]
    fn every_folder_on_a_chain_of_links_counts() {
        let (home, file) = world();
        let (_middle, between) = world();
        let (_end, target) = world();
        for link in [&file, &between] {
            std::fs::remove_file(link).unwrap();
        }
        symlink(&between, &file).unwrap();
        symlink(&target, &between).unwrap();
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private);
        set_mode(between.parent().unwrap(), 0o777);
        assert!(matches!(file_access(&file).unwrap(), FileAccess::Others(_)), "where a link in the middle is");
        set_mode(between.parent().unwrap(), 0o700);
        // A link of a folder, and one that is relative and goes up.
        let (folder, up) = (home.path().join("folder"), home.path().join("up"));
        symlink(between.parent().unwrap(), &folder).unwrap();
        symlink("folder/../folder/file", &up).unwrap();
        for path in [folder.join("file"), up.clone()] {
            assert_eq!(file_access(&path).unwrap(), FileAccess::Private, "{}", path.display());
        }
        set_mode(target.parent().unwrap(), 0o707);
        for path in [folder.join("file"), up] {
            assert!(matches!(file_access(&path).unwrap(), FileAccess::Others(_)), "{}", path.display());
        }
        std::fs::remove_file(&file).unwrap();
        symlink(&file, &file).unwrap();
        assert!(file_access(&file).is_err(), "a circle");
    }

    #[test]
    fn in_a_sticky_folder_others_put_a_file_where_none_is() {
        let (_home, file) = world();
        set_mode(file.parent().unwrap(), 0o1777);
        assert_eq!(file_access(&file).unwrap(), FileAccess::Private);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(file_access(&file).unwrap(), FileAccess::Others(_)));
    }

    #[test]
    fn what_belongs_to_another_user_is_theirs_to_write() {
        let (home, file) = world();
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        for path in [file.clone(), file.parent().unwrap().to_owned(), home.path().join("above")] {
            chown(&path, Some(4_242), None).unwrap();
            let exposure = Exposure::OtherOwner { path: path.clone(), uid: 4_242 };
            assert_eq!(file_access(&file).unwrap(), FileAccess::Others(exposure));
            chown(&path, Some(0), None).unwrap();
        }
    }
}
