//! `cortex-mcp registry list`.

use clap::Args;
use cortex_mcp::registry::connector_id;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::add::TransportName;
use super::open::{Opening, partly};
use super::show::{masked, object, raw, secrets, state_value, target, told_state};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span, notice, shorten};

/// Lists the servers: also changes that another program acknowledged and has not put into the file yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry list
  cortex-mcp registry list --transport stdio
  cortex-mcp registry list --json | jq -r '.servers[].name'
  cortex-mcp registry list --json --reveal > backup.json

Exit codes: 0 listed, 1 the registry can not be read, 3 it can be read in part.")]
pub(super) struct List {
    /// Only those with this transport.
    #[arg(long, value_name = "TRANSPORT", value_enum)]
    transport: Option<TransportName>,

    /// Show secrets too.
    #[arg(long)]
    reveal: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    servers: Vec<Box<RawValue>>,
    states: Vec<Value>,
    problems: &'a [String],
    standing: &'a cortex_mcp::registry::Standing,
    generation: u64,
}

impl List {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let snapshot = opening.to_read()?.snapshot();
        let secrets = secrets(self.reveal);
        let is_wanted = |json: &str| {
            let Some(wanted) = self.transport else { return true };
            object(json).get("transport").and_then(Value::as_str).and_then(TransportName::of) == Some(wanted)
        };
        let entries: Vec<_> = snapshot.entries().filter(|entry| is_wanted(entry.json())).collect();
        output.value(&Listed {
            servers: entries.iter().map(|entry| raw(entry.json(), secrets)).collect(),
            states: entries.iter().map(|entry| state_value(entry)).collect(),
            problems: &snapshot.problems,
            standing: &snapshot.standing,
            generation: snapshot.generation,
        });
        if !output.is_json() {
            let mut table = output.table(&["name", "transport", "endpoint or command", "connector", "state"]);
            for entry in &entries {
                let shown = if self.reveal { object(entry.json()) } else { masked(entry.json()) };
                let transport = shown.get("transport").and_then(Value::as_str).unwrap_or_default();
                table.add_row([
                    Span::from(&entry.name),
                    transport.into(),
                    shorten(&target(&shown), 100).into(),
                    connector_id(&entry.name).into(),
                    told_state(entry),
                ]);
            }
            if entries.is_empty() {
                output.line("no servers; add one with `cortex-mcp registry add`, or `cortex-mcp registry import`");
            } else {
                output.rows(&table);
            }
            for problem in &*snapshot.problems {
                notice(problem);
            }
        }
        Ok(partly(output, &snapshot))
    }
}
