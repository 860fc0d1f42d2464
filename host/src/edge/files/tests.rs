use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn directories() -> (tempfile::TempDir, Vec<Box<dyn Directory>>) {
    let folder = tempfile::tempdir().unwrap();
    let system = SystemDirectory::open(&folder.path().join("a/b")).unwrap();
    (folder, vec![Box::new(system), Box::new(MemoryDirectory::new())])
}

#[test]
fn what_was_replaced_is_read_back() {
    let (_folder, directories) = directories();
    for directory in directories {
        assert_eq!(directory.read("x").unwrap(), None);
        directory.replace("x", b"one").unwrap();
        directory.replace("x", b"two").unwrap();
        assert_eq!(directory.read("x").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(directory.names().unwrap(), ["x"]);
        directory.rename("x", "y").unwrap();
        assert_eq!(directory.names().unwrap(), ["y"]);
        directory.remove("y").unwrap();
        assert!(directory.names().unwrap().is_empty());
    }
}

#[test]
fn a_file_above_the_cap_is_refused_and_a_missing_one_is_none() {
    let (_folder, directories) = directories();
    for directory in directories {
        directory.replace("x", b"four").unwrap();
        assert_eq!(directory.read_at_most("x", 4).unwrap().as_deref(), Some(&b"four"[..]));
        assert_eq!(directory.read_at_most("x", 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(directory.read_at_most("y", 3).unwrap(), None);
    }
}

#[test]
fn a_file_looks_the_same_until_it_is_replaced() {
    let (_folder, directories) = directories();
    for directory in directories {
        assert_eq!(directory.look("x").unwrap(), None);
        directory.replace("x", b"one").unwrap();
        let before = directory.look("x").unwrap();
        assert!(before.is_some_and(|look| look.length == 3));
        assert_eq!(directory.look("x").unwrap(), before);
        directory.replace("x", b"two").unwrap();
        assert_ne!(directory.look("x").unwrap(), before);
    }
}

#[test]
fn a_lock_is_held_by_one_at_a_time_and_ends_with_its_guard() {
    let (_folder, directories) = directories();
    for directory in directories {
        let first = directory.try_lock("lock").unwrap();
        assert!(first.is_some());
        assert!(directory.try_lock("lock").unwrap().is_none());
        drop(first);
        assert!(directory.try_lock("lock").unwrap().is_some());
    }
}

#[test]
fn a_growing_file_is_read_while_it_grows_and_is_locked_until_it_is_dropped() {
    let (_folder, directories) = directories();
    for directory in directories {
        let mut growing = directory.create("x").unwrap();
        growing.append(b"one ").unwrap();
        growing.append(b"two").unwrap();
        growing.sync().unwrap();
        assert_eq!(directory.read("x").unwrap().as_deref(), Some(&b"one two"[..]));
        assert!(directory.create("x").is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists));
        assert!(directory.try_lock("x").unwrap().is_none());
        drop(growing);
        assert!(directory.try_lock("x").unwrap().is_some());
    }
}

#[test]
fn files_are_private_and_paths_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    let directory = SystemDirectory::open(&folder.path().join("new")).unwrap();
    directory.replace("x", b"secret").unwrap();
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("new/x")), (0o700, 0o600));
    assert!(directory.read("../x").is_err());
}

#[test]
fn a_growing_file_can_be_cut_back_and_grows_on_from_there() {
    let (_folder, directories) = directories();
    for directory in directories {
        let mut growing = directory.create("x").unwrap();
        growing.append(b"whole half").unwrap();
        growing.truncate(6).unwrap();
        assert_eq!(directory.read("x").unwrap().as_deref(), Some(&b"whole "[..]));
        growing.append(b"again").unwrap();
        assert_eq!(directory.read("x").unwrap().as_deref(), Some(&b"whole again"[..]));
    }
}

#[test]
fn the_start_of_a_file_is_read_without_the_rest() {
    let (_folder, directories) = directories();
    for directory in directories {
        directory.replace("x", b"first line\nsecond").unwrap();
        assert_eq!(directory.read_start("x", 5).unwrap().as_deref(), Some(&b"first"[..]));
        assert_eq!(directory.read_start("x", 500).unwrap().unwrap().len(), 17);
        assert_eq!(directory.read_start("y", 5).unwrap(), None);
    }
}

#[test]
fn a_range_of_a_file_is_read_and_a_missing_part_is_an_error() {
    let (_folder, directories) = directories();
    for directory in directories {
        let mut growing = directory.create("x").unwrap();
        growing.append(b"first second").unwrap();
        directory.persist("x").unwrap();
        assert_eq!(directory.read_range("x", 6, 6).unwrap(), b"second");
        assert_eq!(directory.read_range("x", 7, 6).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(directory.read_range("y", 0, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(directory.persist("y").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
