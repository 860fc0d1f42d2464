//! The main job, measured on the release binary: `cargo bench --bench main_job`.
//!
//! Each scene runs several times in one go; medians are compared with medians of the same run, so that what is reported
//! are ratios. One of them is judged: who calls a fast connector must not wait for who calls a slow one. The bench fails if
//! that comes out too slow again and again.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cortex_mcp::config::{Environment, Settings};
use cortex_mcp::demo::{Signer, Stage, StageOptions};
use cortex_mcp::gateway::Gateway;
use cortex_mcp::service_map::signed_document;
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;

const RUNS: usize = 3;

/// Calls that are made to the slow connector at once, over and over.
const CALLERS: usize = 1_000;

/// How long the slow connector takes for a call.
const SLOW: Duration = Duration::from_millis(500);

/// Calls to the fast connector of which a percentile is made.
const CALLS: usize = 3_000;

/// How much longer the slowest hundredth of calls to a fast connector may take beside all callers of the slow one.
const ISOLATION_MOST: f64 = 1.5;

/// How often that is measured before it is believed: what else runs on the machine disturbs one measurement, not all.
const ISOLATION_TRIES: usize = 3;

fn main() -> ExitCode {
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

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let is_isolated = (0..ISOLATION_TRIES).any(|_| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime.block_on(isolation(folder.path())) <= ISOLATION_MOST
    });
    if is_isolated {
        return ExitCode::SUCCESS;
    }
    line(
        "FAILED: callers of a slow connector hold others up",
        &format!("{ISOLATION_TRIES} times of {ISOLATION_TRIES}"),
    );
    ExitCode::FAILURE
}

/// How long calls to a fast connector take, alone and beside a thousand callers of a slow one, alternately. Returns the ratio
/// of the 99th percentiles, each the median of its rounds.
async fn isolation(folder: &Path) -> f64 {
    let key = SecretString::from("a key");
    let sign: Signer = Arc::new(move |document| signed_document(document, &key).ok());
    let options = StageOptions { connectors: 2, tools: 3, latency: Duration::ZERO, dead: 0, hung: 0 };
    let stage = Stage::set_up(options, sign).await.expect("a stage");
    stage.server(1).expect("the first server").set_latency_of("tools/call", SLOW);
    let environment = Environment::default()
        .plus("CORTEX_HOME", &folder.display().to_string())
        .plus("CONNECTORS_SERVICE_MAP_URL", stage.map_url().as_str())
        .plus("CONNECTORS_SERVICE_MAP_TOKEN", stage.token())
        .plus("CONNECTORS_SIGNATURE_KEY", "a key");
    let mut settings = Settings::from_environment(&environment).expect("settings");
    settings.trace = None;
    let gateway = Gateway::builder(settings).start().await.expect("a gateway");
    gateway.first_pass().await;
    // Connections and caches are warm.
    fast_calls(&gateway).await;

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        alone.push(fast_calls(&gateway).await);
        let mut callers: JoinSet<()> = (0..CALLERS).map(|_| call_without_end(gateway.clone())).collect();
        // Everybody has made a first call: ten are under way, some hundreds wait, the rest was refused.
        tokio::time::sleep(SLOW).await;
        beside.push(fast_calls(&gateway).await);
        callers.shutdown().await;
        tokio::time::sleep(SLOW).await;
    }
    let ratios = [("p50", 0), ("p99", 1)].map(|(name, at)| {
        let [alone, beside] = [&alone, &beside].map(|runs| {
            let mut values: Vec<Duration> = runs.iter().map(|run| run[at]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        });
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        let wanted = if name == "p99" { format!(" (at most {ISOLATION_MOST})") } else { String::new() };
        line(&format!("a fast connector's calls, {name}, alone"), &format!("{alone:.1?}"));
        line(&format!("beside {CALLERS} callers of a slow one"), &format!("{beside:.1?}, {ratio:.2} x{wanted}"));
        ratio
    });
    gateway.shut_down().await;
    ratios[1]
}

/// The median and the 99th percentile of calls one after the other.
async fn fast_calls(gateway: &Gateway) -> [Duration; 2] {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        gateway.call("server-02__echo", None).await.expect("an answer");
        times.push(started.elapsed());
    }
    times.sort_unstable();
    [times[CALLS / 2], times[CALLS * 99 / 100]]
}

/// Calls the slow connector; who is refused comes back when it was told to.
async fn call_without_end(gateway: Gateway) {
    loop {
        if let Err(error) = gateway.call("server-01__echo", None).await {
            tokio::time::sleep(error.retry_after().unwrap_or(SLOW)).await;
        }
    }
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
