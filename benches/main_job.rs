//! The main job, measured on the release binary: `cargo bench --bench main_job`.
//!
//! Each scene runs several times in one go; medians are compared with medians of the same run, so that what is reported
//! are ratios. Nothing here decides a test.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]

use std::process::Command;

use serde_json::Value;

const RUNS: usize = 3;

fn main() {
    let all = demo(&["--connectors", "10", "--latency-ms", "500"], &[]);
    let one_at_a_time = demo(&["--connectors", "10", "--latency-ms", "500"], &[("MCP_CONNECTOR_CONCURRENCY", "1")]);
    let eight = demo(&["--connectors", "8", "--latency-ms", "500"], &[]);
    let troubled = demo(&["--connectors", "10", "--latency-ms", "500", "--dead", "1", "--hung", "1"], &[]);

    let sync = median(&all, "sync_ms");
    let trips = median(&all, "round_trips");
    line("connectors x latency", "10 x 500 ms");
    line("round trips, legacy", &format!("{} (at most 3)", median(&all, "round_trips_legacy")));
    line("round trips, modern", &format!("{} (at most 2)", median(&all, "round_trips_modern")));
    line("sync", &format!("{sync} ms"));
    line("sync / (round trips x latency)", &format!("{:.3} (at most 1.10)", ratio(sync, trips * 500)));
    let sequential = median(&one_at_a_time, "sync_ms");
    line("sync, one at a time", &format!("{sequential} ms"));
    line("less than one at a time by", &format!("{:.1} % (at least 80)", 100.0 * (1.0 - ratio(sync, sequential))));
    let (alone, beside) = (median(&eight, "healthy_ms"), median(&troubled, "healthy_ms"));
    line("eight healthy, alone", &format!("{alone} ms"));
    line("eight healthy, beside one dead and one hung", &format!("{beside} ms"));
    line("difference", &format!("{} ms (at most 100)", beside.abs_diff(alone)));
    line("failures named", &median(&troubled, "failed").to_string());
}

/// Runs the demo and reads what it prints.
fn demo(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<Value> {
    let run = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cortex-mcp"));
        command.args(["demo", "--once", "--json"]).args(arguments).env_remove("MCP_CONNECTOR_CONCURRENCY");
        command.envs(variables.iter().copied());
        let output = command.output().expect("the binary runs");
        serde_json::from_slice(&output.stdout).expect("the demo prints one object")
    };
    (0..RUNS).map(run).collect()
}

fn median(runs: &[Value], field: &str) -> u64 {
    let mut values: Vec<u64> = runs.iter().map(|run| run[field].as_u64().expect("a number")).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

#[expect(clippy::print_stdout, reason = "the report")]
fn line(what: &str, value: &str) {
    println!("{what:<45} {value}");
}
