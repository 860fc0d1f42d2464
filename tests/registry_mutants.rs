//! The mutants of the registry (`tests/mutants`, run by `tests/mutants/run`) fit the code that they change: a mutant that does
//! not apply any more shows nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

fn mutants() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut mutants: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    mutants.sort();
    mutants
}

/// The rest of the header's line that begins with this word.
fn header<'a>(mutant: &'a str, word: &str) -> Option<&'a str> {
    mutant.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(word)?.strip_prefix(": "))
}

/// Where a test of the crate itself stands: in the file of its module, or of the one around that.
fn file_of(root: &Path, test: &str) -> String {
    let module = test.rsplit_once("::").unwrap().0;
    let outer = module.rsplit_once("::").unwrap().0;
    let files = [module, outer].map(|module| format!("host/src/{}.rs", module.replace("::", "/")));
    let there = files.iter().find(|file| root.join(file).is_file());
    there.unwrap_or_else(|| panic!("no file has the module {module}")).clone()
}

#[test]
fn every_mutant_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mutants = mutants();
    assert!(mutants.len() >= 35, "{} mutants", mutants.len());
    let mut refused = Vec::new();
    for mutant in mutants {
        let mut patch = Command::new("patch");
        patch.args(["--dry-run", "--force", "--strip=1", "--directory"]).arg(root).stdin(File::open(&mutant).unwrap());
        let output = patch.output().expect("the tool `patch` is installed");
        if !output.status.success() {
            refused.push(format!("{}: {}", mutant.display(), String::from_utf8_lossy(&output.stdout)));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn every_mutant_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for mutant in mutants() {
        let text = std::fs::read_to_string(&mutant).unwrap();
        assert!(header(&text, "Mutant").is_some(), "{} does not say what it does", mutant.display());
        let red = header(&text, "Red").unwrap_or_else(|| panic!("{} names no test", mutant.display()));
        let (binary, test) = red.split_once(' ').unwrap();
        let name = test.rsplit("::").next().unwrap();
        let file = match binary {
            "lib" => file_of(root, test),
            binary => format!("tests/{binary}.rs"),
        };
        let source = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "{}: {file} has no test {name}", mutant.display());
    }
}
