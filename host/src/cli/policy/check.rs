//! `cortex-mcp policy check`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use cortex_mcp::model::style::Style;
use cortex_mcp::policy::{PolicyComponent, limits};
use cortex_mcp::trace::{ReplayReport, dry_run};
use serde_json::json;

use crate::cli::client::GatewayAddress;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span};
use crate::cli::replay::{Replayed, read_candidate, replay, tell};
use crate::cli::traces::usual_trace;

/// Checks a policy before it may decide: its imports, exports and limits, every function once, and the decisions of a trace:
/// what would have been decided otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy check my-policy.wasm
  cortex-mcp policy check my-policy.wasm --trace incident.jsonl --json

Exit codes: 0 it can be deployed (differences are no failure), 1 it can not be loaded, it faults, or a trace that --trace
names can not be read.")]
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
        let Compared { traces, replayed, failure } = self.compare(*output, candidate).await?;
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
            "traces": traces,
            "trace_failure": failure,
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
        let named: Vec<String> = traces.iter().map(|trace| trace.display().to_string()).collect();
        match (&replayed, &failure) {
            (Some(replayed), _) => {
                output.line(format_args!("compared with the decisions in {}:", named.join(", ")));
                tell(*output, replayed, true);
            }
            (None, Some(failure)) => output.line(format_args!(
                "the usual trace at {} could not be compared: {failure}; name another with --trace",
                named.join(", ")
            )),
            (None, None) => output
                .line("no trace is at hand: what it would decide otherwise is not known; name a trace with --trace"),
        }
        output.spans([verdict(faults, report)]);
        Ok(if faults == 0 { Exit::Good } else { Exit::Failed })
    }
}

/// What a candidate was compared with.
struct Compared {
    traces: Vec<PathBuf>,
    replayed: Option<Replayed>,
    /// Why the usual trace could not be read: nobody asked for it.
    failure: Option<String>,
}

impl Check {
    /// Makes the decisions of the named traces again, or of the usual one, if there is one.
    async fn compare(self, output: Output, candidate: Arc<PolicyComponent>) -> Result<Compared, CommandError> {
        if !self.trace.is_empty() {
            let replayed = replay(output, &self.trace, Some(candidate))?;
            return Ok(Compared { traces: self.trace, replayed: Some(replayed), failure: None });
        }
        let traces = match usual_trace(&self.address).await {
            Ok(usual) => vec![usual],
            Err(CommandError::NoTrace { .. }) => {
                return Ok(Compared { traces: Vec::new(), replayed: None, failure: None });
            }
            Err(error) => return Err(error),
        };
        Ok(match replay(output, &traces, Some(candidate)) {
            Ok(replayed) => Compared { traces, replayed: Some(replayed), failure: None },
            Err(error) => Compared { traces, replayed: None, failure: Some(error.to_string()) },
        })
    }
}

fn verdict(faults: u64, report: Option<&ReplayReport>) -> Span {
    match (faults, report.map(|report| report.different)) {
        (1.., _) => Span::styled(format_args!("it faults ({faults} times): do not deploy it"), Style::Error),
        (0, Some(1..)) => Span::styled("it can be deployed; look at what it decides otherwise", Style::Warning),
        (0, _) => Span::styled("it can be deployed", Style::Success),
    }
}
