//! `cortex-mcp replay`: the decisions of a trace, made again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use cortex_mcp::model::style::Style;
use cortex_mcp::policy::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY, InstanceUse, PolicyComponent};
use cortex_mcp::trace::{FirstDifference, Replay as Replaying, ReplayReport, TraceReader};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};
use super::traces::usual_trace;

/// Makes every decision of a trace again, with the recorded state, times and seed, and compares.
///
/// Without --policy each decision is made by the very component that made it: the embedded default, or the copy that a
/// gateway keeps beside its trace. With it, by that component: what differs is what would have been decided otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp replay
  cortex-mcp replay /var/lib/cortex/mcp/trace --json
  cortex-mcp replay incident.jsonl --policy my-policy.wasm --family cortex-default

Exit codes: 0 all equal, 1 something differs, 3 equal as far as it could be replayed: components are missing.")]
pub(crate) struct Replay {
    /// Trace files, or folders of them; by default the configured folder, or that of the running gateway.
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,

    #[command(flatten)]
    candidate: CandidateFlags,

    #[command(flatten)]
    address: GatewayAddress,
}

/// Flags that bring another policy.
#[derive(Clone, Debug, Args)]
pub(crate) struct CandidateFlags {
    /// Let this component decide instead.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Whose memos it is given; by default only its own digest's. The embedded default is of the family cortex-default.
    #[arg(long, value_name = "NAME", requires = "policy")]
    family: Option<String>,

    /// Use its instances again, as `reuse = true` in gateway.toml does.
    #[arg(long, requires = "policy")]
    reuse: bool,
}

impl CandidateFlags {
    fn component(&self) -> Result<Option<Arc<PolicyComponent>>, CommandError> {
        let Some(path) = &self.policy else { return Ok(None) };
        read_candidate(path, self.family.as_deref(), self.reuse).map(Some)
    }
}

/// Reads a policy that is to be compared. The embedded default is known as what it is.
pub(crate) fn read_candidate(
    path: &Path,
    family: Option<&str>,
    reuse: bool,
) -> Result<Arc<PolicyComponent>, CommandError> {
    let instances = if reuse { InstanceUse::Reused } else { InstanceUse::Fresh };
    let component = PolicyComponent::read(path, family, instances)?;
    if family.is_none() && component.bytes()[..] == *EMBEDDED_COMPONENT {
        return Ok(Arc::new(PolicyComponent::load(EMBEDDED_COMPONENT, EMBEDDED_FAMILY, InstanceUse::Reused)?));
    }
    Ok(Arc::new(component))
}

impl Replay {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let traces = if self.traces.is_empty() { vec![usual_trace(&self.address).await?] } else { self.traces };
        let candidate = self.candidate.component()?;
        let replayed = replay(*output, &traces, candidate.clone())?;
        let Replayed { report, torn, unknown } = &replayed;
        let mut value = serde_json::to_value(report).unwrap_or_default();
        value["torn_lines"] = (*torn).into();
        value["unknown_lines"] = (*unknown).into();
        output.value(&value);
        tell(*output, &replayed, candidate.is_some());
        Ok(match report {
            ReplayReport { different: 1.., .. } => Exit::Failed,
            ReplayReport { skipped: 1.., .. } => Exit::Partly,
            _ => Exit::Good,
        })
    }
}

/// What came of a replay.
pub(crate) struct Replayed {
    pub(crate) report: ReplayReport,
    pub(crate) torn: u64,
    pub(crate) unknown: u64,
}

/// Replays, and shows how far it is.
pub(crate) fn replay(
    output: Output,
    traces: &[PathBuf],
    candidate: Option<Arc<PolicyComponent>>,
) -> Result<Replayed, CommandError> {
    let mut reader = TraceReader::open(traces)?;
    let mut replaying = candidate.map_or_else(Replaying::same, Replaying::through);
    let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new(reader.progress().1) };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % of {total_bytes}, {msg} decisions") {
        bar.set_style(style);
    }
    let mut lines = 0u64;
    while let Some(entry) = reader.next_entry()? {
        replaying.take(&entry)?;
        lines += 1;
        if lines.is_multiple_of(LINES_BETWEEN_LOOKS) {
            let (read, total) = reader.progress();
            bar.set_length(total.max(read));
            bar.set_position(read);
            bar.set_message(lines.to_string());
        }
    }
    bar.finish_and_clear();
    Ok(Replayed { report: replaying.report(), torn: reader.torn(), unknown: reader.unknown() })
}

/// How often the progress is shown.
const LINES_BETWEEN_LOOKS: u64 = 1_000;

/// Rows of the summary that are told.
const ROWS_TOLD: usize = 20;

/// Fields of the first difference that are told.
const FIELDS_TOLD: usize = 12;

/// Tells people what came of it.
pub(crate) fn tell(output: Output, replayed: &Replayed, through_another: bool) {
    let Replayed { report, torn, unknown } = replayed;
    if let Some(first) = &report.first_difference {
        tell_first(output, first);
    }
    if !report.summary.is_empty() {
        let mut table = output.table(&["function", "subject", "different"]);
        for row in report.summary.iter().take(ROWS_TOLD) {
            table.add_row([row.function.name().into(), Span::from(&row.subject), row.different.into()]);
        }
        output.rows(&table);
        let told: u64 = report.summary.iter().take(ROWS_TOLD).map(|row| row.different).sum();
        if report.different > told {
            output.line(format_args!("... and {} in other rows (--json tells more)", report.different - told));
        }
        output.line("");
    }
    if report.records == 0 {
        output.line("the trace holds no decision: nothing was compared");
    }
    let verb = if through_another { "decided alike" } else { "equal" };
    let style = if report.different == 0 { Style::Success } else { Style::Error };
    output.spans([
        format_args!("{} decisions: {} {verb}, ", report.records, report.equal).into(),
        Span::styled(report.different, style),
        format_args!(" different, {} skipped", report.skipped).into(),
    ]);
    for missing in report.missing.iter().take(ROWS_TOLD) {
        output.line(format_args!(
            "{} were made by {} ({}): put policy-{}.wasm beside the trace, or name it with --policy",
            missing.decisions,
            missing.digest.short(12),
            shorten(&missing.reason, 100),
            missing.digest
        ));
    }
    for (count, what) in [
        (report.dropped, "decisions are missing from the trace: the gateway could not write them"),
        (*torn, "last lines are incomplete: a gateway crashed there, or is writing them"),
        (*unknown, "lines are of a kind that this version does not know"),
    ] {
        if count > 0 {
            output.line(format_args!("{count} {what}"));
        }
    }
}

fn tell_first(output: Output, first: &FirstDifference) {
    output.line(format_args!(
        "first difference: {} on {}, decision {} ({}), {}:{}",
        first.function.name(),
        first.subject,
        first.sequence,
        first.moment.wall,
        first.file,
        first.line
    ));
    let mut table = output.table(&["field", "recorded", "replayed"]);
    for field in first.fields.iter().take(FIELDS_TOLD) {
        table.add_row([Span::from(&field.field), told(&field.recorded).into(), told(&field.replayed).into()]);
    }
    output.rows(&table);
    if first.fields.len() > FIELDS_TOLD {
        output.line(format_args!("... and {} more fields", first.fields.len() - FIELDS_TOLD));
    }
    output.line("");
}

fn told(value: &Value) -> String {
    match value {
        Value::String(text) => shorten(text, 60),
        Value::Null => "-".to_owned(),
        other => shorten(&other.to_string(), 60),
    }
}
