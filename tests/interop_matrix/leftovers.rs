//! Which processes of a test still run: those whose command or environment names its folder.

use std::path::Path;

/// The commands of all processes that know of a folder, but for this one.
pub(crate) fn processes_that_know(folder: &Path) -> Vec<String> {
    let (marker, own) = (folder.display().to_string(), std::process::id().to_string());
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // One that has just ended, or is somebody else's, can not be read.
        let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
        let (command, environment) = (read("cmdline"), read("environ"));
        if [&command, &environment].iter().any(|bytes| String::from_utf8_lossy(bytes).contains(&marker)) {
            found.push(format!("{name} {}", String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}
