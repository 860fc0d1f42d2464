//! `cortex-mcp registry export`.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::registry::formats::{ExportFormat, ExportNote, export};
use serde_json::json;

use super::open::{Opening, partly};
use super::output_file;
use super::show::{object, secrets};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, notice};

/// Writes the servers in the format of another program: registry, claude-desktop, claude-code, cursor, vscode, codex,
/// gemini, zed, windsurf or generic.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry export --format cursor
  cortex-mcp registry export --format vscode --reveal --output .vscode/mcp.json
  cortex-mcp registry export --reveal --output backup.json --force

Without --reveal, secrets are written as ***. A file that is written is for its owner alone (mode 0600).")]
pub(super) struct Export {
    /// The format.
    #[arg(long, value_name = "FORMAT", default_value = "registry")]
    format: ExportFormat,

    /// Write secrets too.
    #[arg(long)]
    reveal: bool,

    /// The file to write, instead of stdout.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file if it is there.
    #[arg(long, requires = "output")]
    force: bool,
}

impl Export {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        if let Some(path) = &self.output {
            output_file::refuse_own(path, opening)?;
        }
        let snapshot = opening.to_read()?.snapshot();
        let exit = partly(output, &snapshot);
        if exit == Exit::Failed
            && let Some(reason) = snapshot.standing.reason()
        {
            // An empty file would be taken for an empty registry.
            return Err(cortex_mcp::registry::StoreError::ReadOnly(reason.clone()).into());
        }
        let entries: Vec<_> = snapshot.entries().map(|entry| object(entry.json())).collect();
        let exported = export(&entries, self.format, secrets(self.reveal));
        let notes = notes(&exported.notes);
        match &self.output {
            Some(path) => {
                output_file::write(path, exported.text.as_bytes(), self.force)?;
                output.value(&json!({ "ok": true, "format": self.format.as_str(), "file": path, "notes": notes,
                                      "servers": entries.len() }));
                output.line(format_args!("{} servers in {}", entries.len(), path.display()));
            }
            None if output.is_json() => output.value(&json!({ "ok": true, "format": self.format.as_str(),
                "text": exported.text, "notes": notes, "servers": entries.len() })),
            None => output.document(exported.text.trim_end()),
        }
        if !output.is_json() {
            for note in &exported.notes {
                notice(note);
            }
        }
        Ok(exit)
    }
}

/// Notes for machines.
pub(super) fn notes(notes: &[ExportNote]) -> Vec<serde_json::Value> {
    notes.iter().map(|note| json!({ "server": note.server, "message": note.remark.to_string() })).collect()
}
