//! The README's "Write your own policy", followed step by step in an empty folder: every block marked `author`, in its
//! order. A block of `sh` is run, any other is written to the file that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::path::Path;
use std::process::Command;

use cortex_mcp::model::{BootId, BootMs, Moment, WallMs};
use cortex_mcp::policy::contract::{
    ActiveRun, RefreshConfig, RefreshEvent, RefreshMode, RefreshPhase, RefreshState, SubjectKind, SucceededEvent,
};
use cortex_mcp::policy::{Input, InstanceUse, Output, PolicyComponent};

/// One block of the README: the words after its fence, and its lines.
struct Block {
    words: Vec<String>,
    text: String,
}

/// The blocks marked `author`.
fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = None;
    for line in readme.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(words), None) => {
                let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
                inside = Some(words.get(1).is_some_and(|word| word == "author"));
                if inside == Some(true) {
                    blocks.push(Block { words, text: String::new() });
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// The walk as one script. Builds go to a folder that outlives the test, as soon as there is a crate to link it into.
fn script(blocks: &[Block], target: &Path) -> String {
    let mut script = String::from("set -euo pipefail\n");
    let mut linked = false;
    for Block { words, text } in blocks {
        match words.iter().find_map(|word| word.strip_prefix("file=")) {
            Some(file) => {
                script +=
                    &format!("mkdir -p \"$(dirname {file})\"\ncat > {file} <<'END OF BLOCK'\n{text}END OF BLOCK\n");
            }
            None => {
                assert_eq!(words[0], "sh", "a block that is neither run nor written");
                script += text;
            }
        }
        if !linked && text.contains("cargo new") {
            script += &format!("ln -s '{}' target\n", target.display());
            linked = true;
        }
    }
    script
}

/// What the README says of the policy.
fn refreshes_half_as_often(policy: &[u8]) {
    let policy = PolicyComponent::load(policy, "mine", InstanceUse::Fresh).unwrap();
    let config = RefreshConfig {
        kind: SubjectKind::Connector,
        mode: RefreshMode::Background,
        interval_ms: 300_000,
        floor_ms: 30_000,
        jitter_permille: 0,
        backoff_min_ms: 500,
        backoff_max_ms: 60_000,
        options: Vec::new(),
    };
    let running = RefreshPhase::Running(ActiveRun { run_id: 1, since_boot_ms: 1_000, again: false });
    let state = RefreshState { phase: running, ..RefreshState::initial() };
    let event = RefreshEvent::Succeeded(SucceededEvent { run_id: 1, duration_ms: 10, fresh_for_ms: None });
    let moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(2_000), boot_id: BootId(1) };
    let input = Input::Refresh { config, state, event };
    let next = |policy: &PolicyComponent| match policy.decide(&input, moment, 1).unwrap() {
        Output::Refresh(decision) => decision.run_at_boot_ms,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&PolicyComponent::embedded().unwrap()), Some(302_000));
    assert_eq!(next(&policy), Some(602_000));
}

#[test]
fn the_walk_of_an_author_can_be_followed_step_by_step() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme-author");
    std::fs::create_dir_all(&target).unwrap();
    // Outside of this workspace, as an author is.
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_cortex-mcp")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = Command::new("bash");
    command.arg("-c").arg(script(&blocks, &target)).current_dir(folder.path());
    // What the outer cargo tells its tests must not reach the inner one; what is downloaded already is enough for it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if (name.starts_with("CARGO") && name != "CARGO_HOME")
            || name.starts_with("RUSTFLAGS")
            || name.starts_with("RUSTC_")
        {
            command.env_remove(name);
        }
    }
    command.env("PATH", path.unwrap()).env("TMPDIR", folder.path()).env("CARGO_NET_OFFLINE", "true");
    command.env("CORTEX_HOME", folder.path().join("home")).env("CARGO_TERM_COLOR", "never");
    let output = command.output().unwrap();
    let (said, complained) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");

    let policy = std::fs::read(folder.path().join("my-policy/my-policy.wasm")).unwrap();
    let digest = cortex_mcp::model::Digest::of(&policy);
    assert!(said.contains(&format!("digest  {digest}")), "{said}");
    assert!(said.contains(&format!("decided by policy {}", digest.short(12))), "{said}");
    refreshes_half_as_often(&policy);
    for line in said.lines().filter(|line| line.starts_with("import  ")) {
        assert!(line.contains("cortex:policy/"), "{line}");
    }
}
