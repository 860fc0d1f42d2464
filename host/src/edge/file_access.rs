//! Who besides the gateway's user can write a file: what it says is done with the rights of the gateway.
//!
//! Looked at are owners and mode bits of the file and of every folder above it, on the way that is written and on the way
//! that links lead. Access control lists are not.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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
        match metadata.uid() {
            uid if uid != 0 && uid != rustix::process::geteuid().as_raw() => Self::OtherOwner,
            _ if mode & 0o002 != 0 => Self::Everybody,
            _ if mode & 0o020 != 0 => Self::Group,
            _ => Self::Owner,
        }
    }
}

const STICKY: u32 = 0o1000;

/// Who can write a file, or put one there where none is. What is mounted read-only can be written by nobody.
///
/// # Errors
/// Whatever the file system says.
pub fn file_access(path: &Path) -> io::Result<FileAccess> {
    let path = std::path::absolute(path)?;
    let mut looked_at: BTreeSet<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    for above in path.ancestors() {
        match above.canonicalize() {
            Ok(real) => looked_at.extend(real.ancestors().map(Path::to_owned)),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if rustix::fs::statvfs(&path).is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)) {
        return Ok(FileAccess::Private);
    }
    let mut worst = (Writers::Owner, FileAccess::Private);
    for path in looked_at {
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        let writers = Writers::of(&metadata);
        if writers > worst.0 {
            let mode = metadata.mode() & 0o7777;
            worst = (
                writers,
                match writers {
                    Writers::Owner => FileAccess::Private,
                    Writers::Group => FileAccess::Group(Exposure::Writable { path, mode }),
                    Writers::Everybody => FileAccess::Others(Exposure::Writable { path, mode }),
                    Writers::OtherOwner => FileAccess::Others(Exposure::OtherOwner { path, uid: metadata.uid() }),
                },
            );
        }
    }
    Ok(worst.1)
}

/// A path that leads through a file leads to nothing either.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
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
