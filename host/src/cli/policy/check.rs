//! `cortex-mcp policy check`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use cortex_mcp::policy::limits;
use cortex_mcp::trace::{ReplayReport, dry_run};
use serde_json::json;

use crate::cli::client::GatewayAddress;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Tone};
use crate::cli::replay::{read_candidate, replay, tell};
use crate::cli::traces::usual_trace;

/// Checks a policy before it may decide: its imports, exports and limits, every function once, and the decisions of a trace:
/// what would have been decided otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy check my-policy.wasm
  cortex-mcp policy check my-policy.wasm --trace incident.jsonl --json

Exit codes: 0 it can be deployed (differences are no failure), 1 it can not be loaded, or it faults.")]
pub(super) struct Check {
    /// The component.
    file: PathBuf,

    /// Trace files, or folders of them; by default the configured folder, or that of the running gateway, if there is one.
    #[arg(long, value_name = "TRACE")]
    trace: Vec<PathBuf>,

    /// Whose memos it is given; by default only its own digest's. The embedded default is of the family cortex-default.
    #[arg(long, value_name = "NAME")]
    family: Option<String>,

    /// Use its instances again, as `reuse = true` in gateway.toml does.
    #[arg(long)]
    reuse: bool,

    #[command(flatten)]
    address: GatewayAddress,
}

impl Check {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let began = Instant::now();
        let candidate = read_candidate(&self.file, self.family.as_deref(), self.reuse)?;
        let compile_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let inspection = candidate.inspection().clone();
        let dry_run = dry_run(&candidate);
        let traces = match (self.trace.is_empty(), usual_trace(&self.address)) {
            (false, _) => self.trace,
            // Nobody asked for one, and there may be none yet.
            (true, usual) => match usual.await {
                Ok(usual) => vec![usual],
                Err(CommandError::NoTrace { .. }) => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        let replayed = match traces.as_slice() {
            [] => None,
            traces => Some(replay(*output, traces, Some(candidate.clone()))?),
        };
        let report = replayed.as_ref().map(|replayed| &replayed.report);
        let faults = u64::try_from(dry_run.faults.len()).unwrap_or(u64::MAX) + report.map_or(0, |report| report.faults);
        output.value(&json!({
            "digest": inspection.digest,
            "size_bytes": inspection.size_bytes,
            "compile_ms": compile_ms,
            "imports": inspection.imports,
            "exports": inspection.exports,
            "dry_run": dry_run,
            "trace": report,
            "deployable": faults == 0,
        }));
        output.line(format_args!("digest   {}", inspection.digest));
        output.line(format_args!(
            "size     {} of at most {} bytes, loaded in {compile_ms} ms",
            inspection.size_bytes,
            limits::COMPONENT_BYTES_MAX
        ));
        output.line(format_args!("imports  {}", inspection.imports.join(", ")));
        output.line(format_args!("exports  {} functions", inspection.exports.len()));
        output.line(format_args!(
            "dry run  {} functions asked once, {} faulted; at most {} permille of a call's fuel",
            dry_run.functions,
            dry_run.faults.len(),
            dry_run.fuel_permille_max
        ));
        for fault in &dry_run.faults {
            output.line(format_args!("         {}: {}", fault.function.name(), fault.fault));
        }
        output.line("");
        match &replayed {
            Some(replayed) => tell(*output, replayed, true),
            None => output
                .line("no trace is at hand: what it would decide otherwise is not known; name a trace with --trace"),
        }
        output.line(verdict(*output, faults, report));
        Ok(if faults == 0 { Exit::Good } else { Exit::Failed })
    }
}

fn verdict(output: Output, faults: u64, report: Option<&ReplayReport>) -> String {
    match (faults, report.map(|report| report.different)) {
        (1.., _) => output.tone(&format!("it faults ({faults} times): do not deploy it"), Tone::Bad),
        (0, Some(1..)) => output.tone("it can be deployed; look at what it decides otherwise", Tone::Doubtful),
        (0, _) => output.tone("it can be deployed", Tone::Good),
    }
}
