//! `cortex-mcp why`: the state that something is in, and the decisions that led there, from a trace.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::model::WallMs;
use cortex_mcp::model::style::Style;
use cortex_mcp::trace::why::{Condition, Question, Row, SHOWN_DEFAULT, SHOWN_MAX, Since, WhyError, WhyReport};

use super::client::GatewayAddress;
use super::common::spinner;
use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};
use super::traces::usual_trace;

/// Tells in sentences what state something is in, and the chain of decisions that led there.
///
/// The answer comes from a trace alone, also from one of another machine: times are relative to its last moment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp why server-01                         a connector
  cortex-mcp why server-01__echo --since 10m       a tool
  cortex-mcp why service-map --trace incident/     the service map, in a copied trace
  cortex-mcp why registry/my-server --all          an entry of the registry
  cortex-mcp why connector/server-01/breaker --json | jq -r '.decisions[].sentence'

Exit codes: 0 told, 1 the trace can not be read or knows no such thing, 2 wrong usage.")]
pub(crate) struct Why {
    /// A connector, a tool, `service-map`, `registry`, an entry of the registry, or the path of a subject.
    #[arg(value_name = "SUBJECT")]
    subject: String,

    /// Tell decisions from this time on: in UTC, as 2026-01-01T12:00:00Z, or a span before the trace's end, as 10m.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,

    /// A trace file, or a folder of them; by default the configured folder, or that of the running gateway. Repeatable.
    #[arg(long = "trace", value_name = "PATH")]
    traces: Vec<PathBuf>,

    /// Tell so many decisions at most, the newest.
    #[arg(long, value_name = "NUMBER", default_value_t = SHOWN_DEFAULT, value_parser = at_least_one)]
    limit: usize,

    /// Tell all decisions.
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    #[command(flatten)]
    address: GatewayAddress,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=SHOWN_MAX).contains(number));
    number.ok_or_else(|| format!("write a number from 1 to {SHOWN_MAX}"))
}

impl Why {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let traces = if self.traces.is_empty() { vec![usual_trace(&self.address).await?] } else { self.traces };
        let limit = if self.all { SHOWN_MAX } else { self.limit };
        let question = Question { subject: self.subject, since: self.since, limit };
        let spinner = spinner(*output, "reading the trace");
        let answer = question.answer(&traces);
        spinner.finish_and_clear();
        let report = answer?;
        output.value(&report);
        if !output.is_json() {
            tell(*output, &report);
        }
        Ok(Exit::Good)
    }
}

impl From<WhyError> for CommandError {
    fn from(error: WhyError) -> Self {
        match error {
            WhyError::Trace(error) => error.into(),
            other => Self::Why(other),
        }
    }
}

fn tell(output: Output, report: &WhyReport) {
    let style = match report.condition {
        Condition::Good => Style::Success,
        Condition::Doubtful => Style::Warning,
        Condition::Bad => Style::Error,
    };
    output.spans([format_args!("{}: ", report.subject).into(), Span::styled(&report.headline, style)]);
    for sentence in &report.summary {
        output.line(format_args!("  {sentence}"));
    }
    let policy = report.policy.as_ref().map(|policy| {
        let own = policy.family.is_empty() || policy.family == policy.digest.to_string();
        let family = if own { String::new() } else { format!(" ({})", policy.family) };
        format!("; the policy {}{family} decides", shorten(&policy.digest.to_string(), 12).trim_end_matches('…'))
    });
    output.line(format_args!(
        "  Times are as of {}, the last moment of the trace{}.",
        report.as_of,
        policy.unwrap_or_default()
    ));
    if report.torn > 0 {
        output.line("  The last line is incomplete and is skipped: a gateway crashed there, or is writing it.");
    }
    output.line("");
    output.line(heading(report));
    let mut day = None;
    for row in &report.chain {
        if day != Some(row.at.0 / DAY_MS) {
            day = Some(row.at.0 / DAY_MS);
            output.line(format_args!("  {}", date(row.at)));
        }
        output.line(format_args!("  {:<24} {:<11} {}", times(row), row.about, row.sentence));
    }
}

/// What the chain holds of how much.
fn heading(report: &WhyReport) -> String {
    let since = report.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    let decisions = if report.total == 1 { "1 decision".to_owned() } else { format!("{} decisions", report.total) };
    match (report.chain.is_empty(), report.is_cut) {
        (true, _) => format!("no decisions on it{since}"),
        (false, true) => format!("the newest of {decisions} on it{since}, oldest first (--all or --limit tells more):"),
        (false, false) => format!("{decisions} on it{since}, oldest first:"),
    }
}

const DAY_MS: u64 = 86_400_000;

fn date(at: WallMs) -> String {
    let text = at.to_string();
    text.split_once('T').map_or(text.clone(), |(date, _)| date.to_owned())
}

/// `08:41:02.113`, or from when to when of folded ones.
fn times(row: &Row) -> String {
    let of_day = |at: WallMs| {
        let seconds = at.0 % DAY_MS / 1_000;
        (seconds / 3_600, seconds / 60 % 60, seconds % 60, at.0 % 1_000)
    };
    let (hour, minute, second, milli) = of_day(row.at);
    let first = format!("{hour:02}:{minute:02}:{second:02}.{milli:03}");
    if row.until <= row.at {
        return first;
    }
    let (hour, minute, second, _) = of_day(row.until);
    format!("{first} - {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use cortex_mcp::trace::TraceError;

    use super::*;
    use crate::cli::traces::holds_segments;

    #[test]
    fn rows_show_when_they_were_and_folded_ones_until_when() {
        let row = |at, until| Row { at: WallMs(at), until: WallMs(until), about: "lookup", sentence: String::new() };
        assert_eq!(times(&row(3_723_004, 3_723_004)), "01:02:03.004");
        assert_eq!(times(&row(3_723_004, 3_730_000)), "01:02:03.004 - 01:02:10");
    }

    #[test]
    fn a_folder_without_segments_is_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!holds_segments(&folder.path().to_owned()));
        assert!(!holds_segments(&folder.path().join("missing")));
        assert!(matches!(
            cortex_mcp::trace::TraceReader::open(&[folder.path().to_owned()]),
            Err(TraceError::Empty { .. })
        ));
    }
}
