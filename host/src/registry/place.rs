//! Where the registry's file is: a symbolic link is followed once, when the registry is opened, and the folder that it leads
//! to holds the lock, the journals and everything else (defect R12).

use std::io;
use std::path::{Path, PathBuf};

use crate::edge::disk::SystemDisk;

/// A registry's folder and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPlace {
    /// The folder.
    pub folder: PathBuf,
    /// The name of the file in it.
    pub file: String,
}

/// How many symbolic links are followed: as many as Linux follows.
const LINKS_FOLLOWED: usize = 40;

impl RegistryPlace {
    /// The place that a path leads to, which need not be there.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it names no file, or leads in a circle, or whatever the file system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_FOLLOWED {
            match std::fs::read_link(&path) {
                Ok(target) => path = path.parent().unwrap_or(Path::new(".")).join(target),
                // What is no link, or is not there, is where the links end.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                    let file = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
                    let folder = path.parent().unwrap_or(Path::new("."));
                    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                    return Ok(Self { folder: folder.to_owned(), file: file.to_owned() });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the symbolic links lead in a circle"))
    }

    /// Opens the folder, and makes it first if it is missing.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(&self) -> io::Result<SystemDisk> {
        SystemDisk::open_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_leads_to_the_folder_of_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        std::os::unix::fs::symlink("../two/mine.json", one.join("servers.json")).unwrap();
        let place = RegistryPlace::of(&one.join("servers.json")).unwrap();
        assert_eq!(place.file, "mine.json");
        assert_eq!(place.folder.canonicalize().unwrap(), two.canonicalize().unwrap());
        let plain = RegistryPlace::of(&two.join("servers.json")).unwrap();
        assert_eq!((plain.folder, plain.file.as_str()), (two, "servers.json"));
    }

    #[test]
    fn links_that_lead_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("b")).unwrap();
        assert!(RegistryPlace::of(&folder.path().join("a")).is_err());
    }
}
