//! `cortex-mcp registry journal`.

use clap::{Args, Subcommand};
use cortex_mcp::model::WallMs;
use cortex_mcp::model::style::Style;
use cortex_mcp::registry::formats::Secrets;
use cortex_mcp::registry::{RecordReport, SegmentReport, journals};
use serde_json::{Value, json};

use super::open::{Opening, in_file};
use super::show::{masked, raw, secrets, target};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span, shorten};

/// Reads the journals: changes that are acknowledged and perhaps not in the file yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry journal dump
  cortex-mcp registry journal dump --json | jq '.journals[].problem'")]
pub(super) struct Journal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints every record of the journals, damaged journals too. Writes nothing.
    #[command(after_help = "Examples:
  cortex-mcp registry journal dump
  cortex-mcp registry journal dump servers.json.damaged-gateway-0001f2d3c4b5a-000001-00c0ffee00c0ffee
  cortex-mcp registry journal dump --json --reveal")]
    Dump {
        /// Only this file of the registry's folder.
        #[arg(value_name = "FILE")]
        file: Option<String>,

        /// Show secrets too.
        #[arg(long)]
        reveal: bool,
    },
}

impl Journal {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let Command::Dump { file, reveal } = self.command;
        let place = opening.place()?;
        let found = match opening.folder(&place)? {
            Some(disk) => journals(&disk, &place.file).map_err(in_file(&place.folder))?,
            None => Vec::new(),
        };
        let is_wanted = |journal: &&SegmentReport| file.as_ref().is_none_or(|file| *file == journal.file);
        let wanted: Vec<_> = found.iter().filter(is_wanted).collect();
        if let (Some(file), true) = (&file, wanted.is_empty()) {
            return Err(CommandError::NoJournal { file: file.clone() });
        }
        let secrets = secrets(reveal);
        output.value(&json!({ "journals": wanted.iter().map(|journal| value(journal, secrets)).collect::<Vec<_>>() }));
        if !output.is_json() {
            for journal in &wanted {
                tell(output, journal, secrets);
            }
            if wanted.is_empty() {
                output.line("there are no journals: everything that was acknowledged is in the file");
            }
        }
        Ok(Exit::Good)
    }
}

fn value(journal: &SegmentReport, secrets: Secrets) -> Value {
    let record = |record: &RecordReport| {
        let entry = record.entry.as_ref().map(|entry| raw(entry.get(), secrets));
        json!({ "sequence": record.sequence, "durableUpto": record.durable_upto, "name": record.name,
                "wallMs": record.wall_ms, "removes": record.removes, "entry": entry })
    };
    json!({ "file": journal.file, "writer": journal.writer, "number": journal.number, "inUse": journal.in_use,
            "problem": journal.problem, "records": journal.records.iter().map(record).collect::<Vec<_>>() })
}

fn tell(output: Output, journal: &SegmentReport, secrets: Secrets) {
    let lives = match journal.in_use {
        Some(true) => Span::styled("in use", Style::Success),
        Some(false) => Span::styled("its writer has ended", Style::Warning),
        None => Span::from("whether it is in use cannot be told"),
    };
    let records = format_args!(", {} records", journal.records.len());
    output.spans([format_args!("{}: ", journal.file).into(), lives, records.into()]);
    if let Some(problem) = &journal.problem {
        output.spans([Span::from("  "), Span::styled(problem, Style::Error)]);
    }
    for record in &journal.records {
        let at = record.wall_ms.map(|at| WallMs(at).to_string()).unwrap_or_default();
        let what = match (&record.name, &record.entry) {
            (Some(name), Some(entry)) if secrets == Secrets::Revealed => format!("puts {name}: {}", entry.get()),
            (Some(name), Some(entry)) => format!("puts {name}: {}", shorten(&target(&masked(entry.get())), 80)),
            (Some(name), None) => format!("removes {name}"),
            (None, _) => "ends the journal, or can not be understood".to_owned(),
        };
        output.line(format_args!("  {:>6}  {at:<24}  {what}", record.sequence));
    }
}
