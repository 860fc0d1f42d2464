//! The same component elsewhere: the exported policy runs under Node (jco) and Python (wasmtime), is given the recorded times
//! and seeds, and decides the whole corpus as it stands. `tests/interop/install` installs what that takes; without it a test
//! is skipped with a printed reason.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod corpus;
mod processes;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use corpus::Contract;
use cortex_mcp::policy::EMBEDDED_COMPONENT;
use flate2::Compression;
use flate2::write::GzEncoder;
use processes::Installation;
use processes::interop::{installed, run_to_end, transpiled};
use serde_json::{Value, json};

/// The corpus, the exported component and the contract, as files.
struct Export {
    installation: Installation,
    component: String,
    contract: String,
    traces: Vec<String>,
    records: usize,
}

impl Export {
    fn new() -> Self {
        let installation = Installation::new();
        let said = installation.run(&["policy", "export", "cortex-policy.wasm"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let component = installation.folder().join("cortex-policy.wasm");
        assert!(std::fs::read(&component).unwrap() == EMBEDDED_COMPONENT, "another component was exported");
        let contract = installation.file("contract.json", Contract::read().json().to_string());
        let files = corpus::files();
        let traces = files.iter().map(|file| file.display().to_string()).collect();
        let records = corpus::decisions(&files).len();
        Self { installation, component: component.display().to_string(), contract, traces, records }
    }

    fn home(&self) -> PathBuf {
        self.installation.folder().join("elsewhere")
    }

    /// Runs a script over the corpus, and over corpora in which one output was changed. Gives what to tell people.
    fn replay(&self, program: &Path, script: &str, policy: &str) -> String {
        let script = format!("{}/tests/interop/{script}", env!("CARGO_MANIFEST_DIR"));
        let began = Instant::now();
        let run = |traces: &[String]| {
            let traces: Vec<_> = traces.iter().map(String::as_str).collect();
            let said = run_to_end(&self.home(), program, &[&[&*script, policy, &self.contract], &traces[..]].concat());
            assert_eq!(said.stderr, "", "{script}");
            (said.code, said.json())
        };
        let (code, report) = run(&self.traces);
        let expected = json!({
            "records": self.records, "equal": self.records, "different": 0, "skipped": 0, "first_difference": null,
        });
        assert_eq!((code, report), (Some(0), expected), "{script}");
        let told = format!("{} decisions in {} ms", self.records, began.elapsed().as_millis());

        // Compressed, as most segments are.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&std::fs::read(corpus::file("alone")).unwrap()).unwrap();
        let (code, report) = run(&[self.installation.file("alone.jsonl.gz", encoder.finish().unwrap())]);
        let records = corpus::decisions(&[corpus::file("alone")]).len();
        assert_eq!((code, &report["equal"]), (Some(0), &json!(records)), "{script}: {report}");

        // One unit of one number, and one case instead of another.
        let forge = |change: &dyn Fn(&mut Value) -> Option<(&'static str, Value)>| {
            let text = std::fs::read_to_string(corpus::file("outage-and-recovery")).unwrap();
            let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let (at, (field, before)) = lines
                .iter_mut()
                .enumerate()
                .filter_map(|(at, line)| Some((at, change(line.get_mut("decision")?.get_mut("output")?)?)))
                .last()
                .unwrap();
            let forged: String = lines.iter().map(|line| format!("{line}\n")).collect();
            (self.installation.file("forged.jsonl", forged), at + 1, field, before)
        };
        let number = forge(&|output| {
            let until = output["result"].get("until_boot_ms")?.as_u64()?;
            output["result"]["until_boot_ms"] = json!(until + 1);
            Some(("until_boot_ms", json!(until)))
        });
        let (code, report) = run(&[number.0]);
        let first = &report["first_difference"];
        assert_eq!((code, report["different"].as_u64() > Some(0)), (Some(1), true), "{script}: {report}");
        assert_eq!((&first["function"], &first["field"]), (&json!("lookup"), &json!(number.2)), "{script}: {report}");
        assert_eq!(first["recorded"].as_u64().unwrap(), first["replayed"].as_u64().unwrap() + 1, "{script}: {report}");
        let name = |output: &mut Value| {
            let reason = output["result"].get("reason").filter(|reason| *reason == "ColdStart")?.clone();
            output["result"]["reason"] = json!("WarmStart");
            Some(("reason", reason))
        };
        let (file, line, field, before) = forge(&name);
        let (code, report) = run(&[file]);
        let first = &report["first_difference"];
        assert_eq!(
            (code, &first["function"], &first["field"]),
            (Some(1), &json!("refresh"), &json!(field)),
            "{report}"
        );
        assert_eq!((&first["recorded"], &first["replayed"]), (&json!("WarmStart"), &before), "{script}: {report}");
        assert!(first["line"].as_u64().unwrap() <= line as u64 && !first["subject"].as_str().unwrap().is_empty());
        told
    }
}

#[test]
fn the_exported_policy_decides_the_whole_corpus_alike_under_node() {
    let Some(node) = installed("bin/node") else { return };
    let export = Export::new();
    let Some(module) = transpiled(&export.home(), &std::fs::read(&export.component).unwrap()) else { return };
    println!("Node: {}", export.replay(&node, "replay.mjs", &module.display().to_string()));
}

#[test]
fn the_exported_policy_decides_the_whole_corpus_alike_under_python() {
    let Some(python) = installed("python/bin/python") else { return };
    let export = Export::new();
    println!("Python: {}", export.replay(&python, "replay.py", &export.component));
}
