//! What `tests/interop/install` installed: programs in other languages, and what is made with them. Where it is missing a
//! test is skipped with a printed reason, unless `CORTEX_REQUIRE_INTEROP=1`.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Finished;
use super::installation::finish;

/// A program below the folder of what is installed. None, with the reason printed, if it is not there.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CORTEX_INTEROP_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop"),
        |folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
    );
    let path = folder.join(program);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{program} is not installed; run tests/interop/install"));
    None
}

/// Says why a test is skipped, which it may not be where everything is required.
pub(crate) fn skipped(reason: &str) {
    assert!(std::env::var_os("CORTEX_REQUIRE_INTEROP").is_none_or(|value| value != "1"), "SKIPPED: {reason}");
    println!("SKIPPED: {reason}");
}

/// Runs a program to its end, with this home and without the tester's environment; it must do well.
pub(crate) fn run(home: &Path, program: &Path, arguments: &[&str]) -> Finished {
    let finished = run_to_end(home, program, arguments);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
}

/// The same for a program that may do badly.
pub(crate) fn run_to_end(home: &Path, program: &Path, arguments: &[&str]) -> Finished {
    std::fs::create_dir_all(home).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HOME", home).env("TMPDIR", home).current_dir(home);
    command.env("PATH", program.parent().unwrap()).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command)
}

/// Runs the component tools for JavaScript; none if they are not installed.
pub(crate) fn jco(home: &Path, arguments: &[&str]) -> Option<Finished> {
    let (node, jco) = (installed("bin/node")?, installed("node_modules/.bin/jco")?);
    Some(run(home, &node, &[&[jco.display().to_string().as_str()], arguments].concat()))
}

/// A policy in JavaScript as a component, by the command that its first lines give; none if the tools are not installed.
pub(crate) fn javascript_policy(home: &Path, source: &Path) -> Option<Vec<u8>> {
    let component = home.join("javascript-policy.wasm");
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/wit");
    let (source, output) = (source.display().to_string(), component.display().to_string());
    let quickjs = ["--backend", "qjs", "--backend-qjs-disable-async", "--backend-qjs-stub-wasi"];
    let what = ["componentize", &source, "-w", wit, "-n", "policy", "-o", &output];
    jco(home, &[&what[..], &quickjs].concat())?;
    Some(std::fs::read(component).unwrap())
}

/// A policy as a module that Node can import (`instantiate(load, imports)`); none if the tools are not installed.
pub(crate) fn transpiled(home: &Path, component: &[u8]) -> Option<PathBuf> {
    std::fs::create_dir_all(home).unwrap();
    let (file, folder) = (home.join("policy.wasm"), home.join("policy-node"));
    std::fs::write(&file, component).unwrap();
    let (input, output) = (file.display().to_string(), folder.display().to_string());
    jco(home, &["transpile", &input, "-o", &output, "--instantiation", "async", "--quiet"])?;
    std::fs::write(folder.join("package.json"), r#"{"type":"module"}"#).unwrap();
    Some(folder.join("policy.js"))
}
